"""Providers of remote devices, as the contract suite drives them: what it buys, what the provider says was bought, what goes wrong there.

A provider that is to pass the suite adds a class with these methods to ``PROVIDERS``, or names it: ``--provider MODULE:CLASS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pennylane as qml


@dataclass(frozen=True)
class Bought:
    """One task in the provider's own record.

    Attributes:
        circuits: How many it holds.
        shots: Of each.
    """

    circuits: int
    shots: int


class RehearsalProvider:
    """``rehearsal:...``."""

    def target(self, kind: str) -> str:
        """Of a "simulator" (exact values, gradients), a "noisy" one (channels) or a "qpu" (shots, program sets)."""
        return {"simulator": "rehearsal:ideal", "noisy": "rehearsal:noisy", "qpu": "rehearsal:qpu"}[kind]

    def online(self, kind: str) -> str:
        """A target that is online even where the device's manners say offline, as a fallback."""
        return f"{self.target(kind)}?offline_s=0"

    def device(self, kind: str, *, manners: dict[str, Any] | None = None, **options: Any) -> Any:
        """A PennyLane device.

        Args:
            kind: See ``target``.
            manners: How the service behaves: latency_s, call_s, offline_s, throttle (each n-th call is refused at first), in_flight (tasks
                that it takes at once), fails, cancels, loses (numbers of tasks, in the order of purchase, that fail, are cancelled by
                somebody, or whose purchase is accepted but not answered), set_circuits and set_shots (limits of program sets; 0: none),
                min_shots, max_shots, qubits, mid_circuit, task_usd, shot_usd, priced, seed.
            **options: The device's.
        """
        noise = {"noise": 0.0, "readout": 0.0} if kind == "noisy" else {}
        return qml.device("hybridjobs.qpu", self.target(kind), **noise, **(manners or {}), **options)

    def bought(self, device: Any) -> list[Bought]:
        """What the provider has sold, in order."""
        return [Bought(purchase.circuits, purchase.shots) for purchase in device.qpu.bought]

    def state(self, device: Any, task_id: str) -> str:
        """Where the provider says that a task stands."""
        return str(device.qpu.status(task_id).state)


PROVIDERS = {"rehearsal": RehearsalProvider}
