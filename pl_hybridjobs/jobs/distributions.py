"""The distributions that are installed: which one gives a module, what it requires, how it would be installed again.

``importlib.metadata`` answers this too, in a tenth of a second and more; here folders are listed once, and a distribution's
files are read only when it is asked for.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

_NAME = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py[\d.]+.*)?\.(?:dist|egg)-info$")
_REQUIRED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"""\bextra\s*={2,3}|\bin\s+extras\b""")
_HEADER_BYTES = 262_144


@dataclass(frozen=True)
class Distribution:
    """One installed distribution.

    Attributes:
        name: Its normalised name.
        version: As its metadata says.
        root: The folder that it is installed in.
        info: Its ``.dist-info`` or ``.egg-info``.
    """

    name: str
    version: str
    root: str
    info: str

    def requires(self) -> tuple[str, ...]:
        """Normalised names of what it needs, extras left out."""
        return _requires(self.info)

    def origin(self) -> dict[str, Any]:
        """``direct_url.json``: where it came from, if not from an index; else empty."""
        return _origin(self.info)

    def source_folder(self) -> str | None:
        """The folder of an editable install."""
        origin = self.origin()
        if not origin.get("dir_info", {}).get("editable"):
            return None
        return unquote(urlsplit(origin["url"]).path)

    def requirement(self) -> str:
        """The line that installs it again, or a comment that says why there is none."""
        origin = self.origin()
        if not origin:
            return f"{self.name}=={self.version}"
        url = _without_user(str(origin.get("url", "")))
        if "vcs_info" in origin:
            part = f"#subdirectory={origin['subdirectory']}" if origin.get("subdirectory") else ""
            vcs = origin["vcs_info"]
            return f"{self.name} @ {vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}{part}"
        if self.source_folder() is not None:
            return f"# {self.name}=={self.version}: an editable install of {url}; the modules that are reached travel in src/"
        if url.startswith("file:"):
            return f"# {self.name}=={self.version}: installed from {url}, which no other machine has"
        return f"{self.name} @ {url}"


@dataclass(frozen=True)
class Installed:
    """Everything that is installed for this process, by normalised name."""

    by_name: dict[str, Distribution]
    roots: frozenset[str]

    def giving(self, module: str) -> list[Distribution]:
        """The distributions that give a module (its full dotted name), none if that is unknown."""
        top = module.partition(".")[0]
        likely = self.by_name.get(normalised(top))
        if likely is not None and top in _tops(likely.info, guess=top):
            return [likely]
        owners = [self.by_name[name] for name in _owners(self).get(top, ()) if name in self.by_name]
        if len(owners) > 1 and "." in module:
            path = module.replace(".", "/")
            narrow = [dist for dist in owners if any(f.startswith((f"{path}/", f"{path}.")) for f in _recorded(dist.info))]
            return narrow or owners
        return owners

    def owns(self, root: str, top: str) -> bool:
        """Whether some distribution that is installed in a folder gives a top-level module."""
        return root in self.roots and any(dist.root == root for dist in self.giving(top))

    def editable(self, file: str) -> Distribution | None:
        """The editable install that a source file belongs to."""
        for folder, name in _editables(self):
            if file.startswith(folder + os.sep):
                return self.by_name[name]
        return None

    def closure(self, names: Iterable[str]) -> list[Distribution]:
        """Some distributions and all that they require, as far as it is installed, sorted by name."""
        found: dict[str, Distribution] = {}
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self.by_name and name not in found:
                found[name] = self.by_name[name]
                pending.extend(found[name].requires())
        return [found[name] for name in sorted(found)]

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def installed() -> Installed:
    """What is installed now. Looks at the folders' times only, unless something has changed."""
    folders = []
    for entry in sys.path:
        try:
            root = entry or os.getcwd()  # noqa: PTH109 - a text like its neighbours
            folders.append((root, os.stat(root).st_mtime_ns))  # noqa: PTH116
        except OSError:
            continue
    return _installed(tuple(folders))


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, ``-`` between words."""
    return re.sub(r"[-_.]+", "-", name).lower()


def unsatisfied(requirements: Iterable[str]) -> list[str]:
    """Which requirements are not met by what is installed here, each as a sentence with the remedy.

    Args:
        requirements: PEP 508 texts. Comments, options of pip and lines for other platforms are passed over.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    problems = []
    here = installed().by_name
    for text in requirements:
        line = re.sub(r"(^|\s)#.*$", "", text).split(" --hash")[0].strip(" \\\t")
        if not line or line.startswith("-"):
            continue
        try:
            wanted = Requirement(line)
        except InvalidRequirement as error:
            problems.append(f"requirement {text!r} cannot be read ({str(error).splitlines()[0]}); write it like 'numpy>=2.0'")
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        present = here.get(normalised(wanted.name))
        if present is None:
            problems.append(f"requirement {line!r}: {wanted.name} is not installed here; run: pip install '{line}'")
        elif wanted.specifier and not wanted.specifier.contains(present.version, prereleases=True):
            problems.append(f"requirement {line!r}: {wanted.name} {present.version} is installed here; run: pip install '{line}'")
    return problems


