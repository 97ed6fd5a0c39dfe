"""The text that goes to Braket, run by Braket's own simulator, beside PennyLane's simulators and the text that Braket's SDK writes."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import openqasm3
import pennylane as qml
import pytest
from braket.circuits import Circuit, FreeParameter, ResultType
from braket.circuits.observables import Hermitian, X, Y, Z
from braket.circuits.serialization import IRType, OpenQASMSerializationProperties, QubitReferenceType
from braket.default_simulator import DensityMatrixSimulator, StateVectorSimulator
from braket.default_simulator.gate_operations import BRAKET_GATES
from braket.default_simulator.openqasm.interpreter import Interpreter
from braket.ir.openqasm import Program as BraketProgram
from braket.ir.openqasm import ProgramSet
from braket.pennylane_plugin import ops as plugin
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices.openqasm import analytic_of, channels_of, dumps, dumps_many, gates_of, observables_of, structure_key, tables
from pl_hybridjobs.errors import TranslationError

MODIFIERS = ("ctrl", "negctrl", "inv", "pow")
ANGLE = 0.7312


# --- helpers ---------------------------------------------------------------------------------------------------------------------


def run(program, shots=0, *, noisy=False):
    """What Braket's simulator answers; the text has to please the reference parser, too."""
    openqasm3.parse(program.source)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are running a noise-free circuit")
        simulator = DensityMatrixSimulator() if noisy else StateVectorSimulator()
        return simulator.run(BraketProgram(source=program.source, inputs=dict(program.inputs)), shots=shots)


def values(program, *, noisy=False):
    """One value for each measurement of an analytic circuit."""
    return program.values([result.value for result in run(program, noisy=noisy).resultTypes])


def read(program, n):
    """The final state of a program as Braket's interpreter reads it and PennyLane computes it.

    For modifiers: amazon-braket-default-simulator 1.41 applies some controls wrongly, `ctrl @ x q[2], q[0]` on 4 qubits for one.
    """
    operations = [qml.Identity(wire) for wire in range(n)]
    for op in Interpreter().build_circuit(program.source).instructions:
        if op.targets:
            operations.append(qml.ControlledQubitUnitary(op.matrix, wires=list(op.targets), control_values=list(op.control_state)))
        else:
            operations.append(qml.GlobalPhase(-np.angle(op.matrix.item())))
    return expected(QuantumScript(operations, [qml.state()]))[0]


def samples(circuit, shots, **options):
    """One array of bits for each measurement, shape (shots, bits)."""
    program = dumps(circuit, shots=shots, **options)
    measured = np.array(run(program, shots).measurements, dtype=int)
    assert measured.shape == (shots, len(program.measured))
    return [measured[:, list(bits)] for bits in program.bits]


def expected(circuit, *, noisy=False):
    found = qml.device("default.mixed" if noisy else "default.qubit", wires=len(circuit.wires)).execute(circuit)
    return found if len(circuit.measurements) > 1 else [found]


def start(n, seed=0):
    """A state without symmetry, on wires 0, 1, ... in this order."""
    rng = np.random.default_rng(seed)
    turns = [qml.U3(*map(float, rng.uniform(-3, 3, 3)), wires=wire) for wire in range(n)]
    return turns + [qml.CNOT([wire, wire + 1]) for wire in range(n - 1)]


def assert_same_state(operations, n=3, **options):
    circuit = QuantumScript([*start(n), *operations], [qml.state()])
    program = dumps(circuit, shots=0, **options)

    found = read(program, n) if options else values(program)[0]

    np.testing.assert_allclose(found, expected(circuit)[0], atol=1e-12)


def operator(name, wires, angles):
    if name.startswith("Adjoint("):
        return qml.adjoint(operator(name[8:-1], wires, angles), lazy=True)
    return getattr(qml if hasattr(qml, name) else plugin, name)(*angles, wires=wires)


def complaints_of(circuit, **options):
    with pytest.raises(TranslationError) as caught:
        dumps(circuit, **{"shots": 0, **options})
    return str(caught.value)


def script(*operations, measure=None):
    return QuantumScript(list(operations), [qml.probs(wires=0)] if measure is None else measure)


# --- gates -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tables.GATES)
def test_each_gate_is_the_same_matrix_in_braket(name):
    row = tables.GATES[name]
    angles = np.random.default_rng(len(name)).uniform(-3, 3, row.angles).tolist()
    op = operator(name, [2, 0, 1][: row.wires], angles)
    assert op.name == name

    assert_same_state([op])


def test_every_gate_that_braket_knows_has_a_row():
    known = {row.braket for row in tables.GATES.values()} | {tables.CONTROLLED_ROOT[1].braket}

    assert known == set(BRAKET_GATES) - {"unitary", "gphase"}


