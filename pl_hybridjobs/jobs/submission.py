"""From a call to a job: check everything, pack, create, start."""

from __future__ import annotations

import hashlib
import inspect
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import HybridJobsError, InvalidCall, KeyConflict
from pl_hybridjobs.jobs import arguments, device, inputs, packing, provenance, trackers
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.lanes import ON_FAILURE, Lanes, sweep_file
from pl_hybridjobs.jobs.spec import JobSpec, Resources, Retries, Status, SweepPlace, name_complaint, new_id, tags_complaints
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.jobs.sweep import Sweep

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget


@dataclass(frozen=True, kw_only=True)
class Options:
    """The decorator's keywords. See ``hybrid_job``."""

    device: str | Mapping[str, str] | None = None
    runner: str | runners.Runner = "local"
    name: str | None = None
    resources: Resources | Mapping[str, Any] | None = None
    include: Sequence[str | Path | ModuleType] | str | Path | ModuleType = ()
    requirements: str | Path | Sequence[str] | None = None
    inputs: str | Path | Mapping[str, str | Path] | None = None
    budget: Budget | Mapping[str, Any] | None = None
    retries: int | Mapping[str, Any] | Retries = 0
    tags: Mapping[str, str] | None = None
    mirror: str | Mapping[str, str] | None = None
    key: str | None = None
    allow_secrets: Sequence[str] = ()

    def complaints(self, *, contact: bool) -> list[str]:
        """What is wrong with the options.

        Args:
            contact: Also what needs a look at the disk or at installed packages; not at decoration.
        """
        found = []
        if self.name is not None and (problem := name_complaint(self.name)):
            found.append(problem)
        try:
            found += self.resources_value().complaints()
        except InvalidCall as error:
            found += [f"resources: {complaint}" for complaint in error.complaints]
        except TypeError as error:
            found.append(f"resources: {error}; give Resources(timeout_s=, memory_mb=, threads=, env=)")
        try:
            Retries.of(self.retries)
        except (TypeError, ValueError) as error:
            found.append(str(error))
        if self.tags is not None:
            found += tags_complaints(self.tags)
        if self.key is not None and (not isinstance(self.key, str) or not self.key):
            found.append(f"key must be text that is not empty, or None, not {self.key!r}")
        try:
            self.budget_value()
        except (TypeError, ValueError) as error:
            found += str(error).splitlines()
        if isinstance(self.allow_secrets, str):
            found.append("allow_secrets must be a list of names, not one text")
        found += trackers.complaints(self.mirror, contact=contact)
        if contact:
            found += device.complaints(self.device)
            found += inputs.complaints(self.inputs)
            if problem := runners.complaint(self.runner):
                found.append(problem)
            if self.requirements is not None and not getattr(self.runner, "installs", False):
                found += packing.unsatisfied(self.requirements)
        return found

    def resources_value(self) -> Resources:
        """``resources`` as a value, however it was given."""
        if self.resources is None:
            return Resources()
        return self.resources if isinstance(self.resources, Resources) else Resources(**self.resources)

    def budget_value(self) -> dict[str, Any]:
        """``budget`` as JSON, however it was given.

        Raises:
            ValueError: With what is wrong.
        """
        if self.budget is None:
            return {}
        from pl_hybridjobs.cost.budget import Budget

        return Budget.of(self.budget).to_json()

    def include_list(self) -> tuple[str | Path | ModuleType, ...]:
        """``include`` as a tuple, however it was given."""
        if isinstance(self.include, str | Path | ModuleType):
            return (self.include,)
        try:
            return tuple(self.include)
        except TypeError:
            raise InvalidCall("hybrid_job", [f"include={self.include!r} is neither a module, a path nor a list of these"]) from None


@dataclass(frozen=True)
class Call:
    """A function and what it is called with."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The function's name, for people; works for partials and callable objects too."""
        return title_of(self.fn)


def title_of(fn: Any) -> str:
    """A callable's name, for people."""
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)


