"""What every remote device does through ``hybridjobs.qpu``, whoever provides it."""

from __future__ import annotations

import importlib
import pickle
import signal
import threading
from dataclasses import replace

import jax
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.exceptions import DeviceError, QuantumFunctionError

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.devices.sessions import Session
from pl_hybridjobs.errors import BudgetExceeded, DeviceOffline, ProviderError, ResultNotReady, TaskCancelled, TaskFailed
from tests.devices.providers import PROVIDERS, Bought

X = pnp.array([0.4, 0.7, -0.3], requires_grad=True)
ENERGY = qml.Hamiltonian([0.5, -0.4, 0.3, 0.2], [qml.Z(0) @ qml.Z(1), qml.X(0), qml.Y(1) @ qml.Z(2), qml.X(0) @ qml.X(2)])
HERMITIAN = np.array([[1.0, 0.5 - 0.2j], [0.5 + 0.2j, -0.3]])


pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")


@pytest.fixture(params=PROVIDERS)
def provider(request):
    module, _, name = (request.config.getoption("--provider") or "").partition(":")
    return getattr(importlib.import_module(module), name)() if module else PROVIDERS[request.param]()


@pytest.fixture(autouse=True)
def account(tmp_path):
    """An account of its own, as a job has one."""
    with accounts.activate(Account("the test", Ledger(tmp_path / "spend.sqlite"), namespace="the-test")) as active:
        yield active


def ansatz(x):
    qml.Hadamard(2)
    qml.RX(x[0], 0)
    qml.RY(x[1], 1)
    qml.CNOT([0, 1])
    qml.CRZ(x[2], wires=[1, 2])
    qml.RX(0.5, 2)


def node(device, measure, shots=None, **options):
    def circuit(x):
        ansatz(x)
        return measure()

    return qml.set_shots(qml.QNode(circuit, device, **options), shots)


def energy():
    return qml.expval(ENERGY)


def exactly(measure):
    return node(qml.device("default.qubit", wires=3), measure)(X)


# Numbers ---------------------------------------------------------------------------------------------------------------------

# What is measured, and the largest standard deviation of one shot (or of one outcome).
MEASURED = {
    "expval of a word": (lambda: qml.expval(qml.Y(0) @ qml.Z(1)), 1.0),
    "expval of a Hamiltonian": (lambda: qml.expval(ENERGY), 1.4),
    "expval of a Hermitian matrix": (lambda: qml.expval(qml.Hermitian(HERMITIAN, 1)), 1.0),
    "expval of a projector": (lambda: qml.expval(qml.Projector([0, 1], wires=[0, 2])), 0.5),
    "expval of Hadamard": (lambda: qml.expval(qml.Hadamard(1)), 1.0),
    "expval of the identity": (lambda: qml.expval(qml.Identity(0)), 0.0),
    "var": (lambda: qml.var(qml.X(0) @ qml.Z(2)), 2.0),
    "probs of some wires": (lambda: qml.probs(wires=[2, 0]), 0.5),
    "probs in a basis": (lambda: qml.probs(op=qml.X(0) @ qml.Y(1)), 0.5),
    "probs of all": (qml.probs, 0.5),
    "several, not commuting": (lambda: (qml.expval(qml.X(0)), qml.expval(qml.Z(0)), qml.probs(wires=1), qml.var(qml.Y(2))), 2.0),
    "several, in bases of their own": (lambda: (qml.probs(op=qml.X(0)), qml.expval(qml.Y(0)), qml.var(qml.Hermitian(HERMITIAN, 0))), 2.0),
    "several, commuting": (lambda: (qml.expval(qml.X(0)), qml.expval(qml.X(0) @ qml.Z(1)), qml.expval(qml.Z(1))), 1.0),
}
EXACT = {
    "state": qml.state,
    "density matrix": lambda: qml.density_matrix(wires=[2, 0]),
}


def flat(result):
    return np.concatenate([np.ravel(part) for part in (result if isinstance(result, tuple) else (result,))])


@pytest.mark.parametrize("kind", ["simulator", "noisy"])
@pytest.mark.parametrize("measured", [*MEASURED, *EXACT])
def test_exact_values_are_those_of_default_qubit(provider, kind, measured):
    if (kind, measured) == ("noisy", "state"):
        pytest.skip("a noisy device has no state vector")
    measure = EXACT.get(measured) or MEASURED[measured][0]

    found = node(provider.device(kind, wires=3), measure)(X)

    np.testing.assert_allclose(flat(found), flat(exactly(measure)), atol=1e-8)


