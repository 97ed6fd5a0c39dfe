"""The files of the page: all shipped, nothing from elsewhere, nothing that makes text into HTML."""

from __future__ import annotations

import hashlib
import re

import pytest

from pl_hybridjobs.dashboard.app import STATIC
from tests.house.source import repository_files

OURS = sorted(path for path in STATIC.iterdir() if path.suffix in (".js", ".html", ".css"))


def test_the_chart_library_is_the_published_one_with_its_licence():
    vendor = STATIC / "vendor" / "uplot"
    listed = dict(re.findall(r"\| (\S+) \| ([0-9a-f]{64}) \|", (vendor / "README.md").read_text()))

    assert set(listed) | {"README.md"} == {path.name for path in vendor.iterdir()}
    for name, digest in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (vendor / "LICENSE").read_text()


def test_git_and_so_the_wheel_has_every_file():
    assert {path for path in STATIC.rglob("*") if path.is_file()} <= set(repository_files())


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_file_asks_nobody_else_and_makes_no_html_of_text(path):
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")

    assert not re.search(r"https?://|//cdn|@import|@font-face", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setHTML|srcdoc| style=", text)
    assert not re.search(r"\son\w+=[\"']", text), "handlers in HTML"


def test_every_file_that_is_named_is_there():
    named = {name for path in OURS for name in re.findall(r"/static/([\w./-]+)", path.read_text())}

    assert named
    assert all((STATIC / name).is_file() for name in named)
