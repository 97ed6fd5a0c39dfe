"""What MLflow holds of a job is what counts of its metrics, whatever happens to the job, the mirror and the tracking server."""

from __future__ import annotations

import math
import threading
import time

import pytest
from mlflow.tracking import MlflowClient

from pl_hybridjobs.errors import TrackerError
from pl_hybridjobs.jobs import trackers
from pl_hybridjobs.jobs.trackers import mirror as mirrors
from pl_hybridjobs.jobs.trackers import open_tracker
from pl_hybridjobs.jobs.trackers.mirror import Mirror, send
from pl_hybridjobs.jobs.trackers.mlflow import key_of
from tests.jobs.mirrored import PlayedJob, tracking_server


@pytest.fixture(autouse=True)
def mlflow_here(monkeypatch):
    """A store of files, which needs no other package; short tries."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path):
    return (tmp_path / "ml runs").as_uri()


def mirror_of(job, target):
    return Mirror(job.folder, open_tracker("mlflow", target, job.spec))


def runs_in(uri, experiment="vqe"):
    client = MlflowClient(tracking_uri=uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def history(uri, run):
    """Step and value by metric, as they were sent."""
    client = MlflowClient(tracking_uri=uri)
    return {key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics}


def shown(uri):
    """The same, of the only run."""
    (run,) = runs_in(uri)
    return history(uri, run)


def test_a_run_has_the_jobs_metrics_arguments_tags_and_status(store):
    names = {
        "cost": "cost",
        "énergie/ H2": "énergie/ H2",
        "a<b>😀": key_of("a<b>😀"),
        "x" * 400: key_of("x" * 400),
        "/a//b": key_of("/a//b"),
    }
    job = PlayedJob(
        params={"steps": 5, "lr": 0.5, "layers": [1, 2], "note": "hf_" + "a" * 34},
        tags={"study": "h2", "api_token": "0123456789abcdef"},
        device="lightning.qubit",
        provenance={"git_commit": "abc"},
    )
    mirror = mirror_of(job, f"{store}#h2 studies")
    mirror.look()
    (run,) = runs_in(store, "h2 studies")
    assert run.info.status == "RUNNING"
    for step in range(3):
        for name in names:
            job.log.log(name, step / 7, step)
    for value in (math.nan, math.inf, -math.inf):
        job.log.log("odd", value)
    mirror.look()
    job.complete()
    mirror.look()

    (run,) = runs_in(store, "h2 studies")
    found = history(store, run)
    odd = sorted(str(value) for _, value in found.pop("odd"))
    assert odd == ["-inf", "inf", "nan"]
    assert found == {key: [(step, step / 7) for step in range(3)] for key in names.values()}
    assert run.info.run_name == "vqe"
    assert run.info.status == "FINISHED"
    assert abs(run.info.end_time - 1000 * job.folder.outcome.stat().st_mtime) < 2
    assert run.data.params == {"steps": "5", "lr": "0.5", "layers": "[1, 2]", "note": "***"}
    told = run.data.tags
    assert told["study"] == "h2"
    assert told["api_token"] == "***"
    assert told["hybridjobs.status"] == "completed"
    assert told["hybridjobs.git_commit"] == "abc"
    assert told["hybridjobs.device"] == "lightning.qubit"
    assert told[f"hybridjobs.metric.{names['a<b>😀']}"] == "a<b>😀"


def played_to_a_kill(mirror_after):
    """A job that was killed at step 6 with a checkpoint of step 3."""
    job = PlayedJob()
    for step in range(4):
        job.log.log("cost", float(step))
    cursor = job.log.cursor()
    for step in range(4, 7):
        job.log.log("cost", float(step))
    mirror = mirror_after(job)
    mirror.look()
    job.interrupt()
    return job, cursor, mirror


def test_steps_that_a_resumed_job_does_again_are_there_once(store):
    job, cursor, mirror = played_to_a_kill(lambda job: mirror_of(job, store))
    (before,) = runs_in(store)
    job.resume(cursor)
    job.log.log("cost", 4.0)
    mirror.look()
    for step in range(5, 9):
        job.log.log("cost", float(step))
    mirror.look()
    job.complete()
    mirror.look()

    assert shown(store) == {"cost": [(step, float(step)) for step in range(9)]}
    assert runs_in(store)[0].info.run_id == before.info.run_id


@pytest.mark.parametrize("ending", ["other values", "fewer steps", "fewer steps, another mirror"])
def test_where_a_resumed_job_goes_another_way_a_new_run_replaces_the_old(store, ending):
    job, cursor, mirror = played_to_a_kill(lambda job: mirror_of(job, store))
    (before,) = runs_in(store)
    job.resume(cursor)
    job.log.log("cost", 4.5 if ending == "other values" else 4.0)
    if "another" not in ending:
        mirror.look()
    job.complete()
    (mirror_of(job, store) if "another" in ending else mirror).look()

    assert shown(store) == {"cost": job.counting()["cost"]}
    (after,) = runs_in(store)
    assert after.data.tags["hybridjobs.replaces_run"] == before.info.run_id
    assert after.info.status == "FINISHED"


def test_a_mirror_that_was_killed_goes_on_with_the_same_run_and_leaves_what_others_logged_there(store):
    job = PlayedJob()
    job.log.log("cost", 1.0)
    mirror_of(job, store).look()
    (run,) = runs_in(store)
    MlflowClient(tracking_uri=store).log_metric(run.info.run_id, "mine", 5.0)
    job.log.log("cost", 2.0)
    job.complete()

    mirror_of(job, store).look()

    assert shown(store) == {"cost": [(0, 1.0), (1, 2.0)], "mine": [(0, 5.0)]}


def test_a_step_that_one_attempt_logs_twice_is_there_twice(store):
    job = PlayedJob()
    mirror = mirror_of(job, store)
    for value in (1.0, 2.0):
        job.log.log("cost", value, 0)
        mirror.look()
    job.complete()
    mirror_of(job, store).look()

    assert shown(store) == {"cost": [(0, 1.0), (0, 2.0)]}


def test_a_server_that_refuses_hangs_loses_replies_and_vanishes_has_everything_once_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "LOOK_EVERY_S", 0.05)
    job = PlayedJob()
    said: list[str] = []

    def wait_for(text, since):
        deadline = time.monotonic() + 60
        while not any(text in line for line in said[since:]):
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        return len(said)

    with tracking_server(tmp_path / "store") as server:
        server.stop()
        mirror = mirror_of(job, server.uri)
        follower = threading.Thread(target=mirror.follow, args=(said.append,), kwargs={"longest_pause_s": 0.05})
        follower.start()
        job.log.log("cost", 0.0)
        at = wait_for("ConnectionRefusedError", 0)
        server.start()
        at = wait_for("caught up", at)
        for fault, words in [("hang", "TimeoutError"), ("refuse", "503"), ("lose_reply", "behind by")]:
            server.fault = fault
            for _ in range(3):
                job.log.log("cost", float(len(job.counting()["cost"])))
            at = wait_for(words, at)
            server.fault = ""
            at = wait_for("caught up", at)
        job.complete()
        follower.join(60)
        assert not follower.is_alive()

        assert said[-1] == "everything is there; the job is completed"
        assert shown(server.uri) == {"cost": [(step, float(step)) for step in range(10)]}
        sent = server.requests.count("runs/create")
        assert sent == 1


def test_an_export_to_a_server_that_is_not_there_says_so():
    job = PlayedJob()

    with pytest.raises(TrackerError, match=r"mlflow at http://127.0.0.1:9 did not take the metrics of vqe: ConnectionRefusedError"):
        send(job.folder, "mlflow", trackers.place("mlflow", "http://127.0.0.1:9"))


@pytest.mark.parametrize(
    "name", ["ok name/a.b:c-d_e", "日本/コスト", "..", "a/../b", ".", "😀", "y" * 250, "y" * 251, "/", "a//b", "é" * 300]
)
def test_names_become_what_mlflow_takes_and_stay_apart(name):
    from mlflow.utils.validation import _validate_metric_name

    key = key_of(name)

    _validate_metric_name(key)
    assert (key == name) == (name in ("ok name/a.b:c-d_e", "日本/コスト", "y" * 250))
    assert key_of(name + "<") != key_of(name + ">")
