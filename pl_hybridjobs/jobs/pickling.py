"""The call as bytes: cloudpickle, made repeatable, with recipes for live things.

What differs from plain cloudpickle:

* The function of the job goes by value even where its module could be imported: the module's attribute of that name is
  usually the decorated object. Everything else of an importable module goes by reference; its source travels beside.
* The same call gives the same bytes, in any process: sets are written in a sorted order, dynamic classes carry no random id.
* A device, a boto3 session or client goes as the recipe that makes it anew. A new kind is one entry in ``_RECIPES``.
* An open file or ``os.environ`` does not leak: cloudpickle would embed the file's content, and the variables.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
import io
import os
import pickle
import re
import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from pl_hybridjobs.jobs import codec

Recipe = Callable[[Any, "Trace"], "tuple[Any, ...] | None"]

_PROTOCOL = 5  # fixed: the highest one of a newer Python would change the bytes
_FILES = (io.TextIOWrapper, io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)
_TORCH_KEY = re.compile(rb"(X.\0\0\0[0-9]{6,20})q", re.DOTALL)
_RANDOM_STATE = ("_rng", "_prng_key", "_prng_seed")


class Writable(Protocol):
    """What a pickler needs of a file."""

    def write(self, data: Any, /) -> object:
        """Take the next bytes."""
        ...


class Forbidden(pickle.PicklingError):
    """Could be pickled, but must not be."""


@dataclass(frozen=True)
class Code:
    """A function's code that travels by value, and where its names are looked up."""

    code: types.CodeType
    module: str
    package: str
    file: str


@dataclass
class Trace:
    """What one pickling saw.

    Attributes:
        references: Names of the modules from which the other side will import something.
        codes: The code that goes by value.
        notes: What a recipe leaves behind.
    """

    references: set[str] = field(default_factory=set)
    codes: list[Code] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# What tells a dataclass's fields from its other annotations is compared by identity, and older cloudpickles (2.2.1) copy it:
# the class would arrive without fields.
_FIELD_KIND = type(Trace.__dataclass_fields__["notes"]._field_type)  # type: ignore[attr-defined]


def dump(obj: object, file: Writable, entry: object = None) -> Trace:
    """Pickle an object.

    Args:
        obj: Anything.
        file: Takes the bytes.
        entry: The function of the job, which goes by value wherever it is met.

    Returns:
        What was seen on the way.
    """
    pickler = _pickler_class()(file, protocol=_PROTOCOL)
    pickler.prepare(entry)
    pickler.dump(obj)
    return cast(Trace, pickler.trace)


def failure(obj: object, entry: object = None) -> Exception | None:
    """Why an object cannot be pickled, or None if it can."""
    try:
        dump(obj, _Nowhere(), entry)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return error
    return None


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any, /) -> int:
        return memoryview(data).nbytes


def load(file: Any) -> Any:
    """The inverse of `dump`. Runs code that the bytes name: verify them first."""
    return _Unpickler(file).load()


def by_reference(obj: object, entry: object = None) -> bool:
    """Whether an object goes as a name (or as a recipe), so that its inner parts do not travel."""
    if obj is entry and obj is not None:
        return False
    if isinstance(obj, types.ModuleType):
        return True
    if isinstance(obj, (types.FunctionType, type)):
        if isinstance(obj, type) and obj.__module__ == "builtins":
            return True
        return bool(_cloudpickle()._should_pickle_by_reference(obj))
    return obj is os.environ or _recipe_for(type(obj)) is not None


