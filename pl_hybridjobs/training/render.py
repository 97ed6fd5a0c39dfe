"""What a person sees while a loop runs: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

_LINE_S = 5.0
_BAR_S = 0.1


class Progress:
    """Shows steps and the newest value.

    Args:
        total: Number of steps.
        done: Steps that an earlier attempt made.
        label: The loop's name, for jobs with several; "" for none.
        value_name: What the value is called.
        show: False for silence, True or None for what fits the stream.
    """

    def __init__(self, total: int, *, done: int, label: str, value_name: str, show: bool | None) -> None:
        self._total = total
        self._label = f"{label}: " if label else ""
        self._value_name = value_name
        self._on = show is not False
        self._bar: Any = None
        self._task: Any = None
        self._next_s = 0.0
        self._shown = -1
        if self._on and sys.stderr.isatty():
            self._start_bar(done)
        else:
            self._next_s = time.monotonic() + _LINE_S

    def _start_bar(self, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[value]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=False)
        self._bar.start()
        self._task = self._bar.add_task(self._label + "training", total=self._total, completed=done, value="")

    def update(self, step: int, value: float | None) -> None:
        """``step`` steps are done. Cheap unless it is time to show something."""
        if not self._on:
            return
        now = time.monotonic()
        if now < self._next_s:
            return
        self._show(step, value)
        self._next_s = now + (_BAR_S if self._bar is not None else _LINE_S)

    def _show(self, step: int, value: float | None) -> None:
        self._shown = step
        text = "" if value is None else f"{self._value_name} {value:.6g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, value=text)
        else:
            print(f"{self._label}step {step}/{self._total}{', ' if text else ''}{text}", flush=True)

    def note(self, text: str) -> None:
        """A line that stays."""
        if not self._on:
            return
        if self._bar is not None:
            self._bar.console.print(f"{self._label}{text}", highlight=False, markup=False)
        else:
            print(f"{self._label}{text}", flush=True)

    def close(self, step: int, value: float | None) -> None:
        """The loop has ended."""
        if self._on and step > 0 and step != self._shown:
            self._show(step, value)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
