"""The command line: parse, ask ``jobs.handle``, render."""


def main() -> None:
    """The console script ``hybridjobs``."""
    from pl_hybridjobs.cli.commands import cli

    cli(prog_name="hybridjobs")
