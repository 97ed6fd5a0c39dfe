"""What a call needs besides its pickle: source files of local modules, data files, and installed distributions.

A module is *local* if it has a source file that is neither Python's own nor in a site-packages folder (an editable install
is local), and is not a part of this package. Local modules that the call really reaches travel as files, with what they
import, and so on; of the others the names are noted.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import linecache
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from pl_hybridjobs.errors import did_you_mean
from pl_hybridjobs.jobs import imports, secrets_scan
from pl_hybridjobs.jobs.distributions import Installed, installed
from pl_hybridjobs.jobs.pickling import Code, Trace

_OWN = __name__.partition(".")[0]
_STDLIB = {os.path.realpath(os.path.dirname(os.__file__)), os.path.dirname(os.__file__)}  # noqa: PTH120
_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_LEFT_OUT = {"__pycache__", ".git", ".hg", ".svn", ".venv", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_LOCK_FILES = re.compile(r"uv\.lock|pylock(\.[\w-]+)?\.toml")
# What of ours needs what we require; the rest, metrics and checkpoints, needs the worker's own packages only.
_OUR_STACK = re.compile(
    r"\b(job_device|spread_device|train|training_loop|hybridjobs\.(qubit|mixed|qpu)|pl_hybridjobs\.(devices|spread|training|sim|braket))\b"
)
_OUR_NAME = "pl-hybridjobs"
# Where sources go that are only to be read (a notebook's cells): no import finds a folder of this name.
UNIMPORTED = ".sources"


@dataclass(frozen=True)
class Module:
    """Where a module was found.

    Attributes:
        kind: ``local``, ``installed`` or ``python``.
        file: Its source (or compiled) file, "" for a namespace package.
        folders: Where its submodules are, empty if it is no package.
    """

    name: str
    kind: str
    file: str = ""
    folders: tuple[str, ...] = ()

    def place(self) -> str:
        """Its path under ``src/``."""
        stem = self.name.replace(".", "/")
        return f"{stem}/__init__.py" if self.folders else f"{stem}.py"


@dataclass(frozen=True)
class Source:
    """A source file's content, read once for each version of the file."""

    data: bytes
    imports: tuple[imports.Import, ...]
    secrets: tuple[tuple[int, str], ...]


@dataclass
class Sources:
    """What goes into ``src/``, and what was met on the way.

    Attributes:
        files: Path under ``src/`` -> the file, or its text where there is no file (a notebook's cell).
        originals: Original path of a source file -> its path under ``src/``.
        outside: Full names of installed modules that are imported.
        editable: Names of the distributions whose source travels.
        notes: What does not travel, and the like.
        collisions: Two files that would have the same place.
        uses_stack: Our devices or training are used, so that what we require is needed.
    """

    files: dict[str, Path | bytes] = field(default_factory=dict)
    originals: dict[str, str] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    editable: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    collisions: list[str] = field(default_factory=list)
    uses_stack: bool = False


@dataclass(frozen=True)
class Includes:
    """``include=``, looked up.

    Attributes:
        modules: Names of modules.
        paths: Path under ``src/`` -> data file.
        complaints: What is missing.
    """

    modules: tuple[str, ...] = ()
    paths: tuple[tuple[str, Path], ...] = ()
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirements:
    """Which distributions the call needs.

    Attributes:
        kind: ``observed`` (pinned from what is installed), ``given`` (a list or a text file), ``uv.lock`` or ``pylock``.
        file: Its name in the bundle.
        data: Its content.
        lines: The requirements, one each, as far as they are known one by one.
    """

    kind: str
    file: str
    data: bytes
    lines: tuple[str, ...]


# Local modules ---------------------------------------------------------------------------------------------------------


