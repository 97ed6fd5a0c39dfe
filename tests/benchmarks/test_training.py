"""``train`` beside the usual loops, in one run: ``pytest -m benchmark -s tests/benchmarks/test_training.py``.

Catalyst lives in an environment of its own, see ``elsewhere.py``. Prints ratios; asserts nothing about time.
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs import train

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning"),
]


def layers(name, n):
    @qml.qnode(qml.device(name, wires=n))
    def circuit(weights):
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def usual_step_s(name, n, start, steps):
    """Median seconds of a step of the loop that people write."""
    circuit, optimizer, params, times = layers(name, n), qml.AdamOptimizer(0.01), pnp.array(start, requires_grad=True), []
    for _ in range(steps):
        begun = time.perf_counter()
        params, _ = optimizer.step_and_cost(circuit, params)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def jitted_step_s(n, start):
    """default.qubit's value and gradient under ``jax.jit``: the first call, and the median of the others."""
    jax.config.update("jax_enable_x64", True)
    step, weights, times = jax.jit(jax.value_and_grad(layers("default.qubit", n))), jnp.array(start), []
    for _ in range(200):
        begun = time.perf_counter()
        jax.block_until_ready(step(weights))
        times.append(time.perf_counter() - begun)
    jax.config.update("jax_enable_x64", False)
    return times[0], statistics.median(times[1:])


@pytest.mark.parametrize(("n", "depth"), [(4, 2), (8, 4), (10, 5)])
def test_a_training_step(n, depth):
    start = np.random.default_rng(0).normal(size=(depth, n, 3))
    begun = time.perf_counter()
    train(layers("hybridjobs.qubit", n), start, optimizer=qml.AdamOptimizer(0.01), steps=1, progress=False)
    first_s = time.perf_counter() - begun
    whole = []
    for _ in range(5):  # all that train does, its bookkeeping too
        begun = time.perf_counter()
        train(layers("hybridjobs.qubit", n), start, optimizer=qml.AdamOptimizer(0.01), steps=10, progress=False)
        short = time.perf_counter() - begun
        begun = time.perf_counter()
        train(layers("hybridjobs.qubit", n), start, optimizer=qml.AdamOptimizer(0.01), steps=510, progress=False)
        whole.append((time.perf_counter() - begun - short) / 500)
    ours = statistics.median(whole)
    lightning = usual_step_s("lightning.qubit", n, start, 20)
    print(f"\ntrain, {n} qubits, {depth} layers: {ours * 1e3:.3f} ms a step, first after {first_s:.2f} s; ", end="")
    print(f"lightning.qubit + qml.AdamOptimizer {lightning * 1e3:.1f} ms = {lightning / ours:.0f} x (target 20 x)", end="")
    if n < 10:
        compile_s, step_s = jitted_step_s(n, start)
        print(f"; default.qubit under jax.jit {step_s * 1e3:.2f} ms = {step_s / ours:.1f} x after {compile_s:.0f} s", end="")


def test_a_mini_batch_of_256_samples():
    n, depth = 8, 2
    rng = np.random.default_rng(0)
    x, y, start = rng.normal(size=(256, n)), rng.integers(0, 2, 256) * 2.0 - 1, rng.normal(size=(depth, n, 3))

    def model(name):
        @qml.qnode(qml.device(name, wires=n))
        def circuit(weights, x):
            qml.AngleEmbedding(x, wires=range(n))
            qml.StronglyEntanglingLayers(weights, wires=range(n))
            return qml.expval(qml.Z(0))

        return circuit

    ours, theirs = model("hybridjobs.qubit"), model("lightning.qubit")
    times = {}
    for steps in (1, 41):
        begun = time.perf_counter()
        train(
            lambda w, x, y: ((ours(w, x) - y) ** 2).mean(),
            start,
            optimizer=qml.AdamOptimizer(0.01),
            steps=steps,
            data=(x, y),
            batch_size=256,
            progress=False,
        )
        times[steps] = time.perf_counter() - begun
    ours_s = (times[41] - times[1]) / 40
    optimizer, params = qml.AdamOptimizer(0.01), pnp.array(start, requires_grad=True)
    few = 32  # samples of the loop, whose time grows with their number
    begun = time.perf_counter()
    optimizer.step_and_cost(lambda w: sum((theirs(w, x[i]) - y[i]) ** 2 for i in range(few)) / few, params)
    loop_s = (time.perf_counter() - begun) * 256 / few
    print(f"\n256 samples, {n} qubits, {depth} layers: {ours_s * 1e3:.1f} ms a step; ", end="")
    print(f"a loop over samples on lightning.qubit {loop_s:.2f} s = {loop_s / ours_s:.0f} x (target 20 x)", end="")
