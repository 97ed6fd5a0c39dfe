"""How an attempt's worker is started, told and ended: the port between the supervisor and the place where its worker runs.

The supervisor needs nothing but the standard library, and so do launches.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec

#: The folder that this package is imported from.
ROOT = Path(__file__).parents[2]

#: Names the signal that a worker hears, where it must hear one only.
STOP_VARIABLE = "HYBRIDJOBS_STOP_SIGNAL"
_LAUNCHES = {
    "container": "pl_hybridjobs.jobs.container:ContainerLaunch",
    "ray": "pl_hybridjobs.jobs.launch:QueuedLaunch.of",
    "slurm": "pl_hybridjobs.jobs.launch:QueuedLaunch.of",
}


def program(module: str) -> str:
    """Python that runs a module's ``main`` with this package found in its first argument, whatever is installed."""
    return f"import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; sys.exit(main(sys.argv[1:]))"


def token_of(job_id: str, epoch: int) -> str:
    """What all processes of an attempt carry in their environment."""
    return f"{job_id}:{epoch}"


@dataclass(frozen=True)
class Work:
    """What an attempt's worker is told, wherever it runs.

    Attributes:
        epoch: The attempt's number.
        digest: SHA-256 of the bundle's manifest; it goes on the command line, not with the bundle.
        may_retry: An exception is to leave no outcome, so that the next attempt can follow.
        env: The variables that every job sees, its own and its token.
    """

    epoch: int
    digest: str
    may_retry: bool
    env: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, folder: Path, life: int) -> list[str]:
        """The arguments of ``worker.main``.

        Args:
            folder: The job's folder, as the worker sees it.
            life: The descriptor whose end tells the worker that its supervisor is dead.
        """
        return [str(folder), str(self.epoch), self.digest, str(life), "retry" if self.may_retry else "last"]


@dataclass(frozen=True)
class Verdict:
    """What an exit code says.

    Attributes:
        code: As ``os.waitstatus_to_exitcode`` gives it: negative for a signal.
        reason: ``memory`` where it is certain that the limit of memory ended the worker, else "".
        detail: One line for people, or "" where the code says all.
    """

    code: int
    reason: str = ""
    detail: str = ""


class Launch(Protocol):
    """Starts and ends the workers of one job. Made from the job's folder, so that whoever finds an orphan can end it."""

    #: The worker and all that it starts are children of the supervisor.
    is_local: ClassVar[bool]

    def preparation(self, work: Work) -> Sequence[str] | None:
        """The command that must end well before a worker can start; None where nothing is missing.

        It gets the descriptor of ``life`` as its last argument. What it cannot do, it records as the job's outcome itself.
        """
        ...

    def start(self, work: Work, *, output: int, life: int) -> int:
        """Start the worker, in a session of its own.

        Args:
            work: What it is told.
            output: The descriptor for its standard output and error.
            life: A pipe that ends when the supervisor is dead; the worker then ends itself.

        Returns:
            The pid of the process to wait for.

        Raises:
            RunnerError: It cannot be started.
        """
        ...

    def signal(self, pid: int, number: int) -> None:
        """Tell the worker to stop. ``pid`` is what ``start`` gave."""
        ...

    def end(self, epoch: int, *, code: int | None = None, parent: int | None = None) -> list[int]:
        """End everything that an attempt has left running.

        Args:
            epoch: The attempt.
            code: How the process that ``start`` gave has ended; None where nobody knows.
            parent: Also all descendants of this process.

        Returns:
            The pids of what does not end.

        Raises:
            RunnerError: What would have to end it cannot be asked.
        """
        ...

    def verdict(self, code: int, log: Path) -> Verdict:
        """What an exit code of that process says; ``log`` is the attempt's."""
        ...


def of(folder: JobFolder, spec: JobSpec) -> Launch:
    """How a job's workers are started."""
    target = _LAUNCHES.get(spec.runner)
    if target is not None:
        module, _, name = target.partition(":")
        made: Launch = attrgetter(name)(importlib.import_module(module))(folder, spec)
        return made
    options = spec.runner_options if spec.runner == "local" else {}
    return LocalLaunch(folder, spec, locked=options.get("environment") == "locked", sandbox=options.get("sandbox", False))


