"""Sums of Pauli words on states, beside their matrices."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.sim import paulis
from pl_hybridjobs.sim.circuit import PauliSum


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_a_sum_of_words_acts_as_its_matrix(n, dtype):
    rng = np.random.default_rng(n)
    words = [tuple((int(w), str(rng.choice(list("XYZ")))) for w in rng.permutation(n)[: rng.integers(n + 1)]) for _ in range(12)]
    coefficients = rng.normal(size=12)
    state = (rng.normal(size=1 << n) + 1j * rng.normal(size=1 << n)).astype(dtype)
    sentence = qml.pauli.PauliSentence({})
    for coefficient, word in zip(coefficients, words, strict=True):
        sentence += float(coefficient) * qml.pauli.PauliSentence({qml.pauli.PauliWord(dict(word)): 1.0})

    found = paulis.apply(PauliSum(tuple(coefficients), tuple(words)), state)

    assert found.dtype == dtype
    assert np.allclose(found, sentence.to_mat(wire_order=range(n)) @ state, atol=1e-5 if dtype == np.complex64 else 1e-12)
