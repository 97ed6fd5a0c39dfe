"""CreateJob's parameters and GetJob's answers."""

from __future__ import annotations

import re
from dataclasses import replace

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.braket import jobs
from pl_hybridjobs.braket.jobs import Order, Places, RequestOptions
from pl_hybridjobs.jobs.spec import JobSpec, Resources, Status

FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
GARNET = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonBraketJobsExecutionRole"
ORDER = Order("20261121-120000-abcdef01", 1, "start", "b" * 64, "c" * 64, "3.12")


def spec(**fields) -> JobSpec:
    return JobSpec(**{"id": ORDER.job, "name": "vqe", "function": "vqe", **fields})


def made(job: JobSpec, options: RequestOptions | None = None, order: Order = ORDER) -> dict:
    options = options or RequestOptions()
    places = Places.of(options, "amazon-braket-x", jobs.job_name(job.name, job.id, order.run))
    return jobs.request(job, options, order, places, role=ROLE, region="us-east-1")


def model():
    return botocore.session.get_session().get_service_model("braket").operation_model("CreateJob").input_shape


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(spec(), id="plain"),
        pytest.param(spec(name="no _ in! Braket's names " * 5), id="a name that must be changed"),
        pytest.param(spec(params={"a": "", "b": "x\ny", "c": "z" * 9000, "d": 1.5, "e": None}), id="arguments of all sorts"),
        pytest.param(spec(params={f"p{i}": i for i in range(300)}), id="too many arguments"),
        pytest.param(spec(inputs={"data": "a.csv", "far": "s3://bucket/key"}, tags={"a": "b"}, device={"x": SV1, "y": FORTE}), id="more"),
    ],
)
def test_a_request_is_legal_for_botocores_model(job):
    asked = made(job)

    report = ParamValidator().validate(asked, model())

    assert not report.has_errors(), report.generate_report()
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,50}", asked["jobName"])
    assert len(asked["hyperParameters"]) <= 100
    assert all(1 <= len(value) <= 2500 and "\n" not in value for value in asked["hyperParameters"].values())


def test_code_of_two_jobs_under_one_place_stays_apart():
    options = RequestOptions(code_s3="s3://b/code/")

    one, two = (Places.of(options, "amazon-braket-x", name).source("0a") for name in ("one", "two"))

    assert (one, two) == ("s3://b/code/one/0a/source.tar.gz", "s3://b/code/two/0a/source.tar.gz")


def test_the_same_job_gives_the_same_request_and_another_run_another_one():
    assert made(spec()) == made(spec())
    again = made(spec(), order=Order(ORDER.job, 2, "resume", ORDER.bundle, ORDER.payload, "3.12"))
    assert made(spec())["clientToken"] != again["clientToken"]
    assert made(spec())["jobName"] != again["jobName"]
    assert made(spec())["checkpointConfig"] != again["checkpointConfig"]


@given(name=st.text(max_size=120), run=st.integers(1, 10**4))
def test_a_legal_name_is_derived_of_any_text(name, run):
    derived = jobs.job_name(name, "id", run)

    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,50}", derived)
    assert len(derived) <= 50


def test_names_that_look_alike_stay_apart():
    assert jobs.job_name("vqe" * 30, "one", 1) != jobs.job_name("vqe" * 30, "two", 1)


def test_the_digests_travel_in_the_request():
    asked = made(spec())

    assert Order.from_hyperparameters(asked["hyperParameters"]) == ORDER
    assert asked["hyperParameters"]["hybridjobs-bundle"] == "b" * 64


def test_arguments_are_shown_and_ours_are_not_overwritten():
    found = jobs.hyperparameters(spec(params={"steps": 5, "text": "", "hybridjobs-job": "forged"}), RequestOptions(), ORDER)

    assert found["steps"] == "5"
    assert found["text"] == '""'
    assert found["hybridjobs-job"] == ORDER.job


def test_what_does_not_fit_is_said():
    found = jobs.hyperparameters(spec(params={f"p{i}": i for i in range(200)}), RequestOptions(hyperparameters={"mine": "1"}), ORDER)

    assert len(found) == 100
    assert found["mine"] == "1"
    assert found["hybridjobs-omitted"].endswith("of 200 arguments")


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (None, "local:none/none"),
        ("lightning.qubit", "local:pennylane/lightning.qubit"),
        ("local:braket/default", "local:braket/default"),
        (SV1, SV1),
        ({"warm up": "hybridjobs.qubit", "small": SV1, "final": FORTE}, FORTE),
        ("local:my provider/a b:c", "local:my_provider/a_b_c"),
    ],
)
def test_the_device_is_one_that_gets_priority_or_a_legal_local_name(device, text):
    assert jobs.device_text(spec(device=device)) == text


