"""``python -m pl_hybridjobs.emulator``: as ``hybridjobs emulator``."""

from __future__ import annotations

import argparse
import sys

from pl_hybridjobs.emulator import foreground
from pl_hybridjobs.errors import InvalidCall


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(
        prog="python -m pl_hybridjobs.emulator", description="Amazon Braket on this machine, without an account."
    )
    parser.add_argument("--port", type=int, default=0, help="on this machine only; 0 takes a free one")
    parser.add_argument("--devices", metavar="NAMES", help="names or ARNs, separated by commas; default: all")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="how long each task runs")
    parser.add_argument("--concurrency", type=int, help="tasks at once on a device; default: 1 on a QPU, 50 on a simulator")
    parser.add_argument("--faults", default="", metavar="NAME=CHANCE,...", help="what goes wrong, for example throttle=0.1,drop=0.05")
    parser.add_argument("--seed", type=int, help="the same seed gives the same samples and faults")
    parser.add_argument("--region", default="us-east-1", help="which the printed variables name")
    given = parser.parse_args()
    try:
        foreground(
            lambda text: print(text, flush=True),
            given.region,
            devices=given.devices,
            latency_s=given.latency,
            concurrency=given.concurrency,
            faults=given.faults,
            seed=given.seed,
            port=given.port,
        )
    except InvalidCall as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
