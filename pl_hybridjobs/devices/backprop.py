"""Tapes on the array engine: any measurement, any matrices, states with derivatives, for numpy, autograd, jax and torch, to any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices.qubit import measure as reference_measure
from pennylane.measurements import ExpectationMP, MeasurementProcess, VarianceMP
from pennylane.pauli import PauliSentence
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import measure, translate
from pl_hybridjobs.sim import engine_array, engine_cpu
from pl_hybridjobs.sim.circuit import PauliSum

#: Up to so many words, a variance is the expectation value of the square less the square of the expectation value.
_MAX_SQUARED_WORDS = 64


def execute(tape: QuantumScript, interface: str, c_dtype: np.dtype[Any]) -> Any:
    """Results of an analytic tape on wires 0, 1, ..., as arrays of the interface's library that carry derivatives."""
    near = next((p for p in tape.get_parameters(trainable_only=False) if qml.math.get_interface(p) == interface), None)
    arrays = _Arrays(interface, near)
    results = _measured(tape.measurements, _states(tape, arrays, c_dtype), tape.batch_size is not None, arrays)
    return results[0] if len(results) == 1 else results


def states(tape: QuantumScript, c_dtype: np.dtype[Any], interface: str = "numpy") -> Any:
    """Final states of a tape, shape (batch or 1, 2**n), as arrays of an interface's library."""
    return _states(tape, _Arrays(interface, None), c_dtype)


def normalised(final: Any) -> Any:
    """States (batch, 2**n) of length 1; not a number where what was postselected cannot happen."""
    norms = qml.math.sqrt(qml.math.sum(qml.math.real(qml.math.conj(final) * final), axis=1))
    least = 1e-6 if "complex64" in str(final.dtype) else 1e-8
    impossible = qml.math.where(norms > least, 0.0 * norms, np.nan)  # added, not chosen: so it has no part in derivatives
    with np.errstate(invalid="ignore"):
        return final / qml.math.reshape(norms + impossible, (-1, 1))


@dataclass(frozen=True)
class _Arrays:
    """The library, and an array that lies where all others shall lie."""

    interface: str
    near: Any

    def of(self, value: Any) -> Any:
        if self.interface == "torch":
            import torch

            return torch.as_tensor(value, device=None if self.near is None else self.near.device)
        if self.interface == "jax":
            import jax.numpy as jnp

            return jnp.asarray(value)
        return value

    def real(self, value: Any) -> Any:
        """As real numbers of double precision, or of what JAX has instead."""
        array = qml.math.real(self.of(value))
        if self.interface == "torch":
            return array.double()
        if self.interface == "jax":
            import jax.numpy as jnp

            return jnp.asarray(array, float)
        return array * np.float64(1.0)

    def row(self, values: Sequence[Any]) -> Any:
        """Numbers as an array of shape (len(values),)."""
        if not any(translate.is_traced(value) for value in values):
            return self.real(np.array([np.real(value) for value in values], float))
        return qml.math.stack([self.real(value) for value in values], like=self.interface)


def _states(tape: QuantumScript, arrays: _Arrays, c_dtype: np.dtype[Any]) -> Any:
    n = len(tape.wires)
    engine_cpu.check_memory(n, 3, c_dtype)
    found = translate.translate(tape, apart=True)
    assert found is not None  # only observables can be without a translation
    start = None
    if found.start is not None:
        start = qml.math.reshape(arrays.of(translate.prepared(found.start, n)), (-1, 2**n))
    final = engine_array.state(
        found.circuit,
        _parameters(found, tape.batch_size, arrays),
        matrices=[arrays.of(matrix) for matrix in found.matrices],
        start=start,
        dtype=c_dtype,
        like=arrays.interface,
    )
    return normalised(final) if found.postselected else final


