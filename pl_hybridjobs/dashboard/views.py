"""What the page shows of a job, as plain JSON data. Numbers that JSON lacks (NaN, infinities) become null, or text where one is read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs import curves
from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.prices import plain
from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import progress
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.metric_lines import strict_number
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import type_of

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.cost.ledger import Cost
    from pl_hybridjobs.curves import Array
    from pl_hybridjobs.jobs.metrics import MetricTable
    from pl_hybridjobs.jobs.progress import Progress

_MOST_FILES = 1000
_LONGEST_TEXT = 20_000
_LINE = 60  # what is longer is written over several


def glance(folder: JobFolder, table: MetricTable) -> dict[str, Any]:
    """What a list and a comparison say of a job, beside its row."""
    job = Job(folder)
    params = _or(lambda: job.params, {})
    standing = progress.read(folder, table)
    main = progress.main_metric(table, standing)
    names = sorted(table.names, key=lambda name: name != main)
    return {
        "params": {name: _short(value) for name, value in params.items()},
        "metrics": {name: _summary(table, name) for name in names},
        "spark": curves.spark(table[names[0]]) if names else [],
        "progress": _progress(standing),
        "cost": _or(lambda: _cost(job.cost), None),
    }


def details(folder: JobFolder, table: MetricTable) -> dict[str, Any]:
    """All that a job's own page says beside its row, curves and log. Reads checkpoints whole, to say whether they are good."""
    job = Job(folder)
    spec = job.spec
    state = job.state()
    outcome = state.outcome or {}
    return {
        **glance(folder, table),
        "params": {name: _text(value) for name, value in spec.params.items()},
        "budget": _or(lambda: _budget(job.budget), None),
        "checkpoints": [
            {"step": c.step, "time": c.time, "attempt": c.attempt, "bytes": c.size_bytes, "good": c.good, "problem": c.problem}
            for c in job.checkpoints()
        ],
        "files": list(_files(folder.results)),
        "result": _text(job.plain_result()) if state.status is Status.COMPLETED else None,
        "error": _error(outcome),
        "problems": list(table.problems),
        "provenance": {name: _text(value) for name, value in spec.provenance.items() if value not in (None, "", [], {})},
        "resources": {name: _text(value) for name, value in vars(spec.resources).items() if value},
        "folder": str(folder.path),
    }


def series(table: MetricTable, name: str, *, by_time: bool, low: float | None, high: float | None, columns: int, weight: float) -> Any:
    """A curve, or the part of it between two places, thinned to what so many pixel columns can show.

    Args:
        table: The job's metrics.
        name: Which one.
        by_time: Over seconds since the job's first value, not over steps.
        low: Left edge; None for the beginning.
        high: Right edge; None for the end.
        columns: How many pixel columns there are.
        weight: Of ``curves.smooth``. All points are smoothed, then thinned.
    """
    x, y = _across(table, name, by_time=by_time), table[name]
    if by_time and not (x[1:] >= x[:-1]).all():  # steps that were made again by a later attempt
        order = x.argsort(kind="stable")
        x, y = x[order], y[order]
    left = float(x[0]) if low is None else low
    right = max(float(x[-1]) if high is None else high, left)
    found: dict[str, Any] = {"count": len(y), **_summary(table, name), "raw": _thinned(x, y, left, right, columns)}
    if weight:
        found["smooth"] = _thinned(x, curves.smooth(y, weight), left, right, columns)
    return found


def user_account(home: Path) -> dict[str, Any]:
    """What was spent with a home folder, and what may be."""
    user = account.of_user(home, emulated=False)
    return {"cost": _cost(user.cost()), "budget": _budget(user.limits)}


def _across(table: MetricTable, name: str, *, by_time: bool) -> Array:
    if not by_time:
        return table.steps(name)
    begin = min(float(table.times(one)[0]) for one in table.names)
    times: Array = table.times(name) - begin
    return times


def _thinned(x: Array, y: Array, low: float, high: float, columns: int) -> dict[str, list[Any]]:
    at = curves.thin(x, y, low, high, columns)
    return {"x": x[at].tolist(), "y": [value if math.isfinite(value) else None for value in y[at].tolist()]}


def _summary(table: MetricTable, name: str) -> dict[str, Any]:
    low, high = curves.extremes(table[name]) or (None, None)
    return {"last": strict_number(float(table[name][-1])), "step": int(table.steps(name)[-1]), "min": low, "max": high}


def _progress(standing: Progress | None) -> dict[str, Any] | None:
    """How far the newest loop is."""
    if standing is None or not standing.total:
        return None
    return {"done": standing.done, "total": standing.total, "left_s": standing.left_s}


def _cost(cost: Cost) -> dict[str, Any] | None:
    if cost.is_nothing:
        return None
    return {
        "usd": None if cost.known_usd is None else plain(cost.known_usd),
        "text": str(cost),
        "estimated": bool(cost.usd_estimated),
        "devices": {name: str(part) for name, part in cost.by_device.items()},
    }


def _budget(limits: Budget) -> dict[str, Any] | None:
    return {"text": str(limits), "max_usd": None if limits.usd is None else plain(limits.usd)} if limits else None


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    """The function's own files, by path; links are left out, since they may lead anywhere."""
    left = _MOST_FILES
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file():
                continue
            if not left:
                return
            left -= 1
            found = path.stat()
            yield {"path": path.relative_to(folder).as_posix(), "bytes": found.st_size, "time": found.st_mtime}


def artefact(folder: JobFolder, path: str) -> Path | None:
    """A file of the results, by its path in there; None if there is no such file, or it lies elsewhere."""
    try:
        found = (folder.results / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    return found if found.is_relative_to(folder.results.resolve()) and found.is_file() else None


def _error(outcome: dict[str, Any]) -> dict[str, str] | None:
    error = outcome.get("error")
    if not error:
        return None
    return {"type": type_of(error), "message": str(error.get("message", "")), "traceback": str(error.get("traceback", ""))}


def _short(value: Any) -> Any:
    """A value for a cell: numbers and truth values as they are, others as text."""
    if isinstance(value, float):
        return strict_number(value)
    return value if isinstance(value, bool | int) or value is None else _cut(value if isinstance(value, str) else _text(value), 200)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _cut(value, _LONGEST_TEXT)
    line = json.dumps(value, default=str, ensure_ascii=False)
    return line if len(line) <= _LINE else _cut(json.dumps(value, indent=1, default=str, ensure_ascii=False), _LONGEST_TEXT)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} ... ({len(text) - length} more characters)"


def _or(ask: Callable[[], Any], instead: Any) -> Any:
    """What a job says, or something else where its folder is damaged: one bad file must not empty a page."""
    try:
        return ask()
    except HybridJobsError:
        return instead
