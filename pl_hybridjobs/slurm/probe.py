"""The probe on Slurm, asked for by ``SlurmRunner(probe=True)``; see ``jobs.probing``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pl_hybridjobs.jobs import probing
from pl_hybridjobs.slurm import commands

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
    python = runner.python or sys.executable

    def ask(folder: Path) -> list[str]:
        lines = ["#!/bin/bash" + (" -l" if runner.setup else ""), *probing.script(folder, python, runner.setup), ""]
        more = ["--job-name=hybridjobs-probe", "--chdir=/", "--output=/dev/null", "--time=2", "--no-requeue"]
        job = commands.submit([*(o for o in options if not o.startswith("--time=")), *more], "\n".join(lines))
        deadline = time.monotonic() + probing.PATIENCE_S
        while (seen := commands.show(job)) is not None and not seen.is_over:
            if time.monotonic() > deadline:
                commands.cancel(job)
                return [probing.too_late(seen.text)]
            time.sleep(0.2)
        probed = probing.Probed(seen.node, seen.code, seen.text) if seen is not None else _FORGOTTEN
        return probing.judge(probed, folder, python, "SlurmRunner", _SHELL)

    return probing.once([os.environ.get("SLURM_CONF", ""), python, list(options), list(runner.setup)], ask)


_FORGOTTEN = probing.Probed("", 0, "Slurm does not know it any more")
