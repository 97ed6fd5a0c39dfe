"""Matrices on more wires than the kernels take, and sparse states: the array engine applies them as they are."""

from __future__ import annotations

import jax
import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
from pennylane import numpy as pnp

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

QUBIT, MIXED = "hybridjobs.qubit", "hybridjobs.mixed"
N = 9
UNITARY = np.linalg.qr(np.random.default_rng(5).normal(size=(2**N, 2**N)))[0]
FIELD = qml.dot(np.arange(1, N + 1) / N, [qml.X(wire) for wire in range(N)])

LARGE = {
    "QubitUnitary": lambda: qml.QubitUnitary(UNITARY, wires=range(N)),
    "its adjoint": lambda: qml.adjoint(qml.QubitUnitary(UNITARY, wires=range(N))),
    "controlled": lambda: qml.ctrl(qml.QubitUnitary(UNITARY, wires=range(N)), control=N, control_values=[0]),
    "BlockEncode": lambda: qml.BlockEncode(UNITARY[:256, :256], wires=range(N)),
    "evolution of a sum": lambda: qml.evolve(FIELD, 0.3),
}


def nodes(name, gate, **options):
    @qml.qnode(qml.device(name, wires=N + 1), **options)
    def run(angle):
        qml.RX(angle, 0)
        qml.RY(0.4, N)
        gate()
        qml.RY(angle, 3)
        return qml.expval(qml.Z(3) @ qml.X(0)), qml.probs(wires=[N, 2])

    return run


@pytest.mark.parametrize("name", LARGE)
def test_a_large_matrix_is_that_of_default_qubit(name):
    for ours, theirs in zip(nodes(QUBIT, LARGE[name])(0.3), nodes("default.qubit", LARGE[name])(0.3), strict=True):
        assert np.allclose(ours, theirs)


def test_a_large_matrix_has_gradients_about_it(x64):
    ours, theirs = (lambda x, name=name: nodes(name, LARGE["controlled"])(x)[0] for name in (QUBIT, "default.qubit"))

    wanted = qml.grad(theirs)(pnp.array(0.3))
    assert np.allclose(qml.grad(ours)(pnp.array(0.3)), wanted)
    assert np.allclose(jax.jit(jax.grad(ours))(0.3), wanted)


@pytest.mark.parametrize("method", ["deferred", "tree-traversal"])
def test_a_large_matrix_may_depend_on_a_measurement(method):
    def circuit():
        qml.RX(0.9, 0)
        outcome = qml.measure(0)
        qml.cond(outcome, qml.QubitUnitary)(UNITARY, wires=range(N))
        return qml.probs(wires=[1, 2])

    ours, theirs = (qml.QNode(circuit, qml.device(name, wires=N + 1), mcm_method=method)() for name in (QUBIT, "default.qubit"))
    assert np.allclose(ours, theirs)


def test_an_observable_of_many_wires_is_sampled():
    matrix = UNITARY + UNITARY.T

    @qml.qnode(qml.device(QUBIT, wires=N, seed=3))
    def circuit():
        qml.Hadamard(0)
        return qml.expval(qml.Hermitian(matrix, wires=range(N)))

    exact, found = circuit(), qml.set_shots(circuit, 10_000)()
    state = np.zeros(2**N)
    state[[0, 2 ** (N - 1)]] = 2**-0.5
    assert exact == pytest.approx(state @ matrix @ state)
    assert found == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("device", [QUBIT, MIXED])
def test_a_state_may_be_sparse(device):
    state = scipy.sparse.csr_matrix(np.array([0, 0.6, 0.8j, 0]))

    @qml.qnode(qml.device(device, wires=3))
    def circuit(angle):
        qml.StatePrep(state, wires=[2, 0])
        qml.RX(angle, 2)
        return qml.expval(qml.Z(2) - 0.5 * qml.Z(0))

    assert circuit(0.4) == pytest.approx((0.36 - 0.64) * np.cos(0.4) - 0.5 * (0.64 - 0.36))
    assert qml.grad(circuit)(pnp.array(0.4)) == pytest.approx(0.28 * np.sin(0.4))
