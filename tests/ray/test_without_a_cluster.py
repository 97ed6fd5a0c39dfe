"""What can be told of RayRunner without Ray: bad input, what is asked for, and what its answers mean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from pl_hybridjobs import Job, Resources, Status, hybrid_job, open_job
from pl_hybridjobs.errors import InvalidCall, JobFailed, RunnerError
from pl_hybridjobs.jobs import process, queued
from pl_hybridjobs.jobs.durable import dump_sealed, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.ray import api, cluster, runner
from pl_hybridjobs.ray.cluster import Cluster, Place
from pl_hybridjobs.ray.runner import SUBMISSIONS, RayRunner
from tests import queues
from tests.jobs import functions
from tests.ray import recorded
from tests.ray.recorded import Recorded

WAIT_S = 30
until = partial(queues.until, timeout_s=WAIT_S)
SECRET = "a-secret-that-is-nobody-else's"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's own token, or version of Ray."""
    monkeypatch.setattr(api, "_TOKEN_FILE", tmp_path / "no token")
    monkeypatch.setattr(runner, "installed_version", lambda name: "2.60.0")


@pytest.fixture
def server() -> Iterator[Recorded]:
    with recorded.recorded() as made:
        yield made


def submit(server: Recorded, fn: Callable[..., Any] = functions.add, *args: Any, retries: int = 0, **options: Any) -> Job:
    resources = options.pop("resources", None)
    ours = RayRunner(address=server.address, **options)
    return hybrid_job(fn, runner=ours, retries=retries, resources=resources)(*(args or (1,)))


# Bad input


def test_wrong_options_are_told_together():
    ours = RayRunner(address="", gpus=0, resources={"CPU": 2, "fridge": -1}, grace_s=-1, setup=["a\nb"], environment="own", python="")
    with pytest.raises(InvalidCall) as caught:
        hybrid_job(functions.add, runner=ours)(1)

    assert len(caught.value.complaints) == 8


def test_an_option_that_there_is_not_is_named_with_near_ones():
    with pytest.raises(InvalidCall, match=r"no option 'token'.*Did you mean 'token_file'"):
        RayRunner(token="secret")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "address",
    [
        "ray://head:10001",
        "auto",
        "head:8265",
        "http://",
        "http://head:port",
        "http://head:0",
        "http://head:8265?x=1",
        "http://[::1:8265",
        "http://head..node:8265",
    ],
)
def test_an_address_that_is_none_of_the_jobs_api_is_refused_with_one_that_is(address):
    with pytest.raises(InvalidCall, match=r"none of Ray's Jobs API.*'http://head-node:8265'"):
        hybrid_job(functions.add, runner=RayRunner(address=address))(1)


def test_credentials_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(InvalidCall, match=r"has credentials in it.*token_file") as caught:
        hybrid_job(functions.add, runner=RayRunner(address=f"http://me:{SECRET}@head:8265"))(1)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ["head:8265", f"http://me:{SECRET}@head:8265"])
def test_an_address_in_the_environment_that_is_none_is_refused_rather_than_passed_over(monkeypatch, address):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    with pytest.raises(InvalidCall, match=r"which \$RAY_API_SERVER_ADDRESS or \$RAY_ADDRESS names, (is none|has credentials)") as caught:
        hybrid_job(functions.add, runner="ray")(1)

    assert SECRET not in str(caught.value)


def test_where_ray_is_not_installed_the_extra_is_named(monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runner, "installed_version", missing)
    with pytest.raises(InvalidCall, match=r"Ray is not installed here: pip install 'pl-hybridjobs\[ray\]'.*address="):
        hybrid_job(functions.add, runner="ray")(1)


def test_a_ray_that_asks_for_no_token_is_not_started(monkeypatch):
    monkeypatch.setattr(runner, "installed_version", lambda name: "2.51.1")

    with pytest.raises(InvalidCall, match=r"Ray 2\.51\.1 is installed here, which asks nobody for a token.*--upgrade.*address="):
        hybrid_job(functions.add, runner="ray")(1)


def test_more_cores_than_this_machine_has_are_refused_where_it_is_the_cluster():
    with pytest.raises(InvalidCall, match=r"resources.threads=5000, and a Ray of this machine has"):
        hybrid_job(functions.add, runner="ray", resources=Resources(threads=5000))(1)


