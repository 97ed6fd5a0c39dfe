"""One objective on one interface: its value, its gradient, compiled by JAX where that can be done.

Compiling means that JAX traces the objective, whatever it was written for: PennyLane's QNodes take JAX's tracers, and code made of
operators does too. What does not trace is run as it is written, and ``reason`` says why.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import HybridJobsError, InvalidCall, MetricError
from pl_hybridjobs.jobs.context import logging
from pl_hybridjobs.training.circuits import Reached
from pl_hybridjobs.training.dispatch import traceable
from pl_hybridjobs.training.parameters import Structure, to_numpy
from pl_hybridjobs.training.variables import Variables

_WHERE = "train()"
#: Derivatives that are one call of the device, so that a trace stays short.
_ONE_CALL = ("best", "device", "adjoint", "backprop")

_IN_AUTOGRAD = (
    "with params of NumPy the gradient is autograd's, which needs the functions of qml.numpy or qml.math in the objective, and no float(), "
    "no assignments to elements, no jax and no torch. Optimizers that take no gradient, such as 'COBYLA', run any code."
)


class Objective:
    """What is to be minimised, as a function of nests of one structure.

    Args:
        fn: ``fn(params, *args, *batch)`` returns a scalar, or a scalar and a dict of further numbers.
        shape: Of ``params``.
        args: Arguments that stay the same.
        compile: True, False or "auto".
        reached: What ``fn`` reaches: its QNodes tell whether compiling pays.
        random_state: Gives all random states and takes them back.

    Attributes:
        batch: Arguments of the current step.
        aux: The further numbers of the newest evaluation.
        evaluations: How many there were; the loop begins to count anew with each step.
        compiled: Whether the newest evaluation ran compiled.
        reason: Why nothing is compiled; "" as long as it may be.
        was_changed: Whether that is because something has changed that it uses.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        shape: Structure,
        *,
        args: Sequence[Any] = (),
        compile: bool | str = "auto",
        reached: Reached,
        random_state: tuple[Callable[[], Any], Callable[[Any], None]],
    ) -> None:
        self.fn = fn
        self.shape = shape
        self.args = tuple(args)
        self.batch: tuple[Any, ...] = ()
        self.aux: dict[str, float] = {}
        self.evaluations = 0
        self.compiled = False
        self.reason = "compile=False" if compile is False else _why_not(reached) if compile == "auto" else ""
        self.was_changed = False
        self._must = compile is True
        self._capture, self._restore = random_state
        self._jitted: dict[str, Callable[..., Any]] = {}
        self._traced_fn = fn  # what JAX traces: `fn`, or a copy
        self._variables: Variables | None = None  # what a trace has seen

    def value(self, params: Any) -> float:
        """The objective at ``params``, without a gradient.

        Raises:
            InvalidCall: It is not a real scalar.
        """
        value, aux = self.run("value", lambda fn: fn, self._eager_value, params)
        self.keep(aux)
        return float(value)

    def value_with(self, args: Sequence[Any], params: Any) -> float:
        """The objective with other arguments than those that stay the same; never compiled.

        Raises:
            InvalidCall: It is not a real scalar.
        """
        self.evaluations += 1
        before, self.args = self.args, tuple(args)
        try:
            value, aux = self._eager_value(params)
        finally:
            self.args = before
        self.keep(aux)
        return value

    def value_and_gradient(self, params: Any) -> tuple[float, list[Any]]:
        """The objective and its gradient by each trainable leaf, from one evaluation.

        Returns:
            The value, and arrays of the interface (NumPy arrays in place of PennyLane's tensors).

        Raises:
            InvalidCall: The value is not a real scalar.
        """
        value, aux, gradient = self.run("gradient", _differentiated, self._eager_gradient, params)
        self.keep(aux)
        return float(value), self._in_interface(gradient)

    def forgo(self, reason: str) -> None:
        """Compile nothing from now on.

        Raises:
            InvalidCall: It must be compiled.
        """
        if not self.reason:
            self._give_up(reason, None)

    def run(
        self, name: str, transform: Callable[[Callable[..., Any]], Callable[..., Any]], eager: Callable[..., Any], params: Any, *more: Any
    ) -> Any:
        """Call a transformed objective, compiled if possible.

        Args:
            name: One for each ``transform``.
            transform: Makes the function to compile from ``fn(trainable, fixed, batch) -> (value, aux)``, which it may differentiate by
                ``trainable``. What it makes takes ``more`` after these.
            eager: ``eager(params, *more)``, for where nothing is compiled.
            params: A nest.
            *more: Nests of arrays.
        """
        self.evaluations += 1
        self.look()
        if not self.reason:
            first = name not in self._jitted
            try:
                with self.shape.precision():
                    result = self._first(name, transform, params, *more) if first else self._call(self._jitted[name], params, *more)
            except Exception as error:  # whatever stops a trace
                if not first or self._is_complaint(error):
                    raise
                self._give_up(_first_line(error), error)
            else:
                self.compiled = True
                return result
        return eager(params, *more)

    def _is_complaint(self, error: Exception) -> bool:
        return isinstance(error, InvalidCall) or (self._must and isinstance(error, MetricError))

    def _first(self, name: str, transform: Callable[..., Any], params: Any, *more: Any) -> Any:
        """The first call, which traces: the objective as it is, or else a copy whose NumPy takes tracers.

        An objective may have side effects, which a compiled one does not repeat; random numbers that are drawn and variables that are
        changed can be seen.
        """
        import jax

        before = self._capture()
        with warnings.catch_warnings():
            # PennyLane's, under new versions of JAX, where somebody made warnings errors.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            call = jax.jit(transform(self._traced))
            try:
                result = self._as_it_is_or_copied(call, before, params, *more)
            except Exception:
                self._undo(before)  # what a trace drew that came to nothing is drawn again
                raise
        draws, changed = not _same(before, self._capture()), self._seen.changed()
        if draws or changed:
            self._undo(before)
            does = "draws random numbers in Python" if draws else f"changes {changed!r}"
            raise _NotTraceable(f"the objective {does}, and a compiled one would do so once")
        self._jitted[name] = call
        return result

    @property
    def _seen(self) -> Variables:
        if self._variables is None:
            self._variables = Variables(objective=self.fn, copy=self._traced_fn, args=self.args)
        return self._variables

    def look(self) -> None:
        """See whether something has changed that a compiled objective would not see; then nothing is compiled any more.

        Raises:
            InvalidCall: It must be compiled.
        """
        changed = "" if self.reason else self._seen.changed()
        if changed:
            self.was_changed = True
            self.forgo(f"{changed!r}, which the objective uses, has changed, and a compiled one would not see it")

    def _undo(self, before: Any) -> None:
        """Leave no trace of a trace."""
        self._restore(before)
        self._seen.restore()

    def _as_it_is_or_copied(self, call: Callable[..., Any], before: Any, params: Any, *more: Any) -> Any:
        try:
            return self._call(call, params, *more)
        except (TypeError, ValueError) as error:  # what NumPy says to a tracer
            self._undo(before)
            fn = traceable(self._traced_fn)
            if isinstance(error, HybridJobsError) or fn is self._traced_fn:
                raise
            original, variables = self._traced_fn, self._variables
            self._traced_fn, self._variables = fn, Variables(objective=self.fn, copy=fn, args=self.args)
            try:
                return self._call(call, params, *more)
            except Exception:
                self._undo(before)
                self._traced_fn, self._variables = original, variables
                raise

    def _call(self, call: Callable[..., Any], params: Any, *more: Any) -> Any:
        import jax

        leaves = self.shape.flatten(params)
        if self.shape.interface == "torch":
            leaves = list(map(to_numpy, leaves))
        trainable, fixed = self.shape.split(leaves)
        with logging("refused"):
            return call(trainable, fixed, jax.tree.map(_plain, self.batch) if self.batch else (), *more)

    def _traced(self, trainable: Sequence[Any], fixed: Sequence[Any], batch: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
        return self._evaluated(self.shape.merge(trainable, fixed), batch, self._traced_fn)

    def _give_up(self, reason: str, error: Exception | None) -> None:
        if self._must:
            advice = "write it with qml.math or jax.numpy and without Python's random numbers, or leave compile='auto'"
            raise InvalidCall(_WHERE, [f"compile=True, but the objective cannot be traced by JAX: {reason}; {advice}"]) from error
        self.compiled = False
        self.reason = reason
        self._jitted.clear()
        self._variables = None

    def _eager_value(self, params: Any) -> tuple[float, dict[str, Any]]:
        value, aux = self._evaluated(params, self.batch)
        return float(value), aux

    def _eager_gradient(self, params: Any) -> tuple[float, dict[str, Any], list[Any]]:
        return {"autograd": self._by_autograd, "jax": self._by_jax, "torch": self._by_torch}[self.shape.interface](params)

    def _by_autograd(self, params: Any) -> tuple[float, dict[str, Any], list[Any]]:
        import pennylane as qml

        box: dict[str, Any] = {}

        def fn(*leaves: Any) -> Any:
            value, box["aux"] = self._evaluated(self.shape.unflatten(leaves), self.batch)
            interface = qml.math.get_interface(value)
            if interface not in ("autograd", "numpy", "builtins"):
                raise InvalidCall(_WHERE, [f"the objective returned a value of {interface}; then params must be of {interface}, too"])
            return float(value) if str(getattr(value, "dtype", type(value).__name__)).startswith(("int", "bool")) else value

        with warnings.catch_warnings():
            # Zero gradients are spoken of once, by the loop.
            warnings.filterwarnings("ignore", "Output seems independent of input")
            grad = qml.grad(fn, argnums=list(self.shape.trainable))
            try:
                gradient = grad(*self.shape.flatten(params))
            except Exception as error:
                if _is_of_autograd(error):
                    error.add_note(f"{_WHERE}: {_IN_AUTOGRAD} Compiled by JAX it was not, because of this: {self.reason}.")
                raise
        aux = {name: qml.math.toarray(value) for name, value in box["aux"].items()}
        return float(grad.forward), aux, [to_numpy(g) for g in gradient]

    def _by_jax(self, params: Any) -> tuple[Any, dict[str, Any], list[Any]]:
        import jax

        def fn(trainable: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
            return self._evaluated(self.shape.merge(trainable, ()), self.batch)

        (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(self.shape.flatten(params))
        return value, aux, gradient

    def _by_torch(self, params: Any) -> tuple[float, dict[str, Any], list[Any]]:
        import torch

        given, fixed = self.shape.split([leaf.detach() for leaf in self.shape.flatten(params)])
        leaves = [leaf.requires_grad_() for leaf in given]
        value, aux = self._evaluated(self.shape.merge(leaves, fixed), self.batch)
        value = torch.as_tensor(value)
        number = float(value.detach())
        gradient = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else [None] * len(leaves)
        found = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradient, leaves, strict=True)]
        return number, aux, found

    def _evaluated(self, params: Any, batch: tuple[Any, ...], fn: Callable[..., Any] | None = None) -> tuple[Any, dict[str, Any]]:
        result = (fn or self.fn)(params, *self.args, *batch)
        value, aux = result if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping) else (result, {})
        problem = _complaint(value)
        problems = [f"the objective returned {problem}"] if problem else []
        strange = {name: _no_number(further) for name, further in aux.items()}
        problems += [f"the objective's further number {name!r} is {what}" for name, what in strange.items() if what]
        if problems:
            raise InvalidCall(_WHERE, problems)
        return value, dict(aux)

    def keep(self, aux: Mapping[str, Any]) -> None:
        """Remember the further numbers of an evaluation."""
        self.aux = {name: float(to_numpy(value)) for name, value in aux.items()}

    def _in_interface(self, gradient: Sequence[Any]) -> list[Any]:
        if self.shape.interface == "jax" or not self.compiled:
            return list(gradient)
        arrays = [to_numpy(g) for g in gradient]
        if self.shape.interface == "autograd":
            return arrays
        import torch

        return [torch.tensor(g) for g in arrays]


