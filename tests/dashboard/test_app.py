"""What the server answers, over real job folders."""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import replace

import pytest

from pl_hybridjobs import Job, hybrid_job
from pl_hybridjobs.cost import account
from pl_hybridjobs.cost.ledger import Charge, Cost
from pl_hybridjobs.cost.prices import money
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
from tests.dashboard.folders import log_metrics, make, write_log

OURS = {"X-Hybridjobs": "1"}


def test_a_glance_has_last_metrics_progress_and_cost(client, jobs_home):
    folder = make(
        jobs_home, params={"steps": 8, "name": "x" * 1000, "rate": 0.1}, metrics={"energy": [3.0, math.nan, 1.0, 2.0], "best": [math.inf]}
    )
    account.of_job(folder.path).reserve([Charge("key", "device", shots=100, usd=money(0.3))])
    job_id = folder.path.name

    found = client.get("/api/glances", params={"id": [job_id, "gone"]}).json()

    assert list(found) == [job_id]
    glance = found[job_id]
    assert glance["metrics"]["energy"] == {"last": 2.0, "step": 3, "min": 1.0, "max": 3.0}
    assert glance["metrics"]["best"] == {"last": "inf", "step": 0, "min": None, "max": None}
    assert (glance["progress"]["done"], glance["progress"]["total"]) == (4, 8)
    assert (glance["params"]["rate"], len(glance["params"]["name"])) == (0.1, 226)
    assert glance["cost"]["usd"] == "0.30"
    assert client.get("/api/account").json()["cost"]["usd"] == "0.30"


def test_a_glance_has_what_a_hired_machine_costs_without_any_task(client, jobs_home, monkeypatch):
    job_id = make(jobs_home).path.name
    monkeypatch.setattr(Job, "cost", Cost(usd_final=money("0.115"), seconds=3600.0))

    assert client.get("/api/glances", params={"id": job_id}).json()[job_id]["cost"]["usd"] == "0.115"


def test_a_hired_machine_of_an_unknown_price_has_no_price_and_no_tasks(client, jobs_home, monkeypatch):
    job_id = make(jobs_home).path.name
    part = Cost(seconds=60.0, unknown_tasks=1)
    monkeypatch.setattr(Job, "cost", replace(part, by_device={"braket-instance:ml.p4d.24xlarge": part}))

    told = client.get("/api/glances", params={"id": job_id}).json()[job_id]["cost"]

    assert told["usd"] is None
    assert told["text"] == told["devices"]["braket-instance:ml.p4d.24xlarge"] == "60 s; the price of 1 instance is not known"


def test_a_curve_comes_thinned_zoomed_and_smoothed(client, jobs_home):
    values = [math.sin(i / 50) for i in range(20_000)]
    values[777] = math.nan
    job_id = make(jobs_home, metrics={"e": values, "f": [1.0]}).path.name

    (whole,) = client.get("/api/series", params={"job": job_id, "name": "e", "columns": 100}).json()
    (part,) = client.get("/api/series", params={"job": job_id, "name": "e", "columns": 100, "from": 700.5, "to": 800, "smooth": 0.9}).json()

    assert (whole["job"], whole["name"], whole["count"]) == (job_id, "e", 20_000)
    assert 100 < len(whole["raw"]["x"]) <= 507
    assert (whole["raw"]["x"][0], whole["raw"]["x"][-1]) == (0, 19_999)
    assert "smooth" not in whole
    assert part["raw"]["x"] == list(range(700, 802))
    assert part["raw"]["y"][77] is None
    assert part["raw"]["y"][3] == values[703]
    assert part["smooth"]["y"][3] != values[703]


def test_curves_of_several_jobs_come_together_over_time_too(client, jobs_home):
    one, other = (make(jobs_home, f"job-{i}", metrics={"e": [1.0, 2.0]}, age_s=i).path.name for i in range(2))

    curves = client.get("/api/series", params={"job": [one, other], "name": ["e", "missing"], "x": "time"}).json()

    assert [curve["job"] for curve in curves] == [one, other]
    assert curves[0]["raw"]["x"][0] == 0
    assert curves[0]["raw"]["x"][1] >= 0


