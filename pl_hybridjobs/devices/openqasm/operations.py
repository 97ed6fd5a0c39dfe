"""A circuit's operations as statements of OpenQASM."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pennylane as qml
from pennylane.measurements import StateMP
from pennylane.operation import Channel, Operator
from pennylane.ops import Adjoint, Conditional, Controlled, Pow
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices.openqasm.complaints import Complaints, Untranslatable
from pl_hybridjobs.devices.openqasm.literals import PHYSICAL, VIRTUAL, Targets, escaped, is_identifier, matrix, real
from pl_hybridjobs.devices.openqasm.tables import (
    CHANNELS,
    CONTROLLED_ROOT,
    GATES,
    MATRICES,
    MAX_KRAUS_WIRES,
    PAULI_ERROR,
    SKIPPED,
    GateRow,
)

MidCircuit = Literal["", "openqasm", "iqm"]
_isfinite = math.isfinite
_MAX_CLASSES = 10_000


class _Rows(dict[type, tuple[str, int, int, int, bool] | None]):
    """What the loop over gates needs of a row, by the operator's class: head, wires, angles, sign, whether it is controlled."""

    def __missing__(self, kind: type) -> tuple[str, int, int, int, bool] | None:
        if len(self) > _MAX_CLASSES:
            self.clear()
        row = GATES.get(kind.__name__)
        self[kind] = found = None if row is None else (row.head, row.wires, row.angles, row.sign, issubclass(kind, Controlled))
        return found


_ROWS = _Rows()


@dataclass(frozen=True)
class Options:
    """What was asked for, besides the circuit."""

    shots: int
    verbatim: bool
    qubits: tuple[int, ...] | None
    gradient: bool
    modifiers: frozenset[str]
    mid_circuit: MidCircuit

    @property
    def physical(self) -> bool:
        """Whether qubits are those of the machine."""
        return self.verbatim or self.qubits is not None

    def targets(self) -> Targets:
        """How wires without gaps are written."""
        if self.qubits is not None:
            return Targets("${}", dict(enumerate(self.qubits)))
        return PHYSICAL if self.verbatim else VIRTUAL


class Named:
    """Names for the parameters that a user chose."""

    def __init__(self, wanted: Mapping[int, str]) -> None:
        self.complaints = [
            f"the parameter name {name!r}: names begin with a letter, and hold letters, digits and underscores"
            for name in wanted.values()
            if not is_identifier(name)
        ]
        self.names: dict[int, str] = {}
        given: dict[str, str] = {}
        for number, name in wanted.items():
            if name not in given:
                given[name] = escaped(name, given.values())
            self.names[number] = given[name]
        self.get: Callable[[int], str | None] = self.names.get


class Every(Named):
    """Names for all parameters."""

    texts: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__({})
        self.get = self._get

    def _get(self, number: int) -> str:
        while number >= len(self.texts):
            self.texts.append(f"p_{len(self.texts)}")
        return self.texts[number]


