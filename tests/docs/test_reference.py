"""The reference names all that there is, and says of it what the program says."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.docs import cli_reference
from tests.house.source import ROOT

PACKAGES = ["", ".training", ".compat.braket", ".devices.openqasm", ".emulator", ".dashboard"]
COMMAND = "python -m tests.docs.cli_reference"


def public(package: str) -> set[str]:
    module = importlib.import_module(f"pl_hybridjobs{package}")
    listed = getattr(module, "__all__", None)
    return set(listed or [name for name, value in vars(module).items() if name[0] != "_" and not inspect.ismodule(value)])


@pytest.mark.parametrize("package", PACKAGES)
def test_each_public_name_stands_in_the_reference(package):
    entries = re.findall(r"^::: (pl_hybridjobs[\w.]+)$", (ROOT / "docs/reference/api.md").read_text(), flags=re.MULTILINE)
    below = {entry.rpartition(".")[2] for entry in entries if entry.startswith(f"pl_hybridjobs{package}.")}

    assert public(package) - below == set()


def test_the_reference_of_the_command_line_is_what_the_commands_say():
    assert cli_reference.PAGE.read_text() == cli_reference.text(), f"{cli_reference.PAGE.name} is old; run: {COMMAND}"


def test_each_test_that_the_docs_name_is_there():
    text = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))

    assert len(named) > 20
    assert [f"{file}::{name}" for file, name in sorted(named) if f"def {name}(" not in (ROOT / file).read_text()] == []
