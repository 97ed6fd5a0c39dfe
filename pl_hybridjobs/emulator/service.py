"""The front door: one port for Amazon Braket and, through moto, for S3, CloudWatch Logs, STS, IAM and ECR."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from pl_hybridjobs.emulator import buckets
from pl_hybridjobs.emulator.beside import Beside
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.faults import Dice
from pl_hybridjobs.emulator.model import Refused, body_of, request_of
from pl_hybridjobs.emulator.operations import Operations
from pl_hybridjobs.errors import InvalidCall

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]

_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate (fault injection).</Message></Error>"
_REASONS = {200: "OK", 201: "Created"}
HOST = "127.0.0.1"
_CONDITIONS = frozenset({"HTTP_RANGE", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"})
_POLL_S = 0.02  # between two looks at whether to stop


class _Handler(MotoRequestHandler):
    """Keeps its thoughts to itself, and the connection open: werkzeug's own closes it after each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body are sent as one

    def setup(self) -> None:
        """A client has connected."""
        super().setup()
        self.server.app.connections.add(self.connection)

    def finish(self) -> None:
        """It has gone."""
        self.server.app.connections.discard(self.connection)
        with contextlib.suppress(ConnectionError):  # it did not wait for the last of its answer
            super().finish()

    def handle_expect_100(self) -> bool:
        """Tell a client that it may send a long body, now and not with the answer: it would wait a second for that."""
        goes_on = super().handle_expect_100()
        self.wfile.flush()
        return bool(goes_on)

    def run_wsgi(self) -> None:
        """Answer a request. All of it is read first, so that the next one begins where it ends."""
        environ = self.make_environ()
        rest = environ["wsgi.input"]
        body = rest.read() if environ.get("wsgi.input_terminated") else rest.read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        begun: list[Any] = []
        try:
            answer = self.server.app(environ, lambda *given: begun.extend(given))
            content = b"".join(answer)
            if close := getattr(answer, "close", None):
                close()
        except ConnectionError:  # there is to be no reply
            self.close_connection = True
            return
        except Exception:  # noqa: BLE001 - a defect of ours or of moto's, which the client has to see
            begun, content = ["500 Internal Server Error", [("Content-Type", "text/plain")]], traceback.format_exc().encode()
        status, headers = begun[0], begun[1]
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        is_bodiless = self.command == "HEAD" or code in ("204", "304")
        for name, value in headers:
            if name.lower() not in ("connection", "content-length") or (is_bodiless and name.lower() == "content-length"):
                self.send_header(name, value)
        if not is_bodiless:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not is_bodiless:
            self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: a request a line is no use to anybody here."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The service's time, by which clients learn that theirs is wrong."""
        return format_datetime(self.server.app.now(), usegmt=True)


class Service:
    """A WSGI application and the server that runs it, in threads of this process.

    Args:
        operations: What Braket does.
        beside: What other services answer in moto's place.
        dice: What goes wrong.
        clock: The service's time.
        port: 0: a free one.
    """

    def __init__(self, operations: Operations, beside: Beside, dice: Dice, clock: Clock, port: int) -> None:
        self._operations, self._beside, self._dice, self._clock = operations, beside, dice, clock
        self._numbers = itertools.count(1)
        self._others = DomainDispatcherApplication(create_backend_app)
        self._s3 = create_backend_app("s3")
        self.connections: set[socket.socket] = set()
        try:
            self._server = make_server(HOST, port, self, threaded=True, request_handler=_Handler)
        except (OSError, SystemExit) as error:
            raise InvalidCall("emulator", [f"port {port} cannot be used ({error}); port=0 takes a free one."]) from error
        self.port = int(self._server.port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="emulator", daemon=True)
        self._thread.start()

    def now(self) -> datetime:
        """By the service's clock."""
        return self._clock.now()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):  # it has gone by itself
                connection.shutdown(socket.SHUT_RDWR)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """WSGI: one request, answered by Braket or by moto."""
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope and scope["service"] != "braket":
            reply = self._beside.answer(environ, scope["service"], scope["region"])
            if reply is not None:
                start(f"{reply[0]} {_REASONS.get(reply[0], 'Refused')}", [("Content-Type", "application/x-amz-json-1.1")])
                return [reply[1]]
            return self._others_answer(environ, start, scope["service"])
        if scope is None and not environ["PATH_INFO"].startswith(("/device", "/quantum-task", "/job", "/tags/", "/spending-limit")):
            return self._others_answer(environ, start, "")
        status, headers, body = self._answer(environ, scope["region"] if scope else "")
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "x-amzn-RequestId": f"{next(self._numbers):032x}",
            **headers,
        }
        start(f"{status} {_REASONS.get(status, 'Refused')}", list(headers.items()))
        return [body]

    def _others_answer(self, environ: Environ, start: Start, service: str) -> Iterable[bytes]:
        reads = service == "s3" and environ["REQUEST_METHOD"] == "GET"
        if reads and self._dice.at_s3(environ["PATH_INFO"]):
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_SLOW_DOWN)))])
            return [_SLOW_DOWN]
        is_plain = reads and not environ["QUERY_STRING"] and not _CONDITIONS.intersection(environ)
        if is_plain and (found := buckets.get(environ["PATH_INFO"])) is not None:
            start("200 OK", list(found.headers.items()))
            return [found.body]
        # moto's dispatcher looks at 150 folders for each request; S3 is where most of them go.
        app: Callable[[Environ, Start], Iterable[bytes]] = self._s3 if service == "s3" else self._others.get_application(environ)
        return app(environ, start)

    def _answer(self, environ: Environ, region: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of Braket's answer.

        Raises:
            ConnectionAbortedError: There is to be none; the server closes the connection.
        """
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            if not region:
                raise Refused("MissingAuthenticationTokenException", "The request is not signed.")
            if self._clock.is_out_of_step(environ.get("HTTP_X_AMZ_DATE", "")):
                raise Refused("InvalidSignatureException", f"Signature not current: the service's time is {self._clock.now()}.")
            operation, params = request_of(environ["REQUEST_METHOD"], environ["RAW_URI"], body)
            fault = self._dice.at_the_door(f"{operation.name} {_subject(params)}")
            if fault == "throttle":
                raise Refused("ThrottlingException", "Rate exceeded (fault injection)")
            if fault == "error":
                raise Refused("InternalServiceException", "The service failed (fault injection)")
            answer = self._operations.call(operation.name, params, region)
            if fault == "duplicate":
                answer = self._operations.call(operation.name, params, region)
            if fault == "drop":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError("fault injection")
            return operation.http["responseCode"], {}, body_of(operation, answer)
        except Refused as refused:
            members = {name: value for name, value in refused.members.items() if value is not None}
            return refused.status, {"x-amzn-ErrorType": refused.code}, json.dumps(members).encode()


def _subject(params: Mapping[str, Any]) -> str:
    """What a request is about: its idempotency key where it has one, so that a retry is the same request."""
    for name in ("clientToken", "quantumTaskArn", "jobArn", "spendingLimitArn", "resourceArn", "deviceArn"):
        if name in params:
            return str(params[name])
    return ""
