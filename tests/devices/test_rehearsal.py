"""The provider in this process: what it is told, what it remembers, what it refuses."""

from __future__ import annotations

import time

import numpy as np
import pennylane as qml
import pytest
from pennylane.exceptions import DeviceError
from pennylane.tape import QuantumScript

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.devices.fingerprint import fingerprint
from pl_hybridjobs.devices.grouping import Part, grouped
from pl_hybridjobs.devices.provider import Capabilities, ProgramSets, Task, TaskState
from pl_hybridjobs.devices.rehearsal import open_rehearsal
from pl_hybridjobs.devices.sessions import Session
from pl_hybridjobs.errors import InvalidCall, ProviderError


def a_task(key="a" * 64, shots=20, angle=0.4):
    return Task(key, (QuantumScript([qml.RX(angle, 0)], [qml.sample(wires=[0])]),), shots)


def ended(qpu, task):
    task_id = qpu.submit(task)
    while not (status := qpu.status(task_id)).state.is_final:
        time.sleep(0.01)
    return task_id, status


def bits_of(qpu, task) -> np.ndarray:
    bits = qpu.result(ended(qpu, task)[0], task).circuits[0].bits
    assert bits is not None
    return bits


def test_it_waits_in_the_queue_and_runs_as_long_as_it_was_told():
    qpu = open_rehearsal("rehearsal:ideal", queue_s=1.0, latency_s=0.15, task_usd=0.5)
    began_s = time.monotonic()
    task_id = qpu.submit(a_task())
    first = qpu.status(task_id)
    status = ended(qpu, a_task())[1]

    assert (first.state, first.queue_position, first.priority) == (TaskState.QUEUED, "1", "normal")
    assert status.cost_usd == 0.5
    assert time.monotonic() - began_s >= 1.15


def test_the_same_key_is_one_purchase_in_whatever_process(tmp_path):
    one, other = (open_rehearsal("rehearsal:qpu", folder=tmp_path) for _ in range(2))

    assert one.submit(a_task()) == other.submit(a_task())
    assert len(one.bought) == len(other.bought) == 1
    np.testing.assert_array_equal(bits_of(one, a_task()), bits_of(other, a_task()))


def test_a_purchase_that_was_torn_by_a_kill_was_none(tmp_path):
    qpu = open_rehearsal("rehearsal:qpu", folder=tmp_path)
    (tmp_path / f"{'a' * 64}.json").write_text('{"key": "aaa')

    assert not qpu.bought
    assert ended(qpu, a_task())[1].state is TaskState.COMPLETED


def test_samples_are_each_tasks_own_unless_there_is_a_seed():
    def bits(key, **options):
        qpu = open_rehearsal("rehearsal:ideal", **options)
        return bits_of(qpu, a_task(key, 60, 1.5)).tolist()

    assert bits("a") != bits("b")
    assert bits("a", seed=1) == bits("b", seed=1) != bits("a", seed=2)


def test_with_a_seed_the_same_work_gives_the_same_samples_and_no_call_repeats_those_of_an_equal_one(tmp_path):
    def worked(name):
        circuit = qml.QNode(
            lambda: (qml.RX(1.5, 0), qml.sample(wires=0))[1], qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, seed=1)
        )
        with accounts.activate(Account(name, Ledger(tmp_path / name), namespace=name)):
            return [qml.set_shots(circuit, 60)().tolist() for _ in range(2)]

    first, again = worked("first"), worked("again")

    assert first == again
    assert first[0] != first[1]


def test_its_noise_is_what_it_was_told():
    qpu = open_rehearsal("rehearsal:noisy?noise=0&readout=0.2")

    bits = bits_of(qpu, a_task(shots=4000, angle=0.0))

    assert abs(bits.mean() - 0.2) < 5 * 0.4 / np.sqrt(4000)


def test_a_task_that_it_does_not_know_is_an_error():
    with pytest.raises(ProviderError, match="forgets them with its process"):
        open_rehearsal("rehearsal:ideal").status("rehearsal-task/none")


