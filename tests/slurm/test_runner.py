"""Jobs on a real Slurm: arrays, preemption, cancellation, a dead controller, and the same job run twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pl_hybridjobs import Job, Resources, Status, hybrid_job, list_jobs, open_job
from pl_hybridjobs.errors import InvalidCall, JobFailed, JobInterrupted, JobTimeout, RunnerError
from pl_hybridjobs.jobs import process
from pl_hybridjobs.slurm.runner import SlurmRunner
from tests.jobs import functions
from tests.jobs.test_environment import builds, probe, versions
from tests.queues import owner_of
from tests.slurm.cluster import Cluster
from tests.slurm.helpers import WAIT_S, a_site_wraps, jobs_of, number, submissions, submit, submitted, told, until

__all__ = ["probe"]  # a fixture
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("slurm")


def inline(steps: int) -> float:
    return float(hybrid_job(functions.count, runner="inline")(steps).result())


def take_the_node(cluster: Cluster) -> str:
    """An urgent job that preempts all others; it ends by itself."""
    script = "#!/bin/bash\nsleep 1\n"
    argv = ["sbatch", "--parsable", "--output=/dev/null", "--partition=urgent", "--exclusive"]
    return subprocess.run(argv, input=script, env=cluster.env, check=True, capture_output=True, text=True).stdout.strip()


def without_delay(cluster: Cluster, job: Job) -> None:
    """Slurm lets a requeued job wait for as long as a credential is good."""
    until(lambda: told(cluster, job)["JobState"] == "PENDING")
    cluster.ask("scontrol", "update", f"JobId={number(job)}", "StartTime=now")


# What Slurm is asked for


def test_resources_and_options_become_slurms(slurm):
    resources = Resources(timeout_s=30, memory_mb=300, threads=2)
    job = submit(functions.sleep, 30, resources=resources, slurm_partition="yielding", slurm_options=["--nice=5"])

    asked = told(slurm, job)

    assert (asked["Partition"], asked["NumCPUs"], asked["Nice"]) == ("yielding", "2", "5")
    assert asked["TimeLimit"] == "00:04:00"  # 30 s, one minute to begin, one to stop, one that Slurm takes
    assert "mem=351M" in asked["TRES"]  # 300 megabytes are 287 of Slurm's, and the supervisor needs 64
    assert asked["Comment"] == f"hybridjobs:{job.id}:1"
    assert (asked["JobName"], asked["Requeue"]) == (job.name, "1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "nope"}, "invalid partition specified: nope.*sinfo -s"),
        ({"walltime_s": 2 * 3600}, "Requested time limit is invalid.*sinfo -o '%P %l'"),
        ({"constraint": "gpu"}, "Invalid feature specification"),
        ({"gpus": 1}, r"Invalid generic resource \(gres\) specification"),
        ({"options": ["--bogus=1"]}, "unrecognized option '--bogus=1'"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_own_words_before_anything_is_written(options, words, jobs_home):
    with pytest.raises(InvalidCall, match=words):
        hybrid_job(functions.add, runner=SlurmRunner(**options))(1)

    assert not list(jobs_home.glob("jobs/*"))


def test_wrong_options_are_told_together():
    runner = SlurmRunner(partition="", gpus="many", environment="own", grace_s=-1, setup=["a\nb"], options=["-p x", "--comment=mine"])
    with pytest.raises(InvalidCall) as caught:
        hybrid_job(functions.add, runner=runner)(1)

    assert len(caught.value.complaints) == 7


@pytest.mark.parametrize("state", ["drain", "down"])
def test_while_all_nodes_are_away_a_job_waits_for_them(slurm, state):
    slurm.ask("scontrol", "update", "nodename=localhost", f"state={state}", "reason=maintenance")

    job = submit(functions.add, 1)
    assert job.status is Status.QUEUED
    with pytest.raises((JobFailed, RunnerError), match=r"sinfo -o '%P %c %m %G'"):  # what they could never do is told all the same
        submit(functions.add, 1, slurm_options=["--mem=900G"], retries=3).result(WAIT_S)
    slurm.ask("scontrol", "update", "nodename=localhost", "state=resume")

    assert job.result(WAIT_S) == 3


def test_a_walltime_that_ends_before_the_timeout_is_refused():
    with pytest.raises(InvalidCall, match=r"ends before Resources.timeout_s=1000 can; take at least 1120, or None"):
        submit(functions.add, 1, resources=Resources(timeout_s=1000), slurm_walltime_s=600)
    with pytest.raises(InvalidCall, match="leaves nothing to work in"):
        submit(functions.add, 1, slurm_walltime_s=100)


def test_a_machine_without_slurm_says_what_was_looked_for(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(InvalidCall, match=r"there is no sbatch, no squeue, no scontrol, no scancel in PATH=/nowhere"):
        submit(functions.add, 1)


def test_setup_comes_first_and_its_failure_fails_the_job_with_what_it_said():
    job = submit(os.getenv, "FROM_SETUP", slurm_setup=["export FROM_SETUP='a b' # kept"])
    bad = submit(functions.add, 1, slurm_setup=["echo no such module >&2; false"], retries=3)

    assert job.result(WAIT_S) == "a b"
    with pytest.raises(JobFailed, match=r"(?s)environment.*no such module\nsetup failed: echo no such"):
        bad.result(WAIT_S)


def test_an_interpreter_that_is_not_on_the_node_fails_the_job():
    with pytest.raises(JobFailed, match=r"(?s)environment.*/no/python"):
        submit(functions.add, 1, slurm_python="/no/python").result(WAIT_S)


@pytest.mark.torture_long
def test_a_locked_environment_is_built_on_the_node_and_kept(probe):
    runner = SlurmRunner(environment="locked")
    first = hybrid_job(versions, runner=runner, requirements=probe)()

    assert first.result(2 * WAIT_S) == ("1.5", True, True)
    second = hybrid_job(versions, runner=runner, requirements=probe)()
    assert second.result(WAIT_S) == ("1.5", True, True)
    assert builds(first, second) == 1


def test_a_timeout_is_a_failure_and_not_slurms_business():
    with pytest.raises(JobTimeout, match="timeout_s=1"):
        submit(functions.sleep, 60, resources=Resources(timeout_s=1)).result(WAIT_S)


def test_a_probe_tells_whether_nodes_share_the_folder(tmp_path, monkeypatch):
    assert submit(functions.add, 1, slurm_probe=True).result(WAIT_S) == 3

    with pytest.raises(InvalidCall, match=r"node localhost cannot run /no/python"):
        submit(functions.add, 1, slurm_probe=True, slurm_python="/no/python")


# Arrays and dependencies


def test_twenty_calls_are_one_array_with_a_limit_and_their_results_are_in_order(slurm):
    sweep = hybrid_job(functions.add, runner="slurm").map([{"a": a} for a in range(20)], max_parallel=6)
    numbers = {number(job).partition("_")[0] for job in sweep}
    most = 0
    while not all(job.status.is_over for job in sweep):
        most = max(most, sum(" RUNNING" in line for line in jobs_of(slurm)))

    assert sweep.results(WAIT_S) == [a + 2 for a in range(20)]
    assert len(numbers) == 1
    assert 1 < most <= 6


def test_a_sweep_that_was_submitted_just_now_is_listed_by_one_question(slurm, tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    a_site_wraps("squeue", f'echo >> {asked}; exec $REAL "$@"', tmp_path / "bin", monkeypatch)
    hybrid_job(functions.add, runner=SlurmRunner(options=["--hold"])).map([{"a": a} for a in range(9)])
    asked.unlink(missing_ok=True)

    assert [job.status for job in list_jobs()] == [Status.QUEUED] * 9
    assert len(asked.read_text().splitlines()) <= 2  # the list, and once more if it has become old


def test_while_nobody_looks_a_sweep_goes_on_and_a_failure_ends_it_and_resume_goes_on_with_all():
    sweep = hybrid_job(functions.fail_if_odd, runner="slurm").map([{"number": n} for n in (2, 1, 4)], max_parallel=1, on_failure="stop")

    until(lambda: all((job.folder / "outcome.json").exists() for job in sweep))
    assert [job.status for job in sweep] == [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
    sweep.resume().wait(WAIT_S)
    assert [bool(job.spec.continues) for job in sweep] == [False, True, True]


def test_a_job_begins_when_those_before_it_have_completed(slurm):
    first = submit(functions.sleep, 1)
    second = submit(functions.add, 1, slurm_after=[first])
    assert told(slurm, second)["Dependency"].startswith(f"afterok:{number(first)}")

    assert second.result(WAIT_S) == 3
    assert first.status is Status.COMPLETED
    assert "Dependency" in told(slurm, submit(functions.add, 1, slurm_after=first))  # completed: nothing to wait for


def test_a_job_whose_predecessor_fails_never_begins():
    first = submit(functions.fail)
    second = submit(functions.add, 1, slurm_after=[first.name])

    assert second.wait(WAIT_S) is Status.INTERRUPTED
    assert second.attempt == 0
    with pytest.raises(InvalidCall, match=f"{first.id} is failed, so what waits for it would never begin"):
        submit(functions.add, 1, slurm_after=first)


# Stopping, preemption, retries


def test_preempted_jobs_save_and_end_with_the_same_bits_requeued_by_slurm_or_submitted_again_by_us(slurm):
    requeued = submit(functions.count, 40, pause_s=0.1)
    cancelled = submit(functions.count, 40, pause_s=0.1, retries=1, slurm_partition="yielding", slurm_requeue=False)
    until(lambda: all(len(job.checkpoints()) > 1 for job in (requeued, cancelled)))
    begun_as = number(cancelled)

    take_the_node(slurm)
    without_delay(slurm, requeued)
    until(lambda: [job.status for job in (requeued, cancelled)] == [Status.COMPLETED] * 2)  # side by side

    for job in (requeued, cancelled):
        assert job.result().hex() == inline(40).hex()
        assert job.attempt == 2
        assert "SIGUSR1" in job.logs()
        assert list(job.metrics().steps("total")) == list(range(40))
    assert submissions(requeued) == 1  # the same job of Slurm's
    assert submissions(cancelled) == 2
    assert number(cancelled) != begun_as


@pytest.mark.torture_long
def test_without_retries_a_job_that_slurm_ended_is_interrupted_and_can_be_resumed(slurm):
    job = submit(functions.count, 30, pause_s=0.1)
    until(lambda: len(job.checkpoints()) > 1)

    slurm.ask("scancel", number(job))

    with pytest.raises(JobInterrupted, match=f"hybridjobs resume {job.name}"):
        job.result(WAIT_S)
    assert job.resume().result(WAIT_S).hex() == inline(30).hex()


@pytest.mark.torture_long
def test_a_supervisor_that_is_killed_is_retried():
    job = submit(functions.count, 20, pause_s=0.1, retries=1)
    until(lambda: len(job.checkpoints()) > 1)

    os.kill(owner_of(job), signal.SIGKILL)

    assert job.result(WAIT_S).hex() == inline(20).hex()
    assert job.attempt == 2


@pytest.mark.torture_long
def test_at_the_end_of_its_walltime_a_job_goes_on_in_a_next_one(slurm):
    job = submit(functions.count, 200, pause_s=0.5, retries=3, slurm_walltime_s=120, slurm_grace_s=20)
    until(lambda: job.attempt == 1 and job.status is Status.QUEUED, timeout_s=150)
    without_delay(slurm, job)

    assert job.result(300).hex() == inline(200).hex()
    assert job.attempt >= 2


def test_a_running_job_is_cancelled_with_a_grace_period(slurm):
    job = submit(functions.count, 1000, pause_s=0.1)
    until(lambda: len(job.checkpoints()) > 1)

    assert job.cancel(grace_s=5) is Status.CANCELLED
    assert "stop" in job.logs()
    until(lambda: not jobs_of(slurm))


def test_a_waiting_job_is_cancelled_and_never_runs(slurm):
    job = submit(functions.add, 1, slurm_options=["--begin=now+60"])
    assert job.status is Status.QUEUED

    assert job.cancel() is Status.CANCELLED
    assert job.attempt == 0
    until(lambda: not jobs_of(slurm))


# A controller that does not answer, and submission more than once


def test_a_dead_controller_loses_nothing_and_nothing_is_submitted_twice(slurm):
    waiting = submit(functions.add, 1, retries=5, slurm_options=["--hold"])
    running = submit(functions.count, 20, pause_s=0.1, retries=5)
    until(lambda: running.status is Status.RUNNING)
    slurm.wait_until_saved()

    slurm.kill_controller()
    try:
        until(lambda: waiting.status is Status.UNKNOWN)  # what was heard a second ago may still be told
        assert "Slurm cannot be asked" in waiting.state().detail
        assert running.result(WAIT_S).hex() == inline(20).hex()  # the folder says it
        with pytest.raises(InvalidCall, match=r"(?i)unable to contact slurm controller"):
            submit(functions.add, 2)
        assert {job.status for job in list_jobs()} == {Status.UNKNOWN, Status.COMPLETED}
    finally:
        slurm.start_controller()
        slurm.wait()
    slurm.ask("scontrol", "release", number(waiting))

    assert waiting.result(WAIT_S) == 3
    assert [submissions(job) for job in (waiting, running)] == [1, 1]


@pytest.mark.torture_long
def test_a_job_that_slurm_runs_twice_has_one_owner(slurm, tmp_path):
    job = submit(functions.count, 30, pause_s=0.1)
    until(lambda: len(job.checkpoints()) > 1)
    script = tmp_path / "again.sh"
    slurm.ask("scontrol", "write", "batch_script", number(job), str(script))

    twin = subprocess.Popen(["bash", str(script)], env={**slurm.env, "SLURM_JOB_ID": number(job)}, start_new_session=True)

    assert job.result(WAIT_S).hex() == inline(30).hex()
    assert job.attempt == 1
    assert twin.wait(WAIT_S) == 0
    assert "waits, in case it dies" in (job.folder / "slurm" / "1.out").read_text()


def test_the_second_instance_takes_over_when_the_first_one_dies(slurm, tmp_path):
    job = submit(functions.count, 30, pause_s=0.1)
    until(lambda: len(job.checkpoints()) > 1)
    script = tmp_path / "again.sh"
    slurm.ask("scontrol", "write", "batch_script", number(job), str(script))
    twin = subprocess.Popen(["bash", str(script)], env=slurm.env, start_new_session=True)
    until(lambda: "waits" in (job.folder / "slurm" / "1.out").read_text())

    os.kill(owner_of(job), signal.SIGKILL)

    assert twin.wait(WAIT_S) == 0  # before we look: Slurm, which knows nothing of this twin, says that the job has ended
    assert job.result(WAIT_S).hex() == inline(30).hex()
    assert job.attempt == 2
    assert list(job.metrics().steps("total")) == list(range(30))


@pytest.mark.torture_long
def test_a_controller_that_is_killed_and_forgets_costs_no_step(slurm):
    job = submit(functions.count, 100, pause_s=0.1)
    until(job.checkpoints)
    slurm.kill_controller()
    time.sleep(1)
    slurm.start_controller()  # with a state that is older than the job's start: it runs it again, under the same number

    assert job.result(WAIT_S).hex() == inline(100).hex()
    assert list(job.metrics().steps("total")) == list(range(100))
    assert submissions(job) == 1


@pytest.mark.parametrize(
    ("point", "is_submitted"), [pytest.param("slurm.intent", False, marks=pytest.mark.torture_long), ("slurm.submitted", True)]
)
def test_a_client_that_dies_in_a_submission_leaves_one_job(slurm, point, is_submitted):
    code = "from pl_hybridjobs import hybrid_job; from tests.jobs import functions; hybrid_job(functions.add, runner='slurm')(1)"
    env = {**slurm.env, "HYBRIDJOBS_CRASH_AT": point, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 86
    (job,) = list_jobs()
    if is_submitted:
        assert job.result(WAIT_S) == 3  # found by its key
    else:
        assert job.status is Status.CREATED
        assert job.resume().result(WAIT_S) == 3

    assert submissions(job) == 1
    assert submitted(slurm, job) == 1


def test_a_submission_whose_answer_is_lost_is_looked_for_before_a_second_one(slurm, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("sbatch")
    programs.joinpath("sbatch").write_text(
        f'#!/bin/bash\ncase "$*" in *--test-only*) exec {real} "$@";; esac\n'
        f'{real} "$@" >/dev/null && echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2\nexit 1\n'
    )
    programs.joinpath("sbatch").chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    job = submit(functions.add, 1)

    assert job.result(WAIT_S) == 3
    assert submitted(slurm, job) == 1


@pytest.mark.torture_long
def test_a_refusal_leaves_a_job_that_can_be_resumed(slurm, tmp_path, monkeypatch):
    job = submit(functions.count, 10, pause_s=0.3)
    until(job.checkpoints)
    slurm.ask("scancel", number(job))
    assert job.wait(WAIT_S) is Status.INTERRUPTED
    with monkeypatch.context() as patched:  # accounts are only refused where there is a database of them
        refusal = "sbatch: error: Invalid account or account/partition combination specified"
        a_site_wraps("sbatch", f"echo '{refusal}' >&2; exit 1", tmp_path / "bin", patched)
        with pytest.raises(RunnerError, match=r"Invalid account.*sacctmgr show assoc"):
            job.resume()

    assert open_job(job.name).status is Status.INTERRUPTED
    assert job.resume().result(WAIT_S).hex() == inline(10).hex()


def test_nothing_of_a_job_is_left_on_the_node():
    job = submit(functions.start_grandchildren)
    until(lambda: "started" in job.logs())

    job.cancel(grace_s=0.2)

    assert process.of_token(f"{job.id}:1") == []
