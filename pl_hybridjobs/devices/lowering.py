"""From any circuit to circuits that a remote device takes, and everything that is wrong with those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig
from pennylane.devices.preprocess import decompose, device_resolve_dynamic_wires
from pennylane.exceptions import DeviceError
from pennylane.measurements import (
    ClassicalShadowMP,
    CountsMP,
    DensityMatrixMP,
    ExpectationMP,
    MeasurementProcess,
    ProbabilityMP,
    SampleMeasurement,
    SampleMP,
    ShadowExpvalMP,
    StateMP,
    VarianceMP,
)
from pennylane.operation import Operator
from pennylane.ops import Conditional, MidMeasure
from pennylane.tape import QuantumScript
from pennylane.transforms import defer_measurements, split_non_commuting, split_to_single_terms, transform
from pennylane.wires import Wires

from pl_hybridjobs.devices import batches, decomposition
from pl_hybridjobs.devices.checks import check_numbers, check_wires, short
from pl_hybridjobs.devices.provider import Capabilities

_KINDS: dict[type[MeasurementProcess], str] = {
    ExpectationMP: "Expectation",
    VarianceMP: "Variance",
    ProbabilityMP: "Probability",
    StateMP: "State",
    DensityMatrixMP: "DensityMatrix",
    SampleMP: "Sample",
    CountsMP: "Counts",
}
#: What samples of bits give, by the names that people know.
SAMPLED = ("expval", "var", "probs", "sample", "counts")
_SHADOWS = (ClassicalShadowMP, ShadowExpvalMP)
_MATRIX_WIRES = 5
# These say nothing to a device, and have names that no list of gates has.
_SILENT = frozenset({"Snapshot", "Barrier", "WireCut", "Identity", "GlobalPhase"})


def pipeline(
    config: ExecutionConfig, capabilities: Capabilities, wires: Wires | None, *, verbatim: bool, gradient: bool, name: str
) -> qml.CompilePipeline:
    """The steps from any circuit to circuits of one sampling of bits, or of measurements that the device returns exactly.

    Gates that the device does not have and that nothing can be made of are left where they are, so that ``complaints`` can name all.

    Args:
        config: Says how measurements in the middle of circuits are dealt with.
        capabilities: The device's.
        wires: The device's; None: those of each circuit.
        verbatim: Leave gates as they are.
        gradient: The device's own derivatives are wanted: expectation values stay whole.
        name: The device's, for messages.
    """
    steps = qml.CompilePipeline()
    steps.add_transform(check_numbers)
    if config.mcm_config.mcm_method == "deferred":
        steps.add_transform(_defer, device_wires=wires, name=name)
    steps.add_transform(_check_measurements, capabilities=capabilities, name=name)
    steps.add_transform(batches.one_by_one)
    if not verbatim:
        steps.add_transform(device_resolve_dynamic_wires, wires=wires, allow_resets=capabilities.mid_circuit)
    steps.add_transform(check_wires, wires, name=name)
    steps.add_transform(_fill_in_wires)
    if gradient:
        steps.add_transform(_split_trainable)
    else:
        steps.add_transform(_split, capabilities=capabilities)
        steps.add_transform(to_bits)
    steps.add_transform(_without_silent, capabilities=capabilities)
    if not verbatim:
        steps.add_transform(
            decompose,
            stopping_condition=_stopping(capabilities),
            decomposer=_one_step,
            skip_initial_state_prep=False,
            device_wires=wires,
            target_gates=capabilities.gates,
            name=name,
        )
        steps.add_transform(_without_silent, capabilities=capabilities)
    return steps


def lowered(circuit: QuantumScript, capabilities: Capabilities, name: str) -> QuantumScript:
    """A circuit that came out of one device's pipeline, in another device's gates."""
    ((found,), _) = decompose(
        circuit,
        stopping_condition=_stopping(capabilities),
        decomposer=_one_step,
        skip_initial_state_prep=False,
        target_gates=capabilities.gates,
        name=name,
    )
    return found


def _stopping(capabilities: Capabilities) -> Callable[[Operator], bool]:
    known = capabilities.gates | capabilities.channels

    def stop(op: Operator) -> bool:
        if isinstance(op, Conditional):
            return stop(op.base)
        if op.name in known or isinstance(op, MidMeasure):
            return True
        return not (_has_step(op) or (op.has_matrix and "QubitUnitary" in known and len(op.wires) <= _MATRIX_WIRES))

    return stop


def _has_step(op: Operator) -> bool:
    return decomposition.has_step(op) or op.has_decomposition


def _one_step(op: Operator) -> Sequence[Operator]:
    """One step of a decomposition; what has none is its matrix, where the device takes those."""
    return decomposition.one_step(op) if isinstance(op, Conditional) or _has_step(op) else [qml.QubitUnitary(op.matrix(), wires=op.wires)]


# Transforms ------------------------------------------------------------------------------------------------------------------


@transform
def _defer(tape: QuantumScript, device_wires: Wires | None, name: str) -> Any:
    """Measurements in the middle as controlled gates on further wires."""
    found = [op for op in tape.operations if isinstance(op, MidMeasure)]
    if not found:
        return (tape,), _first
    if any(op.postselect is not None for op in found):
        raise DeviceError(f"{name} cannot select outcomes of measurements in the middle of a circuit; sample them, and select afterwards")
    tapes, joined = defer_measurements(tape)
    if device_wires and (more := set(tapes[0].wires) - set(device_wires)):
        raise DeviceError(
            f"{name}: {len(found)} measurements in the middle of the circuit are moved to its end (this device cannot measure before it), "
            f"and that takes {len(more)} more wires than the device's {len(device_wires)}; give it more, or do not reset and reuse wires"
        )
    return tapes, joined


@transform
def _check_measurements(tape: QuantumScript, capabilities: Capabilities, name: str) -> Any:
    wrong = [text for mp in tape.measurements if (text := _wrong_measurement(mp, tape, capabilities))]
    if wrong:
        raise DeviceError(f"{name}: {'; '.join(dict.fromkeys(wrong))}")
    return (tape,), _first


def _wrong_measurement(mp: MeasurementProcess, tape: QuantumScript, capabilities: Capabilities) -> str:
    """What is wrong with one measurement; "": nothing."""
    if isinstance(mp, VarianceMP | ProbabilityMP | SampleMP | CountsMP) and _is_sum(mp.obs):
        return f"{short(mp)} is not measurable in one basis: only the expectation value of a sum is; measure its terms"
    if isinstance(mp.obs, qml.SparseHamiltonian):
        return f"{short(mp)} has no terms that could be measured; supported are sums of Pauli words: qml.pauli_decompose"
    if tape.shots:
        if isinstance(mp, SampleMeasurement) and not isinstance(mp, _SHADOWS):
            return ""
        return f"{short(mp)} is not accepted with finite shots; supported are {', '.join(SAMPLED)}"
    if not capabilities.analytic:
        return ""  # that there are no shots is said once, by `complaints`
    kind = _KINDS.get(type(mp), type(mp).__name__)
    if kind in capabilities.analytic:
        return ""
    return f"{short(mp)} is not accepted without shots; supported are {', '.join(sorted(capabilities.analytic))}"


def _is_sum(obs: Operator | None) -> bool:
    if obs is None:
        return False
    rep = obs.pauli_rep
    return len(rep) > 1 if rep is not None else isinstance(obs, qml.ops.Sum)


@transform
def _fill_in_wires(tape: QuantumScript) -> Any:
    """Measurements of all wires say which those are."""
    if all(mp.wires or mp.obs is not None or mp.mv is not None for mp in tape.measurements):
        return (tape,), _first
    given = [mp if mp.wires or mp.obs is not None or mp.mv is not None else _on(mp, tape.wires) for mp in tape.measurements]
    return (tape.copy(measurements=given),), _first


def _on(mp: MeasurementProcess, wires: Wires) -> MeasurementProcess:
    if isinstance(mp, CountsMP):
        return CountsMP(wires=wires, all_outcomes=mp.all_outcomes)
    return mp if isinstance(mp, StateMP) else type(mp)(wires=wires)


@transform
def _split(tape: QuantumScript, capabilities: Capabilities) -> Any:
    """As few circuits as can be. With shots: each of them in one basis. Without: see ``_exact``."""
    if tape.shots:
        if len(tape.measurements) == 1 and _has_one_basis(tape.measurements[0]):
            return (tape,), _first  # as PennyLane says, too, but it takes longer to find out than all other steps together
        return split_non_commuting(tape, grouping_strategy="qwc")
    terms, summed = split_to_single_terms(tape)
    groups = [_exact(term, capabilities) for term in terms]

    def joined(results: Sequence[Any]) -> Any:
        left = iter(results)
        return summed([put([next(left) for _ in range(count)]) for count, put in groups_of])

    groups_of = [(len(tapes), put) for tapes, put in groups]
    return tuple(tape for tapes, _ in groups for tape in tapes), joined


def _has_one_basis(mp: MeasurementProcess) -> bool:
    """Whether it measures bits, or one Pauli word."""
    return mp.mv is None and (mp.obs is None or _word(mp.obs) is not None)


def _word(obs: Operator) -> Mapping[Any, str] | None:
    """The letters of a Pauli word; None: it is none, is the identity, or is multiplied by a number."""
    rep = obs.pauli_rep
    if rep is None or len(rep) != 1:
        return None
    ((word, coefficient),) = rep.items()
    return word if word and coefficient == 1 else None


def _exact(tape: QuantumScript, capabilities: Capabilities) -> tuple[list[QuantumScript], Callable[[Sequence[Any]], Any]]:
    """One circuit for all that the device returns as it is, and one for each other observable: its outcomes' probabilities."""
    asked = [n for n, mp in enumerate(tape.measurements) if mp.obs is not None or mp.mv is not None]
    own = [n for n in asked if not _is_native(tape.measurements[n], capabilities)]
    whole = [n for n in range(len(tape.measurements)) if n not in own]
    if not own:
        return [tape], _first
    tapes = [tape.copy(measurements=[tape.measurements[n] for n in whole])] if whole else []
    for n in own:
        mp = tape.measurements[n]
        tapes.append(tape.copy(operations=[*tape.operations, *_rotations([mp])], measurements=[ProbabilityMP(wires=mp.wires)]))

    def joined(results: Sequence[Any]) -> Any:
        first = results[0] if len(whole) > 1 else results[: len(whole)]
        found = dict(zip(whole, first, strict=True))
        for n, probabilities in zip(own, results[len(results) - len(own) :], strict=True):
            found[n] = _of_outcomes(tape.measurements[n], probabilities)
        values = tuple(found[n] for n in range(len(tape.measurements)))
        return values if len(values) > 1 else values[0]

    return tapes, joined


