"""What was asked of Slurm for a job, see ``jobs.submissions``; elements of an array are submitted in one go."""

from __future__ import annotations

from dataclasses import replace

from pl_hybridjobs.jobs.submissions import Submission, Submissions

SUBMISSIONS = Submissions("slurm")


def known_as(submission: Submission, array_or_job: str) -> Submission:
    """A submission with Slurm's number.

    Args:
        submission: Whose.
        array_or_job: What ``sbatch`` gave: for an array, that of the whole.
    """
    return replace(submission, job=array_or_job if submission.task is None else f"{array_or_job}_{submission.task}")
