"""What was logged in each step, as columns that grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class History:
    """Float64 columns of one length; what a step did not log is NaN there."""

    def __init__(self, columns: Mapping[str, Array] | None = None, steps: int = 0) -> None:
        self._columns: dict[str, Array] = {name: column.copy() for name, column in (columns or {}).items()}
        self.steps = steps

    def append(self, row: Mapping[str, float]) -> None:
        """Add a step."""
        import numpy as np

        at = self.steps
        for name, value in row.items():
            column = self._columns.get(name)
            if column is None or at >= len(column):
                longer = np.full(max(64, 2 * at), np.nan)
                if column is not None:
                    longer[: len(column)] = column
                column = self._columns[name] = longer
            column[at] = value
        self.steps = at + 1

    def __getitem__(self, name: str) -> Array:
        import numpy as np

        column = self._columns.get(name)
        if column is None:
            return np.full(self.steps, np.nan)
        if len(column) < self.steps:  # it was not in the newest steps
            column = self._columns[name] = np.append(column, np.full(2 * self.steps - len(column), np.nan))
        return column[: self.steps]

    def columns(self) -> dict[str, Array]:
        """A copy of all columns."""
        return {name: self[name].copy() for name in self._columns}
