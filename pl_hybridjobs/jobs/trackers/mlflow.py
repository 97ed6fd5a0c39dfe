"""MLflow runs, by MLflow's own client: any tracking URI that it knows.

Each job is a run, found by the tag ``hybridjobs.job_id``, in the experiment that the target names behind ``#`` or that is called as the
job's function. MLflow only ever adds values. So what an attempt logged and lost again (it was killed after its last checkpoint) stays
until the resumed job logs the same steps: the same values are not sent a second time. Where it logs others, or none, the run is replaced by
a new one, and MLflow keeps the old one among its deleted runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.trackers import Standing, facts

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.metrics import Series

_TAG = "hybridjobs."
_RUN_OF = f"{_TAG}job_id"
# What MLflow takes (mlflow/utils/validation.py), and in one request.
_REFUSED = re.compile(r"[^/\w.\- :]")
_LONGEST_KEY = 250
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_MOST_BYTES = 800_000
_BYTES_OF_A_VALUE = 150  # beside its name
_STATUS = {
    Status.COMPLETED: "FINISHED",
    Status.FAILED: "FAILED",
    Status.CANCELLED: "KILLED",
    Status.INTERRUPTED: "KILLED",
    Status.CREATED: "SCHEDULED",
    Status.QUEUED: "SCHEDULED",
}


class Point(NamedTuple):
    """One value of one metric, under the name that MLflow knows it by."""

    key: str
    value: float
    step: int
    time: float


Held = dict[str, dict[int, Counter[float | str]]]  # key -> step -> the values there, as `_same` gives them


class MLflow:
    """See ``Tracker``.

    Args:
        spec: The job.
        target: The tracking URI, and the experiment's name behind ``#``.
    """

    def __init__(self, spec: JobSpec, target: str) -> None:
        from mlflow import entities
        from mlflow.tracking import MlflowClient

        self._uri, _, experiment = target.partition("#")
        self._experiment = experiment or spec.function.rpartition(".")[2]
        self._new_client, self._entities = MlflowClient, entities
        self._made: Any = None
        self._spec = spec
        self._run = ""  # the run's id; "" before it is known
        self._doubtful: Held = {}  # what MLflow holds that does not count now, and may again
        self._told: tuple[Status, int] | None = None

    @property
    def _client(self) -> Any:
        if self._made is None:  # a database is opened here
            self._made = self._new_client(tracking_uri=self._uri)
        return self._made

    def hold(self, series: Mapping[str, Series], *, final: bool) -> None:
        """See ``Tracker.hold``."""
        self._told = None
        self._find_run()
        keys = {key_of(name): name for name in series}
        held = self._held(keys)
        missing = []
        for point in _points(series):
            there = held.get(point.key, {}).get(point.step)
            if there and there[_same(point.value)]:
                there[_same(point.value)] -= 1
            else:
                missing.append(point)
        wrong = _left(held)
        counting = {key_of(name): set(columns.step.tolist()) for name, columns in series.items()}
        if wrong and (final or any(counting[key] & steps.keys() for key, steps in wrong.items())):
            self._replace_run()
            wrong, missing = {}, list(_points(series))
        self._doubtful = wrong
        self._name_keys(keys)
        self._send(missing)

    def append(self, series: Mapping[str, Series]) -> bool:
        """See ``Tracker.append``."""
        points = list(_points(series))
        if not self._doubtful:
            self._name_keys({key_of(name): name for name, columns in series.items() if len(columns.step)})
            self._send(points)
            return True
        new = [point for point in points if point.step not in self._doubtful.get(point.key, {})]
        known = [point for point in points if point.step in self._doubtful.get(point.key, {})]
        if any(not self._doubtful[point.key][point.step][_same(point.value)] for point in known):
            return False
        self._name_keys({key_of(name): name for name, columns in series.items() if len(columns.step)})
        self._send(new)
        for point in known:
            self._doubtful[point.key][point.step][_same(point.value)] -= 1
        self._doubtful = _left(self._doubtful)
        return True

    def tell(self, standing: Standing) -> bool:
        """See ``Tracker.tell``."""
        if standing.status.is_over and self._doubtful:
            return False
        now = standing.status, standing.attempt
        if now == self._told or standing.status is Status.UNKNOWN:
            return True
        status = _STATUS.get(standing.status, "RUNNING")
        self._log(tags={f"{_TAG}status": str(standing.status), f"{_TAG}attempt": str(standing.attempt)})
        if standing.status.is_over:
            self._client.set_terminated(self._run, status, int(1000 * standing.ended) if standing.ended else None)
        else:
            self._client.update_run(self._run, status=status)
        self._told = now
        return True

    def close(self) -> None:
        """See ``Tracker.close``. The client needs no goodbye."""

    def _find_run(self) -> None:
        """The job's run; made where there is none."""
        experiment = self._experiment_id()
        where = f"tags.`{_RUN_OF}` = '{self._spec.id}'"
        runs = self._client.search_runs([experiment], filter_string=where, max_results=1)
        self._run = runs[0].info.run_id if runs else self._new_run(experiment)
        known = runs[0].data.params if runs else {}
        params = {key_of(name): str(value) for name, value in facts.params(self._spec).items()}
        self._log(params={key: value for key, value in params.items() if key not in known})

    def _new_run(self, experiment: str, *, replaces: str = "") -> str:
        tags = {key_of(name): text for name, text in facts.tags(self._spec).items()}
        tags |= {f"{_TAG}{name}": text for name, text in facts.job(self._spec).items()}
        tags |= {"mlflow.source.name": self._spec.function, "mlflow.source.type": "JOB"}
        if replaces:
            tags[f"{_TAG}replaces_run"] = replaces
        made = self._client.create_run(experiment, start_time=int(1000 * self._spec.created), tags=tags, run_name=self._spec.name)
        return str(made.info.run_id)

    def _replace_run(self) -> None:
        """Instead of the run with values that do not count, an empty one. Killed in between, the next look finds the old one again."""
        old = self._run
        self._client.delete_run(old)
        self._run = self._new_run(self._experiment_id(), replaces=old)
        self._find_run()

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            from mlflow.exceptions import MlflowException

            try:
                return str(self._client.create_experiment(self._experiment))
            except MlflowException:  # another job's mirror was faster
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _held(self, keys: Iterable[str]) -> Held:
        """All values of these metrics that MLflow has."""
        there = self._client.get_run(self._run).data.metrics
        held: Held = {}
        for key in keys:
            if key in there:
                steps = held[key] = {}
                for metric in self._client.get_metric_history(self._run, key):
                    steps.setdefault(int(metric.step), Counter())[_same(metric.value)] += 1
        return held

    def _name_keys(self, keys: Mapping[str, str]) -> None:
        """Tags that say which metric is behind a name that had to be changed."""
        self._log(tags={f"{_TAG}metric.{_short(key, 200)}": name for key, name in keys.items() if key != name})

    def _send(self, points: Iterable[Point]) -> None:
        for batch in _batches(sorted(points, key=lambda point: point.time)):
            metric = self._entities.Metric
            sent = [metric(point.key, point.value, max(0, round(1000 * point.time)), point.step) for point in batch]
            self._client.log_batch(self._run, metrics=sent, synchronous=True)

    def _log(self, *, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None) -> None:
        texts = [self._entities.Param(*pair) for pair in (params or {}).items()]
        labels = [self._entities.RunTag(*pair) for pair in (tags or {}).items()]
        for start in range(0, max(len(texts), len(labels)), _MOST_PARAMS):
            part = slice(start, start + _MOST_PARAMS)
            self._client.log_batch(self._run, params=texts[part], tags=labels[part], synchronous=True)


