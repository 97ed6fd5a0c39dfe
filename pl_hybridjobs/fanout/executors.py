"""Who runs the work: the port that any pool fits, and crews of workers of our own."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self

from pl_hybridjobs.errors import FanOutError, InvalidCall, WorkerLost


class Pending(Protocol):
    """What is known of a call: its result, later."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it; raises what the call raised."""


class Executor(Protocol):
    """Runs calls somewhere: the pools of ``concurrent.futures``, Dask's client, ``mpi4py.futures`` and loky have this already."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Pending:
        """Have ``fn(*args)`` run. What goes there and comes back are a function of this package, numbers and bytes."""


class Worker(Protocol):
    """One member of a crew, who does one thing at a time."""

    def begin(self) -> None:
        """Wait for as long as there is no place for it: others have its calls meanwhile."""

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Give ``fn(*args)``, or raise what that raises.

        Raises:
            WorkerLost: The worker is no more, and nobody knows how far it came.
        """

    def end(self) -> None:
        """End at once, whatever it is doing. Twice is no error."""


class NeverBegan(FanOutError):
    """A worker has ended before it could take a call. No other takes that call: what is wrong would be wrong again."""


class _Task:
    """A call, its future, and the worker who does it now."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn, self.args, self.future = fn, args, CrewFuture(self)
        self.worker: Worker = _NOBODY


class CrewFuture(Future[Any]):
    """A future whose call can be stopped also while it runs, by ending its worker."""

    def __init__(self, task: _Task) -> None:
        super().__init__()
        self._task = weakref.ref(task)

    def abandon(self) -> None:
        """Nobody wants the result any more."""
        task = self._task()
        if not self.cancel() and task is not None and not self.done():
            task.worker.end()


class Crew:
    """Workers who take calls off one list, each one at a time. Who is lost is replaced.

    Args:
        workers: How many; None: one for each core that this process may use.
        threads: How many threads the kernels of each may use.
        hire: Starts a worker.
    """

    def __init__(self, workers: int | None, threads: int, hire: Callable[[], Worker]) -> None:
        refuse(type(self).__name__, [*wrong_count("workers", workers), *wrong_count("threads", threads)])
        self.workers, self.threads = workers or cores(), threads
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._hired: set[Worker] = set()
        self._pid = os.getpid()
        self.shutdown_now = weakref.finalize(self, _dismiss, self._tasks, self._hired, self.workers)
        for number in range(self.workers):
            name = f"{type(self).__name__}-{number}"
            threading.Thread(target=_serve, args=(self._tasks, self._hired, hire), daemon=True, name=name).start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workers={self.workers}, threads={self.threads})"

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> CrewFuture:
        """Have ``fn(*args)`` run by the next worker who is free.

        Raises:
            RuntimeError: The crew was dismissed, or belongs to the process from which this one was forked.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self} belongs to process {self._pid}, from which this one was forked; make one here")
        if not self.shutdown_now.alive:
            raise RuntimeError(f"{self} was shut down; make a new one")
        task = _Task(fn, args)
        self._tasks.put(task)
        if not self.shutdown_now.alive:  # in this moment: nobody may come for it
            task.future.cancel()
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, at once and whatever they do: results that nobody waited for are lost."""
        del wait, cancel_futures  # as pools of concurrent.futures have them
        self.shutdown_now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.shutdown()


def _serve(tasks: queue.SimpleQueue[_Task | None], hired: set[Worker], hire: Callable[[], Worker]) -> None:
    """What the thread of one worker does. It knows no crew: who drops a crew dismisses it."""
    worker: Worker | None = None
    with contextlib.suppress(Exception):  # warm before the first call; what is wrong is said to that
        worker = hire()
        hired.add(worker)
        worker.begin()
    while (task := tasks.get()) is not None:
        if not task.future.set_running_or_notify_cancel():
            continue
        try:
            if worker is None:
                worker = hire()
                hired.add(worker)
            task.worker = worker
            result = worker.call(task.fn, task.args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the result is wanted
            if isinstance(error, WorkerLost | NeverBegan) and worker is not None:
                hired.discard(worker)
                worker.end()
                worker = None
            task.future.set_exception(error)
        else:
            task.future.set_result(result)
        del task
    if worker is not None:
        worker.end()


def _dismiss(tasks: queue.SimpleQueue[_Task | None], hired: set[Worker], count: int) -> None:
    with contextlib.suppress(queue.Empty):
        while (task := tasks.get_nowait()) is not None:
            task.future.cancel()
    for _ in range(count):
        tasks.put(None)
    for worker in list(hired):
        worker.end()


class _Nobody:
    def begin(self) -> None:
        """It is there."""

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return fn(*args)

    def end(self) -> None:
        """There is nothing to end: a thread stops when its call does."""


_NOBODY = _Nobody()


class ThreadExecutor(Crew):
    """Threads of this process. They start at once and share its memory; Python code in them takes turns, kernels do not.

    Args:
        workers: How many; None: one for each core that this process may use.
        threads: How many threads the kernels of each may use.
    """

    def __init__(self, workers: int | None = None, *, threads: int = 1) -> None:
        super().__init__(workers, threads, _Nobody)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wrong_count(name: str, value: object) -> list[str]:
    """What is wrong with a number of workers or threads; None is not."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return []
    return [f"{name} must be a whole number, 1 or more, not {value!r}"]


def refuse(where: str, complaints: Iterable[str]) -> None:
    """Raise what was gathered, if anything was.

    Raises:
        InvalidCall: All of it.
    """
    if found := list(complaints):
        raise InvalidCall(f"{where}(...)", found)
