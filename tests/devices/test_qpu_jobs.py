"""Jobs on remote devices: killed, stopped or out of money, they go on to the same bits and buy nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs import Status, hybrid_job
from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account, of_user
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.errors import BudgetExceeded, JobInterrupted
from pl_hybridjobs.training.plan import plan_gradient
from tests.devices import buyers

WAIT_S = 90
QPU = "rehearsal:qpu"


@pytest.fixture
def shop(tmp_path):
    return str(tmp_path / "shop")


def inline(function, **options):
    return hybrid_job(function, device=QPU, runner="inline", **options)


def sold(shop):
    return [json.loads(path.read_text()) for path in Path(shop).glob("*.json")]


def same(one, other):
    first, second = (np.concatenate([np.ravel(part) for part in values(result)]) for result in (one, other))
    return np.array_equal(first, second)


def values(result):
    for value in result.values() if isinstance(result, dict) else [result]:
        yield from values(value) if isinstance(value, dict) else [value]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What four steps give, and how many tasks they take."""
    place = tmp_path_factory.mktemp("undisturbed")
    folder = str(place / "shop")
    with accounts.activate(Account("nobody", Ledger(place / "spend.sqlite"), namespace="undisturbed")):  # no test's home is there yet
        found = buyers.trained(qml.device("hybridjobs.qpu", QPU, wires=2, folder=folder, seed=7, task_usd=0.3), 4)
    assert len(sold(folder)) == 9
    return found


@pytest.mark.parametrize(
    "bomb",
    [
        "submit:4",
        pytest.param("status:3", marks=pytest.mark.torture_long),
        pytest.param("result:4", marks=pytest.mark.torture_long),
        pytest.param("submit:1", marks=pytest.mark.torture_long),
        pytest.param("submit:9", marks=pytest.mark.torture_long),
    ],
)
def test_killed_between_intent_and_answer_it_buys_only_the_rest(bomb, shop, undisturbed, jobs_home):
    job = hybrid_job(buyers.descend, device=QPU, retries={"interruptions": 1, "backoff_s": 0.01})(4, shop, bomb=bomb, latency_s=0.05)

    assert same(job.result(WAIT_S), undisturbed)
    assert job.attempt == 2
    assert len(sold(shop)) == 9
    assert float(job.cost) == pytest.approx(9 * 0.3)
    assert job.cost == of_user(jobs_home).cost()
    assert job.cost.usd_estimated == 0


def test_out_of_money_in_the_middle_of_a_step_it_saves_the_step_before_and_goes_on(shop, undisturbed):
    job = inline(buyers.descend, budget={"max_usd": 1.6})(4, shop)  # five tasks and a bit: the third step's value, but not its gradient
    with pytest.raises(BudgetExceeded, match=r"max_usd = 1\.60: 1\.50 spent \+ 0\.00 reserved \+ 0\.30 asked"):
        job.result(WAIT_S)
    assert job.status is Status.INTERRUPTED
    assert [checkpoint.step for checkpoint in job.checkpoints() if checkpoint.good][-1] == 2
    assert len(sold(shop)) == 5

    job.resume(budget={"max_usd": 10})

    assert same(job.result(WAIT_S), undisturbed)
    assert len(sold(shop)) == 9


def test_asked_to_stop_while_it_waits_it_stops_at_once_and_collects_later(shop, undisturbed):
    job = inline(buyers.stopped_while_waiting)(4, shop)
    with pytest.raises(JobInterrupted):
        job.result(WAIT_S)
    bought = len(sold(shop))

    job.resume()

    assert 1 <= bought < 9
    assert same(job.result(WAIT_S), undisturbed)
    assert len(sold(shop)) == 9


def test_threads_of_an_inline_job_buy_for_it_and_each_call_is_a_purchase(shop):
    job = inline(buyers.here_and_in_a_thread)(shop)

    assert job.result(WAIT_S) == 3
    assert len(sold(shop)) == job.cost.tasks == 3


def test_a_step_costs_what_the_plan_says(shop):
    device = qml.device("hybridjobs.qpu", QPU, wires=2, folder=shop, task_usd=0.3, shot_usd=0.001)
    plan = plan_gradient(buyers.make_circuit(device), buyers.START)

    assert plan.gradient_method == "parameter-shift"
    assert not sold(shop)
    with qml.Tracker(device) as tracker:
        buyers.trained(device, 3)
    assert plan.cost_per_step == pytest.approx((tracker.totals["cost_usd"] - 0.3 - 0.1) / 3)
    assert plan.circuits_per_step == (tracker.totals["executions"] - 2) / 3


def test_each_step_logs_what_it_took(shop):
    job = inline(buyers.descend)(2, shop)
    job.result(WAIT_S)
    table = job.metrics()

    # Two groups of words: two circuits for the value, and two for each of four shifts.
    assert list(table["executions"]) == [10, 10]
    assert list(table["shots"]) == [500, 500]
    assert job.cost.shots == 2 * 500 + 100
    assert job.cost.by_device[QPU].tasks == 5


def test_a_body_of_ones_own_goes_on_too(shop, tmp_path):
    job = inline(buyers.by_hand, budget={"max_tasks": 7})(4, shop)
    with pytest.raises(BudgetExceeded):
        job.result(WAIT_S)
    job.resume(budget={"max_tasks": 100})
    other = inline(buyers.by_hand)(4, str(tmp_path / "other"))

    assert same(job.result(WAIT_S), other.result(WAIT_S))
    assert len(sold(shop)) == len(sold(tmp_path / "other")) == 12


def test_beside_checkpoints_of_ones_own_no_samples_are_taken_twice(shop):
    job = inline(buyers.own_checkpoints)(6, shop, 3)
    with pytest.raises(JobInterrupted):
        job.result(WAIT_S)
    job.resume()

    found = job.result(WAIT_S)
    assert len(found) == 6
    assert len(sold(shop)) == 6  # six keys, and samples are drawn by them
