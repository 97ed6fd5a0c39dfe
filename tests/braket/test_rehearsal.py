"""Rehearsals: an emulator that outlives the caller, mirrors what ran in it, and leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from pl_hybridjobs import Status, hybrid_job, open_job
from pl_hybridjobs.braket import record
from pl_hybridjobs.braket.rehearsal import RehearsalRunner, phases, report
from pl_hybridjobs.cost.account import of_user
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import process
from tests.jobs import functions

ROOT = Path(__file__).parents[2]
WAIT_S = 120


def wait_for(true, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def emulators(home: Path) -> list[process.Identity]:
    return [process.Identity.from_json(json.loads(path.read_bytes())["process"]) for path in home.glob("rehearsal/*/emulator.json")]


SUBMIT = """
from pl_hybridjobs import hybrid_job
from tests.jobs import functions
hybrid_job(functions.count, runner="rehearsal", name="lonely")(3)
"""


@pytest.fixture
def quick(monkeypatch):
    """The emulator leaves soon, but not before a busy machine has seen it."""
    monkeypatch.setenv("HYBRIDJOBS_REHEARSAL_IDLE_S", "3.0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_emulator_brings_a_job_home_when_its_caller_has_left_and_then_leaves(quick, jobs_home):
    subprocess.run([sys.executable, "-c", SUBMIT], cwd=ROOT, check=True)
    (emulator,) = emulators(jobs_home)
    (folder,) = (jobs_home / "jobs").glob("[0-9]*")

    wait_for((folder / "outcome.json").exists)  # nobody looked but the emulator
    wait_for(lambda: not emulator.is_alive())

    job = open_job("lonely")
    assert job.result(0) == pytest.approx(0.3)
    assert list(job.metrics()["total"]) == pytest.approx([0.0, 0.0, 0.1])
    said = report(job)
    assert said.instance_usd is not None
    assert said.instance_usd > 0
    assert of_user().cost().usd == Decimal(0), "a rehearsal is not paid for"
    assert ("Amazon's images have 3.12" in str(said)) == (sys.version_info[:2] != (3, 12))
    assert "running" in said.phases


@pytest.mark.torture_long
def test_a_job_whose_emulator_was_killed_is_interrupted_and_goes_on_in_another_one(quick, jobs_home):
    job = hybrid_job(functions.count, runner="rehearsal")(12, 0.25)
    wait_for(lambda: len(job.checkpoints()) >= 2)
    (emulator,) = emulators(jobs_home)
    os.killpg(emulator.pid, signal.SIGKILL)
    process.reap(emulator.pid)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert "the emulator that ran it is gone" in job.state().detail
    job.resume()

    total = 0.0
    for step in range(12):
        total = total + 0.1 * step
    assert job.result(WAIT_S) == total
    assert job.attempt == 2


@pytest.mark.torture_long
def test_two_jobs_share_an_emulator_and_other_options_have_another_one(quick, jobs_home):
    first, second = (hybrid_job(functions.sleep, runner="rehearsal")(600) for _ in range(2))
    other = hybrid_job(functions.add, runner=RehearsalRunner(latency_s=0.1))(1)

    assert len(emulators(jobs_home)) == 2
    assert other.result(WAIT_S) == 3
    assert [first.cancel(1), second.cancel(1)] == [Status.CANCELLED] * 2


@pytest.mark.torture_long
def test_the_command_line_rehearses_a_script_and_says_what_amazon_would(quick, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def double(x: float):\n    print('working')\n    return 2 * x\n")
    command = [sys.executable, "-c", "from pl_hybridjobs.cli import main; main()", "rehearse", f"{script}:double", "--arg", "x=4"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert done.returncode == 0, done.stderr
    assert "working" in done.stdout
    assert "price: " in done.stderr
    assert "only Amazon can tell" in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"faults": "thunder=1"}, "thunder"),
        ({"latency_s": -1.0}, "not -1.0"),
        ({"instance_type": "ml.m5.larg"}, "Did you mean 'ml.m5.large'"),
        ({"role_arn": "x"}, "no role"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"latency_s": "x"}, "latency_s must be a number"),
        ({"faults": 1}, "faults must be text"),
        ({"endpoint_url": "localhost"}, "endpoint_url='localhost' is no address"),
    ],
)
def test_what_would_be_refused_is_said_before_anything_starts(jobs_home, options, complaint):
    with pytest.raises(InvalidCall, match=complaint):
        hybrid_job(functions.add, runner=RehearsalRunner(**options))(1)

    assert not (jobs_home / "rehearsal").exists()


def test_an_input_in_amazons_s3_is_none_of_the_emulators(jobs_home):
    with pytest.raises(InvalidCall, match="lies in Amazon's S3, and a rehearsal has one of its own"):
        hybrid_job(functions.read_input, runner="rehearsal", inputs={"set": "s3://bucket/key"})("set")

    assert not (jobs_home / "rehearsal").exists()


def test_only_rehearsals_have_a_report():
    job = hybrid_job(functions.add, runner="inline")(1)

    with pytest.raises(InvalidCall, match="no rehearsal"):
        report(job)
    assert record.runs(job._folder) == []


def test_phases_are_the_times_between_events():
    kinds = ["QUEUED_FOR_EXECUTION", "STARTING_INSTANCE", "RUNNING", "COMPLETED"]
    events = [{"eventType": kind, "timeOfEvent": 10.0 + 2.0**n} for n, kind in enumerate(kinds)]

    assert phases({"events": events}) == {"queued": 1.0, "starting the instance": 2.0, "running": 4.0}