@functools.lru_cache(maxsize=16)
def _installed(folders: tuple[tuple[str, int], ...]) -> Installed:
    by_name: dict[str, Distribution] = {}
    roots = set()
    for root, time_ns in folders:
        for info in _infos(root, time_ns):
            found = _NAME.match(info)
            if found is None:
                continue
            roots.add(root)
            name = normalised(found["name"])
            by_name.setdefault(name, Distribution(name, found["version"], root, os.path.join(root, info)))  # noqa: PTH118
    return Installed(by_name, frozenset(roots))


@functools.lru_cache(maxsize=64)
def _infos(root: str, time_ns: int) -> tuple[str, ...]:
    del time_ns  # a part of the cache's key
    try:
        names = sorted(os.listdir(root))
    except OSError:  # a zip file, or a folder that may not be read
        return ()
    # An .egg-info outside of site-packages belongs to a source folder, which is local code.
    endings = (".dist-info", ".egg-info") if "-packages" in root else (".dist-info",)
    return tuple(name for name in names if name.endswith(endings))


@functools.lru_cache(maxsize=16)
def _owners(index: Installed) -> dict[str, list[str]]:
    """Top-level module -> names of the distributions that have it. Reads a file of every distribution: the slow way."""
    owners: dict[str, list[str]] = {}
    for name, dist in index.by_name.items():
        for top in _tops(dist.info):
            owners.setdefault(top, []).append(name)
    return owners


@functools.lru_cache(maxsize=16)
def _editables(index: Installed) -> list[tuple[str, str]]:
    pairs = ((dist.source_folder(), name) for name, dist in index.by_name.items())
    return sorted(((folder.rstrip("/"), name) for folder, name in pairs if folder), key=lambda p: -len(p[0]))


@functools.lru_cache(maxsize=4096)
def _tops(info: str, guess: str | None = None) -> frozenset[str]:
    """Top-level modules of a distribution; ``guess`` is believed where only the long list of files could tell."""
    text = _read(info, "top_level.txt")
    if text is not None:
        return frozenset(text.split())
    if guess is not None:
        folder = Path(info).parent
        return frozenset([guess] if (folder / guess).is_dir() or (folder / f"{guess}.py").is_file() else [])
    return frozenset(file.split("/")[0].split(".")[0] for file in _recorded(info) if not file.startswith((".", "__pycache__")))


@functools.lru_cache(maxsize=256)
def _recorded(info: str) -> tuple[str, ...]:
    lines = (_read(info, "RECORD") or "").splitlines()
    return tuple(file for line in lines if (file := line.split(",")[0]).endswith((".py", ".so", ".pyd", ".pyi")))


@functools.lru_cache(maxsize=4096)
def _requires(info: str) -> tuple[str, ...]:
    text = _read(info, "METADATA") or _read(info, "PKG-INFO") or ""
    found = []
    for line in text.split("\n\n", 1)[0].splitlines():
        if line.startswith("Requires-Dist:"):
            requirement, _, marker = line[14:].partition(";")
            name = _REQUIRED.match(requirement)
            if name and not _EXTRA.search(marker):
                found.append(normalised(name[1]))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _origin(info: str) -> dict[str, Any]:
    text = _read(info, "direct_url.json")
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("url"), str) else {}


def _read(info: str, name: str) -> str | None:
    try:
        with open(f"{info}/{name}", "rb") as file:  # noqa: PTH123 - hundreds of them
            return file.read(-1 if name == "RECORD" else _HEADER_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