def key_of(name: str) -> str:
    """A name as MLflow takes it: characters that it refuses become ``_``, and a digest of the whole is added to one that was changed."""
    plain = posixpath.normpath(_REFUSED.sub("_", name)).lstrip("/.") or "_"
    return plain if plain == name and len(name) <= _LONGEST_KEY else f"{_short(plain, 200)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _short(text: str, length: int) -> str:
    return text[:length].rstrip("/.")


def _points(series: Mapping[str, Series]) -> Iterator[Point]:
    for name, columns in series.items():
        key = key_of(name)
        for value, step, when in zip(*(column.tolist() for column in columns), strict=True):
            yield Point(key, value, step, when)


def _batches(points: list[Point]) -> Iterator[list[Point]]:
    """As many as one request takes."""
    batch: list[Point] = []
    size = 0
    sizes: dict[str, int] = {}
    for point in points:
        cost = sizes.setdefault(point.key, len(json.dumps(point.key)) + _BYTES_OF_A_VALUE)
        if len(batch) == _MOST_METRICS or size + cost > _MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += cost
    if batch:
        yield batch


def _same(value: float) -> float | str:
    """A value as it compares after MLflow's database had it: there infinities are the largest numbers."""
    if math.isnan(value):
        return "nan"
    return max(-sys.float_info.max, min(sys.float_info.max, value))


def _left(held: Held) -> Held:
    """What is there at least once."""
    kept = {key: {step: +values for step, values in steps.items() if +values} for key, steps in held.items()}
    return {key: steps for key, steps in kept.items() if steps}
