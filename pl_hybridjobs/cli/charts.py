"""Curves as text: a line of bars, or a chart of braille dots. Pure: numbers in, lines out."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_BLANK = 0x2800  # Unicode's braille patterns begin here; each has two columns of four dots
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def curve(values: Sequence[float], width: int = 16) -> str:
    """Values as a line of bars.

    Args:
        values: Finite numbers.
        width: At most so many characters.
    """
    if not values:
        return ""
    count = min(width, len(values))
    picked = [values[i * len(values) // count] for i in range(count - 1)] + [values[-1]]
    return "".join(_BARS[int(share * 7.999)] for share in _shares(picked))


def _shares(values: Sequence[float]) -> list[float]:
    """Where values lie between the least and the greatest, from 0 to 1. In halves: the difference of two very large numbers is none."""
    low, span = min(values) / 2, max(values) / 2 - min(values) / 2
    return [(value / 2 - low) / span if span else 0.0 for value in values]


def chart(steps: Sequence[float], values: Sequence[float], *, width: int, height: int, log: bool = False) -> list[str]:
    """Values over steps, with an axis.

    Args:
        steps: Ascending, as many as values.
        values: Numbers; those that are not finite (or, with ``log``, not positive) are left out.
        width: In characters, the axis included.
        height: In lines, the axis included.
        log: A logarithmic scale.

    Returns:
        Lines of text.
    """
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v) and (v > 0 or not log)]
    if not points:
        return ["nothing to draw" if not len(values) else "no value that can be drawn"]
    low, high = min(v for _, v in points), max(v for _, v in points)
    rows = max(1, height - 1)
    labels = {rows - 1: low, 0: high} if high > low else {rows // 2: low}
    digits = next((n for n in range(6, 18) if f"{high:.{n}g}" != f"{low:.{n}g}"), 6)
    numbers = {row: f"{value:.{digits}g}" for row, value in labels.items()}
    gutter = max(map(len, numbers.values())) + 1
    columns = max(1, width - gutter - 1)
    heights = [math.log(v) for _, v in points] if log else [v for _, v in points]
    canvas = _drawn([s for s, _ in points], heights, 2 * columns, 4 * rows)
    lines = []
    for row in range(rows):
        label = numbers.get(row, "")
        cells = (sum(_DOTS[x][y] for x in (0, 1) for y in range(4) if canvas[4 * row + y][2 * c + x]) for c in range(columns))
        lines.append(f"{label:>{gutter}}┤" + "".join(chr(_BLANK + cell) if cell else " " for cell in cells).rstrip())
    first, last = f"{points[0][0]:g}", f"{points[-1][0]:g}"
    axis = f"step {first}" + (f"{last:>{max(1, columns - len(first) - 5)}}" if last != first else "")
    return [*lines, " " * (gutter + 1) + axis]


def _drawn(xs: Sequence[float], ys: Sequence[float], wide: int, high: int) -> list[list[bool]]:
    """A raster of a curve: each column is lit from the least to the greatest value in it, and joined to the one before."""
    x0, x_span = xs[0], xs[-1] - xs[0]
    places = [int(share * (high - 1) + 0.5) for share in _shares(ys)] if max(ys) > min(ys) else [high // 2] * len(ys)
    canvas = [[False] * wide for _ in range(high)]
    spans: dict[int, tuple[int, int, int]] = {}  # column -> lowest, highest and last dot
    for x, dot in zip(xs, places, strict=True):
        column = int((x - x0) / x_span * (wide - 1)) if x_span else 0
        lowest, highest, _ = spans.get(column, (dot, dot, dot))
        spans[column] = min(lowest, dot), max(highest, dot), dot
    before: tuple[int, int] | None = None
    for column, (lowest, highest, last) in sorted(spans.items()):
        for between in range(before[0] + 1, column) if before else ():
            dot = round(before[1] + (lowest - before[1]) * (between - before[0]) / (column - before[0])) if before else 0
            canvas[high - 1 - dot][between] = True
        for dot in range(lowest, highest + 1):
            canvas[high - 1 - dot][column] = True
        before = column, last
    return canvas
