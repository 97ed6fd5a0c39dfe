"""Where jobs go, and which devices they find there."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from braket.devices import Devices

from pl_hybridjobs.compat import braket
from pl_hybridjobs.compat.braket import AwsQuantumJob, creation, devices, setting
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.durable import dump_json, dump_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import open_job
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State

SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
DM1 = "arn:aws:braket:::device/quantum-simulator/amazon/dm1"
ARN = "arn:aws:braket:us-east-1:1:job/4-2"
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"


@dataclass(frozen=True)
class Elsewhere:
    """A runner with the options of Amazon Braket's, which starts nothing."""

    name: ClassVar[str] = "braket"
    role_arn: str | None = None
    image_uri: str | None = None
    region: str | None = None
    profile: str | None = None
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    volume_gb: int = 30
    output_s3: str | None = None
    checkpoint_s3: str | None = None
    code_s3: str | None = None
    kms_key_id: str | None = None
    reservation_arn: str | None = None
    distribution: str | None = None

    def complaints(self, spec: Any) -> list[str]:
        return []

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        run = folder.path / "braket" / "1"
        run.mkdir(parents=True)
        (run / "intent.json").write_bytes(dump_sealed({}))
        (run / "arn.json").write_bytes(dump_sealed({"arn": ARN}))
        told = {"status": "QUEUED", "createdAt": 5.0, "events": [{"eventType": "QUEUED_FOR_EXECUTION", "timeOfEvent": 6.0}]}
        (run / "answer.json").write_bytes(dump_json({"time": 7.0, "answer": {**told, "queueInfo": {"position": ">15"}}}))

    def observe(self, folder: JobFolder) -> Any:
        return State(Status.QUEUED)

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """Nothing runs."""


@pytest.fixture
def elsewhere(monkeypatch):
    """Jobs for Amazon Braket go to a runner that keeps them."""
    monkeypatch.setitem(runners._OURS, "braket", f"{__name__}:Elsewhere")
    braket.use("braket")


def nothing():
    """Runs nowhere in this file."""


def test_without_account_and_decision_the_error_names_the_setting():
    with pytest.raises(InvalidCall, match="HYBRIDJOBS_BRAKET=local"):
        braket.hybrid_job(device=None)(nothing)()


def test_decorating_asks_for_nothing():
    assert braket.hybrid_job(device=SV1)(nothing).__wrapped__ is nothing  # type: ignore[attr-defined] # as the SDK's


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_with_an_account_jobs_go_to_amazon_braket(monkeypatch, variable):
    monkeypatch.setenv(variable, "x")

    assert setting.runner_name(local=False, has_session=False) == "braket"


