"""How a job ended: written once, by rename, as JSON and arrays. Nothing pickled."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.durable import crash_point, dump_sealed, write_bytes, write_once
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import Status

FORMAT = 1
_TEXT_LIMIT = 64_000


def commit_value(folder: JobFolder, epoch: int, value: Any) -> None:
    """Record that the function returned a value.

    Raises:
        CodecError: The value cannot be stored; nothing was written.
        Fenced: This attempt no longer owns the job.
    """
    from pl_hybridjobs.jobs import codec

    tree, arrays = codec.dumps(value, where="return value")
    stored: dict[str, Any] = {"value": json.loads(tree)}
    if arrays is not None:
        path = folder.path / f"outcome-{epoch}.npz"
        write_bytes(path, arrays)
        stored["arrays"] = {"file": path.name, "sha256": hashlib.sha256(arrays).hexdigest()}
    crash_point("outcome.arrays")
    _commit(folder, epoch, Status.COMPLETED, stored)


def commit_failure(folder: JobFolder, epoch: int, reason: str, error: dict[str, Any]) -> None:
    """Record that the job failed.

    Args:
        folder: The job.
        epoch: The attempt that failed.
        reason: ``error`` (the function raised), ``result`` (its value cannot be stored), ``bundle``, ``environment``,
            ``timeout`` or ``memory``.
        error: See ``describe``.

    Raises:
        Fenced: This attempt no longer owns the job.
    """
    _commit(folder, epoch, Status.FAILED, {"reason": reason, "error": error})


def _commit(folder: JobFolder, epoch: int, status: Status, content: dict[str, Any]) -> None:
    with folder.fence(epoch):
        crash_point("outcome.fenced")
        write_once(folder.outcome, _sealed(status, epoch, content))
    crash_point("outcome.done")


def commit_failure_locked(folder: JobFolder, epoch: int, reason: str, error: dict[str, Any]) -> None:
    """As ``commit_failure``, by somebody who holds the job's lock.

    Raises:
        Fenced: See there.
    """
    folder.check_epoch(epoch)
    write_once(folder.outcome, _sealed(Status.FAILED, epoch, {"reason": reason, "error": error}))


def commit_cancelled(folder: JobFolder, message: str) -> bool:
    """Record that the job was cancelled. The caller holds the job's lock.

    Returns:
        False if the job had ended already.
    """
    latest = folder.latest_attempt()
    content = {"reason": "cancelled", "error": {"type": "", "message": message, "traceback": ""}}
    return write_once(folder.outcome, _sealed(Status.CANCELLED, latest.number if latest else 0, content))


def _sealed(status: Status, epoch: int, content: dict[str, Any]) -> bytes:
    return dump_sealed({"format": FORMAT, "status": status.value, "attempt": epoch, "time": time.time(), **content})


def load_value(folder: JobFolder, outcome: dict[str, Any]) -> Any:
    """The value that the function returned.

    Raises:
        CodecError: A class in it is not importable here; the message names it.
        FolderCorrupt: Its arrays are missing or damaged.
    """
    from pl_hybridjobs.jobs import codec

    tree = json.dumps(outcome["value"]).encode()
    return codec.loads(tree, _arrays(folder, outcome), where="result")


def plain_value(folder: JobFolder, outcome: dict[str, Any]) -> Any:
    """The value as plain JSON, for people and other programs; builds no class."""
    from pl_hybridjobs.jobs import codec

    return codec.to_plain(*codec.read(json.dumps(outcome["value"]).encode(), _arrays(folder, outcome), where="result"))


def _arrays(folder: JobFolder, outcome: dict[str, Any]) -> bytes | None:
    stored = outcome.get("arrays")
    if not stored:
        return None
    path = folder.path / Path(stored["file"]).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FolderCorrupt(f"The result's arrays are missing: {path} ({error.strerror}).") from error
    if hashlib.sha256(data).hexdigest() != stored["sha256"]:
        raise FolderCorrupt(f"The result's arrays were changed or damaged: {path}.")
    return data


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as text and plain data. Never raises, whatever the exception does when asked."""
    kind = type(error)
    described = {
        "type": f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', kind.__name__)}",
        "message": _guarded(lambda: str(error), "<its str() raised>"),
        "traceback": _guarded(lambda: _traceback(error), "<the traceback could not be formatted>"),
    }
    for name, content in (("args", error.__dict__.get("args", error.args)), ("attributes", dict(vars(error)))):
        encoded = _guarded_encoding(content)
        if encoded is not None:
            described[name] = encoded
    return described


def _traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on: our own frames say nothing to the user."""
    import traceback

    lines = traceback.TracebackException.from_exception(error, capture_locals=False)
    frame = lines
    while frame is not None:
        ours = 0
        for summary in frame.stack:
            if f"pl_hybridjobs{'/'}jobs{'/'}" not in Path(summary.filename).as_posix():
                break
            ours += 1
        if ours < len(frame.stack):
            del frame.stack[:ours]
        frame = frame.__cause__ or frame.__context__  # type: ignore[assignment]
    return "".join(lines.format(chain=True))


def _guarded(make: Any, fallback: str) -> str:
    try:
        text = make()
        if not isinstance(text, str):
            return fallback
        # Lone surrogates and NULs would make trouble later, in files and terminals.
        text = text.encode("utf-8", "backslashreplace").decode()
    except BaseException as error:  # noqa: BLE001 - a hostile exception may raise anything, also SystemExit
        return f"{fallback} ({type(error).__name__})"
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT // 2]}\n... cut ...\n{text[-_TEXT_LIMIT // 2 :]}"


def _guarded_encoding(content: Any) -> Any:
    from pl_hybridjobs.jobs import codec

    try:
        tree, arrays = codec.dumps(content, where="exception")
    except BaseException:  # noqa: BLE001 - what cannot be stored is left out; the text is there
        return None
    if arrays is not None or len(tree) > _TEXT_LIMIT:
        return None
    return json.loads(tree)


def rebuild_class(name: str) -> type[Exception] | None:
    """The class of a remote exception, if it can be had here without running anybody's top-level code."""
    module, _, qualname = name.partition(":")
    from pl_hybridjobs.jobs import codec

    found: Any = sys.modules.get(module)
    if found is None and codec.is_installed(module.partition(".")[0]):
        import importlib

        try:
            found = importlib.import_module(module)
        except Exception:  # noqa: BLE001 - a package that is broken here costs the class, not the message
            return None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None
