"""What functions reach, and copies of functions with some of it replaced."""
# ruff: noqa: PLW0108 - what stands in the lambdas is what is to be found

from __future__ import annotations

import enum
import functools
import random
import sys
import types
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from pl_hybridjobs.training.circuits import Reached, reach, replaced

DEVICE = qml.device("default.qubit", wires=1)
OTHER = qml.device("default.qubit", wires=2)


@qml.qnode(DEVICE)
def circuit(x):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))


def other_circuit(x):
    """Stands in for ``circuit``."""
    return 100 + x


def cost(x):
    return circuit(x)


def cost_in_a_lambda(x):
    return (lambda z: (lambda y: circuit(y))(z))(x)


def cost_in_a_comprehension(x):
    return sum([circuit(y) for y in [x]])


def cost_by_default(x, circuit=circuit):
    return circuit(x)


def cost_by_keyword(x, *, run=circuit):
    return run(x)


def cost_in_a_closure():
    inner = circuit

    def cost(x):
        return inner(x)

    return cost


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


class Model:
    shared = circuit

    def __init__(self):
        self.circuit = circuit

    def cost(self, x):
        return self.circuit(x)

    def by_helper(self, x):
        return self.helper(x)

    def helper(self, x):
        return circuit(x)

    @staticmethod
    def static(x):
        return circuit(x)

    @classmethod
    def of_class(cls, x):
        return cls.shared(x)

    @property
    def value(self):
        raise AssertionError("nobody may ask")


class Inheriting(Model):
    def helper(self, x):
        return super().helper(x)


class Callable:
    def __call__(self, x):
        return circuit(x)


class Slotted:
    __slots__ = ("__private", "circuit", "empty")

    def __init__(self):
        self.circuit = self.__private = circuit

    def cost(self, x):
        return self.circuit(x) + self.__private(x) - self.circuit(x)


@dataclass(frozen=True)
class Frozen:
    run: Any

    def cost(self, x):
        return self.run(x)


Pair = namedtuple("Pair", ["first", "second"])
PAIR, TABLE, ORDERED = Pair(circuit, 1), {"a": {"b": circuit}}, OrderedDict(run=circuit)
ROWS: Any = [0, (circuit,)]
NAMES = types.SimpleNamespace(circuit=circuit)


def users_module():
    module: Any = types.ModuleType("users_circuits")
    module.__dict__.update(circuit=circuit, other=OTHER)
    module.inner = types.ModuleType("users_circuits.inner")
    module.inner.circuit = circuit
    return module


users_circuits = users_module()