def gather(trace: Trace, includes: Includes) -> Sources:
    """Find everything that a pickled call reaches, transitively.

    Args:
        trace: What the pickler sent by reference, and the code that it sent by value.
        includes: What the user named besides.
    """
    gathering = _Gathering()
    for name in sorted(trace.references):
        gathering.reach(name)
    for name in includes.modules:
        gathering.reach(name)
        gathering.whole_package(name)
    for place, path in includes.paths:
        gathering.add_file(place, path)
    for code in trace.codes:
        gathering.reach_from(imports.of_code(code.code), code.package)
        gathering.look_for_our_stack(imports.names_of_code(code.code))
    for code in trace.codes:
        gathering.add_text_of(code)
    return gathering.sources


class _Gathering:
    def __init__(self) -> None:
        self.sources = Sources()
        self._installed = installed()
        self._seen: set[str] = set()

    def reach(self, name: str) -> None:
        """Add a module, its parent packages, and all that they import."""
        pending = [name]
        while pending:
            full = pending.pop()
            if full in self._seen or not full:
                continue
            self._seen.add(full)
            parent = full.rpartition(".")[0]
            if parent:
                pending.append(parent)
            module = locate(full, self._installed)
            if module is None or module.kind == "python":
                continue
            if module.kind == "installed":
                self.sources.outside.add(full)
            elif module.file:
                pending.extend(self._targets(self._add(module), full if module.folders else parent))

    def reach_from(self, found: Sequence[imports.Import], package: str) -> None:
        """Add what some code imports."""
        for name in self._targets(found, package):
            self.reach(name)

    def look_for_our_stack(self, text: str) -> None:
        """Note whether some code uses our devices or training."""
        self.sources.uses_stack = self.sources.uses_stack or _OUR_STACK.search(text) is not None

    def whole_package(self, name: str) -> None:
        """Add everything in a package's folder: its user cannot know what else analysis would miss."""
        module = locate(name, self._installed)
        if module is None or module.kind != "local":
            return
        for folder in module.folders:
            for path in _files_in(Path(folder)):
                self.add_file(f"{name.replace('.', '/')}/{path.relative_to(folder).as_posix()}", path)

    def add_file(self, place: str, path: Path) -> None:
        """Add a file that was asked for; if it is Python, also what it imports."""
        if self._put(place, path) and path.suffix == ".py":
            self.sources.originals.setdefault(str(path), place)
            package = place.removesuffix("/__init__.py").replace("/", ".")
            if not place.endswith("/__init__.py"):
                package = place.rpartition("/")[0].replace("/", ".")
            source = read_source(str(path))
            self.look_for_our_stack(source.data.decode("utf-8", "replace"))
            self.reach_from(source.imports, package)

    def add_text_of(self, code: Code) -> None:
        """Add the text of code that goes by value, so that tracebacks and ``inspect.getsource`` show it."""
        name = code.code.co_filename
        if name in self.sources.originals:
            return
        if os.path.isfile(name):  # noqa: PTH113
            if _kind_of(name, code.module.partition(".")[0], self._installed) != "local":
                return
            module = _module_of(code, name)
            place = module.place() if module else f"{UNIMPORTED}/{self._free_name(name)}"
            if place in self.sources.files and self.sources.files[place] != Path(name):
                place = f"{UNIMPORTED}/{self._free_name(name)}"
            self.sources.files[place] = Path(name)
            for parent in _parents(module.name) if module else ():
                package = locate(parent, self._installed)
                if package and package.kind == "local" and package.file:
                    self.sources.files.setdefault(package.place(), Path(package.file))
                    self.sources.originals.setdefault(package.file, package.place())
        else:
            lines = linecache.getlines(name)
            if not lines:
                return
            place = f"{UNIMPORTED}/{self._free_name(name)}"
            self.sources.files[place] = "".join(lines).encode("utf-8", "replace")
        self.sources.originals[name] = place

    def _free_name(self, name: str) -> str:
        stem = re.sub(r"[^\w.-]", "_", os.path.basename(name)).strip("._") or "cell"  # noqa: PTH119
        taken = sum(place.startswith(f"{UNIMPORTED}/") for place in self.sources.files)
        return f"{taken}-{stem.removesuffix('.py')}.py"

    def _targets(self, found: Sequence[imports.Import], package: str) -> list[str]:
        names = []
        for one in found:
            base, *parts = one.targets(package) or [""]
            names.append(base)
            module = locate(base, self._installed) if base else None
            # An attribute of an installed module needs no look; of a local package it may be a submodule.
            if module is not None and module.kind == "local" and module.folders:
                names.extend(part for part in parts if locate(part, self._installed) is not None)
        return names

    def _add(self, module: Module) -> tuple[imports.Import, ...]:
        editable = self._installed.editable(module.file)
        if editable is not None:
            self.sources.editable.add(editable.name)
        if module.file.endswith(_COMPILED):
            self.sources.notes.append(
                f"{module.name} is compiled ({os.path.basename(module.file)}) and does not travel; "  # noqa: PTH119
                "it must be installed where the job runs."
            )
            return ()
        if not module.file.endswith(".py") or not os.path.isfile(module.file):  # noqa: PTH113
            self.sources.notes.append(f"{module.name} has no source file that could travel (it is loaded from {module.file}).")
            return ()
        self._put(module.place(), Path(module.file))
        self.sources.originals[module.file] = module.place()
        source = read_source(module.file)
        self.look_for_our_stack(source.data.decode("utf-8", "replace"))
        return source.imports

    def _put(self, place: str, path: Path) -> bool:
        there = self.sources.files.setdefault(place, path)
        if there != path and not (isinstance(there, Path) and there.samefile(path)):
            self.sources.collisions.append(f"{there!s} and {path} would both be src/{place}; rename one, or include it from its package")
            return False
        return there is path


