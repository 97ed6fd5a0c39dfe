"""``train`` outside a job: numbers, metrics, stopping, bad input. Resume has tests of its own."""

from __future__ import annotations

import contextlib
import math

import jax.numpy as jnp
import numpy as np
import optax
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs import train
from pl_hybridjobs.errors import InvalidCall, MetricError, TrainingError
from pl_hybridjobs.training.optimizers import Step
from tests.training import optimizing
from tests.training.optimizing import START


def make_energy(device="hybridjobs.qubit", shots=None, **options):
    return optimizing.make_energy(device, shots, **options)


def fast(objective, params=START, optimizer=None, steps=5, **more):
    return train(objective, params, optimizer=optimizer or qml.AdamOptimizer(0.1), steps=steps, progress=False, **more)


def by_hand(steps):
    """The usual loop, with default.qubit."""
    energy, optimizer, params, values = make_energy("default.qubit"), qml.AdamOptimizer(0.1), pnp.array(START, requires_grad=True), []
    for _ in range(steps):
        params, value = optimizer.step_and_cost(energy, params)
        values.append(float(value))
    return np.array(params), values


@pytest.mark.parametrize("compiled", [True, False])
def test_the_parameters_are_those_of_the_usual_loop(compiled):
    params, values = by_hand(20)
    run = fast(make_energy(), steps=20, compile=compiled)
    assert run.compiled is compiled
    np.testing.assert_allclose(run.params, params, atol=1e-10)
    np.testing.assert_allclose(run.history["cost"], values, atol=1e-10)
    assert run.steps == 20
    assert run.stopped_by == "steps"
    assert run.gradient_method == "adjoint"
    assert run.value == run.history["cost"][-1]
    assert run.best.value == min(run.history["cost"])
    assert run.best.step == int(np.argmin(run.history["cost"]))
    np.testing.assert_allclose(make_energy("default.qubit")(run.best.params), run.best.value, atol=1e-10)


def test_what_was_given_is_not_changed():
    start, optimizer = START.copy(), qml.AdamOptimizer(0.1)
    fast(make_energy(), start, optimizer)
    np.testing.assert_array_equal(start, START)
    assert optimizer.accumulation is None


def test_parameters_come_back_in_the_form_in_which_they_were_given():
    def cost(params):
        return (params["a"] - 1.0) ** 2 + (params["b"][0] ** 2).sum()

    run = fast(cost, {"a": 0.5, "b": [np.ones(3)]})
    assert type(run.params["a"]) is float
    assert type(run.params["b"][0]) is np.ndarray
    assert isinstance(fast(make_energy(), pnp.array(START)).params, pnp.tensor)


def test_a_leaf_that_asks_for_no_gradient_stays():
    def cost(params):
        return ((params["moves"] - params["stays"]) ** 2).sum()

    given = {"moves": pnp.zeros(2), "stays": pnp.array([1.0, 2.0], requires_grad=False)}
    for optimizer in (qml.AdamOptimizer(0.1), optax.adamw(0.1)):
        run = fast(cost, given, optimizer)
        np.testing.assert_array_equal(run.params["stays"], [1.0, 2.0])
        assert run.history["cost"][-1] < run.history["cost"][0]


def test_a_torch_tensor_is_trained_and_comes_back_without_history():
    torch = pytest.importorskip("torch")
    weights = torch.tensor(START)
    runs = [
        fast(make_energy(), weights, optimizer, steps=10)
        for optimizer in (lambda tensors: torch.optim.Adam(tensors, lr=0.1), torch.optim.Adam([weights], lr=0.1))
    ]
    hand = torch.tensor(START, requires_grad=True)
    optimizer, energy = torch.optim.Adam([hand], lr=0.1), make_energy("default.qubit")
    for _ in range(10):
        optimizer.zero_grad()
        energy(hand).backward()
        optimizer.step()
    for run in runs:
        np.testing.assert_allclose(run.params.numpy(), hand.detach().numpy(), atol=1e-10)
        assert not run.params.requires_grad
    np.testing.assert_array_equal(weights, START)


