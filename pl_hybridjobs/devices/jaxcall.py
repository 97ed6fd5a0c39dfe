"""Expectation values under JAX's transformations: jit, grad, vmap, jacobian, hessian and their nests.

The circuit's structure is static and all its parameters are one array, so a traced program holds one call, and compile time does not grow
with the number of gates. First derivatives are the kernels' own; those beyond come from PennyLane's differentiable simulation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
from pennylane.devices.preprocess import decompose
from pennylane.devices.qubit import simulate as reference_simulate
from pennylane.measurements import ExpectationMP
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import translate
from pl_hybridjobs.sim import drivers, engine_cpu, xla
from pl_hybridjobs.sim.program import compile_circuit


def execute(tape: QuantumScript, c_dtype: np.dtype[Any]) -> Any:
    """Results of an analytic tape whose measurements are expectation values of Pauli words; None if it is something else."""
    if not all(isinstance(mp, ExpectationMP) and mp.obs is not None and mp.obs.pauli_rep is not None for mp in tape.measurements):
        return None
    if any(isinstance(op, qml.Projector) for op in tape.operations):
        return None
    found = translate.translate(tape, [mp.obs for mp in tape.measurements])
    if found is None:
        return None
    start = b""
    if found.start is not None:
        vector = found.start.state_vector(wire_order=range(len(tape.wires)))
        if translate.is_traced(vector) or found.start.batch_size is not None:
            return None
        start = np.asarray(vector).astype(np.complex128).tobytes()
    real = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    batch = () if tape.batch_size is None else (tape.batch_size,)
    blocks = [block(p, shape, batch, real) for p, shape in zip(found.parameters, found.shapes, strict=True)]
    params = jnp.concatenate(blocks, axis=-1) if blocks else jnp.zeros((*batch, 0), real)
    values = _expvals(_Key(found, start, c_dtype.name, tape))(params)
    results = tuple(values[..., m] for m in range(len(tape.measurements)))
    return results[0] if len(results) == 1 else results


def block(value: Any, shape: tuple[int, ...], batch: tuple[int, ...], real: Any) -> Any:
    """One parameter as a part of the parameter vector, shape (*batch, size)."""
    array = jnp.real(jnp.asarray(value)).astype(real)
    if batch and array.ndim == len(shape):
        array = jnp.broadcast_to(array, (*batch, *shape))
    return jnp.reshape(array, (*batch, -1))


def _decomposed(tape: QuantumScript) -> QuantumScript:
    """For PennyLane's own simulation, which knows no layers."""
    (expanded,), _ = decompose(tape, stopping_condition=lambda op: op.has_matrix, name="hybridjobs.qubit")
    return expanded


class _Key:
    """What one compiled function serves. The tape, which higher derivatives need, takes no part in the comparison."""

    def __init__(self, found: translate.Translation, start: bytes, c_dtype: str, tape: QuantumScript) -> None:
        self.circuit, self.columns = found.circuit, found.columns()
        self.start, self.c_dtype, self.tape = start, c_dtype, tape
        self._compared = (found.circuit, found.shapes, start, c_dtype)

    def __hash__(self) -> int:
        return hash(self._compared)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._compared == other._compared


@functools.lru_cache(maxsize=128)
def _expvals(key: _Key) -> Callable[[Any], Any]:
    """A differentiable function from parameters (..., P) to expectation values (..., M)."""
    circuit = key.circuit
    program = compile_circuit(circuit)
    raw = xla.raw(program)
    start = np.frombuffer(key.start, dtype=np.complex128)
    padding = np.zeros((1 << program.n_qubits) - start.size if start.size else 0)
    halves = np.concatenate([start.real, padding, start.imag, padding]).astype(np.float32 if key.c_dtype == "complex64" else np.float64)
    target = xla.target(key.c_dtype)
    m, p = program.n_observables, program.n_parameters
    engine_cpu.check_memory(circuit.n_wires, 2, key.c_dtype)

    def call(params: Any, mode: int, rows: int) -> Any:
        shape = params.shape[:-1]
        out = (jax.ShapeDtypeStruct((*shape, m), params.dtype), jax.ShapeDtypeStruct((*shape, rows, p), params.dtype))
        options = np.array([mode, int(engine_cpu.threads() > 1), -1], dtype=np.int32)  # not all alike: XLA would compute it each time
        return jax.ffi.ffi_call(target, out, vmap_method="expand_dims")(raw, options, params, halves.astype(params.dtype))

    @jax.custom_jvp
    def values(params: Any) -> Any:
        return call(params, drivers.VALUES, 0)[0]

    @jax.custom_jvp
    def values_and_jacobian(params: Any) -> Any:
        return call(params, drivers.JACOBIAN, m)

    @values.defjvp
    def _values_jvp(primals: Any, tangents: Any) -> Any:
        found, jacobian = values_and_jacobian(*primals)
        return found, jnp.einsum("...mp,...p->...m", jacobian, tangents[0])

    @values_and_jacobian.defjvp
    def _jacobian_jvp(primals: Any, tangents: Any) -> Any:
        found, jacobian = values_and_jacobian(*primals)
        second = jnp.vectorize(jax.jacfwd(jax.jacrev(reference)), signature="(p)->(m,p,p)")(primals[0])
        moved = jnp.einsum("...mpq,...q->...mp", second, tangents[0])
        return (found, jacobian), (jnp.einsum("...mp,...p->...m", jacobian, tangents[0]), moved)

    def reference(params: Any) -> Any:
        parts = [jnp.reshape(params[where], shape) for where, shape in key.columns.values()]
        tape = key.tape.bind_new_parameters(parts, list(key.columns))
        result = reference_simulate(_decomposed(tape), interface="jax")
        return jnp.stack(result) if isinstance(result, tuple) else jnp.reshape(result, (1,))

    return jax.jit(values)
