"""A job's loops, told apart: each has a name, by which its checkpoints and metrics go."""

from __future__ import annotations

from types import TracebackType

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs.context import JobContext, set_step


class Section:
    """One loop while it runs. Signals wait for its step boundaries.

    Args:
        context: The job, or what stands in for it.
        name: What the user calls it; None: "train", "train-2", ... in the order of the calls, which a resumed job repeats.
        kind: "train" or "loop".

    Attributes:
        name: Its name.
        prefix: What its metrics' names begin with: nothing for the first that was given no name.

    Raises:
        InvalidCall: Another loop of this attempt has the name.
    """

    def __init__(self, context: JobContext, name: str | None, kind: str) -> None:
        self._context = context
        if context:
            if name is not None and name in context.loops:
                raise InvalidCall(f"name={name!r}", ["another loop of this job has that name; give each its own"])
            count = 1 + sum(known.partition("-")[0] == kind for known in context.loops)
        self.name = name or (kind if not context or count == 1 else f"{kind}-{count}")
        self.prefix = "" if self.name == kind else f"{self.name}/"
        if context:
            context.loops.append(self.name)
        self._before = context.stop.at_boundary

    def __enter__(self) -> Section:
        self._context.stop.at_boundary = bool(self._context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        set_step(None)
        self._context.stop.at_boundary = self._before
        if kind is None and self._context:
            self._context.stop.check()
