"""What trackers are told of a job beside its metrics, without anything that looks like a credential."""

from __future__ import annotations

import json
from typing import Any

from pl_hybridjobs.jobs import secrets_scan
from pl_hybridjobs.jobs.arguments import describe_params
from pl_hybridjobs.jobs.spec import JobSpec

_HIDDEN = "***"
_LONGEST = 1000

Plain = bool | int | float | str


def params(spec: JobSpec) -> dict[str, Plain]:
    """The call's arguments: numbers and texts as they are, others as JSON; long ones are cut."""
    return {name: _plain(value) for name, value in spec.params.items()}


def tags(spec: JobSpec) -> dict[str, str]:
    """The user's tags."""
    # As arguments are described: what has a credential's name is hidden.
    return {name: str(_plain(value)) for name, value in describe_params(lambda **tags: None, (), spec.tags).items()}


def job(spec: JobSpec) -> dict[str, str]:
    """What is known of the job itself."""
    known = {
        "job_id": spec.id,
        "name": spec.name,
        "function": spec.function,
        "device": spec.device_text,
        "runner": spec.runner,
        "git_commit": spec.provenance.get("git_commit") or "",
        "sweep": spec.sweep.id if spec.sweep else "",
        "continues": spec.continues or "",
    }
    return {name: text for name, text in known.items() if text}


def _plain(value: Any) -> Plain:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if secrets_scan.form_of(text.encode("utf-8", "replace")):
        return _HIDDEN
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
