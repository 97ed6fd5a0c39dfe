"""Amazon Braket's own spending limits: a second line behind the ledger, kept by the service, for one QPU each.

Operations: botocore's model of ``braket``, 2019-09-01. The service limits QPUs only, and counts from when a limit was made.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from pl_hybridjobs.braket.devices import arn_of
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.cost.prices import show
from pl_hybridjobs.errors import InvalidCall


@dataclass(frozen=True)
class SpendingLimit:
    """A limit as the service has it now.

    Attributes:
        arn: Its name.
        device: The QPU.
        usd: The most that may be spent on it since the limit was made.
        spent_usd: Of that, so far.
    """

    arn: str
    device: str
    usd: Decimal
    spent_usd: Decimal


def mirror(device: str, left_usd: Decimal, *, session: Session | None = None) -> SpendingLimit:
    """Let the service allow so much more on a QPU, and no more.

    Sums are cut to whole cents. What waits in the device's queue is not added: the limit is rather too low by it than too high.

    Args:
        device: The QPU's ARN.
        left_usd: What may still be spent.
        session: The way there; None: that of the device's region.

    Raises:
        InvalidCall: The ARN is malformed, that of a simulator (which the service does not limit), or the sum is below 0.
        ProviderError: The service refuses, or cannot be reached.
    """
    arn, complaints = arn_of(device)
    if arn.kind == "quantum-simulator":
        complaints = [*complaints, f"{device} is a simulator; the service has limits for QPUs only"]
    if left_usd < 0:
        complaints = [*complaints, f"{show(left_usd)} are left: more was spent than the budget allows"]
    if complaints:
        raise InvalidCall("budget mirror", complaints)
    service = session or Session(region=arn.region)
    present = _find(service, device)
    spent = Decimal(present["totalSpend"]) if present else Decimal(0)
    usd = (spent + left_usd).quantize(Decimal("0.01"), ROUND_DOWN)
    token = uuid.uuid4().hex
    if present:
        name = str(present["spendingLimitArn"])
        service.call("braket", "update_spending_limit", spendingLimitArn=name, clientToken=token, spendingLimit=f"{usd}")
    else:
        made = service.call("braket", "create_spending_limit", deviceArn=device, clientToken=token, spendingLimit=f"{usd}")
        name = str(made["spendingLimitArn"])
    return SpendingLimit(name, device, usd, spent)


def _find(service: Session, device: str) -> dict[str, Any] | None:
    filters = [{"name": "deviceArn", "values": [device], "operator": "EQUAL"}]
    found = service.call("braket", "search_spending_limits", filters=filters)
    return next((dict(limit) for limit in found["spendingLimits"] if limit["deviceArn"] == device), None)
