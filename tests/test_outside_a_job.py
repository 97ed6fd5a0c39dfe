"""One code runs in both: inside a job and outside any."""

from __future__ import annotations

import pytest

import pl_hybridjobs as hj
from pl_hybridjobs.errors import InvalidCall, MetricError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path):
    import contextlib

    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_there_is_no_job():
    job = hj.current_job()

    assert not job
    assert (job.name, job.id, job.attempt, job.params) == ("", "", 0, {})


def test_metrics_are_printed_and_checked(capsys):
    hj.log_metrics({"energy": -1.5, "norm": 2})
    hj.log_metric("energy", -1.6)

    assert "energy = -1.5  (step 0)" in capsys.readouterr().out
    with pytest.raises(MetricError):
        hj.log_metric("energy", 1j)


def test_checkpoints_go_to_the_working_folder(in_an_empty_folder):
    assert hj.load_checkpoint(default="none") == "none"
    hj.save_checkpoint({"step": 1})

    assert hj.load_checkpoint() == {"step": 1}
    assert (in_an_empty_folder / "checkpoints" / "00000000").is_dir()


def test_results_and_inputs_are_in_the_working_folder(in_an_empty_folder):
    hj.save_result({"x": 1})
    (in_an_empty_folder / "data").mkdir()

    assert hj.results_dir() == in_an_empty_folder
    assert (in_an_empty_folder / "result.json").exists()
    assert hj.input_path("data") == in_an_empty_folder / "data"
    with pytest.raises(InvalidCall, match="is not there"):
        hj.input_path("missing")


@pytest.mark.slow
def test_the_device_is_the_default_simulator():
    assert hj.job_device(wires=2).name == "hybridjobs.qubit"
