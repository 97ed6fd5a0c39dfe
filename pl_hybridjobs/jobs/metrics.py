"""Metrics: an append-only log of numbers, one record a line, and the table that is read from it.

Each line of ``metrics.jsonl`` is a JSON array; the first line names the columns. ``crc`` is 2**32 plus the CRC-32 of the rest of the
line, so it always has ten digits. A record is written by one ``write`` call: a kill loses none, and a reader sees it at once.

Two kinds of lines are no records. ``begin`` says that a newer attempt has the log: what an older one writes after it is dropped.
``rewind`` says that an attempt loaded a checkpoint: rows that older attempts wrote after that checkpoint are superseded.
"""

from __future__ import annotations

import gc
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pl_hybridjobs.errors import MetricError, did_you_mean
from pl_hybridjobs.jobs.durable import PLANTED_BUG

if TYPE_CHECKING:
    import numpy as np

_COLUMNS = b'["crc","seq","attempt","name","value","step","time"]\n'
_CRC_BASE = 1 << 32
_CHECK_EVERY_S = 0.05
_TAIL_BLOCK = 1 << 16
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Record(NamedTuple):
    """One value of one metric."""

    seq: int
    attempt: int
    name: str
    value: float
    step: int
    time: float


class MetricWriter:
    """Appends to one job's metrics. Safe to use from threads.

    Args:
        path: The file; made with the first record.
        attempt: The attempt that writes.
        check: Raises ``Fenced`` if this attempt must not write any more; asked at most every 50 ms.
    """

    def __init__(self, path: Path, *, attempt: int = 1, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._attempt = attempt
        self._check = check if PLANTED_BUG != "fencing" else lambda: None
        self._checked = 0.0
        self._fd: int | None = None
        self._lock = threading.Lock()
        self._seq = 0
        self._steps: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def log(self, name: str, value: Any, step: int | None = None, *, timestamp: float | None = None) -> None:
        """Append one record. See ``pl_hybridjobs.log_metric``."""
        text = self._names.get(name) if type(name) is str else None
        if text is None:
            text = self._names[_checked_name(name)] = json.dumps(name)
        number = value if type(value) is float else real_number(value, name)
        now = time.time() if timestamp is None else _checked_time(timestamp, name)
        if step is not None and (type(step) is not int or step < 0):
            step = _checked_step(step, name)
        shown = repr(number) if number - number == 0 else f'"{number}"'
        with self._lock:
            if self._fd is None:
                self._open()
            if now - self._checked > _CHECK_EVERY_S or now < self._checked:
                self._check()
                self._checked = now
            if step is None:
                step = self._steps.get(name, -1) + 1
            self._steps[name] = step
            self._seq += 1
            self._append(f"{self._seq},{self._attempt},{text},{shown},{step},{now!r}]")

    def cursor(self) -> dict[str, Any]:
        """Where this writer stands: belongs into each checkpoint."""
        with self._lock:
            if self._fd is None:
                self._open()
            return {"seq": self._seq, "steps": dict(self._steps)}

    def rewind(self, cursor: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: its steps count on, and what older attempts wrote after it vanishes from views."""
        with self._lock:
            if self._fd is None:
                self._open()
            self._steps = {str(name): int(step) for name, step in cursor["steps"].items()}
            self._append(f'{self._seq},{self._attempt},null,"rewind",{int(cursor["seq"])},{time.time()!r}]')

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _open(self) -> None:
        self._check()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size == 0:
            os.write(self._fd, _COLUMNS)
        else:
            tail = os.pread(self._fd, _TAIL_BLOCK, max(0, size - _TAIL_BLOCK))
            if not tail.endswith(b"\n"):  # torn by a kill: it shall cost only itself
                os.write(self._fd, b"\n")
            rows = [row for row in map(_parse, tail.splitlines()) if row is not None]
            self._seq = max((row[1] for row in rows), default=0)
        self._append(f'{self._seq},{self._attempt},null,"begin",0,{time.time()!r}]')

    def _append(self, rest: str) -> None:
        data = rest.encode()
        assert self._fd is not None
        os.write(self._fd, b"[%d,%b\n" % (_CRC_BASE + zlib.crc32(data), data))


class MetricPrinter:
    """Stands in for a writer outside a job: prints. Its steps count on like a writer's."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}

    def log(self, name: str, value: Any, step: int | None = None, *, timestamp: float | None = None) -> None:
        """Print one record."""
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
    kind = type(value)
    if kind in (float, int, bool):
        return float(value)
    jax = sys.modules.get("jax")
    if (jax is not None and hasattr(jax, "core") and isinstance(value, jax.core.Tracer)) or kind.__name__ == "ArrayBox":
        raise MetricError(
            f"metric {name!r} got a traced value: inside jax.jit, jax.grad, vmap or an autograd gradient there is no number yet. "
            "Return it from the traced function and log it outside."
        )
    shape = getattr(value, "shape", ())
    if tuple(shape):
        raise MetricError(f"metric {name!r} got an array of shape {tuple(shape)}; log one number (array.item(), array[0], array.mean())")
    if isinstance(value, complex) or "complex" in str(getattr(value, "dtype", "")):
        raise MetricError(f"metric {name!r} got the complex value {value!r}; log its real and imaginary parts (.real, .imag) apart")
    if isinstance(value, numbers.Real) or hasattr(value, "dtype"):
        item = value.item() if hasattr(value, "item") else value
        try:
            return float(item)
        except (TypeError, ValueError, OverflowError):
            pass
    else:
        try:
            from decimal import Decimal

            if isinstance(value, Decimal):
                return float(value)
        except ValueError:
            pass
    raise MetricError(f"metric {name!r} got {kind.__name__} {str(value)[:50]!r}, which is not a real number")


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise MetricError(f"a metric's name must be text that is not empty, not {name!r}")
    return name


def _checked_step(step: Any, name: str) -> int:
    try:
        whole = operator.index(step)
    except TypeError:
        whole = -1
    if isinstance(step, bool) or whole < 0:
        raise MetricError(f"metric {name!r} got step={step!r}; a step is a whole number of at least 0")
    return whole


def _checked_time(timestamp: Any, name: str) -> float:
    if isinstance(timestamp, bool) or not isinstance(timestamp, numbers.Real) or not math.isfinite(timestamp):
        raise MetricError(f"metric {name!r} got timestamp={timestamp!r}; it is Unix time in seconds")
    return float(timestamp)


def _parse(line: bytes) -> list[Any] | None:
    """A line's row; None if it is torn or damaged."""
    try:
        row = json.loads(line)
        good = isinstance(row, list) and len(row) == 7 and (row[0] == _CRC_BASE + zlib.crc32(line[12:]) or PLANTED_BUG == "checksum")
    except (ValueError, TypeError, RecursionError):
        return None
    return row if good else None


@dataclass(frozen=True)
class _Rows:
    """Rows column by column."""

    seq: Sequence[int]
    attempt: Sequence[int]
    name: Sequence[str | None]
    value: Sequence[Any]
    step: Sequence[int]
    time: Sequence[float]
    problems: tuple[str, ...]


def _read_rows(path: Path) -> _Rows:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _Rows([], [], [], [], [], [], ())
    whole, newline, torn = data.rpartition(b"\n")
    lines = whole.split(b"\n") if newline else []
    problems = []
    if torn:
        problems.append("the last line is torn (its writer was killed); it is left out")
    if lines and lines[0] + b"\n" == _COLUMNS:
        lines = lines[1:]
    lines = [line for line in lines if line]
    rows = _parse_all(lines)
    bad = sum(row is None for row in rows)
    if bad:
        problems.append(f"{bad} of {len(rows)} lines are damaged and left out")
    good = [row for row in rows if row is not None] if bad else rows
    if not good:
        return _Rows([], [], [], [], [], [], tuple(problems))
    _, seq, attempt, name, value, step, when = zip(*good, strict=True)
    return _Rows(seq, attempt, name, value, step, when, tuple(problems))


def _parse_all(lines: list[bytes]) -> list[Any]:
    """All rows at once, which is several times faster than one by one; one by one if any line is bad."""
    was_on = gc.isenabled()
    gc.disable()  # a million small lists would make it run hundreds of times, for nothing
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
        if len(rows) != len(lines) or set(map(len, rows)) - {7}:
            raise ValueError
        if PLANTED_BUG != "checksum":
            sums = list(map(zlib.crc32, [line[12:] for line in lines]))
            if [row[0] - _CRC_BASE for row in rows] != sums:
                raise ValueError
    except (ValueError, TypeError, RecursionError):
        return [_parse(line) for line in lines]
    finally:
        if was_on:
            gc.enable()
    return list(rows)


def _valid(rows: _Rows, attempt: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Indices of the rows that count, shape (kept,)."""
    import numpy as np

    keep = np.ones(len(rows.seq), dtype=bool)
    for mark in (i for i, name in enumerate(rows.name) if name is None):
        keep[mark] = False
        if rows.value[mark] == "begin" and PLANTED_BUG != "fencing":
            keep[mark:] &= attempt[mark:] >= attempt[mark]
        elif rows.value[mark] == "rewind":
            keep &= (attempt >= attempt[mark]) | (np.asarray(rows.seq, dtype=np.int64) <= rows.step[mark])
    return np.flatnonzero(keep)


class MetricTable:
    """Metrics of a job, as they stand. ``table["cost"]`` is a float64 array of shape (steps,), in step order.

    For each name and step the latest attempt counts, and in it the last value.
    """

    def __init__(self, rows: _Rows, names: Sequence[str] = ()) -> None:
        import numpy as np

        self.problems = rows.problems
        self._columns: dict[str, tuple[np.ndarray[Any, Any], ...]] = {}
        if not rows.seq:
            return
        index = _valid(rows, np.array(rows.attempt, dtype=np.int64))
        values = (
            [v if type(v) is not str else _NON_FINITE.get(v, math.nan) for v in rows.value]
            if str in set(map(type, rows.value))
            else rows.value
        )
        value, step, when, attempt = (
            np.array(column, dtype=kind)[index]
            for column, kind in ((values, np.float64), (rows.step, np.int64), (rows.time, np.float64), (rows.attempt, np.int64))
        )
        known = dict.fromkeys(rows.name)
        known.pop(None, None)
        codes = {name: code for code, name in enumerate(known)}
        code = np.array([codes.get(name, -1) for name in rows.name], dtype=np.int64)[index]
        for name in known:
            assert name is not None
            if names and name not in names:
                continue
            mine = np.flatnonzero(code == codes[name])
            if not mine.size:
                continue
            order = mine[np.lexsort((mine, attempt[mine], step[mine]))]
            last = np.append(step[order][1:] != step[order][:-1], True)
            order = order[last]
            self._columns[name] = value[order], step[order], when[order]

    @property
    def names(self) -> list[str]:
        """Names of all metrics, in the order in which they first came."""
        return list(self._columns)

    def _column(self, name: str) -> tuple[np.ndarray[Any, Any], ...]:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(
                f"There is no metric {name!r} (yet).{did_you_mean(name, self._columns)} There are: {', '.join(self._columns) or 'none'}."
            ) from None

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self._column(name)[0]

    def steps(self, name: str) -> np.ndarray[Any, Any]:
        """The steps of a metric: int64, shape (steps,), ascending."""
        return self._column(name)[1]

    def times(self, name: str) -> np.ndarray[Any, Any]:
        """When each value was logged: float64, shape (steps,), Unix time in seconds."""
        return self._column(name)[2]

    def last(self) -> dict[str, float]:
        """The value of the highest step of each metric."""
        return {name: float(columns[0][-1]) for name, columns in self._columns.items()}

    def rows(self) -> list[dict[str, Any]]:
        """All values as dicts of name, step, value and time."""
        return [
            {"name": name, "step": step, "value": value, "time": when}
            for name, columns in self._columns.items()
            for value, step, when in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def to_csv(self) -> str:
        """All values as CSV with a header."""
        import csv
        import io

        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["name", "step", "value", "time"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return buffer.getvalue()

    def to_pandas(self) -> Any:
        """A pandas DataFrame: a row for each step, a column for each metric.

        Raises:
            MetricError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MetricError("to_pandas() needs pandas: pip install pandas") from None
        series = {name: pd.Series(columns[0], index=pd.Index(columns[1], name="step")) for name, columns in self._columns.items()}
        return pd.DataFrame(series)

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {len(c[0])} steps, last {c[0][-1]:.6g}" for name, c in self._columns.items())
        return f"<MetricTable {inside or 'empty'}>"

    def _repr_html_(self) -> str:
        import html

        head = "<tr><th>metric</th><th>steps</th><th>last</th></tr>"
        body = "".join(f"<tr><td>{html.escape(n)}</td><td>{len(c[0])}</td><td>{c[0][-1]:.6g}</td></tr>" for n, c in self._columns.items())
        return f"<table>{head}{body}</table>"


def read_metrics(path: Path, names: Sequence[str] = ()) -> MetricTable:
    """Read a job's metrics as they stand now. A file that is not there yet is an empty table.

    Args:
        path: ``metrics.jsonl``.
        names: Only these metrics; all if none is given.
    """
    return MetricTable(_read_rows(path), names)


def follow_metrics(path: Path, is_over: Callable[[], bool], poll_s: float = 0.1) -> Iterator[Record]:
    """Records as they come, ending with one more read after ``is_over()`` has become true."""
    position, rest, newest = 0, b"", 0
    while True:
        over = is_over()
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                row = _parse(line)
                if row is None or row[2] < newest:
                    continue
                newest = row[2]
                if row[3] is not None:
                    yield Record(row[1], row[2], row[3], float(_NON_FINITE.get(row[4], row[4])), row[5], row[6])
        if over:
            return
        time.sleep(poll_s)