def test_a_job_runs_in_the_region_of_its_device():
    assert RequestOptions().region_for(spec(device=GARNET)) == "eu-north-1"
    assert RequestOptions(region="us-west-2").region_for(spec(device=SV1)) == "us-west-2"


@pytest.mark.parametrize(
    ("options", "job", "complaint"),
    [
        ({"instance_count": 2}, {}, "one process"),
        ({"instance_count": "2"}, {}, "whole number"),
        ({"volume_gb": 0}, {}, "volume_gb"),
        ({"max_runtime_s": 10**6}, {}, "5 days"),
        ({"distribution": "data_parallel"}, {}, "not supported"),
        ({"framework": "torch"}, {}, "Did you mean 'pytorch'"),
        ({"image_uri": "python:3.12"}, {}, "no image of Amazon ECR"),
        ({"role_arn": "admin"}, {}, "no role"),
        ({"bucket": "s3://mine"}, {}, "no name of a bucket"),
        ({"output_s3": "/tmp"}, {}, "no place in S3"),
        ({"checkpoint_s3": "mine"}, {}, "no place in S3"),
        ({"code_s3": "mine"}, {}, "no place in S3"),
        ({"reservation_arn": "mine"}, {}, "reservation"),
        ({"hyperparameters": {"a": 1}}, {}, "must be text, not int"),
        ({"hyperparameters": {"a": ""}}, {}, "1 to 2500 characters"),
        ({"hyperparameters": {"a": "x\ny"}}, {}, "no line break"),
        ({"hyperparameters": {"hybridjobs-job": "x"}}, {}, "do not begin with"),
        ({"hyperparameters": ["a"]}, {}, "mapping"),
        ({"region": ""}, {}, "not empty"),
        ({"region": "us-west-1"}, {"device": FORTE}, "leave region= out"),
        ({}, {"device": {"a": FORTE, "b": GARNET}}, "2 regions"),
        ({}, {"resources": Resources(timeout_s=432_000)}, "too long"),
        ({}, {"tags": {"a": "<b>"}}, "letters, digits"),
        ({}, {"tags": {f"t{i}": "" for i in range(60)}}, "50"),
        ({}, {"inputs": {f"c{i}": "" for i in range(21)}}, "20 channels"),
    ],
)
def test_what_the_service_would_refuse_is_found_before(options, job, complaint):
    found = RequestOptions(**options).complaints(spec(**job))

    assert len(found) == 1
    assert complaint in found[0]


def test_all_that_is_wrong_is_said_at_once():
    assert len(RequestOptions(role_arn="x", bucket="y z", framework="z").complaints(spec())) == 3
    assert len(RequestOptions(prefix="", volume_gb=0, role_arn="x", hyperparameters={"a": ""}).complaints(spec())) == 4
    assert RequestOptions().complaints(spec()) == []


def test_a_timeout_leaves_braket_time_to_begin_and_to_end():
    assert RequestOptions().runtime_s(spec(resources=Resources(timeout_s=60.5))) == 961
    assert RequestOptions(max_runtime_s=77).runtime_s(spec()) == 77


