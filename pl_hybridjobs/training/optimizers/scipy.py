"""SciPy's ``minimize`` methods by name. They drive their own loop, and cannot be taken up in its middle."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import did_you_mean
from pl_hybridjobs.training.optimizers import Minimizer, Misfit, Problem, Step
from pl_hybridjobs.training.parameters import to_numpy

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure

WITH_GRADIENT = ("CG", "BFGS", "L-BFGS-B", "Newton-CG", "TNC", "SLSQP", "trust-constr")
WITHOUT_GRADIENT = ("Nelder-Mead", "Powell", "COBYLA", "COBYQA")
_NEED_HESSIAN = ("dogleg", "trust-ncg", "trust-exact", "trust-krylov")
_OURS = ("fun", "x0", "args", "jac", "callback")
#: The option that limits a method, and how much of it one step may take at most: some count evaluations there, not iterations.
_LIMITS = {"TNC": ("maxfun", 100), "COBYLA": ("maxiter", 100)}
_KEPT = 4096  # evaluations whose values are remembered, to give the one of a step without computing it again


def adapt(optimizer: Any, problem: Problem) -> Scipy | None:
    """See ``optimizers.adapter``."""
    options: dict[str, Any] = {}
    if isinstance(optimizer, functools.partial) and _is_minimize(optimizer.func):
        options = dict(optimizer.keywords)
        taken = [name for name in _OURS if name in options] or (["positional arguments"] if optimizer.args else [])
        if taken:
            raise Misfit(f"scipy.optimize.minimize gets {', '.join(taken)} from train; leave that out of optimizer=functools.partial(...)")
        optimizer = options.pop("method", None)
        if not isinstance(optimizer, str):
            raise Misfit("optimizer=functools.partial(scipy.optimize.minimize, ...) needs method=, the name of one")
    elif _is_minimize(optimizer):
        raise Misfit("optimizer is scipy.optimize.minimize itself; give the name of its method, such as 'L-BFGS-B'")
    if not isinstance(optimizer, str):
        return None
    known = {name.lower(): name for name in WITH_GRADIENT + WITHOUT_GRADIENT}
    if optimizer.lower() in _NEED_HESSIAN:
        raise Misfit(f"optimizer={optimizer!r} needs second derivatives, which train does not give; 'trust-constr' and 'BFGS' do without")
    if optimizer.lower() not in known:
        hint = did_you_mean(optimizer.lower(), known)
        raise Misfit(
            f"scipy.optimize.minimize has no method {optimizer!r} that train can use; there are {', '.join(known.values())}.{hint} "
            "Other optimizers are objects: qml.AdamOptimizer(0.1), optax.adam(0.1)"
        )
    if optimizer.lower() == "cobyqa" and not _has_cobyqa():
        raise Misfit("COBYQA needs SciPy 1.14 or later: pip install -U scipy, or use 'COBYLA'")
    return Scipy(known[optimizer.lower()], problem.shape, options)


def _has_cobyqa() -> bool:
    import scipy

    return tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 14)


def _is_minimize(value: Any) -> bool:
    scipy = sys.modules.get("scipy.optimize")
    return scipy is not None and value is scipy.minimize


class _Enough(Exception):
    """Leaves a method from inside its callback."""


class Scipy(Minimizer):
    """One method. A step is one of its iterations, and its value is that of the point where the iteration ended."""

    def __init__(self, method: str, shape: Structure, options: dict[str, Any]) -> None:
        self.name = method
        self.method = "" if method in WITH_GRADIENT else "none"
        self.evaluations = "gradient" if method in WITH_GRADIENT else "value"
        self._shape = shape
        self._options = options

    def minimize(self, objective: Objective, params: Any, steps: int, on_step: Callable[[Step], bool]) -> str:
        """See ``Minimizer.minimize``."""
        import numpy as np
        import scipy.optimize

        known: OrderedDict[bytes, tuple[float, Any, dict[str, float]]] = OrderedDict()
        last = b""  # the point of the newest step

        def evaluate(x: Any) -> tuple[float, Any, dict[str, float]]:
            nest = self._shape.with_vector(x, params)
            if self.evaluations == "gradient":
                value, parts = objective.value_and_gradient(nest)
                gradient = np.concatenate([to_numpy(part).astype(float).reshape(-1) for part in parts])
            else:
                value, gradient = objective.value(nest), None
            known[x.tobytes()] = value, gradient, objective.aux
            if len(known) > _KEPT:
                known.popitem(last=False)
            return known[x.tobytes()]

        def callback(x: Any, *_: Any) -> None:
            nonlocal last
            x = np.array(x, dtype=float)
            last = x.tobytes()
            value, gradient, objective.aux = known.get(last) or evaluate(x)
            known.move_to_end(last)
            here = self._shape.with_vector(x, params)
            if on_step(Step(here, None, value, None if gradient is None else [gradient], at=here)):
                raise _Enough

        limit, most = _LIMITS.get(self.name, ("maxiter", 1))
        start = self._shape.vector(params)
        # A little more than the steps, which end the method through `callback`.
        options = {limit: most * (steps + 1) + len(start), **self._options.get("options", {})}
        try:
            found = scipy.optimize.minimize(
                (lambda x: evaluate(x)[:2]) if self.evaluations == "gradient" else (lambda x: evaluate(x)[0]),
                start,
                jac=self.evaluations == "gradient" or None,
                method=self.name,
                callback=callback,
                **{**self._options, "options": options},
            )
            x = np.array(found.x, dtype=float)
            if x.tobytes() != last:  # the method may end between two iterations, at a point that it has not told yet
                callback(x)
        except _Enough:
            return ""
        return f"{'converged' if found.success else 'gave up'}: {_readable(found.message)}"


def _readable(message: Any) -> str:
    """SciPy's message; that of Fortran codes is in capitals."""
    text = (message.decode() if isinstance(message, bytes) else str(message)).strip().rstrip(".")
    plain = text.replace("_", " ").lower() if text.isupper() else text
    return plain.removeprefix("convergence: ")
