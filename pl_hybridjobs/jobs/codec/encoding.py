"""Values to trees: one handler for each type, and a remedy for what has none."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import math
import pathlib
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pl_hybridjobs.errors import CodecError
from pl_hybridjobs.jobs.codec.kinds import (
    FACTORIES,
    MAX_DEPTH,
    NO_FRESH_INSTANCE,
    TAG,
    TOO_DEEP,
    PartName,
    attribute,
    is_namedtuple,
    optimizer_classes,
    pennylane_part,
    slots_of,
)

if TYPE_CHECKING:
    import numpy as np

_MAX_SHOWN = 20  # complaints in one message
_PLAIN_INT = 2**63
_DEFAULT_NAN = struct.pack(">d", math.nan)
# A place inside the value: (the place around it, what to add to its name); the outermost place has no parent.
_Path = tuple[Any, str]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A value as JSON tree and arrays.

    Attributes:
        tree: What ``json.dumps(tree, allow_nan=False)`` accepts.
        arrays: The arrays that ``tree`` refers to, by name. They may share memory with the value.
    """

    tree: Any
    arrays: dict[str, np.ndarray[Any, Any]]


def encode(value: Any, *, where: str = "value") -> Encoded:
    """Turn a value into a strict JSON tree and arrays.

    Args:
        value: Any nest of the supported types. Shared references become copies.
        where: What the value is called in errors.

    Raises:
        CodecError: Something in it cannot be stored. The message lists every such place with its remedy.
    """
    encoder = Encoder()
    try:
        tree = encoder.node(value, (None, where))
    except RecursionError:
        raise CodecError(f"{where} {TOO_DEEP}") from None
    if encoder.complaints:
        raise CodecError(_complaint_text(where, encoder.complaints))
    arrays = {}
    for number, (node, array) in enumerate(encoder.arrays):
        node["array"] = name = f"a{number}"
        arrays[name] = array
    return Encoded(tree, arrays)


_INSTEAD = "store plain data instead (numbers, arrays, dict, list, a dataclass), or write a file into results_dir()"
# (module prefix, class name or "" for any, remedy): what people try to store most.
_REMEDIES: tuple[tuple[str, str, str], ...] = (
    ("torch.nn", "", "store its .state_dict()"),
    ("torch.optim", "", "store its .state_dict()"),
    ("pandas", "DataFrame", "store df.to_dict('list')"),
    ("pandas", "Series", "store series.to_numpy()"),
    ("pandas", "Timestamp", "store t.to_pydatetime()"),
    ("numpy.ma", "", "store x.data and x.mask"),
    ("numpy", "memmap", "store numpy.array(x)"),
    ("numpy", "record", "store x.item(), a tuple"),
    ("pennylane.workflow", "", "build the QNode in the function and store its parameters"),
    ("autograd", "", "store it outside the function that is being differentiated"),
    ("builtins", "generator", "store list(x)"),
    ("builtins", "memoryview", "store bytes(x)"),
    ("builtins", "mappingproxy", "store dict(x)"),
    ("array", "array", "store numpy.array(x)"),
)


class _Refusal(Exception):
    """This value cannot be stored; the text says what it is and what to do."""


