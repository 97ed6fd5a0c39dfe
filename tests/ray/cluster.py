"""Ray clusters for tests: how to tell what is left of ours, and one that is started as others start theirs."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs import process
from pl_hybridjobs.ray.api import Api, Token
from pl_hybridjobs.ray.cluster import Cluster, token_of
from tests.queues import free_port

MISSING = "RAY IS MISSING, so this was not tested: `pip install 'ray[default]>=2.52'`. It is not in the test extra, because it is 375 MB."
_STARTS_IN_S = 90.0


def problem() -> str:
    """Why no Ray can run here, or ""."""
    return MISSING if importlib.util.find_spec("ray") is None else ""


def left_of(cluster: Cluster) -> list[str]:
    """What is still there of a cluster that has ended."""
    pids = {*process.of_session(cluster.head), *process.of_token(token_of(cluster.id))}
    return [f"process {pid}" for pid in sorted(pids)] + [path for path in (cluster.temporary,) if Path(path).exists()]


@dataclass
class Head:
    """A cluster of one node that has nothing to do with our keeper. Its address stays when it is started again.

    Attributes:
        folder: Its token and its logs.
        env: More variables.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def api(self) -> Api:
        return Api(self.address, Token(self.token.read_text(), "the test"))

    def start(self) -> None:
        """Start it, and wait until it takes jobs."""
        if not self.token.exists():
            self.token.write_text(secrets.token_hex(16))
        self._temporary = tempfile.mkdtemp(prefix="hjtest-", dir="/tmp")
        options = {
            "dashboard-port": self.port,
            "temp-dir": self._temporary,
            "num-cpus": 2,
            "object-store-memory": 100_000_000,
            **{
                name: free_port() for name in ("port", "ray-client-server-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
            },
            **{name: free_port() for name in ("metrics-export-port", "runtime-env-agent-port")},
        }
        argv = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block", "--disable-usage-stats"]
        env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "RAY_USAGE_STATS_ENABLED": "0", **self.env}
        with self.folder.joinpath("head.out").open("ab") as out:
            self._process = subprocess.Popen(
                [*argv, *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + _STARTS_IN_S
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "head.out").read_text()[-2000:]
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return "CPU" in self.api.largest()
        except RunnerError:
            return False

    def kill(self) -> None:
        """As a power loss would: everything in its session, at once."""
        assert self._process is not None
        leader = process.Identity.of(self._process.pid)
        assert leader is not None
        while left := process.of_session(leader):
            for pid in left:
                process.signal_one(pid, signal.SIGKILL)
            time.sleep(0.02)
        self._process.wait()
        self._process = None
        shutil.rmtree(self._temporary, ignore_errors=True)

    def stop(self) -> None:
        """End it, if it is there."""
        if self._process is not None:
            self.kill()


@contextmanager
def head(folder: Path, **env: str) -> Iterator[Head]:
    """A cluster that is there as long as the block."""
    made = Head(folder, env)
    made.start()
    try:
        yield made
    finally:
        made.stop()
