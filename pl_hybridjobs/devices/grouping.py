"""Which circuits are bought together: shots split at a device's maximum, circuits gathered into program sets within its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pennylane.measurements import Shots

from pl_hybridjobs.devices.provider import Capabilities, CircuitResult, TaskResult


@dataclass(frozen=True)
class Part:
    """A circuit, or some of its shots.

    Attributes:
        circuit: Its number.
        shots: How many of its shots; 0: it is analytic.
        share: Which part of it.
    """

    circuit: int
    shots: int
    share: int = 0


def grouped(shots: Sequence[int], capabilities: Capabilities) -> list[tuple[Part, ...]]:
    """What goes into each task. All parts of one have the same number of shots; circuits stay in order.

    Args:
        shots: Of each circuit, all of its copies together; 0: analytic.
        capabilities: With the device's limits.
    """
    parts = [
        Part(number, count, share)
        for number, total in enumerate(shots)
        for share, count in enumerate(_shares(total, capabilities.max_shots))
    ]
    sets = capabilities.program_sets
    if sets is None:
        return [(part,) for part in parts]
    tasks: list[tuple[Part, ...]] = []
    for count in dict.fromkeys(part.shots for part in parts):
        alike = [part for part in parts if part.shots == count]
        most = max(min(sets.max_circuits, sets.max_total_shots // count), 1) if count else 1
        tasks += [tuple(alike[first : first + most]) for first in range(0, len(alike), most)]
    return tasks


def all_alone(shots: Sequence[int]) -> list[tuple[Part, ...]]:
    """Each circuit by itself, whole."""
    return [(Part(number, total),) for number, total in enumerate(shots)]


def _shares(total: int, most: int) -> Iterator[int]:
    """Nearly equal parts of at most ``most``."""
    tasks = max(-(-total // most), 1)
    yield from (total // tasks + (number < total % tasks) for number in range(tasks))


def joined(tasks: Sequence[Sequence[Part]], results: Sequence[TaskResult]) -> list[CircuitResult]:
    """One result for each circuit: the bits of its parts one below the other."""
    found: dict[int, list[CircuitResult]] = {}
    for parts, result in zip(tasks, results, strict=True):
        for part, made in zip(parts, result.circuits, strict=True):
            found.setdefault(part.circuit, []).append(made)
    pieces = [found[number] for number in sorted(found)]
    return [some[0] if len(some) == 1 else CircuitResult(bits=np.concatenate([_bits(one) for one in some])) for some in pieces]


def _bits(result: CircuitResult) -> Any:
    assert result.bits is not None
    return result.bits


def by_copies(bits: Any, shots: Shots) -> Any:
    """Bits of shape ``(shots, wires)``, int64; for a shot vector a tuple of those, one for each copy."""
    bits = np.asarray(bits, dtype=np.int64)
    return tuple(bits[first:last] for first, last in shots.bins()) if shots.has_partitioned_shots else bits
