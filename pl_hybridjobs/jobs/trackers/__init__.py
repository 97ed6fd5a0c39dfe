"""Trackers: other programs that show the metrics of experiments, and the mirrors that bring a job's metrics there.

The job's folder is the truth, and a mirror only reads it: it is a process of its own, of the lowest priority, that looks at
``metrics.jsonl`` once a second and makes the tracker hold what counts. The job never waits for it and does not know of it. A mirror keeps
no record of what it has sent: when it begins, and after each failure, it looks at what the tracker holds and mends that. So it may be
killed at any moment, and the tracker may refuse, hang or vanish for hours.

This module is all of it that supervisors load; it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pl_hybridjobs.errors import InvalidCall, TrackerError, did_you_mean
from pl_hybridjobs.home import default_home
from pl_hybridjobs.jobs import launch, process
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import JobSpec, Status

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.metrics import Series

#: Each tracker; the module that it needs and the extra that brings it have its name.
TRACKERS = {
    "tensorboard": "pl_hybridjobs.jobs.trackers.tensorboard:TensorBoard",
    "mlflow": "pl_hybridjobs.jobs.trackers.mlflow:MLflow",
}
_MIRROR = launch.program("pl_hybridjobs.jobs.trackers.mirror")
_MLFLOW_SCHEMES = ("databricks", "databricks-uc", "file", "http", "https", "mssql", "mysql", "postgresql", "sqlite", "uc")
_CREDENTIAL = re.compile(r"://[^/@]*@|[?&;][^=&;]*(?:token|passw|secret|key)[^=&;]*=", re.IGNORECASE)


@dataclass(frozen=True)
class Standing:
    """Where a job is, as far as trackers show it.

    Attributes:
        status: The job's.
        attempt: The newest attempt's number.
        ended: Unix time in seconds; None where it is not over.
    """

    status: Status
    attempt: int
    ended: float | None = None


class Tracker(Protocol):
    """One job's place in a tracker. Any method may raise anything: then ``hold`` is called again later, with all that counts by then.

    ``series`` has each metric that the job has ever logged; one of which nothing counts any more is empty.
    """

    def hold(self, series: Mapping[str, Series], *, final: bool) -> None:
        """Hold exactly these values, whatever is there now.

        Args:
            series: All that counts.
            final: Nothing more will come: values that were rolled back will not be logged again.
        """
        ...

    def append(self, series: Mapping[str, Series]) -> bool:
        """Hold these values too.

        Returns:
            False if nothing was done, because it needs ``hold``.
        """
        ...

    def tell(self, standing: Standing) -> bool:
        """Show where the job is. The tracker has all values that the job has logged until then.

        Returns:
            False if the job is over and there are values that were rolled back and not logged again: it needs a last ``hold``.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@dataclass(frozen=True)
class MirrorFiles:
    """The files of the mirror of one job to one place."""

    stem: Path

    @classmethod
    def of(cls, folder: JobFolder, tracker: str, target: str) -> MirrorFiles:
        """Of a job, a tracker and where to."""
        return cls(folder.mirrors / f"{tracker}-{hashlib.sha256(target.encode()).hexdigest()[:8]}")

    @property
    def lock(self) -> Path:
        """Locked by the mirror that is at work: there is one at most."""
        return self.stem.with_suffix(".lock")

    @property
    def log(self) -> Path:
        """What the mirrors had to say, a line each."""
        return self.stem.with_suffix(".log")


def complaints(mirror: object, *, contact: bool) -> list[str]:
    """What is wrong with ``mirror=...``.

    Args:
        mirror: What the decorator got.
        contact: Also what needs a look at installed packages and the environment.
    """
    if mirror is not None and not isinstance(mirror, str | Mapping):
        return [f"mirror must be a tracker's name or a dict of names to places (None is the default one), not {mirror!r}"]
    found = []
    for name, target in _pairs(mirror):
        if name not in TRACKERS:
            found.append(f"mirror: there is no tracker {name!r}; known are {', '.join(TRACKERS)}.{did_you_mean(str(name), TRACKERS)}")
        elif target is not None and not (isinstance(target, str | os.PathLike) and os.fspath(target)):
            found.append(f"mirror[{name!r}] must be a folder or an address, as text, not {target!r}")
        elif target is not None and _CREDENTIAL.search(str(target)):
            found.append(
                f"mirror[{name!r}] has a credential in it, and would be written to the job folder; "
                "MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, from the environment"
            )
        elif name == "tensorboard" and target is not None and "://" in str(target):
            found.append(f"mirror['tensorboard'] must be a folder of this machine, not {str(target)!r}")
        elif contact:
            found += [problem] if (problem := _missing(name)) else []
            found += _mlflow_complaints(target) if name == "mlflow" else []
    return found


