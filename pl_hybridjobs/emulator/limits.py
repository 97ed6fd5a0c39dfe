"""Spending limits: one for a QPU, which stops tasks from being created."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pl_hybridjobs.emulator.buckets import ACCOUNT
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.devices import Device
from pl_hybridjobs.emulator.model import Refused

ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


@dataclass(frozen=True)
class Limit:
    """One spending limit.

    Attributes:
        arn: Its name.
        device: The QPU's ARN.
        usd: The most that may be spent.
        period: From when until when tasks may be created.
        created: When it was made.
        updated: When it was changed last.
        queued: USD of tasks that have not ended, by task.
        spent: USD of tasks that have.
        tags: Of the resource.
    """

    arn: str
    device: str
    usd: Decimal
    period: tuple[datetime, datetime]
    created: datetime
    updated: datetime
    queued: Mapping[str, Decimal] = field(default_factory=dict)
    spent: Decimal = Decimal(0)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def queued_usd(self) -> Decimal:
        """What tasks that have not ended may cost."""
        return sum(self.queued.values(), Decimal(0))


class Limits:
    """All limits of one emulator."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, Limit] = {}
        self._lock = threading.Lock()

    def create(self, device: Device, usd: str, period: Mapping[str, datetime] | None, tags: Mapping[str, str], region: str) -> Limit:
        """Set a limit for a QPU that has none."""
        if device.is_simulator:
            raise Refused("ValidationException", f"Simulators do not support spending limits: {device.arn}.")
        made = self._clock.now()
        arn = f"arn:aws:braket:{region}:{ACCOUNT}:spending-limit/{uuid.uuid4()}"
        limit = Limit(arn, device.arn, Decimal(usd), _period(period) or ALWAYS, made, made, tags=dict(tags))
        with self._lock:
            if any(other.device == device.arn for other in self._limits.values()):
                raise Refused("ValidationException", f"There is a spending limit for the device {device.arn} already. Update or delete it.")
            self._limits[arn] = limit
        return limit

    def update(self, arn: str, usd: str | None, period: Mapping[str, datetime] | None) -> None:
        """Change the sum, the period, or both."""
        with self._lock:
            limit = self._find(arn)
            changed = Decimal(usd) if usd is not None else limit.usd
            self._limits[arn] = replace(limit, usd=changed, period=_period(period) or limit.period, updated=self._clock.now())

    def delete(self, arn: str) -> None:
        """Forget a limit: the device is unrestricted."""
        with self._lock:
            self._find(arn)
            del self._limits[arn]

    def tag(self, arn: str, tags: Mapping[str, str]) -> None:
        """Replace the tags."""
        with self._lock:
            self._limits[arn] = replace(self._find(arn), tags=dict(tags))

    def find(self, arn: str) -> Limit:
        """One of them."""
        with self._lock:
            return self._find(arn)

    def all(self) -> list[Limit]:
        """In the order in which they were made."""
        with self._lock:
            return list(self._limits.values())

    def reserve(self, task: str, device: Device, usd: Decimal) -> None:
        """Count a task that is about to be created.

        Raises:
            Refused: It may cost more than is left, or it is not the time.
        """
        with self._lock:
            limit = next((one for one in self._limits.values() if one.device == device.arn), None)
            if limit is None:
                return
            begin, end = limit.period
            if not begin <= self._clock.now() <= end:
                raise Refused("ValidationException", f"The spending limit {limit.arn} takes no tasks outside of its time period.")
            left = limit.usd - limit.spent - limit.queued_usd
            if usd > left:
                raise Refused(
                    "ValidationException", f"The task may cost {usd} USD, more than the {left} USD left of the spending limit {limit.arn}."
                )
            self._limits[limit.arn] = replace(limit, queued={**limit.queued, task: usd})

    def settle(self, task: str, usd: Decimal) -> None:
        """Count a task that ended, by what it cost."""
        with self._lock:
            for limit in self._limits.values():
                if task in limit.queued:
                    queued = {name: value for name, value in limit.queued.items() if name != task}
                    self._limits[limit.arn] = replace(limit, queued=queued, spent=limit.spent + usd)
                    return

    def _find(self, arn: str) -> Limit:
        if arn not in self._limits:
            raise Refused("ResourceNotFoundException", f"There is no spending limit {arn}.")
        return self._limits[arn]


def _period(given: Mapping[str, Any] | None) -> tuple[datetime, datetime] | None:
    if given is None:
        return None
    begin, end = given["startAt"], given["endAt"]
    if begin >= end:
        raise Refused("ValidationException", "The time period must end after it starts.")
    return begin, end


def summary(limit: Limit) -> dict[str, Any]:
    """As the API gives it."""
    return {
        "spendingLimitArn": limit.arn,
        "deviceArn": limit.device,
        "timePeriod": {"startAt": limit.period[0], "endAt": limit.period[1]},
        "spendingLimit": f"{limit.usd:.2f}",
        "queuedSpend": f"{limit.queued_usd:.2f}",
        "totalSpend": f"{limit.spent:.2f}",
        "createdAt": limit.created,
        "updatedAt": limit.updated,
        "tags": dict(limit.tags),
    }
