"""No test here sees this machine's AWS account, nor what another test decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pl_hybridjobs.compat import braket
from pl_hybridjobs.compat.braket import setting


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither a decision nor an account."""
    for name in setting._CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    for name in setting._FILES:
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "no-such-file"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(setting, "_said", set())
    yield
    braket.use(None)


@pytest.fixture
def here() -> None:
    """Jobs for Amazon Braket run on this machine."""
    braket.use("local")