@pytest.mark.parametrize(
    ("op", "line"),
    [
        (qml.GlobalPhase(ANGLE), f"gphase(-{ANGLE});"),
        (qml.ctrl(qml.SX(1), 0), "cv q[0], q[1];"),
        (qml.ctrl(qml.SX(1), 0, control_values=[0]), "negctrl @ v q[0], q[1];"),
        (qml.ctrl(qml.SX(2), [0, 1]), "ctrl @ ctrl @ v q[0], q[1], q[2];"),
        (qml.CRX(ANGLE, [2, 0]), f"ctrl @ rx({ANGLE}) q[2], q[0];"),
        (qml.CH([0, 1]), "ctrl @ h q[0], q[1];"),
        (qml.CCZ([0, 1, 2]), "ctrl @ ctrl @ z q[0], q[1], q[2];"),
        (qml.MultiControlledX([0, 1, 2], [1, 0]), "ctrl @ negctrl @ x q[0], q[1], q[2];"),
        (qml.ctrl(qml.U3(0.1, 0.2, 0.3, 1), 0), "ctrl @ U(0.1, 0.2, 0.3) q[0], q[1];"),
        (qml.ctrl(qml.adjoint(qml.T(1)), 2), "ctrl @ ti q[2], q[1];"),
        (qml.adjoint(qml.ctrl(qml.T(1), 2)), "inv @ ctrl @ t q[2], q[1];"),
        (qml.adjoint(qml.U2(0.1, 0.2, 1)), f"inv @ U({math.pi / 2!r}, 0.1, 0.2) q[1];"),
        (qml.adjoint(qml.CRY(ANGLE, [1, 0])), None),
        (qml.pow(qml.S(0), 0.3, lazy=True), "pow(0.3) @ s q[0];"),
        (qml.pow(qml.RX(ANGLE, 0), -2, lazy=True), f"pow(-2) @ rx({ANGLE}) q[0];"),
        (qml.adjoint(qml.pow(qml.X(0), 0.5, lazy=True)), None),
        (qml.ctrl(qml.pow(qml.ISWAP([0, 1]), 0.5, lazy=True), 2), None),
        (qml.ctrl(qml.GlobalPhase(ANGLE), 1), f"phaseshift(-{ANGLE}) q[1];"),
        (qml.ctrl(qml.GlobalPhase(ANGLE), [1, 0], control_values=[1, 0]), f"negctrl @ phaseshift(-{ANGLE}) q[0], q[1];"),
        (qml.ctrl(qml.GlobalPhase(ANGLE), [1, 0], control_values=[0, 0]), None),
        (qml.adjoint(qml.ctrl(qml.GlobalPhase(ANGLE), 1)), f"phaseshift({ANGLE}) q[1];"),
        (qml.Identity([0, 2]), None),
    ],
    ids=lambda value: value.name if isinstance(value, qml.operation.Operator) else "",
)
def test_phases_controls_inverses_and_powers(op, line):
    program = dumps(QuantumScript([*start(3), op], [qml.state()]), shots=0, modifiers=MODIFIERS)

    if line is not None:
        assert line in program.source.splitlines()
    assert_same_state([op], modifiers=MODIFIERS)


def random_matrix(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))[0]


def test_matrices_of_up_to_three_wires_with_controls_and_inverses():
    rng = np.random.default_rng(3)
    one, two, three = (random_matrix(rng, 2**k) for k in (1, 2, 3))
    assert_same_state(
        [
            qml.QubitUnitary(one, 1),
            qml.adjoint(qml.QubitUnitary(two, [2, 0])),
            qml.QubitUnitary(three, [1, 2, 0]),
            qml.ControlledQubitUnitary(two, wires=[2, 0, 1], control_values=[0]),
            qml.DiagonalQubitUnitary(np.exp(1j * rng.normal(size=4)), [0, 2]),
            qml.QubitUnitary(1e-9 * np.eye(2) + np.diag([1, -1j]), 0),
        ]
    )


def a_gate(draw, n, *, noise=False, modifiers=False):
    """A random operator on some of n wires."""
    wires = draw(st.permutations(range(n)))
    angle = st.floats(-10, 10) | st.sampled_from([0.0, -0.0, 1e-300, 1e-05, math.pi, np.float64(-2.5), 3])
    if noise and draw(st.booleans()):
        return a_channel(draw, wires)
    name = draw(st.sampled_from(sorted(tables.GATES)))
    row = tables.GATES[name]
    if row.wires > n:
        return qml.Hadamard(wires[0])
    op = operator(name, wires[: row.wires], [draw(angle) for _ in range(row.angles)])
    if not modifiers:
        return qml.GlobalPhase(draw(angle)) if draw(st.integers(0, 10)) == 0 else op
    match draw(st.integers(0, 5)) if row.wires < n else 0:
        case 1:
            return qml.ctrl(op, wires[row.wires], control_values=draw(st.booleans()))
        case 2:
            return qml.adjoint(op)
        case 3 if n > row.wires + 1:
            return qml.ctrl(op, wires[row.wires : row.wires + 2], control_values=[draw(st.booleans()), draw(st.booleans())])
        case 4:
            return qml.GlobalPhase(draw(angle))
        case _:
            return op


