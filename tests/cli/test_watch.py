"""What ``watch``, ``list`` and ``plot`` show, in a terminal and into a pipe."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from click.testing import CliRunner
from rich.console import Console

from pl_hybridjobs import Job, hybrid_job, log_metric, open_job, training_loop
from pl_hybridjobs.cli import live
from pl_hybridjobs.cli.commands import cli
from pl_hybridjobs.cost.ledger import Cost
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metric_lines import RowReader, Rows
from tests.dashboard.folders import log_metrics, make, write_log


@hybrid_job(runner="inline", name="short")
def short():
    for step in training_loop(20, {}, progress=False):
        log_metric("loss", 1 / (step + 1), step)
        print(f"log line {step}")
        if step == 9:
            time.sleep(0.05)


@hybrid_job(name="long")
def long():
    for step in training_loop(8, {}, progress=False):
        time.sleep(0.25)
        log_metric("loss", 1 / (step + 1), step)


def hj(*args: str, code: int = 0, **env: str) -> str:
    done = CliRunner(env=env).invoke(cli, list(args), prog_name="hybridjobs")
    assert done.exit_code == code, done.output
    return done.output


def test_a_list_tells_progress_metric_and_curve_where_there_is_room():
    short()

    wide, narrow = hj("list", COLUMNS="120"), hj("list", COLUMNS="80")
    assert re.search(r"short\s+completed\s+\d+s\s+20/20 100%\s+loss 0\.05\s+█\S+▁", wide)
    assert "20/20 100%" in narrow
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "DEVICE" not in wide  # there is none to tell
    assert "\x1b" not in wide


def test_what_a_hired_machine_costs_is_shown_without_any_task(monkeypatch):
    short()
    monkeypatch.setattr(Job, "cost", Cost(usd_final=Decimal("0.115"), seconds=3600.0))

    assert "0.115 USD" in hj("list", COLUMNS="120")
    assert "0.115 USD, 3600 s" in hj("watch", "short", "--once", COLUMNS="80")


def test_a_list_has_jobs_whose_files_are_damaged():
    (short().folder / "spend.sqlite").write_bytes(b"no database" * 100)
    JobFolder(short().folder).attempt(1).loops.write_bytes(b"\xff\n")

    shown = hj("list", COLUMNS="500")
    assert re.search(r"short\s+completed.*spend\.sqlite", shown)
    assert re.search(r"short-2\s+completed.*loss 0\.05", shown)


def test_watch_into_a_pipe_has_no_control_codes():
    short()

    shown = hj("watch", "short", "--once", COLUMNS="80")
    assert "\x1b" not in shown
    assert "step 20 of 20" in shown
    assert "loss 0.05" in shown
    assert "log line 19" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "short" in hj("watch", "--once")


def test_watch_follows_a_job_on_a_terminal_until_it_is_over():
    job = long()
    shown = b""
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "pl_hybridjobs.cli", "watch", job.name, "--interval", "0.2"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "40"}
    with subprocess.Popen(command, env=env, stdin=end, stdout=end, stderr=end) as watching:
        os.close(end)
        try:
            while part := os.read(terminal, 65536):
                shown += part
        except OSError:  # the other end has left
            pass
        finally:
            os.close(terminal)
    assert watching.returncode == 0
    text = shown.decode(errors="replace")
    steps = [int(step) for step in re.findall(r"step (\d) of 8", text)]
    assert len(set(steps)) > 2  # it moved
    assert steps[-1] == 8
    assert "left" in text
    assert "completed" in text


def test_a_picture_follows_a_job_and_reads_of_a_long_one_what_is_new(jobs_home, monkeypatch):
    folder = make(jobs_home, "vqe", ended=None, metrics={"energy": [math.sin(i / 1000) for i in range(20_000)]}, log=["first", "second"])
    read, readers = RowReader.read, []

    def counted(reader: RowReader) -> Rows:
        readers.append(reader)
        return read(reader)

    monkeypatch.setattr(RowReader, "read", counted)
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=False)
    picture = live._picture_of(open_job("vqe"), console)

    def shown() -> str:
        with console.capture() as kept:
            console.print(picture())
        return kept.get()

    assert "energy 0.912" in shown()
    again = shown()
    log_metrics(folder, {"energy": [7.0]}, start=20_000)
    write_log(folder, ["third"])

    assert re.search(r"energy 7\n *7┤", grown := shown())
    assert [line.strip() for line in grown.splitlines()[-3:]] == ["first", "second", "third"]  # times would take a third of the width
    assert "third" not in again
    assert len(readers) == 3
    assert len(set(readers)) == 1  # one reader, which knows how far it was


def test_plot_draws_here_or_into_a_file(tmp_path):
    short()

    assert "step 0" in hj("plot", "short", "loss", COLUMNS="80")
    picture = tmp_path / "loss.svg"
    assert str(picture) in hj("plot", "short", "loss", "--log", "-o", str(picture))
    assert picture.read_text().startswith("<?xml")
    assert "Did you mean 'loss'" in hj("plot", "short", "los", code=2)


def test_a_list_of_jobs_that_are_damaged_is_a_list():
    job = short()
    (job.folder / "job.json").write_text("{")

    assert "unknown" in hj("list")


@pytest.mark.parametrize("command", ["watch", "plot"])
def test_an_unknown_job_is_told(command):
    assert "no job" in hj(command, "nobody", code=2).lower()


def test_the_end_of_a_pipe_is_no_error():
    short()
    script = f"{sys.executable} -m pl_hybridjobs.cli watch short | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
