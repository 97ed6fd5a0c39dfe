"""A sweep, looked at from outside: the jobs of one ``f.map``, in order, as one thing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pl_hybridjobs.errors import AmbiguousName, HybridJobsError, InvalidCall, JobNotFound, ResultNotReady, SweepFailed, did_you_mean
from pl_hybridjobs.jobs.handle import Job, tend
from pl_hybridjobs.jobs.lanes import Lanes, side_by_side, sweep_file, wait_for_turn
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.jobs.sweep_table import ATS, SweepTable, counted, table_of

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget

_POLL_S = 0.05
_TEND_S = 1.0


class Sweep(Sequence[Job]):
    """The jobs of one ``f.map``, in order. A job that goes on as a new one (``Job.resume``) is shown as that one.

    Args:
        home: The store's folder.
        sweep_id: The sweep's id. ``open_sweep`` finds it by less.

    Raises:
        JobNotFound: There is no such sweep.
        FolderCorrupt: Its file is damaged.
    """

    def __init__(self, home: Path, sweep_id: str) -> None:
        self.home = home
        self.id = sweep_id
        try:
            self._lanes = Lanes.read(home, sweep_id)
        except FileNotFoundError:
            raise JobNotFound(f"There is no sweep {sweep_id!r} in {home}.") from None
        self._known: dict[Path, Job] = {}  # a job's specification never changes, and is read once

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are there: not those that were removed, or that a caller who died never submitted."""
        return [self._known.setdefault(folder.path, Job(folder.path)) for folder in self._lanes.folders() if folder is not None]

    @property
    def max_parallel(self) -> int:
        """How many run at once."""
        return self._lanes.max_parallel

    @property
    def on_failure(self) -> str:
        """What one failed job means for the others: ``continue``, ``stop`` or ``cancel``."""
        return self._lanes.on_failure

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        return self.jobs[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sweep) and (other.home, other.id) == (self.home, self.id)

    def __hash__(self) -> int:
        return hash((self.home, self.id))

    def __reduce__(self) -> tuple[Any, ...]:
        return Sweep, (self.home, self.id)

    def __repr__(self) -> str:
        return f"<Sweep {self.id} of {self.summary()}>"

    def _repr_html_(self) -> str:
        from pl_hybridjobs.jobs import display

        return display.html(self)

    def _ipython_display_(self) -> None:
        from pl_hybridjobs.jobs import display

        display.show(self)

    def submitted(self, job_id: str) -> bool:
        """Whether a job was submitted as one of this sweep; also one that has ended and goes on as a new one."""
        return job_id in self._lanes.jobs

    def summary(self) -> str:
        """How many jobs there are, and how they stand, in one line."""
        jobs = self.jobs
        lacking = len(self._lanes.jobs) - len(jobs)
        return counted([str(job.status) for job in jobs]) + (f", {lacking} more never submitted, or removed" if lacking else "")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all jobs are over. Begins what a dead owner left waiting.

        Raises:
            ResultNotReady: ``timeout`` seconds are over.
            RunnerError: A job could not be started.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        left = self.jobs
        tend_at = 0.0
        while True:
            begun = time.monotonic()
            states = [(job, job.state()) for job in left]
            look_s = time.monotonic() - begun
            left = [job for job, state in states if not state.status.is_final]
            going = [state for _, state in states if not state.status.is_over]
            if not going:
                return
            if deadline is not None and begun > deadline:
                raise ResultNotReady(f"{len(going)} of {len(self)} jobs of the sweep are not over after {timeout:g} s. They go on.")
            if begun > tend_at and (self.on_failure == "cancel" or any(state.status is Status.CREATED for state in going)):
                self._tend()
                tend_at = time.monotonic() + _TEND_S
            time.sleep(min(max(_POLL_S, 4 * look_s), _TEND_S))  # to wait for a thousand jobs takes a fifth of a core, not all of it

    def _tend(self, *, is_patient: bool = False) -> None:
        jobs = self.jobs
        if jobs:
            tend(self._lanes, jobs[0]._runner, is_patient=is_patient)

    def results(self, timeout: float | None = None, *, return_exceptions: bool = False) -> list[Any]:
        """Wait for all jobs, and give their results, in order.

        Args:
            timeout: Seconds; None waits for ever.
            return_exceptions: In the place of a job that did not complete its ``JobError`` stands, and nothing is raised.

        Raises:
            SweepFailed: Jobs did not complete; an ``ExceptionGroup`` of what ``result()`` raises for each.
            ResultNotReady: ``timeout`` seconds are over.
        """
        self.wait(timeout)
        jobs = self.jobs
        errors = [job.exception(0) for job in jobs]
        failed = [(job, error) for job, error in zip(jobs, errors, strict=True) if error is not None]
        if failed and not return_exceptions:
            lines = [f"{_called(job)} {_fate(job, error)}" for job, error in failed]
            raise SweepFailed(
                f"{len(failed)} of {len(jobs)} jobs of sweep {self.id} did not complete (sweep.resume() goes on with them):\n  "
                + "\n  ".join(lines),
                [error for _, error in failed],
            )
        return [job.result(0) if error is None else error for job, error in zip(jobs, errors, strict=True)]

    def cancel(self, grace_s: float = 10.0) -> None:
        """Cancel all jobs that are not over: those that wait, then all that run, side by side.

        Args:
            grace_s: Seconds that each has to end, see ``Job.cancel``.

        Raises:
            HybridJobsError: A job cannot be cancelled, for what ``Job.cancel`` raises; the others are.
        """
        going = [(job, status) for job in self.jobs if not (status := job.status).is_final]
        waiting = [job for job, status in going if status is Status.CREATED]  # first, else they would begin in the place of the others
        try:
            side_by_side(waiting, lambda job: job.cancel(grace_s))
        finally:
            side_by_side([job for job, _ in going if job not in waiting], lambda job: job.cancel(grace_s))

    def resume(self, *, budget: Budget | Mapping[str, Any] | None = None) -> Sweep:
        """Go on with every job that was interrupted, has failed or was cancelled, as ``Job.resume`` does, ``max_parallel`` at a time.

        What has completed, runs or waits is left alone, so it may be called at any time.

        Args:
            budget: New limits for each job, see ``Job.resume``.

        Returns:
            This sweep.

        Raises:
            InvalidCall: The budget is none.
            HybridJobsError: A job cannot go on, for what ``Job.resume`` raises; the others do.
        """
        from pl_hybridjobs.cost.budget import Budget

        try:
            limits = Budget.of(budget)
        except (TypeError, ValueError) as error:
            raise InvalidCall(f"resume sweep {self.id}", str(error).splitlines()) from None
        problems = []
        with self._lanes.hold():  # else on_failure would end those that are made ready first, for the sake of those that are not yet
            for job in self.jobs:
                status = job.status
                if not status.is_over or status is Status.COMPLETED:
                    continue
                try:
                    if job._ready(limits) is job:
                        wait_for_turn(job._folder)
                except HybridJobsError as problem:
                    problems.append(problem)
        self._tend(is_patient=True)  # one who ends a job just now begins only one
        if problems:
            raise problems[0]
        return self

    def table(self, *metrics: str, at: str = "last") -> SweepTable:
        """A row for each job: arguments, metrics, cost, duration. ``print`` it, or ``to_pandas()``.

        Args:
            *metrics: Only these; all if none is given.
            at: What the printed table shows of each metric: ``last``, ``min`` or ``max``. The others are in the rows too.
        """
        return table_of(self, metrics, at)

    def best(self, metric: str, mode: str = "min", at: str = "last") -> Job:
        """The job with the best value of a metric. Those that run count as they stand; those that failed or were cancelled do not.

        Args:
            metric: Its name.
            mode: ``min`` or ``max``: which value is best.
            at: ``last``, ``min`` or ``max`` of each job's values, as in ``table``. What is not finite never wins.

        Raises:
            InvalidCall: No job has such a metric (near names are suggested), or a wrong ``mode`` or ``at``.
        """
        found = [
            f"{name} must be one of {', '.join(known)}, not {given!r}"
            for name, given, known in (("mode", mode, ATS[1:]), ("at", at, ATS))
            if given not in known
        ]
        if found:
            raise InvalidCall("Sweep.best", found)
        table = self.table()
        table.check_metric(metric, "Sweep.best")
        candidates = [
            (value if mode == "min" else -value, row.index)
            for row in table.rows
            if metric in row.metrics
            and row.status not in (Status.FAILED, Status.CANCELLED)
            and math.isfinite(value := row.metrics[metric].get(at))
        ]
        if not candidates:
            raise InvalidCall("Sweep.best", [f"no job that completed, runs or was interrupted has a value of {metric!r} that is finite"])
        return self.jobs[min(candidates)[1]]

    def plot(self, metric: str, x: str | None = None, path: str | Path | None = None, *, at: str = "last", log: bool = False) -> Any:
        """Draw a metric: the curves of all jobs, or one value of each over an argument.

        Args:
            metric: Its name.
            x: An argument of the function; None draws curves over steps. Its axis is logarithmic where values span two decades.
            path: Where to write the picture (PNG, SVG or PDF by its ending); None writes none.
            at: With ``x``: ``last``, ``min`` or ``max`` of each job's values.
            log: A logarithmic scale of values.

        Returns:
            The matplotlib figure.

        Raises:
            RunnerError: matplotlib is not installed.
            InvalidCall: There is no such metric or argument (near names are suggested), or the ending is that of no picture.
        """
        from pl_hybridjobs.jobs import plots

        return plots.of_sweep(self, metric, x, path, at=at, log=log)


