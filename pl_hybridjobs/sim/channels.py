"""The noise channels: one table, a row for each, with a channel's superoperator and its derivatives.

The superoperator of Kraus matrices K is ``sum(kron(K, conj(K)))``; it acts on the vectorised density matrix of the channel's wires, rows
first (Nielsen and Chuang, Quantum Computation and Quantum Information, 2010, sections 8.2 and 8.3). Here it is
``base + sum(factor * part)`` with constant matrices, and not made of Kraus matrices, whose square roots have infinite derivatives where
there is no noise, while the channel itself has none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.circuit import Gate, constant

Array = np.ndarray[Any, np.dtype[Any]]
_Factors = tuple[Any, ...]

#: The name of a ``Gate`` whose ``matrix`` is a constant superoperator, of size 4**wires.
SUPEROPERATOR = "Superoperator"
#: The largest channel, in wires: its superoperator has 4**(2 * wires) entries.
MAX_CHANNEL_WIRES = 4


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        n_wires: How many wires; None: any number.
        n_angles: How many parameters.
        parts: From the Pauli word to ``base`` and the other constant matrices: shape (1 + factors, 4**n, 4**n).
        factors: From the parameters to the factors of those others. Arithmetic alone, so that they may be numbers or traced.
        slopes: From the parameters to derivatives: for each parameter, those of all factors.
        check: What is wrong with parameters, or an empty text.
    """

    n_wires: int | None
    n_angles: int
    parts: Callable[[str], Array]
    factors: Callable[..., _Factors]
    slopes: Callable[..., tuple[_Factors, ...]]
    check: Callable[..., str]


def superoperator(kraus: Any) -> Array:
    """The superoperator of Kraus matrices (m, 2**n, 2**n): shape (4**n, 4**n), complex128."""
    return np.asarray(sum(np.kron(k, np.conj(k)) for k in np.asarray(kraus, dtype=np.complex128)))


# Relaxation: the factors are the probabilities of jumps from 0 to 1 ("up") and from 1 to 0 ("down"), and what is left of coherences.


@functools.cache
def _relaxation(_: str) -> Array:
    parts = np.zeros((4, 4, 4))
    parts[0, 0, 0] = parts[0, 3, 3] = 1
    parts[1, 0, 0], parts[1, 3, 0] = -1, 1
    parts[2, 3, 3], parts[2, 0, 3] = -1, 1
    parts[3, 1, 1] = parts[3, 2, 2] = 1
    return parts


def _root_slope(gamma: float) -> float:
    """The derivative of the square root of 1 - gamma: infinite where gamma is 1."""
    return -0.5 / math.sqrt(1 - gamma) if gamma < 1 else -math.inf


def _generalized_amplitude_damping(gamma: Any, p: Any) -> _Factors:
    return p * gamma, (1 - p) * gamma, (1 - gamma) ** 0.5


def _thermal_relaxation(excited: Any, t1: Any, t2: Any, duration: Any) -> _Factors:
    jump = 1 - math.e ** (-duration / t1)
    return excited * jump, (1 - excited) * jump, math.e ** (-duration / t2)


def _thermal_slopes(excited: float, t1: float, t2: float, duration: float) -> tuple[_Factors, ...]:
    stay, coherence = math.exp(-duration / t1), math.exp(-duration / t2)
    by_t1, by_duration = -stay * duration / t1**2, stay / t1  # of the probability of a jump
    return (
        (1 - stay, stay - 1, 0),
        (excited * by_t1, (1 - excited) * by_t1, 0),
        (0, 0, coherence * duration / t2**2),
        (excited * by_duration, (1 - excited) * by_duration, -coherence / t2),
    )


# Pauli errors: the factor is the probability of the word.

_PAULIS = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


@functools.lru_cache(maxsize=64)
def _pauli(word: str) -> Array:
    matrix = functools.reduce(np.kron, [_PAULIS[letter] for letter in word])
    identity = np.eye(4 ** len(word))
    return np.stack([identity, np.kron(matrix, matrix.conj()).real - identity])


def _flip(word: str) -> Row:
    return Row(1, 1, lambda _: _pauli(word), lambda p: (p,), lambda _: ((1,),), _in_unit_interval("p"))


# What parameters may be.


def _in_unit_interval(*names: str) -> Callable[..., str]:
    def check(*values: float) -> str:
        return " and ".join(f"{name} = {v} is not in [0, 1]" for name, v in zip(names, values, strict=True) if not 0 <= v <= 1)

    return check


def _check_reset(to_0: float, to_1: float) -> str:
    return _in_unit_interval("p0", "p1", "p0 + p1")(to_0, to_1, to_0 + to_1)


