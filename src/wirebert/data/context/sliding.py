"""Running totals of many keys while flows arrive and leave.

`RingBuffer`: the latest rows of an endless table, numbered from its first row.
"""

from collections.abc import Mapping

import numpy as np

from wirebert.shapes import Int64


def rolling_sums(
    totals: Int64[np.ndarray, "lines keys"],
    keys: Int64[np.ndarray, " events"],
    moments: Int64[np.ndarray, " events"],
    amounts: Int64[np.ndarray, "lines events"],
) -> Int64[np.ndarray, "lines events"]:
    """The totals of each event's key before the event; `totals` is updated by all events.

    Args:
        totals: one column per key.
        keys: column of each event.
        moments: order of the events, from 0; events of one moment have no order.
        amounts: added by each event.

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
    results = np.empty_like(amounts)
    for line, values in enumerate(amounts):
        added = values[order]
        sums = np.cumsum(added)
        before = sums - added
        base = totals[line, distinct] - before[starts]
        results[line, order] = before + base[group]
        totals[line, distinct] = sums[stops - 1] + base
    return results


_SLACK = 1.25


class RingBuffer:
    """Columns that grow at the end and are dropped from the start.

    >>> rows = RingBuffer({"x": np.int64})
    >>> rows.add({"x": np.array([7, 8, 9])})
    >>> rows.drop(1)
    >>> rows.of("x", 2).tolist(), rows.stop
    ([9], 3)
    """

    def __init__(self, types: Mapping[str, type[np.generic]], first: int = 0) -> None:
        self._columns = {name: np.empty(0, dtype) for name, dtype in types.items()}
        self._base = first
        """Number of the first row in the arrays."""
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
        offset = self.stop - self._base
        for name, values in columns.items():
            self._columns[name][offset : offset + num_new] = values
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
        kept_rows = slice(self.first - self._base, self.stop - self._base)
        for name, values in self._columns.items():
            self._columns[name] = np.empty(capacity, values.dtype)
            self._columns[name][:num_kept] = values[kept_rows]
        self._base = self.first
