"""What a supervisor does between attempts."""

from __future__ import annotations

import signal
import threading
import time

from pl_hybridjobs.jobs import supervisor
from pl_hybridjobs.jobs.lease import claim
from pl_hybridjobs.jobs.logs import LogWriter
from pl_hybridjobs.jobs.state import observe
from tests.braket.boxes import packed
from tests.jobs import functions


def test_who_is_asked_to_stop_between_two_attempts_does_not_begin_the_next():
    folder = packed(functions.add, 1)
    lease = claim(folder, "start")
    asked = [False]
    threading.Timer(0.2, asked.__setitem__, (0, True)).start()
    began = time.monotonic()

    assert not supervisor._pause(folder, lease, 60.0, lambda: asked[0])
    assert time.monotonic() - began < 30
    assert not supervisor._pause(folder, lease, 0.0, lambda: True), "also where there is no pause"


def test_a_signal_that_comes_when_the_worker_is_gone_is_not_lost():
    folder = packed(functions.add, 1)
    attempt = supervisor.Attempt(folder, folder.spec(), "", claim(folder, "start"))

    attempt.signals += [signal.SIGCHLD]
    assert not attempt.is_asked_to_stop()
    attempt.signals += [signal.SIGTERM]
    assert attempt.is_asked_to_stop()


def test_a_worker_that_went_on_after_it_was_asked_to_stop_is_said_to_have_been_killed_for_that():
    folder = packed(functions.add, 1)
    attempt = supervisor.Attempt(folder, folder.spec(), "", claim(folder, "start"))
    attempt.kill_reason = "stop"
    attempt.log = LogWriter(attempt.files.log)

    assert attempt._interrupted(-signal.SIGKILL, "").stopped
    attempt.log.close()

    assert observe(folder).detail == "the worker was asked to stop, reached no step boundary within 10 s, and was killed"
