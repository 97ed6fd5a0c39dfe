"""Curves as text."""

from __future__ import annotations

import itertools
import math

import pytest

from pl_hybridjobs.cli.charts import chart, curve


def heights(lines):
    """For each column of a chart without its axis, the lines that have a dot, counted from below."""
    rows = [line.partition("┤")[2] for line in lines[:-1]]
    return [[len(rows) - 1 - i for i, row in enumerate(rows) if c < len(row) and row[c] != " "] for c in range(max(map(len, rows)))]


def test_a_rising_line_rises_from_the_lower_left_to_the_upper_right():
    lines = chart(range(100), range(100), width=60, height=10)

    found = heights(lines)
    assert len(lines) == 10
    assert all(len(line) <= 60 for line in lines)
    assert (min(found[0]), max(found[-1])) == (0, 8)
    assert all(later[0] >= earlier[0] for earlier, later in itertools.pairwise(found) if earlier and later)
    assert lines[0].startswith("99┤".rjust(4))
    assert lines[-1].split() == ["step", "0", "99"]


def test_a_peak_is_seen_however_many_points_there_are():
    values = [0.0] * 100_000
    values[50_000] = 1.0

    top = chart(range(100_000), values, width=80, height=8)[0]
    assert len(top.partition("┤")[2].strip()) == 1


def test_few_points_are_joined():
    assert all(heights(chart([0, 10], [0.0, 1.0], width=40, height=6)))


@pytest.mark.parametrize(
    ("values", "log", "said"),
    [([], False, "nothing to draw"), ([math.nan], False, "no value that can be drawn"), ([-1.0, 0.0], True, "no value that can be drawn")],
)
def test_what_cannot_be_drawn_says_so(values, log, said):
    assert chart(range(len(values)), values, width=40, height=6, log=log) == [said]


def test_a_constant_is_a_line_and_a_logarithm_bends():
    assert {tuple(column) for column in heights(chart(range(9), [2.0] * 9, width=40, height=7))} == {(3,)}
    decay = [math.exp(-i) for i in range(20)]
    straight = heights(chart(range(20), decay, width=40, height=12, log=True))
    middle = straight[len(straight) // 2]
    assert 4 <= middle[0] <= 6


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([-1.7e308, 1.7e308], ["1.7e+308", "-1.7e+308"]),
        ([5e-324, 0.0], ["4.94066e-324", "0"]),
        ([-1.1373060, -1.137305999], ["-1.137305999", "-1.137306"]),
        ([1.0, 1.0 + 2**-52], ["1.0000000000000002", "1"]),
        ([3.0, 3.0], ["3"]),
    ],
)
def test_numbers_of_any_size_are_told_apart(values, labels):
    lines = chart([0, 1], values, width=60, height=6)

    assert [label for line in lines[:-1] if (label := line.partition("┤")[0].strip())] == labels
    assert len(curve(values)) == 2


def test_a_curve_has_a_bar_for_each_of_a_few_values():
    assert curve([0.0, 0.5, 1.0]) == "▁▄█"
    assert curve([]) == ""
    assert len(curve([float(i) for i in range(1000)], width=16)) == 16
