"""Any nest of values as strict JSON plus named arrays, and back. No pickle, and no code named by the data is ever called.

Plain dicts with string keys, lists, strings, integers, finite floats, booleans and None stay plain JSON. Everything else is an object
with the key ``"$type"``, for example ``{"$type": "tuple", "items": [1, 2]}``; arrays are
``{"$type": "ndarray", "array": "a0"}``, where ``a0`` names an array in an ``.npz`` file beside the JSON.

Classes are named as ``"module:qualname"``. On the way back a class must be found *and* be what the data claims (a dataclass,
a namedtuple, an enumeration, a PennyLane optimizer); its instance is made without running ``__init__``, so a tampered file can
fill in fields but cannot call anything.

A framework (numpy, jax, torch, PennyLane) is looked for in ``sys.modules`` when encoding, since its values cannot exist before it is
imported, and imported when decoding only if the data holds its values.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import enum
import functools
import importlib
import importlib.util
import io
import json
import math
import pathlib
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pl_hybridjobs.errors import CodecError

if TYPE_CHECKING:
    import numpy as np

TAG = "$type"

_MAX_DEPTH = 128  # keeps clear of Python's recursion limit, in the JSON parser as well
_MAX_SHOWN = 20  # complaints in one message
_PLAIN_INT = 2**63
_MAX_NPY_HEADER = 2**20
_DEFAULT_NAN = struct.pack(">d", math.nan)
_FACTORIES: dict[str, type] = {c.__name__: c for c in (list, dict, set, tuple, int, float, str, bool)}
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
# Importing these does something beyond defining names.
_NEVER_IMPORT = {"antigravity", "this", "idlelib", "turtledemo", "test", "__main__"}
_NO_FRESH_INSTANCE = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, BaseException, type)

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
    encoder = _Encoder()
    try:
        tree = encoder.node(value, (None, where))
    except RecursionError:
        raise CodecError(f"{where} {_TOO_DEEP}") from None
    if encoder.complaints:
        raise CodecError(_complaint_text(where, encoder.complaints))
    arrays = {}
    for number, (node, array) in enumerate(encoder.arrays):
        node["array"] = name = f"a{number}"
        arrays[name] = array
    return Encoded(tree, arrays)


def decode(tree: Any, arrays: Mapping[str, np.ndarray[Any, Any]], *, allow_import: bool = False, where: str = "value") -> Any:
    """Build the value that :func:`encode` was given.

    Args:
        tree: The JSON tree.
        arrays: The arrays by name. The value gets copies of them.
        allow_import: Whether a class may be looked for in a local module that is not imported yet, which runs that module.
            Modules of the standard library and of installed packages are imported in any case.
        where: What the value is called in errors.

    Raises:
        CodecError: The tree is damaged, or a class or package that it needs is not to be had here.
    """
    return _decode(tree, arrays, allow_import, where, copy=True)


def dumps(value: Any, *, where: str = "value") -> tuple[bytes, bytes | None]:
    """Encode to the content of a JSON file and, if the value holds arrays, of an ``.npz`` file.

    Equal values give equal bytes.

    Args:
        value: Any nest of the supported types.
        where: What the value is called in errors.

    Raises:
        CodecError: Something in it cannot be stored.
    """
    encoded = encode(value, where=where)
    parts: list[bytes] = []
    if encoded.arrays:
        write_npz(encoded.arrays, parts.append)
    return json_bytes(encoded.tree), b"".join(parts) or None


def json_bytes(tree: Any) -> bytes:
    """The content of a JSON file that holds an encoded tree."""
    return json.dumps(tree, allow_nan=False, ensure_ascii=False).encode()


def write_npz(arrays: Mapping[str, np.ndarray[Any, Any]], write: Callable[[bytes], Any]) -> None:
    """Write an uncompressed ``.npz`` file, without time stamps or anything else that differs between runs.

    Args:
        arrays: By name, as :func:`encode` gives them.
        write: Called with each piece of the file, in order.
    """
    import zipfile

    with zipfile.ZipFile(cast("Any", _Stream(write)), "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.create_system, info.external_attr = 3, 0o600 << 16
            info.file_size = array.nbytes + _MAX_NPY_HEADER  # tells zipfile whether it needs 64-bit sizes
            with archive.open(info, "w") as member:
                for part in _npy_parts(array):
                    member.write(part)


def loads(json_file: bytes, npz_file: bytes | None, *, allow_import: bool = False, where: str = "value") -> Any:
    """Build the value that :func:`dumps` was given.

    Args:
        json_file: The JSON file's content.
        npz_file: The ``.npz`` file's content, if there is one.
        allow_import: As for :func:`decode`.
        where: What the value is called in errors.

    Raises:
        CodecError: The bytes are damaged, or a class or package that they need is not to be had here.
    """
    tree, arrays = read(json_file, npz_file, where=where)
    return _decode(tree, arrays, allow_import, where, copy=False)


def read(json_file: bytes, npz_file: bytes | None, *, where: str = "value") -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """The tree and the arrays that stored bytes hold, for :func:`decode` or :func:`to_plain`.

    Raises:
        CodecError: The bytes are damaged.
    """
    try:
        tree = json.loads(json_file, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{where}: the stored JSON is damaged ({error})") from error
    return tree, {} if npz_file is None else _read_npz(npz_file, where)


def to_plain(tree: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """A readable strict-JSON view of an encoded value, without building any class.

    Arrays become nested lists, tuples and sets lists, instances objects of their fields, complex numbers
    ``{"re": ..., "im": ...}``, non-finite floats ``"nan"``, ``"inf"`` or ``"-inf"``. It cannot be decoded again.

    Raises:
        CodecError: The tree is damaged.
    """
    try:
        return _Viewer(arrays).view(tree)
    except RecursionError:
        raise CodecError(f"value {_TOO_DEEP}") from None


# Files ---------------------------------------------------------------------------------------------------------------


class _Stream:
    """A file for zipfile that can only be written to."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def _npy_parts(array: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """The ``.npy`` file of one array: header and content."""
    from numpy.lib import format as npy

    header = io.BytesIO()
    fields = npy.header_data_from_array_1_0(array)
    try:
        npy.write_array_header_1_0(header, fields)
    except ValueError:  # long or not Latin-1: many fields, or names in other scripts
        npy.write_array(header, array, version=(3, 0), allow_pickle=False)  # numpy warns if it has to find the version itself
        yield header.getvalue()
        return
    yield header.getvalue()
    yield array.tobytes("F" if fields["fortran_order"] else "C")


def _read_npz(data: bytes, where: str) -> dict[str, np.ndarray[Any, Any]]:
    import zipfile

    from numpy.lib import format as npy

    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{info.filename} is compressed")
                member = io.BytesIO(archive.read(info))
                arrays[info.filename.removesuffix(".npy")] = npy.read_array(member, allow_pickle=False, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:  # the parsers raise nearly anything on damaged bytes
        raise CodecError(f"{where}: the stored arrays are damaged ({error})") from error
    return arrays


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Encoding ------------------------------------------------------------------------------------------------------------

_TOO_DEEP = f"is nested more than {_MAX_DEPTH} levels deep: flatten it, for example into a list of its parts"
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


class _Encoder:
    """One run of :func:`encode`: goes on after a value that cannot be stored, to find all of them."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        # Names are given at the end, so that sets can be put in order first.
        self.arrays: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = []
        self._open: dict[int, _Path] = {}

    def node(self, value: Any, path: _Path) -> Any:
        if _is_plain(value):
            return value
        key = id(value)
        try:
            if key in self._open:
                raise _Refusal(f"is {_text(self._open[key])} again, a cycle: store one of the two without the other")
            if len(self._open) >= _MAX_DEPTH:
                raise _Refusal(_TOO_DEEP)
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


