"""Where jobs live: a folder each, and a SQLite index over them that can be deleted and is then made again.

The folders are the truth. The index answers "which jobs are there" fast, and hands out unique names. Workers never open it. Where the disk
lets nobody open it, because it is full or read-only, one in memory answers: jobs can be found, listed and deleted all the same.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import json
import math
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from pl_hybridjobs.errors import AmbiguousName, JobNotFound, RunnerError, StoreError, did_you_mean
from pl_hybridjobs.home import default_home, private_folder
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.durable import (
    crash_point,
    disk_errors,
    dump_sealed,
    rename_folder,
    rename_folders,
    sync_tree,
    sync_trees,
    temporary_folder,
)
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.transactions import patiently, transaction

_BUSY_S = 30.0
_STALE_S = 3600.0
_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, final INTEGER NOT NULL,
    created REAL NOT NULL, runner TEXT NOT NULL, options TEXT NOT NULL, tags TEXT NOT NULL, digest TEXT NOT NULL
);
CREATE INDEX jobs_name ON jobs (name);
CREATE INDEX jobs_open ON jobs (final) WHERE final = 0;
CREATE INDEX jobs_created ON jobs (created);
CREATE TABLE names (base TEXT PRIMARY KEY, last INTEGER NOT NULL);
"""

_T = TypeVar("_T")


