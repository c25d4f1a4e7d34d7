"""`RecentRows`: the latest rows of an endless table, numbered from its beginning."""

from collections.abc import Mapping

import numpy as np

_SLACK = 1.25


class RecentRows:
    """Columns that grow at one end and are forgotten from the other.

    >>> rows = RecentRows({"x": np.int64})
    >>> rows.add({"x": np.array([7, 8, 9])})
    >>> rows.drop(1)
    >>> rows.of("x", 2).tolist(), rows.stop
    ([9], 3)
    """

    def __init__(self, types: Mapping[str, type[np.generic]], first: int = 0) -> None:
        self._columns = {name: np.empty(0, dtype) for name, dtype in types.items()}
        self._base = first
        """Number of the row in the first place of the arrays."""
        self.first = first
        """Number of the oldest row."""
        self.stop = first
        """Number of the next row."""

    @property
    def size_bytes(self) -> int:
        """Memory of the columns."""
        return sum(values.nbytes for values in self._columns.values())

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Append rows."""
        num_new = len(next(iter(columns.values())))
        self._make_room(num_new)
        place = self.stop - self._base
        for name, values in columns.items():
            self._columns[name][place : place + num_new] = values
        self.stop += num_new

    def of(self, name: str, start: int) -> np.ndarray:
        """The column from row number `start` on; writing to it changes the column."""
        return self._columns[name][start - self._base : self.stop - self._base]

    def drop(self, first: int) -> None:
        """Forget the rows before row number `first`."""
        self.first = first

    def _make_room(self, num_new: int) -> None:
        capacity = len(next(iter(self._columns.values())))
        if self.stop - self._base + num_new <= capacity:
            return
        num_kept = self.stop - self.first
        capacity = int(_SLACK * num_kept) + num_new
        kept = slice(self.first - self._base, self.stop - self._base)
        for name, values in self._columns.items():
            self._columns[name] = np.empty(capacity, values.dtype)
            self._columns[name][:num_kept] = values[kept]
        self._base = self.first
