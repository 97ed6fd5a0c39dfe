"""Objects as bytes, for a worker that may be elsewhere. Who sends them is this process or a worker that it chose: no stranger."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import Any

from pl_hybridjobs.errors import FanOutError


def dumps(value: Any) -> bytes:
    """A pickle that also another process can read: what belongs to ``__main__``, which is another one there, goes along as code.

    Raises:
        Exception: What the object's own code raises, or pickle says.
    """
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - objects raise what they like
        data = b""
    if data and b"__main__" not in data:
        return data
    import cloudpickle  # takes twice as long

    return bytes(cloudpickle.dumps(value))


def loads(data: bytes) -> Any:
    """What ``dumps`` was given."""
    return pickle.loads(data)  # noqa: S301 - see above


def that_travels(error: BaseException) -> tuple[BaseException, str]:
    """An error that can be sent, and its traceback as text: itself, or one with its text."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(Exception):  # as above
        if isinstance(loads(dumps(error)), type(error)):
            return error, text
    said = "".join(traceback.format_exception_only(error)).strip().partition(": ")[2]  # unlike str(error), this never raises
    return FanOutError(f"a worker raised {type(error).__name__}, which cannot be sent: {said}"), text
