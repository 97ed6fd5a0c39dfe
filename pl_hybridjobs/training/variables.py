"""What a function uses and somebody may change: variables, attributes, and the contents of small lists, dicts, sets and arrays.

A compiled objective keeps what these were when it was traced. So they are looked at before each step, which has to be cheap: contents
are compared by identity, numbers and texts by value. Large containers and arrays are taken for data and not looked at; neither is what
objects of installed packages hold.
"""

from __future__ import annotations

import operator
import types
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, MutableSet
from typing import Any

from pl_hybridjobs.training.circuits import names_and_contents

MOST_WATCHED_BYTES = 1 << 16  # of an array; comparing so many takes some microseconds
_ATOMS = (bool, int, float, complex, str, bytes)
_ABSENT = object()


class Variables:
    """The variables that functions reach, as they are now.

    Args:
        **functions: And what they are called with.
    """

    def __init__(self, **functions: Any) -> None:
        self._watched = list(_watch(functions))

    def changed(self) -> str:
        """The name of one that is no longer what it was; "" if all are."""
        return next((watched.name for watched in self._watched if watched.is_changed()), "")

    def restore(self) -> None:
        """Make all what they were."""
        for watched in self._watched:
            if watched.is_changed():
                watched.restore()


def _watch(functions: Mapping[str, Any]) -> Iterator[_Watched]:
    import numpy as np

    names, contents = names_and_contents(functions)
    for name, place in names:
        yield _Cell(name, place) if isinstance(place, types.CellType) else _Name(name, place)
    for name, obj in contents:
        if isinstance(obj, np.ndarray):
            if obj.nbytes <= MOST_WATCHED_BYTES and obj.flags.writeable:
                yield _Array(name, obj)
        elif isinstance(obj, list | deque | bytearray):
            yield _Sequence(name, obj)
        elif isinstance(obj, MutableMapping):
            yield _Mapping(name, obj)
        elif isinstance(obj, MutableSet):
            yield _Set(name, obj)


class _Watched(ABC):
    """One of them."""

    name: str

    @abstractmethod
    def is_changed(self) -> bool:
        """Whether it is not what it was."""

    @abstractmethod
    def restore(self) -> None:
        """Make it what it was."""


class _Cell(_Watched):
    """A variable of an enclosing function."""

    def __init__(self, name: str, cell: types.CellType) -> None:
        self.name, self._cell = name, cell
        self._before = self._now()

    def _now(self) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError:  # not assigned yet
            return _ABSENT

    def is_changed(self) -> bool:
        return not _is_same(self._before, self._now())

    def restore(self) -> None:
        if self._before is _ABSENT:
            del self._cell.cell_contents
        else:
            self._cell.cell_contents = self._before


class _Name(_Watched):
    """A global variable."""

    def __init__(self, name: str, space: dict[str, Any]) -> None:
        self.name, self._space = name, space
        self._before = space[name]

    def is_changed(self) -> bool:
        return not _is_same(self._before, self._space.get(self.name, _ABSENT))

    def restore(self) -> None:
        self._space[self.name] = self._before


class _Array(_Watched):
    """An array of NumPy."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self._array = name, array
        self._before, self._bytes = array.copy(), array.tobytes()

    def is_changed(self) -> bool:
        return bool(self._array.tobytes() != self._bytes)

    def restore(self) -> None:
        self._array[...] = self._before


class _Sequence(_Watched):
    """A list, or its like."""

    def __init__(self, name: str, items: Any) -> None:
        self.name, self._items = name, items
        self._before = items.copy()

    def is_changed(self) -> bool:
        return len(self._items) != len(self._before) or not _are_same(self._before, self._items)

    def restore(self) -> None:
        self._items.clear()
        self._items.extend(self._before)


class _Mapping(_Watched):
    """A dict, or the attributes of an object."""

    def __init__(self, name: str, items: Any) -> None:
        self.name, self._items = name, items
        self._before = dict(items)

    def is_changed(self) -> bool:
        before, items = self._before, self._items
        return len(items) != len(before) or not (_are_same(before, items) and _are_same(before.values(), items.values()))

    def restore(self) -> None:
        self._items.clear()
        self._items.update(self._before)


class _Set(_Watched):
    """A set."""

    def __init__(self, name: str, items: Any) -> None:
        self.name, self._items = name, items
        self._before = frozenset(items)

    def is_changed(self) -> bool:
        return bool(self._items != self._before)

    def restore(self) -> None:
        self._items.clear()
        self._items.update(self._before)


def _are_same(before: Any, now: Any) -> bool:
    return all(map(operator.is_, before, now)) or all(map(_is_same, before, now))


def _is_same(before: Any, now: Any) -> bool:
    return before is now or (type(before) is type(now) and isinstance(before, _ATOMS) and before == now)
