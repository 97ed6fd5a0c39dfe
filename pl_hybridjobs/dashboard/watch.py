"""Looks at the job folders, once and then while somebody has the page open, and tells each page what changed.

One thread for all pages. A look is a listing of the folders and a few ``stat`` calls for each job that may still change; the pause after
it is ten times as long as it took. A page that is slow gets the newest state of what changed meanwhile, not the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.runner import Runner
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State

_LEAST_PAUSE_S = 0.5
_IDLE_SHARE = 10  # of the time that a look takes
_SETTLING_S = 5.0  # a supervisor writes the log's last lines after the outcome
_BEAT_S = 15.0
_CHUNK = 100
_AT_ONCE = 8  # jobs about which services are asked
_POLITE_S = 0.0002  # lets go of the interpreter: in the first look, a page that loads meanwhile comes first

Row = dict[str, Any]


class Watcher:
    """The jobs of one home folder, as rows for a list, kept up to date.

    Args:
        home: The home folder; need not exist yet.
    """

    def __init__(self, home: Path) -> None:
        self._jobs = home / "jobs"
        self._cards: dict[str, _Card] = {}
        self._pages: set[_Page] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._is_ready = False
        self._askers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hybridjobs-watch")
        self._thread = threading.Thread(target=self._run, name="hybridjobs-dashboard-watch", daemon=True)
        self._thread.start()

    def folder(self, job_id: str) -> JobFolder | None:
        """The folder of a job, by its id; None if there is no such job."""
        is_name = job_id and not job_id.startswith(".") and os.sep not in job_id and "\0" not in job_id
        folder = JobFolder(self._jobs / job_id) if is_name else None
        return folder if folder is not None and folder.spec_file.exists() else None

    def nudge(self) -> None:
        """Look now."""
        self._wake.set()

    def close(self) -> None:
        """End the thread and all streams."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        self._askers.shutdown()
        with self._lock:
            for page in self._pages:
                page.tell({}, (), closing=True)

    async def events(self) -> AsyncIterator[Row | None]:
        """What a page is told: first all rows, then what changed. None is a sign of life.

        Each is ``{"rows": [...], "gone": [ids], "ready": ...}``, the first with ``"whole": True``: it replaces what the page had.
        ``ready`` is false until all folders have been looked at once.
        """
        page = _Page(asyncio.get_running_loop())
        with self._lock:
            page.tell({job_id: card.row for job_id, card in self._cards.items()}, ())
            self._pages.add(page)
        self._wake.set()
        try:
            ready = self._is_ready
            yield {**page.take(), "whole": True, "ready": ready}
            while not page.closing:
                try:
                    await asyncio.wait_for(page.news.wait(), _BEAT_S)
                except TimeoutError:
                    yield None
                    continue
                news = {**page.take(), "ready": self._is_ready}
                if not page.closing and (news["rows"] or news["gone"] or news["ready"] != ready):
                    ready = news["ready"]
                    yield news
        finally:
            with self._lock:
                self._pages.discard(page)

    def _run(self) -> None:
        while not self._closed:
            begin = time.monotonic()
            if self._pages or not self._is_ready:  # the first look is made before anybody asks
                with contextlib.suppress(OSError):  # a folder that vanished; the next look sees that
                    self._look()
            pause_s = max(_LEAST_PAUSE_S, _IDLE_SHARE * (time.monotonic() - begin)) if self._pages else None
            self._wake.wait(pause_s)
            self._wake.clear()

    def _look(self) -> None:
        try:
            names = {name for name in os.listdir(self._jobs) if not name.startswith(".")}
        except FileNotFoundError:
            names = set()
        gone = self._cards.keys() - names
        with self._lock:
            for job_id in gone:
                del self._cards[job_id]
        changed: dict[str, Row] = {}
        for job_id, card, has_changed in self._looked(names):
            if has_changed:
                changed[job_id] = card.row
                with self._lock:  # a page that opens just now reads all of them
                    self._cards[job_id] = card
            if not self._is_ready:
                time.sleep(_POLITE_S)
            if len(changed) >= _CHUNK:
                self._tell(changed, ())
                changed = {}
        if changed or gone or not self._is_ready:
            self._is_ready = True
            self._tell(changed, gone)

    def _looked(self, names: Iterable[str]) -> Iterator[tuple[str, _Card, bool]]:
        """Each job and whether it has changed, the newest first; last those about which a service is asked, about several at a time."""
        asked: dict[str, tuple[_Card, Future[bool]]] = {}
        for job_id in sorted(names, reverse=True):
            card = self._cards.get(job_id) or _Card(JobFolder(self._jobs / job_id))
            if card.is_elsewhere:
                asked[job_id] = card, self._askers.submit(card.look)
            else:
                yield job_id, card, card.look()
        for job_id, (card, look) in asked.items():
            yield job_id, card, look.result()

    def _tell(self, changed: dict[str, Row], gone: Iterable[str]) -> None:
        with self._lock:
            for page in self._pages:
                page.tell(changed, gone)


