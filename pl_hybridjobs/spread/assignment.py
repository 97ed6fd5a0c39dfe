"""Which member gets which circuit: by weights, evenly over the whole stream of batches, and by nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any


class Assignment:
    """Divides batch after batch among members, so that each has its share of all circuits so far, as nearly as whole circuits allow.

    Each circuit adds to every member's credit what is its share of one circuit; who has the most credit gets it, and pays one for it (a
    largest remainder that is carried on, also known as smooth weighted round robin). Speed and time have no part in it: the same batches
    are divided in the same way, in every process.

    Args:
        weights: By member; exact, so that nothing drifts. Members of weight 0 are spares: they get circuits where no other is left.
    """

    def __init__(self, weights: Mapping[str, Fraction]) -> None:
        self.weights = dict(weights)
        self._credit = dict.fromkeys(weights, Fraction(0))

    def place(self, circuits: int, *, together: int = 1, without: Collection[str] = ()) -> list[str]:
        """The member of each circuit of a batch.

        Args:
            circuits: How many.
            together: So many neighbours stay together, as the two circuits of a parameter shift do.
            without: Members that get nothing; at least one must be left.
        """
        shares = self._shares(without)
        placed: list[str] = []
        while len(placed) < circuits:
            size = min(together, circuits - len(placed))
            for name, share in shares.items():
                self._credit[name] += size * share
            chosen = max(shares, key=lambda name: self._credit[name])  # the first of several
            self._credit[chosen] -= size
            placed += [chosen] * size
        return placed

    def _shares(self, without: Collection[str]) -> dict[str, Fraction]:
        left = {name: weight for name, weight in self.weights.items() if name not in without}
        if not any(left.values()):
            left = dict.fromkeys(left, Fraction(1))
        total = sum(left.values())
        return {name: weight / total for name, weight in left.items() if weight}

    def state(self) -> dict[str, str]:
        """What decides about the next circuit, exactly, as text."""
        return {name: str(credit) for name, credit in self._credit.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See ``state``."""
        self._credit = {name: Fraction(state[name]) for name in self._credit}
