"""Hybrid jobs: created once for each client token, queued, run as real processes, and their results written to S3."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pl_hybridjobs.emulator import buckets, roles
from pl_hybridjobs.emulator.bill import Bill
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.cloudwatch import Stream
from pl_hybridjobs.emulator.devices import Device, Fleet
from pl_hybridjobs.emulator.faults import Dice
from pl_hybridjobs.emulator.images import Images
from pl_hybridjobs.emulator.instance import CHECKPOINTS, DownloadFailed, Instance
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.reservations import Reservations

FINAL = ("COMPLETED", "FAILED", "CANCELLED")
LONGEST_REASON = 1024
LONGEST_RUN_S = 432_000
_LOCAL = re.compile(r"local:[\w.-]+/[\w.-]+", re.ASCII)
_STEP_S = 0.1
_LOOK_S = 0.02
_LOST = "InternalServerError: We encountered an internal error. Please try again. (The emulator killed the instance.)"


@dataclass(frozen=True)
class Event:
    """What happened to a job, and when."""

    kind: str
    time: datetime
    message: str = ""


@dataclass(frozen=True)
class Job:
    """Where a job stands.

    Attributes:
        arn: Its name.
        region: Where it was created.
        request: CreateJob's parameters.
        status: As the API gives it.
        created: When.
        token: What its tasks are known by; a secret.
        folder: Stands for ``/`` of its container.
        device: Where it has priority; None: a local one.
        events: What happened.
        started: When its instance was started.
        ended: When it was over.
        reason: Why it failed.
        tags: Of the resource.
        reserved: It runs in a reservation.
    """

    arn: str
    region: str
    request: Mapping[str, Any] = field(repr=False)
    status: str
    created: datetime
    token: str = field(repr=False)
    folder: Path
    device: Device | None
    events: tuple[Event, ...] = ()
    started: datetime | None = None
    ended: datetime | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    reserved: bool = False

    @property
    def name(self) -> str:
        """As its creator named it."""
        return str(self.request["jobName"])

    @property
    def log_stream(self) -> str:
        """In CloudWatch."""
        return f"{self.name}/{self.arn.rpartition('/')[2]}/algo-1"

    @property
    def instance_type(self) -> str:
        """Of its instance."""
        return str(self.request["instanceConfig"]["instanceType"])

    @property
    def billable_s(self) -> int | None:
        """Whole seconds of its instance; None: it is not over, or had none."""
        return None if self.started is None or self.ended is None else max(1, round((self.ended - self.started).total_seconds()))

    @property
    def queue(self) -> str:
        """In which one it waits: a QPU has one of its own."""
        return self.device.arn if self.device is not None and not self.device.is_simulator else ""


class Jobs:
    """The jobs of one emulator; each is lived through in a thread of its own.

    Args:
        fleet: The devices.
        reservations: Of devices.
        images: Which Python stands for which image.
        bill: Where instances are charged.
        dice: What goes wrong.
        clock: The service's time.
        options: How jobs run.
        seed: Of the jobs' names.
    """

    def __init__(
        self,
        fleet: Fleet,
        reservations: Reservations,
        images: Images,
        bill: Bill,
        dice: Dice,
        clock: Clock,
        options: JobOptions,
        *,
        seed: int,
    ) -> None:
        self._fleet, self._reservations, self._images, self._bill = fleet, reservations, images, bill
        self._dice, self._clock, self._options, self._seed = dice, clock, options, seed
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[tuple[str, str], tuple[str, str]] = {}
        self._instances: dict[str, Instance] = {}
        self._stops: dict[str, str] = {}  # by ARN: "cancelled", "lost", "late" or "closed"
        self._running: dict[str, str] = {}  # by ARN: the queue that it came from
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition(threading.RLock())
        self._folder: Path | None = None
        self._environment: Callable[[str], Mapping[str, str]] = lambda region: {}

    def serve(self, environment: Callable[[str], Mapping[str, str]]) -> None:
        """Say which variables lead a job's clients to this emulator, by region."""
        self._environment = environment

    def close(self) -> None:
        """End all jobs' processes, and remove their folders."""
        with self._changed:
            for arn, job in self._jobs.items():
                if job.status not in FINAL:
                    self._stop(arn, "closed")
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # What the API asks for

    def create(self, request: Mapping[str, Any], region: str) -> str:
        """Create a job, or find the one that this client token created.

        Returns:
            Its ARN.

        Raises:
            Refused: Nothing was created.
        """
        token = (region, request["clientToken"])
        digest = _digest(request)
        with self._changed:
            if (before := self._created_before(token, digest)) is not None:
                return before
        device, reserved = self._checked(request, region)
        secret = hashlib.sha256(f"job|{self._seed}|{region}|{token[1]}".encode()).hexdigest()
        # Tasks find their job by its token alone: see `tasks._job_of`.
        arn = f"arn:aws:braket:{region}:{buckets.ACCOUNT}:job/{uuid.uuid5(uuid.NAMESPACE_OID, secret)}"
        with self._changed:
            if (before := self._created_before(token, digest)) is not None:
                return before
            self._check_quotas(request)
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix="braket-jobs-"))
            job = Job(
                arn=arn,
                region=region,
                request=request,
                status="QUEUED",
                created=self._clock.now(),
                token=secret,
                folder=self._folder / arn.rpartition("/")[2],
                device=device,
                tags=dict(request.get("tags", {})),
                reserved=reserved,
            )
            self._tokens[token] = (digest, arn)
            self._jobs[arn] = job
            self._happens(arn, "WAITING_FOR_PRIORITY" if job.queue else "QUEUED_FOR_EXECUTION")
            thread = threading.Thread(target=self._live, args=(arn,), name=f"emulated-job-{job.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return arn

    def find(self, arn: str, region: str) -> Job:
        """A job as it stands.

        Raises:
            Refused: There is none of this name in the region.
        """
        with self._changed:
            job = self._jobs.get(arn)
        if job is None or job.region != region:
            raise Refused("ResourceNotFoundException", f"Job {arn} not found in {region}")
        return job

    def all(self) -> list[Job]:
        """In the order in which they were created."""
        with self._changed:
            return list(self._jobs.values())

    def cancel(self, arn: str, region: str) -> str:
        """Ask for a job's end.

        Returns:
            ``"CANCELLING"`` or ``"CANCELLED"``.

        Raises:
            Refused: It completed or failed.
        """
        with self._changed:
            job = self.find(arn, region)
            if job.status in ("COMPLETED", "FAILED"):
                raise Refused("ConflictException", f"The job {arn} is {job.status} and cannot be cancelled.")
            if job.status != "CANCELLED":
                self._change(arn, status="CANCELLING")
                self._stop(arn, "cancelled")
            return self._jobs[arn].status

    def tag(self, arn: str, region: str, tags: Mapping[str, str]) -> None:
        """Replace a job's tags."""
        with self._changed:
            self.find(arn, region)
            self._change(arn, tags=dict(tags))

    def position(self, job: Job) -> int | None:
        """Its place in its queue, from 1; None: it is in none."""
        waiting = self._waiting(job.queue)
        return waiting.index(job.arn) + 1 if job.arn in waiting else None

    def depth(self, device: Device) -> int:
        """How many jobs wait for a QPU."""
        return len(self._waiting(device.arn))

    def kill(self, arn: str) -> bool:
        """Lose a running job's instance; False: it has none now."""
        with self._changed:
            if arn not in self._instances:
                return False
            self._stop(arn, "lost")
            return True

    def wait_for_all(self, timeout_s: float) -> bool:
        """Until all jobs have ended; False: the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: all(job.status in FINAL for job in self._jobs.values()), timeout_s)

    # What is checked

    def _created_before(self, token: tuple[str, str], digest: str) -> str | None:
        if token not in self._tokens:
            return None
        before, arn = self._tokens[token]
        if before != digest:
            raise Refused("ConflictException", f"The client token {token[1]} was used before, with other parameters.")
        return arn

    def _checked(self, request: Mapping[str, Any], region: str) -> tuple[Device | None, bool]:
        """The job's device, and whether it comes with a reservation."""
        device = self._device(request["deviceConfig"]["device"], region)
        roles.check(request["roleArn"])
        _check_places(request)
        channels = [channel["channelName"] for channel in request.get("inputDataConfig", ())]
        if len(set(channels)) < len(channels):
            raise Refused("ValidationException", f"The names of input channels must differ: {', '.join(channels)}.")
        associations = request.get("associations", ())
        if associations and device is None:
            raise Refused("ValidationException", "A reservation is for a device of Braket, not for a local one.")
        return device, device is not None and self._reservations.check(associations, device)

    def _device(self, name: str, region: str) -> Device | None:
        if name.startswith("local:"):
            if not _LOCAL.fullmatch(name):
                raise Refused("ValidationException", f"{name!r} is not like local:<provider>/<simulator>, of letters, digits and _ - .")
            return None
        try:
            device = self._fleet.in_region(name, region)
        except Refused as refused:
            raise Refused("ValidationException", str(refused)) from None
        self._fleet.check_open(device)
        return device

    def _check_quotas(self, request: Mapping[str, Any]) -> None:
        kind, count = request["instanceConfig"]["instanceType"], request["instanceConfig"].get("instanceCount", 1)
        if count > 1:
            raise Refused(
                "ServiceQuotaExceededException", f"{count} instances for a job are more than 1, the quota (and all that is emulated)."
            )
        active = [job for job in self._jobs.values() if job.status not in FINAL]
        for pattern, most in self._options.instance_quota.items():
            used = sum(fnmatchcase(job.instance_type, pattern) for job in active)
            if fnmatchcase(kind, pattern) and used >= most:
                raise Refused("ServiceQuotaExceededException", f"{used} instances {pattern} are in use for jobs; the quota is {most}.")
        if self._options.quota is not None and len(active) >= self._options.quota:
            raise Refused(
                "ServiceQuotaExceededException", f"There are {len(active)} jobs on their way; the quota is {self._options.quota}."
            )

    # How a job lives

    def _live(self, arn: str) -> None:
        job = self._jobs[arn]
        status, reason = "FAILED", ""
        instance: Instance | None = None
        try:
            if self._wait_for_turn(job):
                stream = Stream(job.region, job.log_stream, self._clock, self._dice.faults.log_delay_s)
                instance = Instance(job.folder, job.request, self._images.python(_image(job)), stream.write)
                try:
                    status, reason = self._run(job, instance)
                finally:
                    instance.kill()
                    stream.close()
            else:
                status, reason = "CANCELLED", ""
        except DownloadFailed as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the job says it; nobody else waits for this thread
            reason = f"InternalServerError: the emulator failed: {error!r}"
        finally:
            self._end(arn, status, reason)

    def _wait_for_turn(self, job: Job) -> bool:
        """Until the job may run, and its instance is there; False: it was stopped before."""
        with self._changed:
            while not (job.arn in self._stops or self._may_start(job)):
                self._changed.wait(_LOOK_S)  # a device that comes back tells nobody
            if job.arn in self._stops:
                return False
            self._running[job.arn] = job.queue
            if job.queue:
                self._happens(job.arn, "QUEUED_FOR_EXECUTION")
            self._happens(job.arn, "STARTING_INSTANCE")
            self._change(job.arn, status="RUNNING", started=self._clock.now())
            return not self._changed.wait_for(lambda: job.arn in self._stops, self._options.start_latency_s)

    def _may_start(self, job: Job) -> bool:
        if self._options.concurrency is not None and len(self._running) >= self._options.concurrency:
            return False
        if not job.queue:
            return True
        busy = job.queue in self._running.values()
        return not busy and self._waiting(job.queue)[0] == job.arn and self._fleet.is_working(job.queue)

    def _waiting(self, name: str) -> list[str]:
        with self._changed:
            return [job.arn for job in self._jobs.values() if job.queue == name and job.status == "QUEUED"]

    def _run(self, job: Job, instance: Instance) -> tuple[str, str]:
        """From the download to the upload: status, and the reason of a failure."""
        options, arn = self._options, job.arn
        self._happens(arn, "DOWNLOADING_DATA")
        instance.download()
        variables = {"AMZN_BRAKET_JOB_TOKEN": job.token, "AMZN_BRAKET_JOB_ARN": arn}
        instance.start({**self._environment(job.region), **variables}, checked_pip=options.checked_pip)
        with self._changed:
            self._instances[arn] = instance
            if arn in self._stops:
                instance.terminate()
        self._happens(arn, "RUNNING")
        self._watch(job, instance)
        with self._changed:
            del self._instances[arn]
        stop = self._stops.get(arn, "")
        if stop in ("lost", "closed"):
            return "FAILED", _LOST
        instance.save_checkpoints()
        if instance.exit_code and not stop:
            return "FAILED", _failure(instance)
        self._happens(arn, "UPLOADING_RESULTS")
        instance.save_results()
        if stop == "late":
            return "FAILED", f"MaxRuntimeExceeded: the job ran for more than {_longest_s(job)} s, its stopping condition."
        return ("CANCELLED", "") if stop else ("COMPLETED", "")

    def _watch(self, job: Job, instance: Instance) -> None:
        """Until all processes are gone: copy checkpoints, and carry out what is to stop the job."""
        began = saved = time.monotonic()
        lost_s = self._dice.faults.kill_s if self._dice.happens("kill", job.arn) else float("inf")
        asked: float | None = None
        while not instance.ended.wait(_STEP_S):
            now = time.monotonic()
            if now - began > lost_s:
                self._stop(job.arn, "lost")
            if now - began > _longest_s(job) and job.arn not in self._stops:
                self._happens(job.arn, "MAX_RUNTIME_EXCEEDED")
                self._stop(job.arn, "late")
            stop = self._stops.get(job.arn)
            asked = now if stop and asked is None else asked
            if stop in ("lost", "closed") or (asked is not None and now - asked > self._options.grace_s):
                instance.kill()
            elif now - saved >= self._options.checkpoint_interval_s:
                instance.save_checkpoints()
                saved = time.monotonic()

    def _stop(self, arn: str, why: str) -> None:
        """Have a job stopped; losing the instance or the emulator goes before asking politely."""
        with self._changed:
            if arn in self._stops and why not in ("lost", "closed"):
                return
            self._stops[arn] = why
            if arn in self._instances and why in ("cancelled", "late"):
                self._instances[arn].terminate()
            self._changed.notify_all()

    def _end(self, arn: str, status: str, reason: str) -> None:
        with self._changed:
            if self._stops.get(arn) == "cancelled":
                status, reason = "CANCELLED", ""
            self._running.pop(arn, None)
            self._happens(arn, status)
            text = reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 3] + "..."
            self._change(arn, ended=self._clock.now(), reason=text)
            job = self._jobs[arn]
            if job.billable_s is not None and not job.reserved:
                price = self._options.instance_usd_per_hour.get(job.instance_type)
                self._bill.add_instance(arn, job.instance_type, job.billable_s, price)
            self._change(arn, status=status)

    def _happens(self, arn: str, kind: str, message: str = "") -> None:
        with self._changed:
            job = self._jobs[arn]
            self._change(arn, events=(*job.events, Event(kind, self._clock.now(), message)))

    def _change(self, arn: str, **changes: Any) -> None:
        with self._changed:
            self._jobs[arn] = replace(self._jobs[arn], **changes)
            self._changed.notify_all()


