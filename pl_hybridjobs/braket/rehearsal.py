"""Rehearsals: everything that ``BraketRunner`` does, against an Amazon Braket on this machine, at no cost.

The emulator is a process of its own, one for each home folder and set of options. It outlives the caller, mirrors the jobs that run in it,
and leaves when they are over.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pl_hybridjobs.braket import jobs, record
from pl_hybridjobs.braket.jobs import RequestOptions
from pl_hybridjobs.braket.mirror import Mirror
from pl_hybridjobs.braket.record import Run
from pl_hybridjobs.braket.runner import BraketRunner, input_problems, this_python
from pl_hybridjobs.braket.session import Retries, Session, shared
from pl_hybridjobs.errors import HybridJobsError, InvalidCall, ProviderError, RunnerError, says_its_fields
from pl_hybridjobs.home import home_of
from pl_hybridjobs.jobs import launch, process
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.durable import dump_json, locked, read_json, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.inputs import is_remote
from pl_hybridjobs.jobs.spec import JobSpec

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job

REGION = "us-east-1"
_CREDENTIALS = ("emulated", "emulated", "emulated")
_START_S = 90.0
_IDLE_S = float(os.environ.get("HYBRIDJOBS_REHEARSAL_IDLE_S", "10"))
_UNBORN_S = 300.0  # after which nobody is about to submit any more
_STEP_S = 0.25
_CHECKPOINTS_S = 0.25
_LARGEST_MB = 250.0


@says_its_fields
@dataclass(frozen=True, kw_only=True)
class RehearsalRunner(BraketRunner):
    """Each job is a hybrid job of an emulated Amazon Braket. Takes the options of ``BraketRunner`` and those of the emulator.

    What the job buys counts among what was bought at emulators, not for the user; ``Job.cost`` says what it would have cost.

    Attributes:
        latency_s: How long each task runs on its device.
        faults: What goes wrong, for example "throttle=0.1,kill=1,kill_s=5".
        seed: Of samples and faults; None: another each time.
        endpoint_url: Of an emulator that runs already; None: one of its own.
    """

    name: ClassVar[str] = "rehearsal"
    installs: ClassVar[bool] = False  # the emulator's images have what is installed here
    is_bought: ClassVar[bool] = False
    look_every_s: ClassVar[float] = 0.1

    latency_s: float = 0.0
    faults: str = ""
    seed: int | None = None
    endpoint_url: str | None = None

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``."""
        missing = [name for name in ("moto", "werkzeug") if importlib.util.find_spec(name) is None]
        if missing:
            return ["a rehearsal needs the emulator: pip install 'pl-hybridjobs[emulator]'"]
        return [*RequestOptions.complaints(self, spec), *self._emulator_complaints()]

    def _emulator_complaints(self) -> list[str]:
        from pl_hybridjobs.emulator import Faults

        found = []
        if isinstance(self.latency_s, bool) or not isinstance(self.latency_s, int | float) or not 0 <= self.latency_s < inf:
            found.append(f"latency_s must be a number of seconds, not {self.latency_s!r}")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0):
            found.append(f"seed must be a whole number of at least 0, or None, not {self.seed!r}")
        if self.endpoint_url is not None and not re.fullmatch(r"https?://[^/\s]+/?", str(self.endpoint_url)):
            found.append(
                f"endpoint_url={self.endpoint_url!r} is no address; `hybridjobs emulator` shows its own, as in http://127.0.0.1:4566"
            )
        if not isinstance(self.faults, str):
            return [*found, f"faults must be text such as 'throttle=0.1,kill=1', not {self.faults!r}"]
        try:
            Faults.parse(self.faults)
        except InvalidCall as error:
            found += error.complaints
        return found

    def preflight(self, spec: JobSpec) -> list[str]:
        """What Amazon Braket would refuse and can be told without it; what depends on an account stands in the report."""
        url = self.endpoint_url or ""
        session = Session(region=self.region_for(spec) or REGION, endpoint_url=url, retries=Retries(attempts=2), credentials=_CREDENTIALS)
        known = session.choices("braket", "InstanceType")
        found = [] if self.instance_type in known else [self.unknown_instance(known)]
        try:
            return found + (input_problems(session, spec) if url else _not_in_the_emulator(spec))
        except ProviderError as error:
            return [*found, str(error)]

    def session(self, spec: JobSpec, folder: JobFolder | None = None, retries: Retries | None = None) -> Session:
        """The way to the emulator of a job's newest run; before that, to the one that is running for it."""
        assert folder is not None
        run = record.latest(folder)
        door = run.intent["door"] if run is not None and not run.is_closed else self.door(folder)
        return shared(
            region=self.region_for(spec) or REGION,
            bucket=self.bucket or "",
            prefix=self.prefix or "",
            endpoint_url=str(door["url"]),
            retries=retries or Retries(),
            credentials=_CREDENTIALS,
        )

    def door(self, folder: JobFolder) -> dict[str, Any]:
        """Where the emulator is."""
        if self.endpoint_url:
            return {"url": self.endpoint_url}
        return self._stage(folder).running() or {"url": "http://127.0.0.1:9"}

    def _stage(self, folder: JobFolder) -> Stage:
        options = {"latency_s": self.latency_s, "faults": self.faults, "seed": self.seed}
        return Stage(home_of(folder.path) / "rehearsal" / _digest(options), options)

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``."""
        if not self.endpoint_url:
            self._stage(folder).open_for(folder)
        super().start(folder, digest, cause)

    def _look(self, folder: JobFolder, run: Run) -> None:
        told = run.intent["door"].get("process")
        if told is None or process.Identity.from_json(told).is_alive() is not False:
            super()._look(folder, run)
            return
        gone = {"status": "FAILED", "failureReason": "the emulator that ran it is gone", "jobArn": run.arn}
        run.heard({**run.answer, **gone})
        spec = folder.spec()
        self._close(folder, spec, run, Mirror(self.session(spec, folder), folder, run, is_bought=False), [])


def _not_in_the_emulator(spec: JobSpec) -> list[str]:
    return [
        f"inputs[{name!r}]: {place} lies in Amazon's S3, and a rehearsal has one of its own. Name a local copy, or an emulator with that "
        "object in it: endpoint_url="
        for name, place in spec.inputs.items()
        if is_remote(place)
    ]


def _digest(options: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Stage:
    """Where an emulator's process and those who use it find each other.

    Attributes:
        path: A folder: ``emulator.json`` while one runs, and a file for each job that is not over.
        options: The emulator's.
    """

    path: Path
    options: dict[str, Any]

    @property
    def lock(self) -> Path:
        """Locked while an emulator starts, and while it decides to leave."""
        return self.path / ".lock"

    @property
    def jobs(self) -> Path:
        """A file for each job that is not over; says which Braket job of it is awaited."""
        return self.path / "jobs"

    @property
    def address(self) -> Path:
        """Where it listens, and which process it is."""
        return self.path / "emulator.json"

    def running(self) -> dict[str, Any] | None:
        """Its address, if it is alive."""
        try:
            told: dict[str, Any] = read_json(self.address)
        except (OSError, HybridJobsError):
            return None
        return told if process.Identity.from_json(told["process"]).is_alive() else None

    def open_for(self, folder: JobFolder) -> None:
        """Have an emulator that stays until this job is over.

        Raises:
            RunnerError: It does not start.
        """
        self.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.lock, timeout_s=2 * _START_S):
            mark = record.after(folder, record.latest(folder))
            write_bytes(self.jobs / folder.path.name, str(mark.number).encode(), durable=False)
            if self.running() is None:
                self._start()

    def _start(self) -> None:
        self.address.unlink(missing_ok=True)
        log = os.open(self.path / "emulator.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        code = launch.program("pl_hybridjobs.braket.rehearsal")
        argv = [sys.executable, "-P", "-c", code, str(launch.ROOT), str(self.path), json.dumps(self.options)]
        try:
            pid = process.spawn(argv, process.own_environment(), output=log, session=True)
        finally:
            os.close(log)
        deadline = time.monotonic() + _START_S
        while self.running() is None:
            process.reap(pid)
            if process.Identity.of(pid) is None or time.monotonic() > deadline:
                tail = (self.path / "emulator.log").read_text(errors="replace").splitlines()[-8:]
                raise RunnerError("The emulator for rehearsals does not start. It says:\n" + "\n".join(tail))
            time.sleep(0.02)

    def serve(self) -> None:
        """Be the emulator, until no job needs it any more."""
        from pl_hybridjobs.emulator import emulator
        from pl_hybridjobs.emulator.job_options import JobOptions as EmulatedJobs

        with emulator(jobs=EmulatedJobs(checkpoint_interval_s=_CHECKPOINTS_S), **self.options) as running:
            address = {"url": running.url, "process": process.current().to_json(), "seed": running.seed}
            write_bytes(self.address, dump_json(address), durable=False)
            idle_since = time.monotonic()
            while True:
                time.sleep(_STEP_S)
                if self._mirror():
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > _IDLE_S:
                    with locked(self.lock, timeout_s=2 * _START_S):
                        if not os.listdir(self.jobs):
                            self.address.unlink(missing_ok=True)
                            return

    def _mirror(self) -> int:
        """Bring the folders of all jobs up to date; how many are not over."""
        names = [name for name in os.listdir(self.jobs) if not name.startswith(".")]
        for name in names:
            folder, mark = JobFolder(self.path.parents[1] / "jobs" / name), self.jobs / name
            try:
                spec = folder.spec()
                runners.resolve(spec.runner, spec.runner_options).observe(folder)
                run = record.latest(folder)
                if run is None or run.number < int(mark.read_bytes()) or not run.arn:
                    is_over = time.time() - mark.stat().st_mtime > _UNBORN_S
                else:
                    is_over = run.is_closed
            except (HybridJobsError, OSError) as error:  # removed, or damaged: whoever opens it is told
                print(f"{name}: {error}", flush=True)
                is_over = not folder.spec_file.exists()
            if is_over:
                with contextlib.suppress(FileNotFoundError):
                    mark.unlink()
        return len(names)


def main(argv: list[str]) -> int:
    """``rehearsal <stage> <options as JSON>``: the emulator's process."""
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    Stage(Path(argv[0]), json.loads(argv[1])).serve()
    return 0


