"""Ray's Jobs API, over HTTP: what ``ray job submit`` speaks. Standard library only, so Ray itself is not needed to use a cluster.

Paths and fields: "Ray Jobs REST API" in Ray's documentation, and ``python/ray/dashboard/modules/job`` of Ray 2.60.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pl_hybridjobs.errors import RunnerError
from pl_hybridjobs.jobs.queued import Phase, Seen, Unreachable

#: Ray's own words for a job -> what they mean.
PHASES = {
    "PENDING": Phase.WAITING,
    "RUNNING": Phase.RUNNING,
    "STOPPED": Phase.OVER,
    "SUCCEEDED": Phase.OVER,
    "FAILED": Phase.OVER,
}
_TIMEOUT_S = 15.0
_SUBMITTED_IN_S = 60.0  # the first job of a head waits for its agent
_TOKEN_FILE = Path("~/.ray/auth_token")
_HEAD = "`ray get-auth-token` on the cluster's head prints it"


class Denied(Unreachable):
    """The cluster wants a token, and has got none, or another."""


@dataclass(frozen=True)
class Token:
    """What Ray wants to see in each request.

    Attributes:
        text: The token, or "".
        source: Where it was found.
    """

    text: str = field(default="", repr=False)
    source: str = ""


def token(path: str | None = None) -> Token:
    """A token from a file, or from where Ray itself looks: ``$RAY_AUTH_TOKEN``, ``$RAY_AUTH_TOKEN_PATH``, ``~/.ray/auth_token``.

    Raises:
        RunnerError: The file cannot be read, or holds something else.
    """
    if path is None and (given := os.environ.get("RAY_AUTH_TOKEN", "").strip()):
        return _whole(given, "$RAY_AUTH_TOKEN")
    named = path or os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    file = Path(named).expanduser() if named else _TOKEN_FILE.expanduser()
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        if not named:
            return Token()
        raise RunnerError(f"There is no file {file}, which is to hold Ray's token; {_HEAD}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunnerError(f"Ray's token cannot be read from {file}: {error}.") from error
    return _whole(text, str(file))


def _whole(text: str, source: str) -> Token:
    if not all("!" <= character <= "~" for character in text):
        raise RunnerError(f"What {source} holds is no token of Ray's, which is one line of ASCII without spaces; {_HEAD}.")
    return Token(text, source)


def address_complaint(address: str) -> str:
    """What is wrong with a cluster's address, or ""."""
    with contextlib.suppress(ValueError):  # brackets without their like, ports that are no numbers, hosts that cannot be names
        parts = urlsplit(address)
        if parts.username or parts.password:
            return (
                "has credentials in it, which would be written to job folders; give the token by RayRunner(token_file=), or $RAY_AUTH_TOKEN"
            )
        is_whole = parts.scheme in ("http", "https") and (parts.hostname or "").encode("idna") and parts.port != 0
        if is_whole and not parts.query and not parts.fragment:
            return ""
    return "is none of Ray's Jobs API; that is the one of the dashboard, for example 'http://head-node:8265'"


