"""The emulated service's clock, which may go wrong by a fixed time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

#: AWS refuses signatures that are older or newer than this.
MAX_SKEW_S = 300.0


@dataclass(frozen=True)
class Clock:
    """Tells the time.

    Attributes:
        skew_s: How far it goes ahead of this machine's clock.
        started: ``time.monotonic()`` when the emulator began.
    """

    skew_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def now(self) -> datetime:
        """In UTC, as the service believes."""
        return datetime.now(UTC) + timedelta(seconds=self.skew_s)

    def elapsed_s(self) -> float:
        """Since the emulator began; not touched by the skew."""
        return time.monotonic() - self.started

    def is_out_of_step(self, signed: str) -> bool:
        """Whether a request was signed (``"20261121T142938Z"``) too long before or after now; clients share this machine's clock."""
        if not self.skew_s:
            return False
        try:
            then = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return False
        return abs((self.now() - then).total_seconds()) > MAX_SKEW_S
