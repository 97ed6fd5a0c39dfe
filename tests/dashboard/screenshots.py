"""Makes the pictures of docs/guides/dashboard.md, of real jobs: ``python -m tests.dashboard.screenshots``. Takes a minute or two."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qml
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pl_hybridjobs import Job, hybrid_job, job_device, train
from pl_hybridjobs.dashboard import dashboard
from pl_hybridjobs.dashboard.running import Dashboard
from pl_hybridjobs.emulator import emulator
from tests.dashboard.conftest import ARGUMENTS
from tests.house.source import ROOT

IMAGES = ROOT / "docs" / "images"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
H2 = qml.Hamiltonian(
    [-1.0523, 0.3979, -0.3979, -0.0112, 0.1809],
    [qml.Identity(0), qml.Z(1), qml.Z(0), qml.Z(0) @ qml.Z(1), qml.X(0) @ qml.X(1)],
)


def ansatz(params: Any) -> None:
    """Layers of rotations and a controlled NOT on two wires."""
    for layer in params:
        for wire in range(2):
            qml.RY(layer[wire], wires=wire)
        qml.CNOT(wires=[0, 1])


@hybrid_job(device="hybridjobs.qubit", tags={"molecule": "H2"})
def scan(stepsize: float, layers: int, optimizer: str, steps: int = 60) -> dict[str, float]:
    """One of a sweep: minimise the energy of H2."""

    @qml.qnode(job_device(wires=2))
    def energy(params: Any) -> Any:
        ansatz(params)
        return qml.expval(H2)

    kind = {"adam": qml.AdamOptimizer, "descent": qml.GradientDescentOptimizer}[optimizer]
    run = train(energy, np.full((layers, 2), 0.4), optimizer=kind(stepsize), steps=steps, value_name="energy")
    return {"energy": float(run.best.value)}


@hybrid_job(device="hybridjobs.qubit", tags={"molecule": "H2"})
def vqe(steps: int = 4000, stepsize: float = 0.02, pause_s: float = 0.05) -> dict[str, float]:
    """Slow enough to be looked at."""
    Path("ansatz.txt").write_text("layers of RY and CNOT on two wires\n")

    @qml.qnode(job_device(wires=2))
    def energy(params: Any) -> Any:
        ansatz(params)
        return qml.expval(H2)

    def metrics(params: Any) -> dict[str, float]:
        time.sleep(pause_s)
        return {"largest_angle": float(np.max(np.abs(params)))}

    run = train(
        energy,
        np.full((2, 2), 0.4),
        optimizer=qml.AdamOptimizer(stepsize),
        steps=steps,
        value_name="energy",
        metrics=metrics,
        checkpoint_every=20,
    )
    return {"energy": float(run.best.value)}


@hybrid_job(device="hybridjobs.qubit")
def typo(layers: int = 3) -> float:
    """Fails as people's programs do."""
    print(f"building {layers} layers")
    return float({"stepsize": 0.1}["step_size"])


@hybrid_job(device=FORTE, budget={"max_usd": 25}, tags={"molecule": "H2"})
def on_hardware(steps: int = 5, shots: int = 8) -> float:
    """Buys from the emulated Forte 1."""

    @qml.set_shots(shots)
    @qml.qnode(job_device(wires=2))
    def energy(theta: Any) -> Any:
        qml.X(wires=1)
        qml.RY(theta, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(H2)

    return float(train(energy, np.array(1.2), optimizer=qml.GradientDescentOptimizer(0.3), steps=steps, value_name="energy").best.value)


@contextmanager
def jobs() -> Iterator[tuple[Path, Job, str]]:
    """A home folder with real jobs, one of which runs: the folder, that job, and the id of a sweep."""
    home = Path(tempfile.mkdtemp(prefix="hybridjobs-"))
    os.environ["HYBRIDJOBS_HOME"] = str(home)
    try:
        with emulator(devices=["Forte 1"], seed=7) as service:
            os.environ.update(service.environment())
            choices = [(0.02, 1, "descent"), (0.1, 1, "adam"), (0.3, 2, "descent"), (0.05, 2, "adam")]
            choices += [(0.2, 3, "adam"), (0.1, 3, "descent"), (0.4, 1, "adam"), (0.02, 2, "adam")]
            sweep = scan.map([{"stepsize": s, "layers": n, "optimizer": kind} for s, n, kind in choices], max_parallel=2)
            sweep.wait()
            for ended in (typo(), on_hardware()):
                ended.wait()
            cancelled = vqe()
            _wait_for(cancelled, 30)
            cancelled.cancel()
            running = vqe()
            _wait_for(running, 120)
            yield home, running, sweep.id
            running.cancel()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_for(job: Job, steps: int) -> None:
    while "energy" not in job.metrics() or len(job.metrics()["energy"]) < steps:
        if job.status.is_over:
            raise SystemExit(f"{job.name} should still run:\n{job.logs()}")
        time.sleep(0.1)


def _open(browser: Browser, running: Dashboard, address: str, *, width: int = 1280, height: int = 800, scheme: Any = "light") -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    page.goto(running.url)
    page.wait_for_selector(".jobs tbody tr svg.spark")
    page.evaluate("address => { location.hash = address; }", address)
    page.wait_for_selector(".chart canvas" if len(address) > 2 else ".jobs")
    page.wait_for_timeout(2500)
    return page


def shrink(pictures: Iterable[Path]) -> None:
    """Save pictures with 256 colours, and say how large each one is then."""
    for picture in sorted(pictures):
        Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
        print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


def main(folder: Path = IMAGES) -> None:
    """Run the jobs, take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with jobs() as (home, job, sweep), dashboard(home) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        _open(browser, running, "#/").screenshot(path=folder / "dashboard-jobs.png")
        _open(browser, running, f"#/job/{job.id}", height=1000).screenshot(path=folder / "dashboard-job.png")
        page = _open(browser, running, f"#/sweep/{sweep}", height=1000)
        for name in ("step_time_s", "executions"):
            page.locator(".chip", has_text=name).click()
        page.wait_for_timeout(1500)
        page.locator(".u-over").first.hover(position={"x": 90, "y": 60})
        page.screenshot(path=folder / "dashboard-sweep.png")
        page = _open(browser, running, f"#/job/{job.id}", scheme="dark", height=1000)
        page.get_by_label("Smooth").fill("0.8")
        page.get_by_label("Log scale").check()
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / "dashboard-dark.png")
        _open(browser, running, "#/", width=390, height=844).screenshot(path=folder / "dashboard-phone.png")
        browser.close()
    shrink(folder.glob("dashboard-*.png"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
