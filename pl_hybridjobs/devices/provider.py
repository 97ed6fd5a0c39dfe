"""The port to remote devices: what a provider must be able to do, and the frozen data that goes through.

A provider is found by the entry point group ``pl_hybridjobs.qpus``. Its name stands in front of the target: ``"rehearsal:ideal"`` belongs
to ``rehearsal``; an Amazon resource name belongs to its service, so ``"arn:aws:braket:..."`` to ``braket``. The entry point is a function
``open(target, **options) -> QPU`` that contacts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from pennylane.tape import QuantumScript

    from pl_hybridjobs.cost.prices import Price

    Array = np.ndarray[Any, Any]


class TaskState(StrEnum):
    """Where a task stands. The last three are final."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it stays so."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True)
class ProgramSets:
    """Many circuits as one task.

    Attributes:
        max_circuits: In one task.
        max_total_shots: Of all its circuits together.
    """

    max_circuits: int
    max_total_shots: int


@dataclass(frozen=True)
class Capabilities:
    """What a device can do.

    Attributes:
        name: The vendor's name of the device, for people.
        provider: The vendor.
        is_simulator: Whether it computes, so that it may know states and exact expectation values.
        qubits: The numbers of its qubits. Simulators: 0 to n - 1.
        gates: Operations that it takes, by PennyLane's names.
        native_gates: Those that it runs without a compiler, by PennyLane's names; empty: it has no such mode.
        connectivity: Pairs of qubits that two-qubit gates may act on; None: all.
        channels: Noise channels that it takes, by PennyLane's names.
        observables: What it measures in the eigenbasis of, by PennyLane's names; empty: only the computational basis.
        analytic: Measurements that it returns exactly where shots is 0, by the names of PennyLane's classes without "MP": "Expectation",
            "Variance", "Probability", "State", "DensityMatrix".
        min_shots: At least 1 unless it is analytic.
        max_shots: Of one circuit.
        program_sets: Its limits where it takes many circuits as one task.
        mid_circuit: Whether it measures and resets in the middle of a circuit, and acts on the outcome.
        adjoint_gradient: Whether it returns the gradient of one expectation value of an analytic circuit.
        max_in_flight: How many tasks it takes at once from one user; None: not known.
        region: Where it is; "" where that means nothing.
        extra: What the provider needs for itself.
    """

    name: str
    provider: str
    is_simulator: bool
    qubits: tuple[int, ...]
    gates: frozenset[str]
    native_gates: frozenset[str] = frozenset()
    connectivity: frozenset[tuple[int, int]] | None = None
    channels: frozenset[str] = frozenset()
    observables: frozenset[str] = frozenset()
    analytic: frozenset[str] = frozenset()
    min_shots: int = 1
    max_shots: int = 1_000_000
    program_sets: ProgramSets | None = None
    mid_circuit: bool = False
    adjoint_gradient: bool = False
    max_in_flight: int | None = None
    region: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Availability:
    """Whether a device takes tasks now.

    Attributes:
        state: "online", "offline" or "retired".
        queue: How many tasks wait, as the provider says it ("" where it does not).
        priority_queue: Of those with priority.
        note: When it comes back, if that is known.
    """

    state: str
    queue: str = ""
    priority_queue: str = ""
    note: str = ""


@dataclass(frozen=True)
class Task:
    """What is bought at once: one circuit, or several as a program set.

    Attributes:
        key: Names the purchase. The same key never buys twice: at most 64 characters of letters, digits and "-".
        circuits: With what the device can do, on its wires, 0 to n - 1 in the device's order. With shots: measurements are one
            ``qml.sample`` or ``qml.counts`` without an observable, of the measured wires; without: what ``Capabilities.analytic`` names.
        shots: Of each circuit; 0: analytic.
        gradient: Also wanted: the derivatives by the trainable parameters of the one circuit. Otherwise circuits have none of those.
        verbatim: Run it as it is, on the physical qubits that the wires name.
        session: The name that it goes by with others; "" for none.
        tags: For the provider to keep.
        token: What gives it a job's priority; "" for none. A secret: never logged or stored.
        places: One for each circuit: where it stands among all that its device buys, the same whenever the same is done again. For who
            repeats samples by a seed; () where nobody knows.
        was_sent: It may have been submitted before, perhaps by an earlier attempt of the job, with other tags or another token.
    """

    key: str
    circuits: tuple[QuantumScript, ...]
    shots: int
    gradient: bool = False
    verbatim: bool = False
    session: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    places: tuple[str, ...] = ()
    was_sent: bool = False


@dataclass(frozen=True)
class TaskStatus:
    """Where a task stands.

    Attributes:
        state: Where.
        reason: Why it failed or was cancelled, in the provider's words.
        queue_position: As the provider says it; "" where it does not.
        priority: "normal" or "priority"; "" where the provider does not say.
        cost_usd: What it has cost, where the provider tells; None: it does not.
    """

    state: TaskState
    reason: str = ""
    queue_position: str = ""
    priority: str = ""
    cost_usd: float | None = None


@dataclass(frozen=True)
class CircuitResult:
    """What one circuit gave.

    Attributes:
        bits: With shots: uint8 of shape ``(shots, wires)``, in the order of the circuit's measured wires.
        values: Without: one for each measurement, as PennyLane shapes them.
        gradient: One for each trainable parameter, where it was asked for.
    """

    bits: Array | None = None
    values: tuple[Any, ...] = ()
    gradient: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """What a task gave.

    Attributes:
        task_id: The provider's name of it.
        target: The device that made it.
        circuits: In the task's order.
        billed_s: Seconds, where time is billed; 0 otherwise.
        shots: Those that were made, of all circuits together.
    """

    task_id: str
    target: str
    circuits: tuple[CircuitResult, ...]
    billed_s: float = 0.0
    shots: int = 0


class QPU(Protocol):
    """A remote device. Its methods may be called from several threads; making it contacts nothing.

    All of them raise ``ProviderError`` where the service refuses or cannot be reached: retrying what may be retried is the provider's
    work, for it knows what may.
    """

    @property
    def target(self) -> str:
        """What the user wrote."""

    def capabilities(self) -> Capabilities:
        """Looked up once, then kept."""

    def availability(self) -> Availability:
        """Looked up each time."""

    def price(self) -> Price | None:
        """What tasks cost; None: not known, which is never taken for nothing."""

    def complaints(self, tasks: Sequence[Task]) -> list[str]:
        """What these tasks hold that the device's language cannot say, one sentence each. Asked before any of them is paid for."""

    def submit(self, task: Task) -> str:
        """Buy a task, or find the one that this key has bought before.

        Returns:
            The provider's name of the task.

        Raises:
            TranslationError: The circuit cannot be said in the device's language; nothing was bought.
            DeviceOffline: Nothing was bought.
            ProviderError: If nothing is known of what became of it, the same key may be submitted again.
        """

    def status(self, task_id: str) -> TaskStatus:
        """Where it stands."""

    def result(self, task_id: str, task: Task) -> TaskResult:
        """Of a completed task: results are shaped after what was submitted."""

    def cancel(self, task_id: str) -> None:
        """Ask for its end; harmless if it has ended."""
