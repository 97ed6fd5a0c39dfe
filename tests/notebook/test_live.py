"""Cards in a real kernel: what its frontends are told, what its buttons do, when they stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pl_hybridjobs import open_job
from tests.notebook.kernels import VIEW, Kernel, card_in, is_idle, kernel, output

COUNT = """
import time
from pathlib import Path
from pl_hybridjobs import hybrid_job, load_checkpoint, log_metric, save_checkpoint

@hybrid_job
def count(until):
    step = load_checkpoint(default=0)
    while not Path(until).exists():
        log_metric("cost", 1 / (1 + step), step=step)
        step += 1
        save_checkpoint(step)
        time.sleep(0.05)
    return "done"
"""


ALL_ENDED = "import pl_hybridjobs\nfor one in pl_hybridjobs.list_jobs():\n    one.status.is_over or one.wait(60)"


@pytest.fixture
def stop(tmp_path: Path) -> Path:
    """Once this file exists, the jobs of a test end."""
    return tmp_path / "stop"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for several tests."""
    with kernel(tmp_path_factory.mktemp("kernel")) as made:
        yield made


@pytest.fixture
def notebook(shared: Kernel, stop: Path, jobs_home: Path) -> Iterator[Kernel]:
    """A kernel that knows a job, and whose jobs are those of this test."""
    yield from _prepared(shared, stop, jobs_home)


@pytest.fixture
def fresh(tmp_path: Path, stop: Path, jobs_home: Path) -> Iterator[Kernel]:
    """The same, of a test of its own."""
    with kernel(tmp_path) as made:
        yield from _prepared(made, stop, jobs_home)


def _prepared(made: Kernel, stop: Path, home: Path) -> Iterator[Kernel]:
    made.heard.clear()
    setting = f"import os; os.environ['HYBRIDJOBS_HOME'] = {str(home)!r}; stop = {str(stop)!r}"
    assert made.printed(f"{COUNT}\n{setting}") == ""
    yield made
    stop.touch()
    if made.manager.is_alive():
        assert made.printed(ALL_ENDED) == ""
        made.silence(0.2)


def test_a_card_follows_its_job_while_the_kernel_is_free_and_while_it_waits_and_is_saved_as_it_ended(notebook, stop):
    shown = output(notebook.run("job = count(stop)\njob"))
    notebook.until_card("running", "</svg>")
    sent = notebook.heard[-1]["msg_type"]

    notebook.start("job.result()")
    first = notebook.until_card("running", "</svg>")
    assert notebook.until_card("running", "</svg>") != first
    stop.touch()
    notebook.until(lambda m: m["msg_type"] == "update_display_data" and "completed" in card_in(m))
    saved = output(notebook.heard, "update_display_data")

    assert {VIEW, "text/html", "text/plain"} <= set(shown)
    assert sent == "comm_msg"
    assert VIEW not in saved  # nothing is left to press: the notebook keeps plain HTML
    assert "completed" in saved["text/plain"]
    assert "cost" in saved["text/plain"]
    notebook.silence(1.5)
    assert notebook.threads().strip() == "[]"


def test_buttons_cancel_and_resume_and_a_second_press_does_nothing_more(notebook, stop):
    notebook.run("job = count(stop)\njob")
    notebook.until_card("running", "</svg>")
    for _ in range(2):
        notebook.press(notebook.button("Cancel"))
    notebook.until_card("cancelled", without="Cancel ...")
    for _ in range(2):
        notebook.press(notebook.button("Resume"))
    notebook.until_card("running", "</svg>", "count stays as it ended; count-2 goes on from its checkpoints")
    stop.touch()
    notebook.until_card("completed", "count-2")

    assert open_job("count").status == "cancelled"
    assert open_job("count-2").spec.continues == open_job("count").id


def test_a_button_works_while_a_cell_waits_for_the_result(notebook):
    notebook.run("job = count(stop)\njob")
    subshell = notebook.subshell()
    notebook.start("job.result()")
    notebook.until_card("running", "</svg>")
    notebook.press(notebook.button("Cancel"), subshell)

    ended = notebook.until(lambda m: m["msg_type"] == "error")

    assert ended["content"]["ename"] == "JobCancelled"


