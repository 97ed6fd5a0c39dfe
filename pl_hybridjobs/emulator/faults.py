"""What goes wrong, decided by a seed: the same request meets the same faults in every run."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pl_hybridjobs.errors import InvalidCall, did_you_mean

#: At the door, in this order; the first that happens is the only one.
DOOR = ("throttle", "error", "drop", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often what goes wrong. Chances are from 0 to 1.

    Attributes:
        throttle: A request is answered with 429 ThrottlingException and not looked at.
        error: A request is answered with 500 InternalServiceException and not looked at.
        drop: A request is carried out, and the connection closed without a reply.
        duplicate: A request is carried out twice, as behind a proxy that tries again; the second reply is sent.
        s3: A read from S3 is answered with 503 SlowDown.
        fail: A task fails.
        slow: A task takes ``slow_s`` longer.
        slow_s: Seconds.
        missing: A task is COMPLETED ``missing_s`` before its results are in S3.
        missing_s: Seconds.
        malformed: A task's results are cut off in the middle; right ones replace them after ``malformed_s``.
        malformed_s: Seconds; infinite: never.
        kill: A job's instance is lost ``kill_s`` after it began to run.
        kill_s: Seconds.
        log_delay_s: Lines of jobs' logs reach CloudWatch so much later.
        clock_skew_s: The service's clock goes ahead by this; more than 300 s, and it refuses signatures as AWS does.
        in_a_row: The same request (an idempotency key, a task) meets faults of the door and of S3 at most so many times in a row.
    """

    throttle: float = 0.0
    error: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    s3: float = 0.0
    fail: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.5
    missing: float = 0.0
    missing_s: float = 0.5
    malformed: float = 0.0
    malformed_s: float = float("inf")
    kill: float = 0.0
    kill_s: float = 1.0
    log_delay_s: float = 0.0
    clock_skew_s: float = 0.0
    in_a_row: int = 3

    def __post_init__(self) -> None:
        chances = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.name.endswith("_s") and f.name != "in_a_row"}
        complaints = [f"{name}={value} is no chance from 0 to 1." for name, value in chances.items() if not 0 <= value <= 1]
        times = {name: getattr(self, name) for name in ("slow_s", "missing_s", "malformed_s", "kill_s", "log_delay_s")}
        complaints += [f"{name}={value} is no time." for name, value in times.items() if not value >= 0]
        if self.in_a_row < 0:
            complaints.append(f"in_a_row={self.in_a_row} is less than 0.")
        if complaints:
            raise InvalidCall("Faults", complaints)

    @classmethod
    def parse(cls, text: str) -> Faults:
        """From ``"throttle=0.1,drop=0.05"``.

        Raises:
            InvalidCall: A name is not known, or a value is no number.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        given: dict[str, float] = {}
        complaints = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                complaints.append(f"there is no fault {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
                continue
            try:
                given[name] = int(value) if name == "in_a_row" else float(value)
            except ValueError:
                complaints.append(f"{part!r} must look like {name}=0.1.")
        if complaints:
            raise InvalidCall("faults", complaints)
        return cls(**given)  # type: ignore[arg-type]


class Dice:
    """Throws for one emulator.

    Args:
        faults: The chances.
        seed: The same seed gives the same faults to the same requests and tasks, in whatever order they come.
    """

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self.happened: Counter[str] = Counter()
        self._seed = seed
        self._tries: Counter[str] = Counter()
        self._row: Counter[str] = Counter()
        self._lock = threading.Lock()

    def at_the_door(self, request: str) -> str:
        """Which of ``DOOR`` happens to a request (named by its operation and what it is about); "" for none."""
        return self._next(request, DOOR)

    def at_s3(self, request: str) -> bool:
        """Whether a read is refused."""
        return bool(self._next(request, ("s3",)))

    def happens(self, kind: str, task: str) -> bool:
        """Whether ``"fail"``, ``"slow"``, ``"missing"`` or ``"malformed"`` befalls a task, or ``"kill"`` a job."""
        hit = self._throw(kind, task) < getattr(self.faults, kind)
        if hit:
            with self._lock:
                self.happened[kind] += 1
        return hit

    @property
    def summary(self) -> Mapping[str, int]:
        """How often what happened."""
        with self._lock:
            return dict(self.happened)

    def _next(self, request: str, kinds: tuple[str, ...]) -> str:
        if not any(getattr(self.faults, kind) for kind in kinds):
            return ""
        with self._lock:
            number = self._tries[request]
            self._tries[request] += 1
            hit = next((k for k in kinds if self._throw(f"{k} {number}", request) < getattr(self.faults, k)), "")
            if hit and self._row[request] >= self.faults.in_a_row:
                hit = ""
            self._row[request] = self._row[request] + 1 if hit else 0
            if hit:
                self.happened[hit] += 1
        return hit

    def _throw(self, kind: str, what: str) -> float:
        digest = hashlib.sha256(f"{self._seed}|{kind}|{what}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56
