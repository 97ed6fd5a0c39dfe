"""One hybrid job, as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pl_hybridjobs.emulator.devices import Device

FINAL = ("COMPLETED", "FAILED", "CANCELLED")
_LONGEST_RUN_S = 432_000


@dataclass(frozen=True)
class Event:
    """What happened to a job, and when."""

    kind: str
    time: datetime
    message: str = ""


@dataclass(frozen=True)
class Job:
    """Where a job stands.

    Attributes:
        arn: Its name.
        region: Where it was created.
        request: CreateJob's parameters.
        status: As the API gives it.
        created: When.
        token: What its tasks are known by; a secret.
        folder: Stands for ``/`` of its container.
        device: Where it has priority; None: a local one.
        events: What happened.
        started: When its instance was started.
        ended: When it was over.
        reason: Why it failed.
        tags: Of the resource.
        reserved: It runs in a reservation.
    """

    arn: str
    region: str
    request: Mapping[str, Any] = field(repr=False)
    status: str
    created: datetime
    token: str = field(repr=False)
    folder: Path
    device: Device | None
    events: tuple[Event, ...] = ()
    started: datetime | None = None
    ended: datetime | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    reserved: bool = False

    @property
    def name(self) -> str:
        """As its creator named it."""
        return str(self.request["jobName"])

    @property
    def log_stream(self) -> str:
        """In CloudWatch."""
        return f"{self.name}/{self.arn.rpartition('/')[2]}/algo-1"

    @property
    def instance_type(self) -> str:
        """Of its instance."""
        return str(self.request["instanceConfig"]["instanceType"])

    @property
    def image(self) -> str:
        """Its container's URI; "": none was named."""
        return str(self.request["algorithmSpecification"].get("containerImage", {}).get("uri", ""))

    @property
    def longest_s(self) -> int:
        """Its stopping condition."""
        return int(self.request.get("stoppingCondition", {}).get("maxRuntimeInSeconds", _LONGEST_RUN_S))

    @property
    def billable_s(self) -> int | None:
        """Whole seconds of its instance; None: it is not over, or had none."""
        return None if self.started is None or self.ended is None else max(1, round((self.ended - self.started).total_seconds()))

    @property
    def queue(self) -> str:
        """In which one it waits: a QPU has one of its own."""
        return self.device.arn if self.device is not None and not self.device.is_simulator else ""
