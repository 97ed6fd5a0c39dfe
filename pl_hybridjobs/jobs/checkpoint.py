"""Checkpoints: states of a computation, each in a folder of its own, whole or not there at all.

``<folder>/<step>/`` holds ``state.json``, ``arrays.npz`` (if the state has arrays) and ``manifest.json``, which has the SHA-256 of the
others and of itself. Saving: temporary folder -> files -> manifest last -> fsync of everything -> rename -> fsync of the parent -> older
ones deleted, in a thread. Loading takes the newest whose manifest and hashes verify, and says what it passed over.

``HYBRIDJOBS_PLANT_BUG=checksum`` leaves the verification out, to prove that the tests notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import CheckpointError, CodecError, FolderCorrupt, HybridJobsError
from pl_hybridjobs.jobs import codec
from pl_hybridjobs.jobs.durable import (
    PLANTED_BUG,
    crash_point,
    disk_errors,
    dump_sealed,
    fsync_path,
    fsync_paths,
    read_sealed,
    rename_folder,
    start_writing,
    temporary_folder,
)

FORMAT = 1
_STALE_S = 3600.0
_LARGE = 2**16  # bytes
_LOOKS = 10  # at a folder that changes each time we look
_STATE, _ARRAYS, _MANIFEST = "state.json", "arrays.npz", "manifest.json"
_NAME = re.compile(r"[0-9]{8,}(\.[0-9]+)?")  # the step, and the sequence where a step was saved twice


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        step: The step after which it was saved.
        path: Its folder.
        attempt: The attempt that saved it; 0 if its manifest cannot be read.
        time: When it was saved, Unix time, seconds.
        size_bytes: All its files together.
        good: Whether everything in it is as it was written.
        problem: What is wrong, or "".
        sequence: Counts the saves of one job, over all attempts; -1 if its manifest cannot be read.
        section: Whose state it is, where several parts of a job keep theirs: "" for ``save_checkpoint``, a name for each training loop;
            None if its manifest cannot be read.
    """

    step: int
    path: Path
    attempt: int
    time: float
    size_bytes: int
    good: bool
    problem: str = ""
    sequence: int = -1
    section: str | None = ""


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


@dataclass(frozen=True)
class _Content:
    """A checkpoint's verified bytes."""

    tree: bytes
    arrays: bytes | None
    extra: Any


_Verified = tuple[Checkpoint, _Content | None]
_Verifier = Callable[[Sequence[Checkpoint]], Sequence[_Verified]]


