"""The gates: one table, a row for each, which says how the gate is made of a few primitive operations with affine angles.

A gate that is added here works everywhere: both engines, gradients, controls and inverses. Conventions are those of PennyLane:
rotations are ``exp(-1j * angle / 2 * P)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, constant

_HALF = math.pi / 2


@dataclass(frozen=True)
class Part:
    """A factor of a one-qubit operation: ``RX``, ``RY``, ``RZ``, ``PHASE`` (diag(1, exp(1j * angle))) or a constant 2 x 2 matrix."""

    kind: str
    angle: Angle | None = None
    matrix: tuple[complex, complex, complex, complex] | None = None

    def inverse(self) -> Part:
        """Its inverse."""
        if self.matrix is not None:
            a, b, c, d = (complex(x).conjugate() for x in self.matrix)
            return replace(self, matrix=(a, c, b, d))
        assert self.angle is not None
        return replace(self, angle=-self.angle)

    def conjugate(self) -> Part:
        """Its complex conjugate."""
        if self.matrix is not None:
            a, b, c, d = (complex(x).conjugate() for x in self.matrix)
            return replace(self, matrix=(a, b, c, d))
        assert self.angle is not None
        return self if self.kind == "RY" else replace(self, angle=-self.angle)


@dataclass(frozen=True)
class One:
    """A one-qubit operation."""

    wire: int
    part: Part

    def inverse(self) -> One:
        """Its inverse."""
        return One(self.wire, self.part.inverse())

    def conjugate(self) -> One:
        """Its complex conjugate."""
        return One(self.wire, self.part.conjugate())


@dataclass(frozen=True)
class PauliRotation:
    """``exp(-1j * angle / 2 * word)``."""

    wires: tuple[int, ...]
    word: str
    angle: Angle

    def inverse(self) -> PauliRotation:
        """Its inverse."""
        return replace(self, angle=-self.angle)

    def conjugate(self) -> PauliRotation:
        """Its complex conjugate: a word with an odd number of Y is imaginary."""
        return self if self.word.count("Y") % 2 else self.inverse()


@dataclass(frozen=True)
class Phase:
    """``exp(1j * angle)`` where every wire has its value; on all of the state if there are no wires."""

    wires: tuple[int, ...]
    values: tuple[bool, ...]
    angle: Angle

    def inverse(self) -> Phase:
        """Its inverse."""
        return replace(self, angle=-self.angle)

    conjugate = inverse


@dataclass(frozen=True)
class Flip:
    """Exchange amplitudes: X on a wire, or SWAP of two."""

    wires: tuple[int, ...]

    def inverse(self) -> Flip:
        """Itself."""
        return self

    conjugate = inverse


@dataclass(frozen=True)
class Dense:
    """A constant matrix, complex128 in C order as bytes; or, with a ``slot``, one that travels apart from the circuit, as parameters do:
    that number of them, or its conjugate transpose.
    """

    wires: tuple[int, ...]
    matrix: bytes = b""
    slot: int | None = None
    inverted: bool = False

    def array(self) -> np.ndarray:
        """Shape (2**k, 2**k).

        Raises:
            SimulationError: The matrix travels apart.
        """
        if self.slot is not None:
            raise SimulationError(f"matrix {self.slot} on wires {self.wires} travels apart from the circuit: only the array engine runs it")
        size = 1 << len(self.wires)
        return np.frombuffer(self.matrix, dtype=np.complex128).reshape(size, size)

    def inverse(self) -> Dense:
        """Its conjugate transpose."""
        if self.slot is not None:
            return replace(self, inverted=not self.inverted)
        return Dense(self.wires, np.ascontiguousarray(self.array().conj().T).tobytes())

    def conjugate(self) -> Dense:
        """Its complex conjugate."""
        return Dense(self.wires, self.array().conj().tobytes())


Action = One | PauliRotation | Phase | Flip | Dense


@dataclass(frozen=True)
class Primitive:
    """An action where all controls have their values."""

    action: Action
    controls: tuple[int, ...] = ()
    values: tuple[bool, ...] = ()

    def inverse(self) -> Primitive:
        """Its inverse."""
        return replace(self, action=self.action.inverse())

    def conjugate(self) -> Primitive:
        """Its complex conjugate; controls stay."""
        return replace(self, action=self.action.conjugate())


_Rule = Callable[[Gate], Iterator[Primitive | Action]]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        n_wires: How many wires; None: any number.
        n_angles: How many parameters.
        rule: What it is made of, in order of time. Controls of the whole gate are added to what is not a ``Primitive``; a ``Primitive``
            with ``controls`` is conjugated away where the gate is controlled (see ``expand``).
    """

    n_wires: int | None
    n_angles: int
    rule: _Rule


