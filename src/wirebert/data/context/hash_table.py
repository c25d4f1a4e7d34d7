"""`HashTable`: 64-bit keys -> small numbers, a column at a time, with running totals for each key.

The numbers count up from 0, batch by batch, and index the totals. Memory is 8 bytes a key, 8 to 16 for the
index, and the totals.
"""

import numpy as np

from wirebert.shapes import Bool, Int64, UInt64

MIN_INDEX = 1 << 10


class HashTable:
    """An open-addressing hash table whose look-ups work on whole columns.

    Keys must be well mixed: their low bits select the first slot.

    >>> table = HashTable(num_totals=1)
    >>> table.indices_of(np.array([70, 80, 70], np.uint64)).tolist(), len(table)
    ([1, 0, 1], 2)
    """

    def __init__(self, num_totals: int) -> None:
        self._index = np.full(MIN_INDEX, -1, np.int32)
        self._keys = np.zeros(MIN_INDEX, np.uint64)
        self._size = 0
        self.totals = np.zeros((num_totals, MIN_INDEX), np.int64)
        """One row per quantity, one column per key; columns from `len` on are zero."""

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> UInt64[np.ndarray, " keys"]:
        """The keys by their numbers."""
        return self._keys[: self._size]

    @property
    def size_bytes(self) -> int:
        """Memory of the table, without reserved memory that was never written."""
        return self._index.nbytes + self._size * (
            self._keys.itemsize + self.totals.itemsize * len(self.totals)
        )

    def indices_of(self, keys: UInt64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """The number of each key; new keys get the next numbers, and totals of zero."""
        self._make_room(len(keys))
        mask = np.uint64(len(self._index) - 1)
        numbers = np.empty(len(keys), np.int64)
        waiting = np.arange(len(keys))
        slot = (keys & mask).astype(np.int64)
        while len(waiting):
            entries = self._index[slot]
            is_free = entries < 0
            if is_free.any():
                self._claim(slot[is_free], keys[waiting[is_free]])
                entries = self._index[slot]
            is_mine = self._keys[entries] == keys[waiting]
            numbers[waiting[is_mine]] = entries[is_mine]
            waiting = waiting[~is_mine]
            slot = (slot[~is_mine] + 1) & np.int64(mask)
        return numbers

    def keep(self, is_kept: Bool[np.ndarray, " keys"]) -> Int64[np.ndarray, " keys"]:
        """Forget all other keys. Returns the new number of each old key, -1 for forgotten ones."""
        kept_slots = np.flatnonzero(is_kept)
        renumbered = np.full(len(is_kept), -1, np.int64)
        renumbered[kept_slots] = np.arange(len(kept_slots))
        self._keys[: len(kept_slots)] = self._keys[kept_slots]
        for total in self.totals:
            total[: len(kept_slots)] = total[kept_slots]
            total[len(kept_slots) : self._size] = 0
        self._size = len(kept_slots)
        if len(self._keys) > 4 * max(MIN_INDEX, len(kept_slots)):
            self._resize(2 * max(MIN_INDEX, len(kept_slots)))
        self._index = np.full(_power_of_two(max(MIN_INDEX, 2 * len(kept_slots))), -1, np.int32)
        self._fill_index()
        return renumbered

    def _claim(self, slot: Int64[np.ndarray, " rows"], keys: UInt64[np.ndarray, " rows"]) -> None:
        """Give free slots to new keys. If several rows claim one slot, the last one written gets it."""
        rows = np.arange(len(slot), dtype=np.int32)
        self._index[slot] = -2 - rows
        winners = np.flatnonzero(self._index[slot] == -2 - rows)
        numbers = np.arange(self._size, self._size + len(winners), dtype=np.int32)
        self._index[slot[winners]] = numbers
        self._keys[numbers] = keys[winners]
        self._size += len(winners)

    def _make_room(self, num_new: int) -> None:
        """Reserve memory for new keys, with an index at most half full."""
        needed = self._size + num_new
        if needed > len(self._keys):
            self._resize(2 * needed)
        if 2 * needed > len(self._index):
            self._index = np.full(_power_of_two(2 * needed), -1, np.int32)
            self._fill_index()

    def _resize(self, capacity: int) -> None:
        keys, totals = self._keys, self.totals
        self._keys = np.zeros(capacity, np.uint64)
        self.totals = np.zeros((len(totals), capacity), np.int64)
        self._keys[: self._size] = keys[: self._size]
        self.totals[:, : self._size] = totals[:, : self._size]

    def _fill_index(self) -> None:
        """Enter the keys, which are distinct, into an empty index."""
        mask = np.int64(len(self._index) - 1)
        waiting = np.arange(self._size, dtype=np.int32)
        slot = (self.keys & np.uint64(mask)).astype(np.int64)
        while len(waiting):
            is_free = self._index[slot] < 0
            self._index[slot[is_free]] = waiting[is_free]  # the last one written to a slot gets it
            is_out = self._index[slot] != waiting
            waiting, slot = waiting[is_out], (slot[is_out] + 1) & mask
        assert int((self._index >= 0).sum()) == self._size


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
