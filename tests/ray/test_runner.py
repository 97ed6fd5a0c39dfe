"""Jobs on a real Ray: dead workers, supervisors, raylets, heads and keepers; cancellation; two clusters side by side; nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pl_hybridjobs import Job, Resources, Status, hybrid_job, list_jobs
from pl_hybridjobs.errors import InvalidCall, JobInterrupted, JobTimeout, RunnerError
from pl_hybridjobs.home import default_home
from pl_hybridjobs.jobs import process
from pl_hybridjobs.ray import runner as runners
from pl_hybridjobs.ray.api import Api, Token, token
from pl_hybridjobs.ray.cluster import Cluster, Place
from pl_hybridjobs.ray.runner import SUBMISSIONS, RayRunner
from tests import queues
from tests.jobs import functions
from tests.queues import owner_of
from tests.ray import cluster as clusters
from tests.ray.cluster import Head

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
WAIT_S = 120
until = partial(queues.until, timeout_s=WAIT_S)
submissions = partial(queues.submissions, to=SUBMISSIONS)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(jobs_home: Path) -> Iterator[Place]:
    """Where ``runner="ray"`` has its Ray in this test."""
    if problem := clusters.problem():
        pytest.skip(problem)
    made = Place.of(jobs_home)
    yield made
    made.stop(now=True)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A cluster that somebody else has started."""
    if problem := clusters.problem():
        pytest.skip(problem)
    with clusters.head(tmp_path) as made:
        yield made


def at_work(runner: RayRunner | str, steps: int = 60, retries: int = 0) -> Job:
    """A job that counts, and has saved its first steps."""
    job = hybrid_job(functions.count, runner=runner, retries=retries)(steps, 0.1)
    until(lambda: len(job.checkpoints()) > 1)
    return job


def inline(steps: int = 60) -> float:
    return float(hybrid_job(functions.count, runner="inline")(steps).result())


def went_on(job: Job, attempts: int = 2, steps: int = 60) -> None:
    """The job has ended with the bits of one that nobody disturbed, and no step is lost or done in vain."""
    assert job.result(WAIT_S).hex() == inline(steps).hex()
    assert job.attempt == attempts
    assert list(job.metrics().steps("total")) == list(range(steps))


def living(place: Place) -> Cluster:
    cluster = place.living()
    assert cluster is not None
    return cluster


def named(cluster: Cluster, what: str) -> int:
    """The process of Ray whose command line holds a word."""
    for pid in process.of_session(cluster.head):
        if what in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
            return pid
    raise AssertionError(f"there is no {what}")


# On a cluster that is there


def test_a_worker_that_is_killed_is_begun_again_by_its_supervisor(ray):
    job = hybrid_job(functions.count, runner=ray, retries=1)(20, 0.05, 9)

    went_on(job, steps=20)
    assert submissions(job) == 1


def test_a_supervisor_that_is_killed_is_submitted_again(ray):
    job = at_work(ray, retries=1)

    os.kill(owner_of(job), signal.SIGKILL)

    went_on(job)
    assert submissions(job) == 2


def test_without_retries_a_job_that_ray_stopped_is_interrupted_and_resumes_to_the_same_bits(ray):
    job = at_work(ray)

    Api(ray.address, token(ray.token_file)).stop(job.place.removeprefix("Ray job "))

    with pytest.raises(JobInterrupted, match=f"hybridjobs resume {job.name}"):
        job.result(WAIT_S)
    assert "at the next step boundary" in job.logs() or "stopping" in job.logs()
    went_on(job.resume())


def test_a_running_job_is_cancelled_with_a_grace_period_and_nothing_of_it_is_left(ray):
    job = at_work(ray, 1000)
    family = hybrid_job(functions.start_grandchildren, runner=ray)()
    until(lambda: "started" in family.logs())

    assert job.cancel(grace_s=5) is Status.CANCELLED
    assert family.cancel(grace_s=0.2) is Status.CANCELLED

    assert "SIGUSR1: stopping" in job.logs()
    assert process.of_token(f"{family.id}:1") == []


def test_a_supervisor_that_does_not_answer_is_ended_by_ray(ray):
    job = at_work(ray, 10_000)
    os.kill(owner_of(job), signal.SIGSTOP)

    assert job.cancel(grace_s=0.1) is Status.CANCELLED
    assert process.of_token(f"{job.id}:1") == []


