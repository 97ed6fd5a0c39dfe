"""Device names, and the devices made from them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import device

SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
GOOD = ["default.qubit", "lightning.qubit", "local:pennylane/lightning.qubit", "local:none/none", SV1, FORTE, "rehearsal:ideal?max_shots=3"]


@pytest.mark.parametrize("name", [*GOOD, None, {"a": "default.qubit", "b": "lightning.qubit"}])
def test_what_can_be_had_has_no_complaint(name):
    assert device.complaints(name) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lighning.qubit", "Did you mean 'lightning.qubit'"),
        ("arn:aws:s3:::bucket", "no Amazon resource name of a Braket device; one looks like arn:aws:braket:us-east-1::device/qpu"),
        (FORTE.replace("/qpu/", "/"), "no Amazon resource name"),
        (FORTE + " ", "no Amazon resource name"),
        ("rehearsel:ideal", "Did you mean 'rehearsal'"),
        ("rehearsal:", "names no target"),
        ("rehearsal:idael", "Did you mean 'ideal'"),
        ("rehearsal:qpu?latncy_s=1", "device 'rehearsal:qpu?latncy_s=1': a rehearsal has no option 'latncy_s'"),
        ("hybridjobs.qpu", "does not say which"),
        ("local:lightning.qubit", "must look like local:"),
        ({}, "names no device"),
        ({"": "default.qubit"}, "roles must be text"),
        ({"a": 5}, "not int"),
        (5, "not int"),
    ],
)
def test_what_is_wrong_is_said(name, said):
    (complaint,) = device.complaints(name)
    assert said in complaint


def test_what_a_target_costs_is_known_before_the_job_runs():
    cheap, dear = device.price("rehearsal:qpu?task_usd=0.3"), device.price(FORTE)

    assert cheap is not None
    assert cheap.usd(tasks=2) == Decimal("0.60")
    assert dear is not None
    assert dear.usd(tasks=1, shots=100) == Decimal("8.30")
    assert device.price("rehearsal:qpu?priced=0") is None


def test_all_roles_are_looked_at():
    assert len(device.complaints({"a": "nope", "b": "nope either", "c": "default.qubit"})) == 2


def test_a_device_is_made_with_its_options():
    made = device.build("local:pennylane/lightning.qubit", None, {"wires": 3})

    assert (made.name, len(made.wires)) == ("lightning.qubit", 3)
    assert device.build(None, None, {}).name == device.DEFAULT


@pytest.mark.parametrize("target", [SV1, "rehearsal:ideal"])
def test_a_target_becomes_a_remote_device(target, monkeypatch):
    """PennyLane is asked for ``hybridjobs.qpu`` with the target, and passes the options on."""
    monkeypatch.setattr("pennylane.device", lambda *names, **options: (names, options))

    assert device.build({"final": target}, "final", {"wires": 2, "shots": 10}) == (("hybridjobs.qpu", target), {"wires": 2, "shots": 10})


def test_a_role_picks_one_of_several():
    roles = {"train": "default.qubit", "check": "lightning.qubit"}

    assert device.build(roles, "check", {"wires": 1}).name == "lightning.qubit"
    assert device.build({"only": "default.qubit"}, None, {}).name == "default.qubit"
    with pytest.raises(InvalidCall, match="which role"):
        device.build(roles, None, {})
    with pytest.raises(InvalidCall, match="no role 'test'"):
        device.build(roles, "test", {})
    with pytest.raises(InvalidCall, match="without roles"):
        device.build("default.qubit", "train", {})


def test_a_job_without_a_device_says_so():
    with pytest.raises(InvalidCall, match="means none"):
        device.build("local:none/none", None, {})