@pytest.mark.parametrize("kind", ["simulator", "qpu"])
@pytest.mark.parametrize("measured", MEASURED)
def test_sampled_values_lie_within_five_deviations(provider, kind, measured):
    measure, deviation = MEASURED[measured]

    found = node(provider.device(kind, wires=3), measure, 4000)(X)

    np.testing.assert_allclose(flat(found), flat(exactly(measure)), atol=5 * deviation / np.sqrt(4000) + 1e-9)


def test_samples_and_counts_are_shaped_as_pennylane_shapes_them(provider):
    device = provider.device("qpu", wires=3)

    bits, signs = node(device, lambda: (qml.sample(wires=[0, 2]), qml.sample(qml.X(1))), 50)(X)
    counts, basis = node(device, lambda: (qml.counts(wires=[1]), qml.counts(qml.Y(0), all_outcomes=True)), 50)(X)

    assert bits.shape == (50, 2)
    assert set(np.ravel(bits)) <= {0, 1}
    assert signs.shape == (50,)
    assert set(signs) <= {-1, 1}
    assert sum(counts.values()) == 50
    assert set(counts) <= {"0", "1"}
    assert set(basis) == {-1, 1}


def test_labels_of_wires_are_the_users_and_their_order_is_the_devices(provider):
    @qml.set_shots(20)
    @qml.qnode(provider.device("qpu", wires=["b", "a", 7]))
    def circuit():
        qml.X("a")
        return qml.sample(), qml.expval(qml.Z("a")), qml.counts(wires=[7, "a"])

    bits, value, counts = circuit()

    assert (bits == [0, 1, 0]).all()
    assert value == -1
    assert counts == {"01": 20}


def test_a_device_without_wires_takes_those_of_each_circuit(provider):
    device = provider.device("qpu")

    @qml.set_shots(10)
    @qml.qnode(device)
    def circuit():
        qml.X("q5")
        qml.CNOT(["q5", "q2"])
        qml.Identity("idle")
        return qml.counts(wires=["idle", "q2", "q5"])

    assert circuit() == {"011": 10}


def test_noise_of_the_circuit_is_noise_of_the_result(provider):
    @qml.qnode(provider.device("noisy", wires=2))
    def circuit():
        qml.X(0)
        qml.AmplitudeDamping(0.3, wires=0)
        qml.CNOT([0, 1])
        qml.DepolarizingChannel(0.06, wires=1)
        return qml.expval(qml.Z(0)), qml.probs(wires=[0, 1])

    value, probabilities = circuit()
    reference = qml.QNode(circuit.func, qml.device("default.mixed", wires=2))

    np.testing.assert_allclose(value, -0.4, atol=1e-8)
    np.testing.assert_allclose(probabilities, reference()[1], atol=1e-8)


# One submission --------------------------------------------------------------------------------------------------------------


def test_a_gradient_is_one_submission(provider):
    device = provider.device("simulator", wires=3)

    slope = qml.grad(node(device, energy, 20_000, diff_method="parameter-shift"))(X)

    # The value's circuits, and then those of all shifts: three groups of words; 2 + 2 + 4 shifts.
    assert device.checkpoint_state()["calls"] == 2
    assert provider.bought(device) == [Bought(1, 20_000)] * (3 + 3 * 8)
    np.testing.assert_allclose(slope, qml.grad(node(qml.device("default.qubit"), energy))(X), atol=0.05)


def test_a_gradient_is_one_task_where_program_sets_are(provider):
    device = provider.device("qpu", wires=3)

    qml.grad(node(device, energy, 1000, diff_method="parameter-shift"))(X)

    assert provider.bought(device) == [Bought(3, 1000), Bought(24, 1000)]


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"set_circuits": 7}, [7, 7, 7, 3]),
        ({"set_circuits": 100, "set_shots": 5000}, [5, 5, 5, 5, 4]),
        ({"set_circuits": 100, "set_shots": 999}, [1] * 24),
        ({"set_circuits": 0}, [1] * 24),
    ],
    ids=["circuits", "shots", "not even one", "none"],
)
def test_program_sets_are_split_at_their_limits(provider, limits, sizes):
    device = provider.device("qpu", wires=3, manners={**limits, "seed": 5})
    whole = provider.device("qpu", wires=3, manners={"seed": 5})

    slopes = [qml.jacobian(node(d, energy, 1000, diff_method="parameter-shift"))(X) for d in (device, whole)]

    assert [task.circuits for task in provider.bought(device)][-len(sizes) :] == sizes
    np.testing.assert_array_equal(*slopes)