def test_a_file_of_credentials_is_an_account(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert setting.runner_name(local=False, has_session=False) == "braket"


def test_a_decision_comes_before_the_account_and_is_said_once(monkeypatch, capsys):
    monkeypatch.setenv("AWS_PROFILE", "x")
    monkeypatch.setenv("HYBRIDJOBS_BRAKET", "rehearsal")
    assert setting.runner_name(local=False, has_session=True) == "rehearsal"
    braket.use("local")
    assert [setting.runner_name(local=False, has_session=False) for _ in range(3)] == ["local"] * 3

    assert capsys.readouterr().err.count("run on this machine (HYBRIDJOBS_BRAKET=local)") == 1


def test_a_program_that_says_local_needs_no_decision():
    assert setting.runner_name(local=True, has_session=False) == "local"


def test_a_place_that_is_none_is_refused(monkeypatch):
    with pytest.raises(InvalidCall, match="Did you mean 'local'"):
        braket.use("locale")  # type: ignore[arg-type] # on purpose
    monkeypatch.setenv("HYBRIDJOBS_BRAKET", "mars")
    with pytest.raises(InvalidCall, match="HYBRIDJOBS_BRAKET=mars"):
        setting.chosen()


def test_all_settings_of_amazon_braket_become_options_of_its_runner(elsewhere, monkeypatch):
    session = SimpleNamespace(region="eu-north-1", boto_session=SimpleNamespace(profile_name="lab"))
    job = braket.hybrid_job(
        device=Devices.Amazon.SV1,
        job_name="sweep-1",
        image_uri="123.dkr.ecr.eu-north-1.amazonaws.com/mine:1",
        instance_config=braket.InstanceConfig("ml.p3.2xlarge", 50, 2),
        distribution="data_parallel",
        checkpoint_config=braket.CheckpointConfig(s3Uri="s3://b/checkpoints"),
        role_arn="arn:aws:iam::1:role/r",
        stopping_condition=braket.StoppingCondition(3600),
        output_data_config=braket.OutputDataConfig("s3://b/out", "key"),
        aws_session=session,
        tags={"team": "a"},
        reservation_arn="arn:aws:braket:eu-north-1:1:reservation/r",
    )(nothing)()

    spec = open_job("sweep-1").spec
    assert spec.runner_options == {
        "role_arn": "arn:aws:iam::1:role/r",
        "image_uri": "123.dkr.ecr.eu-north-1.amazonaws.com/mine:1",
        "region": "eu-north-1",
        "profile": "lab",
        "instance_type": "ml.p3.2xlarge",
        "instance_count": 2,
        "volume_gb": 50,
        "output_s3": "s3://b/out",
        "checkpoint_s3": "s3://b/checkpoints",
        "code_s3": None,
        "kms_key_id": "key",
        "reservation_arn": "arn:aws:braket:eu-north-1:1:reservation/r",
        "distribution": "data_parallel",
    }
    assert (spec.device, spec.tags, spec.resources.timeout_s) == (SV1, {"team": "a"}, 3600)
    assert isinstance(job, AwsQuantumJob)
    assert job.arn == job.metadata()["jobArn"] == ARN
    assert AwsQuantumJob(ARN).name == "sweep-1"
    assert job.metadata()["createdAt"] == datetime.fromtimestamp(5, UTC)
    assert job.metadata()["events"] == [{"eventType": "QUEUED_FOR_EXECUTION", "timeOfEvent": datetime.fromtimestamp(6, UTC)}]
    assert job.queue_position().queue_position == ">15"
    assert job.state() == job.metadata()["status"] == "QUEUED"
    with pytest.raises(ValueError, match="hybridjobs attach arn:aws:braket:us-east-1:1:job/other"):
        AwsQuantumJob("arn:aws:braket:us-east-1:1:job/other")


def test_the_role_of_the_environment_counts(elsewhere, monkeypatch):
    monkeypatch.setenv("BRAKET_JOBS_ROLE_ARN", "arn:aws:iam::1:role/env")

    braket.hybrid_job(device=None, job_name="plain")(nothing)()

    assert open_job("plain").spec.runner_options == {**dict.fromkeys(_NAMES), "role_arn": "arn:aws:iam::1:role/env", **_DEFAULTS}


_NAMES = [
    "image_uri",
    "region",
    "profile",
    "output_s3",
    "checkpoint_s3",
    "code_s3",
    "kms_key_id",
    "reservation_arn",
    "distribution",
]
_DEFAULTS = {"instance_type": "ml.m5.large", "instance_count": 1, "volume_gb": 30}


def test_inputs_in_s3_go_to_amazon_braket_as_they_are():
    found: list[str] = []
    given = {"a": "s3://b/x", "b": braket.S3DataSourceConfig("s3://b/y")}

    assert creation._inputs(given, "braket", None, found) == ({"a": "s3://b/x", "b": "s3://b/y"}, ())  # type: ignore[arg-type] # no folder needed
    assert found == []


class Named(Enum):
    SV1 = SV1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "local:none/none"),
        (SV1, SV1),
        (Named.SV1, SV1),
        (Devices.Amazon.SV1, SV1),
        (SimpleNamespace(arn=SV1), SV1),
        ("local:pennylane/lightning.qubit", "local:pennylane/lightning.qubit"),
    ],
)
def test_a_device_is_taken_in_any_form(given, text):
    assert devices.text_of(given) == text


