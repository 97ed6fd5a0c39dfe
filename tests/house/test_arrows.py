"""Who may import whom, and who may touch what (docs/contributing.md draws the map)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable

import pytest

from tests.house.source import PACKAGE, ROOT, Module, calls, imports, imports_of, modules, parsed, room_of, where

# Room -> the rooms that it may import. A room may always import itself. `""` is pl_hybridjobs/__init__.py.
ARROWS: dict[str, set[str]] = {
    "": {"errors", "cost", "jobs"},
    "errors": set(),
    "home": set(),
    "transactions": set(),
    "curves": set(),
    "plain": set(),
    "notebook": {"curves", "plain"},
    "sim": {"errors"},
    "cost": {"errors", "home", "transactions"},
    "fanout": {"errors", "home"},
    "devices": {"errors", "sim", "cost", "fanout"},
    "jobs": {"errors", "home", "plain", "transactions", "cost", "notebook", "fanout"},
    "training": {"errors", "jobs", "cost"},
    "spread": {"errors", "jobs", "devices", "training"},  # training: the random states of its members
    # The emulator: rehearsal.py starts one in the process that it makes, and looks after it and its jobs from inside.
    "braket": {"errors", "home", "jobs", "devices", "cost", "emulator"},
    "emulator": {"errors"},
    "ray": {"errors", "home", "jobs"},
    "slurm": {"errors", "home", "jobs"},
    "dashboard": {"", "errors", "home", "jobs", "cost", "curves"},
    "cli": {"", "errors", "home", "plain", "curves", "jobs", "cost", "emulator", "braket", "dashboard", "ray"},
    "compat": {"", "errors", "jobs", "cost", "braket"},  # Amazon's answers in a folder, and S3; `get_tasks()` lists what a job bought
}

# Module -> the only places that may import it.
KEEPERS: dict[str, tuple[str, ...]] = {
    "sqlite3": ("pl_hybridjobs.transactions", "pl_hybridjobs.jobs.store", "pl_hybridjobs.cost.ledger"),
    "boto3": ("pl_hybridjobs.braket", "pl_hybridjobs.emulator"),
    "botocore": ("pl_hybridjobs.braket", "pl_hybridjobs.emulator"),
    "moto": ("pl_hybridjobs.emulator",),
    "braket": ("pl_hybridjobs.emulator",),
    "rich": ("pl_hybridjobs.cli", "pl_hybridjobs.training.render"),
    "click": ("pl_hybridjobs.cli",),
    "starlette": ("pl_hybridjobs.dashboard",),
    "uvicorn": ("pl_hybridjobs.dashboard",),
    "tensorboard": ("pl_hybridjobs.jobs.trackers.tensorboard",),
    "mlflow": ("pl_hybridjobs.jobs.trackers.mlflow",),
    "ray": ("pl_hybridjobs.ray", "pl_hybridjobs.fanout"),
    "IPython": ("pl_hybridjobs.notebook.live",),
    "ipywidgets": ("pl_hybridjobs.notebook.live",),
    "fcntl": ("pl_hybridjobs.jobs.durable", "pl_hybridjobs.sim.drivers"),  # the simulator knows no jobs, and compiles once at a time
}

# Too slow or too big to be loaded together with a module of these rooms.
HEAVY = {
    "autograd",
    "autoray",
    "boto3",
    "botocore",
    "click",
    "cloudpickle",
    "jax",
    "matplotlib",
    "mlflow",
    "numba",
    "numpy",
    "optax",
    "pandas",
}
HEAVY |= {"pennylane", "pyarrow", "ray", "rich", "scipy", "tensorboard", "torch"}
LIGHT_ROOMS = {"", "errors", "home", "transactions", "jobs", "cost", "compat", "ray", "slurm"}


def _is_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def _wrong_arrows(module: Module) -> list[str]:
    allowed = ARROWS.get(module.room, set()) | {module.room}
    return [
        f"{where(module.path, found.line)}: {module.room or PACKAGE!r} may not import {found.target}"
        for found in imports_of(module)
        if found.target.split(".")[0] == PACKAGE and room_of(found.target) not in allowed
    ]


def _wrong_keepers(module: Module) -> list[str]:
    return [
        f"{where(module.path, found.line)}: only {' and '.join(keepers)} may import {found.target}"
        for found in imports_of(module)
        if (keepers := KEEPERS.get(found.target.split(".")[0])) and not _is_in(module.name, keepers)
    ]


def _heavy_starts(module: Module) -> list[str]:
    return [
        f"{where(module.path, found.line)}: {found.target} must be imported inside a function"
        for found in imports_of(module)
        if module.room in LIGHT_ROOMS and found.at_start and found.target.split(".")[0] in HEAVY
    ]


def _wrong_durable_calls(module: Module) -> list[str]:
    if _is_in(module.name, (*KEEPERS["fcntl"], "pl_hybridjobs.braket.entry")):  # the latter can import nothing of ours
        return []
    return [
        f"{where(module.path, call.lineno)}: {name}(...) belongs into jobs/durable.py"
        for name, call in calls(module.tree)
        if _makes_durable(name, call)
    ]


def _makes_durable(name: str, call: ast.Call) -> bool:
    owner, _, verb = name.rpartition(".")
    if owner == "os":
        return verb in {"fsync", "fdatasync", "rename", "renames", "replace", "link", "sync"}
    if verb == "replace":  # Path.replace(target); str.replace has two arguments, dataclasses.replace has keywords
        return bool(owner) and len(call.args) == 1 and not call.keywords
    return verb in {"flock", "lockf", "hardlink_to"} or (verb in {"rename", "fsync"} and bool(owner)) or name == "shutil.move"


def _bare_forks(module: Module) -> list[str]:
    return [
        f"{where(module.path, call.lineno)}: {name}() copies threads and locks half; start a fresh process"
        for name, call in calls(module.tree)
        if name in {"os.fork", "os.forkpty", "pty.fork"}
        or (name.endswith(("get_context", "set_start_method")) and "fork" in ast.unparse(call).replace("forkserver", ""))
    ]


LAWS: dict[str, Callable[[Module], list[str]]] = {
    "arrows between rooms point one way": _wrong_arrows,
    "each vendor has one keeper": _wrong_keepers,
    "light rooms load nothing heavy": _heavy_starts,
    "only durable.py renames, locks and syncs": _wrong_durable_calls,
    "nobody forks": _bare_forks,
}


@pytest.mark.parametrize("law", LAWS)
def test_the_package_obeys(law):
    broken = [sentence for module in modules().values() for sentence in LAWS[law](module)]

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("law", "name", "source"),
    [
        ("arrows between rooms point one way", "pl_hybridjobs.errors", "def f():\n from pl_hybridjobs.jobs import x"),
        ("arrows between rooms point one way", "pl_hybridjobs.jobs.x", "import pl_hybridjobs.devices.simulator"),
        ("arrows between rooms point one way", "pl_hybridjobs.jobs.x", "from pl_hybridjobs import __version__"),
        ("arrows between rooms point one way", "pl_hybridjobs.newroom.x", "import pl_hybridjobs.errors"),
        ("each vendor has one keeper", "pl_hybridjobs.jobs.handle", "def f():\n import sqlite3"),
        ("each vendor has one keeper", "pl_hybridjobs.jobs.handle", "from rich.table import Table"),
        ("each vendor has one keeper", "pl_hybridjobs.jobs.bundle", "class A:\n def f(self):\n  import boto3.session"),
        ("light rooms load nothing heavy", "pl_hybridjobs.jobs.codec", "if True:\n import numpy as np"),
        ("only durable.py renames, locks and syncs", "pl_hybridjobs.jobs.x", "path.replace(other)"),
        ("only durable.py renames, locks and syncs", "pl_hybridjobs.jobs.x", "Path(a).rename(b)"),
        ("only durable.py renames, locks and syncs", "pl_hybridjobs.jobs.x", "os.fsync(3)"),
        ("only durable.py renames, locks and syncs", "pl_hybridjobs.jobs.x", "os.link(a, b)"),
        ("nobody forks", "pl_hybridjobs.jobs.x", "os.fork()"),
        ("nobody forks", "pl_hybridjobs.jobs.x", "multiprocessing.get_context('fork')"),
    ],
)
def test_a_breach_is_found(law, name, source):
    assert LAWS[law](Module(name, ROOT / "example.py", ast.parse(source)))


@pytest.mark.parametrize(
    ("law", "name", "source"),
    [
        ("arrows between rooms point one way", "pl_hybridjobs.jobs.x", "if TYPE_CHECKING:\n from pl_hybridjobs import Job"),
        ("light rooms load nothing heavy", "pl_hybridjobs.jobs.codec", "def f():\n import numpy"),
        ("only durable.py renames, locks and syncs", "pl_hybridjobs.jobs.x", "text.replace('a', 'b'); replace(spec, name='b')"),
        ("nobody forks", "pl_hybridjobs.jobs.x", "multiprocessing.get_context('forkserver')"),
    ],
)
def test_what_is_allowed_is_not_taken_for_a_breach(law, name, source):
    assert not LAWS[law](Module(name, ROOT / "example.py", ast.parse(source)))


def test_there_is_no_import_cycle():
    known = modules()
    graph = {
        name: {found.target for found in imports_of(module) if found.target in known and found.target != name}
        for name, module in known.items()
    }

    assert _cycle(graph) is None


def test_a_cycle_is_found():
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def _cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """The first import cycle as a path, or None."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for target in sorted(graph[node]):
            if cycle := visit(target, [*path, node]):
                return cycle
        done.add(node)
        return None

    return next((cycle for node in sorted(graph) if (cycle := visit(node, []))), None)


