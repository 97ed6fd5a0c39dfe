"""What a notebook shows of jobs and sweeps: read from their folders here, drawn by ``pl_hybridjobs.notebook``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import logs, progress
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metrics import GrowingTable, MetricTable
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.sweep_table import differing
from pl_hybridjobs.notebook import cards, live
from pl_hybridjobs.notebook.chart import Curve

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.state import State
    from pl_hybridjobs.jobs.sweep import Sweep

_LOG_LINES = 12
_MOST_CHARTS = 4
_MOST_ROWS = 40  # of a sweep
_LONGEST_VALUE = 60


def html(shown: Job | Sweep) -> str:
    """As it is now."""
    return _subject(shown).look(live.Notice()).html


def show(shown: Job | Sweep) -> None:
    """As it is now and as it becomes, in the cell that runs.

    Raises:
        NotImplementedError: This is no Jupyter kernel.
    """
    live.show(_subject(shown))


def _subject(shown: Job | Sweep) -> _JobSubject | _SweepSubject:
    return _SweepSubject(shown) if isinstance(shown, Sequence) else _JobSubject(shown)


class _JobSubject:
    """A job on a card. Its button `Resume` may lead to the job that goes on in its place."""

    def __init__(self, job: Job) -> None:
        self._take(job)
        self.actions: Mapping[str, Callable[[], str]] = {"Cancel": self._cancel, "Resume": self._resume}

    def _take(self, job: Job) -> None:
        self._job = job
        self._reader = GrowingTable(JobFolder(job.folder).metrics)

    @property
    def key(self) -> object:
        return self._job.folder

    def look(self, notice: live.Notice) -> live.View:
        job, state = self._job, self._job.state()
        table = self._reader.read()
        standing = progress.read(JobFolder(job.folder), table)
        names = _in_order(table, standing)
        facts = cards.Facts(
            name=job.name,
            status=str(state.status),
            detail="" if state.status is Status.FAILED else state.detail,
            facts=[*_facts(job, state)],
            arguments=_arguments(job.params),
            step=_step(standing),
            curves=[Curve(name, table.steps(name), table[name]) for name in names],
            drawn=min(_MOST_CHARTS, sum(name != progress.STEP_TIME for name in names)),
            log=_tail(job),
            problem=state.reason if state.status is Status.FAILED else "",
            advice=_advice(job, state),
            notice=notice,
            folder=str(job.folder),
        )
        return live.View(
            cards.card(facts),
            _words(job, standing, table, notice.words),
            status=f"{state.status} {state.attempt}",
            is_over=state.status.is_over or _waits(job, state),
            is_final=state.status is Status.COMPLETED,
            actions=_actions(state, can_resume=bool(job.spec.bundle_digest)),
        )

    def _cancel(self) -> str:
        self._job.cancel()
        return ""

    def _resume(self) -> str:
        before = self._job
        after = before.resume()
        if after == before:
            return ""
        self._take(after)
        return f"{before.name} stays as it ended; {after.name} goes on from its checkpoints"


class _SweepSubject:
    """A sweep on a card."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._readers: dict[str, GrowingTable] = {}
        self._final: dict[str, Status] = {}  # what will not change is not asked again
        self.actions: Mapping[str, Callable[[], str]] = {"Cancel all": self._cancel, "Resume all": self._resume}

    @property
    def key(self) -> object:
        return self._sweep.home, self._sweep.id

    def look(self, notice: live.Notice) -> live.View:
        jobs = [*self._sweep.jobs]
        statuses = [*map(self._status, jobs)]
        counts = Counter(map(str, statuses))
        tables = [self._readers.setdefault(job.id, GrowingTable(JobFolder(job.folder).metrics)).read() for job in jobs[:_MOST_ROWS]]
        metric = _compared(jobs, tables)
        group = cards.Group(
            title=f"sweep of {len(jobs)} jobs",
            counts=counts,
            rows=[*_rows(jobs, statuses, tables, metric)],
            total=len(jobs),
            metric=metric,
            notice=notice,
        )
        return live.View(
            cards.sweep(group),
            repr(self._sweep),
            status=str(counts),
            is_over=all(status.is_over for status in statuses),
            is_final=all(status is Status.COMPLETED for status in statuses),
            actions=_group_actions(statuses),
        )

    def _status(self, job: Job) -> Status:
        if job.id in self._final:
            return self._final[job.id]
        status = job.status
        if status.is_final:
            self._final[job.id] = status
        return status

    def _cancel(self) -> str:
        self._sweep.cancel()
        return ""

    def _resume(self) -> str:
        self._sweep.resume()
        return ""


def _compared(jobs: Sequence[Job], tables: Sequence[MetricTable]) -> str:
    """The metric that a person would look at first in the first job that has one."""
    for job, table in zip(jobs, tables, strict=False):
        if name := progress.main_metric(table, progress.read(JobFolder(job.folder), table)):
            return name
    return ""


