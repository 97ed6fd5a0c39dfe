"""The worker on a node: a process beside its supervisor, as on any machine, but told to stop by one signal only."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.launch import STOP_VARIABLE, LocalLaunch, Work
from pl_hybridjobs.jobs.spec import JobSpec


@dataclass(frozen=True)
class SlurmLaunch(LocalLaunch):
    """Slurm sends SIGTERM to every process of a job, and the supervisor passes it on: twice would mean "leave at once".

    So the worker hears SIGUSR1 only, which comes from its supervisor.
    """

    def start(self, work: Work, *, output: int, life: int) -> int:
        """See ``Launch``."""
        return super().start(replace(work, env={**work.env, STOP_VARIABLE: "SIGUSR1"}), output=output, life=life)

    def signal(self, pid: int, number: int) -> None:
        """See ``Launch``."""
        del number
        process.signal_group(pid, signal.SIGUSR1)


def of(folder: JobFolder, spec: JobSpec) -> SlurmLaunch:
    """How the workers of a job are started."""
    return SlurmLaunch(folder, spec, locked=spec.runner_options.get("environment") == "locked")
