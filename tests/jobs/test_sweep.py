"""Many jobs, so many at a time."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pl_hybridjobs import Status, Sweep, grid, hybrid_job, list_jobs, open_sweep
from pl_hybridjobs.braket.rehearsal import RehearsalRunner
from pl_hybridjobs.errors import (
    BudgetExceeded,
    BundleTampered,
    CannotTravel,
    Fenced,
    InvalidCall,
    JobError,
    JobNotFound,
    KeyConflict,
    SweepFailed,
)
from pl_hybridjobs.jobs import lanes
from pl_hybridjobs.jobs.durable import read_sealed, try_locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lanes import sweep_file
from pl_hybridjobs.jobs.lease import claim
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.jobs.supervised import SupervisedRunner
from tests.braket.boxes import Parked, packed
from tests.jobs import functions

WAIT_S = 60
ROOT = Path(__file__).parents[2]


def next_job(folder: JobFolder, spec: JobSpec) -> JobFolder | None:
    sweep = lanes.of_job(folder, spec)
    taken = sweep.take(observe, SupervisedRunner().cancel, lambda folder: None) if sweep is not None else None
    return taken[0] if taken else None


def test_results_come_in_the_order_of_the_arguments():
    sweep = hybrid_job(functions.add).map([{"a": a, "b": 10} for a in (3, 1, 2)], max_parallel=2)

    assert sweep.results(WAIT_S) == [13, 11, 12]
    assert len(sweep) == 3
    assert sweep[1].result() == 11
    assert [job.name for job in sweep[1:]] == [sweep.jobs[1].name, sweep.jobs[2].name]


def test_the_next_job_is_the_first_that_nobody_has_begun():
    sweep = hybrid_job(functions.sleep).map([{"seconds": s} for s in (0, 30, 30, 30)], max_parallel=1)
    sweep[0].result(WAIT_S)
    sweep.cancel()
    folders = [job._folder for job in sweep.jobs]

    assert next_job(folders[0], folders[0].spec()) is None  # all have ended
    assert next_job(folders[3], folders[3].spec()) is None
    assert {job.status for job in sweep.jobs[1:]} == {Status.CANCELLED}


def test_jobs_for_which_the_others_have_reserved_too_much_wait_and_one_alone_is_refused(jobs_home):
    folders = [packed(functions.add, number) for number in range(3)]
    sweep = lanes.Lanes(jobs_home, "all", tuple(folder.path.name for folder in folders), 3)
    sweep.write()

    @dataclass(frozen=True)
    class Shop(Parked):
        """Where so many can be afforded at once."""

        room: int
        started: list[JobFolder] = field(default_factory=list)

        def start(self, folder, digest, cause):
            if len(self.started) >= self.room:
                raise BudgetExceeded("all of it is reserved")
            self.started.append(folder)

        def observe(self, folder):
            return State(Status.RUNNING, 1) if folder in self.started else observe(folder)

    shop = Shop(1)
    for _ in range(2):
        sweep.begin(shop, lambda folder: "")
        assert shop.started == folders[:1]
    sweep.begin(replace(shop, room=3), lambda folder: "")
    assert shop.started == folders
    with pytest.raises(BudgetExceeded):
        sweep.begin(Shop(0), lambda folder: "")


def test_who_takes_a_job_claims_it_before_anybody_else_can_count(jobs_home):
    folders = [packed(functions.add, number) for number in range(3)]
    sweep = lanes.Lanes(jobs_home, "all", tuple(folder.path.name for folder in folders), 2)
    sweep.write()
    counted = []

    def claim_the_second(folder):
        with try_locked(sweep.lock) as is_free:
            counted.append(is_free)
        if folder == folders[0]:
            raise Fenced("somebody has resumed this one just now")
        return claim(folder, "start")

    taken = sweep.take(observe, SupervisedRunner().cancel, claim_the_second)

    assert taken is not None
    assert (taken[0], taken[1].epoch, counted) == (folders[1], 1, [False, False])


def test_a_job_outside_of_a_sweep_has_no_next_one():
    job = hybrid_job(functions.add, runner="inline")(1)

    assert next_job(job._folder, job.spec) is None


def test_a_lost_list_ends_the_sweep_quietly(jobs_home):
    sweep = hybrid_job(functions.add).map([{"a": 1}, {"a": 2}])
    sweep.results(WAIT_S)
    sweep_file(jobs_home, sweep.id).unlink()

    assert next_job(sweep.jobs[0]._folder, sweep.jobs[0].spec) is None


def test_one_that_fails_does_not_stop_the_others():
    sweep = hybrid_job(functions.fail_if_odd).map([{"number": n} for n in range(3)], max_parallel=1)
    sweep.wait(WAIT_S)

    assert [job.status for job in sweep.jobs] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]


def test_all_failures_are_raised_together_each_by_its_name_and_as_its_own_class():
    sweep = hybrid_job(functions.fail_if_odd, name="odd", runner="inline").map([{"number": n} for n in range(4)])

    with pytest.raises(SweepFailed, match=r"2 of 4 jobs.*\n  odd-2 \(number=1\) failed: ValueError: odd\n  odd-4") as raised:
        sweep.results(WAIT_S)
    assert [error.job_name for error in raised.value.exceptions if isinstance(error, JobError)] == ["odd-2", "odd-4"]
    values, rest = raised.value.split(ValueError)
    assert (isinstance(values, SweepFailed), rest) == (True, None)
    kinds = [type(result).__name__ for result in sweep.results(return_exceptions=True)]
    assert kinds == ["int", "JobFailed[ValueError]", "int", "JobFailed[ValueError]"]


def test_stop_begins_no_job_after_a_failure():
    sweep = hybrid_job(functions.fail_if_odd, runner="inline").map([{"number": n} for n in range(4)], on_failure="stop")

    assert [job.status for job in sweep] == [Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.CANCELLED]
    assert [job.attempt for job in sweep] == [1, 1, 0, 0]


def test_cancel_ends_those_that_run_too_though_nobody_waits(tmp_path):
    (tmp_path / "stamps.broken").touch()
    sets = [{"path": str(tmp_path / "stamps"), "number": n, "seconds": s} for n, s in ((0, 60), (1, 0), (2, 0))]

    sweep = hybrid_job(functions.stamp).map(sets, max_parallel=2, on_failure="cancel")

    deadline = time.monotonic() + WAIT_S
    while not all((job.folder / "outcome.json").exists() for job in sweep) and time.monotonic() < deadline:
        time.sleep(0.05)  # a look through the handle could be what ends them
    assert [job.status for job in sweep] == [Status.CANCELLED, Status.FAILED, Status.CANCELLED]
    assert "2 begins" not in (tmp_path / "stamps").read_text()


def test_resume_goes_on_with_what_did_not_complete_and_with_nothing_else(tmp_path, jobs_home):
    stamps, broken = tmp_path / "stamps", tmp_path / "stamps.broken"
    broken.touch()
    sets = [{"path": str(stamps), "number": n} for n in range(4)]
    sweep = hybrid_job(functions.stamp, runner="inline").map(sets, on_failure="stop")
    broken.unlink()

    again = open_sweep(sweep.id[:-2]).resume()

    assert again == sweep
    assert again.results(WAIT_S) == [0, 1, 2, 3]
    assert Counter(stamps.read_text().splitlines()) == {
        **{f"{n} {what}": 1 for n in range(4) for what in ("begins", "ends")},
        "1 begins": 2,
    }
    assert [bool(job.spec.continues) for job in again] == [False, True, True, True]
    assert len(list_jobs()) == 4 + 3
    assert again.resume().results(WAIT_S) == [0, 1, 2, 3]  # there is nothing left to do
    assert len(list_jobs()) == 4 + 3


def test_one_that_cannot_go_on_does_not_hold_up_the_others():
    sweep = hybrid_job(functions.fail_if_odd, runner="inline").map([{"number": 1}, {"number": 3}])
    next((sweep[0].folder / "bundle").glob("*.json")).write_text("{}")

    with pytest.raises(BundleTampered):
        sweep.resume()
    assert [bool(job.spec.continues) for job in sweep] == [False, True]


MAP = """
import sys, time
from pl_hybridjobs import hybrid_job
from tests.jobs import functions
path, runner, key = sys.argv[1:]
sets = [{"path": path, "number": n, "seconds": 0.1, "hang": runner == "local" and n == 0} for n in range(4)]
print(hybrid_job(functions.stamp, runner=runner, key=key or None).map(sets, max_parallel=2).id, flush=True)
time.sleep(600)
"""


def caller(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    """A program that maps over four sets of arguments, and stays."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen([sys.executable, "-c", MAP, *map(str, arguments)], env=env, stdout=subprocess.PIPE, text=True)


