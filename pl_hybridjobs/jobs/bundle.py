"""A call as a folder that travels: its format, its verification, and how it is loaded. ``packing`` writes it.

::

    manifest.json        SHA-256 and size of every other file, versions, where each source came from
    call.pkl             (function, args, kwargs)
    src/                 local modules that the call reaches, and what ``include=`` names
    requirements.lock    third-party distributions, pinned (or uv.lock / pylock.toml as given)

The SHA-256 of ``manifest.json`` is the bundle's digest. It reaches the worker by another road than the folder, and nothing is
imported or unpickled before all of it was verified. The same call gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import linecache
import os
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import (
    BundleRefused,
    BundleTampered,
    EnvironmentSkew,
)
from pl_hybridjobs.jobs import pickling

FORMAT = 1
MANIFEST = "manifest.json"
CALL = "call.pkl"
SRC = "src"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def this_python() -> dict[str, str]:
    """This interpreter, as a manifest names it."""
    return {"version": sys.version.split()[0], "implementation": sys.implementation.name}


def verify(folder: Path, digest: str | None = None) -> dict[str, Any]:
    """Check every byte of a bundle, before anything of it is used.

    Args:
        folder: The bundle.
        digest: What the manifest's SHA-256 must be, as it came by another road; None: the manifest is believed.

    Returns:
        The manifest.

    Raises:
        BundleTampered: A file is wrong, missing or not named by the manifest; each is listed.
        BundleRefused: It was written in a newer format.
    """
    try:
        text = _plain_file(folder / MANIFEST)
    except OSError as error:
        raise BundleTampered(f"{folder} is no bundle: {MANIFEST} cannot be read ({error.strerror}). {_AGAIN}") from error
    if digest is not None and hashlib.sha256(text).hexdigest() != digest:
        raise BundleTampered(f"{folder / MANIFEST} is not the one that was packed (its SHA-256 is not {digest[:12]}…). {_AGAIN}")
    manifest = _parsed(folder, text)
    files: dict[str, dict[str, Any]] = manifest["files"]
    problems = []
    for path, record in sorted(files.items()):
        problem = _wrong(folder / path, record)
        if problem:
            problems.append(f"{path} {problem}")
    problems += [f"{path} was added" for path in sorted(_present(folder) - set(files) - {MANIFEST})]
    if problems:
        raise BundleTampered(f"{folder} was changed after it was packed: {'; '.join(problems)}. Nothing was loaded. {_AGAIN}")
    return manifest


def compare_environment(manifest: dict[str, Any]) -> list[str]:
    """Compare this Python and its packages with those of the packing process.

    Returns:
        A note for each difference that may be harmless.

    Raises:
        EnvironmentSkew: The bundle cannot be loaded here; the message names the fix.
    """
    here, there = this_python(), manifest["python"]
    minor = ".".join(there["version"].split(".")[:2])
    if here["version"].split(".")[:2] != there["version"].split(".")[:2] or here["implementation"] != there["implementation"]:
        raise EnvironmentSkew(
            f"The job was packed by {there['implementation']} {there['version']}, and this is {here['implementation']} "
            f"{here['version']}: pickled code only loads in the same minor version. "
            f"Run the job with Python {minor}, or submit it again from Python {'.'.join(here['version'].split('.')[:2])}."
        )
    differing = _differing(manifest)
    missing = [name for name in manifest.get("needs", ()) if name in differing and differing[name] is None]
    if missing:
        wanted = {name: manifest["packages"][name] for name in missing}
        raise EnvironmentSkew(f"The job needs {_and(f'{n} {v}' for n, v in wanted.items())}, not installed here. {_fix(wanted)}")
    return [
        f"{name} {version} was packed, {differing[name] or 'none'} is installed here"
        for name, version in manifest["packages"].items()
        if name in differing
    ]


def load(folder: Path, digest: str | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Verify, compare versions, make the sources importable, unpickle.

    Args:
        folder: The bundle.
        digest: As for `verify`.

    Returns:
        The function, its positional and its keyword arguments.

    Raises:
        BundleTampered: See `verify`.
        EnvironmentSkew: See `compare_environment`; also if loading failed and versions differ.
        BundleRefused: A module that the call needs is not there.
    """
    folder = folder.absolute()
    manifest = verify(folder, digest)
    notes = compare_environment(manifest)
    _serve(folder / SRC)
    _remember_sources(folder, manifest["sources"])
    with (folder / CALL).open("rb") as file:
        try:
            fn, args, kwargs = pickling.load(file)
        except Exception as error:
            if notes:
                wanted = {name: manifest["packages"][name] for name in _differing(manifest)}
                raise EnvironmentSkew(
                    f"The call could not be loaded ({type(error).__name__}: {error}), and versions differ: {'; '.join(notes)}. "
                    f"{_fix(wanted)}"
                ) from error
            if isinstance(error, ModuleNotFoundError):
                raise BundleRefused(
                    f"The call could not be loaded: there is no module {error.name!r} here. If it is your own code, name it: "
                    f"include=[{json.dumps(error.name)}]; if it is a package, install it where the job runs."
                ) from error
            raise
    return fn, args, kwargs


