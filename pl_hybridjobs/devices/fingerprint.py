"""What a circuit is, as a digest that is the same in every process: the same circuit has the same one, another has another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.ops import Conditional, MidMeasure
from pennylane.tape import QuantumScript

_TOLD = ("pauli_word", "word", "operators", "z")  # hyperparameters that say what an operator is


def fingerprint(circuits: Sequence[QuantumScript], *also: object) -> str:
    """64 hexadecimal digits that name circuits (operations, measurements, shots, what is trained) and whatever else counts.

    Args:
        circuits: With numbers in them, not tracers.
        *also: Values whose ``repr`` is the same in every process.
    """
    words = [repr(also)]
    for circuit in circuits:
        words += _words(circuit)
        words.append("")
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def structure(circuits: Sequence[QuantumScript], *also: object) -> str:
    """16 hexadecimal digits that circuits share which differ in the parameters of their operations only, and so take about as long."""
    words = [repr(also)]
    for circuit in circuits:
        words += [f"{op.name} {op.wires.tolist()}" for op in circuit.operations]
        words += [f"{type(mp).__name__} {mp.obs if mp.obs is None else mp.obs.name} {len(mp.wires)}" for mp in circuit.measurements]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


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
    yield f"{op.name} {op.wires.tolist()} {[value if type(value) is float else _number(value) for value in op.data]}"
    told = op.hyperparameters
    if not told:
        return
    yield f"{[told.get(name) for name in _TOLD]} {getattr(op, 'control_values', '')}"
    parts = told.get("operands") or getattr(op, "operands", None) or ((told["base"],) if "base" in told else ())
    for part in parts:
        yield from _operator(part)


def _number(value: Any) -> Any:
    """A number, or what stands for an array: to the last bit."""
    array = np.asarray(qml.math.toarray(value))
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return float(array)
    return f"{array.dtype.str} {array.shape} {array.tobytes().hex()}"
