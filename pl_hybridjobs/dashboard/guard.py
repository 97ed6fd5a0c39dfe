"""Who may see the page: the loopback's own names, a secret, and headers that keep other pages out.

A browser shares this machine with pages of strangers, and other users may reach the port. So each request needs

- a ``Host`` that is a name of the loopback (else a stranger's name could be pointed here: DNS rebinding);
- the token of the printed link, or the cookie that is set when it was given;
- and to change anything, a header that other origins can't send without being asked first (a preflight, which is never granted),
  beside an ``Origin`` that is ours.

Answers carry a Content-Security-Policy under which only our own files run, nothing is fetched from elsewhere, and no text can become
HTML (Trusted Types).
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
#: Must come with each request that changes something.
HEADER = "X-Hybridjobs"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Lets requests through to an application, or refuses them.

    Args:
        app: What is guarded.
        port: Where it listens: cookies of one host are shared by all its ports, so its number is in the cookie's name.

    Attributes:
        token: Opens the page; random, new each time.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._cookie = f"hybridjobs-{port}"
        self._session = secrets.token_urlsafe(32)
        self.token = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        has_token = scope["path"] == "/" and secrets.compare_digest(request.query_params.get("token", "").encode(), self.token.encode())
        refusal = self._refusal(request, has_token)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if has_token and refusal is None:
                    headers.append("Set-Cookie", f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, request: Request, has_token: bool) -> PlainTextResponse | None:
        host = request.headers.get("host", "")
        if _hostname(f"//{host}") not in LOOPBACK:
            return PlainTextResponse(f"This dashboard answers to 127.0.0.1 and localhost, not to {host!r}.\n", 421)
        given = request.cookies.get(self._cookie, "")
        if not has_token and not secrets.compare_digest(given.encode(), self._session.encode()):
            return PlainTextResponse("Open the link that `hybridjobs dashboard` printed: it holds the token.\n", 401)
        if request.method not in ("GET", "HEAD") and (HEADER not in request.headers or not _is_ours(request, host)):
            return PlainTextResponse(f"Changes come from the page itself, with the header {HEADER}.\n", 403)
        return None


def _is_ours(request: Request, host: str) -> bool:
    """The request comes from our own page, or from no page at all."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "none")
    return (origin is None or origin == f"http://{host}") and site in ("same-origin", "none")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
