"""A job's output: lines with their times, written by the supervisor, readable while they come."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_LONGEST_LINE = 1 << 16
_TAIL_BLOCK = 1 << 16
# Control characters that could do something to a terminal, other than tab and the escape of colours.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


class LogWriter:
    """Splits a stream of bytes into lines and writes each with the time when it came.

    Of a line that rewrites itself by carriage returns (a progress bar), what stands at its end is kept.

    Args:
        path: The log file; appended to.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._held = b""
        self._held_since = 0.0
        self._last = ""
        self._lock = threading.Lock()

    def feed(self, data: bytes) -> None:
        """Take raw bytes as they come from the pipe."""
        with self._lock:
            *lines, rest = (self._held + data).split(b"\n")
            if rest and (lines or not self._held):
                self._held_since = time.monotonic()
            self._held = rest
            self._write(lines)
            while len(self._held) > _LONGEST_LINE:
                self._write([self._held[:_LONGEST_LINE]])
                self._held = self._held[_LONGEST_LINE:]

    def note(self, text: str) -> None:
        """A line of our own, marked as such."""
        with self._lock:
            self._write([f"-- {text}".encode()])

    def flush_partial(self, older_than_s: float = 0.5) -> None:
        """Write a line that has no end yet, if it has waited for so long."""
        with self._lock:
            if self._held and time.monotonic() - self._held_since >= older_than_s and b"\r" not in self._held:
                self._write([self._held])
                self._held = b""

    def flush(self) -> None:
        """Write what is held, whether its line has ended or not."""
        with self._lock:
            if self._held:
                self._write([self._held])
                self._held = b""

    def close(self) -> None:
        """Write what is held, and close the file."""
        self.flush()
        os.close(self._fd)

    def _write(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        self._last = max(self._last, datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))
        text = "".join(f"{self._last} {_clean(part)}\n" for line in lines for part in _pieces(line))
        data = memoryview(text.encode())
        while data:
            data = data[os.write(self._fd, data) :]


def _pieces(line: bytes) -> Iterator[bytes]:
    for start in range(0, max(len(line), 1), _LONGEST_LINE):
        yield line[start : start + _LONGEST_LINE]


def _clean(line: bytes) -> str:
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    return _HARMFUL.sub(lambda m: f"\\x{ord(m[0]):02x}", last.decode(errors="backslashreplace"))


class StreamTee(io.TextIOBase):
    """A text stream that writes to another stream and to a log (for jobs in this process).

    Args:
        original: Where the text goes as well.
        log: The log.
    """

    def __init__(self, original: IO[str] | io.TextIOBase, log: LogWriter) -> None:
        self._original = original
        self._log = log

    def write(self, text: str) -> int:
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
        """As the original."""
        return self._original.fileno()


def read_log(paths: Sequence[Path]) -> str:
    """The logs of all attempts, in order, each later one under a line that says so."""
    parts = []
    for path in paths:
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            continue
        parts.append(text if path == paths[0] else f"-- attempt {path.parent.name}\n{text}")
    return "".join(parts)


def tail(paths: Sequence[Path], lines: int = 20, *, timestamps: bool = False) -> str:
    """The last lines of the newest log that has any. Reads only the end of the file."""
    for path in reversed(paths):
        try:
            with path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BLOCK))
                found = file.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            continue
        if found:
            return "\n".join(found if timestamps else [line.partition(" ")[2] for line in found])
    return ""


def follow(paths: Callable[[], Sequence[Path]], is_over: Callable[[], bool], poll_s: float = 0.1) -> Iterator[str]:
    """Lines as they come, over all attempts; ends with one more read after ``is_over()`` has become true.

    Args:
        paths: The log files so far, in order. Asked again, so that later attempts are picked up.
        is_over: Whether nothing more will be written.
        poll_s: Seconds between two looks.
    """
    index, position, rest = 0, 0, b""
    while True:
        over = is_over()
        while True:
            now = list(paths())
            if index < len(now) and now[index].exists():
                with now[index].open("rb") as file:
                    file.seek(position)
                    data = file.read()
                position += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if index + 1 >= len(now):
                break
            if rest:
                yield rest.decode(errors="replace")
            index, position, rest = index + 1, 0, b""
            yield f"-- attempt {now[index].parent.name}"
        if over:
            if rest:
                yield rest.decode(errors="replace")
            return
        time.sleep(poll_s)
