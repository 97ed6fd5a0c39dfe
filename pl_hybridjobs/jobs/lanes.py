"""Which jobs of a sweep run now, and which wait.

``sweeps/<id>.json`` names a sweep's jobs, in order. It is written before the first of them is made, so that no job is lost to a caller
who dies in between. Whoever ends one job (its supervisor; of jobs that run elsewhere: who looks) begins the next that waits, so a sweep
goes on when its caller has left. All who begin jobs hold the sweep's lock and count what runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pl_hybridjobs.errors import BudgetExceeded, Fenced, FolderCorrupt
from pl_hybridjobs.jobs.durable import dump_sealed, locked, read_sealed, try_locked, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.runner import Runner

#: What one failed job means for the others of its sweep.
ON_FAILURE = ("continue", "stop", "cancel")
_BUSY = (Status.RUNNING, Status.QUEUED, Status.UNKNOWN)
_GRACE_S = 10.0
_PAUSE_S = 0.05
_MOST_THREADS = 32

_T = TypeVar("_T")
Look = Callable[[JobFolder], State]
Cancel = Callable[[JobFolder, float], None]


def sweep_file(home: Path, sweep_id: str) -> Path:
    """Where a sweep's list of jobs lies."""
    return home / "sweeps" / f"{sweep_id}.json"


def successor_id(job_id: str) -> str:
    """The id of the one job that goes on with an ended one's work."""
    return f"next-{hashlib.sha256(job_id.encode()).hexdigest()[:24]}"


def wait_for_turn(folder: JobFolder) -> None:
    """Let the next attempt of an interrupted job begin when its sweep has room for it."""
    latest = folder.latest_attempt()
    write_bytes(folder.launch, dump_sealed({"epoch": latest.number + 1 if latest else 1, "process": None}))


class _Mine(threading.local):
    """The sweeps' locks that this thread holds."""

    def __init__(self) -> None:
        self.held: set[Path] = set()


_mine = _Mine()


@dataclass(frozen=True)
class _Turn:
    """Which jobs are to begin, which to be stopped, and how many run."""

    due: Sequence[JobFolder] = ()
    to_end: Sequence[JobFolder] = ()
    busy: int = 0


_NOBODYS = _Turn()


