"""Programs in the style of Amazon Braket's published examples. Only their imports say that they run here."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import math
import runpy
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

PROGRAMS = Path(__file__).parent / "programs"
OURS = "pl_hybridjobs.compat.braket"
# Where the SDK has these names, the first that does.
THEIRS = [
    "braket.jobs",
    "braket.jobs.metrics",
    "braket.jobs.local",
    "braket.jobs_data",
    "braket.aws",
    "braket.jobs.metrics_data.definitions",
]


@pytest.fixture
def run(tmp_path, here, capfd):
    """Runs a program as a user would, in a folder with its files, and gives its globals."""

    def run(name):
        shutil.copytree(PROGRAMS, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        path = tmp_path / name
        with contextlib.chdir(path.parent):
            return runpy.run_path(str(path), run_name="__main__")

    return run


def test_a_born_machine_trains_in_several_jobs(run, capfd):
    done = run("qcbm.py")

    assert len({job.arn for job in done["jobs"]}) == 2
    for result, curve, job in zip(done["results"], done["curves"], done["jobs"], strict=True):
        assert curve == sorted(curve, reverse=True)
        assert result["loss"] == curve[-1] < curve[0]
        assert sum(result["counts"].values()) == 200
        assert result["device"] == "local:braket/default"
        assert np.shape(result["angles"]) == np.shape(job.job.result()["angles"]) == (job.job.params["n_layers"], 2, 2)
        assert job.job.tags == {"example": "qcbm"}
    assert "local:braket/default is hybridjobs.qubit here" in capfd.readouterr().err


@pytest.mark.slow
def test_a_package_runs_with_hyperparameters_and_requirements(run, capfd):
    done = run("qaoa/run.py")
    job = done["job"]

    costs = job.metrics()["Cost"]
    assert len(costs) == 8
    assert done["result"]["cost"] < costs[0]
    assert done["result"]["job"] == job.name
    assert json.loads((job.job.folder / "checkpoints" / f"{job.name}.json").read_text())["dataDictionary"]["iteration"] == 7
    assert "Metrics - timestamp=" in capfd.readouterr().out
    assert job.metadata()["hyperParameters"]["stepsize"] == "0.15"


@pytest.mark.slow
def test_a_second_job_goes_on_from_the_first_ones_checkpoints(run):
    done = run("vqe_checkpoints.py")

    assert done["steps"] == [float(step) for step in range(8)]
    assert math.isclose(done["result"]["energy"], -1.857275, abs_tol=1e-4)
    assert done["first"].metadata()["deviceConfig"] == {"device": done["SV1"]}
    log = done["second"].job.logs()
    assert "braket.aws.qubit, arn:aws:braket:::device/quantum-simulator/amazon/sv1 is hybridjobs.qubit here" in log


def test_a_notebook_runs_inside_a_job(run, tmp_path):
    (tmp_path / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell("import math, os\nprint(title, round(math.cos(angle), 3), os.environ['AMZN_BRAKET_JOB_NAME'])")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "experiment.ipynb")

    done = run("notebook_job.py")

    assert done["result"] == {"cells": 2}
    executed = nbformat.read(tmp_path / "downloaded" / done["job"].name / "executed.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == f"first 0.878 {done['job'].name}\n"


@pytest.mark.slow
def test_a_benchmark_of_optimizers_runs_in_local_mode(run, tmp_path):
    (tmp_path / "requirements.txt").write_text("pennylane>=0.40\n")

    done = run("qnspsa.py")

    assert done["result"]["device"] == "hybridjobs.mixed"
    assert set(done["table"]) == {"timestamp", "iteration_number", "gradient-descent/cost", "qnspsa/cost"}
    for name, final in done["result"]["finals"].items():
        curve = [value for value in done["table"][f"{name}/cost"] if value is not None]
        assert len(curve) == 6
        assert final < curve[0]
    assert (tmp_path / done["job"].name / "results.json").exists()


def test_circuits_take_their_parameters_from_input_files(run, tmp_path):
    angles = np.array([0.0, 1.0, np.pi])
    (tmp_path / "data" / "labels").mkdir(parents=True)
    np.save(tmp_path / "data" / "angles.npy", angles)
    for number in range(3):
        (tmp_path / "data" / "labels" / f"{number}.txt").write_text(f"angle {number}")

    done = run("parametrized.py")

    assert done["result"]["names"] == ["angle 0", "angle 1", "angle 2"]
    np.testing.assert_allclose(done["result"]["probabilities"][:, 0], np.cos(angles / 2) ** 2, atol=1e-12)


def test_a_script_that_still_imports_the_sdk_runs_in_our_job(run):
    done = run("unchanged/run.py")

    assert done["result"] == {"device": "local:none/none", "rate": 0.5, "input": "given"}
    assert done["job"].metrics()["loss"] == [0.5, 0.25]
    assert done["job"].job.name == "unchanged"


def _imported(path):
    """The names that a program imports from us."""
    return [
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == OURS
        for alias in node.names
    ]


@pytest.mark.parametrize("path", sorted(PROGRAMS.rglob("*.py")), ids=lambda path: path.name)
def test_only_the_imports_differ(path):
    homes = {name: next((home for home in THEIRS if hasattr(importlib.import_module(home), name)), None) for name in _imported(path)}

    assert None not in homes.values(), homes
    assert "pl_hybridjobs" not in path.read_text().replace(OURS, "")


def test_the_yardstick_has_six_programs():
    assert len([path for path in PROGRAMS.iterdir() if not path.name.startswith("__")]) >= 6
