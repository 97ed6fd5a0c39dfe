"""What was logged in each step, as columns that grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_ROWS = 256


class History:
    """Float64 columns of one length; what a step did not log is NaN there."""

    def __init__(self, columns: Mapping[str, Array] | None = None, steps: int = 0) -> None:
        self._columns: dict[str, Array] = {name: column.copy() for name, column in (columns or {}).items()}
        self._rows: list[Mapping[str, float]] = []
        self.steps = steps

    def append(self, row: Mapping[str, float]) -> None:
        """Add a step; the row is not copied."""
        self._rows.append(row)
        self.steps += 1
        if len(self._rows) == _ROWS:
            self._settle()

    def _settle(self) -> None:
        """Move the newest rows into the columns: many at a time costs a step less."""
        import numpy as np

        if not self._rows:
            return
        first = self.steps - len(self._rows)
        for name in dict.fromkeys(name for row in self._rows for name in row):
            column = self._columns.get(name)
            if column is None or self.steps > len(column):
                longer = np.full(max(64, 2 * self.steps), np.nan)
                if column is not None:
                    longer[: len(column)] = column
                column = self._columns[name] = longer
            column[first : self.steps] = [row.get(name, np.nan) for row in self._rows]
        self._rows.clear()

    def __getitem__(self, name: str) -> Array:
        import numpy as np

        self._settle()
        column = self._columns.get(name)
        if column is None:
            return np.full(self.steps, np.nan)
        if len(column) < self.steps:  # it was not in the newest steps
            column = self._columns[name] = np.append(column, np.full(2 * self.steps - len(column), np.nan))
        return column[: self.steps]

    def columns(self) -> dict[str, Array]:
        """A copy of all columns."""
        self._settle()
        return {name: self[name].copy() for name in self._columns}
