"""What every optimizer promises: the steps of its library's own loop, and the same bits after a checkpoint at any step."""

from __future__ import annotations

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pennylane as qml
import pytest
import scipy.optimize
from pennylane import numpy as pnp

from pl_hybridjobs import train
from tests.training.optimizing import NEST, START, Driver, bowl, make_bare, make_choice, make_energy, trajectory

STEPS = 4
LABELS = {"x": "fast", "m": "slow"}

GRADIENT_FAMILY = {
    "gradient descent": lambda: qml.GradientDescentOptimizer(0.1),
    "momentum": lambda: qml.MomentumOptimizer(0.1),
    "nesterov": lambda: qml.NesterovMomentumOptimizer(0.1),
    "adagrad": lambda: qml.AdagradOptimizer(0.1),
    "rmsprop": lambda: qml.RMSPropOptimizer(0.1),
    "adam": lambda: qml.AdamOptimizer(0.1),
    "qng": lambda: qml.QNGOptimizer(0.1, lam=0.01),
    "momentum qng": lambda: qml.MomentumQNGOptimizer(0.1, approx="diag", lam=0.01),
}
OTHERS_OF_PENNYLANE: dict[str, Any] = {
    "spsa": (lambda: qml.SPSAOptimizer(maxiter=20), make_energy, START, ()),
    "qnspsa": (lambda: qml.QNSPSAOptimizer(0.1, seed=3), make_energy, START, ()),
    "qnspsa, not blocking": (lambda: qml.QNSPSAOptimizer(0.1, blocking=False, resamplings=2, seed=3), make_energy, START, ()),
    "rotosolve": (qml.RotosolveOptimizer, make_energy, START, ()),
    "rotoselect": (qml.RotoselectOptimizer, make_choice, np.array([0.3, 0.7]), ([qml.RX, qml.RX],)),
    "shot adaptive": (lambda: qml.ShotAdaptiveOptimizer(5), functools.partial(make_energy, shots=50), START, ()),
    "shot adaptive, terms": (
        lambda: qml.ShotAdaptiveOptimizer(5, term_sampling="weighted_random_sampling"),
        functools.partial(make_energy, shots=50),
        START,
        (),
    ),
    "qng qjit": (lambda: qml.QNGOptimizerQJIT(0.1, lam=0.01), functools.partial(make_energy, "hybridjobs.qubit"), jnp.array(START), ()),
    "momentum qng qjit": (
        lambda: qml.MomentumQNGOptimizerQJIT(0.1),
        functools.partial(make_energy, "hybridjobs.qubit"),
        jnp.array(START),
        (),
    ),
}
OPTAX = {
    "sgd with momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.1),
    "adamw with a mask": lambda: optax.adamw(0.1, mask={"x": True, "m": False}),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.add_decayed_weights(1e-3), optax.amsgrad(0.1)),
    "schedule": lambda: optax.adam(optax.warmup_cosine_decay_schedule(0.0, 0.2, 2, 10)),
    "injected hyperparameters": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=optax.exponential_decay(0.1, 2, 0.5)),
    "labels": lambda: optax.multi_transform({"fast": optax.adam(0.1), "slow": optax.sgd(0.01)}, LABELS),
    "masked": lambda: optax.masked(optax.rmsprop(0.1), {"x": True, "m": False}),
    "steps that are gathered": lambda: optax.MultiSteps(optax.adam(0.1), every_k_schedule=2).gradient_transformation(),
    "noise of its own": lambda: optax.noisy_sgd(0.1, key=jax.random.key(3)),
    "factored": lambda: optax.adafactor(0.1, min_dim_size_to_factor=1),
    "if finite": lambda: optax.apply_if_finite(optax.lion(0.05), 2),
    "polyak, by the value": lambda: optax.polyak_sgd(0.5),
    "plateau": lambda: optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=1)),
    "prodigy": lambda: optax.contrib.prodigy(0.5),
    "dadapt": lambda: optax.contrib.dadapt_adamw(0.5),
    "schedule free": lambda: optax.contrib.schedule_free_adamw(0.1),
    "muon": lambda: optax.contrib.muon(0.1),
    "mechanize": lambda: optax.contrib.mechanize(optax.sgd(0.1)),
    "momo": lambda: optax.contrib.momo(0.1),
    "sam": lambda: optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05)),
    "lbfgs": lambda: optax.lbfgs(memory_size=2),
    "backtracking": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15, store_grad=True)),
}
OFTEN = ("adamw with a mask", "chain", "injected hyperparameters", "labels", "plateau", "prodigy", "sam")


