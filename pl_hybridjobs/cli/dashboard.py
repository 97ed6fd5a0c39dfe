"""``hybridjobs dashboard``."""

from __future__ import annotations

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="On this machine only; 0 takes a free one.")
@click.option("--open/--no-open", "open_browser", default=True, help="Show it in your browser; default: yes.")
def dashboard(port: int, open_browser: bool) -> None:
    """Show jobs in the browser: live curves, logs, cost, sweeps; cancel and resume. Until Ctrl-C.

    Only whoever has the printed link can see it, on this machine.

    \b
    Example:
      hybridjobs dashboard
    """
    from pl_hybridjobs.dashboard import foreground

    foreground(click.echo, port=port, open_browser=open_browser)
