"""One contract for both engines, by every array library; and what the array engine has beyond it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import autograd
import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_array, engine_cpu
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum, matrix_bytes
from pl_hybridjobs.sim.gates import GATES, expand
from pl_hybridjobs.sim.shifts import shifts_of
from tests.sim.random_circuits import random_circuit, random_unitary, reference_state

ENGINES = ("kernels", "numpy", "autograd", "torch", "jax")
ARRAYS = ENGINES[1:]
#: What JAX compiles takes a second for each circuit, whatever its size: it gets few of them, with many gates.
CASES = [pytest.param(seed, 25, 9, id=str(seed)) for seed in range(8)]
LARGE = [pytest.param(seed, 110, 7, id=f"large {seed}") for seed in (100, 101)]


@pytest.fixture(autouse=True)
def all_in_double_precision(x64):
    """JAX's numbers too."""


@dataclass(frozen=True)
class Engine:
    """numpy arrays in, numpy arrays out."""

    name: str
    dtype: Any = np.complex128

    def _array(self, value):
        if self.name == "torch":
            return pytest.importorskip("torch").as_tensor(value)
        return jnp.asarray(value) if self.name == "jax" else np.asarray(value)

    def state(self, circuit, params, **options):
        if self.name == "kernels":
            return engine_cpu.state(circuit, params, c_dtype=self.dtype, **options)
        options = {k: [self._array(m) for m in v] if k == "matrices" else self._array(v) for k, v in options.items()}
        return np.asarray(engine_array.state(circuit, self._array(params), dtype=self.dtype, like=self.name, **options))

    def expval(self, circuit, params, **options):
        if self.name == "kernels":
            return engine_cpu.expval(circuit, params, c_dtype=self.dtype, **options)
        options = {k: self._array(v) for k, v in options.items()}
        return np.asarray(engine_array.expval(circuit, self._array(params), dtype=self.dtype, like=self.name, **options))

    def vjp(self, circuit, params, weights):
        """The gradient of the weighted sum of the values."""
        if self.name == "kernels":
            return engine_cpu.vjp(circuit, params, weights, c_dtype=self.dtype)[1]
        return gradient(
            self.name, lambda p: (engine_array.expval(circuit, p, dtype=self.dtype, like=self.name) * self._array(weights)).sum(), params
        )


def gradient(name, function, at):
    """Of a real function of one array."""
    if name == "autograd":
        return autograd.grad(function)(at)
    if name == "jax":
        return np.asarray(jax.grad(function)(jnp.asarray(at)))
    torch = pytest.importorskip("torch")
    array = torch.tensor(at, requires_grad=True)
    function(array).backward()
    return array.grad.numpy()


def hessian(name, function, at):
    if name == "autograd":
        return autograd.hessian(function)(at)
    if name == "jax":
        return np.asarray(jax.hessian(function)(jnp.asarray(at)))
    torch = pytest.importorskip("torch")
    return torch.autograd.functional.hessian(function, torch.as_tensor(at)).numpy()


def over_engines(names):
    few = LARGE[:1]
    return pytest.mark.parametrize(
        ("name", "seed", "n_gates", "max_wires"),
        [
            pytest.param(name, *case.values, id=f"{name}-{case.id}")
            for name in names
            for case in ([*LARGE] if name == "jax" else [*CASES, *few])
        ],
    )


def test_the_large_circuits_have_all_gates_with_controls_and_inverses():
    gates = [gate for case in LARGE for gate in random_circuit(case.values[0], 110, 7).circuit.gates]

    assert {gate.name for gate in gates} == set(GATES)
    assert any(gate.controls and gate.inverse for gate in gates)


@over_engines(ENGINES)
def test_states_are_those_of_default_qubit(name, seed, n_gates, max_wires):
    found = random_circuit(seed, n_gates, max_wires)

    assert np.allclose(Engine(name).state(found.circuit, found.params[None])[0], reference_state(found), atol=1e-12)


