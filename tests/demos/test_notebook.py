"""The demo notebook runs as a reader runs it, and what it saves shows how its jobs ended."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.house.source import ROOT

DEMO = ROOT / "demos" / "notebook.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_its_saved_cards_show_how_the_jobs_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(DEMO, as_version=4)
    NotebookClient(notebook, timeout=150, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    html = ["".join(out.get("data", {}).get("text/html", "") for out in cell.outputs) for cell in cells]
    printed = ["".join(out.get("text", "") for out in cell.outputs) for cell in cells]

    assert printed[3].strip() == "interrupted"
    assert "-1.857" in printed[4]
    assert "after 2 attempts" in printed[4]
    assert "completed" in html[2]  # shown while it ran: its output was updated by what later cells did
    assert "step 100 of 100" in html[2]
    assert html[2].count("<svg") == 3
    assert "also logged: step_time_s" in html[2]
    assert '<td class="hj-n">100</td>' in html[5]
    assert "3 completed" in html[6]
    errors_mha = [float(found) for found in re.findall(r"(-?[\d.]+) mHa above", printed[7])]
    assert len(errors_mha) == 3
    assert min(errors_mha) < 1


def test_the_notebook_is_kept_without_outputs():
    assert not [cell for cell in nbformat.read(DEMO, as_version=4).cells if cell.get("outputs") or cell.get("execution_count")]
