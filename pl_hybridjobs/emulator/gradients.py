"""The ``adjoint_gradient`` result type, which the default simulator does not have: a reverse sweep over the dense state.

Jones and Gacon, "Efficient calculation of gradients in classical simulations of variational quantum algorithms", arXiv:2009.02823.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from braket.default_simulator.openqasm.program_context import ProgramContext
from braket.default_simulator.result_types import _from_braket_observable
from sympy import Expr, Symbol

from pl_hybridjobs.emulator.programs import GRADIENT, Program, interpret

Array = np.ndarray[Any, Any]

_NUMBER = r"[-+]?\s*(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COEFFICIENT = re.compile(rf"^\s*({_NUMBER})\s*\*\s*(.*)$", re.S)
#: Matrices of gates are differentiated by differences of fourth order: wrong by about 1e-13 at this step.
_STEP = 1e-3


def gradient_of(program: Program) -> dict[str, Any]:
    """Value and derivatives of the observable's expectation value.

    Returns:
        ``{"type": ..., "value": {"expectation": float, "gradient": {name: float}}}``.

    Raises:
        ValueError: The observable cannot be read, or a name is no input.
    """
    asked = program.gradient
    assert asked is not None
    terms = [_term(text) for text in _summands(asked.observable)]
    pragmas = "\n".join(f"#pragma braket result expectation {text}" for _, text in terms)
    context = ProgramContext()
    interpret(f"{GRADIENT.sub('', program.source)}\n{pragmas}\n", {}, context)
    circuit = context.circuit
    numbers = {qubit: place for place, qubit in enumerate(sorted(circuit.qubit_set))}
    names = asked.names or tuple(sorted(program.inputs))
    unknown = [name for name in names if name not in program.inputs]
    if unknown:
        raise ValueError(f"adjoint_gradient: {', '.join(unknown)} is no input of the program")

    gates = [(copy.copy(gate), _symbolic(gate)) for gate in circuit.instructions]
    for gate, _ in gates:
        gate._targets = tuple(numbers[qubit] for qubit in gate.targets)
    state = np.zeros((2,) * len(numbers), dtype=complex)
    state[(0,) * len(numbers)] = 1
    for gate, angles in gates:
        state = _applied(state, gate, _matrix(gate, _values(angles, program.inputs)))
    costate = _observed(state, terms, circuit.results, numbers)
    value = float(np.vdot(state, costate).real)

    gradient = dict.fromkeys(names, 0.0)
    for gate, angles in reversed(gates):
        values = _values(angles, program.inputs)
        inverse = _matrix(gate, values).conj().T
        state = _applied(state, gate, inverse)
        for attribute, angle in angles.items():
            slope = None
            for symbol in angle.free_symbols:
                if symbol.name not in gradient:
                    continue
                if slope is None:
                    slope = 2 * np.vdot(costate, _applied(state, gate, _derivative(gate, values, attribute), off=0)).real
                inner = angle.diff(symbol).subs({Symbol(k): v for k, v in program.inputs.items()})
                gradient[symbol.name] += float(slope) * float(inner)
        costate = _applied(costate, gate, inverse)
    kind = {
        "type": "adjoint_gradient",
        "targets": [list(result.targets) for result in circuit.results],
        "observable": " + ".join(_written(term, result) for term, result in zip(terms, circuit.results, strict=True)),
        "parameters": list(names),
    }
    return {"type": kind, "value": {"expectation": value, "gradient": gradient}}


def _summands(text: str) -> list[str]:
    """``"2 * x(q[0]) - hermitian([[1, 0], [0, 1+2im]]) q[1]"`` in its two parts: signs within brackets and exponents part nothing."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        depth += letter in "([{"
        depth -= letter in ")]}"
        before = text[begin:place].rstrip()
        if letter in "+-" and depth == 0 and before and before[-1] not in "*@+-" and not re.search(r"\d[eE]$", text[begin:place]):
            parts.append(before)
            begin = place if letter == "-" else place + 1
    return [part.strip() for part in (*parts, text[begin:])]


def _term(text: str) -> tuple[float, str]:
    found = _COEFFICIENT.match(text)
    if found:
        return float("".join(found[1].split())), found[2].strip()
    if text.startswith("-"):
        return -1.0, text[1:].strip()
    return 1.0, text


def _written(term: tuple[float, str], result: Any) -> str:
    factors = (factor if isinstance(factor, str) else "hermitian" for factor in result.observable)
    return f"{term[0]:g} * {' @ '.join(factors)}" if term[0] != 1 else " @ ".join(factors)


def _observed(state: Array, terms: list[tuple[float, str]], results: list[Any], numbers: Mapping[int, int]) -> Array:
    """The observable applied to the state."""
    total = np.zeros_like(state)
    for (weight, text), result in zip(terms, results, strict=True):
        if result.targets is None:
            raise ValueError(f"adjoint_gradient: the observable {text} names no qubit")
        total += weight * _from_braket_observable(result.observable, [numbers[q] for q in result.targets]).apply(state)
    return total


def _symbolic(gate: Any) -> dict[str, Expr]:
    """What of a gate is not a number yet, by attribute."""
    return {name: value for name, value in vars(gate).items() if isinstance(value, Expr) and value.free_symbols}


def _values(angles: Mapping[str, Any], inputs: Mapping[str, float]) -> dict[str, float]:
    return {name: float(angle.subs({Symbol(k): v for k, v in inputs.items()})) for name, angle in angles.items()}


def _matrix(gate: Any, values: Mapping[str, float]) -> Array:
    for name, value in values.items():
        setattr(gate, name, value)
    return np.asarray(gate.matrix, dtype=complex)


def _derivative(gate: Any, values: Mapping[str, float], attribute: str) -> Array:
    at = [_matrix(gate, {**values, attribute: values[attribute] + k * _STEP}) for k in (-2, -1, 1, 2)]
    _matrix(gate, values)
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * _STEP)


def _applied(state: Array, gate: Any, matrix: Array, *, off: complex = 1) -> Array:
    """A gate's matrix on its targets; where its controls are off, the state times ``off``."""
    count = len(gate.control_state)
    where: list[Any] = [slice(None)] * state.ndim
    for qubit, level in zip(gate.targets[:count], gate.control_state, strict=True):
        where[qubit] = slice(level, level + 1)
    out = off * state
    if len(matrix) == 1:  # a global phase, which has no target
        out[tuple(where)] = matrix[0, 0] * state[tuple(where)]
        return out
    targets = gate.targets[count:]
    half = len(targets)
    changed = np.tensordot(matrix.reshape((2,) * (2 * half)), state[tuple(where)], (range(half, 2 * half), targets))
    out[tuple(where)] = np.moveaxis(changed, range(half), targets)
    return out
