"""``train``: the whole loop, from an objective and parameters to a ``TrainingRun``."""

from __future__ import annotations

import datetime
import math
import operator
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pl_hybridjobs.cost.forecast import Forecast
from pl_hybridjobs.errors import CheckpointError, InvalidCall, TrainingError
from pl_hybridjobs.jobs.context import JobContext, current_job, logging
from pl_hybridjobs.jobs.metrics import real_number
from pl_hybridjobs.training import batches, diagnosis, saving, stopping
from pl_hybridjobs.training.circuits import reach
from pl_hybridjobs.training.history import History
from pl_hybridjobs.training.objective import Objective
from pl_hybridjobs.training.optimizers import Adapter, Minimizer, Misfit, Problem, Step, adapter
from pl_hybridjobs.training.parameters import Leaf, Structure, as_given, norm, structure, to_numpy, working_copy
from pl_hybridjobs.training.plan import GradientPlan, plan_gradient
from pl_hybridjobs.training.render import Progress
from pl_hybridjobs.training.rng import RandomStates, seed_all
from pl_hybridjobs.training.run import Best, TrainingRun
from pl_hybridjobs.training.sections import Section

_WHERE = "train()"
_OWN_METRICS = ("gradient_norm", "step_time_s", "executions", "shots")


def train(
    objective: Callable[..., Any],
    params: Any,
    *,
    optimizer: Any,
    steps: int,
    args: Sequence[Any] = (),
    data: Any = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    value_name: str = "cost",
    metrics: Callable[[Any], Mapping[str, Any]] | None = None,
    metrics_every: int = 1,
    checkpoint_every: saving.Every = datetime.timedelta(seconds=10),
    stop: Any = None,
    compile: bool | str = "auto",
    seed: int | None = None,
    name: str | None = None,
    generators: Sequence[Any] = (),
    progress: bool | None = None,
) -> TrainingRun:
    """Minimise an objective: gradients, metrics, checkpoints and exact resume are wired in.

    Inside a job each step is logged and the loop is checkpointed; a job that was interrupted goes on from the newest checkpoint, and ends
    in the same bits as one that was not. Outside a job nothing is written.

    Args:
        objective: ``objective(params, *args, *batch)`` returns a real scalar, or a scalar and a dict of further numbers, which become
            metrics. Any mixture of QNodes and classical code.
        params: An array of NumPy, PennyLane, JAX or torch, or any nest of them. PennyLane's ``requires_grad=False`` holds a leaf fixed.
            So does torch's, where other tensors have ``requires_grad=True``. Not changed.
        optimizer: A PennyLane optimizer, an optax transformation, a torch optimizer or a function that makes one from a list of tensors,
            the name of a method of ``scipy.optimize.minimize`` (with options: ``functools.partial(scipy.optimize.minimize, method=...,
            options=...)``), or an object with the methods of ``training.optimizers.Optimizer``. Not changed.
        steps: How many steps.
        args: Arguments that stay the same. For ``RotoselectOptimizer`` the first one is its list of first generators.
        data: Arrays of equal length (an array, a tuple of arrays, a dict of arrays), or an iterable of batches. A tuple's parts become
            arguments, a dict stays one.
        batch_size: Samples a step, where ``data`` is arrays; None: all of them.
        shuffle: Draw a new order for each epoch.
        value_name: What the objective's value is called among the metrics.
        metrics: ``metrics(params)`` gives further numbers to log, at the parameters that the step's value belongs to.
        metrics_every: Call it only every so many steps.
        checkpoint_every: Steps, or a ``datetime.timedelta`` (default: 10 s), or None. Besides that, it is saved at signals and at the end.
        stop: A stop rule of ``pl_hybridjobs.training`` (``Target``, ``Patience``, ``GradientNorm``, ``WallTime``), a callable
            ``stop(progress)``, or several in a list.
        compile: "auto": compile by JAX what can be traced where that pays; True: an error if it cannot be; False: never.
        seed: Seeds shuffling and the global generators of Python, NumPy and torch. Devices have seeds of their own.
        name: Names the loop where a job has several; its metrics and checkpoints go by it. Absent: "train", "train-2", ...
        generators: Random generators that the objective draws from, beyond those that are found in what it refers to.
        progress: False: no bar and no lines.

    Raises:
        InvalidCall: Something of the above cannot be; all complaints at once, before anything runs.
        TrainingError: The first value is not finite.
        CheckpointError: The job's checkpoint is of another program: the message names each leaf that differs.
        JobStopRequested: The job was asked to stop; a checkpoint was saved.
    """
    call = _Call(
        objective, params, optimizer, steps, args, data, batch_size, shuffle, value_name, metrics, metrics_every, checkpoint_every, stop,
        compile, seed, name, generators, progress,
    )  # fmt: skip
    shape, driver = call.checked()
    context = current_job()
    with Section(context, name, "train") as section:
        try:
            return _Loop(call, shape, driver, context, section).run()
        except Misfit as error:  # what only a step shows
            raise InvalidCall(_WHERE, [str(error)]) from error