def _mlflow_complaints(target: Any) -> list[str]:
    uri = os.fspath(target or os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not uri:
        return ["mirror='mlflow' needs an address: set MLFLOW_TRACKING_URI, or mirror={'mlflow': 'http://...'}"]
    from importlib.metadata import entry_points  # a fifth of the time that a supervisor takes to start, and it never asks

    scheme, is_address, _ = uri.partition("://")
    known = {*_MLFLOW_SCHEMES, *(entry.name for entry in entry_points(group="mlflow.tracking_store"))}
    if not is_address or scheme.partition("+")[0] in known or scheme in known:
        return []
    return [f"mirror['mlflow'] must be a folder, or an address that MLflow knows ({', '.join(sorted(known))}), not {scheme}://..."]


def targets(mirror: str | Mapping[str, Any] | None) -> dict[str, str]:
    """``mirror=...`` as trackers' names and whole places: what ``JobSpec.mirrors`` keeps.

    TensorBoard's place is a folder, by default ``tensorboard`` in the home folder. MLflow's is a tracking URI, by default
    ``$MLFLOW_TRACKING_URI``, with the experiment's name behind ``#`` where one is chosen (there, or by ``$MLFLOW_EXPERIMENT_NAME``).
    """
    return {name: _PLACES[name](None if target is None else os.fspath(target)) for name, target in _pairs(mirror)}


def place(tracker: str, target: str | os.PathLike[str] | None) -> str:
    """One place as people write it (None: the default), checked and whole.

    Raises:
        InvalidCall: It is none, or the tracker is not installed.
    """
    if found := complaints({tracker: target}, contact=True):
        raise InvalidCall(f"mirror to {tracker}", found)
    return targets({tracker: target})[tracker]


def open_tracker(tracker: str, target: str, spec: JobSpec) -> Tracker:
    """A job's place in a tracker. Contacts nobody yet.

    Raises:
        TrackerError: The tracker is not installed.
    """
    if problem := _missing(tracker):
        raise TrackerError(problem)
    module, _, name = TRACKERS[tracker].partition(":")
    made: Tracker = getattr(importlib.import_module(module), name)(spec, target)
    return made


def begin(folder: JobFolder, mirrors: Mapping[str, str]) -> None:
    """Start a job's mirrors; one that is at work goes on. Never raises because of them.

    Args:
        folder: The job.
        mirrors: Trackers' names and where to, as in ``JobSpec.mirrors``.
    """
    for tracker, target in mirrors.items():
        argv = [sys.executable, "-P", "-c", _MIRROR, str(launch.ROOT), str(folder.path), tracker, target]
        with contextlib.suppress(OSError):
            process.spawn(argv, {**process.own_environment(), "OPENBLAS_NUM_THREADS": "1"}, session=True)


def last_words(folder: JobFolder) -> dict[str, str]:
    """The last line that each of a job's mirrors has said, by the mirror's name."""
    found = {}
    for log in sorted(folder.mirrors.glob("*.log")):
        with contextlib.suppress(OSError):
            found[log.stem] = (log.read_text("utf-8", "replace").splitlines() or ["has begun"])[-1]
    return found


def _pairs(mirror: Any) -> list[tuple[str, Any]]:
    if mirror is None:
        return []
    return [(mirror, None)] if isinstance(mirror, str) else list(mirror.items())


def _missing(tracker: str) -> str:
    """Why a tracker cannot be used here, or ""."""
    import importlib.util

    if importlib.util.find_spec(tracker) is not None:
        return ""
    return f"{tracker} is not installed: pip install 'pl-hybridjobs[{tracker}]'"


def _tensorboard_place(given: str | None) -> str:
    return str(default_home() / "tensorboard" if given is None else Path(given).expanduser().absolute())


def _mlflow_place(given: str | None) -> str:
    uri, _, experiment = (given or os.environ.get("MLFLOW_TRACKING_URI", "")).partition("#")
    experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    if uri.startswith("sqlite:///"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser().absolute()}"
    elif "://" not in uri and uri != "databricks" and not uri.startswith(("file:", "databricks:")):
        uri = Path(uri).expanduser().absolute().as_uri()
    return f"{uri}#{experiment}" if experiment else uri


_PLACES = {"tensorboard": _tensorboard_place, "mlflow": _mlflow_place}
