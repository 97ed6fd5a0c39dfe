"""The repository: a closed top level, no machine's paths, no loose ends, commands that README and CI share."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.house.source import ROOT, repository_files, where

TOP_LEVEL = {"pyproject.toml", "README.md", "pl_hybridjobs", "tests", "demos", "docs", "containers"}
TEST_COMMAND = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest'

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|work|Users/\w+|home/(?!you\b|user\b)\w+)/")
LOOSE_END = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!.*#\d)")


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # an image or an archive
        found += [f"{where(path, n)}: {line.strip()}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def test_the_top_level_is_closed():
    names = {path.relative_to(ROOT).parts[0] for path in repository_files()}

    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def test_no_file_names_a_path_of_somebodys_machine():
    assert not _lines_with(MACHINE_PATH)


def test_every_loose_end_names_its_issue():
    assert not _lines_with(LOOSE_END)


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (MACHINE_PATH, "open('/ro" + "ot/x')", True),
        (MACHINE_PATH, "/ho" + "me/anna/jobs", True),
        (MACHINE_PATH, "docs/work/x and ./work/y", False),
        (LOOSE_END, "# TO" + "DO later", True),
        (LOOSE_END, "# TO" + "DO later, see #12", False),
    ],
)
def test_the_patterns_find_what_they_should(pattern, line, found):
    assert bool(pattern.search(line)) == found


def test_readme_and_ci_share_the_command_that_runs_the_tests():
    assert TEST_COMMAND in (ROOT / "README.md").read_text()
    assert TEST_COMMAND in (ROOT / ".ci/run").read_text()


def test_the_ci_script_parses_and_can_be_executed():
    script = ROOT / ".ci/run"

    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111


def test_the_licence_is_the_one_that_the_project_names():
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    assert "Apache License\n                           Version 2.0" in (ROOT / "docs/LICENSE").read_text()


def test_every_page_of_the_docs_is_in_the_navigation():
    config = (ROOT / ".mkdocs.yml").read_text()
    nav = config.partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = re.findall(r"\S+\.md$", nav, flags=re.MULTILINE)
    pages = [str(path.relative_to(ROOT / "docs")) for path in repository_files() if path.is_relative_to(ROOT / "docs")]

    assert sorted(listed) == sorted(page for page in pages if page.endswith(".md"))
