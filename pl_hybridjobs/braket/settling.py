"""What dead processes left open in the user's ledger: purchases outside of jobs, and what was set aside for Braket jobs never sent.

Jobs look after their other purchases when they are resumed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.ledger import Entry, Settlement, State
from pl_hybridjobs.errors import HybridJobsError

_BRAKET = "arn:aws:braket:"


@dataclass(frozen=True)
class Settled:
    """What became of it.

    Attributes:
        released: Reserved, and certainly never sent.
        ended: Ended at Amazon Braket, and settled.
        open: One sentence about each that is open still.
    """

    released: int
    ended: int
    open: tuple[str, ...]


def settle(user: Account, home: Path, older_than_s: float) -> Settled:
    """Settle what can be settled of purchases outside of jobs, and of reservations for Braket jobs never sent or whose folder is gone.

    Args:
        user: Whose ledger.
        home: The home folder.
        older_than_s: What is younger may belong to a process that lives, and is left alone.
    """
    until = time.time() - older_than_s
    found = [entry for entry in user.ledger.entries() if not entry.state.is_final and entry.state is not State.RELEASED]
    mine = [entry for entry in found if entry.updated < until and not _is_looked_after(entry, home)]
    unsent = [entry for entry in mine if entry.state is State.RESERVED and (_is_journalled_here(entry) or _folder(entry, home).is_dir())]
    user.ledger.release(entry.key for entry in unsent)
    ended: list[Settlement] = []
    still_open: list[str] = []
    for entry in mine:
        if entry not in unsent:
            settlement = _asked(entry)
            if isinstance(settlement, Settlement):
                ended.append(settlement)
            else:
                still_open.append(settlement)
    user.ledger.settle_all(ended)
    return Settled(len(unsent), len(ended), tuple(still_open))


def _folder(entry: Entry, home: Path) -> Path:
    return home / "jobs" / entry.namespace.partition("|")[0]


def _is_looked_after(entry: Entry, home: Path) -> bool:
    """Whether its job does that: not for a Braket job that nobody has ever asked for."""
    _, _, run = entry.key.partition("|braket|")
    intent = _folder(entry, home) / "braket" / run.partition("|")[0] / "intent.json"
    return _folder(entry, home).is_dir() and (not run or intent.exists())


def _is_journalled_here(entry: Entry) -> bool:
    """Of a job's purchases this ledger does not know which were sent: their journal was in the job's folder."""
    return not _is_of_job(entry) or entry.namespace.endswith("|braket")


def _is_of_job(entry: Entry) -> bool:
    return "-" in entry.namespace  # ids of jobs have dates in front; of others it is random digits


def _asked(entry: Entry) -> Settlement | str:
    from pl_hybridjobs.braket.tasks import open as open_task

    what = f"{entry.task_id or entry.key[:16]} on {entry.target}"
    if _is_of_job(entry):
        return f"{what}: bought by the job {entry.namespace}, whose folder is gone"
    if not entry.task_id:
        return f"{what}: it may have been submitted, and its name is not known; the provider's console tells"
    if not entry.target.startswith(_BRAKET):
        return f"{what}: only Amazon Braket's tasks can be asked about"
    try:
        status = open_task(entry.target).status(entry.task_id)
    except HybridJobsError as error:
        return f"{what}: {str(error).splitlines()[0]}"
    if not status.state.is_final:
        return f"{what}: {status.state}"
    return Settlement(entry.key, State(status.state.value))
