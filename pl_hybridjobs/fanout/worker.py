"""What a worker process does: calls that come in through its standard input, one after the other, until that ends.

``python -m pl_hybridjobs.fanout.worker PID``, where PID is the process that it works for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import select
import signal
import sys
import threading
from typing import Any

from pl_hybridjobs.fanout.messages import dumps, loads, that_travels
from pl_hybridjobs.fanout.processes import read, write

_LOOK_S = 1.0


def main(parent: int) -> None:
    """Serve until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, who may yet want what we compute
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    calls = os.fdopen(os.dup(0), "rb", buffering=0)  # nothing may wait in a buffer: `select` would not see it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a device prints belongs to the log
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(calls, waiting, parent), daemon=True).start()
    write(answers, b"")
    write(answers, _answer(waiting.get()))
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it whenever circuits come in takes longer than reading them
    while True:
        write(answers, _answer(waiting.get()))


def _receive(calls: Any, waiting: queue.SimpleQueue[bytes], parent: int) -> None:
    """Take in calls; at their end, end at once, whatever is being computed. A child that the parent forked may hold the pipe open."""
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            if select.select([calls], [], [], _LOOK_S)[0]:
                waiting.put(read(calls))
    os._exit(0)


def _answer(request: bytes) -> bytes:
    """(True, result) or (False, error)."""
    try:
        fn, args = loads(request)
        return dumps((True, fn(*args)))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller hears of it
        return dumps((False, that_travels(error)[0]))


def _die_with_parent() -> None:
    """Also in the middle of a kernel (Linux). The thread that started us lives as long as we shall."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        prctl: Any = ctypes.CDLL(None).prctl
        prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG, linux/prctl.h


if __name__ == "__main__":
    main(int(sys.argv[1]))
