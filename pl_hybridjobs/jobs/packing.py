"""Writes a call into a bundle: pickles it, gathers its sources and requirements, and refuses secrets and what is too large."""

from __future__ import annotations

import hashlib
import io
import json
import os
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import (
    BundleTooLarge,
    CannotTravel,
    InvalidCall,
    PackingError,
    SecretFound,
)
from pl_hybridjobs.jobs import bundle, pickling

_MAX_MB = 256.0


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
    data, trace = call.pickled()
    sources = dependencies.gather(trace, includes)
    if sources.collisions:
        raise InvalidCall(call.label, [f"include: {text}" for text in sources.collisions])
    observed, versions, needed = dependencies.observed(sources, trace.references)
    wanted = given or observed
    found = [(path, what) for path, what, _ in secrets]
    call.refuse_secrets([*found, *_secrets_in_files(data, sources, wanted, [value for *_, value in secrets])], allow_secrets)
    call.refuse_size(len(data), sources)

    writer = _Writer(folder)
    writer.add(bundle.CALL, data)
    for place, content in sorted(sources.files.items()):
        writer.add(f"{bundle.SRC}/{place}", content if isinstance(content, bytes) else _read(content))
    writer.add(wanted.file, wanted.data)
    manifest = {
        "format": bundle.FORMAT,
        "entry": call.entry_record(),
        "python": bundle.this_python(),
        "packages": versions,
        "needs": needed,
        "requirements": {"kind": wanted.kind, "file": wanted.file},
        "sources": {original: f"{bundle.SRC}/{place}" for original, place in sources.originals.items()},
        "files": {file.path: {"sha256": file.sha256, "size": file.size} for file in writer.files},
    }
    text = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    _write(folder / bundle.MANIFEST, text)
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


def call_digest(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """SHA-256 of the pickled call, as a bundle's manifest has it."""
    data, _ = _Call(fn, args, kwargs, None).pickled()
    return hashlib.sha256(data).hexdigest()


def packed_call(folder: Path) -> str | None:
    """The same of a bundle; None if there is none."""
    try:
        return str(json.loads((folder / bundle.MANIFEST).read_text())["files"][bundle.CALL]["sha256"])
    except (OSError, ValueError, KeyError):
        return None


class _Call:
    """What is to be packed, and how messages name its parts."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.entry = pickling.entry_function(fn)
        self.by_value = None if pickling.is_installed(self.entry) else self.entry
        title = name or getattr(self.entry, "__qualname__", None) or type(self.entry).__name__
        self.label = title.rpartition("<locals>.")[2]
        self.roots: list[tuple[str, object]] = [
            (self.label, fn),
            *((f"args[{i}]", value) for i, value in enumerate(args)),
            *((f'kwargs["{key}"]', value) for key, value in kwargs.items()),
        ]

    def secrets(self) -> list[tuple[str, str, object]]:
        from pl_hybridjobs.jobs import secrets_scan

        return secrets_scan.in_objects(self.roots, self.by_value)

    def refuse_secrets(self, found: list[tuple[str, str]], allow: Sequence[str]) -> None:
        from pl_hybridjobs.jobs import secrets_scan

        refused = [(path, what) for path, what in found if not secrets_scan.allowed(path, allow)]
        if refused:
            names = list(dict.fromkeys(secrets_scan.last_name(path) for path, _ in refused))
            raise SecretFound(
                f"{self.label} would take secrets along; nothing was written.\n"
                + "".join(f"  - {path} looks like {what}\n" for path, what in refused)
                + "Read it from the environment inside the function (os.environ[...]), or, if it is no secret, "
                + f"allow it: allow_secrets={json.dumps(names, ensure_ascii=False)}."
            )

    def pickled(self) -> tuple[bytes, pickling.Trace]:
        buffer = _Limited(_limit_bytes())
        try:
            trace = pickling.dump((self.fn, self.args, self.kwargs), buffer, self.by_value)
        except _Full:
            raise self._too_large(buffer.limit, []) from None
        except MemoryError as error:
            raise self._too_large(buffer.limit, []) from error
        except Exception as error:
            from pl_hybridjobs.jobs import diagnosis

            found = diagnosis.offenders(self.roots, self.by_value) or [f"{type(error).__name__}: {error}"]
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

        parts = [*diagnosis.largest(self.roots, self.by_value), *files]
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

    found = [(bundle.CALL, what) for what in secrets_scan.in_bytes(data, known)]
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
