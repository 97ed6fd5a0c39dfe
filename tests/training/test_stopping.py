from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.training import stopping
from pl_hybridjobs.training.stopping import GradientNorm, Patience, Progress, Target, WallTime, as_rules, first_reason


def after(values, *, norms=None, shots=None, elapsed_s=0.0):
    """The progress of a run that had these values."""
    values = np.asarray(values, dtype=np.float64)
    norms = np.full(len(values), np.nan) if norms is None else np.asarray(norms, dtype=np.float64)
    norm = None if np.isnan(norms[-1]) else float(norms[-1])
    return Progress(len(values), float(values[-1]), norm, elapsed_s, shots, values, norms, params=None)


def stops_after(rule, values, shots=None):
    """How many steps a run with these values makes under a rule; None if it is never stopped."""
    for step in range(1, len(values) + 1):
        if rule(after(values[:step], shots=shots)):
            return step
    return None


# Target, gradient norm, wall time


@pytest.mark.parametrize(
    ("rule", "value", "stops"),
    [
        (Target(-1.0), -0.99, False),
        (Target(-1.0), -1.0, True),
        (Target(-1.0), -1.5, True),
        (Target(0.9, mode="max"), 0.8, False),
        (Target(0.9, mode="max"), 0.95, True),
        (Target(-1.0), float("nan"), False),
    ],
)
def test_a_target_stops_at_a_value_as_good_as_it(rule, value, stops):
    assert bool(rule(after([5.0, value]))) == stops


def test_a_reason_tells_the_rule_the_value_and_the_limit():
    assert Target(-1.0)(after([-1.25])) == "Target: the value -1.25 has reached -1"


def test_a_gradient_norm_must_stay_small_for_as_many_steps_as_asked():
    rule = GradientNorm(below=0.1, steps=3)

    assert not rule(after([0.0] * 2, norms=[0.01, 0.01]))
    assert not rule(after([0.0] * 4, norms=[0.01, 0.01, 0.1, 0.01]))
    assert rule(after([0.0] * 4, norms=[0.5, 0.01, 0.02, 0.05])) == "GradientNorm: 0.05, below 0.1 for 3 steps"


def test_a_run_without_gradients_is_not_stopped_by_their_norm():
    assert not GradientNorm(below=1e9)(after([0.0, 0.0]))


@pytest.mark.parametrize("limit", [90, 90.0, timedelta(minutes=1.5)])
def test_wall_time_counts_in_seconds_whatever_it_was_given_in(limit):
    rule = WallTime(limit)

    assert rule == WallTime(limit_s=90)
    assert not rule(after([0.0], elapsed_s=89.9))
    assert "the limit is 90 s" in str(rule(after([0.0], elapsed_s=90.0)))


# Patience without noise


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_plateau_without_noise_ends_exactly_so_many_steps_after_the_last_improvement(steps):
    descent = [1.0, 0.5, 0.25, 0.125]

    assert stops_after(Patience(steps), [*descent, *[0.125] * 20]) == len(descent) + steps


def test_a_worse_value_in_between_is_not_the_end_of_patience():
    assert stops_after(Patience(3), [1.0, 2.0, 2.0, 0.9, 2.0, 2.0, 0.8, 2.0, 2.0, 2.0]) == 10


def test_an_improvement_smaller_than_the_least_change_does_not_count():
    values = [1.0, 0.5, *(0.5 - 1e-4 * k for k in range(1, 9))]

    assert stops_after(Patience(5), values) is None
    assert stops_after(Patience(5, min_change=0.01), values) == 7


def test_patience_can_wait_for_higher_values():
    assert stops_after(Patience(3, mode="max"), [0.1, 0.2, 0.3, 0.2, 0.1, 0.0]) == 6
    assert stops_after(Patience(3, mode="max"), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) is None


def test_a_value_that_is_not_a_number_is_no_improvement_and_hides_none():
    assert stops_after(Patience(2), [1.0, np.nan, 0.5, np.nan, np.nan]) == 5


# Patience with noise


def test_the_margin_is_that_of_welchs_test_on_the_rest_around_each_trend():
    """Values that are already without trend: then only the degrees of freedom differ from the textbook's (m - 2 for m - 1)."""
    windows = np.random.default_rng(1).normal(size=(2, 12)) * [[1.0], [3.0]]
    time = np.arange(12) - 5.5
    windows -= np.outer((windows @ time) / (time @ time), time)

    variance = windows.var(axis=1) * 12 / 10
    freedom = variance.sum() ** 2 / (variance**2 / 10).sum()
    expected = stats.t.ppf(0.9, freedom) * np.sqrt(variance.sum() / 12)
    assert stopping._margin(windows, 0.9) == pytest.approx(expected, rel=1e-12)
    tilted = windows + time * [[0.7], [-0.2]] + 5
    assert stopping._margin(tilted, 0.9) == pytest.approx(expected, rel=1e-12)


