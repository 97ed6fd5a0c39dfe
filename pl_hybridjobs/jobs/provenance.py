"""From which state of a git repository a job comes."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

_GIT_TIME_S = 0.3
_GIT_FRESH_S = 2.0


def of_folder(start: Path | None) -> dict[str, Any]:
    """What git says about a folder.

    Args:
        start: A folder in it; None: the working folder.

    Returns:
        ``git_commit`` (None before the first one), ``git_dirty`` (None if git took too long to say; files that git does not
        track do not count) and ``root``, the name of the repository's folder. Empty outside of a repository or without git.
    """
    try:
        here = (start or Path.cwd()).resolve()
        root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    except OSError:
        return {}
    # A sweep submits hundreds of jobs from one repository; git is asked once in two seconds.
    return {} if root is None else dict(_git_state(root, int(time.monotonic() / _GIT_FRESH_S)))


@functools.lru_cache(maxsize=8)
def _git_state(root: Path, period: int) -> dict[str, Any]:
    del period  # a part of the cache's key
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, timeout=_GIT_TIME_S, check=True)
    except subprocess.TimeoutExpired:
        return {"git_commit": _head(root), "git_dirty": None, "root": root.name}
    except (OSError, subprocess.CalledProcessError):
        return {}
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    dirty = any(not line.startswith("#") for line in lines)
    return {"git_commit": None if commit == "(initial)" else commit, "git_dirty": dirty, "root": root.name}


def _head(root: Path) -> str | None:
    """The commit that is checked out, read without git; None if that takes more than a look."""
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            head = (root / ".git" / head[5:]).read_text().strip()
    except OSError:
        return None
    return head if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