def test_another_python_and_another_region_are_told_before_anything_is_sent():
    assert RequestOptions().image_complaints("us-east-1", "3.12", "3.12") == []
    assert "3.11" in RequestOptions().image_complaints("us-east-1", "3.12", "3.11")[0]
    assert "ap-south-1" in RequestOptions().image_complaints("ap-south-1", "3.12", "3.12")[0]
    own = RequestOptions(image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1")
    assert own.image_complaints("ap-south-1", "3.12", "3.11") == []


def answer(status: str, *kinds: str, **more) -> dict:
    return {"status": status, "jobArn": "arn", "events": [{"eventType": kind} for kind in kinds], **more}


@pytest.mark.parametrize(
    ("told", "status", "detail"),
    [
        (answer("QUEUED", "WAITING_FOR_PRIORITY", queueInfo={"position": "3"}), Status.QUEUED, "waiting for priority, position 3"),
        (answer("QUEUED", queueInfo={"position": "None"}), Status.QUEUED, "queued"),
        (answer("RUNNING", "STARTING_INSTANCE"), Status.QUEUED, "starting the instance"),
        (answer("RUNNING", "STARTING_INSTANCE", "DOWNLOADING_DATA"), Status.QUEUED, "downloading"),
        (answer("RUNNING", "DOWNLOADING_DATA", "RUNNING"), Status.RUNNING, ""),
        (
            answer("RUNNING", "RUNNING", "DEPRIORITIZED_DUE_TO_INACTIVITY"),
            Status.RUNNING,
            "deprioritized, since it has sent no task for a while",
        ),
        (answer("RUNNING", "RUNNING", "UPLOADING_RESULTS"), Status.RUNNING, "uploading"),
        (answer("CANCELLING", "RUNNING"), Status.RUNNING, "being cancelled"),
        (answer("DREAMING"), Status.UNKNOWN, "Amazon Braket says 'DREAMING', which is no status that is known here"),
    ],
)
def test_brakets_events_are_phases(told, status, detail):
    assert jobs.progress(told) == (status, detail)


@pytest.mark.parametrize(
    ("told", "began", "run", "status", "reason", "words"),
    [
        (answer("FAILED", failureReason="ClientError: no such image"), False, 1, Status.FAILED, "service", "no such image"),
        (answer("FAILED", failureReason="InternalServerError"), True, 1, Status.INTERRUPTED, "", "InternalServerError"),
        (answer("FAILED", failureReason="CapacityError"), False, 2, Status.INTERRUPTED, "", "could not go on"),
        (
            answer("FAILED", "MAX_RUNTIME_EXCEEDED", stoppingCondition={"maxRuntimeInSeconds": 9}),
            True,
            1,
            Status.FAILED,
            "timeout",
            "max_runtime_s=9",
        ),
        (answer("CANCELLED"), True, 1, Status.CANCELLED, "cancelled", "at Amazon Braket"),
        (answer("COMPLETED", checkpointConfig={"s3Uri": "s3://b/c"}), True, 1, Status.INTERRUPTED, "", "no outcome came to s3://b/c"),
        (answer("COMPLETED", checkpointConfig={"s3Uri": "s3://b/c"}), False, 1, Status.FAILED, "service", "Amazon Braket says COMPLETED"),
        (answer("FAILED"), False, 1, Status.FAILED, "service", "gives no reason"),
    ],
)
def test_a_job_without_an_outcome_ends_as_the_service_says(told, began, run, status, reason, words):
    fate = jobs.fate(told, began=began, run=run)

    assert (fate.status, fate.reason) == (status, reason)
    assert words in fate.message
    assert ("never called" in fate.message) == (reason == "service" and told["status"] != "COMPLETED")


@pytest.mark.parametrize("billed", [90, 90_000])
def test_billed_time_is_seconds_whatever_its_unit(billed):
    told = answer("COMPLETED", startedAt=1000.0, endedAt=1091.5, billableDuration=billed)

    assert jobs.billed_s(told, now=5000.0) == (90.0, True)


def test_times_are_numbers_whatever_the_client_makes_of_them():
    from datetime import UTC, datetime

    text, moment = "2026-11-21T12:00:00.500Z", datetime(2026, 11, 21, 12, 0, 0, 500_000, UTC)

    for when in (text, moment, moment.timestamp()):
        told = jobs.plain({"startedAt": when, "events": [{"eventType": "RUNNING", "timeOfEvent": when}], "ResponseMetadata": {}})
        assert told == {"startedAt": moment.timestamp(), "events": [{"eventType": "RUNNING", "timeOfEvent": moment.timestamp()}]}


def test_a_running_jobs_time_is_an_estimate():
    assert jobs.billed_s(answer("RUNNING", startedAt=1000.0), now=1060.0) == (60.0, False)
    assert jobs.billed_s(answer("QUEUED"), now=1060.0) == (0.0, False)


def test_two_machines_that_try_again_do_not_overwrite_each_others_source():
    def place(payload):
        return made(spec(), order=replace(ORDER, payload=payload))["algorithmSpecification"]["scriptModeConfig"]["s3Uri"]

    assert place("a" * 64) != place("b" * 64)
    assert place("a" * 64) == place("a" * 64)


def test_the_request_tells_how_many_attempts_there_were_and_older_ones_tell_of_none():
    order = replace(ORDER, epoch=3)
    told = order.to_hyperparameters()

    assert Order.from_hyperparameters(told) == order
    del told["hybridjobs-epoch"]
    assert Order.from_hyperparameters(told).epoch == 0