def test_a_timeout_is_a_failure_and_not_rays_business(ray):
    job = hybrid_job(functions.sleep, runner=ray, resources=Resources(timeout_s=1))(60)

    with pytest.raises(JobTimeout, match="timeout_s=1"):
        job.result(WAIT_S)


def test_threads_are_cores_that_ray_keeps_for_the_job(ray):
    cores = os.cpu_count() or 1
    first = hybrid_job(functions.sleep, runner=ray, resources=Resources(threads=cores))(60)
    until(lambda: first.status is Status.RUNNING)
    second = hybrid_job(functions.cpus, runner=ray, resources=Resources(threads=1))()
    time.sleep(3)
    assert second.status is Status.QUEUED

    first.cancel(grace_s=0.1)

    assert second.result(WAIT_S) == (1, "1")


def test_a_sweep_keeps_its_limit_and_its_results_are_in_order(ray):
    sweep = hybrid_job(functions.add, runner=ray).map([{"a": a} for a in range(6)], max_parallel=2)

    until(lambda: all(job.status.is_over for job in sweep))  # who waits for a sweep may begin the next job sooner than the lane does

    assert len({job.place for job in sweep}) == 2
    assert sweep.results(WAIT_S) == [a + 2 for a in range(6)]


def test_a_wrong_token_is_refused_and_makes_no_running_job_fail(ray, tmp_path, monkeypatch):
    job = at_work(ray, 100)
    waiting = hybrid_job(functions.add, runner=ray, resources=Resources(threads=os.cpu_count()))(1)
    tmp_path.joinpath("wrong").write_text("nonsense")

    with pytest.raises(InvalidCall, match=r"refuses the token from .*wrong"):
        hybrid_job(functions.add, runner=replace(ray, token_file=str(tmp_path / "wrong")))(1)
    with monkeypatch.context() as without:
        without.setenv("HOME", str(tmp_path))
        with pytest.raises(InvalidCall, match="wants a token, and none is known here"):
            hybrid_job(functions.add, runner=replace(ray, token_file=None))(1)
    right = Path(ray.token_file).read_text()
    Path(ray.token_file).write_text("nonsense")
    try:
        assert waiting.status is Status.UNKNOWN
    finally:
        Path(ray.token_file).write_text(right)

    assert job.result(WAIT_S).hex() == inline(100).hex()
    assert waiting.result(WAIT_S) == 3


def test_a_probe_passes_and_another_version_is_refused(ray, monkeypatch):
    assert hybrid_job(functions.add, runner=replace(ray, probe=True))(1).result(WAIT_S) == 3

    monkeypatch.setattr(runners, "installed_version", lambda name: "2.9.0")
    with pytest.raises(InvalidCall, match=r"here is 2.9.0.*pip install 'ray\[default\]==2"):
        hybrid_job(functions.add, runner=ray)(1)


@pytest.mark.parametrize(("point", "is_submitted"), [("ray.intent", False), ("ray.submitted", True)])
def test_a_client_that_dies_in_a_submission_leaves_one_job(ray, point, is_submitted):
    code = (
        "import sys; from pl_hybridjobs import hybrid_job; from pl_hybridjobs.ray.runner import RayRunner; from tests.jobs import functions; "
        "hybrid_job(functions.add, runner=RayRunner(address=sys.argv[1], token_file=sys.argv[2]))(1)"
    )
    env = {**os.environ, "HYBRIDJOBS_CRASH_AT": point, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code, ray.address, ray.token_file], env=env).returncode == 86
    (job,) = list_jobs()
    if is_submitted:
        assert job.result(WAIT_S) == 3  # found by its name
    else:
        assert job.status is Status.CREATED
        assert job.resume().result(WAIT_S) == 3

    assert submissions(job) == 1


# A head that dies


def test_a_head_that_dies_makes_jobs_unknown_and_one_that_comes_back_finds_them_lost_and_goes_on(head):
    ours = RayRunner(address=head.address, token_file=str(head.token))
    again, once = at_work(ours, 200, retries=1), at_work(ours, 200)
    waiting = hybrid_job(functions.add, runner=ours, retries=1)(1)

    head.kill()

    until(lambda: {job.status for job in (again, once, waiting)} == {Status.UNKNOWN})
    assert "Ray cannot be asked" in waiting.state().detail
    with pytest.raises(InvalidCall, match="does not answer"):
        hybrid_job(functions.add, runner=ours)(1)
    assert [submissions(job) for job in (again, once, waiting)] == [1, 1, 1]
    head.start()

    went_on(again, steps=200)
    assert waiting.result(WAIT_S) == 3
    assert once.wait(WAIT_S) is Status.INTERRUPTED
    went_on(once.resume(), steps=200)


