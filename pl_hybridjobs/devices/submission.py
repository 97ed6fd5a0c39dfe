"""Buying tasks: look into the journal, reserve, write down the intent, submit, wait, collect, settle. Nothing is bought twice.

The network is talked to by a bounded number of threads, each of which brings one task from its submission to its end. The journal (the
account's ledger) is written by the calling thread alone, for all that has happened meanwhile in one transaction. What a killed process
leaves behind is enough for the next one: what may have been sent is sent again under the same key, which buys nothing twice. So a call
that is given up leaves threads behind that hang in the network.

Where time is billed, nobody knows beforehand how much. What tasks of the same structure took before is reserved; if money or time is
limited, and nothing is known, one of them goes ahead.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.cost.ledger import Charge, Settlement, State
from pl_hybridjobs.devices.fingerprint import structure
from pl_hybridjobs.devices.provider import QPU, Task, TaskResult, TaskState, TaskStatus
from pl_hybridjobs.errors import (
    BudgetExceeded,
    DeviceOffline,
    ProviderError,
    QPUError,
    ResultNotReady,
    TaskCancelled,
    TaskFailed,
    TranslationError,
)

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account
    from pl_hybridjobs.cost.prices import Price
    from pl_hybridjobs.devices.sessions import Session

_FIRST_POLL_S = 0.02
_POLL_SHARE = 0.1  # of the time that a task has taken so far, between two looks at it
_GATHER_S = 0.02  # what happens within it is written to the journal together
_GRACE_S = 3.0  # for what is on its way when a call is given up
_SURE = 0.9  # of the time that the quickest task took
_TALK_S = 60.0  # between two lines about waiting
_THREADS = 50
_OTHERWISE = "The device's options on_offline='wait' and on_offline='fallback:<target>' wait for it, or take another one."
_AGAIN = "The same call, or the resumed job, buys it anew."


@dataclass(frozen=True)
class Policy:
    """How to go about it.

    Attributes:
        on_offline: "stop"; "wait"; or "leave": what the device does not take stays as it is, in the state "offline".
        on_failure: "abort": cancel what has not ended; "continue": wait for it, so that it is paid for and kept.
        max_parallel: Tasks in flight at once; None: as many as the device takes, at most 50.
        poll_interval_s: The longest time between two looks at a task.
        timeout_s: For all tasks together; None: as long as it takes.
    """

    on_offline: Literal["stop", "wait", "leave"] = "stop"
    on_failure: Literal["abort", "continue"] = "abort"
    max_parallel: int | None = None
    poll_interval_s: float = 1.0
    timeout_s: float | None = None


@dataclass(frozen=True)
class TaskRecord:
    """What became of a task.

    Attributes:
        key: Names the purchase in the journal.
        task_id: The provider's name of it; "" if it was not submitted.
        target: The device.
        state: Where it stood when it was looked at last: a ``TaskState``, "waiting" before it was submitted, or "offline".
        circuits: How many it holds.
        shots: Of all of them together.
        cost_usd: What it costs: an estimate until it has ended, 0 if it was not submitted; None: not known.
        from_journal: It was bought before, by a process that did not collect it, or by an earlier attempt of the job.
        reason: Why it failed or was cancelled.
        is_open: It was bought, or may have been, and was not seen to end: to buy the same elsewhere would be to buy it twice.
    """

    key: str
    task_id: str
    target: str
    state: str
    circuits: int
    shots: int
    cost_usd: float | None
    from_journal: bool = False
    reason: str = ""
    is_open: bool = False


@dataclass(eq=False)
class _Item:
    """A task on its way. Changed by the calling thread alone, but for ``is_sent``, which its own thread sets before it sends."""

    task: Task
    fingerprint: str
    usd: Decimal | None = None  # estimated
    seconds: float = 0.0  # likewise, where time is billed
    structure: str = ""  # there, too
    task_id: str = ""
    state: str = "waiting"
    from_journal: bool = False
    is_sent: bool = False  # it may have reached the provider now
    was_sent: bool = True  # or in an earlier call or life, of which nothing more is known; until the journal was asked, who knows
    is_ours_to_cancel: bool = False  # the batch is given up
    status: TaskStatus | None = None
    result: TaskResult | None = None
    error: BaseException | None = None

    @property
    def shots(self) -> int:
        return self.task.shots * len(self.task.circuits)

    @property
    def is_open(self) -> bool:
        return self.result is None and self.state not in ("completed", "failed", "cancelled")

    def estimate(self, price: Price | None, seconds: float) -> None:
        self.seconds = seconds
        self.usd = None if price is None else price.usd(tasks=1, shots=self.shots, seconds=seconds)

    def charge(self, target: str) -> Charge:
        return Charge(self.task.key, target, 1, self.shots, self.usd, self.seconds, fingerprint=self.fingerprint)

    def record(self, target: str) -> TaskRecord:
        cost = self.status.cost_usd if self.status is not None and self.status.state.is_final else None
        if cost is None and self.usd is not None:
            cost = float(self.usd)
        may_be_bought = bool(self.task_id or self.was_sent or self.is_sent)
        return TaskRecord(
            self.task.key,
            self.task_id,
            target,
            self.state,
            len(self.task.circuits),
            self.shots,
            cost if may_be_bought else 0.0,
            self.from_journal,
            self.status.reason if self.status is not None else "",
            may_be_bought and self.is_open,
        )


class Submission:
    """Tasks of one call, from the journal to their results.

    Args:
        qpu: Where they are bought.
        tasks: With their keys.
        fingerprints: What each of them is, so that a key never stands for two purchases.
        account: Who pays.
        policy: How to go about it.
        session: The session that they belong to.
        on_submitted: Told of each task that has a name at the provider, in the calling thread.
        check: Raises if it is not to be waited for any longer.
    """

    def __init__(
        self,
        qpu: QPU,
        tasks: Sequence[Task],
        fingerprints: Sequence[str],
        account: Account,
        policy: Policy,
        *,
        session: Session | None = None,
        on_submitted: Callable[[TaskRecord], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._qpu = qpu
        self._account = account
        self._policy = policy
        self._session = session
        self._on_submitted = on_submitted
        self._check = check
        self._items = [_Item(task, fingerprint) for task, fingerprint in zip(tasks, fingerprints, strict=True)]
        self._price: Price | None = None
        self._longest_s: dict[str, float] = {}  # by structure, where time is billed
        self._is_capped = False  # there, and money or time is limited
        self._is_longer = False  # than was reserved: something that has ended
        self._waiting: deque[_Item] = deque()
        self._threads = 0
        self._underway: list[_Item] = []  # in the threads, or about to be
        self._todo: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[tuple[_Item, str, Any]] = queue.SimpleQueue()
        self._stop = threading.Event()  # leave everything as it is
        self._abort = threading.Event()  # cancel everything
        self._wake = threading.Event()  # one of the two was set
        self._sending = threading.Lock()  # held to be sure that it is not set in the moment before something is sent
        self._away = threading.Lock()  # held by the thread that waits for the device to come back
        self._talked_s = time.monotonic()
        self._shortest_s = 0.0  # that a task of this call took; the others are not looked at much sooner

    @property
    def target(self) -> str:
        """The device."""
        return self._qpu.target

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """What became of the tasks, in order."""
        return tuple(item.record(self._qpu.target) for item in self._items)

    @property
    def results(self) -> list[TaskResult | None]:
        """What they gave, in order; None: offline."""
        return [item.result for item in self._items]

    def reserve(self) -> None:
        """Find what was bought before, and set money aside for the rest.

        Raises:
            BudgetExceeded: Nothing was submitted.
            TaskCancelled: One of them was, in an earlier life of the job.
        """
        self._look_up()
        price = self._price = self._qpu.price()
        if price is not None and price.per_minute_usd:
            for item in self._items:
                item.structure = structure(item.task.circuits, item.task.shots, item.task.gradient)
            self._longest_s = self._account.ledger.longest_s(self._qpu.target, {item.structure for item in self._items})
            self._is_capped = self._account.limits_money_or_time(self._session.budget if self._session is not None else None)
        new = [item for item in self._items if not item.from_journal]
        for item in new:
            item.estimate(price, max(price.minimum_s if price is not None else 0.0, self._longest_s.get(item.structure, 0.0)))
        if new:
            self._account.reserve([item.charge(self._qpu.target) for item in new], **self._belongs)

    @property
    def _belongs(self) -> dict[str, Any]:
        return {} if self._session is None else {"session": self._session.name, "session_budget": self._session.budget}

    def _look_up(self) -> None:
        open_items = list(self._items)
        while open_items:
            found = self._account.find([item.task.key for item in open_items])
            again = []
            for item in open_items:
                entry = found.get(item.task.key)
                item.was_sent = entry is not None and entry.state is State.SUBMITTING
                if entry is None or entry.state is State.RELEASED:
                    continue
                if entry.state is State.CANCELLED:
                    raise _cancelled(entry.task_id, "", self._qpu.target)
                if entry.state is State.FAILED:  # to come here again was somebody's decision: a new purchase, after the failed one
                    item.task = replace(item.task, key=hashlib.sha256(f"{item.task.key} again".encode()).hexdigest())
                    again.append(item)
                elif entry.task_id:
                    item.task_id, item.from_journal, item.usd, item.seconds = entry.task_id, True, entry.usd, entry.seconds
                    item.state = "completed" if entry.state is State.COMPLETED else "submitted"
            open_items = again

    def run(self) -> None:
        """Submit what is not bought yet, wait, collect. Afterwards ``results`` and ``records`` are filled.

        Raises:
            TaskFailed: One failed.
            TaskCancelled: Somebody cancelled one.
            DeviceOffline: By the policy.
            ResultNotReady: The time is over. Nothing is lost: the same call again collects what was bought.
            JobStopRequested: The job was asked to stop. What was bought goes on.
            QPUError: Something else is wrong at the provider, or on the way to it. Nothing is lost either.
            BudgetExceeded: Where time is billed: tasks took longer than was reserved for them, and the rest was not submitted.
        """
        try:
            fresh = [item for item in self._items if not item.from_journal]
            if fresh:
                self._account.intend([item.task.key for item in fresh])
            for item in self._items:
                if item.from_journal and self._on_submitted is not None:
                    self._on_submitted(item.record(self._qpu.target))
            self._waiting.extend(self._items)
            most = self._policy.max_parallel or min(self._qpu.capabilities().max_in_flight or _THREADS, _THREADS)
            self._threads = min(most, len(self._items))
            for _ in range(self._threads):
                threading.Thread(target=self._work, daemon=True, name="hybridjobs-qpu").start()
            self._wait()
        except BaseException as error:
            self._leave(error)
            raise
        finally:
            for _ in range(self._threads):
                self._todo.put(None)
        self._raise_failures()

    # In the calling thread -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until all have ended, in whatever way."""
        deadline_s = None if self._policy.timeout_s is None else time.monotonic() + self._policy.timeout_s
        guarded_s = time.monotonic()
        self._hand_out()
        while self._waiting or self._underway:
            self._note(self._next_events(0.2))
            first = next((item for item in self._items if item.error is not None and not self._is_borne(item)), None)
            if first is not None and first.error is not None:
                raise first.error
            if self._is_longer:
                self._expect_longer()
            self._hand_out()
            now_s = time.monotonic()
            if self._account.stop is not None:
                self._account.stop()
            if self._check is not None:
                self._check()
            if self._account.guard is not None and now_s - guarded_s > 1.0:
                guarded_s = now_s
                self._account.guard()
            left = len(self._waiting) + len(self._underway)
            if left and deadline_s is not None and now_s > deadline_s:
                running = [item.task_id for item in self._items if item.task_id and item.result is None]
                raise ResultNotReady(
                    f"{self._qpu.target}: {left} of {len(self._items)} tasks have not ended in {self._policy.timeout_s:g} s. "
                    "Those that were bought go on; the same call again, or the resumed job, collects them. "
                    f"In flight: {', '.join(running[:5]) or 'none'}"
                )
            self._talk(now_s)

    def _hand_out(self) -> None:
        """Give the threads what may be sent now: all, or where time is billed and limited, no more than is known to be paid for."""
        while self._waiting and not (self._is_capped and len(self._underway) >= self._threads):
            tried = {item.structure for item in self._underway if item.structure not in self._longest_s} if self._is_capped else ()
            item = next((item for item in self._waiting if item.task_id or item.structure not in tried), None)
            if item is None:
                return
            self._waiting.remove(item)
            self._underway.append(item)
            self._todo.put(item)

    def _expect_longer(self) -> None:
        """What has ended took longer than was reserved for it: so will others."""
        self._is_longer = False
        longer = [item for item in self._items if item.is_open and item.seconds < self._longest_s.get(item.structure, 0.0)]
        for item in longer:
            item.estimate(self._price, self._longest_s[item.structure])
        charges = [item.charge(self._qpu.target) for item in longer]
        self._account.expect(charges, **self._belongs, is_more_to_come=any(not item.task_id for item in self._waiting))

    def _next_events(self, timeout_s: float) -> list[tuple[_Item, str, Any]]:
        """All that has happened, and happens in the moment after: one transaction for many tasks."""
        events = []
        try:
            events.append(self._events.get(timeout=timeout_s))
            if len(self._items) > 1:
                self._stop.wait(_GATHER_S)
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def _note(self, events: Sequence[tuple[_Item, str, Any]]) -> None:
        """Write down what has happened, in two transactions."""
        named: dict[str, str] = {}
        ended: list[Settlement] = []
        for item, what, value in events:
            if what == "submitted":
                item.task_id, item.state = value, "submitted"
                named[item.task.key] = value
            elif what == "status":
                item.status = value
                item.state = value.state.value
                if value.state.is_final:
                    ended.append(self._settlement(item, None))
            elif what == "result":
                item.result = value
                if not item.from_journal or item.state != "completed":
                    item.state = "completed"
                    ended.append(self._settlement(item, value))
            elif what == "error":
                item.error = value
                if isinstance(value, DeviceOffline):
                    item.state = "offline"
            else:
                self._underway.remove(item)
        if named:
            self._account.submitted(named)
        if ended:
            self._account.settle_all(ended)
        if self._on_submitted is not None:
            for item, what, _ in events:
                if what == "submitted":
                    self._on_submitted(item.record(self._qpu.target))

    def _settlement(self, item: _Item, result: TaskResult | None) -> Settlement:
        """Tasks that we cancelled ourselves count as failed: only those that others cancelled are not bought again."""
        status = item.status
        usd = None if status is None or status.cost_usd is None else Decimal(str(status.cost_usd))
        state = State(item.state)
        if state is State.CANCELLED and item.is_ours_to_cancel:
            state = State.FAILED
        seconds = result.billed_s or None if result is not None else None
        if seconds is not None and self._price is not None:
            seconds = max(seconds, self._price.minimum_s)
            usd = self._price.usd(tasks=1, shots=item.shots, seconds=seconds) if usd is None else usd
        if seconds is not None and item.structure:
            self._is_longer = self._is_longer or seconds > item.seconds
            self._longest_s[item.structure] = max(seconds, self._longest_s.get(item.structure, 0.0))
        shots = None if result is None else result.shots or None
        return Settlement(item.task.key, state, usd, seconds, shots, item.structure)

    def _is_borne(self, item: _Item) -> bool:
        """What may have been bought here is not bought elsewhere."""
        return isinstance(item.error, DeviceOffline) and self._policy.on_offline == "leave" and not item.was_sent

    def _leave(self, error: BaseException) -> None:
        """Stop looking; write down what is known within a moment, and release what was never sent.

        Threads that hang in the network are left behind. If one of them buys its task all the same, the journal says that it may have, and
        the same key finds it.
        """
        with self._sending:
            self._stop.set()
            self._wake.set()
        until_s = time.monotonic() + _GRACE_S
        while self._underway and (left_s := until_s - time.monotonic()) > 0:
            self._note(self._next_events(left_s))
        self.release()
        running = sum(bool(item.task_id) and item.result is None for item in self._items)
        if running and isinstance(error, QPUError | BudgetExceeded):
            error.add_note(f"{running} tasks of this call are bought, and go on: the same call again, or the resumed job, collects them.")

    def release(self) -> None:
        """What was certainly not bought costs nothing."""
        keys = []
        for item in self._items:
            refused = isinstance(item.error, DeviceOffline | TranslationError) or getattr(item.error, "nothing_done", False)
            if not item.task_id and not item.was_sent and (not item.is_sent or refused):
                keys.append(item.task.key)
                item.is_sent = False
        if keys:
            self._account.release(keys)

    def _raise_failures(self) -> None:
        self.release()
        failed = [item for item in self._items if item.state in ("failed", "cancelled") and not item.is_ours_to_cancel]
        if not failed:
            return
        count = Counter(item.state for item in self._items)
        summary = ", ".join(f"{number} {state}" for state, number in count.items())
        first, status = failed[0], failed[0].status
        reason = status.reason if status is not None and status.reason else "the provider gives no reason"
        if first.state == "cancelled":
            raise _cancelled(first.task_id, reason, self._qpu.target)
        raise TaskFailed(first.task_id, reason, f"On {self._qpu.target}, one of {len(self._items)} tasks of this call: {summary}. {_AGAIN}")

    def _talk(self, now_s: float) -> None:
        """Where waiting tasks stand, once a minute."""
        if now_s - self._talked_s < _TALK_S:
            return
        self._talked_s = now_s
        statuses = [item.status for item in self._items if item.status is not None and item.status.state is TaskState.QUEUED]
        count = Counter(item.state for item in self._items)
        places = sorted({status.queue_position for status in statuses if status.queue_position}, key=lambda text: (len(text), text))
        where = f", in the queue at {places[0]}" + (f" to {places[-1]}" if len(places) > 1 else "") if places else ""
        priority = next((f" ({status.priority} priority)" for status in statuses if status.priority), "")
        states = ", ".join(f"{number} {state}" for state, number in count.items())
        print(f"{self._qpu.target}: {states}{where}{priority}", file=sys.stderr, flush=True)

    # In a thread for each task in flight -----------------------------------------------------------------------------------

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            self._bring(item)

    def _bring(self, item: _Item) -> None:
        """From its submission to its end. Says what happens as events."""
        try:
            if not item.task_id:
                with self._sending:
                    if self._wake.is_set():
                        return
                    item.is_sent = True
                task_id = self._submitted(item)
                if task_id is None:
                    return
                self._events.put((item, "submitted", task_id))
            else:
                task_id = item.task_id
            self._follow(item, task_id)
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            self._events.put((item, "error", error))
        finally:
            self._events.put((item, "left", None))

    def _submitted(self, item: _Item) -> str | None:
        """Its name at the provider; None: the call is given up."""
        while True:
            try:
                return self._qpu.submit(replace(item.task, was_sent=item.was_sent))
            except DeviceOffline as error:
                if item.was_sent:  # this is not known before the device is back
                    error.add_note("This purchase was under way when a process died: what became of it shows when the device is back.")
                if self._policy.on_offline == "stop":
                    error.args = (f"{str(error).rstrip('.')}. {_OTHERWISE}",)
                if self._policy.on_offline != "wait":
                    raise
                if not self._came_back(str(error)):
                    item.is_sent = False
                    return None

    def _came_back(self, why: str) -> bool:
        """Wait until the device is online; False: the call is given up."""
        with self._away:
            pause_s = _FIRST_POLL_S
            while not self._wake.wait(pause_s):
                availability = self._qpu.availability()
                if availability.state == "online":
                    return True
                if availability.state == "retired":
                    raise DeviceOffline(f"{self._qpu.target} is retired, so it does not come back: {why}")
                pause_s = min(2 * pause_s, max(self._policy.poll_interval_s, 0.1))
        return False

    def _follow(self, item: _Item, task_id: str) -> None:
        """Look at it until it has ended; then fetch what it gave."""
        began_s = time.monotonic()
        seen = None
        is_done = item.state == "completed"
        if not is_done and self._shortest_s:
            self._wake.wait(min(_SURE * self._shortest_s, self._policy.poll_interval_s))
        while not is_done:
            status = self._qpu.status(task_id)
            if status.state is TaskState.COMPLETED:
                item.status = status
                took_s = time.monotonic() - began_s
                self._shortest_s = min(self._shortest_s or took_s, took_s)
                break
            if status != seen:
                seen = status
                self._events.put((item, "status", status))
            if status.state.is_final:
                self._give_up()
                return
            pause_s = min(max(_FIRST_POLL_S, _POLL_SHARE * (time.monotonic() - began_s)), self._policy.poll_interval_s)
            if self._abort.is_set():
                if not item.is_ours_to_cancel:
                    item.is_ours_to_cancel = True
                    self._qpu.cancel(task_id)
                self._stop.wait(pause_s)
            else:
                self._wake.wait(pause_s)
            if self._stop.is_set():
                return
        try:
            result = self._qpu.result(task_id, item.task)
        except TaskFailed as error:
            if item.state == "completed":
                raise
            # Some of its circuits failed: it has ended, is paid for, and gives nothing.
            usd = None if item.usd is None else float(item.usd)
            self._events.put((item, "status", TaskStatus(TaskState.FAILED, reason=error.reason, cost_usd=usd)))
            self._give_up()
            return
        _check(result, item.task)
        self._events.put((item, "result", result))

    def _give_up(self) -> None:
        """One has failed: so do the others, if the policy says so."""
        if self._policy.on_failure == "abort":
            self._abort.set()
            self._wake.set()


