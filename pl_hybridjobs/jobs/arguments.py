"""Arguments of a call: checked against the function's signature, made from text, and recorded for people."""

from __future__ import annotations

import ast
import collections
import enum
import functools
import inspect
import json
import math
import pathlib
import re
import reprlib
import types
import typing
import warnings
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pl_hybridjobs.errors import InvalidCall, did_you_mean

_EMPTY = inspect.Parameter.empty
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NONE = {"none", "null"}
# What a container's annotation is -> what is made for it.
_SEQUENCES: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: set,
    abc.MutableSet: set,
}
_MAPPINGS = (dict, collections.OrderedDict, abc.Mapping, abc.MutableMapping)
_CALL_OF_CONTAINER = re.compile(r"(?:list|tuple|set|frozenset|dict|deque)\((.*)\)", re.DOTALL)
_PAIR = re.compile(r"\s*([^=:]+?)\s*[=:]\s*(.*)", re.DOTALL)

_CREDENTIAL = r"(?:password|passwd|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)"
_SECRET = re.compile(rf"(?i:(?:^|[_\W]){_CREDENTIAL}(?:$|[_\W]))|[a-z](?:Password|Secret|Token|ApiKey|AccessKey|PrivateKey)(?![a-z])")
_SECRET_IN_TEXT = re.compile(
    rf"(?i)(\b(?:\w+_)?{_CREDENTIAL}(?:_\w+)?['\"]?\s*[=:]\s*)(?:b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|[^\s,)\]}}]+)"
)
_HIDDEN = "***"
_LONGEST_REPR = 200
_LONGEST_TEXT = 2000
_MOST_ITEMS = 50
_DEEPEST = 4


# Checking


def check_call(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], where: str) -> inspect.BoundArguments | None:
    """Bind arguments to a function's signature.

    Args:
        fn: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        where: What was called, for errors.

    Returns:
        The bound arguments; None for a callable without a signature, which is let through, and where ``inspect`` cannot bind what Python
        takes.

    Raises:
        InvalidCall: Wrong names or a wrong number; all complaints, with near names.
    """
    signature = _signature(fn)
    if signature is None:
        return None
    _refuse(where, _name_complaints(signature, args, kwargs), signature)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:  # f(a=1) of `def f(a=0, /, **kwargs)`: inspect refuses it before Python 3.13
        return None


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


