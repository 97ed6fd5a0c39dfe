"""``hybridjobs.qubit``: PennyLane's device API on the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
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
    validate_measurements,
    validate_observables,
)
from pennylane.devices.qubit.sampling import measure_with_samples
from pennylane.exceptions import DeviceError, QuantumFunctionError
from pennylane.math import Interface
from pennylane.measurements import ExpectationMP, MeasurementProcess
from pennylane.operation import Channel, Operator, StatePrepBase
from pennylane.ops import MidMeasure
from pennylane.tape import QuantumScript
from pennylane.transforms import convert_to_numpy_parameters, defer_measurements, split_to_single_terms, transform

from pl_hybridjobs.devices import backprop, batches, decomposition, measure, midcircuit, translate
from pl_hybridjobs.devices.checks import check_measurements, check_numbers, check_wires, refuse, short, wrong_options
from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.fanout import seeds
from pl_hybridjobs.fanout.door import with_workers
from pl_hybridjobs.sim import engine_cpu
from pl_hybridjobs.sim.gates import GATES

_OPTIONS: frozenset[str] = frozenset()
_NORM_WITHIN = 1e-5  # also states of single precision are accepted
_DIFF_METHODS = ("adjoint", "backprop", "device", "best")
_BY_NAME = ("adjoint", "backprop", "device")  # where these do not fit, PennyLane has nothing else


def _stopping(op: Operator) -> bool:
    if isinstance(op, Channel):
        raise DeviceError(f"hybridjobs.qubit has no noise, and the circuit has {op}; use the device hybridjobs.mixed")
    return isinstance(op, MidMeasure) or translate.is_native(op)


def _stopping_adjoint(op: Operator) -> bool:
    if not any(qml.math.requires_grad(p) for p in op.data):
        return translate.is_native(op)
    return translate.is_differentiable(op)


@transform
def _expand_where_needed(tape: QuantumScript) -> Any:
    """Circuits of a batch one by one, for shadows and for measurements in the middle."""
    shadows = qml.measurements.ClassicalShadowMP | qml.measurements.ShadowExpvalMP
    if midcircuit.has_cuts(tape) or any(isinstance(mp, shadows) for mp in tape.measurements):
        return batches.one_by_one(tape)
    return (tape,), lambda results: results[0]


@transform
def split_trainable(tape: QuantumScript) -> Any:
    """Observables whose coefficients have derivatives become their words, which are summed outside of the device."""
    if any(qml.math.requires_grad(value) for mp in tape.measurements if mp.obs is not None for value in mp.obs.data):
        return split_to_single_terms(tape)
    return (tape,), lambda results: results[0]


@transform
def _one_by_one_where_needed(tape: QuantumScript, config: ExecutionConfig) -> Any:
    """Batches stay together where the kernels take them: batches of angles, whose gradients are products with cotangents.

    PennyLane's interface to torch cannot take such products, where their shapes differ.
    """
    together = config.use_device_jacobian_product and not (tape.trainable_params and config.interface == Interface.TORCH)
    if together and not any(op.batch_size is not None and translate.takes_matrix(op) for op in tape.operations):
        return (tape,), lambda results: results[0]
    return batches.one_by_one(tape)


def _is_pauli(observable: Operator) -> bool:
    rep = observable.pauli_rep
    if rep is None:
        return False
    for coefficient in rep.values():
        if not isinstance(coefficient, float) and not translate.is_traced(coefficient) and np.imag(qml.math.toarray(coefficient)) != 0:
            raise DeviceError(f"{observable} is not Hermitian: it has the coefficient {coefficient}, and expectation values are real")
    return True


@with_workers
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
        workers: Spread circuits over so many workers: the device is then a ``FanOut`` of this one.
        executor: Where those are: see ``FanOut``.

    Raises:
        DeviceError: Options that make no sense, all of them at once; later, an option that is not known.
    """

    name: ClassVar[str] = "hybridjobs.qubit"
    config_filepath: ClassVar[str] = str(Path(__file__).with_name("qubit.toml"))
    compiles_fast: ClassVar[bool] = True  #: a circuit is one node of a JAX program, whatever its depth

    def __init__(self, wires: Any = None, shots: Any = None, *, seed: Any = "global", c_dtype: Any = np.complex128, **unknown: Any) -> None:
        refuse(self.name, wrong_options(wires, c_dtype, unknown))
        super().__init__(wires=wires, shots=shots)
        self.c_dtype = np.dtype(c_dtype)
        self._debugger: Any = None  # set by qml.snapshots
        self._given_seed: seeds.Seed | None = None
        if isinstance(seed, str) and seed == "global":
            seed = np.random.randint(0, high=10_000_000)
        if qml.math.get_interface(seed) == "jax":
            self._prng_key, self._rng = seed, np.random.default_rng(None)
        else:
            self._prng_key, self._rng = None, np.random.default_rng(seed)

    # Configuration -----------------------------------------------------------------------------------------------------

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """Whether a derivative of this kind can be had from the device.

        Raises:
            QuantumFunctionError: A method that was asked for by its name does not fit the circuit. PennyLane raises the same if this is
                False, but cannot say why, and asks nothing else before.
        """
        why_not = self._why_not(execution_config, circuit)
        if why_not and execution_config is not None and execution_config.gradient_method in _BY_NAME and circuit is not None:
            raise QuantumFunctionError(f"{self.name} does not support {execution_config.gradient_method} with this circuit: {why_not}")
        return why_not is None

    def _why_not(self, config: ExecutionConfig | None, circuit: QuantumScript | None) -> str | None:
        """What keeps the device from differentiating, and what would work instead; None: nothing."""
        if config is None:
            return None
        method = config.gradient_method
        if method not in _DIFF_METHODS:
            return f"it is none of {', '.join(_DIFF_METHODS)}"
        if circuit is not None and circuit.shots:
            return f"it has {circuit.shots.total_shots} shots; use diff_method='parameter-shift', or no shots"
        mcm = self._mid_circuit(config, circuit, True)
        if mcm.mcm_method != "deferred" and midcircuit.has_measurements(circuit):
            return f"it measures in its middle by {str(mcm.mcm_method)!r}; use mcm_method='deferred' or diff_method='parameter-shift'"
        if method != "adjoint":  # where adjoint does not fit, backprop does
            return None
        if (config.derivative_order or 1) > 1 and not _is_jax(config.interface):
            return f"it has first derivatives only, and max_diff is {config.derivative_order}; use diff_method='backprop'"
        return None if circuit is None else self._why_not_adjoint(circuit)

    def _why_not_adjoint(self, circuit: QuantumScript) -> str | None:
        instead = "use diff_method='backprop', or 'best', which chooses"
        for op in circuit.operations:
            named = f"{op.name} on wires {list(op.wires)}"
            if op.name == "Snapshot":
                return f"it has the snapshot {op.tag!r}; {instead}"
            if translate.has_large_matrix(op):
                return f"{named} has a matrix on more than {translate.MAX_MATRIX_WIRES} wires; {instead}"
            if midcircuit.selects(op):
                return f"{short(op)} selects an outcome, so that results are not linear in the state; {instead}"
            if any(map(qml.math.requires_grad, op.data)) and not self._is_trainable(op):
                return f"the derivative by the parameters of {named} is not known to it; {instead}"
        for mp in circuit.measurements:
            if not (isinstance(mp, ExpectationMP) and mp.obs is not None and _is_pauli(mp.obs)):
                return f"{short(mp)} is no expectation value of a sum of Pauli words; {instead}"
        return None

    def _is_trainable(self, op: Operator) -> bool:
        """Whether adjoint has derivatives by an operator's parameters; those by a prepared state are left to backprop."""
        if isinstance(op, qml.ops.Conditional):
            op = op.base
        return translate.is_differentiable(op) or (decomposition.has_step(op) and not isinstance(op, StatePrepBase))

    def _mid_circuit(self, config: ExecutionConfig, circuit: QuantumScript | None, differentiated: bool) -> MCMConfig:
        return midcircuit.resolve(config.mcm_config or MCMConfig(), circuit, self.wires, differentiated=differentiated)

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """Fill in what the user left open. May be called on its own result."""
        config = config or ExecutionConfig()
        unknown = set(config.device_options) - _OPTIONS
        if unknown:
            raise DeviceError(f"{self.name} has no device option {', '.join(sorted(unknown))}")
        method = config.gradient_method
        if method in ("best", "device"):
            method = "backprop" if self._why_not(replace(config, gradient_method="adjoint"), circuit) else "adjoint"
        on_device = method in ("adjoint", "backprop")
        if method == "adjoint" and _is_jax(config.interface):
            method = "backprop"  # traced: the kernels are a node of the jax program, with their own derivative
        mcm = self._mid_circuit(config, circuit, on_device)
        # JAX's values come as they are, whatever the method: what the device does with them can be traced, mapped and differentiated.
        is_exact = circuit is not None and not circuit.shots
        deferred = mcm.mcm_method == "deferred" or not midcircuit.has_measurements(circuit)
        traced = _is_jax(config.interface) and (method == "backprop" or (is_exact and deferred and not _needs_double_precision(method)))
        return replace(
            config,
            gradient_method=method,
            use_device_gradient=on_device if config.use_device_gradient is None else config.use_device_gradient,
            use_device_jacobian_product=method == "adjoint",
            grad_on_execution=False,
            mcm_config=mcm,
            convert_to_numpy=not (traced or (_is_jax(config.interface) and self._has_traced_key(circuit))),
            # A shift rule, say, is needed once: what lies inside it is traced and has all derivatives already.
            derivative_order=1 if traced and not on_device else config.derivative_order,
        )

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """The steps from any circuit to one that ``execute`` takes."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(check_numbers)
        deferred = config.mcm_config.mcm_method in (None, "deferred")
        if deferred:
            pipeline.add_transform(defer_measurements, allow_postselect=True)
        pipeline.add_transform(
            decompose,
            stopping_condition=_stopping,
            decomposer=decomposition.one_step,
            device_wires=self.wires,
            target_gates=_GATE_NAMES,
            name=self.name,
        )
        pipeline.add_transform(device_resolve_dynamic_wires, wires=self.wires, allow_resets=not deferred)
        pipeline.add_transform(check_wires, self.wires, name=self.name)
        pipeline.add_transform(check_measurements, measure.is_measurable, measure.is_sampleable, name=self.name)
        pipeline.add_transform(_expand_where_needed)
        if config.gradient_method == "backprop":
            pipeline.add_transform(no_sampling, name=f"backprop + {self.name}")
        if config.gradient_method == "adjoint":
            pipeline.add_transform(no_sampling, name=f"adjoint + {self.name}")
            pipeline.add_transform(
                decompose,
                stopping_condition=_stopping_adjoint,
                decomposer=decomposition.one_step,
                device_wires=self.wires,
                target_gates=_GATE_NAMES,
                name=f"adjoint + {self.name}",
            )
            pipeline.add_transform(validate_observables, stopping_condition=_is_pauli, name=f"adjoint + {self.name}")
            pipeline.add_transform(validate_measurements, analytic_measurements=_is_expectation, name=f"adjoint + {self.name}")
            pipeline.add_transform(split_trainable)
            pipeline.add_transform(_one_by_one_where_needed, config=config)
            pipeline.add_transform(validate_adjoint_trainable_params)
        return pipeline

    # Execution -----------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Results of circuits that came out of ``preprocess_transforms``."""
        config = execution_config or ExecutionConfig()
        if self._debugger is not None and self._debugger.active:
            for circuit in circuits:
                self._take_snapshots(circuit, config)
        return tuple(self._execute(circuit.map_to_standard_wires(), config) for circuit in circuits)

    def _take_snapshots(self, circuit: QuantumScript, config: ExecutionConfig) -> None:
        """Run a circuit up to each of its snapshots, and keep what is measured there."""
        kept = self._debugger.snapshots
        for at, op in enumerate(circuit.operations):
            if isinstance(op, qml.Snapshot):
                measurement = op.hyperparameters["measurement"] or qml.state()
                shots = op.hyperparameters["shots"]
                shots = circuit.shots if shots == "workflow" else qml.measurements.Shots(shots)
                shots = shots if isinstance(measurement, qml.measurements.SampleMeasurement) else None
                all_wires = qml.Identity(circuit.wires)  # also those that are used later have a place in the state
                part = QuantumScript([*circuit.operations[:at], all_wires], [measurement], shots=shots)
                found = self._execute(part.map_to_standard_wires(), config)
                if op.tag is None:
                    kept[len(kept)] = found
                elif op.tag in kept:
                    kept[op.tag] = [*(kept[op.tag] if isinstance(kept[op.tag], list) else [kept[op.tag]]), found]
                else:
                    kept[op.tag] = found

    def _execute(self, tape: QuantumScript, config: ExecutionConfig) -> Any:
        values = tape.get_parameters(trainable_only=False)
        interface = qml.math.get_interface(*values)
        if self._has_traced_key(tape):
            return self._traced_samples(tape)
        if not tape.shots and any(translate.is_traced(value) for value in values):
            return self._traced(tape, interface)
        if interface == "torch":  # the user's interface is another: nobody else has converted them
            ((tape,), _) = convert_to_numpy_parameters(tape)
        result = self._by_kernels(tape, config)
        library = _library(config.interface) or interface
        if tape.shots or config.gradient_method != "backprop" or library not in ("jax", "autograd", "torch"):
            return result
        if isinstance(result, tuple):
            return tuple(qml.math.asarray(part, like=library) for part in result)
        return qml.math.asarray(result, like=library)

    def _traced(self, tape: QuantumScript, interface: str) -> Any:
        """Results that carry derivatives: under JAX by the kernels, where they can; else by the array engine."""
        if midcircuit.has_measurements(tape):
            raise DeviceError("hybridjobs.qubit can trace measurements in the middle of a circuit only with mcm_method='deferred'")
        if interface == "jax":
            from pl_hybridjobs.devices import jaxcall

            result = jaxcall.execute(tape, self.c_dtype)
            if result is not None:
                return result
        return backprop.execute(tape, interface, self.c_dtype)

    def _by_kernels(self, tape: QuantumScript, config: ExecutionConfig) -> Any:
        """Results as numpy arrays."""
        if midcircuit.has_cuts(tape):
            return midcircuit.execute(tape, config.mcm_config, self.c_dtype, self._generator() if tape.shots else self._rng)
        if not tape.shots and all(isinstance(mp, ExpectationMP) and mp.obs is not None and _is_pauli(mp.obs) for mp in tape.measurements):
            found = translate.translate(tape, [mp.obs for mp in tape.measurements])
            if found is not None and not found.postselected and (found.start is None or found.start.batch_size is None):
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
        rows = []
        for final in self._final_states(tape):
            if tape.shots:
                rows.append(measure.sampled(tape.measurements, final, len(tape.wires), tape.shots, self._generator()))
            else:
                results = tuple(measure.analytic(mp, final.state()) for mp in tape.measurements)
                rows.append(results[0] if len(results) == 1 else results)
        return rows[0] if tape.batch_size is None else measure.stacked(rows)

    def _final_states(self, tape: QuantumScript) -> Iterator[measure.Preparation | measure.Amplitudes]:
        """One for each member of the batch."""
        found = translate.translate(tape)
        if found is None:  # matrices that are large, or have a batch axis
            yield from map(measure.Amplitudes, backprop.states(tape, self.c_dtype))
            return
        parameters = translate.parameter_matrix(found, tape.batch_size)
        start = _start(found.start, tape)
        for i in range(len(parameters)):
            row = start[i] if start is not None and start.ndim == 2 else start
            yield measure.Preparation(found, parameters[i : i + 1], self.c_dtype, row)

    def _has_traced_key(self, tape: QuantumScript | None) -> bool:
        """Whether samples come from a key that is an argument of a jitted function, which made this device."""
        return tape is not None and bool(tape.shots) and qml.math.is_abstract(self._prng_key)

    def _next_key(self) -> Any:
        """A part of the jax key, which moves on."""
        import jax

        with jax.ensure_compile_time_eval():  # a key that is no tracer stays none
            self._prng_key, key = jax.random.split(self._prng_key)
        return key

    def _generator(self) -> np.random.Generator:
        """Random numbers for one circuit, and of a batch for one member: a stream of their own, so that it may run anywhere."""
        seed, self._given_seed = self._given_seed, None
        return np.random.default_rng(seeds.draw(self) if seed is None else seed)

    def draw_by(self, seed: seeds.Seed) -> None:
        """Let the next circuit draw by a seed from elsewhere; should it draw twice, then by a stream that follows from it."""
        self._given_seed, self._prng_key, self._rng = seed, None, np.random.default_rng([*seed, 0])

    def _traced_samples(self, tape: QuantumScript) -> Any:
        """Samples whose key is an argument of a jitted function, by PennyLane's sampling of the array engine's state."""
        if midcircuit.has_cuts(tape):
            raise DeviceError("hybridjobs.qubit cannot draw samples by a traced key where the circuit measures in its middle")
        batched = tape.batch_size is not None
        final = backprop.states(tape, self.c_dtype, "jax")
        tensor = qml.math.reshape(final, ((-1,) if batched else ()) + (2,) * len(tape.wires))
        results = measure_with_samples(
            tape.measurements, tensor, shots=tape.shots, is_state_batched=batched, rng=self._rng, prng_key=self._next_key()
        )
        if len(tape.measurements) > 1:
            return results
        return tuple(r[0] for r in results) if tape.shots.has_partitioned_shots else results[0]

    # Derivatives -----------------------------------------------------------------------------------------------------------

    def supports_jvp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As ``supports_derivatives``, without an error."""
        return self._why_not(execution_config, circuit) is None

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As ``supports_derivatives``, without an error."""
        return self._why_not(execution_config, circuit) is None

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and Jacobians, by one forward and one reverse sweep each."""
        return self._with_jacobians(circuits)

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians."""
        return self._with_jacobians(circuits)[1]

    # Below the methods that PennyLane tracks: one of those that called another would count twice.

    def _with_jacobians(self, circuits: Sequence[QuantumScript]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        pairs = [self._jacobian(c.map_to_standard_wires()) for c in circuits]
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)

    def _jacobian(self, tape: QuantumScript) -> tuple[Any, Any]:
        found, values, full = self._values_and_jacobian(tape)
        jacobian = [tuple(_parts(found, tape, row)) for row in full[0]]
        shaped = [row[0] if len(row) == 1 else row for row in jacobian]
        return _as_results(values, tape), shaped[0] if len(shaped) == 1 else tuple(shaped)

    def _translated(self, tape: QuantumScript) -> tuple[translate.Translation, Any]:
        found = translate.translate(tape, [mp.obs for mp in tape.measurements])
        if found is None or midcircuit.has_cuts(tape):
            raise DeviceError(
                f"{self.name}: adjoint needs expectation values of Pauli words, no postselection, and no matrix on more than "
                f"{translate.MAX_MATRIX_WIRES} wires; use diff_method='backprop'"
            )
        return found, translate.parameter_matrix(found, tape.batch_size)

    def _values_and_jacobian(self, tape: QuantumScript) -> tuple[translate.Translation, Any, Any]:
        """Shapes (1, measurements) and (1, measurements, parameters)."""
        found, parameters = self._translated(tape)
        return found, *engine_cpu.jacobian(found.circuit, parameters, c_dtype=self.c_dtype, start=_start(found.start, tape))

    def _values_and_vjp(self, tape: QuantumScript, weights: Any) -> tuple[translate.Translation, Any, Any]:
        """Shapes (batch, measurements) and (batch, parameters), for weights (batch, measurements)."""
        found, parameters = self._translated(tape)
        return found, *engine_cpu.vjp(found.circuit, parameters, weights, c_dtype=self.c_dtype, start=_start(found.start, tape))

    def execute_and_compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results, and the gradients of their sums weighted by the cotangents: one reverse sweep, however many observables."""
        return self._with_vjps(circuits, cotangents)

    def _with_vjps(self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        results, products = [], []
        for circuit, cotangent in zip(circuits, cotangents, strict=True):
            tape = circuit.map_to_standard_wires()
            columns = cotangent if isinstance(cotangent, tuple | list) else (cotangent,)
            numbers = [np.real(qml.math.toarray(column)).astype(float).reshape(-1) for column in columns]
            weights = np.stack([np.broadcast_to(column, (tape.batch_size or 1,)) for column in numbers], axis=1)
            found, values, gradient = self._values_and_vjp(tape, weights)
            results.append(_as_results(values, tape))
            products.append(tuple(_parts(found, tape, gradient[0]) if tape.batch_size is None else _batch_parts(found, tape, gradient)))
        return tuple(results), tuple(products)

    def compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """See ``execute_and_compute_vjp``."""
        return self._with_vjps(circuits, cotangents)[1]

    def execute_and_compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results, and their directional derivatives."""
        return self._with_jvps(circuits, tangents)

    def _with_jvps(self, circuits: Sequence[QuantumScript], tangents: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
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
        return self._with_jvps(circuits, tangents)[1]


_GATE_NAMES = frozenset(GATES) - {"Matrix"} | {"QubitUnitary", "DiagonalQubitUnitary", "MultiControlledX", "Snapshot"}


def _is_jax(interface: Any) -> bool:
    return _library(interface) == "jax"


def _needs_double_precision(method: Any) -> bool:
    """Whether differences of nearby values would be lost in JAX's single precision; numpy's has all digits."""
    if method not in (qml.gradients.finite_diff, qml.gradients.spsa_grad):
        return False
    import jax

    return not jax.config.jax_enable_x64


def _library(interface: Any) -> str | None:
    """The array library that a user asked for; None: that of the parameters."""
    name = str(getattr(interface, "value", interface))
    return next((library for library in ("jax", "torch", "autograd") if library in name), None)


def _is_expectation(mp: MeasurementProcess) -> bool:
    return isinstance(mp, ExpectationMP)


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


def _batch_parts(found: translate.Translation, tape: QuantumScript, gradient: Any) -> list[Any]:
    """As ``_parts``, for gradients (batch, P): of parameters without a batch, the sum over it."""
    values = tape.get_parameters()
    parts = _parts(found, tape, gradient)
    return [part if part.shape == np.shape(value) else part.sum(axis=0) for value, part in zip(values, parts, strict=True)]


def _start(prep: Operator | None, tape: QuantumScript) -> Any:
    """The initial state, shape (2**n,) or (batch, 2**n); None: all wires in 0.

    Raises:
        SimulationError: Its norm is not 1.
    """
    if prep is None:
        return None
    vector = np.asarray(translate.prepared(prep, len(tape.wires)))
    norms = np.linalg.norm(vector.reshape((prep.batch_size or 1, -1)), axis=1)
    if not np.allclose(norms, 1, atol=_NORM_WITHIN):
        raise SimulationError(
            f"{prep.name} on wires {list(prep.wires)} prepares a state of norm {norms.tolist()}, not 1; normalize=True mends it"
        )
    return vector.reshape((-1, 2 ** len(tape.wires))) if prep.batch_size is not None else vector.ravel()


def _as_results(values: Any, tape: QuantumScript) -> Any:
    """Values of shape (batch, measurements) as PennyLane wants them."""
    columns = [values[:, m] if tape.batch_size is not None else values[0, m] for m in range(values.shape[1])]
    return columns[0] if len(columns) == 1 else tuple(columns)
