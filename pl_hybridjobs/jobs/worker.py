"""The process that runs a job's function: verify, compare, load, run, record. Never opens the index."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import BudgetExceeded, BundleRefused, CodecError, EnvironmentSkew, Fenced, HybridJobsError, JobStopRequested
from pl_hybridjobs.jobs import bundle, codec, outcome, process
from pl_hybridjobs.jobs.context import JobContext, activate, saved_result
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, write_once
from pl_hybridjobs.jobs.exits import EXIT_BUDGET, EXIT_FENCED, EXIT_RETRY, EXIT_STOPPED
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.launch import STOP_VARIABLE


def main(argv: list[str]) -> int:
    """``worker <job folder> <epoch> <bundle digest> <life pipe> retry|last``. Returns the process's exit code."""
    path, epoch, digest, life, may_retry = argv
    process.die_with(int(life))
    folder = JobFolder(Path(path))
    os.chdir(folder.results)
    spec = folder.spec()
    sys.argv[:] = [spec.function]  # ours would confuse a function that reads it
    _bind_cores(spec.resources.threads)
    context = JobContext(folder, spec, int(epoch))
    _listen(context)
    try:
        with activate(context, whole_process=True):
            return run(context, lambda: _load(folder, digest), may_retry=may_retry == "retry")
    except Fenced as error:
        print(f"{error}", file=sys.stderr)
        return EXIT_FENCED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _bind_cores(threads: int | None) -> None:
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _listen(context: JobContext) -> None:
    def on_signal(number: int, _frame: object) -> None:
        if context.stop.requested:  # asked a second time: leave at once, checkpoints are whole at any moment
            os._exit(EXIT_STOPPED)
        context.stop.requested = signal.Signals(number).name
        print(
            f"{context.stop.requested}: stopping",
            "at the next step boundary" if context.stop.at_boundary else "",
            file=sys.stderr,
        )
        if not context.stop.at_boundary:
            raise JobStopRequested(f"stopped by {context.stop.requested}")

    only = os.environ.pop(STOP_VARIABLE, "")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        # Not SIG_IGN, which programs that the function starts would inherit.
        signal.signal(number, on_signal if only in ("", number.name) else lambda *_: None)


def _load(folder: JobFolder, digest: str) -> Callable[[], Any]:
    gc.disable()  # hardly anything that an import makes is garbage, and looking for it takes a tenth of PennyLane's import
    try:
        fn, args, kwargs = bundle.load(folder.bundle, digest or None)
    finally:
        gc.enable()
    return lambda: fn(*args, **kwargs)


def run(context: JobContext, load: Callable[[], Callable[[], Any]], *, may_retry: bool) -> int:
    """Load the call, run it, and record the outcome.

    Args:
        context: The active job.
        load: Gives the call; its errors are the bundle's or the environment's.
        may_retry: An exception leaves no outcome, so that the next attempt can follow.

    Returns:
        The exit code: 0 if there is an outcome.

    Raises:
        Fenced: Another attempt owns the job.
    """
    folder = context.folder
    assert folder is not None
    crash_point("worker.begin")
    try:
        call = load()
    except BundleRefused as error:
        return _fail(context, "environment" if isinstance(error, EnvironmentSkew) else "bundle", error)
    except BaseException as error:  # noqa: BLE001 - user code runs while it is loaded, and may raise anything
        return _raised(context, error, may_retry)
    crash_point("worker.loaded")
    try:
        with contextlib.chdir(folder.results):
            value = call()
            if isinstance(value, types.CoroutineType):
                value = awaited(value)
        context.settle()
    except BaseException as error:  # noqa: BLE001 - see above; every way to leave must be recorded
        return _raised(context, error, may_retry)
    crash_point("worker.returned")
    return _record_value(context, value)


