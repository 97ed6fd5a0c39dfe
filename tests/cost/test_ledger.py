"""The ledger: reserve, settle, refuse; exact sums; processes that race and processes that are killed."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Charge, Cost, Ledger, Settlement, State
from pl_hybridjobs.errors import BudgetExceeded, FolderCorrupt, FolderTooNew, InvalidCall, KeyConflict, StoreError
from tests.cost.buyer import KEYS, PRICE, buy_three, charge
from tests.house.source import ROOT

QPU = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "spend.sqlite")
    yield made
    made.close()


def buyer(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cost.buyer", *map(str, arguments)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def states(ledger):
    return {entry.key: str(entry.state) for entry in ledger.entries()}


# --- the life of a purchase


def test_a_task_goes_from_reserved_to_completed(ledger):
    ledger.reserve([Charge("k", QPU, 1, 100, Decimal("8.30"), fingerprint="f")], session="s", namespace="job-1")
    (entry,) = ledger.entries()
    assert (entry.state, entry.usd, entry.session, entry.namespace, entry.fingerprint) == ("reserved", Decimal("8.3"), "s", "job-1", "f")
    ledger.intend(["k"])
    assert states(ledger) == {"k": "submitting"}
    ledger.submitted({"k": "arn:task/1"})
    assert ledger.find(["k", "other"])["k"].task_id == "arn:task/1"
    ledger.settle("k", "completed", usd=Decimal("8.25"), shots=99)

    (entry,) = ledger.entries()
    assert (entry.state, entry.usd, entry.estimated_usd, entry.shots) == (State.COMPLETED, Decimal("8.25"), Decimal("8.30"), 99)


def test_a_completed_task_costs_what_was_estimated_unless_told_and_a_failed_one_nothing(ledger):
    ledger.reserve([charge(key) for key in ("completed", "failed", "cancelled")])
    for key in ("completed", "failed", "cancelled"):
        ledger.settle(key, key)

    assert {entry.key: entry.usd for entry in ledger.entries()} == {"completed": PRICE, "failed": 0, "cancelled": 0}
    assert ledger.cost().usd_estimated == 0


def test_where_time_is_billed_a_task_that_failed_may_have_run_and_its_estimate_stays_one(ledger):
    ledger.reserve([Charge(key, SV1, usd=Decimal(1), seconds=3.0) for key in ("completed", "failed", "cancelled", "told")])
    for key in ("completed", "failed", "cancelled"):
        ledger.settle(key, key)
    ledger.settle("told", "failed", usd=0, seconds=0.0)

    cost = ledger.cost()
    assert (cost.usd_final, cost.usd_estimated, cost.seconds, cost.unknown_tasks) == (1, 2, 9.0, 0)
    with pytest.raises(BudgetExceeded, match=r"1\.00 spent \+ 2\.00 reserved \+ 1\.00 asked"):
        ledger.reserve([Charge("next", SV1, usd=Decimal(1), seconds=3.0)], Budget(max_usd=3))


def test_an_estimate_is_raised_and_never_lowered(ledger):
    ledger.reserve([Charge(key, SV1, usd=Decimal(1), seconds=3.0) for key in ("open", "ended")])
    ledger.settle("ended", "completed")
    for seconds in (5.0, 4.0):
        ledger.expect([Charge(key, SV1, usd=Decimal(int(seconds)), seconds=seconds) for key in ("open", "ended")])

    assert {entry.key: (entry.usd, entry.seconds) for entry in ledger.entries()} == {"open": (5, 5.0), "ended": (1, 3.0)}
    ledger.check(Budget(max_usd=6))
    with pytest.raises(BudgetExceeded, match=r"takes longer .*\n.* 1\.00 spent \+ 5\.00 reserved \+ 0\.00 asked make 6\.00"):
        ledger.check(Budget(max_usd="5.99"))


def test_the_longest_of_each_structure_is_remembered(ledger):
    ledger.reserve([Charge(key, SV1, seconds=3.0) for key in "abc"])
    ledger.settle_all([Settlement(key, State.COMPLETED, None, 3.0 + n, structure="s") for n, key in enumerate("bac")])
    ledger.settle_all([Settlement("a", State.COMPLETED, None, 3.0, structure="s")])

    assert ledger.longest_s(SV1, ["s", "t"]) == {"s": 5.0}
    assert ledger.longest_s(QPU, ["s"]) == {}


def test_a_ledger_that_remembers_no_durations_begins_to(ledger):
    ledger.reserve([charge("a")])
    ledger.close()
    with sqlite3.connect(ledger.path) as database:
        database.execute("DROP TABLE durations")
    database.close()

    assert ledger.cost().tasks == 1
    assert ledger.longest_s(SV1, ["s"]) == {}
    assert states(ledger) == {"a": "reserved"}


def test_reserving_the_same_keys_again_changes_nothing(ledger):
    assert ledger.reserve([charge("a"), charge("b")]) == ("a", "b")
    ledger.settle("a", "completed", PRICE)
    before = ledger.entries()

    assert ledger.reserve([charge("a"), charge("b")], Budget(max_usd=0)) == ()
    assert ledger.entries() == before


def test_released_money_is_free_again_and_the_key_too(ledger):
    ledger.reserve([charge("a")], Budget(max_tasks=1))
    ledger.release(["a"])
    assert ledger.cost() == Cost()

    ledger.reserve([charge("b")], Budget(max_tasks=1))
    ledger.release(["b"])
    assert ledger.reserve([charge("a")], Budget(max_tasks=1)) == ("a",)


def test_what_was_submitted_cannot_be_released(ledger):
    ledger.reserve([charge("a")])
    ledger.submitted({"a": "task-a"})

    with pytest.raises(InvalidCall, match=r"a is submitted .*it was bought"):
        ledger.release(["a"])


def test_a_bill_that_comes_later_replaces_the_figure_but_not_the_fate(ledger):
    ledger.reserve([charge("a")])
    ledger.settle("a", "completed")
    ledger.settle("a", "completed", usd=0.5, seconds=2.0)
    assert (ledger.cost().usd, ledger.cost().seconds) == (Decimal("0.5"), 2.0)

    with pytest.raises(KeyConflict, match="completed already; it cannot become failed"):
        ledger.settle("a", "failed")


@pytest.mark.parametrize(
    "act",
    [
        lambda ledger: ledger.intend(["nobody"]),
        lambda ledger: ledger.submitted({"nobody": "t"}),
        lambda ledger: ledger.settle("nobody", "completed"),
        lambda ledger: (ledger.reserve([charge("a")]), ledger.release(["a"]), ledger.intend(["a"])),
        lambda ledger: (ledger.reserve([charge("a")]), ledger.settle("a", "submitted")),
    ],
)
def test_steps_that_were_left_out_are_refused(ledger, act):
    with pytest.raises(InvalidCall):
        act(ledger)


def test_one_key_is_one_purchase(ledger):
    ledger.reserve([Charge("a", QPU, fingerprint="x")])
    for other in (Charge("a", SV1, fingerprint="x"), Charge("a", QPU, fingerprint="y")):
        with pytest.raises(KeyConflict, match="is not this one"):
            ledger.reserve([other])
    ledger.submitted({"a": "task-1"})
    ledger.submitted({"a": "task-1"})
    with pytest.raises(KeyConflict, match=r"task-1.*again as task-2"):
        ledger.submitted({"a": "task-2"})


# --- budgets


def test_all_or_nothing_is_reserved(ledger):
    with pytest.raises(BudgetExceeded):
        ledger.reserve([charge(str(n)) for n in range(4)], Budget(max_usd="1.19"))
    assert ledger.entries() == []

    ledger.reserve([charge(str(n)) for n in range(4)], Budget(max_usd="1.20"))
    assert len(ledger.entries()) == 4


def test_the_error_says_what_was_spent_reserved_and_asked_and_how_to_go_on(ledger):
    ledger.reserve([charge("a"), charge("b")])
    ledger.settle("a", "completed", 0.25)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.reserve(
            [charge("c"), charge("d")],
            Budget(max_usd=1, max_tasks=3, max_shots=100),
            session="s",
            session_budget=Budget(max_tasks=1),
            owner="job vqe",
            remedy="Do this.",
        )

    text = str(caught.value)
    assert "next 2 tasks on arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1" in text
    assert "The budget of job vqe has max_usd = 1.00: 0.25 spent + 0.30 reserved + 0.60 asked make 1.15." in text
    assert "max_tasks = 3: 1 spent + 1 reserved + 2 asked make 4" in text
    assert "max_shots" not in text
    assert "session 's' has max_tasks = 1: 0 spent + 0 reserved + 2 asked" in text
    assert text.endswith("Do this.\nTo go on, give session 's' more where it is made: Session('s', budget=...).")


@pytest.mark.parametrize(
    ("budget", "fits"),
    [
        (Budget(max_usd=0), False),
        (Budget(max_tasks=0), False),
        (Budget(max_shots=9), False),
        (Budget(max_shots=10), True),
        (Budget(max_time_s=2.9), False),
        (Budget(max_time_s=3), True),
        (Budget(), True),
        (None, True),
    ],
)
def test_each_limit_counts_what_it_names(ledger, budget, fits):
    wanted = [Charge("k", SV1, 1, 10, Decimal("0.01"), seconds=3.0)]
    if fits:
        ledger.reserve(wanted, budget)
    else:
        with pytest.raises(BudgetExceeded):
            ledger.reserve(wanted, budget)


def test_a_budget_of_zero_lets_through_what_costs_nothing(ledger):
    ledger.reserve([Charge("k", "hybridjobs.qubit")], Budget(max_usd=0))


def test_an_unknown_price_is_not_zero(ledger):
    mystery = Charge("k", "arn:aws:braket:mars::device/qpu/acme/One", usd=None)
    with pytest.raises(BudgetExceeded, match=r"price of arn:aws:braket:mars.* is not known.*HYBRIDJOBS_PRICES"):
        ledger.reserve([mystery], Budget(max_usd=1_000_000))

    ledger.reserve([mystery], Budget(max_tasks=1))
    assert (ledger.cost().unknown_tasks, ledger.cost().usd) == (1, 0)
    ledger.settle("k", "completed")
    assert (ledger.cost().unknown_tasks, ledger.entries()[0].usd) == (1, None)
    assert "price of 1 task is not known" in str(ledger.cost())
    ledger.settle("k", "completed", usd=2)
    assert (ledger.cost().unknown_tasks, ledger.cost().usd) == (0, 2)


def test_a_session_has_a_budget_of_its_own(ledger):
    ledger.reserve([charge("a")], session="one", session_budget=Budget(max_tasks=1))
    ledger.reserve([charge("b")], session="two", session_budget=Budget(max_tasks=1))
    with pytest.raises(BudgetExceeded, match="session 'one'"):
        ledger.reserve([charge("c")], session="one", session_budget=Budget(max_tasks=1))

    assert ledger.cost(session="one").tasks == 1


# --- sums


def test_the_cost_tells_estimates_from_final_figures_devices_and_kinds(ledger):
    ledger.reserve([charge("q"), Charge("s", SV1, 1, 0, Decimal("0.00375"), 3.0), charge("r")])
    ledger.settle("s", "completed", Decimal("0.005"), seconds=4.0)
    ledger.settle("r", "failed")
    cost = ledger.cost()

    assert (cost.usd_final, cost.usd_estimated, cost.usd, float(cost)) == (Decimal("0.005"), PRICE, Decimal("0.305"), 0.305)
    assert (cost.tasks, cost.shots, cost.seconds) == (3, 20, 4.0)
    assert {name: part.usd for name, part in cost.by_device.items()} == {QPU: PRICE, SV1: Decimal("0.005")}
    assert {name: part.tasks for name, part in cost.by_kind.items()} == {"qpu": 2, "simulator": 1}
    assert str(cost) == "0.305 USD (0.30 USD of it estimated), 3 tasks, 20 shots, 4 s"
    assert str(Cost()) == "nothing bought"


amounts = st.decimals(min_value=0, max_value=1000, places=9, allow_nan=False, allow_infinity=False)


@settings(max_examples=20)
@given(bought=st.lists(st.tuples(amounts, st.one_of(st.none(), amounts)), max_size=8))
def test_sums_are_exact(tmp_path_factory, bought):
    ledger = Ledger(tmp_path_factory.mktemp("sums") / "spend.sqlite")
    ledger.reserve([Charge(str(n), QPU, usd=estimate) for n, (estimate, _) in enumerate(bought)])
    ledger.settle_all([Settlement(str(n), State.COMPLETED, final) for n, (_, final) in enumerate(bought) if final is not None])
    cost = ledger.cost()
    ledger.close()

    assert cost.usd_final == sum((final for _, final in bought if final is not None), Decimal(0))
    assert cost.usd_estimated == sum((estimate for estimate, final in bought if final is None), Decimal(0))


@settings(max_examples=20)
@given(total=amounts, parts=st.integers(1, 30))
def test_a_cap_that_is_split_is_reached_to_the_last_billionth(tmp_path_factory, total, parts):
    """What is split into pieces and bought piece by piece fills the cap exactly, and a billionth more does not fit."""
    piece = (total / parts).quantize(Decimal("1e-9"), rounding="ROUND_FLOOR")
    pieces = [piece] * (parts - 1) + [total - piece * (parts - 1)]
    ledger, budget = Ledger(tmp_path_factory.mktemp("split") / "spend.sqlite"), Budget(max_usd=total)
    for number, usd in enumerate(pieces[:3]):
        ledger.reserve([Charge(str(number), QPU, usd=usd)], budget)
    ledger.reserve([Charge(f"rest {number}", QPU, usd=usd) for number, usd in enumerate(pieces[3:])], budget)
    with pytest.raises(BudgetExceeded):
        ledger.reserve([Charge("one more", QPU, usd=Decimal("1e-9"))], budget)
    assert ledger.cost().usd == total
    ledger.close()


# --- the file


def test_reading_a_ledger_that_is_not_there_makes_no_file(ledger):
    assert (ledger.cost(), ledger.entries(), ledger.find(["a"])) == (Cost(), [], {})
    assert not ledger.path.exists()


def test_two_hundred_tasks_are_one_durable_transaction(ledger):
    """SQLite syncs the write-ahead log once for each commit when synchronous is FULL (sqlite.org/pragma.html#pragma_synchronous)."""
    ledger.reserve([charge("first")])
    said: list[str] = []
    ledger._database.set_trace_callback(said.append)
    ledger.reserve([charge(str(number)) for number in range(200)], Budget(max_usd=100))
    ledger._database.set_trace_callback(None)

    assert [statement for statement in said if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK"))] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert ledger._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_copy_is_readable_even_on_a_read_only_disk(ledger, tmp_path):
    ledger.reserve([charge("a")])
    ledger.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(ledger.path, copy)
    copy.chmod(0o500)
    try:
        assert Ledger(copy / "spend.sqlite").cost().usd == PRICE
    finally:
        copy.chmod(0o700)


def test_a_damaged_ledger_is_refused_and_left_alone(ledger):
    ledger.path.write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)

    for act in (ledger.cost, lambda: ledger.reserve([charge("a")])):
        with pytest.raises(FolderCorrupt, match="is damaged"):
            act()
    assert b"rubbish" in ledger.path.read_bytes()


def test_a_ledger_of_a_newer_version_is_refused(ledger):
    database = sqlite3.connect(ledger.path)
    database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(FolderTooNew, match="newer version"):
        ledger.reserve([charge("a")])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "spend.sqlite").mkdir()

    with pytest.raises(StoreError, match=r"spend\.sqlite cannot be used"):
        Ledger(tmp_path / "spend.sqlite").reserve([charge("a")])


