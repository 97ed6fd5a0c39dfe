"""Job folders and their index."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from pl_hybridjobs.errors import AmbiguousName, JobNotFound, StoreError
from pl_hybridjobs.jobs.durable import locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.outcome import commit_cancelled
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def draft(job_id: str, name: str = "vqe", **more: object) -> JobSpec:
    return JobSpec(id=job_id, name=name, function=name, created=float(more.pop("created", time.time())), runner="inline", **more)  # type: ignore[arg-type]


def add(store: Store, job_id: str, name: str = "vqe", **more: object) -> str:
    folder, new = store.create(draft(job_id, name, **more), lambda _: "digest of " + job_id)
    assert new
    return folder.spec().name


def cancelled(store: Store, job_id: str) -> None:
    folder = store.find(job_id)
    with locked(folder.lock):
        commit_cancelled(folder, "")


def ids(store: Store, **which: object) -> list[str]:
    return [folder.path.name for folder in store.select(**which)]  # type: ignore[arg-type]


def test_folders_are_private_and_names_are_numbered(store):
    assert [add(store, f"id-{i}") for i in range(3)] == ["vqe", "vqe-2", "vqe-3"]
    assert {p.stat().st_mode & 0o077 for p in (store.home, store.jobs, store.jobs / "id-0", store.index)} == {0}
    assert store.digest("id-1") == "digest of id-1"


def test_the_same_id_is_made_once(store):
    add(store, "one")
    folder, new = store.create(draft("one"), lambda _: pytest.fail("filled again"))

    assert not new
    assert folder.path.name == "one"


def test_a_fill_that_fails_leaves_nothing(store):
    def fill(_: Path) -> str:
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        store.create(draft("one"), fill)
    assert list(store.jobs.iterdir()) == []
    assert ids(store) == []


def test_many_are_made_at_once_with_names_of_their_own_and_stand_in_the_index(store):
    add(store, "first")

    made = store.create_many([draft(f"id-{i}") for i in range(3)], lambda index, _: f"digest {index}")

    assert [(folder.spec().name, folder.spec().bundle_digest) for folder in made] == [(f"vqe-{i + 2}", f"digest {i}") for i in range(3)]
    assert sorted(ids(store)) == ["first", "id-0", "id-1", "id-2"]
    assert [store.digest(f"id-{i}") for i in range(3)] == [f"digest {i}" for i in range(3)]


def test_many_of_which_one_fails_leave_nothing(store):
    def fill(index: int, folder: Path) -> str:
        folder.joinpath("half").write_text("written")
        if index == 1:
            raise RuntimeError("no")
        return ""

    with pytest.raises(RuntimeError, match="no"):
        store.create_many([draft("a"), draft("b")], fill)

    assert not list(store.jobs.iterdir())


def test_selection_by_status_tag_name_and_time(store):
    add(store, "a", "vqe h2", created=10.0, tags={"molecule": "h2", "run": "1"})
    add(store, "b", "vqe lih", created=20.0, tags={"molecule": "lih"})
    add(store, "c", "qaoa", created=30.0)
    cancelled(store, "c")

    assert ids(store) == ["c", "b", "a"]
    assert ids(store, statuses=frozenset({Status.CANCELLED})) == ["c"]
    assert ids(store, statuses=frozenset({Status.CREATED})) == ["b", "a"]
    assert ids(store, tags={"molecule": "h2"}) == ["a"]
    assert ids(store, tags={"molecule": "h2", "run": "2"}) == []
    assert ids(store, name="vqe*") == ["b", "a"]
    assert ids(store, since=20.0) == ["c", "b"]
    assert ids(store, until=20.0) == ["a"]


def test_a_name_is_given_once_even_if_the_index_was_deleted(store):
    add(store, "a")
    for suffix in ("", "-wal", "-shm"):
        store.index.with_name(store.index.name + suffix).unlink(missing_ok=True)

    assert add(store, "b") == "vqe-2"


def test_a_list_reads_no_specification(store, monkeypatch):
    for name in "ab":
        add(store, name)
    monkeypatch.setattr(JobFolder, "spec", lambda folder: pytest.fail(f"{folder.path} is read"))

    assert ids(store) == ["b", "a"]


def test_a_job_is_found_by_name_id_beginning_and_path(store):
    add(store, "20261121-aaaa", "first")
    add(store, "20261121-bbbb", "second")

    for text in ("first", "20261121-aaaa", "20261121-a", str(store.jobs / "20261121-aaaa")):
        assert store.find(text).path.name == "20261121-aaaa"
    with pytest.raises(AmbiguousName, match="matches 2 jobs"):
        store.find("20261121")
    with pytest.raises(JobNotFound, match="Did you mean 'first'"):
        store.find("frist")
    with pytest.raises(JobNotFound, match="empty name"):
        store.find("")
    with pytest.raises(JobNotFound, match=r"no job\.json"):
        store.find(str(store.home))


@pytest.mark.parametrize(
    "hurt",
    [
        lambda s: s.index.unlink(),
        lambda s: s.index.write_bytes(b"SQLite format 3\0" + b"rubbish" * 500),
        lambda s: s.index.write_bytes(b""),
        lambda s: sqlite3.connect(s.index, isolation_level=None).execute("PRAGMA user_version = 99"),
        lambda s: sqlite3.connect(s.index, isolation_level=None).execute("DELETE FROM jobs"),
    ],
    ids=["deleted", "damaged", "emptied", "of another version", "rows lost"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the test's own connections
def test_the_index_is_made_anew_from_the_folders(store, hurt):
    for i in range(3):
        add(store, f"id-{i}", created=float(i))
    cancelled(store, "id-1")
    for left in ("-wal", "-shm"):
        store.index.with_name(store.index.name + left).unlink(missing_ok=True)
    hurt(store)

    assert ids(store) == ["id-2", "id-1", "id-0"]
    assert ids(store, statuses=frozenset({Status.CANCELLED})) == ["id-1"]
    assert store.find("vqe-2").path.name == "id-1"


def test_removing_takes_folder_and_line(store):
    add(store, "one")
    store.remove(store.find("one"))

    assert list(store.jobs.iterdir()) == []
    assert ids(store) == []
    assert add(store, "two") == "vqe-2"  # a name is never given twice


def test_where_no_index_can_be_opened_jobs_are_found_listed_and_removed_all_the_same(store):
    add(store, "one")
    for left in store.home.glob("index.sqlite*"):
        left.unlink()
    store.index.mkdir()

    assert ids(store) == ["one"]
    store.remove(store.find("vqe"))

    assert ids(store) == []
    with pytest.raises(StoreError, match="cannot be written: unable to open"):
        add(store, "two")


def test_a_folder_deleted_by_hand_is_forgotten_and_a_foreign_one_is_passed_over(store):
    add(store, "one")
    add(store, "two")
    (store.jobs / "one" / "job.json").unlink()
    for path in sorted((store.jobs / "two").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (store.jobs / "two").rmdir()
    (store.jobs / "not a job").mkdir()
    store.index.unlink()

    assert ids(store) == []
