"""Results and checkpoints as Amazon Braket writes them: files of the schema ``braket.jobs_data.persisted_job_data``, version 1.

Unlike there, a file is replaced in one step: a value that cannot be written leaves what was there, and so does a kill.
"""

from __future__ import annotations

import codecs
import contextlib
import datetime
import decimal
import enum
import json
import pathlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pl_hybridjobs.compat.braket.config import PersistedJobDataFormat
from pl_hybridjobs.compat.braket.environment_variables import get_checkpoint_dir, get_job_name, get_results_dir
from pl_hybridjobs.errors import CodecError, InvalidCall
from pl_hybridjobs.jobs import contract
from pl_hybridjobs.jobs.context import current_job
from pl_hybridjobs.jobs.contract import RESULTS, SCHEMA
from pl_hybridjobs.jobs.durable import write_bytes

_ALIASES = {"plaintext": PersistedJobDataFormat.PLAINTEXT, "pickle": PersistedJobDataFormat.PICKLED_V4}


def save_job_checkpoint(
    checkpoint_data: dict[str, Any],
    checkpoint_file_suffix: str = "",
    data_format: PersistedJobDataFormat | str = PersistedJobDataFormat.PLAINTEXT,
) -> None:
    """Save a checkpoint to ``<checkpoint folder>/<job name>[_<suffix>].json``, durably and in one step.

    In a job this is also where a wish to stop is followed (``cancel()``, SIGTERM), after the save.

    Args:
        checkpoint_data: Not empty. As plaintext: what JSON holds; arrays become lists, tuples too.
        checkpoint_file_suffix: Tells several checkpoints of a job apart.
        data_format: The enum's member, or its name: ``"plaintext"``, ``"pickle"``.

    Raises:
        ValueError: There is nothing to save, or no such format.
        CodecError: A value does not fit plaintext (a ``TypeError``, too); the file that was there stays.
        StoreError: The disk refuses.
        Fenced: A newer attempt owns the job.
    """
    if not checkpoint_data:
        raise InvalidCall("save_job_checkpoint", ["The checkpoint_data argument cannot be empty."])
    written = Persisted.of(checkpoint_data, format_of(data_format), "checkpoint_data").to_json()
    _write(_checkpoint_file(get_job_name(), checkpoint_file_suffix), written)
    context = current_job()
    if context:
        context.stop.at_boundary = True
        context.stop.check()


def load_job_checkpoint(job_name: str | None = None, checkpoint_file_suffix: str = "", allow_pickle: bool = False) -> dict[str, Any]:
    """Load a checkpoint.

    Args:
        job_name: Whose; None: this job's. After ``copy_checkpoints_from_job`` it is the old job's name.
        checkpoint_file_suffix: As it was saved.
        allow_pickle: Unpickle; pickled data can run any code.

    Raises:
        FileNotFoundError: There is none; the message lists those that are there.
        ValueError: The file is damaged.
        RuntimeError: It holds pickled data, and ``allow_pickle`` is false.
    """
    path = _checkpoint_file(job_name or get_job_name(), checkpoint_file_suffix)
    if not path.exists():
        there = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"There is no checkpoint {path.name} in {path.parent}; there are: {', '.join(there) or 'none'}. "
            "One that was copied from another job has that job's name: load_job_checkpoint(job_name=...)."
        )
    return Persisted.read(path).values(allow_pickle)


def save_job_result(result_data: dict[str, Any] | Any, data_format: PersistedJobDataFormat | str | None = None) -> None:
    """Save results to ``results.json``; they join those that were saved before. Outside a job the file lies in the working folder.

    Args:
        result_data: A dict, or a value, which is then saved as ``{"result": value}``.
        data_format: As for ``save_job_checkpoint``; None: as the file is, plaintext if there is none. What is pickled stays so.

    Raises:
        TypeError: Plaintext is asked for, and the file is pickled.
        CodecError: A value does not fit plaintext (a ``TypeError``, too); the file that was there stays.
        ValueError: There is no such format, or the file that is there is none of this schema.
    """
    wanted = None if data_format is None else format_of(data_format)
    path = Path(get_results_dir()) / RESULTS
    before = Persisted.read(path)
    if before.is_pickled and wanted is PersistedJobDataFormat.PLAINTEXT:
        raise TypeError(f"{path} holds pickled results; further ones cannot be saved as plaintext. Leave data_format out.")
    final = PersistedJobDataFormat.PICKLED_V4 if before.is_pickled else wanted or PersistedJobDataFormat.PLAINTEXT
    if final is PersistedJobDataFormat.PICKLED_V4 and not before.is_pickled:
        before = Persisted.of(before.data, final, RESULTS)
    new = Persisted.of(contract.named(result_data), final, "result")
    _write(path, Persisted({**before.data, **new.data}, final).to_json())


