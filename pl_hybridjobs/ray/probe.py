"""The probe on a Ray cluster, asked for by ``RayRunner(probe=True)``; see ``jobs.probing``."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.jobs import probing
from pl_hybridjobs.jobs.queued import Phase
from pl_hybridjobs.ray import api
from pl_hybridjobs.ray.api import Api

if TYPE_CHECKING:
    from pl_hybridjobs.ray.runner import RayRunner


def complaints(runner: RayRunner, cluster: Api, request: Mapping[str, Any]) -> list[str]:
    """Run the probe, unless it was good before.

    Args:
        runner: Whose options.
        cluster: Where.
        request: The resources, as the Jobs API has them.

    Returns:
        What is wrong and how to mend it, one sentence each.

    Raises:
        RunnerError: The cluster refuses it, or does not answer.
    """
    python = runner.python or sys.executable

    def ask(folder: Path) -> list[str]:
        name = f"hybridjobs-probe-{secrets.token_hex(6)}"
        entry = runner.entrypoint(probing.script(folder, python, runner.setup))
        cluster.submit({**request, "entrypoint": entry, "submission_id": name})
        deadline = time.monotonic() + probing.PATIENCE_S
        while True:
            job = cluster.job(name)
            seen = api.seen(job) if job is not None else None
            if seen is None or seen.phase is Phase.OVER:
                break
            if time.monotonic() > deadline:
                cluster.stop(name)
                return [probing.too_late(seen.text)]
            time.sleep(0.2)
        told = seen.text if seen is not None else "Ray does not know it any more"
        code = seen.code if seen is not None else None
        return probing.judge(probing.Probed(seen.node if seen is not None else "", code, told), folder, python, "RayRunner")

    return probing.once([cluster.address, python, json.dumps(dict(request), sort_keys=True), list(runner.setup)], ask)
