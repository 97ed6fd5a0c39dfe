"""Jobs that train on a rehearsed QPU. A local module, so it travels as source."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pennylane as qml

from pl_hybridjobs import current_job, job_device, load_checkpoint, save_checkpoint, spread_device, train, training_loop

ROLES = {"sim": "hybridjobs.qubit", "cloud": "rehearsal:ideal", "chip": "rehearsal:qpu"}
START = qml.numpy.array([0.1, 0.7], requires_grad=True)


def make_circuit(device, shots=50):
    @qml.set_shots(shots)
    @qml.qnode(device, diff_method="parameter-shift")
    def energy(x):
        qml.RY(x[0], 0)
        qml.RX(x[1], 1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(1))

    return energy


def descend(steps, shop, every=None, bomb="", seed=7, **manners):
    """Each step buys two tasks: the value's circuits, and those of the gradient."""
    device = job_device(wires=2, folder=shop, seed=seed, task_usd=0.3, **manners)
    if bomb:
        method, number = bomb.split(":")
        kill_at(device.qpu, method, int(number), Path(f"{shop}.exploded"))
    return trained(device, steps, every)


def here_and_in_a_thread(shop):
    """The same circuit three times: here, in another thread (as callbacks of JAX are), and here again. Says how many calls it made."""
    device = job_device(wires=2, folder=shop)
    energy = make_circuit(device)
    energy(START)
    thread = threading.Thread(target=energy, args=(START,))
    thread.start()
    thread.join()
    energy(START)
    return device.checkpoint_state()["calls"]


def trained(device, steps, every=None):
    energy = make_circuit(device)
    run = train(energy, START, optimizer=qml.AdamOptimizer(0.1), steps=steps, checkpoint_every=every, compile=False, progress=False)
    again = make_circuit(device)(run.params)
    history = {name: column for name, column in run.history.items() if name != "step_time_s"}
    return {"params": np.array(run.params), "history": history, "again": float(again)}


def kill_at(qpu, method, number, exploded):
    """The process dies by SIGKILL in the first attempt's n-th call of this method: it was carried out, and nobody hears the answer."""
    call, lock, left = getattr(qpu, method), threading.Lock(), [number]

    def deadly(*args):
        answer = call(*args)
        with lock:
            left[0] -= 1
            if left[0] == 0 and not exploded.exists():
                exploded.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(qpu, method, deadly)


def by_hand(steps, shop):
    device = job_device(wires=2, folder=shop, seed=7)
    energy = make_circuit(device)
    state = {"x": START, "costs": []}
    for _ in training_loop(steps, state, checkpoint_every=None, progress=False):
        state["x"] = state["x"] - 0.1 * qml.grad(energy)(state["x"])
        state["costs"].append(float(energy(state["x"])))
    return {"x": np.array(state["x"]), "costs": state["costs"]}


def own_checkpoints(steps, shop, stop_at):
    """The same circuit again and again, each time with samples of its own."""
    device = job_device(wires=2, folder=shop)
    energy = make_circuit(device)
    state = load_checkpoint(default={"done": 0, "found": []})
    while state["done"] < steps:
        state["found"].append(float(energy(START)))
        state["done"] += 1
        if state["done"] == stop_at and current_job().attempt == 1:
            current_job().stop.requested = "SIGTERM"
        save_checkpoint(state)
    return state["found"]


def stopped_while_waiting(steps, shop):
    """Somebody asks it to stop while its third task runs."""
    if current_job().attempt == 1:
        stop = current_job().stop
        stop.at_boundary = True
        threading.Timer(0.4, setattr, (stop, "requested", "SIGTERM")).start()
    return descend(steps, shop, latency_s=0.15)


def descend_on_three(steps, shop, bomb=""):
    """Adam on samples of a simulator and two rehearsals. Says what each of them did."""
    shops = {name: {"folder": f"{shop}/{name}", "seed": 7, "task_usd": 0.1} for name in ("cloud", "chip")}
    device = spread_device(list(ROLES), wires=2, weights={"sim": 3, "chip": 2}, options={"sim": {"seed": 3}, **shops})
    if bomb:
        name, method, number = bomb.split(":")
        kill_at(device.members[name].qpu, method, int(number), Path(f"{shop}.exploded"))
    run = train(make_circuit(device), START, optimizer=qml.AdamOptimizer(0.1), steps=steps, checkpoint_every=None, progress=False)
    done = {name: [row.circuits, row.shots, row.cost_usd] for name, row in device.table().items()}
    return {"params": np.array(run.params), "cost": run.history["cost"], "executions": run.history["executions"], "done": done}
