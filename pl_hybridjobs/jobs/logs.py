"""A job's output: lines with their times, written by the supervisor, readable while they come.

One file for each attempt. A line of it is ``2026-11-21T01:23:45.678901Z`` (UTC, never going back), a blank, and the text; lines of our
own (a kill, a timeout) begin with ``--``. No line holds a character that could break it in two or steer a terminal, save colours.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

_LONGEST_LINE = 1 << 16
_TAIL_BLOCK = 1 << 16
# How often the present state of a progress bar is written, which else would be seen only at its end.
_PROGRESS_EVERY_S = 5.0
# Escape sequences that move the cursor or erase (progress bars): they mean nothing in a log. Colours ("m") stay.
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-HJKSTfhlnsu]")
# Control characters other than tab and the escape of a colour, and whatever else ends a line somewhere.
_HARMFUL = re.compile(r"[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029]|\x1b(?!\[[0-9;:]*m)")


class LogWriter:
    """Splits a stream of bytes into lines and writes each with the time when it came. Safe to use from threads.

    Of a line that rewrites itself by carriage returns (a progress bar) what stands at its end is kept, and while it runs its state every
    five seconds. A full disk does not disturb the writer: the next line that can be written says how many were lost.

    Args:
        path: The log file; appended to.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._held = b""
        self._held_since = 0.0
        self._rewrites = False  # the line that is held is a progress bar
        self._progress_at = 0.0
        self._last = ""
        self._lost = 0
        self._torn = False
        # Reentrant: a signal handler may print while its own thread is printing.
        self._lock = threading.RLock()

    def feed(self, data: bytes) -> None:
        """Take raw bytes as they come from the pipe."""
        with self._lock:
            *lines, rest = (self._held + data).split(b"\n")
            if rest and (lines or not self._held):
                self._held_since = time.monotonic()
            self._rewrites = b"\r" in rest or (self._rewrites and not lines)
            self._write(lines)
            # What a progress bar has written over is gone. A return at the very end may be the first half of a line end.
            self._held = rest[rest.rfind(b"\r", 0, -1) + 1 :]
            while len(self._held) > _LONGEST_LINE:
                self._write([self._cut(_LONGEST_LINE)])

    def note(self, text: str) -> None:
        """A line of our own, marked as such, after what has come so far."""
        with self._lock:
            self._flush()
            self._write([f"-- {line}".encode(errors="backslashreplace") for line in text.splitlines()])

    def flush_partial(self, older_than_s: float = 0.5) -> None:
        """Write a line that has no end yet, if its beginning came so long ago."""
        with self._lock:
            now = time.monotonic()
            if not self._held or now - self._held_since < older_than_s:
                return
            if not self._rewrites:
                self._flush()
            elif now >= self._progress_at:
                self._progress_at = now + _PROGRESS_EVERY_S
                self._write([self._held])

    def flush(self) -> None:
        """Write a line that has no end yet."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write what is held, and close the file. What comes later is dropped."""
        with self._lock:
            self._write([self._held] if self._held else [])
            self._held = b""
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _flush(self) -> None:
        if self._held:
            self._write([self._cut(len(self._held))] if _whole(self._held) else [])

    def _cut(self, size: int) -> bytes:
        """Take at most ``size`` bytes of what is held, without cutting a character in two."""
        size = _whole(self._held[:size]) or size
        line, self._held = self._held[:size], self._held[size:]
        return line

    def _write(self, lines: Sequence[bytes]) -> None:
        if not lines or self._fd is None:
            return
        self._last = max(self._last, datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))
        texts = [_clean(part) for line in lines for part in _pieces(line)]
        if self._lost:
            texts.insert(0, f"-- {self._lost} lines are lost: the disk was full or failed")
        data = memoryview(b"\n" * self._torn + "".join(f"{self._last} {text}\n" for text in texts).encode())
        try:
            while data:
                written = os.write(self._fd, data)
                data = data[written:]
                self._torn = bool(data)
            self._lost = 0
        except OSError:  # a log that cannot be written must not kill a healthy job; the next line says it
            self._lost += len(texts) - bool(self._lost)


