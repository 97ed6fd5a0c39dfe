"""What the caller holds: a job, looked at from outside."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from pl_hybridjobs.errors import (
    FolderCorrupt,
    InvalidCall,
    JobCancelled,
    JobError,
    JobFailed,
    JobInterrupted,
    JobTimeout,
    ResultNotReady,
    RunnerError,
    StoreError,
    did_you_mean,
)
from pl_hybridjobs.jobs import bundle, codec, lanes, logs, outcome, process
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.durable import dump_json, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Liveness
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State, type_of
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.plain import line, plain

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.cost.ledger import Cost
    from pl_hybridjobs.jobs.checkpoint import Checkpoint
    from pl_hybridjobs.jobs.metrics import MetricTable, Record
    from pl_hybridjobs.jobs.progress import Progress

_TAIL_LINES = 20
_HINT_AFTER_S = 5.0
_LOG_DELAY_S = 2.0
_TEND_S = 1.0
_LEAVING_S = 5.0  # a supervisor whose job is over


class Job:
    """A job: its status, logs, metrics, checkpoints and result. Reads the job's folder; any number may look at one job.

    Args:
        folder: The job's folder, anywhere. ``open_job`` finds it by name.

    Raises:
        FolderCorrupt: The folder holds no readable ``job.json``.
        FolderTooNew: A newer version wrote it.
        FolderNotOurs: It belongs to another user.
    """

    def __init__(self, folder: JobFolder | Path) -> None:
        self._folder = folder if isinstance(folder, JobFolder) else JobFolder(folder)

    @functools.cached_property
    def _spec(self) -> JobSpec:
        return self._folder.spec()

    @functools.cached_property
    def _runner(self) -> runners.Runner:
        return runners.resolve(self._spec.runner, self._spec.runner_options)

    @property
    def id(self) -> str:
        """Unique for ever."""
        return self._folder.path.name

    @property
    def name(self) -> str:
        """Unique in its store, for people."""
        return self._spec.name

    @property
    def folder(self) -> Path:
        """The job's folder: the whole truth about it."""
        return self._folder.path

    @property
    def spec(self) -> JobSpec:
        """All that was decided when the job was submitted."""
        return self._spec

    @property
    def params(self) -> dict[str, Any]:
        """The call's arguments as recorded: plain values as they were, others as short text."""
        return dict(self._spec.params)

    @property
    def tags(self) -> dict[str, str]:
        """The job's tags."""
        return dict(self._spec.tags)

    @property
    def cost(self) -> Cost:
        """What was bought: money, tasks, shots, by device; estimates and final figures apart. Read from the job's folder, at any time.

        Runs on your own machine cost nothing; of others, what they ran on is in the sum. A job that goes on with an ended one's work has
        the purchases of both.
        """
        from pl_hybridjobs.cost import account
        from pl_hybridjobs.cost.prices import INSTANCE

        self._catch_up()
        bought = account.of_job(self.folder).cost()
        if not isinstance(self._runner, runners.Mirroring):
            return bought
        return bought.without(INSTANCE) + self._runner.cost(self._folder)  # so far, not what is reserved for as long as it may run

    @property
    def budget(self) -> Budget:
        """What may be bought: the decorator's limits, with those that ``resume(budget=...)`` changed."""
        from pl_hybridjobs.cost import account

        return account.of_job(self.folder).limits

    @property
    def place(self) -> str:
        """What it is called where it runs, if that is elsewhere: the resource name of its newest Braket job, its number in Slurm."""
        return runners.place_of(self._runner, self._folder)

    @property
    def status(self) -> Status:
        """Where the job is now; ``unknown`` also where its folder is damaged (``result()`` says how)."""
        try:
            return self.state().status
        except FolderCorrupt:
            return Status.UNKNOWN

    @property
    def attempt(self) -> int:
        """The newest attempt's number; 0 before the first."""
        return self.state().attempt

    def state(self) -> State:
        """Status, attempt and a line of detail, all of one moment."""
        return self._runner.observe(self._folder)

    def _catch_up(self) -> None:
        """Take what has come from a job that runs elsewhere; what cannot be seen now is as it was seen last."""
        with contextlib.suppress(RunnerError, StoreError):
            if isinstance(self._runner, runners.Mirroring):
                self.state()

    def __repr__(self) -> str:
        try:
            state = self.state()
            detail = f", {line(state.detail)}" if state.detail else ""
            return f"<Job {self.name!r} {state.status}, attempt {state.attempt}{detail}>"
        except Exception as error:  # noqa: BLE001 - a repr must not raise
            return f"<Job {self.id!r} unreadable: {error}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return Job, (self.folder,)

    def _repr_html_(self) -> str:
        from pl_hybridjobs.jobs import display

        return display.html(self)

    def _ipython_display_(self) -> None:
        from pl_hybridjobs.jobs import display

        display.show(self)

    def wait(self, timeout: float | None = None) -> Status:
        """Wait until the job is over.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            ``completed``, ``failed``, ``cancelled`` or ``interrupted``.

        Raises:
            ResultNotReady: The time is over. The job goes on.
            KeyboardInterrupt: Ctrl-C. The job goes on, and how to get back to it is printed.
        """
        return self._wait(timeout).status

    def _wait(self, timeout: float | None) -> State:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause_s = 0.005
        hint_at = time.monotonic() + _HINT_AFTER_S
        tend_at = time.monotonic() + _TEND_S
        try:
            while True:
                state = self.state()
                if state.status.is_over:
                    return state
                if deadline is not None and time.monotonic() >= deadline:
                    raise ResultNotReady(f"{self.name} is still {state.status} after {timeout:g} s. It goes on; ask again later.")
                if state.status is Status.CREATED and time.monotonic() > tend_at:
                    tend_at = time.monotonic() + _TEND_S
                    self._tend_sweep()
                if time.monotonic() > hint_at and (state.status is Status.UNKNOWN or self._is_forgotten(state)):
                    hint_at = math.inf
                    print(f"{self.name} is {state.status}: {state.detail}. `hybridjobs resume {self.name}` starts it.", file=sys.stderr)
                time.sleep(pause_s if deadline is None else max(0.0, min(pause_s, deadline - time.monotonic())))
                pause_s = min(pause_s * 1.3, 0.1)
        except KeyboardInterrupt:
            print(
                f"\n{self.name} goes on: wait again with job.result(), or come back with `hybridjobs logs -f {self.name}` or "
                f"pl_hybridjobs.open_job({self.name!r}); end it with `hybridjobs cancel {self.name}` or job.cancel().",
                file=sys.stderr,
            )
            raise

    def _tend_sweep(self) -> None:
        """Of a sweep whose lanes have died nobody else begins the jobs that wait."""
        sweep = lanes.of_job(self._folder, self._spec)
        if sweep is not None:
            tend(sweep, self._runner)

    def _is_forgotten(self, state: State) -> bool:
        """Nobody was asked to start it: its caller died inside the call. Jobs of a sweep wait for their turn."""
        return state.status is Status.CREATED and self._spec.sweep is None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the job's end and return what its function returned.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            JobFailed: The function raised; the error is also an instance of the original class where that is importable.
            JobTimeout: It ran into ``Resources.timeout_s``.
            JobCancelled: It was cancelled.
            JobInterrupted: Its owner died, or its budget ran out (then it is a ``BudgetExceeded`` too); ``resume()`` goes on.
            ResultNotReady: The time is over. The job goes on.
            CodecError: The value holds a class that is not importable here.
        """
        state = self._wait(timeout)
        if state.status is Status.COMPLETED and state.outcome is not None:
            return outcome.load_value(self._folder, state.outcome)
        raise self._error(state)

    def exception(self, timeout: float | None = None) -> JobError | None:
        """Wait for the job's end and return what ``result()`` would raise; None if it completed."""
        state = self._wait(timeout)
        return None if state.status is Status.COMPLETED else self._error(state)

    def plain_result(self) -> Any:
        """The value of a completed job as plain JSON data, without building any of its classes."""
        state = self.state()
        if state.status is not Status.COMPLETED or state.outcome is None:
            raise self._error(state)
        return outcome.plain_value(self._folder, state.outcome)

    def _error(self, state: State) -> JobError:
        tail = logs.tail([a.log for a in self._folder.attempt_list()], _TAIL_LINES)
        return _job_error(self.name, state, tail, self._stopped_by(state))

    def _stopped_by(self, state: State) -> dict[str, Any] | None:
        """The error that stopped the newest attempt without ending the job."""
        if state.status is not Status.INTERRUPTED or state.attempt == 0:
            return None
        return self._folder.read_optional(self._folder.attempt(state.attempt).stopped)

    @overload
    def metrics(self, *names: str, follow: Literal[False] = False) -> MetricTable: ...
    @overload
    def metrics(self, *names: str, follow: Literal[True]) -> Iterator[Record]: ...
    def metrics(self, *names: str, follow: bool = False) -> MetricTable | Iterator[Record]:
        """The metrics so far. ``table["cost"]`` is the array of values in step order.

        Args:
            *names: Only these; all if none is given.
            follow: Give an iterator that yields each value as it comes (``name``, ``value``, ``step``, ``time``, ``attempt``), those that
                are there already first, and ends when the job is over. A step that a later attempt repeats comes again.
        """
        from pl_hybridjobs.jobs.metrics import follow_metrics, read_metrics

        if follow:
            records = follow_metrics(self._folder.metrics, lambda: self.state().status.is_over)
            return (record for record in records if not names or record.name in names)
        self._catch_up()
        return read_metrics(self._folder.metrics, names)

    def export(self, kind: str, target: str | Path | None = None) -> None:
        """Write the metrics, as they are now, into a file or to a tracker; doing it again adds what is new.

        Args:
            kind: ``csv``, ``parquet``, ``tensorboard`` or ``mlflow``.
            target: The file; TensorBoard's log folder; MLflow's tracking URI, with the experiment's name behind ``#`` if it is not to be
                the function's. Trackers have defaults, as in ``hybrid_job(mirror=...)``.

        Raises:
            InvalidCall: There is no such kind, or the target is none.
            TrackerError: The tracker is not installed, cannot be reached, or refuses.
            MetricError: pyarrow is not installed.
        """
        from pl_hybridjobs.jobs.trackers import TRACKERS, place
        from pl_hybridjobs.jobs.trackers.mirror import send

        if kind in TRACKERS:
            self._catch_up()
            send(self._folder, kind, place(kind, target))
            return
        kinds = ["csv", "parquet", *TRACKERS]
        if kind not in kinds:
            raise InvalidCall("Job.export", [f"there is no kind {kind!r}; known are {', '.join(kinds)}.{did_you_mean(kind, kinds)}"])
        if target is None:
            raise InvalidCall("Job.export", [f"name the file to write: job.export({kind!r}, '{self.name}.{kind}')"])
        table = self.metrics()
        (table.to_csv if kind == "csv" else table.to_parquet)(target)

    def progress(self) -> Progress | None:
        """How far the loop is that began last; None before the first."""
        from pl_hybridjobs.jobs import progress

        return progress.read(self._folder, self.metrics())

    @overload
    def logs(self, follow: Literal[False] = False) -> str: ...
    @overload
    def logs(self, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, follow: bool = False) -> str | Iterator[str]:
        """The job's output, each line with its time, all attempts in order.

        Args:
            follow: Give an iterator that yields lines as they come and ends when the job is over.
        """
        if follow:
            return logs.follow(self._log_files, self._log_is_whole)
        deadline = time.monotonic() + _LOG_DELAY_S
        while self.status.is_over and not self._log_is_whole() and time.monotonic() < deadline:
            time.sleep(0.005)
        return logs.read_log(self._log_files())

    def _log_is_whole(self) -> bool:
        """The job is over, and its supervisor (which writes the log's last lines after the outcome) has finished too, or is dead."""
        try:
            state = self.state()
        except FolderCorrupt:
            return True
        if not state.status.is_over:
            return False
        owner_left = state.lease is None or state.lease.owner.is_alive() is False or state.lease.liveness() is Liveness.SILENT
        return owner_left or state.attempt == 0 or self._folder.attempt(state.attempt).exit.exists()

    def _log_files(self) -> list[Path]:
        return [attempt.log for attempt in self._folder.attempt_list()]

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are there, oldest first, each with whether it verifies."""
        from pl_hybridjobs.jobs.checkpoint import CheckpointStore

        self._catch_up()
        return [*CheckpointStore(self._folder.checkpoints).list()]

    def cancel(self, grace_s: float = 10.0) -> Status:
        """Stop the job and everything that it started: SIGTERM, a grace period, SIGKILL.

        Args:
            grace_s: Seconds between the two signals.

        Returns:
            The status then: ``cancelled``, or ``completed`` or ``failed`` if it had ended before.
        """
        if not grace_s >= 0:
            raise InvalidCall("Job.cancel", [f"grace_s must be a number of at least 0, not {grace_s!r}"])
        self._runner.cancel(self._folder, grace_s)
        return self.status

    def resume(self, *, budget: Budget | Mapping[str, Any] | None = None) -> Job:
        """Start the next attempt; the function finds the newest good checkpoint by ``load_checkpoint``.

        An interrupted (or never started) job goes on in place. A failed or cancelled one stays as it ended, and a new job with the same
        call starts from a copy of its checkpoints, and goes on with its purchases and its budget. There is one such job at most: resume
        that one if it fails, too.

        Args:
            budget: New limits, as in ``hybrid_job``; those that it does not name stay. They are kept in the job's folder.

        Returns:
            The job that now runs: this one, or the new one.

        Raises:
            InvalidCall: The job is running, or completed, or was never packed (``f.inline``), or goes on as a new one already; or the
                budget is none.
        """
        from pl_hybridjobs.cost.budget import Budget

        try:
            limits = Budget.of(budget)
        except (TypeError, ValueError) as error:
            raise InvalidCall(f"resume {self.name}", str(error).splitlines()) from None
        job = self._ready(limits)
        job._runner.start(job._folder, job._digest(), "resume" if job is self else "start")
        return job

    def _ready(self, limits: Budget) -> Job:
        """The job that goes on with this one's work, ready to be started: see ``resume``."""
        state = self.state()
        if state.status in (Status.RUNNING, Status.QUEUED):
            raise InvalidCall(f"resume {self.name}", [f"the job is {state.status} (attempt {state.attempt}); cancel it first, or wait"])
        if state.status is Status.COMPLETED:
            raise InvalidCall(f"resume {self.name}", ["the job has completed; call the function again for a new one"])
        if not self._spec.bundle_digest:
            raise InvalidCall(f"resume {self.name}", ["the job ran by f.inline(), which packs nothing; call the function again"])
        if state.status.is_final:
            return _continue_as_new(self._folder, self._spec, self._digest(), self.budget.changed(limits))
        if limits:
            write_bytes(self._folder.budget, dump_json(self.budget.changed(limits).to_json()))
        return self

    def _digest(self) -> str:
        """From the index where that knows it: whoever could change the folder can't change both."""
        home = self.folder.parents[1]
        known = Store(home).digest(self.id) if self.folder.parent == home / "jobs" else ""
        return known or self._spec.bundle_digest

    def remove(self) -> None:
        """Delete the job's folder, with all that is in it. One that could go on is cancelled first.

        Raises:
            InvalidCall: The job is not over.
            RunnerError: It may have been submitted elsewhere, and cannot be cancelled there.
        """
        try:
            status = self.state().status
            if status in (Status.CREATED, Status.INTERRUPTED) and isinstance(self._runner, runners.Mirroring):
                self._runner.cancel(self._folder, 0.0)  # what was set aside for it is free again
        except FolderCorrupt:  # then at least nothing of it may be running
            status = Status.RUNNING if self._has_processes(_LEAVING_S) else Status.INTERRUPTED
        if not status.is_over and status is not Status.CREATED:
            raise InvalidCall(f"remove {self.folder.name}", [f"the job is {status}; cancel it first"])
        Store(self.folder.parents[1]).remove(self._folder)

    def _has_processes(self, patience_s: float) -> bool:
        """Whether anything of the job still runs after so much time, which those that are about to leave need."""
        tokens = [f"{self.folder.name}:{attempt.number}" for attempt in self._folder.attempt_list()]
        deadline = time.monotonic() + patience_s
        while any(process.of_token(token) for token in tokens):
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.05)
        return False

    def plot(self, path: str | Path | None = None, *names: str, log: bool = False) -> Any:
        """Plot metrics over steps.

        Args:
            path: Where to write the picture (PNG, SVG or PDF by its ending); None writes none.
            *names: Which metrics; all if none is given.
            log: A logarithmic scale.

        Returns:
            The matplotlib figure.

        Raises:
            RunnerError: matplotlib is not installed.
            InvalidCall: There is no such metric (near names are suggested), or the ending is that of no picture.
        """
        from pl_hybridjobs.jobs import plots

        return plots.of_job(self, path, names, log=log)