# The report --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a rehearsal says about the real thing.

    Attributes:
        refused: What Amazon would have refused, one sentence each.
        unknown: What only Amazon can tell.
        phases: Seconds in each phase, by its name; the emulator's instance starts at once, a real one takes minutes.
        instance: Its type.
        instance_usd: What its time would have cost; None: its price is not known.
        devices_usd: What was bought from devices would have cost.
        source_mb: Of what was uploaded, in megabytes.
    """

    refused: tuple[str, ...]
    unknown: tuple[str, ...]
    phases: dict[str, float]
    instance: str
    instance_usd: Decimal | None
    devices_usd: Decimal
    source_mb: float

    def __str__(self) -> str:
        from pl_hybridjobs.cost.prices import show

        instance = "an unknown price" if self.instance_usd is None else show(self.instance_usd)
        return "\n".join(
            [
                *(f"Amazon would have refused it: {text}" for text in self.refused),
                *(f"only Amazon can tell: {text}" for text in self.unknown),
                f"uploaded: {self.source_mb:.2f} MB",
                "time: " + (", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.phases.items()) or "none"),
                f"price: {instance} for {self.instance}, {show(self.devices_usd)} for devices",
            ]
        )


def report(job: Job) -> Report:
    """What a job's rehearsal says about running it on Amazon Braket.

    Raises:
        InvalidCall: It was no rehearsal, or was not submitted.
    """
    from pl_hybridjobs.cost import account
    from pl_hybridjobs.cost.prices import INSTANCE

    folder = JobFolder(job.folder)
    runner = runners.resolve(job.spec.runner, job.spec.runner_options)
    found = record.runs(folder)
    if not isinstance(runner, RehearsalRunner) or not found:
        raise InvalidCall(f"report of {job.name}", ["it was no rehearsal; submit it with runner='rehearsal'"])
    answer = found[-1].answer
    region = str(found[-1].intent["region"])
    source_mb = float(found[-1].intent.get("source_mb", 0.0))
    refused = runner.image_complaints(region, jobs.IMAGE_PYTHON, this_python())
    if source_mb > _LARGEST_MB:
        refused.append(f"the source archive has {source_mb:.0f} MB; more than {_LARGEST_MB:.0f} MB take minutes to start")
    unknown = [] if runner.role_arn else ["whether there is a role for jobs: none is named, and the emulator has one"]
    unknown.append(f"this account's quotas, for example of {runner.instance_type} for jobs")
    cost = runner.cost(folder)
    return Report(
        tuple(refused),
        tuple(unknown),
        phases(answer),
        runner.instance_type,
        None if cost.unknown_tasks else cost.usd,
        account.of_job(folder.path).cost().without(INSTANCE).usd,
        source_mb,
    )


def phases(answer: dict[str, Any]) -> dict[str, float]:
    """Seconds between the events of a Braket job, by what they began."""
    events = answer.get("events") or []
    found: dict[str, float] = {}
    for event, following in pairwise(events):
        name = jobs.phase_name(str(event["eventType"]))
        found[name] = found.get(name, 0.0) + float(following["timeOfEvent"]) - float(event["timeOfEvent"])
    return found
