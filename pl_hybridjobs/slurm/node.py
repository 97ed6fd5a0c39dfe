"""What runs on a node: our supervisor, as the batch script of Slurm's job. Standard library only.

Slurm may run one job twice (after its controller was killed, it has been seen to, with the same number and without counting a restart), and
begins it again after a preemption or the loss of a node. So its number proves nothing: the lease decides who owns the job.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.exits import EXIT_STOPPED
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Lease, Liveness
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.supervisor import supervise

_FAILED = 1
_LOOK_S = 0.5


def main(argv: list[str]) -> int:
    """``node <job folder> <bundle digest> <submission> <epoch> <cause>``.

    Returns:
        0 where the job has completed: what waits for it by ``afterok`` may begin. 75 where it can go on.
    """
    path, digest, _, epoch, cause = argv
    folder = JobFolder(Path(path))
    spec = folder.spec()
    if folder.outcome.exists():
        return _code(folder)
    if _began(folder, int(epoch)):
        if not _is_ours_to_take(folder):
            return _code(folder)
        cause = "requeue"
    if not supervise(folder, spec, digest, cause) and _may_go_on(folder, spec):
        _requeue()
    return _code(folder)


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
    return False


def _lives(folder: JobFolder, number: int) -> bool:
    try:
        return Lease.read(folder.attempt(number)).liveness() is Liveness.ALIVE
    except FolderCorrupt:
        return False


def _may_go_on(folder: JobFolder, spec: JobSpec) -> bool:
    """Whether Slurm is to begin the job again: preempted jobs as often as it likes, others as often as ``retries`` allow.

    A preempted job that ends by itself in its period of grace is not requeued by Slurm, so we ask for that.
    """
    if folder.outcome.exists() or folder.cancel_request.exists():
        return False
    latest = folder.latest_attempt()
    assert latest is not None
    return Lease.read(latest).interruptions < spec.retries.interruptions or _is_preempted()


def _is_preempted() -> bool:
    fields = dict(part.split("=", 1) for part in _scontrol("--oneliner", "show", "job", _number()).split() if "=" in part)
    return fields.get("PreemptTime", "None") not in ("None", "Unknown") and fields.get("Requeue") == "1"


def _requeue() -> None:
    """As the last thing we do: Slurm ends this job, and begins it again later. If not, whoever looks next submits it anew."""
    print(f"requeue {_number()} {_scontrol('requeue', _number())}", flush=True)


def _number() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _scontrol(*arguments: str) -> str:
    try:
        done = subprocess.run(["scontrol", *arguments], check=False, timeout=20, capture_output=True, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed: {error}"
    return done.stdout + done.stderr


def _code(folder: JobFolder) -> int:
    outcome = folder.read_optional(folder.outcome)
    if outcome is None:
        return EXIT_STOPPED
    return 0 if outcome["status"] == Status.COMPLETED else _FAILED
