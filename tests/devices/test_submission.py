"""What went wrong in the middle of a purchase: nothing is given back that may have been bought, and nothing is bought elsewhere as well."""

from __future__ import annotations

import pickle
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.devices.sessions import Session
from pl_hybridjobs.errors import DeviceOffline, ProviderError, TaskFailed


@pytest.fixture(autouse=True)
def account(tmp_path):
    with accounts.activate(Account("the test", Ledger(tmp_path / "spend.sqlite"), namespace="the-test"), whole_process=True) as active:
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

    with accounts.activate(replace(account, name="its next attempt"), whole_process=True):
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
