"""Devices by Amazon Braket's names, and our simulators in their places where somebody decided so.

``use("local")`` (or the variable) is that decision. Then ``qml.device("braket.local.qubit")`` and ``qml.device("braket.aws.qubit")`` are
found by PennyLane, with Amazon's plugin and without it, and are ``hybridjobs.qubit`` or ``hybridjobs.mixed``; each says so, once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pl_hybridjobs.compat.braket import setting
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.jobs import device as names
from pl_hybridjobs.jobs.contract import NO_DEVICE

_SIMULATORS = {"sv1": "hybridjobs.qubit", "tn1": "hybridjobs.qubit", "dm1": "hybridjobs.mixed"}
_MIXED_BACKENDS = {"braket_dm"}
_PURE_BACKENDS = {"default", "braket_sv", "braket_sv_v2", "braket_oq3_sv", "simulator"}
_DEFAULT_SHOTS_QPU = 1000


def text_of(device: object) -> str:
    """A device as text: text itself, a member of ``Devices``, an ``AwsDevice``; None is ``"local:none/none"``.

    Raises:
        InvalidCall: It is something else.
    """
    if device is None:
        return NO_DEVICE
    for form in (device, getattr(device, "value", None), getattr(device, "arn", None)):
        if isinstance(form, str):
            return str(form)
    raise InvalidCall("hybrid_job", [f"device must be a device's ARN, local:<provider>/<name>, a device object or None, not {device!r}"])


def native(text: str) -> str | None:
    """The device that ``job_device()`` gives in a job for a device of this name; None: what it gives where none is named."""
    if text == NO_DEVICE:
        return None
    if setting.is_local() and (found := stand_in(text)):
        setting.say_once(f"{text} is {found} here{_caveat(text)} ({setting.VARIABLE}=local)")
        return found
    if text.startswith("local:") and names.complaints_of_name(text):
        return NO_DEVICE  # such texts are the user's own notes, at Amazon Braket
    return text


def stand_in(text: str) -> str | None:
    """Our simulator in a device's place; None if it needs none."""
    if text.startswith("arn:"):
        if names.complaints_of_name(text):
            return None
        return "hybridjobs.qubit" if ":device/qpu/" in text else _SIMULATORS.get(text.rpartition("/")[2].lower())
    provider, _, short = text.removeprefix("local:").partition("/")
    if not text.startswith("local:") or provider != "braket":
        return None
    return "hybridjobs.mixed" if short in _MIXED_BACKENDS else "hybridjobs.qubit" if short in _PURE_BACKENDS else None


def _caveat(text: str) -> str:
    return ": ideal, without the machine's noise, queue and price" if ":device/qpu/" in text else ""


class Finder:
    """Shows PennyLane two more devices, while it is decided that jobs for Amazon Braket run here. Stands in ``sys.meta_path``."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> None:
        """No modules come from here."""

    @classmethod
    def find_distributions(cls, context: Any) -> Iterable[importlib.metadata.Distribution]:
        """What ``importlib.metadata`` asks for. Of entry points with one name the last holds: all other finders' come first."""
        if context.name in (None, _Devices.NAME) and setting.is_local():
            for finder in sys.meta_path[sys.meta_path.index(cls) + 1 :]:
                yield from getattr(finder, "find_distributions", lambda _: ())(context)
            yield _Devices()

    @classmethod
    def install(cls) -> None:
        """Be asked from now on."""
        if cls not in sys.meta_path:
            sys.meta_path.append(cls)
            if setting.is_local():
                setting.look_again()


class _Devices(importlib.metadata.Distribution):
    """A distribution that is nowhere on the disk: two entry points."""

    NAME = "pl-hybridjobs-braket-devices"

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: {self.NAME}\nVersion: 0\n"
        if filename == "entry_points.txt":
            return f"[pennylane.plugins]\nbraket.local.qubit = {__name__}:local_qubit\nbraket.aws.qubit = {__name__}:aws_qubit\n"
        return None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return Path(path)


def local_qubit(wires: Any = None, backend: object = "default", *, shots: Any = None, **run_options: Any) -> Any:
    """In the place of the plugin's ``braket.local.qubit``. Options of Amazon's own running are taken and mean nothing here."""
    found = stand_in(f"local:braket/{backend}")
    if found is None:
        known = ", ".join(sorted(_PURE_BACKENDS | _MIXED_BACKENDS))
        raise InvalidCall("braket.local.qubit", [f"there is no backend {backend!r} here; known are {known}"])
    return _build(f"braket.local.qubit, backend {backend}", found, wires, shots, run_options)


def aws_qubit(wires: Any = None, device_arn: object = "", s3_destination_folder: object = None, *, shots: Any = ..., **options: Any) -> Any:
    """In the place of the plugin's ``braket.aws.qubit``. A simulator is exact by default; a machine's default is 1000 shots."""
    arn = text_of(device_arn)
    is_qpu = ":device/qpu/" in arn
    found = stand_in(arn)
    if found is None:
        raise InvalidCall("braket.aws.qubit", [f"device_arn={arn!r} is no device of Amazon Braket that is known here"])
    if shots is ... or getattr(shots, "name", "") == "DEFAULT":
        shots = _DEFAULT_SHOTS_QPU if is_qpu else None
    if is_qpu and not shots:
        raise InvalidCall("braket.aws.qubit", ["a machine gives samples only; shots must be at least 1"])
    return _build(f"braket.aws.qubit, {arn}", found, wires, shots or None, options)


def _build(wanted: str, found: str, wires: Any, shots: Any, options: dict[str, Any]) -> Any:
    if options.get("noise_model") is not None:
        raise InvalidCall(wanted, ["noise_model is Amazon's; add channels to the circuit, or qml.noise.add_noise, on hybridjobs.mixed"])
    setting.say_once(f"{wanted} is {found} here{_caveat(wanted)} ({setting.VARIABLE}=local)")
    qml = importlib.import_module("pennylane")
    with warnings.catch_warnings():  # PennyLane wants shots on the QNode; the plugin's devices have them all the same
        warnings.simplefilter("ignore", qml.exceptions.PennyLaneDeprecationWarning)
        return qml.device(found, wires=wires, shots=shots)
