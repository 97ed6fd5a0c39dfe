"""Broadcast circuits in pieces along the axis of their batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pennylane as qml
from pennylane import pytrees
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.transforms import transform

#: No more pieces than these; a number of its own, so that results do not depend on the number of workers.
MAX_PIECES = 32
_NUMBERS = frozenset({int, float, complex, np.float64, np.float32})


@transform
def in_pieces(tape: QuantumScript) -> Any:
    """A broadcast circuit as several: its members, or smaller batches. With shots always its members: each has a seed of its own."""
    size = tape.batch_size
    if size is None or not all(map(_can_be_cut, tape.operations)):
        return (tape,), lambda results: results[0]
    if tape.shots or size <= MAX_PIECES:
        return [_piece(tape, member) for member in range(size)], lambda results: joined(tape, results)
    count = min(size // 2, MAX_PIECES)  # of one member alone, some devices lose the axis
    borders = [size * number // count for number in range(count + 1)]
    return [_piece(tape, slice(*between)) for between in pairwise(borders)], lambda results: joined(tape, results, qml.math.concatenate)


def settled(tape: QuantumScript) -> QuantumScript:
    """The tape, with operators that know the size of their batch.

    PennyLane binds the parameters of some (``MultiRZ``, say) in a copy that believes to be what it was, with a batch or without.
    """
    wrong = {id(op) for op, value in parameters(tape) if np.ndim(value) and _batch_size(op) != op.batch_size}
    if not wrong:
        return tape
    operations = [_cut(op, ...) if id(op) in wrong else op for op in tape.operations]
    return tape.copy(operations=operations, trainable_params=tape.trainable_params)


def parameters(tape: QuantumScript) -> Iterator[tuple[Operator, Any]]:
    """What may be an array or traced, of operations and observables. Workers wait for this: what is plainly a number is passed over."""
    for op in [*tape.operations, *(measured.obs for measured in tape.measurements if measured.obs is not None)]:
        if getattr(type(op), "num_params", None) != 0:
            for value in op.data:
                if type(value) not in _NUMBERS:
                    yield op, value


def _batch_size(op: Operator) -> int | None:
    sizes = [qml.math.shape(value)[0] for value, rank in zip(op.data, op.ndim_params, strict=True) if qml.math.ndim(value) > rank]
    return sizes[0] if sizes else None


def _can_be_cut(op: Operator) -> bool:
    return getattr(op, "batch_size", None) is None or len(pytrees.flatten(op)[0]) == len(op.data)


def _piece(tape: QuantumScript, which: Any) -> QuantumScript:
    operations = [_cut(op, which) if getattr(op, "batch_size", None) is not None else op for op in tape.operations]
    return tape.copy(operations=operations, trainable_params=tape.trainable_params)


def _cut(op: Operator, which: Any) -> Operator:
    """Made anew: see ``settled``."""
    leaves, structure = pytrees.flatten(op)
    return pytrees.unflatten(
        [leaf[which] if qml.math.ndim(leaf) > rank else leaf for leaf, rank in zip(leaves, op.ndim_params, strict=True)], structure
    )


_Join = Callable[[Sequence[Any]], Any]


def _stacked(members: Sequence[Any]) -> Any:
    return list(members) if isinstance(members[0], dict) else qml.math.stack(members)  # counts are not arrays


def joined(tape: QuantumScript, results: Sequence[Any], join: _Join = _stacked) -> Any:
    """Results of the pieces, or members, as those of the batch, whose axis is the first of every array.

    Autograd's tuples are no tuples, so the tape is asked what the results are.
    """
    if tape.shots.has_partitioned_shots:
        return tuple(_of_measurements(tape, [result[copy] for result in results], join) for copy in range(tape.shots.num_copies))
    return _of_measurements(tape, results, join)


def _of_measurements(tape: QuantumScript, results: Sequence[Any], join: _Join) -> Any:
    if len(tape.measurements) > 1:
        return tuple(join([result[number] for result in results]) for number in range(len(tape.measurements)))
    return join(results)
