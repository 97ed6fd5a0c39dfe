"""``hybridjobs image``."""

from __future__ import annotations

import dataclasses
import json

import click

_ENGINE = click.option("--engine", help="podman or docker; default: what is installed, podman first.")


@click.group()
def image() -> None:
    """Build, list and push images that run jobs, here (runner "container") and on Amazon Braket.

    \b
    Example:
      hybridjobs image build
      hybridjobs image list
    """


@image.command()
@click.argument("kind", default="base")
@click.option("--base", metavar="IMAGE", help="The image to build on; it needs Python. Default: python:<minor>-slim-bookworm.")
@click.option("--tag", metavar="NAME", help="The new image's name. Default: hybridjobs-KIND:<version>.")
@click.option("--python", default="python3", show_default=True, help="The base image's interpreter.")
@_ENGINE
def build(kind: str, base: str | None, tag: str | None, python: str, engine: str | None) -> None:
    """Build an image with this version of pl_hybridjobs and the versions of its requirements that are installed here.

    KIND is base, jax or cuda.

    \b
    Example:
      hybridjobs image build jax --base localhost/debian-python:1
    """
    from pl_hybridjobs.jobs import engine as engines
    from pl_hybridjobs.jobs import images

    click.echo(images.build(engines.find(engine), kind, base=base, tag=tag, python=python))


@image.command("list")
@_ENGINE
@click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")
def list_command(engine: str | None, as_json: bool) -> None:
    """List the images that were built here.

    \b
    Example:
      hybridjobs image list
    """
    from pl_hybridjobs.jobs import engine as engines
    from pl_hybridjobs.jobs import images

    found = images.built(engines.find(engine))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return
    for one in found:
        click.echo(f"{one.name}  {one.kind}  pl-hybridjobs {one.version}  {one.size}")
    if not found:
        click.echo("none; `hybridjobs image build` makes one", err=True)


@image.command()
@click.argument("name", metavar="IMAGE")
@click.argument("destination", required=False)
@_ENGINE
def push(name: str, destination: str | None, engine: str | None) -> None:
    """Copy an image to a registry that the engine is logged in to.

    \b
    Example:
      hybridjobs image push hybridjobs-base:0.1.0 123456789012.dkr.ecr.us-east-1.amazonaws.com/jobs:base
    """
    from pl_hybridjobs.jobs import engine as engines
    from pl_hybridjobs.jobs import images

    click.echo(images.push(engines.find(engine), name, destination))
