"""Jobs' functions for the tests of resume. A local module, so it travels as source."""

from __future__ import annotations

import os
import random
import signal
import time
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml

from pl_hybridjobs import current_job, load_checkpoint, log_metric, save_checkpoint, train, training_loop
from pl_hybridjobs.errors import JobStopRequested
from pl_hybridjobs.training import Batches
from pl_hybridjobs.training.parameters import to_numpy

WIRES = 2
START = np.array([0.1, 0.2, 0.3, 0.4])
OPTIMIZERS = ("adam", "qng", "spsa", "optax", "torch", "loop")


class Interrupted(BaseException):
    """What no ``except Exception`` catches, as a kill."""


class Bomb:
    """Goes off at its n-th tick, where the environment says n: ``BOMB_AT=5``, or ``BOMB_AT=5:stop`` for an attempt that can be resumed in place."""

    def __init__(self):
        at, _, self._kind = os.environ.get("BOMB_AT", "0").partition(":")
        self._left = int(at)

    def tick(self):
        self._left -= 1
        if self._left == 0:
            raise JobStopRequested("a bomb") if self._kind == "stop" else Interrupted


def make_circuit(shots, device="hybridjobs.qubit", seed=11, **options):
    @qml.set_shots(shots)
    @qml.qnode(qml.device(device, wires=WIRES, seed=seed), **options)
    def circuit(params):
        qml.RY(params[0], 0)
        qml.RY(params[1], 1)
        qml.CNOT([0, 1])
        qml.RY(params[2], 0)
        qml.RY(params[3], 1)
        return qml.expval(qml.Hamiltonian([1.0, 0.5, 0.3], [qml.Z(0) @ qml.Z(1), qml.X(0), qml.X(1)]))

    return circuit


def outcome(run):
    """All of a run that resuming must not change."""
    return {
        "params": to_numpy(run.params).copy(),
        "best": [run.best.value, run.best.step, to_numpy(run.best.params).copy()],
        "history": {name: column for name, column in run.history.items() if name != "step_time_s"},
        "value": run.value,
        "stopped_by": run.stopped_by,
    }


def work(optimizer, shots, compiled, steps=8, every=2, seed=5):
    """One cell of the matrix."""
    bomb = Bomb()
    circuit = make_circuit(shots)
    if optimizer == "loop":
        return by_hand(circuit, compiled, steps, every, seed, bomb)

    def metrics(params):
        bomb.tick()
        return {"draw": np.random.random(), "first": params[0]}

    def ticking(params):
        bomb.tick()
        return circuit(params)

    # A compiled objective has no side effects; and QNG wants the QNode.
    objective = circuit if compiled or optimizer == "qng" else ticking
    params = START
    if optimizer == "torch":
        import torch

        params = torch.tensor(START)
        made = lambda tensors: torch.optim.Adam(tensors, lr=0.1)  # noqa: E731
    elif optimizer == "optax":
        import optax

        made = optax.adam(0.1)
    else:
        made = {"adam": qml.AdamOptimizer(0.1), "qng": qml.QNGOptimizer(0.1), "spsa": qml.SPSAOptimizer(maxiter=50)}[optimizer]
    run = train(
        objective, params, optimizer=made, steps=steps, checkpoint_every=every, compile=compiled,
        seed=seed, metrics=metrics, progress=False,
    )  # fmt: skip
    assert run.compiled is compiled, run.compile_reason
    return outcome(run)


def by_hand(circuit, compiled, steps, every, seed, bomb):
    """The same by a body of one's own."""
    if compiled:
        import jax
        import jax.numpy as jnp
        import optax

        optimizer = optax.adam(0.1)
        evaluate = jax.jit(jax.value_and_grad(circuit))
        state = {"params": jnp.array(START), "optimizer": optimizer.init(jnp.array(START))}
    else:
        state = {"params": qml.numpy.array(START, requires_grad=True), "optimizer": qml.AdamOptimizer(0.1)}
    state["costs"] = []
    for _ in training_loop(steps, state, checkpoint_every=every, seed=seed, progress=False):
        bomb.tick()
        if compiled:
            cost, gradient = evaluate(state["params"])
            updates, state["optimizer"] = optimizer.update(gradient, state["optimizer"])
            state["params"] = optax.apply_updates(state["params"], updates)
        else:
            state["params"], cost = state["optimizer"].step_and_cost(circuit, state["params"])
        state["costs"].append(float(cost))
        log_metric("cost", cost)
        log_metric("draw", np.random.random())
        bomb.tick()
    return {"params": np.array(state["params"]), "costs": state["costs"]}


