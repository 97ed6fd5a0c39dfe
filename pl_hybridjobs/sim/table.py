"""A circuit as a table of steps of one form, from which array libraries run it: nothing is computed on states here.

A step is a 2 x 2 matrix m and four masks of an amplitude's index i:

    out[i] = m[b, b] * in[i] + m[b, 1 - b] * in[i ^ flip]   where i & control == value, with b = parity(i & sign),

and what is elsewhere stays. One-qubit gates (flip and sign are the target's bit), rotations about Pauli words, phases and exchanges,
with any controls, are steps. Matrices on more wires stand beside the table (``DenseStep``). The matrices of all steps come from the
parameters at once: each is a product of factors ``fixed + cos(phi) * cosine + sin(phi) * sine`` with
``phi = shift + scale * parameters[slot]``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from autoray import astype, do

from pl_hybridjobs.sim.circuit import Angle, Circuit, PauliSum
from pl_hybridjobs.sim.gates import Action, Dense, Flip, One, Part, PauliRotation, Phase, Primitive, primitives

_Array = np.ndarray[Any, np.dtype[Any]]

#: One-qubit gates that follow each other on a wire become one step, of at most so many factors.
LONGEST_CHAIN = 4

_ZERO, _ONE = np.zeros((2, 2), complex), np.eye(2, dtype=complex)
_X = np.array([[0, 1], [1, 0]], complex)
#: Kind of a part -> (fixed, cosine, sine, phi over angle).
_PARTS = {
    "RX": (_ZERO, _ONE, -1j * _X, 0.5),
    "RY": (_ZERO, _ONE, np.array([[0, -1], [1, 0]], complex), 0.5),
    "RZ": (_ZERO, _ONE, np.diag([-1j, 1j]), 0.5),
    "PHASE": (np.diag([1, 0j]), np.diag([0, 1 + 0j]), np.diag([0, 1j]), 1.0),
}


class Factor(NamedTuple):
    """``fixed + cos(phi) * cosine + sin(phi) * sine``, each 2 x 2; ``phi = shift + scale * parameters[slot]``."""

    fixed: _Array
    cosine: _Array = _ZERO
    sine: _Array = _ZERO
    slot: int = 0
    scale: float = 0.0
    shift: float = 0.0

    @property
    def is_constant(self) -> bool:
        """Whether no parameter enters."""
        return self.scale == 0.0


def _factor(fixed: _Array, cosine: _Array, sine: _Array, angle: Angle, per_angle: float) -> Factor:
    if angle.slot is None or angle.scale == 0.0:
        phi = per_angle * angle.shift
        return Factor(fixed + np.cos(phi) * cosine + np.sin(phi) * sine)
    return Factor(fixed, cosine, sine, angle.slot, per_angle * angle.scale, per_angle * angle.shift)


def _factor_of(part: Part) -> Factor:
    if part.matrix is not None:
        return Factor(np.array(part.matrix, complex).reshape(2, 2))
    assert part.angle is not None
    fixed, cosine, sine, per_angle = _PARTS[part.kind]
    return _factor(fixed, cosine, sine, part.angle, per_angle)


class Masks(NamedTuple):
    """Of an amplitude's index; wire 0 is its most significant bit."""

    flip: int
    sign: int
    control: int
    value: int


