from __future__ import annotations

import collections
import contextlib
import enum
import functools
import inspect
import json
import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, Optional, Union

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs.arguments import bind_text, check_call, describe_params, parse_value

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

EMPTY = inspect.Parameter.empty


class Colour(enum.Enum):
    RED = 1
    BLUE = "navy"


class Level(enum.IntEnum):
    LOW = 0
    HIGH = 1


class Point(NamedTuple):
    x: float
    y: int = 0


Steps = NewType("Steps", int)


# Text to values

EXAMPLES = [
    ("true", bool, True),
    ("No", bool, False),
    ("on", bool, True),
    ("0", bool, False),
    ("1_000", int, 1000),
    (" -3 ", int, -3),
    ("3", float, 3.0),
    ("1e-3", float, 0.001),
    ("inf", float, math.inf),
    ("1+2j", complex, 1 + 2j),
    ("3", str, "3"),
    ("", str, ""),
    ("none", str, "none"),
    ("a b", Path, Path("a b")),
    ("none", None, None),
    ("b'\\x00'", bytes, b"\0"),
    ("text", bytes, b"text"),
    # unions
    ("none", int | None, None),
    ("", int | None, None),
    ("3", Optional[int], 3),  # noqa: UP045 - people still write it
    ("none", str | None, None),
    ("", str | None, ""),
    ("x", str | None, "x"),
    ("3", int | str, 3),
    ("3", str | int, 3),
    ("3.5", Union[int, float, str], 3.5),  # noqa: UP007 - people still write it
    ("3", float | int, 3),
    ("1", bool | int, 1),
    ("yes", bool | int, True),
    ("[1, 2]", str | list[int], [1, 2]),
    ("a,b", str | list[str], "a,b"),
    ("1,2", int | list[int], [1, 2]),
    ("x", Path | str, Path("x")),
    # choices
    ("adam", Literal["adam", "sgd"], "adam"),
    ("2", Literal[1, 2], 2),
    ("true", Literal[True, "auto"], True),
    ("none", Literal["a", None], None),
    ("RED", Colour, Colour.RED),
    ("Colour.BLUE", Colour, Colour.BLUE),
    ("navy", Colour, Colour.BLUE),
    ("1", Colour, Colour.RED),
    ("HIGH", Level, Level.HIGH),
    # containers
    ("[1, 2]", list[int], [1, 2]),
    ("1,2,3", list[int], [1, 2, 3]),
    ("1", list[int], [1]),
    ("", list[int], []),
    ("[]", list[int], []),
    ("1, 2.5", list[float], [1.0, 2.5]),
    ("[nan, -inf]", tuple[float, ...], (math.nan, -math.inf)),
    ("true,no", list[bool], [True, False]),
    ("[true, 0]", list[bool], [True, False]),
    ("a, b", list[str], ["a", "b"]),
    ("01,2", list[str], ["01", "2"]),
    ("it's,fine", list[str], ["it's", "fine"]),
    ("'a,b',c", list[str], ["a,b", "c"]),
    ("['nan', nan]", list[float | str], [math.nan, math.nan]),
    ("['x,y', nan]", list[float | str], ["x,y", math.nan]),
    ("[1, 2]", list[str], ["1", "2"]),
    ("1,x", list, [1, "x"]),
    ("['1']", list, ["1"]),
    ("[[1, 2], [3]]", list[list[int]], [[1, 2], [3]]),
    ("[[1, inf], [nan]]", list[list[float]], [[1.0, math.inf], [math.nan]]),
    ("1,a", tuple[int, str], (1, "a")),
    ("()", tuple[()], ()),
    ("(1,)", tuple[int, ...], (1,)),
    ("1,1,2", set[int], {1, 2}),
    ("{}", set[int], set()),
    ("set()", set[int], set()),
    ("frozenset({1})", frozenset[int], frozenset({1})),
    ("1,2", Sequence[int], [1, 2]),
    ("1,2", Iterable[int], [1, 2]),
    ("1,2", collections.deque[int], collections.deque([1, 2])),
    ("1,none", list[int | None], [1, None]),
    ("[1, null]", list[int | None], [1, None]),
    ("RED,navy", list[Colour], [Colour.RED, Colour.BLUE]),
    ("[1]", list[Colour], [Colour.RED]),
    ('{"a": 1}', dict[str, int], {"a": 1}),
    ("{'a': 1}", dict[str, float], {"a": 1.0}),
    ("a=1,b=2", dict[str, int], {"a": 1, "b": 2}),
    ("{a: nan}", dict[str, float], {"a": math.nan}),
    ("{1: [2]}", dict[int, list[float]], {1: [2.0]}),
    ("{}", Mapping[str, int], {}),
    ("[]", dict[str, int], {}),
    ("1.5,2", Point, Point(1.5, 2)),
    # decorated types
    ("5", Annotated[int, "positive"], 5),
    ("5", Steps, 5),
    ("5", list[Annotated[Steps, "few"]], [5]),
    # no annotation
    ("5", EMPTY, 5),
    ("0.5", EMPTY, 0.5),
    ("[1, 'a']", EMPTY, [1, "a"]),
    ('{"a": true}', EMPTY, {"a": True}),
    ("true", EMPTY, True),
    ("None", EMPTY, None),
    ("adam", EMPTY, "adam"),
    ("C:\\data", EMPTY, "C:\\data"),
    ("'\\d'", EMPTY, "\\d"),
    ("9" * 5000, EMPTY, "9" * 5000),
    ("[" * 5000, EMPTY, "[" * 5000),
    ("5", Any, 5),
    ("[1, 2]", np.ndarray, [1, 2]),
]


