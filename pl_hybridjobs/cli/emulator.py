"""``hybridjobs emulator``."""

from __future__ import annotations

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="On this machine only; 0 takes a free one.")
@click.option("--devices", metavar="NAMES", help="Names or ARNs, separated by commas; default: all.")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="How long each task runs.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Tasks at once on a device; default: 1 on a QPU, 50 on a simulator.")
@click.option("--faults", default="", metavar="NAME=CHANCE,...", help="What goes wrong, for example throttle=0.1,drop=0.05.")
@click.option("--seed", type=int, help="The same seed gives the same samples and faults.")
@click.option("--region", default="us-east-1", show_default=True, help="Which the printed variables name.")
def emulator(port: int, devices: str | None, latency: float, concurrency: int | None, faults: str, seed: int | None, region: str) -> None:
    """Run Amazon Braket on this machine, without an account, until Ctrl-C.

    Prints the variables that make boto3, the Braket SDK and this package talk to it.

    \b
    Example:
      hybridjobs emulator --port 8555 --latency 0.2
    """
    from pl_hybridjobs.emulator import foreground

    foreground(
        click.echo,
        region,
        devices=devices,
        latency_s=latency,
        concurrency=concurrency,
        faults=faults,
        seed=seed,
        port=port,
    )
