"""Tasks over real boto3 and HTTP, against the emulator."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path

import boto3
import numpy as np
import pennylane as qml
import pytest
from pennylane.exceptions import DeviceError

from pl_hybridjobs.braket import devices, tasks, watch
from pl_hybridjobs.braket.session import Refusal
from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.devices.provider import Task, TaskState
from pl_hybridjobs.errors import DeviceOffline, InvalidCall, ProviderError, TaskCancelled, TaskFailed
from tests.braket.conftest import ANKAA, FORTE, GARNET, SV1
from tests.braket.scripted import refusal, scripted

TAPE = qml.tape.QuantumScript


def bell(angle=np.pi / 2, wires=(0, 1), measured=(0, 1)):
    first, second = wires
    return TAPE([qml.RY(angle, first), qml.CNOT([first, second])], [qml.sample(wires=measured)])


def task(*circuits, key="key-1", shots=20, **options):
    return Task(key, tuple(circuits) or (bell(),), shots, **options)


def finished(qpu, task_id, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not (status := qpu.status(task_id)).state.is_final:
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    return status


def bits_of(result, circuit=0):
    """uint8 of shape ``(shots, wires)``."""
    assert result.circuits[circuit].bits is not None
    return result.circuits[circuit].bits


def run(qpu, wanted):
    task_id = qpu.submit(wanted)
    finished(qpu, task_id)
    return qpu.result(task_id, wanted)


def place(running, number=-1):
    """Where a task's results are."""
    request = running.tasks[number].request
    return {"Bucket": request["outputS3Bucket"], "Key": f"{running.tasks[number].directory}/results.json"}


def stored(running, number=-1):
    return json.loads(boto3.client("s3").get_object(**place(running, number))["Body"].read())


def store(running, body, number=-1):
    boto3.client("s3").put_object(**place(running, number), Body=body if isinstance(body, bytes) else json.dumps(body).encode())


# Bad input -------------------------------------------------------------------------------------------------------------------


def test_opening_contacts_nothing_and_needs_no_account():
    assert tasks.open(FORTE, bucket="mine", prefix="h2").target == FORTE


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidCall) as caught:
        tasks.open(
            "arn:aws:braket:us-east-1:123456789012:device/gpu/ionq/Forte-1",
            region="us-west-2",
            bucket="s3://mine/results",
            reservation_arn="arn:aws:braket:us-west-2:123456789012:reservation",
            endpoint_url="localhost:8555",
            shouts=100,
            profile=3,
            results_timeout_s=-1,
            attempts=0,
        )

    for part in (
        "the account '123456789012'",
        "us-west-2",
        "us-west-2",
        "s3://mine/results",
        "reservation_arn",
        "endpoint_url='localhost:8555'",
        "'shouts'",
        "profile=3",
        "results_timeout_s",
        "attempts",
    ):
        assert part in str(caught.value), part


def test_a_device_that_is_in_another_region_is_pointed_to(emulated):
    emulated()

    with pytest.raises(ProviderError, match=rf"us-west-1 has no device .* Did you mean '{FORTE}'\?$"):
        tasks.open(FORTE.replace("us-east-1", "us-west-1")).capabilities()


def test_a_reservation_elsewhere_is_refused():
    with pytest.raises(InvalidCall, match="reservation_arn is of us-west-1"):
        tasks.open(FORTE, reservation_arn="arn:aws:braket:us-west-1:123456789012:reservation/6a")


def test_a_task_goes_into_a_reservation(emulated):
    running = emulated()
    qpu = tasks.open(FORTE, reservation_arn=running.reserve("Forte 1"))

    run(qpu, task())

    assert running.tasks[0].reserved
    assert running.bill.total_usd == 0


def test_an_expired_reservation_is_named_and_nothing_is_bought(emulated):
    running = emulated()
    reservation = running.reserve("Forte 1", from_s=-20.0, until_s=-10.0)

    with pytest.raises(ProviderError, match="is active from") as caught:
        tasks.open(FORTE, reservation_arn=reservation).submit(task())

    assert f"reservation {reservation}: look whether it has begun" in " ".join(caught.value.__notes__)
    assert not running.tasks


