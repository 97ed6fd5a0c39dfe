"""PennyLane's own suite for devices, analytic and with shots: at least as many passes as default.qubit has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pennylane.devices.tests
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("shots", "least"), [("None", 382), ("20000", 374)])
def test_the_device_suite_passes(shots, least, tmp_path):
    suite = Path(pennylane.devices.tests.__file__).parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        suite,
        "--device=hybridjobs.qubit",
        f"--shots={shots}",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--tb=short",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=580)

    found = re.search(r"(\d+) passed", done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-4000:]
    assert found is not None
    assert int(found.group(1)) >= least
