"""Jobs on (an emulated) Amazon Braket: submitted once, looked at, cancelled, resumed, attached to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import boto3
import pytest

from pl_hybridjobs import Status, hybrid_job, open_job
from pl_hybridjobs.braket import record
from pl_hybridjobs.braket.attach import attach
from pl_hybridjobs.braket.mirror import Mirror
from pl_hybridjobs.braket.runner import BraketRunner, input_problems, instance_cost
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.cost.account import of_user
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.errors import (
    BudgetExceeded,
    InvalidCall,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobTimeout,
    ProviderError,
    RunnerError,
)
from pl_hybridjobs.jobs import trackers
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec
from tests.braket.scripted import Reply, scripted
from tests.jobs import functions

WAIT_S = 90
FIVE_DAYS = Decimal("0.115") * 120
SPEC = JobSpec(id="20261121-120000-abcdef01", name="vqe", function="vqe")
long = pytest.mark.torture_long


@pytest.fixture
def service(emulated):
    """An emulator that copies checkpoints often."""

    def start(faults: str = "", **options):
        return emulated(jobs=JobOptions(**{"checkpoint_interval_s": 0.2, **options}), faults=faults)

    return start


def braket_job(fn, *args, runner=None, options=None, **kwargs):
    return hybrid_job(fn, runner=runner or BraketRunner(), **(options or {}))(*args, **kwargs)


def raise_(error):
    raise error


def wait_for(true, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Submitting --------------------------------------------------------------------------------------------------------------------


def test_a_lost_reply_makes_no_second_job(service):
    running = service("drop=1,in_a_row=2")

    job = braket_job(functions.add, 1, c=3)

    assert len(running.jobs) == 1
    assert running.happened["drop"] >= 2
    assert [run.arn for run in record.runs(JobFolder(job.folder))] == [running.jobs[0].arn]
    running.kill_job(running.jobs[0].arn)


def test_a_job_that_was_never_created_and_would_be_refused_now_can_be_cancelled_and_what_was_set_aside_is_free(service, monkeypatch):
    service(quota=1)
    with monkeypatch.context() as away:
        away.setattr(BraketRunner, "_submit", lambda *_, **__: raise_(ProviderError("no answer")))
        with pytest.raises(RunnerError, match="no answer"):
            braket_job(functions.add, 1, options={"name": "lost"})
    job, held = open_job("lost"), braket_job(functions.sleep, 60)
    (run,) = record.runs(JobFolder(job.folder))
    with pytest.raises(RunnerError, match=r"could not be cancelled.*quota"):
        job.cancel(0)  # what was created a moment ago may not be listed yet
    assert of_user().cost().usd == 2 * FIVE_DAYS

    run.begin({**run.intent, "time": run.intent["time"] - 3600.0})
    assert job.cancel(0) is Status.CANCELLED

    assert of_user().cost().usd == FIVE_DAYS
    held.cancel(0)


def test_a_job_that_is_sent_again_has_its_mirrors(service, monkeypatch):
    running = service()
    begun: list[object] = []
    monkeypatch.setattr(trackers, "begin", lambda folder, mirrors: begun.append(folder))
    with monkeypatch.context() as away:
        away.setattr(BraketRunner, "_submit", lambda *_, **__: raise_(ProviderError("no answer")))
        with pytest.raises(RunnerError, match="no answer"):
            braket_job(functions.sleep, 60, options={"name": "again"})
    assert begun == []

    open_job("again").resume()

    assert len(begun) == len(running.jobs) == 1
    running.kill_job(running.jobs[0].arn)


def test_a_job_whose_client_died_while_it_uploaded_takes_what_was_set_aside_along_when_it_is_removed(service, monkeypatch):
    service()
    with monkeypatch.context() as dying:
        dying.setattr(Mirror, "push", lambda _: raise_(ProviderError("gone")))
        dying.setattr(BraketRunner, "_give_back", lambda *_: None)
        with pytest.raises(RunnerError, match="gone"):
            braket_job(functions.add, 1, options={"name": "late"})
    assert of_user().cost().usd == FIVE_DAYS

    open_job("late").remove()

    assert of_user().cost().is_nothing


SUBMIT = """
import sys
from pl_hybridjobs import hybrid_job
from tests.jobs import functions
hybrid_job(functions.sleep, runner="braket", key="once")(30)
"""


@pytest.mark.parametrize("point", ["braket.intent", pytest.param("braket.created", marks=long)])
def test_a_client_that_dies_while_it_submits_and_tries_again_has_one_job(service, point):
    running = service()
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}

    died = subprocess.run([sys.executable, "-c", SUBMIT], env={**environment, "HYBRIDJOBS_CRASH_AT": point}, cwd=root, check=False)
    again = subprocess.run([sys.executable, "-c", SUBMIT], env=environment, cwd=root, check=False)

    assert (died.returncode, again.returncode) == (86, 0)
    assert len(running.jobs) == 1


def test_clients_that_submit_under_one_key_at_once_have_one_job(service):
    running = service()

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: braket_job(functions.sleep, 30, options={"key": "once"}), range(3)))

    assert len(set(found)) == len(running.jobs) == 1
    running.kill_job(running.jobs[0].arn)


def test_a_refused_job_leaves_no_trace_and_says_why(service):
    service(quota=1)
    held = braket_job(functions.sleep, 60)

    with pytest.raises(RunnerError, match=r"could not be submitted.*quota") as caught:
        braket_job(functions.add, 1, options={"name": "second"})

    assert "Service Quotas" in str(caught.value)
    assert open_job("second").status is Status.CREATED
    assert record.runs(JobFolder(open_job("second").folder)) == []
    assert of_user().cost().usd == FIVE_DAYS, "what was set aside for it is free again"
    held.cancel(0)
    assert of_user().cost().usd == held.cost.usd_final, "the job that began costs what was billed"


def test_an_upload_that_failed_is_begun_anew(service, monkeypatch):
    running = service()
    push = Mirror.push
    failed: list[Mirror] = []

    def fail_once(mirror: Mirror) -> None:
        if not failed:
            failed.append(mirror)
            raise ProviderError("S3 is away")
        push(mirror)

    monkeypatch.setattr(Mirror, "push", fail_once)
    with pytest.raises(RunnerError, match="S3 is away"):
        braket_job(functions.sleep, 60, options={"name": "late"})
    job = open_job("late")
    assert (job.status, len(running.jobs)) == (Status.CREATED, 0)

    job.resume()

    assert len(running.jobs) == 1
    running.kill_job(running.jobs[0].arn)


def test_a_job_that_is_cancelled_while_it_is_uploaded_is_not_submitted(service, monkeypatch):
    running = service()
    push = Mirror.push

    def push_late(mirror: Mirror) -> None:
        open_job("late").cancel(0)
        push(mirror)

    monkeypatch.setattr(Mirror, "push", push_late)
    with pytest.raises(RunnerError, match="cancelled while it was uploaded"):
        braket_job(functions.add, 1, options={"name": "late"})

    assert (open_job("late").status, len(running.jobs)) == (Status.CANCELLED, 0)
    assert of_user().cost().is_nothing


def ask(preflight: BraketRunner, **replies: Reply) -> list[str]:
    """What preflight says of a service that answers so, by service."""

    def reply(headers) -> Reply:
        scope = headers.get("Authorization", "").partition("Credential=")[2].split("/")
        return replies.get(scope[3].replace("-", "") if len(scope) > 3 else "", Reply(400, {"message": "no"}, "ValidationException"))

    with scripted(reply) as double:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            os.environ[name] = double.url
        return preflight.preflight(SPEC)


@pytest.fixture
def account(monkeypatch) -> None:
    """Credentials, and variables that are put back."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


