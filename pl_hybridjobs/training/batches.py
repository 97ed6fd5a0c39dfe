"""Data as the arguments of each step, with a position that a checkpoint can hold.

Arrays are drawn from by index: the order of an epoch is a pure function of seed and epoch. Streams (iterables of batches) keep their
order to themselves, so a resumed run iterates the epoch once more, from the random states it began with, up to where it was.
"""

from __future__ import annotations

import math
import numbers
import operator
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pl_hybridjobs.errors import CheckpointError, InvalidCall
from pl_hybridjobs.training.rng import RandomStates


class Batches:
    """Gives each step its arguments, for ever: after the last batch comes the next epoch.

    ========================================  ==================================================================================
    ``data``                                  arguments of a step
    ========================================  ==================================================================================
    None                                      none
    array of numpy, PennyLane, jax or torch   a batch of it: rows along its first dimension
    tuple or list of such arrays              one batch of each, in this order; their first dimensions are equal
    dict of such arrays                       one dict with a batch of each
    any other iterable of batches             the items of a batch that is a tuple or list, else the batch itself
    ========================================  ==================================================================================

    Batches of arrays are arrays of the same kind; without shuffling those of numpy and torch are views. An epoch's last batch holds
    what is left, so it may be smaller than the others (a compiled step is then compiled once more, for its shape).

    A stream such as a torch ``DataLoader`` comes with batches and an order of its own: ``shuffle`` and ``seed`` do not apply. It resumes
    exactly if an epoch's order depends only on the random states at the epoch's beginning and on generators that ``capture`` holds too.
    An iterator that can be gone through only once (a generator) must be made anew for a resumed run, which skips what was seen.

    Args:
        data: See above.
        batch_size: Rows of a batch; None: all data in each step, in the given order.
        shuffle: Whether each epoch has an order of its own.
        seed: Whole number from 0 that the orders follow from; None: drawn once.
        capture: Gives all random states that a stream may draw from, as a checkpoint can hold them; absent: the global ones, and those
            of a ``DataLoader`` and its sampler.
        restore: Sets them again.

    Raises:
        InvalidCall: See ``complaints``.
    """

    def __init__(
        self,
        data: Any = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        *,
        capture: Callable[[], Any] | None = None,
        restore: Callable[[Any], None] | None = None,
    ) -> None:
        found = complaints(data, batch_size, shuffle)
        if found:
            raise InvalidCall("data", found)
        if capture is None or restore is None:
            known = RandomStates((), generators(data))
            capture, restore = known.capture, known.restore
        self._source = _source(data, batch_size, shuffle, seed, capture, restore)
        self._epoch = 0
        self._index = 0  # batches of this epoch that were given

    @property
    def epoch(self) -> int:
        """The epoch of the newest batch, from 0."""
        return self._epoch

    @property
    def steps_per_epoch(self) -> int | None:
        """How many batches an epoch has; None if there is no data, or its stream does not tell."""
        return self._source.length()

    def next(self) -> tuple[Any, ...]:
        """The arguments of the next step, after the parameters.

        Raises:
            InvalidCall: A stream has run out and cannot be gone through again.
        """
        batch = self._source.get(self._epoch, self._index)
        if batch is None:
            self._source.end(self._epoch, self._index)
            self._epoch, self._index = self._epoch + 1, 0
            batch = self._source.get(self._epoch, 0)
            if batch is None:
                raise InvalidCall("data", [f"it gave no batch at all in epoch {self._epoch}"])
        self._index += 1
        return batch

    def state(self) -> dict[str, Any]:
        """The position, to be handed to ``load`` of another ``Batches`` on the same data: plain values, and what ``capture`` gave."""
        return {"epoch": self._epoch, "index": self._index, **self._source.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go to a position: the next batch is the one that came next when ``state()`` gave this.

        Random states are left as they are found, whatever a stream did to them.

        Raises:
            CheckpointError: The position is one in other data.
            InvalidCall: A stream that can be gone through only once has been begun already.
        """
        self._source.load(state)
        self._epoch, self._index = int(state["epoch"]), int(state["index"])

    def state_dict(self) -> dict[str, Any]:
        """``state()``, by the name that ``training_loop`` asks for: it may stand in its state."""
        return self.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """``load(state)``, likewise."""
        self.load(state)


class _Nothing:
    """No data: each step has the same arguments, none."""

    def length(self) -> int | None:
        return None

    def get(self, epoch: int, index: int) -> tuple[Any, ...] | None:
        del epoch, index
        return ()

    def end(self, epoch: int, index: int) -> None:
        del epoch, index

    def state(self) -> dict[str, Any]:
        return {"kind": "none"}

    def load(self, state: Mapping[str, Any]) -> None:
        _same(state, self.state(), "kind")


class _Arrays:
    """Rows of arrays, by index."""

    def __init__(self, data: Any, batch_size: int | None, shuffle: bool, seed: int | None) -> None:
        self._data = data
        self._rows = int(_leaves(data)[0].shape[0])
        self._batch = self._rows if batch_size is None else operator.index(batch_size)
        self._shuffle = shuffle and batch_size is not None
        self._seed = secrets.randbits(63) if seed is None else seed
        self._order: tuple[int, Any] = (-1, None)

    def length(self) -> int | None:
        return math.ceil(self._rows / self._batch)

    def get(self, epoch: int, index: int) -> tuple[Any, ...] | None:
        start = index * self._batch
        if start >= self._rows:
            return None
        rows: Any = slice(start, start + self._batch)
        if self._batch == self._rows and not self._shuffle:
            return _arguments(self._data)
        if self._shuffle:
            rows = self._epochs_order(epoch)[rows]
        if isinstance(self._data, Mapping):
            return ({name: array[rows] for name, array in self._data.items()},)
        return tuple(array[rows] for array in _leaves(self._data))

    def end(self, epoch: int, index: int) -> None:
        del epoch, index

    def state(self) -> dict[str, Any]:
        return {"kind": "arrays", "rows": self._rows, "batch_size": self._batch, "shuffle": self._shuffle, "seed": self._seed}

    def load(self, state: Mapping[str, Any]) -> None:
        _same(state, self.state(), "kind", "rows", "batch_size", "shuffle")
        self._seed = int(state["seed"])
        self._order = (-1, None)

    def _epochs_order(self, epoch: int) -> Any:
        if self._order[0] != epoch:
            import numpy as np

            self._order = (epoch, np.random.default_rng([self._seed, epoch]).permutation(self._rows))
        return self._order[1]


class _Stream:
    """An iterable of batches, one after the other."""

    def __init__(self, data: Any, capture: Callable[[], Any], restore: Callable[[Any], None]) -> None:
        self._data = data
        self._capture = capture
        self._restore = restore
        self._iterator: Iterator[Any] | None = None
        self._began_with: Any = None

    def length(self) -> int | None:
        return _length(self._data)

    def get(self, epoch: int, index: int) -> tuple[Any, ...] | None:
        del epoch, index
        if self._iterator is None:
            self._began_with = self._capture()
            self._iterator = iter(self._data)
        try:
            return _arguments(next(self._iterator))
        except StopIteration:
            return None

    def end(self, epoch: int, index: int) -> None:
        if self._iterator is self._data:
            once = f"it ran out after {index} batches, and a {type(self._data).__name__} can be gone through only once"
            instead = "give a list, a DataLoader or another object whose __iter__ begins anew each time, or train for fewer steps"
            raise InvalidCall("data", [f"{once}; {instead}"])
        if index == 0:
            raise InvalidCall("data", [f"it gave no batch at all in epoch {epoch}"])
        self._iterator = None

    def state(self) -> dict[str, Any]:
        return {"kind": "stream", "began_with": self._began_with}

    def load(self, state: Mapping[str, Any]) -> None:
        _same(state, {"kind": "stream"}, "kind")
        if self._iterator is self._data:
            raise InvalidCall("data", [f"a {type(self._data).__name__} that was begun cannot be set to another position; make a new one"])
        self._iterator, self._began_with = None, state["began_with"]
        if state["index"] == 0:
            return
        now = self._capture()
        self._restore(self._began_with)
        try:
            self._iterator = iter(self._data)
            for seen in range(state["index"]):
                try:
                    next(self._iterator)
                except StopIteration:
                    raise CheckpointError(
                        f"the data has only {seen} batches in epoch {state['epoch']}, but {state['index']} were taken when the checkpoint "
                        "was saved: it is not the same data"
                    ) from None
        finally:
            self._restore(now)


def _source(
    data: Any, batch_size: int | None, shuffle: bool, seed: int | None, capture: Callable[[], Any], restore: Callable[[Any], None]
) -> _Nothing | _Arrays | _Stream:
    if data is None:
        return _Nothing()
    if _leaves(data):
        return _Arrays(data, batch_size, shuffle, seed)
    return _Stream(data, capture, restore)


def generators(data: Any) -> list[Any]:
    """The random generators that a torch ``DataLoader`` and its sampler hold: their states belong into what ``capture`` gives."""
    found: list[Any] = []
    for owner in (data, getattr(data, "sampler", None)):
        generator = None if owner is None or _leaves(data) else getattr(owner, "generator", None)
        if hasattr(generator, "get_state") and not any(generator is other for other in found):
            found.append(generator)
    return found


def complaints(data: Any, batch_size: Any = None, shuffle: Any = True) -> list[str]:
    """What is wrong with these arguments: one sentence each."""
    found = [] if isinstance(shuffle, bool) else [f"shuffle must be True or False, not {shuffle!r}"]
    wrong_size = batch_size is not None and not (
        isinstance(batch_size, numbers.Integral) and not isinstance(batch_size, bool) and int(batch_size) >= 1
    )
    if wrong_size:
        found.append(f"batch_size must be a whole number of at least 1, or None for all data at once, not {batch_size!r}")
    wrong_data = _wrong_data(data)
    found += wrong_data
    if batch_size is None or wrong_size or wrong_data:
        return found
    leaves = _leaves(data)
    if data is None:
        found.append(f"batch_size={batch_size} is of no use without data")
    elif not leaves:
        found.append(
            f"batch_size={batch_size} does not go with data that comes in batches already (a {type(data).__name__}); leave it out, or "
            "give arrays"
        )
    elif batch_size > leaves[0].shape[0]:
        found.append(f"batch_size={batch_size} is more than the data has ({leaves[0].shape[0]} rows); leave it out to take all at once")
    return found


def _wrong_data(data: Any) -> list[str]:
    kind = type(data).__name__
    if data is None:
        return []
    if isinstance(data, str | bytes | numbers.Number) or getattr(data, "shape", None) == ():
        return [f"data={data!r} is a single value; give arrays or an iterable of batches (constants go into args=)"]
    if _is_table(data):
        return [f"data is a {kind}; give its numbers as an array: data.to_numpy()"]
    if isinstance(data, set | frozenset):
        return [f"data is a {kind}, which has no order that could be repeated; give a list"]
    if isinstance(data, Mapping):
        return _wrong_arrays({f"data[{name!r}]": array for name, array in data.items()})
    if isinstance(data, tuple) or (isinstance(data, Sequence) and any(map(_is_array, data))):
        return _wrong_arrays({f"data[{n}]": array for n, array in enumerate(data)})
    if _is_array(data):
        return _wrong_arrays({"data": data})
    if not hasattr(data, "__iter__"):
        advice = "put a torch Dataset into a DataLoader" if hasattr(data, "__getitem__") else "give arrays or an iterable of batches"
        return [f"data is a {kind}, which cannot be iterated; {advice}"]
    return ["data is empty"] if _length(data) == 0 else []


def _wrong_arrays(named: Mapping[str, Any]) -> list[str]:
    if not named:
        return ["data is empty"]
    found = []
    for name, array in named.items():
        if not _is_array(array):
            kind = type(array).__name__
            found.append(f"{name} is no array with rows but a {kind}; say numpy.asarray(...), or give a list of batches (tuples)")
    if found:
        return found[:3]
    rows = {name: int(array.shape[0]) for name, array in named.items()}
    if len(set(rows.values())) > 1:
        lengths = ", ".join(f"{name} has {count}" for name, count in rows.items())
        return [f"the arrays in data differ in their number of rows: {lengths} (a list of batches holds tuples: [(batch,), ...])"]
    return ["data is empty: it has no rows"] if 0 in rows.values() else []


def _leaves(data: Any) -> list[Any]:
    """The arrays that data consists of; none if it is a stream."""
    if _is_array(data):
        return [data]
    items = list(data.values()) if isinstance(data, Mapping) else list(data) if isinstance(data, tuple | list) else []
    return items if items and all(map(_is_array, items)) else []


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "__getitem__") and len(getattr(value, "shape", ())) > 0 and not _is_table(value)


def _is_table(value: Any) -> bool:
    return hasattr(value, "iloc")  # of pandas: indexing takes columns, not rows


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _arguments(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def _same(saved: Mapping[str, Any], now: Mapping[str, Any], *names: str) -> None:
    other = [f"{name} was {saved.get(name)!r} and is {now[name]!r}" for name in names if saved.get(name) != now[name]]
    if other:
        raise CheckpointError(f"the checkpoint belongs to other data: {', '.join(other)}. Train with the same data, or begin anew")
