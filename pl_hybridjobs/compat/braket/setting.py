"""Where jobs written for Amazon Braket run: there, on this machine, or in a rehearsal. Said once, on stderr, where it is not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from pl_hybridjobs.errors import InvalidCall, did_you_mean

VARIABLE = "HYBRIDJOBS_BRAKET"
Place = Literal["local", "rehearsal", "braket"]

_PLACES = ("local", "rehearsal", "braket")
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}

_NO_ACCOUNT = (
    "the job would go to Amazon Braket, and no AWS account is configured here. To run it on this machine, set "
    f"{VARIABLE}=local (or call pl_hybridjobs.compat.braket.use('local')); {VARIABLE}=rehearsal runs the real requests against an "
    f"emulator; {VARIABLE}=braket goes to Amazon Braket where the machine itself has credentials (an instance's role)"
)

_chosen = ""
_said: set[str] = set()


def use(place: Place | None) -> None:
    """Decide where jobs run that are not ``local=True``. Comes before ``$HYBRIDJOBS_BRAKET``, which decides the same.

    Args:
        place: ``"local"``: as processes of this machine; devices of Amazon Braket are then our simulators. ``"rehearsal"``: by the real
            requests, against an emulator on this machine. ``"braket"``: at Amazon Braket. None: as the variable says; without it
            at Amazon Braket, if an account is configured.

    Raises:
        InvalidCall: There is no such place.
    """
    global _chosen  # noqa: PLW0603 - the program's one decision
    if place is not None:
        _check(place, f"use({place!r})")
    _chosen = place or ""
    look_again()


def chosen() -> str:
    """What was decided: ``"local"``, ``"rehearsal"``, ``"braket"``, or ``""`` for nothing.

    Raises:
        InvalidCall: The variable names no place.
    """
    named = _named()
    if named:
        _check(named, f"{VARIABLE}={named}")
    return named


def is_local() -> bool:
    """Whether it was decided that jobs for Amazon Braket run here, and with our devices."""
    return _named() == "local"


def _named() -> str:
    return _chosen or os.environ.get(VARIABLE, "")


def runner_name(*, local: bool, has_session: bool) -> str:
    """The runner for a job.

    Args:
        local: The program itself says ``local=True``.
        has_session: It gives an AWS session.

    Raises:
        InvalidCall: Nothing was decided, and no AWS account is configured.
    """
    if local:
        return "local"
    named = chosen()
    if named == "local":
        say_once(f"hybrid jobs for Amazon Braket run on this machine ({VARIABLE}=local)")
    elif named == "rehearsal":
        say_once(f"hybrid jobs for Amazon Braket are rehearsed on this machine, at no cost ({VARIABLE}=rehearsal)")
    elif not named and not has_session and not aws_is_configured():
        raise InvalidCall("hybrid_job", [_NO_ACCOUNT])
    return named or "braket"


def aws_is_configured() -> bool:
    """Whether the environment or a file names AWS credentials. Asks nobody: an instance's own role is not seen."""
    if any(os.environ.get(name) for name in _CREDENTIALS):
        return True
    return any(Path(os.environ.get(name) or default).expanduser().is_file() for name, default in _FILES.items())


def say_once(text: str) -> None:
    """A line on stderr, the first time."""
    if text not in _said:
        _said.add(text)
        print(f"pl_hybridjobs.compat.braket: {text}", file=sys.stderr)


def look_again() -> None:
    """Tell PennyLane, if it is loaded, that other devices may be there now (see ``devices.Finder``)."""
    constructor = sys.modules.get("pennylane.devices.device_constructor")
    if constructor is not None:
        constructor.refresh_devices()


def _check(place: str, where: str) -> None:
    if place not in _PLACES:
        raise InvalidCall(where, [f"there is no place {place!r}; known are {', '.join(_PLACES)}.{did_you_mean(str(place), _PLACES)}"])