def test_a_cluster_that_wants_a_token_says_where_one_is_looked_for(server, tmp_path):
    server.token = SECRET
    with pytest.raises(InvalidCall, match=r"wants a token, and none is known here. Set RAY_AUTH_TOKEN .*token_file=.*get-auth-token"):
        submit(server)
    tmp_path.joinpath("old").write_text("another")
    with pytest.raises(InvalidCall, match=r"refuses the token from .*old: it is another cluster's, or an old one"):
        submit(server, token_file=tmp_path / "old")
    with pytest.raises(InvalidCall, match=r"There is no file .*gone, which is to hold Ray's token"):
        submit(server, token_file=tmp_path / "gone")


@pytest.mark.parametrize("text", ["one line\nanother", "caf\u00e9", "two words"])
def test_a_file_that_holds_no_token_is_refused_and_not_repeated(server, tmp_path, text):
    tmp_path.joinpath("poem").write_text(text, encoding="utf-8")

    with pytest.raises(InvalidCall, match=r"What .*poem holds is no token of Ray's") as caught:
        submit(server, token_file=tmp_path / "poem")
    assert text not in str(caught.value)


def test_a_token_file_without_a_cluster_is_refused(tmp_path):
    with pytest.raises(InvalidCall, match=r"token_file is a cluster's, and none is named; add address="):
        hybrid_job(functions.add, runner=RayRunner(token_file=str(tmp_path / "token")))(1)


