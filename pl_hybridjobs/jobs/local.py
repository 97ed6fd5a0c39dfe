"""Jobs as processes of this machine: no server, no account, no container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pl_hybridjobs.errors import says_its_fields
from pl_hybridjobs.jobs import device
from pl_hybridjobs.jobs.spec import JobSpec
from pl_hybridjobs.jobs.supervised import SupervisedRunner

ENVIRONMENTS = ("own", "locked")


@says_its_fields
@dataclass(frozen=True)
class LocalRunner(SupervisedRunner):
    """Each job is a child process in its own session, with this interpreter; the caller may exit at once.

    Attributes:
        environment: ``own``: what is installed here. ``locked``: what the bundle's lock names, installed once for each lock.
        sandbox: With bubblewrap: of the disk the job sees the system, the interpreter with its packages, and its own folder, and it
            has no network. ``"network"`` is the same with a network.
    """

    environment: str = "own"
    sandbox: bool | str = False
    name: ClassVar[str] = "local"

    @property
    def installs(self) -> bool:
        """Whether what the bundle requires is installed for the job, so that it need not be here."""
        return self.environment == "locked"

    def complaints(self, spec: JobSpec) -> list[str]:
        """What is wrong with the options; all that ``Resources`` can ask for is enforced here."""
        found = []
        if self.environment not in ENVIRONMENTS:
            found.append(f"environment must be 'own' or 'locked', not {self.environment!r}")
        if self.sandbox not in (False, True, "network"):
            return [*found, f"sandbox must be False, True or 'network', not {self.sandbox!r}"]
        if self.sandbox:
            from pl_hybridjobs.jobs import sandbox

            found += [problem] if (problem := sandbox.complaint()) else []
        if self.sandbox is True:
            needing = device.needing_network(spec.device)
            found += [f"device {name!r} needs a network, and the sandbox has none; take sandbox='network'" for name in needing]
        return found