def entry_function(fn: object) -> object:
    """The plain function inside partials and bound methods, else the object itself."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, types.MethodType):
            return fn.__func__
        else:
            return fn


def is_installed(fn: object) -> bool:
    """Whether an installed package holds this very function under its own name, so that the name is enough."""
    module = getattr(fn, "__module__", None) or ""
    found: Any = sys.modules.get(module)
    for part in str(getattr(fn, "__qualname__", "<none>")).split("."):
        found = getattr(found, part, None)
    return found is fn and fn is not None and codec.is_installed(module.partition(".")[0])


class _Pickling:
    """Our share of the pickler; cloudpickle's is the next class in line."""

    dispatch_table: Any

    def prepare(self, entry: object) -> None:
        self.trace = Trace()
        self._entry = entry
        self._sets: dict[int, tuple[object, tuple[Any, ...] | None]] = {}

    # The C pickler never asks `reducer_override` about an exact set; it asks this about every object.
    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        kind = type(obj)
        if kind is not set and kind is not frozenset:
            return None
        if id(obj) not in self._sets:
            try:
                items = sorted(obj, key=_stable_key)
            except TypeError:
                self._sets[id(obj)] = obj, None
            else:
                # The number keeps identity: a set that is held twice is one set on the other side, too.
                self._sets[id(obj)] = obj, (kind.__name__, len(self._sets), items)
        return self._sets[id(obj)][1]

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._entry and isinstance(obj, types.FunctionType):
            return self._dynamic_function_reduce(obj)
        if isinstance(obj, types.CodeType):
            build, arguments = self.dispatch_table[types.CodeType](obj)
            return build, tuple(_interned(a) for a in arguments)
        if isinstance(obj, io.IOBase) and isinstance(obj, _FILES):
            return _reduce_stream(obj)
        if type(obj) is type(os.environ):
            return _reduce_environment(obj)
        if type(obj) is _FIELD_KIND:
            return getattr, (dataclasses, obj.name)
        recipe = _recipe_for(type(obj))
        reduced = recipe(obj, self.trace) if recipe else None
        if reduced is not None:
            return reduced
        reduced = cast(Any, super()).reducer_override(obj)
        if reduced is NotImplemented:
            self._note_reference(obj)
            return reduced
        return _without_tracker(reduced) if isinstance(obj, type) else reduced

    def _note_reference(self, obj: Any) -> None:
        module: str | None
        if isinstance(obj, types.ModuleType):
            module = obj.__name__
        elif isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
            module = obj.__module__
        else:
            # Its class comes by here itself; this is for what a module holds ready by name, such as numpy's ufuncs.
            module = type(obj).__module__ if by_reference(type(obj)) else None
        if isinstance(module, str):
            self.trace.references.add(module)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> tuple[Any, ...]:
        spaces = func.__globals__
        names = (str(spaces.get(key) or "") for key in ("__name__", "__package__", "__file__"))
        self.trace.codes.append(Code(func.__code__, *names))
        reduced: tuple[Any, ...] = cast(Any, super())._dynamic_function_reduce(func)
        base, slots = reduced[1][1], reduced[2][1]
        if "__path__" in base:
            base["__path__"] = list(base["__path__"])
        for state in (base, slots):
            state.update({key: sys.intern(value) for key, value in state.items() if type(value) is str})
        return reduced


@functools.cache
def _pickler_class() -> Any:
    return type("BundlePickler", (_Pickling, importlib.import_module("cloudpickle").CloudPickler), {})


@functools.cache
def _cloudpickle() -> Any:
    return importlib.import_module("cloudpickle.cloudpickle")


class _Unpickler(pickle.Unpickler):
    """Reads what ``_Pickling`` writes."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._sets: dict[int, set[Any] | frozenset[Any]] = {}

    def persistent_load(self, pid: Any) -> Any:
        kind, number, items = pid
        if number not in self._sets:
            self._sets[number] = frozenset(items) if kind == "frozenset" else set(items)
        return self._sets[number]


def _stable_key(item: Any) -> tuple[Any, ...]:
    """An order that does not depend on the hash seed. Raises TypeError for what has none."""
    kind = type(item)
    if kind in (str, bytes, int, bool):
        return kind.__name__, item
    if kind in (float, complex, type(None)):
        return kind.__name__, repr(item)
    if kind is tuple:
        return "tuple", tuple(_stable_key(i) for i in item)
    if kind is frozenset:
        return "frozenset", tuple(sorted(_stable_key(i) for i in item))
    if isinstance(item, (type, types.FunctionType, types.BuiltinFunctionType)):
        return "named", str(item.__module__), item.__qualname__
    if isinstance(item, enum.Enum):
        return "enum", kind.__module__, kind.__qualname__, item.name
    raise TypeError(f"{kind.__name__} has no stable order")


def _interned(value: Any) -> Any:
    """Equal strings as one object: the pickle then no longer depends on how the code was compiled or cached."""
    if type(value) is str:
        return sys.intern(value)
    return tuple(_interned(v) for v in value) if type(value) is tuple else value


def _without_tracker(reduced: Any) -> Any:
    """A dynamic class without cloudpickle's random id and without what depends on earlier use of the class."""
    if reduced[0].__name__ not in ("_make_skeleton_class", "_make_skeleton_enum"):
        return reduced
    build, arguments, state, *rest = reduced
    members = dict(state[0])
    members.pop("__slotnames__", None)  # copyreg's cache, set by the first pickling of an instance
    if "_abc_impl" in members:
        members["_abc_impl"] = sorted(members["_abc_impl"], key=lambda cls: (cls.__module__, cls.__qualname__))
    if isinstance(members.get("__static_attributes__"), tuple):
        members["__static_attributes__"] = tuple(sorted(members["__static_attributes__"]))
    return (build, (*arguments[:-2], None, arguments[-1]), (members, *state[1:]), *rest)


def _reduce_stream(obj: Any) -> tuple[Any, ...]:
    for name in ("stdout", "stderr", "stdin"):
        if obj is getattr(sys, name) or obj is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    raise Forbidden("an open file cannot travel")


def _reduce_environment(obj: Any) -> tuple[Any, ...]:
    for name in ("environ", "environb"):
        if obj is getattr(os, name, None):
            return getattr, (os, name)
    raise Forbidden("environment variables do not travel")


# Recipes ---------------------------------------------------------------------------------------------------------------


