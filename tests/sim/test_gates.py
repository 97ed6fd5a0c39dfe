"""Every row of the table against PennyLane's matrix of the same name."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_cpu
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate
from pl_hybridjobs.sim.gates import GATES, expand
from tests.sim.random_circuits import operator

ANGLES = (0.37, -1.9, 2.6)


def matrix_of(gate, n, params):
    circuit = Circuit(n, (gate,), len(params))
    columns = [engine_cpu.state(circuit, [params], start=np.eye(2**n)[:, i])[0] for i in range(2**n)]
    return np.array(columns).T


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("controlled", [False, True])
@pytest.mark.parametrize("name", sorted(set(GATES) - {"Matrix"}))
def test_a_gate_has_pennylanes_matrix(name, controlled, inverse):
    row = GATES[name]
    k = row.n_wires or 3
    wires, params = tuple(range(k)), list(ANGLES[: row.n_angles])
    word = "XYZ" if name == "PauliRot" else ""
    gate = Gate(name, wires, tuple(Angle(i) for i in range(row.n_angles)), (), (), word, b"", inverse)
    op = operator(name, wires, params, word)
    if inverse:
        op = qml.adjoint(op)
    if controlled:
        gate, op = gate.controlled([k], [False]), qml.ctrl(op, control=[k], control_values=[False])
    n = k + controlled

    assert np.allclose(matrix_of(gate, n, params), qml.matrix(op, wire_order=range(n)), atol=1e-14)


def test_an_unknown_gate_and_wrong_numbers_are_refused():
    with pytest.raises(SimulationError, match="no gate 'RZX'"):
        expand(Gate("RZX", (0,)))
    with pytest.raises(SimulationError, match="takes 1 wires and 1 parameters"):
        expand(Gate("RX", (0, 1), (Angle(0),)))


def test_a_word_of_identities_is_a_global_phase():
    gate = Gate("PauliRot", (0, 1), (Angle(0),), word="II")

    assert np.allclose(matrix_of(gate, 2, [0.8]), np.exp(-0.4j) * np.eye(4))
