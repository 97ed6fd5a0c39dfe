"""A view of a job, or of all jobs, that follows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live

from pl_hybridjobs.cli import facts, render
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metrics import GrowingTable

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job

_JOBS = 30
_LOG_LINES = 100
_SHARE = 4  # after a picture that took long there is a pause of so many times as long


def watch(job: Job | None, *, interval_s: float, once: bool) -> None:
    """Show a job until it is over, or all jobs until somebody presses Ctrl-C.

    Args:
        job: None: all.
        interval_s: Seconds between two looks.
        once: One look.
    """
    console = render.console()
    picture = _picture_of(job, console) if job is not None else lambda: _list(console)
    if once or not console.is_terminal:
        console.print(picture(), soft_wrap=True)
        if job is not None and not once and not job.status.is_over:
            job.wait()
            console.print(picture(), soft_wrap=True)
        return
    with Live(picture(), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while job is None or not job.status.is_over:
            begun = time.monotonic()
            live.update(picture(), refresh=True)
            time.sleep(max(interval_s, _SHARE * (time.monotonic() - begun)))
        live.update(picture(), refresh=True)


def _picture_of(job: Job, console: Console) -> Callable[[], RenderableType]:
    """What makes a picture of a job as it is then."""
    metrics = GrowingTable(JobFolder(job.folder).metrics)

    def picture() -> RenderableType:
        table = metrics.read()
        return Group(*render.card(facts.standing(job, table), table, facts.log_tail(job, _LOG_LINES), console))

    return picture


def _list(console: Console) -> RenderableType:
    from pl_hybridjobs.jobs.handle import list_jobs

    found = list_jobs()
    return render.jobs([facts.line(one) for one in found[:_JOBS]], console.width, more=len(found) - _JOBS)
