"""What does not fit together is said in a sentence that helps, before anything runs where that can be known."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pennylane as qml
import pytest
import scipy.optimize
from pennylane import numpy as pnp

from pl_hybridjobs import train
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.training.optimizers import Step
from tests.training.optimizing import NEST, START, bowl, make_bare, make_choice, make_energy


def plain(params):
    raise AssertionError("it ran")


class Descent:
    def init(self, params):
        return {}

    def step(self, objective, params, state):
        return params


class Shrinking(Descent):
    def step(self, objective, params, state):
        return Step({**params, "x": params["x"][:1]}, state, objective.value(params))


TWO = np.array([0.3, 0.7])
ROTATION = qml.RotosolveOptimizer()
GENERATORS = [qml.RX, qml.RX]


def idle():
    """Its second parameter does nothing."""

    @qml.qnode(qml.device("default.qubit", wires=1))
    def circuit(weights):
        qml.RX(weights[0], 0)
        return qml.expval(qml.Z(0))

    return circuit


def curved():
    @qml.qnode(qml.device("default.qubit", wires=1))
    def circuit(weights):
        qml.RX(weights[0] ** 2, 0)
        return qml.expval(qml.Z(0))

    return circuit


PENNYLANE: list[Any] = [
    (plain, START, qml.QNGOptimizer(), {}, "a QNode itself: it looks at the geometry"),
    (plain, START, qml.QNSPSAOptimizer(), {}, "a QNode itself"),
    (make_energy(), {"a": START}, qml.QNGOptimizer(), {}, "one array, not a nest"),
    (make_energy(), [START, START], qml.QNSPSAOptimizer(), {}, "one array, not a nest"),
    (make_energy(), START, qml.ShotAdaptiveOptimizer(5), {}, "this one is analytic: write qml.set_shots"),
    (plain, START, qml.ShotAdaptiveOptimizer(5), {}, "a QNode itself"),
    (plain, START, ROTATION, {}, r"found by itself only where.*nums_frequency=\{'params': \{\(0,\): 1"),
    (plain, {"a": START}, ROTATION, {}, r"nums_frequency=\{\"params\['a'\]\""),
    (idle(), TWO, ROTATION, {}, r"weights\[1\] does not enter the circuit"),
    (curved(), TWO, ROTATION, {}, "classical preprocessing.*nums_frequency"),
    (plain, TWO, functools.partial(ROTATION.step_and_cost, nums_frequency={"w": {}}), {}, "speaks of w; the parameters are params"),
    (plain, TWO, functools.partial(ROTATION.step_and_cost, nums_frequency={"params": {(0,): 1}}), {}, r"say nothing about params\[1\]"),
    (plain, TWO, functools.partial(ROTATION.step_and_cost, frequencies={}), {}, "takes nums_frequency, spectra and shifts"),
    (plain, TWO, functools.partial(qml.AdamOptimizer(0.1).step, grad_fn=abs), {}, r"takes no options.*\(grad_fn\)"),
    (make_choice(), TWO, qml.RotoselectOptimizer(), {}, r"one for each of the 2 parameters.*args=\(\[qml.RX"),
    (make_choice(), TWO, qml.RotoselectOptimizer(), {"args": ([qml.RX],)}, "one for each of the 2 parameters"),
    (make_choice(), TWO, qml.RotoselectOptimizer(), {"args": (GENERATORS,), "compile": True}, "circuits of its own"),
    (make_energy(), START, qml.RiemannianGradientOptimizer(make_bare()), {}, r"give params=\(\), no args"),
    (make_bare(), (), qml.RiemannianGradientOptimizer(make_bare()), {}, "made for another circuit"),
    (make_bare(), (), qml.AdamOptimizer(0.1), {}, "params is empty"),
    (make_bare(), (), qml.AdaptiveOptimizer(), {}, "grow the circuit by its step_and_cost"),
    (make_energy(), START, qml.QNGOptimizerQJIT(), {}, "takes JAX arrays.*use QNGOptimizer$"),
    (make_energy(), START, make_energy(), {}, "It takes an optimizer of PennyLane"),
    (plain, jnp.array(START), qml.SPSAOptimizer(maxiter=3), {}, "use an optax optimizer"),
]
REST: list[Any] = [
    (plain, START, Descent, {}, "the class Descent; give an instance"),
    (bowl, NEST, Descent(), {}, r"Descent.step gave dict; it must return .*Step"),
    (bowl, NEST, Shrinking(), {}, r"Shrinking.step gave params of another structure"),
    (plain, START, optax.adam, {}, "It takes an optimizer"),
    (bowl, NEST, optax.lbfgs(), {"compile": False}, "the line search of optax.lbfgs does.*not compiled: compile=False"),
    (make_energy(), START, optax.lbfgs(), {}, r"not compiled: default.qubit: .*compile=True"),
    (bowl, NEST, optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True), {}, "grad_fn in its update.*training_loop"),
    (plain, START, "trust-ncg", {}, "second derivatives"),
    (plain, START, "lbfgs", {}, "no method 'lbfgs'.*L-BFGS-B"),
    (plain, START, scipy.optimize.minimize, {}, "give the name of its method"),
    (plain, START, functools.partial(scipy.optimize.minimize, tol=1.0), {}, "needs method="),
    (plain, START, functools.partial(scipy.optimize.minimize, method="CG", jac=True), {}, "gets jac from train"),
]


@pytest.mark.parametrize(("objective", "params", "optimizer", "more", "words"), PENNYLANE + REST)
def test_a_misfit_is_named(objective, params, optimizer, more, words):
    with pytest.raises(InvalidCall, match=words):
        train(objective, params, optimizer=optimizer, steps=2, progress=False, **more)


def test_what_does_not_fit_torch_is_named():
    torch = pytest.importorskip("torch")
    weights, others = torch.tensor(START), torch.tensor(START)
    scheduled = torch.optim.SGD([weights], lr=0.1)
    torch.optim.lr_scheduler.ExponentialLR(scheduled, 0.9)
    for params, optimizer, words in [
        (START, torch.optim.Adam, "torch's Adam needs params to be torch tensors, and they are of autograd"),
        (START, torch.optim.Adam([others]), "torch's Adam needs params"),
        (weights, torch.optim.Adam([others]), "made for other tensors than params; give a function"),
        (weights, lambda tensors: torch.optim.Adam([others]), "of other tensors than it was given"),
        (weights, lambda tensors: 3, "gave int, which is no torch.optim.Optimizer"),
        (weights, torch.optim.Muon, r"optimizer\(tensors\) raised ValueError: .*2D"),
        (weights, torch.optim.SparseAdam, "those of train are dense; use Adam"),
        (weights, scheduled, "learning rate scheduler, which train does not step; .*training_loop"),
        (weights, qml.AdamOptimizer(0.1), "use one of torch.optim"),
        (weights, qml.AdamOptimizer, "gave AdamOptimizer|raised"),
        (weights, optax.adam(0.1), "do not take torch tensors"),
        (weights, Descent, "gave Descent|raised"),
        (weights.to(torch.complex128), torch.optim.Adam, "params is complex"),
        ({"a": weights, "b": START}, torch.optim.Adam, "mixes interfaces"),
        (weights.to_sparse(), torch.optim.Adam, "sparse"),
    ]:
        with pytest.raises(InvalidCall, match=words):
            train(plain, params, optimizer=optimizer, steps=2, progress=False)


def test_arguments_that_stay_the_same_are_no_parameters_to_optimizers_with_circuits_of_their_own():
    @qml.qnode(qml.device("default.qubit", wires=2))
    def circuit(weights, angle):
        qml.RY(angle, 0)
        qml.RX(weights[0], 0)
        qml.CNOT([0, 1])
        qml.RX(weights[1], 1)
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.3 * qml.X(0))

    args = (pnp.array(0.4),)  # which says requires_grad=True by itself
    for optimizer in (
        qml.QNGOptimizer(0.1, lam=0.1),
        qml.QNSPSAOptimizer(0.1, seed=3),
        qml.QNSPSAOptimizer(0.1, seed=3, blocking=False),
        qml.RotosolveOptimizer(),
    ):
        run = train(circuit, TWO, optimizer=optimizer, steps=3, args=args, progress=False)
        assert run.params.shape == (2,)
        assert not np.array_equal(run.params, TWO)
    run = train(qml.set_shots(circuit, 40), TWO, optimizer=qml.ShotAdaptiveOptimizer(5), steps=2, args=args, progress=False, seed=1)
    assert run.params.shape == (2,)


def test_an_unknown_generator_in_a_checkpoint_is_named():
    from pl_hybridjobs.training.optimizers import Misfit, Problem, adapter
    from pl_hybridjobs.training.parameters import structure

    driver: Any = adapter(qml.RotoselectOptimizer([qml.RX, qml.RY]), Problem(structure(TWO), TWO, make_choice(), (GENERATORS,)))
    with pytest.raises(Misfit, match="RZ, which this program does not choose from"):
        driver.load({"generators": ["pennylane.ops.qubit.parametric_ops_single_qubit:RZ"] * 2}, TWO)
