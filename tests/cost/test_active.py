"""Which account is charged, and by which process."""

from __future__ import annotations

import subprocess
import sys

FORKS = """
import os, sys
from pl_hybridjobs.cost import active

def in_a_child():
    there, here = os.pipe()
    if os.fork() == 0:
        os.write(here, active.stranger().encode())
        os._exit(0)
    os.close(here)
    os.wait()
    return os.read(there, 100).decode()

with active.activate(lambda: None):
    mine, first, second = active.stranger(), in_a_child(), in_a_child()
assert mine == ""
assert first and second and first != second, (first, second)
"""


def test_processes_that_a_job_forks_make_keys_of_their_own():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
