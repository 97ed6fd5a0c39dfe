"""What a page is told, and when."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pl_hybridjobs.braket.runner import BraketRunner
from pl_hybridjobs.dashboard.watch import Watcher
from pl_hybridjobs.jobs import outcome
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State
from tests.dashboard.folders import log_metrics, make, write_log


@pytest.fixture
def watcher(jobs_home):
    made = Watcher(jobs_home)
    yield made
    made.close()


class Told:
    """A page's picture of the jobs, made from events alone."""

    def __init__(self, watcher: Watcher) -> None:
        self._events = watcher.events()
        self.rows: dict[str, Any] = {}
        self.events = 0
        self.ready = False

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        while not condition(self.rows):
            event = await asyncio.wait_for(anext(self._events), 20)
            assert event is not None
            self.events += 1
            self.ready = event["ready"]
            if event.get("whole"):
                self.rows = {}
            self.rows |= {row["id"]: row for row in event["rows"]}
            for job_id in event["gone"]:
                del self.rows[job_id]

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined] # it is a generator


def told(watcher: Watcher, story: Callable[[Told], Any]) -> None:
    async def run() -> None:
        page = Told(watcher)
        with contextlib.suppress(StopAsyncIteration):
            await story(page)
        await page.close()

    asyncio.run(run())


def test_a_page_sees_jobs_come_grow_end_and_go(watcher, jobs_home):
    async def story(page):
        await page.until(lambda rows: page.ready and rows == {})
        folder = make(jobs_home, "vqe", ended=None, tags={"a": "b"}, device="hybridjobs.qubit")
        job_id = folder.path.name
        await page.until(lambda rows: rows.get(job_id, {}).get("status") == "running")
        assert page.rows[job_id]["tags"] == {"a": "b"}
        assert page.rows[job_id]["can_cancel"]
        assert not page.rows[job_id]["can_resume"]

        log_metrics(folder, {"energy": [1.0]})
        await page.until(lambda rows: rows[job_id]["marks"]["metrics"] == folder.metrics.stat().st_size)
        write_log(folder, ["hello"])
        await page.until(lambda rows: rows[job_id]["marks"]["log"] > 0)
        outcome.commit_value(folder, 1, 5)
        await page.until(lambda rows: rows[job_id]["status"] == "completed")
        assert page.rows[job_id]["ended"] >= page.rows[job_id]["started"]
        shutil.rmtree(folder.path)
        await page.until(lambda rows: rows == {})

    told(watcher, story)


def test_a_page_that_comes_later_gets_all_jobs_at_once(watcher, jobs_home):
    made = {make(jobs_home, f"job-{i}", age_s=i).path.name for i in range(5)}

    async def story(page):
        await page.until(lambda rows: rows.keys() == made)
        later = Told(watcher)
        await later.until(lambda rows: rows.keys() == made)
        assert later.events == 1
        await later.close()

    told(watcher, story)


def test_a_slow_page_gets_the_newest_state_only(watcher, jobs_home):
    async def story(page):
        await page.until(lambda rows: page.ready)
        before = page.events
        folder = make(jobs_home, ended=None)
        fast = Told(watcher)
        for count in range(1, 4):  # one page reads all, the other sleeps
            write_log(folder, [f"line {count}"])
            await fast.until(
                lambda rows: rows.get(folder.path.name, {}).get("marks", {}).get("log") == folder.attempt(1).log.stat().st_size
            )
        await fast.close()
        await page.until(bool)
        assert page.events == before + 1
        assert page.rows[folder.path.name]["marks"]["log"] == folder.attempt(1).log.stat().st_size

    told(watcher, story)


def test_a_damaged_folder_is_a_row_that_says_so(watcher, jobs_home):
    good, bad = make(jobs_home, "good", age_s=1), make(jobs_home, "bad", age_s=2)
    bad.spec_file.write_text("{")
    (jobs_home / "jobs" / "notes.txt").touch()

    async def story(page):
        await page.until(lambda rows: len(rows) == 3)
        assert page.rows[good.path.name]["status"] == "completed"
        assert page.rows[bad.path.name]["status"] == "unknown"
        assert "damaged" in page.rows[bad.path.name]["detail"]
        assert not page.rows[bad.path.name]["can_resume"]
        assert page.rows["notes.txt"]["detail"].endswith("is no job folder: it has no job.json.")

    told(watcher, story)


class ForgetfulRunner:
    """A plug-in with a defect."""

    name = "forgetful"

    def complaints(self, spec):
        return []

    def start(self, folder, digest, cause): ...

    def observe(self, folder):
        raise KeyError("region")

    def cancel(self, folder, grace_s): ...


def test_a_runner_with_a_defect_hides_no_other_job(watcher, jobs_home, monkeypatch):
    monkeypatch.setitem(runners._OURS, "forgetful", f"{__name__}:ForgetfulRunner")
    good, bad = make(jobs_home, "good", age_s=2), make(jobs_home, "bad", age_s=1, runner="forgetful")

    async def story(page):
        await page.until(lambda rows: len(rows) == 2)
        assert page.rows[good.path.name]["status"] == "completed"
        assert page.rows[bad.path.name]["status"] == "unknown"
        assert page.rows[bad.path.name]["detail"] == "KeyError: 'region'"

    told(watcher, story)


def test_pages_may_open_at_any_moment_of_the_first_look(jobs_home):
    folder = make(jobs_home)
    for number in range(200):
        shutil.copytree(folder.path, jobs_home / "jobs" / f"copy-{number:03}")
    watcher = Watcher(jobs_home)

    async def opened():
        page = Told(watcher)
        await page.until(lambda rows: page.events == 1)
        await page.close()
        return page.ready

    async def story(_):
        while not await opened():
            pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        told(watcher, story)
    finally:
        sys.setswitchinterval(before)
        watcher.close()


def test_nobody_looks_while_no_page_is_open(watcher, jobs_home, monkeypatch):
    while not watcher._is_ready:  # the first look is made in advance
        time.sleep(0.01)
    looked = threading.Event()
    monkeypatch.setattr(watcher, "_look", looked.set)
    watcher.nudge()

    async def story(page):
        assert not looked.wait(0.2)
        await page.until(lambda rows: page.events == 1)
        assert looked.wait(20)

    told(watcher, story)


def test_closing_ends_the_streams(jobs_home):
    watcher = Watcher(jobs_home)

    async def story(page):
        await page.until(lambda rows: page.events == 1)
        await asyncio.to_thread(watcher.close)
        await page.until(lambda rows: False)

    told(watcher, story)


@pytest.mark.parametrize("job_id", ["", ".", "..", "../x", "a/b", "\0", ".hidden", "none"])
def test_only_a_jobs_id_is_a_folder(watcher, jobs_home, job_id):
    folder = make(jobs_home)

    assert watcher.folder(folder.path.name) == folder
    assert watcher.folder(job_id) is None


def test_a_service_is_asked_about_several_jobs_at_a_time(jobs_home, monkeypatch):
    for number in range(2):
        make(jobs_home, name=f"far-{number}", ended=None)
    both_ask = threading.Barrier(2)

    class Far(BraketRunner):
        def observe(self, folder: JobFolder) -> State:
            del folder
            both_ask.wait(20)
            return State(Status.RUNNING, 1, "seen")

    monkeypatch.setattr(runners, "resolve", lambda *_: Far())
    watcher = Watcher(jobs_home)

    async def seen(page: Told) -> None:
        await page.until(lambda rows: [row["detail"] for row in rows.values()] == ["seen", "seen"])

    told(watcher, seen)
    watcher.close()
