"""The programs of Slurm that we speak to: sbatch, squeue, scontrol, scancel; and sacct where it is there.

Slurm's own words are kept in every error. The formats are of squeue(1) and scontrol(1), Slurm 20.02 and newer.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs import process
from pl_hybridjobs.jobs.queued import Phase, Unreachable

PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel")
#: What squeue and scontrol call them; the other states are of jobs that run.
PHASES = {
    **dict.fromkeys(("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"), Phase.OVER),
    **dict.fromkeys(("REVOKED", "TIMEOUT"), Phase.OVER),
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"), Phase.WAITING),
    **dict.fromkeys(("SUSPENDED", "STOPPED"), Phase.PAUSED),
}

_TIMEOUT_S = 30.0
_SETTLED_S = 0.5
_SHOWN = 200  # characters of an answer that is none
_FORMAT = "%i|%T|%r|%N|%k"
_NO_NODES = re.compile(r"node configuration is not available", re.IGNORECASE)
_NOT_NOW = re.compile(r"required nodes? not available|nodes are busy", re.IGNORECASE)
#: sinfo(1), states of nodes; what saves power, or is to be rebooted, is there all the same.
_TAKES_JOBS = re.compile(r"(allocated|completing|idle|mixed|planned)[~#!%@^+-]?")
#: The second one of an element, while others of its array are known.
_UNKNOWN_JOB = re.compile(r"Invalid job id specified|Job \S+ not found")
#: What ``sbatch --parsable`` prints; wrappers of sites print more, before and after.
_NUMBER = re.compile(r"^(\d+)(?:;\S*)?[ \t]*$", re.MULTILINE)
#: These would make another thing of our commands. What else sites and users set for ``sbatch`` holds.
_DISTURBING = ("SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_WAIT_ALL_NODES")
#: Nobody can tell from these whether the controller took the request.
_NO_ANSWER = re.compile(
    r"(?i)unable to contact slurm|timed out|connection (refused|failure|reset)|connect failure|zero bytes were transmitted|standby mode"
    r"|temporarily un|unexpected message|communications? (connection|shutdown)|network is unreachable|no route to host"
)


@dataclass(frozen=True)
class Seen:
    """A job, or an element of an array, as Slurm tells of it.

    Attributes:
        id: ``123`` or ``123_7``.
        state: In capitals, for example ``PENDING``.
        reason: Why it waits or has ended, or "".
        node: Where it runs, or "".
        comment: What it was submitted with.
        code: Its exit code, where that was asked for.
    """

    id: str
    state: str
    reason: str = ""
    node: str = ""
    comment: str = ""
    code: int | None = None

    @property
    def phase(self) -> Phase:
        """What its state means."""
        return PHASES.get(self.state, Phase.RUNNING)

    @property
    def is_over(self) -> bool:
        """It will not run any more."""
        return self.phase is Phase.OVER

    @property
    def text(self) -> str:
        """``Slurm's job 12 is PENDING (Resources)``."""
        return f"Slurm's job {self.id} is {self.state}" + (f" ({self.reason})" if self.reason else "")

    def has(self, key: str) -> bool:
        """Whether it was submitted with this key. Sites may add words of their own to a comment."""
        return key in re.split(r"[\s,;|]+", self.comment)


