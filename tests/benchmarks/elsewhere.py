"""Peers that cannot live in our environment, since they pin other versions of JAX: Catalyst and qsim.

Install ``pennylane-catalyst qsimcirq`` in an environment of their own, and run this file in both, one after the other:
``python tests/benchmarks/elsewhere.py ours | catalyst | qsim``. Prints medians in milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

SIZES = ((4, 2), (8, 4), (10, 5), (16, 3))


def median_ms(action, least_s=0.02, turns=15):
    action()
    times = []
    for _ in range(turns):
        calls, begun = 0, time.perf_counter()
        while not calls or time.perf_counter() - begun < least_s:
            action()
            calls += 1
        times.append((time.perf_counter() - begun) / calls)
    return 1e3 * statistics.median(times)


def weights(n, depth):
    return np.random.default_rng(0).normal(size=(depth, n, 3))


def training_steps(device, compiled):
    """The time of a value and gradient, and that of the first result."""
    import jax
    import jax.numpy as jnp
    import pennylane as qml

    jax.config.update("jax_enable_x64", True)
    for n, depth in SIZES:

        @qml.qnode(qml.device(device, wires=n), diff_method="adjoint" if device == "lightning.qubit" else "best")
        def circuit(x, n=n):
            qml.StronglyEntanglingLayers(x, wires=range(n))
            return qml.expval(qml.Z(0) @ qml.Z(1))

        step, x = compiled(circuit), jnp.array(weights(n, depth))
        begun = time.perf_counter()
        jax.block_until_ready(step(x))
        first_s = time.perf_counter() - begun
        found = median_ms(lambda step=step, x=x: jax.block_until_ready(step(x)))
        print(f"value and gradient, {n} qubits, {depth} layers: {found:.3f} ms, first {first_s:.2f} s", flush=True)


def whole_training_steps():
    """What ``train`` takes for a step with Adam, all its bookkeeping included."""
    import pennylane as qml

    from pl_hybridjobs import train

    for n, depth in SIZES:

        @qml.qnode(qml.device("hybridjobs.qubit", wires=n))
        def circuit(x, n=n):
            qml.StronglyEntanglingLayers(x, wires=range(n))
            return qml.expval(qml.Z(0) @ qml.Z(1))

        found = []
        for _ in range(5):
            run = train(circuit, weights(n, depth), optimizer=qml.AdamOptimizer(0.01), steps=300, progress=False)
            found.append(statistics.median(run.history["step_time_s"]))
        print(f"training step, {n} qubits, {depth} layers: {1e3 * statistics.median(found):.3f} ms", flush=True)


def ours():
    import jax
    import pennylane as qml

    training_steps("hybridjobs.qubit", lambda circuit: jax.jit(jax.value_and_grad(circuit)))
    whole_training_steps()

    @qml.qnode(qml.device("hybridjobs.qubit", wires=24, c_dtype=np.complex64), diff_method=None)
    def circuit(x):
        qml.StronglyEntanglingLayers(x, wires=range(24))
        return qml.expval(qml.Z(0))

    print(f"forward, 24 qubits, complex64: {median_ms(lambda: circuit(weights(24, 2)), turns=3):.0f} ms")


def catalyst():
    from catalyst import qjit, value_and_grad

    training_steps("lightning.qubit", lambda circuit: qjit(value_and_grad(circuit)))


def qsim():
    import cirq
    import qsimcirq

    wires, circuit = cirq.LineQubit.range(24), cirq.Circuit()
    for layer, angles in enumerate(weights(24, 2)):
        for wire, (phi, theta, omega) in zip(wires, angles, strict=True):
            circuit.append([cirq.rz(phi)(wire), cirq.ry(theta)(wire), cirq.rz(omega)(wire)])
        circuit.append(cirq.CNOT(wires[i], wires[(i + layer + 1) % 24]) for i in range(24))
    simulator = qsimcirq.QSimSimulator({"t": 2, "f": 4})
    found = median_ms(lambda: simulator.simulate_expectation_values(circuit, [cirq.Z(wires[0])]), turns=3)
    print(f"forward, 24 qubits, complex64: {found:.0f} ms")


if __name__ == "__main__":
    {"ours": ours, "catalyst": catalyst, "qsim": qsim}[sys.argv[1]]()
