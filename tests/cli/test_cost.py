"""What things cost, and budgets, on the command line."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from pl_hybridjobs import hybrid_job, open_job
from pl_hybridjobs.cli.commands import budget_set, cli
from pl_hybridjobs.cost.budget import Budget
from tests.jobs import buyers


@pytest.fixture
def shop(tmp_path):
    return str(tmp_path / "sales.txt")


def hj(*args: object, code: int = 0) -> str:
    """Run a command in this process, check its exit code, give what it printed."""
    done = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="hybridjobs")
    assert done.exit_code == code, done.output
    return done.output


def test_the_users_budget_is_set_shown_and_cleared(shop):
    assert "no limit" in hj("budget")
    assert "at most 3.50 USD" in hj("budget", "set", "--max-usd", "3.50")
    assert "at most 3.50 USD, 2 tasks" in hj("budget", "set", "--max-tasks", 2)
    hybrid_job(buyers.loop, runner="inline")(3, shop)

    shown = hj("budget")
    assert "at most 3.50 USD, 2 tasks" in shown
    assert "2.00 USD, 2 tasks, 20 shots" in shown
    told = json.loads(hj("budget", "--json"))
    assert told["budget"] == {"max_usd": "3.50", "max_tasks": 2}
    assert told["cost"]["by_device"][buyers.QPU]["usd"] == told["cost"]["usd"] == "2.00"

    hj("budget", "clear")
    assert json.loads(hj("budget", "--json"))["budget"] == {}


@pytest.mark.parametrize(
    ("limits", "said"),
    [([], "Give at least one limit"), (["--max-usd", "much"], "max_usd must be"), (["--max-tasks", "-1"], "max_tasks must be")],
)
def test_a_budget_that_is_none_is_refused(limits, said):
    assert said in hj("budget", "set", *limits, code=2)


def test_a_job_that_ran_out_is_shown_and_goes_on_with_more(shop):
    hybrid_job(buyers.loop, runner="inline", budget={"max_usd": 1})(2, shop)
    shown = hj("show", "loop")
    assert "interrupted  the budget ran out" in shown
    assert "1.00 USD, 1 task, 10 shots" in shown
    assert "max_usd=1.00" in shown

    hj("resume", "loop", "--max-usd", "2", "--detach")
    assert open_job("loop").result(60)["seen"] == [0, 1]
    assert json.loads(hj("show", "loop", "--json"))["cost"]["usd_final"] == "2.00"
    assert len(Path(shop).read_text().splitlines()) == 2


def test_run_takes_limits_and_plan_says_what_is_known(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def nothing():\n    return 0\n")
    hj("run", f"{script}:nothing", "--runner", "inline", "--detach", "--max-usd", "5", "--max-shots", "1000")
    assert open_job("nothing").budget == Budget(max_usd=5, max_shots=1000)

    planned = json.loads(hj("plan", f"{script}:nothing", "--device", buyers.QPU, "--json"))
    assert planned["cost"] is None
    assert planned["prices"] == [f"{buyers.QPU}: 0.30 USD a task + 0.08 USD a shot (as of 2026-09-11)"]


def test_a_plan_on_ones_own_machine_costs_nothing_and_names_the_budget():
    @hybrid_job(device="default.qubit", budget={"max_usd": 5})
    def nothing():
        return 0

    assert "cost: 0.00 USD\nbudget: at most 5.00 USD" in str(nothing.plan())


def test_what_was_bought_at_emulators_is_shown_apart_and_has_a_budget_of_its_own(shop, monkeypatch):
    hj("budget", "set", "--max-usd", "5")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BRAKET", "http://127.0.0.1:8555")
    assert "The budget at emulators is now at most 9.00 USD" in hj("budget", "set", "--max-usd", "9")
    hybrid_job(buyers.loop, runner="inline")(3, shop)

    told = json.loads(hj("budget", "--json"))
    assert (told["budget"], told["cost"]["usd"]) == ({"max_usd": "5.00"}, "0.00")
    assert (told["emulated"]["budget"], told["emulated"]["cost"]["usd"]) == ({"max_usd": "9.00"}, "3.00")
    shown = hj("budget")
    assert "nothing bought" in shown
    assert "3.00 USD, 3 tasks, 30 shots; nobody pays for it" in " ".join(shown.split())


def test_two_limits_that_are_set_at_once_both_stay(monkeypatch):
    from pl_hybridjobs.cost import account

    read, late = account.read_budget, threading.Event()

    def read_slowly(path):
        found = read(path)
        late.wait(0.3)  # time for the other one to change it
        return found

    monkeypatch.setattr(account, "read_budget", read_slowly)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_set, name, value) for name, value in (("max_usd", "5"), ("max_tasks", 2))]:
            done.result()

    assert read(account.budget_file()).to_json() == {"max_usd": "5.00", "max_tasks": 2}


def _set(name, value):
    """Without click's runner, which is not for threads."""
    limits = dict.fromkeys(("max_usd", "max_tasks", "max_shots", "max_time_s"))
    assert budget_set.callback is not None
    budget_set.callback(**{**limits, name: value})
