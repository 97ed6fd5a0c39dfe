"""Quantum tasks: created once for each client token, queued, run, and their results written to S3."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pl_hybridjobs.emulator import buckets
from pl_hybridjobs.emulator.actions import Action, Outcome, failed, perform, prepare, scatter
from pl_hybridjobs.emulator.bill import Bill, cost_usd
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.devices import PROGRAM_SET, Device, Fleet
from pl_hybridjobs.emulator.faults import Dice
from pl_hybridjobs.emulator.limits import Limits
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.register import Register
from pl_hybridjobs.emulator.reservations import Reservations

FINAL = ("COMPLETED", "FAILED", "CANCELLED")
#: A task stays CANCELLING so long.
CANCELLING_S = 0.05
#: How often it is looked whether a device is back.
_LOOK_S = 0.02
_WORKERS = 4
_SAMPLED = ("action", "deviceArn", "deviceParameters", "shots")  # what samples depend on
FAILURE = "DeviceFault: the emulated device failed this task (fault injection)."


@dataclass(frozen=True)
class Task:
    """Where a task stands.

    Attributes:
        arn: Its name.
        device: Where it runs.
        region: Where it was created.
        request: CreateQuantumTask's parameters.
        status: As the API gives it.
        created: When.
        ended: When; None: it has not.
        reason: Why it failed.
        metadata: Of its action.
        job: The ARN of the job that its token stands for; "" for none.
        tags: Of the resource.
        successful_shots: Those that were made.
        reserved: It runs in a reservation, which is paid for by the hour.
    """

    arn: str
    device: Device
    region: str
    request: Mapping[str, Any] = field(repr=False)
    status: str
    created: datetime
    metadata: Mapping[str, Any]
    job: str = ""
    ended: datetime | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    successful_shots: int = 0
    reserved: bool = False

    @property
    def directory(self) -> str:
        """The key prefix of its results."""
        return f"{self.request['outputS3KeyPrefix'].rstrip('/')}/{self.arn.rpartition('/')[2]}"

    @property
    def has_priority(self) -> bool:
        """Whether it came with a job's token."""
        return bool(self.job)


