"""Measurements in the middle of circuits: every method beside default.qubit's deferred measurements, exactly and from shots."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.exceptions import DeviceError, QuantumFunctionError
from scipy import stats

from pl_hybridjobs.devices import midcircuit
from pl_hybridjobs.errors import SimulationError

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

OURS, THEIRS = "hybridjobs.qubit", "default.qubit"
METHODS = ["deferred", "tree-traversal", "one-shot"]
SHOTS = 3_000


def dynamic(measurement, *, postselect=None, reset=False):
    """Three measurements, two of them of wires that are used again, and gates that depend on one, two and all of them."""

    def circuit(x):
        qml.RX(x, 0)
        qml.CRY(0.5, [0, 1])
        first = qml.measure(0, reset=reset)
        qml.cond(first, qml.RX, qml.RY)(0.8, wires=1)
        second = qml.measure(1, postselect=postselect)
        qml.cond(first & second, qml.QFT)(wires=[0, 1, 2])
        qml.RY(0.4, 2)
        third = qml.measure(2, reset=True)
        qml.cond(first + 2 * second + third > 1, qml.Hadamard)(0)
        return measurement(first, second, third)

    return circuit


def run(circuit, *args, name=OURS, method=None, mode=None, shots=None, seed=5, wires=None, **options):
    device = qml.device(name, wires=wires, seed=seed, **options)
    return qml.set_shots(qml.QNode(circuit, device, mcm_method=method, postselect_mode=mode), shots)(*args)


def same(ours, theirs, atol=1e-10):
    if isinstance(theirs, tuple | list):
        return len(ours) == len(theirs) and all(same(a, b, atol) for a, b in zip(ours, theirs, strict=True))
    return np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, atol=atol, equal_nan=True)


EXACT = {
    "expval": lambda a, b, c: qml.expval(qml.Z(1) @ qml.X(0)),
    "var": lambda a, b, c: qml.var(qml.X(0) + qml.Z(1)),
    "probs": lambda a, b, c: qml.probs(wires=[2, 0]),
    "probs of an observable": lambda a, b, c: qml.probs(op=qml.Y(0)),
    "expval of a value": lambda a, b, c: qml.expval(a + 2 * b * c),
    "var of a value": lambda a, b, c: qml.var(a * c - b),
    "probs of a value": lambda a, b, c: qml.probs(op=a),
    "probs of values": lambda a, b, c: qml.probs(op=[c, a]),
    "many": lambda a, b, c: (qml.expval(a), qml.expval(qml.Z(0)), qml.probs(op=[a, b, c]), qml.var(qml.X(1))),
}
MIXED = {
    "density_matrix": lambda a, b, c: qml.density_matrix([0, 2]),
    "purity": lambda a, b, c: qml.purity([0]),
    "entropy": lambda a, b, c: qml.vn_entropy([0, 1]),
    "mutual_info": lambda a, b, c: qml.mutual_info([0], [2]),
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("postselect", [None, 0, 1])
@pytest.mark.parametrize("name", EXACT | MIXED)
def test_every_way_without_shots_gives_what_default_qubit_gives(name, postselect, reset):
    circuit = dynamic((EXACT | MIXED)[name], postselect=postselect, reset=reset)
    expected = run(circuit, 0.9, name=THEIRS, method="deferred")

    for method in ("deferred", "tree-traversal", None):
        assert same(run(circuit, 0.9, method=method), expected)
    assert same(run(circuit, 0.9, method="tree-traversal", c_dtype=np.complex64), expected, 1e-5)


@pytest.mark.parametrize("postselect", [None, 1])
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("method", METHODS)
def test_every_way_with_shots_is_near_the_exact_values(method, name, postselect):
    shots = 500 if method == "one-shot" else 20_000
    circuit = dynamic(EXACT[name], postselect=postselect)
    ours = run(circuit, 0.9, method=method, shots=shots)

    assert same(ours, run(circuit, 0.9, name=THEIRS, method="deferred"), 4 * 1.5 / (shots * (0.15 if postselect else 1)) ** 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_outcomes_and_final_samples_have_the_right_joint_distribution(method):
    shots = 600 if method == "one-shot" else 20_000
    circuit = dynamic(lambda a, b, c: (qml.sample([a, b, c]), qml.sample(wires=[0, 1]), qml.counts([a, b, c], all_outcomes=True)))
    values, bits, counts = run(circuit, 1.3, method=method, shots=shots)
    exact = run(dynamic(lambda a, b, c: qml.probs(op=[a, b, c])), 1.3, name=THEIRS, method="deferred")
    given = [  # wires 0 and 1, where the outcomes are as they are
        run(dynamic(lambda a, b, c: qml.expval(qml.Z(0))), 1.3, name=THEIRS, method="deferred"),
        run(dynamic(lambda a, b, c: qml.expval(qml.Z(1))), 1.3, name=THEIRS, method="deferred"),
    ]

    numbers = values @ [4, 2, 1]
    seen = exact > 1e-12
    assert stats.chisquare(np.bincount(numbers, minlength=8)[seen], shots * exact[seen] / exact[seen].sum()).pvalue > 1e-4
    assert counts == {f"{i:03b}": int(np.sum(numbers == i)) for i in range(8)}
    assert np.allclose((1 - 2 * bits).mean(axis=0), given, atol=5 / shots**0.5)


@pytest.mark.parametrize("method", METHODS)
def test_a_measured_wire_that_is_left_alone_shows_its_outcome_again_shot_by_shot(method):
    def circuit():
        qml.Hadamard(0)
        first = qml.measure(0)
        qml.RY(0.7, 1)
        second = qml.measure(1, reset=True)
        qml.cond(second, qml.X)(1)
        return qml.sample(first), qml.sample(wires=[0, 1]), qml.sample([second]), qml.sample(qml.Z(1)), qml.sample(first + second)

    first, bits, second, sign, total = run(circuit, method=method, shots=300)

    assert {len(set(first)), len(set(second[:, 0]))} == {2}
    assert np.array_equal(first, bits[:, 0])
    assert np.array_equal(second[:, 0], bits[:, 1])
    assert np.array_equal(1 - 2 * bits[:, 1], sign)
    assert np.array_equal(total, first + second[:, 0])


@pytest.mark.parametrize("method", METHODS)
def test_shot_vectors_are_cut_from_exchangeable_shots(method):
    def circuit():
        qml.Hadamard(0)
        value = qml.measure(0)
        qml.cond(value, qml.X)(1)
        return qml.sample(wires=1), qml.expval(value), qml.counts(value)

    results = run(circuit, method=method, shots=[200, (100, 2)])

    assert [np.shape(r[0]) for r in results] == [(200, 1), (100, 1), (100, 1)]
    for samples, mean, counts in results:  # a tree goes through outcome 0 first; its shots must not come first
        assert 0.3 < mean < 0.7
        assert np.isclose(samples.mean(), mean)
        assert counts == {0: len(samples) - samples.sum(), 1: samples.sum()}


@pytest.mark.parametrize("method", ["deferred", "tree-traversal"])
def test_a_batch_is_a_loop(method):
    angles = np.array([0.1, 0.9, 2.0])
    circuit = dynamic(EXACT["many"], postselect=1)
    each = [run(circuit, x, name=THEIRS, method="deferred") for x in angles]

    assert same(run(circuit, angles, method=method), tuple(np.stack(column) for column in zip(*each, strict=True)))
    assert run(dynamic(EXACT["probs"]), angles, method=method, shots=10).shape == (3, 4)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_a_run_and_no_call(method):
    def calls():
        node = qml.QNode(dynamic(lambda a, b, c: qml.sample([a, b, c])), qml.device(OURS, seed=jax.random.PRNGKey(2)), mcm_method=method)
        return [qml.set_shots(node, 100)(0.9) for _ in range(2)]

    first, again = calls(), calls()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(*first)


# Postselection -----------------------------------------------------------------------------------------------------------------


def selected(measurement, *, angle=1.0, postselect=1):
    def circuit():
        qml.RX(angle, 0)
        qml.CNOT([0, 1])
        qml.RY(0.3, 1)
        value = qml.measure(0, postselect=postselect)
        return measurement(value)

    return circuit


@pytest.mark.parametrize("method", METHODS)
def test_shots_that_postselection_rejects_are_missing_like_on_hardware(method):
    shots = 1_000
    sizes = [len(s) for s in run(selected(lambda m: qml.sample(wires=1)), method=method, mode="hw-like", shots=[shots] * 3)]

    assert len(set(sizes)) > 1
    assert np.allclose(sizes, shots * np.sin(0.5) ** 2, atol=70)


def test_filled_shots_are_all_there_and_follow_the_selected_state():
    samples = run(selected(lambda m: qml.sample(wires=1)), method="deferred", mode="fill-shots", shots=SHOTS)

    assert samples.shape == (SHOTS, 1)
    assert np.isclose(samples.mean(), run(selected(lambda m: qml.probs(wires=1)), name=THEIRS)[1], atol=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_an_outcome_that_never_comes_gives_no_numbers(method):
    def measurement(value):
        return qml.sample(wires=[1, 0]), qml.expval(qml.Z(1)), qml.probs(wires=[0]), qml.counts(wires=0), qml.expval(value)

    samples, mean, probs, counts, value = run(selected(measurement, angle=0.0), method=method, mode="hw-like", shots=20)

    assert samples.shape == (0, 2)
    assert counts == {}
    assert np.isnan(mean)
    assert np.isnan(value)
    assert np.isnan(probs).all()


@pytest.mark.parametrize("method", ["deferred", "tree-traversal"])
def test_an_outcome_that_never_comes_gives_no_numbers_without_shots(method):
    mean, probs = run(selected(lambda m: (qml.expval(qml.Z(1)), qml.probs(wires=[0, 1])), angle=0.0), method=method)

    assert np.isnan(mean)
    assert probs.shape == (4,)
    assert np.isnan(probs).all()


def test_shots_cannot_be_filled_with_an_outcome_that_never_comes():
    with pytest.raises(SimulationError, match=r"probability 0.*fill"):
        run(selected(lambda m: qml.sample(wires=1), angle=0.0), mode="fill-shots", shots=20)


@pytest.mark.parametrize("method", [None, "one-shot"])
@pytest.mark.parametrize("compiled", [False, True])
def test_jax_arrays_keep_their_size_and_mark_rejected_shots(method, compiled):
    def circuit(angle):
        return selected(lambda m: qml.sample(wires=[1, 0]), angle=angle)()

    node = qml.set_shots(qml.QNode(circuit, qml.device(OURS, seed=1), mcm_method=method, diff_method=None, interface="jax"), 200)
    samples = np.asarray((jax.jit(node) if compiled else node)(jnp.array(1.0)))

    rejected = (samples == np.iinfo(np.int32).min).all(axis=1)
    assert samples.shape == (200, 2)
    assert 120 < rejected.sum() < 180
    assert (samples[~rejected][:, 1] == 1).all()


def test_jitted_estimates_with_shots_agree_with_exact_ones():
    circuit = dynamic(lambda a, b, c: (qml.expval(qml.Z(1)), qml.probs(op=[a, c])))
    found = jax.jit(qml.set_shots(qml.QNode(circuit, qml.device(OURS, seed=1), mcm_method="tree-traversal"), SHOTS))(jnp.array(0.9))

    assert same([np.asarray(f) for f in found], list(run(circuit, 0.9, name=THEIRS, method="deferred")), 0.08)


# Trees ---------------------------------------------------------------------------------------------------------------------------


def walk(circuit, shots, seed=0, c_dtype=np.complex128):
    tape = qml.tape.make_qscript(circuit)().map_to_standard_wires()
    return list(midcircuit._Walk(tape, c_dtype, np.random.default_rng(seed), fill=False).leaves(shots))


def many_measurements(count, angle):
    def circuit():
        for _ in range(count):
            qml.RX(angle, 0)
            qml.measure(0)
        qml.probs(wires=0)

    return circuit


def test_branches_without_shots_or_probability_are_left_out():
    assert len(walk(many_measurements(6, 0.5), None)) == 64
    assert len(walk(many_measurements(6, 0.0), None)) == 1
    assert len(walk(many_measurements(6, np.pi), None)) == 1
    leaves = walk(many_measurements(60, 1.5), 50)  # of 2**60
    assert sum(leaf.shots for leaf in leaves) == 50
    assert len(leaves) <= 50
    assert len(walk(many_measurements(60, 1.5), 1)) == 1


@pytest.mark.parametrize("c_dtype", [np.complex64, np.complex128])
def test_rare_outcomes_are_kept(c_dtype):
    weights = [leaf.weight for leaf in walk(many_measurements(1, 1e-4), None, c_dtype=c_dtype)]

    assert np.allclose(weights, [1, np.sin(5e-5) ** 2], rtol=1e-3)


def test_weights_are_the_probabilities_of_the_outcomes():
    leaves = walk(many_measurements(3, 0.8), None)
    flip = np.sin(0.4) ** 2

    for leaf in leaves:
        steps = np.abs(np.diff([0, *leaf.outcomes]))
        assert np.isclose(leaf.weight, np.prod(np.where(steps, flip, 1 - flip)))
        assert np.isclose(np.abs(leaf.state[leaf.outcomes[-1]]), 1)


def test_hundreds_of_measurements_are_no_matter_of_recursion():
    assert sum(leaf.shots for leaf in walk(many_measurements(1_200, 0.1), 3)) == 3


def test_a_projector_among_the_gates_postselects():
    def circuit():
        qml.Hadamard(0)
        qml.CRY(0.7, [0, 1])
        qml.Projector([1, 0], wires=[0, 1])
        qml.RX(0.3, 1)
        return qml.state()

    assert same(run(circuit, wires=2), run(circuit, name=THEIRS, wires=2))


def test_states_may_be_prepared_in_front_of_measurements():
    vector = np.array([0.6, 0, 0, 0.8j])

    def circuit():
        qml.StatePrep(vector, wires=["b", "a"])
        value = qml.measure("b")
        qml.cond(value, qml.Hadamard)("a")
        return qml.probs(wires=["a", "b"]), qml.expval(value)

    for method in ("tree-traversal", "deferred"):
        assert same(run(circuit, method=method), run(circuit, name=THEIRS, method="deferred"))


def test_teleportation_carries_a_state():
    def circuit():
        qml.Rot(0.3, 1.1, -0.4, wires=0)
        qml.Hadamard(1)
        qml.CNOT([1, 2])
        qml.CNOT([0, 1])
        qml.Hadamard(0)
        phase, flip = qml.measure(0), qml.measure(1)
        qml.cond(flip, qml.X)(2)
        qml.cond(phase, qml.Z)(2)
        return qml.density_matrix(wires=2)

    state = qml.matrix(qml.Rot(0.3, 1.1, -0.4, wires=0))[:, 0]
    for method in ("tree-traversal", "deferred"):
        assert np.allclose(run(circuit, method=method), np.outer(state, state.conj()))


# Which way -----------------------------------------------------------------------------------------------------------------------


def chosen(circuit, *, wires=None, shots=None, method=None, mode=None, gradient=None):
    tape = qml.tape.make_qscript(circuit)().copy(shots=shots)
    config = ExecutionConfig(gradient_method=gradient, mcm_config=MCMConfig(mcm_method=method, postselect_mode=mode))
    device = qml.device(OURS, wires=wires)
    found = device.setup_execution_config(config, tape)
    assert device.setup_execution_config(found, tape) == found
    return found.mcm_config.mcm_method


@pytest.mark.parametrize("shots", [None, 10])
def test_the_cheapest_way_is_chosen_and_named(shots):
    assert chosen(lambda: qml.expval(qml.Z(0)), shots=shots) == "deferred"
    assert chosen(many_measurements(5, 0.1), shots=shots) == "deferred"
    assert chosen(many_measurements(30, 0.1), shots=shots) == "tree-traversal"
    assert chosen(many_measurements(5, 0.1), shots=shots, wires=3) == "tree-traversal"  # deferral would take 6 wires
    assert chosen(many_measurements(30, 0.1), shots=shots, method="device") == "tree-traversal"
    assert chosen(many_measurements(30, 0.1), shots=shots, mode="fill-shots") == "deferred"
    assert chosen(many_measurements(24, 0.1), gradient="best") == "deferred"
    assert chosen(lambda: (qml.measure(0), qml.probs()), shots=shots) == "tree-traversal"  # of all wires: cannot be deferred


def test_a_measurement_of_a_wire_that_is_not_used_again_costs_nothing():
    def circuit():
        for wire in range(25):
            qml.Hadamard(wire)
            qml.measure(wire)
        qml.expval(qml.Z(25))

    assert chosen(circuit) == "deferred"


@pytest.mark.parametrize(
    "circuit",
    [
        many_measurements(3, 0.2),
        lambda: (qml.measure(0), qml.measure(0), qml.expval(qml.Z(1))),
        lambda: (qml.measure(0), qml.X(0), qml.measure(0), qml.expval(qml.Z(1))),
        lambda: (qml.measure(0, reset=True), qml.measure(1), qml.expval(qml.Z(2))),
        lambda: dynamic(EXACT["expval"])(0.3),
    ],
)
def test_the_wires_of_deferral_are_counted_as_pennylane_adds_them(circuit):
    tape = qml.tape.make_qscript(circuit)()
    (deferred,), _ = qml.defer_measurements(tape)

    assert set(midcircuit._added_wires(tape)) == set(deferred.wires) - set(tape.wires)


def test_more_measurements_than_could_be_deferred_run_by_themselves():
    def circuit(measurement):
        def chain():
            values = []
            for _ in range(40):
                qml.RX(0.3, 0)
                values.append(qml.measure(0, reset=True))
            return measurement(values)

        return chain

    mean, probs = run(circuit(lambda values: (qml.expval(values[0] + values[39]), qml.probs(op=values[7:9]))), shots=2_000)
    ones = np.sin(0.15) ** 2
    assert np.isclose(mean, 2 * ones, atol=0.03)
    assert np.allclose(probs, np.kron([1 - ones, ones], [1 - ones, ones]), atol=0.03)


@pytest.mark.parametrize(
    ("method", "mode", "shots", "error", "text"),
    [
        ("tree-traversal", "fill-shots", 10, DeviceError, "fill-shots.*deferred.*tree-traversal"),
        ("one-shot", "fill-shots", 10, DeviceError, "fill-shots.*deferred.*one-shot"),
        ("one-shot", None, None, DeviceError, "one-shot.*needs shots"),
        (
            "single-branch-statistics",
            None,
            None,
            DeviceError,
            "no mcm_method 'single-branch-statistics'.*deferred, one-shot, tree-traversal",
        ),
    ],
)
def test_ways_that_do_not_go_together_are_refused(method, mode, shots, error, text):
    with pytest.raises(error, match=text):
        run(dynamic(EXACT["expval"], postselect=1), 0.3, method=method, mode=mode, shots=shots)


def test_what_a_mixed_state_cannot_show_is_told():
    def circuit():
        qml.Hadamard(0)
        qml.measure(0)
        return qml.state()

    with pytest.raises(SimulationError, match=r"state.*mixed"):
        run(circuit)
    with pytest.raises(DeviceError, match=r"one-shot.*shots"):
        qml.device(OURS).setup_execution_config(
            ExecutionConfig(mcm_config=MCMConfig(mcm_method="one-shot")), qml.tape.make_qscript(circuit)()
        )
    shadow = dynamic(lambda a, b, c: qml.classical_shadow(wires=[0, 1]))
    with pytest.raises(SimulationError, match=r"shadow.*tree-traversal.*deferred"):
        run(shadow, 0.3, method="tree-traversal", shots=10)
    assert run(shadow, 0.3, method="deferred", shots=10).shape == (2, 10, 2)


# Derivatives -----------------------------------------------------------------------------------------------------------------------


def differentiable(postselect=None):
    def circuit(x):
        qml.RX(x, 0)
        value = qml.measure(0, reset=True, postselect=postselect)
        qml.cond(value, qml.RY)(2 * x, wires=1)
        qml.RX(0.3, 0)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    return circuit


@pytest.mark.parametrize(
    ("method", "diff_method", "postselect"),
    [
        (None, "best", None),
        (None, "adjoint", None),
        (None, "backprop", None),
        (None, "best", 1),
        (None, "backprop", 1),
        ("tree-traversal", "best", None),
        ("tree-traversal", "parameter-shift", None),
        ("tree-traversal", "finite-diff", 1),
    ],
)
def test_derivatives_pass_through_measurements(method, diff_method, postselect):
    x = pnp.array(0.7, requires_grad=True)
    found = qml.grad(qml.QNode(differentiable(postselect), qml.device(OURS), diff_method=diff_method, mcm_method=method))(x)
    exact = qml.grad(qml.QNode(differentiable(postselect), qml.device(THEIRS), diff_method="backprop", mcm_method="deferred"))(x)

    assert np.isclose(found, exact, atol=1e-6)


@pytest.mark.parametrize("postselect", [None, pytest.param(1, marks=pytest.mark.torture_long)])
def test_jax_derivatives_pass_through_measurements(postselect, x64):
    ours, theirs = (qml.QNode(differentiable(postselect), qml.device(name), mcm_method="deferred") for name in (OURS, THEIRS))

    assert np.isclose(jax.jit(jax.grad(ours))(0.7), jax.grad(theirs)(0.7))


@pytest.mark.parametrize(
    ("diff_method", "method", "postselect"),
    [("adjoint", None, 1), ("adjoint", "tree-traversal", None), ("backprop", "tree-traversal", None)],
)
def test_derivatives_that_would_be_wrong_are_refused(diff_method, method, postselect):
    node = qml.QNode(differentiable(postselect), qml.device(OURS), diff_method=diff_method, mcm_method=method)

    with pytest.raises(QuantumFunctionError, match=diff_method):
        qml.grad(node)(pnp.array(0.7, requires_grad=True))


def test_the_device_itself_refuses_adjoint_through_a_projector():
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0), qml.Projector([0], 0)], [qml.expval(qml.Z(0))], trainable_params=[0])

    with pytest.raises(DeviceError, match="postselection"):
        qml.device(OURS, wires=1).compute_derivatives((tape,))


def test_samples_in_different_bases_have_nothing_to_do_with_each_other():
    @qml.set_shots(4000)
    @qml.qnode(qml.device("hybridjobs.qubit", wires=3, seed=4), mcm_method="tree-traversal")
    def circuit():
        qml.Hadamard(2)
        qml.measure(2)
        qml.RY(np.pi / 4, 0)
        return qml.sample(qml.X(0)), qml.sample(qml.Z(0))

    assert abs(np.corrcoef(*circuit())[0, 1]) < 0.1
