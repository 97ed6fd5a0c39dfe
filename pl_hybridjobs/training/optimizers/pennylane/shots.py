"""Shots that adapt to the noise of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pl_hybridjobs.training.counting import Counter
from pl_hybridjobs.training.optimizers import Misfit, Problem, Step
from pl_hybridjobs.training.optimizers.pennylane.gradient import Gradient
from pl_hybridjobs.training.optimizers.pennylane.single import check_single, held

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective


class ShotAdaptive(Gradient):
    """``ShotAdaptiveOptimizer``: it takes the QNode's gradient shot by shot, and its value by as many shots again."""

    method = "parameter-shift"
    unplanned = "the optimizer chooses the shots of each step by itself"
    calls_objective = False

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        super().__init__(optimizer, problem)
        check_single(self.name, problem, "it looks at single shots")
        if not self._fn.shots:
            raise Misfit(f"{self.name} needs a QNode with shots, and this one is analytic: write qml.set_shots(circuit, 100)")

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        counter = Counter()
        with counter.watch([self._fn.device]):
            new, value = state.step_and_cost(self._fn, params, *held((*objective.args, *objective.batch)))
        new = new[0] if isinstance(new, tuple | list) else new
        return Step(self._shape.rebuild([new]), state, float(value), executions=counter.executions, shots=counter.shots)
