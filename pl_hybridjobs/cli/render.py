"""What people see in a terminal: rich tables, readable without colour and when piped."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pl_hybridjobs.cli.doctor import Finding
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.cost.ledger import Cost
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


_PIPED_WIDTH = 1000  # a program or a file has no edge at which lines must be cut
_LEAST_DETAIL = 12


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=_PIPED_WIDTH)


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
    console = _console()
    names = ("NAME", "STATUS", "AGE", "TRY", "DEVICE")
    rows = [
        (job["name"], job["status"], age(job["created"]) if "created" in job else "", str(job.get("attempt", "")), job.get("device", ""))
        for job in jobs
    ]
    widths = [max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(names)]
    grid = Table(box=None, pad_edge=False)
    for name, width in zip(names, widths, strict=True):
        grid.add_column(name, no_wrap=True, min_width=width)  # rich would cut these for the sake of a long detail
    left = max(_LEAST_DETAIL, console.width - sum(width + 1 for width in widths))
    grid.add_column("DETAIL", no_wrap=True)
    for (name, status, *others), job in zip(rows, jobs, strict=True):
        detail = Text(job["detail"])
        detail.truncate(left, overflow="ellipsis")
        grid.add_row(Text(name), _status(status), *map(Text, others), detail)
    console.print(grid, soft_wrap=True)  # on a very narrow terminal lines run over; nothing is lost
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
    if job["place"]:
        grid.add_row("runs as", Text(job["place"]))
    if job["continues"]:
        grid.add_row("continues", Text(job["continues"]))
    grid.add_row("cost", Text(job["cost"]["text"]))
    for device, part in job["cost"]["by_device"].items():
        grid.add_row("", Text(f"{device}: {part['usd']} USD, {part['tasks']} tasks"))
    if job["budget"]:
        grid.add_row("budget", Text(", ".join(f"{name}={limit}" for name, limit in job["budget"].items())))
    grid.add_row("folder", Text(job["folder"]))
    _console().print(grid)


def budget(limits: Budget, cost: Cost) -> None:
    """What was spent, by device, and what may be."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("budget", Text(str(limits)))
    grid.add_row("spent", Text(str(cost)))
    for device, part in cost.by_device.items():
        grid.add_row("", Text(f"{device}: {part}"))
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
