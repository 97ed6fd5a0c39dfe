"""Measurements of hybridjobs.qubit beside default.qubit's: exactly from states, statistically from samples."""

from __future__ import annotations

import tracemalloc

import jax
import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
from pennylane.exceptions import DeviceError
from pennylane.measurements import SampleMeasurement, StateMeasurement
from scipy import stats

from pl_hybridjobs.devices import measure
from pl_hybridjobs.errors import SimulationError

OURS, THEIRS = "hybridjobs.qubit", "default.qubit"
RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(2, 4, 3))
UNITARY = np.linalg.qr(RNG.normal(size=(4, 4)) + 1j * RNG.normal(size=(4, 4)))[0]
HERMITIAN = UNITARY @ np.diag([1.0, -2.0, 0.5, 3.0]) @ UNITARY.conj().T
VECTOR = UNITARY[:, 0]
SHOTS = 20_000


def node(measurement, name=OURS, *, wires=4, seed=7, shots=None, angles=0.0, **options):
    def circuit():
        qml.StronglyEntanglingLayers(WEIGHTS, wires=range(4))
        qml.RX(angles, wires=2)
        return measurement()

    return qml.set_shots(qml.QNode(circuit, qml.device(name, wires=wires, seed=seed, **options)), shots)


def same(ours, theirs, atol=1e-10):
    if isinstance(theirs, tuple | list):
        return len(ours) == len(theirs) and all(same(a, b, atol) for a, b in zip(ours, theirs, strict=True))
    return np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs, atol=atol)


# Without shots ---------------------------------------------------------------------------------------------------------------

EXACT = {
    "var of Hermitian": lambda: qml.var(qml.Hermitian(HERMITIAN, [2, 0])),
    "Projector on bits": lambda: qml.expval(qml.Projector([1, 0], [3, 1])),
    "var of a Projector on a vector": lambda: qml.var(qml.Projector(VECTOR, [3, 1])),
    "var of a sum": lambda: qml.var(qml.X(0) + 0.3 * qml.Z(1) @ qml.Y(0)),
    "var of a word": lambda: qml.var(-2 * qml.X(0) @ qml.Y(3)),
    "sum with Hermitian": lambda: qml.expval(qml.Hermitian(HERMITIAN, [2, 0]) + 0.3 * qml.X(2) @ qml.Projector([1], 1)),
    "product with Hermitian": lambda: qml.var(qml.Hermitian(HERMITIAN, [2, 0]) @ qml.X(1)),
    "Hamiltonian of Hermitians": lambda: qml.expval(qml.Hamiltonian([0.2, 0.4], [qml.Hermitian(HERMITIAN, [0, 3]), qml.Z(0)])),
    "sparse": lambda: qml.expval(qml.SparseHamiltonian(scipy.sparse.csr_matrix(HERMITIAN), [3, 1])),
    "exponential": lambda: qml.expval(qml.exp(qml.Z(0) @ qml.X(1), 0.3)),
    "probs of Paulis": lambda: qml.probs(op=qml.Y(2) @ qml.X(0)),
    "probs of Hadamard": lambda: qml.probs(op=qml.Hadamard(1)),
    "probs in another order": lambda: qml.probs(wires=[3, 0, 2]),
    "all probs": qml.probs,
    "density_matrix": lambda: qml.density_matrix([3, 1]),
    "entropy to base 2": lambda: qml.vn_entropy([3, 1], log_base=2),
    "mutual_info": lambda: qml.mutual_info([3], [1, 0]),
    "purity": lambda: qml.purity([3]),
    "state": qml.state,
    "many": lambda: (qml.expval(qml.Z(0)), qml.var(qml.X(1)), qml.probs([2]), qml.purity([0, 1])),
}


@pytest.mark.filterwarnings("ignore:Using qp.probs with a Hermitian:UserWarning")
@pytest.mark.parametrize("name", EXACT)
def test_a_measurement_of_a_state_is_that_of_default_qubit(name):
    assert same(node(EXACT[name])(), node(EXACT[name], THEIRS)())
    assert same(node(EXACT[name], c_dtype=np.complex64)(), node(EXACT[name], THEIRS)(), 1e-5)


@pytest.mark.parametrize("name", ["var of a sum", "sparse", "probs of Paulis", "density_matrix", "mutual_info", "many"])
def test_a_batch_of_states_is_measured_row_by_row(name):
    angles = np.array([0.1, -2.0, 0.7])
    found = node(EXACT[name], angles=angles)()
    each = [node(EXACT[name], THEIRS, angles=a)() for a in angles]

    assert same(found, tuple(np.stack(c) for c in zip(*each, strict=True)) if name == "many" else np.stack(each))


