"""Noisy tapes for the simulator: batches, initial density matrices and readout errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.exceptions import DeviceError
from pennylane.measurements import ExpectationMP, MeasurementProcess
from pennylane.operation import Operator
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import translate
from pl_hybridjobs.sim import density
from pl_hybridjobs.sim.circuit import Circuit, PauliSum


def is_expectation_of_words(mp: MeasurementProcess) -> bool:
    """Whether it is the expectation value of a sum of Pauli words."""
    return isinstance(mp, ExpectationMP) and mp.obs is not None and mp.obs.pauli_rep is not None


def translated(tape: QuantumScript, readout: float) -> translate.Translation | None:
    """A tape of expectation values of Pauli words; see ``translate.translate``."""
    found = translate.translate(tape, [mp.obs for mp in tape.measurements])
    return found and replace(found, circuit=with_readout(found.circuit, readout))


def with_readout(circuit: Circuit, readout: float) -> Circuit:
    """The circuit with observables whose outcomes are read wrong: each wrong bit changes the sign of a word."""
    if not readout:
        return circuit
    observables = [
        PauliSum(tuple(c * (1 - 2 * readout) ** len(w) for c, w in zip(o.coefficients, o.words, strict=True)), o.words)
        for o in circuit.observables
    ]
    return replace(circuit, observables=tuple(observables))


def wanted(found: translate.Translation, tape: QuantumScript) -> frozenset[int]:
    """The parameters that are trained."""
    columns = found.columns()
    return frozenset(slot for place in tape.trainable_params if place in columns for slot in range(*columns[place][0].indices(1 << 62)))


def batch_size(tape: QuantumScript) -> int | None:
    """The size of the batch, also where only channels have one, which PennyLane does not see."""
    if tape.batch_size is not None:
        return int(tape.batch_size)
    sizes = {len(value) for op in tape.operations if translate.is_tabled_channel(op) for value in op.data if np.ndim(value)}
    return sizes.pop() if sizes else None


def parameters(found: translate.Translation, tape: QuantumScript) -> Any:
    """Shape (batch, parameters); without a batch, one row."""
    return translate.parameter_matrix(found, batch_size(tape))


def start_of(prep: Operator | None, tape: QuantumScript) -> Any:
    """The initial density matrix, shape (4**n,) or (batch, 4**n); None: all wires in 0."""
    if prep is None:
        return None
    n = len(tape.wires)
    if prep.name != "QubitDensityMatrix":
        vectors = np.asarray(translate.prepared(prep, n)).reshape(-1, 1 << n)
        found = np.einsum("bi,bj->bij", vectors, vectors.conj()).reshape(-1, 1 << 2 * n)
        return found if prep.batch_size is not None else found[0]
    given = np.asarray(qml.math.toarray(prep.data[0]), dtype=np.complex128)
    k = len(prep.wires)
    if given.shape != (1 << k, 1 << k) or not np.allclose(given, given.conj().T):
        raise DeviceError(f"QubitDensityMatrix on {k} wires needs a Hermitian matrix of shape {(1 << k, 1 << k)}, not {given.shape}")
    rest = np.zeros((1 << (n - k), 1 << (n - k)))
    rest[0, 0] = 1
    order = [*map(int, prep.wires), *(w for w in range(n) if w not in prep.wires)]
    axes = [int(a) for a in np.argsort(order)]
    tensor = np.kron(given, rest).reshape((2,) * (2 * n))
    return density.vector_of(tensor.transpose([*axes, *(n + a for a in axes)]))
