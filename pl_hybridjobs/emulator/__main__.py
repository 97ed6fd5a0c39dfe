"""``python -m pl_hybridjobs.emulator``: as ``hybridjobs emulator``."""

from __future__ import annotations

import argparse
import sys

from pl_hybridjobs.emulator import JobOptions, foreground
from pl_hybridjobs.emulator.job_options import counts, table
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
    parser.add_argument("--job-start-latency", type=float, default=0.0, metavar="SECONDS", help="from a job's queue to its instance")
    parser.add_argument("--job-quota", type=int, metavar="N", help="jobs on their way at once; default: any number")
    parser.add_argument("--job-concurrency", type=int, metavar="N", help="jobs that run at once on this machine; default: any number")
    parser.add_argument("--instance-quota", action="append", default=[], metavar="PATTERN=N", help="instances of a type, as ml.p*=0")
    parser.add_argument(
        "--image-python", action="append", default=[], metavar="[PATTERN=]PYTHON", help="an image's Python: a path, or a version"
    )
    parser.add_argument("--checked-pip", action="store_true", help="a failed pip fails the job; in Amazon's containers it does not")
    parser.add_argument("--seed", type=int, help="the same seed gives the same samples and faults")
    parser.add_argument("--region", default="us-east-1", help="which the printed variables name")
    given = parser.parse_args()
    try:
        jobs = JobOptions(
            start_latency_s=given.job_start_latency,
            quota=given.job_quota,
            concurrency=given.job_concurrency,
            instance_quota=counts("--instance-quota", given.instance_quota),
            image_python=table("--image-python", given.image_python),
            checked_pip=given.checked_pip,
        )
        foreground(
            lambda text: print(text, flush=True),
            given.region,
            devices=given.devices,
            latency_s=given.latency,
            concurrency=given.concurrency,
            jobs=jobs,
            faults=given.faults,
            seed=given.seed,
            port=given.port,
        )
    except InvalidCall as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