def locate(name: str, index: Installed) -> Module | None:
    """Find a module without importing it, nor its parents. None if there is no such module."""
    top = name.partition(".")[0]
    if top == _OWN or name == "__main__" or name in sys.builtin_module_names:
        return Module(name, "python")
    loaded = sys.modules.get(name)
    if loaded is not None:
        return _from_loaded(name, loaded, index)
    parent = name.rpartition(".")[0]
    if not parent:
        return _from_spec(name, _find_top(name, index), index)
    package = locate(parent, index)
    if package is None or package.kind != "local":
        return package and Module(name, package.kind)
    return _from_spec(name, importlib.machinery.PathFinder.find_spec(name, list(package.folders)), index)


def _from_loaded(name: str, module: ModuleType, index: Installed) -> Module | None:
    file = getattr(module, "__file__", None)
    folders = tuple(str(folder) for folder in getattr(module, "__path__", ()))
    if isinstance(file, str):
        return Module(name, _kind_of(file, name.partition(".")[0], index), file, folders)
    if folders:
        return Module(name, _kind_of(f"{folders[0]}/__init__.py", name.partition(".")[0], index), "", folders)
    return Module(name, "python")


@functools.lru_cache(maxsize=4096)
def _find_top(name: str, index: Installed) -> importlib.machinery.ModuleSpec | None:
    del index  # a new one whenever a folder on the path has changed
    for finder in sys.meta_path:  # editable installs have finders of their own
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, None) if find else None
        except Exception:  # noqa: BLE001, S112 - a foreign finder that fails does not know the module
            continue
        if spec is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _from_spec(name: str, spec: importlib.machinery.ModuleSpec | None, index: Installed) -> Module | None:
    if spec is None:
        return None
    folders = tuple(str(folder) for folder in spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        return Module(name, _kind_of(spec.origin, name.partition(".")[0], index), spec.origin, folders)
    if folders:
        return Module(name, _kind_of(f"{folders[0]}/__init__.py", name.partition(".")[0], index), "", folders)
    return Module(name, "python")


def _kind_of(file: str, top: str, index: Installed) -> str:
    if top == _OWN:
        return "python"
    if "/site-packages/" in file or "/dist-packages/" in file:
        return "installed"
    folder = os.path.dirname(file)  # noqa: PTH120
    if any(folder == own or folder.startswith(own + os.sep) for own in _STDLIB) or file.startswith("<frozen"):
        return "python"
    # `pip install --target`: a folder on the path that has the metadata beside the modules.
    owned = any(file.startswith(root + os.sep) and index.owns(root, top) for root in index.roots)
    return "installed" if owned else "local"


def read_source(file: str) -> Source:
    """A source file, analysed; kept as long as its size and time stay."""
    info = os.stat(file)  # noqa: PTH116
    return _read_source(file, info.st_mtime_ns, info.st_size)


@functools.lru_cache(maxsize=2048)
def _read_source(file: str, time_ns: int, size: int) -> Source:
    del time_ns, size  # parts of the cache's key
    data = Path(file).read_bytes()
    return Source(data, imports.of_source(data, file), tuple(secrets_scan.in_source(data)))


def _module_of(code: Code, file: str) -> Module | None:
    """The importable module that some code belongs to, if its file is that module's."""
    name = code.module
    loaded = sys.modules.get(name)
    if name == "__main__":
        spec = getattr(loaded, "__spec__", None)
        # `python -m package.module`, or a script: its own folder is on the path, so its name can be imported as well.
        name = spec.name.removesuffix(".__main__") if spec is not None else Path(file).stem
        if spec is None and (code.file != file or not name.isidentifier()):
            return None
        return Module(name, "local", file, (str(Path(file).parent),) if file.endswith("__init__.py") else ())
    if loaded is None or getattr(loaded, "__file__", None) != file:
        return None
    return Module(name, "local", file, tuple(str(folder) for folder in getattr(loaded, "__path__", ())))


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:i]) for i in range(1, len(parts)))


