"""Circuits of a batch one by one."""

from __future__ import annotations

from typing import Any

from pennylane import pytrees
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand, transform


@transform
def one_by_one(tape: QuantumScript) -> Any:
    """One tape for each entry of a batch."""
    tapes, joined = broadcast_expand(tape)
    return tuple(map(without_batch, tapes)), joined


def without_batch(tape: QuantumScript) -> QuantumScript:
    """A tape with one set of parameters, as such.

    PennyLane binds the parameters of some operators (``MultiRZ``, say) in a copy that still believes itself to be a batch.
    """
    if tape.batch_size is None:
        return tape
    return tape.copy(operations=[_new(op) if isinstance(op, Operator) and op.batch_size is not None else op for op in tape.operations])


def _new(op: Operator) -> Operator:
    leaves, structure = pytrees.flatten(op)
    return pytrees.unflatten(leaves, structure)
