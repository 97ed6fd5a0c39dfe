"""Who is a process, is it still there, and how to end it with all its children.

A pid alone proves nothing, because it is used again. A process is known by host, boot, pid name space, pid and start time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Every process of a job inherits this variable; leftovers are found by it.
TOKEN_VARIABLE = "HYBRIDJOBS_TOKEN"  # noqa: S105 - a variable's name, no secret
#: Supervisors and mirrors carry it: one that was started from inside a job is no leftover of that job.
OWNER_VARIABLE = "HYBRIDJOBS_SUPERVISOR"
_OF_A_JOB = {TOKEN_VARIABLE, OWNER_VARIABLE, "HYBRIDJOBS_JOB_FOLDER", "HYBRIDJOBS_ATTEMPT"}
_PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """One process, unmistakably.

    Attributes:
        host: Host name.
        boot: Changes with every boot (and differs between pid name spaces).
        pid: Process id.
        started: Start time as the kernel counts it, opaque.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None if there is none (a zombie counts as none)."""
        started = _start_time(pid)
        return None if started is None else cls(os.uname().nodename, boot_id(), pid, started)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Identity:
        """Read what ``to_json`` gave."""
        return cls(str(value["host"]), str(value["boot"]), int(value["pid"]), str(value["started"]))

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    def is_alive(self) -> bool | None:
        """True or False where that can be proved from here; None for a process on another machine."""
        if self.host != os.uname().nodename:
            return None
        if self.boot != boot_id():
            return False
        return _start_time(self.pid) == self.started


def current() -> Identity:
    """This process."""
    identity = Identity.of(os.getpid())
    if identity is None:  # /proc or ps hidden: then at least pid and boot
        return Identity(os.uname().nodename, boot_id(), os.getpid(), "")
    return identity


@functools.cache
def boot_id() -> str:
    """A text that changes with every boot and with the pid name space."""
    with contextlib.suppress(OSError):
        name_space = os.readlink("/proc/self/ns/pid")
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {name_space}"
    return _ask("sysctl", "-n", "kern.bootsessionuuid")


def _start_time(pid: int) -> str | None:
    if pid <= 0:
        return None
    if _PROC.joinpath("self").exists():
        stat = _stat(pid)
        return None if stat is None or stat[0] in "ZX" else stat[19]
    answer = _ask("ps", "-o", "state=,lstart=", "-p", str(pid))
    return answer[1:].strip() if answer and answer[0] != "Z" else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command's name: state, ppid, pgrp, session, ..."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _ask(*command: str) -> str:
    import subprocess

    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return answer.stdout.strip()


def spawn(
    argv: Sequence[str], env: Mapping[str, str], *, source: int | None = None, output: int | None = None, session: bool = False
) -> int:
    """Start a process, and return its pid. The caller may exit before it.

    Args:
        argv: The program's path and its arguments.
        env: Its whole environment.
        source: A file descriptor for its standard input; None: it has none.
        output: A file descriptor for its standard output and error; None: they go nowhere.
        session: Whether it leads a session, and so a process group, of its own.

    Not ``subprocess``, because that takes as long to import as half of the supervisor.
    """
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    if source is not None:
        actions[0] = (os.POSIX_SPAWN_DUP2, source, 0)
    if output is not None:
        actions[1:] = [(os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2)]
    return os.posix_spawn(argv[0], list(argv), dict(env), file_actions=actions, setsid=session)


def die_with(life: int) -> None:
    """End this process and its group as soon as the other end of a pipe is closed, however that comes about."""
    import threading

    def wait() -> None:
        os.read(life, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="hybridjobs-life").start()


def own_environment() -> dict[str, str]:
    """This process's environment for a supervisor: without what the job has put there inside of which we may be."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_A_JOB and not name.startswith("AMZN_BRAKET_")}
    return {**inherited, OWNER_VARIABLE: "1"}