def _parameters(found: translate.Translation, batch_size: int | None, arrays: _Arrays) -> Any:
    """The parameters of a translation, shape (batch or 1, parameters)."""
    if not found.parameters or (batch_size is None and not any(found.shapes)):  # numbers: one operation for all of them
        return qml.math.reshape(arrays.row(found.parameters), (1, -1))
    pairs = zip(found.parameters, found.shapes, strict=True)
    blocks = [qml.math.reshape(arrays.real(value), (-1, math.prod(shape))) for value, shape in pairs]
    batch = batch_size or 1
    return qml.math.concatenate([b if b.shape[0] == batch else b * arrays.of(np.ones((batch, 1))) for b in blocks], axis=1)


def _measured(measurements: list[MeasurementProcess], final: Any, batched: bool, arrays: _Arrays) -> tuple[Any, ...]:
    """Results of measurements on states (batch or 1, 2**n): all values of Pauli words at once, what else there is by PennyLane."""
    n = int(final.shape[1]).bit_length() - 1
    tensor = qml.math.reshape(final, ((-1,) if batched else ()) + (2,) * n)
    sentences: list[PauliSentence] = []
    first: dict[int, int] = {}  # of a measurement: where its sentences begin
    for number, mp in enumerate(measurements):
        sentence = mp.obs.pauli_rep if isinstance(mp, ExpectationMP | VarianceMP) and mp.obs is not None else None
        if sentence is None or (isinstance(mp, VarianceMP) and len(sentence) > _MAX_SQUARED_WORDS):
            continue
        first[number] = len(sentences)
        sentences += [sentence] if isinstance(mp, ExpectationMP) else [sentence, sentence @ sentence]
    values = _sentence_values(sentences, final, arrays)
    results = []
    for number, mp in enumerate(measurements):
        at = first.get(number)
        if at is not None:
            results.append(_one(values[:, at] if isinstance(mp, ExpectationMP) else values[:, at + 1] - values[:, at] ** 2, batched))
        elif isinstance(mp, ExpectationMP) and isinstance(mp.obs, qml.SparseHamiltonian):
            results.append(_one(_sparse_expval(mp.obs.sparse_matrix(wire_order=range(n)).tocoo(), final, arrays), batched))
        elif isinstance(mp, measure.OF_DENSITY):
            results.append(_of_density(mp, qml.math.reshape(final, (-1, *(2,) * n)), batched))
        else:
            results.append(reference_measure(mp, tensor, is_state_batched=batched))
    return tuple(results)


def _of_density(mp: MeasurementProcess, tensor: Any, batched: bool) -> Any:
    """A measurement of some wires' reduced density matrix. PennyLane's own traces wires out wrongly from 13 wires on."""
    wires = measure.density_wires(mp)
    others = [w for w in range(tensor.ndim - 1) if w not in wires]
    rows = qml.math.transpose(tensor, [0, *(w + 1 for w in (*wires, *others))])
    rows = qml.math.reshape(rows, (tensor.shape[0], 1 << len(wires), -1))
    rho = qml.math.matmul(rows, qml.math.conj(qml.math.transpose(rows, (0, 2, 1))))
    return measure.of_density(mp, rho if batched else rho[0])


def _sentence_values(sentences: list[PauliSentence], final: Any, arrays: _Arrays) -> Any:
    """Expectation values, shape (batch or 1, sentences); coefficients may be traced."""
    sums = tuple(PauliSum((1.0,) * len(s), tuple(tuple(word.items()) for word in s)) for s in sentences)
    coefficients = arrays.row([coefficient for s in sentences for coefficient in s.values()])
    return engine_array.expval_of(sums, final, coefficients=coefficients, like=arrays.interface)


def _one(values: Any, batched: bool) -> Any:
    return values if batched else values[0]


def _sparse_expval(matrix: Any, final: Any, arrays: _Arrays) -> Any:
    """Shape (batch,); PennyLane's own function for sparse matrices has no derivative."""
    products = qml.math.conj(final[:, matrix.row]) * final[:, matrix.col] * arrays.of(matrix.data)
    return qml.math.real(qml.math.sum(products, axis=1))