def a_channel(draw, wires):
    p = draw(st.floats(1e-3, 0.999))  # PennyLane adds 1e-16 below some roots, which shows at the edges
    choices = [
        lambda: qml.BitFlip(p, wires[0]),
        lambda: qml.PhaseFlip(p, wires[0]),
        lambda: qml.DepolarizingChannel(p, wires[0]),
        lambda: qml.AmplitudeDamping(p, wires[0]),
        lambda: qml.GeneralizedAmplitudeDamping(p, draw(st.floats(1e-3, 0.999)), wires[0]),
        lambda: qml.PhaseDamping(p, wires[0]),
        lambda: qml.PauliError(draw(st.sampled_from("XYZ")), p, wires[0]),
        lambda: qml.PauliError(draw(st.sampled_from(["XY", "ZZ", "YI"])), p, wires[:2]),
        lambda: qml.ResetError(p / 2, p / 3, wires[0]),
        lambda: qml.ThermalRelaxationError(p, 1.1, 1.3, draw(st.floats(0.1, 2)), wires[0]),
        lambda: qml.QubitChannel(qml.GeneralizedAmplitudeDamping(p, 0.3, 0).kraus_matrices(), wires[0]),
        lambda: qml.QubitChannel([math.sqrt(1 - p) * np.eye(4), math.sqrt(p) * np.kron([[0, 1], [1, 0]], [[1, 0], [0, -1]])], wires[:2]),
    ]
    return draw(st.sampled_from(choices))()


@st.composite
def circuits(draw, *, noise=False, modifiers=False):
    n = draw(st.integers(2, 3) if noise else st.integers(2, 4))
    gates = [a_gate(draw, n, noise=noise, modifiers=modifiers) for _ in range(draw(st.integers(1, 12)))]
    measured = draw(st.permutations(range(n)))[: draw(st.integers(1, n))]
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    word = qml.prod(*(rng.choice([qml.X, qml.Y, qml.Z, qml.Hadamard])(wire) for wire in measured))
    energy = qml.dot(rng.normal(size=3), [qml.X(0) @ qml.Y(1), qml.Z(n - 1), qml.Identity(0)])
    matrix = random_matrix(rng, 2)
    measurements = [
        qml.density_matrix(range(n)) if noise else qml.state(),
        qml.probs(wires=measured),
        qml.expval(word),
        qml.var(word),
        qml.expval(energy),
        qml.expval(qml.Hermitian(matrix + matrix.conj().T, measured[0])),
    ]
    return QuantumScript(start(n, 1) + gates, measurements)


@given(circuits())
@settings(max_examples=40)
def test_random_circuits_say_the_same_to_braket_and_pennylane(circuit):
    program = dumps(circuit, shots=0)

    for found, wanted in zip(values(program), expected(circuit), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-9)


@given(circuits(modifiers=True))
@settings(max_examples=40)
def test_random_circuits_with_modifiers_mean_the_same_to_brakets_interpreter(circuit):
    circuit = QuantumScript(circuit.operations, [qml.state()])

    found = read(dumps(circuit, shots=0, modifiers=MODIFIERS), len(circuit.wires))

    np.testing.assert_allclose(found, expected(circuit)[0], atol=1e-9)


@given(circuits(noise=True))
@settings(max_examples=15)
def test_random_noisy_circuits_say_the_same_to_braket_and_pennylane(circuit):
    with warnings.catch_warnings():  # PennyLane's own: a Pauli error with Y loses an imaginary part that is 0
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        wanted = expected(circuit, noisy=True)
        program = dumps(circuit, shots=0)

    for found, value in zip(values(program, noisy=True), wanted, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-9)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_no_bit_of_a_number_is_lost(angles):
    program = dumps(script(*(qml.RX(angle, 0) for angle in angles)), shots=0)
    inputs = dumps(script(*(qml.RX(angle, 0) for angle in angles)), shots=0, parameters={i: f"a{i}" for i in range(len(angles))}).inputs

    assert [float(text) for text in re.findall(r"rx\((.*)\) q", program.source)] == angles
    assert list(inputs.values()) == angles


# --- noise -----------------------------------------------------------------------------------------------------------------------


def test_generalized_amplitude_damping_has_brakets_probability_of_going_down():
    circuit = script(qml.X(0), qml.GeneralizedAmplitudeDamping(0.5, 0.75, 0))
    program = dumps(circuit, shots=0)

    assert "#pragma braket noise generalized_amplitude_damping(0.5, 0.25) q[0]" in program.source
    np.testing.assert_allclose(values(program, noisy=True)[0], expected(circuit, noisy=True)[0], atol=1e-12)


