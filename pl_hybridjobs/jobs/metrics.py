"""Metrics: an append-only log of numbers, one record a line, and the table that is read from it.

Each line of ``metrics.jsonl`` is a JSON array; the first line names the columns. ``crc`` is 2**32 plus the CRC-32 of the rest of the
line (what follows the first comma), so it always has ten digits. A record is written by one ``write`` call without a buffer: a kill
loses none, and a reader sees it at once (rows of steps shorter than 20 ms: after 20 ms). NaN and infinities are the strings ``"nan"``,
``"inf"`` and ``"-inf"``.

Two kinds of lines are no records; their name is null. ``begin`` says that an attempt opened the log: what older attempts write after
it does not count. ``rewind`` says that an attempt loaded a checkpoint: rows of older attempts whose ``seq`` is above the one in its
``step`` column do not count.
"""

from __future__ import annotations

import json
import math
import numbers
import operator
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, overload

from pl_hybridjobs.errors import InvalidCall, MetricError, did_you_mean
from pl_hybridjobs.jobs.durable import PLANTED_BUG, disk_errors
from pl_hybridjobs.jobs.metric_lines import COLUMNS, CRC_BASE, NON_FINITE, REWIND, RowReader, Rows, parse, read_rows

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.metric_lines import Array

_CHECK_EVERY_S = 0.05
_HOLD_S = 0.02
_TAIL_BLOCK = 1 << 12
_LARGEST_STEP = (1 << 63) - 1
_TABLE_COLUMNS = ("name", "step", "value", "time")
# Proves that the torture suite notices when an owner that lost its job goes on writing.
_FENCED_OFF = PLANTED_BUG != "fencing"


class Record(NamedTuple):
    """One value of one metric."""

    seq: int
    attempt: int
    name: str
    value: float
    step: int
    time: float


