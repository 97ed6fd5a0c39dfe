"""Hybrid jobs of the emulator through boto3: real processes in container-like folders."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from pl_hybridjobs.emulator import JobOptions, emulator
from pl_hybridjobs.emulator.running import Emulator
from pl_hybridjobs.errors import InvalidCall
from tests.emulator.conftest import BUCKET, FORTE, SV1, client, task

ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonBraketJobsExecutionRole"
IMAGE = "292282985366.dkr.ecr.us-east-1.amazonaws.com/amazon-braket-base-jobs:latest"
ROOT = Path(__file__).parents[2]
HEAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
results, checkpoints = (Path(os.environ[f"AMZN_BRAKET_{name}_DIR"]) for name in ("JOB_RESULTS", "CHECKPOINT"))
def report(**values): (results / "results.json").write_text(json.dumps(values))
"""
QUICK = "def main(): report(done=True)"


@pytest.fixture(scope="module")
def home(bucket: str) -> Iterator[Emulator]:
    """An emulator for the jobs of this module; several of them run at the same time."""
    options = JobOptions(checkpoint_interval_s=0.1, grace_s=1.0, instance_usd_per_hour={"ml.m5.xlarge": "0.36"})
    with emulator(seed=3, devices=["SV1", "Forte 1"], jobs=options) as running:
        yield running


def source(code: str | Mapping[str, str | bytes], key: str) -> str:
    """Put a source archive into S3, without a client. Returns its URI."""
    files = {"algo.py": code} if isinstance(code, str) else dict(code)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in files.items():
            content = (HEAD + text if name.endswith(".py") else text).encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    put(f"{key}/source.tar.gz", archive.getvalue())
    return f"s3://{BUCKET}/{key}/source.tar.gz"


def put(key: str, content: bytes) -> None:
    """Write to S3, without a client."""
    from pl_hybridjobs.emulator import buckets

    assert buckets.put(BUCKET, key, content)


def get(key: str) -> bytes | None:
    """Read from S3, without a client."""
    from pl_hybridjobs.emulator import buckets

    return buckets.read(BUCKET, key)


def request(name: str, code: str | Mapping[str, str | bytes] = QUICK, **more: Any) -> dict[str, Any]:
    """CreateJob's parameters for a source."""
    return {
        "jobName": name,
        "roleArn": ROLE,
        "algorithmSpecification": {
            "scriptModeConfig": {"entryPoint": "algo:main", "s3Uri": source(code, f"scripts/{name}"), "compressionType": "GZIP"},
            "containerImage": {"uri": IMAGE},
        },
        "instanceConfig": {"instanceType": "ml.m5.xlarge", "volumeSizeInGb": 30},
        "outputDataConfig": {"s3Path": f"s3://{BUCKET}/jobs/{name}"},
        "checkpointConfig": {"s3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
        "deviceConfig": {"device": "local:none/none"},
        **more,
    }


def start(running: Emulator, *arguments: Any, **more: Any) -> str:
    """Create a job. Returns its ARN."""
    arn: str = client(running).create_job(**request(*arguments, **more))["jobArn"]
    return arn


def ended(running: Emulator, arn: str, timeout_s: float = 60) -> dict[str, Any]:
    """What GetJob says of a job after its end."""
    braket = client(running)

    def over() -> bool:
        return braket.get_job(jobArn=arn)["status"] in ("COMPLETED", "FAILED", "CANCELLED")

    assert running.wait_until(over, timeout_s), log(running, arn)
    found: dict[str, Any] = braket.get_job(jobArn=arn)
    return found


def wait_for_line(running: Emulator, arn: str, line: str) -> None:
    """Until a job has printed something."""
    assert running.wait_until(lambda: line in log(running, arn), 60), log(running, arn)


def log(running: Emulator, arn: str) -> list[str]:
    """A job's lines in CloudWatch."""
    [job] = [job for job in running.jobs if job.arn == arn]
    logs = client(running, "logs")
    try:
        events = logs.get_log_events(logGroupName="/aws/braket/jobs", logStreamName=job.log_stream, startFromHead=True)
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events["events"]]


def results(name: str) -> dict[str, bytes]:
    """Files of a job's model.tar.gz; empty: there is none."""
    packed = get(f"jobs/{name}/output/model.tar.gz")
    if packed is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


def returned(name: str) -> dict[str, Any]:
    """What a job's ``report`` has said."""
    found: dict[str, Any] = json.loads(results(name)["results.json"])
    return found


