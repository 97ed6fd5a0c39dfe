"""TensorBoard's event files, written with TensorBoard's own parts; TensorFlow is not needed.

Each job is a run: a folder of its name in the log folder. Values that come in the order of their steps are appended. Before others (of a
job that went on from a checkpoint, for example) stands the mark of a restart: what was read with this step or a higher one is to be
forgotten (``SessionLog.START``, as in ``tensorboard/backend/event_processing/event_accumulator.py``). What counts follows.

A mirror that begins writes a new file, with such a mark at step 0 and everything, and empties the older ones. They are not deleted: a
TensorBoard that is running would not find the next file from one that is gone.

Scalars are single precision there: about seven digits.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.jobs.spec import JobSpec, Status
from pl_hybridjobs.jobs.trackers import Standing, facts

if TYPE_CHECKING:
    from pl_hybridjobs.jobs.metrics import Series

_PREFIX = "events.out.tfevents."
_LARGEST = 3.4028234663852886e38  # of single precision


class TensorBoard:
    """See ``Tracker``.

    Args:
        spec: The job.
        target: The log folder.
    """

    def __init__(self, spec: JobSpec, target: str) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._hparams, self._statuses, self._metadata = plugin_data_pb2, api_pb2, metadata
        self._record_writer = RecordWriter
        self._spec = spec
        self._folder = Path(target) / f"{spec.name}-{spec.id[-8:]}"
        self._path: Path | None = None
        self._writer: Any = None
        self._sent: dict[str, list[Series]] = {}  # what the file holds of each metric, in pieces
        self._told: Status | None = None

    def hold(self, series: Mapping[str, Series], *, final: bool) -> None:
        """See ``Tracker.hold``."""
        del final
        if self._path is None or not self._path.exists():
            self._begin(series)
            return
        first = _first_difference(self._sent, series)
        if first is not None:
            self._restart(first)
            self._write_series({name: _part(s, int(s.step.searchsorted(first))) for name, s in series.items()})
        self._sent = {name: [columns] for name, columns in series.items() if len(columns.step)}

    def _begin(self, series: Mapping[str, Series]) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        older = sorted(self._folder.glob(f"{_PREFIX}*"))
        # TensorBoard reads files in the order of their names, and never goes back.
        newest = max((int(path.name.removeprefix(_PREFIX)[:10]) for path in older), default=0)
        self._path = self._folder / f"{_PREFIX}{max(int(time.time()), newest + 1):010d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = self._record_writer(self._path.open("wb"))
        self._sent, self._told = {}, None
        self._write(self._spec.created, file_version="brain.Event:2")
        self._restart(0)
        self._write_hparams()
        self._write_series(series)
        for path in older:
            os.truncate(path, 0)

    def append(self, series: Mapping[str, Series]) -> bool:
        """See ``Tracker.append``."""
        in_order = all(not len(s.step) or s.step[0] >= self._last(name) for name, s in series.items())
        if not in_order or self._path is None or not self._path.exists():
            return False
        self._write_series(series)
        return True

    def tell(self, standing: Standing) -> bool:
        """See ``Tracker.tell``. There are words for how a job ends, and none for an interrupted one."""
        if standing.status is self._told or not standing.status.is_final:
            return True
        status = "STATUS_SUCCESS" if standing.status is Status.COMPLETED else "STATUS_FAILURE"
        ended = standing.ended or time.time()
        info = self._hparams.SessionEndInfo(status=self._statuses.Status.Value(status), end_time_secs=ended)
        self._write_plugin(self._metadata.SESSION_END_INFO_TAG, ended, session_end_info=info)
        self._writer.flush()
        self._told = standing.status
        return True

    def close(self) -> None:
        """See ``Tracker.close``."""
        if self._writer is not None:
            self._writer.close()
            self._writer = self._path = None

    def _last(self, name: str) -> int:
        """The highest step of a metric that the file holds."""
        parts = self._sent.get(name)
        return int(parts[-1].step[-1]) if parts else 0

    def _write(self, when: float, **content: Any) -> None:
        self._writer.write(self._event.Event(wall_time=when, **content).SerializeToString())

    def _restart(self, step: int) -> None:
        self._write(time.time(), step=step, session_log=self._event.SessionLog(status=self._event.SessionLog.START))

    def _write_series(self, series: Mapping[str, Series]) -> None:
        event, summary, value_of = self._event.Event, self._summary.Summary, self._summary.Summary.Value
        for name, columns in series.items():
            for value, step, when in zip(*(column.tolist() for column in columns), strict=True):
                shown = value if not math.isfinite(value) else max(-_LARGEST, min(_LARGEST, value))
                scalar = summary(value=[value_of(tag=name, simple_value=shown)])
                self._writer.write(event(wall_time=when, step=step, summary=scalar).SerializeToString())
            if len(columns.step):
                self._sent.setdefault(name, []).append(columns)
        self._writer.flush()

    def _write_hparams(self) -> None:
        """The arguments, the device and the tags, for the page HPARAMS."""
        info = self._hparams.SessionStartInfo(start_time_secs=self._spec.created, group_name=self._folder.name)
        shown = {**facts.params(self._spec), **{f"tag:{name}": text for name, text in facts.tags(self._spec).items()}}
        if self._spec.device:
            shown.setdefault("device", self._spec.device_text)
        for name, value in shown.items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, str):
                info.hparams[name].string_value = value
            else:
                info.hparams[name].number_value = value
        self._write_plugin(self._metadata.SESSION_START_INFO_TAG, self._spec.created, session_start_info=info)

    def _write_plugin(self, tag: str, when: float, **content: Any) -> None:
        data = self._hparams.HParamsPluginData(version=self._metadata.PLUGIN_DATA_VERSION, **content)
        described = self._metadata.create_summary_metadata(data)
        value = self._summary.Summary.Value(tag=tag, metadata=described, tensor=self._metadata.NULL_TENSOR)
        self._write(when, summary=self._summary.Summary(value=[value]))


def _part(series: Series, start: int) -> Series:
    return type(series)(*(column[start:] for column in series))


def _first_difference(sent: Mapping[str, Sequence[Series]], series: Mapping[str, Series]) -> int | None:
    """The lowest step at which what was sent is not what counts; None where both are the same."""
    import numpy as np

    found = []
    for name, now in series.items():
        steps, values = now.step, now.value.view(np.int64)  # as bits: NaN is the same as NaN
        old_steps, old_values = (np.concatenate([np.empty(0, kind), *columns]) for kind, columns in _columns(sent.get(name, ())))
        length = min(len(steps), len(old_steps))
        differ = (steps[:length] != old_steps[:length]) | (values[:length] != old_values.view(np.int64)[:length])
        at = int(differ.argmax()) if differ.any() else length
        found += [int(column[at]) for column in (steps, old_steps) if at < len(column)]
    return min(found, default=None)


def _columns(parts: Sequence[Series]) -> list[tuple[str, list[Any]]]:
    return [("q", [part.step for part in parts]), ("d", [part.value for part in parts])]
