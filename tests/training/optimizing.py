"""Problems for optimizers, and two ways through a few steps: in one go, and through the codec with new objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml

from pl_hybridjobs.jobs import codec
from pl_hybridjobs.training.circuits import reach
from pl_hybridjobs.training.objective import Objective
from pl_hybridjobs.training.optimizers import Problem, adapter
from pl_hybridjobs.training.parameters import structure, to_numpy, working_copy
from pl_hybridjobs.training.rng import RandomStates

H = qml.Hamiltonian([1.0, 0.5, 0.3], [qml.Z(0) @ qml.Z(1), qml.X(0), qml.X(1)])
START = np.array([0.1, 0.2, 0.3, 0.4])


def make_energy(device="default.qubit", shots=None, **options):
    @qml.set_shots(shots)
    @qml.qnode(qml.device(device, wires=2, seed=7), **options)
    def energy(params):
        qml.RY(params[0], 0)
        qml.RY(params[1], 1)
        qml.CNOT([0, 1])
        qml.RY(params[2], 0)
        qml.RY(params[3], 1)
        return qml.expval(H)

    return energy


def make_choice():
    """Its gates are chosen."""

    @qml.qnode(qml.device("default.qubit", wires=2))
    def energy(params, generators):
        generators[0](params[0], 0)
        generators[1](params[1], 1)
        qml.CNOT([0, 1])
        return qml.expval(H)

    return energy


def make_bare():
    """Without parameters."""

    @qml.qnode(qml.device("default.qubit", wires=2))
    def energy():
        qml.Hadamard(0)
        qml.CNOT([0, 1])
        qml.RY(0.4, 1)
        return qml.expval(H)

    return energy


def bowl(params):
    """Of a nest with a vector and a matrix; any interface."""
    x, m = params["x"], params["m"]
    return ((x - 1.0) ** 2).sum() + 0.5 * ((m @ m - 0.3) ** 2).sum() + (x[0] * m[0, 1]) ** 2


NEST = {"x": np.array([0.3, -0.2, 0.5]), "m": np.array([[0.4, 0.1], [-0.3, 0.8]])}


class Driver:
    """One adapter on one objective, as the loop has them."""

    def __init__(self, optimizer, fn, params, args=(), compile=False):
        self.shape = structure(params)
        self.given = params
        self.make: Any = lambda: adapter(optimizer, Problem(self.shape, params, fn, tuple(args)))
        reached = reach(fn)
        self.rng = RandomStates(reached.devices, reached.generators)
        self.objective = Objective(
            fn, self.shape, args=args, compile=compile, reached=reached, random_state=(self.rng.capture, self.rng.restore)
        )
        self.first = self.rng.capture()
        self.restart()

    def restart(self):
        """As it was at first, but for what is compiled."""
        self.driver: Any = self.make()
        self.params = working_copy(self.given, self.shape)
        self.state = self.driver.init(self.params)
        self.rng.restore(self.first)

    def step(self):
        step = self.driver.step(self.objective, self.params, self.state)
        self.params, self.state = step.params, step.state
        return step.value, [to_numpy(leaf).tobytes() for leaf in self.shape.flatten(step.params)]

    def through_a_checkpoint(self):
        """Everything new, but for what the codec brings."""
        arrays = [to_numpy(leaf).copy() for leaf in self.shape.flatten(self.params)]
        stored = codec.dumps({"params": arrays, "optimizer": self.driver.dump(self.state), "rng": self.rng.capture()})
        np.random.random(7)
        loaded = codec.loads(*stored)
        self.driver = self.make()
        self.params = self.shape.rebuild(loaded["params"])
        self.state = self.driver.load(loaded["optimizer"], self.params)
        self.rng.restore(loaded["rng"])


def trajectory(driver, steps, checkpoints=()):
    """For each step its value and the bits of the new parameters; with new objects before the steps in ``checkpoints``."""
    driver.restart()
    np.random.seed(5)
    found = []
    for step in range(steps):
        if step in checkpoints:
            driver.through_a_checkpoint()
        found.append(driver.step())
    return found