def test_a_token_is_found_where_ray_finds_it_and_written_nowhere(server, monkeypatch):
    server.token = SECRET
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    job = submit(server)

    assert job.status is Status.QUEUED
    assert not [path for path in job.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in json.dumps(server.submitted)


@pytest.mark.parametrize(
    ("version", "python", "words"),
    [
        (
            "2.60.0",
            "3.9.1",
            r"has Python 3.9.1, and this is 3.*Submit from Python 3.9, or name an interpreter of the nodes: RayRunner\(python=\)",
        ),
        ("2.48.0", "", r"runs Ray 2.48.0, and here is 2.60.0.*pip install 'ray\[default\]==2.48.0'"),
    ],
)
def test_another_version_of_ray_or_python_is_refused_with_the_fix(server, version, python, words):
    server.version["ray_version"], server.metadata["data"] = version, {"pythonVersion": python}

    with pytest.raises(InvalidCall, match=words):
        submit(server)
    assert submit(server, python="/env/of/the/nodes/bin/python").status is Status.QUEUED


def test_an_address_where_something_else_answers_is_told(server):
    server.version = {}
    with pytest.raises(InvalidCall, match=r"answers 200, '.*', which is no answer of Ray's Jobs API"):
        submit(server)


def test_an_address_where_nobody_answers_is_told_before_anything_is_written(jobs_home):
    with recorded.recorded() as gone:
        pass
    with pytest.raises(InvalidCall, match=r"does not answer .*refused"):
        submit(gone)

    assert not list(jobs_home.glob("jobs/*"))


# What is asked for, and what the answers mean


def test_resources_become_rays(server):
    resources = Resources(threads=3, memory_mb=300)
    ours = RayRunner(address=server.address, gpus=0.5, resources={"fridge": 1}, grace_s=30)
    job = hybrid_job(functions.add, runner=ours, resources=resources)(1)
    plain = submit(server)

    asked, least = server.submitted
    assert asked["submission_id"] == f"hybridjobs-{job.id}-1"
    assert job.place == f"Ray job hybridjobs-{job.id}-1"
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_memory"], asked["entrypoint_num_gpus"]) == (3, 300_000_000, 0.5)
    assert asked["entrypoint_resources"] == {"fridge": 1}
    assert asked["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "45"}
    assert least["entrypoint_num_cpus"] == 1
    assert "entrypoint_memory" not in least
    assert plain.spec.bundle_digest in least["entrypoint"]


@pytest.mark.parametrize(
    ("told", "status", "words"),
    [
        ({}, Status.QUEUED, "is PENDING"),
        (recorded.RUNS, Status.QUEUED, "is RUNNING on 10.0.0.7; the worker starts"),
        ({"status": "STOPPED"}, Status.INTERRUPTED, "is STOPPED"),
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, Status.INTERRUPTED, "is SUCCEEDED"),
        (
            {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "Job supervisor actor died: The node died."},
            Status.INTERRUPTED,
            "JOB_SUPERVISOR_ACTOR_DIED: Job supervisor actor died: The node died.",
        ),
        ({"status": "SOMETHING NEW"}, Status.UNKNOWN, "which we do not know"),
    ],
)
def test_what_ray_says_of_a_job_that_has_not_begun(server, told, status, words):
    job = submit(server)
    server.say(**told)

    assert job.status is status
    assert words in job.state().detail


def test_a_cluster_that_cannot_be_asked_makes_a_job_unknown_and_one_that_forgot_it_lost(server):
    job = submit(server, retries=1)
    server.token = SECRET
    assert job.state().status is Status.UNKNOWN
    assert "wants a token" in job.state().detail
    server.token = ""
    assert job.state().status is Status.QUEUED

    server.jobs.clear()  # its head was started again

    assert job.state().status is Status.QUEUED
    assert [body["submission_id"] for body in server.submitted] == [f"hybridjobs-{job.id}-{n}" for n in (1, 2)]
    server.jobs.clear()
    assert job.state().status is Status.INTERRUPTED
    assert "does not know its job" in job.state().detail


def test_a_dead_head_is_unknown_for_as_long_as_it_takes():
    with recorded.recorded() as server:
        job = submit(server, retries=5)

    assert job.status is Status.UNKNOWN
    assert "Ray cannot be asked: http://127.0.0.1" in job.state().detail
    assert open_job(job.id).status is Status.UNKNOWN


def test_a_job_of_another_machines_ray_is_unknown_here(server):
    job = submit(server)
    folder = JobFolder(job.folder)
    last = SUBMISSIONS.latest(folder)
    assert last is not None
    write_bytes(SUBMISSIONS.place(folder) / "1.json", dump_sealed({**vars(last), "cluster": "local:another-host:1"}))

    assert job.status is Status.UNKNOWN
    assert "the one of another-host, which can only be asked there" in job.state().detail


def test_a_submission_whose_answer_is_lost_is_said_again_and_ray_keeps_one(server, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_S", 0.01)
    server.loses = 2

    assert submit(server).status is Status.QUEUED
    assert len(server.submitted) == 1


def test_a_submission_that_nobody_answers_is_found_or_made_later(server, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_S", 0.01)
    server.refusal = (500, "GCS is down")
    with pytest.raises(RunnerError, match=r"may have been submitted or not.*GCS is down.*hybridjobs resume"):
        submit(server)
    (job,) = [open_job(path) for path in Path(os.environ["HYBRIDJOBS_HOME"]).glob("jobs/2*")]
    assert job.status is Status.CREATED

    server.refusal = None

    assert job.resume().status is Status.QUEUED
    assert [body["submission_id"] for body in server.submitted] == [f"hybridjobs-{job.id}-1"]


def test_a_refusal_keeps_rays_words(server):
    server.refusal = (400, "Traceback (most recent call last):\n  ...\nValueError: resources must be positive\n")

    with pytest.raises(RunnerError, match="could not be submitted: Ray refuses: ValueError: resources must be positive"):
        submit(server)


def test_a_waiting_job_is_cancelled_and_never_runs(server):
    job = submit(server)

    assert job.cancel() is Status.CANCELLED
    assert server.stopped == [f"hybridjobs-{job.id}-1"]


# A Ray of this machine, as its keeper recorded it


@pytest.fixture
def here(server: Recorded, jobs_home: Path) -> Recorded:
    """The server is the Ray of this machine, and this process its keeper."""
    place, me = Place.of(jobs_home), process.current()
    place.path.mkdir(mode=0o700, parents=True)
    place.write(Cluster("1", server.address, me, me, "", time.time()))
    return server


def test_one_that_somebody_else_began_to_start_is_waited_for_until_it_has_a_node(here):
    coming = threading.Timer(0.5, setattr, (here, "cores", 2))
    coming.start()

    job = hybrid_job(functions.add, runner="ray")(1)

    assert not coming.is_alive()
    assert job.status is Status.QUEUED


def test_what_it_lacks_is_told_in_the_units_that_were_asked_in(here):
    here.cores = 1
    with pytest.raises(RunnerError, match=r"cannot give it 5000 MB of memory \(it has 4000\)\. Ask for less"):
        hybrid_job(functions.add, runner="ray", resources=Resources(memory_mb=5000))(1)


def test_one_that_does_not_answer_may_have_jobs_and_is_not_stopped_unless_that_is_meant(jobs_home, monkeypatch):
    monkeypatch.setattr(cluster, "_LEAVING_S", 0.0)
    place = Place.of(jobs_home)
    place.path.mkdir(mode=0o700, parents=True)
    with subprocess.Popen(["sleep", "60"]) as keeper:
        who = process.Identity.of(keeper.pid)
        assert who is not None
        place.write(Cluster("1", "http://127.0.0.1:1", who, who, "", time.time()))

        with pytest.raises(RunnerError, match=r"does not answer.*--now"):
            place.stop()
        assert keeper.poll() is None
        assert place.stop(now=True)

    assert not place.stop()


# The entrypoint, run


def test_the_entrypoint_runs_the_job_in_the_folder(server):
    server.runs = True
    job = submit(server, os.getenv, "FROM_SETUP", setup=["export FROM_SETUP='a b' # kept"])
    slow = submit(server, functions.count, 1000, 0.05)

    assert job.result(WAIT_S) == "a b"
    until(slow.checkpoints)
    assert slow.cancel(grace_s=5) is Status.CANCELLED
    assert "SIGUSR1: stopping" in slow.logs()
    server.wait()
    assert [told["driver_exit_code"] for told in server.jobs.values()] == [0, 1]


def test_what_ray_says_of_a_dead_supervisor_is_said_once(server):
    server.runs = True
    job = submit(server, functions.count, 1000, 0.05)
    until(job.checkpoints)
    lease = job.state().lease
    assert lease is not None

    os.kill(lease.owner.pid, signal.SIGKILL)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert job.state().detail.count("is FAILED") == 1


def test_a_cluster_that_falls_silent_while_it_ends_a_job_leaves_the_request_to_cancel(server, monkeypatch):
    monkeypatch.setattr(queued, "_LEAVING_S", 0.0)
    server.runs = True
    job = submit(server, functions.count, 1000, 0.05)
    until(job.checkpoints)
    lease, answer = job.state().lease, server.answer
    assert lease is not None
    os.kill(lease.owner.pid, signal.SIGSTOP)
    server.answer = lambda *request: (503, "overloaded") if server.stopped else answer(*request)

    with pytest.raises(RunnerError, match=r"overloaded.*The request to cancel is kept"):
        job.cancel(grace_s=0)

    server.answer = answer
    assert job.wait(WAIT_S) is Status.CANCELLED


def test_what_ends_before_the_worker_fails_the_job_with_what_was_said(server):
    server.runs = True
    bad = submit(server, setup=["echo no such module >&2; false"], retries=3)
    lost = submit(server, python="/no/python")

    with pytest.raises(JobFailed, match=r"(?s)environment.*no such module\nsetup failed: echo no such"):
        bad.result(WAIT_S)
    with pytest.raises(JobFailed, match=r"(?s)environment.*/no/python"):
        lost.result(WAIT_S)


@pytest.mark.parametrize("line", ["echo bye; exit 3", "echo bye; exit", "source {script}"])
def test_setup_that_ends_the_script_fails_the_job(server, tmp_path, line):
    (tmp_path / "cluster.sh").write_text("echo bye\nexit 1\n")
    server.runs = True

    with pytest.raises(JobFailed, match=r"(?s)environment.*setup has ended the batch script.*bye"):
        submit(server, setup=[line.format(script=tmp_path / "cluster.sh")], retries=3).result(WAIT_S)


def test_setup_may_end_subshells(server):
    server.runs = True

    assert submit(server, setup=["(exit 3) || true", "[ $(echo 1; exit 4) = 1 ]"]).result(WAIT_S) == 3


def test_a_node_that_does_not_see_the_folder_fails_the_job(server, jobs_home):
    job = submit(server, retries=3)
    server.say(status="FAILED", error_type="JOB_ENTRYPOINT_COMMAND_ERROR", driver_exit_code=72, driver_agent_http_address="http://n7:1")

    with pytest.raises(JobFailed, match=r"node n7 does not see .*HYBRIDJOBS_HOME.*probe=True"):
        job.result(WAIT_S)


def test_a_probe_that_nobody_waits_for_any_more_is_ended(server, monkeypatch):
    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        submit(server, probe=True)

    (probe,) = server.jobs
    assert server.stopped == [probe]


def test_a_probe_tells_whether_nodes_share_the_folder_and_what_is_good_is_not_asked_again(server):
    server.runs = True
    assert submit(server, probe=True).result(WAIT_S) == 3
    server.runs = False
    assert submit(server, probe=True).status is Status.QUEUED
    assert sum("probe" in name for name in server.jobs) == 1

    server.runs = True
    with pytest.raises(InvalidCall, match=r"cannot run /no/python. Name its interpreter with RayRunner\(python=\)"):
        submit(server, probe=True, python="/no/python")


def test_a_sweep_goes_on_in_the_same_jobs_of_rays_when_its_caller_has_left(server):
    server.runs = True
    sweep = hybrid_job(functions.fail_if_odd, runner=RayRunner(address=server.address)).map(
        [{"number": n} for n in range(3)], max_parallel=2
    )
    folders = [job.folder for job in sweep]

    until(lambda: all((folder / "outcome.json").exists() for folder in folders))  # nobody looks

    assert [job.status for job in sweep] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]
    assert len(server.submitted) == 2
