"""A handle, here, of a job that some other machine submitted to Amazon Braket."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pl_hybridjobs.braket import jobs, payload, record
from pl_hybridjobs.braket.jobs import Order
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.errors import InvalidCall, ProviderError, RunnerError
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.inputs import is_remote
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.store import Store


def attach(arn: str, *, profile: str = "", home: Path | None = None) -> Job:
    """Make a job folder here for a Braket job of this package; what the job has done so far comes with the first look.

    Args:
        arn: The Braket job's Amazon resource name.
        profile: Of the AWS configuration files; kept for later looks, in place of the one that submitted.
        home: Where jobs live; default ``$HYBRIDJOBS_HOME``.

    Returns:
        The job: the one that is here already, if it is.

    Raises:
        InvalidCall: The name is none of a job's, or the job was not submitted by this package.
        RunnerError: Its source in S3 is not the one that was submitted, or cannot be had.
    """
    region = jobs.region_of(arn)
    if not region:
        raise InvalidCall("attach", [f"{arn!r} is no Braket job; one looks like arn:aws:braket:us-east-1:<account>:job/<id>"])
    session = Session(region=region, profile=profile)
    try:
        answer = jobs.plain(session.call("braket", "get_job", jobArn=arn))
        order = Order.from_hyperparameters(answer.get("hyperParameters", {}))
    except KeyError as error:
        raise InvalidCall("attach", [f"{arn} was not submitted by pl_hybridjobs: it has no hyperparameter {error}"]) from error
    except ProviderError as error:
        raise RunnerError(f"{arn} cannot be looked at: {error}") from error
    store = Store(home)
    try:
        archive = session.read(*jobs.split_place(str(answer["algorithmSpecification"]["scriptModeConfig"]["s3Uri"])))
    except ProviderError as error:
        raise RunnerError(f"The source of {arn} cannot be had: {error}") from error
    with tempfile.TemporaryDirectory(prefix="hybridjobs-attach-") as unpacked:
        payload.unpack(archive, order.payload, Path(unpacked))
        Path(unpacked).chmod(0o700)
        spec = JobFolder(unpacked).spec()

        def fill(folder: Path) -> str:
            shutil.copytree(Path(unpacked, "bundle"), folder / "bundle")
            _fetch_inputs(session, spec, answer, folder / "inputs")
            _write_record(JobFolder(folder), answer, order, region)
            return order.bundle

        options = {**spec.runner_options, **({"profile": profile} if profile else {})}
        folder, _ = store.create(replace(spec, runner_options=options), fill)
    return Job(folder)


def _fetch_inputs(session: Session, spec: JobSpec, answer: Mapping[str, Any], target: Path) -> None:
    """What was a local file or folder there."""
    for channel in answer.get("inputDataConfig") or ():
        name, place = str(channel["channelName"]), str(channel["dataSource"]["s3DataSource"]["s3Uri"])
        if is_remote(spec.inputs.get(name, "s3://")):
            continue
        bucket, prefix = jobs.split_place(place)
        root = (target / name).resolve()
        for found in session.objects(bucket, prefix):
            key = str(found["Key"])
            path = (root / key.removeprefix(prefix)).resolve()
            if path.is_relative_to(root) and path != root:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(session.read(bucket, key))


def _write_record(folder: JobFolder, answer: Mapping[str, Any], order: Order, region: str) -> None:
    """The runs before this one are over; what they did lies where this one began."""
    for number in range(1, order.run + 1):
        run = record.Run(record.home(folder) / str(number))
        place = f"{str(answer['checkpointConfig']['s3Uri']).rstrip('/')}/{order.job}"
        asked = {"jobName": str(answer["jobName"])}
        run.begin(
            {
                "request": asked,
                "region": region,
                "folder": place,
                "epoch": order.epoch if number == order.run else 0,
                "time": time.time(),
                "door": {},
            }
        )
        if number == order.run:
            run.created(str(answer["jobArn"]))
        else:
            run.close()
