// Live curves of one or several jobs: a chart for each metric. The server thins and smooths; zooming in asks it for what is in between.

import { get, paced } from "/static/api.js";
import { h, say } from "/static/dom.js";
import * as format from "/static/format.js";
import { listen, rows } from "/static/live.js";

const uPlot = window.uPlot;
const HEIGHT = 220;
const FIRST = 6; // charts that are shown before one chooses
const DASHES = [[], [7, 4], [2, 3]];
const COLOURS = 8;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (index) => style(`--series-${index % COLOURS}`);
export const dash = (index) => DASHES[Math.floor(index / COLOURS) % DASHES.length];

// A short line as it is drawn in the charts.
export const swatch = (index) => h("span", { class: `swatch s${index % COLOURS} d${Math.floor(index / COLOURS) % DASHES.length}`, "aria-hidden": "true" });

export class Curves {
  // jobs: [{id, name}], in the order of their colours.
  constructor(place, jobs) {
    this.jobs = jobs;
    this.place = place;
    this.names = null; // all metrics
    this.shown = new Set(); // those with a chart
    this.options = { x: "step", smooth: 0, log: false };
    this.range = null; // [low, high] where one zoomed in
    this.charts = new Map();
    this.grid = h("div", { class: "charts" });
    this.chooser = h("div", { class: "chips", role: "group", "aria-label": "Metrics" });
    this.empty = h("p", { class: "empty small", hidden: true }, "No metrics yet. Inside the job, ", h("code", null, "log_metric(\"energy\", value)"), " draws a curve here while it runs.");
    this.tools = this.makeTools();
    place.append(this.tools, this.empty, this.grid);
    this.load = paced(() => this.fetch(), 500);
    this.stop = listen((changed) => { if (this.jobs.some((job) => changed.has(job.id) && this.isStale(job.id))) this.load(); });
    this.marks = new Map();
    this.width = 0;
    this.resize = new ResizeObserver(() => this.fit());
    this.resize.observe(this.grid);
    this.themed = () => { for (const chart of this.charts.values()) chart.redraw(); };
    addEventListener("hybridjobs-theme", this.themed);
    this.load();
  }

  close() {
    this.closed = true;
    this.stop();
    this.resize.disconnect();
    removeEventListener("hybridjobs-theme", this.themed);
    for (const chart of this.charts.values()) chart.destroy();
  }

  setJobs(jobs) {
    this.jobs = jobs;
    this.names = null;
    this.load();
  }

  isStale(id) {
    const mark = rows.get(id)?.marks?.metrics;
    return this.marks.get(id) !== mark;
  }

  makeTools() {
    const set = (change) => { Object.assign(this.options, change); this.load(); };
    const smooth = h("input", { type: "range", id: "smooth", min: 0, max: 0.99, step: 0.01, value: 0, oninput: () => { weight.textContent = Number(smooth.value).toFixed(2); set({ smooth: Number(smooth.value) }); } });
    const weight = h("output", { for: "smooth" }, "0.00");
    const log = h("input", { type: "checkbox", id: "log", onchange: () => { this.options.log = log.checked; this.rebuild(); } });
    const axis = h("select", { id: "axis", onchange: () => { this.range = null; set({ x: axis.value }); } },
      h("option", { value: "step" }, "step"), h("option", { value: "time" }, "time"));
    this.reset = h("button", { type: "button", hidden: true, onclick: () => this.zoom(null) }, "See all");
    return h("div", { class: "tools charttools", hidden: true }, this.chooser, h("span", { class: "grow" }),
      h("label", null, "Over ", axis), h("label", null, "Smooth ", smooth, " ", weight), h("label", null, log, " Log scale"), this.reset);
  }

  async fetch() {
    if (this.closed || !this.jobs.length) { this.draw([]); return; }
    const ids = this.jobs.map((job) => job.id);
    const marks = ids.map((id) => [id, rows.get(id)?.marks?.metrics]);
    if (this.names === null || this.marksChanged(marks)) await this.findNames(ids);
    const curves = this.shown.size ? await get("/api/series", {
      job: ids, name: [...this.shown], x: this.options.x, smooth: this.options.smooth || null,
      from: this.range?.[0], to: this.range?.[1], columns: Math.max(100, Math.round(this.columnWidth() * devicePixelRatio)),
    }) : [];
    if (this.closed) return;
    this.marks = new Map(marks);
    this.draw(curves);
  }