class Tasks:
    """The tasks of one emulator, and the thread that moves them on.

    Args:
        fleet: The devices.
        bill: Where completed tasks are charged.
        limits: What may stop a task from being created.
        dice: What goes wrong.
        clock: The service's time.
        seed: Of samples and of the tasks' names.
        latency_s: How long a task runs on its device.
        concurrency: How many tasks run at the same time on one device; None: as the device has it.
        quota: How many tasks that have not ended one device takes; None: any number.
        scattered: Program sets' results are written in many objects, as the service writes large ones.
    """

    def __init__(
        self,
        fleet: Fleet,
        bill: Bill,
        limits: Limits,
        dice: Dice,
        clock: Clock,
        *,
        seed: int,
        latency_s: float,
        concurrency: int | None,
        quota: int | None,
        scattered: bool,
    ) -> None:
        self._scattered = scattered
        self.reservations = Reservations(clock)
        self._fleet, self._bill, self._limits, self._dice, self._clock = fleet, bill, limits, dice, clock
        self._seed, self._latency_s, self._concurrency, self._quota = seed, latency_s, concurrency, quota
        self._actions: dict[str, Action] = {}
        self._repeats: Counter[str] = Counter()
        self._waiting: dict[str, tuple[list[str], list[str]]] = {device.arn: ([], []) for device in fleet}  # priority, normal
        self._running: dict[str, set[str]] = {device.arn: set() for device in fleet}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition(threading.RLock())
        self._tasks: Register[Task] = Register("Quantum task", "ValidationException", self._changed)
        self._closed = False
        self._workers = ThreadPoolExecutor(_WORKERS, "emulated-device")
        self._thread = threading.Thread(target=self._serve, name="emulated-queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what runs is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._workers.shutdown(wait=True, cancel_futures=True)

    # What the API asks for

    def create(self, request: Mapping[str, Any], region: str) -> str:
        """Create a task, or find the one that this client token created.

        Returns:
            Its ARN.

        Raises:
            Refused: Nothing was created.
        """
        token = (region, request["clientToken"])
        digest = digest_of(request)
        with self._changed:
            if (before := self._tasks.created_before(token, digest)) is not None:
                return before
        device = self._fleet.in_region(request["deviceArn"], region)
        self._fleet.check_open(device)
        buckets.check_bucket(request["outputS3Bucket"])
        name = uuid.UUID(bytes=hashlib.sha256(f"{self._seed}|{region}|{token[1]}".encode()).digest()[:16], version=4)
        arn = f"arn:aws:braket:{region}:{buckets.ACCOUNT}:quantum-task/{name}"
        reserved = self.reservations.check(request.get("associations", ()), device)
        experimental = request.get("experimentalCapabilities", {}).get("enabled") == "ALL"
        action = prepare(
            request["action"], device, request["shots"], experimental=experimental, seed=self._sample_seed(digest_of(request, _SAMPLED))
        )
        task = Task(
            arn=arn,
            device=device,
            region=region,
            request=request,
            status="CREATED",
            created=self._clock.now(),
            metadata=action.metadata,
            job=_job_of(request.get("jobToken"), region),
            tags=dict(request.get("tags", {})),
            reserved=reserved,
        )
        with self._changed:
            if (before := self._tasks.created_before(token, digest)) is not None:
                return before
            self._check_quota(device)
            if not reserved:
                self._limits.reserve(arn, device, cost_usd(device, request["shots"]))
            self._tasks.create(token, digest, task)
            self._actions[arn] = action
            self._waiting[device.arn][0 if task.has_priority else 1].append(arn)
            self._changed.notify_all()
        return arn

    def find(self, arn: str, region: str) -> Task:
        """A task as it stands; see ``Register``."""
        return self._tasks.find(arn, region)

    def all(self) -> list[Task]:
        """In the order in which they were created."""
        return self._tasks.all()

    def cancel(self, arn: str, region: str) -> str:
        """Ask for a task's end.

        Returns:
            ``"CANCELLING"`` or ``"CANCELLED"``.

        Raises:
            Refused: It completed or failed.
        """
        with self._changed:
            task = self.find(arn, region)
            if task.status in ("COMPLETED", "FAILED"):
                raise Refused("ConflictException", f"The quantum task {arn} is {task.status} and cannot be cancelled.")
            if task.status == "CANCELLED":
                return "CANCELLED"
            if task.status != "CANCELLING":
                self._drop_from_queue(task)
                self._change(arn, status="CANCELLING")
                self._after(CANCELLING_S, lambda: self._end(arn, "CANCELLED"))
            return "CANCELLING"

    def tag(self, arn: str, region: str, tags: Mapping[str, str]) -> None:
        """Replace a task's tags."""
        self._tasks.tag(arn, region, tags)

    def position(self, task: Task) -> int | None:
        """Its place in its queue, from 1; None: it is in none."""
        with self._changed:
            queue = self._waiting[task.device.arn][0 if task.has_priority else 1]
            return queue.index(task.arn) + 1 if task.arn in queue else None

    def depth(self, device: Device) -> tuple[int, int]:
        """How many tasks wait, with priority and without."""
        with self._changed:
            priority, normal = self._waiting[device.arn]
            return len(priority), len(normal)

    def wait_for_all(self, timeout_s: float = 30.0) -> bool:
        """Until no task is on its way; False: the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: all(task.status in FINAL for task in self._tasks.values()), timeout_s)

    # How tasks move on

    def _sample_seed(self, digest: str) -> tuple[int, ...]:
        """The same tasks give the same samples, whatever their tokens; a repeated task gives others."""
        with self._changed:
            self._repeats[digest] += 1
            return self._seed, int(digest, 16), self._repeats[digest]

    def _check_quota(self, device: Device) -> None:
        count = sum(1 for t in self._tasks.values() if t.device.arn == device.arn and t.status not in FINAL)
        if self._quota is not None and count >= self._quota:
            raise Refused(
                "ServiceQuotaExceededException", f"There are {count} tasks on their way on {device.arn}; the quota is {self._quota}."
            )

    def _drop_from_queue(self, task: Task) -> None:
        for queue in self._waiting[task.device.arn]:
            if task.arn in queue:
                queue.remove(task.arn)

    def _change(self, arn: str, **changes: Any) -> None:
        self._tasks.change(arn, **changes)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), act))
            self._changed.notify_all()

    def _serve(self) -> None:
        with self._changed:
            while not self._closed:
                while self._timers and self._timers[0][0] <= time.monotonic():
                    heapq.heappop(self._timers)[2]()
                held_up = self._start_waiting()
                next_s = self._timers[0][0] - time.monotonic() if self._timers else None
                if held_up:
                    next_s = _LOOK_S if next_s is None else min(next_s, _LOOK_S)
                if next_s is None or next_s > 0:
                    self._changed.wait(next_s)

    def _start_waiting(self) -> bool:
        """Start what can start; whether something waits for a device to come back."""
        held_up = False
        for device in self._fleet:
            priority, normal = self._waiting[device.arn]
            for arn in (*priority, *normal):
                if self._tasks[arn].status == "CREATED":
                    self._change(arn, status="QUEUED")
            if not (priority or normal):
                continue
            if not self._fleet.is_working(device.arn):
                held_up = True
                continue
            slots = self._concurrency or device.concurrency
            while (priority or normal) and len(self._running[device.arn]) < slots:
                arn = (priority or normal).pop(0)
                self._running[device.arn].add(arn)
                self._change(arn, status="RUNNING")
                self._workers.submit(self._compute, arn, time.monotonic())
        return held_up

    def _compute(self, arn: str, began: float) -> None:
        task, action = self._tasks[arn], self._actions[arn]
        reason, outcome = "", None
        try:
            if self._dice.happens("fail", arn):
                reason, outcome = FAILURE, failed(action, task.device, FAILURE)
            else:
                outcome = perform(action, task.device)
        except Exception as error:  # noqa: BLE001 - the simulator raises whatever it likes; the task says so
            reason, outcome = f"{type(error).__name__}: {error}", failed(action, task.device, str(error))
        late_s = self._dice.faults.slow_s if self._dice.happens("slow", arn) else 0.0
        rest_s = began + self._latency_s + late_s - time.monotonic()
        self._after(max(0.0, rest_s), lambda: self._finish(arn, reason, outcome))

    def _finish(self, arn: str, reason: str, outcome: Outcome | None) -> None:
        task = self._tasks[arn]
        if task.status != "RUNNING":
            return
        status = "FAILED" if reason else "COMPLETED"
        self._change(arn, ended=self._clock.now(), reason=reason, successful_shots=outcome.shots if outcome else 0)
        if outcome is not None and not self._store(self._tasks[arn], status, outcome):
            status = "FAILED"
            self._change(arn, reason=f"The results could not be written to the bucket {task.request['outputS3Bucket']}.")
        self._end(arn, status, outcome)

    def _store(self, task: Task, status: str, outcome: Outcome) -> bool:
        """Write the results, or what faults make of them; False: the bucket is gone."""
        bucket, key = task.request["outputS3Bucket"], f"{task.directory}/results.json"
        whole = {**outcome.body, "taskMetadata": _task_metadata(task, status, outcome)}
        if self._scattered and task.metadata["actionType"] == PROGRAM_SET:
            for name, part in scatter(whole, bucket, task.directory).items():
                buckets.put(bucket, f"{task.directory}/{name}", json.dumps(part).encode())
        body = json.dumps(whole).encode()
        if self._dice.happens("malformed", task.arn):
            if self._dice.faults.malformed_s != float("inf"):
                self._after(self._dice.faults.malformed_s, lambda: _put(bucket, key, body))
            return buckets.put(bucket, key, body[: len(body) // 2])
        if self._dice.happens("missing", task.arn):
            self._after(self._dice.faults.missing_s, lambda: _put(bucket, key, body))
            return True
        return buckets.put(bucket, key, body)

    def _end(self, arn: str, status: str, outcome: Outcome | None = None) -> None:
        task = self._tasks[arn]
        if task.status in FINAL:
            return
        usd = Decimal(0)
        if status == "COMPLETED" and outcome is not None and not task.reserved:
            usd = self._bill.add(arn, task.device, outcome.shots, outcome.duration_s).usd
        self._limits.settle(arn, usd)
        self._running[task.device.arn].discard(arn)
        self._actions.pop(arn, None)
        self._change(arn, status=status, ended=task.ended or self._clock.now())


def _put(bucket: str, key: str, body: bytes) -> None:
    buckets.put(bucket, key, body)


def digest_of(request: Mapping[str, Any], names: Collection[str] = ()) -> str:
    """Of these parts of what is asked for; without names, of everything but the token."""
    asked = {name: value for name, value in request.items() if (name in names if names else name != "clientToken")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _job_of(token: str | None, region: str) -> str:
    """The job that a token stands for; a token is a secret, so the job's name does not show it."""
    return f"arn:aws:braket:{region}:{buckets.ACCOUNT}:job/{uuid.uuid5(uuid.NAMESPACE_OID, token)}" if token else ""


def _task_metadata(task: Task, status: str, outcome: Outcome) -> dict[str, Any]:
    def text(when: datetime | None) -> str | None:
        return None if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    common = {"id": task.arn, "deviceId": task.device.arn, "createdAt": text(task.created), "endedAt": text(task.ended), "status": status}
    if task.metadata["actionType"] != PROGRAM_SET:
        header = {"name": "braket.task_result.task_metadata", "version": "1"}
        return {"braketSchemaHeader": header, **common, "shots": task.request["shots"]}
    rows = [result["executableResults"] for result in outcome.body["programResults"]]
    return {
        "braketSchemaHeader": {"name": "braket.task_result.program_set_task_metadata", "version": "1"},
        **common,
        "requestedShots": task.request["shots"],
        "successfulShots": outcome.shots,
        "programMetadata": [{"executables": [row.get("failureMetadata", {}) for row in executables]} for executables in rows],
        "totalFailedExecutables": sum("failureMetadata" in row for executables in rows for row in executables),
    }
