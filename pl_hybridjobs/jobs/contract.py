"""Amazon Braket's contract with a job, which every job of ours speaks: variables, hyperparameters, files of results, lines of metrics.

So a program that imports ``braket.jobs`` runs here, and what jobs of ours leave behind is read there. Facts: the environment functions,
``save_job_result`` and ``log_metric`` of amazon-braket-sdk (``braket/jobs``), and ``persisted_job_data_v1`` of amazon-braket-schemas.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pl_hybridjobs.jobs.durable import dump_json, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec

NO_DEVICE = "local:none/none"
DEVICE, ENTRY_POINT, HYPERPARAMETERS = "AMZN_BRAKET_DEVICE_ARN", "AMZN_BRAKET_SCRIPT_ENTRY_POINT", "AMZN_BRAKET_HP_FILE"
#: The file of results, in the results folder.
RESULTS = "results.json"
#: What says of a file that it is one of results or checkpoints.
SCHEMA = {"name": "braket.jobs_data.persisted_job_data", "version": "1"}
PLAINTEXT = "plaintext"
#: How a line of metrics begins.
METRICS = "Metrics - "


def environment(folder: JobFolder, spec: JobSpec, epoch: int) -> dict[str, str]:
    """The variables that every job sees: ours, and Amazon Braket's."""
    device = spec.device if isinstance(spec.device, str) else next(iter((spec.device or {}).values()), "")
    env = {
        "HYBRIDJOBS_JOB_FOLDER": str(folder.path),
        "HYBRIDJOBS_ATTEMPT": str(epoch),
        "AMZN_BRAKET_JOB_NAME": spec.name,
        DEVICE: device or NO_DEVICE,
        "AMZN_BRAKET_JOB_RESULTS_DIR": str(folder.results),
        "AMZN_BRAKET_CHECKPOINT_DIR": str(folder.checkpoints),
        HYPERPARAMETERS: str(folder.attempt(epoch).hyperparameters),
        ENTRY_POINT: spec.function,
    }
    if spec.inputs:
        env["AMZN_BRAKET_INPUT_DIR"] = str(folder.inputs)
    return env


def hyperparameters(params: Mapping[str, Any]) -> dict[str, str]:
    """Arguments as Braket hands them over: text for text."""
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in params.items()}


def tell_hyperparameters(texts: Mapping[str, str]) -> None:
    """Inside a job: let the file that ``$AMZN_BRAKET_HP_FILE`` names hold these, whole.

    What it holds before is for reading: long values are shortened there, and those that look like a credential are hidden.
    """
    write_bytes(Path(os.environ[HYPERPARAMETERS]), dump_json(dict(texts)), durable=False)


def persisted(data: Mapping[str, Any], data_format: str = PLAINTEXT, plain: Callable[[Any], Any] | None = None) -> bytes:
    """The content of a file of results or checkpoints. NaN and infinities stand bare in it, as Amazon Braket writes them.

    Args:
        data: By name, each value as the format has it.
        data_format: ``"plaintext"`` or ``"pickled_v4"``.
        plain: Makes of a value that JSON cannot hold one that it can.

    Raises:
        TypeError: JSON cannot hold a value.
        ValueError: A value contains itself.
    """
    return json.dumps({"braketSchemaHeader": SCHEMA, "dataDictionary": data, "dataFormat": data_format}, default=plain).encode()


def named(value: Any) -> dict[str, Any]:
    """A result by names: a dict itself, any other value as ``result``."""
    return value if isinstance(value, dict) else {"result": value}


def metric_line(name: str, value: float, timestamp: float, iteration_number: int | None = None) -> str:
    """A metric as Amazon Braket prints it."""
    line = f"{METRICS}timestamp={timestamp}; {name}={value};"
    return line if iteration_number is None else f"{line} iteration_number={iteration_number};"
