"""The array engine under JAX: a loop over the circuit's table, so that what XLA compiles does not grow with the number of gates or words.

Each function here gives a compiled function, the same one for the same circuit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pl_hybridjobs.sim.table import DenseStep, Table, WordTable, combined, half_signs, step_matrices

#: So many words of one flip mask share a pass.
_WORDS_AT_ONCE = 16


@functools.lru_cache(maxsize=128)
def state(table: Table, dtype: str) -> Any:
    """(params (batch, P), matrices, start) -> states (batch, 2**n)."""
    return jax.jit(_batched(functools.partial(_state, table, dtype)))


@functools.lru_cache(maxsize=128)
def expval(words: WordTable) -> Any:
    """(states (batch, 2**n), coefficients or None) -> expectation values (batch, M)."""

    def values(states: Any, coefficients: Any) -> Any:
        found = jax.vmap(functools.partial(_word_values, words))(states)
        return combined(words, found, coefficients, _constant, "jax")

    return jax.jit(values)


def _batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of (params (P,), matrices, start) on batches; what has no batch, or one of 1, serves the whole of the others."""

    def on_batches(params: Any, matrices: tuple[Any, ...], start: Any) -> Any:
        given = (params, tuple(matrices), start)
        cores = (1, (2,) * len(matrices), None if start is None else 1)
        shared = jax.tree.map(lambda array, core: array if array.ndim == core or array.shape[0] > 1 else array[0], given, cores)
        axes = jax.tree.map(lambda array, core: 0 if array.ndim > core else None, shared, cores)
        if not any(axis == 0 for axis in jax.tree.leaves(axes)):
            return function(*shared)[None]
        return jax.vmap(function, in_axes=axes)(*shared)

    return on_batches


def _constant(array: np.ndarray[Any, Any]) -> Any:
    """A numpy array for JAX, in the precision that JAX has."""
    single = {"float64": "float32", "complex128": "complex64"}
    return jnp.asarray(array if jax.config.jax_enable_x64 else array.astype(single.get(array.dtype.name, array.dtype.name)))


def _state(table: Table, dtype: str, params: Any, matrices: tuple[Any, ...], start: Any) -> Any:
    """One state (2**n,), of one parameter vector (P,)."""
    if not jax.config.jax_enable_x64:
        dtype = "complex64"
    index = jnp.arange(1 << table.n_wires, dtype=jnp.uint32)
    psi = (index == 0).astype(dtype) if start is None else start.astype(dtype)
    if not table.masks:
        return psi
    steps = step_matrices(table, params, _constant, dtype, "jax")
    masks = np.array(table.masks, np.uint32)
    for step in table.dense:
        if len(step.bits) == 1:
            steps = steps.at[step.row].set(_given(step, matrices, dtype))
    sizes = sorted({len(step.bits) for step in table.dense} - {1})
    if not sizes:
        return lax.scan(lambda psi, step: (_pair(index, psi, *step), None), psi, (steps, masks))[0]
    kinds, places = np.zeros((2, len(masks)), np.int32)
    branches: list[Callable[..., Any]] = [lambda psi, matrix, mask, place: _pair(index, psi, matrix, mask)]
    for size in sizes:
        members = [step for step in table.dense if len(step.bits) == size]
        for place, step in enumerate(members):
            kinds[step.row], places[step.row] = len(branches), place
        bits = jnp.asarray([step.bits for step in members], jnp.uint32)
        stacked = _constant(np.stack([np.eye(1 << size) if step.matrix is None else step.matrix for step in members]).astype(dtype))
        for place, step in enumerate(members):
            if step.matrix is None:
                stacked = stacked.at[place].set(_given(step, matrices, dtype))
        branches.append(functools.partial(_dense, index, stacked, bits))

    def body(psi: Any, step: Any) -> tuple[Any, None]:
        matrix, mask, kind, place = step
        return lax.switch(kind, branches, psi, matrix, mask, place), None

    return lax.scan(body, psi, (steps, masks, kinds, places))[0]


def _given(step: DenseStep, matrices: tuple[Any, ...], dtype: str) -> Any:
    """The matrix of a slot."""
    matrix = matrices[step.slot].astype(dtype)
    return jnp.conj(matrix.T) if step.inverse else matrix


