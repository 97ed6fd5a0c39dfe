"""A sweep as a picture: curves over each other, or values over an argument."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import InvalidCall, RunnerError, did_you_mean
from pl_hybridjobs.jobs.sweep_table import ATS

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.sweep import Sweep
    from pl_hybridjobs.jobs.sweep_table import SweepRow, SweepTable

_MOST_LABELS = 12
_TWO_DECADES = 100.0


def draw(sweep: Sweep, metric: str, x: str | None, *, at: str, log: bool) -> Any:
    """See ``Sweep.plot``.

    Returns:
        A matplotlib figure.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RunnerError("Plots need matplotlib: pip install 'pl-hybridjobs[plot]'") from None
    if at not in ATS:
        raise InvalidCall("Sweep.plot", [f"at must be one of {', '.join(ATS)}, not {at!r}"])
    table = sweep.table()
    table.check_metric(metric, "Sweep.plot")
    if x is not None and x not in table.params:
        raise InvalidCall(
            "Sweep.plot", [f"no job has an argument {x!r}.{did_you_mean(x, table.params)} There are: {', '.join(table.params)}"]
        )
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    if x is None:
        _curves(axes, sweep, table, metric)
    else:
        _over_argument(axes, table, metric, x, at)
    axes.set_ylabel(metric if x is None or at == "last" else f"{metric} ({at})")
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if 1 < len(axes.get_legend_handles_labels()[1]) <= _MOST_LABELS:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside the curves, not over them
    return figure


def _curves(axes: Any, sweep: Sweep, table: SweepTable, metric: str) -> None:
    shown = [(job, row) for job, row in zip(sweep.jobs, table.rows, strict=True) if metric in row.metrics]
    colours = _colours(table, [row for _, row in shown])
    for (job, row), colour in zip(shown, colours, strict=True):
        values = job.metrics(metric)
        marker = "." if len(values[metric]) < 50 else ""
        axes.plot(values.steps(metric), values[metric], color=colour, marker=marker, label=_label(row, table.varying) or row.name)
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
        points = [(row.params[x] if is_numeric else str(row.params[x]), row.metrics[metric].get(at)) for row in members]
        points = sorted(points, key=lambda point: point[0]) if is_numeric else points
        joined = "-" if is_numeric and len({point[0] for point in points}) == len(points) and (label or not others) else ""
        axes.plot(*zip(*points, strict=True), marker="o", linestyle=joined or "none", label=label or None)
    values = [row.params[x] for row in rows] if is_numeric else []
    if values and min(values) > 0 and max(values) / min(values) >= _TWO_DECADES:
        axes.set_xscale("log")
    axes.set_xlabel(x)


def _label(row: SweepRow, names: Sequence[str]) -> str:
    return ", ".join(f"{name}={_short(row.params, name)}" for name in names)


def _short(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:20]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
