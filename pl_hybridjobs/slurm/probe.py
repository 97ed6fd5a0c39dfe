"""A small job that tells whether a cluster's nodes can run ours: the shared folder, Python, file locks, clocks.

Asked for by ``SlurmRunner(probe=True)``; what it has found good is kept, for each set of options.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.home import default_home
from pl_hybridjobs.jobs.durable import dump_json, write_bytes
from pl_hybridjobs.jobs.environment import Interpreter
from pl_hybridjobs.jobs.lease import LEASE_S
from pl_hybridjobs.slurm import commands

if TYPE_CHECKING:
    from pl_hybridjobs.slurm.runner import SlurmRunner

_PATIENCE_S = float(os.environ.get("HYBRIDJOBS_PROBE_S", "300"))
_SHOWN_AFTER_S = 10.0  # a share may show a new file late
#: Runs on the node: what it sees, as JSON, into the folder that it should see.
_CODE = """
import fcntl, json, os, platform, sys, time
folder = sys.argv[1]
found = {"python": platform.python_version(), "time": time.time(), "lock": ""}
with open(os.path.join(folder, "lock"), "w") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found["lock"] = "held"
    except OSError as error:
        found["lock"] = str(error)
temporary = os.path.join(folder, ".answer")
with open(temporary, "w") as file:
    json.dump(found, file)
os.replace(temporary, os.path.join(folder, "answer.json"))
"""


def complaints(runner: SlurmRunner, options: Sequence[str]) -> list[str]:
    """Run the probe, unless it was good before.

    Args:
        runner: Whose options.
        options: As ``sbatch`` has them.

    Returns:
        What is wrong and how to mend it, one sentence each.

    Raises:
        RunnerError: Slurm refuses it, or does not answer.
    """
    home = default_home()
    python = runner.python or sys.executable
    key = json.dumps([os.environ.get("SLURM_CONF", ""), python, list(options), list(runner.setup)])
    folder = home / "probes" / hashlib.sha256(key.encode()).hexdigest()[:24]
    if (folder / "good.json").exists():
        return []
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "answer.json").unlink(missing_ok=True)
    found = _ask(runner, options, folder, python)
    if not found:
        write_bytes(folder / "good.json", dump_json({"time": time.time()}))
    return found


def _ask(runner: SlurmRunner, options: Sequence[str], folder: Path, python: str) -> list[str]:
    lines = ["#!/bin/bash" + (" -l" if runner.setup else ""), f"[ -w {shlex.quote(str(folder))} ] || exit 72"]
    lines += [f"{line}\n[ $? = 0 ] || exit 78" for line in runner.setup]
    lines += [f"exec {shlex.quote(python)} -S -c {shlex.quote(_CODE)} {shlex.quote(str(folder))}", ""]
    more = ["--job-name=hybridjobs-probe", "--chdir=/", "--output=/dev/null", "--time=2", "--no-requeue"]
    job = commands.submit([*(o for o in options if not o.startswith("--time=")), *more], "\n".join(lines))
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        seen = commands.show(job)
        if seen is None or seen.is_over:
            break
        if time.monotonic() > deadline:
            commands.cancel(job)
            advice = "Submit without probe=True, or wait longer: $HYBRIDJOBS_PROBE_S"
            return [f"the probe has not run within {_PATIENCE_S:g} s ({seen.text}). {advice}"]
        time.sleep(0.2)
    return _judge(seen, folder, python)


def _judge(seen: commands.Seen | None, folder: Path, python: str) -> list[str]:
    node = seen.node if seen is not None else "?"
    code = seen.code if seen is not None else 0
    if code == 72:
        advice = "Set HYBRIDJOBS_HOME to a folder on a file system that all nodes share, for example below $HOME or a project's folder"
        return [f"node {node} does not see {folder.parent.parent}, or cannot write there. {advice}"]
    if code == 78:
        return [f"a line of setup fails on node {node}; try it there: srun --pty bash -l"]
    if code in (126, 127):
        return [f"node {node} cannot run {python}. Name its interpreter with SlurmRunner(python=), or activate one in setup="]
    answer = _read(folder / "answer.json")
    if answer is None:
        told = seen.text if seen is not None else "Slurm does not know it any more"
        return [f"the probe on node {node} wrote nothing that is seen here within {_SHOWN_AFTER_S:g} s ({told}, exit code {code})"]
    found = []
    here = Interpreter.here().version
    if answer["python"].split(".")[:2] != here.split(".")[:2]:
        found.append(
            f"node {node} has Python {answer['python']} ({python}), and this is {here}: pickled code only loads in the same minor version. "
            "Name another with SlurmRunner(python=), or load it in setup="
        )
    if answer["lock"]:
        found.append(
            f"file locks do not work in {folder.parent.parent} on node {node} ({answer['lock']}), so two owners of one job could not be "
            "told apart. Have the share mounted with locks (Lustre: flock; NFS: version 4), or set HYBRIDJOBS_HOME to another one"
        )
    apart_s = abs(time.time() - float(answer["time"]))
    if apart_s > _PATIENCE_S + LEASE_S:
        found.append(f"the clock of node {node} differs from this one's by {apart_s:.0f} s; they must be kept by NTP")
    return found


def _read(path: Path) -> dict[str, Any] | None:
    deadline = time.monotonic() + _SHOWN_AFTER_S
    while time.monotonic() < deadline:
        os.listdir(path.parent)  # makes a share show what is new
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_bytes())
            return found
        time.sleep(0.1)
    return None
