"""Workers on a Ray cluster. Nothing of Ray is imported before an executor is made."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import shutil
import socket
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pl_hybridjobs.errors import FanOutError, InvalidCall, WorkerLost
from pl_hybridjobs.fanout.executors import Crew, cores, wrong_count
from pl_hybridjobs.fanout.processes import environment
from pl_hybridjobs.home import short_folder

_REACHED_IN_S = 10.0
_PLACED_IN_S = 30.0
_VERSIONS = "the cluster and this process must have the same versions of Ray and of Python: install those here, or start it with these"
_TOKEN = "RAY_AUTH_TOKEN, or a file that RAY_AUTH_TOKEN_PATH names, with RAY_AUTH_MODE=token"  # noqa: S105 - says what is missing


class RayExecutor(Crew):
    """Actors on a Ray cluster, which keep the device warm. Needs ``pip install pl-hybridjobs[ray]``, here and on the cluster.

    Where this process is connected to Ray already, that connection is taken, and left open at the end.

    Args:
        workers: How many; None: one for each core that this process may use.
        threads: How many threads the kernels of each may use; so many of the cluster's CPUs it asks for.
        address: The cluster's, or "auto" for that of this machine; None: one is started here, with a token of its own, and ended with this.
        runtime_env: What the workers need besides: see Ray.

    Raises:
        InvalidCall: Ray is not installed; numbers that make no sense.
        FanOutError: There is no such cluster, or it has other versions, or does not know the token.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads: int = 1,
        address: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        wrong = [*wrong_count("workers", workers), *wrong_count("threads", threads)]
        if address is not None and (not isinstance(address, str) or address.startswith("http")):
            wrong.append(f"address must be that of Ray itself, as in 'head-node:6379', not {address!r}")
        if runtime_env is not None and not isinstance(runtime_env, Mapping):
            wrong.append(f"runtime_env must be a mapping, as Ray has it, not {runtime_env!r}")
        try:
            import ray
        except ImportError:
            wrong.append("Ray is not installed; pip install pl-hybridjobs[ray]")
        if wrong:
            raise InvalidCall("RayExecutor(...)", wrong)
        workers = workers or cores()
        is_ours = not ray.is_initialized()
        variables: dict[str, str] = environment(threads)
        if address is not None or not is_ours:
            del variables["PYTHONPATH"]  # the cluster's own, which may be elsewhere
        env = dict(runtime_env or {})
        env["env_vars"] = {**variables, **env.get("env_vars", {})}
        if is_ours:
            folder = _connect(ray, address, workers * threads)  # after all that may fail, or it would stay open
            # Before the crew's own, which is therefore called first: actors end while there is a connection.
            self._disconnect = weakref.finalize(self, _disconnect, folder)
        super().__init__(workers, threads, partial(_Actor, env, threads))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the actors, and a cluster that was started for them."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        if hasattr(self, "_disconnect"):
            self._disconnect()


def _connect(ray: Any, address: str | None, cpus: int) -> Path | None:
    """Connect, and where no cluster is named, start one. Returns the folder that it keeps, which is for this user only."""
    folder: Path | None = None
    options: dict[str, Any] = {"address": address}
    if address is None:
        folder = short_folder()
        # Ray opens the folder that it is given to everybody.
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_temp_dir": f"{folder}/ray"}
    try:
        if address is not None:
            _reach(address)
        elif (token := _own_token()) is not None:
            os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(token))
        with warnings.catch_warnings():
            # JAX warns of every fork; what Ray forks becomes another program at once.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            ray.init(**options, logging_level="error")
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        cure = next(
            (cure for word, cure in (("ersion mismatch", _VERSIONS), ("oken", _TOKEN)) if word in text),
            "is it running, and is this its address?",
        )
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise FanOutError(f"no connection to Ray at {address or 'this machine'}: {text}; {cure}") from error
    return folder


def _reach(address: str) -> None:
    """Ray itself would try for many minutes.

    Raises:
        OSError: Nobody listens there.
    """
    where = urlsplit(address if "://" in address else f"//{address}")
    with contextlib.suppress(ValueError):  # what is no port, Ray itself explains
        if where.hostname and where.port:
            socket.create_connection((where.hostname, where.port), _REACHED_IN_S).close()


@functools.cache
def _own_token() -> Path | None:
    """The file of a token made for this process, which whoever wants into a cluster of ours must know; None: the user has chosen.

    It is one for all clusters of this process, as Ray reads it once, and then sets ``$RAY_AUTH_MODE`` itself.
    """
    if {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return None
    folder = short_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "token"
    file.write_text(secrets.token_hex(32))
    return file


def _disconnect(folder: Path | None) -> None:
    ray = sys.modules["ray"]
    ray.shutdown()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


class _Actor:
    """One of them, here."""

    def __init__(self, env: Mapping[str, Any], threads: int) -> None:
        self._ray = sys.modules["ray"]
        self._threads = threads
        self._actor = self._ray.remote(num_cpus=threads, max_restarts=0, runtime_env=dict(env))(_There).remote()

    def begin(self) -> None:
        """See ``Worker``. A cluster may grow, or get free, so that is no error."""
        is_there = self._actor.call.remote(int)
        if not self._ray.wait([is_there], timeout=_PLACED_IN_S)[0]:
            has, free = (found.get("CPU", 0) for found in (self._ray.cluster_resources(), self._ray.available_resources()))
            warnings.warn(
                f"Ray has no place yet for a worker of {self._threads} CPU: of {has:g}, {free:g} are free. Circuits go to the workers that "
                "are there, and wait where there are none; ask for fewer workers or threads, or for a larger cluster",
                stacklevel=2,
            )
        self._ray.get(is_there)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See ``Worker``."""
        try:
            return self._ray.get(self._actor.call.remote(fn, *args))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._ray.exceptions.RuntimeEnvSetupError as error:
            raise FanOutError(f"Ray cannot prepare a worker: {error}") from error
        except self._ray.exceptions.RayActorError as error:
            raise WorkerLost(f"a worker on Ray was lost: {error}") from error

    def end(self) -> None:
        """See ``Worker``."""
        if self._ray.is_initialized():  # else `kill` would start another Ray
            with contextlib.suppress(Exception):  # it may be gone
                self._ray.kill(self._actor)


class _There:
    """One of them, there."""

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(*args)