def make_riemannian(circuit):
    words = [qml.Y(0), qml.Y(1), qml.Z(0) @ qml.Y(1), qml.Y(0) @ qml.Z(1)]
    return qml.RiemannianGradientOptimizer(circuit, stepsize=0.1, restriction=qml.Hamiltonian([1.0] * 4, words))


def torch_factories():
    torch = pytest.importorskip("torch")
    optim = torch.optim
    return {
        "adam": optim.Adam,
        "amsgrad": functools.partial(optim.AdamW, lr=0.1, amsgrad=True),
        "sgd": functools.partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        "lbfgs": functools.partial(optim.LBFGS, lr=0.5, max_iter=3, line_search_fn="strong_wolfe"),
        "groups": lambda tensors: optim.Adam([{"params": tensors[:1], "lr": 0.1}, {"params": tensors[1:], "lr": 0.01}]),
        "tensor lr": lambda tensors: optim.Adam(tensors, lr=torch.tensor(0.1)),
        **{name: getattr(optim, name) for name in ("ASGD", "Adadelta", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")},
        "Adafactor": optim.Adafactor,
    }


def assert_a_checkpoint_changes_nothing(driver):
    """New objects after the first step, and after another one, give the same bits."""
    assert trajectory(driver, STEPS, checkpoints=(1, 3)) == trajectory(driver, STEPS)


# A checkpoint at any step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRADIENT_FAMILY)
def test_a_gradient_optimizer_of_pennylane_goes_on_with_the_same_bits(name):
    assert_a_checkpoint_changes_nothing(Driver(GRADIENT_FAMILY[name](), make_energy(), START))


@pytest.mark.parametrize("name", OTHERS_OF_PENNYLANE)
def test_another_optimizer_of_pennylane_goes_on_with_the_same_bits(name):
    optimizer, make, params, args = OTHERS_OF_PENNYLANE[name]
    assert_a_checkpoint_changes_nothing(Driver(optimizer(), make(), params, args))


def test_a_riemannian_optimizer_grows_its_circuit_again():
    circuit = make_bare()
    assert_a_checkpoint_changes_nothing(Driver(make_riemannian(circuit), circuit, ()))


def optax_by_hand(transformation, params, steps):
    """The values of the loop in optax's own documentation."""
    state, values = transformation.init(params), []
    extended = optax.with_extra_args_support(transformation)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(bowl)(params)
        more = {"value": value, "grad": gradient, "value_fn": bowl} if transformation.update.__name__ != "transparent_update_fn" else {}
        updates, state = extended.update(gradient, state, params, **more)
        return value, optax.apply_updates(params, updates), state

    for _ in range(steps):
        value, params, state = step(params, state)
        values.append(float(value))
    return values


@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.torture_long) for n in OPTAX])
def test_an_optax_transformation_makes_the_steps_of_its_own_loop_and_goes_on_with_the_same_bits(name):
    given = jax.tree.map(jnp.asarray, NEST)
    driver = Driver(OPTAX[name](), bowl, given, compile=True)
    assert_a_checkpoint_changes_nothing(driver)
    values = [value for value, _ in trajectory(driver, STEPS)]
    np.testing.assert_allclose(values, optax_by_hand(OPTAX[name](), given, STEPS), rtol=2e-5)


