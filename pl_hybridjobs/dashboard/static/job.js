// One job: its fate, curves, log, arguments, cost, checkpoints, files; cancel and resume.

import { change, get, job as address, paced, query } from "/static/api.js";
import { confirmed, h, progress, say, status, toast } from "/static/dom.js";
import { Curves } from "/static/curves.js";
import * as format from "/static/format.js";
import { listen, rows } from "/static/live.js";
import { Log } from "/static/log.js";

const when = (unix) => h("time", { datetime: format.iso(unix), title: format.moment(unix) }, `${format.age(unix)} ago`);

function facts(title, entries, none) {
  const given = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("section", { class: "card" }, h("h2", null, title), given.length
    ? h("dl", { class: "facts" }, given.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]))
    : h("p", { class: "muted" }, none));
}

function listed(title, heads, lines, none) {
  return h("section", { class: "card" }, h("h2", null, title, lines.length ? h("span", { class: "muted" }, ` ${lines.length}`) : null), lines.length
    ? h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", null, lines)))
    : h("p", { class: "muted" }, none));
}

const long = (text) => (text.length > 80 || text.includes("\n") ? h("pre", { tabindex: "0" }, text) : text);

export function jobView(view, id) {
  const head = h("div", { class: "jobhead" });
  const curves = h("section", { class: "card", "aria-label": "Curves" });
  const log = h("section", { class: "card", "aria-label": "Log" });
  const aside = h("aside", { class: "side", "aria-label": "Details" });
  view.replaceChildren(h("nav", { "aria-label": "Back" }, h("a", { href: "#/" }, "← Jobs")), head, h("div", { class: "split" }, h("div", { class: "main" }, curves, log), aside));
  const chart = new Curves(curves, [{ id, name: rows.get(id)?.name ?? id }]);
  const lines = new Log(log, id);
  let details = null;
  let seen = null; // the status that was shown last
  let drawn = "";
  let busy = "";

  const load = paced(async () => {
    try {
      details = await get(address(id));
      drawAside();
      drawHead();
    } catch (error) {
      if (rows.has(id)) toast(error.message);
      else gone(error.message);
    }
  }, 2000);

  function gone(text) {
    view.replaceChildren(h("div", { class: "empty" }, h("h1", null, "No such job"), h("p", null, text), h("a", { class: "button", href: "#/" }, "All jobs")));
  }

  async function act(verb, question, text, yes) {
    if (!(await confirmed(question, text, yes))) return;
    busy = verb;
    drawHead();
    const answer = await change(address(id, `/${verb}`));
    busy = "";
    drawHead();
    if (!answer) return;
    say(`${answer.name} is ${answer.status}`);
    if (answer.id !== id) location.hash = `#/job/${encodeURIComponent(answer.id)}`;
  }

  const cancel = (row) => act("cancel", `Cancel ${row.name}?`, "It and everything that it started is stopped: it has ten seconds to save its work, then it is killed. What it has bought stays bought.", "Cancel the job");

  const resume = (row) => act("resume", `Resume ${row.name}?`, ["failed", "cancelled"].includes(row.status)
    ? "This job has ended and stays as it is. A new job makes the same call, and goes on from a copy of its newest good checkpoint."
    : "It goes on from its newest good checkpoint, or from the beginning if there is none.", "Resume the job");

  function drawHead() {
    const row = rows.get(id);
    if (!row) return;
    document.title = `${row.name} · hybridjobs`;
    const now = JSON.stringify([row, busy, details?.progress, Math.floor(Date.now() / 1000)]);
    if (now === drawn) return;
    drawn = now;
    if (seen !== null && seen !== row.status) say(`${row.name} is ${row.status}`);
    seen = row.status;
    const focus = head.contains(document.activeElement) ? document.activeElement.id : "";
    const began = row.started ?? row.created;
    const standing = details?.progress;
    head.replaceChildren(
      h("div", { class: "title" }, h("h1", null, row.name), status(row.status), standing && row.status !== "completed" ? progress(standing) : null,
        h("span", { class: "grow" }),
        row.can_cancel ? h("button", { type: "button", id: "cancel", disabled: busy !== "", onclick: () => cancel(row) }, busy === "cancel" ? "Cancelling …" : "Cancel") : null,
        row.can_resume ? h("button", { type: "button", id: "resume", class: "primary", disabled: busy !== "", onclick: () => resume(row) }, busy === "resume" ? "Resuming …" : "Resume") : null),
      h("p", { class: "muted sub" }, [
        ["submitted ", when(row.created)],
        row.status === "running" ? [`running for ${format.duration(Date.now() / 1000 - began)}`] : null,
        row.ended && row.started ? [`took ${format.duration(row.ended - began)}`] : null,
        row.attempt > 1 ? [`attempt ${row.attempt}`] : null,
        row.device ? [h("span", { title: row.device }, format.device(row.device))] : null,
        row.sweep ? [h("a", { href: `#/sweep/${encodeURIComponent(row.sweep)}` }, "its sweep")] : null,
        row.continues ? ["goes on with ", h("a", { href: `#/job/${encodeURIComponent(row.continues)}` }, rows.get(row.continues)?.name ?? row.continues)] : null,
      ].filter(Boolean).flatMap((part, index) => (index ? [" · ", ...part] : part))),
      row.detail && row.detail !== row.status && row.status !== "completed" ? h("p", { class: "detail", role: "note" }, row.detail) : "");
    if (focus) (head.querySelector(`#${focus}`) ?? head.querySelector("button"))?.focus();
  }

  function drawAside() {
    const row = rows.get(id) ?? {};
    const name = row.name ?? id;
    const cost = details.cost;
    aside.replaceChildren(
      details.error?.traceback ? h("section", { class: "card" }, h("h2", null, details.error.type || "Error"), h("p", null, details.error.message), h("pre", { tabindex: "0" }, details.error.traceback)) : "",
      details.problems.length ? h("section", { class: "card" }, h("h2", null, "Damaged"), details.problems.map((text) => h("p", null, text))) : "",
      facts("Arguments", Object.entries(details.params).map(([key, value]) => [key, long(value)]), "The function was called without arguments."),
      details.result !== null ? h("section", { class: "card" }, h("h2", null, "Result"), h("pre", { tabindex: "0" }, details.result)) : "",
      h("section", { class: "card" }, h("h2", null, "Cost"), cost
        ? [h("p", { class: "big" }, format.usd(cost.usd), cost.estimated ? h("span", { class: "muted" }, " partly estimated") : null), h("p", { class: "muted" }, cost.text),
          h("dl", { class: "facts" }, Object.entries(cost.devices).map(([device, part]) => [h("dt", null, device), h("dd", null, part)])),
          details.budget?.max_usd && cost.usd !== null ? meter(cost.usd, details.budget.max_usd) : null]
        : h("p", { class: "muted" }, "Nothing bought."),
      details.budget ? h("p", { class: "muted" }, `Budget: ${details.budget.text}.`) : null),
      listed("Checkpoints", ["Step", "Saved", "Size", "State"], details.checkpoints.toReversed().map((one) => h("tr", null, h("td", { class: "number" }, format.count(one.step)), h("td", null, one.time ? when(one.time) : "–"), h("td", { class: "number" }, format.bytes(one.bytes)), h("td", null, one.good ? "good" : one.problem))), "None. train() and save_checkpoint() make them; with one, a killed job resumes."),
      listed("Files", ["Name", "Size"], details.files.map((one) => h("tr", null, h("td", null, h("a", { href: query(address(id, "/file"), { path: one.path }), download: one.path.split("/").at(-1) }, one.path)), h("td", { class: "number" }, format.bytes(one.bytes)))), "None. What the function writes into its working folder is kept and can be saved from here."),
      facts("About", [["function", row.function], ["device", row.device], ["runner", row.runner], ["id", h("code", null, id)],
        ...Object.entries(row.tags ?? {}).map(([key, value]) => [`tag ${key}`, value]),
        ...Object.entries(details.resources).map(([key, value]) => [key, long(value)]),
        ...Object.entries(details.provenance).map(([key, value]) => [key.replaceAll("_", " "), long(value)]),
        ["folder", h("code", null, details.folder)],
        ["in a terminal", h("code", null, `hybridjobs show ${/^[\w.+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`}`)]], ""));
  }

  function meter(spent, most) {
    const share = Number(most) > 0 ? Math.min(1, Number(spent) / Number(most)) : 1;
    return h("p", null, h("progress", { max: 1, value: share, "aria-label": "share of the budget" }), ` ${Math.round(100 * share)} % of ${format.usd(most)}`);
  }

  drawHead();
  load();
  const clock = setInterval(drawHead, 1000);
  const markOf = (row) => JSON.stringify([row?.marks, row?.status]);
  let mark = markOf(rows.get(id));
  const stop = listen((changed) => {
    if (!changed.has(id)) return;
    chart.jobs[0].name = rows.get(id)?.name ?? id;
    drawHead();
    if (markOf(rows.get(id)) !== mark) { mark = markOf(rows.get(id)); load(); }
  });
  return {
    close() { stop(); clearInterval(clock); chart.close(); lines.close(); },
    key(event) {
      if (event.key !== "Escape") return false;
      location.hash = "#/";
      return true;
    },
  };
}
