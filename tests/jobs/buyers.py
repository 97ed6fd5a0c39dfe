"""Jobs that buy, as a remote device would for them. A local module, so it travels as source."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

from pl_hybridjobs import current_job, load_checkpoint, log_metric, save_checkpoint, train, training_loop
from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.ledger import Charge

QPU = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"


def buy(what, shop):
    """One task for a dollar. What was bought before is not bought again; the shop keeps a list of its sales."""
    payer = account.current()
    key = hashlib.sha256(f"{payer.namespace}|{what}".encode()).hexdigest()
    found = payer.find([key]).get(key)
    if found is None or not found.state.is_final:
        payer.reserve([Charge(key, QPU, shots=10, usd=Decimal(1))])
        payer.intend([key])
        sales = Path(shop)
        if key not in (sales.read_text() if sales.exists() else ""):  # the provider knows the key too
            with sales.open("a") as book:
                book.write(f"{key}\n")
        payer.submitted({key: f"task-{what}"})
        payer.settle(key, "completed")


def loop(steps, shop):
    state: dict[str, Any] = {"sum": 0.0, "seen": []}
    for step in training_loop(steps, state, checkpoint_every=None, progress=False, seed=1):
        state["sum"] += random.random()
        buy(step, shop)
        state["seen"].append(step)
        log_metric("sum", state["sum"])
    return state


def descend(steps, shop):
    """Each step buys one task, named by the point at which it measures."""
    import pennylane as qml

    def objective(x):
        buy(repr(x._value.tolist()), shop)
        return qml.math.sum((x - 1.0) ** 2)

    start = qml.numpy.array([0.0, 3.0])
    run = train(objective, start, optimizer=qml.AdamOptimizer(0.1), steps=steps, checkpoint_every=None, compile=False, progress=False)
    return {"params": run.params, "costs": run.history["cost"]}


def in_a_callback(steps, shop, stop_at=None):
    """JAX puts an error of its own in the place of what a callback raises."""
    import jax
    import numpy as np

    def sell(step):
        if step == stop_at and current_job().attempt == 1:
            current_job().stop.requested = "SIGTERM"
        current_job().stop.check()
        buy(int(step), shop)
        return np.float32(step)

    call = jax.jit(lambda step: jax.pure_callback(sell, jax.ShapeDtypeStruct((), "float32"), step))
    return sum(float(call(step)) for step in range(steps))


def own_checkpoints(steps, shop):
    begin = load_checkpoint(default=0)
    for step in range(begin, steps):
        buy(step, shop)
        save_checkpoint(step + 1)
    return begin


def die_once(steps, shop, at):
    """Killed in the middle of a purchase, in its first attempt: reserved above, and nothing more."""
    for step in range(steps):
        if step == at and not Path(f"{shop}.died").exists():
            Path(f"{shop}.died").touch()
            payer = account.current()
            for above in payer.parents:
                above.ledger.reserve([Charge(f"half-{step}", QPU, usd=Decimal(1))], namespace=payer.namespace)
            os.kill(os.getpid(), signal.SIGKILL)
        buy(step, shop)
    return "done"


def fail_after(steps, shop):
    for step in range(steps):
        buy(step, shop)
        save_checkpoint(step + 1)
    if not Path(f"{shop}.mended").exists():
        raise ValueError("broken")
    return "mended"


def buy_in_a_child(shop):
    import subprocess
    import sys

    code = f"from tests.jobs.buyers import buy; buy('child', {shop!r})"
    root = str(Path(__file__).parents[2])
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=False).returncode