def _check_thermal_relaxation(excited: float, t1: float, t2: float, duration: float) -> str:
    wrong = [_in_unit_interval("pe")(excited)]
    if not (t1 > 0 and t2 > 0 and t2 <= 2 * t1):
        wrong.append(f"t1 = {t1} and t2 = {t2} are not positive with t2 <= 2 * t1")
    if not duration >= 0:
        wrong.append(f"tg = {duration} is negative")
    return " and ".join(filter(None, wrong))


CHANNELS: dict[str, Row] = {
    "AmplitudeDamping": Row(
        1, 1, _relaxation, lambda g: (0, g, (1 - g) ** 0.5), lambda g: ((0, 1, _root_slope(g)),), _in_unit_interval("gamma")
    ),
    "GeneralizedAmplitudeDamping": Row(
        1,
        2,
        _relaxation,
        _generalized_amplitude_damping,
        lambda gamma, p: ((p, 1 - p, _root_slope(gamma)), (gamma, -gamma, 0)),
        _in_unit_interval("gamma", "p"),
    ),
    "PhaseDamping": Row(
        1, 1, _relaxation, lambda g: (0, 0, (1 - g) ** 0.5), lambda g: ((0, 0, _root_slope(g)),), _in_unit_interval("gamma")
    ),
    "DepolarizingChannel": Row(
        1,
        1,
        _relaxation,
        lambda p: (2 * p / 3, 2 * p / 3, 1 - 4 * p / 3),
        lambda _: ((2 / 3, 2 / 3, -4 / 3),),
        _in_unit_interval("p"),
    ),
    "ResetError": Row(1, 2, _relaxation, lambda p0, p1: (p1, p0, 1 - p0 - p1), lambda *_: ((0, 1, -1), (1, 0, -1)), _check_reset),
    "ThermalRelaxationError": Row(1, 4, _relaxation, _thermal_relaxation, _thermal_slopes, _check_thermal_relaxation),
    "BitFlip": _flip("X"),
    "PhaseFlip": _flip("Z"),
    "PauliError": Row(None, 1, _pauli, lambda p: (p,), lambda _: ((1,),), _in_unit_interval("p")),
}


def is_channel(gate: Gate) -> bool:
    """Whether a gate is a row of this table, or a superoperator."""
    return gate.name in CHANNELS or gate.name == SUPEROPERATOR


def expand(gate: Gate) -> tuple[Gate, ...]:
    """A Pauli error on several wires as a phase flip of one of them, between Clifford gates; any other gate as it is."""
    if gate.name != "PauliError" or len(gate.wires) < 2:
        return (gate,)
    letters = [(wire, letter) for wire, letter in zip(gate.wires, gate.word, strict=True) if letter != "I"]
    if not letters:
        return ()
    to_z = {"X": Gate("Hadamard", (0,)), "Y": Gate("RX", (0,), (constant(math.pi / 2),))}
    turns = [replace(to_z[letter], wires=(wire,)) for wire, letter in letters if letter != "Z"]
    first, *others = (wire for wire, _ in letters)
    turns += [Gate("CNOT", (wire, first)) for wire in others]
    back = [replace(turn, inverse=True) for turn in reversed(turns)]
    return (*turns, Gate("PhaseFlip", (first,), gate.angles), *back)


def matrices(gate: Gate, values: tuple[float, ...]) -> Array:
    """A channel's superoperator, followed by its derivative by each parameter: shape (1 + parameters, 4**n, 4**n), float64 or complex128.

    Raises:
        SimulationError: Parameters that make no channel, or too many wires.
    """
    size = 4 ** len(gate.wires)
    if len(gate.wires) > MAX_CHANNEL_WIRES:
        raise SimulationError(f"{gate.name} acts on {len(gate.wires)} wires; channels act on up to {MAX_CHANNEL_WIRES}: split it")
    if gate.name == SUPEROPERATOR:
        return np.frombuffer(gate.matrix, dtype=np.complex128).reshape(1, size, size)
    row = CHANNELS[gate.name]
    if wrong := row.check(*values):
        raise SimulationError(f"{gate.name} on wires {gate.wires}: {wrong}")
    base, *parts = row.parts(gate.word)
    return np.stack([base + _combined(row.factors(*values), parts), *(_combined(s, parts) for s in row.slopes(*values))])


def _combined(factors: _Factors, parts: list[Array]) -> Array:
    """Their sum, in which an infinite factor counts only where its part is not 0."""
    terms = [np.multiply(f, part, where=part != 0, out=np.zeros_like(part)) for f, part in zip(factors, parts, strict=True)]
    return np.asarray(sum(terms))
