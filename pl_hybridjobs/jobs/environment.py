"""Environments that hold what a bundle's lock names: built once for each lock and interpreter, in ``$HYBRIDJOBS_HOME/environments``.

::

    environments/<key>/            a virtual environment; whole, because it gets its name when it is
    environments/<key>/cache/      machine code of the simulator, for who cannot write its own
    environments/own-<digest>/     this package, for environments that do not have it

An environment is a ``pyvenv.cfg``, a link to the interpreter and the installed files (PEP 405), so nothing needs to run in a container to
make one: this machine's pip installs, with its own configuration, credentials and certificates.
"""

from __future__ import annotations

import collections
import compileall
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import BundleRefused, Fenced, HybridJobsError, RunnerError
from pl_hybridjobs.home import home_of, private_folder
from pl_hybridjobs.jobs import bundle, outcome, own, process
from pl_hybridjobs.jobs.durable import commit_folder, crash_point, locked, temporary_folder, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder

_FORMAT = 1
_FOLDER = "environments"
_PATIENCE_S = 24 * 3600.0  # who waits for another builder is looked after by its supervisor
_TAIL_LINES = 40


@dataclass(frozen=True)
class Interpreter:
    """A Python that environments are built for.

    Attributes:
        executable: Its path, where it runs; not a virtual environment's.
        version: As ``platform.python_version()`` gives it.
        platform: As ``sysconfig.get_platform()`` gives it.
        glibc: Version of the C library, "" where it is another.
    """

    executable: str
    version: str
    platform: str
    glibc: str

    @classmethod
    def here(cls) -> Interpreter:
        """This process's."""
        libc, version = platform.libc_ver()
        base = str(getattr(sys, "_base_executable", "") or sys.executable)
        return cls(base, platform.python_version(), sysconfig.get_platform(), version if libc == "glibc" else "")

    @property
    def minor(self) -> str:
        """``3.11``."""
        return ".".join(self.version.split(".")[:2])

    def flags(self) -> list[str]:
        """What tells this machine's pip to install for it; nothing where wheels for this machine run there."""
        here = Interpreter.here()
        if self.minor == here.minor and self.platform == here.platform and _numbers(self.glibc) >= _numbers(here.glibc):
            return []
        machine = self.platform.removeprefix("linux-").replace("-", "_").replace(".", "_")
        tags = [f"manylinux_2_{n}_{machine}" for n in range((*_numbers(self.glibc), 17)[1], 16, -1)] if self.glibc else []
        tags += [f"manylinux2014_{machine}", f"linux_{machine}"] if self.glibc else [f"musllinux_1_2_{machine}", f"musllinux_1_1_{machine}"]
        choice = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.minor}"]
        return [*choice, *(f"--platform={tag}" for tag in tags)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


@dataclass(frozen=True)
class Place:
    """Where an environment is, or will be.

    Attributes:
        folder: The environment.
        own: The folder that holds this package for it.
    """

    folder: Path
    own: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def is_built(self) -> bool:
        """Whether both are there, and so are whole."""
        return self.folder.is_dir() and self.own.is_dir()

    @property
    def cache(self) -> Path:
        """Machine code of the simulator."""
        return self.folder / "cache"

    @property
    def is_warm(self) -> bool:
        """Whether that is there for this very version."""
        return (self.cache / self.own.name).exists()

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """A process's environment for it: nothing that points to other packages, its programs first."""
        kept = {name: value for name, value in inherited.items() if name not in ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE")}
        programs = str(self.folder / "bin")
        path = os.pathsep.join([programs, kept.get("PATH", os.defpath)])
        return {**kept, "VIRTUAL_ENV": str(self.folder), "PATH": path, "PYTHONNOUSERSITE": "1"}


def local_place(folder: JobFolder) -> Place:
    """The environment of a job for this interpreter."""
    return place_for(folder, Interpreter.here())


def place_for(folder: JobFolder, interpreter: Interpreter) -> Place:
    """The environment of a job for an interpreter.

    Raises:
        RunnerError: The bundle's manifest or lock cannot be read.
    """
    try:
        manifest = json.loads((folder.bundle / bundle.MANIFEST).read_bytes())
        lock = (folder.bundle / manifest["requirements"]["file"]).read_bytes()
        like = {**asdict(interpreter), "version": interpreter.minor}
        text = json.dumps([_FORMAT, manifest["requirements"], _worker_needs(manifest), like])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunnerError(f"The bundle in {folder.bundle} does not say what it requires ({error}). Submit the job again.") from error
    key = hashlib.sha256(text.encode() + b"\0" + lock).hexdigest()[:24]
    parent = home_of(folder.path) / _FOLDER
    return Place(parent / key, parent / f"own-{interpreter.minor}-{own.digest()[:24]}")


def folder_in(home: Path) -> Path:
    """The folder of environments in a home folder; made, private, where it is missing."""
    return private_folder(home, _FOLDER)


def _worker_needs(manifest: Mapping[str, Any]) -> list[str]:
    """What the worker itself cannot do without."""
    version = manifest["packages"].get("cloudpickle")
    return [f"cloudpickle=={version}" if version else "cloudpickle>=2.2.1"]


def main(argv: list[str]) -> int:
    """``environment <job folder> <epoch> <bundle digest> <interpreter> <warming> <life pipe>``: build what an attempt needs.

    The interpreter is an ``Interpreter`` as JSON, the warming a command as JSON, which fills the cache of the environment; it may be empty.
    Why nothing could be built becomes the job's outcome.
    """
    path, epoch, digest, interpreter, warming, life = argv
    process.die_with(int(life))
    folder = JobFolder(Path(path))
    try:
        manifest = bundle.verify(folder.bundle, digest or None)
        place = build(folder, manifest, Interpreter(**json.loads(interpreter)))
        if json.loads(warming):
            warm(place, json.loads(warming))
    except Fenced:
        raise
    except HybridJobsError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        reason = "bundle" if isinstance(error, BundleRefused) else "environment"
        outcome.commit_failure(folder, int(epoch), reason, {**outcome.describe(error), "traceback": ""})
        return 1
    return 0


def build(folder: JobFolder, manifest: Mapping[str, Any], interpreter: Interpreter) -> Place:
    """Build a job's environment, unless it is there. Of several who want the same, one builds and the others wait.

    Raises:
        RunnerError: It cannot be had; the message has the installer's last lines.
    """
    place = place_for(folder, interpreter)
    folder_in(home_of(folder.path))
    with _only_builder(place.own):
        if not place.own.is_dir():
            with temporary_folder(place.own.parent, place.own.name) as temporary:
                own.unpack(temporary)
                compileall.compile_dir(temporary, quiet=2)  # it will be read-only
                commit_folder(temporary, place.own)
    with _only_builder(place.folder):
        if not place.folder.is_dir():
            with temporary_folder(place.folder.parent, place.folder.name) as temporary:
                print(f"hybridjobs: builds the environment {place.folder.name} for {folder.bundle.name}/{_lock_name(manifest)}", flush=True)
                _make(temporary, folder.bundle, manifest, interpreter, place.folder)
                crash_point("environment.made")
                commit_folder(temporary, place.folder)
    return place


def warm(place: Place, command: Sequence[str]) -> None:
    """Compile the simulator, if it is in an environment. Without it jobs compile for themselves, so a failure is only told."""
    with _only_builder(place.folder):
        if place.is_warm:
            return
        if any(place.folder.glob("lib/*/site-packages/numba")):
            print("hybridjobs: compiles the simulator for this environment", flush=True)
            code, _ = _run(command)
            if code:
                return
        write_bytes(place.cache / place.own.name, b"", durable=False)


@contextlib.contextmanager
def _only_builder(final: Path) -> Any:
    """The kernel lets go of the lock when a builder dies; what it left behind goes away with the next."""
    with locked(final.parent / f".{final.name}.lock", _PATIENCE_S):
        for left in final.parent.glob(f".{final.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _lock_name(manifest: Mapping[str, Any]) -> str:
    return str(manifest["requirements"]["file"])


def _make(folder: Path, packed: Path, manifest: Mapping[str, Any], interpreter: Interpreter, final: Path) -> None:
    from pl_hybridjobs.jobs import locks

    wanted = locks.requirements(packed / _lock_name(manifest), str(manifest["requirements"]["kind"]), interpreter)
    named = {locks.name_of(line) for line in wanted}
    make(folder, wanted, interpreter, final, more=[line for line in _worker_needs(manifest) if locks.name_of(line) not in named])


def make(folder: Path, wanted: Sequence[str], interpreter: Interpreter, final: Path, *options: str, more: Sequence[str] = ()) -> None:
    """Make a virtual environment.

    Args:
        folder: Exists and is empty.
        wanted: The lines of a requirements file.
        interpreter: For whom.
        final: Where the folder will lie in the end.
        options: More of pip's.
        more: Further requirements. Where those in the file have hashes, pip insists that all do: these are then installed after them.

    Raises:
        RunnerError: With the installer's last lines.
    """
    programs, site = folder / "bin", folder / "lib" / f"python{interpreter.minor}" / "site-packages"
    site.mkdir(parents=True)
    programs.mkdir()
    (folder / "cache").mkdir()
    for name in ("python", "python3", f"python{interpreter.minor}"):
        (programs / name).symlink_to(interpreter.executable)
    home = Path(interpreter.executable).parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = {interpreter.version}\n")
    has_hashes = any("--hash" in line for line in wanted)
    for number, lines in enumerate([wanted, more] if has_hashes and more else [[*wanted, *more]]):
        listing = folder / ("requirements.txt" if number == 0 else "more-requirements.txt")
        listing.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        install(listing, site, interpreter, *options)
    for program in (site / "bin").glob("*") if (site / "bin").is_dir() else ():
        first, newline, rest = program.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:  # pip wrote which interpreter it runs in itself
            first = f"#!{final}/bin/python".encode()
        if not (programs / program.name).exists():
            (programs / program.name).write_bytes(first + newline + rest)
            (programs / program.name).chmod(0o755)


def install(listing: Path, site: Path, interpreter: Interpreter, *options: str) -> None:
    """Install requirements into a folder, for an interpreter that need not run here.

    Args:
        listing: A file of requirements.
        site: The folder.
        interpreter: For whom.
        options: More of pip's.

    Raises:
        RunnerError: With the installer's last lines.
    """
    command = [*_pip(), "install", "--no-input", "--disable-pip-version-check", "--no-warn-conflicts", "--target", str(site)]
    command += [*interpreter.flags(), *options, "-r", str(listing)]
    code, tail = _run(command)
    if code:
        raise RunnerError(f"The environment could not be installed: pip ended with code {code}. Its last lines:\n{tail}")


def without_passwords(text: str) -> str:
    """With what stands before the host in addresses left out: not every pip hides it."""
    return re.sub(r"://[^/\s]+@", "://****@", text)


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Run a program, print what it prints. Returns its exit code and its last lines."""
    import subprocess

    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
    env = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env) as running:
        assert running.stdout is not None
        for line in running.stdout:
            text = without_passwords(line.decode(errors="replace").rstrip())
            tail.append(text)
            print(text, file=sys.stderr, flush=True)
    return running.returncode, "\n".join(tail)


def _pip() -> list[str]:
    """Pip of this interpreter, or the one that comes with Python."""
    from importlib.util import find_spec

    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    with contextlib.suppress(ModuleNotFoundError):
        import ensurepip

        bundled = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
        if bundled:
            return [sys.executable, f"{bundled[-1]}/pip"]
    raise RunnerError(
        f"{sys.executable} has no pip, which installs what a job's lock names. Install it: `python -m ensurepip`, "
        "`apt-get install python3-pip` on Debian, or `uv pip install pip` where uv made the environment."
    )
