"""Circuits on the CPU: states, expectation values, Jacobians and vector-Jacobian products, by the numba kernels."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import threading
from typing import Any

import numba
import numpy as np

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import drivers as d
from pl_hybridjobs.sim.circuit import Circuit
from pl_hybridjobs.sim.program import Program, compile_circuit
from pl_hybridjobs.sim.sampling import squared

Array = np.ndarray[Any, np.dtype[Any]]

_lock = threading.Lock()


def needed_bytes(n_wires: int, states: int, dtype: Any) -> int:
    """Memory of so many states."""
    return int(states * (1 << n_wires) * np.dtype(dtype).itemsize)


def check_memory(n_wires: int, states: int, dtype: Any) -> None:
    """Refuse what does not fit, before anything is allocated.

    Raises:
        SimulationError: Says how much is needed, and what would fit.
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not to be had on this system
        return
    needed = needed_bytes(n_wires, states, dtype)
    if needed > total:
        fits = int(np.log2(max(total / (states * np.dtype(dtype).itemsize), 1)))
        raise SimulationError(
            f"{n_wires} qubits need {needed / 1e9:.1f} GB for {states} state{'s' * (states > 1)} of {np.dtype(dtype).name}, and this "
            f"machine has {total / 1e9:.1f} GB: {fits} qubits would fit"
            + ("; c_dtype=complex64 needs half" if np.dtype(dtype) == np.complex128 else "")
        )


def _real(c_dtype: Any) -> Any:
    return np.float32 if np.dtype(c_dtype) == np.complex64 else np.float64


def _start(start: Array | None, program: Program, real: Any) -> tuple[Array, Array]:
    """A given state for the kernels, split and padded."""
    if start is None:
        return np.empty(0, real), np.empty(0, real)
    halves = np.zeros((2, 1 << program.n_qubits), real)
    halves[0, : start.size], halves[1, : start.size] = start.real, start.imag
    return halves[0], halves[1]


def _address(array: Array) -> int:
    return int(array.ctypes.data) if array.size else 0


def _run(
    program: Program, params: Array, c_dtype: Any, start: Array | None, weights: Array | None, mode: int, rows: int
) -> tuple[Array, Array]:
    """Values (batch, observables) and gradients (batch, rows, parameters) of a batch of parameter vectors."""
    real = np.dtype(_real(c_dtype))
    batch = params.shape[0]
    values = np.empty((batch, program.n_observables))
    grads = np.empty((batch, rows, program.n_parameters))
    start_r, start_i = _start(start, program, real)
    given = np.zeros((batch, program.n_observables)) if weights is None else weights
    engine = d.link(real)
    with _guard():
        engine.run(
            engine.address, _address(program.code), _address(program.data), _address(params), batch, program.n_parameters,
            _address(start_r), _address(start_i), _address(given), _address(values), _address(grads), rows, mode, threads() > 1,
        )  # fmt: skip
    return values, grads


def threads() -> int:
    """How many threads the kernels use; ``NUMBA_NUM_THREADS`` and ``numba.set_num_threads`` set it.

    One in a process that was forked from one that had such threads: they were not copied, and GNU's OpenMP would end the process.
    """
    return 1 if _forked.is_set() else int(numba.get_num_threads())


_forked = threading.Event()
os.register_at_fork(after_in_child=lambda: _forked.set() if d.linked else None)


@functools.cache
def threads_are_safe() -> bool:
    """Whether several threads may run parallel kernels at once. Numba's own pool ("workqueue") cannot; it is taken where no other is."""
    if numba.config.THREADING_LAYER == "workqueue":
        return False
    return any(importlib.util.find_spec(f"numba.np.ufunc.{pool}") is not None for pool in ("omppool", "tbbpool"))


def _guard() -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if threads_are_safe() else _lock


