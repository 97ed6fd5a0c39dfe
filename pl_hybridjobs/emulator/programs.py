"""An OpenQASM program that a device can run: read once, checked against the device's capabilities, all complaints gathered."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, lru_cache
from typing import Any

import numpy as np
from braket.default_simulator.gate_operations import BRAKET_GATES
from braket.default_simulator.openqasm.circuit import Circuit
from braket.default_simulator.openqasm.interpreter import Interpreter
from braket.default_simulator.openqasm.parser import openqasm_ast
from braket.default_simulator.openqasm.parser.openqasm_parser import parse
from braket.default_simulator.openqasm.program_context import ProgramContext

from pl_hybridjobs.emulator.devices import Device

#: Wider circuits need more memory than the emulator takes: 2**n amplitudes, or 4**n elements.
MOST_QUBITS, MOST_QUBITS_NOISY = 24, 12

#: The pragma that the default simulator's grammar does not have.
GRADIENT = re.compile(r"^\s*#pragma\s+braket\s+result\s+adjoint_gradient\s+expectation\((?P<observable>.*)\)\s*(?P<names>[^()]*)$", re.M)
#: A gate's name, its numbers, and its qubits or registers, as written.
Gate = tuple[str, tuple[str, ...], tuple[str, ...]]
_MARK = "emulator_gates"  # stands for gates that were taken out of a program
_NUMBER = r"(?:[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|[A-Za-z]\w*)"
_QUBIT = r"(?:[A-Za-z]\w*(?:\[\d+\])?|\$\d+)"
_PLAIN_GATE = re.compile(
    rf"\s*(?P<name>[A-Za-z]\w*)(?:\s*\(\s*(?P<numbers>{_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\)\s*|\s+)(?P<qubits>{_QUBIT}(?:\s*,\s*{_QUBIT})*)\s*;\s*"
)
#: Where a line may not be what it seems.
_NOT_PLAIN = re.compile(r"^\s*(?:gate|def|defcal|for|while|if|else|switch)\b|//|/\*", re.M)
_PARSING = threading.Lock()
_DECLARED_INPUT = re.compile(r"^\s*input\s+\w+(?:\[\d+\])?\s+(\w+)\s*;", re.M)
_PRAGMA_OF_RESULT = {
    "adjoint_gradient": "AdjointGradient",
    "amplitude": "Amplitude",
    "densitymatrix": "DensityMatrix",
    "expectation": "Expectation",
    "probability": "Probability",
    "sample": "Sample",
    "statevector": "StateVector",
    "variance": "Variance",
}


@dataclass(frozen=True)
class Used:
    """A gate as the program applies it."""

    name: str
    qubits: tuple[int, ...]
    verbatim: bool


@dataclass(frozen=True)
class Gradient:
    """What an ``adjoint_gradient`` pragma asks for.

    Attributes:
        observable: As written, for example ``"2 * x(q[0]) @ z(q[1]) + h(q[2])"``.
        names: The inputs; empty: all.
    """

    observable: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A program with its inputs, read.

    Attributes:
        source: OpenQASM 3, as it came.
        inputs: Values of its ``input`` declarations.
        context: What the interpreter made of it.
        used: The gates, in order.
        gradient: What is asked for besides, None: nothing.
    """

    source: str
    inputs: Mapping[str, Any]
    context: Recorder
    used: tuple[Used, ...]
    gradient: Gradient | None = None

    @property
    def circuit(self) -> Circuit:
        """Instructions, results and measured qubits."""
        return self.context.circuit


class Recorder(ProgramContext):
    """The default simulator's context, which also remembers what the program used."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.used: list[Used] = []

    def add_gate_instruction(self, gate_name: str, target: tuple[int, ...], params: Any, ctrl_modifiers: list[int], power: int) -> None:
        """Called by the interpreter for each gate, those inside of gate definitions too."""
        self.used.append(Used(gate_name, tuple(target), self.in_verbatim_box))
        super().add_gate_instruction(gate_name, target, params, ctrl_modifiers=ctrl_modifiers, power=power)


_DISPATCH = Interpreter.__dict__["visit"].dispatcher.dispatch


class _Interpreter(Interpreter):
    """The default simulator's, in half the time: ``singledispatchmethod`` wraps each of its functions anew at each visit."""

    def __init__(self, context: ProgramContext, runs: Sequence[Sequence[Gate]]) -> None:
        super().__init__(context)
        self._runs = runs

    def visit(self, node: Any) -> Any:
        if isinstance(node, openqasm_ast.QuantumGate) and node.name.name == _MARK:
            return self._apply(self._runs[node.arguments[0].value])
        return _DISPATCH(type(node))(self, node)

    def _apply(self, run: Sequence[Gate]) -> None:
        """Gates one after the other: what they name is looked up once."""
        places, values = cache(self._place), cache(self._value)
        for name, numbers, operands in run:
            parameters = np.array([values(text) for text in numbers])
            registers = [places(text) for text in operands]
            sizes = {len(register) for register in registers} - {1}
            if len(sizes) > 1:
                raise ValueError("Qubit registers must all be the same length.")
            for number in range(sizes.pop() if sizes else 1):
                target = tuple(register[number if len(register) > 1 else 0] for register in registers)
                self.context.add_gate_instruction(name, target, parameters, [], 1)

    def _place(self, text: str) -> tuple[int, ...]:
        """Of ``q[3]``, ``q`` or ``$3``."""
        name, _, index = text.partition("[")
        register = self.visit(openqasm_ast.Identifier(name))
        if index:
            register = openqasm_ast.IndexedIdentifier(register, [[openqasm_ast.IntegerLiteral(int(index[:-1]))]])
        return tuple(self.context.get_qubits(register))

    def _value(self, text: str) -> Any:
        """Of a number, or of what is declared."""
        with contextlib.suppress(ValueError):
            return float(text)
        return self.context.handle_parameter_value(self.visit(openqasm_ast.Identifier(text)).value)