@dataclass(frozen=True)
class Plan:
    """What a call would send, and where: packed and checked, nothing submitted.

    Attributes:
        function: Qualified name.
        device: As the decorator names it.
        runner: The runner's name.
        params: The call's arguments, as they would be recorded.
        files: Path in the bundle -> size in bytes.
        requirements: The pinned distributions.
        digest: SHA-256 of the bundle's manifest.
        size_bytes: All files together.
        notes: What is worth knowing, for example a local package without version control.
        cost: US dollars: 0 where all devices run on your own machine; None where it depends on what the function runs. Then ``prices``
            says what a task costs, and ``f.forecast`` (and ``train``, before its first step) what the run will.
        prices: What the devices cost, a line each.
        budget: What may be bought at most, as text; "" for no limit.
        forecast: What the function's first training loop will ask of its devices, as text; "" where that was not asked for.
    """

    function: str
    device: str
    runner: str
    params: Mapping[str, Any]
    files: Mapping[str, int]
    requirements: tuple[str, ...]
    digest: str
    size_bytes: int
    notes: tuple[str, ...] = ()
    cost: float | None = 0.0
    prices: tuple[str, ...] = ()
    budget: str = ""
    forecast: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.function} on device {self.device or 'none named'}, runner {self.runner}",
            "arguments: " + (", ".join(f"{name}={value!r}" for name, value in self.params.items()) or "none"),
            f"bundle: {len(self.files)} files, {self.size_bytes:,} bytes, digest {self.digest[:12]}",
            *(f"  {size:>10,}  {path}" for path, size in self.files.items()),
            f"requirements: {', '.join(self.requirements) or 'none'}",
            *(f"note: {note}" for note in self.notes),
            *(f"price: {price}" for price in self.prices),
            f"cost: {'depends on what it runs' if self.cost is None else f'{self.cost:.2f} USD'}",
            *([f"budget: {self.budget}"] if self.budget else []),
            *([f"forecast: {self.forecast}"] if self.forecast else []),
        ]
        return "\n".join(lines)


def check(call: Call, options: Options, *, ask: bool = False) -> None:
    """Everything that can be told before anything is written.

    Args:
        call: A function and its arguments.
        options: What was asked for.
        ask: Also what the runner's engine or service says.

    Raises:
        InvalidCall: With all that is wrong, at once.
    """
    where = f"{call.title}(...)"
    found = options.complaints(contact=True)
    try:
        arguments.check_call(call.fn, call.args, dict(call.kwargs), where)
    except InvalidCall as error:
        found += error.complaints
    if not found:
        runner = runners.resolve(options.runner)
        draft = _draft(call, options, runner, job_id="")
        found += runner.complaints(draft) + runners.inputs_complaints(runner, draft) or (runners.preflight(runner, draft) if ask else [])
    if found:
        raise InvalidCall(where, found)


def plan(call: Call, options: Options) -> Plan:
    """See ``HybridFunction.plan``."""
    import tempfile

    check(call, options)
    with tempfile.TemporaryDirectory(prefix="hybridjobs-plan-") as folder:
        packed = _pack(call, options, Path(folder))
    runner = runners.resolve(options.runner)
    draft = _draft(call, options, runner, job_id="")
    return Plan(
        function=call.title,
        device=draft.device_text,
        runner=runner.name,
        params=draft.params,
        files={str(file.path): file.size for file in packed.files},
        requirements=packed.requirements,
        digest=packed.digest,
        size_bytes=packed.size_bytes,
        notes=packed.notes,
        **_money(draft, runner),
    )


def forecast(call: Call, options: Options) -> Plan:
    """See ``HybridFunction.forecast``."""
    import tempfile

    made = plan(call, options)
    with tempfile.TemporaryDirectory(prefix="hybridjobs-forecast-") as home:
        text, usd = _forecast(call, options, Path(home))
    return replace(made, forecast=text, cost=made.cost if usd is None else usd)


