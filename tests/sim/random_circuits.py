"""Random circuits over all rows of the gate table, beside the same as PennyLane operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pennylane as qml

from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum, matrix_bytes
from pl_hybridjobs.sim.gates import GATES


@dataclass(frozen=True)
class RandomCircuit:
    circuit: Circuit
    params: np.ndarray
    operators: tuple
    observables: tuple


def random_unitary(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))[0]


def operator(name, wires, angles, word="", matrix=None):
    if name == "PauliRot":
        return qml.PauliRot(angles[0], word, wires=wires)
    if name == "Identity":
        return qml.Identity(wires)
    if name == "Matrix":
        return qml.QubitUnitary(matrix, wires=wires)
    return getattr(qml, name)(*angles, wires=wires)


def random_circuit(seed, n_gates=25, max_wires=12, names=tuple(GATES), *, min_wires=1):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(min_wires, max_wires + 1))
    gates: list[Gate] = []
    operators: list = []
    params: list[float] = []
    while len(gates) < n_gates:
        name = str(rng.choice(names))
        row = GATES[name]
        k = row.n_wires or int(rng.integers(1, min(4, n) + 1))
        if k > n:
            continue
        n_controls = int(rng.integers(0, min(2, n - k) + 1)) if rng.random() < 0.3 else 0
        all_wires = [int(w) for w in rng.permutation(n)[: k + n_controls]]
        wires, controls = tuple(all_wires[:k]), tuple(all_wires[k:])
        values = tuple(bool(v) for v in rng.integers(0, 2, n_controls))
        angles = rng.uniform(-3, 3, row.n_angles)
        slots = tuple(Angle(len(params) + i) for i in range(row.n_angles))
        params += list(angles)
        word = "".join(rng.choice(list("IXYZ"), k)) if name == "PauliRot" else ""
        matrix = random_unitary(rng, 2**k) if name == "Matrix" else None
        op = operator(name, wires, angles, word, matrix)
        inverse = bool(rng.random() < 0.3)
        if inverse:
            op = qml.adjoint(op, lazy=True)
        if controls:
            op = qml.ctrl(op, control=controls, control_values=values)
        gates.append(Gate(name, wires, slots, controls, values, word, b"" if matrix is None else matrix_bytes(matrix), inverse))
        operators.append(op)
    sums, observables = [], []
    for _ in range(2):
        words = tuple(
            tuple((int(q), str(rng.choice(list("XYZ")))) for q in rng.choice(n, int(rng.integers(0, min(n, 4) + 1)), replace=False))
            for _ in range(4)
        )
        coefficients = tuple(float(c) for c in rng.normal(size=4))
        sums.append(PauliSum(coefficients, words))
        terms = [qml.prod(*([getattr(qml, "Pauli" + p)(q) for q, p in word] or [qml.Identity(0)])) for word in words]
        observables.append(qml.dot(coefficients, terms))
    circuit = Circuit(n, tuple(gates), len(params), tuple(sums))
    return RandomCircuit(circuit, np.array(params), tuple(operators), tuple(observables))


def reference_state(found: RandomCircuit):
    @qml.qnode(qml.device("default.qubit", wires=found.circuit.n_wires))
    def run():
        for op in found.operators:
            qml.apply(op)
        return qml.state()

    return np.asarray(run())