def test_what_was_refused_takes_nothing_of_the_budget(emulated):
    running = emulated()
    device = qml.device("hybridjobs.qpu", FORTE, wires=1, reservation_arn=running.reserve("Forte 1", from_s=-20.0, until_s=-10.0))

    with pytest.raises(ProviderError, match="is active from"):
        qml.execute([TAPE([qml.X(0)], [qml.sample(wires=[0])], shots=10)], device, diff_method=None)

    assert [str(entry.state) for entry in accounts.current().ledger.entries()] == ["released"]


def test_a_wrong_clock_costs_one_request(emulated):
    emulated(faults="clock_skew_s=4000")

    assert bits_of(run(tasks.open(SV1), task())).shape == (20, 2)


# What is sent ----------------------------------------------------------------------------------------------------------------


def test_one_key_buys_once(emulated):
    running = emulated()
    first, second = tasks.open(SV1), tasks.open(SV1)

    names = {qpu.submit(task()) for qpu in (first, second, first)}

    assert len(names) == len(running.tasks) == 1


@pytest.mark.parametrize("search", ["at once", "late", "forbidden"])
def test_a_later_attempt_with_another_job_token_tags_and_prefix_finds_what_was_bought(emulated, monkeypatch, search):
    """As in an Amazon Braket job that begins anew: nobody knows whether the first attempt's request was carried out."""
    monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", "the-first-attempts")
    running = emulated()
    bought = [tasks.open(SV1).submit(task(key=key)) for key in ("key-1", "key-2")]
    monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", "the-second-attempts")
    later = tasks.open(SV1, prefix="elsewhere")
    call, searches = later._session.call, []

    def answer(service, operation, **request):
        if operation == "search_quantum_tasks":
            searches.append(operation)
            if search == "forbidden":
                raise Refusal("AccessDeniedException", "no", operation)
            if search == "late" and len(searches) == 1:
                return {"quantumTasks": []}
        return call(service, operation, **request)

    monkeypatch.setattr(later._session, "call", answer)

    def submit(key):
        return later.submit(task(key=key, tags={"who": "us"}, was_sent=True))

    if search == "forbidden":
        with pytest.raises(Refusal, match="token key-1 was used before"):
            submit("key-1")
    else:
        assert [submit("key-1"), submit("key-2")] == bought
        assert len(searches) == (1 if search == "at once" else 2)
        assert submit("key-3") not in bought
    assert len(running.tasks) == (2 if search == "forbidden" else 3)


def test_a_search_for_what_was_bought_that_was_broken_off_begins_anew(monkeypatch):
    errors = [ProviderError("no network"), KeyboardInterrupt()]

    def turn(*args, **kwargs):
        if errors:
            raise errors.pop()
        yield {"quantumTasks": [{"outputS3Directory": "tasks/a/x", "quantumTaskArn": "a-arn"}]}

    qpu = tasks.open(SV1)
    monkeypatch.setattr(qpu._session, "pages", turn)

    for error in (KeyboardInterrupt, ProviderError):
        with pytest.raises(error):
            qpu._bought_before("a")
    assert qpu._bought_before("a") == "a-arn"


def test_a_search_for_what_was_bought_turns_no_more_pages_than_it_needs(monkeypatch):
    pages = [[("b", "b-arn")], [("c", "c-arn"), ("d", "d-arn")], [("a", "a-arn")]]
    turned: list[int] = []

    def turn(*_, **__):
        for number, page in enumerate(pages):
            turned.append(number)
            yield {"quantumTasks": [{"outputS3Directory": f"tasks/{key}/x", "quantumTaskArn": arn} for key, arn in page]}

    qpu = tasks.open(SV1)
    monkeypatch.setattr(qpu._session, "pages", turn)

    assert qpu._bought_before("c") == "c-arn"
    assert qpu._bought_before("d") == "d-arn"
    assert turned == [0, 1]
    assert (qpu._bought_before("a"), qpu._bought_before("z")) == ("a-arn", None)
    assert turned == [0, 1, 2]


