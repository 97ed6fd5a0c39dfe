"""What a run will buy, before anything is bought."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.forecast import Forecast, Purchase, unit_prices
from pl_hybridjobs.cost.ledger import Cost
from pl_hybridjobs.cost.prices import price_of

FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
ON_FORTE = Purchase(FORTE, tasks=9, circuits=9, shots=900, price=price_of(FORTE))
ON_SV1 = Purchase(SV1, tasks=2, circuits=2, shots=0, price=price_of(SV1))
SOMEWHERE = Purchase("arn:mystery", tasks=1, circuits=1, shots=10, price=None)


def test_a_run_costs_its_tasks_and_shots():
    """9 tasks of 0.30 and 900 shots of 0.08 in each of 10 steps."""
    run = Forecast(10, (ON_FORTE,))

    assert (run.tasks, run.shots) == (90, 9000)
    assert run.usd == (Decimal(747), Decimal(747))
    assert str(run) == "10 steps: 90 tasks, 9,000 shots, 747.00 USD"


def test_a_run_that_may_end_sooner_costs_at_most_that():
    run = Forecast(10, (ON_FORTE,), may_end_sooner=True)

    assert run.usd == (Decimal(0), Decimal(747))
    assert str(run).startswith("at most 10 steps:")


def test_where_time_is_billed_only_the_least_is_known():
    """Two tasks of at least three seconds at 0.075 a minute."""
    run = Forecast(4, (ON_SV1,))

    assert run.usd == (Decimal("0.03"), None)
    assert str(run) == "4 steps: 8 tasks, 0.03 USD or more (time is billed, and the minimum of each task is counted)"


def test_an_unknown_price_makes_the_sum_unknown():
    run = Forecast(1, (ON_FORTE, SOMEWHERE))

    assert run.usd is None
    assert str(run) == "1 step: 10 tasks, 910 shots, for a price that is not known (arn:mystery)"


@pytest.mark.parametrize(
    ("budget", "spent", "steps"),
    [
        (Budget(), Cost(), 10),
        (Budget(max_usd=200), Cost(), 2),
        (Budget(max_usd=200), Cost(usd_final=Decimal("50.61")), 1),
        (Budget(max_tasks=27), Cost(tasks=0), 3),
        (Budget(max_tasks=27, max_shots=1000), Cost(), 1),
        (Budget(max_usd=1), Cost(usd_final=Decimal(2)), 0),
    ],
)
def test_a_budget_is_enough_for_so_many_steps(budget, spent, steps):
    assert Forecast(10, (ON_FORTE,)).within(budget, spent) == steps


def test_dollars_and_an_unknown_price_allow_nothing():
    assert Forecast(10, (SOMEWHERE,)).within(Budget(max_usd=1000), Cost()) == 0
    assert Forecast(10, (SOMEWHERE,)).within(Budget(max_tasks=4), Cost()) == 4


def test_unit_prices_are_told_with_their_date():
    assert unit_prices([(FORTE, price_of(FORTE)), (SV1, price_of(SV1)), ("x:y", None), ("default.qubit", price_of("default.qubit"))]) == [
        f"{FORTE}: 0.30 USD a task + 0.08 USD a shot (as of 2026-09-11)",
        f"{SV1}: 0.075 USD a minute, at least 3 s a task (as of 2026-11-21)",
        "x:y: the price is not known; with a limit of dollars it may not be used (see HYBRIDJOBS_PRICES)",
    ]
