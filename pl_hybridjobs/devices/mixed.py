"""``hybridjobs.mixed``: noisy circuits, by density matrices on the simulator."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.devices.preprocess import (
    decompose,
    device_resolve_dynamic_wires,
    no_sampling,
    validate_adjoint_trainable_params,
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

from pl_hybridjobs.devices import batches, decomposition, density_measure, density_tape, density_trace, midcircuit, translate
from pl_hybridjobs.devices.checks import check_measurements, check_numbers, check_wires, refuse, short, wrong_options
from pl_hybridjobs.devices.simulator import HybridQubit, split_trainable
from pl_hybridjobs.fanout.door import with_workers
from pl_hybridjobs.fanout.pieces import joined
from pl_hybridjobs.sim import density
from pl_hybridjobs.sim.channels import CHANNELS
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
    size = density_tape.batch_size(tape)
    if size is None:
        return (tape,), lambda results: results[0]
    ranks = [rank for op in tape.operations for rank in ((0,) * len(op.data) if translate.is_tabled_channel(op) else op.ndim_params)]
    values = tape.get_parameters(trainable_only=False)
    places = [place for place, rank in enumerate(ranks) if qml.math.ndim(values[place]) > rank]
    tapes = [tape.bind_new_parameters([values[place][i] for place in places], places) for i in range(size)]
    return list(map(batches.without_batch, tapes)), lambda results: joined(tape, results)


@with_workers
class HybridMixed(HybridQubit):
    """A density-matrix simulator: all channels of PennyLane, and gradients that cost little more than values.

    Args:
        wires: Number of wires, or their labels; None: those of each circuit. Memory is that of a state of twice as many.
        shots: As PennyLane's devices have it; the QNode's shots count.
        seed: As for ``hybridjobs.qubit``.
        c_dtype: ``complex128`` (default) or ``complex64``.
        readout_prob: The probability that a bit is read wrong, between 0 and 1; None: 0.
        workers: As for ``hybridjobs.qubit``; so ``executor``.
        executor: See there.

    Raises:
        DeviceError: As for ``hybridjobs.qubit``.
    """

    name: ClassVar[str] = "hybridjobs.mixed"
    config_filepath: ClassVar[str] = str(Path(__file__).with_name("mixed.toml"))

    def __init__(
        self,
        wires: Any = None,
        shots: Any = None,
        *,
        seed: Any = "global",
        c_dtype: Any = np.complex128,
        readout_prob: float | None = None,
        **unknown: Any,
    ) -> None:
        wrong = wrong_options(wires, c_dtype, unknown, "readout_prob")
        if readout_prob is not None and not (isinstance(readout_prob, Real) and 0 <= readout_prob <= 1):
            wrong.append(f"readout_prob must be a number between 0 and 1, not {readout_prob!r}")
        refuse(self.name, wrong)
        super().__init__(wires=wires, shots=shots, seed=seed, c_dtype=c_dtype)
        self.readout_prob = float(readout_prob or 0)

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """The steps from any circuit to one that ``execute`` takes."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(check_numbers)
        pipeline.add_transform(defer_measurements, allow_postselect=False)
        pipeline.add_transform(
            decompose,
            stopping_condition=_stopping,
            decomposer=decomposition.one_step,
            device_wires=self.wires,
            target_gates=_GATE_NAMES,
            name=self.name,
        )
        pipeline.add_transform(device_resolve_dynamic_wires, wires=self.wires, allow_resets=False)
        pipeline.add_transform(check_wires, self.wires, name=self.name)
        pipeline.add_transform(check_measurements, _is_measurable, _is_sampleable, name=self.name)
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
                decomposer=decomposition.one_step,
                skip_initial_state_prep=False,
                device_wires=self.wires,
                target_gates=_GATE_NAMES,
                name=name,
            )
            pipeline.add_transform(validate_observables, stopping_condition=lambda obs: obs.pauli_rep is not None, name=name)
            pipeline.add_transform(validate_measurements, analytic_measurements=density_tape.is_expectation_of_words, name=name)
            pipeline.add_transform(split_trainable)
            pipeline.add_transform(_expand_batch)
            pipeline.add_transform(validate_adjoint_trainable_params)
        return pipeline

    def _mid_circuit(self, config: ExecutionConfig, circuit: QuantumScript | None, differentiated: bool) -> MCMConfig:
        del differentiated
        selecting = next(filter(midcircuit.selects, circuit.operations), None) if circuit is not None else None
        if selecting is not None:
            raise DeviceError(f"{self.name} cannot select an outcome, as {short(selecting)} does; hybridjobs.qubit can")
        mcm = config.mcm_config or MCMConfig()
        if mcm.mcm_method not in (None, "device", "deferred"):
            raise DeviceError(f"{self.name} cannot run mid-circuit measurements by {str(mcm.mcm_method)!r}; use mcm_method='deferred'")
        return replace(mcm, mcm_method="deferred")

    def _is_trainable(self, op: Operator) -> bool:
        return translate.is_tabled_channel(op) if translate.is_noise(op) else super()._is_trainable(op)

    # Execution -----------------------------------------------------------------------------------------------------------

    def _traced_samples(self, tape: QuantumScript) -> Any:
        return self._samples(tape, self._density(tape, "jax"))

    def _traced(self, tape: QuantumScript, interface: str) -> Any:
        return self._results(tape, interface)

    def _by_kernels(self, tape: QuantumScript, config: ExecutionConfig) -> Any:
        del config
        return self._results(tape, None)

    def _results(self, tape: QuantumScript, interface: str | None) -> Any:
        """Results that carry derivatives of an interface; None: numpy arrays, by the kernels where they can."""
        density.check_memory(len(tape.wires), 2, self.c_dtype)
        if not tape.shots and all(map(density_tape.is_expectation_of_words, tape.measurements)):
            result = self._expvals(tape, interface)
            if result is not None:
                return result
        rho = self._density(tape, interface)
        if tape.shots:
            return self._samples(tape, rho)
        results = tuple(density_measure.measure(mp, rho, self.readout_prob) for mp in tape.measurements)
        return results[0] if len(results) == 1 else results

    def _expvals(self, tape: QuantumScript, interface: str | None) -> Any:
        """Expectation values of Pauli words by the kernels; None where the kernels cannot."""
        if interface == "jax":
            from pl_hybridjobs.devices import density_jax

            return density_jax.execute(tape, self.c_dtype, self.readout_prob)
        found = None if interface else density_tape.translated(tape, self.readout_prob)
        if found is None:
            return None
        start = density_tape.start_of(found.start, tape)
        values = density.expval(found.circuit, density_tape.parameters(found, tape), c_dtype=self.c_dtype, start=start)
        columns = tuple(values.T if density_tape.batch_size(tape) is not None else values[0])
        return columns[0] if len(columns) == 1 else columns

    def _density(self, tape: QuantumScript, interface: str | None) -> Any:
        """The final density matrix, shape (2**n, 2**n), or (batch, 2**n, 2**n)."""
        found = None if interface else translate.translate(tape)
        if found is None:  # traced, or matrices with a batch axis
            return density_trace.final_state(tape, interface)
        start = density_tape.start_of(found.start, tape)
        rho = density.state(found.circuit, density_tape.parameters(found, tape), c_dtype=self.c_dtype, start=start)
        return rho if density_tape.batch_size(tape) is not None else rho[0]

    def _samples(self, tape: QuantumScript, rho: Any) -> Any:
        """Shape of rho: (2**n, 2**n), or with a batch in front."""
        if self.readout_prob and any(isinstance(mp, _SHADOWS) for mp in tape.measurements):
            raise DeviceError("hybridjobs.mixed: classical shadows do not know readout_prob; use a BitFlip before each measurement")
        if rho.ndim == 2:
            return self._samples_of_one(tape, rho)
        return joined(tape, [self._samples_of_one(tape, member) for member in rho])

    def _samples_of_one(self, tape: QuantumScript, rho: Any) -> Any:
        """By PennyLane's sampling of density matrices."""
        traced_key = self._next_key() if self._has_traced_key(tape) else None
        results = measure_with_samples(
            tape.measurements,
            rho.reshape((2,) * (2 * len(tape.wires))),
            shots=tape.shots,
            rng=None if traced_key is not None else self._generator(),
            prng_key=traced_key,
            readout_errors=[lambda wire: qml.BitFlip(self.readout_prob, wire)] if self.readout_prob else None,
        )
        if len(tape.measurements) == 1:
            return tuple(r[0] for r in results) if tape.shots.has_partitioned_shots else results[0]
        return results

    # Derivatives -----------------------------------------------------------------------------------------------------------

    def _translated(self, tape: QuantumScript) -> tuple[translate.Translation, Any]:
        found = density_tape.translated(tape, self.readout_prob)
        if found is None:
            raise DeviceError(f"{self.name}: adjoint needs expectation values of Pauli words; use diff_method='backprop'")
        return found, translate.parameter_matrix(found, None)

    def _values_and_jacobian(self, tape: QuantumScript) -> tuple[translate.Translation, Any, Any]:
        found, parameters = self._translated(tape)
        options = {"wanted": density_tape.wanted(found, tape), "c_dtype": self.c_dtype, "start": density_tape.start_of(found.start, tape)}
        return found, *density.jacobian(found.circuit, parameters, **options)

    def _values_and_vjp(self, tape: QuantumScript, weights: Any) -> tuple[translate.Translation, Any, Any]:
        found, parameters = self._translated(tape)
        options = {"wanted": density_tape.wanted(found, tape), "c_dtype": self.c_dtype, "start": density_tape.start_of(found.start, tape)}
        return found, *density.vjp(found.circuit, parameters, weights, **options)
