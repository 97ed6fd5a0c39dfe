"""Reservations: a device for oneself for some time, billed by the hour elsewhere."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pl_hybridjobs.emulator.buckets import ACCOUNT
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.devices import Device
from pl_hybridjobs.emulator.model import Refused


@dataclass(frozen=True)
class Reservation:
    """A time window on a device."""

    arn: str
    device: str
    begins: datetime
    ends: datetime


class Reservations:
    """Those of one emulator."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Reservation] = {}
        self._lock = threading.Lock()

    def add(self, device: Device, from_s: float, until_s: float) -> str:
        """Reserve a device for a time that begins and ends so many seconds from now.

        Returns:
            The reservation's ARN.
        """
        now = self._clock.now()
        arn = f"arn:aws:braket:{device.regions[0]}:{ACCOUNT}:reservation/{uuid.uuid4()}"
        with self._lock:
            self._known[arn] = Reservation(arn, device.arn, now + timedelta(seconds=from_s), now + timedelta(seconds=until_s))
        return arn

    def check(self, associations: Sequence[dict[str, Any]], device: Device) -> bool:
        """Whether a task comes with a reservation.

        Raises:
            Refused: It is not known, for another device, or for another time.
        """
        for association in associations:
            with self._lock:
                found = self._known.get(association["arn"])
            if found is None:
                raise Refused("ValidationException", f"The reservation {association['arn']} does not exist.")
            if found.device != device.arn:
                raise Refused("ValidationException", f"The reservation {found.arn} is for {found.device}, not for {device.arn}.")
            if not found.begins <= self._clock.now() <= found.ends:
                raise Refused("ValidationException", f"The reservation {found.arn} is active from {found.begins} until {found.ends} only.")
        return bool(associations)
