"""A call as a folder that travels: packed and checked here, verified and loaded there.

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
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import io
import json
import linecache
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import (
    BundleRefused,
    BundleTampered,
    BundleTooLarge,
    CannotTravel,
    EnvironmentSkew,
    InvalidCall,
    PackingError,
    SecretFound,
)
from pl_hybridjobs.jobs import pickling

FORMAT = 1
MANIFEST = "manifest.json"
CALL = "call.pkl"
SRC = "src"
_MAX_MB = 256.0
_GIT_TIME_S = 0.3
_GIT_FRESH_S = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PackedFile:
    """One file of a bundle: its path in it, size in bytes, SHA-256 as hexadecimal text."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """A finished bundle.

    Attributes:
        digest: SHA-256 of the manifest, as hexadecimal text.
        files: All files except the manifest.
        requirements: Third-party requirements, one line each.
        size_bytes: All files together.
        notes: What the user should know: a compiled module that stays behind, and the like.
    """

    digest: str
    files: tuple[PackedFile, ...]
    requirements: tuple[str, ...]
    size_bytes: int
    notes: tuple[str, ...]


# Packing ---------------------------------------------------------------------------------------------------------------


def pack(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    folder: Path,
    *,
    include: Sequence[str | Path | types.ModuleType] = (),
    requirements: str | Path | Sequence[str] | None = None,
    allow_secrets: Sequence[str] = (),
    name: str | None = None,
) -> Packed:
    """Write a call into a folder. Nothing is written before all checks have passed.

    Args:
        fn: The function (or partial, bound method, callable object).
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        folder: Exists and is empty. Files are written plainly; the caller makes the whole folder durable.
        include: Modules (or their names), files and folders that analysis cannot see.
        requirements: A list of requirements, or a ``requirements.txt``, ``uv.lock`` or ``pylock.toml``, instead of pinning
            what is installed.
        allow_secrets: Names or paths of findings that are no secrets, or may travel.
        name: How messages call the function.

    Raises:
        InvalidCall: ``include`` or ``requirements`` name something that is not there.
        SecretFound: Something looks like a credential.
        CannotTravel: An object cannot be pickled.
        BundleTooLarge: More than ``HYBRIDJOBS_MAX_BUNDLE_MB``.
    """
    from pl_hybridjobs.jobs import dependencies

    call = _Call(fn, args, kwargs, name)
    includes = dependencies.look_up(include)
    complaints = list(includes.complaints)
    given = None if requirements is None else dependencies.given(requirements, complaints)
    if complaints:
        raise InvalidCall(call.label, complaints)
    secrets = call.secrets()
    call.refuse_secrets([(path, what) for path, what, _ in secrets], allow_secrets)
    data, trace = call.pickled()
    sources = dependencies.gather(trace, includes)
    if sources.collisions:
        raise InvalidCall(call.label, [f"include: {text}" for text in sources.collisions])
    observed, versions, needed = dependencies.observed(sources, trace.references)
    wanted = given or observed
    call.refuse_secrets(_secrets_in_files(data, sources, wanted, [value for *_, value in secrets]), allow_secrets)
    call.refuse_size(len(data), sources)

    writer = _Writer(folder)
    writer.add(CALL, data)
    for place, content in sorted(sources.files.items()):
        writer.add(f"{SRC}/{place}", content if isinstance(content, bytes) else _read(content))
    writer.add(wanted.file, wanted.data)
    manifest = {
        "format": FORMAT,
        "entry": call.entry_record(),
        "python": _this_python(),
        "packages": versions,
        "needs": needed,
        "requirements": {"kind": wanted.kind, "file": wanted.file},
        "sources": {original: f"{SRC}/{place}" for original, place in sources.originals.items()},
        "files": {file.path: {"sha256": file.sha256, "size": file.size} for file in writer.files},
    }
    text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    _write(folder / MANIFEST, text)
    return Packed(
        digest=hashlib.sha256(text).hexdigest(),
        files=tuple(sorted(writer.files, key=lambda file: file.path)),
        requirements=wanted.lines or observed.lines,
        size_bytes=len(text) + sum(file.size for file in writer.files),
        notes=tuple(dict.fromkeys([*trace.notes, *sources.notes])),
    )


def unsatisfied(requirements: str | Path | Sequence[str]) -> list[str]:
    """Which requirements (a list or a text file) are not met by what is installed here: sentences, each with the remedy."""
    from pl_hybridjobs.jobs import dependencies

    return dependencies.unsatisfied(requirements)


class _Call:
    """What is to be packed, and how messages name its parts."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.entry = pickling.entry_function(fn)
        title = name or getattr(self.entry, "__qualname__", None) or type(self.entry).__name__
        self.label = title.rpartition("<locals>.")[2]
        self.roots: list[tuple[str, object]] = [
            (self.label, fn),
            *((f"args[{i}]", value) for i, value in enumerate(args)),
            *((f'kwargs["{key}"]', value) for key, value in kwargs.items()),
        ]

    def secrets(self) -> list[tuple[str, str, object]]:
        from pl_hybridjobs.jobs import secrets_scan

        return secrets_scan.in_objects(self.roots, self.entry)

    def refuse_secrets(self, found: list[tuple[str, str]], allow: Sequence[str]) -> None:
        from pl_hybridjobs.jobs import secrets_scan

        refused = [(path, what) for path, what in found if not secrets_scan.allowed(path, allow)]
        if refused:
            example = secrets_scan.last_name(refused[0][0])
            raise SecretFound(
                f"{self.label} would take secrets along; nothing was written.\n"
                + "".join(f"  - {path} looks like {what}\n" for path, what in refused)
                + "Read it from the environment inside the function (os.environ[...]), or, if it is no secret, "
                + f"allow it: allow_secrets=[{json.dumps(example, ensure_ascii=False)}]."
            )

    def pickled(self) -> tuple[bytes, pickling.Trace]:
        buffer = _Limited(_limit_bytes())
        try:
            trace = pickling.dump((self.fn, self.args, self.kwargs), buffer, self.entry)
        except _Full:
            raise self._too_large(buffer.limit, []) from None
        except MemoryError as error:
            raise self._too_large(buffer.limit, []) from error
        except Exception as error:
            from pl_hybridjobs.jobs import diagnosis

            found = diagnosis.offenders(self.roots, self.entry) or [f"{type(error).__name__}: {error}"]
            head = f"{self.label} cannot travel: {len(found)} obstacle{'s' * (len(found) > 1)}; nothing was written."
            raise CannotTravel("\n".join([head, *(f"  - {sentence}" for sentence in found)])) from error
        return buffer.getvalue(), trace

    def refuse_size(self, pickled_bytes: int, sources: Any) -> None:
        from pl_hybridjobs.jobs import diagnosis

        limit = _limit_bytes()
        sizes = {p: len(c) if isinstance(c, bytes) else c.stat().st_size for p, c in sources.files.items()}
        if pickled_bytes + sum(sizes.values()) > limit:
            largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:5]
            raise self._too_large(limit, [f"src/{place} ({diagnosis.size_text(size)})" for place, size in largest])

    def _too_large(self, limit: int, files: list[str]) -> BundleTooLarge:
        from pl_hybridjobs.jobs import diagnosis

        parts = [*diagnosis.largest(self.roots, self.entry), *files]
        return BundleTooLarge(
            f"{self.label} and what it takes along are larger than {limit / 1e6:g} MB; nothing was written. The largest:\n"
            + "".join(f"  - {part}\n" for part in parts)
            + 'Pass data as a file: inputs={"data": path}, and read input_path("data") in the function. '
            + "HYBRIDJOBS_MAX_BUNDLE_MB raises the limit."
        )

    def entry_record(self) -> dict[str, str]:
        return {
            "module": str(getattr(self.entry, "__module__", "")),
            "qualname": str(getattr(self.entry, "__qualname__", type(self.entry).__qualname__)),
            "signature": _signature(self.entry),
        }


