"""A job's folder at two places: what is taken, when, and what never is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from decimal import Decimal
from pathlib import Path

import boto3
import pytest

from pl_hybridjobs.braket import record
from pl_hybridjobs.braket.inside import SNAPSHOT
from pl_hybridjobs.braket.logs import GROUP, LogReader
from pl_hybridjobs.braket.mirror import Mirror
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.cost.account import of_job, of_user
from pl_hybridjobs.cost.ledger import Charge, Ledger
from pl_hybridjobs.errors import FolderCorrupt, ProviderError
from pl_hybridjobs.jobs import progress
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
from pl_hybridjobs.jobs.durable import dump_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.metrics import read_metrics
from tests.braket.boxes import packed
from tests.jobs import functions

BUCKET = "amazon-braket-us-east-1-123456789012"


class There:
    """The other place."""

    def __init__(self, folder: JobFolder, prefix: str, start: int = 0) -> None:
        self.folder, self.prefix = folder, prefix
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.run = record.Run(record.home(folder) / "1")
        self.run.begin({"folder": f"s3://{BUCKET}/{prefix}", "epoch": start, "request": {}, "region": "us-east-1", "time": 0, "door": {}})

    def put(self, name: str, data: bytes | str) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=data)

    def put_folder(self, root: Path, name: str) -> None:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(root).as_posix()}", path.read_bytes())

    def mirror(self) -> Mirror:
        return Mirror(Session(), self.folder, self.run)

    def names(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", ())
        return {one["Key"].removeprefix(f"{self.prefix}/") for one in found}


@pytest.fixture
def there(emulated, request) -> There:
    emulated()
    return There(packed(functions.add, 1), f"jobs/{request.node.name}")


def test_files_come_once_and_again_when_they_change(there):
    there.put("results/a/b c.txt", "one")
    there.put("attempts/1/lease.json", dump_sealed({"epoch": 1}))
    there.mirror().pull()
    local = there.folder.results / "a/b c.txt"
    assert local.read_text() == "one"
    local.write_text("newer here")

    there.mirror().pull()
    assert local.read_text() == "newer here", "what has not changed there is not taken again"

    there.put("results/a/b c.txt", "two")
    there.mirror().pull()
    assert local.read_text() == "two"
    assert there.folder.attempt(1).lease.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "results/../../outside.txt",
        "results/.x.1234.tmp",
        "job.json",
        "bundle/call.pkl",
        "budget.json",
        "/etc/x",
        "spend.sqlite",
    ],
)
def test_what_is_none_of_its_business_is_not_taken(there, name):
    before = there.folder.spec_file.read_bytes()
    there.put(name, "evil")

    there.mirror().pull()

    assert there.folder.spec_file.read_bytes() == before
    found = [path for path in there.folder.path.parent.parent.rglob("*") if path.is_file() and b"evil" in path.read_bytes()]
    assert not found


def test_a_link_does_not_lead_out_of_the_folder(there, tmp_path):
    there.folder.results.mkdir(exist_ok=True)
    (there.folder.results / "away").symlink_to(tmp_path)
    there.put("results/away/x.txt", "evil")

    there.mirror().pull()

    assert not (tmp_path / "x.txt").exists()


def test_a_half_written_state_file_is_not_taken(there):
    whole = dump_sealed({"code": 0, "detail": "", "time": 1.0, "again": False})
    there.put("attempts/1/exit.json", whole[:-20])
    there.mirror().pull()
    assert not there.folder.attempt(1).exit.exists()

    there.put("attempts/1/exit.json", whole)
    there.mirror().pull()
    assert there.folder.attempt(1).exit.read_bytes() == whole


def test_metrics_only_get_longer(there):
    lines = [f"[{n}]\n".encode() for n in range(10)]
    there.put("metrics.jsonl", b"".join(lines[:5]) + b"[5")
    there.mirror().pull()
    there.put("metrics.jsonl", b"".join(lines))
    there.mirror().pull()
    assert there.folder.metrics.read_bytes() == b"".join(lines)

    there.put("metrics.jsonl", b"".join(lines[:3]))
    there.mirror().pull()
    assert there.folder.metrics.read_bytes() == b"".join(lines)


def test_how_far_a_loop_is_shows_here(there):
    attempt = there.folder.attempt(1)
    attempt.path.mkdir(parents=True)
    progress.begin(attempt, "train", "loss", 0, 40)
    there.put("attempts/1/loops.jsonl", attempt.loops.read_bytes())
    attempt.loops.unlink()

    there.mirror().pull()

    begun = progress.read(there.folder, read_metrics(there.folder.metrics))
    assert begun is not None
    assert (begun.loop, begun.total) == ("train", 40)


def saved(folder: Path, *steps: int) -> CheckpointStore:
    store = CheckpointStore(folder, keep=99)
    for step in steps:
        store.save({"step": step}, step)
    store.settle()
    return store


def test_checkpoints_are_taken_whole_or_not_yet(there, tmp_path):
    saved(tmp_path / "made", 1, 2)
    there.put_folder(tmp_path / "made/00000001", "checkpoints/00000001")
    there.put("checkpoints/00000002/manifest.json", (tmp_path / "made/00000002/manifest.json").read_bytes())
    state = (tmp_path / "made/00000002/state.json").read_bytes()
    there.put("checkpoints/00000002/state.json", state[:-1] + b" ")

    there.mirror().pull()
    mine = CheckpointStore(there.folder.checkpoints)
    assert [(c.step, c.good) for c in mine.list()] == [(1, True)]

    there.put("checkpoints/00000002/state.json", state)
    there.mirror().pull()
    assert [(c.step, c.good) for c in mine.list()] == [(1, True), (2, True)]
    loaded = mine.load()
    assert loaded is not None
    assert loaded.state == {"step": 2}


def test_files_that_a_program_writes_beside_the_checkpoints_come_too(there):
    there.put("checkpoints/job.json", "{}")
    there.put("checkpoints/own/weights.bin", b"12")

    there.mirror().pull()

    assert (there.folder.checkpoints / "job.json").read_text() == "{}"
    assert (there.folder.checkpoints / "own/weights.bin").read_bytes() == b"12"


@pytest.mark.torture_long
def test_of_checkpoints_that_s3_never_forgets_the_last_three_are_kept(there, tmp_path):
    saved(tmp_path / "made", *range(1, 8))
    there.put_folder(tmp_path / "made", "checkpoints")
    there.mirror().pull()
    assert [c.step for c in CheckpointStore(there.folder.checkpoints).list()] == [5, 6, 7]

    CheckpointStore(tmp_path / "made", keep=99).save({"step": 8}, 8)
    there.put_folder(tmp_path / "made", "checkpoints")
    there.mirror().pull()
    assert [c.step for c in CheckpointStore(there.folder.checkpoints).list()] == [6, 7, 8]


def test_the_outcome_comes_only_when_it_is_asked_for_and_whole(there):
    arrays = b"not really arrays"
    content = {"format": 1, "status": "completed", "attempt": 1, "time": 1.0, "value": 1}
    stored = {**content, "arrays": {"file": "outcome-1.npz", "sha256": hashlib.sha256(arrays).hexdigest()}}
    there.put("outcome.json", dump_sealed(stored))
    mirror = there.mirror()
    listed = mirror.pull()
    assert not there.folder.outcome.exists()

    with pytest.raises(FolderCorrupt, match=r"outcome-1\.npz"):
        mirror.pull_outcome(listed)
    assert not there.folder.outcome.exists()

    there.put("outcome-1.npz", arrays)
    assert mirror.pull_outcome(mirror.pull())
    assert json.loads(there.folder.outcome.read_bytes())["status"] == "completed"


def test_an_outcome_that_is_here_stays(there):
    there.folder.outcome.write_bytes(b"mine")
    there.put("outcome.json", dump_sealed({"status": "completed"}))

    assert there.mirror().pull_outcome(there.mirror().pull())
    assert there.folder.outcome.read_bytes() == b"mine"


def test_purchases_become_ours_and_the_users(there, tmp_path):
    remote = Ledger(tmp_path / "spend.sqlite")
    remote.reserve([Charge("key", "arn:x", usd=Decimal("0.30"), shots=7)], namespace="job")
    remote.copy(tmp_path / "copy")
    there.put(SNAPSHOT, b"torn")
    there.mirror().pull()
    assert of_job(there.folder.path).cost().tasks == 0

    there.put(SNAPSHOT, (tmp_path / "copy").read_bytes())
    there.mirror().pull()
    assert of_job(there.folder.path).cost().usd == of_user().cost().usd == Decimal("0.30")


def test_a_worker_elsewhere_gets_what_it_needs_to_go_on(there):
    folder = there.folder
    folder.attempt(1).path.mkdir(parents=True)
    folder.attempt(1).exit.write_bytes(b"{}")
    folder.attempt(1).log.write_text("stays")
    folder.metrics.write_text("[1]\n")
    folder.budget.write_text("{}")
    folder.results.mkdir(exist_ok=True)
    (folder.results / "x.txt").write_text("x")
    saved(folder.checkpoints, 1)
    of_job(folder.path).ledger.reserve([Charge("key", "arn:x")])

    there.mirror().push()

    expected = {"attempts/1/exit.json", "metrics.jsonl", "budget.json", "results/x.txt", SNAPSHOT}
    assert there.names() == expected | {"checkpoints/00000001/manifest.json", "checkpoints/00000001/state.json"}
    before = (folder.results / "x.txt").stat().st_mtime_ns
    there.mirror().pull()
    assert (folder.results / "x.txt").stat().st_mtime_ns == before, "what came from here is not taken back"


# Logs --------------------------------------------------------------------------------------------------------------------------


class Stream:
    """A job's log, as CloudWatch has it."""

    def __init__(self, there: There, name: str = "a-job") -> None:
        self.there, self.name, self.time = there, name, int(time.time() * 1000)
        self.client = boto3.client("logs")
        self.stream = f"{name}/uuid/algo-1"
        for make, more in (("create_log_group", {}), ("create_log_stream", {"logStreamName": self.stream})):
            with contextlib.suppress(self.client.exceptions.ResourceAlreadyExistsException):
                getattr(self.client, make)(logGroupName=GROUP, **more)

    def write(self, *messages: str) -> None:
        for begin in range(0, len(messages), 5000):
            self.time += 1
            events = [{"timestamp": self.time, "message": message} for message in messages[begin : begin + 5000]]
            self.client.put_log_events(logGroupName=GROUP, logStreamName=self.stream, logEvents=events)

    def reader(self) -> LogReader:
        return LogReader(Session(), self.there.folder, self.there.run, self.name)


