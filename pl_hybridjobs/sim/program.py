"""A circuit as two flat arrays that the kernels run: one-qubit gates on the same wire merged, also with
those that another wire controls, and operations gathered into visits.

Large circuits are made of real operations and of layers of phases: each one-qubit gate is RZ RY RZ, phases change places with what does
not move their bits and pass through CNOTs, and all that meet are done in one pass.
"""

from __future__ import annotations

import cmath
import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pl_hybridjobs.sim import kernels as k
from pl_hybridjobs.sim.circuit import Angle, Circuit, PauliSum, constant
from pl_hybridjobs.sim.gates import Dense, Flip, One, Part, PauliRotation, Phase, Primitive, primitives
from pl_hybridjobs.sim.lanes import MAX_LANES

_PART_KINDS = {"RX": k.RX, "RY": k.RY, "RZ": k.RZ, "PHASE": k.DIAG, "CONST": k.CONST}
_X = Part("CONST", matrix=(0, 1, 1, 0))
#: States are padded to so many, with amplitudes that stay 0: a whole vector of lanes.
MIN_QUBITS = MAX_LANES.bit_length() - 1
# A block of so many qubits stays in a core's own cache; at least so many of them follow each other in memory.
_CACHED_QUBITS = 13
_RUN_QUBITS = 6
# From so many qubits on, a block is long enough for the tables of a layer, and arithmetic costs more than setting them up.
_LAYERS_FROM = 9
_ROUNDING = 1e-14
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Program:
    """What the kernels run.

    Attributes:
        code: int64, see ``kernels``.
        data: float64 constants.
        n_wires: Qubits.
        n_qubits: Those of the state that the kernels work on, at least ``MIN_QUBITS``.
        n_parameters: Length of the parameter vector.
        n_observables: How many expectation values it gives.
    """

    code: _Ints
    data: _Floats
    n_wires: int
    n_qubits: int
    n_parameters: int
    n_observables: int


@dataclass
class Visit:
    """Operations that are done together on each block of a state.

    Attributes:
        bits: Those of the whole index that count the amplitudes of a block, ascending.
        operations: In order of time.
    """

    bits: tuple[int, ...]
    operations: list[_Operation]

    @property
    def run(self) -> int:
        """log2 of how many amplitudes of a block follow each other in the state."""
        return next((at for at, bit in enumerate(self.bits) if at != bit), len(self.bits))

    def offsets(self) -> list[int]:
        """Where a block's runs lie, relative to its first."""
        high = self.bits[self.run :]
        return [sum(1 << bit for at, bit in enumerate(high) if r >> at & 1) for r in range(1 << len(high))]

    def local(self, mask: int) -> int:
        """The bits of a mask that a block has, as bits of an index into it."""
        return sum(1 << at for at, bit in enumerate(self.bits) if mask >> bit & 1)


def visits(operations: list[_Operation], n_qubits: int) -> list[Visit]:
    """Cut a circuit into visits, so that a state that is larger than the cache is gone through a few times, not once for each operation.

    Operations change places only where they commute, because they move different bits, and none moves a bit on which the other depends.
    """
    everything = tuple(range(n_qubits))
    if n_qubits <= _CACHED_QUBITS:
        return [Visit(everything, operations)]
    size = min(_CACHED_QUBITS, n_qubits - 2)  # a few blocks at least, for the threads
    found: list[Visit] = []
    remaining = operations
    while remaining:
        bits = (1 << _RUN_QUBITS) - 1
        chosen: list[_Operation] = []
        later: list[_Operation] = []
        moved = touched = 0  # by those that come later
        for at, op in enumerate(remaining):
            wanted = bits | op.moved
            if not op.moved & (moved | touched) and not op.touched & moved and wanted.bit_count() <= size:
                chosen.append(op)
                bits = wanted
                continue
            later.append(op)
            moved, touched = moved | op.moved, touched | op.touched
            if moved.bit_count() == n_qubits:
                later += remaining[at + 1 :]
                break
        if chosen:
            for bit in everything:
                if bits.bit_count() < size:
                    bits |= 1 << bit
            found.append(Visit(tuple(b for b in everything if bits >> b & 1), chosen))
        else:  # it moves more bits than a block has
            found.append(Visit(everything, [later.pop(0)]))
        remaining = later
    return found