WHO = (
    b"<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/x</Arn>"
    b"<UserId>x</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
NO_ROLES = b"<ListRolesResponse xmlns='https://iam.amazonaws.com/doc/2010-05-08/'><ListRolesResult><IsTruncated>false</IsTruncated><Roles/></ListRolesResult></ListRolesResponse>"
DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not for you</Message></Error></ErrorResponse>"
QUOTA_OF_ZERO = {"Quotas": [{"ServiceCode": "braket", "QuotaName": "Number of ml.p3.2xlarge instances for jobs", "Value": 0.0}]}


def test_everything_that_would_be_refused_is_said_at_once(account):
    found = ask(
        BraketRunner(bucket="not-mine", instance_type="ml.p3.2xlarge"),
        sts=Reply(body=WHO),
        s3=Reply(404, b""),
        iam=Reply(body=NO_ROLES),
        servicequotas=Reply(body=QUOTA_OF_ZERO),
        ecr=Reply(body={"images": [{"imageId": {"imageDigest": "sha256:1", "imageTag": "latest-cpu-py39-x"}}], "failures": []}),
    )

    assert len(found) == 4
    assert "the bucket 'not-mine' for results does not exist" in found[0]
    assert "no role for jobs" in found[1]
    assert "quota of ml.p3.2xlarge for jobs is 0" in found[2]
    assert "Amazon's images have 3.9" in found[3]


@pytest.mark.parametrize(
    ("reply", "complaints"),
    [
        (Reply(body=b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"), ["inputs['set']: there is nothing at s3://mine/key"]),
        (Reply(404, b"<Error><Code>NoSuchBucket</Code></Error>"), ["inputs['set']: there is no bucket 'mine'"]),
        (Reply(403, b"<Error><Code>AccessDenied</Code></Error>"), []),  # the job's role may be allowed to
    ],
)
def test_an_input_that_is_not_there_is_found_before_an_instance_is_paid_for(account, reply, complaints):
    with scripted(lambda _: reply) as double:
        session = Session(region="us-east-1", endpoint_url=double.url)

        assert input_problems(session, replace(SPEC, inputs={"set": "s3://mine/key", "here": "a.txt"})) == complaints


def test_a_missing_permission_is_named(account):
    found = ask(BraketRunner(), sts=Reply(body=WHO), s3=Reply(403, b""), iam=Reply(403, DENIED))

    assert "belongs to another account" in found[0]
    assert "iam:ListRoles is missing" in found[1]


def test_another_refusal_is_not_taken_for_a_missing_permission(account):
    invalid = b"<ErrorResponse><Error><Code>ValidationError</Code><Message>bad marker</Message></Error></ErrorResponse>"

    found = ask(BraketRunner(), sts=Reply(body=WHO), s3=Reply(200, b""), iam=Reply(400, invalid))

    assert "bad marker (ValidationError)" in found[0]
    assert "is missing" not in found[0]


def test_a_named_role_is_not_looked_for(account):
    role = "arn:aws:iam::123456789012:role/mine"
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"

    found = ask(BraketRunner(role_arn=role, image_uri=image, instance_type="ml.m5.huge"), sts=Reply(body=WHO), s3=Reply(200, b""))

    assert len(found) == 1
    assert "no instance_type='ml.m5.huge'. Did you mean" in found[0]


def test_without_credentials_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    with pytest.raises(InvalidCall, match="no AWS credentials were found") as caught:
        braket_job(functions.add, 1)

    assert len(caught.value.complaints) == 1
    assert "hybridjobs emulator" in str(caught.value)


# Running -----------------------------------------------------------------------------------------------------------------------


def test_a_lost_instance_is_an_interruption_and_the_resumed_job_gives_the_same_bits(service):
    running = service()
    job = braket_job(functions.count, 12, 0.25)
    wait_for(lambda: len(job.checkpoints()) >= 2)
    assert running.kill_job(running.jobs[0].arn)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert "InternalServerError" in job.state().detail
    assert job.resume() == job

    assert job.result(WAIT_S) == functions_total(12)
    assert job.attempt == 2
    assert len(running.jobs) == 2
    assert list(job.metrics().steps("total")) == list(range(12))
    assert "-- attempt 2" in job.logs()
    kinds = job.cost.by_kind["braket-instance"]
    assert kinds.usd_final > 0


def functions_total(steps: int) -> float:
    total = 0.0
    for step in range(steps):
        total = total + 0.1 * step
    return total


@long
def test_an_interruption_is_retried_where_asked(service):
    running = service()
    job = braket_job(functions.count, 12, 0.25, options={"retries": 1})
    wait_for(lambda: len(job.checkpoints()) >= 2)
    running.kill_job(running.jobs[0].arn)

    assert job.result(WAIT_S) == functions_total(12)
    assert (job.attempt, len(running.jobs)) == (2, 2)


def test_a_job_is_cancelled_with_all_that_it_started(service):
    running = service()
    job = braket_job(functions.sleep, 600)
    wait_for(lambda: job.status is Status.RUNNING)

    assert job.cancel(5) is Status.CANCELLED

    assert running.jobs[0].status == "CANCELLED"
    with pytest.raises(JobCancelled):
        job.result(0)


@long
def test_a_job_that_runs_for_too_long_has_timed_out(service):
    service(grace_s=0.5)
    job = braket_job(functions.sleep, 600, runner=BraketRunner(max_runtime_s=3))

    with pytest.raises(JobTimeout, match="max_runtime_s=3"):
        job.result(WAIT_S)


@long
def test_timeout_s_is_kept_by_the_supervisor_inside(service):
    service()
    job = braket_job(functions.sleep, 600, options={"resources": {"timeout_s": 1.0}})

    with pytest.raises(JobTimeout, match="timeout_s=1"):
        job.result(WAIT_S)


def test_what_the_service_could_not_start_fails_with_its_reason(service):
    service(image_python={"*mine*": "9.9"})
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    job = braket_job(functions.add, 1, runner=BraketRunner(image_uri=image), options={"name": "no legal_name"})
    assert re.search(r":job/\S+ \(no-legal-name-\w{10}-1\)$", job.place)

    with pytest.raises(JobFailed, match=r"never called: CannotStartContainerError.*9\.9"):
        job.result(WAIT_S)

    assert job.attempt == 0


@long
def test_a_source_that_was_exchanged_in_s3_is_refused(service):
    running = service(start_latency_s=3.0)
    job = braket_job(functions.add, 1)
    other = braket_job(functions.add, 2, options={"name": "other"})
    s3 = boto3.client("s3")
    places = [
        run.request["algorithmSpecification"]["scriptModeConfig"]["s3Uri"].removeprefix("s3://").split("/", 1) for run in running.jobs
    ]
    s3.copy_object(Bucket=places[0][0], Key=places[0][1], CopySource={"Bucket": places[1][0], "Key": places[1][1]})

    with pytest.raises(JobFailed, match="not the one that was submitted"):
        job.result(WAIT_S)
    assert other.result(WAIT_S) == 4


@long
def test_a_sweep_goes_on_from_job_to_job(service):
    running = service()
    sweep = hybrid_job(functions.add, runner="braket").map([{"a": n} for n in range(3)], max_parallel=1)

    assert sweep.results(WAIT_S) == [2, 3, 4]
    assert len(running.jobs) == 3


@long
def test_what_cannot_be_seen_is_unknown_and_what_was_seen_stays(service):
    running = service()
    job = braket_job(functions.count, 100, 0.25)
    wait_for(lambda: len(job.metrics().names) > 0)
    running.close()
    time.sleep(1.1)

    assert job.status is Status.UNKNOWN
    assert "no proper answer" in job.state().detail
    assert len(job.metrics()["total"]) > 0


def test_a_clock_that_went_back_does_not_stop_the_looks(service):
    running = service()
    job = braket_job(functions.sleep, 60)
    run = record.runs(JobFolder(job.folder))[0]
    (run.path / "answer.json").write_text(json.dumps({"time": time.time() + 3600, "answer": {}}))

    job.state()

    assert run.answer["jobArn"] == run.arn
    running.kill_job(run.arn)


def test_another_machine_attaches_and_sees_the_same(service, tmp_path, monkeypatch):
    source = tmp_path / "data.txt"
    source.write_text("seven")
    running = service()
    job = braket_job(functions.read_input, "set", options={"inputs": {"set": source}, "name": "mine"})
    assert job.result(WAIT_S) == "seven"

    monkeypatch.setenv("HYBRIDJOBS_HOME", str(tmp_path / "other home"))
    there = attach(running.jobs[0].arn)

    assert there.folder != job.folder
    assert (there.name, there.id, there.params) == (job.name, job.id, job.params)
    assert there.result(WAIT_S) == "seven"
    assert there.logs() == job.logs()
    assert (there.folder / "inputs/set/data.txt").read_text() == "seven"
    assert attach(running.jobs[0].arn) == there
    with pytest.raises(InvalidCall, match="is no Braket job"):
        attach("arn:aws:s3:::bucket")


@pytest.mark.parametrize(
    ("kind", "usd", "unknown"), [("ml.m5.large", Decimal("0.115"), 0), ("ml.p4d.24xlarge", Decimal(0), 1)], ids=["known", "unknown"]
)
def test_an_hour_costs_what_the_list_says(kind, usd, unknown):
    told = {
        "status": "COMPLETED",
        "startedAt": 0.1,
        "endedAt": 3600.1,
        "billableDuration": 3_600_000,
        "instanceConfig": {"instanceType": kind},
    }

    cost = instance_cost(told)

    assert (cost.usd_final, cost.seconds, cost.unknown_tasks) == (usd, 3600.0, unknown)
    assert f"braket-instance:{kind}" in cost.by_device
    assert ("not known" in str(cost)) == bool(unknown)


def test_a_plan_says_what_an_hour_costs():
    text = str(hybrid_job(functions.add, runner=BraketRunner(instance_type="ml.c5.xlarge")).plan(1))

    assert "price: ml.c5.xlarge: 0.204 USD an hour" in text
    assert "cost: depends on what it runs" in text


def test_inputs_in_s3_are_for_braket_only():
    with pytest.raises(InvalidCall, match="lies in S3, which is read on Amazon Braket only"):
        hybrid_job(functions.read_input, runner="inline", inputs={"set": "s3://bucket/key"})("set")
    with pytest.raises(InvalidCall, match="is no place in S3"):
        hybrid_job(functions.read_input, runner="braket", inputs={"set": "s3://"})("set")


@long
def test_inputs_that_lie_in_s3_are_found_by_input_path(service):
    service()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="amazon-braket-data")
    s3.put_object(Bucket="amazon-braket-data", Key="set/a.txt", Body=b"seven")

    job = braket_job(functions_read_a, options={"inputs": {"set": "s3://amazon-braket-data/set/"}})

    assert job.result(WAIT_S) == "seven"


def functions_read_a():
    """Reads a file of a channel."""
    from pl_hybridjobs import input_path

    return (input_path("set") / "a.txt").read_text()


def run_out_of_money():
    """Stops as a device does that may not buy any more."""
    from pl_hybridjobs import save_checkpoint
    from pl_hybridjobs.errors import BudgetExceeded

    save_checkpoint({"step": 1}, 1)
    raise BudgetExceeded("the next task would cost too much")


@long
def test_a_job_whose_budget_ran_out_is_interrupted_and_not_retried_by_itself(service):
    running = service()
    job = braket_job(run_out_of_money, options={"retries": 3})

    with pytest.raises(BudgetExceeded, match="cost too much") as caught:
        job.result(WAIT_S)

    assert isinstance(caught.value, JobInterrupted)
    assert len(running.jobs) == 1
    assert [c.step for c in job.checkpoints()] == [1]