def tend(sweep: lanes.Lanes, runner: runners.Runner, *, is_patient: bool = False) -> None:
    """Begin what may begin of a sweep.

    Args:
        sweep: Which.
        runner: Its jobs'.
        is_patient: See ``Lanes.begin``.

    Raises:
        RunnerError: A job could not be started.
    """
    if runner.name != "inline":
        sweep.begin(runner, lambda folder: Job(folder)._digest(), is_patient=is_patient)
        return
    while taken := sweep.take(runner.observe, runner.cancel, Job):  # one after the other; nobody has to wait for the lock
        folder, job = taken
        runner.start(folder, job._digest(), lanes.cause_of(folder))


def _job_error(name: str, state: State, tail: str, stopped_by: Mapping[str, Any] | None) -> JobError:
    ended = state.outcome or {}
    described: Mapping[str, Any] = ended.get("error") or stopped_by or {}
    reason = str(ended.get("reason", ""))
    base: Any = {
        Status.CANCELLED: JobCancelled,
        Status.FAILED: JobTimeout if reason == "timeout" else JobFailed,
    }.get(state.status, JobInterrupted)
    kind = base
    if stopped_by or (base is JobFailed and reason == "error"):
        original: Any = outcome.rebuild_class(str(described.get("type", "")))
        kind = _dual(original, base) if original else base
    error = _bare(kind)
    error.job_name = name
    error.remote_type = type_of(described)
    error.remote_message = str(described.get("message", ""))
    error.remote_traceback = str(described.get("traceback", ""))
    error.log_tail = tail
    _restore(error, described)
    error.__dict__["_text"] = plain(_error_text(error, state, reason))
    return error


