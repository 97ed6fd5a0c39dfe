"""What the language cannot say: gathered, then said at once."""

from __future__ import annotations

from collections.abc import Sequence

from pl_hybridjobs.errors import TranslationError

_MOST_PLACES = 5


class Untranslatable(Exception):
    """One complaint: what the language cannot say, and what would work instead."""


class Complaints:
    """All complaints about one circuit; equal ones about several places are one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, subject: str, reason: str, place: str = "") -> None:
        """Keep one: ``add("Rot", "is no gate of Braket's", "operation 3")``."""
        self._found.setdefault((subject, reason), []).append(place)

    def texts(self) -> list[str]:
        """One sentence each."""
        found = []
        for (subject, reason), places in self._found.items():
            more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
            where = f" ({', '.join(places[:_MOST_PLACES])}{more})" if places[0] else ""
            found.append(f"{subject}{where} {reason}")
        return found


def error_of(what: str, complaints: Sequence[str]) -> TranslationError:
    """One error for all complaints."""
    begin = f"{what} cannot be written in Braket's OpenQASM"
    if len(complaints) == 1:
        return TranslationError(f"{begin}: {complaints[0]}")
    return TranslationError(f"{begin}: {len(complaints)} problems\n" + "\n".join(f"  - {complaint}" for complaint in complaints))
