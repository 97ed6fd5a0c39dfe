"""What state is a job in? Read from its folder, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.durable import read_sealed
from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder
from pl_hybridjobs.jobs.lease import Lease, Liveness
from pl_hybridjobs.jobs.process import Identity
from pl_hybridjobs.jobs.spec import Status


@dataclass(frozen=True)
class State:
    """A job's state at one moment.

    Attributes:
        status: Where it is.
        attempt: The newest attempt's number, 0 before the first.
        detail: One line for people, or "".
        outcome: The content of ``outcome.json``, if the job has ended.
        lease: The newest attempt's lease, if it is readable.
        orphaned: The owner is proved dead and nobody has cleaned up after it yet.
    """

    status: Status
    attempt: int = 0
    detail: str = ""
    outcome: dict[str, Any] | None = None
    lease: Lease | None = None
    orphaned: bool = False

    @property
    def reason(self) -> str:
        """Why the job did not complete, in a line or two."""
        if self.outcome is None:
            return f"{self.status}, and can be resumed: {self.detail}"
        error = self.outcome.get("error") or {}
        kind = type_of(error) or str(self.outcome.get("reason", "failed"))
        message = str(error.get("message", ""))
        if not message:
            return kind
        return message if message.startswith(kind) else f"{kind}: {message}"


def type_of(error: Mapping[str, Any]) -> str:
    """The class of an error as a job describes it, in the words of a traceback: ``ValueError``, ``package.module.Error``; or ""."""
    return str(error.get("type", "")).replace(":", ".", 1).removeprefix("builtins.")


def observe(folder: JobFolder) -> State:
    """Read a job's state. Looks, changes nothing.

    Raises:
        FolderCorrupt: ``outcome.json`` is damaged, or the folder was removed.
    """
    # Attempts before outcome: an owner may commit between the two looks, never the other way round.
    state = _observe_attempts(folder)
    outcome = folder.read_optional(folder.outcome)
    if outcome is None:
        return state
    error = outcome.get("error") or {}
    detail = str(error.get("message", "")).strip().split("\n")[0][:200]
    return State(Status(outcome["status"]), int(outcome["attempt"]), detail, outcome, state.lease)


def _observe_attempts(folder: JobFolder) -> State:
    latest = folder.latest_attempt()
    launched = _launched(folder, latest.number + 1 if latest else 1)
    if latest is None and launched is None and not folder.path.exists():
        raise FolderCorrupt(f"There is no job folder {folder.path}: it was removed.")
    if latest is None:
        return launched or State(Status.CREATED, 0, "not handed to its runner yet")
    state = _observe_attempt(latest)
    if state.status is Status.INTERRUPTED and not state.orphaned and launched and launched.status in (Status.QUEUED, Status.CREATED):
        return State(launched.status, latest.number, launched.detail or "resuming", None, state.lease)
    return state


def _observe_attempt(attempt: AttemptFolder) -> State:
    number = attempt.number
    try:
        lease = Lease.read(attempt)
    except FolderCorrupt as error:
        return State(Status.UNKNOWN, number, str(error))
    try:
        ended = read_sealed(attempt.exit) if attempt.exit.exists() else None
    except FolderCorrupt as error:
        ended = {"detail": str(error)}
    liveness = lease.liveness()
    if ended is not None:
        if ended.get("again") and liveness is not Liveness.DEAD:
            return State(Status.QUEUED, number, f"{ended.get('detail', '')}; tries again soon", None, lease)
        return State(Status.INTERRUPTED, number, str(ended.get("detail", "")), None, lease)
    if liveness is Liveness.ALIVE:
        return State(Status.RUNNING, number, "", None, lease)
    if liveness is Liveness.SILENT:
        detail = f"its owner (process {lease.owner.pid} on {lease.owner.host}) gives no sign of life"
        return State(Status.UNKNOWN, number, detail, None, lease)
    return State(Status.INTERRUPTED, number, f"its owner (process {lease.owner.pid}) died", None, lease, orphaned=True)


def _launched(folder: JobFolder, epoch: int) -> State | None:
    """What became of the process that was started, or is to be started, to run attempt ``epoch``; None if there is none."""
    try:
        launch = folder.read_optional(folder.launch)
    except FolderCorrupt as error:
        return State(Status.UNKNOWN, 0, str(error))
    if launch is None or launch.get("epoch") != epoch:
        return None
    if launch["process"] is None:
        return State(Status.CREATED, 0, "waits for its turn to go on")
    if Identity.from_json(launch["process"]).is_alive() is not False:
        return State(Status.QUEUED)
    if folder.attempt(epoch).path.exists():  # it took the lease between our two looks
        return _observe_attempt(folder.attempt(epoch))
    pid = launch["process"]["pid"]
    return State(Status.INTERRUPTED, 0, f"the process that should run it (pid {pid}) died before it began")
