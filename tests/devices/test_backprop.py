"""Derivatives by the array engine, of any measurement by any input and to any order, beside default.qubit and finite differences."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.exceptions import DeviceError, QuantumFunctionError

from pl_hybridjobs.sim import xla

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

OURS, THEIRS = "hybridjobs.qubit", "default.qubit"
POINT = np.array([0.4, -0.7])
RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def all_in_double_precision(x64):
    """JAX's numbers too."""


def node(function, name=OURS, wires=3, **options):
    device = {key: options.pop(key) for key in ("c_dtype",) if key in options}
    return qml.QNode(function, qml.device(name, wires=wires, **device), **options)


def differences(function, at=POINT, step=1e-6):
    """The Jacobian of values of default.qubit, shape (..., parameters)."""
    run = node(function, THEIRS, diff_method=None)
    ends = [[np.real(run(at + sign * step * axis)) for sign in (1, -1)] for axis in np.eye(len(at))]
    return np.stack([(plus - minus) / (2 * step) for plus, minus in ends], axis=-1)


def jacobian(interface, function, at=POINT):
    def real(x):
        return qml.math.real(function(x))

    if interface == "autograd":
        return qml.jacobian(real)(pnp.array(at, requires_grad=True))
    if interface == "jax":
        return jax.jit(jax.jacobian(real))(jnp.asarray(at))
    torch = pytest.importorskip("torch")
    return torch.autograd.functional.jacobian(real, torch.tensor(at)).numpy()


def gates(x):
    qml.RX(x[0], wires=0)
    qml.CRY(x[1], wires=[0, 2])
    qml.IsingXY(x[0] * x[1], wires=[2, 1])
    qml.ctrl(qml.RY(x[1], wires=1), control=[2], control_values=[0])
    qml.PauliRot(x[1], "XZ", wires=[0, 1])


SPARSE = (qml.Z(0) @ qml.X(2)).sparse_matrix(wire_order=range(3))
MEASUREMENTS = {
    "probs": lambda: qml.probs(wires=[2, 0]),
    "state": qml.state,
    "density_matrix": lambda: qml.density_matrix([2, 1]),
    "vn_entropy": lambda: qml.vn_entropy([0]),
    "mutual_info": lambda: qml.mutual_info([0], [2]),
    "purity": lambda: qml.purity([0, 1]),
    "variance of a word": lambda: qml.var(qml.Z(0) @ qml.Y(2)),
    "variance of a sum": lambda: qml.var(qml.Z(0) + 0.3 * qml.X(1) @ qml.Y(2)),
    "Hermitian": lambda: qml.expval(qml.Hermitian(np.array([[1.0, 2j], [-2j, -1.0]]), 1)),
    "Projector": lambda: qml.expval(qml.Projector([1, 0], wires=[0, 2])),
    "SparseHamiltonian": lambda: qml.expval(qml.SparseHamiltonian(SPARSE, wires=range(3))),
    "Hamiltonian": lambda: qml.expval(qml.Hamiltonian([0.2, -1.0, 0.5], [qml.X(0), qml.Y(1) @ qml.Z(2), qml.Identity(1)])),
}


def measured(*names):
    def circuit(x):
        gates(x)
        found = tuple(MEASUREMENTS[name]() for name in names)
        return found[0] if len(found) == 1 else found

    return circuit


@pytest.mark.parametrize("interface", ["autograd", "torch"])
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_has_its_jacobian(name, interface):
    found = jacobian(interface, node(measured(name), diff_method="backprop"))

    assert np.allclose(found, differences(measured(name)), atol=1e-8)


def test_all_measurements_have_their_jacobians_under_jit():
    def flat(values):
        return qml.math.concatenate([qml.math.reshape(qml.math.real(value), (-1,)) for value in values])

    circuit = node(measured(*MEASUREMENTS))
    found = jax.jit(jax.jacobian(lambda x: flat(circuit(x))))(jnp.asarray(POINT))
    expected = np.concatenate([differences(measured(name)).reshape(-1, 2) for name in MEASUREMENTS])

    assert np.allclose(found, expected, atol=1e-8)


