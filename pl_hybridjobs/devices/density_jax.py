"""Expectation values of noisy circuits under JAX's transformations.

First derivatives are those of the reverse sweep, called from the traced program; those beyond are traced through ``density_trace``.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import density_measure, density_tape, density_trace, translate
from pl_hybridjobs.devices.jaxcall import Function, differentiable, packed
from pl_hybridjobs.sim import density


def execute(tape: QuantumScript, c_dtype: np.dtype[Any], readout: float) -> Any:
    """Results of an analytic tape whose measurements are expectation values of Pauli words; None if angles are not all that is traced."""
    found = density_tape.translated(tape, readout)
    if found is None:
        return None
    values = tape.get_parameters(trainable_only=False)
    if any(translate.is_traced(value) for place, value in enumerate(values) if place not in found.places):
        return None
    start = density_tape.start_of(found.start, tape)
    if start is not None and start.ndim == 2:
        return None
    size = density_tape.batch_size(tape)
    params = packed(found, () if size is None else (size,))
    columns = found.columns()
    wanted = frozenset(
        slot
        for place, value in zip(found.places, found.parameters, strict=True)
        if translate.is_traced(value)
        for slot in range(columns[place][0].start, columns[place][0].stop)
    )
    results = _expvals(_Key(found, wanted, start, c_dtype.name, readout, tape))(params)
    columns_of = tuple(results[..., m] for m in range(len(tape.measurements)))
    return columns_of[0] if len(columns_of) == 1 else columns_of


class _Key:
    """What one compiled function serves. The tape, which higher derivatives need, takes no part in the comparison."""

    def __init__(
        self, found: translate.Translation, wanted: frozenset[int], start: Any, c_dtype: str, readout: float, tape: QuantumScript
    ) -> None:
        self.circuit, self.columns, self.wanted, self.start = found.circuit, found.columns(), wanted, start
        self.c_dtype, self.readout, self.tape = c_dtype, readout, tape
        self._compared = (found.circuit, found.shapes, wanted, None if start is None else start.tobytes(), c_dtype, readout)

    def __hash__(self) -> int:
        return hash(self._compared)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._compared == other._compared


@functools.lru_cache(maxsize=128)
def _expvals(key: _Key) -> Function:
    """A differentiable function from parameters (..., P) to expectation values (..., M)."""
    circuit = key.circuit
    m, p = len(circuit.observables), circuit.n_parameters
    options = {"c_dtype": np.dtype(key.c_dtype), "start": key.start}

    def on_host(params: Any) -> Any:
        array = np.asarray(params)
        found = density.expval(circuit, array.reshape(-1, p), **options)
        return found.reshape(*array.shape[:-1], m).astype(array.dtype)

    def jacobian_on_host(params: Any) -> Any:
        array = np.asarray(params)
        found, slopes = density.jacobian(circuit, array.reshape(-1, p), wanted=key.wanted, **options)
        lead = array.shape[:-1]
        return found.reshape(*lead, m).astype(array.dtype), slopes.reshape(*lead, m, p).astype(array.dtype)

    def values_shape(params: Any) -> Any:
        return jax.ShapeDtypeStruct((*params.shape[:-1], m), params.dtype)

    def values(params: Any) -> Any:
        return jax.pure_callback(on_host, values_shape(params), params, vmap_method="expand_dims")

    def values_and_jacobian(params: Any) -> Any:
        shape = values_shape(params), jax.ShapeDtypeStruct((*params.shape[:-1], m, p), params.dtype)
        return jax.pure_callback(jacobian_on_host, shape, params, vmap_method="expand_dims")

    def reference(params: Any) -> Any:
        parts = [jnp.reshape(params[where], shape) for where, shape in key.columns.values()]
        tape = key.tape.bind_new_parameters(parts, list(key.columns))
        rho = density_trace.final_state(tape, "jax")
        return jnp.stack([density_measure.measure(mp, rho, key.readout) for mp in tape.measurements])

    def moved(_: Function, params: Any, tangent: Any) -> Any:
        second = jnp.vectorize(jax.jacfwd(jax.jacrev(reference)), signature="(p)->(m,p,p)")(params)
        return jnp.einsum("...mpq,...q->...mp", second, tangent)

    return differentiable(values, values_and_jacobian, moved)