def test_what_an_attempt_bought_and_never_heard_of_is_collected_by_the_next_one(emulated, monkeypatch, tmp_path):
    running = emulated()
    found = []
    for attempt in ("first", "second"):
        monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", f"the-{attempt}-attempts")
        with accounts.activate(Account("a job", Ledger(tmp_path / "spend.sqlite"), namespace="a job")) as account:
            device = qml.device("hybridjobs.qpu", SV1, wires=1, tags={"attempt": attempt})
            submit = device.qpu.submit

            def deaf(task, submit=submit):
                submit(task)
                raise ProviderError("the connection was lost")

            if attempt == "first":
                monkeypatch.setattr(device.qpu, "submit", deaf)
            with contextlib.suppress(ProviderError):
                found += qml.execute([TAPE([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])], device, diff_method=None)
            assert len(running.tasks) == account.cost().tasks == 1

    np.testing.assert_allclose(found, [np.cos(0.3)])


def test_a_session_a_job_and_tags_are_told(emulated, monkeypatch):
    monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", "the-token")
    running = emulated()
    running.hold("Forte 1")
    qpu = tasks.open(FORTE)

    ids = [qpu.submit(task(key=f"key-{i}", session="scan", tags={"who": "us"})) for i in range(3)]
    waiting = qpu.status(ids[2])

    assert dict(running.tasks[0].tags) == {"hybridjobs:session": "scan", "who": "us"}
    assert waiting.state == TaskState.QUEUED
    assert (waiting.priority, int(waiting.queue_position)) == ("priority", 3)
    assert qpu.availability().priority_queue == "3"


def test_secrets_are_nowhere(emulated, monkeypatch, caplog, tmp_path, jobs_home, capfd):
    secret = "job-token-7a3f"
    emulated(faults="throttle=0.3")
    monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", secret)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated-key-91c2")
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "pl_hybridjobs")
    device = qml.device("hybridjobs.qpu", SV1, wires=2, session="scan")

    qml.execute([TAPE([qml.Hadamard(0)], [qml.expval(qml.X(0))])], device, diff_method=None)
    with pytest.raises(ProviderError) as caught:
        device.qpu.submit(task(key="k" * 64, tags={"a": "b"}, token="t" * 200))

    texts = [caplog.text, str(caught.value), repr(device.qpu), repr(device.last_tasks), *capfd.readouterr()]
    texts += [
        path.read_bytes().decode(errors="replace") for root in (tmp_path, jobs_home) for path in Path(root).rglob("*") if path.is_file()
    ]
    assert len(texts) > 5
    assert not [text for text in texts if secret in text or "emulated-key-91c2" in text or "t" * 200 in text]


def test_verbatim_runs_on_the_physical_qubits_that_wires_name(emulated):
    running = emulated()
    qpu = tasks.open(ANKAA)
    first, second = sorted(pair for pair in qpu.capabilities().connectivity or () if pair[0] > 3 and pair[1] > pair[0])[0]
    circuit = TAPE([qml.RX(np.pi, second), qml.ISWAP([first, second])], [qml.sample(wires=[second, first])])

    found = run(qpu, task(circuit, verbatim=True))

    request = running.tasks[0].request
    assert f"iswap ${first}, ${second};" in json.loads(request["action"])["source"]
    assert json.loads(request["deviceParameters"])["paradigmParameters"]["disableQubitRewiring"] is True
    assert (bits_of(found) == [0, 1]).all()
    assert (bits_of(tasks.open(ANKAA).result(found.task_id, task(circuit, verbatim=True))) == [0, 1]).all()


def test_verbatim_through_the_device_refuses_what_is_not_native(emulated):
    emulated()
    device = qml.device("hybridjobs.qpu", ANKAA, verbatim=True)

    with pytest.raises(qml.exceptions.DeviceError, match="no native gate CNOT"):
        qml.execute([TAPE([qml.CNOT([0, 1])], [qml.sample(wires=[0])], shots=10)], device, diff_method=None)


