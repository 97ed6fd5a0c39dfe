"""CloudWatch Logs of jobs, kept in moto: one stream for each job, and the queries of Logs Insights, whose filters moto ignores."""

from __future__ import annotations

import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.backends import get_backend

from pl_hybridjobs.emulator.buckets import ACCOUNT
from pl_hybridjobs.emulator.clock import Clock

GROUP = "/aws/braket/jobs"
#: CloudWatch takes no longer event; a longer line becomes several.
LONGEST = 262_118
_MOST_ROWS, _DEFAULT_ROWS = 10_000, 1_000
_CLAUSE = re.compile(r"""(?:/(?:\\.|[^/\\])*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^|/"'])+""")
_FILTER = re.compile(r"""filter\s+(@\w+)\s+(like|=)\s+(?:/((?:\\.|[^/\\])*)/|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)')""", re.IGNORECASE)

Row = tuple[int, str, str]  # milliseconds, stream, message


def _logs(region: str) -> Any:
    return get_backend("logs")[ACCOUNT][region]


class Stream:
    """Takes what a job's processes write, in whatever pieces, and puts it into CloudWatch line by line; empty lines are dropped.

    Args:
        region: The job's.
        name: ``<job name>/<job's id>/algo-1``. The stream is made when the first line comes.
        clock: The service's.
        delay_s: How long lines are on their way; their times are those of their arrival here.
    """

    def __init__(self, region: str, name: str, clock: Clock, delay_s: float = 0.0) -> None:
        self._region, self._name, self._clock, self._delay_s = region, name, clock, delay_s
        self._rest = b""
        self._last = 0
        self._is_new = True
        self._late: queue.SimpleQueue[tuple[float, list[dict[str, Any]]] | None] = queue.SimpleQueue()
        if delay_s:
            threading.Thread(target=self._deliver, name="emulated-logs", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LONGEST:
            lines.append(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]
        self._put(lines)

    def close(self) -> None:
        """No more will come."""
        self._put([self._rest])
        self._rest = b""
        self._late.put(None)

    def _put(self, lines: Sequence[bytes]) -> None:
        self._last = max(self._last, int(self._clock.now().timestamp() * 1000))
        pieces = (line[i : i + LONGEST] for line in lines for i in range(0, len(line), LONGEST))
        texts = (piece.decode(errors="replace").rstrip("\r") for piece in pieces)
        events = [{"timestamp": self._last, "message": text} for text in texts if text]
        if not events:
            return
        if self._delay_s:
            self._late.put((time.monotonic() + self._delay_s, events))
        else:
            self._store(events)

    def _store(self, events: list[dict[str, Any]]) -> None:
        logs = _logs(self._region)
        logs.ensure_log_group(GROUP)
        if self._is_new:  # moto outlives an emulator, and the same seed and token give the same name
            logs.groups[GROUP].streams.pop(self._name, None)
            self._is_new = False
        logs.ensure_log_stream(GROUP, self._name)
        logs.put_log_events(GROUP, self._name, events)

    def _deliver(self) -> None:
        while (item := self._late.get()) is not None:
            due, events = item
            time.sleep(max(0.0, due - time.monotonic()))
            self._store(events)


class QueryRefused(Exception):
    """A query cannot be run.

    Args:
        code: The error's name in CloudWatch's model.
        message: What people read.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Insights:
    """Queries of Logs Insights: ``fields``, ``filter FIELD like /REGEX/`` (or ``"text"``, or ``= "text"``), ``sort`` and ``limit``."""

    def __init__(self) -> None:
        self._answers: dict[str, list[list[dict[str, str]]]] = {}

    def start_query(self, params: Mapping[str, Any], region: str) -> dict[str, Any]:
        """Run a query.

        Raises:
            QueryRefused: No such group, or a command that is not supported.
        """
        groups = _logs(region).groups
        names = [params["logGroupName"]] if "logGroupName" in params else params.get("logGroupNames", [])
        missing = [name for name in names if name not in groups]
        if missing:
            raise QueryRefused("ResourceNotFoundException", f"Log group {missing[0]!r} does not exist.")
        begin, end = params["startTime"] * 1000, params["endTime"] * 1000 + 999
        rows = [
            (event.timestamp, stream.log_stream_name, event.message)
            for name in names
            for stream in list(groups[name].streams.values())
            for event in list(stream.events)
            if begin <= event.timestamp <= end
        ]
        query = str(uuid.uuid4())
        self._answers[query] = _answer(rows, params["queryString"], min(params.get("limit", _DEFAULT_ROWS), _MOST_ROWS))
        return {"queryId": query}

    def get_query_results(self, params: Mapping[str, Any], region: str) -> dict[str, Any]:
        """The rows of a query, which is always complete.

        Raises:
            QueryRefused: There was none of this id.
        """
        del region
        rows = self._answers.get(params["queryId"])
        if rows is None:
            raise QueryRefused("ResourceNotFoundException", f"Query {params['queryId']!r} does not exist.")
        return {"status": "Complete", "results": rows, "statistics": {"recordsMatched": float(len(rows))}}


def _answer(rows: list[Row], text: str, limit: int) -> list[list[dict[str, str]]]:
    fields, newest_first = ["@timestamp", "@message"], True
    for clause in (found.strip() for found in _CLAUSE.findall(text)):
        command = clause.split(None, 1)[0].lower() if clause else ""
        if command == "fields":
            fields = [field.strip() for field in clause[len("fields") :].split(",")]
        elif command == "filter":
            kept = _test(clause)
            rows = [row for row in rows if kept(row)]
        elif command == "sort":
            newest_first = clause.lower().endswith("desc")
        elif command == "limit":
            limit = min(limit, int(clause.split()[1]))
        elif command:
            raise QueryRefused("MalformedQueryException", f"The emulator's Logs Insights does not know {clause!r}.")
    rows = sorted(rows, key=lambda row: row[0], reverse=newest_first)[:limit]
    return [[{"field": field, "value": _value(row, field)} for field in fields] for row in rows]


def _test(clause: str) -> Callable[[Row], bool]:
    match = _FILTER.fullmatch(clause)
    if match is None:
        raise QueryRefused("MalformedQueryException", f"The emulator's Logs Insights does not know {clause!r}.")
    field, operator, regex, *quoted = match.groups()
    if regex is not None:
        pattern = re.compile(regex.replace("\\/", "/"))
        return lambda row: pattern.search(_value(row, field)) is not None
    text = next(part for part in quoted if part is not None)
    return lambda row: text == _value(row, field) if operator == "=" else text in _value(row, field)


def _value(row: Row, field: str) -> str:
    if field == "@timestamp":
        return datetime.fromtimestamp(row[0] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if field in ("@logStream", "@message"):
        return row[1] if field == "@logStream" else row[2]
    raise QueryRefused("MalformedQueryException", f"The emulator's Logs Insights does not know the field {field!r}.")
