"""Metrics from inside a job, by Amazon Braket's function."""

from __future__ import annotations

import os
import time

from pl_hybridjobs.jobs import context, contract
from pl_hybridjobs.jobs.metrics import real_number


def log_metric(metric_name: str, value: float, timestamp: float | None = None, iteration_number: int | None = None) -> None:
    """Record a metric: in the job's own metrics, and as a line on stdout, as Amazon Braket has it.

    Mind the order: the third is the time. Outside a job the line is all.

    Args:
        metric_name: Any text that is not empty.
        value: A real number, or a 0-d array.
        timestamp: Unix time in seconds; None: now. 0 is a time.
        iteration_number: Whole number from 0; None: one more than this metric's last one.

    Raises:
        MetricError: The value is no real number, or the iteration no whole one.
    """
    number = real_number(value, metric_name)
    when = time.time() if timestamp is None else timestamp
    here = context.current_job()
    if here:
        context.log_metric(metric_name, number, iteration_number, timestamp=when)
    if not here or "AMZN_BRAKET_JOB_TOKEN" not in os.environ:  # at Amazon Braket our runner prints all metrics, under names that survive
        print(contract.metric_line(metric_name, number, when, iteration_number))