def test_a_device_with_experimental_capabilities_acts_on_outcomes(emulated):
    running = emulated()
    device = qml.device("hybridjobs.qpu", GARNET, wires=2, experimental=True)

    @qml.set_shots(20)
    @qml.qnode(device)
    def circuit():
        qml.RX(np.pi, 0)
        qml.cond(qml.measure(0), qml.X)(1)
        return qml.counts(wires=[0, 1])

    assert circuit() == {"11": 20}
    assert running.tasks[0].request["experimentalCapabilities"] == {"enabled": "ALL"}
    assert not tasks.open(GARNET).capabilities().mid_circuit


def test_a_device_with_experimental_capabilities_resets_by_an_outcome(emulated):
    emulated()

    @qml.set_shots(200)
    @qml.qnode(qml.device("hybridjobs.qpu", GARNET, wires=2, experimental=True))
    def circuit():
        qml.Hadamard(0)
        outcome = qml.measure(0, reset=True)
        qml.cond(outcome, qml.X)(1)
        return qml.probs(wires=0), qml.probs(wires=1)

    reset, copied = circuit()

    assert reset.tolist() == [1, 0]
    assert abs(copied[0] - 0.5) < 5 * 0.5 / np.sqrt(200)


def test_nothing_is_bought_if_one_of_several_tasks_cannot_be_said(emulated):
    running = emulated()
    device = qml.device("hybridjobs.qpu", GARNET, wires=2, experimental=True)

    def circuit(value):
        def made():
            outcome = qml.measure(0)
            qml.cond(outcome == value, qml.X)(1)
            return qml.expval(qml.Z(1))

        return made

    tapes = [qml.tape.make_qscript(circuit(value), shots=10 + value)() for value in (1, 0)]
    with pytest.raises(DeviceError, match="mcm_method='deferred'"):
        qml.execute(tapes, device)

    assert not running.tasks
    assert accounts.current().cost().tasks == 0


@pytest.mark.parametrize("target", [FORTE, GARNET, ANKAA], ids=lambda arn: arn.rpartition("/")[2])
def test_each_vendors_device_gives_a_bell_pair(emulated, target):
    emulated()

    bits = bits_of(run(tasks.open(target), task(shots=200)))

    assert bits.shape == (200, 2)
    assert bits.dtype == np.uint8
    assert (bits[:, 0] == bits[:, 1]).all()
    assert 60 < bits[:, 0].sum() < 140


# Program sets ----------------------------------------------------------------------------------------------------------------


def test_circuits_of_a_program_set_keep_their_places(emulated):
    running = emulated()
    still = TAPE([qml.X(1)], [qml.sample(wires=[1, 0])])
    turned = [TAPE([qml.RX(angle, 0), qml.RX(np.pi - angle, 1)], [qml.sample(wires=[0, 1])]) for angle in (0.0, np.pi, 0.0)]
    circuits = [turned[0], still, turned[1], still, turned[2]]

    found = run(tasks.open(FORTE), task(*circuits))

    assert [tuple(bits_of(found, i)[0]) for i in range(5)] == [(0, 1), (1, 0), (1, 0), (1, 0), (0, 1)]
    assert all((bits_of(found, i) == bits_of(found, i)[0]).all() for i in range(5))
    assert len(json.loads(running.tasks[0].request["action"])["programs"]) == 3
    assert (found.shots, running.tasks[0].request["shots"]) == (100, 100)


