"""Where many tasks stand, with few requests.

A few tasks are asked for one by one (GetQuantumTask). When there are more, one search (SearchQuantumTasks, 100 tasks a page) tells of all
of them, at most five times a second, which is what accounts may search by default; whoever asks in between waits for the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from pl_hybridjobs.braket.session import Refusal, Session

FINAL = ("COMPLETED", "FAILED", "CANCELLED")
_FEW = 8
_INTERVAL_S = 0.2
_LONGEST_S = 1.0
_SHARE = 4.0  # a search that took long is not repeated before so many times as long, or the longest pause
_PAGE = 100
_PLACE_S = 5.0  # between two requests for a place in the queue, which a search does not tell
_MARGIN = timedelta(minutes=10)  # clocks differ

Told = Mapping[str, Any]


class Watch:
    """Tasks of one device that have not ended, as far as this process knows.

    Args:
        session: The way to the service.
        target: The device's ARN.
    """

    def __init__(self, session: Session, target: str) -> None:
        self._session, self._target = session, target
        self._open: dict[str, float] = {}  # task -> time.monotonic() when it was added
        self._known: dict[str, Told] = {}  # of those that were found by a search
        self._since: datetime | None = None
        self._searched_s = float("-inf")  # when the last search began
        self._again_s = float("-inf")  # when the next one may
        self._asked_place_s = float("-inf")
        self._can_search = True
        self._lock = threading.Lock()
        self._searching = threading.Lock()

    def add(self, task_id: str) -> None:
        """A task was created just now."""
        with self._lock:
            if self._since is None:
                self._since = self._session.now() - _MARGIN
            self._open[task_id] = time.monotonic()

    def forget(self, task_id: str) -> None:
        """Nobody will ask for it again."""
        with self._lock:
            self._open.pop(task_id, None)
            self._known.pop(task_id, None)
            if not self._open:
                self._since = None

    def look(self, task_id: str) -> Told:
        """Where a task stood at most a moment ago: GetQuantumTask's or SearchQuantumTasks' answer."""
        with self._lock:
            known, added_s = self._known.get(task_id), self._open.get(task_id)
            is_one_of_many = self._can_search and added_s is not None and len(self._open) > _FEW
        if known is not None and known["status"] in FINAL:
            return known
        if not is_one_of_many or added_s is None:
            return self.ask(task_id)
        self._search_again()
        with self._lock:
            known = self._known.get(task_id)
            if known is None and added_s >= self._searched_s:
                return {"status": "CREATED"}  # it is younger than the last search
            wants_place = known is not None and known["status"] == "QUEUED" and time.monotonic() - self._asked_place_s > _PLACE_S
            if wants_place:
                self._asked_place_s = time.monotonic()
        return self.ask(task_id) if known is None or wants_place else known

    def ask(self, task_id: str) -> Told:
        """Where a task stands now: GetQuantumTask's answer."""
        told = self._session.call("braket", "get_quantum_task", quantumTaskArn=task_id, additionalAttributeNames=["QueueInfo"])
        with self._lock:
            if task_id in self._open and told["status"] in FINAL:
                self._known[task_id] = told
        return told

    def _search_again(self) -> None:
        """Wait until it is time for a search, which one of the threads that wait makes for all."""
        time.sleep(min(max(0.0, self._again_s - time.monotonic()), _INTERVAL_S))
        with self._searching:
            if time.monotonic() < self._again_s:
                return
            with self._lock:
                since, pages = self._since, len(self._open) // _PAGE + 2
            began_s = time.monotonic()
            try:
                found = self._search(since or self._session.now() - _MARGIN, pages)
            except Refusal as refusal:
                if refusal.code not in ("AccessDeniedException", "ValidationException"):
                    raise
                self._can_search = False  # not allowed to: one by one, then
                return
            with self._lock:
                self._searched_s, ended_s = began_s, time.monotonic()
                self._again_s = max(began_s + _INTERVAL_S, ended_s + min(_SHARE * (ended_s - began_s), _LONGEST_S))
                self._known.update((task_id, told) for task_id, told in found.items() if task_id in self._open)

    def _search(self, since: datetime, pages: int) -> dict[str, Told]:
        filters = [
            {"name": "deviceArn", "operator": "EQUAL", "values": [self._target]},
            {"name": "createdAt", "operator": "GTE", "values": [since.strftime("%Y-%m-%dT%H:%M:%SZ")]},
        ]
        found: dict[str, Told] = {}
        told = self._session.pages("braket", "search_quantum_tasks", filters=filters, maxResults=_PAGE)
        for page in islice(told, pages):
            found |= {str(one["quantumTaskArn"]): one for one in page.get("quantumTasks", [])}
        return found
