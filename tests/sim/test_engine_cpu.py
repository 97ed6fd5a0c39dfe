"""The CPU engine against default.qubit, finite differences and itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import numba
import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_cpu
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum, constant
from pl_hybridjobs.sim.program import compile_circuit
from tests.sim.random_circuits import random_circuit, reference_state

SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_states_are_those_of_default_qubit(seed):
    found = random_circuit(seed)
    state = engine_cpu.state(found.circuit, found.params[None])[0]

    assert np.allclose(state, reference_state(found), atol=1e-12)
    assert np.isclose(np.linalg.norm(state), 1, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_those_of_exact_matrices(seed):
    found = random_circuit(seed, max_wires=8)
    state = reference_state(found)
    exact = [np.vdot(state, qml.matrix(o, wire_order=range(found.circuit.n_wires)) @ state).real for o in found.observables]

    assert np.allclose(engine_cpu.expval(found.circuit, found.params[None])[0], exact, atol=1e-12)
    assert np.allclose(engine_cpu.jacobian(found.circuit, found.params[None])[0][0], exact, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_jacobians_are_those_of_finite_differences(seed):
    found = random_circuit(seed)
    _, jacobian = engine_cpu.jacobian(found.circuit, found.params[None])
    h = 1e-5
    shifts = h * np.eye(len(found.params))
    numeric = (engine_cpu.expval(found.circuit, found.params + shifts) - engine_cpu.expval(found.circuit, found.params - shifts)) / (2 * h)

    assert np.allclose(jacobian[0], numeric.T, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_one_sweep_gives_the_gradient_of_a_weighted_sum(seed):
    found = random_circuit(seed)
    weights = np.random.default_rng(seed).normal(size=(1, 2))
    values, jacobian = engine_cpu.jacobian(found.circuit, found.params[None])
    same, gradient = engine_cpu.vjp(found.circuit, found.params[None], weights)

    assert np.allclose(gradient, weights @ jacobian[0], atol=1e-12)
    assert np.allclose(same, values, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_of_a_function_of_the_state(seed):
    found = random_circuit(seed, max_wires=7)
    rng = np.random.default_rng(seed)
    size = 2**found.circuit.n_wires
    start = rng.normal(size=size) + 1j * rng.normal(size=size)
    start /= np.linalg.norm(start)
    wanted = rng.normal(size=size) + 1j * rng.normal(size=size)

    def loss(params, start):
        return np.real(np.vdot(wanted, engine_cpu.state(found.circuit, params[None], start=start)[0]))

    grads, before = engine_cpu.state_vjp(found.circuit, found.params[None], wanted[None], start=start)
    h = 1e-6
    for i in rng.permutation(len(found.params))[:5]:
        step = h * np.eye(len(found.params))[i]
        assert np.isclose(grads[0, i], (loss(found.params + step, start) - loss(found.params - step, start)) / (2 * h), atol=1e-7)
    for i in rng.permutation(size)[:3]:
        step = h * np.eye(size)[i]
        assert np.isclose(before[0, i].real, (loss(found.params, start + step) - loss(found.params, start - step)) / (2 * h), atol=1e-7)
        imaginary = (loss(found.params, start + 1j * step) - loss(found.params, start - 1j * step)) / (2 * h)
        assert np.isclose(before[0, i].imag, imaginary, atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_single_precision_is_near(seed):
    found = random_circuit(seed)
    double, single = (engine_cpu.jacobian(found.circuit, found.params[None], c_dtype=d) for d in (np.complex128, np.complex64))

    assert np.allclose(double[0], single[0], atol=2e-5)
    assert np.allclose(double[1], single[1], atol=2e-4)


def test_a_batch_is_a_loop():
    found = random_circuit(3)
    batch = np.random.default_rng(0).normal(size=(7, len(found.params)))
    values, jacobian = engine_cpu.jacobian(found.circuit, batch)

    for b, params in enumerate(batch):
        one = engine_cpu.jacobian(found.circuit, params[None])
        assert np.array_equal(values[b], one[0][0])
        assert np.array_equal(jacobian[b], one[1][0])


def test_a_nest_of_layers_on_many_qubits_agrees_with_default_qubit_and_does_not_depend_on_threads():
    n = 15  # from 14 on all threads work on one state
    rng = np.random.default_rng(5)
    gates = [Gate("Rot", (w,), tuple(Angle(3 * w + i) for i in range(3))) for w in range(n)]
    gates += [Gate("CNOT", (w, (w + 4) % n)) for w in range(n)]
    gates += [Gate("IsingXX", (w, (w + 3) % n), (Angle(3 * n + w),)) for w in range(n)]
    gates += [Gate("ControlledPhaseShift", (w, (w + 1) % n), (Angle(3 * n + w, 0.5, 0.1),)) for w in range(n)]
    words = tuple(tuple((int(q), str(rng.choice(list("XYZ")))) for q in rng.choice(n, 3, replace=False)) for _ in range(12))
    circuit = Circuit(n, tuple(gates), 4 * n, (PauliSum(tuple(rng.normal(size=12)), words),))
    params = rng.normal(size=4 * n)
    before = numba.get_num_threads()
    results = []
    for threads in dict.fromkeys((1, before)):
        numba.set_num_threads(threads)
        results.append(engine_cpu.jacobian(circuit, params[None]))
    numba.set_num_threads(before)

    @qml.qnode(qml.device("default.qubit", wires=n))
    def reference(params):
        for gate in gates:
            getattr(qml, gate.name)(*(a.shift + a.scale * params[a.slot] for a in gate.angles), wires=gate.wires)
        return qml.expval(qml.dot(circuit.observables[0].coefficients, [qml.prod(*(getattr(qml, p)(q) for q, p in w)) for w in words]))

    assert np.isclose(results[0][0][0, 0], reference(params), atol=1e-12)
    step = 1e-5 * np.eye(4 * n)[[0, 1, 2, 22, 3 * n + 1, 4 * n - 1]]
    numeric = (engine_cpu.expval(circuit, params + step) - engine_cpu.expval(circuit, params - step))[:, 0] / 2e-5
    assert np.allclose(results[0][1][0, 0, [0, 1, 2, 22, 3 * n + 1, 4 * n - 1]], numeric, atol=1e-8)
    for values, jacobian in results[1:]:
        assert np.array_equal(values, results[0][0])
        assert np.array_equal(jacobian, results[0][1])


_FORK = """
    import multiprocessing
    import numpy as np
    from pl_hybridjobs.sim import engine_cpu
    from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum

    circuit = Circuit(15, tuple(Gate("RX", (w,), (Angle(0),)) for w in range(15)), 1, (PauliSum((1.0,), (((3, "Z"),),)),))

    def value(angle):
        return float(engine_cpu.expval(circuit, [[angle]])[0, 0])

    if __name__ == "__main__":
        value(0.1)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert np.allclose(pool.map(value, [0.1, 0.2]), np.cos([0.1, 0.2]))
        print("done")