def _error_text(error: JobError, state: State, reason: str) -> str:
    name = error.job_name
    if state.status is Status.INTERRUPTED and error.remote_message:
        return f"{name} stopped, and its checkpoints are kept: {error.remote_message}"
    if state.status is Status.INTERRUPTED:
        head = f"{name} was interrupted: {state.detail}. Its checkpoints are kept; go on with `hybridjobs resume {name}` or job.resume()."
    elif state.status is Status.CANCELLED:
        how = error.remote_message.removeprefix("cancelled").lstrip("; ")
        head = f"{name} was cancelled{f' ({how})' if how else ''}. A new job goes on from its newest checkpoint: job.resume()."
    elif not state.status.is_final:
        head = f"{name} is {state.status}."
    elif reason == "error":
        head = f"{name} failed: {error.remote_type}: {error.remote_message}"
    else:
        head = f"{name} failed ({reason}): {error.remote_message}"
    parts = [head + _cure(error, reason)]
    if error.remote_traceback:
        parts.append(f"The traceback, from the job:\n{error.remote_traceback.rstrip()}")
    elif error.log_tail and reason != "result":  # of which the log says the same as we do
        parts.append(f"The log's last lines:\n{error.log_tail.rstrip()}")
    parts.append(f"All of it: hybridjobs logs {name}")
    return "\n\n".join(parts)


