"""What a function uses and somebody may change."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pl_hybridjobs.training.variables import Variables

SCALE = 1.0


class Model:
    def __init__(self):
        self.scale = 1.0

    def __call__(self, x):
        return self.scale * x


def make(kind):
    """A function that reads something, and a function that changes it."""
    held: Any = {
        "list": [1.0],
        "deque": deque([1.0]),
        "dict": {"scale": 1.0},
        "set": {1.0},
        "array": np.ones(2),
        "namespace": SimpleNamespace(scale=1.0),
        "nested": {"of": [SimpleNamespace(scale=np.ones(1))]},
    }.get(kind)
    changes = {
        "list": lambda: held.append(2.0),
        "deque": lambda: held.append(2.0),
        "dict": lambda: held.update(scale=2.0),
        "set": lambda: held.add(2.0),
        "array": lambda: held.fill(np.nan),
        "namespace": lambda: setattr(held, "scale", 2.0),
        "nested": lambda: held["of"][0].scale.fill(2.0),
    }
    return (lambda x: (held, x)), changes[kind], lambda: repr(held)


@pytest.mark.parametrize("kind", ["list", "deque", "dict", "set", "array", "namespace", "nested"])
def test_contents_that_change_are_seen_by_name_and_can_be_put_back(kind):
    fn, change, look = make(kind)
    variables, before = Variables(objective=fn), look()
    assert variables.changed() == ""
    change()
    assert variables.changed() in ("held", "scale")
    assert look() != before
    variables.restore()
    assert (variables.changed(), look()) == ("", before)


def test_variables_that_are_assigned_anew_are_seen():
    global SCALE  # noqa: PLW0603 - what a notebook does
    calls = 0

    def fn(x):
        nonlocal calls
        calls += 1
        return SCALE * x

    variables = Variables(objective=fn)
    fn(1.0)
    assert variables.changed() == "calls"
    variables.restore()
    assert calls == 0
    SCALE = 2.0
    assert variables.changed() == "SCALE"
    variables.restore()
    assert (SCALE, variables.changed()) == (1.0, "")


def test_attributes_of_an_objective_and_its_arguments_are_seen():
    model, argument = Model(), np.zeros(2)
    variables = Variables(objective=model, args=(argument,))
    model.scale = 1.0
    assert variables.changed() == ""  # an equal number is the same
    model.scale = 2.0
    assert variables.changed() == "objective"
    variables.restore()
    argument[1] = 1
    assert variables.changed() == "args"


def test_much_data_is_not_looked_at():
    data = np.zeros((1000, 10))
    variables = Variables(objective=lambda x: data @ x)
    data[0] = 1
    assert variables.changed() == ""


def test_what_jax_calls_back_may_change_things():
    import jax

    calls = []
    variables = Variables(objective=lambda x: jax.debug.callback(lambda: calls.append(x)))
    calls.append(1)
    assert variables.changed() == ""