def _is_native(mp: MeasurementProcess, capabilities: Capabilities) -> bool:
    return isinstance(mp, ExpectationMP | VarianceMP) and mp.obs is not None and _names(mp.obs) <= capabilities.observables


def _of_outcomes(mp: MeasurementProcess, probabilities: Any) -> Any:
    """An expectation value or a variance, from the probabilities of the observable's outcomes; or these themselves."""
    if isinstance(mp, ProbabilityMP):
        return probabilities
    outcomes = np.real(qml.math.toarray(mp.eigvals()))
    mean = probabilities @ outcomes
    return mean if isinstance(mp, ExpectationMP) else probabilities @ (outcomes - mean) ** 2


def _names(obs: Operator) -> frozenset[str]:
    """The elementary observables that another one is made of."""
    parts = getattr(obs, "operands", None) or ([obs.base] if isinstance(obs, qml.ops.SProd) else [])
    return frozenset().union(*map(_names, parts)) if parts else frozenset({obs.name})


@transform
def _split_trainable(tape: QuantumScript) -> Any:
    """Observables whose coefficients have derivatives become circuits of their terms, which are summed outside of the device."""
    if any(qml.math.requires_grad(value) for mp in tape.measurements if mp.obs is not None for value in mp.obs.data):
        return split_non_commuting(tape, grouping_strategy=None)
    return (tape,), _first


