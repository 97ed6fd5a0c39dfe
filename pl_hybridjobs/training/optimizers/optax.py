"""optax: value, gradient and update are one compiled call where the objective can be traced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pl_hybridjobs.errors import CheckpointError
from pl_hybridjobs.training.optimizers import Misfit, Problem, Step
from pl_hybridjobs.training.parameters import described, differences

if TYPE_CHECKING:
    from pl_hybridjobs.training.objective import Objective
    from pl_hybridjobs.training.parameters import Structure


def adapt(optimizer: Any, problem: Problem) -> Optax | None:
    """See ``optimizers.adapter``."""
    optax = sys.modules.get("optax")
    if optax is None or not isinstance(optimizer, optax.GradientTransformation):
        return None
    if problem.shape.interface == "torch":
        raise Misfit("optax's optimizers do not take torch tensors; use torch.optim, or give params as JAX or NumPy arrays")
    return Optax(optimizer, problem.shape)


class Optax:
    """Any ``GradientTransformation``. Its state is a nest of JAX arrays, which never change in place.

    It sees the whole nest of parameters, so that masks and labels fit; leaves that are not trained have zero gradients, and stay.
    """

    name = "optax"
    method = ""
    evaluations: Literal["gradient", "value"] = "gradient"
    count = 1

    def __init__(self, transformation: Any, shape: Structure) -> None:
        import optax

        self._transformation = optax.with_extra_args_support(transformation)
        self._shape = shape
        self._jitted: Callable[..., Any] | None = None

    def init(self, params: Any) -> Any:
        """See ``Optimizer.init``."""
        import jax.numpy as jnp

        with self._shape.precision():
            return self._transformation.init(self._shape.unflatten([jnp.asarray(leaf) for leaf in self._shape.flatten(params)]))

    def step(self, objective: Objective, params: Any, state: Any) -> Step:
        """See ``Optimizer.step``."""
        value, aux, gradient, leaves, state, norm = objective.run("optax", self._whole, self._in_parts(objective), params, state)
        objective.keep(aux)
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

        def call(trainable: list[Any], fixed: list[Any], batch: Any, state: Any) -> tuple[Any, ...]:
            def value_fn(params: Any) -> Any:
                return fn(*self._shape.split(self._shape.flatten(params)), batch)[0]

            (value, aux), gradient = jax.value_and_grad(fn, has_aux=True)(trainable, fixed, batch)
            return value, aux, gradient, *self._updated(trainable, fixed, state, value, gradient, value_fn=value_fn)

        return call

    def _in_parts(self, objective: Objective) -> Callable[..., Any]:
        """The update alone is compiled."""

        def call(params: Any, state: Any) -> tuple[Any, ...]:
            import jax

            value, gradient = objective.value_and_gradient(params)
            objective.evaluations -= 1  # one, not two
            self._jitted = self._jitted or jax.jit(self._updated)
            with self._shape.precision():
                updated = self._jitted(*self._shape.split(self._shape.flatten(params)), state, value, gradient)
            return value, objective.aux, gradient, *updated

        return call

    def _updated(self, trainable: Sequence[Any], fixed: Sequence[Any], state: Any, value: Any, gradient: Sequence[Any], **more: Any) -> Any:
        import jax.numpy as jnp
        import optax

        params = self._shape.merge(trainable, fixed)
        whole = self._shape.merge(gradient, [jnp.zeros_like(leaf) for leaf in fixed])
        updates, state = self._transformation.update(whole, state, params, value=value, grad=whole, **more)
        moved, _ = self._shape.split(self._shape.flatten(optax.apply_updates(params, updates)))
        return self._shape.flatten(self._shape.merge(moved, fixed)), state, optax.tree.norm(list(gradient))
