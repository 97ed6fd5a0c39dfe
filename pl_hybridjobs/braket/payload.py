"""What travels to a job's container: one archive with our entry script, and in it, sealed, the bundle, ``job.json`` and this package.

::

    source.tar.gz
        hybridjobs_entry.py       braket/entry.py
        hybridjobs.payload        a tar file; its SHA-256 is in the request
            job.json
            bundle/               as in the job's folder
            home/budget.json      what is left of the user's budget
            dist/                 pl_hybridjobs, and the metadata by which PennyLane finds its devices

It is nested, so that the start script of Amazon's images, which installs every ``requirements.txt`` that it finds without looking at pip's
exit code, finds none of the user's.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.braket.entry import PAYLOAD
from pl_hybridjobs.braket.jobs import ENTRY
from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs import own
from pl_hybridjobs.jobs.folder import JobFolder

_PACKAGE = Path(__file__).parents[1]
_LEVEL = 1  # most of the time of a submission goes into this


@dataclass(frozen=True)
class Payload:
    """A finished source archive.

    Attributes:
        archive: The bytes of ``source.tar.gz``.
        digest: SHA-256 of what is sealed in it.
    """

    archive: bytes
    digest: str


def pack(folder: JobFolder, home: Mapping[str, bytes] | None = None) -> Payload:
    """The source archive of a job. The same folder gives the same bytes.

    Args:
        folder: The job.
        home: Files for ``$HYBRIDJOBS_HOME`` there.
    """
    files = [("job.json", folder.spec_file.read_bytes()), *_files_of(folder.bundle, "bundle")]
    files += [(f"home/{name}", data) for name, data in sorted((home or {}).items())]
    sealed = _tar(files, _distribution())
    outer = _tar([(f"{ENTRY}.py", (_PACKAGE / "braket" / "entry.py").read_bytes()), (PAYLOAD, sealed)])
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        file.write(outer)
    return Payload(packed.getvalue(), hashlib.sha256(sealed).hexdigest())


def unpack(archive: bytes, digest: str, target: Path) -> None:
    """Put ``job.json`` and the bundle of a source archive into a folder.

    Raises:
        RunnerError: It is not the one that was submitted, or none of ours.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as outer:
            member = outer.extractfile(PAYLOAD)
            sealed = member.read() if member else b""
    except (KeyError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise RunnerError(f"The job's source in S3 is none of this package's, or damaged ({error}).") from error
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise RunnerError("The job's source in S3 is not the one that was submitted (its SHA-256 differs). Nothing of it was used.")
    with tarfile.open(fileobj=io.BytesIO(sealed)) as inner:
        wanted = [member for member in inner if member.name == "job.json" or member.name.startswith("bundle/")]
        inner.extractall(target, members=wanted, filter="data")


def _files_of(root: Path, name: str) -> Iterable[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes()


@functools.cache
def _distribution() -> tuple[tuple[str, bytes], ...]:
    """This package as it is imported here, with the metadata by which its devices are found; read once."""
    return tuple((f"dist/{place}", data) for place, data in sorted(own.files().items()))


def _tar(*parts: Iterable[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (item for part in parts for item in part):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()
