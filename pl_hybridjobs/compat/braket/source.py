"""Script mode: a file, a folder or an archive in S3, and what of it is to run. Nothing of it is run here."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pl_hybridjobs.compat.braket import creation, s3
from pl_hybridjobs.compat.braket.running import Script, Surroundings, defined_names
from pl_hybridjobs.errors import InvalidCall, ProviderError, did_you_mean
from pl_hybridjobs.jobs.handle import Job
from pl_hybridjobs.jobs.inputs import is_remote

_WHERE = "create"


def submit(source_module: str | Path, entry_point: str | None, hyperparameters: object, wishes: creation.Wishes) -> Job:
    """Create the job of a file, a folder, or an archive in S3, which is fetched.

    Raises:
        InvalidCall: It is not there, has no such module or function, a hyperparameter cannot be text, or anything else is wrong.
    """
    texts = _texts({} if hyperparameters is None else hyperparameters)
    with tempfile.TemporaryDirectory(prefix="hybridjobs-source-") as folder:
        if is_remote(source_module):
            source = _unpacked(str(source_module), entry_point, Path(folder), wishes.aws_session)
        else:
            source = _found(source_module, entry_point)
        wanted = [line for file in source.requirement_files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        full = replace(wishes, include=source.parts, requirements=wanted or None, entry_point=source.entry_point)
        places = tuple(part.relative_to(source.root).as_posix() for part in source.parts)
        return creation.submit(source.script, (), texts, full, Surroundings(hyperparameters=texts, sources=places))


@dataclass(frozen=True)
class Source:
    """Code with its entry point, checked.

    Attributes:
        root: What places in the bundle are relative to.
        parts: The files and folders in it that travel.
        main: The one of them that holds the entry point.
        entry_point: ``module`` or ``module:function``.
    """

    root: Path
    parts: tuple[Path, ...]
    main: Path
    entry_point: str

    @property
    def script(self) -> Script:
        """What runs."""
        module, _, function = self.entry_point.partition(":")
        return Script(self.main.relative_to(self.root).as_posix(), module, function)

    @property
    def requirement_files(self) -> list[Path]:
        """What names packages that it needs."""
        return sorted(file for part in self.parts if part.is_dir() for file in part.rglob("requirements.txt"))


def _found(source_module: str | Path, entry_point: str | None) -> Source:
    path = Path(source_module).expanduser().resolve()
    if not path.exists():
        raise InvalidCall(_WHERE, [f"Source module not found: {source_module} (looked from {Path.cwd()})"])
    named = entry_point or path.stem
    _check_entry(path, *_split(named))
    return Source(_root(path), (path,), path, named)


def _unpacked(uri: str, entry_point: str | None, folder: Path, session: Any) -> Source:
    """An archive in S3, as it lies on Amazon's instance: its content is the working folder, and modules are imported from there."""
    if not entry_point:
        raise InvalidCall(_WHERE, [f"If source_module is an S3 URI ({uri}), entry_point must be provided."])
    if not uri.lower().endswith(".tar.gz"):
        raise InvalidCall(_WHERE, [f"If source_module is an S3 URI, it must point to a tar.gz file, which {uri} does not"])
    _fetch(uri, folder, session)
    parts = tuple(sorted(part for part in folder.iterdir() if not part.name.startswith(".")))
    module, function = _split(entry_point)
    top = module.partition(".")[0]
    main = next((part for part in parts if part.name in (top, f"{top}.py")), None)
    if main is None:
        there = ", ".join(part.name for part in parts) or "nothing"
        raise InvalidCall(_WHERE, [f"Entry point module was not found: {module}. {uri} holds {there}"])
    _check_entry(main, module, function)
    return Source(folder, parts, main, entry_point)


def _fetch(uri: str, folder: Path, session: Any) -> None:
    instead = f"Or copy it here, unpack it and name its folder: aws s3 cp {uri} - | tar xz"
    try:
        content = s3.read(uri, session)
    except ProviderError as error:
        raise InvalidCall(_WHERE, [f"source_module {uri} cannot be fetched. {error} {instead}"]) from error
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InvalidCall(_WHERE, [f"source_module {uri} is no archive that can be unpacked: {error}"]) from error


def _split(entry_point: str) -> tuple[str, str]:
    module, _, function = entry_point.partition(":")
    return module, function


def _root(path: Path) -> Path:
    """What its place in the bundle is relative to: the folder around the outermost package that it is in."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root


def _check_entry(source: Path, module: str, function: str) -> None:
    parts = module.split(".")
    inner = parts[1:] if parts[0] == (source.stem if source.is_file() else source.name) else None
    place = None if inner is None else source.parent.joinpath(parts[0], *inner)
    names = ["__init__.py"] if function else ["__main__.py"]
    candidates = [] if place is None else [place.with_name(f"{place.name}.py"), *(place / name for name in names)]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None or (source.is_file() and file != source):
        if place is not None and place.is_dir() and not function:
            raise InvalidCall(_WHERE, [f"{module} is a folder without __main__.py; name a module in it, or {module}.<module>:<function>"])
        near = did_you_mean(module, _modules(source))
        raise InvalidCall(_WHERE, [f"Entry point module was not found: {module}.{near} It is seen from {source.parent}"])
    try:
        names_there, constants = defined_names(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise InvalidCall(_WHERE, [f"{file} is no Python that this version can read: {error}"]) from error
    first = function.partition(".")[0]
    if first and "*" not in names_there and first not in names_there:
        raise InvalidCall(_WHERE, [f"{module} has no {first!r}.{did_you_mean(first, names_there)}"])
    if function in constants:
        raise InvalidCall(_WHERE, [f"{module}:{function} is a constant, not a function"])


def _modules(source: Path) -> list[str]:
    if source.is_file():
        return [source.stem]
    return [".".join(path.relative_to(source.parent).with_suffix("").parts).removesuffix(".__init__") for path in source.rglob("*.py")]


def _texts(hyperparameters: object) -> dict[str, str]:
    if not isinstance(hyperparameters, Mapping):
        raise InvalidCall(_WHERE, [f"hyperparameters must be a mapping of names to values, not {type(hyperparameters).__name__}"])
    texts: dict[str, str] = {}
    found = []
    for name, value in hyperparameters.items():
        try:
            texts[str(name)] = str(value)
        except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything
            found.append(f"hyperparameters[{name!r}]: a {type(value).__name__} that cannot be text ({type(error).__name__}: {error})")
    if found:
        raise InvalidCall(_WHERE, found)
    return texts
