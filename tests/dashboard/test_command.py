"""``hybridjobs dashboard`` as a real process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from pl_hybridjobs.dashboard import dashboard
from pl_hybridjobs.errors import InvalidCall
from tests.dashboard.folders import make
from tests.house.source import ROOT


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_link_serves_and_ends_while_a_page_is_open(jobs_home, end):
    make(jobs_home, "vqe")
    words = [sys.executable, "-m", "pl_hybridjobs.cli", "dashboard", "--no-open"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first, link = child.stdout.readline(), child.stdout.readline().strip()
        base, _, token = link.partition("/?token=")
        with httpx.Client(base_url=base) as client:
            assert client.get("/").status_code == 401
            assert client.get("/", params={"token": token}).status_code == 200
            with client.stream("GET", "/api/events") as stream:
                assert next(stream.iter_lines()).startswith("data: ")
                child.send_signal(end)
                rest, errors = child.communicate(timeout=30)

    assert str(jobs_home) in first
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", base)
    assert rest == "The dashboard has ended; jobs go on.\n"
    assert (child.returncode, errors) == (0, "")


def test_a_port_that_is_none_is_refused(jobs_home):
    with pytest.raises(InvalidCall, match="port=70000 is none"):
        dashboard(jobs_home, port=70000)


def test_importing_it_loads_nothing_heavy():
    code = "import sys, pl_hybridjobs.dashboard; print(sorted({'starlette', 'uvicorn', 'numpy', 'asyncio'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout == "[]\n", done.stderr
