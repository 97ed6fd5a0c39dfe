"""Input channels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pl_hybridjobs import hybrid_job, input_path, load_checkpoint, save_checkpoint
from pl_hybridjobs.jobs import inputs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "x.csv").write_text("1,2")
    (tmp_path / "data" / "link.csv").symlink_to("deep/x.csv")
    (tmp_path / "one.txt").write_text("one")
    return tmp_path


def test_a_single_path_is_the_channel_input(data):
    assert inputs.normalise(data / "one.txt") == {"input": data / "one.txt"}
    assert inputs.normalise(None) == {}


def test_files_and_folders_are_copied_to_their_channels(data):
    given = {"train": data / "data", "notes": str(data / "one.txt")}

    assert inputs.complaints(given) == []
    assert inputs.record(given) == {"train": "", "notes": "one.txt"}
    inputs.copy(given, data / "out")
    (data / "one.txt").write_text("changed afterwards")

    assert (data / "out/train/deep/x.csv").read_text() == (data / "out/train/link.csv").read_text() == "1,2"
    assert (data / "out/notes/one.txt").read_text() == "one"


def test_all_that_is_wrong_is_said(data):
    (data / "data" / "out.csv").symlink_to(data / "one.txt")
    (data / "data" / "gone.csv").symlink_to("nowhere")
    os.mkfifo(data / "data" / "pipe")

    said = inputs.complaints({"../up": data / "one.txt", "a": data / "missing", "b": data / "data"})

    assert len(said) == 5
    for part in ("channel name '../up'", "missing does not exist", "leaves", "link to nothing", "neither a file nor a folder"):
        assert any(part in sentence for sentence in said), part


@pytest.mark.parametrize("wrong", [5, ["a"], {"a": 5}])
def test_what_is_no_path_is_refused(wrong):
    assert len(inputs.complaints(wrong)) == 1


def _fails_at_first():
    if load_checkpoint(default=None) is None:
        save_checkpoint("been here")
        raise ValueError("at first")
    return sorted(path.name for path in input_path().iterdir())


def test_a_job_that_goes_on_as_a_new_one_has_hidden_inputs_too(data):
    (data / "data" / ".hidden").write_text("x")
    failed = hybrid_job(_fails_at_first, runner="inline", inputs=data / "data")()
    failed.wait()

    assert failed.resume().result(0) == [".hidden", "deep", "link.csv"]
