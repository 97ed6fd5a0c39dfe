"""PennyLane's optimizers. The optimizer object itself is the state; the loop works on a copy of the user's."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.training.counting import Counter
from pl_hybridjobs.training.optimizers import Misfit, Problem, Step
from pl_hybridjobs.training.parameters import to_numpy

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective

_NEED_ONE_QNODE = ("QNGOptimizer", "MomentumQNGOptimizer", "QNSPSAOptimizer")


def adapt(optimizer: Any, problem: Problem) -> Any:
    """See ``optimizers.adapter``."""
    qml = sys.modules.get("pennylane")
    if qml is None or not (type(optimizer).__module__.startswith("pennylane.") or isinstance(optimizer, qml.GradientDescentOptimizer)):
        return None
    name = type(optimizer).__name__
    if problem.shape.interface not in ("", "autograd"):
        other = {"jax": "an optax optimizer", "torch": "one of torch.optim"}[problem.shape.interface]
        raise Misfit(
            f"{name} takes NumPy arrays and PennyLane tensors, but params is of {problem.shape.interface}; use {other}, or NumPy arrays"
        )
    if isinstance(optimizer, tuple(getattr(qml, known) for known in _NEED_ONE_QNODE)):
        _check_one_qnode(name, problem)
        kind = Qnspsa if isinstance(optimizer, qml.QNSPSAOptimizer) else NaturalGradient
        return kind(optimizer, problem)
    if isinstance(optimizer, qml.SPSAOptimizer):
        return Spsa(optimizer, problem)
    if isinstance(optimizer, qml.GradientDescentOptimizer) and not isinstance(optimizer, qml.ShotAdaptiveOptimizer):
        return Gradient(optimizer, problem)
    raise Misfit(f"{name} cannot be used with train; call its step_and_cost inside training_loop")


def _check_one_qnode(name: str, problem: Problem) -> None:
    import pennylane as qml

    if not isinstance(problem.fn, qml.QNode):
        raise Misfit(f"{name} needs the objective to be a QNode itself: it looks at the geometry of its states")
    if len(problem.shape.leaves) != 1:
        raise Misfit(
            f"{name} needs params to be one array, not {len(problem.shape.leaves)}; put them into one, and slice it in the circuit"
        )


class Gradient:
    """The family of ``GradientDescentOptimizer``: they take a gradient, or ask for one at a place of their own choice."""

    method = ""
    evaluations: Literal["gradient", "value"] = "gradient"
    count = 1

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        self._optimizer = copy.deepcopy(optimizer)
        self._shape = problem.shape
        self._fn: Any = problem.fn
        self.name = type(optimizer).__name__

    def init(self, _params: Any) -> Any:
        """See ``Optimizer.init``."""
        return copy.deepcopy(self._optimizer)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        evaluation = _Evaluation(objective)
        new, _ = state.step_and_cost(objective.value, *self._shape.flatten(params), grad_fn=evaluation)
        return self._stepped(new, state, evaluation)

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return copy.deepcopy(state)

    def load(self, dumped: Any, _params: Any) -> Any:
        """See ``Adapter.load``."""
        return dumped

    def _stepped(self, new: Any, state: Any, evaluation: _Evaluation) -> Step:
        leaves = [new] if len(self._shape.leaves) == 1 else new
        return Step(self._shape.rebuild(leaves), state, evaluation.forward, evaluation.gradient)


class _Evaluation:
    """Looks like ``qml.grad(objective)``: called with leaves, it gives the gradient, and keeps the value that comes with it."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.forward = float("nan")
        self.gradient: list[Any] = []

    def __call__(self, *args: Any, **_: Any) -> Any:
        shape = self._objective.shape
        self.forward, self.gradient = self._objective.value_and_gradient(shape.unflatten(args[: len(shape.leaves)]))
        return self.gradient[0] if len(self.gradient) == 1 else tuple(self.gradient)


class NaturalGradient(Gradient):
    """``QNGOptimizer`` and ``MomentumQNGOptimizer``: the metric tensor is PennyLane's, value and gradient are ours."""

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        import pennylane as qml

        evaluation, counter = _Evaluation(objective), Counter()

        def metric_tensor(*args: Any, **kwargs: Any) -> Any:
            with counter.watch([self._fn.device]):
                return qml.metric_tensor(self._fn, approx=state.approx)(*args, **kwargs)

        args = (*objective.args, *objective.batch)
        new, _ = state.step_and_cost(self._fn, params, *args, grad_fn=evaluation, metric_tensor_fn=metric_tensor)
        step = self._stepped(new[0] if isinstance(new, tuple | list) else new, state, evaluation)
        return replace(step, executions=counter.executions, shots=counter.shots)


class Spsa(Gradient):
    """``SPSAOptimizer``: the value is the mean of the two that the gradient's estimate is made of, so that none is bought besides."""

    method = "spsa"
    evaluations = "value"
    count = 2

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        values = []

        def fn(*leaves: Any) -> Any:
            values.append(objective.value(self._shape.unflatten(leaves)))
            return to_numpy(values[-1])

        leaves = self._shape.flatten(params)
        gradient = state.compute_grad(fn, leaves, {})
        new = state.apply_grad(gradient, leaves)
        state.k += 1
        return Step(self._shape.rebuild(new), state, sum(values) / len(values), list(gradient))


class Qnspsa(Gradient):
    """``QNSPSAOptimizer``: it makes circuits of its own from the QNode, and gives the value."""

    method = "spsa"
    evaluations = "value"
    count = 8

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        super().__init__(optimizer, problem)
        self.count = 6 * optimizer.resamplings + (2 if optimizer.blocking else 1)

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        counter = Counter()
        with counter.watch([self._fn.device]):
            new, value = state.step_and_cost(self._fn, params, *objective.args, *objective.batch)
        (leaf,) = self._shape.leaves
        rebuilt = self._shape.rebuild([to_numpy(new).reshape(leaf.shape)])
        return Step(rebuilt, state, float(value), executions=counter.executions, shots=counter.shots)