def missing() -> str:
    """What is wrong where Slurm's programs are not found, or ""."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if not lacking:
        return ""
    return (
        f"Slurm was not found: there is no {', no '.join(lacking)} in PATH={os.environ.get('PATH', '')}. "
        "Submit from a login node of the cluster; on some, `module load slurm` comes first"
    )


def elsewhere() -> str:
    """What is wrong where the environment sends jobs to another cluster than the one that is asked, or ""."""
    there = os.environ.get("SBATCH_CLUSTERS", "")
    if not there:
        return ""
    return f"SBATCH_CLUSTERS={there} sends jobs to clusters where they cannot be followed; unset it, and submit on a login node of that one"


def misread(script: str) -> str:
    """What bash has against a script, which it does not run, or ""."""
    options: dict[str, Any] = {"text": True, "errors": "replace", "timeout": _TIMEOUT_S}
    try:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, check=False, **options)
    except (OSError, subprocess.TimeoutExpired):  # the node will say it
        return ""
    return "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())


def environment() -> dict[str, str]:
    """What Slurm's programs, and through them the job, get: this process's, without what belongs to a job around it."""
    return {name: value for name, value in process.own_environment().items() if not _is_disturbing(name)}


def _is_disturbing(name: str) -> bool:
    return name in _DISTURBING or (name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_")) and name != "SLURM_CONF")


def _run(argv: Sequence[str], text: str = "", *, inherits: Sequence[int] = ()) -> str:
    """Run one program.

    Args:
        argv: Its words.
        text: Its standard input.
        inherits: Descriptors that it holds for as long as it runs, even if this process dies.

    Raises:
        Unreachable: The controller does not answer, or the program was killed before it could tell.
        RunnerError: Refused, in Slurm's own words.
    """
    options: dict[str, Any] = {"env": environment(), "cwd": "/", "text": True, "errors": "replace", "pass_fds": tuple(inherits)}
    try:
        done = subprocess.run(list(argv), input=text, capture_output=True, check=False, timeout=_TIMEOUT_S, **options)
    except FileNotFoundError:
        raise RunnerError(f"{missing() or f'{argv[0]} cannot be started'}.") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{argv[0]} has not answered for {_TIMEOUT_S:g} s: Slurm's controller cannot be asked.") from None
    if done.returncode == 0:
        return str(done.stdout)
    if done.returncode < 0:
        raise Unreachable(f"{argv[0]} was killed by signal {-done.returncode} before it could answer.")
    lines = (done.stderr.strip() or done.stdout[-_SHOWN:]).splitlines()
    said = " ".join(line.strip() for line in lines if line.strip()) or f"exit code {done.returncode}"
    raise (Unreachable if _NO_ANSWER.search(said) else RunnerError)(said)


def submit(options: Sequence[str], script: str, *, inherits: Sequence[int] = ()) -> str:
    """Submit a batch script, and return the job's number.

    Args:
        options: Of ``sbatch``.
        script: The batch script.
        inherits: See ``_run``: locks that tell others that a submission may be on its way.

    Raises:
        Unreachable: Slurm may have taken it or not.
        RunnerError: Refused.
    """
    said = _run(["sbatch", "--parsable", *options], script, inherits=inherits)
    found = _NUMBER.findall(said)
    if len(found) != 1:
        raise Unreachable(f"sbatch has not said which number the job got, but {said.strip()[:_SHOWN]!r}.")
    return str(found[0])


def would_refuse(options: Sequence[str]) -> str:
    """What Slurm has against a submission, in its own words, or "".

    Raises:
        Unreachable: The controller does not answer.
    """
    try:
        _run(["sbatch", "--test-only", *options], "#!/bin/bash\n")
    except Unreachable:
        raise
    except RunnerError as error:
        return "" if _may_wait(str(error)) else str(error)
    return ""


def _may_wait(said: str) -> bool:
    """Whether Slurm only says that nothing can start now: nodes that are away count as missing in a trial, and not in a queue."""
    if _NOT_NOW.search(said):
        return True
    if not _NO_NODES.search(said):
        return False
    try:
        states = _run(["sinfo", "--noheader", "--format=%T"]).split()
    except RunnerError:
        return False
    return not all(_TAKES_JOBS.fullmatch(state) for state in states)


def show(job: str) -> Seen | None:
    """Ask for one job; None if Slurm does not know it, or not any more, or if it is another user's.

    Raises:
        Unreachable: The controller does not answer.
    """
    try:
        answer = _run(["scontrol", "--oneliner", "show", "job", job])
    except Unreachable:
        raise
    except RunnerError as error:
        if _UNKNOWN_JOB.search(str(error)):
            return _from_accounting(job)
        raise Unreachable(str(error)) from error
    found = dict(part.split("=", 1) for part in answer.split() if "=" in part)
    user = re.search(r"\((\d+)\)$", found.get("UserId", ""))
    if user is not None and int(user[1]) != os.getuid():
        return _from_accounting(job)
    code = found.get("ExitCode", "").partition(":")[0]
    reason, node = _said(found.get("Reason", "")), _said(found.get("NodeList", ""))
    comment = _said(found.get("Comment", ""))
    return Seen(job, found.get("JobState", ""), reason, node, comment, int(code) if code.isdecimal() else None)


def _said(text: str) -> str:
    return "" if text in ("None", "(null)", "None assigned") else text


def _from_accounting(job: str) -> Seen | None:
    """What ``sacct`` remembers for longer; most clusters have it."""
    if shutil.which("sacct") is None:
        return None
    try:
        answer = _run(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=JobID,State,ExitCode,NodeList"])
    except RunnerError:  # "Slurm accounting storage is disabled"
        return None
    for line in answer.splitlines():
        name, state, code, node = (*line.split("|"), "", "", "", "")[:4]
        if name == job and state:
            return Seen(job, state.split()[0], "", _said(node), "", int(code.partition(":")[0] or 0))
    return None


def most_in_an_array() -> int:
    """How many elements an array may have.

    Raises:
        Unreachable: The controller does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.MULTILINE)
    return max(1, int(found[1]) - 1) if found else 1000


