"""Metrics: the line, its parser, and the table of a job."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from braket.jobs.metrics import log_metric as sdk_log_metric
from braket.jobs.metrics_data.definitions import MetricStatistic as SdkStatistic
from braket.jobs.metrics_data.definitions import MetricType as SdkType
from braket.jobs.metrics_data.log_metrics_parser import LogMetricsParser as SdkParser
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs import hybrid_job, log_metric, open_job
from pl_hybridjobs.compat import braket as ours
from pl_hybridjobs.compat.braket import LogMetricsParser, MetricStatistic, MetricType
from pl_hybridjobs.compat.braket.metrics_data import rows_of, table
from pl_hybridjobs.errors import MetricError
from pl_hybridjobs.jobs.contract import metric_line
from pl_hybridjobs.jobs.metrics import MetricWriter, Record, read_records

NAME = st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True).filter(lambda name: name not in ("timestamp", "iteration_number", "node_id"))
NUMBER = st.floats(allow_nan=False)
LINE = st.builds(metric_line, NAME, NUMBER, st.sampled_from([0.0, 1.5, 2.0]), st.none() | st.integers(0, 3))
TAGGED = st.builds(lambda node, line: f"[{node}]{line}", st.sampled_from(["a", "b"]), LINE)
WORDS = st.sampled_from(["", "hello", "loss=1.5; nothing", "a=x; b=2;", "Metrics - a=1;b=2;", "=;"])


@given(
    lines=st.lists(LINE | TAGGED | WORDS, max_size=8), kind=st.sampled_from(list(MetricType)), which=st.sampled_from(list(MetricStatistic))
)
def test_our_parser_and_the_sdks_make_the_same_table(lines, kind, which):
    silent = logging.getLogger("silent")
    silent.disabled = True
    mine, theirs = LogMetricsParser(silent), SdkParser(silent)
    for line in lines:
        mine.parse_log_message("7.0", line)
        theirs.parse_log_message("7.0", line)

    # A moment that a line does not name is text in the SDK, and no number can be compared with it.
    expected = theirs.get_parsed_metrics(SdkType(kind.value), SdkStatistic(which.value))
    assert mine.get_parsed_metrics(kind, which) == expected
    assert mine.get_parsed_metrics(SdkType(kind.value), SdkStatistic(which.value)) == expected


@given(name=st.text(min_size=1).filter(lambda name: not set(name) & set(";=\n\r") and name.strip() == name), value=NUMBER)
def test_our_parser_keeps_any_name(name, value):
    parser = LogMetricsParser()
    parser.parse_log_message("", metric_line(name, value, 3.0, 2))

    expected = {"timestamp": 3.0, name: value, "iteration_number": 2.0}
    assert parser.all_metrics == [expected] or name in ("timestamp", "iteration_number")


def test_names_that_the_sdk_cuts_are_two_metrics_here():
    parser = LogMetricsParser()
    for name in ("train/loss", "val-loss"):
        parser.parse_log_message("", metric_line(name, 0.5, 1.0, 0))

    assert parser.get_parsed_metrics(MetricType.ITERATION_NUMBER, MetricStatistic.MAX) == {
        "timestamp": [1.0],
        "train/loss": [0.5],
        "iteration_number": [0.0],
        "val-loss": [0.5],
    }


@pytest.mark.parametrize("given_", [("loss", 0.25, 12.5, 3), ("loss", 1, 12.5, None), ("loss", np.float64(2), 1e9)])
def test_the_line_is_the_sdks(capsys, given_):
    sdk_log_metric(*given_)
    theirs = capsys.readouterr().out
    ours.log_metric(*given_)

    assert _parsed(capsys.readouterr().out) == _parsed(theirs)


def _parsed(line):
    parser = SdkParser()
    parser.parse_log_message("", line)
    return parser.all_metrics


def test_zero_is_a_time(capsys):
    ours.log_metric("loss", 0.5, timestamp=0)

    assert capsys.readouterr().out == "Metrics - timestamp=0; loss=0.5;\n"


def test_the_third_argument_is_the_time(capsys):
    ours.log_metric("loss", 0.5, 3)

    assert "timestamp=3; loss" in capsys.readouterr().out


@pytest.mark.parametrize("value", [np.ones(2), None, "high", 1j])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(MetricError):
        ours.log_metric("loss", value)


def test_in_a_job_a_metric_is_recorded_and_printed():
    def work():
        ours.log_metric("loss", 0.5, timestamp=0, iteration_number=4)
        ours.log_metric("loss", 0.25)

    hybrid_job(work).inline()
    job = open_job("work")

    assert job.metrics().rows()[0] == {"name": "loss", "step": 4, "value": 0.5, "time": 0.0}
    assert job.metrics().steps("loss").tolist() == [4, 5]
    assert "Metrics - timestamp=0; loss=0.5; iteration_number=4;" in job.logs()


def test_at_braket_our_runner_prints_instead(monkeypatch, capsys):
    monkeypatch.setenv("AMZN_BRAKET_JOB_TOKEN", "t")

    hybrid_job(lambda: ours.log_metric("loss", 0.5), name="work").inline()

    assert "Metrics" not in capsys.readouterr().out


def _records(*rows):
    return [Record(seq, attempt, name, value, step, time) for seq, (attempt, name, value, step, time) in enumerate(rows)]


def test_metrics_of_one_step_share_a_row():
    records = _records((1, "loss", 0.5, 0, 10.0), (1, "grad", 2.0, 0, 10.1), (1, "loss", 0.4, 1, 11.0), (1, "grad", 1.0, 1, 11.1))

    assert table(rows_of(records), MetricType.TIMESTAMP, MetricStatistic.MAX) == {
        "timestamp": [10.0, 11.0],
        "iteration_number": [0.0, 1.0],
        "loss": [0.5, 0.4],
        "grad": [2.0, 1.0],
    }


def test_a_metric_that_is_logged_now_and_then_has_rows_of_its_own():
    records = _records((1, "loss", 0.5, 0, 10.0), (1, "loss", 0.4, 1, 11.0), (1, "test", 0.9, 0, 11.5))

    made = table(rows_of(records), MetricType.TIMESTAMP, MetricStatistic.MAX)
    assert made["test"] == [None, None, 0.9]
    assert made["timestamp"] == [10.0, 11.0, 11.5]


def test_of_a_cell_that_one_attempt_logged_twice_the_statistic_decides():
    records = _records((1, "loss", 0.5, 0, 10.0), (1, "loss", 0.7, 0, 11.0), (1, "loss", 0.6, 0, 12.0))

    assert table(rows_of(records), MetricType.ITERATION_NUMBER, MetricStatistic.MIN)["loss"] == [0.5]
    assert table(rows_of(records), MetricType.ITERATION_NUMBER, MetricStatistic.MAX)["loss"] == [0.7]


def test_of_a_cell_that_two_attempts_logged_the_later_counts():
    records = _records((1, "loss", 0.9, 0, 10.0), (1, "loss", 0.8, 1, 11.0), (2, "loss", 0.3, 1, 20.0), (2, "loss", 0.2, 2, 21.0))

    assert table(rows_of(records), MetricType.ITERATION_NUMBER, MetricStatistic.MAX)["loss"] == [0.9, 0.3, 0.2]


def test_records_are_what_counts_in_the_order_of_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricWriter(path, attempt=1)
    first.log("loss", 0.9, 0)
    cursor = first.cursor()
    first.log("loss", 0.8, 1)
    second = MetricWriter(path, attempt=2)
    second.rewind(cursor)
    second.log("loss", 0.7, 1)
    second.log("loss", 0.6, 1)

    assert [(r.attempt, r.step, r.value) for r in read_records(path)] == [(1, 0, 0.9), (2, 1, 0.7), (2, 1, 0.6)]
    assert read_records(tmp_path / "none") == []


def test_what_our_own_function_logs_is_in_the_table_too():
    def work():
        for n in (1, 2):
            log_metric("loss", 1.0 / n)

    hybrid_job(work).inline()

    handle = ours.AwsQuantumJob("local:job/work")
    assert handle.metrics(MetricType.ITERATION_NUMBER)["loss"] == [1.0, 0.5]