@pytest.mark.parametrize("wrong", [{"smooth": "1"}, {"smooth": "x"}, {"columns": "1e9"}, {"from": "nan"}])
def test_a_question_that_makes_no_sense_is_refused(client, wrong):
    assert client.get("/api/series", params={"job": [], **wrong}).status_code == 400


def test_a_curve_that_grows_is_read_on(client, jobs_home):
    folder = make(jobs_home, ended=None, metrics={"e": [1.0]})
    ask = {"job": folder.path.name, "name": "e"}
    assert client.get("/api/series", params=ask).json()[0]["raw"]["y"] == [1.0]

    log_metrics(folder, {"e": [5.0]}, start=1)

    assert client.get("/api/series", params=ask).json()[0]["raw"] == {"x": [0, 1], "y": [1.0, 5.0]}


def test_a_jobs_page_has_its_arguments_result_checkpoints_and_files(client, jobs_home):
    folder = make(
        jobs_home,
        params={"steps": 3, "layers": [1, 2], "angles": [0.25] * 20},
        files={"a.txt": b"text", "sub/b.bin": b"12345"},
        budget={"max_usd": "5"},
    )
    CheckpointStore(folder.checkpoints).save({"x": 1}, 7)

    told = client.get(f"/api/jobs/{folder.path.name}").json()

    assert told["params"] == {"steps": "3", "layers": "[1, 2]", "angles": json.dumps([0.25] * 20, indent=1)}
    assert json.loads(told["result"]) == {"energy": -1.137}
    assert [(file["path"], file["bytes"]) for file in told["files"]] == [("a.txt", 4), ("sub/b.bin", 5)]
    assert [(one["step"], one["good"]) for one in told["checkpoints"]] == [(7, True)]
    assert told["budget"]["max_usd"] == "5.00"
    assert told["error"] is None


def test_a_failed_jobs_page_has_its_error(client, jobs_home):
    told = client.get(f"/api/jobs/{make(jobs_home, ended='failed').path.name}").json()

    assert told["error"] == {"type": "ValueError", "message": "no good", "traceback": "Traceback ..."}


def test_a_damaged_job_is_an_answer_not_a_crash(client, jobs_home):
    folder = make(jobs_home)
    folder.spec_file.write_text("{")
    job_id = folder.path.name

    assert client.get("/api/glances", params={"id": job_id}).json()[job_id]["params"] == {}
    answer = client.get(f"/api/jobs/{job_id}")
    assert (answer.status_code, "damaged" in answer.json()["error"]) == (500, True)


@pytest.mark.parametrize(
    "path", ["/api/jobs/none", "/api/jobs/..%2f..", "/api/jobs/none/log", "/api/jobs/none/file?path=x", "/api/series?job=none&name=x"]
)
def test_a_job_that_is_not_there_is_404(client, path):
    assert client.get(path).status_code == 404


def test_a_file_is_saved_never_shown(client, jobs_home):
    folder = make(jobs_home, files={"page.html": b"<script>alert(1)</script>", "é 1.txt": b"x"})

    got = client.get(f"/api/jobs/{folder.path.name}/file", params={"path": "page.html"})

    assert got.content == b"<script>alert(1)</script>"
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == 'attachment; filename="page.html"'
    assert client.get(f"/api/jobs/{folder.path.name}/file", params={"path": "é 1.txt"}).content == b"x"


def test_no_file_outside_of_the_results_can_be_had(client, jobs_home, tmp_path):
    folder = make(jobs_home, files={"a.txt": b"x"})
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.symlink(secret, folder.results / "link")
    os.symlink(tmp_path, folder.results / "folder")

    for path in ("../job.json", "..", "", ".", str(secret), "link", "folder/secret", "none", "a.txt/x", "\0"):
        assert client.get(f"/api/jobs/{folder.path.name}/file", params={"path": path}).status_code == 404, path
    assert [file["path"] for file in client.get(f"/api/jobs/{folder.path.name}").json()["files"]] == ["a.txt"]


