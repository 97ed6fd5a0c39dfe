"""Jobs of a Slurm cluster: ``runner="slurm"``, or ``runner=SlurmRunner(partition=..., ...)``.

The job's folder lies where all nodes see it, and is the truth. On the node our own supervisor is Slurm's batch script (see ``node``); here
we submit, cancel, and ask Slurm where the folder alone cannot say how things are.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pl_hybridjobs.errors import RunnerError, says_its_fields
from pl_hybridjobs.jobs import trackers
from pl_hybridjobs.jobs.durable import crash_point, locked
from pl_hybridjobs.jobs.entry import Element
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.queued import QueuedRunner, Seen, Unreachable, lines_of
from pl_hybridjobs.jobs.spec import JobSpec, new_id
from pl_hybridjobs.jobs.state import State
from pl_hybridjobs.jobs.submissions import PREFIX, Submission, Submissions
from pl_hybridjobs.slurm import asked, commands, told
from pl_hybridjobs.slurm.after import dependency
from pl_hybridjobs.slurm.record import SUBMISSIONS, known_as
from pl_hybridjobs.slurm.script import batch

_SUBMISSIONS, _PAUSE_S = 3, 2.0


@says_its_fields
@dataclass(frozen=True, kw_only=True)
class SlurmRunner(QueuedRunner):
    """Each job is a Slurm job, the jobs of a sweep are one array; the caller, and the login node, may leave.

    Of ``Resources``, ``threads`` become ``--cpus-per-task``, ``memory_mb`` ``--mem``, and ``timeout_s`` (with the time to begin and to
    stop) ``--time``; all three are enforced by our supervisor too.

    Attributes:
        partition: None for the cluster's own, as all that follow.
        account: Who pays.
        qos: Quality of service.
        constraint: Features of nodes, as ``--constraint`` has them.
        gpus: How many, or ``type:number``.
        walltime_s: Seconds that Slurm gives the job at a time. At its end a job stops at a step boundary, and goes on in a next one where
            ``retries`` are left. None: from ``Resources.timeout_s``, or the partition's own.
        requeue: Whether Slurm may begin the job again by itself, after a preemption or the loss of a node.
        after: Jobs that must have completed before: of ours (``Job`` objects, or their names), or Slurm's own numbers.
        options: More of ``sbatch``'s, for example ``"--exclusive"`` or ``"--nodelist=n[01-04]"``.
        grace_s: See ``QueuedRunner``, as for all that follow.
        setup: Lines of shell before the worker.
        python: The interpreter on the nodes.
        environment: ``current`` or ``locked``.
        probe: Run a small job first.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int | str | None = None
    walltime_s: float | None = None
    requeue: bool = True
    after: Sequence[Any] = ()
    options: Sequence[str] = ()
    engine: ClassVar[str] = "Slurm"
    name: ClassVar[str] = "slurm"
    submissions: ClassVar[Submissions] = SUBMISSIONS
    begins_again: ClassVar[bool] = True
    #: How many of a sweep may run side by side is the cluster's to say.
    at_once: ClassVar[int] = 100_000

    def __post_init__(self) -> None:
        after = (self.after,) if isinstance(self.after, str | int) or hasattr(self.after, "folder") else self.after or ()
        object.__setattr__(self, "after", tuple(str(getattr(job, "folder", job)) for job in after))
        object.__setattr__(self, "options", lines_of(self.options))
        super().__post_init__()

    # Before ------------------------------------------------------------------------------------------------------------------

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``."""
        return [*super().complaints(spec), *asked.complaints(self, spec.resources.timeout_s)]

    def preflight(self, spec: JobSpec) -> list[str]:
        """What Slurm would refuse, in its own words; what is wrong with jobs that come before; and what a probe finds, where asked."""
        if problem := commands.missing() or commands.elsewhere():
            return [problem]
        if self.setup and (misread := commands.misread(self._script([Element(Path(), "", 0, 0)], "start", is_array=False))):
            return [f"SlurmRunner: setup is no shell that can be read: {misread}"]
        try:
            refused = commands.would_refuse([*asked.words(self, spec), *dependency(self.after)])
            if refused:
                return [f"Slurm refuses: {refused}{asked.advice(refused)}"]
            if self.probe:
                from pl_hybridjobs.slurm.probe import complaints

                return complaints(self, asked.words(self, replace(spec, resources=type(spec.resources)())))
        except RunnerError as error:
            return [str(error)]
        return []

    # Submitting ----------------------------------------------------------------------------------------------------------------

    def _engine_submit(self, folder: JobFolder, spec: JobSpec, digest: str, ours: Submission, cause: str, lock: int) -> Submission:
        """See ``QueuedRunner``."""
        waited = dependency(self.after) if folder.latest_attempt() is None else []
        element = Element(folder.path, digest, ours.number, ours.epoch)
        return known_as(ours, self._submit(spec, [element], ours.key, cause, waited, lock))

    def _script(self, elements: Sequence[Element], cause: str, *, is_array: bool) -> str:
        python = self.python or sys.executable
        return batch(elements, python=python, cause=cause, grace_s=self.grace_s, setup=self.setup, is_array=is_array)

    def _submit(
        self, spec: JobSpec, elements: Sequence[Element], key: str, cause: str, waited: Sequence[str], lock: int, *, side_by_side: int = 0
    ) -> str:
        """Submit, and where the answer is lost, look before trying again. Returns Slurm's number, of the whole array where it is one.

        Raises:
            Unreachable: Slurm may have it or not.
            RunnerError: Refused, and not there.
        """
        script = self._script(elements, cause, is_array=side_by_side > 0)
        options = [
            *asked.words(self, spec),
            *("--requeue" if self.requeue else "--no-requeue", f"--signal=B:USR1@{math.ceil(self.grace_s)}"),
            *(f"--comment={key}", "--chdir=/", "--output=/dev/null", f"--job-name={spec.name}", *waited),
            *([f"--array=0-{len(elements) - 1}%{side_by_side}"] if side_by_side else []),
        ]
        for left in reversed(range(_SUBMISSIONS)):
            try:
                return commands.submit(options, script, inherits=[lock])
            except Unreachable:
                if not left:
                    raise
                time.sleep(_PAUSE_S)
                if found := told.of_key(key):
                    return found
            except RunnerError as error:
                if found := told.of_key(key):  # what refuses may be a wrapper of the site, after the fact
                    return found
                raise RunnerError(f"{error}{asked.advice(str(error))}") from error
        raise AssertionError

    def start_many(self, folders: Sequence[JobFolder], digests: Sequence[str], limit: int) -> None:
        """Submit new jobs as one array (several, one after the other, where the cluster's arrays are shorter).

        Args:
            folders: The jobs, in order.
            digests: Of their bundles.
            limit: How many may run side by side.

        Raises:
            RunnerError: See ``start``.
        """
        if not folders:
            return
        try:
            most, waited = commands.most_in_an_array(), dependency(self.after)
            for start in range(0, len(folders), most):
                part = folders[start : start + most]
                job = self._start_array(part, digests[start : start + most], min(limit, len(part)), waited)
                waited = dependency(self.after, ended=job)  # so that the limit holds for all
        except Unreachable as error:
            raise RunnerError(f"The sweep is submitted in part or not at all, because Slurm cannot be asked: {error}") from error
        except RunnerError as error:
            raise RunnerError(f"The sweep could not be submitted: {error}") from error

    def _start_array(self, folders: Sequence[JobFolder], digests: Sequence[str], limit: int, waited: Sequence[str]) -> str:
        spec = folders[0].spec()
        key = f"{PREFIX}:{spec.sweep.id if spec.sweep else new_id()}:{spec.sweep.index if spec.sweep else 0}"
        made = [replace(SUBMISSIONS.next_of(folder), key=key, task=task) for task, folder in enumerate(folders)]
        with locked(SUBMISSIONS.lock_of(folders[0], made[0])) as lock:
            for folder, ours in zip(folders, made, strict=True):
                SUBMISSIONS.write(folder, ours, durable=False)
            crash_point("slurm.intent")
            elements = [Element(f.path, digest, ours.number, ours.epoch) for f, digest, ours in zip(folders, digests, made, strict=True)]
            job = self._submit(spec, elements, key, "start", waited, lock, side_by_side=limit)
            crash_point("slurm.submitted")
            for folder, ours in zip(folders, made, strict=True):
                SUBMISSIONS.write(folder, known_as(ours, job), durable=False)
        for folder in folders:
            trackers.begin(folder, spec.mirrors)
        return job

    # Asking --------------------------------------------------------------------------------------------------------------------

    def _engine_waiting(self, folder: JobFolder, last: Submission) -> State | None:
        """See ``QueuedRunner``."""
        return told.waiting(folder, last)

    def _engine_listed(self, folder: JobFolder, last: Submission) -> Seen | None:
        """See ``QueuedRunner``."""
        return told.listed(last)

    def _engine_look(self, folder: JobFolder, last: Submission) -> Seen | None:
        """See ``QueuedRunner``."""
        return told.now(last)

    def _engine_found(self, folder: JobFolder, last: Submission) -> Submission | None:
        """See ``QueuedRunner``."""
        return told.found(last)

    def _engine_failed(self, folder: JobFolder, last: Submission, seen: Seen, state: State) -> tuple[str, str] | None:
        """See ``QueuedRunner``."""
        if seen.state == "OUT_OF_MEMORY":
            return "memory", f"{seen.text}: it used more than Slurm gave it; raise Resources.memory_mb"
        if seen.state == "FAILED" and "BadConstraints" in seen.text:
            return "environment", f"{seen.text}: no node has what was asked for{asked.advice('node configuration')}"
        if seen.state == "COMPLETED" and state.attempt <= last.epoch:
            said = SUBMISSIONS.said(folder, last)
            return "environment", f"setup has ended the batch script before the worker began: {said}"
        return super()._engine_failed(folder, last, seen, state)

    def _engine_stop(self, folder: JobFolder, last: Submission) -> None:
        """See ``QueuedRunner``."""
        if told.now(last) is not None:
            commands.cancel(last.job)

    def _engine_told_to_stop(self, folder: JobFolder, last: Submission) -> contextlib.AbstractContextManager[None]:
        """See ``QueuedRunner``."""
        with contextlib.suppress(RunnerError):
            if told.now(last) is not None:
                return commands.notifying(last.job, "TERM")
        return contextlib.nullcontext()
