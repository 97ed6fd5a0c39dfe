"""Checkpoints are whole, durable, verified, and never lost."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pl_hybridjobs.errors import CheckpointError, CodecError, Fenced, StoreError
from pl_hybridjobs.jobs.checkpoint import CheckpointStore

SAVE_IN_CHILD = """
import sys
from pathlib import Path
import numpy as np
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
CheckpointStore(Path(sys.argv[1])).save({"step": 2, "x": np.arange(9)}, 2)
"""


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def loaded(store: CheckpointStore, step=None):
    found = store.load(step)
    assert found is not None
    return found


def test_nothing_saved_is_nothing_loaded(store):
    assert store.load() is None
    assert list(store.list()) == []


def test_the_newest_state_comes_back(store):
    for step in range(3):
        store.save({"step": step, "x": np.full(4, step)}, step, extra={"cursor": step})

    found = loaded(store)

    assert found.state["step"] == 2
    assert found.extra == {"cursor": 2}
    assert (found.state["x"] == 2).all()
    assert (found.checkpoint.step, found.skipped) == (2, ())


def test_the_last_three_are_kept(store):
    for step in range(10):
        store.save(step, step)

    assert [c.step for c in store.list()] == [7, 8, 9]
    assert loaded(store, 8).state == 8
    assert store.load(1) is None


def test_steps_count_on_where_none_is_given(store):
    assert [store.save("x").step, store.save("x").step, store.save("x", np.int64(7)).step, store.save("x").step] == [0, 1, 7, 8]


@pytest.mark.parametrize("step", [-1, 1.5, True, "3"])
def test_a_step_that_is_no_whole_number_is_refused(store, step):
    with pytest.raises(CheckpointError, match="step"):
        store.save(1, step)


def test_the_newest_is_the_one_saved_last_not_the_highest_step(store):
    store.save("old", 90)
    store.save("new", 10)

    assert loaded(store).state == "new"


def test_the_same_step_twice_keeps_both_until_the_second_is_there(store):
    store.save("first", 5)
    store.save("second", 5)

    assert loaded(store).state == "second"
    assert [c.step for c in store.list()] == [5, 5]


def test_a_state_that_cannot_be_stored_leaves_everything_as_it_was(store):
    store.save({"good": 1}, 1)
    before = sorted(store.folder.rglob("*"))

    with pytest.raises(CodecError, match="lock"):
        store.save({"lock": threading.Lock()}, 2)

    assert sorted(store.folder.rglob("*")) == before
    assert loaded(store).state == {"good": 1}


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_no_flipped_bit_anywhere_is_believed(store):
    store.save("older", 1)
    newest = store.save({"x": [1, 2.5, "text"]}, 2)
    for path in sorted(newest.path.iterdir()):
        whole = path.read_bytes()
        for position in range(len(whole)):
            path.write_bytes(flipped(whole, position))
            found = loaded(store)
            assert found.state == "older", (path.name, position)
            assert [c.path for c in found.skipped] == [newest.path]
        path.write_bytes(whole)
    assert loaded(store).state == {"x": [1, 2.5, "text"]}


def test_arrays_are_verified_too(store):
    store.save("older", 1)
    newest = store.save(np.arange(50.0), 2)
    path = newest.path / "arrays.npz"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(flipped(whole, position))
        assert loaded(store).state == "older"


def test_truncated_missing_and_extra_files_are_noticed(store):
    store.save("older", 1)
    newest = store.save(np.arange(5), 2)
    for path in sorted(newest.path.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-2])
        assert loaded(store).skipped != ()
        path.unlink()
        assert loaded(store).skipped != ()
        path.write_bytes(whole)
    assert loaded(store).skipped == ()


def test_if_none_verifies_the_error_lists_them_all(store):
    for step in (1, 2):
        saved = store.save(step, step)
        (saved.path / "state.json").write_bytes(b"")

    with pytest.raises(CheckpointError, match=r"00000001.*00000002|00000002.*00000001"):
        store.load()


def test_a_fenced_writer_leaves_nothing(tmp_path):
    @contextlib.contextmanager
    def fence():
        raise Fenced("over")
        yield

    store = CheckpointStore(tmp_path / "c", fence=fence)

    with pytest.raises(Fenced):
        store.save(1, 1)

    assert list(store.folder.iterdir()) == []


def test_files_of_others_are_left_alone(store):
    store.folder.mkdir()
    own = store.folder / "braket-job.json"
    own.write_text("mine")
    for step in range(6):
        store.save(step)

    assert own.read_text() == "mine"
    assert loaded(store).state == 5


def test_saving_from_threads_loses_none(store):
    store.keep = 100
    threads = [threading.Thread(target=store.save, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(loaded(store, c.step).state for c in store.list()) == list(range(20))


@pytest.mark.parametrize(
    "point", ["checkpoint.files", "checkpoint.manifest", "checkpoint.synced", "checkpoint.renamed", "checkpoint.pruned"]
)
def test_dying_at_any_point_leaves_the_old_or_the_new_state(store, point):
    store.save("old", 1)
    env = {**os.environ, "HYBRIDJOBS_CRASH_AT": point, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run([sys.executable, "-c", SAVE_IN_CHILD, store.folder], env=env, check=False)

    assert done.returncode == 86
    state = loaded(store).state
    assert state == "old" if point in ("checkpoint.files", "checkpoint.manifest", "checkpoint.synced") else state["step"] == 2
    store.save("next")
    assert loaded(store).state == "next"


def test_a_full_disk_is_a_clear_error_and_older_checkpoints_stay(store):
    store.save("old", 1)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(StoreError, match="Cannot write"):
            store.save(np.zeros(100_000), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)

    assert loaded(store).state == "old"
    assert [p.name for p in store.folder.iterdir()] == ["00000001"]
