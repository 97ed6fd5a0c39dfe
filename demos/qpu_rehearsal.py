"""Hydrogen on IonQ's Forte 1 with five dollars: forecast, stop at the budget, raise it, resume, final bill. All on this machine.

The machine is emulated (`pip install 'pl-hybridjobs[emulator]'`): no account, no money. The same job runs on the real one when the
emulator's environment variables are left out.

The Hamiltonian is that of H2 in the STO-3G basis at 0.7414 angstrom, reduced to two qubits; the ansatz is its one excitation.

    python demos/qpu_rehearsal.py [--quick]
"""

import argparse
import os

import numpy as np
import pennylane as qml

from pl_hybridjobs import Budget, Status, hybrid_job, job_device, train
from pl_hybridjobs.emulator import emulator

FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
H2 = qml.Hamiltonian(
    [-1.0523, 0.3979, -0.3979, -0.0112, 0.1809],
    [qml.Identity(0), qml.Z(1), qml.Z(0), qml.Z(0) @ qml.Z(1), qml.X(0) @ qml.X(1)],
)


def ansatz(theta):
    """From the Hartree-Fock state, at 0, to its excitation, at pi."""
    qml.X(wires=1)
    qml.RY(theta, wires=0)
    qml.CNOT(wires=[0, 1])


@hybrid_job(device=FORTE, budget=Budget(max_usd=5), tags={"demo": "qpu_rehearsal"})
def vqe(steps: int, shots: int):
    """Gradient descent on the energy; returns the angle."""

    @qml.set_shots(shots)
    @qml.qnode(job_device(wires=2))
    def energy(theta):
        ansatz(theta)
        return qml.expval(H2)

    run = train(energy, np.array(1.2), optimizer=qml.GradientDescentOptimizer(0.3), steps=steps, value_name="energy")
    return {"theta": float(run.params)}


@qml.qnode(qml.device("hybridjobs.qubit", wires=2))
def exact_energy(theta):
    """The energy (Ha) that no shots disturb."""
    ansatz(theta)
    return qml.expval(H2)


def main() -> None:
    """Forecast, run, stop, raise, resume, bill."""
    parser = argparse.ArgumentParser(description="a rehearsal on an emulated quantum computer, with a budget")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    quick = parser.parse_args().quick

    with emulator(devices=["Forte 1"], seed=7) as service:
        os.environ.update(service.environment())
        print(vqe.forecast(steps=6 if quick else 12, shots=8))
        job = vqe(steps=6 if quick else 12, shots=8)
        job.wait()
        print(job.logs())
        print(f"{job.name} is {job.status} after {len(job.metrics()['energy'])} steps: {job.cost}")
        if job.status is not Status.INTERRUPTED:
            raise SystemExit("five dollars should not have been enough")

        result = job.resume(budget={"max_usd": 100}).result()
        print(f"{job.name} is {job.status} after {len(job.metrics()['energy'])} steps: {job.cost}")
        print(f"the service's own bill: {service.bill.total_usd} USD for {len(service.bill.lines)} tasks")
        if job.cost.usd != service.bill.total_usd:
            raise SystemExit("the job's bill and the service's are not the same")

    lowest = float(np.linalg.eigvalsh(qml.matrix(H2, wire_order=[0, 1]))[0])
    print(f"energy at the start {exact_energy(1.2):.4f} Ha, now {exact_energy(result['theta']):.4f} Ha, exact {lowest:.4f} Ha")


if __name__ == "__main__":
    main()