class Encoder:
    """One run of :func:`encode`: goes on after a value that cannot be stored, to find all of them."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        # Names are given at the end, so that sets can be put in order first.
        self.arrays: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = []
        self._open: dict[int, _Path] = {}

    def node(self, value: Any, path: _Path) -> Any:
        """The node of a value; a complaint if it has none."""
        if _is_plain(value):
            return value
        key = id(value)
        try:
            if key in self._open:
                raise _Refusal(f"is {_text(self._open[key])} again, a cycle: store one of the two without the other")
            if len(self._open) >= MAX_DEPTH:
                raise _Refusal(TOO_DEEP)
            handler = _find_encoder(value)
            self._open[key] = path
            try:
                return handler(self, value, path)
            finally:
                del self._open[key]
        except _Refusal as refusal:
            self.complaints.append(f"{_text(path)} {refusal}")
        return None

    def items(self, values: Iterable[Any], path: _Path) -> list[Any]:
        """Nodes of a sequence."""
        return [v if _is_plain(v) else self.node(v, (path, f"[{i}]")) for i, v in enumerate(values)]

    def pairs(self, mapping: Mapping[Any, Any], path: _Path) -> list[Any]:
        """Key and value pairs, in order, for keys that JSON does not have."""
        result = []
        for key, value in dict.items(cast("dict[Any, Any]", mapping)):
            name = _key_text(key)
            result.append([self.node(key, (path, f" key {name}")), self.node(value, (path, f"[{name}]"))])
        return result

    def attributes(self, values: Mapping[str, Any], path: _Path) -> Any:
        """An object's fields, as one node."""
        if all(map(_is_json_key, values)):
            return {k: v if _is_plain(v) else self.node(v, (path, f".{k}")) for k, v in values.items()}
        return {TAG: "dict", "items": self.pairs(dict(values), path)}

    def array(self, kind: str, array: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
        """A node of type ``kind`` that holds one array of any storable dtype."""
        node: dict[str, Any] = {TAG: kind, "array": None, **more}
        dtype = array.dtype
        if dtype.kind == "T":
            if hasattr(dtype, "na_object"):
                raise _Refusal(f"is an array of dtype {dtype}: store it without missing values, or as a list")
            node.update(dtype="StringDType", shape=list(array.shape))
            del node["array"]
            node["strings"] = self.items(array.ravel().tolist(), (None, ""))
            return node
        if dtype.type.__module__.startswith("ml_dtypes"):
            node["dtype"] = dtype.name
            array = array.view(f"u{dtype.itemsize}")
        elif not _is_npy_dtype(dtype):
            raise _Refusal(f"has the dtype {dtype!r}, which has no portable form: convert it to numbers or strings, or to a list")
        self.arrays.append((node, array))
        return node

    def unordered(self, values: Iterable[Any], path: _Path) -> list[Any]:
        """Nodes of a set's elements, in an order that does not depend on the hash seed."""
        first = len(self.arrays)
        found = []
        for value in values:
            start = len(self.arrays)
            node = self.node(value, (path, "{" + _key_text(value) + "}"))
            mine = self.arrays[start:]
            rank = json.dumps(node, sort_keys=True), [a.tobytes() for _, a in mine]
            found.append((rank, node, mine))
        found.sort(key=lambda entry: entry[0])
        self.arrays[first:] = [pair for _, _, mine in found for pair in mine]
        return [node for _, node, _ in found]


_EncodeHandler = Callable[[Encoder, Any, _Path], Any]


def _is_plain(value: Any) -> bool:
    """Whether JSON has exactly this value."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return _is_unicode(value)
    if kind is int:
        return bool(-_PLAIN_INT <= value < _PLAIN_INT)
    return value is None or kind is bool


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _is_json_key(key: Any) -> bool:
    return type(key) is str and key != TAG and _is_unicode(key)


def _text(path: _Path) -> str:
    pieces: list[str] = []
    place: _Path | None = path
    while place is not None:
        pieces.append(place[1])
        place = place[0]
    return "".join(reversed(pieces))


def _key_text(key: Any) -> str:
    """How a key is shown in a path. Only builtin types are asked for their text: others run their own code."""
    if type(key) is str:
        shown = json.dumps(key)
    elif type(key) in (int, float, bool, bytes, complex, type(None)):
        shown = repr(key) if type(key) is not int or -_PLAIN_INT <= key < _PLAIN_INT else "a large int"
    else:
        shown = f"a {type(key).__qualname__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _complaint_text(where: str, complaints: list[str]) -> str:
    if len(complaints) == 1:
        return complaints[0]
    shown = "\n".join(f"  - {c}" for c in complaints[:_MAX_SHOWN])
    more = f"\n  and {len(complaints) - _MAX_SHOWN} more" if len(complaints) > _MAX_SHOWN else ""
    return f"{where} cannot be stored, for {len(complaints)} reasons\n{shown}{more}"


def _find_encoder(value: Any) -> _EncodeHandler:
    cls = type(value)
    handler = _BUILTIN.get(cls)
    if handler is None:
        named = _BY_NAME.get(f"{cls.__module__}.{cls.__qualname__}")
        if named is not None and getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls:
            return named
        handler = next((encoder for applies, encoder in _BY_KIND if applies(value)), None)
    if handler is None:
        raise _Refusal(_describe(value))
    return handler


def _describe(value: Any) -> str:
    """What a value without an encoder is, and what to store instead."""
    cls = type(value)
    shown = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    # The lock's own name is an accident of its implementation.
    shown = {"_thread.lock": "threading.Lock", "_thread.RLock": "threading.RLock"}.get(shown, shown)
    article = "an" if shown[:1].lower() in "aeiou" else "a"
    for base in cls.__mro__:
        for prefix, name, remedy in _REMEDIES:
            if name in ("", base.__qualname__) and f"{base.__module__}.".startswith(f"{prefix}."):
                return f"is {article} {shown}: {remedy}"
    builtin = next((b.__name__ for b in cls.__mro__[1:] if b in _BUILTIN), None)
    if builtin is not None:
        return f"is {article} {shown}, a subclass of {builtin} that would come back as a plain one: store {builtin}(x), or a dataclass"
    nearest = next((b for b in cls.__mro__[1:] if f"{b.__module__}.{b.__qualname__}" in _BY_NAME), None)
    if nearest is not None:
        return f"is {article} {shown}, a subclass of {nearest.__module__}.{nearest.__qualname__}: convert it to that type"
    return f"is {article} {shown}: {_INSTEAD}"


def _tagged(kind: str, **members: Any) -> dict[str, Any]:
    return {TAG: kind, **members}


def _encode_float(encoder: Encoder, value: float, path: _Path) -> Any:
    bits = struct.pack(">d", value)
    text = repr(value) if math.isinf(value) or bits == _DEFAULT_NAN else f"nan:{bits.hex()}"
    return _tagged("float", value=text)


def _encode_str(encoder: Encoder, value: str, path: _Path) -> Any:
    return _tagged("str", utf8=value.encode("utf-8", "surrogatepass").hex())


def _encode_complex(encoder: Encoder, value: complex, path: _Path) -> Any:
    return _tagged("complex", re=encoder.node(value.real, path), im=encoder.node(value.imag, path))


def _encode_dict(encoder: Encoder, value: dict[Any, Any], path: _Path) -> Any:
    if all(map(_is_json_key, value)):
        return {k: v if _is_plain(v) else encoder.node(v, (path, f"[{_key_text(k)}]")) for k, v in value.items()}
    return _tagged("dict", items=encoder.pairs(value, path))


def _encode_ordered_dict(encoder: Encoder, value: OrderedDict[Any, Any], path: _Path) -> Any:
    node = _tagged("OrderedDict", items=encoder.pairs(OrderedDict(value), path))
    if vars(value):  # a torch state_dict keeps its format version there
        node["attributes"] = encoder.attributes(vars(value), path)
    return node


def _encode_defaultdict(encoder: Encoder, value: defaultdict[Any, Any], path: _Path) -> Any:
    factory = value.default_factory
    name = None if factory is None else next((n for n, c in FACTORIES.items() if c is factory), "")
    if name == "":
        raise _Refusal(f"is a defaultdict whose factory is not one of {', '.join(FACTORIES)}: store dict(x)")
    return _tagged("defaultdict", factory=name, items=encoder.pairs(value, path))


def _encode_deque(encoder: Encoder, value: deque[Any], path: _Path) -> Any:
    return _tagged("deque", items=encoder.items(value, path), maxlen=value.maxlen)


def _encode_datetime(encoder: Encoder, value: datetime.datetime | datetime.time, path: _Path) -> Any:
    node = _tagged(type(value).__name__, value=value.replace(tzinfo=None).isoformat())
    if value.fold:
        node["fold"] = 1
    if value.tzinfo is not None:
        node["tz"] = encoder.node(value.tzinfo, (path, ".tzinfo"))
    return node


def _encode_timezone(encoder: Encoder, value: datetime.timezone, path: _Path) -> Any:
    offset, *name = cast("tuple[Any, ...]", value.__getinitargs__())  # type: ignore[attr-defined]  # not in typeshed
    return _tagged("timezone", offset=_delta_parts(offset), name=encoder.items(name, path))


def _delta_parts(value: datetime.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _encode_zone(encoder: Encoder, value: Any, path: _Path) -> Any:
    if value.key is None:
        raise _Refusal("is a ZoneInfo without a name: use ZoneInfo('Area/City')")
    return _tagged("ZoneInfo", key=value.key)


def _encode_path(encoder: Encoder, value: pathlib.PurePath, path: _Path) -> Any:
    return _tagged(type(value).__name__, value=encoder.node(str(value), path))


def _encode_slice(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged(type(value).__name__, items=encoder.items((value.start, value.stop, value.step), path))


def _encode_namespace(encoder: Encoder, value: types.SimpleNamespace, path: _Path) -> Any:
    return _tagged("SimpleNamespace", attributes=encoder.attributes(vars(value), path))


def _encode_random(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged("random.Random", state=encoder.node(value.getstate(), (path, ".getstate()")))


# Classes of the user or of a library, named by module and qualname.


def _class_name(cls: type) -> str:
    """``module:qualname`` of a class that can be found again.

    Classes of ``__main__`` that came out of a bundle are in no module; they are found among the living classes.
    """
    module, name = cls.__module__, cls.__qualname__
    if "<locals>" in name:
        raise _Refusal(
            f"is a {module}.{name}, a class defined inside a function, which cannot be found again: "
            "define it at module level, or store its fields (dataclasses.asdict(x), x._asdict())"
        )
    if module != "__main__" and module in sys.modules and attribute(sys.modules[module], name) is not cls:
        raise _Refusal(
            f"is a {module}.{name}, but {module} has no such class under this name (or another one): "
            "define it at module level under its own name, or make the value anew after a reload"
        )
    return f"{module}:{name}"


def _encode_enum(encoder: Encoder, value: enum.Enum, path: _Path) -> Any:
    cls = type(value)
    node = _tagged("enum", **{"class": _class_name(cls)})
    if cls.__members__.get(value.name or "") is value:
        return {**node, "name": value.name}
    return {**node, "flags": encoder.node(value.value, (path, ".value"))}  # a combination of flags


def _encode_namedtuple(encoder: Encoder, value: Any, path: _Path) -> Any:
    cls = type(value)
    if cls.__module__.startswith("optax.") and {"init", "update"} <= set(value._fields):
        raise _Refusal(
            f"is an optax {cls.__qualname__}, which holds functions: store the state that optimizer.init(params) gives, "
            "and build the optimizer in the function"
        )
    if len(value) != len(value._fields):
        raise _Refusal(f"is a {cls.__qualname__} that does not have one value for each field: store tuple(x)")
    fields = encoder.attributes(dict(zip(value._fields, value, strict=True)), path)
    node = _tagged("namedtuple", **{"class": _class_name(cls)}, fields=fields)
    if getattr(value, "__dict__", None):
        node["attributes"] = encoder.attributes(vars(value), path)
    return node


def _is_dataclass_value(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _encode_dataclass(encoder: Encoder, value: Any, path: _Path) -> Any:
    cls = type(value)
    if isinstance(value, NO_FRESH_INSTANCE):
        base = next(b for b in NO_FRESH_INSTANCE if isinstance(value, b))
        raise _Refusal(f"is a {cls.__qualname__}, a dataclass that is also a {base.__name__}: store dataclasses.asdict(x)")
    attributes = dict(getattr(value, "__dict__", ()))
    attributes.pop("__orig_class__", None)  # typing's note on a generic class
    names = [f.name for f in dataclasses.fields(value)]
    slots = [n for n in slots_of(cls) if n not in attributes]
    state = {n: getattr(value, n) for n in slots if _has_slot(value, n)} | attributes
    stored = {n: state.pop(n) for n in names if n in state}
    node = _tagged("dataclass", **{"class": _class_name(cls)}, fields=encoder.attributes(stored, path))
    if len(stored) < len(names):
        node["unset"] = [n for n in names if n not in stored]
    if state:
        node["attributes"] = encoder.attributes(state, path)
    return node


def _has_slot(value: Any, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


# numpy


def _is_npy_dtype(dtype: Any) -> bool:
    """Whether the ``.npy`` format gives back exactly this dtype."""
    from numpy.lib import format as npy

    if dtype.hasobject or _has_metadata(dtype):
        return False
    try:
        same = npy.descr_to_dtype(npy.dtype_to_descr(dtype))
        return bool(same == dtype) and (dtype.kind != "V" or same.type is dtype.type)
    except (ValueError, TypeError):  # fields that overlap, or of a dtype that numpy does not know
        return False


def _has_metadata(dtype: Any) -> bool:
    parts = [dtype.base] if dtype.subdtype else [field[0] for field in (dtype.fields or {}).values()]
    return dtype.metadata is not None or any(map(_has_metadata, parts))


def _encode_ndarray(encoder: Encoder, value: Any, path: _Path) -> Any:
    return encoder.array("ndarray", value)


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _encode_numpy_scalar(encoder: Encoder, value: Any, path: _Path) -> Any:
    """Numbers are kept readable; the other scalars are arrays of no dimensions."""
    import numpy as np

    kind = type(value)
    if kind is np.str_:  # numpy's own ways to a Python value strip zeros at the end
        return _tagged("str_", value=encoder.node(str.__str__(value), path))
    if kind is np.bytes_:
        return _tagged("bytes_", value=encoder.node(bytes(value), path))
    if kind is np.record or not kind.__module__.startswith(("numpy", "ml_dtypes")):
        raise _Refusal(_describe(value))
    if issubclass(kind, np.bool_ | np.integer | np.floating) and not issubclass(kind, np.timedelta64) and kind.__module__ == "numpy":
        item = value.item()
        if _is_plain(item):
            return _tagged("scalar", dtype=kind.__name__, value=item)
    return encoder.array("numpy_scalar", np.asarray(value))


def _encode_dtype(encoder: Encoder, value: Any, path: _Path) -> Any:
    import numpy as np

    return encoder.array("numpy.dtype", np.empty(0, value))


def _is_dtype(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.dtype)


def _encode_bit_generator(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged(
        "BitGenerator",
        name=type(value).__name__,
        state=encoder.node(value.state, (path, ".state")),
        seed_seq=encoder.node(getattr(value, "seed_seq", None), (path, ".seed_seq")),
    )


def _encode_generator(encoder: Encoder, value: Any, path: _Path) -> Any:
    tag = "pennylane.Generator" if type(value).__module__.startswith("pennylane.") else "Generator"
    return _tagged(tag, bit_generator=encoder.node(value.bit_generator, (path, ".bit_generator")))


def _encode_random_state(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged("RandomState", state=encoder.node(value.get_state(legacy=False), (path, ".get_state()")))


def _encode_seed_sequence(encoder: Encoder, value: Any, path: _Path) -> Any:
    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return _tagged("SeedSequence", **{n: encoder.node(getattr(value, n), (path, f".{n}")) for n in names})


# jax, torch, PennyLane


def _is_jax_array(value: Any) -> bool:
    array = getattr(sys.modules.get("jax"), "Array", None)
    return array is not None and isinstance(value, array)


def _encode_jax(encoder: Encoder, value: Any, path: _Path) -> Any:
    import numpy as np

    jax: Any = sys.modules["jax"]
    if isinstance(value, jax.core.Tracer):
        raise _Refusal(
            "is a jax tracer, which has no value yet: store it outside the function that is under jit, grad or vmap "
            "(or send it out with jax.debug.callback)"
        )
    try:
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            impl = jax.random.key_impl(value)
            if not isinstance(impl, str):
                raise _Refusal("is a jax key of an implementation that has no registered name: store jax.random.key_data(x)")
            return encoder.array("jax.key", np.asarray(jax.random.key_data(value)), impl=impl)
        array = np.asarray(value)
    except RuntimeError as error:  # deleted by donation, or spread over other hosts
        raise _Refusal(f"is a jax array that cannot be read ({error}): store a copy that this process owns whole") from error
    more = {"weak": True} if getattr(value, "weak_type", False) else {}
    return encoder.array("jax", array, **more)


def _encode_torch(encoder: Encoder, value: Any, path: _Path) -> Any:
    torch: Any = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        raise _Refusal("is a torch tensor that is sparse, quantized or without data: store x.to_dense() or x.dequantize()")
    tensor = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    try:
        array = tensor.numpy()
    except (TypeError, RuntimeError):  # bfloat16 and others that numpy does not have: store their bits
        bits = tensor.reshape(-1).view(torch.uint8).numpy()
        return encoder.array("torch", bits, **_torch_members(value), shape=list(value.shape))
    return encoder.array("torch", array, **_torch_members(value))


def _torch_members(value: Any) -> dict[str, Any]:
    members: dict[str, Any] = {"torch_dtype": str(value.dtype).removeprefix("torch.")}
    if type(value).__name__ == "Parameter":
        members["parameter"] = True
    if value.requires_grad:
        members["requires_grad"] = True
    return members


def _encode_torch_size(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged("torch.Size", items=encoder.items(value, path))


def _encode_torch_name(encoder: Encoder, value: Any, path: _Path) -> Any:
    return _tagged(f"torch.{type(value).__name__}", value=str(value))


def _encode_torch_generator(encoder: Encoder, value: Any, path: _Path) -> Any:
    if value.device.type != "cpu":
        raise _Refusal("is a torch.Generator of another device than the CPU: store its get_state()")
    return encoder.array("torch.Generator", value.get_state().numpy())


def _encode_tensor(encoder: Encoder, value: Any, path: _Path) -> Any:
    import numpy as np

    return encoder.array("pennylane.tensor", value.view(np.ndarray), requires_grad=bool(value.requires_grad))


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, optimizer_classes())


def _encode_optimizer(encoder: Encoder, value: Any, path: _Path) -> Any:
    attributes = {name: _by_name(member) for name, member in vars(value).items()}
    return _tagged("optimizer", **{"class": _class_name(type(value))}, attributes=encoder.attributes(attributes, path))


def _encode_part_name(encoder: Encoder, value: PartName, path: _Path) -> Any:
    return _tagged("optimizer_part", name=value.name)


def _by_name(member: Any) -> Any:
    """An optimizer's attribute, with parts of PennyLane in it (also one list deep) replaced by their names."""
    if type(member) is list:
        return [_by_name(m) if isinstance(m, type | types.FunctionType) else m for m in member]
    if isinstance(member, type | types.FunctionType) and pennylane_part(member.__module__, member.__qualname__) is member:
        return PartName(f"{member.__module__}:{member.__qualname__}")
    return member


def _base64(encoder: Encoder, value: bytes | bytearray, path: _Path) -> Any:
    return _tagged(type(value).__name__, base64=base64.b64encode(value).decode())


_BUILTIN: dict[type, _EncodeHandler] = {
    float: _encode_float,
    int: lambda e, v, p: _tagged("int", hex=hex(v)),
    str: _encode_str,
    complex: _encode_complex,
    bytes: _base64,
    bytearray: _base64,
    dict: _encode_dict,
    list: lambda e, v, p: e.items(v, p),
    tuple: lambda e, v, p: _tagged("tuple", items=e.items(v, p)),
    set: lambda e, v, p: _tagged("set", items=e.unordered(v, p)),
    frozenset: lambda e, v, p: _tagged("frozenset", items=e.unordered(v, p)),
    OrderedDict: _encode_ordered_dict,
    defaultdict: _encode_defaultdict,
    Counter: lambda e, v, p: _tagged("Counter", items=e.pairs(v, p)),
    deque: _encode_deque,
    range: _encode_slice,
    slice: _encode_slice,
    type(...): lambda e, v, p: _tagged("ellipsis"),
    types.SimpleNamespace: _encode_namespace,
    datetime.datetime: _encode_datetime,
    datetime.time: _encode_datetime,
    datetime.date: lambda e, v, p: _tagged("date", value=v.isoformat()),
    datetime.timedelta: lambda e, v, p: _tagged("timedelta", parts=_delta_parts(v)),
    datetime.timezone: _encode_timezone,
    pathlib.PosixPath: _encode_path,
    pathlib.WindowsPath: _encode_path,
    pathlib.PurePosixPath: _encode_path,
    pathlib.PureWindowsPath: _encode_path,
    PartName: _encode_part_name,
}

# By full name, so that nothing need be imported to recognise them; the class found there must be the value's own.
_BY_NAME: dict[str, _EncodeHandler] = {
    "decimal.Decimal": lambda e, v, p: _tagged("Decimal", value=str(v)),
    "fractions.Fraction": lambda e, v, p: _tagged("Fraction", items=e.items((v.numerator, v.denominator), p)),
    "uuid.UUID": lambda e, v, p: _tagged("UUID", hex=v.hex),
    "zoneinfo.ZoneInfo": _encode_zone,
    "random.Random": _encode_random,
    "numpy.ndarray": _encode_ndarray,
    "numpy.random._generator.Generator": _encode_generator,
    "pennylane.numpy.random.Generator": _encode_generator,
    "numpy.random.mtrand.RandomState": _encode_random_state,
    "numpy.random.bit_generator.SeedSequence": _encode_seed_sequence,
    "numpy.random._mt19937.MT19937": _encode_bit_generator,
    "numpy.random._pcg64.PCG64": _encode_bit_generator,
    "numpy.random._pcg64.PCG64DXSM": _encode_bit_generator,
    "numpy.random._philox.Philox": _encode_bit_generator,
    "numpy.random._sfc64.SFC64": _encode_bit_generator,
    "torch.Tensor": _encode_torch,
    "torch.nn.parameter.Parameter": _encode_torch,
    "torch.Size": _encode_torch_size,
    "torch.dtype": _encode_torch_name,
    "torch.device": _encode_torch_name,
    "torch._C.Generator": _encode_torch_generator,
    "pennylane.numpy.tensor.tensor": _encode_tensor,
}

_BY_KIND: tuple[tuple[Callable[[Any], bool], _EncodeHandler], ...] = (
    (lambda v: isinstance(v, enum.Enum), _encode_enum),
    (_is_jax_array, _encode_jax),
    (_is_numpy_scalar, _encode_numpy_scalar),
    (_is_dtype, _encode_dtype),
    (_is_optimizer, _encode_optimizer),
    (lambda v: is_namedtuple(type(v)), _encode_namedtuple),
    (_is_dataclass_value, _encode_dataclass),
)
