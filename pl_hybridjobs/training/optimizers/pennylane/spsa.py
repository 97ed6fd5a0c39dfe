"""Simultaneous perturbations. They draw from NumPy's global generator, or one of their own; checkpoints hold both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.training.counting import Counter
from pl_hybridjobs.training.optimizers import Problem, Step
from pl_hybridjobs.training.optimizers.pennylane.gradient import Gradient
from pl_hybridjobs.training.optimizers.pennylane.single import check_single, held
from pl_hybridjobs.training.parameters import to_numpy

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective


class Spsa(Gradient):
    """``SPSAOptimizer``: the value is the mean of the two that the gradient's estimate is made of, so that none is bought besides."""

    method = "spsa"
    evaluations: Literal["gradient", "value"] = "value"
    count = 2

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        trainable, fixed = self._shape.split(self._shape.flatten(params))
        values: list[float] = []

        def fn(*leaves: Any) -> Any:
            values.append(objective.value(self._shape.merge(leaves, fixed)))
            return to_numpy(values[-1])

        gradient = state.compute_grad(fn, trainable, {})
        new = state.apply_grad(gradient, trainable)
        state.k += 1
        rebuilt = self._shape.rebuild(self._shape.flatten(self._shape.merge(new, fixed)))
        return Step(rebuilt, state, sum(values) / len(values), list(gradient))


class Qnspsa(Gradient):
    """``QNSPSAOptimizer``: it makes circuits of its own from the QNode, and gives the value."""

    method = "spsa"
    evaluations: Literal["gradient", "value"] = "value"
    calls_objective = False

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        super().__init__(optimizer, problem)
        check_single(self.name, problem, "it makes further circuits from it")
        self.count = 2 * optimizer.resamplings + (2 if optimizer.blocking else 1)
        self.note = f"and {4 * optimizer.resamplings} for the metric tensor"

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        counter = Counter()
        with counter.watch([self._fn.device]):
            new, value = state.step_and_cost(self._fn, params, *held((*objective.args, *objective.batch)))
        (leaf,) = self._shape.leaves
        new = new[0] if isinstance(new, tuple | list) else new
        rebuilt = self._shape.rebuild([to_numpy(new).reshape(leaf.shape)])
        return Step(rebuilt, state, float(value), executions=counter.executions, shots=counter.shots)
