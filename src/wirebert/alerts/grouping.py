"""Flows of one key without a long gap between them belong together: plain grouping of whole arrays."""

import numpy as np
from jaxtyping import Float64, Int64


def group_by_gap(
    keys: Int64[np.ndarray, " flows"], time_s: Float64[np.ndarray, " flows"], gap_s: float
) -> Int64[np.ndarray, " flows"]:
    """The number of each flow's group, from 0; -1 where the key is negative or the time is not known.

    Two flows of a key are in one group if no gap between flows of that key from one to the other is longer
    than `gap_s`. The order of the flows does not matter.

    >>> group_by_gap(np.array([7, 7, 8, 7]), np.array([0.0, 50.0, 5.0, 8.0]), 10.0)
    array([0, 1, 2, 0])
    """
    groups = np.full(len(keys), -1, np.int64)
    rows = np.flatnonzero((keys >= 0) & ~np.isnan(time_s))
    order = rows[np.lexsort((time_s[rows], keys[rows]))]
    if len(order):
        is_new = (np.diff(keys[order]) != 0) | (np.diff(time_s[order]) > gap_s)
        groups[order] = np.concatenate([[0], np.cumsum(is_new)])
    return groups