@pytest.mark.parametrize("name", ["adam", pytest.param("labels", marks=pytest.mark.torture_long)])
def test_an_optax_transformation_does_the_same_where_the_objective_is_not_compiled(name):
    driver = Driver(OPTAX[name](), bowl, NEST, compile=False)
    assert_a_checkpoint_changes_nothing(driver)
    compiled = train(bowl, NEST, optimizer=OPTAX[name](), steps=STEPS, compile=True, progress=False)
    np.testing.assert_allclose([value for value, _ in trajectory(driver, STEPS)], compiled.history["cost"], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_torch_optimizer_goes_on_with_the_same_bits(dtype):
    torch = pytest.importorskip("torch")
    params = {name: torch.tensor(value, dtype=getattr(torch, dtype)) for name, value in NEST.items()}
    for factory in torch_factories().values():
        assert_a_checkpoint_changes_nothing(Driver(factory, bowl, params))


# The library's own loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", GRADIENT_FAMILY)
def test_a_gradient_optimizer_of_pennylane_makes_the_steps_of_its_own_loop(name, compiled):
    optimizer, energy, params, values = GRADIENT_FAMILY[name](), make_energy(), pnp.array(START, requires_grad=True), []
    for _ in range(STEPS):
        params, value = optimizer.step_and_cost(energy, params)
        values.append(float(value))
    ours = make_energy("hybridjobs.qubit" if compiled else "default.qubit")
    run = train(ours, START, optimizer=GRADIENT_FAMILY[name](), steps=STEPS, compile=compiled, progress=False)
    assert run.compiled is compiled
    np.testing.assert_allclose(run.history["cost"], values, atol=1e-10)
    np.testing.assert_allclose(run.params, params, atol=1e-9)


def test_the_best_point_is_where_its_value_was_computed_though_momentum_looks_ahead():
    run = train(make_energy(), START, optimizer=qml.NesterovMomentumOptimizer(0.1), steps=8, progress=False)
    assert make_energy()(run.best.params) == pytest.approx(run.best.value, abs=1e-12)


def test_a_leaf_that_stays_does_not_disturb_momentum():
    def cost(params):
        return ((params["b moves"] - params["a stays"]) ** 2).sum()

    given = {"a stays": pnp.array([1.0, 2.0], requires_grad=False), "b moves": pnp.zeros(2)}
    for optimizer in (qml.NesterovMomentumOptimizer(0.1), qml.SPSAOptimizer(maxiter=20), qml.RMSPropOptimizer(0.1)):
        run = train(cost, given, optimizer=optimizer, steps=5, progress=False, seed=1)
        np.testing.assert_array_equal(run.params["a stays"], [1.0, 2.0])
        assert run.history["cost"][-1] < run.history["cost"][0]


@pytest.mark.parametrize("name", ["spsa", "qnspsa", "qnspsa, not blocking", "rotosolve", "shot adaptive", "shot adaptive, terms"])
def test_another_optimizer_of_pennylane_makes_the_steps_of_its_own_loop(name):
    optimizer, make, _, _ = OTHERS_OF_PENNYLANE[name]
    by_hand, energy, params, values = optimizer(), make(), pnp.array(START, requires_grad=True), []
    more = {"spectra": qml.fourier.qnode_spectrum(energy)(params)} if name == "rotosolve" else {}
    np.random.seed(5)
    for _ in range(STEPS):
        params, value = by_hand.step_and_cost(energy, params, **more)
        values.append(float(value))
    np.random.seed(5)
    run = train(make(), START, optimizer=optimizer(), steps=STEPS, progress=False)
    np.testing.assert_allclose(run.params, params, atol=1e-10)
    if name != "spsa":  # whose own loop buys a third value for each step
        np.testing.assert_allclose(run.history["cost"], values, atol=1e-10)


@pytest.mark.parametrize("compiled", [True, False])
def test_rotosolve_takes_nests_and_many_frequencies(compiled):
    def ansatz(angle, pair):
        qml.RY(2 * angle, 0)
        qml.RY(pair[0], 1)
        qml.CNOT([0, 1])
        qml.RY(pair[1], 0)
        qml.RY(angle, 1)
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))

    device = qml.device("default.qubit", wires=2)
    by_hand, circuit = qml.RotosolveOptimizer(), qml.QNode(ansatz, device)
    args, values = (pnp.array(0.3), pnp.array([0.1, 0.2])), []
    for _ in range(3):
        args, value = by_hand.step_and_cost(circuit, *args, spectra=qml.fourier.qnode_spectrum(circuit)(*args))
        values.append(float(value))
    nest = qml.QNode(lambda p: ansatz(p["angle"], p["pair"]), device)
    with qml.Tracker(device) as tracker:
        run = train(
            nest,
            {"angle": 0.3, "pair": np.array([0.1, 0.2])},
            optimizer=qml.RotosolveOptimizer(),
            steps=3,
            compile=compiled,
            progress=False,
        )
    np.testing.assert_allclose(run.history["cost"], values, atol=1e-8)
    np.testing.assert_allclose(run.params["pair"], args[1], atol=1e-6)
    assert run.plan is not None
    assert run.plan.circuits_per_step == run.history["executions"][0]
    if not compiled:
        assert tracker.totals["executions"] == run.history["executions"].sum() == 3 * (7 + 3 + 3) * 2


