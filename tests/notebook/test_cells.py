"""What is written in cells works as a job: names of other cells, redefined ones, classes, coroutines, scripts that were run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.notebook.kernels import Kernel, kernel

CELLS = """
from pl_hybridjobs import hybrid_job
import asyncio, enum, math as m
from dataclasses import dataclass
base = 40
--- a name and an import of an earlier cell
@hybrid_job
def add(x): return base + x + m.floor(0.5)
print(add(2).result(60)) #> 42
--- a name that was bound anew
base = 50
print(add(2).result(60)) #> 52
--- a function that was defined anew
@hybrid_job
def add(x): return ("new", x + helper())
def helper(): return 1
print(add(2).result(60)) #> ('new', 3)
--- a helper that was defined anew
def helper(): return 1000
print(add(2).result(60)) #> ('new', 1002)
--- a closure
def times(factor):
    def inner(x): return factor * x
    return inner
print(hybrid_job(times(7))(6).result(60)) #> 42
--- classes of a cell: an argument, a result, an error
@dataclass
class Point:
    x: int
class Colour(enum.Enum):
    RED = 1
class Refused(ValueError): pass
@hybrid_job
def move(point, colour):
    if point.x > 10: raise Refused("too far", point.x)
    return Point(point.x + 1), colour
moved, colour = move(Point(1), Colour.RED).result(60)
try: move(Point(11), Colour.RED).result(60)
except Refused as error: print(moved == Point(2), type(moved) is Point, colour is Colour.RED, error.args) #> True True True ('too far', 11)
--- a script that %run brought in
%run -n part.py
print(from_part(5).result(60)) #> 15
--- a coroutine, awaited, inline, and from a running loop
@hybrid_job
async def wait(x):
    await asyncio.sleep(0.01)
    return 2 * x
both = [wait(1), wait(2)]
values = await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(None, job.result, 60) for job in both))
print(values, wait.inline(5)) #> [2, 4] 10
--- a sweep of a lambda's kind
print(hybrid_job(lambda x: x * x, name="square").map([{"x": 2}, {"x": 3}]).results(60)) #> [4, 9]
"""

PART = """
from pl_hybridjobs import hybrid_job
FACTOR = 3
class Box:
    def __init__(self, value): self.value = value
@hybrid_job
def from_part(x): return Box(FACTOR * x).value
"""


@pytest.fixture
def notebook(tmp_path) -> Iterator[Kernel]:
    (tmp_path / "part.py").write_text(PART)
    with kernel(tmp_path) as made:
        yield made


@pytest.mark.slow
def test_what_is_written_in_cells_works_as_a_job(notebook):
    first, *cells = CELLS.split("\n--- ")
    assert notebook.printed(first) == ""
    for cell in cells:
        title, _, code = cell.partition("\n")

        assert notebook.printed(code).strip() == code.partition("#> ")[2].strip(), title


def test_a_job_cannot_use_the_notebooks_shell_and_the_error_says_what_to_use(notebook):
    code = "from pl_hybridjobs import hybrid_job\n@hybrid_job\ndef shell():\n    found = !echo hello\n    return list(found)\nshell()"

    said = notebook.printed(code)

    assert "CannotTravel" in said
    assert "1 obstacle;" in said
    assert "subprocess.run" in said
