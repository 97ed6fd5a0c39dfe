"""Density matrices in the user's framework, operation by operation: slower than the kernels, and differentiable to any order.

Channels of our table are applied as sums of constant matrices (see ``sim.channels``), so that derivatives exist where there is no noise.
What else acts on more than two wires is applied by its matrices, since PennyLane loses autograd's derivatives there; the rest is
PennyLane's ``qubit_mixed.apply_operation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pennylane import math
from pennylane.devices.preprocess import decompose
from pennylane.devices.qubit_mixed import apply_operation, create_initial_state
from pennylane.math.interface_utils import Interface
from pennylane.operation import Channel, Operator, StatePrepBase
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import translate
from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.channels import CHANNELS, MAX_CHANNEL_WIRES


def final_state(tape: QuantumScript, interface: str | None) -> Any:
    """The density matrix after a tape on wires 0, 1, ...

    Args:
        tape: Its operations.
        interface: ``"autograd"``, ``"jax"``, ``"torch"``, or None for numpy.

    Returns:
        Shape (2**n, 2**n), or (batch, 2**n, 2**n).
    """
    (tape,), _ = decompose(tape, stopping_condition=_is_known, name="hybridjobs.mixed")
    n, operations = len(tape.wires), list(tape.operations)
    prep = operations.pop(0) if operations and isinstance(operations[0], StatePrepBase) else None
    state = create_initial_state(range(n), prep, like=Interface(interface).get_like())
    batched = prep is not None and prep.batch_size is not None
    for op in operations:
        rows = [int(w) for w in op.wires]
        columns = [n + w for w in rows]
        if translate.is_tabled_channel(op) and len(op.wires) <= MAX_CHANNEL_WIRES:
            matrix = _superoperator(op)
            state = _applied(matrix, [*rows, *columns], state, batched)
            batched = batched or math.ndim(matrix) == 3
            continue
        if len(op.wires) > 2 and (op.has_matrix or isinstance(op, Channel)):
            state = _conjugated(op.kraus_matrices() if isinstance(op, Channel) else [op.matrix()], rows, columns, state, batched)
        else:
            state = apply_operation(op, state, is_state_batched=batched)
        batched = batched or op.batch_size is not None
    batch = (math.shape(state)[0],) if batched else ()
    return math.reshape(state, (*batch, 1 << n, 1 << n))


def _is_known(op: Operator) -> bool:
    return op.has_matrix or translate.is_noise(op) or op.name == "Snapshot"


def _superoperator(op: Operator) -> Any:
    """Shape (4**k, 4**k), or with a batch axis in front."""
    row = CHANNELS[op.name]
    known = [] if any(map(math.is_abstract, op.data)) else math.unwrap(op.data)
    for values in np.broadcast(*known) if known else ():
        if wrong := row.check(*(float(v) for v in values)):
            raise SimulationError(f"{op.name} on wires {tuple(op.wires)}: {wrong}")
    factors = row.factors(*op.data)
    like = sum(factors)  # of the interface and with the batch of all of them
    found, *parts = (math.convert_like(part, like) for part in row.parts(translate.word_of(op)))
    for factor, part in zip(factors, parts, strict=True):
        full = factor + 0 * like
        found = found + math.reshape(full, (*math.shape(full), 1, 1)) * part
    return found


def _conjugated(matrices: Sequence[Any], rows: list[int], columns: list[int], state: Any, batched: bool) -> Any:
    """The sum of K rho K^dagger over matrices K, of which one alone may have a batch axis in front."""
    found: Any = 0
    for matrix in matrices:
        half = _applied(matrix, rows, state, batched)
        found = found + _applied(math.conj(matrix), columns, half, batched or math.ndim(matrix) == 3)
    return found


def _applied(matrix: Any, on: list[int], state: Any, batched: bool) -> Any:
    """A matrix on some axes of a state with an axis for each row wire and each column wire; a batch axis in front is not counted."""
    lead = int(batched)
    rank = math.ndim(state) - lead
    front = [lead + axis for axis in on]
    axes = [*range(lead), *front, *(a for a in range(lead, lead + rank) if a not in front)]
    shape = math.shape(state)
    flat = math.reshape(math.transpose(state, axes), (*shape[:lead], 1 << len(on), -1))
    if math.get_interface(flat) == "numpy":
        flat = math.asarray(flat, like=math.get_interface(matrix))  # a given density matrix, before what is trained
    found = math.matmul(math.cast(math.convert_like(matrix, flat), flat.dtype), flat)
    if math.ndim(matrix) == 3 and not batched:  # the batch begins here
        axes, shape = [0, *(a + 1 for a in axes)], (math.shape(matrix)[0], *shape)
    return math.transpose(math.reshape(found, shape), [int(a) for a in np.argsort(axes)])
