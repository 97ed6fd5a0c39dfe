"""What an object holds, with the path by which a person would find it: ``train.<closure>.lock``, ``args[1]["model"]``.

Only what pickling would send by value is followed: a module, or a function that the other side imports, has no children here.
"""

from __future__ import annotations

import functools
import json
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Child = tuple[str, object]
ByReference = Callable[[object], bool]

_ATOMS = (type(None), bool, int, float, complex, type(Ellipsis), type(NotImplemented))
_TEXT = (str, bytes, bytearray)
_LONGEST_KEY = 60


def walk(roots: list[Child], by_reference: ByReference, limit: int) -> Iterator[Child]:
    """Every object under some roots, once, nearest first; cycles are fine.

    Args:
        roots: Pairs of path and object.
        by_reference: Tells which functions, classes and instances are not looked into.
        limit: After so many objects the walk ends.

    Yields:
        Pairs of path and object, the roots among them.
    """
    queue = deque(roots)
    # Holds the objects too: an id is only unique among the living.
    seen: dict[int, object] = {}
    while queue and limit > 0:
        path, obj = queue.popleft()
        if id(obj) in seen:
            continue
        limit -= 1
        yield path, obj
        if isinstance(obj, (*_ATOMS, *_TEXT)):
            continue
        seen[id(obj)] = obj
        room = limit - len(queue)
        for label, child in children(obj, by_reference):
            if room <= 0:
                break
            if not isinstance(child, _ATOMS):
                queue.append((path + label, child))
                room -= 1


def children(obj: object, by_reference: ByReference) -> Iterator[Child]:
    """What one object holds: pairs of a label (to be appended to its path) and a part of it."""
    if isinstance(obj, (*_ATOMS, *_TEXT, types.ModuleType, types.CodeType, types.BuiltinFunctionType)) or by_reference(obj):
        return
    if isinstance(obj, types.FunctionType):
        yield from _of_function(obj)
    elif isinstance(obj, type):
        yield from _of_class(obj)
    elif isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    elif isinstance(obj, functools.partial):
        yield ".func", obj.func
        yield from ((f".args[{i}]", value) for i, value in enumerate(obj.args))
        yield from ((f".keywords{_key(k)}", value) for k, value in obj.keywords.items())
    elif isinstance(obj, (classmethod, staticmethod)):
        yield "", obj.__func__
    elif isinstance(obj, property):
        yield from ((f".{name}", part) for name in ("fget", "fset", "fdel") if (part := getattr(obj, name)) is not None)
    elif isinstance(obj, types.CellType):
        yield from _of_cell("", obj)
    else:
        yield from _of_container(obj)
        yield from _of_instance(obj, by_reference)


def captured_globals(function: types.FunctionType) -> dict[str, object]:
    """The globals that a function's code, or code nested in it, refers to."""
    found: dict[str, object] = {}
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        found.update((name, function.__globals__[name]) for name in _global_names(code) if name in function.__globals__)
        codes.extend(c for c in code.co_consts if isinstance(c, types.CodeType))
    return found


def code_texts(code: types.CodeType) -> Iterator[str | bytes]:
    """The string and bytes constants in a code object and in the code nested in it."""
    stack: list[object] = [code]
    while stack:
        item = stack.pop()
        if isinstance(item, types.CodeType):
            stack.extend(item.co_consts)
        elif isinstance(item, (tuple, frozenset)):
            stack.extend(item)
        elif isinstance(item, (str, bytes)):
            yield item


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    import dis

    wanted = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}
    return tuple(dict.fromkeys(str(i.argval) for i in dis.get_instructions(code) if i.opname in wanted))


def _of_function(function: types.FunctionType) -> Iterator[Child]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        yield from _of_cell(f".<closure>.{name}", cell)
    yield from ((f".<globals>.{name}", value) for name, value in captured_globals(function).items())
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) or None :]
    yield from ((f".<defaults>.{name}", value) for name, value in zip(names, defaults, strict=False))
    yield from ((f".<defaults>.{name}", value) for name, value in (function.__kwdefaults__ or {}).items())
    yield from ((f".{name}", value) for name, value in function.__dict__.items())


def _of_cell(label: str, cell: types.CellType) -> Iterator[Child]:
    try:
        yield label, cell.cell_contents
    except ValueError:  # the variable is not set yet
        return


def _of_class(cls: type) -> Iterator[Child]:
    for name, value in list(vars(cls).items()):
        if not isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)) and name not in ("__dict__", "__weakref__"):
            yield f".{name}", value
    yield from ((f".<base {base.__qualname__}>", base) for base in cls.__bases__)


def _of_container(obj: object) -> Iterator[Child]:
    if isinstance(obj, (dict, types.MappingProxyType)):
        mapping: Mapping[Any, Any] = obj
        for key, value in list(mapping.items()):
            yield _key(key), value
            if not isinstance(key, (*_ATOMS, *_TEXT)):
                yield f".<key {_short(repr(type(key).__name__))}>", key
    elif isinstance(obj, (list, tuple, deque)):
        yield from ((f"[{i}]", value) for i, value in enumerate(obj) if not isinstance(value, _ATOMS))
    elif isinstance(obj, (set, frozenset)):
        yield from ((".<item>", value) for value in list(obj))


def _of_instance(obj: object, by_reference: ByReference) -> Iterator[Child]:
    attributes = getattr(obj, "__dict__", None)
    if isinstance(attributes, dict):
        yield from ((f".{name}", value) for name, value in list(attributes.items()))
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            member = cls.__dict__.get(mangled)
            # Through the descriptor, not getattr: no code of the user's runs.
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield f".{name}", member.__get__(obj)
                except AttributeError:
                    continue
    if not by_reference(type(obj)):
        yield ".__class__", type(obj)


def _key(key: object) -> str:
    return f"[{_short(json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key))}]"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 1]}…"
