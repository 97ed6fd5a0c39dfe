from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import zlib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pl_hybridjobs.errors import Fenced, MetricError, StoreError
from pl_hybridjobs.jobs import metric_lines
from pl_hybridjobs.jobs.metric_lines import RowReader
from pl_hybridjobs.jobs.metrics import MetricPrinter, MetricTable, MetricWriter, carry_over, follow_metrics, read_metrics

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def writer(path):
    made = MetricWriter(path)
    yield made
    made.close()


def write(path, values, *, attempt=1, name="cost"):
    """One attempt that logs values and stops."""
    made = MetricWriter(path, attempt=attempt)
    for value in values:
        made.log(name, value)
    made.close()


def flip(path, line_number, column, bit=1):
    lines = path.read_bytes().split(b"\n")
    line = bytearray(lines[line_number])
    line[column] ^= bit
    lines[line_number] = bytes(line)
    path.write_bytes(b"\n".join(lines))


# What can be logged


def test_values_come_back_in_step_order_with_their_steps_and_times(path, writer):
    writer.log("cost", 0.5, 2, timestamp=20.25)
    writer.log("cost", 0.75, 1, timestamp=1790000000.123457)

    table = read_metrics(path)

    assert table["cost"].tolist() == [0.75, 0.5]
    assert table["cost"].dtype == np.float64
    assert table.steps("cost").tolist() == [1, 2]
    assert table.steps("cost").dtype == np.int64
    assert table.times("cost").tolist() == [1790000000.123457, 20.25]


def test_a_step_that_is_not_given_is_one_more_than_the_last_of_this_name(path, writer):
    for name, step in [("a", None), ("b", None), ("a", None), ("a", 10), ("a", None), ("b", None)]:
        writer.log(name, 1.0, step)

    table = read_metrics(path)

    assert table.steps("a").tolist() == [0, 1, 10, 11]
    assert table.steps("b").tolist() == [0, 1]


def test_the_last_value_of_a_step_wins(path, writer):
    for value in (1.0, 2.0, 3.0):
        writer.log("cost", value, 7)

    assert read_metrics(path)["cost"].tolist() == [3.0]


def test_nan_infinities_and_negative_zero_are_kept_in_strict_json(path, writer):
    for value in (math.nan, math.inf, -math.inf, -0.0):
        writer.log("cost", value)

    values = read_metrics(path)["cost"]

    assert repr(values.tolist()) == "[nan, inf, -inf, -0.0]"
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


REAL_VALUES = {
    "int": 3,
    "bool": True,
    "Fraction": Fraction(1, 4),
    "Decimal": Decimal("0.25"),
    "numpy float32": np.float32(0.25),
    "numpy int": np.int8(3),
    "numpy bool": np.bool_(True),
    "0-d array": np.array(0.25),
    "0-d array of objects": np.array(Fraction(1, 4), dtype=object),
}


@pytest.mark.parametrize("value", REAL_VALUES.values(), ids=REAL_VALUES.keys())
def test_real_numbers_of_any_kind_are_accepted(path, writer, value):
    writer.log("cost", value)

    assert read_metrics(path)["cost"].tolist() == [float(value)]


def test_scalars_of_jax_torch_and_pennylane_are_accepted(path, writer, torch):
    import jax.numpy as jnp
    from pennylane import numpy as pnp

    for value in (jnp.float32(0.25), jnp.bfloat16(0.25), torch.tensor(0.25, requires_grad=True), pnp.tensor(0.25, requires_grad=True)):
        writer.log("cost", value)

    assert read_metrics(path)["cost"].tolist() == [0.25] * 4


