"""A job's folder: every file of a job is named here, once."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import Fenced, FolderCorrupt, FolderNotOurs, FolderTooNew
from pl_hybridjobs.jobs.durable import PLANTED_BUG, locked, read_sealed
from pl_hybridjobs.jobs.spec import FORMAT, JobSpec


@dataclass(frozen=True)
class AttemptFolder:
    """One attempt's files."""

    path: Path

    @property
    def number(self) -> int:
        """1, 2, ...; also the epoch of its lease."""
        return int(self.path.name)

    @property
    def log(self) -> Path:
        """Standard output and error, merged, each line with its time."""
        return self.path / "stdout.log"

    @property
    def lease(self) -> Path:
        """Who owns the attempt, and its heartbeat."""
        return self.path / "lease.json"

    @property
    def exit(self) -> Path:
        """How the attempt's process ended."""
        return self.path / "exit.json"

    @property
    def stopped(self) -> Path:
        """The error that stopped the attempt without ending the job: its budget ran out."""
        return self.path / "stopped.json"

    @property
    def loops(self) -> Path:
        """The loops that began in the attempt, a line each."""
        return self.path / "loops.jsonl"

    @property
    def hyperparameters(self) -> Path:
        """The arguments as text, as Amazon Braket's contract has them."""
        return self.path / "hyperparameters.json"


@dataclass(frozen=True)
class JobFolder:
    """One job's files. The folder is the truth about the job; it can be copied and opened elsewhere.

    Attributes:
        place: The folder's path as text.
    """

    place: str

    def __init__(self, place: str | Path) -> None:
        object.__setattr__(self, "place", os.fspath(place))

    @functools.cached_property
    def path(self) -> Path:
        """The folder. Made when first asked for: in a list of thousands of jobs nothing else takes as long."""
        return Path(self.place)

    @property
    def spec_file(self) -> Path:
        """``job.json``."""
        return self.path / "job.json"

    @property
    def bundle(self) -> Path:
        """Code and arguments."""
        return self.path / "bundle"

    @property
    def inputs(self) -> Path:
        """Input channels, a folder each."""
        return self.path / "inputs"

    @property
    def attempts(self) -> Path:
        """A folder for each attempt."""
        return self.path / "attempts"

    @property
    def metrics(self) -> Path:
        """The append-only metric log."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """A folder for each checkpoint."""
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        """The function's working folder."""
        return self.path / "results"

    @property
    def outcome(self) -> Path:
        """How the job ended; written once."""
        return self.path / "outcome.json"

    @property
    def budget(self) -> Path:
        """Limits that were changed since the job was submitted."""
        return self.path / "budget.json"

    @property
    def cancel_request(self) -> Path:
        """There if somebody asked to cancel the job."""
        return self.path / "cancel.json"

    @property
    def launch(self) -> Path:
        """Which process was started to run it."""
        return self.path / "launch.json"

    @property
    def mirrors(self) -> Path:
        """What the mirrors to trackers have to say, and their locks."""
        return self.path / "mirrors"

    @property
    def lock(self) -> Path:
        """Locked for each change of state."""
        return self.path / ".lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself had to say; empty unless it met a bug."""
        return self.path / "supervisor.log"

    def spec(self) -> JobSpec:
        """Read ``job.json``.

        Raises:
            FolderCorrupt: It is missing or damaged.
            FolderTooNew: A newer version of this package wrote it.
            FolderNotOurs: It belongs to another user.
        """
        self.check_owner_user()
        try:
            value = read_sealed(self.spec_file)
        except (FileNotFoundError, NotADirectoryError):
            raise FolderCorrupt(f"{self.path} is no job folder: it has no job.json.") from None
        if not isinstance(value.get("format"), int) or value["format"] > FORMAT:
            raise FolderTooNew(
                f"{self.path} has format {value.get('format')!r}; this version reads up to {FORMAT}. "
                "Upgrade it: pip install -U pl-hybridjobs"
            )
        try:
            return JobSpec.from_json(value)
        except (KeyError, TypeError) as error:
            raise FolderCorrupt(f"{self.spec_file} lacks or has an unknown field ({error}).") from error

    def make_working_folders(self) -> None:
        """The folders that a job's environment names, for programs that write there themselves."""
        for folder in (self.results, self.checkpoints):
            folder.mkdir(mode=0o700, exist_ok=True)

    def check_owner_user(self) -> None:
        """Refuse a folder of another user: its bundle could run anything as us."""
        try:
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            raise FolderCorrupt(f"There is no job folder {self.path}.") from None
        if owner != os.geteuid():
            raise FolderNotOurs(
                f"{self.path} belongs to user id {owner}, not to you ({os.geteuid()}). "
                "Copy it (cp -r) to a folder of your own and open that, if you trust what is in it."
            )

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of one attempt, whether it exists or not."""
        return AttemptFolder(self.attempts / str(number))

    def attempt_list(self) -> list[AttemptFolder]:
        """All attempts so far, oldest first."""
        try:
            names = os.listdir(self.attempts)
        except FileNotFoundError:
            return []
        return [self.attempt(number) for number in sorted(int(name) for name in names if name.isdecimal())]

    def latest_attempt(self) -> AttemptFolder | None:
        """The newest attempt, or None before the first."""
        attempts = self.attempt_list()
        return attempts[-1] if attempts else None

    def read_optional(self, path: Path) -> dict[str, Any] | None:
        """A sealed JSON file, or None if it is not there."""
        try:
            return read_sealed(path)
        except FileNotFoundError:
            return None

    def check_epoch(self, epoch: int) -> None:
        """Refuse a writer whose time is over.

        Raises:
            Fenced: A newer attempt has begun, or the job has ended.
        """
        if PLANTED_BUG == "fencing":
            return
        if self.attempt(epoch + 1).path.exists():
            raise Fenced(f"Attempt {epoch} of {self.path.name} is over: a newer one owns the job. This process must not write any more.")
        if self.outcome.exists():
            raise Fenced(f"{self.path.name} has ended already; attempt {epoch} must not write any more.")

    @contextlib.contextmanager
    def fence(self, epoch: int) -> Iterator[None]:
        """Hold the job's lock, as the owner of an epoch: nobody else changes the job's state meanwhile.

        Raises:
            Fenced: See ``check_epoch``.
        """
        with locked(self.lock):
            self.check_epoch(epoch)
            yield
