"""The device that spreads: what people type, what PennyLane sees of it, what does not depend on the number of workers."""

from __future__ import annotations

import pickle
from copy import deepcopy

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.exceptions import DeviceError, QuantumFunctionError

from pl_hybridjobs import hybrid_job, job_device
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.fanout import FanOut, ThreadExecutor
from pl_hybridjobs.fanout.pieces import MAX_PIECES
from tests.fanout.circuits import NOISY, ansatz, assert_same_bits, circuit, every_kind, every_sample, noisy_training
from tests.training.resuming import bits, interrupted, reference

ANGLES = np.random.default_rng(4).uniform(0, 6, 6)
OF_JAX = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")  # PennyLane's
BATCH = np.random.default_rng(5).uniform(0, 6, (5, 6))


def expectation(device, **options):
    @qml.qnode(device, **options)
    def value(angles):
        ansatz(angles)
        return qml.expval(NOISY)

    return value


# What people type ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
def test_workers_is_an_option_of_our_simulators(name):
    device = qml.device(name, wires=3, seed=1, workers=2, executor="threads")

    assert device.name == name
    assert repr(device) == f"<{name} device on ThreadExecutor(workers=2, threads=1)>"
    assert np.allclose(expectation(device)(ANGLES), expectation(qml.device("default.qubit"))(ANGLES))


@pytest.mark.parametrize("name", ["lightning.qubit", "hybridjobs.mixed", "local:pennylane/default.qubit"])
def test_in_a_job_it_is_one_of_any_simulator(name):
    def job():
        device = job_device(wires=3, workers=2, executor="threads")
        return repr(device), float(expectation(device)(ANGLES))

    text, value = hybrid_job(job, device=name, runner="inline")().result()

    assert text == f"<{name.split('/')[-1]} device on ThreadExecutor(workers=2, threads=1)>"
    assert np.allclose(value, expectation(qml.device("default.qubit"))(ANGLES))


def test_options_that_are_none_mean_no_workers():
    assert type(job_device(wires=1, workers=None, executor=None)).__name__ == "HybridQubit"


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidCall) as caught:
        qml.device("hybridjobs.qubit", workers=0, executor="process")

    assert caught.value.complaints == (
        "workers must be a whole number, 1 or more, not 0",
        "there is no executor 'process'; known are threads, processes, ray. Did you mean 'processes'?",
    )


def test_what_is_no_pool_is_refused():
    with pytest.raises(InvalidCall, match=r"executor must be a name or a pool with submit\(fn, \*args\) -> future, not 3"):
        FanOut("lightning.qubit", wires=1, executor=3)  # type: ignore[arg-type]


def test_a_class_of_pools_and_a_device_that_is_made_already_are_refused_with_the_cure(threads):
    with pytest.raises(InvalidCall, match=r"ThreadExecutor is a class of them: make one, ThreadExecutor\(\.\.\.\)"):
        FanOut("hybridjobs.qubit", executor=ThreadExecutor)  # type: ignore[arg-type]
    with pytest.raises(InvalidCall, match=r"FanOut\(\.\.\.\): device must be the name of one, which each worker makes for itself"):
        FanOut(qml.device("default.qubit"), executor=threads)


def test_options_of_the_device_are_its_own_business(threads):
    with pytest.raises(DeviceError, match="c_dtype"):
        qml.device("hybridjobs.qubit", c_dtype=int, executor=threads)


def test_remote_devices_need_no_workers():
    def job():
        return job_device(workers=2, wires=1)

    with pytest.raises(InvalidCall, match="workers is for simulators"):
        hybrid_job(job, device="rehearsal:ideal", runner="inline")().result()


# Streams ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, "key"])
@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
def test_samples_do_not_depend_on_the_number_of_workers(name, seed):
    import jax

    seed = jax.random.key(3) if seed == "key" else seed
    plain = qml.device(name, seed=seed)
    expected = [plain.execute(every_sample()) for _ in range(2)]
    for workers in (1, 3):
        with ThreadExecutor(workers) as pool:
            device = FanOut(name, seed=seed, executor=pool)
            for once in expected:
                assert_same_bits(device.execute(every_sample()), once)


