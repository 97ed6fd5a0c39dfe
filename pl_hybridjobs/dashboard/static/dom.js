// Makes elements. Text is always text: nothing here, or anywhere on this page, can turn a string into HTML.

import * as format from "/static/format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// A shape for each status, so that no colour is needed to tell them apart.
const SHAPES = {
  completed: "M3 8.500 6.500 12 13 4.500",
  running: "M5 3.500v9l7-4.500z",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M8 2.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11M4.200 11.800l7.600-7.600",
  interrupted: "M5.500 3.500v9M10.500 3.500v9",
  queued: "M3.500 8h.01M8 8h.01M12.500 8h.01",
  created: "M8 2.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11",
  unknown: "M5.700 6a2.300 2.300 0 1 1 3.400 2c-.8.500-1.100.9-1.100 1.800M8 12.500h.01",
};

export function status(name) {
  const known = name in SHAPES ? name : "unknown";
  const icon = s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: SHAPES[known] }));
  return h("span", { class: `status ${known}` }, icon, name);
}

export function sparkline(points, label) {
  if (!points.length) return h("span", { class: "muted" }, "");
  const pairs = [];
  for (let i = 0; i < points.length; i += 2) pairs.push(`${points[i]},${points[i + 1]}`);
  const line = pairs.length > 1
    ? s("polyline", { points: pairs.join(" ") })
    : s("circle", { cx: 50, cy: 12, r: 2 });
  return s("svg", { class: "spark", viewBox: "-2 -1 104 26", role: "img", "aria-label": label, preserveAspectRatio: "none" }, line);
}

export function progress(value) {
  if (!value) return null;
  const percent = Math.floor((100 * value.done) / value.total);
  const left = value.left_s && value.done < value.total ? `, ${format.duration(value.left_s)} left` : "";
  return h("span", { class: "progress", title: `${value.done} of ${value.total} steps${left}` },
    h("progress", { max: value.total, value: value.done, "aria-label": "progress" }), ` ${percent} %`);
}

// A button that stands in a heading of a table and sorts by it.
export function sorter(text, direction, onclick) {
  const mark = direction === "ascending" ? "▲" : direction === "descending" ? "▼" : "";
  return h("button", { type: "button", class: "sorter", onclick }, text, h("span", { "aria-hidden": "true" }, mark));
}

// For screen readers: what changed without a click.
export const say = (text) => { byId("said").textContent = text; };

export function toast(text) {
  const close = h("button", { type: "button", class: "quiet", onclick: () => note.remove() }, "Close");
  const note = h("div", { class: "toast" }, h("span", null, text), close);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), 20000);
}

export function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