def _cure(error: JobError, reason: str) -> str:
    """What to do, where the job itself does not say it."""
    if reason in ("timeout", "memory"):
        return f" Give it more (resources={{'{reason}_{'s' if reason == 'timeout' else 'mb'}': ...}}), or let it do less."
    if isinstance(error, ModuleNotFoundError):
        return (
            "\nA package must be installed where the job runs (here: pip install), or be named in requirements= of a job that installs "
            "them (LocalRunner(environment='locked')). A module of your own whose import the code does not show travels by include=."
        )
    return ""


@functools.lru_cache(maxsize=128)  # a class made once is the same class each time
def _dual(original: Any, base: Any) -> Any:
    """A class that is both ours and the original's; just ours where Python cannot combine the two."""
    if issubclass(original, base):
        return original
    try:
        made = type(f"{base.__name__}[{original.__name__}]", (base, original), {"__module__": base.__module__})
        _bare(made)
    except Exception:  # noqa: BLE001 - a metaclass or __init_subclass__ of the user's may refuse in any way
        return base
    return made


def _bare(kind: type[JobError]) -> JobError:
    """An instance without running the user's ``__new__`` or ``__init__``."""
    ancestor: Any = kind
    while ancestor.__flags__ & (1 << 9):  # Py_TPFLAGS_HEAPTYPE: not the built-in class yet that decides the instance's layout
        ancestor = ancestor.__base__
    made = ancestor.__new__(kind)
    assert isinstance(made, JobError)
    return made


