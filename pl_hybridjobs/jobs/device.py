"""Device names: what the decorator's ``device=`` may say, and how a PennyLane device is made from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import InvalidCall, did_you_mean

if TYPE_CHECKING:
    from pl_hybridjobs.cost.prices import Price

#: What a job gets that names no device.
DEFAULT = "hybridjobs.qubit"


#: What reaches remote devices; the name in the decorator is then the target.
REMOTE = "hybridjobs.qpu"

_ARN = re.compile(r"arn:aws(-[a-z]+)*:braket:[a-z0-9-]*:([0-9]{12})?:device/(qpu|quantum-simulator)/[\w-]+/[\w.-]+")
_OF_FANOUT = ("workers", "executor")
_PROVIDERS = "pl_hybridjobs.qpus"
_OWN_PROVIDERS = {"braket", "rehearsal"}


@functools.cache
def known_devices() -> frozenset[str]:
    """Short names of all installed PennyLane devices, without importing PennyLane."""
    from importlib.metadata import entry_points

    return frozenset(entry.name for entry in entry_points(group="pennylane.plugins"))


@functools.cache
def known_providers() -> frozenset[str]:
    """Names of all installed providers of remote devices, without importing them."""
    from importlib.metadata import entry_points

    return frozenset(entry.name for entry in entry_points(group=_PROVIDERS)) | _OWN_PROVIDERS


def is_remote(name: str) -> bool:
    """Whether a device's name is a target of a provider: an Amazon resource name, or ``NAME:target``."""
    return ":" in name and not name.startswith("local:")


def remote_names(device: str | Mapping[str, str] | None) -> list[str]:
    """The names of those devices of a job that cost: targets of providers."""
    names = list(device.values()) if isinstance(device, Mapping) else [device] if device else []
    return [name for name in names if is_remote(name)]


def needing_network(device: str | Mapping[str, str] | None) -> list[str]:
    """Those of them that are elsewhere; rehearsals are not."""
    return [name for name in remote_names(device) if not name.startswith("rehearsal:")]


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
    if is_remote(name):
        return _complaints_of_target(name)
    if name == REMOTE:
        return [f"device {name!r} does not say which; name the target itself: device='arn:aws:braket:...'"]
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


def _complaints_of_target(name: str) -> list[str]:
    provider, _, target = name.partition(":")
    if provider == "arn":
        like = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1 or arn:aws:braket:::device/quantum-simulator/amazon/sv1"
        found = f"device {name!r} is no Amazon resource name of a Braket device; one looks like {like}"
        return [] if _ARN.fullmatch(name) else [found]
    known = known_providers()
    if provider not in known:
        known_text = f"known are {', '.join(sorted(known))}.{did_you_mean(provider, known)}"
        return [f"device {name!r}: there is no provider {provider!r} of remote devices here; {known_text}"]
    if not target:
        return [f"device {name!r} names no target; write {provider}:<target>"]
    return _rehearsal(name)[1] if provider == "rehearsal" else []


def _rehearsal(name: str) -> tuple[Any, list[str]]:
    """A rehearsal, which needs nothing but its target, and what is wrong with that; found as every provider is."""
    from importlib.metadata import entry_points

    try:
        return next((entry.load()(name) for entry in entry_points(group=_PROVIDERS, name="rehearsal")), None), []
    except InvalidCall as error:
        return None, [f"device {name!r}: {complaint}" for complaint in error.complaints]


def price(name: str) -> Price | None:
    """What a target costs, as far as that is known before the job runs."""
    from pl_hybridjobs.cost.prices import price_of

    known = price_of(name)
    opened = _rehearsal(name)[0] if known is None and name.startswith("rehearsal:") else None
    return known if opened is None else opened.price()


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
    import pennylane as qml

    spread = {option for option in _OF_FANOUT if options.get(option) is not None}
    if is_remote(name):
        if spread:
            raise InvalidCall(
                "job_device()", [f"{' and '.join(sorted(spread))} is for simulators; {name} is sent all circuits of a batch together"]
            )
        return qml.device(REMOTE, name, **options)
    extra: dict[str, Any] = {}
    options = {option: value for option, value in options.items() if option in spread or option not in _OF_FANOUT}
    if name.startswith("local:"):
        provider, _, short = name[len("local:") :].partition("/")
        if provider == "none":
            raise InvalidCall("job_device()", [f"the job's device is {name!r}, which means none; name one in hybrid_job(device=...)"])
        name, extra = _local_name(provider, short)
    if spread:
        from pl_hybridjobs.fanout import FanOut

        return FanOut(name, **{**extra, **options})
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