def line(number: int, text: str = "") -> str:
    return f"2026-11-21T01:23:45.{number:06}Z {text or number}"


def test_a_log_of_many_pages_comes_whole_in_order_and_once(there):
    stream = Stream(there, "pages")
    lines = [line(n) for n in range(23_456)]
    stream.write("Beginning Setup", "hybridjobs: attempt 1", *lines[:12_000])
    stream.reader().pull()
    stream.write(*lines[12_000:])
    reader = stream.reader()
    reader.pull()
    assert reader.pull() == 0

    assert there.folder.attempt(1).log.read_text().splitlines() == lines
    assert there.run.container_log.read_text() == "Beginning Setup\n"


def test_lines_go_to_the_attempts_that_they_are_of(there):
    stream = Stream(there, "attempts")
    stream.write(
        "hybridjobs: attempt 1",
        line(1),
        "Metrics - timestamp=1.0; loss=2.0;",
        "hybridjobs: attempt 2",
        line(2),
        "2026 is no time",
        line(3)[:27],
    )
    stream.reader().pull()

    assert there.folder.attempt(1).log.read_text() == line(1) + "\n"
    assert there.folder.attempt(2).log.read_text() == line(2) + "\n" + line(3)[:27] + " \n"
    assert there.run.container_log.read_text() == "2026 is no time\n"


