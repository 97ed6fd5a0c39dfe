"""The reference of the command line, from the commands themselves: ``python -m tests.docs.cli_reference`` writes the page anew."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from pl_hybridjobs.cli.commands import cli
from tests.house.source import ROOT

PAGE = ROOT / "docs" / "reference" / "cli.md"
HEAD = """# Command line

All commands, as `hybridjobs COMMAND --help` shows them. What they are for is told in [Scripts and the command line](../guides/scripts-and-cli.md).
"""


def text() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(part for name, command in _commands(cli, "hybridjobs") for part in _section(name, command))])


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """The name as it is typed, and the command; those of a group after the group."""
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def _section(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"## {name}\n"
    yield f"```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield from _paragraphs(command.help or "")
    options = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    told = [f"- `{option}`: {help_text}" for option, help_text in options if help_text and "--help" not in option]
    yield from [*told, ""] if told else []


def _paragraphs(help_text: str) -> Iterator[str]:
    r"""What click shows as written (marked by a line of ``\b``) as a block of code, all else as prose."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0] == "\b":
            yield "```text\n" + "\n".join(lines[1:]) + "\n```\n"
        else:
            yield paragraph.replace("<", "&lt;") + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