@over_engines(ENGINES)
def test_values_are_those_of_exact_matrices(name, seed, n_gates, max_wires):
    found = random_circuit(seed, n_gates, max_wires)
    state = reference_state(found)
    exact = [np.vdot(state, qml.matrix(o, wire_order=range(found.circuit.n_wires)) @ state).real for o in found.observables]

    assert np.allclose(Engine(name).expval(found.circuit, found.params[None])[0], exact, atol=1e-12)


@over_engines(("autograd", "torch"))
def test_gradients_are_those_of_the_kernels(name, seed, n_gates, max_wires):
    found = random_circuit(seed, n_gates, max_wires)
    weights = np.random.default_rng(seed).normal(size=(1, 2))

    expected = Engine("kernels").vjp(found.circuit, found.params[None], weights)
    assert np.allclose(Engine(name).vjp(found.circuit, found.params[None], weights), expected, atol=1e-12)


def test_gradients_under_jax_are_those_of_the_kernels():
    test_gradients_are_those_of_the_kernels("jax", *LARGE[0].values)


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_second_derivatives_are_those_of_shifted_kernels_and_of_finite_differences(name):
    found = random_circuit(102, 20, 4, tuple(name for name, row in GATES.items() if row.n_angles))
    circuit = replace(found.circuit, observables=found.circuit.observables[:1])
    second = hessian(name, lambda p: engine_array.expval(circuit, p[None], like=name)[0, 0], found.params)
    rules = shifts_of(circuit)
    shifted = engine_cpu.jacobian(circuit, found.params + rules.vectors)[1][:, 0]
    by_kernels = np.zeros_like(second)
    np.add.at(by_kernels, rules.slots, rules.weights[:, None] * shifted)
    steps = 1e-5 * np.eye(len(found.params))
    numeric = (engine_cpu.jacobian(circuit, found.params + steps)[1] - engine_cpu.jacobian(circuit, found.params - steps)[1])[:, 0] / 2e-5

    assert np.allclose(second, by_kernels, atol=1e-12)
    assert np.allclose(second, numeric, atol=1e-7)


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_the_gradient_of_a_function_of_the_state_is_that_of_the_kernels(name):
    found = random_circuit(103, 30, 6, ("Rot", "CNOT", "IsingXX", "PauliRot", "CRot"))
    rng = np.random.default_rng(3)
    size = 2**found.circuit.n_wires
    start, wanted = rng.normal(size=(2, size)) / np.sqrt(size)
    expected, before = engine_cpu.state_vjp(found.circuit, found.params[None], wanted[None] + 0j, start=start + 0j)

    def loss(params, start):
        states = engine_array.state(found.circuit, params, start=start, like=name)
        return (Engine(name)._array(wanted) * qml.math.real(states[0])).sum()

    assert np.allclose(gradient(name, lambda p: loss(p, Engine(name)._array(start)), found.params[None]), expected, atol=1e-12)
    if name != "jax":  # which would compile once more
        assert np.allclose(gradient(name, lambda s: loss(Engine(name)._array(found.params[None]), s), start), before[0].real, atol=1e-12)


@pytest.mark.parametrize("name", ENGINES)
def test_single_precision_is_near(name):
    found = random_circuit(101, 110, 7)
    double, single = Engine(name), Engine(name, np.complex64)

    state = single.state(found.circuit, found.params[None])
    assert state.dtype == np.complex64
    assert np.allclose(state, double.state(found.circuit, found.params[None]), atol=1e-5)
    assert np.allclose(single.expval(found.circuit, found.params[None]), double.expval(found.circuit, found.params[None]), atol=2e-5)
    if name not in ("numpy", "jax"):  # numpy has none, and JAX would compile for seconds
        weights = np.ones((1, 2))
        expected = double.vjp(found.circuit, found.params[None], weights)
        assert np.allclose(single.vjp(found.circuit, found.params[None], weights), expected, atol=2e-4)


