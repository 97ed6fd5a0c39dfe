"""What was bought, and what is about to be: one SQLite file, one row a task. It is also the journal that a resumed job reads.

A task is ``reserved`` before anything happens, ``submitting`` once it may have reached the provider, ``submitted`` when its name there is
known, and then ``completed``, ``failed`` or ``cancelled``; or ``released`` if it is certain that it was never bought. What was reserved
counts against budgets until it is settled or released, whoever dies in between.

Each method is one transaction of write-ahead logging with ``synchronous = FULL``: one fsync, however many tasks. Money is kept in whole
billionths of a dollar, so that sums are exact.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, overload

from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.prices import INSTANCE, NANO_USD, kind_of, money, plain, show
from pl_hybridjobs.errors import BudgetExceeded, FolderCorrupt, FolderTooNew, InvalidCall, KeyConflict, StoreError
from pl_hybridjobs.transactions import patiently, transaction

_BUSY_S = 60.0
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE entries (
    key TEXT PRIMARY KEY, namespace TEXT NOT NULL, session TEXT NOT NULL, target TEXT NOT NULL, fingerprint TEXT NOT NULL,
    task_id TEXT NOT NULL, state TEXT NOT NULL, tasks INTEGER NOT NULL, shots INTEGER NOT NULL, estimated_nusd INTEGER,
    final_nusd INTEGER, seconds REAL NOT NULL, created REAL NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX entries_namespace ON entries (namespace, state);
CREATE INDEX entries_session ON entries (session) WHERE session != '';
"""
_DURATIONS = """
CREATE TABLE IF NOT EXISTS durations (
    target TEXT NOT NULL, structure TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (target, structure)
) WITHOUT ROWID
"""  # beside the schema: who does not know it can still use the file
_COLUMNS = (
    "key, namespace, session, target, fingerprint, task_id, state, tasks, shots, estimated_nusd, final_nusd, seconds, created, updated"
)
_PUT = f"INSERT OR REPLACE INTO entries ({_COLUMNS}) VALUES ({', '.join('?' * 14)})"
_FINAL = "('completed', 'failed', 'cancelled')"
_TICK_S = 1e-6
_LATER = f"updated = MAX(?, updated + {_TICK_S})"  # clocks go back, an entry's history does not: ``adopt`` goes by it
_REMEDY = "Raise the budget, or buy less."
_NAMED = "(SELECT value FROM json_each(?))"  # a list of keys of any length is one parameter