REFUSED = {
    "complex": (1j, r"\.real and \.imag"),
    "complex array": (np.array(1 + 2j), r"\.real and \.imag"),
    "text": ("0.5", "not a real number"),
    "0-d text": (np.array("0.5"), "not a real number"),
    "time span": (np.timedelta64(5, "ns"), "not a real number"),
    "masked": (np.ma.masked, "not a real number"),
    "None": (None, "not a real number"),
    "list": ([0.5], "not a real number"),
    "array of one": (np.ones(1), r"shape \(1,\).*array\.item\(\)"),
    "array": (np.ones((2, 3)), r"shape \(2, 3\).*mean"),
    "huge int": (10**400, "gives no float"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_other_values_are_refused_and_nothing_is_written(path, writer, value, message):
    with pytest.raises(MetricError, match=rf"(?s)'cost'.*{message}"):
        writer.log("cost", value)

    assert not path.exists()


def test_traced_values_are_refused_with_the_way_out(writer, torch):
    import jax
    import pennylane as qml

    def logged(x):
        writer.log("cost", x)
        return x

    for trace in (lambda: jax.jit(logged)(1.0), lambda: jax.grad(logged)(1.0), lambda: qml.grad(logged, argnums=0)(1.0)):
        with pytest.raises(MetricError, match=r"traced value.*log it outside"):
            trace()
    with pytest.raises(MetricError, match="gives no float"):
        torch.vmap(logged)(torch.ones(2))


def test_a_measurement_outside_a_circuit_is_refused(writer):
    import pennylane as qml

    with pytest.raises(MetricError, match="not a real number"):
        writer.log("energy", qml.expval(qml.Z(0)))


@pytest.mark.parametrize("step", [3.0, "3", True, -1, 2**63, np.float64(1), [1]])
def test_steps_are_whole_numbers_from_zero(path, writer, step):
    with pytest.raises(MetricError, match="step="):
        writer.log("cost", 1.0, step)

    assert not path.exists()


def test_numpy_steps_are_accepted(path, writer):
    writer.log("cost", 1.0, np.int32(4))
    writer.log("cost", 1.0, 2**63 - 1)

    assert read_metrics(path).steps("cost").tolist() == [4, 2**63 - 1]


@pytest.mark.parametrize("timestamp", ["now", math.nan, True, 1j])
def test_timestamps_are_finite_numbers(writer, timestamp):
    with pytest.raises(MetricError, match="timestamp="):
        writer.log("cost", 1.0, timestamp=timestamp)


@pytest.mark.parametrize("name", ["", None, 3, b"cost"])
def test_names_are_text_that_is_not_empty(writer, name):
    with pytest.raises(MetricError, match="name"):
        writer.log(name, 1.0)


@given(st.lists(st.tuples(st.text(min_size=1), st.floats(), st.none() | st.integers(0, 2**63 - 2)), max_size=30))
def test_any_name_and_any_float_round_trip(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    writer = MetricWriter(path)
    expected: dict[str, dict[int, float]] = {}
    last: dict[str, int] = {}
    for name, value, step in records:
        writer.log(name, value, step)
        last[name] = last.get(name, -1) + 1 if step is None else step
        expected.setdefault(name, {})[last[name]] = value
        if last[name] == 2**63 - 2:
            last[name] = -1
            writer.rewind({"seq": writer.cursor()["seq"], "steps": last})
    writer.close()

    table = read_metrics(path)

    assert table.names == list(expected)
    for name, by_step in expected.items():
        assert table.steps(name).tolist() == sorted(by_step)
        assert list(map(repr, table[name].tolist())) == [repr(by_step[step]) for step in sorted(by_step)]


# The fast way to read


def make_lines(values, names=("cost", "a, b", "θ\n", '"')):
    rows = []
    for i, value in enumerate(values):
        shown = repr(value) if math.isfinite(value) else f'"{value!r}"'
        rest = f"{i},{1 + (i >= 900)},{json.dumps(names[i % len(names)])},{shown},{i * 7919},{1.7e9 + i / 7!r}]".encode()
        rows.append(b"[%d,%b\n" % (metric_lines.CRC_BASE + zlib.crc32(rest), rest))
    return rows


def both_ways(path, monkeypatch):
    monkeypatch.setattr(metric_lines, "_MANY", 1)
    fast = metric_lines.read_rows(path)
    monkeypatch.setattr(metric_lines, "_MANY", 1 << 60)
    return fast, metric_lines.read_rows(path)


def assert_same(fast, slow):
    for column in ("seq", "attempt", "step", "time", "value"):
        assert getattr(fast, column).tobytes() == getattr(slow, column).tobytes(), column
    assert [fast.names[c] if c >= 0 else c for c in fast.code] == [slow.names[c] if c >= 0 else c for c in slow.code]
    assert fast.problems == slow.problems


HARD_FLOATS = [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e22, 1e16, 9007199254740993.0, 1e-7, 1e-5, 0.1 + 0.2]


@given(st.lists(st.floats(allow_nan=False) | st.floats(-1, 1) | st.sampled_from(HARD_FLOATS), min_size=1))
def test_the_fast_way_reads_the_same_bits_as_the_slow_way(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    path.write_bytes(metric_lines.COLUMNS + b"".join(make_lines([*values, math.inf])))
    with pytest.MonkeyPatch.context() as patch:
        fast, slow = both_ways(path, patch)

    assert_same(fast, slow)
    assert fast.value.tolist() == [*values, math.inf]


def test_values_halfway_between_two_floats_are_rounded_rightly(path, monkeypatch):
    # 2**53 + 1 and its like lie exactly between two float64; one more digit decides.
    values = [math.ldexp(2**52 + k, e) for k in (1, 2, 12345) for e in (-40, -1, 0)]
    rng = np.random.default_rng(0)
    path.write_bytes(metric_lines.COLUMNS + b"".join(make_lines([*values, *(rng.integers(2**53, size=5000) / 2**40).tolist()])))

    fast, slow = both_ways(path, monkeypatch)

    assert_same(fast, slow)


def test_the_fast_way_works_without_a_long_double_of_80_bits(path, monkeypatch):
    path.write_bytes(b"".join(make_lines([0.1, -1e300, math.nan, 3.0])))
    monkeypatch.setattr(metric_lines, "_powers_of_ten", lambda: None)

    fast, slow = both_ways(path, monkeypatch)

    assert_same(fast, slow)


def test_damage_marks_long_names_and_blank_lines_are_read_alike_by_both_ways(path, monkeypatch):
    rng = np.random.default_rng(1)
    for attempt in (1, 2, 3):
        writer = MetricWriter(path, attempt=attempt)
        for i in range(400):
            writer.log(["cost", "x" * 600, "a,b"][i % 3], float(rng.normal()))
        writer.rewind({"seq": 100 * attempt, "steps": {}})
        writer.close()
    lines = path.read_bytes().split(b"\n")
    for at in rng.choice(len(lines) - 1, 60, replace=False):
        damaged = bytearray(lines[at])
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        lines[at] = bytes(damaged)
    path.write_bytes(b"\n".join([*lines[:200], b"", b"[", *lines[200:]]) + b"[123")

    fast, slow = both_ways(path, monkeypatch)

    assert_same(fast, slow)
    assert len(fast.problems) == 2


def test_a_long_file_is_read_in_several_blocks(path, monkeypatch):
    rng = np.random.default_rng(2)
    path.write_bytes(metric_lines.COLUMNS + b"".join(make_lines(rng.normal(size=1500).tolist())))
    monkeypatch.setattr(metric_lines, "_BLOCK", 10_000)

    fast, slow = both_ways(path, monkeypatch)

    assert_same(fast, slow)
    assert len(fast.seq) == 1500


# Crashes and damage


def test_a_torn_last_line_costs_only_itself(path):
    write(path, [1.0, 2.0])
    path.write_bytes(path.read_bytes()[:-5])

    torn = read_metrics(path)
    write(path, [8.0, 9.0], attempt=2)
    resumed = read_metrics(path)

    assert torn["cost"].tolist() == [1.0]
    assert "no end" in torn.problems[0]
    assert resumed["cost"].tolist() == [8.0, 9.0]
    assert len(resumed.problems) == 1


def test_a_last_line_that_lacks_only_its_newline_counts(path):
    write(path, [1.0, 2.0])
    path.write_bytes(path.read_bytes()[:-1])

    table = read_metrics(path)

    assert table["cost"].tolist() == [1.0, 2.0]
    assert not table.problems


def test_every_single_flipped_bit_is_noticed_and_costs_one_record(path):
    write(path, [0.5, 0.25, 0.125])
    whole = path.read_bytes()
    line = 3  # header, begin, and then the second record
    for column in range(len(whole.split(b"\n")[line])):
        for bit in range(8):
            path.write_bytes(whole)
            flip(path, line, column, 1 << bit)

            table = read_metrics(path)

            assert table["cost"].tolist() == [0.5, 0.125]
            assert "damaged" in table.problems[0]


def test_a_damaged_header_costs_no_record(path):
    write(path, [0.5])
    flip(path, 0, 5)

    assert read_metrics(path)["cost"].tolist() == [0.5]


def test_seq_goes_on_where_the_last_good_line_stood(path):
    write(path, [1.0] * 500)
    with path.open("ab") as file:
        file.write(b"[garbage" * 3000)

    writer = MetricWriter(path, attempt=2)
    writer.log("cost", 2.0)

    assert writer.cursor()["seq"] == 501


def test_nothing_is_lost_when_the_writer_is_killed(path):
    code = f"""
import itertools, sys
from pathlib import Path
from pl_hybridjobs.jobs.metrics import MetricWriter
writer = MetricWriter(Path({str(path)!r}))
for i in itertools.count():
    writer.log("cost", float(i))
    print(i, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    printed = child.communicate()[0].split("\n")[:-1]

    table = read_metrics(path)

    assert table["cost"].tolist() == list(range(len(table["cost"])))
    assert len(table["cost"]) >= 200 + len(printed)
    assert all("has no end" in problem for problem in table.problems)  # a kill may come while the kernel goes on to the next page


def test_a_full_disk_is_a_clear_error_and_the_next_record_is_whole(path, writer, monkeypatch):
    write_bytes, calls = os.write, []

    def full(fd, data):
        calls.append(data)
        if len(calls) == 1:
            return write_bytes(fd, data[:20])
        raise OSError(28, "No space left on device")

    writer.log("cost", 1.0)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="disk is full"):
        writer.log("cost", 2.0)
    monkeypatch.undo()
    writer.log("cost", 3.0)

    table = read_metrics(path)

    assert table["cost"].tolist() == [1.0, 3.0]
    assert table.steps("cost").tolist() == [0, 1]


# Attempts


def test_a_later_attempt_wins_for_the_same_step(path):
    write(path, [1.0, 2.0, 3.0])
    write(path, [10.0, 20.0], attempt=2)

    assert read_metrics(path)["cost"].tolist() == [10.0, 20.0, 3.0]


def test_what_an_old_owner_writes_after_a_newer_attempt_began_does_not_count(path):
    zombie = MetricWriter(path)
    zombie.log("cost", 1.0)
    owner = MetricWriter(path, attempt=2)
    owner.log("cost", 10.0, 5)
    zombie.log("cost", -1.0, 5)
    zombie.log("cost", -1.0, 6)
    zombie.rewind({"seq": 0, "steps": {}})

    assert read_metrics(path)["cost"].tolist() == [1.0, 10.0]
    assert [record.value for record in follow_metrics(path, lambda: True)] == [1.0, 10.0]


def test_an_old_owner_is_fenced_off_even_if_the_begin_line_is_damaged(path):
    zombie = MetricWriter(path)
    zombie.log("cost", 1.0)
    write(path, [10.0], attempt=2)
    flip(path, 3, 20)
    zombie.log("cost", -1.0, 9)

    assert read_metrics(path)["cost"].tolist() == [10.0]


def test_a_rewind_takes_back_what_older_attempts_wrote_after_the_checkpoint(path):
    first = MetricWriter(path)
    for value in (1.0, 2.0):
        first.log("cost", value)
    saved = json.loads(json.dumps(first.cursor()))
    for value in (3.0, 4.0):
        first.log("cost", value)
    second = MetricWriter(path, attempt=2)
    second.rewind(saved)
    second.log("cost", 30.0)

    table = read_metrics(path)

    assert table["cost"].tolist() == [1.0, 2.0, 30.0]
    assert table.steps("cost").tolist() == [0, 1, 2]
    assert b"4.0" in path.read_bytes()


def test_several_rewinds_and_a_fall_back_to_an_older_checkpoint_add_up(path):
    first = MetricWriter(path)
    first.log("cost", 0.0)
    early = first.cursor()
    first.log("cost", 1.0)
    first.log("lost", 1.0)
    second = MetricWriter(path, attempt=2)
    second.rewind(early)
    second.log("cost", 10.0)
    late = second.cursor()
    second.log("cost", 20.0)

    third = MetricWriter(path, attempt=3)
    third.rewind(late)
    after_late = read_metrics(path)
    fourth = MetricWriter(path, attempt=4)
    fourth.rewind(early)
    after_early = read_metrics(path)

    assert after_late["cost"].tolist() == [0.0, 10.0]
    assert "lost" not in after_late
    assert after_early["cost"].tolist() == [0.0]


def test_an_attempt_that_goes_back_to_its_own_checkpoint_overwrites_its_steps(path, writer):
    writer.log("cost", 1.0)
    saved = writer.cursor()
    writer.log("cost", 2.0)
    writer.rewind(saved)
    writer.log("cost", 20.0)

    assert read_metrics(path)["cost"].tolist() == [1.0, 20.0]


def test_the_cursor_covers_what_another_process_of_the_attempt_wrote(path):
    main, child = MetricWriter(path), MetricWriter(path)
    main.log("cost", 1.0)
    for value in range(50):
        child.log("child", value)
    saved = main.cursor()
    main.log("cost", 2.0)
    MetricWriter(path, attempt=2).rewind(saved)

    table = read_metrics(path)

    assert table["cost"].tolist() == [1.0]
    assert len(table["child"]) == 50


def test_a_job_without_metrics_gets_no_file(path, writer):
    assert writer.cursor() == {"seq": 0, "steps": {}}
    writer.rewind({"seq": 0, "steps": {"cost": 4}})
    assert not path.exists()

    writer.log("cost", 1.0)

    assert read_metrics(path).steps("cost").tolist() == [5]


def test_the_check_is_asked_before_the_first_record_and_then_at_most_every_50_ms(path):
    asked = []
    writer = MetricWriter(path, check=lambda: asked.append(time.monotonic()))
    begun = time.monotonic()
    while time.monotonic() - begun < 0.3:
        writer.log("cost", 1.0, timestamp=0.0)

    assert 2 <= len(asked) <= 7


def test_a_writer_that_lost_the_job_writes_nothing(path):
    def check():
        raise Fenced("a newer attempt owns the job")

    writer = MetricWriter(path, check=check)
    with pytest.raises(Fenced):
        writer.log("cost", 1.0)

    assert not path.exists()


def test_another_job_goes_on_from_what_counts_here(path, tmp_path):
    write(path, [1.0, 2.0])
    middle = MetricWriter(path, attempt=2)
    middle.log("cost", math.nan, 1)
    saved = middle.cursor()
    middle.log("cost", 9.0)
    target = tmp_path / "other.jsonl"
    carry_over(path, target)
    new = MetricWriter(target, attempt=1)
    new.rewind(saved)
    new.log("cost", 30.0)

    table = read_metrics(target)

    assert repr(table["cost"].tolist()) == "[1.0, nan, 30.0]"
    assert not table.problems


def test_nothing_is_carried_over_from_a_job_without_metrics(path, tmp_path):
    carry_over(path, tmp_path / "other.jsonl")

    assert not (tmp_path / "other.jsonl").exists()


PLANTS = {
    "checksum": ("lines[2] = lines[2].replace(b'0.5', b'0.7')", [0.7]),
    "fencing": ("lines += zombie()", [-1.0]),
    "": ("lines[2] = lines[2].replace(b'0.5', b'0.7'); lines += zombie()", []),
}


@pytest.mark.parametrize(("bug", "spoil", "seen"), [(b, *rest) for b, rest in PLANTS.items()], ids=lambda v: str(v)[:8] or "none")
def test_planted_bugs_let_damage_through_and_without_one_it_is_stopped(path, bug, spoil, seen):
    code = f"""
from pathlib import Path
from pl_hybridjobs.jobs.metrics import MetricWriter, read_metrics
path = Path({str(path)!r})
old = MetricWriter(path); old.log("a", 0.5)
new = MetricWriter(path, attempt=2); new.log("b", 2.0)
def zombie():
    before = path.stat().st_size
    old.log("a", -1.0, 0)
    return path.read_bytes()[before:].splitlines()
lines = path.read_bytes().splitlines()
{spoil}
path.write_bytes(b"\\n".join(lines) + b"\\n")
table = read_metrics(path)
print(table["a"].tolist() if "a" in table else [])
"""
    env = {**os.environ, "HYBRIDJOBS_PLANT_BUG": bug}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)

    assert done.stdout.strip() == repr(seen), done.stderr


# Live


def test_rows_of_fast_steps_are_written_together_and_before_anything_else(path, writer):
    for step in range(3):
        writer.log_row({"cost": float(step), "norm": 1}, step)
    assert list(read_metrics(path)["cost"]) == [0.0]  # the others wait
    writer.log("mark", 7.0)
    assert list(read_metrics(path)["cost"]) == [0.0, 1.0, 2.0]
    writer.log_row({"cost": 3.0}, 3)
    assert writer.cursor()["steps"] == {"cost": 3, "norm": 2, "mark": 0}
    records = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [record[1:4:2] for record in records if record[3]] == [
        [seq, name] for seq, name in enumerate(["cost", "norm", "cost", "norm", "cost", "norm", "mark", "cost"], 1)
    ]
    writer.log_row({"cost": 4.0}, 4)
    writer.close()
    assert list(read_metrics(path).steps("cost")) == [0, 1, 2, 3, 4]


def test_a_row_is_written_at_once_where_steps_are_slow(path, writer):
    for step in range(3):
        writer.log_row({"cost": float(step)}, step)
        assert list(read_metrics(path).steps("cost")) == list(range(step + 1))
        time.sleep(0.025)


def test_a_bad_number_in_a_row_is_refused_at_once(path, writer):
    writer.log_row({"cost": 0.0}, 0)
    with pytest.raises(MetricError, match="complex"):
        writer.log_row({"cost": 1j}, 1)
    writer.close()
    assert list(read_metrics(path).steps("cost")) == [0]


def test_threads_may_log_at_once(path, writer):
    def work(name):
        for i in range(300):
            writer.log(name, i)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    table = read_metrics(path)

    assert not table.problems
    assert all(table[f"t{n}"].tolist() == list(range(300)) for n in range(4))
    assert writer.cursor()["seq"] == 1200


def test_a_signal_handler_may_log_while_its_thread_is_logging(path, writer):
    handled = []

    def handler(number, frame):
        writer.log("handled", 1.0)
        handled.append(number)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        begun = time.monotonic()
        while len(handled) < 50 and time.monotonic() - begun < 20:
            writer.log("cost", 1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    table = read_metrics(path)

    assert len(table["handled"]) == len(handled) >= 50
    assert not table.problems


def test_a_follower_sees_each_record_once_and_ends_after_one_more_look(path):
    over = threading.Event()
    writer = MetricWriter(path)

    def work():
        for i in range(20):
            writer.log("cost", i)
            time.sleep(0.005)
        over.set()

    thread = threading.Thread(target=work)
    thread.start()
    seen = list(follow_metrics(path, over.is_set, poll_s=0.01))
    thread.join()

    assert [(record.name, record.step, record.value) for record in seen] == [("cost", i, float(i)) for i in range(20)]


def test_a_follower_of_a_file_that_never_comes_ends(path):
    assert list(follow_metrics(path, lambda: True)) == []


# The table


def test_a_missing_file_is_an_empty_table(path):
    table = read_metrics(path)

    assert len(table) == 0
    assert table.names == []
    assert table.last() == {}
    assert repr(table) == "<MetricTable empty>"
    assert table.to_csv() == "name,step,value,time\n"


def test_a_table_can_be_looked_at_in_many_ways(path, writer):
    writer.log("<cost>", 1.5, timestamp=10.0)
    writer.log("b", 2.0, 3, timestamp=11.0)

    table = read_metrics(path)

    assert list(table) == table.names == ["<cost>", "b"]
    assert "b" in table
    assert "c" not in table
    assert table.last() == {"<cost>": 1.5, "b": 2.0}
    assert table.rows()[1] == {"name": "b", "step": 3, "value": 2.0, "time": 11.0}
    assert table.to_csv() == "name,step,value,time\n<cost>,0,1.5,10.0\nb,3,2.0,11.0\n"
    assert repr(table) == "<MetricTable '<cost>': 1 steps, last 1.5, 'b': 1 steps, last 2>"
    assert "&lt;cost&gt;" in table._repr_html_()


def test_only_the_named_metrics_are_given(path, writer):
    for name in "abc":
        writer.log(name, 1.0)

    assert read_metrics(path, ["c", "a"]).names == ["a", "c"]


def test_an_unknown_name_suggests_near_ones(path, writer):
    writer.log("train/loss", 1.0)

    with pytest.raises(KeyError, match=r"train/los.*Did you mean.*train/loss"):
        read_metrics(path)["train/los"]


def test_a_csv_file_holds_what_the_text_does(path, writer, tmp_path):
    for name, value in [("<cost>", 0.1), ('ünï, "q"', math.nan), ("<cost>", math.inf)]:
        writer.log(name, value)
    table = read_metrics(path)

    assert table.to_csv(tmp_path / "x.csv") is None

    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == table.to_csv()


def test_a_parquet_file_reads_back_to_the_same_bits(path, writer, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for step, (name, value) in enumerate([("b", 0.1), ("ünï", math.nan), ("b", math.inf), ("b", 5e-324)]):
        writer.log(name, value, step, timestamp=1.7e9 + step / 8)
    read_metrics(path).to_parquet(tmp_path / "x.parquet")

    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()

    assert [(row["name"], row["step"], repr(row["value"]), row["time"].timestamp()) for row in rows] == [
        ("b", 0, "0.1", 1.7e9),
        ("b", 2, "inf", 1.7e9 + 0.25),
        ("b", 3, "5e-324", 1.7e9 + 0.375),
        ("ünï", 1, "nan", 1.7e9 + 0.125),
    ]


def test_an_empty_table_makes_an_empty_parquet_file(path, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    read_metrics(path).to_parquet(tmp_path / "x.parquet")

    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 0


def test_without_pyarrow_the_message_says_what_to_do(path, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MetricError, match="pip install pyarrow"):
        read_metrics(path).to_parquet(tmp_path / "x.parquet")


def test_a_data_frame_has_a_column_for_each_metric(path, writer):
    pytest.importorskip("pandas")
    writer.log("a", 1.0, 0)
    writer.log("a", 2.0, 1)
    writer.log("b", 3.0, 1)

    frame = read_metrics(path).to_pandas()

    assert frame.index.name == "step"
    assert frame["a"].tolist() == [1.0, 2.0]
    assert math.isnan(frame["b"][0])


def test_without_pandas_the_message_says_what_to_do(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MetricError, match="pip install pandas"):
        read_metrics(path).to_pandas()


def test_outside_a_job_metrics_are_printed_by_the_same_rules(capsys):
    printer = MetricPrinter()
    printer.log("cost", np.float32(0.5))
    printer.log("cost", 2, 7)
    printer.log("cost", math.nan)

    assert capsys.readouterr().out == "cost = 0.5  (step 0)\ncost = 2  (step 7)\ncost = nan  (step 8)\n"
    with pytest.raises(MetricError):
        printer.log("cost", 1j)
    with pytest.raises(MetricError):
        printer.log("cost", 1.0, 1.5)  # type: ignore[arg-type]
    with pytest.raises(MetricError):
        printer.log("cost", 1.0, timestamp="now")  # type: ignore[arg-type]


@pytest.mark.benchmark
def test_logging_takes_less_than_15_us_and_a_million_points_are_read_in_a_second(path, writer):
    took = []
    for i in range(20_000):
        begun = time.perf_counter()
        writer.log("train/loss", i / 7)
        took.append(time.perf_counter() - begun)
    rng = np.random.default_rng(0)
    big = path.with_name("big.jsonl")
    big.write_bytes(metric_lines.COLUMNS + b"".join(make_lines(rng.random(1_000_000).tolist())))
    reads = []
    for _ in range(5):
        begun = time.perf_counter()
        table = read_metrics(big)
        reads.append(time.perf_counter() - begun)

    print(f"\nlog: {statistics.median(took) * 1e6:.1f} us median; a million points: {min(reads):.2f} s best, {max(reads):.2f} s worst of 5")
    assert sum(len(table[name]) for name in table) == 1_000_000


def test_a_reader_that_comes_back_sees_what_a_new_one_sees(path):
    reader = RowReader(path)
    assert len(MetricTable(reader.read())) == 0
    for attempt, names in ((1, "ab"), (2, "bc"), (2, "c")):
        writer = MetricWriter(path, attempt=attempt)
        cursor = writer.cursor()
        for step in range(2000 if attempt == 1 else 7):  # the first look is long enough for the fast way
            for name in names:
                writer.log(name, step / 7, step)
        if attempt == 2:
            writer.rewind(cursor)
        writer.close()
        with path.open("ab") as file:
            file.write(b'[4294967296,1,1,"x",1.0,0,0.0]\n')  # a wrong checksum
        assert MetricTable(reader.read()).rows() == read_metrics(path).rows()
        assert reader.read().problems == read_metrics(path).problems

    whole = path.read_bytes()
    for end in range(len(whole) - 40, len(whole)):  # a line that is being written
        path.write_bytes(whole[:end])
        assert MetricTable(reader.read()).rows() == read_metrics(path).rows()
    path.write_bytes(whole)
    assert MetricTable(reader.read()).rows() == read_metrics(path).rows()


def test_a_reader_begins_again_where_a_file_was_replaced_or_is_gone(path):
    reader = RowReader(path)
    for value in (1.0, 2.0, None, 3.0):
        if value is None:
            path.unlink()
        else:
            writer = MetricWriter(path.with_name("other"))
            writer.log("a", value)
            writer.close()
            path.with_name("other").replace(path)
        assert [row["value"] for row in MetricTable(reader.read()).rows()] == ([] if value is None else [value])