def _rows(jobs: Sequence[Job], statuses: Sequence[Status], tables: Sequence[MetricTable], metric: str) -> Iterator[cards.Row]:
    every = [_told(job) for job in jobs[: len(tables)]]
    differ = differing([params for _, params in every])
    for job, status, table, (name, params) in zip(jobs, statuses, tables, every, strict=False):
        curve = Curve(name, table.steps(metric), table[metric]) if metric in table else None
        detail = job.state().detail if status in (Status.FAILED, Status.INTERRUPTED) else ""
        yield cards.Row(name, str(status), {one: _short(params[one]) for one in differ if one in params}, curve, detail)


def _told(job: Job) -> tuple[str, Mapping[str, Any]]:
    """A job's name and arguments; its id if it is damaged, for it must not hide the others."""
    try:
        return job.name, job.params
    except HybridJobsError:
        return job.id, {}


def _facts(job: Job, state: State) -> Iterator[str]:
    spec = job.spec
    ended = (state.outcome or {}).get("time")
    now = time.time()
    if ended is not None:
        yield f"after {progress.duration(max(0.0, ended - spec.created))}, at {datetime.fromtimestamp(ended).astimezone():%Y-%m-%d %H:%M}"
    elif not state.status.is_over:
        yield f"for {progress.duration(max(0.0, now - spec.created))}, as of {datetime.fromtimestamp(now).astimezone():%H:%M:%S}"
    if state.attempt > 1:
        yield f"attempt {state.attempt}"
    yield spec.function
    if spec.device_text:
        yield spec.device_text.rpartition("device/")[2]
    yield spec.runner
    try:
        spent = job.cost
    except HybridJobsError:  # a damaged ledger must not hide the rest
        yield "its cost cannot be read"
    else:
        if not spent.is_nothing:
            yield str(spent)


def _step(standing: progress.Progress | None) -> cards.Step | None:
    if standing is None:
        return None
    loop = f"{standing.loop}: " if standing.loop else ""
    left = f", {progress.duration(standing.left_s)} left" if standing.left_s and standing.done < standing.total else ""
    return cards.Step(standing.done, standing.total, f"{loop}step {standing.done} of {standing.total}{left}")


def _in_order(table: MetricTable, standing: progress.Progress | None) -> list[str]:
    """The metric to look at first, then the others; how long the steps take comes last."""
    main = progress.main_metric(table, standing)
    return sorted(table.names, key=lambda name: (name != main, name == progress.STEP_TIME))


def _tail(job: Job) -> list[str]:
    return logs.tail([attempt.log for attempt in JobFolder(job.folder).attempt_list()], _LOG_LINES).splitlines()


def _advice(job: Job, state: State) -> str:
    if state.status in (Status.FAILED, Status.CANCELLED):
        return "job.logs() has all of its output; job.resume() goes on from its newest checkpoint, as a new job"
    if state.status is Status.INTERRUPTED:
        return "its checkpoints are kept: job.resume() goes on"
    return f"job.resume() starts it, and so does `hybridjobs resume {job.name}`" if _waits(job, state) else ""


def _waits(job: Job, state: State) -> bool:
    """Nobody was asked to start it. Jobs of a sweep wait for their turn."""
    return state.status is Status.CREATED and job.spec.sweep is None


def _actions(state: State, *, can_resume: bool) -> frozenset[str]:
    if state.status is Status.COMPLETED:
        return frozenset()
    if state.status.is_over or state.status in (Status.CREATED, Status.UNKNOWN):
        both = state.status in (Status.CREATED, Status.UNKNOWN)
        return frozenset({"Resume"} if can_resume else ()) | frozenset({"Cancel"} if both else ())
    return frozenset({"Cancel"})


def _group_actions(statuses: Sequence[Status]) -> frozenset[str]:
    """What has stopped can go on; so can jobs that wait where none runs that would begin them."""
    going = {status for status in statuses if not status.is_over}
    stopped = any(status.is_over and status is not Status.COMPLETED for status in statuses)
    can_resume = stopped or going == {Status.CREATED}
    return frozenset({"Resume all"} if can_resume else ()) | frozenset({"Cancel all"} if going else ())


def _words(job: Job, standing: progress.Progress | None, table: MetricTable, notice: str) -> str:
    """The card for those who see only text."""
    lines = [repr(job)]
    if (step := _step(standing)) is not None:
        lines.append(step.words)
    if last := {name: value for name, value in table.last().items() if name != progress.STEP_TIME}:
        lines.append(", ".join(f"{name} {value:.6g}" for name, value in last.items()))
    return "\n".join([*lines, *filter(None, [notice])])


def _arguments(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in params.items())


def _short(value: Any) -> str:
    shown = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[: _LONGEST_VALUE - 1]}…"
