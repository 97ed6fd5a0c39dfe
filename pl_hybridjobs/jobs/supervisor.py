"""The process that owns an attempt: starts the worker, keeps its log, its lease and its limits, and cleans up after it.

One for each running job on this machine, light (standard library only), in its own session, so that the caller may exit. It also
starts the next attempt where retries allow, and the next job of a sweep.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pl_hybridjobs.errors import Fenced, RunnerError
from pl_hybridjobs.jobs import contract, lanes, launch, outcome, process, trackers
from pl_hybridjobs.jobs.durable import crash_point, dump_json, dump_sealed, locked, write_bytes, write_once
from pl_hybridjobs.jobs.exits import EXIT_BUDGET, EXIT_FENCED, EXIT_RETRY, EXIT_STOPPED
from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder
from pl_hybridjobs.jobs.lease import HEARTBEAT_S, Lease, beat, claim
from pl_hybridjobs.jobs.logs import LogWriter
from pl_hybridjobs.jobs.spec import JobSpec, Retries
from pl_hybridjobs.jobs.state import observe
from pl_hybridjobs.jobs.supervised import SupervisedRunner

OUT_OF_BUDGET = "the budget ran out before the next submission; it can be raised with resume"
GRACE_S = float(os.environ.get("HYBRIDJOBS_GRACE_S", "10"))
_LEAVING_S = 15.0
_POLL_S = 0.2
_MEMORY_POLL_S = 0.05
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def main(argv: list[str]) -> int:
    """``supervisor <job folder> <bundle digest> <cause>``."""
    path, digest, cause = argv
    folder, lease = JobFolder(Path(path)), None
    _keep_own_errors(folder.supervisor_log)
    while True:
        spec = folder.spec()
        mirrors = partial(trackers.begin, folder, spec.mirrors)
        if not supervise(folder, spec, digest or spec.bundle_digest, cause, lease=lease, began=mirrors):
            return EXIT_STOPPED
        # No look that mends: what that starts would be ours, and would end with the attempt.
        sweep = lanes.of_job(folder, spec)
        taken = sweep.take(observe, SupervisedRunner().cancel, lambda due: claim(due, lanes.cause_of(due))) if sweep is not None else None
        if taken is None:
            return 0
        folder, lease = taken
        digest, cause = "", lease.cause


def _keep_own_errors(path: Path) -> None:
    """Our own tracebacks (bugs) go to a file: nobody holds our standard error."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def supervise(
    folder: JobFolder,
    spec: JobSpec,
    digest: str,
    cause: str,
    *,
    lease: Lease | None = None,
    began: Callable[[], None] = lambda: None,
) -> bool:
    """Run a job's attempts until it has ended or must not go on.

    Args:
        folder: The job.
        spec: What it is.
        digest: SHA-256 of its bundle's manifest.
        cause: ``start``, ``retry`` or ``resume``.
        lease: Of the first attempt, where it is claimed already.
        began: Called whenever an attempt has begun.

    Returns:
        False if this process was asked to stop.
    """
    used = _used_retries(folder, cause)
    while True:
        try:
            lease = lease or claim(folder, cause, interruptions=used.interruptions, errors=used.errors)
        except Fenced:
            return True
        attempt = Attempt(folder, spec, digest, lease)
        began()
        end = attempt.run()
        if end.stopped:
            return False
        if not end.again:
            return True
        used = Retries(used.interruptions + (not end.error), used.errors + end.error)
        if not _pause(folder, lease, spec.retries.pause_s(used.interruptions + used.errors), attempt.is_asked_to_stop):
            return not attempt.is_asked_to_stop()
        cause, lease = "retry", None


def _used_retries(folder: JobFolder, cause: str) -> Retries:
    """How many retries were used since somebody last started or resumed the job."""
    latest = folder.latest_attempt()
    if cause not in ("retry", "requeue") or latest is None:
        return Retries()
    lease = Lease.read(latest)
    return Retries(lease.interruptions + 1, lease.errors)


