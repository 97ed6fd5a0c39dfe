"""Optimizers of any library behind one port.

An optimizer of your own needs two methods, and ``train(optimizer=...)`` takes it as it is::

    class Descent:
        def init(self, params):
            return {"count": 0}                      # a state that a checkpoint can hold

        def step(self, objective, params, state):
            value, gradient = objective.value_and_gradient(params)
            return Step(new_params, {"count": state["count"] + 1}, value, gradient)

Those of PennyLane, optax, torch and SciPy are wrapped by an adapter each; ``ADAPTERS`` names them.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure

#: The modules that know one library's optimizers each: ``adapt(optimizer, problem) -> Adapter | Minimizer | None``, asked in this order.
ADAPTERS = ("pennylane", "optax", "scipy", "torch")


@dataclass(frozen=True)
class Step:
    """What one step gave.

    Attributes:
        params: The new parameters, a nest like the old one. The old one is left as it was.
        state: The optimizer's new state.
        value: The objective at the old parameters.
        gradient: Its gradient there, an array for each trainable leaf; None where the method has none.
        norm: The gradient's Euclidean norm, if it is known already.
        at: The parameters that ``value`` belongs to; None: the old ones.
        executions: Circuits that the optimizer ran besides those of the objective.
        shots: Their shots.
    """

    params: Any
    state: Any
    value: float
    gradient: Any = None
    norm: float | None = None
    at: Any = None
    executions: int = 0
    shots: int = 0


@dataclass(frozen=True)
class Problem:
    """What an optimizer shall work on.

    Attributes:
        shape: The structure of the parameters.
        params: As the user gave them.
        fn: The objective as the user gave it.
        args: Its arguments that stay the same.
    """

    shape: Structure
    params: Any
    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()


class Optimizer(Protocol):
    """What ``train`` needs of an optimizer."""

    def init(self, params: Any) -> Any:
        """The state before the first step. Checkpoints store it, so it is made of what the codec holds."""

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """One step. May change and return the same state object."""


class Traits(Protocol):
    """What the loop asks about whatever drives it; the usual answers are the defaults.

    Attributes:
        name: For people, and to know a checkpoint by.
        method: How it comes to its gradient, if not by the devices' way; else "".
        evaluations: What a step asks for ...
        count: ... and how often.
        note: What these circuits leave out of account.
        unplanned: Why nobody knows before a step which circuits it runs; "" where the two above tell.
        calls_objective: Whether it evaluates by ``Objective``, which may be compiled, rather than by circuits of its own.
        needs_params: Whether there must be parameters.
    """

    name: str
    method: str = ""
    evaluations: Literal["gradient", "value"] = "gradient"
    count: int = 1
    note: str = ""
    unplanned: str = ""
    calls_objective: bool = True
    needs_params: bool = True


class Adapter(Traits, Optimizer, Protocol):
    """An optimizer whose state goes into a checkpoint by a way of its own."""

    def dump(self, state: Any) -> Any:
        """A copy of the state for a checkpoint; later steps do not change it."""

    def load(self, dumped: Any, params: Any) -> Any:
        """The state from a checkpoint."""


@runtime_checkable
class Minimizer(Traits, Protocol):
    """A method that drives its own loop, like SciPy's."""

    def minimize(self, objective: Objective, params: Any, steps: int, on_step: Callable[[Step], bool]) -> str:
        """Run until the method ends or ``on_step`` says True.

        Returns:
            Why the method ended, to be read after its name; "" if ``on_step`` ended it.
        """


class Custom(Adapter):
    """A user's object with the two methods."""

    def __init__(self, optimizer: Any, shape: Structure) -> None:
        self._optimizer = copy.deepcopy(optimizer)
        self._shape = shape
        self.name = type(optimizer).__name__

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        return self._optimizer.init(params)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        step = self._optimizer.step(objective, params, state)
        if not isinstance(step, Step):
            raise Misfit(f"{self.name}.step gave {type(step).__name__}; it must return pl_hybridjobs.training.optimizers.Step")
        if not self._fits(step.params):
            raise Misfit(f"{self.name}.step gave params of another structure than it got; it must return the same nest of the same shapes")
        return step

    def _fits(self, params: Any) -> bool:
        try:
            leaves = self._shape.flatten(params)
        except ValueError:
            return False
        return all(tuple(getattr(value, "shape", ())) == leaf.shape for value, leaf in zip(leaves, self._shape.leaves, strict=True))

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return copy.deepcopy(state)

    def load(self, dumped: Any, _params: Any) -> Any:
        """See ``Adapter.load``."""
        return dumped


class Misfit(Exception):
    """An optimizer that is known but cannot be used here; the text says why and what would work."""


def has_the_methods(optimizer: Any) -> bool:
    """Whether this is an object with the methods of ``Optimizer``; a class is none."""
    methods = (getattr(optimizer, name, None) for name in ("init", "step"))
    return not isinstance(optimizer, type) and all(map(callable, methods))


def adapter(optimizer: Any, problem: Problem) -> Adapter | Minimizer:
    """Find the adapter for an optimizer.

    Raises:
        Misfit: It does not fit the interface or the objective, or nobody knows it.
    """
    for name in ADAPTERS:
        module = importlib.import_module(f"pl_hybridjobs.training.optimizers.{name}")
        found: Adapter | Minimizer | None = module.adapt(optimizer, problem)
        if found is not None:
            return found
    if has_the_methods(optimizer):
        return Custom(optimizer, problem.shape)
    what = repr(optimizer)
    if isinstance(optimizer, type):
        what = f"the class {optimizer.__name__}; give an instance"
    elif inspect.isfunction(optimizer):
        what = f"the function {optimizer.__name__}; give what it returns"
    raise Misfit(
        f"optimizer is {what}. It takes an optimizer of PennyLane, an optax transformation, a torch optimizer (or a function that makes "
        "one from a list of tensors), the name of a method of scipy.optimize.minimize, or an object with the methods init and step"
    )
