"""Sets of arguments for ``f.map``: all combinations, or some drawn at random."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pl_hybridjobs.errors import InvalidCall


@runtime_checkable
class Distribution(Protocol):
    """What ``random_search`` draws from, beside lists."""

    def draw(self, source: random.Random) -> Any:
        """One value.

        Args:
            source: The only source of randomness, so that a seed repeats it.
        """
        ...


@dataclass(frozen=True)
class _Uniform:
    low: float
    high: float

    def draw(self, source: random.Random) -> float:
        share = source.random()
        return min(max(self.low * (1 - share) + self.high * share, self.low), self.high)


@dataclass(frozen=True)
class _LogUniform:
    low: float
    high: float

    def draw(self, source: random.Random) -> float:
        low, high = math.log(self.low), math.log(self.high)
        return min(max(math.exp(low + (high - low) * source.random()), self.low), self.high)


def uniform(low: float, high: float) -> Distribution:
    """Numbers between ``low`` and ``high``, all equally likely: for ``random_search``.

    Raises:
        InvalidCall: ``low`` is not below ``high``, or one of them is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidCall("uniform", [f"low and high must be numbers, the first below the second, not {low!r} and {high!r}"])
    return _Uniform(float(low), float(high))


def loguniform(low: float, high: float) -> Distribution:
    """Numbers between ``low`` and ``high``, each order of magnitude equally likely: for ``random_search``, for step sizes and the like.

    Raises:
        InvalidCall: ``low`` is not below ``high``, or not above 0, or one of them is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise InvalidCall("loguniform", [f"low and high must be numbers above 0, the first below the second, not {low!r} and {high!r}"])
    return _LogUniform(float(low), float(high))


def grid(**space: Iterable[Any]) -> list[dict[str, Any]]:
    """All combinations of values, as sets of keyword arguments for ``f.map``. The last name varies fastest.

    Args:
        **space: Argument -> its values: a list, a ``range``, a 1-d array.

    Raises:
        InvalidCall: Something is no list, or an empty one.

    Example:
        ``grid(layers=[1, 2], lr=[0.1, 0.3])`` gives four sets, the first of them ``{"layers": 1, "lr": 0.1}``.
    """
    listed = _listed("grid", space)
    return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]


def random_search(n: int, /, *, seed: int = 0, **space: Iterable[Any] | Distribution) -> list[dict[str, Any]]:
    """Sets of keyword arguments for ``f.map``, drawn at random.

    The same seed gives the same sets, on every machine. A larger ``n`` keeps the first ones, and a further argument changes no other.

    Args:
        n: How many.
        seed: Any whole number.
        **space: Argument -> what to draw from: a list or ``range`` (each of its values equally likely), ``uniform(low, high)``,
            ``loguniform(low, high)``, or a distribution of ``scipy.stats``.

    Raises:
        InvalidCall: Something that cannot be drawn from.

    Example:
        ``random_search(20, seed=7, lr=loguniform(1e-3, 1), layers=range(1, 9))``
    """
    found = []
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        found.append(f"the number of sets must be a whole number of at least 1, not {n!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        found.append(
            f"seed must be a whole number, not {seed!r}; for an argument of your function of that name, add it to the sets: "
            "[{**kwargs, 'seed': 1} for kwargs in random_search(...)]"
        )
    choices = _listed("random_search", {k: v for k, v in space.items() if not _is_distribution(v)}, found)
    columns = [_drawn(choices.get(name, values), random.Random(f"{seed} {name}"), n) for name, values in space.items()]  # noqa: S311
    return [dict(zip(space, values, strict=True)) for values in zip(*columns, strict=True)] if space else [{} for _ in range(n)]


def _is_distribution(values: Any) -> bool:
    return isinstance(values, Distribution) or hasattr(values, "rvs")


def _drawn(values: Any, source: random.Random, n: int) -> list[Any]:
    if isinstance(values, Distribution):
        return [values.draw(source) for _ in range(n)]
    if hasattr(values, "rvs"):
        return [_plain(values.rvs(random_state=source.getrandbits(32))) for _ in range(n)]
    return [source.choice(values) for _ in range(n)]


def _listed(where: str, space: Mapping[str, Any], found: list[str] | None = None) -> dict[str, list[Any]]:
    """Each argument's values as a list; complaints about all of them at once."""
    found = [] if found is None else found
    listed = {}
    for name, values in space.items():
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
            found.append(f"{name} must be a list of values, not {values!r}; for one value: {name}=[{values!r}]")
            continue
        listed[name] = [_plain(value) for value in values]
        if not listed[name]:
            found.append(f"{name} is an empty list, so there would be no set at all")
    if found:
        raise InvalidCall(where, found)
    return listed


def _plain(value: Any) -> Any:
    """Python's own number for an element of an array: it is recorded, and shown, as such."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
