"""Parameters: a nest of arrays in one interface, its leaves by name, and what is wrong with it.

A nest is anything that JAX calls a pytree: arrays and floats in dicts, lists, tuples, named tuples.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What the leaves of a nest may be; numbers and NumPy's arrays go with ``autograd``.
INTERFACES = ("autograd", "jax", "torch")
_LONGEST = 1000


@dataclass(frozen=True)
class Leaf:
    """One array of a nest.

    Attributes:
        path: Where it is: ``params['weights'][0]``.
        kind: What it was given as: "number", "numpy", "pennylane", "jax" or "torch".
        shape: Its shape.
        dtype: Its data type, as NumPy names it.
        trainable: Whether it is to be changed. PennyLane's tensors can say no, and torch's if others say yes.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Structure:
    """What a nest is, without its numbers.

    Attributes:
        leaves: In the order of ``flatten``.
        tree: JAX's tree definition.
        interface: One of ``INTERFACES``; "" if the leaves do not agree.
    """

    leaves: tuple[Leaf, ...]
    tree: Any
    interface: str

    @property
    def trainable(self) -> tuple[int, ...]:
        """Indices of the leaves to be changed."""
        return tuple(i for i, leaf in enumerate(self.leaves) if leaf.trainable)

    def flatten(self, params: Any) -> list[Any]:
        """The leaves of a nest of this structure."""
        return list(self.tree.flatten_up_to(params))

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The nest of these leaves."""
        return self.tree.unflatten(leaves)

    def split(self, leaves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Those that are trained, and the others."""
        pairs = list(zip(leaves, self.leaves, strict=True))
        return [value for value, leaf in pairs if leaf.trainable], [value for value, leaf in pairs if not leaf.trainable]

    def merge(self, trainable: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """The nest of what ``split`` gave."""
        one, other = iter(trainable), iter(fixed)
        return self.unflatten([next(one) if leaf.trainable else next(other) for leaf in self.leaves])

    def vector(self, params: Any) -> Any:
        """All that is trained as one float64 array of NumPy, of shape (n,)."""
        import numpy as np

        trainable, _ = self.split(self.flatten(params))
        return np.concatenate([to_numpy(value).astype(float).reshape(-1) for value in trainable])

    def with_vector(self, vector: Any, params: Any) -> Any:
        """A nest as the loop works on it: what is trained from an array of shape (n,), the rest from ``params``."""
        parts, at = [], 0
        for leaf in self.leaves:
            if leaf.trainable:
                size = math.prod(leaf.shape)
                parts.append(vector[at : at + size].reshape(leaf.shape).astype(leaf.dtype))
                at += size
        _, fixed = self.split(self.flatten(params))
        return self.rebuild(self.flatten(self.merge(parts, fixed)))

    def rebuild(self, arrays: Sequence[Any]) -> Any:
        """A nest as the loop works on it, from arrays of NumPy or JAX."""
        make = {"autograd": _pennylane_tensor, "jax": _jax_array, "torch": _torch_tensor}[self.interface]
        return self.unflatten([make(value, leaf) for value, leaf in zip(arrays, self.leaves, strict=True)])

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """JAX as it is set for its own arrays, and in double precision for those of others."""
        import jax

        if self.interface == "jax" or jax.config.jax_enable_x64 or all(leaf.dtype != "float64" for leaf in self.leaves):
            return contextlib.nullcontext()
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(True)  # type: ignore[no-any-return]
        from jax.experimental import enable_x64

        return enable_x64()  # type: ignore[no-any-return]

    def complaints(self) -> list[str]:
        """Why this cannot be trained, one sentence each."""
        if not self.leaves:
            return ["params is empty; give an array, or a nest of arrays"]
        found = []
        if not self.interface:
            kinds = "; ".join(f"{leaf.path} is {_WORDS[leaf.kind]}" for leaf in _one_of_each(self.leaves))
            found.append(f"params mixes interfaces ({kinds}); use one of NumPy/PennyLane, JAX, torch throughout")
        found += [
            f"{leaf.path} is {_article(leaf.dtype)} ({leaf.dtype}): gradients need real floats; "
            + ("convert it, as in params.real" if leaf.dtype.startswith("complex") else "write 1.0 for 1, or array.astype(float)")
            for leaf in self.leaves
            if leaf.trainable and not leaf.dtype.startswith(("float", "bfloat"))
        ]
        if not self.trainable:
            found.append("no parameter is trainable: all have requires_grad=False")
        return found

    def differences(self, other: Structure) -> list[str]:
        """Leaf by leaf, how another structure differs from this one."""
        mine, theirs = ({leaf.path: leaf for leaf in s.leaves} for s in (self, other))
        found = [f"{leaf} is new" for path, leaf in theirs.items() if path not in mine]
        found += [f"{leaf} is gone" for path, leaf in mine.items() if path not in theirs]
        found += [
            f"{path} was {leaf.dtype}{list(leaf.shape)} and is {theirs[path].dtype}{list(theirs[path].shape)}"
            for path, leaf in mine.items()
            if path in theirs and (leaf.shape, leaf.dtype) != (theirs[path].shape, theirs[path].dtype)
        ]
        return found


_WORDS = {
    "number": "a number",
    "numpy": "a NumPy array",
    "pennylane": "a PennyLane tensor",
    "jax": "a JAX array",
    "torch": "a torch tensor",
    "other": "no array",
}


def structure(params: Any) -> Structure:
    """Look at a nest.

    Raises:
        TypeError: A leaf is no array and no number, or a sparse tensor, and the message names it; or the keys of a dict have no order.
    """
    import jax

    try:
        flat, tree = jax.tree_util.tree_flatten_with_path(params)
    except ValueError as error:  # a dict with keys that JAX cannot sort
        raise TypeError("params has a dict whose keys are of several types; use texts throughout") from error
    # A torch tensor that was made without a word has requires_grad=False, a PennyLane tensor only if somebody said so.
    are_marked = any(_kind(value) == "torch" and value.requires_grad for _, value in flat)
    leaves = tuple(_leaf("params" + jax.tree_util.keystr(path), value, are_marked) for path, value in flat)
    strange = [f"{leaf.path} is {type(value).__name__}" for leaf, (_, value) in zip(leaves, flat, strict=True) if leaf.kind == "other"]
    if strange:
        raise TypeError(f"params holds something that is neither an array nor a number: {', '.join(strange)}")
    sparse = [leaf.path for leaf, (_, value) in zip(leaves, flat, strict=True) if leaf.kind == "torch" and _is_sparse(value)]
    if sparse:
        raise TypeError(f"{', '.join(sparse)} is a sparse tensor, and training works on dense ones; write .to_dense()")
    return Structure(leaves, tree, _interface(leaves))


def _is_sparse(value: Any) -> bool:
    return bool(value.layout is not sys.modules["torch"].strided)


def _leaf(path: str, value: Any, are_marked: bool) -> Leaf:
    kind = _kind(value)
    if kind == "other":
        return Leaf(path, kind, (), type(value).__name__, False)
    if kind == "number":
        return Leaf(path, kind, (), {float: "float64", int: "int64", complex: "complex128"}[type(value)], True)
    can_say_no = kind == "pennylane" or (kind == "torch" and are_marked)
    trainable = bool(value.requires_grad) if can_say_no else True
    return Leaf(path, kind, tuple(map(int, value.shape)), str(value.dtype).removeprefix("torch."), trainable)


def _kind(value: Any) -> str:
    import numpy as np

    if type(value) in (float, int, complex):
        return "number"
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None and isinstance(value, jax.Array):
        return "jax"
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    if isinstance(value, np.ndarray | np.generic):
        return "pennylane" if hasattr(value, "requires_grad") else "numpy" if value.dtype.kind in "fiucb" else "other"
    return "other"


def _interface(leaves: Sequence[Leaf]) -> str:
    kinds = {leaf.kind for leaf in leaves} - {"number"}
    if not kinds or kinds <= {"numpy", "pennylane"}:
        return "autograd"
    return kinds.pop() if len(kinds) == 1 else ""


def _one_of_each(leaves: Sequence[Leaf]) -> list[Leaf]:
    return list({leaf.kind: leaf for leaf in reversed(leaves)}.values())


def _article(dtype: str) -> str:
    return "complex" if dtype.startswith("complex") else "no float"


def working_copy(params: Any, shape: Structure) -> Any:
    """The nest as the loop works on it: PennyLane tensors, JAX arrays, or torch tensors without history; never the caller's own."""
    return shape.rebuild(shape.flatten(params))


def _pennylane_tensor(value: Any, leaf: Leaf) -> Any:
    import numpy as np
    from pennylane import numpy as pnp

    return pnp.tensor(np.array(value), requires_grad=leaf.trainable)


def _jax_array(value: Any, _leaf: Leaf) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(value, dtype=float) if isinstance(value, float | int) else jnp.asarray(value)


def _torch_tensor(value: Any, _leaf: Leaf) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, float | int) else torch.tensor(to_numpy(value))


