"""What TensorBoard shows of a job is what counts of its metrics, whatever happens to the job, the mirror and the files."""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from pl_hybridjobs import hybrid_job, open_job
from pl_hybridjobs.errors import InvalidCall, TrackerError
from pl_hybridjobs.jobs import trackers
from pl_hybridjobs.jobs.trackers import MirrorFiles, Tracker, open_tracker
from pl_hybridjobs.jobs.trackers.mirror import Mirror, mirror, send
from tests.jobs.mirrored import PlayedJob


@pytest.fixture
def runs(tmp_path):
    return tmp_path / 'it\'s "runs"'


@pytest.fixture(autouse=True, scope="module")
def opened():
    """All files that mirrors opened, also those that tests forgot as if they were killed."""
    yield
    for tracker in _opened:
        tracker.close()


_opened: list[Tracker] = []


def mirror_of(job, runs):
    _opened.append(open_tracker("tensorboard", str(runs), job.spec))
    return Mirror(job.folder, _opened[-1])


def run_of(job, runs):
    return runs / f"{job.spec.name}-{job.spec.id[-8:]}"


def reader_of(job, runs):
    return EventAccumulator(str(run_of(job, runs)), size_guidance={"scalars": 0})


def shown(reader):
    """Step and value by metric, as TensorBoard has them after it has looked once more."""
    reader.Reload()
    scalars = {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    return {tag: points for tag, points in scalars.items() if points}


def single(points):
    """What is left in single precision."""
    return {name: [(step, pytest.approx(value, rel=1e-6, nan_ok=True)) for step, value in values] for name, values in points.items()}


def test_values_arrive_while_the_job_runs(runs):
    job = PlayedJob()
    mirror = mirror_of(job, runs)
    job.log.log("énergie/<H₂>😀", -1.0)
    mirror.look()
    reader = reader_of(job, runs)
    assert shown(reader) == {"énergie/<H₂>😀": [(0, -1.0)]}

    job.log.log("énergie/<H₂>😀", -1.125)
    job.log.log("x" * 5000, 0.5, 7)
    mirror.look()

    assert shown(reader) == {"énergie/<H₂>😀": [(0, -1.0), (1, -1.125)], "x" * 5000: [(7, 0.5)]}
    assert len(list(run_of(job, runs).iterdir())) == 1


def test_values_that_are_no_numbers_stay_what_they_are(runs):
    job = PlayedJob()
    for value in (math.nan, math.inf, -math.inf, 1e300):
        job.log.log("cost", value)
    mirror_of(job, runs).look()

    (points,) = shown(reader_of(job, runs)).values()

    assert [str(value) for _, value in points] == ["nan", "inf", "-inf", "3.4028234663852886e+38"]


def test_of_a_job_that_went_on_from_a_checkpoint_no_step_is_shown_twice(runs):
    job = PlayedJob()
    for step in range(4):
        job.log.log("cost", float(step))
    job.log.log("epoch", 0.0)
    cursor = job.log.cursor()
    for step in range(4, 7):
        job.log.log("cost", float(step))
    job.log.log("never again", 1.0)
    mirror = mirror_of(job, runs)
    mirror.look()
    reader = reader_of(job, runs)
    assert len(shown(reader)["cost"]) == 7

    job.interrupt()
    job.resume(cursor)
    for step in range(4, 9):
        job.log.log("cost", step + 0.5)
    job.log.log("epoch", 1.0)
    mirror.look()

    expected = {"cost": [(s, s + 0.5 * (s > 3)) for s in range(9)], "epoch": [(0, 0.0), (1, 1.0)]}
    assert shown(reader) == expected, "a TensorBoard that was running all the time"
    assert shown(reader_of(job, runs)) == expected, "one that was opened later"


def test_another_mirror_goes_on_where_one_was_killed_in_the_middle_of_a_record(runs):
    job = PlayedJob()
    for step in range(20):
        job.log.log("cost", float(step))
    mirror_of(job, runs).look()
    (file,) = run_of(job, runs).iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    reader = reader_of(job, runs)
    assert len(shown(reader)["cost"]) == 19
    job.log.log("cost", 20.0)

    mirror_of(job, runs).look()

    assert shown(reader) == shown(reader_of(job, runs)) == {"cost": [(step, float(step)) for step in range(21)]}
    assert file.stat().st_size == 0, "emptied: a TensorBoard that runs looks for the next file from it"


def test_files_that_somebody_deleted_are_written_again(runs):
    job = PlayedJob()
    job.log.log("cost", 1.0)
    mirror = mirror_of(job, runs)
    mirror.look()
    for file in run_of(job, runs).iterdir():
        file.unlink()
    job.log.log("cost", 2.0)

    mirror.look()

    assert shown(reader_of(job, runs)) == {"cost": [(0, 1.0), (1, 2.0)]}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_what_is_shown_is_what_counts(tmp_path_factory, data):
    runs = tmp_path_factory.mktemp("runs")
    job = PlayedJob()
    cursors = [job.log.cursor()]
    mirror = mirror_of(job, runs)
    reader = None
    for what in data.draw(st.lists(st.sampled_from(["log", "log", "log", "late", "save", "resume", "look", "kill"]), max_size=25)):
        if what == "log":
            job.log.log(data.draw(st.sampled_from("ab")), float(data.draw(st.integers(0, 99))))
        elif what == "late":
            job.log.log("a", 100.0, data.draw(st.integers(0, 5)))
        elif what == "save":
            cursors.append(job.log.cursor())
        elif what == "resume":
            job.interrupt()
            job.resume(data.draw(st.sampled_from(cursors)))
        elif what == "kill":
            mirror = mirror_of(job, runs)
        else:
            mirror.look()
            reader = reader or reader_of(job, runs)
            assert shown(reader) == single(job.counting())
    job.complete()
    mirror.look()

    assert shown(reader_of(job, runs)) == single(job.counting())


def test_jobs_share_a_folder_each_with_its_arguments_and_tags_and_without_secrets(runs):
    secret = "hf_" + "a" * 34
    first = PlayedJob(
        params={"steps": 5, "lr": 0.5, "fast": True, "ansatz": "hea", "layers": [1, 2], "note": f"key {secret}"},
        tags={"study": "h2", "api_token": "0123456789abcdef"},
        device="lightning.qubit",
    )
    second = PlayedJob(params={"steps": 6})
    assert second.spec.name == "vqe-2"
    for job in (first, second):
        job.log.log("cost", 1.0)
        job.complete()
        send(job.folder, "tensorboard", str(runs))

    assert len(list(runs.iterdir())) == 2
    reader = reader_of(first, runs)
    assert shown(reader) == {"cost": [(0, 1.0)]}
    content = reader.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    told = metadata.parse_session_start_info_plugin_data(content).hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in told.items()}
    assert values == {
        "steps": 5,
        "lr": 0.5,
        "fast": True,
        "ansatz": "hea",
        "layers": "[1, 2]",
        "note": "***",
        "tag:study": "h2",
        "tag:api_token": "***",
        "device": "lightning.qubit",
    }
    ended = metadata.parse_session_end_info_plugin_data(reader.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content)
    assert ended.status == 1, "success"
    assert secret.encode() not in b"".join(path.read_bytes() for path in runs.rglob("*.*"))


