"""Exact derivatives by shifted parameters: what is periodic in a parameter, with few frequencies, has its derivative as a sum of values.

Wierichs, Izaac, Wang, Lin, "General parameter-shift rules for quantum gradients", Quantum 6, 677 (2022), arXiv:2107.12390.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate
from pl_hybridjobs.sim.gates import Action, One, PauliRotation, Phase, expand

#: (shift, weight): df/dx = sum of weight * f(x + shift), for f with the one frequency 1 ...
_ONE_FREQUENCY = ((math.pi / 2, 0.5), (-math.pi / 2, -0.5))
#: ... and with the frequencies 1/2 and 1.
_TWO_FREQUENCIES = tuple(
    (sign * k * math.pi / 2, -sign * (-1) ** ((k + 1) // 2) / (16 * math.sin(k * math.pi / 8) ** 2)) for k in (1, 3) for sign in (1, -1)
)


@dataclass(frozen=True, eq=False)
class Shifts:
    """The derivatives by all parameters: that by number ``slots[k]`` has the summand ``weights[k] * f(params + vectors[k])``.

    Attributes:
        vectors: Shape (K, P), radians.
        weights: Shape (K,).
        slots: Shape (K,), int64.
    """

    vectors: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any]
    slots: np.ndarray[Any, Any]


def shifts_of(circuit: Circuit) -> Shifts:
    """The rules for any function that is linear in the circuit's expectation values or in their derivatives.

    Raises:
        SimulationError: A parameter enters more than one angle, so that it has more frequencies.
    """
    angles = [(gate, angle.slot, angle.scale) for gate in circuit.gates for angle in gate.angles if angle.slot is not None]
    often = [slot for slot, count in Counter(slot for _, slot, _ in angles).items() if count > 1]
    if often:
        raise SimulationError(f"parameters {often} enter more than one angle; give each angle a parameter of its own")
    rows = [(slot, shift / scale, weight * scale) for gate, slot, scale in angles if scale for shift, weight in _rule(gate, slot, scale)]
    vectors = np.zeros((len(rows), circuit.n_parameters))
    for row, (slot, shift, _) in enumerate(rows):
        vectors[row, slot] = shift
    return Shifts(vectors, np.array([w for _, _, w in rows], float), np.array([slot for slot, _, _ in rows], np.int64))


def _rule(gate: Gate, slot: int, scale: float) -> tuple[tuple[float, float], ...]:
    """The distances of a gate's eigenphases are its angle, or half of it too: by controls, or where several primitives share the angle."""
    using = [(p, angle) for p in expand(gate) for angle in [_angle_of(p.action)] if angle is not None and angle.slot == slot]
    if len(using) != 1 or abs(using[0][1].scale) != abs(scale):
        return _TWO_FREQUENCIES
    (primitive, _) = using[0]
    is_phase = isinstance(primitive.action, Phase) or (isinstance(primitive.action, One) and primitive.action.part.kind == "PHASE")
    return _ONE_FREQUENCY if is_phase or not primitive.controls else _TWO_FREQUENCIES


def _angle_of(action: Action) -> Angle | None:
    if isinstance(action, One):
        return action.part.angle
    return action.angle if isinstance(action, PauliRotation | Phase) else None
