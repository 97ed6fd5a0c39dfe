from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from scipy.optimize import minimize

from pl_hybridjobs.training.diagnosis import complaint


def circuit(wires, observable, ansatz=qml.StronglyEntanglingLayers):
    @qml.qnode(qml.device("hybridjobs.qubit", wires=wires))
    def value(params):
        ansatz(params, wires=range(wires))
        return qml.expval(observable)

    return value


def ising(wires):
    return qml.sum(*(qml.Z(i) @ qml.Z((i + 1) % wires) for i in range(wires)), *(qml.X(i) for i in range(wires)))


def first_steps(objective, start, rate, rule, steps=3):
    """Gradients and the points where they were taken, by gradient descent or Adam."""
    optimizer = {"descent": qml.GradientDescentOptimizer, "adam": qml.AdamOptimizer}[rule](rate)
    params, gradients, points = pnp.array(start, requires_grad=True), [], []
    for _ in range(steps):
        (gradient,), _ = optimizer.compute_grad(objective, (params,), {})
        gradients.append(np.asarray(gradient))
        points.append(np.asarray(params))
        params = optimizer.apply_grad((gradient,), (params,))[0]
    return gradients, points, np.asarray(params)


def plateau(seed=0, size=1e-4, parameters=60):
    """Gradients and points as on a plateau: each step sees the same small slope, a bit turned."""
    rng = np.random.default_rng(seed)
    slope, turn = rng.normal(scale=size, size=(2, parameters))
    points = [0.1 * k * np.ones(parameters) for k in range(3)]
    return [slope + 0.3 * k * turn for k in range(3)], points


# No gradient


def test_parameters_that_do_not_feed_the_objective_are_noticed_at_the_first_step():
    text = complaint([np.zeros((2, 3))], [np.ones((2, 3))])

    assert "exactly zero in all 6 parameters" in text
    assert "do not feed the objective" in text