def refusal(call: Any, **arguments: Any) -> tuple[str, str]:
    """Code and message of a call that is refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def kinds(found: Mapping[str, Any]) -> list[str]:
    """What happened to a job."""
    return [event["eventType"] for event in found["events"]]


# A job's life


def test_a_job_runs_in_a_container_like_folder(home):
    code = """
def main(steps: int, name):
    channel = Path(os.environ["AMZN_BRAKET_INPUT_DIR"], "points")
    print(f"Metrics - timestamp={time.time()}; loss=0.5; iteration_number=1;")
    (results / "folder").mkdir()
    (results / "folder" / "notes.txt").write_text("notes")
    (checkpoints / "deep").mkdir()
    (checkpoints / "deep" / "c.json").write_text("{}")
    report(
        steps=steps,
        name=name,
        cwd=os.getcwd(),
        hyperparameters=json.loads(Path(os.environ["AMZN_BRAKET_HP_FILE"]).read_text()),
        inputs={str(p.relative_to(channel)): p.read_text() for p in channel.rglob("*.csv")},
        environment=dict(os.environ),
        prefix=sys.prefix,
    )
"""
    put("inputs/points/a.csv", b"1")
    put("inputs/points/deep/b.csv", b"2")
    channel = {"channelName": "points", "dataSource": {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/inputs/points"}}}
    arn = start(home, "whole-life", code, hyperParameters={"steps": "3", "name": "bob"}, inputDataConfig=[channel], tags={"team": "qc"})

    found = ended(home, arn)

    assert (found["status"], found.get("failureReason")) == ("COMPLETED", None)
    assert kinds(found) == ["QUEUED_FOR_EXECUTION", "STARTING_INSTANCE", "DOWNLOADING_DATA", "RUNNING", "UPLOADING_RESULTS", "COMPLETED"]
    assert found["createdAt"] <= found["startedAt"] < found["endedAt"]
    assert found["tags"] == {"team": "qc"}
    said = returned("whole-life")
    assert (said["steps"], said["name"]) == (3, "bob")
    assert said["hyperparameters"] == {"steps": "3", "name": "bob"}
    assert said["inputs"] == {"a.csv": "1", "deep/b.csv": "2"}
    assert results("whole-life")["folder/notes.txt"] == b"notes"
    assert get("checkpoints/whole-life/deep/c.json") == b"{}"
    [job] = [job for job in home.jobs if job.arn == arn]
    assert Path(said["cwd"]) == job.folder / "opt/ml/code/customer_code/extracted"
    environment = said["environment"]
    assert environment["AMZN_BRAKET_JOB_RESULTS_DIR"] == str(job.folder / "opt/braket/model")
    assert environment["AMZN_BRAKET_CHECKPOINT_DIR"] == str(job.folder / "opt/jobs/checkpoints")
    assert environment["AMZN_BRAKET_JOB_NAME"] == "whole-life"
    assert environment["AMZN_BRAKET_DEVICE_ARN"] == "local:none/none"
    assert environment["AMZN_BRAKET_OUT_S3_BUCKET"] == BUCKET
    assert environment["AMZN_BRAKET_TASK_RESULTS_S3_URI"] == f"s3://{BUCKET}/jobs/whole-life/tasks"
    assert environment["AWS_ENDPOINT_URL"] == home.url
    assert said["prefix"].startswith(str(job.folder)), "what it installs stays in its own folder"
    assert "secret" not in repr(job)
    assert job.token not in repr(job)
    [line] = [line for line in home.bill.instances if line.job == arn]
    assert (line.instance, line.usd) == ("ml.m5.xlarge", line.seconds * Decimal("0.0001"))
    assert str(line.usd) in str(home.bill)


def test_logs_and_their_queries(home):
    code = """
def main():
    for n in range(12_000): print("line", n)
    print()
    print("Metrics - loss=1; a|b")
    sys.stdout.write("no end of line")
