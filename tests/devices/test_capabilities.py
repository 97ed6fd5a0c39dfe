"""The capability files say what the devices do."""

from __future__ import annotations

import pennylane as qml
import pytest

from pl_hybridjobs.sim.channels import CHANNELS
from pl_hybridjobs.sim.gates import GATES

CAPABILITIES = qml.device("hybridjobs.qubit").capabilities
MATRICES = {"BlockEncode", "ControlledQubitUnitary", "DiagonalQubitUnitary", "QubitUnitary", "SpecialUnitary"}


def test_the_gates_are_those_of_the_simulators_table():
    assert set(CAPABILITIES.operations) == set(GATES) - {"Matrix"} | MATRICES | {"MultiControlledX", "Projector", "Snapshot"}
    noisy = {"MultiControlledX", "Snapshot", "QubitChannel", "QubitDensityMatrix"}
    assert set(qml.device("hybridjobs.mixed").capabilities.operations) == set(GATES) - {"Matrix"} | set(CHANNELS) | MATRICES | noisy


@pytest.mark.parametrize("name", sorted(set(CAPABILITIES.operations) - {"Projector", "Snapshot"} - MATRICES))
def test_a_gate_and_its_controlled_and_inverse_forms_are_taken_as_they_are(name):
    row = GATES.get(name)
    n_wires = (row.n_wires if row else None) or 3
    angles = [0.1 * (k + 1) for k in range(row.n_angles if row else 0)]
    if name == "PauliRot":
        gate = qml.PauliRot(*angles, "XYZ", wires=range(3))
    elif name == "Identity" or not row:
        gate = getattr(qml, name)(wires=range(n_wires))
    else:
        gate = getattr(qml, name)(*angles, wires=range(n_wires))

    for op in (gate, qml.adjoint(gate, lazy=True), qml.ops.Controlled(gate, control_wires=["c"])):
        tape = qml.tape.QuantumScript([op], [qml.expval(qml.Z(0))])
        (found,), _ = qml.device("hybridjobs.qubit").preprocess()[0]([tape])
        assert len(found.operations) <= 1, found.operations


def test_methods_for_measurements_in_the_middle_are_those_that_the_device_takes():
    device = qml.device("hybridjobs.qubit", wires=2)

    @qml.qnode(device)
    def circuit():
        return qml.expval(qml.measure(0))

    for method in (*CAPABILITIES.supported_mcm_methods, "deferred"):
        assert qml.set_shots(qml.QNode(circuit.func, device, mcm_method=method), 10)() == 0
