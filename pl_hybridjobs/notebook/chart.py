"""A chart as one piece of SVG: lines over steps, an axis on each side. Needs no script, no style sheet and no background of its own.

Lines and letters are in the colour of the text around (``currentColor``), curves in hues of middle lightness: readable on white and on
black, whatever theme surrounds them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pl_hybridjobs.curves import extremes, thin
from pl_hybridjobs.notebook.markup import text

if TYPE_CHECKING:
    from pl_hybridjobs.curves import Array

# At least 3:1 against white and against #111 (WCAG 2.2, 1.4.11).
COLOURS = ("#2f80ed", "#d9730d", "#1f9d57", "#e0445c", "#9b5de5", "#0e97a7", "#c2569b", "#8a8f3c")
_WIDTH, _HEIGHT = 340, 150
_LEAST_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 8, 20
_DIGIT = 6.6  # pixels of the widest digit of common fonts
_DASHES = ("", "6 3", "2 3")  # each round through the colours has its own


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        label: What it is called.
        x: Steps, ascending, shape (points,).
        y: Any numbers, shape (points,). What is not finite is a gap, with a mark on the axis below.
    """

    label: str
    x: Array
    y: Array


def colour(index: int) -> str:
    """The colour of the curve with this number."""
    return COLOURS[index % len(COLOURS)]


