"""Values go to JSON and arrays and come back as they went."""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
import math
import os
import random
import struct
import subprocess
import sys
import threading
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pl_hybridjobs.errors import CodecError
from pl_hybridjobs.jobs import codec


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Config:
    depth: int
    names: list = field(default_factory=list)

    def __post_init__(self):
        raise AssertionError("must not run when read back")


@dataclass(frozen=True, slots=True)
class Frozen:
    x: float


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Vector(namedtuple("Vector", ["x", "y"])):  # noqa: SLOT002 - that it has a __dict__ is the point
    """As people add methods to a namedtuple."""

    name: str


class Typed(NamedTuple):
    x: int
    y: object = None


class Hidden:
    __slots__ = ("hidden",)
    hidden: object


@dataclass
class Partial(Hidden):
    """Has a slot of its base, a field that may be unset, and whatever is hung on it."""

    x: int
    later: int = field(init=False)


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T


def in_python(code: str, *args: str, **env: str) -> str:
    """What a fresh Python prints."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env}
    return subprocess.run([sys.executable, "-c", code, *args], env=env, check=True, capture_output=True, text=True).stdout


def back(value):
    return codec.loads(*codec.dumps(value))


def bits(value: float) -> bytes:
    return struct.pack("d", value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
)
KEYS = st.text() | st.integers() | st.booleans() | st.tuples(st.integers(), st.text())
NESTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.integers() | st.text(), max_size=4)
        | st.frozensets(st.text(), max_size=4)
    ),
    max_leaves=12,
)


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(NESTS)
def test_any_nest_of_plain_values_comes_back_with_its_types(value):
    assert same(back(value), value)


@given(NESTS)
def test_equal_values_give_equal_bytes_and_strict_json(value):
    tree, arrays = codec.dumps(value)

    assert codec.dumps(value) == (tree, arrays)
    json.loads(tree, parse_constant=lambda name: pytest.fail(f"bare {name} in the JSON"))


@given(st.floats())
def test_a_float_keeps_every_bit_that_matters(value):
    returned = back([value])[0]

    assert math.isnan(returned) if math.isnan(value) else bits(returned) == bits(value)


@given(npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0)))
def test_a_numpy_array_keeps_dtype_shape_and_bytes(array):
    returned = back({"a": array})["a"]

    assert returned.dtype == array.dtype
    assert returned.shape == array.shape
    assert returned.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "scalar", [np.float64(0.1), np.int8(-3), np.complex64(1 + 2j), np.bool_(True), np.datetime64("2026-01-01")], ids=repr
)
def test_a_numpy_scalar_is_no_python_scalar_afterwards(scalar):
    assert type(back(scalar)) is type(scalar)
    assert back(scalar) == scalar


def test_structured_arrays_come_back():
    array = np.array([(1, 2.5), (3, 4.5)], dtype=[("i", "i4"), ("x", "f8")])

    assert (back(array) == array).all()


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Pair(1, [2]), Frozen(0.5), range(1, 9, 2), Path("a/b"), OrderedDict([("b", 1), ("a", 2)]), {"$type": "list", "~": 1}],
    ids=repr,
)
def test_classes_of_the_standard_kinds_come_back_as_themselves(value):
    assert same(back(value), value)


def test_a_dataclass_is_filled_without_running_its_code():
    made = object.__new__(Config)
    made.depth, made.names = 3, ["a"]

    returned = back(made)

    assert (type(returned), returned.depth, returned.names) == (Config, 3, ["a"])


def test_numpy_generators_go_on_where_they_were():
    generator = np.random.default_rng(7)
    generator.normal(size=5)
    copy = back({"rng": generator})["rng"]

    assert (copy.normal(size=9) == generator.normal(size=9)).all()


def test_pythons_random_goes_on_where_it_was():
    source = random.Random(5)
    source.gauss(0, 1)
    copy = back(source)

    assert [copy.gauss(0, 1) for _ in range(5)] == [source.gauss(0, 1) for _ in range(5)]


def test_jax_arrays_and_keys_come_back():
    import jax
    import jax.numpy as jnp

    values = {"f": jnp.arange(3.0), "b": jnp.ones((2, 2), jnp.bfloat16), "old": jax.random.PRNGKey(3), "new": jax.random.key(4)}
    returned = back(values)

    for name, value in values.items():
        assert returned[name].dtype == value.dtype
        assert (
            (jax.random.key_data(returned[name]) == jax.random.key_data(value)).all()
            if name in ("old", "new")
            else (returned[name] == value).all()
        )
    assert jax.random.normal(returned["new"]) == jax.random.normal(values["new"])


def test_a_jax_tracer_is_refused_with_its_path():
    import jax

    def inside(x):
        codec.dumps({"x": x})
        return x

    with pytest.raises(CodecError, match=r"x"):
        jax.jit(inside)(1.0)


def test_optax_states_come_back():
    import jax.numpy as jnp
    import optax

    optimizer = optax.adam(0.1)
    params = {"w": jnp.ones(3)}
    state = optimizer.init(params)
    _, state = optimizer.update({"w": jnp.full(3, 0.5)}, state)
    returned = back(state)

    assert type(returned) is type(state)
    assert type(returned[0]) is type(state[0])
    assert (returned[0].mu["w"] == state[0].mu["w"]).all()


def test_pennylane_tensors_and_optimizers_come_back():
    import pennylane as qml
    from pennylane import numpy as pnp

    optimizer = qml.AdamOptimizer(0.3)
    params = pnp.array([0.1, 0.2], requires_grad=True)
    params = optimizer.apply_grad([np.array([0.5, 0.5])], [params])[0]
    copy = back({"o": optimizer, "p": pnp.array(params, requires_grad=True), "fixed": pnp.array([1.0], requires_grad=False)})

    assert type(copy["o"]) is qml.AdamOptimizer
    assert copy["p"].requires_grad
    assert not copy["fixed"].requires_grad
    expected = optimizer.apply_grad([np.array([0.1, 0.1])], [params])[0]
    assert (copy["o"].apply_grad([np.array([0.1, 0.1])], [params])[0] == expected).all()


def test_torch_tensors_come_back(torch):
    module = torch.nn.Linear(2, 3)
    values = {
        "state": module.state_dict(),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "g": torch.ones(2, requires_grad=True),
        "s": torch.tensor(1.5),
    }
    returned = back(values)

    assert returned["g"].requires_grad
    assert returned["b"].dtype == torch.bfloat16
    assert returned["s"].shape == ()
    assert all((returned["state"][name] == tensor).all() for name, tensor in values["state"].items())


def test_all_that_cannot_be_stored_is_named_by_its_path():
    with pytest.raises(CodecError) as caught:
        codec.dumps({"model": {"layers": [1, threading.Lock()]}, "f": lambda: 0}, where="state")

    assert '["model"]["layers"][1]' in str(caught.value).replace("'", '"')
    assert '["f"]' in str(caught.value).replace("'", '"')


def test_a_cycle_is_an_error_and_no_recursion():
    cycle: list = []
    cycle.append(cycle)

    with pytest.raises(CodecError):
        codec.dumps(cycle)


def test_a_very_deep_nest_is_an_error_and_no_recursion():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(CodecError):
        codec.dumps(deep)


def test_a_subclass_of_a_builtin_is_not_silently_changed():
    class Special(list):
        pass

    with pytest.raises(CodecError, match="Special"):
        codec.dumps(Special([1]))


def test_object_arrays_are_refused():
    with pytest.raises(CodecError):
        codec.dumps(np.array([object()]))


def test_a_class_made_in_a_function_is_refused_when_it_is_stored():
    @dataclass
    class Local:
        x: int = 1

    with pytest.raises(CodecError, match="Local"):
        codec.dumps(Local())


def test_data_cannot_name_code_to_be_run(tmp_path):
    bomb = tmp_path / "bomb"
    tree, _ = codec.dumps(Frozen(0.5))
    name = f"{Frozen.__module__}:Frozen"
    for target in ("subprocess:Popen", "os:system", "builtins:exec", "collections:OrderedDict"):
        with pytest.raises(CodecError):
            codec.loads(tree.replace(name.encode(), target.encode()), None)
    assert not bomb.exists()


def test_reading_a_value_imports_no_local_module(tmp_path, monkeypatch):
    script = tmp_path / "own_local_script.py"
    script.write_text("raise SystemExit('its top-level code ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    tree, _ = codec.dumps(Frozen(0.5))

    with pytest.raises(CodecError, match="import own_local_script"):
        codec.loads(tree.replace(Frozen.__module__.encode(), b"own_local_script"), None)


def test_the_plain_view_needs_no_class():
    tree, arrays = codec.dumps({"p": Pair(1, 1 + 2j), "a": np.eye(2), "n": math.nan, "d": Decimal("1.5"), "f": Fraction(1, 3)})

    view = codec.to_plain(*codec.read(tree, arrays))

    assert view["a"] == [[1.0, 0.0], [0.0, 1.0]]
    assert view["n"] == "nan"
    assert json.dumps(view, allow_nan=False)


def test_times_with_zones_come_back():
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

    assert same(back(when), when)
    assert back(when).utcoffset() == when.utcoffset()


SPECIAL = {
    "minus zero": -0.0,
    "infinity": -math.inf,
    "integers of thousands of digits": [10**6000, -(2**63) - 1, 2**63],
    "complex of odd parts": complex(-0.0, math.inf),
    "lone surrogates": ["\ud800", {"\ud83d\ude00": "\ud83d\ude00"}],
    "zeros and separators in text": {"\0": "\u2028\0"},
    "a dict with our own tag": {"$type": "tuple", "items": [1], 3: {"$type": 1}},
    "keys of many types": {1: "a", "1": "b", (1, "x"): "c", None: "d", 2.5: "e", frozenset({1, (2, 3)}): "f"},
    "sets": [{1, "a", None, (1, 2)}, frozenset({frozenset({1}), 2})],
    "default dict": defaultdict(list, {1: [2]}),
    "counter": Counter("aab"),
    "deque": deque([1, 2], maxlen=3),
    "slice and ellipsis": [slice(None, 3, -1), ...],
    "flags": [Mode.READ, Mode.READ | Mode.WRITE, Mode(0)],
    "typed namedtuple": Typed(1, (2,)),
    "zone": datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "utc": [datetime.UTC, datetime.time(1, 2, 3, 4, tzinfo=datetime.UTC)],
    "uuid": uuid.UUID(int=5),
    "bytearray": bytearray(b"\0\xff"),
    "namespace": types.SimpleNamespace(a=1),
    "generic dataclass": Box[int](3),
    "numpy text": [np.str_("a\0"), np.bytes_(b"a\0")],
    "numpy odd scalars": [np.uint64(2**64 - 1), np.longdouble(0.1), np.timedelta64(3, "D"), np.longlong(2), np.void(b"abc")],
    "dtypes": [np.dtype(">f4"), np.dtype([("a", "i4")])],
}


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL.keys())
def test_the_odd_corners_of_each_type_come_back(value):
    returned = back(value)

    assert same(returned, value)
    if not isinstance(value, set | list):
        assert repr(returned) == repr(value)


def test_an_ordered_dict_keeps_the_order_that_it_was_given_later():
    value = OrderedDict(a=1, b=2, c=3)
    value.move_to_end("a")

    assert list(back(value)) == ["b", "c", "a"]


@pytest.mark.parametrize("pattern", ["7ff8000000000123", "fff8000000000000", "7ff0000000000001"])
def test_a_nan_keeps_its_payload(pattern):
    value = struct.unpack(">d", bytes.fromhex(pattern))[0]

    assert struct.pack(">d", back(value)).hex() == struct.pack(">d", value).hex()


def test_all_that_hangs_on_an_instance_comes_back():
    made = Partial(1)
    made.hidden = [2]
    made.noted = (3,)  # type: ignore[attr-defined]
    vector = Vector(1, 2)
    vector.name = "v"

    returned, returned_vector = back([made, vector])

    assert (returned.x, returned.hidden, returned.noted, hasattr(returned, "later")) == (1, [2], (3,), False)
    assert (type(returned_vector), returned_vector, returned_vector.name) == (Vector, vector, "v")


ARRAYS = {
    "Fortran order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(12).reshape(3, 4)[::-2, ::3],
    "empty": np.zeros((0, 3), "c8"),
    "other byte order": np.arange(3, dtype=">i2"),
    "text": np.array(["a", "\0b", "\u00e9"]),
    "no time": np.array(["2026-01-01", "NaT"], "M8[ns]"),
    "structured, aligned": np.zeros(2, np.dtype([("a", "i1"), ("\u00e9", "f8", (2,))], align=True)),
    "names in other scripts": np.zeros(2, [("\u03b8", "f8")]),
    "many fields": np.zeros(1, [(f"field_{i:05d}", "f4") for i in range(5000)]),
    "strings of any length": np.array(["x", "yyy"], np.dtypes.StringDType()),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_the_odd_corners_of_numpy_arrays_come_back(array):
    returned = back({"a": array})["a"]

    assert (returned.dtype, returned.shape) == (array.dtype, array.shape)
    assert (returned == array).all() or array.dtype.kind == "M"
    assert returned.tobytes() == array.tobytes()
    assert returned.flags.writeable
    assert returned.flags.fnc == array.flags.fnc


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_short_floats_come_back_as_arrays_and_as_scalars(name):
    import ml_dtypes

    array = np.array([1, -2, 3], getattr(ml_dtypes, name))
    returned, scalar = back([array[::2], array[1]])

    assert (returned.dtype, returned.tobytes()) == (array.dtype, array[::2].tobytes())
    assert type(scalar) is type(array[1])
    assert scalar == array[1]


def test_a_decoded_array_is_nobody_elses():
    array = np.arange(3.0)
    encoded = codec.encode(array)

    codec.decode(encoded.tree, encoded.arrays)[0] = 9

    assert array[0] == 0


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_every_bit_generator_goes_on_where_it_was(name):
    generator = np.random.Generator(getattr(np.random, name)(3))
    generator.integers(3, size=3, dtype="u4")  # leaves half a word behind
    generator.spawn(2)
    copy = back(generator)

    assert (copy.random(5) == generator.random(5)).all()
    assert copy.spawn(1)[0].random() == generator.spawn(1)[0].random()


def test_old_numpy_generators_go_on_where_they_were():
    old = np.random.RandomState(3)
    old.normal()  # leaves the second of a pair behind

    assert (back(old).normal(size=3) == old.normal(size=3)).all()


def test_jax_arrays_keep_weak_types_and_every_kind_of_key():
    import jax
    import jax.numpy as jnp

    for array in (jnp.asarray(0.1), jnp.full((2,), 0.1), jnp.asarray(3), jnp.arange(3), jnp.ones(2, jnp.int4), jnp.zeros((0, 2))):
        returned = back([array])[0]
        assert (returned.dtype, returned.shape, returned.weak_type) == (array.dtype, array.shape, array.weak_type)
        assert np.asarray(returned).tobytes() == np.asarray(array).tobytes()
    for impl in ("threefry2x32", "rbg", "unsafe_rbg"):
        keys = jax.random.split(jax.random.key(1, impl=impl), 3)
        returned = back(keys)
        assert (returned.dtype, returned.shape) == (keys.dtype, keys.shape)
        assert (jax.random.key_data(returned) == jax.random.key_data(keys)).all()


def test_64_bit_jax_arrays_come_back_where_jax_has_them_switched_off():
    import jax
    import jax.numpy as jnp

    with jax.experimental.enable_x64() if not hasattr(jax, "enable_x64") else jax.enable_x64(True):
        values = [jnp.arange(3.0) / 3, jnp.asarray(2**40), jnp.ones(2) * 1j]

    for value, returned in zip(values, back(values), strict=True):
        assert returned.dtype == value.dtype
        assert np.asarray(returned).tobytes() == np.asarray(value).tobytes()


def test_a_jax_array_without_data_is_named():
    import jax.numpy as jnp

    gone = jnp.ones(3)
    gone.delete()

    with pytest.raises(CodecError, match=r'^state\["gone"\] is a jax array that cannot be read'):
        codec.dumps({"gone": gone}, where="state")


def test_values_under_differentiation_are_named_with_the_remedy():
    import jax
    import pennylane as qml
    from pennylane import numpy as pnp

    def keep(x):
        codec.dumps([x])
        return x * x

    for differentiate, x in ((jax.grad(keep), 1.0), (jax.vmap(keep), np.ones(2)), (qml.grad(keep), pnp.array(1.0, requires_grad=True))):
        with pytest.raises(CodecError, match=r"^value\[0\] is an? .*: store it outside|^value\[0\] is a jax tracer.*store it outside"):
            differentiate(x)


def test_states_of_many_optax_optimizers_come_back():
    import jax
    import optax

    params = {"w": np.ones((2, 2), "f4"), "b": np.zeros(2, "f4")}
    optimizers = [
        optax.chain(optax.clip(1.0), optax.adamw(optax.linear_schedule(1.0, 0.0, 10))),
        optax.inject_hyperparams(optax.adam)(0.1),
        optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.1, momentum=0.9)}, {"w": "a", "b": "b"}),
        optax.masked(optax.adam(0.1), {"w": True, "b": False}),
        optax.lbfgs(),
    ]
    for optimizer in optimizers:
        state = optimizer.init(params)
        returned = back(state)
        assert jax.tree.structure(returned) == jax.tree.structure(state)
        for a, b in zip(jax.tree.leaves(returned), jax.tree.leaves(state), strict=True):
            assert (a.dtype, np.asarray(a).tobytes()) == (b.dtype, np.asarray(b).tobytes())


def test_every_optimizer_of_pennylane_comes_back_but_those_that_hold_a_circuit():
    import pennylane as qml

    circuits = {"RiemannianGradientOptimizer"}
    arguments = {"SPSAOptimizer": (10,), "ShotAdaptiveOptimizer": (10,)}
    names = [n for n in vars(qml.optimize) if n.endswith("Optimizer") and n not in circuits]
    assert len(names) > 10
    for name in names:
        optimizer = getattr(qml, name)(*arguments.get(name, ()))
        returned = back({"o": optimizer})["o"]
        assert type(returned) is type(optimizer)
        rngs = [k for k, v in vars(optimizer).items() if isinstance(v, np.random.Generator)]
        assert {k: repr(v) for k, v in vars(returned).items() if k not in rngs} == {
            k: repr(v) for k, v in vars(optimizer).items() if k not in rngs
        }
        assert all(type(vars(returned)[k]) is type(vars(optimizer)[k]) for k in rngs)


def test_pennylanes_own_generators_go_on_where_they_were():
    from pennylane import numpy as pnp

    generator = pnp.random.default_rng(3)
    generator.normal()
    returned = back(generator)

    assert type(returned) is type(generator)
    assert (returned.normal(size=3) == generator.normal(size=3)).all()


def test_the_odd_corners_of_torch_come_back(torch):
    values = [
        torch.zeros(0, 3, dtype=torch.bfloat16),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.float8_e4m3fn),
        torch.ones(2, dtype=torch.complex64).mul(1j).conj(),
        torch.arange(6).reshape(2, 3).T,
        torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16), requires_grad=False),
        torch.nn.Parameter(torch.ones(2)),
    ]
    for value, returned in zip(values, back(values), strict=True):
        assert type(returned) is type(value)
        assert (returned.dtype, returned.shape, returned.requires_grad) == (value.dtype, value.shape, value.requires_grad)
        assert torch.equal(returned.float() if value.dtype.itemsize < 4 else returned, value.float() if value.dtype.itemsize < 4 else value)
    assert back([torch.Size([1]), torch.float32, torch.device("cpu")]) == [torch.Size([1]), torch.float32, torch.device("cpu")]


def test_torch_modules_optimizers_and_generators_go_on_from_their_states(torch):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(3)
    state = back({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "rng": generator})

    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    assert state["module"]._metadata == module.state_dict()._metadata
    assert torch.equal(torch.rand(3, generator=state["rng"]), torch.rand(3, generator=generator))
    for live in (module, optimizer):
        with pytest.raises(CodecError, match=r"store its \.state_dict\(\)"):
            codec.dumps(live)


def _optax_transform():
    import optax

    return optax.adam(0.1)


REFUSED = {
    "lock": (threading.Lock, "is a threading.Lock: store plain data instead"),
    "optax": (_optax_transform, r"holds functions: store the state that optimizer.init\(params\) gives"),
    "recarray": (lambda: np.rec.array([(1,)], dtype=[("a", "i4")]), "subclass of numpy.ndarray: convert it"),
    "record": (lambda: np.rec.array([(1,)], dtype=[("a", "i4")])[0], r"store x.item\(\)"),
    "masked": (lambda: np.ma.array([1]), "store x.data and x.mask"),
    "objects": (lambda: np.array([None]), "has no portable form"),
    "overlapping": (lambda: np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})), "no portable form"),
    "generator": (lambda: (i for i in [1]), r"store list\(x\)"),
    "factory": (lambda: defaultdict(lambda: 0), r"store dict\(x\)"),
    "function": (lambda: print, "store plain data"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_stored_is_named_with_the_remedy(make, message):
    with pytest.raises(CodecError, match=rf'^state\["a"\]\[1\].*{message}'):
        codec.dumps({"a": [0, make()]}, where="state")


def test_cycles_are_named_whatever_they_go_through():
    inner: dict = {}
    box = Box([inner])
    inner["again"] = box

    with pytest.raises(CodecError, match=r'^value\.content\[0\]\["again"\] is value again, a cycle'):
        codec.dumps(box)


def test_what_is_shared_without_a_cycle_is_stored_twice():
    shared = [1]

    assert back({"a": shared, "b": [shared, shared]}) == {"a": [1], "b": [[1], [1]]}


def test_nests_up_to_the_limit_come_back_and_deeper_ones_do_not():
    def nested(levels: int) -> object:
        value: object = 0
        for i in range(levels):
            value = {i: value} if i % 2 else (value,)
        return value

    assert back(nested(128)) == nested(128)
    with pytest.raises(CodecError, match="nested more than 128 levels deep: flatten it"):
        codec.dumps(nested(129))
    with pytest.raises(CodecError):
        codec.loads(b"[" * 100_000 + b"]" * 100_000, None)


def test_bytes_do_not_depend_on_the_hash_seed():
    code = """
