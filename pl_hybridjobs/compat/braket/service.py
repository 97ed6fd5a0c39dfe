"""What a job's folder holds of Amazon's answers."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pl_hybridjobs.braket import record
from pl_hybridjobs.errors import FolderCorrupt, JobNotFound, ProviderError
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.store import Store

_TIMES = ("createdAt", "startedAt", "endedAt")


def answer(folder: Path) -> dict[str, Any]:
    """What GetJob said last of a job's newest run, with times as datetimes in UTC; empty for a job of this machine."""
    run = record.latest(JobFolder(folder))
    if run is None:
        return {}
    told = run.answer
    told |= {name: utc(told[name]) for name in _TIMES if name in told}
    if "events" in told:
        told["events"] = [{**event, "timeOfEvent": utc(event["timeOfEvent"])} for event in told["events"]]
    return {**told, "jobArn": run.arn} if run.arn else told


def find(arn: str) -> Job:
    """The job, here, of a job at Amazon Braket.

    Raises:
        JobNotFound: It was submitted elsewhere, or not by this package.
    """
    for path in Store().jobs.glob("*/braket/*/arn.json"):
        with contextlib.suppress(FolderCorrupt):  # another job's
            if record.Run(path.parent).arn == arn:
                return Job(path.parents[2])
    raise JobNotFound(f"no job here is {arn}; one that another machine submitted with this package comes by: hybridjobs attach {arn}")


def tasks(job: Job) -> list[dict[str, Any]]:
    """The quantum tasks that Amazon Braket has of a job, with times as datetimes in UTC; none where nobody answers."""
    from pl_hybridjobs.braket.runner import BraketRunner

    runner = runners.resolve(job.spec.runner, job.spec.runner_options)
    if not isinstance(runner, BraketRunner):
        return []
    with contextlib.suppress(ProviderError):
        return [{**told, "createdAt": utc(told["createdAt"])} for told in runner.tasks(JobFolder(job.folder))]
    return []


def utc(when: float) -> datetime:
    """Unix time as a datetime."""
    return datetime.fromtimestamp(when, UTC)
