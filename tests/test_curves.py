"""Thinned curves draw the same picture; smoothing is the textbook's."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs.curves import smooth, spark, thin


def _picture(x, y, low, high, columns):
    """What a column of pixels shows of the points in it: its first, lowest, highest and last value."""
    shown: dict[int, tuple[float, ...]] = {}
    edges = np.linspace(low, high, columns + 1)[:-1].tolist()
    for place, value in zip(x.tolist(), y.tolist(), strict=True):
        if low <= place <= high:
            column = bisect.bisect_right(edges, place)
            first, least, most, _ = shown.get(column, (value, value, value, value))
            shown[column] = (first, min(least, value), max(most, value), value)
    return shown


@settings(max_examples=40)
@given(st.integers(300, 1500), st.integers(10, 60), st.integers(0, 2**32 - 1), st.floats(0, 0.45), st.floats(0.55, 1))
def test_thinned_points_draw_the_same_picture(count, columns, seed, begin, end):
    random = np.random.default_rng(seed)
    x = np.cumsum(random.integers(1, 5, count))
    y = np.cumsum(random.normal(size=count))
    low, high = float(x[0] + begin * (x[-1] - x[0])), float(x[0] + end * (x[-1] - x[0]))

    at = thin(x, y, low, high, columns)

    assert _picture(x[at], y[at], low, high, columns) == _picture(x, y, low, high, columns)
    assert len(at) <= 5 * columns + 7
    assert np.all(np.diff(at) > 0)


def test_a_single_spike_among_a_million_points_is_kept():
    y = np.zeros(1_000_000)
    y[123_456], y[654_321] = 1e9, -1e9

    at = thin(np.arange(1_000_000), y, 0, 999_999, 800)

    assert len(at) < 4000
    assert {123_456, 654_321, 0, 999_999} <= set(at.tolist())


def test_a_value_that_is_no_number_is_never_hidden():
    y = np.sin(np.arange(10_000.0))
    y[7000], y[7001] = math.nan, math.inf

    assert 7000 in thin(np.arange(10_000), y, 0, 9999, 50)
    assert len(thin(np.arange(10_000), np.full(10_000, math.nan), 0, 9999, 50)) < 300


def test_a_line_that_leaves_the_window_has_a_point_on_each_side():
    x = np.array([0, 10, 20, 30])

    assert thin(x, x * 1.0, 12, 18, 100).tolist() == [1, 2]
    assert thin(x, x * 1.0, 10, 20, 100).tolist() == [0, 1, 2, 3]


def test_few_points_are_all_kept():
    assert thin(np.arange(7), np.arange(7.0), 0, 6, 100).tolist() == list(range(7))


def test_smoothing_is_the_average_with_exponential_weights():
    y = np.array([3.0, -1.0, 4.0, math.nan, 1.0, -5.0])
    finite = y[np.isfinite(y)]
    expected = []
    for n in range(len(finite)):
        weights = 0.8 ** np.arange(n, -1, -1)
        expected.append(np.sum(weights * finite[: n + 1]) / np.sum(weights))

    got = smooth(y, 0.8)

    assert got[np.isfinite(y)] == pytest.approx(expected, rel=1e-12)
    assert math.isnan(got[3])
    assert np.array_equal(smooth(y, 0.0), y, equal_nan=True)


@pytest.mark.parametrize("weight", [0.01, 0.5, 0.97, 0.999])
def test_smoothing_a_long_curve_is_the_plain_recursion(weight):
    y = np.random.default_rng(3).normal(size=20_000) + 100
    expected, mean = [], 0.0
    for n, value in enumerate(y.tolist(), 1):
        mean = weight * mean + (1 - weight) * value
        expected.append(mean / (1 - weight**n))

    assert np.max(np.abs(smooth(y, weight) / expected - 1)) < 1e-11


def test_a_spark_fits_its_picture():
    points = spark(np.array([1.0, math.nan, 3.0, 2.0, 1.7e308, -1.7e308]))

    assert points[0] == 0
    assert points[-2:] == [100, 23]
    assert all(0 <= x <= 100 for x in points[::2])
    assert all(0 <= y <= 24 for y in points[1::2])
    assert spark(np.array([2.0])) == [0, 12]
    assert spark(np.array([math.nan])) == []
