"""Credentials, regions, buckets, and which requests are sent again."""

from __future__ import annotations

import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import boto3
import pytest
from botocore.utils import parse_timestamp

from pl_hybridjobs.braket.session import Refusal, Retries, Session, _time_of
from pl_hybridjobs.errors import ProviderError
from tests.braket.conftest import SV1
from tests.braket.scripted import DROP, Reply, refusal, scripted

QUICK = Retries(attempts=4, first_s=0.001)
DEVICE = Reply(body={"deviceArn": SV1, "deviceName": "SV1"})


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "forged")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "forged-secret")


def ask(service, operation="get_device", **request):
    session = Session(region="us-east-1", endpoint_url=service.url, retries=QUICK)
    return session.call("braket", operation, **(request or {"deviceArn": SV1}))


# Credentials and regions -----------------------------------------------------------------------------------------------------


def test_without_credentials_it_is_said_where_they_were_looked_for_and_what_works_without(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")

    with pytest.raises(ProviderError) as caught:
        Session(region="us-east-1").call("braket", "get_device", deviceArn=SV1)

    for part in ("AWS_SECRET_ACCESS_KEY", "profile 'default'", str(tmp_path / "credentials"), "no such file", "EC2", "hybridjobs emulator"):
        assert part in str(caught.value), part


def test_a_profile_that_is_not_there_is_named():
    with pytest.raises(ProviderError, match=r"profile 'work'.*hybridjobs emulator"):
        Session(region="us-east-1", profile="work").call("braket", "get_device", deviceArn=SV1)


def test_a_profile_gives_credentials_and_region(tmp_path):
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-2\n")

    assert Session(profile="work").region == "eu-west-2"


def test_a_missing_region_is_said_with_what_names_one(credentials):
    with pytest.raises(ProviderError, match=r"AWS_REGION.*region='us-east-1'"):
        Session().call("braket", "get_device", deviceArn=SV1)


def test_wrong_credentials_are_not_tried_again(credentials):
    answer = refusal(403, "UnrecognizedClientException", "The security token is invalid")
    with scripted(answer) as service, pytest.raises(Refusal, match=r"wrong or have expired.*hybridjobs emulator"):
        ask(service)

    assert len(service.asked) == 1


# Sending again ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(429, "ThrottlingException"),
        refusal(402, "ServiceQuotaExceededException"),
        refusal(500, "InternalServiceException"),
        Reply(503, b"<html>proxy</html>"),
        DROP,
        Reply(200, b'{"deviceArn": "arn:aw'),
    ],
    ids=["throttled", "quota", "error", "proxy", "dropped", "cut off"],
)
def test_what_passes_is_sent_again(credentials, trouble):
    with scripted(trouble, trouble, DEVICE) as service:
        assert ask(service)["deviceName"] == "SV1"

    assert len(service.asked) == 3


def test_all_pages_are_turned_and_none_that_nobody_wants(credentials):
    pages = [Reply(body={"quantumTasks": [], "nextToken": token}) for token in ("second", "third")]
    with scripted(*pages, Reply(body={"quantumTasks": []})) as service:
        session = Session(region="us-east-1", endpoint_url=service.url, retries=QUICK)
        found = session.pages("braket", "search_quantum_tasks", filters=[], maxResults=1)
        next(found)
        assert len(service.asked) == 1
        assert len(list(found)) == 2

    assert [json.loads(body).get("nextToken") for _, _, body, _ in service.asked] == [None, "second", "third"]


def test_s3s_next_page_is_called_by_its_other_name(credentials):
    def page(key: str, more: str) -> Reply:
        return Reply(body=f"<ListBucketResult>{more}<Contents><Key>{key}</Key></Contents></ListBucketResult>".encode())

    with scripted(page("a", "<NextContinuationToken>second</NextContinuationToken>"), page("b", "")) as service:
        session = Session(region="us-east-1", endpoint_url=service.url, retries=QUICK)
        assert [one["Key"] for one in session.objects("bucket", "")] == ["a", "b"]

    assert "continuation-token=second" in service.asked[1][1]