def unitary(x):
    cosine, sine = qml.math.cos(x[0]), qml.math.sin(x[0])
    return qml.math.stack([qml.math.stack([cosine, -sine]), qml.math.stack([sine, cosine])])


def by_unitaries(x):
    qml.Hadamard(1)
    qml.QubitUnitary(unitary(x), wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT([0, 1])
    qml.adjoint(qml.QubitUnitary)(unitary(x), wires=1)
    qml.DiagonalQubitUnitary(qml.math.exp(1j * qml.math.stack([x[0], x[1], 0 * x[0], x[0] * x[1]])), wires=[1, 0])
    return qml.expval(qml.X(0) @ qml.Y(1) + qml.Z(1))


def by_controlled_unitaries(x):
    qml.RY(x[1], wires=0)
    qml.ctrl(qml.QubitUnitary(unitary(x), wires=1), control=0, control_values=[0])
    qml.ControlledQubitUnitary(unitary(x), wires=[0, 2])
    return qml.expval(qml.X(0) @ qml.Z(1) @ qml.Z(2))


def by_a_state(x):
    qml.StatePrep(qml.math.stack([x[0], x[1], 1 + x[0] * x[0], x[1] * x[0]]), wires=[1, 0], normalize=True)
    qml.RX(x[1], wires=0)
    return qml.expval(qml.Z(0) @ qml.Y(1) + qml.X(1))


def by_blocks(x):
    qml.BlockEncode(0.3 * qml.math.reshape(qml.math.stack([x[0], x[1], x[1], x[0]]), (2, 2)), wires=[0, 1])
    return qml.expval(qml.X(1) @ qml.Z(0))


def by_postselection(x):
    qml.RX(x[0], wires=0)
    qml.CRY(x[1], wires=[0, 1])
    qml.measure(0, postselect=1)
    qml.RX(x[1] * x[0], wires=1)
    return qml.expval(qml.Z(1))


def by_a_chain(x):
    """Its variance has a gradient that is not a number on default.mixed."""
    qml.RY(x[0], wires=0)
    qml.CNOT([0, 1])
    qml.CNOT([1, 2])
    qml.RX(x[1], wires=2)
    return qml.var(qml.Z(0) @ qml.Z(2))


INPUTS = [by_unitaries, by_controlled_unitaries, by_a_state, by_blocks, by_postselection, by_a_chain]
#: PennyLane makes these operators without a derivative on any device: an error under autograd for the first, a zero under torch for the second.
PENNYLANES_LIMITS = {("autograd", by_controlled_unitaries), ("torch", by_blocks)}


WITH_DERIVATIVES = [(i, c) for i in ("autograd", "torch", "jax") for c in INPUTS if (i, c) not in PENNYLANES_LIMITS]


@pytest.mark.parametrize(("interface", "circuit"), WITH_DERIVATIVES)
def test_an_input_has_its_jacobian(circuit, interface):
    found = jacobian(interface, node(circuit, diff_method="best" if interface == "jax" else "backprop"))

    assert np.allclose(found, differences(circuit), atol=1e-8)


# Higher derivatives -----------------------------------------------------------------------------------------------------------


def energy(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.X(2) + 0.4 * qml.Y(1) - 0.1 * qml.Z(2))


def expected_hessian(circuit):
    return qml.jacobian(qml.grad(node(circuit, THEIRS, diff_method="backprop")))(pnp.array(POINT, requires_grad=True))


@pytest.mark.parametrize("circuit", [energy, by_a_chain], ids=["value", "variance"])
@pytest.mark.parametrize("interface", ["autograd", "torch", "jax"])
def test_second_derivatives_are_those_of_default_qubit(interface, circuit):
    run = node(circuit, diff_method="backprop")
    if interface == "autograd":
        found = qml.jacobian(qml.grad(run))(pnp.array(POINT, requires_grad=True))
    elif interface == "torch":
        torch = pytest.importorskip("torch")
        found = torch.autograd.functional.hessian(run, torch.tensor(POINT)).numpy()
    else:
        found = jax.jit(jax.hessian(run))(jnp.asarray(POINT))

    assert np.allclose(found, expected_hessian(circuit), atol=1e-10)


@pytest.mark.parametrize(
    ("method", "order"), [("adjoint", 1), ("adjoint", 2), ("parameter-shift", 1), ("parameter-shift", 2), ("finite-diff", 1)]
)
def test_a_hessian_under_jax_is_right_by_every_method(method, order):
    found = jax.hessian(node(energy, diff_method=method, max_diff=order))(jnp.asarray(POINT))

    assert np.allclose(found, expected_hessian(energy), atol=1e-4 if method == "finite-diff" else 1e-10)


@pytest.mark.parametrize("interface", ["autograd", "jax"])
def test_third_derivatives_are_right(interface):
    run = node(lambda x: (qml.RX(x, 0), qml.CNOT([0, 1]), qml.CRZ(0.3 * x, [1, 0]), qml.expval(qml.Z(1)))[-1], diff_method="backprop")
    if interface == "autograd":
        found = qml.grad(qml.grad(qml.grad(run)))(pnp.array(0.7, requires_grad=True))
    else:
        found = jax.grad(jax.grad(jax.jacfwd(run)))(0.7)

    assert np.isclose(found, np.sin(0.7), atol=1e-10)


def test_maps_of_shift_rules_need_no_jit():
    points = jnp.stack([jnp.asarray(POINT), jnp.asarray(POINT) + 1])
    found = jax.vmap(jax.grad(node(energy, diff_method="parameter-shift")))(points)

    assert np.allclose(found, [differences(energy, np.asarray(p)) for p in points], atol=1e-8)


def test_the_metric_tensor_is_that_of_default_qubit():
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=0)
        qml.CNOT([0, 1])
        qml.RZ(x[0], wires=1)
        return qml.expval(qml.Z(0) @ qml.X(1))

    # Only by autograd: PennyLane 0.45's metric tensor does not run under jax 0.10, on any device.
    at = pnp.array(POINT, requires_grad=True)
    found, expected = (qml.metric_tensor(node(circuit, name, diff_method="backprop"))(at) for name in (OURS, THEIRS))

    assert np.allclose(found, expected, atol=1e-10)


