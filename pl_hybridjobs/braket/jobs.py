"""What is said to Amazon Braket about a hybrid job, and what its answers mean. Pure: nothing is contacted, read or written.

Requests and answers: the botocore model "braket", 2019-09-01 (CreateJob, GetJob).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, ClassVar

from pl_hybridjobs.braket.session import BUCKET, RESERVATION
from pl_hybridjobs.errors import did_you_mean
from pl_hybridjobs.jobs.contract import NO_DEVICE
from pl_hybridjobs.jobs.inputs import is_remote
from pl_hybridjobs.jobs.spec import JobSpec, Status

#: Names of hyperparameters that are ours; no variable of Python can have such a name.
OURS = "hybridjobs-"
LOCAL_CHECKPOINTS = "/opt/jobs/checkpoints"
ENTRY = "hybridjobs_entry"
#: The Python of Amazon's own images, as read in amazon-braket-containers in August 2026.
IMAGE_PYTHON = "3.12"
LONGEST_RUN_S = 432_000
#: What a job with ``timeout_s`` gets on top, to install what it needs and to say how it ended.
MARGIN_S = 900

#: Those that have Amazon's own images.
IMAGE_REGIONS = ("us-east-1", "us-west-1", "us-west-2", "eu-west-2", "eu-north-1")

_FRAMEWORKS = ("base", "cudaq", "pytorch", "tensorflow")
_REGISTRY = "292282985366"
_MOST_PARAMETERS, _LONGEST_KEY, _LONGEST_VALUE, _LONGEST_NAME = 100, 256, 2500, 50
_MOST_TAGS, _MOST_CHANNELS = 50, 20
_ARN = re.compile(r"arn:aws(?:-[a-z]+)*:braket:(?P<region>[a-z0-9-]*):[0-9]{0,12}:device/[\w./-]+")
_JOB_ARN = re.compile(r"arn:aws(?:-[a-z]+)*:braket:(?P<region>[a-z0-9-]+):[0-9]{12}:job/[\w-]+")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-/]+")
_IMAGE = re.compile(r"\d{10,14}\.dkr\.ecr.[a-z0-9-]+\.amazonaws\.com/.+(@sha256)?:.+")
_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?(?P<key>.*)")
_TAG = re.compile(r"[\w\s.:/=+@-]*")
_TIMES = ("createdAt", "startedAt", "endedAt", "timeOfEvent")
_OVER = ("COMPLETED", "FAILED", "CANCELLED")
_PHASES = {
    "WAITING_FOR_PRIORITY": "waiting for priority",
    "QUEUED_FOR_EXECUTION": "queued",
    "STARTING_INSTANCE": "starting the instance",
    "DOWNLOADING_DATA": "downloading",
    "RUNNING": "",
    "DEPRIORITIZED_DUE_TO_INACTIVITY": "deprioritized, since it has sent no task for a while",
    "UPLOADING_RESULTS": "uploading",
}


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """How a job is to run on Amazon Braket; all fields are text, numbers or None.

    Attributes:
        role_arn: Whom the job acts as. None: ``$BRAKET_JOBS_ROLE_ARN``, else the role that Braket's console makes.
        image_uri: An image of your own; None: Amazon's, for ``framework``.
        framework: "base", "pytorch", "tensorflow" or "cudaq".
        region: None: the device's, else the environment's or the profile's.
        profile: Of the AWS configuration files.
        bucket: For everything of the job; None: ``amazon-braket-<region>-<account>``, made if it is missing.
        prefix: Of keys in the bucket; None: "jobs".
        instance_type: Amazon SageMaker's name.
        instance_count: 1: a function runs in one process.
        volume_gb: Of the instance's disk.
        max_runtime_s: After which Braket ends the job; ``Resources.timeout_s`` (with time to start) wins where it is given.
        output_s3: Where Braket puts ``model.tar.gz``, as ``s3://...``; None: beside the rest.
        checkpoint_s3: Under which the job's folder is kept, likewise.
        code_s3: Under which the source archive is put, likewise.
        kms_key_id: With which results are encrypted.
        reservation_arn: Of Braket Direct.
        distribution: None; there is no other here.
        hyperparameters: Further ones, for the console: text by name.
    """

    role_arn: str | None = None
    image_uri: str | None = None
    framework: str = "base"
    region: str | None = None
    profile: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    volume_gb: int = 30
    max_runtime_s: int = LONGEST_RUN_S
    output_s3: str | None = None
    checkpoint_s3: str | None = None
    code_s3: str | None = None
    kms_key_id: str | None = None
    reservation_arn: str | None = None
    distribution: str | None = None
    hyperparameters: Mapping[str, str] | None = None

    _NUMBERS: ClassVar = {"instance_count": 1, "volume_gb": 1, "max_runtime_s": 1}
    _TEXTS: ClassVar = ("framework", "instance_type")

    def complaints(self, spec: JobSpec) -> list[str]:
        """What the service would refuse, one sentence each, as far as it can be told without asking it."""
        return [*self._own_complaints(), *self._complaints_of(spec)]

    def _own_complaints(self) -> list[str]:
        found: dict[str, list[str]] = {}  # by field
        for field in fields(RequestOptions):
            name, value = field.name, getattr(self, field.name)
            if name in self._NUMBERS:
                if isinstance(value, bool) or not isinstance(value, int) or value < self._NUMBERS[name]:
                    found[name] = [f"{name} must be a whole number of at least 1, not {value!r}"]
            elif name == "hyperparameters":
                found |= {name: problems} if (problems := _hyperparameter_complaints(value)) else {}
            elif not (isinstance(value, str) and value) and not (value is None and name not in self._TEXTS):
                found[name] = [f"{name} must be text that is not empty{'' if name in self._TEXTS else ', or None'}, not {value!r}"]
        usable: RequestOptions = replace(self, **{name: getattr(RequestOptions, name) for name in found})
        return [*(problem for problems in found.values() for problem in problems), *usable._pattern_complaints()]

    def _pattern_complaints(self) -> list[str]:
        found = []
        if self.instance_count != 1:
            found.append(f"instance_count={self.instance_count}: a function runs in one process, so 1 is all that is supported")
        if self.max_runtime_s > LONGEST_RUN_S:
            found.append(f"max_runtime_s={self.max_runtime_s} is more than Braket's {LONGEST_RUN_S} (5 days); resume goes on from there")
        if self.distribution is not None:
            found.append(
                f"distribution={self.distribution!r} is not supported: it starts a program for each GPU, and a job's function runs once; "
                "leave it out, and let the function start processes for the cores and GPUs of its instance"
            )
        if self.framework not in _FRAMEWORKS:
            found.append(f"framework={self.framework!r} is none of {', '.join(_FRAMEWORKS)}.{did_you_mean(self.framework, _FRAMEWORKS)}")
        if self.image_uri and not _IMAGE.fullmatch(self.image_uri):
            found.append(
                f"image_uri={self.image_uri!r} is no image of Amazon ECR; one looks like "
                "<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>. Push it there: `hybridjobs image push`"
            )
        if self.image_uri and len(self.image_uri) > 255:
            found.append(f"image_uri has {len(self.image_uri)} characters, more than 255")
        if self.role_arn and not _ROLE.fullmatch(self.role_arn):
            found.append(f"role_arn={self.role_arn!r} is no role; one looks like arn:aws:iam::<account>:role/<name>")
        if self.bucket and not BUCKET.fullmatch(self.bucket):
            found.append(f"bucket={self.bucket!r} is no name of a bucket: small letters, digits, dots, hyphens, no s3:// and no folders")
        places = {"output_s3": self.output_s3, "checkpoint_s3": self.checkpoint_s3, "code_s3": self.code_s3}
        wrong = {name: place for name, place in places.items() if place and not _PLACE.fullmatch(place)}
        found += [f"{name}={place!r} is no place in S3; one looks like s3://bucket/folder" for name, place in wrong.items()]
        if self.reservation_arn and not RESERVATION.fullmatch(self.reservation_arn):
            found.append(f"reservation_arn={self.reservation_arn!r} is none: arn:aws:braket:<region>:<account>:reservation/<id>")
        return found

    def _complaints_of(self, spec: JobSpec) -> list[str]:
        found = []
        regions = {name: match["region"] for name in devices_of(spec) if (match := _ARN.fullmatch(name)) and match["region"]}
        if len(set(regions.values())) > 1:
            found.append(f"the devices are in {len(set(regions.values()))} regions, and a Braket job is in one: {', '.join(regions)}")
        for name, region in regions.items():
            if self.region and self.region != region:
                found.append(f"region={self.region!r}, but the device {name} is in {region}: leave region= out")
        timeout_s = spec.resources.timeout_s or 0
        if timeout_s > LONGEST_RUN_S - MARGIN_S:
            found.append(f"resources.timeout_s={timeout_s:g} is too long: Braket ends a job after {LONGEST_RUN_S} s, start included")
        if len(spec.inputs) > _MOST_CHANNELS:
            found.append(f"there are {len(spec.inputs)} inputs; Braket takes {_MOST_CHANNELS} channels")
        return found + _tag_complaints(spec.tags)

    def region_for(self, spec: JobSpec) -> str:
        """The region that this job must run in; "" where any will do."""
        named = [match["region"] for name in devices_of(spec) if (match := _ARN.fullmatch(name)) and match["region"]]
        return named[0] if named else self.region or ""

    def image_for(self, region: str) -> str:
        """The image that it runs in."""
        return self.image_uri or image_address(self.framework, region)

    def image_complaints(self, region: str, image: str, python: str) -> list[str]:
        """Whether Amazon's image is to be had in a region, and has the Python that packs the job.

        Args:
            region: The job's.
            image: The image's Python, such as "3.12".
            python: Ours.
        """
        if self.image_uri:
            return []
        found = []
        if region not in IMAGE_REGIONS:
            found.append(
                f"Amazon has no images for jobs in {region}, only in {', '.join(IMAGE_REGIONS)}; name another region=, or an image_uri="
            )
        if python != image:
            found.append(
                f"this is Python {python}, and Amazon's images have {image}: pickled code only loads in the same version. "
                f"Submit from Python {image}, or name an image of your own: `hybridjobs image build`, then image_uri="
            )
        return found

    def runtime_s(self, spec: JobSpec) -> int:
        """After which Braket is to end it."""
        if spec.resources.timeout_s is None:
            return self.max_runtime_s
        return min(LONGEST_RUN_S, math.ceil(spec.resources.timeout_s) + MARGIN_S)


def image_address(framework: str, region: str) -> str:
    """Where one of Amazon's own images is."""
    return f"{_REGISTRY}.dkr.ecr.{region}.amazonaws.com/amazon-braket-{framework}-jobs:latest"


