"""Rows of the torture table, by number. CI runs a short round; ``pytest -m torture_long`` the long one.

1 client killed after submit · 2 client killed inside submit · 3 worker or supervisor killed at random · 5 many claim one job ·
6 a stopped owner revives · 7 forged pid, boot and start time · 10 flipped bits and truncation · 12 signals · 13 grace too short ·
14 hostile exceptions · 15 tampered bundle · 18 many writers on one index · 23 cancel against completion.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pl_hybridjobs import Job, Status, hybrid_job, list_jobs, open_job
from pl_hybridjobs.errors import Fenced, HybridJobsError, JobFailed, JobInterrupted
from pl_hybridjobs.jobs import outcome, process
from pl_hybridjobs.jobs.context import JobContext, activate, log_metric, save_checkpoint
from pl_hybridjobs.jobs.durable import dump_sealed, read_sealed
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Lease, Liveness, beat, claim
from pl_hybridjobs.jobs.spec import JobSpec, new_id
from pl_hybridjobs.jobs.store import Store
from tests.jobs import functions
from tests.queues import owner_of

ROOT = Path(__file__).parents[2]
WAIT_S = 60

CLIENT = """
import sys
from pl_hybridjobs import hybrid_job
from tests.jobs import functions
job = hybrid_job(functions.add, key="once")(1, b=41)
print(job.id, flush=True)
"""


def long(*values: Any) -> list[Any]:
    """Of the long round."""
    return [pytest.param(value, marks=pytest.mark.torture_long) for value in values]


SUBMIT_POINTS = [
    "create.named",
    "create.renamed",
    "local.start",
    *long("create.filled", "create.synced", "create.indexed", "local.started"),
]
WORKER_POINTS = [
    "checkpoint.files",
    "checkpoint.synced",
    "worker.returned",
    "outcome.arrays",
    *long("worker.begin", "worker.loaded", "checkpoint.manifest", "checkpoint.renamed", "checkpoint.pruned", "outcome.fenced"),
]


def client(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=everything, capture_output=True, text=True, timeout=60, check=False)


def new_folder() -> JobFolder:
    """A whole job without a bundle, that nobody runs."""
    return Store().create(JobSpec(id=new_id(), name="made", function="f", created=time.time()), lambda _: "")[0]


def until(condition, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


# Row 1


def test_the_job_goes_on_when_its_client_is_killed_right_after_the_call():
    child = subprocess.Popen(
        [sys.executable, "-c", CLIENT + "import time; time.sleep(60)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    job_id = child.stdout.readline().strip()
    child.kill()
    child.wait()
    child.stdout.close()

    assert open_job(job_id).result(WAIT_S) == 42


# Row 2


@pytest.mark.parametrize("point", SUBMIT_POINTS)
def test_a_client_that_dies_inside_submit_leaves_no_job_or_a_whole_one_and_the_key_gives_exactly_one(point, jobs_home):
    died = client(CLIENT, HYBRIDJOBS_CRASH_AT=point)
    assert died.returncode == 86, died.stderr
    for job in list_jobs():
        assert job.status in (Status.CREATED, Status.QUEUED, Status.RUNNING, Status.COMPLETED)

    again = client(CLIENT)

    assert again.returncode == 0, again.stderr
    (job,) = list_jobs()
    assert job.id == again.stdout.strip()
    assert job.result(WAIT_S) == 42
    assert job.attempt == 1


# Row 3


def _kill_until_it_ends(job: Job, rng: random.Random, steps_s: float) -> int:
    kills = 0
    while True:
        time.sleep(rng.uniform(0.0, steps_s))
        state = job.state()
        if state.status.is_final:
            return kills
        if state.status is Status.INTERRUPTED:
            job.resume()
        elif state.status is Status.RUNNING and state.lease is not None:
            victim = rng.choice([state.lease.owner.pid, *process.descendants(state.lease.owner.pid)])
            try:
                os.kill(victim, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=[pytest.mark.torture_long, pytest.mark.timeout(3600)])])
def test_killed_at_random_instants_it_ends_in_the_same_bits(kills):
    reference = hybrid_job(functions.count, runner="inline")(25)
    rng = random.Random(20261121)
    done = 0
    while done < kills:
        job = hybrid_job(functions.count)(25, pause_s=0.02)
        done += _kill_until_it_ends(job, rng, 0.6)
        assert job.result().hex() == reference.result().hex()
        table, expected = job.metrics(), reference.metrics()
        assert table["total"].tobytes() == expected["total"].tobytes()
        assert table.steps("total").tobytes() == expected.steps("total").tobytes()
    print(f"killed {done} times")


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_that_dies_at_a_named_point_is_interrupted_and_resumes_exactly(point, monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_CRASH_AT", point)
    job = hybrid_job(functions.count)(4)
    with pytest.raises(JobInterrupted):
        job.result(WAIT_S)
    monkeypatch.delenv("HYBRIDJOBS_CRASH_AT")

    assert job.resume().result(WAIT_S) == pytest.approx(0.6)
    assert list(job.metrics().steps("total")) == [0, 1, 2, 3]


def test_after_the_outcome_is_written_death_changes_nothing(monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_CRASH_AT", "outcome.done")

    assert hybrid_job(functions.add)(1).result(WAIT_S) == 3


# Row 5


def _claim(path: str, barrier, answers) -> None:
    barrier.wait()
    try:
        claim(JobFolder(Path(path)), "start")
        answers.put("owner")
    except Fenced:
        answers.put("fenced")
    barrier.wait()  # an owner that is gone could rightly be replaced


def test_of_eight_that_claim_one_job_one_owns_it():
    folder = new_folder()
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(8), spawn.Queue()
    racers = [spawn.Process(target=_claim, args=(str(folder.path), barrier, answers)) for _ in range(8)]
    for racer in racers:
        racer.start()
    got = [answers.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join()

    assert sorted(got) == ["fenced"] * 7 + ["owner"]
    assert [a.number for a in folder.attempt_list()] == [1]


# Row 6


def test_an_owner_that_was_stopped_and_revives_can_write_nothing(monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_LEASE_S", "1")
    job = hybrid_job(functions.count)(40, pause_s=0.1)
    until(job.checkpoints)
    supervisor = owner_of(job)
    stopped = [supervisor, *process.descendants(supervisor)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    lease = Lease.read(JobFolder(job.folder).attempt(1))
    until(lambda: time.monotonic() - lease.beat_monotonic > 3)
    monkeypatch.setattr("pl_hybridjobs.jobs.lease.LEASE_S", 1.0)
    assert job.status is Status.UNKNOWN

    job.resume()
    until(lambda: job.attempt == 2)
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):  # the supervisor revives first, and may end its worker at once
            os.kill(pid, signal.SIGCONT)

    assert job.result(WAIT_S).hex() == hybrid_job(functions.count, runner="inline")(40).result().hex()
    until(lambda: process.Identity.of(supervisor) is None)
    assert list(job.metrics().steps("total")) == list(range(40))
    assert all(c.attempt == 2 for c in job.checkpoints())
    assert json.loads((job.folder / "outcome.json").read_text())["attempt"] == 2


def _zombie_writes(folder: JobFolder) -> list[str]:
    """What attempt 1 can still write while attempt 2 owns the job."""
    context = JobContext(folder, folder.spec(), 1)
    wrote = []
    with activate(context, whole_process=False):
        for name, action in {
            "checkpoint": lambda: save_checkpoint({"zombie": True}, step=99),
            "metric": lambda: log_metric("zombie", 1.0),
            "outcome": lambda: outcome.commit_value(folder, 1, "zombie"),
        }.items():
            try:
                action()
                wrote.append(name)
            except Fenced:
                pass
    return wrote


def _two_attempts() -> JobFolder:
    folder = new_folder()
    first = claim(folder, "start")
    dead = replace(first, owner=replace(first.owner, pid=2**22 + 1))
    folder.attempt(1).lease.write_bytes(dump_sealed(dead.to_json()))
    claim(folder, "resume")
    return folder


def test_an_older_epoch_is_refused_everywhere():
    folder = _two_attempts()

    assert _zombie_writes(folder) == []
    assert not folder.outcome.exists()
    with pytest.raises(Fenced):
        beat(folder, Lease.read(folder.attempt(1)))


ZOMBIE = """
from tests.torture.test_rows import _two_attempts, _zombie_writes
print(",".join(_zombie_writes(_two_attempts())))
"""


def test_the_suite_notices_when_fencing_is_off():
    assert client(ZOMBIE).stdout.strip() == ""
    assert client(ZOMBIE, HYBRIDJOBS_PLANT_BUG="fencing").stdout.strip() == "checkpoint,metric,outcome"


# Row 7


@pytest.mark.parametrize(
    ("forged", "expected"),
    [
        ({}, Liveness.ALIVE),
        ({"started": "12345"}, Liveness.DEAD),
        ({"boot": "another boot"}, Liveness.DEAD),
        ({"pid": 2**22 + 1}, Liveness.DEAD),
        ({"host": "elsewhere"}, Liveness.ALIVE),
    ],
    ids=str,
)
def test_a_lease_is_believed_only_of_the_very_process(forged, expected):
    folder = new_folder()
    lease = claim(folder, "start")
    forged_lease = replace(lease, owner=replace(lease.owner, **forged))
    folder.attempt(1).lease.write_bytes(dump_sealed(forged_lease.to_json()))

    assert Lease.read(folder.attempt(1)).liveness() is expected
    if expected is Liveness.ALIVE:
        with pytest.raises(Fenced):
            claim(folder, "resume")
    else:
        assert claim(folder, "resume").epoch == 2


def test_a_silent_owner_on_another_machine_is_unknown_not_dead():
    folder = new_folder()
    lease = claim(folder, "start")
    away = replace(lease, owner=replace(lease.owner, host="elsewhere"), beat_wall=time.time() - 3600)

    assert away.liveness() is Liveness.SILENT


# Row 10


def _damaged(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ (1 << rng.randrange(8))]) + data[position + 1 :]


def _look(folder: Path) -> dict[str, object]:
    """All that a client can see of a job; damage shows as an error of ours, never as another value or another error."""
    seen: dict[str, object] = {}
    for name, look in {
        "result": lambda job: job.result(0),
        "metrics": lambda job: (job.metrics()["total"].tolist() if "total" in job.metrics() else [], job.metrics().problems),
        "checkpoints": lambda job: [(c.step, c.good) for c in job.checkpoints()],
        "status": lambda job: str(job.status),
        "params": lambda job: job.params,
    }.items():
        try:
            seen[name] = look(Job(JobFolder(folder)))
        except HybridJobsError as error:
            seen[name] = type(error)
    return seen


def _metrics_of(seen: dict[str, object]) -> tuple[list[float], tuple[str, ...]]:
    found = seen["metrics"]
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("flips", [150, pytest.param(5000, marks=[pytest.mark.torture_long, pytest.mark.timeout(3600)])])
def test_damage_in_any_file_is_never_a_wrong_answer(flips, tmp_path):
    job = hybrid_job(functions.count, runner="inline")(6)
    folder = tmp_path / "copy"
    shutil.copytree(job.folder, folder)
    good = _look(folder)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size and "bundle" not in p.parts]
    rng = random.Random(7)
    noticed = 0
    for _ in range(flips):
        path = rng.choice(files)
        whole = path.read_bytes()
        path.write_bytes(_damaged(whole, rng))
        seen = _look(folder)
        path.write_bytes(whole)
        assert seen["result"] == good["result"] or isinstance(seen["result"], type), path
        assert seen["params"] == good["params"] or isinstance(seen["params"], type), path
        if not isinstance(seen["metrics"], type):
            values, problems = _metrics_of(seen)
            assert (values, problems) == _metrics_of(good) or problems or len(values) < 6, path
            assert set(values) <= set(_metrics_of(good)[0]), path
        noticed += seen != good
    assert noticed > flips / 4
    assert _look(folder) == good


FLIP = """
import sys
from pathlib import Path
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]))
store.save("older", 1)
saved = store.save({"value": "AAAA"}, 2)
state = saved.path / "state.json"
state.write_bytes(state.read_bytes().replace(b"AAAA", b"AAAB"))
print(store.load().state)
"""


def test_the_suite_notices_when_checksums_are_off(tmp_path):
    code = FLIP.replace("sys.argv[1]", repr(str(tmp_path / "c")))

    assert client(code).stdout.strip() == "older"
    shutil.rmtree(tmp_path / "c")
    assert "AAAB" in client(code, HYBRIDJOBS_PLANT_BUG="checksum").stdout


# Durability: the order of fsync and rename (without it a power loss takes what was called saved)

SAVE = """
from pathlib import Path
import numpy as np
from pl_hybridjobs.jobs.checkpoint import CheckpointStore
CheckpointStore(Path({folder!r})).save({{"x": np.arange(100)}}, 1)
"""


def _unsynced(tmp_path: Path, plant: str) -> list[str]:
    """Files of a checkpoint that were not fsynced before the rename, from the system calls themselves."""
    folder, trace = tmp_path / f"c{plant}", tmp_path / f"trace{plant}"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    code = SAVE.format(folder=str(folder))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HYBRIDJOBS_PLANT_BUG": plant}
    command = ["strace", "-f", "-y", "-e", calls, "-o", str(trace), sys.executable, "-c", code]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    lines = trace.read_text().splitlines()
    renamed = next(i for i, line in enumerate(lines) if "rename" in line and "00000001" in line)
    synced_before = "\n".join(line for line in lines[:renamed] if "sync(" in line)
    synced_after = "\n".join(line for line in lines[renamed:] if "sync(" in line)
    missing = [name for name in ("state.json>", "arrays.npz>", "manifest.json>") if name not in synced_before]
    return missing + ([] if f"{folder}>" in synced_after else ["the parent folder"])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: the order of fsync and rename was NOT checked")
def test_everything_is_durable_before_it_has_its_name_and_the_suite_notices_when_fsync_is_off(tmp_path):
    assert _unsynced(tmp_path, "") == []
    assert len(_unsynced(tmp_path, "fsync")) == 4


# Rows 12 and 13


@pytest.mark.parametrize("number", [signal.SIGUSR1, *long(signal.SIGTERM)])
def test_a_signal_stops_the_job_at_a_step_boundary_and_it_resumes_exactly(number):
    job = hybrid_job(functions.count)(30, pause_s=0.05)
    until(lambda: len(job.checkpoints()) > 1)
    (worker,) = process.descendants(owner_of(job))

    os.kill(worker, number)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert read_sealed(job.folder / "attempts" / "1" / "exit.json")["code"] == 75
    assert job.resume().result(WAIT_S).hex() == hybrid_job(functions.count, runner="inline")(30).result().hex()


def test_a_signal_to_the_supervisor_does_the_same():
    job = hybrid_job(functions.count, retries=3)(30, pause_s=0.05)
    until(lambda: len(job.checkpoints()) > 1)

    os.kill(owner_of(job), signal.SIGTERM)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert job.attempt == 1
    assert job.resume().wait(WAIT_S) is Status.COMPLETED


def test_a_second_signal_leaves_at_once():
    job = hybrid_job(functions.count)(3, pause_s=20)
    until(job.checkpoints)
    (worker,) = process.descendants(owner_of(job))
    os.kill(worker, signal.SIGTERM)
    time.sleep(0.2)
    begun = time.monotonic()
    os.kill(worker, signal.SIGTERM)

    assert job.wait(WAIT_S) is Status.INTERRUPTED
    assert time.monotonic() - begun < 15  # a step takes 20 s
    assert [c.good for c in job.checkpoints()] == [True]


def test_a_grace_period_that_is_too_short_costs_only_the_step():
    job = hybrid_job(functions.count)(3, pause_s=20)
    until(job.checkpoints)

    assert job.cancel(grace_s=0.1) is Status.CANCELLED
    assert [c.good for c in job.checkpoints()] == [True]


# Row 14


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Bomb(Exception):
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


class WithLock(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Meta(type):
    def __call__(cls, *args, **kwargs):
        if kwargs.pop("really", False):
            return super().__call__(*args, **kwargs)
        raise RuntimeError("must not be called on the client")


class Picky(Exception, metaclass=Meta):
    def __init__(self, a, b) -> None:
        super().__init__(a, b)


class Quitter(SystemExit):
    pass


def raise_it(kind):
    if kind == "local":

        class Local(Exception):
            pass

        raise Local("gone")
    if kind == "deep":
        error: BaseException = ValueError("deepest")
        for i in range(3000):
            outer = ValueError(i)
            outer.__cause__ = error
            error = outer
        raise error
    if kind == "recursion":
        return raise_it(kind)
    makers: dict[str, Callable[[], BaseException]] = {
        "unprintable": Unprintable,
        "bomb": Bomb,
        "lock": WithLock,
        "picky": lambda: Picky(1, 2, really=True),  # type: ignore[call-arg]
        "quitter": lambda: Quitter(3),
        "long": lambda: ValueError("x" * 10_000_000),
        "group": lambda: ExceptionGroup("many", [ValueError(1), OSError(2)]),
        "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        "surrogate": lambda: ValueError("\ud800"),
        "keyboard": KeyboardInterrupt,
    }
    raise makers[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "unprintable",
        "lock",
        "group",
        "keyboard",
        "deep",
        *long("bomb", "picky", "quitter", "long", "unicode", "surrogate", "local", "recursion"),
    ],
)
def test_a_hostile_exception_still_fails_the_job_clearly(kind):
    job = hybrid_job(raise_it)(kind)

    with pytest.raises(JobFailed) as caught:
        job.result(WAIT_S)

    assert job.status is Status.FAILED
    assert not isinstance(caught.value, SystemExit | KeyboardInterrupt)
    assert len(str(caught.value)) < 300_000
    assert caught.value.remote_type
    assert not Path("bomb-went-off").exists()


# Row 15


@pytest.mark.parametrize("forgery", ["changed", "replayed", "manifest too"])
def test_a_bundle_that_is_not_the_one_submitted_is_refused_unloaded(forgery, tmp_path):
    job = hybrid_job(functions.count)(30, pause_s=0.05)
    until(job.checkpoints)
    os.kill(owner_of(job), signal.SIGKILL)
    job.wait(WAIT_S)
    other = hybrid_job(functions.write_artefact, runner="inline")()
    bundle = job.folder / "bundle"
    if forgery == "changed":
        (bundle / "call.pkl").write_bytes((other.folder / "bundle" / "call.pkl").read_bytes())
    else:
        shutil.rmtree(bundle)
        shutil.copytree(other.folder / "bundle", bundle)
    if forgery == "manifest too":  # whoever can write the folder can write job.json as well
        spec = replace(job.spec, bundle_digest=other.spec.bundle_digest)
        (job.folder / "job.json").write_bytes(dump_sealed(spec.to_json()))

    resumed = Job(JobFolder(job.folder)).resume()

    with pytest.raises(JobFailed, match="bundle"):
        resumed.result(WAIT_S)
    assert not (job.folder / "results" / "artefact.txt").exists()


# Row 18


MANY = """
import sys
from pl_hybridjobs import list_jobs
from pl_hybridjobs.jobs.store import Store
from pl_hybridjobs.jobs.spec import JobSpec, new_id
import time
for i in range(int(sys.argv[1])):
    Store().create(JobSpec(id=new_id(), name="same", function="f", created=time.time()), lambda folder: "")
    if i % 3 == 0:
        list_jobs()
