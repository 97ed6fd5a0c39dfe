"""Code that was written for NumPy and PennyLane's NumPy is traced as it is."""

from __future__ import annotations

import math

import autograd.numpy as anp
import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs import train
from pl_hybridjobs.training.dispatch import traceable

DEVICE = qml.device("hybridjobs.qubit", wires=2)
X = np.linspace(0.1, 2.0, 4)


@qml.qnode(DEVICE)
def circuit(weights, x):
    qml.RX(np.sqrt(x), wires=0)
    qml.RY(weights[0] * pnp.sin(weights[1]), wires=1)
    qml.CNOT([0, 1])
    qml.RZ(math.cos(0.3) * weights[2], wires=1)
    qml.RY(anp.arctan(weights[2]), wires=1)
    return qml.expval(qml.Z(1))


def loss(weights):
    predictions = pnp.stack([circuit(weights, x) for x in X])
    return pnp.mean((predictions - np.sin(X)) ** 2) + 0.01 * pnp.linalg.norm(weights) + 0.1 * pnp.max(anp.array([weights[0], 0.0]))


def test_jax_traces_a_copy_and_gives_the_gradient_that_finite_differences_give():
    weights = np.array([0.3, 0.2, 0.4])
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(traceable(loss))(jnp.array(weights))
    assert value == pytest.approx(float(loss(weights)), abs=1e-12)
    shifted = [(loss(weights + 1e-6 * e) - loss(weights - 1e-6 * e)) / 2e-6 for e in np.eye(3)]
    np.testing.assert_allclose(gradient, shifted, atol=1e-7)


def test_vanilla_numpy_takes_tracers_too():
    def fn(x):
        return np.mean(np.stack([np.cos(x), math.exp(0.5) * np.sqrt(x)]))

    with jax.enable_x64(True):
        assert jax.jit(traceable(fn))(0.7) == pytest.approx(float(fn(0.7)), abs=1e-15)


def test_the_function_itself_and_its_modules_stay_as_they_are():
    before = loss.__globals__["np"], circuit.func
    traceable(loss)
    assert (loss.__globals__["np"], circuit.func) == before
    assert loss.__globals__["np"] is np


def test_constants_are_computed_by_numpy_itself():
    kinds = []

    def fn(x):
        kinds.append(type(np.cos(0.5)))
        return np.cos(0.5) * x

    jax.grad(traceable(fn))(1.0)
    assert kinds == [np.float64]


def test_a_function_without_numpy_is_not_copied():
    def fn(x):
        return x * x

    assert traceable(fn) is fn


def test_train_compiles_what_was_written_for_numpy():
    runs = [
        train(loss, pnp.array([0.3, 0.2, 0.4]), optimizer=qml.AdamOptimizer(0.05), steps=8, compile=c, progress=False)
        for c in (True, False)
    ]
    assert runs[0].compiled
    np.testing.assert_allclose(runs[0].params, runs[1].params, atol=1e-10)
    np.testing.assert_allclose(runs[0].history["cost"], runs[1].history["cost"], atol=1e-12)


def test_what_writes_into_arrays_is_run_as_it_is():
    def fn(weights):
        out = np.zeros(3)
        out[0] = float(qml.math.toarray(weights[0])) if not isinstance(weights[0], float) else weights[0]
        return (weights**2).sum() + 0.0 * out[1]

    run = train(fn, np.ones(3), optimizer=qml.GradientDescentOptimizer(0.1), steps=2, progress=False, compile="auto")
    assert not run.compiled