def test_a_pauli_error_on_one_wire_is_a_pauli_channel_and_on_two_a_kraus_map():
    text = dumps(script(qml.PauliError("Y", 0.25, 0), qml.PauliError("XZ", 0.25, [0, 1])), shots=0).source

    assert "#pragma braket noise pauli_channel(0.0, 0.25, 0.0) q[0]" in text
    assert re.search(r"#pragma braket noise kraus\(.*\) q\[0\], q\[1\]", text)


def test_noise_that_braket_cannot_say_is_refused_with_what_would_work():
    said = complaints_of(script(qml.PauliError("XYZ", 0.1, [0, 1, 2]), qml.QubitDensityMatrix(np.eye(2) / 2, 0)))

    assert "PauliError (operation 0) is noise on 3 wires; Braket has that on one or two" in said
    assert "QubitDensityMatrix (operation 1)" in said


# --- measurements ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "observable",
    [
        qml.Z(2) @ qml.X(0) @ qml.Hadamard(1),
        2.5 * qml.Y(1) - 0.5 * qml.Z(0) @ qml.Z(2) + qml.Identity(1),
        qml.Hamiltonian([0.3, -1.0], [qml.Hadamard(0) @ qml.X(1), qml.Z(1)]),
        qml.Hermitian(np.array([[1, 2j], [-2j, -1e-05]]), 1) @ qml.Z(0),
        qml.Hermitian(np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1, [2, 0]),
        qml.Projector([1, 0], [2, 0]),
        qml.Projector(np.array([1, 1j]) / math.sqrt(2), [1]),
        3 * (qml.Hadamard(0) @ (qml.Hadamard(1) + 0.5 * qml.Z(2))),
        qml.Identity(0),
        0.0 * qml.Z(0),
        qml.Z(0) @ qml.Z(0),
    ],
    ids=str,
)
def test_expectation_values_are_weighted_sums_of_result_types(observable):
    circuit = QuantumScript([*start(3), qml.RX(0.4, 2)], [qml.expval(observable)])

    np.testing.assert_allclose(values(dumps(circuit, shots=0)), expected(circuit), atol=1e-12)


def test_variance_probabilities_and_reduced_states_keep_their_order_of_wires():
    measured = [
        qml.var(-3 * qml.X(2) @ qml.Y(0)),
        qml.var(qml.Projector([1], 1)),
        qml.probs(wires=[2, 0]),
        qml.probs(wires=[2, 0, 1]),
        qml.probs(wires=[0, 1, 2]),
        qml.density_matrix([1]),
        qml.density_matrix([2, 0]),
        qml.density_matrix([1, 2, 0]),
        qml.state(),
    ]
    circuit = QuantumScript(start(3), measured)

    for found, wanted in zip(values(dumps(circuit, shots=0)), expected(circuit), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_equal_result_types_are_asked_for_once():
    program = dumps(QuantumScript(start(2), [qml.expval(qml.Z(0) + qml.X(1)), qml.expval(3 * qml.Z(0))]), shots=0)

    assert program.source.count("#pragma braket result") == 2
    assert program.results == (((1.0, 0), (1.0, 1)), ((3.0, 0),))


def test_wires_with_gaps_are_numbered_without():
    circuit = QuantumScript([qml.X(7), qml.CNOT([7, 3])], [qml.probs(wires=[3, 5, 7]), qml.state()])
    program = dumps(circuit, shots=0)

    assert program.wires == (3, 5, 7)
    assert "qubit[3] q;\nx q[2];\ncnot q[2], q[0];\ni q[1];\n#pragma braket result probability q[0], q[1], q[2]" in program.source
    assert np.argmax(values(program)[1]) == 0b101


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0], [2], [1, 2]])
def test_measured_bits_stand_in_the_order_of_the_wires(order):
    circuit = QuantumScript([qml.X(1), qml.X(3)], [qml.sample(wires=order), qml.counts(wires=order[::-1])])

    first, second = samples(circuit, 5)

    assert np.array_equal(first, [[wire % 2 for wire in order]] * 5)
    assert np.array_equal(second, first[:, ::-1])


def test_samples_of_observables_are_result_types_in_one_basis():
    program = dumps(QuantumScript(start(2), [qml.sample(qml.Z(0)), qml.counts(2 * qml.Z(0) @ qml.X(1)), qml.expval(qml.X(1))]), shots=10)

    assert "#pragma braket result sample z(q[0]) @ x(q[1])" in program.source
    assert program.results == (((1.0, 0),), ((2.0, 1),), ((1.0, 2),))
    said = complaints_of(QuantumScript(start(2), [qml.expval(qml.Z(0)), qml.expval(qml.X(0))]), shots=10)
    assert "split_non_commuting" in said


# --- within the circuit ----------------------------------------------------------------------------------------------------------