def test_rotosolve_is_told_the_frequencies_of_a_function_that_is_no_qnode():
    energy = make_energy()

    def cost(weights):
        return 2.0 * energy(weights) + 1.0

    told = functools.partial(qml.RotosolveOptimizer().step_and_cost, nums_frequency={"weights": {(i,): 1 for i in range(4)}})
    run = train(cost, START, optimizer=told, steps=2, progress=False)
    reference = train(energy, START, optimizer=qml.RotosolveOptimizer(), steps=2, progress=False)
    np.testing.assert_allclose(run.params, reference.params, atol=1e-10)


def test_rotoselect_makes_the_steps_of_its_own_loop_and_gives_the_gates():
    energy, by_hand, params, generators, values = make_choice(), qml.RotoselectOptimizer(), [0.3, 0.7], [qml.RX, qml.RX], []
    for _ in range(3):
        values.append(float(energy(params, generators)))
        params, generators = by_hand.step(energy, params, generators)
    first = [qml.RX, qml.RX]
    with qml.Tracker(energy.device) as tracker:
        run = train(energy, np.array([0.3, 0.7]), optimizer=qml.RotoselectOptimizer(), steps=3, args=(first,), progress=False)
    assert run.optimizer["generators"] == generators != first == [qml.RX, qml.RX]
    np.testing.assert_allclose(run.params, params, atol=1e-10)
    np.testing.assert_allclose(run.history["cost"], values, atol=1e-10)
    assert tracker.totals["executions"] == run.history["executions"].sum()


def test_a_riemannian_optimizer_makes_the_steps_of_its_own_loop_and_gives_the_circuit():
    circuit, values = make_bare(), []
    by_hand, given = (make_riemannian(circuit) for _ in range(2))
    for _ in range(3):
        grown, value = by_hand.step_and_cost()
        values.append(float(value))
    with qml.Tracker(circuit.device) as tracker:
        run = train(circuit, (), optimizer=given, steps=3, progress=False)
    np.testing.assert_allclose(run.history["cost"], values, atol=1e-12)
    assert float(run.optimizer.circuit()) == pytest.approx(float(grown()), abs=1e-12)
    assert tracker.totals["executions"] == run.history["executions"].sum()
    assert run.params == ()
    assert run.best.value == min(values)
    assert float(circuit()) == values[0]


def test_shots_are_counted_as_they_adapt_and_the_circuit_keeps_its_own():
    energy = make_energy(shots=50)
    func = energy.func
    with qml.Tracker(energy.device) as tracker:
        run = train(energy, START, optimizer=qml.ShotAdaptiveOptimizer(5), steps=5, progress=False)
    assert (energy.func, energy.shots.total_shots) == (func, 50)
    assert run.history["shots"].sum() == tracker.totals["shots"]
    assert run.plan is not None
    assert run.plan.shots_per_step is None
    assert "by itself" in str(run.plan)
    assert run.gradient_method == "parameter-shift"


@pytest.mark.parametrize("kind", [qml.QNGOptimizer, qml.MomentumQNGOptimizer])
def test_the_natural_gradients_for_jax_make_the_steps_of_those_for_numpy(kind):
    of_jax = {qml.QNGOptimizer: qml.QNGOptimizerQJIT, qml.MomentumQNGOptimizer: qml.MomentumQNGOptimizerQJIT}[kind]
    reference = train(make_energy(), START, optimizer=kind(0.1, lam=0.01), steps=STEPS, progress=False)
    run = train(make_energy("hybridjobs.qubit"), jnp.array(START), optimizer=of_jax(0.1, lam=0.01), steps=STEPS, progress=False)
    assert isinstance(run.params, jax.Array)
    np.testing.assert_allclose(run.params, reference.params, atol=1e-5)
    assert run.plan is not None
    assert run.history["executions"][0] > run.plan.circuits_per_step


def test_steps_that_are_gathered_are_taken_as_they_are():
    gathered = optax.MultiSteps(optax.adam(0.1), every_k_schedule=2)
    runs = [train(bowl, NEST, optimizer=o, steps=4, progress=False) for o in (gathered, gathered.gradient_transformation())]
    assert np.array_equal(runs[0].params["x"], runs[1].params["x"])


