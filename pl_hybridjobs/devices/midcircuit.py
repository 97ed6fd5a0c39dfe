"""Measurements in the middle of a circuit, without deferring them: the circuit is cut there, and each outcome continues from its own state.

``tree-traversal`` goes through the outcomes depth first, and leaves out those that have no probability or no shots: at most one saved state
for each measurement, at most one run of a segment for each shot. ``one-shot`` goes down once for each shot. ``deferred`` is done by
PennyLane's transform; the projectors that it leaves for postselection are cuts with one way out.

How ``mcm_method=None`` is decided (``resolve``): deferred, if that is possible, and takes no more wires or no more than ``DEFERRED_UP_TO``
in all (with derivatives of the device: ``DEFERRED_GRADIENT_UP_TO``); otherwise tree-traversal. Never one-shot: a tree with one shot is the
same, and with many shots a tree has fewer branches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import MCMConfig
from pennylane.exceptions import DeviceError
from pennylane.measurements import CountsMP, MeasurementProcess, ProbabilityMP, SampleMP, StateMP
from pennylane.operation import Operator
from pennylane.ops import Conditional, MeasurementValue, MidMeasure
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from pl_hybridjobs.devices import measure, translate
from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_array, engine_cpu, sampling
from pl_hybridjobs.sim.sampling import Array

METHODS = ("deferred", "one-shot", "tree-traversal")
#: Wires, with those that deferral adds: a state of 16 MB.
DEFERRED_UP_TO = 20
#: The same where the device differentiates, which it does best for deferred circuits.
DEFERRED_GRADIENT_UP_TO = 26
_NAME = "hybridjobs.qubit"
_CUTS = (MidMeasure, qml.Projector)


def has_measurements(tape: QuantumScript | None) -> bool:
    """Whether a tape measures in its middle."""
    return tape is not None and any(isinstance(op, MidMeasure) for op in tape.operations)


def has_cuts(tape: QuantumScript) -> bool:
    """Whether a tape measures or projects in its middle."""
    return any(isinstance(op, _CUTS) for op in tape.operations)


def selects(op: Operator) -> bool:
    """Whether results are normalised by the probability of a selected outcome, so that they are no linear functions of the state."""
    return isinstance(op, qml.Projector) or (isinstance(op, MidMeasure) and op.postselect is not None)


# The method ----------------------------------------------------------------------------------------------------------------


def resolve(config: MCMConfig, tape: QuantumScript | None, device_wires: Wires | None, *, differentiated: bool) -> MCMConfig:
    """The configuration with a method; see the module's docstring.

    Args:
        config: What the user asked for.
        tape: The circuit, if it is known.
        device_wires: The device's, or None.
        differentiated: Whether the device is to differentiate.

    Raises:
        DeviceError: There is no such method, or it does not go with the rest.
    """
    method = config.mcm_method
    if method in (None, "device"):
        method = _cheapest(config, tape, device_wires, DEFERRED_GRADIENT_UP_TO if differentiated else DEFERRED_UP_TO)
    if method not in METHODS:
        raise DeviceError(f"{_NAME} has no mcm_method {str(method)!r}; it has {', '.join(METHODS)}, and None, which chooses")
    if method != "deferred" and config.postselect_mode == "fill-shots":
        raise DeviceError(f"postselect_mode='fill-shots' needs mcm_method='deferred', and this circuit would be run by {str(method)!r}")
    if method == "one-shot" and has_measurements(tape) and tape is not None and not tape.shots:
        raise DeviceError("mcm_method='one-shot' needs shots; without them use 'tree-traversal' or 'deferred'")
    return replace(config, mcm_method=method)


def _cheapest(config: MCMConfig, tape: QuantumScript | None, device_wires: Wires | None, limit: int) -> str:
    if tape is None or not has_measurements(tape) or config.postselect_mode == "fill-shots":
        return "deferred"
    if any(type(mp) is StateMP or _is_about_all_wires(mp) for mp in tape.measurements):
        return "tree-traversal"  # PennyLane does not defer for these
    extra = _added_wires(tape)
    if not set(extra) <= set(device_wires if device_wires is not None else extra):
        return "tree-traversal"
    return "deferred" if not extra or len(tape.wires) + len(extra) <= limit else "tree-traversal"


def _is_about_all_wires(mp: MeasurementProcess) -> bool:
    return isinstance(mp, CountsMP | ProbabilityMP | SampleMP) and mp.mv is None and not mp.wires


def _added_wires(tape: QuantumScript) -> list[int]:
    """The wires that deferral adds: one for each measurement of a wire that is used, or measured, again."""
    measured: list[Any] = []
    reused: set[Any] = set()
    for op in tape:
        if isinstance(op, MidMeasure):
            measured.append(op.wires[0])
            if op.reset:
                reused.add(op.wires[0])
        elif measured:
            reused |= set(op.wires) & set(measured)
    count = sum(wire in reused or wire in measured[i + 1 :] for i, wire in enumerate(measured))
    first = max([w for w in tape.wires if isinstance(w, int)], default=-1) + 1
    return list(range(first, first + count))


# The tree ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """One way through the circuit.

    Attributes:
        outcomes: Of the measurements, in order.
        weight: Its probability; projectors count as well.
        shots: How many came here; None without shots.
        state: The final state, normalised, shape (2**n,).
    """

    outcomes: tuple[int, ...]
    weight: float
    shots: int | None
    state: Array


@dataclass(frozen=True)
class _Branch:
    """A segment that is to be run.

    Attributes:
        level: Which.
        parent: The state before the cut in front of it; None: all wires in 0, or what the tape prepares.
        share: The probability of the cut's outcome.
        outcomes: As for ``Leaf``, with this one; so ``weight`` and ``shots``.
    """

    level: int
    parent: Array | None
    share: float
    outcomes: tuple[int, ...]
    weight: float
    shots: int | None


class _Walk:
    """Runs a tape on wires 0, 1, ... from cut to cut."""

    def __init__(self, tape: QuantumScript, c_dtype: Any, rng: np.random.Generator, *, fill: bool) -> None:
        self.n = len(tape.wires)
        self.c_dtype, self.rng, self.fill = np.dtype(c_dtype), rng, fill
        self.cuts = [op for op in tape.operations if isinstance(op, _CUTS)]
        self.numbers = {op.meas_uid: i for i, op in enumerate(o for o in self.cuts if isinstance(o, MidMeasure))}
        self.segments: list[list[Operator]] = [[]]
        for op in tape.operations:
            if isinstance(op, _CUTS):
                self.segments.append([])
            else:
                self.segments[-1].append(op)
        self.translated: dict[tuple[int, tuple[bool, ...]], tuple[translate.Translation, Array]] = {}
        self.first: Array | None = None  # after the first segment, which is the same for all
        self.negligible = 1e3 * float(np.finfo(self.c_dtype).eps) ** 2  # a probability that is rounding

    def leaves(self, shots: int | None) -> Iterator[Leaf]:
        """All ways that have probability or shots; shots that postselection rejects do not arrive."""
        waiting = [_Branch(0, None, 1.0, (), 1.0, shots)]
        while waiting:
            branch = waiting.pop()
            state = self._enter(branch)
            if branch.level == len(self.cuts):
                yield Leaf(branch.outcomes, branch.weight, branch.shots, state)
            else:
                waiting += reversed(self._after(branch, state))

    def _after(self, branch: _Branch, state: Array) -> list[_Branch]:
        """What follows a segment: a branch for each outcome of the cut at its end."""
        cut = self.cuts[branch.level]
        if isinstance(cut, qml.Projector):
            passed = measure.project(cut, state)
            p = float(np.vdot(passed, passed).real)
            if p <= self.negligible and self.fill and branch.shots:
                raise SimulationError(
                    f"the outcome that {cut} selects has probability 0, so that postselect_mode='fill-shots' has nothing to fill shots with"
                )
            shares, chosen = {0: min(p, 1.0)}, None
        else:
            probs = sampling.normalised(sampling.probabilities(state, [int(cut.wires[0])]), state.real.dtype)
            shares, chosen = {0: float(probs[0]), 1: float(probs[1])}, cut.postselect
        taken: dict[int, int | None] = dict.fromkeys(shares)
        if branch.shots is not None:
            first = branch.shots if self.fill and len(shares) == 1 else int(self.rng.binomial(branch.shots, shares[0]))
            taken = {0: first, 1: branch.shots - first}
        found = []
        for outcome, share in shares.items():
            unwanted = chosen is not None and outcome != chosen
            if unwanted or taken[outcome] == 0 or share <= self.negligible:
                continue
            outcomes = branch.outcomes if isinstance(cut, qml.Projector) else (*branch.outcomes, outcome)
            found.append(_Branch(branch.level + 1, state, share, outcomes, branch.weight * share, taken[outcome]))
        return found

    def _enter(self, branch: _Branch) -> Array:
        """The state after the branch's segment."""
        if branch.level == 0:
            if self.first is None:
                self.first = self._evolved(branch, None)
            return self.first
        assert branch.parent is not None
        cut = self.cuts[branch.level - 1]
        if isinstance(cut, qml.Projector):
            state = measure.project(cut, branch.parent) / np.asarray(branch.share**0.5, branch.parent.real.dtype)
        else:
            state = _collapsed(branch.parent, int(cut.wires[0]), branch.outcomes[-1], branch.share, reset=cut.reset)
        return self._evolved(branch, state)

    def _evolved(self, branch: _Branch, state: Array | None) -> Array:
        operations, conditions = [], []
        for op in self.segments[branch.level]:
            if isinstance(op, Conditional):
                value = op.meas_val.processing_fn(*(branch.outcomes[self.numbers[m.meas_uid]] for m in op.meas_val.measurements))
                conditions.append(bool(value))
                if value:
                    operations.append(op.base)
            else:
                operations.append(op)
        key = branch.level, tuple(conditions)
        if key not in self.translated:
            found = translate.translate(QuantumScript(operations, [qml.probs(wires=range(self.n))]), apart=True)
            if found is None or any(qml.math.ndim(matrix) != 2 for matrix in found.matrices):
                raise SimulationError("a circuit with measurements in its middle has matrices with a batch axis; loop over the batch")
            self.translated[key] = found, translate.parameter_matrix(found, None)
        found, parameters = self.translated[key]
        if found.start is not None:
            assert state is None, "states are prepared only in front of a circuit"
            state = np.asarray(translate.prepared(found.start, self.n)).ravel()
        if state is not None and not found.circuit.gates:
            return state.astype(self.c_dtype, copy=False)
        if found.matrices:
            large = [qml.math.toarray(matrix) for matrix in found.matrices]
            before = None if state is None else state[None]
            return np.asarray(engine_array.state(found.circuit, parameters, matrices=large, start=before, dtype=self.c_dtype)[0])
        return np.asarray(engine_cpu.state(found.circuit, parameters, c_dtype=self.c_dtype, start=state)[0])


