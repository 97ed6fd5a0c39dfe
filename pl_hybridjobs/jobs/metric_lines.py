"""Reading ``metrics.jsonl``: lines to columns, one by one or, for long files, many at once with numpy.

Both ways give the same numbers to the last bit. The fast one looks only at lines whose checksum is right, so it knows their form:
``[crc,seq,attempt,"name",value,step,time]`` as ``MetricWriter`` writes it. Any other line goes the slow way.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pl_hybridjobs.jobs.durable import PLANTED_BUG

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CRC_BASE = 1 << 32  #: added to each CRC-32, so that it always has ten digits
COLUMNS = b'["crc","seq","attempt","name","value","step","time"]\n'
NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
BEGIN, REWIND = -1, -2  #: what stands in the place of a name's number in the two kinds of lines that are no records
_REST = 12  # where the part of a line begins that the checksum covers: after "[4294967296,"
_BLOCK = 1 << 22  # fits into the processor's cache together with what is made of it
_MANY = 1 << 16  # bytes from which on the fast way is worth it
_LONGEST_LINE = 512  # longer ones go the slow way: a block takes as many steps as its longest line has words
_LONGEST_NUMBER = 22  # characters without sign and exponent; then all digits fit into 64 bits


def parse(line: bytes) -> list[Any] | None:
    """One line's row of seven; None if the line is torn or damaged (or the header)."""
    try:
        row = json.loads(line)
        good = isinstance(row, list) and len(row) == 7 and row[0] == CRC_BASE + zlib.crc32(line[_REST:])
    except (ValueError, TypeError, RecursionError):
        return None
    if PLANTED_BUG == "checksum":  # proves that the torture suite notices when damage is not
        good = isinstance(row, list) and len(row) == 7
    return row if good else None


@dataclass(frozen=True)
class Rows:
    """All good rows of a file, column by column; each array has shape (rows,), in the order of the file."""

    seq: Array
    attempt: Array
    code: Array  #: index into ``names``, or ``BEGIN`` or ``REWIND``
    value: Array
    step: Array
    time: Array
    names: tuple[str, ...]
    problems: tuple[str, ...]


class _Part(NamedTuple):
    """The rows of a block. ``seq``, ``attempt``, ``code`` and ``step`` are int64, ``value`` and ``time`` float64."""

    columns: tuple[Array, Array, Array, Array, Array, Array]
    names: list[str]
    bad: int


def read_rows(path: Path) -> Rows:
    """Read a file; one that is not there yet has no rows."""
    import numpy as np

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    # A last line without its end may be whole all the same, and may be growing right now.
    data, newline, last = data.rpartition(b"\n")
    data += newline
    torn = bool(last) and parse(last) is None
    if last and not torn:
        data += last + b"\n"
    parts = _parts(data)
    codes: dict[str, int] = {}
    columns = []
    for part in parts:
        table = np.array([codes.setdefault(name, len(codes)) for name in part.names] + [REWIND, BEGIN], dtype=np.int64)
        columns.append((*part.columns[:2], table[part.columns[2]], *part.columns[3:]))
    seq, attempt, code, value, step, time = (np.concatenate(column) for column in zip(*columns, strict=True))
    problems = []
    bad = sum(part.bad for part in parts)
    if bad:
        problems.append(f"{bad} of {bad + len(seq)} lines of {path.name} are damaged and left out")
    if torn:
        problems.append(f"the last line of {path.name} has no end (its writer was killed, or is writing now) and is left out")
    return Rows(seq, attempt, code, value, step, time, tuple(codes), tuple(problems))


def _parts(data: bytes) -> list[_Part]:
    if len(data) < _MANY or PLANTED_BUG == "checksum" or sys.byteorder != "little":
        return [_slow(data.split(b"\n"))]
    blocks = list(_blocks(data))
    if len(blocks) == 1:
        return [_fast(blocks[0])]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # numpy lets go of the interpreter's lock
        return list(pool.map(_fast, blocks))


def _blocks(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", min(start + _BLOCK, len(data) - 1)) + 1
        yield data[start:end]
        start = end


def _slow(lines: list[bytes]) -> _Part:
    """Rows of lines, one by one. Blank lines and headers are no damage."""
    import numpy as np

    rows = []
    codes: dict[str, int] = {}
    bad = 0
    for line in lines:
        if not line or line == COLUMNS[:-1]:
            continue
        row = parse(line)
        if row is None:
            bad += 1
            continue
        _, seq, attempt, name, value, step, time = row
        if name is None:
            rows.append((seq, attempt, BEGIN if value == "begin" else REWIND, 0.0, step, time))
        else:
            rows.append((seq, attempt, codes.setdefault(name, len(codes)), NON_FINITE.get(value, value), step, time))
    kinds = (np.int64, np.int64, np.int64, np.float64, np.int64, np.float64)
    columns = zip(*rows, strict=True) if rows else [()] * 6
    made = tuple(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))
    return _Part(made, list(codes), bad)  # type: ignore[arg-type] # six, by `kinds`