def noisy(curve, sigma, seed):
    return np.asarray(curve) + np.random.default_rng(seed).normal(scale=sigma, size=len(curve))


def test_a_noisy_curve_that_still_descends_is_rarely_stopped():
    """The descent gains six standard errors of the difference of means in 20 steps, and is looked at 121 times."""
    descent = -np.arange(160) * 6 * np.sqrt(2 / 20) * 0.1 / 20

    stopped = [stops_after(Patience(20), noisy(descent, 0.1, seed), shots=100) for seed in range(200)]

    assert sum(stop is not None for stop in stopped) <= 4


def test_patience_that_knows_no_noise_would_stop_the_same_descent_often():
    """So the test above can fail."""
    descent = -np.arange(160) * 6 * np.sqrt(2 / 20) * 0.1 / 20

    stopped = [stops_after(Patience(20), noisy(descent, 0.1, seed)) for seed in range(50)]

    assert sum(stop is not None for stop in stopped) >= 10


def test_a_flat_noisy_curve_is_stopped_soon_after_two_windows():
    stopped = [stops_after(Patience(20), noisy(np.zeros(300), 0.1, seed), shots=100) for seed in range(200)]

    assert all(stop is not None and stop >= 40 for stop in stopped)
    assert np.mean([stop == 40 for stop in stopped if stop]) > 0.85
    assert max(stop for stop in stopped if stop) <= 80


def test_a_descent_that_flattens_is_stopped_within_about_two_windows_of_its_end():
    curve = np.concatenate([np.linspace(2.0, 0.0, 100), np.zeros(200)])

    stopped = [stops_after(Patience(20), noisy(curve, 0.05, seed), shots=100) for seed in range(50)]

    assert all(stop is not None and 110 <= stop <= 180 for stop in stopped)


def test_a_single_lucky_value_is_no_progress():
    values = noisy(np.zeros(40), 0.1, seed=3)
    values[30] = -5.0

    assert Patience(20)(after(values, shots=100))
    assert not Patience(20)(after(values)), "without noise it would be the best value so far"


def test_noise_free_values_of_a_run_with_shots_are_judged_by_their_means():
    assert not Patience(5)(after(np.linspace(1, 0, 10), shots=10))
    assert Patience(5)(after(np.ones(10), shots=10))


def test_the_least_change_comes_on_top_of_the_noise():
    values = noisy(np.repeat([1.0, 0.5], 20), 0.01, seed=0)

    assert not Patience(20, min_change=0.45)(after(values, shots=100))
    assert Patience(20, min_change=0.5)(after(values, shots=100))


def test_noise_that_has_other_reasons_than_shots_can_be_declared():
    values = noisy(np.zeros(40), 0.1, seed=3)
    values[-1] = -5.0

    assert not Patience(20)(after(values))
    assert Patience(20, noisy=True)(after(values))
    assert not Patience(20, noisy=False)(after(values, shots=100))


def test_a_patience_shorter_than_the_scatter_needs_takes_longer_windows():
    assert not Patience(1)(after([1.0] * 7, shots=10))
    assert Patience(1)(after([1.0] * 8, shots=10))


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_very_small_and_very_large_values_are_judged_like_others(size):
    flat, falling = (size * noisy(curve, 0.1, seed=0) for curve in (np.zeros(40), np.linspace(2, 0, 40)))

    assert Patience(20)(after(flat, shots=1))
    assert not Patience(20)(after(falling, shots=1))


# One rule, several, a user's own


def test_the_first_rule_that_fires_gives_the_reason():
    rules = as_rules([WallTime(10), Target(-1.0), lambda progress: "mine"])

    assert first_reason(rules, after([-2.0])).startswith("Target:")
    assert first_reason(rules, after([2.0])) == "mine"
    assert first_reason(rules[:2], after([2.0])) == ""


@pytest.mark.parametrize("said", [None, False, "", np.False_, np.array(False)])
def test_a_rule_that_says_no_goes_on(said):
    assert first_reason((lambda progress: said,), after([0.0])) == ""