# A Ray of this machine


@pytest.mark.parametrize("victim", ["raylet", "gcs_server", "head", "keeper"])
def test_whatever_of_it_is_killed_its_jobs_go_on_in_a_new_one_and_nothing_of_the_old_one_is_left(place, victim):
    job = at_work("ray", retries=1)
    cluster = living(place)
    pid = {"head": cluster.head.pid, "keeper": cluster.keeper.pid}.get(victim) or named(cluster, victim)

    os.kill(pid, signal.SIGKILL)

    went_on(job)
    assert living(place).id != cluster.id
    until(lambda: not clusters.left_of(cluster), timeout_s=30)


def test_two_of_them_side_by_side_know_nothing_of_each_other(place, tmp_path, monkeypatch):
    first = at_work("ray", 100)
    with monkeypatch.context() as other:
        other.setenv("HYBRIDJOBS_HOME", str(tmp_path / "other"))
        second = Place.of(default_home())
        try:
            assert hybrid_job(functions.add, runner="ray")(1).result(WAIT_S) == 3
            one, two = living(place), living(second)
            assert one.address != two.address
            secret = place.token(one.id).read_text()
            assert secret != second.token(two.id).read_text()
            with pytest.raises(RunnerError, match="refuses the token"):
                Api(two.address, Token(secret, "the first")).version()
        finally:
            assert second.stop()
    assert clusters.left_of(two) == []

    assert first.result(WAIT_S).hex() == inline(100).hex()
    assert first.attempt == 1


def test_it_is_shared_guarded_and_ends_when_it_was_idle_for_long(place):
    ours = RayRunner(idle_s=4)
    jobs = [hybrid_job(functions.add, runner=ours)(a) for a in range(2)]
    cluster = living(place)

    assert [job.result(WAIT_S) for job in jobs] == [2, 3]
    ours_only = (place.token(cluster.id), place.path, Path(cluster.temporary))
    assert [path.stat().st_mode & 0o077 for path in ours_only] == [0, 0, 0]
    with pytest.raises(RunnerError, match="wants a token"):
        Api(cluster.address).jobs()
    until(lambda: place.read() is None, timeout_s=30)
    until(lambda: not clusters.left_of(cluster), timeout_s=30)

    assert [job.status for job in jobs] == [Status.COMPLETED] * 2
    assert hybrid_job(functions.add, runner=ours)(5).result(WAIT_S) == 7  # a new one is started


def test_it_is_not_stopped_under_jobs_unless_that_is_meant(place):
    job = at_work("ray", 100)
    cluster = living(place)

    with pytest.raises(RunnerError, match=f"Jobs run or wait in it .hybridjobs-{job.id}-1"):
        place.stop()
    assert place.stop(now=True)

    assert clusters.left_of(cluster) == []
    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert not place.stop()
    assert job.resume().result(WAIT_S).hex() == inline(100).hex()


def test_a_keeper_whose_record_is_damaged_leaves_nothing_behind_either(place):
    assert hybrid_job(functions.add, runner="ray")(1).result(WAIT_S) == 3
    cluster, record = living(place), place.path / "cluster.json"

    record.write_text("damaged")
    os.kill(cluster.keeper.pid, signal.SIGTERM)

    until(lambda: not clusters.left_of(cluster), timeout_s=30)
    record.unlink()


def test_it_does_not_take_what_it_can_never_run(place, monkeypatch):
    with pytest.raises(RunnerError, match=r"cannot give it 1 of GPU \(it has 0\), 2 of fridge \(it has 0\)"):
        hybrid_job(functions.add, runner=RayRunner(gpus=1, resources={"fridge": 2}))(1)


def test_a_ray_that_does_not_come_up_is_told_with_what_it_said(place, monkeypatch):
    monkeypatch.setenv("RAY_START_HOOK", "no.such.hook")

    with pytest.raises(RunnerError, match=r"(?s)Ray does not come up on this machine.*No module named 'no'"):
        hybrid_job(functions.add, runner="ray")(1)
    assert place.living() is None
