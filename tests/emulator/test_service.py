"""The API as boto3 sees it: what it answers, refuses, and does once only."""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from urllib.error import HTTPError

import boto3
import pytest
from botocore.exceptions import ClientError

from pl_hybridjobs.emulator import emulator
from pl_hybridjobs.emulator.model import service_model
from pl_hybridjobs.errors import InvalidCall
from tests.emulator.conftest import BELL, BUCKET, DM1, FORTE, GARNET, IBEX, SV1, client, program, result, task


def refusal(call, *args, **params):
    with pytest.raises(ClientError) as caught:
        call(*args, **params)
    return caught.value.response


def test_the_variables_alone_lead_boto3_there(running):
    assert {device["deviceName"] for device in boto3.client("braket").search_devices(filters=[])["devices"]} == {"DM1", "Forte 1", "SV1"}
    assert boto3.client("sts").get_caller_identity()["Account"] == running.environment()["AWS_ACCOUNT_ID"]
    assert {group["logGroupName"] for group in boto3.client("logs").describe_log_groups()["logGroups"]} <= {"/aws/braket/jobs"}
    assert "AmazonBraketJobsExecutionRole" in [role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]]
    assert boto3.client("ecr").describe_repositories()["repositories"] == []
    assert BUCKET in [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]


def test_a_task_from_creation_to_results(braket, session_emulator):
    arn = braket.create_quantum_task(**task(tags={"a": "1"}, deviceParameters='{"x": 1}'))["quantumTaskArn"]
    session_emulator.wait()

    found = braket.get_quantum_task(quantumTaskArn=arn)

    assert found["status"] == "COMPLETED"
    assert found["numSuccessfulShots"] == found["shots"] == 10
    assert found["actionMetadata"] == {"actionType": "braket.ir.openqasm.program"}
    assert found["outputS3Directory"] == f"tasks/{arn.split('/')[-1]}"
    assert found["createdAt"] <= found["endedAt"] <= datetime.now(UTC)
    assert json.loads(found["deviceParameters"]) == {"x": 1}
    assert "queueInfo" not in found
    assert len(result(braket, arn)["measurements"]) == 10


# Once only


def test_the_same_token_and_request_are_the_same_task(braket, session_emulator):
    request = task(clientToken="once")
    before = len(session_emulator.tasks)

    arns = {braket.create_quantum_task(**request)["quantumTaskArn"] for _ in range(3)}

    assert len(arns) == 1
    assert len(session_emulator.tasks) == before + 1


@pytest.mark.parametrize("change", [{"shots": 11}, {"tags": {"a": "b"}}, {"deviceArn": DM1}, {"action": program(BELL + "\n")}])
def test_the_same_token_with_another_request_is_refused(braket, change):
    request = task(clientToken="other")
    braket.create_quantum_task(**request)

    answer = refusal(braket.create_quantum_task, **{**request, **change})

    assert answer["Error"]["Code"] == "ValidationException"
    assert "other was used before" in answer["Error"]["Message"]


def test_a_token_is_good_even_where_nothing_new_would_be_taken(bucket):
    with emulator(devices=["SV1"]) as running:
        braket = client(running)
        request = task(clientToken="before")
        arn = braket.create_quantum_task(**request)["quantumTaskArn"]
        running.set_status("SV1", "OFFLINE")

        assert braket.create_quantum_task(**request)["quantumTaskArn"] == arn
        assert refusal(braket.create_quantum_task, **task())["Error"]["Code"] == "DeviceOfflineException"
        running.set_status("SV1", "RETIRED")
        assert refusal(braket.create_quantum_task, **task())["Error"]["Code"] == "DeviceRetiredException"


def test_many_threads_with_one_token_buy_once(braket, session_emulator):
    before = len(session_emulator.tasks)
    arns = []

    def create():
        arns.append(braket.create_quantum_task(**task(clientToken="raced"))["quantumTaskArn"])

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(arns) == 8
    assert len(set(arns)) == 1
    assert len(session_emulator.tasks) == before + 1


# Refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": 100_001}, "shots must be between 0 and 100000, not 100001"),
        ({"deviceArn": FORTE, "shots": 0}, "shots must be between 1 and 10000, not 0"),
        ({"shots": 0}, "Result types must be specified when shots=0"),
        ({"outputS3Bucket": "no-such-bucket"}, "bucket no-such-bucket does not exist"),
        ({"action": "no json"}, "not JSON with a braketSchemaHeader"),
        ({"action": json.dumps({"braketSchemaHeader": {"name": "braket.ir.ahs.program", "version": "1"}})}, "braket.ir.ahs.program is not supported"),
        ({"action": program("OPENQASM 3.0;\nqubit[2] q;\nfoo q[0];\n")}, "cannot be read"),
        ({"action": program("OPENQASM 3.0;\nqubit q\nh q;\n")}, "cannot be read"),
        ({"action": program('OPENQASM 3.0;\ninclude "/etc/hostname";\nqubit q;\nh q;\n')}, "include statements are not supported"),
        ({"action": program("/etc/hostname.qasm")}, "cannot be read"),
        ({"action": program("OPENQASM 3.0;\ninput float t;\nqubit[1] q;\nrx(t) q[0];\n")}, "Missing input variable 't'"),
        ({"action": program("OPENQASM 3.0;\nqubit[35] q;\nh q[0];\n")}, "uses 35 qubits, but the device has 34"),
        ({"action": program("OPENQASM 3.0;\nqubit[30] q;\nh q;\n")}, "the device could, but the emulator simulates at most 24"),
        ({"deviceArn": FORTE, "action": program("OPENQASM 3.0;\nqubit[3] q;\nccnot q[0], q[1], q[2];\n")}, r"\[line 3\] uses a gate: ccnot"),
        ({"action": program(BELL + "#pragma braket result expectation z(q[0])\n")}, "either result types or measurements, not both"),
        ({"deviceArn": FORTE, "action": program("OPENQASM 3.0;\nqubit q;\nh q;\n#pragma braket result state_vector\n")}, "statevector is not supported"),
        ({"action": program("OPENQASM 3.0;\nqubit q;\nh q;\n#pragma braket result state_vector\n")}, "takes 0 to 0 shots, not 10"),
        ({"deviceArn": FORTE, "action": program("OPENQASM 3.0;\nh $40;\n")}, "physical qubit \\$40"),
        ({"action": program("OPENQASM 3.0;\nh $0;\n")}, "uses physical qubits, which the device does not support"),
        ({"deviceArn": FORTE, "action": program("OPENQASM 3.0;\nqubit q;\nbit b;\nh q;\nb = measure q;\nif (b == 1) x q;\n")}, "in the middle"),
        ({"tags": {"aws:x": "y"}}, "aws:x"),
        ({"clientToken": "x" * 65}, "'clientToken' is 65, more than 64"),
    ],
)  # fmt: skip
def test_a_bad_task_is_refused_and_nothing_is_created(braket, session_emulator, change, message):
    before = len(session_emulator.tasks)

    answer = refusal(braket.create_quantum_task, **{**task(), **change})

    assert answer["Error"]["Code"] == "ValidationException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert re.search(message, answer["Error"]["Message"]), answer["Error"]["Message"]
    assert len(session_emulator.tasks) == before


def test_all_complaints_come_at_once(braket):
    source = 'OPENQASM 3.0;\nqubit[40] q;\nccnot q[0], q[1], q[2];\ncswap q[0], q[1], q[2];\n#pragma braket result amplitude "0"\n'

    message = refusal(braket.create_quantum_task, **task(FORTE, shots=0, action=program(source)))["Error"]["Message"]

    for part in ("shots must be between", "ccnot", "cswap", "uses 40 qubits", "amplitude is not supported"):
        assert part in message


def test_what_is_not_there_is_not_found(braket):
    missing = "arn:aws:braket:us-east-1:123456789012:quantum-task/00000000-0000-0000-0000-000000000000"

    for call in (
        lambda: braket.get_quantum_task(quantumTaskArn=missing),
        lambda: braket.cancel_quantum_task(quantumTaskArn=missing),
        lambda: braket.get_device(deviceArn=FORTE + "x"),
        lambda: braket.get_device(deviceArn=GARNET),  # it is in another region
        lambda: braket.list_tags_for_resource(resourceArn=missing),
        lambda: braket.delete_spending_limit(spendingLimitArn=missing.replace("quantum-task", "spending-limit")),
    ):
        assert refusal(call)["Error"]["Code"] == "ResourceNotFoundException"