def _hyperparameter_complaints(given: object) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [f"hyperparameters must be a mapping of text to text, not {type(given).__name__}"]
    found = []
    for name, value in given.items():
        if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_KEY or name.startswith(OURS):
            found.append(f"hyperparameters has the name {name!r}; take 1 to {_LONGEST_KEY} characters that do not begin with {OURS!r}")
        if not isinstance(value, str):
            found.append(f"hyperparameters[{name!r}] must be text, not {type(value).__name__}; write str(...) or json.dumps(...)")
        elif not 1 <= len(value) <= _LONGEST_VALUE or "\n" in value or "\r" in value:
            found.append(f"hyperparameters[{name!r}] must have 1 to {_LONGEST_VALUE} characters and no line break")
    if len(given) > _MOST_PARAMETERS - 20:
        found.append(f"hyperparameters has {len(given)} entries; {_MOST_PARAMETERS - 20} is the most beside those of the call and our own")
    return found


def _tag_complaints(tags: Mapping[str, str]) -> list[str]:
    found = [
        f"tags[{name!r}]: Amazon takes letters, digits, spaces and _.:/=+-@, 128 characters in a name and 256 in a value, and no name "
        "that begins with aws:"
        for name, value in tags.items()
        if not (_TAG.fullmatch(name) and _TAG.fullmatch(value)) or len(name) > 128 or len(value) > 256 or name.lower().startswith("aws:")
    ]
    return found + ([f"there are {len(tags)} tags; Amazon takes {_MOST_TAGS}, and one is ours"] if len(tags) >= _MOST_TAGS else [])