def test_jax_without_its_64_bit_mode_has_single_precision():
    found = random_circuit(101, 110, 7)
    expected = Engine("kernels").state(found.circuit, found.params[None])
    jax.config.update("jax_enable_x64", False)
    states = engine_array.state(found.circuit, jnp.asarray(found.params[None]))

    assert states.dtype == jnp.complex64
    assert np.allclose(states, expected, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_is_a_loop(name):
    found = random_circuit(4, 25, 5)
    engine = Engine(name)
    batch = np.random.default_rng(0).normal(size=(4, len(found.params)))

    states, values = engine.state(found.circuit, batch), engine.expval(found.circuit, batch)
    for params, state, value in zip(batch, states, values, strict=True):
        assert np.allclose(engine_cpu.state(found.circuit, params[None])[0], state, atol=1e-12)
        assert np.allclose(engine_cpu.expval(found.circuit, params[None])[0], value, atol=1e-12)


# Matrices, starts and coefficients that travel apart --------------------------------------------------------------------------


def with_slots(rng, n_wires=4):
    """A circuit with two matrices apart (one of them inverse and controlled), the same with constants, and the matrices."""
    matrices = [random_unitary(rng, 4), random_unitary(rng, 2)]
    before, after = Gate("RY", (1,), (Angle(0),)), Gate("IsingXX", (0, 3), (Angle(1),))

    def circuit(first, second):
        gates = (
            before,
            Gate("Matrix", (2, 0), **first),
            after,
            Gate("Matrix", (1,), controls=(3,), control_values=(True,), inverse=True, **second),
        )
        return Circuit(n_wires, (Gate("Hadamard", (3,)), *gates), 2, (PauliSum((0.7, -0.4), (((0, "X"), (2, "Y")), ((1, "Z"),))),))

    apart = circuit({"slot": 0}, {"slot": 1})
    return apart, lambda given: circuit(*({"matrix": matrix_bytes(m)} for m in given)), matrices


@pytest.mark.parametrize("name", ARRAYS)
def test_a_matrix_apart_does_what_a_constant_one_does(name):
    apart, fixed, matrices = with_slots(np.random.default_rng(1))
    params = np.array([[0.3, 1.1]])

    found = Engine(name).state(apart, params, matrices=matrices)
    assert np.allclose(found, engine_cpu.state(fixed(matrices), params), atol=1e-12)


@pytest.mark.parametrize("name", ARRAYS)
def test_matrices_and_starts_of_a_batch_are_a_loop(name):
    rng = np.random.default_rng(2)
    apart, fixed, matrices = with_slots(rng)
    many = np.stack([random_unitary(rng, 4) for _ in range(3)])
    starts = rng.normal(size=(3, 16)) + 1j * rng.normal(size=(3, 16))
    params = np.array([[0.3, 1.1]])

    found = Engine(name).state(apart, params, matrices=[many, matrices[1]], start=starts)
    for state, first, start in zip(found, many, starts, strict=True):
        assert np.allclose(state, engine_cpu.state(fixed([first, matrices[1]]), params, start=start)[0], atol=1e-12)


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_a_matrix_apart_has_derivatives(name):
    apart, fixed, matrices = with_slots(np.random.default_rng(3))
    params = np.array([[0.3, 1.1]])
    array = Engine(name)._array

    def value(real):
        return engine_array.expval(apart, array(params), matrices=[real, array(matrices[1])], like=name)[0, 0]

    at = matrices[0].real.copy()
    expected = np.zeros((4, 4))
    for i, j in np.ndindex(4, 4):
        step = np.zeros((4, 4))
        step[i, j] = 1e-6
        ends = [engine_cpu.expval(fixed([at + sign * step, matrices[1]]), params)[0, 0] for sign in (1, -1)]
        expected[i, j] = (ends[0] - ends[1]) / 2e-6
    assert np.allclose(gradient(name, value, at), expected, atol=1e-8)


@pytest.mark.parametrize("name", ["autograd", "torch", "jax"])
def test_the_derivative_by_a_coefficient_is_the_value_of_its_word(name):
    found = random_circuit(5, 25, 5)
    circuit = replace(found.circuit, observables=found.circuit.observables[:1])
    (observable,) = circuit.observables
    words = replace(circuit, observables=tuple(PauliSum((1.0,), (word,)) for word in observable.words))

    def value(coefficients):
        return engine_array.expval(circuit, Engine(name)._array(found.params[None]), coefficients=coefficients, like=name)[0, 0]

    expected = engine_cpu.expval(words, found.params[None])[0]
    assert np.allclose(gradient(name, value, np.array(observable.coefficients)), expected, atol=1e-12)


def test_the_kernels_refuse_a_matrix_apart():
    apart, _, _ = with_slots(np.random.default_rng(1))

    with pytest.raises(SimulationError, match=r"matrix 0 on wires .* only the array engine"):
        engine_cpu.state(apart, np.zeros((1, 2)))


# Observables ------------------------------------------------------------------------------------------------------------------

words_on_four = st.lists(st.text("IXYZ", min_size=4, max_size=4), min_size=1, max_size=8)


@given(words=words_on_four, seed=st.integers(0, 1000))
def test_any_sum_of_words_has_the_value_of_its_matrix(words, seed):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(2, 16)) + 1j * rng.normal(size=(2, 16))
    coefficients = rng.normal(size=len(words))
    matrix = sum(
        c * qml.pauli.string_to_pauli_word(w, {i: i for i in range(4)}).matrix(wire_order=range(4))
        for c, w in zip(coefficients, words, strict=True)
    )
    observable = PauliSum(tuple(coefficients), tuple(tuple((i, p) for i, p in enumerate(word) if p != "I") for word in words))

    found = engine_array.expval_of((observable,), states)[:, 0]
    assert np.allclose(found, np.einsum("bi,ij,bj->b", states.conj(), matrix, states).real, atol=1e-10)