def same(a, b):
    """Equal in type and value, NaN included."""
    if isinstance(a, set | frozenset):  # equal sets may be printed in different orders
        return type(a) is type(b) and sorted(map(repr, a)) == sorted(map(repr, b))
    return repr(a) == repr(b)


@pytest.mark.parametrize(("text", "annotation", "value"), EXAMPLES, ids=lambda value: str(value)[:30])
def test_text_becomes_a_value_of_the_annotated_type(text, annotation, value):
    assert same(parse_value(text, annotation), value)


BY_DEFAULT = [
    ("no", False, False),
    ("perhaps", False, "perhaps"),
    ("5", "adam", "5"),
    ("5", 0.1, 5.0),
    ("0.5", 1, 0.5),
    ("none", 3, "none"),
    ("none", None, None),
    ("5", None, 5),
]


@pytest.mark.parametrize(("text", "default", "value"), BY_DEFAULT)
def test_without_an_annotation_the_default_decides_where_a_text_would_fit_several_types(text, default, value):
    assert same(parse_value(text, EMPTY, default), value)


def test_none_is_accepted_where_it_is_the_default():
    assert parse_value("none", int, None) is None
    assert parse_value("none", str, None) == "none"


MISFITS = [
    ("3.0", int, "'3.0' is no whole number"),
    ("True", int, "no whole number"),
    ("x", float, "'x' is no number"),
    ("maybe", bool, "'maybe' is not true or false"),
    ("x", int | None, "'x' is none of int, None"),
    ("adm", Literal["adam", "sgd"], r"'adm' is none of 'adam', 'sgd'\. Did you mean 'adam'\?"),
    ("REDD", Colour, r"none of RED, BLUE\. Did you mean 'RED'\?"),
    ("1,x", list[int], "item 2: 'x' is no whole number"),
    ("[1.0]", list[int], "item 1: 1.0 is not int"),
    ("[true]", list[int], "item 1: True is not int"),
    ("[2]", list[bool], "item 1: 2 is not bool"),
    ("[null]", list[str], "item 1: None is not str"),
    ("[[1], 2]", list[list[int]], "item 2: 2 is not a list"),
    ("1,2,3", tuple[int, str], "there are 3 items, not 2"),
    ("1", Point, "there are 1 items, not 2"),
    ("[1, 2]", dict[str, int], r"\[1, 2\] is not a mapping"),
    ("x", dict[str, int], "'x' is no mapping; write it like"),
    ("a=x", dict[str, int], "item a: 'x' is no whole number"),
    ('{"a": 1}', list[int], "not a list"),
    ("x", None, "'x' is not none"),
]


@pytest.mark.parametrize(("text", "annotation", "message"), MISFITS, ids=lambda value: str(value)[:30])
def test_text_that_does_not_fit_is_refused_with_a_reason(text, annotation, message):
    with pytest.raises(ValueError, match=message):
        parse_value(text, annotation)