  marksChanged(marks) { return marks.some(([id, mark]) => this.marks.get(id) !== mark); }

  async findNames(ids) {
    const glances = await get("/api/glances", { id: ids });
    const names = [...new Set(ids.flatMap((id) => Object.keys(glances[id]?.metrics ?? {})))];
    const fresh = names.filter((name) => !(this.names ?? []).includes(name));
    for (const name of fresh) if (this.shown.size < FIRST) this.shown.add(name);
    for (const name of this.shown) if (!names.includes(name)) this.shown.delete(name);
    if (JSON.stringify(names) !== JSON.stringify(this.names)) { this.names = names; this.drawChooser(); }
  }

  drawChooser() {
    this.empty.hidden = this.names.length > 0;
    this.tools.hidden = this.names.length === 0;
    this.chooser.replaceChildren(...(this.names.length < 2 ? [] : this.names.map((name, index) => h("button", { type: "button", class: "chip", "aria-pressed": String(this.shown.has(name)),
      onclick: () => {
        if (!this.shown.delete(name)) this.shown.add(name);
        this.drawChooser();
        this.chooser.children[index].focus();
        this.load();
      } }, name))));
  }

  draw(curves) {
    for (const [name, chart] of this.charts) {
      if (!this.shown.has(name)) { chart.destroy(); this.charts.delete(name); }
    }
    for (const name of (this.names ?? []).filter((one) => this.shown.has(one))) {
      const mine = curves.filter((curve) => curve.name === name);
      if (!mine.length) continue;
      if (!this.charts.has(name)) this.charts.set(name, new Chart(this, name));
      this.charts.get(name).set(mine);
      this.grid.append(this.charts.get(name).figure);
    }
    if (this.grid.children.length) this.fit();
  }

  rebuild() { for (const chart of this.charts.values()) { chart.describe(); chart.build(); } }

  columnWidth() { return this.charts.size ? [...this.charts.values()][0].plotWidth() : Math.min(700, this.place.clientWidth || 600); }

  fit() {
    if (this.grid.clientWidth === this.width && this.fitted === this.charts.size) return;
    this.width = this.grid.clientWidth;
    this.fitted = this.charts.size;
    for (const chart of this.charts.values()) chart.fit();
  }

  zoom(range) {
    this.range = range;
    this.reset.hidden = range === null;
    this.load();
  }
}

class Chart {
  constructor(owner, name) {
    this.owner = owner;
    this.name = name;
    this.curves = [];
    this.plot = null;
    this.readout = h("div", { class: "readout" });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.note = h("figcaption", { class: "muted" });
    this.canvas = h("div", { class: "plot", tabindex: "0", role: "img", onkeydown: (event) => this.key(event) });
    this.figure = h("figure", { class: "chart" }, h("div", { class: "charthead" }, h("h3", null, name), this.readout), this.canvas, this.note);
  }

  destroy() {
    this.plot?.destroy();
    this.figure.remove();
  }

  plotWidth() { return this.canvas.clientWidth || 600; }

  fit() { this.plot?.setSize({ width: this.plotWidth(), height: HEIGHT }); }

  redraw() { this.build(); }

  index(id) { return this.owner.jobs.findIndex((job) => job.id === id); }

  set(curves) {
    const shape = (given) => given.map((curve) => [curve.job, Boolean(curve.smooth)].join()).join(";");
    const same = shape(curves) === shape(this.curves);
    this.curves = curves;
    this.describe();
    if (this.plot && same) this.plot.setData(this.data());
    else this.build();
  }

