"""Sets of arguments: all combinations, or drawn at random."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats

from pl_hybridjobs import grid, hybrid_job, loguniform, random_search, uniform
from pl_hybridjobs.errors import InvalidCall
from tests.jobs import functions


def test_a_grid_has_every_combination_and_the_last_name_varies_fastest():
    sets = grid(layers=range(1, 3), lr=[0.1, 0.3], kind=("a",))

    assert [tuple(s.items()) for s in sets] == [
        tuple(zip(("layers", "lr", "kind"), values, strict=True)) for values in itertools.product([1, 2], [0.1, 0.3], ["a"])
    ]
    assert grid() == [{}]


def test_arrays_give_pythons_own_numbers_and_rows_stay_arrays():
    (first, *_, last) = grid(lr=np.linspace(0, 1, 3))
    rows = grid(start=np.eye(2))

    assert (type(first["lr"]), last["lr"]) == (float, 1.0)
    assert isinstance(rows[0]["start"], np.ndarray)


def test_map_takes_a_grid_directly():
    assert hybrid_job(functions.add, runner="inline").map(grid(a=[1, 2], b=[10])).results() == [11, 12]


def test_the_same_seed_gives_the_same_sets_whatever_else_is_drawn():
    few = random_search(5, seed=7, lr=loguniform(1e-3, 1))
    many = random_search(50, seed=7, layers=range(1, 9), lr=loguniform(1e-3, 1))

    assert [s["lr"] for s in many[:5]] == [s["lr"] for s in few]
    assert [s["lr"] for s in random_search(5, seed=8, lr=loguniform(1e-3, 1))] != [s["lr"] for s in few]
    # written down, so that no later version draws other numbers
    assert few[0]["lr"] == pytest.approx(FIRST_LR, rel=1e-12)


FIRST_LR = 0.003761225697591721


@pytest.mark.parametrize(
    ("space", "reference"),
    [
        (uniform(-2, 3), scipy.stats.uniform(-2, 5)),
        (loguniform(1e-4, 10), scipy.stats.loguniform(1e-4, 10)),
        (scipy.stats.norm(1, 2), scipy.stats.norm(1, 2)),
    ],
)
def test_draws_follow_their_distribution(space, reference):
    drawn = [s["x"] for s in random_search(2000, seed=3, x=space)]

    assert all(type(value) is float for value in drawn)
    assert scipy.stats.kstest(drawn, reference.cdf).pvalue > 0.01


def test_values_of_a_list_are_equally_likely():
    counts = Counter(s["kind"] for s in random_search(3000, kind=["a", "b", "c"]))

    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.01
    assert random_search(2) == [{}, {}]


def wrong(value: Any) -> Any:
    """What no type checker would let pass."""
    return value


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: grid(lr=wrong(0.1)), r"lr must be a list.*lr=\[0\.1\]"),
        (lambda: grid(kind="adam"), r"kind=\['adam'\]"),
        (lambda: grid(lr=[], layers=wrong(3)), "2 problems"),
        (lambda: random_search(0, lr=[1]), "at least 1"),
        (lambda: random_search(3, seed=wrong([1, 2])), "an argument of your function"),
        (lambda: random_search(3, lr=wrong(0.1)), r"lr=\[0\.1\]"),
        (lambda: uniform(1, 1), "first below the second"),
        (lambda: loguniform(0, 1), "above 0"),
        (lambda: loguniform(1, math.inf), "above 0"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused_with_what_to_write(call, said):
    with pytest.raises(InvalidCall, match=said):
        call()


@pytest.mark.parametrize("space", [uniform(-1.7e308, 1.7e308), loguniform(1e-300, 1e300)], ids=repr)
def test_between_very_large_numbers_not_only_the_ends_are_drawn(space):
    drawn = [one["x"] for one in random_search(50, x=space)]

    assert len(set(drawn)) == 50
    assert any(space.low < x < 1e-9 * space.high for x in drawn)
