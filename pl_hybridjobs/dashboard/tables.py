"""Metric tables that are kept between requests, so that a long log is parsed once and then only where it grew."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path

from pl_hybridjobs.jobs.metric_lines import RowReader
from pl_hybridjobs.jobs.metrics import MetricTable

_MOST_ROWS = 6_000_000  # about 100 bytes each
_SHARE = 5  # a table that took 0.1 s is not made again for 0.5 s: who asks waits, so a fast writer costs a sixth of a core
_LONGEST_WAIT_S = 1.0


class Tables:
    """The tables of many jobs. Safe for threads.

    Args:
        most_rows: How many rows may be kept together; those that were not asked for the longest go first.
    """

    def __init__(self, most_rows: int = _MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._kept: OrderedDict[Path, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, path: Path) -> MetricTable:
        """The table of a file, as it stands now."""
        with self._lock:
            kept = self._kept.setdefault(path, _Kept(path))
            self._kept.move_to_end(path)
        table = kept.table()
        with self._lock:
            while len(self._kept) > 1 and sum(one.rows for one in self._kept.values()) > self._most_rows:
                self._kept.popitem(last=False)
        return table


class _Kept:
    """One file's table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = RowReader(path)
        self._lock = threading.Lock()
        self._table: MetricTable | None = None
        self._stamp: tuple[int, int] | None = None
        self._again = 0.0
        self.rows = 0

    def table(self) -> MetricTable:
        """Made again if the file has changed."""
        with self._lock:
            if self._table is None or _stamp(self._path) != self._stamp:
                time.sleep(max(0.0, self._again - time.monotonic()))
                begin, stamp = time.monotonic(), _stamp(self._path)
                rows = self._reader.read()
                self._table, self._stamp, self.rows = MetricTable(rows), stamp, len(rows.seq)
                took_s = time.monotonic() - begin
                self._again = time.monotonic() + min(_SHARE * took_s, _LONGEST_WAIT_S)
            return self._table


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
