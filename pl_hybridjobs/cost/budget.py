"""How much may be bought."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from pl_hybridjobs.cost.prices import money, plain, show
from pl_hybridjobs.errors import from_mapping, says_its_fields


@says_its_fields
@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much may be bought; None means no limit, 0 means nothing. Asked before each submission to a remote device.

    Attributes:
        max_usd: US dollars. Any number; kept as an exact ``decimal.Decimal``. Devices whose price is not known may not be used then.
        max_tasks: Tasks.
        max_shots: Shots of all tasks together.
        max_time_s: Seconds that devices bill for, where time is billed.
    """

    max_usd: Decimal | float | str | None = None
    max_tasks: int | None = None
    max_shots: int | None = None
    max_time_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_usd is not None:
            with contextlib.suppress(ValueError):  # left as it is for complaints()
                object.__setattr__(self, "max_usd", Decimal(plain(money(self.max_usd))))

    def __str__(self) -> str:
        limits = [f"at most {show(self.usd)}"] if self.usd is not None else []
        limits += [
            f"{getattr(self, name):g} {unit}"
            for name, unit in (("max_tasks", "tasks"), ("max_shots", "shots"), ("max_time_s", "billed seconds"))
            if getattr(self, name) is not None
        ]
        return ", ".join(limits) or "no limit"

    def __bool__(self) -> bool:
        """Whether it limits anything. A limit of 0 does."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def usd(self) -> Decimal | None:
        """``max_usd``, as an amount of money."""
        return None if self.max_usd is None else money(self.max_usd)

    @classmethod
    def of(cls, value: Budget | Mapping[str, Any] | None) -> Budget:
        """From what people write: a budget, a mapping of its fields, or None for no limit.

        Raises:
            ValueError: With what is wrong, one sentence a line.
        """
        if value is None:
            return cls()
        if isinstance(value, Mapping):
            value = from_mapping(cls, value, "budget")
        if not isinstance(value, Budget):
            raise ValueError(f"budget must be a Budget or a mapping, not {value!r}; dollars are Budget(max_usd=...)")
        if complaints := value.complaints():
            raise ValueError("\n".join(complaints))
        return value

    def complaints(self) -> list[str]:
        """What is wrong with it, one sentence each; empty if nothing is."""
        found = []
        if self.max_usd is not None and (not isinstance(self.max_usd, Decimal) or not self.max_usd.is_finite() or self.max_usd < 0):
            found.append(f"budget.max_usd must be a number of dollars of at least 0, or None for no limit, not {self.max_usd!r}")
        for name in ("max_tasks", "max_shots"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0):
                found.append(f"budget.{name} must be a whole number of at least 0, or None for no limit, not {value!r}")
        time = self.max_time_s
        if time is not None and (isinstance(time, bool) or not isinstance(time, numbers.Real) or not 0 <= time < math.inf):
            found.append(f"budget.max_time_s must be a number of seconds of at least 0, or None for no limit, not {time!r}")
        return found

    def changed(self, limits: Budget) -> Budget:
        """With the limits that another one names; those that it does not name stay."""
        return replace(self, **{field.name: limit for field in fields(limits) if (limit := getattr(limits, field.name)) is not None})

    def to_json(self) -> dict[str, Any]:
        """A JSON object of the limits that there are."""
        limits: dict[str, Any] = {} if self.usd is None else {"max_usd": plain(self.usd)}
        for name, kind in (("max_tasks", int), ("max_shots", int), ("max_time_s", float)):
            if (value := getattr(self, name)) is not None:
                limits[name] = kind(value)
        return limits

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Budget:
        """Read what ``to_json`` gave; fields of later minor versions are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: limit for name, limit in (value or {}).items() if name in known})