def _check(result: TaskResult, task: Task) -> None:
    """A result of another shape would be silently wrong.

    Raises:
        ProviderError: It has another shape.
    """
    if len(result.circuits) != len(task.circuits):
        raise ProviderError(f"task {result.task_id} returned {len(result.circuits)} results for {len(task.circuits)} circuits")
    for made, circuit in zip(result.circuits, task.circuits, strict=True):
        if task.shots:
            expected = (task.shots, len(circuit.measurements[0].wires))
            if made.bits is None or made.bits.shape != expected:
                got = "no bits" if made.bits is None else f"bits of shape {made.bits.shape}"
                raise ProviderError(f"task {result.task_id} returned {got}, not {expected}")
        elif len(made.values) != len(circuit.measurements) or (task.gradient and len(made.gradient) != len(circuit.trainable_params)):
            raise ProviderError(
                f"task {result.task_id} returned {len(made.values)} values and {len(made.gradient)} derivatives for "
                f"{len(circuit.measurements)} measurements and {len(circuit.trainable_params)} parameters"
            )


def _cancelled(task_id: str, reason: str, target: str) -> TaskCancelled:
    why = f": {reason}" if reason else ""
    return TaskCancelled(
        f"task {task_id} on {target} was cancelled{why}. It is not submitted again by itself, nor when this job is resumed: "
        "if it is wanted after all, run it as a new job."
    )
