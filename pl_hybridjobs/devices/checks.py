"""Options that a device and numbers that a circuit cannot have, found before anything runs, and named."""

from __future__ import annotations

import cmath
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral, Number
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig
from pennylane.devices.preprocess import validate_device_wires, validate_measurements
from pennylane.exceptions import DeviceError, QuantumFunctionError, WireError
from pennylane.measurements import MeasurementProcess
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.transforms import transform
from scipy.sparse import issparse

from pl_hybridjobs.devices import translate
from pl_hybridjobs.errors import SimulationError, unknown_options

_LONGEST = 200  # of what is quoted
_OPTIONS = ("wires", "shots", "seed", "c_dtype")
#: The methods by which a device whose circuits run elsewhere may be asked for derivatives of its own.
BY_DEVICE = ("adjoint", "device", "best")


def wrong_options(wires: Any, c_dtype: Any, unknown: Iterable[str], *others: str) -> list[str]:
    """What is wrong with a simulator's options: those that all have, and ``others``."""
    wrong = [*unknown_options(unknown, [*_OPTIONS, *others]), *wrong_wires(wires)]
    try:
        known = np.dtype(c_dtype).name in ("complex64", "complex128")
    except TypeError:
        known = False
    if not known:
        wrong.append(f"c_dtype must be complex64 or complex128, not {c_dtype}")
    return wrong


def has_derivatives(
    name: str,
    config: ExecutionConfig | None,
    circuit: QuantumScript | None,
    why_not: Callable[[ExecutionConfig, QuantumScript], str | None],
    no_backprop: str,
) -> bool:
    """What ``Device.supports_derivatives`` answers where circuits run elsewhere. As long as no circuit is known, nothing is looked up.

    Args:
        name: The device's.
        config: What is asked for.
        circuit: Of what, or None.
        why_not: What keeps the device from derivatives of its own; None: nothing.
        no_backprop: Why backprop cannot be, and what to do.

    Raises:
        QuantumFunctionError: A method that was asked for by its name does not fit.
    """
    if config is None:
        return True
    method = config.gradient_method
    if method == "backprop":
        raise QuantumFunctionError(f"{name} does not support backprop: {no_backprop}")
    if method not in BY_DEVICE:
        return False
    reason = None if circuit is None else why_not(config, circuit)
    if reason and method != "best":
        raise QuantumFunctionError(f"{name} does not support {method} with this circuit: {reason}")
    return reason is None


def wrong_wires(wires: Any) -> list[str]:
    """What is wrong with a device's wires. No wires at all are none of it: PennyLane's devices take 0."""
    if isinstance(wires, Number) and not isinstance(wires, Integral):
        return [f"wires must be a whole number, labels or None, not {wires!r}"]
    if isinstance(wires, Integral) and int(wires) < 0:
        return [f"wires must not be negative, and is {wires}"]
    return []


def refuse(name: str, wrong: Sequence[str]) -> None:
    """Raise a DeviceError that says all that is wrong, if anything is."""
    if wrong:
        raise DeviceError(f"{name}: {'; '.join(wrong)}")


@transform
def check_numbers(tape: QuantumScript) -> Any:
    """Refuse parameters that are no numbers, and matrices and observables whose numbers are not finite; see ``check_observables``.

    Whether angles are finite is asked later, of all at once (``translate.parameter_matrix``).

    Raises:
        SimulationError: Names the operator and the parameter, or the observable and the coefficient.
    """
    for op in tape.operations:
        for number, value in enumerate(op.data):
            if isinstance(value, float):
                continue
            for wrong in _no_number(value):
                raise SimulationError(f"parameter {number} of {op.name} on wires {list(op.wires)} is no number: {wrong!r}")
            if getattr(value, "ndim", 0) and translate.takes_matrix(op):
                for wrong in not_finite(value):
                    raise SimulationError(f"{op.name} on wires {list(op.wires)} has the entry {wrong}; look where it comes from")
    for mp in tape.measurements:
        check_observables(mp)
    return (tape,), lambda results: results[0]


def check_observables(mp: MeasurementProcess) -> None:
    """Refuse infinite or undefined coefficients and matrices. Traced ones have no values yet, and pass.

    Raises:
        SimulationError: Names the observable and what is wrong with it.
    """
    for observable in _observables(mp):
        if observable.pauli_rep is not None:
            words = observable.pauli_rep.items()
            found = [f"the coefficient {wrong} of {word}" for word, value in words for wrong in not_finite(value)]
        else:
            found = [f"the number {wrong}" for value in observable.data for wrong in not_finite(value)]
        if found:
            raise SimulationError(f"the observable {short(observable)} has {found[0]}; look where it comes from")


@transform
def check_wires(tape: QuantumScript, wires: Any, name: str) -> Any:
    """PennyLane's ``validate_device_wires``, with the cure.

    Raises:
        WireError: The circuit acts on wires that the device does not have.
    """
    try:
        return validate_device_wires(tape, wires, name=name)
    except WireError as error:
        raise WireError(f"{error}; it has {list(wires)}. Make it with more wires, or without wires=, for those of each circuit") from None


@transform
def check_measurements(tape: QuantumScript, analytic: Callable[[Any], bool], sample: Callable[[Any], bool], name: str) -> Any:
    """PennyLane's ``validate_measurements``, with the cure.

    Raises:
        DeviceError: A measurement that cannot be had with shots, or not without.
    """
    try:
        return validate_measurements(tape, analytic_measurements=analytic, sample_measurements=sample, name=name)
    except DeviceError as error:
        wanted = "without shots: qml.set_shots(circuit, None)" if tape.shots else "with shots: qml.set_shots(circuit, 1000)"
        could = all(map(analytic if tape.shots else sample, tape.measurements))
        raise DeviceError(f"{str(error).rstrip('.')}{f'; it can be had {wanted}' if could else ''}") from None


def _observables(mp: MeasurementProcess) -> Iterator[Operator]:
    if mp.obs is not None:
        yield mp.obs
    given = getattr(mp, "H", None)  # of a shadow: one, or several
    yield from given if isinstance(given, list | tuple) else () if given is None else (given,)


def not_finite(value: Any) -> tuple[Any, ...]:
    """The first entry of an array that is infinite or not a number at all, as far as that can be known; or nothing."""
    if isinstance(value, int | float | complex):
        return () if cmath.isfinite(value) else (value,)
    if value.requires_grad if qml.math.get_interface(value) == "torch" else translate.is_traced(value):
        return ()
    if wrong := _no_number(value):
        return wrong
    array = np.ravel(value.tocoo().data if issparse(value) else qml.math.toarray(value))
    if array.dtype.kind == "O":
        array = array.astype(complex)
    return tuple(array[~np.isfinite(array)][:1].tolist())


def _no_number(value: Any) -> tuple[Any, ...]:
    """The first entry of a parameter that is no number, or nothing."""
    if isinstance(value, Number) or translate.is_traced(value) or issparse(value):
        return ()
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
        entries = value.ravel().tolist() if isinstance(value, np.ndarray) else value
        return next(filter(None, map(_no_number, entries)), ())
    if isinstance(value, np.ndarray):
        return (value.ravel()[0],) if value.dtype.kind in "USMm" and value.size else ()
    return () if hasattr(value, "dtype") else (value,)


def short(value: Any) -> str:
    """A value for a message, on one line."""
    return textwrap.shorten(str(value), _LONGEST, placeholder=" ...")
