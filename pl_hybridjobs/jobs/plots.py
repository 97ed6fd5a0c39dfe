"""Jobs and sweeps as pictures, by matplotlib: curves below each other, over each other, or values over an argument."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import InvalidCall, RunnerError, did_you_mean
from pl_hybridjobs.jobs.metrics import of_job as metrics_of_job
from pl_hybridjobs.jobs.sweep_table import ATS, shown
from pl_hybridjobs.plain import line

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.sweep import Sweep
    from pl_hybridjobs.jobs.sweep_table import SweepRow, SweepTable

_MOST_LABELS = 12
_FEW = 50  # values, each of which is marked by a dot
_TWO_DECADES = 100.0


def of_job(job: Job, path: str | Path | None, names: Sequence[str], *, log: bool) -> Any:
    """See ``Job.plot``."""
    figure_of = _figures()
    _check_ending(path, "Job.plot")
    table = metrics_of_job(job, names, "Job.plot")
    count = max(1, len(table.names))
    figure = figure_of(figsize=(7, 2.2 * count), layout="constrained")
    for row, metric in enumerate(table.names):
        axes = figure.add_subplot(count, 1, row + 1)
        axes.plot(table.steps(metric), table[metric], marker=_marker(len(table[metric])))
        _finish(axes, metric, log=log)
    if table.names:
        axes.set_xlabel("step")
    figure.suptitle(job.name)
    return _saved(figure, path)


def of_sweep(sweep: Sweep, metric: str, x: str | None, path: str | Path | None, *, at: str, log: bool) -> Any:
    """See ``Sweep.plot``."""
    figure_of = _figures()
    _check_ending(path, "Sweep.plot")
    if at not in ATS:
        raise InvalidCall("Sweep.plot", [f"at must be one of {', '.join(ATS)}, not {at!r}"])
    table = sweep.table()
    table.check_metric(metric, "Sweep.plot")
    if x is not None and x not in table.params:
        file = f" A file is path={x!r}." if Path(x).suffix else ""
        said = f"no job has an argument {x!r}.{did_you_mean(x, table.params)} There are: {', '.join(table.params)}.{file}"
        raise InvalidCall("Sweep.plot", [said])
    figure = figure_of(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    if x is None:
        _curves(axes, sweep, table, metric)
    else:
        _over_argument(axes, table, metric, x, at)
    _finish(axes, metric if x is None or at == "last" else f"{metric} ({at})", log=log)
    if 1 < len(axes.get_legend_handles_labels()[1]) <= _MOST_LABELS:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside the curves, not over them
    return _saved(figure, path)


def _figures() -> Any:
    """The class of figures that needs no screen."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RunnerError("Plots need matplotlib: pip install 'pl-hybridjobs[plot]'") from None
    return Figure


def _check_ending(path: str | Path | None, where: str) -> None:
    """Refuse a file of which nobody can say what picture it is to be: before anything is drawn, and a metric's name is no file."""
    from matplotlib.backend_bases import FigureCanvasBase

    ending = Path(path).suffix[1:].lower() if path is not None else "png"
    if ending not in FigureCanvasBase.get_supported_filetypes():
        raise InvalidCall(where, [f"path={str(path)!r} must end in .png, .svg, .pdf, or in another ending that matplotlib knows"])


def _finish(axes: Any, label: str, *, log: bool) -> None:
    axes.set_ylabel(_words(label))
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _marker(count: int) -> str:
    return "." if count < _FEW else ""


def _saved(figure: Any, path: str | Path | None) -> Any:
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _curves(axes: Any, sweep: Sweep, table: SweepTable, metric: str) -> None:
    drawn = [(job, row) for job, row in zip(sweep.jobs, table.rows, strict=True) if metric in row.metrics]
    colours = _colours(table, [row for _, row in drawn])
    for (job, row), colour in zip(drawn, colours, strict=True):
        values = job.metrics(metric)
        label = _label(row, table.varying) or row.name
        axes.plot(values.steps(metric), values[metric], color=colour, marker=_marker(len(values[metric])), label=label)
    axes.set_xlabel("step")


def _colours(table: SweepTable, rows: Sequence[SweepRow]) -> Sequence[Any]:
    """Along a scale where one number makes the difference, else as they come."""
    from matplotlib import colormaps

    given: list[Any] = [row.params.get(table.varying[0]) for row in rows] if len(table.varying) == 1 else []
    if len(given) < 2 or not all(map(_is_number, given)):
        return [None if len(rows) <= 10 else colormaps["viridis"](i / len(rows)) for i in range(len(rows))]
    order = sorted(set(given))
    return [colormaps["viridis"](0.9 * order.index(value) / max(1, len(order) - 1)) for value in given]


def _over_argument(axes: Any, table: SweepTable, metric: str, x: str, at: str) -> None:
    rows = [row for row in table.rows if metric in row.metrics and x in row.params]
    is_numeric = all(_is_number(row.params[x]) for row in rows)
    groups: dict[str, list[SweepRow]] = {}
    others = [name for name in table.varying if name != x]
    for row in rows:
        groups.setdefault(_label(row, others), []).append(row)
    if len(groups) > min(_MOST_LABELS, len(rows) // 2):  # nothing to join: as after a random search
        groups = {"": rows}
    for label, members in groups.items():
        points = [(row.params[x] if is_numeric else _words(str(row.params[x])), row.metrics[metric].get(at)) for row in members]
        points = sorted(points, key=lambda point: point[0]) if is_numeric else points
        joined = "-" if is_numeric and len({point[0] for point in points}) == len(points) and (label or not others) else ""
        axes.plot(*zip(*points, strict=True), marker="o", linestyle=joined or "none", label=label or None)
    values = [row.params[x] for row in rows] if is_numeric else []
    if values and min(values) > 0 and max(values) / min(values) >= _TWO_DECADES:
        axes.set_xscale("log")
    axes.set_xlabel(x)


def _label(row: SweepRow, names: Sequence[str]) -> str:
    return ", ".join(f"{name}={_words(shown(row.params.get(name)))}" for name in names)


def _words(text: str) -> str:
    """Text in which matplotlib finds no formula, and no letter that no font has."""
    return line(text).replace("$", r"\$")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
