"""The process that keeps a Ray of this machine: starts it, ends it when it has been idle for long, and leaves nothing of it behind.

It is no part of any job, and needs the standard library only. SIGTERM ends it, and all of Ray with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

from pl_hybridjobs.home import short_folder
from pl_hybridjobs.jobs import launch, process
from pl_hybridjobs.jobs.durable import try_locked
from pl_hybridjobs.ray.cluster import Cluster, Place, token_of

_LOOK_S = 0.2
_ASK_S = 10.0
_TRIES = 3
#: Our jobs wait for as long as it takes; Ray would give up after 15 minutes.
_PATIENCE_S = 10 * 365 * 86400
#: Whole jobs put nothing there; what fans out inside a job is small.
_OBJECT_STORE_BYTES = 200_000_000
#: Ray lets everybody write to what it is given, so that lies in a folder that only we can enter.
_OPEN = "r"
#: Of the caller's settings for Ray, what would lead this one elsewhere.
_NOT_OURS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_", "RAY_JOB_", "RAY_TMPDIR", "RAY_CLUSTER_")


def main(argv: list[str]) -> int:
    """``keeper <folder of the cluster> <its id> <idle seconds>``."""
    path, name, idle_s = argv
    place = Place(Path(path))
    _keep_own_errors(place.log)
    os.chdir("/")
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):  # not SIG_IGN, which all of Ray, and jobs, would inherit
        signal.signal(number, lambda *_: None)
    process.adopt_orphans()
    temporary = short_folder()
    cluster = None
    try:
        for left in reversed(range(_TRIES)):
            cluster = _start(place, name, temporary)
            why = _keep(place, cluster, float(idle_s), asked)
            if why or not left:  # else it ended before it answered: somebody has taken a port in the meantime
                break
        print(f"ended: {why or 'it did not come up'}", flush=True)
    finally:
        try:
            if cluster is not None:
                place.end(cluster)
        finally:  # also where the record is damaged
            process.kill_all(token_of(name), parent=os.getpid(), timeout_s=20.0)
            shutil.rmtree(temporary, ignore_errors=True)
    return 0


def _keep_own_errors(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(fd, number)
    os.close(fd)


def _start(place: Place, name: str, temporary: Path) -> Cluster:
    head, address = _spawn(place, name, temporary)
    me, its = process.current(), process.Identity.of(head) or process.Identity("", "", head, "")
    cluster = Cluster(name, address, me, its, str(temporary), time.time())
    place.write(cluster)
    return cluster


def _spawn(place: Place, name: str, temporary: Path) -> tuple[int, str]:
    """Start the head; its pid, and where its Jobs API will answer."""
    gcs, dashboard, agent, agent_grpc, client, metrics, runtime_env = _free_ports(7)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    arguments = [
        *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
        *(f"--ray-client-server-port={client}", f"--runtime-env-agent-port={runtime_env}", f"--temp-dir={temporary / _OPEN}"),
        *(f"--num-cpus={os.cpu_count() or 1}", f"--memory={memory}", f"--object-store-memory={_OBJECT_STORE_BYTES}"),
    ]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_OURS) and k != process.OWNER_VARIABLE}
    env = {
        **kept,
        process.TOKEN_VARIABLE: token_of(name),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.token(name)),
        "RAY_JOB_START_TIMEOUT_SECONDS": str(_PATIENCE_S),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    argv = [sys.executable, "-P", "-c", launch.program("pl_hybridjobs.ray.head"), str(launch.ROOT), str(os.getpid()), *arguments]
    with place.log.open("ab") as log:
        return process.spawn(argv, env, output=log.fileno(), session=True), f"http://127.0.0.1:{dashboard}"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _keep(place: Place, cluster: Cluster, idle_s: float, asked: list[int]) -> str:
    """Wait until it is to end; why, or "" where the head ended before it ever answered."""
    reached, ask_s = False, min(_ASK_S, max(_LOOK_S, idle_s / 5))
    used = asked_at = time.monotonic()
    while True:
        time.sleep(_LOOK_S)
        if asked:
            return "asked to"
        if _has_ended(cluster.head.pid):
            return "its head has ended" if reached else ""
        now = time.monotonic()
        if now - asked_at < ask_s:
            continue
        asked_at = now
        busy = place.busy(cluster)
        reached = reached or busy is not None
        if busy != []:
            used = now
        elif now - used > idle_s:
            with try_locked(place.lock) as is_ours:  # else somebody is about to submit
                if is_ours and place.busy(cluster) == []:
                    place.end(cluster)
                    return f"nothing has run for {idle_s:g} s"


def _has_ended(head: int) -> bool:
    """Collect all that has ended; whether the head is among it, or gone already."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            if ended == head:
                return True
        return False
    return True
