"""hybridjobs.qubit beside default.qubit: values, derivatives, measurements, samples, over interfaces."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.devices import ExecutionConfig
from pennylane.exceptions import DeviceError, QuantumFunctionError, WireError

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

OURS, THEIRS = "hybridjobs.qubit", "default.qubit"
RNG = np.random.default_rng(3)
WEIGHTS, ANGLE = RNG.normal(size=(2, 4, 3)), 0.4
UNITARY = np.linalg.qr(RNG.normal(size=(4, 4)) + 1j * RNG.normal(size=(4, 4)))[0]


def gates(weights, angle):
    qml.Hadamard(0)
    qml.StronglyEntanglingLayers(weights, wires=range(4))
    qml.IsingXX(angle, wires=[0, 2])
    qml.QubitUnitary(UNITARY, wires=[1, 3])
    qml.ctrl(qml.RX, control=3, control_values=0)(angle, wires=0)
    qml.SingleExcitation(angle, wires=[2, 1])
    qml.adjoint(qml.PhaseShift)(angle, wires=1)


def energies(weights, angle):
    gates(weights, angle)
    return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2) + 0.3 * qml.Z(3) - 0.1 * qml.Identity(0))


def node(function, name=OURS, wires=4, **options):
    device = {key: options.pop(key) for key in ("seed", "c_dtype") if key in options}
    return qml.QNode(function, qml.device(name, wires=wires, **device), **options)


def expected_jacobian():
    both = qml.jacobian(lambda w, a: qml.math.stack(node(energies, THEIRS, diff_method="backprop")(w, a)))
    return both(pnp.array(WEIGHTS, requires_grad=True), pnp.array(ANGLE, requires_grad=True))


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift", "finite-diff"])
def test_autograd_jacobians_are_those_of_default_qubit(method):
    circuit = node(energies, diff_method=method)
    found = qml.jacobian(lambda w, a: qml.math.stack(circuit(w, a)))(
        pnp.array(WEIGHTS, requires_grad=True), pnp.array(ANGLE, requires_grad=True)
    )

    for ours, theirs in zip(found, expected_jacobian(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6 if method == "finite-diff" else 1e-10)


@pytest.mark.parametrize("device_vjp", [True, False])
@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift"])
def test_torch_gradients_are_those_of_default_qubit(method, device_vjp, torch):
    w, a = torch.tensor(WEIGHTS, requires_grad=True), torch.tensor(ANGLE, dtype=torch.float64, requires_grad=True)
    first, second = node(energies, diff_method=method, device_vjp=device_vjp if method == "adjoint" else False, interface="torch")(w, a)
    (first + 2 * second).backward()
    by_weights, by_angle = expected_jacobian()

    assert np.allclose(w.grad.numpy(), by_weights[0] + 2 * by_weights[1], atol=1e-10)
    assert np.allclose(a.grad.numpy(), by_angle[0] + 2 * by_angle[1], atol=1e-10)


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift"])
def test_jax_transformations_nest(method, x64):
    circuit = node(energies, diff_method=method)
    w, a = jnp.array(WEIGHTS), jnp.array(ANGLE)
    by_weights, by_angle = expected_jacobian()

    found = jax.jit(jax.jacobian(lambda w, a: jnp.stack(circuit(w, a)), argnums=(0, 1)))(w, a)
    assert np.allclose(found[0], by_weights, atol=1e-10)
    assert np.allclose(found[1], by_angle, atol=1e-10)
    batch = jnp.array([0.1, ANGLE, -2.0])
    many = jax.vmap(jax.grad(lambda a: circuit(w, a)[0]))(batch)
    assert np.allclose(many[1], by_angle[0], atol=1e-10)
    value, gradient = jax.jit(jax.value_and_grad(lambda a: circuit(w, a)[1]))(a)
    assert np.allclose(gradient, by_angle[1], atol=1e-10)
    assert np.allclose(value, node(energies, THEIRS)(WEIGHTS, ANGLE)[1], atol=1e-12)


def test_hessians_under_jax_are_right(x64):
    def energy(angles):
        qml.AngleEmbedding(angles, wires=range(3))
        qml.IsingZZ(angles[0], wires=[0, 1])
        qml.CNOT([0, 2])
        return qml.expval(qml.Z(2) @ qml.Z(0) + 0.5 * qml.X(1))

    angles = jnp.array([0.3, -0.8, 1.1])
    expected = jax.jit(jax.hessian(node(energy, THEIRS, 3, diff_method="backprop")))(angles)
    circuit = node(energy, OURS, 3)

    assert np.allclose(jax.jit(jax.hessian(circuit))(angles), expected, atol=1e-10)
    assert np.allclose(jax.jit(jax.jacfwd(jax.grad(circuit)))(angles), expected, atol=1e-10)
    assert np.allclose(jax.jit(jax.vmap(jax.hessian(circuit)))(jnp.stack([angles, angles]))[1], expected, atol=1e-10)


def test_a_traced_program_does_not_grow_with_the_number_of_gates(x64):
    def size(layers):
        circuit = node(lambda w: (qml.StronglyEntanglingLayers(w, wires=range(4)), qml.expval(qml.Z(0)))[1])
        return len(str(jax.make_jaxpr(jax.grad(circuit))(jnp.zeros((layers, 4, 3)))).splitlines())

    assert size(2) == size(40)


def test_angles_one_by_one_are_few_operations_for_jax(x64):
    def operations(n):
        def circuit(x):
            for angle in jnp.unstack(x):
                qml.RX(angle, 0)
            return qml.expval(qml.Z(0))

        return len(jax.make_jaxpr(node(circuit))(jnp.zeros(n)).jaxpr.eqns)

    assert operations(3) == operations(60)


@pytest.mark.parametrize("batched", [False, True])
def test_parameters_of_all_kinds_side_by_side(batched, x64):
    def circuit(x, weights, turns):
        qml.RX(x, 0)
        qml.Rot(0.1, x**2, 2, 1)
        qml.RY(turns, 2)
        qml.StronglyEntanglingLayers(weights, wires=range(4))
        qml.RZ(x + 0j, 1)
        qml.CRX(np.float32(0.3), [0, 1])
        qml.BasicEntanglerLayers(np.full((1, 4), 0.2), wires=range(4))
        return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2))

    x, along = np.array([0.3, 0.9] if batched else 0.3), np.cos(WEIGHTS)
    theirs = [np.stack(node(circuit, THEIRS)(x + step, WEIGHTS + 2 * step * along, 2)) for step in (0.0, 1e-5, -1e-5)]
    ours = jax.jit(lambda *given: jax.jvp(lambda *a: jnp.stack(node(circuit)(*a, 2)), given, (jnp.ones(x.shape), 2 * along)))
    values, slopes = ours(jnp.array(x), jnp.array(WEIGHTS))

    assert np.allclose(values, theirs[0], atol=1e-12)
    assert np.allclose(slopes, (theirs[1] - theirs[2]) / 2e-5, atol=1e-8)


def test_32_bit_jax_is_near():
    found = jax.jit(node(energies))(jnp.array(WEIGHTS, dtype=jnp.float32), jnp.float32(ANGLE))

    assert np.allclose(found, node(energies, THEIRS)(WEIGHTS, ANGLE), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Finite differences with float32:UserWarning")
def test_differences_of_values_are_taken_in_double_precision_also_in_32_bit_jax():
    def circuit(x):
        qml.RX(x, 0)
        qml.RY(0.3, 0)
        return qml.expval(qml.Z(0))

    slope = jax.jit(jax.grad(node(circuit, wires=1, diff_method="finite-diff")))(jnp.float32(0.1))
    assert np.allclose(slope, -np.sin(0.1) * np.cos(0.3), rtol=0.1)  # the shift of 1e-7 itself has one digit


def test_an_autograd_hessian_by_adjoint_is_never_silently_wrong():
    def energy(a):
        qml.RX(a[0], wires=0)
        qml.RY(a[1], wires=0)
        return qml.expval(qml.Z(0))

    angles = pnp.array([0.3, 0.4], requires_grad=True)
    expected = qml.jacobian(qml.grad(node(energy, THEIRS, 1, diff_method="backprop")))(angles)
    assert np.allclose(qml.jacobian(qml.grad(node(energy, OURS, 1, diff_method="best", max_diff=2)))(angles), expected, atol=1e-10)
    with pytest.raises(QuantumFunctionError, match="adjoint"):
        qml.jacobian(qml.grad(node(energy, OURS, 1, diff_method="adjoint", max_diff=2)))(angles)


MEASUREMENTS = {
    "state": qml.state,
    "probs": lambda: qml.probs(wires=[2, 0]),
    "var": lambda: qml.var(qml.Z(0) @ qml.X(3)),
    "density_matrix": lambda: qml.density_matrix([1, 3]),
    "vn_entropy": lambda: qml.vn_entropy([0]),
    "mutual_info": lambda: qml.mutual_info([0], [2]),
    "purity": lambda: qml.purity([0, 1]),
    "hermitian": lambda: qml.expval(qml.Hermitian(np.array([[1.0, 2j], [-2j, -1.0]]), 1)),
    "projector": lambda: qml.expval(qml.Projector([1, 0], wires=[0, 2])),
    "sparse": lambda: qml.expval(qml.SparseHamiltonian((qml.Z(0) @ qml.X(2)).sparse_matrix(wire_order=range(4)), wires=range(4))),
    "hamiltonian": lambda: qml.expval(qml.Hamiltonian([0.2, -1.0, 0.5], [qml.X(0), qml.Y(1) @ qml.Z(2), qml.Identity(3)])),
    "several": lambda: (qml.expval(qml.Z(1)), qml.probs(wires=[0]), qml.var(qml.X(2))),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_is_that_of_default_qubit(name):
    def circuit(weights):
        gates(weights, ANGLE)
        return MEASUREMENTS[name]()

    ours, theirs = node(circuit)(WEIGHTS), node(circuit, THEIRS)(WEIGHTS)

    for a, b in zip(ours, theirs, strict=True) if name == "several" else [(ours, theirs)]:
        assert np.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("measure", [lambda: qml.expval(qml.Z(0) @ qml.Z(2)), lambda: qml.probs(wires=[1, 0])])
def test_a_batch_is_a_loop(measure):
    def circuit(angles, weights):
        qml.RX(angles, wires=0)
        qml.StronglyEntanglingLayers(weights, wires=range(3))
        qml.CRY(angles, wires=[0, 2])
        return measure()

    angles, weights = RNG.normal(size=5), RNG.normal(size=(5, 2, 3, 3))
    run = node(circuit, wires=3)

    assert np.allclose(run(angles, weights), [run(a, w) for a, w in zip(angles, weights, strict=True)], atol=1e-12)


@pytest.mark.parametrize("wires", [1, 2, 3])
def test_layers_are_taken_whole(wires):
    layers = [
        (qml.BasicEntanglerLayers, RNG.normal(size=(2, wires)), {"rotation": qml.RY}),
        (qml.StronglyEntanglingLayers, RNG.normal(size=(2, wires, 3)), {"imprimitive": qml.CZ}),
        *((qml.AngleEmbedding, RNG.normal(size=wires), {"rotation": letter}) for letter in "XYZ"),
    ]

    def circuit(*values):
        for (layer, _, options), value in zip(layers, values, strict=True):
            layer(value, wires=range(wires), **options)
            qml.Hadamard(0)
        return qml.expval(qml.Z(0) if wires == 1 else qml.Z(0) @ qml.X(wires - 1))

    values = [pnp.array(value, requires_grad=True) for _, value, _ in layers]
    found, expected = (qml.grad(node(circuit, name, wires))(*values) for name in (OURS, THEIRS))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs, atol=1e-10)


def test_samples_follow_the_probabilities_and_the_seed():
    def circuit():
        gates(WEIGHTS, ANGLE)
        return qml.counts(), qml.expval(qml.X(0)), qml.sample(qml.Z(1)), qml.probs(wires=[0, 1])

    exact = node(lambda: (gates(WEIGHTS, ANGLE), qml.probs(wires=[0, 1]))[1])()
    first, second = (qml.set_shots(node(circuit, seed=11), 20000) for _ in range(2))
    a, b, c = first(), second(), first()

    assert np.allclose(a[3], exact, atol=0.02)
    assert a[0] == b[0]
    assert np.array_equal(a[2], b[2])
    assert not np.array_equal(a[2], c[2])


def test_a_jax_key_moves_on():
    run = qml.set_shots(node(lambda: (qml.Hadamard(0), qml.sample(wires=0))[1], wires=1, seed=jax.random.PRNGKey(1)), 100)

    assert not np.array_equal(run(), run())


def test_shot_vectors_give_one_result_each():
    run = qml.set_shots(node(lambda: (gates(WEIGHTS, ANGLE), qml.sample(wires=[0, 1]))[1]), [10, (5, 2)])

    assert [r.shape for r in run()] == [(10, 2), (5, 2), (5, 2)]


def test_wires_may_have_any_label_and_come_in_any_order():
    def circuit(order):
        qml.RX(0.3, wires=order[2])
        qml.CNOT([order[2], order[0]])
        qml.RY(0.8, wires=order[1])
        return qml.probs(wires=order), qml.expval(qml.Z(order[0]))

    for name in (OURS, THEIRS):
        run = qml.QNode(circuit, qml.device(name))
        assert np.allclose(run([0, 1, 2])[0], run(["b", "a", -5])[0])
    ours, theirs = (qml.QNode(circuit, qml.device(name, wires=["a", 7, "c"]))(["c", "a", 7]) for name in (OURS, THEIRS))
    assert np.allclose(ours[0], theirs[0])
    assert np.allclose(ours[1], theirs[1])


def test_measurements_in_the_middle_are_deferred():
    def circuit(angle):
        qml.RX(angle, wires=0)
        outcome = qml.measure(0, reset=True)
        qml.cond(outcome, qml.RY)(0.7, wires=1)
        again = qml.measure(1, postselect=0)
        return qml.expval(qml.Z(0)), qml.probs(op=outcome), qml.expval(again)

    ours, theirs = (qml.QNode(circuit, qml.device(name))(1.1) for name in (OURS, THEIRS))
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a, b, atol=1e-12)


def test_single_precision_is_near():
    assert np.allclose(node(energies, c_dtype=np.complex64)(WEIGHTS, ANGLE), node(energies)(WEIGHTS, ANGLE), atol=1e-5)


@pytest.mark.parametrize("method", ["best", "adjoint", "backprop", "parameter-shift", None])
@pytest.mark.parametrize("interface", ["auto", "jax", "jax-jit", "torch", "autograd"])
def test_setting_up_twice_changes_nothing(method, interface):
    device = qml.device(OURS, wires=1)
    once = device.setup_execution_config(ExecutionConfig(gradient_method=method, interface=interface))

    assert device.setup_execution_config(once) == once


def test_what_is_wrong_is_told():
    with pytest.raises(DeviceError, match="c_dtype must be complex64 or complex128"):
        qml.device(OURS, c_dtype=np.float64)
    with pytest.raises(DeviceError, match="no device option shiny"):
        qml.device(OURS).setup_execution_config(ExecutionConfig(device_options={"shiny": 1}))
    with pytest.raises(WireError):
        node(lambda: (qml.X(3), qml.expval(qml.Z(0)))[1], wires=2)()
    with pytest.raises((DeviceError, QuantumFunctionError)):
        qml.grad(qml.set_shots(node(lambda a: (qml.RX(a, 0), qml.expval(qml.Z(0)))[1], diff_method="adjoint"), 10))(pnp.array(0.1))
    with pytest.raises(DeviceError, match="state"):
        qml.set_shots(node(qml.state), 10)()


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_what_is_trained_outside_the_angles_is_seen_by_jax(transform, x64):
    def circuit(coefficient, angle, vector):
        qml.StatePrep(vector, wires=0)
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        qml.QubitUnitary(turn, wires=0)
        return qml.expval(coefficient * qml.Z(0))

    values = jnp.array(2.0), jnp.array(0.3), jnp.array([0.6, 0.8])
    for where in range(3):
        ours, theirs = (transform(jax.grad(node(circuit, name, 1), argnums=where))(*values) for name in (OURS, THEIRS))
        assert np.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("measured", [lambda: qml.probs(wires=0), lambda: qml.var(qml.X(1) + qml.Z(0))])
def test_jax_may_change_its_precision_between_calls(measured, x64):
    def circuit(angle):
        qml.RX(angle, 0)
        qml.QubitUnitary(jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]), wires=0)
        qml.CNOT([0, 1])
        return measured()

    found = []
    for precise in (False, True):
        jax.config.update("jax_enable_x64", precise)
        found.append(jax.jit(jax.jacobian(node(circuit, wires=2)))(0.3))
        assert found[-1].dtype == (jnp.float64 if precise else jnp.float32)
    assert np.allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("device", [OURS, "hybridjobs.mixed"])
@pytest.mark.parametrize(("library", "method"), [("torch", "best"), ("torch", "backprop"), ("jax", "best"), ("autograd", "backprop")])
def test_results_are_of_the_library_that_was_asked_for_whatever_the_parameters(device, library, method, x64):
    pytest.importorskip(library)
    for measure in (lambda: (qml.expval(qml.Z(0)),), lambda: (qml.probs(wires=0),), lambda: (qml.var(qml.X(0)), qml.purity([0]))):

        def circuit(x, measure=measure):
            qml.RX(x, 0)
            return measure()

        ours, theirs = (
            qml.QNode(circuit, qml.device(name, wires=1), interface=library, diff_method=method)(0.3) for name in (device, THEIRS)
        )
        for our, their in zip(ours, theirs, strict=True):
            assert qml.math.get_interface(our) == library
            assert np.allclose(qml.math.toarray(our), qml.math.toarray(their), atol=1e-6)


def test_samples_need_no_interface(torch):
    @qml.set_shots(5)
    @qml.qnode(qml.device(OURS, wires=1), interface=None)
    def circuit(x):
        qml.RX(x, 0)
        return qml.sample()

    assert np.array_equal(circuit(torch.tensor(np.pi)), np.ones((5, 1)))


@pytest.mark.parametrize("method", ["compute_vjp", "compute_derivatives", "compute_jvp"])
@pytest.mark.parametrize("device", [OURS, "hybridjobs.mixed"])
def test_a_gradient_is_tracked_once(device, method):
    dev = qml.device(device, wires=1)
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])
    config = dev.setup_execution_config(qml.devices.ExecutionConfig(gradient_method="adjoint"), tape)
    with qml.Tracker(dev) as tracker:
        if method == "compute_derivatives":
            dev.compute_derivatives([tape], config)
        else:
            getattr(dev, method)([tape], [(1.0,)], config)
    assert tracker.totals[{"compute_vjp": "vjps", "compute_jvp": "jvps", "compute_derivatives": "derivatives"}[method]] == 1
    assert "executions" not in tracker.totals


ON_A_POOL_OF_ONE_CALLER = """
import threading
import numba

numba.config.THREADING_LAYER = "workqueue"  # as amazon-braket-default-simulator does; two callers at once end the process

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pennylane as qml

@qml.qnode(qml.device("hybridjobs.qubit", wires=3))
def energy(x):
    qml.RX(x, 0)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1))

call, angles = jax.jit(jax.vmap(energy)), jnp.linspace(0, 1, 2000)
expected = call(angles)

def work():
    for _ in range(30):
        assert (call(angles) == expected).all()

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(numba.threading_layer() if numba.get_num_threads() > 1 else "no threads")
"""


def test_compiled_programs_share_a_thread_pool_that_takes_one_caller_at_a_time():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", ON_A_POOL_OF_ONE_CALLER]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)

    assert (ended.returncode, ended.stdout) == (0, "workqueue\n"), ended.stderr
