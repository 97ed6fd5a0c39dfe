"""What a job's function can do from inside: metrics, checkpoints, results, inputs, its device.

Every verb works outside a job as well, so one piece of code runs in both: metrics are printed, checkpoints and results go to the
working folder, the device is the default simulator.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.cost import active
from pl_hybridjobs.errors import InvalidCall, JobStopRequested, MetricError, did_you_mean
from pl_hybridjobs.home import home_of
from pl_hybridjobs.jobs import codec, device, progress
from pl_hybridjobs.jobs.checkpoint import CheckpointStore, Loaded
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.inputs import is_remote
from pl_hybridjobs.jobs.metrics import MetricWriter
from pl_hybridjobs.jobs.spec import JobSpec

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account
    from pl_hybridjobs.cost.forecast import Forecast

_KEEP = 3

_SAVED = ".saved_result"  # in the results folder, hidden: files with other names there are the user's


class StopFlag:
    """A wish to stop, set by a signal and acted on at the next step boundary."""

    def __init__(self) -> None:
        self.requested = ""  #: the signal's name, or ""
        self.at_boundary = False  #: the function saves checkpoints, so there will be a boundary

    def check(self) -> None:
        """Unwind if somebody asked for it.

        Raises:
            JobStopRequested: A stop was asked for.
        """
        if self.requested:
            raise JobStopRequested(f"stopped at a step boundary after {self.requested}")


class OwnCheckpoints:
    """What a function does with ``save_checkpoint`` and ``load_checkpoint`` beside its training loops."""

    def __init__(self) -> None:
        self.loaded_after: frozenset[str] | None = None  #: the loops that had begun at the first load
        self.saved_after: frozenset[str] = frozenset()  #: those that had begun at the newest save, of whatever attempt

    @property
    def are_ambiguous(self) -> bool:
        """A resumed job loads before loops that had begun when it saved: whether it skips or repeats them, only names can tell."""
        return self.loaded_after is not None and not self.saved_after <= self.loaded_after


class Planned(BaseException):
    """A loop knows what it will ask of its devices, and no more was asked for. No error, so that no function catches it.

    Attributes:
        text: The loop's plan, for people.
        run: What the loop will buy; None: nothing, or not known.
    """

    def __init__(self, text: str, run: Forecast | None) -> None:
        super().__init__(text)
        self.text, self.run = text, run


_making = threading.RLock()
if TYPE_CHECKING:
    _once = functools.cached_property
else:

    class _once(functools.cached_property):  # noqa: N801 - a decorator
        """Made by whichever thread asks first; the others wait. functools' own lets several threads make one each, from Python 3.12."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            with _making:
                return super().__get__(instance, owner)