@dataclass(frozen=True)
class Lanes:
    """A sweep's jobs and its rules.

    Attributes:
        home: The store's folder.
        id: The sweep's id.
        jobs: The ids of its jobs, in order.
        max_parallel: How many may run at once.
        on_failure: What one that fails means for the others: ``continue``, ``stop`` or ``cancel``.
    """

    home: Path
    id: str
    jobs: tuple[str, ...]
    max_parallel: int
    on_failure: str = "continue"

    @classmethod
    def read(cls, home: Path, sweep_id: str) -> Lanes:
        """Read a sweep's file.

        Raises:
            FileNotFoundError: There is none.
            FolderCorrupt: It is damaged.
        """
        content = read_sealed(sweep_file(home, sweep_id))
        return cls(home, sweep_id, tuple(content["jobs"]), int(content["max_parallel"]), content.get("on_failure", "continue"))

    def write(self) -> None:
        """Write the sweep's file."""
        path = sweep_file(self.home, self.id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = asdict(self)
        write_bytes(path, dump_sealed({name: content[name] for name in ("jobs", "max_parallel", "on_failure")}))

    def remove_if_empty(self) -> None:
        """Delete the sweep's file if none of its jobs was made."""
        if not any(self.folders()):
            sweep_file(self.home, self.id).unlink(missing_ok=True)

    @property
    def lock(self) -> Path:
        """Held by who begins jobs."""
        return sweep_file(self.home, self.id).with_suffix(".lock")

    def hold(self) -> contextlib.AbstractContextManager[int]:
        """Hold the sweep's lock: nobody else begins a job meanwhile.

        Raises:
            StoreError: Somebody else holds it for too long.
        """
        return self._held(locked(self.lock))

    @contextlib.contextmanager
    def _held(self, lock: contextlib.AbstractContextManager[_T]) -> Iterator[_T]:
        """What is found ended while the lock is held has ended; who holds it says what begins next, not the look that found it."""
        with lock as taken:
            _mine.held.add(self.lock)
            try:
                yield taken
            finally:
                _mine.held.discard(self.lock)

    def folders(self) -> list[JobFolder | None]:
        """The newest job in each place: the one that was submitted, or who goes on with its work; None where there is none."""
        return [self._newest(job_id) for job_id in self.jobs]

    def _newest(self, job_id: str) -> JobFolder | None:
        newest = None
        folder = JobFolder(self.home / "jobs" / job_id)
        while True:
            if folder.spec_file.exists():
                newest = folder
                if not folder.outcome.exists():
                    return newest
            folder = JobFolder(self.home / "jobs" / successor_id(folder.path.name))
            if not folder.spec_file.exists():
                return newest

    def begin(self, runner: Runner, digest: Callable[[JobFolder], str], *, is_patient: bool = False) -> None:
        """Begin as many of the jobs that wait as may run. Those for which the others have reserved too much of a budget go on waiting.

        Args:
            runner: The jobs'.
            digest: Of a job's bundle.
            is_patient: Wait for who does so just now; else leave it to them.

        Raises:
            RunnerError: One could not be started.
            BudgetExceeded: Not even one alone.
            StoreError: The sweep's lock is held by somebody else for too long.
        """
        if self.lock in _mine.held:  # a look by who holds it has found a job ended
            return
        with self._held(_always(locked(self.lock)) if is_patient else try_locked(self.lock)) as is_ours:
            turn = self._turn(runner.observe, runner.cancel) if is_ours else _NOBODYS
            for number, folder in enumerate(turn.due):
                try:
                    runner.start(folder, digest(folder), cause_of(folder))
                except BudgetExceeded:
                    if number + turn.busy == 0:
                        raise
                    break
        self._end(turn, runner.cancel)

    def take(self, look: Look, cancel: Cancel, claim: Callable[[JobFolder], _T]) -> tuple[JobFolder, _T] | None:
        """The job that the caller, who has ended one, is to begin; None if there is none, or no room for it.

        Args:
            look: Gives a job's state.
            cancel: Stops a job, given a grace period in seconds.
            claim: Makes a job the caller's, while the lock is held: who counts next counts it. What it gives is given with the job.

        Raises:
            StoreError: The sweep's lock is held by somebody else for too long.
        """
        while True:
            with self.hold():
                turn = self._turn(look, cancel)
                taken = _first_free(turn.due, claim)
            self._end(turn, cancel)
            if taken is not None or not turn.due:
                return taken
            time.sleep(_PAUSE_S)  # one that is being cancelled waits until it is

    def _turn(self, look: Look, cancel: Cancel) -> _Turn:
        """Whose turn it is. After a failure that ends the sweep it is nobody's, and those that wait are cancelled."""
        seen = [(folder, self._status(folder, look)) for folder in self.folders() if folder is not None]
        waiting = [folder for folder, status in seen if status is Status.CREATED]
        busy = [folder for folder, status in seen if status in _BUSY]
        if self.on_failure == "continue" or all(status is not Status.FAILED for _, status in seen):
            return _Turn(waiting[: max(0, self.max_parallel - len(busy))], busy=len(busy))
        for folder in reversed(waiting):
            cancel(folder, _GRACE_S)
        return _Turn([], busy if self.on_failure == "cancel" else [])

    @staticmethod
    def _end(turn: _Turn, cancel: Cancel) -> None:
        """Cancel those that run, without the lock: it may take a while."""
        side_by_side(turn.to_end, lambda folder: cancel(folder, _GRACE_S))

    def _status(self, folder: JobFolder, look: Look) -> Status | None:
        """A job's status; None where it has ended, and how makes no difference."""
        if not folder.outcome.exists():
            return look(folder).status
        if self.on_failure == "continue":
            return None
        try:
            return Status(read_sealed(folder.outcome)["status"])
        except FolderCorrupt:
            return None


def _first_free(due: Sequence[JobFolder], claim: Callable[[JobFolder], _T]) -> tuple[JobFolder, _T] | None:
    """The first job that nobody has taken or cancelled since it was looked at."""
    for folder in due:
        with contextlib.suppress(Fenced):
            return folder, claim(folder)
    return None


def side_by_side(jobs: Sequence[_T], end: Callable[[_T], object]) -> None:
    """End jobs, all at once: each may take its whole grace period.

    Raises:
        HybridJobsError: One could not be ended; the others were.
    """
    if not jobs:
        return
    from concurrent.futures import ThreadPoolExecutor  # supervisors are light, and seldom need it

    with ThreadPoolExecutor(_MOST_THREADS) as threads:
        asked = [threads.submit(end, job) for job in jobs]
    for one in asked:
        one.result()


def cause_of(folder: JobFolder) -> str:
    """Why a job that waits begins: see ``Lease.cause``."""
    return "start" if folder.latest_attempt() is None else "resume"


def of_job(folder: JobFolder, spec: JobSpec) -> Lanes | None:
    """The sweep that a job belongs to; None if there is none."""
    if spec.sweep is None:
        return None
    try:
        return Lanes.read(folder.path.parents[1], spec.sweep.id)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _always(lock: contextlib.AbstractContextManager[int]) -> Iterator[bool]:
    """A lock that is held, said as ``try_locked`` says it."""
    with lock:
        yield True
