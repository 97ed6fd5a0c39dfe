"""Jobs in containers of this machine: podman or docker, whatever image, the same supervisor.

The bundle is read-only, the job's folder is the only place that outlasts the container, and there is no network unless asked. The
folder has the same path inside, so paths in its files hold on both sides.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from pl_hybridjobs.errors import RunnerError, says_its_fields
from pl_hybridjobs.home import default_home, home_of
from pl_hybridjobs.jobs import device, engine, launch, own, process
from pl_hybridjobs.jobs.durable import dump_json, write_bytes
from pl_hybridjobs.jobs.engine import Engine, cure_for
from pl_hybridjobs.jobs.environment import Interpreter, Place, folder_in, place_for
from pl_hybridjobs.jobs.exits import EXIT_MEMORY
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.init import CACHE_VARIABLE
from pl_hybridjobs.jobs.spec import JobSpec, Resources
from pl_hybridjobs.jobs.supervised import SupervisedRunner

ENVIRONMENTS = ("image", "locked")
_WARMING = "-warming"  # what compiles before the worker starts
_NOT_STARTED = 125  # both engines: the fault is theirs, not the program's
_NO_PROGRAM = (126, 127)
_KILLED = 137  # 128 + SIGKILL, as shells have it
_LOG_TAIL_BYTES = 4000
_LEAST_PIDS = 8  # of the worker itself, before it calls anything
#: Of the caller's variables these go in, if there is a network: credentials are never written anywhere.
_CREDENTIALS = ("AWS_", "BRAKET_")
_SETTINGS = "HYBRIDJOBS_"
#: What engines' clients read of their own environment: a job's variables of these names cannot go in through it.
_CLIENTS = ("BUILDAH_", "CONTAINER", "DBUS_", "DOCKER_", "HOME", "LD_", "PATH", "PODMAN_", "REGISTRY_", "STORAGE_", "TMPDIR", "XDG_")
_COMPILE = "import numpy; from pl_hybridjobs.sim import drivers; drivers.link(numpy.dtype('float64'))"
#: Tells of an interpreter what ``Probe`` holds, as JSON.
_PROBE = """
import json, os, platform, sys, sysconfig
found = {"root": "", "version": "", "path": os.environ.get("PATH", "")}
try:
    import importlib.util as u, importlib.metadata as m
    found["root"] = os.path.dirname(os.path.dirname(u.find_spec("pl_hybridjobs").origin))
    found["version"] = m.version("pl-hybridjobs")
except Exception:
    pass
