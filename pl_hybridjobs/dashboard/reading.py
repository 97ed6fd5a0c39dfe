"""A log in pieces: the end first, then what comes, and what was before when somebody asks. Reads no more than it shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder

_PIECE = 1 << 17  # a line has at most half of that


@dataclass(frozen=True)
class Piece:
    """Whole lines of one attempt's log.

    Attributes:
        attempt: Whose log; 0 where there is none yet.
        start: Where the lines begin in the file, bytes.
        end: Where they end.
        text: The lines, each with its time.
        more: Whether there is more in the direction of reading, now.
    """

    attempt: int
    start: int
    end: int
    text: str
    more: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def newest(folder: JobFolder) -> Piece:
    """The last lines of the newest attempt's log."""
    attempts = folder.attempt_list()
    return _before(attempts, attempts[-1], _size(attempts[-1].log)) if attempts else Piece(0, 0, 0, "", False)


def before(folder: JobFolder, attempt: int, start: int) -> Piece:
    """The lines before a place; those of the attempt before where this one's are all read."""
    attempts = [one for one in folder.attempt_list() if one.number <= attempt]
    if start == 0 and attempts:
        attempts.pop()
        return _before(attempts, attempts[-1], _size(attempts[-1].log)) if attempts else Piece(0, 0, 0, "", False)
    return _before(attempts, folder.attempt(attempt), start)


def after(folder: JobFolder, attempt: int, end: int) -> Piece:
    """The lines after a place; those of the next attempt where this one has no more."""
    attempts = folder.attempt_list()
    piece = _after(folder.attempt(attempt), end) if attempt else Piece(0, 0, 0, "", False)
    later = [one for one in attempts if one.number > attempt]
    if later and not piece.text:
        piece = _after(later.pop(0), 0)
    return Piece(piece.attempt, piece.start, piece.end, piece.text, piece.more or bool(later))


def _before(attempts: list[AttemptFolder], attempt: AttemptFolder, end: int) -> Piece:
    begin = max(0, end - _PIECE)
    data = _bytes(attempt.log, begin, end)
    whole = data[: data.rfind(b"\n") + 1]
    cut = whole.find(b"\n") + 1 if begin else 0
    older = begin + cut > 0 or any(one.number < attempt.number for one in attempts)
    return Piece(attempt.number, begin + cut, begin + len(whole), whole[cut:].decode(errors="replace"), older)


def _after(attempt: AttemptFolder, start: int) -> Piece:
    data = _bytes(attempt.log, start, start + _PIECE)
    whole = data[: data.rfind(b"\n") + 1]
    more = len(data) == _PIECE
    return Piece(attempt.number, start, start + len(whole), whole.decode(errors="replace"), more)


def _bytes(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
