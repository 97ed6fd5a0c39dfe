"""Jobs in this very process: the same contract, for tests and debuggers. ``start`` returns when the job has ended."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pl_hybridjobs.errors import Fenced
from pl_hybridjobs.jobs import bundle, contract, outcome, trackers, worker
from pl_hybridjobs.jobs.context import JobContext, Planned, activate
from pl_hybridjobs.jobs.durable import dump_json, dump_sealed, locked, write_bytes, write_once
from pl_hybridjobs.jobs.exits import EXIT_BUDGET, EXIT_RETRY
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import HEARTBEAT_S, Lease, beat, claim
from pl_hybridjobs.jobs.logs import LogWriter, StreamTee
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.jobs.supervisor import OUT_OF_BUDGET

# The working folder, the environment and the standard streams belong to the process, so inline jobs take turns.
_turn = threading.RLock()


@dataclass(frozen=True)
class InlineRunner:
    """Runs the job before ``f(...)`` returns. Limits of ``Resources`` other than ``env`` cannot be enforced here, and are refused."""

    name: ClassVar[str] = "inline"

    def complaints(self, spec: JobSpec) -> list[str]:
        """A process cannot limit or kill itself and go on."""
        asked = [name for name in ("timeout_s", "memory_mb", "threads") if getattr(spec.resources, name) is not None]
        return [f"runner 'inline' cannot enforce resources.{name}; use runner='local'" for name in asked]

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``."""
        spec = folder.spec()
        errors = 0
        while True:
            lease = claim(folder, cause, errors=errors)
            trackers.begin(folder, spec.mirrors)

            def load() -> Callable[[], Any]:
                fn, args, kwargs = bundle.load(folder.bundle, digest or spec.bundle_digest or None)
                return lambda: fn(*args, **kwargs)

            with in_process(folder, spec, lease) as context:
                code = worker.run(context, load, may_retry=errors < spec.retries.errors)
            again = code == EXIT_RETRY
            record_exit(folder, lease, code, again=again)
            if not again:
                return
            errors += 1
            time.sleep(spec.retries.pause_s(errors))
            cause = "retry"

    def observe(self, folder: JobFolder) -> State:
        """See ``Runner.observe``."""
        return observe(folder)

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """Cancel a job that is not running. One that runs blocks its caller; stop it as you would any code."""
        with locked(folder.lock):
            state = observe(folder)
            if not state.status.is_final:
                write_bytes(folder.cancel_request, dump_sealed({"time": time.time(), "grace_s": grace_s}))
            if state.status in (Status.CREATED, Status.QUEUED, Status.INTERRUPTED):
                outcome.commit_cancelled(folder, "cancelled")


def record_exit(folder: JobFolder, lease: Lease, code: int | None, *, again: bool = False) -> None:
    """Write how an inline attempt ended."""
    detail = OUT_OF_BUDGET if code == EXIT_BUDGET else "the function raised" if again else "" if code == 0 else f"ended with code {code}"
    ended = {"code": code, "detail": detail, "time": time.time(), "again": again}
    write_once(folder.attempt(lease.epoch).exit, dump_sealed(ended))


@contextlib.contextmanager
def in_process(folder: JobFolder, spec: JobSpec, lease: Lease, *, only_plans: bool = False) -> Iterator[JobContext]:
    """Everything of a job's surroundings that a process can give itself: environment, streams, log, heartbeat, context."""
    attempt = folder.attempt(lease.epoch)
    write_bytes(attempt.hyperparameters, dump_json(contract.hyperparameters(spec.params)), durable=False)
    folder.make_working_folders()
    context = JobContext(folder, spec, lease.epoch, only_plans=only_plans)
    added = {**contract.environment(folder, spec, lease.epoch), **spec.resources.env}
    with _turn, contextlib.ExitStack() as stack:
        stack.enter_context(_environment(added))
        stack.enter_context(_import_path())
        log = stack.enter_context(contextlib.closing(LogWriter(attempt.log)))
        stack.enter_context(contextlib.redirect_stdout(StreamTee(sys.stdout, log)))
        stack.enter_context(contextlib.redirect_stderr(StreamTee(sys.stderr, log)))
        stack.enter_context(_heartbeat(folder, lease))
        yield stack.enter_context(activate(context, whole_process=False))


@contextlib.contextmanager
def _environment(added: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _import_path() -> Iterator[None]:
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _heartbeat(folder: JobFolder, lease: Lease) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        mine = lease
        while not over.wait(HEARTBEAT_S):
            try:
                mine = beat(folder, mine)
            except (Fenced, OSError):
                return

    thread = threading.Thread(target=run, daemon=True, name="hybridjobs-heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_here(folder: JobFolder, spec: JobSpec, call: Callable[[], Any]) -> Any:
    """Run a call that was never packed as a job, and give its value or exception itself (``f.inline``)."""
    box: dict[str, Any] = {}

    def remember() -> Any:
        try:
            value = call()
            box["value"] = worker.awaited(value) if isinstance(value, types.CoroutineType) else value
        except BaseException as error:
            box["error"] = error
            raise
        return box["value"]

    lease = claim(folder, "start")
    trackers.begin(folder, spec.mirrors)
    with in_process(folder, spec, lease) as context:
        code = worker.run(context, lambda: remember, may_retry=False)
    record_exit(folder, lease, code)
    if "error" in box:
        raise box["error"]
    return box["value"]


def plan_here(folder: JobFolder, spec: JobSpec, call: Callable[[], Any]) -> Planned | None:
    """Run a call that was never packed up to its first training loop, silently.

    Returns:
        What the loop says of itself; None if the call ended without one.
    """
    lease = claim(folder, "start")
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(in_process(folder, spec, lease, only_plans=True))
        stack.enter_context(contextlib.chdir(folder.results))
        try:
            value = call()
            if isinstance(value, types.CoroutineType):
                worker.awaited(value)
        except Planned as planned:
            return planned
    return None