@functools.lru_cache(maxsize=256)
def compile_circuit(circuit: Circuit) -> Program:
    """The program of a circuit; the same one for equal circuits.

    Raises:
        SimulationError: See ``gates.primitives``.
    """
    builder = _Builder(circuit.n_wires, layered=circuit.n_wires >= _LAYERS_FROM)
    for primitive in primitives(circuit):
        builder.add(primitive)
    builder.flush_all()
    if builder.layered:
        builder.operations = _layered(builder.operations, circuit.n_wires)
    return builder.finish(circuit)


@dataclass
class _Pending:
    """One-qubit parts on a wire that are not written yet; some act only where another wire, ``select``, has a value."""

    select: int | None = None
    parts: list[tuple[Part, int]] = field(default_factory=list)


@dataclass
class _Operation:
    """A row of ``code`` before its bits are renumbered for a visit: bits and masks are those of the whole index."""

    kind: int
    moved: int = 0  # bits on which amplitudes change places
    select: int = -1
    a: int = 0
    b: int = 0
    z: int = 0
    n_y: int = 0  # of a one-qubit operation: 1 if it is real
    cmask: int = 0
    cvalue: int = 0
    bits: tuple[int, ...] = ()  # of a dense matrix, the least significant first
    phases: tuple[tuple[int, int], ...] = ()  # of a layer: angles and masks

    @property
    def touched(self) -> int:
        """All bits on which it depends without moving them."""
        of_phases = functools.reduce(operator.or_, (mask for _, mask in self.phases), 0)
        return self.cmask | self.z | of_phases | (1 << self.select if self.select >= 0 else 0)