@dataclass(frozen=True)
class _Call:
    """The arguments of ``train``."""

    objective: Any
    params: Any
    optimizer: Any
    steps: int
    args: Sequence[Any]
    data: Any
    batch_size: int | None
    shuffle: bool
    value_name: str
    metrics: Callable[[Any], Mapping[str, Any]] | None
    metrics_every: int
    checkpoint_every: saving.Every
    stop: Any
    compile: bool | str
    seed: int | None
    name: str | None
    generators: Sequence[Any]
    progress: bool | None

    def checked(self) -> tuple[Structure, Adapter | Minimizer]:
        """Look at everything.

        Raises:
            InvalidCall: With all complaints.
        """
        found = [*self._complaints(), *batches.complaints(self.data, self.batch_size, self.shuffle)]
        found += saving.complaints(self.checkpoint_every)
        try:
            stopping.as_rules(self.stop)
        except InvalidCall as error:
            found += error.complaints
        shape, driver = None, None
        args = tuple(self.args) if isinstance(self.args, list | tuple) else ()
        try:
            shape = structure(self.params)
            if shape.leaves:
                found += shape.complaints()
            driver = adapter(self.optimizer, Problem(shape, self.params, self.objective, args))
        except (TypeError, Misfit) as error:
            found.append(str(error))
        if shape is not None and not shape.leaves and (driver is None or driver.needs_params):
            found += shape.complaints()
        if driver is not None and self.compile is True and not driver.calls_objective:
            found.append(f"compile=True, but {driver.name} runs circuits of its own, which are not compiled; leave compile='auto'")
        if found or shape is None or driver is None:
            raise InvalidCall(_WHERE, found)
        return shape, driver

    def _complaints(self) -> list[str]:
        found = []
        if not callable(self.objective):
            found.append(f"objective is {type(self.objective).__name__}; give a function or a QNode")
        if not _is_whole(self.steps, 1):
            found.append(f"steps={self.steps!r} must be a whole number of at least 1")
        if not isinstance(self.args, list | tuple):
            found.append(f"args is {type(self.args).__name__}; give a tuple of arguments")
        if not isinstance(self.value_name, str) or not self.value_name or self.value_name in _OWN_METRICS:
            found.append(f"value_name={self.value_name!r}; give a text that is none of {', '.join(_OWN_METRICS)}")
        if self.metrics is not None and not callable(self.metrics):
            found.append(f"metrics is {type(self.metrics).__name__}; give a function of the parameters that returns a dict")
        if not _is_whole(self.metrics_every, 1):
            found.append(f"metrics_every={self.metrics_every!r} must be a whole number of at least 1")
        if self.compile is not True and self.compile is not False and self.compile != "auto":
            found.append(f"compile={self.compile!r}; give 'auto', True or False")
        if self.seed is not None and not _is_whole(self.seed, 0):
            found.append(f"seed={self.seed!r} must be a whole number of at least 0, or None")
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            found.append(f"name={self.name!r} must be a text that is not empty")
        if not isinstance(self.generators, list | tuple):
            return [*found, f"generators is {type(self.generators).__name__}; give a list of random generators"]
        return found + RandomStates((), self.generators).complaints()


def _is_whole(value: Any, least: int) -> bool:
    try:
        return not isinstance(value, bool) and operator.index(value) >= least
    except TypeError:
        return False


def _beyond(run: Forecast, context: JobContext) -> str:
    """What to say of a run that is more than a budget allows; "" if none does."""
    if context and not context.is_limited:
        return ""
    from pl_hybridjobs.cost.account import current

    payer = current()
    for account in (payer, *payer.parents):
        allowed = run.within(account.limits, account.cost())
        if allowed < run.steps:
            return f"the budget of {account.name} ({account.limits}; so far {account.cost()}) is enough for {allowed} of {run.steps} steps"
    return ""