_EncodeHandler = Callable[[_Encoder, Any, _Path], Any]


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


def _encode_float(encoder: _Encoder, value: float, path: _Path) -> Any:
    bits = struct.pack(">d", value)
    text = repr(value) if math.isinf(value) or bits == _DEFAULT_NAN else f"nan:{bits.hex()}"
    return _tagged("float", value=text)


def _encode_str(encoder: _Encoder, value: str, path: _Path) -> Any:
    return _tagged("str", utf8=value.encode("utf-8", "surrogatepass").hex())


def _encode_complex(encoder: _Encoder, value: complex, path: _Path) -> Any:
    return _tagged("complex", re=encoder.node(value.real, path), im=encoder.node(value.imag, path))


def _encode_dict(encoder: _Encoder, value: dict[Any, Any], path: _Path) -> Any:
    if all(map(_is_json_key, value)):
        return {k: v if _is_plain(v) else encoder.node(v, (path, f"[{_key_text(k)}]")) for k, v in value.items()}
    return _tagged("dict", items=encoder.pairs(value, path))


def _encode_ordered_dict(encoder: _Encoder, value: OrderedDict[Any, Any], path: _Path) -> Any:
    node = _tagged("OrderedDict", items=encoder.pairs(OrderedDict(value), path))
    if vars(value):  # a torch state_dict keeps its format version there
        node["attributes"] = encoder.attributes(vars(value), path)
    return node


def _encode_defaultdict(encoder: _Encoder, value: defaultdict[Any, Any], path: _Path) -> Any:
    factory = value.default_factory
    name = None if factory is None else next((n for n, c in _FACTORIES.items() if c is factory), "")
    if name == "":
        raise _Refusal(f"is a defaultdict whose factory is not one of {', '.join(_FACTORIES)}: store dict(x)")
    return _tagged("defaultdict", factory=name, items=encoder.pairs(value, path))


def _encode_deque(encoder: _Encoder, value: deque[Any], path: _Path) -> Any:
    return _tagged("deque", items=encoder.items(value, path), maxlen=value.maxlen)