def test_what_a_dead_reader_had_added_is_not_there_twice(there):
    stream = Stream(there, "dead")
    stream.write("hybridjobs: attempt 1", line(1), line(2))
    stream.reader().pull()
    stream.write(line(3))
    before = there.run.position.read_bytes()
    stream.reader().pull()
    there.run.position.write_bytes(before)  # it died after it wrote the line, before it wrote down that it had

    stream.reader().pull()

    assert there.folder.attempt(1).log.read_text().splitlines() == [line(1), line(2), line(3)]


def test_a_token_that_is_too_old_costs_nothing(there):
    stream = Stream(there, "old")
    stream.write("hybridjobs: attempt 1", line(1), line(2))
    stream.reader().pull()
    position = json.loads(there.run.position.read_bytes())
    there.run.position.write_text(json.dumps({**position, "token": "expired"}))
    stream.write(line(3))

    stream.reader().pull()

    assert there.folder.attempt(1).log.read_text().splitlines() == [line(1), line(2), line(3)]


def test_a_reader_that_dies_while_it_reads_again_repeats_nothing(there, monkeypatch):
    stream = Stream(there, "again")
    lines = [line(n) for n in range(15_000)]
    stream.write("hybridjobs: attempt 1", *lines)
    stream.reader().pull()
    position = json.loads(there.run.position.read_bytes())
    there.run.position.write_text(json.dumps({**position, "token": "expired"}))
    page, pages = LogReader._page, []

    def page_once(reader: LogReader) -> dict:
        if reader._state["token"] != "expired":
            pages.append(reader)
        if len(pages) > 1:
            raise ProviderError("CloudWatch is away")
        return page(reader)

    reader = stream.reader()
    with monkeypatch.context() as patched:
        patched.setattr(LogReader, "_page", page_once)
        with pytest.raises(ProviderError):
            reader.pull()

    assert stream.reader().pull() == 0
    assert there.folder.attempt(1).log.read_text().splitlines() == lines


def test_a_job_without_a_stream_has_no_log_yet(there):
    assert LogReader(Session(), there.folder, there.run, "nobody").pull() == 0


def test_what_cloudwatch_lost_is_mended_from_the_file(there):
    stream = Stream(there, "lost")
    stream.write("hybridjobs: attempt 1", line(1), line(2))
    stream.reader().pull()
    whole = "".join(f"{line(n)}\n" for n in range(1, 6))
    there.put("attempts/1/stdout.log", whole)
    mirror = there.mirror()

    mirror.complete_logs(mirror.pull())

    assert there.folder.attempt(1).log.read_text() == whole
    assert os.stat(there.folder.attempt(1).log).st_size == len(whole)