def test_a_line_search_computes_no_value_twice_and_goes_on_with_the_same_bits():
    calls = []

    def counted(params):
        jax.debug.callback(lambda: calls.append(1))
        return bowl(params)

    driver = Driver(optax.lbfgs(memory_size=2), counted, jax.tree.map(jnp.asarray, NEST), compile=True)
    assert_a_checkpoint_changes_nothing(driver)
    jax.effects_barrier()
    assert driver.objective.evaluations == len(calls) < 6 * STEPS  # of two runs


@pytest.mark.parametrize("compiled", [True, False])
def test_torch_makes_the_steps_of_its_own_loop(compiled):
    torch = pytest.importorskip("torch")
    for name, factory in torch_factories().items():
        by_hand = {key: torch.tensor(value, requires_grad=True) for key, value in NEST.items()}
        optimizer, values = factory(list(by_hand.values())), []
        if name == "groups":  # the leaves of a dict are in the order of its keys
            optimizer = factory([by_hand[key] for key in sorted(by_hand)])

        def closure(by_hand=by_hand, optimizer=optimizer):
            optimizer.zero_grad()
            value = bowl(by_hand)
            value.backward()
            return value.detach()

        values = [float(optimizer.step(closure)) for _ in range(STEPS)]
        given = {key: torch.tensor(value) for key, value in NEST.items()}
        run = train(bowl, given, optimizer=factory, steps=STEPS, compile=compiled, progress=False)
        np.testing.assert_allclose(run.history["cost"], values, rtol=1e-7, err_msg=name)
        np.testing.assert_allclose(run.params["m"], by_hand["m"].detach(), rtol=1e-6, atol=1e-9, err_msg=name)
        if compiled and name == "lbfgs":
            break


# SciPy -------------------------------------------------------------------------------------------------------------------------

METHODS = ["CG", "BFGS", "L-BFGS-B", "Newton-CG", "TNC", "SLSQP", "trust-constr", "Nelder-Mead", "Powell", "COBYLA", "COBYQA"]
NO_COBYQA = pytest.mark.skipif(tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 14), reason="SciPy has COBYQA since 1.14")


def simple(x):
    """Its minimum is 0.1, at (1, -2, 0.5)."""
    return ((x - np.array([1.0, -2.0, 0.5])) ** 2 * np.array([1.0, 2.0, 3.0])).sum() + 0.1


@pytest.mark.parametrize("method", [pytest.param(m, marks=NO_COBYQA) if m == "COBYQA" else m for m in METHODS])
def test_a_method_of_scipy_makes_the_steps_of_its_own_loop(method):
    points: list[np.ndarray] = []
    scale = np.array([1.0, 2.0, 3.0])
    jac = None if method in ("Nelder-Mead", "Powell", "COBYLA", "COBYQA") else lambda x: 2 * scale * (x - np.array([1.0, -2.0, 0.5]))
    scipy.optimize.minimize(simple, np.zeros(3), jac=jac, method=method, callback=lambda x, *_: points.append(np.array(x)))
    calls = []

    def counted(x):
        calls.append(1)
        return simple(x)

    run = train(counted, np.zeros(3), optimizer=method, steps=500, compile=False, progress=False)
    assert len(points) <= run.steps <= len(points) + 1  # and the point where it ended, if it did not tell that itself
    np.testing.assert_allclose(run.history["cost"][: len(points)], [simple(x) for x in points], atol=1e-6)
    np.testing.assert_allclose(run.best.params, [1.0, -2.0, 0.5], atol=1e-2)
    assert run.best.value == simple(np.asarray(run.best.params))
    assert run.stopped_by.startswith(f"{method} converged: ")

    del calls[:]
    short = train(counted, np.zeros(3), optimizer=method.lower(), steps=2, compile=False, progress=False)
    assert (short.steps, short.stopped_by) == (2, "steps")
    np.testing.assert_array_equal(short.history["cost"], run.history["cost"][:2])
    stopped = train(simple, np.zeros(3), optimizer=method, steps=500, stop=lambda p: p.step == 2 and "two", progress=False)
    assert (stopped.steps, stopped.stopped_by) == (2, "two")