@transform
def to_bits(tape: QuantumScript) -> Any:
    """With shots: one ``qml.sample`` of the measured wires, in the circuit's order, from which all measurements are computed.

    Its result for the circuit is an array of shape ``(shots, wires)``, for a shot vector a tuple of those.
    """
    if not tape.shots or not tape.measurements or _asks_outcomes(tape):
        return (tape,), _first
    wires = Wires.all_wires([mp.wires for mp in tape.measurements])
    measured = Wires([wire for wire in tape.wires if wire in wires] or list(wires))

    def processed(samples: Any) -> Any:
        found = tuple(_estimate(mp, samples, measured) for mp in tape.measurements)
        return found if len(found) > 1 else found[0]

    def joined(results: Sequence[Any]) -> Any:
        (bits,) = results
        return tuple(map(processed, bits)) if tape.shots.has_partitioned_shots else processed(bits)

    operations = [*tape.operations, *_rotations(tape.measurements)]
    return (tape.copy(operations=operations, measurements=[qml.sample(wires=measured)]),), joined


def _asks_outcomes(tape: QuantumScript) -> bool:
    """Whether it is about outcomes of measurements in its middle; once those are deferred, they are bits like others."""
    return any(mp.mv is not None for mp in tape.measurements) and any(isinstance(op, MidMeasure) for op in tape.operations)


