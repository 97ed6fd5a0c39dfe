"""Accounts: all of them agree, or nothing is bought."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Cost, Ledger
from pl_hybridjobs.cost.prices import plain
from pl_hybridjobs.errors import BudgetExceeded, Fenced, FolderCorrupt, JobStopRequested
from tests.cost.buyer import PRICE, charge


@pytest.fixture
def family(tmp_path):
    """The user's account and two jobs' below it."""
    user = Account("the user", Ledger(tmp_path / "user.sqlite"), Budget(max_tasks=3))
    jobs = [Account(f"job {n}", Ledger(tmp_path / f"{n}.sqlite"), Budget(max_tasks=2), (user,), namespace=n) for n in "ab"]
    yield user, *jobs
    for one in (user, *jobs):
        one.ledger.close()


def test_what_a_job_buys_counts_for_the_user_too(family):
    user, job, _ = family
    job.reserve([charge("1"), charge("2")])
    job.intend(["1", "2"])
    job.submitted({"1": "task-1"})
    job.settle("1", "completed", 0.25)
    job.release(["2"])

    assert job.cost().usd == user.cost().usd == Decimal("0.25")
    assert job.find(["1"])["1"].task_id == "task-1"


def test_if_one_account_refuses_none_is_charged(family):
    user, one, other = family
    with pytest.raises(BudgetExceeded, match="budget of job a has max_tasks = 2"):
        one.reserve([charge("1"), charge("2"), charge("3")])
    assert user.cost() == one.cost() == Cost()

    one.reserve([charge("1"), charge("2")])
    with pytest.raises(BudgetExceeded, match="budget of the user has max_tasks = 3: 0 spent \\+ 2 reserved \\+ 2 asked make 4"):
        other.reserve([charge("3"), charge("4")])
    assert other.cost() == Cost()
    assert user.cost().tasks == 2


def test_the_accounts_above_catch_up_with_a_journal_that_went_on_without_them(family):
    """As after a kill between two files: settled in the journal only, and reserved above only."""
    user, job, other = family
    other.reserve([charge("x")])
    job.reserve([charge("1"), charge("2")])
    job.ledger.settle("1", "completed", 0.25)
    job.ledger.release(["2"])
    user.ledger.reserve([charge("3")], namespace="a")
    assert user.cost().tasks == 4

    job.catch_up()

    assert job.cost().usd == Decimal("0.25")
    assert user.cost().usd == Decimal("0.25") + other.cost().usd
    before = user.ledger.entries()
    job.catch_up()
    assert user.ledger.entries() == before


def test_an_old_journal_does_not_undo_what_a_newer_one_told(family, tmp_path):
    """A job goes on with a copy of an ended one's purchases: from then on the copy is what counts."""
    user, old, _ = family
    old.reserve([charge("1")])
    old.ledger.copy(tmp_path / "copy.sqlite")
    new = Account("job new", Ledger(tmp_path / "copy.sqlite"), parents=(user,), namespace="a", owner="new")
    new.settle("1", "completed", 0.25)
    new.reserve([charge("2")])

    old.catch_up()

    assert user.cost().usd_final == Decimal("0.25")
    assert user.cost().tasks == 2
    assert (new.cost().tasks, old.cost().tasks) == (2, 1)
    new.close()


