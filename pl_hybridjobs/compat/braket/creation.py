"""From Amazon Braket's words to a job of ours: what the decorator and script mode share."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pl_hybridjobs.compat.braket import devices, s3, service, setting
from pl_hybridjobs.compat.braket.config import CheckpointConfig
from pl_hybridjobs.compat.braket.running import COPIED, Entry, Link, Surroundings
from pl_hybridjobs.errors import InvalidCall, ProviderError
from pl_hybridjobs.jobs import runner as runners
from pl_hybridjobs.jobs.contract import DEVICE, ENTRY_POINT
from pl_hybridjobs.jobs.decorator import HybridFunction
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job, open_job

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,50}(?<!-)")
_LONGEST_STEM = 32  # leaves room for the time in milliseconds, and for a number if two jobs begin in the same one
# What a configuration must have; whose class it is does not matter.
_CONFIGURATIONS = {
    "instance_config": ("instanceType", "volumeSizeInGb", "instanceCount"),
    "checkpoint_config": ("s3Uri",),
    "stopping_condition": ("maxRuntimeInSeconds",),
    "output_data_config": ("s3Path", "kmsKeyId"),
}

# How complaints begin that the program could not understand.
_KEYWORDS = {
    "include:": "include_modules:",
    "inputs": "input_data",
    "requirements:": "dependencies:",
    "resources.timeout_s": "stopping_condition.maxRuntimeInSeconds",
}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The keywords of the decorator and of ``create``; see there. ``entry_point`` is what ``$AMZN_BRAKET_SCRIPT_ENTRY_POINT`` says."""

    device: Any = None
    local: bool = False
    job_name: str | None = None
    default_name: str = "braket-job"
    image_uri: str | None = None
    input_data: Any = None
    instance_config: Any = None
    distribution: str | None = None
    copy_checkpoints_from_job: Any = None
    checkpoint_config: Any = None
    role_arn: str | None = None
    stopping_condition: Any = None
    output_data_config: Any = None
    aws_session: Any = None
    code_location: str | None = None
    entry_point: str = ""
    tags: Mapping[str, str] | None = None
    reservation_arn: str | None = None
    include: Sequence[str | Path | ModuleType] = field(default=())
    requirements: str | Path | Sequence[str] | None = None


def submit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], wishes: Wishes, around: Surroundings) -> Job:
    """Create a job and start it.

    Args:
        fn: What runs.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        wishes: The rest.
        around: What will be around it, without its links.

    Raises:
        InvalidCall: With all that is wrong, before anything is written. A ``ValueError``.
    """
    from pl_hybridjobs.jobs.spec import Resources
    from pl_hybridjobs.jobs.submission import Options

    runner = setting.runner_name(local=wishes.local, has_session=wishes.aws_session is not None)
    where = getattr(fn, "__name__", None) or wishes.default_name
    found = _complaints(wishes, runner)
    with tempfile.TemporaryDirectory(prefix="hybridjobs-inputs-") as staging:
        channels, links = _inputs(wishes.input_data, runner, Path(staging), found, wishes.aws_session)
        old = _old_checkpoints(wishes.copy_checkpoints_from_job, found)
        if found:
            raise InvalidCall(f"{where}(...)", found)
        text = devices.text_of(wishes.device)
        env = {DEVICE: text, **({ENTRY_POINT: wishes.entry_point} if wishes.entry_point else {})}
        if setting.chosen():
            env[setting.VARIABLE] = setting.chosen()
        seconds = None if wishes.stopping_condition is None else wishes.stopping_condition.maxRuntimeInSeconds
        options = Options(
            device=devices.native(text),
            runner=_runner(runner, wishes),
            name=wishes.job_name or f"{stem_of(wishes.default_name)}-{time.time_ns() // 1_000_000}",
            resources=Resources(timeout_s=seconds, env=env),
            include=wishes.include,
            requirements=wishes.requirements,
            inputs={**channels, **({COPIED: old} if old else {})} or None,
            tags=wishes.tags,
        )
        entry = Entry(fn, dataclasses.replace(around, links=links))
        try:
            return HybridFunction(entry, options)(*args, **kwargs)
        except InvalidCall as error:
            raise InvalidCall(error.where, [_in_their_words(complaint) for complaint in error.complaints]) from error


def _in_their_words(complaint: str) -> str:
    """A complaint about our keyword, about Amazon Braket's."""
    ours = next((name for name in _KEYWORDS if complaint.startswith(name)), "")
    return _KEYWORDS.get(ours, "") + complaint.removeprefix(ours)


