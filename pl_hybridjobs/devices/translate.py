"""From PennyLane's tapes to the simulator's circuits: the only reader of PennyLane's operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
import scipy.sparse
from autograd.extend import Box
from pennylane.operation import Operator
from pennylane.ops import Exp
from pennylane.tape import QuantumScript

from pl_hybridjobs.errors import SimulationError
from pl_hybridjobs.sim.channels import CHANNELS, MAX_CHANNEL_WIRES, SUPEROPERATOR, superoperator
from pl_hybridjobs.sim.circuit import Angle, Circuit, Gate, PauliSum, matrix_bytes
from pl_hybridjobs.sim.gates import GATES

#: The largest constant matrix that the kernels apply, and the largest that the array engine does, in wires.
MAX_MATRIX_WIRES, MAX_LARGE_MATRIX_WIRES = 8, 13
_MATRIX_PARAMETERS = frozenset(
    {"QubitUnitary", "DiagonalQubitUnitary", "ControlledQubitUnitary", "BlockEncode", "SpecialUnitary", "StatePrep", "BasisState"}
)
_SKIPPED = frozenset({"Barrier", "WireCut", "Snapshot"})


@dataclass(frozen=True)
class Translation:
    """A tape for the simulator.

    Attributes:
        circuit: Structure; equal tapes but for parameters give equal circuits.
        parameters: The tape's parameters that the circuit uses, in its order; with a batch, its axis comes first.
        shapes: The shape of each, without the batch axis; together they fill the circuit's parameter vector.
        places: For each of them, its place in ``tape.get_parameters(trainable_only=False)``.
        start: The preparation of a state or density matrix that the tape begins with, or None.
        matrices: Those that travel apart: traced ones, and those with a batch axis in front.
        postselected: Whether projectors make the final state shorter than 1, so that it must be normalised.
    """

    circuit: Circuit
    parameters: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    start: Operator | None
    matrices: tuple[Any, ...] = ()
    postselected: bool = False

    def columns(self) -> dict[int, tuple[slice, tuple[int, ...]]]:
        """For each place, its part of the circuit's parameter vector, and its shape."""
        found, at = {}, 0
        for place, shape in zip(self.places, self.shapes, strict=True):
            size = math.prod(shape)
            found[place] = slice(at, at + size), shape
            at += size
        return found


# Layers of gates whose parameters are one array: a step of gate name, wires, and indices into that array.
_Step = tuple[str, tuple[Any, ...], tuple[tuple[int, ...], ...]]


def _strongly_entangling(op: Operator) -> Iterator[_Step]:
    wires, ranges = list(op.wires), op.hyperparameters["ranges"]
    n = len(wires)
    for layer in range(qml.math.shape(op.data[0])[-3]):
        for i, wire in enumerate(wires):
            yield "Rot", (wire,), tuple((layer, i, k) for k in range(3))
        if n > 1:
            for i in range(n):
                yield op.hyperparameters["imprimitive"].__name__, (wires[i], wires[(i + ranges[layer]) % n]), ()


def _basic_entangler(op: Operator) -> Iterator[_Step]:
    wires = list(op.wires)
    n = len(wires)
    for layer in range(qml.math.shape(op.data[0])[-2]):
        for i, wire in enumerate(wires):
            yield op.hyperparameters["rotation"].__name__, (wire,), ((layer, i),)
        for i in range(1 if n == 2 else n if n > 2 else 0):
            yield "CNOT", (wires[i], wires[(i + 1) % n]), ()


def _angle_embedding(op: Operator) -> Iterator[_Step]:
    for i in range(qml.math.shape(op.data[0])[-1]):
        yield op.hyperparameters["rotation"].__name__, (op.wires[i],), ((i,),)


#: Name -> (number of axes without a batch, its steps). Taken whole they cost no decomposition, and no slice for each angle.
_LAYERS: dict[str, tuple[int, Callable[[Operator], Iterator[_Step]]]] = {
    "StronglyEntanglingLayers": (3, _strongly_entangling),
    "BasicEntanglerLayers": (2, _basic_entangler),
    "AngleEmbedding": (1, _angle_embedding),
}


