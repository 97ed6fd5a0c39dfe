"""Trees to values. A class must be found and be what the data claims; no code that the data names is called."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import enum
import importlib
import importlib.util
import pathlib
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from pl_hybridjobs.errors import CodecError
from pl_hybridjobs.jobs.codec.kinds import (
    BIT_GENERATORS,
    FACTORIES,
    NO_FRESH_INSTANCE,
    TAG,
    TOO_DEEP,
    PartName,
    attribute,
    delta,
    is_installed,
    is_namedtuple,
    ml_dtype,
    optimizer_classes,
    pennylane_part,
    slots_of,
)

if TYPE_CHECKING:
    import numpy as np

# Importing these does something beyond defining names.
_NEVER_IMPORT = {"antigravity", "this", "idlelib", "turtledemo", "test", "__main__"}


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
    return decode_tree(tree, arrays, allow_import, where, copy=True)


def decode_tree(tree: Any, arrays: Mapping[str, np.ndarray[Any, Any]], allow_import: bool, where: str, *, copy: bool) -> Any:
    """As :func:`decode`; ``copy=False`` where the arrays belong to nobody else."""
    try:
        return Decoder(arrays, allow_import, where, copy).value(tree)
    except RecursionError:
        raise CodecError(f"{where} {TOO_DEEP}") from None


class Decoder:
    """One run of :func:`decode`."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]], allow_import: bool, where: str, copy: bool) -> None:
        self._arrays = arrays
        self._allow_import = allow_import
        self._copy = copy
        self.where = where

    def value(self, node: Any) -> Any:
        """What a node stands for."""
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
        """The values of a node with ``items``."""
        nodes = node["items"]
        if not isinstance(nodes, list):
            raise ValueError("its items are not a list")
        return [self.value(v) for v in nodes]

    def pairs(self, node: dict[str, Any]) -> list[tuple[Any, Any]]:
        """The keys and values of a node whose ``items`` are pairs."""
        return [(self.value(key), self.value(value)) for key, value in node["items"]]

    def attributes(self, node: Any) -> dict[str, Any]:
        """An object's fields."""
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
        return array if name is None else array.view(ml_dtype(name))

    def find_class(self, node: dict[str, Any], is_right: Callable[[Any], bool], claim: str) -> Any:
        """The class that a node names, if it is what the node claims.

        Raises:
            CodecError: It is not to be had here, or is something else.
        """
        reference = node["class"]
        module, _, qualname = reference.partition(":")
        found = [attribute(self._module(module, qualname), qualname)]
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
        """A package whose values the data holds."""
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise CodecError(f"{self.where} holds values of {name}, which cannot be imported here ({error}); install it") from error


_DecodeHandler = Callable[[Decoder, dict[str, Any]], Any]


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


def _decode_float(decoder: Decoder, node: dict[str, Any]) -> float:
    text = node["value"]
    name, _, bits = text.partition(":")
    if name not in ("nan", "inf", "-inf"):
        raise ValueError(f"{text!r} is not a non-finite number")
    return cast("float", struct.unpack(">d", bytes.fromhex(bits))[0]) if bits else float(name)


def _decode_ordered_dict(decoder: Decoder, node: dict[str, Any]) -> Any:
    value = OrderedDict(decoder.pairs(node))
    vars(value).update(decoder.attributes(node.get("attributes", {})))
    return value


def _decode_counter(decoder: Decoder, node: dict[str, Any]) -> Any:
    value: Counter[Any] = Counter()
    dict.update(value, decoder.pairs(node))
    return value


def _decode_defaultdict(decoder: Decoder, node: dict[str, Any]) -> Any:
    factory = node["factory"]
    return defaultdict(None if factory is None else FACTORIES[factory], decoder.pairs(node))


def _decode_datetime(decoder: Decoder, node: dict[str, Any]) -> Any:
    cls = datetime.datetime if node[TAG] == "datetime" else datetime.time
    zone = decoder.value(node["tz"]) if "tz" in node else None
    return cls.fromisoformat(node["value"]).replace(tzinfo=zone, fold=node.get("fold", 0))


def _decode_timezone(decoder: Decoder, node: dict[str, Any]) -> Any:
    zone = datetime.timezone(delta(node["offset"]), *(decoder.value(n) for n in node["name"]))
    return datetime.UTC if zone == datetime.UTC and not node["name"] else zone


def _decode_path(decoder: Decoder, node: dict[str, Any]) -> Any:
    cls: type[pathlib.PurePath] = getattr(pathlib, node[TAG])
    return cls(decoder.value(node["value"]))


def _decode_random(decoder: Decoder, node: dict[str, Any]) -> Any:
    import random

    value = random.Random()  # noqa: S311 - its state is restored, it makes no secrets
    value.setstate(decoder.value(node["state"]))
    return value


