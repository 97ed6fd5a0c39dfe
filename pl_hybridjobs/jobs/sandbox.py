"""A light sandbox for a worker: bubblewrap (https://github.com/containers/bubblewrap), which needs no image and no daemon.

The worker sees the system's programs and libraries, its interpreter with what is installed for it, and its job's folder, nothing else
of the disk: no home folder, so no keys and no other jobs. It cannot see other processes, gains no rights, and has no network unless asked.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.home import home_of
from pl_hybridjobs.jobs.folder import JobFolder

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt/homebrew")
#: Of /etc only what says how to link, which time it is, and (with a network) whom to trust and to ask.
_SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives", "/etc/passwd", "/etc/group")
_NETWORK_SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")
_WHERE = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]))"
_START_S = 60.0


def complaint() -> str | None:
    """Why there can be no sandbox here, or None."""
    if sys.platform != "linux":
        return "sandbox= needs bubblewrap, which Linux only has; use runner='container', or leave sandbox out"
    if shutil.which("bwrap") is None:
        return (
            "sandbox= needs bubblewrap, and there is no `bwrap` on PATH; install it: `apt-get install bubblewrap` on Debian and Ubuntu, "
            "`dnf install bubblewrap` on Fedora"
        )
    return None


def wrapped(argv: Sequence[str], env: Mapping[str, str], folder: JobFolder, own: Path, *, network: bool, buys: bool) -> list[str]:
    """A command, in a sandbox.

    Args:
        argv: Begins with the path of an interpreter.
        env: Its environment.
        folder: The job's.
        own: Where this package is.
        network: Whether it may speak to others.
        buys: Whether it must see the user's budget.

    Raises:
        RunnerError: There is no bubblewrap, or the interpreter does not start.
    """
    problem = complaint()
    bwrap = shutil.which("bwrap")
    if problem is not None or bwrap is None:
        raise RunnerError(f"{problem}.")
    settings = [*_SETTINGS, *(_NETWORK_SETTINGS if network else ())]
    bound = [*_readable([*_SYSTEM, *settings]), *_readable([*_packages(argv[0], env), str(own)])]
    return [
        bwrap,
        "--die-with-parent",
        "--unshare-all",
        *(["--share-net"] if network else []),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"),  # noqa: S108 - a private one
        *(part for path in dict.fromkeys(bound) for part in _binding(path)),
        *(_purse(home_of(folder.path)) if buys else ()),
        *("--bind", str(folder.path), str(folder.path)),
        *("--ro-bind-try", str(folder.bundle), str(folder.bundle)),
        *("--chdir", str(folder.path), "--setenv", "HOME", "/tmp"),  # noqa: S108
        "--",
        *argv,
    ]


def _purse(home: Path) -> list[str]:
    """What may buy must see the user's budget, and write down what it spends; other jobs stay out of sight."""
    masked = ["--tmpfs", str(home / "jobs")]
    kept = [part for name in ("environments", "index.sqlite") for part in ("--ro-bind-try", str(home / name), str(home / name))]
    return ["--bind", str(home), str(home), *masked, *kept]


def _packages(python: str, env: Mapping[str, str]) -> Iterator[str]:
    """Where an interpreter and everything that it can import lies."""
    import subprocess

    try:
        done = subprocess.run([python, "-P", "-c", _WHERE], env=dict(env), capture_output=True, text=True, timeout=_START_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"{python} does not start: {error}") from error
    if done.returncode:
        raise RunnerError(f"{python} does not start: {done.stderr.strip()}")
    found = [path for path in json.loads(done.stdout) if path]  # a virtual environment is a prefix; other links lead there from anywhere
    yield from found
    for path in (str(Path(python).absolute()), os.path.realpath(python)):
        if not any(Path(path).is_relative_to(prefix) for prefix in (*found, *_SYSTEM)):
            yield path


def _readable(paths: Sequence[str] | Iterator[str]) -> list[str]:
    return [path for path in paths if os.path.lexists(path) and path != "/"]


def _binding(path: str) -> list[str]:
    """A link of the system (``/lib`` -> ``usr/lib``) stays one; of settings and packages, what it leads to counts."""
    if path in _SYSTEM and Path(path).is_symlink():
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", os.path.realpath(path), path]
