"""Reads the package as text: which module imports which, and what it calls. Nothing is imported or run."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "pl_hybridjobs"


@dataclass(frozen=True)
class Import:
    """One imported module.

    Args:
        target: The full name of a module (of ours as far down as there is a file, of others as written).
        line: Where.
        at_start: It happens when the importing module is loaded, not later in a function.
    """

    target: str
    line: int
    at_start: bool


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """``"jobs"`` for ``pl_hybridjobs.jobs.codec``, ``"errors"`` for ``pl_hybridjobs.errors``, ``""`` for the top."""
        return room_of(self.name)


def room_of(module: str) -> str:
    """The first part below the package's name."""
    return module.split(".")[1] if "." in module else ""


@cache
def modules() -> dict[str, Module]:
    """All modules of the package by full name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, parsed(path))
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_bytes(), str(path))


@cache
def imports(tree: ast.Module, known: frozenset[str]) -> list[Import]:
    """Every import of a module, those inside functions too, those under ``if TYPE_CHECKING`` not.

    Args:
        tree: The module.
        known: The full names of our modules: ``from a import b`` means ``a.b`` where that is one of them.
    """
    found = []
    for node, at_start in _statements(tree, at_start=True):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, at_start) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append(Import(inner if inner in known else base, node.lineno, at_start))
    return found


def imports_of(module: Module) -> list[Import]:
    """Every import of one of our modules."""
    return imports(module.tree, _names())


@cache
def _names() -> frozenset[str]:
    return frozenset(modules())


def _statements(node: ast.AST, at_start: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other, at_start
                yield from _statements(other, at_start)
            continue
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, at_start
        yield from _statements(child, at_start and not later)


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with what is called, as text: ``"os.rename"``, ``"path.replace"``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@cache
def repository_files() -> tuple[Path, ...]:
    """The files that belong to the repository: tracked ones, and new ones that git does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = (ROOT / name.decode() for name in listing.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def where(path: Path, line: int) -> str:
    """``"pl_hybridjobs/jobs/codec.py:12"``."""
    return f"{path.relative_to(ROOT)}:{line}"
