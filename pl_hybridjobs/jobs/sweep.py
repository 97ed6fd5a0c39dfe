"""A sweep: one function, many arguments, so many at a time.

``sweeps/<id>.json`` lists the jobs in order. Whoever finishes one job takes the next that nobody has begun, so the sweep goes on
when the caller has left.
"""

from __future__ import annotations

from pathlib import Path

from pl_hybridjobs.jobs.durable import read_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.state import observe


def sweep_file(home: Path, sweep_id: str) -> Path:
    """Where a sweep's list of jobs lies."""
    return home / "sweeps" / f"{sweep_id}.json"


def next_job(folder: JobFolder, spec: JobSpec) -> JobFolder | None:
    """The next job of the same sweep that nobody has begun, or None."""
    if spec.sweep is None:
        return None
    try:
        ids = read_sealed(sweep_file(folder.path.parents[1], spec.sweep.id))["jobs"]
    except FileNotFoundError:
        return None
    for job_id in ids[spec.sweep.index + 1 :]:
        candidate = JobFolder(folder.path.parent / job_id)
        if candidate.spec_file.exists() and observe(candidate).status is Status.CREATED:
            return candidate
    return None
