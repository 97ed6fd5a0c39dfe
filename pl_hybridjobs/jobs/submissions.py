"""What was asked of an engine that queues jobs: ``<engine>/<n>.json`` in a job's folder, written before and after each submission.

::

    ray/1.json     the key, and what the engine calls it once it is known to have it
    ray/1.out      what was said before the worker began: modules, activation
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
_TAIL_LINES = 20


@dataclass(frozen=True)
class Submission:
    """One submission of one job.

    Attributes:
        number: 1, 2, ...
        key: Given to the engine; it is looked for before anything is submitted twice.
        epoch: The newest attempt when it was submitted: what begins later is this one's.
        job: What the engine calls it; "" while nobody knows whether it has it.
        task: The place in an array, or None.
        time: Unix time, seconds.
        ended: How the engine's job has ended, once that was seen and dealt with; else "".
        cluster: Which of several clusters was asked; "" where there is only one.
    """

    number: int
    key: str
    epoch: int
    job: str = ""
    task: int | None = None
    time: float = 0.0
    ended: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class Submissions:
    """The submissions of jobs to one engine.

    Attributes:
        name: The folder in a job's folder, for example ``ray``.
        separator: Between the parts of a key.
    """

    name: str
    separator: str = ":"

    def place(self, folder: JobFolder) -> Path:
        """Where a job's submissions are."""
        return folder.path / self.name

    def lock(self, folder: JobFolder) -> Path:
        """Held by who submits, and by who concludes that a submission has ended.

        A program that submits may hold it, too: it may go on when who started it is dead, and must not be started again meanwhile.
        """
        return self.place(folder) / ".lock"

    def lock_of(self, folder: JobFolder, submission: Submission) -> Path:
        """Held by who makes a submission: ``lock``, or one for all of an array."""
        if submission.task is None:
            return self.lock(folder)
        return folder.path.parents[1] / "sweeps" / f"{submission.key.replace(':', '-')}.lock"

    def write(self, folder: JobFolder, submission: Submission, *, durable: bool = True) -> None:
        """Put a submission into the job's folder."""
        self.place(folder).mkdir(mode=0o700, exist_ok=True)
        write_bytes(self._file(folder, submission), dump_sealed(dict(vars(submission))), durable=durable)

    def end(self, folder: JobFolder, submission: Submission, why: str) -> None:
        """Record that nothing is to be expected of a submission any more."""
        self.write(folder, replace(submission, ended=why))

    def forget(self, folder: JobFolder, submission: Submission) -> None:
        """The engine has refused: the intent is void."""
        self._file(folder, submission).unlink(missing_ok=True)

    def said(self, folder: JobFolder, submission: Submission) -> str:
        """The last lines that were said before the worker began."""
        path = self.place(folder) / f"{submission.number}.out"
        return "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if path.exists() else ""

    def latest(self, folder: JobFolder) -> Submission | None:
        """The newest submission, or None."""
        try:
            names = os.listdir(f"{folder.place}/{self.name}")  # no Path: in a list of thousands of jobs nothing else takes as long
        except FileNotFoundError:
            return None
        newest = max((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()), default=0)
        if not newest:
            return None
        path = f"{folder.place}/{self.name}/{newest}.json"
        now = os.stat(path)  # noqa: PTH116 - as above
        return _read(path, now.st_ino, now.st_mtime_ns)

    def next_of(self, folder: JobFolder) -> Submission:
        """The submission to make now; nothing is written."""
        last, attempt = self.latest(folder), folder.latest_attempt()
        number = last.number + 1 if last else 1
        key = self.separator.join((PREFIX, folder.path.name, str(number)))
        epoch, cluster = attempt.number if attempt else 0, last.cluster if last else ""
        return Submission(number, key, epoch, time=time.time(), cluster=cluster)

    def handed_on(self, folder: JobFolder, other: Submission) -> Submission:
        """A submission of a job that runs in the engine's job of another one; nothing is written."""
        return replace(self.next_of(folder), key=other.key, job=other.job or other.key, cluster=other.cluster)

    def _file(self, folder: JobFolder, submission: Submission) -> Path:
        return self.place(folder) / f"{submission.number}.json"


@functools.lru_cache(maxsize=20_000)
def _read(path: str, inode: int, changed_ns: int) -> Submission:
    """A submission as it is in this version of its file, which is replaced whole."""
    del inode, changed_ns
    return Submission(**read_sealed(Path(path)))
