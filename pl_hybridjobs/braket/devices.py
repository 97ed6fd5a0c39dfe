"""Devices of Amazon Braket: their resource names, and what GetDevice says of them, as the port's ``Capabilities`` and ``Availability``.

The JSON is that of ``amazon-braket-schemas`` (braket.device_schema.*). It is read with tolerance: fields that are not known are ignored,
fields that are missing count as "not told".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pl_hybridjobs.braket.session import Refusal, Session
from pl_hybridjobs.cost.prices import packaged
from pl_hybridjobs.devices import openqasm
from pl_hybridjobs.devices.provider import Availability, Capabilities, ProgramSets
from pl_hybridjobs.errors import ProviderError, did_you_mean

PROGRAM = "braket.ir.openqasm.program"
PROGRAM_SET = "braket.ir.openqasm.program_set"

_EXAMPLE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_PARAMETERS = {  # by the vendor's name in the ARN; the SDK sends the simulators' to all others, too
    "ionq": "braket.device_schema.ionq.ionq_device_parameters",
    "rigetti": "braket.device_schema.rigetti.rigetti_device_parameters",
    "oqc": "braket.device_schema.oqc.oqc_device_parameters",
}
_USUAL_PARAMETERS = "braket.device_schema.simulators.gate_model_simulator_device_parameters"


@dataclass(frozen=True)
class Arn:
    """The resource name of a device: ``arn:aws:braket:<region>::device/<kind>/<vendor>/<name>``.

    Attributes:
        text: All of it.
        region: "" for simulators, which are in several.
        kind: "qpu" or "quantum-simulator".
        vendor: As it stands there.
        name: As it stands there.
    """

    text: str
    region: str
    kind: str
    vendor: str
    name: str

    @property
    def parameters_schema(self) -> str:
        """Of the ``deviceParameters`` that go with a program."""
        return _PARAMETERS.get(self.vendor.lower(), _USUAL_PARAMETERS)


def arn_of(target: str) -> tuple[Arn, list[str]]:
    """A device's name in parts, and everything that is wrong with it."""
    parts = target.split(":")
    if len(parts) != 6:
        return Arn(target, "", "", "", ""), [
            f"{target!r} is no resource name of a device: those have six parts between colons, as in {_EXAMPLE!r}"
        ]
    head, partition, service, region, account, resource = parts
    found = []
    if head != "arn" or not re.fullmatch(r"aws(-[a-z]+)*", partition):
        found.append(f"it begins with {head}:{partition}:, and must with arn:aws:")
    if service != "braket":
        found.append(f"it is of the service {service!r}, and must be of 'braket'")
    if account:
        found.append(f"it holds the account {account!r}, and devices belong to none: leave that part empty")
    path = resource.split("/")
    kind, vendor, name = path[1:] if len(path) == 4 else ("", "", "")
    if len(path) != 4 or path[0] != "device" or not all(path):
        found.append(f"its last part is {resource!r}, not 'device/qpu/<vendor>/<name>' or 'device/quantum-simulator/amazon/<name>'")
    elif kind not in ("qpu", "quantum-simulator"):
        found.append(f"it is a device of the kind {kind!r}; there are 'qpu' and 'quantum-simulator'")
    elif kind == "qpu" and not region:
        found.append("it names no region, and each QPU is in one: for example arn:aws:braket:us-east-1::...")
    if region and not _REGION.fullmatch(region):
        found.append(f"{region!r} is no region; one is 'us-east-1'")
    if re.search(r"\s", target):
        found.append("it holds blanks")
    return Arn(target, region, kind, vendor, name), found


def described(session: Session, arn: Arn) -> dict[str, Any]:
    """GetDevice's answer.

    Raises:
        ProviderError: There is no such device there; near ones are named.
    """
    try:
        return session.call("braket", "get_device", deviceArn=arn.text)
    except Refusal as refusal:
        if refusal.code != "ResourceNotFoundException":
            raise
        known = [str(row.get("deviceArn", "")) for row in _all_devices(session)]
        elsewhere = [other for other in packaged() if other.rpartition("::")[2] == arn.text.rpartition("::")[2] and other != arn.text]
        near = (
            f" Did you mean {elsewhere[0]!r}?"
            if elsewhere
            else did_you_mean(arn.text, known) or (f" There are {', '.join(sorted(known))}." if known else "")
        )
        where = "" if arn.region else " Simulators are not in every region: try region='us-east-1'."
        raise ProviderError(f"{session.region} has no device {arn.text}.{near}{where}") from refusal


def _all_devices(session: Session) -> list[dict[str, Any]]:
    try:
        return list(session.call("braket", "search_devices", filters=[], maxResults=100).get("devices", []))
    except ProviderError:
        return []  # it only helps with a message


def availability_of(device: Mapping[str, Any]) -> Availability:
    """Whether it takes tasks now.

    Args:
        device: GetDevice's answer.
    """
    sizes = {
        str(row.get("queuePriority", "Normal")): str(row.get("queueSize", ""))
        for row in _rows(device.get("deviceQueueInfo"))
        if row.get("queue") == "QUANTUM_TASKS_QUEUE"
    }
    state = str(device.get("deviceStatus", "")).lower()
    note = "" if state == "online" else hours_of(device)
    return Availability(state, queue=sizes.get("Normal", ""), priority_queue=sizes.get("Priority", ""), note=note)


