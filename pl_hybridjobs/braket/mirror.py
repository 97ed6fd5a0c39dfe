"""A job's folder at two places: in S3, where Amazon Braket keeps the container's checkpoint directory, and here.

While the job runs, its files come from there. They are taken whole: written beside and renamed, checkpoints only once their manifest
verifies, logs of rows only ever get longer, and the outcome last of all, when nothing else is missing. Nothing that is newer here is
replaced, and nothing is deleted but what the worker there would have deleted: checkpoints that are older than the last few.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pl_hybridjobs.braket.inside import SNAPSHOT
from pl_hybridjobs.braket.jobs import split_place
from pl_hybridjobs.braket.record import Run
from pl_hybridjobs.braket.session import Session
from pl_hybridjobs.cost.account import LEDGER
from pl_hybridjobs.errors import FolderCorrupt, HybridJobsError, RunnerError
from pl_hybridjobs.jobs.durable import dump_json, is_sealed, read_json, rename_folder, sync_tree, temporary_folder, write_bytes, write_once
from pl_hybridjobs.jobs.folder import JobFolder

_AT_ONCE = 8
_KEEP = 3  # checkpoints of a section, as the worker keeps them
_LARGEST = 5_000_000_000  # bytes that S3 takes in one request
_STATE = frozenset({"lease.json", "exit.json", "stopped.json", "hyperparameters.json"})
_LOG = frozenset({"stdout.log"})
_OUTCOME = re.compile(r"outcome(-\d+)?\.(json|npz)")
_STEP = re.compile(r"\d{8,}(\.\d+)?")
_TEMPORARY = re.compile(r"\..*\.tmp")


@dataclass(frozen=True)
class Object:
    """One object of S3.

    Attributes:
        name: Its key below the folder's, as a path.
        tag: Changes with its content.
        size: In bytes.
    """

    name: str
    tag: str
    size: int


class Mirror:
    """One Braket job's folder.

    Args:
        session: The way to S3.
        folder: The one here.
        run: Which Braket job; says where it lies there.
        is_bought: What the job buys is paid for; otherwise it counts among what was bought at emulators.
        place: Where it lies there, before the run says it.
    """

    def __init__(self, session: Session, folder: JobFolder, run: Run, *, is_bought: bool = True, place: str = "") -> None:
        self._session, self._folder, self._run, self._is_bought = session, folder, run, is_bought
        self._bucket, self._prefix = split_place(place or run.folder_place)
        self._known: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError, FolderCorrupt):  # then all of it is taken again
            self._known = dict(read_json(run.files))

    # From there ----------------------------------------------------------------------------------------------------------------

    def pull(self, *, logs: bool = False) -> list[Object]:
        """Take what is new and whole, except for the outcome.

        Args:
            logs: Also the log, because it cannot be read from where it comes line by line.

        Returns:
            All objects that are there.
        """
        listed = self._listed()
        before = dict(self._known)
        checkpoints: dict[str, list[Object]] = {}
        for found in listed:
            parts = PurePosixPath(found.name).parts
            if parts[0] == "checkpoints" and len(parts) == 3 and _STEP.fullmatch(parts[1]):
                checkpoints.setdefault(parts[1], []).append(found)
            elif self._known.get(found.name) == found.tag:
                continue
            elif _is_of_attempt(parts, _STATE):
                self._take(found, is_sealed if parts[2] != "hyperparameters.json" else _is_any)
            elif found.name == "metrics.jsonl" or _is_of_attempt(parts, {"loops.jsonl"}) or (logs and _is_of_attempt(parts, _LOG)):
                self._grow(found)
            elif found.name == SNAPSHOT:
                self._adopt(found)
            elif parts[0] in ("results", "checkpoints") and len(parts) > 1:  # of checkpoints those that programs write themselves
                self._take(found, _is_any)
        self._take_checkpoints(checkpoints)
        if self._known != before:
            write_bytes(self._run.files, dump_json(self._known), durable=False)
        return listed

    def complete_logs(self, listed: Iterable[Object]) -> None:
        """Compare the logs that came line by line with the files, and mend them."""
        for found in listed:
            if not _is_of_attempt(PurePosixPath(found.name).parts, _LOG):
                continue
            path = self._folder.path / found.name
            have = path.stat().st_size if path.exists() else 0
            if found.size > have:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                data = self._read(found)
                if path.exists() and data.startswith(path.read_bytes()):
                    with path.open("ab") as file:
                        file.write(data[have:])
                else:
                    write_bytes(path, data)

    def pull_outcome(self, listed: Iterable[Object]) -> bool:
        """Take the outcome, whole; False if there is none (or none that is whole).

        Raises:
            FolderCorrupt: Its arrays are missing or differ.
        """
        there = {found.name: found for found in listed if _OUTCOME.fullmatch(found.name)}
        if "outcome.json" not in there or self._folder.outcome.exists():
            return self._folder.outcome.exists()
        data = self._read(there["outcome.json"])
        if not is_sealed(data):
            return False
        arrays = json.loads(data).get("arrays")
        if arrays:
            name = str(arrays["file"])
            content = self._read(there[name]) if name in there and _OUTCOME.fullmatch(name) else b""
            if hashlib.sha256(content).hexdigest() != arrays["sha256"]:
                raise FolderCorrupt(f"The arrays of the job's result, {self._run.folder_place}/{name}, are missing there or damaged.")
            write_bytes(self._folder.path / name, content)
        write_once(self._folder.outcome, data)
        return True

    def _listed(self) -> list[Object]:
        """What is there that may be of interest, sorted by name."""
        prefix = f"{self._prefix}/"
        told = ((str(one["Key"]).removeprefix(prefix), one) for one in self._session.objects(self._bucket, prefix))
        found = [Object(name, str(one["ETag"]), int(one["Size"])) for name, one in told if _is_safe(name)]
        return sorted(found, key=lambda one: one.name)

    def _read(self, found: Object) -> bytes:
        return self._session.read(self._bucket, f"{self._prefix}/{found.name}")

    def _take(self, found: Object, is_good: Callable[[bytes], bool]) -> None:
        target = self._folder.path / found.name
        if not target.parent.resolve().is_relative_to(self._folder.path.resolve()):
            return  # a link of somebody's leads out of the folder
        data = self._read(found)
        if is_good(data):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_bytes(target, data, durable=False)
            self._known[found.name] = found.tag

    def _grow(self, found: Object) -> None:
        """A file that only gets longer: what is missing here is added."""
        target = self._folder.path / found.name
        have = target.stat().st_size if target.exists() else 0
        if found.size > have:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = self._session.read(self._bucket, f"{self._prefix}/{found.name}", start=have)
            with target.open("ab") as file:
                file.write(data)
        self._known[found.name] = found.tag

    def _adopt(self, found: Object) -> None:
        """Purchases become ours, and the user's, one by one: nothing that is known here is lost."""
        from pl_hybridjobs.braket import allowance
        from pl_hybridjobs.cost import account
        from pl_hybridjobs.cost.ledger import Ledger

        copy = self._run.path / SNAPSHOT
        write_bytes(copy, self._read(found), durable=False)
        try:
            journal = Ledger(copy).entries()
        except HybridJobsError:
            return  # torn; the next one will be whole
        mine = account.of_job(self._folder.path, emulated=None if self._is_bought else True)
        before = mine.cost()
        mine.ledger.adopt(journal)
        for above in mine.parents:
            above.ledger.adopt(journal)
        mine.close()
        allowance.spent(self._folder, self._run, before, is_bought=self._is_bought)
        self._known[found.name] = found.tag

    def _take_checkpoints(self, there: Mapping[str, list[Object]]) -> None:
        """The last few of each section that are whole."""
        heads: dict[str, list[tuple[tuple[float, float], str]]] = {}
        manifests: dict[str, dict[str, Any]] = {}
        for name, objects in there.items():
            manifest = self._manifest(name, objects)
            if manifest is not None:
                manifests[name] = manifest
                order = (float(manifest.get("sequence", 0)), float(manifest.get("time", 0)))
                heads.setdefault(str(manifest.get("section", "")), []).append((order, name))
        for found in heads.values():
            newest = [name for _, name in sorted(found)[-_KEEP:]]
            taken = [self._take_checkpoint(name, manifests[name], there[name]) for name in newest]
            if all(taken):
                for _, name in sorted(found)[:-_KEEP]:
                    shutil.rmtree(self._folder.checkpoints / name, ignore_errors=True)

    def _manifest(self, name: str, objects: Iterable[Object]) -> dict[str, Any] | None:
        found = next((one for one in objects if one.name.endswith("/manifest.json")), None)
        if found is None:
            return None
        cached = self._run.path / "manifests" / f"{name}.json"
        if self._known.get(found.name) != found.tag or not cached.exists():
            data = self._read(found)
            if not is_sealed(data):
                return None
            cached.parent.mkdir(mode=0o700, exist_ok=True)
            write_bytes(cached, data, durable=False)
            self._known[found.name] = found.tag
        return dict(json.loads(cached.read_bytes()))

    def _take_checkpoint(self, name: str, manifest: Mapping[str, Any], objects: Iterable[Object]) -> bool:
        """Whether it is here now. Its bytes are those of the manifest, or it is not taken."""
        final = self._folder.checkpoints / name
        if final.exists():
            return True
        there = {PurePosixPath(one.name).name: one for one in objects}
        files: Mapping[str, Any] = manifest.get("files", {})
        if not all(file in there and there[file].size == record["size"] for file, record in files.items()):
            return False
        self._folder.checkpoints.mkdir(mode=0o700, exist_ok=True)
        with temporary_folder(self._folder.checkpoints, "step-mirrored") as temporary:
            for file, record in files.items():
                data = self._read(there[file])
                if hashlib.sha256(data).hexdigest() != record["sha256"]:
                    return False
                temporary.joinpath(file).write_bytes(data)
            shutil.copy(self._run.path / "manifests" / f"{name}.json", temporary / "manifest.json")
            sync_tree(temporary)
            with contextlib.suppress(FileExistsError):
                rename_folder(temporary, final)
        return True

    # To there ------------------------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Put there what a worker needs to go on: attempts, metrics, checkpoints, results, purchases, changed limits.

        Raises:
            RunnerError: A file is larger than S3 takes at once.
        """
        files = [path for path in (self._folder.metrics, self._folder.budget) if path.exists()]
        files += [path for attempt in self._folder.attempt_list() for path in attempt.path.glob("*.json")]
        for root in (self._folder.checkpoints, self._folder.results):
            files += [path for path in sorted(root.rglob("*")) if path.is_file() and not any(map(_TEMPORARY.fullmatch, path.parts))]
        named = [(path.relative_to(self._folder.path).as_posix(), path) for path in files]
        self._run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if snapshot := self._snapshot():
            named.append((SNAPSHOT, snapshot))
        self._known |= put_files(self._session, self._bucket, self._prefix, named)
        write_bytes(self._run.files, dump_json(self._known), durable=False)

    def _snapshot(self) -> Path | None:
        from pl_hybridjobs.cost.ledger import Ledger

        copy = self._run.path / SNAPSHOT
        copy.unlink(missing_ok=True)
        Ledger(self._folder.path / LEDGER).copy(copy)
        return copy if copy.exists() else None


def put_files(session: Session, bucket: str, prefix: str, files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Upload files, some at once.

    Args:
        session: The way to S3.
        bucket: Where.
        prefix: Before each name.
        files: Name and path of each.

    Returns:
        Name -> the object's tag.

    Raises:
        RunnerError: One is larger than S3 takes at once.
    """

    def put(item: tuple[str, Path]) -> tuple[str, str]:
        name, path = item
        if path.stat().st_size > _LARGEST:
            raise RunnerError(f"{path} has {path.stat().st_size / 1e9:.1f} GB, more than S3 takes in one request: put it into S3 yourself.")
        with path.open("rb") as file:
            reply = session.call("s3", "put_object", Bucket=bucket, Key=f"{prefix}/{name}", Body=file)
        return name, str(reply["ETag"])

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hybridjobs-upload") as pool:
        return dict(pool.map(put, files))


def _is_safe(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not any(map(_TEMPORARY.fullmatch, parts)) and name[-1] != "/"


def _is_of_attempt(parts: Sequence[str], names: Collection[str]) -> bool:
    """Whether it is an attempt's file of one of these names."""
    return len(parts) == 3 and parts[0] == "attempts" and parts[1].isdecimal() and parts[2] in names


def _is_any(data: bytes) -> bool:
    del data
    return True
