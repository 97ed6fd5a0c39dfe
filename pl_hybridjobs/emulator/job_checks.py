"""What a request for a hybrid job is checked for beyond its form: devices, roles, places in S3, quotas."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from pl_hybridjobs.emulator import buckets, roles
from pl_hybridjobs.emulator.devices import Device, Fleet
from pl_hybridjobs.emulator.instance import CHECKPOINTS
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.reservations import Reservations

_LOCAL = re.compile(r"local:[\w.-]+/[\w.-]+", re.ASCII)


def check(request: Mapping[str, Any], region: str, fleet: Fleet, reservations: Reservations) -> tuple[Device | None, bool]:
    """Check all but quotas.

    Returns:
        The job's device (None: a local one), and whether it comes with a reservation.

    Raises:
        Refused: Something is wrong.
    """
    device = _device(request["deviceConfig"]["device"], region, fleet)
    roles.check(request["roleArn"])
    _check_places(request)
    channels = [channel["channelName"] for channel in request.get("inputDataConfig", ())]
    if len(set(channels)) < len(channels):
        raise Refused("ValidationException", f"The names of input channels must differ: {', '.join(channels)}.")
    associations = request.get("associations", ())
    if associations and device is None:
        raise Refused("ValidationException", "A reservation is for a device of Braket, not for a local one.")
    return device, device is not None and reservations.check(associations, device)


def check_quotas(request: Mapping[str, Any], active: Sequence[str], options: JobOptions) -> None:
    """Refuse one job too many.

    Args:
        request: CreateJob's parameters.
        active: Instance types of all jobs that have not ended.
        options: Hold the quotas.

    Raises:
        Refused: A quota is used up.
    """
    kind, count = request["instanceConfig"]["instanceType"], request["instanceConfig"].get("instanceCount", 1)
    if count > 1:
        raise _too_many(f"{count} instances for a job are more than 1, the quota (and all that is emulated).")
    for pattern, most in options.instance_quota.items():
        used = sum(fnmatchcase(other, pattern) for other in active)
        if fnmatchcase(kind, pattern) and used >= most:
            raise _too_many(f"{used} instances {pattern} are in use for jobs; the quota is {most}.")
    if options.quota is not None and len(active) >= options.quota:
        raise _too_many(f"There are {len(active)} jobs on their way; the quota is {options.quota}.")


def _too_many(message: str) -> Refused:
    return Refused("ServiceQuotaExceededException", message)


def _device(name: str, region: str, fleet: Fleet) -> Device | None:
    if name.startswith("local:"):
        if not _LOCAL.fullmatch(name):
            raise Refused("ValidationException", f"{name!r} is not like local:<provider>/<simulator>, of letters, digits and _ - .")
        return None
    try:
        device = fleet.in_region(name, region)
    except Refused as refused:
        raise Refused("ValidationException", str(refused)) from None
    fleet.check_open(device)
    return device


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