def devices_of(spec: JobSpec) -> list[str]:
    """The names of the job's devices."""
    if isinstance(spec.device, dict):
        return list(spec.device.values())
    return [spec.device] if spec.device else []


def device_text(spec: JobSpec) -> str:
    """What ``deviceConfig`` says: the first Amazon resource name, a QPU before a simulator; else a local name with legal characters."""
    names = devices_of(spec)
    arns = sorted((name for name in names if _ARN.fullmatch(name)), key=lambda name: ":device/qpu/" not in name)
    if arns:
        return arns[0]
    if not names:
        return NO_DEVICE
    local = names[0] if names[0].startswith("local:") else f"local:pennylane/{names[0]}"
    provider, _, short = local.removeprefix("local:").partition("/")
    return f"local:{_legal(provider)}/{_legal(short)}"[:256]


def _legal(text: str) -> str:
    return re.sub(r"[^\w.-]|[^\x00-\x7f]", "_", text) or "none"


def job_name(name: str, job_id: str, run: int) -> str:
    """A name that Braket takes (at most 50 of ``A-Z a-z 0-9 -``), the same for the same run of the same job and for no other.

    Args:
        name: What people call it.
        job_id: The job's id.
        run: 1 for its first Braket job, 2 for the one that resumes it, ...
    """
    tail = f"-{hashlib.sha256(job_id.encode()).hexdigest()[:10]}-{run}"
    head = re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9]", "-", name)).strip("-")[: _LONGEST_NAME - len(tail)].rstrip("-")
    return (head or "job") + tail


