"""PennyLane's measurement processes, from the amplitudes of a final state or from samples of it.

Amplitudes: an observable is applied to the state, never made into a matrix of all wires. Samples: measurements that can share a basis
share its samples; a basis is a Pauli letter for each wire, or the diagonalising gates of one observable.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices.preprocess import decompose
from pennylane.measurements import (
    ClassicalShadowMP,
    CountsMP,
    DensityMatrixMP,
    ExpectationMP,
    MeasurementProcess,
    MutualInfoMP,
    ProbabilityMP,
    PurityMP,
    SampleMeasurement,
    SampleMP,
    ShadowExpvalMP,
    Shots,
    StateMeasurement,
    VarianceMP,
    VnEntropyMP,
)
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, MeasurementValue, Prod, SProd, Sum
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from pl_hybridjobs.devices import translate
from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim import engine_cpu, paulis, sampling
from pl_hybridjobs.sim.circuit import Circuit, Gate, PauliSum
from pl_hybridjobs.sim.sampling import Array, Histogram

_SHADOWS = (ClassicalShadowMP, ShadowExpvalMP)
#: Functions of the density matrix of ``density_wires``.
OF_DENSITY = (DensityMatrixMP, PurityMP, VnEntropyMP, MutualInfoMP)
#: What PennyLane puts where a sample was rejected and arrays must keep their size.
PADDING = int(np.iinfo(np.int32).min)
#: Wires of the largest matrix that is made of an observable that has nothing better.
_MAX_MATRIX_WIRES = 13
_NAME = "hybridjobs.qubit"


def is_measurable(mp: MeasurementProcess) -> bool:
    """Whether the measurement can be had without shots."""
    return isinstance(mp, StateMeasurement) and (mp.obs is None or _accepts(mp.obs, isinstance(mp, ExpectationMP | VarianceMP)))


def is_sampleable(mp: MeasurementProcess) -> bool:
    """Whether the measurement can be had from samples."""
    if not isinstance(mp, (SampleMeasurement, *_SHADOWS)):
        return False
    return mp.obs is None or _accepts(mp.obs, False)


def _accepts(observable: Operator, by_matrix: bool) -> bool:
    if isinstance(observable, qml.ops.CompositeOp):
        return all(_accepts(o, by_matrix) for o in observable.operands)
    if isinstance(observable, qml.ops.SymbolicOp):
        return _accepts(observable.base, by_matrix)
    if by_matrix and isinstance(observable, qml.SparseHamiltonian | qml.Hermitian):
        return True
    return bool(observable.has_diagonalizing_gates)


# Observables on states -----------------------------------------------------------------------------------------------------


def _order(n: int) -> dict[Any, int]:
    return {wire: wire for wire in range(n)}


def _matrix_of(state: Array, wires: Sequence[int]) -> Array:
    """The state with an axis for some wires and one for the others, shape (2**k, 2**(n - k))."""
    n = sampling.n_wires(state)
    others = [w for w in range(n) if w not in set(wires)]
    return state.reshape((2,) * n).transpose([*wires, *others]).reshape(1 << len(wires), -1)


def _state_of(matrix: Array, wires: Sequence[int], n: int) -> Array:
    """The inverse of ``_matrix_of``."""
    others = [w for w in range(n) if w not in set(wires)]
    order = [*wires, *others]
    return matrix.reshape((2,) * n).transpose([order.index(w) for w in range(n)]).reshape(-1)


def apply(observable: Operator, state: Array) -> Array:
    """An observable times a state of wires 0, 1, ..., shape (2**n,).

    Raises:
        SimulationError: The observable has neither Pauli words nor a sparse or small matrix.
    """
    n = sampling.n_wires(state)
    words = translate.pauli_sum(observable, _order(n))
    if words is not None:
        return paulis.apply(words, state)
    if isinstance(observable, LinearCombination):
        return _sum(c * apply(o, state) for c, o in zip(*observable.terms(), strict=True))
    if isinstance(observable, Sum):
        return _sum(apply(o, state) for o in observable.operands)
    if isinstance(observable, SProd):
        return np.asarray(observable.scalar * apply(observable.base, state))
    if isinstance(observable, Prod):
        for factor in reversed(observable.operands):
            state = apply(factor, state)
        return state
    wires = [int(w) for w in observable.wires]
    if isinstance(observable, qml.Projector):
        return project(observable, state)
    matrix: Any
    if isinstance(observable, qml.SparseHamiltonian):
        matrix = observable.sparse_matrix()
    elif observable.has_matrix and len(wires) <= _MAX_MATRIX_WIRES:
        matrix = np.asarray(qml.math.toarray(observable.matrix()))
    elif observable.has_sparse_matrix:
        matrix = observable.sparse_matrix(wire_order=observable.wires)
    else:
        raise SimulationError(f"{_NAME} cannot measure {observable}: it has neither Pauli words nor a matrix")
    return _state_of(matrix @ _matrix_of(state, wires), wires, n)


def project(projector: qml.Projector, state: Array) -> Array:
    """A projector on a basis state or on a state vector of some wires, times a state; not normalised."""
    n = sampling.n_wires(state)
    wires = [int(w) for w in projector.wires]
    (given,) = projector.data
    vector = np.asarray(qml.math.toarray(given))
    rows = _matrix_of(state, wires)
    found = np.zeros_like(rows)
    if len(vector) == len(wires):
        at = int("".join(str(int(bit)) for bit in vector), 2)
        found[at] = rows[at]
    else:
        found += np.outer(vector, vector.conj() @ rows)
    return _state_of(found, wires, n)


def _sum(parts: Iterable[Array]) -> Array:
    return functools.reduce(np.add, parts)


def moments(observable: Operator, state: Array, *, square: bool) -> tuple[float, float]:
    """The mean of an observable, and of its square (0 if that is not wanted)."""
    n = sampling.n_wires(state)
    words = translate.pauli_sum(observable, _order(n))
    if words is None:
        product = apply(observable, state)
        return float(np.vdot(state, product).real), float(np.vdot(product, product).real)
    value = engine_cpu.expval(Circuit(n, (), 0, (words,)), np.empty((1, 0)), c_dtype=state.dtype, start=state)[0, 0]
    if not square:
        return float(value), 0.0
    if len(words.words) == 1:
        return float(value), words.coefficients[0] ** 2 * float(np.vdot(state, state).real)
    product = paulis.apply(words, state)
    return float(value), float(np.vdot(product, product).real)


# Bases -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What is done to the state before all wires are looked at.

    Attributes:
        letters: For some wires, in which basis: "X", "Y" or "Z".
        gates: Or the gates that diagonalise an observable.
        wires: Those that are looked at, ascending.
        ordered: Whether samples are wanted one by one.
    """

    letters: tuple[tuple[int, str], ...] = ()
    gates: tuple[Operator, ...] = ()
    wires: tuple[int, ...] = ()
    ordered: bool = False

    def basis_gates(self) -> tuple[Gate, ...]:
        """Those that turn the letters into Z."""
        found = []
        for wire, letter in self.letters:
            if letter == "Y":
                found.append(Gate("S", (wire,), inverse=True))
            if letter in "XY":
                found.append(Gate("Hadamard", (wire,)))
        return tuple(found)


