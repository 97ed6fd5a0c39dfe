"""A job's state, read from files that the test writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.durable import dump_sealed, locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import claim
from pl_hybridjobs.jobs.outcome import commit_cancelled, commit_failure, commit_value
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import observe


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def launch(folder: JobFolder, epoch: int, *, alive: bool) -> None:
    owner = process.current() if alive else replace(process.current(), started="long ago")
    folder.launch.write_bytes(dump_sealed({"epoch": epoch, "process": owner.to_json()}))


def end(folder: JobFolder, attempt: int, *, again: bool = False) -> None:
    folder.attempt(attempt).exit.write_bytes(dump_sealed({"code": -9, "detail": "killed", "time": 0.0, "again": again}))


def test_created_queued_running(folder):
    assert observe(folder).status is Status.CREATED
    launch(folder, 1, alive=True)
    assert observe(folder).status is Status.QUEUED
    claim(folder, "start")
    assert (observe(folder).status, observe(folder).attempt) == (Status.RUNNING, 1)


def test_a_launch_that_died_before_it_began_is_an_interruption(folder):
    launch(folder, 1, alive=False)

    assert observe(folder).status is Status.INTERRUPTED
    assert "before it began" in observe(folder).detail


def test_a_dead_owner_leaves_an_orphan_and_its_record_ends_that(folder):
    lease = claim(folder, "start")
    gone = replace(lease, owner=replace(lease.owner, started="long ago"))
    folder.attempt(1).lease.write_bytes(dump_sealed(gone.to_json()))
    assert (observe(folder).status, observe(folder).orphaned) == (Status.INTERRUPTED, True)

    end(folder, 1)
    assert (observe(folder).status, observe(folder).orphaned) == (Status.INTERRUPTED, False)
    launch(folder, 2, alive=True)
    assert (observe(folder).status, observe(folder).detail) == (Status.QUEUED, "resuming")


def test_between_two_attempts_of_a_living_owner_it_is_queued(folder):
    claim(folder, "start")
    end(folder, 1, again=True)

    assert observe(folder).status is Status.QUEUED


@pytest.mark.parametrize(
    ("commit", "status"),
    [
        (lambda f: commit_value(f, 1, 3), Status.COMPLETED),
        (lambda f: commit_failure(f, 1, "error", {"message": "two\nlines"}), Status.FAILED),
    ],
)
def test_an_outcome_is_final_whatever_comes_after(folder, commit, status):
    claim(folder, "start")
    commit(folder)
    with locked(folder.lock):
        assert commit_cancelled(folder, "too late") is False
    end(folder, 1)

    assert observe(folder).status is status
    assert "\n" not in observe(folder).detail


def test_a_damaged_lease_makes_the_state_unknown_not_wrong(folder):
    claim(folder, "start")
    folder.attempt(1).lease.write_bytes(b"torn")

    assert observe(folder).status is Status.UNKNOWN
