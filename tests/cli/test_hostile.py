"""What jobs say of themselves cannot steer a terminal, and what lies about in the home folder cannot end a command."""

from __future__ import annotations

import io
import re
import sys

import pytest
from click.testing import CliRunner, Result

from pl_hybridjobs import Job, cli, hybrid_job, list_jobs, log_metric
from pl_hybridjobs.cli.commands import cli as commands

CLEAR, TITLE, BELL, REVERSED = "\x1b[2J", "\x1b]0;mine\x07", "\x07", "\u202e"
HOSTILE = f"{CLEAR}{TITLE}{BELL}\x9b31m{REVERSED}evil"


@pytest.fixture
def hostile() -> Job:
    @hybrid_job(runner="inline", name="hostile", tags={"tag": HOSTILE})
    def run(text):
        log_metric(HOSTILE, 1.0, step=0)
        log_metric(HOSTILE, 2.0, step=1)
        raise ValueError(HOSTILE + "z" * 300)

    return run(HOSTILE)


def hj(*args: str, **env: str) -> Result:
    return CliRunner(env=env).invoke(commands, list(args), prog_name="hybridjobs")


@pytest.mark.parametrize("command", ["list", "show", "plot", "metrics", "metrics -f", "watch --once", "result", "plot -x"])
def test_no_command_lets_a_job_steer_the_terminal(hostile, command):
    name, *options = command.split()
    arguments = (
        [name, *options] if name == "list" else [name, "hostile", *options] if options != ["-x"] else [name, "hostile", HOSTILE + "x"]
    )

    piped = hj(*arguments).output
    coloured = hj(*arguments, FORCE_COLOR="1", COLUMNS="80").output

    assert "evil" in piped
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", piped)
    assert not re.search(r" +\n", piped) or name == "result"
    assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]|\x1b(?!\[[0-9;]*m)", coloured)


def test_nor_do_a_jobs_own_words_in_python(hostile):
    with pytest.raises(ValueError, match="evil") as raised:
        hostile.result()

    for said in (str(raised.value), repr(hostile)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert raised.value.args == (HOSTILE + "z" * 300,)  # the original, for programs


def test_a_terminal_that_knows_no_unicode_gets_what_it_knows(hostile, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(sys, "argv", ["hybridjobs", "show", "hostile"])

    with pytest.raises(SystemExit) as left:
        cli.main()

    sys.stdout.flush()
    assert left.value.code == 0
    assert b"evil 2 ??" in written.getvalue()


def test_what_is_no_job_does_not_hide_the_jobs(hostile, jobs_home):
    (jobs_home / "jobs" / "notes.txt").touch()
    (jobs_home / "jobs" / "link").symlink_to("/nowhere")

    assert "hostile" in hj("list").output
    assert "notes.txt is no job folder" in hj("doctor").output


def test_a_job_that_cannot_be_read_can_be_deleted(hostile, jobs_home):
    (hostile.folder / "job.json").write_text("{")
    (jobs_home / "index.sqlite").unlink()

    assert "job.json is damaged" in hj("show", hostile.id).output
    assert f"deleted {hostile.id}" in hj("rm", "--yes", hostile.id).output
    assert not hostile.folder.exists()
    assert list_jobs() == []


@pytest.mark.parametrize("arguments", ["export hostile -f csv", "export hostile -f parquet", "plot hostile -o"])
def test_a_file_that_cannot_be_written_is_one_line(hostile, tmp_path, arguments):
    target = str(tmp_path / "no folder" / "picture.png")

    done = hj(*arguments.split(), target)

    assert done.exit_code == 7
    assert done.output == f"Error: {target}: No such file or directory\n"


def test_a_sweep_whose_jobs_went_on_as_new_ones_is_found_by_the_beginning_of_its_id():
    sweep = hybrid_job(lambda x: 1 / x, key="scan", name="scan", runner="inline").map([{"x": 0}, {"x": 1}]).resume()

    said = hj("show", sweep.id[:5]).output

    assert "of 2 jobs: 1 failed, 1 completed" in said
