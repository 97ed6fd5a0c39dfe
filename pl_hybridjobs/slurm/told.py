"""What Slurm tells of a submission, and what that says of our job."""

from __future__ import annotations

import contextlib
import os

from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.queued import Phase, Seen, Unreachable
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State
from pl_hybridjobs.jobs.submissions import PREFIX, Submission
from pl_hybridjobs.slurm import commands
from pl_hybridjobs.slurm.commands import queue
from pl_hybridjobs.slurm.record import known_as


def ours(told: commands.Seen | None, last: Submission) -> Seen | None:
    """What Slurm says of a submission; None if its number is another job's by now: a controller that lost its state begins anew."""
    if told is None or (f"{PREFIX}:" in told.comment and not told.has(last.key)):
        return None
    return _plain(told)


def _plain(told: commands.Seen) -> Seen:
    return Seen(told.text, told.phase, told.node, told.code, told.state)


def of_number(job: str) -> Seen | None:
    """What Slurm's controller says of a job, whosever it is.

    Raises:
        Unreachable: It does not answer.
    """
    told = commands.show(job)
    return _plain(told) if told is not None else None


def now(last: Submission) -> Seen | None:
    """What Slurm's controller says of a submission.

    Raises:
        Unreachable: It does not answer.
    """
    return ours(commands.show(last.job), last)


def listed(last: Submission) -> Seen | None:
    """As ``now``, from the list of all jobs where that has it."""
    seen = ours(queue.jobs(since=last.time, job=last.job).get(last.job), last)
    if seen is None or seen.phase is Phase.OVER:  # what we have may be older than a requeue, or than the submission
        seen = ours(queue.whole(last.job) or commands.show(last.job), last)
    return seen


def of_key(key: str) -> str:
    """Slurm's number of what was submitted with a key, or "".

    Raises:
        Unreachable: The controller does not answer.
    """
    numbers = {name.partition("_")[0] for name in queue.of_key(key)}
    return max(numbers, key=int, default="")


def found(last: Submission) -> Submission | None:
    """The submission with the number that Slurm gave it, if Slurm has it.

    Raises:
        Unreachable: The controller does not answer.
    """
    number = of_key(last.key)
    return known_as(last, number) if number else None


def waiting(folder: JobFolder, last: Submission) -> State | None:
    """A job that has never run and waits in Slurm's queue: all that can be told in a list of thousands without reading much."""
    if (
        not last.job
        or last.ended
        or last.epoch
        or any(map(os.path.lexists, (f"{folder.place}/outcome.json", f"{folder.place}/attempts/1")))
    ):
        return None
    with contextlib.suppress(Unreachable):
        seen = ours(queue.jobs(since=last.time, job=last.job).get(last.job), last)
        if seen is not None and seen.phase is Phase.WAITING:
            return State(Status.QUEUED, 0, seen.text)
    return None
