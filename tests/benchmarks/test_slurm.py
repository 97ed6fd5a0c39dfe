"""A job on an idle Slurm begins about when an empty script would; a thousand jobs are one array."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from pl_hybridjobs import hybrid_job, list_jobs
from pl_hybridjobs.jobs.local import LocalRunner
from pl_hybridjobs.slurm.runner import SlurmRunner
from tests.jobs import functions

TURNS = 7
ELEMENTS = 1000
pytestmark = [pytest.mark.timeout(1200), pytest.mark.usefixtures("slurm")]


def now() -> float:
    return time.time()


def delay_s(runner: LocalRunner | SlurmRunner) -> float:
    """From the call to the first line of the function."""
    begun = time.time()
    return float(hybrid_job(now, runner=runner)().result(120)) - begun


def delay_of_an_empty_script_s(folder: Path) -> float:
    """From ``sbatch`` to the script's first line."""
    told = folder / "told"
    told.unlink(missing_ok=True)
    begun = time.time()
    script = f"#!/bin/bash\ndate +%s.%N > {told}.new; mv {told}.new {told}\n"
    subprocess.run(["sbatch", "--output=/dev/null"], input=script, check=True, text=True, stdout=subprocess.DEVNULL)
    while not told.exists():
        time.sleep(0.005)
    return float(told.read_text()) - begun


def test_a_job_begins_within_a_second_and_a_half_of_an_empty_script_and_a_worker(report, tmp_path):
    delay_s(SlurmRunner())
    times: dict[str, list[float]] = {"empty script": [], "local": [], "slurm": []}
    for _ in range(TURNS):  # in turns: the machine has its moods
        times["empty script"].append(delay_of_an_empty_script_s(tmp_path))
        times["local"].append(delay_s(LocalRunner()))
        times["slurm"].append(delay_s(SlurmRunner()))
    medians = {name: statistics.median(several) for name, several in times.items()}
    for name, several in times.items():
        report(f"call to first line, {name}, median", medians[name], "s")
        report(f"call to first line, {name}, best", min(several), "s")

    assert medians["slurm"] < medians["empty script"] + medians["local"] + 1.5


def test_a_thousand_calls_are_submitted_and_listed_in_no_time(report):
    begun = time.perf_counter()
    sweep = hybrid_job(functions.add, runner=SlurmRunner(options=["--hold"])).map([{"a": a} for a in range(ELEMENTS)])
    submission_s = time.perf_counter() - begun
    times = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        jobs = list_jobs()
        times.append(time.perf_counter() - begun)
    report(f"f.map of {ELEMENTS} calls, submission", submission_s, "s")
    report(f"list of {ELEMENTS} waiting jobs, median", statistics.median(times), "s")
    report(f"list of {ELEMENTS} waiting jobs, first", times[0], "s")
    report("load average", os.getloadavg()[0], "")

    assert [str(job.status) for job in jobs[:3]] == ["queued"] * 3
    assert len(jobs) == len(sweep) == ELEMENTS
    assert submission_s < 5
    assert statistics.median(times) < 0.2
