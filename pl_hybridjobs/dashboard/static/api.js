// The server's answers. Changes carry a header that no other page can send.

import { toast } from "/static/dom.js";

async function answer(response) {
  if (response.status === 401) throw new Error("The dashboard was started again: open the new link that it printed.");
  const body = await response.json().catch(() => ({ error: `The dashboard answered ${response.status}.` }));
  if (!response.ok) throw new Error(body.error);
  return body;
}

export function query(path, parameters = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined) search.append(name, one);
    }
  }
  return `${path}?${search}`;
}

export const get = async (path, parameters) => answer(await fetch(query(path, parameters)));

export async function change(path) {
  try {
    return await answer(await fetch(path, { method: "POST", headers: { "X-Hybridjobs": "1" } }));
  } catch (error) {
    toast(error.message);
    return null;
  }
}

export const job = (id, part = "") => `/api/jobs/${encodeURIComponent(id)}${part}`;

// Lets `work` run once at a time and at most every `pause` milliseconds, however often it is asked for; the last ask is never lost.
export function paced(work, pause) {
  let busy = false;
  let again = false;
  const run = async () => {
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    try { await work(); } catch (error) { console.warn(error); }
    setTimeout(() => { busy = false; if (again) run(); }, pause);
  };
  return run;
}
