"""The first process of a container: starts the worker, passes signals on, buries the dead, and ends with its supervisor.

A kernel treats process 1 of a container unlike others: a signal that it has no handler for does not reach it, it inherits all orphans, and
with it everything ends. So it is not the worker. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from pl_hybridjobs.jobs import launch, process
from pl_hybridjobs.jobs.exits import EXIT_MEMORY

#: Machine code that was compiled with the image; the job gets a copy, because it cannot write the image.
CACHE_VARIABLE = "HYBRIDJOBS_CACHE_SEED"
#: Where cgroups of version 2 and 1 count what the kernel has killed for want of memory.
_COUNTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def main(argv: list[str]) -> int:
    """``init <arguments of the worker>``, with the supervisor's life pipe as standard input.

    Returns:
        The worker's exit code; 128 + n if signal n ended it, ``EXIT_MEMORY`` if that was for want of memory.
    """
    life, never = os.pipe()  # the worker reads it, and ends with us, because nobody writes it
    os.set_inheritable(life, True)
    _seed_cache()
    root = sys.path[-1]
    # Both streams into one pipe: through two, lines could change places on their way out.
    python = [sys.executable, "-P", "-c", launch.program("pl_hybridjobs.jobs.worker"), root]
    path, epoch, digest, _, may_retry = argv
    worker = process.spawn([*python, path, epoch, digest, str(life), may_retry], os.environ, output=1, session=True)
    os.close(life)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda n, _frame: process.signal_group(worker, n))
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    code = _wait_for(worker)
    os.close(never)
    if code == -signal.SIGKILL and killed_for_memory():
        return EXIT_MEMORY
    return code if code >= 0 else 128 - code


def _end_with_supervisor() -> None:
    while os.read(0, 1):
        pass
    os._exit(128 + signal.SIGKILL)  # and with us everything in the container


def _wait_for(worker: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status)


def killed_for_memory() -> bool:
    """Whether the kernel has killed something in this container because it was at its limit of memory."""
    for path in map(Path, _COUNTS):
        if path.is_file():
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts.get("oom_kill", 0)) > 0
    return False


def _seed_cache() -> None:
    seed = os.environ.get(CACHE_VARIABLE)
    if seed and os.path.isdir(seed):  # noqa: PTH112
        shutil.copytree(seed, os.environ["XDG_CACHE_HOME"], dirs_exist_ok=True)