def test_results_come_in_the_order_of_the_circuits(provider):
    device = provider.device("simulator", wires=1, max_parallel=7, manners={"latency_s": 0.01})
    angles = np.linspace(0, np.pi, 25)
    tapes = [qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))]) for angle in angles]

    found = qml.execute(tapes, device, diff_method=None)

    np.testing.assert_allclose(found, np.cos(angles), atol=1e-9)
    assert len(provider.bought(device)) == 25


def test_tasks_in_flight_are_bounded_by_what_the_device_takes(provider):
    device = provider.device("simulator", wires=1, manners={"in_flight": 4, "latency_s": 0.02})
    tapes = [qml.tape.QuantumScript([qml.RX(0.1 * i, 0)], [qml.expval(qml.Z(0))]) for i in range(12)]

    found = qml.execute(tapes, device, diff_method=None)

    np.testing.assert_allclose(found, np.cos(0.1 * np.arange(12)), atol=1e-9)


def test_a_throttled_service_costs_nothing_but_time(provider):
    device = provider.device("simulator", wires=3, manners={"throttle": 2})

    np.testing.assert_allclose(node(device, energy)(X), exactly(energy), atol=1e-8)
    assert len(provider.bought(device)) == 1


# Shots -----------------------------------------------------------------------------------------------------------------------


def test_a_shot_vector_is_one_task_in_slices(provider):
    device = provider.device("qpu", wires=3)

    found = node(device, lambda: (qml.expval(qml.Z(0)), qml.sample(wires=[1])), (10, 20, 20))(X)

    assert provider.bought(device) == [Bought(1, 50)]
    assert [part[1].shape for part in found] == [(10, 1), (20, 1), (20, 1)]


def test_more_shots_than_the_device_takes_are_several_tasks(provider):
    device = provider.device("qpu", wires=3, manners={"max_shots": 400, "set_circuits": 0})

    bits = node(device, lambda: qml.sample(wires=[0, 1]), 1000)(X)

    assert bits.shape == (1000, 2)
    assert sorted(task.shots for task in provider.bought(device)) == [333, 333, 334]


def test_circuits_of_different_shots_are_kept_apart(provider):
    device = provider.device("qpu", wires=1)
    tapes = [qml.tape.QuantumScript([qml.X(0)], [qml.counts(wires=[0])], shots=shots) for shots in (10, 20, 10)]

    assert qml.execute(tapes, device, diff_method=None) == ({"1": 10}, {"1": 20}, {"1": 10})
    assert sorted((task.circuits, task.shots) for task in provider.bought(device)) == [(1, 20), (2, 10)]


# Gradients and interfaces ----------------------------------------------------------------------------------------------------


def slope():
    return qml.grad(node(qml.device("default.qubit"), energy))(X)


@pytest.mark.parametrize("method", ["best", "device", "adjoint"])
def test_the_devices_own_gradient_is_one_task_with_the_value(provider, method):
    device = provider.device("simulator", wires=3)

    with qml.Tracker(device) as tracker:
        found = qml.grad(node(device, energy, diff_method=method))(X)

    np.testing.assert_allclose(found, slope(), atol=1e-8)
    assert provider.bought(device) == [Bought(1, 0)]
    assert tracker.totals["derivatives"] == 1


def test_the_devices_own_gradient_knows_its_limits(provider):
    device = provider.device("simulator", wires=3)

    with pytest.raises(QuantumFunctionError, match=r"one expectation value.*parameter-shift"):
        qml.jacobian(node(device, lambda: qml.probs(wires=0), diff_method="adjoint"))(X)
    with pytest.raises(QuantumFunctionError, match=r"shots.*parameter-shift"):
        qml.grad(node(device, energy, 100, diff_method="adjoint"))(X)
    with pytest.raises(QuantumFunctionError, match="no derivatives of its own"):
        qml.grad(node(provider.device("noisy", wires=3), energy, diff_method="device"))(X)
    assert not provider.bought(device)


