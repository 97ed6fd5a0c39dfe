"""What a bundle's lock file asks for, as requirements that pip understands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import RunnerError

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.environment import Interpreter

_HASHES = ("sha256", "sha384", "sha512")  # which pip takes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements(lock: Path, kind: str, interpreter: Interpreter) -> list[str]:
    """The lines of a requirements file.

    Args:
        lock: The file.
        kind: As the bundle's manifest calls it: ``observed``, ``given``, ``uv.lock`` or ``pylock``.
        interpreter: For whom; a lock for several platforms says more than one of them needs.

    Returns:
        Requirements; with the hashes of their files, which pip then insists on, if the lock has them for all.

    Raises:
        RunnerError: The file is none of that kind, or has packages that come from no index.
    """
    if kind not in ("uv.lock", "pylock"):
        return [line for line in lock.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    import tomllib

    try:
        table = tomllib.loads(lock.read_text(encoding="utf-8"))
        found = dict(_of_uv(table, _markers(interpreter)) if kind == "uv.lock" else _of_pylock(table))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerError(
            f"{lock.name} cannot be read ({type(error).__name__}: {error}). Make it anew, and submit the job again."
        ) from error
    if not all(found.values()):
        return sorted(found)
    return [" ".join([line, *(f"--hash={one}" for one in found[line])]) for line in sorted(found)]


def name_of(line: str) -> str:
    """The distribution that a line names, normalised; "" for none."""
    from pl_hybridjobs.jobs.distributions import normalised

    found = _NAME.match(line.strip())
    return normalised(found[0]) if found else ""


def _of_pylock(table: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """PEP 751: each package with its version and its marker; and the hashes of its files."""
    for package in table["packages"]:
        if "directory" in package:
            continue  # the project itself, which travels in src/
        _check_index(package["name"], {"vcs", "archive"} & set(package))
        marker = f" ; {package['marker']}" if package.get("marker") else ""
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        hashes = [sorted(f"{name}:{value}" for name, value in file.get("hashes", {}).items() if name in _HASHES) for file in files]
        yield f"{package['name']}=={package['version']}{marker}", sorted({of_file[-1] for of_file in hashes}) if all(hashes) else []


def _of_uv(table: Mapping[str, Any], markers: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """From the project itself along the dependencies whose markers hold; see ``_of_pylock``."""
    from packaging.markers import Marker

    packages: dict[str, list[Mapping[str, Any]]] = {}
    for package in table["package"]:
        packages.setdefault(package["name"], []).append(package)
    roots = [package for several in packages.values() for package in several if {"virtual", "editable"} & set(package["source"])]
    seen: set[tuple[str, ...]] = set()
    pending: list[tuple[Mapping[str, Any], Sequence[str]]] = [(root, ()) for root in roots]
    while pending:
        package, extras = pending.pop()
        extra = [one for name in extras for one in package.get("optional-dependencies", {}).get(name, ())]
        for wanted in [*package.get("dependencies", ()), *extra]:
            if wanted.get("marker") and not Marker(wanted["marker"]).evaluate(dict(markers)):
                continue
            for found in packages[wanted["name"]]:
                key = (found["name"], str(found.get("version")), *wanted.get("extra", ()))
                if wanted.get("version", found.get("version")) != found.get("version") or key in seen:
                    continue
                seen.add(key)
                pending.append((found, wanted.get("extra", ())))
                if not {"virtual", "editable", "directory"} & set(found["source"]):
                    _check_index(found["name"], set(found["source"]) - {"registry"})
                    files = [*found.get("wheels", ()), *([found["sdist"]] if "sdist" in found else [])]
                    hashes = [str(file.get("hash", "")) for file in files]
                    yield f"{found['name']}=={found['version']}", sorted(set(hashes)) if all(hashes) else []


def _check_index(name: str, other: set[str]) -> None:
    """Of the same name an index may have something else.

    Raises:
        RunnerError: The package comes from elsewhere.
    """
    if other:
        raise RunnerError(
            f"The lock takes {name} from elsewhere than an index ({', '.join(sorted(other))}), which jobs cannot install. Give its "
            "requirements as text, as `uv export --no-hashes > requirements.txt` writes them, or as a list."
        )


def _markers(interpreter: Interpreter) -> dict[str, str]:
    from packaging.markers import default_environment

    here = {str(name): str(value) for name, value in default_environment().items()}
    is_linux = interpreter.platform.startswith("linux")
    other = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": interpreter.platform[6:]}
    return {**here, "python_version": interpreter.minor, "python_full_version": interpreter.version, **(other if is_linux else {})}
