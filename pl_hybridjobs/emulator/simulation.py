"""Runs checked programs on the Amazon Braket default simulator and writes results as the service does."""

from __future__ import annotations

import copy
import functools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from braket.default_simulator import DensityMatrixSimulator, StateVectorSimulator, density_matrix_simulation, linalg_utils
from braket.default_simulator.observables import TensorProduct
from braket.default_simulator.result_types import _from_braket_observable, from_braket_result_type
from braket.default_simulator.simulation import Simulation
from braket.ir.openqasm import Program as ProgramIR

from pl_hybridjobs.emulator.devices import Device
from pl_hybridjobs.emulator.gradients import gradient_of
from pl_hybridjobs.emulator.programs import Program

Array = np.ndarray[Any, Any]

# From this number of qubits on the default simulator uses numba's parallel loops. numba's own threading layer ends the process when
# two threads are in such loops at once, be they this emulator's or its host's, so here all is done by numpy.
linalg_utils._QUBIT_THRESHOLD = sys.maxsize


def _also_in_slices(multiply: Callable[..., tuple[Array, bool]]) -> Callable[..., tuple[Array, bool]]:
    """Controlled gates act on slices of the state, and the default simulator (1.41) reshapes those: for some orders of the wires into
    copies, so that the gate would be lost.
    """

    @functools.wraps(multiply)
    def multiplied(state: Array, matrix: Array, targets: Any, out: Array, *rest: Any) -> tuple[Array, bool]:
        if state.flags.c_contiguous and out.flags.c_contiguous:
            return multiply(state, matrix, targets, out, *rest)
        made, swap = multiply(np.ascontiguousarray(state), matrix, targets, np.ascontiguousarray(out), *rest)
        (out if swap else state)[...] = made
        return out if swap else state, swap

    return multiplied


linalg_utils._multiply_matrix = _also_in_slices(linalg_utils._multiply_matrix)
# The first control is the innermost there, and the outermost where density matrices ask for it.
density_matrix_simulation.controlled_matrix = lambda matrix, states: linalg_utils.controlled_matrix(matrix, states[::-1])

_VENDOR_PARTS = {
    "aqtMetadata": "aqt_metadata",
    "ionqMetadata": "ionq_metadata",
    "iqmMetadata": "iqm_metadata",
    "rigettiMetadata": "rigetti_metadata",
}
#: What shots say of an observable, from its eigenvalue in each.
_SUMMARIES: dict[str, Callable[[Array], Any]] = {"sample": np.asarray, "expectation": np.mean, "variance": np.var}


@dataclass(frozen=True)
class Run:
    """What a program gave.

    Attributes:
        measured_qubits: As the program numbers them.
        bits: uint8 of shape ``(shots, measured qubits)``; None: no shots.
        results: ``{"type": ..., "value": ...}`` of each result type.
        duration_s: How long it took.
    """

    measured_qubits: tuple[int, ...]
    bits: Array | None
    results: list[dict[str, Any]]
    duration_s: float


class _Engine:
    """Makes simulations that draw from one generator, without the reading and checking that was done before."""

    rng: np.random.Generator

    def initialize_simulation(self, **options: Any) -> Simulation:
        simulation = super().initialize_simulation(**options)  # type: ignore[misc]
        simulation._rng_generator = self.rng
        return simulation


class _StateVector(_Engine, StateVectorSimulator):
    pass


class _DensityMatrix(_Engine, DensityMatrixSimulator):
    pass


def engine(device: Device, seed: Sequence[int]) -> Any:
    """A simulator for a device, seeded."""
    made = _DensityMatrix() if device.is_noisy else _StateVector()
    made.rng = np.random.default_rng(seed)
    return made