numbers = st.one_of(
    st.tuples(st.just(int), st.integers()),
    st.tuples(st.just(float), st.floats()),
    st.tuples(st.just(bool), st.booleans()),
    st.tuples(st.just(int | None), st.none() | st.integers()),
    st.tuples(st.just(float | bool), st.floats() | st.booleans()),
)
containers = st.one_of(
    st.tuples(st.just(list[int]), st.lists(st.integers())),
    st.tuples(st.just(list[float]), st.lists(st.floats())),
    st.tuples(st.just(list[str]), st.lists(st.text())),
    st.tuples(st.just(tuple[float, ...]), st.lists(st.floats()).map(tuple)),
    st.tuples(st.just(tuple[int, str, bool]), st.tuples(st.integers(), st.text(), st.booleans())),
    st.tuples(st.just(set[int]), st.sets(st.integers())),
    st.tuples(st.just(frozenset[bool]), st.frozensets(st.booleans())),
    st.tuples(st.just(dict[str, int]), st.dictionaries(st.text(), st.integers())),
    st.tuples(st.just(dict[str, list[float]]), st.dictionaries(st.text(), st.lists(st.floats(allow_nan=False, allow_infinity=False)))),
    st.tuples(st.just(list[list[float]]), st.lists(st.lists(st.floats()))),
    st.tuples(st.just(list[int | None]), st.lists(st.none() | st.integers())),
    st.tuples(
        st.just(list[complex]),
        st.lists(st.complex_numbers(allow_nan=False, allow_infinity=False).map(lambda z: complex(1 + abs(z.real), 0.0 + z.imag))),
    ),
)


@given(st.one_of(numbers, containers))
def test_what_python_prints_is_read_back(case):
    annotation, value = case

    assert same(parse_value(str(value), annotation), value)


@given(
    st.one_of(
        st.tuples(st.just(list[int]), st.lists(st.integers())),
        st.tuples(st.just(list[str]), st.lists(st.text())),
        st.tuples(st.just(list[bool | None]), st.lists(st.none() | st.booleans())),
        st.tuples(st.just(dict[str, float]), st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False))),
    )
)
def test_json_is_read(case):
    annotation, value = case

    assert same(parse_value(json.dumps(value), annotation), value)


@given(st.lists(st.integers() | st.floats(), min_size=1))
def test_comma_lists_are_read(values):
    text = ",".join(map(str, values))

    assert same(parse_value(text, list[float]), [float(value) for value in values])


@given(st.text(), st.sampled_from([annotation for _, annotation, _ in EXAMPLES]))
def test_any_text_is_a_value_or_a_value_error(text, annotation):
    with contextlib.suppress(ValueError):
        parse_value(text, annotation)


# Binding text


def train(steps: int, stepsize: float = 0.1, *, verbose: bool = False, layers: list[int] | None = None, **extra: float):
    """Annotations are text here, by the future import."""


def test_texts_are_bound_by_their_annotations():
    params = {"steps": "1_0", "stepsize": "1", "verbose": "no", "layers": "2,3", "decay": "0.5"}

    assert same(
        bind_text(train, params, "train"),
        ((), {"steps": 10, "stepsize": 1.0, "verbose": False, "layers": [2, 3], "decay": 0.5}),
    )


def test_values_that_are_no_text_pass_as_they_are():
    layers = (2, 3)

    _, kwargs = bind_text(train, {"steps": 2.5, "layers": layers}, "train")

    assert kwargs["steps"] == 2.5
    assert kwargs["layers"] is layers


def test_all_complaints_come_at_once_with_near_names_and_the_signature():
    def job(steps: int, stepsize: float = 0.1, *, api_token: int = 0):
        pass

    with pytest.raises(InvalidCall) as caught:
        bind_text(job, {"stepsiz": "1", "stepsize": "big", "api_token": "hunter2"}, "run job.py:job")

    assert caught.value.where == "run job.py:job"
    text = "\n".join(caught.value.complaints)
    assert len(caught.value.complaints) == 4
    assert "there is no argument 'stepsiz'. Did you mean 'stepsize'" in text
    assert "argument 'steps' is missing" in text
    assert "argument 'stepsize': 'big' is no number" in text
    assert "argument 'api_token': the text does not fit int" in text
    assert "hunter2" not in text
    assert text.count("The signature is (steps: int, stepsize: float = 0.1, *, api_token: int = 0).") == 1


