"""The page's addresses. What they answer is made in ``views``; all of it is data, none of it HTML."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pl_hybridjobs.dashboard import reading, views
from pl_hybridjobs.dashboard.tables import Tables
from pl_hybridjobs.dashboard.watch import Watcher
from pl_hybridjobs.errors import HybridJobsError, InvalidCall
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.handle import Job

STATIC = Path(__file__).parent / "static"
_MOST_JOBS = 200  # in one question
_MOST_COLUMNS = 4000
_GRACE_S = 10.0


class Api:
    """Answers the page's questions. Plain functions run in threads of their own.

    Args:
        home: The home folder.
        watcher: Looks at its jobs.
    """

    def __init__(self, home: Path, watcher: Watcher) -> None:
        self._home = home
        self._watcher = watcher
        self._tables = Tables()

    def app(self) -> Starlette:
        """The application, without any guard."""
        routes = [
            Route("/", lambda _: FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})),
            Route("/api/events", self.events),
            Route("/api/glances", self.glances),
            Route("/api/series", self.series),
            Route("/api/account", self.account),
            Route("/api/jobs/{id}", self.details),
            Route("/api/jobs/{id}/log", self.log),
            Route("/api/jobs/{id}/file", self.file),
            Route("/api/jobs/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/api/jobs/{id}/resume", self.resume, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(routes=routes, exception_handlers={HybridJobsError: _told, HTTPException: _told})

    async def events(self, request: Request) -> StreamingResponse:
        """The one stream of a page: server-sent events, see ``Watcher.events``."""
        del request

        async def lines() -> AsyncIterator[str]:
            async for event in self._watcher.events():
                yield ": still here\n\n" if event is None else f"data: {json.dumps(event, allow_nan=False)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def glances(self, request: Request) -> Response:
        """Last metrics, a small curve, progress, arguments and cost of some jobs, by id. Jobs that are gone are left out."""
        found = {}
        for job_id in request.query_params.getlist("id")[:_MOST_JOBS]:
            folder = self._watcher.folder(job_id)
            if folder is not None:
                found[job_id] = views.glance(folder, self._tables.table(folder.metrics))
        return _json(found)

    def series(self, request: Request) -> Response:
        """Curves of some jobs' metrics: a list of objects with job and name."""
        asked = request.query_params
        low, high = _number(asked, "from"), _number(asked, "to")
        columns = int(_number(asked, "columns") or 600)
        weight = _number(asked, "smooth") or 0.0
        if not 0 <= weight < 1 or not 0 < columns <= _MOST_COLUMNS:
            raise HTTPException(400, f"smooth is below 1, columns at most {_MOST_COLUMNS}")
        curves = []
        for job_id in asked.getlist("job")[:_MOST_JOBS]:
            table = self._tables.table(self._folder(job_id).metrics)
            for name in asked.getlist("name"):
                if name in table:
                    curve = views.series(table, name, by_time=asked.get("x") == "time", low=low, high=high, columns=columns, weight=weight)
                    curves.append({"job": job_id, "name": name, **curve})
        return _json(curves)

    def account(self, request: Request) -> Response:
        """What the user spent with this home folder, and may."""
        del request
        return _json(views.user_account(self._home))

    def details(self, request: Request) -> Response:
        """A job's own page."""
        folder = self._folder_of(request)
        return _json(views.details(folder, self._tables.table(folder.metrics)))

    def log(self, request: Request) -> Response:
        """A piece of a job's log: the end, what came after a place, or what was before one."""
        folder, asked = self._folder_of(request), request.query_params
        attempt, place = int(_number(asked, "attempt") or 0), int(_number(asked, "place") or 0)
        way = asked.get("way", "newest")
        if way not in ("newest", "before", "after") or attempt < 0 or place < 0:
            raise HTTPException(400, "way is newest, before or after; attempt and place are numbers from 0")
        if way == "newest":
            return _json(reading.newest(folder).to_json())
        return _json((reading.before if way == "before" else reading.after)(folder, attempt, place).to_json())

    def file(self, request: Request) -> Response:
        """One of the files that a job's function wrote, to be saved; never shown as a page."""
        path = views.artefact(self._folder_of(request), request.query_params.get("path", ""))
        if path is None:
            raise HTTPException(404, "There is no such file in the job's results.")
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    def cancel(self, request: Request) -> Response:
        """Stop a job. Answers when it has ended."""
        job = Job(self._folder_of(request))
        status = job.cancel(_GRACE_S)
        self._watcher.nudge()
        return _json({"id": job.id, "name": job.name, "status": str(status)})

    def resume(self, request: Request) -> Response:
        """Start a job's next attempt, or the job that goes on with an ended one's work."""
        job = Job(self._folder_of(request)).resume()
        self._watcher.nudge()
        return _json({"id": job.id, "name": job.name, "status": str(job.status)})

    def _folder_of(self, request: Request) -> JobFolder:
        return self._folder(request.path_params["id"])

    def _folder(self, job_id: str) -> JobFolder:
        folder = self._watcher.folder(job_id)
        if folder is None:
            raise HTTPException(404, f"There is no job {job_id!r} (any more).")
        return folder


def _number(asked: Mapping[str, str], name: str) -> float | None:
    text = asked.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise HTTPException(400, f"{name}={text!r} is no number")
    return value


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, allow_nan=False, separators=(",", ":")), status, media_type="application/json")


def _told(request: Request, error: Exception) -> Response:
    """An error as the page shows it: one sentence or a few."""
    del request
    if isinstance(error, HTTPException):
        return _json({"error": error.detail}, error.status_code)
    return _json({"error": str(error)}, 409 if isinstance(error, InvalidCall) else 500)