class _Full(Exception):
    """More bytes than allowed."""


class _Limited(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self.limit:  # a large array comes as a PickleBuffer, which has no len()
            raise _Full
        return super().write(data)


class _Writer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: list[PackedFile] = []

    def add(self, path: str, data: bytes) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, data)
        self.files.append(PackedFile(path, len(data), hashlib.sha256(data).hexdigest()))


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)


def _read(path: Path) -> bytes:
    from pl_hybridjobs.jobs import dependencies

    try:
        return dependencies.read_source(str(path)).data if path.suffix == ".py" else path.read_bytes()
    except OSError as error:
        raise PackingError(f"{path} cannot be read ({error.strerror}), but the call needs it.") from error


def _limit_bytes() -> int:
    text = os.environ.get("HYBRIDJOBS_MAX_BUNDLE_MB", "")
    try:
        return int(float(text or _MAX_MB) * 1e6)
    except (ValueError, OverflowError):
        raise InvalidCall("HYBRIDJOBS_MAX_BUNDLE_MB", [f"must be a number of megabytes, not {text!r}"]) from None


def _secrets_in_files(data: bytes, sources: Any, requirements: Any, known: Sequence[object]) -> list[tuple[str, str]]:
    from pl_hybridjobs.jobs import dependencies, secrets_scan

    found = [(CALL, what) for what in secrets_scan.in_bytes(data, known)]
    for place, content in sorted(sources.files.items()):
        if isinstance(content, bytes):
            found += [(f"{place}:{line}", what) for line, what in secrets_scan.in_source(content)]
        elif content.suffix == ".py":
            found += [(f"{place}:{line}", what) for line, what in dependencies.read_source(str(content)).secrets]
    for number, line in enumerate(requirements.data.splitlines() if requirements.kind == "given" else (), 1):
        what = secrets_scan.form_of(line)
        if what:
            found.append((f"requirements:{number}", what))
    return found


def _this_python() -> dict[str, str]:
    return {"version": platform.python_version(), "implementation": platform.python_implementation()}


def _signature(fn: object) -> str:
    """The parameters' names. Default values are left out: a repr may hold an address, or a secret."""
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [f"{stars.get(p.kind, '')}{p.name}{'' if p.default is p.empty else '=…'}" for p in parameters]
    first = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        names.insert(first, "*")
    return f"({', '.join(names)})"


# Loading ---------------------------------------------------------------------------------------------------------------


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
    here, there = _this_python(), manifest["python"]
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


# Provenance ------------------------------------------------------------------------------------------------------------


def provenance(start: Path | None) -> dict[str, Any]:
    """From which state of a git repository a job comes.

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
