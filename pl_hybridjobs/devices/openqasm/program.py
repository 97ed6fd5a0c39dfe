"""A circuit as text, and how its answer is to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Program:
    """A circuit as text, and how its answer is to be read.

    Attributes:
        source: OpenQASM 3.
        inputs: The values of its ``input float`` parameters.
        names: The number of a parameter, as in ``circuit.get_parameters(trainable_only=False)`` -> the input that stands for it. A named
            parameter that changes no result (a global phase) is not there: its derivative is 0.
        wires: The circuit's wire behind each qubit: that of ``q[k]`` is ``wires[k]``; of physical qubits, those that are used.
        measured: The wire behind each bit of the register ``b``, in its order, if the circuit is measured bit by bit.
        bits: For each measurement, the bits of ``b`` that it is made of; empty where it is made of result types.
        results: For each measurement, weights and numbers of result types, whose weighted sum it is; empty where it is made of bits.
        orders: For each measurement, the order of the qubits in its results, where they came in another; ``values`` knows what to do.
    """

    source: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    wires: tuple[int, ...] = ()
    measured: tuple[int, ...] = ()
    bits: tuple[tuple[int, ...], ...] = ()
    results: tuple[tuple[tuple[float, int], ...], ...] = ()
    orders: tuple[tuple[int, ...], ...] = ()

    def values(self, found: Sequence[Any]) -> tuple[Any, ...]:
        """What each measurement gave, made of the result types' values in the order of the text.

        Args:
            found: Numbers; probabilities and states of shape ``(2**k,)``; density matrices of shape ``(2**k, 2**k)``.
        """
        arrays = [np.asarray(value) for value in found]
        sums = (sum(weight * arrays[place] for weight, place in parts) for parts in self.results)
        return tuple(_reordered(value, order) if order else value for value, order in zip(sums, self.orders, strict=True))


@dataclass(frozen=True)
class ProgramGroup:
    """Circuits that differ in nothing but angles: one text for all.

    Attributes:
        program: Of the first of them.
        inputs: Of each.
        indices: Where each stood among the circuits that were given.
    """

    program: Program
    inputs: tuple[Mapping[str, float], ...]
    indices: tuple[int, ...]

    @property
    def columns(self) -> dict[str, list[float]]:
        """The inputs as a program set takes them: a list for each name."""
        return {name: [one[name] for one in self.inputs] for name in self.program.inputs}


def _reordered(value: Any, order: tuple[int, ...]) -> Any:
    axes = [place + start for start in range(0, value.ndim * len(order), len(order)) for place in order]
    return value.reshape((2,) * len(axes)).transpose(axes).reshape(value.shape)