@pytest.mark.parametrize("compiled", ["auto", False])
def test_a_torch_tensor_without_gradient_stays_where_others_have_one(compiled):
    torch = pytest.importorskip("torch")
    params = {"a": torch.tensor(START, requires_grad=True), "b": torch.tensor([2.0]), "n": torch.tensor(3)}
    energy = make_energy()
    frozen_too = [params["b"], params["a"]]  # as of module.parameters()
    for optimizer in (lambda tensors: torch.optim.SGD(tensors, lr=0.1), torch.optim.SGD(frozen_too, lr=0.1), "L-BFGS-B"):
        run = fast(lambda p: energy(p["a"]) * p["b"][0] * p["n"], params, optimizer, compile=compiled)
        assert (run.params["b"], run.params["n"]) == (2, 3)
        assert run.params["n"].dtype == torch.int64
        if optimizer != "L-BFGS-B":
            reference, default = params["a"].detach().clone().requires_grad_(), make_energy("default.qubit")
            sgd = torch.optim.SGD([reference], lr=0.1)
            for _ in range(5):
                sgd.zero_grad()
                (6 * default(reference)).backward()
                sgd.step()
            np.testing.assert_allclose(run.params["a"], reference.detach(), atol=1e-12)


@pytest.mark.filterwarnings("ignore:train")
def test_a_generator_of_torch_draws_for_the_steps_alone():
    torch = pytest.importorskip("torch")
    mine, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    run = fast(lambda p: 0 * p.sum() + torch.rand(1, generator=mine)[0], torch.tensor(START), torch.optim.SGD)
    np.testing.assert_array_equal(run.history["cost"], [float(torch.rand(1, generator=same)[0]) for _ in range(5)])


def test_code_that_only_torch_can_run_is_not_compiled():
    torch = pytest.importorskip("torch")
    energy = make_energy()
    run = fast(
        lambda p: torch.sin(energy(p)), torch.tensor(START), torch.optim.SGD([torch.nn.Parameter(torch.tensor(START))], lr=0.1).__class__
    )
    assert not run.compiled
    assert "sin" in run.compile_reason or "Tensor" in run.compile_reason


def test_optax_in_one_compiled_call_and_in_parts_gives_the_same_numbers():
    runs = [
        fast(make_energy(), START, optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)), steps=20, compile=c) for c in (True, False)
    ]
    np.testing.assert_allclose(runs[0].params, runs[1].params, atol=1e-10)
    np.testing.assert_allclose(runs[0].history["gradient_norm"], runs[1].history["gradient_norm"], atol=1e-10)


def test_further_numbers_and_own_metrics_are_in_the_history():
    energy = make_energy()

    def objective(params):
        value = energy(params)
        return value + 0.1 * (params**2).sum(), {"energy": value}

    run = fast(objective, metrics=lambda p: {"largest": max(abs(p))}, metrics_every=2, value_name="loss")
    assert {"loss", "energy", "largest", "gradient_norm", "step_time_s", "executions"} <= set(run.history)
    np.testing.assert_allclose(run.history["energy"][0], make_energy("default.qubit")(START))
    assert list(np.isnan(run.history["largest"])) == [False, True, False, True, False]
    assert run.history["largest"][0] == 0.4


@pytest.mark.parametrize("shots", [None, 100])
@pytest.mark.parametrize("device", ["hybridjobs.qubit", "default.qubit", "lightning.qubit"])
def test_the_value_is_never_computed_twice(device, shots):
    energy = make_energy(device, shots)
    with qml.Tracker(energy.device) as hand:
        gradient = qml.grad(energy)
        gradient(pnp.array(START, requires_grad=True))
    with qml.Tracker(energy.device) as ours:
        run = fast(energy, steps=3, compile=False)
    for name in set(hand.totals) & {"executions", "derivatives", "vjps", "shots"}:
        assert ours.totals[name] == 3 * hand.totals[name], name
    assert list(run.history["executions"]) == [run.plan.circuits_per_step] * 3
    assert list(run.history.get("shots", [])) == ([] if shots is None else [hand.totals["shots"]] * 3)


