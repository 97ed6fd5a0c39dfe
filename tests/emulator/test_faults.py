"""What goes wrong on purpose, and that it goes wrong the same way each time."""

from __future__ import annotations

import json
import time
from collections import Counter

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from pl_hybridjobs.emulator import Faults, emulator
from pl_hybridjobs.emulator.faults import Dice
from tests.emulator.conftest import FORTE, SV1, client, stored, task

pytestmark = pytest.mark.usefixtures("bucket")


def test_a_throttled_request_is_not_looked_at():
    with emulator(devices=["SV1"], faults="throttle=1,in_a_row=2") as running:
        braket = client(running)
        request = task(clientToken="t")

        for _ in range(2):
            with pytest.raises(ClientError) as caught:
                braket.create_quantum_task(**request)
            assert caught.value.response["Error"]["Code"] == "ThrottlingException"
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert not running.tasks

        assert braket.create_quantum_task(**request)
        assert len(running.tasks) == 1
        assert running.happened == {"throttle": 2}


def test_an_internal_error_is_a_500():
    with emulator(devices=["SV1"], faults="error=1") as running, pytest.raises(ClientError) as caught:
        client(running).get_device(deviceArn=SV1)

    assert caught.value.response["Error"]["Code"] == "InternalServiceException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def test_a_dropped_reply_leaves_a_task_that_the_same_token_finds():
    with emulator(devices=["SV1"], faults="drop=1,in_a_row=1") as running:
        braket = client(running)
        request = task(clientToken="lost")

        with pytest.raises(ConnectionClosedError):
            braket.create_quantum_task(**request)

        [bought] = running.tasks
        assert braket.create_quantum_task(**request)["quantumTaskArn"] == bought.arn
        assert len(running.tasks) == 1


def test_a_request_carried_out_twice_buys_once():
    with emulator(devices=["SV1"], faults="duplicate=1") as running:
        client(running).create_quantum_task(**task(clientToken="twice"))

        assert len(running.tasks) == 1
        assert running.happened["duplicate"] == 1


def test_botos_own_retries_get_through():
    """Its token is made once for all tries of a call, so that even dropped replies buy once."""
    with emulator(devices=["SV1"], faults="throttle=0.2,error=0.2,drop=0.3,duplicate=0.1", seed=3) as running:
        braket = boto3.client(
            "braket",
            endpoint_url=running.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 5, "mode": "standard"}),
        )
        arns = [braket.create_quantum_task(**task(clientToken=f"c{n}"))["quantumTaskArn"] for n in range(6)]

        assert [bought.arn for bought in running.tasks] == arns
        assert sum(running.happened.values()) >= 3


def test_results_that_come_later_than_the_state():
    with emulator(devices=["SV1"], faults=Faults(missing=1, missing_s=2.0)) as running:
        braket = client(running)
        arn = braket.create_quantum_task(**task())["quantumTaskArn"]
        running.wait()
        found = braket.get_quantum_task(quantumTaskArn=arn)
        s3 = client(running, "s3")
        place = {"Bucket": found["outputS3Bucket"], "Key": f"{found['outputS3Directory']}/results.json"}

        assert found["status"] == "COMPLETED"
        with pytest.raises(s3.exceptions.NoSuchKey):
            s3.get_object(**place)
        time.sleep(2.2)
        assert json.loads(s3.get_object(**place)["Body"].read())["measurements"]


def test_malformed_results_heal_where_that_is_asked_for():
    with emulator(devices=["SV1"], faults=Faults(malformed=1, malformed_s=2.0)) as running:
        braket = client(running)
        arn = braket.create_quantum_task(**task())["quantumTaskArn"]
        running.wait()
        found = braket.get_quantum_task(quantumTaskArn=arn)

        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(stored(found))
        time.sleep(2.2)
        assert json.loads(stored(found))["measurements"]


def test_slow_tasks():
    with emulator(devices=["SV1"], faults=Faults(slow=1, slow_s=0.4)) as running:
        began = time.monotonic()
        client(running).create_quantum_task(**task())
        running.wait()

        assert time.monotonic() - began >= 0.4


def test_s3_that_is_busy():
    with emulator(devices=["SV1"], faults="s3=1,in_a_row=1") as running:
        s3 = client(running, "s3")
        s3.put_object(Bucket="amazon-braket-us-east-1-123456789012", Key="x", Body=b"y")

        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket="amazon-braket-us-east-1-123456789012", Key="x")

        assert caught.value.response["Error"]["Code"] == "SlowDown"
        assert s3.get_object(Bucket="amazon-braket-us-east-1-123456789012", Key="x")["Body"].read() == b"y"


def test_a_clock_that_goes_a_little_wrong_shows_in_times():
    with emulator(devices=["SV1"], faults=Faults(clock_skew_s=120)) as running:
        braket = client(running)
        arn = braket.create_quantum_task(**task())["quantumTaskArn"]

        assert braket.get_quantum_task(quantumTaskArn=arn)["createdAt"].timestamp() - time.time() == pytest.approx(120, abs=10)


def test_a_clock_that_goes_very_wrong_refuses_signatures():
    with emulator(devices=["SV1"], faults=Faults(clock_skew_s=-1000)) as running, pytest.raises(ClientError) as caught:
        client(running).get_device(deviceArn=SV1)

    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"


def test_the_same_seed_meets_the_same_faults_in_any_order():
    faults = Faults(throttle=0.2, error=0.1, drop=0.1, duplicate=0.1, fail=0.3)
    requests = [f"CreateQuantumTask {n}" for n in range(50)]

    def met(seed, order):
        dice = Dice(faults, seed)
        door = {request: [dice.at_the_door(request) for _ in range(4)] for request in order}
        return door, {request: dice.happens("fail", request) for request in order}

    assert met(1, requests) == met(1, requests[::-1])
    assert met(1, requests) != met(2, requests)


def test_chances_are_kept_and_no_request_suffers_for_ever():
    dice = Dice(Faults(throttle=0.25, drop=0.25, in_a_row=2), 5)

    rows = [[dice.at_the_door(f"r{n}") for _ in range(6)] for n in range(500)]

    first = Counter(row[0] for row in rows)
    assert first["throttle"] == pytest.approx(125, abs=35)
    assert first["drop"] == pytest.approx(94, abs=30)  # a quarter of what was not throttled
    assert all("" in row[k : k + 3] for row in rows for k in range(4))


def test_tasks_fail_by_chance_and_only_good_ones_are_billed():
    with emulator(devices=["Forte 1"], faults="fail=0.5", seed=2) as running:
        braket = client(running)
        for n in range(12):
            braket.create_quantum_task(**task(FORTE, clientToken=f"f{n}"))
        running.wait()

        states = Counter(bought.status for bought in running.tasks)
        assert set(states) == {"COMPLETED", "FAILED"}
        assert len(running.bill.lines) == states["COMPLETED"]
        assert "12 task" not in str(running.bill)