def test_a_clock_that_goes_back_hides_nothing_from_the_accounts_above(family, monkeypatch):
    user, job, _ = family
    clock = iter(range(2000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    job.reserve([charge("1"), charge("2")])
    job.intend(["1"])
    job.release(["2"])
    job.reserve([charge("2")])
    assert user.find(["2"])["2"].state == "reserved"
    job.submitted({"1": "task-1"})
    job.ledger.settle("1", "completed", 0.25)
    job.release(["2"])

    job.catch_up()

    assert {key: str(entry.state) for key, entry in user.find(["1", "2"]).items()} == {"1": "completed", "2": "released"}
    assert user.cost().usd == Decimal("0.25")


def test_a_child_that_is_about_to_write_its_journal_is_not_forgotten(family):
    """The job's first process may catch up when one that it started is between two files."""
    user, job, _ = family
    user.ledger.reserve([charge("of an attempt that was killed")], namespace="a")
    began = time.time()
    user.ledger.reserve([charge("of a child")], namespace="a")

    job.catch_up(began)

    assert {entry.key: str(entry.state) for entry in user.ledger.entries()} == {
        "of an attempt that was killed": "released",
        "of a child": "reserved",
    }


def test_a_process_that_lost_its_job_may_not_buy(family):
    user, job, _ = family

    def fenced():
        raise RuntimeError("a newer attempt owns the job")

    lost = Account(job.name, job.ledger, parents=(user,), guard=fenced)
    with pytest.raises(RuntimeError, match="newer attempt"):
        lost.reserve([charge("1")])
    assert user.cost() == Cost()


def test_a_process_that_lost_its_job_gives_nothing_back_that_a_newer_one_may_have_sent(family):
    user, job, _ = family

    def fenced():
        raise RuntimeError("a newer attempt owns the job")

    job.reserve([charge("1")])
    job.intend(["1"])
    with pytest.raises(RuntimeError, match="newer attempt"):
        replace(job, guard=fenced).release(["1"])
    assert [account.find(["1"])["1"].state for account in (job, user)] == ["submitting", "reserved"]


def test_a_raised_budget_counts_at_once(tmp_path):
    limit = Budget(max_tasks=0)
    mine = Account("me", Ledger(tmp_path / "l.sqlite"), lambda: limit)
    with pytest.raises(BudgetExceeded):
        mine.reserve([charge("1")])
    limit = Budget(max_tasks=1)
    mine.reserve([charge("1")])
    mine.ledger.close()


def test_outside_a_job_the_user_pays_with_the_budget_of_the_home_folder(jobs_home):
    jobs_home.mkdir()
    (jobs_home / "budget.json").write_text(json.dumps({"max_usd": "0.50"}))
    mine = accounts.current()
    mine.reserve([charge("1")])

    with pytest.raises(BudgetExceeded, match=r"budget of the user has max_usd = 0\.50.*(?s:.*)hybridjobs budget set"):
        accounts.current().reserve([charge("2")])
    assert mine.ledger.path == jobs_home / "spend.sqlite"
    assert accounts.current().namespace == mine.namespace != ""
    mine.ledger.close()


@pytest.mark.parametrize("content", ["{", '{"max_usd": "-3"}', "[]"])
def test_a_budget_file_that_cannot_be_read_stops_all_buying(jobs_home, content):
    jobs_home.mkdir()
    (jobs_home / "budget.json").write_text(content)

    with pytest.raises(FolderCorrupt, match=r"budget\.json"):
        accounts.current().reserve([charge("1")])


def _job_folder(path, budget):
    path.mkdir(parents=True)
    (path / "job.json").write_text(json.dumps({"id": "job-1", "name": "vqe", "budget": budget}))
    return path


def test_a_jobs_account_is_what_its_folder_says(tmp_path):
    folder = _job_folder(tmp_path / "elsewhere", {"max_usd": "0.30", "max_tasks": 5})
    job = accounts.of_job(folder)
    assert (job.name, job.namespace, job.limits) == ("job vqe", "job-1", Budget(max_usd="0.30", max_tasks=5))
    job.reserve([charge("1")])
    with pytest.raises(BudgetExceeded, match=r"hybridjobs resume vqe --max-usd"):
        job.reserve([charge("2")])

    (folder / "budget.json").write_text(json.dumps({"max_usd": "0.60"}))
    job.reserve([charge("2")])
    assert job.limits == Budget(max_usd="0.60", max_tasks=5)
    job.ledger.close()


def test_an_account_is_active_in_all_threads(tmp_path):
    mine = Account("me", Ledger(tmp_path / "l.sqlite"))
    seen = []
    with accounts.activate(mine):
        thread = threading.Thread(target=lambda: seen.append(accounts.current()))
        thread.start()
        thread.join()

        assert seen == [accounts.current()] == [mine]
    assert accounts.current().name == "the user"


def test_a_process_that_a_job_started_pays_from_the_jobs_account(tmp_path, jobs_home):
    folder = _job_folder(tmp_path / "job", {"max_tasks": 1})
    code = (
        "from pl_hybridjobs.cost import account; from tests.cost.buyer import charge; "
        "account.current().reserve([charge('1')]); account.current().reserve([charge('2')])"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HYBRIDJOBS_JOB_FOLDER": str(folder)}, capture_output=True, text=True
    )

    assert "budget of job vqe has max_tasks = 1" in child.stderr
    assert accounts.of_job(folder).cost().usd == accounts.of_user(jobs_home).cost().usd == PRICE


@pytest.mark.parametrize("ended", ["attempts/2/x", "outcome.json"])
def test_a_process_that_an_older_attempt_started_buys_nothing_any_more(tmp_path, jobs_home, monkeypatch, ended):
    folder = _job_folder(tmp_path / "job", {})
    monkeypatch.setenv("HYBRIDJOBS_JOB_FOLDER", str(folder))
    monkeypatch.setenv("HYBRIDJOBS_ATTEMPT", "1")
    accounts.current().reserve([charge("1")])
    (folder / ended).parent.mkdir(parents=True, exist_ok=True)
    (folder / ended).touch()

    with pytest.raises(Fenced, match="must not buy any more"):
        accounts.current().reserve([charge("2")])
    assert accounts.of_job(folder).cost().tasks == 1


def test_a_process_that_a_cancelled_job_started_does_not_wait_for_its_tasks(tmp_path, jobs_home, monkeypatch):
    folder = _job_folder(tmp_path / "job", {})
    monkeypatch.setenv("HYBRIDJOBS_JOB_FOLDER", str(folder))
    stop = accounts.current().stop
    assert stop is not None
    stop()

    (folder / "cancel.json").touch()
    with pytest.raises(JobStopRequested, match="is cancelled"):
        stop()


EMULATOR = {
    "AWS_ACCESS_KEY_ID": "emulated",
    "AWS_ENDPOINT_URL_BRAKET": "http://127.0.0.1:8555",
}


@pytest.mark.parametrize(
    ("changed", "is_emulated"),
    [
        ({}, True),
        ({"AWS_ACCESS_KEY_ID": "AKIA1234"}, False),
        ({"AWS_ENDPOINT_URL_BRAKET": "https://braket.us-east-1.amazonaws.com"}, False),
        ({"AWS_ENDPOINT_URL_BRAKET": ""}, False),
    ],
    ids=["an emulator's", "a real key", "Amazon's address", "no address"],
)
def test_only_what_an_emulator_sells_is_not_counted_for_the_user(jobs_home, monkeypatch, changed, is_emulated):
    for name in ("AWS_ENDPOINT_URL", "BRAKET_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**EMULATOR, **changed}.items():
        monkeypatch.setenv(name, value)

    accounts.of_user().reserve([charge("bought")])

    real, pretended = accounts.of_user(emulated=False).cost().usd, accounts.of_user(emulated=True).cost().usd
    assert (pretended if is_emulated else real) == PRICE
    assert real + pretended == PRICE


def test_an_emulators_purchases_do_not_use_up_the_users_budget(jobs_home, monkeypatch):
    jobs_home.mkdir()
    accounts.budget_file().write_text(json.dumps({"max_usd": plain(PRICE)}))
    for name, value in EMULATOR.items():
        monkeypatch.setenv(name, value)
    accounts.of_user().reserve([charge("1"), charge("2")])
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")

    accounts.of_user().reserve([charge("1")])
    with pytest.raises(BudgetExceeded, match="the user has max_usd"):
        accounts.of_user().reserve([charge("2")])
