// Starts the page: which view, the theme, the keyboard, what was spent.

import { get, paced } from "/static/api.js";
import { byId } from "/static/dom.js";
import { compareView } from "/static/compare.js";
import * as format from "/static/format.js";
import { jobView } from "/static/job.js";
import { jobsView } from "/static/jobs.js";
import { connect, listen, rows } from "/static/live.js";

const view = byId("view");
let shown = null;

function route() {
  const [, name = "", rest = ""] = location.hash.split("/");
  shown?.close();
  view.replaceChildren();
  if (name === "job") shown = jobView(view, decodeURIComponent(rest));
  else if (name === "sweep") {
    const id = decodeURIComponent(rest);
    shown = compareView(view, "Sweep", () => {
      const all = [...rows.values()].filter((row) => row.sweep === id);
      const replaced = new Set(all.map((row) => row.continues)); // who goes on with a job's work stands in its place
      return all.filter((row) => !replaced.has(row.id));
    });
  } else if (name === "compare") {
    const ids = rest.split(",").map(decodeURIComponent);
    shown = compareView(view, "Comparison", () => ids.map((id) => rows.get(id)).filter(Boolean));
  } else shown = jobsView(view);
  view.dataset.view = name || "jobs";
  if (name) { scrollTo(0, 0); view.focus({ preventScroll: true }); }
}

// Follows the system until one chooses.
function theme(change) {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const now = change ? !dark : dark;
  if (change) {
    root.dataset.theme = now ? "dark" : "light";
    localStorage.setItem("hybridjobs-theme", root.dataset.theme);
  }
  byId("theme").textContent = now ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${now ? "light" : "dark"} mode`);
  dispatchEvent(new Event("hybridjobs-theme"));
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input[type=search], select, textarea");
  if (typing && event.key !== "Escape") {
    if (event.key === "Enter" || event.key === "ArrowDown") { if (shown.key(new KeyboardEvent("keydown", { key: "j" }))) event.preventDefault(); }
    return;
  }
  if (event.key.startsWith("Arrow") && event.target.closest(".log, pre, .plot, input[type=range]")) return;
  if (event.key === "?") { byId("help").showModal(); event.preventDefault(); return; }
  if (shown.key(event)) event.preventDefault();
}

const spending = paced(async () => {
  const { cost, budget } = await get("/api/account");
  byId("spending").textContent = cost || budget ? `Spent ${format.usd(cost ? cost.usd : "0")}${budget?.max_usd ? ` of ${format.usd(budget.max_usd)}` : ""}` : "";
  byId("spending").title = [cost?.text, budget ? `budget: ${budget.text}` : ""].filter(Boolean).join("; ");
}, 5000);

// The token has done its work: a cookie is set, and the address can be shown to anybody.
if (location.search) history.replaceState(null, "", `/${location.hash}`);
addEventListener("hashchange", route);
addEventListener("keydown", key);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(false));
byId("theme").addEventListener("click", () => theme(true));
byId("help-button").addEventListener("click", () => byId("help").showModal());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
theme(false);
connect();
route();
let marks = "";
listen(() => {
  const now = [...rows.values()].map((row) => row.marks?.cost ?? 0).join();
  if (now !== marks) { marks = now; spending(); }
});