"""
    arn = start(home, "talks", code)
    other = start(home, "talks-too", "def main(): print('Metrics - loss=2;')")
    assert ended(home, arn)["status"] == ended(home, other)["status"] == "COMPLETED"
    logs = client(home, "logs")
    stream = f"talks/{arn.rpartition('/')[2]}/algo-1"

    lines: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = logs.get_log_events(logGroupName="/aws/braket/jobs", logStreamName=stream, startFromHead=True, **token)
        if not page["events"]:
            break
        lines += [event["message"] for event in page["events"]]
        token = {"nextToken": page["nextForwardToken"]}

    assert [line for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(12_000)]
    assert lines[-3:] == ["Metrics - loss=1; a|b", "no end of line", "Code Run Finished"] or "no end of lineCode Run Finished" in lines
    assert "" not in lines
    now = int(time.time())

    def query(text: str, **more: int) -> list[dict[str, str]]:
        asked = logs.start_query(logGroupName="/aws/braket/jobs", startTime=now - 300, endTime=now + 1, queryString=text, **more)
        answer = logs.get_query_results(queryId=asked["queryId"])
        assert answer["status"] == "Complete"
        return [{cell["field"]: cell["value"] for cell in row} for row in answer["results"]]

    mine = rf"filter @logStream like /^talks\/{arn.rpartition('/')[2]}\//"
    assert [row["@message"] for row in query(f"fields @timestamp, @message | {mine} | filter @message like /Metrics - /")] == [
        "Metrics - loss=1; a|b"
    ]
    assert len(query(f'fields @message | {mine} | filter @message like "a|b"')) == 1
    assert len(query(f"fields @message | {mine} | sort @timestamp asc | limit 7", limit=20)) == 7
    assert len(query(f"fields @message | {mine}", limit=10_000)) == 10_000
    assert [row["@logStream"].split("/")[0] for row in query("fields @logStream | filter @message = 'Metrics - loss=2;'")] == ["talks-too"]
    assert refusal(logs.start_query, logGroupName="/none", startTime=0, endTime=1, queryString="")[0] == "ResourceNotFoundException"
    bad = refusal(logs.start_query, logGroupName="/aws/braket/jobs", startTime=0, endTime=1, queryString="stats count(*)")
    assert bad[0] == "MalformedQueryException"


def test_a_failure_says_why_in_1024_characters(home):
    arn = start(home, "fails", "def main(): raise ValueError('x' * 3000)")
    package = {"pkg/__main__.py": "print('as', __name__); sys.exit(3)", "pkg/__init__.py": ""}
    spec = {"entryPoint": "pkg", "s3Uri": source(package, "pkg"), "compressionType": "GZIP"}
    other = start(home, "exits", algorithmSpecification={"scriptModeConfig": spec})

    found = ended(home, arn)

    assert found["status"] == "FAILED"
    assert kinds(found)[-1] == "FAILED"
    assert len(found["failureReason"]) == 1024
    assert found["failureReason"].startswith("AlgorithmError: ValueError: xxx")
    assert found["failureReason"].endswith(", exit code: 1")
    assert any("Traceback" in line for line in log(home, arn))
    assert results("fails") == {}
    assert ended(home, other)["failureReason"] == "AlgorithmError: , exit code: 3"
    assert "as __main__" in log(home, other)


@pytest.mark.torture_long
def test_requirements_go_into_the_jobs_own_environment(home):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("quaint_module.py", "answer = 42\n")
        archive.writestr("quaint_module-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: quaint-module\nVersion: 1.0\n")
        archive.writestr(
            "quaint_module-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("quaint_module-1.0.dist-info/RECORD", "")
    files = {
        "algo.py": "def main():\n import quaint_module, boto3\n report(answer=quaint_module.answer)",
        "requirements.txt": "--no-index\nno-such-package-anywhere\n",
        "deep/requirements.txt": "--no-index\n./quaint_module-1.0-py3-none-any.whl\n",
        "quaint_module-1.0-py3-none-any.whl": wheel.getvalue(),
    }

    found = ended(home, start(home, "installs", files))

    assert found["status"] == "COMPLETED", "pip's failure is not looked at"
    assert returned("installs") == {"answer": 42}
    assert subprocess.run([sys.executable, "-c", "import quaint_module"], capture_output=True).returncode == 1


def test_a_failed_installation_fails_the_job_where_pip_is_checked(bucket):
    with emulator(devices=["SV1"], jobs=JobOptions(checked_pip=True)) as running:
        arn = start(running, "checked", {"algo.py": QUICK, "requirements.txt": "--no-index\nno-such-package-anywhere\n"})

        assert "pip could not install requirements.txt (exit code 1)" in ended(running, arn)["failureReason"]


def test_a_failed_set_up_counts_as_completed_as_in_amazons_containers(home):
    spec = {"entryPoint": "algo:main", "s3Uri": f"s3://{BUCKET}/scripts/vanishes/source.tar.gz", "compressionType": "GZIP"}
    wanted = request("vanishes", algorithmSpecification={"scriptModeConfig": spec}, deviceConfig={"device": FORTE})
    source(QUICK, "scripts/vanishes")
    home.hold("Forte 1")
    arn = client(home).create_job(**wanted)["jobArn"]
    client(home, "s3").delete_object(Bucket=BUCKET, Key="scripts/vanishes/source.tar.gz")
    home.release("Forte 1")

    found = ended(home, arn)

    assert found["status"] == "COMPLETED"
    assert results("vanishes") == {}
    assert "Unable to download code." in log(home, arn)


def test_hyperparameters_are_bound_only_if_all_fit_and_cast_by_annotations(home):
    some = start(home, "some", "def main(a=1): report(a=a)", hyperParameters={"a": "5", "b": "6"})
    cast = start(home, "cast", "def main(flag: bool, **rest): report(flag=flag, **rest)", hyperParameters={"flag": "False", "x": "1"})

    assert {ended(home, arn)["status"] for arn in (some, cast)} == {"COMPLETED"}
    assert returned("some") == {"a": 1}
    assert returned("cast") == {"flag": True, "x": "1"}, "bool('False') is True"


def test_a_channel_is_a_prefix(home):
    put("data/a.csv", b"1")
    put("data_secret.csv", b"2")
    code = "def main(): report(files=sorted(str(p.relative_to(d)) for d in [Path(os.environ['AMZN_BRAKET_INPUT_DIR'])] for p in d.rglob('*') if p.is_file()))"

    def channel(name: str, prefix: str) -> dict[str, Any]:
        return {"channelName": name, "dataSource": {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/{prefix}"}}}

    arn = start(home, "prefixes", code, inputDataConfig=[channel("wide", "dat"), channel("folder", "data/"), channel("file", "data/a.csv")])
    empty = start(home, "no-data", inputDataConfig=[channel("none", "nothing/here")])
    put("odd//a.csv", b"3")
    odd = start(home, "odd-keys", code, inputDataConfig=[channel("odd", "odd/")])
    put("out/../../../a.csv", b"4")
    out = start(home, "leads-out", code, inputDataConfig=[channel("out", "out/")])
    put("clash", b"a file")
    put("clash/file", b"in a folder of the same name")
    clash = start(home, "clash", inputDataConfig=[channel("clash", "clas")])

    assert ended(home, arn)["status"] == "COMPLETED"
    assert returned("prefixes")["files"] == ["file/a.csv", "folder/a.csv", "wide/data/a.csv", "wide/data_secret.csv"]
    assert ended(home, odd)["status"] == "COMPLETED"
    assert returned("odd-keys")["files"] == ["odd/a.csv"]
    assert "leads out of its folder" in ended(home, out)["failureReason"]
    assert "no S3 objects found" in ended(home, empty)["failureReason"]
    assert "Data download failed" in ended(home, clash)["failureReason"]


# Stopping


def test_cancelling_lets_a_job_save_and_then_kills_it(home):
    polite = """
