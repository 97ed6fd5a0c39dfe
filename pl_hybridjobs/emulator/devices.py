"""The emulated devices: what each can do and costs (``catalogue/*.json``), and whether it takes tasks now."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.errors import InvalidCall, did_you_mean

#: Where Amazon Braket is; its own simulators are in each of them.
REGIONS = ("us-east-1", "us-west-1", "us-west-2", "eu-west-2", "eu-north-1")
PROGRAM = "braket.ir.openqasm.program"
PROGRAM_SET = "braket.ir.openqasm.program_set"


@dataclass(frozen=True)
class Device:
    """What does not change about a device.

    Attributes:
        arn: Its name in the API.
        name: Its name for people.
        provider: The vendor.
        kind: ``"QPU"`` or ``"SIMULATOR"``.
        regions: Where it is found.
        concurrency: How many tasks it runs at the same time.
        price: USD by ``"task"`` and ``"shot"``, or by ``"minute"`` with at least ``"minimum_s"``.
        capabilities: As Braket's device schemas have them.
        probabilities: Results hold probabilities of outcomes in place of the outcomes of each shot.
        dynamic: Measurements in the middle of a circuit are among its experimental capabilities.
        metadata: The name of the vendor's part in ``additionalMetadata`` of results.
    """

    arn: str
    name: str
    provider: str
    kind: str
    regions: tuple[str, ...]
    concurrency: int
    price: dict[str, str]
    capabilities: dict[str, Any] = field(repr=False)
    probabilities: bool = False
    dynamic: bool = False
    metadata: str = "simulatorMetadata"

    @property
    def is_simulator(self) -> bool:
        """Whether it computes."""
        return self.kind == "SIMULATOR"

    @property
    def is_noisy(self) -> bool:
        """Whether it computes with density matrices."""
        return any(name.startswith("braket_noise") for name in self.program["supportedPragmas"])

    @property
    def program(self) -> dict[str, Any]:
        """What it takes as an OpenQASM program."""
        return dict(self.capabilities["action"][PROGRAM])

    @property
    def program_set(self) -> dict[str, Any] | None:
        """Its limits of program sets; None: it takes none."""
        return self.capabilities["action"].get(PROGRAM_SET)

    @property
    def shots_range(self) -> tuple[int, int]:
        """Of one circuit."""
        least, most = self.capabilities["service"]["shotsRange"]
        return least, most

    @property
    def qubit_count(self) -> int:
        """How many qubits it has."""
        return int(self.capabilities["paradigm"]["qubitCount"])

    @cached_property
    def gates(self) -> frozenset[str]:
        """Names of operations that it takes, in small letters."""
        return frozenset(name.lower() for name in self.program["supportedOperations"])

    @cached_property
    def native_gates(self) -> frozenset[str]:
        """Names of operations that it takes verbatim, in small letters."""
        return frozenset(name.lower() for name in self.capabilities["paradigm"].get("nativeGateSet", ()))

    @cached_property
    def graph(self) -> dict[int, frozenset[int]] | None:
        """Each qubit's neighbours in both directions; None: all are neighbours of all."""
        connectivity = self.capabilities["paradigm"].get("connectivity")
        if connectivity is None or connectivity["fullyConnected"]:
            return None
        neighbours: dict[int, set[int]] = {}
        for one, others in connectivity["connectivityGraph"].items():
            for other in others:
                neighbours.setdefault(int(one), set()).add(int(other))
                neighbours.setdefault(int(other), set()).add(int(one))
        return {qubit: frozenset(near) for qubit, near in neighbours.items()}

    @cached_property
    def capabilities_text(self) -> str:
        """As the API gives them."""
        return json.dumps(self.capabilities)


@cache
def catalogue() -> dict[str, Device]:
    """All devices that the emulator knows, by ARN."""
    found = {}
    for path in sorted(files(__package__).joinpath("catalogue").iterdir(), key=lambda p: p.name):
        row = json.loads(path.read_text(encoding="utf-8"))
        device = Device(**{**row, "regions": tuple(row["regions"] or REGIONS)})
        found[device.arn] = device
    return found


