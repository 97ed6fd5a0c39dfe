"""Who pays: a ledger with a budget, and the accounts above it that must agree as well.

A job's account is its folder's ``spend.sqlite``; above it is the user's, ``$HYBRIDJOBS_HOME/spend.sqlite``, with the budget that
``hybridjobs budget set`` writes. Outside a job the user's account is the one that is charged. ``current()`` is what a device asks.
What is bought from an emulated Amazon Braket is kept apart, in an account of the same form that nobody pays for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pl_hybridjobs.cost import active
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Charge, Cost, Entry, Ledger, Settlement, State
from pl_hybridjobs.cost.prices import money
from pl_hybridjobs.errors import BudgetExceeded, Fenced, FolderCorrupt, JobStopRequested
from pl_hybridjobs.home import default_home, home_of

LEDGER = "spend.sqlite"
BUDGET = "budget.json"
#: The folder of the home folder where the same two are for what is bought from an emulated Amazon Braket.
EMULATED = "emulated"

_MADE_UP = "emulated"  # the access key of emulators: Amazon sells nothing to it
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Account:
    """A ledger and its budget, below others. What is reserved here is reserved in all of them, or in none.

    Attributes:
        name: Whose it is, for people: ``"job vqe-3"``.
        ledger: The journal; those of the parents only count.
        budget: What may be bought; a function is asked each time, so that a raised budget counts at once.
        parents: Accounts above, the nearest first.
        namespace: Makes the keys of purchases: a job's id, so that a resumed job finds what it bought, else something random. A job that
            goes on with an ended one's purchases has that one's.
        remedy: How its budget is raised, for errors.
        guard: Raises if this process may not buy, or give back, any more (a newer attempt owns the job).
        owner: Who reserves: a job's own id; "" for the namespace.
        stop: Raises if it was asked to stop; for who waits for what was bought, perhaps for hours.
        refusals: The last few ``BudgetExceeded``, for who may have to know one again that somebody else's error hides.
    """

    name: str
    ledger: Ledger
    budget: Budget | Callable[[], Budget] = field(default_factory=Budget)
    parents: tuple[Account, ...] = ()
    namespace: str = ""
    remedy: str = "Raise the budget, or buy less."
    guard: Callable[[], None] | None = None
    owner: str = ""
    stop: Callable[[], None] | None = None
    refusals: deque[Exception] = field(default_factory=lambda: deque(maxlen=8), init=False, repr=False, compare=False)

    @property
    def limits(self) -> Budget:
        """What may be bought, as it is now."""
        return self.budget if isinstance(self.budget, Budget) else self.budget()

    def reserve(self, charges: Sequence[Charge], *, session: str = "", session_budget: Budget | None = None) -> None:
        """Set money aside in all accounts, or in none. Doing it again with the same keys changes nothing.

        Args:
            charges: What is to be bought.
            session: A name that the tasks go by together, within this account.
            session_budget: What that session may buy.

        Raises:
            BudgetExceeded: It would pass the budget of an account or of the session; nothing was reserved.
        """
        if self.guard is not None:
            self.guard()
        now = time.time()  # the same in all: which of two ledgers knows the newer thing is told by it
        reserved: list[tuple[Account, tuple[str, ...]]] = []
        try:
            for account, limits in self._limits(session, session_budget):  # the journal last: what it holds, all hold
                keys = account.ledger.reserve(charges, namespace=self.owner or self.namespace, when=now, **limits)
                reserved.append((account, keys))
        except BaseException as error:
            for account, keys in reversed(reserved):
                account.ledger.release(keys)
            self._remember(error)
            raise

    def expect(self, charges: Sequence[Charge], *, is_more_to_come: bool, session: str = "", session_budget: Budget | None = None) -> None:
        """Open tasks will cost more than was reserved: set the rest aside as well, for they are on their way.

        Args:
            charges: As they look now.
            is_more_to_come: Some of what is reserved was not sent yet, and can be given back.
            session: See ``reserve``.
            session_budget: Likewise.

        Raises:
            BudgetExceeded: That is the case, and all together pass the budget of an account or of the session.
        """
        now = time.time()
        for account in (*reversed(self.parents), self):
            account.ledger.expect(charges, when=now)
        if not is_more_to_come:
            return
        try:
            for account, limits in self._limits(session, session_budget):
                account.ledger.check(**limits)
        except BudgetExceeded as error:
            self._remember(error)
            raise

    def limits_money_or_time(self, session_budget: Budget | None = None) -> bool:
        """Whether any of the budgets that must agree does."""
        budgets = [*(account.limits for account in (self, *self.parents)), session_budget or Budget()]
        return any(budget.usd is not None or budget.max_time_s is not None for budget in budgets)

    def intend(self, keys: Iterable[str]) -> None:
        """Write down that they are about to be submitted."""
        if self.guard is not None:
            self.guard()
        self.ledger.intend(keys)

    def submitted(self, task_ids: Mapping[str, str]) -> None:
        """Write down their names at the provider, by key."""
        self.ledger.submitted(task_ids)

    def settle(
        self, key: str, state: State | str, usd: Decimal | float | None = None, seconds: float | None = None, shots: int | None = None
    ) -> None:
        """A task has ended. See ``settle_all``."""
        self.settle_all([Settlement(key, State(state), None if usd is None else money(usd), seconds, shots)])

    def settle_all(self, settlements: Iterable[Settlement]) -> None:
        """Tasks have ended; see ``Ledger.settle_all``."""
        ended = list(settlements)
        self.ledger.settle_all(ended)
        self._tell([settlement.key for settlement in ended])

    def release(self, keys: Iterable[str]) -> None:
        """It is certain that they were never bought: not by a newer attempt of the job either, so only the newest may say so."""
        if self.guard is not None:
            self.guard()
        names = list(keys)
        self.ledger.release(names)
        self._tell(names)

    def find(self, keys: Iterable[str]) -> dict[str, Entry]:
        """What the journal knows of these purchases, by key."""
        return self.ledger.find(keys)

    def cost(self, *, session: str | None = None) -> Cost:
        """What was spent here, or by a session of this account."""
        return self.ledger.cost(session=session)

    def catch_up(self, before: float = math.inf) -> None:
        """Tell the accounts above what the journal knows and they missed, because a process died in between.

        Args:
            before: What was reserved above only is given back if that was earlier (Unix time): since then, another process may be about to
                write it into the journal.
        """
        journal = self.ledger.entries()
        for account in self.parents:
            account.ledger.adopt(journal)
            account.ledger.forget(self.owner or self.namespace, {entry.key for entry in journal}, before)

    def _limits(self, session: str, session_budget: Budget | None) -> Iterator[tuple[Account, dict[str, Any]]]:
        """All accounts that must agree, this one last, and what its ledger is told of its limits."""
        for account in (*reversed(self.parents), self):
            limits: dict[str, Any] = {"budget": account.limits, "owner": account.name, "remedy": account.remedy}
            yield account, limits | ({"session": session, "session_budget": session_budget} if account is self else {})

    def _remember(self, error: BaseException) -> None:
        if isinstance(error, BudgetExceeded):
            self.refusals.append(BudgetExceeded(*error.args))  # without its traceback, which holds on to frames

    def close(self) -> None:
        """Close the files. The next call opens them again."""
        for account in (self, *self.parents):
            account.ledger.close()

    def _tell(self, keys: Sequence[str]) -> None:
        entries = list(self.ledger.find(keys).values()) if self.parents else []
        for account in self.parents:
            account.ledger.adopt(entries)


def is_emulated() -> bool:
    """Whether the environment is that of ``hybridjobs emulator``: it leads to this machine, with a key that buys nothing elsewhere."""
    address = next((found for name in ("AWS_ENDPOINT_URL_BRAKET", "BRAKET_ENDPOINT") if (found := os.environ.get(name))), "")
    return os.environ.get("AWS_ACCESS_KEY_ID") == _MADE_UP and urlsplit(address).hostname in _HERE


def user_home(home: Path | None = None, *, emulated: bool | None = None) -> Path:
    """Where the user's ledger and budget are.

    Args:
        home: The home folder; None: the usual one.
        emulated: Those of what nobody pays for; None: as the environment is.
    """
    place = home or default_home()
    return place / EMULATED if (is_emulated() if emulated is None else emulated) else place


def budget_file(home: Path | None = None, *, emulated: bool | None = None) -> Path:
    """Where the user's budget is kept. For the arguments see ``user_home``."""
    return user_home(home, emulated=emulated) / BUDGET


