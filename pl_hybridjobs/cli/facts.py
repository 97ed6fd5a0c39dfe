"""What commands say of a job, as plain data that ``--json`` prints and ``render`` draws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.cost.prices import plain
from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import logs, progress, trackers
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metric_lines import strict_number
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State

if TYPE_CHECKING:
    from pl_hybridjobs.cost.ledger import Cost
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.metrics import MetricTable
    from pl_hybridjobs.jobs.progress import Progress

_CURVE_POINTS = 200
_LONG_LOG_BYTES = 20_000_000


def summary(job: Job) -> dict[str, Any]:
    """What a list says; a job that cannot be read says why."""
    try:
        spec = job.spec
    except HybridJobsError as error:
        return {"name": job.id, "id": job.id, "status": "unknown", "detail": str(error)}
    try:
        state = job.state()
    except HybridJobsError as error:
        state = State(Status.UNKNOWN, 0, str(error))
    return {
        "name": spec.name,
        "id": spec.id,
        "status": str(state.status),
        "attempt": state.attempt,
        "created": spec.created,
        "device": spec.device_text,
        "runner": spec.runner,
        "tags": spec.tags,
        "detail": state.detail,
    }


def line(job: Job) -> dict[str, Any]:
    """A summary, with how far the job is, its main metric, and what it cost."""
    told = summary(job)
    folder = JobFolder(job.folder)
    if "created" not in told or (folder.metrics.exists() and folder.metrics.stat().st_size > _LONG_LOG_BYTES):
        return told  # a list must not take seconds
    try:
        table, spent = job.metrics(), job.cost
    except HybridJobsError as error:  # one damaged file must not end a list
        return {**told, "detail": told["detail"] or str(error)}
    standing = progress.read(folder, table)
    return {
        **told,
        "progress": _progress(standing),
        "metric": _main_metric(table, standing),
        "cost_usd": None if spent.is_nothing or spent.known_usd is None else plain(spent.known_usd),
    }


def standing(job: Job, table: MetricTable) -> dict[str, Any]:
    """What ``watch`` says beside curves and log."""
    return {
        **summary(job),
        "progress": _progress(progress.read(JobFolder(job.folder), table)),
        "cost": {**cost(job.cost), "text": str(job.cost)},
    }


def log_tail(job: Job, lines: int) -> list[str]:
    """The last lines, without their times. For those of a job that has just ended it waits a little."""
    if job.status.is_over:
        return [line.partition(" ")[2] for line in job.logs().splitlines()[-lines:]]
    return logs.tail([attempt.log for attempt in JobFolder(job.folder).attempt_list()], lines).splitlines()


def details(job: Job) -> dict[str, Any]:
    """All that ``show`` says."""
    table = job.metrics()
    spec = job.spec
    return {
        **standing(job, table),
        "function": spec.function,
        "params": spec.params,
        "metrics": {name: strict_number(value) for name, value in table.last().items()},
        "curves": {name: _points(table, name) for name in table.names},
        "checkpoints": [{"step": c.step, "good": c.good, "problem": c.problem, "bytes": c.size_bytes} for c in job.checkpoints()],
        "provenance": spec.provenance,
        "continues": spec.continues,
        "sweep": spec.sweep.id if spec.sweep else None,
        "place": job.place,
        "mirrors": trackers.last_words(JobFolder(job.folder)),
        "budget": job.budget.to_json(),
        "folder": str(job.folder),
    }


def cost(spent: Cost) -> dict[str, Any]:
    """What was spent; money as text, so that it stays exact."""
    return {
        "usd": plain(spent.usd),
        "usd_final": plain(spent.usd_final),
        "usd_estimated": plain(spent.usd_estimated),
        "tasks": spent.tasks,
        "shots": spent.shots,
        "seconds": spent.seconds,
        "unknown_tasks": spent.unknown_tasks,
        "by_device": {name: cost(part) for name, part in spent.by_device.items()},
    }


def _progress(standing: Progress | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    return {"loop": standing.loop, "done": standing.done, "total": standing.total, "left_s": standing.left_s}


def _main_metric(table: MetricTable, standing: Progress | None) -> dict[str, Any] | None:
    """The metric to look at first, with points of its curve."""
    name = progress.main_metric(table, standing)
    if not name:
        return None
    return {"name": name, "last": strict_number(float(table[name][-1])), "curve": _points(table, name)}


def _points(table: MetricTable, name: str) -> list[float]:
    """A curve's values, finite ones, not more than a terminal can show."""
    finite = [value for value in table[name].tolist() if math.isfinite(value)]
    return finite[:: math.ceil(len(finite) / _CURVE_POINTS) or 1]
