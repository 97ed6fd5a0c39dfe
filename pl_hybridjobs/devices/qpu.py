"""``hybridjobs.qpu``: remote devices behind PennyLane's device API. One call of a QNode, or one gradient, is one submission."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

import pennylane as qml
from pennylane.devices import Device, ExecutionConfig, MCMConfig
from pennylane.devices.modifiers import single_tape_support
from pennylane.exceptions import DeviceError
from pennylane.math import Interface
from pennylane.measurements import ExpectationMP
from pennylane.ops import MidMeasure
from pennylane.tape import QuantumScript

from pl_hybridjobs.cost import account as accounts
from pl_hybridjobs.cost.account import Account
from pl_hybridjobs.cost.active import stranger
from pl_hybridjobs.cost.prices import Price
from pl_hybridjobs.devices import grouping, lowering
from pl_hybridjobs.devices.calls import Call
from pl_hybridjobs.devices.checks import BY_DEVICE, has_derivatives, refuse, short, wrong_wires
from pl_hybridjobs.devices.provider import QPU, CircuitResult
from pl_hybridjobs.devices.sessions import Session
from pl_hybridjobs.devices.submission import Policy, TaskRecord
from pl_hybridjobs.errors import InvalidCall, did_you_mean

_FALLBACK = "fallback:"


def provider_of(target: str) -> str:
    """The provider that a target belongs to: what stands before the colon, or the service of an Amazon resource name."""
    if target.startswith("arn:"):
        parts = target.split(":")
        return parts[2] if len(parts) > 2 else ""
    return target.partition(":")[0]


@functools.cache
def known_providers() -> Mapping[str, EntryPoint]:
    """The installed ones, by name."""
    return {entry.name: entry for entry in entry_points(group="pl_hybridjobs.qpus")}


def open_qpu(target: str, **options: Any) -> QPU:
    """The remote device that a target names. Contacts nothing.

    Raises:
        InvalidCall: No such provider, or it does not know the target or an option.
    """
    name, providers = provider_of(target), known_providers()
    if name not in providers:
        like = "a target looks like 'rehearsal:qpu' or 'arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1'"
        installed = ", ".join(sorted(providers)) or "none"
        complaint = f"no installed provider knows it; providers are {installed}, and {like}.{did_you_mean(name, providers)}"
        raise InvalidCall(target, [complaint])
    return cast(QPU, providers[name].load()(target, **options))


@dataclass
class _Seat:
    """A device's place in an account: what makes the keys of its purchases the same whenever a job is resumed."""

    account: Account
    number: int
    calls: int = 0


_seats: WeakKeyDictionary[Account, int] = WeakKeyDictionary()
_seats_lock = threading.Lock()