def rotated(state: Array, setting: Setting) -> Array:
    """The state in the setting's basis."""
    n = sampling.n_wires(state)
    gates = setting.basis_gates()
    if gates:
        state = engine_cpu.state(Circuit(n, gates), np.empty((1, 0)), c_dtype=state.dtype, start=state)[0]
    for op in setting.gates:
        if not op.has_matrix or (translate.is_native(op) and not translate.has_large_matrix(op)):
            tape = QuantumScript([op], [qml.probs(wires=range(n))])
            (tape,), _ = decompose(tape, stopping_condition=translate.is_native, skip_initial_state_prep=False, name=_NAME)
            found = translate.translate(tape)
            assert found is not None
            state = engine_cpu.state(found.circuit, translate.parameter_matrix(found, None), c_dtype=state.dtype, start=state)[0]
        else:
            wires = [int(w) for w in op.wires]
            matrix = np.asarray(qml.math.toarray(op.matrix()))
            state = _state_of(matrix @ _matrix_of(state, wires), wires, n).astype(state.dtype, copy=False)
    return state


def _letters(observable: Operator) -> dict[int, str] | None:
    """The letter of each wire of a product of Pauli operators on different wires; None if it is something else."""
    if isinstance(observable, SProd):
        return _letters(observable.base)
    if isinstance(observable, Prod):
        parts = [_letters(o) for o in observable.operands]
        found: dict[int, str] = {}
        for part in parts:
            if part is None or set(part) & set(found):
                return None
            found |= part
        return found
    name = {"PauliX": "X", "PauliY": "Y", "PauliZ": "Z", "Identity": "Z"}.get(observable.name)
    return None if name is None else {int(w): name for w in observable.wires}