def _rotation(kind: str) -> _Rule:
    def rule(gate: Gate) -> Iterator[Action]:
        yield One(gate.wires[0], Part(kind, gate.angles[0]))

    return rule


def _matrix2(*values: complex) -> _Rule:
    a, b, c, d = (complex(v) for v in values)

    def rule(gate: Gate) -> Iterator[Action]:
        yield One(gate.wires[0], Part("CONST", matrix=(a, b, c, d)))

    return rule


def _fixed_phase(angle: float) -> _Rule:
    def rule(gate: Gate) -> Iterator[Action]:
        yield One(gate.wires[0], Part("PHASE", constant(angle)))

    return rule


def _with_controls(n_controls: int, rule: _Rule) -> _Rule:
    """The rule on the last wires, controlled by the first ones."""

    def controlled(gate: Gate) -> Iterator[Primitive | Action]:
        controls, rest = gate.wires[:n_controls], gate.wires[n_controls:]
        for action in rule(replace(gate, wires=rest)):
            assert not isinstance(action, Primitive)
            yield Primitive(action, controls, (True,) * n_controls)

    return controlled


def _flip(gate: Gate) -> Iterator[Action]:
    yield Flip(gate.wires)


def _rot(gate: Gate) -> Iterator[Action]:
    phi, theta, omega = gate.angles
    for kind, angle in (("RZ", phi), ("RY", theta), ("RZ", omega)):
        yield One(gate.wires[0], Part(kind, angle))


def _u2(gate: Gate) -> Iterator[Action]:
    phi, delta = gate.angles
    yield from _u3(replace(gate, angles=(constant(_HALF), phi, delta)))


def _u3(gate: Gate) -> Iterator[Action]:
    theta, phi, delta = gate.angles
    for kind, angle in (("PHASE", delta), ("RY", theta), ("PHASE", phi)):
        yield One(gate.wires[0], Part(kind, angle))


def _word(word: str) -> _Rule:
    def rule(gate: Gate) -> Iterator[Action]:
        yield PauliRotation(gate.wires, word, gate.angles[0])

    return rule


def _multi_rz(gate: Gate) -> Iterator[Action]:
    yield PauliRotation(gate.wires, "Z" * len(gate.wires), gate.angles[0])


def _pauli_rot(gate: Gate) -> Iterator[Action]:
    kept = [(w, p) for w, p in zip(gate.wires, gate.word, strict=True) if p != "I"]
    if kept:
        yield PauliRotation(tuple(w for w, _ in kept), "".join(p for _, p in kept), gate.angles[0])
    else:
        yield Phase((), (), -0.5 * gate.angles[0])


def _phase_where(*values: bool) -> _Rule:
    def rule(gate: Gate) -> Iterator[Action]:
        yield Phase(gate.wires, values, gate.angles[0])

    return rule


def _global_phase(gate: Gate) -> Iterator[Action]:
    yield Phase((), (), -gate.angles[0])


def _dense(gate: Gate) -> Iterator[Action]:
    action = Dense(gate.wires, gate.matrix, gate.slot)
    if len(gate.wires) == 1 and gate.slot is None:  # faster, and merges with its neighbours
        a, b, c, d = action.array().ravel().tolist()
        yield One(gate.wires[0], Part("CONST", matrix=(a, b, c, d)))
    else:
        yield action


