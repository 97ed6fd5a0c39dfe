"""``rehearsal:NAME``: our simulators behind a remote device's manners (a queue, latency, outages, limits, a price), in this process.

For trying a program out before it costs money, and for tests. Nothing leaves the process; with ``folder=`` tasks are kept in a folder, so
that another process finds them again, as it would at a real provider.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pl_hybridjobs.devices.provider import (
    Availability,
    Capabilities,
    CircuitResult,
    ProgramSets,
    Task,
    TaskResult,
    TaskState,
    TaskStatus,
)
from pl_hybridjobs.errors import DeviceOffline, InvalidCall, ProviderError, did_you_mean

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

    from pl_hybridjobs.cost.prices import Price

#: Held while something is computed by PennyLane's own code beside other threads: where it records operators is one place for all of them.
COMPUTING = threading.Lock()

_PREFIX = "rehearsal:"
_GATES = """Identity PauliX PauliY PauliZ Hadamard S Adjoint(S) T Adjoint(T) SX Adjoint(SX) RX RY RZ PhaseShift CNOT CY CZ
    ControlledPhaseShift CPhaseShift00 CPhaseShift01 CPhaseShift10 SWAP ISWAP PSWAP IsingXX IsingXY IsingYY IsingZZ ECR Toffoli CSWAP
    GlobalPhase"""
_CHANNELS = "AmplitudeDamping BitFlip DepolarizingChannel GeneralizedAmplitudeDamping PhaseDamping PhaseFlip QubitChannel"
_OBSERVABLES = frozenset({"PauliX", "PauliY", "PauliZ", "Hadamard", "Identity", "Hermitian"})
_ANALYTIC = frozenset({"Expectation", "Variance", "Probability", "State", "DensityMatrix"})


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a rehearsal behaves. Each of these is an option of the device, or a part of the target: ``"rehearsal:ideal?latency_s=0.5"``.

    Attributes:
        latency_s: How long a task runs.
        call_s: How long each call to the service takes.
        queue_s: How long a task waits before it may run.
        at_once: How many tasks run at the same time; None: all.
        in_flight: How many tasks may wait or run before more are refused; None: no limit.
        offline_s: The device is offline for so long after it was opened; ``inf``: always.
        throttle: Each so-manieth call is refused at first, and repeated by the provider itself; 0: none.
        task_usd: Price of a task.
        shot_usd: Price of a shot.
        priced: Whether the price is known at all.
        seed: The same circuits in the same order give the same samples, in every process; None: each task draws its own.
        fails: Numbers of the tasks that fail, in the order in which they were bought, from 0.
        cancels: Numbers of those that somebody else cancels.
        loses: Numbers of those whose purchase is accepted, but the reply is lost.
        folder: Where tasks are kept; None: in memory.
        qubits: How many; None, here and below: as its name says.
        min_shots: Of a circuit.
        max_shots: Of a circuit.
        set_circuits: Circuits in a program set; 0: it takes none.
        set_shots: Shots of a program set.
        mid_circuit: Whether it measures in the middle of circuits.
        noise: The probability of an error after each gate, on each of its qubits.
        readout: The probability that a bit is read wrong.
    """

    latency_s: float = 0.0
    call_s: float = 0.0
    queue_s: float = 0.0
    at_once: int | None = None
    in_flight: int | None = None
    offline_s: float = 0.0
    throttle: int = 0
    task_usd: float = 0.0
    shot_usd: float = 0.0
    priced: bool = True
    seed: int | None = None
    fails: tuple[int, ...] = ()
    cancels: tuple[int, ...] = ()
    loses: tuple[int, ...] = ()
    folder: str | None = None
    qubits: int | None = None
    min_shots: int | None = None
    max_shots: int | None = None
    set_circuits: int | None = None
    set_shots: int | None = None
    mid_circuit: bool | None = None
    noise: float = 0.0
    readout: float = 0.0

    def complaints(self) -> list[str]:
        """What is wrong with it."""
        found = []
        for name, kind in typing.get_type_hints(Manners).items():
            value = getattr(self, name)
            if not _is_a(value, kind):
                found.append(f"{name}={value!r} must be {_WORDS[kind]}")
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int | float) and not number >= 0 for number in numbers):
                found.append(f"{name} must not be negative, and is {value!r}")
            elif name in _AT_LEAST_ONE and value == 0:
                found.append(f"{name} must be at least 1, and is 0")
            elif name in ("noise", "readout") and value > 1:
                found.append(f"{name} is a probability, and is {value}")
        return found