# Coefficients -----------------------------------------------------------------------------------------------------------------

COEFFICIENTS = np.array([0.3, -0.8, 0.5])


def hamiltonian(c, x):
    gates([x, 0.3])
    return qml.expval(qml.Hamiltonian(c, [qml.Z(0), qml.Y(1) @ qml.Y(0), qml.X(2)]))


def scaled(c, x):
    gates([x, 0.3])
    return qml.expval(qml.sum(qml.s_prod(c[0], qml.Z(0)), qml.s_prod(c[1], qml.Y(1) @ qml.Y(0)), qml.s_prod(c[2], qml.X(2))))


@pytest.mark.parametrize(
    ("method", "circuit"), [*((m, hamiltonian) for m in ("best", "adjoint", "backprop", "parameter-shift")), ("best", scaled)]
)
def test_coefficients_have_their_gradients(method, circuit, torch):
    expected = differences(lambda v: circuit(v[:3], v[3]), np.array([*COEFFICIENTS, 0.7]))
    run = node(circuit, diff_method=method)
    found = [qml.grad(run)(pnp.array(COEFFICIENTS, requires_grad=True), pnp.array(0.7, requires_grad=True))]
    c, x = torch.tensor(COEFFICIENTS, requires_grad=True), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    run(c, x).backward()
    found.append((c.grad, x.grad))
    compiled = jax.jit if method == "best" else lambda f: f
    found.append(compiled(jax.grad(run, argnums=(0, 1)))(jnp.asarray(COEFFICIENTS), jnp.asarray(0.7)))

    for by_coefficients, by_angle in found:
        assert np.allclose([*by_coefficients, by_angle], expected, atol=1e-8)


