"""The columns of what steps logged."""

from __future__ import annotations

import numpy as np

from pl_hybridjobs.training.history import History


def test_a_metric_that_is_logged_now_and_then_keeps_its_steps():
    history = History()
    for step in range(300):
        history.append({"cost": step, **({"accuracy": -step} if step % 70 == 0 else {})})

    np.testing.assert_array_equal(history["cost"], np.arange(300))
    assert list(np.flatnonzero(np.isfinite(history["accuracy"]))) == [0, 70, 140, 210, 280]
    assert history["accuracy"][280] == -280
    assert {len(column) for column in history.columns().values()} == {300}


def test_a_history_that_is_taken_up_goes_on():
    before = History()
    for step in range(100):
        before.append({"cost": step, **({"accuracy": 1.0} if step == 0 else {})})
    after = History(before.columns(), before.steps)
    for step in range(100, 200):
        after.append({"cost": step, **({"accuracy": 2.0} if step == 199 else {})})

    np.testing.assert_array_equal(after["cost"], np.arange(200))
    assert list(np.flatnonzero(np.isfinite(after["accuracy"]))) == [0, 199]
