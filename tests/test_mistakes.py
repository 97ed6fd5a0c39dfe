"""Mistakes that people make, done as they do them. What is said then stands in docs/guides/troubleshooting.md, with the cause and the cure.

Each heading of the third level there is a name in ``MISTAKES``, and the text below it is what this mistake must say (``…`` is anything).
"""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
import time
from importlib import import_module
from typing import Any

import numpy as np
import pennylane as qml
import pytest
from click.testing import CliRunner
from pennylane import numpy as pnp

from pl_hybridjobs import (
    Budget,
    Resources,
    current_job,
    hybrid_job,
    input_path,
    job_device,
    list_jobs,
    load_checkpoint,
    log_metric,
    open_job,
    save_checkpoint,
    submit_script,
    train,
)
from pl_hybridjobs.jobs import bundle, packing
from pl_hybridjobs.jobs.local import LocalRunner
from tests.house.source import ROOT

PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"
X = pnp.array(0.3, requires_grad=True)
MISTAKES: dict[str, Any] = {}


def mistake(name):
    def keep(make):
        MISTAKES[name] = make
        return make

    return keep


def inline(fn, *args, **options):
    return hybrid_job(fn, runner="inline", **options)(*args)


def add(a, b=1):
    return a + b


def training(objective, params, **options):
    options = {"optimizer": qml.GradientDescentOptimizer(0.1), "steps": 3, "progress": False, **options}
    return inline(lambda: train(objective, params, **options)).result()


def node(measure, device="hybridjobs.qubit", shots=None, wires=1, **options):
    dev = qml.device(*([device] if isinstance(device, str) else device), wires=wires)

    def circuit(x):
        qml.RX(x, wires=0)
        return measure()

    return qml.set_shots(qml.QNode(circuit, dev, **options), shots)


def energy():
    return qml.expval(qml.Z(0))


# Options and names -----------------------------------------------------------------------------------------------------------


@mistake("A device's name is misspelt")
def _(tmp_path, monkeypatch):
    hybrid_job(add, device="hybridjobs.qubits")(1)


@mistake("An option is misspelt")
def _(tmp_path, monkeypatch):
    hybrid_job(add, devise="hybridjobs.qubit")


@mistake("A limit is misspelt")
def _(tmp_path, monkeypatch):
    Resources(timeout=60)  # type: ignore[call-arg] # type checkers see some of these mistakes, too


@mistake("An option of a runner is misspelt")
def _(tmp_path, monkeypatch):
    LocalRunner(sandboxed=True)  # type: ignore[call-arg]


@mistake("No such runner")
def _(tmp_path, monkeypatch):
    hybrid_job(add, runner="dask")(1)


@mistake("A class in place of a runner")
def _(tmp_path, monkeypatch):
    hybrid_job(add, runner=LocalRunner)(1)


@mistake("An argument is misspelt")
def _(tmp_path, monkeypatch):
    hybrid_job(lambda steps=1: steps)(stpes=3)  # type: ignore[call-arg]


@mistake("An argument is forgotten")
def _(tmp_path, monkeypatch):
    hybrid_job(add)()  # type: ignore[call-arg]


@mistake("A name that cannot be used")
def _(tmp_path, monkeypatch):
    hybrid_job(add, name="my job!")


@mistake("Two jobs of one name")
def _(tmp_path, monkeypatch):
    return [inline(add, 1, name="twin").name, inline(add, 2, name="twin").name]


@mistake("A key is used again for another call")
def _(tmp_path, monkeypatch):
    inline(add, 1, key="monday")
    inline(add, 2, key="monday")


@mistake("The function was not called")
def _(tmp_path, monkeypatch):
    hybrid_job(add).result()


@mistake("The @ is forgotten")
def _(tmp_path, monkeypatch):
    add(1).result()


@mistake("A generator function")
def _(tmp_path, monkeypatch):
    def steps():
        yield 1

    hybrid_job(steps)


@mistake("A job that is not there")
def _(tmp_path, monkeypatch):
    inline(add, 1, name="vqe")
    open_job("vqee")


@mistake("A status that does not exist")
def _(tmp_path, monkeypatch):
    list_jobs(status="complete")


@mistake("No such command")
def _(tmp_path, monkeypatch):
    return typed("runn")


