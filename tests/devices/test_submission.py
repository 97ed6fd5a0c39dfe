"""What went wrong in the middle of a purchase: nothing is given back that may have been bought, and nothing is bought elsewhere as well."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pennylane as qml
import pytest
from pennylane.exceptions import DeviceError

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.cost.prices import Price
from pl_hybridjobs.devices import submission
from pl_hybridjobs.devices.calls import Call
from pl_hybridjobs.devices.sessions import Session
from pl_hybridjobs.errors import BudgetExceeded, DeviceOffline, InvalidCall, JobStopRequested, ProviderError, StoreError, TaskFailed


@pytest.fixture(autouse=True)
def account(tmp_path):
    with accounts.activate(Account("the test", Ledger(tmp_path / "spend.sqlite"), namespace="the-test")) as active:
        yield active


def once(device, angle=0.3):
    return qml.execute([qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))])], device, diff_method=None)[0]


def certain(error):
    error.nothing_done = True
    return error


@pytest.mark.parametrize("on_offline", ["stop", "fallback:rehearsal:noisy"])
@pytest.mark.parametrize("answer", [DeviceOffline("it is closed"), certain(ProviderError("your credentials have expired"))], ids=str)
def test_a_purchase_whose_reply_was_lost_is_not_given_back_when_the_next_attempt_is_refused(account, monkeypatch, on_offline, answer):
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, loses=(0,), on_offline=on_offline)
    with pytest.raises(ProviderError, match="connection was lost"):
        once(device)
    submit = device.qpu.submit

    def refuse(_):
        raise answer

    monkeypatch.setattr(device.qpu, "submit", refuse)
    with pytest.raises(type(answer)):
        once(device)

    assert [(entry.target, entry.state) for entry in account.ledger.entries()] == [("rehearsal:ideal", "submitting")]
    monkeypatch.setattr(device.qpu, "submit", submit)
    np.testing.assert_allclose(once(device), np.cos(0.3))
    assert len(device.qpu.bought) == account.cost().tasks == 1


def test_a_task_that_failed_in_parts_is_paid_for_and_bought_anew(account, monkeypatch):
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, task_usd=0.3)
    collect = device.qpu.result

    def fail(task_id, _):
        raise TaskFailed(task_id, "circuit 1 of 2: too hot")

    monkeypatch.setattr(device.qpu, "result", fail)
    with pytest.raises(TaskFailed, match="too hot"):
        once(device)
    assert [(entry.state, entry.final_usd) for entry in account.ledger.entries()] == [("failed", Decimal("0.3"))]

    device.restore_state({"calls": 0})  # as a resumed job does
    monkeypatch.setattr(device.qpu, "result", collect)
    np.testing.assert_allclose(once(device), np.cos(0.3))
    assert len(device.qpu.bought) == account.cost().tasks == 2


def test_a_resumed_job_finds_what_its_devices_bought_whichever_of_them_was_used_first(account, tmp_path):
    def devices():
        return [qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, folder=str(tmp_path / "shop")) for _ in range(2)]

    one, other = devices()
    once(other)
    once(one)
    saved = [device.checkpoint_state() for device in (one, other)]
    once(one, 0.1)
    once(other, 0.2)

    with accounts.activate(replace(account, name="its next attempt")):
        one, other = devices()
        for device, state in zip((one, other), saved, strict=True):
            device.restore_state(state)
        once(one, 0.1)
        once(other, 0.2)
        assert len(one.qpu.bought) == 4
        assert all(task.from_journal for task in (*one.last_tasks, *other.last_tasks))


def test_a_sessions_token_does_not_travel():
    session = Session("scan", tags={"who": "us"}, token="job-token-7a3f")

    assert b"7a3f" not in pickle.dumps(session)
    assert pickle.loads(pickle.dumps(session)) == Session("scan", tags={"who": "us"})


# Where time is billed --------------------------------------------------------------------------------------------------------

MINUTE = Price(device="rehearsal:ideal", per_minute_usd=Decimal(60), minimum_s=1.0)  # a dollar a second


def billed_by_time(monkeypatch, seconds=5.0, **options):
    """A device on which each task is billed for so many seconds, whatever it said before."""
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, **options)
    collect = device.qpu.result
    monkeypatch.setattr(device.qpu, "price", lambda: MINUTE)
    monkeypatch.setattr(device.qpu, "cost_usd", lambda _: None)
    monkeypatch.setattr(device.qpu, "result", lambda task_id, task: replace(collect(task_id, task), billed_s=seconds))
    return device


def several(device, angles, wires=1):
    """Circuits of one structure."""
    prepared = [qml.RX(0.5, wire) for wire in range(wires)]
    tapes = [qml.tape.QuantumScript([*prepared, qml.RX(angle, 0)], [qml.expval(qml.Z(0))]) for angle in angles]
    return qml.execute(tapes, device, diff_method=None)


@contextlib.contextmanager
def limited(account, **limits):
    with accounts.activate(replace(account, budget=Budget(**limits))) as active:
        yield active


@pytest.mark.parametrize("limits", [{"max_usd": 12}, {"max_time_s": 12}], ids=str)
def test_where_time_is_billed_one_task_of_a_structure_shows_what_the_others_will_cost(account, monkeypatch, limits):
    device = billed_by_time(monkeypatch)
    with limited(account, **limits) as active, pytest.raises(BudgetExceeded, match=r"5(\.00)? spent \+ 35(\.00)? reserved"):
        several(device, np.arange(8.0))

    assert len(device.qpu.bought) == 1
    assert (active.cost().usd, active.cost().tasks) == (5, 1)


def test_what_tasks_took_before_is_reserved_for_those_of_their_structure(account, monkeypatch):
    device = billed_by_time(monkeypatch)
    several(device, [0.1])
    with limited(account, max_usd=14), pytest.raises(BudgetExceeded, match=r"5\.00 spent \+ 0\.00 reserved \+ 10\.00 asked"):
        several(device, [0.2, 0.3])
    with limited(account, max_usd=15):
        several(device, [0.2, 0.3])

    assert account.cost().usd == 15
    assert len(device.qpu.bought) == 3


def test_after_a_task_that_took_longer_no_more_are_sent_than_are_paid_for(account, monkeypatch):
    device = billed_by_time(monkeypatch, seconds=2.0, max_parallel=2)
    several(device, [0.1])
    device = billed_by_time(monkeypatch, seconds=5.0, max_parallel=2)
    with limited(account, max_usd=20), pytest.raises(BudgetExceeded, match="takes longer than was reserved"):
        several(device, np.arange(1.0, 10.0))
    with limited(account, max_usd=1000):  # as a resumed job does
        several(device, np.arange(1.0, 10.0))

    assert len(device.qpu.bought) == 9
    assert (account.cost().usd, account.cost().usd_estimated) == (2 + 9 * 5, 0)


def test_short_tasks_of_another_structure_are_not_held_back(account, monkeypatch):
    several(billed_by_time(monkeypatch, seconds=500.0), [0.1])
    with limited(account, max_usd=504):
        several(billed_by_time(monkeypatch, seconds=1.0), np.arange(4.0), wires=0)

    assert account.cost().usd == 504


def test_a_task_that_failed_where_time_is_billed_is_not_free(account, monkeypatch):
    device = billed_by_time(monkeypatch, fails=(0,))
    status = device.qpu.status
    monkeypatch.setattr(device.qpu, "status", lambda task_id: replace(status(task_id), cost_usd=None))
    with pytest.raises(TaskFailed):
        once(device)

    assert (account.cost().usd_final, account.cost().usd_estimated, account.cost().seconds) == (0, 1, 1.0)


# Leaving ---------------------------------------------------------------------------------------------------------------------


def test_who_is_stopped_waits_for_no_thread_that_hangs_and_finds_later_what_it_bought(account, monkeypatch):
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1, max_parallel=2)
    submit, hangs = device.qpu.submit, threading.Event()

    def slow(task):
        answer = submit(task)
        hangs.wait()
        return answer

    monkeypatch.setattr(submission, "_GRACE_S", 0.1)
    monkeypatch.setattr(device.qpu, "submit", slow)

    def stop():
        if len(device.qpu.bought) == 2:
            raise JobStopRequested("stopped")

    began_s = time.monotonic()
    with accounts.activate(replace(account, stop=stop)), pytest.raises(JobStopRequested):
        several(device, np.arange(4.0))
    assert time.monotonic() - began_s < 5
    assert Counter(str(entry.state) for entry in account.ledger.entries()) == {"submitting": 2, "released": 2}

    hangs.set()
    several(device, np.arange(4.0))
    assert len(device.qpu.bought) == account.cost().tasks == 4


@pytest.mark.parametrize("when", ["intend", "track"])
def test_what_goes_wrong_between_reserving_and_sending_leaves_nothing_reserved(account, monkeypatch, when):
    device = qml.device("hybridjobs.qpu", "rehearsal:ideal", wires=1)

    def fail(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(*((Account, "intend") if when == "intend" else (Call, "_track")), fail)
    with pytest.raises(StoreError):
        once(device)

    assert [str(entry.state) for entry in account.ledger.entries()] == ["released"]


@pytest.mark.parametrize("tag", ["hybridjobs:session", "AWS:name"])
def test_tags_that_are_not_the_users_are_refused(tag):
    with pytest.raises(InvalidCall, match="choose another"):
        Session("scan", tags={tag: "mine"})
    with pytest.raises(DeviceError, match="choose another"):
        qml.device("hybridjobs.qpu", "rehearsal:ideal", tags={tag: "mine"})