WAYS = {
    "a circuit": circuit,
    "a global name": cost,
    "a lambda": lambda x: circuit(x),
    "a nested lambda": cost_in_a_lambda,
    "a comprehension": cost_in_a_comprehension,
    "a default": cost_by_default,
    "a keyword's default": cost_by_keyword,
    "a closure": cost_in_a_closure(),
    "functools.partial": functools.partial(cost),
    "an argument of functools.partial": functools.partial(lambda run, x: run(x), circuit),
    "a keyword of functools.partial": functools.partial(lambda x, run: run(x), run=circuit),
    "a decorated function": decorated(cost),
    "a decorated circuit": decorated(circuit),
    "a cached function": functools.lru_cache(maxsize=3)(cost),
    "an attribute of a bound method": Model().cost,
    "another method": Model().by_helper,
    "a method of a base": Inheriting().by_helper,
    "a static method": Model.static,
    "a class method": Model.of_class,
    "a class": lambda x: Model().cost(x),
    "an instance": lambda x, model=Model(): model.cost(x),  # noqa: B008 - as users write
    "a callable instance": Callable(),
    "slots": Slotted().cost,
    "a frozen dataclass": Frozen(circuit).cost,
    "a named tuple": lambda x: PAIR.first(x),
    "dictionaries": lambda x: TABLE["a"]["b"](x),
    "a list of tuples": lambda x: ROWS[1][0](x),
    "an ordered dictionary": lambda x: ORDERED["run"](x),
    "a namespace": lambda x: NAMES.circuit(x),
    "a module": lambda x: users_circuits.circuit(x),
    "a module in a module": lambda x: users_circuits.inner.circuit(x),
    "qml.grad": lambda x: qml.grad(circuit, argnums=0)(x),
    "functools.reduce": lambda x: functools.reduce(lambda y, run: run(y), [circuit], x),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_circuit_is_found_and_replaced_in(way):
    function, stand_in = WAYS[way], other_circuit if way != "qml.grad" else lambda x: 100 * x
    expected = 100.0 if way == "qml.grad" else 100.5
    before = function(0.5)

    assert circuit in reach(function).qnodes
    assert DEVICE in reach(function).devices
    assert replaced(function, {circuit: stand_in})(0.5) == expected
    assert function(0.5) == before, "the original stays what it was"
    assert before != expected


@pytest.mark.parametrize("way", WAYS)
def test_a_device_is_replaced_in(way):
    copied = replaced(WAYS[way], {DEVICE: OTHER})

    with qml.Tracker(DEVICE) as replaced_device, qml.Tracker(OTHER) as other_device:
        assert copied(0.3) == WAYS_AT_03[way]
    assert not replaced_device.totals
    assert other_device.totals["batches"] > 0
    assert circuit.device is DEVICE
    assert circuit._init_args["device"] is DEVICE


WAYS_AT_03 = {way: function(0.3) for way, function in WAYS.items()}


def test_functions_of_jax_are_looked_through():
    import jax

    for function in jax.jit(cost), jax.vmap(cost), jax.grad(cost), jax.value_and_grad(jax.jit(cost)):
        assert reach(function).qnodes == (circuit,)
    assert replaced(jax.jit(cost), {circuit: other_circuit})(0.5) == 100.5
    assert replaced(jax.vmap(cost), {circuit: other_circuit})(jax.numpy.ones(3)).tolist() == [101, 101, 101]
    assert replaced(jax.grad(cost), {circuit: other_circuit})(0.5) == 1


def test_layers_of_torch_are_looked_through(torch):
    @qml.qnode(DEVICE)
    def layer(inputs, weights):
        qml.RX(inputs[..., 0] + weights, 0)
        return qml.expval(qml.Z(0))

    model = torch.nn.Sequential(qml.qnn.TorchLayer(layer, {"weights": ()}), torch.nn.Flatten(0))
    copied = replaced(model, {DEVICE: OTHER})

    with qml.Tracker(DEVICE) as replaced_device, qml.Tracker(OTHER) as other_device:
        result = copied(torch.ones(4, 1))
    assert reach(model).devices == (DEVICE,)
    assert not replaced_device.totals
    assert other_device.totals["batches"] == 1
    assert torch.equal(result, model(torch.ones(4, 1)))
    assert all(ours is theirs for ours, theirs in zip(copied.parameters(), model.parameters(), strict=True))


def test_qnodes_come_in_the_order_of_the_code():
    nodes = [qml.QNode(lambda x: qml.expval(qml.Z(0)), device) for device in (OTHER, DEVICE, OTHER)]
    first, second, third = nodes

    def objective(x):
        return second(x) + third(x) + first(x) + second(x)

    functions = [lambda x: second(x), lambda x: first(x)]

    assert set(reach(objective).qnodes) == set(nodes)
    assert reach(objective) == reach(objective)
    assert reach(functions) == Reached((second, first), (DEVICE, OTHER))


def test_generators_are_found():
    ours, old, python = np.random.default_rng(1), np.random.RandomState(2), random.Random(3)
    holder = types.SimpleNamespace(old=old)

    def objective(x, rng=python):
        return ours.normal() + holder.old.normal() + rng.random()

    assert set(reach(objective).generators) == {ours, old, python}


def test_what_is_not_used_is_not_reached():
    def objective(x):
        return np.sin(x) + qml.math.sum(x)

    assert reach(objective) == Reached()
    assert replaced(objective, {circuit: other_circuit}) is objective
    assert replaced(cost, {}) is cost


@pytest.mark.parametrize(
    "function",
    [
        lambda x: qml.QNode(circuit.func, qml.device("default.qubit"))(x),
        lambda x: qml.devices.DefaultQubit().name,
        lambda x, make=qml.device: make("default.qubit"),
        lambda x: Maker().device,
    ],
)
def test_a_function_that_makes_devices_is_known(function):
    assert reach(function).makes_devices


def test_a_function_that_imports_pennylane_when_it_runs_is_known():
    def objective(x):
        import pennylane

        return pennylane.device("default.qubit")

    assert reach(objective).makes_devices


class Maker:
    def __init__(self):
        self.device: Any = qml.device("default.qubit")

    def cost(self, x):
        return qml.execute([qml.tape.QuantumScript([qml.RX(x, 0)], [qml.expval(qml.Z(0))])], self.device)[0]


def test_an_instance_that_has_made_its_device_makes_no_more():
    maker = Maker()

    assert reach(maker.cost) == Reached(devices=(maker.device,))


def test_a_module_is_replaced_wherever_it_is_named():
    import jax

    def by_alias(x):
        return pnp.sin(x)

    def by_path(x):
        return qml.numpy.sin(x) + qml.math.cos(x)

    copied = replaced([by_alias, by_path], {qml.numpy: jax.numpy})

    assert all(isinstance(function(0.5), jax.Array) for function in copied)
    assert not isinstance(by_path(0.5), jax.Array)
    assert qml.numpy is pnp
    assert sys.modules["pennylane"] is qml


def test_functions_that_refer_to_themselves_and_to_each_other():
    def even(n):
        return circuit(0.0) if n == 0 else odd(n - 1)

    def odd(n):
        return -1 if n == 0 else even(n - 1)

    table: list[Any] = [even]
    table.append(table)
    copied = replaced(even, {circuit: lambda x: 7})

    assert (copied(4), even(4)) == (7, 1)
    assert replaced(countdown, {circuit: lambda x: 7})(3) == 7
    assert replaced(table, {circuit: lambda x: 7})[1][1][0](2) == 7
    assert table[1] is table


def countdown(n):
    return circuit(0.0) if n == 0 else countdown(n - 1)


def test_what_is_shared_stays_shared():
    total = [0.0]
    state = 0

    def add(x):
        nonlocal state
        state += 1
        total[0] += circuit(x)

    def read():
        return total[0], state

    for isolated, expected in (True, (100.0, 1)), (False, (100.0, 1)):
        copied_add, copied_read = replaced((add, read), {circuit: lambda x: 100.0}, isolated=isolated)
        copied_add(0.0)
        assert copied_read() == expected
        assert read() == ((0.0, 0) if isolated else expected), (
            "an isolated copy leaves no trace; another one shares all but what is replaced"
        )


class Colour(enum.Enum):
    RED = 1


class Missing:
    pass


class Closing:
    closed: ClassVar[list[int]] = []

    def __init__(self):
        self.circuit = None

    def __del__(self):
        self.closed.append(1)


MISSING, CLOSING = Missing(), Closing()


def test_isolated_copies_keep_identities_that_code_asks_for():
    def objective(x, colour=Colour.RED, default=MISSING):
        return colour is Colour.RED and default is MISSING and CLOSING.circuit is None and circuit(x)

    assert replaced(objective, {circuit: other_circuit}, isolated=True)(1.0) == 101
    assert not Closing.closed


def test_transforms_and_new_circuits_use_the_replaced_device():
    def objective(x):
        more = qml.set_shots(circuit, 7)
        merged = qml.transforms.merge_rotations(circuit.update(diff_method="parameter-shift"))
        return more(x) + merged(x)

    copied = replaced(objective, {DEVICE: OTHER})

    with qml.Tracker(DEVICE) as replaced_device, qml.Tracker(OTHER) as other_device:
        copied(0.3)
    assert not replaced_device.totals
    assert (other_device.totals["executions"], other_device.totals["shots"]) == (2, 7)


def test_what_cannot_be_copied_says_so():
    class Locked:
        def __init_subclass__(cls):
            raise TypeError("no subclasses")

        def cost(self, x):
            return circuit(x)

    with pytest.raises(TypeError, match=r"cannot copy the class .*Locked, which uses what is to be replaced: no subclasses"):
        replaced(lambda x: Locked().cost(x), {circuit: other_circuit})


def test_a_search_without_end_is_cut_off():
    class Chain:
        def __init__(self, next_one):
            self.next_one = next_one

    chain = None
    for _ in range(60_000):
        chain = Chain(chain)

    assert not reach(lambda x, chain=chain: x).complete
    while chain is not None:  # a chain this long cannot be freed at once
        chain = chain.next_one
