"""A circuit as two flat arrays that the kernels run: one-qubit gates on the same wire merged, everything else in order."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pl_hybridjobs.sim import kernels as k
from pl_hybridjobs.sim.circuit import Angle, Circuit, PauliSum
from pl_hybridjobs.sim.gates import Dense, Flip, One, Part, PauliRotation, Phase, Primitive, expand

_PART_KINDS = {"RX": k.RX, "RY": k.RY, "RZ": k.RZ, "PHASE": k.DIAG, "CONST": k.CONST}
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Program:
    """What the kernels run.

    Attributes:
        code: int64, see ``kernels``.
        data: float64 constants.
        n_wires: Qubits.
        n_parameters: Length of the parameter vector.
        n_observables: How many expectation values it gives.
    """

    code: _Ints
    data: _Floats
    n_wires: int
    n_parameters: int
    n_observables: int


@functools.lru_cache(maxsize=256)
def compile_circuit(circuit: Circuit) -> Program:
    """The program of a circuit; the same one for equal circuits.

    Raises:
        SimulationError: See ``Circuit.check`` and ``gates.expand``.
    """
    circuit.check()
    builder = _Builder(circuit.n_wires)
    for gate in circuit.gates:
        for primitive in expand(gate):
            builder.add(primitive)
    builder.flush_all()
    return builder.finish(circuit)


@dataclass
class _Builder:
    n_wires: int
    rows: list[list[int]] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    subs: list[tuple[int, int]] = field(default_factory=list)
    angles: list[Angle] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    waiting: dict[int, list[Part]] = field(default_factory=dict)

    def bit(self, wire: int) -> int:
        return self.n_wires - 1 - wire

    def mask(self, wires: tuple[int, ...], values: tuple[bool, ...]) -> int:
        return sum(1 << self.bit(w) for w, v in zip(wires, values, strict=True) if v)

    def add(self, primitive: Primitive) -> None:
        action, controls, values = primitive.action, primitive.controls, primitive.values
        if isinstance(action, One) and not controls:
            self.waiting.setdefault(action.wire, []).append(action.part)
            return
        wires = (action.wire,) if isinstance(action, One) else action.wires
        for wire in (*wires, *controls):
            self.flush(wire)
        if isinstance(action, One) and action.part.kind == "PHASE":
            assert action.part.angle is not None
            action = Phase((action.wire,), (True,), action.part.angle)
        if isinstance(action, One):
            self.one(action.wire, [action.part], controls, values)
        elif isinstance(action, Phase):
            self.phase(action, controls, values)
        elif isinstance(action, Flip):
            self.flip(action, controls, values)
        elif isinstance(action, PauliRotation):
            self.pauli(action, controls, values)
        else:
            self.dense(action, controls, values)

    def flush(self, wire: int) -> None:
        parts = self.waiting.pop(wire, None)
        if parts:
            self.one(wire, parts, (), ())

    def flush_all(self) -> None:
        for wire in sorted(self.waiting):
            self.flush(wire)

    def angle(self, angle: Angle) -> int:
        self.angles.append(angle)
        return len(self.angles) - 1

    def row(self, kind: int, fixed: list[int], value: int, **columns: int) -> None:
        row = [0] * k.WIDTH
        at = len(self.tables)
        self.tables += sorted(fixed)
        row[k.KIND], row[k.FIXED], row[k.N_FIXED], row[k.VALUE] = kind, at, len(fixed), value
        for name, content in columns.items():
            row[getattr(k, name)] = content
        self.rows.append(row)

    def one(self, wire: int, parts: list[Part], controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        start = len(self.subs)
        for part in _merged(parts):
            if part.matrix is not None:
                where = len(self.constants)
                self.constants += [x for c in part.matrix for x in (c.real, c.imag)]
            else:
                assert part.angle is not None
                where = self.angle(part.angle)
            self.subs.append((_PART_KINDS[part.kind], where))
        target = self.bit(wire)
        fixed = [target, *(self.bit(c) for c in controls)]
        self.row(k.ONE, fixed, self.mask(controls, values), TARGET=target, A=start, B=len(self.subs))

    def phase(self, action: Phase, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        wires, wanted = (*action.wires, *controls), (*action.values, *values)
        self.row(k.PHASE, [self.bit(w) for w in wires], self.mask(wires, wanted), A=self.angle(action.angle))

    def flip(self, action: Flip, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        bits = [self.bit(w) for w in action.wires]
        value = self.mask(controls, values)
        if len(bits) == 2:  # (0, 1) and (1, 0) change places
            value |= 1 << bits[1]
        self.row(k.FLIP, [*bits, *(self.bit(c) for c in controls)], value, XMASK=sum(1 << b for b in bits))

    def pauli(self, action: PauliRotation, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        x, z, n_y = self.masks(tuple(zip(action.wires, action.word, strict=True)))
        fixed = [self.bit(c) for c in controls]
        if x:
            fixed.append(x.bit_length() - 1)
        self.row(k.PAULI, fixed, self.mask(controls, values), A=self.angle(action.angle), XMASK=x, ZMASK=z, N_Y=n_y)

    def dense(self, action: Dense, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        bits = [self.bit(w) for w in reversed(action.wires)]
        at = len(self.constants)
        self.constants += action.array().view(np.float64).ravel().tolist()
        where = len(self.tables)
        self.tables += bits
        self.row(k.MATRIX, [*bits, *(self.bit(c) for c in controls)], self.mask(controls, values), A=at, B=len(action.wires), XMASK=where)

    def masks(self, word: tuple[tuple[int, str], ...]) -> tuple[int, int, int]:
        x = sum(1 << self.bit(w) for w, p in word if p in "XY")
        z = sum(1 << self.bit(w) for w, p in word if p in "YZ")
        return x, z, sum(p == "Y" for _, p in word)

    def groups(self, observable: PauliSum) -> dict[int, list[tuple[int, int, float]]]:
        """Terms by flip mask: those of one mask share a pass over the state."""
        found: dict[int, list[tuple[int, int, float]]] = {}
        for coefficient, word in zip(observable.coefficients, observable.words, strict=True):
            x, z, n_y = self.masks(word)
            found.setdefault(x, []).append((z, n_y & 3, coefficient))
        return dict(sorted(found.items()))

    def finish(self, circuit: Circuit) -> Program:
        code = [0] * k.HEADER

        def place(header: int, content: list[int]) -> int:
            code[header] = len(code)
            code.extend(content)
            return code[header]

        tables_at = len(code)
        code.extend(self.tables)
        for row in self.rows:
            row[k.FIXED] += tables_at
            if row[k.KIND] == k.MATRIX:
                row[k.XMASK] += tables_at
        place(k.H_OPS_AT, [x for row in self.rows for x in row])
        place(k.H_SLOTS_AT, [-1 if a.slot is None else a.slot for a in self.angles])
        place(k.H_SUBS_AT, [x for sub in self.subs for x in sub])
        obs: list[tuple[int, int]] = []
        groups: list[tuple[int, int, int]] = []
        terms: list[tuple[int, int]] = []
        coefficients: list[float] = []
        for observable in circuit.observables:
            first = len(groups)
            for x, members in self.groups(observable).items():
                groups.append((x, len(terms), len(terms) + len(members)))
                for z, n_y, coefficient in members:
                    terms.append((z, n_y))
                    coefficients.append(coefficient)
            obs.append((first, len(groups)))
        place(k.H_OBS_AT, [x for pair in obs for x in pair])
        place(k.H_GROUPS_AT, [x for group in groups for x in group])
        place(k.H_TERMS_AT, [x for term in terms for x in term])
        code[k.H_QUBITS], code[k.H_OPS], code[k.H_ANGLES], code[k.H_OBS] = self.n_wires, len(self.rows), len(self.angles), len(obs)
        data = list(self.constants)
        code[k.H_SCALE_AT] = len(data)
        data += [a.scale for a in self.angles]
        code[k.H_SHIFT_AT] = len(data)
        data += [a.shift for a in self.angles]
        code[k.H_COEFF_AT] = len(data)
        data += coefficients
        code[k.H_LENGTH] = len(code)
        return Program(
            np.array(code, dtype=np.int64), np.array(data or [0.0], dtype=np.float64), self.n_wires, circuit.n_parameters, len(obs)
        )


def _merged(parts: list[Part]) -> list[Part]:
    """Constant factors that follow each other become one."""
    found: list[Part] = []
    for given in parts:
        part = _as_constant(given)
        if part.matrix is not None and found and found[-1].matrix is not None:
            before = np.array(found[-1].matrix).reshape(2, 2)
            a, b, c, d = (np.array(part.matrix).reshape(2, 2) @ before).ravel().tolist()
            found[-1] = Part("CONST", matrix=(a, b, c, d))
        else:
            found.append(part)
    return found


def _as_constant(part: Part) -> Part:
    if part.matrix is not None or part.angle is None or part.angle.slot is not None:
        return part
    c, s = np.cos(part.angle.shift / 2), np.sin(part.angle.shift / 2)
    matrix = {
        "RX": (c, -1j * s, -1j * s, c),
        "RY": (c, -s, s, c),
        "RZ": (c - 1j * s, 0, 0, c + 1j * s),
        "PHASE": (1, 0, 0, np.exp(1j * part.angle.shift)),
    }[part.kind]
    a, b, c_, d = (complex(x) for x in matrix)
    return Part("CONST", matrix=(a, b, c_, d))
