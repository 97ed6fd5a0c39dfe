"""What a function reaches, found without calling any of it, and copies of functions in which some of it is replaced.

A function reaches what it can use when it is called: what its closure, its defaults and the global names in its code hold, and
from there the attributes of instances, the methods of their classes, ``functools.partial``, decorated functions, lists, tuples and
dictionaries, QNodes and their quantum functions. Names are read from the bytecode (``cost`` and ``circuits.cost`` alike).

Functions and classes of installed packages and of the standard library are not searched for global names: only their closures and,
where they can be called, their attributes (``jax.vmap(cost)``, ``torch.nn.Sequential(...)``). What a function imports or looks up by
a computed name while it runs is not seen.
"""

from __future__ import annotations

import copy
import dis
import enum
import functools
import inspect
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pl_hybridjobs.training.rng import is_generator

MOST_OBJECTS = 50_000  # of one search
LONGEST_CONTAINER = 1000  # longer ones hold data
MOST_COPIED_BYTES = 1 << 20  # larger arrays are data, which nobody counts in

_ATOMS = (type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), types.CodeType)
_DICTS = (dict, OrderedDict, defaultdict)
_MAKERS = ("__init__", "__new__", "__post_init__", "__setstate__", "__reduce__", "__reduce_ex__", "__getstate__")
_DEREFS = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_ROOT_LOADS = {"LOAD_GLOBAL": "global", "LOAD_NAME": "global"} | dict.fromkeys(_DEREFS, "cell")
_FILLERS = ("EXTENDED_ARG", "CACHE", "PUSH_NULL")

_Slot = tuple[Any, ...]  # where an object holds another one
_T = TypeVar("_T")


@dataclass(frozen=True)
class Reached:
    """What a function reaches, in the order in which its code names it.

    Args:
        qnodes: ``qml.QNode``.
        devices: Of these QNodes, and others in reach.
        generators: ``numpy.random.Generator``, ``numpy.random.RandomState``, ``random.Random`` and ``torch.Generator``.
        makes_devices: Whether code in reach names ``qml.device`` or a class of devices, and so may run circuits on a device of its own.
        complete: Whether the search came to its end.
    """

    qnodes: tuple[Any, ...] = ()
    devices: tuple[Any, ...] = ()
    generators: tuple[Any, ...] = ()
    makes_devices: bool = False
    complete: bool = True


def reach(fn: Any) -> Reached:
    """What a function reaches; also of a list, tuple or dictionary of functions. Nothing is called."""
    graph = _Graph(fn)
    found = graph.objects.values()
    return Reached(
        qnodes=tuple(filter(_is_qnode, found)),
        devices=tuple(filter(_is_device, found)),
        generators=tuple(filter(is_generator, found)),
        makes_devices=graph.makes_devices(),
        complete=graph.complete,
    )


def replaced(fn: _T, mapping: Mapping[Any, Any], *, isolated: bool = False) -> _T:
    """A copy of a function, or of a list, tuple or dictionary of functions, that uses the values of ``mapping`` in place of its keys.

    Keys are compared by identity: QNodes, devices, modules (``{qml.numpy: jax.numpy}``), functions, anything that ``reach`` finds. What
    holds a key is copied, all the way from ``fn``; the original and what it reaches stay as they are. Functions of one module share one
    copy of its global names; copies of classes are subclasses; functions compiled by JAX or Catalyst are used uncompiled.

    Args:
        fn: A callable, or a nest of them.
        mapping: What to replace by what.
        isolated: Also copy small mutable values in reach (lists, dictionaries, arrays, generators, variables, objects of the user's
            classes), so that a call leaves no trace in the original's.

    Returns:
        ``fn`` itself where there is nothing to replace.

    Raises:
        TypeError: Something in reach holds a key and cannot be copied.
    """
    copied: _T = _Copier(_Graph(fn), {id(old): new for old, new in mapping.items()}, isolated).of(fn)
    return copied