def test_the_variance_has_a_gradient_by_coefficients():
    def circuit(c):
        gates(POINT)
        return qml.var(qml.Hamiltonian(c, [qml.Z(0), qml.Y(1) @ qml.Y(0), qml.X(2)]))

    found = qml.grad(node(circuit, diff_method="backprop"))(pnp.array(COEFFICIENTS, requires_grad=True))
    assert np.allclose(found, differences(circuit, COEFFICIENTS), atol=1e-8)


# Batches, postselection, devices ----------------------------------------------------------------------------------------------

MATRICES = np.stack([np.linalg.qr(RNG.normal(size=(4, 4)) + 1j * RNG.normal(size=(4, 4)))[0] for _ in range(3)])


def batched(x, matrices=MATRICES):
    qml.Hadamard(0)
    qml.QubitUnitary(matrices, wires=[0, 2])
    qml.RX(x[0], wires=0)
    return qml.expval(qml.Z(0) @ qml.X(2)), qml.probs(wires=[2])


def batched_value(x, matrices=MATRICES):
    qml.Hadamard(0)
    qml.QubitUnitary(matrices, wires=[0, 2])
    qml.CRX(x[0], wires=[0, 2])
    qml.RY(x[1], wires=0)
    return qml.expval(qml.Z(0) @ qml.X(2))


@pytest.mark.parametrize("c_dtype", [np.complex128, np.complex64])
def test_a_batch_of_matrices_is_a_loop(c_dtype):
    run = node(batched, c_dtype=c_dtype)
    values, probs = run(POINT)

    for matrix, value, prob in zip(MATRICES, values, probs, strict=True):
        alone = node(batched, THEIRS)(POINT, matrix)
        assert np.allclose(value, alone[0], atol=1e-6)
        assert np.allclose(prob, alone[1], atol=1e-6)


