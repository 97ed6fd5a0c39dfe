"""A gradient of 200 circuits against an emulated SV1 (0.5 s a task, 50 at once), and the same through Amazon's own plug-in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import numpy as np
import pennylane as qml
import pytest
from pennylane import numpy as pnp

from tests.braket.conftest import SV1

LATENCY_S, AT_ONCE, PARAMETERS, WIRES, SHOTS = 0.5, 50, 10, 4, 100
WORDS = ["XXXX", "YYYY", "ZZZZ", "XYZX", "YZXY", "ZXYZ", "XXYY", "YYZZ", "ZZXX", "XZXZ"]
CIRCUITS = 2 * PARAMETERS * len(WORDS)
LIMIT_S = CIRCUITS / AT_ONCE * LATENCY_S
MOST = 1.3


@pytest.fixture
def service(monkeypatch):
    """The emulator in a process of its own, as a service is."""
    command = [sys.executable, "-m", "pl_hybridjobs.emulator", "--latency", str(LATENCY_S), "--concurrency", str(AT_ONCE), "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.match(r"export (\w+)=(\S+)", line):
                monkeypatch.setenv(match[1], match[2].strip("'\""))
            if "BRAKET_ENDPOINT" in line:
                break
        assert os.environ.get("BRAKET_ENDPOINT"), lines
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield
        process.terminate()
        process.communicate()


def circuits():
    """Those of a parameter-shift gradient: two for each parameter and each word that has to be measured apart."""
    angles = pnp.array(np.linspace(0.1, 3.0, PARAMETERS), requires_grad=True)
    operations = []
    for i, angle in enumerate(angles):
        operations += [(qml.RX, qml.RY)[i // WIRES % 2](angle, i % WIRES), qml.CNOT([i % WIRES, (i + 1) % WIRES])]
    found = []
    for word in WORDS:
        measured = qml.pauli.string_to_pauli_word(word)
        tape = qml.tape.QuantumScript(operations, [qml.expval(measured)], shots=SHOTS, trainable_params=list(range(PARAMETERS)))
        shifted, _ = qml.gradients.param_shift(tape)
        found += shifted
    return found


def seconds(device) -> tuple[float, np.ndarray]:
    """Of the second call: connections are open, and modules loaded."""
    wanted = circuits()
    qml.execute(wanted[:2], device, diff_method=None)
    began_s = time.perf_counter()
    found = qml.execute(wanted, device, diff_method=None)
    return time.perf_counter() - began_s, np.asarray(found)


# The plug-in leaves event loops and sockets open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_gradient_takes_little_longer_than_the_service(service, report):
    took_s, found = seconds(qml.device("hybridjobs.qpu", SV1, wires=WIRES, max_parallel=CIRCUITS))
    peer = qml.device("braket.aws.qubit", device_arn=SV1, wires=WIRES, parallel=True, max_parallel=CIRCUITS, poll_interval_seconds=0.1)
    peer_s, expected = seconds(peer)

    report(f"limit of {CIRCUITS} circuits, {LATENCY_S} s each, {AT_ONCE} at once", LIMIT_S, "s")
    report("hybridjobs.qpu", took_s, "s")
    report("braket.aws.qubit(parallel=True)", peer_s, "s")
    np.testing.assert_allclose(found, expected, atol=6 * np.sqrt(2 / SHOTS))  # of the same circuits
    assert took_s < MOST * LIMIT_S
