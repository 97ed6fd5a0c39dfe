"""Channels and density matrices against PennyLane's Kraus matrices, default.mixed, finite differences and exact matrices."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import density, engine_cpu
from pl_hybridjobs.sim.channels import CHANNELS, SUPEROPERATOR, matrices, superoperator
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum, constant, matrix_bytes
from pl_hybridjobs.sim.gates import GATES, expand
from tests.sim.random_circuits import operator, random_circuit, random_unitary

# PennyLane's Kraus matrices of a Pauli error with Y lose an imaginary part that is 0.
pytestmark = pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")

PROBABILITY = st.floats(0, 1)
PARAMETERS = {
    "GeneralizedAmplitudeDamping": st.tuples(PROBABILITY, PROBABILITY),
    "ResetError": st.tuples(PROBABILITY, PROBABILITY).map(lambda p: (p[0] / 2, p[1] / 2)),
    "ThermalRelaxationError": st.tuples(PROBABILITY, st.floats(0.1, 9), st.floats(0.01, 2), st.floats(0, 5)).map(
        lambda p: (p[0], p[1], p[1] * p[2], p[3])
    ),
}


def channel(name, values, wires, word=""):
    return qml.PauliError(word, *values, wires=wires) if name == "PauliError" else getattr(qml, name)(*values, wires=wires)


@pytest.mark.parametrize("name", CHANNELS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_channel_is_that_of_pennylanes_kraus_matrices(name, data):
    values = data.draw(PARAMETERS.get(name, st.tuples(PROBABILITY)))
    word = data.draw(st.text("IXYZ", min_size=1, max_size=3)) if name == "PauliError" else ""
    wires = tuple(range(len(word) or 1))
    found = matrices(Gate(name, wires, word=word), values)

    assert np.allclose(found[0], superoperator(channel(name, values, wires, word).kraus_matrices()), atol=1e-7)
    assert len(found) == 1 + len(values)


@pytest.mark.parametrize("name", CHANNELS)
def test_the_derivatives_of_a_channel_are_those_of_finite_differences(name):
    values = np.array({"ThermalRelaxationError": (0.3, 1.2, 1.7, 0.4)}.get(name, (0.2, 0.3)[: CHANNELS[name].n_angles]))
    gate, h = Gate(name, (0, 1) if name == "PauliError" else (0,), word="YX"), 1e-6
    found = matrices(gate, tuple(values))

    for i, step in enumerate(h * np.eye(len(values))):
        numeric = (matrices(gate, tuple(values + step))[0] - matrices(gate, tuple(values - step))[0]) / (2 * h)
        assert np.allclose(found[1 + i], numeric, atol=1e-8)


def test_derivatives_are_finite_without_noise_and_infinite_only_where_they_are():
    assert all(np.isfinite(matrices(Gate(name, (0,), word="X"), (0.0,))).all() for name in CHANNELS if CHANNELS[name].n_angles == 1)
    slope = matrices(Gate("AmplitudeDamping", (0,)), (1.0,))[1]
    assert np.array_equal(np.isinf(slope), np.diag([False, True, True, False]))
    assert slope[0, 3] == 1


@pytest.mark.parametrize("name", sorted(set(GATES) - {"Matrix"}))
def test_the_conjugate_of_a_gate_has_the_conjugate_matrix(name):
    row = GATES[name]
    n = row.n_wires or 3
    params = [0.37, -1.9, 2.6][: row.n_angles]
    word = "XYZ" if name == "PauliRot" else ""
    gate = Gate(name, tuple(range(n)), tuple(Angle(i) for i in range(row.n_angles)), word=word, conjugate=True)
    both = Gate(name, gate.wires, gate.angles, word=word, conjugate=True, inverse=True)
    exact = qml.matrix(operator(name, gate.wires, params, word), wire_order=range(n))

    for found, wanted in ((gate, exact.conj()), (both, exact.T)):
        circuit = Circuit(n, (found,), len(params))
        columns = [engine_cpu.state(circuit, [params], start=column)[0] for column in np.eye(2**n)]
        assert np.allclose(np.array(columns).T, wanted, atol=1e-14)
    assert [p.conjugate().conjugate() for p in expand(gate)] == expand(gate)


def noisy(seed, max_wires=4):
    """A random circuit with a channel after each gate: (circuit, parameters, operators, observables)."""
    found, rng = random_circuit(seed, n_gates=12, max_wires=max_wires), np.random.default_rng(seed)
    n, gates, operators, params = found.circuit.n_wires, [], [], list(found.params)
    names = list(CHANNELS)
    for i, (gate, op) in enumerate(zip(found.circuit.gates, found.operators, strict=True)):
        name = names[(seed + i) % len(names)]
        values = (
            (0.2, 1.1, rng.uniform(0.4, 2), 0.3)
            if name == "ThermalRelaxationError"
            else tuple(rng.uniform(0.05, 0.4, CHANNELS[name].n_angles))
        )
        wires = tuple(int(w) for w in rng.permutation(n)[: int(rng.integers(1, n + 1)) if name == "PauliError" else 1])
        word = "".join(rng.choice(list("IXYZ"), len(wires))) if name == "PauliError" else ""
        gates += [gate, Gate(name, wires, tuple(Angle(len(params) + k) for k in range(len(values))), word=word)]
        operators += [op, channel(name, values, wires, word)]
        params += list(values)
    circuit = Circuit(n, tuple(gates), len(params), found.circuit.observables)
    return circuit, np.array(params), operators, found.observables


def reference(operators, n):
    @qml.qnode(qml.device("default.mixed", wires=n))
    def run():
        for op in operators:
            qml.apply(op)
        return qml.density_matrix(range(n))

    return np.asarray(run())


@pytest.mark.parametrize("seed", range(8))
def test_density_matrices_and_values_are_those_of_default_mixed(seed):
    circuit, params, operators, observables = noisy(seed)
    expected = reference(operators, circuit.n_wires)
    exact = [np.trace(qml.matrix(o, wire_order=range(circuit.n_wires)) @ expected).real for o in observables]
    rho = density.state(circuit, params[None])[0]

    assert np.allclose(rho, expected, atol=1e-11)
    assert np.isclose(np.trace(rho), 1, atol=1e-12)
    assert np.allclose(density.expval(circuit, params[None])[0], exact, atol=1e-11)


@pytest.mark.parametrize("wire", range(6))
def test_all_channels_are_right_on_all_wires(wire):
    rng, n = np.random.default_rng(wire), 6
    values = {
        name: (0.2, 1.1, 1.3, 0.3) if name == "ThermalRelaxationError" else (0.1, 0.3)[: CHANNELS[name].n_angles] for name in CHANNELS
    }
    coherent = [np.sqrt(p) * random_unitary(rng, 2) for p in (0.3, 0.7)]
    angles = rng.normal(size=n)
    gates = [Gate("RX", (w,), (constant(a),)) for w, a in enumerate(angles)] + [Gate("CNOT", (w, w + 1)) for w in range(n - 1)]
    operators = [qml.RX(a, w) for w, a in enumerate(angles)] + [qml.CNOT([w, w + 1]) for w in range(n - 1)]
    for name, value in values.items():
        gates += [Gate(name, (wire,), tuple(map(constant, value)), word="Y"), Gate("RY", (wire,), (constant(0.4),))]
        operators += [channel(name, value, [wire], "Y"), qml.RY(0.4, wire)]
    gates.append(Gate(SUPEROPERATOR, (wire,), matrix=matrix_bytes(superoperator(coherent))))
    operators.append(qml.QubitChannel(coherent, wires=wire))

    assert np.allclose(density.state(Circuit(n, tuple(gates)), np.zeros((1, 0)))[0], reference(operators, n), atol=1e-11)


@pytest.mark.parametrize("seed", range(8))
def test_jacobians_are_those_of_finite_differences(seed):
    circuit, params, _, _ = noisy(seed, max_wires=3)
    values, jacobian = density.jacobian(circuit, params[None])
    steps = 1e-5 * np.eye(len(params))
    numeric = (density.expval(circuit, params + steps) - density.expval(circuit, params - steps)) / 2e-5
    weights = np.array([[0.3, -2.0]])

    assert np.allclose(jacobian[0], numeric.T, atol=1e-8)
    assert np.allclose(values, density.expval(circuit, params[None]), atol=1e-13)
    assert np.allclose(density.vjp(circuit, params[None], weights)[1], weights @ jacobian[0], atol=1e-12)


def test_only_wanted_derivatives_are_taken():
    circuit, params, _, _ = noisy(1)
    _, full = density.jacobian(circuit, params[None])
    wanted = frozenset({0, len(params) - 1})
    _, some = density.jacobian(circuit, params[None], wanted=wanted)
    _, none = density.jacobian(circuit, params[None], wanted=frozenset())

    assert np.allclose(some[..., sorted(wanted)], full[..., sorted(wanted)], atol=1e-12)
    assert not none.any()


def test_a_start_may_be_any_density_matrix():
    rng, n = np.random.default_rng(4), 2
    root = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    rho = root @ root.conj().T / np.trace(root @ root.conj().T)
    unitary = random_unitary(rng, 4)
    kraus = superoperator(qml.AmplitudeDamping(0.3, 0).kraus_matrices())
    damping = Gate(SUPEROPERATOR, (1,), matrix=matrix_bytes(kraus))
    word = PauliSum((1.0,), (((0, "X"), (1, "Y")),))
    circuit = Circuit(n, (Gate("Matrix", (0, 1), matrix=matrix_bytes(unitary)), damping, Gate("RX", (1,), (Angle(0),))), 1, (word,))
    found = density.state(circuit, [[0.7]], start=density.vector_of(rho))[0]
    wide = [np.kron(np.eye(2), k) for k in qml.AmplitudeDamping(0.3, 0).kraus_matrices()]
    turned = unitary @ rho @ unitary.conj().T
    last = np.kron(np.eye(2), qml.matrix(qml.RX(0.7, 0)))
    exact = last @ sum(k @ turned @ k.conj().T for k in wide) @ last.conj().T

    assert np.allclose(found, exact, atol=1e-13)
    up, down = (density.expval(circuit, [[0.7 + h]], start=density.vector_of(rho))[0, 0] for h in (1e-6, -1e-6))
    assert np.isclose(density.jacobian(circuit, [[0.7]], start=density.vector_of(rho))[1][0, 0, 0], (up - down) / 2e-6, atol=1e-8)


def test_a_batch_is_a_loop_also_over_noise():
    circuit, params, _, _ = noisy(2)
    batch = np.stack([params, params * 0.5, params * [*[1.5] * 8, *[1.0] * (len(params) - 8)]])

    assert np.allclose(density.expval(circuit, batch), [density.expval(circuit, p[None])[0] for p in batch], atol=1e-13)
    assert np.allclose(density.state(circuit, batch)[1], density.state(circuit, batch[1:2])[0], atol=1e-13)


def test_single_precision_is_near():
    circuit, params, _, _ = noisy(3)
    (values, jacobian), (near, nearby) = (density.jacobian(circuit, params[None], c_dtype=d) for d in (np.complex128, np.complex64))

    assert density.state(circuit, params[None], c_dtype=np.complex64).dtype == np.complex64
    assert np.allclose(near, values, atol=1e-5)
    assert np.allclose(nearby, jacobian, atol=1e-4)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate("AmplitudeDamping", (0,), (constant(1.2),)), r"AmplitudeDamping on wires \(0,\): gamma = 1.2 is not in \[0, 1\]"),
        (Gate("ResetError", (0,), (constant(0.8), constant(0.7))), r"p0 \+ p1 = 1.5"),
        (Gate("ThermalRelaxationError", (0,), tuple(map(constant, (0.1, 1.0, 2.5, -1.0)))), "t2 <= 2 .* tg = -1.0 is negative"),
        (Gate(SUPEROPERATOR, (0, 1, 2, 3, 4)), "acts on 5 wires; channels act on up to 4"),
    ],
)
def test_what_is_no_channel_is_refused(gate, said):
    with pytest.raises(SimulationError, match=said):
        density.state(Circuit(5, (gate,)), np.zeros((1, 0)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        SimulationError, match=r"a density matrix of 30 wires is as large as a state of twice as many: 60 qubits need .* GB"
    ):
        density.state(Circuit(30, ()), np.zeros((1, 0)))
