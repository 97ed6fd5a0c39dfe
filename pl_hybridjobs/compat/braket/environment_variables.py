"""What a job is told by its environment: Amazon Braket's contract, which every job of ours speaks, on every runner."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pl_hybridjobs.jobs.contract import DEVICE, HYPERPARAMETERS, NO_DEVICE


def get_job_name() -> str:
    """The job's name; ``""`` outside a job."""
    return os.environ.get("AMZN_BRAKET_JOB_NAME", "")


def get_job_device_arn() -> str:
    """The device as the job's creator named it; ``"local:none/none"`` outside a job."""
    return os.environ.get(DEVICE, NO_DEVICE)


def get_input_data_dir(channel: str = "input") -> str:
    """The folder of an input channel; ``"."`` outside a job, and in a job without inputs."""
    folder = os.environ.get("AMZN_BRAKET_INPUT_DIR", ".")
    return folder if folder == "." else f"{folder}/{channel}"


def get_results_dir() -> str:
    """The folder whose files are the job's results; ``"."`` outside a job."""
    return os.environ.get("AMZN_BRAKET_JOB_RESULTS_DIR", ".")


def get_checkpoint_dir() -> str:
    """The folder of checkpoints; ``"."`` outside a job."""
    return os.environ.get("AMZN_BRAKET_CHECKPOINT_DIR", ".")


def get_hyperparameters() -> dict[str, str]:
    """The job's hyperparameters, all as text; ``{}`` outside a job."""
    file = os.environ.get(HYPERPARAMETERS)
    if not file:
        return {}
    found = json.loads(Path(file).read_text(encoding="utf-8"))
    return {str(name): str(value) for name, value in found.items()}
