"""``SpreadDevice``: PennyLane's device API over several devices. A circuit runs on one of them, as that device runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import single_tape_support
from pennylane.devices.preprocess import decompose
from pennylane.devices.qubit.sampling import get_num_shots_and_executions
from pennylane.exceptions import DeviceError, QuantumFunctionError
from pennylane.math import Interface
from pennylane.operation import Operator
from pennylane.ops import MidMeasure
from pennylane.tape import QuantumScript

from pl_hybridjobs.devices import batches
from pl_hybridjobs.devices.checks import BY_DEVICE, has_derivatives
from pl_hybridjobs.devices.qpu import HybridQPU, is_traced
from pl_hybridjobs.devices.simulator import split_trainable
from pl_hybridjobs.errors import InvalidCall, TaskCancelled
from pl_hybridjobs.spread.assignment import Assignment
from pl_hybridjobs.spread.record import NAME, Book, Share, SpreadTable, Totals
from pl_hybridjobs.spread.rounds import Policy, Rounds
from pl_hybridjobs.spread.work import prepared
from pl_hybridjobs.training.rng import device_state, restore_device

_INSTEAD = "use diff_method='parameter-shift', which all members run"
#: Gates whose derivatives every adjoint method knows; others that are trained are decomposed before members see them.
_ROTATIONS = frozenset({"RX", "RY", "RZ", "PhaseShift", "IsingXX", "IsingYY", "IsingZZ"})


@single_tape_support
class SpreadDevice(Device):  # type: ignore[misc]
    """Runs the circuits of each batch on several devices; ``spread_device`` makes it.

    Args:
        members: Devices by name, on the same wires.
        assignment: Which of them gets which circuit.
        policy: What becomes of a call in which one fails.

    Attributes:
        members: The devices, by name.
        last: What each member was asked in the last call.
    """

    name: ClassVar[str] = NAME

    def __init__(self, members: Mapping[str, Device], assignment: Assignment, policy: Policy) -> None:
        super().__init__(wires=next(iter(members.values())).wires)
        self.members = dict(members)
        self.policy = policy
        self.last: tuple[Share, ...] = ()
        self._assignment = assignment
        rows = [
            Totals(name, str(getattr(device, "target", device.name)), float(assignment.weights[name])) for name, device in members.items()
        ]
        self._book = Book(rows, policy.leave_out_after if policy.on_failure == "move" else 0)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<{self.name} device ({', '.join(f'{name}: {row.device}' for name, row in self.table().items())}) at {hex(id(self))}>"

    # What people look at ---------------------------------------------------------------------------------------------------

    def table(self) -> SpreadTable:
        """What each member did so far: circuits, shots, seconds, failures, cost. Printed, it is a table."""
        return self._book.table()

    def readmit(self, name: str) -> None:
        """Use a member again that was left out.

        Raises:
            InvalidCall: No member has this name.
        """
        if name not in self.members:
            raise InvalidCall(f"{self.name}.readmit({name!r})", [f"members are {', '.join(self.members)}"])
        with self._lock:
            self._book.readmit(name)

    def asked(self, circuits: Sequence[QuantumScript]) -> list[tuple[Device, list[QuantumScript]]]:
        """What each member would be asked in a call of these circuits, as it takes them. Nothing is run, and nothing is changed.

        Raises:
            DeviceError: All members are left out.
        """
        with self._lock:
            before = self._assignment.state()
            placed = self._assignment.place(len(circuits), together=self.policy.together, without=self._book.left_out)
            self._assignment.restore(before)
        mcm = ExecutionConfig().mcm_config
        return [
            (
                device,
                [
                    tape
                    for circuit, owner in zip(circuits, placed, strict=True)
                    if owner == name
                    for tape in prepared(device, circuit, mcm).tapes
                ],
            )
            for name, device in self.members.items()
        ]

    # A job's checkpoints carry it ------------------------------------------------------------------------------------------

    def checkpoint_state(self) -> dict[str, Any]:
        """What decides who runs the next circuit and what it gives: shares, failures, the members' own states; and the totals."""
        with self._lock:
            return {**_without_arrays(self._before()), **self._book.state()}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """See ``checkpoint_state``.

        Raises:
            InvalidCall: It is the state of other members.
        """
        if set(state["members"]) != set(self.members):
            was, now = ", ".join(state["members"]), ", ".join(self.members)
            raise InvalidCall(
                self.name, [f"the checkpoint is of the members {was}, and this device has {now}: keep them while a job goes on"]
            )
        with self._lock:
            self._undo(_with_arrays(state))
            self._book.restore(state)

    def _before(self) -> dict[str, Any]:
        """What a call changes that an error takes back. Remote members get their seats in the account here, in order."""
        states = {name: device_state(device) for name, device in self.members.items()}
        return {"assignment": self._assignment.state(), "members": states}

    def _undo(self, before: Mapping[str, Any]) -> None:
        self._assignment.restore(before["assignment"])
        for name, device in self.members.items():
            restore_device(device, before["members"][name])

    # Configuration ---------------------------------------------------------------------------------------------------------

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> bool:
        """Whether all members have the derivatives of this circuit themselves, those that are left out included.

        Raises:
            QuantumFunctionError: A method that was asked for by its name does not fit a member.
        """
        no_backprop = f"its circuits run on several devices; {_INSTEAD}"
        return has_derivatives(self.name, execution_config, circuit, self._why_not, no_backprop)

    def _why_not(self, config: ExecutionConfig, circuit: QuantumScript) -> str | None:
        """What keeps it from adjoint; None: nothing."""
        if (config.derivative_order or 1) > 1:
            return f"it has first derivatives only, and max_diff is {config.derivative_order}; {_INSTEAD}"
        if any(isinstance(op, MidMeasure) for op in circuit.operations):
            return f"it measures in its middle; {_INSTEAD}"
        asked = replace(config, gradient_method="adjoint", interface=Interface.NUMPY)
        for name, device in self.members.items():
            try:
                can, why = device.supports_derivatives(asked, circuit), ""
            except QuantumFunctionError as error:
                can, why = False, f" ({error})"
            if not can:
                return f"member {name!r} does not{why}; {_INSTEAD}"
        return None

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None) -> ExecutionConfig:
        """Fill in what the user left open. May be called on its own result."""
        config = config or ExecutionConfig()
        if config.device_options:
            raise DeviceError(f"{self.name} has no device option {', '.join(sorted(config.device_options))}")
        adjoint = config.gradient_method in BY_DEVICE and circuit is not None and self._why_not(config, circuit) is None
        buys = any(isinstance(device, HybridQPU) for device in self.members.values())  # one task gives both
        return replace(
            config,
            # By this name PennyLane calls back from the traced program, which is the only way to numbers.
            interface=Interface.JAX_JIT if config.interface is Interface.JAX and is_traced(circuit) else config.interface,
            gradient_method="adjoint" if adjoint else config.gradient_method,
            use_device_gradient=adjoint,
            use_device_jacobian_product=False,
            grad_on_execution=adjoint and (buys if config.grad_on_execution is None else bool(config.grad_on_execution)),
            convert_to_numpy=True,
        )

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """What comes before members preprocess their circuits: batches one by one, for each entry may run on another member."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        if config.use_device_gradient:
            pipeline.add_transform(decompose, stopping_condition=_is_differentiable, device_wires=self.wires, name=f"adjoint + {self.name}")
            pipeline.add_transform(split_trainable)
        pipeline.add_transform(batches.one_by_one)
        return pipeline

    # Execution -------------------------------------------------------------------------------------------------------------

    def execute(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Results of circuits that came out of ``preprocess_transforms``, in order, whoever ran them.

        Raises:
            DeviceError: Members cannot run circuits that they got; all complaints. Nothing was run.
            BudgetExceeded: Nothing was run either: what remote members need is reserved for all of them first.
            Exception: What a member raised. Its notes say which, with which circuits, and what is bought and kept.
        """
        return tuple(self._run(circuits, execution_config, gradient=False))

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Results and Jacobians, each of them from the member that got the circuit."""
        found = self._run(circuits, execution_config, gradient=True)
        return tuple(values for values, _ in found), tuple(jacobian for _, jacobian in found)

    def compute_derivatives(self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig | None = None) -> tuple[Any, ...]:
        """Jacobians."""
        return tuple(jacobian for _, jacobian in self._run(circuits, execution_config, gradient=True))

    def _run(self, circuits: Sequence[QuantumScript], config: ExecutionConfig | None, *, gradient: bool) -> list[Any]:
        """What each circuit gives. An error leaves assignment and members as they were before, so that the same call again is the same."""
        with self._lock:
            before = self._before()
            rounds = Rounds(self.members, self._assignment, self.policy, self._book)
            try:
                found = rounds.run(circuits, (config or ExecutionConfig()).mcm_config, gradient=gradient)
            except TaskCancelled:  # the same call again would meet the same cancelled task
                raise
            except BaseException:
                self._undo(before)
                raise
            finally:
                self.last = rounds.shares
            self._track(circuits, gradient)
            return found

    def _track(self, circuits: Sequence[QuantumScript], gradient: bool) -> None:
        """For ``qml.Tracker``: a record for each circuit, with its member, and one for what each member bought."""
        if not self.tracker.active:
            return
        self.tracker.update(batches=1)
        self.tracker.record()
        for share in self.last:
            for place in share.circuits if not share.error else ():
                executions, shots = get_num_shots_and_executions(circuits[place])
                more = {**({"shots": shots} if shots else {}), **({"derivatives": 1} if gradient else {})}
                self.tracker.update(executions=executions, member=share.member, **more)
                self.tracker.record()
            if share.task_ids:
                self.tracker.update(tasks=len(share.task_ids), cost_usd=share.cost_usd)
                self.tracker.record()


def _is_differentiable(op: Operator) -> bool:
    return op.name in _ROTATIONS or not any(qml.math.requires_grad(value) for value in op.data)


def _without_arrays(value: Any) -> Any:
    """A state in which arrays are lists, so that it fits beside a checkpoint's own state, too."""
    if isinstance(value, Mapping):
        return {name: _without_arrays(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_arrays, value))
    is_array = hasattr(value, "dtype") and value.ndim
    return {"array": np.asarray(value).tolist(), "dtype": str(value.dtype)} if is_array else value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"array", "dtype"}:
        return np.array(value["array"], dtype=value["dtype"])
    if isinstance(value, Mapping):
        return {name: _with_arrays(part) for name, part in value.items()}
    return type(value)(map(_with_arrays, value)) if isinstance(value, list | tuple) else value
