"""The write in flight, and checkpoints of other programs."""

from __future__ import annotations

import contextlib
import datetime
import errno
import threading
import types

import numpy as np
import optax
import pennylane as qml
import pytest

from pl_hybridjobs import hybrid_job, train, training_loop
from pl_hybridjobs.errors import CheckpointError, InvalidCall, StoreError
from pl_hybridjobs.jobs import checkpoint, durable
from pl_hybridjobs.jobs.context import JobContext, activate
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, new_id
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.training.saving import Saver

START = np.array([0.1, 0.2])


@pytest.fixture
def folder() -> JobFolder:
    """A whole job that nobody runs."""
    return Store().create(JobSpec(id=new_id(), name="made", function="f", created=0.0), lambda _: "")[0]


def attempt(folder, number=1):
    return activate(JobContext(folder, folder.spec(), number), whole_process=False)


def square(params):
    return (params**2).sum()


def go(params=START, optimizer=None, steps=4, **more):
    return train(
        square, params, optimizer=optimizer or qml.AdamOptimizer(0.1), steps=steps, progress=False, **{"checkpoint_every": 1, **more}
    )


class Gate:
    """A context whose saves wait to be let through."""

    def __init__(self) -> None:
        self.stop = types.SimpleNamespace(requested="")
        self.is_limited = False
        self.metrics = None
        self.open = threading.Event()
        self.running = 0
        self.most = 0
        self.saved: list[int] = []

    def save(self, state, step, **_):
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.open.wait(10)
        self.saved.append(step)
        self.running -= 1


def test_at_most_one_write_is_in_flight_and_the_loop_does_not_wait_for_it():
    gate = Gate()
    saver = Saver(gate, "train", datetime.timedelta(0))  # type: ignore[arg-type]
    for step in range(1, 50):
        saver.boundary(step, dict)
    assert gate.saved == []
    gate.open.set()
    saver.save(50, dict)
    assert gate.most == 1
    assert gate.saved == [1, 50]


def test_a_write_that_is_due_by_steps_waits_for_the_one_before():
    gate = Gate()
    gate.open.set()
    saver = Saver(gate, "train", 2)  # type: ignore[arg-type]
    for step in range(1, 8):
        saver.boundary(step, dict)
    saver.settle()
    assert gate.most == 1
    assert gate.saved == [2, 4, 6]


@pytest.fixture
def disk(monkeypatch):
    """``disk.full = True`` fills it."""
    disk = types.SimpleNamespace(full=False)
    really = durable.fsync_paths

    def fsync_paths(paths):
        if disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(paths)

    monkeypatch.setattr(checkpoint, "fsync_paths", fsync_paths)
    return disk


def test_a_failing_write_surfaces_at_the_next_boundary_and_earlier_checkpoints_stay(folder, disk):
    seen = []

    def metrics(params):
        seen.append(params)
        disk.full = len(seen) >= 4
        return {}

    with attempt(folder), pytest.raises(StoreError, match="disk is full"):
        go(steps=50, metrics=metrics)
    assert len(seen) in (4, 5)
    disk.full = False
    with attempt(folder, 2) as context:
        assert context.load(section="train").state["step"] in (2, 3)
        run = go(steps=50)
    np.testing.assert_array_equal(run.params, go(steps=50).params)


def test_a_last_write_that_fails_is_an_error(folder, disk):
    disk.full = True
    with attempt(folder), pytest.raises(StoreError, match="disk is full"):
        go(steps=3, checkpoint_every=None)
    with attempt(folder), pytest.raises(StoreError, match="disk is full"):
        list(training_loop(3, {}, checkpoint_every=None, progress=False))


def test_the_loops_own_error_is_not_hidden_by_that_of_a_write(folder, disk):
    def metrics(params):
        if seen:
            raise KeyError("mine")
        seen.append(params)
        return {}

    seen: list = []
    disk.full = True
    with attempt(folder), pytest.raises(KeyError, match="mine") as caught:
        go(steps=20, metrics=metrics)
    assert "disk is full" in caught.value.__notes__[0]


def test_a_write_that_fails_before_a_break_is_told(folder, disk, capsys):
    disk.full = True
    with attempt(folder):
        for step in training_loop(9, {}, checkpoint_every=1):
            if step == 1:
                break
    assert "disk is full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params": np.zeros(3)}, r"params was float64\[2\] and is float64\[3\]"),
        ({"params": START.astype(np.float32)}, r"params was float64\[2\] and is float32\[2\]"),
        ({"params": {"a": START}}, r"params\['a'\]: float64\[2\] is new\n  - params: float64\[2\] is gone"),
        ({"optimizer": qml.GradientDescentOptimizer(0.1)}, "the optimizer was AdamOptimizer and is GradientDescentOptimizer"),
        ({"value_name": "energy"}, "value_name was 'cost' and is 'energy'"),
    ],
)
def test_a_checkpoint_of_another_program_is_refused_leaf_by_leaf(folder, change, words):
    with attempt(folder):
        go()
    fn = (lambda p: (p["a"] ** 2).sum()) if isinstance(change.get("params"), dict) else square
    call = {"params": START, "optimizer": qml.AdamOptimizer(0.1), "steps": 9, **change}
    with attempt(folder, 2), pytest.raises(CheckpointError, match=words):
        train(fn, call.pop("params"), progress=False, **call)


