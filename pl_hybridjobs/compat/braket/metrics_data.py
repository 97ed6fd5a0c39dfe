"""Metrics as Amazon Braket returns them: a dict of columns of equal length, with None where a row has no value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from logging import Logger, getLogger
from typing import Any

from pl_hybridjobs.jobs.contract import METRICS
from pl_hybridjobs.jobs.metrics import Record

Row = dict[str, Any]

TIMESTAMP, ITERATION_NUMBER, NODE_ID = "timestamp", "iteration_number", "node_id"
_NODE = re.compile(r"^\[([^\]]*)\]\s*")
_WORDS = re.compile(r"(\w+)\s*=\s*([^;]+)\s*;")


class MetricStatistic(Enum):
    """Which of several values of one cell counts."""

    MIN = "Min"
    MAX = "Max"


class MetricType(Enum):
    """What a row of the table stands for."""

    TIMESTAMP = "Timestamp"
    ITERATION_NUMBER = "IterationNumber"


class LogMetricsParser:
    """Reads metrics from lines of a log. Names are kept whole: ``val-loss`` and ``train/loss`` are two metrics.

    Args:
        logger: Is told of values that are no numbers.
    """

    def __init__(self, logger: Logger = getLogger(__name__)) -> None:  # noqa: B008 - as the SDK has it
        self._logger = logger
        self.all_metrics: list[Row] = []

    def parse_log_message(self, timestamp: str, message: str) -> None:
        """Take a line.

        Args:
            timestamp: When it was logged, for a line that does not say.
            message: The line; without metrics in it nothing happens.
        """
        node = _NODE.match(message or "")
        row: Row = {}
        for name, text in _pairs((message or "")[node.end() if node else 0 :]):
            try:
                row[name] = float(text)
            except ValueError:
                self._logger.warning("Unable to convert value %s to a float.", text)
        if not row:
            return
        if timestamp and TIMESTAMP not in row:
            row[TIMESTAMP] = timestamp
        if node:
            row[NODE_ID] = node.group(1)
        self.all_metrics.append(row)

    def get_parsed_metrics(self, metric_type: MetricType, statistic: MetricStatistic) -> dict[str, list[Any]]:
        """The table of all lines so far. See ``table``."""
        return table(self.all_metrics, metric_type, statistic)


def table(rows: Iterable[Mapping[str, Any]], metric_type: MetricType, statistic: MetricStatistic) -> dict[str, list[Any]]:
    """Columns of equal length. Lines without the pivot are left out; lines of the same pivot and node share a row.

    Args:
        rows: A mapping of names to numbers for each line.
        metric_type: What the rows stand for: the pivot.
        statistic: Which value counts where a row has several of one name.
    """
    pivot = ITERATION_NUMBER if metric_type.value == MetricType.ITERATION_NUMBER.value else TIMESTAMP
    better = max if statistic.value == MetricStatistic.MAX.value else min
    kept = [row for row in rows if pivot in row]
    places: dict[Any, int] = {}
    for row in kept:
        places.setdefault((row[pivot], row.get(NODE_ID)), len(places))
    columns: dict[str, list[Any]] = {name: [None] * len(places) for row in kept for name in row}
    for row in kept:
        place = places[row[pivot], row.get(NODE_ID)]
        for name, value in row.items():
            there = columns[name][place]
            columns[name][place] = value if there is None else better(there, value)
    return columns


def rows_of(records: Iterable[Record]) -> list[Row]:
    """A job's records as lines. Metrics of one step that were logged one after the other are one line, with the time of the first.

    Of a step that two attempts logged, the later attempt's counts.
    """
    listed = list(records)
    newest: dict[tuple[str, int], int] = {}
    for record in listed:
        newest[record.name, record.step] = max(record.attempt, newest.get((record.name, record.step), 0))
    rows: list[Row] = []
    for record in listed:
        if record.attempt < newest[record.name, record.step]:
            continue
        if not rows or rows[-1][ITERATION_NUMBER] != record.step or record.name in rows[-1]:
            rows.append({TIMESTAMP: record.time, ITERATION_NUMBER: float(record.step)})
        rows[-1][record.name] = record.value
    return rows


def _pairs(message: str) -> list[tuple[str, str]]:
    """Names and values in a line, as they stand."""
    _, mark, rest = message.partition(METRICS)
    if not mark:
        return [(match[1], match[2]) for match in _WORDS.finditer(message)]
    pieces = [piece.rpartition("=") for piece in rest.split(";")[:-1]]
    return [(name.strip(), value.strip()) for name, equals, value in pieces if equals and name.strip()]
