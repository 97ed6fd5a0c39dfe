"""What a job's folder holds of its runs at Braket: ``braket/<n>/``, as ``braket.record`` keeps it, which this room may not import."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import FolderCorrupt, JobNotFound
from pl_hybridjobs.jobs.durable import read_json, read_sealed
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.store import Store

_TIMES = ("createdAt", "startedAt", "endedAt")


def answer(folder: Path) -> dict[str, Any]:
    """What GetJob said last of a job's newest run, with times as datetimes in UTC; empty for a job of this machine."""
    begun = (path.parent for path in (folder / "braket").glob("*/intent.json") if path.parent.name.isdecimal())
    runs = sorted(begun, key=lambda path: int(path.name))
    if not runs:
        return {}
    told: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, FolderCorrupt):  # nobody asked yet, or it is asked again
        told = dict(read_json(runs[-1] / "answer.json")["answer"])
    told |= {name: utc(told[name]) for name in _TIMES if name in told}
    if "events" in told:
        told["events"] = [{**event, "timeOfEvent": utc(event["timeOfEvent"])} for event in told["events"]]
    arn = _arn(runs[-1])
    return {**told, "jobArn": arn} if arn else told


def find(arn: str) -> Job:
    """The job, here, of a job at Amazon Braket.

    Raises:
        JobNotFound: It was submitted elsewhere, or not by this package.
    """
    for path in Store().jobs.glob("*/braket/*/arn.json"):
        if _arn(path.parent) == arn:
            return Job(path.parents[2])
    raise JobNotFound(f"no job here is {arn}; one that another machine submitted with this package comes by: hybridjobs attach {arn}")


def _arn(run: Path) -> str:
    with contextlib.suppress(FileNotFoundError, FolderCorrupt, KeyError):
        return str(read_sealed(run / "arn.json")["arn"])
    return ""


def utc(when: float) -> datetime:
    """Unix time as a datetime."""
    return datetime.fromtimestamp(when, UTC)