"""


def test_a_forked_process_works_although_threads_are_not_copied():
    command = [sys.executable, "-c", textwrap.dedent(_FORK)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout == "done\n"


def test_the_same_call_gives_the_same_bits_also_from_threads():
    found = random_circuit(11)
    expected = engine_cpu.jacobian(found.circuit, found.params[None])
    seen: list[bool] = []

    def work():
        for _ in range(20):
            got = engine_cpu.jacobian(found.circuit, found.params[None])
            seen.append(all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [True] * 80


_FIRST_USE = """
    import threading, time
    import jax, numpy as np
    from pl_hybridjobs.sim import drivers, engine_cpu, xla
    from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum

    compile_all, compilations, registered = drivers._drivers, [], []
    drivers._PATIENCE_S = 0.1

    def slowly():
        compilations.append(threading.get_ident())
        time.sleep(0.5)
        return compile_all()

    def register(name, *arguments, **options):
        registered.append(name)
        time.sleep(0.1)

    drivers._drivers, jax.ffi.register_ffi_target = slowly, register
    circuit = Circuit(1, (Gate("RX", (0,), (Angle(0),)),), 1, (PauliSum((1.0,), (((0, "Z"),),)),))
    start, seen = threading.Barrier(6), []

    def work(c_dtype):
        start.wait()
        xla.target(c_dtype)
        seen.append(engine_cpu.expval(circuit, [[0.3]], c_dtype=c_dtype)[0, 0])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("complex128", "complex64") * 3]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert np.allclose(seen, [np.cos(0.3)] * 6, atol=1e-6), seen
    assert len(compilations) == len(drivers.linked) == 2, compilations  # a precision each
    assert sorted(registered) == ["pl_hybridjobs_run_complex128", "pl_hybridjobs_run_complex64"], registered
"""


def test_of_several_threads_at_first_use_one_compiles_and_says_so():
    command = [sys.executable, "-c", textwrap.dedent(_FIRST_USE)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150)

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("compiling the simulator") == 2  # for either precision


def test_not_a_number_stays_not_a_number():
    circuit = Circuit(1, (Gate("RX", (0,), (Angle(0),)),), 1, (PauliSum((1.0,), (((0, "Z"),),)),))
    values, jacobian = engine_cpu.jacobian(circuit, [[np.nan]])

    assert np.isnan(values).all()
    assert np.isnan(jacobian).all()


def test_equal_structures_share_a_program_and_constants_merge():
    def circuit(shift):
        return Circuit(2, (Gate("RX", (0,), (constant(shift),)), Gate("Hadamard", (0,)), Gate("RZ", (0,), (Angle(0),))), 1)

    assert compile_circuit(circuit(0.5)) is compile_circuit(circuit(0.5))
    assert compile_circuit(circuit(0.5)) is not compile_circuit(circuit(0.6))


@pytest.mark.parametrize(
    ("circuit", "said"),
    [
        (Circuit(2, (Gate("CNOT", (0, 0)),)), "uses a wire twice"),
        (Circuit(2, (Gate("PauliX", (2,)),)), "there are wires 0 to 1"),
        (Circuit(2, (Gate("RX", (0,), (Angle(3),)),), 1), "beyond the 1 that there are"),
        (Circuit(1, (), 0, (PauliSum((1.0,), (((4, "Z"),),)),)), "observable 0"),
    ],
)
def test_a_circuit_that_makes_no_sense_is_refused(circuit, said):
    with pytest.raises(SimulationError, match=said):
        engine_cpu.expval(circuit, np.zeros((1, circuit.n_parameters)))


def test_what_does_not_fit_is_refused_before_memory_is_touched():
    with pytest.raises(SimulationError, match=r"60 qubits need .* GB .* qubits would fit; c_dtype=complex64 needs half"):
        engine_cpu.state(Circuit(60, ()), np.zeros((1, 0)))


def test_parameters_of_the_wrong_shape_are_refused():
    with pytest.raises(SimulationError, match=r"wanted \(batch, 0\)"):
        engine_cpu.expval(Circuit(1, ()), np.zeros(3))
