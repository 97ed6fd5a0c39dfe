"""Device names: what the decorator's ``device=`` may say, and how a PennyLane device is made from it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pl_hybridjobs.errors import InvalidCall, did_you_mean

#: What a job gets that names no device.
DEFAULT = "hybridjobs.qubit"


@functools.cache
def known_devices() -> frozenset[str]:
    """Short names of all installed PennyLane devices, without importing PennyLane."""
    from importlib.metadata import entry_points

    return frozenset(entry.name for entry in entry_points(group="pennylane.plugins"))


def complaints(device: object) -> list[str]:
    """What is wrong with ``device=...``, one sentence each."""
    if device is None:
        return []
    if isinstance(device, Mapping):
        if not device:
            return ["device={} names no device; give at least one role, or None"]
        found = [f"device has the role {role!r}; roles must be text" for role in device if not isinstance(role, str) or not role]
        return found + [c for name in device.values() for c in complaints_of_name(name)]
    return complaints_of_name(device)


def complaints_of_name(name: object) -> list[str]:
    """What is wrong with one device's name."""
    if not isinstance(name, str):
        return [f"device must be a device's name or a mapping of roles to names, not {type(name).__name__}"]
    if name.startswith("arn:"):
        return [f"device {name!r}: remote devices are not there yet in this version; use a simulator"]
    if name.startswith("local:"):
        provider, _, short = name[len("local:") :].partition("/")
        if not provider or not short:
            return [f"device {name!r} must look like local:<provider>/<name>, for example local:pennylane/lightning.qubit"]
        if (provider, short) == ("none", "none"):
            return []
        name = _local_name(provider, short)[0]
    if name in known_devices():
        return []
    return [f"there is no device {name!r} here; installed are {', '.join(sorted(known_devices()))}.{did_you_mean(name, known_devices())}"]


def _local_name(provider: str, short: str) -> tuple[str, dict[str, Any]]:
    """Amazon Braket's ``local:<provider>/<name>`` as PennyLane name and options."""
    if provider == "braket":
        return "braket.local.qubit", {"backend": short}
    return short, {}


def build(device: str | Mapping[str, str] | None, role: str | None, options: Mapping[str, Any]) -> Any:
    """Make the PennyLane device. See ``job_device``."""
    name = _pick(device, role)
    problems = complaints_of_name(name)
    if problems:
        raise InvalidCall("job_device()", problems)
    extra: dict[str, Any] = {}
    if name.startswith("local:"):
        provider, _, short = name[len("local:") :].partition("/")
        if provider == "none":
            raise InvalidCall("job_device()", [f"the job's device is {name!r}, which means none; name one in hybrid_job(device=...)"])
        name, extra = _local_name(provider, short)
    import pennylane as qml

    return qml.device(name, **{**extra, **options})


def _pick(device: str | Mapping[str, str] | None, role: str | None) -> str:
    if isinstance(device, Mapping):
        if role is None and len(device) == 1:
            return next(iter(device.values()))
        if role is not None and role in device:
            return device[role]
        what = "which role?" if role is None else f"there is no role {role!r};"
        raise InvalidCall(f"job_device({'' if role is None else repr(role)})", [f"{what} the job's devices are {dict(device)}"])
    if role is not None and device is not None:
        raise InvalidCall(f"job_device({role!r})", [f"the job has one device, {device!r}, without roles; call job_device()"])
    return device or DEFAULT
