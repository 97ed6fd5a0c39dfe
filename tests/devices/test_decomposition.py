"""Operators that are decomposed in the devices' own way: values and gradients are those of exact matrices."""

from __future__ import annotations

import jax
import numpy as np
import pennylane as qml
import pytest
import scipy.linalg
from pennylane import numpy as pnp

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

QUBIT, MIXED = "hybridjobs.qubit", "hybridjobs.mixed"
TIMES = np.array([0.3, 0.9])
SUM = qml.dot([0.3, -0.4, 0.2], [qml.X(0), qml.Z(0) @ qml.Y(1), qml.Z(1)])

GATES = {
    "exp of a word": lambda t: qml.exp(qml.X(0) @ qml.Y(1), 1j * t),
    "exp of a scaled word": lambda t: qml.exp(0.7 * qml.X(0) @ qml.Y(1), -2j * t),
    "evolution of a word": lambda t: qml.evolve(qml.Y(1) @ qml.X(0), t),
    "exp of the identity": lambda t: qml.ctrl(qml.exp(qml.Identity(1), 1j * t), control=0),
    "adjoint of an exp": lambda t: qml.adjoint(qml.exp(qml.Z(1), 1j * t)),
    "controlled evolution": lambda t: qml.ctrl(qml.evolve(qml.X(1), t), control=[0], control_values=[0]),
    "evolution of a sum": lambda t: qml.evolve(SUM, t),
    "a product formula": lambda t: qml.TrotterProduct(SUM, time=t, n=2, order=2),
    "a controlled power": lambda t: qml.ctrl(qml.pow(qml.RX(t, 1), 4), control=0),
    "a controlled power of many gates": lambda t: qml.ctrl(qml.pow(qml.Rot(t, 0.2, t, 1), 2), control=0),
}


def nodes(device, gate, method="best"):
    @qml.qnode(qml.device(device, wires=2), diff_method=method)
    def run(t):
        qml.RY(0.4, 0)
        qml.RX(1.1, 1)
        qml.CNOT([0, 1])
        gate(t)
        return qml.expval(qml.X(0) + 0.4 * qml.Z(1) @ qml.Y(0) + 0.2 * qml.Y(1))

    return run


def expected(gate, t, step=1e-5):
    run = nodes("default.qubit", gate, "backprop")
    return float(run(t)), float((run(t + step) - run(t - step)) / (2 * step))


@pytest.mark.parametrize("name", GATES)
def test_torch_has_values_and_gradients_alone_and_in_batches(name):
    torch = pytest.importorskip("torch")
    run = nodes(QUBIT, GATES[name])
    wanted = [expected(GATES[name], t) for t in TIMES]

    batch = torch.tensor(TIMES, requires_grad=True)
    values = run(batch)
    values.sum().backward()
    assert np.allclose(values.detach().numpy(), [value for value, _ in wanted])
    assert np.allclose(batch.grad.numpy(), [slope for _, slope in wanted], atol=1e-7)

    alone = torch.tensor(TIMES[0], requires_grad=True)
    run(alone).backward()
    assert np.allclose(alone.grad.numpy(), wanted[0][1], atol=1e-7)


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop"])
@pytest.mark.parametrize("name", sorted(GATES.keys() - {"evolution of a sum"}))
def test_autograd_has_values_and_gradients_alone_and_in_batches(name, method):
    run = nodes(QUBIT, GATES[name], method)
    wanted = [expected(GATES[name], t) for t in TIMES]

    assert np.allclose(run(TIMES), [value for value, _ in wanted])
    assert np.allclose(qml.grad(lambda t: qml.math.sum(run(t)))(pnp.array(TIMES)), [slope for _, slope in wanted], atol=1e-7)


def test_a_sum_whose_coefficients_jax_traces_is_evolved(x64):
    def circuit(coefficients, t):
        return nodes(QUBIT, lambda t: qml.evolve(qml.dot(coefficients, [qml.X(0), qml.Z(0) @ qml.Y(1)]), t))(t)

    def theirs(coefficients, t):
        return nodes("default.qubit", lambda t: qml.evolve(qml.dot(coefficients, [qml.X(0), qml.Z(0) @ qml.Y(1)]), t), "backprop")(t)

    points = np.array([[0.3, -0.4], [0.7, 0.2]])
    wanted = [[(theirs(c + 1e-5 * e, 0.3) - theirs(c - 1e-5 * e, 0.3)) / 2e-5 for e in np.eye(2)] for c in points]
    assert np.allclose(jax.jit(jax.vmap(jax.grad(circuit), in_axes=(0, None)))(points, 0.3), wanted, atol=1e-7)


def test_a_circuit_may_run_while_another_one_is_written_down():
    inner = nodes(QUBIT, GATES["evolution of a word"])

    @qml.qnode(qml.device(QUBIT, wires=2))
    def outer():
        qml.RX(inner(0.3), 0)
        return qml.expval(qml.Z(0))

    assert outer() == pytest.approx(np.cos(inner(0.3)))


def test_noise_between_does_not_matter():
    gate = GATES["a product formula"]
    noisy = nodes(MIXED, lambda t: (gate(t), qml.DepolarizingChannel(0.1, wires=0)))
    theirs = nodes("default.mixed", lambda t: (gate(t), qml.DepolarizingChannel(0.1, wires=0)), "backprop")

    assert np.allclose(noisy(0.3), theirs(0.3))
    assert np.allclose(qml.grad(noisy)(pnp.array(0.3)), (theirs(0.3 + 1e-5) - theirs(0.3 - 1e-5)) / 2e-5, atol=1e-7)


def test_exponentials_that_are_not_unitary_or_no_words_are_their_matrices():
    batch = np.array([1j, 2j])

    @qml.qnode(qml.device(QUBIT, wires=2))
    def run(coefficient):
        qml.RY(0.4, 0)
        qml.exp(SUM, coefficient)
        return qml.state()

    start = np.kron([np.cos(0.2), np.sin(0.2)], [1, 0])
    assert np.allclose(run(batch), [scipy.linalg.expm(c * qml.matrix(SUM, [0, 1])) @ start for c in batch])


def test_phase_estimation_has_its_gradient():
    @qml.qnode(qml.device(QUBIT, wires=3))
    def run(angle):
        qml.QuantumPhaseEstimation(qml.RX(angle, wires=0), estimation_wires=[1, 2])
        qml.RX(0.3, 0)
        qml.Hadamard(1)
        return qml.expval(qml.X(1) + qml.Z(0))

    assert np.allclose(qml.grad(run)(pnp.array(0.4)), (run(0.4 + 1e-6) - run(0.4 - 1e-6)) / 2e-6, atol=1e-7)


def test_an_embedding_takes_a_list_of_trained_numbers():
    @qml.qnode(qml.device(QUBIT, wires=2))
    def run(a, b):
        qml.AngleEmbedding([a, b], wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    found = qml.grad(run)(pnp.array(0.3), pnp.array(0.4))
    assert np.allclose(found, [-np.sin(0.3) * np.cos(0.4), -np.cos(0.3) * np.sin(0.4)])
