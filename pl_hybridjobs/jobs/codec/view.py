"""A readable view of a tree, for people and other programs."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import CodecError
from pl_hybridjobs.jobs.codec.decoding import Decoder
from pl_hybridjobs.jobs.codec.kinds import TAG, TOO_DEEP, delta, ml_dtype

if TYPE_CHECKING:
    import numpy as np


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
        raise CodecError(f"value {TOO_DEEP}") from None


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
        array = Decoder(self._arrays, False, "value", copy=False).array(node)
        if "torch_dtype" in node and "shape" in node:  # the bits of a dtype that numpy itself does not have
            try:
                array = array.view(ml_dtype(node["torch_dtype"])).reshape(node["shape"])
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
    "timedelta": lambda n: str(delta(n["parts"])),
    "timezone": lambda n: str(datetime.timezone(delta(n["offset"]))),
    "datetime": lambda n: n["value"],
    "time": lambda n: n["value"],
    "Fraction": lambda n: "/".join(str(v) if isinstance(v, int) else str(int(v["hex"], 16)) for v in n["items"]),
    "ellipsis": lambda n: "...",
}


def _big_int_view(value: int) -> int | str:
    """Python refuses to write integers of thousands of digits in decimal."""
    return value if value.bit_length() <= 4096 else hex(value)
