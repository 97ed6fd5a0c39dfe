"""Speed of jobs on Amazon Braket: how long a submission takes beside its two requests, how soon a line of the log is here."""

from __future__ import annotations

import contextlib
import os
import time

import boto3
import pytest

from pl_hybridjobs.braket import payload, record
from pl_hybridjobs.braket.logs import GROUP, LogReader
from pl_hybridjobs.braket.runner import BraketRunner
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.emulator import emulator
from pl_hybridjobs.jobs import logs
from pl_hybridjobs.jobs.folder import JobFolder
from tests.braket.boxes import packed
from tests.jobs import functions


@pytest.fixture
def running(monkeypatch):
    with emulator(seed=1) as one:
        for name, value in one.environment().items():
            monkeypatch.setenv(name, value)
        yield one


def test_a_submission_of_a_megabyte_takes_less_than_a_second_beyond_its_two_requests(running, report):
    runner = BraketRunner()
    data = os.urandom(1_000_000)
    folders = [packed(functions.take_self, data) for _ in range(4)]
    spec = folders[0].spec()
    runner.start(folders[0], spec.bundle_digest, "start")  # clients are made, and modules loaded, once

    times, requests = [], []
    for folder in folders[1:]:
        before = time.perf_counter()
        runner.start(folder, folder.spec().bundle_digest, "start")
        times.append(time.perf_counter() - before)
        requests.append(two_requests(runner, folder))
    beyond = min(times) - min(requests)

    report("submission of a bundle of 1 MB", min(times), "s")
    report("its two requests alone", min(requests), "s")
    assert beyond < 1.0


def two_requests(runner: BraketRunner, folder: JobFolder) -> float:
    """PutObject of the source and CreateJob, alone."""
    archive = payload.pack(folder).archive
    session = runner.session(folder.spec())
    bucket, _ = session.location()
    run = record.latest(folder)
    assert run is not None
    before = time.perf_counter()
    session.call("s3", "put_object", Bucket=bucket, Key="benchmark/source.tar.gz", Body=archive)
    session.call("braket", "create_job", **{**run.intent["request"], "clientToken": f"{time.time_ns()}"})
    return time.perf_counter() - before


def test_ten_thousand_lines_are_here_in_order_within_two_seconds(running, report):
    folder = packed(functions.add, 1)
    run = record.Run(record.home(folder) / "1")
    run.begin({"folder": "s3://none/none", "epoch": 0, "request": {}, "region": "us-east-1", "time": 0, "door": {}})
    client, stream = boto3.client("logs"), "benchmark/uuid/algo-1"
    with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):  # moto's lasts as long as this process
        client.create_log_group(logGroupName=GROUP)
    client.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    lines = [f"2026-11-21T01:23:45.{number:06}Z line {number}" for number in range(10_000)]
    events = [{"timestamp": int(time.time() * 1000), "message": text} for text in ["hybridjobs: attempt 1", *lines]]
    for begin in range(0, len(events), 5_000):
        client.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events[begin : begin + 5_000])
    arrived = time.perf_counter()

    def look() -> bool:
        LogReader(Session(), folder, run, "benchmark").pull()
        return True

    found = list(logs.follow(lambda: [attempt.log for attempt in folder.attempt_list()], look))
    took = time.perf_counter() - arrived

    report("10,000 lines of a log, after their arrival", took, "s")
    assert found == lines
    assert took < 2.0
