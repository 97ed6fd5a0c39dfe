"""When a training loop saves, and the one write that may be in flight."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pl_hybridjobs.jobs.context import JobContext

Every = datetime.timedelta | int | None


def complaints(every: object) -> list[str]:
    """What is wrong with ``checkpoint_every``."""
    if every is None or (isinstance(every, datetime.timedelta) and every >= datetime.timedelta(0)):
        return []
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return []
    return [f"checkpoint_every={every!r}; give a number of steps, a datetime.timedelta, or None for only at the end and at signals"]


class Saver:
    """Saves one section of the job's checkpoints, in a thread, so that the loop goes on while the disk works.

    A write that is due by time waits for its turn without holding up the loop; one that is due by steps waits for the one before.

    Args:
        context: The job.
        section: The loop's name.
        every: Steps, time, or None.
        may_end_within: A step may end in its middle, since it waits for a remote device.
    """

    def __init__(self, context: JobContext, section: str, every: Every, *, may_end_within: bool = False) -> None:
        self._context = context
        self._section = section
        self._every_s = every.total_seconds() if isinstance(every, datetime.timedelta) else None
        self._every_steps = every if isinstance(every, int) else None
        self._next_s = time.monotonic() + (self._every_s or 0.0)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._may_end_within = bool(context) and (may_end_within or context.is_limited)
        self.saved_step = -1  #: of the newest that was begun

    def load(self) -> Any:
        """The section's newest state; None if there is none."""
        loaded = self._context.load(section=self._section) if self._context else None
        return None if loaded is None else loaded.state

    def boundary(self, step: int, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """To be called between two steps: save if it is due, stop if somebody asked.

        Args:
            step: Number of finished steps.
            snapshot: Gives the state; later steps must not change what it gave.

        Raises:
            JobStopRequested: After the save.
            StoreError: The write before has failed.
        """
        if not self._context:
            return
        if self._context.stop.requested:
            self.save(step, snapshot)
            self._context.stop.check()
        if self._error is not None:
            self.settle()
        if self._every_steps is not None:
            if step % self._every_steps == 0:
                self.settle()
                self._begin(step, snapshot)
        elif self._every_s is not None and time.monotonic() >= self._next_s and not self._is_writing():
            self._begin(step, snapshot)

    def remember(self, step: int, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """To be called before each step: keep what is to be saved should it end in its middle.

        Args:
            step: Number of finished steps.
            snapshot: See ``boundary``.
        """
        if not self._may_end_within:
            return
        state = snapshot()
        cursor = self._context.metrics.cursor() if self._context.metrics is not None else None

        def save() -> None:
            self.settle()
            if step > self.saved_step:
                self._context.save(state, step, section=self._section, cursor=cursor)

        self._context.boundaries[self._section] = save

    def save(self, step: int, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """Save, and wait until it is done."""
        if not self._context:
            return
        self.settle()
        self._begin(step, snapshot)
        self.settle()

    def settle(self) -> None:
        """Wait for the write in flight, and raise what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def abandon(self, error: BaseException) -> None:
        """The loop ends by an error: wait for the write in flight. What is wrong with it is told beside the error."""
        try:
            self.settle()
        except BaseException as other:  # noqa: BLE001 - the loop's error is the one that people must see
            error.add_note(f"The checkpoint that was being written meanwhile failed as well: {other}")

    def _is_writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, step: int, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        state = snapshot()
        cursor = self._context.metrics.cursor() if self._context.metrics is not None else None

        def work() -> None:
            try:
                self._context.save(state, step, section=self._section, cursor=cursor)
            except BaseException as error:  # noqa: BLE001 - raised at the next boundary, in the loop's thread
                self._error = error

        self._thread = threading.Thread(target=work, name="hybridjobs-checkpoint")
        self._thread.start()
        self.saved_step = step
        if self._every_s is not None:
            self._next_s = time.monotonic() + self._every_s
