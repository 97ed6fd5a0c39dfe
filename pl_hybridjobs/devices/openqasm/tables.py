"""What Amazon Braket's dialect of OpenQASM 3 calls PennyLane's gates, noise channels, observables and measurements.

One row each. Conventions were compared number by number with the matrices of
``amazon-braket-default-simulator`` (the tests repeat that for each row).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

_QUARTER, _HALF = math.pi / 2, math.pi


@dataclass(frozen=True)
class GateRow:
    """How a gate is written: its name, then constant angles, then PennyLane's own in their order.

    Attributes:
        braket: Braket's name.
        wires: How many it acts on.
        angles: How many PennyLane's gate has.
        before: Constant angles that come first, in radians.
        sign: Of PennyLane's angles: 1 or -1.
    """

    braket: str
    wires: int
    angles: int = 0
    before: tuple[float, ...] = ()
    sign: int = 1

    @property
    def head(self) -> str:
        """What stands before the angles, or before the qubits if there are none."""
        constants = ", ".join(map(repr, self.before))
        if self.angles:
            return f"{self.braket}({constants}, " if constants else f"{self.braket}("
        return f"{self.braket}({constants})" if constants else self.braket


_SELF_INVERSE = {
    "Identity": GateRow("i", 1),
    "PauliX": GateRow("x", 1),
    "PauliY": GateRow("y", 1),
    "PauliZ": GateRow("z", 1),
    "Hadamard": GateRow("h", 1),
    "CNOT": GateRow("cnot", 2),
    "CY": GateRow("cy", 2),
    "CZ": GateRow("cz", 2),
    "SWAP": GateRow("swap", 2),
    "ECR": GateRow("ecr", 2),
    "Toffoli": GateRow("ccnot", 3),
    "CSWAP": GateRow("cswap", 3),
}
# Their inverse has the opposite angle.
_ROTATIONS = {
    "RX": GateRow("rx", 1, 1),
    "RY": GateRow("ry", 1, 1),
    "RZ": GateRow("rz", 1, 1),
    "PhaseShift": GateRow("phaseshift", 1, 1),
    "U1": GateRow("phaseshift", 1, 1),
    "ControlledPhaseShift": GateRow("cphaseshift", 2, 1),
    "CPhaseShift00": GateRow("cphaseshift00", 2, 1),
    "CPhaseShift01": GateRow("cphaseshift01", 2, 1),
    "CPhaseShift10": GateRow("cphaseshift10", 2, 1),
    "IsingXX": GateRow("xx", 2, 1),
    "IsingYY": GateRow("yy", 2, 1),
    "IsingZZ": GateRow("zz", 2, 1),
    "IsingXY": GateRow("xy", 2, 1),
    "PSWAP": GateRow("pswap", 2, 1),
}
#: Those whose inverse, if it is here, has a row of its own.
OTHERS = {
    "S": GateRow("s", 1),
    "Adjoint(S)": GateRow("si", 1),
    "T": GateRow("t", 1),
    "Adjoint(T)": GateRow("ti", 1),
    "SX": GateRow("v", 1),
    "Adjoint(SX)": GateRow("vi", 1),
    "U2": GateRow("U", 1, 2, (_QUARTER,)),
    "U3": GateRow("U", 1, 3),
    "ISWAP": GateRow("iswap", 2),
    "Adjoint(ISWAP)": GateRow("pswap", 2, 0, (-_QUARTER,)),
    "SISWAP": GateRow("xy", 2, 0, (_QUARTER,)),
    "Adjoint(SISWAP)": GateRow("xy", 2, 0, (-_QUARTER,)),
    # PennyLane has none of these; those of amazon-braket-pennylane-plugin go by these names.
    "PRx": GateRow("prx", 1, 2),
    "GPi": GateRow("gpi", 1, 1),
    "GPi2": GateRow("gpi2", 1, 1),
    "MS": GateRow("ms", 2, 2),
    "AAMS": GateRow("ms", 2, 3),
}
_INVERSES = {f"Adjoint({name})": row for name, row in _SELF_INVERSE.items()}
_INVERSES |= {f"Adjoint({name})": replace(row, sign=-1) for name, row in _ROTATIONS.items()}

#: PennyLane's name -> Braket's gate.
GATES = MappingProxyType(_SELF_INVERSE | _ROTATIONS | OTHERS | _INVERSES)
#: One control that must be 1; PennyLane's name does not tell how many there are.
CONTROLLED_ROOT = ("C(SX)", GateRow("cv", 2))
#: Written as a matrix: ``#pragma braket unitary``.
MATRICES = frozenset({"QubitUnitary", "DiagonalQubitUnitary", "ControlledQubitUnitary"})
#: PennyLane's names of controlled gates that are written with a modifier -> the gate.
CONTROLLED = MappingProxyType({"CRX": "RX", "CRY": "RY", "CRZ": "RZ", "CH": "Hadamard", "CCZ": "PauliZ", "MultiControlledX": "PauliX"})
#: Operators that change no result: left out.
SKIPPED = frozenset({"Barrier", "WireCut", "Snapshot"})

#: PennyLane's name -> Braket's noise, with PennyLane's probabilities in their order; one is turned, see ``Operations``.
CHANNELS = MappingProxyType(
    {
        "BitFlip": "bit_flip",
        "PhaseFlip": "phase_flip",
        "DepolarizingChannel": "depolarizing",
        "AmplitudeDamping": "amplitude_damping",
        "GeneralizedAmplitudeDamping": "generalized_amplitude_damping",
        "PhaseDamping": "phase_damping",
    }
)
#: Written as Kraus matrices, on one qubit or two. Braket's two_qubit_depolarizing and two_qubit_dephasing have no name in PennyLane.
KRAUS = frozenset({"QubitChannel", "ResetError", "ThermalRelaxationError"})
#: Written as ``pauli_channel`` on one wire, as Kraus matrices on two.
PAULI_ERROR = "PauliError"
MAX_KRAUS_WIRES = 2

#: PennyLane's name -> Braket's observable.
OBSERVABLES = MappingProxyType(
    {
        "PauliX": "x",
        "PauliY": "y",
        "PauliZ": "z",
        "Hadamard": "h",
        "Identity": "i",
        "Hermitian": "hermitian",
        "Projector": "hermitian",
    }
)
#: PennyLane's name, without "MP" -> Braket's result type.
RESULTS = MappingProxyType(
    {
        "Expectation": "expectation",
        "Variance": "variance",
        "Probability": "probability",
        "State": "state_vector",
        "DensityMatrix": "density_matrix",
    }
)

_WORDS = """
    b q OPENQASM include defcalgrammar def defcal gate extern box let break continue if else end return for while in pragma
    input output const mutable readonly qreg qubit creg bool bit int uint float angle complex array void duration stretch
    gphase inv pow ctrl negctrl durationof delay reset measure barrier true false im pi tau euler arccos arcsin arctan
    ceiling cos exp floor log mod popcount rotl rotr sin sqrt tan sizeof real imag all switch case default nop cal U unitary
    cx p sx id u1 u2 u3 ch crx cry crz cu