def _owns_another_job(pid: int) -> bool:
    if _PROC.joinpath("self").exists():
        with contextlib.suppress(OSError):
            return f"{OWNER_VARIABLE}=1".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return False
    return f"{OWNER_VARIABLE}=1" in _ask("ps", "-E", "-o", "command=", "-p", str(pid)).split()


def reap(pid: int) -> None:
    """Collect a child that has ended, if it is ours, so that it is no zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(_PROC):
            if entry.name.isdecimal():
                yield int(entry.name)


def of_token(token: str) -> list[int]:
    """The pids of this user's processes that carry a job's token in their environment."""
    if _PROC.joinpath("self").exists():
        needle = f"{TOKEN_VARIABLE}={token}".encode()
        found = []
        for pid in _pids():
            with contextlib.suppress(OSError):
                if needle in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                    found.append(pid)
        return found
    lines = _ask("ps", "-E", "-x", "-o", "pid=,command=").splitlines()
    return [int(line.split(None, 1)[0]) for line in lines if f"{TOKEN_VARIABLE}={token}" in line]


def descendants(pid: int) -> list[int]:
    """All living children of a process, and theirs, and so on; without supervisors of other jobs and what these started."""
    children: dict[int, list[int]] = {}
    if _PROC.joinpath("self").exists():
        for other in _pids():
            stat = _stat(other)
            if stat is not None and stat[0] not in "ZX":
                children.setdefault(int(stat[1]), []).append(other)
    else:
        for line in _ask("ps", "-A", "-o", "pid=,ppid=").splitlines():
            child, parent = map(int, line.split())
            children.setdefault(parent, []).append(child)
    found: list[int] = []
    queue = [pid]
    while queue:
        mine = [child for child in children.get(queue.pop(), []) if not _owns_another_job(child)]
        found += mine
        queue += mine
    return found


def of_session(leader: Identity) -> list[int]:
    """The pids of all living processes in the session that a process leads or led; none if its number is somebody else's by now."""
    if leader.host != os.uname().nodename or leader.boot != boot_id() or Identity.of(leader.pid) not in (None, leader):
        return []
    found = []
    for pid in _pids() if _PROC.joinpath("self").exists() else map(int, _ask("ps", "-A", "-o", "pid=").split()):
        with contextlib.suppress(OSError):
            if os.getsid(pid) == leader.pid and _start_time(pid) is not None:
                found.append(pid)
    return found


def signal_group(pid: int, number: int) -> None:
    """Signal a process group; none is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def signal_one(pid: int, number: int) -> None:
    """Signal a process; none is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_all(token: str, *, parent: int | None = None, timeout_s: float = 5.0) -> list[int]:
    """SIGKILL everything that carries a token or descends from a process, until nothing is left.

    Args:
        token: The job's token.
        parent: Also all descendants of this process (itself excluded).
        timeout_s: When to give up.

    Returns:
        The pids that are still there (for example stuck in the kernel).
    """
    deadline = time.monotonic() + timeout_s
    me = os.getpid()
    while True:
        left = set(of_token(token)) | set(descendants(parent) if parent else ())
        left = {pid for pid in left if pid != me and _start_time(pid) is not None}
        if not left or time.monotonic() > deadline:
            return sorted(left)
        for pid in left:
            signal_one(pid, signal.SIGKILL)
        if parent == me:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        time.sleep(0.01)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies (Linux), so that none escapes ``kill_all``."""
    if sys.platform != "linux":
        return
    import ctypes

    subreaper = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(subreaper, 1, 0, 0, 0)


def resident_mb(pids: Sequence[int]) -> float:
    """Resident memory of some processes together, in megabytes (10**6 bytes)."""
    if _PROC.joinpath("self").exists():
        page = os.sysconf("SC_PAGE_SIZE")
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError, IndexError, ValueError):
                total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * page
        return total / 1e6
    text = _ask("ps", "-o", "rss=", "-p", ",".join(map(str, pids)))
    return sum(int(line) for line in text.split()) * 1024 / 1e6
