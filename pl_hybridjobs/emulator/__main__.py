"""``python -m pl_hybridjobs.emulator``: as ``hybridjobs emulator``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pl_hybridjobs.emulator.command import OPTIONS, run
from pl_hybridjobs.errors import InvalidCall


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(
        prog="python -m pl_hybridjobs.emulator", description="Amazon Braket on this machine, without an account."
    )
    for option in OPTIONS:
        how: dict[str, Any] = {"type": option.kind, "metavar": option.metavar, "default": option.default}
        if option.repeats:
            how |= {"action": "append", "default": []}
        parser.add_argument(option.name, help=option.help, **({"action": "store_true"} if option.kind is bool else how))
    try:
        run(lambda text: print(text, flush=True), vars(parser.parse_args()))
    except InvalidCall as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
