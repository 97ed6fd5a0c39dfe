"""What runs in a job's container: real processes, in a folder laid out like one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tarfile
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.braket import entry, inside, payload
from pl_hybridjobs.cost.ledger import Charge, Ledger
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import observe
from tests.braket.boxes import Box, packed
from tests.jobs import functions


def describe_surroundings():
    """What a job sees of the service."""
    from pl_hybridjobs import log_metric

    log_metric("train/loss", 0.5, step=3)
    with open("note.txt", "w") as file:
        file.write("kept")
    os.symlink("gone", "a-link-to-nothing")
    return {name: os.environ.get(f"AMZN_BRAKET_{name}") for name in ("JOB_TOKEN", "OUT_S3_BUCKET", "TASK_RESULTS_S3_URI", "JOB_NAME")}


def test_a_job_runs_and_leaves_everything_where_it_belongs(tmp_path):
    box = Box(tmp_path, packed(describe_surroundings, options={"name": "mine"}))

    code, output = box.run()

    assert code == 0, output
    state = observe(box.inside)
    assert state.status is Status.COMPLETED
    persisted = json.loads((box.model / "results.json").read_text())
    told = {"JOB_TOKEN": "token", "OUT_S3_BUCKET": "bucket", "TASK_RESULTS_S3_URI": "s3://bucket/tasks", "JOB_NAME": "mine"}
    assert persisted["dataDictionary"] == told
    assert (box.model / "note.txt").read_text() == "kept"
    assert "timestamp=" in output
    assert "train_x2f_loss=0.5; iteration_number=3;" in output
    assert "hybridjobs: attempt 1\n" in output
    assert not list(box.inside.path.glob("*.tmp"))


@pytest.mark.torture_long  # importing that SDK takes longer than the job
def test_a_value_can_be_loaded_by_brakets_own_sdk(tmp_path, monkeypatch):
    from braket.jobs import load_job_result

    box = Box(tmp_path, packed(functions.add, 1, c=3))
    box.run()
    monkeypatch.setenv("AMZN_BRAKET_JOB_RESULTS_DIR", str(box.model))

    assert load_job_result() == {"result": 6}


def test_the_log_on_standard_output_is_the_log_line_by_line(tmp_path):
    box = Box(tmp_path, packed(functions.talk))

    _, output = box.run()

    log = box.inside.attempt(1).log.read_text()
    assert log in output
    assert [line.partition(" ")[2] for line in log.splitlines()] == ["to stdout", "to stderr", "no newline"]


def test_an_empty_input_is_empty_there_too(tmp_path):
    (empty := tmp_path / "nothing").mkdir()
    box = Box(tmp_path / "box", packed(functions.list_input, "set", options={"inputs": {"set": empty}}))
    (box.root / "opt/ml/input/data/set").mkdir(parents=True)
    (box.root / "opt/ml/input/data/set" / inside.EMPTY).touch()  # as it is uploaded: S3 has no empty folders

    box.run()

    assert json.loads((box.model / "results.json").read_text())["dataDictionary"] == {"result": []}


def where_the_package_is():
    """The folder that this package is imported from."""
    import pl_hybridjobs

    return os.path.dirname(pl_hybridjobs.__file__)


def test_jobs_that_share_a_cache_share_the_simulators_machine_code_too(tmp_path):
    """It is found by the path of its source. What no job has used for a while is not kept."""
    seen = []
    old, young = (tmp_path / "cache" / "pl_hybridjobs" / f"own-{name}" for name in ("old", "young"))
    young.mkdir(parents=True)
    old.mkdir()
    os.utime(old, (0, 0))
    for name in ("one", "two"):
        box = Box(tmp_path / name, packed(where_the_package_is))
        code, output = box.run(XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert code == 0, output
        seen.append(json.loads((box.model / "results.json").read_text())["dataDictionary"]["result"])

    assert seen[0] == seen[1]
    assert Path(seen[0]).is_relative_to(tmp_path / "cache")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_failure_is_told_to_the_service(tmp_path):
    box = Box(tmp_path, packed(functions.fail, "no luck"))

    code, _ = box.run()

    assert code == 1
    assert box.failure == "ValueError: no luck"
    assert observe(box.inside).status is Status.FAILED


def test_a_changed_payload_is_refused_before_anything_of_it_is_loaded(tmp_path):
    box = Box(tmp_path, packed(functions.add, 1))
    with (tmp_path / "code/hybridjobs.payload").open("r+b") as file:
        file.seek(1000)
        file.write(b"x")

    code, output = box.run()

    assert code == 1
    assert "SHA-256 differs" in box.failure
    assert "SHA-256 differs" in output
    assert not box.inside.path.exists()


def test_a_full_disk_is_told_to_the_service(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "payload", "w") as archive:
        archive.add(__file__, "a.py")
    order = {"payload": hashlib.sha256((tmp_path / "payload").read_bytes()).hexdigest()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)

    with pytest.raises(entry.CannotBegin, match=r"cannot be unpacked into .*No space left.*volume_gb="):
        entry._unpack(tmp_path / "payload", order, tmp_path)


def test_what_a_lock_seals_is_installed_by_its_hashes_only(tmp_path, monkeypatch):
    wheel = tmp_path / "wheels/absent_thing-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"not what was locked")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    (tmp_path / "uv.lock").write_text(
        '[[package]]\nname = "p"\nversion = "0"\nsource = { virtual = "." }\ndependencies = [{ name = "absent-thing" }]\n'
        '[[package]]\nname = "absent-thing"\nversion = "1.0"\nsource = { registry = "https://pypi.org/simple" }\n'
        f'wheels = [{{ url = "https://x/y.whl", hash = "sha256:{"0" * 64}" }}]\n'
    )
    (tmp_path / "manifest.json").write_text(json.dumps({"requirements": {"kind": "uv.lock", "file": "uv.lock"}}))

    problem = inside.install(tmp_path)

    assert "DO NOT MATCH THE HASHES" in problem


def test_a_forged_bundle_digest_is_noticed_by_the_worker(tmp_path):
    box = Box(tmp_path, packed(functions.add, 1), bundle="0" * 64)

    code, _ = box.run()

    assert code == 1
    assert json.loads(box.inside.outcome.read_bytes())["reason"] == "bundle"
    assert "not the one that was packed" in box.failure


@pytest.mark.parametrize(("forged", "words"), [({"python": "3.8"}, "Python 3.8"), ({"payload": ""}, "no job of pl_hybridjobs")])
def test_what_cannot_run_here_says_so(tmp_path, forged, words):
    box = Box(tmp_path, packed(functions.add, 1), **forged)

    code, _ = box.run()

    assert code == 1
    assert words in box.failure


def test_a_failed_install_says_so_with_the_installers_words(tmp_path):
    lost = f"lost @ {(tmp_path / 'lost-1.0-py3-none-any.whl').as_uri()}"
    (tmp_path / "requirements.lock").write_text(f"{lost}\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"requirements": {"kind": "given", "file": "requirements.lock"}}))

    problem = inside.install(tmp_path)

    assert f"pip could not install {lost} (exit code 1); the function was not called." in problem
    assert "No such file" in problem


def test_a_password_in_a_requirement_is_not_told(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PIP_RETRIES", "0")
    (tmp_path / "requirements.lock").write_text("lost @ http://user:hunter2@127.0.0.1:9/lost-1.0-py3-none-any.whl\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"requirements": {"kind": "given", "file": "requirements.lock"}}))

    problem = inside.install(tmp_path)

    assert "lost @ http://****@127.0.0.1:9/lost-1.0-py3-none-any.whl" in problem
    assert "hunter2" not in problem + capfd.readouterr().out


def test_only_what_is_missing_is_installed():
    import numpy as np

    lines = ["# a comment", f"numpy=={np.__version__}", "numpy==0.1", "absent-thing>=1", "--index-url x", 'x==1; python_version < "3"']

    assert inside.missing(lines) == ["numpy==0.1", "absent-thing>=1"]


@pytest.mark.torture_long  # the runner's own tests resume, too
def test_a_job_goes_on_in_the_folder_that_came_back(tmp_path):
    folder = packed(functions.count, 6, 0.2)
    first = Box(tmp_path / "one", folder)
    process = first.start()
    deadline = time.monotonic() + 60
    while not (first.inside.checkpoints / "00000003").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()  # the supervisor dies, and the worker with it
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    time.sleep(0.2)
    (first.inside.attempt(1).exit).write_bytes(inside_exit())
    second = Box(tmp_path / "two", folder, cause="resume")
    copy_without_links(first.inside.path, second.inside.path)

    code, output = second.run()

    assert code == 0, output
    assert observe(second.inside).attempt == 2
    assert json.loads((second.model / "results.json").read_text())["dataDictionary"] == {"result": pytest.approx(1.5)}
    values = [line for line in output.splitlines() if line.startswith("Metrics - ")]
    assert 0 < len(values) < 6, "what the first attempt logged is not printed again"


def inside_exit() -> bytes:
    from pl_hybridjobs.jobs.durable import dump_sealed

    return dump_sealed({"code": None, "detail": "killed", "time": time.time(), "again": False})


def copy_without_links(source: Path, target: Path) -> None:
    """As S3 keeps it: files only."""
    for path in source.rglob("*"):
        if path.is_file() and not any(parent.is_symlink() for parent in [path, *path.parents]):
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_a_torn_ledger_is_replaced_by_its_snapshot(tmp_path, monkeypatch):
    box = Box(tmp_path, packed(functions.add, 1))
    monkeypatch.setenv("AMZN_BRAKET_INPUT_DIR", str(tmp_path))
    with tarfile.open(tmp_path / "code/hybridjobs.payload") as archive:
        archive.extractall(tmp_path / "work", filter="data")
    box.inside.path.mkdir()
    ledger = Ledger(tmp_path / "ledger")
    ledger.reserve([Charge("key", "device", usd=Decimal("0.3"))])
    ledger.copy(box.inside.path / inside.SNAPSHOT)
    (box.inside.path / "spend.sqlite").write_bytes(b"torn")
    (box.inside.path / "spend.sqlite-wal").write_bytes(b"torn too")

    folder = inside.prepare(tmp_path / "work", tmp_path / "opt/jobs/checkpoints", box.spec.id)

    assert [entry.key for entry in Ledger(folder.path / "spend.sqlite").entries()] == ["key"]


@given(st.text(min_size=1))
def test_a_metrics_name_comes_back_from_what_braket_reads(name):
    mapped = inside.braket_name(name)

    assert inside.own_name(mapped) == name


@given(st.text(min_size=1))
def test_brakets_parser_finds_the_whole_name(name):
    import re

    found = re.findall(r"(\w+)\s*=\s*([^;]+)\s*;", inside.metric_line(name, 1.5, 2, 3.0))

    assert [key for key, _ in found] == ["timestamp", inside.braket_name(name), "iteration_number"]


def test_the_archive_is_the_same_for_the_same_job_and_shows_no_requirements(tmp_path):
    folder = packed(functions.add, 1, options={"requirements": ["numpy>=1"]})

    one, two = payload.pack(folder), payload.pack(folder)

    assert one == two
    (tmp_path / "a.tar.gz").write_bytes(one.archive)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert archive.getnames() == ["hybridjobs_entry.py", "hybridjobs.payload"]


def test_a_stolen_archive_is_refused_when_it_is_unpacked(tmp_path):
    from pl_hybridjobs.errors import RunnerError

    made = payload.pack(packed(functions.add, 1))

    with pytest.raises(RunnerError, match="not the one that was submitted"):
        payload.unpack(made.archive, "0" * 64, tmp_path)
    with pytest.raises(RunnerError, match="none of this package's"):
        payload.unpack(made.archive[:1000], made.digest, tmp_path)
    payload.unpack(made.archive, made.digest, tmp_path)
    assert (tmp_path / "bundle/manifest.json").exists()


def test_an_image_of_ones_own_fetches_the_source_itself(tmp_path, emulated):
    import boto3

    running = emulated()
    box = Box(tmp_path, packed(functions.add, 1))
    (tmp_path / "code/hybridjobs.payload").unlink()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="amazon-braket-own")
    s3.put_object(Bucket="amazon-braket-own", Key="a b/source.tar.gz", Body=payload.pack(box.folder).archive)

    code, output = box.run(**running.environment(), AMZN_BRAKET_SCRIPT_S3_URI="s3://amazon-braket-own/a b/source.tar.gz")

    assert code == 0, output
    assert observe(box.inside).status is Status.COMPLETED
