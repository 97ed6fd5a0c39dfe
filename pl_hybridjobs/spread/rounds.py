"""One call of a spread device: a round of all its members, and, if circuits of one that failed are moved, further ones of the rest."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pennylane.devices import Device, MCMConfig
from pennylane.exceptions import DeviceError
from pennylane.tape import QuantumScript

from pl_hybridjobs.errors import (
    BudgetExceeded,
    Fenced,
    InvalidCall,
    KeyConflict,
    SimulationError,
    StoreError,
    TaskCancelled,
    TranslationError,
)
from pl_hybridjobs.spread.assignment import Assignment
from pl_hybridjobs.spread.record import NAME, Book, Share, cost_usd
from pl_hybridjobs.spread.work import Work

#: Where these are raised, other members would meet the same, or must not go on behind somebody's back.
_NOT_MOVED = (BudgetExceeded, TaskCancelled, Fenced, KeyConflict, StoreError, SimulationError, TranslationError, InvalidCall)
_LOOK_S = 0.05
_GRACE_S = 5.0


@dataclass(frozen=True)
class Policy:
    """What becomes of a call in which a member fails.

    Attributes:
        on_failure: "raise", or "move": the others run its circuits.
        leave_out_after: A member that failed in so many calls one after the other gets nothing any more, where circuits are moved.
        together: So many neighbours in a batch run on the same member.
    """

    on_failure: str = "raise"
    leave_out_after: int = 3
    together: int = 2


class Rounds:
    """The rounds of one call.

    Args:
        members: Devices by name.
        assignment: Who gets which circuit; moves on.
        policy: What becomes of the call if one fails.
        book: Where it is written down.

    Attributes:
        shares: What each member was asked, and what became of it, round by round.
    """

    def __init__(self, members: Mapping[str, Device], assignment: Assignment, policy: Policy, book: Book) -> None:
        self._members = members
        self._assignment = assignment
        self._policy = policy
        self._book = book
        self.shares: tuple[Share, ...] = ()

    def run(self, circuits: Sequence[QuantumScript], mcm: MCMConfig, *, gradient: bool) -> list[Any]:
        """What each circuit gives: values, or values and Jacobians.

        Args:
            circuits: The batch.
            mcm: How measurements in the middle of circuits are dealt with.
            gradient: Jacobians are wanted, too.

        Raises:
            DeviceError: Members cannot run circuits that they got; all complaints. Or all members are left out.
            Exception: What a member raised, with notes.
        """
        results: dict[int, Any] = {}
        todo, out = list(range(len(circuits))), self._book.left_out
        while todo:
            placed = self._assignment.place(len(todo), together=self._policy.together, without=out)
            works = [
                Work(name, device, places, [circuits[place] for place in places], gradient)
                for name, device in self._members.items()
                if (places := [place for place, owner in zip(todo, placed, strict=True) if owner == name])
            ]
            self._begin(works, mcm)
            self._work(works)
            for work in works:
                self._note(work)
                results |= work.results
            failed = [work for work in works if work.error is not None]
            out |= {work.member for work in failed}
            self._decide(failed, works, out)
            todo = sorted(place for work in failed for place in work.places)
        return [results[place] for place in range(len(circuits))]

    def _begin(self, works: Sequence[Work], mcm: MCMConfig) -> None:
        """Preprocess all circuits for their members, and reserve what the remote ones need: all of it, or nothing is run."""
        wrong = list(itertools.chain.from_iterable(work.prepare(mcm) for work in works))
        reserved: list[Work] = []
        try:
            for work in works if not wrong else ():
                try:
                    work.reserve()
                    reserved.append(work)
                except DeviceError as error:
                    wrong.append(f"member {work.member!r}: {error}")
            if wrong:
                what = "circuits that were moved to other members were not run" if self.shares else "nothing was run"
                raise DeviceError(f"{NAME}: {what}. " + "; ".join(wrong))
        except BaseException:
            for work in reserved:
                work.release()
            raise

    def _work(self, works: Sequence[Work]) -> None:
        """Remote members wait in a thread each; the others compute here meanwhile, in turns, for PennyLane has one record of operators."""
        threads = [
            threading.Thread(target=work.run, daemon=True, name=f"hybridjobs-spread-{work.member}") for work in works if work.is_remote
        ]
        for thread in threads:
            thread.start()
        try:
            for work in works:
                if not work.is_remote and not self._ends(works):
                    work.run()
            while any(thread.is_alive() for thread in threads):
                if (ends := self._ends(works)) is not None:
                    _give_up(works, f"member {ends.member!r} has failed")
                for thread in threads:
                    thread.join(_LOOK_S / len(threads))
        except BaseException:
            _give_up(works, "the call was interrupted")
            for thread in threads:
                thread.join(_GRACE_S)
            raise

    def _ends(self, works: Sequence[Work]) -> Work | None:
        """The work whose failure ends the call; None: there is none."""
        return next((work for work in works if work.error is not None and not self._may_move(work)), None)

    def _may_move(self, work: Work) -> bool:
        """What may have been bought, and has not ended, is not bought elsewhere as well."""
        about_the_device = isinstance(work.error, Exception) and not isinstance(work.error, _NOT_MOVED)
        return self._policy.on_failure == "move" and about_the_device and not any(record.is_open for record in work.records)

    def _decide(self, failed: Sequence[Work], works: Sequence[Work], out: set[str]) -> None:
        """Whether the call goes on after failures.

        Raises:
            Exception: It does not: what a member raised.
        """
        if not failed:
            return
        own = [work for work in failed if not work.given_up] or failed
        ends = next((work for work in own if not isinstance(work.error, Exception)), None) or self._ends(own)
        if ends is not None or not set(self._members) - out:
            self._raise(ends or own[0], works)
        left = ", ".join(name for name in self._members if name not in out)
        for work in failed:
            moved = f"its {len(work.places)} circuits of this call go to {left}"
            ends_here = f"; {work.member!r} is left out from now on" if self._book[work.member].left_out else ""
            what = f"{type(work.error).__name__}: {work.error}"
            warnings.warn(f"{NAME}: {self._told(work)}; {moved}{ends_here}. It raised {what}", stacklevel=2)

    def _raise(self, work: Work, works: Sequence[Work]) -> NoReturn:
        error = work.error
        assert error is not None
        kept = {one.member: [r for r in one.records if r.task_id and r.state not in ("failed", "cancelled")] for one in works}
        bought = [f"{name} {len(records)} for {_usd(cost_usd(records))}" for name, records in kept.items() if records]
        notes = [f"{NAME}: {self._told(work)}."]
        if bought:
            again = "their results are kept: the same call again, or the resumed job, collects them"
            notes.append(f"Tasks that this call had bought: {'; '.join(bought)}; {again}.")
        if self._policy.on_failure == "move" and any(record.is_open for record in work.records):
            notes.append("Some of its tasks may be bought, and have not ended: run by another member they would be bought twice.")
        elif self._policy.on_failure == "raise" and isinstance(error, Exception) and not isinstance(error, _NOT_MOVED):
            notes.append("on_failure='move' lets the other members run the circuits of one that fails.")
        error.add_note("\n".join(notes))
        raise error

    def _told(self, work: Work) -> str:
        """Which member failed, and with what."""
        failed = work.failed
        numbers = f"circuit {failed[0]}" if len(failed) == 1 else f"one of its circuits {', '.join(map(str, failed))}"
        return f"member {work.member!r} ({self._book[work.member].device}) failed with {numbers} of the batch (from 0)"

    def _note(self, work: Work) -> None:
        if work.error is None and not work.results:
            return  # not begun, since another one had failed
        ids = tuple(record.task_id for record in work.records if record.task_id)
        error = "" if work.error is None else f"{type(work.error).__name__}: {work.error}"
        share = Share(work.member, work.places, work.shots, work.seconds, cost_usd(work.records), ids, error)
        self.shares += (share,)
        self._book.note(share, work.records, is_own_failure=isinstance(work.error, Exception) and not work.given_up)


def _give_up(works: Sequence[Work], why: str) -> None:
    for work in works:
        if work.error is None and not work.results and not work.given_up:
            work.give_up(why)


def _usd(cost: float | None) -> str:
    return "a price that is not known" if cost is None else f"{cost:.2f} USD"
