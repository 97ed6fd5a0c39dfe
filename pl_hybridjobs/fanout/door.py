"""``workers=`` and ``executor=`` as options of a device of ours."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

_Kind = TypeVar("_Kind", bound=type)


def with_workers(given: _Kind) -> _Kind:
    """A class of devices, registered by its name, whose constructor gives a ``FanOut`` of the device where workers are asked for."""
    kind: Any = given

    def new(cls: type, *args: Any, workers: int | None = None, executor: Any = None, **options: Any) -> Any:
        if workers is None and executor is None:
            return object.__new__(cls)
        from pl_hybridjobs.fanout.device import FanOut

        return FanOut(kind.name, *args, workers=workers, executor=executor, **options)

    own = inspect.signature(kind.__init__)
    kind.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])  # what makes the device anew asks for it
    kind.__new__ = new
    return given
