"""Jobs that must have completed before another begins: ``SlurmRunner(after=...)``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pl_hybridjobs.errors import HybridJobsError, RunnerError
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lanes import successor_id
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import observe
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.slurm.record import SUBMISSIONS


def dependency(after: Sequence[str], *, ended: str = "") -> list[str]:
    """``after`` as ``sbatch`` has it. Jobs that have completed are left out: Slurm may have forgotten them.

    Args:
        after: Folders, names or ids of ours, or Slurm's own numbers.
        ended: The number of a job that must have ended, however; or "".

    Raises:
        RunnerError: One of them is not there, is none of Slurm's, or will not complete.
    """
    waited = [job for text in after if (job := _number_of(text))]
    parts = [*([f"afterok:{':'.join(waited)}"] if waited else []), *([f"afterany:{ended}"] if ended else [])]
    return [f"--dependency={','.join(parts)}", "--kill-on-invalid-dep=yes"] if parts else []


def _number_of(text: str) -> str:
    """Slurm's number of a job that must complete first; "" if it has."""
    if re.fullmatch(r"\d+(_\d+)?", text):
        return text
    try:
        folder = _newest(Store().find(text))
        state = observe(folder)
        last = SUBMISSIONS.latest(folder)
    except HybridJobsError as error:
        raise RunnerError(f"after={text!r}: {error}") from error
    if state.status is Status.COMPLETED:
        return ""
    if state.status.is_final:
        raise RunnerError(f"after={text!r}: {folder.path.name} is {state.status}, so what waits for it would never begin")
    if last is None or not last.job:
        raise RunnerError(f"after={text!r}: {folder.path.name} is no job of Slurm's")
    if last.ended:
        raise RunnerError(f"after={text!r}: {folder.path.name} is interrupted ({last.ended}); `hybridjobs resume {folder.path.name}` first")
    return last.job


def _newest(folder: JobFolder) -> JobFolder:
    """Who goes on with a job's work, after it has failed or was cancelled."""
    while (there := JobFolder(folder.path.with_name(successor_id(folder.path.name)))).spec_file.exists():
        folder = there
    return folder
