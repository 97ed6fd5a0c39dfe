"""Many jobs, so many at a time."""

from __future__ import annotations

import pytest

from pl_hybridjobs import Status, hybrid_job, list_jobs
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import lanes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lanes import sweep_file
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.state import observe
from pl_hybridjobs.jobs.supervised import SupervisedRunner
from tests.jobs import functions

WAIT_S = 60


def next_job(folder: JobFolder, spec: JobSpec) -> JobFolder | None:
    return lanes.next_job(folder, spec, observe, SupervisedRunner().cancel)


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


@pytest.mark.parametrize("max_parallel", [0, -1, 1.5])
def test_a_wrong_width_is_refused_before_anything_is_written(max_parallel, jobs_home):
    with pytest.raises(InvalidCall, match="max_parallel"):
        hybrid_job(functions.add).map([{"a": 1}], max_parallel=max_parallel)
    assert not jobs_home.exists()
    assert list_jobs() == []
