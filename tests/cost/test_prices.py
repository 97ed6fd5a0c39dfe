"""Prices: dated, sourced, overridable; unknown is not zero."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest

from pl_hybridjobs.cost.prices import Price, kind_of, money, packaged, price_of, show
from pl_hybridjobs.errors import InvalidCall

FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"


def known(target, **options):
    price = price_of(target, **options)
    assert price is not None, f"the price of {target} is not known"
    return price


def test_every_packaged_price_names_its_source_and_a_date():
    for device, price in packaged().items():
        assert price is not None
        assert price.device == device
        assert len(price.source) > 20
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", price.date)
        assert not price.is_free


def test_an_instance_costs_by_the_hour():
    price = known("braket-instance:ml.m5.large")

    assert price.usd(seconds=3600.0) == Decimal("0.115")
    assert price.usd(seconds=1.0) == Decimal("0.000031945")


def test_a_task_on_a_qpu_costs_its_fee_and_its_shots():
    assert known(FORTE).usd(tasks=2, shots=1000) == Decimal("80.60")


def test_a_simulator_bills_time_and_at_least_its_minimum_for_each_task():
    price = known(SV1)

    assert price.usd(seconds=120.0) == Decimal("0.15")
    assert price.usd(seconds=0.1) == price.usd(seconds=3.0) == Decimal("0.00375")
    assert price.usd(tasks=4, seconds=1.0) == Decimal("0.015")


@pytest.mark.parametrize("device", ["hybridjobs.qubit", "hybridjobs.mixed", "default.qubit", "lightning.qubit", "braket.local.qubit"])
def test_our_own_machine_costs_nothing(device):
    assert known(device).is_free
    assert known(device).usd(tasks=10, shots=10**6, seconds=3600) == 0


@pytest.mark.parametrize("target", ["arn:aws:braket:us-east-1::device/qpu/ionq/Tempo-9", "hybridjobs.qpu", "rehearsal:ideal", ""])
def test_what_is_not_in_the_list_is_unknown(target):
    assert price_of(target) is None


def test_a_price_file_comes_first_and_can_say_that_a_price_is_unknown(tmp_path, monkeypatch):
    chosen = tmp_path / "prices.json"
    chosen.write_text(json.dumps({FORTE: None, "rehearsal:ideal": {"per_task_usd": 0.1, "source": "me", "date": "2026-01-01"}}))
    monkeypatch.setenv("HYBRIDJOBS_PRICES", str(chosen))

    assert price_of(FORTE) is None
    assert known("rehearsal:ideal").usd(tasks=3) == Decimal("0.30")
    assert known(SV1) is packaged()[SV1]
    assert known("rehearsal:ideal", prices={"rehearsal:ideal": Price.free("rehearsal:ideal")}).is_free


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a JSON object"),
        ('{"x": {"per_tsk_usd": 1}, "y": {"per_shot_usd": -1}}', r"(?s)Did you mean 'per_task_usd'.*nothing costs less"),
        ('{"x": {"per_task_usd": "cheap"}}', "'cheap' is no amount"),
        ('{"x": 3}', "must be an object of prices, or null"),
    ],
)
def test_a_price_file_that_is_wrong_is_refused_with_all_that_is_wrong(tmp_path, monkeypatch, text, complaint):
    (tmp_path / "prices.json").write_text(text)
    monkeypatch.setenv("HYBRIDJOBS_PRICES", str(tmp_path / "prices.json"))

    with pytest.raises(InvalidCall, match=complaint):
        known("hybridjobs.qubit")


def test_money_is_exact_and_rounds_up_what_is_finer_than_a_billionth():
    assert money(0.1) + money(0.2) == money("0.3")
    assert money("0.0000000001") == Decimal("1e-9")
    assert (show(money(5)), show(money(0.000425)), show(money("1e-9"))) == ("5.00 USD", "0.000425 USD", "0.000000001 USD")
    for wrong in (float("nan"), float("inf"), "much", True, None, 1j):
        with pytest.raises(ValueError, match="no amount of money"):
            money(wrong)


def test_kinds_are_what_the_name_says():
    assert [kind_of(name) for name in (FORTE, SV1, "rehearsal:x", "hybridjobs.qubit")] == ["qpu", "simulator", "rehearsal", "simulator"]