def test_a_batch_of_states_is_a_loop():
    vectors = RNG.normal(size=(3, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def circuit(vectors, x):
        qml.StatePrep(vectors, wires=[0, 2])
        qml.RX(x, wires=2)
        return qml.expval(qml.Z(0) @ qml.Y(2))

    expected = [node(circuit, THEIRS)(v, 0.3) for v in vectors]
    assert np.allclose(node(circuit)(vectors, 0.3), expected)
    assert np.allclose(node(circuit, diff_method="backprop")(vectors, 0.3), expected)
    assert np.allclose(jax.jit(node(circuit))(jnp.asarray(vectors), 0.3), expected)


@pytest.mark.parametrize("interface", ["autograd", "torch"])
def test_a_batch_of_matrices_has_its_jacobian(interface):
    found = jacobian(interface, node(batched_value, diff_method="backprop"))

    expected = [differences(lambda x, m=m: batched_value(x, m)) for m in MATRICES]
    assert np.allclose(found, expected, atol=1e-8)


def test_postselection_is_never_differentiated_by_adjoint():
    x = pnp.array(POINT, requires_grad=True)

    assert np.allclose(qml.grad(node(by_postselection, diff_method="best"))(x), differences(by_postselection), atol=1e-8)
    with pytest.raises((DeviceError, QuantumFunctionError), match="adjoint"):
        qml.grad(node(by_postselection, diff_method="adjoint"))(x)


def test_what_cannot_be_postselected_is_not_a_number():
    def circuit(x):
        qml.measure(0, postselect=1)
        qml.RX(x, wires=1)
        return qml.expval(qml.Z(1))

    assert np.isnan(node(circuit)(0.3))
    assert np.isnan(node(circuit, c_dtype=np.complex64)(0.3))
    assert np.isnan(jax.jit(node(circuit))(0.3))


@pytest.mark.parametrize(("mode", "expected"), [("hw-like", 1000 * np.sin(0.5) ** 2), ("fill-shots", 1000)])
def test_shots_are_left_as_hardware_would_leave_them_or_filled(mode, expected):
    def circuit():
        qml.RX(1.0, wires=0)
        qml.measure(0, postselect=1)
        return qml.sample(wires=0)

    samples = qml.set_shots(node(circuit, postselect_mode=mode, mcm_method="deferred"), 1000)()
    assert abs(len(samples) - expected) < (70 if mode == "hw-like" else 1)
    assert np.all(samples == 1)


def test_the_array_engine_runs_where_the_kernels_cannot(monkeypatch):
    def refused(_):
        raise AssertionError("the kernels were called")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(xla, "target", refused)
    found = jax.jit(jax.grad(node(energy)))(jnp.asarray(POINT))

    assert np.allclose(found, differences(energy), atol=1e-8)


def test_pennylane_simulates_nothing(monkeypatch, torch):
    expected = differences(by_postselection)

    def refused(*_, **__):
        raise AssertionError("PennyLane's simulation was called")

    for name in ("simulate", "get_final_state", "apply_operation"):
        monkeypatch.setattr(importlib.import_module("pennylane.devices.qubit.simulate"), name, refused)
    for interface in ("autograd", "torch", "jax"):
        assert np.allclose(jacobian(interface, node(by_postselection, diff_method="backprop")), expected, atol=1e-8)
    assert np.isfinite(node(by_postselection)(POINT))


def test_values_without_derivatives_are_arrays_of_the_interface():
    run = node(measured("probs"), diff_method="backprop")

    assert isinstance(run(pnp.array(POINT)), pnp.tensor)
    assert isinstance(run(jnp.asarray(POINT)), jax.Array)
    assert np.allclose(run(jnp.asarray(POINT)), node(measured("probs"), THEIRS)(POINT), atol=1e-12)


def test_single_precision_is_near(torch):
    exact = differences(measured("probs"))

    for interface in ("autograd", "torch", "jax"):
        found = jacobian(interface, node(measured("probs"), diff_method="backprop", c_dtype=np.complex64))
        assert np.allclose(found, exact, atol=1e-5)


def test_the_purity_of_many_wires_and_its_gradient_are_right():
    """default.qubit traces out wires wrongly from 13 wires on."""

    def circuit(x):
        qml.RY(x, 0)
        for wire in range(12):
            qml.CNOT([wire, wire + 1])
        return qml.purity(wires=[5])

    x = pnp.array(0.7, requires_grad=True)
    found = node(circuit, wires=13, diff_method="backprop")

    assert np.isclose(found(x), 1 - np.sin(x) ** 2 / 2)
    assert np.isclose(node(circuit, wires=13, diff_method=None)(float(x)), 1 - np.sin(x) ** 2 / 2)
    assert np.isclose(qml.grad(found)(x), -np.sin(x) * np.cos(x))


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")  # autograd's, where a real vector becomes a complex state
def test_a_trained_state_with_zeros_has_its_gradient_by_the_best_method():
    def circuit(v):
        qml.AmplitudeEmbedding(v, wires=[0, 1], normalize=True)
        qml.RX(0.3, 0)
        return qml.expval(qml.Z(0) @ qml.X(1))

    v = pnp.array([0.3, 0.4, 0.0, 0.0], requires_grad=True)
    assert np.allclose(qml.grad(node(circuit, wires=2))(v), qml.grad(node(circuit, THEIRS, wires=2))(v))


def test_a_state_that_is_not_trained_is_prepared_without_gates():
    state = np.random.default_rng(0).normal(size=2**12)

    def circuit(x):
        qml.StatePrep(state / np.linalg.norm(state), wires=range(12))
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    run = node(circuit, wires=12)
    tape = qml.workflow.construct_tape(run, level="device")(pnp.array(0.3, requires_grad=True))
    assert [op.name for op in tape.operations] == ["StatePrep", "RX"]
    assert np.isclose(
        qml.grad(run)(pnp.array(0.3, requires_grad=True)), qml.grad(node(circuit, THEIRS, wires=12))(pnp.array(0.3, requires_grad=True))
    )
