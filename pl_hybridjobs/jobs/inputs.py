"""Input channels: files and folders that a job gets a copy of, and places in S3 that only some runners can read."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

_PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")


def normalise(inputs: object) -> dict[str, Path | str]:
    """``inputs=`` as a mapping; a single path is the channel ``input``. Places in S3 stay text."""
    if inputs is None:
        return {}
    if isinstance(inputs, str | os.PathLike):
        inputs = {"input": inputs}
    assert isinstance(inputs, Mapping)
    return {name: path if is_remote(path) else Path(path) for name, path in inputs.items()}


def is_remote(path: object) -> bool:
    """Whether an input lies in S3."""
    return isinstance(path, str) and path.startswith("s3://")


def remote_complaints(recorded: Mapping[str, str]) -> list[str]:
    """Of a runner that cannot read S3: which inputs, as ``record`` gives them, lie there."""
    return [
        f"inputs[{name!r}]: {place} lies in S3, which is read on Amazon Braket only (runner='braket' or 'rehearsal'); download it"
        for name, place in recorded.items()
        if is_remote(place)
    ]


def complaints(inputs: object) -> list[str]:
    """What is wrong with ``inputs=``, one sentence each. Looks at the disk."""
    if inputs is not None and not isinstance(inputs, str | os.PathLike | Mapping):
        return [f"inputs must be a path or a mapping of channel names to paths, not {type(inputs).__name__}"]
    if isinstance(inputs, Mapping) and (wrong := [p for p in inputs.values() if not isinstance(p, str | os.PathLike)]):
        return [f"inputs has {p!r}, which is no path" for p in wrong]
    found = []
    for name, path in normalise(inputs).items():
        if not isinstance(name, str) or not _CHANNEL.fullmatch(name) or name in (".", ".."):
            found.append(f"inputs has the channel name {name!r}; take 1 to 64 letters, digits, '.', '_' or '-'")
        if isinstance(path, str):
            found += [] if _PLACE.fullmatch(path) else [f"inputs[{name!r}]: {path!r} is no place in S3; one looks like s3://bucket/folder"]
        else:
            found += [f"inputs[{name!r}]: {problem}" for problem in _path_complaints(path)]
    return found


def _path_complaints(path: Path) -> list[str]:
    if not path.exists():
        return [f"{path} does not exist (looked from {Path.cwd()})"]
    root = path.resolve()
    found = []
    for file in [root, *(sorted(root.rglob("*")) if root.is_dir() else [])]:
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            found.append(f"{file} is a link that leaves {root}; copy what it points to")
        elif not file.exists():
            found.append(f"{file} is a link to nothing")
        elif not os.access(file, os.R_OK):
            found.append(f"{file} may not be read by you")
        elif not (stat.S_ISREG(mode := file.stat().st_mode) or stat.S_ISDIR(mode)):
            found.append(f"{file} is neither a file nor a folder")
        if len(found) >= 10:
            return [*found, "..."]
    return found


def copy(inputs: object, target: Path) -> None:
    """Copy all channels to ``target/<channel>/``. They were checked before."""
    for name, path in normalise(inputs).items():
        channel = target / name
        if isinstance(path, str):
            continue
        if path.is_dir():
            shutil.copytree(path.resolve(), channel)
        else:
            channel.mkdir(parents=True)
            shutil.copy(path, channel)


def record(inputs: object) -> dict[str, str]:
    """What ``job.json`` says of them: channel -> file name, "" for a whole folder, or the place in S3."""
    return {name: path if isinstance(path, str) else "" if path.is_dir() else path.name for name, path in normalise(inputs).items()}