def recorded(function):
    with qml.queuing.AnnotatedQueue() as queue:
        function()
    return QuantumScript.from_queue(queue)


def teleport():
    """An outcome, a correction by two outcomes, a reset, and a final measurement."""
    qml.RY(1.1, 0)
    qml.H(1)
    qml.CNOT([1, 2])
    qml.CNOT([0, 1])
    qml.H(0)
    first, second = qml.measure(0, reset=True), qml.measure(1)
    qml.cond(second, qml.X)(2)
    qml.cond(first, qml.PauliZ)(2)
    qml.cond((first == 1) | (second == 0), qml.X, qml.Identity)(0)
    qml.sample(op=[first, second])
    qml.sample(wires=[2, 0])


def test_outcomes_steer_later_gates_on_brakets_simulator():
    shots = 4000
    outcomes, final = samples(recorded(teleport), shots, mid_circuit="openqasm")

    counts = Counter(map(tuple, outcomes))
    assert all(abs(counts[bits] / shots - 0.25) < 0.05 for bits in [(0, 0), (0, 1), (1, 0), (1, 1)])
    assert abs(final[:, 0].mean() - math.sin(0.55) ** 2) < 0.05  # the state of wire 0 has gone to wire 2
    assert np.array_equal(final[:, 1], (outcomes[:, 0] == 1) | (outcomes[:, 1] == 0))


def test_feed_forward_in_iqms_words():
    def circuit():
        qml.H(0)
        outcome = qml.measure(0, reset=True)
        qml.cond(outcome, qml.X)(1)
        qml.cond(outcome, qml.RY)(0.5, 1)
        qml.cond(outcome, plugin.PRx)(0.5, 0.25, wires=1)
        qml.sample(wires=1)

    text = dumps(recorded(circuit), shots=10, mid_circuit="iqm", qubits=[4, 9]).source

    assert f"measure_ff(0) $4;\ncc_prx({math.pi!r}, 0.0, 0) $4;\n" in text
    assert f"cc_prx({math.pi!r}, 0.0, 0) $9;\ncc_prx(0.5, {math.pi / 2!r}, 0) $9;\ncc_prx(0.5, 0.25, 0) $9;" in text
    assert "b[0] = measure $9;" in text
    openqasm3.parse(text)


def test_devices_that_cannot_measure_within_the_circuit_are_told_so():
    said = complaints_of(recorded(teleport), shots=10)

    assert "MidMeasureMP (operation 5, operation 6) is within the circuit" in said
    assert "qml.defer_measurements" in said


# --- beside the SDK --------------------------------------------------------------------------------------------------------------


def sdk_text(circuit, *, physical=False):
    kind = QubitReferenceType.PHYSICAL if physical else QubitReferenceType.VIRTUAL
    return circuit.to_ir(ir_type=IRType.OPENQASM, serialization_properties=OpenQASMSerializationProperties(kind)).source


def test_the_sdk_writes_the_same_measured_circuit():
    theirs = Circuit().h(0).cnot(0, 1).rx(2, 0.1).ry(1, -2.5e-07).rz(0, 1e22).phaseshift(2, math.pi).u(1, 0.1, 0.2, 0.3).si(0)
    theirs.cphaseshift(0, 2, 0.5).xy(1, 2, 0.25).ccnot(0, 1, 2).pswap(1, 0, 0.75).ms(0, 1, 0.1, 0.2, 0.3).prx(2, 0.4, 0.5)
    ours = QuantumScript(
        [
            qml.H(0),
            qml.CNOT([0, 1]),
            qml.RX(0.1, 2),
            qml.RY(-2.5e-07, 1),
            qml.RZ(1e22, 0),
            qml.PhaseShift(math.pi, 2),
            qml.U3(0.1, 0.2, 0.3, 1),
            qml.adjoint(qml.S(0)),
            qml.ControlledPhaseShift(0.5, [0, 2]),
            qml.IsingXY(0.25, [1, 2]),
            qml.Toffoli([0, 1, 2]),
            qml.PSWAP(0.75, [1, 0]),
            plugin.AAMS(0.1, 0.2, 0.3, wires=[0, 1]),
            plugin.PRx(0.4, 0.5, wires=2),
        ],
        [qml.sample(wires=[0, 1, 2])],
    )

    assert dumps(ours, shots=10).source == sdk_text(theirs)
    assert dumps(ours, shots=10, qubits=[0, 1, 2]).source == sdk_text(theirs, physical=True)


def test_the_sdk_writes_the_same_noise_and_result_types():
    theirs = Circuit().h(0).bit_flip(0, 0.1).generalized_amplitude_damping(1, 0.2, 0.25).pauli_channel(1, 0.0, 0.4, 0.0)
    theirs.expectation(Z(0) @ X(1)).variance(Y(1)).probability([0, 1]).density_matrix([1])
    ours = QuantumScript(
        [qml.H(0), qml.BitFlip(0.1, 0), qml.GeneralizedAmplitudeDamping(0.2, 0.75, 1), qml.PauliError("Y", 0.4, 1)],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.var(qml.Y(1)), qml.probs(wires=[0, 1]), qml.density_matrix([1])],
    )

    assert dumps(ours, shots=0).source == sdk_text(theirs)


