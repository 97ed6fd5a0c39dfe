"""How far a job is: a loop writes one line when it begins, and the metrics say where it stands."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pl_hybridjobs.jobs.folder import AttemptFolder, JobFolder

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.metrics import MetricTable

#: The metric of how long each step took, which ``train`` logs beside those that one looks at.
STEP_TIME = "step_time_s"


@dataclass(frozen=True)
class Begun:
    """A loop as it began in an attempt.

    Attributes:
        name: The loop's name; "" where a job has one without a name of its own.
        metric: What it logs at each step; "" if nothing.
        done: Steps that earlier attempts had made.
        total: How many it will make.
        time: Unix time in seconds.
    """

    name: str
    metric: str
    done: int
    total: int
    time: float


@dataclass(frozen=True)
class Progress:
    """How far the loop is that began last.

    Attributes:
        loop: Its name; "" where a job has one without a name of its own.
        metric: What it logs at each step; "" if nothing.
        done: Steps that are made.
        total: How many it will make, if nothing ends it before.
        step_s: Seconds that a step took, on average in this attempt; None before the first.
    """

    loop: str
    metric: str
    done: int
    total: int
    step_s: float | None

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at this speed; None where that is not known."""
        return None if self.step_s is None else (self.total - self.done) * self.step_s


def duration(seconds: float) -> str:
    """A time in two units at most: ``0.4 s``, ``45 s``, ``12 min 3 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def begin(attempt: AttemptFolder, name: str, metric: str, done: int, total: int) -> None:
    """Write that a loop begins. What cannot be written is no loss: nothing depends on it."""
    line = json.dumps(asdict(Begun(name, metric, done, total, time.time()))) + "\n"
    with contextlib.suppress(OSError):
        fd = os.open(attempt.loops, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def read(folder: JobFolder, metrics: MetricTable) -> Progress | None:
    """How far a job is; None before its first loop."""
    for attempt in reversed(folder.attempt_list()):
        begun = _last(attempt)
        if begun is not None:
            return _standing(begun, metrics)
    return None


def main_metric(metrics: MetricTable, standing: Progress | None) -> str:
    """The metric that a person would look at first: what the newest loop minimizes, else the first one; "" where there is none."""
    if standing is not None and standing.metric in metrics.names:
        return standing.metric
    return metrics.names[0] if metrics.names else ""


def _last(attempt: AttemptFolder) -> Begun | None:
    try:
        lines = attempt.loops.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError):  # a torn line
            return Begun(**json.loads(line))
    return None


def _standing(begun: Begun, metrics: MetricTable) -> Progress:
    names = [begun.metric] if begun.metric else metrics.names
    done, last = begun.done, begun.time
    for name in set(names) & set(metrics.names):
        mine = metrics.times(name) >= begun.time
        if mine.any():
            done = max(done, int(metrics.steps(name)[mine][-1]) + 1)
            last = max(last, float(metrics.times(name)[mine][-1]))
    done = min(done, begun.total)
    made = done - begun.done
    return Progress(begun.name, begun.metric, done, begun.total, (last - begun.time) / made if made > 0 else None)
