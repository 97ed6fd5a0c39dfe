"""What was asked of Slurm for a job: ``slurm/<n>.json`` in its folder, written before and after each submission.

::

    slurm/1.json     the key, and Slurm's number once that is known
    slurm/1.out      what the batch script said before the worker began: modules, activation
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pl_hybridjobs.jobs.durable import dump_sealed, read_sealed, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder

#: All our keys begin with it.
PREFIX = "hybridjobs"
_FOLDER = "slurm"
_TAIL_LINES = 20


@dataclass(frozen=True)
class Submission:
    """One submission of one job.

    Attributes:
        number: 1, 2, ...
        key: Slurm keeps it as the job's comment; it is looked for before anything is submitted twice.
        epoch: The newest attempt when it was submitted: what begins later is this one's.
        job: Slurm's number, ``123`` or ``123_7``; "" while nobody knows it.
        task: The place in an array, or None.
        time: Unix time, seconds.
        ended: How Slurm's job has ended, once that was seen and dealt with; else "".
    """

    number: int
    key: str
    epoch: int
    job: str = ""
    task: int | None = None
    time: float = 0.0
    ended: str = ""

    def write(self, folder: JobFolder, *, durable: bool = True) -> None:
        """Put it into the job's folder."""
        place(folder).mkdir(mode=0o700, exist_ok=True)
        write_bytes(place(folder) / f"{self.number}.json", dump_sealed(dict(vars(self))), durable=durable)

    def forget(self, folder: JobFolder) -> None:
        """Slurm has refused: the intent is void."""
        (place(folder) / f"{self.number}.json").unlink(missing_ok=True)

    def said(self, folder: JobFolder) -> str:
        """The last lines that the batch script said."""
        path = place(folder) / f"{self.number}.out"
        return "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if path.exists() else ""

    def known_as(self, array_or_job: str) -> Submission:
        """With Slurm's number.

        Args:
            array_or_job: What ``sbatch`` gave: for an array, that of the whole.
        """
        return replace(self, job=array_or_job if self.task is None else f"{array_or_job}_{self.task}")


def place(folder: JobFolder) -> Path:
    """Where a job's submissions are."""
    return folder.path / _FOLDER


def lock(folder: JobFolder) -> Path:
    """Held by who submits, and by who concludes that a submission has ended."""
    return place(folder) / ".lock"


def latest(folder: JobFolder) -> Submission | None:
    """The newest submission, or None."""
    try:
        names = os.listdir(f"{folder.place}/{_FOLDER}")  # no Path: in a list of thousands of jobs nothing else takes as long
    except FileNotFoundError:
        return None
    newest = max((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()), default=0)
    if not newest:
        return None
    path = f"{folder.place}/{_FOLDER}/{newest}.json"
    now = Path(path).stat()
    return _read(path, now.st_ino, now.st_mtime_ns)


@functools.lru_cache(maxsize=20_000)
def _read(path: str, inode: int, changed_ns: int) -> Submission:
    """A submission as it is in this version of its file, which is replaced whole."""
    del inode, changed_ns
    return Submission(**read_sealed(Path(path)))


def next_of(folder: JobFolder, *, key: str = "", task: int | None = None) -> Submission:
    """The submission to make now; nothing is written.

    Args:
        folder: The job.
        key: Of the array that it is part of; "" for one of its own.
        task: Its place in that.
    """
    last, attempt = latest(folder), folder.latest_attempt()
    number = last.number + 1 if last else 1
    own = f"{PREFIX}:{folder.path.name}:{number}"
    return Submission(number, key or own, attempt.number if attempt else 0, task=task, time=time.time())
