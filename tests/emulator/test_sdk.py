"""The unmodified Amazon Braket SDK against the emulator."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from braket.aws import AwsDevice, AwsQuantumTask
from braket.aws.queue_information import QueueType
from braket.circuits import Circuit, FreeParameter, Noise, observables
from braket.ir.openqasm import Program
from braket.program_sets import CircuitBinding, ProgramSet

from pl_hybridjobs.emulator import emulator
from tests.emulator.conftest import ANKAA, DM1, FORTE, GARNET, IBEX, SV1

pytestmark = [pytest.mark.usefixtures("running", "swept"), pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

BELL = Circuit().h(0).cnot(0, 1)


@cache
def device(arn: str) -> AwsDevice:
    """Made once, in the emulator that all share: each makes several boto3 clients, which takes its time."""
    return AwsDevice(arn)


@pytest.mark.parametrize("arn", [SV1, DM1, FORTE, GARNET, ANKAA, IBEX])
def test_each_device_runs_a_bell_pair(arn):
    circuit = Circuit().h(1).cnot(1, 2) if arn == GARNET else BELL  # Garnet's qubits begin at 1

    counts = device(arn).run(circuit, shots=200).result().measurement_counts

    assert device(arn).is_available
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 200
    assert abs(counts["00"] - 100) < 50


def test_all_devices_are_found_and_their_capabilities_pass_the_schemas():
    devices = AwsDevice.get_devices()  # it warns where a schema does not pass, and warnings are errors here

    assert {found.arn for found in devices} == {SV1, DM1, FORTE, GARNET, ANKAA, IBEX}
    assert {found.name: found.properties.paradigm.qubitCount for found in devices} == {
        "SV1": 34,
        "DM1": 17,
        "Forte 1": 36,
        "Garnet": 20,
        "Ankaa-3": 82,
        "Ibex Q1": 12,
    }
    assert len(device(GARNET).topology_graph.edges) == 60


def test_devices_are_found_by_name_and_kind():
    assert [found.name for found in AwsDevice.get_devices(types=["SIMULATOR"], names=["SV1", "Forte 1"])] == ["SV1"]


def test_an_unknown_device_is_not_found():
    with pytest.raises(ValueError, match="not found"):
        AwsDevice("arn:aws:braket:us-east-1::device/qpu/ionq/Nonesuch")


def test_exact_results_of_every_kind():
    circuit = Circuit().ry(0, 0.3).cnot(0, 1)
    circuit.expectation(observables.Z(0)).variance(observables.X(0) @ observables.Y(1)).probability(target=[1])
    circuit.state_vector().amplitude(["00", "11"]).density_matrix(target=[0])

    expectation, variance, probability, state, amplitude, density = device(SV1).run(circuit, shots=0).result().values

    half = 0.15
    assert expectation == pytest.approx(math.cos(0.3))
    assert variance == pytest.approx(1)
    np.testing.assert_allclose(probability, [math.cos(half) ** 2, math.sin(half) ** 2])
    np.testing.assert_allclose(state, [math.cos(half), 0, 0, math.sin(half)])
    assert amplitude == pytest.approx({"00": math.cos(half), "11": math.sin(half)})
    np.testing.assert_allclose(np.array(density)[..., 0], np.diag([math.cos(half) ** 2, math.sin(half) ** 2]), atol=1e-12)


def test_results_of_shots_agree_with_the_measurements():
    circuit = Circuit().ry(0, 0.8).cnot(0, 1).h(2).cnot(0, 3)
    circuit.expectation(observables.Z(0) @ observables.Z(1)).sample(observables.X(2)).variance(observables.Z(0))
    circuit.expectation(observables.Hermitian(np.array([[2, 0], [0, 5]])), target=3)

    result = device(SV1).run(circuit, shots=500).result()

    zz, samples, variance, weighted = result.values
    bits = result.measurements
    ones = bits[:, 0].mean()
    assert zz == 1.0
    assert list(samples) == [1] * 500  # |+> is measured in its own basis
    assert variance == pytest.approx(np.var(1 - 2 * bits[:, 0]))
    assert ones == pytest.approx(math.sin(0.4) ** 2, abs=0.1)
    assert weighted == pytest.approx(2 * (1 - ones) + 5 * ones)


def test_an_observable_of_all_qubits_gives_a_value_for_each():
    circuit = Circuit().x(0).i(1).expectation(observables.Z())

    assert device(SV1).run(circuit, shots=0).result().values == [[-1, 1]]
    assert device(SV1).run(circuit, shots=5).result().values == [[-1, 1]]


def test_noise_on_dm1():
    circuit = Circuit().x(0).bit_flip(0, 0.25).expectation(observables.Z(0))
    kraus = Circuit().x(0).kraus([0], [np.sqrt(0.9) * np.eye(2), np.sqrt(0.1) * np.array([[0, 1], [1, 0]])]).expectation(observables.Z(0))

    assert device(DM1).run(circuit, shots=0).result().values == [pytest.approx(-0.5)]
    assert device(DM1).run(kraus, shots=0).result().values == [pytest.approx(-0.8)]


def test_noise_on_sv1_is_refused():
    circuit = Circuit().x(0).apply_gate_noise(Noise.BitFlip(0.1)).expectation(observables.Z(0))

    with pytest.raises(Exception, match="uses the noise bit_flip"):
        device(SV1).run(circuit, shots=0)


def test_parameters_travel_as_inputs():
    theta = FreeParameter("theta")
    circuit = Circuit().rx(0, theta).expectation(observables.Z(0))

    values = (
        device(SV1)
        .run_batch([circuit] * 3, shots=0, poll_interval_seconds=0.05, inputs=[{"theta": t} for t in (0.0, 0.5, math.pi)])
        .results()
    )

    assert [result.values[0] for result in values] == pytest.approx([1, math.cos(0.5), -1])


def test_a_batch_keeps_its_order():
    circuits = [Circuit().x(0) if n % 3 else Circuit().i(0) for n in range(8)]

    batch = device(SV1).run_batch(circuits, shots=4, max_parallel=4, poll_interval_seconds=0.05)

    assert [result.measurement_counts for result in batch.results()] == [{"1": 4} if n % 3 else {"0": 4} for n in range(8)]


def test_the_adjoint_gradient():
    a, c = FreeParameter("a"), FreeParameter("c")
    circuit = Circuit().rx(0, a).ry(1, 2 * c)
    circuit.adjoint_gradient(2 * observables.Z(0) + 0.5 * observables.Z(0) @ observables.X(1), parameters=["a", "c"])

    result = device(SV1).run(circuit, shots=0, inputs={"a": 0.4, "c": 0.7}).result()

    value = result.values[0]
    assert value["expectation"] == pytest.approx(2 * math.cos(0.4) + 0.5 * math.cos(0.4) * math.sin(1.4))
    assert value["gradient"]["a"] == pytest.approx(-math.sin(0.4) * (2 + 0.5 * math.sin(1.4)))
    assert value["gradient"]["c"] == pytest.approx(math.cos(0.4) * math.cos(1.4))


@pytest.mark.parametrize("arn", [FORTE, ANKAA, IBEX])
def test_a_program_set_is_one_task(running, arn):
    theta = FreeParameter("theta")
    before = len(running.tasks)
    programs = ProgramSet(
        [CircuitBinding(Circuit().rx(0, theta), input_sets={"theta": [0.0, math.pi]}), Circuit().x(0).i(1)],
        shots_per_executable=20,
    )

    result = device(arn).run(programs).result()

    assert [[dict(entry.counts) for entry in program] for program in result.entries] == [[{"0": 20}, {"1": 20}], [{"10": 20}]]
    assert len(running.tasks) == before + 1


def test_a_large_program_set_lies_in_many_objects(enter):
    with emulator(devices=["Forte 1"], scattered=True) as running:
        enter(running)

        result = AwsDevice(FORTE).run(ProgramSet([Circuit().x(0), Circuit().i(0)], shots_per_executable=10)).result()

    assert [dict(program[0].counts) for program in result.entries] == [{"1": 10}, {"0": 10}]


def test_observables_of_a_program_set_are_averaged():
    programs = ProgramSet([CircuitBinding(Circuit().x(0).h(1), observables=[observables.Z(0), observables.X(1)])], shots_per_executable=30)

    result = device(FORTE).run(programs).result()

    assert [entry.expectation for entry in result[0].entries] == [-1, 1]


def test_a_program_set_that_cannot_run_says_which_executable():
    programs = ProgramSet([Circuit().x(0), Circuit().ccnot(0, 1, 2)], shots_per_executable=10)

    with pytest.raises(Exception, match=r"(?s)1 executable.*'programIndex': 1.*uses a gate: ccnot"):
        device(FORTE).run(programs)


def test_a_failed_program_set_has_its_failures_in_s3(enter):
    with emulator(faults="fail=1") as failing:
        enter(failing)
        task = AwsDevice(FORTE).run(ProgramSet([BELL, BELL], shots_per_executable=10))

        result = task.result()

        assert task.state() == "FAILED"
        assert [entry.failureMetadata.category.value for program in result.entries for entry in program.entries] == ["DEVICE", "DEVICE"]


def test_verbatim_boxes_hold_native_gates_on_neighbours():
    native = Circuit().prx(1, math.pi, 0).cz(1, 2)

    counts = device(GARNET).run(Circuit().add_verbatim_box(native), shots=10).result().measurement_counts

    assert counts == {"10": 10}
    with pytest.raises(Exception, match="uses a gate: h in a verbatim box"):
        device(GARNET).run(Circuit().add_verbatim_box(Circuit().h(1)), shots=10)
    with pytest.raises(Exception, match="qubits 1 and 20 are not connected"):
        device(GARNET).run(Circuit().add_verbatim_box(Circuit().cz(1, 20)), shots=10)


def test_queue_positions_and_depth(enter):
    with emulator(devices=["Forte 1"]) as busy:
        enter(busy)
        forte = AwsDevice(FORTE)
        busy.hold("Forte 1")
        tasks = [forte.run(BELL, shots=10) for _ in range(2)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AMZN_BRAKET_JOB_TOKEN", "secret token of a job")
            first = forte.run(BELL, shots=10)

        assert [task.queue_position().queue_position for task in (*tasks, first)] == ["1", "2", "1"]
        assert first.queue_position().queue_type == QueueType.PRIORITY
        assert forte.queue_depth().quantum_tasks == {QueueType.NORMAL: "2", QueueType.PRIORITY: "1"}

        busy.release("Forte 1")
        assert busy.wait()
        assert [line.task for line in busy.bill.lines] == [first.id, tasks[0].id, tasks[1].id]
        assert "COMPLETED" in first.queue_position().message
        assert "secret" not in repr(busy.tasks)


def test_cancelling_a_waiting_task(enter, slowly_cancelled):
    with emulator(devices=["SV1"], latency_s=30) as slow:
        enter(slow)
        task = AwsDevice(SV1).run(BELL, shots=10)

        task.cancel()

        assert task.state() == "CANCELLING"
        assert slow.wait(10)
        assert task.state() == "CANCELLED"
        assert task.result() is None
        assert slow.bill.total_usd == 0


def test_a_failed_task_says_why_and_costs_nothing(enter):
    with emulator(devices=["SV1"], faults="fail=1") as failing:
        enter(failing)
        task = AwsDevice(SV1).run(BELL, shots=10)

        assert task.result() is None
        assert "fault injection" in task.metadata()["failureReason"]
        assert failing.bill.total_usd == 0


def test_tags_of_a_task():
    task = device(SV1).run(BELL, shots=10, tags={"project": "h2"})

    task.result()

    assert task.metadata()["tags"] == {"project": "h2"}
    assert AwsQuantumTask(task.id).state() == "COMPLETED"


def test_a_dynamic_circuit_is_an_experimental_capability():
    source = "OPENQASM 3.0;\nbit[2] b;\nx $1;\nmeasure_ff(0) $1;\ncc_prx(3.141592653589793, 0.0, 0) $2;\nb[0] = measure $1;\nb[1] = measure $2;\n"
    with pytest.raises(Exception, match="experimentalCapabilities"):
        device(GARNET).run(Program(source=source), shots=10)

    counts = device(GARNET).run(Program(source=source), shots=10, experimental_capabilities="ALL").result().measurement_counts

    assert counts == {"11": 10}
