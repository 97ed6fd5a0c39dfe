"""Budgets as people write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pl_hybridjobs.cost.budget import Budget


@pytest.mark.parametrize("dollars", [5, 5.0, "5", Decimal("5.00"), np.float64(5), np.int64(5)])
def test_dollars_may_be_any_number(dollars):
    assert Budget(max_usd=dollars) == Budget(max_usd=5)
    assert Budget.of(Budget(max_usd=dollars)).usd == Decimal(5)


def test_a_tenth_is_a_tenth():
    assert Budget(max_usd=0.1).usd == Decimal("0.1")


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "five", [5]])
@pytest.mark.parametrize("name", ["max_usd", "max_tasks", "max_shots", "max_time_s"])
def test_what_is_no_limit_is_complained_about_by_name(name, value):
    (complaint,) = Budget(**{name: value}).complaints()
    assert f"budget.{name} must be" in complaint


def test_all_complaints_come_at_once():
    wrong: dict[str, Any] = {"max_usd": -1, "max_tasks": 1.5, "max_shots": -1, "max_time_s": "x"}
    assert len(Budget(**wrong).complaints()) == 4


@pytest.mark.parametrize(
    ("given", "complaint"),
    [({"max_usb": 5}, "Did you mean 'max_usd'"), (5, r"dollars are Budget\(max_usd=...\)"), ({"max_usd": -5}, "max_usd must be")],
)
def test_what_cannot_be_a_budget_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        Budget.of(given)


def test_no_limit_and_a_limit_of_zero_are_not_the_same():
    assert not Budget()
    assert Budget(max_usd=0)
    assert Budget.of(None) == Budget()


def test_a_budget_survives_json():
    budget = Budget(max_usd="12.345678901", max_tasks=3, max_shots=10**12, max_time_s=1.5)

    assert Budget.from_json(json.loads(json.dumps(budget.to_json()))) == budget
    assert Budget.from_json(Budget().to_json()) == Budget()
    assert Budget.from_json(None) == Budget()


def test_a_change_touches_only_what_it_names():
    assert Budget(max_usd=5, max_tasks=10).changed(Budget(max_usd=8)) == Budget(max_usd=8, max_tasks=10)


def test_it_says_what_it_limits():
    assert str(Budget(max_usd=5, max_tasks=200)) == "at most 5.00 USD, 200 tasks"
    assert str(Budget()) == "no limit"