def test_requests_that_are_not_signed_or_not_known_are_refused(session_emulator):
    for path in ("/device/x", "/quantum-task"):
        with pytest.raises(HTTPError) as caught:
            urllib.request.urlopen(session_emulator.url + path)
        assert caught.value.code == 403
        caught.value.close()


def test_every_operation_of_the_model_is_answered(braket):
    """Either with what the model promises or with one of the model's errors; never with a crash."""
    arn = "arn:aws:braket:us-east-1:123456789012:spending-limit/x"
    known = {
        "deviceArn": SV1, "quantumTaskArn": "x", "filters": [], "resourceArn": "x", "tags": {}, "tagKeys": ["a"],
        "spendingLimitArn": arn, "spendingLimit": "1", "jobArn": arn.replace("spending-limit", "job"), "jobName": "x", "clientToken": "model",
        "algorithmSpecification": {}, "outputDataConfig": {"s3Path": "s3://x/y"}, "roleArn": "arn:aws:iam::123456789012:role/x",
        "instanceConfig": {"instanceType": "ml.m5.large", "volumeSizeInGb": 30}, "deviceConfig": {"device": SV1}, **task(),
    }  # fmt: skip
    codes = set()
    for name in service_model().operation_names:
        required = service_model().operation_model(name).input_shape.required_members
        method = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
        try:
            answer = getattr(braket, method)(**{member: known[member] for member in required})
            codes.add(answer["ResponseMetadata"]["HTTPStatusCode"])
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])

    assert codes == {200, 201, "ResourceNotFoundException", "ValidationException"}


# Queues, limits, tags, searches


def test_cancelling(bucket, slowly_cancelled):
    with emulator(devices=["Forte 1"], latency_s=2.0) as running:
        braket = client(running)
        arns = [braket.create_quantum_task(**task(FORTE))["quantumTaskArn"] for _ in range(3)]
        assert running.wait_until(lambda: running.tasks[0].status == "RUNNING")

        for arn in arns[:2]:
            assert braket.cancel_quantum_task(quantumTaskArn=arn)["cancellationStatus"] == "CANCELLING"
            assert braket.cancel_quantum_task(quantumTaskArn=arn)["cancellationStatus"] == "CANCELLING"

        assert running.wait()
        assert [running_task.status for running_task in running.tasks] == ["CANCELLED", "CANCELLED", "COMPLETED"]
        assert braket.cancel_quantum_task(quantumTaskArn=arns[0])["cancellationStatus"] == "CANCELLED"
        assert refusal(braket.cancel_quantum_task, quantumTaskArn=arns[2])["Error"]["Code"] == "ConflictException"
        assert [line.task for line in running.bill.lines] == [arns[2]]


def test_an_offline_device_keeps_what_waits(bucket):
    with emulator(devices=["Forte 1"], latency_s=1.0) as running:
        braket = client(running)
        for _ in range(2):
            braket.create_quantum_task(**task(FORTE))
        assert running.wait_until(lambda: running.tasks[0].status == "RUNNING")
        running.set_status("Forte 1", "OFFLINE")
        assert running.wait_until(lambda: running.tasks[0].status == "COMPLETED")

        assert braket.get_device(deviceArn=FORTE)["deviceStatus"] == "OFFLINE"
        assert not running.wait(0.3)
        assert running.tasks[1].status == "QUEUED"

        running.set_status("Forte 1", None)
        assert running.wait()


def test_offline_windows(bucket):
    with emulator(devices=["SV1", "DM1"], offline={"SV1": [(0.0, 0.5)]}) as running:
        braket = client(running)
        assert refusal(braket.create_quantum_task, **task())["Error"]["Code"] == "DeviceOfflineException"
        assert braket.create_quantum_task(**task(DM1))

        assert running.wait_until(lambda: braket.get_device(deviceArn=SV1)["deviceStatus"] == "ONLINE", 5)
        assert braket.create_quantum_task(**task())