  describe() {
    const several = this.owner.jobs.length > 1;
    const parts = this.curves.map((curve) => `${several ? `${this.owner.jobs[this.index(curve.job)]?.name}: ` : ""}last ${format.number(curve.last)}, lowest ${format.number(curve.min)}, highest ${format.number(curve.max)}`);
    this.canvas.setAttribute("aria-label", `${this.name} over ${this.owner.options.x}. ${parts.join("; ")}. Arrow keys read values, plus and minus zoom.`);
    const [all, drawn] = [this.curves.reduce((sum, one) => sum + one.count, 0), this.curves.reduce((sum, one) => sum + one.raw.x.length, 0)];
    const linear = this.owner.options.log && !this.isLog() ? "no value is positive: the scale stays linear" : "";
    const thinned = this.curves.some((one) => one.count > 4 * one.raw.x.length);
    this.note.textContent = linear || (thinned && !this.owner.range ? `${format.count(drawn)} of ${format.count(all)} points; extremes are kept, zoom in for all` : "");
    this.readLast();
  }

  // Beside the name where no cursor is: the last values.
  readLast() {
    this.read(this.curves.map((curve) => [this.index(curve.job), curve.last]), this.curves.length ? Math.max(...this.curves.map((curve) => curve.step)) : null, this.owner.options.x === "step");
  }

  read(values, at, isStep) {
    const few = values.length <= 4 ? values : [];
    const place = at === null ? null : isStep ? `step ${format.count(at)}` : this.owner.options.x === "time" ? `${format.duration(at)}` : null;
    this.readout.replaceChildren(...few.map(([index, value]) => h("span", { class: "value" }, this.owner.jobs.length > 1 ? swatch(index) : null, format.number(value))),
      ...(place ? [h("span", { class: "muted" }, place)] : []));
  }

  isLog() { return this.owner.options.log && this.curves.some((curve) => curve.max > 0); }

  // uPlot labels axes of numbers between 1e-16 and 1e16. What is beyond (a loss that diverges) is drawn in a power of ten.
  unit() {
    const size = Math.max(0, ...this.curves.map((curve) => Math.max(Math.abs(curve.min), Math.abs(curve.max))));
    return size === 0 || (size > 1e-9 && size < 1e12) ? 1 : 10 ** Math.max(-300, Math.min(300, Math.floor(Math.log10(size))));
  }

  // Columns for uPlot: x, then for each curve the values in units, and where it is smoothed the smoothed ones.
  data() {
    const unit = this.unit();
    const clean = (y) => (this.isLog() || unit !== 1 ? y.map((value) => (value === null || (this.isLog() && value <= 0) ? null : value / unit)) : y);
    const tables = this.curves.flatMap((curve) => [[curve.raw.x, clean(curve.raw.y)], ...(curve.smooth ? [[curve.smooth.x, clean(curve.smooth.y)]] : [])]);
    return tables.length === 1 ? tables[0] : uPlot.join(tables);
  }

  series() {
    return this.curves.flatMap((curve) => {
      const index = this.index(curve.job);
      const line = (extra) => ({ label: this.name, stroke: colour(index), width: 1.75, dash: dash(index), points: { show: (u, i) => u.data[i].filter((value) => value !== null && value !== undefined).length < 40, size: 5, fill: colour(index) }, ...extra });
      return curve.smooth ? [line({ alpha: 0.25, width: 1, points: { show: false } }), line({ width: 2, points: { show: false } })] : [line({})];
    });
  }

