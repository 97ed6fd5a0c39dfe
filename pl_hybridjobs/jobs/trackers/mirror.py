"""The process that mirrors one job to one tracker: ``main``, and its loop."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pl_hybridjobs.errors import HybridJobsError, StoreError, TrackerError
from pl_hybridjobs.jobs.durable import locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metric_lines import REWIND, RowReader, Rows
from pl_hybridjobs.jobs.metrics import series_of
from pl_hybridjobs.jobs.runner import Mirroring, Runner, resolve
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.jobs.trackers import MirrorFiles, Standing, Tracker, open_tracker

LOOK_EVERY_S = 1.0
LOOK_ELSEWHERE_EVERY_S = 5.0  # at a job that a service must be asked for
LONGEST_PAUSE_S = 60.0
GIVE_UP_S = 86400.0
_SHARE = 4.0  # after a look that took long there is a pause of so many times as long
_LONGEST_TEXT = 300

Say = Callable[[str], None]


class Mirror:
    """Makes a tracker hold what counts of a job's metrics.

    Args:
        folder: The job's; it is only read.
        tracker: Its place in the tracker.
    """

    def __init__(self, folder: JobFolder, tracker: Tracker) -> None:
        self.name = folder.spec().name
        self.behind = 0  #: how many lines of the log the tracker had not got at the end of the last look
        self._folder, self._tracker = folder, tracker
        self._runner = _runner_of(folder)
        self._reader = RowReader(folder.metrics)
        self._sent = 0  # lines of the log that the tracker has got
        self._attempt: int | None = None  # of the last line; None where the tracker must be looked at anew

    def close(self) -> None:
        """Let go of the tracker."""
        self._tracker.close()

    def look(self) -> Standing:
        """Bring the tracker up to date with the log as it is now.

        Raises:
            HybridJobsError: The job's folder cannot be read.
            Exception: Whatever the tracker raises. The next look mends it.
        """
        standing = _standing(self._folder, self._runner)  # before the log is read: after a job's end nothing comes
        rows = self._reader.read()
        self.behind = len(rows) - self._sent
        over = standing.status.is_over
        try:
            goes_on = self._goes_on(rows)
            if not goes_on or (len(rows) > self._sent and not self._tracker.append(series_of(rows.since(self._sent)))):
                self._tracker.hold(series_of(rows), final=over)
            if not self._tracker.tell(standing):
                self._tracker.hold(series_of(rows), final=True)
                self._tracker.tell(standing)
        except BaseException:
            self._attempt = None
            raise
        self._sent, self.behind = len(rows), 0
        self._attempt = int(rows.attempt[-1]) if len(rows) else 0
        return standing

    def _goes_on(self, rows: Rows) -> bool:
        """Whether what came since the last look only adds to what the tracker has."""
        news = rows.since(self._sent)
        if self._attempt is None or len(rows) < self._sent:
            return False
        return self._sent == 0 or not ((news.attempt != self._attempt).any() or (news.code == REWIND).any())

    def follow(self, say: Say, *, longest_pause_s: float = LONGEST_PAUSE_S, give_up_s: float = GIVE_UP_S) -> bool:
        """Look until the job is over and the tracker has everything.

        Args:
            say: Told when the mirror falls behind, and when it has caught up.
            longest_pause_s: Between two tries while the tracker fails; the first is after a second.
            give_up_s: How long to go on trying after the job is over.

        Returns:
            Whether the tracker has everything.
        """
        elsewhere = isinstance(self._runner, Mirroring)
        every_s = LOOK_ELSEWHERE_EVERY_S if elsewhere else LOOK_EVERY_S
        failures, over_at = 0, None
        while True:
            began = time.monotonic()
            try:
                standing = self.look()
            except Exception as error:  # noqa: BLE001 - whatever a tracker's client raises, the job's numbers stay where they are
                if not self._folder.path.exists():
                    return False
                failures += 1
                pause_s = min(longest_pause_s, 2.0 ** (failures - 1))
                over_at = over_at or (time.monotonic() if _is_over(self._folder) else None)
                if over_at is not None and time.monotonic() - over_at + pause_s > give_up_s:
                    say(f"gave up, {self.behind:,} values behind: {_text(error)}; `hybridjobs mirror {self.name}` goes on")
                    return False
                say(f"behind by {self.behind:,} values: {_text(error)}; next try in {pause_s:g} s")
            else:
                if failures:
                    say("caught up")
                if standing.status.is_over:
                    say(f"everything is there; the job is {standing.status}")
                    return True
                failures, over_at = 0, None
                pause_s = max(every_s, _SHARE * (time.monotonic() - began))
            time.sleep(pause_s)


def mirror(folder: JobFolder, tracker: str, target: str, say: Say) -> bool:
    """Follow a job, unless another process does so already.

    Returns:
        Whether the tracker has everything of a job that is over.

    Raises:
        TrackerError: Another mirror is at work, or the tracker is not installed.
    """
    files = MirrorFiles.of(folder, tracker, target)
    folder.mirrors.mkdir(mode=0o700, exist_ok=True)
    done = False
    while True:
        with _alone(files), contextlib.closing(open_tracker(tracker, target, folder.spec())) as opened:
            done = Mirror(folder, opened).follow(say)
        # The mirror of an attempt that has begun just now may have found us at work, and left.
        if not done or _is_over(folder):
            return done


def send(folder: JobFolder, tracker: str, target: str) -> None:
    """Bring a tracker up to date once. A mirror to the same place that is at work does it anyway, and is left alone.

    Raises:
        TrackerError: It is not installed, cannot be reached, or refuses.
    """
    spec = folder.spec()
    folder.mirrors.mkdir(mode=0o700, exist_ok=True)
    with _alone(MirrorFiles.of(folder, tracker, target)), contextlib.closing(open_tracker(tracker, target, spec)) as opened:
        try:
            Mirror(folder, opened).look()
        except HybridJobsError:
            raise
        except Exception as error:
            raise TrackerError(f"{tracker} at {target} did not take the metrics of {spec.name}: {_text(error)}") from error


def main(argv: list[str]) -> int:
    """``mirror <job folder> <tracker> <target>``."""
    path, tracker, target = argv
    _step_back()
    be_patient()
    folder = JobFolder(Path(path))
    folder.mirrors.mkdir(mode=0o700, exist_ok=True)
    with MirrorFiles.of(folder, tracker, target).log.open("a", encoding="utf-8", errors="replace", buffering=1) as log:

        def say(text: str) -> None:
            with contextlib.suppress(OSError):  # a full disk must not end the mirror
                log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")

        try:
            return 0 if mirror(folder, tracker, target, say) else 1
        except _AtWork:
            return 0
        except HybridJobsError as error:
            say(str(error))
            return 1


def _step_back() -> None:
    """Take only the time of the processor that nobody else wants."""
    with contextlib.suppress(OSError):
        os.nice(19)
    with contextlib.suppress(OSError):  # Linux weighs whole sessions against each other (sched(7), autogroup), and we lead one
        Path("/proc/self/autogroup").write_text("19")


def be_patient() -> None:
    """Settings of this process for clients of trackers, where the user has not chosen others: one short try, since we try again."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what we use it for is nobody's business
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