def of_user(home: Path | None = None, *, emulated: bool | None = None) -> Account:
    """The user's account: all that was bought with this home folder. For the arguments see ``user_home``."""
    place = user_home(home, emulated=emulated)
    return _of_user(place, place != user_home(home, emulated=False), os.getpid())


@functools.lru_cache(maxsize=8)
def _of_user(place: Path, emulated: bool, pid: int) -> Account:
    del pid  # a forked child makes keys of its own
    return Account(
        "the user at emulators" if emulated else "the user",
        Ledger(place / LEDGER),
        lambda: read_budget(place / BUDGET),
        namespace=os.urandom(16).hex(),
        remedy="To go on, raise it: `hybridjobs budget set`; `hybridjobs budget` shows what devices and Braket jobs have of it.",
    )


def of_job(
    folder: Path, *, guard: Callable[[], None] | None = None, stop: Callable[[], None] | None = None, emulated: bool | None = None
) -> Account:
    """A job's account, below the user's: what its folder says, now. A copied folder can be read anywhere.

    Args:
        folder: The job's folder.
        guard: See ``Account``.
        stop: Likewise.
        emulated: See ``user_home``.

    Raises:
        FolderCorrupt: The folder's ``job.json`` cannot be read.
    """
    spec = _read(folder / "job.json")
    given = Budget.from_json(spec.get("budget"))
    return Account(
        f"job {spec.get('name', folder.name)}",
        Ledger(folder / LEDGER),
        lambda: given.changed(read_budget(folder / BUDGET)),
        (of_user(home_of(folder), emulated=emulated),),
        str(spec.get("purse") or spec.get("id", folder.name)),
        "To go on, raise it and resume: `job.resume(budget={'max_usd': ...})`, or "
        f"`hybridjobs resume {shlex.quote(str(spec.get('name', folder.name)))} --max-usd ...`.",
        guard,
        str(spec.get("id", folder.name)),
        stop,
    )


