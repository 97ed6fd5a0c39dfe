"""Quantum tasks on Amazon Braket, as a provider of the port to remote devices: ``qml.device("hybridjobs.qpu", "arn:aws:braket:...")``.

A task is created under its key as client token, so that a reply that is lost buys nothing twice. How long the service knows a token is not
documented, and with another request (a later attempt of a job has another job token; somebody changed tags or the prefix) it refuses one.
So what may have been bought in an earlier life is looked for first, by its place in S3, which has the key in it. Requests: the botocore
model "braket", 2019-09-01; actions, results: ``amazon-braket-schemas`` (braket.ir.openqasm, braket.task_result).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.braket import devices
from pl_hybridjobs.braket.devices import PROGRAM, PROGRAM_SET, Arn
from pl_hybridjobs.braket.results import Results, executables
from pl_hybridjobs.braket.session import BUCKET, RESERVATION, Refusal, Retries, Session
from pl_hybridjobs.braket.watch import Watch
from pl_hybridjobs.devices import openqasm
from pl_hybridjobs.devices.provider import Availability, Capabilities, Task, TaskResult, TaskState, TaskStatus
from pl_hybridjobs.errors import DeviceOffline, InvalidCall, ProviderError, TaskCancelled, TaskFailed, TranslationError, did_you_mean

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

    from pl_hybridjobs.cost.prices import Price

_OPTIONS: dict[str, tuple[type, ...]] = {
    "region": (str,),
    "profile": (str,),
    "bucket": (str,),
    "prefix": (str,),
    "endpoint_url": (str,),
    "reservation_arn": (str,),
    "device_parameters": (Mapping,),
    "experimental": (bool,),
    "results_timeout_s": (int, float),
    "attempts": (int,),
}
_STATES = {
    "CREATED": TaskState.CREATED,
    "QUEUED": TaskState.QUEUED,
    "RUNNING": TaskState.RUNNING,
    "CANCELLING": TaskState.RUNNING,
    "COMPLETED": TaskState.COMPLETED,
    "FAILED": TaskState.FAILED,
    "CANCELLED": TaskState.CANCELLED,
}
SESSION_TAG = "hybridjobs:session"
_CONFLICTS = ("ValidationException", "ConflictException")  # what the service says to a token of another request is not documented


def open(target: str, **options: Any) -> Braket:
    """The entry point. Contacts nothing.

    Args:
        target: The device's Amazon resource name.
        **options: ``region`` (of simulators, which are in several), ``profile`` (of the AWS configuration files), ``bucket`` and ``prefix``
            (for results), ``endpoint_url`` (of an emulator; else the environment's), ``reservation_arn``, ``device_parameters`` (further
            fields of the device's parameters, such as IonQ's ``{"errorMitigation": [...]}``), ``experimental`` (switch experimental
            capabilities on), ``results_timeout_s`` (how long a completed task's results may be missing or unreadable), ``attempts``
            (of each request, where another may help).

    Raises:
        InvalidCall: The name or an option is wrong; all complaints.
    """
    arn, found = devices.arn_of(target)
    found += [
        f"there is no option {name!r}; there are {', '.join(_OPTIONS)}.{did_you_mean(name, _OPTIONS)}"
        for name in options
        if name not in _OPTIONS
    ]
    given = {name: value for name, value in options.items() if name in _OPTIONS and value is not None}
    wrong = {name for name, value in given.items() if not isinstance(value, _OPTIONS[name])}
    found += [f"{name}={given[name]!r} must be {' or '.join(kind.__name__ for kind in _OPTIONS[name])}" for name in sorted(wrong)]
    found += _complaints(arn, {name: value for name, value in given.items() if name not in wrong})
    if found:
        raise InvalidCall(target, found)
    return Braket(arn, **given)


def _complaints(arn: Arn, given: Mapping[str, Any]) -> list[str]:
    found = []
    region = given.get("region", "")
    if arn.region and region and region != arn.region:
        found.append(f"region={region!r}, but the device is in {arn.region}: leave region= out")
    bucket = given.get("bucket", "")
    if bucket and not BUCKET.fullmatch(bucket):
        found.append(f"bucket={bucket!r} is no name of a bucket: small letters, digits, dots, hyphens, no s3:// and no folders (prefix=)")
    endpoint = given.get("endpoint_url", "")
    if endpoint and not re.fullmatch(r"https?://[^\s/]+.*", endpoint):
        found.append(f"endpoint_url={endpoint!r} is no address: it looks like http://127.0.0.1:8555")
    if reservation := given.get("reservation_arn", ""):
        match = RESERVATION.fullmatch(reservation)
        if match is None:
            found.append(f"reservation_arn={reservation!r} is none: it looks like arn:aws:braket:<region>:<account>:reservation/<id>")
        elif arn.region and match[1] != arn.region:
            found.append(f"reservation_arn is of {match[1]}, but the device is in {arn.region}")
    if given.get("results_timeout_s", 0) < 0:
        found.append(f"results_timeout_s={given['results_timeout_s']} is less than 0")
    if given.get("attempts", 1) < 1:
        found.append(f"attempts={given['attempts']} is less than 1")
    return found


class Braket:
    """One device of Amazon Braket. See ``provider.QPU``; its methods may be called from several threads."""

    def __init__(
        self,
        arn: Arn,
        *,
        region: str = "",
        profile: str = "",
        bucket: str = "",
        prefix: str = "",
        endpoint_url: str = "",
        reservation_arn: str = "",
        device_parameters: Mapping[str, Any] | None = None,
        experimental: bool = False,
        results_timeout_s: float = 60.0,
        attempts: int = Retries.attempts,
    ) -> None:
        self.target = arn.text
        self._arn = arn
        self._reservation, self._experimental = reservation_arn, experimental
        self._parameters = dict(device_parameters or {})
        self._session = Session(
            region=arn.region or region,
            profile=profile,
            bucket=bucket,
            prefix=prefix,
            endpoint_url=endpoint_url,
            retries=Retries(attempts=attempts),
        )
        self._watch = Watch(self._session, self.target)
        self._results = Results(self._session, results_timeout_s)
        self._capabilities: Capabilities | None = None
        self._hours = ""  # when it opens, if it is not always open
        self._earlier: dict[str, str] = {}  # what was bought before this process, by key, as far as it was looked for
        self._pages: Iterator[dict[str, str]] | None = None
        self._said: dict[str, tuple[dict[str, Any], int]] = {}  # what `complaints` has translated, by key, until it is submitted
        self._lock, self._searching = threading.Lock(), threading.Lock()

    def __repr__(self) -> str:
        return f"Braket({self.target!r})"

    # The port ----------------------------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """See ``QPU``."""
        with self._lock:
            if self._capabilities is None:
                told = devices.described(self._session, self._arn)
                self._hours = devices.hours_of(told)
                self._capabilities = devices.capabilities_of(
                    told, self._arn, reserved=bool(self._reservation), experimental=self._experimental
                )
            return self._capabilities

    def availability(self) -> Availability:
        """See ``QPU``."""
        return devices.availability_of(devices.described(self._session, self._arn))

    def price(self) -> Price | None:
        """See ``QPU``."""
        from pl_hybridjobs.cost.prices import price_of

        return price_of(self.target)

    def complaints(self, tasks: Sequence[Task]) -> list[str]:
        """See ``QPU``."""
        said, found = {}, []
        for task in tasks:
            try:
                said[task.key] = self._action(task)
            except TranslationError as error:
                found.append(str(error))
        self._said = said
        return found

    def submit(self, task: Task) -> str:
        """See ``QPU``."""
        said = self._said.pop(task.key, None)
        if task.was_sent and (found := self._bought_before(task.key)):
            self._watch.add(found)
            return found
        action, qubits = self._action(task) if said is None else said
        bucket, prefix = self._session.location()
        request: dict[str, Any] = {
            "clientToken": task.key,
            "deviceArn": self.target,
            "shots": task.shots * len(task.circuits),
            "outputS3Bucket": bucket,
            "outputS3KeyPrefix": f"{prefix}/{task.key}",
            "action": _json(action),
        }
        if len(task.circuits) == 1:  # program sets go without
            request["deviceParameters"] = self._device_parameters(qubits, verbatim=task.verbatim)
        if tags := {**task.tags, **({SESSION_TAG: task.session} if task.session else {})}:
            request["tags"] = tags
        if token := task.token or os.environ.get("AMZN_BRAKET_JOB_TOKEN", ""):
            request["jobToken"] = token
        if self._reservation:
            request["associations"] = [{"arn": self._reservation, "type": "RESERVATION_TIME_WINDOW_ARN"}]
        if self._experimental:
            request["experimentalCapabilities"] = {"enabled": "ALL"}
        try:
            task_id = str(self._session.call("braket", "create_quantum_task", **request)["quantumTaskArn"])
        except Refusal as refusal:
            found = self._bought_before(task.key, anew=True) if task.was_sent and refusal.code in _CONFLICTS else None
            if found is None:
                raise self._refused(refusal) from refusal
            task_id = found
        self._watch.add(task_id)
        return task_id

    def _bought_before(self, key: str, *, anew: bool = False) -> str | None:
        """The task of this key, whatever else was asked for with it; None also if we may not search."""
        with self._searching:
            if self._pages is None or anew:
                self._pages, self._earlier = self._by_key(), {}
            try:
                while key not in self._earlier and (page := next(self._pages, None)) is not None:
                    self._earlier |= page
            except BaseException as error:
                if not isinstance(error, Refusal) or not error.code.startswith("AccessDenied"):
                    self._pages = None  # a search that was broken off finds nothing more, and nothing found would be bought again
                    raise
            return self._earlier.get(key)

    def _by_key(self) -> Iterator[dict[str, str]]:
        """Tasks of this device, by the folder that theirs is in: a page at a time, no more of them than are needed."""
        filters = [{"name": "deviceArn", "operator": "EQUAL", "values": [self.target]}]
        for page in self._session.pages("braket", "search_quantum_tasks", filters=filters, maxResults=100):
            told = page.get("quantumTasks", [])
            yield {str(one["outputS3Directory"]).rpartition("/")[0].rpartition("/")[2]: str(one["quantumTaskArn"]) for one in told}

    def status(self, task_id: str) -> TaskStatus:
        """See ``QPU``."""
        told = self._watch.look(task_id)
        state = _STATES.get(str(told.get("status")))
        if state is None:
            raise ProviderError(f"task {task_id} is {told.get('status')!r}, which is none of {', '.join(_STATES)}")
        if state in (TaskState.FAILED, TaskState.CANCELLED):
            told = self._watch.ask(task_id)  # what a search finds holds no reason
            self._watch.forget(task_id)
        reason = str(told.get("failureReason") or "")
        if state is TaskState.FAILED:
            reason = f"{reason or 'Amazon Braket gives no reason'} (console: {console(task_id)})"
        queue = told.get("queueInfo") or {}
        position = str(queue.get("position") or "")
        return TaskStatus(
            state,
            reason=reason,
            queue_position="" if position == "None" else position,
            priority=str(queue.get("queuePriority") or "").lower(),
        )

    def result(self, task_id: str, task: Task) -> TaskResult:
        """See ``QPU``.

        Raises:
            TaskFailed: There is none, since it failed.
            TaskCancelled: Or since it was cancelled.
            ProviderError: Its results are missing or make no sense; the place in S3 is named.
        """
        told = self._watch.look(task_id)
        if told.get("status") != "COMPLETED":
            told = self._watch.ask(task_id)
        status = str(told.get("status"))
        if status == "FAILED":
            raise TaskFailed(task_id, str(told.get("failureReason") or "Amazon Braket gives no reason"), f"Console: {console(task_id)}")
        if status == "CANCELLED":
            raise TaskCancelled(f"task {task_id} was cancelled; it gave no result. Console: {console(task_id)}")
        if status != "COMPLETED":
            raise ProviderError(f"task {task_id} is {status}, and has no results yet")
        if len(task.circuits) == 1:
            circuit = task.circuits[0]
            made = self._results.of_one(
                told, circuit, lambda: self._program(circuit, task.shots, gradient=False, verbatim=task.verbatim), verbatim=task.verbatim
            )
        else:
            groups = self._groups(task.circuits, task.shots, verbatim=task.verbatim)
            made = self._results.of_set(told, executables(groups), verbatim=task.verbatim)
        self._watch.forget(task_id)
        return made

    def cancel(self, task_id: str) -> None:
        """See ``QPU``."""
        token = hashlib.sha256(f"cancel {task_id}".encode()).hexdigest()
        try:
            self._session.call("braket", "cancel_quantum_task", quantumTaskArn=task_id, clientToken=token)
        except Refusal as refusal:
            if refusal.code != "ConflictException":  # it has ended
                raise

    # What is sent ------------------------------------------------------------------------------------------------------------

    def _action(self, task: Task) -> tuple[dict[str, Any], int]:
        """The action, the same for the same task, and how many qubits it is on."""
        if len(task.circuits) == 1:
            program = self._program(task.circuits[0], task.shots, gradient=task.gradient, verbatim=task.verbatim)
            return _program_action(program.source, program.inputs), len(program.wires)
        sets = executables(self._groups(task.circuits, task.shots, verbatim=task.verbatim))
        qubits = max(len(entry.program.wires) for entry in sets)
        return {**_header(PROGRAM_SET), "programs": [_program_action(entry.program.source, entry.columns) for entry in sets]}, qubits

    def _program(self, circuit: QuantumScript, shots: int, *, gradient: bool, verbatim: bool) -> openqasm.Program:
        return openqasm.dumps(circuit, shots=shots, gradient=gradient, verbatim=verbatim, **self._dialect)

    def _groups(self, circuits: Sequence[QuantumScript], shots: int, *, verbatim: bool) -> list[openqasm.ProgramGroup]:
        return list(openqasm.dumps_many(circuits, shots=shots, verbatim=verbatim, **self._dialect))

    @property
    def _dialect(self) -> dict[str, Any]:
        capabilities = self.capabilities()
        return {"modifiers": capabilities.extra["modifiers"], "mid_circuit": "iqm" if capabilities.mid_circuit else ""}

    def _device_parameters(self, qubits: int, *, verbatim: bool) -> str:
        paradigm = {**_header("braket.device_schema.gate_model_parameters"), "qubitCount": qubits, "disableQubitRewiring": verbatim}
        return _json({**_header(self._arn.parameters_schema), "paradigmParameters": paradigm, **self._parameters})

    def _refused(self, refusal: Refusal) -> ProviderError | DeviceOffline:
        """In the port's words."""
        if refusal.code == "DeviceOfflineException" and refusal.nothing_done:  # else an attempt that got no reply may have bought it
            hours = f" It has {self._hours}." if self._hours else ""
            return DeviceOffline(f"{self.target} is offline: {refusal.message}.{hours}")
        if refusal.code == "DeviceRetiredException":
            retired = ProviderError(f"{self.target} is retired, and takes no tasks any more: {refusal.message}. Choose another device.")
            retired.nothing_done = refusal.nothing_done
            return retired
        if self._reservation and refusal.code in ("ValidationException", "AccessDeniedException"):
            refusal.add_note(f"The task was to go into the reservation {self._reservation}: look whether it has begun, and not expired.")
        return refusal


def console(task_id: str) -> str:
    """Where a task is shown to people."""
    region = task_id.split(":")[3] if task_id.count(":") >= 5 else ""
    return f"https://{region}.console.aws.amazon.com/braket/home?region={region}#/tasks/{task_id}"


def _header(name: str) -> dict[str, Any]:
    return {"braketSchemaHeader": {"name": name, "version": "1"}}


def _program_action(source: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {**_header(PROGRAM), "source": source, "inputs": dict(inputs)}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
