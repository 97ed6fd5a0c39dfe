"""A gradient on a remote device takes what latency and concurrency set, and hardly more."""

from __future__ import annotations

import time

import numpy as np
import pennylane as qml

LATENCY_S, AT_ONCE, CIRCUITS = 0.5, 50, 200
LIMIT_S = CIRCUITS / AT_ONCE * LATENCY_S


def test_a_gradient_of_200_circuits_takes_at_most_1_3_times_the_limit(report):
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=4, latency_s=LATENCY_S, at_once=AT_ONCE, in_flight=AT_ONCE)

    @qml.set_shots(100)
    @qml.qnode(device, diff_method="parameter-shift")
    def circuit(x):
        for layer in range(CIRCUITS // 2 // 4):
            for wire in range(4):
                qml.RY(x[4 * layer + wire], wire)
            qml.CNOT([layer % 4, (layer + 1) % 4])
        return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(2) @ qml.Z(3))

    x = qml.numpy.array(np.linspace(0, 1, CIRCUITS // 2), requires_grad=True)
    tapes, _ = qml.gradients.param_shift(qml.workflow.construct_tape(circuit)(x))
    assert len(tapes) == CIRCUITS
    config = device.setup_execution_config(circuit=tapes[0])
    ready, _ = device.preprocess_transforms(config)(tapes)
    device.execute(ready[:1], config)  # what is compiled and opened once

    times = []
    for _ in range(3):
        began_s = time.perf_counter()
        device.execute(ready, config)
        times.append(time.perf_counter() - began_s)
    began_s = time.perf_counter()
    qml.grad(circuit)(x)
    whole_s = time.perf_counter() - began_s

    report(f"{CIRCUITS} circuits, {LATENCY_S} s latency, {AT_ONCE} at once: limit", LIMIT_S, "s")
    report("submission to results, median of 3", float(np.median(times)), "s")
    report("whole gradient with its forward call (limit: 5 latencies)", whole_s, "s")
    assert np.median(times) < 1.3 * LIMIT_S
    assert whole_s < 1.3 * (LIMIT_S + LATENCY_S) + 1.0