def _restore(error: JobError, described: Mapping[str, Any]) -> None:
    """Give the arguments and plain attributes of the original back, as far as they came through."""
    for key in ("args", "attributes"):
        if key not in described:
            continue
        try:
            value = codec.decode(described[key], {}, where="exception")
            if key == "args":
                error.args = tuple(value)
                if isinstance(error, OSError) and len(error.args) >= 2:
                    error.errno, error.strerror = error.args[:2]
                continue
            for name, item in value.items():
                if not hasattr(type(error), name):
                    error.__dict__[name] = item
        except Exception:  # noqa: BLE001, S112 - a class that is not importable here costs the attribute, not the error
            continue


def _continue_as_new(old: JobFolder, spec: JobSpec, digest: str, budget: Budget) -> Job:
    """A new job with the call of an ended one, which is to start from a copy of its checkpoints and of its purchases.

    It keeps the old one's purse, so that it finds what was bought already, and so that a budget is not there twice. Two with one purse
    would take each other's purchases for their own: there is one successor, whose id says whose.
    """
    from pl_hybridjobs.cost.account import LEDGER
    from pl_hybridjobs.cost.ledger import Ledger

    bundle.verify(old.bundle, digest)
    base = re.sub(r"-\d+$", "", spec.name)
    draft = replace(
        spec,
        id=lanes.successor_id(spec.id),
        name=base,
        created=time.time(),
        continues=spec.id,
        purse=spec.purse or spec.id,
        budget=budget.to_json(),
        key=None,
    )

    from pl_hybridjobs.jobs.metrics import carry_over

    def fill(folder: Path) -> str:
        for part, ignored in {"bundle": None, "inputs": None, "checkpoints": shutil.ignore_patterns(".*")}.items():
            if (old.path / part).exists():  # in checkpoints such names are those of writes that a kill ended
                shutil.copytree(old.path / part, folder / part, ignore=ignored)
        if old.metrics.exists():
            carry_over(old.metrics, folder / "metrics.jsonl")
        Ledger(old.path / LEDGER).copy(folder / LEDGER)
        return digest

    # A folder that was copied elsewhere lies in no store.
    folder, is_new = Store(old.path.parents[1] if old.path.parent.name == "jobs" else None).create(draft, fill)
    if not is_new:
        other = Job(folder)
        advice = f"`hybridjobs show {other.name}`; resume that one, or call the function again for a job with purchases of its own"
        raise InvalidCall(f"resume {spec.name}", [f"it goes on as {other.name} already, which is {other.status}: {advice}"])
    return Job(folder)


