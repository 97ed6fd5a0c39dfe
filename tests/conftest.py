"""Shared by all tests: no test sees the user's own jobs, and none believes that it runs inside a job."""

from __future__ import annotations

import gc
import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

from pl_hybridjobs.ray.cluster import Place
from pl_hybridjobs.ray.runner import RayRunner
from tests.ray import cluster as ray_clusters
from tests.slurm import cluster as slurm_cluster
from tests.slurm.cluster import Cluster

# A shell's background process ignores Ctrl-C, and so would all processes that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TORCH_IS_MISSING = (
    "TORCH IS MISSING, so this was not tested: `pip install torch==2.13.0`. It is not in the test extra, because it is "
    "gigabytes on many machines; `.ci/run` installs it."
)

# No deadline: the machine may be busy. The same examples in every run: a red run can be repeated.
settings.register_profile("repeatable", deadline=None, derandomize=True)
# For hunting: `pytest --hypothesis-profile=hunt` tries new examples each time.
settings.register_profile("hunt", deadline=None, max_examples=2000)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """For runners and providers of others: the contract suites are run on what is named."""
    parser.addoption("--runner", help="the registered name of a runner: tests/jobs/test_runner_contract.py is run on it alone")
    parser.addoption(
        "--provider", help="MODULE:CLASS, as in tests/devices/providers.py: tests/devices/test_qpu_contract.py is run on it alone"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than cores, four at most, since many tests wait; what measures, prints or kills at length has the machine for itself."""
    alone = config.option.capture == "no" or "not benchmark" not in config.option.markexpr
    return 0 if alone else min(4, 1 + (os.cpu_count() or 1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """The simulator's kernels are compiled once on a machine: before any test, whose time is limited, and whose jobs would all wait."""
    if session.items and not session.config.option.collectonly:
        from pl_hybridjobs.sim import drivers

        drivers.link(np.dtype(np.float64))
    # Collecting garbage among all that was imported takes a tenth of the time of tests that compile.
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session", autouse=True)
def no_users_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fixtures of whole modules are made before ``jobs_home``; nothing of the user's may be seen or changed there either."""
    os.environ["HYBRIDJOBS_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def jobs_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``$HYBRIDJOBS_HOME`` for each test, with a space and quotes in its path."""
    for name in list(os.environ):
        if name.startswith(("HYBRIDJOBS_", "AMZN_BRAKET_", "RAY_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("jobs", numbered=True) / 'it\'s "home"'
    monkeypatch.setenv("HYBRIDJOBS_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real Slurm with one node; where Debian's packages are missing, the test is skipped, loudly."""
    if problem := slurm_cluster.problem():
        pytest.skip(slurm_cluster.CANNOT_RUN.format(problem))
    with slurm_cluster.running(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def slurm(cluster: Cluster, jobs_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """That Slurm, found by its programs, and empty at the end."""
    del jobs_home
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    yield cluster
    cluster.empty()


@pytest.fixture(scope="session")
def ray_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Ray of this machine, started as for a first job; where Ray is not installed, the test is skipped, loudly."""
    if problem := ray_clusters.problem():
        pytest.skip(problem)
    place = Place(tmp_path_factory.mktemp("ray"))
    with place.running(idle_s=600.0) as cluster:
        pass
    yield place
    place.stop(now=True)
    assert ray_clusters.left_of(cluster) == []


@pytest.fixture
def ray(ray_place: Place, jobs_home: Path) -> RayRunner:
    """A runner for that Ray, which does not know that it is one of ours."""
    del jobs_home
    cluster = ray_place.living()
    assert cluster is not None
    return RayRunner(address=cluster.address, token_file=str(ray_place.token(cluster.id)))


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX with numbers of double precision."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True)
def same_working_folder() -> Iterator[None]:
    """Nothing that a test does may leave the process in another folder."""
    before = Path.cwd()
    yield
    after = Path.cwd()
    os.chdir(before)
    assert after == before, f"the test left the process in {after}"


@pytest.fixture
def torch() -> ModuleType:
    """The torch module; where it is missing the test is skipped, and the summary says so."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        pytest.skip(TORCH_IS_MISSING)