def test_the_sdk_writes_the_same_verbatim_box():
    inner = Circuit().rx(4, math.pi).cz(4, 7)
    theirs = Circuit().add_verbatim_box(inner).measure([7, 4])
    ours = QuantumScript([qml.RX(math.pi, 4), qml.CZ([4, 7])], [qml.sample(wires=[7, 4])])

    program = dumps(ours, shots=10, verbatim=True)

    assert program.source == sdk_text(theirs, physical=True)
    assert program.measured == (7, 4)
    assert "$9" in dumps(QuantumScript([qml.X(1)], [qml.sample(wires=1)]), shots=1, verbatim=True, qubits=[3, 9]).source


def test_the_sdk_writes_the_same_gradient():
    theirs = Circuit().rx(0, FreeParameter("p_0")).ry(1, FreeParameter("p_1")).cnot(0, 1)
    theirs.add_result_type(ResultType.AdjointGradient(2.0 * (Z(0) @ X(1)) + -0.5 * Y(1), parameters=["p_0", "p_1"]))
    energy = 2.0 * qml.Z(0) @ qml.X(1) - 0.5 * qml.Y(1)
    ours = QuantumScript([qml.RX(0.1, 0), qml.RY(0.2, 1), qml.CNOT([0, 1])], [qml.expval(energy)], trainable_params=[0, 1])

    program = dumps(ours, shots=0, gradient=True)

    assert sorted(program.source.splitlines()) == sorted(sdk_text(theirs).splitlines())  # the SDK keeps inputs in a set
    assert program.source.splitlines()[-1] == sdk_text(theirs).splitlines()[-1]
    assert program.inputs == {"p_0": 0.1, "p_1": 0.2}
    assert program.names == {0: "p_0", 1: "p_1"}


def test_the_sdk_writes_the_same_hermitian_matrix():
    matrix = np.array([[1.5, 2e-05 - 1j], [2e-05 + 1j, -0.25]])
    theirs = Circuit().h(0).expectation(Hermitian(matrix, targets=[0]))
    ours = QuantumScript([qml.H(0)], [qml.expval(qml.Hermitian(matrix, 0))])

    assert dumps(ours, shots=0).source.replace("1.5, 2e", "1.5+0im, 2e").replace("-0.25]", "-0.25+0im]").replace(
        "1.0im", "1im"
    ) == sdk_text(theirs)


# --- inputs ----------------------------------------------------------------------------------------------------------------------


def test_named_parameters_become_inputs_with_the_same_answer():
    circuit = QuantumScript(
        [*start(2), qml.adjoint(qml.RX(0.3, 0)), qml.U2(0.1, 0.2, 1), plugin.AAMS(0.1, 0.2, 0.3, wires=[0, 1])], [qml.state()]
    )
    numbers = {6: "angle_a", 7: "b", 8: "q", 9: "pi", 10: "rx", 11: "b_"}
    program = dumps(circuit, shots=0, parameters=numbers)

    assert program.names == {6: "angle_a", 7: "b_", 8: "q_", 9: "pi_", 10: "rx_", 11: "b__"}
    assert "rx(-angle_a) q[0];" in program.source
    assert program.inputs["angle_a"] == 0.3
    np.testing.assert_allclose(values(program)[0], expected(circuit)[0], atol=1e-12)


def test_one_input_can_stand_for_equal_parameters_only():
    circuit = script(qml.RX(0.5, 0), qml.RY(0.5, 0), qml.RZ(0.25, 0))

    assert dumps(circuit, shots=0, parameters={0: "x1", 1: "x1"}).inputs == {"x1": 0.5}
    assert "'x1', which is 0.5 elsewhere" in complaints_of(circuit, parameters={0: "x1", 2: "x1"})


def test_inputs_that_stand_for_nothing_are_refused():
    circuit = script(qml.RX(0.5, 0), qml.BitFlip(0.1, 0), qml.GlobalPhase(0.5))

    said = complaints_of(circuit, parameters={0: "1st", 1: "flip", 9: "nine"})

    assert "'1st': names begin with a letter" in said
    assert "input 'flip' stands for a parameter of BitFlip, which only a number can be" in said
    assert "input 'nine' stands for parameter 9, but the operations have 3" in said
    assert dumps(circuit, shots=0, parameters={2: "phase"}).names == {}  # it changes nothing


