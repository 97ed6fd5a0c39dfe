"""Job folders as they are left on disk, without running anything: for lists, logs and curves of any length."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pl_hybridjobs.jobs import outcome, progress
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import claim
from pl_hybridjobs.jobs.metrics import MetricWriter
from pl_hybridjobs.jobs.spec import JobSpec, SweepPlace
from pl_hybridjobs.jobs.store import Store


def make(
    home: Path,
    name: str = "vqe",
    *,
    ended: str | None = "completed",
    metrics: Mapping[str, Sequence[float]] | None = None,
    log: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
    sweep: SweepPlace | None = None,
    age_s: float = 60.0,
    **fields: Any,
) -> JobFolder:
    """A job; with ``ended=None`` this process is its owner, as long as it lives."""
    now = time.time() - age_s
    ident = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{abs(hash((name, now))) % 16**8:08x}"
    draft = JobSpec(id=ident, name=name, function=f"programs.{name}", created=now, sweep=sweep, **fields)
    folder, _ = Store(home).create(draft, lambda _: "")
    claim(folder, "start")
    if "steps" in draft.params:
        progress.begin(folder.attempt(1), "", "", 0, draft.params["steps"])
    folder.results.mkdir()
    for path, content in (files or {}).items():
        folder.results.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        folder.results.joinpath(path).write_bytes(content)
    write_log(folder, log)
    log_metrics(folder, metrics or {})
    if ended == "completed":
        outcome.commit_value(folder, 1, {"energy": -1.137})
    elif ended == "failed":
        outcome.commit_failure(folder, 1, "error", {"type": "builtins:ValueError", "message": "no good", "traceback": "Traceback ..."})
    elif ended == "cancelled":
        outcome.commit_cancelled(folder, "by hand")
    return folder


def write_log(folder: JobFolder, lines: Sequence[str]) -> None:
    """More lines at the end of the first attempt's log."""
    with folder.attempt(1).log.open("a") as file:
        file.writelines(f"2026-11-21T01:23:45.678901Z {line}\n" for line in lines)


def log_metrics(folder: JobFolder, metrics: Mapping[str, Sequence[float]], start: int = 0) -> None:
    """More values of metrics, one a step."""
    writer = MetricWriter(folder.metrics)
    for name, values in metrics.items():
        for step, value in enumerate(values, start):
            writer.log(name, value, step)
    writer.close()
