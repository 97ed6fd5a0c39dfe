"""What one step of training will cost, known before anything is run."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pl_hybridjobs.cost.forecast import Forecast, Purchase
from pl_hybridjobs.cost.prices import price_of
from pl_hybridjobs.training.circuits import reach, replaced
from pl_hybridjobs.training.rng import RandomStates

_UNKNOWN = "the circuits of a step are not known before the first one"


@dataclass(frozen=True)
class GradientPlan:
    """How a step gets its gradient, and what it asks of the devices.

    Args:
        gradient_method: As PennyLane calls it: "adjoint", "backprop", "parameter-shift", "finite-diff", "hadamard", "spsa", ...;
            "mixed: a, b" for several; "none" where no circuit is differentiated.
        circuits_per_step: Executions, as ``qml.Tracker`` counts them, and each circuit whose derivatives, or products with them, the device
            itself computes, once more. An execution is what hardware would run and bill: a Hamiltonian is one for each group of its
            terms that can be measured together, a batch one for each member. So adjoint is 2, one forward and one derivative; backprop
            is 1; a shift rule is one forward and the circuits that the rule makes. None: not known. (Where a device computes derivatives by
            another of its tracked methods, its tracker counts them twice; here they count once.)
        shots_per_step: Of all these circuits together; None: analytic, or not known.
        devices: Names of the devices that run them.
        notes: What else to know, such as why something is not known.
        purchases: What a step buys of each device that costs money, or whose price is not known.
        run: What is left of the run will buy that; None: nothing, or not known.
        raised: What the objective raised where its circuits' results were placeholders; "" if nothing.
    """

    gradient_method: str
    circuits_per_step: int | None
    shots_per_step: int | None
    devices: tuple[str, ...]
    notes: tuple[str, ...] = ()
    purchases: tuple[Purchase, ...] = ()
    run: Forecast | None = None
    raised: str = ""

    @property
    def cost_per_step(self) -> float | None:
        """US dollars; None where circuits or a price are not known, or time is billed (then ``purchases`` know the least)."""
        if not self.purchases and any(price_of(name) is None for name in self.devices):
            return None
        if self.circuits_per_step is None or not all(purchase.is_exact for purchase in self.purchases):
            return None
        return float(sum(purchase.least_usd or 0 for purchase in self.purchases))

    def over(self, steps: int, *, may_end_sooner: bool = False) -> GradientPlan:
        """With what so many steps will buy, in ``run``."""
        return replace(self, run=Forecast(steps, self.purchases, may_end_sooner)) if self.purchases else self

    def __str__(self) -> str:
        method = "values only" if self.gradient_method == "none" else self.gradient_method
        on = f" on {', '.join(self.devices)}" if self.devices else ""
        if self.circuits_per_step == 0:
            line = "no circuits"
        elif self.circuits_per_step is None:
            line = f"{method}{on}"
        else:
            line = f"{method}{on}: {self.circuits_per_step} circuit{'s' if self.circuits_per_step > 1 else ''} a step"
        if self.shots_per_step is not None:
            line += f", {self.shots_per_step} shots"
        if self.purchases:
            line += f"; {self.run or Forecast(1, self.purchases)}"
        return "; ".join([line, *self.notes])


def plan_gradient(
    objective: Callable[..., Any],
    params: Any,
    args: Sequence[Any] = (),
    *,
    evaluations: Literal["gradient", "value"] = "gradient",
    count: int = 1,
) -> GradientPlan:
    """What a step costs that evaluates ``objective(params, *args)``, found by one evaluation in which devices run nothing.

    A copy of the objective is evaluated and differentiated as in training, but its devices are stand-ins (``standin.StandIn``) that
    count what they are asked and answer with placeholders. Nothing that the caller holds is changed: lists, arrays, generators and
    variables that the objective uses are copied with it, and the random states are afterwards what they were. What it prints or
    sends is printed and sent.

    Args:
        objective: Returns a scalar, or a tuple that begins with one.
        params: An array or tensor of NumPy, PennyLane, JAX or PyTorch, or a nest of them. Tensors with ``requires_grad=False`` are not
            trained (in PyTorch: if others are).
        args: Further arguments.
        evaluations: What a step needs: values with their gradients, or values.
        count: How many of them.

    Returns:
        A plan without a number, and a note that says why, where the objective makes its devices itself or fails on placeholders.
    """
    reached = reach((objective, tuple(args)))
    names = tuple(dict.fromkeys(str(device.name) for device in reached.devices))
    if not reached.complete:
        return GradientPlan("unknown", None, None, names, notes=(f"{_UNKNOWN}: the objective reaches too many objects",))
    if reached.makes_devices:
        note = f"{_UNKNOWN}: the objective can make devices of its own; make them outside of it"
        return GradientPlan("unknown", None, None, names, notes=(note,))
    from pl_hybridjobs.training.standin import Counts, StandIn

    counts = Counts()
    stand_ins = {device: StandIn(device, counts) for device in reached.devices}
    with _random_states_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            copied, arguments = replaced((objective, tuple(args)), stand_ins, isolated=True)
            _evaluate(copied, params, arguments, evaluations == "gradient")
        except Exception as error:  # noqa: BLE001 - placeholders may lead anywhere; the first step shows whether it is a mistake
            raised = f"{type(error).__name__}: {error}"
            if not names:
                return GradientPlan("none", 0, None, (), raised=raised)
            note = f"{_UNKNOWN}: with placeholders for results, the objective raised {raised}"
            return GradientPlan(_method(counts.methods) if counts.methods else "unknown", None, None, names, notes=(note,), raised=raised)
    circuits, shots = count * (counts.executions + counts.derivatives), count * counts.shots
    method = _method(counts.methods if evaluations == "gradient" else [])
    return GradientPlan(method, circuits, shots or None, tuple(counts.devices), purchases=tuple(counts.purchases(count)))


def _method(methods: Sequence[str]) -> str:
    if len(methods) > 1:
        return f"mixed: {', '.join(methods)}"
    return methods[0] if methods else "none"


# One evaluation ------------------------------------------------------------------------------------------------------------


def _evaluate(objective: Callable[..., Any], params: Any, args: Sequence[Any], is_gradient: bool) -> None:
    import numpy as np
    import pennylane as qml

    def value(params: Any) -> Any:
        result = objective(params, *args)
        return result[0] if isinstance(result, tuple) else result

    jax = sys.modules.get("jax")
    with np.errstate(all="ignore"):
        if jax is not None and any(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(params)):
            (jax.grad(value) if is_gradient else value)(params)
            return
        leaves, structure = qml.pytrees.flatten(params)
        by = _by_torch if any(type(leaf).__module__.startswith("torch") for leaf in leaves) else _by_autograd
        by(lambda *leaves: value(qml.pytrees.unflatten(leaves, structure)), leaves, is_gradient)


def _by_autograd(value: Callable[..., Any], leaves: list[Any], is_gradient: bool) -> None:
    import numpy as np
    import pennylane as qml

    leaves = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
    trained = [i for i, leaf in enumerate(leaves) if getattr(leaf, "requires_grad", True)]
    if is_gradient and trained:
        qml.grad(value, argnums=trained)(*leaves)
    else:
        value(*leaves)


def _by_torch(value: Callable[..., Any], leaves: list[Any], is_gradient: bool) -> None:
    import torch

    are_marked = any(getattr(leaf, "requires_grad", False) for leaf in leaves)

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.detach().clone().requires_grad_(leaf.requires_grad or (is_gradient and not are_marked))

    leaves = [own(leaf) for leaf in leaves]
    result = value(*leaves)
    trained = [leaf for leaf in leaves if getattr(leaf, "requires_grad", False)]
    if is_gradient and trained and result.requires_grad:
        torch.autograd.grad(result, trained, allow_unused=True)


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Global random states are afterwards what they were."""
    torch, states = sys.modules.get("torch"), RandomStates()
    before = states.capture()
    gpu_states = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        states.restore(before)
        if torch and gpu_states is not None:
            torch.cuda.set_rng_state_all(gpu_states)
