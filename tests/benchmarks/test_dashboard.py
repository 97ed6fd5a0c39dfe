"""The dashboard with a thousand jobs, and with a million points."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser

from pl_hybridjobs.dashboard import dashboard
from pl_hybridjobs.dashboard.watch import Watcher
from pl_hybridjobs.jobs.durable import dump_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metrics import MetricWriter
from tests.dashboard.conftest import chromium  # noqa: F401 - a fixture
from tests.dashboard.folders import make

Report = Callable[[str, float, str], None]
_JOBS = 1000
_POINTS = 1_000_000


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a thousand ended jobs of 100 points, made by copying one."""
    home = tmp_path_factory.mktemp("thousand")
    first = make(home, "job", metrics={"energy": [1 / (i + 1) for i in range(100)]}, params={"steps": 100}, device="hybridjobs.qubit")
    spec, now = first.spec().to_json(), time.time()
    for number in range(1, _JOBS):
        folder = JobFolder(home / "jobs" / f"{first.path.name}-{number:04}")
        folder.attempt(1).path.mkdir(parents=True)
        changed = {**spec, "id": folder.path.name, "name": f"job-{number}", "created": now - number}
        folder.spec_file.write_bytes(dump_sealed(changed))
        for path in (first.metrics, first.outcome, first.attempt(1).lease, first.attempt(1).log):
            (folder.path / path.relative_to(first.path)).write_bytes(path.read_bytes())
    return home


def _million(home: Path) -> JobFolder:
    """A job with a million points of one metric."""
    folder = make(home, "long", ended=None)
    writer = MetricWriter(folder.metrics)
    values = (np.sin(np.arange(_POINTS) / 5000) + np.random.default_rng(1).normal(size=_POINTS) / 20).tolist()
    for start in range(0, _POINTS, 1000):
        writer._held = [
            ([("energy", '"energy"', value)], step, 1e9 + step) for step, value in enumerate(values[start : start + 1000], start)
        ]
        writer.flush()
    writer.close()
    return folder


def test_looking_at_a_thousand_jobs(report: Report, thousand: Path) -> None:
    begin = time.perf_counter()
    watcher = Watcher(thousand)

    async def first(begin: float) -> float:
        events = watcher.events()
        async for event in events:
            if event and event["ready"]:
                break
        await events.aclose()  # type: ignore[attr-defined] # it is a generator
        return time.perf_counter() - begin

    report("1,000 jobs: all rows, first time", 1000 * asyncio.run(first(begin)), "ms")
    report("1,000 jobs: all rows, for a further page", 1000 * asyncio.run(first(time.perf_counter())), "ms")
    looks = []
    for _ in range(20):
        begin = time.perf_counter()
        watcher._look()
        looks.append(time.perf_counter() - begin)
    watcher.close()
    report("1,000 ended jobs: one look", 1000 * statistics.median(looks), "ms")


def test_a_page_of_a_thousand_jobs(report: Report, thousand: Path, chromium: Browser) -> None:  # noqa: F811
    page = chromium.new_page()
    with dashboard(thousand) as running:
        begin = time.perf_counter()
        page.goto(running.url)
        page.locator(".jobs tbody tr").first.wait_for()
        report("1,000 jobs: opened in Chromium, first rows", 1000 * (time.perf_counter() - begin), "ms")
        page.locator(".chip", has_text=f"all {_JOBS}").wait_for()  # by its role it would take Playwright seconds
        report("1,000 jobs: opened in Chromium, all counted", 1000 * (time.perf_counter() - begin), "ms")
        page.locator(".jobs svg.spark").nth(10).wait_for()
        script = """() => { const filter = document.getElementById("filter"); const times = [];
            for (const text of ["j", "jo", "job", "job-", "job-9", "job-99", ""]) { const begin = performance.now(); filter.value = text;
                filter.dispatchEvent(new Event("input")); document.body.offsetHeight; times.push(performance.now() - begin); }
            return Math.max(...times); }"""
        report("1,000 jobs: slowest of 7 keystrokes in the filter", page.evaluate(script), "ms")
    page.close()


def test_a_million_points(report: Report, jobs_home: Path, chromium: Browser) -> None:  # noqa: F811
    folder = _million(jobs_home)
    ask: dict[str, str | float] = {"job": folder.path.name, "name": "energy", "columns": 800}
    with dashboard(jobs_home) as running:
        base, _, token = running.url.partition("/?token=")
        with httpx.Client(base_url=base, timeout=60) as client:
            client.get("/", params={"token": token})

            def asked(**more: str | float) -> tuple[float, int]:
                begin = time.perf_counter()
                answer = client.get("/api/series", params=ask | more)
                return 1000 * (time.perf_counter() - begin), len(answer.content)

            report("1,000,000 points: first curve", asked()[0], "ms")
            times, sizes = zip(*(asked() for _ in range(5)), strict=True)
            report("1,000,000 points: again", statistics.median(times), "ms")
            report("1,000,000 points: the answer", sizes[0] / 1000, "kB")
            report("1,000,000 points: zoomed in", statistics.median(asked(**{"from": 4e5, "to": 4.1e5})[0] for _ in range(5)), "ms")
            report("1,000,000 points: smoothed", statistics.median(asked(smooth=0.99)[0] for _ in range(5)), "ms")
            writer = MetricWriter(folder.metrics)
            grown = []
            for step in range(5):
                writer.log("energy", 0.0, _POINTS + step)
                time.sleep(1.2)  # beyond the pause that is kept between two looks
                grown.append(asked()[0])
            writer.close()
            report("1,000,000 points and one more: the new curve", statistics.median(grown), "ms")
        page = chromium.new_page()
        page.goto(running.url)
        begin = time.perf_counter()
        page.evaluate("id => { location.hash = `#/job/${id}`; }", folder.path.name)
        page.locator(".u-over").wait_for()
        report("1,000,000 points: drawn in Chromium", 1000 * (time.perf_counter() - begin), "ms")
        page.close()