# include= --------------------------------------------------------------------------------------------------------------


def look_up(include: Sequence[str | Path | ModuleType]) -> Includes:
    """Find what ``include=`` names: modules, files and folders."""
    index = installed()
    modules: list[str] = []
    paths: dict[str, Path] = {}
    complaints: list[str] = []
    for item in include:
        if isinstance(item, ModuleType):
            modules.append(item.__name__)
        elif isinstance(item, str) and _is_module(item, index):
            modules.append(item)
        elif isinstance(item, (str, Path)):
            problem = _look_up_path(Path(item), paths)
            if problem:
                complaints.append(problem)
        else:
            complaints.append(f"include: {item!r} is neither a module nor a path; give a module, its name, a file or a folder")
    return Includes(tuple(modules), tuple(sorted(paths.items())), tuple(complaints))


def _is_module(name: str, index: Installed) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    module = locate(name, index)
    # A folder without __init__.py could be a namespace package; as data it has the same place, and all its files come.
    return module is not None and (bool(module.file) or not Path(name).exists())


def _modules() -> set[str]:
    return {name for name in sys.modules if not name.startswith("_") and "." not in name}


def _look_up_path(path: Path, paths: dict[str, Path]) -> str | None:
    full = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links are kept: a name may be one on purpose
    try:
        mode = full.stat().st_mode
    except OSError as error:
        near = did_you_mean(full.name, [*_neighbours(full.parent), *_modules()]) if isinstance(error, FileNotFoundError) else ""
        return f"include: there is no module and no file {str(path)!r} (looked from {Path.cwd()}: {error.strerror}).{near}"
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return f"include: {path} is neither a plain file nor a folder"
    found = list(_files_in(full)) if stat.S_ISDIR(mode) else [full]
    if not found:
        return f"include: the folder {path} has no files in it"
    root = _package_root(full)
    for file in found:
        place = file.relative_to(root).as_posix()
        there = paths.setdefault(place, file)
        if there != file:
            return f"include: {there} and {file} would both be src/{place}; rename one"
        if not os.access(file, os.R_OK):
            return f"include: {file} cannot be read; mend its mode, or include less"
    return None


