"""Images: recipes, building with the real engine, lists, and what cannot be pushed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pl_hybridjobs import hybrid_job
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import engine, images
from pl_hybridjobs.jobs.container import ContainerRunner
from tests.jobs import containers


def energy(theta):
    """The value of a circuit, by the simulator that the job's device names."""
    import pennylane as qml

    from pl_hybridjobs import job_device

    @qml.qnode(job_device(wires=2))
    def circuit(angle):
        qml.RX(angle, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.PauliZ(1))

    return float(circuit(theta))


def test_every_recipe_builds_on_a_pinned_base_and_downloads_nothing():
    assert images.kinds() == ["base", "cuda", "jax"]
    text = images.recipes().joinpath("Containerfile").read_text()
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+\S*$", text, flags=re.MULTILINE)
    assert not re.search(r"pip install|curl|wget|apt-get", text)
    assert "SAGEMAKER_PROGRAM=hybridjobs_entry.py" in text


def test_what_cannot_be_built_or_pushed_is_told(container):
    podman = engine.find("podman")

    with pytest.raises(InvalidCall, match=r"there is no recipe 'bse'.*Did you mean 'base'"):
        images.build(podman, "bse")
    with pytest.raises(InvalidCall) as caught:
        images.push(podman, "localhost/nothing:1")
    assert "no image 'localhost/nothing:1'" in str(caught.value)
    assert "names no registry" in str(caught.value)


@pytest.mark.containers_long
@pytest.mark.timeout(2400)
def test_an_image_that_was_built_here_runs_jobs_and_keeps_brakets_contract(container, tmp_path):
    command = [sys.executable, "-m", "pl_hybridjobs.cli", "image"]
    options = ["--base", container.image, "--tag", "localhost/hybridjobs-test-built:1", "--engine", "podman"]
    done = subprocess.run([*command, "build", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([*command, "list", "--engine", "podman"], capture_output=True, text=True).stdout
    assert "localhost/hybridjobs-test-built:1  base  pl-hybridjobs" in listed

    runner = ContainerRunner(image="localhost/hybridjobs-test-built:1", engine="podman")
    job = hybrid_job(energy, runner=runner)(0.3)
    assert job.result(600) == pytest.approx(hybrid_job(energy).inline(0.3))
    assert "compiling the simulator" not in job.logs()  # the image holds its machine code

    (tmp_path / "hello.py").write_text("import os, sys; print('started', sys.argv, os.environ['SM_HPS'])")
    (tmp_path / "hyperparameters.json").write_text('{"a": "1"}')
    shown = ["-v", f"{tmp_path}/hello.py:/opt/ml/code/hello.py", "-v", f"{tmp_path}:/opt/ml/input/config"]
    said = containers.run("run", "--rm", "-e", "SAGEMAKER_PROGRAM=hello.py", *shown, runner.image or "", "train")
    assert said == 'started [\'/opt/ml/code/hello.py\'] {"a": "1"}\n'