@pytest.mark.parametrize("trouble", [refusal(429, "ThrottlingException"), refusal(500, "InternalServiceException"), DROP], ids=str)
def test_it_is_given_up_after_so_many_attempts(credentials, trouble):
    with scripted(trouble) as service, pytest.raises(ProviderError, match="4"):
        ask(service)

    assert len(service.asked) == QUICK.attempts


@pytest.mark.parametrize("answer", [refusal(400, "ValidationException", "no such filter"), refusal(403, "AccessDeniedException")], ids=str)
def test_what_is_refused_is_not_sent_again(credentials, answer):
    with scripted(answer, DEVICE) as service, pytest.raises(Refusal):
        ask(service)

    assert len(service.asked) == 1


@pytest.mark.parametrize("trouble", [refusal(500, "InternalServiceException"), DROP], ids=["error", "dropped"])
def test_what_may_have_been_done_and_carries_no_token_is_not_sent_again(credentials, trouble):
    task = "arn:aws:braket:us-east-1:123456789012:quantum-task/1"
    with scripted(trouble, trouble, Reply(body={"quantumTaskArn": task, "cancellationStatus": "CANCELLING"})) as service:
        with pytest.raises(ProviderError):
            ask(service, "tag_resource", resourceArn=SV1, tags={"a": "b"})
        assert len(service.asked) == 1

        ask(service, "cancel_quantum_task", quantumTaskArn=task, clientToken="x")
        assert len(service.asked) == 3


def test_what_was_certainly_not_done_is_sent_again_even_so(credentials):
    with scripted(refusal(429, "ThrottlingException"), Reply()) as service:
        ask(service, "tag_resource", resourceArn=SV1, tags={"a": "b"})

    assert len(service.asked) == 2


def test_a_missing_permission_is_named(credentials):
    with scripted(refusal(403, "AccessDeniedException")) as service, pytest.raises(Refusal, match=r"braket:GetDevice"):
        ask(service)


def test_a_service_that_cannot_be_reached_is_named(credentials):
    session = Session(region="us-east-1", endpoint_url="http://127.0.0.1:9", retries=QUICK)

    with pytest.raises(ProviderError, match=r"http://127.0.0.1:9 in 4 attempts.*AWS_ENDPOINT_URL"):
        session.call("braket", "get_device", deviceArn=SV1)


def test_pauses_grow_and_are_drawn_anew():
    retries = Retries(first_s=0.1, longest_s=2.0)
    longest = [max(retries.pause_s(failures) for _ in range(300)) for failures in range(1, 9)]

    assert all(0.9 * bound < found <= bound for found, bound in zip(longest, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], strict=True))


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(days=-400)], ids=str)
def test_a_wrong_clock_of_this_machine_is_got_over(credentials, ahead):
    now = datetime.now(UTC) + ahead

    def strict(headers):
        signed = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(now - signed) > timedelta(minutes=5):
            return Reply(403, {"message": "Signature expired"}, "InvalidSignatureException", {"Date": format_datetime(now, usegmt=True)})
        return DEVICE

    with scripted(strict) as service:
        session = Session(region="us-east-1", endpoint_url=service.url, retries=QUICK)
        session.call("braket", "get_device", deviceArn=SV1)
        session.call("braket", "get_device", deviceArn=SV1)

    assert len(service.asked) == 3
    assert abs(session.now() - now) < timedelta(minutes=1)


