"""What a mirror costs the job that it watches, and how long a million values take."""

from __future__ import annotations

import math
import socket
import statistics
import time

from pl_hybridjobs import hybrid_job
from pl_hybridjobs.jobs.metrics import MetricWriter
from pl_hybridjobs.jobs.trackers import open_tracker
from pl_hybridjobs.jobs.trackers.mirror import Mirror
from tests.jobs.mirrored import PlayedJob

VALUES = 1_000_000


def work(steps: int, numbers: int) -> list[float]:
    """Steps of the same work each, with a value logged in each: how long each took."""
    import time

    from pl_hybridjobs import log_metric

    took = []
    for step in range(steps):
        began_s = time.perf_counter()
        sum(range(numbers))
        log_metric("step", step)
        took.append(time.perf_counter() - began_s)
    return took


def test_a_job_does_not_notice_its_mirrors(report, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as never_answers:
        hangs = {"mlflow": f"http://127.0.0.1:{never_answers.getsockname()[1]}"}
        refuses = {"mlflow": "http://127.0.0.1:9"}
        kinds = {"none": None, "tensorboard": {"tensorboard": tmp_path}, "mlflow hangs": hangs, "mlflow refuses": refuses}
        medians: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(3):
            for kind, mirror in kinds.items():
                began_s = time.perf_counter()
                took = hybrid_job(work, mirror=mirror)(500, 100_000).result()
                report(f"mirror {kind}: whole job", time.perf_counter() - began_s, "s")
                medians[kind].append(1e3 * statistics.median(took))
    for kind, values in medians.items():
        report(f"mirror {kind}: step, best of 3", min(values), "ms")
    assert max(min(values) for values in medians.values()) < 1.05 * min(medians["none"])


def test_a_million_values_reach_tensorboard(report, tmp_path):
    job = PlayedJob()
    writer = MetricWriter(job.folder.metrics)
    for step in range(VALUES // 2):
        writer.log_row({"a": step / 7, "b": math.sin(step)}, step)
    writer.close()
    mirror = Mirror(job.folder, open_tracker("tensorboard", str(tmp_path), job.spec))

    for what in ("first look at", "look with nothing new after"):
        began_s = time.process_time()
        mirror.look()
        report(f"{what} {VALUES:,} values", time.process_time() - began_s, "CPU s")
    job.complete()
    mirror.look()
    mirror.close()
