"""From PennyLane's circuits to OpenQASM 3 in Amazon Braket's dialect: pure text.

The language: Cross et al., arXiv:2104.14722. The dialect (gate names, ``#pragma braket ...``) is that of the grammar in
``amazon-braket-default-simulator`` and of what ``amazon-braket-sdk`` sends. A circuit is taken as it is: making it from gates that a
device has is done before (``gates_of`` says which those are, by PennyLane's names).
"""

from __future__ import annotations

from pl_hybridjobs.devices.openqasm.operations import MidCircuit
from pl_hybridjobs.devices.openqasm.program import Program, ProgramGroup
from pl_hybridjobs.devices.openqasm.tables import channels_of, gates_of, observables_of
from pl_hybridjobs.devices.openqasm.tables import results_of as analytic_of
from pl_hybridjobs.devices.openqasm.writing import dumps, dumps_many, structure_key

__all__ = [
    "MidCircuit",
    "Program",
    "ProgramGroup",
    "analytic_of",
    "channels_of",
    "dumps",
    "dumps_many",
    "gates_of",
    "observables_of",
    "structure_key",
]
