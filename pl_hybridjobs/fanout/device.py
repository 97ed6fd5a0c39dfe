"""``FanOut``: any PennyLane device, whose circuits run on workers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.exceptions import DeviceError, QuantumFunctionError
from pennylane.math import Interface
from pennylane.tape import QuantumScript

from pl_hybridjobs.errors import did_you_mean
from pl_hybridjobs.fanout import executors, seeds
from pl_hybridjobs.fanout.dispatch import Dispatch
from pl_hybridjobs.fanout.executors import Executor, ThreadExecutor
from pl_hybridjobs.fanout.pieces import in_pieces, parameters, settled
from pl_hybridjobs.fanout.processes import ProcessExecutor
from pl_hybridjobs.fanout.rays import RayExecutor
from pl_hybridjobs.fanout.work import Item, Recipe

#: Name -> what makes the executor, given a number of workers.
EXECUTORS: dict[str, Callable[[int | None], Executor]] = {"threads": ThreadExecutor, "processes": ProcessExecutor, "ray": RayExecutor}
_HERE = "backprop differentiates through the circuit, which therefore has to run in this process"
_BY_QNODE = "run circuits through a QNode, which sees to that"
_INSTEAD = "use diff_method='best', 'adjoint' or 'parameter-shift', or a device without workers="


@simulator_tracking
@single_tape_support
class FanOut(Device):
    """A PennyLane device whose circuits are spread over workers, each of which has a device of its own.

    It prepares circuits, and is differentiated, as the device itself; "best" is its adjoint method, or shifts of parameters.
    Numbers and samples are the same for any number of workers on any executor: each circuit draws by a seed from the device's stream.

    Args:
        device: The device's name, as ``qml.device`` has it.
        *args: The device's.
        workers: How many; None: as many as the executor has.
        executor: "processes" (default), "threads" or "ray", whose workers end with the device; or a pool with
            ``submit(fn, *args) -> future``, which stays its owner's.
        **options: The device's: ``wires``, ``seed``, ...

    Attributes:
        executor: Where circuits go.

    Raises:
        InvalidCall: What is wrong with workers and executor.
        Exception: What the device says of its options.
    """

    def __init__(self, device: str, *args: Any, workers: int | None = None, executor: str | Executor | None = None, **options: Any) -> None:
        if not isinstance(device, str):
            executors.refuse("FanOut", [f"device must be the name of one, which each worker makes for itself, not {device!r}"])
        executors.refuse(device, complaints(workers, executor))
        self._made_by = (device, args, {"workers": workers, "executor": executor, **options})
        self._inner: Device = qml.device(device, *args, **options)
        if hasattr(self._inner, "target"):
            executors.refuse(device, ["its circuits run elsewhere, and are sent there together; workers= is for simulators"])
        super().__init__(wires=self._inner.wires)
        self._shots = self._inner.shots
        self.capabilities = self._inner.capabilities
        if hasattr(self._inner, "_debugger"):
            self._debugger: Any = None  # set by qml.snapshots
        if _knows_seed(self._inner):
            options["seed"] = 0  # those of the workers draw by what they are given
        executor = "processes" if executor is None else executor
        chosen = EXECUTORS[executor](workers) if isinstance(executor, str) else executor
        count = workers or getattr(chosen, "workers", None) or getattr(chosen, "_max_workers", None) or executors.cores()
        self._dispatch = Dispatch(chosen, Recipe(device, args, options), count, getattr(chosen, "threads", 1))
        if isinstance(executor, str):  # the workers are ours
            self._dispatch.warm()

    def __repr__(self) -> str:
        return f"<{self.name} device on {self.executor!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        name, args, options = self._made_by
        if not isinstance(options["executor"], str | None):
            raise TypeError(f"{self!r} cannot travel: its executor was given; build the device where it is used")
        return _rebuilt, (name, args, options), {name: value for name, value in self._streams().items() if value is not None}

    def __setstate__(self, streams: dict[str, Any]) -> None:
        for name, value in streams.items():
            setattr(self, name, value)

    @property
    def name(self) -> str:
        """That of the device."""
        return str(self._inner.name)

    @property
    def executor(self) -> Executor:
        """Where circuits go."""
        return self._dispatch.executor

    # The device's stream of random numbers, as checkpoints look for it. ----------------------------------------------------

    @property
    def _rng(self) -> Any:
        return getattr(self._inner, "_rng", None)

    @_rng.setter
    def _rng(self, rng: Any) -> None:
        self._inner._rng = rng

    @property
    def _prng_key(self) -> Any:
        return getattr(self._inner, "_prng_key", None)

    @_prng_key.setter
    def _prng_key(self, key: Any) -> None:
        self._inner._prng_key = key

    def _streams(self) -> dict[str, Any]:
        return {"_rng": self._rng, "_prng_key": self._prng_key}

    # Configuration ---------------------------------------------------------------------------------------------------------

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device, but for backprop.

        Raises:
            QuantumFunctionError: Backprop is asked for; or as the device raises it.
        """
        if execution_config is None:
            return bool(self._inner.supports_derivatives())
        method = execution_config.gradient_method
        if method == "backprop":  # PennyLane would raise, too, but cannot say why
            raise QuantumFunctionError(f"{self!r}: {_HERE}; {_INSTEAD}")
        return self._supports(self._inner.supports_derivatives, execution_config, circuit)

    def supports_jvp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device."""
        return self._supports(self._inner.supports_jvp, execution_config, circuit)

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """As the device."""
        return self._supports(self._inner.supports_vjp, execution_config, circuit)

    def _supports(self, ask: Callable[..., Any], config: ExecutionConfig | None, circuit: QuantumScript | None) -> bool:
        if config is None:
            return bool(ask())
        if config.gradient_method == "best":  # not by its name: the device would raise what is wrong with it
            try:
                return bool(ask(_without_interface(replace(config, gradient_method="adjoint")), circuit))
            except QuantumFunctionError:
                return False
        try:
            return bool(ask(_without_interface(config), circuit))
        except QuantumFunctionError as error:  # which may recommend backprop
            error.add_note(f"On workers {_HERE}: use diff_method='best' or 'parameter-shift'")
            raise

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """As the device, for numbers of numpy: circuits leave this process."""
        config = config or ExecutionConfig()
        method = "adjoint" if config.gradient_method in ("best", "device") else config.gradient_method
        if config.gradient_method == "device" and circuit is not None:  # else PennyLane refuses it in words of its own insides
            self._supports(self._inner.supports_derivatives, replace(config, gradient_method="adjoint"), circuit)
        found = self._inner.setup_execution_config(_without_interface(replace(config, gradient_method=method)), circuit)
        if found.gradient_method == "backprop":
            raise DeviceError(f"{self!r}: {_HERE}; {_INSTEAD}")
        return replace(found, interface=config.interface, convert_to_numpy=True)

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """As the device; what its own derivatives are taken of is cut into pieces outside of it."""
        pipeline = self._inner.preprocess_transforms(execution_config or ExecutionConfig())
        if execution_config is not None and execution_config.use_device_gradient:
            pipeline.add_transform(in_pieces)
        return pipeline

    # Execution -------------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Results of circuits that came out of ``preprocess_transforms``."""
        if getattr(self, "_debugger", None) is not None and self._debugger.active:  # what it collects, it collects here
            self._inner._debugger = self._debugger
            return tuple(self._inner.execute(circuits, execution_config))
        cut = [in_pieces(settled(circuit)) for circuit in circuits]
        pieces = [piece for tapes, _ in cut for piece in tapes]
        found = iter(self._run("execute", pieces, execution_config))
        return tuple(joined([next(found) for _ in tapes]) for tapes, joined in cut)

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians."""
        return self._run("compute_derivatives", circuits, execution_config)

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and Jacobians."""
        return _pair(self._run("execute_and_compute_derivatives", circuits, execution_config))

    def compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """Directional derivatives."""
        return self._run("compute_jvp", circuits, execution_config, tangents)

    def execute_and_compute_jvp(
        self, circuits: Sequence[QuantumScript], tangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and directional derivatives."""
        return _pair(self._run("execute_and_compute_jvp", circuits, execution_config, tangents))

    def compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[Any, ...]:
        """Gradients of results weighted by cotangents."""
        return self._run("compute_vjp", circuits, execution_config, cotangents)

    def execute_and_compute_vjp(
        self, circuits: Sequence[QuantumScript], cotangents: Sequence[Any], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results, and gradients of them weighted by cotangents."""
        return _pair(self._run("execute_and_compute_vjp", circuits, execution_config, cotangents))

    def _run(
        self, method: str, circuits: Sequence[QuantumScript], config: ExecutionConfig | None, extras: Sequence[Any] | None = None
    ) -> tuple[Any, ...]:
        circuits = list(map(settled, circuits))
        for circuit in circuits:
            if any(_is_traced(value) for _, value in parameters(circuit)):
                raise DeviceError(
                    f"{self!r}: the circuit's parameters are traced by JAX, and only numbers can leave this process; {_BY_QNODE}"
                )
        items = [
            Item(index, circuit, () if extras is None else (_as_numpy(extras[index]),), seeds.draw(self._inner) if circuit.shots else None)
            for index, circuit in enumerate(circuits)
        ]
        return tuple(self._dispatch.run(method, items, _portable(config)))


def complaints(workers: object, executor: object) -> list[str]:
    """What is wrong with ``workers=`` and ``executor=``, one sentence each."""
    found = executors.wrong_count("workers", workers)
    if isinstance(executor, str) and executor not in EXECUTORS:
        found.append(f"there is no executor {executor!r}; known are {', '.join(EXECUTORS)}.{did_you_mean(executor, EXECUTORS)}")
    elif isinstance(executor, type):
        found.append(f"executor must be a pool, and {executor.__name__} is a class of them: make one, {executor.__name__}(...)")
    elif executor is not None and not isinstance(executor, str) and not callable(getattr(executor, "submit", None)):
        found.append(f"executor must be a name or a pool with submit(fn, *args) -> future, not {executor!r}")
    return found


def _rebuilt(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> FanOut:
    return FanOut(name, *args, **options)


def _knows_seed(device: Device) -> bool:
    return "seed" in inspect.signature(type(device)).parameters


def _without_interface(config: ExecutionConfig) -> ExecutionConfig:
    return replace(config, interface=Interface.NUMPY)


def _portable(config: ExecutionConfig | None) -> ExecutionConfig:
    """What a worker's device is told: nothing of transforms of gradients, which are the caller's business."""
    config = _without_interface(config or ExecutionConfig())
    method = config.gradient_method if isinstance(config.gradient_method, str) else None
    return replace(config, gradient_method=method, gradient_keyword_arguments={})


def _is_traced(value: Any) -> bool:
    return qml.math.get_interface(value) == "jax" and isinstance(value, sys.modules["jax"].core.Tracer)


def _as_numpy(value: Any) -> Any:
    return tuple(map(_as_numpy, value)) if isinstance(value, list | tuple) else qml.math.toarray(value)


def _pair(found: Sequence[tuple[Any, Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return tuple(first for first, _ in found), tuple(second for _, second in found)
