"""Cards and tables: what is known of a job, of its metrics, of a sweep, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pl_hybridjobs.curves import extremes
from pl_hybridjobs.notebook.chart import Curve, chart, colour, dashes
from pl_hybridjobs.notebook.live import Notice
from pl_hybridjobs.notebook.markup import Markup, block, table, text

if TYPE_CHECKING:
    from pl_hybridjobs.curves import Array

_COLOURS = {
    "completed": "#1f9d57",
    "running": "#2f80ed",
    "failed": "#e0445c",
    "cancelled": "#d9730d",
    "interrupted": "#9b5de5",
}
_MOST_COLUMNS = 8
_ROWS_AT_AN_END = 5


@dataclass(frozen=True)
class Step:
    """How far something is.

    Attributes:
        done: So many.
        total: Of so many.
        words: In a line.
    """

    done: int
    total: int
    words: str


@dataclass(frozen=True)
class Facts:
    """What a job's card says.

    Attributes:
        name: The job's.
        status: One word.
        detail: Why, in a line; or "".
        facts: Short ones, shown in a line.
        arguments: The call's, in a line.
        step: How far it is, if that is known.
        curves: Its metrics, the most important first.
        drawn: So many of them are drawn; of the others the last value is told.
        log: The last lines.
        problem: What went wrong.
        advice: What to do about it.
        notice: The card's own.
        folder: Where it lies.
    """

    name: str
    status: str
    detail: str = ""
    facts: Sequence[str] = ()
    arguments: str = ""
    step: Step | None = None
    curves: Sequence[Curve] = ()
    drawn: int = 4
    log: Sequence[str] = ()
    problem: str = ""
    advice: str = ""
    notice: Notice = field(default_factory=Notice)
    folder: str = ""


def card(job: Facts) -> str:
    """A job."""
    drawn, listed = job.curves[: job.drawn], job.curves[job.drawn :]
    rest = ", ".join(f"{curve.label} {curve.y[-1]:.6g}" for curve in listed)
    return block(
        _head(job.name, job.status, job.detail),
        _line(" · ".join(job.facts)),
        _line(job.arguments),
        _bar(job.step),
        _charts(drawn),
        _line(f"also logged: {rest}" if rest else ""),
        _log(job.log),
        _line(job.problem, "hj-bad"),
        _notice(job.notice),
        _line(job.advice),
        _line(job.folder),
    )


def metrics(curves: Sequence[Curve], problems: Sequence[str] = ()) -> str:
    """Metrics of a job: curves, a summary of each, the first and the last steps."""
    if not curves:
        return block(_line("no metrics yet"), *(_line(problem, "hj-bad") for problem in problems))
    more = len(curves) - _MOST_COLUMNS
    return block(
        _charts(curves[:_MOST_COLUMNS]),
        table(("metric", "values", "min", "max", "last", "at step"), map(_summary, curves), numbers=(1, 2, 3, 4, 5)),
        _steps(curves[:_MOST_COLUMNS]),
        _line(f"and {more} more metrics: table.rows(), table.to_pandas()" if more > 0 else ""),
        *(_line(problem, "hj-bad") for problem in problems),
    )


def plain_table(lines: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int]) -> str:
    """A table below some lines of text; ``numbers`` are the columns that hold numbers."""
    return block(*map(_line, lines), table(head, rows, numbers=numbers))


@dataclass(frozen=True)
class Row:
    """A job of a sweep.

    Attributes:
        name: The job's.
        status: One word.
        arguments: Those in which the jobs differ, as text.
        curve: Of the metric that is compared; None where there is none yet.
        detail: Why it stopped, or "".
    """

    name: str
    status: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    curve: Curve | None = None
    detail: str = ""


@dataclass(frozen=True)
class Group:
    """What a sweep's card says.

    Attributes:
        title: What it is.
        counts: How many jobs have which status.
        rows: Those that are shown.
        total: How many jobs there are.
        metric: What is compared, or "".
        notice: The card's own line.
    """

    title: str
    counts: Mapping[str, int]
    rows: Sequence[Row]
    total: int
    metric: str = ""
    notice: Notice = field(default_factory=Notice)


def sweep(group: Group) -> str:
    """A sweep: how far it is, curves over each other, a line for each job."""
    over = sum(group.counts.get(status, 0) for status in ("completed", "failed", "cancelled", "interrupted"))
    counts = " · ".join(f"{count} {status}" for status, count in group.counts.items())
    names = list(dict.fromkeys(name for row in group.rows for name in row.arguments))
    curves = [(n, row.curve) for n, row in enumerate(group.rows) if row.curve is not None]
    head = ("", "job", "status", *names, *([f"last {group.metric}", "least", "greatest"] if group.metric else []), "")
    numbers = [*range(3, 3 + len(names) + 3 * bool(group.metric))]
    left = group.total - len(group.rows)
    return block(
        f'<div class="hj-head"><span class="hj-name">{text(group.title)}</span><span>{text(counts)}</span></div>',
        _bar(Step(over, group.total, f"{over} of {group.total} jobs are over")) if over < group.total else "",
        f'<div class="hj-charts">{_figure(group.metric, [curve for _, curve in curves], [n for n, _ in curves])}</div>' if curves else "",
        table(head, [_sweep_row(n, row, names, bool(group.metric)) for n, row in enumerate(group.rows)], numbers=numbers),
        _line(f"and {left} more jobs" if left else ""),
        _notice(group.notice),
    )


def _sweep_row(index: int, row: Row, names: Sequence[str], has_metric: bool) -> list[object]:
    key = f'stroke="{colour(index)}" stroke-width="3" stroke-dasharray="{dashes(index)}"'
    swatch = Markup(f'<svg width="22" height="8" aria-hidden="true"><path d="M0 4H22" {key}/></svg>') if row.curve else ""
    values = _values(row.curve) if has_metric else []
    arguments = [row.arguments.get(name, "") for name in names]
    return [swatch, row.name, Markup(_dot(row.status)), *arguments, *values, row.detail]


def _values(curve: Curve | None) -> list[str]:
    """The last, the least and the greatest."""
    if curve is None:
        return ["", "", ""]
    return [f"{curve.y[-1]:.6g}", *(f"{value:.6g}" if value is not None else "" for value in extremes(curve.y) or (None, None))]


def _head(name: str, status: str, detail: str) -> str:
    said = f'<span class="hj-mild">{text(detail)}</span>' if detail else ""
    return f'<div class="hj-head"><span class="hj-name"><bdi>{text(name)}</bdi></span>{_dot(status)}{said}</div>'


def _dot(status: str) -> str:
    hue = _COLOURS.get(status, "#808080")
    return f'<span class="hj-status"><span aria-hidden="true" style="color:{hue}">●</span> {text(status)}</span>'


def _line(words: str, kind: str = "hj-mild hj-facts") -> str:
    return f'<div class="{kind}">{text(words)}</div>' if words else ""


def _log(lines: Sequence[str]) -> str:
    """Scrolled to its end."""
    shown = "\n".join(map(text, lines))
    return f'<div class="hj-log" role="log" aria-label="the end of the log"><pre>{shown}</pre></div>' if lines else ""


def _notice(notice: Notice) -> str:
    """What became of a press of a button; read aloud."""
    return f'<div class="{"hj-bad" if notice.is_bad else "hj-note"}" role="status">{text(notice.words)}</div>' if notice.words else ""


def _bar(step: Step | None) -> str:
    if step is None:
        return ""
    share = min(100.0, 100 * step.done / step.total) if step.total else 100.0
    ends = f'role="progressbar" aria-valuemin="0" aria-valuemax="{step.total}" aria-valuenow="{step.done}" aria-label="{text(step.words)}"'
    return f'<div class="hj-bar" {ends}><div style="width:{share:.1f}%"></div></div>{_line(step.words)}'


def _charts(curves: Sequence[Curve]) -> str:
    return f'<div class="hj-charts">{"".join(_figure(curve.label, [curve], [0]) for curve in curves)}</div>' if curves else ""


def _figure(name: str, curves: Sequence[Curve], numbers: Sequence[int]) -> str:
    last = f' <span class="hj-mild">{curves[0].y[-1]:.6g}</span>' if len(curves) == 1 else ""
    return f"<figure><figcaption><b>{text(name)}</b>{last}</figcaption>{chart(name, curves, numbers=numbers)}</figure>"


def _summary(curve: Curve) -> tuple[object, ...]:
    last, low, high = _values(curve)
    return curve.label, len(curve.y), low, high, last, int(curve.x[-1])


def _steps(curves: Sequence[Curve]) -> str:
    """The first and the last steps, a column for each metric."""
    every: Array = np.unique(np.concatenate([curve.x for curve in curves]))
    few = len(every) <= 2 * _ROWS_AT_AN_END + 1
    shown = every.tolist() if few else [*every[:_ROWS_AT_AN_END].tolist(), None, *every[-_ROWS_AT_AN_END:].tolist()]
    rows = [["…"] * (1 + len(curves)) if step is None else [step, *(_at(curve, step) for curve in curves)] for step in shown]
    return table(("step", *(curve.label for curve in curves)), rows, numbers=range(1 + len(curves)))


def _at(curve: Curve, step: int) -> str:
    n = int(np.searchsorted(curve.x, step))
    return f"{curve.y[n]:.6g}" if n < len(curve.x) and curve.x[n] == step else ""