def test_a_wrong_secret_is_not_taken_for_a_wrong_clock(credentials):
    answer = refusal(403, "InvalidSignatureException", "The signature does not match")
    with scripted(answer) as service, pytest.raises(Refusal, match="credentials"):
        ask(service)

    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("replies", "certain"),
    [
        ([refusal(400, "ValidationException")], True),
        ([refusal(429, "ThrottlingException")], True),
        ([refusal(500, "InternalServiceException")], False),
        ([DROP], False),
        ([DROP, refusal(400, "ValidationException")], False),
    ],
    ids=["refused", "throttled", "error", "dropped", "dropped, then refused"],
)
def test_it_is_known_whether_a_purchase_may_have_been_made(credentials, replies, certain):
    with scripted(*replies) as service, pytest.raises(ProviderError) as caught:
        ask(service, "cancel_quantum_task", quantumTaskArn="arn:aws:braket:us-east-1:123456789012:quantum-task/1", clientToken="x")

    assert caught.value.nothing_done is certain


def test_so_many_requests_of_a_kind_go_out_at_once(emulated):
    emulated()
    session = Session(region="us-east-1", at_once=3)
    under_way, most = [], []

    def sent(**_):
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()

    session._client("braket").meta.events.register("before-send.braket", sent)
    with ThreadPoolExecutor(10) as pool:
        told = list(pool.map(lambda _: session.call("braket", "get_device", deviceArn=SV1), range(12)))

    assert max(most) == 3
    assert {one["deviceName"] for one in told} == {"SV1"}


@pytest.mark.parametrize("text", ["2026-11-21T17:24:33.123Z", "2026-11-21T17:24:33+00:00", "Sat, 21 Nov 2026 17:24:33 GMT", 1795281873])
def test_times_are_read_as_botocore_reads_them(text):
    assert _time_of(text) == parse_timestamp(text)


def test_a_refusal_travels():
    error = pickle.loads(pickle.dumps(Refusal("Code", "words", "operation", "advice")))

    assert (error.code, str(error)) == ("Code", "operation said no: words (Code). advice")


# The bucket ------------------------------------------------------------------------------------------------------------------


def buckets():
    return {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}


@pytest.mark.parametrize("region", ["us-east-1", "eu-north-1"])
def test_the_default_bucket_is_made_where_it_is_missing(emulated, region):
    emulated()
    name = f"amazon-braket-{region}-123456789012"
    if name in buckets():
        s3 = boto3.resource("s3").Bucket(name)
        s3.objects.all().delete()
        s3.delete()

    locations = [Session(region=region).location() for _ in range(2)]

    assert locations == [(name, "tasks")] * 2
    assert name in buckets()
    assert boto3.client("s3").get_bucket_location(Bucket=name)["LocationConstraint"] == (None if region == "us-east-1" else region)


def test_a_bucket_that_is_named_is_not_made(emulated):
    emulated()

    with pytest.raises(ProviderError, match="'not-there' for results does not exist"):
        Session(region="us-east-1", bucket="not-there").location()
    assert "not-there" not in buckets()


def test_a_bucket_of_ones_own_is_taken_as_it_is(emulated):
    emulated()
    boto3.client("s3").create_bucket(Bucket="my-own-results")

    assert Session(region="us-east-1", bucket="my-own-results", prefix="/h2/").location() == ("my-own-results", "h2")


def test_a_bucket_of_somebody_else_is_refused(credentials):
    account = Reply(
        body=b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>"
        b"</GetCallerIdentityResponse>"
    )
    with scripted(account, Reply(403, b"")) as service:
        session = Session(region="us-east-1", bucket="theirs", endpoint_url=service.url, retries=QUICK)
        with pytest.raises(ProviderError, match="'theirs' for results belongs to another account than 123456789012"):
            session.location()

    _, _, _, headers = service.asked[-1]
    assert headers["x-amz-expected-bucket-owner"] == "123456789012"


def test_in_a_braket_job_results_go_where_the_jobs_do(monkeypatch, credentials):
    monkeypatch.setenv("AMZN_BRAKET_OUT_S3_BUCKET", "the-jobs")
    monkeypatch.setenv("AMZN_BRAKET_TASK_RESULTS_S3_URI", "s3://the-jobs/jobs/vqe-7/tasks")

    assert Session(region="us-east-1").location() == ("the-jobs", "jobs/vqe-7/tasks")
