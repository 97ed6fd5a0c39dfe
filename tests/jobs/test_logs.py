from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import statistics
import sys
import threading
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.jobs import logs
from pl_hybridjobs.jobs.logs import LogWriter, StreamTee, follow, read_log, tail

STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")


@pytest.fixture
def path(tmp_path):
    return attempt(tmp_path, 1)


@pytest.fixture
def log(path):
    writer = LogWriter(path)
    yield writer
    writer.close()


def attempt(folder, number):
    made = folder / str(number) / "stdout.log"
    made.parent.mkdir()
    return made


def texts(path):
    """The lines without their times."""
    lines = path.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert all(STAMP.match(line) for line in lines)
    return [line.partition(" ")[2] for line in lines]


# Lines


def test_each_line_gets_the_time_when_it_came_in_utc(path, log):
    before = time.time()
    log.feed(b"first\nsecond\n")

    stamp = path.read_text().partition(" ")[0]
    assert STAMP.match(stamp + " ")
    assert before - 1 < datetime.fromisoformat(stamp).timestamp() < time.time() + 1
    assert texts(path) == ["first", "second"]


def test_a_line_that_comes_in_parts_is_written_as_one(path, log):
    for part in (b"fir", b"st\nsec", b"ond", b"\n"):
        log.feed(part)

    assert texts(path) == ["first", "second"]


def test_the_end_of_the_output_needs_no_newline(path, log):
    log.feed(b"done")
    assert texts(path) == []

    log.close()

    assert texts(path) == ["done"]


def test_a_line_without_an_end_is_shown_after_a_while(path, log):
    log.feed(b"Continue? ")
    log.flush_partial(older_than_s=60)
    assert texts(path) == []

    log.flush_partial(older_than_s=0)
    log.feed(b"yes\n")

    assert texts(path) == ["Continue? ", "yes"]


def test_dos_line_ends_are_line_ends(path, log):
    for part in (b"a\r\nb\r", b"\nc\r\n"):
        log.feed(part)

    assert texts(path) == ["a", "b", "c"]


def test_of_a_progress_bar_the_end_is_kept(path, log):
    for percent in range(0, 101, 5):
        log.feed(b"\r%3d%%" % percent)
    log.feed(b"\nwget 1%\rwget 99%\rwget 100%\r\n10%\r20%\r")
    log.close()

    assert texts(path) == ["100%", "wget 100%", "20%"]


def test_a_running_progress_bar_shows_its_state_now_and_then_not_at_each_step(path, log, monkeypatch):
    for percent in range(100):
        log.feed(b"\r%d%%" % percent)
        log.flush_partial(older_than_s=0)
    monkeypatch.setattr(logs, "_PROGRESS_EVERY_S", 0.0)
    log._progress_at = 0.0
    log.feed(b"\r100%")
    log.flush_partial(older_than_s=0)
    log.feed(b" done\nplain")
    log.flush_partial(older_than_s=0)

    assert texts(path) == ["0%", "100%", "100% done", "plain"]


def test_an_endless_progress_bar_takes_no_memory(log):
    for _ in range(100):
        log.feed(b"\r" + b"#" * 1000)

    assert len(log._held) <= 1001


def test_a_very_long_line_is_cut_into_pieces_of_64_kb_between_characters(path, log):
    text = "é" * 100_000
    for start in range(0, len(text), 999):
        log.feed(text[start : start + 999].encode())
    log.feed(("\n" + "x" + text + "\n").encode())

    found = texts(path)

    assert "".join(found) == text + "x" + text
    assert max(len(piece.encode()) for piece in found) <= 1 << 16
    assert len(found) == 8


def test_a_character_that_came_by_half_waits_for_the_rest(path, log):
    log.feed("naïve".encode()[:3])
    log.flush_partial(older_than_s=0)
    log.feed("naïve".encode()[3:] + b"\n")

    assert texts(path) == ["na", "ïve"]


def test_bytes_that_are_no_text_are_shown_escaped(path, log):
    log.feed(b"\xff\xfe caf\xe9\n")

    assert texts(path) == [r"\xff\xfe caf\xe9"]