def test_what_is_no_device_is_refused():
    with pytest.raises(InvalidCall, match="not 5"):
        devices.text_of(5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SV1, "hybridjobs.qubit"),
        (DM1, "hybridjobs.mixed"),
        (FORTE, "hybridjobs.qubit"),
        ("local:braket/default", "hybridjobs.qubit"),
        ("local:braket/braket_dm", "hybridjobs.mixed"),
        ("local:pennylane/default.qubit", "local:pennylane/default.qubit"),
        ("local:own/notes", "local:none/none"),
        ("local:none/none", None),
        ("arn:aws:braket:::device/quantum-simulator/amazon/sv9", "arn:aws:braket:::device/quantum-simulator/amazon/sv9"),
        ("arn:typo", "arn:typo"),
    ],
)
def test_on_this_machine_a_device_is_a_simulator(here, capsys, text, found):
    assert devices.native(text) == found
    told = capsys.readouterr().err
    assert (f"{text} is {found} here" in told) == (found is not None and found.startswith("hybridjobs."))
    assert ("without the machine's noise" in told) == (text == FORTE)


def test_elsewhere_a_device_is_itself():
    assert devices.native(SV1) == SV1
    assert devices.native("local:own/notes") == "local:none/none"


class Later:
    """A finder that came after ours and finds the plugin, too: as that of ``importlib_metadata``, which MLflow imports."""

    find_spec = staticmethod(importlib.machinery.PathFinder.find_spec)
    find_distributions = staticmethod(importlib.metadata.MetadataPathFinder.find_distributions)


def test_pennylane_finds_the_plugins_devices_only_while_it_is_decided(here, monkeypatch):
    def found():
        entries = importlib.metadata.entry_points(group="pennylane.plugins")
        return [entry.value for entry in entries if entry.name == "braket.aws.qubit"]

    assert found()[-1] == "pl_hybridjobs.compat.braket.devices:aws_qubit"
    monkeypatch.setattr(sys, "meta_path", [devices.Finder, Later])
    assert found()[-1] == "pl_hybridjobs.compat.braket.devices:aws_qubit"
    braket.use(None)
    assert "pl_hybridjobs.compat.braket.devices:aws_qubit" not in found()


def test_the_plugins_devices_are_our_simulators(here, capsys):
    import pennylane as qml

    made = [
        qml.device("braket.local.qubit", wires=2),
        qml.device("braket.local.qubit", wires=2, backend="braket_dm"),
        qml.device("braket.aws.qubit", device_arn=Devices.Amazon.SV1, wires=2, parallel=True, max_parallel=3),
        qml.device("braket.aws.qubit", device_arn=DM1, wires=2, s3_destination_folder=("b", "p")),
    ]

    assert [device.name for device in made] == ["hybridjobs.qubit", "hybridjobs.mixed", "hybridjobs.qubit", "hybridjobs.mixed"]
    assert capsys.readouterr().err.count("(HYBRIDJOBS_BRAKET=local)") == 4

    @qml.qnode(made[2])
    def circuit(x):
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    assert float(circuit(0.0)) == 1.0
    braket.use(None)
    assert qml.plugin_devices["braket.local.qubit"].value.startswith("braket.pennylane_plugin")


def test_a_machine_gives_samples_and_what_cannot_be_imitated_is_refused(here):
    import pennylane as qml

    assert qml.device("braket.aws.qubit", device_arn=FORTE, wires=1).shots.total_shots == 1000
    with pytest.raises(InvalidCall, match="samples only"):
        qml.device("braket.aws.qubit", device_arn=FORTE, wires=1, shots=None)
    with pytest.raises(InvalidCall, match="noise_model"):
        qml.device("braket.local.qubit", wires=1, noise_model=object())
    with pytest.raises(InvalidCall, match="no backend 'braket_ahs'"):
        qml.device("braket.local.qubit", wires=1, backend="braket_ahs")
    with pytest.raises(InvalidCall, match="no device of Amazon Braket"):
        qml.device("braket.aws.qubit", device_arn="sv1", wires=1)
