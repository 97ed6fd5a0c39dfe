"""Inside the job: what a program for Amazon Braket finds around it, and what becomes of its return value."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import os
import runpy
import shutil
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pl_hybridjobs.compat.braket import setting
from pl_hybridjobs.compat.braket.data_persistence import format_of, save_job_result
from pl_hybridjobs.compat.braket.environment_variables import get_checkpoint_dir, get_input_data_dir
from pl_hybridjobs.jobs import arguments, contract, worker
from pl_hybridjobs.jobs.context import current_job
from pl_hybridjobs.jobs.decorator import name_of
from pl_hybridjobs.jobs.durable import rename_folder, sync_tree, temporary_folder, write_bytes

#: The input channel by which another job's checkpoints come.
COPIED = "checkpoints-of-another-job"


@dataclass(frozen=True)
class Link:
    """An input that a program opens by the path that its creator gave.

    Attributes:
        path: As it was given.
        channel: Where it is.
        file: Its name there; "" for the whole channel.
    """

    path: str
    channel: str
    file: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What is around a program while it runs.

    Attributes:
        hyperparameters: As text, whole: what ``get_hyperparameters()`` gives.
        links: Inputs that lie at their old paths.
        sources: In script mode: what lies in the working folder, by paths in the bundle.
        data_format: How the return value is kept; "" in script mode, where it is not.
    """

    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    sources: tuple[str, ...] = ()
    data_format: str = ""


class Entry:
    """What the worker calls: the user's function, in its surroundings.

    Args:
        fn: The function.
        around: Its surroundings.
    """

    def __init__(self, fn: Callable[..., Any], around: Surroundings) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__wrapped__ = fn
        if "__qualname__" not in self.__dict__:
            self.__qualname__ = name_of(fn)
        self.around = around

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it. A pickled result stays in ``results.json``; any other is the job's outcome as well."""
        with surrounded(self.around), _advised():
            value = self.__wrapped__(*args, **kwargs)
            if isinstance(value, types.CoroutineType):
                value = worker.awaited(value)
        if value is None or not self.around.data_format:
            return None
        data_format = format_of(self.around.data_format)
        save_job_result(value, data_format)
        return None if data_format is data_format.PICKLED_V4 else value


@contextlib.contextmanager
def surrounded(around: Surroundings) -> Iterator[None]:
    """Make the surroundings, and take the links away at the end: the working folder is the results folder."""
    contract.tell_hyperparameters(around.hyperparameters)
    _adopt_checkpoints()
    with contextlib.ExitStack() as links:
        for link in around.links:
            target = Path(get_input_data_dir(link.channel), link.file)
            links.enter_context(_linked(Path(link.path), target.absolute()))
        for source in map(bundled, around.sources):
            links.enter_context(_linked(Path(source.name), source))
        yield


@contextlib.contextmanager
def _advised() -> Iterator[None]:
    """Says of boto3's word that there is no account what to do on this machine."""
    try:
        yield
    except Exception as error:
        if setting.is_local() and type(error).__name__ in ("NoRegionError", "NoCredentialsError"):
            error.add_note(
                f"AwsDevice and AwsSession go to Amazon, also from this machine. {setting.VARIABLE}=rehearsal runs the job against an "
                "emulator; qml.device('braket.aws.qubit', device_arn=...) and LocalSimulator() work here"
            )
        raise


@contextlib.contextmanager
def _linked(path: Path, target: Path) -> Iterator[None]:
    """A link for a while. A path that is there already, or that would leave the working folder, gets none."""
    if ".." in path.parts:
        print(f"{path} is not linked, since it leaves the working folder; read it from {target}", file=sys.stderr)
        yield
        return
    made = False
    if path.is_symlink() and (not path.is_absolute() or path.readlink() == target):  # of an attempt that was killed; no link of the user's
        path.unlink()
    if not path.exists():
        with contextlib.suppress(OSError):  # an absolute path of the creator's machine may be out of reach on this one
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
            made = True
    try:
        yield
    finally:
        if made and path.is_symlink():
            path.unlink()
            if not path.is_absolute():
                for folder in path.parents[:-1]:
                    with contextlib.suppress(OSError):  # the program put something there
                        folder.rmdir()


