// All jobs, as the server's one stream of events tells them.

import { byId } from "/static/dom.js";

export const rows = new Map();
const listeners = new Set();
let source = null;
export let known = false; // all jobs have come

// Calls `listener(changed ids, whole)` after each change, until the returned function is called.
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function show(state, text) {
  const place = byId("connection");
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.textContent = text;
}

function take(message) {
  const event = JSON.parse(message.data);
  if (event.whole) rows.clear();
  for (const row of event.rows) rows.set(row.id, row);
  for (const id of event.gone) rows.delete(id);
  known = event.ready;
  show("live", "live");
  const changed = new Set([...event.rows.map((row) => row.id), ...event.gone]);
  for (const listener of [...listeners]) listener(changed, Boolean(event.whole));
}

export function connect() {
  source = new EventSource("/api/events");
  source.addEventListener("message", take);
  source.addEventListener("error", () => {
    show("lost", source.readyState === EventSource.CLOSED ? "ended" : "reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 10000);
  });
}

// The stream is closed while the page is hidden for long, so that forgotten tabs cost nothing.
let sleep = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(sleep);
  if (document.hidden) sleep = setTimeout(() => { source?.close(); source = null; }, 60000);
  else if (source === null) connect();
});
