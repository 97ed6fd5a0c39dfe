"""One call of a remote device: which tasks its circuits become, on which device they are bought, what the tracker hears of it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import grouping, lowering
from pl_hybridjobs.devices.checks import refuse
from pl_hybridjobs.devices.fingerprint import fingerprint
from pl_hybridjobs.devices.provider import QPU, CircuitResult, Task, TaskResult
from pl_hybridjobs.devices.submission import Policy, Submission, TaskRecord
from pl_hybridjobs.errors import DeviceOffline, ResultNotReady, TaskCancelled

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account
    from pl_hybridjobs.devices.qpu import HybridQPU


class _Wanted(NamedTuple):
    """What to buy on a device.

    Attributes:
        parts: Of circuits, for each task.
        tasks: The tasks.
        prints: What each of them is.
    """

    parts: list[tuple[grouping.Part, ...]]
    tasks: list[Task]
    prints: list[str]


class Call:
    """The purchases of one call of a device: ``reserve``, and then ``run`` or ``release``.

    Args:
        device: Whose call it is.
        account: Who pays.
        name: Makes the keys of its purchases.
        number: Which of the device's calls it is.
        gradient: Derivatives are wanted, too.
        undo: Told that nothing came of it, so that the same call again finds what was bought meanwhile.
    """

    def __init__(self, device: HybridQPU, account: Account, name: str, number: int, gradient: bool, undo: Callable[[], None]) -> None:
        self._device = device
        self._account = account
        self._name = name
        self._number = number
        self._gradient = gradient
        self._undo = undo
        self._is_asked: list[bool] = []  # for each circuit; of the others all that was asked is known: identities
        self._shots: list[int] = []
        self._parts: list[tuple[grouping.Part, ...]] = []
        self._other: list[_Wanted] = []  # for each task, on the fallback
        self._here: list[int] = []  # tasks that are not bought from the fallback
        self._submissions: list[Submission] = []
        self._given_up = ""

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """What became of the tasks so far."""
        return tuple(record for submission in self._submissions for record in submission.records)

    def reserve(self, circuits: Sequence[QuantumScript]) -> None:
        """Find what was bought before, and set the money aside for the rest. Nothing is sent.

        Raises:
            DeviceError: The device's language cannot say them; all complaints.
            BudgetExceeded: See ``submission.Submission.reserve``.
            TaskCancelled: Likewise.
        """
        with self._undone():
            self._is_asked = [bool(circuit.measurements) for circuit in circuits]
            asked = [circuit for circuit in circuits if circuit.measurements]
            if not asked:
                return
            device = self._device
            self._shots = [circuit.shots.total_shots or 0 for circuit in asked]
            ours = [device.as_sent(circuit, gradient=self._gradient) for circuit in asked]
            self._parts, tasks, prints = self._tasks(device.qpu, ours, self._shots, self._name, str(self._number))
            there = [False] * len(tasks)
            if device.fallback is not None:
                self._other = [self._tasks_elsewhere(device.fallback, task) for task in tasks]
                known = self._account.find([task.key for other in self._other for task in other.tasks])
                there = [any(task.key in known and known[task.key].state != "released" for task in other.tasks) for other in self._other]
            self._here = [number for number, is_there in enumerate(there) if not is_there]
            if self._here:
                self._reserved(device.qpu, [tasks[n] for n in self._here], [prints[n] for n in self._here], device.policy)

    def run(self) -> list[CircuitResult]:
        """Buy, wait, and collect: what the circuits give.

        Raises:
            QPUError: See ``submission.Submission.run``.
        """
        with self._undone():
            device = self._device
            found: list[TaskResult | None] = [None] * len(self._parts)
            if self._here:
                for number, result in zip(self._here, self._bought(self._submissions[0], device.policy, self._shots), strict=True):
                    found[number] = result
            away = [number for number, result in enumerate(found) if result is None]
            if away and device.fallback is not None:
                shots = [] if self._here else self._shots
                self._buy_elsewhere(device.fallback, away, found, shots)
            made = iter(grouping.joined(self._parts, cast(list[TaskResult], found)))
            return [next(made) if is_asked else CircuitResult() for is_asked in self._is_asked]

    def circuits_of(self, task_id: str) -> tuple[int, ...]:
        """The places of a task's circuits among those of the call; () if they are not known."""
        asked = [place for place, is_asked in enumerate(self._is_asked) if is_asked]
        tasks = zip(self._submissions[0].records, self._here, strict=True) if self._here else ()
        found = next((number for record, number in tasks if task_id and record.task_id == task_id), None)
        return () if found is None else tuple(asked[part.circuit] for part in self._parts[found])

    def release(self) -> None:
        """Give back what was reserved, instead of ``run``."""
        for submission in self._submissions:
            submission.release()
        self._undo()

    def give_up(self, why: str) -> None:
        """Let ``run``, in another thread, end soon. What was bought goes on.

        Args:
            why: For people.
        """
        self._given_up = why

    def _check(self) -> None:
        if self._given_up:
            again = "What was bought goes on; the same call again, or the resumed job, collects it."
            raise ResultNotReady(f"{self._device.target}: {self._given_up}. {again}")

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """An error leaves the device as it was before, so that the same call again is the same purchase."""
        try:
            yield
        except TaskCancelled:
            raise
        except BaseException:
            self._undo()
            raise
        finally:
            self._device.last_tasks = self.records

    def _tasks(self, qpu: QPU, circuits: Sequence[QuantumScript], shots: Sequence[int], name: str, place: str) -> _Wanted:
        """What to buy for these circuits."""
        device, session = self._device, self._device.session
        groups = grouping.all_alone(shots) if self._gradient else grouping.grouped(shots, qpu.capabilities())
        tasks, prints = [], []
        for number, parts in enumerate(groups):
            chosen = tuple(circuits[part.circuit] for part in parts)
            print_ = fingerprint(chosen, qpu.target, parts[0].shots, self._gradient, device.verbatim)
            tasks.append(
                Task(
                    key=hashlib.sha256(f"{name}|{number}|{print_}".encode()).hexdigest(),
                    circuits=chosen,
                    shots=parts[0].shots,
                    gradient=self._gradient,
                    verbatim=device.verbatim,
                    session=session.name if session is not None else "",
                    tags={**(session.tags if session is not None else {}), **device.tags},
                    token=session.token if session is not None else "",
                    places=tuple(f"{place} {part.circuit} {part.share}" for part in parts),
                )
            )
            prints.append(print_)
        return _Wanted(groups, tasks, prints)

    def _reserved(self, qpu: QPU, tasks: Sequence[Task], prints: Sequence[str], policy: Policy) -> Submission:
        """Tasks whose money is set aside."""
        device = self._device
        refuse(device.name, list(dict.fromkeys(qpu.complaints(tasks))))
        submission = Submission(
            qpu, tasks, prints, self._account, policy, session=device.session, on_submitted=self._track_task, check=self._check
        )
        self._submissions.append(submission)
        submission.reserve()
        return submission

    def _bought(self, submission: Submission, policy: Policy, shots: Sequence[int]) -> Sequence[TaskResult | None]:
        device = self._device
        try:
            if device.session is not None:
                device.session.used_on(submission.target)
            self._track(shots)
        except BaseException:  # a warning that was made an error, a tracker's callback
            submission.release()
            raise
        try:
            submission.run()
        except DeviceOffline as error:
            if policy.on_offline == "stop" and device.fallback is None:
                error.add_note("on_offline='wait' waits for it, and on_offline='fallback:<target>' takes another device.")
            raise
        return submission.results

    # Another device --------------------------------------------------------------------------------------------------------

    def _tasks_elsewhere(self, qpu: QPU, task: Task) -> _Wanted:
        circuits = [lowering.lowered(circuit, qpu.capabilities(), self._device.name) for circuit in task.circuits]
        return self._tasks(qpu, circuits, [task.shots] * len(circuits), f"{task.key}|{qpu.target}", task.places[0])

    def _buy_elsewhere(self, qpu: QPU, away: Sequence[int], found: list[TaskResult | None], shots: Sequence[int]) -> None:
        """Fill in what the first device did not make."""
        device, wanted = self._device, [self._other[number] for number in away]
        tasks = [task for other in wanted for task in other.tasks]
        capabilities = qpu.capabilities()
        wrong = [
            sentence
            for task in tasks
            for sentence in lowering.complaints(
                [circuit.copy(shots=task.shots or None) for circuit in task.circuits],
                capabilities,
                None,
                verbatim=device.verbatim,
                target=qpu.target,
            )
        ]
        refuse(f"{device.name}: {device.target} is offline, and", list(dict.fromkeys(wrong)))
        print(f"{device.target} is offline: {len(tasks)} tasks go to {qpu.target}, as on_offline says", file=sys.stderr, flush=True)
        prints = [print_ for other in wanted for print_ in other.prints]
        policy = replace(device.policy, on_offline="stop")
        results = iter(self._bought(self._reserved(qpu, tasks, prints, policy), policy, shots))
        for number, other in zip(away, wanted, strict=True):
            made = cast(list[TaskResult], [next(results) for _ in other.tasks])
            seconds, shots_made = sum(result.billed_s for result in made), sum(result.shots for result in made)
            found[number] = TaskResult(made[0].task_id, qpu.target, tuple(grouping.joined(other.parts, made)), seconds, shots_made)

    # Tracking --------------------------------------------------------------------------------------------------------------

    def _track(self, shots: Sequence[int]) -> None:
        """Before anything is sent: what is about to be run."""
        tracker = self._device.tracker
        if not tracker.active:
            return
        if shots:
            tracker.update(batches=1)
            tracker.record()
        for count in shots:
            tracker.update(executions=1, **({"shots": count} if count else {}), **({"derivatives": 1} if self._gradient else {}))
            tracker.record()

    def _track_task(self, record: TaskRecord) -> None:
        """A task that the provider has taken, or had taken before."""
        tracker = self._device.tracker
        if tracker.active:
            bought = {} if record.from_journal else {"tasks": 1, "cost_usd": record.cost_usd}
            tracker.update(**bought, task_id=record.task_id, device=record.target)
            tracker.record()