def _adopt_checkpoints() -> None:
    """Begin with another job's checkpoints; what is there already (in a later attempt) stays."""
    folder = Path(get_checkpoint_dir())
    folder.mkdir(parents=True, exist_ok=True)
    brought = Path(get_input_data_dir(COPIED))
    if "AMZN_BRAKET_INPUT_DIR" not in os.environ or not brought.is_dir():
        return
    for item in sorted(brought.iterdir()):
        if item.name.startswith(".") or (folder / item.name).exists():
            continue
        if not item.is_dir():
            write_bytes(folder / item.name, item.read_bytes())
            continue
        with temporary_folder(folder, item.name) as temporary:
            shutil.copytree(item, temporary, dirs_exist_ok=True)
            sync_tree(temporary)
            rename_folder(temporary, folder / item.name)


# Script mode --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """A module of the bundle, run as ``__main__``, or a function in it, called. Called in the worker.

    Attributes:
        source: The source module's path in the bundle.
        module: Its full name, from beside the source module.
        function: A name in it, with dots; "" runs the module.
    """

    source: str
    module: str
    function: str = ""

    @property
    def __name__(self) -> str:
        return self.function or self.module

    def __call__(self, /, **hyperparameters: str) -> Any:
        """Run it. ``sys.exit()`` and ``sys.exit(0)`` are a good end.

        Hyperparameters become arguments if the function takes all of them. A module finds them in ``sys.argv`` as ``--name value``, as the
        SageMaker toolkit of Amazon's images has it.
        """
        sys.path.insert(0, str(bundled(self.source).parent))
        importlib.invalidate_caches()
        sys.argv[1:] = [] if self.function else [part for name, value in hyperparameters.items() for part in (f"--{name}", value)]
        if not self.function:
            try:
                runpy.run_module(self.module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                if end.code not in (None, 0):
                    raise
            return None
        found: Any = importlib.import_module(self.module)
        for part in self.function.split("."):
            found = getattr(found, part)
        parameters = _parameters_of(found)
        if parameters is None or not all(map(parameters, hyperparameters)):
            return found()
        args, kwargs = arguments.bind_text(found, hyperparameters, f"{self.module}:{self.function}")
        return found(*args, **{name: value if _is_annotated(parameters(name)) else hyperparameters[name] for name, value in kwargs.items()})


def _parameters_of(function: Callable[..., Any]) -> Callable[[str], inspect.Parameter | None] | None:
    """Finds the parameter that takes an argument of a name; None for a callable that does not tell."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    rest = next((parameter for parameter in parameters.values() if parameter.kind is parameter.VAR_KEYWORD), None)
    return lambda name: parameters.get(name, rest)


def _is_annotated(parameter: inspect.Parameter | None) -> bool:
    """Where nothing is said of a type, text stays text, as at Amazon Braket."""
    return parameter is not None and parameter.annotation is not parameter.empty


def bundled(place: str) -> Path:
    """A file or folder of the bundle's sources."""
    folder = current_job().folder
    assert folder is not None
    return folder.bundle / "src" / place


def defined_names(code: str) -> tuple[set[str], set[str]]:
    """What a module's text defines at its top: all names, and those that are only constants. ``{"*"}`` if it imports everything of another.

    Raises:
        SyntaxError: It is no Python.
    """
    names: set[str] = set()
    constants: set[str] = set()
    pending: list[ast.AST] = [ast.parse(code)]
    while pending:
        node = pending.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(child.name)
            elif isinstance(child, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in child.names}
            elif isinstance(child, ast.Lambda):
                continue
            else:
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    names.add(child.id)
                if isinstance(child, ast.Assign) and isinstance(child.value, ast.Constant):
                    constants |= {target.id for target in child.targets if isinstance(target, ast.Name)}
                pending.append(child)
    return names, constants
