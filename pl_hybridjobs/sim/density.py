"""Density matrices on the CPU engine: a matrix of n wires is a state of 2n wires, rows first.

A gate acts on the rows and its complex conjugate on the columns; a channel is one matrix, its superoperator, on both. A noisy circuit is
a ``Circuit`` among whose gates are channels (see ``channels``). Expectation values are linear in the density matrix, and their gradients
come from one reverse sweep for each observable (arXiv:2009.02823, for density matrices): the observable goes back through inverse gates
and transposed channels. States go back through gates, but not through channels, so that those before each stretch of gates are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_cpu
from pl_hybridjobs.sim.channels import expand, is_channel, matrices
from pl_hybridjobs.sim.circuit import Circuit, Gate, PauliSum, matrix_bytes

Array = np.ndarray[Any, np.dtype[Any]]
_Noise = tuple[tuple[float, ...], ...]


def vector_of(matrix: Any) -> Array:
    """A density matrix (2**n, 2**n) as ``start`` wants it: shape (4**n,)."""
    return np.ascontiguousarray(matrix).ravel()


def check_memory(n_wires: int, states: int, c_dtype: Any) -> None:
    """Refuse what does not fit.

    Raises:
        SimulationError: Says how much is needed, and what would fit.
    """
    try:
        engine_cpu.check_memory(2 * n_wires, states, c_dtype)
    except SimulationError as error:
        raise SimulationError(f"a density matrix of {n_wires} wires is as large as a state of twice as many: {error}") from None


def state(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> Array:
    """Final density matrices.

    Args:
        circuit: Gates and channels.
        params: Shape (batch, parameters), float64.
        c_dtype: complex64 or complex128.
        start: The density matrix before the circuit, shape (4**n,) or (batch, 4**n); None: all qubits in 0.

    Returns:
        Shape (batch, 2**n, 2**n).

    Raises:
        SimulationError: See ``Circuit.check``, ``gates.expand``, ``channels.matrices``; or it does not fit into memory.
    """
    circuit = _expanded(circuit)
    check_memory(circuit.n_wires, 2, c_dtype)
    vectors = np.ascontiguousarray(params, dtype=np.float64)
    if start is not None and start.ndim == 2:
        return np.concatenate([state(circuit, v[None], c_dtype=c_dtype, start=s) for v, s in zip(vectors, start, strict=True)])
    out = np.empty((len(vectors), 1 << 2 * circuit.n_wires), np.dtype(c_dtype))
    rows: dict[_Noise, list[int]] = {}
    for b, vector in enumerate(vectors):
        rows.setdefault(_noise(circuit.gates, vector), []).append(b)
    for noise, members in rows.items():  # one program for all that have the same noise
        out[members] = engine_cpu.state(_whole(circuit, noise), vectors[members], c_dtype=c_dtype, start=start)
    return out.reshape(-1, 1 << circuit.n_wires, 1 << circuit.n_wires)


def expval(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> Array:
    """Expectation values, shape (batch, observables); arguments and errors as for ``state``."""
    vectors = np.ascontiguousarray(params, dtype=np.float64)
    values = np.empty((len(vectors), len(circuit.observables)))
    for b in range(len(vectors)):  # one density matrix at a time is in memory
        before = start[b] if start is not None and start.ndim == 2 else start
        rho = state(circuit, vectors[b : b + 1], c_dtype=c_dtype, start=before)[0]
        values[b] = [expectation(rho, observable) for observable in circuit.observables]
    return values


def jacobian(
    circuit: Circuit, params: Any, *, wanted: frozenset[int] | None = None, c_dtype: Any = np.complex128, start: Array | None = None
) -> tuple[Array, Array]:
    """Expectation values and their derivatives.

    Args:
        circuit: Gates and channels, and observables.
        params: Shape (batch, parameters).
        wanted: The parameters whose derivatives are wanted, others may be left 0; None: all. Those of channels cost more than others.
        c_dtype: complex64 or complex128.
        start: A Hermitian matrix, shape (4**n,), or None.

    Returns:
        Shapes (batch, observables) and (batch, observables, parameters). Memory is that of one density matrix for each stretch of gates
        between channels, and for each channel of a layer of channels whose own derivatives are wanted.

    Raises:
        SimulationError: As for ``state``.
    """
    weights = np.eye(len(circuit.observables))
    results = [_sweeps(circuit, v, weights, wanted, c_dtype, start) for v in np.ascontiguousarray(params, dtype=np.float64)]
    return np.array([r[0] for r in results]), np.array([r[1] for r in results])


def vjp(
    circuit: Circuit,
    params: Any,
    cotangents: Any,
    *,
    wanted: frozenset[int] | None = None,
    c_dtype: Any = np.complex128,
    start: Array | None = None,
) -> tuple[Array, Array]:
    """Expectation values, and the gradient of their sum weighted by ``cotangents`` (batch, observables): one reverse sweep."""
    vectors, weights = np.ascontiguousarray(params, dtype=np.float64), np.asarray(cotangents, dtype=np.float64)
    results = [_sweeps(circuit, v, w[None], wanted, c_dtype, start) for v, w in zip(vectors, weights, strict=True)]
    return np.array([r[0] for r in results]), np.array([r[1][0] for r in results])


# Observables ------------------------------------------------------------------------------------------------------------


def _diagonals(observable: PauliSum, n_wires: int) -> Iterator[tuple[int, Array]]:
    """The observable's entries: for each flip mask x, O[k ^ x, k] for all k, complex128."""
    index = np.arange(1 << n_wires)
    groups: dict[int, Array] = {}
    for coefficient, word in zip(observable.coefficients, observable.words, strict=True):
        x = sum(1 << (n_wires - 1 - w) for w, p in word if p in "XY")
        z = sum(1 << (n_wires - 1 - w) for w, p in word if p in "YZ")
        factor = coefficient * 1j ** sum(p == "Y" for _, p in word)
        entries = groups.setdefault(x, np.zeros(1 << n_wires, np.complex128))
        entries += factor * (1.0 - 2.0 * (np.bitwise_count(index & z) & 1))
    yield from groups.items()


