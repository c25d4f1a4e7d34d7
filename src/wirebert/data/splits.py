"""Which rows validate and which train: decided before anything is fitted."""

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from wirebert.errors import ConfigError, DataError

DUPLICATE_SAFE_STATEMENT = (
    "Validation rows are drawn at random from the training data, class by class; rows whose features are equal stay on "
    "one side. The split shows how well the model tells apart flows of the hosts, attack tools and days it was trained "
    "on. It can not show how the model fares on another network, on later traffic or on attacks it has not met, and "
    "near-duplicates (the same scan, one port further) may stand on both sides: expect worse in the field."
)
"""What a duplicate-safe random split can and can not show, for reports."""


def duplicate_safe_split(
    hashes: UInt64[np.ndarray, " rows"],
    class_ids: Int64[np.ndarray, " rows"],
    valid_fraction: float,
    seed: int,
) -> Bool[np.ndarray, " rows"]:
    """True where a row is for validation.

    Rows with equal hash form a group, and a group stays on one side. A group counts to the class that most of its rows
    have (the rarer class on a tie). Of each class, groups are drawn at random until about `valid_fraction` of its rows
    are reached; a class of two groups or more is on both sides, a class of one group is for training only. Groups larger
    than that share train, and the share is then one of the other groups' rows: a class that is one flow a thousand times
    over and a hundred others keeps most of these for training. Where all groups are larger, one is drawn.

    Raises:
        DataError: no class has two groups, so that one side would be empty.

    >>> hashes = np.array([7, 7, 8, 9], np.uint64)
    >>> is_valid = duplicate_safe_split(hashes, np.zeros(4, np.int64), valid_fraction=0.5, seed=0)
    >>> bool(is_valid[0] == is_valid[1]), bool(is_valid.any()), bool(is_valid.all())
    (True, True, False)
    >>> duplicate_safe_split(hashes[:2], np.zeros(2, np.int64), valid_fraction=0.5, seed=0)
    Traceback (most recent call last):
    wirebert.errors.DataError: training data: expected at least one class with two different rows ...
    """
    if not 0 < valid_fraction < 1:
        raise ConfigError(f"data.valid_fraction must be in (0, 1), got {valid_fraction}")
    _, group_of_row, group_sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    group_classes = _majority_class(group_of_row, class_ids)
    generator = np.random.default_rng(seed)
    is_valid_group = np.zeros(len(group_sizes), bool)
    for class_id in np.unique(group_classes):
        groups = generator.permutation(np.flatnonzero(group_classes == class_id))
        is_valid_group[_draw(groups, group_sizes[groups], valid_fraction)] = True
    if not is_valid_group.any():
        raise DataError(
            f"training data: expected at least one class with two different rows to split off validation rows, found "
            f"{len(group_sizes)} different among {len(hashes)} rows; add more traffic"
        )
    return is_valid_group[group_of_row]


def _majority_class(
    group_of_row: Int64[np.ndarray, " rows"], class_ids: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, " groups"]:
    classes, class_of_row, class_sizes = np.unique(class_ids, return_inverse=True, return_counts=True)
    pairs, counts = np.unique(group_of_row * max(len(classes), 1) + class_of_row, return_counts=True)
    group_of_pair, class_of_pair = np.divmod(pairs, max(len(classes), 1))
    # Sorted so that the winner of each group stands last: by group, then rows of the class, then rarity of the class.
    order = np.lexsort((-class_sizes[class_of_pair], counts, group_of_pair))
    is_last = np.append(np.diff(group_of_pair[order]) > 0, [True] if len(order) else [])
    return classes[class_of_pair[order[is_last.astype(bool)]]]


def _draw(
    groups: Int64[np.ndarray, " groups"], sizes: Int64[np.ndarray, " groups"], fraction: float
) -> Int64[np.ndarray, " drawn"]:
    if len(groups) < 2:
        return groups[:0]
    fits = sizes <= fraction * sizes.sum()
    if not fits.any():
        return groups[:1]
    reached = np.cumsum(sizes[fits])
    if fits.all():
        reached = reached[:-1]  # one group always trains
    return groups[fits][: 1 + int(np.argmin(np.abs(reached - fraction * sizes[fits].sum())))]
