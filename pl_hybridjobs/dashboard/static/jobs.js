// The list of jobs: filter, sort, select. Rows are made as far as one scrolls; what they say of metrics is asked for when they are seen.

import { get, paced } from "/static/api.js";
import { h, progress, say, sorter, sparkline, status } from "/static/dom.js";
import * as format from "/static/format.js";
import { known, listen, rows } from "/static/live.js";

const PAGE = 100;
const STATUSES = ["running", "queued", "created", "completed", "failed", "cancelled", "interrupted", "unknown"];
const COLUMNS = [
  ["name", "Name", (row) => row.name],
  ["status", "Status", (row) => STATUSES.indexOf(row.status)],
  ["age", "Age", (row) => -row.created],
  ["progress", "Progress", null],
  ["metric", "Last metrics", null],
  ["device", "Device", (row) => row.device ?? ""],
  ["cost", "Cost", null],
];

// What stays while one looks at a job and comes back.
const kept = { text: "", status: "", sort: "age", down: false, selected: new Set(), current: null, top: 0 };
const glances = new Map(); // id -> {mark, glance}

const markOf = (row) => JSON.stringify([row.marks?.metrics, row.marks?.cost]);

// Words that must all be there; name=text is a tag.
export function matches(row, text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const [tag, value] = word.split("=", 2);
    if (value !== undefined) {
      return Object.entries(row.tags ?? {}).some(([name, given]) => name.toLowerCase() === tag && given.toLowerCase().startsWith(value));
    }
    const said = [row.name, row.id, row.status, row.device, row.function, ...Object.values(row.tags ?? {})];
    return said.some((part) => part?.toLowerCase().includes(word));
  });
}

