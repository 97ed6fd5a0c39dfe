"""The whole text: head, operations, measurements."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pennylane.measurements import CountsMP, ExpectationMP, MeasurementProcess, SampleMP
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices.openqasm.complaints import Complaints, Untranslatable, error_of
from pl_hybridjobs.devices.openqasm.literals import Targets
from pl_hybridjobs.devices.openqasm.operations import Every, MidCircuit, Named, Operations, Options
from pl_hybridjobs.devices.openqasm.program import Program, ProgramGroup
from pl_hybridjobs.devices.openqasm.results import Result, gradient_of, results_of


def dumps(
    circuit: QuantumScript,
    *,
    shots: int,
    verbatim: bool = False,
    parameters: Mapping[int, str] | None = None,
    qubits: Sequence[int] | None = None,
    gradient: bool = False,
    modifiers: Collection[str] = (),
    mid_circuit: MidCircuit = "",
) -> Program:
    """A circuit as OpenQASM 3.

    With shots, ``qml.sample`` and ``qml.counts`` of wires or mid-circuit measurements become ``measure`` statements, everything else
    result types. Wires without a gap keep their numbers; else qubits are numbered in the order of the wires.

    Args:
        circuit: On wires 0, 1, ...; its own shots are ignored.
        shots: 0: analytic.
        verbatim: Run as it is on physical qubits: the text stands in a ``#pragma braket verbatim`` box.
        parameters: Which gate parameters become inputs, and their names: a reserved one gets underscores behind it.
        qubits: The physical qubit of each wire; None: virtual qubits, or, if verbatim, those that the wires name.
        gradient: Ask for the derivatives of the one expectation value, by ``parameters``, or by the trainable parameters, which are
            called ``p_0``, ... by their number.
        modifiers: Those that the device takes, of "ctrl", "negctrl", "inv", "pow". Better none where that simulates
            with amazon-braket-default-simulator 1.41, which applies some controls wrongly (`ctrl @ x q[2], q[0]` of 4 qubits).
        mid_circuit: How it takes measurements within the circuit, resets and feed-forward: "openqasm" (``if``), "iqm" (``measure_ff`` and
            ``cc_prx``, whose outcomes are not returned), "" not at all.

    Raises:
        TranslationError: The circuit holds what the dialect cannot say; all of it is named.
    """
    options = Options(shots, verbatim, tuple(qubits) if qubits is not None else None, gradient, frozenset(modifiers), mid_circuit)
    if gradient and parameters is None:
        parameters = {number: f"p_{number}" for number in circuit.trainable_params}
    program, complaints = _translate(circuit, options, None if parameters is None else Named(parameters))
    if complaints:
        raise error_of("the circuit", complaints)
    return program


def dumps_many(
    circuits: Sequence[QuantumScript],
    *,
    shots: int,
    verbatim: bool = False,
    qubits: Sequence[int] | None = None,
    modifiers: Collection[str] = (),
    mid_circuit: MidCircuit = "",
) -> list[ProgramGroup]:
    """Circuits as few texts: those that differ in angles of gates alone share one, with the angles as inputs ``p_0``, ....

    Args: as those of ``dumps``.

    Raises:
        TranslationError: Circuits hold what the dialect cannot say; all of it is named.
    """
    options = Options(shots, verbatim, tuple(qubits) if qubits is not None else None, False, frozenset(modifiers), mid_circuit)
    found: dict[str, tuple[Program, list[Mapping[str, float]], list[int]]] = {}
    complaints: list[str] = []
    for number, circuit in enumerate(circuits):
        program, wrong = _translate(circuit, options, Every())
        if wrong:
            complaints += [f"circuit {number}: {complaint}" for complaint in wrong]
            continue
        _, inputs, indices = found.setdefault(program.source, (program, [], []))
        inputs.append(program.inputs)
        indices.append(number)
    if complaints:
        raise error_of(f"{len(circuits)} circuits", complaints)
    return [ProgramGroup(program, tuple(inputs), tuple(indices)) for program, inputs, indices in found.values()]


def structure_key(circuit: QuantumScript, *, shots: int = 1, modifiers: Collection[str] = (), mid_circuit: MidCircuit = "") -> str:
    """A text that is equal for circuits that differ in angles of gates alone; it is the program that they share.

    Raises:
        TranslationError: The circuit holds what the dialect cannot say.
    """
    (group,) = dumps_many([circuit], shots=shots, modifiers=modifiers, mid_circuit=mid_circuit)
    return group.program.source


def _translate(circuit: QuantumScript, options: Options, named: Named | None) -> tuple[Program, list[str]]:
    """The program, and what is wrong with it."""
    program, complaints = _Writer(circuit, options, named, options.targets()).program()
    if not options.physical and not complaints and program.wires != tuple(range(len(program.wires))):
        numbers = {wire: place for place, wire in enumerate(program.wires)}
        program, complaints = _Writer(circuit, options, named, Targets("q[{}]", numbers)).program()
    return program, complaints


@dataclass(frozen=True)
class _Measured:
    """The end of a program, and how its answer is to be read: see ``Program``."""

    lines: Sequence[str] = ()
    wires: tuple[int, ...] = ()
    bits: tuple[tuple[int, ...], ...] = ()
    results: tuple[tuple[tuple[float, int], ...], ...] = ()
    orders: tuple[tuple[int, ...], ...] = ()


class _Writer:
    """One circuit on its way into text."""

    def __init__(self, circuit: QuantumScript, options: Options, named: Named | None, targets: Targets) -> None:
        self.circuit, self.options, self.named, self.targets = circuit, options, named, targets
        self.complaints = Complaints()
        self.operations = Operations(circuit, options, named, targets, self.complaints)

    def program(self) -> tuple[Program, list[str]]:
        """All of it, and what is wrong."""
        operations = self.operations
        operations.write()
        touched = set().union(*operations.seen)
        wires = self._known(touched.union(*(measurement.wires.labels for measurement in self.circuit.measurements)))
        measured = self._measured(wires)
        if self.named is not None:
            operations.check_names(self.named)
        pads = () if self.options.shots or self.options.physical else tuple(wire for wire in wires if wire not in touched)
        source = "\n".join([*self._head(len(wires), len(measured.wires)), *self._body(pads), *measured.lines])
        program = Program(
            source, operations.inputs, operations.names, wires, measured.wires, measured.bits, measured.results, measured.orders
        )
        return program, self.complaints.texts() + (self.named.complaints if self.named is not None else [])

    def _known(self, wires: set[Any]) -> tuple[int, ...]:
        """Those that can be written, in order; the others have been complained about, or will be."""
        found = []
        for wire in wires:
            with contextlib.suppress(Untranslatable):
                self.targets[(wire,)]
                found.append(wire)
        return tuple(sorted(found))

    def _head(self, n_qubits: int, n_bits: int) -> Iterator[str]:
        yield "OPENQASM 3.0;"
        for name in self.operations.inputs:
            yield f"input float {name};"
        if n_bits:
            yield f"bit[{n_bits}] b;"
        if not self.options.physical:
            yield f"qubit[{n_qubits}] q;"

    def _body(self, pads: Iterable[int]) -> list[str]:
        # A simulator leaves out qubits that nothing touches, and its states would be too small.
        lines = [*self.operations.lines, *(f"i {self.targets[(wire,)]};" for wire in pads)]
        return ["#pragma braket verbatim", "box{", *lines, "}"] if self.options.verbatim else lines

    def _measured(self, wires: tuple[int, ...]) -> _Measured:
        measurements = self.circuit.measurements
        if not measurements:
            self.complaints.add("the circuit", "measures nothing")
            return _Measured()
        by_bits = [isinstance(m, SampleMP | CountsMP) and m.obs is None for m in measurements]
        if all(by_bits):
            return self._by_bits(measurements, wires)
        if any(by_bits):
            reason = "of wires cannot stand beside other measurements; split the circuit (qml.transforms.split_non_commuting)"
            self.complaints.add("a sample or counts", reason, f"measurement {by_bits.index(True)}")
        return self._by_results([m for m, bits in zip(measurements, by_bits, strict=True) if not bits], wires)

    @contextlib.contextmanager
    def _complaining(self, number: int, measurement: MeasurementProcess) -> Iterator[None]:
        try:
            yield
        except Untranslatable as complaint:
            self.complaints.add(type(measurement).__name__, str(complaint), f"measurement {number}")

    def _by_bits(self, measurements: Sequence[MeasurementProcess], wires: tuple[int, ...]) -> _Measured:
        last: dict[int, int] = {}  # wire -> its bit
        found = []
        for number, measurement in enumerate(measurements):
            with self._complaining(number, measurement):
                if not self.options.shots:
                    raise Untranslatable("needs shots; without, take qml.probs, qml.expval or qml.state")
                found.append(tuple(self._bits(measurement, wires, last)))
        lines = [f"b[{bit}] = measure {self.targets[(wire,)]};" for wire, bit in last.items()]
        return _Measured(lines, (*self.operations.mid_wires, *last), tuple(found), ((),) * len(found), ((),) * len(found))

    def _bits(self, measurement: MeasurementProcess, wires: tuple[int, ...], last: dict[int, int]) -> Iterator[int]:
        if measurement.mv is None:
            for wire in measurement.wires.labels or wires:
                self.targets[(wire,)]  # complains if there is no such qubit
                yield last.setdefault(wire, len(self.operations.mid_wires) + len(last))
            return
        for value in measurement.mv if isinstance(measurement.mv, list | tuple) else [measurement.mv]:
            if value.has_processing:
                raise Untranslatable("is of a function of outcomes; sample the outcomes and compute it from them")
            if self.options.mid_circuit == "iqm":
                raise Untranslatable("is of an outcome that this device keeps for itself; measure the wire at the end")
            yield from (self.operations.bit_of(one) for one in value.measurements)

    def _by_results(self, measurements: Sequence[MeasurementProcess], wires: tuple[int, ...]) -> _Measured:
        if self.operations.mid_wires:
            self.complaints.add("a measurement within the circuit", "leaves samples and counts only, no result types")
        if self.options.gradient:
            return _Measured(self._gradient(measurements), (), ((),), (((1.0, 0),),), ((),))
        places: dict[str, int] = {}
        bases: dict[Any, tuple[Any, ...]] = {}
        found, orders = [], []
        for number, measurement in enumerate(measurements):
            with self._complaining(number, measurement):
                results = results_of(measurement, wires, self.options.shots, self.targets)
                if self.options.shots:
                    self._check_bases(results, bases)
                found.append(tuple((result.weight, places.setdefault(result.text, len(places))) for result in results))
                orders.append(results[0].order)
        lines = [f"#pragma braket result {text}" for text in places]
        return _Measured(lines, (), ((),) * len(found), tuple(found), tuple(orders))

    def _check_bases(self, results: Iterable[Result], bases: dict[Any, tuple[Any, ...]]) -> None:
        """With shots, all result types of a circuit are read from the same shots."""
        for factor in (factor for result in results for factor in result.factors if factor.name != "i"):
            for wire in factor.wires:
                if bases.setdefault(wire, (factor.name, factor.wires)) != (factor.name, factor.wires):
                    raise Untranslatable("is in another basis than others; qml.transforms.split_non_commuting makes circuits of one")

    def _gradient(self, measurements: Sequence[MeasurementProcess]) -> list[str]:
        names = self.operations.names
        if self.options.shots or len(measurements) != 1 or not isinstance(measurements[0], ExpectationMP) or measurements[0].obs is None:
            self.complaints.add("the gradient", "can be had of one qml.expval, with 0 shots; parameter-shift rules work with all others")
        elif not names:
            self.complaints.add("the gradient", "needs a trainable parameter of a gate, and there is none")
        else:
            with self._complaining(0, measurements[0]):
                in_order = dict.fromkeys(names[number] for number in sorted(names))
                return [f"#pragma braket result {gradient_of(measurements[0], list(in_order), self.targets)}"]
        return []
