"""Circuits as operations on arrays: numpy, autograd, jax and torch can trace these states and values, and differentiate them to any order.

The contract of ``engine_cpu``, without its kernels: the array library of the arguments does everything, on the device where they are.
Beyond that contract, matrices, the state before the circuit and the observables' coefficients may be arrays that travel apart, with
derivatives of their own. JAX runs the circuit's table in a loop (``scan``), so that compile time does not grow with the number of gates;
the other libraries go through it step by step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoray import astype, do, infer_backend

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.circuit import Circuit, PauliSum
from pl_hybridjobs.sim.table import DenseStep, Masks, Table, WordTable, combined, half_signs, step_matrices, table_of, words_of

_Array = np.ndarray[Any, np.dtype[Any]]

#: The array libraries that are known.
LIBRARIES = ("numpy", "autograd", "jax", "torch")


def state(
    circuit: Circuit, params: Any, *, matrices: Sequence[Any] = (), start: Any = None, dtype: Any = np.complex128, like: str | None = None
) -> Any:
    """Final states.

    Args:
        circuit: Its observables are not used.
        params: Shape (batch, parameters), real.
        matrices: Those that the circuit's gates name by ``slot``, each of shape ([batch,] 2**k, 2**k).
        start: The state before the circuit, shape ([batch,] 2**n); None: all qubits in 0.
        dtype: complex64 or complex128; JAX without its 64-bit mode always has complex64.
        like: One of ``LIBRARIES``; None: that of ``params``.

    Returns:
        Shape (batch, 2**n). An argument without a batch, or with a batch of 1, serves the whole batch of the others. A matrix that is not
        unitary gives states that are not normalised.

    Raises:
        SimulationError: See ``Circuit.check`` and ``gates.expand``; or there is no such library, or a shape does not fit.
    """
    like = _known(like or infer_backend(params))
    _check(circuit, params, matrices, start)
    table = table_of(circuit)
    if like == "jax":
        from pl_hybridjobs.sim import scan

        return scan.state(table, np.dtype(dtype).name)(params, tuple(matrices), start)
    return _final(table, _library(like), params, matrices, start, np.dtype(dtype).name)


def expval(
    circuit: Circuit,
    params: Any,
    *,
    matrices: Sequence[Any] = (),
    start: Any = None,
    coefficients: Any = None,
    dtype: Any = np.complex128,
    like: str | None = None,
) -> Any:
    """Expectation values of the circuit's observables.

    Args:
        circuit: With its observables.
        params: As for ``state``.
        matrices: As for ``state``.
        start: As for ``state``.
        coefficients: As for ``expval_of``.
        dtype: As for ``state``.
        like: As for ``state``.

    Returns:
        Shape (batch, observables), real.

    Raises:
        SimulationError: As for ``state``.
    """
    states = state(circuit, params, matrices=matrices, start=start, dtype=dtype, like=like)
    return expval_of(circuit.observables, states, coefficients=coefficients, like=like)


def expval_of(observables: tuple[PauliSum, ...], states: Any, *, coefficients: Any = None, like: str | None = None) -> Any:
    """Expectation values of observables in given states.

    Args:
        observables: Their wires are those of the states.
        states: Shape (batch, 2**n).
        coefficients: Instead of the observables' own: those of all their words, one observable after the other, shape (words,).
        like: As for ``state``.

    Returns:
        Shape (batch, observables), real.
    """
    like = _known(like or infer_backend(states))
    words = words_of(int(states.shape[1]).bit_length() - 1, observables)
    if like == "jax":
        from pl_hybridjobs.sim import scan

        return scan.expval(words)(states, coefficients)
    return combined(words, _word_values(words, states, like), coefficients, _library(like).constant(states), like)


def _known(like: str) -> str:
    if like not in LIBRARIES:
        raise SimulationError(f"the array engine knows {', '.join(LIBRARIES)}, and was given an array of {like!r}")
    return like


def _check(circuit: Circuit, params: Any, matrices: Sequence[Any], start: Any) -> None:
    wrong: list[str] = []
    batches: set[int] = set()

    def look(name: str, array: Any, core: tuple[int, ...], batch_is_wanted: bool = False) -> None:
        shape = tuple(np.shape(array))
        given = len(shape) - len(core)
        if shape[given:] != core or given not in (0, 1) or (batch_is_wanted and not given):
            wrong.append(f"{name} the shape {shape}; wanted ({'batch' if batch_is_wanted else '[batch]'}, {str(core)[1:-1].rstrip(',')})")
        elif given:
            batches.add(shape[0])

    look("parameters have", params, (circuit.n_parameters,), batch_is_wanted=True)
    for gate in circuit.gates:
        size = 1 << len(gate.wires)
        if gate.slot is None:
            continue
        if gate.slot < len(matrices):
            look(f"matrix number {gate.slot} has", matrices[gate.slot], (size, size))
        else:
            wrong.append(f"there is no matrix number {gate.slot}")
    if start is not None:
        look("the state before the circuit has", start, (1 << circuit.n_wires,))
    if len(batches - {1}) > 1:
        wrong.append(f"there are batches of different sizes: {sorted(batches)}")
    if wrong:
        raise SimulationError("; ".join(wrong))


# Step by step -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Library:
    """What the libraries do not have in common.

    Attributes:
        name: As autoray knows it.
        constant: An array -> a function that brings numpy arrays to where that array is.
        mirror: states (batch, 2**n), mask -> states[:, i ^ mask].
        permute: states (batch, 2**n), order, its inverse -> states[:, order].
    """

    name: str
    constant: Callable[[Any], Callable[[_Array], Any]]
    mirror: Callable[[Any, int], Any]
    permute: Callable[[Any, _Array, _Array], Any]


@functools.cache
def _library(name: str) -> _Library:
    return {"numpy": _numpy, "autograd": _autograd, "torch": _torch}[name]()


def _numpy() -> _Library:
    return _Library("numpy", lambda near: np.asarray, _mirror, lambda states, order, back: states[:, order])


def _mirror(states: _Array, mask: int) -> _Array:
    shape, axes = _axes(states.shape[1].bit_length() - 1, mask)
    return np.flip(states.reshape((-1, *shape)), tuple(axes)).reshape(states.shape)


def _autograd() -> _Library:
    """Its own gradients of indexing are slow: both of these are linear, and their transposes are of the same kind."""
    from autograd.extend import defjvp, defvjp, primitive

    mirror = primitive(_mirror)
    defvjp(mirror, lambda out, states, mask: lambda g: mirror(g, mask), argnums=(0,))
    defjvp(mirror, lambda g, out, states, mask: mirror(g, mask), argnums=(0,))
    permute = primitive(lambda states, order, back: states[:, order])
    defvjp(permute, lambda out, states, order, back: lambda g: permute(g, back, order), argnums=(0,))
    defjvp(permute, lambda g, out, states, order, back: permute(g, order, back), argnums=(0,))
    return _Library("autograd", lambda near: np.asarray, mirror, permute)


def _torch() -> _Library:
    import torch

    def mirror(states: Any, mask: int) -> Any:
        shape, axes = _axes(states.shape[1].bit_length() - 1, mask)
        return torch.flip(states.reshape((-1, *shape)), axes).reshape(states.shape)

    def permute(states: Any, order: _Array, back: _Array) -> Any:
        return torch.index_select(states, 1, torch.as_tensor(order, device=states.device))

    return _Library("torch", lambda near: lambda array: torch.as_tensor(array, device=near.device), mirror, permute)


def _axes(n_wires: int, mask: int) -> tuple[list[int], list[int]]:
    """A shape in which each bit of a mask has an axis of its own, and these axes, counted from 1 (0 is the batch's)."""
    shape, axes, run = [], [], 1
    for bit in reversed(range(n_wires)):
        if mask >> bit & 1:
            if run > 1:
                shape.append(run)
            shape.append(2)
            axes.append(len(shape))
            run = 1
        else:
            run *= 2
    return ([*shape, run] if run > 1 else shape), axes


_Move = Callable[[_Library, Any, Any, Sequence[Any]], Any]  # library, states (batch, 2**n), step matrices, matrices -> states


@functools.lru_cache(maxsize=16)
def _moves(table: Table) -> tuple[_Move, ...]:
    """What is done to the states, in order of time: exchanges that follow each other are one."""
    n = table.n_wires
    dense = {step.row: step for step in table.dense}
    found: list[_Move] = []
    order: _Array | None = None
    for row, masks in enumerate(table.masks):
        exchange = None if row in dense else _exchange(table, row)
        if exchange is not None:
            order = exchange if order is None else order[exchange]
            continue
        if order is not None:
            found.append(_Permute(order))
            order = None
        if row in dense:
            found.append(_Dense.of(n, masks, dense[row]))
        elif masks.control == 0 and masks.flip == masks.sign and masks.flip.bit_count() == 1:
            found.append(_One(row, masks.flip))
        else:
            found.append(_Pair.of(n, row, masks))
    return (*found, _Permute(order)) if order is not None else tuple(found)


def _exchange(table: Table, row: int) -> _Array | None:
    """The step as a permutation of the amplitudes, out = in[order]; None if it is none."""
    if table.scale[row].any():
        return None
    matrix = functools.reduce(lambda found, factor: factor @ found, table.fixed[row])
    masks = table.masks[row]
    used = matrix if masks.sign else matrix[:1]
    if not (np.isin(used, (0, 1)).all() and (used.sum(1) == 1).all()):
        return None
    i = np.arange(1 << table.n_wires)
    moved = matrix[(b := np.bitwise_count(i & masks.sign) & 1), 1 - b] == 1
    return np.where(((i & masks.control) == masks.value) & moved, i ^ masks.flip, i)


class _Permute:
    def __init__(self, order: _Array) -> None:
        self.order, self.back = order, np.argsort(order)

    def __call__(self, library: _Library, states: Any, steps: Any, matrices: Sequence[Any]) -> Any:
        return library.permute(states, self.order, self.back)


@dataclass(frozen=True)
class _One:
    """A 2 x 2 matrix on one wire."""

    row: int
    bit: int

    def __call__(self, library: _Library, states: Any, steps: Any, matrices: Sequence[Any]) -> Any:
        batch, size = states.shape
        apart = do("reshape", states, (batch, size // (2 * self.bit), 2, self.bit), like=library.name)
        moved = do("matmul", steps[..., self.row, None, :, :], apart, like=library.name)
        return do("reshape", moved, (-1, size), like=library.name)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Any step: its two coefficient vectors depend on the bits of its masks only."""

    row: int
    flip: int
    shape: tuple[int, ...]
    small: tuple[int, ...]
    chosen: _Array  # (2, 4, small): which entry of the matrix multiplies an amplitude, and which its partner
    others: _Array  # (2, small): these coefficients where the step does nothing

    @staticmethod
    def of(n_wires: int, row: int, masks: Masks) -> _Pair:
        involved = masks.flip | masks.sign | masks.control
        shape, axes = _axes(n_wires, involved)
        bits = np.array([1 << b for b in reversed(range(n_wires)) if involved >> b & 1], np.int64)
        k = len(bits)
        i = ((np.arange(1 << k)[:, None] >> np.arange(k)[::-1]) & 1) @ bits if k else np.zeros(1, np.int64)
        active = (i & masks.control) == masks.value
        b = np.bitwise_count(i & masks.sign) & 1
        entries = np.stack([3 * b, 1 + b])  # m[b, b] and m[b, 1 - b], of the matrix as four numbers
        return _Pair(
            row=row,
            flip=masks.flip,
            shape=tuple(shape),
            small=tuple(2 if place + 1 in axes else 1 for place in range(len(shape))),
            chosen=np.moveaxis(np.eye(4)[:, entries], 0, 1) * active,
            others=np.stack([1.0 - active, 0.0 * active]),
        )

    def __call__(self, library: _Library, states: Any, steps: Any, matrices: Sequence[Any]) -> Any:
        like, constant = library.name, library.constant(states)
        dtype = _dtype_of(states)
        entries = do("reshape", steps[..., self.row, :, :], (-1, 1, 4), like=like)

        def coefficient(which: int) -> Any:
            flat = do("matmul", entries, constant(self.chosen[which].astype(dtype)), like=like)
            return do("reshape", flat + constant(self.others[which].astype(dtype)), (-1, *self.small), like=like)

        def apart(array: Any) -> Any:
            return do("reshape", array, (-1, *self.shape), like=like)

        moved = coefficient(0) * apart(states)
        if self.flip:
            moved = moved + coefficient(1) * apart(library.mirror(states, self.flip))
        return do("reshape", moved, (-1, states.shape[1]), like=like)


@dataclass(frozen=True, eq=False)
class _Dense:
    """A matrix on several wires: their bits are brought to the front, and back."""

    step: DenseStep
    order: _Array
    back: _Array
    active: _Array | None  # 1 where the controls have their values

    @staticmethod
    def of(n_wires: int, masks: Masks, step: DenseStep) -> _Dense:
        i = np.arange(1 << n_wires)
        index = sum(((i & bit) != 0).astype(np.int64) << place for place, bit in enumerate(reversed(step.bits)))
        order = np.argsort(index, kind="stable")
        return _Dense(step, order, np.argsort(order), ((i & masks.control) == masks.value) * 1.0 if masks.control else None)

    def __call__(self, library: _Library, states: Any, steps: Any, matrices: Sequence[Any]) -> Any:
        like, constant, dtype = library.name, library.constant(states), _dtype_of(states)
        matrix = _complex(matrices[self.step.slot] if self.step.matrix is None else constant(self.step.matrix), constant, dtype)
        if self.step.inverse:
            matrix = do("conj", do("swapaxes", matrix, -1, -2, like=like), like=like)
        front = do("reshape", library.permute(states, self.order, self.back), (states.shape[0], matrix.shape[-1], -1), like=like)
        moved = do("reshape", do("matmul", matrix, front, like=like), (-1, states.shape[1]), like=like)
        moved = library.permute(moved, self.back, self.order)
        if self.active is None:
            return moved
        return constant(self.active.astype(dtype)) * moved + constant((1 - self.active).astype(dtype)) * states


def _dtype_of(states: Any) -> str:
    return str(states.dtype).removeprefix("torch.")


def _complex(array: Any, constant: Callable[[_Array], Any], dtype: str) -> Any:
    """The array as complex numbers; a product, because autograd has no derivative of a cast from real ones."""
    return astype(array * constant(np.ones((), dtype)), dtype)


def _final(table: Table, library: _Library, params: Any, matrices: Sequence[Any], start: Any, dtype: str) -> Any:
    """States (batch, 2**n)."""
    like, constant = library.name, library.constant(params)
    size = 1 << table.n_wires
    zero = np.eye(1, size, dtype=dtype)
    states = constant(zero) if start is None else do("reshape", _complex(start, constant, dtype), (-1, size), like=like)
    if table.masks:
        steps = step_matrices(table, params, constant, dtype, like)
        for move in _moves(table):
            states = move(library, states, steps, matrices)
    batch = int(params.shape[0])
    return states if states.shape[0] == batch else states * constant(np.ones((batch, 1), dtype))


def _word_values(words: WordTable, states: Any, like: str) -> Any:
    """Expectation values of the words, shape (batch, T), complex with no imaginary part; words of one flip mask share a pass."""
    library = _library(like)
    constant, dtype = library.constant(states), _dtype_of(states)
    upper, lower = half_signs(words.n_wires, words.signs)
    bra = do("conj", states, like=like)
    parts = []
    for flip, group in zip(words.flips, words.groups, strict=True):
        overlaps = bra * (library.mirror(states, flip) if flip else states)
        square = do("reshape", overlaps, (-1, upper.shape[1], lower.shape[1]), like=like)
        rows = do("matmul", square, constant(lower[list(group)].T.astype(dtype)), like=like)
        parts.append(do("sum", rows * constant(upper[list(group)].T.astype(dtype)), 1, like=like))
    if not parts:
        return constant(np.zeros((states.shape[0], 0), dtype))
    joined = do("concatenate", parts, 1, like=like)
    places = np.argsort([place for group in words.groups for place in group])
    return joined[:, places] * constant(words.phases.astype(dtype))
