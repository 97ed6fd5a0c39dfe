"""The ground state of molecular hydrogen by VQE, as a hybrid job that is killed on the way and resumes.

The Hamiltonian is that of H2 in the STO-3G basis at 0.7414 angstrom, reduced to two qubits: the electronic part, to which the repulsion
of the nuclei, 0.7199 Ha, is added. Exact diagonalisation is the yardstick.

    python demos/vqe_h2.py [--quick]
"""

import argparse
import os
import signal
import time

import numpy as np
import pennylane as qml

from pl_hybridjobs import hybrid_job, job_device, train

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
    """Adam on the energy of a two-qubit ansatz; returns the lowest energy (Ha) and its parameters."""

    @qml.qnode(job_device(wires=2))
    def energy(params):
        qml.RY(params[0], wires=0)
        qml.RY(params[1], wires=1)
        qml.CNOT(wires=[0, 1])
        qml.RY(params[2], wires=0)
        qml.RY(params[3], wires=1)
        return qml.expval(H2)

    def rest(_progress):
        time.sleep(pause_s)  # a step takes a millisecond, too short to be killed by hand

    start, adam = np.array([0.1, 0.2, 0.3, 0.4]), qml.AdamOptimizer(stepsize)
    run = train(energy, start, optimizer=adam, steps=steps, value_name="energy", checkpoint_every=5, stop=rest)
    return {"energy": run.best.value, "params": run.best.params}


def main() -> None:
    """Run, kill, resume, compare."""
    parser = argparse.ArgumentParser(description="VQE of H2 as a hybrid job")
    parser.add_argument("--quick", action="store_true", help="fewer steps after the kill")
    quick = parser.parse_args().quick
    exact = float(np.linalg.eigvalsh(qml.matrix(H2, wire_order=[0, 1]))[0])

    job = vqe(steps=150 if quick else 250, pause_s=0.02)
    print(f"submitted {job.name}: {job.folder}")
    while not job.checkpoints():
        if job.status.is_over:
            job.result()
        time.sleep(0.05)
    lease = job.state().lease
    assert lease is not None, "a job that saves has an owner"
    print(f"step {len(job.metrics()['energy'])}: killing its process {lease.owner.pid} (kill -9) ...")
    os.kill(lease.owner.pid, signal.SIGKILL)
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
