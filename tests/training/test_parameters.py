"""Nests of parameters: what they are made of, and back."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs.training.parameters import as_given, norm, structure, working_copy


class Layer(NamedTuple):
    weights: object
    bias: object


@pytest.mark.parametrize(
    ("params", "interface"),
    [
        (1.0, "autograd"),
        (np.ones(2), "autograd"),
        ([pnp.ones(2), 0.5, np.float32(1)], "autograd"),
        ({"a": jnp.ones(2), "b": 0.5}, "jax"),
        ({"a": jnp.ones(2), "b": np.ones(1)}, ""),
    ],
)
def test_the_interface_is_found_from_the_leaves(params, interface):
    assert structure(params).interface == interface


def test_torch_tensors_are_of_torch():
    torch = pytest.importorskip("torch")
    assert structure({"a": torch.ones(2), "b": 1.0}).interface == "torch"


@pytest.mark.parametrize(
    "params", [0.5, np.ones((2, 3)), {"x": [np.float64(1.5), (np.zeros(2),)], "y": Layer(np.ones(2), 0.25)}, [jnp.ones(3), jnp.zeros(())]]
)
def test_a_working_copy_goes_back_to_what_was_given(params):
    import jax

    shape = structure(params)
    back = as_given(working_copy(params, shape), shape)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_a_working_copy_shares_no_memory():
    given = np.ones(3)
    copy = working_copy(given, structure(given))
    copy += 1
    np.testing.assert_array_equal(given, np.ones(3))


def test_leaves_are_named_by_their_path():
    shape = structure({"layers": [Layer(np.ones((2, 3)), 0.0)]})
    assert [leaf.path for leaf in shape.leaves] == ["params['layers'][0].weights", "params['layers'][0].bias"]
    assert str(shape.leaves[0]) == "params['layers'][0].weights: float64[2, 3]"


def test_differences_are_told_leaf_by_leaf():
    before, now = (
        structure({"a": np.ones(2), "b": 1.0, "c": np.ones(3)}),
        structure({"a": np.ones(3), "c": np.ones(3, np.float32), "d": 1.0}),
    )
    assert before.differences(now) == [
        "params['d']: float64[] is new",
        "params['b']: float64[] is gone",
        "params['a'] was float64[2] and is float64[3]",
        "params['c'] was float64[3] and is float32[3]",
    ]
    assert before.differences(before) == []


def test_split_and_merge_are_inverse():
    params = [np.ones(2), pnp.array([2.0], requires_grad=False), np.zeros(1)]
    shape = structure(params)
    trainable, fixed = shape.split(params)
    assert [len(trainable), len(fixed)] == [2, 1]
    assert all(a is b for a, b in zip(shape.merge(trainable, fixed), params, strict=True))


def test_the_norm_is_that_of_all_leaves_together():
    assert norm([np.array([3.0]), np.array([[4.0]])]) == 5.0


def test_the_norm_is_that_of_all_leaves_even_where_squares_overflow_in_single_precision():
    assert norm([np.array([[3.0]]), np.array([4.0], dtype=np.float32)]) == 5.0
    assert norm([np.full(4, 1e30, dtype=np.float32)]) == pytest.approx(2e30)
    assert norm([np.array([1.0, np.inf])]) == math.inf
    assert math.isnan(norm([np.array([1.0, np.nan])]))