class Store:
    """The jobs of one home folder. Cheap to make; holds no open file.

    Args:
        home: The folder; made (private to the user) when first written to. Default: ``default_home()``.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self.jobs = self.home / "jobs"
        self.index = self.home / "index.sqlite"

    def __repr__(self) -> str:
        return f"Store({str(self.home)!r})"

    def create(self, draft: JobSpec, fill: Callable[[Path], str]) -> tuple[JobFolder, bool]:
        """Make a job, whole or not at all.

        Args:
            draft: The job; its ``name`` is a wish that gets a number if it is taken.
            fill: Writes bundle and inputs into the folder that it is given, and returns the bundle's digest.

        Returns:
            The folder, and whether it is new: False if a job of the same id (the same key) was there first.

        Raises:
            StoreError: The disk is full, read-only or not ours.
        """
        self._make_home()
        final = JobFolder(self.jobs / draft.id)
        if final.path.exists():
            return final, False
        with temporary_folder(self.jobs, draft.id) as temporary, disk_errors(temporary):
            digest = fill(temporary)
            crash_point("create.filled")
            with self._write() as database:
                spec = replace(draft, name=_free_name(database, draft.name), bundle_digest=digest)
            crash_point("create.named")
            temporary.joinpath("job.json").write_bytes(dump_sealed(spec.to_json()))
            temporary.joinpath("attempts").mkdir(mode=0o700)
            sync_tree(temporary)
            crash_point("create.synced")
            try:
                rename_folder(temporary, final.path)
            except FileExistsError:
                return final, False
            crash_point("create.renamed")
            with self._write() as database:
                _insert(database, spec, Status.CREATED)
            crash_point("create.indexed")
        return final, True

    def create_many(self, drafts: Sequence[JobSpec], fill: Callable[[int, Path], str]) -> list[JobFolder]:
        """Make new jobs, each whole or not at all, with one wait for the disk and one for the index.

        Args:
            drafts: The jobs, with ids that nobody has.
            fill: As in ``create``; it also gets the job's place in ``drafts``.

        Raises:
            StoreError: The disk is full, read-only or not ours.
        """
        if not drafts:
            return []
        self._make_home()
        finals = [self.jobs / draft.id for draft in drafts]
        with contextlib.ExitStack() as made, disk_errors(self.jobs):
            places = [made.enter_context(temporary_folder(self.jobs, draft.id)) for draft in drafts]
            digests = [fill(index, place) for index, place in enumerate(places)]
            crash_point("create.filled")
            with self._write() as database:
                specs = [
                    replace(draft, name=_free_name(database, draft.name), bundle_digest=digest)
                    for draft, digest in zip(drafts, digests, strict=True)
                ]
            for spec, place in zip(specs, places, strict=True):
                place.joinpath("job.json").write_bytes(dump_sealed(spec.to_json()))
                place.joinpath("attempts").mkdir(mode=0o700)
            sync_trees(places)
            crash_point("create.synced")
            rename_folders(list(zip(places, finals, strict=True)))
            crash_point("create.renamed")
            with self._write() as database:
                for spec in specs:
                    _insert(database, spec, Status.CREATED)
        return [JobFolder(final) for final in finals]

    def _make_home(self) -> None:
        try:
            with disk_errors(self.home):
                if not self.jobs.is_dir():
                    private_folder(self.home, self.jobs.name)
        except StoreError:
            raise
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StoreError:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        return StoreError(f"{self.home} cannot hold jobs ({reason}). Set HYBRIDJOBS_HOME to a folder that you can write to.")

    def exists(self) -> bool:
        """Whether any job was ever made here.

        Raises:
            StoreError: It is no folder, or may not be read.
        """
        try:
            if self.home.exists() and not self.home.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "it is a file")
            return self.jobs.is_dir() and os.access(self.jobs, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
        except OSError as error:
            raise self._unusable(error) from error

    def find(self, text: str) -> JobFolder:
        """A job by its name, its id, an unmistakable beginning of its id, or its folder's path.

        Raises:
            JobNotFound: There is none; near names are suggested.
            AmbiguousName: There are several.
        """
        if os.sep in text or text in (".", ".."):
            folder = JobFolder(Path(text).expanduser().absolute())
            if not folder.spec_file.exists():
                raise JobNotFound(f"{folder.path} is no job folder: it has no job.json.")
            return folder
        if not text:
            raise JobNotFound("An empty name matches no job. `hybridjobs list` shows all.")
        ids, names = self._ask(lambda database: self._matches(database, text))
        if len(ids) == 1:
            return JobFolder(self.jobs / ids[0])
        if ids:
            raise AmbiguousName(f"{text!r} matches {len(ids)} jobs: {', '.join(ids[:10])}. Use one of these ids.")
        if not text.startswith(".") and (self.jobs / text).exists():  # so damaged that the index does not have it
            return JobFolder(self.jobs / text)
        raise JobNotFound(f"There is no job {text!r} in {self.home}.{did_you_mean(text, names)} `hybridjobs list` shows all.")

    def _matches(self, database: sqlite3.Connection, text: str) -> tuple[list[str], list[str]]:
        """Ids of the jobs that a text may mean, oldest first; where there is none, names of others."""
        self._reconcile(database, {job_id for (job_id,) in database.execute("SELECT id FROM jobs")})
        for query, values in (
            ("SELECT id FROM jobs WHERE id = ? OR name = ? ORDER BY created", (text, text)),
            ("SELECT id FROM jobs WHERE substr(id, 1, ?) = ? ORDER BY created", (len(text), text)),
        ):
            if found := database.execute(query, values).fetchall():
                return [job_id for (job_id,) in found], []
        return [], [name for (name,) in database.execute("SELECT name FROM jobs ORDER BY created DESC LIMIT 5000")]

    def select(
        self,
        *,
        statuses: frozenset[Status] | None = None,
        tags: dict[str, str] | None = None,
        name: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[JobFolder]:
        """Jobs that match all that is given, newest first. Looks after orphans on the way.

        Args:
            statuses: Any of these.
            tags: All of these.
            name: A shell pattern such as ``"vqe*"``.
            since: Created at this Unix time or later.
            until: Created before this Unix time.
        """
        if not self.exists():
            return []
        wanted = {str(s) for s in statuses} if statuses is not None else None
        begin, end = since if since is not None else -math.inf, until if until is not None else math.inf
        place = f"{self.jobs}{os.sep}"
        return [
            JobFolder(place + job_id)
            for job_id, job_name, status, job_tags, created, *_ in self._ask(self._rows)
            if begin <= created < end
            and (wanted is None or status in wanted)
            and (name is None or fnmatch.fnmatchcase(job_name, name))
            and (not tags or tags.items() <= json.loads(job_tags).items())
        ]

    def _rows(self, database: sqlite3.Connection) -> list[tuple[str, str, str, str, float, int, str, str]]:
        """All jobs, newest first: id, name, status, tags, created, final, runner, its options. As the folders say, now."""
        query = "SELECT id, name, status, tags, created, final, runner, options FROM jobs ORDER BY created DESC, rowid DESC"
        rows = database.execute(query).fetchall()
        if self._reconcile(database, {row[0] for row in rows}):
            rows = database.execute(query).fetchall()
        if self._refresh(database, [(row[0], row[2], row[6], row[7]) for row in rows if not row[5]]):
            rows = database.execute(query).fetchall()
        return rows

    def digest(self, job_id: str) -> str:
        """The bundle's digest as it was when the job was submitted; "" if the index does not know."""
        if not self.index.exists():
            return ""
        row = self._ask(lambda database: database.execute("SELECT digest FROM jobs WHERE id = ?", (job_id,)).fetchone())
        return str(row[0]) if row else ""

    def remove(self, folder: JobFolder) -> None:
        """Delete a job's folder and its line in the index. The caller made sure that it is over."""
        hidden = folder.path.with_name(f".{folder.path.name}.removed.tmp")
        with disk_errors(folder.path):
            rename_folder(folder.path, hidden)
            shutil.rmtree(hidden)
        if folder.path.parent == self.jobs:
            with contextlib.suppress(StoreError), self._write() as database:  # else the next look finds it
                database.execute("DELETE FROM jobs WHERE id = ?", (folder.path.name,))

    def _reconcile(self, database: sqlite3.Connection, known: set[str]) -> bool:
        """Bring the index in line with the folders: they may have been copied in, removed, or be newer than the index.

        Args:
            database: The index.
            known: The ids in it.

        Returns:
            Whether it was not in line.
        """
        on_disk = self._on_disk()
        if on_disk == known:
            return False
        new = self._read(on_disk - known)
        with transaction(database, _BUSY_S):
            for spec, status in new:
                _insert(database, spec, status)
            for job_id in known - on_disk:
                if not (self.jobs / job_id).exists():
                    database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        return True

    def _on_disk(self) -> set[str]:
        """The ids of the folders."""
        found = set()
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self.jobs):
                if not entry.startswith("."):
                    found.add(entry)
                elif entry.endswith(".tmp"):
                    self._sweep(self.jobs / entry)
        return found

    def _read(self, ids: Set[str]) -> list[tuple[JobSpec, Status]]:
        """What folders say of their jobs, oldest first; not those that are damaged or foreign: `doctor` lists them, opening says why."""
        found = []
        for job_id in ids:
            folder = JobFolder(self.jobs / job_id)
            with contextlib.suppress(StoreError):
                found.append((folder.spec(), observe(folder).status))
        return sorted(found, key=lambda item: item[0].created)

    @staticmethod
    def _sweep(left: Path) -> None:
        """Delete what a client left that died inside a submit."""
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)

    def _refresh(self, database: sqlite3.Connection, unfinished: Sequence[tuple[str, str, str, str]]) -> bool:
        """Look at each job that had not ended when the index last heard of it.

        Args:
            database: The index.
            unfinished: Their ids, statuses, runners and their options.

        Returns:
            Whether there is news.
        """
        changed = []
        place = f"{self.jobs}{os.sep}"
        for job_id, status, runner, options in unfinished:
            now = _seen_by(partial(_made, runner, options), JobFolder(place + job_id)).status
            if str(now) != status:
                changed.append((str(now), int(now.is_final), job_id))
        if changed:
            with transaction(database, _BUSY_S):
                database.executemany("UPDATE jobs SET status = ?, final = ? WHERE id = ? AND final = 0", changed)
        return bool(changed)

    def _ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """Answer a question from the index."""
        try:
            with contextlib.closing(self._connect()) as database:
                return question(database)
        except sqlite3.OperationalError:
            with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
                _make_tables(database)
                return question(database)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(self._connect()) as database, transaction(database, _BUSY_S):
                yield database
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"The index {self.index} cannot be written: {error}. If the disk is full or read-only, mend that (`hybridjobs rm` deletes "
                "jobs); the index itself can be deleted, it is made again from the job folders."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        self._make_home()
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Damaged: it holds nothing that the folders do not.
            for suffix in ("", "-wal", "-shm"):
                self.index.with_name(self.index.name + suffix).unlink(missing_ok=True)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.index, timeout=_BUSY_S, isolation_level=None)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            # NORMAL: a power loss may take the last commits, and _reconcile brings them back from the folders.
            database.execute("PRAGMA synchronous = NORMAL")
            if version != _SCHEMA_VERSION:
                self._set_up(database)
        except BaseException:
            database.close()
            raise
        return database

    def _set_up(self, database: sqlite3.Connection) -> None:
        self.index.chmod(0o600)
        patiently(lambda: database.execute("PRAGMA journal_mode = WAL"), _BUSY_S)
        with transaction(database, _BUSY_S):
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != _SCHEMA_VERSION:  # nobody was faster; any other version is replaced, the folders hold everything
                for kind, name in database.execute("SELECT type, name FROM sqlite_master WHERE type = 'table'").fetchall():
                    database.execute(f"DROP {kind} {name}")
                _make_tables(database)
                for spec, status in self._read(self._on_disk()):  # before anybody asks for a name, which may be taken
                    _insert(database, spec, status)


