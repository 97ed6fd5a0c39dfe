"""A circuit as frozen data: gates on numbered wires, whose angles are affine functions of a parameter vector that travels apart.

Two circuits that differ in their parameters only are equal, hash alike, and share one compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pl_hybridjobs.errors import SimulationError


@dataclass(frozen=True)
class Angle:
    """``shift + scale * parameters[slot]``; a constant if ``slot`` is None. Radians."""

    slot: int | None
    scale: float = 1.0
    shift: float = 0.0

    def __mul__(self, factor: float) -> Angle:
        return Angle(self.slot, self.scale * factor, self.shift * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Angle:
        return self * -1.0


def constant(value: float) -> Angle:
    """An angle that depends on no parameter."""
    return Angle(None, 0.0, value)


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: A row of ``gates.GATES``.
        wires: Wire numbers, in the gate's order.
        angles: Its parameters.
        controls: Further wires that select where it acts.
        control_values: For each control, the value that it must have.
        word: The Pauli word of a ``PauliRot``.
        matrix: The matrix of a ``Matrix`` gate, complex128 in C order as bytes; its size follows from ``wires``.
        inverse: Whether the inverse of the gate is meant.
        slot: Of a ``Matrix`` gate whose matrix travels apart, as parameters do: its place among them. The array engine runs it.
        conjugate: Whether its complex conjugate is meant (with ``inverse``: its transpose), which acts on the columns of a density matrix.
    """

    name: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    controls: tuple[int, ...] = ()
    control_values: tuple[bool, ...] = ()
    word: str = ""
    matrix: bytes = b""
    inverse: bool = False
    slot: int | None = None
    conjugate: bool = False

    def controlled(self, wires: Sequence[int], values: Sequence[bool]) -> Gate:
        """The gate with more controls."""
        return replace(self, controls=(*wires, *self.controls), control_values=(*values, *self.control_values))


@dataclass(frozen=True)
class PauliSum:
    """A Hermitian observable: a real combination of Pauli words.

    Attributes:
        coefficients: Real, one for each word.
        words: Each a tuple of (wire, "X" | "Y" | "Z"); empty for the identity.
    """

    coefficients: tuple[float, ...]
    words: tuple[tuple[tuple[int, str], ...], ...]


@dataclass(frozen=True)
class Circuit:
    """Gates in order, and the observables whose expectation values are wanted.

    Attributes:
        n_wires: Qubits; wire 0 is the most significant bit of a state's index.
        gates: In order of time.
        n_parameters: Length of the parameter vector.
        observables: Zero or more.
    """

    n_wires: int
    gates: tuple[Gate, ...]
    n_parameters: int = 0
    observables: tuple[PauliSum, ...] = ()

    def check(self) -> None:
        """Look for wires and slots that do not exist.

        Raises:
            SimulationError: All that is wrong.
        """
        wrong = []
        for number, gate in enumerate(self.gates):
            used = (*gate.wires, *gate.controls)
            if len(set(used)) < len(used):
                wrong.append(f"gate {number} ({gate.name}) uses a wire twice: {used}")
            if any(not 0 <= w < self.n_wires for w in used):
                wrong.append(f"gate {number} ({gate.name}) uses wires {used}, and there are wires 0 to {self.n_wires - 1}")
            if any(a.slot is not None and not 0 <= a.slot < self.n_parameters for a in gate.angles):
                wrong.append(f"gate {number} ({gate.name}) uses a parameter beyond the {self.n_parameters} that there are")
        for number, observable in enumerate(self.observables):
            if any(not 0 <= w < self.n_wires for word in observable.words for w, _ in word):
                wrong.append(f"observable {number} uses a wire beyond 0 to {self.n_wires - 1}")
        if wrong:
            raise SimulationError("; ".join(wrong))


def matrix_bytes(matrix: object) -> bytes:
    """A matrix as ``Gate.matrix`` holds it."""
    return np.ascontiguousarray(matrix, dtype=np.complex128).tobytes()
