"""Jobs on a Ray cluster: ``runner="ray"``, or ``runner=RayRunner(address="http://head-node:8265", ...)``.

A whole job is one job of Ray's Jobs API; its entrypoint is our own supervisor (see ``node``). The job's folder must be there on the node
that runs it: the same machine, or a file system that they share.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any, ClassVar, TypeVar

from pl_hybridjobs.errors import RunnerError, says_its_fields
from pl_hybridjobs.home import home_of
from pl_hybridjobs.jobs.entry import Element, script
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.queued import QueuedRunner, Seen, Unreachable, is_positive, text_complaints
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.submissions import Submission, Submissions
from pl_hybridjobs.ray import api
from pl_hybridjobs.ray.api import Api
from pl_hybridjobs.ray.cluster import INSTALL, PREFIX, Cluster, Place

SUBMISSIONS = Submissions("ray", separator="-")
_STOPS_IN_S = 15.0  # of a supervisor, after its worker's grace
_TRIES, _PAUSE_S = 3, 2.0
_OLDEST = (2, 52)  # of Ray, that asks for a token

_T = TypeVar("_T")


@says_its_fields
@dataclass(frozen=True, kw_only=True)
class RayRunner(QueuedRunner):
    """Each job is a job of a Ray cluster; the caller may leave.

    Without an address, jobs go to a Ray of this machine that is started for them, with a token and ports of its own. It is one for each
    ``$HYBRIDJOBS_HOME``, shared by all its jobs, and ends when nothing has run for ``idle_s``, or by ``hybridjobs ray stop``.

    Of ``Resources``, ``threads`` become ``entrypoint_num_cpus`` (1 where none are given), ``memory_mb`` ``entrypoint_memory``: Ray keeps
    so much free. Our supervisor enforces both, and ``timeout_s``. ``Resources.env`` reaches the job; of the caller's environment nothing
    does: a job sees what the cluster was started with.

    Attributes:
        address: Of the dashboard, for example ``http://head-node:8265``. None: ``$RAY_API_SERVER_ADDRESS``, or ``$RAY_ADDRESS`` where that
            begins with http; else a Ray of this machine.
        token_file: The file that holds the cluster's token. None: where Ray itself looks (``$RAY_AUTH_TOKEN``, ``$RAY_AUTH_TOKEN_PATH``,
            ``~/.ray/auth_token``). There is no ``token=``: options are written to job folders.
        gpus: How many, also parts of one.
        resources: The cluster's own resources, for example ``{"fridge": 1}``.
        idle_s: Seconds without jobs after which a Ray of this machine ends; of the job that starts it.
        grace_s: See ``QueuedRunner``, as for all that follow.
        setup: Lines of shell before the worker.
        python: The interpreter on the nodes.
        environment: ``current`` or ``locked``.
        probe: Run a small job first.
    """

    address: str | None = None
    token_file: str | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    idle_s: float = 600.0
    engine: ClassVar[str] = "Ray"
    name: ClassVar[str] = "ray"
    submissions: ClassVar[Submissions] = SUBMISSIONS

    def __post_init__(self) -> None:
        if isinstance(self.address, str):
            object.__setattr__(self, "address", self.address.rstrip("/"))
        if self.token_file is not None:
            object.__setattr__(self, "token_file", os.fspath(self.token_file))
        super().__post_init__()

    # Before ------------------------------------------------------------------------------------------------------------------

    def complaints(self, spec: JobSpec) -> list[str]:
        """See ``Runner.complaints``."""
        found = text_complaints(self, ("address", "token_file"))
        if not found and self.address is not None and (problem := api.address_complaint(self.address)):
            found.append(f"RayRunner: address={_shown(self.address)} {problem}")
        if not is_positive(self.idle_s):
            found.append(f"RayRunner: idle_s must be a positive number, not {self.idle_s!r}")
        return [*super().complaints(spec), *found, *self._resource_complaints(spec)]

    def _resource_complaints(self, spec: JobSpec) -> list[str]:
        found = []
        if self.gpus is not None and not is_positive(self.gpus):
            found.append(f"RayRunner: gpus must be a positive number, not {self.gpus!r}")
        if not isinstance(self.resources, Mapping):
            return [*found, f"RayRunner: resources must be a mapping of names to numbers, not {type(self.resources).__name__}"]
        for name, amount in self.resources.items():
            if name in ("CPU", "GPU", "memory", "object_store_memory"):
                found.append(f"RayRunner: resources has {name!r}; that is Resources(threads=, memory_mb=), or RayRunner(gpus=)")
            elif not isinstance(name, str) or not name or not is_positive(amount):
                found.append(f"RayRunner: resources has {name!r}: {amount!r}; names are texts, amounts positive numbers")
        threads, cores = spec.resources.threads, os.cpu_count() or 1
        if self._wanted() is None and isinstance(threads, int) and threads > cores:
            found.append(f"resources.threads={threads}, and a Ray of this machine has {cores}; name a cluster: RayRunner(address=...)")
        return found

    def preflight(self, spec: JobSpec) -> list[str]:
        """What is wrong with the cluster, or with Ray here; and what a probe finds, where asked."""
        address = self._wanted()
        if address is None:
            found = [f"{problem}; or name a cluster: RayRunner(address=...)"] if (problem := _lacking()) else []
            if self.token_file is not None:
                found.append("RayRunner: token_file is a cluster's, and none is named; add address=, or leave token_file out")
            return found
        if problem := api.address_complaint(address):
            return [f"{_shown(address)}, which $RAY_API_SERVER_ADDRESS or $RAY_ADDRESS names, {problem}"]
        try:
            cluster = Api(address, api.token(self.token_file))
            found = self._skew(cluster)
            if self.probe and not found:
                from pl_hybridjobs.ray.probe import complaints

                return complaints(self, cluster, self._request(replace(spec, resources=type(spec.resources)())))
        except RunnerError as error:
            return [str(error)]
        return found

    def _skew(self, cluster: Api) -> list[str]:
        """Where another interpreter is named, or activated, only the node can tell: there the worker looks."""
        ray, python = cluster.version(), cluster.python()
        here = platform.python_version()
        if self.python is not None or self.setup:
            return []
        found = []
        if python and python.split(".")[:2] != here.split(".")[:2]:
            found.append(
                f"the cluster at {cluster.address} has Python {python}, and this is {here}: pickled code only loads in the same minor "
                f"version. Submit from Python {'.'.join(python.split('.')[:2])}, or name an interpreter of the nodes: RayRunner(python=)"
            )
        if _here() not in (None, ray):
            found.append(
                f"the cluster at {cluster.address} runs Ray {ray}, and here is {_here()}: a job that uses Ray itself could not join it. "
                f"pip install 'ray[default]=={ray}'"
            )
        return found

    def _wanted(self) -> str | None:
        """The address of a cluster that is there; None for a Ray of this machine."""
        if self.address is not None:
            return self.address
        jobs_api, ray = (os.environ.get(name, "").strip().rstrip("/") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
        return jobs_api or (ray if ray.startswith("http") else None)

    # Submitting ----------------------------------------------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """How many of a sweep run side by side where nothing is said: one for each core of this machine, or 16 of a cluster."""
        return 0 if self._wanted() is None else 16

    def _engine_submit(self, folder: JobFolder, spec: JobSpec, digest: str, ours: Submission, cause: str, lock: int) -> Submission:
        """See ``QueuedRunner``. A cluster that has had the job before gets it again: the address may have come from the environment."""
        del lock
        entry = script(
            [f"set -- {Element(folder.path, digest, ours.number, ours.epoch).words}"],
            SUBMISSIONS.name,
            python=self.python or sys.executable,
            cause=cause,
            grace_s=self.grace_s,
            setup=self.setup,
            module="pl_hybridjobs.ray.node",
        )
        request = {
            **self._request(spec),
            "entrypoint": self.entrypoint(entry),
            "submission_id": ours.key,
            "metadata": {"name": spec.name, "job": spec.id},
        }
        with self._cluster_for(folder) as (name, cluster):
            ours = replace(ours, cluster=name)
            SUBMISSIONS.write(folder, ours)
            self._persist(cluster, request)
            return replace(ours, job=ours.key)

    def entrypoint(self, lines: Sequence[str]) -> str:
        """The lines of a script as the command that Ray hands to a shell."""
        return f"exec bash {'-l ' if self.setup else ''}-c {shlex.quote(chr(10).join(lines))}"

    @staticmethod
    def _persist(cluster: Api, request: Mapping[str, Any]) -> None:
        """Ray keeps one job of a name, so what may have been lost is said again."""
        for left in reversed(range(_TRIES)):
            try:
                cluster.submit(request)
            except Unreachable:
                if not left:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    @contextmanager
    def _cluster_for(self, folder: JobFolder) -> Iterator[tuple[str, Api]]:
        """The cluster that the job is to go to; where it is one of this machine, it is there for as long as the block."""
        last = SUBMISSIONS.latest(folder)
        address = self.address or (last.cluster if last is not None and last.cluster else self._wanted())
        if address is not None and not address.startswith(f"{PREFIX}:"):
            yield address, Api(address, api.token(self.token_file))
            return
        if problem := _lacking():
            raise RunnerError(problem)
        place = Place.of(home_of(folder.path))
        with place.running(self.idle_s) as cluster:
            self._check_fits(place.api(cluster), folder.spec())
            yield cluster.name, place.api(cluster)

    def _check_fits(self, cluster: Api, spec: JobSpec) -> None:
        """A Ray of this machine does not grow: what it lacks, a job would wait for for ever.

        Raises:
            RunnerError: It has less than the job asks for.
        """
        asked = self._request(spec)
        wanted = {"CPU": asked["entrypoint_num_cpus"], "GPU": asked.get("entrypoint_num_gpus", 0.0)}
        wanted |= {"memory": asked.get("entrypoint_memory", 0.0), **asked.get("entrypoint_resources", {})}
        has = cluster.largest()
        lacking = [_less(name, amount, has.get(name, 0.0)) for name, amount in wanted.items() if amount > has.get(name, 0.0)]
        if lacking:
            raise RunnerError(
                f"A Ray of this machine cannot give it {', '.join(lacking)}. Ask for less, or name a cluster: RayRunner(address=...)"
            )

    def _request(self, spec: JobSpec) -> dict[str, Any]:
        """Resources as the Jobs API has them."""
        asked: dict[str, Any] = {"entrypoint_num_cpus": spec.resources.threads or 1}
        if self.gpus:
            asked["entrypoint_num_gpus"] = self.gpus
        if spec.resources.memory_mb:
            asked["entrypoint_memory"] = math.ceil(spec.resources.memory_mb * 1e6)
        if self.resources:
            asked["entrypoint_resources"] = dict(self.resources)
        return {**asked, "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(self._stops_in_s)}}}

    @property
    def _stops_in_s(self) -> int:
        """Seconds that Ray leaves a job between its SIGTERM and its SIGKILL."""
        return math.ceil(self.grace_s + _STOPS_IN_S)

    @property
    def ends_in_s(self) -> float:
        """See ``QueuedRunner``."""
        return 30.0 + self._stops_in_s

    # Asking --------------------------------------------------------------------------------------------------------------------

    def _asked(self, folder: JobFolder, last: Submission, question: Callable[[Api], _T], gone: _T) -> _T:
        """The answer of the cluster that has a submission; ``gone`` where that was one of this machine and has ended.

        Raises:
            Unreachable: It cannot be asked.
        """
        if not last.cluster:
            return gone
        if not last.cluster.startswith(f"{PREFIX}:"):
            try:
                secret = api.token(self.token_file)
            except RunnerError as error:
                raise Unreachable(str(error)) from error
            return question(Api(last.cluster, secret))
        host = last.cluster.split(":")[1]
        if host != os.uname().nodename:
            raise Unreachable(f"It is the one of {host}, which can only be asked there.")
        place = Place.of(home_of(folder.path))
        cluster = _same(place, last.cluster)
        if cluster is None:
            return gone
        try:
            return question(place.api(cluster))
        except Unreachable:
            if _same(place, last.cluster) is None:
                return gone
            raise

    def _engine_look(self, folder: JobFolder, last: Submission) -> Seen | None:
        """See ``QueuedRunner``."""
        found = self._asked(folder, last, lambda cluster: cluster.job(last.job or last.key), None)
        return api.seen(found) if found is not None else None

    def _engine_found(self, folder: JobFolder, last: Submission) -> Submission | None:
        """See ``QueuedRunner``."""
        return replace(last, job=last.key) if self._engine_look(folder, last) is not None else None

    def _engine_stop(self, folder: JobFolder, last: Submission) -> None:
        """See ``QueuedRunner``."""
        self._asked(folder, last, lambda cluster: cluster.stop(last.job), None)


def _same(place: Place, name: str) -> Cluster | None:
    """A cluster of this machine, if it is there still."""
    cluster = place.living()
    return cluster if cluster is not None and cluster.name == name else None


def _less(name: str, amount: float, has: float) -> str:
    if name == "memory":
        return f"{amount / 1e6:.0f} MB of memory (it has {has / 1e6:.0f})"
    return f"{amount:g} of {name} (it has {has:g})"


def _shown(address: str) -> str:
    return repr(address if "@" not in address else "...")


def _here() -> str | None:
    """The version of Ray that is installed here."""
    try:
        return installed_version("ray")
    except PackageNotFoundError:
        return None


def _lacking() -> str:
    """Why no Ray of this machine can be started, or ""."""
    here = _here()
    if here is None:
        return f"Ray is not installed here: {INSTALL}"
    if tuple(int(part) for part in here.split(".")[:2]) < _OLDEST:
        return f"Ray {here} is installed here, which asks nobody for a token, so everybody could use it: {INSTALL} --upgrade"
    return ""
