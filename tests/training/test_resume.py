"""A resumed job ends in the same bits: parameters, history and metrics."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time

import pytest

from pl_hybridjobs import Status, hybrid_job
from pl_hybridjobs.errors import JobInterrupted
from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.durable import read_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from tests.training import programs
from tests.training.resuming import bits, interrupted, killed, random_bombs, reference

pytest.importorskip("optax")
CELLS = list(itertools.product(programs.OPTIMIZERS, (None, 100), (False, True)))


def long(*values):
    return pytest.param(*values, marks=pytest.mark.torture_long)


def ids(value):
    return {None: "analytic", 100: "100 shots", True: "compiled", False: "not compiled"}.get(value, str(value))


# Each optimizer once, as users run it without a word of their own: compiled where it is analytic; the rest belongs to the long round.
_SHOTS = dict(zip(programs.OPTIMIZERS, itertools.cycle((None, 100)), strict=False))
USUAL = [cell if cell[1] is _SHOTS[cell[0]] and cell[2] is (cell[1] is None) else long(*cell) for cell in CELLS]


@pytest.mark.parametrize(("optimizer", "shots", "compiled"), USUAL, ids=ids)
def test_interrupted_at_random_instants_it_ends_in_the_same_bits(optimizer, shots, compiled, monkeypatch, request):
    if optimizer == "torch":
        request.getfixturevalue("torch")
    rng = random.Random(f"{optimizer} {shots} {compiled}")
    args = (optimizer, shots, compiled, 6, 2)
    expected = bits(reference(programs.work, args, monkeypatch))
    job = interrupted(programs.work, args, random_bombs(rng, 6, count=1 if compiled else 2), monkeypatch)
    assert bits(job) == expected


@pytest.mark.parametrize(
    ("optimizer", "shots", "compiled"),
    [long("adam", None, True), long("spsa", 100, False), ("optax", 100, True), long("loop", 100, False)],
    ids=ids,
)
def test_really_killed_it_ends_in_the_same_bits(optimizer, shots, compiled, monkeypatch):
    args = (optimizer, shots, compiled, 25, 3)
    expected = bits(reference(programs.work, args, monkeypatch))
    job, kills = killed(programs.work, args, random.Random(f"{optimizer} {shots}"), 1, 1.5)
    assert kills >= 1
    assert bits(job) == expected


@pytest.mark.torture_long
@pytest.mark.timeout(7200)
def test_every_cell_killed_at_twenty_random_instants(monkeypatch):
    rows, wrong = [], []
    cells = CELLS[:: int(os.environ.get("EVERY_NTH_CELL", "1"))]
    for optimizer, shots, compiled in cells:
        args = (optimizer, shots, compiled, 60, 2)
        expected = bits(reference(programs.work, args, monkeypatch))
        rng, kills, jobs = random.Random(f"long {optimizer} {shots} {compiled}"), 0, 0
        while kills < 20:
            job, done = killed(programs.work, args, rng, 20 - kills, 4.0)
            same = bits(job) == expected
            kills, jobs = kills + done, jobs + 1
            if not same:
                wrong.append(args)
        rows.append(
            f"{optimizer:<6} {ids(shots):<10} {ids(compiled):<13} {kills:>3} kills, {jobs} jobs, {'same' if args not in wrong else 'OTHER'} bits"
        )
        print(rows[-1], flush=True)
    assert not wrong


@pytest.mark.parametrize("compiled", ["draws", "fails"])
def test_a_trace_that_is_given_up_draws_nothing(compiled, monkeypatch):
    expected = bits(reference(programs.draws_in_python, (compiled,), monkeypatch))
    assert bits(interrupted(programs.draws_in_python, (compiled,), ["3", "4:stop"], monkeypatch)) == expected


@pytest.mark.parametrize("bombs", [["6"], *map(long, (["3"], ["5"], ["9:stop"]))], ids=str)
def test_what_is_compiled_no_more_stays_so_after_a_resume(bombs, monkeypatch):
    expected = bits(reference(programs.with_notes, (), monkeypatch))
    assert bits(interrupted(programs.with_notes, (), bombs, monkeypatch)) == expected


def test_resumed_with_fewer_steps_than_were_made_it_ends_where_it_was(monkeypatch):
    job = interrupted(programs.with_fewer_steps, (9, 2), ["6"], monkeypatch)
    assert job.result() == {"steps": 5, "stopped_by": "steps"}


# Several loops ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bombs", [["21", "6:stop", "4"], *map(long, (["3"], ["9"], ["11:stop", "3"], ["10"], ["14", "4"], ["20:stop"]))], ids=str
)
def test_of_several_loops_each_finds_its_own_checkpoint(bombs, monkeypatch):
    job = reference(programs.two_and_a_body, (), monkeypatch)
    assert set(job.metrics().names) >= {"cost", "polish/cost", "train-2/cost", "body", "between"}
    assert list(job.metrics().steps("between")) == [0, 1, 2, 3, 4]
    assert bits(interrupted(programs.two_and_a_body, (), bombs, monkeypatch)) == bits(job)


@pytest.mark.parametrize(
    ("name", "bombs"),
    [(None, ["20", "5:stop"]), long("inner", ["29:stop"]), long(None, ["15", "16:stop"]), long("inner", ["30", "8"])],
    ids=str,
)
def test_a_loop_inside_a_loop_keeps_its_name(name, bombs, monkeypatch):
    job = reference(programs.layers, (name,), monkeypatch)
    inner = {"train", "train-2"} if name is None else {"inner-0", "inner-1"}
    assert {f"loop/{layer}/{i}/cost" for layer in range(3) for i in inner} <= set(job.metrics().names)
    assert list(job.metrics().steps("layer_value")) == [0, 1, 2]
    assert bits(interrupted(programs.layers, (name,), bombs, monkeypatch)) == bits(job)


def test_a_loop_that_was_left_by_break_is_repeated(monkeypatch):
    expected = bits(reference(programs.broken_off, (), monkeypatch))
    assert bits(interrupted(programs.broken_off, (), ["7", "8:stop"], monkeypatch)) == expected


def test_beside_checkpoints_of_ones_own_loops_are_told_apart_by_their_names(monkeypatch):
    expected = bits(reference(programs.own_checkpoints_around, ("round",), monkeypatch))
    assert bits(interrupted(programs.own_checkpoints_around, ("round",), ["7", "4:stop"], monkeypatch)) == expected


def test_beside_checkpoints_of_ones_own_a_loop_without_a_name_is_refused_at_once(monkeypatch):
    job = reference(programs.own_checkpoints_around, (None,), monkeypatch)
    assert job.status is Status.FAILED
    assert "give each loop a name=" in str(job.exception())


# Data and bodies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "bombs"),
    [
        (programs.batches_of_arrays, ("tuple",), ["4", "6:stop"]),
        long(programs.batches_of_arrays, ("dict",), ["7"]),
        (programs.body, ("namespace",), ["4", "6:stop"]),
        (programs.body, ("dataclass",), ["6"]),
        (programs.body, ("lightning",), ["4", "3:stop"]),
        (programs.cell, (), ["4", "2:stop"]),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_data_generators_and_states_of_all_kinds(fn, args, bombs, monkeypatch):
    expected = bits(reference(fn, args, monkeypatch))
    assert bits(interrupted(fn, args, bombs, monkeypatch)) == expected


@pytest.mark.parametrize(
    ("fn", "args", "bombs"),
    [
        (programs.loader_in_train, (), ["8", "6:stop"]),
        (programs.loader_in_train, (), ["14"]),
        (programs.torch_by_hand, ("batches",), ["6", "4:stop"]),
        (programs.torch_by_hand, ("epochs",), ["8", "7:stop"]),
        (programs.aliases, (), ["6", "7:stop"]),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_data_and_bodies_of_torch(fn, args, bombs, monkeypatch, torch):
    expected = bits(reference(fn, args, monkeypatch))
    assert bits(interrupted(fn, args, bombs, monkeypatch)) == expected


# Signals ---------------------------------------------------------------------------------------------------------------------


def until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def exit_code(job):
    return read_sealed(JobFolder(job.folder).attempt(1).exit)["code"]


def worker_of(job):
    lease = job.state().lease
    return process.descendants(lease.owner.pid)[-1]


@pytest.mark.parametrize("number", [signal.SIGUSR1, long(signal.SIGTERM)])
def test_a_signal_stops_it_at_a_boundary_and_it_goes_on(number, monkeypatch):
    args = (25, 0.02, None)
    expected = bits(reference(programs.slow, args, monkeypatch))
    job = hybrid_job(programs.slow)(*args)
    until(lambda: "cost" in job.metrics() and len(job.metrics()["cost"]) > 3)
    os.kill(worker_of(job), number)
    with pytest.raises(JobInterrupted, match="asked to"):
        job.result(30)
    assert exit_code(job) == 75
    (saved,) = job.checkpoints()  # the policy saves nothing: this is the signal's
    assert saved.step >= 4
    assert bits(job.resume()) == expected


@pytest.mark.torture_long
def test_retries_go_on_after_a_signal(monkeypatch):
    args = (25, 0.02, None)
    expected = bits(reference(programs.slow, args, monkeypatch))
    job = hybrid_job(programs.slow, retries=1)(*args)
    until(lambda: "cost" in job.metrics() and len(job.metrics()["cost"]) > 3)
    os.kill(worker_of(job), signal.SIGTERM)
    assert bits(job) == expected
    assert job.attempt == 2


@pytest.mark.torture_long
def test_a_second_signal_leaves_at_once_with_the_earlier_checkpoint(monkeypatch):
    job = hybrid_job(programs.slow)(6, 4.0, 1)
    until(job.checkpoints)
    worker = worker_of(job)
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.2)
    began = time.monotonic()
    os.kill(worker, signal.SIGTERM)
    with pytest.raises(JobInterrupted):
        job.result(30)
    assert time.monotonic() - began < 2.0  # a step takes 4 s
    assert exit_code(job) == 75
    assert all(checkpoint.good for checkpoint in job.checkpoints())


@pytest.mark.torture_long
def test_a_stop_between_two_loops_is_obeyed_there(monkeypatch):
    job = hybrid_job(programs.two_slow)()
    with pytest.raises(JobInterrupted):
        job.result(30)
    assert [c.section for c in job.checkpoints()][-1] == "train"
    first, second = job.resume().result(30)
    assert (len(first["history"]["cost"]), len(second["history"]["cost"])) == (3, 4)


def test_cancel_saves_and_ends(monkeypatch):
    job = hybrid_job(programs.slow)(400, 0.02, None)
    until(lambda: "cost" in job.metrics())
    assert job.cancel() is Status.CANCELLED
    assert job.checkpoints()[-1].step >= 1


@pytest.mark.torture_long  # what CI sees of it: tests/torture/test_rows.py, with a loop of the user's own
@pytest.mark.parametrize(
    "point", ["checkpoint.synced", "checkpoint.files", "checkpoint.manifest", "checkpoint.renamed", "checkpoint.pruned"]
)
def test_a_death_inside_the_write_costs_nothing_but_time(point, monkeypatch):
    args = ("spsa", 100, False, 8, 1)
    expected = bits(reference(programs.work, args, monkeypatch))
    monkeypatch.setenv("HYBRIDJOBS_CRASH_AT", point)
    job = hybrid_job(programs.work)(*args)
    with pytest.raises(JobInterrupted):
        job.result(60)
    monkeypatch.delenv("HYBRIDJOBS_CRASH_AT")
    assert bits(job.resume()) == expected