def client_token(job_id: str, run: int) -> str:
    """The idempotency token of a run: however often it is submitted, it is one Braket job."""
    return hashlib.sha256(f"hybridjobs {job_id} run {run}".encode()).hexdigest()


@dataclass(frozen=True)
class Places:
    """Where everything of one Braket job lies in S3.

    Attributes:
        base: ``s3://bucket/prefix/name``.
        output: Where Braket puts ``model.tar.gz``, below a folder ``output``.
        checkpoints: What is copied to and from the instance.
        code: What travels, a folder for each digest.
    """

    base: str
    output: str
    checkpoints: str
    code: str

    @classmethod
    def of(cls, options: RequestOptions, bucket: str, name: str) -> Places:
        """Those of a Braket job with this name."""
        base = f"s3://{bucket}/{(options.prefix or 'jobs').strip('/')}/{name}"
        checkpoints = f"{options.checkpoint_s3.rstrip('/')}/{name}" if options.checkpoint_s3 else f"{base}/checkpoints"
        code = f"{options.code_s3.rstrip('/')}/{name}" if options.code_s3 else f"{base}/script"
        return cls(base, (options.output_s3 or f"{base}/data").rstrip("/"), checkpoints, code)

    def source(self, payload: str) -> str:
        """Our entry script, the bundle and this package, by their digest: two machines that try again never overwrite each other's."""
        return f"{self.code}/{payload[:16]}/source.tar.gz"

    def channel(self, name: str) -> str:
        """An input that was a local file or folder."""
        return f"{self.base}/data/{name}/"


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


