"""A folder laid out like a job's container, without a service around it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pl_hybridjobs import Job, hybrid_job
from pl_hybridjobs.braket import payload
from pl_hybridjobs.braket.jobs import Order
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.state import State, observe

PYTHON = "{}.{}".format(*sys.version_info[:2])


@dataclass(frozen=True)
class Parked:
    """A runner that never starts anything: jobs stay as they were packed."""

    name: ClassVar[str] = "parked"

    def complaints(self, spec: JobSpec) -> list[str]:
        del spec
        return []

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        del folder, digest, cause

    def observe(self, folder: JobFolder) -> State:
        return observe(folder)

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        del folder, grace_s


def packed(fn: Any, *args: Any, options: Any = None, **kwargs: Any) -> JobFolder:
    """A job's folder, complete and never started."""
    job: Job = hybrid_job(fn, runner=Parked(), **(options or {}))(*args, **kwargs)
    return JobFolder(job.folder)


class Box:
    """A container's folders, below a root.

    Args:
        root: Empty.
        folder: The job that is to run in it.
        forge: Hyperparameters that are to differ.
    """

    def __init__(self, root: Path, folder: JobFolder, cause: str = "start", **forge: str) -> None:
        self.root, self.folder = root, folder
        self.spec = folder.spec()
        made = payload.pack(folder)
        self.order = Order(self.spec.id, 1, cause, self.spec.bundle_digest, made.digest, PYTHON)
        told = {**self.order.to_hyperparameters(), **{f"hybridjobs-{name}": value for name, value in forge.items()}}
        for name in ("opt/ml/input/config", "opt/ml/model", "opt/jobs/checkpoints", "code"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.hyperparameters = root / "opt/ml/input/config/hyperparameters.json"
        self.hyperparameters.write_text(json.dumps(told))
        with tarfile.open(fileobj=io.BytesIO(made.archive)) as archive:
            archive.extractall(root / "code", filter="data")

    @property
    def inside(self) -> JobFolder:
        """The job's folder in the container."""
        return JobFolder(self.root / "opt/jobs/checkpoints" / self.spec.id)

    @property
    def model(self) -> Path:
        """What becomes model.tar.gz."""
        return self.root / "opt/ml/model"

    @property
    def failure(self) -> str:
        """What becomes failureReason."""
        path = self.root / "opt/ml/output/failure"
        return path.read_text() if path.exists() else ""

    def environment(self, **more: str) -> dict[str, str]:
        """As the service makes it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "TMPDIR": str(self.root / "code"),
            "AMZN_BRAKET_HP_FILE": str(self.hyperparameters),
            "AMZN_BRAKET_CHECKPOINT_DIR": str(self.root / "opt/jobs/checkpoints"),
            "AMZN_BRAKET_JOB_RESULTS_DIR": str(self.model),
            "AMZN_BRAKET_INPUT_DIR": str(self.root / "opt/ml/input/data"),
            "AMZN_BRAKET_JOB_NAME": "as-the-service-knows-it",
            "AMZN_BRAKET_JOB_TOKEN": "token",
            "AMZN_BRAKET_OUT_S3_BUCKET": "bucket",
            "AMZN_BRAKET_TASK_RESULTS_S3_URI": "s3://bucket/tasks",
            **more,
        }

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """As Amazon's start script does it: import the entry point, call it."""
        code = "import hybridjobs_entry; hybridjobs_entry.main()"
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=self.root / "code",
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(**environment)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output