export function jobsView(view) {
  document.title = "Jobs · hybridjobs";
  let shown = PAGE; // how many rows are made at most
  let found = [];
  const lines = new Map(); // id -> {tr, text}
  const seen = new Set(); // ids in sight

  const filter = h("input", { type: "search", id: "filter", placeholder: "Filter: name, device, tag=value", "aria-label": "Filter jobs", value: kept.text, autocomplete: "off", spellcheck: "false",
    oninput: () => { kept.text = filter.value; shown = PAGE; draw(); } });
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Status" });
  const compare = h("a", { class: "button primary", hidden: true });
  const clear = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => { kept.selected.clear(); draw(); } }, "Clear selection");
  const head = h("tr");
  const body = h("tbody");
  const table = h("table", { class: "jobs" }, h("caption", { class: "hidden" }, "Jobs, a row each"), h("thead", null, head), body);
  const end = h("div", { class: "end" });
  const empty = h("div", { class: "empty", hidden: true });
  view.replaceChildren(
    h("h1", { class: "hidden" }, "Jobs"),
    h("div", { class: "tools", role: "search" }, filter, chips, h("span", { class: "grow" }), clear, compare),
    h("div", { class: "scroll" }, table), empty, end);

  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) seen.add(entry.target.dataset.id);
      else seen.delete(entry.target.dataset.id);
    }
    look();
  }, { rootMargin: "200px" });
  const bottom = new IntersectionObserver((entries) => {
    if (entries[0].isIntersecting && shown < found.length) { shown += PAGE; draw(); }
  }, { rootMargin: "800px" });
  bottom.observe(end);

  // One question for all rows in sight whose numbers have changed.
  const look = paced(async () => {
    const stale = [...seen].filter((id) => rows.has(id) && glances.get(id)?.mark !== markOf(rows.get(id))).slice(0, 60);
    if (!stale.length) return;
    const marks = stale.map((id) => markOf(rows.get(id)));
    const answers = await get("/api/glances", { id: stale });
    stale.forEach((id, index) => {
      if (answers[id]) glances.set(id, { mark: marks[index], glance: answers[id] });
      line(id);
    });
    look(); // what was over the limit; ends when nothing is stale
  }, 1000);

  function cells(row) {
    const glance = glances.get(row.id)?.glance;
    const metrics = Object.entries(glance?.metrics ?? {});
    const tags = Object.entries(row.tags ?? {});
    const box = h("input", { type: "checkbox", "aria-label": `Select ${row.name}`, checked: kept.selected.has(row.id), onchange: () => select(row.id) });
    return [
      h("td", { class: "check" }, box),
      h("th", { scope: "row" },
        h("a", { href: `#/job/${encodeURIComponent(row.id)}`, class: "name" }, row.name),
        row.sweep ? h("a", { class: "tag", href: `#/sweep/${encodeURIComponent(row.sweep)}`, title: "Compare the jobs of this sweep" }, "sweep") : null,
        tags.slice(0, 3).map(([name, value]) => h("span", { class: "tag", title: `${name}=${value}` }, `${name}=${value}`))),
      h("td", null, status(row.status), row.detail && row.detail !== row.status && row.status !== "completed" ? h("span", { class: "detail", title: row.detail }, row.detail) : null),
      h("td", { class: "number" }, h("time", { datetime: format.iso(row.created), title: format.moment(row.created) }, format.age(row.created))),
      h("td", null, progress(glance?.progress)),
      h("td", { class: "metric" }, metrics.length
        ? [sparkline(glance.spark, `curve of ${metrics[0][0]}`), h("span", { title: metrics.map(([name, one]) => `${name} ${format.number(one.last)} (step ${one.step})`).join("\n") },
          h("span", { class: "muted" }, metrics[0][0]), ` ${format.number(metrics[0][1].last)}`)]
        : null),
      h("td", { class: "device", title: row.device }, format.device(row.device)),
      h("td", { class: "number" }, glance?.cost ? h("span", { title: glance.cost.text }, format.usd(glance.cost.usd)) : h("span", { class: "muted" }, glance ? "–" : "")),
    ];
  }

  function line(id) {
    const row = rows.get(id);
    let made = lines.get(id);
    if (!row) return null;
    const text = JSON.stringify([row, glances.get(id)?.glance, kept.selected.has(id), format.age(row.created)]);
    if (!made) {
      made = { tr: h("tr", { "data-id": id, onclick: (event) => { if (!event.target.closest("a, input, button")) location.hash = `#/job/${encodeURIComponent(id)}`; } }), text: "" };
      lines.set(id, made);
      sight.observe(made.tr);
    }
    if (made.text !== text) {
      const focused = made.tr.contains(document.activeElement) ? document.activeElement.matches("input") ? "input" : "a.name" : null;
      made.tr.replaceChildren(...cells(row));
      if (focused) made.tr.querySelector(focused)?.focus();
      made.text = text;
    }
    made.tr.classList.toggle("current", id === kept.current);
    made.tr.classList.toggle("selected", kept.selected.has(id));
    return made.tr;
  }

  function drawHead() {
    head.replaceChildren(h("th", { scope: "col", class: "check" }, h("span", { class: "hidden" }, "Select")), ...COLUMNS.map(([key, text, by]) => {
      const direction = kept.sort === key ? (kept.down ? "descending" : "ascending") : null;
      const number = key === "age" || key === "cost" ? "number" : null;
      return h("th", { scope: "col", "aria-sort": direction, class: number }, by ? sorter(text, direction, () => {
        kept.down = kept.sort === key && !kept.down;
        kept.sort = key;
        drawHead();
        draw();
      }) : text);
    }));
  }

  function drawChips(filtered) {
    const counts = new Map();
    for (const row of filtered) counts.set(row.status, (counts.get(row.status) ?? 0) + 1);
    const chip = (value, text, number) => h("button", { type: "button", class: "chip", "data-status": value, "aria-pressed": String(kept.status === value),
      onclick: () => { kept.status = kept.status === value ? "" : value; shown = PAGE; draw(); chips.querySelector(`[data-status="${value}"]`)?.focus(); } }, text, h("span", { class: "muted" }, ` ${number}`));
    chips.replaceChildren(chip("", "all", filtered.length), ...STATUSES.filter((one) => counts.has(one) || kept.status === one).map((one) => chip(one, one, counts.get(one) ?? 0)));
  }

  function draw() {
    const filtered = [...rows.values()].filter((row) => matches(row, kept.text));
    const by = COLUMNS.find(([key]) => key === kept.sort)[2];
    found = filtered.filter((row) => !kept.status || row.status === kept.status);
    const keys = new Map(found.map((row) => [row, by(row)]));
    const sign = kept.down ? -1 : 1;
    found.sort((a, b) => {
      const [one, other] = [keys.get(a), keys.get(b)];
      return sign * (one < other ? -1 : one > other ? 1 : 0) || b.created - a.created;
    });
    const trs = found.slice(0, shown).map((row) => line(row.id));
    if (trs.length !== body.children.length || trs.some((tr, index) => body.children[index] !== tr)) body.replaceChildren(...trs);
    drawChips(filtered);
    for (const id of kept.selected) if (!rows.has(id)) kept.selected.delete(id);
    compare.hidden = clear.hidden = kept.selected.size === 0;
    compare.textContent = `Compare ${kept.selected.size}`;
    compare.href = `#/compare/${[...kept.selected].map(encodeURIComponent).join(",")}`;
    table.hidden = !found.length;
    empty.hidden = Boolean(found.length);
    empty.replaceChildren(...(found.length ? [] : nothing()));
  }

  function nothing() {
    if (!known) return [h("p", null, "Looking for jobs …")];
    if (rows.size) {
      return [h("p", null, "No job fits the filter."), h("button", { type: "button", onclick: clearFilter }, "Show all jobs")];
    }
    return [
      h("h2", null, "No jobs yet"),
      h("p", null, "Run a function as a job, and it appears here by itself:"),
      h("pre", null, "from pl_hybridjobs import hybrid_job, log_metric\n\n@hybrid_job\ndef countdown(steps: int = 100):\n    for step in range(steps):\n        log_metric(\"left\", steps - step)\n\ncountdown()"),
      h("p", null, "or, in a terminal:"), h("pre", null, "hybridjobs run train.py:vqe --arg steps=100"),
    ];
  }

  function clearFilter() {
    kept.text = filter.value = "";
    kept.status = "";
    draw();
  }

  function select(id) {
    if (!kept.selected.delete(id)) kept.selected.add(id);
    draw();
    say(`${kept.selected.size} selected`);
  }

  function move(by) {
    const index = found.findIndex((row) => row.id === kept.current);
    const next = found[Math.max(0, Math.min(found.length - 1, index < 0 ? 0 : index + by))];
    if (!next) return;
    kept.current = next.id;
    while (found.indexOf(next) >= shown) shown += PAGE;
    draw();
    const link = lines.get(next.id).tr.querySelector("a.name");
    link.focus();
    link.scrollIntoView({ block: "nearest" });
  }

  drawHead();
  draw();
  scrollTo(0, kept.top);
  // Ages grow without any event.
  const clock = setInterval(() => { for (const id of seen) line(id); }, 1000);
  const pacedDraw = paced(async () => draw(), 250);
  const stop = listen(() => { pacedDraw(); look(); });

  return {
    close() { kept.top = scrollY; stop(); clearInterval(clock); sight.disconnect(); bottom.disconnect(); },
    key(event) {
      const keys = {
        j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
        x: () => { if (kept.current) select(kept.current); },
        c: () => { if (kept.selected.size) location.hash = compare.hash; },
        "/": () => filter.focus(),
        Escape: () => { if (kept.text || kept.status) clearFilter(); else document.activeElement?.blur(); },
      };
      if (!(event.key in keys)) return false;
      keys[event.key]();
      return true;
    },
  };
}