  build() {
    this.plot?.destroy();
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const step = this.owner.options.x === "step";
    const options = {
      width: this.plotWidth(), height: HEIGHT, legend: { show: false }, padding: [10, 12, 0, 0],
      series: [{}, ...this.series()],
      scales: {
        x: { time: false, range: (u, low, high) => this.across(low, high) },
        y: this.isLog() ? { distr: 3, range: (u, low, high) => (low > 0 ? uPlot.rangeLog(low, high, 10, false) : [0.1, 1]) } : {},
      },
      axes: [
        { ...axis, size: 30, values: (u, ticks) => ticks.map((tick) => (step ? (Number.isInteger(tick) ? format.number(tick, 7) : "") : format.duration(tick))) },
        { ...axis, grid: { ...axis.grid, filter: (u, ticks) => this.lines(u, ticks) }, size: (u, labels) => Math.max(44, ...(labels ?? []).map((label) => 14 + 7 * (label?.length ?? 0))), values: (u, ticks) => this.labels(ticks) },
      ],
      cursor: {
        y: false, sync: { key: "hybridjobs", scales: ["x", null] }, drag: { x: true, y: false, setScale: false },
        points: { size: 7, show: (u, i) => (this.curves.some((curve) => curve.smooth) && i % 2 === 1 ? false : undefined) },
        dataIdx: (u, i, at) => nearest(u.data[i], at) ?? at,
        bind: { dblclick: () => () => { this.owner.zoom(null); return null; } },
      },
      hooks: {
        setCursor: [(u) => this.point(u)],
        setSelect: [(u) => {
          if (u.select.width < 3) return;
          this.owner.zoom([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    };
    this.plot = new uPlot(options, this.data(), this.canvas);
    this.tip.hidden = true;
    this.plot.over.append(this.tip);
  }

  // All labels of an axis with as many digits as it takes to tell them apart.
  labels(places) {
    const unit = this.unit();
    const ticks = unit === 1 ? places : places.map((place) => (place === null ? null : Number((place * unit).toPrecision(12))));
    const shown = ticks.filter((tick) => tick !== null);
    const digits = [3, 4, 5, 6, 8, 10, 12].find((n) => new Set(shown.map((tick) => format.number(tick, n))).size === new Set(shown).size) ?? 12;
    return ticks.map((tick) => (tick === null ? null : format.number(tick, digits)));
  }

  // Over many decades only their powers have lines.
  lines(u, ticks) {
    const { min, max } = u.scales.y;
    return this.isLog() && max / min > 1e3 ? ticks.map((tick) => (Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9 ? tick : null)) : ticks;
  }

  across(low, high) {
    if (this.owner.range) return this.owner.range;
    if (low === null || low === undefined) return [0, 1];
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  }

  point(u) {
    const at = u.cursor.idx;
    this.tip.hidden = at === null || at === undefined || this.curves.length < 2;
    if (at === null || at === undefined) { this.readLast(); return; }
    const doubled = this.curves.some((curve) => curve.smooth);
    const values = this.curves.map((curve, i) => {
      const column = u.data[doubled ? 2 * i + 2 : i + 1];
      const near = nearest(column, at);
      return [this.index(curve.job), near === null ? null : column[near] * this.unit()];
    });
    this.read(values, u.data[0][at], this.owner.options.x === "step");
    if (!this.tip.hidden) this.showTip(u, values);
  }

  // Beside the cursor: the value of each job, the highest first.
  showTip(u, values) {
    const known = values.filter(([, value]) => value !== null && value !== undefined).sort((a, b) => b[1] - a[1]);
    this.tip.replaceChildren(...known.map(([index, value]) => h("div", null, swatch(index), h("span", { class: "tipname" }, this.owner.jobs[index].name), h("b", null, format.number(value)))));
    const right = u.cursor.left > u.over.clientWidth / 2;
    this.tip.style.left = right ? "" : `${u.cursor.left + 12}px`;
    this.tip.style.right = right ? `${u.over.clientWidth - u.cursor.left + 12}px` : "";
  }

  key(event) {
    const u = this.plot;
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    const { min, max } = u.scales.x;
    const about = (factor) => {
      const middle = u.cursor.idx === null || u.cursor.idx === undefined ? (min + max) / 2 : u.data[0][u.cursor.idx];
      this.owner.zoom([middle - (middle - min) * factor, middle + (max - middle) * factor]);
    };
    const along = (by) => {
      const last = u.data[0].length - 1;
      const index = Math.max(0, Math.min(last, (u.cursor.idx ?? (by > 0 ? -1 : last + 1)) + by));
      u.setCursor({ left: u.valToPos(u.data[0][index], "x"), top: HEIGHT / 3 });
      say(this.readout.textContent);
    };
    const jump = event.shiftKey ? 10 : 1;
    const keys = { ArrowLeft: () => along(-jump), ArrowRight: () => along(jump), "+": () => about(0.5), "=": () => about(0.5), "-": () => about(2), 0: () => this.owner.zoom(null) };
    if (!(event.key in keys)) return;
    keys[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }
}

// The index of the value closest to a place; null where a column has none. Columns of several jobs have holes.
function nearest(column, at) {
  for (let away = 0; away < column.length; away += 1) {
    for (const index of [at - away, at + away]) {
      if (column[index] !== null && column[index] !== undefined) return index;
    }
  }
  return null;
}
