"""A Ray of this machine, which a jobs' home has for its own: ``ray/<host>/`` in it.

It is started for the first job that is submitted to it, shared by all that follow, and ends when nothing has run for a while, or when
somebody says so. It has a token and ports of its own, and a process that keeps it (see ``keeper``). Nothing else of Ray on this machine
is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

from pl_hybridjobs.errors import FolderCorrupt, RunnerError
from pl_hybridjobs.home import SHORT, private_folder
from pl_hybridjobs.jobs import launch, process
from pl_hybridjobs.jobs.durable import dump_sealed, locked, read_sealed, write_bytes
from pl_hybridjobs.jobs.queued import Phase, Unreachable
from pl_hybridjobs.ray import api
from pl_hybridjobs.ray.api import Api, Token

PREFIX = "local"
INSTALL = "pip install 'pl-hybridjobs[ray]'"
_STARTED_IN_S = 180.0
_ENDED_IN_S = 40.0
_LEAVING_S = 3.0
_KEEPER = launch.program("pl_hybridjobs.ray.keeper")


@dataclass(frozen=True)
class Cluster:
    """A Ray that was started.

    Attributes:
        id: Nobody else's.
        address: Of its Jobs API.
        keeper: The process that looks after it.
        head: The process of ``ray start``, which leads the session that all of Ray is in.
        temporary: The folder that Ray's own files lie in, for its user only.
        started: Unix time, seconds.
    """

    id: str
    address: str
    keeper: process.Identity
    head: process.Identity
    temporary: str
    started: float

    @property
    def name(self) -> str:
        """What submissions call it: it says on which machine it is."""
        return f"{PREFIX}:{self.keeper.host}:{self.id}"


@dataclass(frozen=True)
class Place:
    """The files of a cluster.

    Attributes:
        path: Their folder.
    """

    path: Path

    @classmethod
    def of(cls, home: Path) -> Place:
        """That of this machine, in a jobs' home."""
        return cls(home / "ray" / os.uname().nodename)

    @property
    def lock(self) -> Path:
        """Held by who starts it, submits to it, or ends it."""
        return self.path / ".lock"

    @property
    def log(self) -> Path:
        """What its processes said while they started."""
        return self.path / "head.log"

    def token(self, name: str) -> Path:
        """The secret that the processes of a cluster share, readable for its user only.

        Args:
            name: The cluster's id.
        """
        return self.path / f"token-{name}"

    @property
    def _file(self) -> Path:
        return self.path / "cluster.json"

    def write(self, cluster: Cluster) -> None:
        """Record what was started."""
        write_bytes(self._file, dump_sealed(asdict(cluster)))

    def read(self) -> Cluster | None:
        """What was started last, unless it was seen to end."""
        try:
            found = read_sealed(self._file)
            identities = {name: process.Identity.from_json(found[name]) for name in ("keeper", "head")}
            return Cluster(**{**found, **identities})
        except FileNotFoundError:
            return None
        except (FolderCorrupt, KeyError, TypeError, ValueError) as error:
            raise RunnerError(f"{self._file} cannot be read ({error}). Delete it, if no Ray of yours runs on this machine.") from error

    def end(self, cluster: Cluster) -> None:
        """Record that it has ended, or is about to."""
        current = self.read()
        if current is not None and current.id == cluster.id:
            self._file.unlink(missing_ok=True)
            self.token(cluster.id).unlink(missing_ok=True)

    def api(self, cluster: Cluster) -> Api:
        """The way to it."""
        file = self.token(cluster.id)
        try:
            text = file.read_text()
        except FileNotFoundError:
            text = ""
        return Api(cluster.address, Token(text, str(file)))

    # ---------------------------------------------------------------------------------------------------------------------------

    def living(self) -> Cluster | None:
        """The cluster, if there is one. What a keeper that was killed has left behind is ended."""
        cluster = self.read()
        if cluster is None or cluster.keeper.is_alive():
            return cluster
        _clear(cluster)
        self.end(cluster)
        return None

    @contextlib.contextmanager
    def running(self, idle_s: float) -> Iterator[Cluster]:
        """A cluster that takes jobs, started where there is none. It does not end by itself meanwhile.

        Args:
            idle_s: Of one that is started: seconds without jobs after which it ends.

        Raises:
            RunnerError: It does not come up.
        """
        private_folder(self.path.parents[1], *self.path.parts[-2:])
        with locked(self.lock, timeout_s=_STARTED_IN_S + _ENDED_IN_S):
            yield self._ready() or self._start(idle_s)

    def _ready(self) -> Cluster | None:
        """The cluster, when it takes jobs; one that comes up, or is about to end, is waited for. None if there is none (any more)."""
        begun = time.monotonic()
        while (cluster := self.living()) is not None:
            if not (missing := self._missing(cluster)):
                return cluster
            age_s = max(0.0, time.time() - cluster.started)  # who began to start it may have left
            if time.monotonic() - begun > max(_ENDED_IN_S, _STARTED_IN_S - age_s):
                raise Unreachable(f"The Ray of this machine takes no jobs: {missing} `hybridjobs ray stop --now` ends it.")
            time.sleep(0.2)
        return None

    def _missing(self, cluster: Cluster) -> str:
        """Why it takes no jobs, or ""."""
        try:
            return "" if "CPU" in self.api(cluster).largest() else "it has no node yet."  # which shows up last
        except Unreachable as error:
            return str(error)

    def _start(self, idle_s: float) -> Cluster:
        name = secrets.token_hex(6)
        write_bytes(self.token(name), secrets.token_hex(32).encode())
        self.log.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-c", _KEEPER, str(launch.ROOT), str(self.path), name, str(idle_s)]
        try:
            pid = process.spawn(argv, process.own_environment(), session=True)
        except OSError as error:
            raise RunnerError(f"Cannot start {argv[0]}: {error.strerror}.") from error
        return self._wait(name, pid)

    def _wait(self, name: str, keeper: int) -> Cluster:
        deadline = time.monotonic() + _STARTED_IN_S
        said = ""
        while time.monotonic() < deadline:
            cluster = self.read()
            if cluster is not None and cluster.id == name:
                said = self._missing(cluster)
                if not said:
                    self._check_guarded(cluster)
                    return cluster
            process.reap(keeper)
            if process.Identity.of(keeper) is None:
                break
            time.sleep(0.1)
        else:
            process.signal_one(keeper, SIGTERM)
        self.token(name).unlink(missing_ok=True)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""
        raise RunnerError(f"Ray does not come up on this machine{f': {said}' if said else ''}. All that it said is in {self.log}:\n{tail}")

    def _check_guarded(self, cluster: Cluster) -> None:
        """Ray of before 2.52 knows no tokens: whoever reaches it could run anything as us."""
        try:
            Api(cluster.address).version()
        except api.Denied:
            return
        self._terminate(cluster)
        raise RunnerError(f"This version of Ray asks nobody for a token, so everybody could use it. Upgrade it: {INSTALL} --upgrade")

    def stop(self, *, now: bool = False) -> bool:
        """End the cluster.

        Args:
            now: Even if jobs run: they stop at a step boundary if that comes soon, and can be resumed.

        Returns:
            False if there is none.

        Raises:
            RunnerError: Jobs run in it, or may.
        """
        if not self.path.exists():
            return False
        with locked(self.lock, timeout_s=_STARTED_IN_S):
            cluster = self.living()
            if cluster is None:
                return False
            if cluster.keeper.is_alive() is None:
                raise RunnerError(f"It runs on {cluster.keeper.host}: say it there.")
            names = self.busy(cluster)
            deadline = time.monotonic() + _LEAVING_S
            while names != [] and not now and time.monotonic() < deadline:  # what has ended just now is about to leave
                time.sleep(0.2)
                names = self.busy(cluster)
            if names is None and not now:
                raise RunnerError("It does not answer, so jobs may run in it. Say --now: then they are interrupted.")
            if names and not now:
                raise RunnerError(f"Jobs run or wait in it ({', '.join(names)}). Cancel them, or say --now: then they are interrupted.")
            if names:
                self._interrupt(cluster, names)
            self._terminate(cluster)
        return True

    def busy(self, cluster: Cluster) -> list[str] | None:
        """What Ray calls the jobs that run or wait; None where it does not answer."""
        try:
            jobs = self.api(cluster).jobs()
        except Unreachable:
            return None
        going = [job for job in jobs if api.PHASES.get(str(job.get("status"))) is not Phase.OVER]
        return [str(job.get("submission_id") or job.get("job_id")) for job in going]

    def _interrupt(self, cluster: Cluster, names: list[str]) -> None:
        """Let jobs stop by themselves, for a moment."""
        with contextlib.suppress(RunnerError):
            for name in names:
                self.api(cluster).stop(name)
            deadline = time.monotonic() + _ENDED_IN_S / 2
            while self.busy(cluster) and time.monotonic() < deadline:
                time.sleep(0.2)

    def _terminate(self, cluster: Cluster) -> None:
        process.signal_one(cluster.keeper.pid, SIGTERM)
        deadline = time.monotonic() + _ENDED_IN_S
        while cluster.keeper.is_alive():
            process.reap(cluster.keeper.pid)
            if time.monotonic() > deadline:
                process.signal_one(cluster.keeper.pid, SIGKILL)
            time.sleep(0.05)
        _clear(cluster)
        self.end(cluster)


def token_of(name: str) -> str:
    """What the processes of a cluster carry in their environment, unless they have changed it."""
    return f"ray:{name}"


def _clear(cluster: Cluster) -> None:
    """End what is left of a cluster whose keeper is dead."""
    deadline = time.monotonic() + _ENDED_IN_S
    while (left := process.of_session(cluster.head)) and time.monotonic() < deadline:
        for pid in left:
            process.signal_one(pid, SIGKILL)
        time.sleep(0.02)
    process.kill_all(token_of(cluster.id))
    if Path(cluster.temporary).name.startswith(SHORT):
        shutil.rmtree(cluster.temporary, ignore_errors=True)