def _collapsed(state: Array, wire: int, outcome: int, probability: float, *, reset: bool) -> Array:
    """The normalised state after a measurement."""
    found = np.zeros_like(state)
    shape = (1 << wire, 2, -1)
    factor = np.asarray(probability**-0.5, state.real.dtype)
    found.reshape(shape)[:, 0 if reset else outcome] = state.reshape(shape)[:, outcome] * factor
    return found


# Results -------------------------------------------------------------------------------------------------------------------


def execute(tape: QuantumScript, config: MCMConfig, c_dtype: Any, rng: np.random.Generator) -> Any:
    """Results of a tape on wires 0, 1, ... that measures or projects in its middle, without a batch.

    Args:
        tape: Only native operations, conditional ones, measurements and projectors.
        config: With a method.
        c_dtype: complex64 or complex128.
        rng: Moves on.

    Raises:
        SimulationError: Something cannot be had this way.
    """
    if tape.batch_size is not None:
        raise SimulationError("a circuit that measures or projects in its middle cannot have a batch; use qml.transforms.broadcast_expand")
    walk = _Walk(tape, c_dtype, rng, fill=config.postselect_mode == "fill-shots")
    if tape.shots:
        return _sampled(tape, walk, config, rng)
    results = _analytic(tape, walk)
    return results[0] if len(results) == 1 else tuple(results)


