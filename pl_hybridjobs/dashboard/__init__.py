"""One page in the browser: jobs, live curves, logs, cost, sweeps. Served on this machine only, to whoever has the printed link.

::

    with dashboard() as running:
        print(running.url)
        ...
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pl_hybridjobs.errors import InvalidCall

if TYPE_CHECKING:
    from pl_hybridjobs.dashboard.running import Dashboard

__all__ = ["dashboard", "foreground"]


def dashboard(home: Path | None = None, *, port: int = 0) -> Dashboard:
    """Start a dashboard; use it in a ``with`` statement, or ``close()`` it.

    Args:
        home: Whose jobs; default: ``default_home()``.
        port: Of this machine's loopback; 0 takes a free one.

    Raises:
        InvalidCall: The extra is not installed, or the port is taken.
    """
    try:
        from pl_hybridjobs.dashboard.running import Dashboard
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "pl_hybridjobs"):
            raise
        raise InvalidCall("dashboard", [f"{missing} is not installed: pip install 'pl-hybridjobs[dashboard]'"]) from error
    return Dashboard(home, port=port)


def foreground(say: Callable[[str], object], *, port: int = 0, open_browser: bool = True) -> None:
    """Run a dashboard until Ctrl-C or SIGTERM.

    Args:
        say: Is given lines of text.
        port: See ``dashboard``.
        open_browser: Also show it in the user's browser.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with dashboard(port=port) as running:
            say(f"Jobs of {running.home}, until Ctrl-C. The link is for you alone:")
            say(f"  {running.url}")
            if open_browser and not running.open_browser():
                say("No browser was found here; open the link in one on this machine.")
            threading.Event().wait()
    except KeyboardInterrupt:
        say("The dashboard has ended; jobs go on.")
    finally:
        signal.signal(signal.SIGTERM, before)