def test_many_words_are_rows_of_a_loop():
    rng = np.random.default_rng(8)
    states = rng.normal(size=(2, 64)) + 1j * rng.normal(size=(2, 64))
    words = [tuple((i, p) for i, p in enumerate(rng.choice(list("IXYZ"), 6)) if p != "I") for _ in range(300)]
    observables = (PauliSum(tuple(rng.normal(size=200)), tuple(words[:200])), PauliSum(tuple(rng.normal(size=100)), tuple(words[200:])))

    assert np.allclose(engine_array.expval_of(observables, jnp.asarray(states)), engine_array.expval_of(observables, states), atol=1e-9)


def test_nothing_to_measure_gives_no_values():
    assert engine_array.expval(Circuit(2, ()), np.zeros((3, 0))).shape == (3, 0)
    assert engine_array.expval(Circuit(2, ()), jnp.zeros((3, 0))).shape == (3, 0)


# Compilation and refusals -----------------------------------------------------------------------------------------------------


def test_what_jax_compiles_does_not_grow_with_gates_or_words():
    def size(layers):
        gates = [Gate("Rot", (w,), tuple(Angle(3 * w + k) for k in range(3))) for w in range(4)] + [
            Gate("CNOT", (w, (w + 1) % 4)) for w in range(4)
        ]
        gates += [Gate("ECR", (0, 2)), Gate("MultiRZ", (0, 1, 3), (Angle(0),))]
        words = tuple(((0, "XYZ"[k % 3]), (1 + k % 3, "Z")) for k in range(layers))
        circuit = Circuit(4, tuple(gates) * layers, 12, (PauliSum((1.0,) * layers, words),))
        gradient = jax.grad(lambda p: engine_array.expval(circuit, p[None])[0, 0])
        return len(jax.jit(gradient).lower(jnp.zeros(12)).as_text().splitlines())

    assert size(20) == size(60)


def test_one_compiled_function_serves_equal_circuits():
    circuit = Circuit(2, (Gate("RX", (0,), (Angle(0),)), Gate("CNOT", (0, 1))), 1)
    before = engine_array.state(circuit, jnp.zeros((1, 1)))
    from pl_hybridjobs.sim import scan
    from pl_hybridjobs.sim.table import table_of

    function = scan.state(table_of(circuit), "complex128")
    assert function._cache_size() == 1
    again = engine_array.state(replace(circuit), jnp.zeros((1, 1)))
    assert function._cache_size() == 1
    assert np.array_equal(before, again)


