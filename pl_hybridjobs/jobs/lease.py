"""The lease: at most one live owner of a job, and proof of it.

Each attempt has a folder ``attempts/<n>/``; making it *is* taking the lease, and ``n`` is the epoch. Every change of state
happens under the job's lock after a look whether a higher epoch exists, so an owner that was stopped and wakes up later can
write nothing. (M. Kleppmann, "How to do distributed locking", 2016, calls such a number a fencing token.)
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from pl_hybridjobs.errors import Fenced, FolderCorrupt
from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.durable import (
    crash_point,
    dump_sealed,
    locked,
    read_sealed,
    rename_folder,
    sync_tree,
    temporary_folder,
    write_bytes,
)
from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder

#: Without a heartbeat for so long, an owner that cannot be seen otherwise is no longer believed.
LEASE_S = float(os.environ.get("HYBRIDJOBS_LEASE_S", "15"))
HEARTBEAT_S = LEASE_S / 5
_TAKING_OVER = ("resume", "requeue")


class Liveness(Enum):
    """What can be said of an owner."""

    ALIVE = "alive"
    DEAD = "dead"  #: proved: the process is gone, or the machine was restarted
    SILENT = "silent"  #: the process is there (or cannot be seen), but gives no sign


@dataclass(frozen=True)
class Lease:
    """Who owns an attempt.

    Attributes:
        epoch: The attempt's number.
        owner: The supervising process.
        cause: Why there is this attempt: ``start``, ``retry``, ``resume``, or ``requeue`` where a scheduler has begun the job again.
        interruptions: Retries after interruptions, since the last ``start`` or ``resume``; itself included.
        errors: The same after errors.
        started: Unix time, seconds.
        beat_wall: Unix time of the last heartbeat.
        beat_monotonic: The same by the clock that no one sets and that stands still while the machine sleeps.
    """

    epoch: int
    owner: process.Identity
    cause: str
    interruptions: int
    errors: int
    started: float
    beat_wall: float
    beat_monotonic: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def read(cls, attempt: AttemptFolder) -> Lease:
        """Read an attempt's lease.

        Raises:
            FolderCorrupt: It is missing or damaged.
        """
        try:
            value = read_sealed(attempt.lease)
            return cls(**{**value, "owner": process.Identity.from_json(value["owner"])})
        except FileNotFoundError:
            raise FolderCorrupt(f"{attempt.lease} is missing.") from None
        except (KeyError, TypeError, ValueError) as error:
            raise FolderCorrupt(f"{attempt.lease} cannot be read ({error}).") from error

    def liveness(self) -> Liveness:
        """Is the owner alive? Process identity decides; the heartbeat only where that proves nothing."""
        alive = self.owner.is_alive()
        if alive is False:
            return Liveness.DEAD
        # Of another machine only its clock is left.
        silent_s = time.monotonic() - self.beat_monotonic if alive else abs(time.time() - self.beat_wall)
        return Liveness.ALIVE if silent_s <= LEASE_S else Liveness.SILENT


def claim(folder: JobFolder, cause: str, *, interruptions: int = 0, errors: int = 0) -> Lease:
    """Take the lease for a new attempt.

    Args:
        folder: The job.
        cause: See ``Lease``. Only ``resume`` and ``requeue`` take over from an owner that is silent but not proved dead.
        interruptions: See ``Lease``.
        errors: See ``Lease``.

    Raises:
        Fenced: The job has ended, or somebody else owns it.
    """
    with locked(folder.lock):
        if folder.outcome.exists():
            raise Fenced(f"{folder.path.name} has ended already.")
        if folder.cancel_request.exists():
            raise Fenced(f"{folder.path.name} is being cancelled.")
        latest = folder.latest_attempt()
        epoch = 1
        if latest is not None:
            _check_free(folder, latest, cause)
            epoch = latest.number + 1
        folder.attempts.mkdir(mode=0o700, exist_ok=True)
        lease = Lease(epoch, process.current(), cause, interruptions, errors, time.time(), time.time(), time.monotonic())
        with temporary_folder(folder.attempts, str(epoch)) as temporary:
            temporary.joinpath("lease.json").write_bytes(dump_sealed(lease.to_json()))
            sync_tree(temporary)
            crash_point("claim.written")
            rename_folder(temporary, folder.attempt(epoch).path)
        crash_point("claim.done")
        return lease


def _check_free(folder: JobFolder, latest: AttemptFolder, cause: str) -> None:
    if latest.exit.exists():
        return
    try:
        lease = Lease.read(latest)
    except FolderCorrupt:
        if cause in _TAKING_OVER:
            return
        raise
    state = lease.liveness()
    if state is Liveness.DEAD or (state is Liveness.SILENT and cause in _TAKING_OVER):
        return
    raise Fenced(f"Attempt {latest.number} of {folder.path.name} is owned by process {lease.owner.pid} on {lease.owner.host}.")


def beat(folder: JobFolder, lease: Lease) -> Lease:
    """Give a sign of life.

    Raises:
        Fenced: A newer attempt has begun.
    """
    folder.check_epoch(lease.epoch)
    lease = replace(lease, beat_wall=time.time(), beat_monotonic=time.monotonic())
    write_bytes(folder.attempt(lease.epoch).lease, dump_sealed(lease.to_json()), durable=False)
    return lease
