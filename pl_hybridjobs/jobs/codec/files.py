"""The two files of a stored value: strict JSON and an uncompressed ``.npz``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from pl_hybridjobs.errors import CodecError
from pl_hybridjobs.jobs.codec.decoding import decode_tree
from pl_hybridjobs.jobs.codec.encoding import encode

if TYPE_CHECKING:
    import numpy as np

_MAX_NPY_HEADER = 2**20
_PIECE = 2**19  # bytes; the receiver can work on one while the next is made


def dumps(value: Any, *, where: str = "value") -> tuple[bytes, bytes | None]:
    """Encode to the content of a JSON file and, if the value holds arrays, of an ``.npz`` file.

    Equal values give equal bytes.

    Args:
        value: Any nest of the supported types.
        where: What the value is called in errors.

    Raises:
        CodecError: Something in it cannot be stored.
    """
    encoded = encode(value, where=where)
    parts: list[bytes | memoryview] = []
    if encoded.arrays:
        write_npz(encoded.arrays, parts.append)
    return json_bytes(encoded.tree), b"".join(parts) or None


def loads(json_file: bytes, npz_file: bytes | None, *, allow_import: bool = False, where: str = "value") -> Any:
    """Build the value that :func:`dumps` was given.

    Args:
        json_file: The JSON file's content.
        npz_file: The ``.npz`` file's content, if there is one.
        allow_import: As for :func:`decode`.
        where: What the value is called in errors.

    Raises:
        CodecError: The bytes are damaged, or a class or package that they need is not to be had here.
    """
    tree, arrays = read(json_file, npz_file, where=where)
    return decode_tree(tree, arrays, allow_import, where, copy=False)


def read(json_file: bytes, npz_file: bytes | None, *, where: str = "value") -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    """The tree and the arrays that stored bytes hold, for :func:`decode` or :func:`to_plain`.

    Raises:
        CodecError: The bytes are damaged.
    """
    try:
        tree = json.loads(json_file, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{where}: the stored JSON is damaged ({error})") from error
    return tree, {} if npz_file is None else _read_npz(npz_file, where)


def json_bytes(tree: Any) -> bytes:
    """The content of a JSON file that holds an encoded tree."""
    return json.dumps(tree, allow_nan=False, ensure_ascii=False).encode()


def write_npz(arrays: Mapping[str, np.ndarray[Any, Any]], write: Callable[[bytes | memoryview], Any]) -> None:
    """Write an uncompressed ``.npz`` file, without time stamps or anything else that differs between runs.

    Args:
        arrays: By name, as :func:`encode` gives them.
        write: Called with each piece of the file, in order.
    """
    import zipfile

    with zipfile.ZipFile(cast("Any", _Stream(write)), "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.create_system, info.external_attr = 3, 0o600 << 16
            info.file_size = array.nbytes + _MAX_NPY_HEADER  # tells zipfile whether it needs 64-bit sizes
            with archive.open(info, "w") as member:
                for part in _npy_parts(array):
                    for start in range(0, len(part), _PIECE):
                        member.write(part[start : start + _PIECE])


class _Stream:
    """A file for zipfile that can only be written to."""

    def __init__(self, write: Callable[[bytes | memoryview], Any]) -> None:
        self._write = write

    def write(self, data: bytes | memoryview) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def _npy_parts(array: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """The ``.npy`` file of one array: header and content."""
    from numpy.lib import format as npy

    header = io.BytesIO()
    fields = npy.header_data_from_array_1_0(array)
    try:
        npy.write_array_header_1_0(header, fields)
    except ValueError:  # long or not Latin-1: many fields, or names in other scripts
        npy.write_array(header, array, version=(3, 0), allow_pickle=False)  # numpy warns if it has to find the version itself
        yield header.getbuffer()
        return
    yield header.getbuffer()
    yield memoryview(array.tobytes("F" if fields["fortran_order"] else "C"))


def _read_npz(data: bytes, where: str) -> dict[str, np.ndarray[Any, Any]]:
    import zipfile

    from numpy.lib import format as npy

    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{info.filename} is compressed")
                member = io.BytesIO(archive.read(info))
                arrays[info.filename.removesuffix(".npy")] = npy.read_array(member, allow_pickle=False, max_header_size=_MAX_NPY_HEADER)
    except Exception as error:  # the parsers raise nearly anything on damaged bytes
        raise CodecError(f"{where}: the stored arrays are damaged ({error})") from error
    return arrays


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
