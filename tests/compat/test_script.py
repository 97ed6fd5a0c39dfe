"""Script mode: modules, packages and functions in them, with hyperparameters as text."""

from __future__ import annotations

import contextlib
import io
import tarfile
import textwrap
from pathlib import Path

import boto3
import pytest

from pl_hybridjobs.compat.braket import AwsQuantumJob, LocalQuantumJob
from pl_hybridjobs.emulator import emulator
from pl_hybridjobs.errors import InvalidCall, JobFailed

WAIT_S = 120
DEVICE = "local:none/none"
BUCKET = "amazon-braket-us-east-1-123456789012"
FILES = {
    "script.py": """
        import os, sys
        from pl_hybridjobs.compat.braket import get_hyperparameters, save_job_result
        save_job_result({"told": get_hyperparameters(), "name": __name__, "argv": sys.argv[1:]})
        save_job_result({"entry": os.environ["AMZN_BRAKET_SCRIPT_ENTRY_POINT"]})
        sys.exit(0)
        """,
    "functions.py": """
        from __future__ import annotations
        import os
        from pl_hybridjobs.compat.braket import get_hyperparameters, save_job_result

        def typed(flag: bool, rates: list[float], note: str | None = None, **rest):
            save_job_result({"flag": flag, "rates": rates, "note": note, "rest": rest})
            return "is not kept"

        def bare(steps, rate=0.1):
            save_job_result({"steps": steps, "rate": rate})

        def untyped():
            save_job_result({"told": get_hyperparameters(), "entry": os.environ["AMZN_BRAKET_SCRIPT_ENTRY_POINT"]})

        def narrow(steps: int):
            save_job_result({"steps": steps})

        SEED = 5
        """,
    "algo/__main__.py": """
        import json
        from algo.inner import one
        from pl_hybridjobs.compat.braket import save_job_result
        save_job_result({"one": one(), "beside": json.load(open("algo/settings.json"))})
        """,
    "algo/inner.py": "def one(): return 1\n",
    "algo/sub/train.py": "from pl_hybridjobs.compat.braket import save_job_result\ndef start(): save_job_result('sub')\n",
    "algo/settings.json": "[1]",
    "algo/requirements.txt": "# what it needs\nnumpy>=2\n",
    "needy/__main__.py": "",
    "needy/requirements.txt": "no_such_package==1\n",
    "broken.py": "def f(:\n",
    "channels.py": """
        import os
        from pl_hybridjobs.compat.braket import get_input_data_dir, save_job_result
        save_job_result({name: sorted(os.listdir(get_input_data_dir(name))) for name in ("all", "one")})
        """,
    "exits.py": "raise SystemExit(3)\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_module_runs_as_main_and_a_function_is_called_by_its_annotations(folder, here):
    long = "x" * 2500
    jobs = [
        AwsQuantumJob.create(
            DEVICE, "script.py", hyperparameters={"a": 1, "2": None, "long": long}, image_uri="r/amazon-braket-base-jobs:1"
        ),
        AwsQuantumJob.create(
            DEVICE, "functions.py", "functions:typed", hyperparameters={"flag": "False", "rates": [1, 2], "note": None, "k": 1}
        ),
        AwsQuantumJob.create(DEVICE, "functions.py", "functions:untyped", hyperparameters={"not": "its own"}),
        AwsQuantumJob.create(DEVICE, "functions.py", "functions:narrow", hyperparameters={"steps": "many"}),
        AwsQuantumJob.create(DEVICE, "exits.py"),
        AwsQuantumJob.create(DEVICE, "functions.py", "functions:bare", hyperparameters={"steps": 3, "rate": 0.5}),
    ]

    argv = ["--a", "1", "--2", "None", "--long", long]
    told = {"a": "1", "2": "None", "long": long}
    assert jobs[0].result(WAIT_S) == {"told": told, "name": "__main__", "argv": argv, "entry": "script"}
    assert jobs[0].name.startswith("braket-job-base-")
    assert jobs[1].result(WAIT_S) == {"flag": False, "rates": [1.0, 2.0], "note": None, "rest": {"k": "1"}}
    assert jobs[2].result(WAIT_S) == {"told": {"not": "its own"}, "entry": "functions:untyped"}
    assert jobs[2].metadata()["algorithmSpecification"]["scriptModeConfig"]["entryPoint"] == "functions:untyped"
    with pytest.raises(JobFailed, match="'many' is no whole number"):
        jobs[3].result(WAIT_S)
    with pytest.raises(JobFailed, match="SystemExit: 3"):
        jobs[4].result(WAIT_S)
    assert jobs[5].result(WAIT_S) == {"steps": "3", "rate": "0.5"}


def test_a_package_runs_as_main_on_this_machine_and_reads_what_lies_beside_it(folder, capfd):
    job = LocalQuantumJob.create(DEVICE, "algo", job_name="packaged")

    assert job.result() == {"one": 1, "beside": [1]}
    assert sorted(p.name for p in Path("packaged").rglob("*")) == ["checkpoints", "log.txt", "results.json"]
    assert (job.job.folder / "bundle" / "requirements.lock").read_text() == "# what it needs\nnumpy>=2\n"


def test_a_function_deep_in_a_package_is_called(folder, here):
    assert AwsQuantumJob.create(DEVICE, "algo", "algo.sub.train:start").result(WAIT_S) == {"result": "sub"}


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("nowhere.py",), "Source module not found: nowhere.py"),
        (("s3://bucket/source.tar.gz", "a:b"), "cannot be fetched.*aws s3 cp s3://bucket/source.tar.gz - "),
        (("s3://bucket/source.tar.gz",), "entry_point must be provided"),
        (("s3://bucket/source.zip", "a:b"), "must point to a tar.gz file"),
        (("functions.py", "function:typed"), "Entry point module was not found: function. Did you mean 'functions'"),
        (("algo", "algo.outer"), "Entry point module was not found: algo.outer.*Did you mean 'algo.inner'"),
        (("algo", "inner"), "Entry point module was not found: inner"),
        (("algo/sub",), "without __main__.py"),
        (("functions.py", "functions:typd"), "no 'typd'. Did you mean 'typed'"),
        (("functions.py", "functions:SEED"), "a constant, not a function"),
        (("broken.py",), "no Python that this version can read"),
        (("needy",), "no_such_package is not installed here; run: pip install"),
    ],
)
def test_what_cannot_run_is_told_before_anything_starts(folder, here, given, message):
    with pytest.raises(ValueError, match=message):
        AwsQuantumJob.create(DEVICE, *given)