def test_spsa_buys_two_values_a_step():
    energy = make_energy()
    with qml.Tracker(energy.device) as tracker:
        run = fast(energy, optimizer=qml.SPSAOptimizer(maxiter=10), steps=4, compile=False, seed=3)
    assert tracker.totals["batches"] == 8
    assert run.gradient_method == "spsa"


def test_default_qubit_is_not_compiled_unless_asked():
    run = fast(make_energy("default.qubit"))
    assert not run.compiled
    assert "default.qubit" in run.compile_reason
    assert fast(make_energy("default.qubit"), steps=1, compile=True).compiled


def test_an_objective_that_draws_random_numbers_in_python_is_not_compiled():
    generator = np.random.default_rng(3)
    for draw in (np.random.random, generator.random):
        run = fast(lambda p, draw=draw: ((p - draw()) ** 2).sum())
        assert not run.compiled
        assert "random" in run.compile_reason


@pytest.mark.parametrize("optimizer", [qml.GradientDescentOptimizer(0.0), optax.sgd(0.0)])
def test_an_objective_that_counts_its_calls_gives_the_same_numbers_as_one_that_was_never_compiled(optimizer):
    calls, values = [], []

    def objective(params):
        calls.append(1)
        return len(calls) * params.sum()

    for compiled in ("auto", False):
        calls.clear()
        run = fast(objective, optimizer=optimizer, compile=compiled)
        values.append(run.history["cost"])
        assert (run.compiled, len(calls)) == (False, 5)
    assert np.array_equal(*values)
    assert values[0][1] == 2 * values[0][0]
    with pytest.raises(InvalidCall, match="changes 'calls'"):
        fast(objective, compile=True)


@pytest.mark.parametrize("optimizer", [qml.GradientDescentOptimizer(0.0), optax.sgd(0.0), "COBYLA"])
def test_what_changes_between_two_steps_counts_in_the_next_one(optimizer, capsys):
    weight, scale = {"of": 1.0}, np.ones(1)

    def halve(progress):
        weight["of"] /= 2
        scale[0] = 3.0

    def objective(params, scale):
        return weight["of"] * scale[0] * (params**2).sum()

    run = train(objective, START, optimizer=optimizer, steps=4, args=(scale,), stop=halve, progress=True)
    if optimizer != "COBYLA":
        np.testing.assert_allclose(run.history["cost"] / (START**2).sum(), [1, 3 / 2, 3 / 4, 3 / 8])
    assert not run.compiled
    assert "has changed" in run.compile_reason
    assert f"not compiled: {run.compile_reason}" in capsys.readouterr().out


@pytest.mark.parametrize("objective", [make_energy(), lambda p: p[3] ** 2])
@pytest.mark.parametrize("optimizer", [qml.AdamOptimizer(), optax.adam(0.1), "COBYLA"])
def test_an_index_out_of_bounds_is_an_error_where_jax_would_take_another_element(objective, optimizer):
    with pytest.raises(IndexError, match="out of bounds"):
        fast(objective, START[:2], optimizer)
    with pytest.raises(InvalidCall, match=r"IndexError.*JAX would take another element"):
        fast(objective, START[:2], optimizer, compile=True)


@pytest.mark.parametrize("constant", [3, True, np.int64(3)])
def test_a_constant_that_is_no_float_has_zero_gradient(constant):
    with pytest.warns(UserWarning, match="do not feed the objective"):
        run = fast(lambda p: constant, steps=1, compile=False)
    assert (run.value, run.history["gradient_norm"][0]) == (float(constant), 0)


