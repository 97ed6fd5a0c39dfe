"""Every error that the package raises, in one tree.

::

    HybridJobsError
    ├── InvalidCall (ValueError)        bad options or arguments: all complaints about one call, gathered
    ├── PackingError                    the call cannot travel: an object, a size, a secret, a dependency
    │   ├── CannotTravel (TypeError)
    │   ├── SecretFound
    │   └── BundleTooLarge
    ├── BundleRefused                   the worker will not load it
    │   ├── BundleTampered
    │   └── EnvironmentSkew
    ├── CodecError (TypeError)          a value that JSON + npz cannot hold, named by its path
    ├── CheckpointError                 no checkpoint verifies
    ├── MetricError (ValueError)        a value or step that a metric cannot have
    ├── StoreError (OSError)            the disk or the folder: full, read-only, corrupt, not ours
    │   ├── FolderCorrupt
    │   ├── FolderTooNew
    │   └── FolderNotOurs
    ├── JobNotFound (LookupError)
    ├── AmbiguousName (LookupError)
    ├── KeyConflict                     an idempotency key that was used for another call
    ├── Fenced                          a newer attempt owns the job: this process must not write
    ├── SimulationError (ValueError)    a circuit that the simulator cannot run
    ├── TrainingError (ValueError)      an objective that gives nothing to train with
    ├── TranslationError (ValueError)   a circuit that a remote device's language cannot say
    ├── FanOutError                     workers cannot run the circuits that a device spreads over them
    │   └── WorkerLost                  one of them ended while it ran circuits; they are tried again on another
    ├── BudgetExceeded                  the next submission would pass a budget: nothing was submitted
    ├── QPUError                        a remote device, or the way to it
    │   ├── ProviderError               the service refuses, cannot be reached, or answers what makes no sense
    │   ├── DeviceOffline               the device takes no tasks now
    │   ├── TaskFailed                  the provider says that a task failed, and why
    │   └── TaskCancelled               somebody cancelled a task; it is not submitted again
    ├── SweepFailed (ExceptionGroup)    jobs of a sweep did not complete: the errors of all of them
    ├── RunnerError                     the runner cannot start, see or stop the job
    ├── TrackerError                    TensorBoard or MLflow is missing, cannot be reached, or refuses; no job minds
    └── JobError                        how a job ended, raised by ``Job.result()``
        ├── JobFailed                   also an instance of the original class where that is importable
        ├── JobTimeout (TimeoutError)   the job ran into ``Resources.timeout_s``
        ├── JobCancelled
        └── JobInterrupted              its owner died; ``Job.resume()`` continues it

    ResultNotReady (TimeoutError)       ``wait(timeout)`` / ``result(timeout)`` ran out; the job goes on
    JobStopRequested (BaseException)    unwinds a job's function after a stop signal

Each message says what happened, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

_T = TypeVar("_T")


class HybridJobsError(Exception):
    """Root of all errors of this package."""


class InvalidCall(HybridJobsError, ValueError):
    """Options or arguments are wrong; nothing was written or started.

    Args:
        where: What was called, for example ``"hybrid_job(vqe)"``.
        complaints: One sentence each: what is wrong and what to do.
    """

    def __init__(self, where: str, complaints: Sequence[str]) -> None:
        self.where = where
        self.complaints = tuple(complaints)
        if len(self.complaints) == 1:
            text = f"{where}: {self.complaints[0]}"
        else:
            text = f"{where}: {len(self.complaints)} problems\n" + "\n".join(f"  - {c}" for c in self.complaints)
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.complaints)


class PackingError(HybridJobsError):
    """The call cannot be made into a bundle."""


class CannotTravel(PackingError, TypeError):
    """Something that the function reaches cannot be serialized; the message names its path and the remedy."""


class SecretFound(PackingError):
    """Something that looks like a credential would have been written into the bundle."""


class BundleTooLarge(PackingError):
    """The bundle is larger than the limit; the message names the largest objects."""


class BundleRefused(HybridJobsError):
    """A worker refuses to load a bundle."""


class BundleTampered(BundleRefused):
    """A file of the bundle is not the one that was packed."""


class EnvironmentSkew(BundleRefused):
    """The worker's Python or packages cannot load what was packed; the message names the fix."""


class CodecError(HybridJobsError, TypeError):
    """A value (named by its path) cannot be stored as JSON and arrays, or stored data cannot be read back."""


class CheckpointError(HybridJobsError):
    """There are checkpoints, but none verifies; or one could not be written."""


class MetricError(HybridJobsError, ValueError):
    """A metric's name, value or step is not acceptable."""


class StoreError(HybridJobsError, OSError):
    """The place where jobs live cannot be used: full, read-only, without locks, not a folder."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FolderCorrupt(StoreError):
    """A job folder lacks a file or holds one that cannot be read."""


class FolderTooNew(StoreError):
    """A job folder was written by a newer version of this package."""


class FolderNotOurs(StoreError):
    """A job folder belongs to another user."""


class JobNotFound(HybridJobsError, LookupError):
    """No job has this name or id."""


class AmbiguousName(HybridJobsError, LookupError):
    """Several jobs match this name."""


class KeyConflict(HybridJobsError):
    """The idempotency key was used before, for another call."""


class Fenced(HybridJobsError):
    """A newer attempt owns the job (or it has ended), so this process may not write to it any more."""


class SimulationError(HybridJobsError, ValueError):
    """A circuit that the simulator cannot run as it is."""


class TrainingError(HybridJobsError, ValueError):
    """Training cannot begin or go on: the objective gives no finite value, or the optimizer no step."""


class FanOutError(HybridJobsError):
    """Workers cannot run the circuits that a device spreads over them: they cannot be started, or are lost again and again."""


class WorkerLost(FanOutError):
    """A worker ended while it ran something. Devices try the circuits again on another; who uses an executor by itself sees this."""


class TranslationError(HybridJobsError, ValueError):
    """A circuit holds what the remote device's language cannot say; the message names it and what is supported."""