def cancel(job: str) -> None:
    """End a job; one that Slurm does not know has ended.

    Raises:
        RunnerError: It cannot be asked.
    """
    try:
        _run(["scancel", job])
    except RunnerError as error:
        if not _UNKNOWN_JOB.search(str(error)):
            raise


@contextlib.contextmanager
def notifying(job: str, signal: str) -> Iterator[None]:
    """Send a signal to a job's batch script, that is to our supervisor, and to nothing else of it; at the end of the block stop trying.

    ``scancel`` goes on for 45 s where the rest of an array waits, though the signal has arrived ("Job is in transitional state, retrying").
    """
    argv = ["scancel", "--batch", f"--signal={signal}", job]
    null = subprocess.DEVNULL
    try:
        trying = subprocess.Popen(argv, env=environment(), cwd="/", stdin=null, stdout=null, stderr=null)
    except OSError:  # the supervisor looks for the request, too
        yield
        return
    try:
        yield
    finally:
        trying.kill()
        trying.wait()


class Snapshot:
    """All jobs of this user that Slurm knows, as they were at most ``fresh_s`` ago: one question for a list of thousands.

    Where there was no answer, nobody asks again for twice as long as that took: Slurm's programs try for 10 s and more.
    """

    def __init__(self, fresh_s: float = 1.0) -> None:
        self.fresh_s = fresh_s
        self._lock = threading.Lock()
        self._by_id: Mapping[str, Seen] = {}
        self._error: Unreachable | None = None
        self._asked = -1e9
        self._patience_s = fresh_s
        self._of = ""

    def jobs(self, *, since: float = 0.0, job: str = "") -> Mapping[str, Seen]:
        """The jobs by number.

        Args:
            since: Unix time, seconds: what was submitted then must be there.
            job: The number of what was submitted then, where that is known: a list that has it is new enough.

        Raises:
            Unreachable: The controller does not answer.
        """
        with self._lock:
            of = os.environ.get("SLURM_CONF", "")
            age_s, now = time.monotonic() - self._asked, time.time()
            is_too_old = now - age_s < since + _SETTLED_S and since <= now  # clocks of login nodes differ
            may_lack_it = self._error is None and is_too_old and job not in self._by_id
            if of != self._of or age_s > self._patience_s or may_lack_it:
                self._ask(of)
            if self._error is not None:
                raise Unreachable(str(self._error)) from self._error
            return self._by_id

    def _ask(self, of: str) -> None:
        self._of, self._error, begun = of, None, time.monotonic()
        argv = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={_FORMAT}"]
        try:
            rows = (line.split("|", 4) for line in _run(argv).splitlines())
            self._by_id = {row[0]: Seen(row[0], row[1], _said(row[2]), row[3], row[4]) for row in rows if len(row) == 5}
        except RunnerError as error:
            self._error = error if isinstance(error, Unreachable) else Unreachable(str(error))
        self._asked = time.monotonic()
        self._patience_s = max(self.fresh_s, 2 * (self._asked - begun)) if self._error else self.fresh_s

    def whole(self, element: str) -> Seen | None:
        """The array that was cancelled before any of it began, where this is an element of it: then nothing is told of elements.

        Raises:
            Unreachable: The controller does not answer.
        """
        array, _, task = element.partition("_")
        seen = self.jobs().get(array) if task else None
        return replace(seen, id=element) if seen is not None and seen.is_over else None

    def of_key(self, key: str) -> dict[str, Seen]:
        """The jobs that were submitted with a comment.

        Raises:
            Unreachable: The controller does not answer.
        """
        return {name: seen for name, seen in self.jobs(since=time.time()).items() if seen.has(key)}


#: One for this process.
queue = Snapshot()
