"""A sweep as a table and as a picture, and its best job."""

from __future__ import annotations

import builtins
import math
import re
import threading

import pytest

from pl_hybridjobs import Job, Status, Sweep, plain
from pl_hybridjobs.errors import FolderCorrupt, InvalidCall, RunnerError
from pl_hybridjobs.jobs.lanes import Lanes
from pl_hybridjobs.jobs.spec import SweepPlace
from tests.dashboard.folders import make


def sweep_of(home, jobs) -> Sweep:
    """A sweep as it is left on disk: each job's arguments, metrics, and how it ended."""
    made = [
        make(home, f"scan-{i}", params=params, metrics=metrics, ended=ended, sweep=SweepPlace("s", i))
        for i, (params, metrics, ended) in enumerate(jobs)
    ]
    Lanes(home, "s", tuple(folder.path.name for folder in made), 2).write()
    return Sweep(home, "s")


@pytest.fixture
def scan(jobs_home) -> Sweep:
    return sweep_of(
        jobs_home,
        [
            ({"lr": 0.01, "steps": 3}, {"cost": [3.0, 2.0, 1.5]}, "completed"),
            ({"lr": 0.1, "steps": 3}, {"cost": [3.0, 0.1, 0.5], "extra": [1.0]}, "completed"),
            ({"lr": 1.0, "steps": 3}, {"cost": [3.0, -9.0, -9.0]}, "failed"),
            ({"lr": 2.0, "steps": 3}, {"cost": [3.0, math.nan]}, "completed"),
        ],
    )


def test_rows_hold_arguments_last_and_extreme_values_and_duration(scan):
    rows = scan.table().rows

    assert [row.status for row in rows] == [Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.COMPLETED]
    assert rows[1].metrics["cost"] == (0.5, 0.1, 3.0, 3)
    assert (math.isnan(rows[3].metrics["cost"].last), rows[3].metrics["cost"].max) == (True, 3.0)
    assert all(row.duration_s is not None and 0 <= row.duration_s < 60 for row in rows)
    assert [row.id for row in rows] == [job.id for job in scan]


def test_the_printed_table_shows_what_differs(scan):
    first, same, head, *lines = str(scan.table("cost", at="min")).splitlines()

    assert first == "Sweep s of 4 jobs: 3 completed, 1 failed"
    assert same == "The same in all: steps=3"
    assert head.split() == ["#", "name", "status", "lr", "cost", "min", "time"]
    assert [line.split()[:5] for line in lines][1:3] == [["1", "scan-1", "completed", "0.1", "0.1"], ["2", "scan-2", "failed", "1", "-9"]]
    assert scan._repr_html_().count("<tr>") == 5


def test_eighty_columns_are_kept_and_what_had_no_room_is_named(jobs_home):
    names = [f"metric_number_{i}" for i in range(9)]
    wide = sweep_of(
        jobs_home, [({"kind": "<b>" * 20, "lr": lr}, {name: [lr] for name in [*names, "step_time_s"]}, "completed") for lr in (1, 2)]
    )

    lines = str(wide.table()).splitlines()

    assert max(map(len, lines[:-1])) <= 80
    assert "metric_number_0" in lines[2]
    assert "metric_number_8" in lines[-1]
    assert lines[-1].startswith("(no room for ")
    assert "<b><b>" not in wide._repr_html_()
    assert "<b>" not in wide.table()._repr_html_()


def test_a_data_frame_has_a_column_for_everything(scan):
    frame = scan.table().to_pandas()

    assert frame.loc[1, ["params.lr", "metrics.cost", "metrics.cost.min", "metrics.cost.max", "cost_usd"]].tolist() == [
        0.1,
        0.5,
        0.1,
        3.0,
        0.0,
    ]
    assert frame["metrics.extra"].isna().tolist() == [True, False, True, True]
    assert frame[frame.status == "completed"].sort_values("metrics.cost")["params.lr"].iloc[0] == 0.1


def test_any_text_keeps_to_its_column(jobs_home, tmp_path):
    texts = ["日本語", "a", "\x1b[31mred\nline", "$x^$", "<b>"]
    sweep = sweep_of(jobs_home, [({"text": text}, {"a$b": [1.0, 2.0]}, "completed") for text in texts])

    _, head, *lines = str(sweep.table()).splitlines()

    assert [line.split()[3] for line in lines] == ["日本語", "a", "red", "$x^$", "<b>"]
    assert {plain.columns(line) for line in lines} == {plain.columns(head)}


@pytest.mark.parametrize("x", [None, "text"])
def test_no_text_becomes_a_formula(jobs_home, tmp_path, x):
    sweep = sweep_of(jobs_home, [({"text": text}, {"$x^$": [1.0, 2.0]}, "completed") for text in ("$\\bad$", "\x1b[31mred\nline")])

    sweep.plot("$x^$", x, tmp_path / "texts.svg")

    assert {"$x^$", "red line" if x else "text=red line"} <= set(re.findall("<!-- (.*) -->", (tmp_path / "texts.svg").read_text()))


