"""What is particular to workers on Ray."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import time

import pytest

from pl_hybridjobs.errors import FanOutError, InvalidCall
from pl_hybridjobs.fanout import RayExecutor, rays


def test_what_makes_no_sense_is_told_before_ray_starts():
    with pytest.raises(InvalidCall, match=r"(?s)address must be that of Ray itself.*runtime_env must be a mapping.*not 5"):
        RayExecutor(1, address="http://head-node:8265", runtime_env=5)  # type: ignore[arg-type]


@pytest.mark.ray
def test_an_environment_that_makes_no_sense_leaves_no_ray_behind(monkeypatch):
    connected: list[str] = []
    monkeypatch.setattr(rays, "_connect", lambda *_: connected.append("Ray"))

    with pytest.raises(TypeError):
        RayExecutor(1, runtime_env={"env_vars": 5})

    assert not connected


@pytest.mark.ray
def test_an_address_where_nobody_listens_is_told_at_once():
    ray = importlib.import_module("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        begun = time.monotonic()

        with pytest.raises(FanOutError, match=r"no connection to Ray at 127.0.0.1:\d+: ConnectionRefusedError.*is this its address"):
            rays._connect(ray, f"127.0.0.1:{free.getsockname()[1]}", 1)

    assert time.monotonic() - begun < 60  # Ray itself tries for many minutes


_CROWDED = """
import ray, time, warnings
import pennylane as qml
from pl_hybridjobs.fanout import FanOut, RayExecutor, rays
from tests.fanout.circuits import assert_same_bits, every_kind

rays._PLACED_IN_S = 1.0
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="error", log_to_driver=False)
with RayExecutor(2) as pool:
    found = FanOut("hybridjobs.qubit", executor=pool).execute(every_kind())
    time.sleep(3)
assert_same_bits(found, qml.device("hybridjobs.qubit").execute(every_kind()))
"""


@pytest.mark.ray
def test_workers_for_whom_the_cluster_has_no_place_leave_the_circuits_to_the_others():
    ended = subprocess.run([sys.executable, "-c", _CROWDED], capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    assert "no place yet for a worker of 1 CPU: of 1, 0 are free" in ended.stderr


_IN_TURN = """
import os
from pl_hybridjobs.fanout import RayExecutor

for number in range(2):
    with RayExecutor(1) as pool:
        assert pool.submit(int, number).result(60) == number
    del os.environ["RAY_AUTH_TOKEN_PATH"]
"""


@pytest.mark.ray
def test_of_several_in_turn_each_has_a_cluster_also_where_its_variable_was_cleared():
    ended = subprocess.run([sys.executable, "-c", _IN_TURN], capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
