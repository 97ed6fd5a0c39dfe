"""The instance of one emulated job: holds all of its processes, and leaves none behind.

Started as ``python -S -I keeper.py PROGRAM ARGUMENT...``; it needs the standard library only. Standard input is a pipe from the
emulator: a byte or its end (the emulator was killed) ends the instance at once. SIGTERM is passed on to the program's process group.
When the program ends, so does everything that it started, as in a container. The exit code is the program's, 128 + N for signal N.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_LOST = 128 + signal.SIGKILL
_PATIENCE_S = 5.0


def main(argv: list[str]) -> int:
    """Run a program until it ends or the pipe does. Returns the exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = _start(argv)
    signal.signal(signal.SIGTERM, lambda *_: _signal_group(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = _reap(child)
    while code is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready:
            code = _LOST
            break
        os.read(woken, 64)
        code = _reap(child)
    _signal_group(child, signal.SIGKILL)
    _kill_all()
    return code


def _start(argv: list[str]) -> int:
    ordinary = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM)
    nothing = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=nothing, setsid=True, setsigmask=(), setsigdef=ordinary)


def _reap(child: int) -> int | None:
    """Collect all that ended; the program's exit code where it is among them."""
    code = None
    while (ended := _next_dead())[0] > 0:
        if ended[0] == child:
            status = os.waitstatus_to_exitcode(ended[1])
            code = status if status >= 0 else 128 - status
    return code


def _next_dead() -> tuple[int, int]:
    """The pid and wait status of a child that ended; pid 0: none has, -1: there are no children."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return -1, 0


def _kill_all() -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        while (dead := _next_dead()[0]) > 0:
            pass
        if dead < 0:
            return
        time.sleep(0.002)


def _descendants(pid: int) -> list[int]:
    """Living processes below one, whatever their sessions; orphans come to it, because it is a subreaper. Linux only."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", errors="replace") as file:  # noqa: PTH123 - light imports
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    queue = [pid]
    while queue:
        mine = children.get(queue.pop(), [])
        found += mine
        queue += mine
    return found


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
