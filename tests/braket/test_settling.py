"""What dead processes left open outside of jobs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from click.testing import CliRunner

from pl_hybridjobs.braket import allowance, record, tasks
from pl_hybridjobs.cli.commands import cli
from pl_hybridjobs.cost.account import budget_file, of_user
from pl_hybridjobs.cost.ledger import Charge
from pl_hybridjobs.devices.provider import TaskState, TaskStatus
from tests.braket.boxes import packed
from tests.braket.conftest import SV1
from tests.jobs import functions

TASK = "arn:aws:braket:us-east-1:123456789012:quantum-task/"


class Told:
    """A device that knows how tasks stand."""

    def __init__(self, target: str) -> None:
        assert target == SV1

    def status(self, task_id: str) -> TaskStatus:
        return TaskStatus(TaskState.COMPLETED if task_id.endswith("done") else TaskState.RUNNING)


def settle(*words: str) -> str:
    done = CliRunner().invoke(cli, ["budget", "settle", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def left(monkeypatch):
    """Purchases of a process that died, one in each state."""
    monkeypatch.setattr(tasks, "open", Told)
    user, keys = of_user(), ("reserved", "sent", "done", "running")
    user.reserve([Charge(key, SV1, usd=Decimal(1)) for key in keys])
    user.intend(keys[1:])
    user.submitted({"done": f"{TASK}done", "running": f"{TASK}running"})
    return user


def test_what_dead_processes_left_is_given_back_or_asked_about(left):
    said = settle("--older-than", "0s")

    assert "1 never sent and given back, 1 ended and settled, 2 open" in said
    assert "it may have been submitted" in said
    assert f"{TASK}running on {SV1}: running" in said
    assert (left.cost().usd_final, left.cost().usd_estimated) == (1, 2)


def test_what_is_young_may_belong_to_a_process_that_lives(left):
    assert "0 never sent and given back, 0 ended and settled, 0 open" in settle()
    assert left.cost().usd_estimated == 4


@pytest.fixture
def reserved():
    """A Braket job's folder and its first run, for which all of the user's budget was set aside."""
    budget_file().parent.mkdir(parents=True, exist_ok=True)
    budget_file().write_text('{"max_usd": "10"}')
    folder = packed(functions.add, 1)
    run = record.Run(record.home(folder) / "1")
    allowance.set_aside(folder, run, "ml.m5.large", 3600.0)
    return folder, run


def test_reservations_for_a_braket_job_stay_as_long_as_its_folder_is_there(reserved):
    folder, run = reserved
    run.begin({"request": {}})
    assert "0 never sent" in settle("--older-than", "0s")

    folder.path.rename(folder.path.with_name("gone"))

    assert "1 never sent and given back, 0 ended and settled, 1 open" in settle("--older-than", "0s")
    assert of_user().cost().usd == Decimal("0.115"), "its instance may have run"


def test_what_was_set_aside_by_who_died_before_the_braket_job_was_sent_is_given_back(reserved):
    assert of_user().cost().usd == 10

    assert "2 never sent and given back, 0 ended and settled, 0 open" in settle("--older-than", "0s")
    assert of_user().cost().is_nothing