def _is_layer(op: Operator) -> bool:
    if op.name not in _LAYERS or len(op.data) != 1:
        return False
    if getattr(op.data[0], "dtype", None) == np.dtype(object):  # a list of traced numbers
        return False
    if len(qml.math.shape(op.data[0])) != _LAYERS[op.name][0]:  # a batch, which PennyLane does not see on a layer
        return False
    named = {"StronglyEntanglingLayers": "imprimitive", "BasicEntanglerLayers": "rotation", "AngleEmbedding": "rotation"}[op.name]
    row = GATES.get(getattr(op.hyperparameters[named], "__name__", ""))
    return row is not None and (row.n_wires, row.n_angles) == ((2, 0) if named == "imprimitive" else (1, 1))


def base_of(op: Operator) -> tuple[Operator, bool, tuple[Any, ...], tuple[bool, ...]]:
    """The gate inside adjoints and controls: (gate, inverse, control wires, control values)."""
    inverse = False
    controls: tuple[Any, ...] = ()
    values: tuple[bool, ...] = ()
    while True:
        if op.name == "MultiControlledX":
            controls = (*controls, *op.control_wires)
            values = (*values, *map(bool, op.control_values))
            return qml.PauliX(op.target_wires), inverse, controls, values
        if op.name == "ControlledQubitUnitary":
            controls, values = (*controls, *op.control_wires), (*values, *map(bool, op.control_values))
            op = op.base
        elif op.name.startswith("Adjoint("):
            inverse = not inverse
            op = op.base
        elif op.name.startswith("C("):
            controls, values = (*controls, *op.control_wires), (*values, *map(bool, op.control_values))
            op = op.base
        else:
            return op, inverse, controls, values


def _fits(op: Operator) -> bool:
    row = GATES.get(op.name)
    return row is not None and op.name != "Matrix" and row.n_angles == len(op.data) and row.n_wires in (None, len(op.wires))


def is_native(op: Operator) -> bool:
    """Whether an operator needs no decomposition."""
    if op.name in _SKIPPED or isinstance(op, qml.Projector):
        return True
    if _is_layer(op):
        return True
    base, _, _, _ = base_of(op)
    return _fits(base) or _is_matrix(base)


def is_noise(op: Operator) -> bool:
    """Whether an operator is a channel, or replaces the state of its wires: only density matrices can have that."""
    return isinstance(op, qml.operation.Channel) or op.name == "QubitDensityMatrix"


def is_tabled_channel(op: Operator) -> bool:
    """Whether a channel is PennyLane's own of that name, whose superoperator and derivatives are known."""
    return op.name in CHANNELS and isinstance(op, getattr(qml, op.name))


def is_differentiable(op: Operator) -> bool:
    """Whether the derivative by all of an operator's parameters is known to the kernels."""
    return _fits(base_of(op)[0]) or is_tabled_channel(op)


def has_large_matrix(op: Operator) -> bool:
    """Whether an operator needs the array engine, for its matrix is larger than those that the kernels apply."""
    if len(op.wires) <= MAX_MATRIX_WIRES:
        return False
    base = base_of(op)[0]
    return len(base.wires) > MAX_MATRIX_WIRES and not _fits(base) and not _is_layer(base) and _is_matrix(base)


def _is_matrix(op: Operator) -> bool:
    """Whether an operator is applied by its matrix."""
    most = MAX_MATRIX_WIRES if op.name == "DiagonalQubitUnitary" else MAX_LARGE_MATRIX_WIRES  # which is quick to decompose
    if len(op.wires) > most or not op.has_matrix or not len(op.wires):
        return False
    if isinstance(op, Exp) and not is_comparable(op):
        return op.batch_size is None and word_rotation(op) is None
    return op.name in _MATRIX_PARAMETERS or not op.has_decomposition


def takes_matrix(op: Operator) -> bool:
    """Whether the parameters of an operator, or of the gate inside its controls, are a matrix or a state and no angles."""
    return base_of(op)[0].name in _MATRIX_PARAMETERS


