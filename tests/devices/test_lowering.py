"""From bits to what was asked for."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.devices import lowering


@pytest.mark.parametrize("obs", [qml.Z(1), qml.Y(2) @ qml.X(0), 2 * qml.Z(0), qml.I(0), qml.Hadamard(1), qml.Z(0) @ qml.I(1)], ids=str)
def test_a_mean_of_bits_is_pennylanes(obs):
    (sent,), joined = lowering.to_bits(qml.tape.QuantumScript([qml.H(2)], [qml.expval(obs)], shots=101))
    wires = sent.measurements[0].wires
    bits = np.random.default_rng(0).integers(0, 2, (101, len(wires))).astype(np.uint8)

    found = joined([bits])

    assert found == qml.expval(obs).process_samples(bits, wires)
    assert np.shape(found) == ()