def _fast(block: bytes) -> _Part:
    """Rows of a block of whole lines, all at once."""
    import numpy as np

    data = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.append(0, ends[:-1] + 1)
    commas = np.flatnonzero(data == ord(","))
    first = np.searchsorted(commas, starts)
    after = np.append(first[1:], len(commas))
    regular = np.flatnonzero((after - first >= 6) & (ends - starts > 2 * _REST) & (ends - starts < _LONGEST_LINE))
    comma = commas[first[regular][:, None] + [0, 1, 2]]  # a name may hold commas: three from the left, ...
    comma_r = commas[after[regular][:, None] - [3, 2, 1]]  # ... three from the right
    start, end = starts[regular], ends[regular]
    # Where a mark stands in the place of a name there is no quote.
    good = (comma[:, 0] == start + _REST - 1) & (data[np.minimum(comma[:, 2] + 1, len(data) - 1)] == ord('"'))
    good &= _whole_numbers(data, start + 1, start + _REST - 1) - CRC_BASE == _checksums(block, start + _REST, end)
    regular, comma, comma_r, end = regular[good], comma[good], comma_r[good], end[good]
    other = np.setdiff1d(np.arange(len(starts)), regular, assume_unique=True)
    rest = _slow([block[a:b] for a, b in zip(starts[other].tolist(), ends[other].tolist(), strict=True)])
    if not len(regular):
        return rest
    names, code = _names(block, comma[:, 2] + 1, comma_r[:, 0])
    columns = (
        _whole_numbers(data, comma[:, 0] + 1, comma[:, 1]),
        _whole_numbers(data, comma[:, 1] + 1, comma[:, 2]),
        code,
        _numbers(block, comma_r[:, 0] + 1, comma_r[:, 1]),
        _whole_numbers(data, comma_r[:, 1] + 1, comma_r[:, 2]),
        _numbers(block, comma_r[:, 2] + 1, end - 1),
    )
    if not len(other):
        return _Part(columns, names, 0)
    return _merged(_Part(columns, names, 0), regular, rest, [i for i in other.tolist() if parse(block[starts[i] : ends[i]])])


def _merged(part: _Part, places: Array, rest: _Part, rest_places: list[int]) -> _Part:
    """Two sets of rows of one block, in the order of the file."""
    import numpy as np

    shift = len(part.names)
    rest_code = np.where(rest.columns[2] >= 0, rest.columns[2] + shift, rest.columns[2])
    order = np.argsort(np.append(places, rest_places), kind="stable")
    more = (*rest.columns[:2], rest_code, *rest.columns[3:])
    columns = tuple(np.append(mine, theirs)[order] for mine, theirs in zip(part.columns, more, strict=True))
    return _Part(columns, [*part.names, *rest.names], rest.bad)  # type: ignore[arg-type] # six again


def _words(block: bytes, kind: str) -> Array:
    """The block as little-endian numbers of several bytes, one from each offset; short of the end by one number."""
    import numpy as np

    size = np.dtype(kind).itemsize
    return np.ndarray((len(block) - size + 1,), kind, block, strides=(1,))


def _whole_numbers(data: Array, start: Array, end: Array) -> Array:
    """Decimal digits as int64, shape (rows,)."""
    import numpy as np

    width = end - start
    value = np.zeros(len(start), dtype=np.int64)
    for place in range(int(width.max(initial=0)), 0, -1):
        digit = data[np.maximum(end - place, 0)].astype(np.int64) - ord("0")
        value = np.where(width >= place, value * 10 + digit, value)
    return value