@dataclass
class Complaints:
    """What is wrong with a program."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Once each."""
        if text not in self.texts:
            self.texts.append(text)


def read(source: str, inputs: Mapping[str, Any], shots: int, simulator: Any) -> Program:
    """Interpret a program.

    Args:
        source: OpenQASM 3.
        inputs: By name; those that are missing stay symbols.
        shots: Needed where measurements in the middle branch the run.
        simulator: Computes those branches.

    Raises:
        ValueError: It cannot be read; the message says why.
    """
    if re.search(r"^\s*include\b", source, re.M):
        raise ValueError("include statements are not supported.")
    asked = GRADIENT.search(source)
    gradient = None
    if asked:
        names = tuple(name.strip() for name in asked["names"].split(",") if name.strip() not in ("", "all"))
        gradient = Gradient(asked["observable"], names)
    context = Recorder(simulator=simulator)
    context._shots = shots  # as the simulator's own run does
    try:
        interpret(GRADIENT.sub("", source), inputs, context)
        context.circuit  # noqa: B018 - measurements that were put off are made now
    except Exception as error:  # the parser raises whatever it likes on bad text
        raise ValueError(f"the program cannot be read: {error}") from error
    return Program(source, inputs, context, tuple(context.used), gradient)


def interpret(source: str, inputs: Mapping[str, Any], context: ProgramContext) -> None:
    """Let a context see a program. Only what is left without its plain gates is parsed, and that once: it is the same in most programs."""
    text, runs = _without_gates(source)
    context.load_inputs(inputs)
    with _PARSING:  # in one thread: the others find it done
        try:
            tree = _tree(text)
        except Exception:
            parse(source)  # fails, too, and names the right line
            raise
    _Interpreter(context, runs).visit(pickle.loads(tree))  # noqa: S301 - pickled by the line below, in this process


@lru_cache(maxsize=512)
def _tree(text: str) -> bytes:
    """A program's syntax tree, pickled: the interpreter changes what it visits, and this is the fastest copy."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(parse(text))
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Knows the enumerations of the syntax tree, some of which go by another name than their own."""

    def reducer_override(self, obj: Any) -> Any:
        known = isinstance(obj, Enum) and type(obj).__name__ in _ENUMS
        return (_member, (type(obj).__name__, obj.name)) if known else NotImplemented


_ENUMS = {kind.__name__: kind for kind in vars(openqasm_ast).values() if isinstance(kind, type) and issubclass(kind, Enum)}


def _member(kind: str, name: str) -> Enum:
    return _ENUMS[kind][name]


def _without_gates(source: str) -> tuple[str, list[list[Gate]]]:
    """The program with a mark in place of each run of plain gates, one to a line, and those runs."""
    if _NOT_PLAIN.search(source):
        return source, []
    lines: list[str] = []
    runs: list[list[Gate]] = []
    is_in_run = can_begin = False
    for line in source.splitlines():
        gate = _PLAIN_GATE.fullmatch(line) if is_in_run or can_begin else None
        if gate and gate["name"] in BRAKET_GATES:
            if not is_in_run:
                lines.append(f"{_MARK}({len(runs)}) $0;")
                runs.append([])
            runs[-1].append((gate["name"], _listed(gate["numbers"] or ""), _listed(gate["qubits"])))
            is_in_run = True
            continue
        lines.append(line)
        is_in_run = False
        if text := line.strip():
            can_begin = text.endswith((";", "{", "}")) or text.startswith("#")  # else the statement goes on in the next line
    return "\n".join([*lines, ""]), runs


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part)


def complaints_about(program: Program, device: Device, shots: int, *, experimental: bool) -> list[str]:
    """What the device cannot do of a program."""
    found = Complaints()
    for complain in (_inputs, _gates, _qubits, _neighbours, _noise):
        for text in complain(program, device):
            found.add(text)
    for text in (*_results(program, device, shots), *_dynamics(program, device, experimental)):
        found.add(text)
    return found.texts


