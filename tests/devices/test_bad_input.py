"""What cannot be computed is refused, with words that help."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from pennylane.exceptions import DeviceError, QuantumFunctionError, WireError

from pl_hybridjobs.errors import SimulationError


def circuit(*operations, measured=None, wires=2, shots=None, **options):
    def run():
        for op in operations:
            qml.apply(op)
        return qml.apply(measured) if measured else qml.expval(qml.Z(0))

    node = qml.QNode(run, qml.device("hybridjobs.qubit", wires=wires), **options)
    return node if shots is None else qml.set_shots(node, shots)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_angles_that_are_no_numbers(value):
    with pytest.raises(SimulationError, match=r"a parameter of RY on wires \[1\] is -?(nan|inf); look where it comes from"):
        circuit(qml.RX(0.1, 0), qml.RY(value, 1))()


def test_one_bad_angle_in_a_batch_is_named_with_its_row():
    with pytest.raises(SimulationError, match=r"RX on wires .* is nan in row 1 of the batch"):
        circuit(qml.RX(np.array([0.1, np.nan, 0.2]), 0), diff_method=None)()


def test_complex_angles():
    with pytest.raises(SimulationError, match=r"a parameter of RX .* is complex"):
        circuit(qml.RX(0.1 + 0.2j, 0))()


def test_wires_that_the_device_does_not_have():
    with pytest.raises(WireError, match=r"not found on the device: .5"):
        circuit(qml.RX(0.1, 5))()


@pytest.mark.parametrize("state", [np.ones(4), np.array([np.nan, 0, 0, 0]), np.ones(3) / np.sqrt(3)])
def test_states_of_wrong_norm_or_length(state):
    with pytest.raises(ValueError, match=r"norm|length"):
        circuit(qml.StatePrep(state, [0, 1]))()


def test_noise():
    with pytest.raises(DeviceError, match=r"BitFlip.*use the device hybridjobs\.mixed"):
        circuit(qml.BitFlip(0.1, 0))()


@pytest.mark.parametrize("shots", [-1, 0])
def test_numbers_of_shots_that_are_not_positive(shots):
    with pytest.raises(ValueError, match="positive"):
        circuit(qml.RX(0.1, 0), shots=shots)()


def test_samples_without_shots():
    with pytest.raises(DeviceError, match=r"sample.* not accepted for analytic simulation"):
        circuit(qml.RX(0.1, 0), measured=qml.sample())()


@pytest.mark.parametrize(
    ("measured", "shots"),
    [(qml.expval(qml.Z(0)), 10), (qml.probs(wires=0), None), (qml.var(qml.Z(0)), None), (qml.expval(qml.Projector([0], 0)), None)],
)
def test_adjoint_derivatives_of_anything_but_exact_expectation_values(measured, shots):
    with pytest.raises(QuantumFunctionError, match="does not support adjoint"):
        circuit(qml.RX(0.1, 0), measured=measured, shots=shots, diff_method="adjoint")()


@pytest.mark.parametrize("measured", [qml.state(), qml.probs(wires=range(60)), qml.expval(qml.prod(*(qml.Z(w) for w in range(60))))])
def test_states_that_do_not_fit_into_memory(measured):
    with pytest.raises(SimulationError, match=r"60 qubits need .* GB .* this machine has .* qubits would fit.*complex64 needs half"):
        circuit(qml.RX(0.1, 0), measured=measured, wires=60)()


def test_a_wire_that_nothing_touches_needs_no_memory():
    assert circuit(qml.RX(np.pi, 59), measured=qml.expval(qml.Z(59)), wires=60)() == pytest.approx(-1)


def test_precisions_that_there_are_not():
    with pytest.raises(DeviceError, match="complex64 or complex128"):
        qml.device("hybridjobs.qubit", wires=1, c_dtype=np.float32)


def test_observables_that_are_not_hermitian():
    with pytest.raises(DeviceError, match="is not Hermitian: it has the coefficient 1j"):
        circuit(qml.RX(0.1, 0), measured=qml.expval(qml.prod(qml.X(0), qml.Y(0))))()


def test_more_wires_than_an_index_has_bits():
    with pytest.raises(SimulationError, match="70 qubits need"):
        circuit(*(qml.Hadamard(w) for w in range(70)), wires=70)()