_AT_LEAST_ONE = ("at_once", "in_flight", "qubits", "min_shots", "max_shots")
_WORDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    int | None: "a whole number, or left out",
    bool | None: "true or false, or left out",
    str | None: "a path, or left out",
    tuple[int, ...]: "whole numbers (in a target: 0,2)",
}


def _is_a(value: Any, kind: Any) -> bool:
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(_is_a(number, int) for number in value)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    kinds = typing.get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (int in kinds and isinstance(value, Integral))


def _ring(size: int) -> frozenset[tuple[int, int]]:
    return frozenset((i, (i + 1) % size) for i in range(size))


_SIMULATOR = Capabilities(
    name="ideal",
    provider="rehearsal",
    is_simulator=True,
    qubits=tuple(range(20)),
    gates=frozenset([*_GATES.split(), "QubitUnitary"]),
    observables=_OBSERVABLES,
    analytic=_ANALYTIC,
    min_shots=1,
    max_shots=1_000_000,
    adjoint_gradient=True,
)
_NOISY = replace(
    _SIMULATOR, name="noisy", qubits=tuple(range(10)), channels=frozenset(_CHANNELS.split()), adjoint_gradient=False, max_shots=100_000
)
_QPU = Capabilities(
    name="qpu",
    provider="rehearsal",
    is_simulator=False,
    qubits=tuple(range(8)),
    gates=frozenset(_GATES.split()),
    native_gates=frozenset({"RX", "RZ", "CZ"}),
    connectivity=_ring(8),
    min_shots=1,
    max_shots=10_000,
    program_sets=ProgramSets(max_circuits=100, max_total_shots=100_000),
)
_DEVICES = {capabilities.name: capabilities for capabilities in (_SIMULATOR, _NOISY, _QPU)}
_USUAL = {"noisy": {"noise": 0.01, "readout": 0.01}}


def open_rehearsal(target: str, **options: Any) -> Rehearsal:
    """The entry point: ``"rehearsal:ideal"``, ``"rehearsal:noisy"`` (channels), ``"rehearsal:qpu"`` (shots only, program sets).

    Args:
        target: With options behind a ``?``, if there are any.
        **options: See ``Manners``. Those in the target come before them.

    Raises:
        InvalidCall: No such device or option; all complaints.
    """
    name, _, query = target.removeprefix(_PREFIX).partition("?")
    known = ", ".join(f"{_PREFIX}{device}" for device in _DEVICES)
    found = [] if name in _DEVICES else [f"there is no {_PREFIX}{name}; there are {known}.{did_you_mean(name, _DEVICES)}"]
    given: dict[str, Any] = dict(_USUAL.get(name, {}))
    kinds = typing.get_type_hints(Manners)
    texts = dict(parse_qsl(query, keep_blank_values=True))
    strange = []
    for option in {**options, **texts}:
        if option not in kinds:
            strange.append(option)
        elif option not in texts:
            given[option] = options[option]
        else:
            try:
                given[option] = _read(texts[option], str(kinds[option]))
            except ValueError:
                given[option] = texts[option]
    if strange:
        near = "".join(did_you_mean(option, kinds) for option in strange)
        found.append(f"a rehearsal has no option {', '.join(map(repr, strange))}; it has {', '.join(kinds)}.{near}")
    if isinstance(given.get("folder"), Path):
        given["folder"] = str(given["folder"])
    for option in ("fails", "cancels", "loses"):
        if isinstance(given.get(option), list):
            given[option] = tuple(given[option])
    found += Manners(**given).complaints()
    if found:
        raise InvalidCall(target, found)
    return Rehearsal(target, _DEVICES[name], Manners(**given))