def hours_of(device: Mapping[str, Any]) -> str:
    """When it opens, in words; "" if that is not told."""
    windows = [
        f"{row.get('executionDay', '')} {row.get('windowStartHour', '')} to {row.get('windowEndHour', '')}"
        for row in _rows(_mapping(_loaded(device).get("service")).get("executionWindows"))
    ]
    return f"its hours (UTC): {'; '.join(windows)}" if windows else ""


def capabilities_of(device: Mapping[str, Any], arn: Arn, *, reserved: bool = False, experimental: bool = False) -> Capabilities:
    """What a device can do.

    Args:
        device: GetDevice's answer.
        arn: Its name.
        reserved: Tasks go into a reservation, which may allow other numbers of shots.
        experimental: Experimental capabilities are switched on.

    Raises:
        ProviderError: It takes no circuits, or its description cannot be read.
    """
    try:
        return _capabilities(device, arn, reserved=reserved, experimental=experimental)
    except (TypeError, ValueError) as error:
        raise ProviderError(f"GetDevice's description of {arn.text} cannot be read: {error}") from error


def _capabilities(device: Mapping[str, Any], arn: Arn, *, reserved: bool, experimental: bool) -> Capabilities:
    told = _loaded(device)
    actions, service, paradigm = (_mapping(told.get(key)) for key in ("action", "service", "paradigm"))
    name = str(device.get("deviceName") or arn.name)
    program = _mapping(actions.get(PROGRAM))
    if not program:
        raise ProviderError(
            f"{name} ({arn.text}) takes no circuits: it has {', '.join(map(str, actions)) or 'nothing'}, and {PROGRAM} would be needed. "
            "Choose a gate-based device."
        )
    operations, results = _strings(program.get("supportedOperations")), _rows(program.get("supportedResultTypes"))
    modifiers = [str(row.get("name", "")) for row in _rows(program.get("supportedModifiers"))]
    qubits, pairs = _layout(paradigm)
    exact = [row for row in results if row.get("minShots") == 0]
    observables = {name for row in exact for name in _strings(row.get("observables"))}
    least, most = _shots(service, reserved=reserved)
    native = _strings(paradigm.get("nativeGateSet"))
    return Capabilities(
        name=name,
        provider=str(device.get("providerName") or arn.vendor),
        is_simulator=str(device.get("deviceType", "")).upper() == "SIMULATOR" or arn.kind == "quantum-simulator",
        qubits=qubits,
        gates=openqasm.gates_of(operations, modifiers),
        native_gates=openqasm.gates_of(native) if native else frozenset(),
        connectivity=pairs,
        channels=openqasm.channels_of(_strings(program.get("supportedPragmas"))),
        observables=openqasm.observables_of(observables, analytic=True),
        analytic=openqasm.analytic_of([str(row.get("name", "")) for row in exact]),
        min_shots=max(1, least),
        max_shots=most,
        program_sets=_program_sets(_mapping(actions.get(PROGRAM_SET))),
        mid_circuit=experimental and "cc_prx" in {operation.lower() for operation in (*operations, *native)},
        adjoint_gradient=any(row.get("name") == "AdjointGradient" for row in exact),
        region=arn.region,
        extra={"modifiers": frozenset(modifiers)},
    )


def _loaded(device: Mapping[str, Any]) -> Mapping[str, Any]:
    text = device.get("deviceCapabilities") or "{}"
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ProviderError(f"GetDevice's description of {device.get('deviceArn')} is no JSON: {error}") from error
    return _mapping(told)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _strings(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def _layout(paradigm: Mapping[str, Any]) -> tuple[tuple[int, ...], frozenset[tuple[int, int]] | None]:
    """The numbers of the qubits, and which pairs are joined, in both directions; None: all."""
    count = int(paradigm.get("qubitCount") or 0)
    connectivity = _mapping(paradigm.get("connectivity"))
    graph = _mapping(connectivity.get("connectivityGraph"))
    if connectivity.get("fullyConnected", True) or not graph:
        return tuple(range(count)), None
    one_way = {(int(qubit), int(other)) for qubit, others in graph.items() for other in others}
    pairs = frozenset(one_way | {(second, first) for first, second in one_way})
    numbers = {int(qubit) for qubit in graph} | {qubit for pair in pairs for qubit in pair}
    return tuple(sorted(numbers)), pairs


def _shots(service: Mapping[str, Any], *, reserved: bool) -> tuple[int, int]:
    given = (reserved and service.get("reservationShotsRange")) or service.get("shotsRange")
    if not isinstance(given, Sequence) or len(given) != 2:
        return 1, Capabilities.max_shots
    return int(given[0]), int(given[1])


def _program_sets(action: Mapping[str, Any]) -> ProgramSets | None:
    circuits, shots = int(action.get("maximumExecutables") or 0), int(action.get("maximumTotalShots") or 0)
    return ProgramSets(max_circuits=circuits, max_total_shots=shots) if circuits > 0 and shots > 0 else None
