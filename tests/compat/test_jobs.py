"""Decorated functions as jobs of this machine: real processes, Amazon Braket's shapes, without its defects."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import boto3
import pytest

from pl_hybridjobs import hybrid_job as native_hybrid_job
from pl_hybridjobs import list_jobs, open_job
from pl_hybridjobs.compat.braket import (
    AwsQuantumJob,
    CheckpointConfig,
    InstanceConfig,
    LocalQuantumJob,
    MetricType,
    StoppingCondition,
    get_checkpoint_dir,
    get_hyperparameters,
    get_input_data_dir,
    get_job_device_arn,
    get_job_name,
    hybrid_job,
    load_job_checkpoint,
    log_metric,
    save_job_checkpoint,
    save_job_result,
    service,
    use,
)
from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.ledger import Charge
from pl_hybridjobs.errors import InvalidCall, JobCancelled, JobFailed, JobInterrupted

SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
WAIT_S = 120
FLIP = json.dumps(
    {
        "braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"},
        "source": "OPENQASM 3.0;\nbit[1] b;\nqubit[1] q;\nx q[0];\nb[0] = measure q[0];\n",
        "inputs": {},
    }
)


def test_a_job_from_call_to_result(here, capfd):
    @hybrid_job(device=SV1, tags={"team": "a"}, wait_until_complete=True, stopping_condition=StoppingCondition(600))
    def _train_step(rate: float, steps: int = 3, *, note: str = "a$(b)&c", **more):
        def loss(step):  # an inner function: the decorated function can be submitted again all the same
            return rate / (step + 1)

        for step in range(steps):
            log_metric("train/loss", loss(step), iteration_number=step)
            log_metric("val-loss", 2 * loss(step), iteration_number=step)
        save_job_result({"extra": 1})
        Path("model.txt").write_text("weights")
        return {"name": get_job_name(), "device": get_job_device_arn(), "told": get_hyperparameters(), "pair": (1, 2)}

    job = _train_step(0.5, flag=True)
    printed = capfd.readouterr()
    again = _train_step(0.25)

    assert job.name.startswith("train-step-17")
    assert len(job.name) <= 50
    told = {"rate": "0.5", "steps": "3", "note": "a?{b}+c", "flag": "True"}
    assert job.result(WAIT_S) == {"extra": 1, "name": job.name, "device": SV1, "told": told, "pair": [1, 2]}
    assert job.job.result()["pair"] == (1, 2)
    assert job.job.params == {"rate": 0.5, "steps": 3, "note": "a$(b)&c", "flag": True}
    assert "Metrics - timestamp=" in printed.out
    assert f"Initializing Braket Job: {job.arn}" in printed.out
    assert f"{SV1} is hybridjobs.qubit here (HYBRIDJOBS_BRAKET=local)" in printed.err

    table = job.metrics(MetricType.ITERATION_NUMBER)
    assert table.pop("timestamp") == sorted(job.metrics()["timestamp"])
    assert table == {"iteration_number": [0.0, 1.0, 2.0], "train/loss": [0.5, 0.25, 0.5 / 3], "val-loss": [1.0, 0.5, 1 / 3]}

    told = job.metadata()
    assert (told["jobName"], told["jobArn"], told["status"], told["tags"]) == (job.name, job.arn, "COMPLETED", {"team": "a"})
    assert told["deviceConfig"] == {"device": SV1}
    answers = boto3.client("braket", "us-east-1").meta.service_model.operation_model("GetJob").output_shape
    assert set(answers.required_members) <= set(told) <= set(answers.members)
    for name in ("algorithmSpecification", "instanceConfig", "outputDataConfig"):
        assert set(answers.members[name].required_members) <= set(told[name]) <= set(answers.members[name].members)
    assert told["stoppingCondition"] == {"maxRuntimeInSeconds": 600}
    assert told["createdAt"] <= told["startedAt"] <= told["endedAt"] <= datetime.now(UTC)
    assert told["billableDuration"] > 0
    assert [event["eventType"] for event in told["events"]] == ["QUEUED_FOR_EXECUTION", "RUNNING", "COMPLETED"]
    assert (job.queue_position().queue_position, job.get_tasks()) == (None, [])

    assert AwsQuantumJob(job.arn) == job == AwsQuantumJob(job.name)
    assert again.result(WAIT_S)["told"]["rate"] == "0.25"
    assert again != job


def test_a_failed_job_raises(here, capfd):
    @hybrid_job(device=None)
    def fails():
        save_job_result({"half": 1})
        raise ValueError("no convergence")

    job = fails()
    job.logs(wait=True)

    assert f"{job.name} is FAILED: ValueError: no convergence" in capfd.readouterr().err
    with pytest.raises(ValueError, match="no convergence") as caught:
        job.result(WAIT_S)
    assert isinstance(caught.value, JobFailed)
    assert job.state() == "FAILED"
    assert job.metadata()["failureReason"] == "ValueError: no convergence"


def test_a_job_can_be_cancelled_and_then_says_so(here):
    @hybrid_job(device=None)
    def waits():
        threading.Event().wait()

    job = waits()

    assert job.cancel() == job.state() == "CANCELLED"
    with pytest.raises(JobCancelled):
        job.result(WAIT_S)
    assert job.cancel() == "CANCELLED"
    assert job.metadata()["failureReason"] in ("cancelled", "cancelled before it ran")


def test_a_local_job_leaves_its_folder_as_at_amazon_braket(tmp_path, capfd):
    @hybrid_job(device="local:own/notes", local=True, job_name="mine", quiet=True, reservation_arn="arn", instance_config=InstanceConfig())
    def work(n):
        print("hello")
        Path("kept.txt").write_text("x")
        save_job_checkpoint({"n": n}, "last")
        return n

    with contextlib.chdir(tmp_path):
        job = work(7)
        assert isinstance(job, LocalQuantumJob)
        assert "hello" not in capfd.readouterr().out
        assert sorted(str(p.relative_to("mine")) for p in Path("mine").rglob("*") if p.is_file()) == [
            "checkpoints/mine_last.json",
            "kept.txt",
            "log.txt",
            "results.json",
        ]
        assert Path("mine/log.txt").read_text().startswith("hello")
        job.download_result("elsewhere")
        assert Path("elsewhere/mine/kept.txt").read_text() == "x"
        with pytest.raises(ValueError, match="A local directory called mine already exists"):
            work(8)

    assert (job.arn, job.state(), job.result()) == ("local:job/mine", "COMPLETED", {"result": 7})
    assert job.metadata()["deviceConfig"] == {"device": "local:own/notes"}
    assert LocalQuantumJob("local:job/mine").run_log == job.run_log
    for arn in ("mine", "local:job/other"):
        with pytest.raises(ValueError, match=r"local job arn|Unable to find"):
            LocalQuantumJob(arn)


def test_a_pickled_result_stays_in_its_file(here):
    @hybrid_job(device=None, data_format="pickle")
    def work():
        return {"psi": 1j, "what": {1, 2}}

    job = work()

    with pytest.raises(RuntimeError, match="allow_pickle=True"):
        job.result(WAIT_S)
    assert job.result(allow_pickle=True) == {"psi": 1j, "what": {1, 2}}
    assert job.job.result() is None


def test_checkpoints_are_copied_from_another_job(here):
    @hybrid_job(device=None, job_name="first")
    def first():
        save_job_checkpoint({"iteration": 4})
        (Path(get_checkpoint_dir()) / "weights.bin").write_bytes(b"w")

    def second(old):
        loaded = load_job_checkpoint(job_name=old)
        save_job_checkpoint({"iteration": loaded["iteration"] + 1})
        return [loaded, sorted(p.name for p in Path(get_checkpoint_dir()).iterdir())]

    old = first()
    old.result(WAIT_S)
    handles = [old, old.arn, old.name, old.job]
    jobs = [hybrid_job(device=None, job_name=f"next-{n}", copy_checkpoints_from_job=old)(second)("first") for n, old in enumerate(handles)]

    for n, job in enumerate(jobs):
        assert job.result(WAIT_S) == {"result": [{"iteration": 4}, ["first.json", f"next-{n}.json", "weights.bin"]]}


def test_a_killed_job_goes_on_from_its_own_checkpoint(here):
    @hybrid_job(device=None)
    def work():
        try:
            begun = load_job_checkpoint()["step"] + 1
        except FileNotFoundError:
            begun = 0
        for step in range(begun, 4):
            log_metric("loss", 10.0 - step, iteration_number=step)
            if step == 2 and begun == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            save_job_checkpoint({"step": step})
        return begun

    job = work()

    with pytest.raises(JobInterrupted):
        job.result(WAIT_S)
    assert job.state() == "FAILED"
    assert "SIGKILL" in job.metadata()["failureReason"]
    job.job.resume()
    assert job.result(WAIT_S) == {"result": 2}
    assert job.metrics(MetricType.ITERATION_NUMBER)["loss"] == [10.0, 9.0, 8.0, 7.0]


def test_a_job_without_checkpoints_gives_none_and_says_so(here, capsys):
    native_hybrid_job(lambda: None, name="bare").inline()

    job = hybrid_job(device=None, copy_checkpoints_from_job="bare")(lambda: 1)()

    assert "bare has no checkpoints to copy" in capsys.readouterr().err
    assert job.result(WAIT_S) == {"result": 1}
    assert job.name.startswith("lambda-")


def test_inputs_open_by_their_old_paths(here, tmp_path):
    (tmp_path / "data" / "set").mkdir(parents=True)
    for name in ("data/numbers.json", "data/numbers_secret.json", "data/set/a.txt", "data/part-1.txt", "data/part-2.txt"):
        (tmp_path / name).write_text(json.dumps(name))

    @hybrid_job(
        device=None,
        input_data={
            "input": "data/numbers.json",
            "folder": Path("data/set"),
            "parts": "data/part-",
            "absolute": str(tmp_path / "data" / "set"),
            "above": "../" + tmp_path.name + "/data/set",
        },
    )
    def reads(absolute):
        opened = [json.loads(Path(p).read_text()) for p in ("data/numbers.json", "data/set/a.txt", "data/part-1.txt", "data/part-2.txt")]
        there = sorted(os.listdir(get_input_data_dir()) + os.listdir(get_input_data_dir("above")))
        (Path("data") / "made.txt").write_text("mine")
        return [opened, there, Path(absolute).is_dir()]

    with contextlib.chdir(tmp_path):
        job = reads(str(tmp_path / "data" / "set"))

    opened = ["data/numbers.json", "data/set/a.txt", "data/part-1.txt", "data/part-2.txt"]
    assert job.result(WAIT_S) == {"result": [opened, ["a.txt", "numbers.json"], True]}
    assert sorted(str(p.relative_to(job.job.folder / "results")) for p in (job.job.folder / "results").rglob("*")) == [
        "data",
        "data/made.txt",
        "results.json",
    ]
    assert "leaves the working folder" in job.job.logs()


def test_a_link_of_the_users_stays(here, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").write_text("a")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")

    @hybrid_job(device=None, input_data=str(link))
    def lists(place):
        return os.listdir(place)

    job = lists(str(link))

    assert job.result(WAIT_S) == {"result": ["a.txt"]}
    assert link.readlink() == tmp_path / "disk"


class Squarer:
    def __call__(self, x):
        return x * x


async def later(x):
    return x * x


@pytest.mark.parametrize("function", [functools.partial(lambda y, x: x * x, 0), Squarer(), later], ids=["partial", "object", "async"])
def test_whatever_can_be_called_can_be_a_job(here, function):
    assert hybrid_job(device=None)(function)(x=3).result(WAIT_S) == {"result": 9}


def test_what_is_wrong_is_told_at_once_and_before_anything_is_written(here):
    def work(n):
        return n

    wrong = hybrid_job(
        device=None,
        job_name="my_job",
        input_data={"a": "nowhere", "b": "s3://bucket/x", "c": 5},
        instance_config={"instanceType": "ml.m5.large"},  # type: ignore[arg-type] # on purpose
        distribution="data_parallel",
        checkpoint_config=CheckpointConfig(),
        copy_checkpoints_from_job="nobody",
    )

    with pytest.raises(ValueError, match="7 problems") as caught:
        wrong(work)(1)

    for part in ("'my-job' would be one", "InstanceConfig", "no file, folder", "s3://bucket/x", "not 5", "nobody", "one process"):
        assert part in str(caught.value)
    with pytest.raises(InvalidCall, match="instanceCount=2, and this machine is one"):
        hybrid_job(device=None, instance_config=InstanceConfig(instanceCount=2))(work)(1)
    with pytest.raises(InvalidCall, match="no_such_package"):
        hybrid_job(device=None, dependencies=["no_such_package"])(work)(1)
    for message, keywords in {
        "include_modules: there is no module": {"include_modules": "no_such_module"},
        "dependencies: there is no file": {"dependencies": "nowhere.txt"},
        "stopping_condition.maxRuntimeInSeconds must be": {"stopping_condition": StoppingCondition(0)},
        "input_data has the channel name 'a b'": {"input_data": {"a b": __file__}},
    }.items():
        with pytest.raises(InvalidCall, match=message):
            hybrid_job(device=None, **keywords)(work)(1)  # type: ignore[arg-type] # of various types
    with pytest.raises(InvalidCall, match="'m'"):
        hybrid_job(device=None)(work)(m=1)
    with pytest.raises(ValueError, match="no format 'json'"):
        hybrid_job(device=None, data_format="json")(work)(1)
    with pytest.raises(InvalidCall, match="generator"):
        hybrid_job(device=None)(lambda: (yield))
    assert list_jobs() == []


def test_a_callers_configuration_is_not_changed(here, capsys):
    configuration, inputs = CheckpointConfig("/opt/mine"), {"input": __file__}

    hybrid_job(device=None, checkpoint_config=configuration, input_data=inputs)(lambda: 1)().result(WAIT_S)

    assert (configuration, inputs) == (CheckpointConfig("/opt/mine"), {"input": __file__})
    assert "there will be no /opt/mine (localPath)" in capsys.readouterr().err


def test_the_tasks_that_a_job_bought_are_listed_oldest_first():
    native_hybrid_job(lambda: None, name="buyer").inline()
    handle = AwsQuantumJob("buyer")
    bought = account.of_job(handle.job.folder)
    for key, usd in (("a", "0.30"), ("b", None), ("c", "1")):
        bought.reserve([Charge(key, SV1, shots=100, usd=None if usd is None else Decimal(usd))])
    bought.submitted({"a": "arn:task/1", "b": "arn:task/2"})  # the third was never sent
    bought.settle("a", "completed", usd=Decimal("0.25"))

    first, second = handle.get_tasks()

    assert (first.arn, first.state(), first.usd, first.shots) == ("arn:task/1", "COMPLETED", 0.25, 100)
    assert (second.id, second.status, second.usd) == ("arn:task/2", "QUEUED", None)
    assert first.metadata()["deviceArn"] == SV1
    assert first.created_at <= second.created_at <= datetime.now(UTC)


def test_a_handle_of_any_job_of_ours_answers(here):
    native_hybrid_job(lambda: 5, name="ours").inline()

    handle = AwsQuantumJob("ours")

    assert (handle.result(), handle.state(), handle.arn) == ({"result": 5}, "COMPLETED", "local:job/ours")
    with pytest.raises(ValueError, match="Unable to find the job"):
        AwsQuantumJob("arn:aws:braket:us-east-1:1:job/unknown")
    assert open_job("ours").spec.params == {}


def test_a_run_that_is_only_being_uploaded_is_none_yet(tmp_path):
    runs = tmp_path / "braket"
    for path, content in {"1/intent.json": "{}", "1/answer.json": '{"answer": {"jobArn": "arn:one"}}', "2/files.json": "{}"}.items():
        (runs / path).parent.mkdir(parents=True, exist_ok=True)
        (runs / path).write_text(content)

    assert service.answer(tmp_path) == {"jobArn": "arn:one"}


def test_who_asks_amazon_on_this_machine_is_told_what_to_do(here, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    job = hybrid_job(device=SV1)(lambda: boto3.client("braket"))()

    with pytest.raises(JobFailed, match="HYBRIDJOBS_BRAKET=rehearsal runs the job against an emulator"):
        job.result(WAIT_S)


@pytest.mark.slow
def test_a_rehearsed_job_answers_as_one_at_amazon_braket(tmp_path):
    (tmp_path / "given.txt").write_text("given")
    use("rehearsal")

    @hybrid_job(device=SV1, input_data=str(tmp_path / "given.txt"))
    def work(n):
        log_metric("val-loss", 0.5, iteration_number=n)
        save_job_checkpoint({"n": n})
        place = {"outputS3Bucket": os.environ["AMZN_BRAKET_OUT_S3_BUCKET"], "outputS3KeyPrefix": "tasks"}
        token = os.environ["AMZN_BRAKET_JOB_TOKEN"]  # so does AwsDevice, of which our ledger knows nothing
        boto3.client("braket").create_quantum_task(deviceArn=SV1, shots=9, action=FLIP, jobToken=token, **place)
        return [Path(get_input_data_dir(), "given.txt").read_text(), get_job_device_arn(), get_hyperparameters()]

    job = work(3)

    assert job.result(WAIT_S) == {"result": ["given", SV1, {"n": "3"}]}
    assert job.arn.startswith("arn:aws:braket:us-east-1:")
    assert AwsQuantumJob(job.arn) == job
    [task] = job.get_tasks()
    assert (task.shots, task.device, task.usd, task.created_at.tzinfo) == (9, SV1, None, UTC)
    assert job.metrics()["val-loss"] == [0.5]
    told = job.metadata()
    assert told["roleArn"].startswith("arn:aws:iam::")
    assert told["startedAt"] <= told["endedAt"]
    assert "COMPLETED" in [event["eventType"] for event in told["events"]]
    again = hybrid_job(device=SV1, copy_checkpoints_from_job=job.arn)(load_job_checkpoint)(job.name)
    assert again.result(WAIT_S) == {"n": 3}