@pytest.mark.parametrize(
    ("target", "options", "texts"),
    [
        ("rehearsal:idael", {}, ["no rehearsal:idael", "Did you mean 'ideal'"]),
        ("rehearsal:ideal?latency=1&seed=x", {"noise": 2}, ["no option 'latency'", "'latency_s'", "seed='x'"]),
        ("rehearsal:ideal", {"noise": 2, "latency_s": -1}, ["noise is a probability", "latency_s must not be negative"]),
        ("rehearsal:qpu?fails=a&priced=no", {"latency_s": "2"}, ["fails='a' must be whole numbers", "priced='no'", "latency_s='2'"]),
        (
            "rehearsal:qpu?max_shots=0",
            {"at_once": 0, "latncy": 1},
            ["max_shots must be at least 1", "at_once must be", "no option 'latncy'"],
        ),
    ],
)
def test_it_names_all_that_it_does_not_understand(target, options, texts):
    with pytest.raises(InvalidCall) as caught:
        open_rehearsal(target, **options)
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("target", ["nowhere:x", "arn:aws:quantum:x", "", 7])
def test_a_target_that_nobody_knows_is_refused_when_the_device_is_made(target):
    with pytest.raises(DeviceError, match=r"no installed provider knows it; providers are .*rehearsal|must be a text"):
        qml.device("hybridjobs.qpu", target)


def test_a_fallback_that_nobody_knows_is_refused_too():
    for other in ("", "nowhere:x"):
        with pytest.raises(DeviceError, match=f"fallback:{other}"):
            qml.device("hybridjobs.qpu", "rehearsal:qpu", on_offline=f"fallback:{other}")


def test_a_device_shows_which_it_is():
    assert "rehearsal:qpu, wires=2" in repr(qml.device("hybridjobs.qpu", "rehearsal:qpu", wires=2))


def test_a_session_names_all_that_is_wrong():
    with pytest.raises(InvalidCall) as caught:
        Session("", tags={"a": 1}, on_failure="cry", budget=5)  # type: ignore[arg-type, dict-item]
    for name in ("name", "tags", "on_failure", "budget"):
        assert name in str(caught.value)


def test_a_session_warns_of_a_lost_priority(monkeypatch):
    session = Session("job", token="secret", target="rehearsal:qpu")
    session.used_on("rehearsal:qpu")
    with pytest.warns(UserWarning, match="wait in the normal queue"):
        session.used_on("rehearsal:ideal")
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 1000)
    with pytest.warns(UserWarning, match="may have lost its priority"):
        session.used_on("rehearsal:qpu")
    assert "secret" not in repr(session)


def test_circuits_are_gathered_and_split():
    device = Capabilities("d", "p", False, (0,), frozenset(), max_shots=100, program_sets=ProgramSets(3, 200))

    assert grouped([50, 50, 0, 250, 50, 50, 50], device) == [
        (Part(0, 50), Part(1, 50), Part(4, 50)),
        (Part(5, 50), Part(6, 50)),
        (Part(2, 0),),
        (Part(3, 84, 0),),
        (Part(3, 83, 1), Part(3, 83, 2)),
    ]


def test_a_fingerprint_knows_what_counts_and_nothing_else():
    def circuit(angle=0.1, gate=qml.RX, wire=0, basis=(0,)):
        return QuantumScript([gate(angle, wire), qml.ctrl(qml.RZ(angle, 1), 2, control_values=[0])], [qml.sample(wires=basis)])

    def middle(value=True, reset=False):
        first = qml.ops.MidMeasure(0, reset=reset, meas_uid=str(np.random.rand()))
        outcome = qml.ops.MeasurementValue([first])
        return QuantumScript([first, qml.ops.Conditional(outcome if value else ~outcome, qml.X(1))], [qml.sample(wires=[1])])

    def noise(word):
        return QuantumScript([qml.PauliError(word, 0.1, wires=0)], [qml.sample(wires=[0])])

    others = [
        noise("X"),
        noise("Y"),
        circuit(np.nextafter(0.1, 1)),
        circuit(gate=qml.RY),
        circuit(wire=3),
        circuit(basis=(1,)),
        middle(),
        middle(False),
        middle(reset=True),
    ]

    assert fingerprint([circuit(np.array(0.1))]) == fingerprint([circuit()])
    assert fingerprint([middle()]) == fingerprint([middle()])
    assert len({fingerprint([one]) for one in [circuit(), *others]}) == 10
    assert fingerprint([circuit()], 10) != fingerprint([circuit()], 20)
    assert fingerprint([circuit()] * 2) != fingerprint([circuit()])
