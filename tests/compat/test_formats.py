"""Results and checkpoints: files that the SDK reads, and reads of files that the SDK wrote."""

from __future__ import annotations

import contextlib
import decimal
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from braket import jobs as sdk
from braket.jobs_data import PersistedJobDataFormat as SdkFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs import hybrid_job, open_job
from pl_hybridjobs.compat import braket as ours
from pl_hybridjobs.errors import CodecError, Fenced, JobStopRequested
from pl_hybridjobs.jobs import context

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMED = st.dictionaries(st.text(), PLAIN, min_size=1, max_size=4)
ASKED = ["get_job_name", "get_job_device_arn", "get_input_data_dir", "get_results_dir", "get_checkpoint_dir", "get_hyperparameters"]
FORMATS = st.sampled_from(["PLAINTEXT", "PICKLED_V4"])


class Opaque:
    """What only pickle can keep."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Opaque) and other.value == self.value

    def __hash__(self):
        return hash(self.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place that all examples of a property share."""
    return tmp_path_factory.mktemp("formats")


@pytest.fixture
def named(tmp_path, monkeypatch):
    """As in a job of that name, by its environment."""
    monkeypatch.setenv("AMZN_BRAKET_JOB_NAME", "vqe-1")
    monkeypatch.setenv("AMZN_BRAKET_CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("AMZN_BRAKET_JOB_RESULTS_DIR", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


@settings(max_examples=40)
@given(values=NAMED, data_format=FORMATS)
def test_what_we_save_the_sdk_loads(folder, values, data_format):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMZN_BRAKET_JOB_RESULTS_DIR", str(folder))
        (folder / "results.json").unlink(missing_ok=True)
        ours.save_job_result(values, ours.PersistedJobDataFormat[data_format])

        assert sdk.load_job_result(allow_pickle=True) == values


@settings(max_examples=40)
@given(values=NAMED, data_format=FORMATS)
def test_what_the_sdk_saves_we_load(folder, values, data_format):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMZN_BRAKET_JOB_RESULTS_DIR", str(folder))
        (folder / "results.json").unlink(missing_ok=True)
        sdk.save_job_result(values, SdkFormat[data_format])

        assert ours.load_job_result(allow_pickle=True) == values


@settings(max_examples=40)
@given(values=NAMED, data_format=FORMATS, suffix=st.sampled_from(["", "best"]))
def test_checkpoints_go_both_ways(folder, values, data_format, suffix):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMZN_BRAKET_JOB_NAME", "vqe-1")
        patch.setenv("AMZN_BRAKET_CHECKPOINT_DIR", str(folder))
        ours.save_job_checkpoint(values, suffix, SdkFormat[data_format])
        theirs = sdk.load_job_checkpoint(checkpoint_file_suffix=suffix, allow_pickle=True)
        sdk.save_job_checkpoint(theirs, suffix, SdkFormat[data_format])

        assert ours.load_job_checkpoint("vqe-1", suffix, allow_pickle=True) == values


def test_numbers_and_arrays_become_what_json_holds(named):
    values = {
        "energy": np.float64(-1.1),
        "steps": np.int64(3),
        "good": np.bool_(True),
        "params": np.arange(4.0).reshape(2, 2),
        "price": decimal.Decimal("0.5"),
        "pair": (1, 2),
        3: {"inner": np.ones(1)},
        "nothing": math.nan,
    }

    ours.save_job_result(values)
    loaded = sdk.load_job_result()

    assert math.isnan(loaded.pop("nothing"))
    assert loaded == {
        "energy": -1.1,
        "steps": 3,
        "good": True,
        "params": [[0.0, 1.0], [2.0, 3.0]],
        "price": 0.5,
        "pair": [1, 2],
        "3": {"inner": [1.0]},
    }


def test_a_tensor_of_pennylane_becomes_a_list(named):
    import pennylane as qml

    ours.save_job_checkpoint({"params": qml.numpy.array([0.1, 0.2], requires_grad=True)})

    assert ours.load_job_checkpoint() == {"params": [0.1, 0.2]}


def test_pickle_keeps_any_value_and_is_loaded_only_if_allowed(named):
    for spelled in ("pickle", "pickled_v4", ours.PersistedJobDataFormat.PICKLED_V4, SdkFormat.PICKLED_V4):
        ours.save_job_checkpoint({"state": Opaque(1j)}, data_format=spelled)

        with pytest.raises(RuntimeError, match="allow_pickle=True"):
            ours.load_job_checkpoint()
        assert ours.load_job_checkpoint(allow_pickle=True) == {"state": Opaque(1j)}


def test_a_value_that_does_not_fit_is_named_and_the_good_checkpoint_stays(named):
    ours.save_job_checkpoint({"iteration": 7})

    with pytest.raises(CodecError, match=r"checkpoint_data\['state'\]\['psi'\]\[1\] cannot be saved as plaintext: it is complex") as caught:
        ours.save_job_checkpoint({"iteration": 8, "state": {"psi": [1.0, 1j]}})

    assert isinstance(caught.value, TypeError)
    assert ours.load_job_checkpoint() == {"iteration": 7}
    assert [p.name for p in (named / "checkpoints").iterdir()] == ["vqe-1.json"]


def test_a_value_that_contains_itself_is_named(named):
    loop: dict = {}
    loop["again"] = loop

    with pytest.raises(CodecError, match="contains itself"):
        ours.save_job_result({"loop": loop})
    assert not (named / "results.json").exists()


def test_results_join_those_that_were_saved_before(named):
    ours.save_job_result({"a": 1})
    ours.save_job_result(5)
    ours.save_job_result({"a": 2})

    assert ours.load_job_result() == sdk.load_job_result() == {"a": 2, "result": 5}


def test_pickled_results_stay_pickled(named):
    ours.save_job_result({"a": 1})
    ours.save_job_result({"b": Opaque(2)}, "pickle")
    ours.save_job_result({"c": 3})

    with pytest.raises(TypeError, match="holds pickled results"):
        ours.save_job_result({"d": 4}, ours.PersistedJobDataFormat.PLAINTEXT)
    assert ours.load_job_result(allow_pickle=True) == sdk.load_job_result(allow_pickle=True) == {"a": 1, "b": Opaque(2), "c": 3}


def test_adding_a_result_unpickles_nothing(named):
    class Bomb:
        def __reduce__(self):
            return os.kill, (os.getpid(), signal.SIGKILL)

    ours.save_job_result({"bomb": Bomb()}, "pickle")
    ours.save_job_result({"more": 1})

    assert "more" in json.loads((named / "results.json").read_text())["dataDictionary"]


def test_outside_a_job_files_lie_in_the_working_folder(tmp_path):
    with contextlib.chdir(tmp_path):
        assert ours.load_job_result() == {}
        ours.save_job_result({"a": 1})
        ours.save_job_checkpoint({"a": 1}, "x")

    assert sorted(p.name for p in tmp_path.iterdir()) == ["_x.json", "results.json"]


def test_what_is_not_there_or_damaged_is_said(named):
    ours.save_job_checkpoint({"a": 1}, "other")

    with pytest.raises(FileNotFoundError, match=r"there are: vqe-1_other\.json"):
        ours.load_job_checkpoint()
    (named / "checkpoints" / "vqe-1.json").write_text("")
    with pytest.raises(ValueError, match="is damaged"):
        ours.load_job_checkpoint()
    (named / "results.json").write_text('{"dataDictionary": {}, "dataFormat": "xml"}')
    with pytest.raises(ValueError, match="xml"):
        ours.load_job_result()
    with pytest.raises(ValueError, match="cannot be empty"):
        ours.save_job_checkpoint({})
    with pytest.raises(ValueError, match="no format 'pickles'"):
        ours.save_job_checkpoint({"a": 1}, data_format="pickles")


def test_environment_functions_say_what_the_sdks_say_inside_and_outside_a_job(tmp_path):
    (tmp_path / "data.csv").write_text("1")

    def told():
        modules = (ours, sdk)
        return [[getattr(module, name)() for name in ASKED] for module in modules]

    mine, theirs = told()
    assert mine == theirs == ["", "local:none/none", ".", ".", ".", {}]
    mine, theirs = hybrid_job(told, inputs=tmp_path / "data.csv", device="default.qubit").inline()
    assert mine == theirs
    assert mine[0] == "told"
    assert all(Path(folder).is_dir() for folder in mine[2:5])


def test_in_a_job_a_checkpoint_is_where_a_wish_to_stop_is_followed():
    def work():
        context.current_job().stop.requested = "SIGTERM"
        ours.save_job_checkpoint({"step": 3})

    with pytest.raises(JobStopRequested):
        hybrid_job(work).inline()
    assert json.loads((open_job("work").folder / "checkpoints" / "work.json").read_text())["dataDictionary"] == {"step": 3}


def test_an_attempt_that_lost_the_job_writes_no_checkpoint():
    def work():
        job = context.current_job()
        assert job.folder is not None
        job.folder.attempt(2).path.mkdir()
        ours.save_job_checkpoint({"step": 3})

    with pytest.raises(Fenced):
        hybrid_job(work).inline()