class _AtWork(TrackerError):
    """Another process mirrors the same job to the same place."""


@contextlib.contextmanager
def _alone(files: MirrorFiles) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(files.lock, 0.0))
        except StoreError as error:
            raise _AtWork(f"A mirror of this job to this place is at work already; what it says is in {files.log}.") from error
        yield


def _runner_of(folder: JobFolder) -> Runner:
    spec = folder.spec()
    return resolve(spec.runner, spec.runner_options)


def _state(folder: JobFolder, runner: Runner) -> State:
    """The job's state. A runner of this machine is not asked: it would start an orphan again, from here, with our low priority."""
    return runner.observe(folder) if isinstance(runner, Mirroring) else observe(folder)


def _standing(folder: JobFolder, runner: Runner) -> Standing:
    state = _state(folder, runner)
    return Standing(state.status, state.attempt, _ended(folder) if state.status.is_over else None)


def _ended(folder: JobFolder) -> float | None:
    latest = folder.latest_attempt()
    for path in (folder.outcome, *([latest.exit] if latest else [])):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return None


def _is_over(folder: JobFolder) -> bool:
    try:
        return _state(folder, _runner_of(folder)).status.is_over
    except HybridJobsError:
        return True


def _text(error: Exception) -> str:
    """An error in one line; of what an operating system or a network says the words at the root."""
    root: BaseException = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    shown = root if isinstance(root, OSError) else error
    text = " ".join(f"{type(shown).__name__}: {shown}".split())
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"  # what went wrong often stands last