@dataclass(frozen=True)
class Api:
    """One cluster.

    Attributes:
        address: ``http://host:port``.
        token: What it wants to see.
    """

    address: str
    token: Token = field(default_factory=Token)

    def version(self) -> str:
        """The version of Ray that the cluster runs.

        Raises:
            Unreachable: It cannot be asked.
        """
        return str(self._asked("/api/version").get("ray_version", ""))

    def python(self) -> str:
        """The version of Python that it runs with; "" where it does not say.

        Raises:
            Unreachable: It cannot be asked.
        """
        status, text = self._request("GET", "/api/v0/cluster_metadata")
        return str((_object(text).get("data") or {}).get("pythonVersion") or "") if status == 200 else ""

    def job(self, submission: str) -> dict[str, Any] | None:
        """What the cluster says of a job; None if it has none of that name.

        Raises:
            Unreachable: It cannot be asked.
        """
        status, text = self._request("GET", f"/api/jobs/{quote(submission)}")
        if status == 404 and "does not exist" in text:
            return None
        return self._object_of(status, text)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that it knows, those that have ended too.

        Raises:
            Unreachable: It cannot be asked.
        """
        status, text = self._request("GET", "/api/jobs/")
        found = _parsed(text)
        if status != 200 or not isinstance(found, list):
            raise Unreachable(self._strange(status, text))
        return [job for job in found if isinstance(job, dict)]

    def largest(self) -> Mapping[str, float]:
        """Of each resource the most that one living node has.

        Raises:
            Unreachable: It cannot be asked.
        """
        answer = self._asked("/api/v0/nodes?detail=1&limit=1000")
        most: dict[str, float] = {}
        for node in ((answer.get("data") or {}).get("result") or {}).get("result") or []:
            if node.get("state") == "ALIVE":
                for name, amount in (node.get("resources_total") or {}).items():
                    most[name] = max(most.get(name, 0.0), float(amount))
        return most

    def submit(self, request: Mapping[str, Any]) -> None:
        """Submit a job; one of the same ``submission_id`` that is there already is not submitted again.

        Raises:
            Unreachable: Nobody knows whether the cluster has it.
            RunnerError: It was refused.
        """
        status, text = self._request("POST", "/api/jobs/", request, timeout_s=_SUBMITTED_IN_S)
        if status == 200 or f"{request['submission_id']} already exists" in text:
            return
        if status >= 500:
            raise Unreachable(self._strange(status, text))
        raise RunnerError(f"Ray refuses: {_last(text)}")

    def stop(self, submission: str) -> None:
        """End a job; one that is not there has ended.

        Raises:
            Unreachable: It cannot be asked.
        """
        status, text = self._request("POST", f"/api/jobs/{quote(submission)}/stop")
        if status != 200 and not (status == 404 and "does not exist" in text):
            raise Unreachable(self._strange(status, text))

    def _asked(self, path: str) -> dict[str, Any]:
        return self._object_of(*self._request("GET", path))

    def _object_of(self, status: int, text: str) -> dict[str, Any]:
        found = _object(text)
        if status != 200 or not found:
            raise Unreachable(self._strange(status, text))
        return found

    def _strange(self, status: int, text: str) -> str:
        return f"{self.address} answers {status}, {_last(text)!r}, which is no answer of Ray's Jobs API."

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = _TIMEOUT_S) -> tuple[int, str]:
        _patience.check(self.address)
        begun = time.monotonic()
        parts = urlsplit(self.address)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token.text}"} if self.token.text else {})
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout_s, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request(method, parts.path.rstrip("/") + path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            status, text = response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            said = f"{self.address} does not answer ({str(error) or type(error).__name__})."
            _patience.lost(self.address, said, time.monotonic() - begun)
            raise Unreachable(said) from error
        finally:
            connection.close()
        if status == 401 or (status == 403 and not self.token.text):
            raise Denied(
                f"Ray at {self.address} wants a token, and none is known here. Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or give the file "
                f"that holds it: RayRunner(token_file=...); {_HEAD}."
            )
        if status == 403:
            raise Denied(
                f"Ray at {self.address} refuses the token from {self.token.source}: it is another cluster's, or an old one; {_HEAD}."
            )
        return status, text


class _Patience:
    """Where an address was asked in vain for long, nobody asks again for twice as long: a list of jobs would take for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, tuple[float, str]] = {}

    def check(self, address: str) -> None:
        with self._lock:
            until, said = self._until.get(address, (0.0, ""))
        if time.monotonic() < until:
            raise Unreachable(said)

    def lost(self, address: str, said: str, took_s: float) -> None:
        if took_s > 1.0:
            with self._lock:
                self._until[address] = (time.monotonic() + 2 * took_s, said)


_patience = _Patience()


def seen(job: Mapping[str, Any]) -> Seen:
    """A job as Ray tells of it, in the terms of all engines.

    Raises:
        Unreachable: It is in a state that this version of ours does not know.
    """
    name, state = str(job.get("submission_id")), str(job.get("status"))
    if state not in PHASES:
        raise Unreachable(f"Ray says that {name} is {state!r}, which we do not know.")
    why = str(job.get("error_type") or "") if PHASES[state] is Phase.OVER else ""
    if state == "FAILED" and job.get("driver_exit_code") is None:
        why = ": ".join(part for part in (why, _last(str(job.get("message") or ""))) if part)
    host = urlsplit(str(job.get("driver_agent_http_address") or "")).hostname or ""
    code = job.get("driver_exit_code")
    return Seen(f"Ray's job {name} is {state}" + (f" ({why})" if why else ""), PHASES[state], host, int(code) if code is not None else None)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object(text: str) -> dict[str, Any]:
    found = _parsed(text)
    return found if isinstance(found, dict) else {}


def _last(text: str) -> str:
    """The last line that says something: of a traceback the error."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return lines[-1][:300] if lines else ""