def open_job(name: str | Path, *, home: str | Path | None = None) -> Job:
    """A job by its name, its id, the beginning of its id, or its folder's path.

    Args:
        name: What to look for. Text with a ``/`` in it, or a ``Path``, is a folder.
        home: Where to look; default ``$HYBRIDJOBS_HOME`` or the platform's user data folder.

    Raises:
        JobNotFound: There is none; near names are suggested.
        AmbiguousName: Several match.
        InvalidCall: The name is neither text nor a path.
        StoreError: The folder is corrupt, too new or not yours.
    """
    if not isinstance(name, str | Path):
        raise InvalidCall("open_job", [f"a job is opened by text or a path, not by {name!r}"])
    store = Store(Path(home).expanduser().absolute() if home else None)
    text = str(name.absolute()) if isinstance(name, Path) else name
    job = Job(store.find(text))
    _ = job._spec
    return job


def list_jobs(
    *,
    status: str | Status | Sequence[str | Status] | None = None,
    tags: Mapping[str, str] | None = None,
    name: str | None = None,
    since: datetime | timedelta | float | None = None,
    until: datetime | timedelta | float | None = None,
    home: str | Path | None = None,
) -> list[Job]:
    """Jobs that match all that is given, newest first.

    Args:
        status: One status or several.
        tags: All of these tags.
        name: A shell pattern such as ``"vqe*"``.
        since: Created at this time or later: a datetime, a timedelta before now, or Unix seconds.
        until: Created before this time.
        home: Where to look; default as in ``open_job``.

    Raises:
        InvalidCall: An unknown status, or times or tags that are none.
    """
    given = [] if status is None else [status] if isinstance(status, str) else list(status)
    known = ", ".join(Status)
    found = [f"there is no status {s!r}; known are {known}.{did_you_mean(s, map(str, Status))}" for s in given if s not in set(Status)]
    for label, when in (("since", since), ("until", until)):
        if not isinstance(when, datetime | timedelta | int | float | None):
            found.append(f"{label} must be a datetime, a timedelta before now, or Unix seconds, not {when!r}")
    if not isinstance(tags, Mapping | None):
        found.append(f"tags must be a mapping of text to text, not {tags!r}")
    if found:
        raise InvalidCall("list_jobs", found)
    statuses = None if status is None else frozenset(Status(s) for s in given)
    store = Store(Path(home).expanduser().absolute() if home else None)
    folders = store.select(statuses=statuses, tags=dict(tags or {}), name=name, since=_unix(since), until=_unix(until))
    return [Job(folder) for folder in folders]


def _unix(when: datetime | timedelta | float | None) -> float | None:
    if isinstance(when, timedelta):
        return time.time() - when.total_seconds()
    return when.timestamp() if isinstance(when, datetime) else when
