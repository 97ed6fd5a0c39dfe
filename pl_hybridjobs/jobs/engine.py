"""Container engines by their command line: podman and docker, and what to do about what they say."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.errors import RunnerError

ENGINES = ("podman", "docker")
_TIMEOUT_S = 120.0

_CONF = """write a file containers.conf with
    [containers]
    default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
    [engine]
    runtime = "runc"
    cgroup_manager = "cgroupfs"
    events_logger = "file"
and name it: export CONTAINERS_CONF=/path/to/containers.conf"""
_ULIMITS = f"This machine lets nobody raise limits, so containers need small ones: {_CONF}"
_RUNTIME = (
    f"The runtime crun wants pure cgroups v2 (or systemd), which are not here; runc needs neither: `apt-get install runc`, then {_CONF}"
)
_LIMITS = """Rootless containers get limits from cgroups v2 only: boot with systemd.unified_cgroup_hierarchy=1, or run without limits \
(memory_mb=None, cpus=None, pids=None, threads=None)."""
_SOCKET = "Let yourself use it: `sudo usermod -aG docker $USER`, and log in again."
_IDS = """Rootless containers need user ids of their own: `sudo apt-get install uidmap`, then \
`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` and `podman system migrate`."""
_NAME_SPACES = "Let users make name spaces: `sudo sysctl -w kernel.unprivileged_userns_clone=1` (or user.max_user_namespaces=15000)."
_FULL = "The disk of the engine's storage is full: `podman system prune` (or `docker system prune`) takes away what nothing uses."
_NAME = "This is no name of an image: small letters, as in `name:tag` or `registry.example/name:tag`."
_REGISTRY = "The registry cannot be reached. Take an image that is here: `--base IMAGE`, or one without a registry (containers/README.md)."
_NVIDIA = "Install the NVIDIA Container Toolkit, and for podman `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`."
#: What an engine says -> what helps. The first that matches is told.
_CURES = {
    r"setrlimit\W.*(not permitted|denied)": _ULIMITS,
    r"cgroups? in hybrid mode|cgroup.*not supported|systemd.*(cgroup|dbus)|dbus.*(no such file|connect)": _RUNTIME,
    r"resource limits.*(rootless|cgroups? v1)|cgroups? v1.*rootless|controller .* is not available": _LIMITS,
    r"permission denied.*docker.*sock|docker.*sock.*permission denied": _SOCKET,
    r"cannot connect to the docker daemon|is the docker daemon running": "Start it: `sudo systemctl start docker`, or open Docker Desktop.",
    r"cannot connect to podman|podman machine": "Start it: `podman machine init` once, then `podman machine start`.",
    r"newuidmap|newgidmap|no subuid ranges|subordinate|insufficient (uids|gids)|not enough ids": _IDS,
    r"cannot (clone|re-exec).*not permitted|user namespaces? .*(disabled|not enabled|not permitted)|unshare.*not permitted": _NAME_SPACES,
    r"runtime \"?[\w-]+\"? not found|could not find a working .*runtime": "It has no runtime: `sudo apt-get install crun` (or runc).",
    r"fuse-overlayfs|overlay.*(not supported|operation not permitted|invalid argument)": "`sudo apt-get install fuse-overlayfs` helps.",
    r"no space left": _FULL,
    r"unable to set memory limit|minimum memory limit|memory limit too low": "No container starts with so little: take a larger memory_mb.",
    r"invalid reference format|must be lowercase": _NAME,
    r"dial tcp|pinging container registry|no such host|connection refused": _REGISTRY,
    r"nvidia|CDI|could not select device driver": _NVIDIA,
}


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: ``podman`` or ``docker``.
        path: Its program.
    """

    name: str
    path: str

    def run(self, *arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Run one of its commands, and give what it prints.

        Raises:
            RunnerError: It fails; its own message, and what to do about it.
        """
        import subprocess

        try:
            done = subprocess.run(
                [self.path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise RunnerError(f"`{self.name} {arguments[0]}` gave no answer in {timeout_s:g} s.") from None
        except OSError as error:
            raise RunnerError(f"{self.path} cannot be run: {error.strerror}.") from error
        if done.returncode:
            raise RunnerError(self.refusal(f"{self.name} {arguments[0]}", done.returncode, done.stderr or done.stdout))
        return done.stdout

    def refusal(self, command: str, code: int, output: str) -> str:
        """A failed command as a message: what it said itself, and the cure."""
        said = " ".join(line.strip() for line in output.strip().splitlines()[-5:]) or "nothing"
        cure = cure_for(output)
        return f"`{command}` failed (exit code {code}): {said}" + (f"\n{cure}" if cure else "")

    def image_id(self, image: str) -> str | None:
        """An image's id; None if it is not on this machine.

        Raises:
            RunnerError: The engine does not work.
        """
        try:
            return self.run("image", "inspect", "--format", "{{.Id}}", image).strip().removeprefix("sha256:") or None
        except RunnerError as error:
            if re.search(r"no such image|image not known|failed to find image|no image", str(error), re.IGNORECASE):
                return None
            raise RunnerError(f"{image!r}: {error}") from error

    def user(self) -> list[str]:
        """The options by which files that a container writes belong to the caller.

        A rootless engine maps the container's root to its user; a rootful one does not map.
        """
        if self.name == "podman":
            is_rootless = os.geteuid() != 0
        else:
            is_rootless = "rootless" in self.run("info", "--format", "{{json .SecurityOptions}}")
        return ["--user", "0:0" if is_rootless else f"{os.geteuid()}:{os.getegid()}"]

    def gpus(self, gpus: str | int) -> list[str]:
        """The options that give a container GPUs: ``"all"``, a number of them, or their indices with commas between."""
        if self.name == "docker":
            text = str(gpus)
            return ["--gpus", f'"device={text}"' if "," in text else text]
        names = ["all"] if gpus == "all" else [str(i) for i in range(gpus)] if isinstance(gpus, int) else gpus.split(",")
        return [part for name in names for part in ("--device", f"nvidia.com/gpu={name.strip()}")]

    def remove(self, *containers: str) -> None:
        """End containers and remove them; one that is not there is no error.

        Raises:
            RunnerError: One is still there.
        """
        options = ["--force", "--ignore", "--time", "0"] if self.name == "podman" else ["--force"]
        try:
            self.run("rm", *options, *containers)
        except RunnerError as error:
            if not re.search(r"no such container|no container with", str(error), re.IGNORECASE):
                raise


def cure_for(output: str) -> str:
    """What helps against what an engine says, or ""."""
    return next((cure for pattern, cure in _CURES.items() if re.search(pattern, output, re.IGNORECASE)), "")


def find(name: str | None = None) -> Engine:
    """The engine of a name, or the first that is installed, podman first.

    Raises:
        RunnerError: There is none.
    """
    for candidate in [name] if name else ENGINES:
        path = shutil.which(candidate)
        if path is not None:
            return Engine(Path(candidate).name, path)
    if sys.platform == "darwin":
        cure = "`brew install podman`, then `podman machine init` and `podman machine start`; or Docker Desktop"
    else:
        cure = f"`sudo apt-get install {'docker.io' if name == 'docker' else 'podman crun uidmap'}` on Debian and Ubuntu"
    raise RunnerError(
        f"There is no {name or 'podman and no docker'} on PATH. Install one: {cure}. Or run the job without a container: runner='local', "
        "LocalRunner(sandbox=True)."
    )


def mount(source: str | os.PathLike[str], *, target: str | os.PathLike[str] | None = None, writable: bool = False) -> Sequence[str]:
    """The options that show a container a file or folder, by default at the same path.

    Raises:
        RunnerError: The path has a colon, which ends it in the engines' syntax.
    """
    here, there = os.fspath(source), os.fspath(target or source)
    if ":" in here or ":" in there:
        raise RunnerError(f"{here} cannot be shown to a container: there is a colon in its path. Set HYBRIDJOBS_HOME to another folder.")
    return ("--volume", f"{here}:{there}" + ("" if writable else ":ro"))
