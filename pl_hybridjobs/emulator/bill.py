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


@dataclass(frozen=True)
class InstanceLine:
    """What one job's instance cost; its tasks have lines of their own.

    Attributes:
        job: Its ARN.
        instance: Its type.
        seconds: Billed time.
        usd: In US dollars; None: the price is unknown.
    """

    job: str
    instance: str
    seconds: int
    usd: Decimal | None


def cost_usd(device: Device, shots: int, seconds: float = 0.0) -> Decimal:
    """Of one task: by task and shot, or by time with its minimum."""
    price = device.price
    if "minute" in price:
        billed = max(Decimal(price["minimum_s"]), Decimal(repr(seconds)))
        return (Decimal(price["minute"]) * billed / 60).quantize(_CENT)
    return Decimal(price["task"]) + Decimal(price["shot"]) * shots


class Bill:
    """Lines of completed tasks (failed and cancelled ones cost nothing) and of jobs' instances."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._instances: list[InstanceLine] = []
        self._lock = threading.Lock()

    def add(self, task: str, device: Device, shots: int, seconds: float) -> Line:
        """Charge a completed task."""
        billed = max(float(device.price["minimum_s"]), seconds) if "minute" in device.price else 0.0
        line = Line(task, device.arn, shots, billed, cost_usd(device, shots, seconds))
        with self._lock:
            self._lines.append(line)
        return line

    def add_instance(self, job: str, instance: str, seconds: int, usd_per_hour: str | None) -> InstanceLine:
        """Charge a job's instance, however the job ended."""
        usd = None if usd_per_hour is None else (Decimal(usd_per_hour) * seconds / 3600).quantize(_CENT)
        line = InstanceLine(job, instance, seconds, usd)
        with self._lock:
            self._instances.append(line)
        return line

    @property
    def instances(self) -> tuple[InstanceLine, ...]:
        """Of jobs, in the order in which they ended."""
        with self._lock:
            return tuple(self._instances)

    @property
    def lines(self) -> tuple[Line, ...]:
        """In the order in which tasks completed."""
        with self._lock:
            return tuple(self._lines)

    @property
    def total_usd(self) -> Decimal:
        """All of it that has a known price."""
        known = [line.usd for line in self.instances if line.usd is not None]
        return sum([*(line.usd for line in self.lines), *known], Decimal(0))

    @property
    def by_device(self) -> Mapping[str, Decimal]:
        """USD by the device's ARN."""
        found: dict[str, Decimal] = {}
        for line in self.lines:
            found[line.device] = found.get(line.device, Decimal(0)) + line.usd
        return found

    def __str__(self) -> str:
        rows = [f"{usd:>12} USD  {device}" for device, usd in sorted(self.by_device.items())]
        rows += [f"{_text(line.usd)} USD  {line.instance}, {line.seconds} s for {line.job}" for line in self.instances]
        jobs = f", {len(self.instances)} job(s)" if self.instances else ""
        return "\n".join([*rows, f"{self.total_usd:>12} USD  {len(self.lines)} task(s){jobs}"])


def _text(usd: Decimal | None) -> str:
    return f"{'unknown' if usd is None else usd:>12}"
