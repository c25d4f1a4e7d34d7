"""Score equal rows once: deduplicated within a block, and cached between blocks in bounded memory.

After encoding, a fifth to four fifths of real rows repeat an earlier one. Hashes only propose equal rows;
their tokens are then compared one by one. So no collision, not even a deliberate one, gives a row the verdict
of another.
"""

from threading import Lock
from typing import NamedTuple, final

import numpy as np

from wirebert.encoding.token_rows import JaggedRows, ranges
from wirebert.shapes import Bool, Float32, Int64, UInt64

_PIECE_ROWS = 8_192
"""Rows looked up at a time, which bounds the working memory of a lookup."""
_MAX_SLOTS = 1 << 22


class DistinctRows(NamedTuple):
    """The distinct rows of a block."""

    rows: Int64[np.ndarray, " distinct"]
    """Position of the first occurrence of each distinct row."""
    numbers: Int64[np.ndarray, " flows"]
    """For each row of the block, the index in `rows` of the row that it equals."""


def distinct_rows(block: JaggedRows, hashes: UInt64[np.ndarray, " flows"]) -> DistinctRows:
    """The distinct rows of `block`; `hashes` are equal for equal rows, and hardly ever for others."""
    _, rows, numbers = np.unique(hashes, return_index=True, return_inverse=True)
    others = np.flatnonzero(rows[numbers] != np.arange(len(block)))
    same = _are_equal(block, others, rows[numbers[others]])
    strangers = others[~same]  # rows that share a hash with a different row: each counts as distinct
    numbers[strangers] = len(rows) + np.arange(len(strangers))
    return DistinctRows(np.concatenate([rows, strangers]), numbers)


def join_blocks(first: JaggedRows, second: JaggedRows) -> JaggedRows:
    """The rows of both, one after the other."""
    offsets = np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]])
    num_truncated = first.num_truncated + second.num_truncated
    return JaggedRows(np.concatenate([first.ids, second.ids]), offsets, num_truncated)


@final
class ScoreCache:
    """A cache of the logits of recent rows. Several threads may share one.

    Each row has one slot, given by its hash; a newer row in the same slot replaces the older one. So memory
    is bounded from the start, and neither lookup nor eviction scans rows.
    """

    def __init__(self, *, longest_row: int, num_classes: int, size_mb: float) -> None:
        row_bytes = longest_row * 4 + 8 + 4 + num_classes * 4
        num_places = min(int(size_mb * 2**20 / row_bytes), _MAX_SLOTS)
        self._num_places = 1 << max(num_places, 1).bit_length() - 1
        # The system provides zeroed memory when it is first written to, not here.
        self._tokens = np.zeros((self._num_places, longest_row), np.uint32)
        self._lengths = np.zeros(self._num_places, np.int32)
        """Number of tokens of the cached row; 0: empty slot (a row has at least `[CLS]`)."""
        self._hashes = np.zeros(self._num_places, np.uint64)
        self._logits = np.zeros((self._num_places, num_classes), np.float32)
        self._lock = Lock()
        self.num_found = self.num_sought = 0
        """Rows of all calls of `find`."""

    def find(
        self, block: JaggedRows, hashes: UInt64[np.ndarray, " flows"]
    ) -> tuple[Bool[np.ndarray, " flows"], Float32[np.ndarray, "flows classes"]]:
        """Which rows are cached, and their logits (zeros for the others)."""
        is_known = np.zeros(len(block), np.bool_)
        logits = np.zeros((len(block), self._logits.shape[1]), np.float32)
        for first in range(0, len(block), _PIECE_ROWS):
            rows = np.arange(first, min(first + _PIECE_ROWS, len(block)))
            positions = self._positions(hashes[rows])
            lengths = np.diff(block.offsets)[rows]
            with self._lock:
                likely = (self._hashes[positions] == hashes[rows]) & (self._lengths[positions] == lengths)
                rows, positions = rows[likely], positions[likely]
                is_equal = (self._tokens[positions] == self._padded(block, rows)).all(axis=1)
                is_known[rows[is_equal]] = True
                logits[rows[is_equal]] = self._logits[positions[is_equal]]
                self.num_found += int(is_equal.sum())
        self.num_sought += len(block)
        return is_known, logits

    def add(
        self,
        block: JaggedRows,
        hashes: UInt64[np.ndarray, " flows"],
        logits: Float32[np.ndarray, "flows classes"],
    ) -> None:
        """Add these rows to the cache."""
        for first in range(0, len(block), _PIECE_ROWS):
            rows = np.arange(first, min(first + _PIECE_ROWS, len(block)))
            # Of rows that share a slot one stays, with all of its arrays.
            positions, chosen = np.unique(self._positions(hashes[rows]), return_index=True)
            rows = rows[chosen]
            padded = self._padded(block, rows)
            with self._lock:
                self._tokens[positions] = padded
                self._lengths[positions] = np.diff(block.offsets)[rows]
                self._hashes[positions] = hashes[rows]
                self._logits[positions] = logits[rows]

    def _positions(self, hashes: UInt64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        return (hashes & np.uint64(self._num_places - 1)).astype(np.int64)

    def _padded(self, block: JaggedRows, rows: Int64[np.ndarray, " rows"]) -> np.ndarray:
        """The tokens of the rows, zeros after them; a row's length says where they end."""
        starts = block.offsets[rows]
        lengths = block.offsets[rows + 1] - starts
        padded = np.zeros((len(rows), self._tokens.shape[1]), np.uint32)
        padded[np.repeat(np.arange(len(rows)), lengths), ranges(np.zeros_like(starts), lengths)] = block.ids[
            ranges(starts, lengths)
        ]
        return padded


def _are_equal(
    block: JaggedRows, some: Int64[np.ndarray, " rows"], others: Int64[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    """Whether row `some[i]` holds the tokens of row `others[i]`, for each i."""
    lengths = np.diff(block.offsets)
    same = lengths[some] == lengths[others]
    pairs = np.flatnonzero(same)
    sizes = lengths[some[pairs]]
    differs = (
        block.ids[ranges(block.offsets[some[pairs]], sizes)]
        != block.ids[ranges(block.offsets[others[pairs]], sizes)]
    )
    same[np.repeat(pairs, sizes)[differs]] = False
    return same