def _called(job: Job) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in job.params.items())
    return f"{job.name} ({arguments})"[:200]


def _fate(job: Job, error: BaseException) -> str:
    """What happened, without the traceback and the job's name, which stands before it."""
    return str(error).split("\n", 1)[0].removeprefix(f"{job.name} ")


def open_sweep(name: str, *, home: str | Path | None = None) -> Sweep:
    """A sweep by its id, the beginning of its id, or the name of one of its jobs.

    Args:
        name: What to look for.
        home: Where to look; default as in ``open_job``.

    Raises:
        JobNotFound: There is none; near names are suggested.
        AmbiguousName: Several match.
        StoreError: Its file is damaged.
    """
    store = Store(Path(home).expanduser().absolute() if home else None)
    known = [path.stem for path in sorted((store.home / "sweeps").glob("*.json"))]
    found = [name] if name in known else [sweep_id for sweep_id in known if name and sweep_id.startswith(name)]
    if len(found) > 1:
        raise AmbiguousName(f"{name!r} matches {len(found)} sweeps: {', '.join(found[:10])}. Use one of these ids.")
    if found:
        return Sweep(store.home, found[0])
    try:
        spec = store.find(name).spec()
    except JobNotFound:
        raise JobNotFound(f"There is no sweep {name!r} in {store.home}, and no job.{did_you_mean(name, known)}") from None
    if spec.sweep is None or not sweep_file(store.home, spec.sweep.id).exists():
        raise JobNotFound(f"{spec.name} belongs to no sweep: it was submitted by itself, not by f.map().")
    return Sweep(store.home, spec.sweep.id)