def _forecast(call: Call, options: Options, home: Path) -> tuple[str, float | None]:
    """What the function's first loop says of itself, and US dollars where they are certain. Nothing is for sale meanwhile."""
    from pl_hybridjobs.errors import BudgetExceeded
    from pl_hybridjobs.jobs.inline import InlineRunner, plan_here

    draft = replace(_draft(call, options, InlineRunner(), new_id()), budget={"max_tasks": 0})
    folder, _ = Store(home).create(draft, partial(_fill_inputs, options))
    try:
        planned = plan_here(folder, folder.spec(), lambda: call.fn(*call.args, **call.kwargs))
    except BudgetExceeded:
        return (
            "not known: the function asks a device for results outside of train, and these cannot be counted before they are bought",
            None,
        )
    if planned is None:
        return "the function ends without train, and buys nothing", 0.0
    usd = planned.run.usd if planned.run else None
    return planned.text, float(usd[1]) if usd and usd[0] == usd[1] else None


def _money(draft: JobSpec, runner: runners.Runner) -> dict[str, Any]:
    """What can be said of a job's cost before it runs."""
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.cost.forecast import unit_prices

    named = draft.device.values() if isinstance(draft.device, dict) else [draft.device] if draft.device else []
    remote = [(name, device.price(name)) for name in dict.fromkeys(named) if device.is_remote(name)]
    is_free = all(price is not None and price.is_free for _, price in remote)
    hosts = runner.prices() if isinstance(runner, runners.Mirroring) else []
    return {
        "cost": 0.0 if is_free and not hosts else None,
        "prices": (*unit_prices(remote), *hosts),
        "budget": str(Budget.from_json(draft.budget)) if draft.budget else "",
    }


def submit(call: Call, options: Options) -> Job:
    """Pack a call, create its job, start it. See ``HybridFunction.__call__``."""
    check(call, options, ask=True)
    runner = runners.resolve(options.runner)
    job_id = _id_of_key(options.key) if options.key else new_id()
    store = Store()
    folder, new = store.create(_draft(call, options, runner, job_id), partial(_fill, call, options))
    job = Job(folder)
    if not new:
        _check_same(folder, call, options, runner)
        if job.status is not Status.CREATED:
            return job
    runner.start(folder, job.spec.bundle_digest, "start")
    return job


def submit_many(calls: Sequence[Call], options: Options, max_parallel: int | None, on_failure: str) -> Sweep:
    """Create a job for each call, and start as many as may run at once. See ``HybridFunction.map``."""
    found = []
    if max_parallel is not None and (isinstance(max_parallel, bool) or not isinstance(max_parallel, int) or max_parallel < 1):
        found.append(f"max_parallel must be a whole number of at least 1 or None, not {max_parallel!r}")
    if on_failure not in ON_FAILURE:
        found.append(f"on_failure must be one of {', '.join(ON_FAILURE)}, not {on_failure!r}")
    if not calls:
        found.append("there is nothing to run: the iterable of arguments is empty")
    if found:
        raise InvalidCall("map", found)
    for index, call in enumerate(calls):
        check(call, options, ask=index == 0)
    runner = runners.resolve(options.runner)
    store = Store()
    sweep_id = _id_of_key(options.key) if options.key else new_id()
    ids = tuple(_id_of_key(f"{options.key}\0{index}") if options.key else new_id() for index in range(len(calls)))
    lanes = Lanes(store.home, sweep_id, ids, max_parallel or runners.at_once(runner), on_failure)
    _write(lanes, options)
    drafts = [
        replace(_draft(call, options, runner, job_id), sweep=SweepPlace(sweep_id, index))
        for index, (call, job_id) in enumerate(zip(calls, ids, strict=True))
    ]
    try:
        if options.key:
            for call, draft in zip(calls, drafts, strict=True):
                folder, new = store.create(draft, partial(_fill, call, options))
                if not new:
                    _check_same(folder, call, options, runner)
        else:
            store.create_many(drafts, lambda index, folder: _fill(calls[index], options, folder))
    except HybridJobsError:
        lanes.remove_if_empty()
        raise
    sweep = Sweep(store.home, sweep_id)
    if on_failure != "continue" or not _start_together(lanes, runner):  # else whoever begins a job looks first at how the others ended
        sweep._tend(is_patient=True)
    return sweep