def test_arguments_by_position_only_are_given_by_position():
    def job(a: int, b: int = 2, c: int = 3, /, d: int = 4):
        return a, b, c, d

    args, kwargs = bind_text(job, {"d": "40", "c": "30", "a": "10"}, "job")

    assert job(*args, **kwargs) == (10, 2, 30, 40)
    with pytest.raises(InvalidCall, match="'a' is missing"):
        bind_text(job, {"b": "1"}, "job")


class Caller:
    size: str

    def __init__(self, size: int = 1):
        self.size = str(size)

    def __call__(self, steps: int):
        return steps

    def method(self, steps: int):
        return steps


def wrapped(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn(*args, **kwargs)

    return inner


CALLABLES = {
    "a partial": functools.partial(train, stepsize=0.5),
    "a partial of a partial": functools.partial(functools.partial(train, stepsize=0.5), verbose=True),
    "an object": Caller(),
    "a bound method": Caller().method,
    "a decorated function": wrapped(train),
    "a partial of a decorated one": functools.partial(wrapped(train), stepsize=0.5),
}


@pytest.mark.parametrize("fn", CALLABLES.values(), ids=CALLABLES.keys())
def test_every_kind_of_callable_has_its_annotations_read(fn):
    assert same(bind_text(fn, {"steps": "1_0"}, "fn"), ((), {"steps": 10}))
    with pytest.raises(InvalidCall, match="no whole number"):
        bind_text(fn, {"steps": "1.0"}, "fn")


def test_of_a_class_the_constructor_counts():
    assert same(bind_text(Caller, {"size": "3"}, "Caller"), ((), {"size": 3}))


def test_one_annotation_that_cannot_be_evaluated_does_not_spoil_the_others():
    def job(a: Missing, b: str, c: list[Missing] | None = None):
        pass

    assert same(bind_text(job, {"a": "1", "b": "2", "c": "[3]"}, "job"), ((), {"a": 1, "b": "2", "c": [3]}))


def test_a_callable_without_a_signature_takes_anything():
    assert same(bind_text(dict, {"a": "1", "b": [2]}, "dict"), ((), {"a": 1, "b": [2]}))
    assert check_call(type, (1, 2, 3, 4), {"x": 1}, "type") is None


# Checking


def test_a_call_that_fits_is_bound():
    bound = check_call(train, (3,), {"verbose": True}, "train")

    assert bound is not None
    assert bound.arguments == {"steps": 3, "verbose": True}


def test_wrong_names_and_counts_are_refused_together():
    def job(a, b=1, /, c=2, *, stepsize):
        pass

    with pytest.raises(InvalidCall) as caught:
        check_call(job, (1, 2, 3, 4), {"c": 1, "stepsiz": 2, "a": 3}, "hybrid_job(job)")

    assert caught.value.complaints == (
        "it takes at most 3 positional arguments, but got 4.",
        "argument 'c' is given twice, by position and by name.",
        "there is no argument 'stepsiz'. Did you mean 'stepsize'?",
        "argument 'a' can be given by position only.",
        "argument 'stepsize' is missing. The signature is (a, b=1, /, c=2, *, stepsize).",
    )


def test_a_default_with_a_hostile_or_huge_repr_does_no_harm():
    class Hostile:
        def __repr__(self):
            raise RuntimeError

    def hostile(a, b=Hostile()):  # noqa: B008 - the point
        pass

    def huge(a, b="x" * 10_000):
        pass

    for fn in (hostile, huge):
        with pytest.raises(InvalidCall, match=r"'a' is missing\. The signature is \(a, b\)\.$"):
            check_call(fn, (), {}, "fn")


KINDS = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]


@st.composite
def signatures(draw):
    counts = [draw(st.integers(0, 2)) for _ in KINDS]
    names = iter("abcdef")
    parameters = []
    has_default = False
    for kind, count in zip(KINDS, counts, strict=True):
        for _ in range(count):
            if kind is inspect.Parameter.KEYWORD_ONLY:
                has_default = False
            has_default = has_default or draw(st.booleans())
            parameters.append(inspect.Parameter(next(names), kind, default=0 if has_default else EMPTY))
    if draw(st.booleans()):
        at = counts[0] + counts[1]
        parameters.insert(at, inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL))
    if draw(st.booleans()):
        parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


