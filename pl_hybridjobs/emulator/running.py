"""One running emulator: devices, tasks, bill and door, put together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from pl_hybridjobs.emulator.beside import Beside
from pl_hybridjobs.emulator.bill import Bill
from pl_hybridjobs.emulator.buckets import ACCOUNT
from pl_hybridjobs.emulator.clock import Clock
from pl_hybridjobs.emulator.devices import Device, Fleet, chosen
from pl_hybridjobs.emulator.faults import Dice, Faults
from pl_hybridjobs.emulator.images import Images
from pl_hybridjobs.emulator.job import Job
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.emulator.jobs import Jobs
from pl_hybridjobs.emulator.limits import Limits
from pl_hybridjobs.emulator.operations import Operations
from pl_hybridjobs.emulator.service import HOST, Service
from pl_hybridjobs.emulator.tasks import Task, Tasks
from pl_hybridjobs.errors import InvalidCall

DEFAULT_REGION = "us-east-1"


class Emulator:
    """Amazon Braket on a port of this machine; a context manager.

    Args:
        devices: Names (``"SV1"``) or ARNs, or a text of them with commas between; None: all that there are.
        latency_s: How long each task runs on its device, in seconds.
        concurrency: How many tasks run at the same time on one device; None: one on a QPU, 50 on a simulator.
        quota: How many tasks that have not ended one device takes; None: any number.
        scattered: Results of program sets are written in many objects of S3, as the service writes large ones.
        jobs: How hybrid jobs run.
        faults: What goes wrong, or ``"throttle=0.1,drop=0.05"``.
        offline: When devices are offline: for each name or ARN (``""``: all) ``(from, until)`` in seconds after the start.
        seed: Of samples, faults and names of tasks; None: another each time.
        port: On the loopback interface; 0: a free one.

    Raises:
        InvalidCall: Arguments, all complaints; or the port is taken.
    """

    def __init__(
        self,
        *,
        devices: Sequence[str] | str | None = None,
        latency_s: float = 0.0,
        concurrency: int | None = None,
        quota: int | None = None,
        scattered: bool = False,
        jobs: JobOptions | None = None,
        faults: Faults | str | None = None,
        offline: Mapping[str, Sequence[tuple[float, float]]] | None = None,
        seed: int | None = None,
        port: int = 0,
    ) -> None:
        complaints = [
            *([f"latency_s={latency_s!r} is no time."] if not isinstance(latency_s, int | float) or not latency_s >= 0 else []),
            *([f"port={port!r} is none; ports are 0 to 65535."] if not isinstance(port, int) or not 0 <= port < 2**16 else []),
            *([f"faults={faults!r} is neither Faults nor a text."] if not isinstance(faults, Faults | str | None) else []),
            *([f"offline={offline!r} is no mapping of devices to times."] if not isinstance(offline, Mapping | None) else []),
            *([f"concurrency={concurrency} is less than 1."] if concurrency is not None and concurrency < 1 else []),
            *([f"quota={quota} is less than 1."] if quota is not None and quota < 1 else []),
        ]
        if complaints:
            raise InvalidCall("emulator", complaints)
        self.seed = secrets.randbelow(2**32) if seed is None else seed
        self.faults = Faults.parse(faults) if isinstance(faults, str) else faults or Faults()
        clock = Clock(self.faults.clock_skew_s)
        self._dice = Dice(self.faults, self.seed)
        self._fleet = Fleet(chosen(devices), clock, dict(offline or {}))
        self.bill = Bill()
        limits = Limits(clock)
        self._tasks = Tasks(
            self._fleet,
            self.bill,
            limits,
            self._dice,
            clock,
            seed=self.seed,
            latency_s=latency_s,
            concurrency=concurrency,
            quota=quota,
            scattered=scattered,
        )
        options = jobs or JobOptions()
        try:
            images = Images(options.image_python)
            self._jobs = Jobs(self._fleet, self._tasks.reservations, images, self.bill, self._dice, clock, options, seed=self.seed)
            operations = Operations(self._fleet, self._tasks, self._jobs, limits)
            self._service = Service(operations, Beside(images, options.instance_quota), self._dice, clock, port)
        except BaseException:
            self._tasks.close()
            raise
        self._jobs.serve(self.environment)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Emulator({self.url}, seed={self.seed}, {len(self.tasks)} task(s))"

    def close(self) -> None:
        """Stop, and end all jobs' processes. What it knew is forgotten; moto's buckets stay as long as this process."""
        self._service.close()  # first: a request that came later would begin what nobody ends
        self._jobs.close()
        self._tasks.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._service.port}"

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that it has."""
        return tuple(self._fleet)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks as they stand, in the order in which they were created."""
        return tuple(self._tasks.all())

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All hybrid jobs as they stand, in the order in which they were created."""
        return tuple(self._jobs.all())

    @property
    def happened(self) -> Mapping[str, int]:
        """How often which fault happened."""
        return self._dice.summary

    def set_status(self, device: str, status: str | None) -> None:
        """Make a device ``"ONLINE"``, ``"OFFLINE"`` or ``"RETIRED"``; None: as its windows say. Tasks wait while it is not online."""
        self._fleet.set_status(device, status)

    def hold(self, device: str) -> None:
        """Let a device take tasks and start none until ``release``: its queue stands still."""
        self._fleet.hold(device)

    def release(self, device: str) -> None:
        """Let a held device go on."""
        self._fleet.release(device)

    def kill_job(self, arn: str) -> bool:
        """Lose the instance of a job in mid-run, with all its processes; False: the job is not running now."""
        return self._jobs.kill(arn)

    def wait_for_jobs(self, timeout_s: float = 60.0) -> bool:
        """Until all hybrid jobs have ended; False: the time is over."""
        return self._jobs.wait_for_all(timeout_s)

    def reserve(self, device: str, *, from_s: float = 0.0, until_s: float = 3600.0) -> str:
        """Reserve a device for a time, in seconds from now. Its tasks are not billed.

        Returns:
            The reservation's ARN.
        """
        return self._tasks.reservations.add(self._fleet.find(device), from_s, until_s)

    def wait(self, timeout_s: float = 30.0) -> bool:
        """Until no task is on its way; False: the time is over."""
        return self._tasks.wait_for_all(timeout_s)

    def wait_until(self, true: Callable[[], bool], timeout_s: float = 30.0) -> bool:
        """Until something is so, looked at each 5 ms; False: the time is over."""
        end = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def environment(self, region: str = DEFAULT_REGION) -> dict[str, str]:
        """Variables that make boto3, the Braket SDK and this package talk to it; the credentials are made up."""
        return {
            "AWS_ACCESS_KEY_ID": "emulated",
            "AWS_SECRET_ACCESS_KEY": "emulated",
            "AWS_SESSION_TOKEN": "emulated",
            "AWS_ACCOUNT_ID": ACCOUNT,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_BRAKET": self.url,
            "AWS_ENDPOINT_URL_S3": self.url,
            "BRAKET_ENDPOINT": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
