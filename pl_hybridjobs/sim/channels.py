"""The noise channels: one table, a row for each, with a channel's superoperator and its derivatives.

The superoperator of Kraus matrices K is ``sum(kron(K, conj(K)))``; it acts on the vectorised density matrix of the channel's wires, rows
first (Nielsen and Chuang, Quantum Computation and Quantum Information, 2010, sections 8.2 and 8.3). It is written down whole, and not made of Kraus
matrices, because their square roots have infinite derivatives where there is no noise, while the channel itself has none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.circuit import Gate

Array = np.ndarray[Any, np.dtype[Any]]

#: The name of a ``Gate`` whose ``matrix`` is a constant superoperator, of size 4**wires.
SUPEROPERATOR = "Superoperator"
#: The largest channel, in wires: its superoperator has 4**(2 * wires) entries.
MAX_CHANNEL_WIRES = 4
_PAULIS = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        n_wires: How many wires; None: any number.
        n_angles: How many parameters.
        rule: From parameters and the Pauli word to the superoperator, followed by its derivative by each parameter:
            shape (1 + n_angles, 4**n, 4**n), complex128.
        check: What is wrong with parameters, or an empty text.
    """

    n_wires: int | None
    n_angles: int
    rule: Callable[[tuple[float, ...], str], Array]
    check: Callable[[tuple[float, ...]], str]


def superoperator(kraus: Any) -> Array:
    """The superoperator of Kraus matrices (m, 2**n, 2**n): shape (4**n, 4**n), complex128."""
    return np.asarray(sum(np.kron(k, np.conj(k)) for k in np.asarray(kraus, dtype=np.complex128)))


def _in_unit_interval(*names: str) -> Callable[[tuple[float, ...]], str]:
    def check(values: tuple[float, ...]) -> str:
        return " and ".join(f"{name} = {v} is not in [0, 1]" for name, v in zip(names, values, strict=True) if not 0 <= v <= 1)

    return check


def _relaxation(*rows: tuple[float, float, float]) -> Array:
    """Jumps 0 to 1 and 1 to 0 of probability ``up`` and ``down``, and the factor of the coherences; further rows are their derivatives."""
    found = np.zeros((len(rows), 4, 4), np.complex128)
    for matrix, (up, down, coherence) in zip(found, rows, strict=True):
        matrix[0, 0], matrix[3, 0], matrix[3, 3], matrix[0, 3] = -up, up, -down, down
        matrix[1, 1] = matrix[2, 2] = coherence
    found[0, 0, 0] += 1
    found[0, 3, 3] += 1
    return found


def _root(gamma: float) -> tuple[float, float]:
    """The square root of 1 - gamma, and its derivative, which is infinite where gamma is 1."""
    root = math.sqrt(1 - gamma)
    return root, -0.5 / root if root else -math.inf


def _amplitude_damping(values: tuple[float, ...], _: str) -> Array:
    (gamma,) = values
    root, slope = _root(gamma)
    return _relaxation((0, gamma, root), (0, 1, slope))


def _generalized_amplitude_damping(values: tuple[float, ...], _: str) -> Array:
    gamma, p = values
    root, slope = _root(gamma)
    return _relaxation(((1 - p) * gamma, p * gamma, root), (1 - p, p, slope), (-gamma, gamma, 0))


def _phase_damping(values: tuple[float, ...], _: str) -> Array:
    root, slope = _root(values[0])
    return _relaxation((0, 0, root), (0, 0, slope))


def _depolarizing(values: tuple[float, ...], _: str) -> Array:
    (p,) = values
    return _relaxation((2 * p / 3, 2 * p / 3, 1 - 4 * p / 3), (2 / 3, 2 / 3, -4 / 3))


def _reset(values: tuple[float, ...], _: str) -> Array:
    to_0, to_1 = values
    return _relaxation((to_1, to_0, 1 - to_0 - to_1), (0, 1, -1), (1, 0, -1))


