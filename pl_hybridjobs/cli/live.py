"""A view of a job, or of all jobs, that follows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live

from pl_hybridjobs.cli import facts, render

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job

_JOBS = 30


def watch(job: Job | None, *, interval_s: float, once: bool) -> None:
    """Show a job until it is over, or all jobs until somebody presses Ctrl-C.

    Args:
        job: None: all.
        interval_s: Seconds between two looks.
        once: One look.
    """
    console = render.console()
    if once or not console.is_terminal:
        console.print(_picture(job, console), soft_wrap=True)
        if job is not None and not once and not job.status.is_over:
            job.wait()
            console.print(_picture(job, console), soft_wrap=True)
        return
    with Live(_picture(job, console), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while job is None or not job.status.is_over:
            time.sleep(interval_s)
            live.update(_picture(job, console), refresh=True)
        live.update(_picture(job, console), refresh=True)


def _picture(job: Job | None, console: Console) -> RenderableType:
    if job is None:
        from pl_hybridjobs.jobs.handle import list_jobs

        found = list_jobs()
        return render.jobs([facts.line(one) for one in found[:_JOBS]], console.width, more=len(found) - _JOBS)
    return Group(*render.card(facts.details(job), job.metrics(), job.logs().splitlines(), console))