def test_a_mirror_that_cannot_write_says_so_and_catches_up(runs):
    job = PlayedJob()
    for step in range(1234):
        job.log.log_row({"cost": 1.0}, step)
    runs.write_text("a file is in the way")
    said: list[str] = []
    job.complete()
    mirror = mirror_of(job, runs)
    follower = threading.Thread(target=mirror.follow, args=(said.append,), kwargs={"longest_pause_s": 0.05})
    follower.start()
    while len(said) < 3:
        time.sleep(0.01)
    assert "behind by 1,23" in said[0]
    assert "next try in 0.05 s" in said[1]
    runs.unlink()
    follower.join(30)

    assert said[-2:] == ["caught up", "everything is there; the job is completed"]
    assert len(shown(reader_of(job, runs))["cost"]) == 1234


def test_a_mirror_gives_up_long_after_the_job_has_ended_and_says_how_to_go_on(runs):
    job = PlayedJob()
    job.log.log("cost", 1.0)
    job.complete()
    runs.write_text("a file is in the way")
    said: list[str] = []

    assert not mirror_of(job, runs).follow(said.append, longest_pause_s=0.01, give_up_s=0.05)

    assert "gave up, 2 values behind" in said[-1]
    assert "`hybridjobs mirror vqe` goes on" in said[-1]