def test_every_room_has_a_row_in_the_table():
    assert {module.room for module in modules().values()} <= set(ARROWS)


# Import names that differ from the distribution's name; PyPI folds "-" and "_".
_DISTRIBUTIONS = {
    "IPython": "ipykernel",
    "PIL": "matplotlib",  # it draws with it
    "botocore": "boto3",
    "braket": "amazon_braket_default_simulator",
    "mlflow": "mlflow_skinny",
    "jupyter_client": "nbclient",
    "nbformat": "nbclient",
    "sympy": "amazon_braket_default_simulator",  # it makes its symbols
    "werkzeug": "moto",  # its server
    "yaml": "pyyaml",
}
# Looked up where the user has it, never needed.
# Catalyst and qsim are timed in an environment of their own, since they pin other versions of what we need.
_OPTIONAL = {
    "pl_hybridjobs": {"torch", "optax", "pandas", "pyarrow", "IPython"},
    "tests": {"torch", "catalyst", "cirq", "qsimcirq", "qaoa_source"},  # the last lies in tests/compat/programs
    "demos": {"optax"},
}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("pl_hybridjobs", ["plot", "dashboard", "emulator", "tensorboard", "mlflow", "notebook", "ray"]),
        ("tests", ["plot", "test"]),
        ("demos", ["plot"]),
    ],
)
def test_every_third_party_import_is_declared(folder, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + [r for extra in extras for r in project["optional-dependencies"][extra]]
    declared = {re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("-", "_") for requirement in requirements}
    ours = {PACKAGE, "tests", *sys.stdlib_module_names, *_OPTIONAL[folder]}

    undeclared = [
        f"{where(path, found.line)}: {top}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in imports(parsed(path), frozenset())
        if (top := found.target.split(".")[0]) not in ours and _DISTRIBUTIONS.get(top, top).lower() not in declared
    ]

    assert not undeclared, "\n".join(undeclared)
