"""Workers that are lost, circuits that end them, pools that give up, callers who go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import numpy as np
import pennylane as qml
import pytest

from pl_hybridjobs.errors import FanOutError, InvalidCall, WorkerLost
from pl_hybridjobs.fanout import FanOut, ProcessExecutor, ThreadExecutor, executors
from pl_hybridjobs.jobs import process
from tests.fanout.circuits import Deadly, OddError, Raises, assert_same_bits, every_kind, every_sample, with_gate


def test_circuits_of_a_worker_that_is_killed_are_run_by_another(processes, tmp_path):
    device = FanOut("hybridjobs.qubit", seed=5, executor=processes)
    deadly = with_gate(Deadly(0, once=str(tmp_path / "died")))

    found = device.execute([*every_sample(), deadly, *every_sample()])

    plain = qml.device("hybridjobs.qubit", seed=5)
    assert (tmp_path / "died").exists()
    assert_same_bits(found, plain.execute([*every_sample(), deadly, *every_sample()]))


class _Losing(ThreadExecutor):
    """Of whose workers those are lost who are given a circuit with a gate that no other does."""

    def submit(self, fn, /, *args):
        if args and b"Deadly" in args[-1]:
            tries.append(args)
            return super().submit(_lose)
        return super().submit(fn, *args)


tries: list[tuple] = []


def _lose():
    raise WorkerLost("worker process 1 was ended by SIGKILL")


def test_a_circuit_that_ends_each_of_its_workers_is_named_and_not_tried_for_ever():
    circuits = [*every_kind()[:3] * 5, with_gate(Deadly(0)), *every_kind()[:3] * 5]
    tries.clear()

    with (
        _Losing(1) as pool,
        pytest.raises(FanOutError, match=r"(?s)3 workers were lost.*circuit 15 of 31.*Deadly.*ended by SIGKILL") as caught,
    ):
        FanOut("hybridjobs.qubit", executor=pool).execute(circuits)

    assert len(tries) == 4  # once with others, three times alone
    assert isinstance(caught.value.__cause__, WorkerLost)


@pytest.mark.torture_long
def test_a_process_pool_survives_a_circuit_that_ends_its_workers(processes):
    device = FanOut("hybridjobs.qubit", executor=processes)

    with pytest.raises(FanOutError, match=r"(?s)3 workers were lost.*circuit 1 of 3.*Deadly.*ended by SIGKILL"):
        device.execute([*every_kind()[:1], with_gate(Deadly(0)), *every_kind()[1:2]])

    assert_same_bits(device.execute(every_kind()), qml.device("hybridjobs.qubit").execute(every_kind()))


def test_an_error_that_cannot_be_sent_comes_back_as_its_text(processes):
    device = FanOut("hybridjobs.qubit", executor=processes)

    with pytest.raises(FanOutError, match="OddError, which cannot be sent: 1 and 2") as caught:
        device.execute([with_gate(Raises(0, odd=True))])

    assert "compute_matrix" in str(caught.value.__cause__)


def test_in_threads_also_such_an_error_is_itself_or_its_text(threads):
    with pytest.raises((OddError, FanOutError), match="1 and 2"):
        FanOut("hybridjobs.qubit", executor=threads).execute([with_gate(Raises(0, odd=True))])


class _Broken:
    """A pool whose workers cannot be replaced."""

    def submit(self, fn, /, *args):
        future: Future = Future()
        future.set_exception(ConnectionResetError("scheduler gone"))
        return future


def test_a_pool_that_fails_is_reported_with_what_it_was_running():
    with pytest.raises(
        FanOutError, match=r"_Broken.*did not run circuits 0 to 0 of 5: ConnectionResetError: scheduler gone; executor='processes'"
    ):
        FanOut("hybridjobs.qubit", workers=2, executor=_Broken()).execute(every_kind())


def test_a_worker_that_cannot_begin_is_told_of_and_the_next_call_gets_another(tmp_path, monkeypatch):
    is_full = tmp_path / "full"
    is_full.touch()
    tmp_path.joinpath("sitecustomize.py").write_text(f"import os\nif os.path.exists({str(is_full)!r}):\n    os._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with ProcessExecutor(1) as pool:
        with pytest.raises(FanOutError, match="exited with code 3 before it was ready"):
            pool.submit(int, "7").result(60)
        is_full.unlink()

        assert pool.submit(int, "7").result(60) == 7


def test_an_executor_that_was_shut_down_takes_no_circuits():
    pool = ThreadExecutor(1)
    device = FanOut("hybridjobs.qubit", executor=pool)
    pool.shutdown()

    with pytest.raises(FanOutError, match="was shut down"):
        device.execute(every_kind())


def test_a_call_that_comes_while_an_executor_is_shut_down_is_cancelled_and_not_waited_for(monkeypatch):
    pool, made = ThreadExecutor(1), executors._Task

    def made_late(*call):
        pool.shutdown()
        return made(*call)

    monkeypatch.setattr(executors, "_Task", made_late)

    assert pool.submit(abs, -1).cancelled()


def test_ctrl_c_ends_workers_that_compute_and_the_next_call_finds_new_ones():
    with ProcessExecutor(1) as pool:
        pool.submit(os.getpid).result()
        (busy, waiting) = pool.submit(time.sleep, 600), pool.submit(os.getpid)
        while not busy.running():
            time.sleep(0.01)
        waiting.abandon()
        busy.abandon()

        with pytest.raises(WorkerLost):
            busy.result(30)
        assert waiting.cancelled()
        assert pool.submit(abs, -1).result(60) == 1


def test_a_batch_that_is_interrupted_leaves_nothing_running(threads):
    entered, leave = threading.Event(), threading.Event()

    class Interrupted(ThreadExecutor):
        def submit(self, fn, /, *args):
            future = super().submit(fn, *args)
            if not entered.is_set():
                entered.set()
                return _Interrupting()
            made.append(future)
            return future

    class _Interrupting:
        def result(self, timeout=None):
            raise KeyboardInterrupt

        def cancel(self):
            leave.set()

    made: list[Future] = []
    with Interrupted(1) as pool, pytest.raises(KeyboardInterrupt):
        FanOut("hybridjobs.qubit", executor=pool).execute(every_kind() * 20)

    assert leave.is_set()
    assert any(future.cancelled() for future in made)


_PARENT = """
import os, sys, time
from pl_hybridjobs.fanout.processes import ProcessExecutor
pool = ProcessExecutor(2)
print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
pool.submit(time.sleep, 600)
print("busy", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(number):
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        assert parent.stdout.readline() == "busy\n"
        parent.send_signal(number)
        parent.wait()

    deadline = time.monotonic() + 20
    while any(map(_is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids
    assert not any(map(_is_there, pids))


def _is_there(pid):
    return process.Identity.of(pid) is not None  # a zombie is not


def test_workers_end_with_an_executor_that_is_forgotten():
    pool = ProcessExecutor(1)
    pid = pool.submit(os.getpid).result()

    del pool

    deadline = time.monotonic() + 20
    while _is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_there(pid)


_LEAVING = """
import os, time, ray
from pl_hybridjobs.fanout import RayExecutor
pool = RayExecutor(1)
print(pool.submit(os.getpid).result(), flush=True)
ray.init = lambda *_, **__: print("another Ray is started", flush=True)
if {forgets}:
    del pool
    time.sleep(1)
"""


@pytest.mark.ray
@pytest.mark.parametrize("forgets", [False, True])
def test_who_leaves_or_forgets_a_ray_executor_starts_no_other_ray(forgets):
    pytest.importorskip("ray")

    left = subprocess.run([sys.executable, "-c", _LEAVING.format(forgets=forgets)], capture_output=True, text=True, check=True)

    (pid,) = left.stdout.splitlines()
    assert not _is_there(int(pid))


def test_signals_that_are_meant_for_the_parent_do_not_end_workers(processes):
    pid = processes.submit(os.getpid).result()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)

    assert {processes.submit(abs, -2).result() for _ in range(10)} == {2}
    os.kill(pid, 0)  # it is there


class _Unreadable:
    """Its pickle can be read where it was made, and nowhere else."""

    def __reduce__(self):
        return _read_by, (os.getpid(),)


def _read_by(pid):
    if pid != os.getpid():
        raise ValueError("made elsewhere")
    return _Unreadable()


def test_a_result_that_cannot_be_read_here_is_no_lost_worker(processes):
    before = processes.submit(os.getpid).result()

    with pytest.raises(ValueError, match="made elsewhere"):
        processes.submit(_Unreadable).result()

    assert processes.submit(os.getpid).result() == before


def test_what_a_worker_prints_does_not_disturb_its_answers(processes):
    assert processes.submit(print, "from a worker").result() is None
    assert processes.submit(os.write, 1, b"from a worker\n").result() == 14


def test_kernels_of_workers_have_one_thread_each(processes, threads):
    assert processes.submit(os.getenv, "NUMBA_NUM_THREADS").result() == "1"
    assert processes.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    import numba

    before = numba.get_num_threads()
    FanOut("hybridjobs.qubit", executor=threads).execute(every_kind())
    assert numba.get_num_threads() == before


def test_what_another_package_makes_of_numbas_configuration_makes_no_difference(threads, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", -1)  # as Amazon's simulator does when it is imported

    assert len(FanOut("hybridjobs.qubit", executor=threads).execute(every_kind())) == len(every_kind())


def test_code_of_a_script_travels(processes):
    assert processes.submit(lambda value: np.sqrt(value) + 1, 4.0).result() == 3.0


@pytest.mark.parametrize("made", [ThreadExecutor, ProcessExecutor])
def test_numbers_that_make_no_sense_are_refused_together(made):
    with pytest.raises(InvalidCall) as caught:
        made(0, threads=True)

    assert caught.value.complaints == (
        "workers must be a whole number, 1 or more, not 0",
        "threads must be a whole number, 1 or more, not True",
    )


class _Unprintable(Exception):
    """Can be neither shown nor sent."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self):
        raise ValueError("broken, too")


class _Disguised(Exception):
    """Comes out of a pickle as something else."""

    def __reduce__(self):
        return dict, ()


@pytest.mark.parametrize("odd", [_Unprintable, _Disguised])
def test_of_the_oddest_error_still_its_class_and_its_circuit_are_told(threads, monkeypatch, odd):
    def compute_matrix(**_):
        raise odd

    monkeypatch.setattr(Raises, "compute_matrix", staticmethod(compute_matrix))

    with pytest.raises(FanOutError, match=f"a worker raised {odd.__name__}, which cannot be sent") as caught:
        FanOut("hybridjobs.qubit", executor=threads).execute([*every_kind(), with_gate(Raises(0))])

    assert "circuit 5 of 6" in caught.value.__notes__[0]


def test_a_circuit_that_cannot_be_sent_is_named(threads):
    holding = with_gate(Raises(0))
    holding.operations[-1].hyperparameters["lock"] = threading.Lock()

    with pytest.raises(FanOutError, match=r"(?s)cannot be pickled.*lock.*without workers.*circuit 5 of 6.*Raises"):
        FanOut("hybridjobs.qubit", executor=threads).execute([*every_kind(), holding])


def test_an_option_that_cannot_be_sent_is_told_when_the_device_is_made(threads):
    with pytest.raises(FanOutError, match=r"default.qubit: its options cannot be sent to workers \(TypeError: .*lock"):
        FanOut("default.qubit", executor=threads, max_workers=_Holding())


class _Holding(int):
    """A number with a lock."""

    def __init__(self):
        self.lock = threading.Lock()


class _Refusing:
    """A pool that takes nothing."""

    def submit(self, fn, /, *args):
        raise ConnectionError("scheduler gone")


def test_a_pool_that_refuses_work_is_named_whatever_it_raises():
    with pytest.raises(FanOutError, match=r"_Refusing.*takes no circuits: ConnectionError: scheduler gone"):
        FanOut("hybridjobs.qubit", workers=2, executor=_Refusing()).execute(every_kind())
