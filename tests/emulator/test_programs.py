"""Reading programs: texts that differ in numbers share a tree, and give what they say."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.emulator import programs, simulation
from pl_hybridjobs.emulator.devices import chosen

SV1, DM1 = chosen(["SV1"])[0], chosen(["DM1"])[0]


def result_of(device, source, kind, inputs):
    simulator = simulation.engine(device, [0])
    program = programs.read(f"OPENQASM 3.0;\n{source}#pragma braket result {kind}\n", inputs, 0, simulator)
    assert not programs.complaints_about(program, device, 0, experimental=False)
    [result] = simulation.run(program, simulator, 0).results
    return np.array(result["value"]) @ [1, 1j]


def state_of(source, **inputs):
    return result_of(SV1, source, "state_vector", inputs)


def density_matrix_of(source, **inputs):
    return result_of(DM1, source, "density_matrix", inputs)


@given(st.floats(-10, 10), st.sampled_from(["{:.17g}", "{:+e}", "{:f}", "  {:.3f} "]))
def test_a_number_means_what_it_says_however_it_is_written(angle, form):
    written = form.format(angle)

    state = state_of(f"qubit q;\nrx({written}) q;\n")

    half = float(written) / 2
    np.testing.assert_allclose(state, [np.cos(half), -1j * np.sin(half)], atol=1e-12)


def test_numbers_inputs_and_expressions_side_by_side():
    numbers = state_of("qubit[2] q;\nrx(0.5) q[0];\nU(0.1, 2, -3e-1) q[1];\n")
    expressions = state_of("input float a;\nqubit[2] q;\nrx(a / 2) q[0];\nU(0.1, 4 * 0.5, -0.3) q[1];\n", a=1.0)

    np.testing.assert_allclose(numbers, expressions, atol=1e-12)


def test_gate_definitions_and_loops_still_work():
    loop = state_of("qubit[2] q;\ngate twice(t) a { rx(t) a; rx(t) a; }\nfor int i in [0:1] { twice(0.25) q[i]; }\n")
    plain = state_of("qubit[2] q;\nrx(0.5) q[0];\nrx(0.5) q[1];\n")

    np.testing.assert_allclose(loop, plain, atol=1e-12)


@pytest.mark.parametrize("qubits", list(itertools.permutations(range(4), 3)), ids=str)
@pytest.mark.parametrize("gate", ["ry(0.7)", "rz(0.7)", "x", "phaseshift(0.7)", "iswap"])
def test_controlled_gates_act_whatever_the_order_of_their_qubits(gate, qubits):
    prepared = "qubit[4] q;\nh q;\nt q[1];\nt q[2];\nrx(0.3) q[0];\nry(0.4) q[3];\ncnot q[0], q[2];\n"
    control, *targets = qubits if gate == "iswap" else qubits[:2]
    operation = {"ry(0.7)": qml.RY(0.7, 0), "rz(0.7)": qml.RZ(0.7, 0), "phaseshift(0.7)": qml.PhaseShift(0.7, 0), "x": qml.X(0)}
    base = operation.get(gate, qml.ISWAP([0, 1]))

    found = state_of(f"{prepared}ctrl @ {gate} {', '.join(f'q[{qubit}]' for qubit in (control, *targets))};\n")

    mapped = base.map_wires(dict(zip(base.wires, targets, strict=True)))
    matrix = qml.matrix(qml.ctrl(mapped, control), wire_order=range(4))
    np.testing.assert_allclose(found, matrix @ state_of(prepared), atol=1e-12)


def test_controls_of_density_matrices_are_each_for_itself():
    program = "qubit[3] q;\nh q;\nnegctrl @ ctrl @ ry(0.7) q[0], q[1], q[2];\n"

    state, matrix = state_of(program), density_matrix_of(program)

    np.testing.assert_allclose(matrix, np.outer(state, state.conj()), atol=1e-12)


PLAIN = """
input float a;
qubit[3] q;
qubit r;
h q;
rx( 0.3 ) q[0];
ry(-2e-1)   q[1];
rz(a) q[2];
  U(pi, a, .5) r;
cnot q[0], q[2];
cnot q, r;
ctrl @
x q[1], r;
rx(a / 2) q[1];
swap q[0], q[1]; cz q[1], r;
ccnot q[0], q[1], r;
"""


def test_plain_gates_are_what_the_interpreter_makes_of_them():
    """A comment leaves all to the interpreter."""
    text, runs = programs._without_gates(PLAIN)

    assert [len(run) for run in runs] == [7, 1]
    assert "rz" not in text
    np.testing.assert_array_equal(state_of(PLAIN, a=0.7), state_of(f"// a comment\n{PLAIN}", a=0.7))


def test_gates_in_a_comment_are_not_applied():
    np.testing.assert_array_equal(state_of("qubit q;\nh q;\n/*;\nx q;\n*/\n"), state_of("qubit q;\nh q;\n"))


@pytest.mark.parametrize(
    "line", ["x q[2];", "x p[0];", "rx(b) q[0];", "rx q[0];", "cnot q, p;", "foo(1) q[0];", "x q[0]", "x $q;", "rx(1, 2) q[0];"]
)
def test_wrong_gates_are_refused_in_the_interpreters_words(line):
    def refused(text):
        with pytest.raises(ValueError, match="cannot be read") as caught:
            programs.read(f"OPENQASM 3.0;\nqubit[2] q;\nh q[0];\n{line}\n{text}", {}, 0, simulation.engine(SV1, [0]))
        return str(caught.value)

    assert refused("") == refused("// a comment\n")


def test_texts_that_differ_in_their_gates_share_one_tree():
    before = programs._tree.cache_info().misses

    for n in range(20):
        state_of("qubit[5] q;\n" + "h q[0];\n" * (n + 1) + f"rx({n}.25) q[{n % 5}];\n")

    assert programs._tree.cache_info().misses <= before + 1


def test_texts_that_differ_in_numbers_share_one_tree():
    before = programs._tree.cache_info().misses

    for n in range(20):
        state_of(f"qubit[3] q;\nrx({n}.25) q[0];\nry(-{n}e-1) q[2];\n")

    assert programs._tree.cache_info().misses <= before + 1


def test_wide_circuits_in_many_threads_at_once():
    """The default simulator's loops for wide circuits would end the process: numba's workqueue threads are one caller's."""
    text = "OPENQASM 3.0;\nqubit[12] q;\nh q;\n" + "".join(f"cnot q[{n}], q[{n + 1}];\nrx(0.3) q[{n}];\n" for n in range(11))

    def run(_):
        simulator = simulation.engine(SV1, [0])
        program = programs.read(text + "#pragma braket result expectation x(q[3]) @ y(q[7])\n", {}, 0, simulator)
        return simulation.run(program, simulator, 0).results[0]["value"]

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(run, range(12)))

    assert len(set(values)) == 1


def test_a_program_is_not_changed_by_the_run_of_another():
    source = "input float t;\nqubit q;\nrx(t) q;\n"

    states = [state_of(source, t=t) for t in (0.0, np.pi, 0.0)]

    np.testing.assert_allclose(np.abs(states) ** 2, [[1, 0], [0, 1], [1, 0]], atol=1e-12)