def stop(*_): report(saved=True); (checkpoints / "last").write_text("saved"); sys.exit(0)
def main():
    signal.signal(signal.SIGTERM, stop)
    print("ready")
    time.sleep(60)
"""
    deaf = "def main():\n signal.signal(signal.SIGTERM, signal.SIG_IGN)\n print('ready')\n time.sleep(60)"
    arns = [start(home, "polite", polite), start(home, "deaf", deaf)]
    for arn in arns:
        wait_for_line(home, arn, "ready")
    began = time.monotonic()

    answers = [client(home).cancel_job(jobArn=arn)["cancellationStatus"] for arn in arns]

    assert answers == ["CANCELLING", "CANCELLING"]
    for arn in arns:
        found = ended(home, arn)
        assert (found["status"], kinds(found)[-1], found.get("failureReason")) == ("CANCELLED", "CANCELLED", None)
    assert time.monotonic() - began < 10
    assert returned("polite") == {"saved": True}
    assert get("checkpoints/polite/last") == b"saved"
    assert client(home).cancel_job(jobArn=arns[0])["cancellationStatus"] == "CANCELLED"


def test_a_job_that_ended_cannot_be_cancelled(home):
    arn = start(home, "over")
    ended(home, arn)

    assert refusal(client(home).cancel_job, jobArn=arn)[0] == "ConflictException"


def test_a_job_that_runs_too_long_is_stopped(home):
    arn = start(home, "too-long", "def main(): time.sleep(60)", stoppingCondition={"maxRuntimeInSeconds": 1})

    found = ended(home, arn)

    assert found["status"] == "FAILED"
    assert "MAX_RUNTIME_EXCEEDED" in kinds(found)
    assert "more than 1 s" in found["failureReason"]


def test_a_lost_instance_leaves_checkpoints_and_a_new_job_finds_them(home):
    code = """
