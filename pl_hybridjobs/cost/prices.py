"""What a device costs. A device that is not in the list has an unknown price, never none.

The packaged list, ``prices.json``, is data with a date and a source for each entry. ``$HYBRIDJOBS_PRICES`` names a file of the same form
whose entries come first: ``{"arn:...": {"per_task_usd": "0.30", "per_shot_usd": "0.08"}}``, and ``null`` for a price that is not known.
Between the two comes what ``hybridjobs prices update`` wrote to the home folder.
"""

from __future__ import annotations

import functools
import json
import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import InvalidCall, did_you_mean
from pl_hybridjobs.home import default_home

#: Money is kept in whole billionths of a dollar.
NANO_USD = Decimal("1e-9")

#: The kind of a machine that is hired by the hour to run a job: ``braket-instance:ml.m5.large``.
INSTANCE = "braket-instance"

_FREE = ("hybridjobs.", "default.", "lightning.", "reference.", "null.", "braket.local.")
_REMOTE = "hybridjobs.qpu"


def money(value: object) -> Decimal:
    """US dollars as an exact number, rounded up to a billionth. A float counts as the shortest text that stands for it: 0.1 is a tenth.

    Raises:
        ValueError: It is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal, str)):
        raise ValueError(f"{value!r} is no amount of money")
    try:
        amount = Decimal(str(value))
        if not amount.is_finite():
            raise InvalidOperation
        return amount.quantize(NANO_USD, ROUND_CEILING)
    except InvalidOperation:
        raise ValueError(f"{value!r} is no amount of money") from None


def plain(usd: Decimal) -> str:
    """An amount as text: at least two decimals, and all that are there: ``"0.30"``, ``"0.000425"``."""
    whole, _, rest = f"{usd:f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def show(usd: Decimal) -> str:
    """An amount for people: ``"0.30 USD"``."""
    return f"{plain(usd)} USD"


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a device costs, in US dollars.

    Attributes:
        device: Its name or Amazon resource name.
        per_task_usd: For each task.
        per_shot_usd: For each shot.
        per_minute_usd: For each minute of computing.
        per_hour_usd: For each hour of it, where the hour is what has a price.
        minimum_s: Seconds that a task is billed for at least.
        reservation_hour_usd: For an hour of the whole device; None where that is not known or not sold.
        source: Where the figures were read.
        date: Of that source, as YYYY-MM-DD.
    """

    device: str
    per_task_usd: Decimal = Decimal(0)
    per_shot_usd: Decimal = Decimal(0)
    per_minute_usd: Decimal = Decimal(0)
    per_hour_usd: Decimal = Decimal(0)
    minimum_s: float = 0.0
    reservation_hour_usd: Decimal | None = None
    source: str = ""
    date: str = ""

    @classmethod
    def free(cls, device: str) -> Price:
        """Costs nothing, and this is known."""
        return cls(device=device, source="runs on your own machine")

    @classmethod
    def from_json(cls, device: str, value: Mapping[str, Any]) -> Price:
        """One entry of a price file.

        Raises:
            ValueError: With what is wrong.
        """
        known = {field.name for field in fields(cls)} - {"device"}
        for name in value:
            if name not in known:
                raise ValueError(f"{device}: there is no {name!r}; known are {sorted(known)}.{did_you_mean(name, known)}")
        made: dict[str, Any] = {name: str(value[name]) for name in ("source", "date") if name in value}
        for name in known - set(made):
            if value.get(name) is None:
                continue
            amount = money(value[name])
            if amount < 0:
                raise ValueError(f"{device}: {name} is {value[name]!r}; nothing costs less than nothing")
            made[name] = float(amount) if name == "minimum_s" else amount
        return cls(device=device, **made)

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing however much it is used."""
        return not (self.per_task_usd or self.per_shot_usd or self.per_minute_usd or self.per_hour_usd)

    def usd(self, *, tasks: int = 1, shots: int = 0, seconds: float = 0.0) -> Decimal:
        """What this much of it costs.

        Args:
            tasks: How many.
            shots: Of all of them together.
            seconds: Of computing, all of them together; the minimum of each task counts.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds is {seconds!r}; it must be a finite number of at least 0")
        billed = max(money(seconds), money(self.minimum_s) * tasks)
        return money(
            self.per_task_usd * tasks + self.per_shot_usd * shots + self.per_minute_usd * billed / 60 + self.per_hour_usd * billed / 3600
        )


def price_of(target: str, *, prices: Mapping[str, Price | None] | None = None) -> Price | None:
    """What a device costs; None where that is not known.

    Args:
        target: A PennyLane device's short name, an Amazon resource name, or ``NAME:target`` of another provider.
        prices: Entries that come before all others.

    Raises:
        InvalidCall: ``$HYBRIDJOBS_PRICES`` names a file that cannot be used.
    """
    for entries in (prices or {}, _chosen(), _updated(), packaged()):
        if target in entries:
            return entries[target]
    if target.startswith(_FREE) and target.partition(":")[0] != _REMOTE:
        return Price.free(target)
    return None


def kind_of(target: str) -> str:
    """What sort of thing is paid for: ``"qpu"``, ``"simulator"``, or the name of the provider in front of a colon."""
    if target.startswith("arn:"):
        return "simulator" if ":device/quantum-simulator/" in target else "qpu"
    provider, colon, _ = target.partition(":")
    return provider if colon else "simulator"


@functools.cache
def packaged() -> Mapping[str, Price | None]:
    """The list that comes with this package."""
    return read_prices(Path(__file__).with_name("prices.json"))


def all_prices() -> dict[str, Price | None]:
    """Every device in a list, the first list that has it deciding."""
    return {**packaged(), **_updated(), **_chosen()}


def _chosen() -> Mapping[str, Price | None]:
    name = os.environ.get("HYBRIDJOBS_PRICES")
    return read_prices(Path(name).expanduser()) if name else {}


def updated_file() -> Path:
    """Where ``hybridjobs prices update`` keeps the live list."""
    return default_home() / "prices.json"


def _updated() -> Mapping[str, Price | None]:
    path = updated_file()
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, changed: int) -> Mapping[str, Price | None]:
    del changed
    return read_prices(path)


def read_prices(path: Path) -> Mapping[str, Price | None]:
    """Read a price file.

    Raises:
        InvalidCall: It is not there, or is no price file; all complaints at once.
    """
    try:
        content = json.loads(path.read_bytes(), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise InvalidCall(f"prices from {path}", [f"cannot be read: {error}. Mend the file, or take it away"]) from error
    entries = content.get("prices", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise InvalidCall(f"prices from {path}", ['must be a JSON object of devices, as in {"arn:...": {"per_task_usd": "0.30"}}'])
    found: dict[str, Price | None] = {}
    complaints = []
    for device, entry in entries.items():
        try:
            if entry is not None and not isinstance(entry, dict):
                raise ValueError(f"{device}: must be an object of prices, or null for a price that is not known")
            found[device] = None if entry is None else Price.from_json(device, entry)
        except ValueError as error:
            complaints.append(str(error))
    if complaints:
        raise InvalidCall(f"prices from {path}", complaints)
    return found