# From amplitudes ---------------------------------------------------------------------------------------------------------


def analytic(mp: MeasurementProcess, state: Array) -> Any:
    """The result of a measurement of a state.

    Args:
        mp: On wires 0, 1, ...
        state: Shape (2**n,); its norm is 1.
    """
    if is_linear(mp):
        return finish(mp, linear(mp, state))
    state = rotated(state, Setting(gates=tuple(mp.diagonalizing_gates())))
    return mp.process_state(state, Wires(range(sampling.n_wires(state))))


def is_linear(mp: MeasurementProcess) -> bool:
    """Whether the result follows from numbers that are linear in the density matrix, so that it can be had from mixtures."""
    return type(mp) in (ExpectationMP, VarianceMP, ProbabilityMP, *OF_DENSITY)


def linear(mp: MeasurementProcess, state: Array) -> Array:
    """Those numbers: mean and mean square, probabilities, or the density matrix of ``density_wires``."""
    if isinstance(mp, OF_DENSITY):
        return reduced(state, density_wires(mp))
    if isinstance(mp, ExpectationMP | VarianceMP) and mp.obs is not None:
        return np.array(moments(mp.obs, state, square=isinstance(mp, VarianceMP)))
    probs = probabilities_of(mp, state)
    if isinstance(mp, ProbabilityMP):
        return probs
    seen = np.flatnonzero(probs)
    values = _values_of(mp)(seen)
    return np.array([probs[seen] @ values, probs[seen] @ np.square(values)])


def finish(mp: MeasurementProcess, numbers: Array) -> Any:
    """The result from the numbers that ``linear`` gives, or from their mean over a mixture."""
    if isinstance(mp, ProbabilityMP):
        return numbers
    if isinstance(mp, OF_DENSITY):
        return of_density(mp, numbers)
    mean, square = numbers
    return np.float64(square - mean**2 if isinstance(mp, VarianceMP) else mean)


def probabilities_of(mp: MeasurementProcess, state: Array) -> Array:
    """Probabilities of the basis states that a measurement looks at, in the basis of its observable, if it has one."""
    n = sampling.n_wires(state)
    wires = _wires_of(mp, n)
    if mp.obs is not None:
        letters = _letters(mp.obs)
        setting = Setting(gates=tuple(mp.diagonalizing_gates())) if letters is None else Setting(letters=tuple(letters.items()))
        state = rotated(state, setting)
    return sampling.probabilities(state, wires)


def _wires_of(mp: MeasurementProcess, n: int) -> tuple[int, ...]:
    if mp.mv is not None:
        return tuple(int(m.wires[0]) for m in mid_measures(mp))
    return tuple(int(w) for w in mp.wires) or tuple(range(n))


def mid_measures(mp: MeasurementProcess) -> list[Any]:
    """The mid-circuit measurements whose values are measured, in their order."""
    return list(mp.mv.measurements) if isinstance(mp.mv, MeasurementValue) else [value.measurements[0] for value in mp.mv]


def _values_of(mp: MeasurementProcess) -> Callable[[Array], Array]:
    """From indices of basis states to values."""
    if isinstance(mp.mv, MeasurementValue):
        return functools.partial(_processed, mp.mv)
    table = np.asarray(mp.eigvals())
    return lambda index: np.asarray(table[index])


def _processed(value: MeasurementValue, index: Array) -> Array:
    """A measured value for each combination of outcomes, the first measurement's bit being the most significant one."""
    k = len(value.measurements)
    distinct, back = np.unique(index, return_inverse=True)
    rows = sampling.bits(distinct, k).tolist()
    return np.asarray([value.processing_fn(*row) for row in rows])[back] if rows else np.zeros(0)


def density_wires(mp: MeasurementProcess) -> tuple[int, ...]:
    """The wires whose reduced density matrix a measurement is a function of."""
    if isinstance(mp, MutualInfoMP):
        return tuple(int(w) for part in mp.raw_wires for w in part)
    return tuple(int(w) for w in mp.wires)


