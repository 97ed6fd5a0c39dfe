"""What a Ray 2.60 answered, word for word, said again by a server of this process. It can run what is submitted, too."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = {
    "version": "4",
    "ray_version": "2.60.0",
    "ray_commit": "b7f4259e944bf6959f721b106adc366ddfa0c356",
    "session_name": "session_2026",
}
METADATA = {"result": True, "msg": "", "data": {"rayVersion": "2.60.0", "pythonVersion": "3.11.7", "rayInitCluster": False}}
WAITS = (
    "Job has not started yet. It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available. "
    "It may be waiting for the runtime environment to be set up."
)
MISSING = (401, "Unauthorized: Missing authentication token")
WRONG = (403, "Forbidden: Invalid authentication token")
EXISTS = (
    'Traceback (most recent call last):\n  File "job_agent.py", line 45, in submit_job\n    raise ValueError(\n'
    "ValueError: Job with submission_id {} already exists. Please use a different submission_id.\n"
)
JOB: dict[str, Any] = {
    "type": "SUBMISSION",
    "job_id": None,
    "submission_id": "",
    "driver_info": None,
    "status": "PENDING",
    "entrypoint": "",
    "message": WAITS,
    "error_type": None,
    "start_time": 1795305595430,
    "end_time": None,
    "metadata": {},
    "runtime_env": {},
    "driver_agent_http_address": None,
    "driver_node_id": None,
    "driver_exit_code": None,
}
RUNS = {"status": "RUNNING", "message": "Job is currently running.", "driver_agent_http_address": "http://10.0.0.7:52365"}


@dataclass
class Recorded:
    """A server that answers as Ray does.

    Attributes:
        address: Of its Jobs API.
        token: What it wants to see; "" for none.
        runs: Whether it runs what is submitted.
        version: What it says of itself.
        metadata: See ``version``.
        jobs: What it says of its jobs, by their names.
        submitted: What was asked for, in order.
        refusal: What a submission is answered with, or None.
        loses: How many answers to submissions are lost.
        cores: Of its node; 0 before it has one.
    """

    address: str = ""
    token: str = ""
    runs: bool = False
    version: dict[str, Any] = field(default_factory=lambda: dict(VERSION))
    metadata: dict[str, Any] = field(default_factory=lambda: dict(METADATA))
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    loses: int = 0
    cores: int = 0
    stopped: list[str] = field(default_factory=list)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def say(self, **what: Any) -> None:
        """What to say of the newest job from now on."""
        self.jobs[self.submitted[-1]["submission_id"]].update(what)

    def answer(self, method: str, path: str, shown: str, body: Any) -> tuple[int, str]:
        if self.token and shown != f"Bearer {self.token}":
            return WRONG if shown else MISSING
        name = path.removeprefix("/api/jobs/").removesuffix("/stop")
        if path == "/api/version":
            return 200, json.dumps(self.version)
        if path == "/api/v0/cluster_metadata":
            return 200, json.dumps(self.metadata)
        if path.startswith("/api/v0/nodes"):
            nodes = [{"state": "ALIVE", "resources_total": {"CPU": float(self.cores), "memory": 4e9}}] if self.cores else []
            return 200, json.dumps({"result": True, "msg": "", "data": {"result": {"total": len(nodes), "result": nodes}}})
        if method == "POST" and path == "/api/jobs/":
            return self._submit(body)
        if name not in self.jobs:
            return 404, f"Job {name} does not exist"
        if path.endswith("/stop"):
            self.stopped.append(name)
            return 200, '{"stopped": true}'
        return 200, json.dumps(self.jobs[name])

    def _submit(self, body: dict[str, Any]) -> tuple[int, str]:
        name = body["submission_id"]
        if self.refusal is not None:
            return self.refusal
        if name in self.jobs:
            return 400, EXISTS.format(name)
        self.submitted.append(body)
        self.jobs[name] = {**JOB, "submission_id": name, "entrypoint": body["entrypoint"]}
        if self.runs:
            child = subprocess.Popen(body["entrypoint"], shell=True, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
            self._running.append(child)
            self.jobs[name].update(RUNS)
            threading.Thread(target=self._follow, args=(name, child)).start()
        if self.loses:
            self.loses -= 1
            return 500, "No available agent to submit job, please try again later."
        return 200, json.dumps({"job_id": name, "submission_id": name})

    def _follow(self, name: str, child: subprocess.Popen[bytes]) -> None:
        code = child.wait()
        message = "Job finished successfully." if code == 0 else f"Job entrypoint command failed with exit code {code}. No logs available."
        error = None if code == 0 else "JOB_ENTRYPOINT_COMMAND_ERROR"
        ended = {"status": "FAILED" if code else "SUCCEEDED", "message": message, "error_type": error, "driver_exit_code": code}
        self.jobs[name].update(ended)

    def wait(self) -> None:
        for child in self._running:
            child.wait(30)


@contextmanager
def recorded(**options: Any) -> Iterator[Recorded]:
    """The server, for as long as the block."""
    made = Recorded(**options)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, text = made.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield made
        finally:
            made.wait()
            server.shutdown()
            thread.join()
