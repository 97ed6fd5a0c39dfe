"""The ground state of molecular hydrogen by VQE, as a hybrid job that is killed on the way and resumes.

The Hamiltonian is that of H2 in the STO-3G basis at 0.7414 angstrom, reduced to two qubits: the electronic part, to which the repulsion
of the nuclei, 0.7199 Ha, is added. Exact diagonalisation is the yardstick.

    python demos/vqe_h2.py [--quick]
"""

import argparse
import os
import signal
import time

import numpy
import pennylane as qml
from pennylane import numpy as np

from pl_hybridjobs import hybrid_job, job_device, load_checkpoint, log_metrics, save_checkpoint

NUCLEAR_REPULSION = 0.7199
COEFFICIENTS = [-1.0523, 0.3979, -0.3979, -0.0112, 0.1809]
OBSERVABLES = [
    qml.Identity(0) @ qml.Identity(1),
    qml.PauliZ(1),
    qml.PauliZ(0),
    qml.PauliZ(0) @ qml.PauliZ(1),
    qml.PauliX(0) @ qml.PauliX(1),
]
H2 = qml.Hamiltonian(COEFFICIENTS, OBSERVABLES)


@hybrid_job(device="hybridjobs.qubit", tags={"demo": "vqe_h2"})
def vqe(steps: int = 60, stepsize: float = 0.1, pause_s: float = 0.0):
    """Adam on the energy of a two-qubit ansatz; returns the energy (Ha) and the parameters."""
    dev = job_device(wires=2)

    @qml.qnode(dev)
    def energy(params):
        qml.RY(params[0], wires=0)
        qml.RY(params[1], wires=1)
        qml.CNOT(wires=[0, 1])
        qml.RY(params[2], wires=0)
        qml.RY(params[3], wires=1)
        return qml.expval(H2)

    gradient = qml.grad(energy)
    start = {"step": 0, "params": np.array([0.1, 0.2, 0.3, 0.4], requires_grad=True), "optimizer": qml.AdamOptimizer(stepsize)}
    state = load_checkpoint(default=start)
    params, optimizer = state["params"], state["optimizer"]
    for step in range(state["step"], steps):
        grad = gradient(params)
        log_metrics({"energy": gradient.forward, "gradient_norm": numpy.linalg.norm(grad)}, step=step)
        (params,) = optimizer.apply_grad([grad], [params])
        save_checkpoint({"step": step + 1, "params": params, "optimizer": optimizer}, step=step + 1)
        time.sleep(pause_s)
    return {"energy": float(energy(params)), "params": params}


def main() -> None:
    """Run, kill, resume, compare."""
    parser = argparse.ArgumentParser(description="VQE of H2 as a hybrid job")
    parser.add_argument("--quick", action="store_true", help="fewer steps after the kill")
    quick = parser.parse_args().quick
    exact = float(numpy.linalg.eigvalsh(qml.matrix(H2, wire_order=[0, 1]))[0])

    job = vqe(steps=150 if quick else 250, pause_s=0.02)
    print(f"submitted {job.name}: {job.folder}")
    while not job.metrics().names or len(job.metrics()["energy"]) < 10:
        if job.status.is_over:
            job.result()
        time.sleep(0.05)
    lease = job.state().lease
    assert lease is not None, "a job that logs has an owner"
    owner = lease.owner.pid
    print(f"step {len(job.metrics()['energy'])}: killing its process {owner} (kill -9) ...")
    os.kill(owner, signal.SIGKILL)
    print(f"{job.wait(timeout=30)}; resuming from the checkpoint of step {job.checkpoints()[-1].step} ...")
    result = job.resume().result()

    energies = job.metrics()["energy"]
    print(f"attempts {job.attempt}, steps logged {len(energies)}, first {energies[0]:.6f} Ha, last {energies[-1]:.6f} Ha")
    print(f"VQE   {result['energy']:.6f} Ha electronic, {result['energy'] + NUCLEAR_REPULSION:.6f} Ha in total")
    print(f"exact {exact:.6f} Ha electronic, {exact + NUCLEAR_REPULSION:.6f} Ha in total")
    error_mha = abs(result["energy"] - exact) * 1000
    print(f"error {error_mha:.4f} mHa")
    if error_mha > 1:
        raise SystemExit("the error is above 1 mHa")


if __name__ == "__main__":
    main()
