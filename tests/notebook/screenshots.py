"""Makes the pictures of docs/guides/notebooks.md, of the demo in a real JupyterLab: ``python -m tests.notebook.screenshots``.

Needs ``pip install jupyterlab``, which no test does. Takes two minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, sync_playwright

from tests.dashboard.conftest import ARGUMENTS
from tests.dashboard.screenshots import IMAGES, shrink
from tests.house.source import ROOT

_TOKEN = "screenshots"


@contextmanager
def lab(theme: str) -> Iterator[str]:
    """A JupyterLab that has the demo: the address of the notebook."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="hybridjobs-"))
    notebook = nbformat.read(ROOT / "demos" / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("pause_s=0.03", "pause_s=0.15")  # while the kernel is free there is time for a picture
    nbformat.write(notebook, folder / "notebook.ipynb")
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    environment = {
        **os.environ,
        "HYBRIDJOBS_HOME": str(folder / "home"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "PYTHONPATH": str(ROOT),
    }
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--IdentityProvider.token={_TOKEN}"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/notebook.ipynb?token={_TOKEN}&reset"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def opened(browser: Browser, address: str, scheme: Any) -> Page:
    """The notebook, without what stands around it."""
    page = browser.new_context(viewport={"width": 1000, "height": 860}, color_scheme=scheme, device_scale_factor=1.5).new_page()
    page.set_default_timeout(180_000)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_timeout(3000)
    page.keyboard.press("Control+b")
    page.locator(".jp-Notebook .jp-MarkdownCell").first.click()
    return page


def run_until(page: Page, text: str) -> None:
    """Run cells until the one in which a text stands has been started."""
    while True:
        current = page.locator(".jp-Cell.jp-mod-active").inner_text()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(400)
        if text in current:
            return


def picture(page: Page, text: str, path: Path) -> None:
    """The cell in which a text stands, with its output."""
    cell = page.locator(".jp-CodeCell", has_text=text).first
    cell.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    cell.screenshot(path=path)


def main(folder: Path = IMAGES) -> None:
    """Open the demo, run it, take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for theme, scheme in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
            with lab(theme) as address:
                page = opened(browser, address, scheme)
                run_until(page, "job = vqe(")
                page.wait_for_selector(".hj-status:has-text('running')")
                page.wait_for_function("Number(document.querySelector('.hj-bar')?.getAttribute('aria-valuenow')) > 25")
                page.wait_for_timeout(1500)
                if scheme == "light":
                    picture(page, "job = vqe(", folder / "notebook-job.png")
                    continue
                run_until(page, "sweep = vqe.map")
                page.wait_for_selector(".hj:has-text('3 completed')")
                picture(page, "sweep = vqe.map", folder / "notebook-sweep.png")
        browser.close()
    shrink(folder.glob("notebook-*.png"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
