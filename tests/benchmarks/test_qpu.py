"""A gradient on a remote device takes what latency and concurrency set, and hardly more."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pennylane as qml

LATENCY_S, AT_ONCE, CIRCUITS = 0.5, 50, 200
LIMIT_S = CIRCUITS / AT_ONCE * LATENCY_S
WORDS = [qml.prod(*(letter(wire) for wire, letter in enumerate(word))) for word in itertools.product((qml.X, qml.Y, qml.Z), repeat=4)]


def energy(device):
    """Ten angles, ten words of which no two are measured together: 20 x 10 circuits for a gradient."""

    @qml.set_shots(100)
    @qml.qnode(device, diff_method="parameter-shift")
    def circuit(x):
        for place in range(10):
            qml.RY(x[place], place % 4)
            if place % 4 == 3:
                for wire in range(3):
                    qml.CNOT([wire, wire + 1])
        return qml.expval(qml.Hamiltonian(np.linspace(0.1, 1, 10), WORDS[::8][:10]))

    return circuit


def test_a_gradient_of_200_circuits_takes_at_most_1_3_times_the_limit(report):
    manners = {"latency_s": LATENCY_S, "at_once": AT_ONCE, "in_flight": AT_ONCE}
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=4, **manners)
    circuit, x = energy(device), qml.numpy.array(np.linspace(0, 1, 10), requires_grad=True)
    circuit(x)  # what is compiled and opened once
    before = len(device.qpu.bought)

    submissions, gradients = [], []
    execute = device.execute

    def timed(circuits, execution_config=None):
        began_s = time.perf_counter()
        found = execute(circuits, execution_config)
        if len(circuits) == CIRCUITS:
            submissions.append(time.perf_counter() - began_s)
        return found

    device.execute = timed
    for _ in range(3):
        began_s = time.perf_counter()
        qml.grad(circuit)(x)
        gradients.append(time.perf_counter() - began_s)

    assert len(device.qpu.bought) == before + 3 * (CIRCUITS + 10)
    report(f"{CIRCUITS} circuits, {LATENCY_S} s latency, {AT_ONCE} at once: limit", LIMIT_S, "s")
    report("from submission to results, best of 3", min(submissions), "s")
    report("gradient with its forward call (limit 2.5 s), best of 3", min(gradients), "s")
    assert min(submissions) < 1.3 * LIMIT_S