def test_coefficients_are_trained_as_well(provider):
    def value(x, c, device):
        @qml.qnode(device)
        def circuit():
            ansatz(x)
            return qml.expval(qml.Hamiltonian(c, [qml.Z(0), qml.X(2)]))

        return circuit()

    c = pnp.array([0.3, 0.7], requires_grad=True)
    found = qml.grad(value, argnums=(0, 1))(X, c, provider.device("simulator", wires=3))
    expected = qml.grad(value, argnums=(0, 1))(X, c, qml.device("default.qubit"))

    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-8)


@pytest.mark.parametrize("method", ["adjoint", "parameter-shift"])
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_jax_gets_values_and_gradients(provider, method, jitted, x64):
    both = jax.value_and_grad(node(provider.device("simulator", wires=3), energy, diff_method=method, interface="jax"))

    value, found = (jax.jit(both) if jitted else both)(jax.numpy.array(X))

    np.testing.assert_allclose(value, exactly(energy), atol=1e-8)
    np.testing.assert_allclose(found, slope(), atol=1e-8)


def test_torch_gets_values_and_gradients(provider, torch):
    x = torch.tensor(X.numpy(), requires_grad=True)

    value = node(provider.device("simulator", wires=3), energy, diff_method="parameter-shift", interface="torch")(x)
    value.backward()

    np.testing.assert_allclose(value.detach().numpy(), exactly(energy), atol=1e-8)
    np.testing.assert_allclose(x.grad.numpy(), slope(), atol=1e-8)


@pytest.mark.parametrize("shots", [None, 50])
def test_a_batch_is_one_submission(provider, shots):
    device = provider.device("qpu" if shots else "simulator", wires=1)

    @qml.set_shots(shots)
    @qml.qnode(device)
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0)), qml.probs(wires=0)

    value, probabilities = circuit(np.array([0.0, np.pi, 0.0]))

    np.testing.assert_allclose(value, [1, -1, 1], atol=1e-9)
    np.testing.assert_allclose(probabilities, [[1, 0], [0, 1], [1, 0]], atol=1e-9)
    assert device.checkpoint_state()["calls"] == 1
    assert provider.bought(device) == ([Bought(3, 50)] if shots else [Bought(1, 0)] * 3)


def test_a_mapped_and_jitted_circuit_is_one_submission(provider):
    device = provider.device("qpu", wires=1)
    circuit = jax.jit(jax.vmap(qml.set_shots(qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], device), 20)))

    np.testing.assert_allclose(circuit(jax.numpy.array([0.0, np.pi, 0.0, np.pi])), [1, -1, 1, -1], atol=1e-6)
    assert provider.bought(device) == [Bought(4, 20)]


def test_a_mapped_circuit_needs_no_jit_and_has_derivatives(provider):
    device = provider.device("simulator", wires=1)
    circuit = jax.vmap(qml.QNode(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1], device, diff_method="parameter-shift"))
    angles = jax.numpy.array([0.0, 0.3, np.pi])

    np.testing.assert_allclose(circuit(angles), np.cos(angles), atol=1e-6)
    assert device.checkpoint_state()["calls"] == 1
    np.testing.assert_allclose(jax.grad(lambda x: circuit(x).sum())(angles), -np.sin(angles), atol=1e-6)


def test_second_derivatives_come_from_shifts(provider):
    def value(x, device):
        return node(device, energy, diff_method="parameter-shift", max_diff=2)(x)

    curvature = qml.jacobian(qml.grad(value))

    np.testing.assert_allclose(curvature(X, provider.device("simulator", wires=3)), curvature(X, qml.device("default.qubit")), atol=1e-8)


# Measurements in the middle --------------------------------------------------------------------------------------------------


def teleported(device, shots, **options):
    @qml.set_shots(shots)
    @qml.qnode(device, **options)
    def circuit():
        qml.RY(0.8, 0)
        qml.Hadamard(1)
        qml.CNOT([1, 2])
        qml.CNOT([0, 1])
        qml.Hadamard(0)
        first, second = qml.measure(0), qml.measure(1)
        qml.cond(second, qml.X)(2)
        qml.cond(first, qml.Z)(2)
        return qml.expval(qml.Z(2))

    return circuit()


