"""This very distribution, as files: what another environment needs to run our worker with the devices that it registers."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import RunnerError

NAME = "pl-hybridjobs"
_PACKAGE = Path(__file__).parents[1]
_LEFT_OUT = {"__pycache__"}


@functools.cache
def files() -> Mapping[str, bytes]:
    """Every file of the package and of its metadata, by its path in a site-packages folder.

    Raises:
        RunnerError: The metadata cannot be found.
    """
    found = {f"{_PACKAGE.name}/{place}": path.read_bytes() for place, path in _sources(_PACKAGE)}
    recipes = _PACKAGE.parent / "containers"
    if not (_PACKAGE / "containers").is_dir() and recipes.is_dir():  # a checkout; a wheel has them inside the package
        found |= {f"{_PACKAGE.name}/containers/{place}": path.read_bytes() for place, path in _sources(recipes)}
    metadata, entry_points = _metadata()
    info = _info(metadata)
    found[f"{info}/METADATA"] = metadata
    found[f"{info}/entry_points.txt"] = entry_points
    found[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: pl-hybridjobs\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{place},sha256={_urlsafe(data)},{len(data)}\n" for place, data in sorted(found.items()))
    found[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return found


def version() -> str:
    """The distribution's version."""
    return _field(_metadata()[0], "Version")


def digest() -> str:
    """SHA-256 of all files: another version, or one that was edited, has another."""
    return hashlib.sha256(_named("RECORD")).hexdigest()


def unpack(folder: Path) -> None:
    """Write the files into a folder that can stand on ``sys.path``."""
    for place, data in files().items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def write_wheel(folder: Path) -> Path:
    """Write the distribution as a wheel; the same files give the same bytes."""
    import zipfile

    path = folder / f"pl_hybridjobs-{version()}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, data in files().items():
            archive.writestr(zipfile.ZipInfo(place), data, zipfile.ZIP_DEFLATED)
    return path


def requirements() -> list[str]:
    """What this distribution requires, extras left out, as its metadata says."""
    lines = _named("METADATA").decode().partition("\n\n")[0].splitlines()
    required = (line.removeprefix("Requires-Dist:").strip() for line in lines if line.startswith("Requires-Dist:"))
    return [line for line in required if "extra ==" not in line]


def _named(name: str) -> bytes:
    return next(data for place, data in files().items() if place.endswith(f".dist-info/{name}"))


def _field(metadata: bytes, name: str) -> str:
    return next(line.partition(":")[2].strip() for line in metadata.decode().splitlines() if line.startswith(f"{name}:"))


def _info(metadata: bytes) -> str:
    return f"pl_hybridjobs-{_field(metadata, 'Version')}.dist-info"


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in sorted(names):
            if not name.endswith((".pyc", ".nbi", ".nbc")):
                yield Path(path, name).relative_to(folder).as_posix(), Path(path, name)


@functools.cache
def _metadata() -> tuple[bytes, bytes]:
    """``METADATA`` and ``entry_points.txt``: of the installed distribution, or made from the checkout's ``pyproject.toml``."""
    project = _PACKAGE.parent / "pyproject.toml"
    if project.is_file():
        import tomllib

        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if table.get("name") == NAME:
            return _metadata_of(table), _entry_points_of(table)
    for info in sorted(_PACKAGE.parent.glob("pl_hybridjobs-*.dist-info")):
        if info.joinpath("METADATA").is_file():
            return info.joinpath("METADATA").read_bytes(), info.joinpath("entry_points.txt").read_bytes()
    raise RunnerError(
        f"The metadata of this installation of {NAME} is not beside it in {_PACKAGE.parent}, so it cannot be put into another "
        "environment. Install it anew: pip install --force-reinstall pl-hybridjobs"
    )


def _metadata_of(table: Mapping[str, Any]) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {table['version']}", f"Requires-Python: {table['requires-python']}"]
    lines += [f"Requires-Dist: {line}" for line in table["dependencies"]]
    return ("\n".join(lines) + "\n").encode()


def _entry_points_of(table: Mapping[str, Any]) -> bytes:
    groups = {"console_scripts": table.get("scripts", {}), **table.get("entry-points", {})}
    sections = ("".join([f"[{name}]\n", *(f"{key} = {value}\n" for key, value in group.items())]) for name, group in groups.items())
    return "\n".join(sections).encode()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
