"""Anything that can be called becomes a job, wherever it lives."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pl_hybridjobs import hybrid_job, list_jobs
from pl_hybridjobs.errors import InvalidCall, JobFailed
from tests.jobs import functions

ROOT = Path(__file__).parents[2]
WAIT_S = 60


class Model:
    def __init__(self, scale):
        self.scale = scale

    def apply(self, x):
        return self.scale * x

    @hybrid_job
    def decorated(self, x):
        return self.scale * x

    def __call__(self, x):
        return self.scale + x


def outer(x):
    def inner(y):
        class Holder:
            value = y

        return [Holder.value + i for i in range(3)]

    return sum((lambda v: v * 2)(v) for v in inner(x))


def defaults(a, b=(1, 2), *rest, key=None, **more):
    return [a, list(b), list(rest), key, more]


def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (functools.partial(functions.add, 40), (2,), 42),
        (functools.partial(functools.partial(functions.add, b=1), c=1), (40,), 42),
        (Model(2).apply, (21,), 42),
        (Model(2), (40,), 42),
        (outer, (6,), 42),
        (recursive, (4,), 24),
        (defaults, (1,), [1, [1, 2], [], None, {}]),
        (max, (1, 42), 42),
    ],
    ids=["partial", "partial of partial", "bound method", "callable object", "inner functions", "recursion", "defaults", "builtin"],
)
def test_every_kind_of_callable_runs(fn, args, expected):
    assert hybrid_job(fn)(*args).result(WAIT_S) == expected


def test_a_decorated_method_knows_its_object():
    assert Model(3).decorated(5).result(WAIT_S) == 15


def test_keyword_only_and_variable_arguments_arrive():
    assert hybrid_job(defaults)(1, (3,), 4, key="k", extra=5).result(WAIT_S) == [1, [3], [4], "k", {"extra": 5}]


@pytest.mark.slow
def test_qnodes_and_used_devices_outside_the_function_travel():
    import pennylane as qml

    device = qml.device("lightning.qubit", wires=1)

    @qml.qnode(device)
    def cosine(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.PauliZ(0))

    here = float(cosine(0.3))

    def there(x):
        return float(cosine(x))

    assert hybrid_job(there)(0.3).result(WAIT_S) == pytest.approx(here)


def test_one_function_is_called_again_and_again_and_from_threads():
    job_of = hybrid_job(functions.add, runner="inline")
    jobs = []
    threads = [threading.Thread(target=lambda i=i: jobs.append(job_of(i))) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(job.result() for job in jobs) == list(range(2, 14))
    assert len({job.name for job in jobs}) == 12


def test_decorating_changes_nothing():
    code, names, wrapped_before = outer.__code__, dict(vars(outer)), inspect.signature(outer)

    decorated = hybrid_job(device="default.qubit")(outer)
    decorated(1).wait(WAIT_S)

    assert decorated.__wrapped__ is outer
    assert outer.__code__ is code
    assert vars(outer) == names
    assert inspect.signature(decorated) == wrapped_before
    assert (decorated.__name__, decorated.__doc__) == (outer.__name__, outer.__doc__)


def generate():
    yield 1


async def generate_async():
    yield 1


@pytest.mark.parametrize("fn", [generate, generate_async, functools.partial(generate)])
def test_generator_functions_are_refused_at_decoration(fn):
    with pytest.raises(InvalidCall, match="generator function"):
        hybrid_job(fn)


@pytest.mark.parametrize("thing", [3, "text", Model])
def test_what_is_no_function_is_refused_at_decoration(thing):
    with pytest.raises(InvalidCall):
        hybrid_job(thing)


def test_inline_gives_the_value_itself_and_lets_exceptions_pass():
    lock = threading.Lock()

    assert hybrid_job(lambda: lock).inline() is lock
    with pytest.raises(functions.OwnError) as caught:
        hybrid_job(functions.fail_own).inline()
    assert not isinstance(caught.value, JobFailed)


def test_inline_runs_in_a_jobs_context_and_is_listed():
    told = hybrid_job(functions.describe_job).inline()

    (job,) = list_jobs()
    assert told["name"] == job.name == "describe_job"


def test_with_options_changes_a_copy():
    first = hybrid_job(functions.add, tags={"a": "1"})
    second = first.with_options(tags={"b": "2"})

    assert (first.options.tags, second.options.tags) == ({"a": "1"}, {"b": "2"})
    with pytest.raises(InvalidCall, match="Did you mean 'tags'"):
        first.with_options(tag={})


def run_python(source: str, *args: str, stdin: str | None = None, cwd: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *args], input=stdin or source, env=env, cwd=cwd, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


IN_MAIN = """
from dataclasses import dataclass
from pl_hybridjobs import hybrid_job
import helper_one

@dataclass
class Point:
    x: int

FACTOR = 3

@hybrid_job
def scaled(x):
    return Point(helper_one.twice(FACTOR * x))

if __name__ == "__main__":
    result = scaled(7).result(60)
    assert type(result) is Point, type(result)
    print(result)
"""


def test_a_script_with_local_helpers_of_helpers_runs_from_anywhere(tmp_path):
    (tmp_path / "helper_one.py").write_text("from helper_two import double\n\ndef twice(x):\n    return double(x)\n")
    (tmp_path / "helper_two.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "main.py").write_text(IN_MAIN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert run_python("", str(tmp_path / "main.py"), cwd=elsewhere).strip() == "Point(x=42)"


def test_a_function_typed_at_the_prompt_runs(tmp_path):
    typed = "from pl_hybridjobs import hybrid_job\n\n@hybrid_job\ndef f(x):\n    return x + 1\n\nprint('got', f(41).result(60))\n"

    assert "got 42" in run_python(typed, "-i", "-q", "-c", "", stdin=typed, cwd=tmp_path)


def test_inline_awaits_a_coroutine_also_while_a_loop_is_running():
    function = hybrid_job(functions.add_async)

    async def in_a_loop():
        return function.inline(1, 2)

    values: list[object] = [function.inline(1, 2), asyncio.run(in_a_loop())]
    assert values == [3, 3]


def test_an_argument_may_be_called_self():
    assert hybrid_job(functions.take_self).inline(self=4) == 4