def _package_root(path: Path) -> Path:
    """The folder that a path under ``src/`` is relative to: the parent of the outermost package around, else its own parent."""
    package = next((folder for folder in path.parents if (folder / "__init__.py").is_file()), None)
    if package is None:
        return path.parent
    while (package.parent / "__init__.py").is_file():
        package = package.parent
    return package.parent


def _files_in(folder: Path) -> Iterator[Path]:
    seen = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in sorted(names):
            file = Path(path, name)
            if not name.endswith((".pyc", *_COMPILED)) and file.is_file():
                yield file


def _neighbours(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


# Distributions ---------------------------------------------------------------------------------------------------------


def observed(sources: Sources, references: set[str]) -> tuple[Requirements, dict[str, str], list[str]]:
    """Pin what is reached, from what is installed.

    Args:
        sources: Says which installed modules are imported.
        references: The modules that the pickle itself names.

    Returns:
        The requirements; versions of the distributions that are reached directly; names of those without which the pickle
        cannot be loaded.
    """
    index = installed()
    direct = {dist.name: dist for name in _shortest(sources.outside | {"cloudpickle"}) for dist in index.giving(name)}
    tops = {name.partition(".")[0] for name in references}
    needed = {dist.name for name in _shortest(sources.outside & references) for dist in index.giving(name)}
    needed |= {dist.name for dist in index.giving("cloudpickle")} if "cloudpickle" in tops else set()
    ours = index.by_name[_OUR_NAME].requires() if sources.uses_stack and _OUR_NAME in index.by_name else ()
    lines = [dist.requirement() for dist in index.closure([*direct, *sources.editable, *ours])]
    text = "# Pinned from what was installed where the job was submitted.\n" + "".join(f"{line}\n" for line in lines)
    versions = {name: dist.version for name, dist in sorted(direct.items())}
    return Requirements("observed", "requirements.lock", text.encode(), tuple(lines)), versions, sorted(needed)


def _shortest(names: set[str]) -> list[str]:
    """Without ``a.b.c`` where ``a`` alone answers: only names of namespace packages need to be looked at in full."""
    tops = {name.partition(".")[0] for name in names}
    spread = {top for top in tops if getattr(sys.modules.get(top), "__file__", "") is None}
    return sorted((tops - spread) | {name for name in names if name.partition(".")[0] in spread})


def given(requirements: str | Path | Sequence[str], complaints: list[str]) -> Requirements | None:
    """Requirements that the user gave: a list, a text file, or a lock file, kept as they are.

    Args:
        requirements: As in the decorator.
        complaints: Grows by what is wrong.
    """
    if not isinstance(requirements, (str, Path)):
        lines = tuple(str(line).strip() for line in requirements)
        return Requirements("given", "requirements.lock", "".join(f"{line}\n" for line in lines).encode(), lines)
    path = Path(requirements).expanduser()
    if not path.is_file():
        hint = " For requirements themselves give a list of texts." if re.search(r"[=<>~ ]", str(requirements)) else ""
        complaints.append(f"requirements: there is no file {str(requirements)!r} (looked from {Path.cwd()}).{hint}")
        return None
    data = path.read_bytes()
    if _LOCK_FILES.fullmatch(path.name):
        return Requirements("uv.lock" if path.name == "uv.lock" else "pylock", path.name, data, ())
    if path.suffix not in (".txt", ".in", ".lock"):
        complaints.append(f"requirements: {path.name} is none of requirements*.txt, uv.lock, pylock.toml; give one of them or a list")
        return None
    lines = tuple(line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip())
    return Requirements("given", "requirements.lock", data, lines)


def unsatisfied(requirements: str | Path | Sequence[str]) -> list[str]:
    """Which of the given requirements are not met by what is installed here; nothing is said about a lock file.

    Returns:
        Sentences, each with the remedy.
    """
    from pl_hybridjobs.jobs import distributions

    complaints: list[str] = []
    found = given(requirements, complaints)
    return complaints if found is None else distributions.unsatisfied(found.lines)
