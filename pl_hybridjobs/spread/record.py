"""What each member did: of one call, and of all calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pennylane.exceptions import DeviceError

from pl_hybridjobs.devices.submission import TaskRecord

NAME = "hybridjobs.spread"


@dataclass(frozen=True)
class Share:
    """What one member was asked in one call, and what became of it.

    Attributes:
        member: Its name.
        circuits: The places of its circuits in the call's batch, from 0.
        shots: Of all of them together; 0: analytic.
        seconds: From its first circuit to its last result.
        cost_usd: What it bought: estimates until tasks have ended; None: a price is not known. Free devices: 0.
        task_ids: The provider's names of its tasks.
        error: Why it failed; then its results are not in the batch. "": it did not.
    """

    member: str
    circuits: tuple[int, ...]
    shots: int
    seconds: float
    cost_usd: float | None = 0.0
    task_ids: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Totals:
    """What one member did so far, earlier attempts of a resumed job included.

    Attributes:
        member: Its name.
        device: Its device.
        weight: Of its share.
        circuits: That it ran.
        shots: Of all of them together.
        seconds: That it took for them.
        failures: Calls in which it failed.
        cost_usd: What it bought, also for calls that failed; None: a price is not known.
        left_out: It failed too often, and gets nothing any more.
    """

    member: str
    device: str
    weight: float
    circuits: int = 0
    shots: int = 0
    seconds: float = 0.0
    failures: int = 0
    cost_usd: float | None = 0.0
    left_out: bool = False


_COLUMNS = ("member", "device", "weight", "circuits", "shots", "seconds", "failures", "cost_usd")


class SpreadTable(Mapping[str, Totals]):
    """The totals of all members, by name. Printed, it is a table."""

    def __init__(self, rows: Sequence[Totals]) -> None:
        self._rows = {row.member: row for row in rows}

    def __getitem__(self, name: str) -> Totals:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        lines = [list(_COLUMNS), *(_texts(row) for row in self._rows.values())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)
        return "\n".join(padded)

    __repr__ = __str__


def _texts(row: Totals) -> list[str]:
    cost = "unknown" if row.cost_usd is None else f"{row.cost_usd:.2f}"
    failures = f"{row.failures} (left out)" if row.left_out else str(row.failures)
    return [row.member, row.device, f"{row.weight:g}", str(row.circuits), str(row.shots), f"{row.seconds:.2f}", failures, cost]


def cost_usd(records: Iterable[TaskRecord]) -> float | None:
    """What tasks cost together; None: one of the prices is not known."""
    costs = [record.cost_usd for record in records]
    return None if None in costs else float(sum(cost for cost in costs if cost is not None))


_KEPT = ("circuits", "shots", "seconds", "failures", "cost_usd", "left_out")


class Book:
    """The totals of all members, and who failed too often.

    Args:
        rows: Of members that did nothing yet.
        leave_out_after: See ``Policy``; 0: nobody is left out.
    """

    def __init__(self, rows: Sequence[Totals], leave_out_after: int) -> None:
        self._rows = {row.member: row for row in rows}
        self._leave_out_after = leave_out_after
        self._strikes = dict.fromkeys(self._rows, 0)  # failed calls, one after the other
        self._counted: set[str] = set()  # purchases of calls that failed: they are paid once, however often they are collected

    def __getitem__(self, name: str) -> Totals:
        return self._rows[name]

    def table(self) -> SpreadTable:
        """As it stands now."""
        return SpreadTable(list(self._rows.values()))

    @property
    def left_out(self) -> set[str]:
        """Members that get nothing any more.

        Raises:
            DeviceError: These are all.
        """
        found = {name for name, row in self._rows.items() if row.left_out}
        if len(found) == len(self._rows):
            raise DeviceError(f"{NAME}: all members are left out, since they failed; readmit(name) takes one in again")
        return found

    def readmit(self, name: str) -> None:
        """Forget the failures of a member in a row."""
        self._strikes[name] = 0
        self._change(name, left_out=False)

    def note(self, share: Share, records: Sequence[TaskRecord], *, is_own_failure: bool) -> None:
        """Add what a member did.

        Args:
            share: What it was asked, and whether it failed.
            records: What it bought.
            is_own_failure: It failed by itself, and was not only waited for no longer.
        """
        row, keys = self._rows[share.member], {record.key for record in records}
        new = cost_usd(record for record in records if record.key not in self._counted)
        self._change(share.member, cost_usd=None if row.cost_usd is None or new is None else row.cost_usd + new)
        if not share.error:
            self._counted -= keys
            self._strikes[share.member] = 0
            circuits, shots = row.circuits + len(share.circuits), row.shots + share.shots
            self._change(share.member, circuits=circuits, shots=shots, seconds=row.seconds + share.seconds)
            return
        self._counted |= keys
        if is_own_failure:
            self._strikes[share.member] += 1
            too_often = 0 < self._leave_out_after <= self._strikes[share.member]
            self._change(share.member, failures=row.failures + 1, left_out=row.left_out or too_often)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        totals = {name: {field: getattr(row, field) for field in _KEPT} for name, row in self._rows.items()}
        return {"strikes": dict(self._strikes), "totals": totals}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See ``state``."""
        self._strikes = {name: int(state["strikes"][name]) for name in self._rows}
        for name in self._rows:
            self._change(name, **state["totals"][name])

    def _change(self, name: str, **changes: Any) -> None:
        self._rows[name] = replace(self._rows[name], **changes)
