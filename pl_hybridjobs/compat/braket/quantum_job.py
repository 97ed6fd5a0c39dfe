"""Handles of jobs with Amazon Braket's methods and the shapes of its answers. ``.job`` is our own handle, which can more."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from logging import Logger, getLogger
from pathlib import Path
from typing import Any, ClassVar, Self

from pl_hybridjobs.compat.braket import creation, service, source
from pl_hybridjobs.compat.braket.config import (
    CheckpointConfig,
    InstanceConfig,
    OutputDataConfig,
    S3DataSourceConfig,
    StoppingCondition,
)
from pl_hybridjobs.compat.braket.data_persistence import load_job_result
from pl_hybridjobs.compat.braket.metrics_data import LogMetricsParser, MetricStatistic, MetricType, rows_of, table
from pl_hybridjobs.errors import FolderCorrupt, InvalidCall, JobNotFound
from pl_hybridjobs.jobs.contract import DEVICE, ENTRY_POINT, METRICS, NO_DEVICE, RESULTS, named
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.lease import Lease
from pl_hybridjobs.jobs.metrics import read_records
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State

_STATES = {
    Status.CREATED: "QUEUED",
    Status.QUEUED: "QUEUED",
    Status.RUNNING: "RUNNING",
    Status.COMPLETED: "COMPLETED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "CANCELLED",
    Status.INTERRUPTED: "FAILED",  # it can be resumed, of which Amazon Braket knows nothing
    Status.UNKNOWN: "RUNNING",  # not being seen is no end
}
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ", re.MULTILINE)


@dataclass(frozen=True)
class HybridJobQueueInfo:
    """A job's place in its queue.

    Attributes:
        queue_position: As text; None if it does not wait.
        message: Why there is none.
    """

    queue_position: str | None
    message: str | None = None


@dataclass(frozen=True)
class JobTask:
    """A quantum task of a job.

    Attributes:
        id: The provider's name of it: at Amazon Braket its ARN.
        device: The device's ARN.
        shots: Of all its circuits together.
        status: As Amazon Braket calls it: ``"COMPLETED"``, ``"QUEUED"``, ...
        created_at: When it was created (in the ledger: reserved), UTC.
        usd: What it costs, or will; None if that is not known.
    """

    id: str
    device: str
    shots: int
    status: str
    created_at: datetime
    usd: float | None

    @property
    def arn(self) -> str:
        """The same as ``id``."""
        return self.id

    def state(self) -> str:
        """The same as ``status``."""
        return self.status

    def metadata(self) -> dict[str, Any]:
        """In the shape of an answer of GetQuantumTask, as far as it is known."""
        return {
            "quantumTaskArn": self.id,
            "deviceArn": self.device,
            "shots": self.shots,
            "status": self.status,
            "createdAt": self.created_at,
        }


class QuantumJob:
    """What both kinds of handles can."""

    DEFAULT_RESULTS_POLL_TIMEOUT: ClassVar[int] = 864000
    DEFAULT_RESULTS_POLL_INTERVAL: ClassVar[int] = 5
    TERMINAL_STATES: ClassVar[frozenset[str]] = frozenset({"CANCELLED", "COMPLETED", "FAILED"})
    RESULTS_FILENAME: ClassVar[str] = RESULTS

    job: Job
    _quiet: bool = False

    @classmethod
    def of(cls, job: Job, *, quiet: bool = False) -> Self:
        """The handle of a job of ours."""
        made = cls.__new__(cls)
        made.job, made._quiet = job, quiet
        return made

    @property
    def arn(self) -> str:
        """``local:job/<name>``, and at Amazon Braket the job's ARN."""
        return str(service.answer(self.job.folder).get("jobArn") or f"{creation.LOCAL_ARN}{self.job.name}")

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.name

    def state(self, use_cached_value: bool = False) -> str:
        """QUEUED, RUNNING, COMPLETED, FAILED, CANCELLING or CANCELLED. An interrupted job, which can be resumed, is FAILED here.

        Args:
            use_cached_value: Not used: looking costs nothing.
        """
        del use_cached_value
        return self._state(self.job.state())

    def _state(self, state: State) -> str:
        if not state.status.is_over and JobFolder(self.job.folder).cancel_request.exists():
            return "CANCELLING"
        return _STATES[state.status]

    def metadata(self, use_cached_value: bool = False) -> dict[str, Any]:
        """The job in the shape of an answer of GetJob; of a job at Amazon Braket the service's own answer.

        Args:
            use_cached_value: Not used: looking costs nothing.
        """
        del use_cached_value
        state = self.job.state()
        return {**_described(self.job, state), **service.answer(self.job.folder), "status": self._state(state)}

    def queue_position(self) -> HybridJobQueueInfo:
        """The place in the queue; jobs on this machine do not wait in one."""
        info = self.metadata()["queueInfo"]
        position = info.get("position")
        return HybridJobQueueInfo(None if position in (None, "None") else position, info.get("message"))

    def metrics(
        self, metric_type: MetricType = MetricType.TIMESTAMP, statistic: MetricStatistic = MetricStatistic.MAX
    ) -> dict[str, list[Any]]:
        """All metrics so far, as columns of equal length with None where a row has no value.

        They are those of the job's own record; of a program that only prints them (with the SDK's ``log_metric``) those of its log.

        Args:
            metric_type: Whether a row is a moment or an iteration.
            statistic: Which of several values counts that one attempt logged for one cell. A later attempt's count more than an earlier's.
        """
        self.job.state()  # brings what has come from elsewhere
        records = read_records(JobFolder(self.job.folder).metrics)
        if records:
            return table(rows_of(records), metric_type, statistic)
        parser = LogMetricsParser()
        for line in self._log().splitlines():
            if line.startswith(METRICS):
                parser.parse_log_message("", line)
        return parser.get_parsed_metrics(metric_type, statistic)

    def logs(self, wait: bool = False, poll_interval_seconds: int = 5) -> None:
        """Print the log.

        Args:
            wait: Until the job is over; then how it ended is printed too, if it did not end well.
            poll_interval_seconds: Not used: lines are printed as they come.
        """
        del poll_interval_seconds
        if not wait:
            print(self._log())
            return
        for line in self.job.logs(follow=True):
            print(_TIME.sub("", line), flush=True)
        state = self.job.state()
        if state.status is not Status.COMPLETED:
            print(f"{self.name} is {self._state(state)}: {state.reason}", file=sys.stderr)

    def _watch(self) -> None:
        """Wait for the end, with the log unless that is not wanted."""
        if self._quiet:
            self.job.wait()
        else:
            print(f"Initializing Braket Job: {self.arn}")
            self.logs(wait=True)

    def _log(self) -> str:
        """The log without times."""
        return _TIME.sub("", self.job.logs())

    def cancel(self) -> str:
        """Stop the job.

        Returns:
            ``"CANCELLING"`` or ``"CANCELLED"``; the final state of a job that had ended.
        """
        self.job.cancel()
        return self.state()

    def result(
        self,
        poll_timeout_seconds: float = DEFAULT_RESULTS_POLL_TIMEOUT,
        poll_interval_seconds: float = DEFAULT_RESULTS_POLL_INTERVAL,
        allow_pickle: bool = False,
    ) -> dict[str, Any]:
        """Wait for the end and return what was saved: ``{"result": value}`` for a value that is no dict, ``{}`` if nothing was.

        Args:
            poll_timeout_seconds: The longest wait.
            poll_interval_seconds: Not used.
            allow_pickle: Unpickle a pickled result.

        Raises:
            JobFailed: The job failed; also an instance of the original error's class where that is importable.
            JobError: It was cancelled, stopped or interrupted.
            TimeoutError: The wait is over; the job goes on.
            RuntimeError: The result is pickled, and that is not allowed.
        """
        del poll_interval_seconds
        value = self.job.result(poll_timeout_seconds)
        file = self.job.folder / "results" / RESULTS
        if file.exists() or value is None:
            return load_job_result(file, allow_pickle)
        return named(value)

    def download_result(
        self,
        extract_to: str | None = None,
        poll_timeout_seconds: float = DEFAULT_RESULTS_POLL_TIMEOUT,
        poll_interval_seconds: float = DEFAULT_RESULTS_POLL_INTERVAL,
    ) -> None:
        """Wait for the end and copy the results to ``<extract_to>/<name>/``, whatever the end was.

        Args:
            extract_to: A folder; None: the working folder.
            poll_timeout_seconds: The longest wait.
            poll_interval_seconds: Not used.

        Raises:
            TimeoutError: The wait is over; the job goes on.
        """
        del poll_interval_seconds
        self.job.wait(poll_timeout_seconds)
        _copy_visible(self.job.folder / "results", Path(extract_to or Path.cwd()) / self.name)

    def get_tasks(self, use_cached_value: bool = False) -> list[JobTask]:
        """The quantum tasks of the job, oldest first: those in its ledger, and those that Amazon Braket has of it.

        What no longer answers (a rehearsal's emulator) adds none.

        Args:
            use_cached_value: Not used.
        """
        from pl_hybridjobs.cost import account

        del use_cached_value
        self.job.state()  # brings what has come from elsewhere
        found = {
            entry.task_id: JobTask(
                entry.task_id,
                entry.target,
                entry.shots,
                entry.state.value.upper() if entry.state.is_final else "QUEUED",
                service.utc(entry.created),
                None if entry.usd is None else float(entry.usd),
            )
            for entry in account.of_job(self.job.folder).ledger.entries()
            if entry.task_id
        }
        for told in service.tasks(self.job):
            arn = str(told["quantumTaskArn"])
            usd = found[arn].usd if arn in found else None
            found[arn] = JobTask(arn, told["deviceArn"], told["shots"], told["status"], told["createdAt"], usd)
        return sorted(found.values(), key=lambda task: task.created_at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.arn == other.arn

    def __hash__(self) -> int:
        return hash(self.arn)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('arn':'{self.arn}')"


class AwsQuantumJob(QuantumJob):
    """A job of ``@hybrid_job`` or ``create``; at Amazon Braket, or, by ``use("local")`` or ``use("rehearsal")``, on this machine.

    Args:
        arn: Its ARN or name.
        aws_session: Not used: the job knows its account.
        quiet: Print nothing while waiting.

    Raises:
        ValueError: There is no such job.
    """

    RESULTS_TAR_FILENAME: ClassVar[str] = "model.tar.gz"
    LOG_GROUP: ClassVar[str] = "/aws/braket/jobs"

    def __init__(self, arn: str, aws_session: Any = None, quiet: bool = False) -> None:
        del aws_session
        self.job = _found(arn)
        self._quiet = quiet

    @classmethod
    def create(
        cls,
        device: str,
        source_module: str,
        entry_point: str | None = None,
        image_uri: str | None = None,
        job_name: str | None = None,
        code_location: str | None = None,
        role_arn: str | None = None,
        wait_until_complete: bool = False,
        hyperparameters: dict[str, Any] | None = None,
        input_data: str | dict[str, Any] | S3DataSourceConfig | None = None,
        instance_config: InstanceConfig | None = None,
        distribution: str | None = None,
        stopping_condition: StoppingCondition | None = None,
        output_data_config: OutputDataConfig | None = None,
        copy_checkpoints_from_job: str | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        aws_session: Any = None,
        tags: dict[str, str] | None = None,
        logger: Logger = getLogger(__name__),  # noqa: B008 - as the SDK has it
        quiet: bool = False,
        reservation_arn: str | None = None,
    ) -> AwsQuantumJob:
        """Create a job from a script, a module or a package; see ``hybrid_job`` for what is not said here.

        Args:
            device: See ``hybrid_job``.
            source_module: A Python file or a folder, or ``s3://...tar.gz``. ``requirements.txt`` files in a folder name what it needs.
            entry_point: ``module`` (run as ``__main__``) or ``module:function``, seen from beside ``source_module``. Default: its name.
                An archive in S3 needs one.
            image_uri: See ``hybrid_job``.
            job_name: See ``hybrid_job``.
            code_location: Under which the code lies at Amazon Braket, as ``s3://...``.
            role_arn: See ``hybrid_job``.
            wait_until_complete: See ``hybrid_job``.
            hyperparameters: Become text. If they are all parameters of the function they are its arguments, by its annotations.
            input_data: See ``hybrid_job``.
            instance_config: See ``hybrid_job``.
            distribution: See ``hybrid_job``.
            stopping_condition: See ``hybrid_job``.
            output_data_config: See ``hybrid_job``.
            copy_checkpoints_from_job: See ``hybrid_job``.
            checkpoint_config: See ``hybrid_job``.
            aws_session: See ``hybrid_job``.
            tags: See ``hybrid_job``.
            logger: Not used.
            quiet: See ``hybrid_job``.
            reservation_arn: See ``hybrid_job``.

        Raises:
            InvalidCall: No such module or function, or anything else that is wrong. A ``ValueError``.
        """
        del logger
        wishes = creation.Wishes(
            device=device,
            job_name=job_name,
            default_name=_default_name(image_uri),
            image_uri=image_uri,
            input_data=input_data,
            instance_config=instance_config,
            distribution=distribution,
            copy_checkpoints_from_job=copy_checkpoints_from_job,
            checkpoint_config=checkpoint_config,
            role_arn=role_arn,
            stopping_condition=stopping_condition,
            output_data_config=output_data_config,
            aws_session=aws_session,
            code_location=code_location,
            tags=tags,
            reservation_arn=reservation_arn,
        )
        job = source.submit(source_module, entry_point, hyperparameters, wishes)
        return cls.of(job, quiet=quiet).begin(wait_until_complete=wait_until_complete)

    def begin(self, *, wait_until_complete: bool) -> Self:
        """Print the log until the end, if that was asked for."""
        if wait_until_complete:
            self._watch()
        return self


class LocalQuantumJob(QuantumJob):
    """A job that ran on this machine while its creator waited. Its results, log and checkpoints are copied to ``./<name>/``.

    Args:
        arn: ``local:job/<name>``.
        run_log: Not used: the job has its log.

    Raises:
        ValueError: It is no such ARN, or there is no such job.
    """

    def __init__(self, arn: str, run_log: str | None = None) -> None:
        del run_log
        if not arn.startswith(creation.LOCAL_ARN):
            raise InvalidCall("LocalQuantumJob", [f"Arn {arn} is not a valid local job arn; one is {creation.LOCAL_ARN}<name>"])
        self.job = _found(arn)

    @classmethod
    def create(
        cls,
        device: str,
        source_module: str,
        entry_point: str | None = None,
        image_uri: str | None = None,
        job_name: str | None = None,
        code_location: str | None = None,
        role_arn: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        input_data: str | dict[str, Any] | S3DataSourceConfig | None = None,
        output_data_config: OutputDataConfig | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        aws_session: Any = None,
        local_container_update: bool = True,
    ) -> LocalQuantumJob:
        """Run a script, a module or a package on this machine, print its log, and return when it is over.

        Args:
            device: See ``hybrid_job``.
            source_module: See ``AwsQuantumJob.create``.
            entry_point: See ``AwsQuantumJob.create``.
            image_uri: Not used: there is no container.
            job_name: See ``hybrid_job``. There must be no folder of this name here.
            code_location: Not used.
            role_arn: Not used.
            hyperparameters: See ``AwsQuantumJob.create``.
            input_data: See ``hybrid_job``; local paths.
            output_data_config: Not used.
            checkpoint_config: Not used.
            aws_session: With whose region and profile a ``source_module`` in S3 is read.
            local_container_update: Not used.

        Raises:
            InvalidCall: No such module or function, or anything else that is wrong. A ``ValueError``.
        """
        del code_location, role_arn, local_container_update
        check_local_folder(job_name)
        wishes = creation.Wishes(
            device=device,
            local=True,
            job_name=job_name,
            default_name=_default_name(image_uri),
            input_data=input_data,
            output_data_config=output_data_config,
            checkpoint_config=checkpoint_config,
            aws_session=aws_session,
        )
        return cls.of(source.submit(source_module, entry_point, hyperparameters, wishes)).finish()

    @property
    def run_log(self) -> str:
        """The job's output."""
        return self._log()

    def finish(self) -> Self:
        """Print the log until the end, and copy what the job left to ``./<name>/``."""
        self._watch()
        folder = Path.cwd() / self.name
        _copy_visible(self.job.folder / "results", folder)
        (folder / "log.txt").write_text(self._log(), encoding="utf-8")
        _copy_visible(self.job.folder / "checkpoints", folder / "checkpoints")
        return self


def check_local_folder(name: str | None) -> None:
    """Where results of a local job go must be free.

    Raises:
        InvalidCall: It is not. A ``ValueError``.
    """
    if name and Path(str(name)).is_dir():
        raise InvalidCall(
            "job_name", [f"A local directory called {name} already exists. Please use a different job name (or remove that folder)."]
        )


def _found(arn: str) -> Job:
    try:
        return creation.find(arn)
    except JobNotFound as error:
        raise InvalidCall("job", [f"Unable to find the job {arn}: {error}"]) from error


def _default_name(image_uri: str | None) -> str:
    """``braket-job-<container>`` by the image, as at Amazon Braket."""
    found = re.search(r"/amazon-braket-([^:/]*?)(?:-jobs)?(?::|$)", image_uri or "")
    return f"braket-job-{found[1]}" if found else "braket-job" if image_uri else "braket-job-default"


def _copy_visible(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    else:
        target.mkdir(parents=True, exist_ok=True)


def _described(job: Job, state: State) -> dict[str, Any]:
    """A job of this machine as GetJob would tell of it. Times are UTC, ``billableDuration`` is in milliseconds."""
    spec = job.spec
    times = _attempt_times(JobFolder(job.folder))
    started = times[0][0] if times else None
    ended = (times[-1][1] or _outcome_time(job)) if times and state.status.is_over else None
    timeout_s = spec.resources.timeout_s
    over = _STATES[state.status] if state.status.is_over else None
    told: dict[str, Any] = {
        "jobArn": f"{creation.LOCAL_ARN}{spec.name}",
        "jobName": spec.name,
        "createdAt": service.utc(spec.created),
        "hyperParameters": {name: str(value) for name, value in spec.params.items()},
        "deviceConfig": {"device": spec.resources.env.get(DEVICE) or spec.device_text or NO_DEVICE},
        "algorithmSpecification": {
            "scriptModeConfig": {
                "entryPoint": spec.resources.env.get(ENTRY_POINT, spec.function),
                "s3Uri": str(job.folder / "bundle"),
                "compressionType": "NONE",
            }
        },
        "roleArn": "",
        "inputDataConfig": [{"channelName": channel} for channel in spec.inputs],
        "checkpointConfig": dict.fromkeys(("localPath", "s3Uri"), str(job.folder / "checkpoints")),
        "outputDataConfig": {"s3Path": str(job.folder / "results")},
        "instanceConfig": {
            "instanceType": "this machine",
            "instanceCount": 1,
            "volumeSizeInGb": shutil.disk_usage(job.folder).total // 10**9,
        },
        "stoppingCondition": {} if timeout_s is None else {"maxRuntimeInSeconds": math.ceil(timeout_s)},
        "tags": dict(spec.tags),
        "events": [
            {"eventType": kind, "timeOfEvent": service.utc(when), "message": ""}
            for kind, when in [("QUEUED_FOR_EXECUTION", spec.created), *(("RUNNING", begun) for begun, _ in times), (over, ended)]
            if kind and when
        ],
        "queueInfo": {"position": "None", "message": f"Job is {state.status} on this machine, where there is no queue."},
    }
    if started:
        told["startedAt"] = service.utc(started)
    if ended:
        told["endedAt"] = service.utc(ended)
        told["billableDuration"] = round(1000 * sum((end or begun) - begun for begun, end in times))
    if state.status.is_over and state.status is not Status.COMPLETED:
        told["failureReason"] = state.reason
    return told


def _attempt_times(folder: JobFolder) -> list[tuple[float, float | None]]:
    """When each attempt began and ended, Unix time; None: it goes on."""
    times = []
    for attempt in folder.attempt_list():
        ended = folder.read_optional(attempt.exit) or {}
        with contextlib.suppress(FolderCorrupt):  # a damaged lease costs its times
            times.append((Lease.read(attempt).started, ended.get("time")))
    return times


def _outcome_time(job: Job) -> float | None:
    """When the outcome was written: the supervisor, which records the end, comes a moment later."""
    with contextlib.suppress(FileNotFoundError):
        return JobFolder(job.folder).outcome.stat().st_mtime
    return None
