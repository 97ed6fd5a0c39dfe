"""Batches whose entries the devices take one by one: values and gradients are those of a loop."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

QUBIT, MIXED = "hybridjobs.qubit", "hybridjobs.mixed"
ANGLES = np.array([0.1, 0.5, -0.4])
WEIGHTS = np.array([[1.0, 2.0, -3.0], [0.5, -1.0, 0.7]])

# Operators that PennyLane splits into copies which still hold themselves for batches.
SPLIT = {
    "MultiRZ": lambda x: qml.MultiRZ(x, wires=[0, 1, 2]),
    "controlled MultiRZ": lambda x: qml.ctrl(qml.MultiRZ(x, wires=[0, 2]), 1, control_values=0),
    "adjoint MultiRZ": lambda x: qml.adjoint(qml.MultiRZ(x, wires=[2, 1])),
    "IQPEmbedding": lambda x: qml.IQPEmbedding(qml.math.stack([x, 2 * x], axis=-1), wires=[0, 1]),
}


def circuit(device, gate, method="best"):
    @qml.qnode(qml.device(device, wires=3), diff_method=method)
    def run(x):
        for wire in range(3):
            qml.RY(0.3 + wire, wire)
        gate(x)
        qml.IsingXX(x, wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2) + 0.3 * qml.Z(1))

    return run


def loss(results):
    return qml.math.sum(results[0] * WEIGHTS[0]) + qml.math.sum(results[1] * WEIGHTS[1])


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop"])
@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("device", [QUBIT, MIXED])
def test_values_and_gradients_of_a_batch_are_those_of_a_loop(device, name, method):
    alone = circuit("default.qubit", SPLIT[name], "backprop")
    expected = [np.array(column) for column in zip(*(alone(x) for x in ANGLES), strict=True)]
    slopes = [qml.grad(lambda x, i=i: alone(x)[0] * WEIGHTS[0, i] + alone(x)[1] * WEIGHTS[1, i])(pnp.array(ANGLES[i])) for i in range(3)]

    ours = circuit(device, SPLIT[name], method)

    found = ours(ANGLES)
    assert [np.shape(column) for column in found] == [(3,), (3,)]
    assert np.allclose(found, expected)
    assert np.allclose(qml.grad(lambda x: loss(ours(x)))(pnp.array(ANGLES)), slopes)


@pytest.mark.parametrize("channel", [qml.AmplitudeDamping, qml.BitFlip])
def test_a_batch_of_noise_with_several_measurements_has_the_gradient_of_a_loop(channel):
    @qml.qnode(qml.device(MIXED, wires=2))
    def noisy(strength):
        qml.RX(0.4, 0)
        qml.CNOT([0, 1])
        qml.RY(0.7, 1)
        channel(strength, wires=1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1)), qml.expval(qml.X(0) @ qml.X(1))

    strengths = np.array([0.1, 0.3, 0.2])  # as many as measurements: only the numbers tell which axis is which
    coefficients = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.2], [0.3, 0.1, -2.0]])
    found = qml.grad(lambda s: qml.math.sum(qml.math.stack(noisy(s)) * coefficients))(pnp.array(strengths))

    step = 1e-6
    slopes = [(np.array(noisy(s + step)) - np.array(noisy(s - step))) / (2 * step) for s in strengths]
    assert np.allclose(found, [slope @ coefficients[:, i] for i, slope in enumerate(slopes)], atol=1e-7)


@pytest.mark.parametrize("method", ["best", "adjoint"])
def test_a_batch_of_angles_is_one_execution_also_where_it_is_differentiated(method):
    device = qml.device("hybridjobs.qubit", wires=3)

    def circuit(weights, x, y):
        qml.RX(y, 0)
        qml.AngleEmbedding(x, wires=range(2))
        qml.StronglyEntanglingLayers(weights, wires=range(3))
        qml.MultiRZ(x[:, 0], [0, 1])
        qml.Rot(x[:, 1], 0.3, y, 2)
        return qml.expval(qml.Z(0)), qml.expval(qml.X(1) @ qml.Y(2))

    def loss(node, *args):
        first, second = node(*args)
        return pnp.sum(first**2 * pnp.arange(5)) + pnp.sum(pnp.sin(second))

    rng = np.random.default_rng(0)
    args = [pnp.array(rng.normal(size=shape), requires_grad=True) for shape in ((2, 3, 3), (5, 2), ())]
    with qml.Tracker(device) as tracker:
        ours = qml.grad(loss, argnums=(1, 2, 3))(qml.QNode(circuit, device, diff_method=method), *args)
    theirs = qml.grad(loss, argnums=(1, 2, 3))(qml.QNode(circuit, qml.device("default.qubit", wires=3)), *args)
    for our, their in zip(ours, theirs, strict=True):
        assert np.allclose(our, their, atol=1e-12)
    assert tracker.totals["simulations"] == 1
    assert tracker.totals["vjps"] == 1