def as_given(params: Any, shape: Structure) -> Any:
    """A working copy as the caller gave it: floats for floats, NumPy arrays for NumPy arrays."""
    return shape.unflatten([_back(value, leaf) for value, leaf in zip(shape.flatten(params), shape.leaves, strict=True)])


def _back(value: Any, leaf: Leaf) -> Any:
    import numpy as np

    if leaf.kind == "number":
        return float(value)
    if leaf.kind == "numpy":
        return np.array(value)
    return value


def to_numpy(value: Any) -> Any:
    """One leaf as a NumPy array, without a copy where that is possible."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def norm(gradient: Sequence[Any]) -> float:
    """The Euclidean norm of all leaves together."""
    total = 0.0
    for value in gradient:
        flat = to_numpy(value).reshape(-1).astype("float64", copy=False)  # squares overflow in single precision
        total += float(flat.dot(flat))
    return math.sqrt(total) if total >= 0 else math.nan


def described(value: Any, path: str) -> dict[str, str]:
    """What a nest of anything is, leaf by leaf, without its numbers: ``{"state['params'][0]": "float64[4]"}``.

    It looks into dicts, lists and tuples; lists that hold many things are data.
    """
    if isinstance(value, Mapping):
        parts = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [(f".{name}", part) for name, part in zip(value._fields, value, strict=True)]
    elif isinstance(value, list | tuple) and len(value) <= _LONGEST:
        parts = [(f"[{i}]", part) for i, part in enumerate(value)]
    else:
        is_array = hasattr(value, "shape") and hasattr(value, "dtype")
        kind = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}" if is_array else type(value).__name__
        return {path: kind}
    found = {} if parts else {path: type(value).__name__}
    for name, part in parts:
        found |= described(part, path + name)
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """How two nests differ that were ``described``, one sentence each."""
    found = [f"{path}: {kind} is new" for path, kind in now.items() if path not in before]
    found += [f"{path}: {kind} is gone" for path, kind in before.items() if path not in now]
    found += [f"{path} was {kind} and is {now[path]}" for path, kind in before.items() if path in now and kind != now[path]]
    return found
