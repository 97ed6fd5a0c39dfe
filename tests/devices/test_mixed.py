"""hybridjobs.mixed beside default.mixed: values, derivatives, measurements, samples, over interfaces."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.devices import ExecutionConfig
from pennylane.exceptions import DeviceError, QuantumFunctionError, WireError

from pl_hybridjobs.errors import SimulationError

pytestmark = [
    # PennyLane asks JAX something that JAX will not answer much longer.
    pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning"),
    # Its Kraus matrices of a Pauli error with Y, and its gradients of channels by autograd, lose an imaginary part that is 0.
    pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning"),
]

OURS, THEIRS = "hybridjobs.mixed", "default.mixed"
RNG = np.random.default_rng(5)
WEIGHTS, ANGLE, GAMMA = RNG.normal(size=(1, 3, 3)), 0.4, 0.15
KRAUS = qml.AmplitudeDamping(0.2, 0).kraus_matrices()
HERMITIAN = np.array([[1.0, 2j], [-2j, -1.0]])
SPARSE = (qml.Z(0) @ qml.X(2)).sparse_matrix(wire_order=range(3))


def gates(weights=WEIGHTS, angle=ANGLE, gamma=GAMMA):
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    qml.AmplitudeDamping(gamma, 0)
    qml.IsingXX(angle, [0, 2])
    qml.PauliError("XYZ", 0.2, wires=[2, 0, 1])
    qml.ThermalRelaxationError(0.1, 1.1, 1.2, 0.3, wires=1)
    qml.QubitChannel(KRAUS, 2)
    qml.GeneralizedAmplitudeDamping(gamma, 0.3, 1)
    qml.CRY(angle, [1, 0])
    qml.DepolarizingChannel(0.1, 2)


def energies(weights, angle, gamma):
    gates(weights, angle, gamma)
    return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2) + 0.3 * qml.Z(1) - 0.1 * qml.Identity(0))


def node(function, name=OURS, wires=3, shots=None, **options):
    device = {key: options.pop(key) for key in ("seed", "c_dtype", "readout_prob") if key in options}
    circuit = qml.QNode(function, qml.device(name, wires=wires, **device), **options)
    return qml.set_shots(circuit, shots) if shots else circuit


def trainable():
    return [pnp.array(value, requires_grad=True) for value in (WEIGHTS, ANGLE, GAMMA)]


@pytest.fixture(scope="module")
def expected():
    return qml.jacobian(lambda *a: qml.math.stack(node(energies, THEIRS, diff_method="backprop")(*a)))(*trainable())


# Derivatives ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift", "finite-diff"])
def test_autograd_jacobians_are_those_of_default_mixed(method, expected):
    circuit = node(energies, diff_method=method)
    found = qml.jacobian(lambda *a: qml.math.stack(circuit(*a)))(*trainable())

    for ours, theirs in zip(found, expected, strict=True):  # PennyLane takes finite differences of some channels in parameter-shift too
        assert np.allclose(ours, theirs, atol=1e-10 if method in ("best", "adjoint", "backprop") else 1e-6)


@pytest.mark.parametrize(("method", "device_vjp"), [("best", True), ("adjoint", False), ("backprop", False)])
def test_torch_gradients_are_those_of_default_mixed(method, device_vjp, torch, expected):
    given = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (WEIGHTS, ANGLE, GAMMA)]
    first, second = node(energies, diff_method=method, device_vjp=device_vjp, interface="torch")(*given)
    (first + 2 * second).backward()

    for ours, theirs in zip(given, expected, strict=True):
        assert np.allclose(ours.grad.numpy(), theirs[0] + 2 * theirs[1], atol=1e-10)


def test_jax_transformations_nest(x64, expected):
    circuit = node(energies)
    weights, angle, gamma = map(jnp.array, (WEIGHTS, ANGLE, GAMMA))
    both = jax.jit(jax.jacobian(lambda *a: jnp.stack(circuit(*a)), argnums=(0, 1, 2)))(weights, angle, gamma)
    many = jax.jit(jax.vmap(jax.grad(lambda a, g: circuit(weights, a, g)[1], argnums=(0, 1))))(
        jnp.array([0.1, ANGLE]), jnp.array([0.3, GAMMA])
    )
    eager = jax.grad(lambda g: circuit(weights, angle, g)[0])(gamma)

    for ours, theirs in zip(both, expected, strict=True):
        assert np.allclose(ours, theirs, atol=1e-10)
    assert np.allclose([many[0][1], many[1][1]], [expected[1][1], expected[2][1]], atol=1e-10)
    assert np.allclose(eager, expected[2][0], atol=1e-10)
    assert np.allclose(jax.jit(circuit)(weights, angle, gamma), node(energies, THEIRS)(WEIGHTS, ANGLE, GAMMA), atol=1e-11)


def test_hessians_are_right_and_never_silently_wrong(x64):
    def energy(a):
        qml.RX(a[0], 0)
        qml.AmplitudeDamping(a[1], 0)
        qml.RY(a[0], 0)
        return qml.expval(qml.Z(0))

    def closed(a):  # <Z> = 1 - (1 - g)(1 - cos x), turned by x; <X> = 0
        return (1 - (1 - a[1]) * (1 - jnp.cos(a[0]))) * jnp.cos(a[0])

    point = np.array([0.7, 0.2])
    exact = jax.hessian(closed)(point)
    at = pnp.array(point, requires_grad=True)

    assert np.allclose(jax.jit(jax.hessian(node(energy, wires=1)))(jnp.array(point)), exact, atol=1e-10)
    assert np.allclose(qml.jacobian(qml.grad(node(energy, wires=1, max_diff=2)))(at), exact, atol=1e-10)
    with pytest.raises(QuantumFunctionError, match="adjoint"):
        qml.jacobian(qml.grad(node(energy, wires=1, diff_method="adjoint", max_diff=2)))(at)


def tangled(measure):
    def circuit(angle, gamma):
        qml.RX(angle, 0)
        qml.CNOT([0, 1])
        qml.CNOT([1, 2])
        qml.AmplitudeDamping(gamma, 0)
        return measure()

    return circuit


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize(
    "measure",
    [
        lambda: qml.var(qml.Z(0)),
        lambda: qml.var(qml.Hermitian(HERMITIAN, 0)),
        lambda: qml.var(qml.Z(0) + qml.X(1)),
        lambda: qml.expval(qml.Z(0) @ qml.Hadamard(1)),
        lambda: qml.expval(qml.SparseHamiltonian(SPARSE, wires=range(3))),
    ],
)
def test_gradients_exist_where_probabilities_or_noise_are_zero(measure, gamma):
    given = [pnp.array(value, requires_grad=True) for value in (ANGLE, gamma)]
    circuit = node(tangled(measure))
    steps = [(1e-6, 0), (-1e-6, 0), (0, 2e-6), (0, 1e-6)]
    by_angle = [circuit(ANGLE + a, gamma + g) for a, g in steps]
    numeric = (by_angle[0] - by_angle[1]) / 2e-6, (by_angle[2] - by_angle[3]) / 1e-6

    assert np.allclose(qml.grad(circuit)(*given), numeric, atol=1e-5)


def test_probabilities_have_gradients_where_they_are_zero(x64):
    circuit = node(tangled(lambda: qml.probs(wires=[0, 2])))
    exact = [-np.sin(ANGLE) / 2, 0, 0, np.sin(ANGLE) / 2]

    assert np.allclose(jax.jacobian(circuit)(jnp.array(ANGLE), 0.0), exact, atol=1e-12)
    assert np.allclose(qml.jacobian(circuit)(pnp.array(ANGLE, requires_grad=True), 0.0), exact, atol=1e-12)


class Loss(qml.operation.Channel):  # type: ignore[misc]
    """A channel that only its user knows."""

    num_params = 1

    @staticmethod
    def compute_kraus_matrices(p):
        stay, flip = np.eye(2), np.diag([1, -1])
        return [qml.math.sqrt(1 - p) * stay, qml.math.sqrt(p) * flip]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_a_users_own_channel_is_differentiated(transform, x64):
    def circuit(strength):
        qml.Hadamard(0)
        Loss(strength, wires=0)
        return qml.expval(qml.X(0))

    assert np.isclose(node(circuit)(0.2), 0.6)
    assert np.isclose(transform(jax.grad(node(circuit)))(jnp.array(0.2)), -2)
    assert np.isclose(qml.grad(node(circuit))(pnp.array(0.2, requires_grad=True)), -2)


class Flip(qml.operation.Channel):  # type: ignore[misc]
    """Another, of three wires."""

    num_params = 1

    @staticmethod
    def compute_kraus_matrices(p):
        word = functools.reduce(np.kron, [np.diag([1, -1]), np.array([[0, 1], [1, 0]]), np.eye(2)])
        pairs = (1 - p, np.eye(8)), (p, word)
        return [qml.math.sqrt(share) * qml.math.convert_like(matrix, p) for share, matrix in pairs]


WIDE = {
    "two controls": lambda x: qml.ctrl(qml.RX(x, 2), control=[3, 0]),
    "three controls": lambda x: qml.ctrl(qml.Rot(x, 0.3, 2 * x, 1), control=[3, 0, 2], control_values=[0, 1, 0]),
    "two targets": lambda x: qml.adjoint(qml.ctrl(qml.IsingXY(x, [3, 1]), control=[0, 2])),
    "a word": lambda x: qml.PauliRot(x, "XYZ", [2, 0, 3]),
    "a diagonal": lambda x: qml.MultiRZ(x, [3, 1, 0, 2]),
    "a channel": lambda x: Flip(0.3 * x, wires=[2, 0, 1]),
    "a batch": lambda x: qml.ctrl(qml.RX(qml.math.stack([0.5 * x, x]), 2), control=[3, 0]),
    "a second batch": lambda x: (
        qml.RY(qml.math.stack([0.5 * x, x]), 1),
        qml.ctrl(qml.RX(qml.math.stack([0.5 * x, x]), 2), control=[3, 0]),
    ),
}


# What default.mixed takes in their place.
THEIR_WIDE = WIDE | {"a channel": lambda x: qml.QubitChannel(Flip.compute_kraus_matrices(0.3 * x), [2, 0, 1])}


@pytest.mark.parametrize("name", WIDE)
def test_trained_operations_on_many_wires_are_differentiated_by_backprop_with_every_interface(name, x64, torch):
    def circuit(x, operations=WIDE):
        qml.StronglyEntanglingLayers(np.sin(np.arange(24.0)).reshape(2, 4, 3), wires=range(4))
        operations[name](x)
        qml.AmplitudeDamping(0.1, 2)
        return qml.expval(qml.Z(2) @ qml.X(0) + qml.Y(1) @ qml.Z(3))

    at = pnp.array(ANGLE, requires_grad=True)
    tensor = torch.tensor(ANGLE, dtype=torch.float64, requires_grad=True)
    ours = node(circuit, wires=4, diff_method="backprop")
    plain = node(circuit, wires=4, diff_method=None)
    numeric = (plain(ANGLE + 1e-5) - plain(ANGLE - 1e-5)) / 2e-5
    torch.sum(ours(tensor)).backward()

    assert np.allclose(ours(at), plain(ANGLE), atol=1e-12)
    if "batch" not in name:  # which default.mixed does not take
        assert np.allclose(plain(ANGLE), node(circuit, THEIRS, wires=4)(ANGLE, THEIR_WIDE), atol=1e-12)
    assert np.allclose(qml.jacobian(ours)(at), numeric, atol=1e-9)
    assert np.allclose(tensor.grad, np.sum(numeric), atol=1e-9)
    if name != "a channel":  # of which adjoint knows no derivative, and for which JAX compiles for long
        assert np.allclose(jax.jacobian(ours)(jnp.array(ANGLE)), numeric, atol=1e-9)
        assert np.allclose(qml.jacobian(node(circuit, wires=4, diff_method="adjoint"))(at), numeric, atol=1e-9)


def test_what_is_trained_outside_the_circuits_angles_is_seen_by_jax(x64):
    def circuit(coefficient, vector):
        qml.StatePrep(vector, wires=0)
        qml.BitFlip(0.1, 0)
        return qml.expval(coefficient * qml.Z(0))

    by_coefficient, by_vector = jax.grad(node(circuit), argnums=(0, 1))(jnp.array(2.0), jnp.array([0.6, 0.8]))

    assert np.isclose(by_coefficient, 0.8 * (0.36 - 0.64))
    assert np.allclose(by_vector, 2 * 0.8 * 2 * np.array([0.6, -0.8]))


# Measurements -----------------------------------------------------------------------------------------------------------

MEASUREMENTS = {
    "state": qml.state,
    "probs": lambda: qml.probs(wires=[2, 0]),
    "probs_op": lambda: qml.probs(op=qml.X(1) @ qml.Y(0)),
    "var": lambda: qml.var(qml.Z(0) @ qml.X(2)),
    "var_sum": lambda: qml.var(qml.Z(0) + qml.X(2)),
    "var_hermitian": lambda: qml.var(qml.Hermitian(HERMITIAN, 1)),
    "density_matrix": lambda: qml.density_matrix([2, 1]),
    "vn_entropy": lambda: qml.vn_entropy([0]),
    "mutual_info": lambda: qml.mutual_info([0], [2]),
    "purity": lambda: qml.purity([0, 1]),
    "hermitian": lambda: qml.expval(qml.Hermitian(HERMITIAN, 1)),
    "product": lambda: qml.expval(qml.Hermitian(HERMITIAN, 2) @ qml.Hadamard(0)),
    "projector": lambda: qml.expval(qml.Projector([1, 0], wires=[0, 2])),
    "sparse": lambda: qml.expval(qml.SparseHamiltonian(SPARSE, wires=range(3))),
    "hamiltonian": lambda: qml.expval(qml.Hamiltonian([0.2, -1.0, 0.5], [qml.X(0), qml.Y(1) @ qml.Z(2), qml.Identity(1)])),
    "several": lambda: (qml.expval(qml.Z(1)), qml.probs(wires=[0]), qml.var(qml.X(2))),
}


def alike(ours, theirs, tolerance=1e-10):
    if isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(alike(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))
    return np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_is_that_of_default_mixed(name):
    ours, theirs = (node(lambda: (gates(), MEASUREMENTS[name]())[1], device)() for device in (OURS, THEIRS))

    assert alike(ours, theirs)


VECTORS = RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))
VECTORS /= np.linalg.norm(VECTORS, axis=1)[:, None]
UNITARIES = np.linalg.qr(RNG.normal(size=(3, 4, 4)))[0]
ROOT = RNG.normal(size=(4, 4)) + 1j * RNG.normal(size=(4, 4))
DENSITY = ROOT @ ROOT.conj().T / np.trace(ROOT @ ROOT.conj().T)
BEGINNINGS = {
    "StatePrep": lambda: qml.StatePrep(VECTORS[0], wires=[2, 0]),
    "BasisState": lambda: qml.BasisState([1, 0], wires=[2, 0]),
    "QubitDensityMatrix": lambda: qml.QubitDensityMatrix(DENSITY, wires=[2, 0]),
    "a later QubitDensityMatrix": lambda: (gates(), qml.QubitDensityMatrix(DENSITY, wires=[2, 0])),
    "a batch of StatePrep": lambda: qml.StatePrep(VECTORS, wires=[0, 2]),
    "a batch of angles": lambda: qml.RX(np.array([0.1, 0.5, 0.9]), 1),
    "a batch of unitaries": lambda: qml.QubitUnitary(UNITARIES, wires=[2, 0]),
}


@pytest.mark.parametrize("measure", [lambda: qml.expval(qml.Z(0) @ qml.Y(2)), lambda: qml.probs(wires=[1, 0]), qml.state])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_preparations_and_batches_are_those_of_default_mixed(name, measure):
    ours, theirs = (node(lambda: (BEGINNINGS[name](), gates(), measure())[2], device)() for device in (OURS, THEIRS))

    assert alike(ours, theirs)


@pytest.mark.parametrize("measure", [lambda: qml.expval(qml.Z(0)), lambda: qml.probs(wires=[1, 0])])
def test_a_batch_of_noise_is_a_loop(measure):
    def circuit(angle, gamma):
        gates(angle=angle, gamma=gamma)
        return measure()

    run, angles, gammas = node(circuit), np.array([0.1, 0.2]), np.array([0.0, 0.7])
    loop = [run(a, g) for a, g in zip(angles, gammas, strict=True)]

    assert np.allclose(run(angles, gammas), loop, atol=1e-13)
    by_gamma = qml.jacobian(node(circuit, diff_method="best"))(ANGLE, pnp.array(gammas, requires_grad=True))
    assert np.allclose(
        by_gamma, qml.jacobian(node(circuit, diff_method="backprop"))(ANGLE, pnp.array(gammas, requires_grad=True)), atol=1e-10
    )
    assert np.allclose(run(ANGLE, gammas), [run(ANGLE, g) for g in gammas], atol=1e-13)
    assert np.allclose(node(circuit, diff_method="backprop")(pnp.array(angles), pnp.array(gammas)), loop, atol=1e-12)


def test_a_noise_model_is_added():
    model = qml.NoiseModel({qml.noise.op_eq(qml.RX): qml.noise.partial_wires(qml.AmplitudeDamping, 0.1)})

    def circuit():
        qml.RX(0.3, 0)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    assert np.isclose(qml.add_noise(node(circuit), model)(), 0.1 + 0.9 * np.cos(0.3))


def test_too_large_channels_are_refused_but_not_pauli_errors():
    def large():
        qml.QubitChannel([np.eye(32)], wires=range(5))
        return qml.expval(qml.Z(0))

    assert np.isclose(node(lambda: (qml.PauliError("XXXXX", 0.2, wires=range(5)), qml.expval(qml.Z(0)))[1], wires=5)(), 0.6)
    with pytest.raises(SimulationError, match="QubitChannel acts on 5 wires; inside a circuit it can act on up to 4"):
        node(large, wires=5)()


def test_wires_may_have_any_label_and_come_in_any_order():
    def circuit(order):
        qml.RX(0.3, wires=order[2])
        qml.CNOT([order[2], order[0]])
        qml.AmplitudeDamping(0.2, wires=order[0])
        return qml.probs(wires=order), qml.expval(qml.Z(order[0]))

    free = qml.QNode(circuit, qml.device(OURS))
    ours, theirs = (qml.QNode(circuit, qml.device(name, wires=["a", 7, "c"]))(["c", "a", 7]) for name in (OURS, THEIRS))
    assert alike(ours, theirs)
    assert alike(free(["b", "a", -5]), theirs)


def test_measurements_in_the_middle_are_deferred_and_wires_may_be_allocated():
    def circuit(angle):
        qml.RX(angle, wires=0)
        outcome = qml.measure(0, reset=True)
        qml.cond(outcome, qml.RY)(0.7, wires=1)
        qml.AmplitudeDamping(0.2, 1)
        again = qml.measure(1)
        return qml.expval(qml.Z(0)), qml.probs(op=outcome), qml.var(again)

    def allocating():
        with qml.allocate(1) as wires:
            qml.RX(0.3, wires[0])
            qml.CNOT([wires[0], 0])
        return qml.expval(qml.Z(0))

    ours, theirs = (qml.QNode(circuit, qml.device(name))(1.1) for name in (OURS, THEIRS))
    assert alike(ours, theirs)
    assert np.isclose(node(allocating, wires=2)(), np.cos(0.3))


def test_snapshots_are_those_of_default_mixed(x64):
    def circuit(angle):
        qml.RX(angle, 0)
        qml.Snapshot("before")
        qml.BitFlip(0.1, 0)
        qml.Snapshot(measurement=qml.expval(qml.Z(0)))
        return qml.expval(qml.X(0))

    angle = jnp.array(1.1)
    traced = qml.snapshots(node(circuit, wires=1))(angle)
    ours, theirs = (qml.snapshots(node(circuit, name, wires=1))(1.1) for name in (OURS, THEIRS))
    assert alike(traced["before"], theirs["before"], 1e-6)
    assert list(ours) == list(theirs)
    assert all(alike(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["probs", "probs_op", "var", "hermitian", "product", "hamiltonian", "several"])
def test_readout_errors_are_bit_flips_before_the_measurement(name):
    def flipped():
        gates()
        return MEASUREMENTS[name]()

    exact = node(flipped, readout_prob=0.1)()
    sampled = node(flipped, readout_prob=0.1, seed=2, shots=200_000)()

    assert alike(sampled, exact, 0.03)
    assert not alike(exact, node(flipped)(), 1e-4)


def test_readout_errors_have_gradients_and_leave_states_alone():
    scaled = qml.grad(lambda a: node(energies, readout_prob=0.1)(WEIGHTS, a, GAMMA)[0])(pnp.array(ANGLE, requires_grad=True))
    plain = qml.grad(lambda a: node(energies)(WEIGHTS, a, GAMMA)[0])(pnp.array(ANGLE, requires_grad=True))
    assert np.isclose(scaled, 0.64 * plain)
    with pytest.warns(UserWarning, match="StateMP has no outcomes: readout_prob does not change it"):
        found = node(lambda: (gates(), qml.state())[1], readout_prob=0.1)()
    assert np.allclose(found, node(lambda: (gates(), qml.state())[1])())


# Samples ----------------------------------------------------------------------------------------------------------------


def test_samples_follow_the_probabilities_and_the_seed():
    def circuit():
        gates()
        return qml.counts(), qml.expval(qml.X(0)), qml.sample(qml.Z(1)), qml.probs(wires=[0, 1])

    exact = node(lambda: (gates(), qml.probs(wires=[0, 1]))[1])()
    first, second = (node(circuit, seed=11, shots=20000) for _ in range(2))
    a, b, c = first(), second(), first()

    assert np.allclose(a[3], exact, atol=0.02)
    assert a[0] == b[0]
    assert np.array_equal(a[2], b[2])
    assert not np.array_equal(a[2], c[2])


@pytest.mark.parametrize("seed", [3, np.random.default_rng(3), jax.random.PRNGKey(3), None])
def test_two_calls_never_draw_the_same(seed):
    run = node(lambda: (qml.Hadamard(0), qml.BitFlip(0.1, 0), qml.sample(wires=0))[2], wires=1, seed=seed, shots=100)

    assert not np.array_equal(run(), run())


def test_a_key_may_be_an_argument_of_a_jitted_function():
    @jax.jit
    def run(key):
        return node(lambda: (qml.BitFlip(0.2, 0), qml.sample(wires=0))[1], wires=1, seed=key, shots=2000)()

    first, second = (run(jax.random.PRNGKey(i)) for i in (1, 2))
    assert not np.array_equal(first, second)
    assert np.isclose(np.mean(first), 0.2, atol=0.05)


def test_shot_vectors_batches_and_shadows_of_noise():
    vector = node(lambda: (gates(), qml.sample(wires=[0, 1]))[1], shots=[10, (5, 2)])()
    batch = node(lambda a: (gates(angle=a), qml.probs(wires=0))[1], shots=5000, seed=1)
    shadows = node(lambda a: (gates(angle=a), qml.shadow_expval(qml.Z(0)))[1], shots=5000, seed=1)
    exact = node(lambda a: (gates(angle=a), qml.probs(wires=0))[1])
    angles = np.array([0.1, 2.0])

    assert [r.shape for r in vector] == [(10, 2), (5, 2), (5, 2)]
    assert np.allclose(batch(angles), exact(angles), atol=0.04)
    assert np.allclose(shadows(angles), exact(angles) @ [1, -1], atol=0.15)


def test_single_precision_is_near():
    arguments = WEIGHTS, ANGLE, GAMMA

    assert np.allclose(node(energies, c_dtype=np.complex64)(*arguments), node(energies)(*arguments), atol=1e-5)
    assert node(lambda: (gates(), qml.state())[1], c_dtype=np.complex64)().dtype == np.complex64
    assert node(lambda: (gates(), qml.counts())[1], c_dtype=np.complex64, shots=100)()


# Configuration and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift", None])
@pytest.mark.parametrize("interface", ["auto", "jax", "torch", "autograd"])
def test_setting_up_twice_changes_nothing(method, interface):
    device = qml.device(OURS, wires=1)
    once = device.setup_execution_config(ExecutionConfig(gradient_method=method, interface=interface))

    assert device.setup_execution_config(once) == once


def test_the_device_counts_its_executions():
    device = qml.device(OURS, wires=1)
    with qml.Tracker(device) as tracker:
        qml.QNode(lambda: qml.expval(qml.Z(0)), device)()

    assert tracker.totals["executions"] == 1


def damped(gamma=0.1, measure=lambda: qml.expval(qml.Z(0))):
    qml.AmplitudeDamping(gamma, 0)
    return measure()


@pytest.mark.filterwarnings("ignore:.*readout_prob")
@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: qml.device(OURS, c_dtype=np.float64), DeviceError, "c_dtype must be complex64 or complex128"),
        (lambda: qml.device(OURS, readout_prob=1.5), DeviceError, "readout_prob must be a number between 0 and 1, not 1.5"),
        (lambda: qml.device(OURS).setup_execution_config(ExecutionConfig(device_options={"shiny": 1})), DeviceError, "hybridjobs.mixed has no device option shiny"),
        (node(lambda: (qml.X(3), qml.expval(qml.Z(0)))[1]), WireError, "wires not found"),
        (lambda: node(damped)(1.5), SimulationError, r"AmplitudeDamping on wires \(0,\): gamma = 1.5 is not in \[0, 1\]"),
        (lambda: node(damped, diff_method="backprop")(pnp.array(1.5)), SimulationError, r"gamma = 1.5 is not in \[0, 1\]"),
        (node(lambda: (qml.QubitChannel([np.eye(2) * 2], 0), qml.expval(qml.Z(0)))[1]), ValueError, "trace preserving"),
        (node(lambda: (qml.QubitDensityMatrix(np.triu(np.ones((2, 2))), 0), qml.expval(qml.Z(0)))[1]), DeviceError, "Hermitian"),
        (node(lambda: damped(measure=qml.sample)), DeviceError, "sample"),
        (node(lambda: damped(measure=qml.state), shots=10), DeviceError, "state"),
        (lambda: qml.grad(node(damped, diff_method="adjoint", shots=10))(pnp.array(0.1)), QuantumFunctionError, "adjoint"),
        (qml.set_shots(node(lambda: (qml.measure(0), qml.expval(qml.Z(0)))[1], mcm_method="one-shot"), 10), DeviceError, "one-shot"),
        (node(lambda: damped(measure=lambda: qml.classical_shadow(wires=0)), wires=1, readout_prob=0.1, shots=10), DeviceError, "shadows do not know readout_prob"),
        (node(lambda: damped(measure=MEASUREMENTS["sparse"]), readout_prob=0.1), DeviceError, "could be read wrong"),
        (node(lambda: ([qml.X(i) for i in range(30)], qml.expval(qml.Z(0)))[1], wires=30), SimulationError, "of 30 wires .* would fit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(call, error, said):
    with pytest.raises(error, match=said):
        call()
