"""optax: value, gradient and update are one compiled call where the objective can be traced."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.errors import CheckpointError
from pl_hybridjobs.training.optimizers import Adapter, Misfit, Problem, Step
from pl_hybridjobs.training.parameters import described, differences

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure


def adapt(optimizer: Any, problem: Problem) -> Optax | None:
    """See ``optimizers.adapter``."""
    optax = sys.modules.get("optax")
    if optax is None:
        return None
    if isinstance(optimizer, optax.MultiSteps):  # which is none itself
        optimizer = optimizer.gradient_transformation()
    if not isinstance(optimizer, optax.GradientTransformation):
        return None
    if problem.shape.interface == "torch":
        raise Misfit("optax's optimizers do not take torch tensors; use torch.optim, or give params as JAX or NumPy arrays")
    return Optax(optimizer, problem.shape)


class Optax(Adapter):
    """Any ``GradientTransformation``. Its state is a nest of JAX arrays, which never change in place.

    It sees the whole nest of parameters, so that masks and labels fit; leaves that are not trained have zero gradients, and stay.
    """

    name = "optax"

    def __init__(self, transformation: Any, shape: Structure) -> None:
        import optax

        self._transformation = optax.with_extra_args_support(transformation)
        self._arguments = inspect.signature(self._transformation.update).parameters
        self._shape = shape
        self._jitted: Callable[..., Any] | None = None

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        import jax.numpy as jnp

        with self._shape.precision():
            return self._transformation.init(self._shape.unflatten([jnp.asarray(leaf) for leaf in self._shape.flatten(params)]))

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        value, aux, gradient, leaves, state, norm, more = objective.run("optax", self._whole, self._in_parts(objective), params, state)
        objective.keep(aux)
        objective.evaluations += 0 if more is None else int(more)
        new = self._shape.unflatten(leaves) if self._shape.interface == "jax" else self._shape.rebuild(leaves)
        return Step(new, state, float(value), gradient, float(norm))

    def dump(self, state: Any) -> Any:
        """See ``Adapter.dump``."""
        return state

    def load(self, dumped: Any, params: Any) -> Any:
        """See ``Adapter.load``.

        Raises:
            CheckpointError: The state is of another transformation.
        """
        found = differences(described(dumped, "state"), described(self.init(params), "state"))
        if found:
            raise CheckpointError(
                "The optimizer's state in the checkpoint is of another transformation:" + "".join(f"\n  - {line}" for line in found)
            )
        return dumped

    def _whole(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Evaluation and update in one."""
        import jax
        import jax.numpy as jnp

        def call(trainable: list[Any], fixed: list[Any], batch: Any, state: Any) -> tuple[Any, ...]:
            def evaluate() -> tuple[Any, Any, list[Any]]:
                (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(trainable, fixed, batch)
                return value, aux, gradient

            def value_fn(params: Any) -> Any:
                return fn(self._shape.split(self._shape.flatten(params))[0], fixed, batch)[0]

            found = None if batch else self._found(state)
            if found is None or jax.eval_shape(evaluate) != jax.eval_shape(lambda: found):
                value, aux, gradient = evaluate()
                return value, aux, gradient, *self._updated(trainable, fixed, state, value, gradient, value_fn=value_fn)
            is_known = jnp.isfinite(found[0])
            value, aux, gradient = jax.lax.cond(is_known, lambda: found, evaluate)
            *updated, more = self._updated(trainable, fixed, state, value, gradient, value_fn=value_fn)
            return value, aux, gradient, *updated, more - is_known.astype(int)

        return call

    def _found(self, state: Any) -> tuple[Any, dict[str, Any], list[Any]] | None:
        """Value and gradient that a line search had at the point where it ended, which is where this step begins; None if it kept none."""
        import optax

        kept = [optax.tree.get_all_with_path(state, name) for name in ("value", "grad", "num_linesearch_steps")]
        if any(len(found) != 1 for found in kept) or kept[1][0][1] is None:
            return None
        return kept[0][0][1], {}, self._shape.split(self._shape.flatten(kept[1][0][1]))[0]

    def _in_parts(self, objective: Objective) -> Callable[..., Any]:
        """The update alone is compiled."""

        def call(params: Any, state: Any) -> tuple[Any, ...]:
            import jax

            value, gradient = objective.value_and_gradient(params)
            objective.evaluations -= 1  # one, not two
            self._jitted = self._jitted or jax.jit(self._updated)
            with self._shape.precision(), _explained(objective):
                updated = self._jitted(*self._shape.split(self._shape.flatten(params)), state, value, gradient)
            return value, objective.aux, gradient, *updated

        return call

    def _updated(self, trainable: Sequence[Any], fixed: Sequence[Any], state: Any, value: Any, gradient: Sequence[Any], **more: Any) -> Any:
        import jax.numpy as jnp
        import optax

        params = self._shape.merge(trainable, fixed)
        whole = self._shape.merge(gradient, [jnp.zeros_like(leaf) for leaf in fixed])
        extra = {name: given for name, given in {"value": value, "grad": whole, **more}.items() if self._takes(name)}
        updates, state = self._transformation.update(whole, state, params, **extra)
        moved, _ = self._shape.split(self._shape.flatten(optax.apply_updates(params, updates)))
        leaves, norm = self._shape.flatten(self._shape.merge(moved, fixed)), optax.tree.norm(list(gradient))
        searched = optax.tree.get_all_with_path(state, "num_linesearch_steps")  # the evaluations within the update
        return leaves, state, norm, sum(number for _, number in searched) if searched else None

    def _takes(self, name: str) -> bool:
        return name in self._arguments or any(p.kind is p.VAR_KEYWORD for p in self._arguments.values())


@contextlib.contextmanager
def _explained(objective: Objective) -> Iterator[None]:
    """Say what an update lacks: most often a compiled objective, which it wants to evaluate."""
    try:
        yield
    except (TypeError, ValueError) as error:
        lacks = re.search(r"missing \d+ required .*'(\w+)'|(\w+) must be provided", str(error))
        if lacks is None:
            raise
        if lacks[1] != "value_fn":
            raise Misfit(
                f"this optax transformation needs {lacks[1] or lacks[2]} in its update, which train does not give; use training_loop"
            ) from error
        raise Misfit(
            "this optax transformation evaluates the objective within its update, as the line search of optax.lbfgs does, and that needs a "
            f"compiled objective; this one is not compiled: {objective.reason}"
        ) from error
