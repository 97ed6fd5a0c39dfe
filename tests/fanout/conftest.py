"""Pools of the tests: started once, for starting one takes as long as importing PennyLane."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from pl_hybridjobs.fanout import Executor, ProcessExecutor, RayExecutor, ThreadExecutor


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(1) as pool:  # what two of them at once give is tried with threads
        yield pool


@pytest.fixture(scope="session")
def threads() -> Iterator[ThreadExecutor]:
    with ThreadExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def bare_threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Pickling(ThreadPoolExecutor):
    """As far as a pool of processes can tell calls from one another, it is one; but it needs none."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call what plain pickle makes of it, and give what that makes of the result."""
        return super().submit(_called, pickle.dumps((fn, args, kwargs)))


def _called(request: bytes) -> Any:
    fn, args, kwargs = pickle.loads(request)
    return pickle.loads(pickle.dumps(fn(*args, **kwargs)))


@pytest.fixture(scope="session")
def pickling() -> Iterator[Pickling]:
    with Pickling(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def bare_processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="session")
def ray() -> Iterator[RayExecutor]:
    pytest.importorskip("ray")
    with RayExecutor(2) as pool:
        yield pool


_LONG = pytest.param("bare_processes", marks=pytest.mark.torture_long)
_RAY = pytest.param("ray", marks=pytest.mark.ray)


@pytest.fixture(params=["threads", "processes", "bare_threads", "pickling", _LONG, _RAY])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Each of them in turn."""
    pool: Executor = request.getfixturevalue(request.param)
    return pool
