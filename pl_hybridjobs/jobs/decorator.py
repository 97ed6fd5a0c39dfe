"""``@hybrid_job``: a function that, when called, becomes a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from pl_hybridjobs.errors import InvalidCall, unknown_options

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.runner import Runner
    from pl_hybridjobs.jobs.spec import Resources, Retries
    from pl_hybridjobs.jobs.submission import Call, Options, Plan
    from pl_hybridjobs.jobs.sweep import Sweep

P = ParamSpec("P")
R = TypeVar("R")


class HybridFunction(Generic[P, R]):
    """A function with the options of its jobs. Made by ``hybrid_job``; the function itself is not changed.

    ``f(*args, **kwargs)`` submits a job and returns its ``Job`` at once.
    """

    __name__: str

    def __init__(self, fn: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__wrapped__ = fn
        self.__name__ = name_of(fn)
        self._options = options

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Submit: check, pack, create the job's folder, start its runner. Returns without waiting for the job.

        Raises:
            InvalidCall: Arguments or options are wrong; nothing was written.
            PackingError: Something cannot travel; nothing was kept.
            StoreError: The disk refuses.
        """
        from pl_hybridjobs.jobs.submission import submit

        return submit(self._call(*args, **kwargs), self._options)

    def inline(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, in a job's context, and return its value; its exceptions pass through.

        Nothing is packed, so closures may hold anything, and a debugger stops where you want.
        """
        from pl_hybridjobs.jobs.submission import run_inline

        value: R = run_inline(self._call(*args, **kwargs), self._options)
        return value

    def map(self, kwargs_list: Iterable[Mapping[str, Any]], max_parallel: int | None = None, *, on_failure: str = "continue") -> Sweep:
        """Submit a job for each set of keyword arguments.

        With the option ``key`` the call is idempotent: a program that died in it is run again and submits what is missing.

        Args:
            kwargs_list: The keyword arguments of each call; ``grid`` and ``random_search`` make them.
            max_parallel: How many run at once; the others wait, also after the caller has exited. Default: one for each core.
            on_failure: What it means that one fails: ``continue``: nothing for the others; ``stop``: those that wait are cancelled, those
                that run go on to their end; ``cancel``: those that run are cancelled too.

        Raises:
            InvalidCall: Arguments or options are wrong; nothing was written.
            KeyConflict: The option ``key`` was used for other calls.
        """
        from pl_hybridjobs.jobs.submission import submit_many

        if isinstance(kwargs_list, Mapping) or not isinstance(kwargs_list, Iterable):
            said = f"it takes a list of mappings of keyword arguments, such as grid(x=[1, 2]) makes, not {kwargs_list!r}"
            raise InvalidCall(f"{self.__name__}.map", [said])
        listed = list(kwargs_list)
        if wrong := [item for item in listed if not isinstance(item, Mapping)]:
            raise InvalidCall(f"{self.__name__}.map", [f"each item must be a mapping of keyword arguments, not {wrong[0]!r}"])
        return submit_many([self._call(**item) for item in listed], self._options, max_parallel, on_failure)

    def plan(self, /, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Pack, check and price the call; submit nothing and keep nothing."""
        from pl_hybridjobs.jobs.submission import plan

        return plan(self._call(*args, **kwargs), self._options)

    def forecast(self, /, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """As ``plan``, and run the function here, up to its first ``train``, which says what it will buy. Nothing is bought: meanwhile
        the budget is zero tasks. What the function does before that, such as loading data, it does; what it prints is not shown.

        Raises:
            Exception: What the function raises before its first ``train``.
        """
        from pl_hybridjobs.jobs.submission import forecast

        return forecast(self._call(*args, **kwargs), self._options)

    def with_options(self, **options: Any) -> HybridFunction[P, R]:
        """A copy with some of the decorator's keywords changed."""
        return HybridFunction(self.__wrapped__, _checked(self.__name__, _changed(self._options, options, self.__name__)))

    @property
    def options(self) -> Options:
        """The decorator's keywords."""
        return self._options

    def _call(self, /, *args: Any, **kwargs: Any) -> Call:
        from pl_hybridjobs.jobs.submission import Call

        return Call(self.__wrapped__, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> HybridFunction[..., R]:
        """A decorated method, bound to its object."""
        if instance is None:
            return self
        return HybridFunction(self.__wrapped__.__get__(instance, owner), self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return HybridFunction, (self.__wrapped__, self._options)

    def __getattr__(self, name: str) -> Any:
        """For those who forget to call it."""
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        if not name.startswith("_"):
            from pl_hybridjobs.jobs.handle import Job

            if hasattr(Job, name):
                text = f"{self.__name__} is a function that makes jobs, and {name!r} belongs to a job: {self.__name__}(...).{name}"
        raise AttributeError(text, name=name, obj=self)

    def __repr__(self) -> str:
        return f"<hybrid_job {self.__name__}, device={self._options.device!r}, runner={self._options.runner!r}>"


@overload
def hybrid_job(fn: Callable[P, R], **options: Any) -> HybridFunction[P, R]: ...
@overload
def hybrid_job(fn: None = None, **options: Any) -> Callable[[Callable[P, R]], HybridFunction[P, R]]: ...
def hybrid_job(
    fn: Any = None,
    *,
    device: str | Mapping[str, str] | None = None,
    runner: str | Runner = "local",
    name: str | None = None,
    resources: Resources | Mapping[str, Any] | None = None,
    include: Sequence[str | Path | ModuleType] | str | Path | ModuleType = (),
    requirements: str | Path | Sequence[str] | None = None,
    inputs: str | Path | Mapping[str, str | Path] | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    retries: int | Mapping[str, Any] | Retries = 0,
    tags: Mapping[str, str] | None = None,
    mirror: str | Mapping[str, str] | None = None,
    key: str | None = None,
    allow_secrets: Sequence[str] = (),
    **unknown: Any,
) -> Any:
    """Turn a function into a hybrid job: calling it submits the call and returns a ``Job``.

    Nothing happens at decoration: no file is read or written, nothing heavy is imported, the function is not changed. Use it as
    ``@hybrid_job``, ``@hybrid_job(device=...)`` or ``hybrid_job(fn, device=...)``, on functions (``async`` too), lambdas, bound methods,
    ``functools.partial`` and callable objects.

    Args:
        fn: What to run.
        device: A PennyLane device's name, ``local:<provider>/<name>``, a remote device (an Amazon resource name, or ``NAME:target`` of
            another provider), or a dict of roles to such names. ``job_device()`` builds it.
        runner: Where jobs run: ``"local"`` (a process of this machine), ``"inline"`` (this process), or a runner object.
        name: The job's name; default: the function's. A number is added where it is taken.
        resources: ``Resources`` or a dict of its fields: ``timeout_s``, ``memory_mb``, ``threads``, ``env``.
        include: Modules (by name or object), files and folders that travel along although the code does not show that it needs them.
        requirements: A requirements file, ``uv.lock``, ``pylock.toml``, or a list of requirements. Default: pinned from what is installed.
        inputs: A path, or a dict of channel names to paths, copied to the job. ``input_path(channel)`` finds them.
        budget: ``Budget`` or a dict of its fields: ``max_usd``, ``max_tasks``, ``max_shots``, ``max_time_s``. Asked before each
            submission to a remote device; when it runs out, the job stops and ``job.resume(budget=...)`` goes on.
        retries: How often to try again after an interruption; or a dict of ``interruptions``, ``errors``, ``backoff_s``.
        tags: Text to text, to find the job by.
        mirror: Show the job's metrics in a tracker while it runs: ``"tensorboard"``, ``"mlflow"``, or a dict of these to a folder and an
            address: ``{"tensorboard": "runs", "mlflow": "http://tracker:5000"}``. A process of its own does it, so that a tracker that is
            down costs the job nothing. See ``docs/guides/trackers.md``.
        key: Idempotency key: the second submission with the same key gives the first one's job (or, of ``map``, sweep).
        allow_secrets: Names of globals or arguments that look like a credential but may travel.
        **unknown: None; names that are near an option's are told.

    Raises:
        InvalidCall: An unknown or wrong option, a generator function, or something that is not callable.
    """
    from pl_hybridjobs.jobs.submission import Options

    if found := unknown_options(unknown, _names_of(Options)):
        raise InvalidCall("hybrid_job" if fn is None else f"hybrid_job({name_of(fn)})", found)
    options = Options(
        device=device,
        runner=runner,
        name=name,
        resources=resources,
        include=include,
        requirements=requirements,
        inputs=inputs,
        budget=budget,
        retries=retries,
        tags=tags,
        mirror=mirror,
        key=key,
        allow_secrets=allow_secrets,
    )
    if fn is not None:
        return _decorate(fn, options)
    _checked("hybrid_job", options)
    return lambda function: _decorate(function, options)


def name_of(fn: Any) -> str:
    """A callable's own name, also of a partial or a callable object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))


def _decorate(fn: Any, options: Options) -> HybridFunction[..., Any]:
    if isinstance(fn, HybridFunction):
        fn = fn.__wrapped__
    title = name_of(fn)
    if not callable(fn):
        raise InvalidCall("hybrid_job", [f"{fn!r} is not callable; options are given by keyword: hybrid_job(device={fn!r})"])
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if isinstance(inner, type):
        raise InvalidCall(f"hybrid_job({title})", [f"{title} is a class; decorate a function that makes one and uses it"])
    target = inner if inspect.isroutine(inner) else type(inner).__call__
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise InvalidCall(
            f"hybrid_job({title})",
            [f"{title} is a generator function; a job returns one value. Return a list, or log_metric() values as they come"],
        )
    return HybridFunction(fn, _checked(f"hybrid_job({title})", options))


def _changed(options: Options, changed: Mapping[str, Any], where: str) -> Options:
    """Options with some changed; unknown names are refused with near ones."""
    if found := unknown_options(changed, _names_of(options)):
        raise InvalidCall(where, found)
    return replace(options, **changed)


def _names_of(options: Options | type[Options]) -> list[str]:
    return [field.name for field in fields(options)]


def _checked(where: str, options: Options) -> Options:
    found = options.complaints(contact=False)
    if found:
        raise InvalidCall(where, found)
    return options
