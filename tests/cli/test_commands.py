"""The command line, as a person or a script types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from pl_hybridjobs import hybrid_job, log_metric, open_job
from pl_hybridjobs.cli.commands import cli
from tests.jobs import functions

ROOT = Path(__file__).parents[2]

SCRIPT = '''
from __future__ import annotations
import time
from typing import Optional
from pl_hybridjobs import Resources, current_job, hybrid_job, log_metric, save_result

def add(a: int, b: Optional[int] = None, flag: bool = True, many: list[int] = []):
    """Adds."""
    print("adding", a, b, flag, many)
    log_metric("sum", a)
    return {"sum": a + (b or 0) + sum(many), "flag": flag}

@hybrid_job(name="decorated", tags={"from": "decorator"})
def decorated(x: float):
    return x

def fail():
    raise ValueError("no good")

def wait(seconds: float = 60):
    time.sleep(seconds)

def die():
    import os
    os._exit(9)

if __name__ == "__main__":
    import sys
    save_result({"argv": sys.argv[1:], "params": current_job().params})
'''


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "my script.py"
    path.write_text(SCRIPT)
    return path


def hj(*args: object, code: int = 0, stdin: str | None = None, columns: str | None = "80") -> str:
    """Run a command, check its exit code, give what it printed."""
    done = CliRunner(env={"COLUMNS": columns}).invoke(cli, [*map(str, args)], input=stdin, prog_name="hybridjobs")
    assert done.exit_code == code, f"exit code {done.exit_code}\n{done.output}"
    return done.output


def test_a_function_runs_with_arguments_of_its_types(script):
    printed = hj("run", f"{script}:add", "--arg", "a=40", "--arg", "b=2", "--arg", "flag=no", "--arg", "many=[1, 2]")

    assert "adding 40 2 False [1, 2]" in printed
    assert "add: completed" in printed
    assert json.loads(hj("result", "add", "--json")) == {"sum": 45, "flag": False}
    assert open_job("add").params == {"a": 40, "b": 2, "flag": False, "many": [1, 2]}


def test_a_decorated_function_keeps_its_options_and_the_command_line_comes_first(script):
    hj("run", f"{script}:decorated", "--arg", "x=0.5")
    hj("run", f"{script}:decorated", "--arg", "x=1", "--name", "mine")

    assert open_job("decorated").tags == open_job("mine").tags == {"from": "decorator"}
    assert open_job("mine").result() == 1.0


def test_a_script_runs_as_main_and_finds_its_arguments(script):
    hj("run", script, "--arg", "steps=5")

    assert open_job("my script").result() == {"argv": ["--steps", "5"], "params": {"steps": "5"}}


def test_a_package_runs_by_its_main_or_by_a_function(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("NUMBER = 7\n")
    (package / "train.py").write_text("from .helper import NUMBER\n\ndef main(k: int):\n    return NUMBER * k\n")
    (package / "__main__.py").write_text("from pack.helper import NUMBER\nfrom pl_hybridjobs import save_result\nsave_result(NUMBER)\n")

    hj("run", package)
    hj("run", f"{package}:train:main", "--arg", "k=6")

    assert open_job("pack").result() == 7
    assert open_job("main").result() == 42


def test_the_exit_code_tells_the_fate(script):
    assert "ValueError: no good" in hj("run", f"{script}:fail", code=1)
    assert "hybridjobs resume die" in hj("run", f"{script}:die", code=4)
    hj("run", f"{script}:wait", "--detach")
    assert "wait is cancelled" in hj("cancel", "wait", "--grace", "1")
    hj("logs", "-f", "wait", code=3)
    hj("result", "wait", code=3)
    hj("logs", "-f", "die", code=4)


def test_ctrl_c_leaves_the_job_running(script):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pl_hybridjobs.cli", "run", f"{script}:wait"]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while "running" not in hj("list"):
        assert time.monotonic() < deadline
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)

    assert child.returncode == 130
    assert "hybridjobs logs -f wait" in errors
    job = open_job("wait")
    assert job.status == "running"
    job.cancel(grace_s=0.1)


def test_list_and_show_are_for_people_and_for_programs(script):
    hj("run", f"{script}:add", "--arg", "a=1", "--tag", "kind=test")

    table = hj("list")
    assert "add" in table
    assert "completed" in table
    assert "\x1b" not in table
    assert max(map(len, table.splitlines())) <= 80
    (row,) = json.loads(hj("list", "--json", "--tag", "kind=test", "--status", "completed", "--since", "1h"))
    assert (row["name"], row["status"]) == ("add", "completed")
    assert json.loads(hj("list", "--json", "--tag", "kind=other")) == []
    details = json.loads(hj("show", "add", "--json"))
    assert details["metrics"] == {"sum": 1.0}
    assert "a=1" in hj("show", "add")


def test_a_sweep_is_listed_shown_cancelled_and_resumed_by_its_id():
    sweep = hybrid_job(functions.fail_if_odd, name="odd", runner="inline").map([{"number": n} for n in range(3)])
    hybrid_job(functions.add, name="alone", runner="inline")(1)

    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == code, done.output
        return done.output

    assert [job["name"] for job in json.loads(said("list", "--sweep", "odd-2", "--json"))] == ["odd-3", "odd-2", "odd"]
    assert "of 3 jobs: 2 completed, 1 failed" in said("show", sweep.id)
    assert [row["params.number"] for row in json.loads(said("show", sweep.id, "--json"))] == [0, 1, 2]
    assert sweep.id in said("show", "odd-2")
    assert "odd-4  failed" in said("resume", sweep.id, code=1)
    assert "2 completed, 1 failed" in said("cancel", sweep.id)
    assert "no sweep 'alone-2'" in said("list", "--sweep", "alone-2", code=2)


def test_the_beginning_of_a_sweeps_id_is_enough_where_only_its_own_jobs_begin_so_too():
    hybrid_job(functions.add, key="a sweep", runner="inline").map([{"a": 1}, {"a": 2}])

    assert "of 2 jobs" in CliRunner().invoke(cli, ["show", "key-"]).output

    hybrid_job(functions.add, key="a job", runner="inline")(3)
    assert "matches 3 jobs" in CliRunner().invoke(cli, ["cancel", "key-"]).output


def test_a_sweep_is_drawn_into_a_file(tmp_path):
    sweep = hybrid_job(lambda x: log_metric("cost", x, step=0), name="each", runner="inline").map([{"x": 1}, {"x": 2}])
    picture = tmp_path / "cost.svg"

    assert CliRunner().invoke(cli, ["plot", sweep.id, "cost", "-o", str(picture)]).exit_code == 0
    assert picture.read_text().startswith("<?xml")
    assert "give one metric and a file" in CliRunner().invoke(cli, ["plot", sweep.id, "cost"]).output
    assert "Did you mean 'cost'" in CliRunner().invoke(cli, ["plot", sweep.id, "cots", "-o", str(picture)]).output


def test_metrics_come_as_table_csv_and_json(script):
    hj("run", f"{script}:add", "--arg", "a=3")

    assert "sum" in hj("metrics", "add")
    assert hj("metrics", "add", "--csv").splitlines()[0] == "name,step,value,time"
    assert json.loads(hj("metrics", "add", "sum", "--json"))[0]["value"] == 3.0
    assert "Did you mean 'sum'" in hj("metrics", "add", "sun", code=2)
    assert "sum  step 0  3" in hj("metrics", "-f", "add")


def test_metrics_are_exported_into_files_and_to_trackers(tmp_path):
    def say(*args, code=0):
        done = CliRunner().invoke(cli, [str(arg) for arg in args])
        assert done.exit_code == code, done.output
        return done.output

    hybrid_job(lambda: log_metric("sum", 3.0), name="add").inline()

    say("export", "add", "--format", "csv", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == open_job("add").metrics().to_csv()
    assert "Give the file to write" in say("export", "add", "--format", "parquet", code=2)
    say("export", "add", "--format", "tensorboard", tmp_path / "runs")
    assert len(list((tmp_path / "runs").glob("add-*/events.out.tfevents.*"))) == 1
    assert "everything is there; the job is completed" in say("mirror", "add", "-f", "tensorboard", tmp_path / "more")
    assert "without mirror=" in say("mirror", "add", code=2)


def test_resume_and_rm(script):
    hj("run", f"{script}:die", code=4)
    hj("resume", "die", code=4)
    assert open_job("die").attempt == 2

    assert "Aborted" in hj("rm", "die", code=1, stdin="n\n")
    assert "deleted die" in hj("rm", "die", "--yes")
    assert "No jobs" in hj("list")


def test_plan_submits_nothing(script):
    assert "call.pkl" in hj("plan", f"{script}:add", "--arg", "a=1")
    assert json.loads(hj("plan", f"{script}:add", "--arg", "a=1", "--json"))["digest"]
    assert json.loads(hj("list", "--json")) == []


def test_doctor_tells_what_is_there(script):
    hj("run", f"{script}:add", "--arg", "a=1")
    printed = hj("doctor")

    assert "runner local" in printed
    assert "default.qubit" in printed
    job = open_job("add")
    (job.folder / "job.json").write_text("{}")
    assert "broken" in hj("doctor", code=1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["lst"], "Did you mean 'list'"),
        (["run", "{script}:ad", "--arg", "a=1"], "Did you mean 'add'"),
        (["run", "{script}:add", "--arg", "aa=1"], "there is no argument 'aa'"),
        (["run", "{script}:add"], "argument 'a' is missing"),
        (["run", "{script}:add", "--arg", "a=x"], "'x' is no whole number"),
        (["run", "{script}:add", "--arg", "a=1", "--arg", "flag=maybe"], "is not true or false"),
        (["run", "{script}:add", "--arg", "a=1", "--device", "lightning.qbit"], "lightning.qubit"),
        (["run", "{script}:add", "--arg", "a=1", "--runner", "locall"], "Did you mean 'local'"),
        (["run", "{script}:add", "--arg", "a=1", "--timeout", "-1"], "resources.timeout_s must be a positive number"),
        (["run", "{script}:add", "--arg", "a"], "must look like NAME=VALUE"),
        (["run", "{script}:", "--arg", "a=1"], "ends in a colon"),
        (["run", "no_such.py"], "there is no file"),
        (["show", "nothing"], "There is no job 'nothing'"),
        (["list", "--status", "done"], "there is no status 'done'"),
        (["list", "--since", "soon"], "must be a number and a unit"),
    ],
    ids=str,
)
def test_bad_input_is_told_and_nothing_is_written(args, said, script, jobs_home):
    printed = hj(*(arg.replace("{script}", str(script)) for arg in args), code=2)

    assert said in printed.replace("\n", " ")
    assert not (jobs_home / "jobs").exists() or not list((jobs_home / "jobs").iterdir())


def test_every_command_explains_itself_with_an_example():
    assert "hybridjobs run train.py:vqe" in hj("--help")
    for command in cli.commands:
        told = CliRunner().invoke(cli, [command, "--help"], prog_name="hybridjobs").output
        assert told.count(f"hybridjobs {command}") > 1 or command == "doctor", told


def test_names_are_never_cut_for_the_sake_of_a_long_detail():
    name = "a rather long name of a job"
    hybrid_job(functions.fail, name=name)("x" * 150).wait(60)

    for columns in ("80", "40"):
        said = hj("list", columns=columns)
        assert name in said
        assert "failed" in said
        assert "xxx…" in said
    assert "x" * 150 in hj("list", columns=None)  # piped: nothing is cut
