"""Hybrid jobs of the unmodified Amazon Braket SDK against the emulator: few jobs, each shows much."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from braket.aws import AwsDevice, AwsQuantumJob
from braket.circuits import Circuit
from braket.jobs import CheckpointConfig, InstanceConfig, StoppingCondition, get_job_device_arn, hybrid_job, save_job_result
from braket.jobs.metrics import log_metric

from pl_hybridjobs.emulator import JobOptions, emulator
from pl_hybridjobs.emulator.running import Emulator
from tests.emulator.conftest import FORTE, SV1

pytestmark = [pytest.mark.usefixtures("swept"), pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

PACKAGE = {
    "__init__.py": "",
    "helper.py": "LOSSES = [0.5, 0.25]\n",
    "algo.py": """
import json, os
from pathlib import Path
from braket.jobs import get_hyperparameters, get_input_data_dir, save_job_checkpoint, save_job_result
from braket.jobs.metrics import log_metric
from shipped.helper import LOSSES

def train(steps: int, rate: float):
    for number, loss in enumerate(LOSSES):
        log_metric("loss", loss, iteration_number=number)
    save_job_checkpoint({"step": 2}, checkpoint_file_suffix="a")
    points = json.loads(Path(get_input_data_dir("points"), "points.json").read_text())
    print("training is over")
    save_job_result({"steps": steps, "rate": rate, "points": points, "given": get_hyperparameters()})
""",
}
PROGRAM = {
    "__main__.py": """
import os
from pathlib import Path
print("run as", __name__, "in", Path.cwd().name)
for path in sorted(Path(os.environ["AMZN_BRAKET_CHECKPOINT_DIR"]).iterdir()):
    print("checkpoint", path.name, path.read_text())
""",
    "__init__.py": "",
}
QUICK = {"poll_timeout_seconds": 120, "poll_interval_seconds": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and inputs of the jobs, and the working folder of their submission."""
    root = tmp_path_factory.mktemp("sources")
    for name, files in (("shipped", PACKAGE), ("program", PROGRAM)):
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_text(text)
    (root / "fails.py").write_text("raise ArithmeticError('no convergence')")
    (root / "sleeps.py").write_text("import time\ndef main(): print('asleep'); time.sleep(100)")
    (root / "points.json").write_text("[1, 2, 3]")
    return root


@pytest.fixture(scope="module")
def home(bucket: str) -> Iterator[Emulator]:
    """An emulator, and the variables that lead the SDK there."""
    with emulator(seed=5, jobs=JobOptions(checkpoint_interval_s=0.1, grace_s=1)) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running


def decorated(angle: float, *, shots: int) -> dict[str, Any]:
    """Two tasks, on the device that the job has priority on."""
    device = AwsDevice(get_job_device_arn())
    exact = device.run(Circuit().rx(0, angle).expectation(_z()), shots=0).result().values[0]
    counts = device.run(Circuit().x(0), shots=shots).result().measurement_counts
    log_metric("exact", exact)
    return {"exact": exact, "counts": dict(counts)}


def _z() -> Any:
    from braket.circuits.observables import Z

    return Z(0)


