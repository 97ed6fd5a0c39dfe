"""Processes that buy, for tests that race them and kill them: ``python -m tests.cost.buyer VERB LEDGER ...``."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path

from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Charge, Ledger, Settlement, State
from pl_hybridjobs.errors import BudgetExceeded

PRICE = Decimal("0.30")
KEYS = ("a", "b", "c")


def charge(key, usd=PRICE):
    return Charge(key, "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1", shots=10, usd=usd)


def buy_three(ledger):
    """One purchase from beginning to end, as a device makes it; what was done before is not done again."""
    ledger.reserve([charge(key) for key in KEYS], Budget(max_usd="0.90"))
    open_keys = [key for key, entry in ledger.find(KEYS).items() if not entry.task_id]
    ledger.intend(open_keys)
    ledger.submitted({key: f"task-{key}" for key in open_keys})
    ledger.settle_all([Settlement(key, State.COMPLETED, PRICE) for key in KEYS])


def die_at_statement(number):
    """From now on, the process kills itself just before its ``number``-th SQL statement. This stands in for a power switch."""
    seen = 0

    def watch(statement):
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def watched(*arguments, **options):
        database = connect(*arguments, **options)
        database.set_trace_callback(watch)
        return database

    sqlite3.connect = watched


def die_at_each_statement(folder):
    """Process 1 dies at its first statement, process 2 at its second, ...; each has a ledger of its own. Prints how many died."""
    number, killed = 0, True
    while killed:
        number += 1
        child = os.fork()  # quick: a hundred milliseconds less than a new interpreter
        if child == 0:
            die_at_statement(number)
            buy_three(Ledger(folder / str(number) / "spend.sqlite"))
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(number - 1)


def race(path, job, cap):
    """Buy one task after the other until the common account refuses, and say how many there were."""
    user = Account("the user", Ledger(path), Budget(max_usd=cap))
    mine = Account(f"job {job}", Ledger(path.with_name(f"job-{job}.sqlite")), parents=(user,), namespace=job)
    bought = 0
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        key = f"{job}-{bought}"
        try:
            mine.reserve([charge(key)])
        except BudgetExceeded:
            break
        mine.intend([key])
        mine.submitted({key: f"task-{key}"})
        bought += 1
        if bought % 3:
            mine.settle(key, "completed", PRICE)
    print(bought, flush=True)


def buy_forever(path):
    """Say which keys were reserved and settled, once they were."""
    ledger = Ledger(path)
    for number in range(100_000):
        ledger.reserve([charge(f"{number}-{part}") for part in range(3)])
        print("reserved", number, flush=True)
        ledger.settle_all([Settlement(f"{number}-{part}", State.COMPLETED, PRICE) for part in range(3)])
        print("settled", number, flush=True)


if __name__ == "__main__":
    verb, path = sys.argv[1], Path(sys.argv[2])
    if verb == "die":
        die_at_each_statement(path)
    elif verb == "race":
        race(path, sys.argv[3], sys.argv[4])
    else:
        buy_forever(path)