def expectation(rho: Array, observable: PauliSum) -> float:
    """The trace of an observable times a density matrix (2**n, 2**n)."""
    n_wires = rho.shape[0].bit_length() - 1
    index = np.arange(1 << n_wires)
    return float(sum(np.real(np.dot(entries, rho[index, index ^ x])) for x, entries in _diagonals(observable, n_wires)))


def matrix(observables: Iterable[PauliSum], weights: Iterable[float], n_wires: int, c_dtype: Any = np.complex128) -> Array:
    """The matrix of a weighted sum of observables, shape (4**n,), rows first."""
    found = np.zeros((1 << n_wires, 1 << n_wires), np.dtype(c_dtype))
    index = np.arange(1 << n_wires)
    for observable, weight in zip(observables, weights, strict=True):
        for x, entries in _diagonals(observable, n_wires):
            found[index ^ x, index] += weight * entries
    return found.ravel()


# Circuits on rows and columns -------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _expanded(circuit: Circuit) -> Circuit:
    circuit.check()
    return replace(circuit, gates=tuple(part for gate in circuit.gates for part in expand(gate)))


def _noise(gates: Iterable[Gate], vector: Array) -> _Noise:
    """The parameters of each channel."""
    return tuple(
        tuple(float(a.shift if a.slot is None else a.shift + a.scale * vector[a.slot]) for a in gate.angles)
        for gate in gates
        if is_channel(gate)
    )


def _rows(gate: Gate, inverse: bool = False) -> Gate:
    return replace(gate, inverse=gate.inverse != inverse)


def _columns(gate: Gate, n_wires: int, inverse: bool = False) -> Gate:
    return replace(
        gate,
        wires=tuple(w + n_wires for w in gate.wires),
        controls=tuple(w + n_wires for w in gate.controls),
        inverse=gate.inverse != inverse,
        conjugate=not gate.conjugate,
    )


_EVEN, _ODD = [0, 3], [1, 2]  # row and column bit of a wire are equal, or differ