@dataclass(frozen=True)
class JobContext:
    """The job that this code runs in (or, outside any job, a stand-in that is false).

    Attributes:
        folder: The job's folder; None outside a job.
        spec: What the job is; None outside a job.
        attempt: 1 for the first attempt; 0 outside a job.
        stop: The wish to stop.
        loops: Names of the training loops that began in this attempt.
        running: Those that have not ended, the outermost first.
        own: The function's checkpoints beside theirs.
        devices: What ``job_device`` made in this attempt; their random states belong to the job's.
        owed: What the function's checkpoint says of the state of remote devices, in the order in which ``job_device`` makes them.
        boundaries: For each loop, what saves its last step boundary, should it have to end in the middle of a step: the budget runs out, or
            somebody asks it to stop while it waits for a remote device.
        only_plans: The function runs up to the first loop that knows its plan, and ends there.
        began: Unix time.
    """

    folder: JobFolder | None = None
    spec: JobSpec | None = None
    attempt: int = 0
    stop: StopFlag = field(default_factory=StopFlag, repr=False)
    loops: list[str] = field(default_factory=list, repr=False, compare=False)
    running: list[Any] = field(default_factory=list, repr=False, compare=False)
    own: OwnCheckpoints = field(default_factory=OwnCheckpoints, repr=False, compare=False)
    devices: list[Any] = field(default_factory=list, repr=False, compare=False)
    owed: list[Any] = field(default_factory=list, repr=False, compare=False)
    boundaries: dict[str, Callable[[], None]] = field(default_factory=dict, repr=False, compare=False)
    only_plans: bool = False
    began: float = field(default_factory=time.time, repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.folder is not None

    @property
    def id(self) -> str:
        """The job's id; "" outside a job."""
        return self.spec.id if self.spec else ""

    @property
    def name(self) -> str:
        """The job's name; "" outside a job."""
        return self.spec.name if self.spec else ""

    @property
    def params(self) -> dict[str, Any]:
        """The call's arguments as recorded, for reading."""
        return dict(self.spec.params) if self.spec else {}

    @property
    def tags(self) -> dict[str, str]:
        """The job's tags."""
        return dict(self.spec.tags) if self.spec else {}

    @property
    def device(self) -> str | dict[str, str] | None:
        """The device, or devices by role, that the decorator names."""
        return self.spec.device if self.spec else None

    @property
    def stop_requested(self) -> bool:
        """Somebody asked the job to stop; it will at the next ``save_checkpoint``."""
        return bool(self.stop.requested)

    @_once
    def metrics(self) -> MetricWriter | None:
        """Where metrics go; None outside a job."""
        if self.folder is None:
            return None
        folder, attempt = self.folder, self.attempt
        return MetricWriter(folder.metrics, attempt=attempt, check=lambda: folder.check_epoch(attempt))

    @_once
    def checkpoints(self) -> CheckpointStore:
        """Where checkpoints go."""
        if self.folder is None:
            return CheckpointStore(Path.cwd() / "checkpoints", keep=_KEEP)
        folder, attempt = self.folder, self.attempt
        return CheckpointStore(folder.checkpoints, attempt=attempt, keep=_KEEP, fence=lambda: folder.fence(attempt))

    @_once
    def account(self) -> Account:
        """Who pays; outside a job the user."""
        from pl_hybridjobs.cost import account

        if self.folder is None:
            return account.of_user()
        folder, attempt = self.folder, self.attempt
        mine = account.of_job(folder.path, guard=lambda: folder.check_epoch(attempt), stop=self.stop.check)
        mine.catch_up(self.began)  # with what an attempt that was killed left half told
        return mine

    def begin_loop(self, name: str, metric: str, done: int, total: int) -> None:
        """Let those who look from outside know how far it is."""
        if self.folder is not None:
            progress.begin(self.folder.attempt(self.attempt), name, metric, done, total)

    def announce(self, text: str, run: Forecast | None) -> None:
        """A loop knows what it will cost.

        Raises:
            Planned: That is all that was asked for.
        """
        if self.only_plans:
            raise Planned(text, run)

    @property
    def refusals(self) -> Sequence[Exception]:
        """What the account refused lately."""
        return tuple(self.account.refusals) if "account" in self.__dict__ else ()

    @property
    def is_limited(self) -> bool:
        """Whether a budget may stop it; found without loading a ledger."""
        if self.folder is None or self.spec is None:
            return False
        return bool(self.spec.budget) or self.folder.budget.exists() or (home_of(self.folder.path) / self.folder.budget.name).exists()

    def save_boundaries(self) -> None:
        """Save the last step boundary of each loop that has one."""
        for save in self.boundaries.values():
            save()

    def save(self, state: Any, step: int | None, *, section: str = "", cursor: Mapping[str, Any] | None = None) -> None:
        """Save a section's checkpoint, with the place where the metrics stood.

        Args:
            state: See ``save_checkpoint``.
            step: See ``save_checkpoint``.
            section: See ``CheckpointStore.save``.
            cursor: ``MetricWriter.cursor`` as it was when ``state`` was taken; absent means now.
        """
        extra: dict[str, Any] = {}
        also: list[Path] = []
        if self.metrics is not None and self.folder is not None:
            extra["metrics"] = dict(cursor) if cursor is not None else self.metrics.cursor()
            if self.folder.metrics.exists():
                also.append(self.folder.metrics)
        if not section and self:
            extra["loops"] = list(self.loops)
            extra["devices"] = [one.checkpoint_state() if hasattr(one, "checkpoint_state") else None for one in self.devices]
            self.own.saved_after = frozenset(self.loops)
        self.checkpoints.save(state, step, section=section, extra=extra, also_sync=also)

    def load(self, step: int | None = None, *, section: str = "") -> Loaded | None:
        """A section's newest checkpoint; metrics go on from there.

        What older attempts logged after the newest checkpoint of all sections does not count any more.
        """
        loaded = self.checkpoints.load(step, section=section)
        for skipped in loaded.skipped if loaded else ():
            print(f"checkpoint {skipped.path.name} was passed over: {skipped.problem}", file=sys.stderr)
        if self.metrics is None:
            return loaded
        if not section:
            if self.own.loaded_after is None:
                self.own.loaded_after = frozenset(self.loops)
            if loaded:
                self.own.saved_after |= frozenset(loaded.extra.get("loops", ()))
                self.owed[:] = loaded.extra.get("devices", ())
                for number in range(len(self.devices)):
                    self.restore_device(number)
        newest = loaded.extra if loaded and step is not None else self.checkpoints.newest_extra()
        if newest and "metrics" in newest:
            here = self.metrics.cursor()
            self.metrics.rewind(newest["metrics"])
            # Without a checkpoint of this section, its code begins anew, and so do the steps of what it logs.
            self.metrics.count_on(loaded.extra["metrics"] if loaded and "metrics" in loaded.extra else here)
        return loaded

    def restore_device(self, number: int) -> None:
        """Give a device that ``job_device`` made the state that the function's checkpoint has for it."""
        if number < len(self.owed) and self.owed[number] is not None and hasattr(self.devices[number], "restore_state"):
            self.devices[number].restore_state(self.owed[number])

    def settle(self) -> None:
        """Finish what is still on its way to the disk: nothing of a job changes once its outcome is there."""
        if "metrics" in self.__dict__ and self.metrics is not None:
            self.metrics.flush()
        if "checkpoints" in self.__dict__:
            self.checkpoints.settle()

    def close(self) -> None:
        """Close what was opened."""
        if "metrics" in self.__dict__ and self.metrics is not None:
            self.metrics.close()
        if "account" in self.__dict__:
            self.account.close()


_OUTSIDE = JobContext()
_step: ContextVar[int | None] = ContextVar("pl_hybridjobs_step", default=None)
_logging: ContextVar[Literal["on", "muted", "refused"]] = ContextVar("pl_hybridjobs_logging", default="on")
_here: ContextVar[JobContext | None] = ContextVar("pl_hybridjobs_job", default=None)
_process: JobContext | None = None
_process_lock = threading.Lock()


@contextlib.contextmanager
def activate(context: JobContext, *, whole_process: bool) -> Iterator[JobContext]:
    """Make a job the current one, for this thread (inline jobs) or for the whole process (workers)."""
    global _process  # noqa: PLW0603 - the one process-wide fact: which job this process runs
    token = _here.set(context)
    previous = _process
    if whole_process:
        _process = context
    try:
        # All threads pay alike: a process runs one job at a time, and its environment names that to all.
        with active.activate(lambda: context.account):
            yield context
    finally:
        _process = previous
        _here.reset(token)
        context.close()


def current_job() -> JobContext:
    """The job that this code runs in. Outside a job, a stand-in that is false and has empty fields."""
    context = _here.get() or _process
    if context is None:
        context = _adopt() if "HYBRIDJOBS_JOB_FOLDER" in os.environ else _OUTSIDE
    return context


def _adopt() -> JobContext:
    """A process that a job started (multiprocessing, a subprocess) belongs to the job too."""
    global _process  # noqa: PLW0603 - see activate
    with _process_lock:
        if _process is None:
            folder = JobFolder(Path(os.environ["HYBRIDJOBS_JOB_FOLDER"]))
            _process = JobContext(folder, folder.spec(), int(os.environ.get("HYBRIDJOBS_ATTEMPT", "1")))
        return _process


def set_step(step: int | None) -> None:
    """What ``log_metric`` takes for the step, here and in what is called from here, if it is given none."""
    _step.set(step)


def get_step() -> int | None:
    """What ``set_step`` set last."""
    return _step.get()


@contextlib.contextmanager
def logging(mode: Literal["on", "muted", "refused"]) -> Iterator[None]:
    """What ``log_metric`` does in this block: "muted" where code is only tried, "refused" where it runs once and its trace many times."""
    token = _logging.set(mode)
    try:
        yield
    finally:
        _logging.reset(token)


def log_metric(name: str, value: Any, step: int | None = None, *, timestamp: float | None = None) -> None:
    """Record one value of a metric.

    Args:
        name: Any text that is not empty: ``"energy"``, ``"train/loss"``.
        value: A real number: int, float (NaN and infinities are kept) or a 0-d array of numpy, jax, torch or PennyLane.
        step: Whole number; absent means the step of the training loop that this is called in, and without one, one more than this
            metric's last one, from 0.
        timestamp: Unix time in seconds; absent means now.

    Raises:
        MetricError: The value is complex, traced, not a number or not a scalar; the name is empty; the step is no whole number; or the
            code is being compiled.
    """
    mode = _logging.get()
    if mode == "muted":
        return
    if mode == "refused":
        raise MetricError(
            f"metric {name!r} was logged in an objective that is being compiled: it would be logged once, not in each step. "
            "Return it beside the value, as in `return cost, {'name': value}`, or use train(..., compile=False)"
        )
    writer = current_job().metrics
    step = _step.get() if step is None else step
    if writer is None:
        _printer().log(name, value, step, timestamp=timestamp)
    else:
        writer.log(name, value, step, timestamp=timestamp)


def log_metrics(values: Mapping[str, Any], step: int | None = None, *, timestamp: float | None = None) -> None:
    """Record several metrics of one step. See ``log_metric``."""
    for name, value in values.items():
        log_metric(name, value, step, timestamp=timestamp)


@functools.cache
def _printer() -> Any:
    from pl_hybridjobs.jobs.metrics import MetricPrinter

    return MetricPrinter()


def save_checkpoint(state: Any, step: int | None = None) -> None:
    """Save the state of the computation, durably: after this returns, neither a kill nor a power loss takes it away.

    The last three are kept. This is also the step boundary: if the job was asked to stop (SIGTERM, SIGUSR1, ``cancel()``), it stops
    here, after the save.

    Args:
        state: Any nest of dict, list, tuple, dataclass, namedtuple, numbers, text, bytes, and numpy, jax, torch or PennyLane arrays and
            optimizer states. What cannot be stored is named by its path, and earlier checkpoints stay.
        step: Whole number of at least 0; absent means one more than the last one saved.

    Raises:
        CodecError: Something in ``state`` cannot be stored.
        CheckpointError: ``step`` is not usable.
        StoreError: The disk is full or read-only.
        Fenced: A newer attempt owns the job.
        JobStopRequested: The job was asked to stop (not an ``Exception``: let it pass).
    """
    context = current_job()
    context.stop.at_boundary = True
    context.save(state, step)
    context.stop.check()


def load_checkpoint(step: int | None = None, *, default: Any = None) -> Any:
    """The state that was saved last (by this attempt or an earlier one), or ``default`` if there is none.

    A checkpoint that was damaged is passed over, with a line in the log that says so.

    Args:
        step: Load this step's checkpoint instead of the newest.
        default: What to return where nothing was saved.

    Raises:
        CheckpointError: There are checkpoints, but none verifies.
    """
    context = current_job()
    context.stop.at_boundary = True
    loaded = context.load(step)
    return default if loaded is None else loaded.state


def save_result(value: Any) -> None:
    """Keep a result now: it is what ``job.result()`` returns if the function itself returns None. A second call replaces the first.

    Outside a job it goes to ``result.json`` (and ``result.npz``) in the working folder.

    Raises:
        CodecError: Something in ``value`` cannot be stored.
    """
    context = current_job()
    tree, arrays = codec.dumps(value, where="result")
    if context.folder is not None:
        with context.folder.fence(context.attempt):
            _keep(context.folder, tree, arrays)
        return
    if arrays is not None:
        write_bytes(Path.cwd() / "result.npz", arrays)
    write_bytes(Path.cwd() / "result.json", tree)


def _keep(folder: JobFolder, tree: bytes, arrays: bytes | None) -> None:
    """The arrays first, under a name of their own: the text, replaced in one step, decides which of them count."""
    stored: dict[str, Any] = {"value": json.loads(tree)}
    if arrays is not None:
        digest = hashlib.sha256(arrays).hexdigest()
        stored["arrays"] = {"file": f"{_SAVED}-{digest[:16]}.npz", "sha256": digest}
        write_bytes(folder.results / stored["arrays"]["file"], arrays)
    crash_point("result.arrays")
    write_bytes(folder.results / f"{_SAVED}.json", dump_sealed(stored))
    for old in folder.results.glob(f"{_SAVED}-*.npz"):
        if old.name != stored.get("arrays", {}).get("file"):
            old.unlink(missing_ok=True)


def results_dir() -> Path:
    """The folder for files that the job produces: its working folder. Outside a job, the current folder."""
    folder = current_job().folder
    return Path.cwd() if folder is None else folder.results


def input_path(channel: str = "input") -> Path:
    """Where an input lies: the file, if the channel is one file, else its folder.

    Outside a job it is the file or folder of that name in the current folder.

    Args:
        channel: A name from ``inputs={...}``; a single path there is the channel ``"input"``.

    Raises:
        InvalidCall: There is no such channel (or, outside a job, no such file or folder).
    """
    context = current_job()
    if context.folder is None or context.spec is None:
        path = Path.cwd() / channel
        if not path.exists():
            raise InvalidCall(
                f"input_path({channel!r})", [f"outside a job, inputs are looked for in the current folder; {path} is not there"]
            )
        return path
    known = context.spec.inputs
    if channel not in known:
        hint = f"its inputs are {sorted(known)}.{did_you_mean(channel, known)}" if known else "it has none: hybrid_job(inputs={...})"
        raise InvalidCall(f"input_path({channel!r})", [f"the job has no such input; {hint}"])
    return context.folder.inputs / channel / ("" if is_remote(known[channel]) else known[channel])


def job_device(role: str | None = None, **device_options: Any) -> Any:
    """Build the PennyLane device that the decorator names. Outside a job, the default simulator.

    Args:
        role: Which one, where ``device`` is a dict of roles.
        **device_options: For ``qml.device``: ``wires``, ``shots``, ``seed``, ...; ``workers`` and ``executor`` spread the circuits of
            each batch over workers, whatever the device: see ``pl_hybridjobs.fanout.FanOut``.

    Raises:
        InvalidCall: No such role, or no such device; no such executor.
    """
    context = current_job()
    built = device.build(context.device, role, device_options)
    if context:
        context.devices.append(built)
        context.restore_device(len(context.devices) - 1)
    return built


def saved_result(folder: JobFolder) -> tuple[bytes, bytes | None] | None:
    """What ``save_result`` kept in a job's results folder, as text and arrays; None if nothing."""
    stored = folder.read_optional(folder.results / f"{_SAVED}.json")
    if stored is None:
        return None
    arrays = (folder.results / stored["arrays"]["file"]).read_bytes() if "arrays" in stored else None
    return json.dumps(stored["value"]).encode(), arrays