@pytest.mark.torture_long
def test_a_package_with_inputs_hyperparameters_and_tags_and_a_program_that_continues_it(home, folder, capsys):
    with contextlib.chdir(folder):
        job = AwsQuantumJob.create(
            device="local:none/none",
            source_module="shipped",
            entry_point="shipped.algo:train",
            job_name="shipped",
            hyperparameters={"steps": 2, "rate": 0.5},
            input_data={"points": "points.json"},
            tags={"project": "h2"},
            instance_config=InstanceConfig("ml.m5.xlarge"),
            stopping_condition=StoppingCondition(maxRuntimeInSeconds=100),
        )
        result = job.result(**QUICK)
        job.download_result(str(folder / "fetched"), **QUICK)

    assert result == {"steps": 2, "rate": 0.5, "points": [1, 2, 3], "given": {"steps": "2", "rate": "0.5"}}
    assert json.loads((folder / "fetched/shipped/results.json").read_text())["dataDictionary"] == result
    assert job.metadata()["tags"] == {"project": "h2"}
    assert job.metadata()["instanceConfig"]["instanceType"] == "ml.m5.xlarge"
    assert job.metadata()["billableDuration"] > 0
    assert AwsQuantumJob(job.arn).state() == "COMPLETED"

    job.logs(poll_interval_seconds=0)

    printed = capsys.readouterr().out.splitlines()
    assert printed.index("Beginning Setup") < printed.index("training is over")
    metrics = job.metrics()
    assert sorted(metrics["loss"]) == [0.25, 0.5]
    assert sorted(metrics["iteration_number"]) == [0, 1]

    with contextlib.chdir(folder):
        continued = AwsQuantumJob.create(
            device="local:none/none",
            source_module="program",
            job_name="continued",
            copy_checkpoints_from_job=job.arn,
            checkpoint_config=CheckpointConfig(localPath="/opt/elsewhere"),
        )
    continued.logs(wait=True, poll_interval_seconds=0.1)

    printed = capsys.readouterr().out.splitlines()
    assert continued.state() == "COMPLETED"
    assert "run as __main__ in extracted" in printed
    [checkpoint] = [line.removeprefix("checkpoint shipped_a.json ") for line in printed if line.startswith("checkpoint")]
    assert json.loads(checkpoint)["dataDictionary"] == {"step": 2}


def test_a_decorated_function_runs_tasks_that_belong_to_its_job(home, folder):
    with contextlib.chdir(folder):
        job = hybrid_job(device=SV1, include_modules=__name__, job_name="decorated")(decorated)(0.4, shots=20)
        result = job.result(**QUICK)

    assert result == {"exact": pytest.approx(math.cos(0.4)), "counts": {"1": 20}}
    assert job.metrics()["exact"] == [pytest.approx(math.cos(0.4))]
    tasks = job.get_tasks()
    assert [task.state() for task in tasks] == ["COMPLETED", "COMPLETED"]
    assert {task.metadata()["jobArn"] for task in tasks} == {job.arn}
    assert all(task.has_priority for task in home.tasks if task.job == job.arn)


def test_a_waiting_job_knows_its_position_and_cancels(home, folder):
    with contextlib.chdir(folder):
        sleeps, waits = (
            AwsQuantumJob.create(device=FORTE, source_module="sleeps.py", entry_point="sleeps:main", job_name=name)
            for name in ("sleeps", "waits")
        )

    assert home.wait_until(lambda: sleeps.state() == "RUNNING")
    assert waits.queue_position().queue_position == "1"
    assert AwsDevice(FORTE).queue_depth().jobs == "1"
    assert waits.cancel() == sleeps.cancel() == "CANCELLING"
    assert home.wait_until(lambda: {waits.state(), sleeps.state()} == {"CANCELLED"})
    assert waits.queue_position().queue_position is None
    assert "CANCELLED" in waits.queue_position().message


def test_a_failure_has_its_reason(home, folder):
    with contextlib.chdir(folder):
        job = AwsQuantumJob.create(device=SV1, source_module="fails.py", job_name="fails")
        assert job.result(**QUICK) == {}

    assert job.state() == "FAILED"
    assert job.metadata()["failureReason"] == "AlgorithmError: ArithmeticError: no convergence, exit code: 1"


def test_the_decorator_compares_its_python_with_the_image(bucket):
    with emulator(jobs=JobOptions(image_python={"*-base-jobs*": "3.99"})) as other, pytest.MonkeyPatch.context() as patch:
        for name, value in other.environment().items():
            patch.setenv(name, value)
        with pytest.raises(RuntimeError, match="Python version must match"):
            hybrid_job(device=None)(save_job_result)
