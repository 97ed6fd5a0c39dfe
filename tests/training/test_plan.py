"""The plan of a step beside what the devices are really asked."""

from __future__ import annotations

import collections
import random
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs.training.plan import GradientPlan, plan_gradient

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

OURS, DEFAULT, LIGHTNING = "hybridjobs.qubit", "default.qubit", "lightning.qubit"
WEIGHTS = np.array([0.1, 0.2, 0.3])
ENERGY = qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) + 0.3 * qml.Z(2)


@pytest.fixture
def asked(monkeypatch):
    """Circuits that devices are asked for. A device that answers by another of its methods is asked once: their trackers often count twice."""
    found: collections.Counter[str] = collections.Counter()
    depth = 0

    def spy(cls, name, count):
        method = getattr(cls, name)

        def counting(self, circuits, *args, **kwargs):
            nonlocal depth
            depth += 1
            try:
                if depth == 1:
                    count(circuits)
                return method(self, circuits, *args, **kwargs)
            finally:
                depth -= 1

        monkeypatch.setattr(cls, name, counting)

    def count_executions(circuits):
        for circuit in circuits:
            executions, shots = qml.devices.qubit.sampling.get_num_shots_and_executions(circuit)
            found.update(circuits=executions, shots=shots)

    for device in OURS, DEFAULT, LIGHTNING:
        cls = type(qml.device(device, wires=1))
        spy(cls, "execute", count_executions)
        for kind in "derivatives", "vjp", "jvp":
            spy(cls, f"compute_{kind}", lambda circuits: found.update(circuits=len(circuits)))
            spy(cls, f"execute_and_compute_{kind}", lambda circuits: found.update(circuits=2 * len(circuits)))
    return found


def layers(weights):
    qml.RX(weights[0], 0)
    qml.RY(weights[1], 1)
    qml.CNOT([0, 1])
    qml.Rot(*weights, 2)


def energy(weights):
    layers(weights)
    return qml.expval(ENERGY)


def energy_and_spin(weights):
    layers(weights)
    return qml.expval(ENERGY), qml.expval(qml.Y(2))


def outcomes(weights):
    layers(weights)
    return qml.probs([0, 1])


def node(function, device, method="best", **options):
    return qml.QNode(function, qml.device(device, wires=4, seed=3), diff_method=method, **options)


def one_circuit(circuit):
    return lambda weights: circuit(weights) ** 2


def two_results(circuit):
    return lambda weights: circuit(weights)[0] + 2 * circuit(weights)[1]


def entropy(circuit):
    return lambda weights: -qml.math.sum(circuit(weights) * qml.math.log(circuit(weights)))


def half_off(circuit):
    return lambda weights: (circuit(weights) - 0.5) ** 2


def over_samples(circuit):
    def loss(weights):
        total = 0.0
        for angle in 0.1, 0.2, 0.3:
            total = total + circuit(weights + angle)
        return total / 3

    return loss


CASES = [
    (OURS, "best", {}, energy, one_circuit, "adjoint"),
    (OURS, "adjoint", {}, energy, over_samples, "adjoint"),
    (OURS, "backprop", {}, outcomes, entropy, "backprop"),
    (OURS, "best", {}, outcomes, entropy, "backprop"),
    (OURS, "parameter-shift", {}, energy_and_spin, two_results, "parameter-shift"),
    (OURS, "best", {"shots": 100}, energy, over_samples, "parameter-shift"),
    (DEFAULT, "best", {}, energy, one_circuit, "backprop"),
    (DEFAULT, "adjoint", {}, energy_and_spin, two_results, "adjoint"),
    (DEFAULT, "adjoint", {"device_vjp": True}, energy, half_off, "adjoint"),
    (DEFAULT, "parameter-shift", {}, outcomes, entropy, "parameter-shift"),
    (DEFAULT, "parameter-shift", {"shots": 100}, energy, half_off, "parameter-shift"),
    (DEFAULT, "parameter-shift", {"shots": 100, "gradient_kwargs": {"broadcast": True}}, energy, one_circuit, "parameter-shift"),
    (DEFAULT, "finite-diff", {}, energy, one_circuit, "finite-diff"),
    (DEFAULT, "spsa", {"gradient_kwargs": {"num_directions": 5}}, energy, one_circuit, "spsa"),
    (DEFAULT, "hadamard", {"gradient_kwargs": {"aux_wire": 3}}, energy, one_circuit, "hadamard"),
    (LIGHTNING, "best", {}, energy, one_circuit, "adjoint"),
    (LIGHTNING, "adjoint", {"device_vjp": True}, energy_and_spin, two_results, "adjoint"),
    (LIGHTNING, "parameter-shift", {"shots": 100}, energy, one_circuit, "parameter-shift"),
]


