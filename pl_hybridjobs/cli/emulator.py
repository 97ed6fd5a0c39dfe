"""``hybridjobs emulator``."""

from __future__ import annotations

from typing import Any

import click

from pl_hybridjobs.emulator.command import OPTIONS, Option, run


def _declared(option: Option) -> click.Option:
    how: dict[str, Any] = {"help": option.help, "default": option.default, "metavar": option.metavar, "show_default": bool(option.default)}
    if option.kind is bool:
        how |= {"is_flag": True}
    elif option.kind is str:
        how |= {"multiple": option.repeats, "default": () if option.repeats else option.default}
    else:
        within = click.IntRange if option.kind is int else click.FloatRange
        how |= {"type": option.kind if option.least is None else within(option.least, option.most)}
    return click.Option([option.name], **how)


@click.command(params=[_declared(option) for option in OPTIONS])
def emulator(**given: Any) -> None:
    """Run Amazon Braket on this machine, without an account, until Ctrl-C.

    Prints the variables that make boto3, the Braket SDK and this package talk to it.

    \b
    Example:
      hybridjobs emulator --port 8555 --latency 0.2
    """
    run(click.echo, given)