def _permuted(vector: Any, order: Any, back: Any) -> Any:
    """vector[order], where back is the inverse of order. Written as the solution of x[back] = vector, it is transposed into vector[back];
    JAX's own transpose of an index adds element by element, which is slow.
    """

    def pick(where: Any) -> Callable[..., Any]:
        return lambda *given: given[-1].at[where].get(mode="promise_in_bounds", unique_indices=True)

    return lax.custom_linear_solve(pick(back), vector, pick(order), pick(back))


def _odd(values: Any) -> Any:
    return (lax.population_count(values) & 1) == 1


def _pair(index: Any, psi: Any, matrix: Any, mask: Any) -> Any:
    """A step of the table, see there."""
    flip, sign, control, value = mask
    b, active = _odd(index & sign), (index & control) == value
    same = jnp.where(active, jnp.where(b, matrix[1, 1], matrix[0, 0]), jnp.ones((), psi.dtype))
    other = jnp.where(active, jnp.where(b, matrix[1, 0], matrix[0, 1]), jnp.zeros((), psi.dtype))
    partner = index ^ flip
    return same * psi + other * _permuted(psi, partner, partner)


def _dense(index: Any, stacked: Any, all_bits: Any, psi: Any, matrix: Any, mask: Any, place: Any) -> Any:
    """Number ``place`` of some matrices of one size: the amplitudes are sorted by the bits of its wires, and back."""
    del matrix
    bits, (_, _, control, value) = all_bits[place], mask
    k = all_bits.shape[1]
    ordered = jnp.sort(bits)
    rest, inner = index & ((1 << index.size.bit_length() - 1 - k) - 1), index >> (index.size.bit_length() - 1 - k)
    for low in ordered:  # a zero goes in at each bit of the wires
        rest = ((rest & ~(low - 1)) << 1) | (rest & (low - 1))
    order = rest
    left, found = index, jnp.zeros_like(index)
    for j in range(k):
        order = order | jnp.where((inner >> (k - 1 - j)) & 1 == 1, bits[j], 0)
        found = found | (((index & bits[j]) != 0).astype(index.dtype) << (k - 1 - j))
    for low in ordered[::-1]:  # and comes out again
        left = ((left >> 1) & ~(low - 1)) | (left & (low - 1))
    back = (found << (index.size.bit_length() - 1 - k)) | left
    moved = stacked[place] @ _permuted(psi, order, back).reshape(1 << k, -1)
    return jnp.where((index & control) == value, _permuted(moved.ravel(), back, order), psi)


def _word_values(words: WordTable, psi: Any) -> Any:
    """Expectation values of the words in one state, shape (T,), complex with no imaginary part: rows of one flip mask each, in a loop."""
    if not words.flips:
        return jnp.zeros(0, psi.dtype)
    width = min(_WORDS_AT_ONCE, max(map(len, words.groups)))
    flips, rows = [], []
    for flip, group in zip(words.flips, words.groups, strict=True):
        for first in range(0, len(group), width):
            flips.append(flip)
            rows.append((*group[first : first + width], *[-1] * (width - len(group[first : first + width]))))
    places = np.array(rows)
    signs = np.where(places >= 0, words.signs[places], 0)
    index = jnp.arange(psi.size, dtype=jnp.uint32)

    def row(_: None, given: Any) -> tuple[None, Any]:
        flip, sign = given
        partner = index ^ flip
        upper, lower = half_signs(words.n_wires, sign, jnp)
        square = (jnp.conj(psi) * _permuted(psi, partner, partner)).reshape(upper.shape[1], lower.shape[1])
        return None, jnp.sum((square @ lower.T.astype(psi.dtype)) * upper.T, axis=0)

    _, values = lax.scan(row, None, (np.array(flips, np.uint32), signs.astype(np.uint32)))
    found = np.empty(len(words.signs), np.int64)
    found[places[places >= 0]] = np.flatnonzero(places.ravel() >= 0)
    return values.reshape(-1)[found] * words.phases.astype(psi.dtype)
