"""A seed for each circuit, drawn from the stream of the device in the order of the circuits.

So samples do not depend on where a circuit runs, nor on what ran there before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml
from pennylane.exceptions import DeviceError

Seed = np.ndarray[Any, np.dtype[np.uint32]]


def draw(device: Any) -> Seed | None:
    """The next seed of a device's stream, which moves on: a few numbers for ``np.random.default_rng``.

    Args:
        device: With PennyLane's usual attributes ``_prng_key`` or ``_rng``.

    Returns:
        None: It has neither, and draws in a way of its own.

    Raises:
        DeviceError: The key is an argument of a function that JAX compiles.
    """
    if (key := getattr(device, "_prng_key", None)) is not None:
        return _of_key(device, key)
    rng = getattr(device, "_rng", None)
    return rng.integers(2**32, size=4, dtype=np.uint32) if isinstance(rng, np.random.Generator) else None


def _of_key(device: Any, key: Any) -> Seed:
    if qml.math.is_abstract(key):
        raise DeviceError(
            f"{device.name}: a key that is an argument of a compiled function has no value yet; circuits cannot go to workers"
        )
    import jax

    with jax.ensure_compile_time_eval():  # a key that is no tracer stays none
        device._prng_key, drawn = jax.random.split(key)
    is_typed = jax.numpy.issubdtype(drawn.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(drawn) if is_typed else drawn)


def give(device: Any, seed: Seed) -> None:
    """Let a device draw the next circuit's samples by a seed."""
    if hasattr(device, "draw_by"):  # ours: what it draws by a seed of its own stream, it draws by this one
        device.draw_by(seed)
    else:  # in place: what it is made of may share its generator
        device._rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
