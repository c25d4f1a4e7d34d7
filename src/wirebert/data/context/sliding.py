"""Totals of many keys while flows come and go, each event seeing what stands before it.

`RingBuffer`: the latest rows of an endless table, numbered from its beginning.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64


def rolling_sums(
    totals: Int64[np.ndarray, "lines keys"],
    keys: Int64[np.ndarray, " events"],
    moments: Int64[np.ndarray, " events"],
    amounts: Int64[np.ndarray, "lines events"],
) -> Int64[np.ndarray, "lines events"]:
    """What each event finds in its key's totals; `totals` becomes what all events leave.

    Args:
        totals: one column per key.
        keys: column that each event is about.
        moments: order of the events, from 0; of one moment, events come in any order.
        amounts: what each event adds.

    >>> totals = np.array([[5, 0]])
    >>> rolling_sums(totals, np.array([0, 1, 0]), np.array([0, 1, 2]), np.array([[1, 1, -4]]))
    array([[5, 0, 6]])
    >>> totals
    array([[2, 1]])
    """
    if not len(keys):
        return amounts.copy()
    order = np.argsort(keys * (int(moments.max()) + 1) + moments)
    sorted_keys = keys[order]
    is_first = np.diff(sorted_keys, prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    stops = np.append(starts[1:], len(keys))
    group = np.cumsum(is_first) - 1
    distinct = sorted_keys[starts]
    found = np.empty_like(amounts)
    for line, values in enumerate(amounts):
        added = values[order]
        sums = np.cumsum(added)
        before = sums - added
        base = totals[line, distinct] - before[starts]
        found[line, order] = before + base[group]
        totals[line, distinct] = sums[stops - 1] + base
    return found


_SLACK = 1.25


class RingBuffer:
    """Columns that grow at one end and are forgotten from the other.

    >>> rows = RingBuffer({"x": np.int64})
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