def names_and_contents(functions: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """What can change of all that functions reach.

    Args:
        functions: And what they are called with, each by a name.

    Returns:
        The variables that the user's functions name, each with the cell or the dictionary of global names that holds it; and what has
        contents (lists, dictionaries, sets, arrays, the ``__dict__`` of objects of the user's classes), each with the name of the variable
        that leads there. Nothing where JAX is to call back: such changes are made by compiled code in each call.
    """
    functions = dict(functions)
    graph = _Graph(functions)
    if any(map(_is_jax_callback, graph.objects.values())):
        return [], []
    names: dict[tuple[str, int], Any] = {}
    labels = {id(value): name for name, value in reversed(functions.items())}
    contents = []
    for at, obj in list(graph.objects.items())[1:]:
        for slot, child in graph.held.get(at, ()):
            is_named = slot[0] in ("global", "cell", "keyword", "attribute") and isinstance(slot[-1], str)
            labels.setdefault(id(child), slot[-1] if is_named else labels[at])
        if isinstance(obj, types.FunctionType) and _is_users_function(obj):
            cells = zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True)
            names |= {(name, id(cell)): cell for name, cell in cells}
            names |= {(name, id(space)): space for name, space in _global_names(obj)}
        elif _is_array(obj) or type(obj) in (list, set, deque, bytearray, *_DICTS):
            contents.append((labels[at], obj))
        elif type(obj) is types.SimpleNamespace or (_is_users_class(type(obj)) and not isinstance(obj, type | enum.Enum)):
            contents.append((labels[at], _own_dict(obj)))
    return [(name, place) for (name, _), place in names.items()], contents


# What objects hold ---------------------------------------------------------------------------------------------------------


def _is_qnode(obj: Any) -> bool:
    qml = sys.modules.get("pennylane")
    return qml is not None and issubclass(type(obj), qml.QNode)


def _is_device(obj: Any) -> bool:
    qml = sys.modules.get("pennylane")
    return qml is not None and issubclass(type(obj), qml.devices.Device | qml.devices.LegacyDevice)


def _is_device_maker(obj: Any) -> bool:
    qml = sys.modules.get("pennylane")
    if qml is None:
        return False
    bases = (qml.devices.Device, qml.devices.LegacyDevice)
    return obj is qml.device or (isinstance(obj, type) and issubclass(obj, bases) and obj not in bases)


def _is_array(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(obj), numpy.ndarray)


def _is_leaf(obj: Any) -> bool:
    return isinstance(obj, types.ModuleType) or _is_device(obj) or is_generator(obj)


@functools.cache
def _is_installed_file(path: str) -> bool:
    parts = Path(path).parts
    standard = Path(inspect.__file__).parent.parts
    return "site-packages" in parts or "dist-packages" in parts or parts[: len(standard)] == standard


def _is_installed(module: Any, path: str | None) -> bool:
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names or top in ("pl_hybridjobs", "builtins"):
        return True
    return path is not None and _is_installed_file(path)


def _is_users_function(fn: types.FunctionType) -> bool:
    return not _is_installed(fn.__globals__.get("__name__"), fn.__code__.co_filename)


def _is_users_class(cls: type) -> bool:
    home = sys.modules.get(cls.__module__)
    return not _is_installed(cls.__module__, getattr(home, "__file__", None))


def _is_users(obj: Any) -> bool:
    """Whether changes of this object are the user's doing."""
    if isinstance(obj, types.FunctionType):
        return _is_users_function(obj)
    if type(obj) in (types.MethodType, functools.partial, types.SimpleNamespace, list, tuple, set, deque, *_DICTS):
        return True
    return not isinstance(obj, type) and _is_users_class(type(obj))


def _is_compiled(obj: Any) -> bool:
    """A function compiled by JAX or Catalyst."""
    return type(obj).__name__ in ("PjitFunction", "QJIT") and "__wrapped__" in _attributes(obj)


