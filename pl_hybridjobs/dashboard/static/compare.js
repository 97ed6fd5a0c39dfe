// Several jobs side by side, or a sweep: curves over each other, parallel coordinates, a table.

import { get, paced } from "/static/api.js";
import { h, s, say, sorter, status } from "/static/dom.js";
import { Curves, swatch } from "/static/curves.js";
import * as format from "/static/format.js";
import { known, listen, rows } from "/static/live.js";

const CHUNK = 50; // jobs in one question
const MOST_CURVES = 16;
const FIRST_CURVES = 8;
const [WIDTH, HEIGHT, TOP, BOTTOM] = [960, 280, 44, 24];

// jobs: which rows belong here, asked again as they come.
export function compareView(view, title, jobs) {
  document.title = `${title} · hybridjobs`;
  const glances = new Map(); // id -> {mark, glance}
  const drawnCurves = []; // ids, in the order of their colours
  const brushes = new Map(); // axis -> [low, high] as shares of its height
  let chosen = false; // the user picked curves
  let sort = { key: null, down: false };
  let what = "last";
  let hovered = null;

  const heading = h("h1", null, title);
  const count = h("p", { class: "muted sub" });
  const curvesBox = h("section", { class: "card", "aria-label": "Curves" });
  const parallel = h("section", { class: "card", "aria-label": "Parallel coordinates" });
  const tableBox = h("section", { class: "card", "aria-label": "Comparison table" });
  view.replaceChildren(h("nav", { "aria-label": "Back" }, h("a", { href: "#/" }, "← Jobs")), h("div", { class: "jobhead" }, heading, count), curvesBox, parallel, tableBox);
  const curves = new Curves(curvesBox, []);
  const picker = h("select", { id: "value", onchange: () => { what = picker.value; draw(); } }, h("option", { value: "last" }, "last"), h("option", { value: "min" }, "lowest"), h("option", { value: "max" }, "highest"));

  const list = () => jobs().sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
  const markOf = (row) => JSON.stringify([row.marks?.metrics, row.marks?.cost]);

  const load = paced(async () => {
    const stale = list().filter((row) => glances.get(row.id)?.mark !== markOf(row));
    for (let i = 0; i < stale.length; i += CHUNK) {
      const part = stale.slice(i, i + CHUNK);
      const marks = part.map(markOf);
      const answers = await get("/api/glances", { id: part.map((row) => row.id) });
      part.forEach((row, index) => { if (answers[row.id]) glances.set(row.id, { mark: marks[index], glance: answers[row.id] }); });
      draw();
    }
  }, 1500);

  function columns(all) {
    const seen = all.map((row) => glances.get(row.id)?.glance).filter(Boolean);
    const params = [...new Set(seen.flatMap((one) => Object.keys(one.params)))];
    const varying = params.filter((name) => all.length === 1 || new Set(seen.map((one) => JSON.stringify(one.params[name]))).size > 1);
    const metrics = [...new Set(seen.flatMap((one) => Object.keys(one.metrics)))];
    return [
      ...varying.map((name) => ({ key: `p:${name}`, name, kind: "argument", of: (row) => glances.get(row.id)?.glance.params[name] })),
      ...metrics.map((name) => ({ key: `m:${name}`, name, kind: "metric", of: (row) => glances.get(row.id)?.glance.metrics[name]?.[what] })),
    ];
  }

  const numeric = (value) => (typeof value === "number" ? value : typeof value === "string" && value.trim() !== "" && Number.isFinite(Number(value)) ? Number(value) : null);

  function pick(all) {
    const ids = new Set(all.map((row) => row.id));
    for (const id of [...drawnCurves]) if (!ids.has(id)) drawnCurves.splice(drawnCurves.indexOf(id), 1);
    if (!chosen) {
      for (const row of all) if (drawnCurves.length < FIRST_CURVES && !drawnCurves.includes(row.id)) drawnCurves.push(row.id);
    }
    const now = drawnCurves.map((id) => ({ id, name: rows.get(id)?.name ?? id }));
    if (JSON.stringify(now) !== JSON.stringify(curves.jobs)) curves.setJobs(now);
  }

  function toggle(id) {
    chosen = true;
    const at = drawnCurves.indexOf(id);
    if (at >= 0) drawnCurves.splice(at, 1);
    else if (drawnCurves.length < MOST_CURVES) drawnCurves.push(id);
    else say(`At most ${MOST_CURVES} curves`);
    draw();
  }

  // Each axis maps a row to a share of its height, 0 at the bottom.
  function axes(all, given) {
    return given.map((column) => {
      const values = all.map(column.of);
      const numbers = values.map(numeric).filter((value) => value !== null);
      const isNumeric = numbers.length > 0 && values.every((value) => value === null || value === undefined || numeric(value) !== null || value === "nan" || value === "inf" || value === "-inf");
      if (isNumeric) {
        const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
        const share = (value) => (high > low ? (value - low) / (high - low) : 0.5);
        return { ...column, at: (row) => { const value = numeric(column.of(row)); return value === null || !Number.isFinite(value) ? null : share(value); }, labels: high > low ? [[0, format.number(low, 4)], [1, format.number(high, 4)]] : [[0.5, format.number(low, 4)]], isNumeric };
      }
      const kinds = [...new Set(values.filter((value) => value !== null && value !== undefined).map(String))].sort();
      const share = (text) => (kinds.length > 1 ? kinds.indexOf(text) / (kinds.length - 1) : 0.5);
      return { ...column, at: (row) => { const value = column.of(row); return value === null || value === undefined ? null : share(String(value)); }, labels: kinds.slice(0, 8).map((text) => [share(text), text.length > 14 ? `${text.slice(0, 13)}…` : text]) };
    });
  }

  const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
  const passes = (row, all) => all.every((axis) => {
    const brush = brushes.get(axis.key);
    const at = axis.at(row);
    return !brush || (at !== null && at >= brush[0] && at <= brush[1]);
  });

  function drawParallel(all, given) {
    const shown = axes(all, given).filter((axis) => new Set(all.map((row) => axis.at(row))).size > 1);
    if (all.length < 2 || shown.length < 2) { parallel.hidden = true; return shown; }
    parallel.hidden = false;
    const step = (WIDTH - 120) / (shown.length - 1);
    const x = (index) => 60 + index * step;
    const inside = all.filter((row) => passes(row, shown));
    const line = (row, kind) => {
      const points = shown.map((axis, index) => [x(index), axis.at(row)]).filter(([, at]) => at !== null).map(([left, at]) => `${left.toFixed(1)},${y(at).toFixed(1)}`);
      const at = drawnCurves.indexOf(row.id);
      return s("polyline", { points: points.join(" "), class: `${kind} ${at >= 0 ? `s${at % 8}` : ""} ${row.id === hovered ? "hovered" : ""}`, "data-id": row.id });
    };
    const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "parallel", role: "img", "aria-label": `Parallel coordinates of ${all.length} jobs; the table below has the same numbers` },
      all.filter((row) => !inside.includes(row)).map((row) => line(row, "out")), inside.map((row) => line(row, "in")),
      shown.map((axis, index) => axisOf(axis, x(index), index, shown.length)));
    const clear = h("button", { type: "button", class: brushes.size ? "quiet" : "quiet ghost", onclick: () => { brushes.clear(); draw(); } }, "Clear brushes");
    parallel.replaceChildren(h("div", { class: "tools" }, h("h2", null, "Parallel coordinates"), h("span", { class: "muted hint" }, "Drag along an axis to pick a range."), h("span", { class: "grow" }), clear), h("div", { class: "scroll" }, svg));
    return shown;
  }

  function axisOf(axis, left, index, length) {
    const anchor = index === 0 ? "start" : index === length - 1 ? "end" : "middle";
    const shift = index === 0 ? -50 : index === length - 1 ? 50 : 0;
    const brush = brushes.get(axis.key);
    const side = index === length - 1 ? 8 : -8;
    return s("g", { class: "axis" },
      s("text", { x: left + shift, y: 14, "text-anchor": anchor, class: axis.kind }, axis.name.length > 20 ? `${axis.name.slice(0, 19)}…` : axis.name, s("title", null, axis.name)),
      s("line", { x1: left, x2: left, y1: y(1), y2: y(0) }),
      axis.labels.map(([at, text]) => (axis.isNumeric && at !== 0.5
        ? s("text", { x: left, y: at ? y(1) - 9 : y(0) + 18, "text-anchor": "middle", class: "tick" }, text)
        : s("text", { x: left + side, y: y(at) + 4, "text-anchor": side > 0 ? "start" : "end", class: "tick" }, text))),
      brush ? s("rect", { x: left - 6, width: 12, y: y(brush[1]), height: Math.max(2, y(brush[0]) - y(brush[1])), class: "brush" }) : "",
      s("rect", { x: left - 12, width: 24, y: y(1) - 6, height: y(0) - y(1) + 12, class: "grip", onpointerdown: (event) => startBrush(event, axis) }));
  }

  function startBrush(event, axis) {
    const box = event.target.ownerSVGElement.getBoundingClientRect(); // now: each move draws another one in its place
    const share = (moved) => {
      const at = ((moved.clientY - box.top) / box.height) * HEIGHT;
      return Math.max(0, Math.min(1, 1 - (at - TOP) / (HEIGHT - TOP - BOTTOM)));
    };
    const begin = share(event);
    const move = (moved) => {
      const now = share(moved);
      if (Math.abs(now - begin) < 0.02) brushes.delete(axis.key);
      else brushes.set(axis.key, [Math.min(begin, now), Math.max(begin, now)]);
      draw();
    };
    const end = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", end); };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    brushes.delete(axis.key);
    draw();
    event.preventDefault();
  }

  function drawTable(all, given, shown) {
    const column = given.find((one) => one.key === sort.key);
    const order = (row) => (sort.key === "name" ? row.name : sort.key === "status" ? row.status : column?.of(row));
    const sorted = all.filter((row) => passes(row, shown));
    if (sort.key) {
      const sign = sort.down ? -1 : 1;
      sorted.sort((a, b) => {
        const [one, other] = [order(a), order(b)];
        const [left, right] = [numeric(one), numeric(other)];
        if (left !== null && right !== null) return sign * (left - right);
        if (left !== null || right !== null) return left !== null ? -1 : 1;
        return sign * String(one ?? "").localeCompare(String(other ?? ""));
      });
    }
    const head = (key, text, number) => {
      const direction = sort.key === key ? (sort.down ? "descending" : "ascending") : null;
      return h("th", { scope: "col", "aria-sort": direction, class: number ? "number" : null }, sorter(text, direction, () => { sort = { key, down: sort.key === key && !sort.down }; draw(); }));
    };
    const focus = tableBox.contains(document.activeElement) ? [...tableBox.querySelectorAll("button, input, a")].indexOf(document.activeElement) : -1;
    tableBox.replaceChildren(
      h("div", { class: "tools" }, h("h2", null, "Table"), h("span", { class: "grow" }), h("label", null, "Metrics show the ", picker, " value")),
      h("div", { class: "scroll" }, h("table", null,
        h("caption", { class: "hidden" }, "Jobs with their arguments and metrics"),
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Curve"), head("name", "Name"), head("status", "Status"), given.map((one) => head(one.key, one.name, all.some((row) => numeric(one.of(row)) !== null))))),
        h("tbody", null, sorted.map((row) => {
          const at = drawnCurves.indexOf(row.id);
          return h("tr", { "data-id": row.id, class: row.id === hovered ? "current" : null, onpointerenter: () => hover(row.id), onpointerleave: () => hover(null) },
            h("td", { class: "check" }, h("input", { type: "checkbox", "aria-label": `Draw the curve of ${row.name}`, checked: at >= 0, onchange: () => toggle(row.id) }), at >= 0 ? swatch(at) : null),
            h("th", { scope: "row" }, h("a", { href: `#/job/${encodeURIComponent(row.id)}` }, row.name)), h("td", null, status(row.status)),
            given.map((one) => { const value = one.of(row); return h("td", { class: numeric(value) !== null || /^(nan|-?inf)$/.test(value) ? "number" : null }, typeof value === "string" ? value : value === undefined ? "" : typeof value === "boolean" ? String(value) : format.number(value)); }));
        })))));
    if (focus >= 0) [...tableBox.querySelectorAll("button, input, a")][focus]?.focus();
  }

  function hover(id) {
    hovered = id;
    for (const line of parallel.querySelectorAll("polyline")) line.classList.toggle("hovered", line.dataset.id === id);
  }

  function draw() {
    const all = list();
    if (!all.length) {
      count.textContent = known ? "None of these jobs is there (any more)." : "Looking for jobs …";
      curvesBox.hidden = parallel.hidden = tableBox.hidden = true;
      return;
    }
    curvesBox.hidden = tableBox.hidden = false;
    const counts = new Map();
    for (const row of all) counts.set(row.status, (counts.get(row.status) ?? 0) + 1);
    count.textContent = `${all.length} ${all.length === 1 ? "job" : "jobs"}: ${[...counts].map(([name, number]) => `${number} ${name}`).join(", ")}`;
    pick(all);
    const given = columns(all);
    drawTable(all, given, drawParallel(all, given));
  }

  draw();
  load();
  const stop = listen(() => { draw(); load(); });
  return {
    close() { stop(); curves.close(); },
    key(event) {
      if (event.key !== "Escape") return false;
      if (brushes.size) { brushes.clear(); draw(); } else location.hash = "#/";
      return true;
    },
  };
}
