"""``hybridjobs.qubit``: PennyLane's device API on the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig, MCMConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.preprocess import (
    decompose,
    device_resolve_dynamic_wires,
    no_sampling,
    validate_adjoint_trainable_params,
    validate_device_wires,
    validate_measurements,
    validate_observables,
)
from pennylane.devices.qubit import measure as reference_measure
from pennylane.devices.qubit import simulate as reference_simulate
from pennylane.devices.qubit.sampling import measure_with_samples
from pennylane.exceptions import DeviceError
from pennylane.measurements import ExpectationMP, MeasurementProcess
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand, defer_measurements

from pl_hybridjobs.devices import translate
from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_cpu
from pl_hybridjobs.sim.gates import GATES

_OPTIONS: frozenset[str] = frozenset()
_DIFF_METHODS = ("adjoint", "backprop", "device", "best")


def _stopping(op: Operator) -> bool:
    return translate.is_native(op)


def _known_to_pennylane(op: Operator) -> bool:
    return op.has_matrix or op.name in ("Snapshot", "Projector")


def _stopping_adjoint(op: Operator) -> bool:
    if not any(qml.math.requires_grad(p) for p in op.data):
        return translate.is_native(op)
    return translate.is_differentiable(op)


def _is_measurable(mp: MeasurementProcess) -> bool:
    return isinstance(mp, qml.measurements.StateMeasurement)


def _is_sampleable(mp: MeasurementProcess) -> bool:
    return isinstance(mp, qml.measurements.SampleMeasurement | qml.measurements.ClassicalShadowMP | qml.measurements.ShadowExpvalMP)


def _is_pauli(observable: Operator) -> bool:
    return observable.pauli_rep is not None


@simulator_tracking
@single_tape_support
class HybridQubit(Device):
    """A state-vector simulator whose gradients cost little more than its values.

    Args:
        wires: Number of wires, or their labels; None: those of each circuit.
        shots: As PennyLane's devices have it; the QNode's shots count.
        seed: For samples: an integer, a numpy generator, a jax PRNG key, or None for fresh entropy. Two calls never draw the same samples:
            generators and keys move on.
        c_dtype: ``complex128`` (default) or ``complex64``, half the memory and about twice as fast.

    Raises:
        DeviceError: An unknown option.
    """

    name: ClassVar[str] = "hybridjobs.qubit"

    def __init__(self, wires: Any = None, shots: Any = None, *, seed: Any = "global", c_dtype: Any = np.complex128) -> None:
        super().__init__(wires=wires, shots=shots)
        if np.dtype(c_dtype) not in (np.dtype(np.complex64), np.dtype(np.complex128)):
            raise DeviceError(f"c_dtype must be complex64 or complex128, not {c_dtype}")
        self.c_dtype = np.dtype(c_dtype)
        self._debugger = None
        if isinstance(seed, str) and seed == "global":
            seed = np.random.randint(0, high=10_000_000)
        if qml.math.get_interface(seed) == "jax":
            self._prng_key, self._rng = seed, np.random.default_rng(None)
        else:
            self._prng_key, self._rng = None, np.random.default_rng(seed)

    # Configuration -----------------------------------------------------------------------------------------------------

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """Whether a derivative of this kind can be had from the device."""
        if execution_config is None:
            return True
        method = execution_config.gradient_method
        if method not in _DIFF_METHODS:
            return False
        if circuit is not None and circuit.shots:
            return False
        if method != "adjoint":  # what adjoint cannot do is done by backprop
            return True
        if (execution_config.derivative_order or 1) > 1 and not _is_jax(execution_config.interface):
            return False
        return circuit is None or self._adjoint_fits(circuit)

    def _adjoint_fits(self, circuit: QuantumScript) -> bool:
        return _adjoint_fits(circuit)

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """Fill in what the user left open. May be called on its own result."""
        config = config or ExecutionConfig()
        unknown = set(config.device_options) - _OPTIONS
        if unknown:
            raise DeviceError(f"{self.name} has no device option {', '.join(sorted(unknown))}")
        method = config.gradient_method
        if method in ("best", "device"):
            method = "adjoint" if self.supports_derivatives(replace(config, gradient_method="adjoint"), circuit) else "backprop"
        on_device = method in ("adjoint", "backprop")
        if method == "adjoint" and _is_jax(config.interface):
            method = "backprop"  # traced: the kernels are a node of the jax program, with their own derivative
        mcm = config.mcm_config or MCMConfig()
        if mcm.mcm_method is None:
            mcm = replace(mcm, mcm_method="deferred")
        elif mcm.mcm_method != "deferred":
            raise DeviceError(f"{self.name} cannot run mid-circuit measurements by {mcm.mcm_method!r} yet; use mcm_method='deferred'")
        return replace(
            config,
            gradient_method=method,
            use_device_gradient=on_device if config.use_device_gradient is None else config.use_device_gradient,
            use_device_jacobian_product=method == "adjoint",
            grad_on_execution=False,
            mcm_config=mcm,
            convert_to_numpy=not (_is_jax(config.interface) and method == "backprop"),
        )

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """The steps from any circuit to one that ``execute`` takes."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(defer_measurements, allow_postselect=True)
        pipeline.add_transform(decompose, stopping_condition=_stopping, device_wires=self.wires, target_gates=_GATE_NAMES, name=self.name)
        pipeline.add_transform(device_resolve_dynamic_wires, wires=self.wires, allow_resets=False)
        pipeline.add_transform(validate_device_wires, self.wires, name=self.name)
        pipeline.add_transform(
            validate_measurements, analytic_measurements=_is_measurable, sample_measurements=_is_sampleable, name=self.name
        )
        if config.gradient_method == "backprop":
            pipeline.add_transform(no_sampling, name=f"backprop + {self.name}")
        if config.gradient_method == "adjoint":
            pipeline.add_transform(no_sampling, name=f"adjoint + {self.name}")
            pipeline.add_transform(
                decompose,
                stopping_condition=_stopping_adjoint,
                skip_initial_state_prep=False,
                device_wires=self.wires,
                target_gates=_GATE_NAMES,
                name=f"adjoint + {self.name}",
            )
            pipeline.add_transform(validate_observables, stopping_condition=_is_pauli, name=f"adjoint + {self.name}")
            pipeline.add_transform(validate_measurements, analytic_measurements=_is_expectation, name=f"adjoint + {self.name}")
            pipeline.add_transform(broadcast_expand)
            pipeline.add_transform(validate_adjoint_trainable_params)
        return pipeline

    # Execution -----------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Results of circuits that came out of ``preprocess_transforms``."""
        config = execution_config or ExecutionConfig()
        return tuple(self._execute(circuit.map_to_standard_wires(), config) for circuit in circuits)

    def _execute(self, tape: QuantumScript, config: ExecutionConfig) -> Any:
        interface = qml.math.get_interface(*tape.get_parameters(trainable_only=False))
        traced = config.gradient_method == "backprop" and interface in ("jax", "autograd", "torch")
        if traced and interface == "jax" and not tape.shots:
            from pl_hybridjobs.devices import jaxcall

            result = jaxcall.execute(tape, self.c_dtype)
            if result is not None:
                return result
        if traced or any(isinstance(op, qml.Projector) for op in tape.operations):  # projectors: postselection, after deferral
            return self._reference(tape, interface)
        if not tape.shots and all(isinstance(mp, ExpectationMP) and mp.obs is not None and _is_pauli(mp.obs) for mp in tape.measurements):
            found = translate.translate(tape, [mp.obs for mp in tape.measurements])
            if found is not None:
                values = engine_cpu.expval(
                    found.circuit,
                    translate.parameter_matrix(found, tape.batch_size),
                    c_dtype=self.c_dtype,
                    start=_start(found.start, tape),
                )
                return _as_results(values, tape)
        return self._measured(tape)

    def _measured(self, tape: QuantumScript) -> Any:
        """By the final state: everything that is not an analytic expectation value of Pauli words."""
        states, batched = self._states(tape)
        if tape.shots:
            return self._sampled(tape, states, batched)
        results = tuple(reference_measure(mp, states, is_state_batched=batched) for mp in tape.measurements)
        return results[0] if len(results) == 1 else results

    def _states(self, tape: QuantumScript) -> tuple[Any, bool]:
        """The final state with an axis for each wire, and whether there is a batch axis in front."""
        n = len(tape.wires)
        found = translate.translate(tape)
        if found is None:
            raise SimulationError("the circuit has matrices with a batch axis, which this device cannot run yet; loop over the batch")
        start = _start(found.start, tape)
        batched = tape.batch_size is not None
        parameters = translate.parameter_matrix(found, tape.batch_size)
        if start is not None and start.ndim == 2:
            states = np.concatenate(
                [engine_cpu.state(found.circuit, parameters[i : i + 1], c_dtype=self.c_dtype, start=s) for i, s in enumerate(start)]
            )
        else:
            states = engine_cpu.state(found.circuit, parameters, c_dtype=self.c_dtype, start=start)
        shape = (2,) * n
        return (states.reshape((-1, *shape)), True) if batched else (states.reshape(shape), False)

    def _sampled(self, tape: QuantumScript, states: Any, batched: bool) -> Any:
        key = None
        if self._prng_key is not None:
            import jax

            self._prng_key, key = jax.random.split(self._prng_key)
        results = measure_with_samples(tape.measurements, states, shots=tape.shots, is_state_batched=batched, rng=self._rng, prng_key=key)
        if len(tape.measurements) == 1:
            return tuple(r[0] for r in results) if tape.shots.has_partitioned_shots else results[0]
        return results

    def _reference(self, tape: QuantumScript, interface: str) -> Any:
        """PennyLane's own simulation, which every interface can differentiate to any order."""
        (tape,), _ = decompose(tape, stopping_condition=_known_to_pennylane, name=self.name)
        return reference_simulate(tape, rng=self._rng, prng_key=self._prng_key, interface=interface)

    # Derivatives -----------------------------------------------------------------------------------------------------------

    def supports_jvp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As ``supports_derivatives``."""
        return self.supports_derivatives(execution_config, circuit)

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As ``supports_derivatives``."""
        return self.supports_derivatives(execution_config, circuit)

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and Jacobians, by one forward and one reverse sweep each."""
        pairs = [self._jacobian(c.map_to_standard_wires()) for c in circuits]
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians."""
        return self.execute_and_compute_derivatives(circuits, execution_config)[1]

    def _jacobian(self, tape: QuantumScript) -> tuple[Any, Any]:
        found, values, full = self._values_and_jacobian(tape)
        jacobian = [tuple(_parts(found, tape, row)) for row in full[0]]
        shaped = [row[0] if len(row) == 1 else row for row in jacobian]
        return _as_results(values, tape), shaped[0] if len(shaped) == 1 else tuple(shaped)

    def _translated(self, tape: QuantumScript) -> tuple[translate.Translation, Any]:
        found = translate.translate(tape, [mp.obs for mp in tape.measurements])
        if found is None:
            raise DeviceError(f"{self.name}: adjoint needs expectation values of Pauli words; use diff_method='backprop'")
        return found, translate.parameter_matrix(found, None)

    def _values_and_jacobian(self, tape: QuantumScript) -> tuple[translate.Translation, Any, Any]:
        """Shapes (1, measurements) and (1, measurements, parameters)."""
        found, parameters = self._translated(tape)
        return found, *engine_cpu.jacobian(found.circuit, parameters, c_dtype=self.c_dtype, start=_start(found.start, tape))

    def _values_and_vjp(self, tape: QuantumScript, weights: Any) -> tuple[translate.Translation, Any, Any]:
        """Shapes (1, measurements) and (1, parameters), for weights (1, measurements)."""
        found, parameters = self._translated(tape)
        return found, *engine_cpu.vjp(found.circuit, parameters, weights, c_dtype=self.c_dtype, start=_start(found.start, tape))

    def execute_and_compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results, and the gradients of their sums weighted by the cotangents: one reverse sweep, however many observables."""
        results, products = [], []
        for circuit, cotangent in zip(circuits, cotangents, strict=True):
            tape = circuit.map_to_standard_wires()
            weights = np.array(qml.math.toarray(qml.math.stack(cotangent)) if isinstance(cotangent, tuple | list) else cotangent)
            weights = np.real(weights).astype(float).reshape(1, -1)
            found, values, gradient = self._values_and_vjp(tape, weights)
            results.append(_as_results(values, tape))
            products.append(tuple(_parts(found, tape, gradient[0])))
        return tuple(results), tuple(products)

    def compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """See ``execute_and_compute_vjp``."""
        return self.execute_and_compute_vjp(circuits, cotangents, execution_config)[1]

    def execute_and_compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results, and their directional derivatives."""
        results, products = [], []
        for circuit, tangent in zip(circuits, tangents, strict=True):
            tape = circuit.map_to_standard_wires()
            found, values, full = self._values_and_jacobian(tape)
            moved = np.zeros(values.shape[1])
            for part, along in zip(_parts(found, tape, full[0]), tangent, strict=True):
                moved += np.tensordot(part, np.asarray(qml.math.toarray(along)), axes=part.ndim - 1)
            results.append(_as_results(values, tape))
            products.append(moved[0] if len(moved) == 1 else tuple(moved))
        return tuple(results), tuple(products)

    def compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """See ``execute_and_compute_jvp``."""
        return self.execute_and_compute_jvp(circuits, tangents, execution_config)[1]


