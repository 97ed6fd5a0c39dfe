"""``@hybrid_job`` with Amazon Braket's keywords."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from logging import Logger, getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

from pl_hybridjobs.compat.braket.config import (
    CheckpointConfig,
    InstanceConfig,
    OutputDataConfig,
    PersistedJobDataFormat,
    S3DataSourceConfig,
    StoppingCondition,
)
from pl_hybridjobs.compat.braket.creation import Wishes, submit
from pl_hybridjobs.compat.braket.data_persistence import format_of
from pl_hybridjobs.compat.braket.quantum_job import AwsQuantumJob, LocalQuantumJob, check_local_folder
from pl_hybridjobs.compat.braket.running import Surroundings
from pl_hybridjobs.jobs import decorator

_LONGEST = 2500  # characters of a hyperparameter at Amazon Braket
_TAIL = 20
_FORBIDDEN = str.maketrans({"\n": " ", "$": "?", "(": "{", ")": "}", "&": "+", "`": "'"})


def hybrid_job(
    *,
    device: str | None,
    include_modules: str | ModuleType | Iterable[str | ModuleType] | None = None,
    dependencies: str | Path | list[str] | None = None,
    local: bool = False,
    job_name: str | None = None,
    image_uri: str | None = None,
    input_data: str | dict[str, Any] | S3DataSourceConfig | None = None,
    wait_until_complete: bool = False,
    instance_config: InstanceConfig | None = None,
    distribution: str | None = None,
    copy_checkpoints_from_job: str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    role_arn: str | None = None,
    stopping_condition: StoppingCondition | None = None,
    output_data_config: OutputDataConfig | None = None,
    aws_session: Any = None,
    tags: dict[str, str] | None = None,
    logger: Logger = getLogger(__name__),  # noqa: B008 - as the SDK has it
    quiet: bool | None = None,
    reservation_arn: str | None = None,
    data_format: PersistedJobDataFormat | str = PersistedJobDataFormat.PLAINTEXT,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a function into a hybrid job: a call creates the job and returns its handle. Nothing happens at decoration.

    Args:
        device: A device's ARN, ``local:<provider>/<name>``, a member of ``Devices``, a device object, or None.
        include_modules: Modules to send along. Local modules that the function uses go by themselves.
        dependencies: A requirements file, or a list of requirements. Checked before the job is created.
        local: Run on this machine and wait for the end: a ``LocalQuantumJob``. No container, no account.
        job_name: 1 to 50 letters, digits and hyphens. Default: the function's name and the time.
        image_uri: The image, at Amazon Braket.
        input_data: A path or an S3 URI, or a dict of channels. The function opens local ones by the same relative path.
        wait_until_complete: Print the log until the job is over.
        instance_config: The machines, at Amazon Braket.
        distribution: ``"data_parallel"`` or None; for Amazon Braket.
        copy_checkpoints_from_job: A job (ARN, name or handle) whose checkpoints the new job begins with.
        checkpoint_config: Where checkpoints are copied to, at Amazon Braket.
        role_arn: The job's role, at Amazon Braket. Default: ``$BRAKET_JOBS_ROLE_ARN``, then what the account has.
        stopping_condition: The longest run; on this machine too.
        output_data_config: Where results go, at Amazon Braket.
        aws_session: Its region and profile are taken.
        tags: Text to text.
        logger: Not used.
        quiet: Print nothing while waiting.
        reservation_arn: A reservation, at Amazon Braket.
        data_format: How the return value is kept: ``"plaintext"`` (arrays become lists) or ``"pickle"``.

    Raises:
        InvalidCall: At decoration: what is decorated is no function. At the call: with all that is wrong. A ``ValueError``.
    """
    del logger

    def decorate(entry_point: Callable[..., Any]) -> Callable[..., Any]:
        fn: Callable[..., Any] = decorator.hybrid_job(entry_point).__wrapped__  # refuses generators, classes and what cannot be called

        @functools.wraps(fn)
        def create(*args: Any, **kwargs: Any) -> AwsQuantumJob | LocalQuantumJob:
            named = decorator.name_of(fn)
            wishes = Wishes(
                device=device,
                local=local,
                job_name=job_name,
                default_name=named,
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
                tags=tags,
                reservation_arn=reservation_arn,
                include=_listed(include_modules),
                requirements=dependencies,
            )
            around = Surroundings(hyperparameters=hyperparameters(fn, args, kwargs), data_format=format_of(data_format).value)
            if local:
                check_local_folder(job_name)
            job = submit(fn, args, kwargs, wishes, around)
            if local:
                return LocalQuantumJob.of(job, quiet=bool(quiet)).finish()
            return AwsQuantumJob.of(job, quiet=bool(quiet)).begin(wait_until_complete=wait_until_complete)

        return create

    return decorate


def hyperparameters(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """A call's arguments as Amazon Braket shows them: text, without some characters, at most 2,500. The function gets the real ones."""
    try:
        signature = inspect.signature(fn)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # the submission says it better
        return {}
    bound.apply_defaults()
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            named[name] = value
    return {name: _shown(value) for name, value in named.items()}


def _shown(value: Any) -> str:
    text = str(value).translate(_FORBIDDEN)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _TAIL - 3]}...{text[-_TAIL:]}"


def _listed(modules: str | ModuleType | Iterable[str | ModuleType] | None) -> tuple[str | ModuleType, ...]:
    if modules is None:
        return ()
    return (modules,) if isinstance(modules, str | ModuleType) else tuple(modules)
