"""Jobs that cost money: they stop at their budget, go on when it was raised, and say what they cost at any time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pl_hybridjobs import Budget, Job, Status, hybrid_job, open_job
from pl_hybridjobs.cost.account import of_user
from pl_hybridjobs.errors import BudgetExceeded, InvalidCall, JobFailed, JobInterrupted
from pl_hybridjobs.jobs.context import JobContext
from pl_hybridjobs.jobs.folder import JobFolder
from tests.house.source import ROOT
from tests.jobs import buyers

WAIT_S = 60


@pytest.fixture
def shop(tmp_path):
    return str(tmp_path / "sales.txt")


def sales(shop):
    return Path(shop).read_text().splitlines()


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in {*one, *other})


def inline(function, **options):
    return hybrid_job(function, runner="inline", **options)


@pytest.mark.parametrize("function", [buyers.loop, buyers.descend])
def test_a_loop_stops_at_its_budget_and_goes_on_to_the_same_bits_when_it_was_raised(function, shop, tmp_path):
    job = inline(function, budget=Budget(max_usd=3))(6, shop)
    with pytest.raises(
        BudgetExceeded, match=r"job .* has max_usd = 3\.00: 3\.00 spent \+ 0\.00 reserved \+ 1\.00 asked make 4\.00"
    ) as caught:
        job.result(WAIT_S)
    assert isinstance(caught.value, JobInterrupted)
    assert "checkpoints are kept" in str(caught.value)
    assert "job.resume(budget=" in str(caught.value)
    assert job.status is Status.INTERRUPTED
    assert "budget ran out" in job.state().detail
    assert [checkpoint.step for checkpoint in job.checkpoints() if checkpoint.good][-1] == 3
    assert (job.cost.usd_final, job.cost.tasks) == (3, 3)

    assert job.resume(budget={"max_usd": 100}) == job
    undisturbed = function(6, str(tmp_path / "other"))
    assert same(job.result(WAIT_S), undisturbed)
    assert (job.cost.usd_final, job.cost.usd_estimated) == (6, 0)
    assert len(sales(shop)) == len(set(sales(shop))) == 6
    assert job.metrics().steps(job.metrics().names[0]).tolist() == list(range(6))
    assert job.attempt == 2


def test_out_of_money_in_a_callback_of_jax_it_is_interrupted_all_the_same(shop):
    job = inline(buyers.in_a_callback, budget={"max_usd": 2}, retries={"errors": 1, "backoff_s": 0.01})(4, shop)
    with pytest.raises(BudgetExceeded, match=r"2\.00 spent \+ 0\.00 reserved \+ 1\.00 asked"):
        job.result(WAIT_S)
    assert (job.status, job.attempt) == (Status.INTERRUPTED, 1)

    assert job.resume(budget={"max_usd": 4}).result(WAIT_S) == 6
    assert len(sales(shop)) == 4


def test_asked_to_stop_in_a_callback_of_jax_it_is_interrupted_all_the_same(shop):
    job = inline(buyers.in_a_callback)(3, shop, stop_at=1)
    with pytest.raises(JobInterrupted):
        job.result(WAIT_S)

    assert job.resume().result(WAIT_S) == 3


def test_a_job_of_its_own_process_stops_and_goes_on(shop, jobs_home):
    job = hybrid_job(buyers.own_checkpoints, budget={"max_tasks": 2}, retries={"interruptions": 2, "errors": 2, "backoff_s": 0.05})(4, shop)
    with pytest.raises(BudgetExceeded, match="max_tasks = 2"):
        job.result(WAIT_S)
    assert job.attempt == 1, "waiting does not help against an empty purse"
    assert "BudgetExceeded" in job.logs()

    again = open_job(job.name)
    assert again.resume(budget=Budget(max_tasks=4)).result(WAIT_S) == 2
    assert len(sales(shop)) == 4
    assert of_user(jobs_home).cost().usd == job.cost.usd == 4


def test_a_worker_that_is_killed_in_a_purchase_loses_nothing_and_buys_nothing_twice(shop, jobs_home):
    job = hybrid_job(buyers.die_once, budget={"max_usd": 5}, retries={"interruptions": 1, "backoff_s": 0.01})(4, shop, at=2)

    assert job.result(WAIT_S) == "done"
    assert len(sales(shop)) == 4
    user = of_user(jobs_home).cost()
    assert job.cost.usd_final == user.usd_final == job.cost.tasks == 4
    assert user.tasks == 4, "the half reservation was given back"


def test_the_users_budget_stops_jobs_too(shop, jobs_home):
    jobs_home.mkdir(exist_ok=True)
    (jobs_home / "budget.json").write_text(json.dumps({"max_usd": "3"}))
    assert inline(buyers.own_checkpoints)(2, shop).result(0) == 0

    second = inline(buyers.own_checkpoints)(2, f"{shop}2")
    with pytest.raises(BudgetExceeded, match=r"budget of the user has max_usd = 3\.00"):
        second.result(0)
    assert second.cost.tasks == 1
    assert len(sales(shop)) + len(sales(f"{shop}2")) == 3


def test_a_budget_of_zero_buys_nothing(shop):
    job = inline(buyers.loop, budget={"max_usd": 0})(2, shop)

    with pytest.raises(BudgetExceeded, match=r"max_usd = 0\.00"):
        job.result(0)
    assert job.cost.tasks == 0
    assert job.resume(budget={"max_usd": 2}).result(0)["seen"] == [0, 1]


def test_limits_that_resume_does_not_name_stay(shop):
    job = inline(buyers.loop, budget=Budget(max_usd=1, max_tasks=2))(4, shop)
    job.resume(budget={"max_usd": 10})

    assert job.budget == Budget(max_usd=10, max_tasks=2)
    assert job.cost.tasks == 2
    with pytest.raises(BudgetExceeded, match="max_tasks = 2"):
        job.result(0)


@pytest.mark.parametrize("wrong", [5, {"max_usb": 5}, {"max_usd": -1}])
def test_resume_refuses_what_is_no_budget(shop, wrong):
    job = inline(buyers.loop, budget={"max_usd": 0})(1, shop)

    with pytest.raises(InvalidCall, match="budget"):
        job.resume(budget=wrong)
    assert job.attempt == 1


def test_a_failed_job_goes_on_as_a_new_one_with_the_same_purse(shop, jobs_home):
    failed = inline(buyers.fail_after, budget={"max_usd": 3})(3, shop)
    with pytest.raises(JobFailed, match="broken"):
        failed.result(0)
    Path(f"{shop}.mended").touch()
    new = failed.resume()

    assert new.id != failed.id
    assert new.result(0) == "mended"
    assert len(sales(shop)) == 3
    assert new.cost.usd == failed.cost.usd == of_user(jobs_home).cost().usd == 3
    assert new.budget == Budget(max_usd=3)


def test_two_do_not_go_on_with_one_purse(shop):
    failed = inline(buyers.fail_after, budget={"max_usd": 3})(3, shop)
    new = failed.resume()
    assert new.status is Status.FAILED

    for job in (failed, Job(failed.folder)):
        with pytest.raises(InvalidCall, match=f"goes on as {new.name} already, which is failed"):
            job.resume()
    Path(f"{shop}.mended").touch()
    assert new.resume().result(0) == "mended"
    assert len(sales(shop)) == 3


def test_the_cost_is_in_the_folder_for_any_process_and_any_copy(shop, tmp_path):
    job = inline(buyers.loop)(2, shop)
    copy = shutil.copytree(job.folder, tmp_path / "a copy")
    code = "import sys, pathlib; from pl_hybridjobs import Job; print(Job(pathlib.Path(sys.argv[1])).cost)"
    told = subprocess.run([sys.executable, "-c", code, str(copy)], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert told == f"{Job(copy).cost}\n" == "2.00 USD, 2 tasks, 20 shots\n"
    assert job.cost.by_device[buyers.QPU].usd == job.cost.by_kind["qpu"].usd == Decimal(2)


def test_a_job_that_buys_nothing_costs_nothing_and_has_no_ledger(tmp_path):
    job = inline(buyers.own_checkpoints)(0, "")

    assert (job.cost.usd, str(job.cost)) == (0, "nothing bought")
    assert not (job.folder / "spend.sqlite").exists()


def test_a_process_that_a_job_starts_pays_from_the_jobs_purse(shop):
    poor, rich = (inline(buyers.buy_in_a_child, budget={"max_tasks": tasks}) for tasks in (0, 1))

    assert poor(shop).result(0) == 1
    job = rich(shop)
    assert (job.result(0), job.cost.tasks) == (0, 1)


def test_f_inline_raises_the_error_itself(shop):
    with pytest.raises(BudgetExceeded) as caught:
        hybrid_job(buyers.loop, budget={"max_tasks": 1}).inline(2, shop)

    assert type(caught.value) is BudgetExceeded


def test_threads_that_ask_at_once_get_the_same_account(shop):
    job = inline(buyers.loop)(0, shop)
    folder = JobFolder(job.folder)
    context = JobContext(folder, folder.spec(), 1)
    start = threading.Barrier(8)
    found: list[int] = []

    def ask():
        start.wait()
        found.append(id(context.account))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    context.close()


def test_with_options_changes_the_budget(shop):
    poor = inline(buyers.loop, budget={"max_tasks": 0})

    assert poor.with_options(budget=Budget(max_tasks=1))(1, shop).result(0)["seen"] == [0]