def _analytic(tape: QuantumScript, walk: _Walk) -> list[Any]:
    """Weighted means over the leaves of what is linear in the density matrix."""
    if not walk.numbers:  # one leaf at most, a pure state
        leaf = next(walk.leaves(None), None)
        state = np.full(1 << walk.n, np.nan, walk.c_dtype) if leaf is None else leaf.state
        return [measure.analytic(mp, state) for mp in tape.measurements]
    for mp in tape.measurements:
        if not measure.is_linear(mp):
            raise SimulationError(f"{mp} cannot be had from a circuit with mid-circuit measurements: its final state is mixed")
    sums: list[Any] = [None] * len(tape.measurements)
    weight = 0.0
    for leaf in walk.leaves(None):
        weight += leaf.weight
        for i, mp in enumerate(tape.measurements):
            part = leaf.weight * (measure.linear(mp, leaf.state) if mp.mv is None else _of_outcomes(mp, leaf.outcomes, walk.numbers))
            sums[i] = part if sums[i] is None else sums[i] + part
    if not weight:
        return [np.full(mp.shape(num_device_wires=walk.n), np.nan)[()] for mp in tape.measurements]
    return [measure.finish(mp, total / weight) for mp, total in zip(tape.measurements, sums, strict=True)]


def _of_outcomes(mp: MeasurementProcess, outcomes: Sequence[int], numbers: dict[str, int]) -> Array:
    """As ``measure.linear``, for values that were measured."""
    values = [outcomes[numbers[m.meas_uid]] for m in measure.mid_measures(mp)]
    if isinstance(mp, ProbabilityMP):
        found = np.zeros(1 << len(values))
        found[int("".join(map(str, values)), 2)] = 1.0
        return found
    assert isinstance(mp.mv, MeasurementValue)
    value = float(mp.mv.processing_fn(*values))
    return np.array([value, value**2])