def test_a_bucket_that_is_deleted_meanwhile_fails_the_task(bucket):
    with emulator(devices=["SV1"]) as running:
        running.hold("SV1")
        s3 = client(running, "s3")
        s3.create_bucket(Bucket="short-lived")
        arn = client(running).create_quantum_task(**task(outputS3Bucket="short-lived"))["quantumTaskArn"]
        s3.delete_bucket(Bucket="short-lived")
        running.release("SV1")
        running.wait()

        assert "could not be written to the bucket short-lived" in client(running).get_quantum_task(quantumTaskArn=arn)["failureReason"]
        assert running.bill.total_usd == 0


def test_a_quota_of_tasks_on_their_way(bucket):
    with emulator(devices=["SV1"], latency_s=30, quota=2) as running:
        braket = client(running)
        for _ in range(2):
            braket.create_quantum_task(**task())

        answer = refusal(braket.create_quantum_task, **task())

        assert answer["Error"]["Code"] == "ServiceQuotaExceededException"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 402


def test_a_spending_limit_stops_tasks_from_being_created(bucket):
    with emulator(devices=["Forte 1", "SV1"], latency_s=0.05) as running:
        running.hold("Forte 1")
        braket = client(running)
        arn = braket.create_spending_limit(deviceArn=FORTE, spendingLimit="2.50", tags={"who": "us"})["spendingLimitArn"]
        for _ in range(2):  # 0.30 + 10 * 0.08 = 1.10 USD each
            braket.create_quantum_task(**task(FORTE))

        answer = refusal(braket.create_quantum_task, **task(FORTE))

        assert answer["Error"]["Code"] == "ValidationException"
        assert "may cost 1.10 USD, more than the 0.30 USD left" in answer["Error"]["Message"]
        braket.create_quantum_task(**task(SV1))  # simulators have no limits
        [before] = braket.search_spending_limits()["spendingLimits"]
        assert (before["queuedSpend"], before["totalSpend"], before["tags"]) == ("2.20", "0.00", {"who": "us"})

        running.release("Forte 1")
        assert running.wait()
        [after] = braket.search_spending_limits(filters=[{"name": "deviceArn", "values": [FORTE], "operator": "EQUAL"}])["spendingLimits"]
        assert (after["queuedSpend"], after["totalSpend"]) == ("0.00", "2.20")
        assert refusal(braket.create_quantum_task, **task(FORTE))["Error"]["Code"] == "ValidationException"

        braket.update_spending_limit(spendingLimitArn=arn, spendingLimit="3.30")
        braket.create_quantum_task(**task(FORTE))
        braket.delete_spending_limit(spendingLimitArn=arn)
        braket.create_quantum_task(**task(FORTE))
        assert braket.search_spending_limits()["spendingLimits"] == []
        running.wait()
        assert running.bill.by_device[FORTE] == Decimal("4.40")


def test_spending_limits_that_cannot_be(braket):
    now = datetime.now(UTC)
    assert "Simulators do not support" in refusal(braket.create_spending_limit, deviceArn=SV1, spendingLimit="1")["Error"]["Message"]
    assert "must match" in refusal(braket.create_spending_limit, deviceArn=FORTE, spendingLimit="1.234")["Error"]["Message"]
    backwards = {"startAt": now, "endAt": now - timedelta(days=1)}
    assert (
        "must end after"
        in refusal(braket.create_spending_limit, deviceArn=FORTE, spendingLimit="1", timePeriod=backwards)["Error"]["Message"]
    )

    past = {"startAt": now - timedelta(days=2), "endAt": now - timedelta(days=1)}
    arn = braket.create_spending_limit(deviceArn=FORTE, spendingLimit="1000", timePeriod=past)["spendingLimitArn"]
    try:
        assert "already" in refusal(braket.create_spending_limit, deviceArn=FORTE, spendingLimit="1")["Error"]["Message"]
        assert "outside of its time period" in refusal(braket.create_quantum_task, **task(FORTE))["Error"]["Message"]
    finally:
        braket.delete_spending_limit(spendingLimitArn=arn)