def _numbers(block: bytes, start: Array, end: Array) -> Array:
    """What ``repr(float)`` writes as float64, shape (rows,), correctly rounded.

    All digits as one integer, which is exact, divided by a power of ten, which is exact too, give the number rounded to 64 bits.
    Rounding that to 53 bits is right unless it lies exactly in the middle between two; those and irregular ones go to ``float``.
    """
    import numpy as np

    powers = _powers_of_ten()
    if powers is None:
        return np.array([float(block[a:b].strip(b'"')) for a, b in zip(start.tolist(), end.tolist(), strict=True)])
    data = np.frombuffer(block, dtype=np.uint8)
    negative = data[start] == ord("-")
    begin = start + negative
    has_exponent = data[end - 4] == ord("e")  # of two digits; with three, the letter is met below
    has_exponent &= end - 4 > begin
    exponent = (data[end - 2].astype(np.int64) - ord("0")) * 10 + data[end - 1] - ord("0")
    exponent = np.where(has_exponent, np.where(data[end - 3] == ord("-"), -exponent, exponent), 0)
    stop = np.where(has_exponent, end - 4, end)
    width = stop - begin
    odd = width > _LONGEST_NUMBER
    digits = np.zeros(len(start), dtype=np.uint64)
    seen_point = np.zeros(len(start), dtype=bool)
    for place in range(min(int(width.max()), _LONGEST_NUMBER)):
        character = data[np.minimum(begin + place, stop)]
        inside = place < width
        digit = character - np.uint8(ord("0"))
        is_digit = (digit < 10) & inside
        digits = np.where(is_digit, digits * np.uint64(10) + digit, digits)
        exponent -= is_digit & seen_point
        is_point = (character == ord(".")) & inside
        odd |= inside & ~is_digit & ~is_point
        seen_point |= is_point
    odd |= np.abs(exponent) >= len(powers)
    power = powers[np.where(odd, 0, np.abs(exponent))]
    exact = digits.astype(np.longdouble)
    exact = np.where(exponent < 0, exact / power, exact * power)
    odd |= exact.view(np.uint64)[::2] & np.uint64(0x7FF) == 0x400
    value = exact.astype(np.float64)
    value = np.where(negative, -value, value)
    at = np.flatnonzero(odd)
    value[at] = [float(block[a:b].strip(b'"')) for a, b in zip(start[at].tolist(), end[at].tolist(), strict=True)]
    return value


@functools.cache
def _powers_of_ten() -> Array | None:
    """1 to 10**27, exact; None where numpy's long double has no mantissa of 64 bits (other than on x86)."""
    import numpy as np

    if np.finfo(np.longdouble).nmant != 63 or np.dtype(np.longdouble).itemsize != 16:
        return None
    return np.cumprod(np.array([1] + [10] * 27, dtype=np.longdouble))


def _names(block: bytes, start: Array, end: Array) -> tuple[list[str], Array]:
    """The distinct names (JSON strings) and the index of each row's name, shape (rows,)."""
    import numpy as np

    width = end - start
    words = _words(block, "<u8")
    masks = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
    mixer = np.uint64(0x9E3779B97F4A7C15)
    key = width.astype(np.uint64) * mixer
    for offset in range(0, int(width.max()), 8):
        word = words[np.minimum(start + offset, len(words) - 1)] & masks[np.clip(width - offset, 0, 8)]
        key = (key ^ word) * mixer
        key ^= key >> np.uint64(29)
    _, first, code = np.unique(key, return_index=True, return_inverse=True)
    names = [json.loads(block[start[i] : end[i]]) for i in first.tolist()]
    return names, code


def _checksums(block: bytes, start: Array, end: Array) -> Array:
    """CRC-32 of each row's bytes from ``start`` to ``end`` as int64, shape (rows,); at least four bytes each.

    Four bytes in a step, from a common right edge: zeros before a row's first byte leave the register at zero. (Table-driven as in
    D. V. Sarwate, Comm. ACM 31, 1008 (1988), with two tables of 16 bits.)
    """
    import numpy as np

    low, high = _crc_tables()
    words = _words(block, "<u4")
    # By how many bytes a word begins before (negative) or after the row's start: what of it counts, what is inverted at first.
    counts = np.array([0xFFFFFFFF] * 5 + [0xFFFFFF00, 0xFFFF0000, 0xFF000000, 0], dtype=np.uint32)
    inverted = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF, 0xFFFFFF00, 0xFFFF0000, 0xFF000000, 0], dtype=np.uint32)
    width = end - start
    least = int(width.min(initial=0))
    state = np.zeros(len(start), dtype=np.uint32)
    for back in range(-(-int(width.max(initial=0)) // 4) * 4, 0, -4):
        place = end - back
        if back > least - 4:
            before = np.clip(start - place, -4, 4) + 4
            word = words[np.maximum(place, 0)] & counts[before] ^ inverted[before]
        else:
            word = words[place]
        state ^= word
        state = low[state & np.uint32(0xFFFF)] ^ high[state >> np.uint32(16)]
    return (~state).astype(np.int64)


@functools.cache
def _crc_tables() -> tuple[Array, Array]:
    """What four zero bytes do to a register of CRC-32, for each low and each high half: two uint32 arrays of shape (65536,)."""
    import numpy as np

    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, np.uint32(0xEDB88320) ^ (byte >> 1), byte >> 1)
    half = np.arange(1 << 16, dtype=np.uint32)
    tables = []
    for state in (half, half << np.uint32(16)):
        for _ in range(4):
            state = byte[state & 0xFF] ^ (state >> np.uint32(8))
        tables.append(state)
    return tables[0], tables[1]
