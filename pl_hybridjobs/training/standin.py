"""A device that stands in for another one: it takes the same circuits in the same way, counts them, and runs none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.qubit.sampling import get_num_shots_and_executions
from pennylane.measurements import CountsMP, DensityMatrixMP, MeasurementProcess, ProbabilityMP, StateMP
from pennylane.tape import QuantumScript

from pl_hybridjobs.cost.forecast import Purchase
from pl_hybridjobs.cost.prices import Price, price_of

_METHODS = {
    qml.gradients.param_shift: "parameter-shift",
    qml.gradients.param_shift_cv: "parameter-shift",
    qml.gradients.finite_diff: "finite-diff",
    qml.gradients.spsa_grad: "spsa",
    qml.gradients.hadamard_grad: "hadamard",
}
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass
class Counts:
    """What stand-ins were asked for, all of them together.

    Args:
        executions: Circuits to run, as ``qml.Tracker`` counts them: those that hardware would have to run, one for each group of
            observables that can be measured together and for each member of a batch.
        derivatives: Circuits whose Jacobians, or products with them, the device itself was to compute.
        shots: Of all executions; 0 if all were analytic.
        methods: How circuits that have trainable parameters are differentiated.
        devices: Names of the devices that were asked.
        drawn: Placeholders given so far.
        bought: Tasks, circuits and shots that each device would be asked for.
    """

    executions: int = 0
    derivatives: int = 0
    shots: int = 0
    methods: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    drawn: int = 0
    bought: dict[str, tuple[Price | None, list[int]]] = field(default_factory=dict)

    def buy(self, device: Any, circuits: int, shots: Sequence[int]) -> None:
        """A device is asked for some circuits at once.

        One that asks a ledger says which it is by ``target``, what it costs by ``price()``, and how many tasks circuits of these shots are
        by ``tasks_for(shots)``; all three may be missing.
        """
        target = getattr(device, "target", None)
        own = device.price() if callable(getattr(device, "price", None)) else None
        price = own if isinstance(own, Price) else price_of(str(target or device.name))
        if price is None and target is None:
            return  # nobody counts what it costs
        _, sums = self.bought.setdefault(str(target or device.name), (price, [0, 0, 0]))
        tasks = device.tasks_for(shots) if callable(getattr(device, "tasks_for", None)) else circuits
        for i, amount in enumerate((tasks, circuits, sum(shots))):
            sums[i] += amount

    def purchases(self, times: int) -> list[Purchase]:
        """What costs money, or may."""
        return [
            Purchase(target, times * tasks, times * circuits, times * shots, price)
            for target, (price, (tasks, circuits, shots)) in self.bought.items()
            if price is None or not price.is_free
        ]

    def values(self, shape: tuple[int, ...]) -> Any:
        """Numbers between 0.3 and 0.7, no two the same: where a difference of results is 0, PennyLane takes no shifted circuits for it."""
        size = math.prod(shape)
        self.drawn += size
        steps = np.arange(self.drawn - size + 1, self.drawn + 1)
        return (0.3 + 0.4 * (steps * _GOLDEN % 1)).reshape(shape)


@simulator_tracking
@single_tape_support
class StandIn(Device):  # type: ignore[misc]
    """A device that configures and preprocesses as ``device`` does, and answers with placeholders of the right shapes.

    Expectation values and the like lie between 0.3 and 0.7, probabilities and states are normalized, samples and derivatives are 0.
    ``device`` runs nothing and draws no random numbers.
    """

    def __init__(self, device: Any, counts: Counts) -> None:
        self._device = device if isinstance(device, Device) else qml.devices.LegacyDeviceFacade(device)
        self.counts = counts
        super().__init__(wires=self._device.wires)
        self._shots = self._device.shots

    @property
    def name(self) -> str:
        """That of the device."""
        return str(self._device.name)

    def __getattr__(self, name: str) -> Any:
        if name == "_device":  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._device, name)

    # As the device does -----------------------------------------------------------------------------------------------

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """As the device; notes by which method a circuit is differentiated."""
        resolved = self._device.setup_execution_config(config, circuit)
        if circuit is not None and circuit.trainable_params and resolved.gradient_method is not None:
            _add(self.counts.methods, self._method(resolved, circuit))
        return resolved

    def _method(self, resolved: ExecutionConfig, circuit: QuantumScript) -> str:
        """Our simulators say "backprop" to PennyLane where JAX is to trace them, and are traced to one call of the adjoint method."""
        if resolved.gradient_method == "backprop" and getattr(self._device, "compiles_fast", False) and _is_jax(resolved.interface):
            adjoint = replace(resolved, gradient_method="adjoint")
            return "adjoint" if self._device.supports_vjp(adjoint, circuit) else "backprop"
        return _method_name(resolved.gradient_method)

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """As the device."""
        return self._device.preprocess_transforms(execution_config)

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device."""
        return bool(self._device.supports_derivatives(execution_config, circuit))

    def supports_jvp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device."""
        return bool(self._device.supports_jvp(execution_config, circuit))

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device."""
        return bool(self._device.supports_vjp(execution_config, circuit))

    # Counted ----------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Placeholders."""
        counted = [get_num_shots_and_executions(circuit) for circuit in circuits]
        self._count(circuits, executions=sum(executions for executions, _ in counted), shots=[shots or 0 for _, shots in counted])
        config = execution_config or ExecutionConfig()
        is_traced = config.gradient_method == "backprop" or not config.convert_to_numpy
        return tuple(_results(circuit, self, is_traced) for circuit in circuits)

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians of zeros."""
        self._count(circuits, derivatives=len(circuits))
        return tuple(_jacobian(circuit, self) for circuit in circuits)

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Placeholders, and Jacobians of zeros; each circuit counts once for its values and once for its derivatives."""
        self._count(circuits, executions=len(circuits), buys=False)  # one task gives both
        return tuple(_results(c, self, False) for c in circuits), _raw(StandIn.compute_derivatives)(self, circuits)

    def compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """Zeros of the shapes of the parameters."""
        self._count(circuits, derivatives=len(circuits))
        return tuple(tuple(map(np.zeros, _parameter_shapes(circuit))) for circuit in circuits)

    def execute_and_compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Placeholders, and zeros of the shapes of the parameters."""
        self._count(circuits, executions=len(circuits), buys=False)
        return tuple(_results(c, self, False) for c in circuits), _raw(StandIn.compute_vjp)(self, circuits, cotangents)

    def compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """Zeros of the shapes of the results."""
        self._count(circuits, derivatives=len(circuits))
        return tuple(_zeros(_results(c, self, False)) for c in circuits)

    def execute_and_compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Placeholders, and zeros of their shapes."""
        self._count(circuits, executions=len(circuits), buys=False)
        return tuple(_results(c, self, False) for c in circuits), _raw(StandIn.compute_jvp)(self, circuits, tangents)

    def _count(
        self,
        circuits: Sequence[QuantumScript],
        executions: int = 0,
        derivatives: int = 0,
        shots: Sequence[int] | None = None,
        *,
        buys: bool = True,
    ) -> None:
        self.counts.executions += executions
        self.counts.derivatives += derivatives
        shots = [0] * derivatives if shots is None else shots
        self.counts.shots += sum(shots)
        asked = getattr(self._device, "asked", None)  # of a device that spreads them over others: these buy
        if buys and asked is not None:
            for member, tapes in asked(circuits):
                self.counts.buy(member, len(tapes), [tape.shots.total_shots or 0 for tape in tapes])
        elif buys:
            self.counts.buy(self._device, executions + derivatives, shots)
        _add(self.counts.devices, self.name)