def run(program: Program, simulator: Any, shots: int) -> Run:
    """Run a program that was checked.

    Args:
        program: Its circuit is used up.
        simulator: From ``engine``.
        shots: 0: exact.
    """
    began = time.perf_counter()
    if program.gradient:
        results = [gradient_of(program)]
        return Run((), None, results, time.perf_counter() - began)
    if program.context.is_branched:
        made = simulator._run_branched(program.context, ProgramIR.construct(source=program.source), shots, 1, "now")
        bits = np.array(made.measurements, dtype=np.uint8)
        return Run(tuple(made.measuredQubits), bits, [], time.perf_counter() - began)

    circuit = program.circuit
    circuit.validate_single_measured_register()
    qubits = sorted(circuit.qubit_set)
    measured = tuple(circuit.measured_qubits) or tuple(qubits)
    asked = [copy.deepcopy(result) for result in circuit.results]
    numbers = simulator._map_circuit_to_contiguous_qubits(circuit)
    simulation = simulator.initialize_simulation(qubit_count=len(qubits), shots=shots, batch_size=1)
    simulation.evolve(circuit.instructions)
    if not shots:
        exact = [from_braket_result_type(result).calculate(simulation) for result in circuit.results]
        results = [_result(result, value) for result, value in zip(asked, exact, strict=True)]
        return Run(measured, None, results, time.perf_counter() - began)
    rotations = circuit.basis_rotation_instructions
    if rotations:
        simulation.evolve(rotations)
    samples = np.asarray(simulation.retrieve_samples())
    places = np.array([len(qubits) - 1 - numbers[qubit] for qubit in measured])
    bits = ((samples[:, None] >> places) & 1).astype(np.uint8)
    return Run(measured, bits, [_result(r, _estimate(r, bits, measured)) for r in asked], time.perf_counter() - began)


def _result(result: Any, value: Any) -> dict[str, Any]:
    return {"type": json.loads(result.json()), "value": plain(value)}


def _estimate(result: Any, bits: Array, measured: tuple[int, ...]) -> Any:
    """What the shots say of a result type; measured in its eigenbasis."""
    kind, targets = result.type.value, result.targets
    if kind == "probability":
        columns = bits if targets is None else bits[:, [measured.index(q) for q in targets]]
        return np.bincount(_indices(columns), minlength=2 ** columns.shape[1]) / len(bits)
    summary = _SUMMARIES[kind]
    if targets is None:
        return [summary(_eigenvalues(result.observable, [qubit], bits, measured)) for qubit in measured]
    return summary(_eigenvalues(result.observable, targets, bits, measured))


def _eigenvalues(observable: Any, targets: Sequence[int], bits: Array, measured: tuple[int, ...]) -> Array:
    """Of an observable, one for each shot."""
    whole = _from_braket_observable(observable, list(targets))
    values = np.ones(len(bits))
    for factor in whole.factors if isinstance(whole, TensorProduct) else (whole,):
        columns = bits[:, [measured.index(qubit) for qubit in factor.measured_qubits]]
        values = values * np.real(factor.eigenvalues)[_indices(columns)]
    return values


def _indices(columns: Array) -> Array:
    """Rows of bits as numbers, the first bit the largest."""
    return columns.astype(np.int64) @ (1 << np.arange(columns.shape[1] - 1, -1, -1))


def plain(value: Any) -> Any:
    """Numbers and arrays as JSON: a complex number is ``[real, imaginary]``."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, complex | np.complexfloating):
        return [float(value.real), float(value.imag)]
    return value.item() if isinstance(value, np.generic) else value


def outcomes(made: Run, *, probabilities: bool) -> dict[str, Any]:
    """The part of a result that tells what was measured."""
    if made.bits is None:
        return {}
    if probabilities:
        counts = Counter(map(bytes, made.bits))
        shots = len(made.bits)
        table = {"".join("1" if bit else "0" for bit in row): count / shots for row, count in sorted(counts.items())}
        return {"measurementProbabilities": table, "measuredQubits": list(made.measured_qubits)}
    return {"measurements": made.bits.tolist(), "measuredQubits": list(made.measured_qubits)}


def header(name: str) -> dict[str, str]:
    """Of a result's schema, version 1."""
    return {"name": f"braket.task_result.{name}", "version": "1"}


def additional(device: Device, source: str, duration_s: float) -> dict[str, Any]:
    """What the vendor adds to a result."""
    if device.is_simulator:
        return {"simulatorMetadata": {"braketSchemaHeader": header("simulator_metadata"), "executionDuration": round(1000 * duration_s)}}
    part: dict[str, Any] = {"braketSchemaHeader": header(_VENDOR_PARTS[device.metadata])}
    if device.metadata != "ionqMetadata":
        part["compiledProgram"] = source
    return {device.metadata: part}
