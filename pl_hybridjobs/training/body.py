"""``training_loop``: the same loop for people who write its body themselves."""

from __future__ import annotations

import copy
import datetime
import operator
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import FrameType
from typing import Any

from pl_hybridjobs.errors import CheckpointError, InvalidCall
from pl_hybridjobs.jobs.context import JobContext, current_job, set_step
from pl_hybridjobs.training import saving
from pl_hybridjobs.training.circuits import reach
from pl_hybridjobs.training.render import Progress
from pl_hybridjobs.training.rng import RandomStates, seed_all
from pl_hybridjobs.training.sections import Section

_WHERE = "training_loop()"


def training_loop(
    steps: int,
    state: Any,
    *,
    name: str | None = None,
    checkpoint_every: saving.Every = datetime.timedelta(seconds=10),
    seed: int | None = None,
    devices: Sequence[Any] = (),
    generators: Sequence[Any] = (),
    progress: bool | None = None,
) -> Iterator[int]:
    """Step numbers for a loop whose body you write; ``state`` is saved between steps and restored on resume.

    For example::

        state = {"params": params, "optimizer": qml.AdamOptimizer(0.1)}
        for step in training_loop(100, state):
            state["params"], cost = state["optimizer"].step_and_cost(circuit, state["params"])
            log_metric("cost", cost)

    Everything that one step hands to the next must be in ``state``. Random states are saved too: the global ones of Python, NumPy and
    torch, and those of the devices and generators that the calling function's variables refer to. Metrics that the body logs without a
    step carry the loop's. Outside a job nothing is saved.

    Args:
        steps: How many steps.
        state: A dict, or an object with attributes (``types.SimpleNamespace``, a dataclass). Its values are what checkpoints hold
            (numbers, text, nests of arrays, PennyLane optimizers, optax states), or objects with ``state_dict`` and ``load_state_dict``
            (torch modules, optimizers, schedulers). On resume it is changed to what was saved.
        name: Names the loop where a job has several. Absent: "loop", "loop-2", ...
        checkpoint_every: Steps, or a ``datetime.timedelta`` (default: 10 s), or None. Besides that, it is saved at signals and at the end.
        seed: Seeds the global generators of Python, NumPy and torch.
        devices: PennyLane devices whose samples the body uses, beyond those that are found.
        generators: Random generators that the body draws from, beyond those that are found.
        progress: False: no bar and no lines.

    Returns:
        The numbers of the steps that are left to do.

    Raises:
        InvalidCall: An argument cannot be used.
        CheckpointError: The job's checkpoint is of another program.
        JobStopRequested: The job was asked to stop; a checkpoint was saved.
    """
    found = []
    if isinstance(steps, bool) or not hasattr(steps, "__index__") or operator.index(steps) < 0:
        found.append(f"steps={steps!r} must be a whole number of at least 0")
    if not isinstance(state, MutableMapping) and not hasattr(state, "__dict__"):
        found.append(f"state is {type(state).__name__}; give a dict or an object with attributes, so that a resumed job can fill it")
    found += saving.complaints(checkpoint_every) + RandomStates((), generators).complaints()
    if found:
        raise InvalidCall(_WHERE, found)
    context = current_job()
    seen = _reached(sys._getframe(1))
    known = {id(device): device for device in [*devices, *seen[0], *context.devices]}
    rng = RandomStates(tuple(known.values()), [*seen[1], *generators])
    if seed is not None:
        seed_all(seed)
    return _steps(operator.index(steps), state, context, name, checkpoint_every, rng, progress)


def _reached(frame: FrameType) -> tuple[list[Any], list[Any]]:
    """Devices and generators that a running function can draw from."""
    variables = list(frame.f_locals.values())
    if frame.f_locals is not frame.f_globals:
        variables += [frame.f_globals[name] for name in frame.f_code.co_names if name in frame.f_globals]
    all_reached = [reach(variable) for variable in variables]
    return [d for r in all_reached for d in r.devices], [g for r in all_reached for g in r.generators]


def _steps(
    steps: int,
    state: Any,
    context: JobContext,
    name: str | None,
    every: saving.Every,
    rng: RandomStates,
    progress: bool | None,
) -> Iterator[int]:
    with Section(context, name, "loop") as section:
        saver = saving.Saver(context, section.name, every)
        saved = saver.load()
        done = 0
        if saved is not None:
            _check_same(section.name, saved, state)
            done = saved["step"]
            _restore(state, saved["state"])
            rng.restore(saved["rng"])

        def snapshot() -> dict[str, Any]:
            return {"step": done, "state": _saved(state), "rng": rng.capture()}

        show = Progress(steps, done=done, label=section.name if section.prefix else "", value_name="", show=progress)
        try:
            if done:
                show.note(f"goes on from step {done}")
            while done < steps:
                set_step(done)
                yield done
                done += 1
                show.update(done, None)
                if done < steps or context.stop.requested:
                    saver.boundary(done, snapshot)
            if saver.saved_step != done and (saved is None or saved["step"] != done):
                saver.save(done, snapshot)
        finally:
            show.close(done, None)
            saver.settle()


def _items(state: Any) -> MutableMapping[str, Any]:
    return state if isinstance(state, MutableMapping) else vars(state)


def _is_stateful(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _saved(state: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(value.state_dict() if _is_stateful(value) else value) for name, value in _items(state).items()}


def _restore(state: Any, saved: Mapping[str, Any]) -> None:
    items = _items(state)
    for name, value in saved.items():
        if name in items and _is_stateful(items[name]):
            items[name].load_state_dict(value)
        else:
            items[name] = value


def _check_same(loop: str, saved: Mapping[str, Any], state: Any) -> None:
    """Raise ``CheckpointError`` where what was saved does not fit what the program has now."""
    now = {name: value.state_dict() if _is_stateful(value) else value for name, value in _items(state).items()}
    found = list(_differences(saved["state"], now, "state"))
    if found:
        listed = "".join(f"\n  - {difference}" for difference in found)
        raise CheckpointError(
            f"The checkpoint of the loop {loop!r} at step {saved['step']} is of another program:{listed}\n"
            "Submit the changed program as a new job, or give its loop another name=."
        )


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    """Keys that the program's state has and the checkpoint lacks, and arrays whose shape or data type differ.

    A body may add keys as it goes, so that a checkpoint may have more of them than a program that begins.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in now:
            if key not in before:
                yield f"{path}[{key!r}] is new"
            else:
                yield from _differences(before[key], now[key], f"{path}[{key!r}]")
    elif all(hasattr(value, "shape") and hasattr(value, "dtype") for value in (before, now)):
        old, new = ((str(value.dtype).removeprefix("torch."), list(value.shape)) for value in (before, now))
        if old != new:
            yield f"{path} was {old[0]}{old[1]} and is {new[0]}{new[1]}"