def _batched(params: Any, n_parameters: int) -> Array:
    array = np.ascontiguousarray(params, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != n_parameters:
        raise SimulationError(f"parameters have the shape {array.shape}; wanted (batch, {n_parameters})")
    return array


def expval(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> Array:
    """Expectation values.

    Args:
        circuit: With its observables.
        params: Shape (batch, parameters), float64.
        c_dtype: complex64 or complex128.
        start: The state before the circuit, shape (2**n,); None: all qubits in 0.

    Returns:
        Shape (batch, observables), float64.
    """
    check_memory(circuit.n_wires, 1, c_dtype)
    program = compile_circuit(circuit)
    return _run(program, _batched(params, circuit.n_parameters), c_dtype, start, None, d.VALUES, 0)[0]


def jacobian(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> tuple[Array, Array]:
    """Expectation values and their derivatives, shapes (batch, observables) and (batch, observables, parameters)."""
    check_memory(circuit.n_wires, 2, c_dtype)
    program = compile_circuit(circuit)
    return _run(program, _batched(params, circuit.n_parameters), c_dtype, start, None, d.JACOBIAN, program.n_observables)


def vjp(circuit: Circuit, params: Any, cotangents: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> tuple[Array, Array]:
    """Expectation values, and the gradient of their sum weighted by ``cotangents`` (batch, observables): one reverse sweep."""
    check_memory(circuit.n_wires, 2, c_dtype)
    program = compile_circuit(circuit)
    weights = np.ascontiguousarray(cotangents, dtype=np.float64)
    values, grads = _run(program, _batched(params, circuit.n_parameters), c_dtype, start, weights, d.WEIGHTED, 1)
    return values, grads[:, 0, :]


def state(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> Array:
    """Final states, shape (batch, 2**n)."""
    check_memory(circuit.n_wires, 2, c_dtype)
    program = compile_circuit(circuit)
    vectors = _batched(params, circuit.n_parameters)
    out = np.empty((vectors.shape[0], 1 << program.n_wires), np.dtype(c_dtype))
    re, im = np.empty((2, 1 << program.n_qubits), _real(c_dtype))
    size = 1 << program.n_wires
    for b, vector in enumerate(vectors):
        _one(program, vector, start, re, im, re, im, np.empty((0, circuit.n_parameters)), d.STATE)
        out[b].real, out[b].imag = re[:size], im[:size]
    return out


def probabilities(circuit: Circuit, params: Any, *, c_dtype: Any = np.complex128, start: Array | None = None) -> Array:
    """Probabilities of the basis states after a circuit, without a copy of the state.

    Args:
        circuit: Its observables are not used.
        params: One set, shape (1, parameters).
        c_dtype: As for ``expval``; so ``start``.
        start: See there.

    Returns:
        Shape (2**n,), float64.
    """
    check_memory(circuit.n_wires, 2, c_dtype)
    program = compile_circuit(circuit)
    (vector,) = _batched(params, circuit.n_parameters)
    re, im = np.empty((2, 1 << program.n_qubits), _real(c_dtype))
    _one(program, vector, start, re, im, re, im, np.empty((0, circuit.n_parameters)), d.STATE)
    size = 1 << program.n_wires
    return squared(re[:size], im[:size])


def state_vjp(
    circuit: Circuit, params: Any, cotangents: Any, *, c_dtype: Any = np.complex128, start: Array | None = None
) -> tuple[Array, Array]:
    """The gradient of a real function of the final state.

    Args:
        circuit: Its observables are not used.
        params: Shape (batch, parameters).
        cotangents: Shape (batch, 2**n): dL/d(re) + 1j * dL/d(im) of the final state.
        c_dtype: complex64 or complex128.
        start: As for ``expval``.

    Returns:
        dL/d(parameters), shape (batch, parameters), and dL/d(re) + 1j * dL/d(im) of the state before the circuit, shape (batch, 2**n).
    """
    check_memory(circuit.n_wires, 4, c_dtype)
    program = compile_circuit(circuit)
    vectors = _batched(params, circuit.n_parameters)
    grads = np.empty((vectors.shape[0], circuit.n_parameters))
    before = np.empty((vectors.shape[0], 1 << program.n_wires), np.dtype(c_dtype))
    re, im, lr, li = np.zeros((4, 1 << program.n_qubits), _real(c_dtype))
    size = 1 << program.n_wires
    for b, vector in enumerate(vectors):
        # The sweep gives 2 Re <lambda|dpsi>, and dL is Re <cotangent|dpsi>.
        lr[:size], li[:size] = 0.5 * cotangents[b].real, 0.5 * cotangents[b].imag
        _one(program, vector, start, re, im, lr, li, grads[b : b + 1], d.STATE_VJP)
        before[b].real, before[b].imag = 2 * lr[:size], 2 * li[:size]
    return grads, before


def _one(program: Program, vector: Array, start: Array | None, re: Array, im: Array, lr: Array, li: Array, grad: Array, mode: int) -> None:
    start_r, start_i = _start(start, program, re.dtype)
    engine = d.link(re.dtype)
    with _guard():
        engine.run_one(
            engine.address, _address(program.code), _address(program.data), _address(vector), program.n_parameters,
            _address(start_r), _address(start_i), 0, 0, _address(grad), grad.shape[0],
            _address(re), _address(im), _address(lr), _address(li), mode, threads() > 1,
        )  # fmt: skip
