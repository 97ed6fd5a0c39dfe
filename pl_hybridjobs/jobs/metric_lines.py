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
from collections.abc import Iterator, Sequence
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


def strict_number(value: float) -> float | str:
    """A number, or its name where JSON has none for it."""
    return value if math.isfinite(value) else str(value)


def parse(line: bytes) -> list[Any] | None:
    """One line's row of seven; None if the line is torn or damaged (or the header)."""
    try:
        row = json.loads(line)
        if not isinstance(row, list) or len(row) != 7 or row[0] == "crc":
            return None
        if PLANTED_BUG == "checksum":  # proves that the torture suite notices when damage is not
            return row
        return row if row[0] == CRC_BASE + zlib.crc32(line[_REST:]) else None
    except (ValueError, TypeError, RecursionError):
        return None


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

    def __len__(self) -> int:
        return len(self.seq)

    def since(self, start: int) -> Rows:
        """The rows from the ``start``-th on."""
        seq, attempt, code, value, step, time = self.columns
        return Rows(seq[start:], attempt[start:], code[start:], value[start:], step[start:], time[start:], self.names, self.problems)

    @property
    def columns(self) -> tuple[Array, Array, Array, Array, Array, Array]:
        """All columns, in the order of a line."""
        return self.seq, self.attempt, self.code, self.value, self.step, self.time


class _Part(NamedTuple):
    """The rows of a block. ``seq``, ``attempt``, ``code`` and ``step`` are int64, ``value`` and ``time`` float64."""

    columns: tuple[Array, Array, Array, Array, Array, Array]
    names: list[str]
    bad: int


def read_rows(path: Path) -> Rows:
    """Read a file; one that is not there yet has no rows."""
    return RowReader(path).read()