_GATE_NAMES = frozenset(GATES) - {"Matrix"} | {"QubitUnitary", "DiagonalQubitUnitary", "MultiControlledX", "Snapshot"}


def _is_jax(interface: Any) -> bool:
    return "jax" in str(getattr(interface, "value", interface))


def _is_expectation(mp: MeasurementProcess) -> bool:
    return isinstance(mp, ExpectationMP)


def _adjoint_fits(circuit: QuantumScript) -> bool:
    if any(op.name == "Snapshot" for op in circuit.operations):
        return False
    return all(isinstance(mp, ExpectationMP) and mp.obs is not None and _is_pauli(mp.obs) for mp in circuit.measurements)


def _parts(found: translate.Translation, tape: QuantumScript, gradient: Any) -> list[Any]:
    """For each trainable parameter of the tape, its part of gradients (..., P): shape (..., *shape of the parameter)."""
    columns = found.columns()
    parts = []
    for place in tape.trainable_params:
        if place in columns:
            where, shape = columns[place]
            parts.append(np.array(gradient[..., where].reshape((*gradient.shape[:-1], *shape))))
        else:  # the circuit does not depend on it
            parts.append(np.zeros(gradient.shape[:-1]))
    return parts


def _start(prep: Operator | None, tape: QuantumScript) -> Any:
    """The initial state, shape (2**n,) or (batch, 2**n); None: all wires in 0."""
    if prep is None:
        return None
    vector = np.asarray(prep.state_vector(wire_order=range(len(tape.wires))))
    return vector.reshape((-1, 2 ** len(tape.wires))) if prep.batch_size is not None else vector.ravel()


def _as_results(values: Any, tape: QuantumScript) -> Any:
    """Values of shape (batch, measurements) as PennyLane wants them."""
    columns = [values[:, m] if tape.batch_size is not None else values[0, m] for m in range(values.shape[1])]
    return columns[0] if len(columns) == 1 else tuple(columns)
