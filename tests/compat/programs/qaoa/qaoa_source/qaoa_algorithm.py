"""QAOA for the maximum cut of a ring: reads hyperparameters, logs, saves checkpoints and the result."""

import pennylane as qml
from pennylane import numpy as np
from qaoa_source import utils

from pl_hybridjobs.compat.braket import (
    get_hyperparameters,
    get_job_device_arn,
    get_job_name,
    log_metric,
    save_job_checkpoint,
    save_job_result,
)


def main():
    hyperparameters = get_hyperparameters()
    p, n_nodes = int(hyperparameters["p"]), int(hyperparameters["n_nodes"])
    assert hyperparameters["copy_checkpoints"] == "False"
    np.random.seed(int(hyperparameters["seed"]))

    device = utils.init_device(get_job_device_arn(), n_nodes)
    edges = utils.ring(n_nodes)

    @qml.qnode(device)
    def cost(params):
        for wire in range(n_nodes):
            qml.Hadamard(wire)
        for gamma, beta in params:
            for one, other in edges:
                qml.IsingZZ(gamma, [one, other])
            for wire in range(n_nodes):
                qml.RX(beta, wire)
        return qml.expval(qml.sum(*(0.5 * qml.Z(one) @ qml.Z(other) for one, other in edges)))

    params = np.array(0.1 * np.random.rand(p, 2) + 0.3, requires_grad=True)
    optimizer = qml.AdamOptimizer(float(hyperparameters["stepsize"]))
    for iteration in range(int(hyperparameters["iterations"])):
        params, before = optimizer.step_and_cost(cost, params)
        log_metric("Cost", float(before), iteration_number=iteration)
        save_job_checkpoint({"iteration": iteration, "params": params.tolist()})
    save_job_result({"params": params.tolist(), "cost": float(cost(params)), "job": get_job_name()})


if __name__ == "__main__":
    main()