def test_there_is_one_mirror_of_a_job_to_a_place(runs):
    job = PlayedJob()
    thread = threading.Thread(target=mirror, args=(job.folder, "tensorboard", str(runs), lambda text: None))
    thread.start()
    while not run_of(job, runs).exists():
        time.sleep(0.01)

    with pytest.raises(TrackerError, match="at work already"):
        send(job.folder, "tensorboard", str(runs))

    job.complete()
    thread.join(30)
    assert not thread.is_alive()


def test_a_killed_job_that_resumes_by_itself_is_mirrored_to_its_end(runs, jobs_home):
    @hybrid_job(mirror={"tensorboard": runs}, retries=1)
    def restless(steps):
        import os
        import signal

        from pl_hybridjobs import current_job, load_checkpoint, log_metric, save_checkpoint

        begin = (load_checkpoint() or {"step": -1})["step"] + 1
        for step in range(begin, steps):
            log_metric("attempt", float(current_job().attempt), step)
            if step == 2:
                save_checkpoint({"step": step}, step=step)
            if step == 4 and begin == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    job = restless(6)
    assert str(job.wait(120)) == "completed"
    log = MirrorFiles.of(job._folder, "tensorboard", job.spec.mirrors["tensorboard"]).log
    deadline = time.monotonic() + 60
    while "everything is there" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.05)

    assert shown(reader_of(job, runs)) == {"attempt": [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]}
    assert "everything is there" in trackers.last_words(job._folder)[log.stem]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorbord", "no tracker 'tensorbord'.*Did you mean 'tensorboard'"),
        (7, "a tracker's name or a dict"),
        ({"tensorboard": 7}, "must be a folder or an address"),
        ({"tensorboard": "s3://bucket/runs"}, "folder of this machine"),
        ({"mlflow": "https://me:pw@tracker"}, "MLFLOW_TRACKING_USERNAME"),
        ({"mlflow": "https://tracker?access_token=x"}, "credential in it"),
    ],
)
def test_a_wrong_mirror_is_refused_at_decoration(given, said):
    with pytest.raises(InvalidCall, match=said):
        hybrid_job(lambda: None, mirror=given)


def test_without_the_trackers_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)

    with pytest.raises(InvalidCall, match=r"pip install 'pl-hybridjobs\[tensorboard\]'"):
        hybrid_job(print, mirror="tensorboard")("x")


def test_without_an_address_mlflow_asks_for_one(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    assert "set MLFLOW_TRACKING_URI" in trackers.complaints("mlflow", contact=True)[0]


@pytest.mark.parametrize(("target", "is_known"), [("ftp://tracker", False), ("sqlite:///x.db", True), ("mysql+pymysql://db/x", True)])
def test_mlflow_gets_addresses_that_it_knows(target, is_known):
    found = trackers.complaints({"mlflow": target}, contact=True)

    assert is_known == (found == [])
    assert is_known or "an address that MLflow knows (databricks, " in found[0]


def test_places_become_whole(monkeypatch, jobs_home):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "h2")
    here = Path.cwd()

    assert trackers.targets(None) == {}
    assert trackers.targets("tensorboard") == {"tensorboard": str(jobs_home / "tensorboard")}
    assert trackers.targets({"tensorboard": "runs", "mlflow": None}) == {
        "tensorboard": str(here / "runs"),
        "mlflow": "http://tracker:5000#h2",
    }
    assert trackers.targets({"mlflow": "sqlite:///m.db#mine"}) == {"mlflow": f"sqlite:///{here}/m.db#mine"}
    assert trackers.targets({"mlflow": "ml runs"}) == {"mlflow": f"{(here / 'ml runs').as_uri()}#h2"}


def test_export_refuses_what_is_no_kind_and_what_has_no_target(tmp_path):
    job = PlayedJob()
    job.log.log("cost", 0.1)
    opened = open_job(job.folder.path)
    with pytest.raises(InvalidCall, match="Did you mean 'parquet'"):
        opened.export("parket", tmp_path / "x")
    with pytest.raises(InvalidCall, match=r"job.export\('csv', 'vqe.csv'\)"):
        opened.export("csv")

    opened.export("csv", tmp_path / "x.csv")

    assert (tmp_path / "x.csv").read_text() == opened.metrics().to_csv()