def test_no_matrix_of_all_wires_is_made():
    n = 13  # such a matrix would take 1 GB

    @qml.qnode(qml.device(OURS, wires=n))
    def circuit():
        for wire in range(n):
            qml.RY(0.3 * wire, wire)
            qml.CNOT([wire, (wire + 1) % n])
        return (
            qml.mutual_info([0], [5]),
            qml.purity([1, 2]),
            qml.var(qml.sum(*(qml.X(w) for w in range(n)))),
            qml.expval(qml.Projector([0] * n, range(n))),
            qml.expval(qml.Hermitian(HERMITIAN, [3, 7]) @ qml.Z(0)),
            qml.probs(op=qml.Hermitian(HERMITIAN, [3, 7])),
        )

    tracemalloc.start()
    with pytest.warns(UserWarning, match="Hermitian"):
        circuit()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_thousands_of_words_are_measured_at_once():
    n = 8
    rng = np.random.default_rng(0)
    words = {qml.pauli.PauliWord(dict(zip(range(n), rng.choice(list("IXYZ"), n), strict=True))): float(rng.normal()) for _ in range(2_000)}
    hamiltonian = qml.pauli.PauliSentence(words).operation()
    state = rng.normal(size=1 << n) + 1j * rng.normal(size=1 << n)
    state /= np.linalg.norm(state)

    mean, square = measure.moments(hamiltonian, state, square=True)

    product = qml.pauli.PauliSentence(words).dot(state, wire_order=range(n))
    assert np.isclose(mean, np.vdot(state, product).real, atol=1e-10)
    assert np.isclose(square, np.vdot(product, product).real, rtol=1e-10)


class TotalProbability(StateMeasurement):  # type: ignore[misc]
    def process_state(self, state, wire_order):
        return np.sum(np.abs(state) ** 2) * len(wire_order)


class NumberOfOnes(SampleMeasurement):  # type: ignore[misc]
    def process_samples(self, samples, wire_order, shot_range=None, bin_size=None):
        return samples[:, self.wires[0]].sum()

    def process_counts(self, counts, wire_order):
        raise NotImplementedError


def test_measurements_that_users_write_are_processed():
    ones = node(lambda: NumberOfOnes(wires=[1]), shots=SHOTS)()

    assert np.isclose(node(lambda: TotalProbability(wires=[0]))(), 4)
    assert np.isclose(ones / SHOTS, node(lambda: qml.probs(wires=1), THEIRS)()[1], atol=0.02)


def test_what_cannot_be_measured_is_told():
    with pytest.raises(DeviceError, match=r"state.*not accepted with finite shots"):
        node(qml.state, shots=10)()
    with pytest.raises(DeviceError, match=r"sample.*not accepted for analytic"):
        node(lambda: qml.sample(wires=0))()
    sparse = qml.SparseHamiltonian(scipy.sparse.csr_matrix(HERMITIAN), [3, 1])
    with pytest.raises(DeviceError, match=r"(?s)SparseHamiltonian.*not accepted with finite shots"):
        node(lambda: qml.expval(sparse), shots=10)()


class Broken(qml.operation.Operation):  # type: ignore[misc]
    """A gate whose matrix is none, which cannot be seen from its parameters."""

    num_wires = 1
    num_params = 0

    @staticmethod
    def compute_matrix():
        return np.diag([np.nan, 1.0])


def test_a_state_that_is_none_gives_no_samples():
    with pytest.raises(SimulationError, match="NaN"):
        node(lambda: (Broken(0), qml.sample(wires=0))[1], shots=10)()


# With shots ------------------------------------------------------------------------------------------------------------------

ESTIMATED = {
    "expval": lambda: qml.expval(qml.Z(0) @ qml.X(1)),
    "expval of a sum": lambda: qml.expval(qml.Z(0) + 0.5 * qml.Y(2) - qml.X(0) @ qml.X(1) + 0.3 * qml.Identity(0)),
    "expval of Hermitian": lambda: qml.expval(qml.Hermitian(HERMITIAN, [2, 0])),
    "expval of a sum with Hermitian": lambda: qml.expval(0.5 * (qml.Hermitian(HERMITIAN, [2, 0]) + 0.3 * qml.X(2))),
    "expval of a Projector": lambda: qml.expval(qml.Projector([1, 0], [3, 1])),
    "expval of Identity": lambda: qml.expval(qml.Identity(2)),
    "var": lambda: qml.var(qml.X(1)),
    "var of commuting words": lambda: qml.var(qml.Z(0) + 0.5 * qml.Z(1) @ qml.X(2)),
    "var of other words": lambda: qml.var(qml.Z(0) + 0.5 * qml.X(0)),
    "probs": lambda: qml.probs(wires=[2, 0]),
    "probs of Paulis": lambda: qml.probs(op=qml.Y(2) @ qml.X(0)),
    "all probs": qml.probs,
    "many": lambda: (qml.expval(qml.Z(0)), qml.expval(qml.X(0)), qml.probs([2]), qml.var(qml.Y(1)), qml.expval(qml.Z(0) @ qml.Z(3))),
}


