"""The contract suite of all remote devices, over real boto3 and HTTP against the emulator."""

from __future__ import annotations

import uuid
from typing import Any

import pennylane as qml
import pytest

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Ledger
from pl_hybridjobs.emulator import emulator
from tests.braket.conftest import DM1, FORTE, SV1
from tests.devices.providers import Bought
from tests.devices.test_qpu_contract import *  # noqa: F403 - this is what is tested

# The emulator's names of a rehearsal's manners. Of the others it has no like: a test that needs one is the rehearsal's alone.
_MANNERS = {"latency_s": "latency_s", "at_once": "concurrency", "seed": None, "throttle": "faults", "offline_s": "offline"}
_NOT_NATIVE = "no device of Amazon Braket has RX and CZ as native gates; test_tasks.py has such tests"
_OTHERS = {
    "test_verbatim_runs_native_gates_on_the_qubits_that_are_named": _NOT_NATIVE,
    "test_verbatim_refuses_all_that_is_not_native_at_once": _NOT_NATIVE,
    "test_time_that_is_over_loses_nothing": "its second call has too little time for HTTP; test_chaos.py has many such calls",
}


#: Those of every test run; the others are in the long round.
ALWAYS = {
    "test_exact_values_are_those_of_default_qubit",
    "test_samples_and_counts_are_shaped_as_pennylane_shapes_them",
    "test_labels_of_wires_are_the_users_and_their_order_is_the_devices",
    "test_noise_of_the_circuit_is_noise_of_the_result",
    "test_a_gradient_is_one_task_where_program_sets_are",
    "test_results_come_in_the_order_of_the_circuits",
    "test_a_shot_vector_is_one_task_in_slices",
    "test_circuits_of_different_shots_are_kept_apart",
    "test_the_devices_own_gradient_is_one_task_with_the_value",
    "test_coefficients_are_trained_as_well",
    "test_a_batch_is_one_submission",
    "test_an_offline_device_stops_with_a_word",
    "test_an_offline_device_is_waited_for",
    "test_the_same_work_of_the_same_job_is_bought_once",
    "test_threads_share_a_device",
    "test_a_device_travels",
}


class BraketProvider:
    """``arn:aws:braket:...``, at an emulator for each set of manners."""

    def __init__(self, emulators: dict[str, Any]) -> None:
        self._emulators = emulators
        self._began: dict[int, tuple[Any, int]] = {}

    def target(self, kind: str) -> str:
        return {"simulator": SV1, "noisy": DM1, "qpu": FORTE}[kind]

    def online(self, kind: str) -> str:
        pytest.skip("an option of the device, such as the emulator's address, is no option of its fallback's")

    def device(self, kind: str, *, manners: dict[str, Any] | None = None, **options: Any) -> Any:
        running = self._emulator(manners or {})
        device = qml.device("hybridjobs.qpu", self.target(kind), region="us-east-1", endpoint_url=running.url, **options)
        self._began[id(device)] = (running, len(running.tasks))
        return device

    def _emulator(self, manners: dict[str, Any]) -> Any:
        if strange := set(manners) - set(_MANNERS):
            pytest.skip(f"the emulator has no {', '.join(sorted(strange))}")
        options = {option: _value(option, manners) for name in manners if (option := _MANNERS[name])}
        if str(options) not in self._emulators or "offline" in options:
            self._emulators[str(options)] = emulator(seed=1, **options)
        return self._emulators[str(options)]

    def bought(self, device: Any) -> list[Bought]:
        running, first = self._began[id(device)]
        counts = [(task.metadata.get("executableCount", 1), task.request["shots"]) for task in running.tasks[first:]]
        return [Bought(circuits, shots // circuits) for circuits, shots in counts]

    def state(self, device: Any, task_id: str) -> str:
        return str(device.qpu.status(task_id).state)


def _value(name: str, manners: dict[str, Any]) -> Any:
    if name == "faults":
        return f"throttle={1 / manners['throttle']}"
    return {"": [(0.0, manners["offline_s"])]} if name == "offline" else manners[{"concurrency": "at_once"}.get(name, name)]


@pytest.fixture(scope="module")
def emulators():
    running: dict[str, Any] = {}
    yield running
    for one in running.values():
        one.close()


@pytest.fixture  # type: ignore[no-redef] # in place of the suite's
def provider(emulators, monkeypatch, request):
    if reason := _OTHERS.get(request.node.originalname):
        pytest.skip(reason)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    return BraketProvider(emulators)


@pytest.fixture(autouse=True)  # type: ignore[no-redef] # in place of the suite's
def account(tmp_path):
    """An account of its own, whose keys no other test has used at the same emulator."""
    made = Account("the test", Ledger(tmp_path / "spend.sqlite"), namespace=uuid.uuid4().hex)
    with accounts.activate(made) as active:
        yield active
