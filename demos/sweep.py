"""A sweep over step sizes, four jobs at once; the best one is picked.

python demos/sweep.py [--quick]
"""

import argparse

import pennylane as qml
from pennylane import numpy as np

from pl_hybridjobs import grid, hybrid_job, job_device, log_metric


@hybrid_job(device="hybridjobs.qubit", tags={"demo": "sweep"})
def descend(stepsize: float, steps: int = 30):
    """Gradient descent on one qubit's energy; returns the last cost."""

    @qml.qnode(job_device(wires=1))
    def cost(params):
        qml.RX(params[0], wires=0)
        qml.RY(params[1], wires=0)
        return qml.expval(qml.PauliZ(0))

    optimizer = qml.GradientDescentOptimizer(stepsize)
    params = np.array([0.3, 0.4], requires_grad=True)
    for step in range(steps):
        params, value = optimizer.step_and_cost(cost, params)
        log_metric("cost", value, step=step)
    return {"stepsize": stepsize, "cost": float(cost(params))}


def main() -> None:
    """Run the sweep and pick the best."""
    parser = argparse.ArgumentParser(description="a sweep of hybrid jobs")
    parser.add_argument("--quick", action="store_true", help="four step sizes instead of eight")
    stepsizes = [0.02, 0.1, 0.3, 0.6] if parser.parse_args().quick else [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6]
    sweep = descend.map(grid(stepsize=stepsizes), max_parallel=4)
    print(sweep)
    sweep.results()
    print(sweep.table("cost"))
    best = sweep.best("cost")
    print(f"best: stepsize {best.params['stepsize']} with cost {best.result()['cost']:.6f}")


if __name__ == "__main__":
    main()
