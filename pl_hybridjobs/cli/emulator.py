"""``hybridjobs emulator``."""

from __future__ import annotations

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="On this machine only; 0 takes a free one.")
@click.option("--devices", metavar="NAMES", help="Names or ARNs, separated by commas; default: all.")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="How long each task runs.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Tasks at once on a device; default: 1 on a QPU, 50 on a simulator.")
@click.option("--faults", default="", metavar="NAME=CHANCE,...", help="What goes wrong, for example throttle=0.1,drop=0.05.")
@click.option("--job-start-latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="From the queue to the instance.")
@click.option("--job-quota", type=click.IntRange(min=1), help="Jobs on their way at once; default: any number.")
@click.option("--job-concurrency", type=click.IntRange(min=1), help="Jobs that run at once on this machine; default: any number.")
@click.option("--instance-quota", multiple=True, metavar="PATTERN=N", help="Instances of a type at once, for example ml.p*=0. Repeatable.")
@click.option("--image-python", multiple=True, metavar="[PATTERN=]PYTHON", help="An image's Python: a path, or a version. Repeatable.")
@click.option("--checked-pip", is_flag=True, help="A failed pip fails the job; in Amazon's containers it does not.")
@click.option("--seed", type=int, help="The same seed gives the same samples and faults.")
@click.option("--region", default="us-east-1", show_default=True, help="Which the printed variables name.")
def emulator(
    port: int,
    devices: str | None,
    latency: float,
    concurrency: int | None,
    faults: str,
    job_start_latency: float,
    job_quota: int | None,
    job_concurrency: int | None,
    instance_quota: tuple[str, ...],
    image_python: tuple[str, ...],
    checked_pip: bool,
    seed: int | None,
    region: str,
) -> None:
    """Run Amazon Braket on this machine, without an account, until Ctrl-C.

    Prints the variables that make boto3, the Braket SDK and this package talk to it.

    \b
    Example:
      hybridjobs emulator --port 8555 --latency 0.2
    """
    from pl_hybridjobs.emulator import JobOptions, foreground
    from pl_hybridjobs.emulator.job_options import counts, table

    jobs = JobOptions(
        start_latency_s=job_start_latency,
        quota=job_quota,
        concurrency=job_concurrency,
        instance_quota=counts("--instance-quota", instance_quota),
        image_python=table("--image-python", image_python),
        checked_pip=checked_pip,
    )
    foreground(
        click.echo,
        region,
        devices=devices,
        latency_s=latency,
        concurrency=concurrency,
        jobs=jobs,
        faults=faults,
        seed=seed,
        port=port,
    )