def read_budget(path: Path) -> Budget:
    """The budget in a file; no limit if there is no file.

    Raises:
        FolderCorrupt: It cannot be read: no limit would be the wrong guess.
    """
    content = _read(path) if path.exists() else {}
    budget = Budget.from_json(content)
    if complaints := budget.complaints():
        raise FolderCorrupt(f"{path} is damaged: {'; '.join(complaints)}. Write it again with `hybridjobs budget set`, or remove it.")
    return budget


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FolderCorrupt(f"{path} cannot be read ({error}), so nothing may be bought. Restore it from a copy.") from error
    if not isinstance(content, dict):
        raise FolderCorrupt(f"{path} is damaged, so nothing may be bought. Restore it from a copy.")
    return content


@contextlib.contextmanager
def activate(account: Account) -> Iterator[Account]:
    """Make an account the one that this process charges. Its files are closed at the end."""
    with active.activate(lambda: account):
        try:
            yield account
        finally:
            account.close()


def current() -> Account:
    """The account that is charged here: the job's, and outside a job the user's. A process that a job started belongs to the job."""
    chosen = active.chosen()
    if chosen is not None:
        return chosen()
    folder = os.environ.get("HYBRIDJOBS_JOB_FOLDER")
    return _adopted(Path(folder), os.getpid()) if folder else of_user()


@functools.lru_cache(maxsize=1)
def _adopted(folder: Path, pid: int) -> Account:
    del pid  # a forked child opens files of its own
    return of_job(folder, guard=lambda: _check_attempt(folder), stop=lambda: _check_cancelled(folder))


def _check_attempt(folder: Path) -> None:
    """As ``JobFolder.check_epoch``, in a process that the job's attempt started.

    Raises:
        Fenced: Its time is over.
    """
    attempt = os.environ.get("HYBRIDJOBS_ATTEMPT", "")
    if (attempt.isdecimal() and (folder / "attempts" / str(int(attempt) + 1)).exists()) or (folder / "outcome.json").exists():
        raise Fenced(f"Attempt {attempt} of {folder.name} is over, and this process belongs to it: it must not buy any more.")


def _check_cancelled(folder: Path) -> None:
    if (folder / "cancel.json").exists():
        raise JobStopRequested(f"{folder.name} is cancelled, and this process belongs to it")
