"""torch's optimizers: a function that makes one from a list of tensors, or one that was made already."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.training.optimizers import Adapter, Misfit, Problem, Step, has_the_methods

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective


def adapt(optimizer: Any, problem: Problem) -> Torch | None:
    """See ``optimizers.adapter``."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    is_class = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    is_instance = isinstance(optimizer, torch.optim.Optimizer)
    is_factory = problem.shape.interface == "torch" and callable(optimizer) and not has_the_methods(optimizer)
    if not (is_instance or is_class or is_factory):
        return None
    if not problem.shape.interface:  # complained of already
        raise Misfit("torch's optimizers need params to be torch tensors throughout")
    if problem.shape.interface != "torch":
        name = optimizer.__name__ if is_class else type(optimizer).__name__
        raise Misfit(f"torch's {name} needs params to be torch tensors, and they are of {problem.shape.interface}")
    return Torch(_copier(optimizer, problem) if is_instance else optimizer, problem)


def _copier(optimizer: Any, problem: Problem) -> Callable[[Sequence[Any]], Any]:
    """Makes copies of an optimizer for other tensors: the user's own tensors and optimizer stay as they are."""
    name = type(optimizer).__name__
    trainable, fixed = (list(map(id, leaves)) for leaves in problem.shape.split(problem.shape.flatten(problem.params)))
    place = {leaf: i for i, leaf in enumerate(trainable)}
    known = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if sorted(set(known) - set(fixed)) != sorted(place):
        raise Misfit(
            f"{name} was made for other tensors than params; give a function instead: "
            f"optimizer=lambda tensors: torch.optim.{name}(tensors, lr=...)"
        )
    if hasattr(optimizer.step, "_wrapped_by_lr_sched") or getattr(optimizer.step, "_with_counter", False):
        raise Misfit(f"{name} has a learning rate scheduler, which train does not step; write the loop's body with training_loop")

    def make(leaves: Sequence[Any]) -> Any:
        made = copy.deepcopy(optimizer)
        before = {
            id(new): id(old)
            for g, h in zip(made.param_groups, optimizer.param_groups, strict=True)
            for new, old in zip(g["params"], h["params"], strict=True)
        }
        state = {leaves[place[before[id(p)]]]: value for p, value in made.state.items()}
        for group in made.param_groups:
            group["params"] = [leaves[place[before[id(p)]]] for p in group["params"] if before[id(p)] in place]
        made.state.clear()
        made.state.update(state)
        return made

    return make


class Torch(Adapter):
    """Any ``torch.optim.Optimizer``. Between steps the state is the optimizer with its tensors; a checkpoint gets its ``state_dict``."""

    def __init__(self, make: Callable[[Sequence[Any]], Any], problem: Problem) -> None:
        if problem.shape.complaints():  # complained of already
            raise Misfit("torch's optimizers need tensors of real floats")
        self._make = make
        self._shape = problem.shape
        self.name = "torch"
        self.name = type(self.init(problem.params)[0]).__name__  # made once to see whether it can be made
        if self.name == "SparseAdam":
            raise Misfit("SparseAdam needs sparse gradients, and those of train are dense; use Adam")

    def init(self, params: Any) -> tuple[Any, list[Any]]:
        """See ``Optimizer.init``."""
        import torch

        trainable, _ = self._shape.split(self._shape.flatten(params))
        leaves = [torch.as_tensor(leaf).detach().clone().requires_grad_() for leaf in trainable]
        try:
            optimizer = self._make(leaves)
        except Exception as error:
            raise Misfit(f"optimizer(tensors) raised {type(error).__name__}: {error}") from error
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise Misfit(f"optimizer(tensors) gave {type(optimizer).__name__}, which is no torch.optim.Optimizer")
        known = {id(leaf) for leaf in leaves}
        if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
            raise Misfit("optimizer(tensors) made an optimizer of other tensors than it was given; train works on copies of params")
        return optimizer, leaves

    def step(self, objective: Objective, params: Any, state: tuple[Any, list[Any]]) -> Step:
        """See ``Optimizer.step``."""
        import torch

        optimizer, leaves = state
        _, fixed = self._shape.split(self._shape.flatten(params))
        first: list[tuple[float, list[Any], dict[str, float]]] = []

        def closure() -> Any:
            value, gradient = objective.value_and_gradient(self._shape.merge(leaves, fixed))
            for leaf, g in zip(leaves, gradient, strict=True):
                leaf.grad = g.to(leaf.dtype).reshape(leaf.shape)
            if not first:
                first.append((value, [g.clone() for g in gradient], objective.aux))
            return torch.tensor(value, dtype=torch.float64)

        optimizer.step(closure)
        value, gradient, objective.aux = first[0]
        return Step(self._shape.rebuild(self._shape.flatten(self._shape.merge(leaves, fixed))), state, value, gradient)

    def dump(self, state: tuple[Any, list[Any]]) -> Any:
        """See ``Adapter.dump``."""
        return copy.deepcopy(state[0].state_dict())

    def load(self, dumped: Any, params: Any) -> tuple[Any, list[Any]]:
        """See ``Adapter.load``."""
        optimizer, leaves = self.init(params)
        optimizer.load_state_dict(dumped)
        # load_state_dict makes all floats those of the parameters; NAdam and others keep float32 beside float64.
        tensors = [p for group in optimizer.param_groups for p in group["params"]]
        for i, state in dumped["state"].items():
            optimizer.state[tensors[i]] = copy.deepcopy(state)
        return optimizer, leaves
