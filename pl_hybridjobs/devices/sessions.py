"""A name that tasks go by together: their tags, what becomes of the rest if one fails, what they may cost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.budget import Budget
from pl_hybridjobs.cost.ledger import Cost
from pl_hybridjobs.errors import InvalidCall

#: A job that sends nothing for so long may lose its priority on Amazon Braket ("a few minutes").
PRIORITY_KEPT_S = 180.0

_RESERVED = ("hybridjobs:", "aws:")  # ours; Amazon's


@dataclass(frozen=True)
class Session:
    """Tasks that belong together: ``qml.device("hybridjobs.qpu", target, session=Session("scan", budget=Budget(max_usd=5)))``.

    Args:
        name: Of all tasks of it, in this job (or, outside of jobs, of this user).
        tags: For the provider to keep with each task.
        on_failure: What becomes of a call's other tasks if one fails: "abort" cancels them, "continue" waits for them; None: as the device
            has it.
        budget: What the whole session may cost, also where several devices or processes take part.
        token: What gives its tasks a job's priority; "" for none. Never logged or stored, so it does not travel with what is pickled.
        target: The device that the token gives priority on; "": all.

    Raises:
        InvalidCall: Something of it cannot be; all complaints.
    """

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    on_failure: Literal["abort", "continue"] | None = None
    budget: Budget | None = None
    token: str = field(default="", repr=False)
    target: str = ""
    _last_s: list[float] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = [] if isinstance(self.name, str) and self.name.strip() else [f"name={self.name!r} must be a text that is not empty"]
        if not isinstance(self.tags, Mapping) or not all(isinstance(part, str) for pair in self.tags.items() for part in pair):
            found.append(f"tags={self.tags!r} must be a dict of texts")
        else:
            reserved = [key for key in self.tags if key.lower().startswith(_RESERVED)]
            found += [f"the tag {key!r} begins with {' or '.join(_RESERVED)}, which are not for you: choose another" for key in reserved]
        if self.on_failure not in (None, "abort", "continue"):
            found.append(f"on_failure={self.on_failure!r} must be 'abort', 'continue' or None")
        if self.budget is not None and not isinstance(self.budget, Budget):
            found.append(f"budget={self.budget!r} must be a Budget")
        elif self.budget is not None:
            found += self.budget.complaints()
        if found:
            raise InvalidCall("Session()", found)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "token": ""}

    @property
    def cost(self) -> Cost:
        """What its tasks cost so far, in the account that is charged here."""
        return account.current().cost(session=self.name)

    def used_on(self, target: str) -> None:
        """Note that tasks are about to be sent, and warn if the priority that its token gives is lost."""
        now_s = time.monotonic()
        last_s = self._last_s[-1] if self._last_s else now_s
        self._last_s[:] = [now_s]
        if not self.token:
            return
        if self.target and target != self.target:
            warnings.warn(f"session {self.name!r} has priority on {self.target}; tasks on {target} wait in the normal queue", stacklevel=2)
        elif now_s - last_s > PRIORITY_KEPT_S:
            warnings.warn(
                f"session {self.name!r} has sent no task for {now_s - last_s:.0f} s: its job may have lost its priority on {target}",
                stacklevel=2,
            )
