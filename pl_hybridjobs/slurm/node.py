"""What runs on a node: our supervisor, as the batch script of Slurm's job. Standard library only.

Slurm may run one job twice (after its controller was killed, it has been seen to, with the same number and without counting a restart), and
begins it again after a preemption or the loss of a node. So its number proves nothing: the lease decides who owns the job.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import lanes, node
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Lease
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.slurm.commands import queue
from pl_hybridjobs.slurm.record import SUBMISSIONS


def main(argv: list[str]) -> int:
    """``node <job folder> <bundle digest> <submission> <epoch> <cause>``.

    Returns:
        0 where the job has completed: what waits for it by ``afterok`` may begin. 75 where it can go on.
    """
    path, digest, _, epoch, cause = argv
    folder = JobFolder(Path(path))
    spec, was_over = folder.spec(), folder.outcome.exists()
    code = node.attend(folder, digest, int(epoch), cause, lambda: _go_on(folder, spec))
    if folder.outcome.exists() and not was_over:
        _begin_next(folder, spec)
    return code


def _go_on(folder: JobFolder, spec: JobSpec) -> None:
    if _may_go_on(folder, spec):
        _requeue()


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


def _begin_next(folder: JobFolder, spec: JobSpec) -> None:
    """Begin what waits in the job's sweep; where nodes may not speak to Slurm, whoever looks next does.

    What is in an array was submitted with it. A mirror must run where it can stay, so jobs with mirrors wait for somebody who looks.
    """
    sweep, last = lanes.of_job(folder, spec), SUBMISSIONS.latest(folder)
    if sweep is None or spec.mirrors or last is None or last.task is not None:
        return
    try:
        queue.jobs()  # a node that may not ask would try for long
        sweep.begin(runners.resolve(spec.runner, spec.runner_options), lambda job: job.spec().bundle_digest, is_patient=True)
    except HybridJobsError as error:
        print(f"what waits in sweep {sweep.id} was not begun: {error}", flush=True)


def _number() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _scontrol(*arguments: str) -> str:
    try:
        done = subprocess.run(["scontrol", *arguments], check=False, timeout=20, capture_output=True, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"failed: {error}"
    return done.stdout + done.stderr
