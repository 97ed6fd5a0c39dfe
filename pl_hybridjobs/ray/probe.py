"""The probe on a Ray cluster, asked for by ``RayRunner(probe=True)``; see ``jobs.probing``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.jobs import probing
from pl_hybridjobs.jobs.queued import Seen
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
    name = f"hybridjobs-probe-{secrets.token_hex(6)}"

    def submit(lines: list[str]) -> probing.Probing:
        cluster.submit({**request, "entrypoint": runner.entrypoint(lines), "submission_id": name})
        return probing.Probing(look, lambda: cluster.stop(name))

    def look() -> Seen | None:
        job = cluster.job(name)
        return api.seen(job) if job is not None else None

    return probing.once(runner, [cluster.address, json.dumps(dict(request), sort_keys=True)], submit)