def main():
    found = sorted(p.name for p in checkpoints.iterdir())
    if found:
        return report(found=found)
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print("pids", os.getpid(), child.pid)
    (checkpoints / "step-1").write_text("1")
    time.sleep(60)
"""
    arn = start(home, "lost", code)
    assert home.wait_until(lambda: get("checkpoints/lost/step-1") == b"1", 60), log(home, arn)
    [line] = [line for line in log(home, arn) if line.startswith("pids")]

    assert home.kill_job(arn)

    found = ended(home, arn)
    assert found["status"] == "FAILED"
    assert found["failureReason"].startswith("InternalServerError")
    assert results("lost") == {}
    assert not any(Path("/proc", pid).exists() for pid in line.split()[1:]), "the process with a session of its own is gone, too"
    assert not home.kill_job(arn)
    again = start(home, "lost-2", code, checkpointConfig={"s3Uri": f"s3://{BUCKET}/checkpoints/lost/"})
    assert ended(home, again)["status"] == "COMPLETED"
    assert returned("lost-2") == {"found": ["step-1"]}


def test_instances_are_lost_by_chance(bucket):
    with emulator(devices=["SV1"], faults="kill=1,kill_s=0.1") as running:
        assert ended(running, start(running, "unlucky", "def main(): time.sleep(60)"))["status"] == "FAILED"
        assert running.happened == {"kill": 1}


def test_a_killed_emulator_leaves_no_process_behind(bucket, tmp_path):
    code = """
def main():
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path("pids").write_text(f"{os.getpid()} {child.pid}\\n")
    time.sleep(60)
