"""A benchmark of optimizers: QNSPSA against gradient descent, on a density-matrix simulator, in local mode."""

import pennylane as qml
from pennylane import numpy as np

from pl_hybridjobs.compat.braket import hybrid_job, log_metric


@hybrid_job(device="local:braket/braket_dm", local=True, dependencies="requirements.txt", quiet=True)
def benchmark(n_qubits: int, n_steps: int, seed: int = 3):
    device = qml.device("braket.local.qubit", backend="braket_dm", wires=n_qubits)

    @qml.qnode(device)
    def cost(params):
        for wire in range(n_qubits):
            qml.RY(params[wire], wire)
        for wire in range(n_qubits - 1):
            qml.CZ([wire, wire + 1])
        return qml.expval(qml.Z(0) @ qml.Z(n_qubits - 1))

    start = np.array([0.8] * n_qubits, requires_grad=True)
    finals = {}
    for name, optimizer in {
        "gradient-descent": qml.GradientDescentOptimizer(0.3),
        "qnspsa": qml.QNSPSAOptimizer(stepsize=0.2, seed=seed),
    }.items():
        params = start
        for step in range(n_steps):
            params, value = optimizer.step_and_cost(cost, params)
            log_metric(f"{name}/cost", value, iteration_number=step)
        finals[name] = cost(params)
    return {"finals": finals, "device": device.name}


if __name__ == "__main__":
    job = benchmark(2, n_steps=6)
    result = job.result()
    table = job.metrics()
    print(result)