class Operations:
    """The operations of one circuit on their way into text.

    Attributes:
        lines: What was written.
        seen: The wires of each operation.
        inputs: Name -> value of the parameters that were named.
        names: Number of a parameter -> its name.
        mid_wires: The wires of measurements within the circuit whose outcomes are the first bits.
    """

    def __init__(self, circuit: QuantumScript, options: Options, named: Named | None, targets: Targets, complaints: Complaints) -> None:
        self.circuit, self.options, self.named, self.targets, self.complaints = circuit, options, named, targets, complaints
        self.lines: list[str] = []
        self.seen: set[tuple[Any, ...]] = set()
        self.inputs: dict[str, float] = {}
        self.names: dict[int, str] = {}
        self.mid_wires: list[int] = []
        self._mid: dict[Any, int] = {}
        self._wants_phase = any(type(measurement) is StateMP for measurement in circuit.measurements)

    def check_names(self, named: Named) -> None:
        """Complain about names that stand for nothing."""
        owners = [op.name for op in self.circuit.operations for _ in op.data] if named.names else []
        for number, name in named.names.items():
            if number in self.names:
                continue
            if not 0 <= number < len(owners):
                self.complaints.add(f"input {name!r}", f"stands for parameter {number}, but the operations have {len(owners)}")
            elif owners[number] != "GlobalPhase":
                self.complaints.add(f"input {name!r}", f"stands for a parameter of {owners[number]}, which only a number can be")

    def write(self) -> None:
        """All of them, once."""
        lines, seen, targets, named, rows = self.lines, self.seen, self.targets, self.named, _ROWS
        place = 0
        for number, op in enumerate(self.circuit.operations):
            row, data = rows[op.__class__], op.data
            place, begin = place + len(data), place
            try:
                if row is None:
                    self._unusual(op, begin)
                    continue
                head, n_wires, n_angles, sign, is_controlled = row
                # PennyLane adds up the wires of a controlled gate anew each time, which takes longer than all the rest.
                wires = op.control_wires.labels + op.base.wires.labels if is_controlled else op.wires.labels
                if len(wires) != n_wires or len(data) != n_angles:
                    self._unusual(op, begin)
                elif not n_angles:
                    lines.append(f"{head} {targets[wires]};")
                    seen.add(wires)
                elif n_angles == 1 and named is None:
                    value = data[0]
                    if value.__class__ is not float or not _isfinite(value):
                        value = real(value)
                    lines.append(f"{head}{value if sign > 0 else -value!r}) {targets[wires]};")
                    seen.add(wires)
                else:
                    lines.append(f"{head}{', '.join(self._angles(data, begin, sign))}) {targets[wires]};")
                    seen.add(wires)
            except Untranslatable as complaint:
                self.complaints.add(op.name, str(complaint), f"operation {number}")

    def _angles(self, data: Sequence[Any], place: int, sign: int) -> list[str]:
        found = []
        for number, given in enumerate(data, place):
            value = given if given.__class__ is float and _isfinite(given) else real(given)
            name = self.named.get(number) if self.named is not None else None
            if name is None:
                found.append(repr(value if sign > 0 else -value))
                continue
            if self.inputs.setdefault(name, value) != value:
                raise Untranslatable(f"has {value} for the input {name!r}, which is {self.inputs[name]} elsewhere; give it another name")
            self.names[number] = name
            found.append(name if sign > 0 else f"-{name}")
        return found

    def _gate(
        self, row: GateRow, wires: tuple[Any, ...], data: Sequence[Any], place: int, prefix: str = "", first: tuple[Any, ...] = ()
    ) -> None:
        if len(wires) != row.wires or len(data) != row.angles:
            raise Untranslatable(f"is not Braket's {row.braket}, which has {row.wires} qubits, and here {row.angles} angles")
        head = f"{prefix}{row.head}" + (f"{', '.join(self._angles(data, place, row.sign))})" if data else "")
        self._write(f"{head} {self.targets[(*first, *wires)]};", (*first, *wires))

    def _write(self, line: str, wires: tuple[Any, ...]) -> None:
        self.lines.append(line)
        self.seen.add(wires)

    def _unusual(self, op: Operator, place: int) -> None:
        """What is not one gate by its class's name."""
        name, wires = op.name, op.wires.labels
        if name in SKIPPED:
            return
        if name == "Identity":
            for wire in wires:
                self._write(f"i {self.targets[(wire,)]};", (wire,))
        elif name == "GlobalPhase":
            if self._wants_phase:
                self.lines.append(f"gphase({self._angles(op.data, place, -1)[0]});")
        elif name == "MidMeasureMP":
            self._measure(op)
        elif isinstance(op, Conditional):
            self._conditional(op, place)
        elif isinstance(op, Channel):
            self._channel(op)
        elif name in MATRICES:
            self._unitary(op)
        elif name in GATES:
            self._gate(GATES[name], wires, op.data, place)
        elif name == CONTROLLED_ROOT[0] and len(wires) == 2 and all(op.control_values):
            self._gate(CONTROLLED_ROOT[1], wires, (), place)
        elif isinstance(op, Adjoint | Controlled | Pow):
            self._modified(op, place)
        else:
            raise Untranslatable("is no gate of Braket's; decompose it to gates that the device has (gates_of says which they can be)")

    def _modified(self, op: Operator, place: int) -> None:
        """Controls, inverses and powers around a gate."""
        base, inverse, exponent = op, False, 1.0
        controls: list[tuple[Any, bool]] = []
        while base.name not in GATES and base.name != "GlobalPhase" and base.name not in MATRICES:
            if isinstance(base, Adjoint) and exponent == int(exponent):  # roots of an inverse are not inverses of roots
                inverse = not inverse
            elif isinstance(base, Controlled):
                controls += zip(base.control_wires, map(bool, base.control_values), strict=True)
            elif isinstance(base, Pow) and exponent == 1:
                exponent = real(base.z)
            else:
                raise Untranslatable(f"holds {base.name}, which is no gate of Braket's, or not in this place; decompose it")
            base = base.base
        if base.name in MATRICES:
            self._unitary(op)
            return
        place += len(op.data) - len(base.data)
        if base.name == "GlobalPhase":
            self._controlled_phase(base, place, controls, (-1 if inverse else 1) * exponent)
            return
        prefix = self._modifiers(inverse, exponent, [value for _, value in controls])
        self._gate(GATES[base.name], base.wires.labels, base.data, place, prefix, tuple(wire for wire, _ in controls))

    def _modifiers(self, inverse: bool, exponent: float, controls: Sequence[bool]) -> str:
        words = ["ctrl" if value else "negctrl" for value in controls]
        needed = set(words) | ({"inv"} if inverse else set()) | ({"pow"} if exponent != 1 else set())
        if missing := sorted(needed - self.options.modifiers):
            raise Untranslatable(f"needs the modifier {' @ and '.join(missing)} @, which the device does not take; decompose it")
        text = "inv @ " if inverse else ""
        text += f"pow({int(exponent) if exponent == int(exponent) else exponent!r}) @ " if exponent != 1 else ""
        return text + "".join(f"{word} @ " for word in words)

    def _controlled_phase(self, base: Operator, place: int, controls: list[tuple[Any, bool]], factor: float) -> None:
        """A controlled global phase is a phase shift of one of its controls; the language has none for controls that are 0."""
        if factor not in (1, -1):
            raise Untranslatable("is a power of a phase; multiply the angle instead")
        if not controls:
            return
        *others, (last, value) = sorted(controls, key=lambda control: control[1])
        flip = f"x {self.targets[(last,)]};"
        prefix = self._modifiers(False, 1.0, [value for _, value in others])
        wires = (*(wire for wire, _ in others), last)
        (angle,) = self._angles(base.data, place, -1 if factor > 0 else 1)
        shift = f"{prefix}phaseshift({angle}) {self.targets[wires]};"
        for line in [shift] if value else [flip, shift, flip]:
            self._write(line, wires)

    def _unitary(self, op: Operator) -> None:
        found = qml.math.toarray(op.matrix())
        if found.ndim == 2 and np.isfinite(found).all() and not np.allclose(found @ np.conj(found).T, np.eye(len(found))):
            raise Untranslatable("has a matrix that is not unitary")
        wires = op.wires.labels
        self._write(f"#pragma braket unitary({matrix(found)}) {self.targets[wires]}", wires)

    def _channel(self, op: Operator) -> None:
        name, wires = op.name, op.wires.labels
        noise, values = CHANNELS.get(name), list(op.data)
        if name == PAULI_ERROR and len(wires) == 1 and (word := "".join(op.hyperparameters["operators"])) in ("X", "Y", "Z"):
            noise, values = "pauli_channel", [real(op.data[0]) if pauli == word else 0.0 for pauli in "XYZ"]
        elif name == "GeneralizedAmplitudeDamping":  # PennyLane's p is that of going up, Braket's that of going down
            values[1] = 1 - real(values[1])
        if noise is not None:
            numbers = ", ".join(repr(abs(real(value))) for value in values)  # abs: -0.0 is not in the grammar
            self._write(f"#pragma braket noise {noise}({numbers}) {self.targets[wires]}", wires)
            return
        if len(wires) > MAX_KRAUS_WIRES:
            raise Untranslatable(f"is noise on {len(wires)} wires; Braket has that on one or two, so write it as several channels")
        matrices = ", ".join(matrix(kraus) for kraus in self._kraus(op))
        self._write(f"#pragma braket noise kraus({matrices}) {self.targets[wires]}", wires)

    def _kraus(self, op: Operator) -> list[Any]:
        if op.name != PAULI_ERROR:
            return [qml.math.toarray(kraus) for kraus in op.kraus_matrices()]
        p, word = real(op.data[0]), qml.pauli.string_to_pauli_word("".join(op.hyperparameters["operators"]))
        # PennyLane's own warn of a lost imaginary part where there is a Y.
        return [math.sqrt(1 - p) * np.eye(2 ** len(op.wires)), math.sqrt(p) * word.matrix(wire_order=range(len(op.wires)))]

    def _measure(self, op: Operator) -> None:
        if not self.options.mid_circuit:
            raise Untranslatable("is within the circuit, and the device does not take that; qml.defer_measurements moves it to the end")
        if not self.options.shots:
            raise Untranslatable("is within the circuit, which needs shots")
        if op.postselect is not None:
            raise Untranslatable("is postselected, which Braket cannot do; drop the other shots afterwards")
        wires = op.wires.labels
        bit = self._mid[op.meas_uid] = len(self._mid)
        target = self.targets[wires]
        if self.options.mid_circuit == "iqm":
            self._write(f"measure_ff({bit}) {target};", wires)
            if op.reset:
                self.lines.append(f"cc_prx({math.pi!r}, 0.0, {bit}) {target};")
            return
        self.mid_wires.append(wires[0])
        self._write(f"b[{bit}] = measure {target};", wires)
        if op.reset:
            self.lines.append(f"reset {target};")

    def bit_of(self, measurement: Any) -> int:
        """The bit that keeps the outcome of a measurement within the circuit."""
        if measurement.meas_uid not in self._mid:
            raise Untranslatable("uses the outcome of a measurement that is not in the circuit before it")
        return self._mid[measurement.meas_uid]

    def _conditional(self, op: Conditional, place: int) -> None:
        if not self.options.mid_circuit:
            raise Untranslatable(
                "acts on an outcome, and the device does not take that; qml.defer_measurements (mcm_method='deferred') does without"
            )
        bits = [self.bit_of(measurement) for measurement in op.meas_val.measurements]
        branches = [outcome for outcome, value in op.meas_val.branches.items() if value]
        if self.options.mid_circuit == "iqm":
            self._feedback(op.base, bits, branches, place)
            return
        if not branches:
            return
        words = [" && ".join(f"b[{bit}] == {value}" for bit, value in zip(bits, branch, strict=True)) for branch in branches]
        condition = words[0] if len(words) == 1 else " || ".join(f"({word})" for word in words)
        begun = len(self.lines)
        row = GATES.get(op.base.name)
        if row is not None:
            self._gate(row, op.base.wires.labels, op.base.data, place)
        else:
            self._unusual(op.base, place)
        if len(self.lines) > begun:
            self.lines[begun:] = [f"if ({condition}) {{", *self.lines[begun:], "}"]

    def _feedback(self, base: Operator, bits: Sequence[int], branches: Sequence[tuple[int, ...]], place: int) -> None:
        turns = {"PRx": None, "RX": 0.0, "RY": math.pi / 2, "PauliX": 0.0, "PauliY": math.pi / 2}
        if len(bits) != 1 or branches != [(1,)] or base.name not in turns:
            raise Untranslatable(
                "acts on an outcome; this device can do PRx, RX, RY, X and Y only, if one outcome is 1; mcm_method='deferred' does without"
            )
        angles = self._angles(base.data, place, 1) or [repr(math.pi)]
        angles += [] if (axis := turns[base.name]) is None else [repr(axis)]
        self._write(f"cc_prx({', '.join(angles)}, {bits[0]}) {self.targets[base.wires.labels]};", base.wires.labels)
