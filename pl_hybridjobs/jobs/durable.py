"""Writes that survive a crash: temporary file, fsync, rename, fsync of the parent.

This is the only module that calls ``fsync``, ``rename`` and ``flock``. Named crash points let a test (or a curious user) stop
the process dead between any two steps: ``HYBRIDJOBS_CRASH_AT=<point>``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import FolderCorrupt, StoreError

_CRASH_AT = os.environ.get("HYBRIDJOBS_CRASH_AT", "")
# Switches one protection off ("fsync", "checksum" or "fencing"), to prove that the torture suite notices.
PLANTED_BUG = os.environ.get("HYBRIDJOBS_PLANT_BUG", "")
_LOCK_TIMEOUT_S = 30.0
_SYNCED_AT_ONCE = 64  # stays clear of the limit on open files
# How an operating system says that a lock is not to be had here at all.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def crash_point(name: str) -> None:
    """Die here, without any clean-up, if the environment names this point (fault injection)."""
    if _CRASH_AT and name == _CRASH_AT:
        os._exit(86)


def fsync_path(path: Path) -> None:
    """Make one file's or folder's content durable."""
    if PLANTED_BUG == "fsync":
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_paths(paths: Sequence[Path]) -> None:
    """Make several files and folders durable: all are on their way to the disk before the first is waited for.

    The first wait then commits the journal for all of them, and the others find little left to do.
    """
    for start in range(0, len(paths), _SYNCED_AT_ONCE):
        with contextlib.ExitStack() as opened:
            handles = [_open_to_sync(path, opened) for path in paths[start : start + _SYNCED_AT_ONCE]]
            for handle in handles:
                start_writing(handle)
            for handle in handles:
                if PLANTED_BUG != "fsync":
                    os.fsync(handle)


def _open_to_sync(path: Path, opened: contextlib.ExitStack) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle


def start_writing(handle: int) -> None:
    """Linux begins to write a file's changed pages when it is told that nobody will read them soon. Elsewhere nothing happens."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # a folder, or a file system without this
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file in one step: readers see the old content or the new, never a part.

    Args:
        path: The file. Its folder must exist.
        data: The whole new content.
        durable: Also fsync file and folder, so that it survives a power loss.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with disk_errors(path):
        try:
            _write_new(temporary, data, durable)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            fsync_path(path.parent)


def write_once(path: Path, data: bytes) -> bool:
    """Create a file with its whole content, durably, unless it exists.

    Returns:
        False if the file was there already (it is left as it was).
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with disk_errors(path):
        try:
            _write_new(temporary, data, durable=True)
            os.link(temporary, path)  # unlike rename, refuses to replace
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        fsync_path(path.parent)
    return True


def _write_new(path: Path, data: bytes, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable and PLANTED_BUG != "fsync":
            os.fsync(fd)
    finally:
        os.close(fd)


def commit_folder(temporary: Path, final: Path) -> None:
    """Make a finished folder durable and give it its name, in one step.

    Args:
        temporary: A folder beside ``final`` with everything in it.
        final: Must not exist, or be an empty folder.

    Raises:
        FileExistsError: ``final`` exists and is not empty. ``temporary`` is left alone.
    """
    sync_tree(temporary)
    rename_folder(temporary, final)


def sync_tree(folder: Path) -> None:
    """Make a folder and all that is in it durable."""
    with disk_errors(folder):
        fsync_paths([*(p for p in folder.rglob("*") if not p.is_symlink()), folder])


def sync_trees(folders: Sequence[Path]) -> None:
    """Make many folders and all that is in them durable: where the system can, by one request for their whole file system."""
    with disk_errors(folders[0]):
        if not _sync_file_system(folders[0]):
            for folder in folders:
                sync_tree(folder)


def _sync_file_system(path: Path) -> bool:
    """Linux's ``syncfs``; False where there is none, or it fails (then file by file says which, and why)."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return PLANTED_BUG == "fsync" or bool(syncfs(fd) == 0)
    finally:
        os.close(fd)