def test_what_a_button_cannot_do_stands_in_the_card(notebook, jobs_home):
    notebook.run("job = count(stop)\njob")
    notebook.until_card("running", "</svg>")
    notebook.run("_ = job.cancel()")
    next((jobs_home / "jobs" / open_job("count").id / "bundle").glob("*.pkl")).write_bytes(b"not what was signed")
    notebook.press(notebook.button("Resume"))

    said = notebook.until_card("Resume: ")

    assert "call.pkl" in said
    assert "cancelled" in said


def test_a_card_that_nobody_sees_any_more_rests_until_somebody_does(notebook):
    card = output(notebook.run("job = count(stop)\njob"))[VIEW]["model_id"]
    notebook.seen(card, 1)
    notebook.until_card("running", "</svg>")
    notebook.seen(card, 0)
    notebook.silence(1.5)

    assert not [m for m in notebook.silence(1.5) if card_in(m)]
    assert notebook.threads().strip() == "[]"
    notebook.seen(card, 1)
    notebook.until_card("running")


def test_a_card_wakes_when_its_job_is_resumed_in_another_cell(notebook, stop):
    notebook.run("import os, signal\njob = count(stop)\njob")
    notebook.until_card("running", "</svg>")
    killed = notebook.run("os.kill(job.state().lease.owner.pid, signal.SIGKILL); _ = job.wait()")
    notebook.run("_ = job.resume()")

    assert "its checkpoints are kept: job.resume() goes on" in "".join(map(card_in, killed))
    assert "attempt 2" in notebook.until_card("running", "attempt 2")
    notebook.silence(1)
    stop.touch()
    notebook.until_card("completed")


def test_without_ipywidgets_the_output_itself_follows_the_job(fresh, stop):
    notebook = fresh
    notebook.run("import sys; sys.modules['ipywidgets'] = None")
    shown = output(notebook.run("job = count(stop)\njob"))
    first = notebook.until_card("running", "</svg>")
    assert notebook.until_card("running", "</svg>") != first
    stop.touch()
    notebook.until_card("completed")

    assert set(shown) == {"text/html", "text/plain"}
    assert {m["msg_type"] for m in notebook.heard if card_in(m)} == {"display_data", "update_display_data"}


def test_an_interrupted_result_leaves_the_job_running_and_says_how_to_go_on(notebook, stop):
    notebook.run("job = count(stop)")
    notebook.start("job.result()")
    time.sleep(1)
    notebook.manager.interrupt_kernel()
    hint = notebook.until(lambda m: m["msg_type"] == "stream")["content"]["text"]
    raised = notebook.until(lambda m: m["msg_type"] == "error")["content"]["ename"]
    notebook.until(is_idle)

    assert raised == "KeyboardInterrupt"
    assert "count goes on" in hint
    assert "job.result()" in hint
    assert open_job("count").status == "running"
    stop.touch()
    assert "done" in notebook.printed("print(job.result(60))")


def test_a_job_survives_its_kernel(fresh, stop):
    fresh.run("job = count(stop)\njob")
    fresh.until_card("running")
    fresh.manager.shutdown_kernel(now=True)
    assert open_job("count").status == "running"
    stop.touch()

    assert open_job("count").result(60) == "done"


def test_a_sweep_follows_its_jobs_and_can_be_cancelled_and_resumed(notebook):
    notebook.run("count.map([{'until': stop}, {'until': stop + '2'}, {'until': stop + '3'}], max_parallel=2)")
    card = notebook.until_card("2 running", "1 created", "</svg>")
    notebook.press(notebook.button("Cancel all"))

    assert "last cost" in card
    assert "3 cancelled" in notebook.until_card("3 cancelled", without="Cancel all ...")

    notebook.press(notebook.button("Resume all"))
    notebook.until_card("2 running", "1 created", without="Resume all ...")
    notebook.press(notebook.button("Cancel all"))
    notebook.until_card("3 cancelled")
