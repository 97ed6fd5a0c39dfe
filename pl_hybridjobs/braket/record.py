"""What a job's folder knows about its Braket jobs: ``<job folder>/braket/<n>/``, one for each time that it was submitted.

``intent.json`` is written before CreateJob is sent, ``arn.json`` after: whoever finds the first without the second sends the same request
again, and gets the same Braket job.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.durable import dump_json, dump_sealed, read_json, read_sealed, write_bytes, write_once
from pl_hybridjobs.jobs.folder import JobFolder


@dataclass(frozen=True)
class Run:
    """One Braket job of a job.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def number(self) -> int:
        """1, 2, ..."""
        return int(self.path.name)

    @functools.cached_property
    def intent(self) -> dict[str, Any]:
        """What was asked for: CreateJob's ``request``, where the job's ``folder`` lies in S3, the ``epoch`` of the attempt before."""
        return read_sealed(self.path / "intent.json")

    @property
    def folder_place(self) -> str:
        """Where the job's folder lies in S3."""
        return str(self.intent["folder"])

    @property
    def arn(self) -> str:
        """Its Amazon resource name; "" if it is not known that it was created."""
        try:
            return str(read_sealed(self.path / "arn.json")["arn"])
        except FileNotFoundError:
            return ""

    @property
    def answer(self) -> dict[str, Any]:
        """What GetJob said last; empty before."""
        return dict(self._asked().get("answer", {}))

    @property
    def asked(self) -> float:
        """When that was, as Unix time."""
        return float(self._asked().get("time", 0.0))

    @property
    def is_closed(self) -> bool:
        """It is over, and all of it is in the job's folder."""
        return (self.path / "closed.json").exists()

    @property
    def files(self) -> Path:
        """Which objects of S3 were taken."""
        return self.path / "files.json"

    @property
    def position(self) -> Path:
        """How far the log was read."""
        return self.path / "log.json"

    @property
    def container_log(self) -> Path:
        """What the container said besides the job's own log."""
        return self.path / "container.log"

    def begin(self, intent: dict[str, Any]) -> None:
        """Write down what is about to be sent."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(self.path / "intent.json", dump_sealed(intent))

    def created(self, arn: str) -> None:
        """Write down that it was."""
        write_once(self.path / "arn.json", dump_sealed({"arn": arn, "time": time.time()}))

    def heard(self, answer: dict[str, Any]) -> None:
        """Keep GetJob's answer."""
        write_bytes(self.path / "answer.json", dump_json({"time": time.time(), "answer": answer}), durable=False)

    def close(self) -> None:
        """Nothing more will come."""
        write_once(self.path / "closed.json", dump_json({"time": time.time()}))

    def forget(self) -> None:
        """It is certain that it was not created."""
        import shutil

        shutil.rmtree(self.path)

    def _asked(self) -> dict[str, Any]:
        try:
            return dict(read_json(self.path / "answer.json"))
        except (FileNotFoundError, FolderCorrupt):  # it can be asked again
            return {}


def runs(folder: JobFolder) -> list[Run]:
    """All Braket jobs of a job, oldest first."""
    place = home(folder)
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    numbers = sorted(int(name) for name in names if name.isdecimal())
    return [run for run in (Run(place / str(number)) for number in numbers) if (run.path / "intent.json").exists()]


def latest(folder: JobFolder) -> Run | None:
    """The newest, or None."""
    found = runs(folder)
    return found[-1] if found else None


def after(folder: JobFolder, run: Run | None) -> Run:
    """The one that comes next."""
    return Run(home(folder) / str(run.number + 1 if run else 1))


def home(folder: JobFolder) -> Path:
    """Where they are."""
    return folder.path / "braket"


def lock(folder: JobFolder) -> Path:
    """Locked while somebody submits, or takes what has come."""
    return home(folder) / ".lock"
