"""One step of an operator's decomposition: PennyLane's own, but where that costs derivatives, batches or gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
    if isinstance(base, Exp) and _is_batched(base):
        return word_rotation(base) is not None
    return _own(base) is not None or op.has_decomposition


def word_rotation(op: Exp) -> Operator | None:
    """The rotation that the exponential of an imaginary multiple of a Pauli word is, for numbers of any library; None if it is no such.

    PennyLane's own takes neither torch's numbers nor batches.
    """
    sentence = op.base.pauli_rep
    if sentence is None or len(sentence) != 1 or not op.wires:
        return None
    ((word, factor),) = sentence.items()
    exponent = 1j * op.coeff * factor
    if not qml.math.is_abstract(exponent) and np.any(np.imag(qml.math.unwrap([exponent])[0])):
        return None
    wires, paulis = zip(*word.items(), strict=True) if word else (op.wires[:1], ("I",))
    return qml.PauliRot(2 * qml.math.real(exponent), "".join(paulis), wires=list(wires))


def _own(base: Operator) -> list[Operator] | None:
    """Of what PennyLane decomposes by comparing matrices, or not at all; None: of all else."""
    if isinstance(base, Pow) and base.has_decomposition:
        return base.decomposition()
    if isinstance(base, Exp):
        rotation = word_rotation(base)
        if rotation is not None:
            return [rotation]
        if _is_batched(base):
            return [qml.QubitUnitary(base.matrix(), wires=base.wires)]
    return None


def _is_batched(op: Any) -> bool:
    return op.batch_size is not None