def test_code_that_autograd_cannot_differentiate_is_explained_beside_its_own_error():
    with pytest.raises(TypeError) as caught:
        fast(lambda p: float(p[0]) * p.sum())
    assert "COBYLA" in caught.value.__notes__[0]
    assert "ConcretizationTypeError" in caught.value.__notes__[0]
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidCall, match="value of torch"):
        fast(lambda p: torch.tensor(1.0), compile=False)


def test_compile_true_says_why_it_cannot():
    with pytest.raises(InvalidCall, match=r"cannot be traced.*traced array"):
        fast(lambda p: float(p[0]) * p.sum(), jnp.array(START), optax.sgd(0.1), compile=True)


def test_logging_in_an_objective_that_is_compiled_is_refused_and_works_without(capsys):
    from pl_hybridjobs import log_metric

    energy = make_energy()

    def objective(params):
        log_metric("calls", 1.0)
        return energy(params)

    run = fast(objective, steps=2)
    assert not run.compiled
    assert "Return it beside the value" in run.compile_reason
    assert capsys.readouterr().out.splitlines() == ["calls = 1  (step 0)", "calls = 1  (step 1)"]
    with pytest.raises(MetricError, match="compiled"):
        fast(objective, steps=2, compile=True)


def test_an_optimizer_of_ones_own_needs_two_methods():
    class Descent:
        def init(self, params):
            return {"count": 0}

        def step(self, objective, params, state):
            value, (gradient,) = objective.value_and_gradient(params)
            return Step(params - 0.1 * gradient, {"count": state["count"] + 1}, value, [gradient])

    run = fast(make_energy(), optimizer=Descent(), steps=7)
    assert run.optimizer == {"count": 7}
    reference = fast(make_energy(), optimizer=qml.GradientDescentOptimizer(0.1), steps=7)
    np.testing.assert_allclose(run.params, reference.params, atol=1e-12)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "COBYLA", "Nelder-Mead", "TNC", "slsqp"])
def test_a_method_of_scipy_gives_a_step_for_each_iteration(method):
    run = fast(make_energy(), optimizer=method, steps=30)
    np.testing.assert_allclose(make_energy("default.qubit")(run.best.params), run.best.value, atol=1e-9)
    assert run.steps == len(run.history["cost"]) <= 30
    assert run.best.value < run.history["cost"][0] < 1.3


def test_training_stops_at_a_value_that_is_not_finite_and_keeps_the_last_parameters_where_it_was():
    def cost(params):
        return qml.math.log(params[0]) + 0.0 * params[1]

    run = fast(cost, np.array([0.3, 1.0]), qml.GradientDescentOptimizer(0.05), steps=50)
    assert "nan" in run.stopped_by
    assert math.isfinite(run.value)
    assert run.params[0] > 0
    assert np.isfinite(run.history["cost"]).all()


def test_a_first_value_that_is_not_finite_is_an_error():
    with pytest.raises(TrainingError, match="nan in the first step"):
        fast(lambda p: qml.math.log(p).sum(), np.array([-1.0]))


def test_an_objective_that_does_not_feel_its_parameters_is_spoken_of():
    energy = make_energy()
    with pytest.warns(UserWarning, match="exactly zero in all 4 parameters"):
        fast(lambda p: energy(START) + 0.0 * p.sum(), steps=1)


def test_rules_stop_and_say_so():
    from pl_hybridjobs.training import GradientNorm, Target

    assert "1.1" in fast(make_energy(), steps=200, stop=Target(-1.1)).stopped_by
    run = fast(make_energy(), steps=200, stop=[GradientNorm(1e-9), lambda p: p.step == 3 and "three is enough"])
    assert (run.steps, run.stopped_by) == (3, "three is enough")


def test_a_seed_makes_it_repeat():
    runs = [fast(make_energy(shots=50), optimizer=qml.SPSAOptimizer(maxiter=10), steps=5, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].params, runs[1].params)
    assert not np.array_equal(runs[0].params, runs[2].params)


