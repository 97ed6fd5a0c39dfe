"""What a circuit is, as a digest that is the same in every process: the same circuit has the same one, another has another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.ops import Conditional, MidMeasure
from pennylane.tape import QuantumScript


def fingerprint(circuits: Sequence[QuantumScript], *also: object) -> str:
    """64 hexadecimal digits that name circuits (operations, measurements, shots, what is trained) and whatever else counts.

    Args:
        circuits: With numbers in them, not tracers.
        *also: Values whose ``repr`` is the same in every process.
    """
    digest = hashlib.sha256(repr(also).encode())
    for circuit in circuits:
        for word in _words(circuit):
            digest.update(word.encode())
            digest.update(b"\0")
        digest.update(b"\1")
    return digest.hexdigest()


def _words(circuit: QuantumScript) -> Iterator[str]:
    measured: dict[Any, int] = {}  # measurements in the middle have random names
    for op in circuit.operations:
        if isinstance(op, MidMeasure):
            measured[op.meas_uid] = len(measured)
            yield f"measure {list(op.wires)} {op.reset} {op.postselect}"
        elif isinstance(op, Conditional):
            asked = [measured[m.meas_uid] for m in op.meas_val.measurements]
            yield f"if {asked} {[bool(value) for _, value in op.meas_val.items()]}"
            yield from _operator(op.base)
        else:
            yield from _operator(op)
    for mp in circuit.measurements:
        yield f"{type(mp).__name__} {list(mp.wires)} {getattr(mp, 'all_outcomes', '')}"
        if mp.obs is not None:
            yield from _operator(mp.obs)
    yield f"{circuit.shots.total_shots} {[(copy.shots, copy.copies) for copy in circuit.shots.shot_vector]} {circuit.trainable_params}"


def _operator(op: Any) -> Iterator[str]:
    yield f"{op.name} {list(op.wires)} {getattr(op, 'control_values', '')}"
    for value in op.data:
        array = np.asarray(qml.math.toarray(value))
        if array.dtype.kind in "biuf":
            array = array.astype(np.float64)
        yield f"{array.dtype.str} {array.shape} {array.tobytes().hex()}"
    for part in getattr(op, "operands", ()):
        yield from _operator(part)
    word = op.hyperparameters.get("pauli_word") or op.hyperparameters.get("word")
    if word is not None:
        yield str(word)
    if "base" in op.hyperparameters and "operands" not in op.hyperparameters:
        yield from _operator(op.hyperparameters["base"])
    if "z" in op.hyperparameters:
        yield str(op.hyperparameters["z"])
