"""Rows with equal hashes: exact counts in bounded memory, by ranges of hashes that are sorted one by one."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from wirebert.shapes import Bool, Int32, Int64, Shaped, UInt64

PART_ROWS: Final = 1 << 23
"""Rows that are sorted at a time, which takes up to 200 bytes each."""
_LOOK_ROWS: Final = 1 << 20
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
    found = [_found(part, class_of) for part in _parts(hashes, labels)]
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
    for bounds in _ranges(len(others)):
        chosen = (rows if among is None else rows[among[rows]] for rows in _rows(others, *bounds))
        known = np.unique(np.concatenate([np.unique(others[rows]) for rows in chosen]))
        for rows in _rows(hashes, *bounds) if len(known) else ():
            wanted = hashes[rows]
            found[rows] = known.take(np.searchsorted(known, wanted), mode="clip") == wanted
    return found


def _ranges(num_rows: int) -> Iterator[tuple[np.uint64, np.uint64]]:
    """Lowest and highest hash of each range."""
    num_ranges = 1 if num_rows <= PART_ROWS else -(-num_rows * 10 // (PART_ROWS * 9))
    bounds = [(at << 64) // num_ranges for at in range(num_ranges + 1)]
    return ((np.uint64(low), np.uint64(high - 1)) for low, high in pairwise(bounds))


def _rows(
    hashes: UInt64[np.ndarray, " rows"], low: np.uint64, high: np.uint64
) -> Iterator[Int64[np.ndarray, " found"]]:
    """Numbers of the rows whose hash is in a range, of some rows at a time."""
    for start in range(0, max(1, len(hashes)), _LOOK_ROWS):
        piece = hashes[start : start + _LOOK_ROWS]
        yield np.flatnonzero((piece >= low) & (piece <= high)) + start


def _parts(hashes: UInt64[np.ndarray, " rows"], labels: Int32[np.ndarray, " rows"]) -> Iterator[_Groups]:
    """The rows of equal hash and label, of one range of hashes after the other."""
    for bounds in _ranges(len(hashes)):
        pieces, num_rows = list[_Groups](), 0
        for rows in _rows(hashes, *bounds):
            none = np.full(len(rows), _NONE)
            pieces.append(_Groups(hashes[rows], labels[rows], np.ones_like(rows), rows, none))
            num_rows += len(rows)
            if num_rows > PART_ROWS:  # most of them are equal: different ones are spread evenly
                pieces = [_joined(pieces)]
                num_rows = len(pieces[0].hashes)
        yield _joined(pieces)


def _joined(pieces: Sequence[_Groups]) -> _Groups:
    """Groups of the same hash and label as one; they come in the order of their rows."""
    groups = _Groups(*map(np.concatenate, zip(*pieces, strict=True)))
    order = np.lexsort((groups.labels, groups.hashes))
    hashes, labels, counts, firsts, seconds = (values[order] for values in groups)
    starts = _starts(hashes, labels)
    if len(starts) < len(hashes):
        is_second = np.diff(starts, append=len(hashes)) > 1
        of_next = np.where(is_second, firsts[np.minimum(starts + 1, len(hashes) - 1)], seconds[starts])
        seconds = np.minimum(seconds[starts], of_next)
        counts = np.add.reduceat(counts, starts)
    return _Groups(hashes[starts], labels[starts], counts, firsts[starts], seconds)


def _starts(*columns: Shaped[np.ndarray, " rows"]) -> Int64[np.ndarray, " runs"]:
    """Where the values of any column begin to differ from those before."""
    differs = np.ones(len(columns[0]), bool)
    differs[1:] = np.any([values[1:] != values[:-1] for values in columns], axis=0)
    return np.flatnonzero(differs)


def _found(groups: _Groups, class_of: Int64[np.ndarray, " labels"]) -> EqualRows:
    """What the groups of a range of hashes tell."""
    num_rows, starts = int(groups.counts.sum()), _starts(groups.hashes)
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
    classes, starts = classes[classes >= 0], _starts(labelled.hashes)
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