class RowReader:
    """Reads a file that grows: each look parses only what came since the one before. Not safe for threads.

    Args:
        path: ``metrics.jsonl``; may not exist yet. One that was replaced or cut is read from its beginning again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._position = 0  # of the first byte that is in no row yet
        self._codes: dict[str, int] = {}
        self._columns: tuple[Array, ...] = _slow([]).columns
        self._bad = 0

    def read(self) -> Rows:
        """All rows that there are now."""
        data = self._news()
        # A last line without its end may be whole all the same, and may be growing right now.
        end = data.rfind(b"\n") + 1
        last = data[end:]
        self._columns = self._with(_parts(data, end)) if end else self._columns
        self._position += end
        torn = bool(last) and parse(last) is None
        columns = self._with([_slow([last])]) if last and not torn else self._columns
        problems = []
        if self._bad:
            problems.append(f"{self._bad} of {self._bad + len(columns[0])} lines of {self._path.name} are damaged and left out")
        if torn:
            problems.append(f"the last line of {self._path.name} has no end (its writer was killed, or is writing now) and is left out")
        seq, attempt, code, value, step, time = columns
        return Rows(seq, attempt, code, value, step, time, tuple(self._codes), tuple(problems))

    def _news(self) -> bytes:
        """What came since the last look."""
        try:
            with self._path.open("rb") as file:
                now = os.fstat(file.fileno())
                identity = now.st_dev, now.st_ino
                if self._identity not in (None, identity) or now.st_size < self._position:
                    self._forget()
                self._identity = identity
                file.seek(self._position)
                return file.read()
        except FileNotFoundError:
            self._forget()
            return b""

    def _with(self, parts: list[_Part]) -> tuple[Array, ...]:
        """The columns so far, and those of further parts."""
        import numpy as np

        columns: list[Sequence[Array]] = [self._columns]
        for part in parts:
            self._bad += part.bad
            table = np.array([self._codes.setdefault(name, len(self._codes)) for name in part.names] + [REWIND, BEGIN], dtype=np.int64)
            columns.append((*part.columns[:2], table[part.columns[2]], *part.columns[3:]))
        return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def _parts(data: bytes, end: int) -> list[_Part]:
    """The rows of ``data[:end]``, which is whole lines."""
    if end < _MANY or PLANTED_BUG == "checksum" or sys.byteorder != "little":
        return [_slow(data[:end].split(b"\n"))]
    blocks = _blocks(data, end)
    threads = min(4, os.cpu_count() or 1, -(-end // _BLOCK))
    if threads == 1:
        return [_fast(block) for block in blocks]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:  # numpy lets go of the interpreter's lock
        return list(pool.map(_fast, blocks))


def _blocks(data: bytes, end: int) -> Iterator[bytes]:
    start = 0
    while start < end:
        stop = data.find(b"\n", min(start + _BLOCK, end - 1)) + 1
        yield data[start:stop]
        start = stop


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
    regular = (after - first >= 6) & (ends - starts > 2 * _REST) & (ends - starts < _LONGEST_LINE)
    regular[0] = False  # eight bytes up to the end of its first number would begin before the block
    # A name may hold commas: three count from the left, three from the right.
    first, after = np.where(regular, first, 0), np.where(regular, after, 6)
    if len(commas) < 6:
        return _slow(block.split(b"\n"))
    comma = [commas[first], commas[first + 1], commas[first + 2], commas[after - 3], commas[after - 2], commas[after - 1]]
    # Where a mark stands in the place of a name there is no quote.
    regular &= (comma[0] == starts + _REST - 1) & (data[np.minimum(comma[2] + 1, len(data) - 1)] == ord('"'))
    at = np.flatnonzero(regular)
    words, high, zeros = _words(block, "<u8"), np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x3030303030303030)
    start = starts[at]
    at = at[(data[start] == ord("[")) & (words[start + 1] & high == zeros) & (words[start + 3] & high == zeros)]  # ten digits
    stored = _whole_numbers(block, starts[at] + 1, starts[at] + _REST - 1)
    at = at[stored - CRC_BASE == _checksums(block, starts[at] + _REST, ends[at])]
    if not len(at):
        return _slow(block.split(b"\n"))
    comma = [place[at] for place in comma]
    names, code = _names(block, comma[2] + 1, comma[3])
    columns = (
        _whole_numbers(block, comma[0] + 1, comma[1]),
        _whole_numbers(block, comma[1] + 1, comma[2]),
        code,
        _numbers(block, comma[3] + 1, comma[4]),
        _whole_numbers(block, comma[4] + 1, comma[5]),
        _numbers(block, comma[5] + 1, ends[at] - 1),
    )
    part = _Part(columns, names, 0)
    regular[:] = False
    regular[at] = True
    other = np.flatnonzero(~regular)
    if not len(other):
        return part
    lines = [block[a:b] for a, b in zip(starts[other].tolist(), ends[other].tolist(), strict=True)]
    places = [place for place, line in zip(other.tolist(), lines, strict=True) if parse(line)]
    return _merged(part, at, _slow(lines), places)


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


def _whole_numbers(block: bytes, start: Array, end: Array) -> Array:
    """Up to 24 decimal digits as one number modulo 2**64: int64, shape (rows,).

    Eight digits in a step: neighbours are joined to pairs, pairs to fours, fours to eight.
    """
    import numpy as np

    words = _words(block, "<u8")
    # The first character is the lowest byte: what stands before the number is blanked from there.
    counts = np.array([(1 << 64) - (1 << 8 * (8 - n)) if n < 8 else (1 << 64) - 1 for n in range(9)], dtype=np.uint64)
    width = end - start
    value = np.zeros(len(start), dtype=np.uint64)
    for right in range(0, int(width.max(initial=0)), 8):
        word = words[np.maximum(end - (right + 8), 0)]
        word &= counts[np.clip(width - right, 0, 8)]
        word &= np.uint64(0x0F0F0F0F0F0F0F0F)
        word *= np.uint64(10 << 8 | 1)
        word >>= np.uint64(8)
        word &= np.uint64(0x00FF00FF00FF00FF)
        word *= np.uint64(100 << 16 | 1)
        word >>= np.uint64(16)
        word &= np.uint64(0x0000FFFF0000FFFF)
        word *= np.uint64(10000 << 32 | 1)
        word >>= np.uint64(32)
        value += word * np.uint64(10**right % (1 << 64))
    return value.view(np.int64)


def _numbers(block: bytes, start: Array, end: Array) -> Array:
    """What ``repr(float)`` writes as float64, shape (rows,), correctly rounded.

    All digits as one integer, which is exact, times or divided by a power of ten, which is exact too, give the number rounded to 64
    bits. Rounding that to 53 bits is right unless it lies exactly in the middle between two; those and irregular ones go to ``float``.
    """
    import numpy as np

    powers = _powers_of_ten()
    if powers is None:
        return np.array([_number(block[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)])
    data = np.frombuffer(block, dtype=np.uint8)
    negative = data[start] == ord("-")
    begin = start + negative
    has_exponent = (data[end - 4] == ord("e")) & (end - 4 > begin)  # of two digits; one of three is irregular
    stop = np.where(has_exponent, end - 4, end)
    odd = (data[start] == ord('"')) | (data[end - 5] == ord("e")) | (stop - begin > _LONGEST_NUMBER)
    points = np.append(np.flatnonzero(data == ord(".")), len(data))
    point = np.minimum(points[np.searchsorted(points, begin)], stop)
    behind = np.maximum(stop - point - 1, 0)
    odd |= behind >= 19
    behind[odd] = 0
    digits = _whole_numbers(block, begin, point) * (10 ** np.arange(19))[behind] + _whole_numbers(block, stop - behind, stop)
    exponent = -behind
    if has_exponent.any():
        written = _whole_numbers(block, end - 2, end)
        exponent += np.where(has_exponent, np.where(data[end - 3] == ord("-"), -written, written), 0)
    odd |= np.abs(exponent) >= len(powers)
    exponent[odd] = 0
    exact = digits.astype(np.longdouble)
    large = np.flatnonzero(exponent > 0)
    multiplied = exact[large] * powers[exponent[large]]
    exponent[large] = 0
    exact /= powers[-exponent]
    exact[large] = multiplied
    odd |= exact.view(np.uint64)[::2] & np.uint64(0x7FF) == 0x400
    value: Array = exact.astype(np.float64)
    value = np.where(negative, -value, value)
    at = np.flatnonzero(odd)
    value[at] = [_number(block[a:b]) for a, b in zip(start[at].tolist(), end[at].tolist(), strict=True)]
    return value


def _number(text: bytes) -> float:
    return float(text.strip(b'"'))


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
    return [json.loads(block[start[i] : end[i]]) for i in first.tolist()], code


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
    least, most = int(width.min(initial=0)), int(width.max(initial=0))
    state = np.zeros(len(start), dtype=np.uint32)
    half = state.view(np.uint16).reshape(-1, 2)
    index = np.empty(len(start), dtype=np.intp)
    shifted = np.empty(len(start), dtype=np.uint32)
    for back in range(-(-most // 4) * 4, 0, -4):
        if back > least - 4:
            before = np.clip(start - end + back, -4, 4) + 4
            state ^= words[np.maximum(end - back, 0)] & counts[before] ^ inverted[before]
        else:
            state ^= words[end - back]
        index[:] = half[:, 0]
        np.take(low, index, out=shifted, mode="clip")
        index[:] = half[:, 1]
        np.take(high, index, out=state, mode="clip")
        state ^= shifted
    return (~state).astype(np.int64)


@functools.cache
def _crc_tables() -> tuple[Array, Array]:
    """What four zero bytes do to a register of CRC-32, for each low and each high half: two uint32 arrays of shape (65536,)."""
    import numpy as np

    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, np.uint32(0xEDB88320) ^ (byte >> 1), byte >> 1)
    half = np.arange(1 << 16, dtype=np.uint32)

    def after_four_zeros(state: Array) -> Array:
        for _ in range(4):
            state = byte[state & 0xFF] ^ (state >> np.uint32(8))
        return state

    return after_four_zeros(half), after_four_zeros(half << np.uint32(16))
