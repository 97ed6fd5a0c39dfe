"""hybridjobs.qubit beside lightning.qubit and default.qubit, in one run, in turns: ``pytest -m benchmark -s tests/benchmarks/test_simulator.py``.

Prints medians and ratios; asserts nothing about time, since machines differ.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning"),
]
_TURN_S = 0.02
OURS, LIGHTNING, DEFAULT = "hybridjobs.qubit", "lightning.qubit", "default.qubit"


def in_turns(actions: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each, after one turn that does not count. A turn is 20 ms at least, as a loop would run the action."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for i in range(repeat + 1):
        for name, action in actions.items():
            calls, begun = 0, time.perf_counter()
            while not calls or time.perf_counter() - begun < _TURN_S:
                action()
                calls += 1
            if i:
                times[name].append((time.perf_counter() - begun) / calls)
    return {name: statistics.median(found) for name, found in times.items()}


def ready(function, weights):
    return jax.block_until_ready(function(weights))


def say(what: str, found: dict[str, float], target: str) -> None:
    ours = found.pop(OURS)
    peers = ", ".join(f"{name} {t * 1e3:.4g} ms = {t / ours:.1f} x" for name, t in found.items())
    print(f"\n{what:<46} {ours * 1e3:10.4g} ms   {peers}   target {target}", end="")


def layers(name, n, **options):
    device = {"c_dtype": options.pop("c_dtype")} if "c_dtype" in options else {}

    @qml.qnode(qml.device(name, wires=n, **device), **options)
    def circuit(weights):
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def random_weights(n, depth, batch=()):
    return np.random.default_rng(0).normal(size=(*batch, depth, n, 3))


def random_hamiltonian(n, terms):
    rng = np.random.default_rng(1)
    words = [qml.prod(*(getattr(qml, rng.choice(list("XYZ")))(int(q)) for q in rng.choice(n, 4, replace=False))) for _ in range(terms)]
    return qml.dot(rng.normal(size=terms), words)


@pytest.mark.parametrize("c_dtype", [np.complex128, np.complex64])
def test_gradient_of_20_qubits(c_dtype):
    n, hamiltonian = 20, random_hamiltonian(20, 40)
    weights = pnp.array(random_weights(n, 3), requires_grad=True)

    def make(name):
        @qml.qnode(qml.device(name, wires=n, c_dtype=c_dtype), diff_method="adjoint")
        def circuit(weights):
            qml.StronglyEntanglingLayers(weights, wires=range(n))
            return qml.expval(hamiltonian)

        return lambda: qml.grad(circuit)(weights)

    say(f"gradient, 20 qubits, 40 terms, {c_dtype.__name__}", in_turns({name: make(name) for name in (OURS, LIGHTNING)}, 3), "10 x")


@pytest.mark.parametrize("c_dtype", [np.complex128, np.complex64])
def test_forward_of_24_qubits(c_dtype):
    weights = random_weights(24, 2)
    circuits = {name: layers(name, 24, c_dtype=c_dtype, diff_method=None) for name in (OURS, LIGHTNING)}
    say(f"forward, 24 qubits, {c_dtype.__name__}", in_turns({k: functools.partial(f, weights) for k, f in circuits.items()}, 2), "4 x")


@pytest.mark.parametrize(("n", "depth"), [(4, 2), (8, 4), (10, 5), (16, 3)])
def test_jitted_value_and_gradient(n, depth):
    jax.config.update("jax_enable_x64", True)
    weights = jnp.array(random_weights(n, depth))
    peers = {4: (OURS, DEFAULT, LIGHTNING), 8: (OURS, DEFAULT, LIGHTNING)}.get(n, (OURS, LIGHTNING))
    steps, first = {}, {}
    for name in peers:
        steps[name] = jax.jit(jax.value_and_grad(layers(name, n, diff_method="backprop" if name == DEFAULT else "best")))
        begun = time.perf_counter()
        jax.block_until_ready(steps[name](weights))
        first[name] = time.perf_counter() - begun
    found = in_turns({name: functools.partial(ready, f, weights) for name, f in steps.items()}, 30)
    say(f"jit(value_and_grad), {n} qubits, {depth} layers", found, "5 x default.qubit (4 and 8 qubits)")
    print("   first: " + ", ".join(f"{name} {t:.2f} s" for name, t in first.items()), end="")
    jax.config.update("jax_enable_x64", False)


def test_a_thousand_parameter_sets():
    jax.config.update("jax_enable_x64", True)
    weights = jnp.array(random_weights(8, 4, (1000,)))
    ours = jax.jit(jax.vmap(jax.value_and_grad(layers(OURS, 8))))
    theirs = jax.jit(jax.vmap(jax.value_and_grad(layers(DEFAULT, 8, diff_method="backprop"))))
    # PennyLane makes a tape of each set for lightning.qubit, so that time grows with their number: a tenth of them is measured.
    broadcast, some = layers(LIGHTNING, 8, diff_method="adjoint"), pnp.array(random_weights(8, 4, (100,)), requires_grad=True)
    split = f"{LIGHTNING} broadcast (10 times 100 sets)"
    actions: dict[str, Callable[[], Any]] = {
        OURS: functools.partial(ready, ours, weights),
        f"jax.vmap over {DEFAULT}": functools.partial(ready, theirs, weights),
        split: lambda: qml.grad(lambda w: qml.math.sum(broadcast(w)))(some),
    }
    assert np.allclose(actions[split]()[:2], jax.vmap(jax.grad(layers(OURS, 8)))(jnp.array(some[:2])), atol=1e-10)
    found = in_turns(actions, 3)
    found[split] *= 10
    say("1,000 sets, 8 qubits, value and gradient", found, "5 x jax.vmap over default.qubit, 30 x lightning.qubit broadcast")
    jax.config.update("jax_enable_x64", False)


def test_a_plain_call_of_10_qubits():
    weights = random_weights(10, 5)
    circuits = {name: layers(name, 10, diff_method=None) for name in (OURS, LIGHTNING)}
    say("plain call, 10 qubits, 5 layers", in_turns({k: functools.partial(f, weights) for k, f in circuits.items()}, 20), "1 x")


@pytest.mark.parametrize(
    "measure",
    [
        lambda: qml.sample(wires=range(20)),
        lambda: qml.counts(wires=range(20)),
        lambda: qml.probs(wires=range(20)),
        lambda: qml.expval(qml.Z(0) @ qml.Z(1)),
    ],
    ids=["sample", "counts", "probs", "expval"],
)
def test_a_million_shots(measure, request):
    def make(name):
        @qml.qnode(qml.device(name, wires=20, seed=1), diff_method=None)
        def circuit(weights):
            qml.StronglyEntanglingLayers(weights, wires=range(20))
            return measure()

        return qml.set_shots(circuit, 1_000_000)

    weights = random_weights(20, 1)
    circuits = {name: make(name) for name in (OURS, DEFAULT)}
    found = in_turns({k: functools.partial(f, weights) for k, f in circuits.items()}, 2)
    say(f"1,000,000 shots from 20 qubits, {request.node.callspec.id}", found, "5 x")


def molecular_words(n, count):
    """Words as a molecule's have them after the Jordan-Wigner transformation: densities, and exchanges of four orbitals."""
    for orbitals in itertools.chain(itertools.combinations(range(n), 1), itertools.combinations(range(n), 2)):
        count -= 1
        yield dict.fromkeys(orbitals, "Z")
    for p, q, r, s in itertools.combinations(range(n), 4):
        strings = dict.fromkeys([*range(p + 1, q), *range(r + 1, s)], "Z")
        for paulis in itertools.product("XY", repeat=4):
            if paulis.count("Y") % 2 == 0:
                if not count:
                    return
                count -= 1
                yield strings | dict(zip((p, q, r, s), paulis, strict=True))