# Several loops ---------------------------------------------------------------------------------------------------------------


def two_and_a_body():
    """Two trainings, then a loop; between them the function draws random numbers and logs without a step."""
    np.random.seed(3)
    rng = np.random.default_rng(4)
    bomb = Bomb()
    circuit = make_circuit(100)

    def objective(params):
        bomb.tick()
        return circuit(params)

    def go(start, name=None):
        return train(objective, start, optimizer=qml.SPSAOptimizer(maxiter=50), steps=4, checkpoint_every=2, name=name, progress=False)

    log_metric("before", np.random.random())
    first = go(START)
    bomb.tick()
    for _ in range(3):
        log_metric("between", np.random.random() + rng.random())
    bomb.tick()
    second = go(np.array(first.params) + rng.normal(size=4), name="polish")
    log_metric("between", np.random.random())
    state: dict[str, Any] = {"x": np.array(second.params), "drawn": []}
    for _ in training_loop(5, state, checkpoint_every=2, progress=False):
        state["x"] = state["x"] - 0.1 * rng.normal(size=4)
        bomb.tick()
        state["drawn"].append(float(circuit(state["x"])))
        log_metric("body", state["drawn"][-1])
    bomb.tick()
    log_metric("between", np.random.random())
    third = go(state["x"])
    return [outcome(first), outcome(second), dict(state), outcome(third), np.random.random(), rng.random()]


def layers(inner_name=None):
    """Training inside the body of a loop: a layer more in each step."""
    np.random.seed(3)
    bomb = Bomb()
    circuit = make_circuit(100)

    def objective(params):
        bomb.tick()
        return circuit(params)

    state: dict[str, Any] = {"params": START, "values": []}
    for layer in training_loop(3, state, checkpoint_every=1, progress=False):
        log_metric("layer_draw", np.random.random())
        for _ in range(2):
            run = train(
                objective, state["params"] + 0.01 * layer, optimizer=qml.SPSAOptimizer(maxiter=50), steps=3, checkpoint_every=1,
                name=inner_name and f"{inner_name}-{_}", progress=False,
            )  # fmt: skip
            state["params"] = run.params
        bomb.tick()
        state["values"].append(run.value)
        log_metric("layer_value", run.value)
    return state


def broken_off():
    """A loop that is left by break and has saved nothing, before another one."""
    np.random.seed(3)
    bomb = Bomb()
    drawn: dict[str, list[float]] = {"first": [], "second": []}
    for step in training_loop(10, drawn, checkpoint_every=None, progress=False):
        drawn["first"].append(np.random.random())
        log_metric("first", drawn["first"][-1])
        bomb.tick()
        if step == 2:
            break
    log_metric("between", np.random.random())
    for _ in training_loop(6, drawn, checkpoint_every=2, progress=False):
        bomb.tick()
        drawn["second"].append(np.random.random())
        log_metric("second", drawn["second"][-1])
    return drawn


def own_checkpoints_around(name):
    """A loop of the user's own, with checkpoints of its own, around trainings."""
    bomb = Bomb()
    circuit = make_circuit(100)

    def objective(params):
        bomb.tick()
        return circuit(params)

    state = load_checkpoint(default={"round": 0, "params": START})
    for number in range(state["round"], 3):
        run = train(
            objective, state["params"], optimizer=qml.AdamOptimizer(0.1), steps=3, checkpoint_every=1, compile=False,
            name=name and f"{name}-{number}", progress=False,
        )  # fmt: skip
        bomb.tick()
        state = {"round": number + 1, "params": run.params}
        save_checkpoint(state)
    return state