def _whole(data: bytes) -> int:
    """How many bytes there are without a UTF-8 character that has only begun at the end."""
    for back in range(1, min(4, len(data) + 1)):
        lead = data[-back]
        if lead & 0xC0 != 0x80:
            length = 2 if lead >> 5 == 0b110 else 3 if lead >> 4 == 0b1110 else 4 if lead >> 3 == 0b11110 else 1
            return len(data) - back if length > back else len(data)
    return len(data)


def _pieces(line: bytes) -> Iterator[bytes]:
    while len(line) > _LONGEST_LINE:
        size = _whole(line[:_LONGEST_LINE])
        yield line[:size]
        line = line[size:]
    yield line


def _clean(line: bytes) -> str:
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="backslashreplace")
    return _HARMFUL.sub(_escaped, _MOVES.sub("", text))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class StreamTee(io.TextIOBase):
    """A text stream that writes to another stream and to a log (for jobs in this process).

    Once the log is closed, it is the other stream alone: a logging handler may hold it for longer than the job runs.

    Args:
        original: Where the text goes as well.
        log: The log.
    """

    def __init__(self, original: IO[str] | io.TextIOBase, log: LogWriter) -> None:
        self._original = original
        self._log = log
        self._bytes = _BytesTee(self)

    def write(self, text: str, /) -> int:
        """Write to both."""
        self._original.write(text)
        self._log.feed(text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Flush the original."""
        self._original.flush()

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """As the original."""
        return self._original.isatty()

    def fileno(self) -> int:
        """As the original; what is written there does not come to the log."""
        return self._original.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override] # the base class has an attribute that cannot be set
        """As the original."""
        return getattr(self._original, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> io.RawIOBase:
        """For programs that write bytes to ``sys.stdout.buffer``."""
        return self._bytes


class _BytesTee(io.RawIOBase):
    def __init__(self, stream: StreamTee) -> None:
        self._stream = stream
        # Over the whole life, so that a character may come in two writes; undecodable bytes are shown escaped.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")

    def write(self, data: Any, /) -> int:
        self._stream.write(self._decoder.decode(data))
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True


def read_log(paths: Sequence[Path]) -> str:
    """The logs of all attempts, in order, each later one under a line that says so."""
    parts: list[str] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if path != paths[0]:
                parts.append(f"{_heading(path)}\n")
            if data:
                parts.append(data.decode(errors="replace").rstrip("\n") + "\n")
    return "".join(parts)


def tail(paths: Sequence[Path], lines: int = 20, *, timestamps: bool = False) -> str:
    """The last lines of the newest log that has any. Reads only the end of the file.

    Args:
        paths: The log files, in order.
        lines: How many at most.
        timestamps: Keep the times at the lines' beginnings.
    """
    for path in reversed(paths):
        with contextlib.suppress(FileNotFoundError):
            found = _last_lines(path, lines)
            if found:
                return "\n".join(found if timestamps else [line.partition(" ")[2] for line in found])
    return ""


def _last_lines(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        length = 0
        while True:
            length = min(max(length * 4, _TAIL_BLOCK), end)
            file.seek(end - length)
            found = file.read(length).removesuffix(b"\n").split(b"\n")
            if length == end or len(found) > lines:  # more, because the first may lack its beginning
                break
    found = found if found != [b""] else []
    return [line.decode(errors="replace") for line in found[len(found) - min(lines, len(found)) :]]


def follow(paths: Callable[[], Sequence[Path]], is_over: Callable[[], bool], poll_s: float = 0.1) -> Iterator[str]:
    """Whole lines as they come, over all attempts; ends with one more read after ``is_over()`` has become true.

    Args:
        paths: The log files so far, in order; they need not exist yet. Asked again, so that later attempts are picked up.
        is_over: Whether nothing more will be written.
        poll_s: Seconds between two looks.
    """
    index, position, rest = 0, 0, b""
    while True:
        over = is_over()
        now = paths()
        while index < len(now):
            data = read_from(now[index], position)
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            # A log with a successor gets no more lines, and neither does any once the job is over.
            complete = index + 1 < len(now)
            if rest and (complete or over):
                lines.append(rest)
            for line in lines:
                yield line.decode(errors="replace")
            if not complete:
                break
            index, position, rest = index + 1, 0, b""
            yield _heading(now[index])
        if over:
            return
        time.sleep(poll_s)


def read_from(path: Path, position: int) -> bytes:
    """What a file that grows has from a position on; nothing while it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""


def _heading(path: Path) -> str:
    return f"-- attempt {path.parent.name}"
