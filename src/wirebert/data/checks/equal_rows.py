"""Rows with equal hashes: exact counts in bounded memory, by ranges of hashes that threads sort."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from wirebert.shapes import Bool, Int32, Int64, Shaped, UInt64

Result = TypeVar("Result")

PART_ROWS: Final = 3 << 22
"""Rows that all threads together sort at a time, which takes up to 130 bytes each."""
_MAX_THREADS: Final = 8
"""Each looks at all hashes for its ranges; more threads would wait for memory."""
_LOOK_ROWS: Final = 1 << 17
_NONE: Final = np.iinfo(np.int64).max
"""In place of a row where there is none."""


class EqualRows(NamedTuple):
    """What equal rows of a table have in common; rows are counted from 0."""

    num_repeats: int
    """Rows that equal an earlier one."""
    first_repeat: int
    num_same_label: int
    """Rows that equal an earlier one with the same label."""
    num_conflicts: int
    """Rows that equal one of another class."""
    first_conflict: int
    num_groups: int
    """Groups of equal rows with several classes."""
    num_mixed: int
    """Such groups with rows of class 0, and with rows of another."""


class _Groups(NamedTuple):
    """Rows of equal hash and label, sorted by hash, then label."""

    hashes: UInt64[np.ndarray, " groups"]
    labels: Int32[np.ndarray, " groups"]
    counts: Int64[np.ndarray, " groups"]
    firsts: Int64[np.ndarray, " groups"]
    """The first row."""
    seconds: Int64[np.ndarray, " groups"]
    """The second row."""


_Bounds = tuple[np.uint64, np.uint64]
"""Lowest and highest hash of a range."""


def equal_rows(
    hashes: UInt64[np.ndarray, " rows"],
    labels: Int32[np.ndarray, " rows"],
    class_of: Int64[np.ndarray, " labels"],
) -> EqualRows:
    """Which rows have equal hashes, and which of these other classes.

    Args:
        hashes: one of each row.
        labels: label of each row; -1 without one.
        class_of: class of each label, and at the end of no label; below 0: none.

    >>> hashes = np.array([7, 8, 7, 7], np.uint64)
    >>> found = equal_rows(hashes, np.array([0, 0, 0, 1], np.int32), np.array([0, 1, -1]))
    >>> found.num_repeats, found.first_repeat, found.num_same_label, found.num_conflicts, found.num_mixed
    (2, 2, 1, 3, 1)
    """
    found = _of_ranges(len(hashes), lambda bounds: _found(_part(hashes, labels, bounds), class_of))
    return EqualRows(*(sum(counts) for counts in zip(*found, strict=True)))._replace(
        first_repeat=min(one.first_repeat for one in found),
        first_conflict=min(one.first_conflict for one in found),
    )


def is_among(
    hashes: UInt64[np.ndarray, " rows"],
    others: UInt64[np.ndarray, " others"],
    among: Bool[np.ndarray, " others"] | None = None,
) -> Bool[np.ndarray, " rows"]:
    """True where one of the others has the same hash; `among` chooses of them.

    >>> is_among(np.array([1, 2], np.uint64), np.array([2, 3], np.uint64))
    array([False,  True])
    """
    found = np.zeros(len(hashes), bool)

    def look(bounds: _Bounds) -> None:
        chosen = (rows if among is None else rows[among[rows]] for rows in _rows(others, bounds))
        known = _distinct(np.concatenate([_distinct(others[rows]) for rows in chosen]))
        for rows in _rows(hashes, bounds) if len(known) else ():
            wanted = hashes[rows]
            found[rows] = known.take(np.searchsorted(known, wanted), mode="clip") == wanted

    _of_ranges(len(others), look)
    return found


def run_starts(*columns: Shaped[np.ndarray, " rows"]) -> Int64[np.ndarray, " runs"]:
    """Where the values of any column begin to differ from those before.

    >>> run_starts(np.array([4, 4, 7]))
    array([0, 2])
    """
    differs = np.ones(len(columns[0]), bool)
    differs[1:] = np.any([values[1:] != values[:-1] for values in columns], axis=0)
    return np.flatnonzero(differs)


def _of_ranges(num_rows: int, work: Callable[[_Bounds], Result]) -> list[Result]:
    """What a function finds in each range of hashes; threads call it, since numpy lets them run."""
    most = _rows_of_a_thread()
    num_ranges = 1 if num_rows <= most else -(-num_rows * 10 // (most * 9))
    ends = [(at << 64) // num_ranges for at in range(num_ranges + 1)]
    with ThreadPoolExecutor(_num_threads()) as threads:
        return [*threads.map(work, ((np.uint64(low), np.uint64(high - 1)) for low, high in pairwise(ends)))]


def _num_threads() -> int:
    return min(_MAX_THREADS, pa.cpu_count())


def _rows_of_a_thread() -> int:
    return max(1, PART_ROWS // _num_threads())


def _rows(hashes: UInt64[np.ndarray, " rows"], bounds: _Bounds) -> Iterator[Int64[np.ndarray, " found"]]:
    """Numbers of the rows whose hash is in a range, of some rows at a time."""
    low, high = bounds
    for start in range(0, max(1, len(hashes)), _LOOK_ROWS):
        piece = hashes[start : start + _LOOK_ROWS]
        yield np.flatnonzero((piece >= low) & (piece <= high)) + start


def _part(
    hashes: UInt64[np.ndarray, " rows"], labels: Int32[np.ndarray, " rows"], bounds: _Bounds
) -> _Groups:
    """The rows of equal hash and label of a range of hashes, without most rows whose hash no other has."""
    joined, pieces, num_rows = list[_Groups](), [np.empty(0, np.int64)], 0

    def groups_of(rows: Int64[np.ndarray, " some"]) -> _Groups:
        none = np.full(len(rows), _NONE)
        return _Groups(hashes[rows], labels[rows], np.ones_like(rows), rows, none)

    for found in _rows(hashes, bounds):
        pieces.append(found)
        num_rows += len(found)
        if num_rows > _rows_of_a_thread():  # most of them are equal: different ones are spread evenly
            joined = [_joined([*joined, groups_of(np.concatenate(pieces))])]
            pieces, num_rows = [np.empty(0, np.int64)], len(joined[0].hashes)
    rows = np.concatenate(pieces)
    if not joined:
        rows = rows[_twins(hashes[rows])]
    return _joined([*joined, groups_of(rows)])


def _twins(hashes: UInt64[np.ndarray, " rows"]) -> Int64[np.ndarray, " found"]:
    """Numbers of the rows whose hash another has, and of few others, in order.

    One sort of numbers, a tenth of the time of a sort of rows: the upper bits of a hash, then the row.
    """
    bits = np.uint64(len(hashes).bit_length())
    keys = (hashes >> bits << bits) + np.arange(len(hashes), dtype=np.uint64)
    keys.sort()
    is_next = (keys[1:] ^ keys[:-1]) >> bits == 0
    is_twin = np.zeros(len(hashes), bool)
    is_twin[1:] = is_next
    is_twin[:-1] |= is_next
    return np.sort(keys[is_twin] & ((np.uint64(1) << bits) - np.uint64(1))).view(np.int64)


def _distinct(hashes: UInt64[np.ndarray, " rows"]) -> UInt64[np.ndarray, " values"]:
    """The sorted hashes, each once; `np.unique` would hash them again, one by one."""
    found = np.sort(hashes)
    return found[run_starts(found)]


def _joined(pieces: Sequence[_Groups]) -> _Groups:
    """Groups of the same hash and label as one; they come in the order of their rows."""
    groups = _Groups(*map(np.concatenate, zip(*pieces, strict=True)))
    order = np.lexsort((groups.labels, groups.hashes))
    hashes, labels, counts, firsts, seconds = (values[order] for values in groups)
    starts = run_starts(hashes, labels)
    if len(starts) < len(hashes):
        is_second = np.diff(starts, append=len(hashes)) > 1
        of_next = np.where(is_second, firsts[np.minimum(starts + 1, len(hashes) - 1)], seconds[starts])
        seconds = np.minimum(seconds[starts], of_next)
        counts = np.add.reduceat(counts, starts)
    return _Groups(hashes[starts], labels[starts], counts, firsts[starts], seconds)


def _found(groups: _Groups, class_of: Int64[np.ndarray, " labels"]) -> EqualRows:
    """What the groups of a range of hashes tell."""
    num_rows, starts = int(groups.counts.sum()), run_starts(groups.hashes)
    if not num_rows:
        return EqualRows(0, _NONE, 0, 0, _NONE, 0, 0)
    # The second row of a hash is the second of a group, or the first of another group.
    of_others = groups.firsts.copy()
    sizes = np.diff(starts, append=len(of_others))
    is_lowest = of_others == np.repeat(np.minimum.reduceat(of_others, starts), sizes)
    of_others[is_lowest] = _NONE
    first_repeat = int(min(of_others.min(), groups.seconds.min()))
    classes = class_of[groups.labels]
    labelled = _Groups(*(values[classes >= 0] for values in groups))
    classes, starts = classes[classes >= 0], run_starts(labelled.hashes)
    if not len(starts):
        return EqualRows(num_rows - len(sizes), first_repeat, num_rows - len(groups.counts), 0, _NONE, 0, 0)
    lowest, highest = np.minimum.reduceat(classes, starts), np.maximum.reduceat(classes, starts)
    conflicts = np.repeat(lowest != highest, np.diff(starts, append=len(classes)))
    return EqualRows(
        num_repeats=num_rows - len(sizes),
        first_repeat=first_repeat,
        num_same_label=num_rows - len(groups.counts),
        num_conflicts=int(labelled.counts[conflicts].sum()),
        first_conflict=int(labelled.firsts[conflicts].min(initial=_NONE)),
        num_groups=int((lowest != highest).sum()),
        num_mixed=int(((lowest == 0) & (highest > 0)).sum()),
    )
