"""Looks after a job inside its container on Amazon Braket: the same supervisor and worker as anywhere, in a job folder that travels.

The folder lies inside the checkpoint directory, which the service copies to S3 while the job runs, and back to a job that goes on from
there. So what the client must know comes as files: state, metrics, checkpoints, results, outcome. The bundle and the inputs are links to
where they came. Started by ``entry``, with this package's own copy first on ``PYTHONPATH``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pl_hybridjobs.braket.entry import tell
from pl_hybridjobs.braket.jobs import Order
from pl_hybridjobs.cost.account import LEDGER
from pl_hybridjobs.errors import HybridJobsError
from pl_hybridjobs.jobs import contract, environment, locks, outcome, own
from pl_hybridjobs.jobs.durable import write_bytes
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.logs import read_from
from pl_hybridjobs.jobs.metric_lines import NON_FINITE, parse
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.state import State, observe
from pl_hybridjobs.jobs.supervisor import supervise

#: What travels of the ledger: a copy that is whole at any moment.
SNAPSHOT = "spend.snapshot"
#: Before the first line of an attempt's log; no line of a log begins so.
ATTEMPT_MARK = "hybridjobs: attempt "
#: What an input folder without files has in S3, which has no empty folders.
EMPTY = ".hybridjobs-empty"

_POLL_S = 0.1
_RESERVED = {"timestamp", "iteration_number", "node_id"}
_PIP_TAIL = 40


def main(argv: list[str]) -> int:
    """``inside <folder with what was unpacked>``. Returns the exit code that tells the service the truth."""
    work = Path(argv[0])
    order = Order.from_hyperparameters(json.loads(Path(os.environ["AMZN_BRAKET_HP_FILE"]).read_text(encoding="utf-8")))
    os.environ["HYBRIDJOBS_HOME"] = str(work / "home")
    folder = prepare(work, Path(os.environ["AMZN_BRAKET_CHECKPOINT_DIR"]), order.job)
    spec = folder.spec()
    print(f"hybridjobs: {spec.name}, job {spec.id}, Braket job {order.run} of it", flush=True)
    teller = Teller(folder, work)
    teller.start()
    try:
        if problem := install(folder.bundle):
            latest = folder.latest_attempt()
            error = {"type": "", "message": problem, "traceback": ""}
            outcome.commit_failure(folder, latest.number if latest else 0, "environment", error)
        else:
            supervise(folder, spec, order.bundle, order.cause)
    finally:
        teller.finish()
    state = observe(folder)
    deliver(folder, state, Path(os.environ["AMZN_BRAKET_JOB_RESULTS_DIR"]))
    print(f"hybridjobs: {state.status}{f': {state.detail}' if state.detail else ''}", flush=True)
    if state.status is Status.COMPLETED:
        return 0
    tell(state.reason)
    return 1


def prepare(work: Path, checkpoints: Path, job_id: str) -> JobFolder:
    """Make the job's folder, or go on in the one that came back from S3.

    Args:
        work: Where the source archive was unpacked.
        checkpoints: The directory that is copied to and from S3.
        job_id: The job's id.
    """
    folder = JobFolder(checkpoints / job_id)
    for path in (folder.attempts, folder.inputs, folder.results, work / "home"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(folder.spec_file, (work / "job.json").read_bytes())
    _link(folder.bundle, work / "bundle")
    for channel in folder.spec().inputs:
        source = Path(os.environ.get("AMZN_BRAKET_INPUT_DIR", "/opt/braket/input/data"), channel)
        with contextlib.suppress(OSError):  # none, or a folder that is read-only
            (source / EMPTY).unlink()
        _link(folder.inputs / channel, source)
    for attempt in folder.attempt_list():  # S3 keeps no empty folders, and a lease is what makes an attempt
        if not attempt.lease.exists():
            shutil.rmtree(attempt.path)
    snapshot = folder.path / SNAPSHOT
    if snapshot.exists():  # the ledger itself may have been copied while it was written
        for ending in ("", "-wal", "-shm"):
            (folder.path / f"{LEDGER}{ending}").unlink(missing_ok=True)
        write_bytes(folder.path / LEDGER, snapshot.read_bytes())
    return folder


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() or link.is_file():
        link.unlink()
    elif link.is_dir():  # the service followed our link when it copied
        shutil.rmtree(link)
    link.symlink_to(target, target_is_directory=True)


# The environment ---------------------------------------------------------------------------------------------------------------


def install(bundle: Path) -> str:
    """Install what the bundle's lock and this package need and the image lacks.

    Returns:
        What went wrong, with the installer's last lines; "" if nothing did.
    """
    if importlib.util.find_spec("packaging") is None and (problem := _pip(["packaging"])):  # requirements are read with it
        return problem
    try:
        named = json.loads((bundle / "manifest.json").read_bytes())["requirements"]
        lines = locks.requirements(bundle / Path(named["file"]).name, named["kind"], environment.Interpreter.here())
        wanted = missing([*lines, *own.requirements()])
        hashed = {line.split(" --hash")[0]: line for line in lines if " --hash" in line}
    except (HybridJobsError, OSError, ValueError, KeyError, TypeError) as error:
        return f"The bundle does not say what it requires: {error}"
    sealed, others = [line for line in wanted if line in hashed], [line for line in wanted if line not in hashed]
    return (sealed and _pip(sealed, [hashed[line] for line in sealed])) or (others and _pip(others)) or ""


def missing(lines: Iterable[str]) -> list[str]:
    """Those requirements that are not met here; comments, and lines for other platforms, are passed over."""
    from packaging.requirements import InvalidRequirement, Requirement

    from pl_hybridjobs.jobs.distributions import installed, normalised

    here = installed().by_name
    found: list[str] = []
    for line in lines:
        text = re.sub(r"(^|\s)#.*$", "", line).split(" --hash")[0].strip(" \\\t")
        if not text or text.startswith("-"):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            found.append(text)  # pip knows forms that are no PEP 508, and says so where it does not
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        present = here.get(normalised(wanted.name))
        if present is None or (wanted.specifier and not wanted.specifier.contains(present.version, prereleases=True)):
            found.append(text)
    return list(dict.fromkeys(found))


def _pip(wanted: list[str], lines: list[str] | None = None) -> str:
    """Install requirements; where their lines say more, such as hashes, by these."""
    named = environment.without_passwords(", ".join(wanted))
    print(f"hybridjobs: installing {named}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hybridjobs-") as folder:
        listing = Path(folder, "requirements.txt")
        listing.write_text("".join(f"{line}\n" for line in lines or ()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        command += ["-r", str(listing)] if lines else wanted
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    told = environment.without_passwords(done.stdout)
    print(told, end="", flush=True)
    if done.returncode == 0:
        return ""
    tail = "\n".join(told.splitlines()[-_PIP_TAIL:])
    return f"pip could not install {named} (exit code {done.returncode}); the function was not called.\n{tail}"


# What the service and its console are told -------------------------------------------------------------------------------------


class Teller(threading.Thread):
    """Prints the job's log and metrics as they come, for CloudWatch, and keeps a copy of the ledger that is whole.

    Args:
        folder: The job's.
        work: For temporary files.
    """

    def __init__(self, folder: JobFolder, work: Path) -> None:
        super().__init__(name="hybridjobs-teller", daemon=True)
        self._folder, self._work = folder, work
        self._attempt = folder.attempt_list()[-1].number if folder.attempt_list() else 0
        self._is_new = True  # the next attempt has not begun
        self._position = 0
        self._metrics_at = folder.metrics.stat().st_size if folder.metrics.exists() else 0
        self._ledger: tuple[Any, ...] = ()
        self._over = threading.Event()

    def run(self) -> None:
        """Until ``finish``."""
        while not self._over.wait(_POLL_S):
            self._tell()

    def finish(self) -> None:
        """Tell the rest."""
        self._over.set()
        self.join()
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not kill a healthy job
            data = b"".join([*self._log(), *self._metrics()])
            while data:
                data = data[os.write(1, data) :]
        with contextlib.suppress(HybridJobsError, OSError):
            self._keep_ledger()

    def _log(self) -> Iterator[bytes]:
        """Whole lines of the newest attempts' logs."""
        while True:
            if self._is_new and self._folder.attempt(self._attempt + 1).path.exists():
                self._attempt, self._is_new, self._position = self._attempt + 1, False, 0
                yield f"{ATTEMPT_MARK}{self._attempt}\n".encode()
            if not self._is_new:
                has_successor = self._folder.attempt(self._attempt + 1).path.exists()
                data = read_from(self._folder.attempt(self._attempt).log, self._position)
                whole = data[: data.rfind(b"\n") + 1]
                self._position += len(whole)
                yield whole
                if has_successor:
                    self._is_new = True
                    continue
            return

    def _metrics(self) -> Iterator[bytes]:
        data = read_from(self._folder.metrics, self._metrics_at)
        whole = data[: data.rfind(b"\n") + 1]
        self._metrics_at += len(whole)
        for line in whole.split(b"\n"):
            row = parse(line)
            if row is not None and row[3] is not None:
                yield f"{metric_line(row[3], NON_FINITE.get(row[4], row[4]), row[5], row[6])}\n".encode()

    def _keep_ledger(self) -> None:
        from pl_hybridjobs.cost.ledger import Ledger

        state = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in self._folder.path.glob(f"{LEDGER}*"))
        if not state or state == self._ledger:
            return
        copy = self._work / SNAPSHOT
        copy.unlink(missing_ok=True)
        Ledger(self._folder.path / LEDGER).copy(copy)
        if copy.exists():
            write_bytes(self._folder.path / SNAPSHOT, copy.read_bytes())
        self._ledger = state


