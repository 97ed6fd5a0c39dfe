"""Amazon Braket on this machine, without an account: the REST service, its devices, S3, a bill, and faults on demand.

::

    with emulator(devices=["SV1", "Forte 1"], latency_s=0.2, faults="throttle=0.1", seed=7) as running:
        os.environ.update(running.environment())
        ...
        print(running.bill)

It shows what a client does; what Amazon's service checks, charges and says in its errors is only approximated.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pl_hybridjobs.emulator.faults import Faults
from pl_hybridjobs.emulator.job_options import JobOptions
from pl_hybridjobs.errors import InvalidCall

if TYPE_CHECKING:
    from pl_hybridjobs.emulator.running import Emulator

__all__ = ["Faults", "JobOptions", "emulator", "foreground"]


def emulator(**options: Any) -> Emulator:
    """Start an emulator; use it in a ``with`` statement, or ``close()`` it.

    Args:
        **options: Those of ``pl_hybridjobs.emulator.running.Emulator``.

    Raises:
        InvalidCall: Options are wrong, or the extra is not installed.
    """
    try:
        from pl_hybridjobs.emulator.running import Emulator
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "pl_hybridjobs"):
            raise
        raise InvalidCall("emulator", [f"{missing} is not installed: pip install 'pl-hybridjobs[emulator]'"]) from error
    return Emulator(**options)


def foreground(say: Callable[[str], object], region: str, **options: Any) -> None:
    """Run an emulator until Ctrl-C or SIGTERM, and say the bill.

    What it says first can be read by a shell: comments, and one ``export`` for each variable.

    Args:
        say: Is given lines of text.
        region: Which the variables name.
        **options: As for ``emulator``.
    """
    with emulator(**options) as running:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            say(f"# Amazon Braket, emulated at {running.url} (seed {running.seed}) until Ctrl-C")
            for device in running.devices:
                say(f"#   {device.arn}")
            for name, value in running.environment(region).items():
                say(f"export {name}={value}")
            threading.Event().wait()
        except KeyboardInterrupt:
            for line in ("the virtual bill:", *str(running.bill).splitlines()):
                say(f"# {line}")
        finally:
            signal.signal(signal.SIGTERM, before)
