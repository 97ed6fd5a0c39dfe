"""From result files in S3 to the port's results: read when they are there, checked, and put into the order of the circuit's wires."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pennylane.measurements import DensityMatrixMP, ExpectationMP, MeasurementProcess, ProbabilityMP, StateMP, VarianceMP

from pl_hybridjobs.braket.session import Refusal, Session, is_missing
from pl_hybridjobs.devices.openqasm import Program, ProgramGroup
from pl_hybridjobs.devices.provider import CircuitResult, TaskResult
from pl_hybridjobs.errors import ProviderError, TaskFailed

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

_FILE = "results.json"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_LOST_PROBABILITY = 1e-3  # vendors round
_TYPES: dict[type[MeasurementProcess], str] = {
    ExpectationMP: "expectation",
    VarianceMP: "variance",
    ProbabilityMP: "probability",
    StateMP: "statevector",
    DensityMatrixMP: "densitymatrix",
}
_COMPLEX = ("statevector", "densitymatrix")
_GRADIENT = "adjoint_gradient"


class Malformed(ValueError):
    """A result file holds what makes no sense."""


@dataclass(frozen=True)
class Executables:
    """One program of a program set.

    Attributes:
        program: Its text, and how it is to be read.
        columns: A list of values for each of its inputs.
        indices: Which circuit each of its runs is.
    """

    program: Program
    columns: Mapping[str, list[float]]
    indices: tuple[int, ...]


def executables(groups: Iterable[ProgramGroup]) -> list[Executables]:
    """Groups as programs of a program set. A program runs as often as its inputs have values, and without inputs once."""
    found = []
    for group in groups:
        runs = [group.indices] if group.columns else [(index,) for index in group.indices]
        found += [Executables(group.program, group.columns, indices) for indices in runs]
    return found


class Results:
    """Where results are read.

    Args:
        session: The way to S3.
        timeout_s: How long a file may be missing or unreadable: a task is completed a moment before its results are there.
    """

    def __init__(self, session: Session, timeout_s: float) -> None:
        self._session, self._timeout_s = session, timeout_s

    def of_one(self, told: Mapping[str, Any], circuit: QuantumScript, program: Callable[[], Program], *, verbatim: bool) -> TaskResult:
        """Of a task that is one program.

        Args:
            told: The service's answer about it.
            circuit: That was submitted.
            program: Translates it again.
            verbatim: It ran on physical qubits.

        Raises:
            ProviderError: They do not come, or make no sense; the place is named.
        """
        task_id, shots = str(told["quantumTaskArn"]), int(told["shots"])

        def take(body: Mapping[str, Any]) -> TaskResult:
            _check_owner(body, task_id)
            if shots:
                made = CircuitResult(bits=_bits(body, program(), shots, task_id, verbatim=verbatim))
            elif any(_type(row) == _GRADIENT for row in body["resultTypes"]):
                made = _gradient(body["resultTypes"], circuit)
            else:
                made = CircuitResult(values=_values(body["resultTypes"], program(), circuit))
            return TaskResult(task_id, str(told["deviceArn"]), (made,), _seconds([body]), shots)

        return self._read(told, take)

    def of_set(self, told: Mapping[str, Any], programs: Sequence[Executables], *, verbatim: bool) -> TaskResult:
        """Of a task that is a program set.

        Args:
            told: The service's answer about it.
            programs: As they were submitted.
            verbatim: It ran on physical qubits.

        Raises:
            TaskFailed: Some of its runs failed; the results of the others stay in S3.
            ProviderError: They do not come, or make no sense; the place is named.
        """
        task_id, total = str(told["quantumTaskArn"]), int(told["shots"])
        count = sum(len(entry.indices) for entry in programs)
        shots = total // count

        def take(body: Mapping[str, Any]) -> TaskResult:
            metadata, results = self._unfolded(body)
            _check_owner({"taskMetadata": metadata}, task_id)
            if len(results) != len(programs):
                raise Malformed(f"it has results of {len(results)} programs, not of {len(programs)}")
            made: dict[int, CircuitResult] = {}
            for number, (entry, result) in enumerate(zip(programs, results, strict=True)):
                rows = sorted(result["executableResults"], key=lambda row: int(row["inputsIndex"]))
                if [int(row["inputsIndex"]) for row in rows] != list(range(len(entry.indices))):
                    raise Malformed(f"program {number} has {len(rows)} results, not {len(entry.indices)}")
                for row, index in zip(rows, entry.indices, strict=True):
                    if failure := row.get("failureMetadata"):
                        raise TaskFailed(task_id, f"circuit {index} of {count}: {failure.get('failureReason', 'no reason is given')}")
                    made[index] = CircuitResult(bits=_bits(row, entry.program, shots, f"{task_id} {index}", verbatim=verbatim))
            return TaskResult(task_id, str(told["deviceArn"]), tuple(made[index] for index in range(count)), _seconds(results), total)

        return self._read(told, take)

    def _unfolded(self, body: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """Metadata and results of a program set; parts that stand in files of their own are read."""
        bucket, prefix = body.get("s3Location") or ("", "")

        def load(part: Any, folder: str) -> Any:
            return json.loads(self._session.read(bucket, f"{folder}/{part}")) if isinstance(part, str) else part

        results = []
        for part in body["programResults"]:
            folder = f"{prefix}/{part}".removesuffix(f"/{_FILE}") if isinstance(part, str) else prefix
            result = load(part, prefix)
            results.append({**result, "executableResults": [load(row, folder) for row in result["executableResults"]]})
        return load(body["taskMetadata"], prefix), results

    def _read(self, told: Mapping[str, Any], take: Callable[[Mapping[str, Any]], TaskResult]) -> TaskResult:
        """The result file, as soon as it is there and makes sense."""
        bucket, key = str(told["outputS3Bucket"]), f"{told['outputS3Directory']}/{_FILE}"
        deadline_s, pause_s = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        while True:
            problem: Exception
            try:
                return take(json.loads(self._session.read(bucket, key)))
            except Refusal as refusal:
                if (
                    not is_missing(refusal) and refusal.code != "AccessDenied"
                ):  # who may not list a bucket is not told that something is missing
                    raise
                what, problem = f"there is nothing ({refusal.message})", refusal
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                detail = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                what, problem = f"what is there makes no sense ({detail})", error
            if time.monotonic() + pause_s > deadline_s:
                raise ProviderError(
                    f"task {told['quantumTaskArn']} is completed, but at s3://{bucket}/{key} {what}, {self._timeout_s:g} s later. "
                    "The task is paid for, and not bought again: look there, then call again, maybe with a longer results_timeout_s."
                ) from problem
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _check_owner(body: Mapping[str, Any], task_id: str) -> None:
    owner = body["taskMetadata"]["id"]
    if owner != task_id:
        raise Malformed(f"it is the result of {owner}")


def _seconds(bodies: Iterable[Mapping[str, Any]]) -> float:
    """How long a simulator took, if one did."""
    parts = [(body.get("additionalMetadata") or {}).get("simulatorMetadata") or {} for body in bodies]
    return sum(float(part.get("executionDuration") or 0) for part in parts) / 1000


# With shots ------------------------------------------------------------------------------------------------------------------


def _bits(body: Mapping[str, Any], program: Program, shots: int, name: str, *, verbatim: bool) -> np.ndarray[Any, Any]:
    """uint8 of shape ``(shots, wires)``, wires in the order in which the circuit measures them."""
    table = _table(body, shots, name)
    qubits = [wire if verbatim else program.wires.index(wire) for wire in program.measured]
    columns = body.get("measuredQubits")
    columns = qubits if columns is None else [int(qubit) for qubit in columns]
    if len(columns) != table.shape[1]:
        raise Malformed(f"it has {table.shape[1]} bits a shot, and names {len(columns)} qubits")
    if missing := set(qubits) - set(columns):
        raise Malformed(f"qubits {sorted(missing)} were to be measured, and it has {columns}")
    return np.ascontiguousarray(table[:, [columns.index(qubits[bit]) for bit in program.bits[0]]])


def _table(body: Mapping[str, Any], shots: int, name: str) -> np.ndarray[Any, Any]:
    if not body.get("measurements"):
        return _drawn(body.get("measurementProbabilities") or {}, shots, name)
    table = np.asarray(body["measurements"])
    if table.ndim != 2 or len(table) != shots:
        raise Malformed(f"it has {len(table)} shots, not {shots}" if table.ndim == 2 else "its shots have different numbers of bits")
    if table.dtype.kind not in "iub" or table.min(initial=0) < 0 or table.max(initial=0) > 1:
        raise Malformed("it has bits that are neither 0 nor 1")
    return table.astype(np.uint8)


def _drawn(probabilities: Mapping[str, float], shots: int, name: str) -> np.ndarray[Any, Any]:
    """As many shots as there were, with frequencies as told, in an order that has no meaning: parts of them are samples, too."""
    outcomes = sorted(probabilities)
    weights = np.asarray([float(probabilities[outcome]) for outcome in outcomes])
    if not outcomes or weights.min() < 0 or abs(weights.sum() - 1) > _LOST_PROBABILITY or len({len(outcome) for outcome in outcomes}) != 1:
        raise Malformed("it has neither measurements nor probabilities that sum to 1")
    exact = weights / weights.sum() * shots
    counts = np.floor(exact + 1e-9).astype(int)
    largest_rests_first = np.argsort(counts - exact, kind="stable")
    counts[largest_rests_first[: shots - counts.sum()]] += 1
    rows = np.asarray([[int(bit) for bit in outcome] for outcome in outcomes], dtype=np.uint8)
    if rows.max(initial=0) > 1:
        raise Malformed("it has bits that are neither 0 nor 1")
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).permutation(np.repeat(rows, counts, axis=0))


# Without -------------------------------------------------------------------------------------------------------------------


def _type(row: Mapping[str, Any]) -> str:
    return str(row["type"]["type"])


def _values(rows: Sequence[Mapping[str, Any]], program: Program, circuit: QuantumScript) -> tuple[Any, ...]:
    wanted = {
        number: (_TYPES[type(measurement)], 2 ** len(measurement.wires or program.wires))
        for measurement, parts in zip(circuit.measurements, program.results, strict=True)
        for _, number in parts
    }
    if len(rows) != len(wanted):
        raise Malformed(f"it has {len(rows)} results, not {len(wanted)}")
    return program.values([_value(row, *wanted[number]) for number, row in enumerate(rows)])


def _value(row: Mapping[str, Any], name: str, size: int) -> np.ndarray[Any, Any]:
    shape = {"probability": (size,), "statevector": (size,), "densitymatrix": (size, size)}.get(name, ())
    if _type(row) != name:
        raise Malformed(f"it has {_type(row)!r} where {name!r} was asked for")
    value = np.asarray(row["value"], dtype=float)
    if name in _COMPLEX:
        value = value[..., 0] + 1j * value[..., 1]
    if value.shape != shape or not np.isfinite(value).all():
        raise Malformed(f"its {name} is of shape {value.shape}, not {shape}, or not finite")
    return value


def _gradient(rows: Sequence[Mapping[str, Any]], circuit: QuantumScript) -> CircuitResult:
    """An expectation value, and its derivatives; a parameter that stands in no text changes nothing."""
    value = rows[0]["value"]
    derivatives = value["gradient"]
    gradient = tuple(float(derivatives.get(f"p_{number}", 0.0)) for number in circuit.trainable_params)
    expectation = float(value["expectation"])
    if len(rows) != 1 or not np.isfinite([expectation, *gradient]).all():
        raise Malformed("its gradient is not one, or not finite")
    return CircuitResult(values=(np.float64(expectation),), gradient=gradient)
