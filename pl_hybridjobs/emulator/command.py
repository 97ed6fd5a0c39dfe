"""What ``hybridjobs emulator`` and ``python -m pl_hybridjobs.emulator`` have in common: their options, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pl_hybridjobs.emulator import JobOptions, foreground
from pl_hybridjobs.emulator.job_options import counts, table


@dataclass(frozen=True)
class Option:
    """One of them.

    Attributes:
        name: As it is written.
        help: What it means.
        kind: Of its value; bool: it has none.
        default: Where it is left out.
        metavar: What stands for the value.
        least: Of a number.
        most: Likewise.
        repeats: It may be given more than once.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    metavar: str | None = None
    least: int | None = None
    most: int | None = None
    repeats: bool = False

    @property
    def variable(self) -> str:
        """Its name in Python."""
        return self.name.removeprefix("--").replace("-", "_")


OPTIONS = (
    Option("--port", "On this machine only; 0 takes a free one.", int, 0, least=0, most=65535),
    Option("--devices", "Names or ARNs, separated by commas; default: all.", metavar="NAMES"),
    Option("--latency", "How long each task runs.", float, 0.0, "SECONDS", least=0),
    Option("--concurrency", "Tasks at once on a device; default: 1 on a QPU, 50 on a simulator.", int, least=1),
    Option("--faults", "What goes wrong, for example throttle=0.1,drop=0.05.", default="", metavar="NAME=CHANCE,..."),
    Option("--job-start-latency", "From the queue to the instance.", float, 0.0, "SECONDS", least=0),
    Option("--job-quota", "Jobs on their way at once; default: any number.", int, least=1),
    Option("--job-concurrency", "Jobs that run at once on this machine; default: any number.", int, least=1),
    Option("--instance-quota", "Instances of a type at once, for example ml.p*=0. Repeatable.", metavar="PATTERN=N", repeats=True),
    Option("--image-python", "An image's Python: a path, or a version. Repeatable.", metavar="[PATTERN=]PYTHON", repeats=True),
    Option("--checked-pip", "A failed pip fails the job; in Amazon's containers it does not.", bool, False),
    Option("--seed", "The same seed gives the same samples and faults.", int),
    Option("--region", "Which the printed variables name.", default="us-east-1"),
)


def run(say: Callable[[str], object], given: dict[str, Any]) -> None:
    """Run an emulator until Ctrl-C.

    Args:
        say: Is given lines of text.
        given: The options' values, by ``Option.variable``.

    Raises:
        InvalidCall: Some of them are wrong.
    """
    jobs = JobOptions(
        start_latency_s=given["job_start_latency"],
        quota=given["job_quota"],
        concurrency=given["job_concurrency"],
        instance_quota=counts("--instance-quota", given["instance_quota"]),
        image_python=table("--image-python", given["image_python"]),
        checked_pip=given["checked_pip"],
    )
    same = {name: given[name] for name in ("devices", "concurrency", "faults", "seed", "port")}
    foreground(say, given["region"], latency_s=given["latency"], jobs=jobs, **same)
