"""One step of an operator's decomposition: PennyLane's own, but where that costs derivatives, batches or gates."""

from __future__ import annotations

from collections.abc import Sequence

import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops import Exp, Pow

from pl_hybridjobs.devices import translate


def one_step(op: Operator) -> Sequence[Operator]:
    """Operators whose product in order of time is ``op``.

    Raises:
        DecompositionUndefinedError: There are none.
    """
    base, inverse, controls, values = translate.base_of(op)
    parts = _own(base)
    if parts is None:
        return op.decomposition()
    if inverse:
        parts = [qml.adjoint(part) for part in reversed(parts)]
    return [qml.ctrl(part, control=controls, control_values=values) for part in parts] if controls else parts


def has_step(op: Operator) -> bool:
    """Whether ``one_step`` gives derivatives by all parameters of an operator to what it returns."""
    base = translate.base_of(op)[0]
    if isinstance(base, Exp) and not translate.is_comparable(base):
        return translate.word_rotation(base) is not None
    return _own(base) is not None or op.has_decomposition


def _own(base: Operator) -> list[Operator] | None:
    """Of what PennyLane decomposes by comparing matrices, or not at all; None: of all else."""
    if isinstance(base, Pow) and base.has_decomposition:
        return base.decomposition()
    if isinstance(base, Exp):
        rotation = translate.word_rotation(base)
        if rotation is not None:
            return [rotation]
        if base.batch_size is not None:
            return [qml.QubitUnitary(base.matrix(), wires=base.wires)]
    return None
