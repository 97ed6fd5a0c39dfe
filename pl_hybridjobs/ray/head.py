"""The process of ``ray start``, which ends when the one that started it does, however that comes about."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> int:
    """``head <pid of the parent> <arguments of ray>``."""
    parent, *arguments = argv
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it died before we asked
            return 1
    from ray.scripts import scripts

    sys.argv[:] = ["ray", *arguments]
    scripts.main()
    return 0
