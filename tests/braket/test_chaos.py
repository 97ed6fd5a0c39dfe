"""Whatever goes wrong at the service and on the way to it, seeded: nothing is lost, and nothing is bought twice."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.emulator import Faults
from pl_hybridjobs.errors import QPUError, ResultNotReady
from tests.braket.conftest import FORTE, SV1

#: How often a round may be cut off, by impatience or by too many faults in a row, before it must have come through.
MOST_LIVES = 40
SIGMAS = 6
SHOTS = 400


def faults(dice: random.Random) -> Faults:
    """One to all kinds of faults at once, from rare to half of all requests."""

    def chance() -> float:
        return dice.choice([0.0, 0.05, 0.2, 0.5])

    return Faults(
        throttle=chance(),
        error=chance(),
        drop=chance(),
        duplicate=chance(),
        s3=chance(),
        slow=chance(),
        slow_s=0.1,
        missing=chance(),
        missing_s=0.15,
        malformed=chance(),
        malformed_s=0.15,
        clock_skew_s=dice.choice([0.0, 0.0, 400.0, -86_400.0]),
    )


def circuits(dice: random.Random, shots: int | None):
    """Single tasks or a program set, and their exact expectation values."""
    angles = [dice.uniform(0, np.pi) for _ in range(dice.randint(3, 14))]
    tapes = [qml.tape.QuantumScript([qml.RX(a, 0), qml.CNOT([0, 1])], [qml.expval(qml.Z(0) @ qml.I(1))], shots=shots) for a in angles]
    return tapes, np.cos(angles)


def one_round(seed: int, emulated, folder) -> Counter[str]:
    """A batch of circuits through a service that fails, by a client that dies now and then.

    Returns:
        How often which fault happened, and how often the client died.
    """
    dice = random.Random(seed)
    target, shots = (SV1, None) if dice.random() < 0.6 else (FORTE, SHOTS)
    running = emulated(seed=seed, faults=faults(dice), latency_s=dice.choice([0.0, 0.05]), concurrency=dice.choice([None, 4]))
    tapes, expected = circuits(dice, shots)
    lives, found = 0, None

    while found is None:
        lives += 1
        assert lives <= MOST_LIVES, f"seed {seed}: {running.happened}"
        impatient = dice.random() < 0.5 and lives < MOST_LIVES / 2
        options = {"timeout_s": dice.choice([0.01, 0.1, 0.3])} if impatient else {}
        # A new life: nothing is left of the last one but the ledger.
        ledger = Ledger(folder / f"spend-{seed}.sqlite")
        with accounts.activate(Account("chaos", ledger, namespace="one job")):
            device = qml.device("hybridjobs.qpu", target, wires=2, attempts=dice.choice([2, 5, 12]), **options)
            try:
                found = qml.execute(tapes, device, diff_method=None)
            except (QPUError, ResultNotReady):
                continue

    running.wait()
    entries = ledger.entries()
    bought = {task.arn: task for task in running.tasks}
    np.testing.assert_allclose(found, expected, atol=1e-9 if shots is None else SIGMAS / np.sqrt(SHOTS), err_msg=f"seed {seed}")
    assert {entry.task_id for entry in entries} == set(bought), f"seed {seed}: what was bought is what the ledger says"
    assert len(entries) == (len(tapes) if shots is None else 1), f"seed {seed}: each circuit was bought once"
    assert len({task.request["clientToken"] for task in bought.values()}) == len(bought)
    assert {str(entry.state) for entry in entries} == {"completed"}, f"seed {seed}: everything is settled"
    assert len(running.bill.lines) == len(bought)
    return Counter({**running.happened, "died": lives - 1})


def test_nothing_is_lost_and_nothing_is_bought_twice(emulated, tmp_path):
    happened: Counter[str] = Counter()

    for seed in range(3):
        happened += one_round(seed, emulated, tmp_path)

    assert len(happened) >= 5, happened


@pytest.mark.torture_long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("block", range(10))
def test_nothing_is_lost_in_500_rounds(emulated, tmp_path, block, capsys):
    happened: Counter[str] = Counter()

    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        happened += one_round(seed, emulated, tmp_path)

    with capsys.disabled():
        print(f"\n50 rounds: {dict(happened)}", flush=True)


@pytest.mark.parametrize("seed", [5])
def test_a_gradient_survives_as_well(emulated, seed):
    emulated(seed=seed, faults="throttle=0.2,error=0.1,drop=0.2,duplicate=0.2,s3=0.2,missing=0.3,missing_s=0.1")
    x = pnp.array([0.4, 0.9], requires_grad=True)

    def energy(device):
        @qml.qnode(device, diff_method="parameter-shift")
        def circuit(x):
            qml.RX(x[0], 0)
            qml.RY(x[1], 1)
            qml.CNOT([0, 1])
            return qml.expval(qml.Z(1))

        return circuit

    np.testing.assert_allclose(
        qml.grad(energy(qml.device("hybridjobs.qpu", SV1, wires=2)))(x), qml.grad(energy(qml.device("default.qubit")))(x), atol=1e-8
    )
