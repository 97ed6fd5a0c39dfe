"""Fewer points of a curve that draw the same picture, and smoothing.

A curve is drawn on so many pixel columns. Of the points in one column the first, the lowest, the highest and the last make the same line
as all of them: M4 (U. Jugel, Z. Jerzak, G. Hackenbroich, V. Markl, "M4: A Visualization-Oriented Time Series Data Aggregation", PVLDB 7
(10), 797-808, 2014). No extreme is lost, at any number of points. We add the first value of a column that is no finite number, so that
a NaN is never hidden.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def thin(x: Array, y: Array, low: float, high: float, columns: int) -> Array:
    """Indices of the points that draw a curve between ``low`` and ``high``; at most five a column, and one more on each side.

    Args:
        x: Ascending, shape (points,).
        y: Any numbers, shape (points,).
        low: Left edge.
        high: Right edge, at least ``low``.
        columns: How many pixels there are in between.

    Returns:
        int64, shape (kept,), ascending.
    """
    first = max(0, int(np.searchsorted(x, low, "left")) - 1)
    last = min(len(x), int(np.searchsorted(x, high, "right")) + 1)
    if last - first <= 4 * columns:
        return np.arange(first, last)
    x, y = x[first:last], y[first:last]
    edges = np.searchsorted(x, np.linspace(low, high, columns + 1)[:-1])
    starts = np.unique([0, *edges, np.searchsorted(x, high, "right")])
    starts = starts[starts < len(x)]
    ends = np.append(starts[1:], len(x))
    finite = np.isfinite(y)
    lowest = _first_equal(np.where(finite, y, np.inf), np.minimum, starts, ends)
    highest = _first_equal(np.where(finite, y, -np.inf), np.maximum, starts, ends)
    odd = np.append(np.flatnonzero(~finite), len(y))
    odd = odd[np.searchsorted(odd, starts)]
    kept: Array = np.unique(np.concatenate([starts, lowest, highest, ends - 1, odd[odd < ends]]))
    return kept + first


def _first_equal(y: Array, extreme: np.ufunc, starts: Array, ends: Array) -> Array:
    """In each piece the index of the first of its extreme values."""
    found = np.flatnonzero(y == np.repeat(extreme.reduceat(y, starts), ends - starts))
    return found[np.searchsorted(found, starts)]


def smooth(y: Array, weight: float) -> Array:
    """Exponential moving average without the bias of its beginning; values that are no finite numbers stay as they are.

    ``m[n] = weight * m[n-1] + (1 - weight) * y[n]``, divided by ``1 - weight**(n+1)`` (D. P. Kingma, J. Ba, "Adam", 2015, section 3).

    Args:
        y: Shape (points,).
        weight: From 0 (nothing changes) to below 1.
    """
    finite = np.isfinite(y)
    result: Array = np.array(y, dtype=np.float64)
    count = int(finite.sum())
    if weight > 0 and count:
        result[finite] = _average(result[finite], weight) / (1 - weight ** np.arange(1, count + 1))
    return result


def _average(y: Array, weight: float) -> Array:
    """``m`` above, with its bias, in pieces so short that ``weight**-length`` is no large number (1e30 at most)."""
    length = max(1, min(4096, int(69 / -math.log(weight))))
    pieces = np.zeros((-(-len(y) // length), length))
    pieces.reshape(-1)[: len(y)] = y
    powers = weight ** np.arange(length)
    mean: Array = np.cumsum(pieces / powers, axis=1) * powers * (1 - weight)
    carried = np.zeros(len(pieces))
    for piece in range(1, len(pieces)):
        carried[piece] = mean[piece - 1, -1] + carried[piece - 1] * weight**length
    mean += carried[:, None] * (powers * weight)
    return mean.reshape(-1)[: len(y)]


def extremes(y: Array) -> tuple[float, float] | None:
    """The smallest and the largest of the finite values; None where there are none."""
    y = y[np.isfinite(y)]
    return (float(y.min()), float(y.max())) if len(y) else None


def spark(y: Array, width: int = 100, height: int = 24) -> list[int]:
    """A curve as points of a small picture, ``[x0, y0, x1, y1, ...]`` in whole pixels from the top left; finite values only."""
    y = y[np.isfinite(y)]
    if not len(y):
        return []
    x = np.arange(len(y), dtype=np.float64)
    at = thin(x, y, 0, max(1, len(y) - 1), width // 2)
    low, high = float(y.min()), float(y.max())
    across = np.rint(x[at] * width / max(1, len(y) - 1))
    span = high / 2 - low / 2  # halves: the difference of two very large numbers may be none
    share = (y[at] / 2 - low / 2) / span if span > 0 else np.full(len(at), 0.5)
    down = np.rint((1 - share) * (height - 2) + 1)
    return [int(number) for pair in zip(across.tolist(), down.tolist(), strict=True) for number in pair]
