"""What every runner promises. A new runner joins by one line in ``RUNNERS``, one of somebody else by ``--runner NAME``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pl_hybridjobs import Job, Status, hybrid_job, list_jobs, open_job
from pl_hybridjobs.errors import BundleTampered, InvalidCall, JobFailed
from pl_hybridjobs.jobs import bundle
from tests.jobs import functions

RUNNERS = ["inline", "local", "container", "rehearsal", "slurm", "ray"]
WAIT_S = 60


def pytest_generate_tests(metafunc):
    if "submit" in metafunc.fixturenames:
        named = metafunc.config.getoption("--runner")
        metafunc.parametrize("submit", [named] if named else RUNNERS, indirect=True)


@pytest.fixture
def submit(request):
    runner = request.param
    if runner == "container":
        runner = request.getfixturevalue("container")
    if runner == "rehearsal":
        from pl_hybridjobs.braket.rehearsal import RehearsalRunner

        runner = RehearsalRunner(endpoint_url=request.getfixturevalue("stage"))

    if runner == "slurm":
        request.getfixturevalue("slurm")
    if runner == "ray":
        runner = request.getfixturevalue("ray")

    def call(fn, *args, **kwargs) -> Job:
        options = kwargs.pop("options", {})
        return hybrid_job(fn, runner=runner, **options)(*args, **kwargs)

    return call


def test_the_value_comes_back(submit):
    job = submit(functions.add, 1, c=3)

    assert job.result(WAIT_S) == 6
    assert job.status is Status.COMPLETED
    assert job.exception() is None
    assert job.attempt == 1
    assert job.params == {"a": 1, "b": 2, "c": 3}


def test_a_class_of_a_local_module_comes_back_as_itself(submit):
    assert submit(functions.give_point, 3).result(WAIT_S) == functions.Point(3, 0.5)


def test_a_closure_and_a_lambda_travel(submit):
    offset = 40

    assert submit(lambda x: x + offset, 2).result(WAIT_S) == 42


def test_a_coroutine_function_is_awaited(submit):
    assert submit(functions.add_async, 1, b=2).result(WAIT_S) == 3


def test_an_exception_is_raised_as_its_own_class_with_the_remote_traceback(submit):
    job = submit(functions.fail, "no luck")

    with pytest.raises(ValueError, match="no luck") as caught:
        job.result(WAIT_S)

    assert isinstance(caught.value, JobFailed)
    assert caught.value.remote_type == "ValueError"
    assert "in fail" in caught.value.remote_traceback
    assert f"hybridjobs logs {job.name}" in str(caught.value)
    assert job.status is Status.FAILED


def test_an_exception_with_a_built_in_class_of_another_layout_keeps_its_class(submit):
    with pytest.raises(MemoryError, match="Unable to allocate") as caught:  # a private subclass of numpy's
        submit(np.ones, 10**15).result(WAIT_S)

    assert isinstance(caught.value, JobFailed)


def test_an_exception_of_ones_own_keeps_its_arguments_and_attributes(submit):
    with pytest.raises(functions.OwnError) as caught:
        submit(functions.fail_own).result(WAIT_S)

    assert caught.value.args == (7, "own")
    assert caught.value.code == 7


def test_output_is_kept_line_by_line_with_times(submit):
    job = submit(functions.talk)
    job.wait(WAIT_S)

    lines = job.logs().splitlines()

    assert [line.partition(" ")[2] for line in lines] == ["to stdout", "to stderr", "no newline"]
    assert all(line.startswith("20") and line[26] == "Z" for line in lines)
    assert list(job.logs(follow=True)) == lines


def test_the_working_folder_is_results(submit):
    job = submit(functions.write_artefact)

    assert Path(job.result(WAIT_S)).parts[-2:] == (job.folder / "results").parts[-2:]
    assert (job.folder / "results" / "artefact.txt").read_text() == "made"


def test_inputs_are_copied_and_found(submit, tmp_path):
    source = tmp_path / "data.txt"
    source.write_text("seven")
    job = submit(functions.read_input, "set", options={"inputs": {"set": source}})
    source.write_text("changed")

    assert job.result(WAIT_S) == "seven"


def test_the_job_knows_itself_and_speaks_brakets_contract(submit):
    job = submit(functions.describe_job)
    told = job.result(WAIT_S)

    assert told["name"] == told["env"] == job.name
    assert told["attempt"] == 1
    assert "AMZN_BRAKET_JOB_NAME" not in os.environ


def test_metrics_and_checkpoints_are_there(submit):
    job = submit(functions.count, 5)
    job.wait(WAIT_S)

    assert list(job.metrics()["total"]) == pytest.approx([0.0, 0.0, 0.1, 0.3, 0.6])
    assert list(job.metrics().steps("total")) == [0, 1, 2, 3, 4]
    assert [c.step for c in job.checkpoints()] == [3, 4, 5]
    assert all(c.good for c in job.checkpoints())


def test_errors_are_retried_where_asked(submit):
    job = submit(functions.fail_times, 2, options={"retries": {"errors": 2, "backoff_s": 0.01}})

    assert job.result(WAIT_S) == 3
    assert job.attempt == 3


def test_errors_are_not_retried_more_often_than_asked(submit):
    job = submit(functions.fail_times, 5, options={"retries": {"errors": 1, "backoff_s": 0.01}})

    with pytest.raises(RuntimeError, match="attempt 2"):
        job.result(WAIT_S)


def test_a_saved_result_stands_in_for_no_return_value(submit):
    assert submit(functions.keep_result).result(WAIT_S) == {"kept": True}


def test_a_value_that_cannot_be_stored_fails_the_job_and_is_kept_as_text(submit):
    job = submit(functions.unstorable)

    with pytest.raises(JobFailed, match="cannot be stored"):
        job.result(WAIT_S)

    assert "<lambda>" in (job.folder / "results" / "unstorable_result.txt").read_text()


def test_sys_exit_is_a_failure_and_never_a_class_that_would_end_the_caller(submit):
    with pytest.raises(JobFailed) as caught:
        submit(functions.exit_with, 3).result(WAIT_S)

    assert not isinstance(caught.value, SystemExit)
    assert "SystemExit: 3" in str(caught.value)


def test_a_tampered_bundle_is_refused_before_anything_is_loaded(submit, tmp_path):
    job = submit(functions.add, 1)
    job.wait(WAIT_S)
    clone = tmp_path / "clone"
    shutil.copytree(job.folder, clone)
    with (clone / "bundle" / "call.pkl").open("ab") as file:
        file.write(b"x")

    with pytest.raises(BundleTampered, match=r"call\.pkl"):
        bundle.load(clone / "bundle", job.spec.bundle_digest)


def test_nothing_in_the_folder_is_open_to_others(submit):
    job = submit(functions.add, 1)
    job.wait(WAIT_S)

    for path in [job.folder.parent.parent, job.folder.parent, job.folder]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_completed_job_cannot_be_resumed_or_cancelled(submit):
    job = submit(functions.add, 1)
    job.wait(WAIT_S)

    assert job.cancel() is Status.COMPLETED
    with pytest.raises(InvalidCall, match="completed"):
        job.resume()


def test_a_failed_job_resumes_as_a_new_one_from_its_checkpoints(submit):
    job = submit(functions.fail, "first")
    job.wait(WAIT_S)

    again = job.resume()
    again.wait(WAIT_S)

    assert again.id != job.id
    assert again.spec.continues == job.id
    assert job.status is again.status is Status.FAILED


def test_the_job_is_found_by_name_id_prefix_and_folder(submit):
    job = submit(functions.add, 1, options={"name": "needle", "tags": {"kind": "test"}})
    job.wait(WAIT_S)

    for text in ("needle", job.id, job.id[:-2], str(job.folder), job.folder):
        assert open_job(text) == job
    assert list_jobs(tags={"kind": "test"}, status="completed", name="need*") == [job]
    assert list_jobs(tags={"kind": "other"}) == []


def test_hyperparameters_are_text(submit):
    job = submit(functions.add, 1, 2.5)
    job.wait(WAIT_S)

    stored = json.loads((job.folder / "attempts" / "1" / "hyperparameters.json").read_text())

    assert stored == {"a": "1", "b": "2.5", "c": "0"}