class _Loop:
    """One run of the loop. What a checkpoint holds is what ``_snapshot`` gives."""

    def __init__(self, call: _Call, shape: Structure, driver: Adapter | Minimizer, context: JobContext, section: Section) -> None:
        reached = reach(call.objective)
        self._call = call
        self._shape = shape
        self._driver = driver
        self._context = context
        self._section = section
        self._devices = tuple({id(device): device for device in [*reached.devices, *context.devices]}.values())
        self._rng = RandomStates(self._devices, [*reached.generators, *batches.generators(call.data), *call.generators])
        if call.seed is not None:
            seed_all(call.seed)
        in_python = RandomStates((), self._rng.generators)
        self._objective = Objective(
            call.objective,
            shape,
            args=call.args,
            compile=call.compile,
            reached=reached,
            random_state=(in_python.capture, in_python.restore),
        )
        self._batches = batches.Batches(
            call.data, call.batch_size, call.shuffle, call.seed, capture=self._rng.capture, restore=self._rng.restore
        )
        remote = any(hasattr(device, "checkpoint_state") for device in self._devices)
        self._saver = saving.Saver(context, section.name, call.checkpoint_every, may_end_within=remote)
        self._rules = stopping.as_rules(call.stop)
        self._shots = max((qnode.shots.total_shots for qnode in reached.qnodes if qnode.shots), default=None)
        self._plan: GradientPlan | None = None
        self._history = History()
        self._step = 0
        self._params = working_copy(call.params, shape)
        self._state: Any = None
        self._best: Best | None = None  # with a working copy
        self._slopes: list[Any] = []  # of the first steps
        self._points: list[Any] = []
        self._value = math.nan
        self._elapsed_s = 0.0
        self._began_s = time.monotonic()
        self._stopped_by = ""
        self._ran: dict[str, Any] = {"compiled": False, "compile_reason": "", "gradient_method": ""}

    def run(self) -> TrainingRun:
        """Take up what was saved, run to the end, save."""
        saved = self._saver.load()
        if not isinstance(self._driver, Minimizer):
            self._state = self._driver.init(self._params)
        if saved is not None:
            self._take_up(saved)
        if self._stopped_by in ("", "steps") and self._step < self._call.steps:
            self._stopped_by = ""
            self._go_on()
        self._stopped_by = self._stopped_by or "steps"  # resumed with fewer steps than it had made
        assert self._best is not None
        return TrainingRun(
            params=as_given(self._params, self._shape),
            value=self._value,
            best=Best(self._best.value, as_given(self._best.params, self._shape), self._best.step),
            history=self._history.columns(),
            steps=self._step,
            stopped_by=self._stopped_by,
            plan=self._plan,
            optimizer=self._state,
            value_name=self._call.value_name,
            **self._ran,
        )

    def _go_on(self) -> None:
        call = self._call
        label = self._section.name if self._section.prefix else ""
        self._show = Progress(call.steps, done=self._step, label=label, value_name=call.value_name, show=call.progress)
        self._context.begin_loop(label, self._section.prefix + call.value_name, self._step, call.steps)
        try:
            if self._step:
                self._show.note(f"goes on from step {self._step}")
            if isinstance(self._driver, Minimizer):
                self._minimize(self._driver)
            else:
                self._make_steps(self._driver)
            self._saver.save(self._step, self._snapshot)
        except BaseException as error:
            self._saver.abandon(error)
            raise
        finally:
            self._show.close(self._step, self._value)
        if self._stopped_by != "steps":
            self._show.note(f"stopped after step {self._step}: {self._stopped_by}")

    def _make_steps(self, driver: Adapter) -> None:
        while not self._stopped_by:
            self._section.at(self._step)
            began_s = time.perf_counter()
            self._objective.batch = self._batches.next()
            if self._plan is None:
                self._announce()
                began_s = time.perf_counter()
            self._objective.evaluations = 0
            self._finish(driver.step(self._objective, self._params, self._state), began_s)

    def _minimize(self, driver: Minimizer) -> None:
        if self._best is not None:
            self._params = self._best.params
            self._show.note(f"{driver.name} cannot be taken up in its middle: it begins anew at the best point so far")
        began_s = time.perf_counter()
        self._section.at(self._step)
        self._objective.batch = self._batches.next()
        self._announce()
        self._objective.evaluations = 0

        def on_step(step: Step) -> bool:
            nonlocal began_s
            self._finish(step, began_s)
            began_s = time.perf_counter()
            self._section.at(self._step)
            self._objective.evaluations = 0
            return bool(self._stopped_by)

        ended = driver.minimize(self._objective, self._params, self._call.steps - self._step, on_step)
        self._stopped_by = self._stopped_by or f"{driver.name} {ended}"
        if self._best is None:  # it ended before its first iteration did
            raise TrainingError(f"{driver.name} made no step: it {ended}")

    def _announce(self) -> None:
        """Say what a step will cost, before the first one."""
        call, driver = self._call, self._driver
        args = (*call.args, *self._objective.batch)
        if driver.unplanned:
            names = tuple(dict.fromkeys(str(device.name) for device in self._devices))
            self._plan = GradientPlan(driver.method, None, None, names, notes=(driver.unplanned,))
        else:
            with logging("muted"):
                plan = plan_gradient(call.objective, self._params, args, evaluations=driver.evaluations, count=driver.count)
            plan = replace(plan, notes=(*plan.notes, driver.note)) if driver.note else plan
            self._plan = plan.over(call.steps - self._step, may_end_sooner=bool(self._rules))
            if plan.raised.startswith("IndexError") and self._shape.interface != "jax":
                self._objective.forgo(f"{plan.raised}, where JAX would take another element")
        self._show.note(f"plan: {self._plan}")
        if self._plan.run is not None and (note := _beyond(self._plan.run, self._context)):
            self._show.note(note)
        self._context.announce(str(self._plan), self._plan.run)

    # A step --------------------------------------------------------------------------------------------------------------

    def _finish(self, step: Step, began_s: float) -> None:
        """What follows each step: judge it, log it, keep it, save if it is time."""
        if self._step == 0 or not self._ran["gradient_method"] or self._ran["compiled"] != self._objective.compiled:
            self._say_how()
        length = step.norm if step.norm is not None else norm(step.gradient) if step.gradient is not None else None
        if not math.isfinite(step.value) or (length is not None and not math.isfinite(length)):
            self._refuse(step.value)
            return
        at = self._params if step.at is None else step.at
        self._value = step.value
        if self._best is None or step.value < self._best.value:
            self._best = Best(step.value, at, self._step)
        self._log(step, length, at, time.perf_counter() - began_s)
        if self._step < diagnosis.FIRST_STEPS and step.gradient is not None:
            self._diagnose(step.gradient, at)
        self._params, self._state = step.params, step.state
        self._step += 1
        if self._rules:
            self._stopped_by = stopping.first_reason(self._rules, self._progress(length))
        if not self._stopped_by and self._step >= self._call.steps:
            self._stopped_by = "steps"
        self._show.update(self._step, self._value)
        if not self._stopped_by or self._context.stop.requested:
            self._saver.boundary(self._step, self._snapshot)
            self._saver.remember(self._step, self._snapshot)

    def _refuse(self, value: float) -> None:
        """The value or the gradient is not finite: stop at the last parameters where both were."""
        what = f"the objective is {value}" if not math.isfinite(value) else "the gradient is not finite"
        if self._best is None:
            raise TrainingError(
                f"{what} in the first step, so there is nothing to train; look at the objective at the parameters that train() was given"
            )
        self._stopped_by = f"{what} in step {self._step}; params is where it was finite last"
        self._params = self._last_finite

    def _say_how(self) -> None:
        compiled = self._objective.compiled
        reason = "" if compiled else self._objective.reason or f"{self._driver.name} runs circuits of its own"
        method = self._driver.method or (self._plan.gradient_method if self._plan is not None else "unknown")
        self._ran = {"compiled": compiled, "compile_reason": reason, "gradient_method": method}
        self._show.note("compiled by JAX" if compiled else f"not compiled: {reason}")

    def _log(self, step: Step, length: float | None, at: Any, seconds: float) -> None:
        call = self._call
        self._last_finite = at
        row = {call.value_name: step.value}
        if length is not None:
            row["gradient_norm"] = length
        row["step_time_s"] = seconds
        row.update(self._spent(step))
        more = dict(self._objective.aux)
        if call.metrics is not None and self._step % call.metrics_every == 0:
            found = call.metrics(as_given(at, self._shape))
            if not isinstance(found, Mapping):
                raise InvalidCall(_WHERE, [f"metrics(params) returned {type(found).__name__}; it must return a dict of numbers"])
            more.update({name: real_number(value, name) for name, value in found.items()})
        taken = sorted(set(more) & {call.value_name, *_OWN_METRICS})
        if taken:
            raise InvalidCall(_WHERE, [f"the metric {name!r} is logged by train itself; give yours another name" for name in taken])
        row.update(more)
        self._history.append(row)
        if self._context.metrics is not None:
            prefix = self._section.prefix
            self._context.metrics.log_row({prefix + name: value for name, value in row.items()} if prefix else row, self._step)

    def _spent(self, step: Step) -> dict[str, float]:
        """Circuits and shots of this step: compiled calls do not pass through a device's tracker, so evaluations are counted."""
        plan, each = self._plan, self._objective.evaluations / self._driver.count
        if plan is None or (plan.circuits_per_step is None and self._driver.calls_objective):
            return {}
        shots = each * (plan.shots_per_step or 0) + step.shots
        return {"executions": each * (plan.circuits_per_step or 0) + step.executions, **({"shots": shots} if shots else {})}

    def _diagnose(self, gradient: Sequence[Any], at: Any) -> None:
        """Warn of what the first gradients tell."""
        import numpy as np

        for kept, leaves in ((self._slopes, gradient), (self._points, self._shape.split(self._shape.flatten(at))[0])):
            kept.append(np.concatenate([to_numpy(leaf).reshape(-1) for leaf in leaves]))
        if len(self._slopes) != self._step + 1:  # taken up in the middle of the first steps
            return
        widths = [len(device.wires) for device in self._devices if device.wires is not None]
        problem = diagnosis.complaint(self._slopes, self._points, shots=self._shots, wires=max(widths, default=None))
        if problem:
            warnings.warn(f"{_WHERE}: {problem}", stacklevel=7)  # where train was called

    def _progress(self, length: float | None) -> stopping.Progress:
        return stopping.Progress(
            step=self._step,
            value=self._value,
            gradient_norm=length,
            elapsed_s=self._elapsed(),
            shots=self._shots,
            values=self._history[self._call.value_name],
            gradient_norms=self._history["gradient_norm"],
            params=self._params,
        )

    def _elapsed(self) -> float:
        return self._elapsed_s + time.monotonic() - self._began_s

    # Checkpoints -----------------------------------------------------------------------------------------------------------

    def _snapshot(self) -> dict[str, Any]:
        assert self._best is not None
        if self._call.compile == "auto":  # a resumed job must not compile what an uninterrupted one compiles no more
            self._objective.look()
        return {
            "step": self._step,
            "structure": [[leaf.path, leaf.dtype, list(leaf.shape)] for leaf in self._shape.leaves],
            "params": self._arrays(self._params),
            "optimizer": {
                "name": self._driver.name,
                "state": None if isinstance(self._driver, Minimizer) else self._driver.dump(self._state),
            },
            "best": {"value": self._best.value, "step": self._best.step, "params": self._arrays(self._best.params)},
            "value": self._value,
            "value_name": self._call.value_name,
            "history": self._history.columns(),
            "rng": self._rng.capture(),
            "batches": self._batches.state(),
            "elapsed_s": self._elapsed(),
            "stopped_by": self._stopped_by,
            "ran": self._ran,
            "changed": self._objective.reason if self._objective.was_changed else "",
        }

    def _arrays(self, params: Any) -> list[Any]:
        return [to_numpy(leaf).copy() for leaf in self._shape.flatten(params)]

    def _take_up(self, saved: Mapping[str, Any]) -> None:
        """Put everything back as it was at a step boundary.

        Raises:
            CheckpointError: It was not saved by this call of ``train``.
        """
        self._check_same(saved)
        self._step = saved["step"]
        self._params = self._shape.rebuild(saved["params"])
        self._best = Best(saved["best"]["value"], self._shape.rebuild(saved["best"]["params"]), saved["best"]["step"])
        self._last_finite = self._params
        self._value = saved["value"]
        self._history = History(saved["history"], self._step)
        self._elapsed_s = saved["elapsed_s"]
        self._stopped_by = saved["stopped_by"]
        self._ran = dict(saved["ran"])
        if saved["changed"] and self._call.compile == "auto":
            self._objective.forgo(saved["changed"])
            self._objective.was_changed = True
        self._batches.load(saved["batches"])
        if not isinstance(self._driver, Minimizer):
            self._state = self._driver.load(saved["optimizer"]["state"], self._params)
        self._rng.restore(saved["rng"])

    def _check_same(self, saved: Mapping[str, Any]) -> None:
        leaves = tuple(Leaf(path, "", tuple(shape), dtype, True) for path, dtype, shape in saved["structure"])
        found = Structure(leaves, None, "").differences(self._shape)
        if saved["optimizer"]["name"] != self._driver.name:
            found.append(f"the optimizer was {saved['optimizer']['name']} and is {self._driver.name}")
        if saved["value_name"] != self._call.value_name:
            found.append(f"value_name was {saved['value_name']!r} and is {self._call.value_name!r}")
        if found:
            listed = "".join(f"\n  - {difference}" for difference in found)
            raise CheckpointError(
                f"The checkpoint of the loop {self._section.name!r} at step {saved['step']} is of another program:{listed}\n"
                "Submit the changed program as a new job, or give its loop another name=."
            )
