"""Which account is charged here. Apart from ``account``, so that a job that buys nothing loads no ledger."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account

_process: Callable[[], Account] | None = None
_buyer = 0  # the process that made an account active


@contextlib.contextmanager
def activate(account: Callable[[], Account]) -> Iterator[None]:
    """Make an account the one that is charged, by all threads: callbacks of JAX are in others. It is asked for each time."""
    global _process, _buyer  # noqa: PLW0603 - the one process-wide fact: which job this process buys for
    _buyer = os.getpid()
    previous, _process = _process, account
    try:
        yield
    finally:
        _process = previous


def chosen() -> Callable[[], Account] | None:
    """What was made active; None if nothing was."""
    return _process


def stranger() -> str:
    """Nothing in the process for which an account was made active; something random in each one that it started or forked.

    It belongs into the keys of purchases: two processes of one job never take each other's for their own. Only what the job's own process
    bought is found again when the job is resumed.
    """
    return "" if os.getpid() == _buyer else _random(os.getpid())


@functools.lru_cache(maxsize=1)
def _random(pid: int) -> str:
    del pid  # a forked child is another stranger
    return os.urandom(8).hex()
