"""Rows that become equal by encoding: flows of the same tokens look the same to a model.

Figures on flows that look like a training flow show memory; figures on the others show what was learned.
"""

import numpy as np
from jaxtyping import Int64, UInt64

from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.store import EncodedFlows

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PIECE_ROWS = 1 << 18


def row_hashes(flows: EncodedFlows | EncodedBlock) -> UInt64[np.ndarray, " rows"]:
    """A 64-bit hash of each row's tokens and their places: equal rows have equal hashes."""
    hashes = np.zeros(len(flows), np.uint64)
    for start in range(0, len(flows), _PIECE_ROWS):
        stop = min(start + _PIECE_ROWS, len(flows))
        offsets = np.asarray(flows.offsets[start : stop + 1], np.int64)
        ids = np.asarray(flows.ids[offsets[0] : offsets[-1]], np.uint64)
        hashes[start:stop] = _hash_pieces(ids, offsets - offsets[0])
    return hashes


def _hash_pieces(
    ids: UInt64[np.ndarray, " tokens"], offsets: Int64[np.ndarray, " bounds"]
) -> UInt64[np.ndarray, " rows"]:
    lengths = np.diff(offsets)
    places = (np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)).astype(np.uint64)
    sums = np.zeros(len(ids) + 1, np.uint64)
    np.cumsum(_mix(_mix(ids + np.uint64(1)) ^ _mix(places)), out=sums[1:])
    return _mix(sums[offsets[1:]] - sums[offsets[:-1]] + _mix(lengths.astype(np.uint64)))


def _mix(numbers: UInt64[np.ndarray, " numbers"]) -> UInt64[np.ndarray, " numbers"]:
    """The splitmix64 finaliser."""
    mixed = numbers + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
