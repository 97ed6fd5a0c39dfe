"""Quantum natural gradients: the metric tensor is PennyLane's, value and gradient are the objective's."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.training.counting import Counter
from pl_hybridjobs.training.optimizers import Adapter, Problem, Step
from pl_hybridjobs.training.optimizers.pennylane.gradient import Evaluation, Gradient
from pl_hybridjobs.training.optimizers.pennylane.single import check_single, held
from pl_hybridjobs.training.parameters import to_numpy

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective

_WHY = "it looks at the geometry of its states"
_NOTE = "and those of the metric tensor"


class NaturalGradient(Gradient):
    """``QNGOptimizer`` and ``MomentumQNGOptimizer``."""

    note = _NOTE

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        super().__init__(optimizer, problem)
        check_single(self.name, problem, _WHY)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        import pennylane as qml

        evaluation, counter = Evaluation(objective, ()), Counter()

        def metric_tensor(*args: Any, **kwargs: Any) -> Any:
            with counter.watch([self._fn.device]):
                return qml.metric_tensor(self._fn, approx=state.approx)(*args, **kwargs)

        args = held((*objective.args, *objective.batch))
        new, _ = state.step_and_cost(self._fn, params, *args, grad_fn=evaluation, metric_tensor_fn=metric_tensor)
        step = self._stepped([params], [new[0] if isinstance(new, tuple | list) else new], (), state, evaluation)
        return replace(step, executions=counter.executions, shots=counter.shots)


class JaxNaturalGradient(Adapter):
    """``QNGOptimizerQJIT`` and ``MomentumQNGOptimizerQJIT``: the state is what their ``init`` gives, an array or None."""

    interface = "jax"
    note = _NOTE

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        self.name = type(optimizer).__name__
        check_single(self.name, problem, _WHY)
        self._optimizer = copy.deepcopy(optimizer)
        self._fn: Any = problem.fn

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        return self._optimizer.init(params)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        counter = Counter()
        value, gradient = objective.value_and_gradient(params)
        with counter.watch([self._fn.device]):
            metric = self._metric(params, (*objective.args, *objective.batch))
        new, state = self._optimizer._apply_grad(metric, gradient[0], params, state)
        return Step(new.astype(params.dtype), state, value, gradient, executions=counter.executions, shots=counter.shots)

    def _metric(self, params: Any, args: tuple[Any, ...]) -> Any:
        """The regularised metric tensor, shape (n, n). By autograd: with some versions of JAX, PennyLane's own way by it fails."""
        import jax.numpy as jnp
        import numpy as np
        import pennylane as qml

        size, optimizer = math.prod(params.shape), self._optimizer
        found = qml.metric_tensor(self._fn.update(interface="auto"), approx=optimizer.approx)(
            qml.numpy.array(to_numpy(params), requires_grad=True), *held(args)
        )
        return jnp.asarray(to_numpy(found).reshape(size, size) + optimizer.lam * np.eye(size), dtype=params.dtype)

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return state

    def load(self, dumped: Any, params: Any) -> Any:
        """See ``Adapter.load``."""
        del params
        return dumped