def test_a_reservation_is_paid_for_elsewhere(bucket):
    with emulator(devices=["Forte 1", "SV1"]) as running:
        braket = client(running)

        def under(arn, device=FORTE):
            return task(device, associations=[{"arn": arn, "type": "RESERVATION_TIME_WINDOW_ARN"}])

        braket.create_quantum_task(**under(running.reserve("Forte 1")))
        running.wait()

        assert running.bill.total_usd == 0
        expired = running.reserve("Forte 1", from_s=-20, until_s=-10)
        assert "is active from" in refusal(braket.create_quantum_task, **under(expired))["Error"]["Message"]
        assert "not for" in refusal(braket.create_quantum_task, **under(running.reserve("Forte 1"), SV1))["Error"]["Message"]
        assert "does not exist" in refusal(braket.create_quantum_task, **under(expired + "x"))["Error"]["Message"]


def test_tags(braket):
    arn = braket.create_quantum_task(**task(tags={"a": "1"}))["quantumTaskArn"]

    braket.tag_resource(resourceArn=arn, tags={"b": "2", "c": "3"})
    braket.untag_resource(resourceArn=arn, tagKeys=["a", "c"])

    assert braket.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
    assert braket.get_quantum_task(quantumTaskArn=arn)["tags"] == {"b": "2"}
    too_many = {f"k{n}": "" for n in range(50)}
    assert "51 tags" in refusal(braket.tag_resource, resourceArn=arn, tags=too_many)["Error"]["Message"]


def test_searching_tasks_page_by_page(bucket):
    with emulator(devices=["SV1", "DM1"]) as running:
        braket = client(running)
        arns = [
            braket.create_quantum_task(**task(SV1 if n % 2 else DM1, jobToken="t" if n == 4 else "u"))["quantumTaskArn"] for n in range(5)
        ]
        running.wait()

        def search(*filters, **more):
            pages = braket.get_paginator("search_quantum_tasks").paginate(filters=list(filters), **more)
            return [[row["quantumTaskArn"] for row in page["quantumTasks"]] for page in pages]

        def where(name, *values, operator="EQUAL"):
            return {"name": name, "values": list(values), "operator": operator}

        newest_first = arns[::-1]
        assert search() == [newest_first]
        assert search(PaginationConfig={"PageSize": 2}) == [newest_first[:2], newest_first[2:4], newest_first[4:]]
        assert search(where("deviceArn", SV1)) == [[arns[3], arns[1]]]
        assert search(where("status", "FAILED", "QUEUED")) == [[]]
        assert search(where("quantumTaskArn", arns[0])) == [[arns[0]]]
        job = braket.get_quantum_task(quantumTaskArn=arns[4])["jobArn"]
        assert search(where("jobArn", job)) == [[arns[4]]]
        third = running.tasks[2].created.isoformat()
        assert search(where("createdAt", third, operator="GT")) == [[arns[4], arns[3]]]
        assert search(where("createdAt", third, third, operator="BETWEEN")) == [[arns[2]]]
        assert (
            "cannot be searched by 'colour'" in refusal(braket.search_quantum_tasks, filters=[where("colour", "red")])["Error"]["Message"]
        )
        assert "must be EQUAL" in refusal(braket.search_quantum_tasks, filters=[where("status", "x", operator="GT")])["Error"]["Message"]
        assert "not one of ours" in refusal(braket.search_quantum_tasks, filters=[], nextToken="?")["Error"]["Message"]


def test_the_same_seed_gives_the_same_samples(bucket):
    def samples(seed):
        with emulator(devices=["SV1"], seed=seed) as running:
            braket = client(running)
            arns = [braket.create_quantum_task(**task(shots=30))["quantumTaskArn"] for _ in range(2)]
            running.wait()
            return [result(braket, arn)["measurements"] for arn in arns]

    first, second = samples(1)

    assert first != second, "a repeated task draws again"
    assert samples(1) == [first, second]
    assert samples(2) != [first, second]