def _read(text: str, kind: str) -> Any:
    if "tuple" in kind:
        return tuple(int(part) for part in text.split(",") if part)
    if "bool" in kind:
        return {"true": True, "false": False}.get(text.lower(), text) if text.isalpha() else bool(int(text))
    if "float" in kind:
        return float(text)
    return int(text) if "int" in kind else text


@dataclass(frozen=True)
class Purchase:
    """One task as the provider remembers it.

    Attributes:
        key: The purchase's.
        number: How many were bought before.
        circuits: How many it holds.
        shots: Of each.
        bought_s: Unix time.
        starts_s: When it leaves the queue.
        ends_s: When it is done.
    """

    key: str
    number: int
    circuits: int
    shots: int
    bought_s: float
    starts_s: float
    ends_s: float


class Rehearsal:
    """A QPU of this process. See ``provider.QPU``.

    Attributes:
        submissions: How often ``submit`` was called, also for what was bought already.
    """

    def __init__(self, target: str, device: Capabilities, manners: Manners) -> None:
        self.target = target
        self.manners = manners
        self.submissions = 0
        self._device = _with(device, manners)
        self._opened_s = time.time()
        self._calls = 0
        self._bought: dict[str, Purchase] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    # The port ------------------------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """See ``QPU``."""
        return self._device

    def price(self) -> Price | None:
        """See ``QPU``."""
        if not self.manners.priced:
            return None
        from pl_hybridjobs.cost.prices import Price

        usd = [Decimal(str(amount)) for amount in (self.manners.task_usd, self.manners.shot_usd)]
        return Price(device=self.target, per_task_usd=usd[0], per_shot_usd=usd[1], source="the rehearsal's options")

    def availability(self) -> Availability:
        """See ``QPU``."""
        self._call()
        left_s = self._opened_s + self.manners.offline_s - time.time()
        if left_s > 0:
            return Availability("offline", note="never" if left_s == float("inf") else f"in {left_s:.1f} s")
        with self._lock:
            return Availability("online", queue=str(sum(p.starts_s > time.time() for p in self._purchases())))

    def complaints(self, tasks: Sequence[Task]) -> list[str]:
        """See ``QPU``. It speaks PennyLane's language."""
        return []

    def submit(self, task: Task) -> str:
        """See ``QPU``.

        Raises:
            DeviceOffline: As its manners say.
            ProviderError: Too many tasks are in flight, or the reply was lost.
        """
        self._call()
        with self._lock:
            self.submissions += 1
            known = self._find(task.key)
            if known is None:
                if time.time() < self._opened_s + self.manners.offline_s:
                    raise DeviceOffline(f"{self.target} is offline")
                known = self._buy(task)
                if known.number in self.manners.loses:
                    raise ProviderError(
                        f"{self.target}: the connection was lost while the service was answering; the same call finds what it has bought"
                    )
        return _task_id(known.key)

    def status(self, task_id: str) -> TaskStatus:
        """See ``QPU``."""
        self._call()
        with self._lock:
            task = self._known(task_id)
            now_s = time.time()
            if self._is_cancelled(task):
                return TaskStatus(TaskState.CANCELLED, reason="cancelled by its owner", cost_usd=0.0)
            if now_s < task.starts_s:
                ahead = sum(p.starts_s > now_s and p.number < task.number for p in self._purchases())
                return TaskStatus(TaskState.QUEUED, queue_position=str(ahead + 1), priority="normal")
            if now_s < task.ends_s:
                return TaskStatus(TaskState.RUNNING)
            if task.number in self.manners.fails:
                return TaskStatus(TaskState.FAILED, reason="the rehearsal was told to fail this one", cost_usd=0.0)
            if task.number in self.manners.cancels:
                return TaskStatus(TaskState.CANCELLED, reason="the rehearsal was told to cancel this one", cost_usd=0.0)
            return TaskStatus(TaskState.COMPLETED, cost_usd=self.cost_usd(task))

    def result(self, task_id: str, task: Task) -> TaskResult:
        """See ``QPU``."""
        self._call()
        with self._lock:
            self._known(task_id)
        from pl_hybridjobs.devices.fingerprint import fingerprint

        made = []
        for number, circuit in enumerate(task.circuits):
            place = task.places[number] if task.places else ""
            what = f"{fingerprint([circuit], task.shots)} {place}" if self.manners.seed is not None else f"{task.key} {number}"
            entropy = int.from_bytes(hashlib.sha256(f"{self.manners.seed} {what}".encode()).digest()[:8], "big")
            with COMPUTING:
                made.append(_computed(circuit, task.shots, entropy, self.manners))
        return TaskResult(task_id, self.target, tuple(made), shots=task.shots * len(task.circuits))

    def cancel(self, task_id: str) -> None:
        """See ``QPU``."""
        self._call()
        with self._lock:
            task = self._known(task_id)
            if time.time() < task.ends_s:
                self._cancelled.add(task.key)
                if self.manners.folder is not None:
                    self._path(task.key, "cancelled").touch()

    # What it remembers ---------------------------------------------------------------------------------------------------

    @property
    def bought(self) -> tuple[Purchase, ...]:
        """All that was ever bought here, in this process or (with a folder) in others, in order."""
        with self._lock:
            return tuple(sorted(self._purchases(), key=lambda purchase: purchase.number))

    def cost_usd(self, task: Purchase) -> float | None:
        """What a completed task costs; None where prices are not known."""
        price = self.price()
        return None if price is None else float(price.usd(tasks=1, shots=task.shots * task.circuits))

    def _call(self) -> None:
        """Each call takes its time; those that are throttled take it twice."""
        with self._lock:
            self._calls += 1
            twice = self.manners.throttle and self._calls % self.manners.throttle == 0
        if self.manners.call_s:
            time.sleep(self.manners.call_s * (2 if twice else 1))
        elif twice:
            time.sleep(0.001)

    def _buy(self, task: Task) -> Purchase:
        now_s, bought = time.time(), list(self._purchases())
        busy = sorted(purchase.ends_s for purchase in bought if purchase.ends_s > now_s and not self._is_cancelled(purchase))
        if self.manners.in_flight is not None and len(busy) >= self.manners.in_flight:
            raise ProviderError(f"{self.target} takes {self.manners.in_flight} tasks at once, and has them")
        at_once = self.manners.at_once
        free_s = busy[-at_once] if at_once is not None and len(busy) >= at_once else now_s
        starts_s = max(now_s + self.manners.queue_s, free_s)
        purchase = Purchase(task.key, len(bought), len(task.circuits), task.shots, now_s, starts_s, starts_s + self.manners.latency_s)
        self._bought[task.key] = purchase
        if self.manners.folder is not None:
            path = self._path(task.key, "json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(purchase)))
        return purchase

    def _path(self, key: str, kind: str) -> Path:
        assert self.manners.folder is not None
        return Path(self.manners.folder) / f"{key}.{kind}"

    def _purchases(self) -> Sequence[Purchase]:
        if self.manners.folder is not None:
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(self.manners.folder):
                    if name.endswith(".json"):
                        self._find(name.removesuffix(".json"))
        return list(self._bought.values())

    def _find(self, key: str) -> Purchase | None:
        if key not in self._bought and self.manners.folder is not None:
            # A process that was killed before it had written all has bought nothing.
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._bought[key] = Purchase(**json.loads(self._path(key, "json").read_text()))
        return self._bought.get(key)

    def _known(self, task_id: str) -> Purchase:
        task = self._find(task_id.removeprefix("rehearsal-task/"))
        if task is None:
            raise ProviderError(f"{self.target} knows no task {task_id}; a rehearsal without folder= forgets them with its process")
        return task

    def _is_cancelled(self, task: Purchase) -> bool:
        return task.key in self._cancelled or (self.manners.folder is not None and self._path(task.key, "cancelled").exists())


def _task_id(key: str) -> str:
    return f"rehearsal-task/{key}"


def _with(device: Capabilities, manners: Manners) -> Capabilities:
    """A device's capabilities as its manners change them."""
    changes: dict[str, Any] = {"max_in_flight": manners.in_flight}
    changes |= {name: value for name in ("min_shots", "max_shots", "mid_circuit") if (value := getattr(manners, name)) is not None}
    if manners.qubits is not None:
        changes["qubits"] = tuple(range(manners.qubits))
        changes["connectivity"] = None if device.connectivity is None else _ring(manners.qubits)
    sets = device.program_sets
    if manners.set_circuits is not None or manners.set_shots is not None:
        most = sets.max_circuits if manners.set_circuits is None and sets else manners.set_circuits or 0
        shots = manners.set_shots if manners.set_shots is not None else sets.max_total_shots if sets else device.max_shots
        changes["program_sets"] = ProgramSets(most, shots) if most else None
    return replace(device, **changes)


# Simulation ------------------------------------------------------------------------------------------------------------------


def _computed(circuit: QuantumScript, shots: int, entropy: int, manners: Manners) -> CircuitResult:
    """What one circuit gives."""
    import numpy as np
    import pennylane as qml

    from pl_hybridjobs.devices.mixed import HybridMixed
    from pl_hybridjobs.devices.simulator import HybridQubit

    wires = range(max([0, *circuit.wires]) + 1)
    noisy = manners.noise or manners.readout or any(isinstance(op, qml.operation.Channel) for op in circuit.operations)
    seeded = {"wires": wires, "seed": entropy}
    device = HybridMixed(**seeded, readout_prob=manners.readout) if noisy else HybridQubit(**seeded)
    tape = circuit.copy(operations=_with_noise(circuit.operations, manners.noise), shots=shots or None)
    method = "tree-traversal" if any(isinstance(op, qml.ops.MidMeasure) for op in tape.operations) and not noisy else None
    config = device.setup_execution_config(qml.devices.ExecutionConfig(mcm_config=qml.devices.MCMConfig(mcm_method=method)), tape)
    tapes, joined = device.preprocess_transforms(config)([tape])
    (values,) = joined(device.execute(tapes, config))
    if shots:
        bits = np.asarray(values, dtype=np.uint8).reshape(shots, -1)
        return CircuitResult(bits=bits)
    gradient = _gradient(circuit, device) if circuit.trainable_params else ()
    return CircuitResult(values=values if len(circuit.measurements) > 1 else (values,), gradient=gradient)


def _with_noise(operations: Sequence[Any], probability: float) -> list[Any]:
    import pennylane as qml

    if not probability:
        return list(operations)
    noisy: list[Any] = []
    for op in operations:
        noisy.append(op)
        if not isinstance(op, qml.operation.Channel | qml.ops.MidMeasure):
            noisy += [qml.DepolarizingChannel(probability, wire) for wire in op.wires]
    return noisy


def _gradient(circuit: QuantumScript, device: Any) -> tuple[float, ...]:
    """Derivatives by the trainable parameters, by the simulator's adjoint method."""
    import numpy as np
    import pennylane as qml

    config = device.setup_execution_config(qml.devices.ExecutionConfig(gradient_method="adjoint"), circuit)
    tapes, _ = device.preprocess_transforms(config)([circuit])
    jacobian = device.compute_derivatives(tapes, config)[0]
    return tuple(float(np.asarray(part)) for part in (jacobian if isinstance(jacobian, tuple) else (jacobian,)))
