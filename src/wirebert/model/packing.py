"""Rows of many lengths packed end to end: matrix products see only tokens, no padding.

Shape letters: T tokens of all rows, R rows, N tiles.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wirebert.shapes import Int, Int32, Int64

CAPACITIES: Final = (64, 128, 256, 512)
"""Row lengths that kernels are built for; a batch uses the smallest that fits its longest row."""

LONGEST_TILE: Final = 128
"""Maximum tokens of a tile, whose scores stay on the chip (`wirebert.model.kernels.tiles`)."""


class Packing(NamedTuple):
    """The positions of the rows of a packed batch; all tensors are on one device."""

    row_of: Int32[Tensor, " T"]
    """Row of each token."""

    starts: Int32[Tensor, " rows_and_end"]
    """First token of each row, then T."""

    tiles: Int32[Tensor, " tiles_and_end"]
    """First token of each tile, then T. A tile is a run of whole rows; the last tiles may be empty."""

    tile_rows: Int32[Tensor, " tiles_and_end"]
    """First row of each tile, then R."""

    capacity: int
    """Upper bound of row and tile lengths; one of few values, so that compiled code fits all batches."""

    @property
    def has_tiles(self) -> bool:
        """Whether every row fits a tile."""
        return self.capacity <= LONGEST_TILE


def tile_capacity(longest: int) -> int:
    """The capacity for rows of at most `longest` tokens.

    >>> tile_capacity(16), tile_capacity(65), tile_capacity(600)
    (64, 128, 1024)
    """
    fitting = [room for room in CAPACITIES if room >= longest]
    return fitting[0] if fitting else -(-longest // CAPACITIES[-1]) * CAPACITIES[-1]


def plan(lengths: Int[np.ndarray, " R"], room: int) -> list[Int64[np.ndarray, " _"]]:
    """The arrays of a `Packing` of rows of these lengths (1 to `room` tokens each), in order.

    Their sizes depend only on the numbers of tokens and rows: empty tiles are added up to the maximum number.
    """
    starts: Int64[np.ndarray, " rows_and_end"] = np.concatenate([[0], np.cumsum(lengths)])
    firsts = first_rows(starts, room)
    # Two neighbouring tiles have more than `room` tokens, or they would be one.
    most = 2 * int(starts[-1]) // room + 2
    firsts = np.concatenate([firsts, np.full(most + 1 - len(firsts), len(lengths), dtype=np.int64)])
    return [np.repeat(np.arange(len(lengths)), lengths), starts, starts[firsts], firsts]


def first_rows(starts: Int64[np.ndarray, " rows_and_end"], room: int) -> Int64[np.ndarray, " tiles_and_end"]:
    """First row of each tile, then R: each tile takes as many of the next rows as fit `room` tokens.

    >>> first_rows(np.array([0, 5, 9, 30, 40]), 32)
    array([0, 3, 4])
    """
    # The end of a tile that starts at row r, for all r at once; then follow the chain from row 0.
    ends = (np.searchsorted(starts, starts[:-1] + room, side="right") - 1).tolist()
    firsts = [0]
    while firsts[-1] < len(ends):
        firsts.append(ends[firsts[-1]])
    return np.array(firsts, dtype=np.int64)


def padded_positions(packing: Packing) -> tuple[Int64[Tensor, "R _"], Tensor]:
    """The token index of each padded slot (padding: an arbitrary token), and the mask without padding."""
    slots = torch.arange(packing.capacity, device=packing.starts.device)
    indices = packing.starts[:-1, None].long() + slots
    mask = indices < packing.starts[1:, None]
    return indices.clamp(max=packing.row_of.shape[0] - 1), mask


def position_in_row(packing: Packing) -> Int64[Tensor, " T"]:
    """Position of each token in its row, from 0."""
    tokens = torch.arange(packing.row_of.shape[0], device=packing.row_of.device)
    return tokens - packing.starts[packing.row_of.long()]
