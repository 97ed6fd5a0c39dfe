"""``hybridjobs ray``."""

from __future__ import annotations

import datetime

import click


@click.group()
def ray() -> None:
    """The Ray of this machine, which runner="ray" starts where no cluster is named.

    \b
    Example:
      hybridjobs ray show
    """


@ray.command("show")
def show() -> None:
    """Tell whether it is there, where, since when, and what runs in it.

    \b
    Example:
      hybridjobs ray show
    """
    from pl_hybridjobs.home import default_home
    from pl_hybridjobs.ray.cluster import Place

    place = Place.of(default_home())
    cluster = place.living()
    if cluster is None:
        click.echo("There is no Ray of this machine. The first job with runner='ray' starts one.")
        return
    since = datetime.datetime.fromtimestamp(cluster.started, tz=datetime.UTC).astimezone()
    click.echo(f"Ray at {cluster.address}, since {since:%Y-%m-%d %H:%M:%S}; its token is in {place.token(cluster.id)}")
    names = place.busy(cluster)
    for name in ["it does not answer"] if names is None else names:
        click.echo(f"  {name}")


@ray.command("stop")
@click.option("--now", is_flag=True, help="Even if jobs run in it: they stop at a step boundary if that comes soon, and can be resumed.")
def stop(now: bool) -> None:
    """End it. It also ends by itself, when nothing has run for ten minutes.

    \b
    Example:
      hybridjobs ray stop
    """
    from pl_hybridjobs.home import default_home
    from pl_hybridjobs.ray.cluster import Place

    ended = Place.of(default_home()).stop(now=now)
    click.echo("Ended." if ended else "There is no Ray of this machine.")
