"""Rows of token ids: feature tokens and texts, stored in one flat array."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from wirebert.shapes import Bool, Int, Int64, Integer, UInt16, UInt32


@runtime_checkable
class TokenRows(Protocol):
    """Rows of token ids in one flat array, in memory (`JaggedRows`) or memory-mapped (`EncodedFlows`)."""

    @property
    def ids(self) -> Integer[np.ndarray, " tokens"]:
        """Token ids of all rows."""
        ...

    @property
    def offsets(self) -> Int64[np.ndarray, " rows+1"]:
        """Start of each row, then the end of the last row."""
        ...


@dataclass(frozen=True, slots=True)
class JaggedRows:
    """Rows of unequal length in one flat array: row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: Integer[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " offsets"]
    """Start of each row, then the end of the last row; the first may be above 0."""
    num_truncated: int = 0
    """Number of texts that were cut to the budget; the cut removes the middle."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " rows"]:
        """Length of each row."""
        return np.diff(self.offsets)


class TextCells(NamedTuple):
    """One text column of a block: the ids of each distinct text, and each row's index among them."""

    distinct: JaggedRows
    codes: Int[np.ndarray, " rows"]


def ranges(starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " total"]:
    """The ranges `starts[i] ... starts[i] + lengths[i] - 1`, one after the other.

    >>> ranges(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def by_length(lengths: Int[np.ndarray, " flows"], max_tokens: int) -> list[Int64[np.ndarray, " _"]]:
    """Positions in `lengths`, shortest first, cut into batches of at most `max_tokens` slots with padding.

    Equal lengths keep their order. A flow longer than `max_tokens` is a batch by itself.

    >>> by_length(np.array([3, 9, 2, 3, 4]), max_tokens=9)
    [array([2, 0, 3]), array([4]), array([1])]
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    batches: list[Int64[np.ndarray, " _"]] = []
    start = 0
    while start < len(order):
        most = max(1, max_tokens // max(1, int(ordered[start])))  # later rows are longer, so no more can fit
        slots = ordered[start : start + most] * np.arange(1, len(ordered[start : start + most]) + 1)
        size = max(1, int(np.searchsorted(slots, max_tokens, side="right")))
        batches.append(order[start : start + size])
        start += size
    return batches


def take_rows(rows: TokenRows, chosen: Int[np.ndarray, " some"]) -> JaggedRows:
    """Copies of the chosen rows, in that order."""
    starts = rows.offsets[chosen]
    lengths = rows.offsets[chosen + 1] - starts
    offsets = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return JaggedRows(np.asarray(rows.ids[ranges(starts, lengths)]), offsets)


def join_rows(
    features: UInt16[np.ndarray, "rows slots"] | UInt32[np.ndarray, "rows slots"],
    is_written: Bool[np.ndarray, "rows slots"] | None,
    texts: Sequence[TextCells],
    num_truncated: int,
) -> JaggedRows:
    """Rows of the written features (`is_written` None: all), each followed by its texts in order."""
    num_rows, num_slots = features.shape
    if is_written is None:
        num_written = np.full(num_rows, num_slots, np.int64)
        written = features.reshape(-1)
    else:
        num_written = np.count_nonzero(is_written, axis=1).astype(np.int64)
        written = features[is_written]
    lengths = [text.distinct.lengths[text.codes] for text in texts]
    offsets = np.zeros(num_rows + 1, np.int64)
    np.cumsum(sum(lengths, start=num_written), out=offsets[1:])
    if not texts:
        return JaggedRows(written, offsets, num_truncated)
    ids = np.empty(int(offsets[-1]), features.dtype)
    begins = offsets[:-1]
    ids[ranges(begins, num_written)] = written
    begins = begins + num_written
    for text, length in zip(texts, lengths, strict=True):
        sources = ranges(text.distinct.offsets[:-1][text.codes], length)
        ids[ranges(begins, length)] = text.distinct.ids[sources]
        begins = begins + length
    return JaggedRows(ids, offsets, num_truncated)


def within_budget(texts: JaggedRows, budget: int) -> tuple[JaggedRows, Bool[np.ndarray, " sequences"]]:
    """Sequences cut to `budget` (three quarters head, one quarter tail), and which of them were cut.

    >>> within_budget(JaggedRows(np.arange(10), np.array([0, 10])), 4)[0].ids
    array([0, 1, 2, 9])
    """
    lengths = texts.lengths
    is_cut = lengths > budget
    num_tail = budget // 4
    cut_lengths = np.minimum(lengths, budget)
    head = np.where(is_cut, budget - num_tail, lengths)
    starts = np.stack([texts.offsets[:-1], texts.offsets[1:] - num_tail], axis=1).reshape(-1)
    counts = np.stack([head, cut_lengths - head], axis=1).reshape(-1)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(cut_lengths, out=offsets[1:])
    return JaggedRows(texts.ids[ranges(starts, counts)], offsets), is_cut