@mistake("No such function in the script")
def _(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("def vqe(steps: int): ...\n")
    submit_script(tmp_path / "train.py", "vqee")


@mistake("An argument on the command line is no number")
def _(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("def vqe(steps: int): ...\n")
    return typed("run", f"{tmp_path / 'train.py'}:vqe", "--arg", "steps=many")


# What travels ----------------------------------------------------------------------------------------------------------------

LOCK = threading.Lock()


@mistake("A lock is captured")
def _(tmp_path, monkeypatch):
    def guarded():
        with LOCK:
            return 1

    hybrid_job(guarded)()


@mistake("An open file is captured")
def _(tmp_path, monkeypatch):
    with open(__file__) as file:
        hybrid_job(lambda: file.readline() or file.name)()


@mistake("A generator is an argument")
def _(tmp_path, monkeypatch):
    hybrid_job(add)(n for n in range(3))


@mistake("A credential is captured")
def _(tmp_path, monkeypatch):
    password = "hunter" + "2-and-more"
    hybrid_job(lambda: password)()


@mistake("The data is too large")
def _(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDJOBS_MAX_BUNDLE_MB", "1")
    hybrid_job(add)(np.zeros(1_000_000))


@mistake("An input that is not there")
def _(tmp_path, monkeypatch):
    hybrid_job(add, inputs={"train": "nowhere.csv"})(1)


@mistake("An input is misspelt")
def _(tmp_path, monkeypatch):
    inline(lambda: input_path("trian"), inputs={"train": __file__}).result()


@mistake("Something to include is not there")
def _(tmp_path, monkeypatch):
    hybrid_job(add, include=["no_such_module"])(1)


@mistake("A requirement is not installed")
def _(tmp_path, monkeypatch):
    hybrid_job(add, requirements=["no-such-package>=3"])(1)


@mistake("The file of requirements is not there")
def _(tmp_path, monkeypatch):
    hybrid_job(add, requirements="requirement.txt")(1)


@mistake("Another Python than the one that packed")
def _(tmp_path, monkeypatch):
    packing.pack(add, (1,), {}, tmp_path / "bundle")
    manifest = bundle.verify(tmp_path / "bundle")
    manifest["python"]["version"] = "3.9.1"
    bundle.compare_environment(manifest)


# While the job runs, and after -----------------------------------------------------------------------------------------------


@mistake("The function raises")
def _(tmp_path, monkeypatch):
    inline(lambda: 1 / 0).result()


@mistake("A package is missing in the job")
def _(tmp_path, monkeypatch):
    def load():
        import_module("no_such_package")

    inline(load).result()


@mistake("The result cannot be stored")
def _(tmp_path, monkeypatch):
    inline(lambda: add).result()


@mistake("A checkpoint cannot be stored")
def _(tmp_path, monkeypatch):
    inline(lambda: save_checkpoint({"optimizer": add}, step=1)).result()


@mistake("The first attempt has no checkpoint")
def _(tmp_path, monkeypatch):
    inline(lambda: load_checkpoint()["step"]).result()


@mistake("The result is asked for before the end")
def _(tmp_path, monkeypatch):
    job = hybrid_job(time.sleep)(60)
    try:
        job.result(timeout=0.01)
    finally:
        job.cancel()


@mistake("Ctrl-C while waiting")
def _(tmp_path, monkeypatch, capsys):
    job = hybrid_job(time.sleep)(60)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        job.result()
    job.cancel()
    return capsys.readouterr().err


@mistake("The job was cancelled")
def _(tmp_path, monkeypatch):
    job = hybrid_job(time.sleep)(60)
    job.cancel()
    job.result()


@mistake("The job is killed")
def _(tmp_path, monkeypatch):
    hybrid_job(lambda: os.kill(os.getpid(), signal.SIGKILL))().result()


@mistake("The job needs more memory than it may have")
def _(tmp_path, monkeypatch):
    def hoard():
        block = bytearray(300_000_000)
        time.sleep(60)
        return len(block)

    hybrid_job(hoard, resources={"memory_mb": 200})().result()


@mistake("The job runs out of time")
def _(tmp_path, monkeypatch):
    hybrid_job(time.sleep, resources={"timeout_s": 0.1})(60).result()


@mistake("A limit that this process cannot have")
def _(tmp_path, monkeypatch):
    inline(add, 1, resources={"memory_mb": 100})


@mistake("A completed job is resumed")
def _(tmp_path, monkeypatch):
    inline(add, 1).resume()


@mistake("A checkpoint of another version of the function")
def _(tmp_path, monkeypatch):
    def changed():
        attempt = current_job().attempt
        run = train(lambda p: p[0] ** 2, np.ones(attempt), optimizer=qml.AdamOptimizer(0.1), steps=2 * attempt, progress=False)
        raise ValueError(run.value)

    inline(changed, retries={"errors": 1, "backoff_s": 0}).result()


@mistake("The disk is full")
def _(tmp_path, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG in place of a signal: as near to a full disk as a test gets
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
        inline(lambda: save_checkpoint({"state": np.zeros(100_000)}, step=1)).result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)


@mistake("The home folder cannot be written")
def _(tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HYBRIDJOBS_HOME", str(tmp_path / "a file" / "jobs"))
    hybrid_job(add)(1)


@mistake("A secret is printed")
def _(tmp_path, monkeypatch):
    return inline(lambda: print("the token is", "abc-123")).logs()


# Metrics and training --------------------------------------------------------------------------------------------------------


@mistake("A metric that is no number")
def _(tmp_path, monkeypatch):
    log_metric("loss", "high")


@mistake("A metric that is an array")
def _(tmp_path, monkeypatch):
    log_metric("loss", np.zeros(3))


@mistake("A metric's name is misspelt")
def _(tmp_path, monkeypatch):
    inline(lambda: log_metric("energy", 1.0)).metrics()["enery"]


@mistake("The loss is NaN")
def _(tmp_path, monkeypatch):
    training(lambda p: p * np.nan, np.array(1.0))


@mistake("The objective gives several numbers")
def _(tmp_path, monkeypatch):
    training(lambda p: p * np.ones(2), np.array(1.0))


@mistake("The objective does not depend on its parameters")
def _(tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="gradient") as caught:
        training(lambda p: 1.0 + 0.0 * p, np.array(1.0))
    return caught[0].message


@mistake("Integers are to be trained")
def _(tmp_path, monkeypatch):
    training(lambda p: p**2, np.array([1, 2]))


@mistake("The parameters have the wrong shape")
def _(tmp_path, monkeypatch):
    def circuit(x):
        qml.StronglyEntanglingLayers(x, wires=range(2))
        return energy()

    training(qml.QNode(circuit, qml.device("hybridjobs.qubit", wires=2)), np.zeros((2, 3, 3)))


@mistake("An optimizer that train does not know")
def _(tmp_path, monkeypatch):
    training(lambda p: p**2, np.array(1.0), optimizer="adam")


@mistake("A class in place of an optimizer")
def _(tmp_path, monkeypatch):
    training(lambda p: p**2, np.array(1.0), optimizer=qml.AdamOptimizer)


# Circuits --------------------------------------------------------------------------------------------------------------------


@mistake("A wire that the device does not have")
def _(tmp_path, monkeypatch):
    node(lambda: qml.expval(qml.Z(1)))(X)


@mistake("An option of the device is misspelt")
def _(tmp_path, monkeypatch):
    qml.device("hybridjobs.qubit", wires=2, sede=7)


@mistake("A role that the job's device does not have")
def _(tmp_path, monkeypatch):
    inline(lambda: job_device("last", wires=1), device={"first": "hybridjobs.qubit", "final": "hybridjobs.mixed"}).result()


@mistake("Samples without shots")
def _(tmp_path, monkeypatch):
    node(qml.sample)(X)


@mistake("A state with shots")
def _(tmp_path, monkeypatch):
    node(qml.state, shots=10)(X)


@mistake("Adjoint with shots")
def _(tmp_path, monkeypatch):
    qml.grad(node(energy, shots=10, diff_method="adjoint"))(X)


@mistake("Adjoint of what is no expectation value")
def _(tmp_path, monkeypatch):
    qml.jacobian(node(qml.probs, diff_method="adjoint"))(X)


@mistake("Backprop through a remote device")
def _(tmp_path, monkeypatch):
    node(energy, ("hybridjobs.qpu", "rehearsal:ideal"), diff_method="backprop")


@mistake("Noise on a device that has none")
def _(tmp_path, monkeypatch):
    def noisy():
        qml.DepolarizingChannel(0.1, wires=0)
        return energy()

    node(noisy)(X)


@mistake("More qubits than fit")
def _(tmp_path, monkeypatch):
    node(lambda: qml.expval(qml.prod(*map(qml.Z, range(50)))), wires=50)(X)


@mistake("The gradient by an integer")
def _(tmp_path, monkeypatch):
    import jax

    jax.grad(node(energy))(1)


# Remote devices, money, engines ----------------------------------------------------------------------------------------------

ARN = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
REHEARSAL = ("hybridjobs.qpu", "rehearsal:qpu")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@mistake("No credentials")
def _(tmp_path, monkeypatch):
    node(energy, ("hybridjobs.qpu", ARN), shots=10)(X)


@mistake("The emulator does not run")
def _(tmp_path, monkeypatch):
    from pl_hybridjobs.braket.session import Retries

    monkeypatch.setattr(Retries, "pause_s", lambda self, failures: 0.0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    node(energy, ("hybridjobs.qpu", ARN), shots=10)(X)


@mistake("A resource name is misspelt")
def _(tmp_path, monkeypatch):
    hybrid_job(add, device="arn:aws:braket:us-east-1:device/qpu/ionq/Forte-1")(1)


@mistake("A provider is misspelt")
def _(tmp_path, monkeypatch):
    node(energy, ("hybridjobs.qpu", "rehersal:qpu"))


@mistake("An option of a rehearsal is misspelt")
def _(tmp_path, monkeypatch):
    qml.device("hybridjobs.qpu", "rehearsal:qpu", wires=1, latency=3)


@mistake("A quantum computer without shots")
def _(tmp_path, monkeypatch):
    node(energy, REHEARSAL)(X)


@mistake("The device is offline")
def _(tmp_path, monkeypatch):
    node(energy, ("hybridjobs.qpu", "rehearsal:qpu?offline_s=inf"), shots=10)(X)


@mistake("A task fails")
def _(tmp_path, monkeypatch):
    dev = qml.device("hybridjobs.qpu", "rehearsal:qpu", wires=1, fails=(0,))
    qml.set_shots(qml.QNode(energy, dev), 10)()


@mistake("The budget does not reach")
def _(tmp_path, monkeypatch):
    def buy():
        return qml.set_shots(qml.QNode(energy, job_device(wires=1)), 10)()

    inline(buy, device="rehearsal:qpu?task_usd=3", budget=Budget(max_usd=1)).result()


@mistake("A budget that is text")
def _(tmp_path, monkeypatch):
    hybrid_job(add, budget="5 dollars")


@mistake("No container engine")
def _(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    hybrid_job(add, runner="container")(1)


# The page --------------------------------------------------------------------------------------------------------------------


def typed(*words):
    """What a command prints on the way out."""
    from pl_hybridjobs.cli.commands import cli

    return CliRunner().invoke(cli, list(words)).output


def told():
    """Heading -> the message below it."""
    return dict(re.findall(r"^### (.+?)\n\n```text\n(.+?)\n```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL))


def said(make, *surroundings):
    """What a mistake says: its error with its class, or what it prints."""
    try:
        return str(make(*surroundings))
    except Exception as error:  # noqa: BLE001 - whatever is said
        return f"{type(error).__name__}: {error}"


@pytest.mark.filterwarnings("ignore:The jitted function grad:UserWarning")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_cause_and_cure(name, tmp_path, monkeypatch, capsys):
    make = MISTAKES[name]
    surroundings = (tmp_path, monkeypatch, capsys)[: make.__code__.co_argcount]

    heard = said(make, *surroundings)

    wanted = ".*".join(re.escape(part) for part in told().get(name, "this mistake stands on the page").split("…"))
    assert re.search(wanted, heard, flags=re.DOTALL), f"\n{heard}\n\nbut the page says\n\n{told().get(name)}"


def test_the_page_tells_of_these_mistakes_and_no_others():
    headings = re.findall(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)

    assert headings == list(MISTAKES)
    assert sorted(told()) == sorted(MISTAKES)


def test_each_message_is_followed_by_its_cause_and_cure():
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]

    for section in sections:
        words = re.split(r"^## ", section.split("\n```\n", 1)[1], flags=re.MULTILINE)[0].split()
        assert len(words) >= 8, section
