"""A service that says what a script tells it to say, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The connection is closed without a reply.
DROP = "drop"


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int = 200
    body: Any = field(default_factory=dict)
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str = "no") -> Reply:
    return Reply(status, {"message": message}, code)


@dataclass
class Scripted:
    """The service.

    Attributes:
        url: Where it listens.
        asked: Method, path, body and headers of each request.
    """

    script: Callable[[int, Mapping[str, str]], Reply | str]
    url: str = ""
    asked: list[tuple[str, str, bytes, Mapping[str, str]]] = field(default_factory=list)


@contextmanager
def scripted(*replies: Reply | str | Callable[[Mapping[str, str]], Reply | str]) -> Iterator[Scripted]:
    """Replies in turn, the last one for all further requests."""
    lock = threading.Lock()

    def script(number: int, headers: Mapping[str, str]) -> Reply | str:
        reply = replies[min(number, len(replies) - 1)]
        return reply(headers) if callable(reply) else reply

    service = Scripted(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                number = len(service.asked)
                service.asked.append((self.command, self.path, body, dict(self.headers)))
            reply = service.script(number, dict(self.headers))
            if isinstance(reply, str):
                self.close_connection = True
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response_only(reply.status)
            headers = {"Content-Length": str(len(data)), "Date": self.date_time_string(), **reply.headers}
            for name, value in ({**headers, "x-amzn-ErrorType": reply.error} if reply.error else headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
