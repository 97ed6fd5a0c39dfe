"""The names are Amazon Braket's, and so are their signatures: the installed SDK is asked."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
from enum import Enum
from logging import Logger

import pytest

from pl_hybridjobs.compat import braket as ours
from pl_hybridjobs.errors import InvalidCall

# Name -> where the SDK has it.
CALLABLES = {
    "hybrid_job": "braket.jobs",
    "load_job_checkpoint": "braket.jobs",
    "load_job_result": "braket.jobs",
    "save_job_checkpoint": "braket.jobs",
    "save_job_result": "braket.jobs",
    "get_checkpoint_dir": "braket.jobs",
    "get_hyperparameters": "braket.jobs",
    "get_input_data_dir": "braket.jobs",
    "get_job_device_arn": "braket.jobs",
    "get_job_name": "braket.jobs",
    "get_results_dir": "braket.jobs",
    "retrieve_image": "braket.jobs",
    "log_metric": "braket.jobs.metrics",
    "CheckpointConfig": "braket.jobs",
    "InstanceConfig": "braket.jobs",
    "OutputDataConfig": "braket.jobs",
    "StoppingCondition": "braket.jobs",
    "S3DataSourceConfig": "braket.jobs",
    "LogMetricsParser": "braket.jobs.metrics_data.log_metrics_parser",
    "AwsQuantumJob": "braket.aws",
    "LocalQuantumJob": "braket.jobs.local",
}
METHODS = ["create", "state", "metadata", "result", "metrics", "logs", "cancel", "download_result"]


def _theirs(name: str):
    return getattr(importlib.import_module(CALLABLES[name]), name)


def _told(function):
    """Names, kinds and defaults of the parameters, with what is of another class but the same made equal."""
    return [
        (p.name, p.kind, p.default.value if isinstance(p.default, Enum) else Logger if isinstance(p.default, Logger) else p.default)
        for p in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("name", CALLABLES)
def test_a_signature_is_the_sdks(name):
    assert _told(getattr(ours, name)) == _told(_theirs(name))


@pytest.mark.parametrize("handle", ["AwsQuantumJob", "LocalQuantumJob"])
@pytest.mark.parametrize("method", METHODS)
def test_a_methods_signature_is_the_sdks(handle, method):
    assert _told(getattr(getattr(ours, handle), method)) == _told(getattr(_theirs(handle), method))


@pytest.mark.parametrize("method", ["queue_position", "get_tasks"])
def test_what_only_jobs_at_braket_have_is_there(method):
    assert _told(getattr(ours.AwsQuantumJob, method)) == _told(getattr(_theirs("AwsQuantumJob"), method))


def test_the_decorator_has_twenty_one_keywords():
    assert len(inspect.signature(ours.hybrid_job).parameters) == 21


def test_everything_that_braket_jobs_gives_is_here():
    jobs = importlib.import_module("braket.jobs")
    given = {name for name, value in vars(jobs).items() if not name.startswith("_") and not inspect.ismodule(value)}

    assert not given - set(vars(ours))


@pytest.mark.parametrize("name", ["CheckpointConfig", "InstanceConfig", "OutputDataConfig", "StoppingCondition"])
def test_a_configuration_has_the_same_defaults(name):
    assert dataclasses.asdict(getattr(ours, name)()) == dataclasses.asdict(_theirs(name)())


def test_a_data_source_has_the_same_content():
    given = ("s3://bucket/data", "text/csv")

    assert ours.S3DataSourceConfig(*given).config == _theirs("S3DataSourceConfig")(*given).config


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("MetricType", "braket.jobs.metrics_data.definitions"),
        ("MetricStatistic", "braket.jobs.metrics_data.definitions"),
        ("Framework", "braket.jobs"),
        ("PersistedJobDataFormat", "braket.jobs_data"),
    ],
)
def test_an_enum_has_the_same_members(name, where):
    theirs = getattr(importlib.import_module(where), name)

    assert {m.name: m.value for m in getattr(ours, name)} == {m.name: m.value for m in theirs}


@pytest.mark.parametrize("framework", list(ours.Framework))
def test_an_image_has_the_same_address(framework):
    for region in ("us-east-1", "eu-north-1"):
        assert ours.retrieve_image(framework, region) == _theirs("retrieve_image")(framework.value, region)


def test_a_region_without_images_is_refused():
    with pytest.raises(InvalidCall, match="Unsupported region: mars-1"):
        ours.retrieve_image(ours.Framework.BASE, "mars-1")


def test_importing_is_light():
    code = (
        "import sys; before = set(sys.modules); import pl_hybridjobs.compat.braket; "
        "print(sorted({'numpy', 'pennylane', 'boto3', 'botocore', 'braket', 'cloudpickle'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
