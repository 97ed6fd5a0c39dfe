"""Expectation values under JAX's transformations: jit, grad, vmap, jacobian, hessian and their nests.

The circuit's structure is static and all its parameters are one array, so a traced program holds one call, and compile time does not grow
with the number of gates. First derivatives are the kernels' own; each one beyond is exact too, by calls at shifted parameters.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pennylane.measurements import ExpectationMP
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import translate
from pl_hybridjobs.sim import drivers, engine_cpu, xla
from pl_hybridjobs.sim.circuit import Circuit
from pl_hybridjobs.sim.program import compile_circuit
from pl_hybridjobs.sim.shifts import shifts_of

Function = Callable[[Any], Any]


def execute(tape: QuantumScript, c_dtype: np.dtype[Any]) -> Any:
    """Results of an analytic tape whose measurements are expectation values of Pauli words; None if it is something else, and where the
    kernels cannot run: on other devices than the CPU.
    """
    if jax.default_backend() != "cpu":
        return None
    if not all(isinstance(mp, ExpectationMP) and mp.obs is not None and mp.obs.pauli_rep is not None for mp in tape.measurements):
        return None
    found = translate.translate(tape, [mp.obs for mp in tape.measurements])
    if found is None or found.postselected:
        return None
    start = b""
    if found.start is not None:
        vector = translate.prepared(found.start, len(tape.wires))
        if translate.is_traced(vector) or found.start.batch_size is not None:
            return None
        start = np.asarray(vector).astype(np.complex128).tobytes()
    batch = () if tape.batch_size is None else (tape.batch_size,)
    values = _expvals(_Key(found.circuit, start, c_dtype.name))(packed(found, batch))
    results = tuple(values[..., m] for m in range(len(tape.measurements)))
    return results[0] if len(results) == 1 else results


def packed(found: translate.Translation, batch: tuple[int, ...]) -> Any:
    """The parameters of a translation, shape (*batch, P). Each operation on a tracer costs a millisecond when it is differentiated: numbers
    that follow each other are one operation.
    """
    real = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    parts = []
    for shape, run in itertools.groupby(zip(found.parameters, found.shapes, strict=True), key=lambda pair: pair[1]):
        arrays = [_real(value, shape, batch, real) for value, _ in run]
        parts += [jnp.reshape(array, (*batch, -1)) for array in arrays] if shape else [jnp.stack(arrays, axis=-1)]
    if not parts:
        return jnp.zeros((*batch, 0), real)
    return jnp.asarray(parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1), real)


def _real(value: Any, shape: tuple[int, ...], batch: tuple[int, ...], real: Any) -> Any:
    """One parameter, shape (*batch, *shape)."""
    if not translate.is_traced(value):
        return np.broadcast_to(np.real(np.asarray(value)).astype(real), (*batch, *shape))
    array = jnp.real(value) if jnp.iscomplexobj(value) else value
    array = array if array.dtype == real else array.astype(real)
    return jnp.broadcast_to(array, (*batch, *shape)) if batch and array.ndim == len(shape) else array


@dataclass(frozen=True)
class _Key:
    """What one compiled function serves. ``start`` is complex128 as bytes; empty: all qubits in 0."""

    circuit: Circuit
    start: bytes
    c_dtype: str


@functools.lru_cache(maxsize=128)
def _expvals(key: _Key) -> Function:
    """A differentiable function from parameters (..., P) to expectation values (..., M)."""
    circuit = key.circuit
    engine_cpu.check_memory(circuit.n_wires, 2, key.c_dtype)
    program = compile_circuit(circuit)
    raw = xla.raw(program)
    start = np.frombuffer(key.start, dtype=np.complex128)
    padding = np.zeros((1 << program.n_qubits) - start.size if start.size else 0)
    halves = np.concatenate([start.real, padding, start.imag, padding]).astype(np.float32 if key.c_dtype == "complex64" else np.float64)
    target = xla.target(key.c_dtype)
    m, p = program.n_observables, program.n_parameters

    def call(params: Any, mode: int, rows: int) -> Any:
        shape = params.shape[:-1]
        out = (jax.ShapeDtypeStruct((*shape, m), params.dtype), jax.ShapeDtypeStruct((*shape, rows, p), params.dtype))
        in_threads = engine_cpu.threads() > 1 and engine_cpu.threads_are_safe()  # XLA takes no lock
        options = np.array([mode, int(in_threads), -1], dtype=np.int32)  # not all alike: XLA would compute it each time
        return jax.ffi.ffi_call(target, out, vmap_method="expand_dims")(raw, options, params, halves.astype(params.dtype))

    def moved(values_and_jacobian: Function, params: Any, tangent: Any) -> Any:
        rules = shifts_of(circuit)
        shifted = params[..., None, :] + jnp.asarray(rules.vectors, params.dtype)
        terms = values_and_jacobian(shifted)[1]  # (..., shifts, observables, parameters)
        return jnp.einsum("...kmp,...k->...mp", terms, tangent[..., rules.slots] * jnp.asarray(rules.weights, terms.dtype))

    return differentiable(lambda params: call(params, drivers.VALUES, 0)[0], lambda params: call(params, drivers.JACOBIAN, m), moved)


def differentiable(values: Function, values_and_jacobian: Function, moved: Callable[[Function, Any, Any], Any]) -> Function:
    """A function of JAX that is differentiated by a Jacobian that comes with the values.

    Args:
        values: From parameters (..., P) to values (..., M).
        values_and_jacobian: To these, and to their derivatives (..., M, P).
        moved: From that function, as one that can be differentiated again, parameters and a tangent (..., P), to the derivative of the
            Jacobian along the tangent.
    """

    @jax.custom_jvp
    def first(params: Any) -> Any:
        return values(params)

    @jax.custom_jvp
    def both(params: Any) -> Any:
        return values_and_jacobian(params)

    @first.defjvp
    def _first_jvp(primals: Any, tangents: Any) -> Any:
        found, jacobian = both(*primals)
        return found, jnp.einsum("...mp,...p->...m", jacobian, tangents[0])

    @both.defjvp
    def _both_jvp(primals: Any, tangents: Any) -> Any:
        found, jacobian = both(*primals)
        return (found, jacobian), (jnp.einsum("...mp,...p->...m", jacobian, tangents[0]), moved(both, primals[0], tangents[0]))

    return jax.jit(first)
