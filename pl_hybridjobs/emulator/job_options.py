"""How the emulator runs hybrid jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pl_hybridjobs.errors import InvalidCall


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How the emulator runs jobs.

    Attributes:
        start_latency_s: From the queue to the instance.
        quota: How many jobs that have not ended an account may have; None: any number.
        concurrency: How many jobs run at the same time on this machine; None: any number. A QPU has one at a time in any case.
        instance_quota: How many instances of a type, by patterns (``{"ml.p*": 0}``).
        instance_usd_per_hour: Prices for the bill, by instance type; others are unknown.
        image_python: Which Python stands for an image, by patterns of image URIs: a path or a version (``{"*": "3.12"}``).
        checked_pip: A failed ``pip install`` fails the job; Amazon's containers go on.
        checkpoint_interval_s: How often the checkpoint folder is copied to S3.
        grace_s: From SIGTERM to SIGKILL for a job that is cancelled or has run for too long.
    """

    start_latency_s: float = 0.0
    quota: int | None = None
    concurrency: int | None = None
    instance_quota: Mapping[str, int] = field(default_factory=dict)
    instance_usd_per_hour: Mapping[str, str] = field(default_factory=dict)
    image_python: Mapping[str, str] = field(default_factory=dict)
    checked_pip: bool = False
    checkpoint_interval_s: float = 1.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        times = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name.endswith("_s")}
        complaints = [f"{name}={value} is no time." for name, value in times.items() if not value >= 0]
        counts = {"quota": self.quota, "concurrency": self.concurrency}
        complaints += [f"{name}={value} is less than 1." for name, value in counts.items() if value is not None and value < 1]
        if complaints:
            raise InvalidCall("JobOptions", complaints)


def table(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``["*-base-jobs*=3.12"]`` as a dictionary; a text without ``=`` is for everything.

    Raises:
        InvalidCall: Half of one is missing.
    """
    pairs = [text.rpartition("=") for text in texts]
    wrong = [f"{''.join(pair)!r} must look like PATTERN=VALUE." for pair in pairs if not pair[2] or (pair[1] and not pair[0])]
    if wrong:
        raise InvalidCall(option, wrong)
    return {pattern or "*": value for pattern, _, value in pairs}


def counts(option: str, texts: Sequence[str]) -> dict[str, int]:
    """``["ml.p*=0"]`` as a dictionary.

    Raises:
        InvalidCall: A value is no count.
    """
    found = table(option, texts)
    wrong = [f"{value!r} is no number of instances." for value in found.values() if not value.isdecimal()]
    if wrong:
        raise InvalidCall(option, wrong)
    return {pattern: int(value) for pattern, value in found.items()}
