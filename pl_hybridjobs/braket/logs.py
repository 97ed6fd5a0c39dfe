"""A job's output, from CloudWatch to the attempts' log files: each line once, in order, however many pages there are.

How far it was read is written down after each page, with the sizes that the files had then. Whoever goes on from there cuts what a process
that died in between had added, and adds it again.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from pl_hybridjobs.braket.inside import ATTEMPT_MARK
from pl_hybridjobs.braket.record import Run
from pl_hybridjobs.braket.session import Refusal, Session
from pl_hybridjobs.errors import FolderCorrupt
from pl_hybridjobs.jobs.contract import METRICS
from pl_hybridjobs.jobs.durable import dump_json, read_json, write_bytes
from pl_hybridjobs.jobs.folder import JobFolder

GROUP = "/aws/braket/jobs"
_TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z(?: |$)")
_PAGE = 10_000
#: Errors that say: not yet, or not to be had.
_NOT_THERE = ("ResourceNotFoundException",)
_LOST_TOKEN = ("InvalidParameterException",)  # tokens are good for a day


class LogReader:
    """Reads the log of one Braket job.

    Args:
        session: The way to CloudWatch.
        folder: The job's.
        run: Which Braket job.
        name: As the service knows it; its streams begin so.
    """

    def __init__(self, session: Session, folder: JobFolder, run: Run, name: str) -> None:
        self._session, self._folder, self._run, self._name = session, folder, run, name
        self._state: dict[str, Any] = {"stream": "", "token": "", "events": 0, "attempt": 0, "sizes": {}}
        with contextlib.suppress(FileNotFoundError, FolderCorrupt):
            self._state |= read_json(run.position)

    def pull(self) -> int:
        """Take all lines that are there.

        Returns:
            How many there were.

        Raises:
            Refusal: They may not be read.
        """
        if not self._state["stream"] and not self._find():
            return 0
        self._repair()
        taken, skip = 0, 0
        while True:
            try:
                page = self._page()
            except Refusal as refusal:
                if refusal.code not in _LOST_TOKEN or not self._state["token"]:
                    raise
                skip, self._state["token"] = int(self._state["events"]), ""
                continue
            events = page.get("events", [])
            new = [str(event["message"]) for event in events[skip:]]
            skip = max(0, skip - len(events))
            self._append(new)
            taken += len(new)
            token = str(page.get("nextForwardToken") or "")
            is_end = token == self._state["token"] or not (events or token)
            if new or token != self._state["token"]:
                self._state["events"] += len(new)
                self._state["token"] = token
                if not skip:  # a place in the middle of what was read before is none to go on from
                    write_bytes(self._run.position, dump_json(self._state), durable=False)
            if is_end:
                return taken

    def _find(self) -> bool:
        try:
            found = self._session.call("logs", "describe_log_streams", logGroupName=GROUP, logStreamNamePrefix=f"{self._name}/")
        except Refusal as refusal:
            if refusal.code in _NOT_THERE:
                return False
            raise
        streams = sorted(str(stream["logStreamName"]) for stream in found.get("logStreams", ()))
        self._state["stream"] = streams[0] if streams else ""
        return bool(streams)

    def _page(self) -> dict[str, Any]:
        more = {"nextToken": self._state["token"]} if self._state["token"] else {}
        return self._session.call(
            "logs", "get_log_events", logGroupName=GROUP, logStreamName=self._state["stream"], startFromHead=True, limit=_PAGE, **more
        )

    def _append(self, messages: list[str]) -> None:
        """Sort lines into the attempts' logs and, those that are not the job's own, into the container's."""
        lines: dict[Path, list[str]] = {}
        for message in messages:
            for text in message.split("\n"):
                if text.startswith(ATTEMPT_MARK):
                    with contextlib.suppress(ValueError):
                        self._state["attempt"] = int(text[len(ATTEMPT_MARK) :])
                        lines.setdefault(self._folder.attempt(self._state["attempt"]).log, [])
                elif self._state["attempt"] and _TIMED.match(text):
                    # An empty line is a time and a blank, which services like to cut off.
                    lines.setdefault(self._folder.attempt(self._state["attempt"]).log, []).append(text if " " in text else f"{text} ")
                elif not text.startswith(METRICS):
                    lines.setdefault(self._run.container_log, []).append(text)
        for path, texts in lines.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{text}\n" for text in texts))
            self._state["sizes"][path.relative_to(self._folder.path).as_posix()] = path.stat().st_size

    def _repair(self) -> None:
        """Cut what was added after the position was written down for the last time."""
        paths = [self._run.container_log, *(attempt.log for attempt in self._folder.attempt_list())]
        for path in paths:
            name = path.relative_to(self._folder.path).as_posix()
            size = self._state["sizes"].get(name, 0)
            is_ours = path == self._run.container_log or int(path.parent.name) > int(self._run.intent["epoch"])
            if is_ours and path.exists() and path.stat().st_size > size:
                os.truncate(path, size)