@pytest.mark.parametrize("name", ESTIMATED)
def test_an_estimate_from_shots_is_near_the_exact_value(name):
    assert same(node(ESTIMATED[name], shots=SHOTS)(), node(ESTIMATED[name], THEIRS)(), 0.06)


@pytest.mark.parametrize("name", ["expval of a sum", "probs", "var", "many"])
def test_shot_vectors_and_batches_have_the_shapes_of_default_qubit(name):
    def shapes(result):
        return [shapes(r) for r in result] if isinstance(result, tuple) else np.shape(result)

    for shots in (100, [100, (50, 2)]):
        for angles in (0.3, np.array([0.3, 0.4, 0.5])):
            results = [node(ESTIMATED[name], device, shots=shots, angles=angles)() for device in (OURS, THEIRS)]
            assert shapes(results[0]) == shapes(results[1])


def test_a_batch_is_sampled_row_by_row():
    angles = np.array([0.0, np.pi])
    samples, counts = node(lambda: (qml.sample(wires=[2, 0]), qml.counts(wires=[2])), shots=SHOTS, angles=angles)()

    assert samples.shape == (2, SHOTS, 2)
    assert [sum(c.values()) for c in counts] == [SHOTS, SHOTS]
    for row, angle in zip(samples, angles, strict=True):
        exact = node(lambda: qml.probs(wires=[2, 0]), THEIRS, angles=angle)()
        assert np.allclose(np.bincount(row @ [2, 1], minlength=4) / SHOTS, exact, atol=0.02)


def test_samples_follow_the_probabilities():
    samples = node(lambda: qml.sample(wires=[3, 1, 0, 2]), shots=SHOTS)()
    expected = SHOTS * node(lambda: qml.probs(wires=[3, 1, 0, 2]), THEIRS)()

    assert samples.dtype == np.int64
    assert stats.chisquare(np.bincount(samples @ [8, 4, 2, 1], minlength=16), expected).pvalue > 1e-4


def test_samples_are_of_the_type_that_was_asked_for():
    assert node(lambda: qml.sample(wires=0, dtype="int8"), shots=5)().dtype == np.int8
    assert node(lambda: qml.sample(qml.Z(0), dtype="float32"), shots=5)().dtype == np.float32


@pytest.mark.parametrize("observable", [qml.Y(1), 2 * qml.X(0), qml.Z(0) @ qml.X(3), qml.Hermitian(HERMITIAN, [2, 0]), qml.Z(0) + qml.X(1)])
def test_samples_of_an_observable_are_its_eigenvalues(observable):
    samples = node(lambda: qml.sample(observable), shots=SHOTS)()
    counts = node(lambda: qml.counts(observable, all_outcomes=True), shots=SHOTS)()

    values = np.unique(np.round(observable.eigvals(), 8))
    assert np.allclose(np.unique(np.round(samples, 8)), values)
    assert np.allclose(sorted(counts), values)
    exact = node(lambda: qml.expval(observable), THEIRS)()
    assert np.isclose(samples.mean(), exact, atol=0.06)
    assert np.isclose(sum(v * c for v, c in counts.items()) / SHOTS, exact, atol=0.06)


def test_counts_name_what_was_seen_or_all_that_is_possible():
    def circuit(all_outcomes):
        @qml.qnode(qml.device(OURS, wires=3), shots=50)
        def counted():
            qml.X(1)
            return (
                qml.counts(wires=[2, 1], all_outcomes=all_outcomes),
                qml.counts(all_outcomes=all_outcomes),
                qml.counts(qml.Z(1), all_outcomes=all_outcomes),
            )

        return counted()

    assert circuit(False) == ({"01": 50}, {"010": 50}, {-1.0: 50})
    pair, triple, sign = circuit(True)
    assert pair == {"00": 0, "01": 50, "10": 0, "11": 0}
    assert triple == {f"{i:03b}": 50 * (i == 2) for i in range(8)}
    assert sign == {-1.0: 50, 1.0: 0}


