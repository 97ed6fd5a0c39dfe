"""Arguments of a call: checked against the function's signature, made from text, and recorded for people."""

from __future__ import annotations

import ast
import enum
import inspect
import json
import math
import pathlib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pl_hybridjobs.errors import InvalidCall, did_you_mean

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NONE = {"none", "null", ""}
_SECRET = re.compile(r"(?i)(^|_)(password|passwd|secret|token|api_?key|private_?key|credentials?)($|_)")
_LONGEST_TEXT = 200
_EMPTY = inspect.Parameter.empty


def check_call(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], where: str) -> inspect.BoundArguments | None:
    """Bind arguments to a function's signature.

    Returns:
        The bound arguments; None for a callable without a signature, which is let through.

    Raises:
        InvalidCall: Wrong names or a wrong number; all complaints, with near names.
    """
    signature = _signature(fn)
    if signature is None:
        return None
    found = _name_complaints(signature, args, kwargs)
    if found:
        raise InvalidCall(where, found)
    return signature.bind(*args, **kwargs)


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def _name_complaints(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    parameters = signature.parameters
    kinds = inspect.Parameter
    by_name = {n: p for n, p in parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
    positional = [n for n, p in parameters.items() if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    takes_more = any(p.kind is kinds.VAR_POSITIONAL for p in parameters.values())
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    found = []
    if len(args) > len(positional) and not takes_more:
        found.append(f"it takes at most {len(positional)} positional arguments, but got {len(args)}; the signature is {signature}")
    taken = set(positional[: len(args)])
    for name in kwargs:
        if name in taken and name in by_name:
            found.append(f"argument {name!r} is given twice")
        elif name not in by_name and not takes_any:
            found.append(f"there is no argument {name!r}.{did_you_mean(name, by_name)} The signature is {signature}")
    for name, parameter in parameters.items():
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) or parameter.default is not _EMPTY:
            continue
        if name not in taken and (name not in kwargs or parameter.kind is kinds.POSITIONAL_ONLY):
            found.append(f"argument {name!r} is missing; the signature is {signature}")
    return found


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
        return (), dict(params)
    positional_only = [n for n, p in signature.parameters.items() if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    given_first = [n for n in positional_only if n in params]
    rest = {n: v for n, v in params.items() if n not in given_first}
    found = _name_complaints(signature, [params[n] for n in given_first], rest)
    hints = _hints(fn)
    values: dict[str, Any] = {}
    for name, value in params.items():
        parameter = signature.parameters.get(name)
        if not isinstance(value, str) or parameter is None:
            values[name] = value if not isinstance(value, str) else _literal(value)
            continue
        try:
            values[name] = parse_value(value, hints.get(name, parameter.annotation), parameter.default)
        except ValueError as error:
            found.append(f"argument {name!r}: {error}")
    if found:
        raise InvalidCall(where, found)
    return tuple(values.pop(n) for n in given_first), values


def _hints(fn: Any) -> dict[str, Any]:
    target = inspect.unwrap(fn)
    if not inspect.isroutine(target) and not hasattr(target, "__annotations__"):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated (a name under TYPE_CHECKING) is no annotation
        return {}


def parse_value(text: str, annotation: Any, default: Any = _EMPTY) -> Any:
    """Text as a value of an annotated type.

    Args:
        text: What was typed.
        annotation: The type: bool, int, float, complex, str, None, Optional, Union, Literal, Enum, list, tuple, set, dict, Path,
            Annotated of these. Without one, the default's type counts, and without that what Python would read the text as.
        default: The parameter's default.

    Raises:
        ValueError: The text does not fit; says what would.
    """
    if annotation is _EMPTY or annotation is Any or isinstance(annotation, str):
        simple = default is not _EMPTY and type(default) in (bool, int, float, str)
        if not simple or (type(default) is int and _is(float, text)):
            return _literal(text)
        annotation = type(default)
    return _parse(text, annotation)


def _parse(text: str, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _parse(text, get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return _parse_union(text, get_args(kind))
    if origin is Literal:
        return _parse_literal(text, get_args(kind))
    if kind is None or kind is type(None):
        if text.strip().lower() in _NONE:
            return None
        raise ValueError(f"{text!r} is not none")
    if kind is str or kind is Any or kind is object:
        return text
    if kind is bool:
        return _parse_bool(text)
    if kind in (int, float, complex):
        try:
            return kind(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is no {'whole number' if kind is int else kind.__name__}") from None
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _parse_enum(text, kind)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return kind(text)
    base = origin or kind
    if isinstance(base, type) and issubclass(base, list | tuple | set | frozenset | dict | Sequence | Mapping):
        return _parse_container(text, base, get_args(kind))
    return _literal(text)


def _parse_union(text: str, options: tuple[Any, ...]) -> Any:
    # Text fits everything, so str comes last.
    problems = []
    for option in sorted(options, key=lambda o: (o is str, o is not type(None))):
        try:
            return _parse(text, option)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _parse_literal(text: str, options: tuple[Any, ...]) -> Any:
    for option in options:
        if str(option) == text or (isinstance(option, enum.Enum) and option.name == text):
            return option
    raise ValueError(f"{text!r} is none of {', '.join(map(repr, options))}.{did_you_mean(text, map(str, options))}")


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{text!r} is neither true nor false (also yes/no, on/off, 1/0)")


def _parse_enum(text: str, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if text in (member.name, str(member.value)):
            return member
    names = [member.name for member in kind]
    raise ValueError(f"{text!r} is none of {', '.join(names)}.{did_you_mean(text, names)}")


def _parse_container(text: str, base: type, inside: tuple[Any, ...]) -> Any:
    value = _literal(text)
    mapping = issubclass(base, Mapping)
    if mapping:
        if not isinstance(value, dict):
            raise ValueError(f'{text!r} is no mapping; write it like {{"name": 1}}')
        key_kind, item_kind = inside or (Any, Any)
        return {_convert(k, key_kind): _convert(v, item_kind) for k, v in value.items()}
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        stripped = text.strip()
        value = [part.strip() for part in stripped.split(",")] if stripped else []
    made = base if base in (list, tuple, set, frozenset) else list
    if made is tuple and inside and inside[-1] is not ...:
        if len(value) != len(inside):
            raise ValueError(f"{text!r} has {len(value)} items, not {len(inside)}")
        return tuple(_convert(item, kind) for item, kind in zip(value, inside, strict=True))
    kind = inside[0] if inside else Any
    return made(_convert(item, kind) for item in value)


def _convert(item: Any, kind: Any) -> Any:
    """An item of a container: text is parsed, a value of a near type is converted, another is refused."""
    if kind is Any:
        return _literal(item) if isinstance(item, str) else item
    if isinstance(item, str):
        return _parse(item, kind)
    if kind is float and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    return _parse(repr(item) if isinstance(item, float | int | bool) else json.dumps(item), kind)


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return value
    word = text.strip().lower()
    return {"true": True, "false": False, "none": None, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(word, text)


def _is(kind: type, text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def describe_params(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments as JSON, for reading: plain values as they are, others as short text. Never raises.

    Arguments whose names look like a credential's are recorded as ``"***"``.
    """
    signature = _signature(fn)
    try:
        bound = signature.bind(*args, **kwargs) if signature else None
    except TypeError:
        bound = None
    if bound is None or signature is None:
        named: dict[str, Any] = {**({"*args": list(args)} if args else {}), **kwargs}
    else:
        bound.apply_defaults()
        named = {}
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                if value:
                    named[f"*{name}"] = list(value)
            else:
                named[name] = value
    return {name: "***" if _SECRET.search(name) and value is not None else _readable(value, 0) for name, value in named.items()}


def _readable(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int):
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if kind is str:
        return value if len(value) <= _LONGEST_TEXT * 10 else value[: _LONGEST_TEXT * 10] + "..."
    if depth < 4 and kind in (list, tuple) and len(value) <= 50:
        return [_readable(item, depth + 1) for item in value]
    if depth < 4 and kind is dict and len(value) <= 50 and all(type(key) is str for key in value):
        return {key: "***" if _SECRET.search(key) else _readable(item, depth + 1) for key, item in value.items()}
    try:
        text = repr(value)
        text = text if isinstance(text, str) else kind.__name__
        text = text.encode("utf-8", "backslashreplace").decode()
    except BaseException:  # noqa: BLE001 - a user's repr may raise anything; this is only a record for reading
        text = f"<{kind.__name__}>"
    # Addresses change from run to run and tell nothing.
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
