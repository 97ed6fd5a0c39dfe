"""Where this package keeps what is the user's: jobs, spending, the user's budget; and what is only for a while."""

from __future__ import annotations

import os
from pathlib import Path

#: Paths of sockets may have no more than about a hundred characters; Ray puts eighty behind a folder that it is given.
_MOST_CHARACTERS = 22
#: How the names of short folders begin.
SHORT = "hjray-"


def default_home() -> Path:
    """``$HYBRIDJOBS_HOME``, or the platform's user data folder."""
    chosen = os.environ.get("HYBRIDJOBS_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("hybridjobs", appauthor=False))


def home_of(folder: Path) -> Path:
    """The home folder that a job's folder lies in; for one that lies elsewhere, the default."""
    return folder.parents[1] if folder.parent.name == "jobs" else default_home()


def private_folder(home: Path, *names: str) -> Path:
    """A folder in a home folder, by the names on the way; what is missing is made, for this user only."""
    folder = home
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:  # `parents=True` would leave those between open to all
        folder = folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def short_folder() -> Path:
    """A new temporary folder for this user only, whose path is short enough for sockets in it. Whoever asks for it removes it."""
    import tempfile  # home.py is loaded by every command, and this is not

    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix=SHORT, dir=usual if len(usual) <= _MOST_CHARACTERS else "/tmp"))  # noqa: S108 - made for us alone
