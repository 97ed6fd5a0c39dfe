"""One member's part of a call: its circuits as it takes them, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pennylane as qml
from pennylane.devices import Device, ExecutionConfig, MCMConfig
from pennylane.exceptions import DeviceError
from pennylane.tape import QuantumScript
from pennylane.transforms import convert_to_numpy_parameters

from pl_hybridjobs.devices.calls import Call
from pl_hybridjobs.devices.qpu import HybridQPU, jacobian_of, values_of
from pl_hybridjobs.devices.rehearsal import COMPUTING
from pl_hybridjobs.devices.submission import TaskRecord

_SIMULATORS = ("default.", "lightning.", "hybridjobs.")  # of this process


@dataclass(frozen=True)
class Prepared:
    """A circuit as a device takes it.

    Attributes:
        config: How.
        tapes: What it becomes.
        joined: The circuit's result from theirs.
    """

    config: ExecutionConfig
    tapes: tuple[QuantumScript, ...]
    joined: Callable[[Sequence[Any]], Any]


def prepared(device: Device, circuit: QuantumScript, mcm: MCMConfig, *, gradient: bool = False) -> Prepared:
    """A circuit after the device's own preprocessing.

    Raises:
        Exception: What the device has against it.
    """
    circuit = _marked(circuit) if gradient else circuit
    wanted = ExecutionConfig(mcm_config=mcm, gradient_method="adjoint" if gradient else None)
    config = device.setup_execution_config(wanted, circuit)
    tapes, joined = device.preprocess_transforms(config)((circuit,))
    return Prepared(config, (_same_parameters(device, tapes, circuit),) if gradient else tuple(tapes), joined)


def _marked(circuit: QuantumScript) -> QuantumScript:
    """A circuit whose parameters say themselves which of them are trained, so that this outlives what a device does with its gates."""
    values = circuit.get_parameters(trainable_only=False)
    trained = circuit.trainable_params
    told = [qml.numpy.array(value, requires_grad=place in trained) for place, value in enumerate(values)]
    return circuit.bind_new_parameters(told, range(len(told))).copy(trainable_params=trained)


def _same_parameters(device: Device, tapes: Sequence[QuantumScript], circuit: QuantumScript) -> QuantumScript:
    """The one circuit that a device made of another, if derivatives by its parameters are those by the other's.

    Raises:
        DeviceError: They are not.
    """
    found = [(place, value) for place, value in enumerate(tapes[0].get_parameters(trainable_only=False)) if qml.math.requires_grad(value)]
    wanted = [circuit.get_parameters(trainable_only=False)[place] for place in circuit.trainable_params]
    if len(tapes) != 1 or len(found) != len(wanted) or not all(qml.math.allclose(a, b) for (_, a), b in zip(found, wanted, strict=True)):
        raise DeviceError(
            f"{device.name} makes other parameters of the circuit's for its adjoint method; use diff_method='parameter-shift'"
        )
    ((tape,), _) = convert_to_numpy_parameters(tapes[0])
    return tape.copy(trainable_params=[place for place, _ in found])


def _goes_one_by_one(device: Device) -> bool:
    """Whether a device goes through a batch circuit by circuit itself: a simulator without workers."""
    workers = getattr(device, "_max_workers", None) or getattr(device, "executor", None)
    return bool(device.name.startswith(_SIMULATORS)) and workers is None


class Work:
    """What one member is asked in one round of a call.

    Args:
        member: Its name.
        device: Its device.
        places: Of its circuits in the batch.
        circuits: These.
        gradient: Derivatives are wanted, too.

    Attributes:
        results: By place: values, or values and Jacobians. Empty where it failed.
        error: Why it failed.
        given_up: It was not waited for, since another one had failed.
        seconds: That it took.
    """

    def __init__(self, member: str, device: Device, places: Sequence[int], circuits: Sequence[QuantumScript], gradient: bool) -> None:
        self.member = member
        self.device = device
        self.places = tuple(places)
        self.circuits = tuple(circuits)
        self.results: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.given_up = False
        self.seconds = 0.0
        self._gradient = gradient
        self._prepared: list[Prepared] = []
        self._call: Call | None = None
        self._running: tuple[int, ...] = ()  # the tapes that the device was asked for last

    @property
    def is_remote(self) -> bool:
        """It waits for somebody else, and so needs a thread."""
        return isinstance(self.device, HybridQPU)

    @property
    def shots(self) -> int:
        """Of all circuits together."""
        return sum(circuit.shots.total_shots or 0 for circuit in self.circuits)

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """What was bought."""
        return () if self._call is None else self._call.records

    @property
    def failed(self) -> tuple[int, ...]:
        """The places of the circuits that the error is about, as far as that is known; else all."""
        numbers = () if self._call is None else self._call.circuits_of(getattr(self.error, "task_id", ""))
        owners = [place for place, ready in zip(self.places, self._prepared, strict=True) for _ in ready.tapes]
        return tuple(dict.fromkeys(owners[number] for number in numbers or self._running)) or self.places

    def prepare(self, mcm: MCMConfig) -> list[str]:
        """Preprocess all circuits, and say what is wrong with them."""
        wrong = []
        for place, circuit in zip(self.places, self.circuits, strict=True):
            try:
                self._prepared.append(prepared(self.device, circuit, mcm, gradient=self._gradient))
            except Exception as error:  # noqa: BLE001 - whatever a device has against a circuit
                wrong.append(f"circuit {place} on member {self.member!r}: {type(error).__name__}: {error}")
        return wrong

    def reserve(self) -> None:
        """Set the money aside.

        Raises:
            DeviceError: The device cannot run one of the circuits.
            BudgetExceeded: See ``HybridQPU.reserve``.
        """
        if isinstance(self.device, HybridQPU):
            self._call = self.device.reserve([tape for ready in self._prepared for tape in ready.tapes], gradient=self._gradient)

    def release(self) -> None:
        """Give it back: nothing is run."""
        if self._call is not None:
            self._call.release()

    def give_up(self, why: str) -> None:
        """Do not wait for it any longer."""
        if self._call is not None:
            self.given_up = True
            self._call.give_up(why)

    def run(self) -> None:
        """Fill in ``results``, or ``error``."""
        began_s = time.perf_counter()
        try:
            self.results = dict(zip(self.places, self._bought() if self._call is not None else self._computed(), strict=True))
        except BaseException as error:  # noqa: BLE001 - in a thread; the caller raises it
            self.error = error
        self.seconds = time.perf_counter() - began_s

    def _bought(self) -> list[Any]:
        assert self._call is not None
        tapes = [tape for ready in self._prepared for tape in ready.tapes]
        found = self._call.run()
        values = list(map(values_of, found, tapes))
        return self._joined(values, list(map(jacobian_of, found)) if self._gradient else [])

    def _computed(self) -> list[Any]:
        """Neighbours of one configuration are one call; where batches gain nothing, each circuit is, so that an error names it."""
        configs = [ready.config for ready in self._prepared for _ in ready.tapes]
        tapes = [tape for ready in self._prepared for tape in ready.tapes]
        alone = _goes_one_by_one(self.device)
        calls: list[list[int]] = []
        for number, config in enumerate(configs):
            if calls and not alone and configs[calls[-1][-1]] == config:
                calls[-1].append(number)
            else:
                calls.append([number])
        values: list[Any] = []
        jacobians: list[Any] = []
        for numbers in calls:
            self._running = tuple(numbers)
            mine, config = [tapes[number] for number in numbers], configs[numbers[0]]
            with COMPUTING:
                if self._gradient:
                    some, derivatives = self.device.execute_and_compute_derivatives(mine, config)
                    jacobians += derivatives
                else:
                    some = self.device.execute(mine, config)
            values += some
        return self._joined(values, jacobians)

    def _joined(self, values: list[Any], jacobians: list[Any]) -> list[Any]:
        found, first = [], 0
        for ready in self._prepared:
            last = first + len(ready.tapes)
            (value,) = ready.joined(tuple(values[first:last]))
            found.append((value, jacobians[first]) if self._gradient else value)
            first = last
        return found
