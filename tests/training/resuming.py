"""How the tests of resume interrupt a job, and what must be the same afterwards."""

from __future__ import annotations

import os
import random
import signal
import time

from pl_hybridjobs import Status, hybrid_job
from pl_hybridjobs.jobs import codec, process


def bits(job):
    """Result and metrics to the last bit; only how long steps took may differ."""
    result = codec.dumps(job.result(60))
    table = job.metrics()
    assert not table.problems
    times = [name for name in table.names if name.endswith("step_time_s")]
    metrics = {name: (table.steps(name).tobytes(), table[name].tobytes()) for name in sorted(set(table.names) - set(times))}
    return result, metrics


def interrupted(fn, args, at, monkeypatch, runner="inline"):
    """The job, taken up after each bomb of ``at``: "5" fails it at its fifth tick, "5:stop" leaves it to be resumed in place."""
    job = None
    for bomb in (*at, "0"):
        monkeypatch.setenv("BOMB_AT", bomb)
        job = hybrid_job(fn, runner=runner)(*args) if job is None else job.resume()
        job.wait(60)
        if job.status is Status.COMPLETED:
            break
        if bomb == "0" or "Interrupted" not in str(job.exception()):
            assert bomb.endswith("stop"), str(job.exception())
            assert job.status is Status.INTERRUPTED, str(job.exception())
    assert job is not None
    assert job.status is Status.COMPLETED, str(job.exception())
    return job


def random_bombs(rng: random.Random, most: int, count: int = 2):
    return [f"{rng.randint(1, most)}{rng.choice(['', ':stop'])}" for _ in range(count)]


def reference(fn, args, monkeypatch):
    monkeypatch.setenv("BOMB_AT", "0")
    return hybrid_job(fn, runner="inline")(*args)


def killed(fn, args, rng: random.Random, kills: int, longest_s: float):
    """The job, its worker or supervisor really killed at random instants until it was done so often (or it has ended)."""
    job = hybrid_job(fn)(*args)
    done = 0
    while True:
        time.sleep(rng.uniform(0.0, longest_s))
        state = job.state()
        if state.status.is_final:
            return job, done
        if state.status is Status.INTERRUPTED:
            job.resume()
        elif done < kills and state.status is Status.RUNNING and state.lease is not None:
            victims = process.descendants(state.lease.owner.pid)
            try:
                os.kill(rng.choice([*victims, *victims, state.lease.owner.pid]), signal.SIGKILL)
                done += 1
            except ProcessLookupError:
                pass