def reduced(state: Array, wires: Sequence[int]) -> Array:
    """The reduced density matrix of some wires, in their order, shape (2**k, 2**k), complex128."""
    rows = _matrix_of(state, wires).astype(np.complex128, copy=False)
    return np.asarray(rows @ rows.conj().T)


def of_density(mp: MeasurementProcess, density: Any) -> Any:
    """A measurement of a density matrix of its ``density_wires``, with a batch axis in front or without, in any interface."""
    if isinstance(mp, DensityMatrixMP):
        return density
    if isinstance(mp, PurityMP):
        return qml.math.sum(qml.math.real(density * qml.math.conj(density)), axis=(-2, -1))
    k = len(density_wires(mp))
    options = {"c_dtype": density.dtype, "base": mp.log_base}
    if isinstance(mp, VnEntropyMP):
        return qml.math.vn_entropy(density, indices=list(range(k)), **options)
    first = len(mp.raw_wires[0])
    return qml.math.mutual_info(density, indices0=list(range(first)), indices1=list(range(first, k)), **options)


# From samples: what is to be drawn ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Register:
    """Some wires as a number, and what it means.

    Attributes:
        setting: Which of the plan's settings shows it.
        wires: The most significant bit first.
        values: From numbers to values; None: the number is the outcome.
        factor: The weight of the value in an expectation value.
    """

    setting: int
    wires: tuple[int, ...]
    values: Callable[[Array], Array] | None = None
    factor: float = 1.0

    def index(self, outcomes: Array, order: tuple[int, ...]) -> Array:
        """The number for each outcome of wires in this order."""
        return sampling.index(outcomes, [len(order) - 1 - order.index(w) for w in self.wires])

    def of(self, outcomes: Array, order: tuple[int, ...]) -> Array:
        """The value for each outcome."""
        index = self.index(outcomes, order)
        values = index if self.values is None else self.values(index)
        return values if self.factor == 1.0 else self.factor * values


@dataclass(frozen=True)
class Parities:
    """A sum of Pauli words that one setting shows.

    Attributes:
        setting: Which.
        terms: Coefficients and wires, none for a constant.
    """

    setting: int
    terms: tuple[tuple[float, tuple[int, ...]], ...]

    def of(self, outcomes: Array, order: tuple[int, ...]) -> Array:
        """The value for each outcome of wires in this order."""
        place = {wire: 1 << (len(order) - 1 - i) for i, wire in enumerate(order)}
        found = np.zeros(len(outcomes))
        for coefficient, wires in self.terms:
            found += coefficient * sampling.parities(outcomes, sum(place[w] for w in wires))
        return found


Reading = Register | Parities


@dataclass(frozen=True)
class Plan:
    """How measurements follow from samples of a few settings.

    Attributes:
        measurements: Those that were asked for.
        settings: What is drawn.
        readings: For each measurement; more than one only for expectation values, which are their sum. None: it takes the state itself.
        classical: The number of the setting that stands for outcomes of mid-circuit measurements, if there are any.
    """

    measurements: tuple[MeasurementProcess, ...]
    settings: tuple[Setting, ...]
    readings: tuple[tuple[Reading, ...] | None, ...]
    classical: int | None