def test_a_program_set_in_several_files_is_put_together(emulated):
    running = emulated()
    qpu = tasks.open(FORTE)
    wanted = task(*(TAPE([qml.RX(angle, 0)], [qml.sample(wires=[0])]) for angle in (0.0, np.pi)))
    task_id = qpu.submit(wanted)
    finished(qpu, task_id)

    where, body, s3 = place(running), stored(running), boto3.client("s3")
    bucket, folder = where["Bucket"], where["Key"].removesuffix("/results.json")

    def put(key, part):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{key}", Body=json.dumps(part).encode())
        return key

    for number, result in enumerate(body["programResults"]):
        for run_number, row in enumerate(result["executableResults"]):
            put(f"programs/{number}/executables/{run_number}.json", row)
        result["executableResults"] = [f"executables/{i}.json" for i in range(len(result["executableResults"]))]
        put(f"programs/{number}/results.json", result)
    body["programResults"] = [f"programs/{i}/results.json" for i in range(len(body["programResults"]))]
    body["taskMetadata"] = put("metadata.json", body["taskMetadata"])
    body["s3Location"] = [bucket, folder]
    store(running, body)

    found = qpu.result(task_id, wanted)

    assert [bits_of(found, i).mean() for i in range(2)] == [0, 1]


def test_a_program_set_that_failed_in_parts_says_which(emulated):
    running = emulated()
    qpu = tasks.open(FORTE)
    wanted = task(*(TAPE([qml.RX(angle, 0)], [qml.sample(wires=[0])]) for angle in (0.0, np.pi)))
    task_id = qpu.submit(wanted)
    finished(qpu, task_id)
    body = stored(running)
    failure = {"failureReason": "too hot", "retryable": False, "category": "DEVICE"}
    body["programResults"][0]["executableResults"][1] = {"inputsIndex": 1, "failureMetadata": failure}
    store(running, body)

    with pytest.raises(TaskFailed, match="circuit 1 of 2: too hot"):
        qpu.result(task_id, wanted)


# Results ---------------------------------------------------------------------------------------------------------------------


def test_bits_stand_in_the_order_in_which_wires_are_measured(emulated):
    emulated()
    circuit = TAPE([qml.X(3), qml.I(0), qml.X(1)], [qml.sample(wires=[3, 0, 1])])

    for target in (SV1, FORTE):
        assert (bits_of(run(tasks.open(target), task(circuit, key=target[-9:].replace("/", "-")))) == [1, 0, 1]).all()


def test_probabilities_become_shots_whose_parts_are_samples_too(emulated):
    running = emulated()
    bits = bits_of(run(tasks.open(FORTE), task(shots=1000)))

    assert stored(running).get("measurements") is None
    assert 150 < bits[:500, 0].sum() < 350
    again = tasks.open(FORTE).result(running.tasks[0].arn, task(shots=1000))
    np.testing.assert_array_equal(bits, bits_of(again))


def test_a_vendors_rounded_probabilities_give_all_shots(emulated):
    running = emulated()
    qpu = tasks.open(FORTE)
    task_id = qpu.submit(task(shots=1000))
    finished(qpu, task_id)
    body = stored(running) | {"measurementProbabilities": {"00": 0.3333, "01": 0.0001, "11": 0.6665}}
    store(running, body)

    bits = bits_of(qpu.result(task_id, task(shots=1000)))

    assert bits.shape == (1000, 2)
    assert bits[:, 1].sum() in (666, 667)


@pytest.mark.parametrize("fault", ["missing=1,missing_s=0.3", "malformed=1,malformed_s=0.3", "slow=1,slow_s=0.3"])
def test_results_that_come_late_are_waited_for(emulated, fault):
    emulated(faults=fault)

    assert bits_of(run(tasks.open(SV1), task())).shape == (20, 2)


