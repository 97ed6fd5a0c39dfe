"""The family of ``GradientDescentOptimizer``: the optimizer object itself is the state."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.training.optimizers import Adapter, Problem, Step

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective


class Gradient(Adapter):
    """They take a gradient, or ask for one at a place of their own choice."""

    interface = "autograd"

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        self._optimizer = copy.deepcopy(optimizer)
        self._shape = problem.shape
        self._fn: Any = problem.fn
        self.name = type(optimizer).__name__

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        del params
        return copy.deepcopy(self._optimizer)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        trainable, fixed = self._shape.split(self._shape.flatten(params))
        evaluation = Evaluation(objective, fixed)
        new, _ = state.step_and_cost(evaluation.value, *trainable, grad_fn=evaluation)
        return self._stepped(trainable, [new] if len(trainable) == 1 else new, fixed, state, evaluation)

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return copy.deepcopy(state)

    def load(self, dumped: Any, params: Any) -> Any:
        """See ``Adapter.load``."""
        del params
        return dumped

    def _stepped(self, old: Sequence[Any], new: Sequence[Any], fixed: Sequence[Any], state: Any, evaluation: Evaluation) -> Step:
        def nest(leaves: Sequence[Any]) -> Any:
            return self._shape.rebuild(self._shape.flatten(self._shape.merge(leaves, fixed)))

        stayed = all(one is other for one, other in zip(evaluation.at, old, strict=True))
        return Step(nest(new), state, evaluation.forward, evaluation.gradient, at=None if stayed else nest(evaluation.at))


class Evaluation:
    """Looks like ``qml.grad(objective)``: called with the leaves to train, it gives their gradient, and keeps the value that comes with it.

    Attributes:
        forward: The value.
        gradient: An array for each leaf.
        at: The leaves where it was asked for, which need not be those of the step (Nesterov's momentum).
    """

    def __init__(self, objective: Objective, fixed: Sequence[Any]) -> None:
        self._objective = objective
        self._fixed = fixed
        self.forward = float("nan")
        self.gradient: list[Any] = []
        self.at: Sequence[Any] = ()

    def __call__(self, *leaves: Any, **_: Any) -> Any:
        """The gradient, bare if there is one leaf."""
        self.at = leaves[: len(self._objective.shape.trainable)]  # the rest are arguments of the objective, which it knows itself
        self.forward, self.gradient = self._objective.value_and_gradient(self._nest(self.at))
        return self.gradient[0] if len(self.gradient) == 1 else tuple(self.gradient)

    def value(self, *leaves: Any) -> float:
        """The objective without its gradient."""
        return self._objective.value(self._nest(leaves))

    def _nest(self, leaves: Sequence[Any]) -> Any:
        return self._objective.shape.merge(leaves, self._fixed)