"""
    wanted = request("orphan", code)
    words = [sys.executable, "-m", "pl_hybridjobs.emulator", "--devices", "SV1"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as child:
        try:
            assert child.stdout is not None
            keys = {"endpoint_url": child.stdout.readline().split()[5], "aws_access_key_id": "x", "aws_secret_access_key": "x"}
            s3 = boto3.client("s3", region_name="us-east-1", **keys)
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key="scripts/orphan/source.tar.gz", Body=get("scripts/orphan/source.tar.gz"))
            boto3.client("braket", region_name="us-east-1", **keys).create_job(**wanted)
            end = time.monotonic() + 60
            while not (pids := [p for f in tmp_path.glob("*/*/opt/ml/code/customer_code/extracted/pids") for p in f.read_text().split()]):
                assert time.monotonic() < end
                time.sleep(0.02)
            assert all(Path("/proc", pid).exists() for pid in pids)
        finally:
            child.kill()

    end = time.monotonic() + 10
    while any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


# The service


def test_the_same_token_and_request_are_the_same_job(home):
    wanted = request("once", clientToken="once")
    braket = client(home)

    first = braket.create_job(**wanted)["jobArn"]

    assert braket.create_job(**wanted)["jobArn"] == first
    assert sum(job.name == "once" for job in home.jobs) == 1
    code, message = refusal(braket.create_job, **{**wanted, "hyperParameters": {"a": "b"}})
    assert (code, "used before" in message) == ("ConflictException", True)


def test_a_dropped_reply_leaves_a_job_that_the_same_token_finds(bucket):
    with emulator(devices=["SV1"], faults="drop=1,in_a_row=1") as running:
        wanted = request("dropped", clientToken="dropped")

        with pytest.raises(ConnectionClosedError):
            client(running).create_job(**wanted)

        [job] = running.jobs
        assert client(running).create_job(**wanted)["jobArn"] == job.arn
        assert running.wait_for_jobs()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (
            {"roleArn": "arn:aws:iam::123456789012:role/Nobody"},
            "ValidationException",
            "role arn:aws:iam::123456789012:role/Nobody does not exist",
        ),
        ({"roleArn": "me"}, "ValidationException", "roleArn"),
        ({"jobName": "not_legal"}, "ValidationException", "jobName"),
        ({"jobName": "n" * 51}, "ValidationException", "jobName"),
        ({"hyperParameters": {f"k{n}": "v" for n in range(101)}}, "ValidationException", "101, more than 100"),
        ({"hyperParameters": {"k": "v" * 2501}}, "ValidationException", "more than 2500"),
        ({"hyperParameters": {"k" * 257: "v"}}, "ValidationException", "more than 256"),
        ({"hyperParameters": {"k": "two\nlines"}}, "ValidationException", "must match"),
        ({"instanceConfig": {"instanceType": "ml.m5.tiny", "volumeSizeInGb": 1}}, "ValidationException", "must be one of"),
        (
            {"instanceConfig": {"instanceType": "ml.m5.large", "volumeSizeInGb": 1, "instanceCount": 2}},
            "ServiceQuotaExceededException",
            "more than 1",
        ),
        ({"stoppingCondition": {"maxRuntimeInSeconds": 432_001}}, "ValidationException", "more than 432000"),
        ({"outputDataConfig": {"s3Path": "s3://no-such-bucket/x"}}, "ValidationException", "no-such-bucket does not exist"),
        ({"checkpointConfig": {"s3Uri": "s3://no-such-bucket/x"}}, "ValidationException", "no-such-bucket does not exist"),
        ({"checkpointConfig": {"s3Uri": f"s3://{BUCKET}/c", "localPath": "/opt/../.."}}, "ValidationException", "is no absolute path"),
        ({"deviceConfig": {"device": "local:a"}}, "ValidationException", "local:<provider>/<simulator>"),
        ({"deviceConfig": {"device": SV1.replace("sv1", "sv9")}}, "ValidationException", "not found"),
        ({"tags": {"aws:mine": "x"}}, "ValidationException", "reserved"),
        ({"algorithmSpecification": {"containerImage": {"uri": IMAGE}}}, "ValidationException", "script mode only"),
        (
            {"associations": [{"arn": "arn:aws:braket:us-east-1:123456789012:reservation/x", "type": "RESERVATION_TIME_WINDOW_ARN"}]},
            "ValidationException",
            "not for a local one",
        ),
    ],
)
def test_what_is_refused(home, more, code, message):
    before = len(home.jobs)

    refused = refusal(client(home).create_job, **{**request("refused"), **more})

    assert refused[0] == code
    assert message in refused[1]
    assert len(home.jobs) == before


def test_a_source_that_is_no_archive_or_not_there_is_refused(home):
    put("junk.tar.gz", b"junk")

    def refused(key: str) -> str:
        spec = {"entryPoint": "a", "s3Uri": f"s3://{BUCKET}/{key}", "compressionType": "GZIP"}
        return refusal(client(home).create_job, **request("junk", algorithmSpecification={"scriptModeConfig": spec}))[1]

    assert "is no tar archive" in refused("junk.tar.gz")
    assert "There is no object" in refused("nothing.tar.gz")


def test_channels_with_one_name_and_roles_that_braket_may_not_assume_are_refused(home):
    client(home, "iam").create_role(RoleName="AmazonBraketJobsExecutionRoleBad", AssumeRolePolicyDocument='{"Statement": []}')
    channel = {"channelName": "a", "dataSource": {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/data"}}}

    assert "must differ" in refusal(client(home).create_job, **request("twice", inputDataConfig=[channel, channel]))[1]
    bad = ROLE.replace("service-role/", "") + "Bad"
    assert "unable to assume" in refusal(client(home).create_job, **request("bad-role", roleArn=bad))[1]


def test_quotas(bucket):
    options = JobOptions(quota=1, instance_quota={"ml.p*": 0, "ml.g4dn.xlarge": 1})
    with emulator(devices=["Forte 1"], jobs=options) as running:
        running.hold("Forte 1")
        gpu = {"instanceType": "ml.p3.2xlarge", "volumeSizeInGb": 1}
        waits = {"device": FORTE}

        assert "ml.p* are in use for jobs; the quota is 0" in refusal(client(running).create_job, **request("gpu", instanceConfig=gpu))[1]
        arn = start(running, "first", deviceConfig=waits)
        code, message = refusal(client(running).create_job, **request("second"))

        assert (code, message) == ("ServiceQuotaExceededException", "There are 1 jobs on their way; the quota is 1.")
        assert client(running).cancel_job(jobArn=arn)["cancellationStatus"] == "CANCELLING"
        assert ended(running, arn)["status"] == "CANCELLED"
        assert "startedAt" not in ended(running, arn)


def test_one_job_at_a_time_on_a_qpu(bucket):
    with emulator(devices=["Forte 1"], jobs=JobOptions(start_latency_s=0.3)) as running:
        braket = client(running)
        running.hold("Forte 1")
        arns = [start(running, f"queued-{n}", deviceConfig={"device": FORTE}) for n in range(2)]

        infos = [braket.get_job(jobArn=arn, additionalAttributeNames=["QueueInfo"])["queueInfo"] for arn in arns]
        depth = {row["queue"]: row["queueSize"] for row in braket.get_device(deviceArn=FORTE)["deviceQueueInfo"]}
        running.release("Forte 1")
        found = [ended(running, arn) for arn in arns]

        assert [info["position"] for info in infos] == ["1", "2"]
        assert depth["JOBS_QUEUE"] == "2"
        assert kinds(found[0])[:3] == ["WAITING_FOR_PRIORITY", "QUEUED_FOR_EXECUTION", "STARTING_INSTANCE"]
        assert found[0]["endedAt"] <= found[1]["startedAt"]
        times = {event["eventType"]: event["timeOfEvent"] for event in found[0]["events"]}
        assert (times["DOWNLOADING_DATA"] - times["STARTING_INSTANCE"]).total_seconds() >= 0.3
        assert braket.get_job(jobArn=arns[0], additionalAttributeNames=["QueueInfo"])["queueInfo"]["position"] == "None"
        assert "unknown" in str(running.bill)


def test_tasks_with_the_token_belong_to_the_job(home):
    code = f"""
