"""Why a call cannot travel: which object, by what path it is reached, and what to do. Runs only after a failure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pl_hybridjobs.jobs import pickling
from pl_hybridjobs.jobs.object_paths import Child, children, walk

_DEEPEST = 60
_MOST_FOUND = 20
_TIME_S = 5.0
_WALK_LIMIT = 200_000

_LOCK = "a lock: create it inside the function"
_PROCESS = "a running thing of this process: start it inside the function"
_FILE = "an open file: open it inside the function, or name it in inputs={...} and open input_path(...) there"

# Class (or a class that it derives from) -> what it is, and the remedy.
_REMEDIES = {
    "_thread.lock": _LOCK,
    "_thread.RLock": _LOCK,
    "threading.Condition": _LOCK,
    "threading.Event": _LOCK,
    "threading.Semaphore": _LOCK,
    "threading.Barrier": _LOCK,
    "multiprocessing.synchronize.SemLock": _LOCK,
    "_thread._local": "thread-local data: fill it inside the function",
    "threading.Thread": _PROCESS,
    "multiprocessing.process.BaseProcess": _PROCESS,
    "multiprocessing.pool.Pool": _PROCESS,
    "subprocess.Popen": _PROCESS,
    "concurrent.futures._base.Executor": _PROCESS,
    "concurrent.futures._base.Future": "a future: wait for it first, and pass its result",
    "_asyncio.Task": "an asyncio task: await it inside the function",
    "_asyncio.Future": "a future: await it first, and pass its result",
    "asyncio.events.AbstractEventLoop": "an event loop: let an `async def` job have its own",
    "queue.Queue": "a queue between threads: create it inside the function",
    "_queue.SimpleQueue": "a queue between threads: create it inside the function",
    "builtins.generator": "a generator: pass the function that makes it, or list(...) of it",
    "builtins.async_generator": "an asynchronous generator: pass the function that makes it",
    "builtins.coroutine": "a coroutine: pass the function that makes it, and await it there",
    "builtins.frame": "a stack frame: pass what you need from it",
    "builtins.traceback": "a traceback: pass its text",
    "_socket.socket": "a network connection: open it inside the function",
    "sqlite3.Connection": "a database connection: open it inside the function",
    "sqlite3.Cursor": "a database cursor: open the connection inside the function",
    "mmap.mmap": "a mapped file: map it inside the function",
    "io.IOBase": _FILE,
    "_io._IOBase": _FILE,
    "tempfile._TemporaryFileWrapper": _FILE,
    "os._Environ": "the environment of this process, which never travels: pass the few variables that you need by Resources(env=...)",
    "jax._src.core.Tracer": "a value that jax is tracing: submit the job outside of jit, grad and vmap",
    "pennylane.devices.device_api.Device": "a device that cannot be made anew by name: build it inside the function with job_device()",
    "pennylane.devices._legacy_device.Device": "a device that cannot be made anew by name: build it inside with job_device()",
    "IPython.core.interactiveshell.InteractiveShell": "IPython's shell, which !commands and %magics need and jobs have none of: "
    "call subprocess.run(...) and plain functions",
    "ipywidgets.widgets.widget.Widget": "a widget of this notebook: pass its value",
    "botocore.client.BaseClient": "a botocore client without boto3: build it inside the function",
}


@dataclass
class _Search:
    entry: object
    deadline: float
    found: list[str] = field(default_factory=list)
    # id -> the object and whether it travels; holding the object keeps its id its own.
    known: dict[int, tuple[object, Exception | None]] = field(default_factory=dict)

    def by_reference(self, obj: object) -> bool:
        return pickling.by_reference(obj, self.entry)

    def failure(self, obj: object) -> Exception | None:
        if id(obj) not in self.known:
            self.known[id(obj)] = obj, pickling.failure(obj, self.entry)
        return self.known[id(obj)][1]

    def look(self, path: str, obj: object, depth: int) -> None:
        """Go down from an object that does not travel to the parts that are the reason."""
        error = self.failure(obj)
        remedy = _remedy(obj)
        if remedy is not None:
            self.found.append(f"{path} is {remedy}.")
            return
        inside = False
        if depth < _DEEPEST:
            for label, part in children(obj, self.by_reference):
                if len(self.found) >= _MOST_FOUND or time.monotonic() > self.deadline:
                    return
                new = id(part) not in self.known
                if self.failure(part) is not None:
                    inside = True
                    if new:
                        self.look(path + label, part, depth + 1)
        if not inside:
            kind = type(obj)
            self.found.append(
                f"{path} is a {kind.__module__}.{kind.__qualname__}, which cannot be pickled ({_first_line(error)}): "
                "create it inside the function, or pass what it is made from."
            )


def offenders(roots: list[Child], entry: object) -> list[str]:
    """One sentence for each object that keeps a call from travelling: its path, what it is, the remedy.

    Args:
        roots: The function, each argument: pairs of path and object.
        entry: The function that goes by value.
    """
    search = _Search(entry, time.monotonic() + _TIME_S)
    for path, obj in roots:
        if search.failure(obj) is not None:
            search.look(path, obj, 0)
    if len(search.found) >= _MOST_FOUND:
        search.found.append(f"There may be more: the search stopped after {_MOST_FOUND}.")
    elif time.monotonic() > search.deadline:
        search.found.append(f"There may be more: the search stopped after {_TIME_S:g} s.")
    return search.found


def largest(roots: list[Child], entry: object, count: int = 5) -> list[str]:
    """The largest objects that a call carries: ``args[0]["x"] (ndarray, 800.0 MB)``, the largest first."""
    sizes = [
        (size, path, type(obj).__name__)
        for path, obj in walk(roots, lambda obj: pickling.by_reference(obj, entry), _WALK_LIMIT)
        if (size := _own_size(obj)) > 0
    ]
    return [f"{path} ({kind}, {size_text(size)})" for size, path, kind in sorted(sizes, key=lambda s: (-s[0], s[1]))[:count]]


def size_text(size: int) -> str:
    """``"3.5 MB"``."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _own_size(obj: object) -> int:
    """About how many bytes an object takes in a pickle, without the parts that are visited by themselves."""
    size = getattr(obj, "nbytes", None) if not isinstance(obj, type) else None
    if isinstance(size, int):
        return size
    if isinstance(obj, (str, bytes, bytearray)):
        return len(obj)
    if isinstance(obj, (list, tuple, set, frozenset, dict)):
        return 9 * len(obj)
    return 0


def _remedy(obj: object) -> str | None:
    for cls in type(obj).__mro__:
        remedy = _REMEDIES.get(f"{cls.__module__}.{cls.__qualname__}")
        if remedy is not None:
            return remedy
    return None


def _first_line(error: Exception | None) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
