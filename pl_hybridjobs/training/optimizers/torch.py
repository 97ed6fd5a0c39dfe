"""torch's optimizers: a function that makes one from a list of tensors, or one that was made already."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.training.optimizers import Misfit, Problem, Step

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure


def adapt(optimizer: Any, problem: Problem) -> Torch | None:
    """See ``optimizers.adapter``."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    is_class = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    is_instance = isinstance(optimizer, torch.optim.Optimizer)
    if not is_instance and not is_class and (problem.shape.interface != "torch" or not callable(optimizer)):
        return None
    if problem.shape.interface != "torch":
        name = optimizer.__name__ if is_class else type(optimizer).__name__
        raise Misfit(f"torch's {name} needs params to be torch tensors, and they are of {problem.shape.interface or 'several interfaces'}")
    return Torch(_copier(optimizer, problem) if is_instance else optimizer, problem.shape)


def _copier(optimizer: Any, problem: Problem) -> Callable[[Sequence[Any]], Any]:
    """Makes copies of an optimizer for other tensors: the user's own tensors and optimizer stay as they are."""
    place = {id(leaf): i for i, leaf in enumerate(problem.shape.flatten(problem.params))}
    known = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if sorted(known) != sorted(place):
        raise Misfit(
            f"{type(optimizer).__name__} was made for other tensors than params; give a function instead: "
            f"optimizer=lambda tensors: torch.optim.{type(optimizer).__name__}(tensors, lr=...)"
        )

    def make(leaves: Sequence[Any]) -> Any:
        made = copy.deepcopy(optimizer)
        before = {
            id(new): id(old)
            for g, h in zip(made.param_groups, optimizer.param_groups, strict=True)
            for new, old in zip(g["params"], h["params"], strict=True)
        }
        state = {leaves[place[before[id(p)]]]: value for p, value in made.state.items()}
        for group in made.param_groups:
            group["params"] = [leaves[place[before[id(p)]]] for p in group["params"]]
        made.state.clear()
        made.state.update(state)
        return made

    return make


class Torch:
    """Any ``torch.optim.Optimizer``. Between steps the state is the optimizer with its tensors; a checkpoint gets its ``state_dict``."""

    name = "torch"
    method = ""
    evaluations: Literal["gradient", "value"] = "gradient"
    count = 1

    def __init__(self, make: Callable[[Sequence[Any]], Any], shape: Structure) -> None:
        self._make = make
        self._shape = shape

    def init(self, params: Any) -> tuple[Any, list[Any]]:
        """See ``Optimizer.init``."""
        import torch

        leaves = [leaf.detach().clone().requires_grad_() for leaf in self._shape.flatten(params)]
        optimizer = self._make(leaves)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Misfit(f"optimizer(tensors) gave {type(optimizer).__name__}, which is no torch.optim.Optimizer")
        self.name = type(optimizer).__name__
        return optimizer, leaves

    def step(self, objective: Objective, _params: Any, state: tuple[Any, list[Any]]) -> Step:
        """See ``Optimizer.step``."""
        import torch

        optimizer, leaves = state
        first: list[tuple[float, list[Any]]] = []

        def closure() -> Any:
            value, gradient = objective.value_and_gradient(self._shape.unflatten(leaves))
            for leaf, g in zip(leaves, gradient, strict=True):
                leaf.grad = g.to(leaf.dtype).reshape(leaf.shape)
            if not first:
                first.append((value, [g.clone() for g in gradient]))
            return torch.tensor(value)

        optimizer.step(closure)
        value, gradient = first[0]
        return Step(self._shape.rebuild(leaves), state, value, gradient)

    def dump(self, state: tuple[Any, list[Any]]) -> Any:
        """See ``Adapter.dump``."""
        return copy.deepcopy(state[0].state_dict())

    def load(self, dumped: Any, params: Any) -> tuple[Any, list[Any]]:
        """See ``Adapter.load``."""
        optimizer, leaves = self.init(params)
        optimizer.load_state_dict(dumped)
        return optimizer, leaves
