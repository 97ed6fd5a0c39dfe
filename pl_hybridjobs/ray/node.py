"""What Ray's job runs: our supervisor, as its entrypoint. Standard library only.

Ray stops a job by signals, and gives it seconds; we look for the request in the job's folder ourselves, so its own grace period holds.
Where the job is one of a sweep that has more jobs than may run side by side, the next one follows in the same job of Ray's.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.errors import Fenced
from pl_hybridjobs.jobs import lanes, node
from pl_hybridjobs.jobs.durable import locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lanes import Lanes
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.jobs.submissions import Submission
from pl_hybridjobs.ray.runner import SUBMISSIONS, RayRunner

_LOOK_S = 0.2


@dataclass
class _Here:
    """The job that this process looks after now."""

    folder: JobFolder
    is_stopped: bool = False

    def stop(self) -> None:
        """Ray has stopped us: nothing follows."""
        self.is_stopped = True

    def watch(self) -> None:
        """Tell our supervisor, as soon as somebody asks in the folder to cancel the job."""
        told = None
        while True:
            time.sleep(_LOOK_S)
            folder = self.folder
            if folder is not told and folder.cancel_request.exists() and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                told = folder
                os.kill(os.getpid(), signal.SIGTERM)


def main(argv: list[str]) -> int:
    """``node <job folder> <bundle digest> <submission> <epoch> <cause>``.

    Returns:
        As ``jobs.node.attend``; of the last job, where several follow each other.
    """
    path, digest, _, given, cause = argv
    epoch = int(given)
    folder: JobFolder | None = JobFolder(Path(path))
    assert folder is not None
    here, ours = _Here(folder), SUBMISSIONS.latest(folder)
    threading.Thread(target=here.watch, daemon=True, name="hybridjobs-cancel").start()
    code = 0
    while folder is not None:
        spec = folder.spec()
        code = node.attend(folder, digest, epoch, cause, here.stop)
        # A mirror must run where it can stay: jobs with mirrors wait for somebody who looks.
        sweep = lanes.of_job(folder, spec) if not here.is_stopped and not spec.mirrors else None
        following = _take(sweep, RayRunner(**spec.runner_options), ours) if sweep is not None and ours is not None else None
        if following is not None:
            _leave(folder)
            here.folder = following
            digest, cause = following.spec().bundle_digest, lanes.cause_of(following)
            latest = following.latest_attempt()
            epoch = latest.number if latest else 0
        folder = following
    return code


def _take(sweep: Lanes, runner: RayRunner, ours: Submission) -> JobFolder | None:
    """The next job of the sweep, if it is for us."""
    taken = sweep.take(_look, runner.cancel, lambda folder: _hand_on(folder, ours))
    return taken[0] if taken is not None else None


def _hand_on(folder: JobFolder, ours: Submission) -> None:
    """Ray's job is this job's submission from now on.

    Raises:
        Fenced: Somebody submits it.
    """
    SUBMISSIONS.place(folder).mkdir(mode=0o700, exist_ok=True)
    with locked(SUBMISSIONS.lock(folder)):
        last = SUBMISSIONS.latest(folder)
        if last is not None and not last.ended:
            raise Fenced(f"{folder.path.name} is submitted already")
        SUBMISSIONS.write(folder, SUBMISSIONS.handed_on(folder, ours))


def _look(folder: JobFolder) -> State:
    """A job's state, as far as its folder tells. What Ray has got is waited for, not taken."""
    state = observe(folder)
    last = SUBMISSIONS.latest(folder)
    if state.status is Status.CREATED and last is not None and not last.ended:
        return State(Status.QUEUED, state.attempt)
    return state


def _leave(folder: JobFolder) -> None:
    """Ray's job goes on, and not with this one."""
    with locked(SUBMISSIONS.lock(folder)):
        last = SUBMISSIONS.latest(folder)
        if last is not None and not last.ended:
            SUBMISSIONS.end(folder, last, "its place was taken by the next job of the sweep")
