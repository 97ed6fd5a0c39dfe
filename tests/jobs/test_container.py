"""Jobs in containers: isolation, limits, what happens when something is killed, and what is found before submission."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from pl_hybridjobs import Resources, Status, hybrid_job
from pl_hybridjobs.cost import account
from pl_hybridjobs.errors import InvalidCall, JobFailed, JobInterrupted, RunnerError
from pl_hybridjobs.jobs import engine, own, process
from pl_hybridjobs.jobs.container import ContainerLaunch, ContainerRunner, Probe
from pl_hybridjobs.jobs.environment import Interpreter, Place
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.launch import Work
from tests.jobs import buyers, containers, functions

WAIT_S = 120


def look_around():
    """What a function sees of its surroundings."""
    import pathlib
    import socket

    def refused(action):
        try:
            action()
        except OSError as error:
            return error.strerror
        return "allowed"

    job = pathlib.Path(os.environ["HYBRIDJOBS_JOB_FOLDER"])
    status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "root": refused(lambda: pathlib.Path("/new").write_text("x")),
        "bundle": refused(lambda: (job / "bundle" / "new").write_text("x")),
        "results": refused(lambda: pathlib.Path("new").write_text("x")),
        "tmp": refused(lambda: pathlib.Path("/tmp/new").write_text("x")),
        "network": refused(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
        "capabilities": int(status["CapEff"], 16),
        "no new privileges": status["NoNewPrivs"],
        "jobs": [path.name for path in job.parent.iterdir()],
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY", "none"),
        "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
    }


def until(met, what):
    deadline = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def names_of(job):
    return containers.run("ps", "--all", "--format", "{{.Names}}", "--filter", f"name=hybridjobs-{job.id}").split()


def test_a_job_sees_and_may_do_nothing_but_its_own(container, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    other = hybrid_job(functions.add, runner="inline")(1)

    job = hybrid_job(look_around, runner=container)()
    seen = job.result(WAIT_S)

    assert other.id not in seen["jobs"]
    assert seen == {
        "root": "Read-only file system",
        "bundle": "Read-only file system",
        "results": "allowed",
        "tmp": "allowed",
        "network": "Network is unreachable",
        "capabilities": 0,
        "no new privileges": "1",
        "jobs": [job.id],
        "secret": "none",
        "processes": 2,
    }
    assert {path.stat().st_uid for path in job.folder.rglob("*")} == {os.geteuid()}
    until(lambda: not names_of(job), "the container is left")


def test_a_killed_container_leaves_an_interrupted_job_that_resumes(container):
    job = hybrid_job(functions.count, runner=container)(12, pause_s=0.1)
    until(job.checkpoints, "no checkpoint")
    containers.run("kill", *names_of(job))

    with pytest.raises(JobInterrupted, match=r"exit code 137\): from outside, or because memory ran out"):
        job.result(WAIT_S)
    assert job.resume().result(WAIT_S) == hybrid_job(functions.count).inline(12)
    assert job.attempt == 2


def test_the_container_ends_with_its_supervisor_and_the_job_is_retried(container):
    job = hybrid_job(functions.count, runner=container, retries=1)(12, pause_s=0.1)
    until(job.checkpoints, "no checkpoint")
    lease = job.state().lease
    assert lease is not None
    os.kill(lease.owner.pid, signal.SIGKILL)

    assert job.result(WAIT_S) == hybrid_job(functions.count).inline(12)
    assert job.attempt == 2
    until(lambda: not names_of(job), "a container is left")


def test_a_container_that_cannot_end_by_itself_is_removed_when_the_orphan_is_found(container):
    job = hybrid_job(functions.sleep, runner=container)(600)
    until(lambda: process.of_token(f"{job.id}:1"), "the worker does not start")
    (name,) = names_of(job)
    lease = job.state().lease
    assert lease is not None
    containers.run("pause", name)  # so that it cannot end by itself
    os.kill(lease.owner.pid, signal.SIGKILL)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert names_of(job) == []


def test_an_engine_that_cannot_remove_a_container_makes_no_failure_of_an_interruption(container, monkeypatch, tmp_path):
    podman = tmp_path / "podman"
    podman.write_text(f'#!/bin/sh\n[ "$1" = rm ] && echo "storage is locked" >&2 && exit 125\nexec {shutil.which("podman")} "$@"\n')
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    job = hybrid_job(functions.sleep, runner=container)(600)
    until(lambda: process.of_token(f"{job.id}:1"), "the worker does not start")
    lease = job.state().lease
    assert lease is not None
    for client in process.descendants(lease.owner.pid):
        os.kill(client, signal.SIGKILL)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert "storage is locked" in job.logs()
    until(lambda: not names_of(job), "a container is left")


def test_cancel_ends_the_container(container):
    job = hybrid_job(functions.start_grandchildren, runner=container)()
    until(lambda: "started" in job.logs(), "nothing started")

    assert job.cancel(grace_s=0.3) is Status.CANCELLED
    assert names_of(job) == []


def test_the_limits_of_memory_and_cores_are_the_containers(container):
    resources = Resources(memory_mb=200, threads=1)

    job = hybrid_job(functions.eat_memory, runner=container, resources=resources)(600)
    with pytest.raises(JobFailed, match="more than memory_mb=200"):
        job.result(WAIT_S)
    assert "-- used more than memory_mb=200" in job.logs()
    assert hybrid_job(functions.cpus, runner=container, resources=resources)().result(WAIT_S) == (1, "1")


def test_what_a_job_buys_counts_for_the_user_and_other_jobs_stay_hidden(container):
    hybrid_job(functions.add, runner="inline")(1)
    job = hybrid_job(buy_and_look, runner=container, device="rehearsal:ideal")(2)

    assert job.result(WAIT_S) == [job.id]
    assert account.of_user().cost().usd == 2


def buy_and_look(times):
    buyers.own_checkpoints(times, "shop")
    return os.listdir(os.path.dirname(os.environ["HYBRIDJOBS_JOB_FOLDER"]))


def test_a_locked_environment_needs_nothing_of_the_image_but_python(container):
    if containers.run("run", "--rm", container.image, "python3", "-c", "import sys; print(sys.version_info[:2])") != f"{_minor()}\n":
        pytest.skip("the base image has another Python than this one")
    bare = ContainerRunner(image=container.image, environment="locked")

    assert hybrid_job(functions.add, runner=bare)(1).result(WAIT_S) == 3


def _minor():
    import sys

    return sys.version_info[:2]


# Found before submission ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"image": "localhost/nothing:1"},
            r"no image 'localhost/nothing:1' on this machine; get it with `podman pull localhost/nothing:1`",
        ),
        ({"mounts": ()}, r"has no \S+/bin/python that starts"),
        ({"mounts": (), "python": "python3"}, r"has no worker: .* `hybridjobs image build --base localhost/hybridjobs-test-base"),
    ],
)
def test_an_image_that_cannot_run_the_job_is_found_before_submission(container, jobs_home, options, said):
    from dataclasses import replace

    with pytest.raises(InvalidCall, match=said):
        hybrid_job(functions.add, runner=replace(container, **options))(1)
    assert not (jobs_home / "jobs").exists()


def test_an_image_with_another_python_is_found_before_submission(container, environments, monkeypatch):
    here = Interpreter.here()
    monkeypatch.setattr(Interpreter, "here", classmethod(lambda _: Interpreter(here.executable, "3.99.1", here.platform, here.glibc)))

    with pytest.raises(InvalidCall, match=r"has Python 3\.\d+.*and this is 3\.99\.1: pickled code only loads in the same minor version"):
        hybrid_job(functions.add, runner=container)(1)


def test_an_image_with_another_version_of_this_package_is_found_before_submission(container, monkeypatch):
    monkeypatch.setattr(own, "version", lambda: "99.0")

    with pytest.raises(InvalidCall, match=r"and this is 99\.0; build it anew with `hybridjobs image build`"):
        hybrid_job(functions.add, runner=container)(1)


def test_without_an_engine_the_cure_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidCall, match=r"no podman and no docker on PATH.*(apt-get install podman|brew install podman)"):
        hybrid_job(functions.add, runner="container")(1)


def test_an_engine_that_cannot_run_here_is_found_before_submission_with_its_cure(container, monkeypatch, tmp_path):
    said = "Error: crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied"
    podman = tmp_path / "podman"
    podman.write_text(f"#!/bin/sh\n[ $1 = image ] && echo sha256:1 && exit\necho '{said}' >&2\nexit 126\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    with pytest.raises(InvalidCall) as caught:
        hybrid_job(functions.add, runner=container)(1)
    assert said in str(caught.value)
    assert "default_ulimits" in str(caught.value)
    assert "python that starts" not in str(caught.value)


def test_all_complaints_about_the_options_come_at_once():
    runner = ContainerRunner(engine="rkt", environment="none", pids=0, cpus=-1, gpus="two", mounts=["relative"])

    with pytest.raises(InvalidCall) as caught:
        hybrid_job(functions.add, runner=runner, device="arn:aws:braket:::device/quantum-simulator/amazon/sv1")(1)

    said = str(caught.value)
    for part in ("engine", "environment", "pids", "cpus", "gpus", "mounts", "needs a network"):
        assert part in said


@pytest.mark.parametrize(
    "options",
    [{"python": None}, {"mounts": 3}, {"mounts": [Path("/etc")]}, {"gpus": 0}, {"gpus": "0,"}, {"cpus": float("inf")}, {"pids": 2}],
)
def test_an_option_of_the_wrong_kind_is_a_complaint(options):
    with pytest.raises(InvalidCall, match=f"ContainerRunner: {next(iter(options))} must be"):
        hybrid_job(functions.add, runner=ContainerRunner(**options))(1)


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("Error: inspecting object: invalid reference format", "no name of an image"),
        ("pinging container registry registry-1.docker.io: dial tcp: lookup registry-1.docker.io: no such host", "--base IMAGE"),
        ("container init: error setting cgroup config: unable to set memory limit to 1000000 (current usage: 2678784)", "larger memory_mb"),
        ("crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied", "default_ulimits"),
        ("Error: crun: cgroups in hybrid mode not supported, drop all controllers from cgroupv2", 'runtime = "runc"'),
        ("Error: cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "systemctl start docker"),
        ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "usermod -aG docker"),
        ("Error: cannot find newuidmap: exec: \"newuidmap\": executable file not found in $PATH", "apt-get install uidmap"),
        ("Error: default OCI runtime \"crun\" not found: invalid argument", "apt-get install crun"),
        ("Error: resource limits are not supported on cgroups V1 rootless systems", "unified_cgroup_hierarchy"),
        ("something that nobody has seen", ""),
    ],
)  # fmt: skip
def test_what_an_engine_says_has_a_cure(said, cure):
    assert cure in engine.cure_for(said)
    assert said in engine.Engine("podman", "/usr/bin/podman").refusal("podman run", 126, said)


# What is asked of the engine ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(container, monkeypatch):
    """The command line for a job with some options; nothing is run but the probe of the image."""
    job = hybrid_job(functions.add, runner="inline")(1)

    def made(inherited=None, **options):
        from dataclasses import replace

        from pl_hybridjobs.jobs.folder import JobFolder
        from pl_hybridjobs.jobs.runner import options_of

        runner = ContainerRunner(**{**options_of(container), **options})
        spec = replace(job.spec, runner="container", runner_options=options_of(runner))
        launch = ContainerLaunch(JobFolder(job.folder), spec)
        monkeypatch.setattr("pl_hybridjobs.jobs.container.Box.probe", lambda _: _Probe())
        return launch.command(Work(1, "d" * 64, False, {"A": "1"}), inherited or {})

    class _Probe:
        root, version, path, interpreter = "/site", "0", "/bin", Interpreter.here()

    return made


def test_the_digest_goes_on_the_command_line_and_secrets_by_name_only(command):
    secret = {"AWS_SECRET_ACCESS_KEY": "hidden", "OTHER": "x", "HYBRIDJOBS_LEASE_S": "9"}

    online, offline = command(secret, network=True), command(secret)

    assert online[online.index("AWS_SECRET_ACCESS_KEY") - 1] == "--env"
    assert "hidden" not in " ".join(online)
    assert "AWS_SECRET_ACCESS_KEY" not in offline
    assert "HYBRIDJOBS_LEASE_S" in offline
    assert "OTHER" not in " ".join(online)
    assert offline[-3] == "d" * 64


class _Elsewhere(engine.Engine):
    """An engine that is not there: what would be run is looked at, and removals are remembered."""

    removed: ClassVar[list[str]] = []

    def user(self) -> list[str]:
        return []

    def remove(self, *containers: str) -> None:
        self.removed.extend(containers)


@pytest.fixture
def unstarted(monkeypatch):
    """Launches with an engine that is not there."""
    probe = Probe(Interpreter.here(), "/site", "0", "/bin")
    monkeypatch.setattr("pl_hybridjobs.jobs.container.Box.probe", lambda _: probe)
    monkeypatch.setattr(engine, "find", lambda _: _Elsewhere("podman", "podman"))
    monkeypatch.setattr(_Elsewhere, "removed", [])

    def made(**env):
        job = hybrid_job(functions.add, runner="inline")(1)
        spec = replace(job.spec, runner="container", runner_options={"image": "x"}, resources=Resources(env=env))
        return ContainerLaunch(JobFolder(job.folder), spec)

    return made


def test_the_values_of_a_jobs_own_variables_are_not_on_the_command_line_and_arrive(unstarted, monkeypatch):
    launch = unstarted(TOKEN="hidden", PATH="/opt/bin")
    given: dict[str, str] = {}
    monkeypatch.setattr(process, "spawn", lambda argv, env, **_: given.update(env) or 7)
    launch.folder.attempt(2).path.mkdir()

    line = launch.command(Work(2, "d" * 64, False, dict(launch.spec.resources.env)), {})
    launch.start(Work(2, "d" * 64, False, {}), output=1, life=0)

    assert line[line.index("TOKEN") - 1] == "--env"
    assert "hidden" not in " ".join(line)
    assert given["TOKEN"] == "hidden"
    assert "PATH=/opt/bin" in line, "the engine's client looks there for its own programs"
    assert given["PATH"] == os.environ["PATH"]


def test_what_compiles_before_the_worker_has_a_name_and_is_removed_with_it(unstarted):
    launch = unstarted()

    line = launch._warming(Place(Path("/environment"), Path("/own")), 3)
    launch.end(3)

    assert _Elsewhere.removed == [launch.container(3), line[line.index("--name") + 1]]


def test_options_become_the_engines(command):
    line = " ".join(command(network="host", pids=64, cpus=1.5, gpus="0,2"))

    for part in ("--network host", "--pids-limit 64", "--cpus 1.5", "--device nvidia.com/gpu=0 --device nvidia.com/gpu=2"):
        assert part in line
    assert engine.Engine("docker", "docker").gpus("0,2") == ["--gpus", '"device=0,2"']
    assert engine.Engine("docker", "docker").gpus("all") == ["--gpus", "all"]


def test_a_network_brings_the_purse_and_still_hides_other_jobs(command, jobs_home):
    line = " ".join(command(network=True))

    assert f"{jobs_home}:{jobs_home} " in line
    assert f"/.jobs:{jobs_home / 'jobs'}:ro" in line
    assert f"{jobs_home}:{jobs_home} " not in " ".join(command())


def test_a_path_with_a_colon_is_refused():
    with pytest.raises(RunnerError, match="there is a colon in its path"):
        engine.mount("/a:b")


def test_options_survive_the_job_folder(container):
    from pl_hybridjobs.jobs.runner import options_of, resolve

    assert resolve("container", json.loads(json.dumps(options_of(container)))) == container
