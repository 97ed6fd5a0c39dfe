"""The first thing that runs in a job's container on Amazon Braket: checks what came through S3, unpacks it, and hands over to ``inside``.

In Amazon's own images it is the entry point of script mode, ``hybridjobs_entry:main``, at the top of the source archive; in an image of
one's own it may be ``SAGEMAKER_PROGRAM``, and fetches that archive itself. It needs the standard library only (boto3 in the second case),
and is a file of its own: nothing of ours is imported before its SHA-256, which came in the request, was compared.

Environment and folders: https://github.com/amazon-braket/amazon-braket-containers (``src/braket_container.py``).
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PAYLOAD = "hybridjobs.payload"
_OURS = "hybridjobs-"
_FAILURE_CHARACTERS = 1000
_UNUSED_S = 7 * 86400.0  # longer than any job runs


class CannotBegin(Exception):
    """The job's function was not called, and why."""


def main() -> None:
    """Become the process that looks after the job. Leaves with exit code 1 where that is not possible."""
    try:
        order = _order()
        archive = _payload()
        try:
            work = Path(tempfile.mkdtemp(prefix="hybridjobs-"))
        except OSError as error:
            raise CannotBegin(f"there is no place to unpack the source: {error}. Is the disk full? volume_gb= asks for more") from error
        _unpack(archive, order, work)
    except CannotBegin as error:
        print(f"hybridjobs: {error}", flush=True)
        tell(str(error))
        sys.exit(1)
    distribution = str(_settled(work / "dist"))
    inherited = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": distribution + (os.pathsep + inherited if inherited else "")}
    sys.stdout.flush()
    sys.stderr.flush()
    # Another process image, not an import: an older version of us may be loaded here already, and signals come straight to it.
    argv = [sys.executable, "-P", "-m", "pl_hybridjobs.braket.inside", str(work)]
    os.execve(sys.executable, argv, environment)  # noqa: S606 - no shell is what is wanted


def tell(text: str) -> None:
    """Say why the job failed: becomes the service's ``failureReason``."""
    results = os.environ.get("AMZN_BRAKET_JOB_RESULTS_DIR")
    folder = Path(results).parent / "output" if results else Path("/opt/ml/output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failure").write_text(text[:_FAILURE_CHARACTERS], encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print(f"hybridjobs: {folder / 'failure'} cannot be written: {error}", flush=True)


def _order() -> dict[str, str]:
    """Our hyperparameters: they came in the request."""
    path = os.environ.get("AMZN_BRAKET_HP_FILE", "")
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
        order = {name[len(_OURS) :]: value for name, value in given.items() if name.startswith(_OURS)}
        packed, here = order["python"], "{}.{}".format(*sys.version_info[:2])
        assert order["payload"]
    except (OSError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise CannotBegin(
            f"this is no job of pl_hybridjobs: {path or 'AMZN_BRAKET_HP_FILE'} does not tell its digest ({error!r})"
        ) from error
    if packed != here:
        raise CannotBegin(
            f"the job was packed by Python {packed}, and this image has {platform.python_version()}: pickled code only loads in the same "
            f"minor version. Submit from Python {here}, or name an image with Python {packed} as image_uri="
        )
    return order


def _payload() -> Path:
    """What travels: beside this file in script mode, else in the archive that the request names."""
    beside = Path(__file__).resolve().parent / PAYLOAD
    if beside.is_file():
        return beside
    place = os.environ.get("AMZN_BRAKET_SCRIPT_S3_URI", "")
    if not place.startswith("s3://"):
        raise CannotBegin(f"there is no {PAYLOAD} beside {__file__}, and AMZN_BRAKET_SCRIPT_S3_URI does not say where the source lies")
    folder = Path(tempfile.mkdtemp(prefix="hybridjobs-source-"))
    bucket, _, key = place[len("s3://") :].partition("/")
    try:
        import boto3

        boto3.client("s3").download_file(bucket, key, str(folder / "source.tar.gz"))
        with tarfile.open(folder / "source.tar.gz") as archive:
            archive.extract(PAYLOAD, folder, filter="data")
    except Exception as error:
        raise CannotBegin(f"the source {place} cannot be had: {type(error).__name__}: {error}") from error
    return folder / PAYLOAD


def _unpack(archive: Path, order: dict[str, str], work: Path) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != order["payload"]:
            raise CannotBegin("the source archive in S3 is not the one that was submitted (its SHA-256 differs). Nothing of it was loaded")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file) as content:
                content.extractall(work, filter="data")
        except OSError as error:
            raise CannotBegin(f"the source cannot be unpacked into {work}: {error}. Is the disk full? volume_gb= asks for more") from error


def _settled(package: Path) -> Path:
    """The package at a place that is the same for all jobs with these contents, where the machine has a cache that jobs share.

    Machine code is found again by the path of its source: elsewhere each job would compile the simulator anew.
    What no job uses for long is deleted.
    """
    cache, records = os.environ.get("XDG_CACHE_HOME"), list(package.glob("*.dist-info/RECORD"))  # the digest of every file
    if not cache or len(records) != 1:
        return package
    place = Path(cache, "pl_hybridjobs", f"own-{hashlib.sha256(records[0].read_bytes()).hexdigest()[:24]}")
    with contextlib.suppress(OSError):  # the cache cannot be written, or another job was first just now
        if not place.is_dir():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".own-") as temporary:
                own = Path(shutil.copytree(package, Path(temporary, "own")))
                os.utime(own)  # before anybody can take it for an old one
                own.rename(place)
        os.utime(place)
        for other in place.parent.glob("own-*"):
            if time.time() - other.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(other, ignore_errors=True)
    return place if place.is_dir() else package


if __name__ == "__main__":
    main()
