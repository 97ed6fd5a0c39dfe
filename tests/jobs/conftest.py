"""Fixtures of the tests of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pl_hybridjobs.jobs.container import ContainerRunner
from tests.jobs import containers


@pytest.fixture(scope="session")
def environments(tmp_path_factory) -> Path:
    """One cache of environments and of what was seen in images, for all tests."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def container(jobs_home, environments) -> ContainerRunner:
    """A runner whose containers have this machine's Python and packages; where none can run, the test is skipped, loudly."""
    if problem := containers.problem():
        pytest.skip(containers.CANNOT_RUN.format(problem))
    jobs_home.mkdir(mode=0o700)
    (jobs_home / "environments").symlink_to(environments)
    return containers.here()
