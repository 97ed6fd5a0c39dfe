"""hybridjobs.mixed beside default.mixed, in one run, one after the other: ``pytest -m benchmark -s tests/benchmarks/test_mixed.py``.

Prints medians of five calls of ours, and one call of theirs, which takes many seconds and slows whatever runs in the
second after it; asserts nothing about time, since machines differ.
"""

from __future__ import annotations

import functools
import statistics
import timeit

import pennylane as qml
import pytest
from pennylane import numpy as pnp

from tests.benchmarks.test_simulator import random_weights

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")]
OURS, THEIRS = "hybridjobs.mixed", "default.mixed"
WIRES, LAYERS = 10, 3


def noisy_layers(name, channel):
    @qml.qnode(qml.device(name, wires=WIRES), diff_method="best")
    def circuit(weights):
        for layer in range(LAYERS):
            qml.StronglyEntanglingLayers(weights[layer : layer + 1], wires=range(WIRES), ranges=[1])
            for wire in range(WIRES):
                channel(0.05, wires=wire)
        return qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def seconds(action, repeat):
    return statistics.median(timeit.repeat(action, number=1, repeat=repeat))


def say(what, make):
    action = make(OURS)
    action()
    ours, theirs = seconds(action, 5), seconds(make(THEIRS), 1)
    print(f"\n{what:<46} {ours * 1e3:10.4g} ms   {THEIRS} {theirs * 1e3:.4g} ms = {theirs / ours:.1f} x   target 10 x", end="")


@pytest.mark.parametrize("channel", [qml.AmplitudeDamping, qml.DepolarizingChannel])
def test_forward_and_gradient_of_10_noisy_qubits(channel):
    weights = random_weights(WIRES, LAYERS)
    trained = pnp.array(weights, requires_grad=True)

    say(f"forward, 10 qubits, {channel.__name__}", lambda name: functools.partial(noisy_layers(name, channel), weights))
    say(f"gradient, 10 qubits, {channel.__name__}", lambda name: functools.partial(qml.grad(noisy_layers(name, channel)), trained))
