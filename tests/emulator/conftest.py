"""One emulator for all tests that need no faults, the variables that lead to it, and a bucket."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.backends import get_backend

from pl_hybridjobs.emulator import emulator, tasks
from pl_hybridjobs.emulator.running import Emulator

BUCKET = "amazon-braket-us-east-1-123456789012"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
DM1 = "arn:aws:braket:::device/quantum-simulator/amazon/dm1"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
GARNET = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
ANKAA = "arn:aws:braket:us-west-1::device/qpu/rigetti/Ankaa-3"
IBEX = "arn:aws:braket:eu-north-1::device/qpu/aqt/Ibex-Q1"
BELL = "OPENQASM 3.0;\nbit[2] b;\nqubit[2] q;\nh q[0];\ncnot q[0], q[1];\nb[0] = measure q[0];\nb[1] = measure q[1];\n"


@pytest.fixture(scope="session")
def session_emulator() -> Iterator[Emulator]:
    """Started once."""
    with emulator(seed=7) as running:
        yield running


@pytest.fixture
def slowly_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are CANCELLING for long enough to be seen so, however busy the machine is."""
    monkeypatch.setattr(tasks, "CANCELLING_S", 2.0)


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Emulator], Emulator]:
    """Leads this test's clients to an emulator; the bucket is moto's, and all emulators of a process share it."""

    def lead(running: Emulator) -> Emulator:
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        return running

    return lead


@pytest.fixture(scope="session")
def bucket(session_emulator: Emulator) -> str:
    """Where results go."""
    boto3.client("s3", **_settings(session_emulator)).create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture
def running(session_emulator: Emulator, enter: Callable[[Emulator], Emulator], bucket: str) -> Emulator:
    """The emulator that all share."""
    return enter(session_emulator)


@pytest.fixture(scope="session")
def braket(session_emulator: Emulator, bucket: str) -> Any:
    """A boto3 client of the emulator that all share, without retries."""
    return client(session_emulator)


@pytest.fixture(scope="module")
def swept() -> Iterator[None]:
    """The SDK leaves event loops open, one for each thread: they are found here, where that is no error, and not in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.set_event_loop(None)
        gc.collect()


def client(running: Emulator, service: str = "braket", region: str = "us-east-1") -> Any:
    """A boto3 client, without retries."""
    return boto3.client(service, config=Config(retries={"total_max_attempts": 1}), **{**_settings(running), "region_name": region})


def _settings(running: Emulator) -> dict[str, Any]:
    return {"endpoint_url": running.url, "aws_access_key_id": "emulated", "aws_secret_access_key": "emulated", "region_name": "us-east-1"}


def program(source: str = BELL, **inputs: float) -> str:
    """An action: one OpenQASM program."""
    return json.dumps({"braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"}, "source": source, "inputs": inputs})


def task(device: str = SV1, shots: int = 10, action: str | None = None, **more: Any) -> dict[str, Any]:
    """CreateQuantumTask's parameters."""
    return {
        "deviceArn": device,
        "shots": shots,
        "outputS3Bucket": BUCKET,
        "outputS3KeyPrefix": "tasks",
        "action": action or program(),
        **more,
    }


def result(client: Any, arn: str) -> dict[str, Any]:
    """A completed task's results, from S3."""
    found = client.get_quantum_task(quantumTaskArn=arn)
    content: dict[str, Any] = json.loads(stored(found))
    return content


def stored(found: Mapping[str, Any]) -> bytes:
    """What lies in S3 for a task, looked up without a client."""
    backend = get_backend("s3")["123456789012"]["aws"]
    value: bytes = backend.get_object(found["outputS3Bucket"], f"{found['outputS3Directory']}/results.json").value
    return value
