"""Folds of the training file by which choices are made: whole attacks held out, so that a choice can not profit from
knowing them.

Where classes are the finest names that there are, holding a name out would leave nothing to recognise it by; then
folds are drawn at random, equal rows together.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt64

ATTACKS_WHOLE = "whole attack names held out, benign rows at random; equal rows on one side"
AT_RANDOM = "rows at random, equal rows on one side (each class has one name, so none can be held out)"


@dataclass(frozen=True, slots=True)
class Folds:
    """Which rows each fold holds out."""

    held_out: Int64[np.ndarray, " rows"]
    """Number of the fold that holds the row out."""
    groups: Int64[np.ndarray, " rows"]
    """Rows of one group are equal."""
    statement: str

    def train_and_held_out(self, fold: int) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """The two sides of one fold; a row that is equal to one held out, under another name, is on neither side."""
        is_held_out = self.held_out == fold
        return ~np.isin(self.groups, self.groups[is_held_out]), is_held_out


def leave_attacks_out(
    name_ids: Int64[np.ndarray, " rows"],
    class_ids: Int64[np.ndarray, " rows"],
    hashes: UInt64[np.ndarray, " rows"],
    benign: int | None,
    *,
    num_folds: int,
    seed: int,
) -> Folds:
    """Folds that hold out whole attack names.

    Names of a class are dealt out by size, so that each fold has some of every class, and at least one name of a class
    stays behind in each. A name that is its class's only one is spread over the folds by rows, like benign rows.

    >>> names, classes = np.array([0, 1, 1, 2, 2, 3]), np.array([0, 1, 1, 1, 1, 1])
    >>> folds = leave_attacks_out(names, classes, np.arange(6, dtype=np.uint64), 0, num_folds=3, seed=0)
    >>> [len(set(folds.held_out[names == name].tolist())) for name in (1, 2, 3)]
    [1, 1, 1]
    """
    rng = np.random.default_rng(seed)
    # By content, not by row: rows that are equal fall into one fold.
    _, group = np.unique(hashes, return_inverse=True)
    fold_of_group = rng.integers(0, num_folds, int(group.max(initial=-1)) + 1)
    held_out = fold_of_group[group].astype(np.int64)
    has_names = False
    for class_id in np.unique(class_ids):
        names, sizes = np.unique(name_ids[class_ids == class_id], return_counts=True)
        if class_id == benign or len(names) < 2:
            continue
        has_names = True
        # The largest first, each to the fold that has least, from a random fold on, so that no fold gets all first ones.
        load = rng.random(num_folds)
        for name, size in sorted(zip(names.tolist(), sizes.tolist(), strict=True), key=lambda pair: -pair[1]):
            fold = int(load.argmin())
            load[fold] += size
            held_out[(name_ids == name) & (class_ids == class_id)] = fold
    return Folds(held_out, group.astype(np.int64), ATTACKS_WHOLE if has_names else AT_RANDOM)
