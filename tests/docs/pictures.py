"""Makes the pictures of docs/guides/sweeps.md, of a real sweep: ``python -m tests.docs.pictures``. Takes a minute or two."""

from __future__ import annotations

import os
import tempfile

from pl_hybridjobs import grid
from tests.dashboard.screenshots import IMAGES, scan


def main() -> None:
    """Run the sweep and draw it."""
    with tempfile.TemporaryDirectory(prefix="hybridjobs-pictures-") as home:
        os.environ["HYBRIDJOBS_HOME"] = home
        sweep = scan.map(grid(optimizer=["descent", "adam"], stepsize=[0.003, 0.01, 0.03, 0.1, 0.3], layers=[2]), max_parallel=2)
        sweep.wait()
        print(sweep.table())
        sweep.plot("energy", path=IMAGES / "sweep-curves.png")
        sweep.plot("energy", x="stepsize", path=IMAGES / "sweep-values.png")


if __name__ == "__main__":
    main()