class _Page:
    """What one page has not been told yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._gone: set[str] = set()
        self.news = asyncio.Event()
        self.closing = False

    def tell(self, changed: dict[str, Row], gone: Iterable[str], *, closing: bool = False) -> None:
        """From any thread."""
        with self._lock:
            self._rows.update(changed)
            self._gone.difference_update(changed)
            for job_id in gone:
                self._rows.pop(job_id, None)
                self._gone.add(job_id)
            self.closing = self.closing or closing
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the page with it
            self._loop.call_soon_threadsafe(self.news.set)

    def take(self) -> Row:
        with self._lock:
            self.news.clear()
            taken = {"rows": list(self._rows.values()), "gone": sorted(self._gone)}
            self._rows, self._gone = {}, set()
            return taken


@dataclass
class _Card:
    """One job, as it was seen last."""

    folder: JobFolder
    row: Row = field(default_factory=dict)
    _spec: JobSpec | None = None
    _runner: Runner | None = None
    _over_at: float | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether to look means to ask a service."""
        if self._over_at is not None:
            return False
        with contextlib.suppress(Exception):  # the look says what is wrong
            return isinstance(self._known()[1], runners.Mirroring)
        return False

    def _known(self) -> tuple[JobSpec, Runner]:
        if self._spec is None or self._runner is None:
            self._spec = self.folder.spec()
            self._runner = runners.resolve(self._spec.runner, self._spec.runner_options)
        return self._spec, self._runner

    def look(self) -> bool:
        """Look again, unless nothing can have changed. Returns whether something did."""
        if self._over_at is not None and time.monotonic() - self._over_at > _SETTLING_S:
            return False
        state = self._state()
        row = {**_observed(self.folder, state), **self._decided()}
        if state.status.is_final and self._over_at is None:
            ended = (state.outcome or {}).get("time", 0.0)
            self._over_at = time.monotonic() if time.time() - ended < _SETTLING_S else -_SETTLING_S
        changed = row != self.row
        self.row = row
        return changed

    def _state(self) -> State:
        """As ``store.observe_via_runner`` has it; but what never changes is read once, and a fault of one runner hides no other job."""
        try:
            return self._known()[1].observe(self.folder)
        except HybridJobsError as error:
            return State(Status.UNKNOWN, 0, str(error))
        except Exception as error:  # noqa: BLE001 - of a plug-in
            return State(Status.UNKNOWN, 0, f"{type(error).__name__}: {error}")

    def _decided(self) -> Row:
        """What was decided when the job was submitted."""
        if self._spec is None:  # damaged: the status says how, and nobody can do anything to it
            name = self.folder.path.name
            return {"id": name, "name": name, "created": _mtime(self.folder.path), "can_cancel": False, "can_resume": False}
        spec = self._spec
        return {
            "id": self.folder.path.name,
            "name": spec.name,
            "created": spec.created,
            "function": spec.function,
            "device": spec.device_text,
            "runner": spec.runner,
            "tags": spec.tags,
            "sweep": spec.sweep.id if spec.sweep else None,
            "continues": spec.continues,
        }


def _observed(folder: JobFolder, state: State) -> Row:
    """How the job stands, and marks that change when there is more to read of it."""
    outcome = state.outcome or {}
    return {
        "status": str(state.status),
        "attempt": state.attempt,
        "detail": _detail(outcome) or state.detail,
        "started": state.lease.started if state.lease is not None else None,
        "ended": outcome.get("time"),
        "can_cancel": state.status in (Status.CREATED, Status.QUEUED, Status.RUNNING, Status.UNKNOWN, Status.INTERRUPTED),
        "can_resume": state.status in (Status.CREATED, Status.INTERRUPTED, Status.FAILED, Status.CANCELLED, Status.UNKNOWN),
        "marks": {
            "metrics": _size(folder.metrics),
            "log": _size(folder.attempt(state.attempt).log) if state.attempt else 0,
            "checkpoints": _mtime(folder.checkpoints),
            "results": _mtime(folder.results),
            "cost": max(_mtime(folder.path / "spend.sqlite"), _mtime(folder.path / "spend.sqlite-wal")),
        },
    }


def _detail(outcome: dict[str, Any]) -> str:
    """The first line of the error that ended the job, as Python prints it."""
    error = outcome.get("error") or {}
    kind = str(error.get("type", "")).rpartition(":")[2]
    return f"{kind}: {error.get('message', '')}".strip().split("\n")[0][:200] if kind else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