def test_another_optax_transformation_is_refused_leaf_by_leaf(folder):
    with attempt(folder):
        go(optimizer=optax.adam(0.1))
    with attempt(folder, 2), pytest.raises(CheckpointError, match=r"state.*\.mu: .* is gone"):
        go(optimizer=optax.sgd(0.1), steps=9)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"x": np.zeros(3), "n": 0}, r"state\['x'\] was float64\[2\] and is float64\[3\]"),
        ({"x": np.zeros(2), "n": 0, "y": 1.0}, r"state\['y'\]: float is new"),
        ({"x": np.zeros(2)}, r"state\['n'\]: int is gone"),
        ({"x": qml.AdamOptimizer(), "n": 0}, r"state\['x'\] was float64\[2\] and is AdamOptimizer"),
    ],
)
def test_a_loop_that_begins_with_another_state_is_refused_leaf_by_leaf(folder, state, words):
    def loop(state):
        for _ in training_loop(3, state, progress=False):
            state["x"] = np.append(state["x"], 1.0)  # may grow
            state["more"] = 1

    with attempt(folder):
        loop({"x": np.zeros(2), "n": 0})
    with attempt(folder, 2):
        again: dict = {"x": np.zeros(2), "n": 0}
        loop(again)
        assert again["x"].shape == (5,)
    with attempt(folder, 3), pytest.raises(CheckpointError, match=words):
        loop(state)


def test_more_steps_go_on_and_fewer_make_none(folder):
    with attempt(folder):
        go(steps=4)
    with attempt(folder, 2):
        more = go(steps=9)
    np.testing.assert_array_equal(more.params, go(steps=9).params)
    with attempt(folder, 3):
        fewer = go(steps=2)
    assert fewer.steps == 9
    np.testing.assert_array_equal(fewer.params, more.params)


def test_other_random_generators_are_refused(folder):
    def loop(count):
        state = {"x": 0.0}
        generators = [np.random.default_rng(i) for i in range(count)]
        for _ in training_loop(3, state, progress=False):
            state["x"] += sum(g.random() for g in generators)

    with attempt(folder):
        loop(1)
    with attempt(folder, 2), pytest.raises(CheckpointError, match="1 generators, and the program uses 2"):
        loop(2)


def test_a_name_that_counting_would_give_is_not_given_twice(folder):
    with attempt(folder) as context:
        go(name="train-2")
        go()
        go()
        assert context.loops == ["train-2", "train", "train-3"]
        with pytest.raises(InvalidCall, match="that name"):
            go(name="train-3")


def test_what_is_logged_after_an_inner_loop_carries_the_outer_step(folder):
    from pl_hybridjobs import log_metric

    with attempt(folder) as context:
        for _ in training_loop(3, {}, progress=False):
            go(steps=2)
            log_metric("outer", 1.0)
        log_metric("after", 1.0)
        context.close()
    from pl_hybridjobs.jobs.metrics import read_metrics

    table = read_metrics(folder.metrics)
    assert list(table.steps("outer")) == [0, 1, 2]
    assert list(table.steps("after")) == [0]


def test_a_body_that_raises_leaves_the_newest_checkpoint(folder):
    def loop(fails):
        state = {"n": 0}
        for step in training_loop(6, state, checkpoint_every=1, progress=False):
            if fails and step == 4:
                raise ValueError("mine")
            state["n"] += 1
        return state["n"]

    with attempt(folder), pytest.raises(ValueError, match="mine"):
        loop(fails=True)
    with attempt(folder, 2) as context:
        assert context.load(section="loop").state["step"] == 4
        assert loop(fails=False) == 6


def test_outside_a_job_a_loop_writes_nothing(tmp_path):
    with contextlib.chdir(tmp_path):
        assert list(training_loop(3, types.SimpleNamespace(x=0), progress=False)) == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_scipy_goes_on_from_the_best_point_and_says_so(folder, capsys):
    def rosenbrock(x):
        return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    def run(number, steps):
        with attempt(folder, number):
            return train(rosenbrock, np.array([-1.2, 1.0]), optimizer="Nelder-Mead", steps=steps, checkpoint_every=1)

    first, second = run(1, 20), run(2, 60)
    assert "begins anew at the best point" in capsys.readouterr().out
    assert second.best.value < first.best.value
    assert second.history["cost"][19] == first.history["cost"][19]


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_the_metrics_of_fast_steps_are_there_when_the_function_raises(runner):
    @hybrid_job(runner=runner)
    def work():
        seen = []

        def count(_):
            seen.append(0)
            if len(seen) == 8:
                raise ArithmeticError("enough")
            return {}

        train(lambda x: (x**2).sum(), START, optimizer=qml.GradientDescentOptimizer(), steps=50, metrics=count)

    job = work()
    job.wait(60)
    assert "enough" in str(job.exception())
    assert list(job.metrics().steps("cost")) == list(range(7))
