"""Translation of circuits to Braket's OpenQASM beside the SDK's plug-in for PennyLane, on the same circuits, one after the other."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pennylane as qml
import pytest
from braket.circuits import Circuit, Instruction
from braket.circuits.serialization import IRType
from braket.pennylane_plugin.translation import translate_operation
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import openqasm

pytestmark = pytest.mark.timeout(600)
CIRCUITS, WIRES, GATES = 1000, 20, 200


def random_circuit(seed):
    """Half rotations, a quarter CNOT, a quarter without an angle."""
    rng = np.random.default_rng(seed)
    operations = []
    for _ in range(GATES):
        wires = rng.choice(WIRES, 2, replace=False).tolist()
        kind = rng.integers(8)
        if kind < 4:
            operations.append((qml.RX, qml.RY, qml.RZ, qml.PhaseShift)[kind](float(rng.normal()), wires[0]))
        else:
            operations.append(qml.CNOT(wires) if kind < 6 else (qml.Hadamard, qml.S)[kind - 6](wires[0]))
    return QuantumScript(operations, [qml.sample(wires=range(WIRES))], shots=100)


def layered_circuits():
    """The circuits of a gradient: one structure, many angles."""
    rng = np.random.default_rng(0)
    return [
        QuantumScript(
            [op for wire in range(WIRES) for op in (qml.RY(float(rng.normal()), wire), qml.RZ(float(rng.normal()), wire))] * 5,
            [qml.sample(wires=range(WIRES))],
        )
        for _ in range(CIRCUITS)
    ]


def theirs(circuit):
    """What amazon-braket-pennylane-plugin and the SDK do on the way to a task."""
    found = Circuit()
    for op in circuit.operations:
        found.add_instruction(_instruction(op))
    return found.to_ir(ir_type=IRType.OPENQASM).source


def _instruction(op):
    return Instruction(translate_operation(op), target=op.wires.tolist())


def seconds(action, repeat=5):
    """Medians of wall time and of the process's own time."""
    walls, owns = [], []
    for _ in range(repeat):
        wall, own = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        owns.append(time.process_time() - own)
    return statistics.median(walls), statistics.median(owns)


def test_translation_of_1000_circuits_of_20_qubits_and_200_gates(report):
    circuits = [random_circuit(seed) for seed in range(CIRCUITS)]
    few = circuits[:20]
    gates = [line for line in openqasm.dumps(few[0], shots=100).source.splitlines() if line.startswith(("r", "p", "c", "h", "s"))]
    assert gates == [line for line in theirs(few[0]).splitlines() if line.startswith(("r", "p", "c", "h", "s"))]

    wall, own = seconds(lambda: [openqasm.dumps(circuit, shots=100) for circuit in circuits])
    peer, _ = seconds(lambda: [theirs(circuit) for circuit in few], 3)

    report("1000 random circuits to OpenQASM (target 1 s)", wall, "s")
    report("  of it the processor's own time", own, "s")
    report("  plug-in and SDK, 20 of them, scaled", peer * CIRCUITS / len(few), "s")
    report("  that is slower by", peer * CIRCUITS / len(few) / wall, "x")


def test_1000_circuits_of_one_structure_share_a_program(report):
    circuits = layered_circuits()

    wall, own = seconds(lambda: openqasm.dumps_many(circuits, shots=100))

    assert len(openqasm.dumps_many(circuits, shots=100)) == 1
    report("1000 circuits as one program with 400 inputs", wall, "s")
    report("  of it the processor's own time", own, "s")
