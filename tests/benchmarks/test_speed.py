"""The speeds that matter to a user, beside what they are compared with, in one run: ``pytest -m benchmark -s tests/benchmarks``.

Prints medians and ratios; asserts nothing about time, since machines differ.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pl_hybridjobs import hybrid_job, list_jobs
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
from pl_hybridjobs.jobs.durable import dump_sealed
from pl_hybridjobs.jobs.metrics import MetricWriter, read_metrics
from pl_hybridjobs.jobs.spec import JobSpec
from tests.jobs import functions

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]


def seconds(action: Callable[[], object], repeat: int = 7, warm: int = 1) -> float:
    """Median wall time of an action."""
    times = []
    for i in range(repeat + warm):
        begun = time.perf_counter()
        action()
        if i >= warm:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def say(what: str, measured: str, target: str) -> None:
    print(f"\n{what:<58} {measured:<34} target {target}", end="")


def now() -> float:
    return time.time()


def now_with_pennylane() -> float:
    import pennylane as qml

    assert qml.__version__
    return time.time()


def memory_mb() -> tuple[float, float]:
    """Resident memory of this worker and of its supervisor, MB."""

    def resident(pid: int) -> float:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    return resident(os.getpid()), resident(os.getppid())


def test_call_to_first_user_line():
    compileall.compile_dir(ROOT / "pl_hybridjobs", quiet=1)  # as an installation does
    python = [sys.executable, "-c"]
    bare = seconds(lambda: subprocess.run([*python, "pass"], check=True))
    imported = seconds(lambda: subprocess.run([*python, "import pennylane"], check=True), repeat=5)

    def delay(fn) -> float:
        begun = time.time()
        return hybrid_job(fn)().result(120) - begun

    own = statistics.median([delay(now) for _ in range(8)][1:])
    whole = statistics.median([delay(now_with_pennylane) for _ in range(6)][1:])
    say("start of a function that imports nothing, less bare python", f"{(own - bare) * 1e3:.0f} ms", "150 ms")
    say("start with pennylane / python -c 'import pennylane'", f"{whole:.2f} s / {imported:.2f} s = {whole / imported:.2f}", "1.25")


def test_the_call_itself():
    job_of = hybrid_job(functions.add)
    times = []
    for i in range(12):
        begun = time.perf_counter()
        job_of(i)
        times.append(time.perf_counter() - begun)
        time.sleep(0.6)  # the job itself must not compete for the cores
    say("f(...) returns (small function, warm)", f"{statistics.median(times[2:]) * 1e3:.1f} ms", "50 ms")


def test_log_metric(tmp_path):
    writer = MetricWriter(tmp_path / "metrics.jsonl")
    ours = seconds(lambda: writer.log("energy", -1.5), repeat=20000, warm=100)
    with (tmp_path / "log").open("w", buffering=1) as file:

        def braket() -> None:
            print(f"Metrics - timestamp={time.time()}; energy={-1.5}; iteration_number={3};", file=file)

        theirs = seconds(braket, repeat=20000, warm=100)
    writer.close()
    say("log_metric / Braket's printed line", f"{ours * 1e6:.1f} us / {theirs * 1e6:.1f} us = {ours / theirs:.2f}", "15 us")


def test_reading_a_million_points(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricWriter(path)
    for i in range(1_000_000):
        writer.log("train/loss" if i % 2 else "grad", i * 0.37)
    writer.close()
    rows = path.read_bytes().splitlines()[1:]

    def plain() -> None:
        for row in rows:
            json.loads(row)

    ours, theirs = seconds(lambda: read_metrics(path), repeat=5), seconds(plain, repeat=1, warm=0)
    say("a million points read / json.loads line by line", f"{ours:.2f} s / {theirs:.2f} s = {ours / theirs:.2f}", "1 s")


def test_listing_ten_thousand_jobs(jobs_home):
    first = hybrid_job(functions.add, runner="inline")(1)
    outcome = (first.folder / "outcome.json").read_bytes()
    for i in range(9_999):
        folder = first.folder.parent / f"20260101-000000-{i:08x}"
        (folder / "attempts").mkdir(parents=True, mode=0o700)
        spec: JobSpec = replace(first.spec, id=folder.name, name=f"job-{i}")
        (folder / "job.json").write_bytes(dump_sealed(spec.to_json()))
        (folder / "outcome.json").write_bytes(outcome)
    begun = time.perf_counter()
    assert len(list_jobs()) == 10_000
    rebuilt = time.perf_counter() - begun
    say("list_jobs with 10,000 jobs", f"{seconds(list_jobs) * 1e3:.0f} ms (index made anew: {rebuilt:.1f} s)", "100 ms")


def speak() -> None:
    for _ in range(20):
        time.sleep(0.1)
        print(time.time(), flush=True)


def test_following_a_log():
    job = hybrid_job(speak)()
    delays = [time.time() - float(line.split(" ")[1]) for line in job.logs(follow=True) if not line.split(" ")[1].startswith("-")]
    say("delay of a followed log line, median and worst", f"{statistics.median(delays):.2f} s, {max(delays):.2f} s", "0.3 s")


def test_a_durable_checkpoint_of_a_megabyte(tmp_path):
    data = np.random.default_rng(1).bytes(1_000_000)
    array = np.frombuffer(data, dtype=np.uint8)
    store = CheckpointStore(tmp_path / "checkpoints")

    def raw(parent: bool) -> None:
        temporary = tmp_path / "raw.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.rename(temporary, tmp_path / "raw")
        if parent:
            fd = os.open(tmp_path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

    ours, without, with_parent = [], [], []
    for _ in range(25):  # in turns: the disk has its moods
        ours.append(seconds(lambda: store.save(array), repeat=1, warm=0))
        without.append(seconds(lambda: raw(False), repeat=1, warm=0))
        with_parent.append(seconds(lambda: raw(True), repeat=1, warm=0))
    a, b, c = map(statistics.median, (ours, without, with_parent))
    say(
        "1 MB checkpoint / write+fsync+rename (+fsync of the parent)",
        f"{a * 1e3:.1f} / {b * 1e3:.1f} ({c * 1e3:.1f}) ms = {a / b:.2f} ({a / c:.2f})",
        "1.5",
    )


def test_memory_of_a_worker():
    code = "import os; print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6)"
    bare = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    worker, supervisor = hybrid_job(memory_mb)().result(60)
    say("worker above bare python; its supervisor", f"{worker - bare:.0f} MB; {supervisor:.0f} MB", "30 MB")
