"""Batches of circuits spread over workers: threads, processes, a Ray cluster, or any pool like those of ``concurrent.futures``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pl_hybridjobs.fanout.executors import Executor as Executor
from pl_hybridjobs.fanout.executors import ThreadExecutor as ThreadExecutor
from pl_hybridjobs.fanout.processes import ProcessExecutor as ProcessExecutor
from pl_hybridjobs.fanout.rays import RayExecutor as RayExecutor

if TYPE_CHECKING:
    from pl_hybridjobs.fanout.device import FanOut as FanOut

__all__ = ["Executor", "FanOut", "ProcessExecutor", "RayExecutor", "ThreadExecutor"]


def __getattr__(name: str) -> Any:
    """Executors need no PennyLane, which takes seconds to load; the device does."""
    if name == "FanOut":
        from pl_hybridjobs.fanout.device import FanOut

        return FanOut
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