@pytest.mark.parametrize("bombs", [pytest.param(["2"], marks=pytest.mark.torture_long), ["3:stop", "1"]], ids=str)
def test_training_that_is_interrupted_goes_on_with_the_same_bits(bombs, monkeypatch):
    expected = bits(reference(noisy_training, ("threads",), monkeypatch))

    assert bits(interrupted(noisy_training, ("threads",), bombs, monkeypatch)) == expected
    assert bits(reference(noisy_training, (None,), monkeypatch)) == expected  # nor do workers change them


@pytest.mark.parametrize("copied", [lambda device: pickle.loads(pickle.dumps(device)), deepcopy], ids=["pickle", "deepcopy"])
def test_a_device_travels_with_its_stream(copied):
    device = FanOut("hybridjobs.qubit", wires=3, seed=3, workers=1, executor="threads")
    device.execute(every_sample())

    copy = copied(device)

    assert_same_bits(copy.execute(every_sample()), device.execute(every_sample()))


def test_a_device_whose_executor_was_given_does_not_travel(threads):
    with pytest.raises(TypeError, match="cannot travel: its executor was given"):
        pickle.dumps(FanOut("hybridjobs.qubit", executor=threads))


# Batches ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, MAX_PIECES + 1, 2 * MAX_PIECES + 3])
@pytest.mark.parametrize("shots", [None, 10])
def test_a_broadcast_batch_is_cut_and_joined(threads, size, shots):
    angles = np.random.default_rng(size).uniform(0, 6, (size, 6))

    def results(device):
        @qml.set_shots(shots)
        @qml.qnode(device)
        def values(angles):
            ansatz(angles)
            return qml.expval(NOISY), qml.probs(wires=[0, 1])

        return values(angles)

    device = FanOut("hybridjobs.qubit", seed=1, executor=threads)
    with qml.Tracker(device) as tracker:
        found = results(device)

    wanted = results(qml.device("hybridjobs.qubit", seed=1)) if shots else results(qml.device("default.qubit"))
    assert [part.shape for part in found] == [(size,), (size, 4)]
    assert all(np.allclose(one, other) for one, other in zip(found, wanted, strict=True))
    assert tracker.totals["simulations"] == 1


def test_groups_of_a_hamiltonian_are_circuits_that_can_be_spread(threads):
    hamiltonian = qml.Hamiltonian([0.5, 1.0, -2.0], [qml.X(0) @ qml.X(1), qml.Z(0), qml.Y(2) @ qml.Z(1)])

    @qml.transforms.split_non_commuting
    @qml.set_shots(20_000)
    @qml.qnode(device := FanOut("hybridjobs.qubit", seed=1, executor=threads))
    def split(angles):
        ansatz(angles)
        return qml.expval(hamiltonian)

    @qml.qnode(qml.device("default.qubit"))
    def exact(angles):
        ansatz(angles)
        return qml.expval(hamiltonian)

    with qml.Tracker(device) as tracker:
        found = split(ANGLES)

    assert tracker.totals["simulations"] > 1
    assert np.isclose(found, exact(ANGLES), atol=0.08)


# Derivatives -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed", "lightning.qubit", "default.qubit", "default.mixed"])
def test_best_is_what_can_be_spread(threads, name):
    device = FanOut(name, wires=3, executor=threads)
    with qml.Tracker(device) as tracker:
        found = qml.grad(expectation(device))(pnp.array(ANGLES, requires_grad=True))

    assert np.allclose(found, qml.grad(expectation(qml.device("default.qubit")))(pnp.array(ANGLES, requires_grad=True)))
    assert ("derivatives" in tracker.totals or "vjps" in tracker.totals) == (name != "default.mixed")  # which has no adjoint method


def test_what_the_adjoint_method_cannot_do_is_done_by_shifts(threads):
    def jacobian(device):
        @qml.qnode(device)
        def values(angles):
            ansatz(angles)
            return qml.probs(wires=[0, 1])

        return qml.jacobian(values)(pnp.array(ANGLES, requires_grad=True))

    assert np.allclose(jacobian(FanOut("hybridjobs.qubit", executor=threads)), jacobian(qml.device("default.qubit")))


@pytest.mark.parametrize("method", ["adjoint", "device"])
def test_an_adjoint_method_that_does_not_fit_is_refused_with_what_can_be_spread(threads, method):
    @qml.qnode(FanOut("hybridjobs.qubit", executor=threads), diff_method=method)
    def values(angles):
        ansatz(angles)
        return qml.probs(wires=[0, 1])

    with pytest.raises(QuantumFunctionError, match="does not support adjoint") as caught:
        values(pnp.array(ANGLES, requires_grad=True))

    assert "use diff_method='best' or 'parameter-shift'" in caught.value.__notes__[0]


