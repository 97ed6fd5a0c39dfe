"""A dashboard that really serves, a client that has its cookie, and one real Chromium for all tests of a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pl_hybridjobs.dashboard import dashboard
from pl_hybridjobs.dashboard.running import Dashboard

CHROMIUM_IS_MISSING = (
    "CHROMIUM IS MISSING, so the page was not tested: `apt-get install chromium fonts-dejavu-core`; `.ci/run` installs it."
)
# What a browser on a test machine does by itself is switched off.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def running(jobs_home: Path) -> Iterator[Dashboard]:
    """A dashboard of this test's jobs."""
    with dashboard(jobs_home) as made:
        yield made


@pytest.fixture
def client(running: Dashboard) -> Iterator[httpx.Client]:
    """A client that has opened the printed link."""
    base, _, token = running.url.partition("/?token=")
    with httpx.Client(base_url=base, timeout=30) as made:
        made.get("/", params={"token": token}).raise_for_status()
        yield made


@pytest.fixture(scope="module")  # while Playwright runs, nothing else in this thread can use asyncio
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(CHROMIUM_IS_MISSING)
    with sync_playwright() as playwright:
        expect.set_options(timeout=30_000)  # the machine may be busy
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about; a test that expects something takes it out."""
    return []


@pytest.fixture
def page(chromium: Browser, running: Dashboard, complaints: list[str]) -> Iterator[Page]:
    """The dashboard, opened by its link. No script may fail, and nothing may be refused or missing."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    context.set_default_timeout(30_000)
    made = context.new_page()
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    made.goto(running.url)
    made.wait_for_selector("#connection[data-state=live]")
    yield made
    context.close()
    assert not complaints, complaints