def test_a_log_comes_from_its_end_onwards_and_backwards(client, jobs_home):
    lines = [f"line {number} {'x' * 60}" for number in range(4000)]
    folder = make(jobs_home, ended=None, log=lines)
    address = f"/api/jobs/{folder.path.name}/log"

    newest = client.get(address).json()
    assert newest["more"]
    assert newest["text"].endswith(f"Z {lines[-1]}\n")
    assert newest["text"].startswith("2026-11-21T")

    parts, piece = [newest["text"]], newest
    while piece["more"]:
        piece = client.get(address, params={"way": "before", "attempt": 1, "place": piece["start"]}).json()
        parts.insert(0, piece["text"])
    assert [line.partition(" ")[2] for line in "".join(parts).splitlines()] == lines

    write_log(folder, ["one more"])
    with folder.attempt(1).log.open("a") as file:
        file.write("half a li")
    after = client.get(address, params={"way": "after", "attempt": 1, "place": newest["end"]}).json()
    assert after["text"] == "2026-11-21T01:23:45.678901Z one more\n"
    assert client.get(address, params={"way": "after", "attempt": 1, "place": after["end"]}).json()["text"] == ""


def test_a_log_goes_on_in_the_next_attempt_and_back(client, jobs_home):
    folder = make(jobs_home, ended=None, log=["first"])
    address = f"/api/jobs/{folder.path.name}/log"
    end = client.get(address).json()["end"]
    folder.attempt(2).path.mkdir()
    folder.attempt(2).log.write_text("2026-11-21T01:23:46.678901Z second\n")

    after = client.get(address, params={"way": "after", "attempt": 1, "place": end}).json()
    newest = client.get(address).json()
    before = client.get(address, params={"way": "before", "attempt": 2, "place": 0}).json()

    assert (after["attempt"], after["text"], after["more"]) == (2, "2026-11-21T01:23:46.678901Z second\n", False)
    assert (newest["attempt"], newest["more"]) == (2, True)
    assert (before["attempt"], before["text"], before["more"]) == (1, "2026-11-21T01:23:45.678901Z first\n", False)


def test_the_stream_tells_jobs_as_server_sent_events(client, jobs_home):
    make(jobs_home, "vqe")

    with client.stream("GET", "/api/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = (json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: "))
        assert next(events)["whole"]
        assert [row["name"] for row in next(events)["rows"]] == ["vqe"]


@hybrid_job
def sleeper(seconds: float = 60.0, folder: str = ""):
    import time
    from pathlib import Path

    Path(folder, "began").touch()
    time.sleep(seconds)
    return "slept"


def test_a_job_is_cancelled_and_its_work_goes_on_in_a_new_one(client, tmp_path):
    job = sleeper(folder=str(tmp_path))
    while not (tmp_path / "began").exists():
        threading.Event().wait(0.01)

    assert client.post(f"/api/jobs/{job.id}/resume", headers=OURS).status_code == 409
    cancelled = client.post(f"/api/jobs/{job.id}/cancel", headers=OURS).json()
    resumed = client.post(f"/api/jobs/{job.id}/resume", headers=OURS).json()
    client.post(f"/api/jobs/{resumed['id']}/cancel", headers=OURS).raise_for_status()

    assert cancelled == {"id": job.id, "name": job.name, "status": "cancelled"}
    assert job.status == "cancelled"
    assert resumed["id"] != job.id
    assert resumed["status"] in ("queued", "running")


def test_a_refusal_is_told_in_words(client, jobs_home):
    answer = client.post(f"/api/jobs/{make(jobs_home).path.name}/resume", headers=OURS)

    assert answer.status_code == 409
    assert "completed" in answer.json()["error"]
