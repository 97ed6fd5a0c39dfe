"""A real kernel, driven as a frontend drives it, and what it tells its frontends."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from tests.house.source import ROOT

DEADLINE_S = 90.0  # the machine may be busy
VIEW = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel with one frontend.

    Attributes:
        heard: All messages that came so far, oldest first.
    """

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self._client = client
        self.heard: list[dict[str, Any]] = []

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell to its end; what it sent while it ran."""
        begin = len(self.heard)
        mine = self.start(code)
        self.until(lambda m: is_idle(m) and m["parent_header"].get("msg_id") == mine)
        return self.heard[begin:]

    def start(self, code: str) -> str:
        """Begin a cell; its message's id."""
        return str(self._client.execute(code))

    def printed(self, code: str) -> str:
        """Run a cell; what it wrote, or the error that ended it."""
        return _text(self.run(code))

    def until(self, is_it: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The next message of a kind."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            self.heard.append(message)
            if is_it(message):
                return dict(message)
        raise AssertionError("the kernel never said it; the last that it said: " + repr(self.heard[-3:])[:2000])

    def until_card(self, *words: str, without: str = "\0") -> str:
        """The next HTML of a card, by whatever way it comes, in which all of these words stand, and one does not.

        While a button's deed is done, which the card says (``Cancel ...``), presses do nothing.
        """
        found = self.until(lambda m: all(word in card_in(m) for word in words) and without not in card_in(m) and card_in(m))
        return card_in(found)

    def silence(self, seconds: float) -> list[dict[str, Any]]:
        """What comes in so many seconds though nobody runs anything."""
        begin, deadline = len(self.heard), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.heard.append(self._client.get_iopub_msg(timeout=left))
            except queue.Empty:
                break
        return [m for m in self.heard[begin:] if m["msg_type"] != "status"]

    def button(self, name: str) -> str:
        """The newest button of that name: its model's id."""
        opened = [m["content"] for m in self.heard if m["msg_type"] == "comm_open"]
        return next(c["comm_id"] for c in reversed(opened) if c["data"]["state"].get("description") == name)

    def press(self, button: str, subshell: str | None = None) -> None:
        """As a frontend does."""
        self.send(button, {"method": "custom", "content": {"event": "click"}}, subshell)

    def seen(self, card: str, count: int) -> None:
        """So many views of a card are on the screen."""
        self.send(card, {"method": "update", "state": {"_view_count": count}, "buffer_paths": []})

    def send(self, model: str, data: dict[str, Any], subshell: str | None = None) -> None:
        """A message to a widget."""
        message = self._client.session.msg("comm_msg", {"comm_id": model, "data": data})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def subshell(self) -> str:
        """A new one, which answers while a cell runs: JupyterLab has one for widgets."""
        message = self._client.session.msg("create_subshell_request", {})
        self._client.control_channel.send(message)
        while True:
            reply = self._client.get_control_msg(timeout=DEADLINE_S)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return str(reply["content"]["subshell_id"])

    def threads(self) -> str:
        """The kernel's threads that look at cards."""
        return self.printed("import threading; print([t.name for t in threading.enumerate() if t.name == 'hybridjobs-cards'])")


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel that works in a folder and knows the package."""
    manager, client = start_new_kernel(
        kernel_name="python3", cwd=str(folder), env={**os.environ, "PYTHONPATH": str(ROOT)}, startup_timeout=DEADLINE_S
    )
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)


def card_in(message: dict[str, Any]) -> str:
    """The HTML of a card in a message, "" where there is none."""
    content = message["content"]
    if message["msg_type"] in ("display_data", "update_display_data"):
        return str(content["data"].get("text/html", ""))
    if message["msg_type"] == "comm_msg" and "state" in content["data"]:
        return str(content["data"]["state"].get("value", ""))
    return ""


def output(messages: list[dict[str, Any]], kind: str = "display_data") -> dict[str, Any]:
    """The last output of a kind: MIME type -> what it holds."""
    return dict([m["content"]["data"] for m in messages if m["msg_type"] == kind][-1])


def is_idle(message: dict[str, Any]) -> bool:
    """Whether a message says that the kernel has nothing to do."""
    return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")


def _text(messages: list[dict[str, Any]]) -> str:
    parts = []
    for message in messages:
        content = message["content"]
        if message["msg_type"] == "stream":
            parts.append(content["text"])
        elif message["msg_type"] == "error":
            parts.append(f"{content['ename']}: {content['evalue']}")
    return "".join(parts)
