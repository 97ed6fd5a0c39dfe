"""What an emulated instance does when something goes wrong beside its job."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pl_hybridjobs.emulator.beside import Beside
from pl_hybridjobs.emulator.images import Images, Python
from pl_hybridjobs.emulator.instance import Instance
from pl_hybridjobs.emulator.job_checks import check_quotas
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.running import Emulator
from tests.emulator.conftest import SV1

REQUEST = {
    "jobName": "x",
    "algorithmSpecification": {"scriptModeConfig": {"entryPoint": "x:main", "s3Uri": "s3://b/x"}},
    "deviceConfig": {"device": SV1},
    "outputDataConfig": {"s3Path": "s3://b/out"},
}


def test_a_log_that_cannot_be_kept_ends_in_an_error_and_not_in_a_job_that_hangs(tmp_path, monkeypatch):
    def refuse(data: bytes) -> None:
        raise OSError("the disk is full")

    instance = Instance(tmp_path, REQUEST, Python(sys.version_info[:2], sys.executable), refuse)
    read, write = os.pipe()
    with open(write, "wb") as file:
        file.write(b"x" * 1000)
    ended = SimpleNamespace(stdout=open(read, "rb"), stdin=SimpleNamespace(close=lambda: None), wait=lambda: 0, returncode=0)  # noqa: SIM115
    monkeypatch.setattr(instance, "_process", ended)

    threading.Thread(target=instance._read, daemon=True).start()

    assert instance.ended.wait(10)
    assert "disk is full" in str(instance.log_lost)


def test_an_emulator_that_closes_takes_no_more_jobs_before_it_ends_those_that_it_has(monkeypatch):
    order: list[str] = []
    running = Emulator(devices=["SV1"])

    def told(part: Any, close: Callable[[], None]) -> Callable[[], None]:
        def closed() -> None:
            order.append(type(part).__name__)
            close()

        return closed

    for part in (running._service, running._jobs, running._tasks):
        monkeypatch.setattr(part, "close", told(part, part.close))

    running.close()

    assert order == ["Service", "Jobs", "Tasks"]


def test_of_several_quotas_of_an_instance_type_the_smallest_is_told_as_it_is_the_one_that_holds():
    quotas = {"ml.*": 5, "ml.p*": 0}
    told = {one["QuotaName"].split()[2]: one["Value"] for one in Beside(Images({}), quotas)._service_quotas()}

    assert (told["ml.p3.2xlarge"], told["ml.m5.large"]) == (0, 5)
    with pytest.raises(Refused, match="the quota is 0"):
        check_quotas({"instanceConfig": {"instanceType": "ml.p3.2xlarge"}}, [], JobOptions(instance_quota=quotas))
