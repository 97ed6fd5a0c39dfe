"""What tests of runners for engines that queue have in common."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from pl_hybridjobs import Job
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.submissions import Submissions


def until(condition: Callable[[], Any], timeout_s: float) -> Any:
    """What a condition gives as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)
    return found


def owner_of(job: Job) -> int:
    """The process that owns a job's newest attempt."""
    lease = job.state().lease
    assert lease is not None
    return lease.owner.pid


def submissions(job: Job, to: Submissions) -> int:
    """How often a job was submitted to an engine."""
    last = to.latest(JobFolder(job.folder))
    return last.number if last else 0


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