@pytest.mark.parametrize("said", [True, np.True_, np.array(True)])
def test_a_rule_that_only_says_yes_lends_its_name(said):
    def low_enough(progress):
        return said

    assert first_reason((low_enough,), after([0.0])) == "low_enough"


def test_truth_values_of_jax_and_torch_count(torch):
    import jax.numpy as jnp

    assert first_reason((lambda _: jnp.asarray(2.0) > 1,), after([0.0])) == "<lambda>"
    assert first_reason((lambda _: torch.tensor(2.0) > 1,), after([0.0])) == "<lambda>"
    assert first_reason((lambda _: torch.tensor(2.0) > 3,), after([0.0])) == ""


@pytest.mark.parametrize("said", [0.3, 1, np.array([True, False]), {}])
def test_a_rule_that_says_something_else_is_told_so(said):
    def odd(progress: Progress) -> Any:
        return said

    with pytest.raises(InvalidCall, match=r"odd gave .* after step 0"):
        first_reason((odd,), after([0.0]))


def test_what_a_users_rule_raises_passes_through():
    def broken(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        first_reason((broken,), after([0.0]))


def test_one_rule_several_or_none_become_a_tuple():
    rule = Target(0.0)

    assert as_rules(None) == ()
    assert as_rules(rule) == (rule,)
    assert list(as_rules([rule, max])) == list(as_rules((rule, max))) == [rule, max]


@pytest.mark.parametrize(
    ("stop", "advice"),
    [
        (-1.13, r"say Target\(-1.13\)"),
        ("Target", "no stop rule"),
        (True, "no stop rule"),
        ({"target": 1}, "no stop rule"),
        (Target, r"is a class; say Target\(\.\.\.\)"),
        (timedelta(hours=1), r"say WallTime\(3600\)"),
        ([Target(1), 0.5], r"say Target\(0.5\)"),
        (lambda: True, "cannot be called with one argument"),
        (lambda step, value: True, "cannot be called with one argument"),
    ],
)
def test_what_is_no_rule_is_told_what_would_be_one(stop, advice):
    with pytest.raises(InvalidCall, match=advice):
        as_rules(stop)


def test_all_wrong_rules_are_named_at_once():
    with pytest.raises(InvalidCall) as caught:
        as_rules([1, "two"])

    assert len(caught.value.complaints) == 2


@pytest.mark.parametrize(
    ("build", "complaints"),
    [
        (lambda: Target("low", mode="down"), ["value must", "mode must"]),  # type: ignore[arg-type]
        (lambda: Target(float("nan")), ["value must be a finite number, not nan"]),
        (lambda: Target(True), ["value must"]),
        (lambda: Patience(0, min_change=-1, mode="up", confidence=1, noisy=1), ["steps", "min_change", "mode", "confidence", "noisy"]),  # type: ignore[arg-type]
        (lambda: Patience(2.5), ["steps must be a whole number of at least 1, not 2.5"]),  # type: ignore[arg-type]
        (lambda: GradientNorm(0, steps=0), ["below must be a finite number above 0, not 0", "steps must"]),
        (lambda: WallTime("1h"), ["limit_s must"]),  # type: ignore[arg-type]
        (lambda: WallTime(timedelta(0)), ["limit_s must be a finite number above 0"]),
    ],
)
def test_a_rule_complains_when_it_is_built_about_all_that_is_wrong(build, complaints):
    with pytest.raises(InvalidCall) as caught:
        build()

    assert len(caught.value.complaints) == len(complaints)
    for found, expected in zip(caught.value.complaints, complaints, strict=True):
        assert found.startswith(expected)


RULES = [Target(-1.13), Patience(20, min_change=1e-6, noisy=True), GradientNorm(1e-4, steps=3), WallTime(timedelta(minutes=2))]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_travels_and_its_text_builds_it_again(rule):
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert eval(repr(rule)) == rule


def test_numbers_of_numpy_read_like_others():
    assert repr(Target(np.float64(0.5))) == repr(Target(0.5)) == "Target(value=0.5, mode='min')"
    assert repr(Patience(np.int64(5))) == repr(Patience(5))  # type: ignore[arg-type]


def test_a_rule_cannot_change():
    with pytest.raises(FrozenInstanceError):
        Target(1.0).value = 2.0  # type: ignore[misc]


def test_a_rule_made_by_partial_is_named_by_its_text():
    assert "partial" in first_reason((partial(lambda least, progress: progress.value > least, -1.0),), after([0.0]))
