"""The demos run on real input, and what they print is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, tmp_path: Path) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "demos" / name, "--quick"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_vqe_is_killed_resumes_and_lands_within_a_millihartree(tmp_path):
    printed = run("vqe_h2.py", tmp_path)

    assert "interrupted; resuming from the checkpoint of step" in printed
    assert "attempts 2, steps logged 150" in printed
    assert "exact -1.857202 Ha electronic, -1.137302 Ha in total" in printed
    error_mha = float(re.search(r"error ([\d.]+) mHa", printed)[1])  # type: ignore[index]
    assert error_mha < 1


@pytest.mark.slow
@pytest.mark.torture_long
def test_qaoa_finds_the_largest_cut(tmp_path):
    printed = run("qaoa_maxcut.py", tmp_path)

    assert "with 6 edges" in printed
    assert "brute force: 6 edges" in printed


@pytest.mark.torture_long
@pytest.mark.slow
def test_the_classifier_learns_and_resumes_to_the_same_bits(tmp_path):
    printed = run("qml_classifier.py", tmp_path)

    assert "was killed (kill -9) and is interrupted" in printed
    assert "attempts 2, steps logged 80" in printed
    assert "parameters and loss, gradient_norm, executions, train_accuracy, test_accuracy are the same bits in both jobs" in printed
    assert float(re.search(r"test accuracy ([\d.]+)", printed)[1]) > 0.9  # type: ignore[index]
    assert (tmp_path / "qml_classifier.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.torture_long
@pytest.mark.slow
def test_the_sweep_picks_the_best_step_size(tmp_path):
    printed = run("sweep.py", tmp_path)

    costs = {float(s): float(c) for s, c in re.findall(r"completed\s+(\S+)\s+(-?[\d.]+)", printed)}
    assert len(costs) == 4
    best = float(re.search(r"best: stepsize (\S+)", printed)[1])  # type: ignore[index]
    assert costs[best] == min(costs.values()) < max(costs.values())


@pytest.mark.slow
@pytest.mark.torture_long
def test_the_rehearsal_stops_at_its_budget_resumes_and_pays_what_the_service_bills(tmp_path):
    printed = run("qpu_rehearsal.py", tmp_path)

    assert "6 steps: 12 tasks, 288 shots, 26.64 USD" in printed
    assert "is interrupted after 1 steps: 4.44 USD, 2 tasks, 48 shots" in printed
    assert "is completed after 6 steps: 26.64 USD, 12 tasks, 288 shots" in printed
    assert "the service's own bill: 26.64 USD for 12 tasks" in printed
    start, now, exact = map(float, re.search(r"start (\S+) Ha, now (\S+) Ha, exact (\S+) Ha", printed).groups())  # type: ignore[union-attr]
    assert exact <= now < start - 0.5
