"""The probe on Slurm, asked for by ``SlurmRunner(probe=True)``; see ``jobs.probing``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pl_hybridjobs.jobs import probing
from pl_hybridjobs.slurm import commands, told
from pl_hybridjobs.slurm.script import with_shebang

if TYPE_CHECKING:
    from pl_hybridjobs.slurm.runner import SlurmRunner

_SHELL = "srun --pty bash -l"


def complaints(runner: SlurmRunner, options: Sequence[str]) -> list[str]:
    """Run the probe, unless it was good before.

    Args:
        runner: Whose options.
        options: As ``sbatch`` has them.

    Returns:
        What is wrong and how to mend it, one sentence each.

    Raises:
        RunnerError: Slurm refuses it, or does not answer.
    """

    def submit(lines: list[str]) -> probing.Probing:
        more = ["--job-name=hybridjobs-probe", "--chdir=/", "--output=/dev/null", "--time=2", "--no-requeue"]
        job = commands.submit([*(o for o in options if not o.startswith("--time=")), *more], with_shebang(lines, runner.setup))
        return probing.Probing(lambda: told.of_number(job), lambda: commands.cancel(job))

    return probing.once(runner, [os.environ.get("SLURM_CONF", ""), list(options)], submit, _SHELL)
