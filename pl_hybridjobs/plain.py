"""Text that nobody vouches for (names, arguments, logs and messages of jobs), made fit to be shown in a terminal or on a page."""

from __future__ import annotations

import re
import unicodedata

# Colours of a terminal, characters that steer one or that HTML and XML do not know, and those that reverse the direction of text around.
_UNSEEN = re.compile(r"\x1b\[[0-9;:]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def plain(text: str) -> str:
    """Text without what steers a terminal or a page, safe to be sent as UTF-8. Tabs and ends of lines stay."""
    return _UNSEEN.sub("", text)


def line(text: str) -> str:
    """The same in one line, for a cell or a heading."""
    return " ".join(plain(text).splitlines())


def columns(text: str) -> int:
    """How many columns of a terminal a plain text takes: East Asian characters take two, accents that combine none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
