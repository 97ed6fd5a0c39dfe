"""Which account is charged here. Apart from ``account``, so that a job that buys nothing loads no ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account

_here: ContextVar[Callable[[], Account] | None] = ContextVar("pl_hybridjobs_account", default=None)
_process: Callable[[], Account] | None = None


@contextlib.contextmanager
def activate(account: Callable[[], Account], *, whole_process: bool) -> Iterator[None]:
    """Make an account the one that is charged, for this thread or for the whole process (jobs).

    Args:
        account: Gives it; asked each time.
        whole_process: Which of the two.
    """
    global _process  # noqa: PLW0603 - the one process-wide fact: which job this process buys for
    token = _here.set(account)
    previous = _process
    if whole_process:
        _process = account
    try:
        yield
    finally:
        _process = previous
        _here.reset(token)


def chosen() -> Callable[[], Account] | None:
    """What was made active here, or in the process; None if nothing was."""
    return _here.get() or _process