def _fixed(matrix: object) -> _Rule:
    data = np.ascontiguousarray(matrix, dtype=np.complex128).tobytes()

    def rule(gate: Gate) -> Iterator[Action]:
        yield Dense(gate.wires, data)

    return rule


def _in_pair_frame(gate: Gate, inner: list[Primitive | Action]) -> Iterator[Primitive | Action]:
    """Between CNOTs that turn the pair (01, 10) into one bit: wire 0, where wire 1 is 1. Where wire 1 is 0 lie 00 and 11."""
    a, b = gate.wires
    frame = Primitive(Flip((b,)), (a,), (True,))
    yield frame
    yield from inner
    yield frame


def _pair(kind: str, factor: float, others: float = 0.0) -> _Rule:
    """A rotation of (01, 10), and a phase of ``others`` times the angle on 00 and 11."""

    def rule(gate: Gate) -> Iterator[Primitive | Action]:
        (angle,) = gate.angles
        a, b = gate.wires
        inner: list[Primitive | Action] = [Primitive(One(a, Part(kind, factor * angle)), (b,), (True,))]
        if others:
            inner.append(Phase((b,), (False,), others * angle))
        yield from _in_pair_frame(gate, inner)

    return rule


def _pswap(gate: Gate) -> Iterator[Primitive | Action]:
    yield Flip(gate.wires)
    yield from _in_pair_frame(gate, [Phase((gate.wires[1],), (True,), gate.angles[0])])


def _fermionic_swap(gate: Gate) -> Iterator[Primitive | Action]:
    (angle,) = gate.angles
    a, b = gate.wires
    yield Phase(gate.wires, (True, True), angle)
    inner: list[Primitive | Action] = [Primitive(One(a, Part("RX", angle)), (b,), (True,)), Phase((b,), (True,), 0.5 * angle)]
    yield from _in_pair_frame(gate, inner)


def _double(others: float = 0.0) -> _Rule:
    """A rotation of (0011, 1100), and a phase of ``others`` times the angle on all else."""

    def rule(gate: Gate) -> Iterator[Primitive | Action]:
        (angle,) = gate.angles
        a, *rest = gate.wires
        frame = [Primitive(Flip((b,)), (a,), (True,)) for b in rest]
        values = (False, True, True)
        if others:
            yield Phase((), (), others * angle)
        yield from frame
        yield Primitive(One(a, Part("RY", angle)), tuple(rest), values)
        if others:
            yield Phase(tuple(rest), values, -others * angle)
        yield from frame

    return rule


_S = math.sqrt(0.5)
_H = _matrix2(_S, _S, _S, -_S)
_Y = _matrix2(0, -1j, 1j, 0)
_ISWAP = [[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]]
_SISWAP = [[1, 0, 0, 0], [0, _S, 1j * _S, 0], [0, 1j * _S, _S, 0], [0, 0, 0, 1]]
_ECR = np.array([[0, 0, 1, 1j], [0, 0, 1j, 1], [1, -1j, 0, 0], [-1j, 1, 0, 0]]) * _S

