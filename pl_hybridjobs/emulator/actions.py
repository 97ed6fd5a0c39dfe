"""What a task asks for: one OpenQASM program, or a program set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pl_hybridjobs.emulator import simulation
from pl_hybridjobs.emulator.devices import PROGRAM, PROGRAM_SET, Device
from pl_hybridjobs.emulator.model import Refused
from pl_hybridjobs.emulator.programs import Program, complaints_about, read


@dataclass(frozen=True)
class Executable:
    """One program with one set of inputs, and the simulator that will run it."""

    program: Program
    simulator: Any


@dataclass(frozen=True)
class Action:
    """A checked action.

    Attributes:
        kind: Its schema's name.
        sources: Its programs, as they came.
        executables: For each program one or more.
        shots: Of each executable.
    """

    kind: str
    sources: tuple[Mapping[str, Any], ...]
    executables: tuple[tuple[Executable, ...], ...]
    shots: int

    @property
    def count(self) -> int:
        """How many executables there are."""
        return sum(map(len, self.executables))

    @property
    def metadata(self) -> dict[str, Any]:
        """As GetQuantumTask gives it."""
        more = {"programCount": len(self.sources), "executableCount": self.count} if self.kind == PROGRAM_SET else {}
        return {"actionType": self.kind, **more}


def prepare(text: str, device: Device, shots: int, *, experimental: bool, seed: tuple[int, ...]) -> Action:
    """Read and check an action.

    Args:
        text: JSON, as the request has it.
        device: Where it will run.
        shots: Of the task: all executables of a program set together.
        experimental: Whether experimental capabilities are enabled.
        seed: For its samples.

    Raises:
        Refused: ValidationException with all complaints.
    """
    try:
        given = json.loads(text)
        kind = given["braketSchemaHeader"]["name"]
    except (ValueError, KeyError, TypeError):
        raise Refused("ValidationException", "The action is not JSON with a braketSchemaHeader.") from None
    if kind == PROGRAM:
        return _one(given, device, shots, experimental, seed)
    if kind == PROGRAM_SET and device.program_set is not None:
        return _set(given, device, shots, experimental, seed)
    taken = " and ".join(device.capabilities["action"])
    raise Refused("ValidationException", f"The action {kind} is not supported by the device {device.arn}, which takes {taken}.")


def _one(given: Any, device: Device, shots: int, experimental: bool, seed: tuple[int, ...]) -> Action:
    least, most = device.shots_range
    complaints = [] if least <= shots <= most else [f"Number of shots must be between {least} and {most}, not {shots}."]
    executable, found = _read(given, given.get("inputs") or {}, device, shots, experimental, seed)
    complaints += found
    if complaints or executable is None:
        raise Refused("ValidationException", "; ".join(complaints))
    return Action(PROGRAM, (given,), ((executable,),), shots)


def _read(
    given: Any, inputs: Mapping[str, Any], device: Device, shots: int, experimental: bool, seed: tuple[int, ...]
) -> tuple[Executable | None, list[str]]:
    source = given.get("source")
    if not isinstance(source, str) or not source.strip():
        return None, ["the program has no source."]
    simulator = simulation.engine(device, seed)
    try:
        program = read(source, inputs, shots, simulator)
    except ValueError as error:
        return None, [str(error)]
    return Executable(program, simulator), complaints_about(program, device, shots, experimental=experimental)


def _set(given: Any, device: Device, shots: int, experimental: bool, seed: tuple[int, ...]) -> Action:
    programs = given.get("programs")
    if not isinstance(programs, list) or not programs or not all(isinstance(p, dict) for p in programs):
        raise _bad_set(["The program set has no programs."], [])
    failures: list[dict[str, Any]] = []
    inputs = [_input_sets(program, index, failures) for index, program in enumerate(programs)]
    count = sum(map(len, inputs))
    if failures:
        raise _bad_set(["Program inputs must be lists of the same length."], failures)
    each = _shots_of_each(device, shots, count)
    executables = []
    for index, (program, sets) in enumerate(zip(programs, inputs, strict=True)):
        row = []
        for place, values in enumerate(sets):
            executable, complaints = _read(program, values, device, each, experimental, (*seed, index, place))
            if executable is not None and (executable.program.circuit.results or executable.program.gradient):
                complaints = [*complaints, "Result types are not supported with program sets."]
            if complaints or executable is None:
                failures.append({"programIndex": index, "inputsIndex": place, "errors": complaints})
            else:
                row.append(executable)
        executables.append(tuple(row))
    if failures:
        raise _bad_set([f"{len(failures)} executable(s) of the program set cannot run."], failures)
    return Action(PROGRAM_SET, tuple(programs), tuple(executables), each)


def _shots_of_each(device: Device, shots: int, count: int) -> int:
    limits = device.program_set
    assert limits is not None
    complaints = []
    if count > limits["maximumExecutables"]:
        complaints.append(f"The program set has {count} executables, more than the device's {limits['maximumExecutables']}.")
    if shots > limits["maximumTotalShots"]:
        complaints.append(f"The program set has {shots} shots in total, more than the device's {limits['maximumTotalShots']}.")
    if shots < (limits.get("minimumTotalShots") or 1):
        complaints.append(f"The program set has {shots} shots in total, fewer than {limits.get('minimumTotalShots') or 1}.")
    each, rest = divmod(shots, count)
    least, most = device.shots_range
    if rest:
        complaints.append(f"{shots} shots cannot be divided evenly among {count} executables.")
    elif not least <= each <= most:
        complaints.append(f"Number of shots of each executable must be between {least} and {most}, not {each}.")
    if complaints:
        raise _bad_set(complaints, [])
    return each


def _input_sets(program: Any, index: int, failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    inputs = program.get("inputs") or {}
    if not inputs:
        return [{}]
    if not all(isinstance(values, list) for values in inputs.values()) or len({len(values) for values in inputs.values()}) != 1:
        failures.append({"programIndex": index, "errors": ["All inputs must be lists of the same length."]})
        return []
    return [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]


def _bad_set(complaints: list[str], failures: list[dict[str, Any]]) -> Refused:
    more = {"reason": "ProgramSetValidationFailed", "programSetValidationFailures": failures or None}
    return Refused("ValidationException", " ".join(complaints), **more)


@dataclass(frozen=True)
class Outcome:
    """What an action gave.

    Attributes:
        body: The result without its metadata of the task.
        shots: Those that were made.
        duration_s: How long it took to compute.
    """

    body: dict[str, Any]
    shots: int
    duration_s: float


def perform(action: Action, device: Device) -> Outcome:
    """Run an action; it is used up."""
    if action.kind == PROGRAM:
        executable = action.executables[0][0]
        made = simulation.run(executable.program, executable.simulator, action.shots)
        body = {
            "braketSchemaHeader": simulation.header("gate_model_task_result"),
            **simulation.outcomes(made, probabilities=device.probabilities),
            "resultTypes": made.results,
            "additionalMetadata": {
                "action": action.sources[0],
                **simulation.additional(device, executable.program.source, made.duration_s),
            },
        }
        return Outcome(body, action.shots, made.duration_s)
    results, duration_s = [], 0.0
    for source, executables in zip(action.sources, action.executables, strict=True):
        rows = []
        for index, executable in enumerate(executables):
            made = simulation.run(executable.program, executable.simulator, action.shots)
            duration_s += made.duration_s
            rows.append(_row(index, simulation.outcomes(made, probabilities=device.probabilities)))
        results.append(_program_result(source, rows, device))
    return Outcome({**_set_header(), "programResults": results}, action.shots * action.count, duration_s)


def failed(action: Action, device: Device, reason: str) -> Outcome | None:
    """What is stored of a program set that failed; nothing is, of a program."""
    if action.kind == PROGRAM:
        return None
    failure = {"failureReason": reason, "retryable": False, "category": "DEVICE"}
    results = [
        _program_result(
            source,
            [
                {
                    "braketSchemaHeader": simulation.header("program_set_executable_failure"),
                    "inputsIndex": index,
                    "failureMetadata": failure,
                }
                for index in range(len(executables))
            ],
            device,
        )
        for source, executables in zip(action.sources, action.executables, strict=True)
    ]
    return Outcome({**_set_header(), "programResults": results}, 0, 0.0)


def scatter(whole: dict[str, Any], bucket: str, directory: str) -> dict[str, Any]:
    """Move a program set's parts out of its result, which then names them.

    Args:
        whole: The result; it is changed.
        bucket: Where it will be.
        directory: The key prefix there.

    Returns:
        The parts by their paths below the directory.
    """
    parts: dict[str, Any] = {"metadata.json": whole["taskMetadata"]}
    for number, result in enumerate(whole["programResults"]):
        folder = f"programs/{number}"
        names = [f"executables/{index}.json" for index in range(len(result["executableResults"]))]
        parts.update({f"{folder}/{name}": row for name, row in zip(names, result["executableResults"], strict=True)})
        parts[f"{folder}/program.json"] = result["source"]
        parts[f"{folder}/results.json"] = {**result, "executableResults": names, "source": "program.json"}
    whole["programResults"] = [f"programs/{number}/results.json" for number in range(len(whole["programResults"]))]
    whole["taskMetadata"] = "metadata.json"
    whole["s3Location"] = [bucket, directory]
    return parts


def _set_header() -> dict[str, Any]:
    return {"braketSchemaHeader": simulation.header("program_set_task_result")}


def _row(index: int, outcomes: dict[str, Any]) -> dict[str, Any]:
    return {"braketSchemaHeader": simulation.header("program_set_executable_result"), "inputsIndex": index, **outcomes}


def _program_result(source: Mapping[str, Any], rows: list[dict[str, Any]], device: Device) -> dict[str, Any]:
    return {
        "braketSchemaHeader": simulation.header("program_result"),
        "executableResults": rows,
        "source": source,
        "additionalMetadata": simulation.additional(device, str(source["source"]), 0.0),
    }
