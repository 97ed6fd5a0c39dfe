"""Jobs on the cluster of the tests, and what Slurm says of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pl_hybridjobs import Job, Resources, hybrid_job
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.slurm.record import SUBMISSIONS
from pl_hybridjobs.slurm.runner import SlurmRunner
from tests import queues
from tests.slurm.cluster import Cluster

WAIT_S = 60
until = partial(queues.until, timeout_s=WAIT_S)
submissions = partial(queues.submissions, to=SUBMISSIONS)


def submit(fn: Callable[..., Any], *args: Any, retries: int = 0, resources: Resources | None = None, **kwargs: Any) -> Job:
    """A job on Slurm; the runner's options begin with ``slurm_``."""
    options = {name.removeprefix("slurm_"): kwargs.pop(name) for name in list(kwargs) if name.startswith("slurm_")}
    return hybrid_job(fn, runner=SlurmRunner(**options), retries=retries, resources=resources)(*args, **kwargs)


def number(job: Job) -> str:
    return job.place.removeprefix("Slurm job ")


def told(cluster: Cluster, job: Job) -> dict[str, str]:
    """What Slurm says of a job."""
    answer = cluster.ask("scontrol", "--oneliner", "show", "job", number(job))
    return dict(part.split("=", 1) for part in answer.split() if "=" in part)


def jobs_of(cluster: Cluster) -> list[str]:
    return cluster.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()


def submitted(cluster: Cluster, job: Job) -> int:
    """How often Slurm has got the first submission of a job, or of the sweep that it belongs to."""
    last = SUBMISSIONS.latest(JobFolder(job.folder))
    assert last is not None
    keys = cluster.ask("squeue", "--noheader", "--array", "--states=all", "--format=%k|%K").split()
    return len([key for key in keys if key.startswith(f"{last.key}|") and key.endswith(("|N/A", "|0"))])


def a_site_wraps(name: str, script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script before a program of Slurm, which it finds as ``$REAL``."""
    real = shutil.which(name)
    folder.mkdir(exist_ok=True)
    wrapper = folder / name
    wrapper.write_text(f'#!/bin/bash\nREAL={real}\ncase "$*" in *--test-only*) exec $REAL "$@";; esac\n{script}\n')
    wrapper.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
