"""Riemannian gradients: the circuit itself grows with each step."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.training.counting import Counter
from pl_hybridjobs.training.optimizers import Adapter, Misfit, Problem, Step

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective


@dataclass(frozen=True)
class Grown:
    """A circuit, and how it came about.

    Attributes:
        circuit: A QNode without arguments: the user's, with the evolutions of all steps after it.
        omegas: The gradient of each step in the basis of Pauli words, arrays of shape (words,). A checkpoint holds these, and from them
            the circuit is built again.
    """

    circuit: Any
    omegas: tuple[Any, ...] = ()


class Riemannian(Adapter):
    """``RiemannianGradientOptimizer``: the objective is the QNode that it was made for, and ``params`` is ``()``."""

    interface = "autograd"
    method = "parameter-shift"
    unplanned = "the circuit grows with each step"
    calls_objective = False
    needs_params = False

    def __init__(self, optimizer: Any, problem: Problem) -> None:
        self.name = type(optimizer).__name__
        if problem.shape.leaves or problem.args:
            raise Misfit(f"{self.name} changes the circuit and not its parameters: give params=(), no args, and read run.optimizer.circuit")
        if getattr(problem.fn, "func", None) is not optimizer.circuit.func:
            raise Misfit(f"{self.name} was made for another circuit than the objective: give the same QNode to both")
        self._optimizer = copy.copy(optimizer)

    def init(self, params: Any) -> Grown:
        """See ``Optimizer.init``."""
        del params
        return Grown(self._optimizer.circuit)

    def step(self, objective: Objective, params: Any, state: Grown) -> Step:
        """See ``Optimizer.step``."""
        import numpy as np

        del objective
        optimizer, counter, found = copy.copy(self._optimizer), Counter(), []

        def get_omegas() -> Any:
            found.append(self._optimizer.__class__.get_omegas(optimizer))
            return found[-1]

        optimizer.circuit, optimizer.get_omegas = state.circuit, get_omegas
        with counter.watch([state.circuit.device]):
            circuit, value = optimizer.step_and_cost()
        grown = Grown(circuit, (*state.omegas, np.array(found[0])))
        length = float(np.linalg.norm(found[0]))
        return Step(params, grown, float(value), norm=length, executions=counter.executions, shots=counter.shots)

    def dump(self, state: Grown) -> Any:
        """See ``Adapter.dump``."""
        return list(state.omegas)

    def load(self, dumped: Any, params: Any) -> Grown:
        """See ``Adapter.load``."""
        del params
        circuit = self._optimizer.circuit
        for omegas in dumped:
            circuit = self._evolved(circuit, omegas)
        return Grown(circuit, tuple(dumped))

    def _evolved(self, circuit: Any, omegas: Any) -> Any:
        """The circuit with one step's evolution after it."""
        import numpy as np
        import pennylane as qml
        from pennylane.optimize.riemannian_gradient import append_time_evolution

        optimizer = self._optimizer
        (places,) = np.nonzero(omegas)
        direction = qml.Hamiltonian(-omegas[places], [optimizer.lie_algebra_basis_ops[i] for i in places])
        return append_time_evolution(circuit, direction, optimizer.stepsize, optimizer.trottersteps, optimizer.exact)