def _superoperator(gate: Gate, n_wires: int, superoperator: Array) -> tuple[Gate, ...]:
    """A superoperator on rows and columns: one matrix, or two of half the size if it does not mix the even with the odd, as most noise."""
    wires = (*gate.wires, *(w + n_wires for w in gate.wires))
    row, column = wires[0], wires[-1]
    mixes = len(wires) > 2 or superoperator[np.ix_(_EVEN, _ODD)].any() or superoperator[np.ix_(_ODD, _EVEN)].any()
    if mixes:
        return (Gate("Matrix", wires, matrix=matrix_bytes(superoperator)),)
    halves = [
        Gate("Matrix", (row,), controls=(column,), control_values=(odd,), matrix=matrix_bytes(superoperator[np.ix_(which, which)]))
        for odd, which in ((False, _EVEN), (True, _ODD))
    ]
    frame = Gate("CNOT", (row, column))
    return (frame, *halves, frame)


@functools.lru_cache(maxsize=64)
def _whole(circuit: Circuit, noise: _Noise) -> Circuit:
    """The circuit on 2n wires."""
    values, n = iter(noise), circuit.n_wires
    gates: list[Gate] = []
    for gate in circuit.gates:
        if is_channel(gate):
            gates += _superoperator(gate, n, matrices(gate, next(values))[0])
        else:
            gates += [_rows(gate), _columns(gate, n)]
    return Circuit(2 * n, tuple(gates), circuit.n_parameters)


@dataclass(frozen=True)
class _Stretch:
    """Gates between channels, or channels between gates.

    Attributes:
        channels: If these, none of the others.
        both: The gates on rows and columns.
        rows: On the rows.
        rows_back: Their inverse.
        columns_back: The inverse of those on the columns.
        slots: The parameters that it uses.
    """

    channels: tuple[Gate, ...]
    both: Circuit
    rows: Circuit
    rows_back: Circuit
    columns_back: Circuit
    slots: frozenset[int]


@functools.lru_cache(maxsize=64)
def _stretches(circuit: Circuit) -> tuple[_Stretch, ...]:
    """The circuit in as few stretches as its order allows: what acts on other wires changes places."""
    n = circuit.n_wires

    def on_both(gates: Iterable[Gate]) -> Circuit:
        return Circuit(2 * n, tuple(gates), circuit.n_parameters)

    found, waiting, channels = [], list(circuit.gates), False
    while waiting:
        blocked: set[int] = set()
        taken, rest = [], []
        for gate in waiting:
            used = {*gate.wires, *gate.controls}
            if is_channel(gate) == channels and not used & blocked:
                taken.append(gate)
            else:
                blocked |= used
                rest.append(gate)
        unitary = [] if channels else taken
        if taken:
            found.append(
                _Stretch(
                    tuple(taken) if channels else (),
                    on_both(g for gate in unitary for g in (_rows(gate), _columns(gate, n))),
                    on_both(unitary),
                    on_both(_rows(gate, inverse=True) for gate in reversed(unitary)),
                    on_both(_columns(gate, n, inverse=True) for gate in reversed(unitary)),
                    frozenset(a.slot for gate in taken for a in gate.angles if a.slot is not None),
                )
            )
        waiting, channels = rest, not channels
    return tuple(found)


# The reverse sweep ------------------------------------------------------------------------------------------------------