# --- many at once


def test_threads_share_a_ledger_and_a_cap(ledger):
    bought = []

    def buy(name):
        for number in range(10):
            try:
                ledger.reserve([charge(f"{name}-{number}")], Budget(max_tasks=25))
            except BudgetExceeded:
                return
            bought.append(number)

    threads = [threading.Thread(target=buy, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(bought) == len(ledger.entries()) == 25


def test_eight_processes_under_one_cap_never_exceed_it(ledger):
    cap = Decimal("18.00")
    racers = [buyer("race", ledger.path, name, cap) for name in "abcdefgh"]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    seen: list[Any] = []
    while any(racer.poll() is None for racer in racers):
        seen.append(ledger.cost().usd)
        time.sleep(0.005)
    bought = [int(racer.communicate()[0]) for racer in racers]

    assert max(seen) <= cap
    assert (ledger.cost().usd, ledger.cost().tasks, sum(bought)) == (cap, 60, 60)
    assert sum(count > 0 for count in bought) > 1, "there was no race"
    for name, count in zip("abcdefgh", bought, strict=True):
        assert Ledger(ledger.path.with_name(f"job-{name}.sqlite")).cost().tasks == count


# --- processes that die


def test_killed_before_any_statement_nothing_is_lost_or_counted_twice(tmp_path):
    """Each step is whole or has not happened, and doing it all again ends where an undisturbed run ends."""
    with buyer("die", tmp_path) as process:
        deaths = int(process.communicate()[0])
    assert deaths > 25
    seen: list[Any] = []
    for number in range(1, deaths + 2):
        ledger = Ledger(tmp_path / str(number) / "spend.sqlite")
        left = states(ledger)
        assert set(left) in (set(), set(KEYS))
        assert len(set(left.values())) <= 1
        assert ledger.cost().usd == PRICE * len(left)
        seen += set(left.values()) or {"nothing"}

        buy_three(ledger)
        assert states(ledger) == dict.fromkeys(KEYS, "completed")
        assert (ledger.cost().usd, ledger.cost().tasks) == (PRICE * 3, 3)
        ledger.close()

    assert list(dict.fromkeys(seen)) == ["nothing", "reserved", "submitting", "submitted", "completed"]


def _check_killed_at_random(path, pause_s):
    with buyer("forever", path) as process:
        first = process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        said = first + process.stdout.read()
    lines = [line.split() for line in said.splitlines() if len(line.split()) == 2]
    ledger = Ledger(path)
    found: dict[int, list[str]] = {}
    for entry in ledger.entries():
        found.setdefault(int(entry.key.split("-")[0]), []).append(str(entry.state))

    for word, number in lines:
        assert found[int(number)] == ["completed"] * 3 or (word == "reserved" and found[int(number)] == ["reserved"] * 3)
    assert len(found) <= len({number for _, number in lines}) + 1
    assert all(len(set(parts)) == 1 and len(parts) == 3 for parts in found.values())
    assert ledger.cost().usd == PRICE * 3 * len(found)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_what_was_acknowledged_is_there(tmp_path, seed):
    _check_killed_at_random(tmp_path / "spend.sqlite", random.Random(seed).uniform(0.0, 0.15))


@pytest.mark.torture_long
@pytest.mark.parametrize("seed", range(100))
def test_killed_at_random_a_hundred_times(tmp_path, seed):
    _check_killed_at_random(tmp_path / "spend.sqlite", random.Random(seed).uniform(0.0, 0.3))