def test_second_derivatives_are_had_by_shifts(threads):
    def hessian(device):
        return qml.jacobian(qml.grad(expectation(device, max_diff=2)))(pnp.array(ANGLES, requires_grad=True))

    assert np.allclose(hessian(FanOut("hybridjobs.qubit", executor=threads)), hessian(qml.device("default.qubit")))


def test_backprop_is_refused_with_the_cure(threads):
    device = FanOut("default.qubit", executor=threads)

    with pytest.raises(QuantumFunctionError, match=r"has to run in this process; use diff_method='best', 'adjoint' or 'parameter-shift'"):
        expectation(device, diff_method="backprop")(ANGLES)


@OF_JAX
def test_jax_compiles_maps_and_differentiates_what_is_spread(threads, x64):
    import jax

    value = expectation(FanOut("hybridjobs.qubit", executor=threads))
    shifted = expectation(FanOut("hybridjobs.qubit", executor=threads), diff_method="parameter-shift")
    plain = expectation(qml.device("default.qubit"))
    values = [plain(angles) for angles in BATCH]
    gradients = [qml.grad(plain)(pnp.array(angles, requires_grad=True)) for angles in BATCH]
    one, many = jax.numpy.array(BATCH[0]), jax.numpy.array(BATCH)

    assert np.allclose(value(one), values[0])
    assert np.allclose(jax.grad(value)(one), gradients[0])
    assert np.allclose(jax.jit(value)(one), values[0])
    assert np.allclose(jax.jit(jax.grad(value))(one), gradients[0])
    assert np.allclose(jax.jit(jax.vmap(value))(many), values)
    assert np.allclose(jax.jit(jax.vmap(jax.grad(value)))(many), gradients)
    assert np.allclose(jax.jit(jax.vmap(jax.grad(shifted)))(many), gradients)


@OF_JAX
def test_samples_in_a_compiled_function_are_fresh_each_time(threads, x64):
    import jax

    value = jax.jit(qml.set_shots(expectation(FanOut("hybridjobs.qubit", seed=1, executor=threads)), 50))

    found = {float(value(jax.numpy.array(ANGLES))) for _ in range(5)}

    plain = qml.set_shots(expectation(qml.device("hybridjobs.qubit", seed=1)), 50)
    assert len(found) > 1
    assert found == {float(plain(ANGLES)) for _ in range(5)}


@OF_JAX
def test_a_key_that_has_no_value_yet_is_refused(threads):
    import jax

    @jax.jit
    def sample(key):
        device = FanOut("hybridjobs.qubit", seed=key, executor=threads)
        return device.execute([circuit(0, [qml.expval(NOISY)], shots=5)])[0]

    with pytest.raises(DeviceError, match="a key that is an argument of a compiled function has no value yet"):
        sample(jax.random.key(1))


def test_torch_differentiates_what_is_spread(threads, torch):
    angles = torch.tensor(BATCH, requires_grad=True)
    (expectation(FanOut("hybridjobs.qubit", executor=threads))(angles) ** 2).sum().backward()

    wanted = qml.grad(lambda angles: pnp.sum(expectation(qml.device("default.qubit"))(angles) ** 2))(pnp.array(BATCH, requires_grad=True))
    assert np.allclose(angles.grad.numpy(), wanted)


# What PennyLane sees ---------------------------------------------------------------------------------------------------------


def test_a_tracker_counts_as_on_the_device(threads):
    totals = []
    for device in (FanOut("hybridjobs.qubit", seed=1, executor=threads), qml.device("hybridjobs.qubit", seed=1)):
        with qml.Tracker(device) as tracker:
            device.execute([*every_kind(), *every_sample()])
        totals.append({name: value for name, value in tracker.totals.items() if name != "results"})

    assert totals[0] == totals[1]


def test_snapshots_are_taken(threads):
    @qml.qnode(FanOut("hybridjobs.qubit", wires=1, executor=threads))
    def values():
        qml.Hadamard(0)
        qml.Snapshot("plus")
        return qml.expval(qml.X(0))

    found = qml.snapshots(values)()

    assert np.allclose(found["plus"], np.sqrt([0.5, 0.5]))
    assert np.isclose(found["execution_results"], 1)
