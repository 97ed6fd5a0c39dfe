"""Jobs as processes: limits, cancelling, retries, leaving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pl_hybridjobs import Resources, Status, hybrid_job, list_jobs, open_job
from pl_hybridjobs.errors import FolderCorrupt, JobCancelled, JobFailed, JobInterrupted, JobTimeout, ResultNotReady
from pl_hybridjobs.jobs import process
from tests.jobs import functions

ROOT = Path(__file__).parents[2]
WAIT_S = 60


def test_a_timeout_stops_the_job_and_says_so():
    job = hybrid_job(functions.sleep, resources=Resources(timeout_s=0.5))(60)

    with pytest.raises(JobTimeout, match=r"timeout_s=0\.5"):
        job.result(WAIT_S)
    assert job.status is Status.FAILED


def test_too_much_memory_stops_the_job_and_says_so():
    job = hybrid_job(functions.eat_memory, resources={"memory_mb": 150})(400)

    with pytest.raises(JobFailed, match="more than memory_mb=150"):
        job.result(WAIT_S)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binding to cores is a Linux feature")
def test_threads_bind_the_job_to_so_many_cores():
    assert hybrid_job(functions.cpus, resources={"threads": 1})().result(WAIT_S) == (1, "1")


def test_an_environment_variable_reaches_the_job():
    assert hybrid_job(os.getenv, resources={"env": {"HJ_TEST": "here"}})("HJ_TEST").result(WAIT_S) == "here"


def test_interruptions_are_retried_by_themselves():
    job = hybrid_job(functions.count, retries={"interruptions": 1, "backoff_s": 0.05})(6, die_at=3)

    assert job.result(WAIT_S) == hybrid_job(functions.count).inline(6)
    assert job.attempt == 2


def test_without_retries_it_is_interrupted_and_never_completed():
    job = hybrid_job(functions.exit_quietly)()

    with pytest.raises(JobInterrupted, match="hybridjobs resume exit_quietly"):
        job.result(WAIT_S)


def test_a_supervisor_between_attempts_writes_its_signals_into_no_file():
    job = hybrid_job(functions.exit_quietly)()
    assert job.wait(WAIT_S) is Status.INTERRUPTED
    again = (
        "import signal, sys; from pathlib import Path; from pl_hybridjobs.jobs import folder, supervisor; "
        "job = folder.JobFolder(Path(sys.argv[1])); spec = job.spec(); "
        "supervisor.supervise(job, spec, spec.bundle_digest, 'resume'); print(signal.set_wakeup_fd(-1))"
    )

    done = subprocess.run([sys.executable, "-c", again, str(job.folder)], capture_output=True, text=True, timeout=WAIT_S)

    assert (done.stdout, done.stderr) == ("-1\n", "")
    assert job.attempt == 2


def test_a_retry_follows_the_supervisors_own_death():
    job = hybrid_job(functions.count, retries=1)(30, pause_s=0.05)
    while not job.checkpoints():
        time.sleep(0.01)
    lease = job.state().lease
    assert lease is not None
    os.kill(lease.owner.pid, signal.SIGKILL)

    assert job.result(WAIT_S) == hybrid_job(functions.count).inline(30)
    assert job.attempt == 2


def test_cancel_ends_every_process():
    job = hybrid_job(functions.start_grandchildren)()
    while "started" not in job.logs():
        time.sleep(0.02)
    lease = job.state().lease
    assert lease is not None
    family = process.descendants(lease.owner.pid)

    assert job.cancel(grace_s=0.5) is Status.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()
    deadline = time.monotonic() + 5
    while any(process.Identity.of(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in family if process.Identity.of(pid)] == []


def test_waiting_with_a_timeout_leaves_the_job_running():
    job = hybrid_job(functions.sleep)(30)

    with pytest.raises(ResultNotReady, match="goes on"):
        job.result(0.2)
    assert not job.status.is_over
    job.cancel(0.1)


LEAVE = "from pl_hybridjobs import hybrid_job\nfrom tests.jobs import functions\nhybrid_job(functions.sleep, name='left')(1.0)\n"
WAIT = "from pl_hybridjobs import open_job\nprint('waiting', flush=True)\nopen_job('left').wait()\n"


def test_the_caller_may_exit_at_once_and_ctrl_c_says_how_to_come_back():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LEAVE.replace("1.0", "3.0")], env=env, check=True, timeout=30)
    waiter = subprocess.Popen([sys.executable, "-c", WAIT], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "waiting\n"
    time.sleep(0.5)
    waiter.send_signal(signal.SIGINT)
    _, errors = waiter.communicate(timeout=30)

    assert "KeyboardInterrupt" in errors
    assert "hybridjobs logs -f left" in errors
    job = open_job("left")
    assert job.wait(WAIT_S) is Status.COMPLETED


def test_a_sweep_runs_so_many_at_once_and_goes_on_without_its_caller():
    code = (
        "from pl_hybridjobs import hybrid_job\nfrom tests.jobs import functions\n"
        "hybrid_job(functions.sleep, name='s').map([{'seconds': 0.2}] * 5, max_parallel=2)\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=30)

    for name in ("s", "s-2", "s-3", "s-4", "s-5"):
        assert open_job(name).wait(WAIT_S) is Status.COMPLETED
    times = sorted((job.folder / "outcome.json").stat().st_mtime for job in map(open_job, ("s", "s-3", "s-5")))
    assert times[-1] - times[0] > 0.3


def test_a_jobs_metrics_are_followed_and_plotted(tmp_path):
    job = hybrid_job(functions.count)(5)
    followed = [(record.step, record.value) for record in job.metrics("total", follow=True)]
    job.wait(WAIT_S)

    table = job.metrics()
    assert followed == list(zip(table.steps("total").tolist(), table["total"].tolist(), strict=True))
    assert len(followed) == 5

    job.plot(tmp_path / "curve.png")

    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "total" in job._repr_html_()


def test_a_cancelled_job_resumes_as_a_new_one_with_its_checkpoints_and_metrics():
    job = hybrid_job(functions.count, retries={"interruptions": 1, "backoff_s": 0.01})(30, pause_s=0.05, die_at=2)
    while not any(c.attempt == 2 for c in job.checkpoints()):
        time.sleep(0.02)
    job.cancel()

    again = job.resume()

    assert again.result(WAIT_S) == hybrid_job(functions.count).inline(30)
    assert list(again.metrics().steps("total")) == list(range(30))
    assert (job.status, again.spec.continues) == (Status.CANCELLED, job.id)


def test_a_damaged_outcome_makes_the_status_unknown_and_the_others_can_still_be_listed():
    good, bad = hybrid_job(functions.add)(1), hybrid_job(functions.add)(2)
    good.result(WAIT_S)
    bad.result(WAIT_S)
    (bad.folder / "outcome.json").write_bytes(b"{")

    assert [job.status for job in list_jobs()] == [Status.UNKNOWN, Status.COMPLETED]
    with pytest.raises(FolderCorrupt, match=r"outcome\.json"):
        bad.result(WAIT_S)


def test_a_job_that_was_submitted_inside_a_job_outlives_it():
    outer = hybrid_job(functions.submit_another)()

    assert open_job(outer.result(WAIT_S)).result(WAIT_S) == 1


def test_a_file_called_result_json_is_the_users_own():
    assert hybrid_job(functions.write_a_result_file)().result(WAIT_S) is None


def test_a_job_with_a_damaged_lease_can_be_cancelled_and_removed():
    job = hybrid_job(functions.sleep)(60)
    until_running(job)
    owner = process.of_token(f"{job.id}:1")
    lease = job.state().lease
    assert lease is not None
    supervisor = lease.owner.pid
    os.kill(supervisor, signal.SIGKILL)
    (job.folder / "attempts" / "1" / "lease.json").write_bytes(b"{tru")

    assert job.status is Status.UNKNOWN
    assert job.cancel() is Status.CANCELLED
    assert not [pid for pid in owner if process.Identity.of(pid)]
    job.remove()
    assert not job.folder.exists()


def test_a_job_that_was_removed_says_so_in_place_of_waiting_for_ever():
    job = hybrid_job(functions.add, runner="inline")(1)
    job.remove()

    with pytest.raises(FolderCorrupt, match="it was removed"):
        job.result(timeout=5)
    assert job.status is Status.UNKNOWN
    assert "it was removed" in repr(job)


def test_a_damaged_job_can_be_removed():
    job = hybrid_job(functions.add)(1)
    job.result(WAIT_S)
    (job.folder / "outcome.json").write_bytes(b"{")

    assert job.logs() == ""
    job.remove()
    assert not job.folder.exists()


def test_a_function_sees_its_own_arguments_in_sys_argv():
    assert hybrid_job(functions.argv)().result(WAIT_S) == ["argv"]


def test_an_os_error_keeps_its_number():
    with pytest.raises(FileNotFoundError) as caught:
        hybrid_job(functions.open_missing)().result(WAIT_S)

    assert caught.value.errno == 2


def until_running(job):
    deadline = time.monotonic() + WAIT_S
    while job.status is not Status.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.01)