@pytest.mark.parametrize(("device", "method", "options", "quantum", "loss", "resolved"), CASES)
def test_the_plan_says_what_a_gradient_asks_of_the_device(asked, device, method, options, quantum, loss, resolved):
    objective = loss(node(quantum, device, method, **options))

    plan = plan_gradient(objective, WEIGHTS)

    assert not asked, "nothing runs for a plan"
    qml.grad(objective, argnums=0)(WEIGHTS)
    assert plan == GradientPlan(resolved, asked["circuits"], asked["shots"] or None, (device,))
    assert asked["circuits"] > 0


@pytest.mark.parametrize("device", [DEFAULT, OURS])
@pytest.mark.parametrize("method", ["backprop", "parameter-shift"])
def test_the_plan_is_what_the_tracker_counts(device, method):
    circuit = node(energy, device, method)

    with qml.Tracker(circuit.device) as tracker:
        qml.grad(circuit, argnums=0)(WEIGHTS)

    assert plan_gradient(circuit, WEIGHTS).circuits_per_step == tracker.totals["executions"]


@pytest.mark.parametrize(
    ("device", "method", "shots"),
    [
        (OURS, "best", None),
        (OURS, "parameter-shift", 100),
        pytest.param(DEFAULT, "backprop", None, marks=pytest.mark.torture_long),
        (DEFAULT, "parameter-shift", 100),
        (LIGHTNING, "adjoint", None),
    ],
)
def test_jax_and_torch_get_the_plans_of_their_own_gradients(asked, x64, torch, device, method, shots):
    import jax

    objective = one_circuit(node(energy, device, method, shots=shots))
    jax_weights, torch_weights = jax.numpy.asarray(WEIGHTS), torch.tensor(WEIGHTS, requires_grad=True)

    for weights, differentiate in (jax_weights, jax.grad(objective)), (torch_weights, lambda weights: objective(weights).backward()):
        plan = plan_gradient(objective, weights)
        asked.clear()
        differentiate(weights)
        assert (plan.circuits_per_step, plan.shots_per_step) == (asked["circuits"], asked["shots"] or None)
    assert torch.all(torch_weights.grad != 0)


def test_two_circuits_on_two_devices_are_added_up(asked):
    first, second = node(energy, OURS, "adjoint"), node(energy, DEFAULT, "parameter-shift", shots=10)

    def objective(weights):
        return first(weights) * second(weights)

    plan = plan_gradient(objective, WEIGHTS)

    qml.grad(objective, argnums=0)(WEIGHTS)
    assert plan == GradientPlan("mixed: adjoint, parameter-shift", asked["circuits"], asked["shots"], (OURS, DEFAULT))


def test_data_and_frozen_parameters_are_not_differentiated(asked):
    @qml.qnode(qml.device(DEFAULT, wires=1), diff_method="parameter-shift")
    def circuit(weights, data):
        qml.RX(weights["trained"], 0)
        qml.RY(weights["frozen"], 0)
        qml.RZ(data, 0)
        return qml.expval(qml.Z(0))

    weights = {"trained": pnp.array(0.3), "frozen": pnp.array(0.4, requires_grad=False)}

    assert plan_gradient(circuit, weights, (0.5,)).circuits_per_step == 3


def test_shot_vectors_counts_and_samples_have_placeholders(asked):
    device = qml.device(DEFAULT, wires=2)

    @qml.qnode(device, shots=[10, (20, 2)], diff_method="parameter-shift")
    def in_parts(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0)), qml.probs([0, 1])

    @qml.qnode(device, shots=30)
    def drawn(x):
        qml.RX(x, 0)
        return qml.counts(), qml.sample(wires=0), qml.sample(qml.Z(0)), qml.counts(qml.Z(1))

    def objective(x):
        named = drawn(0.1)
        assert set(named[0]) <= {"00", "10"}
        assert np.shape(named[1]) == (30, 1)
        assert np.shape(named[2]) == (30,)
        return sum(value + qml.math.sum(probs) for value, probs in in_parts(x))

    plan = plan_gradient(objective, np.array(0.1))

    qml.grad(objective, argnums=0)(np.array(0.1))
    assert (plan.circuits_per_step, plan.shots_per_step, plan.notes) == (asked["circuits"], asked["shots"], ())


@pytest.mark.parametrize(
    "measure",
    [
        qml.state,
        lambda: qml.density_matrix([1]),
        lambda: qml.purity([0]),
        lambda: qml.vn_entropy([0]),
        lambda: qml.mutual_info([0], [1]),
        lambda: qml.var(qml.Z(0) @ qml.X(1)),
        lambda: (qml.probs([1]), qml.expval(qml.Z(0))),
    ],
)
@pytest.mark.parametrize("angle", [np.array(0.3), np.array([0.1, 0.2, 0.3])], ids=["one", "batch"])
def test_placeholders_have_the_shapes_of_results(measure, angle):
    @qml.qnode(qml.device(DEFAULT, wires=3))
    def circuit(x):
        qml.RX(x, 0)
        qml.CNOT([0, 1])
        return measure()

    expected = [np.shape(part) for part in (circuit(angle) if isinstance(circuit(angle), tuple) else (circuit(angle),))]

    def objective(x):
        result = circuit(x)
        parts = result if isinstance(result, tuple) else (result,)
        assert [np.shape(part) for part in parts] == expected
        return sum(qml.math.sum(qml.math.real(part)) for part in parts)

    assert plan_gradient(objective, angle).notes == ()