class MetricWriter:
    """Appends to one job's metrics. Safe to use from threads; several processes of one attempt may write side by side.

    Args:
        path: The file; made with the first record.
        attempt: The attempt that writes.
        check: Raises ``Fenced`` if this attempt must not write any more; asked at most every 50 ms.
    """

    def __init__(self, path: Path, *, attempt: int = 1, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._attempt = attempt
        self._check = check
        self._check_at = 0.0
        self._fd: int | None = None
        # Reentrant: a signal handler may log while its own thread is logging.
        self._lock = threading.RLock()
        self._seq = 0
        self._size = 0  # the file's, as far as this writer knows
        self._torn = False
        self._steps: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._held: list[tuple[list[tuple[str, str, float]], int, float]] = []  # rows that are not written yet
        self._written_at = 0.0

    def log(self, name: str, value: Any, step: int | None = None, *, timestamp: float | None = None) -> None:
        """Append one record.

        Args:
            name: Any text that is not empty.
            value: A real number, or a 0-d array of numpy, jax, torch or PennyLane. NaN and infinities are kept.
            step: Whole number from 0; absent means one more than the last one of this name.
            timestamp: Unix time in seconds; absent means now.

        Raises:
            MetricError: Name, value, step or timestamp are not acceptable.
            Fenced: A newer attempt owns the job.
            StoreError: The disk is full or read-only.
        """
        text = self._name(name)
        number = value if type(value) is float else real_number(value, name)
        if step is not None and (type(step) is not int or not 0 <= step <= _LARGEST_STEP):
            step = _checked_step(step, name)
        when = time.time() if timestamp is None else _checked_time(timestamp, name)
        with self._lock:
            self._write_held()
            self._keep_watch()
            # No call until the step is taken: after one, a signal's handler may log under this name, and would take the same step.
            before = self._steps[name] if name in self._steps else -1  # noqa: SIM401 - `get` is a call
            if step is None:
                step = before + 1
            self._steps[name] = step
            self._seq += 1
            try:
                self._append(f"{self._seq},{self._attempt},{text},{_shown(number)},{step},{when!r}]")
            except BaseException:
                self._steps[name] = before
                raise

    def log_row(self, values: Mapping[str, Any], step: int) -> None:
        """Append the records of one step.

        Where steps come faster than every 20 ms, their records wait for each other and are written together: a kill may take those of the
        last 20 ms, which are newer than any checkpoint. Whatever else is asked of the log, they are written first.

        Args:
            values: Real numbers by name, as for ``log``.
            step: As for ``log``.

        Raises:
            MetricError: A name or a value is not acceptable.
            Fenced: See ``log``.
            StoreError: See ``log``.
        """
        with self._lock:
            row = []
            for name, value in values.items():
                row.append((name, self._name(name), value if type(value) is float else real_number(value, name)))
            self._held.append((row, step, time.time()))
            if time.monotonic() - self._written_at >= _HOLD_S:
                self._write_held()

    def _name(self, name: str) -> str:
        """As it stands in a line."""
        text = self._names.get(name) if type(name) is str else None
        if text is None:
            text = self._names[name] = json.dumps(_checked_name(name))
        return text

    def flush(self) -> None:
        """Write the rows that wait.

        Raises:
            Fenced: See ``log``.
            StoreError: See ``log``.
        """
        with self._lock:
            self._write_held()

    def _write_held(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, []
        self._keep_watch()
        lines = []
        for row, step, when in held:
            for name, text, number in row:
                self._seq += 1
                lines.append(_line(f"{self._seq},{self._attempt},{text},{_shown(number)},{step},{when!r}]"))
                self._steps[name] = step
        self._write(b"".join(lines))
        self._written_at = time.monotonic()

    def cursor(self) -> dict[str, Any]:
        """Where the log stands, as JSON: belongs into each checkpoint."""
        with self._lock:
            self._write_held()
            if self._fd is None and self._path.exists():
                self._may_write()
            if self._fd is not None and os.fstat(self._fd).st_size != self._size:  # another process of this attempt wrote
                self._seq = max(self._seq, self._last_seq())
            return {"seq": self._seq, "steps": dict(self._steps)}

    def rewind(self, cursor: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: its steps count on, and what older attempts wrote after it vanishes from views.

        Args:
            cursor: What ``cursor()`` gave when the checkpoint was saved.
        """
        with self._lock:
            self._write_held()
            self.count_on(cursor)
            if self._fd is None and not self._path.exists():
                return
            self._may_write()
            self._append(f'{self._seq},{self._attempt},null,"rewind",{int(cursor["seq"])},{time.time()!r}]')

    def count_on(self, cursor: Mapping[str, Any]) -> None:
        """Let the steps of metrics count on from an earlier place; what was written stays, until it is written again."""
        with self._lock:
            self._write_held()
            self._steps = {str(name): int(step) for name, step in cursor["steps"].items()}

    def close(self) -> None:
        """Close the file; a later ``log`` opens it again."""
        with self._lock:
            try:
                self._write_held()
            finally:
                if self._fd is not None:
                    os.close(self._fd)
                    self._fd = None

    def _keep_watch(self) -> None:
        if time.monotonic() > self._check_at or self._fd is None:
            self._may_write()

    def _may_write(self) -> None:
        if _FENCED_OFF:
            self._check()
        self._check_at = time.monotonic() + _CHECK_EVERY_S
        if self._fd is None:
            with disk_errors(self._path):
                self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size == 0:
            os.write(self._fd, COLUMNS)
        else:
            self._torn = os.pread(self._fd, 1, size - 1) != b"\n"
            self._seq = max(self._seq, self._last_seq())
        self._append(f'{self._seq},{self._attempt},null,"begin",0,{time.time()!r}]')
        self._size = os.fstat(self._fd).st_size

    def _last_seq(self) -> int:
        """The highest ``seq`` at the end of the file, of which only as much is read as it takes to find a good line."""
        assert self._fd is not None
        size = os.fstat(self._fd).st_size
        self._size = size
        length = _TAIL_BLOCK
        while True:
            length = min(length, size)
            rows = map(parse, os.pread(self._fd, length, size - length).split(b"\n"))
            found = max((int(row[1]) for row in rows if row is not None), default=None)
            if found is not None or length == size:
                return found or 0
            length *= 16

    def _append(self, rest: str) -> None:
        self._write(_line(rest))

    def _write(self, data: bytes) -> None:
        if self._torn:  # a line that a kill or a full disk tore shall cost only itself
            data = b"\n" + data
        assert self._fd is not None
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                self._torn = True
                os.write(self._fd, data[written:])
            self._torn = False
            self._size += len(data)
        except OSError:
            with disk_errors(self._path):
                raise


def _shown(number: float) -> str:
    return repr(number) if number - number == 0 else f'"{number!r}"'


def _line(rest: str) -> bytes:
    data = rest.encode()
    return b"[%d,%b\n" % (CRC_BASE + zlib.crc32(data), data)


class MetricPrinter:
    """Stands in for a writer outside a job: prints. Its steps count on like a writer's."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}

    def log(self, name: str, value: Any, step: int | None = None, *, timestamp: float | None = None) -> None:
        """Print one record; takes and refuses what ``MetricWriter.log`` does."""
        number = real_number(value, _checked_name(name))
        if timestamp is not None:
            _checked_time(timestamp, name)
        step = self._steps.get(name, -1) + 1 if step is None else _checked_step(step, name)
        self._steps[name] = step
        print(f"{name} = {number:.10g}  (step {step})")


def real_number(value: Any, name: str) -> float:
    """A metric's value as a float.

    Raises:
        MetricError: It is complex, traced, no number or no scalar.
    """
    try:
        if isinstance(value, float | int):
            return float(value)
        if not _is_traced(value) and not _has_shape(value):
            item = value.item() if hasattr(value, "dtype") and hasattr(value, "item") else value
            kind = getattr(getattr(value, "dtype", None), "kind", "")
            if (isinstance(item, numbers.Real) or _is_decimal(item)) and kind not in ("m", "M") and getattr(value, "mask", False) is False:
                return float(item)
    except Exception as error:  # a foreign array may refuse in any way
        raise MetricError(f"metric {name!r} got {_short(value)}, which gives no float: {error}") from error
    raise MetricError(f"metric {name!r} got {_refusal(value)}")


def _refusal(value: Any) -> str:
    """Why a value is no metric, and what to log instead."""
    if _is_traced(value):
        return (
            "a traced value: inside jax.jit, jax.grad, vmap or an autograd gradient there is no number yet. "
            "Return it from the traced function (with has_aux=True beside a gradient) and log it outside"
        )
    if _has_shape(value):
        hint = "array.item()" if math.prod(value.shape) == 1 else "array[0] or array.mean()"
        return f"an array of shape {tuple(value.shape)}; log one number, like {hint}"
    if isinstance(value, complex) or "complex" in str(getattr(value, "dtype", "")):
        return f"the complex value {_short(value)}; log its .real and .imag as two metrics"
    return f"{_short(value)} of type {type(value).__name__}, which is not a real number"


def _has_shape(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and bool(shape)  # torch.Size is a tuple too


def _is_traced(value: Any) -> bool:
    jax = sys.modules.get("jax")
    autograd = sys.modules.get("autograd.tracer")
    return (hasattr(jax, "core") and isinstance(value, jax.core.Tracer)) or (  # type: ignore[union-attr] # hasattr looked
        hasattr(autograd, "Box") and isinstance(value, autograd.Box)  # type: ignore[union-attr] # hasattr looked
    )


def _is_decimal(value: Any) -> bool:
    decimal = sys.modules.get("decimal")
    return decimal is not None and isinstance(value, decimal.Decimal)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - only words for an error message, and a user's repr may raise anything
        return "a value"
    return text if len(text) <= 60 else text[:57] + "..."


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise MetricError(f"a metric's name must be text that is not empty, not {name!r}")
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        raise MetricError(f"a metric's name must be Unicode text, and {name!r} has half a character")
    return name


def _checked_step(step: Any, name: str) -> int:
    try:
        whole = -1 if isinstance(step, bool) else operator.index(step)
    except TypeError:
        whole = -1
    if not 0 <= whole <= _LARGEST_STEP:
        raise MetricError(f"metric {name!r} got step={_short(step)}; a step is a whole number from 0 to 2**63 - 1")
    return whole


def _checked_time(timestamp: Any, name: str) -> float:
    if isinstance(timestamp, bool) or not isinstance(timestamp, numbers.Real) or not math.isfinite(timestamp):
        raise MetricError(f"metric {name!r} got timestamp={_short(timestamp)}; it is Unix time in seconds (datetime.timestamp() gives it)")
    return float(timestamp)


def _counting(rows: Rows) -> Array:
    """Indices of the rows that count, shape (counting,), in the order of the file."""
    import numpy as np

    keep = rows.code >= 0
    if _FENCED_OFF:
        # Every line of an attempt, not only its `begin`, shows that older ones have lost the job.
        keep &= rows.attempt >= np.maximum.accumulate(rows.attempt)
    for mark in np.flatnonzero(rows.code == REWIND):
        if not _FENCED_OFF or rows.attempt[mark] >= rows.attempt[: mark + 1].max():
            keep &= (rows.attempt >= rows.attempt[mark]) | (rows.seq <= rows.step[mark])
    return np.flatnonzero(keep)


def _last_of_each_step(index: Array, steps: Array) -> Array:
    """Indices in the order of their steps; of those of one step the last, which is the latest attempt's."""
    import numpy as np

    step = steps[index]
    if not np.all(step[1:] > step[:-1]):
        order = np.argsort(step, kind="stable")
        index, step = index[order], step[order]
        index = index[np.append(step[1:] != step[:-1], True)]
    return index


class MetricTable:
    """Metrics of a job, as they stand. ``table["cost"]`` is a float64 array of shape (steps,), in step order.

    For each name and step the latest attempt counts, and in it the last value.

    Attributes:
        problems: What was damaged in the file and is left out; empty if all is well.
    """

    def __init__(self, rows: Rows, names: Sequence[str] = ()) -> None:
        import numpy as np

        self.problems = rows.problems
        self._columns: dict[str, tuple[Array, Array, Array]] = {}
        index = _counting(rows)
        order = index[np.argsort(rows.code[index], kind="stable")]
        groups = np.split(order, np.flatnonzero(np.diff(rows.code[order])) + 1) if len(order) else []
        for group in sorted(groups, key=operator.itemgetter(0)):  # names as they first came
            name = rows.names[rows.code[group[0]]]
            if not names or name in names:
                mine = _last_of_each_step(group, rows.step)
                self._columns[name] = rows.value[mine], rows.step[mine], rows.time[mine]

    @property
    def names(self) -> list[str]:
        """Names of all metrics, in the order in which they first came."""
        return list(self._columns)

    def __getitem__(self, name: str) -> Array:
        return self._column(name)[0]

    def steps(self, name: str) -> Array:
        """The steps of a metric: int64, shape (steps,), ascending."""
        return self._column(name)[1]

    def times(self, name: str) -> Array:
        """When each value was logged: float64, shape (steps,), Unix time in seconds."""
        return self._column(name)[2]

    def last(self) -> dict[str, float]:
        """The value of the highest step of each metric."""
        return {name: float(value[-1]) for name, (value, _, _) in self._columns.items()}

    def rows(self) -> list[dict[str, Any]]:
        """All values as dicts of name, step, value and time."""
        return [
            {"name": name, "step": step, "value": value, "time": when}
            for name, columns in self._columns.items()
            for value, step, when in zip(*(column.tolist() for column in columns), strict=True)
        ]

    @overload
    def to_csv(self, path: None = None) -> str: ...
    @overload
    def to_csv(self, path: str | Path) -> None: ...
    def to_csv(self, path: str | Path | None = None) -> str | None:
        """All values as CSV with a header: name, step, value, time. Each number reads back as the same bits.

        Args:
            path: The file to write; None: the text is returned.
        """
        import io

        if path is None:
            buffer = io.StringIO()
            self._write_csv(buffer)
            return buffer.getvalue()
        with disk_errors(Path(path)), Path(path).open("w", encoding="utf-8", newline="") as file:
            self._write_csv(file)
        return None

    def _write_csv(self, file: TextIO) -> None:
        import csv
        import itertools

        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_TABLE_COLUMNS)
        for name, (value, step, when) in self._columns.items():
            writer.writerows(zip(itertools.repeat(name), step.tolist(), value.tolist(), when.tolist(), strict=False))

    def to_parquet(self, path: str | Path) -> None:
        """Write all values as a Parquet file: name (text), step (int64), value (float64), time (UTC, microseconds), a row for each value.

        Args:
            path: The file to write.

        Raises:
            MetricError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MetricError("MetricTable.to_parquet() needs pyarrow: pip install pyarrow. Without it: to_csv()") from None
        import numpy as np

        columns = list(self._columns.values())
        code = np.repeat(np.arange(len(columns), dtype=np.int32), [len(column[0]) for column in columns])
        value, step, when = (np.concatenate([np.empty(0, kind), *parts]) for kind, *parts in zip("dqd", *columns, strict=True))
        arrays = [
            pa.DictionaryArray.from_arrays(pa.array(code), pa.array(self.names, pa.string())),
            pa.array(step),
            pa.array(value),
            pa.array(np.round(when * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC")),
        ]
        with disk_errors(Path(path)), Path(path).open("wb") as file:
            pq.write_table(pa.Table.from_arrays(arrays, list(_TABLE_COLUMNS)), file)

    def to_pandas(self) -> Any:
        """A pandas DataFrame: a row for each step, a column for each metric, NaN where a metric has no value at a step.

        Raises:
            MetricError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MetricError("MetricTable.to_pandas() needs pandas: pip install pandas. Without it: rows(), to_csv()") from None
        series = {name: pd.Series(value, index=pd.Index(step, name="step")) for name, (value, step, _) in self._columns.items()}
        return pd.DataFrame(series)

    def _column(self, name: str) -> tuple[Array, Array, Array]:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"There is no metric {name!r} (yet).{others(str(name), self.names)}") from None

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __repr__(self) -> str:
        inside = [f"{name!r}: {len(value)} steps, last {value[-1]:.6g}" for name, (value, _, _) in self._columns.items()]
        inside += [f"problems: {len(self.problems)}"] if self.problems else []
        return f"<MetricTable {', '.join(inside) or 'empty'}>"

    def _repr_html_(self) -> str:
        from pl_hybridjobs.notebook import cards
        from pl_hybridjobs.notebook.chart import Curve

        return cards.metrics([Curve(name, step, value) for name, (value, step, _) in self._columns.items()], self.problems)


class GrowingTable:
    """A job's metrics, looked at again and again: parsed once, and then only where they grew.

    Args:
        path: ``metrics.jsonl``; until it is there, the table is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = RowReader(path)
        self._size = -1
        self._table = MetricTable(self._reader.read())

    def read(self) -> MetricTable:
        """As it stands now."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != self._size:
            self._table, self._size = MetricTable(self._reader.read()), size
        return self._table


def others(name: str, names: Sequence[str]) -> str:
    """What is said behind the name of a metric that is not there: `` Did you mean 'cost'? There are: 'cost', 'norm'``."""
    return f"{did_you_mean(name, names)} There are: {', '.join(map(repr, names)) or 'none yet'}"


def of_job(job: Job, names: Sequence[str], where: str) -> MetricTable:
    """A job's metrics, all or those that are named.

    Raises:
        InvalidCall: One of them is not there.
    """
    table = job.metrics(*names)
    if missing := [name for name in names if name not in table]:
        known = job.metrics().names
        raise InvalidCall(where, [f"{job.name} has no metric {name!r}.{others(name, known)}" for name in missing])
    return table


def read_metrics(path: Path, names: Sequence[str] = ()) -> MetricTable:
    """Read a job's metrics as they stand now. A file that is not there yet is an empty table.

    Args:
        path: ``metrics.jsonl``.
        names: Only these metrics; all if none is given.
    """
    return MetricTable(read_rows(path), names)


def read_records(path: Path) -> list[Record]:
    """All records that count, in the order in which they were written: those of a step that was logged twice are both there.

    Args:
        path: ``metrics.jsonl``; without it there are none.
    """
    rows = read_rows(path)
    index = _counting(rows)
    counting = zip(*(column[index].tolist() for column in rows.columns), strict=True)
    return [Record(seq, attempt, rows.names[code], value, step, time) for seq, attempt, code, value, step, time in counting]


class Series(NamedTuple):
    """One metric's values that count, in the order of their steps; a step that one attempt logged twice is there twice."""

    value: Array  #: float64, shape (values,)
    step: Array  #: int64, shape (values,), not descending
    time: Array  #: float64, shape (values,), Unix time in seconds


def series_of(rows: Rows) -> dict[str, Series]:
    """The values that count, by metric: of each step those of the latest attempt that logged it.

    A metric of which nothing counts any more is empty.

    Args:
        rows: All rows of a log, or, where no older attempt and no rewind is among them, some.
    """
    import numpy as np

    index = _counting(rows)
    found: dict[str, Series] = {}
    for code, name in enumerate(rows.names):  # names as they first came
        mine = index[rows.code[index] == code]
        mine = mine[np.argsort(rows.step[mine], kind="stable")]
        step, attempt = rows.step[mine], rows.attempt[mine]
        first = np.append(True, step[1:] != step[:-1])[: len(mine)]
        if len(mine):
            newest = np.maximum.reduceat(attempt, np.flatnonzero(first))[np.cumsum(first) - 1]
            mine = mine[attempt == newest]
        found[name] = Series(rows.value[mine], rows.step[mine], rows.time[mine])
    return found


def carry_over(source: Path, target: Path) -> None:
    """Begin another job's log with what counts in this one, as written by an attempt 0.

    ``seq`` stays, so that the cursor of a checkpoint that is carried over as well still fits.

    Args:
        source: ``metrics.jsonl`` of the old job; nothing happens if it is missing.
        target: ``metrics.jsonl`` of the new one; must not exist.
    """
    records = read_records(source)
    lines = [_line(f"{one.seq},0,{json.dumps(one.name)},{_shown(one.value)},{one.step},{one.time!r}]") for one in records]
    if lines:
        with disk_errors(target):
            target.write_bytes(b"".join([COLUMNS, *lines]))


def follow_metrics(path: Path, is_over: Callable[[], bool], poll_s: float = 0.1) -> Iterator[Record]:
    """Records as they come, ending with one more read after ``is_over()`` has become true.

    What an attempt that lost the job still writes is left out; rows that a later rewind takes back have been given already.

    Args:
        path: ``metrics.jsonl``; may not exist yet.
        is_over: Whether nothing more will be written.
        poll_s: Seconds between two looks.
    """
    position, rest, newest = 0, b"", 0
    while True:
        over = is_over()
        try:
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
        except FileNotFoundError:
            data = b""
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for row in map(parse, lines):
            if row is None or (row[2] < newest and _FENCED_OFF):
                continue
            newest = max(newest, row[2])
            if row[3] is not None:
                yield Record(row[1], row[2], row[3], float(NON_FINITE.get(row[4], row[4])), row[5], row[6])
        if over:
            return
        time.sleep(poll_s)
