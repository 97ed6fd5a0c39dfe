"""A sweep as a table: a row for each job."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pl_hybridjobs import plain
from pl_hybridjobs.errors import FolderCorrupt, HybridJobsError, InvalidCall, MetricError
from pl_hybridjobs.jobs.lease import Lease
from pl_hybridjobs.jobs.metrics import others
from pl_hybridjobs.jobs.progress import STEP_TIME, duration
from pl_hybridjobs.jobs.spec import Status

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.metrics import MetricTable
    from pl_hybridjobs.jobs.state import State
    from pl_hybridjobs.jobs.sweep import Sweep

ATS = ("last", "min", "max")
_WIDTH = 80
_LONGEST = 16


class Values(NamedTuple):
    """One metric of one job. Smallest and largest are of the finite values; NaN where there are none."""

    last: float
    min: float
    max: float
    steps: int

    def get(self, at: str) -> float:
        """``last``, ``min`` or ``max``."""
        return {"last": self.last, "min": self.min, "max": self.max}[at]


@dataclass(frozen=True)
class SweepRow:
    """One job.

    Attributes:
        index: Its place: ``sweep[index]``.
        id: Its id.
        name: Its name.
        status: Where it is in its life.
        params: The call's arguments, as recorded.
        metrics: Name -> values.
        cost_usd: What it bought, exactly.
        duration_s: Seconds that its attempts ran, together; None before the first.
    """

    index: int
    id: str
    name: str
    status: Status
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Values] = field(default_factory=dict)
    cost_usd: Decimal = Decimal(0)
    duration_s: float | None = None


@dataclass(frozen=True, repr=False)
class SweepTable:
    """The jobs of a sweep as they stood when the table was made.

    Attributes:
        title: The sweep, in a line.
        rows: A row for each job.
        at: What is printed of each metric: ``last``, ``min`` or ``max``.
    """

    title: str
    rows: tuple[SweepRow, ...]
    at: str = "last"

    @property
    def params(self) -> list[str]:
        """Names of all arguments, in their order."""
        return _names(row.params for row in self.rows)

    @property
    def varying(self) -> list[str]:
        """Names of the arguments that are not the same in all jobs."""
        return differing([row.params for row in self.rows])

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which they first came."""
        return _names(row.metrics for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def check_metric(self, name: str, where: str) -> None:
        """Refuse a metric that no job has.

        Raises:
            InvalidCall: With what there is.
        """
        if name not in self.metrics:
            raise InvalidCall(where, [f"no job has a metric {name!r}.{others(name, self.metrics)}"])

    def records(self) -> list[dict[str, Any]]:
        """Rows as flat dicts: ``params.lr``, ``metrics.cost`` (the last value), ``metrics.cost.min``, ``metrics.cost.max``, and so on."""
        return [
            {
                "index": row.index,
                "id": row.id,
                "name": row.name,
                "status": str(row.status),
                **{f"params.{name}": row.params.get(name) for name in self.params},
                **{column: value for name in self.metrics for column, value in _columns(name, row.metrics.get(name))},
                "cost_usd": float(row.cost_usd),
                "duration_s": row.duration_s,
            }
            for row in self.rows
        ]

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns of ``records``, indexed by each job's place; NaN where there is no value.

        Raises:
            MetricError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MetricError("SweepTable.to_pandas() needs pandas: pip install pandas. Without it: records()") from None
        return pd.DataFrame(self.records()).set_index("index") if self.rows else pd.DataFrame()

    def __str__(self) -> str:
        columns, left_out = _fitting(self._shown(), _WIDTH)
        table = ("  ".join(column.cell(row) for column in columns).rstrip() for row in range(-1, len(self.rows)))
        lines = [self.title, *self._constants(), *table]
        if left_out:
            lines.append(f"(no room for {', '.join(left_out)}: to_pandas() has all)")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from pl_hybridjobs.notebook import cards

        columns = self._shown()
        return cards.plain_table(
            [self.title, *self._constants()],
            [column.title for column in columns],
            [*zip(*(column.cells for column in columns), strict=True)],
            numbers=[n for n, column in enumerate(columns) if column.right],
        )

    def _constants(self) -> list[str]:
        if not self.rows:
            return []
        same = [f"{name}={shown(self.rows[0].params[name])}" for name in self.params if name not in self.varying]
        return [f"The same in all: {', '.join(same)}"] if same and len(self.rows) > 1 else []

    def _shown(self) -> list[_Column]:
        """What is printed. The least needed has the highest rank, and goes first where there is no room."""
        names = self.varying if len(self.rows) > 1 else self.params
        metrics = sorted(self.metrics, key=lambda name: name == STEP_TIME)
        suffix = "" if self.at == "last" else f" {self.at}"
        made = [
            _Column("#", [str(row.index) for row in self.rows], 0, right=True),
            _Column("name", [row.name for row in self.rows], 50),
            _Column("status", [str(row.status) for row in self.rows], 1),
            *(_Column(name, [shown(row.params.get(name, "")) for row in self.rows], 10 + i, right=True) for i, name in enumerate(names)),
            *(
                _Column(
                    plain.line(name) + suffix,
                    [_number(row.metrics.get(name), self.at) for row in self.rows],
                    90 if name == STEP_TIME else 2 + 30 * bool(i) + i,
                    right=True,
                )
                for i, name in enumerate(metrics)
            ),
            _Column("USD", [_usd(row.cost_usd) for row in self.rows], 60, right=True),
            _Column("time", ["" if row.duration_s is None else duration(row.duration_s) for row in self.rows], 70, right=True),
        ]
        return [column for column in made if column.rank < 60 or any(column.cells)]


_ABSENT = object()


@dataclass(frozen=True)
class _Column:
    title: str
    cells: Sequence[str]
    rank: int
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(plain.columns, [self.title, *self.cells]))

    def cell(self, row: int) -> str:
        """Of a row; the title's is -1."""
        text = self.title if row < 0 else self.cells[row]
        blanks = " " * (self.width - plain.columns(text))
        return blanks + text if self.right else text + blanks


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], list[str]]:
    left_out = []
    while len(columns) > 1 and sum(column.width + 2 for column in columns) - 2 > width:
        worst = max(columns, key=lambda column: column.rank)
        columns = [column for column in columns if column is not worst]
        left_out.append(worst.title)
    return columns, left_out[::-1]