def test_values_ask_for_no_derivatives(asked):
    objective = one_circuit(node(energy, OURS, "adjoint"))

    plan = plan_gradient(objective, WEIGHTS, evaluations="value", count=2)

    objective(WEIGHTS)
    assert plan == GradientPlan("none", 2 * asked["circuits"], None, (OURS,))


def test_a_classical_objective_needs_no_circuits():
    assert plan_gradient(lambda x: x**2, 1.0) == GradientPlan("none", 0, None, ())


def test_a_function_that_returns_a_pair_is_planned_by_its_value():
    circuit = node(energy, OURS)

    assert plan_gradient(lambda weights: (circuit(weights), {"norm": 1.0}), WEIGHTS) == plan_gradient(circuit, WEIGHTS)


def test_an_objective_that_fails_on_placeholders_has_no_number_but_a_reason():
    circuit = node(energy, OURS)

    def objective(weights):
        raise LookupError(f"no label for {circuit(weights).shape}")

    plan = plan_gradient(objective, WEIGHTS)

    assert (plan.circuits_per_step, plan.devices) == (None, (OURS,))
    assert "the objective raised LookupError: no label for ()" in str(plan)


def test_a_device_made_inside_the_objective_is_not_run(asked):
    def objective(weights):
        return node(energy, DEFAULT)(weights)

    plan = plan_gradient(objective, WEIGHTS)

    assert plan.circuits_per_step is None
    assert "make them outside" in plan.notes[0]
    assert not asked


HISTORY: list[float] = []
CALLS = 0


def test_planning_leaves_no_trace(asked):
    calls = 0
    rng = np.random.default_rng(3)
    seen: dict[str, Any] = {"best": None, "all": [1.0]}
    counter = np.zeros(2)
    circuit = node(energy, DEFAULT, "spsa", shots=10, gradient_kwargs={"sampler_rng": rng})
    before = vars(circuit).copy()

    def objective(weights):
        nonlocal calls
        global CALLS
        calls, CALLS = calls + 1, CALLS + 1
        HISTORY.append(calls)
        seen["best"] = rng.normal() + np.random.rand() + random.random()
        seen["all"].append(2.0)
        counter[0] += 1
        return circuit(weights)

    weights = pnp.array(WEIGHTS)
    numpy_state, python_state, rng_state = np.random.get_state(legacy=False), random.getstate(), rng.bit_generator.state

    assert plan_gradient(objective, weights).notes == ()

    assert (calls, CALLS, HISTORY, seen, counter.tolist()) == (0, 0, [], {"best": None, "all": [1.0]}, [0, 0])
    assert str(np.random.get_state(legacy=False)) == str(numpy_state)
    assert (random.getstate(), rng.bit_generator.state) == (python_state, rng_state)
    assert np.array_equal(weights, WEIGHTS)
    assert vars(circuit) == before
    assert not asked
    assert not circuit.device.tracker.totals


def test_torch_keeps_its_random_state_and_its_gradients(torch):
    layer = torch.nn.Linear(3, 3).double()
    circuit = node(energy, OURS)

    def objective(weights):
        return circuit(layer(weights + torch.rand(3)))

    before = torch.get_rng_state()
    weights = torch.tensor(WEIGHTS, requires_grad=True)

    assert plan_gradient(objective, weights).circuits_per_step == plan_gradient(circuit, weights).circuits_per_step

    assert torch.equal(torch.get_rng_state(), before)
    assert weights.grad is None
    assert layer.weight.grad is None


def test_a_large_circuit_is_planned_at_once():
    @qml.qnode(qml.device(OURS, wires=20), diff_method="adjoint")
    def circuit(weights):
        qml.StronglyEntanglingLayers(weights, wires=range(20))
        return qml.expval(qml.Z(0))

    start = time.perf_counter()
    plan = plan_gradient(circuit, np.full((3, 20, 3), 0.1))

    assert str(plan) == "adjoint on hybridjobs.qubit: 2 circuits a step"
    assert time.perf_counter() - start < 2, "a busy machine has time to spare: alone, it takes 0.03 s"


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (GradientPlan("parameter-shift", 73, 7300, ("default.qubit",)), "parameter-shift on default.qubit: 73 circuits a step, 7300 shots"),
        (GradientPlan("none", 1, None, ("a", "b")), "values only on a, b: 1 circuit a step"),
        (GradientPlan("none", 0, None, ()), "no circuits"),
        (GradientPlan("adjoint", None, None, ("a",), notes=("because",)), "adjoint on a; because"),
    ],
)
def test_a_plan_reads_like_a_sentence(plan, line):
    assert str(plan) == line


def test_importing_the_plan_loads_nothing_heavy():
    heavy = "import sys, pl_hybridjobs.training.plan; print([m for m in ('pennylane', 'jax', 'numpy', 'torch') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