@dataclass(frozen=True)
class LocalLaunch:
    """A process of this machine.

    Attributes:
        locked: With what the bundle's lock names, not with what is installed here.
        sandbox: See ``LocalRunner``.
    """

    is_local: ClassVar[bool] = True
    folder: JobFolder
    spec: JobSpec
    locked: bool = False
    sandbox: bool | str = False

    def preparation(self, work: Work) -> Sequence[str] | None:
        """See ``Launch``."""
        if not self.locked or self._place().is_built:
            return None
        from pl_hybridjobs.jobs.environment import Interpreter

        return prepared(self.folder, work, asdict(Interpreter.here()))

    def start(self, work: Work, *, output: int, life: int) -> int:
        """See ``Launch``."""
        env = {name: value for name, value in os.environ.items() if name != process.OWNER_VARIABLE}
        python, root = sys.executable, ROOT
        if self.locked:
            place = self._place()
            python, root = str(place.python), place.own
            env = place.variables(env)
        argv = [python, "-P", "-c", program("pl_hybridjobs.jobs.worker"), str(root), *work.arguments(self.folder.path, life)]
        env |= work.env
        if self.sandbox:
            from pl_hybridjobs.jobs import device, sandbox

            own = root if self.locked else root / "pl_hybridjobs"
            buys = self.sandbox == "network" or bool(device.remote_names(self.spec.device))
            argv = sandbox.wrapped(argv, env, self.folder, own, network=self.sandbox == "network", buys=buys)
        os.set_inheritable(life, True)
        try:
            return process.spawn(argv, env, output=output, session=True)
        except OSError as error:
            raise RunnerError(f"Cannot start {argv[0]}: {error.strerror}.") from error

    def signal(self, pid: int, number: int) -> None:
        """See ``Launch``. The sandbox itself would end at once."""
        if not self.sandbox:
            process.signal_group(pid, number)
            return
        for child in process.descendants(pid):
            process.signal_one(child, number)

    def end(self, epoch: int, *, code: int | None = None, parent: int | None = None) -> list[int]:
        """See ``Launch``."""
        del code
        return process.kill_all(token_of(self.spec.id, epoch), parent=parent)

    def verdict(self, code: int, log: Path) -> Verdict:
        """See ``Launch``. A sandbox tells of signals as shells do."""
        del log
        return Verdict(128 - code if self.sandbox and code > 128 else code)

    def _place(self) -> Any:
        from pl_hybridjobs.jobs import environment

        return environment.local_place(self.folder)


@dataclass(frozen=True)
class QueuedLaunch(LocalLaunch):
    """Beside a supervisor that an engine has started, as on any machine, but told to stop by one signal only.

    Engines send SIGTERM to every process of a job, and the supervisor passes it on: twice would mean "leave at once". So the worker hears
    SIGUSR1 only, which comes from its supervisor.
    """

    @classmethod
    def of(cls, folder: JobFolder, spec: JobSpec) -> QueuedLaunch:
        """How the workers of a job are started."""
        return cls(folder, spec, locked=spec.runner_options.get("environment") == "locked")

    def start(self, work: Work, *, output: int, life: int) -> int:
        """See ``Launch``."""
        return super().start(replace(work, env={**work.env, STOP_VARIABLE: "SIGUSR1"}), output=output, life=life)

    def signal(self, pid: int, number: int) -> None:
        """See ``Launch``."""
        del number
        process.signal_group(pid, signal.SIGUSR1)


def prepared(folder: JobFolder, work: Work, interpreter: Mapping[str, str], warming: Sequence[str] = ()) -> list[str]:
    """The command that builds an environment for an ``environment.Interpreter``; the descriptor of ``life`` is appended.

    Args:
        folder: The job.
        work: The attempt.
        interpreter: For whom.
        warming: A command that fills the environment's cache; none where who uses it can write it.
    """
    python = [sys.executable, "-P", "-c", program("pl_hybridjobs.jobs.environment"), str(ROOT)]
    return [*python, str(folder.path), str(work.epoch), work.digest, json.dumps(dict(interpreter)), json.dumps(list(warming))]