libc, version = platform.libc_ver()
found["interpreter"] = {
    "executable": getattr(sys, "_base_executable", "") or sys.executable,
    "version": platform.python_version(),
    "platform": sysconfig.get_platform(),
    "glibc": version if libc == "glibc" else "",
}
print(json.dumps(found))
"""


@says_its_fields
@dataclass(frozen=True)
class ContainerRunner(SupervisedRunner):
    """Each attempt is a container. ``Resources`` become limits of it: ``memory_mb``, and ``threads`` as cpus.

    Attributes:
        image: The image's name; None for what ``hybridjobs image build`` makes from this version.
        engine: ``podman`` or ``docker``; None for the one that is there, podman first.
        network: False for none, True for the engine's own, or a network's name, for example ``host``.
        gpus: None, ``"all"``, a number, or indices with commas between.
        pids: How many processes and threads it may have; None for the engine's own limit.
        cpus: How many cores it may use, also parts of one; None for ``Resources.threads``.
        environment: ``image``: the job runs with what the image holds, which must have this package. ``locked``: with what the bundle's
            lock names, installed once for each lock; the image needs Python only.
        mounts: What else of this machine it sees: ``"source"``, ``"source:target"``, read-only, or ``"source:target:rw"``.
        python: The image's interpreter.
    """

    image: str | None = None
    engine: str | None = None
    network: bool | str = False
    gpus: str | int | None = None
    pids: int | None = None
    cpus: float | None = None
    environment: str = "image"
    mounts: Sequence[str] = ()
    python: str = "python3"
    name: ClassVar[str] = "container"

    def __post_init__(self) -> None:
        if isinstance(self.mounts, list):  # as it comes from a job's folder
            object.__setattr__(self, "mounts", tuple(self.mounts))

    @property
    def installs(self) -> bool:
        """Whether what the bundle requires is installed for the job, so that it need not be here."""
        return self.environment == "locked"

    def complaints(self, spec: JobSpec) -> list[str]:
        """What is wrong with the options, and with the two together."""
        found = [
            f"ContainerRunner: {name} must be a text that is not empty, not {value!r}"
            for name, value in (("image", self.image), ("python", self.python))
            if (name, value) != ("image", None) and (not isinstance(value, str) or not value or value.startswith("-"))
        ]
        if self.engine not in (None, *engine.ENGINES):
            found.append(f"ContainerRunner: engine must be 'podman', 'docker' or None, not {self.engine!r}")
        if self.environment not in ENVIRONMENTS:
            found.append(f"ContainerRunner: environment must be 'image' or 'locked', not {self.environment!r}")
        if not isinstance(self.network, bool | str) or self.network == "":
            found.append(f"ContainerRunner: network must be False, True or a network's name, not {self.network!r}")
        if not self.network:
            found += [
                f"device {name!r} needs a network, and the container has none; take ContainerRunner(network=True)"
                for name in device.needing_network(spec.device)
            ]
        return [*found, *self._number_complaints(), *self._mount_complaints()]

    def _number_complaints(self) -> list[str]:
        found = []
        if self.pids is not None and (isinstance(self.pids, bool) or not isinstance(self.pids, int) or self.pids < _LEAST_PIDS):
            found.append(f"ContainerRunner: pids must be a whole number of at least {_LEAST_PIDS} or None, not {self.pids!r}")
        if self.cpus is not None and (isinstance(self.cpus, bool) or not isinstance(self.cpus, int | float) or not 0.01 <= self.cpus < inf):
            found.append(f"ContainerRunner: cpus must be a number of at least 0.01 or None, not {self.cpus!r}")
        is_number = isinstance(self.gpus, int) and not isinstance(self.gpus, bool) and self.gpus > 0
        if not is_number and not (self.gpus is None or (isinstance(self.gpus, str) and re.fullmatch(r"all|\d+(,\d+)*", self.gpus))):
            found.append(f"ContainerRunner: gpus must be 'all', a number of at least 1 or indices like '0,2', not {self.gpus!r}")
        return found

    def _mount_complaints(self) -> list[str]:
        if not isinstance(self.mounts, tuple) or not all(isinstance(text, str) for text in self.mounts):
            return [f"ContainerRunner: mounts must be a list of texts, not {self.mounts!r}"]
        found = []
        for text in self.mounts:
            source, _, rest = text.partition(":")
            target, _, mode = rest.partition(":")
            if mode not in ("", "ro", "rw") or not os.path.isabs(source) or not os.path.isabs(target or source):  # noqa: PTH117
                found.append(f"ContainerRunner: mounts has {text!r}; write '/source', '/source:/target' or '/source:/target:rw'")
            elif not os.path.lexists(source):
                found.append(f"ContainerRunner: mounts names {source}, which is not there")
        return found

    def preflight(self, spec: JobSpec) -> list[str]:
        """What is wrong with the engine and the image, found by asking them: one sentence each."""
        try:
            box = Box(self, engine.find(self.engine), spec, default_home())
            if box.image_id is None:
                return [f"{box.engine.name} has no image {box.image!r} on this machine; {self._how_to_get(box)}"]
            found = box.probe()
        except RunnerError as error:
            return [str(error)]
        return self._skew(found, box)

    def _how_to_get(self, box: Box) -> str:
        if self.image is None:
            return "build it: `hybridjobs image build`"
        return f"get it with `{box.engine.name} pull {box.image}`, build one with `hybridjobs image build`, or see `hybridjobs image list`"

    def _skew(self, found: Probe, box: Box) -> list[str]:
        here, image, problem = Interpreter.here(), f"image {box.image!r}", ""
        if found.interpreter.minor != here.minor:
            problem = (
                f"{image} has Python {found.interpreter.version} ({self.python}), and this is {here.version}: pickled code only loads in "
                f"the same minor version. Take an image with Python {here.minor}, or submit from {found.interpreter.minor}"
            )
        elif self.environment == "locked":
            pass
        elif not found.root:
            problem = (
                f"{image} has no worker: pl-hybridjobs is not installed there for {self.python}. Build one on top of it with "
                f"`hybridjobs image build --base {box.image}`, or take environment='locked', which needs nothing but Python"
            )
        elif found.version != own.version():
            problem = (
                f"{image} has pl-hybridjobs {found.version or 'of no version'}, and this is {own.version()}; build it anew with "
                "`hybridjobs image build`, or take environment='locked'"
            )
        return [problem] if problem else []


def default_image(kind: str = "base") -> str:
    """The image that ``hybridjobs image build KIND`` makes from this version."""
    return f"hybridjobs-{kind}:{own.version()}"


@dataclass(frozen=True)
class Probe:
    """What an image has.

    Attributes:
        interpreter: Its Python.
        root: The folder that this package is imported from there, or "".
        version: This package's version there.
        path: Its ``PATH``.
    """

    interpreter: Interpreter
    root: str
    version: str
    path: str

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Probe:
        """Read what ``_PROBE`` prints."""
        return cls(**{**told, "interpreter": Interpreter(**told["interpreter"])})


def look_into(engine: Engine, image: str, python: str, *options: str) -> Probe:
    """See what an image has, by running it.

    Raises:
        RunnerError: The engine cannot; or the image has no such Python.
    """
    try:
        return Probe.of(json.loads(engine.run("run", *options, "--entrypoint", python, image, "-c", _PROBE)))
    except RunnerError as error:
        if any(f"exit code {code}" in str(error) for code in _NO_PROGRAM) and not cure_for(str(error)):
            advice = "Name its interpreter with python=, or build one with `hybridjobs image build`."
            raise RunnerError(f"image {image!r} has no {python} that starts. {advice}\n{error}") from error
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise RunnerError(f"{python} in image {image!r} is no Python: it answers other than asked.") from error


@dataclass(frozen=True)
class Box:
    """What all containers of a job have in common.

    Attributes:
        home: Where probes are kept.
    """

    runner: ContainerRunner
    engine: Engine
    spec: JobSpec
    home: Path

    @property
    def image(self) -> str:
        """The image's name."""
        return self.runner.image or default_image()

    @functools.cached_property
    def image_id(self) -> str | None:
        """The image's id; None if it is not on this machine."""
        return self.engine.image_id(self.image)

    def options(self) -> list[str]:
        """Isolation and limits."""
        runner, resources = self.runner, self.spec.resources
        network = "none" if not runner.network else None if runner.network is True else str(runner.network)
        found = ["--rm", "--pull", "never", "--log-driver", "none", "--workdir", "/"]
        found += ["--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"]  # noqa: S108 - its own
        # label=disable: SELinux would otherwise keep the container from the job's folder, or have it relabelled.
        found += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
        found += self.engine.user()
        found += ["--network", network] if network else []
        if resources.memory_mb:
            limit = f"{int(resources.memory_mb * 1e6)}b"
            found += ["--memory", limit, "--memory-swap", limit]
        cpus = runner.cpus or resources.threads
        found += ["--cpus", f"{cpus:g}"] if cpus else []
        found += ["--pids-limit", str(runner.pids)] if runner.pids else []
        found += self.engine.gpus(runner.gpus) if runner.gpus is not None else []
        for text in runner.mounts:
            source, _, rest = text.partition(":")
            target, _, mode = rest.partition(":")
            found += engine.mount(source, target=target or source, writable=mode == "rw")
        return found

    def probe(self) -> Probe:
        """Look into the image, once for each image and way to run it: that also shows whether the engine can.

        Raises:
            RunnerError: It cannot; or the image has no such Python.
        """
        key = json.dumps([self.engine.path, self.image_id, self.runner.python, self.options(), _PROBE])
        kept = self.home / "environments" / f"image-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        try:
            return Probe.of(json.loads(kept.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError):
            pass
        try:
            found = look_into(self.engine, self.image, self.runner.python, *self.options())
        except RunnerError as error:
            if f"exit code {_KILLED}" in str(error) and self.spec.resources.memory_mb:
                raise RunnerError(f"memory_mb={self.spec.resources.memory_mb:g} is too little: Python itself does not start.") from error
            raise
        folder_in(self.home)
        write_bytes(kept, dump_json(asdict(found)), durable=False)
        return found


@dataclass(frozen=True)
class ContainerLaunch:
    """See ``launch.Launch``: the process to wait for is the engine's client, which passes signals and the exit code on."""

    is_local: ClassVar[bool] = False
    folder: JobFolder
    spec: JobSpec

    @functools.cached_property
    def _box(self) -> Box:
        runner = ContainerRunner(**self.spec.runner_options)
        return Box(runner, engine.find(runner.engine), self.spec, home_of(self.folder.path))

    def container(self, epoch: int) -> str:
        """The container's name."""
        return f"hybridjobs-{self.spec.id}-{epoch}"

    def preparation(self, work: launch.Work) -> Sequence[str] | None:
        """See ``Launch``."""
        place = self._place
        if place is None or (place.is_built and place.is_warm):
            return None
        return launch.prepared(self.folder, work, asdict(self._box.probe().interpreter), self._warming(place, work.epoch))

    def _warming(self, place: Place, epoch: int) -> list[str]:
        """What compiles the simulator, in the image, into the environment's cache: jobs cannot write it, and each would compile again."""
        box = replace(self._box, spec=replace(self.spec, resources=Resources()))
        mounts = [*engine.mount(place.folder), *engine.mount(place.own), *engine.mount(place.cache, writable=True)]
        env = {"HOME": "/tmp", "NUMBA_CACHE_DIR": f"{place.cache}/numba"}  # noqa: S108 - its own
        given = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        code = f"import sys; sys.path.append({str(place.own)!r}); {_COMPILE}"
        named = ("--name", f"{self.container(epoch)}{_WARMING}")
        return [
            box.engine.path,
            "run",
            *named,
            *box.options(),
            *mounts,
            *given,
            "--entrypoint",
            str(place.python),
            box.image,
            "-P",
            "-c",
            code,
        ]

    def start(self, work: launch.Work, *, output: int, life: int) -> int:
        """See ``Launch``. The life pipe is the container's standard input."""
        client = {name: value for name, value in os.environ.items() if name != process.OWNER_VARIABLE}
        client |= {name: value for name, value in self.spec.resources.env.items() if not name.startswith(_CLIENTS)}
        argv = self.command(work, os.environ)
        try:
            with contextlib.chdir(self.folder.attempt(work.epoch).path):  # podman leaves its note of a lack of memory there
                return process.spawn(argv, client, source=life, output=output, session=True)
        except OSError as error:
            raise RunnerError(f"Cannot start {argv[0]}: {error.strerror}.") from error

    def command(self, work: launch.Work, inherited: Mapping[str, str]) -> list[str]:
        """What runs the worker.

        Args:
            work: What it is told.
            inherited: The caller's environment, of which some names go in.
        """
        box, place = self._box, self._place
        probe = box.probe()
        path, home = self.folder.path, home_of(self.folder.path)
        env = {"HOME": "/tmp", "XDG_CACHE_HOME": "/tmp/.cache", "HYBRIDJOBS_HOME": str(home), **work.env}  # noqa: S108 - its own
        mounts: list[str] = []
        if box.runner.network or device.remote_names(self.spec.device):
            mounts += _purse(home, path, self.folder.attempt(work.epoch).path)
        mounts += [*engine.mount(path, writable=True), *engine.mount(self.folder.bundle)]
        python, root = box.runner.python, probe.root
        if place is not None:
            python, root = str(place.python), str(place.own)
            mounts += [*engine.mount(place.folder), *engine.mount(place.own)]
            env |= {**place.variables({"PATH": probe.path}), CACHE_VARIABLE: str(place.cache)}
        names = [name for name in inherited if _goes_in(name, bool(box.runner.network)) and name not in env]
        # Every user of this machine sees command lines: the values of the job's own variables are not in them.
        hidden = {name for name in self.spec.resources.env if env.get(name) == work.env.get(name) and not name.startswith(_CLIENTS)}
        return [
            *(box.engine.path, "run", "--interactive", "--name", self.container(work.epoch)),
            *box.options(),
            *mounts,
            *(part for name, value in env.items() for part in ("--env", name if name in hidden else f"{name}={value}")),
            *(part for name in names for part in ("--env", name)),
            *("--entrypoint", python, box.image),
            *("-P", "-S", "-c", launch.program("pl_hybridjobs.jobs.init"), root),
            *work.arguments(path, 0),
        ]

    def signal(self, pid: int, number: int) -> None:
        """See ``Launch``. To the client alone: it passes it on, and a rootless one has a second process, which would do so again."""
        process.signal_one(pid, number)

    def end(self, epoch: int, *, code: int | None = None, parent: int | None = None) -> list[int]:
        """See ``Launch``. A client that ended by itself has seen its container end."""
        if code is None or code < 0 or code == _NOT_STARTED:
            self._box.engine.remove(self.container(epoch), f"{self.container(epoch)}{_WARMING}")
        return process.kill_all(launch.token_of(self.spec.id, epoch), parent=parent)

    def verdict(self, code: int, log: Path) -> launch.Verdict:
        """See ``Launch``."""
        if code == EXIT_MEMORY or (code == _KILLED and (log.parent / "oom").exists()):
            limit = self.spec.resources.memory_mb
            if limit:
                return launch.Verdict(-9, "memory", f"used more than memory_mb={limit:g}, and the kernel killed it (exit code 137)")
            return launch.Verdict(-9, "", "the worker was killed because the machine had no memory left (exit code 137)")
        if code == _NOT_STARTED or code in _NO_PROGRAM:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
                said = file.read().decode(errors="replace")
            return launch.Verdict(code, "", self._box.engine.refusal(f"{self._box.engine.name} run", code, said))
        if code > 128:
            detail = "the worker or its container was killed (SIGKILL, exit code 137): from outside, or because memory ran out"
            return launch.Verdict(128 - code, "", detail if code == _KILLED else "")
        return launch.Verdict(code)

    @functools.cached_property
    def _place(self) -> Place | None:
        return place_for(self.folder, self._box.probe().interpreter) if self._box.runner.environment == "locked" else None


def _goes_in(name: str, network: bool) -> bool:
    return name.startswith((_SETTINGS, *(_CREDENTIALS if network else ()))) and name not in (process.OWNER_VARIABLE, process.TOKEN_VARIABLE)


def _purse(home: Path, path: Path, attempt: Path) -> list[str]:
    """What may buy must see the user's budget, and write down what it spends; other jobs stay out of sight.

    Engines put tmpfs below all other mounts, so it is an empty folder that hides the jobs.
    """
    kept = [part for name in ("environments", "index.sqlite") if (home / name).exists() for part in engine.mount(home / name)]
    if path.parent != home / "jobs":
        return [*engine.mount(home, writable=True), *kept]
    mask = attempt / ".jobs"
    (mask / path.name).mkdir(mode=0o700, parents=True, exist_ok=True)
    return [*engine.mount(home, writable=True), *engine.mount(mask, target=path.parent), *kept]