@given(signatures(), st.lists(st.integers(), max_size=6), st.dictionaries(st.sampled_from([*"abcdefg", "args", "kwargs"]), st.integers()))
def test_exactly_those_calls_are_refused_that_python_refuses(signature, args, kwargs):
    scope: dict[str, Any] = {}
    exec(f"def fn{signature}: pass", scope)
    fn = scope["fn"]
    try:
        fn(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidCall):
            check_call(fn, args, kwargs, "fn")
    else:
        bound = check_call(fn, args, kwargs, "fn")
        assert bound is None or bound == signature.bind(*args, **kwargs)


def test_a_call_that_python_takes_and_inspect_does_not_is_let_through():
    def job(a=0, /, **kwargs):
        pass

    check_call(job, (), {"a": 1}, "job")


# The record


def test_plain_arguments_are_recorded_with_the_defaults():
    def job(a, b=2.5, *args, c=None, **kwargs):
        pass

    assert describe_params(job, (1,), {"x": [True, {"k": (1, "s")}]}) == {"a": 1, "b": 2.5, "c": None, "x": [True, {"k": [1, "s"]}]}
    assert describe_params(job, (1, 2, 3, 4), {})["*args"] == [3, 4]


def test_a_call_that_does_not_fit_or_has_no_signature_is_recorded_too():
    assert describe_params(lambda: None, (1,), {"x": 2}) == {"*args": [1], "x": 2}
    assert describe_params(type, (1, 2, 3), {"x": 2}) == {"*args": [1, 2, 3], "x": 2}


@dataclass
class Login:
    user: str
    password: str


def test_what_looks_like_a_credential_by_its_name_is_hidden():
    def job(n_tokens, api_key, password=None, token="t", **kwargs):
        pass

    described = describe_params(
        job, (5, "k"), {"cfg": {"db_password": "p", "user": "u"}, "login": Login("me", "it's"), "authToken": 1, "tokenizer": "bpe"}
    )

    assert described == {
        "n_tokens": 5,
        "api_key": "***",
        "password": None,
        "token": "***",
        "cfg": {"db_password": "***", "user": "u"},
        "login": "Login(user='me', password=***)",
        "authToken": "***",
        "tokenizer": "bpe",
    }


class Hostile:
    def __init__(self, error):
        self.error = error

    def __repr__(self):
        raise self.error

    def __getattr__(self, name):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), RecursionError(), MemoryError()], ids=repr)
def test_a_hostile_repr_does_no_harm(error):
    described = describe_params(lambda a: None, ([Hostile(error)],), {})

    assert described in ({"a": ["<Hostile>"]}, {"a": [f"<Hostile instance{described['a'][0][17:]}"]})


def test_arrays_and_scalars_are_described_shortly():
    import jax.numpy as jnp

    values = {
        "np_scalar": np.float64(0.1),
        "np_int": np.int32(3),
        "jax_scalar": jnp.float32(0.5),
        "small": np.arange(3),
        "large": np.zeros((100, 200)),
        "nan": math.nan,
        "path": Path("a/b"),
        "million": list(range(1_000_000)),
        "bytes": b"x" * 10_000_000,
        "big": 1 << 100_000,
        "deep": [[[[[[1]]]]]],
    }

    described = describe_params(lambda **kwargs: None, (), values)

    assert described["np_scalar"] == 0.1
    assert described["np_int"] == 3
    assert described["jax_scalar"] == 0.5
    assert described["small"] == "array([0, 1, 2])"
    assert described["large"] == "<ndarray of shape (100, 200), float64>"
    assert described["nan"] == "nan"
    assert described["path"] == "a/b"
    assert described["million"].startswith("[0, 1, 2, ")
    assert described["big"] == "<int of 100001 bits>"
    assert described["deep"] == [[[["[[1]]"]]]]
    assert all(len(str(value)) <= 200 for value in described.values())


def test_addresses_are_left_out_so_that_equal_calls_have_equal_records():
    described = describe_params(lambda a: None, (object(),), {})

    assert described == {"a": "<object object>"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(st.lists(values, max_size=3), st.dictionaries(st.text(string.ascii_letters, min_size=1), values, max_size=3))
def test_every_record_is_strict_json_in_utf_8(args, kwargs):
    described = describe_params(lambda *args, **kwargs: None, args, kwargs)

    text = json.dumps(described, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode()) == described


def test_a_container_that_holds_itself_is_recorded():
    loop: list[Any] = [1]
    loop.append(loop)

    text = json.dumps(describe_params(lambda a: None, (loop,), {}))

    assert re.search(r"1, \[1", text)
