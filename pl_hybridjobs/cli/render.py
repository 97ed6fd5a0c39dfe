"""What people see in a terminal: rich tables, readable without colour and when piped."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pl_hybridjobs.cli.charts import chart, curve
from pl_hybridjobs.jobs.progress import STEP_TIME, duration
from pl_hybridjobs.plain import plain

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
_PIPED_WIDTH = 1000  # a program or a file has no edge at which lines must be cut
_LEAST_DETAIL = 12
_WIDEST_CHART = 100


class _Console(Console):
    """Names, messages and logs of jobs cannot steer the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))


class _Piped:
    """A file or a pipe. Without the blanks that fill a table's last column: on a terminal at the pipe's end they would run over."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(re.sub(r" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def console() -> Console:
    """Where things are printed: as wide as the terminal; into a pipe or a file without control codes and without an edge."""
    made = _Console(highlight=False)
    if made.is_terminal:
        return made
    file = cast("IO[str]", _Piped(sys.stdout))  # it has all that rich asks of a file
    return _Console(highlight=False, width=None if "COLUMNS" in os.environ else _PIPED_WIDTH, file=file)


def age(created: float) -> str:
    """How long ago, in one unit: ``45s``, ``12m``, ``3h``, ``8d``."""
    seconds = max(0.0, time.time() - created)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _status(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, ""))


def table(found: Sequence[dict[str, Any]], *, more: int = 0) -> None:
    """Print jobs, a line each."""
    shown = console()
    shown.print(jobs(found, shown.width, more=more), soft_wrap=True)  # on a very narrow terminal lines run over; nothing is lost


def jobs(found: Sequence[dict[str, Any]], width: int, *, more: int = 0) -> RenderableType:
    """Jobs, a line each; columns that are empty, or for which there is no room, are left out."""
    if not found:
        return Text("No jobs.")
    columns = _fitting([column for column in map(_column, _COLUMNS, [found] * len(_COLUMNS)) if column.is_needed], width)
    taken = sum(column.width + 1 for column in columns)
    grid = Table(box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column.title, no_wrap=True, min_width=column.width)  # rich would cut these for the sake of a long detail
    grid.add_column("DETAIL", no_wrap=True)
    for row, job in enumerate(found):
        detail = Text(job["detail"])
        detail.truncate(max(_LEAST_DETAIL, width - taken), overflow="ellipsis")
        grid.add_row(*(column.cells[row] for column in columns), detail)
    return Group(grid, Text(f"... and {more} more; -n shows them")) if more > 0 else grid


@dataclass(frozen=True)
class _Column:
    """Of a list of jobs."""

    title: str
    cells: list[Text]

    @property
    def width(self) -> int:
        return max(len(self.title), *(cell.cell_len for cell in self.cells))

    @property
    def is_needed(self) -> bool:
        return self.title in _ALWAYS or any(cell.plain for cell in self.cells)


_ALWAYS = ("NAME", "STATUS", "AGE")
# What is left out first where there is no room.
_EXPENDABLE = ("TRY", "CURVE", "DEVICE", "COST", "METRIC", "PROGRESS", "AGE")
_COLUMNS: dict[str, Callable[[dict[str, Any]], Text]] = {
    "NAME": lambda job: Text(job["name"]),
    "STATUS": lambda job: _status(job["status"]),
    "AGE": lambda job: Text(age(job["created"]) if "created" in job else ""),
    "PROGRESS": lambda job: Text(_steps(job.get("progress"))),
    "METRIC": lambda job: Text(_metric(job.get("metric"))),
    "CURVE": lambda job: Text(curve((job.get("metric") or {}).get("curve", ()), 12)),
    "DEVICE": lambda job: Text(_short_device(job.get("device", ""))),
    "COST": lambda job: Text(f"{job['cost_usd']} USD" if job.get("cost_usd") else ""),
    "TRY": lambda job: Text(str(job["attempt"]) if job.get("attempt", 1) > 1 else ""),
}


def _column(title: str, found: Sequence[dict[str, Any]]) -> _Column:
    return _Column(title, [_COLUMNS[title](job) for job in found])


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    for title in _EXPENDABLE:
        if sum(column.width + 1 for column in columns) + _LEAST_DETAIL <= width:
            break
        columns = [column for column in columns if column.title != title]
    return columns


def _steps(progress: dict[str, Any] | None) -> str:
    if progress is None:
        return ""
    share = f" {100 * progress['done'] // progress['total']}%" if progress["total"] else ""
    return f"{progress['done']}/{progress['total']}{share}"


def _metric(metric: dict[str, Any] | None) -> str:
    if metric is None:
        return ""
    last = metric["last"]
    return f"{metric['name']} {last:.5g}" if isinstance(last, float) else f"{metric['name']} {last}"


def _short_device(name: str) -> str:
    """The end of an Amazon resource name says which machine it is."""
    return name.split("device/")[-1] if name.startswith("arn:") else name


def charts(values: MetricTable, *, log: bool = False) -> None:
    """Print a chart of each metric."""
    shown = console()
    if not values.names:
        shown.print("No metrics.")
    for name in values.names:
        shown.print(_chart(values, name, min(shown.width, _WIDEST_CHART), 9, log=log), soft_wrap=True)


def _chart(values: MetricTable, name: str, width: int, height: int, *, log: bool = False) -> Text:
    import numpy as np

    from pl_hybridjobs.curves import thin

    steps, points = values.steps(name), values[name]
    if log:
        points = np.where(points > 0, points, np.nan)
    at = thin(steps, points, float(steps[0]), float(steps[-1]), 4 * width)  # finer than the dots
    lines = chart(steps[at].tolist(), points[at].tolist(), width=width, height=height, log=log)
    return Text(f"{name} {values[name][-1]:.6g}", style="bold") + Text("\n" + "\n".join(lines), style="not bold")


def card(job: dict[str, Any], values: MetricTable, log: Sequence[str], shown: Console) -> list[RenderableType]:
    """One job as ``watch`` shows it: facts, progress, curves, the end of the log."""
    width, height = min(shown.width, _WIDEST_CHART), shown.height if shown.is_terminal else 40
    head = Text(job["name"], style="bold") + Text("  ") + _status(job["status"]) + Text(f"  {job['detail']}", style="not bold")
    facts = [f"attempt {job['attempt']}", f"began {age(job['created'])} ago", _short_device(job["device"]) or "no device named"]
    if job["cost"]["tasks"] or job["cost"]["seconds"]:
        facts.append(job["cost"]["text"])
    parts: list[RenderableType] = [head, Text(", ".join(facts))]
    if job["progress"] is not None:
        parts.append(Text(_bar(job["progress"], width)))
    names = [name for name in values.names if name != STEP_TIME][:3]
    left = max(8, height - len(parts) - 2)
    each = max(4, min(9, (left - min(10, len(log))) // max(1, len(names)) - 1))
    parts += [_chart(values, name, width, each) for name in names]
    tail = log[-max(3, left - len(names) * (each + 1)) :]
    shown_log = [Text(line) for line in tail]
    for line in shown_log:
        line.truncate(width)
    return [*parts, *shown_log]


def _bar(progress: dict[str, Any], width: int) -> str:
    left = f", {duration(progress['left_s'])} left" if progress["left_s"] and progress["done"] < progress["total"] else ""
    label = f" {progress['loop'] + ' ' if progress['loop'] else ''}step {progress['done']} of {progress['total']}{left}"
    room = max(10, min(40, width - len(label)))
    filled = round(room * progress["done"] / progress["total"]) if progress["total"] else room
    return "█" * filled + "░" * (room - filled) + label


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
    if job["progress"] is not None:
        grid.add_row("progress", Text(_bar(job["progress"], 80)))
    for row, (name, value) in enumerate(job["metrics"].items()):
        last = f"{value:.6g}" if isinstance(value, float) else value
        grid.add_row("" if row else "metrics", Text(f"{name} {last} {curve(job['curves'][name])}"))
    if not job["metrics"]:
        grid.add_row("metrics", Text("none"))
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
    if job["sweep"]:
        grid.add_row("sweep", Text(job["sweep"]))
    for row, (mirror, said) in enumerate(job["mirrors"].items()):
        grid.add_row("" if row else "mirrors", Text(f"{mirror}: {said}"))
    if job["continues"]:
        grid.add_row("continues", Text(job["continues"]))
    grid.add_row("cost", Text(job["cost"]["text"]))
    for device, part in job["cost"]["by_device"].items():
        grid.add_row("", Text(f"{device}: {part['usd']} USD, {part['tasks']} task{'s' * (part['tasks'] != 1)}"))
    if job["budget"]:
        grid.add_row("budget", Text(", ".join(f"{name}={limit}" for name, limit in job["budget"].items())))
    grid.add_row("folder", Text(job["folder"]))
    console().print(grid)


def budget(limits: Budget, cost: Cost, emulated_limits: Budget, emulated: Cost) -> None:
    """What was spent, by device, and what may be; then what was bought at emulators."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("budget", Text(str(limits)))
    grid.add_row("spent", Text(str(cost)))
    for device, part in cost.by_device.items():
        grid.add_row("", Text(f"{device}: {part}"))
    if emulated_limits or not emulated.is_nothing:
        grid.add_row("at emulators", Text(f"{emulated}; nobody pays for it. Budget there: {emulated_limits}"))
    console().print(grid)


def metrics(values: MetricTable) -> None:
    """A line for each metric, with a small curve."""
    if not values.names:
        console().print("No metrics.")
        return
    grid = Table(box=None, pad_edge=False)
    for column in ("METRIC", "N", "STEP", "LAST", "MIN", "MAX", "CURVE"):
        grid.add_column(column, no_wrap=True, overflow="fold")
    for name in values.names:
        series = [float(v) for v in values[name]]
        finite = [v for v in series if v == v and abs(v) != float("inf")]
        low, high = (f"{min(finite):.6g}", f"{max(finite):.6g}") if finite else ("", "")
        grid.add_row(Text(name), str(len(series)), str(int(values.steps(name)[-1])), f"{series[-1]:.6g}", low, high, curve(finite))
    console().print(grid)


def findings(found: Sequence[Finding]) -> None:
    """What ``doctor`` found."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in found:
        grid.add_row(_status(finding.state), Text(finding.what), Text(finding.detail))
    console().print(grid)