@dataclass(frozen=True, eq=False)
class DenseStep:
    """A matrix on some wires, where the step's controls have their values.

    Attributes:
        row: Its place in the table.
        bits: Masks of its wires, in the matrix's order (the first is the most significant bit of the matrix's index).
        matrix: Shape (2**k, 2**k), complex128; None if it is a slot.
        slot: Of a matrix that travels apart, its place among them.
        inverse: Whether the conjugate transpose of the slot's matrix is meant.
    """

    row: int
    bits: tuple[int, ...]
    matrix: _Array | None
    slot: int = 0
    inverse: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A circuit's gates. S steps of at most L factors.

    Attributes:
        n_wires: Qubits.
        masks: One for each step.
        fixed, cosine, sine: Of the factors, shape (S, L, 2, 2), complex128; the first factor acts first.
        slots, scale, shift: Of the factors, shape (S, L).
        dense: The steps that are matrices on wires; their rows have no 2 x 2 matrix of their own.
    """

    n_wires: int
    masks: tuple[Masks, ...]
    fixed: _Array
    cosine: _Array
    sine: _Array
    slots: _Array
    scale: _Array
    shift: _Array
    dense: tuple[DenseStep, ...]

    @property
    def is_constant(self) -> bool:
        """Whether no parameter enters."""
        return not self.scale.any()


@functools.lru_cache(maxsize=256)
def table_of(circuit: Circuit) -> Table:
    """The table of a circuit; the same one for equal circuits.

    Raises:
        SimulationError: See ``gates.primitives``.
    """
    builder = _Builder(circuit.n_wires)
    for primitive in primitives(circuit):
        builder.add(primitive)
    for wire in sorted(builder.waiting):
        builder.flush(wire)
    return builder.finish()


@dataclass
class _Builder:
    n_wires: int
    masks: list[Masks] = field(default_factory=list)
    chains: list[list[Factor]] = field(default_factory=list)
    dense: list[DenseStep] = field(default_factory=list)
    waiting: dict[int, list[Factor]] = field(default_factory=dict)

    def bit(self, wire: int) -> int:
        return 1 << (self.n_wires - 1 - wire)

    def step(self, chain: list[Factor], flip: int, sign: int, control: int, value: int) -> None:
        self.masks.append(Masks(flip, sign, control, value))
        self.chains.append(chain)

    def flush(self, wire: int) -> None:
        chain = _merged(self.waiting.pop(wire, []))
        for first in range(0, len(chain), LONGEST_CHAIN):
            self.step(chain[first : first + LONGEST_CHAIN], self.bit(wire), self.bit(wire), 0, 0)

    def add(self, primitive: Primitive) -> None:
        action, controls = _as_one(primitive.action), primitive.controls
        if isinstance(action, One) and not controls:
            self.waiting.setdefault(action.wire, []).append(_factor_of(action.part))
            return
        wires = (action.wire,) if isinstance(action, One) else action.wires
        for wire in (*wires, *controls):
            self.flush(wire)
        control = sum(self.bit(w) for w in controls)
        value = sum(self.bit(w) for w, v in zip(controls, primitive.values, strict=True) if v)
        if isinstance(action, One):
            self.step([_factor_of(action.part)], self.bit(action.wire), self.bit(action.wire), control, value)
        elif isinstance(action, Phase):
            control |= sum(self.bit(w) for w in action.wires)
            value |= sum(self.bit(w) for w, v in zip(action.wires, action.values, strict=True) if v)
            self.step([_factor(_ZERO, _ONE, 1j * _ONE, action.angle, 1.0)], 0, 0, control, value)
        elif isinstance(action, Flip):  # of two wires: where their bits differ, they change places
            both = sum(self.bit(w) for w in action.wires)
            self.step([Factor(np.array([[1, 0], [1, 0]], complex))], both, both, control, value)
        elif isinstance(action, PauliRotation):
            flip, sign, phase = word_masks(self.n_wires, tuple(zip(action.wires, action.word, strict=True)))
            sine = -1j * phase * np.array([[0, 1], [-1, 0]]) if flip else -1j * np.diag([1, -1])
            self.step([_factor(_ZERO, _ONE, sine, action.angle, 0.5)], flip, sign, control, value)
        else:
            bits = tuple(self.bit(w) for w in action.wires)
            matrix = action.array().copy() if action.slot is None else None
            self.dense.append(DenseStep(len(self.masks), bits, matrix, action.slot or 0, action.inverted))
            alone = bits[0] if len(bits) == 1 else 0  # a slot on one wire; where its matrix takes its place in the table, it is a step
            self.step([], alone, alone, control, value)

    def finish(self) -> Table:
        longest = max((len(chain) for chain in self.chains), default=0) or 1
        padded = [chain + [Factor(_ONE)] * (longest - len(chain)) for chain in self.chains]

        def column(name: str, dtype: Any, *shape: int) -> _Array:
            values = [getattr(factor, name) for chain in padded for factor in chain]
            return np.array(values, dtype=dtype).reshape(len(padded), longest, *shape)

        return Table(
            n_wires=self.n_wires,
            masks=tuple(self.masks),
            fixed=column("fixed", complex, 2, 2),
            cosine=column("cosine", complex, 2, 2),
            sine=column("sine", complex, 2, 2),
            slots=column("slot", np.int64),
            scale=column("scale", np.float64),
            shift=column("shift", np.float64),
            dense=tuple(self.dense),
        )


def _as_one(action: Action) -> Action:
    """The action as a one-qubit operation, where it is one."""
    if isinstance(action, Flip) and len(action.wires) == 1:
        return One(action.wires[0], Part("CONST", matrix=(0, 1, 1, 0)))
    if isinstance(action, Phase) and action.values == (True,):
        return One(action.wires[0], Part("PHASE", action.angle))
    if isinstance(action, PauliRotation) and len(action.wires) == 1:
        return One(action.wires[0], Part("R" + action.word, action.angle))
    if isinstance(action, Dense) and len(action.wires) == 1 and action.slot is None:
        a, b, c, d = action.array().ravel().tolist()
        return One(action.wires[0], Part("CONST", matrix=(a, b, c, d)))
    return action


def _merged(chain: list[Factor]) -> list[Factor]:
    """Constant factors that follow each other become one."""
    found: list[Factor] = []
    for factor in chain:
        if factor.is_constant and found and found[-1].is_constant:
            found[-1] = Factor(factor.fixed @ found[-1].fixed)
        else:
            found.append(factor)
    return found


def word_masks(n_wires: int, word: tuple[tuple[int, str], ...]) -> tuple[int, int, complex]:
    """A Pauli word P as (flip, sign, phase): (P psi)[i] = phase * (-1)**parity(i & sign) * psi[i ^ flip]."""
    bits = [(1 << (n_wires - 1 - w), p) for w, p in word]
    flip, sign = sum(b for b, p in bits if p in "XY"), sum(b for b, p in bits if p in "YZ")
    return flip, sign, (-1j) ** (sum(p == "Y" for _, p in bits) % 4)


@dataclass(frozen=True, eq=False)
class WordTable:
    """The different Pauli words of some observables, and how they are combined: T words, M observables, K coefficients.

    Attributes:
        n_wires: Qubits.
        flips: The different flip masks.
        groups: For each flip mask, the places of its words.
        signs: Of the words, shape (T,), int64.
        phases: Of the words, shape (T,), complex128.
        coefficients: Of all observables one after the other, shape (K,), float64.
        observable: To which observable a coefficient belongs, shape (K,), int64.
        word: To which word it belongs, shape (K,), int64.
        n_observables: M.
    """

    n_wires: int
    flips: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    signs: _Array
    phases: _Array
    coefficients: _Array
    observable: _Array
    word: _Array
    n_observables: int


@functools.lru_cache(maxsize=256)
def words_of(n_wires: int, observables: tuple[PauliSum, ...]) -> WordTable:
    """The words of observables, each once, those of one flip mask side by side."""
    places: dict[tuple[int, int], int] = {}
    phases: list[complex] = []
    coefficients: list[float] = []
    owners: list[int] = []
    words: list[int] = []
    for number, observable in enumerate(observables):
        for coefficient, word in zip(observable.coefficients, observable.words, strict=True):
            flip, sign, phase = word_masks(n_wires, word)
            if (flip, sign) not in places:
                places[flip, sign] = len(places)
                phases.append(phase)
            coefficients.append(coefficient)
            owners.append(number)
            words.append(places[flip, sign])
    groups: dict[int, list[int]] = {}
    for (flip, _), place in places.items():
        groups.setdefault(flip, []).append(place)
    return WordTable(
        n_wires,
        tuple(groups),
        tuple(map(tuple, groups.values())),
        np.array([sign for _, sign in places], np.int64),
        np.array(phases, complex),
        np.array(coefficients, float),
        np.array(owners, np.int64),
        np.array(words, np.int64),
        len(observables),
    )


# Numbers of the table, for every library ------------------------------------------------------------------------------------


def step_matrices(table: Table, params: Any, constant: Callable[[_Array], Any], dtype: str, like: str) -> Any:
    """The 2 x 2 matrices of all steps, shape (..., S, 2, 2), from parameters (..., P); without the leading axes if none depends on them."""
    chains = constant(table.fixed)
    if not table.is_constant:
        steps, longest = table.slots.shape
        # No numpy array is an index here: JAX remembers in which precision it saw one, also after that has been changed.
        picked = do("reshape", params[..., constant(table.slots.ravel())], (*np.shape(params)[:-1], steps, longest, 1, 1), like=like)
        phi = constant(table.shift[..., None, None]) + constant(table.scale[..., None, None]) * picked
        chains = chains + do("cos", phi, like=like) * constant(table.cosine) + do("sin", phi, like=like) * constant(table.sine)
    found = chains[..., 0, :, :]
    for place in range(1, table.slots.shape[1]):
        found = do("matmul", chains[..., place, :, :], found, like=like)
    return astype(found, dtype)


def half_signs(n_wires: int, signs: Any, xp: Any = np) -> tuple[Any, Any]:
    """Signs (-1)**parity(i & sign) as a product of one of the upper and one of the lower bits of i: shapes (T, 2**upper), (T, 2**lower)."""
    lower = n_wires // 2

    def half(masks: Any, bits: int) -> Any:
        parity = xp.bitwise_count(masks[:, None] & xp.arange(1 << bits, dtype=masks.dtype)) & 1
        return 1 - 2 * parity.astype(xp.int32)

    return half(signs >> lower, n_wires - lower), half(signs & ((1 << lower) - 1), lower)


def combined(words: WordTable, values: Any, coefficients: Any, constant: Callable[[_Array], Any], like: str) -> Any:
    """Values of the observables (..., M), from values of the words (..., T)."""
    real = do("real", values, like=like)
    weights = constant(words.coefficients) if coefficients is None else do("real", coefficients, like=like)
    owners = np.eye(words.n_observables)[words.observable]
    return do("matmul", real[..., constant(words.word)] * weights, constant(owners), like=like)
