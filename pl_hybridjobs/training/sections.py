"""A job's loops, told apart: each has a name, by which its checkpoints and metrics go."""

from __future__ import annotations

import itertools
from types import TracebackType

from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs.context import JobContext, get_step, set_step

_AMBIGUOUS = (
    "this job saves checkpoints of its own after a loop and loads them before it, so a resumed job could take one loop for another; "
    "give each loop a name=, such as name=f'train-{round}'"
)


class Section:
    """One loop while it runs. Signals wait for its step boundaries.

    A loop that begins inside another one's step has a name that begins with that step: "loop/3/train". So a resumed job, which begins in
    the outer loop's middle, gives each loop the name that it had.

    Args:
        context: The job, or what stands in for it.
        name: What the user calls it; None: "train", "train-2", ... in the order of the calls, which a resumed job repeats.
        kind: "train" or "loop".

    Attributes:
        name: Its name.
        prefix: What its metrics' names begin with: nothing for the first that was given no name.

    Raises:
        InvalidCall: Another loop of this attempt has the name; or the name was left out where a resumed job could not count.
    """

    def __init__(self, context: JobContext, name: str | None, kind: str) -> None:
        self._context = context
        self._step = 0
        outer = context.running[-1] if context.running else None
        base = f"{outer.name}/{outer._step}/" if outer else ""
        if name is None:
            if not base and context.own.are_ambiguous:
                raise InvalidCall("name=None", [_AMBIGUOUS])
            names = itertools.chain([kind], (f"{kind}-{n}" for n in itertools.count(2)))
            self.name = next(base + free for free in names if base + free not in context.loops)
        else:
            self.name = base + name
            if self.name in context.loops:
                raise InvalidCall(f"name={name!r}", ["another loop of this job has that name; give each its own"])
        self.prefix = "" if self.name == kind else f"{self.name}/"
        if context:
            context.loops.append(self.name)
        self._stop_before = context.stop.at_boundary
        self._step_before = get_step()

    def at(self, step: int) -> None:
        """The loop's body is about to make a step: what it logs without one carries this."""
        self._step = step
        set_step(step)

    def __enter__(self) -> Section:
        self._context.stop.at_boundary = bool(self._context)
        if self._context:
            self._context.running.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        set_step(self._step_before)
        self._context.stop.at_boundary = self._stop_before
        if self in self._context.running:
            self._context.running.remove(self)
        if kind is None and self._context:
            self._context.stop.check()
