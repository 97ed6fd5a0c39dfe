"""Circuits for workers: ordinary ones, and some that do what no circuit should."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from pl_hybridjobs import job_device, train
from tests.training.programs import Bomb, outcome

NOISY = qml.X(0) @ qml.Y(1) + 0.5 * qml.Z(2)


def ansatz(angles):
    """Gates on three wires, shape (6,)."""
    for wire in range(3):
        qml.RY(angles[..., wire], wire)
    qml.CNOT([0, 1])
    qml.MultiRZ(angles[..., 3], [0, 1, 2])
    qml.CRX(angles[..., 4], [1, 2])
    qml.IsingXY(angles[..., 5], [0, 2])


def circuit(seed, measurements, shots=None):
    """One that comes with numbers of its own."""
    with qml.queuing.AnnotatedQueue() as queue:
        ansatz(np.random.default_rng(seed).uniform(0, 6, 6))
    return QuantumScript(QuantumScript.from_queue(queue).operations, measurements, shots=shots)


def every_kind():
    """Circuits whose results have all shapes."""
    kinds = [
        [qml.expval(NOISY)],
        [qml.probs(wires=[0, 2]), qml.var(qml.Z(1))],
        [qml.state()],
        [qml.expval(qml.Z(0)), qml.expval(qml.Hermitian(np.diag([1.0, 2.0]), 1))],
        [qml.purity(wires=[0])],
    ]
    return [circuit(seed, kind) for seed, kind in enumerate(kinds)]


def every_sample(shots=40):
    """Circuits that draw samples, one of them a broadcast batch, one with a shot vector."""
    with qml.queuing.AnnotatedQueue() as queue:
        ansatz(np.random.default_rng(9).uniform(0, 6, (3, 6)))
    batch = QuantumScript(QuantumScript.from_queue(queue).operations, [qml.sample(wires=[0, 1, 2]), qml.expval(NOISY)], shots=shots)
    kinds = [[qml.sample()], [qml.expval(NOISY), qml.counts(wires=[0, 1])], [qml.sample(qml.Z(0)), qml.probs(wires=[2])]]
    alone = [circuit(seed, kind, shots) for seed, kind in enumerate(kinds)]
    return [*alone, batch, circuit(7, [qml.expval(NOISY), qml.sample(wires=1)], (shots, shots // 2))]


def flat(results):
    """Results of any shape as a list of arrays and dicts."""
    if isinstance(results, list | tuple):
        return [leaf for result in results for leaf in flat(result)]
    return [results if isinstance(results, dict) else np.asarray(results)]


def assert_same_bits(found, wanted):
    """Equal, not just close."""
    pairs = list(zip(flat(found), flat(wanted), strict=True))
    assert pairs
    for one, other in pairs:
        assert one == other if isinstance(one, dict) else (one.shape == other.shape and np.array_equal(one, other))


class Deadly(qml.operation.Operation):  # type: ignore[misc]
    """Ends the process that computes its matrix, unless that is the one that made it; given a file, only once."""

    num_params, num_wires = 0, 1

    def __init__(self, wires, once=""):
        super().__init__(wires=wires)
        self.hyperparameters.update(maker=os.getpid(), once=once)

    @staticmethod
    def compute_matrix(maker, once):
        """The identity."""
        if os.getpid() != maker and not (once and Path(once).exists()):
            if once:
                Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.eye(2)


class OddError(Exception):
    """Which pickle cannot make again."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


class Raises(qml.operation.Operation):  # type: ignore[misc]
    """Raises when its matrix is computed."""

    num_params, num_wires = 0, 1

    def __init__(self, wires, odd=False):
        super().__init__(wires=wires)
        self.hyperparameters.update(odd=odd)

    @staticmethod
    def compute_matrix(odd):
        """There is none."""
        raise OddError(1, 2) if odd else ZeroDivisionError("no such matrix")


def with_gate(gate, seed=0):
    """A circuit that holds it."""
    made = circuit(seed, [qml.expval(NOISY)])
    return made.copy(operations=[*made.operations, gate])


def noisy_training(executor):
    """A job: training by shifts with few shots, whose numbers all come from the device's stream."""
    bomb = Bomb()
    workers = {"workers": 2, "executor": executor} if executor else {}

    @qml.set_shots(20)
    @qml.qnode(job_device(wires=3, seed=3, **workers), diff_method="parameter-shift")
    def value(angles):
        ansatz(angles)
        return qml.expval(NOISY)

    def ticking(angles):
        bomb.tick()
        return value(angles)

    start = qml.numpy.array(np.random.default_rng(1).uniform(0, 6, 6), requires_grad=True)
    return outcome(train(ticking, start, optimizer=qml.AdamOptimizer(0.1), steps=4, checkpoint_every=1, compile=False, progress=False))
