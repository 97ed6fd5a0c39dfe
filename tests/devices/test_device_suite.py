"""PennyLane's own suite for devices, analytic and with shots: at least as many passes as PennyLane's own device of the kind has."""

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
@pytest.mark.parametrize(
    ("device", "shots", "least"),
    [
        pytest.param("hybridjobs.qubit", "None", 382, marks=pytest.mark.torture_long),
        pytest.param("hybridjobs.qubit", "20000", 374, marks=pytest.mark.torture_long),
        pytest.param("hybridjobs.mixed", "None", 409, marks=pytest.mark.torture_long),
        pytest.param("hybridjobs.mixed", "20000", 384, marks=pytest.mark.torture_long),
        # What a remote device refuses (it says "supported") is skipped; a QPU has no matrices either.
        pytest.param("hybridjobs.qpu rehearsal:ideal", "None", 382, marks=pytest.mark.torture_long),
        pytest.param("hybridjobs.qpu rehearsal:ideal", "20000", 374, marks=pytest.mark.torture_long),
        pytest.param("hybridjobs.qpu rehearsal:qpu", "10000", 374, marks=pytest.mark.torture_long),
    ],
)
def test_the_device_suite_passes(device, shots, least, tmp_path):
    assert passed(device, shots, tmp_path) >= least


def test_its_quick_files_pass(tmp_path):
    files = ("measurements", "tracker", "wires", "properties", "return_system", "gradients_autograd")
    assert passed("hybridjobs.qubit", "None", tmp_path, *(f"test_{file}.py" for file in files)) >= 91


def passed(device, shots, folder, *files):
    """How many tests of the suite, or of some of its files, have passed; none may have failed."""
    name, _, target = device.partition(" ")
    suite = Path(pennylane.devices.tests.__file__).parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        *([suite / file for file in files] or [suite]),
        f"--device={name}",
        f"--shots={shots}",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--tb=short",
        *(["--skip-ops", "--device-kwargs", f"target={target}"] if target else []),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], env=env, cwd=folder, capture_output=True, text=True, timeout=580)

    found = re.search(r"(\d+) passed", done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-4000:]
    assert found is not None
    return int(found.group(1))