@dataclass(frozen=True)
class Order:
    """What the worker must know by another road than S3. It travels as hyperparameters.

    Attributes:
        job: The job's id.
        run: Which Braket job of it this is.
        cause: ``start``, ``retry`` or ``resume``.
        bundle: SHA-256 of the bundle's manifest.
        payload: SHA-256 of what travels in the source archive.
        python: Which minor version packed the job: "3.12".
        epoch: The number of the newest attempt before it; 0: none.
    """

    job: str
    run: int
    cause: str
    bundle: str
    payload: str
    python: str
    epoch: int = 0

    def to_hyperparameters(self) -> dict[str, str]:
        """As the request has it."""
        return {f"{OURS}{field.name}": str(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_hyperparameters(cls, given: Mapping[str, str]) -> Order:
        """Read what ``to_hyperparameters`` gave.

        Raises:
            KeyError: It is none of ours.
        """
        texts = {f"{OURS}epoch": "0", **given}  # older versions of this package do not tell it
        told = {field.name: texts[f"{OURS}{field.name}"] for field in fields(cls)}
        return cls(**{**told, "run": int(told["run"]), "epoch": int(told["epoch"])})  # type: ignore[arg-type]


def hyperparameters(spec: JobSpec, options: RequestOptions, order: Order) -> dict[str, str]:
    """Ours, the runner's, and the call's arguments as text; what the service would not take is shortened: they are for people to read."""
    found = {**order.to_hyperparameters(), **(options.hyperparameters or {})}
    arguments = {name: _shown(value) for name, value in spec.params.items() if 0 < len(name) <= _LONGEST_KEY and name not in found}
    room = _MOST_PARAMETERS - len(found)
    if len(arguments) > room:
        found[f"{OURS}omitted"] = f"{len(arguments) - room + 1} of {len(arguments)} arguments"
        arguments = dict(list(arguments.items())[: room - 1])
    return {**found, **arguments}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    line = re.sub(r"[\r\n\x85\u2028\u2029]+", " ", text)
    if len(line) > _LONGEST_VALUE:
        line = f"{line[: _LONGEST_VALUE - 23]}...{line[-20:]}"
    return line or '""'


def request(
    spec: JobSpec, options: RequestOptions, order: Order, places: Places, *, inputs: Places | None = None, role: str, region: str
) -> dict[str, Any]:
    """CreateJob's parameters. The same for the same job, so that it can be sent again.

    Args:
        spec: The job.
        options: The runner's.
        order: What the worker must know.
        places: In S3.
        inputs: The places of the run that uploaded the inputs; None: this one.
        role: The role's Amazon resource name.
        region: Where it is sent.
    """
    made: dict[str, Any] = {
        "clientToken": client_token(order.job, order.run),
        "jobName": job_name(spec.name, order.job, order.run),
        "algorithmSpecification": {
            "scriptModeConfig": {"entryPoint": f"{ENTRY}:main", "s3Uri": places.source(order.payload), "compressionType": "GZIP"},
            "containerImage": {"uri": options.image_for(region)},
        },
        "outputDataConfig": {"s3Path": places.output, **({"kmsKeyId": options.kms_key_id} if options.kms_key_id else {})},
        "checkpointConfig": {"s3Uri": places.checkpoints, "localPath": LOCAL_CHECKPOINTS},
        "roleArn": role,
        "stoppingCondition": {"maxRuntimeInSeconds": options.runtime_s(spec)},
        "instanceConfig": {
            "instanceType": options.instance_type,
            "volumeSizeInGb": options.volume_gb,
            "instanceCount": options.instance_count,
        },
        "hyperParameters": hyperparameters(spec, options, order),
        "deviceConfig": {"device": device_text(spec)},
        "tags": {**spec.tags, "hybridjobs:job": order.job},
    }
    if spec.inputs:
        made["inputDataConfig"] = [
            {
                "channelName": name,
                "dataSource": {"s3DataSource": {"s3Uri": place if is_remote(place) else (inputs or places).channel(name)}},
            }
            for name, place in spec.inputs.items()
        ]
    if options.reservation_arn:
        made["associations"] = [{"arn": options.reservation_arn, "type": "RESERVATION_TIME_WINDOW_ARN"}]
    return made


def region_of(arn: str) -> str:
    """The region of a Braket job; "" if it is none."""
    match = _JOB_ARN.fullmatch(arn)
    return match["region"] if match else ""


# Answers -----------------------------------------------------------------------------------------------------------------------


def plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """GetJob's answer as JSON: times as Unix time in seconds, nothing of HTTP."""
    return {name: _plain(name, value) for name, value in answer.items() if name != "ResponseMetadata"}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if name in _TIMES and isinstance(value, str):  # as the service writes them
        return datetime.fromisoformat(value).timestamp()
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    return [_plain("", item) for item in value] if isinstance(value, list | tuple) else value


def phase_name(kind: str) -> str:
    """An event's kind, in words."""
    return _PHASES.get(kind) or kind.lower().replace("_", " ")


def is_over(answer: Mapping[str, Any]) -> bool:
    """Whether the service says that nothing runs any more."""
    return answer.get("status") in _OVER


def progress(answer: Mapping[str, Any]) -> tuple[Status, str]:
    """Where a job is that is not over, and its phase in words."""
    status = str(answer.get("status"))
    kinds = [str(event.get("eventType")) for event in answer.get("events") or ()]
    last = kinds[-1] if kinds else ""
    phase = _PHASES.get(last, "")
    if status == "CANCELLING":
        return Status.RUNNING, "being cancelled"
    if status == "QUEUED":
        position = str((answer.get("queueInfo") or {}).get("position") or "")
        return Status.QUEUED, (phase or "queued") + (f", position {position}" if position and position != "None" else "")
    if status == "RUNNING":
        return (Status.RUNNING if "RUNNING" in kinds else Status.QUEUED), phase
    return Status.UNKNOWN, f"Amazon Braket says {status!r}, which is no status that is known here"


@dataclass(frozen=True)
class Fate:
    """How a Braket job ended that left no outcome of ours.

    Attributes:
        status: ``failed``, ``cancelled`` or ``interrupted``.
        reason: As in ``outcome.commit_failure``, or "service".
        message: In words.
    """

    status: Status
    reason: str
    message: str


def fate(answer: Mapping[str, Any], *, began: bool, run: int) -> Fate:
    """What became of a job that is over and has no outcome.

    Args:
        answer: GetJob's.
        began: An attempt of this run took the lease.
        run: Which Braket job of our job it is.
    """
    status = str(answer.get("status"))
    kinds = {str(event.get("eventType")) for event in answer.get("events") or ()}
    told = str(answer.get("failureReason") or "").strip().rstrip(".")
    arn = str(answer.get("jobArn", ""))
    if "MAX_RUNTIME_EXCEEDED" in kinds:
        limit = (answer.get("stoppingCondition") or {}).get("maxRuntimeInSeconds")
        return Fate(Status.FAILED, "timeout", f"The job ran longer than max_runtime_s={limit}, and Amazon Braket ended it.")
    if status == "CANCELLED":
        return Fate(Status.CANCELLED, "cancelled", "cancelled at Amazon Braket")
    why = told or f"Amazon Braket gives no reason ({arn})"
    if status == "COMPLETED":
        place = (answer.get("checkpointConfig") or {}).get("s3Uri", "S3")
        why = f"Amazon Braket says COMPLETED, but no outcome came to {place}: may the job's role write there?"
    if began:
        return Fate(Status.INTERRUPTED, "", f"its instance ended without an outcome: {why}")
    if run > 1:
        return Fate(Status.INTERRUPTED, "", f"it could not go on: {why}")
    if status == "COMPLETED":  # it may well have been called
        return Fate(Status.FAILED, "service", why)
    return Fate(Status.FAILED, "service", f"The function was never called: {why}.")


def billed_s(answer: Mapping[str, Any], now: float) -> tuple[float, bool]:
    """Seconds of instance time, and whether that is final.

    The service does not say in which unit its ``billableDuration`` is: seconds or milliseconds, whichever is nearer to the time between
    start and end.

    Args:
        answer: As ``plain`` gives it.
        now: Unix time, for a job that runs.
    """
    began = answer.get("startedAt")
    if not is_over(answer):
        return (max(0.0, now - float(began)) if began else 0.0), False
    ended, billed = answer.get("endedAt"), answer.get("billableDuration")
    elapsed = max(0.0, float(ended) - float(began)) if began and ended else 0.0
    if billed is None:
        return elapsed, True
    return min(float(billed), float(billed) / 1000.0, key=lambda seconds: abs(math.log((seconds + 1.0) / (elapsed + 1.0)))), True