def test_a_start_at_a_stationary_point_is_noticed_through_rounding():
    objective = circuit(4, qml.sum(*map(qml.Z, range(4))), qml.BasicEntanglerLayers)
    gradients, points, _ = first_steps(objective, np.zeros((2, 4)), 0.1, "descent", steps=1)

    assert "stationary point" in complaint(gradients, points)
    assert "zero but for rounding (at most 1e-17)" in complaint([np.full(3, 1e-17)], [np.ones(3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_component_above_rounding_is_a_gradient(dtype):
    gradient = np.zeros(50, dtype)
    gradient[3] = 100 * np.finfo(dtype).eps

    assert complaint([gradient], [np.ones(50)]) == ""


def test_rounding_grows_with_the_objective():
    assert complaint([np.full(3, 1e-14)], [np.ones(3)]) == ""
    assert complaint([np.full(3, 1e-14)], [np.ones(3)], scale=100.0)


# Barren plateaus


@pytest.mark.parametrize(("rule", "rate"), [("adam", 0.05), ("descent", 0.05)])
@pytest.mark.parametrize("known", [True, False])
def test_a_deep_random_circuit_with_a_global_observable_is_a_barren_plateau(rule, rate, known):
    start = np.random.default_rng(1).uniform(0, 2 * np.pi, (12, 11, 3))
    gradients, points, _ = first_steps(circuit(11, qml.Projector([0] * 11, range(11))), start, rate, rule)

    text = complaint(gradients, points, wires=11 if known else None)

    assert "barren plateau" in text
    assert ("on 11 wires" in text) == known


@pytest.mark.parametrize("rule", ["adam", "descent"])
@pytest.mark.parametrize(("wires", "layers"), [(4, 3), (10, 5), (12, 2)])
@pytest.mark.parametrize("spread", [0.01, 2 * np.pi])
def test_an_ordinary_start_draws_no_warning(rule, wires, layers, spread):
    start = np.random.default_rng(2).uniform(0, spread, (layers, wires, 3))
    gradients, points, _ = first_steps(circuit(wires, ising(wires)), start, 0.05, rule)

    assert all(complaint(gradients[:k], points[:k], wires=wires) == "" for k in (1, 2, 3))


@pytest.fixture(scope="module")
def trained():
    """Parameters near a minimum: gradients there are far below what draws a warning elsewhere."""
    objective = circuit(9, ising(9))
    start = np.random.default_rng(3).normal(scale=0.1, size=(2, 9, 3))
    slope = qml.grad(objective)

    def at(flat):
        params = pnp.array(flat.reshape(start.shape), requires_grad=True)
        gradient = slope(params)
        return float(slope.forward), np.asarray(gradient).ravel()

    found = minimize(at, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return objective, found.x.reshape(start.shape)


@pytest.mark.parametrize(("rule", "rate"), [("adam", 0.05), ("adam", 0.001), ("descent", 0.1), ("descent", 0.001)])
def test_a_start_from_trained_parameters_draws_no_warning(trained, rule, rate):
    objective, start = trained
    gradients, points, _ = first_steps(objective, start, rate, rule)

    assert np.sqrt(np.mean(gradients[0] ** 2)) < 1e-3
    assert complaint(gradients, points, wires=9) == ""


def test_a_start_very_near_a_saddle_draws_no_warning():
    start = np.random.default_rng(4).normal(scale=1e-4, size=(3, 10))
    gradients, points, _ = first_steps(circuit(10, qml.sum(*map(qml.Z, range(10))), qml.BasicEntanglerLayers), start, 0.01, "descent")

    assert np.sqrt(np.mean(gradients[0] ** 2)) < 1e-3
    assert complaint(gradients, points, wires=10) == ""


@pytest.mark.parametrize(
    ("stiffness", "distance"),
    [pytest.param(0.2, 0.1, id="a valley, not quite at its bottom"), pytest.param(0.01, 0.005, id="a very soft one, at its bottom")],
)
def test_a_valley_is_no_plateau_however_small_its_slope(stiffness, distance):
    points = [distance / 10 * (1 - 0.1 * k) * np.ones(100) for k in range(3)]
    gradients = [stiffness * point for point in points]

    assert np.sqrt(np.mean(np.square(gradients))) < 3e-3
    assert complaint(gradients, points, wires=14) == ""


def test_gradients_that_machines_can_resolve_are_no_plateau():
    assert "have a standard deviation of 0.0001," in complaint(*plateau(), wires=14)
    assert complaint(*plateau(size=1e-2), wires=14) == ""


def test_smallness_is_relative_to_the_objectives_spread():
    assert complaint(*plateau(), wires=14, scale=0.01) == ""
    assert complaint(*plateau(size=1e-2), wires=14, scale=100.0)


def test_small_problems_have_no_plateau():
    assert complaint(*plateau(), wires=8) == ""
    assert complaint(*plateau(), wires=9)
    assert complaint(*plateau(parameters=7), wires=14) == ""
    assert complaint(*plateau(parameters=8), wires=14)


def test_parameters_without_any_effect_do_not_make_a_gradient_small():
    gradients, points = plateau(size=5e-3)
    padded = [np.concatenate([gradient, np.full(6000, 1e-17)]) for gradient in gradients]

    assert np.sqrt(np.mean(np.square(padded))) < 1e-3
    assert complaint(padded, [np.resize(point, 6060) for point in points], wires=14) == ""


def test_parameters_that_do_not_move_prove_no_plateau():
    gradients, points = plateau()

    assert complaint(gradients, [points[0]] * 3, wires=14) == ""


def test_only_the_first_three_steps_are_judged():
    gradients, points = plateau()

    assert complaint(gradients[:2], points[:2], wires=14) == ""
    assert complaint([*gradients, gradients[0]], [*points, points[0]], wires=14) == ""


def test_gradients_that_are_not_finite_are_left_to_others():
    gradients, points = plateau()
    gradients[1][0] = np.nan

    assert complaint(gradients, points) == ""
    assert complaint([], []) == ""


# Shot noise


def noisy(gradient, shots, seed):
    """As two-term parameter shifts of an observable with eigenvalues +1 and -1 give it, near a mean of zero."""
    rng = np.random.default_rng(seed)
    return [gradient + rng.normal(scale=(2 * shots) ** -0.5, size=len(gradient)) for _ in range(3)]


POINTS = [np.full(60, 0.1 * k) for k in range(3)]


def test_a_gradient_far_below_the_shot_noise_is_lost_in_it():
    texts = [complaint(noisy(np.full(60, 1e-3), 1000, seed), POINTS, shots=1000) for seed in range(100)]

    assert sum("cannot be told from shot noise" in text for text in texts) >= 95


def test_a_gradient_above_the_shot_noise_draws_no_warning():
    assert not any(complaint(noisy(np.full(60, 0.06), 1000, seed), POINTS, shots=1000) for seed in range(100))


def test_a_gradient_below_the_noise_of_each_component_is_seen_by_its_steady_direction():
    texts = [complaint(noisy(np.full(60, 0.02), 1000, seed), POINTS, shots=1000) for seed in range(100)]

    assert sum(bool(text) for text in texts) <= 5


def test_noise_on_many_wires_may_hide_a_plateau_and_on_few_wires_does_not():
    gradients = noisy(np.zeros(60), 1000, seed=0)

    assert "barren plateau" in complaint(gradients, POINTS, shots=1000, wires=14)
    assert "barren plateau" in complaint(gradients, POINTS, shots=1000)
    assert "barren plateau" not in complaint(gradients, POINTS, shots=1000, wires=4)


def test_a_circuit_on_few_shots_is_told_that_its_gradient_is_noise():
    @qml.set_shots(20)
    @qml.qnode(qml.device("hybridjobs.qubit", wires=3, seed=2), diff_method="parameter-shift")  # of seed 1 a draw is three deviations off
    def objective(params):
        qml.BasicEntanglerLayers(params, wires=range(3))
        return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(2))

    gradients, points, _ = first_steps(objective, np.full((1, 3), 1e-3), 0.01, "descent")

    assert "with 20 shots" in complaint(gradients, points, shots=20, wires=3)