def chosen(names: Sequence[str] | str | None) -> list[Device]:
    """Devices by ARN or name (``"SV1"``), or by a text of those with commas between; None: all.

    Raises:
        InvalidCall: Some are not known.
    """
    known = catalogue()
    by_name = {device.name.lower(): device for device in known.values()}
    found, complaints = [], []
    for name in [part.strip() for part in names.split(",")] if isinstance(names, str) else known if names is None else names:
        device = known.get(name) or by_name.get(name.lower())
        if device is None:
            near = did_you_mean(name, [d.name for d in known.values()])
            complaints.append(f"there is no emulated device {name!r}.{near} Known: {', '.join(d.name for d in known.values())}.")
        else:
            found.append(device)
    if complaints or not found:
        raise InvalidCall("emulator(devices=...)", complaints or ["no device was named."])
    return found


class Fleet:
    """The devices of one emulator, and which of them take tasks now.

    Args:
        devices: Those that there are.
        clock: For the offline windows.
        windows: For each device (``""``: all) times ``(from, until)`` in seconds after the start at which it is offline.
    """

    def __init__(self, devices: Sequence[Device], clock: Clock, windows: dict[str, Sequence[tuple[float, float]]] | None = None) -> None:
        self._devices = {device.arn: device for device in devices}
        self._clock = clock
        self._windows = {(self.find(name).arn if name else ""): tuple(times) for name, times in (windows or {}).items()}
        self._forced: dict[str, str] = {}
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def find(self, name: str) -> Device:
        """A device by ARN or name.

        Raises:
            InvalidCall: There is none.
        """
        for device in self:
            if name in (device.arn, device.name):
                return device
        raise InvalidCall("emulator", [f"there is no device {name!r} here.{did_you_mean(name, [d.name for d in self])}"])

    def in_region(self, arn: str, region: str) -> Device:
        """The device as the API knows it there.

        Raises:
            Refused: It is not there.
        """
        device = self._devices.get(arn)
        if device is None or region not in device.regions:
            raise Refused("ResourceNotFoundException", f"Device {arn} not found in {region}")
        return device

    def visible(self, region: str) -> list[Device]:
        """Those in a region."""
        return [device for device in self if region in device.regions]

    def set_status(self, name: str, status: str | None) -> None:
        """Make a device ``"ONLINE"``, ``"OFFLINE"`` or ``"RETIRED"``; None: as its windows say."""
        device = self.find(name)
        if status not in ("ONLINE", "OFFLINE", "RETIRED", None):
            raise InvalidCall("emulator", [f"{status!r} is no status; there are 'ONLINE', 'OFFLINE', 'RETIRED' and None."])
        with self._lock:
            if status is None:
                self._forced.pop(device.arn, None)
            else:
                self._forced[device.arn] = status

    def hold(self, name: str) -> None:
        """Let a device take tasks and start none."""
        self._held.add(self.find(name).arn)

    def release(self, name: str) -> None:
        """Let it go on."""
        self._held.discard(self.find(name).arn)

    def is_working(self, arn: str) -> bool:
        """Whether tasks start there now."""
        return arn not in self._held and self.status(arn) == "ONLINE"

    def status(self, arn: str) -> str:
        """``"ONLINE"``, ``"OFFLINE"`` or ``"RETIRED"`` now."""
        with self._lock:
            if arn in self._forced:
                return self._forced[arn]
        now = self._clock.elapsed_s()
        windows: Collection[tuple[float, float]] = self._windows.get(arn, ()) or self._windows.get("", ())
        return "OFFLINE" if any(begin <= now < end for begin, end in windows) else "ONLINE"

    def check_open(self, device: Device) -> None:
        """Refuse tasks for a device that takes none."""
        status = self.status(device.arn)
        if status == "RETIRED":
            raise Refused("DeviceRetiredException", f"Device {device.arn} is retired and takes no tasks.")
        if status == "OFFLINE":
            raise Refused("DeviceOfflineException", f"Device {device.arn} is currently offline.")