def _estimate(mp: MeasurementProcess, samples: np.ndarray[Any, Any], wires: Wires) -> Any:
    """Of a measurement, from bits of shape ``(shots, wires)``: PennyLane's, but the mean of a Pauli word is that of parities."""
    word = _word(mp.obs) if isinstance(mp, ExpectationMP) and mp.obs is not None else None
    if word is None:
        return mp.process_samples(samples, wires)
    parities = samples[:, [wires.index(wire) for wire in word]].sum(axis=1) % 2
    return np.mean(1.0 - 2.0 * parities)


def _rotations(measurements: Sequence[MeasurementProcess]) -> list[Operator]:
    """Gates that bring the eigenbasis of all observables, which commute qubit by qubit or act on different wires, to that of bits."""
    letters: dict[Any, str] = {}
    gates: list[Operator] = []
    for mp in measurements:
        if mp.obs is None:
            continue
        if qml.pauli.is_pauli_word(mp.obs):
            ((word, _),) = mp.obs.pauli_rep.items()
            letters |= word
        else:
            gates += mp.diagonalizing_gates()
    for wire, letter in letters.items():
        gates += {"X": qml.X, "Y": qml.Y, "Z": qml.Z}[letter](wire).diagonalizing_gates()
    return gates


@transform
def _without_silent(tape: QuantumScript, capabilities: Capabilities) -> Any:
    """Barriers, global phases and the like are not sent. Wires that only they name are not lost: measurements name theirs."""
    if not any(op.name in _SILENT for op in tape.operations):
        return (tape,), _first
    has_phase = any(isinstance(mp, StateMP) for mp in tape.measurements) and "GlobalPhase" in capabilities.gates
    kept = [op for op in tape.operations if op.name not in _SILENT or (has_phase and op.name == "GlobalPhase")]
    return (tape.copy(operations=kept),), _first


def _first(results: Sequence[Any]) -> Any:
    return results[0]


# What is wrong ---------------------------------------------------------------------------------------------------------------


def complaints(
    circuits: Sequence[QuantumScript], capabilities: Capabilities, wires: Wires | None, *, verbatim: bool, target: str
) -> list[str]:
    """All that keeps a device from running circuits that came out of its pipeline, one sentence each, none of them twice."""
    found: dict[str, None] = {}
    most = max([len(circuit.wires) for circuit in circuits], default=0)
    width = most if wires is None else len(wires)
    if width > len(capabilities.qubits):
        of = "the device" if wires is not None else "a circuit"
        found[f"{of} has {width} wires, and {target} has {len(capabilities.qubits)} qubits"] = None
    if verbatim:
        found |= dict.fromkeys(_wrong_verbatim(circuits, capabilities, target))
    if any(circuit.shots and circuit.measurements and not _is_of_bits(circuit) for circuit in circuits):
        found["circuits with shots are run as they come out of preprocess_transforms(), as samples of bits; qml.execute sees to that"] = (
            None
        )
    for circuit in circuits:
        found |= dict.fromkeys([*_wrong_shots(circuit, capabilities, target), *_wrong_operations(circuit, capabilities, verbatim, target)])
    return list(found)