def test_code_and_data_in_s3_are_fetched(folder, here, in_s3):
    (folder / "table.txt").write_text("beside")
    (folder / "main.py").write_text(
        "from algo.inner import one\nfrom pl_hybridjobs.compat.braket import save_job_result\n"
        "def start(k: int): save_job_result([one(), open('table.txt').read(), k])\n"
    )
    source = in_s3("mine/source.tar.gz", "algo", "table.txt", "main.py")
    for key in ("channels/a.csv", "channels/ab.csv", "channels/more/c.csv"):
        in_s3(key, "table.txt")

    job = AwsQuantumJob.create(DEVICE, source, "main:start", hyperparameters={"k": 2})

    assert job.result(WAIT_S) == {"result": [1, "beside", 2]}
    assert (job.job.folder / "bundle" / "requirements.lock").read_text() == "# what it needs\nnumpy>=2\n"
    assert list((job.job.folder / "results").iterdir()) == [job.job.folder / "results" / "results.json"]
    channels = AwsQuantumJob.create(
        DEVICE, "channels.py", input_data={"one": f"s3://{BUCKET}/channels/a", "all": f"s3://{BUCKET}/channels"}
    )
    assert channels.result(WAIT_S) == {"all": ["a.csv", "ab.csv", "more"], "one": ["a.csv", "ab.csv"]}
    for wrong, message in {"main:stop": "no 'stop'", "other": "not found: other.*holds algo, main.py, table.txt"}.items():
        with pytest.raises(InvalidCall, match=message):
            AwsQuantumJob.create(DEVICE, source, wrong)
    in_s3("torn.tar.gz")
    with pytest.raises(InvalidCall, match=r"'far'\].*cannot be fetched: there is nothing under"):
        AwsQuantumJob.create(DEVICE, "script.py", input_data={"far": f"s3://{BUCKET}/other"})
    for name, message in {"none": "cannot be fetched", "torn": "no archive that can be unpacked"}.items():
        with pytest.raises(InvalidCall, match=message):
            AwsQuantumJob.create(DEVICE, f"s3://{BUCKET}/{name}.tar.gz", "main:start")


@pytest.fixture
def in_s3(monkeypatch):
    """Puts an archive of files into an S3 of this machine; one of no files is torn."""
    session = boto3.Session("emulated", "emulated", region_name="us-east-1")
    with emulator() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        client = session.client("s3", endpoint_url=running.url)
        client.create_bucket(Bucket=BUCKET)

        def put(key, *names):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                for name in names:
                    archive.add(name)
            client.put_object(Bucket=BUCKET, Key=key, Body=packed.getvalue() if names else packed.getvalue()[:8])
            return f"s3://{BUCKET}/{key}"

        yield put


def test_hyperparameters_that_are_no_mapping_are_refused(folder, here):
    with pytest.raises(InvalidCall, match="must be a mapping of names to values, not list"):
        AwsQuantumJob.create(DEVICE, "script.py", hyperparameters=[1])  # type: ignore[arg-type] # on purpose


def test_a_hyperparameter_that_cannot_be_text_is_named(folder, here):
    with pytest.raises(InvalidCall, match=r"hyperparameters\['x'\]: a Unspeakable that cannot be text"):
        AwsQuantumJob.create(DEVICE, "script.py", hyperparameters={"x": Unspeakable()})