class BudgetExceeded(HybridJobsError):
    """The next submission would pass a budget. Nothing of it was submitted; the job can be resumed after the budget was raised."""


class QPUError(HybridJobsError):
    """Something is wrong with a remote device, or on the way to it."""


class ProviderError(QPUError):
    """The service refuses a request, cannot be reached after all retries, or answers what makes no sense.

    Attributes:
        nothing_done: It is certain that the request changed nothing: a purchase that failed so costs nothing.
    """

    nothing_done: bool = False


class DeviceOffline(QPUError):
    """The device takes no tasks now."""


class TaskFailed(QPUError):
    """The provider says that a task failed.

    Args:
        task_id: The provider's name of the task (on Amazon Braket: its ARN).
        reason: The provider's words.
        hint: Where to look, or what to do.
    """

    def __init__(self, task_id: str, reason: str, hint: str = "") -> None:
        self.task_id, self.reason, self.hint = task_id, reason, hint
        super().__init__(f"task {task_id} failed: {reason}" + (f"\n{hint}" if hint else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task_id, self.reason, self.hint)


class TaskCancelled(QPUError):
    """A task was cancelled, by somebody else or by the provider. It is never submitted again by itself."""


class RunnerError(HybridJobsError):
    """A runner cannot start, see or stop a job."""


class TrackerError(HybridJobsError):
    """A tracker (TensorBoard, MLflow) is not installed, cannot be reached, or refuses. The job itself is not touched by it."""


class ResultNotReady(HybridJobsError, TimeoutError):
    """The time given to ``wait`` or ``result`` is over. The job itself goes on."""


class JobError(HybridJobsError):
    """How a job ended, when it did not end well.

    Attributes:
        job_name: The job's unique name.
        remote_type: The original exception's qualified class name (``""`` if there was none).
        remote_message: Its message.
        remote_traceback: Its traceback, as text.
        log_tail: The last lines of the job's log.
    """

    job_name: str = ""
    remote_type: str = ""
    remote_message: str = ""
    remote_traceback: str = ""
    log_tail: str = ""

    def __str__(self) -> str:
        return str(self.__dict__.get("_text", "")) or Exception.__str__(self)


class JobFailed(JobError):
    """The job's function raised, or the job could not be run.

    The instance is also an instance of the original exception's class where that can be imported, so
    ``except ValueError`` around ``job.result()`` works.
    """


class JobTimeout(JobError, TimeoutError):
    """The job ran longer than ``Resources.timeout_s`` and was stopped."""


class JobCancelled(JobError):
    """The job was cancelled."""


class JobInterrupted(JobError):
    """The job's owner died before the end; ``job.resume()`` starts the next attempt."""


class SweepFailed(HybridJobsError, ExceptionGroup[JobError]):
    """Jobs of a sweep did not complete. The message names each; ``exceptions`` holds what its ``result()`` raises.

    ``except* ValueError`` picks those whose function raised one.
    """

    def derive(self, excs: Sequence[JobError], /) -> SweepFailed:  # type: ignore[override] # what a group is split into holds its own kind
        """See ``ExceptionGroup.derive``."""
        return SweepFailed(self.message, excs)


class JobStopRequested(BaseException):
    """Raised inside a job to unwind it after SIGTERM or SIGUSR1.

    Not an ``Exception``, so that ``except Exception`` in a training loop does not swallow it.
    """


def unknown_options(given: Iterable[str], known: Iterable[str]) -> list[str]:
    """A complaint for each name that is not known, with near ones."""
    names = list(known)
    listed = ", ".join(sorted(names))
    return [f"there is no option {name!r}; known are {listed}.{did_you_mean(name, names)}" for name in given if name not in names]


def says_its_fields(kind: type[_T]) -> type[_T]:
    """For dataclasses that people write: an unknown keyword is an ``InvalidCall`` which names the fields, and near ones."""
    make, known = kind.__init__, [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]

    @wraps(make)
    def init(self: _T, *args: Any, **kwargs: Any) -> None:
        if unknown := unknown_options(kwargs, known):
            raise InvalidCall(f"{kind.__name__}(...)", unknown)
        make(self, *args, **kwargs)

    kind.__init__ = init  # type: ignore[assignment]
    return kind


def from_mapping(kind: type[_T], value: Mapping[str, Any], what: str) -> _T:
    """A dataclass from a mapping of its fields, as people write it.

    Raises:
        ValueError: There is no such field in it.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            raise ValueError(f"{what} has no {name!r}; it knows {sorted(known)}.{did_you_mean(str(name), known)}")
    return kind(**value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x' or 'y'?"`` for near names, else ``""``."""
    from difflib import get_close_matches

    by_lower = {one.lower(): one for one in known}
    near = [by_lower[match] for match in get_close_matches(str(name).lower(), list(by_lower), n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
