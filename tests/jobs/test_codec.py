"""Values go to JSON and arrays and come back as they went."""

from __future__ import annotations

import datetime
import enum
import json
import math
import random
import struct
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

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