def stem_of(name: str) -> str:
    """A function's name as the beginning of a legal job name: ``_train_step`` gives ``train-step``."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:_LONGEST_STEM].strip("-") or "job"


def _complaints(wishes: Wishes, runner: str) -> list[str]:
    found = []
    if wishes.job_name and (not isinstance(wishes.job_name, str) or not _NAME.fullmatch(wishes.job_name)):
        legal = f"; {stem_of(wishes.job_name)!r} would be one" if isinstance(wishes.job_name, str) else ""
        found.append(
            f"Invalid quantum job name: {wishes.job_name!r}. Use between 1 and 50 characters (letters, digits, hyphens); no underscores or "
            f"leading/trailing hyphens{legal}"
        )
    for name, attributes in _CONFIGURATIONS.items():
        value = getattr(wishes, name)
        if value is not None and not all(hasattr(value, attribute) for attribute in attributes):
            expected = "".join(part.capitalize() for part in name.split("_"))
            found.append(f"'{name}' should be a {expected}, with {', '.join(attributes)}, not {value!r}")
    if runner == "local":
        found += _many(wishes)
    place = getattr(wishes.checkpoint_config, "localPath", None) or CheckpointConfig.localPath
    if place != CheckpointConfig.localPath:
        setting.say_once(f"there will be no {place} (localPath); get_checkpoint_dir() tells a job where its checkpoints are")
    if runner == "rehearsal" and wishes.aws_session is not None:
        setting.say_once("a rehearsal has an account of its own; aws_session is not used")
    return found


def _many(wishes: Wishes) -> list[str]:
    """What asks for several processes or machines, of which here there is one."""
    found = []
    if wishes.distribution is not None:
        found.append(f"distribution={wishes.distribution!r}: on this machine a job is one process; leave it out, or start processes in it")
    if (count := getattr(wishes.instance_config, "instanceCount", 1)) != 1:
        found.append(f"instance_config: instanceCount={count}, and this machine is one; make it 1")
    return found


def _runner(name: str, wishes: Wishes) -> runners.Runner:
    """The runner, with the wishes that are its options. On this machine Amazon's settings say nothing."""
    made = runners.resolve(name)
    if name == "local" or not dataclasses.is_dataclass(made):
        return made
    given = {option: value for option, value in braket_options(wishes).items() if value is not None}
    known = {field.name for field in dataclasses.fields(made)}
    return dataclasses.replace(made, **{option: value for option, value in given.items() if option in known})


def braket_options(wishes: Wishes) -> dict[str, Any]:
    """The wishes as options of ``BraketRunner``; None where nothing was said."""
    instance, output, checkpoints = wishes.instance_config, wishes.output_data_config, wishes.checkpoint_config
    account = s3.account(wishes.aws_session)
    return {
        "region": account.get("region"),
        "profile": account.get("profile"),
        "role_arn": wishes.role_arn or os.environ.get("BRAKET_JOBS_ROLE_ARN"),
        "image_uri": wishes.image_uri,
        "instance_type": instance and str(instance.instanceType),
        "instance_count": instance and instance.instanceCount,
        "volume_gb": instance and instance.volumeSizeInGb,
        "output_s3": output and output.s3Path,
        "kms_key_id": output and output.kmsKeyId,
        "checkpoint_s3": checkpoints and checkpoints.s3Uri,
        "code_s3": wishes.code_location,
        "reservation_arn": wishes.reservation_arn,
        "distribution": wishes.distribution,
    }


# Inputs -------------------------------------------------------------------------------------------------------------------


def _inputs(
    given: Any, runner: str, staging: Path, found: list[str], session: Any = None
) -> tuple[dict[str, str | Path], tuple[Link, ...]]:
    """Channels, and the links by which a program opens them under their old paths.

    A path that exists is meant; else it is the beginning of the names of several, as at Amazon Braket.
    """
    if given is None:
        return {}, ()
    channels: dict[str, str | Path] = {}
    links: list[Link] = []
    for channel, data in (given if isinstance(given, Mapping) else {"input": given}).items():
        uri = _s3_uri(data)
        if uri and runner == "local":
            channels[channel] = target = staging / str(len(channels))
            try:
                s3.copy(uri, target, session)
            except ProviderError as error:
                found.append(f"input_data[{channel!r}] is {uri}, which cannot be fetched: {error} Or copy it here, and name the local path")
        elif uri:
            channels[channel] = uri
        elif not isinstance(data, str | os.PathLike):
            found.append(f"input_data[{channel!r}] must be a local path, an S3 URI or an S3DataSourceConfig, not {data!r}")
        elif channel == COPIED:
            found.append(f"input_data: the channel {channel!r} is taken; give it another name")
        elif Path(data).exists():
            channels[channel] = Path(data)
            links.append(Link(os.fspath(data), channel, "" if Path(data).is_dir() else Path(data).name))
        else:
            matches = _matches(Path(data))
            if not matches:
                found.append(f"input_data[{channel!r}]: there is no file, folder or beginning of one {str(data)!r} (from {Path.cwd()})")
                continue
            channels[channel] = _gathered(matches, staging / str(len(channels)))
            links += [Link(str(match), channel, match.name) for match in matches]
    return channels, tuple(links)


def _s3_uri(data: Any) -> str | None:
    if isinstance(data, str) and data.startswith("s3://"):
        return data
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        return str(data.config["dataSource"]["s3DataSource"]["s3Uri"])
    return None


def _matches(prefix: Path) -> list[Path]:
    return sorted(path for path in prefix.parent.iterdir() if path.name.startswith(prefix.name)) if prefix.parent.is_dir() else []


def _gathered(paths: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder / path.name)
    return folder


def _old_checkpoints(old: Any, found: list[str]) -> Path | None:
    """The folder of another job's checkpoints; None if it has none, which is said."""
    if old is None:
        return None
    try:
        job = find(old)
    except (LookupError, ValueError, OSError) as error:
        found.append(f"copy_checkpoints_from_job: {error}")
        return None
    job.state()  # brings what has come from elsewhere
    folder = JobFolder(job.folder).checkpoints
    if any(_visible(folder)):
        return folder
    setting.say_once(f"{job.name} has no checkpoints to copy")
    return None


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else iter(())


def find(job: Any) -> Job:
    """A job of ours by a handle, an ARN or a name.

    Raises:
        JobNotFound: There is none. A ``LookupError``.
    """
    if isinstance(job, Job):
        return job
    inner = getattr(job, "job", None)
    if isinstance(inner, Job):
        return inner
    text = getattr(job, "arn", job)
    if not isinstance(text, str):
        raise InvalidCall("job", [f"{job!r} is no job, ARN or name"])
    return service.find(text) if text.startswith("arn:") else open_job(text.removeprefix(LOCAL_ARN))


LOCAL_ARN = "local:job/"