def _pause(folder: JobFolder, lease: Lease, pause_s: float, is_asked_to_stop: Callable[[], bool]) -> bool:
    """Wait before a retry, with heartbeats; False if the job was cancelled meanwhile, or this process was asked to stop."""
    deadline = time.monotonic() + pause_s
    while (left_s := deadline - time.monotonic()) > 0 or is_asked_to_stop():
        time.sleep(max(0.0, min(left_s, 0.1)))
        if folder.outcome.exists():
            return False
        if folder.cancel_request.exists():
            with locked(folder.lock):
                outcome.commit_cancelled(folder, "cancelled while it waited for the next attempt")
            return False
        if is_asked_to_stop():
            return False
        if time.monotonic() - lease.beat_monotonic > HEARTBEAT_S:
            with contextlib.suppress(Fenced):
                lease = beat(folder, lease)
    return True


@dataclass(frozen=True)
class End:
    """How an attempt ended, as far as the supervisor must decide something."""

    again: bool  #: retries allow another attempt
    error: bool = False  #: the function raised
    stopped: bool = False  #: this process was asked to stop


class Attempt:
    """One worker process under supervision."""

    def __init__(self, folder: JobFolder, spec: JobSpec, digest: str, lease: Lease) -> None:
        self.folder = folder
        self.spec = spec
        self.digest = digest
        self.lease = lease
        self.files: AttemptFolder = folder.attempt(lease.epoch)
        self.launch = launch.of(folder, spec)
        self.limits_memory = False  #: not while the environment is built, and not where the engine does it
        self.signals: list[int] = []
        self.kill_reason = ""  #: timeout, memory, cancel, stop or fenced
        self.kill_detail = ""
        self.kill_at = 0.0

    def run(self) -> End:
        """Start the worker, look after it, clean up, and record how it ended."""
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        os.set_blocking(wake_r, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda n, _frame: self.signals.append(n))
        self.log = LogWriter(self.files.log)
        self.begun = time.monotonic()
        try:
            write_bytes(self.files.hyperparameters, dump_json(contract.hyperparameters(self.spec.params)), durable=False)
            self.folder.make_working_folders()
            prepared = self.launch.preparation(self._work())
            code = 0
            if prepared is not None:
                code = self._attend(wake_r, lambda output, life: _prepare(prepared, self._token, output, life))
            if code == 0 and not self.kill_reason and not self.folder.outcome.exists():
                self.limits_memory = self.launch.is_local
                code = self._attend(wake_r, lambda output, life: self.launch.start(self._work(), output=output, life=life))
            return self._conclude(code)
        except RunnerError as error:
            self.log.note(str(error))
            return self._refused(error)
        finally:
            self.log.close()
            signal.set_wakeup_fd(-1)  # else the next signal writes into whatever file gets this number
            os.close(wake_r)
            os.close(wake_w)

    def is_asked_to_stop(self) -> bool:
        """Whether a signal came that nobody has acted on; it goes on to take them when the worker is gone."""
        return any(number != signal.SIGCHLD for number in self.signals)

    @property
    def _token(self) -> str:
        return launch.token_of(self.spec.id, self.lease.epoch)

    def _attend(self, wake: int, start: Callable[[int, int], int]) -> int:
        """Start a process and look after it, to its end. Returns its exit code."""
        output, output_w = os.pipe()
        # The worker reads from this pipe in a thread: the end of the file tells it that we are dead.
        life_r, life = os.pipe()
        os.set_blocking(output, False)
        try:
            try:
                pid = start(output_w, life_r)
            finally:
                os.close(output_w)
                os.close(life_r)
            if self.launch.is_local:
                process.adopt_orphans()  # here, where the worker does not wait for it
            crash_point("supervisor.started")
            code = None
            try:
                code = self._look_after(pid, output, wake)
            finally:
                process.signal_group(pid, signal.SIGKILL)
                self._end_what_is_left(code)
                self._drain(output, 0.5)
        finally:
            os.close(output)
            os.close(life)
        return code

    def _end_what_is_left(self, code: int | None) -> None:
        """What cannot be ended is told, and does not change how the job has ended: it is fenced off like any older attempt."""
        try:
            left = self.launch.end(self.lease.epoch, code=code, parent=os.getpid())
        except RunnerError as error:
            self.log.note(f"what is left of this attempt cannot be ended: {error}")
            return
        if left:
            self.log.note(f"processes {left} of this attempt do not end, even by SIGKILL")

    def _work(self) -> launch.Work:
        may_retry = self.lease.errors < self.spec.retries.errors
        return launch.Work(self.lease.epoch, self.digest, may_retry, self._environment())

    def _environment(self) -> dict[str, str]:
        env = {**contract.environment(self.folder, self.spec, self.lease.epoch), process.TOKEN_VARIABLE: self._token}
        threads = self.spec.resources.threads
        if threads is not None:
            env |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        env["PYTHONUNBUFFERED"] = "1"
        return {**env, **self.spec.resources.env}

    def _look_after(self, worker: int, output: int, wake: int) -> int:
        limits = self.spec.resources
        wait_s = _MEMORY_POLL_S if limits.memory_mb and self.limits_memory else _POLL_S
        open_fds = [output, wake]
        while True:
            readable, _, _ = select.select(open_fds, [], [], wait_s)
            if wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            if output in readable and not self._copy(output):
                open_fds.remove(output)
            self.log.flush_partial()
            ended, status = os.waitpid(worker, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            now = time.monotonic()
            self._on_signals(worker)
            if limits.timeout_s and now - self.begun > limits.timeout_s and not self.kill_reason:
                self._end(worker, "timeout", f"ran longer than timeout_s={limits.timeout_s:g}", GRACE_S)
            if limits.memory_mb and self.limits_memory and not self.kill_reason:
                used_mb = process.resident_mb([worker, *process.descendants(worker)])
                if used_mb > limits.memory_mb:
                    self._end(worker, "memory", f"used {used_mb:.0f} MB, more than memory_mb={limits.memory_mb:g}", 0.0)
            if self.kill_reason and now > self.kill_at:
                process.signal_group(worker, signal.SIGKILL)
            if now - self.lease.beat_monotonic > HEARTBEAT_S and self.folder.outcome.exists():
                # Threads or child processes go on after the function has returned; on a busy machine, large programs take seconds to leave.
                if not self.kill_reason and time.time() - self.folder.outcome.stat().st_mtime > _LEAVING_S:
                    self._end(
                        worker, "ended", f"the function has ended, and {_LEAVING_S:g} s later something that it started goes on", GRACE_S
                    )
            elif now - self.lease.beat_monotonic > HEARTBEAT_S:
                if self.folder.cancel_request.exists() and not self.kill_reason:  # asked by somebody who cannot signal us
                    self.signals.append(signal.SIGTERM)
                try:
                    self.lease = beat(self.folder, self.lease)
                except Fenced as error:
                    self._end(worker, "fenced", str(error), 0.0)
                except OSError as error:  # a full disk must not kill a healthy job
                    self.log.note(f"no heartbeat: {error}")

    def _on_signals(self, worker: int) -> None:
        asked = {n for n in self.signals if n != signal.SIGCHLD}
        self.signals.clear()
        if not asked:
            return
        request = self.folder.read_optional(self.folder.cancel_request)
        if request is not None:
            if self.kill_reason != "cancel":
                self._end(worker, "cancel", "cancelled", float(request.get("grace_s", GRACE_S)))
        elif self.kill_reason:  # asked a second time: at once
            self.kill_at = 0.0
        else:
            number = signal.SIGUSR1 if signal.SIGUSR1 in asked else signal.SIGTERM
            self._end(worker, "stop", "asked to stop", GRACE_S, number)

    def _end(self, worker: int, reason: str, detail: str, grace_s: float, number: int = signal.SIGTERM) -> None:
        self.kill_reason, self.kill_detail = reason, detail
        self.kill_at = time.monotonic() + grace_s
        self.log.note(f"{detail}; the worker has {grace_s:g} s to end" if grace_s else f"{detail}; killed")
        if grace_s:
            self.launch.signal(worker, number)
        else:
            process.signal_group(worker, signal.SIGKILL)

    def _copy(self, output: int) -> bool:
        try:
            data = os.read(output, 1 << 16)
        except BlockingIOError:
            return True
        self.log.feed(data)
        return bool(data)

    def _drain(self, output: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([output], [], [], left_s)[0] or not self._copy(output):
                return

    def _conclude(self, code: int) -> End:
        self.log.flush()  # before exit.json: that one says that the log is whole
        verdict = self.launch.verdict(code, self.files.log)
        code = verdict.code
        if verdict.reason and not self.kill_reason:
            self.kill_reason, self.kill_detail = verdict.reason, verdict.detail
            self.log.note(verdict.detail)
        if self.folder.outcome.exists():
            self._record_exit(code, "")
        elif self.kill_reason == "fenced" or code == EXIT_FENCED:
            self._record_exit(code, self.kill_detail or "fenced off by a newer attempt")
        elif self.kill_reason == "cancel" or self.folder.cancel_request.exists():
            with locked(self.folder.lock):
                outcome.commit_cancelled(self.folder, "cancelled")
            self._record_exit(code, "cancelled")
        elif self.kill_reason in ("timeout", "memory"):
            error = {"type": "", "message": f"The job {self.kill_detail}.", "traceback": ""}
            with contextlib.suppress(Fenced):
                outcome.commit_failure(self.folder, self.lease.epoch, self.kill_reason, error)
            self._record_exit(code, self.kill_detail)
        else:
            return self._interrupted(code, verdict.detail)
        return End(again=False)

    def _refused(self, error: RunnerError) -> End:
        """The worker could not be started at all."""
        with contextlib.suppress(Fenced):
            outcome.commit_failure(self.folder, self.lease.epoch, "environment", {**outcome.describe(error), "traceback": ""})
        self._record_exit(None, str(error))
        return End(again=False)

    def _interrupted(self, code: int, told: str) -> End:
        error = code == EXIT_RETRY
        stopped = self.kill_reason == "stop"
        again = error or (not stopped and code != EXIT_BUDGET and self.lease.interruptions < self.spec.retries.interruptions)
        detail = "the function raised" if error else told or (_stop_text(code) if stopped and code < 0 else _exit_text(code))
        self.log.note(detail if error else f"{detail}; no outcome was written, so the job is interrupted, not finished")
        self._record_exit(code, detail, again=again)
        return End(again=again, error=error, stopped=stopped)

    def _record_exit(self, code: int | None, detail: str, *, again: bool = False) -> None:
        content = {"code": code, "detail": detail, "time": time.time(), "again": again}
        with contextlib.suppress(OSError):
            write_once(self.files.exit, dump_sealed(content))


def _prepare(command: Sequence[str], token: str, output: int, life: int) -> int:
    """Start what must be done before the worker starts; its environment is ours."""
    os.set_inheritable(life, True)
    env = {name: value for name, value in os.environ.items() if name != process.OWNER_VARIABLE}
    env |= {process.TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1"}
    return process.spawn([*command, str(life)], env, output=output, session=True)


def _stop_text(code: int) -> str:
    if code == -signal.SIGKILL:
        return f"the worker was asked to stop, reached no step boundary within {GRACE_S:g} s, and was killed"
    return f"the worker was asked to stop, and ended by signal {-code} before it had begun to listen"


def _exit_text(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            perhaps = " (by somebody, or by the system because memory ran out)" if code == -signal.SIGKILL else ""
            return f"the worker was killed by {name}{perhaps}"
        return f"the worker was killed by signal {-code}"
    if code == EXIT_BUDGET:
        return OUT_OF_BUDGET
    if code == EXIT_STOPPED:
        return "the worker stopped at a step boundary, as it was asked to"
    return f"the worker exited with code {code}"
