"""Script mode: a file or folder on the disk, and what of it is to run. Nothing of it is run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pl_hybridjobs.compat.braket import creation
from pl_hybridjobs.compat.braket.running import Script, Surroundings, defined_names
from pl_hybridjobs.errors import InvalidCall, did_you_mean
from pl_hybridjobs.jobs.handle import Job

_WHERE = "create"


@dataclass(frozen=True)
class Source:
    """A source module and its entry point, checked.

    Attributes:
        path: The file or folder, absolute.
        script: What runs.
    """

    path: Path
    script: Script

    @classmethod
    def of(cls, source_module: str | Path, entry_point: str | None) -> Source:
        """Look at a source module.

        Raises:
            InvalidCall: It is not there, or has no such module or function.
        """
        if str(source_module).startswith("s3://"):
            raise InvalidCall(
                _WHERE,
                [f"source_module is {source_module}; copy it here, unpack it and name its folder: aws s3 cp {source_module} - | tar xz"],
            )
        path = Path(source_module).expanduser().resolve()
        if not path.exists():
            raise InvalidCall(_WHERE, [f"Source module not found: {source_module} (looked from {Path.cwd()})"])
        module, _, function = (entry_point or path.stem).partition(":")
        _check_entry(path, module, function)
        return cls(path, Script(path.relative_to(_root(path)).as_posix(), module, function))

    def submit(self, hyperparameters: Mapping[Any, Any] | None, wishes: creation.Wishes) -> Job:
        """Create the job.

        Raises:
            InvalidCall: A hyperparameter cannot be text, or anything else is wrong.
        """
        texts = _texts(hyperparameters or {})
        wanted = [line for file in _requirement_files(self.path) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        full = replace(wishes, include=(self.path,), requirements=wanted or None)
        return creation.submit(self.script, (), texts, full, Surroundings(hyperparameters=texts, source=self.script.source))


def _root(path: Path) -> Path:
    """What its place in the bundle is relative to: the folder around the outermost package that it is in."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root


def _requirement_files(path: Path) -> list[Path]:
    return sorted(path.rglob("requirements.txt")) if path.is_dir() else []


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


def _texts(hyperparameters: Mapping[Any, Any]) -> dict[str, str]:
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
