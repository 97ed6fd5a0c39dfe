"""Sums of Pauli words applied to a state."""

from __future__ import annotations

from typing import Any

import numpy as np

from pl_hybridjobs.sim.circuit import PauliSum
from pl_hybridjobs.sim.sampling import jit

Array = np.ndarray[Any, np.dtype[Any]]


def apply(observable: PauliSum, state: Array) -> Array:
    """The observable times a state.

    Args:
        observable: Of T words.
        state: Shape (2**n,); wire 0 is the most significant bit of the index.

    Returns:
        Same shape and dtype. One more state is all the memory that it takes; words that flip the same wires share a pass.
    """
    n = int(state.shape[0]).bit_length() - 1
    groups: dict[int, list[tuple[int, complex]]] = {}
    for coefficient, word in zip(observable.coefficients, observable.words, strict=True):
        x = sum(1 << (n - 1 - wire) for wire, letter in word if letter in "XY")
        z = sum(1 << (n - 1 - wire) for wire, letter in word if letter in "YZ")
        groups.setdefault(x, []).append((z, coefficient * 1j ** sum(letter == "Y" for _, letter in word)))
    found = np.zeros_like(state)
    for x, terms in groups.items():
        _add(x, np.array([z for z, _ in terms]), np.array([c for _, c in terms], np.complex128), state, found)
    return found


@jit
def _add(x: int, masks: Array, coefficients: Array, state: Array, found: Array) -> None:
    for i in range(state.size):
        factor = 0j
        for t in range(masks.size):
            odd = i & masks[t]
            for shift in (32, 16, 8, 4, 2, 1):
                odd ^= odd >> shift
            if odd & 1:
                factor -= coefficients[t]
            else:
                factor += coefficients[t]
        found[i ^ x] += factor * state[i]
