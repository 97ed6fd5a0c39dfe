"""Jobs whose supervisors an engine starts, somewhere, when it is their turn. How a runner submits, looks, concludes and cancels there.

The job's folder is the truth; the engine is asked only where the folder cannot say how things are. An engine that cannot be asked makes a
job ``unknown``, never failed. What the engine's job runs on its machine is in ``node``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from signal import SIGKILL
from typing import ClassVar

from pl_hybridjobs.errors import Fenced, RunnerError
from pl_hybridjobs.jobs import launch as launches
from pl_hybridjobs.jobs import outcome, process, trackers
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, locked, try_locked, write_bytes, write_once
from pl_hybridjobs.jobs.entry import BEFORE_US, EXIT_LEFT, EXIT_NO_FOLDER
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State
from pl_hybridjobs.jobs.state import observe as observe_folder
from pl_hybridjobs.jobs.submissions import Submission, Submissions

ENVIRONMENTS = ("current", "locked")
_LEAVING_S = 15.0


class Unreachable(RunnerError):
    """The engine cannot be asked, or its answer was lost."""


class Phase(Enum):
    """Where an engine's job is."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  #: it has begun, and lies still
    OVER = "over"  #: it will not run any more


@dataclass(frozen=True)
class Seen:
    """An engine's job, as the engine tells of it.

    Attributes:
        text: ``Ray's job 12 is PENDING (why)``.
        phase: What that means.
        node: Where it runs, or "".
        code: Its exit code, where that is known.
        state: What the engine itself calls it, where that says more than the phase.
    """

    text: str
    phase: Phase
    node: str = ""
    code: int | None = None
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class QueuedRunner(ABC):
    """A runner for an engine that queues. What is special about the engine is in the methods that begin with ``_engine_``.

    Attributes:
        grace_s: Seconds between the signal to stop and the end of the job: longer than one step and one checkpoint take.
        setup: Lines of shell before the worker, for example ``"module load python/3.11"`` or ``"source ~/env/bin/activate"``.
        python: The interpreter on the nodes; None for the path of this one.
        environment: ``current``: what that interpreter has. ``locked``: what the bundle's lock names, installed once for each lock.
        probe: Run a small job first (once for each cluster and set of options), which tells whether the nodes see this folder, have this
            Python, and lock files.
    """

    grace_s: float = 60.0
    setup: Sequence[str] = ()
    python: str | None = None
    environment: str = "current"
    probe: bool = False

    #: What people call the engine.
    engine: ClassVar[str]
    submissions: ClassVar[Submissions]
    name: ClassVar[str]
    #: What has ended in the engine may be begun again there, by somebody else.
    begins_again: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "setup", lines_of(self.setup))

    @property
    def installs(self) -> bool:
        """Whether what the bundle requires is installed for the job, so that it need not be here."""
        return self.environment == "locked"

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``. An engine adds what it knows of its own options."""
        del spec
        who = type(self).__name__
        found = [] if is_positive(self.grace_s) else [f"{who}: grace_s must be a positive number, not {self.grace_s!r}"]
        found += text_complaints(self, ("python",))
        if self.environment not in ENVIRONMENTS:
            found.append(f"{who}: environment must be 'current' or 'locked', not {self.environment!r}")
        if not isinstance(self.probe, bool):
            found.append(f"{who}: probe must be True or False, not {self.probe!r}")
        for line in self.setup:
            if not isinstance(line, str) or "\n" in line or not line.strip():
                found.append(f"{who}: setup has {line!r}; give one line of shell for each step")
            elif re.search(r"(?<!\\)(\\\\)*\\$", line):
                found.append(f"{who}: setup has {line!r}, whose last backslash would take the next line along; write the step in one")
        return found

    @property
    def ends_in_s(self) -> float:
        """Seconds that the engine may take to end a job that does not answer."""
        return 60.0

    @abstractmethod
    def _engine_submit(self, folder: JobFolder, spec: JobSpec, digest: str, ours: Submission, cause: str, lock: int) -> Submission:
        """Submit. Returns the submission with what the engine calls it.

        Args:
            folder: The job.
            spec: Its own.
            digest: SHA-256 of its bundle's manifest.
            ours: The submission, which is in the folder already.
            cause: See ``Runner.start``.
            lock: The descriptor of the lock on submissions, for a child that may outlive us.

        Raises:
            Unreachable: Nobody knows whether the engine has it.
            RunnerError: It was refused, for what the message says.
        """

    @abstractmethod
    def _engine_look(self, folder: JobFolder, last: Submission) -> Seen | None:
        """What the engine says of a submission; None if it does not know it, or not any more.

        Raises:
            Unreachable: It cannot be asked.
        """

    def _engine_listed(self, folder: JobFolder, last: Submission) -> Seen | None:
        """As ``_engine_look``, but may come from a list that is a moment old: for those who look at many jobs, or often."""
        return self._engine_look(folder, last)

    def _engine_waiting(self, folder: JobFolder, last: Submission) -> State | None:
        """The state of a job that has never run and waits in the engine, where that can be told without reading much."""
        del folder, last
        return None

    @abstractmethod
    def _engine_stop(self, folder: JobFolder, last: Submission) -> None:
        """End the engine's job; one that it does not know has ended.

        Raises:
            RunnerError: It cannot be asked.
        """

    def _engine_told_to_stop(self, folder: JobFolder, last: Submission) -> contextlib.AbstractContextManager[None]:
        """Within the block, the engine tells our supervisor to stop; that looks for the request in the folder, too."""
        del folder, last
        return contextlib.nullcontext()

    @abstractmethod
    def _engine_found(self, folder: JobFolder, last: Submission) -> Submission | None:
        """A submission whose answer was lost, with what the engine calls it; None if the engine does not have it.

        Raises:
            Unreachable: It cannot be asked.
        """

    def _engine_failed(self, folder: JobFolder, last: Submission, seen: Seen, state: State) -> tuple[str, str] | None:
        """The reason and the message where the engine's job has ended by what no retry mends.

        Here: a line of setup, an interpreter or a folder that is not there.
        """
        if seen.code not in BEFORE_US or state.attempt > last.epoch:
            return None
        if seen.code == EXIT_NO_FOLDER:
            advice = "Set HYBRIDJOBS_HOME to a folder on a file system that all nodes share"
            unseen = f"node {seen.node} does not see {folder.path}, or cannot write there. {advice}"
            return "environment", f"{unseen}; {type(self).__name__}(probe=True) looks before"
        said = self.submissions.said(folder, last)
        if seen.code == EXIT_LEFT:
            return "environment", f"setup has ended the batch script before the worker began: {said}"
        return "environment", f"{seen.text} before the worker began (exit code {seen.code}): {said}"

    # Submitting ----------------------------------------------------------------------------------------------------------------

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``. However often it is called for the same submission, the engine gets one job."""
        self.submissions.place(folder).mkdir(mode=0o700, exist_ok=True)
        with locked(self.submissions.lock(folder)) as lock:
            self._start(folder, digest, cause, lock)

    def _start(self, folder: JobFolder, digest: str, cause: str, lock: int) -> None:
        spec, last = folder.spec(), self.submissions.latest(folder)
        if last is not None and last.ended:
            last = None
        try:
            if last is not None and not last.job and (found := self._looked_for(folder, last)):
                self.submissions.write(folder, found)
                return
            if last is not None and last.job:
                if self._is_on_its_way(folder, last):  # somebody else was faster
                    return
                # The epoch fences it off; it need not go on for nothing.
                self._engine_stop(folder, last)
                self.submissions.end(folder, last, "given up for a later one")
        except RunnerError as error:
            raise RunnerError(f"{spec.name} was not submitted: {error}") from error
        ours = last if last is not None and not last.job and last.task is None else self.submissions.next_of(folder)
        self.submissions.write(folder, ours)
        crash_point(f"{self.name}.intent")
        try:
            known = self._engine_submit(folder, spec, digest, ours, cause, lock)
        except Unreachable as error:
            raise RunnerError(
                f"{spec.name} may have been submitted or not, because {self.engine} cannot be asked: {error} Nothing is lost; "
                f"`hybridjobs resume {spec.name}` looks for it, and submits it if it is not there."
            ) from error
        except RunnerError as error:
            self.submissions.forget(folder, ours)
            raise RunnerError(f"{spec.name} could not be submitted: {error}") from error
        crash_point(f"{self.name}.submitted")
        self.submissions.write(folder, known)
        folder.launch.unlink(missing_ok=True)
        trackers.begin(folder, spec.mirrors)

    def _looked_for(self, folder: JobFolder, last: Submission) -> Submission | None:
        """The submission as the engine has it, of which nobody knows whether it was made. The job's own lock is held."""
        with contextlib.nullcontext() if last.task is None else locked(self.submissions.lock_of(folder, last)):
            return self._engine_found(folder, last)

    def _is_on_its_way(self, folder: JobFolder, last: Submission) -> bool:
        """Whether the engine is about to run the job, or does."""
        seen = self._engine_look(folder, last)
        if seen is None or seen.phase is Phase.OVER:
            return False
        return self._as_told(observe_folder(folder), last, seen).status in (Status.QUEUED, Status.RUNNING)

    # Looking -------------------------------------------------------------------------------------------------------------------

    def observe(self, folder: JobFolder) -> State:
        """See ``Runner.observe``. Asks the engine only where the folder cannot say; what it cannot say is ``unknown``."""
        last = self.submissions.latest(folder)
        if last is not None and (waiting := self._engine_waiting(folder, last)) is not None:
            return waiting
        state = observe_folder(folder)
        if last is None or state.status.is_final or state.status is Status.RUNNING:
            return state
        if last.ended:
            if state.status is Status.CREATED and folder.launch.exists():  # it waits for its turn in its sweep
                return state
            detail = f"{state.detail}; {last.ended}" if state.attempt > last.epoch and state.detail != last.ended else last.ended
            return State(Status.INTERRUPTED, state.attempt, detail, None, state.lease)
        try:
            with contextlib.nullcontext(True) if last.job else try_locked(self.submissions.lock_of(folder, last)) as is_settled:
                if not is_settled:
                    return State(Status.QUEUED, state.attempt, "it is being submitted just now", None, state.lease)
                if not last.job:
                    found = self._engine_found(folder, last)
                    if found is None:
                        return State(Status.CREATED, state.attempt, "not known to be submitted; resume() submits it", None, state.lease)
                    self.submissions.write(folder, found)
                    last = found
            seen = self._engine_listed(folder, last)
        except Unreachable as error:
            return State(Status.UNKNOWN, state.attempt, f"{self.engine} cannot be asked: {str(error).splitlines()[0]}", None, state.lease)
        if seen is not None and seen.phase is not Phase.OVER:
            return self._as_told(state, last, seen)
        return self._conclude(folder, last, seen)

    @staticmethod
    def _as_told(state: State, last: Submission, seen: Seen) -> State:
        where = f" on {seen.node}" if seen.node else ""
        if seen.phase is Phase.WAITING:
            return State(Status.QUEUED, state.attempt, seen.text, None, state.lease)
        if seen.phase is Phase.PAUSED:
            return State(Status.RUNNING, state.attempt, f"{seen.text}{where}", None, state.lease)
        if state.attempt <= last.epoch:
            return State(Status.QUEUED, state.attempt, f"{seen.text}{where}; the worker starts", None, state.lease)
        if state.status is Status.UNKNOWN:
            detail = f"{seen.text}{where}, but {state.detail}; if the clocks of the nodes differ, that is why"
            return State(Status.UNKNOWN, state.attempt, detail, None, state.lease)
        # The engine notices a dead supervisor within seconds; one that has recorded its end is about to leave.
        status = Status.QUEUED if state.orphaned else Status.RUNNING
        return State(status, state.attempt, f"{state.detail}; {seen.text}{where}", None, state.lease)

    def _conclude(self, folder: JobFolder, last: Submission, seen: Seen | None) -> State:
        """The engine's job has ended, and our job has not: say so in the folder, and go on where retries are left."""
        told = seen.text if seen is not None else f"{self.engine} does not know its job {last.job} any more"
        if not folder.attempt(last.epoch + 1).path.exists() and (said := self.submissions.said(folder, last)):
            told = f"{told}: {said.splitlines()[-1]}"
        with locked(self.submissions.lock(folder)) as lock:
            os.listdir(folder.path)  # makes a share show what is new
            current = self.submissions.latest(folder)
            if current is None or current.number != last.number or current.ended:
                return observe_folder(folder)
            again = False
            with locked(folder.lock):
                state = observe_folder(folder)
                if state.status.is_final or state.status is Status.RUNNING:
                    return state
                if folder.cancel_request.exists():
                    outcome.commit_cancelled(folder, f"cancelled; {told}")
                elif not self._fail(folder, last, seen, state):
                    again = self._record_end(folder, state, last, told)
            self.submissions.end(folder, current, told)
            if again:
                try:
                    self._start(folder, folder.spec().bundle_digest, "retry", lock)
                except RunnerError as error:
                    return State(Status.INTERRUPTED, state.attempt, f"{told}; {error}", None, state.lease)
        return self.observe(folder)

    def _fail(self, folder: JobFolder, last: Submission, seen: Seen | None, state: State) -> bool:
        failed = self._engine_failed(folder, last, seen, state) if seen is not None else None
        if failed is None:
            return False
        try:
            outcome.commit_failure_locked(folder, state.attempt, failed[0], {"type": "", "message": failed[1], "traceback": ""})
        except Fenced:
            return False
        return True

    @staticmethod
    def _record_end(folder: JobFolder, state: State, last: Submission, told: str) -> bool:
        """Close the attempt that has no end yet; returns whether there are retries left."""
        spec = folder.spec()
        if state.attempt == 0 or state.lease is None:
            return last.number <= spec.retries.interruptions
        attempt = folder.attempt(state.attempt)
        if attempt.stopped.exists():
            return False
        if state.attempt > last.epoch:
            if state.lease.owner.host == process.current().host:  # what the engine has not ended itself
                launches.of(folder, spec).end(state.attempt)
            write_once(attempt.exit, dump_sealed({"code": None, "detail": told, "time": time.time(), "again": False}))
        return state.lease.interruptions < spec.retries.interruptions

    # Cancelling ----------------------------------------------------------------------------------------------------------------

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """See ``Runner.cancel``."""
        state = self.observe(folder)
        if state.status.is_final:
            return
        with locked(folder.lock):
            now = observe_folder(folder)
            if now.status.is_final:
                return
            write_bytes(folder.cancel_request, dump_sealed({"time": time.time(), "grace_s": grace_s}))
            last = self.submissions.latest(folder)
            runs = now.status in (Status.RUNNING, Status.UNKNOWN) or state.status in (Status.RUNNING, Status.UNKNOWN)
            if not runs or now.attempt == 0:  # whoever begins later finds that it is over
                outcome.commit_cancelled(folder, "cancelled before it ran" if now.attempt == 0 else "cancelled between attempts")
        crash_point("cancel.requested")
        if last is not None and (not last.job or (last.ended and not self.begins_again)):
            last = None  # there is nothing to stop
        if folder.outcome.exists():
            if last is not None:  # it can do nothing any more, and only waits, or ends, in vain
                with contextlib.suppress(RunnerError):
                    self._engine_stop(folder, last)
            return
        with self._engine_told_to_stop(folder, last) if last is not None else contextlib.nullcontext():
            has_ended = self._wait(folder, grace_s + _LEAVING_S)
        if not has_ended and last is not None:
            self._force(folder, last)

    def _wait(self, folder: JobFolder, timeout_s: float) -> bool:
        """The supervisor looks for the request; True if the job is over in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.observe(folder).status.is_over:
                return True
            time.sleep(0.05)
        return False

    def _force(self, folder: JobFolder, last: Submission) -> None:
        """The supervisor does not answer: the engine ends all of it. Committed only when the engine says that it has ended."""
        try:
            self._engine_stop(folder, last)
            lease = observe_folder(folder).lease
            if lease is not None and lease.owner.is_alive():  # here; else the engine waits for its own grace period
                process.signal_one(lease.owner.pid, SIGKILL)
            deadline = time.monotonic() + self.ends_in_s
            while (seen := self._engine_look(folder, last)) is not None and seen.phase is not Phase.OVER:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.2)
        except Unreachable as error:
            raise RunnerError(
                f"{self.engine} cannot be asked now: {error} The request to cancel is kept, and holds as soon as anybody sees it."
            ) from error
        with locked(folder.lock):
            outcome.commit_cancelled(folder, f"cancelled; its supervisor did not answer, and {self.engine} ended it")

    def place(self, folder: JobFolder) -> str:
        """What the job is called where it runs; "" before it is known there."""
        last = self.submissions.latest(folder)
        return f"{self.engine} job {last.job}" if last is not None and last.job else ""


def lines_of(value: Sequence[str] | None) -> tuple[str, ...]:
    """An option of several lines, of which one may be given alone."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def is_positive(value: object) -> bool:
    """Whether it is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def text_complaints(runner: QueuedRunner, names: Sequence[str]) -> list[str]:
    """About options that are texts of one line, or None."""
    return [
        f"{type(runner).__name__}: {name} must be a text that is not empty, not {value!r}"
        for name in names
        if (value := getattr(runner, name)) is not None and (not isinstance(value, str) or not value or "\n" in value)
    ]