import sys, numpy as np
from pl_hybridjobs.jobs import codec
text, arrays = codec.dumps([{"b", "a", "c", ("x", 1)}, {frozenset("abcdef")}, np.arange(3)])
sys.stdout.write(text.hex() + arrays.hex())
"""
    assert in_python(code, PYTHONHASHSEED="1") == in_python(code, PYTHONHASHSEED="2")


def test_small_values_load_nothing_heavy():
    code = """
import sys
from pl_hybridjobs.jobs import codec
codec.loads(*codec.dumps({"a": [1, 2.5, None, (1, 1j, b"x")], "nan": float("nan")}))
print({"numpy", "jax", "torch", "pennylane", "zipfile"} & set(sys.modules))
"""
    assert in_python(code).strip() == "set()"


def test_classes_of_installed_packages_are_imported_when_they_are_needed():
    import optax

    tree, arrays = codec.dumps(optax.EmptyState())
    code = """
import sys
from pl_hybridjobs.jobs import codec
assert "optax" not in sys.modules
print(codec.loads(sys.argv[1].encode(), None))
"""
    assert arrays is None
    assert in_python(code, tree.decode(), JAX_PLATFORMS="cpu").strip() == "EmptyState()"


def test_a_local_module_is_imported_only_where_that_is_allowed(tmp_path):
    (tmp_path / "own_module.py").write_text("from dataclasses import dataclass\n@dataclass\nclass State:\n    x: int\n")
    tree = b'{"$type": "dataclass", "class": "own_module:State", "fields": {"x": 1}}'
    code = """
