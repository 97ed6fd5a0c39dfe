"""What a worker does with circuits: it has a device of its own for them, made once.

Only bytes go there and back, so that any pool can carry them.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pennylane as qml

from pl_hybridjobs.errors import FanOutError
from pl_hybridjobs.fanout import seeds
from pl_hybridjobs.fanout.messages import dumps, loads, that_travels

_MAX_DEVICES = 8
_MAX_LINES = 12


def versions() -> dict[str, str]:
    """What must be alike where circuits are made and where they run."""
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "PennyLane": qml.__version__}


@dataclass(frozen=True)
class Recipe:
    """A device, to be made anew by ``qml.device(name, *args, **options)``."""

    name: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """The device."""
        return qml.device(self.name, *self.args, **self.options)


@dataclass(frozen=True)
class Item:
    """One circuit of a batch.

    Attributes:
        index: Its place in the batch.
        circuit: As it came out of preprocessing.
        extra: What the device's method takes besides: cotangents or tangents.
        seed: For its samples; None: it draws none.
    """

    index: int
    circuit: Any
    extra: tuple[Any, ...] = ()
    seed: Any = None


@dataclass(frozen=True)
class Failure:
    """What a circuit raised, and the traceback as text."""

    index: int
    error: BaseException
    text: str


def run(recipe: bytes, made_with: Mapping[str, str], threads: int, request: bytes) -> bytes:
    """Run circuits one by one, up to the first that fails.

    Args:
        recipe: A pickled ``Recipe``.
        made_with: The caller's ``versions()``.
        threads: How many threads our kernels may use.
        request: Pickled: the name of the device's method, items, configuration.

    Returns:
        Pickled: the list of results, or a ``Failure``.

    Raises:
        FanOutError: The versions differ.
    """
    if (here := versions()) != dict(made_with):
        wrong = [f"{name} {here[name]} instead of {version}" for name, version in made_with.items() if here.get(name) != version]
        raise FanOutError(f"a worker on {platform.node()} has {' and '.join(wrong)}; install there what is installed here")
    method, items, config = loads(request)
    device = _device(recipe)
    results = []
    with _kernels_held_to(threads):
        for item in items:
            try:
                results.append(_run_one(device, method, item, config))
            except Exception as error:  # noqa: BLE001 - whatever a device raises
                return dumps(Failure(item.index, *that_travels(error)))
    return dumps(results)


def warm(recipe: bytes) -> None:
    """Make a worker's device before there is work for it."""
    _device(recipe)


class _Devices(threading.local):
    """Those of this thread, the last used ones at the end."""

    def __init__(self) -> None:
        self.made: OrderedDict[bytes, Any] = OrderedDict()


_devices = _Devices()


def _device(recipe: bytes) -> Any:
    made = _devices.made
    if recipe not in made:
        made[recipe] = loads(recipe).make()
        if len(made) > _MAX_DEVICES:
            made.popitem(last=False)
    made.move_to_end(recipe)
    return made[recipe]


def _run_one(device: Any, method: str, item: Item, config: Any) -> Any:
    if item.seed is not None:
        seeds.give(device, item.seed)
    found = getattr(device, method)((item.circuit,), *((part,) for part in item.extra), config)
    return tuple(part[0] for part in found) if method.startswith("execute_and_") else found[0]


@contextlib.contextmanager
def _kernels_held_to(threads: int) -> Iterator[None]:
    """Of this thread's kernels by numba."""
    numba = sys.modules.get("numba")
    if numba is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))  # not numba.config's: Amazon's simulator, once imported, has that at -1
    try:
        yield
    finally:
        numba.set_num_threads(before)


def brief(circuits: Sequence[Any], index: int) -> str:
    """One circuit of a batch for a message: which, and its drawing."""
    circuit = circuits[index]
    try:
        drawing = qml.drawer.tape_text(circuit, wire_order=circuit.wires, decimals=3, max_length=100)
    except Exception:  # noqa: BLE001 - a message about an error must not raise another
        drawing = repr(circuit)
    lines = drawing.splitlines()
    shown = [*lines[:_MAX_LINES], *(["..."] if len(lines) > _MAX_LINES else [])]
    return f"circuit {index} of {len(circuits)} ({len(circuit.operations)} operations):\n" + "\n".join(shown)
