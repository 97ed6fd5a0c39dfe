"""How far a job is, seen from outside."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs import current_job, hybrid_job, job_device, log_metric, open_job, train, training_loop

SEEN: list[Any] = []


@hybrid_job(runner="inline")
def looks_at_itself(steps):
    folder = current_job().folder
    assert folder is not None
    mine = open_job(folder.path)
    SEEN.append(mine.progress())
    for step in training_loop(steps, {}, progress=False):
        log_metric("loss", 0.0, step)
        current_job().settle()
        SEEN.append(mine.progress())


def test_progress_goes_from_nothing_to_all():
    SEEN.clear()
    looks_at_itself.inline(4)

    assert SEEN[0] is None
    assert [standing.done for standing in SEEN[1:]] == [1, 2, 3, 4]
    assert [standing.fraction for standing in SEEN[1:]] == [0.25, 0.5, 0.75, 1.0]
    assert SEEN[1].left_s == pytest.approx(3 * SEEN[1].step_s)
    assert SEEN[4].left_s == 0


@hybrid_job(device="hybridjobs.qubit", runner="inline")
def two_loops():
    device = job_device(wires=1)

    @qml.qnode(device)
    def energy(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    for name in ("first", "second"):
        train(energy, pnp.array(0.3), optimizer=qml.GradientDescentOptimizer(0.1), steps=3, name=name, value_name="energy", progress=False)


def test_of_several_loops_the_one_that_began_last_counts():
    standing = two_loops().progress()

    assert standing is not None
    assert (standing.loop, standing.metric, standing.done, standing.total) == ("second", "second/energy", 3, 3)


def test_a_torn_line_is_passed_over(tmp_path):
    job = two_loops()
    with (job.folder / "attempts/1/loops.jsonl").open("a") as file:
        file.write('{"name": "third", "met')

    standing = job.progress()
    assert standing is not None
    assert standing.loop == "second"
