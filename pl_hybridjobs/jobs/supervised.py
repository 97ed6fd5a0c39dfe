"""Jobs whose attempts a supervisor on this machine owns, wherever their workers run."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs import launch as launches
from pl_hybridjobs.jobs import outcome, process
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, locked, write_bytes, write_once
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Liveness
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State, observe

_CODE = launches.program("pl_hybridjobs.jobs.supervisor")


@dataclass(frozen=True)
class SupervisedRunner:
    """Starts supervisors, and looks after what they leave behind. How the worker itself is started is its ``Launch``'s."""

    def prefix(self) -> list[str]:
        """Words in front of the supervisor's command, such as ``["nice", "-n", "10"]``, for runners that are made of this one. What they
        name must become the supervisor, or end when it does.
        """
        return []

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``."""
        if not sys.executable:
            raise RunnerError(
                "This program does not know its Python interpreter (sys.executable is empty), so it cannot start a job with it."
            )
        crash_point("local.start")
        latest = folder.latest_attempt()
        # -S: the supervisor needs the standard library only, and starts in a third of the time.
        argv = [*self.prefix(), sys.executable, "-P", "-S", "-c", _CODE, str(launches.ROOT), str(folder.path), digest, cause]
        argv[0] = shutil.which(argv[0]) or argv[0]
        try:
            pid = process.spawn(argv, process.own_environment(), session=True)
        except OSError as error:
            raise RunnerError(f"Cannot start {argv[0]}: {error.strerror}.") from error
        identity = process.Identity.of(pid) or process.Identity("", "", pid, "")
        launch = {"epoch": latest.number + 1 if latest else 1, "process": identity.to_json()}
        write_bytes(folder.launch, dump_sealed(launch), durable=False)
        crash_point("local.started")

    def observe(self, folder: JobFolder) -> State:
        """See ``Runner.observe``. An orphaned attempt is cleaned up, and retried where the job says so."""
        state = observe(folder)
        if state.outcome is None and state.lease is not None:
            process.reap(state.lease.owner.pid)
        if state.orphaned:
            return self._recover(folder, state)
        return state

    def _recover(self, folder: JobFolder, state: State) -> State:
        """The owner died: end what it left running, say so in the folder, and retry if there are retries left."""
        assert state.lease is not None
        spec = folder.spec()
        if state.lease.owner.host != process.current().host:
            return state
        try:
            left = launches.of(folder, spec).end(state.attempt)
            problem = f"processes {left} of it do not end" if left else ""
        except RunnerError as error:
            problem = f"what it left cannot be ended: {error}"
        if problem:
            return State(Status.UNKNOWN, state.attempt, f"its owner died, and {problem}", None, state.lease)
        again = state.lease.interruptions < spec.retries.interruptions and not folder.cancel_request.exists()
        with locked(folder.lock):
            current = observe(folder)
            if not current.orphaned or current.attempt != state.attempt:
                return current
            if folder.cancel_request.exists():
                outcome.commit_cancelled(folder, "cancelled; its owner had died")
                return observe(folder)
            if again:  # before exit.json, so that nobody sees a job that is over in between; the new owner waits for our lock
                self.start(folder, spec.bundle_digest, "retry")
            ended = {"code": None, "detail": state.detail, "time": time.time(), "again": False}
            write_once(folder.attempt(state.attempt).exit, dump_sealed(ended))
        return observe(folder)

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """See ``Runner.cancel``."""
        with locked(folder.lock):
            state = observe(folder)
            if state.status.is_final:
                return
            write_bytes(folder.cancel_request, dump_sealed({"time": time.time(), "grace_s": grace_s}))
            if state.status not in (Status.RUNNING, Status.UNKNOWN) and not _owner_lives(state):
                outcome.commit_cancelled(folder, "cancelled before it ran" if state.attempt == 0 else "cancelled between attempts")
                return
            if state.lease is None:  # it cannot be read: nobody knows the owner, but all that belongs to the job is marked
                launches.of(folder, folder.spec()).end(state.attempt)
                outcome.commit_cancelled(folder, "cancelled; its lease was damaged")
                return
        crash_point("cancel.requested")
        _signal(state.lease.owner)
        if not self._wait(folder, grace_s + 10.0):
            self._force(folder, state)

    def _wait(self, folder: JobFolder, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            state = self.observe(folder)
            if state.status.is_over:
                return True
            time.sleep(0.02)
        return False

    def _force(self, folder: JobFolder, state: State) -> None:
        """The supervisor does not answer (stopped, or stuck): end it and its children ourselves."""
        assert state.lease is not None
        launch = launches.of(folder, folder.spec())
        launch.end(state.attempt, parent=state.lease.owner.pid if state.lease.owner.is_alive() else None)
        if state.lease.owner.is_alive():
            process.signal_one(state.lease.owner.pid, SIGKILL)
        with locked(folder.lock):
            if state.lease.liveness() is not Liveness.ALIVE or not state.lease.owner.is_alive():
                outcome.commit_cancelled(folder, "cancelled; its owner did not answer and was killed")


def _owner_lives(state: State) -> bool:
    return state.lease is not None and not state.orphaned and state.status is Status.QUEUED and bool(state.lease.owner.is_alive())


def _signal(owner: process.Identity) -> None:
    if owner.is_alive():
        process.signal_one(owner.pid, SIGTERM)