def _start_together(lanes: Lanes, runner: runners.Runner) -> bool:
    with lanes.hold():
        return runners.start_many(runner, [folder for folder in lanes.folders() if folder is not None], lanes.max_parallel)


def _write(lanes: Lanes, options: Options) -> None:
    """Before the first job is made: who dies in between leaves a sweep that can be looked at, and with a key completed."""
    sweep_file(lanes.home, lanes.id).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lanes.hold():
        if sweep_file(lanes.home, lanes.id).exists() and (there := Lanes.read(lanes.home, lanes.id)).jobs != lanes.jobs:
            raise KeyConflict(
                f"key={options.key!r} was used for another sweep, of {len(there.jobs)} jobs, not {len(lanes.jobs)}. "
                "Take another key, or open_sweep() the one that is there."
            )
        lanes.write()


def run_inline(call: Call, options: Options) -> Any:
    """Run a call here and now, as a job that was never packed. See ``HybridFunction.inline``."""
    from pl_hybridjobs.jobs.inline import InlineRunner, run_here

    check(call, replace(options, runner=InlineRunner(), resources=None))
    draft = _draft(call, options, InlineRunner(), new_id())

    folder, _ = Store().create(draft, partial(_fill_inputs, options))
    return run_here(folder, folder.spec(), lambda: call.fn(*call.args, **call.kwargs))


def _fill_inputs(options: Options, folder: Path) -> str:
    """A job that is never packed has no bundle, and so no digest."""
    inputs.copy(options.inputs, folder / "inputs")
    return ""


def _fill(call: Call, options: Options, folder: Path) -> str:
    _fill_inputs(options, folder)
    target = folder / "bundle"
    target.mkdir(mode=0o700)
    return _pack(call, options, target).digest


def _pack(call: Call, options: Options, folder: Path) -> packing.Packed:
    return packing.pack(
        call.fn,
        call.args,
        dict(call.kwargs),
        folder,
        include=options.include_list(),
        requirements=options.requirements,
        allow_secrets=options.allow_secrets,
        name=call.title,
    )


def _draft(call: Call, options: Options, runner: runners.Runner, job_id: str) -> JobSpec:
    return JobSpec(
        id=job_id,
        name=options.name or _name_from(call.title),
        function=call.title,
        device=dict(options.device) if isinstance(options.device, Mapping) else options.device,
        runner=runner.name,
        runner_options=runners.options_of(runner),
        params=arguments.describe_params(call.fn, call.args, dict(call.kwargs)),
        resources=options.resources_value(),
        retries=Retries.of(options.retries),
        budget=options.budget_value(),
        tags=dict(options.tags or {}),
        inputs=inputs.record(options.inputs),
        mirrors=trackers.targets(options.mirror),
        key=options.key,
        created=time.time(),
        provenance=provenance.of_folder(_source_folder(call.fn)) if job_id else {},
    )


def _source_folder(fn: Any) -> Path | None:
    while isinstance(fn, partial):
        fn = fn.func
    code = getattr(inspect.unwrap(fn), "__code__", None)
    path = Path(code.co_filename) if code else None
    return path.parent if path and path.is_file() else None


def _name_from(title: str) -> str:
    """A usable job name from a function's: ``train.<locals>._vqe`` gives ``vqe``."""
    last = title.replace("<lambda>", "lambda").split(".")[-1]
    return re.sub(r"[^\w+-]", "-", last).strip("_-")[:80] or "job"


def _id_of_key(key: str) -> str:
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def _check_same(folder: JobFolder, call: Call, options: Options, runner: runners.Runner) -> None:
    """Refuse a key that was used for another call."""
    there, asked = folder.spec(), _draft(call, options, runner, "")
    differ = [name for name in ("function", "params", "device", "runner") if getattr(there, name) != getattr(asked, name)]
    if not differ and packing.packed_call(folder.bundle) not in (None, packing.call_digest(call.fn, call.args, dict(call.kwargs))):
        differ = ["the function, or values of its arguments"]
    if differ:
        raise KeyConflict(
            f"key={options.key!r} was used for another call: {', '.join(differ)} differ from those of {there.name}. "
            "Take another key, or open_job() the one that is there."
        )
