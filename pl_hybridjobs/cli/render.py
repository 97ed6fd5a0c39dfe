"""What people see in a terminal: rich tables, readable without colour and when piped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pl_hybridjobs.cli.doctor import Finding
    from pl_hybridjobs.jobs.metrics import MetricTable

_COLOURS = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "cancelled": "yellow",
    "interrupted": "magenta",
    "ok": "green",
    "broken": "red",
    "missing": "yellow",
}
_BARS = "▁▂▃▄▅▆▇█"


def _console() -> Console:
    return Console(highlight=False)


def age(created: float) -> str:
    """How long ago, in one unit: ``45s``, ``12m``, ``3h``, ``8d``."""
    seconds = max(0.0, time.time() - created)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _status(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, ""))


def table(jobs: Sequence[dict[str, Any]], *, more: int = 0) -> None:
    """Jobs, a line each."""
    if not jobs:
        _console().print("No jobs.")
        return
    grid = Table(box=None, pad_edge=False)
    for column in ("NAME", "STATUS", "AGE", "TRY", "DEVICE"):
        grid.add_column(column, no_wrap=column != "DEVICE")
    grid.add_column("DETAIL", overflow="ellipsis", no_wrap=True)
    for job in jobs:
        grid.add_row(
            Text(job["name"]),
            _status(job["status"]),
            age(job["created"]) if "created" in job else "",
            str(job.get("attempt", "")),
            Text(job.get("device", "")),
            Text(job["detail"]),
        )
    console = _console()
    console.print(grid)
    if more > 0:
        console.print(f"... and {more} more; -n shows them")


def details(job: dict[str, Any]) -> None:
    """One job, a fact a line."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("name", Text(f"{job['name']} ({job['id']})"))
    grid.add_row("status", _status(job["status"]) + Text(f"  {job['detail']}"))
    grid.add_row("attempt", str(job.get("attempt", "")))
    grid.add_row("age", age(job["created"]))
    grid.add_row("function", Text(job["function"]))
    grid.add_row("device", Text(job["device"] or "none named"))
    grid.add_row("params", Text(", ".join(f"{name}={value!r}" for name, value in job["params"].items())))
    if job["tags"]:
        grid.add_row("tags", Text(", ".join(f"{name}={value}" for name, value in job["tags"].items())))
    grid.add_row("metrics", Text(", ".join(f"{name}={value}" for name, value in job["metrics"].items()) or "none"))
    good = [c["step"] for c in job["checkpoints"] if c["good"]]
    bad = [f"step {c['step']}: {c['problem']}" for c in job["checkpoints"] if not c["good"]]
    grid.add_row(
        "checkpoints",
        Text(", ".join([f"steps {', '.join(map(str, good))}" if good else "none good", *bad]) if job["checkpoints"] else "none"),
    )
    if job["provenance"].get("git_commit"):
        dirty = {True: " with changes", False: "", None: " (changes unknown)"}[job["provenance"].get("git_dirty")]
        grid.add_row("git", Text(f"{job['provenance']['git_commit'][:12]}{dirty}"))
    if job["continues"]:
        grid.add_row("continues", Text(job["continues"]))
    grid.add_row("cost", f"{job['cost']:.2f} USD")
    grid.add_row("folder", Text(job["folder"]))
    _console().print(grid)


def metrics(values: MetricTable) -> None:
    """A line for each metric, with a small curve."""
    if not values.names:
        _console().print("No metrics.")
        return
    grid = Table(box=None, pad_edge=False)
    for column in ("METRIC", "N", "STEP", "LAST", "MIN", "MAX", "CURVE"):
        grid.add_column(column, no_wrap=True, overflow="fold")
    for name in values.names:
        series = [float(v) for v in values[name]]
        finite = [v for v in series if v == v and abs(v) != float("inf")]
        low, high = (f"{min(finite):.6g}", f"{max(finite):.6g}") if finite else ("", "")
        grid.add_row(Text(name), str(len(series)), str(int(values.steps(name)[-1])), f"{series[-1]:.6g}", low, high, curve(finite))
    _console().print(grid)


def curve(values: Sequence[float], width: int = 16) -> str:
    """Values as a line of bars."""
    if not values:
        return ""
    count = min(width, len(values))
    picked = [values[i * len(values) // count] for i in range(count - 1)] + [values[-1]]
    low, span = min(picked), max(picked) - min(picked)
    return "".join(_BARS[int((v - low) / span * 7.999) if span else 0] for v in picked)


def findings(found: Sequence[Finding]) -> None:
    """What ``doctor`` found."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in found:
        grid.add_row(_status(finding.state), Text(finding.what), Text(finding.detail))
    _console().print(grid)
