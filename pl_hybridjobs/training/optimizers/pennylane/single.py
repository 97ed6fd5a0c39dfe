"""What optimizers need that run circuits of their own: the objective is one QNode, and its parameters one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pl_hybridjobs.training.optimizers import Misfit, Problem


def check_single(name: str, problem: Problem, why: str) -> None:
    """Raise ``Misfit`` unless ``name`` gets one QNode of one array."""
    import pennylane as qml

    if not isinstance(problem.fn, qml.QNode):
        raise Misfit(f"{name} needs the objective to be a QNode itself: {why}")
    if [leaf.path for leaf in problem.shape.leaves] != ["params"]:
        raise Misfit(f"{name} needs params to be one array, not a nest: put all parameters into one, and slice it in the circuit")


def held(args: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments that stay the same, so that no optimizer takes them for parameters."""
    from pennylane import numpy as pnp

    def hold(arg: Any) -> Any:
        return pnp.tensor(arg, requires_grad=False) if isinstance(arg, pnp.tensor) else arg

    return tuple(map(hold, args))