def most_at_once(sweep: Sweep) -> int:
    """How many attempts ran at one time, at most."""
    began = [lease.started for job in sweep if (lease := job.state().lease) is not None]
    ended = [read_sealed(job.folder / "outcome.json")["time"] for job in sweep]
    return max(sum(b <= t < e for b, e in zip(began, ended, strict=True)) for t in began)


def test_nothing_runs_twice_and_nothing_is_lost_when_caller_and_supervisor_are_killed(tmp_path):
    stamps = tmp_path / "stamps"
    with caller(stamps, "local", "") as program:
        assert program.stdout is not None
        sweep = open_sweep(program.stdout.readline().strip())
        program.kill()
    while not stamps.exists() or "0 begins" not in stamps.read_text():
        time.sleep(0.01)
    victim, *others = sweep
    lease = victim.state().lease
    assert lease is not None
    os.kill(lease.owner.pid, signal.SIGKILL)

    sweep.wait(WAIT_S)  # the other lane, and the one that is opened for the dead one
    assert {job.status for job in others} == {Status.COMPLETED}
    assert victim.status is Status.INTERRUPTED
    assert sweep.resume().results(WAIT_S) == [0, 1, 2, 3]

    ends = Counter(line for line in stamps.read_text().splitlines() if line.endswith("ends"))
    assert ends == {f"{n} ends": 1 for n in range(4)}
    assert [job.attempt for job in sweep] == [2, 1, 1, 1]
    assert most_at_once(sweep) <= 2


