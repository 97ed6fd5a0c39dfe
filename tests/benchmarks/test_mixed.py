"""hybridjobs.mixed beside default.mixed, in one run, in turns: ``pytest -m benchmark -s tests/benchmarks/test_mixed.py``.

Prints medians and ratios; asserts nothing about time, since machines differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pennylane as qml
import pytest
from pennylane import numpy as pnp

from tests.benchmarks import test_simulator as simulator

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


def say(what, found):
    ours, theirs = found[OURS], found[THEIRS]
    print(f"\n{what:<46} {ours * 1e3:10.4g} ms   {THEIRS} {theirs * 1e3:.4g} ms = {theirs / ours:.1f} x   target 10 x", end="")


@pytest.mark.parametrize("channel", [qml.AmplitudeDamping, qml.DepolarizingChannel])
def test_forward_and_gradient_of_10_noisy_qubits(channel):
    weights = simulator.random_weights(WIRES, LAYERS)
    circuits = {name: noisy_layers(name, channel) for name in (OURS, THEIRS)}
    say(f"forward, 10 qubits, {channel.__name__}", simulator.in_turns({k: functools.partial(f, weights) for k, f in circuits.items()}, 1))
    trained = pnp.array(weights, requires_grad=True)
    actions: dict[str, Callable[[], object]] = {k: functools.partial(qml.grad(f), trained) for k, f in circuits.items()}
    say(f"gradient, 10 qubits, {channel.__name__}", simulator.in_turns(actions, 1))