def _make_tables(database: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def observe_via_runner(folder: JobFolder) -> State:
    """A job's state as its runner sees it; ``unknown`` if the folder is damaged or the runner is not installed."""
    return _seen_by(partial(_runner_of, folder.place, _version(f"{folder.place}/job.json")), folder)


def _seen_by(runner: Callable[[], runners.Runner], folder: JobFolder) -> State:
    try:
        return runner().observe(folder)
    except (StoreError, RunnerError) as error:
        return State(Status.UNKNOWN, 0, str(error))


def _version(path: str) -> tuple[int, ...]:
    try:
        now = Path(path).stat()
    except OSError:
        return ()
    return now.st_ino, now.st_mtime_ns, now.st_size, now.st_uid


@functools.lru_cache(maxsize=20_000)
def _runner_of(place: str, version: tuple[int, ...]) -> runners.Runner:
    """A job's runner; to read ``job.json`` again would take as long as all else in a list of jobs."""
    del version
    spec = JobFolder(place).spec()
    return runners.resolve(spec.runner, spec.runner_options)


@functools.lru_cache(maxsize=128)
def _made(runner: str, options: str) -> runners.Runner:
    """A runner as the index has it: the jobs of a sweep share one."""
    return runners.resolve(runner, json.loads(options))


def _free_name(database: sqlite3.Connection, base: str) -> str:
    """``base``, or ``base-2``, ``base-3``, ...: the first that was never given."""
    row = database.execute("SELECT last FROM names WHERE base = ?", (base,)).fetchone()
    number = row[0] + 1 if row else 1
    while True:
        name = base if number == 1 else f"{base}-{number}"
        if database.execute("SELECT 1 FROM jobs WHERE name = ?", (name,)).fetchone() is None:
            break
        number += 1
    database.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (base, number))
    return name


def _insert(database: sqlite3.Connection, spec: JobSpec, status: Status) -> None:
    database.execute(
        "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            spec.id,
            spec.name,
            str(status),
            int(status.is_final),
            spec.created,
            spec.runner,
            json.dumps(spec.runner_options, sort_keys=True),
            json.dumps(spec.tags, sort_keys=True),
            spec.bundle_digest,
        ),
    )
