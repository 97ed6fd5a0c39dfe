"""What a job is, before it runs: frozen data, written once to ``job.json``."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from pl_hybridjobs.errors import from_mapping, says_its_fields

FORMAT = 1
_NAME = re.compile(r"[^\W_][\w .+-]{0,99}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"(?i)secret|passw(or)?d|token|api_?key|private_?key|credential")


class Status(StrEnum):
    """Where a job is in its life. ``completed``, ``failed`` and ``cancelled`` are final."""

    CREATED = "created"  #: written, not handed to a runner yet
    QUEUED = "queued"  #: the runner has it; no attempt is running
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  #: its owner died; ``resume()`` goes on from the newest checkpoint
    UNKNOWN = "unknown"  #: the engine or owner cannot be asked

    @property
    def is_final(self) -> bool:
        """Nothing will change it any more."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

    @property
    def is_over(self) -> bool:
        """Nothing is running or waiting to run (final, or interrupted)."""
        return self.is_final or self is Status.INTERRUPTED


@says_its_fields
@dataclass(frozen=True)
class Resources:
    """What one attempt of a job may use. Enforced by the runner; None means no limit.

    Attributes:
        timeout_s: Wall-clock seconds of one attempt; then it is stopped and the job has failed (``JobTimeout``).
        memory_mb: Resident memory of the attempt's processes together, in megabytes (10**6 bytes).
        threads: Cores that it may use; numerical libraries are told, and on Linux the processes are bound to so many.
        env: Environment variables, added to the caller's. They are written to the job folder, so no secrets: those are
            inherited from the caller's environment without being written anywhere.
    """

    timeout_s: float | None = None
    memory_mb: float | None = None
    threads: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def complaints(self) -> list[str]:
        """What is wrong with it, one sentence each; empty if nothing is."""
        found = []
        for name in ("timeout_s", "memory_mb"):
            value = getattr(self, name)
            if value is not None and (not _is_real(value) or not value > 0 or math.isinf(value)):
                found.append(f"resources.{name} must be a positive number or None, not {value!r}")
        if self.threads is not None and (isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1):
            found.append(f"resources.threads must be a whole number of at least 1 or None, not {self.threads!r}")
        if not isinstance(self.env, Mapping):
            return [*found, f"resources.env must be a mapping of names to text, not {type(self.env).__name__}"]
        for name, text in self.env.items():
            if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
                found.append(f"resources.env has the name {name!r}; use letters, digits and underscores")
            elif not isinstance(text, str) or "\0" in text:
                found.append(f"resources.env[{name!r}] must be text, not {type(text).__name__}")
            elif _SECRET_NAME.search(name):
                found.append(
                    f"resources.env[{name!r}] looks like a secret and would be written to the job folder; "
                    "set it in the environment of the process that submits: local jobs inherit it"
                )
        return found


@dataclass(frozen=True)
class Retries:
    """How often a job starts again by itself.

    Attributes:
        interruptions: Further attempts after the worker died without an outcome.
        errors: Further attempts after the function raised.
        backoff_s: Pause before the first retry; doubles with each, at most five minutes.
    """

    interruptions: int = 0
    errors: int = 0
    backoff_s: float = 1.0

    @classmethod
    def of(cls, value: int | Mapping[str, Any] | Retries) -> Retries:
        """From what the decorator takes: a number (of interruptions) or a mapping of this class's fields.

        Raises:
            ValueError: With what is wrong.
        """
        if isinstance(value, Retries):
            made = value
        elif isinstance(value, bool):
            raise ValueError(f"retries must be a whole number or a mapping, not {value!r}")
        elif isinstance(value, int):
            made = cls(interruptions=value)
        elif isinstance(value, Mapping):
            made = from_mapping(cls, value, "retries")
        else:
            raise ValueError(f"retries must be a whole number or a mapping, not {type(value).__name__}")
        for name in ("interruptions", "errors"):
            number = getattr(made, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(f"retries: {name} must be a whole number of at least 0, not {number!r}")
        if not _is_real(made.backoff_s) or not 0 <= made.backoff_s < math.inf:
            raise ValueError(f"retries: backoff_s must be a number of at least 0, not {made.backoff_s!r}")
        return made

    def pause_s(self, retry: int) -> float:
        """Seconds to wait before the ``retry``-th retry (1, 2, ...)."""
        return float(min(self.backoff_s * 2 ** (retry - 1), 300.0))


@dataclass(frozen=True)
class SweepPlace:
    """A job's place in a sweep: which one, and where in it."""

    id: str
    index: int


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """All that is decided when a job is submitted."""

    id: str  #: unique for ever, also the folder's name
    name: str  #: unique in one store, for people
    function: str  #: qualified name of the function
    device: str | dict[str, str] | None = None
    runner: str = "local"
    runner_options: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)  #: the call's arguments, for reading
    resources: Resources = field(default_factory=Resources)
    retries: Retries = field(default_factory=Retries)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)  #: channel -> file name in it, "" for a whole folder, or s3://...
    key: str | None = None  #: idempotency key
    sweep: SweepPlace | None = None
    continues: str | None = None  #: id of the job whose checkpoints this one starts from
    bundle_digest: str = ""  #: SHA-256 of the bundle's manifest; "" where there is no bundle
    budget: dict[str, Any] = field(default_factory=dict)  #: as ``Budget.to_json`` gives it; what raised it later is in ``budget.json``
    purse: str = ""  #: id of the job whose purchases this one goes on with; "" for its own
    mirrors: dict[str, str] = field(default_factory=dict)  #: tracker -> where to, as ``trackers.targets`` gives it
    created: float = 0.0  #: Unix time, seconds
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobSpec:
        """Read what ``to_json`` gave; fields of later minor versions are ignored."""
        known = {f.name for f in fields(cls)}
        kept = {name: item for name, item in value.items() if name in known}
        kept["resources"] = Resources(**value["resources"])
        kept["retries"] = Retries(**value["retries"])
        if value.get("sweep"):
            kept["sweep"] = SweepPlace(**value["sweep"])
        return cls(**kept)

    @property
    def device_text(self) -> str:
        """The device as one short text."""
        if isinstance(self.device, dict):
            return ", ".join(f"{role}={name}" for role, name in self.device.items())
        return self.device or ""


def new_id() -> str:
    """A job id that nobody else has, and that sorts by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


def name_complaint(name: object) -> str | None:
    """What is wrong with a job's name, or None."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    return f"name={name!r} is not usable; take 1 to 100 letters, digits, spaces, '.', '_', '+' or '-', starting with a letter or digit"


def tags_complaints(tags: object) -> list[str]:
    """What is wrong with tags."""
    if not isinstance(tags, Mapping):
        return [f"tags must be a mapping of text to text, not {type(tags).__name__}"]
    return [
        f"tags[{name!r}] = {value!r}: names and values must be text, and names not empty"
        for name, value in tags.items()
        if not (isinstance(name, str) and name and isinstance(value, str))
    ]


def _is_real(value: object) -> bool:
    import numbers

    return isinstance(value, numbers.Real) and not isinstance(value, bool)