class CheckpointStore:
    """The checkpoints in one folder. Other files and folders in it are left alone. May be used from several threads.

    Args:
        folder: Where they lie; made with the first save.
        attempt: Who saves.
        keep: How many of the newest stay, at least 1.
        fence: Held around the rename and the deletion of older ones; raises ``Fenced`` if this attempt must not write any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        attempt: int = 1,
        keep: int = 3,
        fence: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if keep < 1:
            raise CheckpointError(f"keep={keep} would delete every checkpoint at once; give at least 1")
        self.folder = folder
        self.attempt = attempt
        self.keep = keep
        self._fence = fence
        self._lock = threading.Lock()
        self._pruner: threading.Thread | None = None
        self._swept = False
        # What manifests said that were read before, by name, with the folder's identity then.
        self._heads: dict[str, tuple[tuple[int, int], Checkpoint]] = {}

    def save(
        self,
        state: Any,
        step: int | None = None,
        *,
        section: str = "",
        extra: Mapping[str, Any] | None = None,
        also_sync: Sequence[Path] = (),
    ) -> Checkpoint:
        """Save a state, durably.

        Args:
            state: See ``codec.encode``.
            step: A whole number of at least 0; None means one more than that of the section's newest checkpoint.
            section: Whose state it is. Each section has its own steps, and keeps its own newest.
            extra: More for the saver's own use, without arrays; returned by ``load``.
            also_sync: Files that must be durable before the checkpoint is. Those that do not exist are passed over.

        Raises:
            CodecError: Something in ``state`` or ``extra`` cannot be stored, named by its path.
            CheckpointError: ``step`` is not usable.
            StoreError: The disk refuses.
            Fenced: See ``fence``.

        Earlier checkpoints are as they were, in each of these cases.
        """
        wanted = None if step is None else _checked_step(step)
        encoded = codec.encode(state, where="state")
        more = _encode_extra(extra)
        with self._lock, disk_errors(self.folder):
            self.settle()
            self._make_folder()
            older = self._find(self._names())
            newest = max(older, key=lambda c: c.sequence, default=None)
            mine = [c for c in older if c.section == section]
            last = max(mine, key=lambda c: c.sequence, default=None)
            manifest = {
                "format": FORMAT,
                "step": wanted if wanted is not None else last.step + 1 if last else 0,
                "section": section,
                "attempt": self.attempt,
                "sequence": newest.sequence + 1 if newest else 0,
                "time": time.time(),
                "extra": more,
            }
            return self._commit(manifest, encoded, [p for p in also_sync if p.exists()], mine)

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fsync_path(self.folder.parent)

    def _commit(
        self, manifest: dict[str, Any], encoded: codec.Encoded, also_sync: Sequence[Path], older: Sequence[Checkpoint]
    ) -> Checkpoint:
        with temporary_folder(self.folder, f"step-{manifest['step']}") as temporary:
            sizes = _write_files(temporary, manifest, encoded)
            crash_point("checkpoint.manifest")
            fsync_paths([*(temporary / name for name in sizes), temporary, *also_sync])
            crash_point("checkpoint.synced")
            with self._fence():
                final = self._rename(temporary, manifest)
                crash_point("checkpoint.renamed")
        saved = _described(manifest, final, size_bytes=sum(sizes.values()))
        self._heads[final.name] = _identity(final), saved
        if len(older) >= self.keep or not self._swept:
            self._pruner = _started("hybridjobs-prune", lambda: self._prune(older), daemon=False)
        return saved

    def _rename(self, temporary: Path, manifest: dict[str, Any]) -> Path:
        """Give it its name. A folder that has the name already is never replaced: it may be the last good one."""
        plain = f"{manifest['step']:08d}"
        for name in (plain, f"{plain}.{manifest['sequence']}"):
            final = self.folder / name
            if not final.exists():
                with contextlib.suppress(FileExistsError):
                    rename_folder(temporary, final)
                    return final
        raise CheckpointError(f"{final} exists already, and is no checkpoint of this job: move it away")

    def settle(self) -> None:
        """Wait until the deletion of older checkpoints, which goes on after ``save``, has ended."""
        if self._pruner is not None:
            self._pruner.join()
            self._pruner = None

    def _prune(self, older: Sequence[Checkpoint]) -> None:
        """Delete all but the newest, and what dead processes left behind.

        Args:
            older: Those of its section from before the new one, oldest first.
        """
        with contextlib.suppress(HybridJobsError, OSError), self._fence():  # the next one who saves deletes what stays
            self._delete_old(older)
            crash_point("checkpoint.pruned")

    def _delete_old(self, older: Sequence[Checkpoint]) -> None:
        for checkpoint in older[: len(older) + 1 - self.keep]:
            # The manifest goes last, so that one that is half deleted still tells its age.
            for name in (_ARRAYS, _STATE, _MANIFEST):
                with contextlib.suppress(OSError):
                    (checkpoint.path / name).unlink()
            with contextlib.suppress(OSError):  # somebody put another file there
                checkpoint.path.rmdir()
        if self._swept:
            return
        self._swept = True
        for name in os.listdir(self.folder):
            if name.startswith(".step-") and name.endswith(".tmp"):
                left = self.folder / name
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > _STALE_S:
                        import shutil

                        shutil.rmtree(left)

    def load(self, step: int | None = None, *, section: str = "", allow_import: bool = True) -> Loaded | None:
        """A section's newest state that verifies, or that of one step.

        Args:
            step: Only this step.
            section: See ``save``.
            allow_import: See ``codec.decode``.

        Returns:
            None if there is no checkpoint (of that step, in that section) at all.

        Raises:
            CheckpointError: There are some, but none verifies.
            CodecError: It is as it was saved, but a class or package that it needs is not to be had here.
        """
        wanted = None if step is None else _checked_step(step)
        checked = self._look(_until_good, lambda c: c.section in (section, None) and (wanted is None or c.step == wanted))
        skipped = tuple(checkpoint for checkpoint, content in checked if content is None)
        if len(skipped) == len(checked):
            # One whose manifest is unreadable may be another section's, as long as there is a good one of those.
            if any(c.section is not None for c in skipped) or (skipped and self.newest_extra() is None):
                raise self._none_good(skipped, wanted)
            return None
        checkpoint, content = checked[-1]
        assert content is not None
        state = codec.loads(content.tree, content.arrays, allow_import=allow_import, where="state")
        extra = codec.decode(content.extra, {}, allow_import=allow_import, where="extra")
        return Loaded(state, checkpoint, extra, skipped)

    def newest_extra(self) -> dict[str, Any] | None:
        """What was added to the newest checkpoint that verifies, of whatever section; None if there is none."""
        checked = self._look(_until_good)
        content = checked[-1][1] if checked else None
        return None if content is None else codec.decode(content.extra, {}, where="extra")

    def _none_good(self, skipped: Sequence[Checkpoint], step: int | None) -> CheckpointError:
        listed = "; ".join(f"{c.path.name}: {c.problem}" for c in skipped)
        which = "" if step is None else f" of step {step}"
        return CheckpointError(
            f"None of the {len(skipped)} checkpoints{which} in {self.folder} verifies ({listed}). "
            "Restore them from a copy, or delete that folder to start from the beginning."
        )

    def list(self) -> list[Checkpoint]:
        """All checkpoints, oldest first, each verified. Older ones that are half deleted are not checkpoints any more."""
        found = [checkpoint for checkpoint, _ in self._look(lambda heads: [_verify(head) for head in heads])]
        return [c for c in found if c.good or c is found[-1] or not _is_half_deleted(c.path)]

    def _look(self, verify: _Verifier, is_wanted: Callable[[Checkpoint], bool] = lambda _: True) -> Sequence[_Verified]:
        """Verify what is there. Another process may save and delete meanwhile: then damage may be none, and we look again."""
        self.settle()
        for _ in range(_LOOKS):
            names = self._names()
            verified = verify([head for head in self._find(names) if is_wanted(head)])
            whole = all(content is not None for _, content in verified)
            if (whole and verified) or self._names() == names:
                break
        return verified

    def _names(self) -> set[str]:
        """The folders that may be checkpoints."""
        try:
            return {name for name in os.listdir(self.folder) if _NAME.fullmatch(name)}
        except FileNotFoundError:
            return set()

    def _find(self, names: set[str]) -> Sequence[Checkpoint]:
        """The checkpoints among these, oldest first, as their manifests say; nothing else is read yet."""
        found = [head for name in names if (head := self._head(self.folder / name))]
        self._heads = {name: known for name, known in list(self._heads.items()) if name in names}
        # One that cannot tell its place comes after those that are older than its folder.
        known = [c for c in found if c.sequence >= 0]
        place = {c.path: max((k.sequence for k in known if k.time <= c.time), default=-1) + 0.5 for c in found if c.sequence < 0}
        return sorted(found, key=lambda c: (place.get(c.path, c.sequence), c.time))

    def _head(self, path: Path) -> Checkpoint | None:
        """A checkpoint as its manifest describes it; None if it is something else, or gone."""
        try:
            identity = _identity(path)
        except FileNotFoundError:
            return None
        before, head = self._heads.get(path.name, (None, None))
        if before != identity:
            head = _read_head(path, changed=identity[1] / 1e9)
            if head is not None and head.good:
                self._heads[path.name] = identity, head
        return head


def _identity(folder: Path) -> tuple[int, int]:
    known = folder.stat()
    return known.st_ino, known.st_mtime_ns


def _write_files(folder: Path, manifest: Mapping[str, Any], encoded: codec.Encoded) -> dict[str, int]:
    """Write the files and then their manifest.

    Returns:
        Their sizes in bytes, the manifest last.
    """
    files = {}
    if encoded.arrays:
        files[_ARRAYS] = _write_hashed(folder / _ARRAYS, encoded.arrays)
    tree = codec.json_bytes(encoded.tree)
    folder.joinpath(_STATE).write_bytes(tree)
    files[_STATE] = {"sha256": hashlib.sha256(tree).hexdigest(), "size": len(tree)}
    crash_point("checkpoint.files")
    sealed = dump_sealed({**manifest, "files": files})
    folder.joinpath(_MANIFEST).write_bytes(sealed)
    return {name: file["size"] for name, file in files.items()} | {_MANIFEST: len(sealed)}


def _write_hashed(path: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Write arrays. The disk works on a piece while its hash is computed; a thread for the hash costs more than it saves.

    Returns:
        The file's entry in the manifest.
    """
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def write(piece: bytes | memoryview) -> None:
            file.write(piece)
            if len(piece) >= _LARGE:
                file.flush()
                start_writing(file.fileno())
            digest.update(piece)

        codec.write_npz(arrays, write)
        return {"sha256": digest.hexdigest(), "size": file.tell()}


