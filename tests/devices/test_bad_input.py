"""What cannot be computed is refused, with words that help."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp
from pennylane.devices import ExecutionConfig
from pennylane.exceptions import DeviceError, QuantumFunctionError, WireError
from scipy.sparse import csr_matrix

from pl_hybridjobs.errors import SimulationError

# PennyLane asks JAX something that JAX will not answer much longer.
pytestmark = pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")


def circuit(*operations, measured=None, wires=2, shots=None, name="hybridjobs.qubit", **options):
    def run():
        for op in operations:
            qml.apply(op)
        return qml.apply(measured) if measured else qml.expval(qml.Z(0))

    node = qml.QNode(run, qml.device(name, wires=wires), **options)
    return node if shots is None else qml.set_shots(node, shots)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_angles_that_are_no_numbers(value):
    with pytest.raises(SimulationError, match=r"a parameter of RY on wires \[1\] is -?(nan|inf); look where it comes from"):
        circuit(qml.RX(0.1, 0), qml.RY(value, 1))()


def test_one_bad_angle_in_a_batch_is_named_with_its_row():
    with pytest.raises(SimulationError, match=r"RX on wires .* is nan in row 1 of the batch"):
        circuit(qml.RX(np.array([0.1, np.nan, 0.2]), 0), diff_method=None)()


def test_complex_angles():
    with pytest.raises(SimulationError, match=r"a parameter of RX .* is complex"):
        circuit(qml.RX(0.1 + 0.2j, 0))()


NO_NUMBERS = {
    "None": (lambda: qml.RX(None, 0), r"parameter 0 of RX on wires \[0\] is no number: None"),
    "a text": (lambda: qml.ctrl(qml.RX("a", 0), 1), r"parameter 0 of CRX on wires \[1, 0\] is no number: 'a'"),
    "a number as a text": (lambda: qml.adjoint(qml.RX("0.1", 0)), r"parameter 0 of Adjoint\(RX\) on wires \[0\] is no number: '0.1'"),
    "the second of three": (lambda: qml.Rot(0.1, None, 0.2, 1), r"parameter 1 of Rot on wires \[1\] is no number: None"),
    "objects": (lambda: qml.RX(np.array([0.1, None], object), 0), r"parameter 0 of RX on wires \[0\] is no number: None"),
    "texts": (lambda: qml.RX(np.array(["0.1", "0.2"]), 0), r"parameter 0 of RX on wires \[0\] is no number: .*'0.1'"),
    "something else": (lambda: qml.PhaseShift({"phi": 1}, 0), r"parameter 0 of PhaseShift .* is no number: {'phi': 1}"),
    "a layer": (lambda: qml.AngleEmbedding(np.array([0.1, "b"], object), [0, 1]), r"parameter 0 of AngleEmbedding .* is no number: 'b'"),
    "a matrix": (lambda: qml.QubitUnitary(np.diag([np.nan, 1]), 1), r"QubitUnitary on wires \[1\] has the entry nan; look where"),
}


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
@pytest.mark.parametrize("method", ["best", "backprop", None])
@pytest.mark.parametrize("case", NO_NUMBERS)
def test_parameters_that_are_no_numbers(case, method, name):
    operation, message = NO_NUMBERS[case]
    with pytest.raises(SimulationError, match=message):
        circuit(operation(), name=name, diff_method=method)()


def test_a_parameter_that_is_no_number_beside_one_that_is_trained():
    def run(x):
        qml.RX(x, 0)
        qml.RY(None, 1)
        return qml.expval(qml.Z(0))

    with pytest.raises(SimulationError, match=r"parameter 0 of RY on wires \[1\] is no number: None"):
        qml.grad(qml.QNode(run, qml.device("hybridjobs.qubit"), diff_method="backprop"))(pnp.array(0.1))


def test_numbers_that_come_as_objects_are_numbers():
    assert circuit(qml.RX(np.array(0.3, object), 0))() == pytest.approx(np.cos(0.3))


NOT_FINITE = {
    "a product": (lambda: np.nan * qml.Z(0), r"observable nan \* Z\(0\) has the coefficient nan of Z\(0\); look where it comes from"),
    "a Hamiltonian": (lambda: qml.Hamiltonian([1.0, -np.inf], [qml.Z(0), qml.X(1)]), r"-inf \* X\(1\) has the coefficient -inf of X\(1\)"),
    "a sum": (lambda: qml.dot([0.1, np.nan], [qml.Z(0), qml.Y(1) @ qml.X(0)]), r"has the coefficient nan of Y\(1\) @ X\(0\)"),
    "a nest": (lambda: 2 * (qml.Z(0) + 3 * (np.inf * qml.X(1)) @ qml.Z(0)), r"has the coefficient inf of X\(1\) @ Z\(0\)"),
    "a nest without words": (lambda: 2 * (qml.Z(0) + np.nan * qml.Hadamard(1)), r"Z\(0\) \+ nan \* H\(1\).* has the number nan"),
    "a matrix": (lambda: qml.Hermitian(np.diag([np.nan, 1.0]), 0), r"Hermitian.* has the number nan"),
    "a sparse matrix": (lambda: qml.SparseHamiltonian(csr_matrix(np.diag([np.inf, 1.0])), [0]), r"SparseHamiltonian.* has the number inf"),
    "a tensor": (lambda: qml.Hamiltonian(jnp.array([1.0, np.inf]), [qml.Z(0), qml.X(1)]), r"has the coefficient inf of X\(1\)"),
    "a long one": (lambda: qml.dot([np.nan] * 300, [qml.X(0)] * 300), r"^the observable .{1,200} \.\.\. has the coefficient nan of X\(0\)"),
}


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
@pytest.mark.parametrize("method", ["best", "backprop", None])
@pytest.mark.parametrize("case", NOT_FINITE)
def test_observables_that_are_not_finite(case, method, name):
    observable, message = NOT_FINITE[case]
    with pytest.raises(SimulationError, match=message):
        circuit(qml.RX(0.1, 0), measured=qml.expval(observable()), name=name, diff_method=method)()


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
@pytest.mark.parametrize(
    ("measured", "shots"),
    [(qml.var, None), (lambda o: qml.probs(op=o), None), (qml.sample, 10), (lambda o: qml.shadow_expval([qml.Z(1), o]), 10)],
)
def test_other_measurements_of_observables_that_are_not_finite(measured, shots, name):
    with pytest.raises(SimulationError, match=r"observable nan \* Z\(0\) has the coefficient nan"):
        circuit(qml.RX(0.1, 0), measured=measured(np.nan * qml.Z(0)), name=name, shots=shots)()


def test_traced_coefficients_are_not_looked_at(torch):
    def energy(coefficient):
        qml.RX(0.1, 0)
        return qml.expval(qml.s_prod(coefficient, qml.Z(0)))

    node = qml.QNode(energy, qml.device("hybridjobs.qubit", wires=1))

    assert np.isnan(jax.jit(node)(jnp.array(np.nan)))
    assert qml.grad(node)(pnp.array(np.inf)) == pytest.approx(np.cos(0.1))
    assert torch.isnan(node(torch.tensor(np.nan, requires_grad=True)))
    with pytest.raises(SimulationError, match="has the coefficient"):
        node(torch.tensor(np.nan))


def test_wires_that_the_device_does_not_have():
    with pytest.raises(WireError, match=r"not found on the device: .5"):
        circuit(qml.RX(0.1, 5))()


@pytest.mark.parametrize("state", [np.ones(4), np.array([np.nan, 0, 0, 0]), np.ones(3) / np.sqrt(3)])
def test_states_of_wrong_norm_or_length(state):
    with pytest.raises((ValueError, SimulationError), match=r"norm|length|StatePrep on wires \[0, 1\] has the entry nan"):
        circuit(qml.StatePrep(state, [0, 1]))()


def test_noise():
    with pytest.raises(DeviceError, match=r"BitFlip.*use the device hybridjobs\.mixed"):
        circuit(qml.BitFlip(0.1, 0))()


@pytest.mark.parametrize("shots", [-1, 0])
def test_numbers_of_shots_that_are_not_positive(shots):
    with pytest.raises(ValueError, match="positive"):
        circuit(qml.RX(0.1, 0), shots=shots)()


def test_samples_without_shots():
    with pytest.raises(DeviceError, match=r"sample.* not accepted for analytic simulation"):
        circuit(qml.RX(0.1, 0), measured=qml.sample())()


def turn(x):
    qml.RX(x, 0)


def prepare(x):
    qml.StatePrep(qml.math.stack([qml.math.cos(x), qml.math.sin(x)]), 1)


class Own(qml.operation.Operation):  # type: ignore[misc]
    """A gate that only its user knows."""

    num_params = 1

    @staticmethod
    def compute_matrix(x):
        return qml.math.diag([qml.math.exp(1j * x), 1.0])


def energy():
    return qml.expval(qml.Z(0))


# Circuit, measurement, shots, options of the QNode, and what adjoint says.
NOT_FOR_ADJOINT = {
    "probabilities": (
        turn,
        lambda: qml.probs(wires=0),
        None,
        {},
        r"probs\(wires=\[0\]\) is no expectation value .* use diff_method='backprop'",
    ),
    "a variance": (turn, lambda: qml.var(qml.Z(0)), None, {}, r"var\(Z\(0\)\) is no expectation value .* use diff_method='backprop'"),
    "a matrix": (
        turn,
        lambda: qml.expval(qml.Projector([0], 0)),
        None,
        {},
        r"Projector.* of a sum of Pauli words; use diff_method='backprop'",
    ),
    "one of two": (turn, lambda: (energy(), qml.purity([0])), None, {}, r"purity is no .* use diff_method='backprop'"),
    "shots": (turn, energy, 10, {}, r"10 shots; use diff_method='parameter-shift'"),
    "a second derivative": (turn, energy, None, {"max_diff": 2}, r"max_diff is 2; use diff_method='backprop'"),
    "a state": (prepare, energy, None, {}, r"the parameters of StatePrep on wires \[1\] .* use diff_method='backprop'"),
    "a gate": (lambda x: Own(x, wires=0), energy, None, {}, r"the parameters of Own on wires \[0\] .* use diff_method='backprop'"),
    "a snapshot": (lambda x: (turn(x), qml.Snapshot("here")), energy, None, {}, r"the snapshot 'here'; use diff_method='backprop'"),
}


# PennyLane's gradients of density matrices by autograd lose an imaginary part that is 0.
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
@pytest.mark.parametrize("case", NOT_FOR_ADJOINT)
def test_adjoint_says_what_does_not_fit_and_the_way_it_names_works(case, name):
    operations, measured, shots, options, message = NOT_FOR_ADJOINT[case]

    def run(x):
        operations(x)
        return measured()

    def derivative(method):
        node = qml.QNode(run, qml.device(name, wires=2), diff_method=method, **options)
        node = qml.set_shots(node, shots) if shots else node
        return qml.jacobian(lambda x: qml.math.sum(qml.math.hstack([node(x), node(x)])))(pnp.array(0.3))

    with pytest.raises(QuantumFunctionError, match=f"{name} does not support adjoint with this circuit: .*{message}"):
        derivative("adjoint")
    assert np.isfinite(derivative("parameter-shift" if shots else "backprop")).all()


@pytest.mark.parametrize("method", ["adjoint", "backprop", "device"])
def test_methods_of_the_device_name_shots_and_measurements_that_are_not_deferred(method):
    with pytest.raises(
        QuantumFunctionError, match=f"does not support {method} with this circuit: it has 10 shots; use diff_method='parameter-shift'"
    ):
        circuit(qml.RX(0.1, 0), shots=10, diff_method=method)()
    with pytest.raises(
        QuantumFunctionError, match=r"in its middle by 'tree-traversal'; use mcm_method='deferred' or diff_method='parameter-shift'"
    ):
        circuit(qml.ops.MidMeasure(0), diff_method=method, mcm_method="tree-traversal")()


def test_adjoint_names_the_outcome_that_is_selected():
    with pytest.raises(QuantumFunctionError, match=r"MidMeasure.*postselect=1.* selects an outcome.*use diff_method='backprop'"):
        circuit(qml.RX(0.1, 0), qml.ops.MidMeasure(0, postselect=1), diff_method="adjoint")()


@pytest.mark.parametrize("method", ["adjoint", "best", None])
def test_hybridjobs_mixed_refuses_to_select_outcomes(method):
    with pytest.raises(DeviceError, match=r"hybridjobs\.mixed cannot select an outcome, as MidMeasure.* does; hybridjobs\.qubit can"):
        circuit(qml.RX(0.1, 0), qml.ops.MidMeasure(0, postselect=1), name="hybridjobs.mixed", diff_method=method)()


class OwnNoise(qml.operation.Channel):  # type: ignore[misc]
    """A channel that only its user knows."""

    num_params = 1

    @staticmethod
    def compute_kraus_matrices(p):
        return [qml.math.sqrt(1 - p) * np.eye(2), qml.math.sqrt(p) * np.diag([1, -1])]


def test_adjoint_names_a_channel_whose_derivative_it_does_not_know():
    def run(x):
        OwnNoise(x, wires=1)
        return qml.expval(qml.Z(1))

    node = qml.QNode(run, qml.device("hybridjobs.mixed", wires=2), diff_method="adjoint")
    with pytest.raises(QuantumFunctionError, match=r"the parameters of OwnNoise on wires \[1\] .* use diff_method='backprop'"):
        qml.grad(node)(pnp.array(0.1))


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
def test_whether_a_product_with_the_jacobian_can_be_had_is_a_question_without_errors(name):
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.probs(wires=0)])
    device, config = qml.device(name), ExecutionConfig(gradient_method="adjoint")

    assert not device.supports_vjp(config, tape)
    assert not device.supports_jvp(config, tape)
    assert device.supports_derivatives(config)


@pytest.mark.parametrize("measured", [qml.state(), qml.probs(wires=range(60)), qml.expval(qml.prod(*(qml.Z(w) for w in range(60))))])
def test_states_that_do_not_fit_into_memory(measured):
    with pytest.raises(SimulationError, match=r"60 qubits need .* GB .* this machine has .* qubits would fit.*complex64 needs half"):
        circuit(qml.RX(0.1, 0), measured=measured, wires=60)()


def test_a_wire_that_nothing_touches_needs_no_memory():
    assert circuit(qml.RX(np.pi, 59), measured=qml.expval(qml.Z(59)), wires=60)() == pytest.approx(-1)


@pytest.mark.parametrize("name", ["hybridjobs.qubit", "hybridjobs.mixed"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wires": -1}, "wires must not be negative, and is -1"),
        ({"wires": np.int64(-3)}, "wires must not be negative, and is -3"),
        ({"wires": 2.5}, "wires must be a whole number, labels or None, not 2.5"),
        ({"wires": 3.0}, "wires must be a whole number, labels or None, not 3.0"),
        ({"wires": np.nan}, "wires must be a whole number, labels or None, not nan"),
        ({"c_dtype": np.float32}, "c_dtype must be complex64 or complex128, not .*float32"),
        ({"c_dtype": "double trouble"}, "c_dtype must be complex64 or complex128, not double trouble"),
        ({"wires": -1, "c_dtype": float}, "wires must not be negative, and is -1; c_dtype must be complex64 or complex128, not .*float"),
    ],
)
def test_options_that_make_no_sense_are_named_together(options, message, name):
    with pytest.raises(DeviceError, match=f"^{name}: {message}"):
        qml.device(name, **options)


def test_all_options_that_make_no_sense_are_named_together():
    with pytest.raises(
        DeviceError, match=r"hybridjobs\.mixed: wires must .*; c_dtype must .*; readout_prob must be a number between 0 and 1, not 2"
    ):
        qml.device("hybridjobs.mixed", wires=1.5, c_dtype=int, readout_prob=2)


@pytest.mark.parametrize("wires", [None, 0, 3, np.int64(3), "label", ["a", -1], [], range(2)])
def test_wires_of_a_device_are_those_of_default_qubit(wires):
    for name in ("hybridjobs.qubit", "hybridjobs.mixed"):
        assert qml.device(name, wires=wires).wires == qml.device("default.qubit", wires=wires).wires


def test_observables_that_are_not_hermitian():
    with pytest.raises(DeviceError, match="is not Hermitian: it has the coefficient 1j"):
        circuit(qml.RX(0.1, 0), measured=qml.expval(qml.prod(qml.X(0), qml.Y(0))))()


def test_more_wires_than_an_index_has_bits():
    with pytest.raises(SimulationError, match="70 qubits need"):
        circuit(*(qml.Hadamard(w) for w in range(70)), wires=70)()
