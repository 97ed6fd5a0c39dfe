"""The batch script: what Slurm runs on a node. Text in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from pl_hybridjobs.jobs.entry import Element, script


def batch(elements: Sequence[Element], *, python: str, cause: str, grace_s: float, setup: Sequence[str], is_array: bool) -> str:
    """The script for one job, or for an array of jobs.

    Args:
        elements: The jobs, in the order of the array's indices.
        python: The interpreter on the node.
        cause: See ``Runner.start``.
        grace_s: Seconds between the signal to stop and the end.
        setup: Lines of shell that come first, for example ``module load python``.
        is_array: The element is chosen by ``$SLURM_ARRAY_TASK_ID``.
    """
    if is_array:
        cases = [f"{index}) set -- {element.words} ;;" for index, element in enumerate(elements)]
        choice = ['case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"]
    else:
        choice = [f"set -- {elements[0].words}"]
    lines = script(choice, "slurm", python=python, cause=cause, grace_s=grace_s, setup=setup, module="pl_hybridjobs.slurm.node")
    return with_shebang(lines, setup)


def with_shebang(lines: Sequence[str], setup: Sequence[str]) -> str:
    """Lines as a script for bash; ``module`` and the like need a login shell."""
    return "\n".join(["#!/bin/bash" + (" -l" if setup else ""), *lines, ""])
