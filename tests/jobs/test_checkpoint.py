"""Checkpoints are whole, durable, verified, and never lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
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


def damaged(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) // 2))


def test_every_cut_of_every_file_is_noticed(store):
    store.save("older", 1)
    newest = store.save(np.arange(3), 2)
    for path in sorted(newest.path.iterdir()):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert loaded(store).state == "older", (path.name, length)
        path.write_bytes(whole)


def test_every_flipped_byte_of_arrays_and_their_manifest_is_noticed(store):
    store.save("older", 1)
    newest = store.save({"x": np.arange(3)}, 2)
    for path in sorted(newest.path.iterdir()):
        whole = path.read_bytes()
        for position in range(len(whole)):
            path.write_bytes(flipped(whole, position))
            assert loaded(store).state == "older", (path.name, position)
        path.write_bytes(whole)
    assert (loaded(store).state["x"] == [0, 1, 2]).all()


def test_without_the_checksum_a_flipped_byte_would_be_believed(store):
    newest = store.save({"x": 4}, 2)
    path = newest.path / "state.json"
    path.write_bytes(path.read_bytes().replace(b"4", b"5"))
    code = "import sys; from pathlib import Path; from pl_hybridjobs.jobs.checkpoint import CheckpointStore as S; print(S(Path(sys.argv[1])).load().state)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HYBRIDJOBS_PLANT_BUG": "checksum"}

    believed = subprocess.run([sys.executable, "-c", code, store.folder], env=env, check=True, capture_output=True, text=True)

    assert believed.stdout.strip() == "{'x': 5}"
    with pytest.raises(CheckpointError, match="its checksum is wrong"):
        store.load()


def test_a_later_attempt_counts_on_and_replaces_nothing(store):
    store.save("first", 5)
    later = CheckpointStore(store.folder, attempt=2)

    saved = later.save("second", 5)

    assert saved.path.name == "00000005.1"
    assert [(c.path.name, c.attempt, c.sequence, c.good) for c in later.list()] == [("00000005", 1, 0, True), ("00000005.1", 2, 1, True)]
    assert saved == later.list()[-1]
    assert loaded(store).state == "second"
    assert loaded(store, 5).state == "second"


def test_one_step_can_be_loaded_and_a_missing_one_is_none(store):
    for step in (3, 4):
        store.save(step, step)

    assert loaded(store, np.int64(3)).state == 3
    assert store.load(5) is None
    damaged(store.folder / "00000003/state.json")
    with pytest.raises(CheckpointError, match="checkpoints of step 3"):
        store.load(3)


def test_only_newer_damage_is_reported(store):
    for step in (1, 2, 3):
        store.save(step, step)
    damaged(store.folder / "00000001/manifest.json")
    os.utime(store.folder / "00000001", (0, 0))
    damaged(store.folder / "00000003/manifest.json")

    found = loaded(store)

    assert found.state == 2
    assert [(c.path.name, c.good) for c in found.skipped] == [("00000003", False)]
    assert [c.good for c in store.list()] == [False, True, False]


def test_what_dies_half_deleted_is_deleted_with_the_next_save(store):
    for step in range(3):
        store.save(np.arange(step + 1), step)
    (store.folder / "00000000/arrays.npz").unlink()

    assert loaded(store).skipped == ()
    assert [c.step for c in store.list()] == [1, 2]
    store.save(3)
    assert [c.step for c in store.list()] == [1, 2, 3]
    assert not (store.folder / "00000000").exists()


def test_folders_of_others_are_neither_read_nor_deleted(store):
    for name in ("00000007", "latest", "0000001x", "12"):
        (store.folder / name).mkdir(parents=True)
        (store.folder / name / "model.pt").write_text("mine")

    assert store.load() is None
    for step in range(5, 10):
        store.save(step, step)

    assert [c.step for c in store.list()] == [7, 8, 9]
    assert len(list(store.folder.glob("*/model.pt"))) == 4


def test_a_file_that_others_put_into_a_checkpoint_does_no_harm(store):
    first = store.save("x", 1)
    (first.path / ".DS_Store").write_text("")

    assert loaded(store).state == "x"
    for step in range(2, 6):
        store.save(step, step)
    assert loaded(store).skipped == ()
    assert (first.path / ".DS_Store").exists()


def test_leftovers_of_dead_processes_go_after_an_hour(store):
    store.folder.mkdir()
    old, young, foreign = (store.folder / name for name in (".step-1.00000000.tmp", ".step-2.00000000.tmp", ".mine.tmp"))
    for left in (old, young, foreign):
        left.mkdir()
    for left in (old, foreign):
        os.utime(left, (time.time() - 3700,) * 2)

    assert store.load() is None
    store.save(1)
    store.settle()

    assert [left.exists() for left in (old, young, foreign)] == [False, True, True]


def test_extra_comes_back_with_its_types_and_holds_no_arrays(store):
    store.save(1, extra={"cursor": (1, 2), "loss": np.float32(0.5)})

    assert loaded(store).extra == {"cursor": (1, 2), "loss": np.float32(0.5)}
    assert type(loaded(store).extra["loss"]) is np.float32
    with pytest.raises(CodecError, match="arrays"):
        store.save(1, extra={"a": np.arange(3)})


def test_a_newer_format_is_passed_over_with_the_remedy(store):
    store.save("older", 1)
    manifest = store.save("newer", 2).path / "manifest.json"
    content = json.loads(manifest.read_text()) | {"format": 99}
    del content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    manifest.write_text(json.dumps(content, indent=1) + "\n")

    assert "upgrade pl-hybridjobs" in loaded(store).skipped[0].problem


def test_nothing_can_be_kept_of_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="keep=0"):
        CheckpointStore(tmp_path, keep=0)


def test_the_fence_is_held_for_the_rename_and_the_deletions(tmp_path):
    seen = []

    @contextlib.contextmanager
    def fence():
        before = {p.name for p in (tmp_path / "c").iterdir() if not p.name.startswith(".")}
        yield
        seen.append((before, {p.name for p in (tmp_path / "c").iterdir() if not p.name.startswith(".")}))

    store = CheckpointStore(tmp_path / "c", keep=1, fence=fence)
    for step in (1, 2):
        store.save(step, step)
        store.settle()

    one, two = "00000001", "00000002"
    renames, deletions = seen[::2], seen[1::2]
    assert renames == [(set(), {one}), ({one}, {one, two})]
    assert deletions == [({one}, {one}), ({one, two}, {two})]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system which file a descriptor means")
def test_all_is_on_disk_before_the_rename_and_the_name_is_before_anything_is_deleted(store, tmp_path, monkeypatch):
    happened: list[str] = []
    sync, rename, unlink = os.fsync, os.rename, os.unlink

    def record(name, call, shown):
        def recorded(*args, **keywords):
            happened.append(f"{name} {Path(shown(args[0])).name.partition('.')[0] or 'temporary'}")
            return call(*args, **keywords)

        return recorded

    store.keep = 1
    store.save(np.arange(3), 1)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("{}")
    monkeypatch.setattr(os, "fsync", record("sync", sync, lambda fd: os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(os, "rename", record("rename", rename, str))
    monkeypatch.setattr(os, "unlink", record("delete", unlink, str))

    store.save(np.arange(3), 2, also_sync=[metrics, tmp_path / "not there"])
    store.settle()

    renamed = happened.index("rename temporary")
    assert sorted(happened[:renamed]) == ["sync arrays", "sync manifest", "sync metrics", "sync state", "sync temporary"]
    assert happened[renamed + 1] == "sync checkpoints"
    assert happened[renamed + 2 :] == ["delete arrays", "delete state", "delete manifest"]


def test_a_reader_always_finds_a_whole_state_while_another_process_saves(store):
    code = """