def _is_jax_callback(obj: Any) -> bool:
    is_jax = isinstance(obj, types.FunctionType) and obj.__module__.partition(".")[0] == "jax"
    return is_jax and obj.__name__ in ("debug_callback", "pure_callback", "io_callback")


def _accesses(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """Names that code loads, with the attributes it takes from them: ("global", "circuits", "cost") for ``circuits.cost``."""
    path: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if step.opname in _FILLERS:
            continue
        if path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path = (*path, step.argval)
            continue
        if path:
            yield path
        path = (_ROOT_LOADS[step.opname], step.argval) if step.opname in _ROOT_LOADS else ()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _accesses(constant)


def _imports_pennylane(code: types.CodeType) -> bool:
    """Whether code that runs later imports PennyLane, and names something called device."""
    steps = list(dis.get_instructions(code))
    imports = any(s.opname == "IMPORT_NAME" and s.argval.partition(".")[0] == "pennylane" for s in steps)
    if imports and any(s.argval == "device" for s in steps):
        return True
    return any(_imports_pennylane(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))


def _closure(fn: types.FunctionType) -> dict[str, Any]:
    """The free variables that have a value."""
    found = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _named(fn: types.FunctionType) -> Iterator[tuple[_Slot, Any]]:
    """Values of the names in a function's code, and of what it takes from modules."""
    roots = {"global": fn.__globals__ if _is_users_function(fn) else {}, "cell": _closure(fn)}
    for kind, *path in dict.fromkeys(_accesses(fn.__code__)):
        namespace: Mapping[str, Any] = roots[kind]
        for i, name in enumerate(path):
            if name not in namespace:
                break
            yield (kind, *path[: i + 1]), namespace[name]
            if not isinstance(namespace[name], types.ModuleType):
                break
            namespace = vars(namespace[name])


def _global_names(fn: types.FunctionType) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names that a function takes from its module and from other modules of the user's, each with the dictionary that holds it."""
    for (kind, *path), _ in _named(fn):
        space = fn.__globals__
        for name in path[:-1] if kind == "global" else ():
            space = vars(space[name])
        if kind == "global" and not _is_installed(space.get("__name__"), space.get("__file__")):
            yield path[-1], space


def _attributes(obj: Any) -> dict[str, Any]:
    """Attributes that an instance holds itself, by ``__dict__`` or ``__slots__``."""
    found = {}
    for cls in reversed(type(obj).__mro__):
        for name, member in vars(cls).items():
            if isinstance(member, types.MemberDescriptorType) and isinstance(cls.__dict__.get("__slots__"), str | tuple | list):
                try:
                    found[name] = member.__get__(obj)
                except AttributeError:  # not assigned yet
                    continue
    return found | _own_dict(obj)


def _own_dict(obj: Any) -> dict[str, Any]:
    try:
        own = object.__getattribute__(obj, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return own if isinstance(own, dict) else {}


def _members(cls: type) -> dict[str, Any]:
    """What a class itself defines."""
    skipped = ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__slots__", "__classcell__")
    slot = types.MemberDescriptorType
    return {name: value for name, value in vars(cls).items() if name not in skipped and not isinstance(value, slot)}


def _children(obj: Any) -> Iterator[tuple[_Slot, Any]]:
    """What an object holds, and where."""
    kind = type(obj)
    if isinstance(obj, types.FunctionType):
        yield from ((("cell", name), value) for name, value in _closure(obj).items())
        yield from _named(obj)
        yield from ((("default", i), value) for i, value in enumerate(obj.__defaults__ or ()))
        yield from ((("keyword", name), value) for name, value in (obj.__kwdefaults__ or {}).items())
        yield from ((("attribute", name), value) for name, value in vars(obj).items())
    elif isinstance(obj, types.MethodType):
        yield from ((("func",), obj.__func__), (("self",), obj.__self__))
    elif issubclass(kind, functools.partial):
        yield ("func",), obj.func
        yield from ((("arg", i), value) for i, value in enumerate(obj.args))
        yield from ((("keyword", name), value) for name, value in obj.keywords.items())
    elif _is_qnode(obj):
        held = vars(obj)
        yield from (((name,), held[name]) for name in ("func", "device", "gradient_kwargs"))
    elif isinstance(obj, list | tuple | set | frozenset | deque):
        yield from (((i,), value) for i, value in enumerate(obj if len(obj) <= LONGEST_CONTAINER else ()))
    elif kind in _DICTS:
        yield from (((key,), value) for key, value in (obj.items() if len(obj) <= LONGEST_CONTAINER else ()))
    elif isinstance(obj, staticmethod | classmethod):
        yield ("func",), obj.__func__
    elif isinstance(obj, property):
        yield from (((name,), getattr(obj, name)) for name in ("fget", "fset", "fdel"))
    elif isinstance(obj, functools._lru_cache_wrapper) or _is_compiled(obj):
        yield ("wrapped",), inspect.getattr_static(obj, "__wrapped__")
    elif isinstance(obj, type):
        if _is_users_class(obj):
            yield from ((("member", name), value) for name, value in _members(obj).items())
            yield from ((("base", i), base) for i, base in enumerate(obj.__bases__))
    elif _is_users_class(kind) or kind is types.SimpleNamespace or any("__call__" in vars(base) for base in kind.__mro__):
        yield from ((("attribute", name), value) for name, value in _attributes(obj).items())
        if _is_users_class(kind):
            yield ("type",), kind


class _Graph:
    """All that is in reach of ``root``: objects by identity, in the order found, and what each of them holds."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.objects: dict[int, Any] = {}
        self.held: dict[int, list[tuple[_Slot, Any]]] = {}
        self.complete = True
        waiting = [root]
        while waiting:
            obj = waiting.pop()
            if id(obj) in self.objects or isinstance(obj, _ATOMS):
                continue
            if len(self.objects) >= MOST_OBJECTS:
                self.complete = False
                return
            self.objects[id(obj)] = obj
            kids = [] if _is_leaf(obj) else [(slot, child) for slot, child in _children(obj) if not isinstance(child, _ATOMS)]
            self.held[id(obj)] = kids
            waiting += [child for _, child in reversed(kids)]

    def above(self, ids: set[int], passes: Any = lambda obj: True) -> set[int]:
        """``ids``, and all that lead to them by objects that ``passes`` lets through."""
        holders: dict[int, list[int]] = {}
        for holder, kids in self.held.items():
            for _, child in kids:
                holders.setdefault(id(child), []).append(holder)
        found, waiting = set(ids), list(ids)
        while waiting:
            for holder in holders.get(waiting.pop(), ()):
                if holder not in found and passes(self.objects[holder]):
                    found.add(holder)
                    waiting.append(holder)
        return found

    def makes_devices(self) -> bool:
        """Whether a call may make a device. What made an instance that is there already does not count."""
        waiting, seen = [(self.root, False)], set()
        while waiting:
            obj, of_instance = waiting.pop()
            if (id(obj), of_instance) in seen or id(obj) not in self.objects:
                continue
            seen.add((id(obj), of_instance))
            if _is_device_maker(obj):
                return True
            if isinstance(obj, types.FunctionType) and _is_users_function(obj) and _imports_pennylane(obj.__code__):
                return True
            for slot, child in self.held.get(id(obj), ()):
                if not (of_instance and slot[0] == "member" and slot[1] in _MAKERS):
                    waiting.append((child, slot == ("type",)))
        return False


# Copies --------------------------------------------------------------------------------------------------------------------


def _is_copied_when_isolated(obj: Any) -> bool:
    if isinstance(obj, types.FunctionType):
        return _is_users_function(obj)
    if type(obj) in (list, set, deque, bytearray, types.SimpleNamespace, *_DICTS) or is_generator(obj):
        return True
    if _is_array(obj):
        return bool(obj.nbytes <= MOST_COPIED_BYTES)
    if _is_leaf(obj) or isinstance(obj, type | enum.Enum) or hasattr(type(obj), "__del__"):
        return False
    return _is_users_class(type(obj)) and bool(_attributes(obj))  # one without attributes is a mark, known by its identity


class _CannotCopyError(TypeError):
    pass


class _Copier:
    """Copies of what leads to replaced objects; each object is copied once, so that cycles and shared parts stay what they are."""

    def __init__(self, graph: _Graph, mapping: dict[int, Any], isolated: bool) -> None:
        self._graph = graph
        self._mapping = mapping
        self._isolated = isolated
        self._needed = graph.above(mapping.keys() & graph.objects.keys())
        self._copied = self._needed
        if isolated:
            mutable = {at for at, obj in graph.objects.items() if _is_copied_when_isolated(obj)}
            self._copied = self._needed | graph.above(mutable, _is_users)
        self._copies: dict[int, Any] = {}
        self._cells: dict[int, types.CellType] = {}
        self._spaces: dict[int, types.ModuleType] = {}

    def of(self, obj: Any) -> Any:
        """The copy of an object, or the object itself where its copy would be the same."""
        at = id(obj)
        if at in self._mapping:
            return self._mapping[at]
        if at not in self._copied or isinstance(obj, _ATOMS):
            return obj
        if at not in self._copies:
            try:
                self._copies[at] = self._copy(obj)
            except _CannotCopyError:
                raise
            except TypeError as error:
                if at in self._needed:
                    cls = obj if isinstance(obj, type) else type(obj)
                    what = f"{'the class' if cls is obj else 'an object of type'} {cls.__module__}.{cls.__qualname__}"
                    raise _CannotCopyError(f"cannot copy {what}, which uses what is to be replaced: {error}") from error
                self._copies[at] = obj
        return self._copies[at]

    def _copy(self, obj: Any) -> Any:
        kind = type(obj)
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if isinstance(obj, types.MethodType):
            return types.MethodType(self.of(obj.__func__), self.of(obj.__self__))
        if issubclass(kind, functools.partial):
            keywords = {name: self.of(value) for name, value in obj.keywords.items()}
            return kind(self.of(obj.func), *map(self.of, obj.args), **keywords)
        if _is_qnode(obj):
            return self._qnode(obj)
        if kind in (list, deque):
            self._copies[id(obj)] = new = copy.copy(obj)
            for i, value in enumerate(obj):
                new[i] = self.of(value)
            return new
        if kind in _DICTS:
            self._copies[id(obj)] = new = obj.copy()
            new.update({key: self.of(value) for key, value in obj.items()})
            return new
        if isinstance(obj, tuple):
            items = map(self.of, obj)
            return kind._make(items) if hasattr(kind, "_make") else kind(items)
        if isinstance(obj, set | frozenset):
            return kind(map(self.of, obj))
        if isinstance(obj, staticmethod | classmethod):
            return kind(self.of(obj.__func__))
        if isinstance(obj, property):
            return property(self.of(obj.fget), self.of(obj.fset), self.of(obj.fdel), obj.__doc__)
        if isinstance(obj, functools._lru_cache_wrapper):
            parameters: Any = obj.cache_parameters()
            return functools.lru_cache(**parameters)(self.of(obj.__wrapped__))
        if _is_compiled(obj):
            return self.of(inspect.getattr_static(obj, "__wrapped__"))
        if isinstance(obj, type):
            return self._class(obj)
        if kind is bytearray or is_generator(obj) or _is_array(obj):
            return copy.deepcopy(obj)
        return self._instance(obj)

    def _is_changed(self, obj: Any) -> bool:
        return id(obj) in self._mapping or id(obj) in self._copied

    def _function(self, fn: types.FunctionType) -> types.FunctionType:
        """New cells and global names where they differ; the copy is known before they are filled, as it may hold itself."""
        before = _closure(fn)
        is_apart = self._isolated and _is_users_function(fn)
        named = [(slot, value) for slot, value in self._graph.held[id(fn)] if slot[0] in ("global", "cell") and self._is_changed(value)]
        changed = {slot[1] for slot, _ in named if slot[0] == "cell"} | (set(before) if is_apart else set())
        cells, fresh = [], {}
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            if name in changed and name != "__class__":  # by which super() finds the class that defines a method
                if id(cell) not in self._cells:
                    self._cells[id(cell)] = fresh[name] = types.CellType()
                cells.append(self._cells[id(cell)])
            else:
                cells.append(cell)
        space = fn.__globals__
        if is_apart or any(slot[0] == "global" for slot, _ in named):
            space = vars(self._space(fn.__globals__))
        new = types.FunctionType(fn.__code__, space, fn.__name__, None, tuple(cells) if fn.__closure__ else None)
        self._copies[id(fn)] = new
        after = {name: self.of(value) for name, value in before.items()}
        for slot, value in named:
            if slot[0] == "global":
                self._set(space, fn.__globals__, slot[1:], self.of(value))
            else:
                self._set(after, before, slot[1:], self.of(value))
        for name, cell in fresh.items():
            cell.cell_contents = after[name]
        new.__defaults__ = None if fn.__defaults__ is None else tuple(map(self.of, fn.__defaults__))
        new.__kwdefaults__ = {name: self.of(value) for name, value in fn.__kwdefaults__.items()} if fn.__kwdefaults__ else None
        for name in ("__module__", "__qualname__", "__doc__", "__annotations__"):
            setattr(new, name, getattr(fn, name))
        vars(new).update({name: self.of(value) for name, value in vars(fn).items()})
        return new

    def _space(self, names: dict[str, Any]) -> types.ModuleType:
        """The copy of a module by its names, one for all functions that have them as their global ones."""
        if id(names) not in self._spaces:
            self._spaces[id(names)] = types.ModuleType(str(names.get("__name__", "")))
            vars(self._spaces[id(names)]).update(names)
        return self._spaces[id(names)]

    def _set(self, target: dict[str, Any], source: Mapping[str, Any], path: _Slot, new: Any) -> None:
        """Put a value at ``a.b.c``, where ``a`` and ``b`` are modules, into copies of them."""
        name, *rest = path
        if not rest:
            if not isinstance(source[name], types.ModuleType) or id(source[name]) in self._mapping:
                target[name] = new
        elif id(source[name]) not in self._mapping:
            module = target[name] = self._space(vars(source[name]))
            self._set(vars(module), vars(source[name]), tuple(rest), new)

    def _qnode(self, qnode: Any) -> Any:
        new = copy.copy(qnode)
        self._copies[id(qnode)] = new
        new.func, new.device = self.of(qnode.func), self.of(qnode.device)
        new.gradient_kwargs = dict(self.of(qnode.gradient_kwargs))
        new._init_args = qnode._init_args | {"func": new.func, "device": new.device}
        new.__wrapped__ = new.func
        return new

    def _class(self, cls: type) -> type:
        """A subclass with the methods that change. The copies of its bases come right before the bases, where ``super()`` finds them."""
        members = {name: self.of(value) for name, value in _members(cls).items() if self._is_changed(value)}
        named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, "__slots__": ()}
        bases = (cls, *(self.of(base) for base in cls.__bases__ if self._is_changed(base)))
        return type(cls)(cls.__name__, bases, named | members)

    def _instance(self, obj: Any) -> Any:
        new = types.SimpleNamespace() if type(obj) is types.SimpleNamespace else object.__new__(self.of(type(obj)))
        self._copies[id(obj)] = new
        in_dict = _own_dict(obj)
        for name, value in _attributes(obj).items():
            if name in in_dict:
                _own_dict(new)[name] = self.of(value)
            else:
                object.__setattr__(new, name, self.of(value))
        return new
