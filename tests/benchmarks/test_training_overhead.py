"""What logging, progress and the checkpoint policy add to a step inside a job."""

from __future__ import annotations

import statistics
import time

import numpy as np

from pl_hybridjobs import train
from pl_hybridjobs.jobs.context import JobContext, activate
from pl_hybridjobs.jobs.spec import JobSpec, new_id
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.training.optimizers import Step

STEPS = 1000
STEP_S = 1e-3


class Spinner:
    """A step of exactly one millisecond of work."""

    def __init__(self) -> None:
        self.began_s: list[float] = []

    def __deepcopy__(self, memo):
        return self

    def init(self, params):
        return {"count": 0}

    def step(self, objective, params, state):
        began_s = time.perf_counter()
        self.began_s.append(began_s)
        while time.perf_counter() - began_s < STEP_S:
            pass
        return Step(params, {"count": state["count"] + 1}, 1.0, [GRADIENT])


GRADIENT = np.full(150, 0.1)


def seconds_of_a_step() -> float:
    """One step in a job, with 150 parameters, all metrics and the default policy; the median, as other programs run too."""
    folder = Store().create(JobSpec(id=new_id(), name="made", function="f", created=0.0), lambda _: "")[0]
    with activate(JobContext(folder, folder.spec(), 1), whole_process=False):
        spinner = Spinner()
        train(lambda p: p.sum(), np.zeros(150), optimizer=spinner, steps=STEPS, compile=False)
    return statistics.median(np.diff(spinner.began_s))


def test_logging_progress_and_checkpoints_cost_under_five_per_cent_of_a_step_of_a_millisecond(report):
    ratios = sorted(seconds_of_a_step() / STEP_S - 1 for _ in range(5))
    report("overhead of a step of 1 ms, best of 5", 100 * ratios[0], "%")
    report("overhead of a step of 1 ms, median of 5", 100 * ratios[2], "%")
    assert ratios[0] < 0.05  # the best: what else runs on the machine makes it no faster
