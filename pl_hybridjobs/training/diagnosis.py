"""What the first gradients of a run tell: the objective does not feel its parameters, noise hides them, or a barren plateau.

Only the first steps are judged. Later a small gradient is what training is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

FIRST_STEPS = 3
"""How many steps' gradients are wanted."""

# 100 000 shots, more than one circuit is usually given, resolve a standard deviation of 0.003.
_FLAT = 1e5**-0.5
# With fewer wires not even a global cost function's derivatives are typically that small: 2**-9 < 0.003 < 2**-8.
_LEAST_WIRES = 9
_LEAST_PARAMETERS = 8
# Nearer to a stationary point than this (radians) a small gradient is what it should be.
_BESIDE = 0.01


def complaint(
    gradients: Sequence[Any],
    points: Sequence[Any],
    *,
    shots: int | None = None,
    wires: int | None = None,
    scale: float = 1.0,
) -> str:
    r"""What is wrong with a run's first gradients, and what to do; ``""`` if nothing is.

    To be asked after each of the first ``FIRST_STEPS`` steps. Each text is given after one of them only:

    - *No gradient*, after step 0: no component is larger than rounding.
    - *Lost in noise*, after step 2, with shots only: the components' root mean square over the three steps is at most
      ``scale / sqrt(shots)``, and the three gradients do not point the same way: their mean cosine is below :math:`2 / \sqrt{3 K}`,
      two standard deviations of what independent noise in :math:`K` components gives.
    - *Barren plateau*, after step 2. In random circuits the variance of a derivative falls like :math:`2^{-n}` with the wires
      (McClean et al. 2018, doi:10.1038/s41467-018-07090-4). The text is given if all of this holds:

      1. at least 8 components are not zero, and there are at least 9 wires, if their number is known: where a smaller problem's
         gradient is small, that has other reasons;
      2. their variance around zero (the mean on a plateau), over components and steps, is at most ``scale**2 / 100_000``: not
         even 100 000 shots resolve it;
      3. the second derivatives along both steps are about as small: :math:`|\Delta g|^2 / (K |\Delta\theta|^2)` is at most ``4 * scale**2 /
         100_000``, and the parameters moved. On a plateau higher derivatives vanish like the first (Cerezo & Coles 2021,
         doi:10.1088/2058-9565/abf51a); beside a minimum or saddle, where trained parameters start, they do not;
      4. nor is a minimum or saddle to be expected within 0.01 radians: :math:`|\Delta g| / |\Delta\theta| \leq 100\, |g|`.

    Args:
        gradients: Each step's gradient at the point where it was taken, all parameters in one array of any shape.
        points: The parameters at which the gradients were taken, likewise.
        shots: Shots of one circuit execution (not of a step); None if analytic.
        wires: Wires of the circuit; None if not known.
        scale: Spread of the objective's values, if known. Not its value: a constant in a Hamiltonian, as molecules have, says nothing
            about slopes.
    """
    import numpy as np

    if len(gradients) not in (1, FIRST_STEPS):
        return ""
    slopes = np.stack([np.asarray(gradient).ravel() for gradient in gradients])
    if not slopes.size or not np.isfinite(slopes).all():
        return ""
    if len(slopes) == 1:
        return _no_gradient(slopes[0], scale)
    slopes = slopes.astype(np.float64)
    slopes = slopes[:, np.abs(slopes).max(axis=0) > 1e-9 * np.abs(slopes).max()]
    if not slopes.size:
        return ""
    spread = float(np.sqrt(np.mean(slopes**2)))
    if shots is not None and _is_noise(slopes, spread, shots, scale):
        return (
            f"The gradient cannot be told from shot noise: with {shots} shots its components have about {scale / shots**0.5:.1g} of "
            f"noise, and in the first {FIRST_STEPS} steps they are {spread:.1g} in the mean and point in no steady direction. Steps will "
            f"wander. Take more shots, begin elsewhere (is this a minimum already?){_or_plateau(wires)}"
        )
    moved = np.stack([np.asarray(point, dtype=np.float64).ravel() for point in points[:FIRST_STEPS]])
    if _is_large_enough(slopes.shape[1], wires) and spread <= _FLAT * scale and _is_flat_around(slopes, moved, spread, scale):
        on = f" on {wires} wires" if wires is not None else ""
        return (
            f"This looks like a barren plateau: in the first {FIRST_STEPS} steps the gradient's {slopes.shape[1]} components{on} have a "
            f"standard deviation of {spread:.1g}, and the slope stays that flat around. A machine needs about "
            f"{(scale / spread) ** 2:.0e} shots a circuit to see it. Start near the identity (small or block-wise cancelling angles) or "
            "from a smaller problem's solution, take fewer layers, measure local observables instead of a global one, or train layer by "
            "layer."
        )
    return ""


def _no_gradient(slopes: Floats, scale: float) -> str:
    import numpy as np

    resolution = float(np.finfo(slopes.dtype).eps) if slopes.dtype.kind == "f" else 0.0
    largest = float(np.abs(slopes).max())
    if largest > 16 * resolution * scale:
        return ""
    zero = "exactly zero" if largest == 0 else f"zero but for rounding (at most {largest:.1g})"
    return (
        f"The gradient is {zero} in all {slopes.size} parameters, so no step can improve anything. Likely reasons: the parameters do not "
        "feed the objective (converted by float(), int() or numpy on their way, or others were used in their place); the gates that take "
        "them act on wires that are not measured, or commute with what is measured; the start is a stationary point, as all zeros is for "
        "many circuits: begin with small random numbers."
    )


def _is_noise(slopes: Floats, spread: float, shots: int, scale: float) -> bool:
    import numpy as np

    if spread > scale / shots**0.5:
        return False
    lengths = np.linalg.norm(slopes, axis=1)
    if not lengths.all():
        return True
    directions = slopes / lengths[:, None]
    cosines = (directions @ directions.T)[np.triu_indices(FIRST_STEPS, k=1)]
    return bool(cosines.mean() < 2 / (len(cosines) * slopes.shape[1]) ** 0.5)


def _is_large_enough(parameters: int, wires: int | None) -> bool:
    return parameters >= _LEAST_PARAMETERS and (wires is None or wires >= _LEAST_WIRES)


def _is_flat_around(slopes: Floats, points: Floats, spread: float, scale: float) -> bool:
    import numpy as np

    way = np.linalg.norm(np.diff(points, axis=0), axis=1)
    change = np.linalg.norm(np.diff(slopes, axis=0), axis=1) / slopes.shape[1] ** 0.5
    return bool((way > 0).all() and (change <= way * min(2 * _FLAT * scale, spread / _BESIDE)).all())


def _or_plateau(wires: int | None) -> str:
    if wires is not None and wires < _LEAST_WIRES:
        return "."
    return ", or look without shots whether the circuit has a barren plateau."
