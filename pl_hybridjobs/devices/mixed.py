"""``hybridjobs.mixed``: noisy circuits, by density matrices on the simulator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig
from pennylane.devices.preprocess import (
    decompose,
    device_resolve_dynamic_wires,
    no_sampling,
    validate_adjoint_trainable_params,
    validate_device_wires,
    validate_measurements,
    validate_observables,
)
from pennylane.devices.qubit_mixed import measure_with_samples
from pennylane.exceptions import DeviceError
from pennylane.measurements import (
    ClassicalShadowMP,
    ExpectationMP,
    MeasurementProcess,
    ProbabilityMP,
    SampleMeasurement,
    ShadowExpvalMP,
    StateMeasurement,
    VarianceMP,
)
from pennylane.operation import Operator, StatePrepBase
from pennylane.tape import QuantumScript
from pennylane.transforms import defer_measurements, transform

from pl_hybridjobs.devices import density_measure, density_trace, translate
from pl_hybridjobs.devices.simulator import HybridQubit
from pl_hybridjobs.sim import density
from pl_hybridjobs.sim.channels import CHANNELS, is_channel
from pl_hybridjobs.sim.circuit import Circuit, PauliSum
from pl_hybridjobs.sim.gates import GATES

_SHADOWS = (ClassicalShadowMP, ShadowExpvalMP)
_GATE_NAMES = frozenset(GATES) - {"Matrix"} | frozenset(CHANNELS)
_GATE_NAMES |= {"QubitUnitary", "DiagonalQubitUnitary", "MultiControlledX", "Snapshot", "QubitChannel", "QubitDensityMatrix"}


def _stopping(op: Operator) -> bool:
    return translate.is_native(op) or translate.is_noise(op)


def _stopping_adjoint(op: Operator) -> bool:
    if any(qml.math.requires_grad(value) for value in op.data):
        return translate.is_differentiable(op)
    return _stopping(op) or isinstance(op, StatePrepBase)


def is_expectation_of_words(mp: MeasurementProcess) -> bool:
    """Whether it is the expectation value of a sum of Pauli words."""
    return isinstance(mp, ExpectationMP) and mp.obs is not None and mp.obs.pauli_rep is not None


def _is_measurable(mp: MeasurementProcess) -> bool:
    return isinstance(mp, StateMeasurement) and not isinstance(mp, _SHADOWS)


def _is_sampleable(mp: MeasurementProcess) -> bool:
    return isinstance(mp, SampleMeasurement | ClassicalShadowMP | ShadowExpvalMP)


@transform
def _warn_of_readout(tape: QuantumScript) -> Any:
    """What is said of the state itself knows no outcomes."""
    if not tape.shots:
        for mp in tape.measurements:
            if not isinstance(mp, ExpectationMP | VarianceMP | ProbabilityMP):
                warnings.warn(f"{type(mp).__name__} has no outcomes: readout_prob does not change it", stacklevel=2)
    return (tape,), lambda results: results[0]


@transform
def _expand_shadows(tape: QuantumScript) -> Any:
    """PennyLane takes no shadows of a batch."""
    if any(isinstance(mp, _SHADOWS) for mp in tape.measurements):
        return _expand_batch(tape)
    return (tape,), lambda results: results[0]


@transform
def _expand_batch(tape: QuantumScript) -> Any:
    """One tape for each entry of a batch, also where only channels have one, which PennyLane does not see."""
    size = batch_size(tape)
    if size is None:
        return (tape,), lambda results: results[0]
    ranks = [rank for op in tape.operations for rank in ((0,) * len(op.data) if translate.is_tabled_channel(op) else op.ndim_params)]
    values = tape.get_parameters(trainable_only=False)
    places = [place for place, rank in enumerate(ranks) if qml.math.ndim(values[place]) > rank]
    tapes = [tape.bind_new_parameters([values[place][i] for place in places], places) for i in range(size)]
    return tapes, _stacked


def _stacked(results: Sequence[Any]) -> Any:
    if isinstance(results[0], tuple):
        return tuple(map(_stacked, zip(*results, strict=True)))
    return list(results) if isinstance(results[0], dict) else qml.math.stack(results)


class HybridMixed(HybridQubit):
    """A density-matrix simulator: all channels of PennyLane, and gradients that cost little more than values.

    Args:
        wires: Number of wires, or their labels; None: those of each circuit. Memory is that of a state of twice as many.
        shots: As PennyLane's devices have it; the QNode's shots count.
        seed: As for ``hybridjobs.qubit``.
        c_dtype: ``complex128`` (default) or ``complex64``.
        readout_prob: The probability that a bit is read wrong, between 0 and 1; None: 0.

    Raises:
        DeviceError: An unknown option, or one that makes no sense.
    """

    name: ClassVar[str] = "hybridjobs.mixed"

    def __init__(
        self, wires: Any = None, shots: Any = None, *, seed: Any = "global", c_dtype: Any = np.complex128, readout_prob: float | None = None
    ) -> None:
        super().__init__(wires=wires, shots=shots, seed=seed, c_dtype=c_dtype)
        if readout_prob is not None and not (isinstance(readout_prob, Real) and 0 <= readout_prob <= 1):
            raise DeviceError(f"readout_prob must be a number between 0 and 1, not {readout_prob!r}")
        self.readout_prob = float(readout_prob or 0)

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """The steps from any circuit to one that ``execute`` takes."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(defer_measurements, allow_postselect=False)
        pipeline.add_transform(decompose, stopping_condition=_stopping, device_wires=self.wires, target_gates=_GATE_NAMES, name=self.name)
        pipeline.add_transform(device_resolve_dynamic_wires, wires=self.wires, allow_resets=False)
        pipeline.add_transform(validate_device_wires, self.wires, name=self.name)
        pipeline.add_transform(
            validate_measurements, analytic_measurements=_is_measurable, sample_measurements=_is_sampleable, name=self.name
        )
        pipeline.add_transform(_expand_shadows)
        if self.readout_prob:
            pipeline.add_transform(_warn_of_readout)
        if config.gradient_method == "backprop":
            pipeline.add_transform(no_sampling, name=f"backprop + {self.name}")
        if config.gradient_method == "adjoint":
            name = f"adjoint + {self.name}"
            pipeline.add_transform(no_sampling, name=name)
            pipeline.add_transform(
                decompose,
                stopping_condition=_stopping_adjoint,
                skip_initial_state_prep=False,
                device_wires=self.wires,
                target_gates=_GATE_NAMES,
                name=name,
            )
            pipeline.add_transform(validate_observables, stopping_condition=lambda obs: obs.pauli_rep is not None, name=name)
            pipeline.add_transform(validate_measurements, analytic_measurements=is_expectation_of_words, name=name)
            pipeline.add_transform(_expand_batch)
            pipeline.add_transform(validate_adjoint_trainable_params)
        return pipeline

    def _adjoint_fits(self, circuit: QuantumScript) -> bool:
        trained = [op for op in circuit.operations if any(qml.math.requires_grad(value) for value in op.data)]
        if any(translate.is_noise(op) and not translate.is_tabled_channel(op) for op in trained):
            return False
        return super()._adjoint_fits(circuit)

    # Execution -----------------------------------------------------------------------------------------------------------

    def _execute(self, tape: QuantumScript, config: ExecutionConfig) -> Any:
        interface = qml.math.get_interface(*tape.get_parameters(trainable_only=False))
        traced = config.gradient_method == "backprop" and interface in ("jax", "autograd", "torch")
        density.check_memory(len(tape.wires), 2, self.c_dtype)
        if traced and interface == "jax" and not tape.shots:
            from pl_hybridjobs.devices import density_jax

            result = density_jax.execute(tape, self.c_dtype, self.readout_prob)
            if result is not None:
                return result
        if not traced and not tape.shots and all(map(is_expectation_of_words, tape.measurements)) and not self._takes_snapshots(tape):
            found = self._translated_or_none(tape)
            if found is not None:
                return self._expvals(found, tape)
        rho = self._density(tape, interface if traced else None)
        if tape.shots:
            return self._samples(tape, rho)
        results = tuple(density_measure.measure(mp, rho, self.readout_prob) for mp in tape.measurements)
        return results[0] if len(results) == 1 else results

    def _takes_snapshots(self, tape: QuantumScript) -> bool:
        return self._debugger is not None and self._debugger.active and any(op.name == "Snapshot" for op in tape.operations)

    def _expvals(self, found: translate.Translation, tape: QuantumScript) -> Any:
        parameters, start = _parameters(found, tape), start_of(found.start, tape)
        rows = start if start is not None and start.ndim == 2 else [start]
        if len(rows) > 1 and len(parameters) == 1:
            parameters = np.repeat(parameters, len(rows), axis=0)
        if len(rows) == 1:
            values = density.expval(found.circuit, parameters, c_dtype=self.c_dtype, start=rows[0])
        else:
            one_by_one = zip(parameters, rows, strict=True)
            values = np.concatenate([density.expval(found.circuit, p[None], c_dtype=self.c_dtype, start=s) for p, s in one_by_one])
        batched = batch_size(tape) is not None
        columns = [values[:, m] if batched else values[0, m] for m in range(values.shape[1])]
        return columns[0] if len(columns) == 1 else tuple(columns)

    def _density(self, tape: QuantumScript, interface: str | None) -> Any:
        """The final density matrix, shape (2**n, 2**n), or (batch, 2**n, 2**n)."""
        found = None if interface or self._takes_snapshots(tape) else translate.translate(tape)
        if found is None:  # traced, or matrices with a batch axis
            options = {"debugger": self._debugger, "tape_shots": tape.shots, "rng": self._rng, "prng_key": self._next_key()}
            return density_trace.final_state(tape, interface, **options)
        parameters, start = _parameters(found, tape), start_of(found.start, tape)
        if start is not None and start.ndim == 2:
            parameters = np.broadcast_to(parameters, (len(start), parameters.shape[1]))
            one_by_one = zip(parameters, start, strict=True)
            rho = np.concatenate([density.state(found.circuit, p[None], c_dtype=self.c_dtype, start=s) for p, s in one_by_one])
        else:
            rho = density.state(found.circuit, parameters, c_dtype=self.c_dtype, start=start)
        return rho if batch_size(tape) is not None else rho[0]

    def _next_key(self) -> Any:
        """A key for one circuit, if the seed is one; it moves on."""
        if self._prng_key is None:
            return None
        import jax

        self._prng_key, key = jax.random.split(self._prng_key)
        return key

    def _samples(self, tape: QuantumScript, rho: Any) -> Any:
        """By PennyLane's sampling of density matrices."""
        if self.readout_prob and any(isinstance(mp, _SHADOWS) for mp in tape.measurements):
            raise DeviceError("hybridjobs.mixed: classical shadows do not know readout_prob; use a BitFlip before each measurement")
        batched = rho.ndim == 3
        states = rho.reshape((*rho.shape[: int(batched)], *(2,) * (2 * len(tape.wires))))
        results = measure_with_samples(
            tape.measurements,
            states,
            shots=tape.shots,
            is_state_batched=batched,
            rng=self._rng,
            prng_key=self._next_key(),
            readout_errors=[lambda wire: qml.BitFlip(self.readout_prob, wire)] if self.readout_prob else None,
        )
        if len(tape.measurements) == 1:
            return tuple(r[0] for r in results) if tape.shots.has_partitioned_shots else results[0]
        return results

    # Derivatives -----------------------------------------------------------------------------------------------------------

    def _translated_or_none(self, tape: QuantumScript) -> translate.Translation | None:
        found = translate.translate(tape, [mp.obs for mp in tape.measurements])
        return found and replace(found, circuit=with_readout(found.circuit, self.readout_prob))

    def _translated(self, tape: QuantumScript) -> tuple[translate.Translation, Any]:
        found = self._translated_or_none(tape)
        if found is None:
            raise DeviceError(f"{self.name}: adjoint needs expectation values of Pauli words; use diff_method='backprop'")
        return found, translate.parameter_matrix(found, None)

    def _values_and_jacobian(self, tape: QuantumScript) -> tuple[translate.Translation, Any, Any]:
        found, parameters = self._translated(tape)
        options = {"wanted": _wanted(found, tape), "c_dtype": self.c_dtype, "start": start_of(found.start, tape)}
        return found, *density.jacobian(found.circuit, parameters, **options)

    def _values_and_vjp(self, tape: QuantumScript, weights: Any) -> tuple[translate.Translation, Any, Any]:
        found, parameters = self._translated(tape)
        options = {"wanted": _wanted(found, tape), "c_dtype": self.c_dtype, "start": start_of(found.start, tape)}
        return found, *density.vjp(found.circuit, parameters, weights, **options)


