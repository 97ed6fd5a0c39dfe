"""The command line: parse, ask ``jobs.handle``, render."""


def main() -> None:
    """The console script ``hybridjobs``."""
    import io
    import sys

    from pl_hybridjobs.cli.commands import cli

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a curve in a terminal that knows no Unicode is better than a traceback
    cli(prog_name="hybridjobs")