def test_vendors_give_their_own_results(braket, session_emulator):
    forte = braket.create_quantum_task(**task(FORTE))["quantumTaskArn"]
    north = client(session_emulator, region="eu-north-1")
    ibex = north.create_quantum_task(**task(IBEX))["quantumTaskArn"]
    session_emulator.wait()

    assert sum(result(braket, forte)["measurementProbabilities"].values()) == pytest.approx(1)
    assert "ionqMetadata" in result(braket, forte)["additionalMetadata"]
    assert result(north, ibex)["additionalMetadata"]["aqtMetadata"]["compiledProgram"] == BELL
    assert refusal(braket.get_quantum_task, quantumTaskArn=ibex)["Error"]["Code"] == "ResourceNotFoundException", "another region"


# The emulator itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": ["SV2"]}, "no emulated device 'SV2'. Did you mean 'SV1'"),
        ({"devices": []}, "no device was named"),
        ({"latency_s": -1, "concurrency": 0, "quota": 0}, "3 problems"),
        ({"offline": {"Forte 2": [(0, 1)]}}, "no device 'Forte 2'"),
        ({"faults": "drp=1,error=x"}, "2 problems"),
        ({"faults": "drop=2"}, "drop=2.0 is no chance"),
        ({"devices": "SV1, SV2"}, "no emulated device 'SV2'"),
        ({"latency_s": "x", "port": 70000, "faults": 5, "offline": [1]}, "4 problems"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InvalidCall, match=message):
        emulator(**options)


def test_a_status_that_there_is_not_is_refused(session_emulator):
    with pytest.raises(InvalidCall, match="'BUSY' is no status"):
        session_emulator.set_status("SV1", "BUSY")


def test_a_taken_port_is_said_so(session_emulator):
    port = int(session_emulator.url.rpartition(":")[2])

    with pytest.raises(InvalidCall, match=f"port {port} cannot be used"):
        emulator(port=port)


def test_a_connection_stays_open_from_one_request_to_the_next_and_ends_with_the_emulator():
    with emulator() as running:
        connection = HTTPConnection("127.0.0.1", int(running.url.rpartition(":")[2]))
        connection.request("POST", "/devices", body=b"{}" * 1000)  # refused, and read to its end all the same
        refused = connection.getresponse()
        assert (refused.status, refused.will_close) == (403, False)
        refused.read()
        opened = connection.sock
        connection.request("PUT", "/a-bucket-of-moto")
        made = connection.getresponse()
        made.read()
        assert (made.status, made.will_close, connection.sock is opened) == (200, False, True)
    assert opened.recv(1) == b""
    connection.close()


def test_objects_are_read_as_moto_gives_them(session_emulator, bucket):
    s3 = client(session_emulator, "s3")
    s3.put_object(Bucket=bucket, Key="a/b c", Body=b"0123456789", ContentType="text/x", Metadata={"m": "1"})

    whole = s3.get_object(Bucket=bucket, Key="a/b c")
    head = s3.head_object(Bucket=bucket, Key="a/b c")

    assert whole["Body"].read() == b"0123456789"
    for name in ("ETag", "ContentLength", "ContentType", "LastModified", "Metadata"):
        assert whole[name] == head[name]
    assert s3.get_object(Bucket=bucket, Key="a/b c", Range="bytes=2-4")["Body"].read() == b"234"
    assert s3.get_object(Bucket=bucket, Key="a/b c", ResponseContentType="b/c")["ContentType"] == "b/c"
    assert refusal(s3.get_object, Bucket=bucket, Key="a/b c", IfNoneMatch=whole["ETag"])["ResponseMetadata"]["HTTPStatusCode"] == 304
    assert refusal(s3.get_object, Bucket=bucket, Key="a/b")["Error"]["Code"] == "NoSuchKey"


def test_it_listens_on_this_machine_only(session_emulator):
    assert session_emulator.url.startswith("http://127.0.0.1:")


def test_a_long_body_is_welcome_at_once():
    with emulator() as one, socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2])), timeout=10) as client_side:
        client_side.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")

        assert client_side.recv(64).startswith(b"HTTP/1.1 100 ")  # nothing of the body was sent yet
