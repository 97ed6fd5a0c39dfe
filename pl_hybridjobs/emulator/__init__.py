"""Amazon Braket on this machine, without an account: the REST service, its devices, S3, a bill, and faults on demand.

::

    with emulator(devices=["SV1", "Forte 1"], latency_s=0.2, faults="throttle=0.1", seed=7) as running:
        os.environ.update(running.environment())
        ...
        print(running.bill)

It shows what a client does; what Amazon's service checks, charges and says in its errors is only approximated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pl_hybridjobs.emulator.faults import Faults
from pl_hybridjobs.errors import InvalidCall

if TYPE_CHECKING:
    from pl_hybridjobs.emulator.running import Emulator

__all__ = ["Faults", "emulator"]


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
        if (error.name or "").startswith("pl_hybridjobs"):
            raise
        raise InvalidCall("emulator", [f"{error.name} is not installed: pip install 'pl-hybridjobs[emulator]'"]) from error
    return Emulator(**options)
