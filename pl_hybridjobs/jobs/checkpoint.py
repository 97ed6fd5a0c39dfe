"""Checkpoints: states of a computation, each in a folder of its own, whole or not there at all.

Saving: temporary folder -> files -> manifest last -> fsync of everything -> rename -> fsync of the parent -> older ones deleted. Loading
takes the newest whose manifest and hashes verify, and says what it passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import CheckpointError, FolderCorrupt
from pl_hybridjobs.jobs import codec
from pl_hybridjobs.jobs.durable import (
    PLANTED_BUG,
    crash_point,
    disk_errors,
    dump_sealed,
    fsync_paths,
    read_sealed,
    rename_folder,
    temporary_folder,
)

FORMAT = 1
_STALE_S = 3600.0
_STATE, _ARRAYS, _MANIFEST = "state.json", "arrays.npz", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        step: The step after which it was saved; -1 if its manifest cannot be read.
        path: Its folder.
        attempt: The attempt that saved it.
        time: Unix time, seconds.
        size_bytes: All its files together.
        good: Whether everything in it is as it was written.
        problem: What is wrong, or "".
        sequence: Counts the saves of one job, over all attempts.
    """

    step: int
    path: Path
    attempt: int
    time: float
    size_bytes: int
    good: bool
    problem: str = ""
    sequence: int = -1


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's content.

    Attributes:
        state: What was saved.
        checkpoint: Where it lay.
        extra: What the saver added for itself.
        skipped: Newer checkpoints that did not verify.
    """

    state: Any
    checkpoint: Checkpoint
    extra: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[Checkpoint, ...] = ()


class CheckpointStore:
    """The checkpoints in one folder. Other files in it are left alone.

    Args:
        folder: Where they lie; made with the first save.
        attempt: Who saves.
        keep: How many of the newest stay.
        fence: Held around the rename; raises ``Fenced`` if this attempt must not write any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        attempt: int = 1,
        keep: int = 3,
        fence: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.folder = folder
        self.attempt = attempt
        self.keep = keep
        self._fence = fence
        self._lock = threading.Lock()

    def save(
        self,
        state: Any,
        step: int | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        also_sync: Sequence[Path] = (),
    ) -> Checkpoint:
        """Save a state, durably.

        Args:
            state: See ``codec.encode``.
            step: A whole number of at least 0; None means one more than that of the newest checkpoint.
            extra: JSON for the saver's own use; returned by ``load``.
            also_sync: Files that must be durable before the checkpoint is.

        Raises:
            CodecError: Something in ``state`` cannot be stored, named by its path.
            CheckpointError: ``step`` is not usable.
            StoreError: The disk refuses. Earlier checkpoints are as they were, in each of these cases.
            Fenced: See ``fence``.
        """
        tree, arrays = codec.dumps(state, where="state")
        files = {_STATE: tree, **({_ARRAYS: arrays} if arrays is not None else {})}
        with self._lock:
            there = self._folders()
            known = [self._manifest(path) for path in there]
            newest = max((m for m in known if m), key=lambda m: int(m["sequence"]), default=None)
            number = _checked_step(step) if step is not None else int(newest["step"]) + 1 if newest else 0
            sequence = int(newest["sequence"]) + 1 if newest else 0
            manifest = {
                "format": FORMAT,
                "step": number,
                "attempt": self.attempt,
                "sequence": sequence,
                "time": time.time(),
                "extra": dict(extra or {}),
                "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()},
            }
            with disk_errors(self.folder):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                final = self._write(files, manifest, also_sync)
            crash_point("checkpoint.renamed")
            self._prune(there)
            crash_point("checkpoint.pruned")
        size = sum(map(len, files.values())) + (final / _MANIFEST).stat().st_size
        return Checkpoint(number, final, self.attempt, manifest["time"], size, True, "", sequence)  # type: ignore[arg-type]

    def _write(self, files: Mapping[str, bytes], manifest: dict[str, Any], also_sync: Sequence[Path]) -> Path:
        final = self.folder / f"{manifest['step']:08d}"
        if final.exists():  # never replaced: it may be the last good one
            final = self.folder / f"{manifest['step']:08d}.{manifest['sequence']}"
        with temporary_folder(self.folder, f"step-{manifest['step']}") as temporary:
            for name, data in files.items():
                temporary.joinpath(name).write_bytes(data)
            crash_point("checkpoint.files")
            temporary.joinpath(_MANIFEST).write_bytes(dump_sealed(manifest))
            crash_point("checkpoint.manifest")
            fsync_paths([*(temporary / name for name in (*files, _MANIFEST)), temporary, *also_sync])
            crash_point("checkpoint.synced")
            with self._fence():
                rename_folder(temporary, final)
        return final

    def _prune(self, older: Sequence[Path]) -> None:
        """Delete all but the newest; ``older`` are those from before the new one."""
        kept = self.keep - 1
        ordered = sorted(older, key=lambda path: int((self._manifest(path) or {"sequence": -1})["sequence"]))
        for path in ordered[: max(0, len(ordered) - kept)]:
            shutil.rmtree(path, ignore_errors=True)
        for left in self.folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_S:
                    shutil.rmtree(left)

    def load(self, step: int | None = None, *, allow_import: bool = True) -> Loaded | None:
        """The newest state that verifies, or that of one step.

        Args:
            step: Only this step.
            allow_import: See ``codec.decode``.

        Returns:
            None if there is no checkpoint (of that step) at all.

        Raises:
            CheckpointError: There are some, but none verifies.
        """
        found = sorted(self.list(), key=lambda c: c.sequence, reverse=True)
        if step is not None:
            wanted = _checked_step(step)
            found = [c for c in found if c.path.name.partition(".")[0] == f"{wanted:08d}"]
        # What cannot even tell its place comes first, so that it is reported.
        found.sort(key=lambda c: c.sequence >= 0)
        skipped = []
        for checkpoint in found:
            if checkpoint.good:
                try:
                    tree, arrays = self._read(checkpoint.path)
                    state = codec.loads(tree, arrays, allow_import=allow_import, where="state")
                except OSError as error:  # taken away between the two looks
                    skipped.append(replace(checkpoint, good=False, problem=str(error)))
                    continue
                manifest = self._manifest(checkpoint.path) or {}
                return Loaded(state, checkpoint, dict(manifest.get("extra", {})), tuple(skipped))
            skipped.append(checkpoint)
        if not skipped:
            return None
        listed = "; ".join(f"{c.path.name}: {c.problem}" for c in skipped)
        raise CheckpointError(
            f"None of the {len(skipped)} checkpoints in {self.folder} verifies ({listed}). "
            "Restore them from a copy, or delete that folder to start from the beginning."
        )

    def list(self) -> Sequence[Checkpoint]:
        """All checkpoints, oldest first, each verified."""
        return sorted(map(self._verify, self._folders()), key=lambda c: (c.sequence, c.path.name))

    def _folders(self) -> Sequence[Path]:
        if not self.folder.is_dir():
            return []
        return [p for p in sorted(self.folder.iterdir()) if p.is_dir() and _is_name(p.name)]

    def _manifest(self, path: Path) -> dict[str, Any] | None:
        try:
            manifest = read_sealed(path / _MANIFEST)
            int(manifest["sequence"]), int(manifest["step"])
        except (OSError, FolderCorrupt, KeyError, TypeError, ValueError):
            return None
        return manifest

    def _read(self, path: Path) -> tuple[bytes, bytes | None]:
        arrays = path / _ARRAYS
        return (path / _STATE).read_bytes(), arrays.read_bytes() if arrays.exists() else None

    def _verify(self, path: Path) -> Checkpoint:
        step = int(path.name.partition(".")[0])
        manifest = self._manifest(path)
        if manifest is None:
            return Checkpoint(step, path, 0, 0.0, 0, False, "manifest.json is missing or damaged")
        size, problem = 0, ""
        if manifest.get("format", 0) > FORMAT:
            problem = f"it has format {manifest['format']}, and this version reads up to {FORMAT}: upgrade pl-hybridjobs"
        present = {p.name for p in path.iterdir()} - {_MANIFEST}
        for name, expected in manifest["files"].items():
            try:
                data = (path / name).read_bytes()
            except OSError as error:
                problem = problem or f"{name} cannot be read ({error.strerror})"
                continue
            size += len(data)
            if len(data) != expected["size"]:
                problem = problem or f"{name} has {len(data)} bytes instead of {expected['size']}"
            elif hashlib.sha256(data).hexdigest() != expected["sha256"] and PLANTED_BUG != "checksum":
                problem = problem or f"{name} was changed: its checksum is wrong"
        if extra := present - set(manifest["files"]):
            problem = problem or f"it has a file too many: {min(extra)}"
        args = (int(manifest["step"]), path, int(manifest["attempt"]), float(manifest["time"]), size)
        return Checkpoint(*args, not problem, problem, int(manifest["sequence"]))


def _is_name(name: str) -> bool:
    step, _, number = name.partition(".")
    return len(step) >= 8 and step.isdecimal() and (not number or number.isdecimal())


def _checked_step(step: Any) -> int:
    try:
        whole = operator.index(step)
    except TypeError:
        whole = -1
    if isinstance(step, bool) or whole < 0:
        raise CheckpointError(f"step={step!r} is not usable for a checkpoint; give a whole number of at least 0")
    return whole