def _encode_datetime(encoder: _Encoder, value: datetime.datetime | datetime.time, path: _Path) -> Any:
    node = _tagged(type(value).__name__, value=value.replace(tzinfo=None).isoformat())
    if value.fold:
        node["fold"] = 1
    if value.tzinfo is not None:
        node["tz"] = encoder.node(value.tzinfo, (path, ".tzinfo"))
    return node


def _encode_timezone(encoder: _Encoder, value: datetime.timezone, path: _Path) -> Any:
    offset, *name = cast("tuple[Any, ...]", value.__getinitargs__())  # type: ignore[attr-defined]  # not in typeshed
    return _tagged("timezone", offset=_delta_parts(offset), name=encoder.items(name, path))


def _delta_parts(value: datetime.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _encode_zone(encoder: _Encoder, value: Any, path: _Path) -> Any:
    if value.key is None:
        raise _Refusal("is a ZoneInfo without a name: use ZoneInfo('Area/City')")
    return _tagged("ZoneInfo", key=value.key)


def _encode_path(encoder: _Encoder, value: pathlib.PurePath, path: _Path) -> Any:
    return _tagged(type(value).__name__, value=encoder.node(str(value), path))


def _encode_slice(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return _tagged(type(value).__name__, items=encoder.items((value.start, value.stop, value.step), path))


def _encode_namespace(encoder: _Encoder, value: types.SimpleNamespace, path: _Path) -> Any:
    return _tagged("SimpleNamespace", attributes=encoder.attributes(vars(value), path))


def _encode_random(encoder: _Encoder, value: Any, path: _Path) -> Any:
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
    if module != "__main__" and module in sys.modules and _attribute(sys.modules[module], name) is not cls:
        raise _Refusal(
            f"is a {module}.{name}, but {module} has no such class under this name (or another one): "
            "define it at module level under its own name, or make the value anew after a reload"
        )
    return f"{module}:{name}"


def _attribute(module: Any, qualname: str) -> Any:
    """What a module holds under a dotted name, without running a ``__getattr__`` of it; None if nothing."""
    found = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | types.ModuleType) else None
    return found


def _encode_enum(encoder: _Encoder, value: enum.Enum, path: _Path) -> Any:
    cls = type(value)
    node = _tagged("enum", **{"class": _class_name(cls)})
    if cls.__members__.get(value.name or "") is value:
        return {**node, "name": value.name}
    return {**node, "flags": encoder.node(value.value, (path, ".value"))}  # a combination of flags


def _is_namedtuple(cls: type) -> bool:
    names = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(names, tuple) and all(isinstance(n, str) for n in names)


def _encode_namedtuple(encoder: _Encoder, value: Any, path: _Path) -> Any:
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


def _encode_dataclass(encoder: _Encoder, value: Any, path: _Path) -> Any:
    cls = type(value)
    if isinstance(value, _NO_FRESH_INSTANCE):
        base = next(b for b in _NO_FRESH_INSTANCE if isinstance(value, b))
        raise _Refusal(f"is a {cls.__qualname__}, a dataclass that is also a {base.__name__}: store dataclasses.asdict(x)")
    attributes = dict(getattr(value, "__dict__", ()))
    attributes.pop("__orig_class__", None)  # typing's note on a generic class
    names = [f.name for f in dataclasses.fields(value)]
    slots = [n for n in _slots(cls) if n not in attributes]
    state = {n: getattr(value, n) for n in slots if _has_slot(value, n)} | attributes
    stored = {n: state.pop(n) for n in names if n in state}
    node = _tagged("dataclass", **{"class": _class_name(cls)}, fields=encoder.attributes(stored, path))
    if len(stored) < len(names):
        node["unset"] = [n for n in names if n not in stored]
    if state:
        node["attributes"] = encoder.attributes(state, path)
    return node


def _slots(cls: type) -> list[str]:
    """Names of all slots of a class, as they are after mangling."""
    members = (m for c in cls.__mro__ for m in vars(c).items())
    return [name for name, member in members if isinstance(member, types.MemberDescriptorType)]


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


def _encode_ndarray(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return encoder.array("ndarray", value)


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _encode_numpy_scalar(encoder: _Encoder, value: Any, path: _Path) -> Any:
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


def _encode_dtype(encoder: _Encoder, value: Any, path: _Path) -> Any:
    import numpy as np

    return encoder.array("numpy.dtype", np.empty(0, value))


def _is_dtype(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.dtype)


def _encode_bit_generator(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return _tagged(
        "BitGenerator",
        name=type(value).__name__,
        state=encoder.node(value.state, (path, ".state")),
        seed_seq=encoder.node(getattr(value, "seed_seq", None), (path, ".seed_seq")),
    )


def _encode_generator(encoder: _Encoder, value: Any, path: _Path) -> Any:
    tag = "pennylane.Generator" if type(value).__module__.startswith("pennylane.") else "Generator"
    return _tagged(tag, bit_generator=encoder.node(value.bit_generator, (path, ".bit_generator")))


def _encode_random_state(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return _tagged("RandomState", state=encoder.node(value.get_state(legacy=False), (path, ".get_state()")))


def _encode_seed_sequence(encoder: _Encoder, value: Any, path: _Path) -> Any:
    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return _tagged("SeedSequence", **{n: encoder.node(getattr(value, n), (path, f".{n}")) for n in names})


# jax, torch, PennyLane


def _is_jax_array(value: Any) -> bool:
    array = getattr(sys.modules.get("jax"), "Array", None)
    return array is not None and isinstance(value, array)


def _encode_jax(encoder: _Encoder, value: Any, path: _Path) -> Any:
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


def _encode_torch(encoder: _Encoder, value: Any, path: _Path) -> Any:
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


def _encode_torch_size(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return _tagged("torch.Size", items=encoder.items(value, path))


def _encode_torch_name(encoder: _Encoder, value: Any, path: _Path) -> Any:
    return _tagged(f"torch.{type(value).__name__}", value=str(value))


def _encode_torch_generator(encoder: _Encoder, value: Any, path: _Path) -> Any:
    if value.device.type != "cpu":
        raise _Refusal("is a torch.Generator of another device than the CPU: store its get_state()")
    return encoder.array("torch.Generator", value.get_state().numpy())


def _encode_tensor(encoder: _Encoder, value: Any, path: _Path) -> Any:
    import numpy as np

    return encoder.array("pennylane.tensor", value.view(np.ndarray), requires_grad=bool(value.requires_grad))


def _optimizer_classes() -> tuple[type, ...]:
    package = sys.modules.get("pennylane.optimize")
    found = (v for n, v in vars(package).items() if n.endswith("Optimizer")) if package else ()
    return tuple(c for c in found if isinstance(c, type))


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, _optimizer_classes())


def _encode_optimizer(encoder: _Encoder, value: Any, path: _Path) -> Any:
    attributes = {name: _by_name(member) for name, member in vars(value).items()}
    return _tagged("optimizer", **{"class": _class_name(type(value))}, attributes=encoder.attributes(attributes, path))


@dataclass(frozen=True)
class _PartName:
    """Stands for a part of PennyLane while an optimizer that holds it is stored; read nowhere else."""

    name: str


def _encode_part_name(encoder: _Encoder, value: _PartName, path: _Path) -> Any:
    return _tagged("optimizer_part", name=value.name)


def _by_name(member: Any) -> Any:
    """An optimizer's attribute, with parts of PennyLane in it (also one list deep) replaced by their names."""
    if type(member) is list:
        return [_by_name(m) if isinstance(m, type | types.FunctionType) else m for m in member]
    if isinstance(member, type | types.FunctionType) and _pennylane_part(member.__module__, member.__qualname__) is member:
        return _PartName(f"{member.__module__}:{member.__qualname__}")
    return member


def _pennylane_part(module: str, qualname: str) -> Any:
    """What optimizers of PennyLane hold by reference, or None.

    That is a function of ``pennylane.optimize``, as RotosolveOptimizer's inner solver, or a class of operators, as RotoselectOptimizer
    chooses from.
    """
    found = _attribute(sys.modules.get(module), qualname)
    if isinstance(found, types.FunctionType) and found.__module__ == module and module.startswith("pennylane.optimize."):
        return found
    operator = getattr(sys.modules.get("pennylane.operation"), "Operator", ())
    return found if isinstance(found, type) and module.startswith("pennylane.") and issubclass(found, operator) else None


def _base64(encoder: _Encoder, value: bytes | bytearray, path: _Path) -> Any:
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
    _PartName: _encode_part_name,
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
    (lambda v: _is_namedtuple(type(v)), _encode_namedtuple),
    (_is_dataclass_value, _encode_dataclass),
)


# Decoding ------------------------------------------------------------------------------------------------------------


def _decode(tree: Any, arrays: Mapping[str, np.ndarray[Any, Any]], allow_import: bool, where: str, *, copy: bool) -> Any:
    try:
        return _Decoder(arrays, allow_import, where, copy).value(tree)
    except RecursionError:
        raise CodecError(f"{where} {_TOO_DEEP}") from None


class _Decoder:
    """One run of :func:`decode`."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]], allow_import: bool, where: str, copy: bool) -> None:
        self._arrays = arrays
        self._allow_import = allow_import
        self._copy = copy
        self.where = where

    def value(self, node: Any) -> Any:
        kind = type(node)
        if kind is list:
            return [self.value(v) if type(v) in (dict, list) else v for v in node]
        if kind is not dict:
            return node
        if TAG not in node:
            return {k: self.value(v) if type(v) in (dict, list) else v for k, v in node.items()}
        tag = node[TAG]
        handler = _DECODERS.get(tag) if isinstance(tag, str) else None
        if handler is None:
            raise CodecError(f"{self.where}: {tag!r} is not a type that this version can read; upgrade pl-hybridjobs")
        try:
            return handler(self, node)
        except (CodecError, RecursionError):
            raise
        except Exception as error:  # whatever a constructor makes of damaged data
            raise CodecError(f"{self.where}: a stored {tag} is damaged ({type(error).__name__}: {error})") from error

    def items(self, node: dict[str, Any]) -> list[Any]:
        nodes = node["items"]
        if not isinstance(nodes, list):
            raise ValueError("its items are not a list")
        return [self.value(v) for v in nodes]

    def pairs(self, node: dict[str, Any]) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(value)) for key, value in node["items"]]

    def attributes(self, node: Any) -> dict[str, Any]:
        found = self.value(node)
        if type(found) is not dict or not all(type(k) is str for k in found):
            raise ValueError("its fields are not an object")
        return found

    def array(self, node: dict[str, Any]) -> Any:
        """The node's array, this value's own to change."""
        import numpy as np

        name = node.get("dtype")
        if name == "StringDType":
            return np.array(node["strings"], dtype=np.dtypes.StringDType()).reshape(node["shape"])
        array = self._arrays[node["array"]]
        if self._copy:
            array = array.copy(order="K")
        return array if name is None else array.view(_ml_dtype(name))

    def find_class(self, node: dict[str, Any], is_right: Callable[[Any], bool], claim: str) -> Any:
        """The class that a node names, if it is what the node claims.

        Raises:
            CodecError: It is not to be had here, or is something else.
        """
        reference = node["class"]
        module, _, qualname = reference.partition(":")
        found = [_attribute(self._module(module, qualname), qualname)]
        if not (isinstance(found[0], type) and is_right(found[0])):
            found += _living_classes(module, qualname)
        for cls in found:
            if isinstance(cls, type) and is_right(cls):
                return cls
        if any(isinstance(cls, type) for cls in found):
            raise CodecError(
                f"{self.where}: {module}.{qualname} is here not {claim} of the same fields as when it was stored; use the same code"
            )
        if module in sys.modules:
            raise CodecError(f"{self.where}: {module} has no class {qualname}; use the code that stored it, or define the class first")
        raise CodecError(
            f"{self.where} holds a {module}.{qualname}, but {module} is not imported here, and reading a value never runs local "
            f"code; do `import {module}` first, then read it again"
        )

    def _module(self, name: str, qualname: str) -> Any:
        """The module, imported if that is allowed; None if it is not to be had."""
        if name in sys.modules:
            return sys.modules[name]
        if not set(name.split(".")).isdisjoint(_NEVER_IMPORT):
            return None
        if not (self._allow_import or is_installed(name.partition(".")[0])):
            return None
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise CodecError(f"{self.where} holds a {name}.{qualname}, but {error}; install or upgrade what it belongs to") from error

    def framework(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise CodecError(f"{self.where} holds values of {name}, which cannot be imported here ({error}); install it") from error


_DecodeHandler = Callable[[_Decoder, dict[str, Any]], Any]


def _living_classes(module: str, qualname: str) -> Iterator[type]:
    """Classes of this name that exist without being in a module, as those of ``__main__`` that a bundle brought; newest first."""
    seen: set[type] = set()
    pending: list[type] = [object]
    found: list[type] = []
    while pending:
        cls = pending.pop()
        children: list[type] = type.__subclasses__(cls)
        for child in children:
            if child not in seen:
                seen.add(child)
                pending.append(child)
                if child.__module__ == module and child.__qualname__ == qualname:
                    found.append(child)
    return reversed(found)


@functools.cache
def is_installed(package: str) -> bool:
    """Whether a top-level package is of the standard library or in a site-packages folder; nothing is run to find out."""
    if package in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())]
    return bool(places) and all(any(pathlib.Path(p).is_relative_to(s) for s in _site_folders()) for p in places)


def _site_folders() -> set[str]:
    import site
    import sysconfig

    return {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), site.getusersitepackages()}


def _ml_dtype(name: str) -> Any:
    """The numpy dtype of a short float or integer, such as bfloat16."""
    import ml_dtypes
    import numpy as np

    scalar = vars(ml_dtypes)[name]
    if not (isinstance(scalar, type) and issubclass(scalar, np.generic)):
        raise ValueError(f"{name} is not a dtype")
    return np.dtype(scalar)


def _decode_float(decoder: _Decoder, node: dict[str, Any]) -> float:
    text = node["value"]
    name, _, bits = text.partition(":")
    if name not in ("nan", "inf", "-inf"):
        raise ValueError(f"{text!r} is not a non-finite number")
    return cast("float", struct.unpack(">d", bytes.fromhex(bits))[0]) if bits else float(name)


def _decode_ordered_dict(decoder: _Decoder, node: dict[str, Any]) -> Any:
    value = OrderedDict(decoder.pairs(node))
    vars(value).update(decoder.attributes(node.get("attributes", {})))
    return value


def _decode_counter(decoder: _Decoder, node: dict[str, Any]) -> Any:
    value: Counter[Any] = Counter()
    dict.update(value, decoder.pairs(node))
    return value


def _decode_defaultdict(decoder: _Decoder, node: dict[str, Any]) -> Any:
    factory = node["factory"]
    return defaultdict(None if factory is None else _FACTORIES[factory], decoder.pairs(node))


def _decode_datetime(decoder: _Decoder, node: dict[str, Any]) -> Any:
    cls = datetime.datetime if node[TAG] == "datetime" else datetime.time
    zone = decoder.value(node["tz"]) if "tz" in node else None
    return cls.fromisoformat(node["value"]).replace(tzinfo=zone, fold=node.get("fold", 0))


def _delta(parts: list[int]) -> datetime.timedelta:
    days, seconds, microseconds = parts
    return datetime.timedelta(days, seconds, microseconds)


def _decode_timezone(decoder: _Decoder, node: dict[str, Any]) -> Any:
    zone = datetime.timezone(_delta(node["offset"]), *(decoder.value(n) for n in node["name"]))
    return datetime.UTC if zone == datetime.UTC and not node["name"] else zone


def _decode_path(decoder: _Decoder, node: dict[str, Any]) -> Any:
    cls: type[pathlib.PurePath] = getattr(pathlib, node[TAG])
    return cls(decoder.value(node["value"]))


def _decode_random(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import random

    value = random.Random()  # noqa: S311 - its state is restored, it makes no secrets
    value.setstate(decoder.value(node["state"]))
    return value


def _decode_enum(decoder: _Decoder, node: dict[str, Any]) -> Any:
    if "name" in node:
        name = node["name"]
        cls = decoder.find_class(node, lambda c: issubclass(c, enum.Enum) and name in c.__members__, f"an enumeration with {name!r},")
        return cls.__members__[name]
    cls = decoder.find_class(node, lambda c: issubclass(c, enum.Flag), "a flag enumeration")
    return cls(int(decoder.value(node["flags"])))


def _decode_namedtuple(decoder: _Decoder, node: dict[str, Any]) -> Any:
    fields = decoder.attributes(node["fields"])
    names = tuple(fields)
    cls = decoder.find_class(node, lambda c: _is_namedtuple(c) and c._fields == names, "a namedtuple")
    value = tuple.__new__(cls, fields.values())
    if "attributes" in node:
        vars(value).update(decoder.attributes(node["attributes"]))
    return value


def _decode_dataclass(decoder: _Decoder, node: dict[str, Any]) -> Any:
    fields = decoder.attributes(node["fields"])
    names = {*fields, *node.get("unset", ())}
    cls = decoder.find_class(
        node, lambda c: dataclasses.is_dataclass(c) and {f.name for f in dataclasses.fields(c)} == names, "a dataclass"
    )
    if issubclass(cls, _NO_FRESH_INSTANCE):
        raise ValueError(f"{cls.__qualname__} is not a plain dataclass")
    value: Any = object.__new__(cls)
    slots = set(_slots(cls))
    for name, member in {**fields, **decoder.attributes(node.get("attributes", {}))}.items():
        if name in slots:
            object.__setattr__(value, name, member)  # passes by a frozen class's own
        else:
            vars(value)[name] = member
    return value


def _decode_optimizer(decoder: _Decoder, node: dict[str, Any]) -> Any:
    decoder.framework("pennylane.optimize")
    cls = decoder.find_class(node, lambda c: issubclass(c, _optimizer_classes()), "a PennyLane optimizer")
    if issubclass(cls, _NO_FRESH_INSTANCE):
        raise ValueError(f"{cls.__qualname__} is not a plain optimizer")
    value: Any = object.__new__(cls)
    for name, member in decoder.attributes(node["attributes"]).items():
        vars(value)[name] = [_named_part(m) for m in member] if type(member) is list else _named_part(member)
    return value


def _named_part(member: Any) -> Any:
    if type(member) is not _PartName:
        return member
    module, _, qualname = member.name.partition(":")
    found = _pennylane_part(module, qualname)
    if found is None:
        raise ValueError(f"{member.name} is not a part of PennyLane's optimizers")
    return found


def _decode_scalar(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    dtype, value = np.dtype(str(node["dtype"])), node["value"]
    if dtype.kind not in "biuf" or type(value) not in (bool, int, float):
        raise ValueError(f"{dtype} is not a number's dtype")
    return dtype.type(value)


def _decode_numpy_text(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    value = decoder.value(node["value"])
    return np.str_(value) if node[TAG] == "str_" else np.bytes_(value)


def _decode_bit_generator(decoder: _Decoder, node: dict[str, Any]) -> Any:
    seed = decoder.value(node["seed_seq"])
    value = _bit_generator(node["name"], 0 if seed is None else seed)
    value.state = decoder.value(node["state"])
    return value


def _bit_generator(name: str, seed: Any) -> Any:
    import numpy as np

    if name not in _BIT_GENERATORS:
        raise ValueError(f"{name!r} is not a bit generator of numpy")
    return getattr(np.random, name)(seed)


def _decode_generator(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    return np.random.Generator(decoder.value(node["bit_generator"]))


def _decode_random_state(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    state = decoder.value(node["state"])
    value = np.random.RandomState(_bit_generator(state["bit_generator"], 0))
    value.set_state(state)
    return value


def _decode_seed_sequence(decoder: _Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return np.random.SeedSequence(**{n: decoder.value(node[n]) for n in names})


def _decode_jax(decoder: _Decoder, node: dict[str, Any]) -> Any:
    jax, array = decoder.framework("jax"), decoder.array(node)
    with _jax_64_bit(jax, array.dtype):
        if node.get("weak") is not True:
            return jax.numpy.asarray(array)
        # Only writing into a weak array keeps an array weak, with public functions.
        zero = jax.numpy.asarray(array.dtype.type(0).item())
        weak = jax.numpy.broadcast_to(zero, array.shape).at[...].set(array)
        return weak if weak.dtype == array.dtype else jax.numpy.asarray(array)


def _jax_64_bit(jax: Any, dtype: Any) -> contextlib.AbstractContextManager[Any]:
    """Lets an array of 64-bit numbers through where this process has not switched them on."""
    if dtype.kind not in "iufc" or dtype.itemsize < 8 or dtype.name == "complex64" or jax.config.jax_enable_x64:
        return contextlib.nullcontext()
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64
    return cast("contextlib.AbstractContextManager[Any]", switch(True))


def _decode_jax_key(decoder: _Decoder, node: dict[str, Any]) -> Any:
    return decoder.framework("jax").random.wrap_key_data(decoder.array(node), impl=str(node["impl"]))


def _decode_torch(decoder: _Decoder, node: dict[str, Any]) -> Any:
    torch, array = decoder.framework("torch"), decoder.array(node)
    dtype = _torch_dtype(torch, node["torch_dtype"])
    tensor = torch.from_numpy(array)
    if "shape" in node:  # torch refuses to look at no bytes at all as another dtype
        tensor = (tensor.view(dtype) if array.size else torch.empty(0, dtype=dtype)).reshape(node["shape"])
    if tensor.dtype != dtype:
        raise ValueError(f"its array is {tensor.dtype}, not {dtype}")
    grad = node.get("requires_grad") is True
    if node.get("parameter") is True:
        return torch.nn.Parameter(tensor, requires_grad=grad)
    return tensor.requires_grad_(grad)


def _torch_dtype(torch: Any, name: str) -> Any:
    dtype = vars(torch)[name]
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name} is not a dtype")
    return dtype


def _decode_torch_generator(decoder: _Decoder, node: dict[str, Any]) -> Any:
    torch = decoder.framework("torch")
    value = torch.Generator()
    value.set_state(torch.from_numpy(decoder.array(node)))
    return value


def _decode_tensor(decoder: _Decoder, node: dict[str, Any]) -> Any:
    return decoder.framework("pennylane").numpy.tensor(decoder.array(node), requires_grad=node["requires_grad"])


def _from_module(module: str, name: str, key: str) -> _DecodeHandler:
    """A decoder that gives one stored text to a class of the standard library, imported when it is needed."""
    return lambda d, n: getattr(importlib.import_module(module), name)(n[key])


_DECODERS: dict[str, _DecodeHandler] = {
    "float": _decode_float,
    "int": lambda d, n: int(n["hex"], 16),
    "str": lambda d, n: bytes.fromhex(n["utf8"]).decode("utf-8", "surrogatepass"),
    "complex": lambda d, n: complex(d.value(n["re"]), d.value(n["im"])),
    "bytes": lambda d, n: base64.b64decode(n["base64"], validate=True),
    "bytearray": lambda d, n: bytearray(base64.b64decode(n["base64"], validate=True)),
    "dict": lambda d, n: dict(d.pairs(n)),
    "tuple": lambda d, n: tuple(d.items(n)),
    "set": lambda d, n: set(d.items(n)),
    "frozenset": lambda d, n: frozenset(d.items(n)),
    "OrderedDict": _decode_ordered_dict,
    "defaultdict": _decode_defaultdict,
    "Counter": _decode_counter,
    "deque": lambda d, n: deque(d.items(n), n["maxlen"]),
    "range": lambda d, n: range(*d.items(n)),
    "slice": lambda d, n: slice(*d.items(n)),
    "ellipsis": lambda d, n: ...,
    "SimpleNamespace": lambda d, n: types.SimpleNamespace(**d.attributes(n["attributes"])),
    "datetime": _decode_datetime,
    "time": _decode_datetime,
    "date": lambda d, n: datetime.date.fromisoformat(n["value"]),
    "timedelta": lambda d, n: _delta(n["parts"]),
    "timezone": _decode_timezone,
    "ZoneInfo": _from_module("zoneinfo", "ZoneInfo", "key"),
    **dict.fromkeys(("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"), _decode_path),
    "Decimal": _from_module("decimal", "Decimal", "value"),
    "Fraction": lambda d, n: importlib.import_module("fractions").Fraction(*d.items(n)),
    "UUID": _from_module("uuid", "UUID", "hex"),
    "random.Random": _decode_random,
    "enum": _decode_enum,
    "namedtuple": _decode_namedtuple,
    "dataclass": _decode_dataclass,
    "ndarray": lambda d, n: d.array(n),
    "scalar": _decode_scalar,
    "numpy_scalar": lambda d, n: d.array(n)[()],
    "str_": _decode_numpy_text,
    "bytes_": _decode_numpy_text,
    "numpy.dtype": lambda d, n: d.array(n).dtype,
    "BitGenerator": _decode_bit_generator,
    "Generator": _decode_generator,
    "pennylane.Generator": lambda d, n: d.framework("pennylane").numpy.random.Generator(d.value(n["bit_generator"])),
    "RandomState": _decode_random_state,
    "SeedSequence": _decode_seed_sequence,
    "jax": _decode_jax,
    "jax.key": _decode_jax_key,
    "torch": _decode_torch,
    "torch.Size": lambda d, n: d.framework("torch").Size(d.items(n)),
    "torch.dtype": lambda d, n: _torch_dtype(d.framework("torch"), n["value"].removeprefix("torch.")),
    "torch.device": lambda d, n: d.framework("torch").device(n["value"]),
    "torch.Generator": _decode_torch_generator,
    "pennylane.tensor": _decode_tensor,
    "optimizer": _decode_optimizer,
    "optimizer_part": lambda d, n: _PartName(n["name"]),
}


# A view for readers ----------------------------------------------------------------------------------------------------


class _Viewer:
    """One run of :func:`to_plain`."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._arrays = arrays

    def view(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.view(v) for v in node]
        if not isinstance(node, dict):
            return node
        if TAG not in node:
            return {k: self.view(v) for k, v in node.items()}
        try:
            return self._tagged(node)
        except (CodecError, RecursionError):
            raise
        except Exception as error:  # whatever a reader makes of damaged data
            raise CodecError(f"value: a stored {node[TAG]} is damaged ({type(error).__name__}: {error})") from error

    def _tagged(self, node: dict[str, Any]) -> Any:
        tag = node[TAG]
        if "array" in node or "strings" in node:
            return self._array(node)
        if tag in ("dict", "OrderedDict", "defaultdict", "Counter"):
            return self._pairs([(self.view(k), self.view(v)) for k, v in node["items"]])
        if tag in _SCALAR_VIEWS:
            return _SCALAR_VIEWS[tag](node)
        if tag == "enum":
            return node["class"].partition(":")[2] + "." + str(node.get("name", node.get("flags")))
        if "fields" in node:
            return {**self.view(node["fields"]), **self.view(node.get("attributes", {}))}
        for only in ("items", "attributes", "value", "hex", "base64", "key", "name"):
            if set(node) - {"maxlen", "dtype", "class"} == {TAG, only}:
                return self.view(node[only])
        return {k: self.view(v) for k, v in node.items() if k != TAG}

    @staticmethod
    def _pairs(pairs: list[tuple[Any, Any]]) -> Any:
        """An object where every key has a text of its own, else a list of pairs."""
        names = [k if isinstance(k, str) else json.dumps(k) for k, _ in pairs]
        if len(set(names)) == len(names):
            return dict(zip(names, (v for _, v in pairs), strict=True))
        return [[k, v] for k, v in pairs]

    def _array(self, node: dict[str, Any]) -> Any:
        if node[TAG] == "numpy.dtype":
            return str(node.get("dtype") or self._arrays[node["array"]].dtype)
        array = _Decoder(self._arrays, False, "value", copy=False).array(node)
        if "torch_dtype" in node and "shape" in node:  # the bits of a dtype that numpy itself does not have
            try:
                array = array.view(_ml_dtype(node["torch_dtype"])).reshape(node["shape"])
            except KeyError:
                return {"torch_dtype": node["torch_dtype"], "shape": node["shape"], "bytes": array.tobytes().hex()}
        short = array.dtype.type.__module__.startswith("ml_dtypes")
        return _plain_item(array.astype(float).tolist() if short else array.tolist())


def _plain_item(value: Any) -> Any:
    """What numpy makes of an array, as JSON."""
    if isinstance(value, list | tuple):
        return [_plain_item(v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, complex):
        return {"re": _plain_item(value.real), "im": _plain_item(value.imag)}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)  # datetime, timedelta, longdouble


def _complex_view(node: dict[str, Any]) -> Any:
    return {p: _SCALAR_VIEWS["float"](v) if isinstance(v := node[p], dict) else v for p in ("re", "im")}


_SCALAR_VIEWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "float": lambda n: n["value"].partition(":")[0],
    "int": lambda n: _big_int_view(int(n["hex"], 16)),
    "str": lambda n: bytes.fromhex(n["utf8"]).decode("utf-8", "surrogatepass").encode("utf-8", "replace").decode(),
    "complex": _complex_view,
    "timedelta": lambda n: str(_delta(n["parts"])),
    "timezone": lambda n: str(datetime.timezone(_delta(n["offset"]))),
    "datetime": lambda n: n["value"],
    "time": lambda n: n["value"],
    "Fraction": lambda n: "/".join(str(v) if isinstance(v, int) else str(int(v["hex"], 16)) for v in n["items"]),
    "ellipsis": lambda n: "...",
}


def _big_int_view(value: int) -> int | str:
    """Python refuses to write integers of thousands of digits in decimal."""
    return value if value.bit_length() <= 4096 else hex(value)