def _thermal_relaxation(values: tuple[float, ...], _: str) -> Array:
    excited, t1, t2, duration = values
    stay, coherence = math.exp(-duration / t1), math.exp(-duration / t2)
    jump = 1 - stay
    by_t1, by_duration = -stay * duration / t1**2, stay / t1  # derivatives of ``jump``
    return _relaxation(
        (excited * jump, (1 - excited) * jump, coherence),
        (jump, -jump, 0),
        (excited * by_t1, (1 - excited) * by_t1, 0),
        (0, 0, coherence * duration / t2**2),
        (excited * by_duration, (1 - excited) * by_duration, -coherence / t2),
    )


@functools.lru_cache(maxsize=64)
def _pauli_flip(word: str) -> Array:
    """Superoperators of the identity, and of the word minus the identity."""
    matrix = functools.reduce(np.kron, [_PAULIS[letter] for letter in word])
    identity = np.eye(4 ** len(word), dtype=np.complex128)
    return np.stack([identity, np.kron(matrix, matrix.conj()) - identity])


def _pauli_error(values: tuple[float, ...], word: str) -> Array:
    identity, change = _pauli_flip(word)
    return np.stack([identity + values[0] * change, change])


def _flip(word: str) -> Callable[[tuple[float, ...], str], Array]:
    return lambda values, _: _pauli_error(values, word)


def _check_reset(values: tuple[float, ...]) -> str:
    return _in_unit_interval("p0", "p1", "p0 + p1")((*values, sum(values)))


def _check_thermal_relaxation(values: tuple[float, ...]) -> str:
    excited, t1, t2, duration = values
    wrong = [_in_unit_interval("pe")((excited,))]
    if not (t1 > 0 and t2 > 0 and t2 <= 2 * t1):
        wrong.append(f"t1 = {t1} and t2 = {t2} are not positive with t2 <= 2 * t1")
    if not duration >= 0:
        wrong.append(f"tg = {duration} is negative")
    return " and ".join(filter(None, wrong))


CHANNELS: dict[str, Row] = {
    "AmplitudeDamping": Row(1, 1, _amplitude_damping, _in_unit_interval("gamma")),
    "GeneralizedAmplitudeDamping": Row(1, 2, _generalized_amplitude_damping, _in_unit_interval("gamma", "p")),
    "PhaseDamping": Row(1, 1, _phase_damping, _in_unit_interval("gamma")),
    "DepolarizingChannel": Row(1, 1, _depolarizing, _in_unit_interval("p")),
    "BitFlip": Row(1, 1, _flip("X"), _in_unit_interval("p")),
    "PhaseFlip": Row(1, 1, _flip("Z"), _in_unit_interval("p")),
    "ResetError": Row(1, 2, _reset, _check_reset),
    "ThermalRelaxationError": Row(1, 4, _thermal_relaxation, _check_thermal_relaxation),
    "PauliError": Row(None, 1, _pauli_error, _in_unit_interval("p")),
}


def is_channel(gate: Gate) -> bool:
    """Whether a gate is a row of this table, or a superoperator."""
    return gate.name in CHANNELS or gate.name == SUPEROPERATOR


def matrices(gate: Gate, values: tuple[float, ...]) -> Array:
    """A channel's superoperator and its derivative by each parameter, shape (1 + parameters, 4**n, 4**n), complex128.

    Raises:
        SimulationError: Parameters that make no channel, or too many wires.
    """
    size = 4 ** len(gate.wires)
    if len(gate.wires) > MAX_CHANNEL_WIRES:
        raise SimulationError(f"{gate.name} acts on {len(gate.wires)} wires; channels act on up to {MAX_CHANNEL_WIRES}: split it")
    if gate.name == SUPEROPERATOR:
        return np.frombuffer(gate.matrix, dtype=np.complex128).reshape(1, size, size)
    row = CHANNELS[gate.name]
    if wrong := row.check(values):
        raise SimulationError(f"{gate.name} on wires {gate.wires}: {wrong}")
    return row.rule(values, gate.word)