class _Planner:
    """Collects settings; a Pauli basis goes to the first that it is compatible with."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.letters: list[dict[int, str]] = []
        self.gates: list[tuple[Operator, ...]] = []
        self.wires: list[set[int]] = []
        self.ordered: list[bool] = []
        # Of settings that may still grow, as bits: X or Y; Z or Y; any.
        self.masks = np.zeros((0, 3), np.int64)
        self.open: list[int] = []

    def basis(self, letters: dict[int, str]) -> int:
        x = sum(1 << w for w, letter in letters.items() if letter in "XY")
        z = sum(1 << w for w, letter in letters.items() if letter in "YZ")
        used = x | z
        clash = ((self.masks[:, 0] ^ x) | (self.masks[:, 1] ^ z)) & self.masks[:, 2] & used
        fitting = np.flatnonzero(clash == 0)
        if len(fitting):
            row = int(fitting[0])
        else:
            row = len(self.masks)
            self.masks = np.concatenate([self.masks, np.zeros((1, 3), np.int64)])
            self.open.append(self._new(()))
        self.masks[row] |= (x, z, used)
        number = self.open[row]
        self.letters[number] |= letters
        self.wires[number] |= set(letters)
        return number

    def gated(self, gates: tuple[Operator, ...], wires: Iterable[int]) -> int:
        number = self._new(gates)
        self.wires[number] |= set(wires)
        return number

    def _new(self, gates: tuple[Operator, ...]) -> int:
        self.letters.append({})
        self.gates.append(gates)
        self.wires.append(set())
        self.ordered.append(False)
        return len(self.gates) - 1

    def words(self, words: PauliSum, *, together: bool) -> tuple[Reading, ...] | None:
        """Readings of a sum of words; ``together``: of one setting, or None."""
        if together:
            union: dict[int, str] = {}
            for word in words.words:
                for wire, letter in word:
                    if union.setdefault(wire, letter) != letter:
                        return None
            setting = self.basis(union)
            terms = zip(words.coefficients, (tuple(w for w, _ in word) for word in words.words), strict=True)
            return (Parities(setting, tuple(terms)),)
        found: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
        for coefficient, word in zip(words.coefficients, words.words, strict=True):
            found.setdefault(self.basis(dict(word)), []).append((coefficient, tuple(w for w, _ in word)))
        return tuple(Parities(setting, tuple(terms)) for setting, terms in found.items())

    def observable(self, mp: MeasurementProcess) -> tuple[Reading, ...]:
        if isinstance(mp, ProbabilityMP):
            letters = _letters(mp.obs)
            if letters is not None:
                return (Register(self.basis(letters), tuple(int(w) for w in mp.obs.wires)),)
        else:
            words = translate.pauli_sum(mp.obs, _order(self.n))
            if words is not None:
                readings = self.words(words, together=not isinstance(mp, ExpectationMP))
                if readings is not None:
                    return readings
        if isinstance(mp, ExpectationMP) and isinstance(mp.obs, Sum | SProd):
            return tuple(self.terms(mp.obs, 1.0))
        return (self.diagonal(mp.obs, 1.0, probs=isinstance(mp, ProbabilityMP)),)

    def terms(self, observable: Operator, factor: float) -> Iterable[Reading]:
        """An expectation value, term by term."""
        words = translate.pauli_sum(factor * observable, _order(self.n))
        if words is not None:
            yield from self.words(words, together=False) or ()
        elif isinstance(observable, LinearCombination):
            for c, o in zip(*observable.terms(), strict=True):
                yield from self.terms(o, factor * float(qml.math.real(c)))
        elif isinstance(observable, Sum):
            for o in observable.operands:
                yield from self.terms(o, factor)
        elif isinstance(observable, SProd):
            yield from self.terms(observable.base, factor * float(qml.math.real(observable.scalar)))
        else:
            yield self.diagonal(observable, factor)

    def diagonal(self, observable: Operator, factor: float, *, probs: bool = False) -> Reading:
        wires = tuple(int(w) for w in observable.wires)
        setting = self.gated(tuple(observable.diagonalizing_gates()), wires)
        if probs:
            return Register(setting, wires)
        table = np.real(np.asarray(qml.math.toarray(observable.eigvals())))
        return Register(setting, wires, lambda index: np.asarray(table[index]), factor)

    def settings(self) -> tuple[Setting, ...]:
        rows = zip(self.letters, self.gates, self.wires, self.ordered, strict=True)
        return tuple(Setting(tuple(sorted(a.items())), b, tuple(sorted(c)), d) for a, b, c, d in rows)


def _is_custom(mp: MeasurementProcess) -> bool:
    """Whether the measurement is a class that a user wrote."""
    return type(mp) not in (SampleMP, CountsMP, ProbabilityMP, ExpectationMP, VarianceMP, *_SHADOWS)


def plan(measurements: Sequence[MeasurementProcess], n: int, identifiers: Sequence[str] = ()) -> Plan:
    """Find few settings that show all measurements.

    Args:
        measurements: On wires 0, 1, ..., n - 1.
        n: How many wires there are.
        identifiers: Of mid-circuit measurements whose outcomes will be known; their numbers are the wires of the plan's
            classical setting. Values of others are those of their wires.
    """
    planner = _Planner(n)
    classical: int | None = None
    readings: list[tuple[Reading, ...] | None] = []
    with qml.QueuingManager.stop_recording():
        for mp in measurements:
            found: tuple[Reading, ...] | None
            if isinstance(mp, _SHADOWS):
                found = None
            elif _is_custom(mp):
                found = (Register(planner.gated(tuple(mp.diagonalizing_gates()), range(n)), tuple(range(n))),)
            elif mp.obs is not None:
                found = planner.observable(mp)
            else:
                listed = mp.mv is not None and not isinstance(mp.mv, MeasurementValue)
                plain = listed or isinstance(mp, ProbabilityMP) or (mp.mv is None and mp.eigvals() is None)
                values = None if plain else _values_of(mp)
                if mp.mv is not None and identifiers:
                    if classical is None:
                        classical = planner.gated((), range(len(identifiers)))
                    found = (Register(classical, tuple(identifiers.index(m.meas_uid) for m in mid_measures(mp)), values),)
                else:
                    wires = _wires_of(mp, n)
                    found = (Register(planner.basis(dict.fromkeys(wires, "Z")), wires, values),)
            if found is not None and (isinstance(mp, SampleMP) or _is_custom(mp)):
                planner.ordered[found[0].setting] = True
            readings.append(found)
    return Plan(tuple(measurements), planner.settings(), tuple(readings), classical)


# From samples: what was seen -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Samples of a setting, as a histogram and, where their order matters, one by one."""

    histogram: Histogram
    samples: Array | None = None


