"""What the tests of the trackers share: a job whose attempts the test plays itself, and a tracking server that fails on demand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pl_hybridjobs.jobs import outcome
from pl_hybridjobs.jobs.durable import dump_sealed, write_once
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.lease import claim
from pl_hybridjobs.jobs.metric_lines import read_rows
from pl_hybridjobs.jobs.metrics import MetricWriter, series_of
from pl_hybridjobs.jobs.spec import JobSpec, new_id
from pl_hybridjobs.jobs.store import Store


class PlayedJob:
    """A job folder, with this process as the owner of its attempts."""

    def __init__(self, **spec: Any) -> None:
        draft = JobSpec(**{"id": new_id(), "name": "vqe", "function": "vqe", "runner": "inline", "created": time.time(), **spec})
        self.folder: JobFolder = Store().create(draft, lambda folder: "")[0]
        self.spec = self.folder.spec()
        self.begin()

    def begin(self, cause: str = "start") -> None:
        """The first attempt, or the next."""
        self.lease = claim(self.folder, cause)
        self.log = MetricWriter(self.folder.metrics, attempt=self.lease.epoch)

    def interrupt(self) -> None:
        """As a kill does it, found by somebody."""
        self.log.close()
        ended = {"code": -9, "detail": "killed", "time": time.time(), "again": False}
        write_once(self.folder.attempt(self.lease.epoch).exit, dump_sealed(ended))

    def resume(self, cursor: Mapping[str, Any]) -> None:
        """The next attempt, from a checkpoint."""
        self.begin("resume")
        self.log.rewind(cursor)

    def complete(self) -> None:
        """The function has returned."""
        self.log.close()
        outcome.commit_value(self.folder, self.lease.epoch, None)

    def counting(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value of all that counts, by metric; nothing of what does not."""
        series = series_of(read_rows(self.folder.metrics))
        return {name: list(zip(s.step.tolist(), s.value.tolist(), strict=True)) for name, s in series.items() if len(s.step)}


class TrackingServer:
    """MLflow's REST interface, as far as mirrors use it, before MLflow's own file store. ``fault`` says what goes wrong."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.fault = ""  # hang, refuse, or lose_reply
        self.requests: list[str] = []
        self._freed = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        self._freed.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), partial(_Handler, self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._freed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, Any]:
        self.requests.append(operation)
        if self.fault == "hang":
            self._freed.wait(30)
            return 503, {}
        if self.fault == "refuse":
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "down for an hour"}
        return 200, getattr(self, operation.replace("/", "_").replace("-", "_"))(asked)

    def experiments_get_by_name(self, asked: dict[str, Any]) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        found = self.store.get_experiment_by_name(asked["experiment_name"])
        if found is None:
            raise MlflowException(f"no experiment {asked['experiment_name']}", RESOURCE_DOES_NOT_EXIST)
        return {"experiment": _json(found)}

    def experiments_create(self, asked: dict[str, Any]) -> Any:
        return {"experiment_id": self.store.create_experiment(asked["name"])}

    def runs_create(self, asked: dict[str, Any]) -> Any:
        tags = [_entities().RunTag(tag["key"], tag["value"]) for tag in asked.get("tags", [])]
        return {"run": _json(self.store.create_run(asked["experiment_id"], "", int(asked["start_time"]), tags, asked["run_name"]))}

    def runs_search(self, asked: dict[str, Any]) -> Any:
        return {"runs": [_json(run) for run in self.store.search_runs(asked["experiment_ids"], asked["filter"], 1, 1)]}

    def runs_get(self, asked: dict[str, Any]) -> Any:
        return {"run": _json(self.store.get_run(asked["run_id"]))}

    def runs_log_batch(self, asked: dict[str, Any]) -> Any:
        entities = _entities()
        metrics = [entities.Metric(m["key"], float(m["value"]), int(m["timestamp"]), int(m["step"])) for m in asked.get("metrics", [])]
        params = [entities.Param(p["key"], p["value"]) for p in asked.get("params", [])]
        tags = [entities.RunTag(tag["key"], tag["value"]) for tag in asked.get("tags", [])]
        self.store.log_batch(asked["run_id"], metrics, params, tags)
        return {}

    def runs_update(self, asked: dict[str, Any]) -> Any:
        entities = _entities()
        status = entities.RunStatus.from_string(asked["status"])
        end_time = int(asked["end_time"]) if "end_time" in asked else None
        return {"run_info": _json(self.store.update_run_info(asked["run_id"], status, end_time, None))}

    def runs_delete(self, asked: dict[str, Any]) -> Any:
        self.store.delete_run(asked["run_id"])
        return {}

    def metrics_get_history(self, asked: dict[str, Any]) -> Any:
        return {"metrics": [_json(metric) for metric in self.store.get_metric_history(asked["run_id"], asked["metric_key"])]}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, tracker: TrackingServer, *args: Any) -> None:
        self.tracker = tracker
        super().__init__(*args)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def do_GET(self) -> None:
        self._answer({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

    def _answer(self, asked: dict[str, Any]) -> None:
        from mlflow.exceptions import MlflowException

        operation = urlsplit(self.path).path.partition("/mlflow/")[2]
        try:
            code, answer = self.tracker.answer(operation, asked)
        except MlflowException as error:
            code, answer = error.get_http_status_code(), json.loads(error.serialize_as_json())
        if self.tracker.fault == "lose_reply" and operation == "runs/log-batch":
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # who asked has given up
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def _entities() -> Any:
    from mlflow import entities

    return entities


def _json(entity: Any) -> Any:
    from mlflow.utils.proto_json_utils import message_to_json

    return json.loads(message_to_json(entity.to_proto()))


@contextlib.contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    """One that runs."""
    from mlflow.store.tracking.file_store import FileStore

    server = TrackingServer(FileStore(folder.as_uri()))
    server.start()
    try:
        yield server
    finally:
        server.stop()