def _sampled(tape: QuantumScript, walk: _Walk, config: MCMConfig, rng: np.random.Generator) -> Any:
    """Shots of all leaves together, in random order."""
    total = tape.shots.total_shots
    needed = list(dict.fromkeys(m.meas_uid for mp in tape.measurements if mp.mv is not None for m in measure.mid_measures(mp)))
    inner = [uid for uid in needed if uid in walk.numbers]
    if len(inner) > 62:
        raise SimulationError(f"statistics of {len(inner)} mid-circuit measurements at once; 62 are possible")
    planned = measure.plan(tape.measurements, walk.n, inner)
    shadows = [mp for mp, readings in zip(tape.measurements, planned.readings, strict=True) if readings is None]
    if shadows and walk.numbers:
        raise SimulationError(f"{shadows[0]} cannot be had by mcm_method={str(config.mcm_method)!r}; use 'deferred'")
    drawn: list[list[Array]] = [[np.zeros(0, np.int64)] for _ in planned.settings]
    state: Array | None = None
    runs = (leaf for _ in range(total) for leaf in walk.leaves(1)) if config.mcm_method == "one-shot" else walk.leaves(total)
    for leaf in runs:
        assert leaf.shots is not None
        state = leaf.state
        source = measure.Amplitudes(leaf.state)
        for number, setting in enumerate(planned.settings):
            if number == planned.classical:
                bits = [leaf.outcomes[walk.numbers[uid]] for uid in inner]
                drawn[number].append(np.full(leaf.shots, int("".join(map(str, bits)), 2)))
            else:
                found = sampling.histogram(source.probabilities(setting), leaf.shots, rng)
                # Shuffled for each setting: settings are measured in other shots, and have nothing to do with each other.
                drawn[number].append(rng.permutation(np.repeat(found.outcomes, found.counts)))
    return _results(tape, walk, planned, [np.concatenate(d) for d in drawn], state, config, rng)


def _results(
    tape: QuantumScript,
    walk: _Walk,
    planned: measure.Plan,
    samples: Sequence[Array],
    state: Array | None,
    config: MCMConfig,
    rng: np.random.Generator,
) -> Any:
    shots = tape.shots
    accepted = len(samples[0]) if samples else 0
    order = rng.permutation(shots.total_shots)  # those beyond the accepted ones were rejected
    rows = []
    for first, last in shots.bins():
        valid = order[first:last] < accepted
        mine = order[first:last][valid]
        seen = [measure.Seen(sampling.histogram_of(s[mine]), s[mine]) for s in samples]
        row = []
        for m, mp in enumerate(tape.measurements):
            if planned.readings[m] is None:
                assert state is not None
                row.append(mp.process_state_with_shots(state.reshape((2,) * walk.n), Wires(range(walk.n)), len(mine), rng=rng))
            else:
                row.append(measure.estimate(planned, m, seen, valid if config.postselect_mode == "pad-invalid-samples" else None))
        rows.append(row[0] if len(row) == 1 else tuple(row))
    return tuple(rows) if shots.has_partitioned_shots else rows[0]
