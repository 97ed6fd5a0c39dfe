"""At most one owner."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pl_hybridjobs.errors import Fenced, FolderCorrupt
from pl_hybridjobs.jobs import lease as leases
from pl_hybridjobs.jobs import outcome
from pl_hybridjobs.jobs.durable import dump_sealed, locked
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import Lease, Liveness, beat, claim


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def rewrite(folder: JobFolder, lease: Lease, **changes: object) -> None:
    folder.attempt(lease.epoch).lease.write_bytes(dump_sealed(replace(lease, **changes).to_json()))  # type: ignore[arg-type]


def dead(lease: Lease) -> dict[str, object]:
    return {"owner": replace(lease.owner, started="long ago")}


def test_the_first_claim_is_epoch_one_and_the_second_is_refused(folder):
    assert claim(folder, "start").epoch == 1
    with pytest.raises(Fenced, match="owned by process"):
        claim(folder, "start")
    assert [a.number for a in folder.attempt_list()] == [1]


def test_of_many_who_claim_at_once_one_wins(folder):
    won: list[int] = []
    ready = threading.Barrier(8)

    def run() -> None:
        ready.wait()
        try:
            won.append(claim(folder, "start").epoch)
        except Fenced:
            return

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won == [1]


def test_a_dead_owner_is_followed_and_fenced_off(folder):
    first = claim(folder, "start")
    rewrite(folder, first, **dead(first))
    second = claim(folder, "retry", interruptions=1)

    assert (second.epoch, second.interruptions) == (2, 1)
    with pytest.raises(Fenced):
        beat(folder, first)
    with pytest.raises(Fenced), folder.fence(first.epoch):
        pass
    with folder.fence(second.epoch):
        pass


def test_a_silent_owner_gives_way_to_resume_alone(folder, monkeypatch):
    first = claim(folder, "start")
    rewrite(folder, first, beat_monotonic=time.monotonic() - 2 * leases.LEASE_S)

    assert Lease.read(folder.attempt(1)).liveness() is Liveness.SILENT
    with pytest.raises(Fenced):
        claim(folder, "retry")
    assert claim(folder, "resume").epoch == 2


@pytest.mark.parametrize(("age_s", "expected"), [(0, Liveness.ALIVE), (1000, Liveness.SILENT), (-1000, Liveness.SILENT)])
def test_of_another_machine_only_the_heartbeat_counts(folder, age_s, expected):
    first = claim(folder, "start")
    rewrite(folder, first, owner=replace(first.owner, host="elsewhere"), beat_wall=time.time() - age_s)

    assert Lease.read(folder.attempt(1)).liveness() is expected


def test_a_heartbeat_is_seen(folder):
    first = claim(folder, "start")
    rewrite(folder, first, beat_monotonic=0.0)

    assert beat(folder, first).beat_monotonic > 0
    assert Lease.read(folder.attempt(1)).liveness() is Liveness.ALIVE


def test_a_job_that_has_ended_or_is_cancelled_is_not_claimed(folder):
    folder.cancel_request.write_bytes(dump_sealed({"time": 0.0, "grace_s": 1.0}))
    with pytest.raises(Fenced, match="being cancelled"):
        claim(folder, "start")
    with locked(folder.lock):
        outcome.commit_cancelled(folder, "no more")
    with pytest.raises(Fenced, match="ended already"):
        claim(folder, "resume")


def test_a_damaged_lease_is_said_and_only_resume_goes_past_it(folder):
    claim(folder, "start")
    folder.attempt(1).lease.write_bytes(b"{")

    with pytest.raises(FolderCorrupt):
        claim(folder, "retry")
    assert claim(folder, "resume").epoch == 2