def _started(name: str, work: Callable[[], None], *, daemon: bool) -> threading.Thread | None:
    """A thread; None where none can be started, as while Python shuts down."""
    thread = threading.Thread(target=work, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _encode_extra(extra: Mapping[str, Any] | None) -> Any:
    encoded = codec.encode(dict(extra or {}), where="extra")
    if encoded.arrays:
        raise CodecError("extra holds arrays, which belong into the state")
    return encoded.tree


def _read_head(path: Path, changed: float) -> Checkpoint | None:
    try:
        manifest = _read_manifest(path)
        return _described(manifest, path)
    except (FileNotFoundError, NotADirectoryError):
        if not (path / _STATE).exists():  # a folder of somebody else, or an empty one
            return None
        problem = f"{_MANIFEST} is missing"
    except (OSError, KeyError, TypeError, ValueError) as error:
        problem = f"{_MANIFEST} is damaged ({error})"
    return Checkpoint(int(path.name.partition(".")[0]), path, 0, changed, 0, False, problem, section=None)


def _described(manifest: Mapping[str, Any], path: Path, size_bytes: int = 0) -> Checkpoint:
    step, attempt, sequence = (int(manifest[name]) for name in ("step", "attempt", "sequence"))
    section = str(manifest.get("section", ""))
    return Checkpoint(step, path, attempt, float(manifest["time"]), size_bytes, True, "", sequence, section)


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_sealed(path / _MANIFEST)
    # The seal is over the content; this is over the bytes, white space included.
    if PLANTED_BUG != "checksum" and dump_sealed(manifest) != (path / _MANIFEST).read_bytes():
        raise FolderCorrupt("it is not as it was written")
    return manifest


def _verify(head: Checkpoint) -> _Verified:
    """Read a checkpoint's files, once, and compare them with its manifest."""
    if not head.good:
        return head, None
    try:
        manifest = _read_manifest(head.path)
        if manifest["format"] > FORMAT:
            problem = f"it has format {manifest['format']}, and this version reads up to {FORMAT}: upgrade pl-hybridjobs"
            return replace(head, good=False, problem=problem), None
        files = manifest["files"]
        contents = {name: (head.path / name).read_bytes() for name in (_STATE, _ARRAYS) if name in files}
        problems = [] if PLANTED_BUG == "checksum" else [*_differences(files, contents)]
        size = sum(map(len, contents.values())) + (head.path / _MANIFEST).stat().st_size
        content = _Content(contents[_STATE], contents.get(_ARRAYS), manifest["extra"])
    except OSError as error:
        reason = error if isinstance(error, FolderCorrupt) else f"{Path(error.filename or '').name} cannot be read ({error.strerror})"
        return replace(head, good=False, problem=str(reason)), None
    except (KeyError, TypeError, AttributeError) as error:
        return replace(head, good=False, problem=f"{_MANIFEST} lacks {error}"), None
    if problems:
        return replace(head, size_bytes=size, good=False, problem="; ".join(problems)), None
    return replace(head, size_bytes=size), content


def _until_good(found: Sequence[Checkpoint]) -> list[_Verified]:
    """Those that are damaged, newest first, and then the newest good one."""
    verified = []
    for head in reversed(found):
        verified.append(_verify(head))
        if verified[-1][1] is not None:
            break
    return verified


def _is_half_deleted(path: Path) -> bool:
    """Whether files are missing as they are while another process deletes them: the manifest goes last."""
    try:
        files = _read_manifest(path)["files"]
    except FileNotFoundError:
        return not (path / _STATE).exists()
    except (FolderCorrupt, KeyError):
        return False
    return not all((path / name).exists() for name in files)


def _differences(files: Mapping[str, Any], contents: Mapping[str, bytes]) -> Iterator[str]:
    for name, data in contents.items():
        if len(data) != files[name]["size"]:
            yield f"{name} has {len(data)} bytes instead of {files[name]['size']}"
        elif hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
            yield f"{name} was changed: its checksum is wrong"


def _checked_step(step: Any) -> int:
    try:
        whole = operator.index(step)
    except TypeError:
        whole = -1
    if isinstance(step, bool) or whole < 0:
        raise CheckpointError(f"step={step!r} is not usable for a checkpoint; give a whole number of at least 0")
    return whole
