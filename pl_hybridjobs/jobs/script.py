"""Script jobs: a function in a file, a whole script, or a package becomes a job, with arguments as text."""

from __future__ import annotations

import contextlib
import importlib
import runpy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pl_hybridjobs.errors import InvalidCall, did_you_mean
from pl_hybridjobs.jobs import arguments, contract
from pl_hybridjobs.jobs.decorator import HybridFunction, hybrid_job
from pl_hybridjobs.jobs.handle import Job


def submit_script(
    path: str | Path,
    entry_point: str | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> Job:
    """Submit a script, a function in it, or a package as a job.

    Args:
        path: A Python file, or a package's folder.
        entry_point: A function's name (in a package: ``module:function``, or a function of the package itself). None runs a file as
            ``__main__``, and a package by its ``__main__.py``. A function decorated by ``hybrid_job`` keeps its options.
        params: The arguments. Text is converted by the function's annotations; other values pass as they are. A script that runs as
            ``__main__`` finds them as text in ``$AMZN_BRAKET_HP_FILE`` and, as ``--name value``, in ``sys.argv``; for reading also in
            ``current_job().params``, where long ones are shortened and those that look like a credential are hidden.
        **options: The keywords of ``hybrid_job``.

    Raises:
        InvalidCall: No such file or function, or arguments that do not fit it.
    """
    with prepared_script(path, entry_point, params or {}, options) as (function, call_args, call_kwargs):
        return function(*call_args, **call_kwargs)


@contextlib.contextmanager
def prepared_script(
    path: str | Path, entry_point: str | None, params: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[tuple[HybridFunction[..., Any], tuple[Any, ...], dict[str, Any]]]:
    """The decorated function and its arguments, without submitting. Takes what ``submit_script`` takes.

    Inside, the modules beside the script are importable, as they are for ``python script.py``: the packing looks for them.
    """
    path = Path(path).absolute()
    with _import_from(path.parent):
        yield _prepare(path, entry_point, params, options)


def _prepare(
    path: Path, entry_point: str | None, params: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[HybridFunction[..., Any], tuple[Any, ...], dict[str, Any]]:
    where = f"{path.name}{':' + entry_point if entry_point else ''}"
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        raise InvalidCall(where, [f"there is no file {path}.{near}"])
    if path.is_file() and path.suffix != ".py":
        raise InvalidCall(where, [f"{path.name} is no Python file; its name should end in .py"])
    if path.is_dir() and not (path / "__init__.py").exists() and not (path / "__main__.py").exists():
        raise InvalidCall(where, [f"{path} is a folder without __init__.py or __main__.py, so it is no package"])
    if entry_point is None:
        return _main_script(path, where, params, options)
    fn = _find(path, entry_point, where)
    function = fn if isinstance(fn, HybridFunction) else hybrid_job(fn)
    if options:
        function = function.with_options(**options)
    args, kwargs = arguments.bind_text(function.__wrapped__, params, where)
    return function, args, kwargs


def _main_script(
    path: Path, where: str, params: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[HybridFunction[..., Any], tuple[Any, ...], dict[str, Any]]:
    if path.is_dir() and not (path / "__main__.py").exists():
        raise InvalidCall(where, [f"the package {path.name} has no __main__.py; name a function: {path.name}:module:function"])
    include = options.get("include", ())
    include = (include,) if isinstance(include, str | Path | ModuleType) else tuple(include)
    own = {"name": _name(path), **options, "include": (*include, path)}
    return hybrid_job(MainScript(path.name), **own), (), dict(params)


def _name(path: Path) -> str:
    return path.stem.strip("_") or "script"


@dataclass(frozen=True)
class MainScript:
    """Runs a file of the bundle as ``__main__``. Called in the worker.

    Attributes:
        file_name: The script's or package's name in the bundle's ``src`` folder.
    """

    file_name: str

    def __call__(self, **params: Any) -> None:
        """Run it; ``sys.exit()`` and ``sys.exit(0)`` are a good end."""
        place = next((Path(entry) / self.file_name for entry in sys.path if (Path(entry) / self.file_name).exists()), None)
        if place is None:
            raise FileNotFoundError(f"{self.file_name} is not in the bundle")
        contract.tell_hyperparameters(contract.hyperparameters(params))
        sys.argv = [str(place), *(part for name, value in params.items() for part in (f"--{name}", str(value)))]
        try:
            if place.is_dir():
                runpy.run_module(place.name, run_name="__main__", alter_sys=True)
            else:
                _execute(place, "__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise


def _find(path: Path, entry_point: str, where: str) -> Any:
    """The object that ``entry_point`` names, from a fresh run of its file (so that an edited file is seen)."""
    module_name, _, attribute = entry_point.rpartition(":")
    if path.is_dir():
        try:
            module = importlib.import_module(f"{path.name}.{module_name}" if module_name else path.name)
        except ModuleNotFoundError as error:
            raise InvalidCall(where, [f"the package {path.name} has no module {module_name!r} ({error})"]) from error
    else:
        if module_name:
            raise InvalidCall(where, [f"in a file, the entry point is a function's name alone, not {entry_point!r}"])
        module = _execute(path, path.stem)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            own = getattr(found, "__name__", None)
            known = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_") and getattr(v, "__module__", own) == own]
            raise InvalidCall(
                where,
                [f"{path.name} has no {attribute!r}.{did_you_mean(attribute, known)} It has {', '.join(sorted(known)) or 'no function'}"],
            )
        found = getattr(found, part)
    if not callable(found):
        raise InvalidCall(where, [f"{attribute} is {type(found).__name__}, not a function"])
    return found


def _execute(path: Path, name: str) -> ModuleType:
    """Run a file as a module of this name; it is the one in ``sys.modules`` while it runs."""
    module = ModuleType(name)
    module.__file__ = str(path)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - running the user's script is the point
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return module


@contextlib.contextmanager
def _import_from(folder: Path) -> Iterator[None]:
    """Let imports find a folder first. Modules of other folders that have the names of its own are set aside meanwhile."""
    aside = {name: module for name, module in sys.modules.items() if _is_shadowed(name, module, folder)}
    for name in aside:
        del sys.modules[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:  # the next script may have another module of this name
            if _lies_in(sys.modules[name], folder):
                del sys.modules[name]
        sys.modules.update(aside)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return isinstance(origin, str) and Path(origin).is_relative_to(folder) and "site-packages" not in origin


def _is_shadowed(name: str, module: ModuleType, folder: Path) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__" or _lies_in(module, folder):
        return False
    if not ((folder / f"{top}.py").exists() or (folder / top / "__init__.py").exists()):
        return False
    origin = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" not in origin
