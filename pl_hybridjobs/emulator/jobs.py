"""Hybrid jobs: created once for each client token, queued, run as real processes, and their results written to S3."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pl_hybridjobs.emulator import buckets
from pl_hybridjobs.emulator.bill import Bill
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.cloudwatch import Stream
from pl_hybridjobs.emulator.devices import Device, Fleet
from pl_hybridjobs.emulator.faults import Dice
from pl_hybridjobs.emulator.images import Images
from pl_hybridjobs.emulator.instance import Instance, StartFailed
from pl_hybridjobs.emulator.job import FINAL, Event, Job
from pl_hybridjobs.emulator.job_checks import check, check_quotas
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.register import Register
from pl_hybridjobs.emulator.reservations import Reservations
from pl_hybridjobs.emulator.tasks import digest_of

LONGEST_REASON = 1024
_STEP_S = 0.1
_LOOK_S = 0.02
_LOST = "InternalServerError: We encountered an internal error. Please try again. (The emulator killed the instance.)"


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
        self._instances: dict[str, Instance] = {}
        self._stops: dict[str, str] = {}  # by ARN: "cancelled", "lost", "late" or "closed"
        self._running: dict[str, str] = {}  # by ARN: the queue that it came from
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition(threading.RLock())
        self._jobs: Register[Job] = Register("Job", "ConflictException", self._changed)
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
        digest = digest_of(request)
        with self._changed:
            if (before := self._jobs.created_before(token, digest)) is not None:
                return before
        device, reserved = check(request, region, self._fleet, self._reservations)
        secret = hashlib.sha256(f"job|{self._seed}|{region}|{token[1]}".encode()).hexdigest()
        # Tasks find their job by its token alone: see `tasks._job_of`.
        arn = f"arn:aws:braket:{region}:{buckets.ACCOUNT}:job/{uuid.uuid5(uuid.NAMESPACE_OID, secret)}"
        with self._changed:
            if (before := self._jobs.created_before(token, digest)) is not None:
                return before
            check_quotas(request, [job.instance_type for job in self._jobs.values() if job.status not in FINAL], self._options)
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
            self._jobs.create(token, digest, job)
            self._happens(arn, "WAITING_FOR_PRIORITY" if job.queue else "QUEUED_FOR_EXECUTION")
            thread = threading.Thread(target=self._live, args=(arn,), name=f"emulated-job-{job.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return arn

    def find(self, arn: str, region: str) -> Job:
        """A job as it stands; see ``Register``."""
        return self._jobs.find(arn, region)

    def all(self) -> list[Job]:
        """In the order in which they were created."""
        return self._jobs.all()

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
        self._jobs.tag(arn, region, tags)

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

    # How a job lives

    def _live(self, arn: str) -> None:
        job = self._jobs[arn]
        status, reason = "FAILED", ""
        instance: Instance | None = None
        try:
            if self._wait_for_turn(job):
                stream = Stream(job.region, job.log_stream, self._clock, self._dice.faults.log_delay_s)
                instance = Instance(job.folder, job.request, self._images.python(job.image), stream.write)
                try:
                    status, reason = self._run(job, instance)
                finally:
                    instance.kill()
                    stream.close()
            else:
                status, reason = "CANCELLED", ""
        except StartFailed as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the job says it; nobody else waits for this thread
            reason = f"InternalServerError: the emulator failed: {error!r}"
        finally:
            self._end(arn, status, reason)

    def _wait_for_turn(self, job: Job) -> bool:
        """Until the job may run, and its instance is there; False: it was stopped before."""
        with self._changed:
            while not (job.arn in self._stops or self._may_start(job)):
                self._changed.wait(_LOOK_S if job.queue else None)  # a device that comes back tells nobody
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
        if self._waiting(job.queue)[0] != job.arn:
            return False
        return not job.queue or (job.queue not in self._running.values() and self._fleet.is_working(job.queue))

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
        if instance.log_lost is not None:
            raise RuntimeError(f"the log could not be kept: {instance.log_lost!r}")
        if instance.exit_code and not stop:
            return "FAILED", _failure(instance)
        self._happens(arn, "UPLOADING_RESULTS")
        instance.save_results()
        if stop == "late":
            return "FAILED", f"MaxRuntimeExceeded: the job ran for more than {job.longest_s} s, its stopping condition."
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
            if now - began > job.longest_s and job.arn not in self._stops:
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
        self._jobs.change(arn, **changes)


def _failure(instance: Instance) -> str:
    text = instance.failure
    ending = f", exit code: {instance.exit_code}"
    return f"AlgorithmError: {text[: LONGEST_REASON - len('AlgorithmError: ') - len(ending)]}{ending}"