# Data ------------------------------------------------------------------------------------------------------------------------


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(22, 3))
    return x, x @ [1.0, -2.0, 0.5]


def batches_of_arrays(kind):
    """Mini-batches of arrays in ``train``."""
    import optax

    bomb = Bomb()
    x, y = data()
    given = {"x": x, "y": y} if kind == "dict" else (x, y)

    def loss(weights, *batch):
        found, wanted = (batch[0]["x"], batch[0]["y"]) if kind == "dict" else batch
        return ((found @ weights - wanted) ** 2).mean()

    def metrics(params):
        bomb.tick()
        return {}

    run = train(
        loss, np.zeros(3), optimizer=optax.adam(0.1), steps=9, data=given, batch_size=5, seed=1, checkpoint_every=2, metrics=metrics, progress=False,
    )  # fmt: skip
    return outcome(run)


def loader_in_train():
    """A torch DataLoader with a generator of its own and one without, in ``train``."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    bomb = Bomb()
    x, y = map(torch.tensor, data())
    runs = []
    for generator in (None, torch.Generator().manual_seed(3)):
        loader = DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True, generator=generator)

        def loss(weights, x, y):
            bomb.tick()
            return ((x @ weights - y) ** 2).mean() + 0.01 * torch.rand(())

        made = lambda tensors: torch.optim.Adam(tensors, lr=0.1)  # noqa: E731
        run = train(
            loss,
            torch.zeros(3, dtype=x.dtype),
            optimizer=made,
            steps=9,
            data=loader,
            seed=1,
            checkpoint_every=2,
            compile=False,
            progress=False,
        )
        runs.append(outcome(run))
    return runs


def torch_by_hand(how):
    """A module, its optimizer and scheduler, and mini-batches, in a body of one's own."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    bomb = Bomb()
    x, y = map(torch.tensor, data())
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4, dtype=x.dtype), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1, dtype=x.dtype))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    loader = DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(3))
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "losses": []}
    if how == "batches":
        state["batches"] = Batches(loader)

    def learn(x, y):
        bomb.tick()
        optimizer.zero_grad()
        loss = ((model(x)[:, 0] - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        state["losses"].append(float(loss.detach()))
        log_metric("loss", loss.detach())

    for _ in training_loop(9 if how == "batches" else 3, state, checkpoint_every=2 if how == "batches" else 1, progress=False):
        if how == "batches":
            learn(*state["batches"].next())
        else:
            for x_batch, y_batch in loader:
                learn(x_batch, y_batch)
        scheduler.step()
    return {"weights": [p.detach().numpy().copy() for p in model.parameters()], "losses": state["losses"]}


# Bodies ----------------------------------------------------------------------------------------------------------------------

_MODULE_RNG = np.random.default_rng(8)


@dataclass
class Record:
    x: np.ndarray
    count: int = 0
    best: float | None = None


def body(kind):
    """States of all kinds, changed in place through other names or replaced, and generators wherever they are."""
    _MODULE_RNG.bit_generator.state = np.random.default_rng(8).bit_generator.state  # as a new process has it
    bomb = Bomb()
    local = random.Random(4)
    circuit = make_circuit(20, device="lightning.qubit" if kind == "lightning" else "default.qubit", seed=3)
    hidden = np.random.default_rng(5)
    draw = lambda: hidden.random() + 0.0  # noqa: E731
    start = np.array(START)
    state: Any = Record(start) if kind == "dataclass" else types.SimpleNamespace(x=start, count=0, best=None)
    for step in training_loop(7, state, checkpoint_every=2, seed=3, progress=False):
        bomb.tick()
        noise = np.array([local.random(), draw(), _MODULE_RNG.random(), random.random()])
        state.x = state.x - 0.1 * noise
        value = float(circuit(state.x))
        state.best = value if state.best is None else min(state.best, value)
        state.count += step
        log_metric("value", value)
    return {"x": state.x, "count": state.count, "best": state.best, "start": start}


def aliases():
    """What the body changes in place it knows by other names too; what it replaces it compares with the old."""
    bomb = Bomb()
    circuit = make_circuit(20, device="default.qubit", seed=3)
    import torch

    start, costs, weights = np.array(START), list[float](), torch.tensor(START, requires_grad=True)
    optimizer = qml.MomentumOptimizer(0.1)
    adam = torch.optim.Adam([weights], lr=0.1)
    state: dict[str, Any] = {
        "params": start,
        "optimizer": optimizer,
        "costs": costs,
        "weights": weights,
        "adam": adam,
        "in place": np.zeros(4),
        "rng": np.random.default_rng(1),
    }
    moved, own = state["in place"], state["rng"]
    for _ in training_loop(7, state, checkpoint_every=2, progress=False):
        bomb.tick()
        state["params"], cost = optimizer.step_and_cost(circuit, qml.numpy.array(state["params"], requires_grad=True))
        moved += own.normal(size=4)
        adam.zero_grad()
        (weights**2).sum().backward()
        adam.step()
        bomb.tick()
        costs.append(float(cost) + float(moved.sum()) + float(np.linalg.norm(state["params"] - start)))
        log_metric("cost", costs[-1])
    return {
        "params": np.array(state["params"]),
        "costs": costs,
        "weights": weights.detach().numpy().copy(),
        "moved": moved,
        "start": start,
    }


CELL = """
import numpy as np
rng = np.random.default_rng(2)
state = {"x": 0.0}
for step in training_loop(6, state, checkpoint_every=2, progress=False):
    bomb.tick()
    state["x"] += rng.random()
    log_metric("x", state["x"])
"""


def cell():
    """A loop in a notebook's way: all variables are global."""
    names = {"training_loop": training_loop, "log_metric": log_metric, "bomb": Bomb()}
    exec(CELL, names)
    return names["state"]


def draws_in_python(compiled):
    """An objective that draws, so that its trace is given up: once in each attempt."""
    rng = np.random.default_rng(6)
    bomb = Bomb()

    def objective(params):
        noise = rng.normal() + np.random.random()
        if compiled == "fails":
            np.asarray(params)  # no trace survives this
        return ((params - noise) ** 2).sum()

    def metrics(params):
        bomb.tick()
        return {}

    run = train(
        objective, START, optimizer=qml.AdamOptimizer(0.1), steps=7, seed=2, checkpoint_every=2, metrics=metrics, progress=False
    )  # fmt: skip
    return outcome(run)


def slow(steps=400, pause_s=0.02, every=1, retries_at=""):
    """Steps that take their time, for signals."""

    def objective(params):
        time.sleep(pause_s)
        return (params**2).sum()

    run = train(
        objective, START, optimizer=qml.AdamOptimizer(0.1), steps=steps, checkpoint_every=every, compile=False, seed=1, progress=False
    )
    return outcome(run)


def with_notes():
    """An objective that names a list which grows from the fourth step on, so that it is compiled until then."""
    bomb = Bomb()
    circuit = make_circuit(None)
    notes: list[float] = []

    def objective(params):
        return circuit(params) if notes is not None else 0.0

    def note(progress):
        bomb.tick()
        if progress.step == 4:
            notes.append(progress.value)

    run = train(
        objective, START, optimizer=qml.AdamOptimizer(0.1), steps=12, checkpoint_every=1, stop=note, progress=False
    )  # fmt: skip
    assert not run.compiled
    return outcome(run)


def with_fewer_steps(first, later):
    """Somebody lowers ``steps`` before it is resumed."""
    bomb = Bomb()
    steps = later if os.environ["BOMB_AT"] == "0" else first
    run = train(
        lambda p: (p**2).sum(),
        START,
        optimizer=qml.AdamOptimizer(0.1),
        steps=steps,
        checkpoint_every=1,
        stop=lambda progress: bomb.tick(),
        progress=False,
    )
    return {"steps": run.steps, "stopped_by": run.stopped_by}


def two_slow():
    """Somebody asks to stop between two loops."""
    first = slow(3)
    log_metric("between", 1.0)
    if current_job().attempt == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    return [first, slow(4)]