def _device_recipe(device: Any, trace: Trace) -> tuple[Any, ...] | None:
    """A PennyLane device as ``qml.device(name, ...)`` and its random state.

    None (that is: pickle it as it is) for a device that is not registered by name, or one of whose options cannot be read back.
    """
    del trace
    qml = sys.modules["pennylane"]
    name = getattr(device, "short_name", None) or getattr(device, "name", None)
    point = getattr(qml, "plugin_devices", {}).get(name)
    if point is None or (point.value != f"{type(device).__module__}:{type(device).__qualname__}" and point.load() is not type(device)):
        return None
    state = {key: vars(device)[key] for key in _RANDOM_STATE if key in vars(device)}
    options: dict[str, Any] = {}
    for option in inspect.signature(type(device)).parameters.values():
        if option.kind in (option.VAR_POSITIONAL, option.VAR_KEYWORD) or (option.name == "seed" and "_rng" in state):
            continue
        if option.name == "shots" and "_shots" in vars(device):
            state["_shots"] = vars(device)["_shots"]  # the constructor's argument would warn
            continue
        for attribute in (option.name, f"_{option.name}"):
            if attribute in vars(device) or isinstance(getattr(type(device), attribute, None), property):
                value = getattr(device, attribute)
                break
        else:
            return None
        if not _same(value, option.default):
            options[option.name] = value
    return functools.partial(_device_constructor(qml), name, **options), (), state, None, None, _set_state


def _device_constructor(qml: Any) -> Any:
    return qml.device


def _same(value: object, default: object) -> bool:
    return value is default or (isinstance(value, (bool, int, float, str)) and type(value) is type(default) and value == default)


def _set_state(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).update(state)


def _wires_recipe(wires: Any, trace: Trace) -> tuple[Any, ...]:
    """PennyLane keeps a wire register's hash, which holds only in the process (and for the seed) that made it."""
    del trace
    state = {**vars(wires), "_hash": None} if "_hash" in vars(wires) else dict(vars(wires))
    return type(wires).__new__, (type(wires),), state


def _torch_storage_recipe(storage: Any, trace: Trace) -> tuple[Any, ...] | None:
    """A tensor's memory; torch writes its address in this process as its key (twice, before the numbers), which is replaced."""
    del trace
    build, arguments = storage.__reduce__()[:2]
    data = arguments[0] if arguments else None
    key = _TORCH_KEY.search(data) if isinstance(data, bytes) else None
    return None if key is None else (build, (key.string.replace(key.group(1), b"X\x01\0\0\x000", 2),))


def _boto3_session_recipe(session: Any, trace: Trace) -> tuple[Any, ...]:
    credentials = getattr(session._session, "_credentials", None)
    if credentials is not None and getattr(credentials, "method", "") == "explicit":
        trace.notes.append(
            "A boto3 session was made with explicit keys. They do not travel: where the job runs, boto3's usual "
            "search (environment, profile, role) finds credentials."
        )
    options = {"profile_name": session._session.profile, "region_name": session.region_name}
    make: Callable[..., Any] = type(session)
    return functools.partial(make, **{k: v for k, v in options.items() if v is not None}), ()


def _boto3_client_recipe(client: Any, trace: Trace) -> tuple[Any, ...] | None:
    del trace
    boto3 = sys.modules.get("boto3")
    return None if boto3 is None else _boto3_maker(boto3.client, client)


def _boto3_resource_recipe(resource: Any, trace: Trace) -> tuple[Any, ...] | None:
    del trace
    boto3 = sys.modules.get("boto3")
    # A sub-resource (one bucket) has identifiers of its own; only the service itself can be named here.
    if boto3 is None or resource.meta.identifiers:
        return None
    return _boto3_maker(boto3.resource, resource.meta.client)


def _boto3_maker(make: Any, client: Any) -> tuple[Any, ...]:
    options = {"region_name": client.meta.region_name}
    host = client.meta.endpoint_url.split("//")[-1].split("/")[0].split(":")[0]
    if ".vpce." in host or not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
        options["endpoint_url"] = client.meta.endpoint_url
    return functools.partial(make, client.meta.service_model.service_name, **options), ()


# Loggers need no entry: Python and cloudpickle send them by name.
_RECIPES: dict[str, Recipe] = {
    "pennylane.devices.device_api.Device": _device_recipe,
    "pennylane.devices._legacy_device.Device": _device_recipe,
    "pennylane.wires.Wires": _wires_recipe,
    "torch.storage.TypedStorage": _torch_storage_recipe,
    "torch.storage.UntypedStorage": _torch_storage_recipe,
    "boto3.session.Session": _boto3_session_recipe,
    "botocore.client.BaseClient": _boto3_client_recipe,
    "boto3.resources.base.ServiceResource": _boto3_resource_recipe,
}


_by_class: weakref.WeakKeyDictionary[type, Recipe | None] = weakref.WeakKeyDictionary()


def _recipe_for(kind: type) -> Recipe | None:
    if kind not in _by_class:
        recipes = (_RECIPES.get(f"{cls.__module__}.{cls.__qualname__}") for cls in kind.__mro__)
        _by_class[kind] = next((recipe for recipe in recipes if recipe is not None), None)
    return _by_class[kind]
