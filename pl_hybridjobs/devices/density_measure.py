"""PennyLane's measurement processes on a density matrix, without shots, in any of its interfaces and differentiable in all.

Probabilities are read off the diagonal as they are; PennyLane's own function takes a square root on the way, whose derivative is
infinite where a probability is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pennylane import math
from pennylane.devices.qubit_mixed import apply_operation
from pennylane.exceptions import DeviceError
from pennylane.measurements import DensityMatrixMP, ExpectationMP, MeasurementProcess, ProbabilityMP, StateMP, VarianceMP
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, SProd, Sum
from pennylane.wires import Wires


def measure(mp: MeasurementProcess, rho: Any, readout: float = 0.0) -> Any:
    """The result of one measurement.

    Args:
        mp: On wires 0, 1, ...
        rho: Shape (2**n, 2**n), or (batch, 2**n, 2**n).
        readout: The probability that a bit is read wrong, which concerns outcomes (``expval``, ``var``, ``probs``) and not what is said
            of the state itself.

    Raises:
        DeviceError: An observable that has no outcomes to be read wrong, and ``readout`` is not 0.
    """
    if isinstance(mp, ProbabilityMP):
        return probabilities(mp, rho, readout)
    if isinstance(mp, ExpectationMP | VarianceMP):
        if mp.mv is not None or mp.obs is None:
            return _moment(mp, rho, readout)
        if isinstance(mp, ExpectationMP):
            return _expval(mp.obs, rho, readout)
        return _moment(mp, rho, readout) if readout else _variance(mp.obs, rho)
    wires = Wires(range(_n_wires(rho)))
    if isinstance(mp, StateMP) and not isinstance(mp, DensityMatrixMP):
        mp = DensityMatrixMP(wires=mp.raw_wires or wires)
    found = mp.process_density_matrix(rho, wires)
    return math.cast(found, rho.dtype) if isinstance(mp, DensityMatrixMP) else found  # PennyLane makes it complex128


def probabilities(mp: MeasurementProcess, rho: Any, readout: float = 0.0) -> Any:
    """Probabilities of the outcomes on the measurement's wires, in its basis: shape (2**k,) or (batch, 2**k)."""
    n, batch = _n_wires(rho), tuple(math.shape(rho)[:-2])
    gates = mp.diagonalizing_gates()
    if gates:
        tensor = math.reshape(rho, (*batch, *(2,) * (2 * n)))
        for gate in gates:
            tensor = apply_operation(gate, tensor, is_state_batched=bool(batch))
        rho = math.reshape(tensor, math.shape(rho))
    index = np.arange(1 << n)
    found = math.reshape(math.real(rho[..., index, index]), (*batch, *(2,) * n))
    wires = [int(w) for w in mp.wires] or list(range(n))
    others = tuple(w + len(batch) for w in range(n) if w not in wires)
    if others:
        found = math.sum(found, axis=others)
    kept = sorted(wires)
    found = math.transpose(found, [*range(len(batch)), *(kept.index(w) + len(batch) for w in wires)])
    if readout:
        confusion = np.array([[1 - readout, readout], [readout, 1 - readout]])
        for axis in range(len(batch), len(batch) + len(wires)):
            flipped = math.tensordot(found, math.cast_like(math.convert_like(confusion, found), found), axes=[[axis], [0]])
            found = math.moveaxis(flipped, -1, axis)
    return math.reshape(found, (*batch, 1 << len(wires)))


def _n_wires(rho: Any) -> int:
    return int(math.shape(rho)[-1]).bit_length() - 1


def _moment(mp: MeasurementProcess, rho: Any, readout: float) -> Any:
    """Mean or variance of the eigenvalues that the outcomes stand for."""
    if mp.mv is None and mp.obs is not None and not mp.obs.has_diagonalizing_gates:
        raise DeviceError(f"hybridjobs.mixed: {mp.obs.name} has no outcomes that could be read wrong; leave out readout_prob")
    found = probabilities(mp, rho, readout)
    values = math.cast_like(math.convert_like(math.real(mp.eigvals()), found), found)
    mean = math.dot(found, values)
    return mean if isinstance(mp, ExpectationMP) else math.dot(found, values**2) - mean**2


def _expval(observable: Operator, rho: Any, readout: float) -> Any:
    if observable.pauli_rep is not None:
        return _of_words(observable.pauli_rep, rho, readout)
    if not readout:
        return _of_matrix(_matrix(observable), observable, rho)
    if isinstance(observable, SProd):
        return observable.scalar * _expval(observable.base, rho, readout)
    if isinstance(observable, Sum | LinearCombination):
        coefficients, terms = observable.terms()
        return sum(c * _expval(term, rho, readout) for c, term in zip(coefficients, terms, strict=True))
    return _moment(ExpectationMP(observable), rho, readout)


def _variance(observable: Operator, rho: Any) -> Any:
    if observable.pauli_rep is not None:
        words = observable.pauli_rep
        return _of_words(words @ words, rho) - _of_words(words, rho) ** 2
    matrix = _matrix(observable)
    return _of_matrix(matrix @ matrix, observable, rho) - _of_matrix(matrix, observable, rho) ** 2


def _of_words(words: Any, rho: Any, readout: float = 0.0) -> Any:
    """The expectation value of a sum of Pauli words; a bit that is read wrong changes the sign."""
    n = _n_wires(rho)
    index = np.arange(1 << n)
    found: Any = 0.0
    for word, coefficient in words.items():
        x = sum(1 << (n - 1 - w) for w, letter in word.items() if letter in "XY")
        z = sum(1 << (n - 1 - w) for w, letter in word.items() if letter in "YZ")
        factor = 1j ** sum(letter == "Y" for letter in word.values()) * (1 - 2 * readout) ** len(word)
        entries = factor * (1.0 - 2.0 * (np.bitwise_count(index & z) & 1))
        picked = rho[..., index, index ^ x]
        found = found + math.real(coefficient) * math.real(
            math.sum(picked * math.cast_like(math.convert_like(entries, picked), picked), axis=-1)
        )
    return found


def _matrix(observable: Operator) -> Any:
    """On its own wires."""
    if observable.has_matrix:
        return observable.matrix(wire_order=observable.wires)
    return observable.sparse_matrix(wire_order=observable.wires).toarray()


def _of_matrix(matrix: Any, observable: Operator, rho: Any) -> Any:
    """The trace of a matrix on some wires times a density matrix."""
    n, batch = _n_wires(rho), tuple(math.shape(rho)[:-2])
    wires = [int(w) for w in observable.wires]
    order = [*wires, *(w for w in range(n) if w not in wires)]
    axes = [*range(len(batch)), *(len(batch) + w for w in order), *(len(batch) + n + w for w in order)]
    rows, rest = 1 << len(wires), 1 << (n - len(wires))
    tensor = math.transpose(math.reshape(rho, (*batch, *(2,) * (2 * n))), axes)
    tensor = math.reshape(tensor, (*batch, rows, rest, rows, rest))
    matrix, identity = (math.cast_like(math.convert_like(m, tensor), tensor) for m in (matrix, np.eye(rest)))
    return math.real(math.einsum("...arbs,rs,ba->...", tensor, identity, matrix))
