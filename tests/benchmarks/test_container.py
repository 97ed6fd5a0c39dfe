"""A job in a container starts within a second of one without, image and environment being there."""

from __future__ import annotations

import statistics
import time

import pytest

from pl_hybridjobs import hybrid_job
from pl_hybridjobs.jobs.container import ContainerRunner
from pl_hybridjobs.jobs.local import LocalRunner
from tests.jobs import containers

TURNS = 9


def now() -> float:
    return time.time()


def delay_s(runner: LocalRunner | ContainerRunner) -> float:
    """From the call to the first line of the function."""
    begun = time.time()
    return hybrid_job(now, runner=runner)().result(120) - begun


def test_a_container_costs_less_than_a_second(report):
    if problem := containers.problem():
        pytest.skip(containers.CANNOT_RUN.format(problem))
    runners = {
        "own": LocalRunner(),
        "sandbox": LocalRunner(sandbox=True),
        "locked": LocalRunner(environment="locked"),
        "container": containers.here(),
        "container, locked": ContainerRunner(image=containers.base_image(), environment="locked"),
    }
    for runner in runners.values():
        delay_s(runner)  # environments are built, images are looked into
    times = {name: [] for name in runners}
    for _ in range(TURNS):  # in turns: the machine has its moods
        for name, runner in runners.items():
            times[name].append(delay_s(runner))
    medians = {name: statistics.median(several) for name, several in times.items()}
    for name, median in medians.items():
        report(f"call to first line, {name}", median * 1e3, "ms")

    assert medians["container"] - medians["own"] < 1.0
    assert medians["container, locked"] - medians["own"] < 1.0