_AGAIN = "Submit the job again."


def _parsed(folder: Path, text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        newer = isinstance(manifest["format"], int) and manifest["format"] > FORMAT
        sound = newer or _is_sound(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        newer, sound = False, False
    if not sound:
        raise BundleTampered(f"{folder / MANIFEST} is damaged. {_AGAIN}")
    if newer:
        raise BundleRefused(
            f"{folder} has bundle format {manifest['format']}; this version of pl-hybridjobs reads up to {FORMAT}. "
            "Update it: pip install --upgrade pl-hybridjobs"
        )
    return dict(manifest)


def _is_sound(manifest: dict[str, Any]) -> bool:
    texts = [*manifest["python"].values(), *manifest["packages"].values(), *manifest["sources"].values(), *manifest["needs"]]
    return (
        manifest["format"] == FORMAT
        and {"version", "implementation"} <= set(manifest["python"])
        and all(isinstance(text, str) for text in texts)
        and set(manifest["needs"]) <= set(manifest["packages"])
        and set(manifest["sources"].values()) | {CALL} <= set(manifest["files"])
        and all(_is_sound_file(path, record) for path, record in manifest["files"].items())
    )


def _is_sound_file(path: str, record: dict[str, Any]) -> bool:
    inside = not path.startswith("/") and all(part not in ("", ".", "..") for part in path.split("/"))
    return inside and isinstance(record["size"], int) and _SHA256.fullmatch(record["sha256"]) is not None


def _wrong(path: Path, record: dict[str, Any]) -> str | None:
    try:
        if path.lstat().st_size != record["size"] and not path.is_symlink():
            return f"has {path.lstat().st_size} bytes, not {record['size']}"
        data = _plain_file(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if hashlib.sha256(data).hexdigest() == record["sha256"] else "has other content"


def _plain_file(path: Path) -> bytes:
    """A file's content; links and pipes are refused."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        return file.read()


def _present(folder: Path) -> set[str]:
    """Every file and link in a bundle, as relative paths.

    Bytecode beside the sources is passed over: a child process of the job may have written it. It is deleted before `load`
    makes the folder importable.
    """
    found: set[str] = set()
    for where, folders, names in os.walk(folder):
        relative = Path(where).relative_to(folder)
        links = [name for name in folders if Path(where, name).is_symlink()]
        if relative.parts[:1] == (SRC,):
            folders[:] = [name for name in folders if name != "__pycache__" or name in links]
        found.update((relative / name).as_posix() for name in [*names, *links])
    return found


def _differing(manifest: dict[str, Any]) -> dict[str, str | None]:
    """The packed distributions that have another version here, or (None) are not here."""
    from pl_hybridjobs.jobs import distributions

    here = distributions.installed().by_name
    packages: dict[str, str] = manifest["packages"]
    versions = {name: here[name].version if name in here else None for name in packages}
    return {name: versions[name] for name in packages if versions[name] != packages[name]}


def _fix(wanted: dict[str, str]) -> str:
    return f"Run: pip install {' '.join(f'{name}=={version}' for name, version in wanted.items())}"


def _and(texts: Any) -> str:
    return " and ".join(texts)


class _SourceOnly(importlib.machinery.SourceFileLoader):
    """Compiles what was verified. Bytecode is neither read (somebody could have put it there) nor written (it would be an extra file)."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        code: types.CodeType = self.source_to_code(self.get_data(path), path)
        return code


_served: set[str] = set()


def _serve(src: Path) -> None:
    """Put a bundle's sources first on ``sys.path``."""
    if not src.is_dir():
        return
    for path, folders, _ in os.walk(src):
        if "__pycache__" in folders:
            shutil.rmtree(Path(path, "__pycache__"), ignore_errors=True)
    if not _served:
        sys.path_hooks.insert(0, _finder)
    _served.add(str(src))
    sys.path_importer_cache.pop(str(src), None)
    if str(src) in sys.path:
        sys.path.remove(str(src))
    sys.path.insert(0, str(src))
    importlib.invalidate_caches()


def _finder(path: str) -> Any:
    if not any(path == src or path.startswith(src + os.sep) for src in _served):
        raise ImportError("not a bundle")
    return importlib.machinery.FileFinder(path, (_SourceOnly, [".py"]))


def _remember_sources(folder: Path, sources: dict[str, str]) -> None:
    """Let tracebacks and ``inspect.getsource`` find the code that goes by value, under the name it was compiled with."""
    for original, place in sources.items():
        data = (folder / place).read_bytes()
        with contextlib.suppress(OSError, ValueError):
            if Path(original).is_absolute() and Path(original).read_bytes() == data:
                continue
        text = importlib.util.decode_source(data)
        # No time stamp: linecache then never looks whether the file has changed.
        linecache.cache[original] = (len(text), None, text.splitlines(keepends=True), original)
