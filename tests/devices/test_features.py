"""Each cell of the table of features in the documentation is tried."""

from __future__ import annotations

import pytest

from tests.devices.features import FEATURES
from tests.house.source import ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # other devices warn as they like
]
PAGE = ROOT / "docs" / "reference" / "devices.md"


def cells():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    devices = rows[0][1:]
    return {(row[0], device): cell for row in rows[2:] for device, cell in zip(devices, row[1:], strict=True)}


CELLS = cells()


def test_the_table_has_all_features():
    assert {title for title, _ in CELLS} == set(FEATURES)


@pytest.mark.parametrize(("title", "device"), CELLS)
def test_a_cell_is_true(title, device):
    try:
        FEATURES[title](device)
    except AssertionError:
        found = "wrong"
    except Exception:  # noqa: BLE001  # devices disagree about which
        found = "no"
    else:
        found = "yes"

    assert found == CELLS[title, device].strip("*")