def dashes(index: int) -> str:
    """SVG's ``stroke-dasharray`` of the curve with this number."""
    return _DASHES[index // len(COLOURS) % len(_DASHES)]


def chart(name: str, curves: Sequence[Curve], *, numbers: Sequence[int] | None = None, x_name: str = "step") -> str:
    """An ``<svg>`` element with all curves on the same axes; it says in words what it shows, for those who cannot see it.

    Args:
        name: What is drawn.
        curves: At least one, each with at least one point.
        numbers: Of the curves, which give them their colours; default: as they come.
        x_name: What the steps are called.
    """
    frame = _Frame.around(curves)
    words = "; ".join([name, *(_words(curve, named=len(curves) > 1) for curve in curves[:8])])
    parts = [f"<title>{text(words)}</title>", *_axes(frame, x_name)]
    for index, curve in zip(numbers or range(len(curves)), curves, strict=True):
        parts += _line(curve, frame, index)
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" aria-label="{text(words)}" '
        f'style="width:100%;max-width:{int(_WIDTH * 1.4)}px;height:auto" font-size="11" font-family="sans-serif" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


@dataclass(frozen=True)
class _Frame:
    """What the axes span, the numbers at the upright one, and how many pixels these take."""

    left: float
    right: float
    low: float
    high: float
    labels: Sequence[tuple[float, str]]
    margin: float

    @classmethod
    def around(cls, curves: Sequence[Curve]) -> _Frame:
        ends = [found for curve in curves if (found := extremes(curve.y))]
        low = min((low for low, _ in ends), default=0.0)
        high = max((high for _, high in ends), default=1.0)
        if high == low:
            low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
        left, right = min(float(curve.x[0]) for curve in curves), max(float(curve.x[-1]) for curve in curves)
        ticks = _ticks(low, high)
        labels = [(tick, f"{tick:.{_digits(ticks)}g}") for tick in ticks]
        return cls(left, right, low, high, labels, max(_LEAST_LEFT, 8 + _DIGIT * max(len(words) for _, words in labels)))

    @property
    def width(self) -> float:
        """Pixels for curves."""
        return _WIDTH - self.margin - _RIGHT

    def x(self, steps: Array) -> Array:
        """Pixels from the left."""
        span = self.right - self.left
        share = (steps - self.left) / span if span else np.full(len(steps), 0.5)
        places: Array = self.margin + share * self.width
        return places

    def y(self, values: Array) -> Array:
        """Pixels from the top."""
        span = self.high / 2 - self.low / 2  # halves: the difference of two very large numbers may be none
        places: Array = _TOP + (1 - (values / 2 - self.low / 2) / span) * (_HEIGHT - _TOP - _BOTTOM)
        return places


def _axes(frame: _Frame, x_name: str) -> list[str]:
    parts = []
    for (_, label), down in zip(frame.labels, frame.y(np.array([tick for tick, _ in frame.labels])).tolist(), strict=True):
        parts.append(f'<path d="M{frame.margin:.1f} {down:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-opacity=".18"/>')
        parts.append(f'<text x="{frame.margin - 6:.1f}" y="{down + 3.5:.1f}" text-anchor="end" opacity=".75">{label}</text>')
    first, last = f"{frame.left:.7g}", f"{frame.right:.7g}"
    base = _HEIGHT - 6
    parts.append(f'<text x="{frame.margin:.1f}" y="{base}" opacity=".75">{text(x_name)} {first}</text>')
    if last != first:
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{base}" text-anchor="end" opacity=".75">{last}</text>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers between the ends; the ends themselves where doubles know no round ones between."""
    span = high / 3 - low / 3
    if not 0 < span < math.inf:
        return [low, high]
    power = 10.0 ** math.floor(math.log10(span)) if span > 1e-300 else span
    step = next((power * m for m in (1, 2, 2.5, 5, 10) if power * m >= span * 0.75), span)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    found = [(first + n) * step for n in range(count)] if 2 <= count <= 6 and abs(first) < 1e12 else [low, high]
    return found if all(map(math.isfinite, found)) else [low, high]


def _digits(ticks: Sequence[float]) -> int:
    """As many as tell the ticks apart."""
    return next((n for n in range(3, 17) if len({f"{tick:.{n}g}" for tick in ticks}) == len(ticks) and _close(ticks, n)), 17)


def _close(ticks: Sequence[float], digits: int) -> bool:
    """Whether so many digits put each tick where it is drawn."""
    gap = abs(ticks[1] / 2 - ticks[0] / 2)
    return all(abs(float(f"{tick:.{digits}g}") / 2 - tick / 2) <= gap / 20 for tick in ticks)


def _line(curve: Curve, frame: _Frame, index: int) -> list[str]:
    at = thin(curve.x, curve.y, frame.left, frame.right, int(frame.width))
    x, y = frame.x(curve.x[at]).tolist(), curve.y[at]
    down = frame.y(np.where(np.isfinite(y), y, frame.low)).tolist()
    path, dots, gaps, is_open = [], [], [], False
    finite = np.isfinite(y).tolist()
    for n, (across, below) in enumerate(zip(x, down, strict=True)):
        if not finite[n]:
            gaps.append(f"M{across:.1f} {_HEIGHT - _BOTTOM - 4}v8")
        else:
            path.append(f"{'L' if is_open else 'M'}{across:.1f} {below:.1f}")
            if not is_open and not (n + 1 < len(finite) and finite[n + 1]):
                dots.append(f'<circle cx="{across:.1f}" cy="{below:.1f}" r="2.5" fill="{colour(index)}"/>')
        is_open = finite[n]
    dash = f' stroke-dasharray="{dashes(index)}"' if dashes(index) else ""
    stroke = f'fill="none" stroke="{colour(index)}" stroke-width="1.8" stroke-linejoin="round"'
    parts = [f'<path d="{"".join(path)}" {stroke}{dash}/>', *dots] if path else []
    if gaps:
        parts.append(f'<path d="{"".join(gaps)}" fill="none" stroke="#e0445c" stroke-width="1.5"><title>no finite number</title></path>')
    return parts


def _words(curve: Curve, *, named: bool) -> str:
    found = extremes(curve.y)
    count = f"{len(curve.y)} value{'s' * (len(curve.y) != 1)}"
    ends = f", from {found[0]:.6g} to {found[1]:.6g}" if found else ""
    return f"{curve.label + ': ' if named else ''}{count}{ends}, the last {curve.y[-1]:.6g}"
