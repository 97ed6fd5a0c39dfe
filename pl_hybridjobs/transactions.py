"""SQLite's write transactions, for the two files that the package keeps in it: the index of jobs and the ledger."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def patiently(action: Callable[[], T], busy_s: float) -> T:
    """SQLite's busy handler is skipped in some races (a change to WAL, a stale snapshot): try again, with jitter, for ``busy_s``."""
    deadline = time.monotonic() + busy_s
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if ("locked" not in str(error) and "busy" not in str(error)) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - jitter, not cryptography


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, busy_s: float) -> Iterator[sqlite3.Connection]:
    """All that is written inside, or nothing of it. Nobody else writes meanwhile; for others it waits ``busy_s`` seconds."""
    patiently(lambda: database.execute("BEGIN IMMEDIATE"), busy_s)
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
