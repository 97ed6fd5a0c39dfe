"""What an engine's job runs on its machine: our supervisor, once. Standard library only.

An engine may run one job twice, or begin it again after the loss of a node. So its name for the job proves nothing: the lease decides
who owns it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.exits import EXIT_STOPPED
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Lease, Liveness
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.supervisor import supervise

_FAILED = 1
_LOOK_S = 0.5


def attend(folder: JobFolder, digest: str, epoch: int, cause: str, stopped: Callable[[], None] = lambda: None) -> int:
    """Own a job until it has ended or must not go on.

    Args:
        folder: The job.
        digest: SHA-256 of its bundle's manifest.
        epoch: The newest attempt when it was submitted.
        cause: See ``Runner.start``.
        stopped: Called where the engine has stopped us and the job is not over.

    Returns:
        0 where the job has completed, 75 where it can go on, else 1.
    """
    if folder.outcome.exists():
        return code_of(folder)
    if _began(folder, epoch):
        if not _is_ours_to_take(folder):
            return code_of(folder)
        cause = "requeue"
    if not supervise(folder, folder.spec(), digest, cause):
        stopped()
    return code_of(folder)


def _began(folder: JobFolder, epoch: int) -> bool:
    """Whether this submission has begun before."""
    latest = folder.latest_attempt()
    return latest is not None and latest.number > epoch


def _is_ours_to_take(folder: JobFolder) -> bool:
    """Wait for as long as an earlier instance lives; True if it died, or has ended before we came, and the job is not over."""
    latest = folder.latest_attempt()
    assert latest is not None
    if latest.stopped.exists():  # its budget ran out: it waits for a person
        return False
    if latest.exit.exists():
        return True
    waits = False
    while not folder.outcome.exists():
        current = folder.latest_attempt()
        assert current is not None
        if not current.exit.exists() and not _lives(folder, current.number):
            return True
        if not waits:
            waits = True
            print(f"attempt {current.number} is alive elsewhere; this instance waits, in case it dies", flush=True)
        if current.exit.exists() and not (folder.read_optional(current.exit) or {}).get("again"):
            return False
        time.sleep(_LOOK_S)
        os.listdir(folder.path)  # makes a share show what is new
    return False


def _lives(folder: JobFolder, number: int) -> bool:
    try:
        return Lease.read(folder.attempt(number)).liveness() is Liveness.ALIVE
    except FolderCorrupt:
        return False


def code_of(folder: JobFolder) -> int:
    """The exit code that tells how a job stands."""
    outcome = folder.read_optional(folder.outcome)
    if outcome is None:
        return EXIT_STOPPED
    return 0 if outcome["status"] == Status.COMPLETED else _FAILED
