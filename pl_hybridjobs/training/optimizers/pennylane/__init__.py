"""PennyLane's optimizers, by their families. The loop works on a copy of the user's object."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from typing import Any

from pl_hybridjobs.training.optimizers import Misfit, Problem

#: Class of PennyLane, and the module and class here that drive it. The first that fits is taken, so subclasses come first.
_KINDS = (
    ("RiemannianGradientOptimizer", "riemannian", "Riemannian"),
    ("RotosolveOptimizer", "rotation", "Rotosolve"),
    ("RotoselectOptimizer", "rotation", "Rotoselect"),
    ("QNGOptimizerQJIT", "natural", "JaxNaturalGradient"),
    ("QNSPSAOptimizer", "spsa", "Qnspsa"),
    ("SPSAOptimizer", "spsa", "Spsa"),
    ("QNGOptimizer", "natural", "NaturalGradient"),
    ("ShotAdaptiveOptimizer", "shots", "ShotAdaptive"),
    ("GradientDescentOptimizer", "gradient", "Gradient"),
)
_ADVICE = {
    "AdaptiveOptimizer": "it grows a circuit gate by gate, and train works on the parameters of one: grow the circuit by its step_and_cost "
    "in a loop of your own first, then train the parameters of what came out with another optimizer",
}


def adapt(optimizer: Any, problem: Problem) -> Any:
    """See ``optimizers.adapter``."""
    if "pennylane" not in sys.modules:
        return None
    package = importlib.import_module("pennylane.optimize")
    optimizer, options = _unbound(optimizer)
    name = type(optimizer).__name__
    for known, module, kind in _KINDS:
        if isinstance(optimizer, getattr(package, known, ())):
            found: Any = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
            _check_interface(name, problem.shape.interface, found.interface)
            if options and kind != "Rotosolve":
                raise Misfit(f"{name} takes no options for its steps in train ({', '.join(options)}); give the optimizer itself")
            return found(optimizer, problem, **options)
    if name in _ADVICE and isinstance(optimizer, getattr(package, name, ())):
        raise Misfit(f"{name} cannot be used with train: {_ADVICE[name]}")
    return None


def _unbound(optimizer: Any) -> tuple[Any, dict[str, Any]]:
    """The optimizer and the options of ``functools.partial(optimizer.step_and_cost, **options)``."""
    method = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    if not inspect.ismethod(method) or method.__name__ not in ("step", "step_and_cost"):
        return optimizer, {}
    return method.__self__, dict(optimizer.keywords) if isinstance(optimizer, functools.partial) else {}


def _check_interface(name: str, given: str, wanted: str) -> None:
    if given in ("", wanted):  # "" is complained of already
        return
    if wanted == "jax":
        other = f"give params as JAX arrays, or use {name.removesuffix('QJIT')}" if given == "autograd" else "use one of torch.optim"
        raise Misfit(f"{name} takes JAX arrays, but params is of {given}; {other}")
    other = {"jax": "an optax optimizer", "torch": "one of torch.optim"}[given]
    raise Misfit(f"{name} takes NumPy arrays and PennyLane tensors, but params is of {given}; use {other}, or NumPy arrays")
