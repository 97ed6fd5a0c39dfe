"""One call of a remote device: which tasks its circuits become, on which device they are bought, what the tracker hears of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import grouping, lowering
from pl_hybridjobs.devices.checks import refuse
from pl_hybridjobs.devices.fingerprint import fingerprint
from pl_hybridjobs.devices.provider import QPU, CircuitResult, Task, TaskResult
from pl_hybridjobs.devices.submission import Policy, Submission, TaskRecord
from pl_hybridjobs.errors import DeviceOffline

if TYPE_CHECKING:
    from pl_hybridjobs.cost.account import Account
    from pl_hybridjobs.devices.qpu import HybridQPU


class Call:
    """The purchases of one call of a device.

    Attributes:
        records: What became of the tasks so far.
    """

    def __init__(self, device: HybridQPU, account: Account, name: str, number: int, gradient: bool) -> None:
        self._device = device
        self._account = account
        self._name = name
        self._number = number
        self._gradient = gradient
        self.records: tuple[TaskRecord, ...] = ()

    def run(self, circuits: Sequence[QuantumScript]) -> list[CircuitResult]:
        """What they give."""
        if not all(circuit.measurements for circuit in circuits):  # all that was asked of them is known: identities
            made = iter(self.run([circuit for circuit in circuits if circuit.measurements]))
            return [next(made) if circuit.measurements else CircuitResult() for circuit in circuits]
        if not circuits:
            return []
        device = self._device
        shots = [circuit.shots.total_shots or 0 for circuit in circuits]
        ours = [device.as_sent(circuit, gradient=self._gradient) for circuit in circuits]
        parts, tasks, prints = self._tasks(device.qpu, ours, shots, self._name, str(self._number))
        if device.fallback is None:
            results = self._buy(device.qpu, tasks, prints, shots, device.policy)
            return grouping.joined(parts, cast(list[TaskResult], results))
        other = [self._tasks_elsewhere(device.fallback, task) for task in tasks]
        known = self._account.find([task.key for _, elsewhere, _ in other for task in elsewhere])
        there = [any(task.key in known and known[task.key].state != "released" for task in elsewhere) for _, elsewhere, _ in other]
        here = [number for number, is_there in enumerate(there) if not is_there]
        found: list[TaskResult | None] = [None] * len(tasks)
        if here:
            bought = self._buy(device.qpu, [tasks[n] for n in here], [prints[n] for n in here], shots, device.policy)
            for number, result in zip(here, bought, strict=True):
                found[number] = result
        away = [number for number, result in enumerate(found) if result is None]
        if away:
            self._buy_elsewhere(device.fallback, [(number, *other[number]) for number in away], found, [] if here else shots)
        return grouping.joined(parts, cast(list[TaskResult], found))

    def _tasks(
        self, qpu: QPU, circuits: Sequence[QuantumScript], shots: Sequence[int], name: str, place: str
    ) -> tuple[list[tuple[grouping.Part, ...]], list[Task], list[str]]:
        """What to buy for these circuits on a device, and what each task is."""
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
        return groups, tasks, prints

    def _buy(
        self, qpu: QPU, tasks: Sequence[Task], prints: Sequence[str], shots: Sequence[int], policy: Policy
    ) -> Sequence[TaskResult | None]:
        device = self._device
        refuse(device.name, list(dict.fromkeys(qpu.complaints(tasks))))
        submission = Submission(qpu, tasks, prints, self._account, policy, session=device.session, on_submitted=self._track_task)
        try:
            submission.reserve()
            try:
                if device.session is not None:
                    device.session.used_on(qpu.target)
                self._track(shots)
            except BaseException:  # a warning that was made an error, a tracker's callback
                submission.release()
                raise
            submission.run()
        except DeviceOffline as error:
            if policy.on_offline == "stop" and device.fallback is None:
                error.add_note("on_offline='wait' waits for it, and on_offline='fallback:<target>' takes another device.")
            raise
        finally:
            self.records += submission.records
        return submission.results

    # Another device --------------------------------------------------------------------------------------------------------

    def _tasks_elsewhere(self, qpu: QPU, task: Task) -> tuple[list[tuple[grouping.Part, ...]], list[Task], list[str]]:
        circuits = [lowering.lowered(circuit, qpu.capabilities(), self._device.name) for circuit in task.circuits]
        return self._tasks(qpu, circuits, [task.shots] * len(circuits), f"{task.key}|{qpu.target}", task.places[0])

    def _buy_elsewhere(
        self,
        qpu: QPU,
        wanted: Sequence[tuple[int, list[tuple[grouping.Part, ...]], list[Task], list[str]]],
        found: list[TaskResult | None],
        shots: Sequence[int],
    ) -> None:
        """Fill in what the first device did not make."""
        device = self._device
        tasks = [task for _, _, there, _ in wanted for task in there]
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
        prints = [print_ for _, _, _, there in wanted for print_ in there]
        results = iter(self._buy(qpu, tasks, prints, shots, replace(device.policy, on_offline="stop")))
        for number, parts, there, _ in wanted:
            made = cast(list[TaskResult], [next(results) for _ in there])
            seconds, shots_made = sum(result.billed_s for result in made), sum(result.shots for result in made)
            found[number] = TaskResult(made[0].task_id, qpu.target, tuple(grouping.joined(parts, made)), seconds, shots_made)

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