@single_tape_support
class HybridQPU(Device):
    """A remote device: a QPU, a cloud simulator, or a rehearsal of one.

    What is bought is reserved in the account first (``hybrid_job(budget=...)``), written to its journal before and after it is sent, and
    never bought twice: a job that was killed collects what it had bought.

    Args:
        target: Which: ``"rehearsal:qpu"``, ``"arn:aws:braket:..."``.
        wires: Number of wires, or their labels; None: those of each circuit. With ``verbatim=True``: numbers of physical qubits.
        shots: As PennyLane's devices have it; the QNode's shots count.
        session: A ``Session``, or the name of one.
        on_offline: "stop" with an error; "wait"; or ``"fallback:<target>"``: use that device, and say so.
        on_failure: What becomes of a call's other tasks if one fails: "abort" cancels them, "continue" waits for them. Then it raises.
        max_parallel: Tasks in flight at once; None: as many as the device takes, at most 50.
        poll_interval_s: The longest time between two looks at a task.
        timeout_s: For all tasks of a call; None: as long as it takes. What was bought goes on, and is collected by the same call later.
        verbatim: Run circuits as they are: in native gates, on the physical qubits that their wires name.
        tags: For the provider to keep with each task.
        **provider_options: The provider's own, see there.

    Raises:
        DeviceError: Options that make no sense, all of them at once.

    Attributes:
        last_tasks: What became of the tasks of the last call, and on which device each ran.
    """

    name: ClassVar[str] = "hybridjobs.qpu"

    def __init__(
        self,
        target: str,
        *,
        wires: Any = None,
        shots: Any = None,
        session: Session | str | None = None,
        on_offline: str = "stop",
        on_failure: str = "abort",
        max_parallel: int | None = None,
        poll_interval_s: float = 1.0,
        timeout_s: float | None = None,
        verbatim: bool = False,
        tags: Mapping[str, str] | None = None,
        **provider_options: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__", "provider_options", "target")}
        self._made_of = (target, {**given, **provider_options})
        wrong = [*wrong_wires(wires), *_wrong_options(on_offline, on_failure, max_parallel, poll_interval_s, timeout_s, verbatim)]
        try:
            session = Session(session) if isinstance(session, str) else session
            Session("tags", tags or {})
            if not (session is None or isinstance(session, Session)):
                wrong.append(f"session={session!r} must be a Session, a name, or None")
        except InvalidCall as error:
            wrong += error.complaints
        opened: list[QPU] = []
        other = on_offline.removeprefix(_FALLBACK) if isinstance(on_offline, str) and on_offline.startswith(_FALLBACK) else ""
        for name in (target, other) if other else (target,):
            try:
                same = name == target or provider_of(name) == provider_of(str(target))
                opened.append(open_qpu(name, **(provider_options if same else {})))
            except (InvalidCall, AttributeError) as error:
                found = error.complaints if isinstance(error, InvalidCall) else [f"target={name!r} must be a text"]
                wrong += found if name == target else [f"{_FALLBACK}{name}: {complaint}" for complaint in found]
        refuse(f"{self.name} ({target})", wrong)
        super().__init__(wires=wires, shots=shots)
        self.qpu = opened[0]
        self.fallback = opened[1] if other else None
        self.session = cast(Session | None, session)
        self.tags = dict(tags or {})
        self.verbatim = verbatim
        on_failure = (self.session.on_failure if self.session is not None else None) or on_failure
        offline = "leave" if other else on_offline
        self.policy = Policy(cast(Any, offline), cast(Any, on_failure), max_parallel, poll_interval_s, timeout_s)
        self.last_tasks: tuple[TaskRecord, ...] = ()
        self._seat: _Seat | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{self.name} device ({self.target}{'' if self.wires is None else f', wires={len(self.wires)}'}) at {hex(id(self))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, self._made_of

    @property
    def target(self) -> str:
        """What the user wrote."""
        return self.qpu.target

    def price(self) -> Price | None:
        """What tasks cost; None: not known."""
        return self.qpu.price()

    def tasks_for(self, shots: Sequence[int]) -> int:
        """How many tasks circuits of these shots (0: analytic) are, as one submission."""
        return len(grouping.grouped(shots, self.qpu.capabilities()))

    # A job's checkpoints carry it: a resumed job makes the same keys again, and finds what it has bought --------------------

    def checkpoint_state(self) -> dict[str, int]:
        """What makes the next purchases' keys."""
        seat = self._sit(accounts.current())
        return {"seat": seat.number, "calls": seat.calls}

    def restore_state(self, state: Mapping[str, int]) -> None:
        """See ``checkpoint_state``. Devices may be restored in another order than that in which they were first used."""
        account = accounts.current()
        number = state["seat"] if "seat" in state else self._sit(account).number
        with _seats_lock:
            _seats[account] = max(_seats.get(account, 0), number + 1)
        self._seat = _Seat(account, number, int(state["calls"]))

    def _sit(self, account: Account) -> _Seat:
        if self._seat is None or self._seat.account is not account:
            with _seats_lock:
                number = _seats.get(account, 0)
                _seats[account] = number + 1
            self._seat = _Seat(account, number)
        return self._seat

    # Configuration -----------------------------------------------------------------------------------------------------

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """Whether the device itself has a derivative of this kind. As long as no circuit is known, nothing is looked up.

        Raises:
            QuantumFunctionError: A method that was asked for by its name does not fit the circuit.
        """
        instead = "use diff_method='best' or 'parameter-shift', which is one submission"
        no_backprop = f"{self.target} runs elsewhere, out of sight; {instead}"
        return has_derivatives(self.name, execution_config, circuit, self._why_not, no_backprop)

    def _why_not(self, config: ExecutionConfig, circuit: QuantumScript) -> str | None:
        instead = "use diff_method='parameter-shift', which is one submission too"
        if circuit.shots:
            return f"it has {circuit.shots.total_shots} shots; {instead}"
        if not self.qpu.capabilities().adjoint_gradient:
            return f"{self.target} has no derivatives of its own; {instead}"
        if (config.derivative_order or 1) > 1:
            return f"it has first derivatives only; {instead}"
        if len(circuit.measurements) != 1 or not isinstance(circuit.measurements[0], ExpectationMP):
            return f"the derivatives are those of one expectation value; {instead}"
        obs = circuit.measurements[0].obs
        if obs is None or obs.pauli_rep is None:
            return f"{short(circuit.measurements[0])} is no sum of Pauli words; {instead}"
        if any(isinstance(op, MidMeasure) for op in circuit.operations):
            return f"it measures in its middle; {instead}"
        return None

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """Fill in what the user left open. May be called on its own result."""
        config = config or ExecutionConfig()
        if config.device_options:
            raise DeviceError(f"{self.name} has no device option {', '.join(sorted(config.device_options))}")
        by_device = config.gradient_method in BY_DEVICE and circuit is not None and self._why_not(config, circuit) is None
        return replace(
            config,
            # By this name PennyLane calls back from the traced program, which is the only way to numbers.
            interface=Interface.JAX_JIT if config.interface is Interface.JAX and is_traced(circuit) else config.interface,
            gradient_method="adjoint" if by_device else config.gradient_method,
            use_device_gradient=by_device,
            use_device_jacobian_product=False,
            # One task gives both, and costs hardly more than one of them.
            grad_on_execution=by_device if config.grad_on_execution is None else config.grad_on_execution and by_device,
            mcm_config=self._mid_circuit(config.mcm_config or MCMConfig(), circuit),
            convert_to_numpy=True,
        )

    def _mid_circuit(self, config: MCMConfig, circuit: QuantumScript | None) -> MCMConfig:
        method = config.mcm_method
        if method not in (None, "device", "deferred"):
            raise DeviceError(f"{self.name} cannot run mid-circuit measurements by {str(method)!r}; it has 'device' and 'deferred'")
        if circuit is None or method == "deferred" or not any(isinstance(op, MidMeasure) for op in circuit.operations):
            return replace(config, mcm_method=method or "deferred")
        can = self.qpu.capabilities().mid_circuit
        if method == "device" and not can:
            raise DeviceError(f"{self.target} cannot measure in the middle of a circuit; use mcm_method='deferred'")
        is_about_outcomes = any(mp.mv is not None for mp in circuit.measurements)
        return replace(config, mcm_method=method or ("device" if can and not is_about_outcomes else "deferred"))

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """The steps from any circuit to one that ``execute`` takes."""
        config = execution_config or ExecutionConfig()
        return lowering.pipeline(
            config,
            self.qpu.capabilities(),
            self.wires,
            verbatim=self.verbatim,
            gradient=bool(config.use_device_gradient),
            name=f"{self.name} ({self.target})",
        )

    # Execution -----------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Buy, wait, and collect: results of circuits that came out of ``preprocess_transforms``.

        Raises:
            DeviceError: The device cannot run one of them; all complaints about all of them. Nothing was bought.
            BudgetExceeded: Nothing was bought.
            QPUError: See ``submission.Submission.run``.
        """
        found = self._bought(circuits, gradient=False)
        return tuple(map(values_of, found, circuits))

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and Jacobians, where the device has derivatives of its own: one task for each circuit."""
        found = self._bought(circuits, gradient=True)
        return tuple(map(values_of, found, circuits)), tuple(map(jacobian_of, found))

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians."""
        return tuple(map(jacobian_of, self._bought(circuits, gradient=True)))

    def _bought(self, circuits: Sequence[QuantumScript], *, gradient: bool) -> list[CircuitResult]:
        """What the device makes of all circuits of a call."""
        return self.reserve(circuits, gradient=gradient).run()

    def reserve(self, circuits: Sequence[QuantumScript], *, gradient: bool) -> Call:
        """The first half of a call: circuits are checked, and their money is set aside. ``run()`` buys them, ``release()`` gives it back.

        Raises:
            DeviceError: As ``execute``.
            BudgetExceeded: Likewise.
        """
        refuse(self.name, lowering.complaints(circuits, self.qpu.capabilities(), self.wires, verbatim=self.verbatim, target=self.target))
        account = accounts.current()
        with self._lock:
            seat = self._sit(account)
            number = seat.calls
            seat.calls += 1

        def undo() -> None:
            with self._lock:
                if seat.calls == number + 1:
                    seat.calls = number

        call = Call(self, account, f"{account.namespace}{stranger()}|{seat.number}|{number}", number, gradient, undo)
        call.reserve(circuits)
        return call

    def as_sent(self, circuit: QuantumScript, *, gradient: bool) -> QuantumScript:
        """A circuit on the device's numbers; without its shots, which a task has, and with nothing trained unless that is asked for."""
        told: dict[str, Any] = {"shots": None, "trainable_params": circuit.trainable_params if gradient else []}
        if self.verbatim:
            return circuit.copy(**told)
        if self.wires is None:
            return circuit.map_to_standard_wires().copy(**told)
        numbers = {label: number for number, label in enumerate(self.wires)}
        if all(label == number for label, number in numbers.items()):
            return circuit.copy(**told)
        ((mapped,), _) = qml.map_wires(circuit, numbers)
        return mapped.copy(**told)


def is_traced(circuit: QuantumScript | None) -> bool:
    """Whether JAX knows no number of one of its parameters: under ``jax.vmap`` also without jit."""
    return circuit is not None and any(map(qml.math.is_abstract, circuit.get_parameters(trainable_only=False)))


def _remade(target: str, options: Mapping[str, Any]) -> HybridQPU:
    """Out of a pickle, in another process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warned of once (shots)
        return HybridQPU(target, **options)


def _wrong_options(on_offline: Any, on_failure: Any, max_parallel: Any, poll_interval_s: Any, timeout_s: Any, verbatim: Any) -> list[str]:
    found = []
    elsewhere = isinstance(on_offline, str) and on_offline.startswith(_FALLBACK) and on_offline != _FALLBACK
    if on_offline not in ("stop", "wait") and not elsewhere:
        found.append(f"on_offline={on_offline!r} must be 'stop', 'wait' or 'fallback:<target>'")
    if on_failure not in ("abort", "continue"):
        found.append(f"on_failure={on_failure!r} must be 'abort' or 'continue'")
    if max_parallel is not None and (not isinstance(max_parallel, int) or isinstance(max_parallel, bool) or max_parallel < 1):
        found.append(f"max_parallel={max_parallel!r} must be a whole number of at least 1, or None")
    for name, value in (("poll_interval_s", poll_interval_s), ("timeout_s", timeout_s)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not is_number and not (name == "timeout_s" and value is None):
            found.append(f"{name}={value!r} must be a positive number of seconds")
    if not isinstance(verbatim, bool):
        found.append(f"verbatim={verbatim!r} must be True or False")
    return found


def values_of(result: CircuitResult, circuit: QuantumScript) -> Any:
    """As PennyLane wants them: bits for each copy of the shots, or the exact values."""
    if not circuit.measurements:
        return ((),) * circuit.shots.num_copies if circuit.shots.has_partitioned_shots else ()
    if circuit.shots:
        return grouping.by_copies(result.bits, circuit.shots)
    return result.values if len(result.values) > 1 else result.values[0]


def jacobian_of(result: CircuitResult) -> Any:
    """Likewise: one derivative for each trainable parameter."""
    import numpy as np

    parts = tuple(np.array(value) for value in result.gradient)
    return parts[0] if len(parts) == 1 else parts
