"""What a Braket job may cost is set aside in the user's ledger from its submission to its end, so that two never spend the same dollar.

The instance is a purchase of the job: its hourly price for as long as Braket lets it run, then for the time that was billed. What the job
may buy from devices is in the user's ledger alone, and becomes less as the job's purchases come home.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pl_hybridjobs.braket import jobs
from pl_hybridjobs.braket.record import Run
from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.account import BUDGET, EMULATED, Account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Charge, Cost, State
from pl_hybridjobs.cost.prices import INSTANCE, price_of
from pl_hybridjobs.errors import BudgetExceeded
from pl_hybridjobs.home import home_of
from pl_hybridjobs.jobs.durable import dump_json
from pl_hybridjobs.jobs.folder import JobFolder

_LIMITS = ("max_usd", "max_tasks", "max_shots", "max_time_s")


def set_aside(folder: JobFolder, run: Run, instance_type: str, runtime_s: float, *, is_bought: bool = True) -> dict[str, bytes]:
    """Reserve what a run may cost. Doing it again for the same run sets it aside anew.

    Args:
        folder: The job's.
        run: Which Braket job of it.
        instance_type: What it runs on.
        runtime_s: After which Braket ends it.
        is_bought: False: nobody pays. The job's own budget holds all the same, and it is told what is left of the user's.

    Returns:
        Files for ``$HYBRIDJOBS_HOME`` where it runs: the user's limits, as they hold for this job.

    Raises:
        BudgetExceeded: The instance alone would pass the job's budget or the user's; nothing was reserved.
    """
    with contextlib.closing(_account(folder, is_bought)) as mine:
        user = mine.parents[0] if is_bought else account.of_user(home_of(folder.path), emulated=False)
        try:
            _hire(mine, _instance_key(folder, run), instance_type, runtime_s)
            if not (limits := user.limits):
                return {}
            if is_bought:
                rest, target = mine.ledger.left(mine.limits), f"braket-job:{folder.spec().name}"
                left = _sum(user.ledger.set_aside(_rest_key(folder, run), target, limits, rest, namespace=_owner(folder)), mine.cost())
            else:
                left = user.ledger.left(limits)
        except BaseException:
            _give_back(mine, folder, run)
            raise
    told = dump_json(left.to_json())
    return {BUDGET: told, f"{EMULATED}/{BUDGET}": told}  # there, the environment may be an emulator's


def spent(folder: JobFolder, run: Run, before: Cost, *, is_bought: bool = True) -> None:
    """Purchases of the job came home: what was set aside for them is not needed any more.

    Args:
        folder: The job's.
        run: The newest.
        before: What the job had spent when they were not known yet.
        is_bought: See ``set_aside``.
    """
    with contextlib.closing(_account(folder, is_bought)) as mine:
        ledger, key = mine.parents[0].ledger, _rest_key(folder, run)
        entry = ledger.find([key]).get(key)
        if entry is not None and entry.state is State.RESERVED:
            held = Budget(max_usd=entry.usd, max_tasks=entry.tasks, max_shots=entry.shots, max_time_s=entry.seconds)
            ledger.lower(key, _less(held, mine.cost(), before))


def settle(folder: JobFolder, run: Run, *, is_bought: bool = True) -> None:
    """A run is over: what it did not spend is free again, and its instance costs what was billed."""
    key = _instance_key(folder, run)
    with contextlib.closing(_account(folder, is_bought)) as mine:
        entry = mine.find([key]).get(key)
        if entry is not None and entry.state is not State.RELEASED:  # an older version of this package made none
            seconds, _ = jobs.billed_s(run.answer, time.time())
            price = price_of(entry.target)
            known = Decimal(0) if not seconds else None if price is None else price.usd(seconds=seconds)
            mine.settle(key, State.COMPLETED, known)
        mine.parents[0].ledger.release([_rest_key(folder, run)])


def give_back(folder: JobFolder, run: Run, *, is_bought: bool = True) -> None:
    """It is certain that a run was not submitted."""
    with contextlib.closing(_account(folder, is_bought)) as mine:
        _give_back(mine, folder, run)


def _hire(mine: Account, key: str, instance_type: str, runtime_s: float) -> None:
    target = f"{INSTANCE}:{instance_type}"
    price = price_of(target)
    usd = None if price is None else price.usd(seconds=runtime_s)
    try:
        mine.reserve([Charge(key, target, 0, usd=usd)])
    except BudgetExceeded as error:
        raise BudgetExceeded(
            f"{error}\nThe instance may run for {runtime_s:g} s, and is counted so before it is hired: let it end sooner with "
            "resources={'timeout_s': ...} or BraketRunner(max_runtime_s=...). What is reserved is for jobs that are not over: one without "
            "a budget of its own reserves all that is left of the user's, so give each its own, budget={'max_usd': ...}."
        ) from error


def _give_back(mine: Account, folder: JobFolder, run: Run) -> None:
    mine.parents[0].ledger.release([_rest_key(folder, run)])
    key = _instance_key(folder, run)
    for ledger in (mine.parents[0].ledger, mine.ledger):
        if key in ledger.find([key]):  # else the job's would be made
            ledger.release([key])


def _account(folder: JobFolder, is_bought: bool) -> Account:
    return account.of_job(folder.path, emulated=None if is_bought else True)


def _owner(folder: JobFolder) -> str:
    return f"{folder.spec().id}|braket"  # not the job's: its journal knows nothing of these


def _instance_key(folder: JobFolder, run: Run) -> str:
    return f"{folder.spec().id}|braket|{run.number}|instance"


def _rest_key(folder: JobFolder, run: Run) -> str:
    return f"{folder.spec().id}|braket|{run.number}|rest"


def _amounts(cost: Cost) -> Mapping[str, Any]:
    return {"max_usd": cost.usd, "max_tasks": cost.tasks, "max_shots": cost.shots, "max_time_s": cost.seconds}


def _sum(left: Budget, own: Cost) -> Budget:
    """The limits in which what the job has spent already is counted again."""
    amounts = _amounts(own)
    return Budget(**{name: getattr(left, name) + amounts[name] for name in _LIMITS if getattr(left, name) is not None})


def _less(held: Budget, now: Cost, before: Cost) -> Budget:
    had, has = _amounts(before), _amounts(now)
    return Budget(**{name: max(getattr(held, name) - max(has[name] - had[name], 0), 0) for name in _LIMITS})
