"""What the guides build is built as they say, and passes the suites that they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.house.source import ROOT

# Guide -> the suite it names, with its option, and what of the suite is quick.
GUIDES = {
    "writing-a-runner": (
        ["tests/jobs/test_runner_contract.py", "--runner", "nice"],
        "value_comes_back or artefact or retried_where_asked or working_folder",
    ),
    "writing-a-qpu-provider": (
        ["tests/devices/test_qpu_contract.py", "--provider", "shop_suite:ShopProvider"],
        "samples_and_counts or same_work or labels_of_wires or gradient_is_one",
    ),
}


def install(guide, site):
    """The guide's files and its registration, as pip would lay them down."""
    page = (ROOT / "docs" / "guides" / f"{guide}.md").read_text()
    for block, name in re.findall(r'```python\n("""(\w+)\.py""".*?)\n```', page, flags=re.DOTALL):
        (site / f"{name}.py").write_text(block + "\n")
    (registration,) = re.findall(r"```toml\n(.*?)\n```", page, flags=re.DOTALL)
    info = site / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    with (info / "entry_points.txt").open("w") as file:
        for group, entries in tomllib.loads(registration)["project"]["entry-points"].items():
            print(f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), sep="\n", file=file)


def passed(guide, site, *chosen):
    """How many tests of the suite have passed; none may have failed."""
    install(guide, site)
    suite, _ = GUIDES[guide]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *suite, *chosen]
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return int(re.findall(r"(\d+) passed", done.stdout)[-1])


@pytest.mark.parametrize("guide", ["writing-a-runner", pytest.param("writing-a-qpu-provider", marks=pytest.mark.torture_long)])
def test_what_a_guide_builds_passes_the_quick_part_of_its_suite(guide, tmp_path):
    assert passed(guide, tmp_path, "-k", GUIDES[guide][1]) >= 3


@pytest.mark.torture_long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("guide", "least"), [("writing-a-runner", 23), ("writing-a-qpu-provider", 25)])
def test_what_a_guide_builds_passes_all_of_its_suite(guide, least, tmp_path):
    assert passed(guide, tmp_path, "-m", "") >= least