"""


def test_sixteen_writers_on_one_index_lose_nothing(jobs_home):
    each = 5
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(each)], env=env, stderr=subprocess.PIPE, text=True) for _ in range(16)]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]

    assert [e for e in errors if e] == []
    names = [job.name for job in list_jobs()]
    assert len(names) == len(set(names)) == 16 * each
    (jobs_home / "index.sqlite").write_bytes(b"rubbish")
    for suffix in ("-wal", "-shm"):
        (jobs_home / f"index.sqlite{suffix}").unlink(missing_ok=True)
    assert sorted(job.name for job in list_jobs()) == sorted(names)


# Row 23


@pytest.mark.parametrize("rounds", [6, pytest.param(200, marks=[pytest.mark.torture_long, pytest.mark.timeout(3600)])])
def test_cancel_against_completion_gives_one_final_state_and_leaves_no_process(rounds):
    rng = random.Random(23)
    ends = []
    for _ in range(rounds):
        job = hybrid_job(functions.sleep)(0.1)
        time.sleep(rng.uniform(0, 0.5))
        said = job.cancel(grace_s=2)
        until(lambda job=job: job.status.is_final)
        assert said in (job.status, Status.RUNNING)
        first = (job.folder / "outcome.json").read_bytes()
        until(lambda job=job: not process.of_token(f"{job.id}:1"))
        assert (job.folder / "outcome.json").read_bytes() == first
        ends.append(str(job.status))
    assert set(ends) <= {"cancelled", "completed"}


def test_a_cancelled_job_that_never_began_never_runs():
    folder = new_folder()
    job = Job(folder)

    assert job.cancel() is Status.CANCELLED
    with pytest.raises(Fenced):
        claim(folder, "start")


def test_no_grandchild_survives_cancel_or_the_death_of_the_supervisor():
    for end in ("cancel", "kill"):
        job = hybrid_job(functions.start_grandchildren)()
        until(lambda job=job: "started" in job.logs())
        family = process.descendants(owner_of(job))
        assert len(family) == 3
        if end == "cancel":
            assert job.cancel(grace_s=0.2) is Status.CANCELLED
        else:
            os.kill(owner_of(job), signal.SIGKILL)
            assert job.wait(WAIT_S) is Status.INTERRUPTED
            family = [pid for pid in family if process.Identity.of(pid)]
            assert len(family) <= 1, "only one that left the session and cleared its environment may outlive a killed supervisor"
            for pid in family:
                os.kill(pid, signal.SIGKILL)
            continue
        assert [pid for pid in family if process.Identity.of(pid)] == []
