"""Locked environments and the sandbox of local jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest

from pl_hybridjobs import Status, hybrid_job
from pl_hybridjobs.cost import account
from pl_hybridjobs.errors import InvalidCall, JobFailed, RunnerError
from pl_hybridjobs.jobs import environment, locks, own, sandbox
from pl_hybridjobs.jobs.environment import Interpreter
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.local import LocalRunner
from tests.jobs import buyers, functions

WAIT_S = 120
LOCKED = LocalRunner(environment="locked")
HERE = Interpreter.here()


def versions():
    """What a job finds of a distribution that is not installed here, and of one that is."""
    import importlib.metadata
    import importlib.util

    return importlib.metadata.version("hjprobe"), importlib.util.find_spec("pytest") is None, sys.prefix != sys.base_prefix


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """A tiny distribution that pip finds, and nobody has installed."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "hjprobe-1.5.dist-info"
    with zipfile.ZipFile(wheels / "hjprobe-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("hjprobe.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hjprobe\nVersion: 1.5\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return ["hjprobe==1.5"]


def builds(*jobs):
    return sum(job.logs().count("builds the environment") for job in jobs)


def test_the_job_runs_with_what_its_lock_names_and_with_nothing_else(probe):
    first = hybrid_job(versions, runner=LOCKED, requirements=probe)()
    second = hybrid_job(versions, runner=LOCKED, requirements=probe)()  # at the same time

    assert first.result(WAIT_S) == second.result(WAIT_S) == ("1.5", True, True)
    assert builds(first, second) == 1
    third = hybrid_job(versions, runner=LOCKED, requirements=probe)()
    assert third.result(WAIT_S) == ("1.5", True, True)
    assert builds(third) == 0


def test_what_cannot_be_installed_fails_the_job_before_its_function_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    job = hybrid_job(functions.talk, runner=LOCKED, requirements=["hjprobe==99"])()

    with pytest.raises(
        JobFailed, match=r"(?s)failed \(environment\).*pip ended with code 1.*No matching distribution found for hjprobe==99"
    ):
        job.result(WAIT_S)
    assert "No matching distribution found for hjprobe==99" in job.logs()
    assert "to stdout" not in job.logs()


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(monkeypatch, jobs_home):
    monkeypatch.setenv("HYBRIDJOBS_CRASH_AT", "environment.made")
    job = hybrid_job(functions.add, runner=LOCKED)(1)
    assert job.wait(WAIT_S) is Status.INTERRUPTED
    monkeypatch.delenv("HYBRIDJOBS_CRASH_AT")

    assert job.resume().result(WAIT_S) == 3
    assert builds(job) == 2
    assert not list((jobs_home / "environments").glob("*.tmp"))


def test_a_job_can_be_cancelled_while_its_environment_is_built(monkeypatch, tmp_path):
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n')
    (slow / "slow.py").write_text("import time; time.sleep(600)")
    job = hybrid_job(functions.add, runner=LOCKED, requirements=[f"slow @ {slow.as_uri()}"])(1)
    deadline = time.monotonic() + WAIT_S
    while "builds the environment" not in job.logs() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert job.cancel(grace_s=0.2) is Status.CANCELLED


UV = """
[[package]]
name = "project"
version = "0"
source = { virtual = "." }
dependencies = [{ name = "a", extra = ["fast"] }, { name = "b", marker = "sys_platform == 'win32'" }]
[[package]]
name = "a"
version = "1"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "c", version = "2", marker = "python_full_version < '3.99'" }, { name = "c", version = "3", marker = "python_full_version >= '3.99'" }]
[package.optional-dependencies]
fast = [{ name = "d" }]
[[package]]
name = "b"
version = "1"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "c"
version = "2"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "c"
version = "3"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "d"
version = "4"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "unused"
version = "1"
source = { registry = "https://pypi.org/simple" }
"""
PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "a"
version = "1"
[[packages]]
name = "b"
version = "2"
marker = "sys_platform == 'win32'"
[[packages]]
name = "project"
version = "1"
directory = { path = "." }
"""


def test_lock_files_become_requirements(tmp_path):
    for name, text in (("uv.lock", UV), ("pylock.toml", PYLOCK)):
        (tmp_path / name).write_text(text)

    assert locks.requirements(tmp_path / "uv.lock", "uv.lock", HERE) == ["a==1", "c==2", "d==4"]
    assert locks.requirements(tmp_path / "pylock.toml", "pylock", HERE) == ["a==1", "b==2 ; sys_platform == 'win32'"]


def test_lock_files_with_the_hashes_of_all_become_requirements_that_have_them(tmp_path):
    digests = [letter * 64 for letter in "123"]
    sealed = PYLOCK
    for name, digest in zip(("a", "b"), digests, strict=False):
        files = f'wheels = [{{ hashes = {{ md5 = "0", sha256 = "{digest}" }} }}]\nsdist = {{ hashes = {{ sha256 = "{digests[2]}" }} }}'
        sealed = sealed.replace(f'name = "{name}"', f'name = "{name}"\n{files}')
    (tmp_path / "pylock.toml").write_text(sealed)
    (tmp_path / "uv.lock").write_text(UV.replace('/simple" }', f'/simple" }}\nsdist = {{ hash = "sha256:{digests[0]}" }}'))

    assert locks.requirements(tmp_path / "pylock.toml", "pylock", HERE) == [
        f"a==1 --hash=sha256:{digests[0]} --hash=sha256:{digests[2]}",
        f"b==2 ; sys_platform == 'win32' --hash=sha256:{digests[1]} --hash=sha256:{digests[2]}",
    ]
    assert locks.requirements(tmp_path / "uv.lock", "uv.lock", HERE)[-1] == f"d==4 --hash=sha256:{digests[0]}"


def made(probe, digest, target, **options):
    """What pip makes of the probe, with a hash."""
    target.mkdir()
    environment.make(target, [f"{probe[0]} --hash=sha256:{digest}"], HERE, target, "--no-index", **options)
    return {path.name for path in target.glob("lib/*/site-packages/*")}


def test_a_locked_file_with_another_hash_is_not_installed_and_what_the_worker_needs_comes_beside_it(probe, tmp_path, capfd):
    wheel = next((tmp_path / "wheels").iterdir())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with zipfile.ZipFile(wheel.with_name("hjneed-1-py3-none-any.whl"), "w") as other, zipfile.ZipFile(wheel) as like:
        for name in like.namelist():
            other.writestr(
                name.replace("hjprobe", "hjneed").replace("1.5", "1"), like.read(name).replace(b"hjprobe", b"hjneed").replace(b"1.5", b"1")
            )

    assert {"hjprobe.py", "hjneed.py"} <= made(probe, digest, tmp_path / "good", more=["hjneed==1"])
    with pytest.raises(RunnerError, match="DO NOT MATCH THE HASHES"):
        made(probe, "0" * 64, tmp_path / "bad")


def test_a_password_that_an_installer_prints_is_not_told(capfd):
    code, tail = environment._run([sys.executable, "-c", "print('Looking in https://user:hunt@er2@index.org/simple'); raise SystemExit(3)"])

    assert (code, tail) == (3, "Looking in https://****@index.org/simple")
    assert "er2" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (
            "uv.lock",
            "uv.lock",
            UV.replace(
                '"d"\nversion = "4"\nsource = { registry = "https://pypi.org/simple" }',
                '"d"\nversion = "4"\nsource = { git = "https://x.org/d#1" }',
            ),
        ),
        ("pylock.toml", "pylock", PYLOCK + '[[packages]]\nname = "d"\nversion = "4"\nvcs = { type = "git", url = "https://x.org/d" }\n'),
    ],
)
def test_what_comes_from_no_index_is_not_looked_for_in_one(tmp_path, name, kind, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(RunnerError, match=r"takes d from elsewhere.*uv export"):
        locks.requirements(tmp_path / name, kind, HERE)


def test_pip_is_told_of_another_interpreter_and_not_of_one_like_this():
    other = Interpreter("/usr/bin/python3", "3.12.1", "linux-aarch64", "2.19")

    assert HERE.flags() == []
    assert other.flags()[:3] == ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"]
    assert other.flags()[3] == "--platform=manylinux_2_19_aarch64"


def test_this_distribution_as_a_wheel_is_the_same_each_time_and_has_what_it_needs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = own.write_wheel(tmp_path / "a"), own.write_wheel(tmp_path / "b")

    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as wheel:
        names = set(wheel.namelist())
        points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {"pl_hybridjobs/jobs/worker.py", "pl_hybridjobs/cost/prices.json", "pl_hybridjobs/containers/README.md"} <= names
    assert "hybridjobs.qubit = pl_hybridjobs.devices.simulator:HybridQubit" in points
    assert not [name for name in names if "__pycache__" in name]


# The sandbox --------------------------------------------------------------------------------------------------------------

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="BUBBLEWRAP IS MISSING, so sandbox= was not tested: `apt-get install bubblewrap`"
)


def look_around(secret):
    """What a function sees from its sandbox."""
    import socket

    job = Path(os.environ["HYBRIDJOBS_JOB_FOLDER"])
    seen = {"jobs": [path.name for path in job.parent.iterdir()], "secret": Path(secret).exists()}
    seen["processes"] = sum(name.isdecimal() for name in os.listdir("/proc"))
    try:
        (job / "bundle" / "new").write_text("x")
    except OSError as error:
        seen["bundle"] = error.strerror
    try:
        socket.create_connection(("192.0.2.1", 80), 1)
    except OSError as error:
        seen["network"] = error.strerror
    return seen


@needs_bubblewrap
def test_a_sandbox_says_that_its_interpreter_does_not_start(tmp_path):
    with pytest.raises(RunnerError, match=r"nowhere does not start: .*No such file"):
        sandbox.wrapped([str(tmp_path / "nowhere")], {}, JobFolder(tmp_path), tmp_path, network=False, buys=False)


def test_a_link_to_an_interpreter_shows_nothing_of_where_it_lies(tmp_path):
    link = tmp_path / "home/bin/python"
    link.parent.mkdir(parents=True)
    link.symlink_to(HERE.executable)
    (tmp_path / "home/key").write_text("secret")

    bound = list(sandbox._packages(str(link), {}))

    assert str(link) in bound
    assert not any((tmp_path / "home/key").is_relative_to(path) for path in bound)


@needs_bubblewrap
def test_a_sandboxed_job_sees_nothing_but_its_own(tmp_path):
    secret = tmp_path / "key"
    secret.write_text("secret")
    hybrid_job(functions.add, runner="inline")(1)

    job = hybrid_job(look_around, runner=LocalRunner(sandbox=True))(str(secret))

    expected = {"secret": False, "processes": 2, "bundle": "Read-only file system", "network": "Network is unreachable"}
    assert job.result(WAIT_S) == {"jobs": [job.id], **expected}


@needs_bubblewrap
def test_what_a_sandboxed_job_buys_counts_for_the_user():
    job = hybrid_job(buyers.own_checkpoints, runner=LocalRunner(sandbox=True), device="rehearsal:ideal")(2, "shop")

    assert job.result(WAIT_S) == 0
    assert account.of_user().cost().usd == 2


@needs_bubblewrap
def test_a_sandboxed_job_stops_at_a_step_boundary_and_dies_as_others_do():
    job = hybrid_job(functions.count, runner=LocalRunner(sandbox=True), retries=1)(400, pause_s=0.05, die_at=2)
    deadline = time.monotonic() + WAIT_S
    while not any(c.attempt == 2 for c in job.checkpoints()):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert job.cancel(grace_s=10) is Status.CANCELLED
    assert "the worker was killed by SIGKILL" in job.logs()
    assert "stopped at a step boundary after SIGTERM" in job.logs()


def test_what_a_sandbox_needs_is_told_before_submission(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidCall, match="bubblewrap") as caught:
        hybrid_job(functions.add, runner=LocalRunner(sandbox=True), device="arn:aws:braket:::device/quantum-simulator/amazon/sv1")(1)
    assert "sandbox='network'" in str(caught.value)