@pytest.mark.parametrize(("manners", "wires"), [({"mid_circuit": True}, 3), ({"mid_circuit": False}, 5)], ids=["device", "deferred"])
def test_a_state_is_teleported(provider, manners, wires):
    found = teleported(provider.device("qpu", wires=wires, manners=manners), 4000)

    assert abs(found - np.cos(0.8)) < 5 / np.sqrt(4000)


def test_what_cannot_be_measured_in_the_middle_is_refused(provider):
    device = provider.device("qpu", wires=3, manners={"mid_circuit": False})

    def reset():
        qml.Hadamard(0)
        qml.measure(0, reset=True)
        return qml.probs(wires=[0, 1, 2])

    def selected():
        qml.Hadamard(0)
        qml.measure(0, postselect=1)
        return qml.probs(wires=1)

    with pytest.raises(DeviceError, match="cannot measure in the middle of a circuit; use mcm_method='deferred'"):
        teleported(device, 100, mcm_method="device")
    with pytest.raises(DeviceError, match="'one-shot'; it has 'device' and 'deferred'"):
        teleported(device, 100, mcm_method="one-shot")
    with pytest.raises(DeviceError, match="takes 1 more wires than the device's 3"):
        qml.set_shots(qml.QNode(reset, device), 10)()
    with pytest.raises(DeviceError, match="cannot select outcomes"):
        qml.set_shots(qml.QNode(selected, device), 10)()
    assert not provider.bought(device)


@pytest.mark.parametrize("shots", [None, 4000])
def test_outcomes_in_the_middle_are_measured_as_they_come_out_deferred(provider, shots):
    """With one wire whose outcome is wanted and whose last state is measured in another basis, and one that is measured twice."""

    def circuit():
        qml.Hadamard(0)
        qml.RY(0.8, 1)
        first, second = qml.measure(0), qml.measure(1)
        qml.cond(first, qml.X)(1)
        third = qml.measure(1)
        return qml.expval(2 * first + second * third), qml.probs(op=[first, second, third]), qml.var(second), qml.expval(qml.X(0))

    on = lambda device: qml.set_shots(qml.QNode(circuit, device), shots)()  # noqa: E731
    found = on(provider.device("simulator" if shots is None else "qpu", wires=5))

    expected = on(qml.device("hybridjobs.qubit", wires=5, seed=1))
    np.testing.assert_allclose(flat(found), flat(expected), atol=1e-8 if shots is None else 10 / np.sqrt(shots))


def test_circuits_that_were_not_prepared_are_refused(provider):
    device = provider.device("qpu", wires=1)
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))], shots=10)

    with pytest.raises(DeviceError, match="come out of preprocess_transforms"):
        device.execute([tape])

    assert not provider.bought(device)


# Verbatim --------------------------------------------------------------------------------------------------------------------


def native(wires, gate=qml.CZ):
    def circuit():
        qml.RX(0.4, wires[0])
        qml.RX(0.7, wires[1])
        gate(wires)
        return qml.probs(wires=wires)

    return circuit


def test_verbatim_runs_native_gates_on_the_qubits_that_are_named(provider):
    found = qml.set_shots(qml.QNode(native([3, 2]), provider.device("qpu", verbatim=True)), 4000)()
    expected = qml.QNode(native([3, 2]), qml.device("default.qubit"))()

    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(4000))


def test_verbatim_refuses_all_that_is_not_native_at_once(provider):
    device = provider.device("qpu", verbatim=True)

    with pytest.raises(DeviceError) as caught:
        qml.set_shots(qml.QNode(native([3, 5], qml.CNOT), device), 100)()
    with pytest.raises(DeviceError, match=r"physical qubits, and .* has no \[77\]"):
        qml.set_shots(qml.QNode(native([3, 77]), device), 100)()
    with pytest.raises(DeviceError, match="no native gates"):
        qml.QNode(native([0, 1]), provider.device("simulator", verbatim=True))()

    assert "does not connect qubits 3 and 5" in str(caught.value)
    assert "no native gate CNOT" in str(caught.value)
    assert not provider.bought(device)


# Bad input -------------------------------------------------------------------------------------------------------------------


