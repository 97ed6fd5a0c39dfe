"""The adjoint gradient, compared with PennyLane's on random circuits."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pl_hybridjobs.emulator.devices import chosen
from pl_hybridjobs.emulator.gradients import gradient_of
from pl_hybridjobs.emulator.programs import read
from pl_hybridjobs.emulator.simulation import engine

WIRES = 3
#: Braket's gate, its wires, its angles, PennyLane's.
GATES = [
    ("rx", 1, 1, qml.RX),
    ("ry", 1, 1, qml.RY),
    ("rz", 1, 1, qml.RZ),
    ("phaseshift", 1, 1, qml.PhaseShift),
    ("xx", 2, 1, qml.IsingXX),
    ("yy", 2, 1, qml.IsingYY),
    ("zz", 2, 1, qml.IsingZZ),
    ("xy", 2, 1, qml.IsingXY),
    ("cphaseshift", 2, 1, qml.ControlledPhaseShift),
    ("pswap", 2, 1, qml.PSWAP),
    ("ctrl @ rx", 2, 1, qml.CRX),
    ("negctrl @ ry", 2, 1, lambda angle, wires: qml.ctrl(qml.RY(angle, wires[1]), wires[0], control_values=0)),
    ("inv @ rz", 1, 1, lambda angle, wires: qml.RZ(-angle, wires)),
    ("U", 1, 3, qml.U3),
    ("h", 1, 0, qml.Hadamard),
    ("cnot", 2, 0, qml.CNOT),
    ("ccnot", 3, 0, qml.Toffoli),
]
OBSERVABLES = [
    ("z(q[0])", qml.Z(0)),
    ("2 * x(q[0]) @ z(q[2]) - 0.5 * y(q[1])", 2 * qml.X(0) @ qml.Z(2) - 0.5 * qml.Y(1)),
    ("1e-1 * h(q[1]) + hermitian([[1, 2im], [-2im, -1]]) q[2]", 0.1 * qml.Hadamard(1) + qml.Hermitian(np.array([[1, 2j], [-2j, -1]]), 2)),
]


@st.composite
def circuits(draw):
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        row = draw(st.sampled_from(GATES))
        wires = draw(st.permutations(range(WIRES)))[: row[1]]
        angles = [(draw(st.sampled_from(["p_0", "p_1"])), draw(st.sampled_from([1.0, 2.0, -0.5]))) for _ in range(row[2])]
        rows.append((row, wires, angles))
    return rows, draw(st.sampled_from(OBSERVABLES))


def source_of(rows, observable):
    lines = ["OPENQASM 3.0;", "input float p_0;", "input float p_1;", f"qubit[{WIRES}] q;", *(f"h q[{n}];" for n in range(WIRES))]
    for (name, _, _, _), wires, angles in rows:
        given_angles = f"({', '.join(f'{factor} * {p}' for p, factor in angles)})" if angles else ""
        lines.append(f"{name}{given_angles} {', '.join(f'q[{w}]' for w in wires)};")
    return "\n".join([*lines, f"#pragma braket result adjoint_gradient expectation({observable}) p_0, p_1", ""])


def slope(function, params, direction, step=1e-3):
    """Central differences of fourth order: wrong by about 1e-12."""
    before2, before, after, after2 = (float(function(params + k * step * direction)) for k in (-2, -1, 1, 2))
    return (before2 - 8 * before + 8 * after - after2) / (12 * step)


@settings(max_examples=20)
@given(circuits(), st.floats(-3, 3), st.floats(-3, 3))
def test_value_and_gradient_are_those_of_default_qubit(drawn, first, second):
    rows, (text, observable) = drawn

    @qml.qnode(qml.device("default.qubit"), diff_method=None)
    def judge(params):
        for wire in range(WIRES):
            qml.Hadamard(wire)
        for (_, _, _, gate), wires, angles in rows:
            gate(*(factor * params[int(p[-1])] for p, factor in angles), wires=wires if len(wires) > 1 else wires[0])
        return qml.expval(observable)

    params = np.array([first, second])
    program = read(source_of(rows, text), {"p_0": first, "p_1": second}, 0, engine(chosen(["SV1"])[0], [0]))

    found = gradient_of(program)["value"]

    assert found["expectation"] == pytest.approx(float(judge(params)), abs=1e-9)
    for name, direction in (("p_0", np.array([1, 0])), ("p_1", np.array([0, 1]))):
        assert found["gradient"][name] == pytest.approx(slope(judge, params, direction), abs=1e-8)


def test_a_name_that_is_no_input_is_refused():
    program = read(source_of([], "z(q[0])").replace("p_0, p_1\n", "p_9\n"), {"p_0": 0.0, "p_1": 0.0}, 0, engine(chosen(["SV1"])[0], [0]))

    with pytest.raises(ValueError, match="p_9 is no input"):
        gradient_of(program)
