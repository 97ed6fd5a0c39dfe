"""Samples of computational basis states: drawn as integers, and turned into bits only where bits are asked for.

Sorted uniform numbers are the normalised partial sums of exponential ones (L. Devroye, Non-Uniform Random Variate Generation, 1986, V.3),
so a histogram of many shots is one pass over the probabilities, without a search for each shot. All sums are of float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from pl_hybridjobs.errors import SimulationError

Array = np.ndarray[Any, np.dtype[Any]]

#: How far the norm of a state may be from 1 by rounding: float64, float32.
_TOLERANCE = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}
#: With so many shots for each outcome, one binomial number for each is faster than one exponential for each shot.
_MULTINOMIAL_FROM = 64


@dataclass(frozen=True)
class Histogram:
    """How often each outcome was seen.

    Attributes:
        outcomes: Those that were seen, ascending, shape (distinct,), int64.
        counts: How often, each at least 1, same shape.
    """

    outcomes: Array
    counts: Array

    @property
    def shots(self) -> int:
        """How many samples there are."""
        return int(self.counts.sum())


def jit(function: Any) -> Any:
    """Compiled once, kept on disk; no fast-math, for sums of many small numbers are added here in their order."""
    return njit(function, cache=True, nogil=True, error_model="numpy", boundscheck=False)


# Probabilities ---------------------------------------------------------------------------------------------------------


def probabilities(state: Array, wires: Sequence[int] | None = None) -> Array:
    """Probabilities of basis states.

    Args:
        state: Amplitudes, shape (2**n,).
        wires: Those that are looked at, in their order; None: all. Wire 0 is the most significant bit of an index.

    Returns:
        Shape (2**k,), float64. Not normalised: see ``normalised``.
    """
    n = n_wires(state)
    found = squared(state.real, state.imag)
    return found if wires is None else marginal(found, wires, n)


def squared(re: Array, im: Array) -> Array:
    """``re**2 + im**2`` as float64, in one pass."""
    found = np.empty(re.shape[-1])
    _squared(re, im, found)
    return found


@jit
def _squared(re: Array, im: Array, found: Array) -> None:
    for i in range(re.size):
        x, y = np.float64(re[i]), np.float64(im[i])
        found[i] = x * x + y * y


def n_wires(state: Array) -> int:
    """Number of wires of a state or of probabilities, shape (2**n,)."""
    return int(state.shape[-1]).bit_length() - 1


def marginal(probs: Array, wires: Sequence[int], n: int) -> Array:
    """Sum over all other wires, shape (2**k,): the bits of an index are those of ``wires`` in their order."""
    if tuple(wires) == tuple(range(n)):
        return probs
    found = np.zeros(1 << len(wires))
    _add_up(probs, _runs([n - 1 - w for w in wires]), found)
    return found


@jit
def _add_up(probs: Array, runs: Array, found: Array) -> None:
    for i in range(probs.size):
        at = 0
        for r in range(runs.shape[0]):
            at |= ((i >> runs[r, 0]) & runs[r, 1]) << runs[r, 2]
        found[at] += probs[i]


def _runs(positions: Sequence[int]) -> Array:
    """Bits that move together, as rows (lowest position, mask, shift to the left): neighbours stay neighbours."""
    k, at, found = len(positions), 0, []
    while at < k:
        end = at + 1
        while end < k and positions[end] == positions[end - 1] - 1:
            end += 1
        found.append((positions[end - 1], (1 << (end - at)) - 1, k - end))
        at = end
    return np.array(found, np.int64).reshape(-1, 3)


def normalised(probs: Array, precision: Any = np.float64) -> Array:
    """Probabilities that add up to 1.

    Args:
        probs: Shape (outcomes,), float64.
        precision: float32 or float64: of the state they come from, which says what can be rounding.

    Raises:
        SimulationError: They are negative, not finite, or farther from 1 than rounding could take them.
    """
    total = float(probs.sum())
    if not abs(total - 1.0) <= _TOLERANCE[np.dtype(precision)] or float(probs.min()) < 0:
        raise SimulationError(
            f"cannot draw samples: the probabilities add up to {total:.9g}, not to 1; the state is not normalised, or a parameter is NaN"
        )
    return probs / total


# Draws -----------------------------------------------------------------------------------------------------------------


def histogram(probs: Array, shots: int, rng: np.random.Generator) -> Histogram:
    """Draw so many outcomes, and count them.

    Args:
        probs: Shape (outcomes,), adding up to 1; see ``normalised``.
        shots: Zero or more.
        rng: Moves on.
    """
    if shots >= _MULTINOMIAL_FROM * len(probs):
        counts = rng.multinomial(shots, probs)
    else:
        counts = np.zeros(len(probs), np.int64)
        if shots:
            _count(probs, rng.standard_exponential(shots + 1), counts)
    outcomes = np.flatnonzero(counts)
    return Histogram(outcomes, counts[outcomes])


@jit
def _count(probs: Array, spacings: Array, counts: Array) -> None:
    last = probs.size - 1
    while probs[last] <= 0.0 and last > 0:
        last -= 1
    total = 0.0
    for spacing in spacings:
        total += spacing
    i, edge, at = 0, probs[0] * total, 0.0
    for j in range(spacings.size - 1):
        at += spacings[j]
        while at >= edge and i < last:  # an outcome of probability 0 is passed by
            i += 1
            edge += probs[i] * total
        counts[i] += 1


def samples(found: Histogram, rng: np.random.Generator) -> Array:
    """The outcomes one by one, in random order, shape (shots,), int64."""
    drawn = np.repeat(found.outcomes, found.counts)
    rng.shuffle(drawn)
    return drawn


def histogram_of(drawn: Array) -> Histogram:
    """Count outcomes, shape (shots,)."""
    outcomes, counts = np.unique(drawn, return_counts=True)
    return Histogram(outcomes, counts)


# What outcomes say -------------------------------------------------------------------------------------------------------


def index(outcomes: Array, positions: Sequence[int]) -> Array:
    """Some bits of each outcome as a number.

    Args:
        outcomes: Integers, any shape.
        positions: Bits of an outcome (0: the least significant one), the most significant bit of the result first.
    """
    found = np.zeros_like(outcomes)
    for low, mask, shift in _runs(positions).tolist():
        found |= ((outcomes >> low) & mask) << shift
    return found


def bits(outcomes: Array, n_bits: int, dtype: Any = np.int64) -> Array:
    """Outcomes as bits, the most significant one first, shape (outcomes, n_bits)."""
    found = np.empty((len(outcomes), n_bits), dtype)
    _bits(outcomes, found)
    return found


@jit
def _bits(outcomes: Array, found: Array) -> None:
    n = found.shape[1]
    for s in range(found.shape[0]):
        outcome = outcomes[s]
        for b in range(n):
            found[s, b] = (outcome >> (n - 1 - b)) & 1


def bit_strings(outcomes: Array, n_bits: int) -> list[str]:
    """Outcomes as texts of 0 and 1."""
    if not n_bits:
        return [""] * len(outcomes)
    letters = bits(outcomes, n_bits, np.uint32)
    letters += ord("0")
    found: list[str] = letters.view(f"<U{n_bits}").ravel().tolist()
    return found


def parities(outcomes: Array, mask: int) -> Array:
    """The sign of each outcome: -1 if an odd number of the mask's bits is set, else 1; float64."""
    return np.asarray(1.0 - 2.0 * (np.bitwise_count(outcomes & mask) & 1))


def mean(found: Histogram, values: Array) -> float:
    """Mean of a value for each of the histogram's outcomes; NaN without shots."""
    shots = found.shots
    return float(found.counts @ values) / shots if shots else float("nan")


def variance(found: Histogram, values: Array) -> float:
    """Variance (of the samples themselves, ``ddof=0``) of a value for each of the histogram's outcomes; NaN without shots."""
    shots = found.shots
    if not shots:
        return float("nan")
    return float(found.counts @ np.square(values - mean(found, values))) / shots
