"""Where this package keeps what is the user's: jobs, spending, the user's budget."""

from __future__ import annotations

import os
from pathlib import Path


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