def metric_line(name: str, value: Any, step: int, when: float) -> str:
    """A metric as Amazon Braket's parser reads it."""
    return contract.metric_line(braket_name(name), value, when, step)


def braket_name(name: str) -> str:
    """A metric's name without characters at which Braket's parser would cut it: ``train/loss`` is ``train_x2f_loss``.

    ``own_name`` is the way back. Names of letters, digits and underscores stay.
    """
    if name in _RESERVED:
        return f"_x{ord(name[0]):x}_{name[1:]}"
    safe = re.sub(r"_(?=x[0-9a-f]+_)", "_x5f_", name)
    return re.sub(r"\W", lambda match: f"_x{ord(match[0]):x}_", safe)


def own_name(name: str) -> str:
    """What ``braket_name`` made this of."""
    return re.sub(r"_x([0-9a-f]+)_", lambda match: chr(int(match[1], 16)), name)


def deliver(folder: JobFolder, state: State, results: Path) -> None:
    """Put what the function wrote, and its value where that is plain, where Amazon Braket makes ``model.tar.gz`` of it."""
    results.mkdir(parents=True, exist_ok=True)
    if folder.results.is_dir():
        hidden = shutil.ignore_patterns(".saved_result*")
        shutil.copytree(folder.results, results, dirs_exist_ok=True, ignore=hidden, ignore_dangling_symlinks=True)
    target = results / contract.RESULTS
    if state.status is not Status.COMPLETED or state.outcome is None or target.exists():
        return
    try:
        value = outcome.plain_value(folder, state.outcome)
        if value is not None:
            target.write_bytes(contract.persisted(contract.named(value)))
    except (HybridJobsError, TypeError, ValueError) as error:
        print(f"hybridjobs: {contract.RESULTS} was not written: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
