"""The virtual bill: what Amazon would have charged."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pl_hybridjobs.emulator.devices import Device

_CENT = Decimal("0.00001")


@dataclass(frozen=True)
class Line:
    """What one task cost.

    Attributes:
        task: Its ARN.
        device: The device's ARN.
        shots: Those that were made.
        seconds: Billed time; 0 where shots are billed.
        usd: In US dollars.
    """

    task: str
    device: str
    shots: int
    seconds: float
    usd: Decimal


def cost_usd(device: Device, shots: int, seconds: float = 0.0) -> Decimal:
    """Of one task: by task and shot, or by time with its minimum."""
    price = device.price
    if "minute" in price:
        billed = max(Decimal(price["minimum_s"]), Decimal(repr(seconds)))
        return (Decimal(price["minute"]) * billed / 60).quantize(_CENT)
    return Decimal(price["task"]) + Decimal(price["shot"]) * shots


class Bill:
    """Lines of completed tasks; failed and cancelled ones cost nothing."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._lock = threading.Lock()

    def add(self, task: str, device: Device, shots: int, seconds: float) -> Line:
        """Charge a completed task."""
        billed = max(float(device.price["minimum_s"]), seconds) if "minute" in device.price else 0.0
        line = Line(task, device.arn, shots, billed, cost_usd(device, shots, seconds))
        with self._lock:
            self._lines.append(line)
        return line

    @property
    def lines(self) -> tuple[Line, ...]:
        """In the order in which tasks completed."""
        with self._lock:
            return tuple(self._lines)

    @property
    def total_usd(self) -> Decimal:
        """All of it."""
        return sum((line.usd for line in self.lines), Decimal(0))

    @property
    def by_device(self) -> Mapping[str, Decimal]:
        """USD by the device's ARN."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            found[line.device] = found.get(line.device, Decimal(0)) + line.usd
        return found

    def __str__(self) -> str:
        rows = [f"{usd:>12} USD  {device}" for device, usd in sorted(self.by_device.items())]
        return "\n".join([*rows, f"{self.total_usd:>12} USD  {len(self.lines)} task(s)"])
