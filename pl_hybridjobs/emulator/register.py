"""What was created, by its ARN and by its client token: what jobs and tasks have in common."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from pl_hybridjobs.emulator.model import Refused


class _Resource(Protocol):
    @property
    def arn(self) -> str: ...
    @property
    def region(self) -> str: ...


_T = TypeVar("_T", bound=_Resource)


class Register(dict[str, _T], Generic[_T]):
    """Frozen records by ARN, in the order in which they were created.

    Args:
        kind: What one is called in errors.
        conflict: How the service names the error of a client token that was used for something else.
        changed: Guards it, and tells those who wait of each change.
    """

    def __init__(self, kind: str, conflict: str, changed: threading.Condition) -> None:
        super().__init__()
        self._kind, self._conflict, self._changed = kind, conflict, changed
        self._tokens: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, arn: str, region: str) -> _T:
        """One as it stands.

        Raises:
            Refused: There is none of this name in the region.
        """
        with self._changed:
            found = super().get(arn)
        if found is None or found.region != region:
            raise Refused("ResourceNotFoundException", f"{self._kind} {arn} not found in {region}")
        return found

    def all(self) -> list[_T]:
        """In the order in which they were created."""
        with self._changed:
            return list(self.values())

    def created_before(self, token: tuple[str, str], digest: str) -> str | None:
        """The ARN of what this token (with its region) created from a request of this digest, if it did.

        Raises:
            Refused: It was another request.
        """
        with self._changed:
            if token not in self._tokens:
                return None
            before, arn = self._tokens[token]
        if before != digest:
            raise Refused(self._conflict, f"The client token {token[1]} was used before, with other parameters.")
        return arn

    def create(self, token: tuple[str, str], digest: str, made: _T) -> None:
        """Write down what a token created."""
        with self._changed:
            self._tokens[token] = (digest, made.arn)
            self[made.arn] = made

    def change(self, arn: str, **changes: Any) -> None:
        """Replace fields of one."""
        with self._changed:
            self[arn] = replace(self[arn], **changes)  # type: ignore[type-var] # a dataclass
            self._changed.notify_all()

    def tag(self, arn: str, region: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of one.

        Raises:
            Refused: As ``find``.
        """
        with self._changed:
            self.find(arn, region)
            self.change(arn, tags=dict(tags))