def estimate(plan: Plan, number: int, seen: Sequence[Seen], valid: Array | None = None) -> Any:
    """The result of one of the plan's measurements.

    Args:
        plan: What was drawn.
        number: Which measurement.
        seen: For each setting.
        valid: Which shots were not rejected, for arrays of samples that keep their size: the others get ``PADDING``.
    """
    mp, readings = plan.measurements[number], plan.readings[number]
    assert readings is not None
    if _is_custom(mp):
        found, order = seen[readings[0].setting], plan.settings[readings[0].setting].wires
        assert found.samples is not None
        return mp.process_samples(sampling.bits(found.samples, len(order)), Wires(order))
    if isinstance(mp, ExpectationMP):
        parts = [(seen[r.setting].histogram, r.of(seen[r.setting].histogram.outcomes, plan.settings[r.setting].wires)) for r in readings]
        return np.float64(sum(sampling.mean(*part) for part in parts))
    (reading,) = readings
    found, order = seen[reading.setting], plan.settings[reading.setting].wires
    drawn = found.histogram
    if isinstance(mp, VarianceMP):
        return np.float64(sampling.variance(drawn, reading.of(drawn.outcomes, order)))
    if isinstance(mp, ProbabilityMP):
        assert isinstance(reading, Register)
        index = reading.index(drawn.outcomes, order)
        counts = np.bincount(index, weights=drawn.counts, minlength=1 << len(reading.wires))
        return counts / drawn.shots if drawn.shots else np.full(len(counts), np.nan)
    if isinstance(mp, CountsMP):
        return _counts(mp, reading, drawn, order)
    assert found.samples is not None
    if isinstance(reading, Register) and reading.values is None:
        samples = sampling.bits(reading.index(found.samples, order), len(reading.wires))
    else:
        samples = reading.of(found.samples, order)
    if valid is not None and not valid.all():
        padded = np.full((len(valid), *samples.shape[1:]), PADDING, samples.dtype)
        padded[valid] = samples
        samples = padded
    kind = getattr(mp, "_dtype", None)
    return samples if kind is None else samples.astype(kind)


def _counts(mp: CountsMP, reading: Reading, drawn: Histogram, order: tuple[int, ...]) -> dict[Any, int]:
    if isinstance(reading, Register) and reading.values is None:
        k = len(reading.wires)
        if reading.wires == order:
            counts = drawn
        else:
            numbers, back = np.unique(reading.index(drawn.outcomes, order), return_inverse=True)
            counts = Histogram(numbers, np.bincount(back, weights=drawn.counts, minlength=len(numbers)).astype(np.int64))
        found = dict(zip(sampling.bit_strings(counts.outcomes, k), counts.counts.tolist(), strict=True))
        if mp.all_outcomes:
            found = dict.fromkeys(sampling.bit_strings(np.arange(1 << k), k), 0) | found
        return found
    values = reading.of(drawn.outcomes, order)
    # Sums of words that are equal but for rounding are one outcome.
    digits = 10 if isinstance(reading, Parities) and len(reading.terms) > 1 else None
    keys, back = np.unique(values if digits is None else np.round(values, digits) + 0.0, return_inverse=True)
    found = dict(zip(keys.tolist(), np.bincount(back, weights=drawn.counts, minlength=len(keys)).astype(int).tolist(), strict=True))
    if mp.all_outcomes:
        possible = np.real(np.asarray(qml.math.toarray(mp.eigvals())))
        everything = np.unique(possible if digits is None else np.round(possible, digits) + 0.0).tolist()
        found = dict.fromkeys(everything, 0) | found
    return found