def test_the_circuits_of_scipy_are_counted():
    for method in ("BFGS", "COBYLA"):
        energy = make_energy()
        with qml.Tracker(energy.device) as tracker:
            run = train(energy, START, optimizer=method, steps=3, compile=False, progress=False)
        assert run.history["executions"].sum() == tracker.totals["executions"], method


def test_a_method_of_scipy_takes_options_and_bounds():
    told = functools.partial(scipy.optimize.minimize, method="L-BFGS-B", bounds=[(0.0, 0.5)] * 3, options={"maxcor": 2})
    run = train(simple, np.full(3, 0.2), optimizer=told, steps=50, progress=False)
    np.testing.assert_allclose(run.params, [0.5, 0.0, 0.5], atol=1e-6)
    rough = functools.partial(scipy.optimize.minimize, method="COBYLA", options={"rhobeg": 0.3}, tol=0.1)
    assert train(simple, np.zeros(3), optimizer=rough, steps=500, progress=False).steps < 60


def test_a_start_at_the_minimum_is_a_step_of_its_own():
    with pytest.warns(UserWarning, match="stationary point"):
        run = train(simple, np.array([1.0, -2.0, 0.5]), optimizer="BFGS", steps=5, progress=False)
    assert run.steps == 1
    assert run.value == pytest.approx(0.1)
    assert "converged" in run.stopped_by


# Numbers and what was given ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_short_floats_stay_what_they_are(dtype):
    run = train(lambda p: ((p - 1) ** 2).sum(), jnp.zeros(3, dtype), optimizer=optax.adam(0.1), steps=3, progress=False)
    assert run.params.dtype == dtype
    assert run.history["cost"][-1] < run.history["cost"][0]


def test_numpy_is_in_double_precision_and_jax_as_it_is_set():
    assert not jax.config.jax_enable_x64
    run = train(bowl, NEST, optimizer=optax.adam(0.1), steps=2, progress=False)
    assert run.params["x"].dtype == np.float64
    assert {leaf.dtype.name for leaf in jax.tree.leaves(run.optimizer)} == {"float64", "int32"}
    short = train(bowl, jax.tree.map(jnp.asarray, NEST), optimizer=optax.adam(0.1), steps=2, progress=False)
    assert short.params["x"].dtype == np.float32


def test_single_precision_of_numpy_and_torch_stays():
    torch = pytest.importorskip("torch")
    given = {"m": NEST["m"].astype("float32"), "x": NEST["x"]}
    for optimizer in (optax.adam(0.1), "BFGS", qml.AdamOptimizer(0.1)):
        run = train(bowl, given, optimizer=optimizer, steps=2, progress=False)
        assert [run.params[name].dtype for name in ("m", "x")] == [np.float32, np.float64] or isinstance(optimizer, qml.AdamOptimizer)
    tensors = {name: torch.tensor(value) for name, value in given.items()}
    run = train(bowl, tensors, optimizer=torch.optim.Adam, steps=2, progress=False)
    assert [run.params[name].dtype for name in ("m", "x")] == [torch.float32, torch.float64]


def test_optimizers_of_the_user_stay_as_they_were():
    torch = pytest.importorskip("torch")
    circuit = make_bare()
    for optimizer, fn, params, args in [
        (qml.QNSPSAOptimizer(0.1, seed=3), make_energy(), START, ()),
        (qml.ShotAdaptiveOptimizer(5), make_energy(shots=20), START, ()),
        (qml.MomentumQNGOptimizer(0.1), make_energy(), START, ()),
        (qml.RiemannianGradientOptimizer(circuit), circuit, (), ()),
    ]:
        before = copy.deepcopy({k: v for k, v in vars(optimizer).items() if k != "circuit"})
        train(fn, params, optimizer=optimizer, steps=2, args=args, progress=False)
        after = {k: v for k, v in vars(optimizer).items() if k != "circuit"}
        assert str(after) == str(before) or isinstance(optimizer, qml.QNSPSAOptimizer | qml.RiemannianGradientOptimizer)
        assert getattr(optimizer, "k", 0) in (0, 1)
    weights = torch.tensor(START)
    adam = torch.optim.Adam([weights], lr=0.1)
    train(make_energy(), weights, optimizer=adam, steps=2, progress=False)
    assert not adam.state