import sys
from pl_hybridjobs.jobs import codec
sys.path.append(sys.argv[1])
print(codec.loads(sys.argv[2].encode(), None, allow_import=True))
"""
    assert in_python(code, str(tmp_path), tree.decode()).strip() == "State(x=1)"
    with pytest.raises(CodecError, match="do `import own_module` first"):
        codec.loads(tree, None)


@pytest.mark.parametrize("module", ["antigravity", "idlelib.idle", "pip.__main__", "test.autotest"])
def test_modules_that_do_something_when_imported_are_left_alone(module):
    with pytest.raises(CodecError, match="not imported here"):
        codec.loads(f'{{"$type": "enum", "class": "{module}:X", "name": "Y"}}'.encode(), None, allow_import=True)
    assert module not in sys.modules


def test_a_class_of_main_that_came_in_a_bundle_is_found_among_the_living():
    made = types.new_class("FromBundle", exec_body=lambda body: body.update(__annotations__={"x": int}, __module__="__main__"))
    build: Any = dataclass(made)
    state = build(x=3)

    assert type(back(state)) is made
    assert back(state) == state


def test_a_class_whose_fields_have_changed_is_an_error():
    tree, _ = codec.dumps(Frozen(0.5))

    with pytest.raises(CodecError, match="Frozen is here not a dataclass of the same fields"):
        codec.loads(tree.replace(b'"x"', b'"y"'), None)


def test_a_shadow_of_an_installed_package_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "certifi_shadow.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert codec.is_installed("numpy")
    assert not codec.is_installed("certifi_shadow")


def _places(node: object, here: tuple = ()) -> list[tuple]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [here, *(place for key, child in inner for place in _places(child, (*here, key)))]


EVERYTHING = [
    *([1, "x", None], Frozen(1.5), Colour.RED, Mode.READ | Mode.WRITE, Pair(1, 2), np.float32(1), np.arange(3.0), np.datetime64("2026")),
    *(np.random.default_rng(1), np.random.RandomState(1), {1: 2}, {3, "a"}, OrderedDict(a=1), defaultdict(list, a=[1]), Counter("aab")),
    *(deque([1], 3), range(3), slice(1, 2), types.SimpleNamespace(a=1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), 1j, 10**30),
    *(datetime.timedelta(1), Path("a"), Decimal("1.5"), Fraction(1, 3), uuid.UUID(int=3), zoneinfo.ZoneInfo("UTC"), b"ab", math.nan),
    *(np.array(["a"], np.dtypes.StringDType()), np.dtype("f4"), np.str_("a")),
]
JUNK: list[Any] = [
    *(None, True, -1, 10**40, 1.5, "", "x", "nan", [], {}, [[]], [1], "float64", "O", "a0", "subprocess:Popen", "builtins:object"),
    *({"$type": "dict", "items": [[{}, 2]]}, {"$type": 1}, {"$type": "tuple"}, {"$type": "ndarray", "array": "a0"}, {"$type": "no such"}),
]


@given(st.randoms(use_true_random=False))
def test_a_tampered_tree_gives_a_value_or_a_codec_error_and_nothing_else(random):
    encoded = codec.encode(random.choice(EVERYTHING))
    tree = [json.loads(json.dumps(encoded.tree))]
    for _ in range(random.randint(1, 3)):
        *way, last = random.choice(_places(tree)[1:])
        node: object = tree
        for key in way:
            node = node[key]  # type: ignore[index]
        node[last] = random.choice(JUNK)  # type: ignore[index]

    for read in (codec.decode, codec.to_plain):
        with contextlib.suppress(CodecError):
            read(tree, encoded.arrays)


def test_a_flipped_byte_in_the_arrays_is_an_error_or_changes_nothing():
    value = {"x": np.arange(4.0), "y": np.ones(2, "i2")}
    tree, arrays = codec.dumps(value)
    assert arrays is not None
    refused = 0
    for position in range(len(arrays)):
        flipped = bytearray(arrays)
        flipped[position] ^= 1 << position % 8
        try:
            returned = codec.loads(tree, bytes(flipped))
        except CodecError:
            refused += 1
        else:
            assert all(returned[k].tobytes() == value[k].tobytes() and returned[k].dtype == value[k].dtype for k in value)
    assert refused > len(arrays) / 2


def test_cut_arrays_are_an_error():
    tree, arrays = codec.dumps(np.arange(4.0))
    assert arrays is not None
    for length in range(len(arrays)):
        with pytest.raises(CodecError):
            codec.loads(tree, arrays[:length])


def test_anyone_can_read_the_arrays_with_numpy(tmp_path):
    _, arrays = codec.dumps([np.arange(3), np.asfortranarray(np.eye(2))])
    assert arrays is not None
    (tmp_path / "arrays.npz").write_bytes(arrays)

    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as loaded:
        assert (loaded["a0"] == [0, 1, 2]).all()
        assert (loaded["a1"] == np.eye(2)).all()


def test_the_plain_view_shows_every_kind_of_value():
    import jax.numpy as jnp

    value = {
        "tuple": (1, {2, 3}, deque([4])),
        "keys": {1: "a", "b": 2},
        "clash": {1: "a", "1": "b"},
        "class": Frozen(0.5),
        "enum": [Colour.RED, Mode.READ | Mode.WRITE],
        "numbers": [math.inf, 10**30, np.float32(0.5), Decimal("1.50"), Fraction(1, 3)],
        "times": [datetime.date(2026, 1, 2), datetime.timedelta(hours=1), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)],
        "text": ["\ud800", b"ab", Path("a/b"), uuid.UUID(int=0)],
        "complex": np.array([1 + 2j, complex(math.nan, 0)]),
        "short": jnp.asarray([1.5, 2.0], jnp.bfloat16),
        "days": np.array(["2026-01-02", "NaT"], "M8[D]"),
    }
    encoded = codec.encode(value)

    view = codec.to_plain(encoded.tree, encoded.arrays)

    assert view == {
        "tuple": [1, [2, 3], [4]],
        "keys": {"1": "a", "b": 2},
        "clash": [[1, "a"], ["1", "b"]],
        "class": {"x": 0.5},
        "enum": ["Colour.RED", "Mode.3"],
        "numbers": ["inf", 10**30, 0.5, "1.50", "1/3"],
        "times": ["2026-01-02", "1:00:00", "2026-01-02T00:00:00"],
        "text": ["?", "YWI=", "a/b", "0" * 32],
        "complex": [{"re": 1.0, "im": 2.0}, {"re": "nan", "im": 0.0}],
        "short": [1.5, 2.0],
        "days": ["2026-01-02", None],
    }
    json.dumps(view, allow_nan=False).encode()


def test_the_plain_view_shows_torchs_own_dtypes(torch):
    encoded = codec.encode([torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16), torch.tensor(0.5, dtype=torch.float8_e4m3fn)])

    assert codec.to_plain(encoded.tree, encoded.arrays) == [[[1.5, 2.0]], 0.5]