def _line(source: str, word: str) -> str:
    """``"[line 7] "``, where a word begins a line."""
    numbers = (n for n, line in enumerate(source.splitlines(), 1) if re.match(rf"\s*{re.escape(word)}\b", line))
    number = next(numbers, None)
    return f"[line {number}] " if number else ""


def _inputs(program: Program, device: Device) -> Iterator[str]:
    del device
    for name in _DECLARED_INPUT.findall(program.source):
        if name not in program.inputs:
            yield f"Missing input variable '{name}'."


def _gates(program: Program, device: Device) -> Iterator[str]:
    for gate in program.used:
        if gate.verbatim and gate.name.lower() not in device.native_gates:
            native = ", ".join(sorted(device.native_gates)) or "none"
            yield f"{_line(program.source, gate.name)}uses a gate: {gate.name} in a verbatim box; native are {native}"
        elif not gate.verbatim and gate.name.lower() not in device.gates:
            yield f"{_line(program.source, gate.name)}uses a gate: {gate.name} which is not supported by the device or defined via a defcal"
    boxed = any(line.strip().startswith("#pragma braket verbatim") for line in program.source.splitlines())
    if boxed and "verbatim" not in device.program["supportedPragmas"]:
        yield "uses a verbatim box, which the device does not support"
    if "#pragma braket unitary" in program.source and "braket_unitary_matrix" not in device.program["supportedPragmas"]:
        yield "uses the pragma braket unitary, which the device does not support"


def _qubits(program: Program, device: Device) -> Iterator[str]:
    count = max(program.context.num_qubits, program.circuit.num_qubits)
    if count > device.qubit_count:
        yield f"uses {count} qubits, but the device has {device.qubit_count}"
        return
    most = MOST_QUBITS_NOISY if device.is_noisy else MOST_QUBITS
    if program.circuit.num_qubits > most:
        yield f"uses {program.circuit.num_qubits} qubits: the device could, but the emulator simulates at most {most} here"
    physical = {int(number) for number in re.findall(r"\$(\d+)\b", program.source)}
    if physical and not device.program.get("supportPhysicalQubits"):
        yield "uses physical qubits, which the device does not support"
    elif physical:
        there = set(range(device.qubit_count)) if device.graph is None else set(device.graph)
        for qubit in sorted(physical - there):
            yield f"uses the physical qubit ${qubit}, which the device does not have"


def _neighbours(program: Program, device: Device) -> Iterator[str]:
    if device.graph is None:
        return
    for gate in program.used:
        if gate.verbatim and len(gate.qubits) == 2 and gate.qubits[1] not in device.graph.get(gate.qubits[0], frozenset()):
            yield f"{_line(program.source, gate.name)}qubits {gate.qubits[0]} and {gate.qubits[1]} are not connected on the device"


def _noise(program: Program, device: Device) -> Iterator[str]:
    pragmas = set(re.findall(r"#pragma\s+braket\s+noise\s+(\w+)", program.source))
    for name in sorted(pragmas):
        if f"braket_noise_{name}" not in device.program["supportedPragmas"]:
            yield f"uses the noise {name}, which the device does not support"


def _results(program: Program, device: Device, shots: int) -> Iterator[str]:
    known = {row["name"]: row for row in device.program["supportedResultTypes"]}
    asked = [str(result.type.value) for result in program.circuit.results] + (["adjoint_gradient"] if program.gradient else [])
    for result in program.circuit.results:
        row = known.get(_PRAGMA_OF_RESULT[result.type.value])
        for factor in getattr(result, "observable", None) or ():
            name = factor if isinstance(factor, str) else "hermitian"
            if row and name not in row.get("observables", ()):
                yield f"the observable {name} is not supported by the device in the result type {result.type.value}"
    for name in asked:
        row = known.get(_PRAGMA_OF_RESULT[name])
        if row is None:
            yield f"the result type {name} is not supported by the device"
        elif not row["minShots"] <= shots <= row["maxShots"]:
            yield f"the result type {name} takes {row['minShots']} to {row['maxShots']} shots, not {shots}"
    if not shots and not asked:
        yield "Result types must be specified when shots=0"
    if program.gradient and len(asked) > 1:
        yield "the result type adjoint_gradient must be the only one"
    if asked and program.circuit.measured_qubits:
        yield "a program has either result types or measurements, not both"


def _dynamics(program: Program, device: Device, experimental: bool) -> Iterator[str]:
    dynamic = program.context.is_branched or any(gate.name in ("measure_ff", "cc_prx") for gate in program.used)
    resets = re.search(r"^\s*reset\b", program.source, re.M)
    if (dynamic or resets) and not device.dynamic:
        yield "measures or resets qubits in the middle of the circuit, which the device does not support"
    elif (dynamic or resets) and not experimental:
        yield "measures or resets qubits in the middle of the circuit: set experimentalCapabilities to ALL"