def test_all_complaints_come_at_once_and_nothing_is_bought(provider):
    device = provider.device("qpu", wires=50, manners={"min_shots": 10})
    strange = qml.tape.QuantumScript([qml.AmplitudeDamping(0.1, 0), qml.X(1)], [qml.expval(qml.Z(0))], shots=3)
    other = qml.tape.QuantumScript([qml.QutritUnitary(np.eye(3), wires=1)], [qml.expval(qml.Z(0))], shots=100)

    with pytest.raises(DeviceError) as caught:
        qml.execute([strange, other], device, diff_method=None)

    for part in ("50 wires", "8 qubits", "no noise channel AmplitudeDamping", "3 shots are fewer", "no gate QutritUnitary", "CNOT"):
        assert part in str(caught.value), part
    assert not provider.bought(device)


@pytest.mark.parametrize(
    ("kind", "measure", "shots", "text"),
    [
        ("qpu", energy, None, "runs with shots only"),
        ("qpu", qml.state, 10, "is not accepted with finite shots; supported are expval, var, probs, sample, counts"),
        ("qpu", lambda: qml.classical_shadow(wires=[0]), 10, "is not accepted with finite shots"),
        ("simulator", lambda: qml.vn_entropy(wires=[0]), None, "is not accepted without shots; supported are DensityMatrix, Expectation"),
        ("simulator", lambda: qml.sample(wires=[0]), None, "without shots"),
        ("qpu", lambda: qml.var(qml.X(0) + qml.Z(0)), 10, "only the expectation value of a sum"),
        ("simulator", lambda: qml.expval(qml.Z(7)), None, "7"),
    ],
)
def test_what_cannot_be_measured_is_named_with_what_can(provider, kind, measure, shots, text):
    device = provider.device(kind, wires=3)

    with pytest.raises(Exception, match=text):
        node(device, measure, shots)(X)
    assert not provider.bought(device)


def test_angles_that_are_no_numbers_are_not_bought(provider):
    device = provider.device("qpu", wires=3)

    with pytest.raises(DeviceError, match="not finite"):
        node(device, energy, 10)(np.array([np.nan, 0.1, 0.2]))
    assert not provider.bought(device)


def test_options_that_make_no_sense_are_all_named(provider):
    with pytest.raises(DeviceError) as caught:
        provider.device(
            "qpu", wires=-1, on_offline="sulk", on_failure="cry", max_parallel=0, poll_interval_s=0, timeout_s=-1, tags={"a": 1}, verbatim=3
        )

    for name in ("wires", "on_offline", "on_failure", "max_parallel", "poll_interval_s", "timeout_s", "tags", "verbatim"):
        assert name in str(caught.value), name


# Failures --------------------------------------------------------------------------------------------------------------------


def five(device):
    """Five tasks in one call."""
    tapes = [qml.tape.QuantumScript([qml.RX(0.1 * i, 0)], [qml.expval(qml.Z(0))]) for i in range(5)]
    return qml.execute(tapes, device, diff_method=None)


def test_a_failed_task_says_why_and_the_others_are_cancelled(provider):
    device = provider.device("simulator", wires=1, max_parallel=1, manners={"fails": (1,), "latency_s": 0.01})

    with pytest.raises(TaskFailed, match=r"task .* failed: ") as caught:
        five(device)

    assert caught.value.task_id == device.last_tasks[1].task_id
    assert [task.state for task in device.last_tasks] == ["completed", "failed", "waiting", "waiting", "waiting"]
    assert len(provider.bought(device)) == 2


def test_what_is_in_flight_is_cancelled_when_one_fails(provider):
    device = provider.device("simulator", wires=1, manners={"fails": (0,), "latency_s": 0.2, "at_once": 1})

    with pytest.raises(TaskFailed):
        five(device)

    states = [provider.state(device, task.task_id) for task in device.last_tasks if task.task_id]
    assert states.count("cancelled") == 4


def test_a_failed_task_need_not_stop_the_others(provider, account):
    device = provider.device("simulator", wires=1, on_failure="continue", manners={"fails": (1,)})

    with pytest.raises(TaskFailed, match="1 failed"):
        five(device)

    assert sorted(task.state for task in device.last_tasks) == ["completed"] * 4 + ["failed"]
    assert sorted(entry.state for entry in account.ledger.entries()) == ["completed"] * 4 + ["failed"]