"""
#: Everything that an input must not be called: keywords, types, constants, functions, gates, and the names of our registers.
RESERVED = frozenset(_WORDS.split()) | {row.braket for row in GATES.values()}


def gates_of(braket_names: Iterable[str], modifiers: Iterable[str] = ()) -> frozenset[str]:
    """PennyLane's names of the gates that a device takes.

    Args:
        braket_names: The device's ``supportedOperations`` or ``nativeGateSet``, in any case; a noise channel's name is ignored.
        modifiers: Its ``supportedModifiers``: of "ctrl", "negctrl", "inv", "pow".
    """
    known, given = {name.lower() for name in braket_names}, set(modifiers)
    plain = {name for name, row in GATES.items() if row.braket.lower() in known}
    found = plain | {"GlobalPhase"}
    if "unitary" in known:
        found |= MATRICES | {f"Adjoint({name})" for name in MATRICES}
    if {"ctrl", "negctrl"} <= given:
        found |= {f"C({name})" for name in plain} | {name for name, gate in CONTROLLED.items() if gate in plain}
        found |= {f"Adjoint({name})" for name in CONTROLLED if f"Adjoint({CONTROLLED[name]})" in plain}
        found |= {"C(GlobalPhase)"} if "gphase" in known else set()
    if "inv" in given:
        found |= {f"Adjoint({name})" for name in found if not name.startswith("Adjoint(")}
    return frozenset(found)


def channels_of(braket_names: Iterable[str]) -> frozenset[str]:
    """PennyLane's names of the noise channels that a device takes.

    Args:
        braket_names: Its ``supportedPragmas`` (``"braket_noise_bit_flip"``) or operations (``"bit_flip"``); others are ignored.
    """
    known = {name.lower().removeprefix("braket_noise_") for name in braket_names}
    found = {name for name, noise in CHANNELS.items() if noise in known}
    if "kraus" in known:
        found |= KRAUS
        if "pauli_channel" in known:
            found.add(PAULI_ERROR)
    return frozenset(found)


def observables_of(braket_names: Iterable[str], *, analytic: bool = False) -> frozenset[str]:
    """PennyLane's names of the observables that a device's result types take.

    Args:
        braket_names: The ``observables`` of its ``supportedResultTypes``.
        analytic: With 0 shots sums can be had too, since each of their terms is a result of its own.
    """
    known = {name.lower() for name in braket_names}
    found = {name for name, observable in OBSERVABLES.items() if observable in known}
    if found:
        found |= {"Prod", "SProd"} | ({"Sum", "LinearCombination"} if analytic else set())
    return frozenset(found)


def results_of(braket_names: Iterable[str]) -> frozenset[str]:
    """PennyLane's names, without "MP", of the measurements that a device returns.

    Args:
        braket_names: The ``name`` of its ``supportedResultTypes`` (``"StateVector"``), or pragmas (``"braket_result_type_state_vector"``).
    """
    known = {name.lower().removeprefix("braket_result_type_").replace("_", "") for name in braket_names}
    return frozenset(name for name, result in RESULTS.items() if result.replace("_", "") in known)
