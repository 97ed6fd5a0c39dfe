"""Every random state that a training step may draw from, as data."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Sequence
from typing import Any

from pl_hybridjobs.errors import CheckpointError


class RandomStates:
    """The states of ``random``, NumPy's and torch's global generators, of devices, and of generators that were found or named.

    JAX has no global state: its keys are values, and belong into the parameters, the optimizer's state or the device's seed.

    Args:
        devices: PennyLane devices that draw samples; those with the usual attributes ``_rng`` and ``_prng_key`` are known, and those that
            say themselves what belongs to a checkpoint, by ``checkpoint_state()`` and ``restore_state(state)``.
        generators: NumPy's ``Generator`` and ``RandomState``, Python's ``Random``, torch's ``Generator``.
    """

    def __init__(self, devices: Sequence[Any] = (), generators: Sequence[Any] = ()) -> None:
        self.devices = tuple(devices)
        self.generators = tuple(generators)

    def capture(self) -> dict[str, Any]:
        """All states, as values that a checkpoint can hold."""
        import numpy as np

        torch = sys.modules.get("torch")
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": None if torch is None else torch.get_rng_state().numpy().copy(),
            "devices": [device_state(device) for device in self.devices],
            "generators": [generator_state(generator) for generator in self.generators],
        }

    def restore(self, states: dict[str, Any]) -> None:
        """Put all states back. Devices and generators are found by their order.

        Raises:
            CheckpointError: There are more or fewer of them than there were.
        """
        import numpy as np

        for what, mine in (("devices", self.devices), ("generators", self.generators)):
            if len(states[what]) != len(mine):
                raise CheckpointError(
                    f"The checkpoint has the random states of {len(states[what])} {what}, and the program uses {len(mine)}: it is another "
                    "program, or makes some of them only now. Make them before the loop begins, in each attempt."
                )
        random.setstate(_tuples(states["python"]))
        np.random.set_state(_tuples(states["numpy"]))
        if states["torch"] is not None:
            import torch

            torch.set_rng_state(torch.from_numpy(np.array(states["torch"], dtype=np.uint8)))
        for device, state in zip(self.devices, states["devices"], strict=True):
            restore_device(device, state)
        for generator, state in zip(self.generators, states["generators"], strict=True):
            restore_generator(generator, state)

    def complaints(self) -> list[str]:
        """Which of the named generators are none."""
        return [
            f"generators has {type(g).__name__}; it takes Generator and RandomState of numpy.random, random.Random and torch.Generator"
            for g in self.generators
            if not is_generator(g)
        ]


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, each with a stream of its own."""
    import numpy as np

    python, numpy_, torch_ = (int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(3))
    random.seed(python)
    np.random.seed(numpy_)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(torch_)


def is_generator(value: Any) -> bool:
    """Whether this is a random generator of NumPy, Python or torch. No code of the value's is run: it may be anything."""
    kind, numpy, torch = type(value), sys.modules.get("numpy"), sys.modules.get("torch")
    return (
        issubclass(kind, random.Random)
        or (numpy is not None and issubclass(kind, numpy.random.Generator | numpy.random.RandomState))
        or (torch is not None and issubclass(kind, torch.Generator))
    )


def generator_state(generator: Any) -> Any:
    """One generator's state, as data."""
    if hasattr(generator, "bit_generator"):
        return copy.deepcopy(generator.bit_generator.state)
    if isinstance(generator, random.Random):
        return generator.getstate()
    state = generator.get_state()
    return state.numpy().copy() if hasattr(state, "numpy") else state


def restore_generator(generator: Any, state: Any) -> None:
    """Put one generator's state back."""
    if hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(_tuples(state))
    elif hasattr(generator, "initial_seed"):
        import torch

        generator.set_state(torch.from_numpy(state))
    else:
        generator.set_state(_tuples(state))


def device_state(device: Any) -> dict[str, Any]:
    """One device's state, as data: its random numbers, and what it says itself that belongs to a checkpoint."""
    rng, key, own = (getattr(device, name, None) for name in ("_rng", "_prng_key", "checkpoint_state"))
    state = {"rng": generator_state(rng) if is_generator(rng) else None, "key": key}
    return state if own is None else {**state, "own": own()}


def restore_device(device: Any, state: dict[str, Any]) -> None:
    """Put one device's state back."""
    if state["rng"] is not None:
        restore_generator(device._rng, state["rng"])
    if state["key"] is not None:
        device._prng_key = state["key"]
    if "own" in state:
        device.restore_state(state["own"])


def _tuples(value: Any) -> Any:
    """Lists back as tuples: ``setstate`` insists on them."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