def layered(angles, *, flip=0.0, wire=0):
    measured = [qml.sample(wires=[0, 1])]
    return QuantumScript(
        [qml.RX(angles[0], wire), qml.CNOT([0, 1]), qml.IsingXX(angles[1], [0, 1]), qml.QubitUnitary(np.eye(2) * np.exp(1j * flip), 0)],
        measured,
    )


def test_circuits_that_differ_in_angles_share_one_program():
    given = [
        layered([0.1, 0.2]),
        layered([0.1, 0.2], wire=1),
        layered([0.3, 0.4]),
        layered([0.1, 0.2], flip=1.0),
        layered([np.float64(0.5), 6]),
    ]

    groups = dumps_many(given, shots=10)

    assert [group.indices for group in groups] == [(0, 2, 4), (1,), (3,)]
    assert groups[0].columns == {"p_0": [0.1, 0.3, 0.5], "p_1": [0.2, 0.4, 6.0]}
    assert structure_key(given[0]) == structure_key(given[2]) == groups[0].program.source
    assert len({structure_key(circuit) for circuit in given}) == 3


def test_a_program_set_with_shared_programs_runs_on_brakets_simulator():
    turns = [[math.pi, 0.0], [0.0, 0.0], [math.pi, math.pi]]
    (group,) = dumps_many([layered(angles) for angles in turns], shots=4)
    programs = ProgramSet(programs=[BraketProgram(source=group.program.source, inputs=group.columns)])

    found = StateVectorSimulator().run(programs, shots=12)

    bits = [np.array(one.measurements)[0].tolist() for one in found.programResults[0].executableResults]
    assert [[int(bit) for bit in row] for row in bits] == [[1, 1], [0, 0], [0, 0]]


def test_a_phase_that_nobody_can_see_is_left_out():
    assert "gphase" not in dumps(script(qml.GlobalPhase(0.5), qml.X(0)), shots=0).source
    assert "Barrier" not in dumps(script(qml.Barrier(0), qml.Snapshot("a"), qml.X(0)), shots=0).source


# --- bad input -------------------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once():
    circuit = QuantumScript(
        [
            qml.Rot(0.1, 0.2, 0.3, 0),
            qml.RX(math.nan, 0),
            qml.RX(-math.inf, 0),
            qml.CRX(0.1, [0, 1]),
            qml.QFT([0, 1]),
            qml.Rot(0.1, 0.2, 0.3, 1),
            qml.RY(np.array([0.1, 0.2]), 0),
            qml.QubitUnitary(np.array([[1, 1], [0, 1]]), 0, unitary_check=False),
            qml.RZ(0.1 + 1j, 0),
        ],
        [qml.vn_entropy(0), qml.expval(qml.SparseHamiltonian(qml.Z(0).sparse_matrix(), [0])), qml.var(qml.Z(0) + qml.Hadamard(0))],
    )

    said = complaints_of(circuit)

    assert said.startswith("the circuit cannot be written in Braket's OpenQASM: 11 problems\n")
    for expected_words in [
        "Rot (operation 0, operation 5) is no gate of Braket's; decompose it",
        "RX (operation 1) has the parameter nan",
        "RX (operation 2) has the parameter -inf",
        "CRX (operation 3) needs the modifier ctrl @",
        "QFT (operation 4)",
        "RY (operation 6) has an array for a number; take its entries apart (qml.transforms.broadcast_expand)",
        "QubitUnitary (operation 7) has a matrix that is not unitary",
        "RZ (operation 8) has complex (0.1+1j) where a real number must be",
        "VnEntropyMP (measurement 0) is no measurement that Braket knows",
        "ExpectationMP (measurement 1) has an observable that Braket has no words for",
        "VarianceMP (measurement 2) is of a sum",
    ]:
        assert expected_words in said


@pytest.mark.parametrize(
    ("circuit", "options", "said"),
    [
        (script(qml.X("a")), {}, "is on wire 'a'; wires must be 0, 1, ..."),
        (script(qml.X(-1)), {}, "is on wire -1"),
        (script(qml.X(0), measure=[]), {}, "measures nothing"),
        (script(qml.X(0), measure=[qml.sample(wires=0)]), {}, "needs shots"),
        (script(qml.X(0), measure=[qml.sample(wires=0), qml.expval(qml.Z(0))]), {"shots": 1}, "cannot stand beside other measurements"),
        (script(qml.X(0), measure=[qml.state()]), {"shots": 1}, "which shots cannot give"),
        (script(qml.X(2)), {"qubits": [5, 6]}, "is on wire 2, for which no qubit is given"),
        (script(qml.X(0)), {"gradient": True}, "can be had of one qml.expval"),
        (script(qml.X(0), measure=[qml.expval(qml.Z(0))]), {"gradient": True}, "needs a trainable parameter"),
        (script(qml.X(0), measure=[qml.expval(qml.Hermitian(np.array([[0, 1], [0, 0]]), 0))]), {}, "not Hermitian"),
        (script(qml.X(0), measure=[qml.expval(qml.Hadamard(0) @ qml.X(0))]), {}, "share wires"),
        (script(qml.X(0), measure=[qml.expval(1j * qml.Z(0))]), {}, "those of observables are real"),
        (script(qml.pow(qml.adjoint(qml.U3(1.0, 2.0, 3.0, 0), lazy=True), 0.5, lazy=True)), {"modifiers": MODIFIERS}, "not in this place"),
    ],
)
def test_what_cannot_be_said_is_refused(circuit, options, said):
    assert said in complaints_of(circuit, **options)


