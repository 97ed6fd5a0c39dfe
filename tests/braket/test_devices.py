"""Resource names of devices, and what GetDevice says of them."""

from __future__ import annotations

import contextlib
import copy
import json
from importlib.resources import files

import pytest

from pl_hybridjobs.braket import tasks
from pl_hybridjobs.braket.devices import arn_of, availability_of, capabilities_of
from pl_hybridjobs.devices.provider import ProgramSets
from pl_hybridjobs.errors import InvalidCall, ProviderError
from tests.braket.conftest import ANKAA, DM1, FORTE, GARNET, SV1


def described(arn):
    """GetDevice's answer, as the emulator has it."""
    for path in files("pl_hybridjobs.emulator").joinpath("catalogue").iterdir():
        row = json.loads(path.read_text())
        if row["arn"] == arn:
            return {
                "deviceArn": arn,
                "deviceName": row["name"],
                "providerName": row["provider"],
                "deviceType": row["kind"],
                "deviceStatus": "ONLINE",
                "deviceCapabilities": json.dumps(row["capabilities"]),
            }
    raise LookupError(arn)


def capabilities(arn, **options):
    return capabilities_of(described(arn), arn_of(arn)[0], **options)


# Names -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arn", "complaint"),
    [
        ("Forte-1", "six parts between colons"),
        ("arn:aws:braket:us-east-1:device/qpu/ionq/Forte-1", "six parts between colons"),
        ("arm:aws:braket:us-east-1::device/qpu/ionq/Forte-1", "must with arn:aws:"),
        ("arn:aws:sagemaker:us-east-1::device/qpu/ionq/Forte-1", "of the service 'sagemaker'"),
        ("arn:aws:braket:us-east-1:123456789012:device/qpu/ionq/Forte-1", "devices belong to none"),
        ("arn:aws:braket:us-east-1::device/qpu/Forte-1", "'device/qpu/<vendor>/<name>'"),
        ("arn:aws:braket:us-east-1::device/qpu/ionq/", "'device/qpu/<vendor>/<name>'"),
        ("arn:aws:braket:us-east-1::device/annealer/dwave/2000Q", "of the kind 'annealer'"),
        ("arn:aws:braket:::device/qpu/ionq/Forte-1", "names no region"),
        ("arn:aws:braket:useast1::device/qpu/ionq/Forte-1", "'useast1' is no region"),
        ("arn:aws:braket:us-east-1::device/qpu/ionq/Forte 1", "holds blanks"),
    ],
)
def test_a_malformed_name_is_refused_with_the_reason(arn, complaint):
    with pytest.raises(InvalidCall, match=complaint):
        tasks.open(arn)


def test_everything_that_is_wrong_with_a_name_is_said_at_once():
    assert len(arn_of("arn:azure:braked:moon:7:device/cpu/x/y")[1]) == 5


@pytest.mark.parametrize("arn", [SV1, DM1, FORTE, GARNET, ANKAA, "arn:aws-us-gov:braket:us-gov-west-1::device/qpu/ionq/Forte-1"])
def test_a_proper_name_has_nothing_wrong(arn):
    assert arn_of(arn)[1] == []


def test_an_unknown_device_has_neighbours(emulated):
    emulated()

    with pytest.raises(ProviderError, match=r"us-east-1 has no device .*Forte-2\. Did you mean .*Forte-1"):
        tasks.open(FORTE.replace("Forte-1", "Forte-2")).capabilities()


def test_a_simulator_in_a_region_that_lacks_it_is_said_to_be_elsewhere(emulated):
    emulated()

    with pytest.raises(ProviderError, match=r"eu-north-1 has no device .*try region='us-east-1'"):
        tasks.open(SV1, region="eu-north-1").capabilities()


def test_capabilities_are_looked_up_once(emulated):
    running = emulated()
    qpu = tasks.open(SV1, attempts=1)
    first = qpu.capabilities()
    running.close()

    assert qpu.capabilities() is first
    with pytest.raises(ProviderError, match="no proper answer"):
        qpu.availability()


# What they can do ------------------------------------------------------------------------------------------------------------