def test_a_failed_task_is_bought_anew_when_the_job_is_resumed(provider):
    device = provider.device("simulator", wires=1, on_failure="continue", manners={"fails": (1,)})
    with pytest.raises(TaskFailed):
        five(device)

    device.restore_state({"calls": 0})  # as a resumed job does
    found = five(device)

    np.testing.assert_allclose(found, np.cos(0.1 * np.arange(5)), atol=1e-9)
    assert len(provider.bought(device)) == 6


def test_who_tries_again_after_a_failure_buys_only_what_failed(provider):
    device = provider.device("simulator", wires=1, on_failure="continue", manners={"fails": (1,)})
    with pytest.raises(TaskFailed):
        five(device)

    np.testing.assert_allclose(five(device), np.cos(0.1 * np.arange(5)), atol=1e-9)
    assert len(provider.bought(device)) == 6


def test_a_cancelled_task_is_never_submitted_again(provider):
    device = provider.device("simulator", wires=1, manners={"cancels": (0,)})

    for _ in range(2):
        with pytest.raises(TaskCancelled, match="not submitted again"):
            five(device)
        device.restore_state({"calls": 0})

    assert len(provider.bought(device)) <= 5


def test_a_lost_reply_never_buys_twice(provider):
    device = provider.device("simulator", wires=1, manners={"loses": (1, 3)})

    with pytest.raises(ProviderError):
        five(device)
    found = five(device)

    np.testing.assert_allclose(found, np.cos(0.1 * np.arange(5)), atol=1e-9)
    assert len(provider.bought(device)) == 5


def test_time_that_is_over_loses_nothing(provider):
    device = provider.device("simulator", wires=1, timeout_s=0.05, manners={"latency_s": 0.4})

    with pytest.raises(ResultNotReady, match=r"5 of 5 tasks.*go on"):
        five(device)
    device.policy = replace(device.policy, timeout_s=None)
    found = five(device)

    np.testing.assert_allclose(found, np.cos(0.1 * np.arange(5)), atol=1e-9)
    assert len(provider.bought(device)) == 5
    assert all(task.from_journal for task in device.last_tasks)


