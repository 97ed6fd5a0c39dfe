"""What a circuit measures, as Braket's result types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import (
    CountsMP,
    DensityMatrixMP,
    ExpectationMP,
    MeasurementProcess,
    ProbabilityMP,
    SampleMP,
    StateMP,
    VarianceMP,
)
from pennylane.operation import Operator
from pennylane.ops import Prod, SProd, Sum

from pl_hybridjobs.devices.openqasm.complaints import Untranslatable
from pl_hybridjobs.devices.openqasm.literals import Targets, matrix, real
from pl_hybridjobs.devices.openqasm.tables import OBSERVABLES

_NO_OBSERVABLE = (
    "has an observable that Braket has no words for; it has "
    + ", ".join(OBSERVABLES)
    + ", their products on different wires, and sums of these"
)
_NO_MEASUREMENT = (
    "is no measurement that Braket knows; it has sample and counts of wires and mid-circuit measurements, expval and var of observables, "
    "probs of wires, and of simulators state and density_matrix"
)
_PROJECTORS = ("[[1.0, 0.0], [0.0, 0.0]]", "[[0.0, 0.0], [0.0, 1.0]]")


@dataclass(frozen=True)
class Factor:
    """One factor of a product observable.

    Attributes:
        name: ``"x"``, or ``"hermitian([[...]])"`` with its matrix.
        wires: Which it acts on.
    """

    name: str
    wires: tuple[Any, ...]

    def text(self, targets: Targets) -> str:
        """As a result type takes it."""
        return f"{self.name} {targets[self.wires]}" if self.name.startswith("hermitian") else f"{self.name}({targets[self.wires]})"


@dataclass(frozen=True)
class Term:
    """A product observable and its coefficient."""

    coefficient: float
    factors: tuple[Factor, ...]

    def text(self, targets: Targets) -> str:
        """The product without the coefficient."""
        return " @ ".join(factor.text(targets) for factor in self.factors)


def terms(observable: Operator) -> list[Term]:
    """An observable as a sum of products on different wires.

    Raises:
        Untranslatable: It is no such sum.
    """
    if observable.name in OBSERVABLES:
        return [Term(1.0, _factors(observable))]
    if observable.pauli_rep is not None:
        return _pauli_terms(observable)
    if isinstance(observable, SProd):
        scalar = _coefficient(observable.scalar)
        return [Term(scalar * term.coefficient, term.factors) for term in terms(observable.base)]
    if isinstance(observable, Sum):
        return [term for operand in observable.operands for term in terms(operand)]
    if isinstance(observable, Prod):
        return _product(observable)
    raise Untranslatable(f"{_NO_OBSERVABLE}; {observable.name} is not among them")


def _factors(observable: Operator) -> tuple[Factor, ...]:
    name, wires = OBSERVABLES[observable.name], observable.wires.labels
    if observable.name == "Hermitian":
        found = qml.math.toarray(observable.data[0])
        if not np.allclose(found, np.conj(found).T):
            raise Untranslatable("has a matrix that is not Hermitian")
        return (Factor(f"hermitian({matrix(found)})", wires),)
    if observable.name == "Projector":
        state = qml.math.toarray(observable.data[0])
        if len(state) == len(wires):
            return tuple(Factor(f"hermitian({_PROJECTORS[int(bit)]})", (wire,)) for bit, wire in zip(state, wires, strict=True))
        return (Factor(f"hermitian({matrix(observable.matrix())})", wires),)
    return tuple(Factor(name, (wire,)) for wire in wires or (0,))


def _coefficient(value: Any) -> float:
    if np.iscomplexobj(value):
        if np.imag(value):
            raise Untranslatable(f"has the coefficient {value}; those of observables are real")
        value = np.real(value)
    return real(value)


def _pauli_terms(observable: Operator) -> list[Term]:
    names = {"X": "x", "Y": "y", "Z": "z"}
    somewhere = (observable.wires.labels or (0,))[:1]
    found = []
    for word, coefficient in observable.pauli_rep.items():
        factors = tuple(Factor(names[pauli], (wire,)) for wire, pauli in word.items())
        found.append(Term(_coefficient(coefficient), factors or (Factor("i", somewhere),)))
    return found or [Term(0.0, (Factor("i", somewhere),))]


def _product(observable: Prod) -> list[Term]:
    found = [Term(1.0, ())]
    seen: set[Any] = set()
    for operand in observable.operands:
        wires = set(operand.wires)
        if seen & wires:
            raise Untranslatable("has factors that share wires; multiply their matrices and take qml.Hermitian")
        seen |= wires
        found = [Term(left.coefficient * right.coefficient, left.factors + right.factors) for left in found for right in terms(operand)]
    return found


@dataclass(frozen=True)
class Result:
    """One result type.

    Attributes:
        weight: Of it, in the measurement.
        text: As the pragma has it.
        factors: The bases that it is measured in.
        order: For results with an axis for each qubit: which of them is the measurement's first, second, ...; empty: as they are.
    """

    weight: float
    text: str
    factors: tuple[Factor, ...] = ()
    order: tuple[int, ...] = ()


def results_of(measurement: MeasurementProcess, wires: Sequence[int], shots: int, targets: Targets) -> list[Result]:
    """The result types whose weighted sum a measurement is.

    Args:
        measurement: Neither ``qml.sample`` nor ``qml.counts`` of wires.
        wires: Of the circuit, in order.
        shots: 0: analytic.
        targets: How qubits are written.

    Raises:
        Untranslatable: Braket has no such result type.
    """
    if measurement.obs is not None:
        return _of_observable(measurement, shots, targets)
    if isinstance(measurement, StateMP) and shots:
        raise Untranslatable("is a state, which shots cannot give; take 0 shots, on a simulator")
    given = measurement.wires.labels or tuple(wires)
    # amazon-braket-default-simulator 1.41 takes some orders of qubits for their inverse, so we ask for the rising one.
    rising = tuple(sorted(given))
    order = tuple(rising.index(wire) for wire in given) if given != rising else ()
    if isinstance(measurement, ProbabilityMP) and measurement.mv is None:
        return [Result(1.0, f"probability {targets[rising]}", tuple(Factor("z", (wire,)) for wire in rising), order)]
    if isinstance(measurement, DensityMatrixMP):
        return [Result(1.0, f"density_matrix {targets[rising]}", (), order)]
    if type(measurement) is StateMP:
        return [Result(1.0, "state_vector", (), order)]
    raise Untranslatable(_NO_MEASUREMENT)


def _of_observable(measurement: MeasurementProcess, shots: int, targets: Targets) -> list[Result]:
    if isinstance(measurement, ExpectationMP):
        return [Result(t.coefficient, f"expectation {t.text(targets)}", t.factors) for t in terms(measurement.obs)]
    if not (isinstance(measurement, VarianceMP) or (isinstance(measurement, SampleMP | CountsMP) and shots)):
        raise Untranslatable(_NO_MEASUREMENT)
    if len(found := terms(measurement.obs)) > 1:
        raise Untranslatable("is of a sum; Braket has variances and samples of products only: take qml.Hermitian of the sum's matrix")
    ((term, text),) = [(term, term.text(targets)) for term in found]
    if isinstance(measurement, VarianceMP):
        return [Result(term.coefficient**2, f"variance {text}", term.factors)]
    return [Result(term.coefficient, f"sample {text}", term.factors)]


def gradient_of(measurement: MeasurementProcess, names: Sequence[str], targets: Targets) -> str:
    """The result type that gives an expectation value and its derivatives by named inputs."""
    products = [(term.coefficient, term.text(targets)) for term in terms(measurement.obs)]
    text = " + ".join(product if factor == 1 else f"{factor!r} * {product}" for factor, product in products).replace("+ -", "- ")
    return f"adjoint_gradient expectation({text}) {', '.join(names)}"