GATES: dict[str, Row] = {
    "Identity": Row(None, 0, lambda _: iter(())),
    "PauliX": Row(1, 0, _flip),
    "PauliY": Row(1, 0, _Y),
    "PauliZ": Row(1, 0, _fixed_phase(math.pi)),
    "Hadamard": Row(1, 0, _H),
    "S": Row(1, 0, _fixed_phase(_HALF)),
    "T": Row(1, 0, _fixed_phase(math.pi / 4)),
    "SX": Row(1, 0, _matrix2(0.5 + 0.5j, 0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j)),
    "RX": Row(1, 1, _rotation("RX")),
    "RY": Row(1, 1, _rotation("RY")),
    "RZ": Row(1, 1, _rotation("RZ")),
    "PhaseShift": Row(1, 1, _rotation("PHASE")),
    "U1": Row(1, 1, _rotation("PHASE")),
    "Rot": Row(1, 3, _rot),
    "U2": Row(1, 2, _u2),
    "U3": Row(1, 3, _u3),
    "CNOT": Row(2, 0, _with_controls(1, _flip)),
    "CY": Row(2, 0, _with_controls(1, _Y)),
    "CZ": Row(2, 0, _with_controls(1, _fixed_phase(math.pi))),
    "CH": Row(2, 0, _with_controls(1, _H)),
    "Toffoli": Row(3, 0, _with_controls(2, _flip)),
    "CCZ": Row(3, 0, _with_controls(2, _fixed_phase(math.pi))),
    "SWAP": Row(2, 0, _flip),
    "CSWAP": Row(3, 0, _with_controls(1, _flip)),
    "ISWAP": Row(2, 0, _fixed(_ISWAP)),
    "SISWAP": Row(2, 0, _fixed(_SISWAP)),
    "SQISW": Row(2, 0, _fixed(_SISWAP)),
    "ECR": Row(2, 0, _fixed(_ECR)),
    "CRX": Row(2, 1, _with_controls(1, _rotation("RX"))),
    "CRY": Row(2, 1, _with_controls(1, _rotation("RY"))),
    "CRZ": Row(2, 1, _with_controls(1, _rotation("RZ"))),
    "CRot": Row(2, 3, _with_controls(1, _rot)),
    "ControlledPhaseShift": Row(2, 1, _phase_where(True, True)),
    "CPhaseShift00": Row(2, 1, _phase_where(False, False)),
    "CPhaseShift01": Row(2, 1, _phase_where(False, True)),
    "CPhaseShift10": Row(2, 1, _phase_where(True, False)),
    "GlobalPhase": Row(None, 1, _global_phase),
    "IsingXX": Row(2, 1, _word("XX")),
    "IsingYY": Row(2, 1, _word("YY")),
    "IsingZZ": Row(2, 1, _word("ZZ")),
    "IsingXY": Row(2, 1, _pair("RX", -1.0)),
    "MultiRZ": Row(None, 1, _multi_rz),
    "PauliRot": Row(None, 1, _pauli_rot),
    "PSWAP": Row(2, 1, _pswap),
    "FermionicSWAP": Row(2, 1, _fermionic_swap),
    "SingleExcitation": Row(2, 1, _pair("RY", 1.0)),
    "SingleExcitationPlus": Row(2, 1, _pair("RY", 1.0, 0.5)),
    "SingleExcitationMinus": Row(2, 1, _pair("RY", 1.0, -0.5)),
    "DoubleExcitation": Row(4, 1, _double()),
    "DoubleExcitationPlus": Row(4, 1, _double(0.5)),
    "DoubleExcitationMinus": Row(4, 1, _double(-0.5)),
    "Matrix": Row(None, 0, _dense),
}


def expand(gate: Gate) -> list[Primitive]:
    """What a gate is made of, in order of time.

    Raises:
        SimulationError: The gate is not in the table, or has another number of wires or parameters.
    """
    row = GATES.get(gate.name)
    if row is None:
        raise SimulationError(f"there is no gate {gate.name!r} in the simulator's table; decompose it, or give its matrix")
    if row.n_wires not in (None, len(gate.wires)) or row.n_angles != len(gate.angles):
        raise SimulationError(
            f"{gate.name} takes {row.n_wires} wires and {row.n_angles} parameters, not {len(gate.wires)} and {len(gate.angles)}"
        )
    found = []
    for item in row.rule(gate):
        primitive = item if isinstance(item, Primitive) else Primitive(item)
        found.append(
            replace(
                primitive,
                controls=(*gate.controls, *primitive.controls),
                values=(*gate.control_values, *primitive.values),
            )
        )
    if gate.inverse:
        found = [p.inverse() for p in reversed(found)]
    return [p.conjugate() for p in found] if gate.conjugate else found


def primitives(circuit: Circuit) -> Iterator[Primitive]:
    """What a circuit is made of, in order of time.

    Raises:
        SimulationError: See ``Circuit.check`` and ``expand``.
    """
    circuit.check()
    for gate in circuit.gates:
        yield from expand(gate)