@pytest.mark.parametrize(
    ("circuit", "arguments", "said"),
    [
        (Circuit(2, (Gate("CNOT", (0, 0)),)), {}, "uses a wire twice"),
        (Circuit(1, ()), {"params": np.zeros(3)}, r"parameters have the shape \(3,\); wanted \(batch, 0\)"),
        (Circuit(1, ()), {"start": np.zeros(4)}, r"the state before the circuit has the shape \(4,\); wanted \(\[batch\], 2\)"),
        (Circuit(1, (Gate("Matrix", (0,), slot=0),)), {"matrices": [np.eye(4)]}, r"matrix number 0 has the shape \(4, 4\)"),
        (Circuit(1, (Gate("Matrix", (0,), slot=1),)), {"matrices": [np.eye(2)]}, "there is no matrix number 1"),
        (Circuit(1, ()), {"params": np.zeros((3, 0)), "start": np.zeros((2, 2))}, r"batches of different sizes: \[2, 3\]"),
        (Circuit(1, ()), {"like": "tensorflow"}, "numpy, autograd, jax, torch, and was given an array of 'tensorflow'"),
    ],
)
def test_what_does_not_fit_is_refused(circuit, arguments, said):
    arguments = {"params": np.zeros((1, circuit.n_parameters)), **arguments}

    with pytest.raises(SimulationError, match=said):
        engine_array.state(circuit, **arguments)


# Shift rules ------------------------------------------------------------------------------------------------------------------

WITH_ANGLES = sorted(name for name, row in GATES.items() if row.n_angles)


@pytest.mark.parametrize("controls", [0, 1])
@pytest.mark.parametrize("name", [*WITH_ANGLES, "PauliRot of identities"])
def test_shift_rules_are_exact_for_every_gate(name, controls):
    row = GATES[name.split()[0]]
    k = row.n_wires or 2
    n = k + controls
    word = ("II" if name != row and "identities" in name else "XY") if name.startswith("PauliRot") else ""
    angles = tuple(Angle(i, 0.5 + i, 0.1) for i in range(row.n_angles))
    gate = Gate(name.split()[0], tuple(range(k)), angles, tuple(range(k, n)), (False,) * controls, word)
    rng = np.random.default_rng(5)
    start = rng.normal(size=2**n) + 1j * rng.normal(size=2**n)
    start /= np.linalg.norm(start)
    observable = PauliSum((1.0, 0.3), (((0, "X"), *(((n - 1, "Z"),) if n > 1 else ())), tuple((w, "Y") for w in range(n))))
    circuit = Circuit(n, (gate,), row.n_angles, (observable,))
    params = rng.normal(size=row.n_angles)

    rules = shifts_of(circuit)
    found = np.zeros(row.n_angles)
    np.add.at(found, rules.slots, rules.weights * engine_cpu.expval(circuit, params + rules.vectors, start=start)[:, 0])
    assert np.allclose(found, engine_cpu.jacobian(circuit, params[None], start=start)[1][0, 0], atol=1e-12)


def test_most_gates_need_two_shifts_only():
    assert len(shifts_of(Circuit(1, (Gate("Rot", (0,), (Angle(0), Angle(1), Angle(2))),), 3)).weights) == 6
    assert len(shifts_of(Circuit(2, (Gate("CRX", (0, 1), (Angle(0),)),), 1)).weights) == 4
    assert len(expand(Gate("CRX", (0, 1), (Angle(0),)))) == 1


def test_a_parameter_of_two_angles_has_no_short_rule():
    circuit = Circuit(1, (Gate("RX", (0,), (Angle(0),)), Gate("RY", (0,), (Angle(0),))), 1)

    with pytest.raises(SimulationError, match=r"parameters \[0\] enter more than one angle"):
        shifts_of(circuit)