# From samples: the draw ----------------------------------------------------------------------------------------------------


class Preparation:
    """A circuit whose final state is measured; it runs when something is asked for, and once."""

    def __init__(self, found: translate.Translation, parameters: Array, c_dtype: Any, start: Array | None) -> None:
        self.circuit, self.parameters, self.c_dtype, self.start = found.circuit, parameters, c_dtype, start
        self._state: Array | None = None

    def state(self) -> Array:
        """Shape (2**n,)."""
        if self._state is None:
            self._state = engine_cpu.state(self.circuit, self.parameters, c_dtype=self.c_dtype, start=self.start)[0]
        return self._state

    def probabilities(self, setting: Setting, *, alone: bool) -> Array:
        """Of the setting's wires, in its basis; they add up to 1. If the setting is alone, no state is kept."""
        if not alone or setting.gates or self._state is not None:
            return Amplitudes(self.state()).probabilities(setting, alone=alone)
        circuit = replace(self.circuit, gates=(*self.circuit.gates, *setting.basis_gates()))
        found = engine_cpu.probabilities(circuit, self.parameters, c_dtype=self.c_dtype, start=self.start)
        return sampling.normalised(sampling.marginal(found, setting.wires, circuit.n_wires), np.empty(0, self.c_dtype).real.dtype)


class Amplitudes:
    """A state that is measured."""

    def __init__(self, state: Array) -> None:
        self._state = state

    def state(self) -> Array:
        """Shape (2**n,)."""
        return self._state

    def probabilities(self, setting: Setting, *, alone: bool = True) -> Array:
        """Of the setting's wires, in its basis; they add up to 1."""
        del alone
        found = sampling.probabilities(rotated(self._state, setting), setting.wires)
        return sampling.normalised(found, self._state.real.dtype)


def sampled(
    measurements: Sequence[MeasurementProcess],
    source: Preparation | Amplitudes,
    n: int,
    shots: Shots,
    rng: np.random.Generator,
) -> Any:
    """Results of measurements with shots, as a device returns them: shot copy, then measurement.

    Args:
        measurements: On wires 0, 1, ..., n - 1.
        source: What is measured.
        n: How many wires there are.
        shots: How many samples, and into which parts they are cut.
        rng: Moves on.
    """
    parts, total = list(shots.bins()), shots.total_shots
    planned = plan(measurements, n)
    seen = [_draw(source.probabilities(s, alone=len(planned.settings) == 1), s, total, parts, rng) for s in planned.settings]
    rows = []
    for number, (first, last) in enumerate(parts):
        row = []
        for m, mp in enumerate(measurements):
            if planned.readings[m] is None:
                tensor = source.state().reshape((2,) * n)
                row.append(mp.process_state_with_shots(tensor, Wires(range(n)), last - first, rng=rng))
            else:
                row.append(estimate(planned, m, [s[number] for s in seen]))
        rows.append(row[0] if len(row) == 1 else tuple(row))
    return tuple(rows) if shots.has_partitioned_shots else rows[0]


def _draw(probs: Array, setting: Setting, total: int, parts: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[Seen]:
    whole = sampling.histogram(probs, total, rng)
    if len(parts) == 1:
        return [Seen(whole, sampling.samples(whole, rng) if setting.ordered else None)]
    samples = sampling.samples(whole, rng)
    return [Seen(sampling.histogram_of(samples[first:last]), samples[first:last]) for first, last in parts]


def stacked(rows: Sequence[Any]) -> Any:
    """Results of the circuits of a batch as one result with a batch axis in front of each array."""
    first = rows[0]
    if isinstance(first, tuple):
        return tuple(stacked(column) for column in zip(*rows, strict=True))
    return list(rows) if isinstance(first, dict) else np.stack(rows)
