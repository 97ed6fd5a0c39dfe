"""Who a process is, and that nothing of a job survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from pl_hybridjobs.jobs import process

PYTHON = sys.executable


def test_a_process_is_known_by_more_than_its_pid():
    me = process.current()

    assert me.pid == os.getpid()
    assert me.is_alive() is True
    assert replace(me, started="1").is_alive() is False
    assert replace(me, boot="another boot").is_alive() is False
    assert replace(me, host="elsewhere").is_alive() is None
    assert process.Identity.from_json(me.to_json()) == me


def test_a_zombie_is_dead():
    pid = process.spawn([PYTHON, "-c", "pass"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it

    assert process.Identity.of(pid) is None
    process.reap(pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_output_and_session_are_as_asked():
    read, write = os.pipe()
    code = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == ''); print('x', file=sys.stderr)"
    pid = process.spawn([PYTHON, "-c", code], os.environ, output=write, session=True)
    os.close(write)
    with open(read) as output:
        assert output.read().split() == ["True", "True", "x"]
    os.waitpid(pid, 0)


def test_all_that_carries_a_token_is_killed_with_its_children_and_nothing_else():
    grandchild = (
        f"import subprocess, time; subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(60)']); print(flush=True); time.sleep(60)"
    )
    mine = {**os.environ, process.TOKEN_VARIABLE: "job:1"}
    with (
        subprocess.Popen([PYTHON, "-c", grandchild], env=mine, stdout=subprocess.PIPE) as child,
        subprocess.Popen([PYTHON, "-c", "input()"], env={**mine, process.TOKEN_VARIABLE: "job:11"}, stdin=subprocess.PIPE) as other,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        tokened = process.of_token("job:1")
        assert child.pid in tokened
        assert len(tokened) == 2

        assert process.kill_all("job:1") == []
        assert child.wait() == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


def test_descendants_are_found_through_a_parent():
    with subprocess.Popen([PYTHON, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in process.descendants(os.getpid())
        assert process.resident_mb([child.pid]) > 1
        child.kill()