def test_measurements_that_commute_share_samples():
    run = node(
        lambda: (qml.sample(wires=[0, 1]), qml.sample(qml.Z(0)), qml.expval(qml.Z(1)), qml.counts(wires=[1, 0]), qml.sample(qml.X(2))),
        shots=200,
    )
    bits, signs, mean, counts, _ = run()

    assert np.array_equal(1 - 2 * bits[:, 0], signs)
    assert np.isclose(np.mean(1 - 2 * bits[:, 1]), mean)
    assert counts == {k: v for k in ("00", "01", "10", "11") if (v := int(np.sum(bits @ [1, 2] == int(k, 2))))}


def test_words_go_to_few_bases():
    words = [qml.Z(0), qml.Z(0) @ qml.X(1), qml.X(1), qml.Y(0), qml.Y(0) @ qml.X(2), qml.X(2) @ qml.Z(3)]

    assert len(measure.plan([qml.expval(w) for w in words], 4).settings) == 2
    assert len(measure.plan([qml.expval(qml.sum(*words))], 4).settings) == 2
    assert len(measure.plan([qml.sample(), qml.expval(qml.Z(0) @ qml.Z(3)), qml.probs(wires=[1])], 4).settings) == 1


def test_an_observable_of_the_user_is_left_as_it_is():
    observable = qml.prod(qml.Z(0), qml.s_prod(2.0, qml.Z(1)))
    before = repr(observable)
    node(lambda: (qml.expval(observable), qml.expval(qml.X(0))), shots=10)()

    assert repr(observable) == before


@pytest.mark.parametrize("seed", [3, jax.random.PRNGKey(3), jax.random.key(3)], ids=["integer", "key", "typed key"])
@pytest.mark.parametrize("measurement", [lambda: qml.sample(wires=range(4)), qml.counts, lambda: qml.expval(qml.X(0))])
def test_a_seed_repeats_a_run_and_no_call(seed, measurement):
    def calls():
        run = node(measurement, shots=500, seed=seed)
        return [run() for _ in range(3)]

    first, again = calls(), calls()
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b) if not isinstance(a, dict) else a == b
    assert not any(np.array_equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")
def test_a_key_may_be_an_argument_of_a_jitted_function(x64):
    @jax.jit
    def draw(key, angle):
        @qml.qnode(qml.device(OURS, wires=1, seed=key), shots=300)
        def circuit():
            qml.RX(angle, 0)
            return qml.sample(wires=0)

        return circuit()

    first, second, again = (np.asarray(draw(jax.random.PRNGKey(k), 1.1)) for k in (0, 1, 0))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert np.isclose(first.mean(), np.sin(0.55) ** 2, atol=0.1)


@pytest.mark.filterwarnings(r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning")
def test_a_jitted_function_draws_anew_in_each_call():
    @jax.jit
    @qml.qnode(qml.device(OURS, wires=1, seed=jax.random.PRNGKey(0)), shots=100)
    def circuit(angle):
        qml.RX(angle, 0)
        return qml.sample(wires=0)

    assert not np.array_equal(circuit(1.5), circuit(1.5))


def test_shadows_give_bits_recipes_and_estimates():
    bits, recipes = node(lambda: qml.classical_shadow(wires=range(4), seed=1), shots=200)()
    value = node(lambda: qml.shadow_expval(qml.Z(0) @ qml.X(1), seed=1), shots=SHOTS)()
    batch = node(lambda: qml.shadow_expval(qml.Z(0), seed=1), shots=100, angles=np.array([0.1, 0.2]))()

    assert bits.shape == recipes.shape == (200, 4)
    assert np.isclose(value, node(lambda: qml.expval(qml.Z(0) @ qml.X(1)), THEIRS)(), atol=0.1)
    assert np.shape(batch) == (2,)


def test_a_million_shots_of_twenty_wires_are_right():
    @qml.qnode(qml.device(OURS, wires=20, seed=1), shots=1_000_000, diff_method=None)
    def circuit():
        for wire in range(20):
            qml.RY(0.1 * wire, wire)
        return qml.expval(qml.Z(0) @ qml.Z(19)), qml.probs(wires=range(10)), qml.sample(wires=[0, 19])

    value, probs, samples = circuit()
    flips = np.sin(0.05 * np.arange(10)) ** 2
    exact = np.ones(1)
    for flip in flips:
        exact = np.kron(exact, [1 - flip, flip])
    assert np.allclose(probs, exact, atol=0.005)
    assert np.isclose(value, np.cos(1.9), atol=0.005)
    assert samples.shape == (1_000_000, 2)
