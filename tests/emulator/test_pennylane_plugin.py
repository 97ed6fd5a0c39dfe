"""The unmodified Amazon Braket plug-in of PennyLane against the emulator, with default.qubit as judge."""

from __future__ import annotations

import pennylane as qml
import pytest
from numpy.testing import assert_allclose
from pennylane import numpy as np

from tests.emulator.conftest import DM1, FORTE, SV1

pytestmark = [pytest.mark.usefixtures("running", "swept"), pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

HAMILTONIAN = qml.Hamiltonian([0.4, -0.6, 0.3], [qml.Z(0), qml.X(0) @ qml.X(1), qml.Y(1)])


def ansatz(params):
    qml.RY(params[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RX(2 * params[1], wires=1)
    qml.IsingXX(params[2] + 0.1, wires=[0, 1])


def braket(arn, **options):
    return qml.device("braket.aws.qubit", device_arn=arn, wires=2, poll_interval_seconds=0.02, **options)


def energy_on(device, shots=None, **options):
    @qml.qnode(device, shots=shots, **options)
    def energy(params):
        ansatz(params)
        return qml.expval(HAMILTONIAN)

    return energy


PARAMS = np.array([0.3, -0.7, 0.2], requires_grad=True)


@pytest.fixture(scope="module")
def expected():
    exact = energy_on(qml.device("default.qubit"))
    return exact(PARAMS), qml.grad(exact)(PARAMS)


def test_exact_energy_and_the_devices_own_gradient(running, expected):
    energy = energy_on(braket(SV1), diff_method="device")
    before = len(running.tasks)

    assert energy(PARAMS) == pytest.approx(expected[0])
    assert_allclose(qml.grad(energy)(PARAMS), expected[1], atol=1e-9)
    assert any("adjoint_gradient" in task.request["action"] for task in running.tasks[before:])
    assert len(running.tasks) - before <= 3


def test_parameter_shift_in_parallel(running, expected):
    energy = energy_on(braket(SV1, parallel=True, max_parallel=4), diff_method="parameter-shift")
    before = len(running.tasks)

    assert_allclose(qml.grad(energy)(PARAMS), expected[1], atol=1e-9)
    assert len(running.tasks) - before >= 6


def test_shots(expected):
    energy = energy_on(braket(SV1), shots=4000)

    assert energy(PARAMS) == pytest.approx(expected[0], abs=0.1)


def test_other_measurements():
    @qml.qnode(braket(SV1))
    def circuit():
        ansatz(PARAMS)
        return qml.probs(wires=[0, 1]), qml.var(qml.Z(1)), qml.expval(qml.Hermitian(np.array([[1, 2], [2, -1]]), wires=0))

    @qml.qnode(qml.device("default.qubit"))
    def judge():
        ansatz(PARAMS)
        return qml.probs(wires=[0, 1]), qml.var(qml.Z(1)), qml.expval(qml.Hermitian(np.array([[1, 2], [2, -1]]), wires=0))

    for found, wanted in zip(circuit(), judge(), strict=True):
        assert_allclose(found, wanted, atol=1e-9)


def test_noise_on_dm1():
    @qml.qnode(braket(DM1))
    def noisy():
        qml.RX(0.4, wires=0)
        qml.AmplitudeDamping(0.2, wires=0)
        qml.CNOT(wires=[0, 1])
        qml.DepolarizingChannel(0.1, wires=1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    judge = qml.QNode(noisy.func, qml.device("default.mixed", wires=2))

    assert_allclose(noisy(), judge(), atol=1e-9)


def test_a_gradient_on_a_qpu_is_one_program_set(running, expected):
    energy = energy_on(braket(FORTE), shots=2000, diff_method="parameter-shift")
    before = len(running.tasks)

    gradient = qml.grad(energy)(PARAMS)

    assert_allclose(gradient, expected[1], atol=0.2)
    tasks = running.tasks[before:]
    assert {task.metadata["actionType"] for task in tasks} == {"braket.ir.openqasm.program_set"}
    assert len(tasks) <= 2, "the value, and the gradient"
    assert sum(task.metadata["executableCount"] for task in tasks) >= 12


def test_samples_and_counts_on_a_qpu():
    @qml.qnode(braket(FORTE), shots=50)
    def circuit(angle):
        qml.RX(angle, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.counts(qml.Z(0)), qml.expval(qml.Z(1))

    counts, expectation = circuit(np.array(np.pi, requires_grad=True))

    assert counts == {-1: 50}
    assert expectation == -1
