"""What is installed, usable and broken here, and how to mend it."""

from __future__ import annotations

import os
import platform
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pl_hybridjobs import __version__
from pl_hybridjobs.errors import HybridJobsError, StoreError
from pl_hybridjobs.jobs import device, engine, runner, sandbox
from pl_hybridjobs.jobs.durable import locked, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import observe
from pl_hybridjobs.jobs.store import Store

_PACKAGES = ("pennylane", "numpy", "jax", "cloudpickle", "torch", "optax", "matplotlib", "ray", "amazon-braket-sdk")
_OPTIONAL = {
    "torch": "pip install torch",
    "optax": "pip install optax",
    "matplotlib": "pip install 'pl-hybridjobs[plot]'",
    "ray": "pip install 'pl-hybridjobs[ray]'",
    "amazon-braket-sdk": "not needed",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``ok``, ``missing`` (optional) or ``broken``.
        what: What was looked at.
        detail: What was seen, and what to do about it.
    """

    state: str
    what: str
    detail: str


def examine() -> list[Finding]:
    """Look at everything. Changes nothing but a probe file that is removed again."""
    return [*_programs(), *_plugins(), *_engines(), *_home()]


def _programs() -> Iterator[Finding]:
    yield Finding("ok", "pl-hybridjobs", f"{__version__}, Python {platform.python_version()} at {sys.executable}")
    for name in _PACKAGES:
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            yield Finding("missing" if name in _OPTIONAL else "broken", name, _OPTIONAL.get(name, f"pip install {name}"))


def _plugins() -> Iterator[Finding]:
    for name, target in sorted(runner.known_runners().items()):
        try:
            runner.resolve(name)
            yield Finding("ok", f"runner {name}", target)
        except HybridJobsError as error:
            yield Finding("broken", f"runner {name}", f"{error} Upgrade or uninstall the package that brings it.")
    names = ", ".join(sorted(device.known_devices()))
    yield Finding("ok" if names else "broken", "devices", names or "none: pip install pennylane")


def _engines() -> Iterator[Finding]:
    """What jobs in containers and in the sandbox need; nobody else does, so none of it is broken."""
    for name in engine.ENGINES:
        try:
            found = engine.find(name)
            yield Finding("ok", name, f"{found.run('version', '--format', '{{.Client.Version}}', timeout_s=20).strip()} at {found.path}")
            found.run("info", timeout_s=20)
        except HybridJobsError as error:
            yield Finding("missing", name, str(error))
    problem = sandbox.complaint()
    yield Finding("missing", "sandbox", problem) if problem else Finding("ok", "sandbox", "bubblewrap")


def _home() -> Iterator[Finding]:
    store = Store()
    probe = store.home / f".doctor-{secrets.token_hex(4)}"
    try:
        store.exists()
    except StoreError as error:
        yield Finding("broken", "home", str(error))
        return
    if not store.home.exists():
        yield Finding("ok", "home", f"{store.home} (made with the first job)")
        return
    try:
        write_bytes(probe, b"probe")
        with locked(probe, timeout_s=1.0):
            pass
        yield Finding("ok", "home", f"{store.home}, writable, with locks")
    except (StoreError, OSError) as error:
        yield Finding("broken", "home", f"{error}")
    finally:
        if os.access(store.home, os.W_OK):
            probe.unlink(missing_ok=True)
    count = 0
    for path in sorted(store.jobs.iterdir()) if store.jobs.is_dir() else []:
        if path.name.startswith("."):
            continue
        count += 1
        try:
            folder = JobFolder(path)
            spec = folder.spec()
            if isinstance(runner.resolve(spec.runner, spec.runner_options), runner.Mirroring):
                continue  # of what runs elsewhere only a look there could tell
            state = observe(folder)
            if state.status is Status.UNKNOWN:
                yield Finding("broken", "job", f"{path.name}: {state.detail}. `hybridjobs resume` takes it over, `cancel` ends it.")
        except HybridJobsError as error:
            yield Finding("broken", "job", str(error))
    yield Finding("ok", "jobs", f"{count} in {store.jobs}")
