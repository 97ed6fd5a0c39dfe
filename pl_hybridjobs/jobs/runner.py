"""Where jobs run: the port that each runner implements, and how runners are found."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

from pl_hybridjobs.errors import RunnerError, did_you_mean
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.inputs import remote_complaints
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import State

if TYPE_CHECKING:
    from pl_hybridjobs.cost.ledger import Cost

GROUP = "pl_hybridjobs.runners"

# Ours are registered by entry point like anyone's; they stand here too because reading all entry points takes longer than a submit,
# and so that a checkout works without being installed.
_OURS = {
    "local": "pl_hybridjobs.jobs.local:LocalRunner",
    "inline": "pl_hybridjobs.jobs.inline:InlineRunner",
    "container": "pl_hybridjobs.jobs.container:ContainerRunner",
    "braket": "pl_hybridjobs.braket.runner:BraketRunner",
    "rehearsal": "pl_hybridjobs.braket.rehearsal:RehearsalRunner",
    "ray": "pl_hybridjobs.ray.runner:RayRunner",
    "slurm": "pl_hybridjobs.slurm.runner:SlurmRunner",
}


@runtime_checkable
class Runner(Protocol):
    """Runs jobs somewhere. Implementations are frozen dataclasses whose fields are JSON-able options.

    The job's folder is the only thing that the two sides share. Six things are optional: ``preflight(spec)``, complaints that are found
    by asking an engine or a service, before anything is created; ``installs``, true where what the bundle requires is installed for the
    job, so that it need not be installed here; ``reads_s3``, true where inputs may lie in S3; ``at_once``, how many jobs of a
    sweep may run side by side where nothing is said; ``start_many(folders, digests, limit)``, where all jobs of a sweep are started in one
    go by an engine that keeps the limit itself; and ``place(folder)``, what a job is called where it runs.
    """

    name: ClassVar[str]

    def complaints(self, spec: JobSpec) -> list[str]:
        """What this runner cannot do of what the job asks for, one sentence each. Contacts nobody."""
        ...

    def start(self, folder: JobFolder, digest: str, cause: str) -> None:
        """Begin the next attempt of a complete job folder.

        Args:
            folder: The job.
            digest: SHA-256 of the bundle's manifest. It must reach the worker by another road than the folder.
            cause: ``start``, ``retry`` or ``resume``.

        Raises:
            RunnerError: It could not be started; the folder is as it was.
        """
        ...

    def observe(self, folder: JobFolder) -> State:
        """The job's state. May mend what a dead owner left behind. Never guesses: what cannot be seen is ``unknown``."""
        ...

    def cancel(self, folder: JobFolder, grace_s: float) -> None:
        """Stop a job and everything that it started. Returns when it has ended, or has begun to within the grace period."""
        ...


@runtime_checkable
class Mirroring(Runner, Protocol):
    """A runner whose jobs run elsewhere: their folder here is brought up to date by ``observe``."""

    def cost(self, folder: JobFolder) -> Cost:
        """What the machines cost that a job ran on, beside what it bought."""
        ...

    def prices(self) -> list[str]:
        """What the machines will cost, a line each."""
        ...

    def place(self, folder: JobFolder) -> str:
        """What the job is called where it runs; "" before it is known there."""
        ...


@functools.cache
def _registered() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {**{entry.name: entry.value for entry in entry_points(group=GROUP)}, **_OURS}


def known_runners() -> dict[str, str]:
    """All registered runners: name -> where its class is."""
    return dict(_registered())


def complaint(runner: object) -> str | None:
    """What is wrong with ``runner=...``, or None. Loads nothing."""
    if isinstance(runner, str):
        if runner in _OURS or runner in _registered():
            return None
        return f"there is no runner {runner!r}; known are {', '.join(sorted(_registered()))}.{did_you_mean(runner, _registered())}"
    if isinstance(runner, type):
        return f"runner is the class {runner.__name__}; give an instance: {runner.__name__}(...)"
    if not isinstance(runner, Runner):
        return f"runner must be a runner's name or a runner object, not {runner!r}"
    return None


def resolve(runner: str | Runner, options: Mapping[str, Any] | None = None) -> Runner:
    """A runner by name, or the object itself.

    Raises:
        RunnerError: It is not known, or its plug-in is broken.
    """
    if not isinstance(runner, str):
        return runner
    target = _OURS.get(runner) or _registered().get(runner)
    if target is None:
        raise RunnerError(complaint(runner))
    module, _, attribute = target.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)(**(options or {}))
    except Exception as error:
        raise RunnerError(f"The runner {runner!r} ({target}) does not load: {type(error).__name__}: {error}") from error
    if not _is_runner(made.__class__):
        raise RunnerError(f"The runner {runner!r} ({target}) does not have the methods of a runner.")
    return cast(Runner, made)


@functools.cache
def _is_runner(kind: Any) -> bool:
    """As ``isinstance(made, Runner)``, which takes as long as all else in a list of jobs."""
    return hasattr(kind, "name") and all(callable(getattr(kind, name, None)) for name in ("complaints", "start", "observe", "cancel"))


def preflight(runner: Runner, spec: JobSpec) -> list[str]:
    """What a runner finds wrong by asking its engine or service; nothing where it has nobody to ask."""
    ask = getattr(runner, "preflight", None)
    return list(ask(spec)) if ask is not None else []


def inputs_complaints(runner: Runner, spec: JobSpec) -> list[str]:
    """Which inputs lie in S3, of a runner that does not read there."""
    return [] if getattr(runner, "reads_s3", False) else remote_complaints(spec.inputs)


def at_once(runner: Runner) -> int:
    """How many jobs of a sweep run side by side where nothing is said: one for each core of this machine."""
    return int(getattr(runner, "at_once", 0)) or max(1, os.cpu_count() or 1)


def start_many(runner: Runner, folders: Sequence[JobFolder], limit: int) -> bool:
    """Start the jobs of a sweep that wait, all in one go, if the runner's engine can, and keeps the limit; returns whether it can."""
    start = getattr(runner, "start_many", None)
    if start is None:
        return False
    waiting = [folder for folder in folders if runner.observe(folder).status is Status.CREATED]
    start(waiting, [folder.spec().bundle_digest for folder in waiting], limit)
    return True


def place_of(runner: Runner, folder: JobFolder) -> str:
    """What a job is called where it runs; "" where that is this machine, or before it is known there."""
    place = getattr(runner, "place", None)
    return str(place(folder)) if place is not None else ""


def options_of(runner: Runner) -> dict[str, Any]:
    """A runner object's options, to make it again later."""
    return dataclasses.asdict(runner) if dataclasses.is_dataclass(runner) and not isinstance(runner, type) else {}