@dataclass
class _Builder:
    n_wires: int
    layered: bool = False  # made of real operations and layers of phases
    operations: list[_Operation] = field(default_factory=list)
    subs: list[tuple[int, int, int]] = field(default_factory=list)
    angles: list[Angle] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    waiting: dict[int, _Pending] = field(default_factory=dict)

    def bit(self, wire: int) -> int:
        return self.n_wires - 1 - wire

    def mask(self, wires: tuple[int, ...], values: tuple[bool, ...]) -> int:
        return sum(1 << self.bit(w) for w, v in zip(wires, values, strict=True) if v)

    def append(self, operation: _Operation, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        cmask = self.mask(controls, (True,) * len(controls))
        self.operations.append(replace(operation, cmask=cmask, cvalue=self.mask(controls, values)))

    def add(self, primitive: Primitive) -> None:
        action, controls, values = primitive.action, primitive.controls, primitive.values
        if isinstance(action, Flip) and len(action.wires) == 1:
            action = One(action.wires[0], _X)
        if isinstance(action, One):
            if not controls:
                self.make_way(action.wire)
                self.waiting.setdefault(action.wire, _Pending()).parts.append((action.part, k.ALWAYS))
                return
            if len(controls) == 1 and self.merged(action, controls[0], values[0]):
                return
            if action.part.kind == "PHASE":
                assert action.part.angle is not None
                action = Phase((action.wire,), (True,), action.part.angle)
        for wire in (*((action.wire,) if isinstance(action, One) else action.wires), *controls):
            self.make_way(wire)
            self.flush(wire)
        if isinstance(action, One):
            self.one(action.wire, _Pending(None, [(action.part, k.ALWAYS)]), controls, values)
        elif isinstance(action, Phase):
            wires, wanted = (*action.wires, *controls), (*action.values, *values)
            if self.layered and len(wires) <= 2:
                self.phase_where(wires, wanted, action.angle)
                return
            self.append(_Operation(k.PHASE, a=self.angle(action.angle)), wires, wanted)
        elif isinstance(action, Flip):
            bits = sum(1 << self.bit(w) for w in action.wires)
            self.append(_Operation(k.SWAP, bits, z=bits), controls, values)
        elif isinstance(action, PauliRotation) and self.layered and not controls and set(action.word) <= {"Z"}:
            self.phase(action.angle, self.mask(action.wires, (True,) * len(action.wires)))
        elif isinstance(action, PauliRotation):
            x, z, n_y = self.masks(tuple(zip(action.wires, action.word, strict=True)))
            self.append(_Operation(k.PAULI, x, a=self.angle(action.angle), z=z, n_y=n_y), controls, values)
        else:
            self.dense(action, controls, values)

    def merged(self, action: One, control: int, value: bool) -> bool:
        """Put a controlled one-qubit part into the operation that waits on its wire: then it costs nothing."""
        pending = self.waiting.get(action.wire)
        if pending is None and action.part.kind == "PHASE":
            return False  # alone, it touches a quarter of the state
        if pending is not None and pending.select not in (None, control):
            self.flush(action.wire)
        self.make_way(action.wire)
        self.flush(control)
        pending = self.waiting.setdefault(action.wire, _Pending())
        pending.select = control
        pending.parts.append((action.part, k.IF_1 if value else k.IF_0))
        return True

    def make_way(self, wire: int) -> None:
        """Write what waits for a value of this wire that is about to change."""
        for other in [w for w, pending in self.waiting.items() if pending.select == wire]:
            self.flush(other)

    def flush(self, wire: int) -> None:
        pending = self.waiting.pop(wire, None)
        if pending is not None:
            self.one(wire, pending, (), ())

    def flush_all(self) -> None:
        for wire in sorted(self.waiting):
            self.flush(wire)

    def angle(self, angle: Angle) -> int:
        self.angles.append(angle)
        return len(self.angles) - 1

    def phase(self, angle: Angle, mask: int) -> None:
        """``exp(-1j * angle / 2 * (-1)**parity(i & mask))``."""
        self.operations.append(_Operation(k.LAYER, phases=((self.angle(angle), mask),)))

    def phase_where(self, wires: tuple[int, ...], values: tuple[bool, ...], angle: Angle) -> None:
        """``exp(1j * angle)`` where each wire has its value: a product of projectors (1 -+ Z) / 2, multiplied out."""
        bits = [1 << self.bit(wire) for wire in wires]
        for chosen in range(1 << len(bits)):
            mask = sum(bit for at, bit in enumerate(bits) if chosen >> at & 1)
            minus = sum(value for at, value in enumerate(values) if chosen >> at & 1) % 2
            self.phase(angle * ((2.0 if minus else -2.0) / (1 << len(bits))), mask)

    def split(self, wire: int, pending: _Pending) -> bool:
        """Write what waits on a wire as real operations and phases between them.

        Returns:
            Whether that is possible; nothing is written if not.
        """
        bit, select = 1 << self.bit(wire), 0 if pending.select is None else 1 << self.bit(pending.select)
        tokens = _tokens(_merged(pending.parts), bit, select)
        if tokens is None:
            return False
        real: list[tuple[Part, int]] = []
        after: list[tuple[Angle, int]] = []
        for token, condition in tokens:
            if isinstance(token, Part):
                if after and not _is_flip(token):
                    self.real(wire, pending.select, real)
                    for angle, mask in after:
                        self.phase(angle, mask)
                    real, after = [], []
                real.append((token, condition))
                after = [_through(angle, mask, condition, bit, select) for angle, mask in after]
            elif not condition & bit:  # it changes places with everything here
                self.phase(token, condition)
            elif all(_is_flip(part) for part, _ in real):
                angle, mask = token, condition
                for _, when in reversed(real):
                    angle, mask = _through(angle, mask, when, bit, select)
                self.phase(angle, mask)
            else:
                after.append((token, condition))
        self.real(wire, pending.select, real)
        for angle, mask in after:
            self.phase(angle, mask)
        return True

    def real(self, wire: int, select: int | None, parts: list[tuple[Part, int]]) -> None:
        if parts:
            self.write(wire, _Pending(select if any(when != k.ALWAYS for _, when in parts) else None, parts), (), ())

    def one(self, wire: int, pending: _Pending, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        if not self.layered or controls or not self.split(wire, pending):
            self.write(wire, pending, controls, values)

    def write(self, wire: int, pending: _Pending, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        start = len(self.subs)
        parts = _merged(pending.parts)
        for part, condition in parts:
            if part.matrix is not None:
                where = len(self.constants)
                self.constants += [x for c in part.matrix for x in (c.real, c.imag)]
            else:
                assert part.angle is not None
                where = self.angle(part.angle)
            self.subs.append((_PART_KINDS[part.kind], where, condition))
        select = -1 if pending.select is None else self.bit(pending.select)
        real = self.layered and all(_is_real(part) for part, _ in parts)
        self.append(_Operation(k.ONE, 1 << self.bit(wire), select, a=start, b=len(self.subs), n_y=int(real)), controls, values)

    def dense(self, action: Dense, controls: tuple[int, ...], values: tuple[bool, ...]) -> None:
        bits = tuple(self.bit(w) for w in reversed(action.wires))
        at = len(self.constants)
        self.constants += action.array().view(np.float64).ravel().tolist()
        self.append(_Operation(k.MATRIX, sum(1 << b for b in bits), a=at, b=len(bits), bits=bits), controls, values)

    def needs_overlap(self, op: _Operation) -> bool:
        """Whether it has angles that depend on parameters."""
        if op.kind == k.ONE:
            return any(kind != k.CONST and self.angles[where].slot is not None for kind, where, _ in self.subs[op.a : op.b])
        if op.kind == k.LAYER:
            return any(self.angles[angle].slot is not None for angle, _ in op.phases)
        return op.kind in (k.PAULI, k.PHASE) and self.angles[op.a].slot is not None

    def row(self, op: _Operation, visit: Visit, keep: Callable[[Sequence[int]], int]) -> list[int]:
        """An operation as a row of ``code``, its bits renumbered for a visit."""
        inside = sum(1 << b for b in visit.bits)
        row = [0] * k.WIDTH
        row[k.KIND], row[k.A], row[k.B], row[k.N_Y], row[k.NEEDS] = op.kind, op.a, op.b, op.n_y, self.needs_overlap(op)
        row[k.X], row[k.CMASK], row[k.CVALUE] = visit.local(op.moved), visit.local(op.cmask), visit.local(op.cvalue)
        row[k.E_CMASK], row[k.E_CVALUE] = op.cmask & ~inside, op.cvalue & ~inside
        row[k.TARGET], row[k.SELECT] = max(row[k.X].bit_length() - 1, 0), -1
        if op.kind == k.LAYER:
            row[k.A] = keep([x for angle, mask in op.phases for x in (angle, visit.local(mask), mask & ~inside)])
            row[k.B] = len(op.phases)
        elif op.kind == k.MATRIX:
            bits = [visit.bits.index(b) for b in op.bits]
            row[k.TARGET] = keep([*bits, *sorted(bits)])
        elif op.kind == k.ONE:
            row[k.M0] = row[k.X]
            if op.select >= 0:
                row[k.M1], row[k.E1] = visit.local(1 << op.select), (1 << op.select) & ~inside
                row[k.SELECT] = row[k.M1].bit_length() - 1
        else:
            row[k.M0], row[k.E0] = visit.local(op.z), op.z & ~inside
        return row

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

        lists: list[int] = []

        def keep(content: Sequence[int]) -> int:
            lists.extend(content)
            return k.HEADER + len(lists) - len(content)

        n = max(self.n_wires, MIN_QUBITS)
        plan = visits(self.operations, n)
        rows: list[int] = []
        stops: list[int] = []
        for visit in plan:
            first = len(rows) // k.WIDTH
            for op in visit.operations:
                rows += self.row(op, visit, keep)
            where = keep(visit.bits), keep(visit.offsets())
            stops += [len(visit.bits), first, first + len(visit.operations), visit.run, *where]
        code.extend(lists)
        place(k.H_OPS_AT, rows)
        place(k.H_VISITS_AT, stops)
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
        code[k.H_QUBITS], code[k.H_OPS], code[k.H_ANGLES], code[k.H_OBS] = n, len(self.operations), len(self.angles), len(obs)
        code[k.H_VISITS], code[k.H_LONGEST] = len(plan), max((len(v.operations) for v in plan), default=0) or 1
        data = list(self.constants)
        code[k.H_SCALE_AT] = len(data)
        data += [a.scale for a in self.angles]
        code[k.H_SHIFT_AT] = len(data)
        data += [a.shift for a in self.angles]
        code[k.H_COEFF_AT] = len(data)
        data += coefficients
        code[k.H_LENGTH] = len(code)
        return Program(
            np.array(code, dtype=np.int64), np.array(data or [0.0], dtype=np.float64), self.n_wires, n, circuit.n_parameters, len(obs)
        )


# Layers ----------------------------------------------------------------------------------------------------------------------


def _layered(operations: list[_Operation], n_qubits: int) -> list[_Operation]:
    """Gather phases into layers, each as early as what moves their bits lets it be, and operations between them likewise."""
    found: list[_Operation] = []
    remaining = operations
    while remaining:
        phases, remaining = _first(remaining, n_qubits, k.LAYER)
        members = [phase for op in phases for phase in op.phases]
        found += [_Operation(k.LAYER, phases=tuple(members[at : at + k.LAYER_PHASES])) for at in range(0, len(members), k.LAYER_PHASES)]
        others, remaining = _first(remaining, n_qubits, None)
        found += others
    return found


def _first(operations: list[_Operation], n_qubits: int, kind: int | None) -> tuple[list[_Operation], list[_Operation]]:
    """Those of one kind (None: of all but layers) that can change places with all others before them; and the rest."""
    taken: list[_Operation] = []
    rest: list[_Operation] = []
    moved = touched = 0
    for at, op in enumerate(operations):
        wanted = op.kind == k.LAYER if kind == k.LAYER else op.kind != k.LAYER
        if wanted and not op.moved & (moved | touched) and not op.touched & moved:
            taken.append(op)
            continue
        rest.append(op)
        moved, touched = moved | op.moved, touched | op.touched
        if moved.bit_count() == n_qubits:
            rest += operations[at + 1 :]
            break
    return taken, rest


def _is_real(part: Part) -> bool:
    return part.kind == "RY" or (part.matrix is not None and all(abs(complex(x).imag) == 0 for x in part.matrix))


def _is_flip(part: Part) -> bool:
    return part.matrix == _X.matrix


def _through(angle: Angle, mask: int, condition: int, bit: int, select: int) -> tuple[Angle, int]:
    """A phase on the other side of a flip of ``bit``, which may depend on ``select``."""
    if not mask & bit:
        return angle, mask
    if condition == k.ALWAYS:
        return -angle, mask
    return (angle if condition == k.IF_1 else -angle), mask ^ select


def _tokens(parts: list[tuple[Part, int]], bit: int, select: int) -> list[tuple[Part | Angle, int]] | None:
    """Real parts with their conditions, and angles of phases with their masks, in order of time; None where a part is neither."""
    found: list[tuple[Part | Angle, int]] = []
    for part, condition in parts:
        if _is_real(part) and not (part.matrix is not None and _is_diagonal(part.matrix)):
            found.append((part, condition))
        elif part.kind == "RZ":
            assert part.angle is not None
            found += _conditional(part.angle, bit, condition, select)
        elif part.kind == "PHASE":
            assert part.angle is not None
            found += [*_conditional(part.angle, bit, condition, select), *_conditional(-part.angle, 0, condition, select)]
        elif part.kind == "RX":
            assert part.angle is not None
            quarter = constant(math.pi / 2)
            found += [(quarter, bit), (Part("RY", part.angle), condition), (-quarter, bit)]
        else:
            assert part.matrix is not None
            turns = _euler(part.matrix)
            if turns is None or (condition != k.ALWAYS and not _is_diagonal(part.matrix)):
                return None
            whole, before, middle, after = turns
            found += _conditional(constant(before), bit, condition, select)
            if not _is_diagonal(part.matrix):
                found.append((_as_constant(Part("RY", constant(middle))), condition))
            found += [*_conditional(constant(after), bit, condition, select), *_conditional(constant(-2 * whole), 0, condition, select)]
    return found


def _conditional(angle: Angle, mask: int, condition: int, select: int) -> list[tuple[Part | Angle, int]]:
    """A phase where the select bit lets it act: half of it always, and half with the sign of that bit."""
    if condition == k.ALWAYS:
        return [(angle, mask)]
    return [(angle * 0.5, mask), (angle * (-0.5 if condition == k.IF_1 else 0.5), mask ^ select)]


def _is_diagonal(matrix: Sequence[complex]) -> bool:
    return matrix[1] == 0 and matrix[2] == 0


def _euler(matrix: Sequence[complex]) -> tuple[float, float, float, float] | None:
    """Angles of ``exp(1j * whole) RZ(after) RY(middle) RZ(before)``: whole, before, middle, after; None if it is not unitary."""
    u = np.array(matrix, dtype=complex).reshape(2, 2)
    if np.abs(u @ u.conj().T - np.eye(2)).max() > _ROUNDING:
        return None
    whole = cmath.phase(u[0, 0] * u[1, 1] - u[0, 1] * u[1, 0]) / 2
    u = u * cmath.exp(-1j * whole)
    middle = 2 * math.atan2(abs(u[1, 0]), abs(u[0, 0]))
    plus, minus = 2 * cmath.phase(u[1, 1]), 2 * cmath.phase(u[1, 0])  # after + before, after - before
    if abs(u[1, 0]) < _ROUNDING:
        return whole, plus, 0.0, 0.0
    if abs(u[0, 0]) < _ROUNDING:
        return whole, -minus, middle, 0.0
    return whole, (plus - minus) / 2, middle, (plus + minus) / 2


def _merged(parts: list[tuple[Part, int]]) -> list[tuple[Part, int]]:
    """Constant factors that follow each other become one."""
    found: list[tuple[Part, int]] = []
    for given, condition in parts:
        part = _as_constant(given)
        if part.matrix is not None and found and found[-1][0].matrix is not None and found[-1][1] == condition:
            before = np.array(found[-1][0].matrix).reshape(2, 2)
            a, b, c, d = (np.array(part.matrix).reshape(2, 2) @ before).ravel().tolist()
            found[-1] = Part("CONST", matrix=(a, b, c, d)), condition
        else:
            found.append((part, condition))
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
