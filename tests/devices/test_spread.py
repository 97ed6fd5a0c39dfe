"""One batch on several devices: the same numbers as on one, by weights, with failures, budgets and resumed jobs that the record tells."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pennylane.exceptions import DeviceError, QuantumFunctionError

from pl_hybridjobs import Budget, Status, hybrid_job, spread_device
from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.errors import BudgetExceeded, DeviceOffline, InvalidCall, ProviderError, TaskCancelled, TaskFailed
from pl_hybridjobs.spread.assignment import Assignment
from pl_hybridjobs.training.plan import plan_gradient
from tests.devices import buyers

pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")

EXACT = {"ours": "hybridjobs.qubit", "theirs": "default.qubit", "cloud": "rehearsal:ideal"}
SAMPLED = {"ours": "hybridjobs.qubit", "theirs": "default.qubit", "cloud": "rehearsal:ideal", "chip": "rehearsal:qpu"}
SEEDS = {"ours": {"seed": 1}, "theirs": {"seed": 2}, "cloud": {"seed": 3}, "chip": {"seed": 4}}
X = qml.numpy.array([0.1, 0.7, -0.4, 1.2], requires_grad=True)


@pytest.fixture
def account(tmp_path):
    with accounts.activate(Account("the test", Ledger(tmp_path / "spend.sqlite"), namespace="the-test")) as active:
        yield active


def gates(x):
    """Among them what remote devices and adjoint methods have to decompose."""
    qml.Rot(x[0], x[1], x[2], 0)
    qml.CNOT([0, 1])
    qml.CRX(x[3], [1, 2])
    qml.IsingXX(x[0] * x[1], [0, 2])


def energy(x):
    gates(x)
    return qml.expval(0.5 * qml.Z(0) @ qml.Z(1) + 0.3 * qml.X(1) + qml.Y(2))


def several(x):
    gates(x)
    return qml.expval(qml.X(0)), qml.probs([0, 1]), qml.var(qml.Z(2))


def rotations(angles, shots=None):
    """A circuit for each angle, whose value is its cosine."""
    return [qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))], shots=shots) for angle in angles]


def run(device, angles, shots=None):
    return np.array(qml.execute(rotations(angles, shots), device, diff_method=None))


def pair(**options):
    """Two rehearsals, circuit by circuit in turn."""
    manners = {name: {"task_usd": 0.3, **options.pop(name, {})} for name in "ab"}
    return spread_device(dict.fromkeys("ab", "rehearsal:ideal"), wires=1, together=1, options=manners, **options)


def sold(device):
    return {name: len(member.qpu.bought) for name, member in device.members.items()}


def owners(device):
    return {place: share.member for share in device.last for place in share.circuits if not share.error}


ONE = qml.device("default.qubit", wires=3)
HERE, ELSEWHERE = np.linspace(0.1, 1.4, 8), np.linspace(1.5, 2.9, 8)


# The same numbers ------------------------------------------------------------------------------------------------------------


def test_values_are_those_of_one_device_whoever_ran_the_circuit():
    device = spread_device(EXACT, wires=3, together=1)
    found = run(device, HERE)

    np.testing.assert_allclose(found, np.cos(HERE), atol=1e-9)
    assert Counter(owners(device).values()) == {"ours": 3, "theirs": 3, "cloud": 2}


@pytest.mark.parametrize(
    ("interface", "method"),
    [
        ("autograd", "best"),
        ("autograd", "adjoint"),
        ("autograd", "parameter-shift"),
        ("jax", "parameter-shift"),
        ("jax-jit", "best"),
        ("jax-jit", "parameter-shift"),
    ],
)
def test_gradients_are_those_of_one_device(method, interface):
    import jax

    device = spread_device(EXACT, wires=3)
    circuit, expected = qml.QNode(energy, device, diff_method=method), qml.grad(qml.QNode(energy, ONE))(X)
    with jax.enable_x64(True):
        if interface == "autograd":
            found = qml.grad(circuit)(X)
        else:
            by = jax.grad(circuit)
            found = (jax.jit(by) if interface == "jax-jit" else by)(jax.numpy.array(X))

    np.testing.assert_allclose(found, expected, atol=1e-6)
    shifted = sum(row.circuits for row in device.table().values()) > 2
    assert shifted == (method == "parameter-shift")


def test_a_member_may_have_workers_of_its_own():
    device = spread_device(
        {"crew": "hybridjobs.qubit", "theirs": "default.qubit"}, wires=3, options={"crew": {"workers": 2, "executor": "threads"}}
    )
    found = qml.grad(qml.QNode(energy, device, diff_method="parameter-shift"))(X)

    np.testing.assert_allclose(found, qml.grad(qml.QNode(energy, ONE))(X), atol=1e-6)
    assert repr(device.members["crew"]) == "<hybridjobs.qubit device on ThreadExecutor(workers=2, threads=1)>"
    assert all(row.circuits for row in device.table().values())


def test_several_measurements_entries_of_a_batch_and_second_derivatives():
    device = spread_device(EXACT, wires=3)
    batch = qml.numpy.stack([X, X + 1, X - 0.5], axis=1)

    for mine, theirs in zip(qml.QNode(several, device)(X), qml.QNode(several, ONE)(X), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)
    np.testing.assert_allclose(qml.QNode(energy, device)(batch), qml.QNode(energy, ONE)(batch), atol=1e-9)
    assert sorted(share.circuits for share in device.last) == [(0, 1), (2,)]
    mine, theirs = (qml.grad(qml.QNode(energy, one, diff_method="parameter-shift", max_diff=2)) for one in (device, ONE))
    np.testing.assert_allclose(qml.jacobian(mine)(X), qml.jacobian(theirs)(X), atol=1e-6)


def test_under_vmap_and_jit_each_entry_is_a_circuit_for_the_members():
    import jax

    device = spread_device(EXACT, wires=3, together=1)
    circuit = qml.QNode(energy, device, diff_method="parameter-shift")
    with jax.enable_x64(True):
        points = jax.numpy.stack([jax.numpy.array(X) + shift for shift in (0.0, 0.2, 0.4)])
        found = jax.jit(jax.vmap(circuit))(points)

    np.testing.assert_allclose(found, [qml.QNode(energy, ONE)(np.array(point)) for point in points], atol=1e-9)
    assert {row.circuits for row in device.table().values()} == {1}


def test_samples_come_from_devices_of_different_gates_and_repeat_by_seeds():
    def counted():
        device = spread_device(SAMPLED, wires=3, options=SEEDS, together=1)
        node = qml.set_shots(qml.QNode(several, device, diff_method="parameter-shift"), 4000)
        return [np.concatenate([np.ravel(part) for part in node(X)]) for _ in range(4)], device

    (found, device), (again, _) = counted(), counted()
    exact = np.concatenate([np.ravel(part) for part in qml.QNode(several, ONE)(X)])

    assert {name: row.circuits for name, row in device.table().items()} == dict.fromkeys(SAMPLED, 1)
    assert {row.shots for row in device.table().values()} == {4000}
    for mine in found:
        np.testing.assert_allclose(mine, exact, atol=0.06)
    np.testing.assert_array_equal(found, again)
    assert len({mine.tobytes() for mine in found}) == 4


def test_shots_change_from_call_to_call_and_mid_circuit_measurements_go_where_they_are_known():
    device = spread_device(
        {"ours": "hybridjobs.qubit", "theirs": "default.qubit"}, wires=2, options={"ours": {"seed": 5}, "theirs": {"seed": 6}}
    )

    @qml.qnode(device)
    def coin():
        qml.Hadamard(0)
        heads = qml.measure(0)
        qml.cond(heads, qml.X)(1)
        return qml.expval(qml.Z(1)), qml.counts(wires=1)

    for shots in (10, 300):
        for _ in range(2):
            value, counts = qml.set_shots(coin, shots)()
            assert sum(counts.values()) == shots
            assert abs(value) < 0.9
    assert {row.shots for row in device.table().values()} == {310}


def test_adjoint_that_one_member_lacks_is_refused_by_name_and_best_is_the_shift_rule():
    device = spread_device(
        {"fine": "rehearsal:ideal", "noisy": "rehearsal:noisy"}, wires=3, options={"noisy": {"noise": 0.0, "readout": 0.0}}
    )

    with pytest.raises(QuantumFunctionError, match="member 'noisy' does not"):
        qml.grad(qml.QNode(energy, device, diff_method="adjoint"))(X)
    with pytest.raises(QuantumFunctionError, match="does not support backprop"):
        qml.QNode(energy, device, diff_method="backprop")(X)
    np.testing.assert_allclose(qml.grad(qml.QNode(energy, device))(X), qml.grad(qml.QNode(energy, ONE))(X), atol=1e-6)
    assert device.members["noisy"].qpu.bought


# Who runs what ---------------------------------------------------------------------------------------------------------------

WEIGHTS = st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(any)


@given(WEIGHTS, st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_at_any_time_each_member_is_within_one_circuit_of_its_share_however_the_stream_is_cut(weights, batches):
    names = {str(number): Fraction(weight) for number, weight in enumerate(weights)}
    whole, cut = Assignment(names), Assignment(names)
    stream = [owner for size in batches for owner in cut.place(size)]

    assert stream == whole.place(sum(batches))
    for length in range(1, len(stream) + 1):
        for name, weight in names.items():
            assert abs(stream[:length].count(name) - length * weight / sum(weights)) <= max(1, len(weights) - 1)


@given(WEIGHTS, st.integers(0, 40), st.integers(1, 3))
def test_an_assignment_goes_on_from_its_state_and_keeps_neighbours_together(weights, before, together):
    names = {str(number): Fraction(weight, 3) for number, weight in enumerate(weights)}
    first, second = Assignment(names), Assignment(names)
    first.place(before, together=together)
    second.restore(json.loads(json.dumps(first.state())))
    placed = second.place(12, together=together)

    assert first.place(12, together=together) == placed
    assert all(len(set(placed[at : at + together])) == 1 for at in range(0, 12, together))


def test_the_two_circuits_of_a_shift_run_on_one_member():
    device = spread_device({"a": "hybridjobs.qubit", "b": "default.qubit"}, wires=3, weights={"a": 3})
    qml.grad(qml.QNode(energy, device, diff_method="parameter-shift"))(X)

    mine = owners(device)
    assert Counter(mine.values()) == {"a": 8, "b": 4}
    assert all(mine[place] == mine[place + 1] for place in range(0, len(mine), 2))


def test_the_record_is_pennylanes_tracker_too_and_a_spare_waits():
    device = spread_device(
        {"a": "hybridjobs.qubit", "b": "rehearsal:ideal", "c": "default.qubit"},
        wires=1,
        weights={"c": 0},
        options={"b": {"task_usd": 0.25}},
    )
    with qml.Tracker(device) as tracker:
        run(device, HERE)

    assert tracker.totals == {"batches": 1, "executions": 8, "tasks": 4, "cost_usd": 1.0}
    assert Counter(tracker.history["member"]) == {"a": 4, "b": 4}
    assert device.table()["b"].cost_usd == pytest.approx(1.0)
    assert str(device.table()).splitlines()[2].split() == [
        "b",
        "rehearsal:ideal",
        "1",
        "4",
        "0",
        f"{device.table()['b'].seconds:.2f}",
        "0",
        "1.00",
    ]
    assert device.table()["c"].circuits == 0


# Failures --------------------------------------------------------------------------------------------------------------------


class Breaks(qml.devices.DefaultQubit):  # type: ignore[misc]
    """Raises when it is to run its n-th circuit, and at ``times - 1`` calls after that."""

    def __init__(self, wires, at, times=1):
        super().__init__(wires=wires)
        self.left, self.times = at, times

    def execute(self, circuits, execution_config=None):
        self.left -= len(circuits)
        if self.left <= 0 and self.times:
            self.times -= 1
            raise RuntimeError("the fridge is warm")
        return super().execute(circuits, execution_config)


def test_a_failure_names_the_member_and_its_circuits_and_the_same_call_again_buys_nothing_twice(account):
    device = spread_device(
        {"cloud": qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, task_usd=0.3), "lab": Breaks(1, at=3)}, together=1
    )
    run(device, HERE[:2])
    with pytest.raises(RuntimeError, match="the fridge is warm") as caught:
        run(device, ELSEWHERE)

    note = "\n".join(caught.value.__notes__)
    assert "member 'lab' (default.qubit) failed with circuit 3 of the batch" in note
    assert "on_failure='move'" in note
    bought = account.cost().tasks
    np.testing.assert_allclose(run(device, ELSEWHERE), np.cos(ELSEWHERE), atol=1e-9)
    assert account.cost().tasks == len(device.members["cloud"].qpu.bought) == 5
    assert bought <= 5
    assert device.table()["cloud"].cost_usd == pytest.approx(5 * 0.3)
    assert device.table()["lab"].failures == 1


def test_a_task_that_fails_is_told_by_its_circuit(account):
    device = pair(b={"fails": (1,), "latency_s": 0.3})
    with pytest.raises(TaskFailed) as caught:
        run(device, HERE[:6])

    numbers = [place for place in (1, 3, 5) if f"failed with circuit {place} of the batch" in caught.value.__notes__[-1]]
    assert len(numbers) == 1
    assert "Tasks that this call had bought: a 3 for 0.90 USD" in caught.value.__notes__[-1]
    np.testing.assert_allclose(run(device, HERE[:6]), np.cos(HERE[:6]), atol=1e-9)
    assert account.cost().tasks == sum(sold(device).values())


def test_moved_circuits_run_elsewhere_and_who_fails_again_and_again_is_left_out():
    device = spread_device(
        {"lab": Breaks(1, at=1, times=2), "cloud": "rehearsal:ideal"}, wires=1, together=1, on_failure="move", leave_out_after=2
    )
    for number in (1, 2):
        with pytest.warns(UserWarning, match=r"member 'lab' .* go to cloud" + ("; 'lab' is left out" if number == 2 else "")):
            np.testing.assert_allclose(run(device, HERE), np.cos(HERE), atol=1e-9)
        assert set(owners(device).values()) == {"cloud"}
        assert [(share.member, bool(share.error)) for share in device.last] == [("lab", True), ("cloud", False), ("cloud", False)]
    assert device.table()["lab"].left_out
    assert "2 (left out)" in str(device.table())

    run(device, HERE[:4])
    assert set(owners(device).values()) == {"cloud"}
    device.readmit("lab")
    np.testing.assert_allclose(run(device, HERE), np.cos(HERE), atol=1e-9)
    assert set(owners(device).values()) == {"lab", "cloud"}
    assert device.table()["lab"].failures == 2


def test_an_offline_device_is_replaced_by_a_spare_and_an_error_with_nobody_left_is_raised():
    device = spread_device(
        {"b": "rehearsal:ideal", "spare": "default.qubit"},
        wires=1,
        weights={"spare": 0},
        on_failure="move",
        options={"b": {"offline_s": float("inf")}},
    )
    with pytest.warns(UserWarning, match="DeviceOffline"):
        np.testing.assert_allclose(run(device, HERE), np.cos(HERE), atol=1e-9)
    assert set(owners(device).values()) == {"spare"}

    nobody = pair(on_failure="move", leave_out_after=1, **{name: {"offline_s": float("inf")} for name in "ab"})
    with pytest.raises(DeviceOffline, match="offline"):
        run(nobody, HERE)
    for call in (lambda: run(nobody, HERE), lambda: nobody.asked(rotations([0.1]))):
        with pytest.raises(DeviceError, match="all members are left out"):
            call()


@pytest.mark.parametrize(
    ("manners", "error", "words"), [({"loses": (0,)}, ProviderError, "bought twice"), ({"cancels": (0,)}, TaskCancelled, "member 'b'")]
)
def test_what_may_be_bought_or_was_cancelled_is_not_moved(account, manners, error, words):
    device = pair(on_failure="move", b=manners)
    with pytest.raises(error) as caught:
        run(device, HERE)

    assert words in "\n".join(caught.value.__notes__)
    if error is ProviderError:
        np.testing.assert_allclose(run(device, HERE), np.cos(HERE), atol=1e-9)
        assert sum(sold(device).values()) == account.cost().tasks == 8


def test_a_circuit_that_a_member_cannot_run_is_told_before_anything_is_bought(account):
    device = spread_device({"ideal": "rehearsal:ideal", "chip": "rehearsal:qpu"}, wires=1, together=1)
    with pytest.raises(DeviceError, match=r"nothing was run.*'chip'"):
        run(device, HERE)  # no shots
    assert account.cost().tasks == 0

    told = [*rotations([0.1], 10), qml.tape.QuantumScript([qml.X(0)], [qml.vn_entropy(0)], shots=10)]
    with pytest.raises(DeviceError, match=r"circuit 1 on member 'chip'"):
        qml.execute(told, device, diff_method=None)
    assert account.cost().tasks == 0
    np.testing.assert_allclose(run(device, HERE, shots=4000), np.cos(HERE), atol=0.08)
    assert account.cost().by_device["rehearsal:ideal"].tasks == 4


def test_a_budget_holds_for_all_members_together_before_any_of_them_buys(tmp_path):
    with accounts.activate(Account("the test", Ledger(tmp_path / "other.sqlite"), Budget(max_usd=2), namespace="one")) as account:
        device = pair()
        with pytest.raises(BudgetExceeded):
            run(device, HERE)
        assert sum(sold(device).values()) == 0
        assert account.cost().usd == 0
        run(device, HERE[:6])
        assert float(account.cost()) == pytest.approx(1.8)


def test_bad_options_are_told_all_at_once():
    wrong: dict[str, Any] = {"weights": {"c": 1, "a": -1}, "on_failure": "retry", "leave_out_after": 0, "together": 0.5}
    with pytest.raises(InvalidCall) as caught:
        spread_device({"a": "hybridjobs.qubit"}, **wrong)
    assert len(caught.value.complaints) == 5
    cases: list[tuple[Any, str]] = [
        ({}, "no members"),
        (["a"], "there is no job here"),
        ({"a": "hybridjobs.qubitt", "b": 7}, "hybridjobs.qubit"),
        ({"a": qml.device("default.qubit", wires=1), "b": qml.device("default.qubit", wires=2)}, "same wires"),
        ({"a": ONE, "b": ONE}, "under two names"),
        ({"a": ONE, "b": spread_device({"c": ONE})}, "spread over devices itself"),
    ]
    for members, words in cases:
        with pytest.raises(InvalidCall, match=words):
            spread_device(members)
    with pytest.raises(InvalidCall, match="weights are 0"):
        spread_device({"a": ONE}, weights={"a": 0})
    with pytest.raises(InvalidCall, match="checkpoint is of the members a, and this device has b"):
        spread_device({"b": ONE}).restore_state(spread_device({"a": ONE}).checkpoint_state())


# In jobs ---------------------------------------------------------------------------------------------------------------------


def job_of(budget=None, **options):
    return hybrid_job(buyers.descend_on_three, device=buyers.ROLES, **{"runner": "inline", "budget": budget, **options})


def bought(shop):
    return len(list(Path(shop).glob("*/*.json")))


def test_a_job_that_stops_in_the_middle_goes_on_to_the_same_bits_on_the_same_members(tmp_path, jobs_home):
    whole = job_of()(4, str(tmp_path / "whole"))
    broken = job_of({"max_usd": 0.75})(4, str(tmp_path / "broken"))
    expected = whole.result(60)
    with pytest.raises(BudgetExceeded):
        broken.result(60)
    assert broken.status is Status.INTERRUPTED
    assert 0 < bought(tmp_path / "broken") < bought(tmp_path / "whole")
    broken.resume(budget={"max_usd": 20})
    found = broken.result(60)

    for name in ("params", "cost", "executions"):
        np.testing.assert_array_equal(found[name], expected[name])
    for name, row in expected["done"].items():
        assert found["done"][name] == pytest.approx(row)
    assert bought(tmp_path / "broken") == bought(tmp_path / "whole") == whole.cost.tasks == broken.cost.tasks
    assert float(whole.cost) == pytest.approx(sum(row[2] for row in expected["done"].values()))
    assert set(expected["executions"]) == {10}


@pytest.mark.torture_long
@pytest.mark.parametrize("bomb", ["cloud:submit:3", "cloud:result:2", "chip:status:2", "chip:submit:1"])
def test_a_job_that_is_killed_goes_on_to_the_same_bits_and_buys_nothing_twice(bomb, tmp_path, jobs_home):
    expected = job_of()(4, str(tmp_path / "whole")).result(60)
    job = job_of(runner="local", retries={"interruptions": 1, "backoff_s": 0.01})(4, str(tmp_path / "killed"), bomb=bomb)

    for name in ("params", "cost"):
        np.testing.assert_array_equal(job.result(90)[name], expected[name])
    assert job.attempt == 2
    assert bought(tmp_path / "killed") == bought(tmp_path / "whole") == job.cost.tasks


def test_the_plan_prices_each_members_part():
    device = spread_device(
        {"sim": "hybridjobs.qubit", "cloud": "rehearsal:ideal"}, wires=3, weights={"sim": 1}, options={"cloud": {"task_usd": 0.5}}
    )
    plan = plan_gradient(qml.QNode(energy, device, diff_method="parameter-shift"), X)

    assert [(purchase.target, purchase.circuits) for purchase in plan.purchases] == [("rehearsal:ideal", 6)]
    assert plan.cost_per_step == pytest.approx(3.0)
    assert device.table()["cloud"].circuits == 0