def prepared(prep: Operator, n_wires: int) -> Any:
    """The amplitudes of a state preparation on wires 0, 1, ...; sparse ones are filled in."""
    vector = prep.state_vector(wire_order=range(n_wires))
    return vector.toarray() if scipy.sparse.issparse(vector) else vector


@qml.QueuingManager.stop_recording()
def word_rotation(op: Exp) -> Operator | None:
    """The rotation that the exponential of an imaginary multiple of a Pauli word is, for numbers of any library; None if it is no such.

    PennyLane's own decomposition takes neither torch's numbers nor batches.
    """
    sentence = op.base.pauli_rep
    if sentence is None or len(sentence) != 1 or not op.wires:
        return None
    ((word, factor),) = sentence.items()
    exponent = 1j * op.coeff * factor
    if not qml.math.is_abstract(exponent) and np.any(np.imag(qml.math.unwrap([exponent])[0])):
        return None
    wires, paulis = zip(*word.items(), strict=True) if word else (op.wires[:1], ("I",))
    return qml.PauliRot(2 * qml.math.real(exponent), "".join(paulis), wires=list(wires))


def is_comparable(op: Exp) -> bool:
    """Whether PennyLane can compare the numbers of an exponential, as it does to find its decomposition."""
    traced = any(qml.math.get_interface(value) == "jax" and qml.math.requires_grad(value) for value in op.data)
    return op.batch_size is None and not traced


def word_of(op: Operator) -> str:
    """The Pauli word of an operator, or an empty text."""
    key = {"PauliRot": "pauli_word", "PauliError": "operators"}.get(op.name)
    return "".join(op.hyperparameters[key]) if key else ""


def _constant_superoperator(op: Operator) -> Any:
    """The superoperator of a channel that is not in the table; None if it is traced.

    Raises:
        SimulationError: It acts on too many wires.
    """
    if len(op.wires) > MAX_CHANNEL_WIRES:
        raise SimulationError(f"{op.name} acts on {len(op.wires)} wires; inside a circuit it can act on up to {MAX_CHANNEL_WIRES}")
    if any(is_traced(value) for value in op.data):
        return None
    if op.name == "QubitDensityMatrix":  # whatever was there is traced out
        given = qml.math.toarray(op.data[0])
        return None if np.ndim(given) != 2 else np.outer(np.ravel(given), np.eye(len(given)).ravel())
    return superoperator([qml.math.toarray(kraus) for kraus in op.kraus_matrices()])


def is_traced(value: Any) -> bool:
    """Whether a value is, or may be, part of a computation that is differentiated or compiled."""
    interface = qml.math.get_interface(value)
    if interface == "autograd":
        return isinstance(value, Box)
    return interface == "torch" or (interface == "jax" and qml.math.requires_grad(value))


def pauli_sum(observable: Operator, order: dict[Any, int]) -> PauliSum | None:
    """An observable as a real combination of Pauli words; None if it is none, or if its coefficients are traced."""
    rep = observable.pauli_rep
    if rep is None:
        return None
    coefficients, words = [], []
    for word, coefficient in rep.items():
        value = coefficient
        if not isinstance(coefficient, int | float | complex):
            if is_traced(coefficient):
                return None
            value = qml.math.unwrap([coefficient])[0]
        number = complex(value)
        if abs(number.imag) > 1e-12 * max(1.0, abs(number.real)):
            return None
        coefficients.append(number.real)
        words.append(tuple((order[wire], pauli) for wire, pauli in word.items()))
    return PauliSum(tuple(coefficients), tuple(words))