class State(StrEnum):
    """Where a task stands, as the ledger knows."""

    RESERVED = "reserved"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"

    @property
    def is_final(self) -> bool:
        """It was bought, and has ended."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Charge:
    """What a task will cost: an estimate, made before it is submitted.

    Attributes:
        key: Names the purchase; the same key never buys twice.
        target: The device.
        tasks: How many the provider bills.
        shots: Of all its circuits together.
        usd: US dollars; None: the device's price is not known.
        seconds: That it will bill for, where time is billed.
        fingerprint: Of what is bought; the same key with another fingerprint is refused.
    """

    key: str
    target: str
    tasks: int = 1
    shots: int = 0
    usd: Decimal | None = Decimal(0)
    seconds: float = 0.0
    fingerprint: str = ""


@dataclass(frozen=True)
class Settlement:
    """How a task ended, and what it cost.

    Attributes:
        key: Of its charge.
        state: "completed", "failed" or "cancelled".
        usd: What it cost; None: of a completed task what was estimated. Of others nothing, but where time is billed (its charge had
            seconds) the estimate stays one, since they may have run.
        seconds: That were billed; None: what was estimated.
        shots: That were made; None: those that were asked for.
        structure: Names tasks that take about as long, where time is billed: ``Ledger.longest_s`` remembers it.
    """

    key: str
    state: State
    usd: Decimal | None = None
    seconds: float | None = None
    shots: int | None = None
    structure: str = ""


@dataclass(frozen=True)
class Entry:
    """One row: a task as the ledger knows it. Times are Unix time in seconds."""

    key: str
    namespace: str  #: who reserved it: a job's id
    session: str
    target: str
    fingerprint: str
    task_id: str  #: the provider's name of it; "" before it is known
    state: State
    tasks: int
    shots: int
    estimated_usd: Decimal | None  #: None: not known
    final_usd: Decimal | None  #: None: not known, or not yet
    seconds: float
    created: float
    updated: float

    @property
    def usd(self) -> Decimal | None:
        """The best figure that there is."""
        return self.estimated_usd if self.final_usd is None else self.final_usd


@dataclass(frozen=True)
class Cost:
    """What was spent. Money is exact (``decimal.Decimal``); ``float(cost)`` is the sum of both as a float.

    Attributes:
        usd_final: Of tasks that have ended.
        usd_estimated: Of tasks that are reserved or running, or that failed or were cancelled where time is billed.
        tasks: All that were reserved and not given back.
        shots: Of these.
        seconds: That devices bill for.
        unknown_tasks: Those of ``tasks`` whose price is not known; they are in no sum of money.
        by_device: The same for each device.
        by_kind: The same for each kind: "qpu", "simulator", or another provider's name.
    """

    usd_final: Decimal = Decimal(0)
    usd_estimated: Decimal = Decimal(0)
    tasks: int = 0
    shots: int = 0
    seconds: float = 0.0
    unknown_tasks: int = 0
    by_device: Mapping[str, Cost] = field(default_factory=dict, repr=False)
    by_kind: Mapping[str, Cost] = field(default_factory=dict, repr=False)

    @property
    def usd(self) -> Decimal:
        """Both: what has ended, and what is reserved or running."""
        return self.usd_final + self.usd_estimated

    @property
    def known_usd(self) -> Decimal | None:
        """The same; None where something was bought, and no price is known."""
        return None if self.unknown_tasks and not self.usd else self.usd

    @property
    def is_nothing(self) -> bool:
        """Nothing was bought; a job on a hired machine costs something without any task."""
        return not (self.tasks or self.usd or self.seconds or self.unknown_tasks)

    def without(self, kind: str) -> Cost:
        """What is left where everything of a kind (see ``by_kind``) is taken away."""
        parts = {device: part for device, part in self.by_device.items() if kind_of(device) != kind}
        return sum((replace(part, by_device={device: part}, by_kind={kind_of(device): part}) for device, part in parts.items()), Cost())

    def __float__(self) -> float:
        return float(self.usd)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.usd_final + other.usd_final,
            self.usd_estimated + other.usd_estimated,
            self.tasks + other.tasks,
            self.shots + other.shots,
            self.seconds + other.seconds,
            self.unknown_tasks + other.unknown_tasks,
            _merged(self.by_device, other.by_device),
            _merged(self.by_kind, other.by_kind),
        )

    def __str__(self) -> str:
        if self.is_nothing:
            return "nothing bought"
        parts = [] if self.known_usd is None else [show(self.known_usd)]
        if self.usd_estimated:
            parts[0] += f" ({show(self.usd_estimated)} of it estimated)"
        if self.tasks:
            parts.append(f"{self.tasks} task{'s' * (self.tasks != 1)}, {self.shots} shot{'s' * (self.shots != 1)}")
        if self.seconds:
            parts.append(f"{self.seconds:.4g} s")
        text = [", ".join(parts)] if parts else []
        if self.unknown_tasks:
            thing = "task" if self.tasks else "instance"
            unknown = f"the price of {self.unknown_tasks} {thing}{'s' * (self.unknown_tasks != 1)} is not known"
            text.append(f"{unknown} and not in the sum" if self.usd else unknown)
        return "; ".join(text)


def _merged(one: Mapping[str, Cost], other: Mapping[str, Cost]) -> dict[str, Cost]:
    return {name: one.get(name, Cost()) + other.get(name, Cost()) for name in {**one, **other}}


class Ledger:
    """A file of purchases. Safe for threads and for processes; making it opens nothing, and reading never creates the file.

    Args:
        path: The file. Its folder is made when first written to.

    Raises:
        StoreError: (all methods) The file cannot be used: disk full, read-only, no locks.
        FolderCorrupt: (all methods) It is damaged. It is never replaced by an empty one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def reserve(
        self,
        charges: Sequence[Charge],
        budget: Budget | None = None,
        *,
        session: str = "",
        session_budget: Budget | None = None,
        namespace: str = "",
        owner: str = "this account",
        remedy: str = _REMEDY,
        when: float | None = None,
    ) -> tuple[str, ...]:
        """Set money aside for tasks, all of them or none. Keys that are there already, and were not released, change nothing.

        Args:
            charges: What is to be bought.
            budget: What all entries of this ledger together may reach.
            session: A name that the tasks go by together.
            session_budget: What all entries of that session together may reach.
            namespace: Who reserves them.
            owner: Whose budget it is, for the error.
            remedy: How to go on, for the error.
            when: Unix time; None: now. The same in all ledgers that are told of it.

        Returns:
            The keys that were reserved now.

        Raises:
            BudgetExceeded: A limit would be passed; nothing was reserved.
            KeyConflict: A key stands for another purchase.
        """
        wanted = {charge.key: charge for charge in charges}
        with self._write() as database:
            known = self._find(database, wanted)
            for key, entry in known.items():
                _check_same(entry, wanted[key])
            new = [charge for key, charge in wanted.items() if key not in known or known[key].state is State.RELEASED]
            if not new:
                return ()
            tasks, where = sum(c.tasks for c in new), ", ".join(sorted({c.target for c in new}))
            what = f"The next {tasks} task{'s' * (tasks != 1)} on {where}" if tasks else f"{where}, for as long as it may run,"
            first = f"{what} would pass a budget, so nothing was submitted."
            _refuse(database, new, budget, session, session_budget, owner, first, remedy)
            now = time.time() if when is None else when
            rows = [
                Entry(
                    c.key,
                    namespace,
                    session,
                    c.target,
                    c.fingerprint,
                    "",
                    State.RESERVED,
                    c.tasks,
                    c.shots,
                    c.usd,
                    None,
                    c.seconds,
                    now,
                    max(now, known[c.key].updated + _TICK_S) if c.key in known else now,
                )
                for c in new
            ]
            database.executemany(_PUT, [_row(entry) for entry in rows])
        return tuple(charge.key for charge in new)

    def expect(self, charges: Sequence[Charge], *, when: float | None = None) -> None:
        """Open tasks will cost more than was thought: raise their estimates, whatever the budget. Nothing is lowered."""
        now = time.time() if when is None else when
        with self._write() as database:
            database.executemany(
                f"UPDATE entries SET estimated_nusd = ?, seconds = ?, {_LATER} "
                f"WHERE key = ? AND seconds < ? AND state != 'released' AND state NOT IN {_FINAL}",
                [(_nano(c.usd), c.seconds, now, c.key, c.seconds) for c in charges],
            )

    def set_aside(
        self, key: str, target: str, budget: Budget, most: Budget | None = None, *, namespace: str = "", when: float | None = None
    ) -> Budget:
        """Reserve what a budget has left, for somebody who spends it elsewhere: at once, so that no two are given the same.

        What was set aside under the same key, and is not spent, is given back first. ``lower`` and ``release`` end it.

        Args:
            key: Names the reservation.
            target: What stands for the device.
            budget: What all entries of this ledger together may reach.
            most: Not more than this; None: all that is left.
            namespace: Who reserves it.
            when: Unix time; None: now.

        Returns:
            What was reserved, in the limits that the budget has.
        """
        with self._write() as database:
            found = _left(database, budget, most, key)
            now = time.time() if when is None else when
            entry = Entry(key, namespace, "", target, "", "", State.RESERVED, 0, 0, None, None, 0.0, now, now)
            known = self._find(database, [key]).get(key)
            database.execute(_PUT, _row(replace(_holding(entry, found), updated=max(now, known.updated + _TICK_S) if known else now)))
        return found

    def left(self, budget: Budget, most: Budget | None = None) -> Budget:
        """What ``set_aside`` would reserve now."""
        with self._read() as database:
            return _left(database, budget, most) if database is not None else _least(budget, Cost(), most)

    def lower(self, key: str, rest: Budget) -> None:
        """So much of what was set aside is not spent yet. Nothing is raised, and nothing changes once it was released."""
        with self._write() as database:
            known = self._find(database, [key]).get(key)
            if known is not None and known.state is State.RESERVED:
                database.execute(_PUT, _row(replace(_holding(known, rest), updated=max(time.time(), known.updated + _TICK_S))))

    def check(
        self,
        budget: Budget | None = None,
        *,
        session: str = "",
        session_budget: Budget | None = None,
        owner: str = "this account",
        remedy: str = _REMEDY,
    ) -> None:
        """See whether what was spent and reserved is within the budget, as estimates are now. For the arguments see ``reserve``.

        Raises:
            BudgetExceeded: It is not.
        """
        first = "What is under way takes longer than was reserved for it, and passes a budget, so nothing more was submitted."
        with self._read() as database:
            if database is not None:
                _refuse(database, (), budget, session, session_budget, owner, first, remedy)

    def longest_s(self, target: str, structures: Iterable[str]) -> dict[str, float]:
        """The most that tasks of these structures were billed for on a device, in seconds; those that never ran there are not in it."""
        with self._write() as database:
            rows = database.execute(
                f"SELECT structure, seconds FROM durations WHERE target = ? AND structure IN {_NAMED}",
                (target, json.dumps(list(structures))),
            )
            return dict(rows.fetchall())

    def intend(self, keys: Iterable[str]) -> None:
        """From now on they may have reached the provider.

        Raises:
            InvalidCall: One was not reserved, or was released.
        """
        names = list(keys)
        with self._write() as database:
            missing = self._absent(database, names)
            if missing:
                raise InvalidCall("Ledger.intend", [f"{key} was not reserved; reserve it first" for key in missing])
            database.execute(
                f"UPDATE entries SET state = 'submitting', {_LATER} WHERE state = 'reserved' AND key IN {_NAMED}",
                (time.time(), json.dumps(names)),
            )

    def submitted(self, task_ids: Mapping[str, str]) -> None:
        """They were bought, and these are their names at the provider, by key.

        Raises:
            KeyConflict: A key has another task already: it was bought twice.
            InvalidCall: One was not reserved, or was released.
        """
        with self._write() as database:
            known = self._find(database, task_ids)
            for key, task_id in task_ids.items():
                entry = known.get(key)
                if entry is None or entry.state is State.RELEASED:
                    raise InvalidCall("Ledger.submitted", [f"{key} (task {task_id}) was not reserved"])
                if entry.task_id and entry.task_id != task_id:
                    raise KeyConflict(f"The purchase {key} is task {entry.task_id}, and was submitted again as {task_id}: look at both.")
            now = time.time()
            database.executemany(
                f"UPDATE entries SET task_id = ?, {_LATER}, "
                "state = CASE WHEN state IN ('reserved', 'submitting') THEN 'submitted' ELSE state END WHERE key = ? AND task_id = ''",
                [(task_id, now, key) for key, task_id in task_ids.items()],
            )

    def settle(
        self, key: str, state: State | str, usd: Decimal | float | None = None, seconds: float | None = None, shots: int | None = None
    ) -> None:
        """A task has ended. See ``settle_all``."""
        self.settle_all([Settlement(key, State(state), None if usd is None else money(usd), seconds, shots)])

    def settle_all(self, settlements: Iterable[Settlement]) -> None:
        """Tasks have ended. Settling one again in the same way replaces its figures, as when the bill comes later.

        Raises:
            KeyConflict: One has ended in another way already.
            InvalidCall: One was not reserved, or was released, or the state is not final.
        """
        ended = {settlement.key: settlement for settlement in settlements}
        with self._write() as database:
            known = self._find(database, ended)
            for key, one in ended.items():
                entry = known.get(key)
                if entry is None or entry.state is State.RELEASED or not one.state.is_final:
                    now_it_is = entry.state if entry else "not reserved"
                    raise InvalidCall("Ledger.settle", [f"{key} cannot become {one.state}: it is {now_it_is}"])
                if entry.state.is_final and entry.state is not one.state:
                    raise KeyConflict(f"The purchase {key} has {entry.state} already; it cannot become {one.state}.")
            now = time.time()
            database.executemany(
                f"UPDATE entries SET state = ?, final_nusd = ?, seconds = ?, shots = ?, {_LATER} WHERE key = ?",
                [(*_final_figures(known[key], one), now, key) for key, one in ended.items()],
            )
            database.executemany(
                "INSERT INTO durations VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seconds = MAX(seconds, excluded.seconds)",
                [(known[key].target, one.structure, one.seconds) for key, one in ended.items() if one.structure and one.seconds],
            )

    def release(self, keys: Iterable[str]) -> None:
        """It is certain that they were never bought: they count no more, and may be reserved again.

        Raises:
            InvalidCall: One was submitted.
        """
        names = list(keys)
        with self._write() as database:
            bought = [e for e in self._find(database, names).values() if e.state is State.SUBMITTED or e.state.is_final]
            if bought:
                raise InvalidCall("Ledger.release", [f"{e.key} is {e.state} (task {e.task_id}); it was bought" for e in bought])
            database.execute(
                f"UPDATE entries SET state = 'released', {_LATER} WHERE state != 'released' AND key IN {_NAMED}",
                (time.time(), json.dumps(names)),
            )

    def find(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Those of these purchases that there are, by key."""
        with self._read() as database:
            return self._find(database, keys) if database else {}

    def entries(self, *, session: str | None = None, namespace: str | None = None) -> list[Entry]:
        """All purchases, oldest first; or a session's, or a namespace's."""
        where, values = _where(session=session, namespace=namespace)
        with self._read() as database:
            if database is None:
                return []
            rows = database.execute(f"SELECT {_COLUMNS} FROM entries WHERE 1{where} ORDER BY created, key", values)
            return [_entry(row) for row in rows]

    def cost(self, *, session: str | None = None, namespace: str | None = None) -> Cost:
        """What was spent, of all or of a session or a namespace."""
        where, values = _where(session=session, namespace=namespace)
        total = Cost()
        with self._read() as database:
            for target, _, part in _figures(database, where, values) if database else ():
                total += replace(part, by_device={target: part}, by_kind={kind_of(target): part})
        return total

    def adopt(self, journal: Sequence[Entry]) -> None:
        """Make this ledger say of these purchases what their journal says, unless it knows something newer."""
        here = self.find(entry.key for entry in journal)
        changed = [e for e in journal if e.key not in here or (_told(here[e.key]) != _told(e) and here[e.key].updated <= e.updated)]
        if changed:
            with self._write() as database:
                database.executemany(_PUT, [_row(replace(entry, session="")) for entry in changed])

    def forget(self, namespace: str, known: Container[str], before: float = math.inf) -> None:
        """Release a namespace's reservations that its journal, which is written after this ledger, has never heard of.

        Only for the one process that may reserve in it now, or for those ``before`` a time (Unix time) since when others may, too.
        """
        open_entries = [e for e in self.entries(namespace=namespace) if e.state is State.RESERVED and e.created < before]
        orphans = [e.key for e in open_entries if e.key not in known]
        if orphans:
            self.release(orphans)

    def copy(self, path: Path) -> None:
        """Copy all purchases to another file; does nothing if there are none."""
        with self._read() as database:
            if database is not None:
                with contextlib.closing(sqlite3.connect(path)) as target:
                    database.backup(target)

    def close(self) -> None:
        """Close the file. The next call opens it again."""
        with self._lock:
            if self._database is not None and self._pid == os.getpid():
                self._database.close()
            self._database = None

    @staticmethod
    def _find(database: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Entry]:
        rows = database.execute(f"SELECT {_COLUMNS} FROM entries WHERE key IN {_NAMED}", (json.dumps(list(keys)),))
        return {row[0]: _entry(row) for row in rows}

    def _absent(self, database: sqlite3.Connection, keys: Iterable[str]) -> list[str]:
        known = self._find(database, keys)
        return [key for key in keys if key not in known or known[key].state is State.RELEASED]

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._disk_errors(), transaction(self._opened(), _BUSY_S) as database:
            yield database

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection | None]:
        with self._lock, self._disk_errors():
            if not self.path.exists():
                yield None
            elif self._database is not None and self._pid == os.getpid():
                yield self._database
            else:
                with contextlib.closing(self._opened_to_read()) as database:
                    yield database if patiently(lambda: _version(database), _BUSY_S) else None

    def _opened(self) -> sqlite3.Connection:
        """The connection to write with, which stays open: closing the last one would sync the whole file. A forked child opens its own."""
        if self._database is None or self._pid != os.getpid():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(database)
            except BaseException:
                database.close()
                raise
            self._database, self._pid = database, os.getpid()
        return self._database

    def _set_up(self, database: sqlite3.Connection) -> None:
        patiently(lambda: database.execute("PRAGMA journal_mode = WAL"), _BUSY_S)
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
        if _version(database) == _SCHEMA_VERSION:
            patiently(lambda: database.execute(_DURATIONS), _BUSY_S)
            return
        self.path.chmod(0o600)
        with transaction(database, _BUSY_S):
            version = _version(database)
            if version == 0:  # nobody was faster
                for statement in (*_SCHEMA.split(";"), _DURATIONS):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        if version > _SCHEMA_VERSION:
            raise FolderTooNew(f"{self.path} was written by a newer version of pl-hybridjobs; update this one.")

    def _opened_to_read(self) -> sqlite3.Connection:
        """Reading needs no right to write: a copy on a read-only disk is taken as it lies there."""
        name = self.path.absolute().as_uri()
        database = sqlite3.connect(f"{name}?mode=ro", timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True)
        try:
            patiently(lambda: _version(database), _BUSY_S)
        except sqlite3.OperationalError:
            database.close()
            if os.access(self.path.parent, os.W_OK):
                raise
            database = sqlite3.connect(f"{name}?immutable=1", isolation_level=None, check_same_thread=False, uri=True)
        return database

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"The ledger {self.path} cannot be used: {error}. Nothing is bought without it. If the disk is full or read-only, mend "
                "that; if another process holds it for long, `fuser` on that file finds it."
            ) from error
        except sqlite3.DatabaseError as error:
            raise FolderCorrupt(
                f"The ledger {self.path} is damaged: {error}. It says what was bought, so it is not replaced: restore it from a copy, or, "
                "if you know from the provider what was spent, move it away and set a budget for the rest."
            ) from error


def _check_same(entry: Entry, charge: Charge) -> None:
    if entry.target != charge.target or (entry.fingerprint and charge.fingerprint and entry.fingerprint != charge.fingerprint):
        raise KeyConflict(f"The purchase {charge.key} on {entry.target} is there already, and is not this one, on {charge.target}.")


def _refuse(
    database: sqlite3.Connection,
    new: Sequence[Charge],
    budget: Budget | None,
    session: str,
    session_budget: Budget | None,
    owner: str,
    first: str,
    remedy: str,
) -> None:
    """Raise ``BudgetExceeded`` if a limit is passed with these as well."""
    complaints = _passed_limits(database, new, budget, owner, "", ())
    remedies = [remedy] if complaints else []
    if session:
        more = _passed_limits(database, new, session_budget, f"session {session!r}", " AND session = ?", (session,))
        complaints += more
        remedies += [f"To go on, give session {session!r} more where it is made: Session({session!r}, budget=...)."] if more else []
    if complaints:
        raise BudgetExceeded("\n".join([first, *complaints, *remedies]))


def _passed_limits(
    database: sqlite3.Connection, new: Sequence[Charge], budget: Budget | None, owner: str, where: str, values: tuple[str, ...]
) -> list[str]:
    """What is wrong with buying these, one sentence for each limit that would be passed."""
    if not budget:
        return []
    found = []
    unknown = sorted({charge.target for charge in new if charge.usd is None})
    if budget.usd is not None and unknown:
        is_hired = all(kind_of(target) == INSTANCE for target in unknown)
        figures = '"per_hour_usd": "0.115"' if is_hired else '"per_task_usd": "0.30", "per_shot_usd": "0.01"'
        found.append(
            f"  - The budget of {owner} has max_usd, and the price of {', '.join(unknown)} is not known. Name it in a price file "
            f'(HYBRIDJOBS_PRICES=prices.json with {{"<device>": {{{figures}}}}}), or limit tasks or shots instead of dollars.'
        )
    parts = list(_figures(database, where, values))
    spent = sum((cost for _, ended, cost in parts if ended), Cost())
    reserved = sum((cost for _, ended, cost in parts if not ended), Cost())
    limits: tuple[tuple[str, Any, Any, Any, Any], ...] = (
        ("max_usd", budget.usd, spent.usd, reserved.usd, sum((c.usd for c in new if c.usd is not None), Decimal(0))),
        ("max_tasks", budget.max_tasks, spent.tasks, reserved.tasks, sum(c.tasks for c in new)),
        ("max_shots", budget.max_shots, spent.shots, reserved.shots, sum(c.shots for c in new)),
        ("max_time_s", budget.max_time_s, spent.seconds, reserved.seconds, sum(c.seconds for c in new)),
    )
    for name, cap, *amounts in limits:
        if cap is not None and sum(amounts) > cap:
            text = plain if name == "max_usd" else "{:,g}".format
            terms = " + ".join(f"{text(amount)} {word}" for amount, word in zip(amounts, ("spent", "reserved", "asked"), strict=True))
            found.append(f"  - The budget of {owner} has {name} = {text(cap)}: {terms} make {text(sum(amounts))}.")
    return found


def _left(database: sqlite3.Connection, budget: Budget, most: Budget | None, but_for: str = "") -> Budget:
    spent = sum((cost for _, _, cost in _figures(database, " AND key != ?", (but_for,))), Cost())
    return _least(budget, spent, most)


def _least(budget: Budget, spent: Cost, most: Budget | None) -> Budget:
    """What is left of a budget, limit by limit, and not more than that."""
    cap = most or Budget()
    limits: tuple[tuple[str, Any, Any, Any], ...] = (
        ("max_usd", budget.usd, spent.usd, cap.usd),
        ("max_tasks", budget.max_tasks, spent.tasks, cap.max_tasks),
        ("max_shots", budget.max_shots, spent.shots, cap.max_shots),
        ("max_time_s", budget.max_time_s, spent.seconds, cap.max_time_s),
    )
    return Budget(
        **{
            name: max(limit - used, 0) if other is None else min(max(limit - used, 0), other)
            for name, limit, used, other in limits
            if limit is not None
        }
    )


def _holding(entry: Entry, amount: Budget) -> Entry:
    """An entry that stands for an amount which is not spent yet."""
    usd = Decimal(0) if amount.usd is None else amount.usd
    return replace(entry, estimated_usd=usd, tasks=amount.max_tasks or 0, shots=amount.max_shots or 0, seconds=amount.max_time_s or 0.0)


def _figures(database: sqlite3.Connection, where: str, values: Sequence[str]) -> Iterator[tuple[str, bool, Cost]]:
    """Sums for each device, apart for final figures and for estimates."""
    usd = "COALESCE(final_nusd, estimated_nusd)"
    rows = database.execute(
        f"SELECT target, state IN {_FINAL} AND (final_nusd IS NOT NULL OR estimated_nusd IS NULL) AS is_final, SUM(tasks), SUM(shots), "
        f"SUM(seconds), SUM({usd}), SUM(CASE WHEN {usd} IS NULL THEN MAX(tasks, 1) ELSE 0 END) "
        f"FROM entries WHERE state != 'released'{where} GROUP BY target, is_final",
        tuple(values),
    )
    for target, is_final, tasks, shots, seconds, nusd, unknown in rows:
        amount = _usd(nusd or 0)
        sums = (amount, Decimal(0)) if is_final else (Decimal(0), amount)
        yield target, bool(is_final), Cost(*sums, tasks, shots, seconds, unknown)


def _where(**equal: str | None) -> tuple[str, tuple[str, ...]]:
    given = {name: value for name, value in equal.items() if value is not None}
    return "".join(f" AND {name} = ?" for name in given), tuple(given.values())


def _final_figures(entry: Entry, one: Settlement) -> tuple[str, int | None, float, int]:
    usd = one.usd
    if usd is None and one.state is State.COMPLETED:
        usd = entry.estimated_usd
    elif usd is None and not entry.seconds:
        usd = Decimal(0)
    seconds = entry.seconds if one.seconds is None else one.seconds
    return one.state.value, _nano(usd), seconds, entry.shots if one.shots is None else one.shots


def _told(entry: Entry) -> tuple[Any, ...]:
    """What one ledger may know later than another."""
    open_states = (State.RESERVED, State.SUBMITTING, State.SUBMITTED)
    return State.RESERVED if entry.state in open_states else entry.state, entry.final_usd, entry.seconds, entry.shots


def _entry(row: Sequence[Any]) -> Entry:
    key, namespace, session, target, fingerprint, task_id, state, tasks, shots, estimated, final, *rest = row
    return Entry(key, namespace, session, target, fingerprint, task_id, State(state), tasks, shots, _usd(estimated), _usd(final), *rest)


def _row(entry: Entry) -> tuple[Any, ...]:
    e = entry
    head = (e.key, e.namespace, e.session, e.target, e.fingerprint, e.task_id, e.state.value, e.tasks, e.shots)
    return (*head, _nano(e.estimated_usd), _nano(e.final_usd), e.seconds, e.created, e.updated)


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(money(usd) / NANO_USD)


@overload
def _usd(nano: None) -> None: ...
@overload
def _usd(nano: int) -> Decimal: ...
def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else nano * NANO_USD


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)