def _decode_enum(decoder: Decoder, node: dict[str, Any]) -> Any:
    if "name" in node:
        name = node["name"]
        cls = decoder.find_class(node, lambda c: issubclass(c, enum.Enum) and name in c.__members__, f"an enumeration with {name!r},")
        return cls.__members__[name]
    cls = decoder.find_class(node, lambda c: issubclass(c, enum.Flag), "a flag enumeration")
    return cls(int(decoder.value(node["flags"])))


def _decode_namedtuple(decoder: Decoder, node: dict[str, Any]) -> Any:
    fields = decoder.attributes(node["fields"])
    names = tuple(fields)
    cls = decoder.find_class(node, lambda c: is_namedtuple(c) and c._fields == names, "a namedtuple")
    value = tuple.__new__(cls, fields.values())
    if "attributes" in node:
        vars(value).update(decoder.attributes(node["attributes"]))
    return value


def _decode_dataclass(decoder: Decoder, node: dict[str, Any]) -> Any:
    fields = decoder.attributes(node["fields"])
    names = {*fields, *node.get("unset", ())}
    cls = decoder.find_class(
        node, lambda c: dataclasses.is_dataclass(c) and {f.name for f in dataclasses.fields(c)} == names, "a dataclass"
    )
    if issubclass(cls, NO_FRESH_INSTANCE):
        raise ValueError(f"{cls.__qualname__} is not a plain dataclass")
    value: Any = object.__new__(cls)
    slots = set(slots_of(cls))
    for name, member in {**fields, **decoder.attributes(node.get("attributes", {}))}.items():
        if name in slots:
            object.__setattr__(value, name, member)  # passes by a frozen class's own
        else:
            vars(value)[name] = member
    return value


def _decode_optimizer(decoder: Decoder, node: dict[str, Any]) -> Any:
    decoder.framework("pennylane.optimize")
    cls = decoder.find_class(node, lambda c: issubclass(c, optimizer_classes()), "a PennyLane optimizer")
    if issubclass(cls, NO_FRESH_INSTANCE):
        raise ValueError(f"{cls.__qualname__} is not a plain optimizer")
    value: Any = object.__new__(cls)
    for name, member in decoder.attributes(node["attributes"]).items():
        vars(value)[name] = [_named_part(m) for m in member] if type(member) is list else _named_part(member)
    return value


def _named_part(member: Any) -> Any:
    if type(member) is not PartName:
        return member
    module, _, qualname = member.name.partition(":")
    found = pennylane_part(module, qualname)
    if found is None:
        raise ValueError(f"{member.name} is not a part of PennyLane's optimizers")
    return found


def _decode_scalar(decoder: Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    dtype, value = np.dtype(str(node["dtype"])), node["value"]
    if dtype.kind not in "biuf" or type(value) not in (bool, int, float):
        raise ValueError(f"{dtype} is not a number's dtype")
    return dtype.type(value)


def _decode_numpy_text(decoder: Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    value = decoder.value(node["value"])
    return np.str_(value) if node[TAG] == "str_" else np.bytes_(value)


def _decode_bit_generator(decoder: Decoder, node: dict[str, Any]) -> Any:
    seed = decoder.value(node["seed_seq"])
    value = _bit_generator(node["name"], 0 if seed is None else seed)
    value.state = decoder.value(node["state"])
    return value


def _bit_generator(name: str, seed: Any) -> Any:
    import numpy as np

    if name not in BIT_GENERATORS:
        raise ValueError(f"{name!r} is not a bit generator of numpy")
    return getattr(np.random, name)(seed)


def _decode_generator(decoder: Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    return np.random.Generator(decoder.value(node["bit_generator"]))


def _decode_random_state(decoder: Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    state = decoder.value(node["state"])
    value = np.random.RandomState(_bit_generator(state["bit_generator"], 0))
    value.set_state(state)
    return value


def _decode_seed_sequence(decoder: Decoder, node: dict[str, Any]) -> Any:
    import numpy as np

    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return np.random.SeedSequence(**{n: decoder.value(node[n]) for n in names})


def _decode_jax(decoder: Decoder, node: dict[str, Any]) -> Any:
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


def _decode_jax_key(decoder: Decoder, node: dict[str, Any]) -> Any:
    return decoder.framework("jax").random.wrap_key_data(decoder.array(node), impl=str(node["impl"]))


def _decode_torch(decoder: Decoder, node: dict[str, Any]) -> Any:
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


def _decode_torch_generator(decoder: Decoder, node: dict[str, Any]) -> Any:
    torch = decoder.framework("torch")
    value = torch.Generator()
    value.set_state(torch.from_numpy(decoder.array(node)))
    return value


def _decode_tensor(decoder: Decoder, node: dict[str, Any]) -> Any:
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
    "timedelta": lambda d, n: delta(n["parts"]),
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
    "optimizer_part": lambda d, n: PartName(n["name"]),
}