def test_cancel_ends_all_that_run_at_once_and_a_damaged_job_saves_none(jobs_home, monkeypatch):
    sweep = sweep_of(jobs_home, [({}, {}, None)] * 4)
    (sweep[1].folder / "outcome.json").write_text("{")
    together, cancelled = threading.Barrier(3, timeout=20), []

    def cancel(job, grace_s):
        job.state()  # raises for the one that is damaged
        together.wait()  # breaks if one has to end before the next is asked to
        cancelled.append((job.name, grace_s))

    monkeypatch.setattr(Job, "cancel", cancel)

    with pytest.raises(FolderCorrupt, match=r"outcome\.json is damaged"):
        sweep.cancel(3.0)
    assert sorted(cancelled) == [("scan-0", 3.0), ("scan-2", 3.0), ("scan-3", 3.0)]


def test_a_damaged_job_does_not_hide_the_others(scan):
    (scan[0].folder / "job.json").write_text("{")

    table = scan.table()

    assert [row.status for row in table.rows][:2] == [Status.UNKNOWN, Status.COMPLETED]


@pytest.mark.parametrize(("mode", "at", "place"), [("min", "last", 1), ("max", "last", 0), ("min", "min", 1), ("max", "max", 0)])
def test_the_best_job_is_neither_failed_nor_nan(scan, mode, at, place):
    assert scan.best("cost", mode, at) == scan[place]


def test_the_best_step_may_count_in_place_of_the_last(jobs_home):
    sweep = sweep_of(jobs_home, [({}, {"cost": [0.5, 0.6]}, "completed"), ({}, {"cost": [0.1, 0.9]}, "completed")])

    assert [sweep.best("cost", at=at).name for at in ("last", "min")] == ["scan-0", "scan-1"]


def test_no_infinity_is_best(jobs_home):
    sweep = sweep_of(jobs_home, [({}, {"cost": [-1.0, last]}, "completed") for last in (math.inf, 0.5, -math.inf, math.nan)])

    found = [sweep.best("cost", mode, at) for mode in ("min", "max") for at in ("last", "max")]

    assert found == [sweep[1], sweep[0], sweep[1], sweep[1]]  # without what is not finite the largest values are -1, 0.5, -1 and -1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda scan: scan.best("cots"), "Did you mean 'cost'"),
        (lambda scan: scan.best("cost", "lowest", at="first"), "2 problems"),
        (lambda scan: scan.plot("cost", x="rl"), "no job has an argument 'rl'"),
        (lambda scan: scan.plot("cots"), "Did you mean 'cost'"),
        (lambda scan: scan.plot("cost", at="best"), "at must be one of"),
        (lambda scan: scan.table(at="best"), "at must be one of last, min, max"),
        (lambda scan: scan.best("cost", at="best"), "at must be one of last, min, max"),
        (lambda scan: scan.best("COST"), "Did you mean 'cost'"),
        (lambda scan: scan.plot("cost", path="cost"), "must end in .png"),
        (lambda scan: scan.plot("cost", "cost.png"), "A file is path='cost.png'"),
        (lambda scan: scan[0].plot("cost"), "must end in .png"),
        (lambda scan: scan[0].plot(None, "cots"), "Did you mean 'cost'"),
        (lambda scan: scan.table("cots"), "Did you mean 'cost'"),
    ],
)
def test_a_misspelt_name_is_told_with_near_ones(scan, call, said):
    with pytest.raises(InvalidCall, match=said):
        call(scan)


def test_curves_are_drawn_over_each_other_and_values_over_an_argument(scan, tmp_path):
    curves = scan.plot("cost", path=tmp_path / "curves.svg").axes[0]
    values = scan.plot("cost", x="lr", at="min").axes[0]

    assert [line.get_label() for line in curves.lines] == ["lr=0.01", "lr=0.1", "lr=1", "lr=2"]
    assert curves.lines[1].get_ydata().tolist() == [3.0, 0.1, 0.5]
    assert (tmp_path / "curves.svg").read_text().lstrip().startswith("<?xml")
    (line,) = values.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.01, 0.1, 1.0, 2.0], [1.5, 0.1, -9.0, 3.0])
    assert (values.get_xscale(), values.get_xlabel()) == ("log", "lr")


def test_a_grid_of_two_arguments_is_a_line_for_each_value_of_the_other(jobs_home):
    sets = [({"lr": lr, "kind": kind}, {"cost": [lr]}, "completed") for kind in ("a", "b") for lr in (3, 1, 2)]

    by_lr = sweep_of(jobs_home, sets).plot("cost", x="lr").axes[0]
    by_kind = Sweep(jobs_home, "s").plot("cost", x="kind").axes[0]

    assert [(line.get_label(), list(line.get_xdata())) for line in by_lr.lines] == [("kind=a", [1, 2, 3]), ("kind=b", [1, 2, 3])]
    assert [label.get_text() for label in by_kind.get_xticklabels()] == ["a", "b"]


def test_without_matplotlib_the_error_says_what_to_install(scan, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RunnerError, match=r"pl-hybridjobs\[plot\]"):
        scan.plot("cost")
