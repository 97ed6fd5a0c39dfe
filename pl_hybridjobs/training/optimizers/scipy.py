"""SciPy's ``minimize`` methods by name. They drive their own loop, and cannot be taken up in its middle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.errors import did_you_mean
from pl_hybridjobs.training.optimizers import Misfit, Problem, Step
from pl_hybridjobs.training.parameters import to_numpy

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure

WITH_GRADIENT = ("CG", "BFGS", "L-BFGS-B", "Newton-CG", "TNC", "SLSQP", "trust-constr")
WITHOUT_GRADIENT = ("Nelder-Mead", "Powell", "COBYLA", "COBYQA")
_NEED_HESSIAN = ("dogleg", "trust-ncg", "trust-exact", "trust-krylov")
_KEPT = 4096  # evaluations whose values are remembered, to give the one of a step without computing it again


def adapt(optimizer: Any, problem: Problem) -> Scipy | None:
    """See ``optimizers.adapter``."""
    if not isinstance(optimizer, str):
        return None
    known = {name.lower(): name for name in WITH_GRADIENT + WITHOUT_GRADIENT}
    if optimizer.lower() in _NEED_HESSIAN:
        raise Misfit(f"optimizer={optimizer!r} needs second derivatives, which train does not give; 'trust-constr' and 'BFGS' do without")
    if optimizer.lower() not in known:
        hint = did_you_mean(optimizer.lower(), known)
        raise Misfit(
            f"scipy.optimize.minimize has no method {optimizer!r} that train can use; there are {', '.join(known.values())}.{hint}"
        )
    return Scipy(known[optimizer.lower()], problem.shape)


class _Enough(Exception):
    """Leaves a method from inside its callback."""


class Scipy:
    """One method. A step is one of its iterations, and its value is that of the point where the iteration ended."""

    def __init__(self, method: str, shape: Structure) -> None:
        self.name = method
        self.method = "" if method in WITH_GRADIENT else "none"
        self.evaluations: Literal["gradient", "value"] = "gradient" if method in WITH_GRADIENT else "value"
        self.count = 1
        self._shape = shape

    def minimize(self, objective: Objective, params: Any, steps: int, on_step: Callable[[Step], bool]) -> str:
        """See ``Minimizer.minimize``."""
        import numpy as np
        import scipy.optimize

        known: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()
        fixed = self._shape.split(self._shape.flatten(params))[1]

        def nest(x: Any) -> Any:
            return self._shape.rebuild(self._shape.flatten(self._shape.merge(self._cut(x), fixed)))

        def evaluate(x: Any) -> tuple[float, Any]:
            if self.evaluations == "gradient":
                value, parts = objective.value_and_gradient(nest(x))
                gradient = np.concatenate([to_numpy(part).astype(float).reshape(-1) for part in parts])
            else:
                value, gradient = objective.value(nest(x)), None
            known[x.tobytes()] = value, gradient
            if len(known) > _KEPT:
                known.popitem(last=False)
            return value, gradient

        def callback(x: Any, *_: Any) -> None:
            x = np.asarray(x, dtype=float)
            value, gradient = known.get(x.tobytes()) or evaluate(x)
            known[x.tobytes()] = value, gradient
            known.move_to_end(x.tobytes())
            here = nest(x)
            if on_step(Step(here, None, value, None if gradient is None else [gradient], at=here)):
                raise _Enough

        start = np.concatenate([to_numpy(v).astype(float).reshape(-1) for v in self._shape.split(self._shape.flatten(params))[0]])
        # On top of the steps, which end the method through `callback`: evaluations for those that count these.
        options = {"maxfun" if self.name == "TNC" else "maxiter": 50 * steps if self.name == "TNC" else steps + 1}
        try:
            found = scipy.optimize.minimize(
                evaluate if self.evaluations == "gradient" else lambda x: evaluate(x)[0],
                start,
                jac=self.evaluations == "gradient" or None,
                method=self.name,
                callback=callback,
                options=options,
            )
        except _Enough:
            return ""
        return str(found.message)

    def _cut(self, x: Any) -> Sequence[Any]:
        parts, at = [], 0
        for leaf in self._shape.leaves:
            if leaf.trainable:
                size = 1
                for length in leaf.shape:
                    size *= length
                parts.append(x[at : at + size].reshape(leaf.shape).astype(leaf.dtype))
                at += size
        return parts