def _image(job: Job) -> str:
    return str(job.request["algorithmSpecification"].get("containerImage", {}).get("uri", ""))


def _longest_s(job: Job) -> int:
    return int(job.request.get("stoppingCondition", {}).get("maxRuntimeInSeconds", LONGEST_RUN_S))


def _failure(instance: Instance) -> str:
    text = instance.failure
    ending = f", exit code: {instance.exit_code}"
    return f"AlgorithmError: {text[: LONGEST_REASON - len('AlgorithmError: ') - len(ending)]}{ending}"


def _digest(request: Mapping[str, Any]) -> str:
    """Of what is asked for: everything but the token."""
    asked = {name: value for name, value in request.items() if name != "clientToken"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _check_places(request: Mapping[str, Any]) -> None:
    """Refuse S3 places that are not there, and a source that cannot be unpacked."""
    script = request["algorithmSpecification"].get("scriptModeConfig")
    if script is None:
        raise Refused("ValidationException", "The emulator runs script mode only: algorithmSpecification.scriptModeConfig is missing.")
    uris = [request["outputDataConfig"]["s3Path"], *(c["dataSource"]["s3DataSource"]["s3Uri"] for c in request.get("inputDataConfig", ()))]
    if "checkpointConfig" in request:
        uris.append(request["checkpointConfig"]["s3Uri"])
        local = request["checkpointConfig"].get("localPath", CHECKPOINTS)
        if not local.startswith("/") or ".." in local.split("/"):
            raise Refused("ValidationException", f"checkpointConfig.localPath {local!r} is no absolute path.")
    for uri in (script["s3Uri"], *uris):
        buckets.check_bucket(buckets.place(uri)[0])
    content = buckets.read(*buckets.place(script["s3Uri"]))
    if content is None:
        raise Refused("ValidationException", f"There is no object {script['s3Uri']}.")
    if script.get("compressionType") == "GZIP":
        with suppress(tarfile.TarError, EOFError, OSError), tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.getnames()
            return
        raise Refused("ValidationException", f"{script['s3Uri']} is no tar archive, which compressionType=GZIP promises.")