@pytest.mark.torture_long
def test_however_many_are_killed_each_job_ends_once_with_its_own_value():
    chance = random.Random(7)
    steps = [30 + n for n in range(12)]
    sweep = hybrid_job(functions.count).map(grid(steps=steps, pause_s=[0.03]), max_parallel=3)
    kills = 0
    while not all(job.status is Status.COMPLETED for job in sweep):
        time.sleep(chance.uniform(0.0, 1.0))
        running = [state.lease for job in sweep if (state := job.state()).status is Status.RUNNING and state.lease is not None]
        if running and kills < 10:
            os.kill(chance.choice(running).owner.pid, signal.SIGKILL)
            kills += 1
        if chance.random() < 0.5:
            open_sweep(sweep.id).resume()

    assert kills == 10
    assert sweep.results(WAIT_S) == [hybrid_job(functions.count).inline(n) for n in steps]
    assert [job.metrics().steps("total").tolist() for job in sweep] == [list(range(n)) for n in steps]
    assert sum(job.attempt for job in sweep) <= len(steps) + kills
    assert not any(job.spec.continues for job in sweep)  # none failed


@pytest.mark.torture_long
@pytest.mark.parametrize("name", ["container", "rehearsal"])
def test_limit_policy_and_resume_hold_on_other_runners(name, request):
    runner = request.getfixturevalue("container") if name == "container" else RehearsalRunner(endpoint_url=request.getfixturevalue("stage"))
    sleeping = hybrid_job(functions.sleep, runner=runner).map([{"seconds": 1.0}] * 5, max_parallel=2)
    odd = hybrid_job(functions.fail_if_odd, runner=runner).map([{"number": n} for n in (2, 1, 4)], max_parallel=1, on_failure="stop")

    sleeping.wait(3 * WAIT_S)
    odd.wait(WAIT_S)

    assert most_at_once(sleeping) <= 2
    assert [job.status for job in odd] == [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
    odd.resume().wait(WAIT_S)
    assert [bool(job.spec.continues) for job in odd] == [False, True, True]


def test_a_program_that_died_while_it_submitted_is_run_again_and_submits_what_is_missing(tmp_path):
    with caller(tmp_path / "stamps", "inline", "scan", HYBRIDJOBS_CRASH_AT="create.indexed") as program:
        assert program.wait(WAIT_S) == 86
    (found,) = list_jobs()
    assert repr(open_sweep(found.name)).endswith("of 1 job: 1 created, 3 more never submitted, or removed>")

    with caller(tmp_path / "stamps", "inline", "scan") as program:
        assert program.stdout is not None
        sweep = open_sweep(program.stdout.readline().strip())
        program.kill()

    assert sweep.results(WAIT_S) == [0, 1, 2, 3]
    assert sweep[0] == found
    assert sorted((tmp_path / "stamps").read_text().splitlines()) == sorted(f"{n} {what}" for n in range(4) for what in ("begins", "ends"))


def test_a_key_that_was_used_for_other_calls_is_refused():
    keyed = hybrid_job(functions.add, runner="inline", key="k")
    first = keyed.map([{"a": 1}, {"a": 2}])

    assert keyed.map([{"a": 1}, {"a": 2}]) == first
    assert len(list_jobs()) == 2
    with pytest.raises(KeyConflict, match="2 jobs, not 1"):
        keyed.map([{"a": 1}])
    with pytest.raises(KeyConflict, match="params differ"):
        keyed.map([{"a": 1}, {"a": 3}])


def test_who_waits_for_one_job_of_a_sweep_that_nobody_looks_after_begins_it(monkeypatch):
    with monkeypatch.context() as dying:
        dying.setattr(Sweep, "_tend", lambda _, **__: None)  # the caller died when all was written and nothing had begun
        sweep = hybrid_job(functions.add, runner="inline").map([{"a": 1}, {"a": 2}])
    assert {job.status for job in sweep} == {Status.CREATED}

    assert sweep[1].result(WAIT_S) == 4


def test_who_submits_or_resumes_waits_for_one_who_begins_a_job_just_now(monkeypatch):
    monkeypatch.setattr(lanes, "try_locked", lambda _: contextlib.nullcontext(False))  # at every look somebody else has the lock

    sweep = hybrid_job(functions.add).map([{"a": 1}, {"a": 2}], max_parallel=2)

    assert Status.CREATED not in {job.status for job in sweep}
    assert sweep.results(WAIT_S) == [3, 4]


def test_a_sweep_that_was_removed_and_made_anew_by_its_key_shows_the_new_arguments():
    keyed = hybrid_job(functions.add, runner="inline", key="k")
    for job in keyed.map([{"a": 1}]):
        job.remove()

    assert keyed.map([{"a": 5}])[0].params["a"] == 5


@pytest.mark.parametrize("key", [None, "k"])
def test_a_sweep_that_is_refused_leaves_nothing(jobs_home, key):
    lock = threading.Lock()
    guarded = hybrid_job(lambda x: lock, runner="inline", key=key)

    with pytest.raises(CannotTravel):
        guarded.map([{"x": 1}, {"x": 2}])

    assert list((jobs_home / "sweeps").glob("*.json")) == []
    assert list_jobs() == []


def test_a_sweep_is_found_by_its_id_its_beginning_and_its_jobs():
    sweep = hybrid_job(functions.add, name="scan", runner="inline").map([{"a": 1}, {"a": 2}])
    other = hybrid_job(functions.add, name="alone", runner="inline")(1)

    assert open_sweep(sweep.id) == open_sweep(sweep.id[:-1]) == open_sweep("scan-2") == pickle.loads(pickle.dumps(sweep)) == sweep
    with pytest.raises(JobNotFound, match="belongs to no sweep"):
        open_sweep(other.name)
    with pytest.raises(JobNotFound, match="no sweep 'nothing'"):
        open_sweep("nothing")


@pytest.mark.parametrize("max_parallel", [0, -1, 1.5])
def test_a_wrong_width_is_refused_before_anything_is_written(max_parallel, jobs_home):
    with pytest.raises(InvalidCall, match="max_parallel"):
        hybrid_job(functions.add).map([{"a": 1}], max_parallel=max_parallel)
    assert not jobs_home.exists()
    assert list_jobs() == []


def test_an_unknown_policy_is_refused():
    with pytest.raises(InvalidCall, match="on_failure must be one of continue, stop, cancel"):
        hybrid_job(functions.add).map([{"a": 1}], on_failure="ignore")