def test_gradient_of_a_molecular_hamiltonian():
    n = 16
    words = [qml.pauli.PauliWord(w).operation(wire_order=range(n)) for w in molecular_words(n, 10_000)]
    hamiltonian = qml.dot(np.random.default_rng(1).normal(size=len(words)), words)
    weights = pnp.array(random_weights(n, 3), requires_grad=True)

    def make(name):
        @qml.qnode(qml.device(name, wires=n), diff_method="adjoint")
        def circuit(weights):
            qml.StronglyEntanglingLayers(weights, wires=range(n))
            return qml.expval(hamiltonian)

        return lambda: qml.grad(circuit)(weights)

    say(f"gradient, 16 qubits, {len(words):,} words", in_turns({name: make(name) for name in (OURS, LIGHTNING)}, 2), "3 x")


_MEMORY = """
    import sys, resource
    import numpy as np, pennylane as qml
    from pennylane import numpy as pnp

    def run(n, gradient):
        @qml.qnode(qml.device("hybridjobs.qubit", wires=n), diff_method="adjoint")
        def circuit(weights):
            qml.StronglyEntanglingLayers(weights, wires=range(n))
            return qml.expval(qml.Z(0) @ qml.X(1) + qml.Y(2))

        (qml.grad(circuit) if gradient else circuit)(pnp.array(np.ones((1, n, 3)), requires_grad=True))

    run(15, sys.argv[1] == "gradient")
    now = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    run(26, sys.argv[1] == "gradient")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - now) / (16 << 26))
"""


@pytest.mark.parametrize(("what", "target"), [("forward", 1.05), ("gradient", 3.05)])
def test_memory_at_26_qubits(what, target):
    command = [sys.executable, "-c", textwrap.dedent(_MEMORY), what]
    states = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"\n{'memory, 26 qubits, ' + what:<46} {states:10.4f} states   target {target}", end="")
