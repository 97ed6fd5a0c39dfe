"""The service's own spending limit, behind ours."""

from __future__ import annotations

from decimal import Decimal

import pennylane as qml
import pytest
from click.testing import CliRunner

from pl_hybridjobs.braket.limits import mirror
from pl_hybridjobs.cli.commands import cli
from pl_hybridjobs.errors import InvalidCall, ProviderError
from tests.braket.conftest import FORTE, SV1


def hj(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="hybridjobs")
    assert done.exit_code == code, done.output
    return done.output


def flip(shots):
    @qml.set_shots(shots)
    @qml.qnode(qml.device("hybridjobs.qpu", FORTE, wires=1))
    def circuit():
        qml.X(0)
        return qml.expval(qml.Z(0))

    return circuit()


def test_what_is_left_of_the_budget_becomes_the_services_limit(emulated):
    service = emulated(devices=["Forte 1"])
    hj("budget", "set", "--max-usd", "10.009")
    assert flip(10) == -1  # 1.10 USD
    assert "8.90 USD on" in hj("budget", "mirror", FORTE)

    hj("budget", "set", "--max-usd", "1000")
    assert flip(100) == -1  # 8.30 USD
    with pytest.raises(ProviderError, match="spending limit"):
        flip(10)  # ours would allow it
    assert len(service.tasks) == 2
    assert "998.90 USD on" in hj("budget", "mirror", FORTE)  # 8.30 spent since, 990.60 left
    assert flip(10) == -1


def test_a_limit_is_raised_by_what_may_be_spent_beyond_what_was(emulated):
    emulated(devices=["Forte 1"])
    first = mirror(FORTE, Decimal("2.005"))
    assert (first.usd, first.spent_usd) == (Decimal("2.00"), Decimal(0))
    assert flip(10) == -1
    second = mirror(FORTE, Decimal(5))
    assert (second.arn, second.usd, second.spent_usd) == (first.arn, Decimal("6.10"), Decimal("1.10"))


@pytest.mark.parametrize(
    ("device", "usd", "said"),
    [("arn:aws:braket", 1, "six parts"), (SV1, 1, "QPUs only"), (FORTE, -1, "more was spent"), (SV1, -1, "2 problems")],
)
def test_what_cannot_be_mirrored_is_said_before_anything_is_asked(device, usd, said):
    with pytest.raises(InvalidCall, match=said):
        mirror(device, Decimal(usd))


def test_a_budget_without_dollars_has_nothing_to_tell():
    assert "no limit of dollars" in hj("budget", "mirror", FORTE, code=2)