class _Bare(str):
    """Text whose repr has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _refuse(where: str, complaints: list[str], signature: inspect.Signature) -> None:
    if complaints:
        # Annotations that are text (from __future__ import annotations) are shown without quotes.
        bare = [p.replace(annotation=_Bare(p.annotation)) if isinstance(p.annotation, str) else p for p in signature.parameters.values()]
        shown = _guarded(lambda: str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)), "")
        if not shown or len(shown) > 2 * _LONGEST_REPR:
            shown = f"({', '.join(signature.parameters)})"
        raise InvalidCall(where, [*complaints[:-1], f"{complaints[-1]} The signature is {shown}."])


def _name_complaints(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What Python would refuse about the names and the number of the arguments: all of it, not only the first."""
    kinds = inspect.Parameter
    parameters = signature.parameters
    kind_of = {name: parameter.kind for name, parameter in parameters.items()}
    by_name = [name for name, kind in kind_of.items() if kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    by_position = [name for name, kind in kind_of.items() if kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    takes_any = kinds.VAR_KEYWORD in kind_of.values()
    complaints = []
    if len(args) > len(by_position) and kinds.VAR_POSITIONAL not in kind_of.values():
        complaints.append(f"it takes at most {len(by_position)} positional arguments, but got {len(args)}.")
    taken = set(by_position[: len(args)])
    for name in kwargs:
        if name in taken and name in by_name:
            complaints.append(f"argument {name!r} is given twice, by position and by name.")
        elif name not in by_name and not takes_any:
            if kind_of.get(name) is kinds.POSITIONAL_ONLY:
                complaints.append(f"argument {name!r} can be given by position only.")
            else:
                complaints.append(f"there is no argument {name!r}.{did_you_mean(str(name), by_name)}")
    for name, parameter in parameters.items():
        needed = parameter.default is _EMPTY and parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        if needed and name not in taken and (name not in kwargs or parameter.kind is kinds.POSITIONAL_ONLY):
            complaints.append(f"argument {name!r} is missing.")
    return complaints


# From text


def bind_text(fn: Callable[..., Any], params: Mapping[str, Any], where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for a function from named texts, converted by its annotations.

    Args:
        fn: The function.
        params: Name -> text (converted), or any other value (taken as it is).
        where: What was called, for errors.

    Returns:
        Positional and keyword arguments.

    Raises:
        InvalidCall: Unknown or missing names, texts that do not fit; all of them.
    """
    signature = _signature(fn)
    if signature is None:
        return (), {name: _literal(value) if isinstance(value, str) else value for name, value in params.items()}
    hints = _hints(fn)
    values: dict[str, Any] = {}
    misfits = []
    for name, value in params.items():
        annotation, default = _expected(signature, hints, name)
        try:
            values[name] = parse_value(value, annotation, default) if isinstance(value, str) else value
        except ValueError as error:
            values[name] = value
            reason = f"the text does not fit {_type_name(annotation)}" if _SECRET.search(name) else str(error)
            misfits.append(f"argument {name!r}: {reason}.")
    args = _by_position(signature, values)
    _refuse(where, _name_complaints(signature, args, values) + misfits, signature)
    return args, values


def _expected(signature: inspect.Signature, hints: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """An argument's annotation and default."""
    parameter = signature.parameters.get(name)
    kinds = inspect.Parameter
    if parameter is None or parameter.kind in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL):
        collector = next((p for p in signature.parameters.values() if p.kind is kinds.VAR_KEYWORD), None)
        if collector is None:
            return _EMPTY, _EMPTY
        return hints.get(collector.name, collector.annotation), _EMPTY
    return hints.get(name, parameter.annotation), parameter.default


def _by_position(signature: inspect.Signature, values: dict[str, Any]) -> tuple[Any, ...]:
    """Take those values that can be given by position only; gaps before the last one are filled with defaults."""
    names = [name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    while names and names[-1] not in values:
        names.pop()
    args = []
    for name in names:
        default = signature.parameters[name].default
        if name not in values and default is _EMPTY:
            break  # the complaint about it comes from the check of the names
        args.append(values.pop(name, default))
    return tuple(args)


def _hints(fn: Any) -> dict[str, Any]:
    """Annotations by name, evaluated; one that cannot be evaluated (a name under TYPE_CHECKING) is left out."""
    while isinstance(fn, functools.partial) or hasattr(fn, "__wrapped__"):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__wrapped__
    if inspect.isclass(fn):
        fn = fn.__init__ if fn.__init__ is not object.__init__ else fn.__new__
    elif not inspect.isroutine(fn):
        fn = type(fn).__call__
    fn = inspect.unwrap(fn)
    scope = getattr(fn, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(fn, "__annotations__", {}).items():
        single = types.SimpleNamespace(__annotations__={name: annotation})
        hint = _guarded(functools.partial(typing.get_type_hints, single, scope, include_extras=True), {})
        hints |= {name: _EMPTY, **hint}
    return hints


def parse_value(text: str, annotation: Any, default: Any = _EMPTY) -> Any:
    """Text as a value of an annotated type.

    Args:
        text: What was typed.
        annotation: The type: bool (true/false, yes/no, on/off, 1/0), int, float, complex, str, bytes, None, Optional, Union, Literal,
            Enum (a name or a value), Path, NamedTuple, Annotated and NewType of these, and containers of these: list, tuple, set, dict
            and their abstract classes, as JSON, as a Python literal, or as ``1,2,3`` and ``a=1,b=2``. Where there is no annotation (or
            one that is not known here), what Python would read: a literal, else text; a default of type str, bool or float decides
            where the text would fit several.
        default: The parameter's default.

    Raises:
        ValueError: The text does not fit; says what would.
    """
    if default is None and annotation is not str and text.strip().lower() in _NONE:
        return None
    if annotation is _EMPTY or annotation is Any or isinstance(annotation, str):
        return _guess(text, default)
    return _parse(text, annotation)


def _guess(text: str, default: Any) -> Any:
    if type(default) is str:
        return text
    if type(default) is bool and text.strip().lower() in _TRUE | _FALSE:
        return _bool(text)
    value = _literal(text)
    return float(value) if type(default) is float and type(value) is int else value


def _literal(text: str) -> Any:
    """What JSON or Python reads; the text itself if neither can."""
    for read in (json.loads, ast.literal_eval):  # in this order: Python would read JSON's surrogate pairs and "\\/" differently
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # backslashes in text that was never meant as Python
                return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


class _Text(str):
    """A piece of a comma list: text of unknown type, other than a text that was quoted."""

    __slots__ = ()


def _plain(kind: Any) -> Any:
    """An annotation without what only decorates it: ``Annotated``, ``NewType``, a type alias."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return types.NoneType if kind is None else kind


def _type_name(kind: Any) -> str:
    kind = _plain(kind)
    return "None" if kind is types.NoneType else inspect.formatannotation(kind)


def _parse(text: str, kind: Any) -> Any:
    """Text as a value of a type."""
    kind = _plain(kind)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _first_fit(text, kind)
    if origin is Literal:
        return _choice(text, get_args(kind))
    if kind is types.NoneType:
        return _require(None, text.strip().lower() in {*_NONE, ""}, text, "none")
    if kind is str:
        return str(text)
    if kind is bool:
        return _bool(text)
    if kind in (int, float, complex):
        try:
            return kind(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is no {'whole number' if kind is int else 'number'}") from None
    if kind is bytes:
        value = _literal(text)
        return value if isinstance(value, bytes) else text.encode()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(text, kind)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return kind(text)
    if _is_container(kind):
        return _build(_items(text, _is_mapping(kind)), kind)
    return _literal(text)


def _convert(item: Any, kind: Any) -> Any:
    """An item of a container as a value of a type. Text is parsed; of other values only what loses nothing is accepted."""
    kind = _plain(kind)
    origin = get_origin(kind)
    if kind is Any or kind is object or isinstance(kind, typing.TypeVar):
        return _literal(item) if isinstance(item, _Text) else item
    if isinstance(item, str):
        return _parse(item, kind)
    if origin in (Union, types.UnionType):
        return _first_fit(item, kind)
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return _parse(str(item), kind)
    if kind is str and type(item) in (int, float):
        return str(item)
    if kind is bool and type(item) is int and item in (0, 1):
        return bool(item)
    if (kind is float and type(item) is int) or (kind is complex and type(item) in (int, float)):
        return kind(item)
    if _is_container(kind):
        return _build(item, kind)
    return _require(item, not isinstance(kind, type) or type(item) is kind, item, _type_name(kind))


def _require(value: Any, fits: bool, given: Any, wanted: str) -> Any:
    if not fits:
        raise ValueError(f"{given!r} is not {wanted}")
    return value


def _first_fit(value: Any, union: Any) -> Any:
    """The value as the narrowest type of a union: almost every text is some list, and each is a str, so these come last."""

    def width(kind: Any) -> int:
        kind = _plain(kind)
        narrow: list[Any] = [types.NoneType, int, float, complex, bool]
        if kind in narrow:
            return narrow.index(kind)
        return {str: 9}.get(kind, 8 if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) else 7)

    kinds = sorted(get_args(union), key=width)
    has_text = str in map(_plain, kinds)
    for kind in kinds:
        if has_text and isinstance(value, str):
            if _plain(kind) is types.NoneType and not value.strip():
                continue  # an empty text is a text
            if _is_container(_plain(kind)) and value.strip()[:1] not in ("[", "(", "{"):
                continue
        try:
            return _convert(value, kind)
        except ValueError:
            continue
    raise ValueError(f"{value!r} is none of {', '.join(map(_type_name, get_args(union)))}")


def _choice(text: str, options: tuple[Any, ...]) -> Any:
    word = text.strip().lower()
    for option in options:
        if str(option) == text or (isinstance(option, enum.Enum) and option.name == text):
            return option
    for option in options:
        if (option is None and word in _NONE) or (type(option) is bool and word in (_TRUE if option else _FALSE)):
            return option
    raise ValueError(f"{text!r} is none of {', '.join(map(repr, options))}.{did_you_mean(text, map(str, options))}".rstrip("."))


def _bool(text: str) -> bool:
    word = text.strip().lower()
    return bool(_require(word in _TRUE, word in _TRUE | _FALSE, text, "true or false (nor yes/no, on/off, 1/0)"))


def _member(text: str, kind: type[enum.Enum]) -> enum.Enum:
    name = text.removeprefix(f"{kind.__name__}.")
    if name in kind.__members__:
        return kind.__members__[name]
    for member in kind:
        if str(member.value) == text:
            return member
    names = list(kind.__members__)
    raise ValueError(f"{text!r} is none of {', '.join(names)}.{did_you_mean(name, names)}".rstrip("."))


# Containers


def _is_mapping(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _MAPPINGS


def _is_container(kind: Any) -> bool:
    base = get_origin(kind) or kind
    return base in _SEQUENCES or base in _MAPPINGS or _is_named_tuple(base)


def _is_named_tuple(base: Any) -> bool:
    return isinstance(base, type) and issubclass(base, tuple) and hasattr(base, "_fields")


def _items(text: str, mapping: bool) -> Any:
    """A container of raw items: what a literal holds, or pieces between commas."""
    inner = text.strip()
    call = _CALL_OF_CONTAINER.fullmatch(inner)
    inner = call[1].strip() if call else inner
    bracketed = inner[:1] + inner[-1:] in ("[]", "()", "{}")
    if bracketed or "'" in inner or '"' in inner:
        value = _literal(inner)
        if isinstance(value, list | tuple | set | frozenset | dict):
            return {} if mapping and not value else value
    pieces = _pieces(inner[1:-1] if bracketed else inner)
    if not mapping:
        return pieces
    pairs = [_PAIR.fullmatch(piece) for piece in pieces]
    if None in pairs:
        raise ValueError(f'{text!r} is no mapping; write it like {{"a": 1}} or a=1,b=2')
    return {_piece(pair[1]): _piece(pair[2]) for pair in pairs if pair is not None}


def _pieces(text: str) -> list[str]:
    """What stands between the commas that are in no brackets and no quotes."""
    pieces, start, depth, quote = [], 0, 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not text[start:at].strip():
            quote = character
        elif character in "[({":
            depth += 1
        elif character in "])}":
            depth -= 1
        elif character == "," and depth <= 0:
            pieces.append(text[start:at])
            start = at + 1
    if text[start:].strip():
        pieces.append(text[start:])
    return [_piece(piece) for piece in pieces]


def _piece(text: str) -> str:
    text = text.strip()
    value = _literal(text) if text[:1] in ("'", '"') else None
    return value if isinstance(value, str) else _Text(text)


def _build(items: Any, kind: Any) -> Any:
    """A container of a type from raw items."""
    base, inside = get_origin(kind) or kind, get_args(kind)
    if base in _MAPPINGS:
        _require(None, isinstance(items, dict), items, "a mapping")
        key_kind, value_kind = inside or (Any, Any)
        made = {_convert(key, key_kind): _item(key, value, value_kind) for key, value in items.items()}
        return collections.OrderedDict(made) if base is collections.OrderedDict else made
    if isinstance(items, dict) and not items:
        items = []  # {} is an empty set where a set is asked for
    _require(None, isinstance(items, list | tuple | set | frozenset), items, f"a {base.__name__}")
    if _is_named_tuple(base):
        hints = _guarded(lambda: typing.get_type_hints(base, include_extras=True), {})
        return base(*_fixed(items, [hints.get(name, Any) for name in base._fields]))
    if base is tuple and inside and inside[-1] is not ...:
        return tuple(_fixed(items, [] if inside == ((),) else inside))
    return _SEQUENCES[base](_item(n, item, inside[0] if inside else Any) for n, item in enumerate(items, 1))


def _fixed(items: Any, kinds: Sequence[Any]) -> list[Any]:
    if len(items) != len(kinds):
        raise ValueError(f"there are {len(items)} items, not {len(kinds)}")
    return [_item(n, item, kind) for n, (item, kind) in enumerate(zip(items, kinds, strict=True), 1)]


def _item(where: Any, item: Any, kind: Any) -> Any:
    try:
        return _convert(item, kind)
    except ValueError as error:
        raise ValueError(f"item {where}: {error}") from None


# The record


def describe_params(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments as JSON, for reading: plain values as they are, others as short text. Never raises.

    Arguments and keys whose names look like a credential's are recorded as ``"***"``.

    Args:
        fn: The function; the defaults of its signature are recorded too.
        args: Its positional arguments. What goes into ``*args`` is recorded as a list under ``"*args"``.
        kwargs: Its keyword arguments.
    """
    return {name: _described(name, value, 0) for name, value in _named(fn, args, kwargs).items()}


def _named(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        signature = inspect.signature(fn)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**({"*args": list(args)} if args else {}), **kwargs}
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named = {**value, **named}
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            named[name] = value
        elif value:
            named[f"*{name}"] = list(value)
    return named


def _described(name: str, value: Any, depth: int) -> Any:
    return _HIDDEN if _SECRET.search(name) and value is not None else _readable(value, depth)


def _readable(value: Any, depth: int) -> Any:
    """A value as JSON. Only exact built-in types are looked into: a subclass may do anything."""
    kind = type(value)
    if value is None or kind is bool or (kind is int and value.bit_length() <= 1024):
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if kind is str:
        return _printable(value if len(value) <= _LONGEST_TEXT else value[: _LONGEST_TEXT - 3] + "...")
    if depth < _DEEPEST and kind in (list, tuple) and len(value) <= _MOST_ITEMS:
        return [_readable(item, depth + 1) for item in value]
    if depth < _DEEPEST and kind is dict and len(value) <= _MOST_ITEMS and all(type(key) is str for key in value):
        return {_printable(key): _described(key, item, depth + 1) for key, item in value.items()}
    return _guarded(lambda: _special(value), f"<{_guarded(lambda: str(kind.__qualname__), 'object')}>")


def _special(value: Any) -> Any:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        item = value.item() if not shape and hasattr(value, "item") else None
        if type(item) in (bool, int, float):
            return _readable(item, _DEEPEST)
        if math.prod(shape) > _MOST_ITEMS:  # its repr could take seconds, or bring a gigabyte from a GPU
            return f"<{type(value).__name__} of shape {tuple(shape)}, {dtype}>"
    if isinstance(value, pathlib.PurePath):
        return _printable(str(value))
    text = re.sub(r" at 0x[0-9a-f]+", "", _Short().repr(value))  # addresses change from run to run and tell nothing
    text = _printable(_SECRET_IN_TEXT.sub(rf"\1{_HIDDEN}", text))
    return text if len(text) <= _LONGEST_REPR else text[: _LONGEST_REPR - 3] + "..."


class _Short(reprlib.Repr):
    """Does not write out a million items to show ten."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 20
        self.maxstring = self.maxlong = self.maxother = 4 * _LONGEST_REPR

    def repr_bytes(self, value: bytes, level: int) -> str:
        """As ``repr``, of the beginning."""
        return repr(value[:_LONGEST_REPR])

    def repr_int(self, value: int, level: int) -> str:
        """As ``repr``, if that is possible in a short time."""
        return repr(value) if value.bit_length() <= 1024 else f"<int of {value.bit_length()} bits>"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _guarded(make: Callable[[], Any], otherwise: Any) -> Any:
    """What a user's code gives, or something else if it fails: repr, annotations."""
    try:
        return make()
    except (Exception, SystemExit, GeneratorExit):  # noqa: BLE001 - it may raise anything, and this is only for reading
        return otherwise