def awaited(coroutine: types.CoroutineType[Any, Any, Any]) -> Any:
    """What a coroutine returns."""
    import asyncio  # takes as long to import as all the rest of the worker

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # In a notebook a loop is running already; the job gets one of its own, in a thread that knows the job.
    box: dict[str, Any] = {}
    known = contextvars.copy_context()

    def work() -> None:
        try:
            box["value"] = known.run(asyncio.run, coroutine)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            box["error"] = error

    thread = threading.Thread(target=work, name="hybridjobs-asyncio")
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


def _meant(context: JobContext, error: BaseException) -> BaseException:
    """What a callback of JAX raised: an error of JAX's own stands in its place, and only quotes it with its traceback.

    Raises:
        Fenced: Another attempt owns the job.
    """
    text = ""
    with contextlib.suppress(Exception):  # a hostile __str__
        text = str(error)
    if "Traceback (most recent call last)" not in text:
        return error
    if f"{Fenced.__name__}: " in text and context.folder is not None:
        context.folder.check_epoch(context.attempt)
    if f"{JobStopRequested.__name__}: " in text and context.stop.requested:
        return JobStopRequested(f"stopped by {context.stop.requested}")
    return next((refusal for refusal in context.refusals if f"{type(refusal).__name__}: {refusal}" in text), error)


def _raised(context: JobContext, error: BaseException, may_retry: bool) -> int:
    error = _meant(context, error)
    if isinstance(error, Fenced):
        raise error
    with contextlib.suppress(HybridJobsError, OSError):  # the function's error is the one to tell
        context.settle()
    if isinstance(error, JobStopRequested):
        print(f"{error}", file=sys.stderr)
        context.save_boundaries()
        return EXIT_STOPPED
    if isinstance(error, BudgetExceeded):
        return _out_of_budget(context, error)
    described = outcome.describe(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(described["traceback"])
    if may_retry and isinstance(error, Exception):
        return EXIT_RETRY
    assert context.folder is not None
    outcome.commit_failure(context.folder, context.attempt, "error", described)
    return 0


def _out_of_budget(context: JobContext, error: BudgetExceeded) -> int:
    """No failure and no outcome: the job goes on where it stopped, once the budget was raised."""
    assert context.folder is not None
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    context.save_boundaries()
    with context.folder.fence(context.attempt):
        write_once(context.folder.attempt(context.attempt).stopped, dump_sealed(outcome.describe(error)))
    return EXIT_BUDGET


def _fail(context: JobContext, reason: str, error: BaseException) -> int:
    assert context.folder is not None
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    described = outcome.describe(error)
    described["traceback"] = ""
    outcome.commit_failure(context.folder, context.attempt, reason, described)
    return 0


def _record_value(context: JobContext, value: Any) -> int:
    folder = context.folder
    assert folder is not None
    if value is None and (saved := saved_result(folder)) is not None:
        value = codec.loads(*saved, allow_import=True, where="result")
    try:
        outcome.commit_value(folder, context.attempt, value)
    except CodecError as error:
        kept = _keep_unstorable(folder.results, value)
        advice = CodecError(
            f"The function ran to its end, but what it returned cannot be stored. {error}\n"
            f"Kept for you: {kept}. Return plain data and arrays instead."
        )
        return _fail(context, "result", advice)
    return 0


def _keep_unstorable(results: Path, value: Any) -> str:
    """The value's repr (and, where asked for, its pickle, which this package never loads) in the results folder."""
    path = results / "unstorable_result.txt"
    try:
        text = repr(value)
    except BaseException as error:  # noqa: BLE001 - a user's repr may raise anything
        text = f"<its repr() raised {type(error).__name__}>"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    if os.environ.get("HYBRIDJOBS_KEEP_PICKLE") != "1":
        return f"its repr in results/{path.name} (Resources(env={{'HYBRIDJOBS_KEEP_PICKLE': '1'}}) keeps a pickle too)"
    import cloudpickle

    pickled = path.with_suffix(".pkl")
    try:
        pickled.write_bytes(cloudpickle.dumps(value))
    except Exception as error:  # noqa: BLE001 - a lock in it, for example
        return f"its repr in results/{path.name}; it does not pickle either ({error})"
    return f"its repr and its pickle in results/{path.name} and {pickled.name}"
