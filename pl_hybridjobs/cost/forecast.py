"""What a run will buy, before anything is bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Cost
from pl_hybridjobs.cost.prices import Price, show


@dataclass(frozen=True)
class Purchase:
    """What one step buys of one device.

    Attributes:
        target: The device.
        tasks: How many.
        circuits: In all of them.
        shots: Of all of them; 0: analytic.
        price: None: not known.
    """

    target: str
    tasks: int
    circuits: int
    shots: int
    price: Price | None

    @property
    def least_usd(self) -> Decimal | None:
        """What it costs at least; None: the price is not known."""
        return None if self.price is None else self.price.usd(tasks=self.tasks, shots=self.shots)

    @property
    def is_exact(self) -> bool:
        """Whether it costs just that: the price is known, and time is not billed."""
        return self.price is not None and not self.price.per_minute_usd


@dataclass(frozen=True)
class Forecast:
    """What a number of steps will buy.

    Attributes:
        steps: How many.
        purchases: Of each step.
        may_end_sooner: A stop rule may end it before.
    """

    steps: int
    purchases: tuple[Purchase, ...]
    may_end_sooner: bool = False

    @property
    def tasks(self) -> int:
        """Of all steps."""
        return self.steps * sum(purchase.tasks for purchase in self.purchases)

    @property
    def shots(self) -> int:
        """Of all steps."""
        return self.steps * sum(purchase.shots for purchase in self.purchases)

    @property
    def usd(self) -> tuple[Decimal, Decimal | None] | None:
        """The least and the most that it can cost, in US dollars; no most where time is billed; None: a price is not known."""
        each = [purchase.least_usd for purchase in self.purchases]
        if None in each:
            return None
        total = self.steps * sum((usd for usd in each if usd is not None), Decimal(0))
        least = Decimal(0) if self.may_end_sooner else total
        return least, total if all(purchase.is_exact for purchase in self.purchases) else None

    def within(self, budget: Budget, spent: Cost) -> int:
        """How many of the steps a budget allows, after what was spent."""
        each = Forecast(1, self.purchases)
        needs: list[tuple[Any, Any, Any]] = [
            (budget.max_tasks, spent.tasks, each.tasks),
            (budget.max_shots, spent.shots, each.shots),
            (budget.usd, spent.usd, each.usd[0] if each.usd is not None else None),
        ]
        allowed = [self.steps]
        for limit, used, need in needs:
            if limit is not None and need is None:
                allowed.append(0)  # an unknown price and a limit of dollars
            elif limit is not None and need:
                allowed.append(max(0, int((limit - used) // need)))
        return min(allowed)

    def __str__(self) -> str:
        text = f"{'at most ' if self.may_end_sooner else ''}{self.steps} step{'s' * (self.steps != 1)}: {self.tasks:,} tasks"
        if self.shots:
            text += f", {self.shots:,} shots"
        return f"{text}, {self._money()}"

    def _money(self) -> str:
        unknown = sorted({purchase.target for purchase in self.purchases if purchase.price is None})
        if unknown:
            return f"for a price that is not known ({', '.join(unknown)})"
        total = self.steps * sum((purchase.least_usd or Decimal(0) for purchase in self.purchases), Decimal(0))
        if all(purchase.is_exact for purchase in self.purchases):
            return show(total)
        return f"{show(total)} or more (time is billed, and the minimum of each task is counted)"


def unit_prices(targets: Sequence[tuple[str, Price | None]]) -> list[str]:
    """What the devices of a job cost, one line each, for people."""
    lines = []
    for target, price in targets:
        if price is None:
            lines.append(f"{target}: the price is not known; with a limit of dollars it may not be used (see HYBRIDJOBS_PRICES)")
        elif not price.is_free:
            parts = [(price.per_task_usd, "a task"), (price.per_shot_usd, "a shot"), (price.per_minute_usd, "a minute")]
            rates = " + ".join(f"{show(usd)} {unit}" for usd, unit in parts if usd)
            least = f", at least {price.minimum_s:g} s a task" if price.minimum_s else ""
            lines.append(f"{target}: {rates}{least} ({f'as of {price.date}' if price.date else price.source or 'of an unknown date'})")
    return lines