def _raw(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method without what the class decorators add: a user's ``qml.Tracker`` sees one call, not two."""
    while hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    return method


def _add(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


def _is_jax(interface: Any) -> bool:
    return getattr(interface, "value", interface) in ("jax", "jax-jit")


def _method_name(method: Any) -> str:
    if isinstance(method, str):
        return method
    return _METHODS.get(method) or str(getattr(method, "__name__", method))


# Placeholders --------------------------------------------------------------------------------------------------------------


def _results(tape: QuantumScript, device: StandIn, is_traced: bool) -> Any:
    """As ``Device.execute`` has them for one circuit: nested by copies of shots, then by measurements."""
    values = tape.get_parameters(trainable_only=False)
    interface = qml.math.get_interface(*values) if is_traced else "numpy"
    rows = []
    for shots in list(tape.shots) if tape.shots else [None]:
        row = tuple(_placeholder(mp, tape, shots, device) for mp in tape.measurements)
        row = tuple(qml.math.asarray(value, like=interface) if isinstance(value, np.ndarray) else value for value in row)
        rows.append(row if len(row) != 1 else row[0])
    return tuple(rows) if tape.shots.has_partitioned_shots else rows[0]


def _placeholder(mp: MeasurementProcess, tape: QuantumScript, shots: int | None, device: StandIn) -> Any:
    wires = tape.wires if isinstance(mp, StateMP) or device.wires is None else device.wires
    batch = () if tape.batch_size is None else (tape.batch_size,)
    if isinstance(mp, CountsMP):
        outcome = "0" * (len(mp.wires) or len(wires)) if mp.eigvals() is None else mp.eigvals()[0]
        return [{outcome: shots} for _ in range(tape.batch_size)] if batch else {outcome: shots}
    shape = (*batch, *mp.shape(shots, len(wires)))
    if isinstance(mp, DensityMatrixMP):
        return np.broadcast_to(np.eye(shape[-1], dtype=complex) / shape[-1], shape)
    if mp.numeric_type is int:
        return np.zeros(shape, dtype=int)
    values = device.counts.values(shape)
    if isinstance(mp, ProbabilityMP):
        return values / values.sum(axis=-1, keepdims=True)
    if isinstance(mp, StateMP):
        return values.astype(complex) / np.linalg.norm(values, axis=-1, keepdims=True)
    return values


def _zeros(result: Any) -> Any:
    return tuple(map(_zeros, result)) if isinstance(result, tuple) else np.zeros_like(result)


def _parameter_shapes(tape: QuantumScript) -> list[tuple[int, ...]]:
    return [tuple(qml.math.shape(value)) for value in tape.get_parameters()]


def _jacobian(tape: QuantumScript, device: StandIn) -> Any:
    """Nested by measurements, then by parameters."""
    results = _results(tape, device, False)
    rows = []
    for value in results if isinstance(results, tuple) else (results,):
        row = tuple(np.zeros((*np.shape(value), *shape)) for shape in _parameter_shapes(tape))
        rows.append(row if len(row) != 1 else row[0])
    return tuple(rows) if isinstance(results, tuple) else rows[0]
