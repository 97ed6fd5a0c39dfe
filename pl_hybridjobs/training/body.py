"""``training_loop``: the same loop for people who write its body themselves."""

from __future__ import annotations

import copy
import datetime
import operator
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence, Set
from types import FrameType
from typing import Any

from pl_hybridjobs.errors import CheckpointError, InvalidCall
from pl_hybridjobs.jobs.context import JobContext, current_job
from pl_hybridjobs.training import batches, saving
from pl_hybridjobs.training.circuits import reach
from pl_hybridjobs.training.parameters import described, differences
from pl_hybridjobs.training.render import Progress
from pl_hybridjobs.training.rng import RandomStates, generator_state, is_generator, restore_generator, seed_all
from pl_hybridjobs.training.sections import Section

_WHERE = "training_loop()"
_ATOMS = (type(None), bool, int, float, complex, str, bytes)


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

    Everything that one step hands to the next must be in ``state``. On resume, what the body has changed in place (a torch tensor, a list
    that grew, ``state["optimizer"]`` above) is changed in place, so that other variables for it stay good; what the body has replaced is
    replaced. An iterator cannot be saved: for mini-batches put ``training.Batches(data, batch_size)`` (which takes a torch ``DataLoader``
    too) into ``state`` and call its ``next()``, or make each step one epoch that goes through the ``DataLoader`` from its beginning.

    A loop that begins inside a step (``train`` for each layer of a circuit) has checkpoints and metrics of its own: "loop/3/train".

    Random states are saved too: the global ones of Python, NumPy and
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
    drawn = {id(generator): generator for generator in [*seen[1], *generators]}
    rng = RandomStates(tuple(known.values()), tuple(drawn.values()))
    if seed is not None:
        seed_all(seed)
    return _steps(operator.index(steps), state, context, name, checkpoint_every, rng, progress)


def _reached(frame: FrameType) -> tuple[list[Any], list[Any]]:
    """Devices and generators that a running function can draw from."""
    variables = list(frame.f_locals.values())
    if frame.f_locals is not frame.f_globals:
        variables += [frame.f_globals[name] for name in frame.f_code.co_names if name in frame.f_globals]
    all_reached = [reach(variable) for variable in variables]
    devices = [d for r in all_reached for d in r.devices]
    found = [g for r in all_reached for g in r.generators]
    torch = sys.modules.get("torch")
    if torch is not None:
        found += [variable for variable in variables if isinstance(variable, torch.Generator)]
        found += [g for v in variables if isinstance(v, torch.utils.data.DataLoader) for g in batches.generators(v)]
    return devices, list({id(generator): generator for generator in found}.values())


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
        remote = any(hasattr(device, "checkpoint_state") for device in rng.devices)
        saver = saving.Saver(context, section.name, every, may_end_within=remote)
        saved = saver.load()
        done = 0
        taken = _Taken(state)
        if saved is not None:
            taken.restore(section.name, saved)
            done = saved["step"]
            rng.restore(saved["rng"])

        def snapshot() -> dict[str, Any]:
            return {"step": done, "rng": rng.capture(), **taken.saved()}

        label = section.name if section.prefix else ""
        show = Progress(steps, done=done, label=label, value_name="", show=progress)
        context.begin_loop(label, "", done, steps)
        try:
            if done:
                show.note(f"goes on from step {done}")
            while done < steps:
                section.at(done)
                if done:
                    saver.remember(done, snapshot)
                yield done
                done += 1
                show.update(done, None)
                if done < steps or context.stop.requested:
                    saver.boundary(done, snapshot)
            if saver.saved_step != done and (saved is None or saved["step"] != done):
                saver.save(done, snapshot)
        except BaseException as error:
            saver.abandon(error)
            if isinstance(error, GeneratorExit):  # by break: nobody sees this error
                for problem in getattr(error, "__notes__", ()):
                    show.note(problem)
            raise
        finally:
            show.close(done, None)


def _items(state: Any) -> MutableMapping[str, Any]:
    return state if isinstance(state, MutableMapping) else vars(state)


def _is_stateful(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _as_data(state: Any) -> dict[str, Any]:
    return {name: value.state_dict() if _is_stateful(value) else value for name, value in _items(state).items()}


class _Taken:
    """A loop's state as the program gave it, and as checkpoints have it.

    What the body changed in place is changed in place on resume, so that other names for it go on to mean it; what the body replaced is
    replaced. Which of the two it was, a checkpoint tells.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        self._given = dict(_parts(_items(state), "state"))
        self._began = described(_as_data(state), "state")

    def saved(self) -> dict[str, Any]:
        """For a checkpoint; later steps do not change it."""
        kept = [path for path, part in _parts(_items(self._state), "state") if self._given.get(path) is part]
        return {"state": {name: copy.deepcopy(value) for name, value in _as_data(self._state).items()}, "kept": kept, "began": self._began}

    def restore(self, loop: str, saved: Mapping[str, Any]) -> None:
        """Make it what was saved.

        Raises:
            CheckpointError: It was saved by a program that began with another state.
        """
        found = differences(saved["began"], self._began)
        if found:
            listed = "".join(f"\n  - {difference}" for difference in found)
            raise CheckpointError(
                f"The checkpoint of the loop {loop!r} at step {saved['step']} is of another program:{listed}\n"
                "Submit the changed program as a new job, or give its loop another name=."
            )
        items, kept = _items(self._state), set(saved["kept"])
        for name in [name for name in items if name not in saved["state"]]:
            del items[name]
        for name, value in saved["state"].items():
            if _is_stateful(items.get(name)):
                items[name].load_state_dict(value)
            else:
                items[name] = _put(items.get(name), value, f"state[{name!r}]", kept)


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All in a nest that can be changed in place, by its path."""
    if isinstance(value, Mapping):
        yield path, value
        for key, part in value.items():
            yield from _parts(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        yield path, value
        for i, part in enumerate(value):
            yield from _parts(part, f"{path}[{i}]")
    elif not isinstance(value, _ATOMS):
        yield path, value


def _put(now: Any, saved: Any, path: str, kept: Set[str]) -> Any:
    """``saved``, in ``now`` itself if that was kept."""
    import numpy as np

    if path not in kept:
        return saved
    if hasattr(now, "copy_") and hasattr(now, "data"):  # of torch, whose parameters come back as tensors
        now.data.copy_(saved.data)
        return now
    if type(now) is not type(saved):
        return saved
    if isinstance(now, dict):
        parts = {key: _put(now.get(key), part, f"{path}[{key!r}]", kept) for key, part in saved.items()}
        now.clear()
        now.update(parts)
    elif isinstance(now, list):
        now[:] = [_put(now[i] if i < len(now) else None, part, f"{path}[{i}]", kept) for i, part in enumerate(saved)]
    elif isinstance(now, tuple):
        for i, part in enumerate(saved):
            _put(now[i], part, f"{path}[{i}]", kept)
    elif is_generator(now):
        restore_generator(now, generator_state(saved))
    elif isinstance(now, np.ndarray):
        if now.flags.writeable:
            now[...] = saved
    elif type(now).__module__.partition(".")[0] not in ("jax", "jaxlib") and hasattr(now, "__dict__"):
        vars(now).clear()
        vars(now).update(vars(saved))
    else:
        return saved
    return now