def rename_folders(pairs: Sequence[tuple[Path, Path]]) -> None:
    """As ``rename_folder``, for new names in one folder, which is made durable once."""
    with disk_errors(pairs[0][1]):
        for temporary, final in pairs:
            os.rename(temporary, final)
        fsync_path(pairs[0][1].parent)


def rename_folder(temporary: Path, final: Path) -> None:
    """Rename a folder and make its new name durable; an existing non-empty ``final`` raises FileExistsError."""
    with disk_errors(final):
        try:
            os.rename(temporary, final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(errno.EEXIST, "exists", str(final)) from error
            raise
        fsync_path(final.parent)


@contextlib.contextmanager
def temporary_folder(parent: Path, stem: str) -> Iterator[Path]:
    """A private folder ``.<stem>.<random>.tmp`` that is gone at the end, unless it was renamed."""
    folder = parent / f".{stem}.{os.urandom(4).hex()}.tmp"
    with disk_errors(folder):
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        if folder.exists():
            import shutil

            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[int]:
    """Hold an exclusive ``flock`` on a file. The kernel lets go of it when the process dies.

    Gives the descriptor: if this process dies, a child that has inherited it goes on to hold the lock.

    Raises:
        StoreError: The file system has no locks, or another process held it for longer than ``timeout_s``.
    """
    with disk_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(fd, path, timeout_s)
        try:
            yield fd
        finally:
            # Explicit, because a child that was forked meanwhile holds a copy of the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold a lock, if nobody else does just now: whether it is held."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path, timeout_s=0.0))
        except StoreError:
            yield False
            return
        yield True


def _acquire(fd: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{path} has been locked by another process for {timeout_s:g} s. "
                    f"Find it with `fuser {path}`; a stopped process must be continued or killed."
                ) from None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise StoreError(
                    f"The file system under {path.parent} has no file locks, so two owners of one job could not be told "
                    "apart. Set HYBRIDJOBS_HOME to a local disk, or mount the share with locking."
                ) from error
            raise
        else:
            return


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk can refuse into a StoreError that says what to do."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        advice = {
            errno.ENOSPC: "The disk is full: free some space, or set HYBRIDJOBS_HOME to another disk.",
            errno.EDQUOT: "Your disk quota is used up: free some space, or set HYBRIDJOBS_HOME to another disk.",
            errno.EFBIG: "The file is larger than is allowed here (`ulimit -f`): raise that limit, or save less.",
            errno.EIO: "The disk has an error: look at the system's log, and set HYBRIDJOBS_HOME to another disk.",
            errno.EROFS: "The disk is read-only: set HYBRIDJOBS_HOME to a folder that can be written.",
            errno.EACCES: "You have no permission there: mend the folder's mode or owner, or set HYBRIDJOBS_HOME.",
            errno.EPERM: "You have no permission there: mend the folder's mode or owner, or set HYBRIDJOBS_HOME.",
        }.get(error.errno or 0)
        if advice is None:
            raise
        raise StoreError(f"Cannot write {path}: {error.strerror}. {advice}") from error


def dump_json(value: Any) -> bytes:
    """JSON as this package writes it: UTF-8, indented, strict (no bare NaN), newline at the end."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: It is not there.
        FolderCorrupt: It cannot be parsed.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FolderCorrupt(f"{path} is damaged ({error}). Restore it from a copy, or remove the job.") from error


def dump_sealed(value: dict[str, Any]) -> bytes:
    """A JSON object that carries the SHA-256 of its own content, so that any flipped bit shows."""
    return dump_json({**value, "sha256": _seal(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what ``dump_sealed`` wrote, without its seal.

    Raises:
        FileNotFoundError: It is not there.
        FolderCorrupt: It cannot be parsed, or was changed.
    """
    value = read_json(path)
    seal = value.pop("sha256", None) if isinstance(value, dict) else None
    if seal is None or (seal != _seal(value) and PLANTED_BUG != "checksum"):
        raise FolderCorrupt(f"{path} was changed or damaged: its checksum is wrong. Restore it from a copy, or remove the job.")
    return dict(value)


def is_sealed(data: bytes) -> bool:
    """Whether these bytes are a whole file of ``dump_sealed``."""
    try:
        value = json.loads(data)
        return bool(value.pop("sha256") == _seal(value))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _seal(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
