"""Stop rules: pure functions of the progress so far.

All that a rule looks at is in a checkpoint as well, so that a resumed run stops where the uninterrupted one does (wall time, of
course, is another in each run; it counts over all attempts).
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pl_hybridjobs.errors import InvalidCall

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_LEAST_WINDOW = 4  # fewer values say nothing about the scatter around their own trend


@dataclass(frozen=True, eq=False)
class Progress:
    """A training run after a step: what stop rules see.

    Attributes:
        step: How many steps are finished; the newest one's index is ``step - 1``.
        value: The objective's newest value.
        gradient_norm: The newest gradient's Euclidean norm; None if the optimizer takes none.
        elapsed_s: Seconds of training, over all attempts.
        shots: Shots that a step takes; None if it is analytic.
        values: All values so far, float64 of shape ``(step,)``.
        gradient_norms: All gradient norms so far, float64 of shape ``(step,)``, NaN where there is none.
        params: The parameters after the step, nested as the user's.
    """

    step: int
    value: float
    gradient_norm: float | None
    elapsed_s: float
    shots: int | None
    values: Floats
    gradient_norms: Floats
    params: Any


Rule: TypeAlias = Callable[[Progress], "str | bool | None"]
"""Looks at the progress after each step. A reason (or True: the rule's name is the reason) stops; None, False or ``""`` goes on."""


@dataclass(frozen=True)
class Target:
    """Stop as soon as a value is as good as this one.

    One value decides. Where it carries shot noise, a lucky one can reach the target too early; a mean is harder to fool:
    ``stop=lambda progress: progress.step >= 20 and progress.values[-20:].mean() < -1.13``.

    Args:
        value: The target, in the objective's unit.
        mode: ``"min"``: this value or a lower one; ``"max"``: this value or a higher one.

    Raises:
        InvalidCall: An argument is not acceptable.
    """

    value: float
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        _check("Target", [*_wrong_number("value", self.value), *_wrong_mode(self.mode)])
        object.__setattr__(self, "value", float(self.value))

    def __call__(self, progress: Progress) -> str | None:
        """The reason to stop, once the target is reached."""
        reached = progress.value <= self.value if self.mode == "min" else progress.value >= self.value
        return f"Target: the value {progress.value:.8g} has reached {self.value:.8g}" if reached else None


@dataclass(frozen=True)
class Patience:
    r"""Stop when the value has not improved for a while, knowing that noise is no improvement.

    Without noise: stop when the best of the newest ``steps`` values is not better, by more than ``min_change``, than the best of all
    before. A plateau thus ends exactly ``steps`` steps after the last improvement. (In single precision rounding goes on "improving" a
    value for long; give a ``min_change`` there.)

    With noise a single lucky value proves nothing. The mean of the newest :math:`m` = ``steps`` values, :math:`\bar y_2`, is compared
    with the mean of the :math:`m` before, :math:`\bar y_1`, by Welch's test (B. L. Welch 1947, doi:10.1093/biomet/34.1-2.28): go on
    while

    .. math:: \bar y_1 - \bar y_2 - t_{c,\nu}\, \sqrt{(s_1^2 + s_2^2) / m} > \text{min\_change}

    where :math:`s_k^2` is the variance of window :math:`k` around its own least-squares line (:math:`m - 2` degrees of freedom: a steady
    descent is not taken for noise), :math:`t_{c,\nu}` Student's quantile at ``confidence`` and :math:`\nu = (m - 2) (s_1^2 + s_2^2)^2 /
    (s_1^4 + s_2^4)`. Nothing is judged before :math:`2 m` steps; windows have at least four values. The test takes the noise of the
    steps to be independent. A descent is seen reliably if it gains five standard errors or more in ``steps`` steps: for less, be more
    patient or take more shots.

    Args:
        steps: How many steps without improvement are borne.
        min_change: The least improvement that counts, in the objective's unit.
        mode: ``"min"``: lower is better; ``"max"``: higher is better.
        confidence: With noise, how sure an improvement must be to count: between 0.5 and 1. More stops sooner.
        noisy: Whether values carry noise; None: they do if steps take shots. Say True for mini-batches.

    Raises:
        InvalidCall: An argument is not acceptable.
    """

    steps: int
    min_change: float = 0.0
    mode: Literal["min", "max"] = "min"
    confidence: float = 0.9
    noisy: bool | None = None

    def __post_init__(self) -> None:
        found = [*_wrong_count("steps", self.steps), *_wrong_number("min_change", self.min_change, least=0.0), *_wrong_mode(self.mode)]
        if _wrong_number("confidence", self.confidence) or not 0.5 <= self.confidence < 1:
            found.append(f"confidence must be at least 0.5 and below 1, not {self.confidence!r}")
        if self.noisy is not None and not isinstance(self.noisy, bool):
            found.append(f"noisy must be True, False or None, not {self.noisy!r}")
        _check("Patience", found)
        object.__setattr__(self, "steps", int(self.steps))
        object.__setattr__(self, "min_change", float(self.min_change))
        object.__setattr__(self, "confidence", float(self.confidence))

    def __call__(self, progress: Progress) -> str | None:
        """The reason to stop, once patience is at its end."""
        values = progress.values if self.mode == "min" else -progress.values
        noisy = progress.shots is not None if self.noisy is None else self.noisy
        return self._of_means(values) if noisy else self._of_bests(values)

    def _of_bests(self, values: Floats) -> str | None:
        import numpy as np

        if len(values) <= self.steps:
            return None
        before, newest = (float(np.fmin.reduce(part)) for part in (values[: -self.steps], values[-self.steps :]))
        if before - newest > self.min_change:
            return None
        best = before if self.mode == "min" else -before
        return f"Patience: {self._no_improvement()} on the best value {best:.8g}"

    def _of_means(self, values: Floats) -> str | None:
        import numpy as np

        size = max(self.steps, _LEAST_WINDOW)
        windows = values[-2 * size :]
        if len(windows) < 2 * size or not np.isfinite(windows).all():
            return None
        windows = windows.reshape(2, size)
        before, newest = windows.mean(axis=1).tolist()
        margin = _margin(windows, self.confidence)
        if before - newest - margin > self.min_change:
            return None
        return (
            f"Patience: {self._no_improvement()} that stands out of the noise (the mean improved by {before - newest:.3g}, "
            f"its standard error asks for more than {margin:.3g})"
        )

    def _no_improvement(self) -> str:
        more = f" of more than {self.min_change:g}" if self.min_change else ""
        return f"in the last {self.steps} steps there was no improvement{more}"


def _margin(windows: Floats, confidence: float) -> float:
    """How far the means of two windows, shape ``(2, m)``, must lie apart for this one-sided confidence: Welch's t times standard error."""
    import numpy as np
    from scipy.special import stdtrit

    size = windows.shape[1]
    time = np.arange(size) - (size - 1) / 2
    level = windows - windows.mean(axis=1, keepdims=True)
    unit = np.abs(level).max() or 1.0  # squares of very small or large values leave the range of floats
    level /= unit
    rest = level - np.outer(level @ time / (time @ time), time)
    variance = (rest**2).sum(axis=1) / (size - 2)
    if not variance.any():
        return 0.0
    freedom = (size - 2) * variance.sum() ** 2 / (variance**2).sum()
    return float(unit * stdtrit(freedom, confidence) * np.sqrt(variance.sum() / size))


@dataclass(frozen=True)
class GradientNorm:
    """Stop when the gradient has become small. Never fires for optimizers that take no gradient.

    Args:
        below: The norm (Euclidean, over all parameters) must be smaller than this ...
        steps: ... in so many steps one after the other.

    Raises:
        InvalidCall: An argument is not acceptable.
    """

    below: float
    steps: int = 1

    def __post_init__(self) -> None:
        _check("GradientNorm", [*_wrong_number("below", self.below, above=0.0), *_wrong_count("steps", self.steps)])
        object.__setattr__(self, "below", float(self.below))
        object.__setattr__(self, "steps", int(self.steps))

    def __call__(self, progress: Progress) -> str | None:
        """The reason to stop, once gradients have been small for long enough."""
        newest = progress.gradient_norms[-self.steps :]
        if len(newest) < self.steps or not (newest < self.below).all():
            return None
        since = f" for {self.steps} steps" if self.steps > 1 else ""
        return f"GradientNorm: {newest[-1]:.3g}, below {self.below:g}{since}"


@dataclass(frozen=True, init=False)
class WallTime:
    """Stop at the end of the first step after this time of training, all attempts of a job taken together.

    Args:
        limit_s: Seconds, or a ``timedelta``.

    Raises:
        InvalidCall: It is not a positive time.
    """

    limit_s: float

    def __init__(self, limit_s: float | timedelta) -> None:
        seconds = limit_s.total_seconds() if isinstance(limit_s, timedelta) else limit_s
        _check("WallTime", _wrong_number("limit_s", seconds, above=0.0))
        object.__setattr__(self, "limit_s", float(seconds))

    def __call__(self, progress: Progress) -> str | None:
        """The reason to stop, once the time is over."""
        over = progress.elapsed_s >= self.limit_s
        return f"WallTime: {progress.elapsed_s:.1f} s of training, the limit is {self.limit_s:g} s" if over else None


def as_rules(stop: Any) -> tuple[Rule, ...]:
    """The rules that a user's ``stop=`` means: None, one rule, or a list or tuple of them.

    Raises:
        InvalidCall: Something in it is no rule.
    """
    if stop is None:
        return ()
    rules = tuple(stop) if isinstance(stop, list | tuple) else (stop,)
    _check("stop", [complaint for rule in rules for complaint in _wrong_rule(rule)])
    return rules


def first_reason(rules: tuple[Rule, ...], progress: Progress) -> str:
    """Why to stop now: what the first rule that fires says; ``""`` if none does. What a rule raises passes through.

    Raises:
        InvalidCall: A rule gave neither a text, a truth value nor None.
    """
    for rule in rules:
        said = rule(progress)
        if isinstance(said, str):
            if said:
                return said
        elif said is None or said is False:
            continue
        elif not _is_truth(said):
            expected = "a stop rule gives a reason (text), True, False or None"
            raise InvalidCall("stop", [f"{_name(rule)} gave {said!r} after step {progress.step - 1}; {expected}"])
        elif said:
            return _name(rule)
    return ""


def _is_truth(said: Any) -> bool:
    """Also numpy's, jax's and torch's truth values: that is what comparing their numbers gives."""
    return isinstance(said, bool) or (str(getattr(said, "dtype", "")).endswith("bool") and getattr(said, "ndim", 1) == 0)


def _name(rule: Rule) -> str:
    return getattr(rule, "__name__", "") or repr(rule)


def _wrong_rule(rule: Any) -> list[str]:
    offer = "a rule is Target(...), Patience(...), GradientNorm(...), WallTime(...) or a function of the progress"
    if isinstance(rule, type):
        return [f"stop={rule.__name__} is a class; say {rule.__name__}(...)"]
    if isinstance(rule, timedelta):
        return [f"stop={rule!r} is a time; say WallTime({rule.total_seconds():g})"]
    if isinstance(rule, numbers.Real) and not isinstance(rule, bool):
        return [f"stop={rule} is a number; say Target({rule}) to stop at this value, or Patience({rule}) to stop without improvement"]
    if not callable(rule):
        return [f"stop={rule!r} is no stop rule; {offer}"]
    try:
        inspect.signature(rule).bind(None)
    except TypeError:
        return [f"stop={_name(rule)} cannot be called with one argument, the progress"]
    except ValueError:  # built-in functions may have no signature
        return []
    return []


def _check(where: str, complaints: list[str]) -> None:
    if complaints:
        raise InvalidCall(where, complaints)


def _wrong_number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> list[str]:
    limit = f" of at least {least:g}" if least > -math.inf else f" above {above:g}" if above > -math.inf else ""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    return [] if is_number and value >= least and value > above else [f"{name} must be a finite number{limit}, not {value!r}"]


def _wrong_count(name: str, value: Any) -> list[str]:
    is_count = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
    return [] if is_count else [f"{name} must be a whole number of at least 1, not {value!r}"]


def _wrong_mode(mode: Any) -> list[str]:
    return [] if mode in ("min", "max") else [f"mode must be 'min' or 'max', not {mode!r}"]