def translate(tape: QuantumScript, observables: Sequence[Operator] = (), *, apart: bool = False) -> Translation | None:
    """A tape on wires 0, 1, ... as a circuit.

    Args:
        tape: Only operators for which ``is_native`` holds.
        observables: Those whose expectation values the circuit gives.
        apart: Whether matrices that no circuit can hold may travel apart from it; the array engine can run that.

    Returns:
        None if the tape has traced coefficients; or, unless ``apart``, traced matrices, large ones, or matrices with a batch axis.
    """
    order = {wire: wire for wire in range(len(tape.wires))}  # the tape names them in the order in which it meets them
    operations = list(tape.operations)
    prepared = bool(operations) and (isinstance(operations[0], qml.operation.StatePrepBase) or operations[0].name == "QubitDensityMatrix")
    start = operations.pop(0) if prepared else None
    place = len(start.data) if start is not None else 0
    gates: list[Gate] = []
    parameters: list[Any] = []
    shapes: list[tuple[int, ...]] = []
    places: list[int] = []
    matrices: list[Any] = []
    used = 0
    for op in operations:
        if op.name in _SKIPPED:
            place += len(op.data)
            continue
        if _is_layer(op):
            axes, steps = _LAYERS[op.name]
            shape = tuple(qml.math.shape(op.data[0]))[-axes:]
            for name, wires_of_step, indices in steps(op):
                slots = tuple(Angle(used + int(np.ravel_multi_index(index, shape))) for index in indices)
                gates.append(Gate(name, tuple(order[w] for w in wires_of_step), slots))
            parameters.append(op.data[0])
            shapes.append(shape)
            places.append(place)
            used += math.prod(shape)
            place += 1
            continue
        base, inverse, controls, values = base_of(op)
        wires = tuple(order[w] for w in base.wires)
        control_numbers = tuple(order[w] for w in controls)
        if _fits(base) or is_tabled_channel(base):
            angles = []
            for number, value in enumerate(base.data):
                angles.append(Angle(used))
                parameters.append(value)
                shapes.append(())
                places.append(place + number)
                used += 1
            gates.append(Gate(base.name, wires, tuple(angles), control_numbers, values, word_of(base), b"", inverse))
        else:
            noisy = is_noise(base)
            matrix = _constant_superoperator(base) if noisy else base.matrix()
            if matrix is None:
                return None
            if is_traced(matrix) or len(qml.math.shape(matrix)) != 2 or (not noisy and len(wires) > MAX_MATRIX_WIRES):
                if not apart or noisy:
                    return None
                gates.append(Gate("Matrix", wires, (), control_numbers, values, inverse=inverse, slot=len(matrices)))
                matrices.append(matrix)
            else:
                data = matrix_bytes(qml.math.toarray(matrix) if qml.math.get_interface(matrix) != "numpy" else matrix)
                gates.append(Gate(SUPEROPERATOR if noisy else "Matrix", wires, (), control_numbers, values, "", data, inverse))
        place += len(op.data)
    sums = [pauli_sum(observable, order) for observable in observables]
    if any(s is None for s in sums):
        return None
    circuit = Circuit(len(order), tuple(gates), used, tuple(s for s in sums if s is not None))
    postselected = any(isinstance(op, qml.Projector) for op in operations)
    return Translation(circuit, tuple(parameters), tuple(shapes), tuple(places), start, tuple(matrices), postselected)


def parameter_matrix(found: Translation, batch_size: int | None) -> np.ndarray[Any, Any]:
    """The parameters of a translation, shape (batch, parameters), float64; without a batch, one row.

    Raises:
        SimulationError: A parameter is complex, infinite or not a number.
    """
    matrix = np.empty((batch_size or 1, found.circuit.n_parameters))
    at = 0
    for value, shape in zip(found.parameters, found.shapes, strict=True):
        size = math.prod(shape)
        array = np.real(value)
        if np.any(np.imag(value)):
            raise SimulationError(f"{_whose(found, at)} is complex: {value}; the angles of gates are real")
        matrix[:, at : at + size] = array.reshape((-1, size)) if shape else np.reshape(array, (-1, 1))
        at += size
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        where = f" in row {row} of the batch" if batch_size else ""
        raise SimulationError(f"{_whose(found, column)} is {matrix[row, column]}{where}; look where it comes from")
    return matrix


def _whose(found: Translation, column: int) -> str:
    """The gate that a parameter belongs to, for messages."""
    gate = next(g for g in found.circuit.gates if any(a.slot is not None and a.slot >= column for a in g.angles))
    return f"a parameter of {gate.name} on wires {list(gate.wires)}"