import sys
from pathlib import Path
import numpy as np
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]), keep=1)
for step in range(1, 150):
    store.save(np.full(100, step), step)
"""
    store.save(np.full(100, 0), 0)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    seen = []
    with subprocess.Popen([sys.executable, "-c", code, store.folder], env=env) as saver:
        while saver.poll() is None:
            found = loaded(CheckpointStore(store.folder))
            assert (found.state == found.checkpoint.step).all()
            assert found.skipped == ()
            seen.append(found.checkpoint.step)
            assert all(c.good for c in CheckpointStore(store.folder).list())

    assert saver.returncode == 0
    assert seen == sorted(seen)
    assert loaded(store).checkpoint.step == 149


def test_a_class_that_is_gone_is_an_error_and_not_a_reason_to_go_back(store):
    store.save("older", 1)
    newest = store.save({"x": 1}, 2)
    (newest.path / "state.json").write_bytes(b'{"$type": "dataclass", "class": "gone_module:State", "fields": {}}')
    manifest = newest.path / "manifest.json"
    content = json.loads(manifest.read_text())
    data = (newest.path / "state.json").read_bytes()
    content["files"]["state.json"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    del content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    manifest.write_text(json.dumps(content, indent=1) + "\n")

    with pytest.raises(CodecError, match="gone_module"):
        store.load()
