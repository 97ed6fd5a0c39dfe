"""Jobs of a Slurm cluster: ``runner="slurm"``, or ``runner=SlurmRunner(partition=..., ...)``.

The job's folder lies where all nodes see it, and is the truth. On the node our own supervisor is Slurm's batch script (see ``node``); here
we submit, cancel, and ask Slurm where the folder alone cannot say how things are.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pl_hybridjobs.errors import Fenced, HybridJobsError, RunnerError, StoreError
from pl_hybridjobs.jobs import outcome, trackers
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, locked, write_bytes, write_once
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status, new_id
from pl_hybridjobs.jobs.state import State
from pl_hybridjobs.jobs.state import observe as observe_folder
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.slurm import commands, record
from pl_hybridjobs.slurm.commands import Seen, Unreachable, queue
from pl_hybridjobs.slurm.record import Submission
from pl_hybridjobs.slurm.script import BEFORE_US, EXIT_NO_FOLDER, Element, batch

ENVIRONMENTS = ("current", "locked")
#: These would break what the runner itself does.
_OURS = ("array", "comment", "dependency", "output", "error", "requeue", "no-requeue", "signal", "parsable", "test-only", "wrap", "wait")
_TEXTS = ("partition", "account", "qos", "constraint", "python")
_SUPERVISOR_MB = 64  # the supervisor itself, beside what the job may use
_START_S = 60.0  # of an allocation, until the worker has begun
_EARLY_S = 60.0  # sbatch(1), --signal: it may come so much earlier
_SUBMISSIONS, _PAUSE_S = 3, 2.0


@dataclass(frozen=True, kw_only=True)
class SlurmRunner:
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
        grace_s: Seconds between the signal to stop and the end of the job: longer than one step and one checkpoint take.
        requeue: Whether Slurm may begin the job again by itself, after a preemption or the loss of a node.
        after: Jobs that must have completed before: of ours (``Job`` objects, or their names), or Slurm's own numbers.
        setup: Lines of shell before the worker, for example ``"module load python/3.11"`` or ``"source ~/env/bin/activate"``.
        python: The interpreter on the nodes; None for the path of this one.
        environment: ``current``: what that interpreter has. ``locked``: what the bundle's lock names, installed once for each lock.
        options: More of ``sbatch``'s, for example ``"--exclusive"`` or ``"--nodelist=n[01-04]"``.
        probe: Run a small job first (once for each set of options), which tells whether the nodes see this folder, have this Python, and
            lock files.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int | str | None = None
    walltime_s: float | None = None
    grace_s: float = 60.0
    requeue: bool = True
    after: Sequence[Any] = ()
    setup: Sequence[str] = ()
    python: str | None = None
    environment: str = "current"
    options: Sequence[str] = ()
    probe: bool = False
    name: ClassVar[str] = "slurm"
    #: How many of a sweep may run side by side is the cluster's to say.
    at_once: ClassVar[int] = 100_000

    def __post_init__(self) -> None:
        after = (self.after,) if isinstance(self.after, str | int) or hasattr(self.after, "folder") else self.after
        object.__setattr__(self, "after", tuple(str(getattr(job, "folder", job)) for job in after))
        for name in ("setup", "options"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))

    @property
    def installs(self) -> bool:
        """Whether what the bundle requires is installed for the job, so that it need not be here."""
        return self.environment == "locked"

    # Before ------------------------------------------------------------------------------------------------------------------

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``."""
        found = [
            f"SlurmRunner: {name} must be a text that is not empty, not {value!r}"
            for name in _TEXTS
            if (value := getattr(self, name)) is not None and (not isinstance(value, str) or not value or "\n" in value)
        ]
        if self.gpus is not None and not re.fullmatch(r"([\w.-]+:)?[1-9]\d*", str(self.gpus)):
            found.append(f"SlurmRunner: gpus must be a number of at least 1, or 'type:number', not {self.gpus!r}")
        if self.environment not in ENVIRONMENTS:
            found.append(f"SlurmRunner: environment must be 'current' or 'locked', not {self.environment!r}")
        return [*found, *self._time_complaints(spec.resources.timeout_s), *self._line_complaints()]

    def _time_complaints(self, timeout_s: float | None) -> list[str]:
        found = [
            f"SlurmRunner: {name} must be a positive number, not {value!r}"
            for name, value in (("walltime_s", self.walltime_s), ("grace_s", self.grace_s))
            if not (value is None and name == "walltime_s") and not _is_positive(value)
        ]
        if found or self.walltime_s is None:
            return found
        to_stop_s = self.grace_s + _EARLY_S
        given = f"SlurmRunner: walltime_s={self.walltime_s:g}, with grace_s={self.grace_s:g} and a minute that Slurm takes for itself,"
        if timeout_s and self.walltime_s < timeout_s + to_stop_s:
            return [f"{given} ends before Resources.timeout_s={timeout_s:g} can; take at least {timeout_s + to_stop_s:g}, or None"]
        if self.walltime_s <= to_stop_s:
            return [f"{given} leaves nothing to work in; take more than {to_stop_s:g}"]
        return []

    def _line_complaints(self) -> list[str]:
        found = [
            f"SlurmRunner: setup has {line!r}; give one line of shell for each step"
            for line in self.setup
            if not isinstance(line, str) or "\n" in line or not line.strip()
        ]
        for option in self.options:
            if not isinstance(option, str) or not option.startswith("--") or "\n" in option:
                found.append(f"SlurmRunner: options has {option!r}; write them as '--name=value' or '--name'")
            elif option.removeprefix("--").partition("=")[0] in _OURS:
                found.append(f"SlurmRunner: options has {option!r}, which the runner sets itself")
        return found

    def preflight(self, spec: JobSpec) -> list[str]:
        """What Slurm would refuse, in its own words; what is wrong with jobs that come before; and what a probe finds, where asked."""
        if problem := commands.missing():
            return [problem]
        try:
            refused = commands.would_refuse([*self._asked(spec), *self._dependency()], "#!/bin/bash\n")
            if refused:
                return [f"Slurm refuses: {refused}{_advice(refused)}"]
            if self.probe:
                from pl_hybridjobs.slurm.probe import complaints

                return complaints(self, self._asked(replace(spec, resources=type(spec.resources)())))
        except RunnerError as error:
            return [str(error)]
        return []

    def _asked(self, spec: JobSpec) -> list[str]:
        """Resources and options, as ``sbatch`` has them."""
        wanted: dict[str, object] = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "gpus")}
        resources = spec.resources
        walltime_s = self.walltime_s
        if walltime_s is None and resources.timeout_s:
            walltime_s = resources.timeout_s + self.grace_s + _EARLY_S + _START_S
        if walltime_s is not None:
            wanted["time"] = math.ceil(walltime_s / 60.0)
        if resources.memory_mb:
            wanted["mem"] = f"{math.ceil(resources.memory_mb * 1e6 / 2**20) + _SUPERVISOR_MB}M"
        if resources.threads:
            wanted["cpus-per-task"] = resources.threads
        given = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
        return ["--nodes=1", "--ntasks=1", *given, *self.options]

    def _dependency(self) -> list[str]:
        """``after`` as ``sbatch`` has it. Jobs that have completed are left out: Slurm may have forgotten them.

        Raises:
            RunnerError: One of them is not there, is none of Slurm's, or will not complete.
        """
        waited = [job for text in self.after if (job := _number_of(text))]
        return [f"--dependency=afterok:{':'.join(waited)}", "--kill-on-invalid-dep=yes"] if waited else []

    # Submitting ----------------------------------------------------------------------------------------------------------------

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """See ``Runner.start``. However often it is called for the same submission, Slurm gets one job."""
        record.place(folder).mkdir(mode=0o700, exist_ok=True)
        with locked(record.lock(folder)):
            self._start(folder, digest, cause)

    def _start(self, folder: JobFolder, digest: str, cause: str) -> None:
        spec, last = folder.spec(), record.latest(folder)
        is_open = last is not None and not last.job and not last.ended
        try:
            dependency = self._dependency() if cause == "start" else []
            if last is not None and is_open and (found := _found(last)):
                found.write(folder)
                return
            if last is not None and last.job and not last.ended:
                self._give_up(folder, last)
        except RunnerError as error:
            raise RunnerError(f"{spec.name} was not submitted: {error}") from error
        ours = last if last is not None and is_open and last.task is None else record.next_of(folder)
        ours.write(folder)
        crash_point("slurm.intent")
        element = Element(folder.path, digest, ours.number, ours.epoch)
        try:
            job = self._submit(spec, [element], ours.key, cause, [*dependency, f"--job-name={spec.name}"])
        except Unreachable as error:
            raise RunnerError(
                f"{spec.name} may have been submitted or not, because Slurm cannot be asked: {error} Nothing is lost; "
                f"`hybridjobs resume {spec.name}` looks for it, and submits it if it is not there."
            ) from error
        except RunnerError as error:
            ours.forget(folder)
            raise RunnerError(f"{spec.name} could not be submitted: {error}{_advice(str(error))}") from error
        crash_point("slurm.submitted")
        ours.known_as(job).write(folder)
        folder.launch.unlink(missing_ok=True)
        trackers.begin(folder, spec.mirrors)

    @staticmethod
    def _give_up(folder: JobFolder, last: Submission) -> None:
        """Somebody resumes a job whose Slurm job may still be there. The epoch fences it off; we need not pay for it."""
        commands.cancel(last.job)
        replace(last, ended="given up for a later one").write(folder)

    def _submit(
        self, spec: JobSpec, elements: Sequence[Element], key: str, cause: str, more: Sequence[str], *, side_by_side: int = 0
    ) -> str:
        """Submit, and where the answer is lost, look before trying again. Returns Slurm's number, of the whole array where it is one."""
        is_array = side_by_side > 0
        script = batch(
            elements, python=self.python or sys.executable, cause=cause, grace_s=self.grace_s, setup=self.setup, is_array=is_array
        )
        options = [
            *self._asked(spec),
            *("--requeue" if self.requeue else "--no-requeue", f"--signal=B:USR1@{math.ceil(self.grace_s)}"),
            *(f"--comment={key}", "--chdir=/", "--output=/dev/null", *more),
            *([f"--array=0-{len(elements) - 1}%{side_by_side}"] if is_array else []),
        ]
        for left in reversed(range(_SUBMISSIONS)):
            try:
                return commands.submit(options, script)
            except Unreachable:
                if not left:
                    raise
                time.sleep(_PAUSE_S)
                if found := _of_key(key):
                    return found
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
            most, waiting = commands.most_in_an_array(), self._dependency()
            for start in range(0, len(folders), most):
                part = folders[start : start + most]
                job = self._start_array(part, digests[start : start + most], min(limit, len(part)), waiting)
                waiting = [f"--dependency=afterany:{job}"]  # so that the limit holds for all
        except Unreachable as error:
            raise RunnerError(f"The sweep is submitted in part or not at all, because Slurm cannot be asked: {error}") from error
        except RunnerError as error:
            raise RunnerError(f"The sweep could not be submitted: {error}{_advice(str(error))}") from error

    def _start_array(self, folders: Sequence[JobFolder], digests: Sequence[str], limit: int, waiting: Sequence[str]) -> str:
        spec = folders[0].spec()
        key = f"{record.PREFIX}:{spec.sweep.id if spec.sweep else new_id()}:{spec.sweep.index if spec.sweep else 0}"
        made = [replace(record.next_of(folder, key=key), task=task) for task, folder in enumerate(folders)]
        for folder, ours in zip(folders, made, strict=True):
            ours.write(folder, durable=False)
        crash_point("slurm.intent")
        elements = [Element(f.path, digest, ours.number, ours.epoch) for f, digest, ours in zip(folders, digests, made, strict=True)]
        more = [*waiting, f"--job-name={spec.name}"]
        job = self._submit(spec, elements, key, "start", more, side_by_side=limit)
        crash_point("slurm.submitted")
        for folder, ours in zip(folders, made, strict=True):
            ours.known_as(job).write(folder, durable=False)
            trackers.begin(folder, spec.mirrors)
        return job

    # Looking -------------------------------------------------------------------------------------------------------------------

    def observe(self, folder: JobFolder) -> State:
        """See ``Runner.observe``. Asks Slurm only where the folder cannot say; what Slurm cannot say is ``unknown``."""
        last = record.latest(folder)
        if last is not None and (waiting := self._waiting(folder, last)) is not None:
            return waiting
        state = observe_folder(folder)
        if last is None or state.status.is_final or state.status is Status.RUNNING:
            return state
        if last.ended:
            if state.status is Status.CREATED and folder.launch.exists():  # it waits for its turn in its sweep
                return state
            return State(Status.INTERRUPTED, state.attempt, state.detail if state.lease else last.ended, None, state.lease)
        try:
            seen, known = self._seen(folder, last)
        except Unreachable as error:
            return State(Status.UNKNOWN, state.attempt, f"Slurm cannot be asked: {str(error).splitlines()[0]}", None, state.lease)
        if not known:
            return State(Status.CREATED, state.attempt, "not known to be submitted; resume() submits it", None, state.lease)
        if seen is not None and not seen.is_over:
            return self._as_told(state, last, seen)
        return self._conclude(folder, last, seen)

    @staticmethod
    def _waiting(folder: JobFolder, last: Submission) -> State | None:
        """A job that has never run and waits in Slurm's queue: all that can be told in a list of thousands without reading much."""
        if (
            not last.job
            or last.ended
            or last.epoch
            or any(map(os.path.lexists, (f"{folder.place}/outcome.json", f"{folder.place}/attempts/1")))
        ):
            return None
        with contextlib.suppress(Unreachable):
            seen = queue.jobs(since=last.time).get(last.job)
            if seen is not None and seen.state in commands.WAITING:
                return State(Status.QUEUED, 0, seen.text)
        return None

    @staticmethod
    def _seen(folder: JobFolder, last: Submission) -> tuple[Seen | None, bool]:
        """What Slurm says of a submission, and whether that was ever made."""
        if not last.job:
            found = _found(last)
            if found is None:
                return None, False
            found.write(folder)
            last = found
        seen = queue.jobs(since=last.time).get(last.job)
        if seen is None or seen.is_over:  # what we have may be older than a requeue, or than the submission
            seen = commands.show(last.job)
        return seen, True

    @staticmethod
    def _as_told(state: State, last: Submission, seen: Seen) -> State:
        where = f" on {seen.node}" if seen.node else ""
        if seen.state in commands.WAITING:
            return State(Status.QUEUED, state.attempt, seen.text, None, state.lease)
        if seen.state in commands.PAUSED:
            return State(Status.RUNNING, state.attempt, f"{seen.text}{where}", None, state.lease)
        if state.attempt <= last.epoch:
            return State(Status.QUEUED, state.attempt, f"{seen.text}{where}; the worker starts", None, state.lease)
        if state.status is Status.UNKNOWN:
            detail = f"{seen.text}{where}, but {state.detail}; if the clocks of the nodes differ, that is why"
            return State(Status.UNKNOWN, state.attempt, detail, None, state.lease)
        # Slurm notices a dead supervisor, or begins it again, within seconds; one that has recorded its end is about to leave.
        status = Status.QUEUED if state.orphaned else Status.RUNNING
        return State(status, state.attempt, f"{state.detail}; {seen.text}{where}", None, state.lease)

    def _conclude(self, folder: JobFolder, last: Submission, seen: Seen | None) -> State:
        """Slurm's job has ended, and our job has not: say so in the folder, and go on where retries are left."""
        told = seen.text if seen is not None else f"Slurm does not know its job {last.job} any more"
        if not folder.attempt(last.epoch + 1).path.exists() and (said := last.said(folder)):
            told = f"{told}: {said.splitlines()[-1]}"
        with locked(record.lock(folder)):
            os.listdir(folder.path)  # makes a share show what is new
            current = record.latest(folder)
            if current is None or current.number != last.number or current.ended:
                return observe_folder(folder)
            again = False
            with locked(folder.lock):
                state = observe_folder(folder)
                if state.status.is_final or state.status is Status.RUNNING:
                    return state
                if folder.cancel_request.exists():
                    outcome.commit_cancelled(folder, f"cancelled; {told}")
                elif not self._failed(folder, last, seen, state):
                    again = self._record_end(folder, state, last, told)
            replace(current, ended=told).write(folder)
            if again:
                try:
                    self._start(folder, folder.spec().bundle_digest, "retry")
                except RunnerError as error:
                    return State(Status.INTERRUPTED, state.attempt, f"{told}; {error}", None, state.lease)
        return self.observe(folder)

    @staticmethod
    def _record_end(folder: JobFolder, state: State, last: Submission, told: str) -> bool:
        """Close the attempt that has no end yet; returns whether there are retries left."""
        spec = folder.spec()
        if state.attempt == 0 or state.lease is None:
            return last.number <= spec.retries.interruptions
        attempt = folder.attempt(state.attempt)
        if attempt.stopped.exists():
            return False
        if state.attempt > last.epoch:
            write_once(attempt.exit, dump_sealed({"code": None, "detail": told, "time": time.time(), "again": False}))
        return state.lease.interruptions < spec.retries.interruptions

    @staticmethod
    def _failed(folder: JobFolder, last: Submission, seen: Seen | None, state: State) -> bool:
        """Record what no retry mends: modules, activation, an interpreter or a folder that is not there, and too little memory."""
        if seen is None:
            return False
        if seen.state == "OUT_OF_MEMORY":
            reason, said = "memory", f"{seen.text}: it used more than Slurm gave it; raise Resources.memory_mb"
        elif seen.code == EXIT_NO_FOLDER and state.attempt <= last.epoch:
            advice = "Set HYBRIDJOBS_HOME to a folder on a file system that all nodes share; SlurmRunner(probe=True) looks before"
            reason, said = "environment", f"node {seen.node} does not see {folder.path}, or cannot write there. {advice}"
        elif seen.code in BEFORE_US and state.attempt <= last.epoch:
            reason, said = "environment", f"{seen.text} before the worker began (exit code {seen.code}): {last.said(folder)}"
        else:
            return False
        try:
            outcome.commit_failure_locked(folder, state.attempt, reason, {"type": "", "message": said, "traceback": ""})
        except Fenced:
            return False
        return True

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """See ``Runner.cancel``."""
        state = self.observe(folder)
        if state.status.is_final:
            return
        with locked(folder.lock):
            now = observe_folder(folder)
            if now.status.is_final:
                return
            write_bytes(folder.cancel_request, dump_sealed({"time": time.time(), "grace_s": grace_s}))
            last = record.latest(folder)
            runs = now.status in (Status.RUNNING, Status.UNKNOWN) or state.status in (Status.RUNNING, Status.UNKNOWN)
            if not runs or now.attempt == 0:  # whoever begins later finds that it is over
                outcome.commit_cancelled(folder, "cancelled before it ran" if now.attempt == 0 else "cancelled between attempts")
        crash_point("cancel.requested")
        if folder.outcome.exists():
            _quietly_cancel(last)
            return
        if last is not None and last.job:
            with contextlib.suppress(RunnerError):  # the supervisor looks for the request, too
                commands.notify(last.job, "TERM")
        if not self._wait(folder, grace_s + 15.0):
            self._force(folder, last)

    def _wait(self, folder: JobFolder, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.observe(folder).status.is_over:
                return True
            time.sleep(0.05)
        return False

    @staticmethod
    def _force(folder: JobFolder, last: Submission | None) -> None:
        """The supervisor does not answer: Slurm ends all of it. Committed only when Slurm says that it has ended."""
        if last is None or not last.job:
            return
        try:
            commands.cancel(last.job)
        except Unreachable as error:
            raise RunnerError(
                f"Slurm cannot be asked now: {error} The request to cancel is kept, and holds as soon as anybody sees it."
            ) from error
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            seen = commands.show(last.job)
            if seen is None or seen.is_over:
                with locked(folder.lock):
                    outcome.commit_cancelled(folder, "cancelled; its supervisor did not answer, and Slurm ended it")
                return
            time.sleep(0.2)

    def place(self, folder: JobFolder) -> str:
        """What the job is called where it runs; "" before it is known there."""
        last = record.latest(folder)
        return f"Slurm job {last.job}" if last is not None and last.job else ""


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _of_key(key: str) -> str:
    """Slurm's number of what was submitted with a key, or "".

    Raises:
        Unreachable: The controller does not answer.
    """
    numbers = {name.partition("_")[0] for name in queue.of_key(key)}
    return max(numbers, key=int, default="")


def _found(last: Submission) -> Submission | None:
    """The submission with the number that Slurm gave it, if Slurm has it.

    Raises:
        Unreachable: The controller does not answer.
    """
    number = _of_key(last.key)
    return last.known_as(number) if number else None


def _quietly_cancel(last: Submission | None) -> None:
    """Our job is over, so Slurm's can do nothing; it only waits, or ends, in vain."""
    if last is not None and last.job:
        with contextlib.suppress(RunnerError):
            commands.cancel(last.job)


def _number_of(text: str) -> str:
    """Slurm's number of a job that must complete first; "" if it has.

    Raises:
        RunnerError: It is not there, is none of Slurm's, or will not complete.
    """
    if re.fullmatch(r"\d+(_\d+)?", text):
        return text
    try:
        folder = Store().find(text)
        state = observe_folder(folder)
        last = record.latest(folder)
    except (HybridJobsError, StoreError, LookupError) as error:
        raise RunnerError(f"after={text!r}: {error}") from error
    if state.status is Status.COMPLETED:
        return ""
    if state.status.is_final:
        raise RunnerError(f"after={text!r}: {folder.path.name} is {state.status}, so what waits for it would never begin")
    if last is None or not last.job:
        raise RunnerError(f"after={text!r}: {folder.path.name} is no job of Slurm's")
    return last.job


_ADVICE = {
    "fetch_config": "Slurm's programs are here and no configuration is: set SLURM_CONF, or submit from a login node of the cluster",
    "time limit": "Lower walltime_s or Resources.timeout_s, or take another partition: `sinfo -o '%P %l'` lists their limits",
    "partition": "`sinfo -s` lists the partitions",
    "account": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use",
    "qos": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use",
    "feature": "`sinfo -o '%P %f'` lists the features",
    "gres": "`sinfo -o '%P %G'` lists what GPUs there are",
    "node configuration": "`sinfo -o '%P %c %m %G'` lists cores, megabytes and GPUs of the nodes",
    "processors": "`sinfo -o '%P %c'` lists the cores of the nodes",
}


def _advice(said: str) -> str:
    """Where to look for what would be accepted."""
    low = said.lower()
    return next((f". {advice}" for word, advice in _ADVICE.items() if word in low), "")