def test_mini_batches_become_arguments():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ [1.0, -2.0, 0.5]

    def loss(weights, x, y):
        return ((x @ weights - y) ** 2).mean()

    run = fast(loss, np.zeros(3), optax.adam(0.1), steps=300, data=(x, y), batch_size=8, seed=0)
    np.testing.assert_allclose(run.params, [1.0, -2.0, 0.5], atol=1e-2)


def test_nothing_is_written_outside_a_job(tmp_path, capsys):
    with contextlib.chdir(tmp_path):
        fast(make_energy())
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_a_person_sees_the_plan_whether_it_compiles_and_the_end(capsys):
    train(make_energy(), START, optimizer=qml.AdamOptimizer(0.1), steps=3, value_name="energy")
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("plan: adjoint on hybridjobs.qubit: ")
    assert out[1] == "compiled by JAX"
    assert out[2].startswith("step 3/3, energy ")


def test_the_plot_shows_value_and_gradient(tmp_path):
    run = fast(make_energy(), steps=10)
    run.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"steps": True}, "steps=True"),
        ({"params": np.array([1 + 1j])}, "params is complex"),
        ({"params": np.array([1, 2])}, "write 1.0 for 1"),
        ({"params": {"a": jnp.ones(2), "b": np.ones(2)}}, r"params\['a'\] is a JAX array"),
        ({"params": {"a": "text"}}, r"params\['a'\] is str"),
        ({"params": []}, "params is empty"),
        ({"params": {"a": START, 0: 1.0}}, "keys are of several types"),
        ({"params": pnp.array([1.0], requires_grad=False)}, "requires_grad=False"),
        ({"optimizer": "adam"}, "no method 'adam'"),
        ({"optimizer": qml.AdamOptimizer}, "give an instance"),
        ({"optimizer": 3}, "optimizer is 3"),
        ({"optimizer": qml.AdamOptimizer(0.1), "params": jnp.ones(4)}, "use an optax optimizer"),
        ({"optimizer": "dogleg"}, "second derivatives"),
        ({"optimizer": qml.QNGOptimizer(), "objective": lambda p: p.sum()}, "a QNode itself"),
        ({"objective": 3.0}, "objective is float"),
        ({"stop": 0.5}, "Target"),
        ({"compile": "yes"}, "compile='yes'"),
        ({"seed": -1}, "seed=-1"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"checkpoint_every": 1.5}, "timedelta"),
        ({"value_name": "shots"}, "value_name='shots'"),
        ({"metrics": {}}, "metrics is dict"),
        ({"generators": [3]}, "generators has int"),
        ({"generators": np.random.default_rng()}, "generators is Generator"),
        ({"args": 3}, r"train\(\): args is int"),
        ({"optimizer": optax.adam}, "the function adam; give what it returns"),
        ({"batch_size": 4}, "batch_size"),
    ],
)
def test_bad_input_is_named_before_anything_runs(change, words):
    def never(params):
        raise AssertionError("it ran")

    given = {"objective": never, "params": START, "optimizer": qml.AdamOptimizer(0.1), "steps": 3, **change}
    with pytest.raises(InvalidCall, match=words):
        train(given.pop("objective"), given.pop("params"), **given)


def test_all_complaints_come_at_once():
    with pytest.raises(InvalidCall) as caught:
        train(make_energy(), np.array([1j]), optimizer="adam", steps=-1)
    assert len(caught.value.complaints) == 3


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda p: p * 2, r"array of shape \(4,\)"),
        (lambda p: None, "returned NoneType"),
        (lambda p: p.sum() * 1j, "complex"),
        (lambda p: (p.sum(), {"cost": 1.0}), "'cost' is logged by train itself"),
        (lambda p: (p.sum(), {"all": p}), r"further number 'all' is an array of shape \(4,\)"),
        (lambda p: (p.sum(), {"word": "text"}), "further number 'word' is str"),
    ],
)
def test_an_objective_that_gives_no_real_scalar_is_named(objective, words):
    with pytest.raises(InvalidCall, match=words):
        fast(objective)
