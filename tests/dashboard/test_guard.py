"""Who gets in."""

from __future__ import annotations

import socket
import subprocess
import sys

import httpx
import pytest

from pl_hybridjobs.dashboard import dashboard
from pl_hybridjobs.errors import InvalidCall
from tests.dashboard.folders import make
from tests.house.source import ROOT

PATHS = ["/", "/static/main.js", "/static/vendor/uplot/LICENSE", "/api/events", "/api/account", "/api/jobs/x", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_told(running, path):
    base = running.url.partition("/?")[0]

    for address in (path, f"{path}?token=", f"{path}?token=wrong"):
        refused = httpx.get(base + address)
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        assert "hybridjobs dashboard" in refused.text


def test_the_token_opens_the_page_and_leaves_a_cookie_that_scripts_and_strangers_cannot_use(running):
    opened = httpx.get(running.url)

    assert opened.status_code == 200
    assert "<title>Jobs" in opened.text
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(opened.headers["set-cookie"].split("; "))
    token = running.url.partition("token=")[2]
    assert token not in opened.text + opened.headers["set-cookie"]


def test_the_cookie_is_enough_afterwards(client):
    assert client.get("/").status_code == 200
    assert client.get("/static/main.js").headers["content-type"].startswith("text/javascript")


def test_the_token_opens_the_page_only(running):
    base, _, token = running.url.partition("/?token=")

    assert httpx.get(f"{base}/api/account", params={"token": token}).status_code == 401


def test_each_start_has_its_own_token(jobs_home):
    with dashboard(jobs_home) as one, dashboard(jobs_home) as other:
        assert one.url.partition("token=")[2] != other.url.partition("token=")[2]
        assert len(one.url.partition("token=")[2]) >= 43


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "user@127.0.0.1@evil.example"]
)
def test_a_name_that_is_not_the_loopbacks_is_refused_even_with_the_cookie(client, host):
    assert client.get("/api/account", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8000"])
def test_a_tunnel_may_have_another_port(client, host):
    assert client.get("/api/account", headers={"Host": host}).status_code == 200


def test_changes_need_our_header_and_our_origin(client, jobs_home):
    folder = make(jobs_home, ended=None)
    address = f"/api/jobs/{folder.path.name}/cancel"
    ours = {"X-Hybridjobs": "1"}
    base = str(client.base_url).rstrip("/")

    refused = [
        {},
        {**ours, "Origin": "http://evil.example"},
        {**ours, "Origin": base.replace("127.0.0.1", "localhost")},
        {**ours, "Origin": "null"},
        {**ours, "Sec-Fetch-Site": "cross-site"},
        {**ours, "Sec-Fetch-Site": "same-site"},  # another port of this machine
    ]

    assert [client.post(address, headers=headers).status_code for headers in refused] == [403] * len(refused)
    assert not folder.cancel_request.exists()
    assert client.get(address).status_code == 405
    assert client.post("/api/jobs/none/cancel", headers={**ours, "Origin": base, "Sec-Fetch-Site": "same-origin"}).status_code == 404


def test_other_origins_are_never_granted_anything(client):
    asked = client.options("/api/jobs/x/cancel", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})

    assert asked.status_code == 403
    assert not [name for name in asked.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/api/account", "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(client, path):
    headers = client.get(path).headers

    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_it_listens_on_the_loopback_only(running):
    assert running._socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_one_clear_error(jobs_home):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(InvalidCall, match="--port 0 takes a free one"):
        dashboard(jobs_home, port=other.getsockname()[1])


def test_without_the_extra_it_says_what_to_install():
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from pl_hybridjobs.dashboard import dashboard\n"
        "from pl_hybridjobs.errors import InvalidCall\n"
        "try: dashboard()\n"
        "except InvalidCall as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout == "dashboard: starlette is not installed: pip install 'pl-hybridjobs[dashboard]'\n", done.stderr


def test_only_the_user_can_read_the_file_that_hands_the_link_to_the_browser(running, monkeypatch):
    shown = []

    def show(address):
        shown.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", show)

    assert running.open_browser()

    ticket = running.home / ".dashboard.html"
    assert shown == [ticket.as_uri()]
    assert running.url.partition("token=")[2] not in shown[0]
    assert running.url in ticket.read_text()
    assert ticket.stat().st_mode & 0o077 == 0
    running.close()
    assert not ticket.exists()
