"""Functions that the tests submit. A local module, so it travels as source."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from pl_hybridjobs import (
    current_job,
    input_path,
    load_checkpoint,
    log_metric,
    results_dir,
    save_checkpoint,
    save_result,
)


@dataclass(frozen=True)
class Point:
    x: int
    y: float


class OwnError(Exception):
    def __init__(self, code: int, hint: str) -> None:
        super().__init__(code, hint)
        self.code = code


def add(a, b=2, *, c=0):
    return a + b + c


def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    print("no newline", end="")


def fail(message="boom"):
    raise ValueError(message)


def fail_own():
    raise OwnError(7, "own")


def give_point(x):
    return Point(x, 0.5)


async def add_async(a, b):
    await asyncio.sleep(0.01)
    return a + b


def write_artefact():
    with open("artefact.txt", "w") as file:
        file.write("made")
    return str(results_dir())


def list_input(channel):
    """Names of what is in an input channel."""
    return sorted(path.name for path in input_path(channel).iterdir())


def read_input(channel):
    return input_path(channel).read_text()


def describe_job():
    job = current_job()
    return {"name": job.name, "attempt": job.attempt, "params": job.params, "env": os.environ["AMZN_BRAKET_JOB_NAME"], "cwd": os.getcwd()}


def count(steps, pause_s=0.0, die_at=None):
    """Adds up its steps; a checkpoint each; dies once if asked to."""
    state = load_checkpoint(default={"step": 0, "total": 0.0})
    for step in range(state["step"], steps):
        log_metric("total", state["total"], step=step)
        state = {"step": step + 1, "total": state["total"] + 0.1 * step}
        save_checkpoint(state, step=step + 1)
        if step == die_at and current_job().attempt == 1:
            os.kill(os.getpid(), 9)
        time.sleep(pause_s)
    return state["total"]


def fail_times(times):
    if current_job().attempt <= times:
        raise RuntimeError(f"attempt {current_job().attempt}")
    return current_job().attempt


def sleep(seconds):
    time.sleep(seconds)


def start_grandchildren():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, env={})
    print("started", flush=True)
    time.sleep(600)


def keep_result():
    save_result({"kept": True})


def eat_memory(megabytes):
    block = bytearray(int(megabytes * 1e6))
    time.sleep(30)
    return len(block)


def cpus():
    return len(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"]


def submit_another():
    from pl_hybridjobs import hybrid_job

    def inner():
        time.sleep(1)
        return 1

    return hybrid_job(inner)().id


def write_a_result_file():
    with open("result.json", "w") as file:
        file.write("not JSON: NaN")


def take_self(self):
    return self


def argv():
    return list(sys.argv)


def open_missing():
    with open("not there"):
        pass


def fail_if_odd(number):
    if number % 2:
        raise ValueError("odd")
    return number


def exit_quietly():
    os._exit(0)


def exit_with(code):
    sys.exit(code)


def unstorable():
    return lambda: 1


def stamp(path, number, seconds=0.0, hang=False):
    """Says in a file that it has begun and that it has ended; may hang at its first attempt, and fail while there is a file ``.broken``."""
    with open(path, "a") as file:
        file.write(f"{number} begins\n")
    time.sleep(60 if hang and current_job().attempt == 1 else seconds)
    if number == 1 and os.path.exists(f"{path}.broken"):
        raise ValueError("broken")
    with open(path, "a") as file:
        file.write(f"{number} ends\n")
    return number
