"""What holds on every executor: numbers, samples, gradients and errors are those of one process."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs.fanout import FanOut
from tests.fanout.circuits import NOISY, Raises, ansatz, assert_same_bits, every_kind, every_sample, flat, with_gate


def test_numbers_are_those_of_default_qubit(executor):
    found = FanOut("hybridjobs.qubit", executor=executor).execute(every_kind())

    wanted = qml.device("default.qubit").execute(every_kind())
    for one, other in zip(flat(found), flat(wanted), strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other)


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
def test_samples_are_those_of_the_device_without_workers(executor, name):
    spread, plain = FanOut(name, seed=5, executor=executor), qml.device(name, seed=5)

    for _ in range(2):  # the stream moves on as that of the device does
        assert_same_bits(spread.execute(every_sample()), plain.execute(every_sample()))


@pytest.mark.parametrize("name", ["lightning.qubit", "default.qubit"])
def test_samples_of_other_devices_do_not_depend_on_the_executor(executor, threads, name):
    here, there = FanOut(name, wires=3, seed=5, workers=1, executor=threads), FanOut(name, wires=3, seed=5, executor=executor)
    circuits = [tape for tape in every_sample() if name == "default.qubit" or tape.batch_size is None]

    first = here.execute(circuits)
    assert_same_bits(there.execute(circuits), first)
    assert not np.array_equal(here.execute(circuits)[0], first[0])


@pytest.mark.parametrize(("method", "is_batch"), [("adjoint", False), ("adjoint", True), ("parameter-shift", False)])
def test_gradients_are_those_of_default_qubit(executor, method, is_batch):
    angles = pnp.array(np.random.default_rng(3).uniform(0, 6, (4, 6) if is_batch else 6), requires_grad=True)

    def cost(device, method):
        @qml.qnode(device, diff_method=method)
        def values(angles):
            ansatz(angles)
            return qml.expval(NOISY), qml.expval(qml.Z(1))

        return lambda angles: pnp.sum(qml.math.stack(values(angles)) ** 2)

    found = qml.grad(cost(FanOut("hybridjobs.qubit", executor=executor), method))(angles)

    assert np.allclose(found, qml.grad(cost(qml.device("default.qubit"), "backprop"))(angles))


def test_what_a_circuit_raises_comes_back_with_its_place_and_its_traceback(executor):
    device = FanOut("hybridjobs.qubit", executor=executor)
    circuits = [*every_kind(), *every_kind(), with_gate(Raises(0)), with_gate(Raises(0, odd=True))]

    with pytest.raises(ZeroDivisionError, match="no such matrix") as caught:
        device.execute(circuits)

    assert "circuit 10 of 12" in caught.value.__notes__[0]
    assert "Raises" in caught.value.__notes__[0]  # its drawing
    assert "compute_matrix" in str(caught.value.__cause__)
    assert np.allclose(device.execute(circuits[:5])[0], qml.device("default.qubit").execute(circuits[:5])[0])  # and it goes on