class _Sweep:
    """One parameter vector's way through a circuit and back."""

    def __init__(self, circuit: Circuit, vector: Array, wanted: frozenset[int] | None, c_dtype: Any) -> None:
        self.n, self.vector, self.c_dtype = circuit.n_wires, vector, c_dtype
        self.stretches = _stretches(circuit)
        self.wanted = frozenset(range(circuit.n_parameters)) if wanted is None else wanted
        self.needed = [bool(s.slots & self.wanted) for s in self.stretches]
        own = [sum(self._is_wanted(gate) for gate in s.channels) for s in self.stretches]
        check_memory(self.n, sum(self.needed) + max(own, default=0) + 6, c_dtype)
        noise = [_noise(s.channels, vector) for s in self.stretches]
        self.matrices = [
            [matrices(gate, values) for gate, values in zip(s.channels, of_stretch, strict=True)]
            for s, of_stretch in zip(self.stretches, noise, strict=True)
        ]

    def _is_wanted(self, gate: Gate) -> bool:
        return any(a.slot in self.wanted for a in gate.angles)

    def run(self, circuit: Circuit, start: Array | None) -> Array:
        """A circuit on 2n wires."""
        if not circuit.gates and start is not None:
            return start
        found: Array = engine_cpu.state(circuit, self.vector[None], c_dtype=self.c_dtype, start=start)[0]
        return found

    def constant(self, gates: Iterable[Gate]) -> Circuit:
        """Gates without parameters, on 2n wires."""
        return Circuit(2 * self.n, tuple(gates), len(self.vector))

    def forward(self, start: Array | None) -> tuple[Array, list[Array | None]]:
        """The final density matrix, and those before each stretch whose derivatives are wanted."""
        rho = self.run(self.constant(()), start)
        kept: list[Array | None] = []
        for i, stretch in enumerate(self.stretches):
            kept.append(rho if self.needed[i] else None)
            noise = zip(stretch.channels, self.matrices[i], strict=True)
            rho = self.run(
                self.constant(part for g, m in noise for part in _superoperator(g, self.n, m[0])) if stretch.channels else stretch.both,
                rho,
            )
        return rho, kept

    def backward(self, observable: Array, kept: list[Array | None]) -> Array:
        """Derivatives of the trace of an observable (4**n,) times the final density matrix, shape (parameters,)."""
        grad = np.zeros(len(self.vector))
        first = self.needed.index(True) if any(self.needed) else len(self.stretches)
        for i in range(len(self.stretches) - 1, first - 1, -1):
            stretch, rho = self.stretches[i], kept[i]
            if stretch.channels:
                observable = self._through_channels(stretch, self.matrices[i], rho, observable, grad)
                continue
            observable = self.run(stretch.columns_back, observable)
            if rho is None:
                observable = self.run(stretch.rows_back, observable)
                continue
            # Observable and density matrix are Hermitian: the derivative by the columns is the complex conjugate of that by the rows.
            slopes, before = engine_cpu.state_vjp(stretch.rows, self.vector[None], observable[None], c_dtype=self.c_dtype, start=rho)
            grad += 2 * slopes[0]
            observable = before[0]
        return grad

    def _through_channels(self, stretch: _Stretch, found: list[Array], rho: Array | None, observable: Array, grad: Array) -> Array:
        pairs = list(zip(stretch.channels, found, strict=True))
        before: list[Array] = []
        if rho is not None:
            for gate, m in pairs:
                before.append(rho)
                rho = self.run(self.constant(_superoperator(gate, self.n, m[0])), rho)
        transposed: list[Gate] = []  # channels through which the observable has yet to go
        for i in range(len(pairs) - 1, -1, -1):
            gate, m = pairs[i]
            if self._is_wanted(gate):
                observable, transposed = self.run(self.constant(transposed), observable), []
                for angle, slope in zip(gate.angles, m[1:], strict=True):
                    if angle.slot is not None and angle.slot in self.wanted:
                        moved = self.run(self.constant(_superoperator(gate, self.n, slope)), before[i])
                        grad[angle.slot] += angle.scale * np.vdot(observable, moved).real
            transposed += _superoperator(gate, self.n, m[0].conj().T)
        return self.run(self.constant(transposed), observable)


def _sweeps(
    circuit: Circuit, vector: Array, weights: Array, wanted: frozenset[int] | None, c_dtype: Any, start: Array | None
) -> tuple[Array, Array]:
    """Expectation values (observables,), and for each row of weights (rows, observables) a gradient (rows, parameters)."""
    sweep = _Sweep(_expanded(circuit), vector, wanted, c_dtype)
    final, kept = sweep.forward(start)
    rho = final.reshape(1 << circuit.n_wires, -1)
    values = np.array([expectation(rho, observable) for observable in circuit.observables])
    grads = np.empty((len(weights), circuit.n_parameters))
    for grad, row in zip(grads, weights, strict=True):
        grad[:] = sweep.backward(matrix(circuit.observables, row, circuit.n_wires, c_dtype), kept)
    return values, grads