def test_many_circuits_name_the_one_that_is_wrong():
    with pytest.raises(TranslationError, match=r"circuit 1: Rot \(operation 0\)"):
        dumps_many([layered([0.1, 0.2]), QuantumScript([qml.Rot(0.1, 0.2, 0.3, 0)], [qml.sample(wires=0)])], shots=1)


def test_numbers_of_other_libraries_are_taken_and_traced_ones_refused():
    import jax

    refused = []

    @jax.jit
    def traced(x):
        refused.append(complaints_of(script(qml.RX(x, 0))))
        return x

    assert f"rx({float(np.float32(0.1))!r}) q[0];" in dumps(script(qml.RX(np.float32(0.1), 0)), shots=0).source
    assert "rx(0.5) q[0];" in dumps(script(qml.RX(jax.numpy.array(0.5), 0)), shots=0).source
    assert "rx(0.5) q[0];" in dumps(script(qml.RX(qml.numpy.array(0.5, requires_grad=True), 0)), shots=0).source
    traced(0.5)
    assert "traced number" in refused[0]


# --- documentation ---------------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_gate_channel_and_observable():
    page = (Path(__file__).parents[2] / "docs/concepts/openqasm.md").read_text()
    gates = {name: row.head + ", ".join(["θ", "φ", "λ"][: row.angles]) + ")" * bool(row.angles) for name, row in tables.GATES.items()}
    inverses = {name for name in gates if name.startswith("Adjoint(") and name[8:-1] in gates and name not in tables.OTHERS}
    wanted = {name: text for name, text in gates.items() if name not in inverses} | tables.CHANNELS | tables.OBSERVABLES

    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", page, flags=re.MULTILINE))

    assert {name: rows.get(name) for name in wanted} == dict(wanted)
    assert set(rows) == set(wanted)


# --- names of devices ------------------------------------------------------------------------------------------------------------


def test_the_gates_of_brakets_simulator_by_pennylanes_names():
    action = StateVectorSimulator().properties.action["braket.ir.openqasm.program"]
    found = gates_of(action.supportedOperations, [modifier.name for modifier in action.supportedModifiers])

    assert set(tables.GATES) <= found
    assert {"QubitUnitary", "CRX", "MultiControlledX", "C(SX)", "Adjoint(U3)", "C(GlobalPhase)"} <= found


def test_the_gates_of_a_small_device_by_pennylanes_names():
    assert gates_of(["RX", "rz", "cz", "unknown", "bit_flip"]) == {
        "RX",
        "RZ",
        "CZ",
        "Adjoint(RX)",
        "Adjoint(RZ)",
        "Adjoint(CZ)",
        "GlobalPhase",
    }
    assert gates_of(["GPI", "GPI2", "MS"]) == {"GPi", "GPi2", "MS", "AAMS", "GlobalPhase"}


def test_circuits_made_of_a_devices_gates_can_be_written():
    names = gates_of(["rx", "ry", "rz", "cnot"])
    circuit = QuantumScript([qml.QFT(range(3)), qml.Rot(0.1, 0.2, 0.3, 0), qml.MultiControlledX([0, 1, 2])], [qml.probs(wires=range(3))])
    (made,), _ = qml.transforms.decompose(circuit, gate_set=names)

    np.testing.assert_allclose(values(dumps(made, shots=0)), expected(circuit), atol=1e-10)


def test_noise_observables_and_results_by_pennylanes_names():
    action = DensityMatrixSimulator().properties.action["braket.ir.openqasm.program"]
    kinds = [result.name for result in action.supportedResultTypes]

    known = {*tables.CHANNELS, *tables.KRAUS, tables.PAULI_ERROR}
    assert channels_of(action.supportedPragmas) == channels_of(action.supportedOperations) == known
    assert channels_of(["bit_flip", "pauli_channel"]) == {"BitFlip"}
    assert observables_of(["x", "Z", "i"]) == {"PauliX", "PauliZ", "Identity", "Prod", "SProd"}
    assert {"Hermitian", "Projector", "LinearCombination"} <= observables_of(["hermitian"], analytic=True)
    assert observables_of([]) == frozenset()
    assert analytic_of(kinds) == {"Expectation", "Variance", "Probability", "DensityMatrix"}
    assert analytic_of(["StateVector", "braket_result_type_probability"]) == {"State", "Probability"}
