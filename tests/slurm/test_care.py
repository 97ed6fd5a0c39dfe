"""What sites, users and accidents do to a submission: one job of Slurm's, and nobody else's is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pl_hybridjobs import Status, hybrid_job, list_jobs, open_job
from pl_hybridjobs.errors import InvalidCall, JobFailed, RunnerError
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.slurm import commands, runner
from pl_hybridjobs.slurm.commands import Seen
from pl_hybridjobs.slurm.record import SUBMISSIONS
from pl_hybridjobs.slurm.runner import SlurmRunner
from tests.jobs import functions
from tests.slurm.helpers import WAIT_S, a_site_wraps, jobs_of, number, submissions, submit, submitted, told, until

ROOT = Path(__file__).parents[2]
HOLD = ["--hold"]
pytestmark = pytest.mark.usefixtures("slurm")


@pytest.mark.parametrize(
    "script",
    [
        """echo '*** your quota: 93% ***'; $REAL "$@"; status=$?; echo 'this job costs 3 EUR'; exit $status""",
        """printf '\\xff\\xfe\\n' >&2; echo "$($REAL "$@");alpha" """,
        """$REAL "$@" >/dev/null; echo done""",
        """$REAL "$@" >/dev/null; kill -KILL $$""",
        """$REAL "$@" >/dev/null; echo 'site: the log cannot be written' >&2; exit 1""",
    ],
    ids=["banner", "no text", "no number", "killed", "refuses afterwards"],
)
def test_whatever_sbatch_says_afterwards_slurm_has_one_job_and_we_know_its_number(slurm, script, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_S", 0.01)
    a_site_wraps("sbatch", script, tmp_path / "bin", monkeypatch)

    job = submit(functions.add, 1, slurm_options=HOLD)

    assert told(slurm, job)["Comment"] == f"hybridjobs:{job.id}:1"
    assert submitted(slurm, job) == 1


@pytest.mark.parametrize("call", ["function(1)", "function.map([{'a': 1}, {'a': 2}])[0]"], ids=["job", "array"])
def test_a_client_that_is_killed_while_sbatch_goes_on_and_comes_back_at_once_leaves_one_job(call, slurm, tmp_path, monkeypatch):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    code = f"""
from pl_hybridjobs import hybrid_job
from pl_hybridjobs.slurm.runner import SlurmRunner
from tests.jobs import functions
function = hybrid_job(functions.add, runner=SlurmRunner(options={HOLD}), key="once")
job = {call}
"""
    with monkeypatch.context() as patched:
        a_site_wraps("sbatch", f'touch {begun}; sleep 1; $REAL "$@" >/dev/null; touch {ended}', tmp_path / "bin", patched)
        patched.setenv("PYTHONPATH", str(ROOT))
        client = subprocess.Popen([sys.executable, "-c", code])
        until(begun.exists)
        client.kill()
        client.wait()

    found: dict[str, Any] = {}
    exec(code, found)

    until(ended.exists)
    assert submitted(slurm, found["job"]) == 1
    assert found["job"].state().detail.endswith("(JobHeldUser)")


def test_a_number_that_has_become_another_jobs_is_not_ours(slurm):
    other, mine = (submit(functions.add, n, slurm_options=HOLD) for n in range(2))
    slurm.ask("scancel", number(mine))
    folder = JobFolder(mine.folder)
    last = SUBMISSIONS.latest(folder)
    assert last is not None
    SUBMISSIONS.write(folder, replace(last, job=number(other)))  # as after a controller has lost its state, and counts from 1 again

    assert mine.status is Status.INTERRUPTED
    assert mine.cancel() is Status.CANCELLED
    assert other.status is Status.QUEUED


def test_of_several_who_resume_a_job_at_once_one_submits_it(slurm, monkeypatch):
    job = submit(functions.add, 1, slurm_options=HOLD)
    slurm.ask("scancel", number(job))
    assert job.wait(WAIT_S) is Status.INTERRUPTED
    clients = [open_job(job.id) for _ in range(4)]
    ready = threading.Barrier(len(clients))
    for client in clients:  # all have seen that it may be resumed
        monkeypatch.setattr(client, "_ready", lambda limits, of=client: of if ready.wait() >= 0 else None)

    threads = [threading.Thread(target=client.resume) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert submissions(job) == 2
    assert len(jobs_of(slurm)) == 1


def test_a_retry_waits_for_the_jobs_before_it_too(slurm):
    first = submit(functions.sleep, 30)
    second = submit(functions.add, 1, slurm_after=[first], retries=3)
    slurm.ask("scancel", number(second))

    until(lambda: second.status is Status.QUEUED and submissions(second) == 2)
    assert told(slurm, second)["Dependency"].startswith(f"afterok:{number(first)}")

    first.cancel()
    assert second.wait(WAIT_S) is Status.INTERRUPTED
    with pytest.raises(RunnerError, match=f"{first.id} is cancelled, so what waits for it would never begin"):
        second.resume()
    again = first.resume()
    second.resume()
    assert told(slurm, second)["Dependency"].startswith(f"afterok:{number(again)}")


def test_to_cancel_one_element_takes_no_longer_because_others_wait(slurm):
    sweep = hybrid_job(functions.sleep, runner="slurm").map([{"seconds": 30}] * 4, max_parallel=1)
    until(lambda: sweep[0].status is Status.RUNNING)

    begun = time.monotonic()
    sweep[0].cancel()
    taken_s = time.monotonic() - begun

    assert taken_s < 3  # scancel goes on for 5 s and more
    assert [job.status for job in sweep[2:]] == [Status.QUEUED, Status.QUEUED]
    sweep.cancel()


def test_elements_that_somebody_cancels_are_interrupted_though_slurm_tells_nothing_of_them(slurm):
    sweep = hybrid_job(functions.add, runner=SlurmRunner(options=HOLD)).map([{"a": a} for a in range(3)])
    array = number(sweep[0]).partition("_")[0]

    slurm.ask("scancel", f"{array}_1")
    until(lambda: [job.status for job in sweep] == [Status.QUEUED, Status.INTERRUPTED, Status.QUEUED])
    slurm.ask("scancel", array)
    until(lambda: {job.status for job in sweep} == {Status.INTERRUPTED})

    whole = hybrid_job(functions.add, runner=SlurmRunner(options=HOLD)).map([{"a": a} for a in range(3)])
    slurm.ask("scancel", number(whole[0]).partition("_")[0])
    until(lambda: {job.status for job in whole} == {Status.INTERRUPTED})
    assert whole[2].state().detail == f"Slurm's job {number(whole[2])} is CANCELLED (JobHeldUser)"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '987654|TIMEOUT|0:15|n17'", Seen("987654", "TIMEOUT", node="n17", code=0)),
        ("echo '987654|CANCELLED by 1000|1:0|None assigned'", Seen("987654", "CANCELLED", code=1)),
        ("echo 'Slurm accounting storage is disabled' >&2; exit 1", None),
        ("echo 'a banner | of | the | site'", None),
        ("sleep 60", None),
    ],
    ids=["ended", "cancelled", "disabled", "banner", "hangs"],
)
def test_sacct_is_asked_for_what_the_controller_has_forgotten_and_may_fail(script, expected, tmp_path, monkeypatch):
    # No accounting here: a stand-in prints what sacct(1) documents for --parsable2.
    monkeypatch.setattr(commands, "_TIMEOUT_S", 5.0 if script != "sleep 60" else 1.0)
    sacct = tmp_path / "sacct"
    sacct.write_text(f"#!/bin/bash\n{script}\n")
    sacct.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert commands.show("987654") == expected


def test_variables_that_would_make_another_thing_of_a_submission_do_not(slurm, monkeypatch):
    with monkeypatch.context() as patched:
        for name, value in {
            "SBATCH_WAIT": "1",
            "SBATCH_ARRAY_INX": "0-3",
            "SQUEUE_STATES": "RUNNING",
            "SBATCH_PARTITION": "urgent",
        }.items():
            patched.setenv(name, value)
        job = submit(functions.add, 1, slurm_options=["--begin=now+60"])
        assert job.status is Status.QUEUED

    assert jobs_of(slurm) == [f"{number(job)} PENDING"]
    assert told(slurm, job)["Partition"] == "urgent"
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    with pytest.raises(InvalidCall, match="SBATCH_CLUSTERS=other sends jobs to clusters where they cannot be followed"):
        submit(functions.add, 1)


def test_options_that_the_runner_sets_itself_are_refused_by_their_beginnings_too():
    options = ["--arr=0-3", "--comm=mine", "--job-name=x", "--chdir=/tmp", "--clusters=a", "--no-req"]
    wrong: dict[str, Any] = {"grace_s": 1e5, "requeue": "no", "setup": ["export A=1 \\"]}
    with pytest.raises(InvalidCall, match=r"--no-req', which the runner sets itself; give requeue=False") as caught:
        hybrid_job(functions.add, runner=SlurmRunner(options=options, **wrong))(1)

    assert len(caught.value.complaints) == len(options) + 3


@pytest.mark.parametrize("line", ["if true", "cat <<EOF", "echo 'unfinished"])
def test_setup_that_the_shell_cannot_read_is_refused_before_anything_is_written(line):
    with pytest.raises(InvalidCall, match=r"setup is no shell that can be read: bash: line \d+: "):
        submit(functions.add, 1, slurm_setup=[line])

    assert list_jobs() == []


def test_an_option_that_is_misspelt_is_named_with_its_neighbour():
    with pytest.raises(InvalidCall, match=r"no option 'partion'.*Did you mean 'partition'"):
        SlurmRunner(partion="cpu")  # type: ignore[call-arg]


def test_setup_that_ends_the_script_fails_the_job():
    with pytest.raises(JobFailed, match=r"(?s)environment.*setup has ended the batch script.*bye"):
        submit(functions.add, 1, slurm_setup=["echo bye; exit 0"], retries=3).result(WAIT_S)