def test_what_a_simulator_can_do():
    sv1, dm1 = capabilities(SV1), capabilities(DM1)

    assert sv1.is_simulator
    assert sv1.qubits == tuple(range(34))
    assert sv1.connectivity is None
    assert sv1.analytic == {"Expectation", "Variance", "Probability", "State", "DensityMatrix"}
    assert {"RX", "CNOT", "QubitUnitary", "C(RY)"} <= sv1.gates
    assert (sv1.min_shots, sv1.max_shots, sv1.program_sets) == (1, 100_000, None)
    assert sv1.adjoint_gradient
    assert not sv1.channels
    assert {"AmplitudeDamping", "DepolarizingChannel", "QubitChannel"} <= dm1.channels
    assert not dm1.adjoint_gradient


def test_what_an_ion_trap_can_do():
    forte = capabilities(FORTE)

    assert not forte.is_simulator
    assert forte.connectivity is None
    assert not forte.analytic
    assert forte.program_sets == ProgramSets(max_circuits=100, max_total_shots=forte.program_sets.max_total_shots)
    assert forte.min_shots >= 1
    assert "QubitUnitary" not in forte.gates
    assert forte.region == "us-east-1"


@pytest.mark.parametrize("arn", [GARNET, ANKAA])
def test_joined_qubits_are_joined_both_ways(arn):
    found = capabilities(arn)

    assert found.connectivity
    assert all((second, first) in found.connectivity for first, second in found.connectivity)
    assert {qubit for pair in found.connectivity for qubit in pair} <= set(found.qubits)


def test_the_numbers_of_qubits_are_the_vendors():
    assert capabilities(GARNET).qubits == tuple(range(1, 21))


def test_a_reservation_may_allow_other_shots():
    told = described(FORTE)
    inner = json.loads(told["deviceCapabilities"])
    inner["service"]["reservationShotsRange"] = [500, 600]
    told["deviceCapabilities"] = json.dumps(inner)

    found = capabilities_of(told, arn_of(FORTE)[0], reserved=True)

    assert (found.min_shots, found.max_shots) == (500, 600)
    assert capabilities_of(told, arn_of(FORTE)[0]).max_shots != 600


# What nobody knows yet -------------------------------------------------------------------------------------------------------


def paths(value, path=()):
    """Of all parts of nested dicts."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key)
            yield from paths(part, (*path, key))


def without(value, path):
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return found


@pytest.mark.parametrize("arn", [SV1, GARNET])
def test_parts_that_are_missing_are_not_told(arn):
    told = described(arn)
    inner = json.loads(told["deviceCapabilities"])
    parts = [path for path in paths(inner) if path[0] in ("action", "service", "paradigm") and len(path) < 5]

    for path in parts:
        changed = {**told, "deviceCapabilities": json.dumps(without(inner, path))}
        with contextlib.suppress(ProviderError):  # it says what is wrong; any other error is ours
            capabilities_of(changed, arn_of(arn)[0])
        assert availability_of(changed).state == "online"
    assert len(parts) > 20


@pytest.mark.parametrize("junk", [None, 7, "text", [], {}, {"unknown": 1}, [1, 2, 3]], ids=str)
def test_parts_of_another_kind_do_no_harm(junk):
    told = described(GARNET)
    inner = json.loads(told["deviceCapabilities"])

    for path in [path for path in paths(inner) if path[0] in ("action", "service", "paradigm") and len(path) < 4]:
        changed = copy.deepcopy(inner)
        part = changed
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = junk
        with contextlib.suppress(ProviderError):  # it says what is wrong; any other error is ours
            assert capabilities_of({**told, "deviceCapabilities": json.dumps(changed)}, arn_of(GARNET)[0]).name == "Garnet"


def test_fields_that_are_new_are_ignored():
    told = described(FORTE)
    inner = json.loads(told["deviceCapabilities"]) | {"futures": {"a": 1}}
    inner["action"]["braket.ir.quil.program"] = {"version": ["9"]}

    assert capabilities_of({**told, "deviceCapabilities": json.dumps(inner)}, arn_of(FORTE)[0]) == capabilities(FORTE)


def test_a_device_without_circuits_is_refused():
    told = described(FORTE) | {"deviceName": "Aquila", "deviceCapabilities": json.dumps({"action": {"braket.ir.ahs.program": {}}})}

    with pytest.raises(ProviderError, match=r"Aquila .* takes no circuits: it has braket\.ir\.ahs\.program"):
        capabilities_of(told, arn_of(FORTE)[0])


def test_a_description_that_is_no_json_is_named():
    with pytest.raises(ProviderError, match=r"Forte-1 is no JSON"):
        capabilities_of(described(FORTE) | {"deviceCapabilities": "{"}, arn_of(FORTE)[0])