def changed(**changes):
    return lambda body: json.dumps(body | changes).encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda body: json.dumps(body).encode()[:100], "makes no sense"),
        (lambda body: b"", "makes no sense"),
        (lambda body: b"[1, 2]", "makes no sense"),
        (changed(measurements=[[0, 1]] * 19), "19 shots, not 20"),
        (changed(measurements=[[0]] * 20), "1 bits a shot, and names 2 qubits"),
        (changed(measurements=[[0, 2]] * 20), "neither 0 nor 1"),
        (changed(measurements=[[0, 0.5]] * 20), "neither 0 nor 1"),
        (changed(measurements=[[0, 1]] * 19 + [[0]]), "makes no sense"),
        (changed(measurements=None), "neither measurements nor probabilities"),
        (changed(measurements=None, measurementProbabilities={"00": 0.5}), "neither measurements nor probabilities"),
        (changed(measuredQubits=[0, 5]), r"qubits \[1\] were to be measured, and it has \[0, 5\]"),
        (changed(taskMetadata={"id": "arn:another"}), "the result of arn:another"),
        (changed(taskMetadata=None), "makes no sense"),
    ],
)
def test_results_that_make_no_sense_are_refused_with_their_place(emulated, damage, words):
    running = emulated()
    qpu = tasks.open(SV1, results_timeout_s=0.0)
    task_id = qpu.submit(task())
    finished(qpu, task_id)
    store(running, damage(stored(running)))

    with pytest.raises(ProviderError, match=words) as caught:
        qpu.result(task_id, task())

    assert "s3://{Bucket}/{Key}".format(**place(running)) in str(caught.value)
    assert "not bought again" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda rows: rows[:1], "1 results, not 2"),
        (lambda rows: [rows[1], rows[0]], "'probability' where 'expectation'"),
        (lambda rows: [{**rows[0], "value": float("nan")}, rows[1]], "not finite"),
        (lambda rows: [rows[0], {**rows[1], "value": [1.0]}], "shape"),
    ],
)
def test_exact_results_are_checked_as_well(emulated, damage, words):
    running = emulated()
    qpu = tasks.open(SV1, results_timeout_s=0.0)
    circuit = TAPE([qml.RX(0.3, 0), qml.CNOT([0, 1])], [qml.expval(qml.Z(0)), qml.probs(wires=[1, 0])])
    task_id = qpu.submit(task(circuit, shots=0))
    finished(qpu, task_id)
    body = stored(running)
    store(running, body | {"resultTypes": damage(body["resultTypes"])})

    with pytest.raises(ProviderError, match=words):
        qpu.result(task_id, task(circuit, shots=0))


def test_results_that_never_come_name_the_place(emulated):
    running = emulated()
    qpu = tasks.open(SV1, results_timeout_s=0.2)
    task_id = qpu.submit(task())
    finished(qpu, task_id)
    boto3.client("s3").delete_object(**place(running))

    with pytest.raises(ProviderError, match="there is nothing") as caught:
        qpu.result(task_id, task())
    assert place(running)["Key"] in str(caught.value)


# How tasks end ---------------------------------------------------------------------------------------------------------------


def test_a_failed_task_says_why_and_where_to_look(emulated):
    emulated(faults="fail=1")
    qpu = tasks.open(SV1)
    task_id = qpu.submit(task())

    status = finished(qpu, task_id)
    with pytest.raises(TaskFailed) as caught:
        qpu.result(task_id, task())

    assert status.state == TaskState.FAILED
    assert "DeviceFault" in status.reason
    assert f"https://us-east-1.console.aws.amazon.com/braket/home?region=us-east-1#/tasks/{task_id}" in status.reason
    assert caught.value.task_id == task_id
    assert "DeviceFault" in caught.value.reason
    assert "console" in caught.value.hint


def test_a_task_is_cancelled_once_and_stays_so(emulated):
    running = emulated(latency_s=5.0)
    qpu = tasks.open(SV1)
    task_id = qpu.submit(task())

    qpu.cancel(task_id)
    assert finished(qpu, task_id).state == TaskState.CANCELLED
    qpu.cancel(task_id)

    with pytest.raises(TaskCancelled):
        qpu.result(task_id, task())
    assert qpu.submit(task()) == task_id
    assert len(running.tasks) == 1


def test_cancelling_what_has_ended_is_harmless(emulated):
    emulated()
    qpu = tasks.open(SV1)
    found = run(qpu, task())

    qpu.cancel(found.task_id)

    assert qpu.status(found.task_id).state == TaskState.COMPLETED


def test_results_are_not_asked_for_too_early(emulated):
    emulated(latency_s=5.0)
    qpu = tasks.open(SV1)

    with pytest.raises(ProviderError, match="no results yet"):
        qpu.result(qpu.submit(task()), task())


