"""Samples: distribution, determinism, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import sampling


def random_probs(size, seed, zeros=0.0):
    rng = np.random.default_rng(seed)
    probs = rng.random(size) ** 3
    probs[rng.random(size) < zeros] = 0.0
    return probs / probs.sum()


def random_state(n, seed, dtype=np.complex128):
    rng = np.random.default_rng(seed)
    state = rng.normal(size=1 << n) + 1j * rng.normal(size=1 << n)
    return (state / np.linalg.norm(state)).astype(dtype)


def chance(counts, probs):
    """The probability of counts at least as odd as these; outcomes that are expected less than five times count as one."""
    expected = probs * counts.sum()
    common = expected >= 5
    seen, wanted = np.append(counts[common], counts[~common].sum()), np.append(expected[common], expected[~common].sum())
    if wanted[-1] < 1e-9:
        seen, wanted = seen[:-1], wanted[:-1]
    return stats.chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue


def full(found, size):
    return np.bincount(found.outcomes, weights=found.counts, minlength=size)


@pytest.mark.parametrize(("size", "shots"), [(2, 100), (2, 400_000), (3, 100), (64, 1_000), (64, 400_000), (1 << 12, 400_000)])
def test_outcomes_follow_their_probabilities(size, shots):
    probs = random_probs(size, seed=size, zeros=0.3 if size > 3 else 0)
    found = sampling.histogram(probs, shots, np.random.default_rng(shots))

    assert found.shots == shots
    assert chance(full(found, size), probs) > 1e-4
    assert np.all(probs[found.outcomes] > 0)
    assert np.all(found.counts > 0)
    assert np.all(np.diff(found.outcomes) > 0)


@pytest.mark.parametrize("where", [0, 7, 15])
def test_a_certain_outcome_is_always_seen_wherever_it_stands(where):
    probs = np.zeros(16)
    probs[where] = 1.0

    for shots in (1, 10, 5_000):
        found = sampling.histogram(probs, shots, np.random.default_rng(shots))
        assert found.outcomes.tolist() == [where]
        assert found.counts.tolist() == [shots]


def test_no_shots_show_nothing():
    found = sampling.histogram(random_probs(8, 0), 0, np.random.default_rng(0))

    assert found.shots == len(found.outcomes) == len(sampling.samples(found, np.random.default_rng(0))) == 0
    assert np.isnan(sampling.mean(found, np.zeros(0)))
    assert np.isnan(sampling.variance(found, np.zeros(0)))


@pytest.mark.parametrize("shots", [50, 20_000])
def test_a_seed_gives_the_same_samples_and_the_next_call_others(shots):
    probs = random_probs(32, 1)

    def draw():
        rng = np.random.default_rng(9)
        return [sampling.samples(sampling.histogram(probs, shots, rng), rng) for _ in range(2)]

    (first, second), again = draw(), draw()
    assert np.array_equal(first, again[0])
    assert np.array_equal(second, again[1])
    assert not np.array_equal(first, second)


def test_samples_come_in_random_order():
    probs, rng = random_probs(16, 4), np.random.default_rng(4)
    drawn = sampling.samples(sampling.histogram(probs, 40_000, rng), rng)

    for part in (drawn[:10_000], drawn[-10_000:], drawn[::4]):
        assert chance(np.bincount(part, minlength=16), probs) > 1e-4
    pairs = np.bincount(16 * drawn[::2] + drawn[1::2], minlength=256)
    assert chance(pairs, np.outer(probs, probs).ravel()) > 1e-4


def test_a_million_shots_of_a_large_state_follow_its_probabilities():
    state = random_state(20, 3)
    probs = sampling.normalised(sampling.probabilities(state))
    found = sampling.histogram(probs, 1_000_000, np.random.default_rng(1))

    coarse = full(found, 1 << 20).reshape(256, -1).sum(axis=1)
    assert chance(coarse, (np.abs(state) ** 2).reshape(256, -1).sum(axis=1)) > 1e-4


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_probabilities_are_squares_in_double_precision(dtype):
    state = random_state(14, 0, dtype)
    found = sampling.probabilities(state)

    assert found.dtype == np.float64
    assert np.allclose(found, state.real.astype(float) ** 2 + state.imag.astype(float) ** 2, rtol=1e-14)
    assert np.isclose(sampling.normalised(found, state.real.dtype).sum(), 1, atol=1e-14)


@given(st.data())
def test_marginals_are_sums(data):
    n = data.draw(st.integers(1, 7))
    wires = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, n))]
    state = random_state(n, n)
    others = [w for w in range(n) if w not in wires]
    tensor = (np.abs(state) ** 2).reshape((2,) * n).transpose([*wires, *others])

    assert np.allclose(sampling.probabilities(state, wires), tensor.reshape(1 << len(wires), -1).sum(axis=1))


@given(st.data())
def test_numbers_of_some_bits_are_those_of_their_texts(data):
    n = data.draw(st.integers(1, 60))
    positions = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, n))]
    outcomes = np.array(data.draw(st.lists(st.integers(0, (1 << n) - 1), min_size=1, max_size=5)))
    texts = [f"{x:0{n}b}" for x in outcomes.tolist()]

    assert sampling.bit_strings(outcomes, n) == texts
    assert sampling.bits(outcomes, n).tolist() == [[int(c) for c in text] for text in texts]
    expected = [int("".join(text[n - 1 - p] for p in positions) or "0", 2) for text in texts]
    assert sampling.index(outcomes, positions).tolist() == expected


@given(st.lists(st.integers(0, 255), min_size=1), st.integers(0, 255))
def test_parities_and_moments_are_those_of_the_samples(drawn, mask):
    found = sampling.histogram_of(np.array(drawn))
    signs = np.array([(-1.0) ** bin(x & mask).count("1") for x in drawn])
    values = sampling.parities(found.outcomes, mask)

    assert np.isclose(sampling.mean(found, values), signs.mean())
    assert np.isclose(sampling.variance(found, values), signs.var())


@pytest.mark.parametrize("wrong", [[0.5, np.nan], [0.5, 0.6], [0.0, 0.0], [1.5, -0.5], [np.inf, 0.0], [0.5, 0.50001]])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(SimulationError, match="cannot draw samples"):
        sampling.normalised(np.array(wrong))


def test_rounding_of_single_precision_is_no_error():
    assert np.isclose(sampling.normalised(np.array([0.5, 0.50001]), np.float32).sum(), 1)