def with_readout(circuit: Circuit, readout: float) -> Circuit:
    """The circuit with observables whose outcomes are read wrong: each wrong bit changes the sign of a word."""
    if not readout:
        return circuit
    observables = [
        PauliSum(tuple(c * (1 - 2 * readout) ** len(w) for c, w in zip(o.coefficients, o.words, strict=True)), o.words)
        for o in circuit.observables
    ]
    return replace(circuit, observables=tuple(observables))


def channel_slots(circuit: Circuit) -> frozenset[int]:
    """The parameters of channels."""
    return frozenset(a.slot for gate in circuit.gates if is_channel(gate) for a in gate.angles if a.slot is not None)


def _wanted(found: translate.Translation, tape: QuantumScript) -> frozenset[int]:
    columns = found.columns()
    return frozenset(slot for place in tape.trainable_params if place in columns for slot in range(*columns[place][0].indices(1 << 62)))


def batch_size(tape: QuantumScript) -> int | None:
    """PennyLane sees no batch on a channel."""
    if tape.batch_size is not None:
        return int(tape.batch_size)
    sizes = {len(value) for op in tape.operations if translate.is_tabled_channel(op) for value in op.data if np.ndim(value)}
    return sizes.pop() if sizes else None


def _parameters(found: translate.Translation, tape: QuantumScript) -> Any:
    return translate.parameter_matrix(found, batch_size(tape))


def start_of(prep: Operator | None, tape: QuantumScript) -> Any:
    """The initial density matrix, shape (4**n,) or (batch, 4**n); None: all wires in 0."""
    if prep is None:
        return None
    n = len(tape.wires)
    if prep.name != "QubitDensityMatrix":
        vectors = np.asarray(prep.state_vector(wire_order=range(n))).reshape(-1, 1 << n)
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