def test_an_interrupt_leaves_tasks_running_and_the_same_call_collects_them(provider):
    device = provider.device("simulator", wires=1, manners={"latency_s": 0.6})

    timer = threading.Timer(0.25, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        five(device)
    bought = len(provider.bought(device))
    np.testing.assert_allclose(five(device), np.cos(0.1 * np.arange(5)), atol=1e-9)

    assert bought == len(provider.bought(device)) == 5


# Offline ---------------------------------------------------------------------------------------------------------------------


def test_an_offline_device_stops_with_a_word(provider, account):
    device = provider.device("simulator", wires=1, manners={"offline_s": 60.0})

    with qml.Tracker(device) as tracker, pytest.raises(DeviceOffline, match="offline") as caught:
        five(device)

    assert not provider.bought(device)
    assert account.cost().tasks == 0
    assert "tasks" not in tracker.totals
    assert {task.cost_usd for task in device.last_tasks} == {0}
    assert "on_offline='wait'" in caught.value.__notes__[0]


def test_an_offline_device_is_waited_for(provider):
    device = provider.device("simulator", wires=1, on_offline="wait", manners={"offline_s": 0.3})

    np.testing.assert_allclose(five(device), np.cos(0.1 * np.arange(5)), atol=1e-9)


def test_another_device_steps_in_and_results_say_so(provider, account, capsys):
    fallback = provider.online("noisy")
    device = provider.device("simulator", wires=1, on_offline=f"fallback:{fallback}", manners={"offline_s": 60.0})

    with qml.Tracker(device) as tracker:
        found = five(device)
    assert tracker.totals["tasks"] == 5
    device.restore_state({"calls": 0})
    again = five(device)

    np.testing.assert_allclose(found, again)
    assert {task.target for task in device.last_tasks} == {fallback}
    assert all(task.from_journal for task in device.last_tasks)
    assert "offline" in capsys.readouterr().err
    assert account.cost().tasks == 5


# Money -----------------------------------------------------------------------------------------------------------------------


def limited(account, **limits):
    return accounts.activate(Account("the test", account.ledger, Budget(**limits), namespace="limited"))


@pytest.mark.parametrize("limits", [{"max_usd": 1.49}, {"max_tasks": 4}, {"max_shots": 499}, {"max_usd": 0}], ids=str)
def test_nothing_is_submitted_when_any_part_does_not_fit(provider, account, limits):
    device = provider.device("qpu", wires=1, manners={"task_usd": 0.3, "set_circuits": 0})
    tapes = [qml.tape.QuantumScript([qml.RX(0.1 * i, 0)], [qml.expval(qml.Z(0))], shots=100) for i in range(5)]

    with limited(account, **limits), pytest.raises(BudgetExceeded, match="nothing was submitted"):
        qml.execute(tapes, device, diff_method=None)

    assert not provider.bought(device)
    assert account.cost().tasks == 0


def test_what_was_spent_is_in_the_account_in_the_session_and_in_the_tracker(provider, account):
    session = Session("scan", tags={"who": "us"}, budget=Budget(max_tasks=2))
    device = provider.device("qpu", wires=3, session=session, manners={"task_usd": 0.3, "shot_usd": 0.001})
    circuit = node(device, energy, 100)

    with qml.Tracker(device) as tracker:
        circuit(X)
        circuit(X)
    with pytest.raises(BudgetExceeded, match="session 'scan'"):
        circuit(X)

    assert float(account.cost()) == pytest.approx(2 * (0.3 + 0.3))
    assert session.cost.tasks == 2
    assert tracker.totals["executions"] == 6
    assert tracker.totals["shots"] == 600
    assert tracker.totals["batches"] == 2
    assert tracker.totals["tasks"] == 2
    assert tracker.totals["cost_usd"] == pytest.approx(1.2)
    assert tracker.history["task_id"] == [entry.task_id for entry in account.ledger.entries()]
    assert tracker.history["device"] == [provider.target("qpu")] * 2


def test_an_unknown_price_is_not_nothing(provider, account):
    device = provider.device("qpu", wires=1, manners={"priced": False})

    with limited(account, max_usd=100), pytest.raises(BudgetExceeded, match=r"price .* is not known"):
        five_with_shots(device)
    with limited(account, max_tasks=100):
        five_with_shots(device)

    assert account.cost().unknown_tasks == 1


def five_with_shots(device):
    return qml.execute(
        [qml.tape.QuantumScript([qml.RX(0.1 * i, 0)], [qml.expval(qml.Z(0))], shots=100) for i in range(5)], device, diff_method=None
    )


# The journal -----------------------------------------------------------------------------------------------------------------


def test_the_same_work_of_the_same_job_is_bought_once(provider):
    device = provider.device("simulator", wires=3)
    before = device.checkpoint_state()

    first = [node(device, energy, 50)(X) for _ in range(2)]
    device.restore_state(before)
    second = [node(device, energy, 50)(X) for _ in range(2)]
    other = node(device, energy, 50)(X)

    assert first == second
    assert len(provider.bought(device)) == 3 * 3
    assert other not in (None, *first) or other != first[0]


def test_other_circuits_in_the_place_of_those_that_were_bought_are_other_purchases(provider):
    device = provider.device("simulator", wires=3)
    node(device, energy)(X)

    device.restore_state({"calls": 0})
    changed = node(device, energy)(X + 0.1)

    np.testing.assert_allclose(changed, node(qml.device("default.qubit"), energy)(X + 0.1), atol=1e-8)


def test_threads_share_a_device(provider):
    device = provider.device("simulator", wires=1)
    found = {}

    def work(i):
        found[i] = qml.execute([qml.tape.QuantumScript([qml.RX(0.1 * i, 0)], [qml.expval(qml.Z(0))])], device, diff_method=None)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    np.testing.assert_allclose([found[i] for i in range(8)], np.cos(0.1 * np.arange(8)), atol=1e-9)
    assert device.checkpoint_state()["calls"] == 8


def test_a_device_travels(provider):
    device = pickle.loads(pickle.dumps(provider.device("qpu", wires=["a", "b"], session=Session("s"), on_failure="continue")))

    assert device.target == provider.target("qpu")
    assert list(device.wires) == ["a", "b"]
    assert (device.session.name, device.policy.on_failure) == ("s", "continue")
