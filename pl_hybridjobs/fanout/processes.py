"""Workers that are processes of their own, on this machine.

A worker is a fresh Python that is fed through its standard input: it runs no user's script again (no ``if __name__ == "__main__"`` is
needed), works in notebooks, and ends when that input does, that is, with the process that started it, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from pl_hybridjobs.errors import WorkerLost
from pl_hybridjobs.fanout.executors import Crew, NeverBegan
from pl_hybridjobs.fanout.messages import dumps, loads

#: What the libraries that compute with threads look at when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_PATIENCE_S = 10.0
_LENGTH = struct.Struct("!Q")


class ProcessExecutor(Crew):
    """Processes on this machine, started at once and kept warm. To load PennyLane takes each of them seconds, once.

    They end with the executor: when it is shut down or forgotten, when this process ends, and when somebody kills it.

    Args:
        workers: How many; None: one for each core that this process may use.
        threads: How many threads the kernels of each may use.
    """

    def __init__(self, workers: int | None = None, *, threads: int = 1) -> None:
        super().__init__(workers, threads, partial(_Process, threads))


class _Process:
    """One of them."""

    def __init__(self, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pl_hybridjobs.fanout.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment(threads)},
            process_group=0,  # Ctrl-C is for us: what becomes of the workers, we say
        )
        self._pipes: tuple[Any, Any] = self._process.stdin, self._process.stdout
        self._is_ready = False
        self._ending = threading.Lock()

    def begin(self) -> None:
        """See ``Worker``; calls wait in its pipe."""

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See ``Worker``."""
        request = dumps((fn, args))
        requests, answers = self._pipes
        try:
            if not self._is_ready:
                read(answers)
                self._is_ready = True
            write(requests, request)
            answer = read(answers)
        except (EOFError, OSError, ValueError):  # a pipe that was closed is a ValueError
            raise self._loss() from None
        is_result, value = loads(answer)
        if is_result:
            return value
        raise value

    def _loss(self) -> WorkerLost | NeverBegan:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        code = self._process.returncode
        if code is None:
            how = "does not answer"
        else:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        text = f"worker process {self._process.pid} {how}"
        if not self._is_ready and code not in (None, -signal.SIGKILL):
            return NeverBegan(f"{text} before it was ready: its own words stand above, or in the job's log")
        return WorkerLost(text + ("; the system ends processes so when memory runs out" if code == -signal.SIGKILL else ""))

    def end(self) -> None:
        """See ``Worker``."""
        with self._ending, contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(_PATIENCE_S)
            for pipe in reversed(self._pipes):  # who waits for an answer has seen its end by now
                pipe.close()


def environment(threads: int) -> dict[str, str]:
    """What a worker's environment has besides ours: modules are found where we find them, and kernels have so many threads."""
    folders = [folder or os.getcwd() for folder in sys.path]  # noqa: PTH109 - as Python means it
    return {"PYTHONPATH": os.pathsep.join(folders), **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def write(pipe: BinaryIO | Any, message: bytes) -> None:
    """Send one message."""
    pipe.write(_LENGTH.pack(len(message)))
    pipe.write(message)
    pipe.flush()


def read(pipe: BinaryIO | Any) -> bytes:
    """Receive one message.

    Raises:
        EOFError: The other end is closed.
    """
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return _exactly(pipe, length)


def _exactly(pipe: BinaryIO | Any, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = pipe.read(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
