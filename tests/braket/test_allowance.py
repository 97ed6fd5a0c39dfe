"""What a Braket job may cost is set aside when it is submitted, and free again when it is over."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from pl_hybridjobs.braket import allowance, record
from pl_hybridjobs.braket.runner import BraketRunner, instance_cost
from pl_hybridjobs.cost.account import budget_file, of_job, of_user
from pl_hybridjobs.cost.ledger import Charge, Cost
from pl_hybridjobs.errors import BudgetExceeded, FolderCorrupt
from tests.braket.boxes import packed
from tests.jobs import functions

KIND, HOUR_S, HOUR_USD = "ml.m5.large", 3600.0, Decimal("0.115")


def limit(**limits: object) -> None:
    budget_file().parent.mkdir(parents=True, exist_ok=True)
    budget_file().write_text(json.dumps(limits))


def begin(folder, number=1):
    """A run, as the runner writes it down."""
    run = record.Run(record.home(folder) / str(number))
    run.begin({"request": {}, "time": 0.0, "epoch": 0, "door": {}, "folder": ""})
    return run


def set_aside(folder, run=None, kind=KIND, seconds=HOUR_S, **more):
    files = allowance.set_aside(folder, run or record.Run(record.home(folder) / "1"), kind, seconds, **more)
    return json.loads(files["budget.json"]) if files else {}


def billed(seconds):
    return {"status": "COMPLETED", "startedAt": 1.0, "endedAt": 1.0 + seconds, "instanceConfig": {"instanceType": KIND}}


def test_what_is_left_of_the_users_budget_goes_along():
    folder = packed(functions.add, 1)
    assert set_aside(folder) == {}
    limit(max_usd="10", max_tasks=5)
    of_user().reserve([Charge("another job's", "arn:x", usd=Decimal(4), tasks=2)])
    of_job(folder.path).reserve([Charge("its own", "arn:x", usd=Decimal(3), tasks=1)])

    assert set_aside(folder) == {"max_usd": "6.00", "max_tasks": 3}, "of which its own purchases and the instance are a part"


def test_two_jobs_that_are_submitted_at_once_never_have_more_than_the_users_budget():
    limit(max_usd="10")
    folders = [packed(functions.add, number, options={"budget": {"max_usd": 7}}) for number in range(4)]

    def begun(folder):
        try:
            return Decimal(set_aside(folder)["max_usd"])
        except BudgetExceeded:
            return Decimal(0)

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(begun, folders))

    assert sum(given) == of_user().cost().usd == 10


def test_a_job_without_a_budget_reserves_all_that_is_left_and_the_next_one_is_told_how_to_share():
    limit(max_usd="10", max_tasks=100)
    first, second = packed(functions.add, 1), packed(functions.add, 2)
    set_aside(first)

    with pytest.raises(BudgetExceeded, match=r"braket-instance:ml.m5.large.*\n.*the user has max_usd(.|\n)*budget of its own reserves all"):
        set_aside(second)

    assert of_user().cost().usd == 10
    assert of_user().cost().tasks == 100


@pytest.mark.parametrize("whose", ["the job's", "the user's"])
def test_an_instance_that_could_cost_more_than_the_budget_is_not_hired(whose):
    options = {"budget": {"max_usd": "0.11"}} if whose == "the job's" else {}
    if whose == "the user's":
        limit(max_usd="0.11")

    with pytest.raises(BudgetExceeded, match=r"0.115 asked make 0.115(.|\n)*may run for 3600 s.*timeout_s"):
        set_aside(packed(functions.add, 1, options=options))

    assert of_user().cost().is_nothing


def test_an_instance_of_an_unknown_price_is_not_hired_with_a_limit_of_dollars_and_is_counted_as_unknown_without():
    folder = packed(functions.add, 1)
    set_aside(folder, kind="ml.p4d.24xlarge")
    assert "the price of 1 instance is not known" in str(of_user().cost())

    limit(max_usd="1000")
    with pytest.raises(BudgetExceeded, match=r"price of braket-instance:ml\.p4d\.24xlarge is not known.*per_hour_usd"):
        set_aside(packed(functions.add, 2), kind="ml.p4d.24xlarge")


def test_within_its_budget_a_job_buys_no_more_than_its_instance_leaves():
    folder = packed(functions.add, 1, options={"budget": {"max_usd": 1}})
    set_aside(folder)

    with pytest.raises(BudgetExceeded, match=r"0\.115 reserved"):
        of_job(folder.path).reserve([Charge("task", "arn:x", usd=Decimal("0.90"))])
    of_job(folder.path).reserve([Charge("task", "arn:x", usd=Decimal("0.88"))])


def test_purchases_that_come_home_are_taken_out_of_what_was_set_aside():
    limit(max_usd="10")
    folder, run = packed(functions.add, 1, options={"budget": {"max_usd": 7}}), None
    set_aside(folder)
    run = begin(folder)
    mine = of_job(folder.path)
    before = mine.cost()
    mine.ledger.reserve([Charge("bought there", "arn:x", usd=Decimal(2))])
    of_user().ledger.adopt(mine.ledger.entries())
    assert of_user().cost().usd == 9, "for a moment it is counted twice"

    allowance.spent(folder, run, before)

    assert of_user().cost().usd == 7


def test_when_a_job_is_over_it_has_cost_what_was_billed_and_the_rest_is_free():
    limit(max_usd="10")
    folder = packed(functions.add, 1)
    set_aside(folder, seconds=24 * HOUR_S)
    run = begin(folder)
    run.heard(billed(HOUR_S))

    for _ in range(2):  # a process that died in between does it again
        allowance.settle(folder, run)

    assert of_user().cost().usd_final == of_user().cost().usd == HOUR_USD
    assert of_job(folder.path).cost().without("braket-instance") == Cost()
    assert instance_cost(run.answer).usd_final == HOUR_USD


def test_a_job_is_settled_also_where_its_result_came_damaged():
    class Damaged:
        def complete_logs(self, listed):
            pass

        def pull_outcome(self, listed):
            raise FolderCorrupt("arrays are missing")

    folder = packed(functions.add, 1)
    set_aside(folder, seconds=24 * HOUR_S)
    run = begin(folder)
    run.heard(billed(HOUR_S))

    with pytest.raises(FolderCorrupt):
        BraketRunner()._close(folder, folder.spec(), run, Damaged(), [])  # type: ignore[arg-type]

    assert of_user().cost().usd == HOUR_USD


def test_a_lost_job_that_never_ran_has_cost_nothing():
    folder = packed(functions.add, 1)
    set_aside(folder)
    run = begin(folder)
    run.heard({"status": "FAILED", "failureReason": "gone"})

    allowance.settle(folder, run)

    assert of_user().cost().usd == 0


def test_what_was_never_submitted_is_given_back_and_can_be_set_aside_again():
    limit(max_usd="10")
    folder, run = packed(functions.add, 1), None
    run = record.Run(record.home(folder) / "1")
    set_aside(folder, run)
    allowance.give_back(folder, run)
    assert of_user().cost().is_nothing

    assert set_aside(folder, run) == {"max_usd": "10.00"}
    assert set_aside(folder, run) == {"max_usd": "10.00"}, "as somebody does who died before it was submitted"


def test_a_rehearsal_reserves_nothing_of_the_users_and_knows_what_is_left():
    limit(max_usd="10")
    of_user().reserve([Charge("bought", "arn:x", usd=Decimal(4))])
    folder = packed(functions.add, 1)

    assert set_aside(folder, is_bought=False) == {"max_usd": "6.00"}
    assert of_user().cost().usd == 4
    assert of_user(emulated=True).cost().usd == HOUR_USD