def differing(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the arguments that are not the same in all calls, in their order."""
    return [name for name in _names(every) if len({repr(params.get(name, _ABSENT)) for params in every}) > 1]


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _columns(name: str, values: Values | None) -> list[tuple[str, float]]:
    last, low, high = (values.last, values.min, values.max) if values else (math.nan,) * 3
    return [(f"metrics.{name}", last), (f"metrics.{name}.min", low), (f"metrics.{name}.max", high)]


def shown(value: Any) -> str:
    """An argument in a cell or a legend: five digits, no more than sixteen characters."""
    text = f"{value:.5g}" if isinstance(value, float) else plain.line(str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _number(values: Values | None, at: str) -> str:
    return "" if values is None else f"{values.get(at):.5g}"


def _usd(cost: Decimal) -> str:
    return "" if not cost else f"{cost:.2f}" if cost >= Decimal("0.01") else f"{float(cost):.1g}"


def counted(statuses: Sequence[str]) -> str:
    """How many jobs, and how many of each status: ``8 jobs: 7 completed, 1 failed``."""
    parts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return f"{len(statuses)} job{'s' * (len(statuses) != 1)}" + (f": {parts}" if parts else "")


def table_of(sweep: Sweep, metrics: Sequence[str], at: str) -> SweepTable:
    """See ``Sweep.table``.

    Raises:
        InvalidCall: A wrong ``at``, or a metric that no job has.
    """
    if at not in ATS:
        raise InvalidCall("Sweep.table", [f"at must be one of {', '.join(ATS)}, not {at!r}"])
    rows = tuple(_row(index, job) for index, job in enumerate(sweep.jobs))
    table = SweepTable(f"Sweep {sweep.id} of {counted([str(row.status) for row in rows])}", rows, at)
    for name in metrics:
        table.check_metric(name, "Sweep.table")
    if not metrics:
        return table
    kept = (replace(row, metrics={name: row.metrics[name] for name in metrics if name in row.metrics}) for row in rows)
    return replace(table, rows=tuple(kept))


def _row(index: int, job: Job) -> SweepRow:
    try:
        state = job.state()
        return SweepRow(index, job.id, job.name, state.status, job.params, _values(job.metrics()), job.cost.usd, _duration_s(job, state))
    except HybridJobsError:  # one that is damaged must not hide the others; its own result() says what is wrong
        return SweepRow(index, job.id, job.id, Status.UNKNOWN)


def _values(table: MetricTable) -> dict[str, Values]:
    import numpy as np

    found = {}
    for name in table.names:
        numbers = table[name][np.isfinite(table[name])]
        low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (math.nan, math.nan)
        found[name] = Values(float(table[name][-1]), low, high, len(table[name]))
    return found


def _duration_s(job: Job, state: State) -> float | None:
    attempts = job._folder.attempt_list()
    seconds = []
    for attempt in attempts:
        try:
            lease, ended = Lease.read(attempt), job._folder.read_optional(attempt.exit)
        except FolderCorrupt:
            continue
        if state.outcome is not None and attempt is attempts[-1]:
            end = float(state.outcome["time"])
        elif ended is not None:
            end = float(ended["time"])
        else:
            end = time.time() if state.status is Status.RUNNING else lease.beat_wall
        seconds.append(max(0.0, end - lease.started))
    return sum(seconds) if seconds else None
