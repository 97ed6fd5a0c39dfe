"""What encoding and decoding both know: tags, limits, and which classes are taken for what."""

from __future__ import annotations

import datetime
import functools
import importlib
import importlib.util
import pathlib
import sys
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

TAG = "$type"
MAX_DEPTH = 128  # keeps clear of Python's recursion limit, in the JSON parser as well
FACTORIES: dict[str, type] = {c.__name__: c for c in (list, dict, set, tuple, int, float, str, bool)}
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
NO_FRESH_INSTANCE = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, BaseException, type)
TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep: flatten it, for example into a list of its parts"


def attribute(module: Any, qualname: str) -> Any:
    """What a module holds under a dotted name, without running a ``__getattr__`` of it; None if nothing."""
    found = module
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | types.ModuleType) else None
    return found


def is_namedtuple(cls: type) -> bool:
    """Whether a class is one that ``namedtuple`` or ``NamedTuple`` makes."""
    names = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(names, tuple) and all(isinstance(n, str) for n in names)


def slots_of(cls: type) -> list[str]:
    """Names of all slots of a class, as they are after mangling."""
    members = (m for c in cls.__mro__ for m in vars(c).items())
    return [name for name, member in members if isinstance(member, types.MemberDescriptorType)]


def optimizer_classes() -> tuple[type, ...]:
    """PennyLane's optimizers; none while PennyLane is not imported."""
    package = sys.modules.get("pennylane.optimize")
    found = (v for n, v in vars(package).items() if n.endswith("Optimizer")) if package else ()
    return tuple(c for c in found if isinstance(c, type))


@dataclass(frozen=True)
class PartName:
    """Stands for a part of PennyLane while an optimizer that holds it is stored; read nowhere else."""

    name: str


def pennylane_part(module: str, qualname: str) -> Any:
    """What optimizers of PennyLane hold by reference, or None.

    That is a function of ``pennylane.optimize``, as RotosolveOptimizer's inner solver, or a class of operators, as RotoselectOptimizer
    chooses from.
    """
    found = attribute(sys.modules.get(module), qualname)
    if isinstance(found, types.FunctionType) and found.__module__ == module and module.startswith("pennylane.optimize."):
        return found
    operator = getattr(sys.modules.get("pennylane.operation"), "Operator", ())
    return found if isinstance(found, type) and module.startswith("pennylane.") and issubclass(found, operator) else None


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


def ml_dtype(name: str) -> Any:
    """The numpy dtype of a short float or integer, such as bfloat16."""
    import ml_dtypes
    import numpy as np

    scalar = vars(ml_dtypes)[name]
    if not (isinstance(scalar, type) and issubclass(scalar, np.generic)):
        raise ValueError(f"{name} is not a dtype")
    return np.dtype(scalar)


def delta(parts: list[int]) -> datetime.timedelta:
    """A time difference from its days, seconds and microseconds."""
    days, seconds, microseconds = parts
    return datetime.timedelta(days, seconds, microseconds)