def _is_of_bits(circuit: QuantumScript) -> bool:
    first, *others = circuit.measurements
    return any(mp.mv is not None for mp in circuit.measurements) or (isinstance(first, SampleMP) and first.obs is None and not others)


def _wrong_shots(circuit: QuantumScript, capabilities: Capabilities, target: str) -> list[str]:
    total = circuit.shots.total_shots
    if total is None:
        if capabilities.analytic:
            return []
        return [f"{target} runs with shots only: give the QNode shots, at least {capabilities.min_shots}"]
    if total < capabilities.min_shots:
        return [f"{total} shots are fewer than {target} takes, which is {capabilities.min_shots}"]
    return []


def _wrong_operations(circuit: QuantumScript, capabilities: Capabilities, verbatim: bool, target: str) -> list[str]:
    known = capabilities.native_gates if verbatim else capabilities.gates
    if verbatim and not known:
        return []  # that is said once, by `_wrong_verbatim`
    found = []
    if {op.name for op in circuit.operations} <= known and not any(mp.mv is not None for mp in circuit.measurements):
        return _wrong_numbers(circuit)
    for op in circuit.operations:
        inner = op.base if isinstance(op, Conditional) else op
        if isinstance(op, Conditional | MidMeasure) and not capabilities.mid_circuit:
            found.append(f"{target} cannot measure in the middle of a circuit; use mcm_method='deferred'")
        if isinstance(inner, MidMeasure):
            if inner.postselect is not None:
                found.append(f"{target} cannot select outcomes of measurements in the middle of a circuit")
            continue
        if inner.name in capabilities.channels:
            continue
        if isinstance(inner, qml.operation.Channel):
            has = ", ".join(sorted(capabilities.channels)) or "none"
            found.append(f"{target} has no noise channel {inner.name}; supported are: {has}")
        elif inner.name not in known:
            what = "native gate" if verbatim else "gate"
            made = " (also what turns a measured basis must be native)" if verbatim else ", nor can it be made of others"
            found.append(
                f"{target} has no {what} {inner.name} (on wires {list(inner.wires)}){made}; supported are {', '.join(sorted(known))}"
            )
    if any(mp.mv is not None for mp in circuit.measurements):
        found.append(f"{target} does not return outcomes of measurements in the middle of a circuit; use mcm_method='deferred'")
    return found + _wrong_numbers(circuit)


def _wrong_numbers(circuit: QuantumScript) -> list[str]:
    values = [value for op in circuit.operations for value in op.data]
    if all(type(value) is float or np.ndim(value) == 0 for value in values) and np.all(np.isfinite(np.array(values, dtype=float))):
        return []
    return [
        f"{op.name} on wires {list(op.wires)} has a parameter that is not finite"
        for op in circuit.operations
        if not all(np.all(np.isfinite(qml.math.toarray(value))) for value in op.data)
    ]


def _wrong_verbatim(circuits: Sequence[QuantumScript], capabilities: Capabilities, target: str) -> list[str]:
    if not capabilities.native_gates:
        return [f"{target} has no native gates, so verbatim=True means nothing to it"]
    qubits, pairs = set(capabilities.qubits), capabilities.connectivity
    found = []
    for circuit in circuits:
        strange = [wire for wire in circuit.wires if wire not in qubits]
        if strange:
            found.append(f"verbatim: wires are the numbers of physical qubits, and {target} has no {strange}; it has {sorted(qubits)}")
        for op in circuit.operations:
            pair = tuple(op.wires)
            if pairs is not None and len(pair) == 2 and pair not in pairs and pair[::-1] not in pairs:
                found.append(f"verbatim: {target} does not connect qubits {pair[0]} and {pair[1]}, and {op.name} acts on them")
    return found
