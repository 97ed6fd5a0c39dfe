"""PennyLane on SV1 with a checkpoint after each step, and a second job that goes on from the first one's checkpoints."""

import pennylane as qml
from pennylane import numpy as np

from pl_hybridjobs.compat.braket import get_job_device_arn, hybrid_job, load_job_checkpoint, log_metric, save_job_checkpoint

SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"


def energy_of_h2():
    device = qml.device("braket.aws.qubit", device_arn=get_job_device_arn(), wires=2, shots=None)
    terms = [qml.I(0), qml.Z(0), qml.Z(1), qml.Z(0) @ qml.Z(1), qml.X(0) @ qml.X(1)]
    hamiltonian = qml.Hamiltonian([-1.0523732, 0.39793742, -0.39793742, -0.01128010, 0.18093119], terms)

    @qml.qnode(device)
    def energy(theta):
        qml.RY(theta, 0)
        qml.X(1)
        qml.CNOT([0, 1])
        return qml.expval(hamiltonian)

    return energy


def optimize(theta, begin, end):
    energy = energy_of_h2()
    optimizer = qml.GradientDescentOptimizer(0.6)
    for step in range(begin, end):
        theta, before = optimizer.step_and_cost(energy, theta)
        log_metric(metric_name="energy", value=before, iteration_number=step)
        save_job_checkpoint({"theta": float(theta), "step": step})
    return {"energy": float(energy(theta)), "theta": float(theta)}


@hybrid_job(device=SV1)
def start(n_steps):
    return optimize(np.array(2.5, requires_grad=True), 0, n_steps)


if __name__ == "__main__":
    first = start(3)
    first.result()

    @hybrid_job(device=SV1, copy_checkpoints_from_job=first.arn)
    def go_on(previous_job, n_steps):
        loaded = load_job_checkpoint(previous_job)
        return optimize(np.array(loaded["theta"], requires_grad=True), loaded["step"] + 1, n_steps)

    second = go_on(first.name, 8)
    result = second.result()
    steps = first.metrics()["iteration_number"] + second.metrics()["iteration_number"]
    print(result)