class _NotTraceable(Exception):
    """Compiling would change what the objective computes."""


def _differentiated(fn: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    def call(trainable: Any, fixed: Any, batch: Any) -> tuple[Any, Any, Any]:
        (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(trainable, fixed, batch)
        return value, aux, gradient

    return call


def _why_not(reached: Reached) -> str:
    """Why compiling would not pay; "" if it would."""
    for qnode in reached.qnodes:
        device = qnode.device
        if not getattr(device, "compiles_fast", False):
            return f"{device.name}: compiling its circuits may take longer than running them (compile=True does it all the same)"
        if qnode.shots:
            return "shots: each step draws samples from the device (compile=True does it all the same)"
        if qnode.diff_method not in _ONE_CALL:
            return f"diff_method={qnode.diff_method!r} runs many circuits for a gradient (compile=True does it all the same)"
        if qnode.interface not in ("auto", "jax", "jax-jit"):
            return f"a QNode has interface={qnode.interface!r}; interface='auto' can be compiled"
    return ""


def _plain(value: Any) -> Any:
    return to_numpy(value) if hasattr(value, "detach") else value


def _complaint(value: Any) -> str:
    """What is wrong with an objective's result."""
    found = _no_number(value)
    if found.startswith("an array"):
        return f"{found}; training needs one number: sum it, or take its mean"
    if found == "a complex number":
        return f"{found}; take its real part, or its absolute value"
    return f"{found}; it must return a real scalar, or a scalar and a dict of further numbers" if found else ""


def _no_number(value: Any) -> str:
    """What this is instead of a real number; "" if it is one."""
    shape, dtype = getattr(value, "shape", None), str(getattr(value, "dtype", type(value).__name__))
    if shape is None and not isinstance(value, float | int):
        return "a complex number" if isinstance(value, complex) else type(value).__name__
    if shape is not None and tuple(shape) != ():
        return f"an array of shape {tuple(shape)}"
    return "a complex number" if "complex" in dtype else ""


def _is_of_autograd(error: BaseException) -> bool:
    """Whether code did not like autograd's boxes, or autograd what code did with them."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return "ArrayBox" in f"{error} {error.__cause__}" or "autograd" in Path(raised_in).parts


def _first_line(error: Exception) -> str:
    if isinstance(error, _NotTraceable | MetricError):
        return str(error)
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


def _same(one: Any, other: Any) -> bool:
    import pickle

    return pickle.dumps(one) == pickle.dumps(other)
