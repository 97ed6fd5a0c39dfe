// A log that follows: the end first, new lines as they come, older ones when asked for.

import { get, job as address, paced } from "/static/api.js";
import { h } from "/static/dom.js";
import { listen, rows } from "/static/live.js";

const MOST_LINES = 5000;
const COLOURS = /\x1b\[[0-9;:]*m/g;

export class Log {
  constructor(place, id) {
    this.id = id;
    this.first = null; // where the lines begin: {attempt, place}
    this.last = null; // and end
    this.mark = null;
    this.lines = h("div", { class: "lines" });
    this.older = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.before() }, "Show earlier lines");
    this.empty = h("p", { class: "empty small", hidden: true }, "Nothing printed yet. What the function prints appears here as it comes.");
    this.box = h("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Log", "aria-live": "off", onscroll: () => this.scrolled() }, this.older, this.lines, this.empty);
    this.follow = h("input", { type: "checkbox", id: "follow", checked: true, onchange: () => { if (this.follow.checked) this.toEnd(); } });
    this.times = h("input", { type: "checkbox", id: "times", onchange: () => this.box.classList.toggle("timed", this.times.checked) });
    place.append(h("div", { class: "tools" }, h("h2", null, "Log"), h("span", { class: "grow" }), h("label", null, this.times, " Times"), h("label", null, this.follow, " Follow")), this.box);
    this.load = paced(() => this.fetch(), 300);
    this.stop = listen((changed) => { if (changed.has(id) && this.markNow() !== this.mark) this.load(); });
    this.load();
  }

  close() { this.stop(); }

  markNow() { const row = rows.get(this.id); return row ? `${row.attempt}:${row.marks?.log}` : null; }

  async fetch() {
    const mark = this.markNow();
    if (this.last === null) {
      const piece = await get(address(this.id, "/log"), { way: "newest" });
      if (piece.attempt) {
        this.first = { attempt: piece.attempt, place: piece.start };
        this.last = { attempt: piece.attempt, place: piece.end };
        this.older.hidden = !piece.more;
        if (piece.attempt > 1) this.append(this.made(`-- attempt ${piece.attempt}`));
        this.append(...this.many(piece.text));
      }
    } else {
      for (let more = true; more;) {
        const piece = await get(address(this.id, "/log"), { way: "after", attempt: this.last.attempt, place: this.last.place });
        if (piece.attempt > this.last.attempt) this.append(this.made(`-- attempt ${piece.attempt}`));
        const moved = piece.attempt !== this.last.attempt || piece.end !== this.last.place;
        this.last = { attempt: piece.attempt, place: piece.end };
        this.append(...this.many(piece.text));
        more = piece.more && moved;
      }
    }
    this.mark = mark;
    this.empty.hidden = this.lines.children.length > 0;
  }

  async before() {
    const piece = await get(address(this.id, "/log"), { way: "before", attempt: this.first.attempt, place: this.first.place });
    const made = this.many(piece.text);
    if (piece.attempt && piece.attempt < this.first.attempt) made.unshift(this.made(`-- attempt ${piece.attempt}`));
    this.older.hidden = !piece.more;
    if (piece.attempt) this.first = { attempt: piece.attempt, place: piece.start };
    const height = this.box.scrollHeight;
    this.lines.prepend(...made);
    this.follow.checked = false;
    this.box.scrollTop += this.box.scrollHeight - height;
  }

  many(text) { return text ? text.replace(/\n$/, "").split("\n").map((line) => this.made(line)) : []; }

  made(line) {
    const cut = /^\d{4}-\d\d-\d\dT[\d:.]+Z /.test(line) ? line.indexOf(" ") : -1;
    const text = line.slice(cut + 1).replace(COLOURS, "");
    const own = text.startsWith("-- ") ? "line own" : "line";
    const time = cut > 0 ? new Date(line.slice(0, cut)).toLocaleTimeString() : null;
    return h("div", { class: own, "data-time": time, title: cut > 0 ? line.slice(0, cut) : null }, text || " ");
  }

  append(...made) {
    if (!made.length) return;
    this.lines.append(...made);
    if (this.follow.checked) {
      while (this.lines.children.length > MOST_LINES) this.forget();
      this.toEnd();
    }
  }

  // The top is cut off, and can't be asked for again without a gap: the button goes; reopening the page brings all back.
  forget() {
    this.lines.firstChild.remove();
    this.older.hidden = true;
  }

  toEnd() { this.box.scrollTop = this.box.scrollHeight; }

  scrolled() {
    const away = this.box.scrollHeight - this.box.clientHeight - this.box.scrollTop;
    this.follow.checked = away < 24;
  }
}
