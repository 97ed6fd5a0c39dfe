"""Numbers, matrices, qubits and names as OpenQASM writes them: no bit is lost, and what is no number is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import Any

import numpy as np
import pennylane as qml

from pl_hybridjobs.devices.openqasm.complaints import Untranslatable
from pl_hybridjobs.devices.openqasm.tables import RESERVED

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_KEPT = 100_000


def real(value: Any) -> float:
    """A number of any library as a float.

    Raises:
        Untranslatable: It is an array, complex, traced, infinite or not a number.
    """
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if qml.math.shape(value) != ():
        raise Untranslatable("has an array for a number; take its entries apart (qml.transforms.broadcast_expand)")
    if "Tracer" in type(value).__name__:
        raise Untranslatable("has a traced number, which has no value yet; run it outside of jit")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise Untranslatable(f"has {type(value).__name__} {value} where a real number must be") from error
    if not math.isfinite(number):
        raise Untranslatable(f"has the parameter {number}; look where it comes from")
    return number


def matrix(value: Any) -> str:
    """A complex matrix as Braket's pragmas take it.

    Raises:
        Untranslatable: An entry is infinite or not a number, or the matrix is none.
    """
    found = np.asarray(qml.math.toarray(value), dtype=complex)
    if found.ndim != 2:
        raise Untranslatable("has a batch of matrices; take them apart (qml.transforms.broadcast_expand)")
    if not np.isfinite(found).all():
        raise Untranslatable("has a matrix with entries that are infinite or not a number; look where it comes from")
    rows = ("[" + ", ".join(map(_complex, row)) + "]" for row in found.tolist())
    return "[" + ", ".join(rows) + "]"


def _complex(number: complex) -> str:
    imaginary = number.imag + 0.0  # not -0.0, whose sign would stand twice
    return f"{number.real!r}{'-' if imaginary < 0 else '+'}{abs(imaginary)!r}im" if imaginary else repr(number.real)


def is_identifier(name: str) -> bool:
    """Whether an input can have this name, reserved or not."""
    return _IDENTIFIER.fullmatch(name) is not None


def escaped(name: str, taken: Container[str]) -> str:
    """A name that neither the language, nor Braket, nor we use already: the given one, or with underscores behind."""
    while name in RESERVED or name in taken:
        name += "_"
    return name


class Targets(dict[tuple[Any, ...], str]):
    """Wires -> their qubits as text, made once for each tuple of wires.

    Args:
        form: Of one qubit, with a place for its number: ``"q[{}]"`` or ``"${}"``.
        numbers: Wire -> its number; None: the wire is its number.
    """

    def __init__(self, form: str, numbers: dict[int, int] | None = None) -> None:
        super().__init__()
        self.form, self.numbers = form, numbers

    def __missing__(self, wires: tuple[Any, ...]) -> str:
        if len(self) > _MAX_KEPT:
            self.clear()
        self[wires] = text = ", ".join([self.form.format(self._number(wire)) for wire in wires])
        return text

    def _number(self, wire: Any) -> int:
        if isinstance(wire, bool) or not isinstance(wire, int | np.integer) or wire < 0:
            raise Untranslatable(f"is on wire {wire!r}; wires must be 0, 1, ...: circuit.map_to_standard_wires() makes them so")
        if self.numbers is None:
            return int(wire)
        if wire not in self.numbers:
            raise Untranslatable(f"is on wire {wire}, for which no qubit is given; name one for each wire")
        return self.numbers[int(wire)]


#: That of most circuits, kept from one to the next.
VIRTUAL = Targets("q[{}]")
PHYSICAL = Targets("${}")
