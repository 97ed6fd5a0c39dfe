"""An emulated Amazon Braket for each test that asks for one, and no way to the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pl_hybridjobs.emulator import emulator

SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
DM1 = "arn:aws:braket:::device/quantum-simulator/amazon/dm1"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
GARNET = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
ANKAA = "arn:aws:braket:us-west-1::device/qpu/rigetti/Ankaa-3"


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """No test sees the user's AWS account."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def emulated(monkeypatch) -> Iterator[Callable[..., Any]]:
    """Starts emulators, and makes boto3 talk to the last one."""
    running: list[Any] = []

    def start(**options: Any) -> Any:
        running.append(emulator(**{"seed": 1, **options}))
        for name, value in running[-1].environment().items():
            monkeypatch.setenv(name, value)
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the contract suite only a part is in every run: over HTTP it takes its time."""
    for item in items:
        module = getattr(item, "module", None)
        if module is not None and module.__name__ == "tests.braket.test_contract" and item.originalname not in module.ALWAYS:  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.torture_long)