import boto3
def main():
    braket, token = boto3.client("braket"), os.environ["AMZN_BRAKET_JOB_TOKEN"]
    report(arn=braket.create_quantum_task(jobToken=token, **{task(SV1)!r})["quantumTaskArn"])
"""
    arn = start(home, "with-tasks", code)

    assert ended(home, arn)["status"] == "COMPLETED", log(home, arn)

    made = returned("with-tasks")["arn"]
    asked = {"additionalAttributeNames": ["QueueInfo"], "quantumTaskArn": made}
    assert client(home).get_quantum_task(**asked)["jobArn"] == arn
    assert client(home).get_quantum_task(**asked)["queueInfo"]["queuePriority"] == "Priority"
    found = client(home).search_quantum_tasks(filters=[{"name": "jobArn", "operator": "EQUAL", "values": [arn]}])
    assert [row["quantumTaskArn"] for row in found["quantumTasks"]] == [made]


def test_searching_and_tagging_jobs(bucket):
    with emulator(devices=["Forte 1"]) as running:
        running.hold("Forte 1")
        braket = client(running)
        arns = [start(running, f"found-{n}", deviceConfig={"device": FORTE}) for n in range(3)]
        created = running.jobs[1].created.isoformat()

        def search(*filters: tuple[str, str, str], **more: Any) -> list[str]:
            asked = [{"name": name, "operator": operator, "values": [value]} for name, operator, value in filters]
            return [row["jobName"] for row in braket.search_jobs(filters=asked, **more)["jobs"]]

        assert search() == ["found-2", "found-1", "found-0"]
        assert search(("createdAt", "GTE", created)) == ["found-2", "found-1"]
        assert search(("jobArn", "EQUAL", arns[0])) == ["found-0"]
        assert search(("jobArn", "CONTAINS", arns[1][-8:])) == ["found-1"]
        first = braket.search_jobs(filters=[], maxResults=2)
        assert [row["jobName"] for row in braket.search_jobs(filters=[], nextToken=first["nextToken"])["jobs"]] == ["found-0"]
        for wrong in (("jobName", "EQUAL", "x"), ("jobArn", "LT", "x"), ("createdAt", "EQUAL", "yesterday")):
            asked = [dict(zip(("name", "operator", "values"), (*wrong[:2], [wrong[2]]), strict=True))]
            assert refusal(braket.search_jobs, filters=asked)[0] == "ValidationException"
        assert refusal(braket.get_job, jobArn=arns[0] + "x")[0] == "ResourceNotFoundException"
        assert refusal(client(running, region="us-west-2").get_job, jobArn=arns[0])[0] == "ResourceNotFoundException"

        braket.tag_resource(resourceArn=arns[0], tags={"a": "1", "b": "2"})
        braket.untag_resource(resourceArn=arns[0], tagKeys=["a"])
        assert braket.list_tags_for_resource(resourceArn=arns[0])["tags"] == {"b": "2"}


def test_a_job_of_a_device_that_is_offline_is_refused_and_one_in_a_reservation_is_not_billed(bucket):
    with emulator(devices=["Forte 1"]) as running:
        mine = [{"arn": running.reserve("Forte 1"), "type": "RESERVATION_TIME_WINDOW_ARN"}]
        arn = start(running, "reserved", deviceConfig={"device": FORTE}, associations=mine)
        assert ended(running, arn)["status"] == "COMPLETED"
        assert not running.bill.instances

        running.set_status("Forte 1", "OFFLINE")
        assert refusal(client(running).create_job, **request("off", deviceConfig={"device": FORTE}))[0] == "DeviceOfflineException"


def test_images_may_have_another_python(bucket):
    with emulator(devices=["SV1"], jobs=JobOptions(image_python={"*-base-jobs*": "3.99", "*": sys.executable})) as running:
        ecr = client(running, "ecr")

        def tags(**wanted: str) -> list[str]:
            asked = {"registryId": "292282985366", "repositoryName": "amazon-braket-base-jobs", "imageIds": [wanted]}
            return [image["imageId"]["imageTag"] for image in ecr.batch_get_image(**asked)["images"]]

        digest = ecr.batch_get_image(registryId="292282985366", repositoryName="amazon-braket-base-jobs", imageIds=[{"imageTag": "latest"}])
        found = tags(imageDigest=digest["images"][0]["imageId"]["imageDigest"])
        arn = start(running, "skewed")

        assert any("-py399-" in tag for tag in found)
        assert "Python 3.99, which is not on this machine" in ended(running, arn)["failureReason"]
        unknown = refusal(ecr.batch_get_image, registryId="292282985366", repositoryName="nothing", imageIds=[{"imageTag": "latest"}])
        assert unknown[0] == "RepositoryNotFoundException"


def test_jobs_wait_in_order_where_few_run_at_once_and_names_repeat_with_the_seed(bucket):
    arns, lines = [], []
    for _ in range(2):
        with emulator(devices=["SV1"], seed=2, jobs=JobOptions(concurrency=1)) as running:
            wanted = [request(f"turn-{n}", "def main(): print('mine')", clientToken=f"{n}") for n in range(3)]
            arns.append([client(running).create_job(**one)["jobArn"] for one in wanted])
            found = [ended(running, arn) for arn in arns[-1]]
            lines.append([log(running, arn).count("mine") for arn in arns[-1]])

        assert [a["endedAt"] <= b["startedAt"] for a, b in itertools.pairwise(found)] == [True, True]

    assert arns[0] == arns[1]
    assert lines == [[1, 1, 1], [1, 1, 1]], "the log of the first emulator's job is gone"


def test_logs_may_come_late(bucket):
    with emulator(devices=["SV1"], faults="log_delay_s=0.5") as running:
        arn = start(running, "late", "def main(): print('at last')")
        wait_for_line(running, arn, "at last")
        stream = {"logGroupName": "/aws/braket/jobs", "logStreamName": f"late/{arn.rpartition('/')[2]}/algo-1"}

        [event] = [event for event in client(running, "logs").get_log_events(**stream)["events"] if event["message"] == "at last"]

        assert event["ingestionTime"] - event["timestamp"] >= 500


def test_wrong_options_are_named_together():
    with pytest.raises(InvalidCall, match=r"(?s)grace_s=-1 is no time.*quota=0 is less than 1"):
        JobOptions(grace_s=-1, quota=0)
    with pytest.raises(InvalidCall, match="neither a Python nor a version"):
        emulator(jobs=JobOptions(image_python={"*": "/no/such/python"}))


@pytest.mark.torture_long
def test_many_jobs_amid_faults_are_each_created_once_and_all_end(bucket):
    faults = "throttle=0.2,error=0.1,drop=0.2,duplicate=0.2,s3=0.3,kill=0.4,kill_s=0.5,log_delay_s=0.2"
    code = """
def main(number: int):
    (checkpoints / "number").write_text(str(number))
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    time.sleep(1)
    report(number=number)
"""
    with emulator(devices=["SV1"], faults=faults, seed=11, jobs=JobOptions(concurrency=6, checkpoint_interval_s=0.1)) as running:
        keys = {"endpoint_url": running.url, "aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
        braket = boto3.client("braket", config=Config(retries={"total_max_attempts": 10, "mode": "standard"}), **keys)
        arns = [
            braket.create_job(**request(f"amid-{n}", code, hyperParameters={"number": str(n)}, clientToken=f"t{n}"))["jobArn"]
            for n in range(40)
        ]
        assert running.wait_for_jobs(600)

        found = [braket.get_job(jobArn=arn) for arn in arns]
        assert [job.arn for job in running.jobs] == arns
        assert len(running.bill.instances) == 40
        killed = [n for n, job in enumerate(found) if job["status"] == "FAILED"]
        assert len(killed) == running.happened["kill"]
        assert all(returned(f"amid-{n}") == {"number": n} for n in range(40) if n not in killed)
        assert not any(results(f"amid-{n}") for n in killed)
        root = running.jobs[0].folder.parent
        assert root.is_dir()

    assert not root.exists()