def load_job_result(filename: str | Path | None = None, allow_pickle: bool = False) -> dict[str, Any]:
    """Load results.

    Args:
        filename: A file that ``save_job_result`` wrote; None: this job's.
        allow_pickle: Unpickle; pickled data can run any code.

    Returns:
        The values by name; ``{}`` if there is no such file.

    Raises:
        RuntimeError: It holds pickled data, and ``allow_pickle`` is false.
        ValueError: The file is damaged.
    """
    return Persisted.read(Path(filename or Path(get_results_dir()) / RESULTS)).values(allow_pickle)


def format_of(data_format: object) -> PersistedJobDataFormat:
    """A format by its member (the SDK's own too), value or nickname.

    Raises:
        InvalidCall: There is no such format.
    """
    text = str(getattr(data_format, "value", data_format)).lower()
    if text in _ALIASES:
        return _ALIASES[text]
    try:
        return PersistedJobDataFormat(text)
    except ValueError:
        known = ", ".join(map(repr, (*_ALIASES, PersistedJobDataFormat.PICKLED_V4.value)))
        raise InvalidCall("data_format", [f"there is no format {data_format!r}; known are {known}"]) from None


@dataclass(frozen=True)
class Persisted:
    """The content of a file: values by name, each as the format has it (plaintext: itself; pickled: text)."""

    data: Mapping[str, Any] = field(default_factory=dict)
    data_format: PersistedJobDataFormat = PersistedJobDataFormat.PLAINTEXT

    @property
    def is_pickled(self) -> bool:
        """Whether loading it could run any code."""
        return self.data_format is PersistedJobDataFormat.PICKLED_V4

    @classmethod
    def of(cls, values: Mapping[str, Any], data_format: PersistedJobDataFormat, where: str) -> Persisted:
        """Values, encoded.

        Args:
            values: By name.
            data_format: How.
            where: What holds them, for errors.

        Raises:
            CodecError: One cannot be.
        """
        if data_format is PersistedJobDataFormat.PICKLED_V4:
            return cls({str(name): _pickled(value) for name, value in values.items()}, data_format)
        try:
            json.dumps(values, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            path, problem = _culprit(values, where) or (where, str(error))
            raise CodecError(f"{path} cannot be saved as plaintext: {problem}. data_format='pickle' keeps any value.") from error
        return cls({str(name): value for name, value in values.items()}, data_format)

    @classmethod
    def read(cls, path: Path) -> Persisted:
        """A file; without values if there is none."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{path} is damaged or not of Amazon Braket's format: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Persisted:
        """What ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or not isinstance(found.get("dataDictionary"), dict) or "dataFormat" not in found:
            raise ValueError("it has no dataDictionary and dataFormat")
        if found.get("braketSchemaHeader", SCHEMA) != SCHEMA:
            raise ValueError(f"its schema is {found['braketSchemaHeader']}, not {SCHEMA}")
        return cls(found["dataDictionary"], PersistedJobDataFormat(found["dataFormat"]))

    def to_json(self) -> bytes:
        """As a file's content."""
        return contract.persisted(self.data, self.data_format.value, _plain)

    def values(self, allow_pickle: bool) -> dict[str, Any]:
        """The values themselves.

        Raises:
            RuntimeError: They are pickled, and that is not allowed.
        """
        if not self.is_pickled:
            return dict(self.data)
        if not allow_pickle:
            raise RuntimeError(
                "The values are pickled (PICKLED_V4), and unpickling can run any code. If you trust who wrote them, say so: "
                "job.result(allow_pickle=True), load_job_result(allow_pickle=True), load_job_checkpoint(allow_pickle=True)."
            )
        return {name: pickle.loads(codecs.decode(text.encode(), "base64")) for name, text in self.data.items()}  # noqa: S301 - asked for


def _pickled(value: Any) -> str:
    return codecs.encode(pickle.dumps(value, protocol=4), "base64").decode()


def _plain(value: Any) -> Any:
    """What JSON cannot hold, as what it can."""
    if hasattr(value, "tolist"):  # arrays and scalars of numpy, PennyLane, jax, torch
        return value.tolist()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return float(value) if isinstance(value, decimal.Decimal) else value.total_seconds()
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"it is {type(value).__name__}")


def _culprit(value: Any, path: str) -> tuple[str, str] | None:
    """The path of the first value that JSON cannot hold, and why."""
    try:
        json.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        try:
            inside = list(_inside(value))
        except RecursionError:
            inside = []
        if isinstance(error, ValueError | RecursionError):
            return path, "it contains itself, or is nested too deeply"
        return next((found for label, item in inside if (found := _culprit(item, path + label))), (path, str(error)))
    return None


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{name!r}]", item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", item) for number, item in enumerate(value))


def _checkpoint_file(job_name: str, suffix: str) -> Path:
    return Path(get_checkpoint_dir()) / (f"{job_name}_{suffix}.json" if suffix else f"{job_name}.json")


def _write(path: Path, data: bytes) -> None:
    """Replace a file, as the job's owner if this is a job."""
    context = current_job()
    with contextlib.ExitStack() as held:
        if context.folder is not None:
            held.enter_context(context.folder.fence(context.attempt))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
