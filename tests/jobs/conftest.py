"""Fixtures of the tests of jobs: the places that the runner contract is kept in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pl_hybridjobs.emulator import emulator
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.jobs.container import ContainerRunner
from tests.jobs import containers

#: What a rehearsal, over HTTP and through four processes, proves in every run; the rest of the contract goes into the long round.
REHEARSED = {
    "test_an_exception_is_raised_as_its_own_class_with_the_remote_traceback",
    "test_inputs_are_copied_and_found",
    "test_metrics_and_checkpoints_are_there",
    "test_the_job_knows_itself_and_speaks_brakets_contract",
    "test_the_working_folder_is_results",
}

#: The same of Slurm, which takes a second to begin each job.
ON_SLURM = {
    "test_a_completed_job_cannot_be_resumed_or_cancelled",
    "test_a_failed_job_resumes_as_a_new_one_from_its_checkpoints",
    "test_errors_are_retried_where_asked",
    "test_inputs_are_copied_and_found",
    "test_metrics_and_checkpoints_are_there",
    "test_output_is_kept_line_by_line_with_times",
}


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


@pytest.fixture(scope="session")
def stage() -> Iterator[str]:
    """The address of one emulator for all rehearsals."""
    with emulator(seed=7, jobs=JobOptions(checkpoint_interval_s=0.2)) as running:
        yield running.url


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is too slow for every run."""
    for item in items:
        if "[ray]" in item.name:
            item.add_marker(pytest.mark.ray)
        for runner, kept in (("rehearsal", REHEARSED), ("slurm", ON_SLURM)):
            if f"[{runner}]" in item.name and item.originalname not in kept:  # type: ignore[attr-defined]
                item.add_marker(pytest.mark.torture_long)
