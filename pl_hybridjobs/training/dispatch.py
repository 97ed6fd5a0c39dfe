"""Lets code that was written for NumPy be traced by JAX: ``np.sin(x)`` becomes ``jax.numpy.sin(x)`` where ``x`` is a tracer.

The code itself stays as it is. A copy of the function refers to stand-ins for the modules ``numpy``, ``pennylane.numpy``,
``autograd.numpy`` and ``math``, which decide at each call: constants are computed by the module itself, what is traced by JAX's function of
the same name.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from pl_hybridjobs.training.circuits import replaced

_T = TypeVar("_T", bound=Callable[..., Any])
_MODULES = ("numpy", "pennylane.numpy", "autograd.numpy", "math")


def traceable(fn: _T) -> _T:
    """A copy of a function in which these modules take tracers; the function itself if it refers to none of them."""
    import jax.numpy as jnp

    modules = [math, *(sys.modules[name] for name in _MODULES if name in sys.modules)]
    return replaced(fn, {module: _StandIn(module, jnp) for module in modules})


class _StandIn(ModuleType):
    """Looks like a module, and hands calls with tracers to another one."""

    def __init__(self, module: ModuleType, other: ModuleType) -> None:
        super().__init__(module.__name__)
        self._hj_module = module
        self._hj_other = other

    def __getattr__(self, name: str) -> Any:
        value, other = getattr(self._hj_module, name), getattr(self._hj_other, name, None)
        if isinstance(value, ModuleType) and isinstance(other, ModuleType):
            value = _StandIn(value, other)
        elif callable(value) and not isinstance(value, type) and callable(other):
            value = _either(value, other)
        self.__dict__[name] = value
        return value


def _either(function: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            kwargs.pop("requires_grad", None)  # of PennyLane's functions that make arrays
            return other(*args, **kwargs)
        return function(*args, **kwargs)

    return call
