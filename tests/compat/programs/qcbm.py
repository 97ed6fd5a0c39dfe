"""A quantum circuit Born machine: one hybrid job for each depth, submitted in a loop, compared at the end."""

from collections import Counter

import numpy as np
from braket.circuits import Circuit
from braket.devices import LocalSimulator

from pl_hybridjobs.compat.braket import get_job_device_arn, hybrid_job, log_metric

N_QUBITS = 2
TARGET = np.array([0.5, 0.0, 0.0, 0.5])


def born_machine(angles):
    circuit = Circuit()
    for layer in angles:
        for qubit, (first, second) in enumerate(layer):
            circuit.rx(qubit, first).rz(qubit, second)
        circuit.cnot(0, 1)
    return circuit.probability()


@hybrid_job(device="local:braket/default", tags={"example": "qcbm"})
def train_born_machine(n_layers: int, n_iterations: int, seed: int = 2):
    device = LocalSimulator()
    rng = np.random.default_rng(seed)

    def loss(angles):
        probabilities = device.run(born_machine(angles), shots=0).result().values[0]
        return float(np.sum((probabilities - TARGET) ** 2))

    angles = rng.uniform(0, np.pi, (n_layers, N_QUBITS, 2))
    best = loss(angles)
    for iteration in range(n_iterations):
        tried = angles + rng.normal(0, 0.4, angles.shape)
        value = loss(tried)
        if value < best:
            angles, best = tried, value
        log_metric("mmd-loss", best, iteration_number=iteration)
    samples = device.run(born_machine(angles), shots=200).result()
    return {"loss": best, "angles": angles, "counts": dict(Counter(samples.measurement_counts)), "device": get_job_device_arn()}


if __name__ == "__main__":
    jobs = [train_born_machine(n_layers, n_iterations=15) for n_layers in (1, 2)]
    results = [job.result() for job in jobs]
    curves = [job.metrics()["mmd-loss"] for job in jobs]
    print("loss by depth:", [result["loss"] for result in results])