def test_an_offline_device_says_when_it_opens(emulated, monkeypatch):
    running = emulated()
    running.set_status("Forte 1", "OFFLINE")
    qpu = tasks.open(FORTE)

    qpu.capabilities()
    with monkeypatch.context() as patched:
        patched.setattr(devices, "described", lambda *_: pytest.fail("all that it says is known already"))
        with pytest.raises(DeviceOffline, match=r"offline.*hours \(UTC\)"):
            qpu.submit(task())
    assert qpu.availability().state == "offline"
    assert not running.tasks


def test_offline_after_a_lost_reply_is_no_proof_that_nothing_was_bought(emulated, monkeypatch):
    emulated()
    qpu = tasks.open(FORTE)
    call = qpu._session.call

    def answer(service, operation, **request):
        if operation == "create_quantum_task":
            raise Refusal("DeviceOfflineException", "closed", "CreateQuantumTask")  # nothing_done is False: an attempt before got no reply
        return call(service, operation, **request)

    monkeypatch.setattr(qpu._session, "call", answer)
    with pytest.raises(ProviderError, match="closed"):
        qpu.submit(task())


def test_a_retired_device_is_no_offline_one(emulated):
    running = emulated()
    running.set_status("Forte 1", "RETIRED")

    with pytest.raises(ProviderError, match=r"retired.*another device") as caught:
        tasks.open(FORTE).submit(task())
    assert caught.value.nothing_done


# Many tasks ------------------------------------------------------------------------------------------------------------------


def counted(qpu):
    """How often the service is asked for what."""
    counts: dict[str, int] = {}
    call = qpu._session.call

    def count(service, operation, **request):
        counts[operation] = counts.get(operation, 0) + 1
        return call(service, operation, **request)

    qpu._session.call = count
    return counts


def test_many_tasks_are_looked_at_with_few_requests(emulated):
    emulated(latency_s=0.5)
    device = qml.device("hybridjobs.qpu", SV1, wires=1)
    counts = counted(device.qpu)
    angles = np.linspace(0, np.pi, 40)

    found = qml.execute([TAPE([qml.RX(angle, 0)], [qml.expval(qml.Z(0))]) for angle in angles], device, diff_method=None)

    np.testing.assert_allclose(found, np.cos(angles), atol=1e-9)
    assert counts["create_quantum_task"] == 40
    assert counts.get("get_quantum_task", 0) < 40
    assert counts["search_quantum_tasks"] < 40


def test_after_a_slow_search_there_are_news_all_the_same(emulated, monkeypatch):
    """One that took two seconds, since the machine was busy, once kept all tasks from being looked at for eight."""
    monkeypatch.setattr(watch, "_LONGEST_S", 0.05)
    emulated()
    qpu = tasks.open(SV1)
    ids = [qpu.submit(task(key=f"key-{i}")) for i in range(12)]
    searches = []
    call = qpu._session.call

    def slow(service, operation, **request):
        if operation == "search_quantum_tasks":
            searches.append(request)
            time.sleep(0.3)
        return call(service, operation, **request)

    monkeypatch.setattr(qpu._session, "call", slow)
    states = {finished(qpu, task_id).state for task_id in ids}
    qpu._watch._search_again()

    assert states == {TaskState.COMPLETED}
    assert len(searches) >= 2


def test_who_may_not_search_asks_one_by_one(emulated, monkeypatch):
    running = emulated()
    with scripted(lambda headers: refusal(403, "AccessDeniedException")) as service:
        qpu = tasks.open(SV1)
        ids = [qpu.submit(task(key=f"key-{i}")) for i in range(12)]
        call = qpu._session.call

        def forbidden(name, operation, **request):
            if operation == "search_quantum_tasks":
                session = tasks.open(SV1, endpoint_url=service.url)._session
                return session.call(name, operation, **request)
            return call(name, operation, **request)

        monkeypatch.setattr(qpu._session, "call", forbidden)
        states = {finished(qpu, task_id).state for task_id in ids}

    assert states == {TaskState.COMPLETED}
    assert len(service.asked) == 1
    assert len(running.tasks) == 12
