"""The shell script that an engine's job runs first: it finds the job's folder, prepares, and becomes our supervisor. Text in and out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.jobs import launch

EXIT_SETUP = 78  #: a line of ``setup`` failed (EX_CONFIG of sysexits.h)
EXIT_NO_FOLDER = 72  #: the node does not see the job's folder (EX_OSFILE)
EXIT_LEFT = 81  #: a line of ``setup`` said ``exit``, whatever with: no other code of ours, nor of the shell's
#: What ended before our supervisor could write a word: these three, and the shell's own for a program that is not there or cannot run.
BEFORE_US = (EXIT_SETUP, EXIT_NO_FOLDER, EXIT_LEFT, 126, 127)
# No trap: that would run where a signal ends the script, too.
_EXIT = f'exit() {{ [ "$BASH_SUBSHELL" = 0 ] && builtin exit {EXIT_LEFT}; builtin exit "$@"; }}'


@dataclass(frozen=True)
class Element:
    """A job, as its script must know it.

    Attributes:
        folder: Its folder.
        digest: SHA-256 of its bundle's manifest. The engine keeps the script, so it does not travel with the bundle.
        number: Of the submission.
        epoch: The newest attempt when it was submitted.
    """

    folder: Path
    digest: str
    number: int
    epoch: int

    @property
    def words(self) -> str:
        """The four as words of a shell."""
        return " ".join(shlex.quote(str(part)) for part in (self.folder, self.digest, self.number, self.epoch))


def script(choice: Sequence[str], engine: str, *, python: str, cause: str, grace_s: float, setup: Sequence[str], module: str) -> list[str]:
    """The lines of a script for bash.

    Args:
        choice: Lines that make an element's words the positional parameters.
        engine: The folder of the submissions in a job's folder.
        python: The interpreter on the node.
        cause: See ``Runner.start``.
        grace_s: Seconds between the signal to stop and the end.
        setup: Lines of shell that come first, for example ``module load python``.
        module: Whose ``main`` is to be run.
    """
    code = launch.program(module)
    return [
        *choice,
        # A folder that is new here may show up late on a share.
        f'for _ in 1 2 3 4 5 6 7 8 9 10; do [ -d "$1/{engine}" ] && break; sleep 1; done',
        f'[ -d "$1/{engine}" ] || exit {EXIT_NO_FOLDER}',
        f'exec >>"$1/{engine}/$3.out" 2>&1 || exit {EXIT_NO_FOLDER}',
        f"export HYBRIDJOBS_GRACE_S={grace_s:g}",
        'hybridjobs_words=("$@")',  # what `setup` reads may use the positional parameters
        *([_EXIT] if setup else []),
        *(f"{line}\n[ $? = 0 ] || {{ echo {shlex.quote(f'setup failed: {line}')}; builtin exit {EXIT_SETUP}; }}" for line in setup),
        f'exec {shlex.quote(python)} -P -S -c {shlex.quote(code)} {shlex.quote(str(launch.ROOT))} "${{hybridjobs_words[@]}}" {cause}',
    ]
