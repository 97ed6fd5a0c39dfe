"""``spread_device``: what people write, checked, and the devices that names stand for, made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from pl_hybridjobs.errors import InvalidCall, did_you_mean
from pl_hybridjobs.jobs import device as names
from pl_hybridjobs.jobs.context import current_job

_WHERE = "spread_device(...)"
_FAILURES = ("raise", "move")


def spread_device(
    members: Mapping[str, Any] | Sequence[str],
    *,
    wires: Any = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    weights: Mapping[str, float] | None = None,
    on_failure: str = "raise",
    leave_out_after: int = 3,
    together: int = 2,
) -> Any:
    """A PennyLane device that spreads the circuits of each batch over several devices.

    Each circuit runs on one member, after that member's own preprocessing. Who gets it follows from the weights and from the circuits so
    far, not from speed: a resumed job divides as it would have done. A batch is what one call of the device gets: the shifted circuits of a
    gradient, the entries of broadcast parameters, the circuits of ``qml.execute``.

    Args:
        members: Names to devices, which are PennyLane devices or names as ``hybrid_job(device=...)`` takes them. Inside a job also a list:
            roles of its ``device={...}``.
        wires: For members that are made by name. Devices that are given must have these, or, where None, all the same.
        options: For members that are made by name: their options, by member, such as ``{"sim": {"seed": 7}}``.
        weights: How large each member's share is, 1 where not said. 0: a spare, used where no other is left.
        on_failure: "raise" what a member raises, or "move" its circuits of that call to the others, with a warning. Not moved is what may
            have been bought already and has not ended, nor what was cancelled, nor what a budget refuses.
        leave_out_after: With "move": a member that fails in so many calls, one after the other, gets nothing any more.
        together: So many neighbours in a batch run on the same member. 2, the default, keeps the two circuits of each parameter shift on
            one device: their difference is the derivative, and between devices it would also hold the difference of their errors.

    Raises:
        InvalidCall: Options that make no sense, all of them at once.
    """
    context = current_job()
    named = _named(members, context)
    wrong = _wrong(named, weights, options, on_failure, leave_out_after, together)
    if wrong:
        raise InvalidCall(_WHERE, wrong)
    from pl_hybridjobs.spread.assignment import Assignment
    from pl_hybridjobs.spread.device import SpreadDevice
    from pl_hybridjobs.spread.rounds import Policy

    made: dict[str, Any] = {}
    for name, device in named.items():
        try:
            made[name] = _made(device, wires, (options or {}).get(name))
        except Exception as error:  # noqa: BLE001 - whatever a device has against its options
            complaints = error.complaints if isinstance(error, InvalidCall) else [f"{type(error).__name__}: {error}"]
            wrong += [f"member {name!r}: {complaint}" for complaint in complaints]
    wrong += _wrong_devices(made, wires)
    if wrong:
        raise InvalidCall(_WHERE, wrong)
    shares = {name: Fraction(str(float((weights or {}).get(name, 1)))) for name in named}
    spread = SpreadDevice(made, Assignment(shares), Policy(on_failure, leave_out_after, together))
    if context:
        context.devices.append(spread)
        context.restore_device(len(context.devices) - 1)
    return spread


def _named(members: Any, context: Any) -> dict[str, Any]:
    """Members by name; roles of the job become the names of their devices.

    Raises:
        InvalidCall: There are none, or a role is not known.
    """
    if isinstance(members, Mapping):
        found = dict(members)
    elif isinstance(members, str) or not isinstance(members, Sequence):
        raise InvalidCall(_WHERE, [f"members={members!r} must map names to devices, or inside a job list roles of its device={{...}}"])
    else:
        roles = context.device if context else None
        if not isinstance(roles, Mapping):
            has = f"its device is {roles!r}" if context else "there is no job here"
            raise InvalidCall(
                _WHERE, [f"members={list(members)!r} are roles of a job, and {has}; map names to devices: {{'a': device, ...}}"]
            )
        wrong = [f"the job has no role {role!r}; its devices are {dict(roles)}" for role in members if role not in roles]
        wrong += [f"{role!r} is there twice" for role in dict.fromkeys(members) if list(members).count(role) > 1]
        if wrong:
            raise InvalidCall(_WHERE, wrong)
        found = {role: roles[role] for role in members}
    if not found:
        raise InvalidCall(_WHERE, ["there are no members"])
    return found


def _wrong(members: Mapping[str, Any], weights: Any, options: Any, on_failure: Any, leave_out_after: Any, together: Any) -> list[str]:
    found = [f"the name {name!r} must be a text that is not empty" for name in members if not isinstance(name, str) or not name]
    for what, given in (("weights", weights), ("options", options)):
        if given is not None and not isinstance(given, Mapping):
            found.append(f"{what}={given!r} must map members to theirs")
            continue
        known = [name for name in members if isinstance(name, str)]
        found += [
            f"{what} has {n!r}; members are {', '.join(known)}.{did_you_mean(str(n), known)}" for n in given or () if n not in members
        ]
    if isinstance(weights, Mapping):
        wrong = [name for name, weight in weights.items() if not _is_weight(weight)]
        found += [f"weights has {weights[name]!r} for {name!r}; a weight is a finite number of at least 0" for name in wrong]
        if not wrong and members and all(weights.get(name, 1) == 0 for name in members):
            found.append("all weights are 0; a spare needs somebody whose place it takes")
    if isinstance(options, Mapping):
        found += [
            f"options for {name!r} are for devices that are made by name, and it is one already"
            for name in options
            if name in members and not isinstance(members[name], str)
        ]
    if on_failure not in _FAILURES:
        found.append(f"on_failure={on_failure!r} must be 'raise' or 'move'")
    for what, count in (("leave_out_after", leave_out_after), ("together", together)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            found.append(f"{what}={count!r} must be a whole number of at least 1")
    return found


def _is_weight(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf


def _made(device: Any, wires: Any, options: Mapping[str, Any] | None) -> Any:
    """The device that a name stands for, or the one that was given."""
    if not isinstance(device, str):
        return device
    return names.build(device, None, {**({} if wires is None else {"wires": wires}), **(options or {})})


def _wrong_devices(made: Mapping[str, Any], wires: Any) -> list[str]:
    from pennylane.devices import Device
    from pennylane.wires import Wires

    from pl_hybridjobs.spread.device import SpreadDevice

    found = [
        f"member {name!r} is {type(device).__name__}, not a PennyLane device"
        for name, device in made.items()
        if not isinstance(device, Device)
    ]
    devices = {name: device for name, device in made.items() if isinstance(device, Device)}
    found += [
        f"member {name!r} is spread over devices itself; give these" for name, device in devices.items() if isinstance(device, SpreadDevice)
    ]
    if len({id(device) for device in devices.values()}) < len(devices):
        found.append("one device stands under two names; give it a larger weight instead")
    labels = {name: None if device.wires is None else list(device.wires) for name, device in devices.items()}
    if wires is not None:
        asked = list(Wires(range(int(wires)) if isinstance(wires, Integral) else wires))
        found += [f"member {name!r} has the wires {mine}, not {asked}" for name, mine in labels.items() if mine != asked]
    elif any(mine != next(iter(labels.values())) for mine in labels.values()):
        found.append(f"members need the same wires in the same order, and have {labels}")
    return found
