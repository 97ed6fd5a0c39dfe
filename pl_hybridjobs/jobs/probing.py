"""A small job that tells whether a cluster's nodes can run ours: the shared folder, Python, file locks, clocks.

What it has found good is kept, for each set of options.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.home import default_home, private_folder
from pl_hybridjobs.jobs.durable import dump_json, write_bytes
from pl_hybridjobs.jobs.entry import EXIT_NO_FOLDER, EXIT_SETUP
from pl_hybridjobs.jobs.environment import Interpreter
from pl_hybridjobs.jobs.lease import LEASE_S
from pl_hybridjobs.jobs.queued import Phase, QueuedRunner, Seen

#: Seconds that a probe may wait for its turn.
PATIENCE_S = float(os.environ.get("HYBRIDJOBS_PROBE_S", "300"))
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


def _script(folder: Path, python: str, setup: Sequence[str]) -> list[str]:
    """The lines for bash that a probe runs on a node."""
    return [
        f"[ -w {shlex.quote(str(folder))} ] || exit {EXIT_NO_FOLDER}",
        *(f"{line}\n[ $? = 0 ] || exit {EXIT_SETUP}" for line in setup),
        f"exec {shlex.quote(python)} -S -c {shlex.quote(_CODE)} {shlex.quote(str(folder))}",
    ]


@dataclass(frozen=True)
class Probing:
    """A probe on its way.

    Attributes:
        look: What the engine says of it; None where it does not know it any more.
        stop: Ends it.
    """

    look: Callable[[], Seen | None]
    stop: Callable[[], None]


def once(runner: QueuedRunner, key: Sequence[str | Sequence[str]], submit: Callable[[list[str]], Probing], shell: str = "") -> list[str]:
    """Probe, unless all was good before.

    Args:
        runner: Whose options.
        key: What else the answer depends on.
        submit: Submits the lines for bash that it is given.
        shell: How to get a shell on a node, for advice, or "".

    Returns:
        What is wrong with the node that the probe ran on, and how to mend it, one sentence each.

    Raises:
        RunnerError: The engine refuses it, or does not answer.
    """
    python = runner.python or sys.executable
    key = [*key, python, list(runner.setup)]
    probes = default_home() / "probes"
    good = probes / f"{hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:24]}.json"
    if good.exists():
        return []
    private_folder(probes.parent, probes.name)
    with tempfile.TemporaryDirectory(dir=probes, ignore_cleanup_errors=True) as folder:  # another client may be probing, too
        found = _ask(runner, Path(folder), python, submit, shell)
    if not found:
        write_bytes(good, dump_json({"time": time.time()}))
    return found


def _ask(runner: QueuedRunner, folder: Path, python: str, submit: Callable[[list[str]], Probing], shell: str) -> list[str]:
    probing = submit(_script(folder, python, runner.setup))
    deadline = time.monotonic() + PATIENCE_S
    try:
        while (seen := probing.look()) is not None and seen.phase is not Phase.OVER:
            if time.monotonic() > deadline:
                probing.stop()
                late = f"the probe has not run within {PATIENCE_S:g} s ({seen.text})"
                return [f"{late}. Submit without probe=True, or wait longer: $HYBRIDJOBS_PROBE_S"]
            time.sleep(0.2)
    except BaseException:  # nobody waits for it any more
        with contextlib.suppress(RunnerError):
            probing.stop()
        raise
    told = seen or Seen(f"{runner.engine} does not know it any more", Phase.OVER)
    return _judge(told, folder, python, type(runner).__name__, shell)


def _judge(probed: Seen, folder: Path, python: str, runner: str, shell: str) -> list[str]:
    node, home = probed.node or "?", folder.parent.parent
    if probed.code == EXIT_NO_FOLDER:
        advice = "Set HYBRIDJOBS_HOME to a folder on a file system that all nodes share, for example below $HOME or a project's folder"
        return [f"node {node} does not see {home}, or cannot write there. {advice}"]
    if probed.code == EXIT_SETUP:
        return [f"a line of setup fails on node {node}" + (f"; try it there: {shell}" if shell else "; try it there")]
    if probed.code in (126, 127):
        return [f"node {node} cannot run {python}. Name its interpreter with {runner}(python=), or activate one in setup="]
    answer = _read(folder / "answer.json")
    if answer is None:
        wrote = f"the probe on node {node} wrote nothing that is seen here within {_SHOWN_AFTER_S:g} s"
        return [f"{wrote} ({probed.text}, exit code {probed.code})"]
    found = []
    here = Interpreter.here().version
    if answer["python"].split(".")[:2] != here.split(".")[:2]:
        found.append(
            f"node {node} has Python {answer['python']} ({python}), and this is {here}: pickled code only loads in the same minor version. "
            f"Name another with {runner}(python=), or load it in setup="
        )
    if answer["lock"]:
        found.append(
            f"file locks do not work in {home} on node {node} ({answer['lock']}), so two owners of one job could not be "
            "told apart. Have the share mounted with locks (Lustre: flock; NFS: version 4), or set HYBRIDJOBS_HOME to another one"
        )
    apart_s = abs(time.time() - float(answer["time"]))
    if apart_s > PATIENCE_S + LEASE_S:
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
