"""What a runner asks of Slurm, in the words of ``sbatch``; what is wrong with that, and where to look when Slurm refuses it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pl_hybridjobs.jobs.queued import is_positive, text_complaints
from pl_hybridjobs.jobs.spec import JobSpec

if TYPE_CHECKING:
    from pl_hybridjobs.slurm.runner import SlurmRunner

#: These would break what the runner does, or would do nothing beside what it says itself.
_OURS = {
    **dict.fromkeys(("array", "comment", "dependency", "output", "error", "signal", "parsable", "test-only", "wrap", "wait"), ""),
    **dict.fromkeys(("chdir", "uid", "gid"), ""),
    "requeue": "; give requeue=True",
    "no-requeue": "; give requeue=False",
    "job-name": "; give hybrid_job(name=...)",
    "clusters": ", because it asks one cluster only: submit on a login node of that one",
}
_TEXTS = ("partition", "account", "qos", "constraint")
_SUPERVISOR_MB = 64  # the supervisor itself, beside what the job may use
_START_S = 60.0  # of an allocation, until the worker has begun
_EARLY_S = 60.0  # sbatch(1), --signal: it may come so much earlier
_MOST_GRACE_S = 65_535  # sbatch(1), --signal


def words(runner: SlurmRunner, spec: JobSpec) -> list[str]:
    """Resources and options, as ``sbatch`` has them."""
    wanted: dict[str, object] = {name: getattr(runner, name) for name in ("partition", "account", "qos", "constraint", "gpus")}
    resources = spec.resources
    walltime_s = runner.walltime_s
    if walltime_s is None and resources.timeout_s:
        walltime_s = resources.timeout_s + runner.grace_s + _EARLY_S + _START_S
    if walltime_s is not None:
        wanted["time"] = math.ceil(walltime_s / 60.0)
    if resources.memory_mb:
        wanted["mem"] = f"{math.ceil(resources.memory_mb * 1e6 / 2**20) + _SUPERVISOR_MB}M"
    if resources.threads:
        wanted["cpus-per-task"] = resources.threads
    given = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    return ["--nodes=1", "--ntasks=1", *given, *runner.options]


def complaints(runner: SlurmRunner, timeout_s: float | None) -> list[str]:
    """What is wrong with options that are Slurm's alone, one sentence each. Asks nobody.

    Args:
        runner: Whose.
        timeout_s: The limit of the job itself, or None.
    """
    found = text_complaints(runner, _TEXTS)
    if runner.gpus is not None and not re.fullmatch(r"([\w.-]+:)?[1-9]\d*", str(runner.gpus)):
        found.append(f"SlurmRunner: gpus must be a number of at least 1, or 'type:number', not {runner.gpus!r}")
    if not isinstance(runner.requeue, bool):
        found.append(f"SlurmRunner: requeue must be True or False, not {runner.requeue!r}")
    return [*found, *_about_times(runner, timeout_s), *_about_options(runner)]


def _about_times(runner: SlurmRunner, timeout_s: float | None) -> list[str]:
    found = []
    if runner.walltime_s is not None and not is_positive(runner.walltime_s):
        found.append(f"SlurmRunner: walltime_s must be a positive number, not {runner.walltime_s!r}")
    if is_positive(runner.grace_s) and runner.grace_s > _MOST_GRACE_S:
        found.append(f"SlurmRunner: grace_s={runner.grace_s:g} is more than the {_MOST_GRACE_S} seconds that Slurm takes")
    if found or runner.walltime_s is None or not is_positive(runner.grace_s):
        return found
    to_stop_s = runner.grace_s + _EARLY_S
    given = f"SlurmRunner: walltime_s={runner.walltime_s:g}, with grace_s={runner.grace_s:g} and a minute that Slurm takes for itself,"
    if timeout_s and runner.walltime_s < timeout_s + to_stop_s:
        return [f"{given} ends before Resources.timeout_s={timeout_s:g} can; take at least {timeout_s + to_stop_s:g}, or None"]
    if runner.walltime_s <= to_stop_s:
        return [f"{given} leaves nothing to work in; take more than {to_stop_s:g}"]
    return []


def _about_options(runner: SlurmRunner) -> list[str]:
    found = []
    for option in runner.options:
        if not isinstance(option, str) or not option.startswith("--") or "\n" in option:
            found.append(f"SlurmRunner: options has {option!r}; write them as '--name=value' or '--name'")
        elif (ours := _ours(option.removeprefix("--").partition("=")[0])) is not None:
            found.append(f"SlurmRunner: options has {option!r}, which the runner sets itself{_OURS[ours]}")
    return found


def _ours(name: str) -> str | None:
    """Which option of ours it is, or None; ``sbatch`` takes the beginnings of names, too."""
    return name if name in _OURS else next((ours for ours in _OURS if ours.startswith(name)), None)


#: By a word of Slurm's; of several the first: a refused account is told with its partition.
_ADVICE = {
    "fetch_config": "Slurm's programs are here and no configuration is: set SLURM_CONF, or submit from a login node of the cluster",
    "time limit": "Lower walltime_s or Resources.timeout_s, or take another partition: `sinfo -o '%P %l'` lists their limits",
    "account": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use",
    "partition": "`sinfo -s` lists the partitions",
    "qos": "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use",
    "feature": "`sinfo -o '%P %f'` lists the features",
    "gres": "`sinfo -o '%P %G'` lists what GPUs there are",
    "node configuration": "`sinfo -o '%P %c %m %G'` lists cores, megabytes and GPUs of the nodes",
    "processors": "`sinfo -o '%P %c'` lists the cores of the nodes",
}


def advice(said: str) -> str:
    """Where to look for what would be accepted, as one more sentence; "" where nothing is known of it."""
    low = said.lower()
    return next((f". {where}" for word, where in _ADVICE.items() if word in low), "")
