"""Each page's Python blocks are joined into one script and run as a reader would run it."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import sys
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from pl_hybridjobs.cli.commands import cli
from tests.house.source import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = sorted(cli.commands)


def _script(page: Path) -> str:
    """The page's Python blocks, each on the lines where it stands in the page; skipped blocks are left out."""
    lines: list[str] = []

    def collect(example: Example) -> None:
        first = page.read_text()[: example.start].count("\n") + 1  # the block's content starts below its fence
        lines.extend([""] * (first - len(lines)))
        lines.extend(str(example.parsed).splitlines())

    document = Document.parse(str(page), CodeBlockParser(language="python", evaluator=collect), SkipParser())
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:  # how sybil says that a block is skipped and why
            continue
    return "\n".join(lines) + "\n"


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def readers():
    """A process each, in which PennyLane is imported already: that takes longer than most pages."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pennylane", __name__])
    return context


def read(script, environment):
    """Run a page's script as Python would, in a process of its own; what it prints is beside it."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(script.parent)
    printed = os.open(script.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.argv[:] = [str(script)]
    sys.path[:0] = [str(script.parent)]
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists() and _script(page).strip()], ids=_name)
def test_the_python_on_a_page_runs(page, readers, tmp_path):
    script = tmp_path / f"page_{page.stem.lower().replace('-', '_')}.py"  # no page may hide a package of its name
    script.write_text(_script(page))

    reader = readers.Process(target=read, args=(script, dict(os.environ)))
    reader.start()
    reader.join(timeout=120)
    if late := reader.is_alive():
        reader.kill()
        reader.join()

    printed = script.with_suffix(".txt").read_text()
    assert not late, f"{_name(page)} took more than two minutes\n{printed}"
    assert reader.exitcode == 0, f"{_name(page)} (line numbers are those of the page)\n{printed}"


def test_the_readme_holds_an_example():
    script = _script(ROOT / "README.md")

    assert "hybrid_job" in script
    assert len([line for line in script.splitlines() if line.strip()]) <= 24


def test_every_command_in_the_docs_exists():
    text = "\n".join(page.read_text() for page in PAGES if page.exists())
    named = set(re.findall(r"(?:^|\$ |`|/)hybridjobs ([a-z]+)\b", text, flags=re.MULTILINE))

    assert named
    assert not named - set(VERBS)


def test_the_reference_has_every_public_name():
    import pl_hybridjobs

    page = (ROOT / "docs/reference/api.md").read_text()
    shown = re.findall(r"^::: pl_hybridjobs\.(\w+)$", page, flags=re.MULTILINE)

    assert sorted(shown) == sorted(pl_hybridjobs.__all__)


def test_blocks_keep_their_line_numbers_and_skipped_ones_are_left_out(tmp_path):
    page = tmp_path / "page.md"
    blocks = ["# T", "```python\na = 1\n```", '<!-- skip: next "why" -->', "```python\nb = 2\n```", "```python\nc = 3\n```"]
    page.write_text("\n\n".join(blocks))

    lines = _script(page).splitlines()

    assert lines[3] == "a = 1"
    assert lines[13] == "c = 3"
    assert "b = 2" not in lines