def test_control_characters_do_no_harm_and_colours_stay(path, log):
    log.feed("\0 \a \x1b]0;title\x07 \x1b[2J\x1b[1A\x1b[?25l \x1b[1;31mred\x1b[0m \x9b5m tab\there \u2028 \x0c\n".encode())

    assert texts(path) == [r"\x00 \x07 \x1b]0;title\x07  " + "\x1b[1;31mred\x1b[0m" + r" \x9b5m tab" + "\t" + r"here \u2028 \x0c"]


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_lines_stay_lines_whatever_comes_and_however_it_is_cut(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("log") / "stdout.log"
    whole = tmp_path_factory.mktemp("log") / "stdout.log"
    for target, pieces in ((path, parts), (whole, [b"".join(parts)])):
        writer = LogWriter(target)
        for piece in pieces:
            writer.feed(piece)
        writer.close()

    text = path.read_bytes().decode()

    assert texts(path) == texts(whole)
    assert text.splitlines() == text.split("\n")[:-1]


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))))
def test_ordinary_text_comes_through_as_it_is(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("log") / "stdout.log"
    writer = LogWriter(path)
    writer.feed("".join(f"{line}\n" for line in lines).encode())
    writer.close()

    assert texts(path) == lines


def test_a_note_is_marked_and_comes_after_what_has_come(path, log):
    log.feed(b"step 3")
    log.note("killed: ran longer\nthan timeout_s=5")

    assert texts(path) == ["step 3", "-- killed: ran longer", "-- than timeout_s=5"]


def test_times_never_go_back_even_if_the_clock_does(path, log, monkeypatch):
    class Clock:
        hours = iter([12, 11, 13])

        @classmethod
        def now(cls, zone):
            return datetime(2026, 1, 1, next(cls.hours), tzinfo=zone)

    monkeypatch.setattr(logs, "datetime", Clock)
    for _ in range(3):
        log.feed(b"x\n")

    hours = [line[11:13] for line in path.read_text().splitlines()]
    assert hours == ["12", "12", "13"]


def test_threads_may_write_at_once(path, log):
    def work(name):
        for i in range(200):
            log.feed(f"{name} {i}\n".encode())

    threads = [threading.Thread(target=work, args=(n,)) for n in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(texts(path)) == sorted(f"{n} {i}" for n in "abc" for i in range(200))


def test_a_full_disk_does_not_disturb_and_the_log_says_what_is_lost(path, log, monkeypatch):
    write, full = os.write, [True, False, False]

    def sometimes(fd, data):
        if not full:
            return write(fd, data)
        if full.pop():
            raise OSError(28, "No space left on device")
        return write(fd, data[:10])

    log.feed(b"one\n")
    monkeypatch.setattr(os, "write", sometimes)
    log.feed(b"two\nthree\n")
    log.feed(b"four\n")

    lines = path.read_text().splitlines()
    assert len(lines[1]) == 20  # what there was room for, torn
    assert [line.partition(" ")[2] for line in lines[2:]] == ["-- 2 lines are lost: the disk was full or failed", "four"]


def test_nothing_is_written_to_a_closed_log(path, log):
    log.close()
    other = os.open(path.with_name("other"), os.O_WRONLY | os.O_CREAT)  # takes the descriptor's number
    log.feed(b"late\n")
    log.note("late")
    log.close()
    os.close(other)

    assert path.read_bytes() == path.with_name("other").read_bytes() == b""


# Reading


def test_logs_of_all_attempts_are_read_in_order(tmp_path):
    first, missing, third = (attempt(tmp_path, n) for n in (1, 2, 3))
    first.write_bytes("T é\nT torn".encode())
    third.write_text("T b\n")

    assert read_log([first, missing, third]) == "T é\nT torn\n-- attempt 3\nT b\n"
    assert read_log([]) == ""


def test_the_tail_is_of_the_newest_log_that_has_any(tmp_path):
    first, second = attempt(tmp_path, 1), attempt(tmp_path, 2)
    first.write_text("".join(f"T line {n}\n" for n in range(100)))
    second.write_text("")

    assert tail([first, second], 2) == "line 98\nline 99"
    assert tail([first, second], 2, timestamps=True) == "T line 98\nT line 99"
    assert tail([first, second], 0) == ""
    assert len(tail([first, second, tmp_path / "3"], 1000).split("\n")) == 100
    assert tail([second]) == ""


def test_the_tail_of_a_large_log_reads_only_its_end(path):
    path.touch()
    os.truncate(path, 1 << 40)  # a terabyte of nothing
    with path.open("ab") as file:
        file.write(b"\nT one\nT two\n")

    assert tail([path], 2) == "one\ntwo"


def test_the_tail_has_whole_lines_however_long_they_are(path):
    path.write_bytes(b"T x\nT " + b"a" * 500_000 + b"\nT " + b"b" * 500_000 + b"\n")

    assert tail([path], 2) == "a" * 500_000 + "\n" + "b" * 500_000


def test_following_gives_whole_lines_soon_after_they_were_written(tmp_path):
    path = attempt(tmp_path, 1)
    over = threading.Event()
    written = []

    def work():
        time.sleep(0.1)  # the file does not exist yet
        writer = LogWriter(path)
        for n in range(5):
            writer.feed(b"line %d" % n)
            time.sleep(0.02)
            written.append(time.monotonic())
            writer.feed(b"\n")
        writer.feed(b"end")
        writer.close()
        over.set()

    thread = threading.Thread(target=work)
    thread.start()
    seen = [(line, time.monotonic()) for line in follow(lambda: [path], over.is_set)]
    thread.join()

    assert [line.partition(" ")[2] for line, _ in seen] == [*(f"line {n}" for n in range(5)), "end"]
    delays = [came - went for (_, came), went in zip(seen, written, strict=False)]
    assert statistics.median(delays) < 0.3


def test_following_goes_on_to_later_attempts(tmp_path):
    first, second, third = (attempt(tmp_path, n) for n in (1, 2, 3))
    first.write_text("T a\nT torn")
    known = [[first], [first, second, third], [first, second, third]]
    looks = iter([False, False, True])
    stages = iter([lambda: None, lambda: third.write_text("T c\n"), lambda: third.open("a").close()])

    def paths():
        next(stages)()
        return known.pop(0)

    seen = list(follow(paths, lambda: next(looks), poll_s=0))

    assert seen == ["T a", "T torn", "-- attempt 2", "-- attempt 3", "T c"]


def test_following_reads_once_more_after_the_end(path):
    def is_over():
        path.write_text("T last\n")
        return True

    assert list(follow(lambda: [path], is_over)) == ["T last"]


def test_following_a_job_that_never_wrote_ends(tmp_path):
    assert list(follow(lambda: [tmp_path / "none"], lambda: True)) == []
    assert list(follow(list, lambda: True)) == []


# In this process


def test_a_tee_writes_to_the_stream_and_to_the_log(path, log):
    original = io.StringIO()
    tee = StreamTee(original, log)
    with contextlib.redirect_stdout(tee):
        print("hello", "ω")
        print("progress 1\rprogress 2", flush=True)

    assert original.getvalue() == "hello ω\nprogress 1\rprogress 2\n"
    assert texts(path) == ["hello ω", "progress 2"]
    assert tee.writable()
    assert not tee.isatty()
    assert tee.encoding == "utf-8"


def test_a_tee_of_the_real_stdout_has_its_file_descriptor(log, capfd):
    assert sys.__stdout__ is not None
    tee = StreamTee(sys.__stdout__, log)

    assert tee.fileno() == 1
    assert tee.encoding == sys.__stdout__.encoding


def test_bytes_may_be_written_to_the_buffer_of_a_tee(path, log):
    original = io.StringIO()
    tee = StreamTee(original, log)
    for part in ("ü\n".encode()[:1], "ü\n".encode()[1:], bytearray(b"\xff\n"), memoryview(b"x\n")):
        assert tee.buffer.write(part) == len(part)
    tee.buffer.flush()

    assert original.getvalue() == "ü\n\\xff\nx\n"
    assert texts(path) == ["ü", r"\xff", "x"]


def test_a_handler_that_outlives_the_job_writes_to_the_stream_alone(path, log):
    original = io.StringIO()
    handler = logging.StreamHandler(StreamTee(original, log))
    record = logging.makeLogRecord({"msg": "hello"})
    handler.emit(record)
    log.close()
    handler.emit(record)

    assert original.getvalue() == "hello\nhello\n"
    assert texts(path) == ["hello"]
