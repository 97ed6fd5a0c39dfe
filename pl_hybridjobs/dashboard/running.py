"""A dashboard that runs: the application behind its guard, on a port of the loopback, in a thread."""

from __future__ import annotations

import html
import socket
import threading
import webbrowser
from pathlib import Path
from types import TracebackType

import uvicorn

from pl_hybridjobs.dashboard.app import Api
from pl_hybridjobs.dashboard.guard import Guard
from pl_hybridjobs.dashboard.watch import Watcher
from pl_hybridjobs.errors import InvalidCall
from pl_hybridjobs.home import default_home
from pl_hybridjobs.jobs.durable import write_bytes

_ENDING_S = 5


class Dashboard:
    """Serves the page until it is closed.

    Args:
        home: Whose jobs; default: ``default_home()``.
        port: 0 takes a free one.

    Attributes:
        home: The home folder.
        url: Where the page is, with the token.

    Raises:
        InvalidCall: The port is none, or cannot be had.
    """

    def __init__(self, home: Path | None = None, *, port: int = 0) -> None:
        self.home = home or default_home()
        if not 0 <= port < 2**16:
            raise InvalidCall("dashboard", [f"port={port} is none; ports are 0 to 65535."])
        try:
            self._socket = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise InvalidCall("dashboard", [f"port {port} cannot be used ({error.strerror}); --port 0 takes a free one"]) from error
        taken = self._socket.getsockname()[1]
        self._watcher = Watcher(self.home)
        guard = Guard(Api(self.home, self._watcher).app(), taken)
        self.url = f"http://127.0.0.1:{taken}/?token={guard.token}"
        config = uvicorn.Config(
            guard,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,  # addresses hold the token
            server_header=False,
            timeout_graceful_shutdown=_ENDING_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="hybridjobs-dashboard", daemon=True
        )
        self._thread.start()
        self._ticket: Path | None = None

    def open_browser(self) -> bool:
        """Show the page in the user's browser; False if there is none.

        By a file that only the user can read: a browser's command line is seen by everybody on the machine.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ticket = self.home / ".dashboard.html"
        link = html.escape(self.url, quote=True)
        write_bytes(
            self._ticket,
            f'<!doctype html><meta http-equiv="refresh" content="0; url={link}"><a href="{link}">The dashboard</a>\n'.encode(),
            durable=False,
        )
        return webbrowser.open(self._ticket.as_uri())

    def close(self) -> None:
        """End all streams and stop serving. Jobs go on."""
        self._watcher.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        if self._ticket is not None:
            self._ticket.unlink(missing_ok=True)

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
