"""Rotosolve and Rotoselect: each parameter in turn goes to the minimum of the trigonometric function that it spans."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.training.optimizers import Adapter, Misfit, Problem, Step

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure

_GIVE = "functools.partial(optimizer.step_and_cost, nums_frequency={{{example!r}: {{{index}: 1, ...}}, ...}}), or with spectra="


class Rotosolve(Adapter):
    """``RotosolveOptimizer``, which keeps nothing from step to step.

    With which frequencies each parameter enters is found from the objective where it is a QNode. Otherwise it is given as in PennyLane, by
    ``optimizer=functools.partial(optimizer.step_and_cost, nums_frequency=...)`` (or ``spectra``, ``shifts``), whose keys are the arrays as
    the objective writes them: ``weights``, or ``weights['layer']`` in a nest.
    """

    interface = "autograd"
    method = "none"
    evaluations: Literal["gradient", "value"] = "value"

    def __init__(self, optimizer: Any, problem: Problem, **options: Any) -> None:
        self.name = type(optimizer).__name__
        self._optimizer = copy.deepcopy(optimizer)
        self._shape = problem.shape
        names = _written(problem)
        unknown = set(options) - {"nums_frequency", "spectra", "shifts"}
        if unknown:
            raise Misfit(f"{self.name} takes nums_frequency, spectra and shifts, not {', '.join(sorted(unknown))}")
        if not options:
            options = {"spectra": self._spectra(problem, names)}
        self._options = {option: self._by_place(option, given, names) for option, given in options.items() if given}
        self.count = self._values_per_step(names)

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        del params

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        from pennylane import numpy as pnp

        aux: list[dict[str, float]] = []

        def fn(*leaves: Any) -> Any:
            value = objective.value(self._shape.unflatten(leaves))
            aux.append(objective.aux)
            return pnp.tensor(value)

        fn.__signature__ = _signature(self._shape)  # type: ignore[attr-defined]
        new, value = self._optimizer.step_and_cost(fn, *self._shape.flatten(params), **self._options)
        objective.aux = aux[0]
        return Step(self._shape.rebuild([new] if len(self._shape.leaves) == 1 else new), state, float(value))

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return state

    def load(self, dumped: Any, params: Any) -> Any:
        """See ``Adapter.load``."""
        del params
        return dumped

    def _by_place(self, option: str, given: Any, names: Sequence[str]) -> dict[str, Any]:
        """An option with the names of ``_signature`` for keys."""
        if not isinstance(given, Mapping):
            raise Misfit(f"{self.name}: {option} is {type(given).__name__}; give a dict with the keys {', '.join(names)}")
        strange = [str(key) for key in given if key not in names]
        if strange:
            raise Misfit(f"{self.name}: {option} speaks of {', '.join(strange)}; the parameters are {', '.join(names)}")
        return {f"leaf{names.index(key)}": dict(value) for key, value in given.items()}

    def _spectra(self, problem: Problem, names: Sequence[str]) -> dict[str, Any]:
        """What PennyLane finds out about a QNode, by the names of its parameters."""
        import pennylane as qml

        example = names[problem.shape.trainable[0]]
        index = (0,) * len(problem.shape.leaves[problem.shape.trainable[0]].shape)
        how = "optimizer=" + _GIVE.format(example=example, index=index)
        fn: Any = problem.fn
        if not isinstance(fn, qml.QNode):
            raise Misfit(
                f"{self.name} needs to know with which frequencies each parameter enters, which is found by itself only where the "
                f"objective is a QNode; give {how}"
            )

        def circuit(*leaves: Any) -> Any:
            return fn.func(problem.shape.unflatten(leaves), *problem.args)

        circuit.__signature__ = _signature(problem.shape)  # type: ignore[attr-defined]
        flat = copy.copy(fn)
        flat.func = circuit
        trained = [f"leaf{i}" for i in problem.shape.trainable]
        leaves = problem.shape.flatten(problem.shape.rebuild(problem.shape.flatten(problem.params)))
        try:
            found = qml.fourier.qnode_spectrum(flat, encoding_args=dict.fromkeys(trained, ...))(*leaves)
        except Exception as error:
            raise Misfit(f"{self.name} cannot find the frequencies of this QNode ({type(error).__name__}: {error}); give {how}") from error
        spectra = {names[int(name.removeprefix("leaf"))]: spectrum for name, spectrum in found.items()}
        idle = [f"{name}{list(at) or ''}" for name, spectrum in spectra.items() for at, found in spectrum.items() if not any(found)]
        if idle:
            raise Misfit(f"{self.name}: {', '.join(sorted(idle))} does not enter the circuit; leave it out of params")
        return spectra

    def _values_per_step(self, names: Sequence[str]) -> int:
        """How many values a step asks for: 2 R + 1 for each parameter with R frequencies."""
        import numpy as np

        total = 0
        for i in self._shape.trainable:
            for at in np.ndindex(self._shape.leaves[i].shape):
                number = self._options.get("nums_frequency", {}).get(f"leaf{i}", {}).get(at)
                spectrum = self._options.get("spectra", {}).get(f"leaf{i}", {}).get(at)
                if number is None and spectrum is None:
                    raise Misfit(f"{self.name}: nums_frequency and spectra say nothing about {names[i]}{list(at) or ''}")
                total += 2 * int(sum(f > 0 for f in spectrum) if number is None else number) + 1
        return total


class Rotoselect(Adapter):
    """``RotoselectOptimizer``: the gates change with the parameters, and are the state.

    The objective is ``objective(params, generators, ...)``, and ``train`` gets the first generators as the first of its ``args``. The value
    of a step is the first of those that it compares, which is the one at its beginning.
    """

    interface = "autograd"
    method = "none"
    evaluations: Literal["gradient", "value"] = "value"
    calls_objective = False

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        self.name = type(optimizer).__name__
        self._optimizer = copy.deepcopy(optimizer)
        self._shape = problem.shape
        size = len(problem.shape.vector(problem.params))
        first = problem.args[0] if problem.args else None
        if not isinstance(first, list | tuple) or len(first) != size or not all(isinstance(g, type) for g in first):
            raise Misfit(
                f"{self.name} needs the first of args to be the list of its first generators, one for each of the {size} parameters, as in "
                "args=([qml.RX, qml.RY],); the objective is called with params and generators"
            )
        self._first = list(first)
        self._known = {_class_name(g): g for g in [*optimizer.possible_generators, *first]}
        self.count = size * (1 + 4 * len(optimizer.possible_generators))

    def init(self, params: Any) -> dict[str, list[Any]]:
        """See ``Optimizer.init``."""
        del params
        return {"generators": list(self._first)}

    def step(self, objective: Objective, params: Any, state: dict[str, list[Any]]) -> Step:
        """See ``Optimizer.step``."""
        values: list[float] = []
        aux: list[dict[str, float]] = []

        def fn(vector: Any, generators: list[Any]) -> float:
            nest = self._shape.with_vector(vector, params)
            values.append(objective.value_with((list(generators), *objective.args[1:]), nest))
            aux.append(objective.aux)
            return values[-1]

        new, generators = self._optimizer.step(fn, self._shape.vector(params), list(state["generators"]))
        objective.aux = aux[0]
        return Step(self._shape.with_vector(new, params), {"generators": generators}, values[0])

    def dump(self, state: dict[str, list[Any]]) -> Any:
        """See ``Adapter.dump``."""
        return {"generators": [_class_name(g) for g in state["generators"]]}

    def load(self, dumped: Any, params: Any) -> dict[str, list[Any]]:
        """See ``Adapter.load``."""
        del params
        unknown = [name for name in dumped["generators"] if name not in self._known]
        if unknown:
            raise Misfit(f"{self.name}: the checkpoint has the generators {', '.join(unknown)}, which this program does not choose from")
        return {"generators": [self._known[name] for name in dumped["generators"]]}


def _class_name(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _written(problem: Problem) -> list[str]:
    """The leaves as the objective writes them."""
    fn: Any = problem.fn
    try:
        name = next(iter(inspect.signature(getattr(fn, "func", fn)).parameters))
    except (TypeError, ValueError, StopIteration):
        name = "params"
    return [name + leaf.path.removeprefix("params") for leaf in problem.shape.leaves]


def _signature(shape: Structure) -> inspect.Signature:
    """Of a function of the leaves: PennyLane knows parameters by the names of a function's arguments."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(f"leaf{i}", kind) for i in range(len(shape.leaves))])
